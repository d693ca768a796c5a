# 1. Place (1 * 5 + 2) * 6 + 3 = 45. b[2] stands in 4 * 6 = 24 of the 120 entries.


# 2. The square of a difference, from three products of dot products.
def distance(a, b):
    aa, bb, ab = (np.prod([p @ q for p, q in zip(x, y)]) for x, y in ((a, a), (b, b), (a, b)))
    return np.sqrt(max(aa + bb - 2 * ab, 0))


check_2(distance)


# 3. Digits, the last leaf first.
def entry(leaves, place):
    value = 1.0
    for leaf in reversed(leaves):
        place, digit = divmod(place, len(leaf))
        value *= leaf[digit]
    return value


check_3(entry)

# 4. Try the eigenvectors of the sum of X X^T over all words, slot by slot (a Tucker basis): it
#    turns every slot by itself, which closest products do not feel. What helps has to mix slots: a
#    (D, D) matrix costs 147,456 numbers, as many as 384 words; a permutation 384 times 9 bits.
