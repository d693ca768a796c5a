# 1. 499 / 2047 = 24 %; the same, if they are no better.


# 2. The true one counts as one of them.
def surprise(true, false):
    return (1 + np.sum(np.asarray(false) <= true)) / (1 + len(false))


check_2(surprise)


# 3. V a + V c = k and V a + V^2 c = 1^T Q 1.
def share(M):
    V, Q = len(M), projection(M)
    return (np.trace(Q) - Q.sum() / V) / (V - 1)


check_3(share)

# 4. `see.Annotation(senses=note.senses)` keeps sememes, `see.Annotation(morphemes=note.morphemes)`
#    morphemes; give `replace(vocabulary, annotations=...)` to `see.encode`. Both may tell the same
#    (a stem and the sememes of its word), and a plan with fewer units spends the rest elsewhere.
