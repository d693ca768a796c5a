# 1. np.add.at gives 0 to all units of the word; += gives g or -g, whichever is written last, to
#    units that both rows share. With momentum, units gathered before go on moving, and with them
#    all words that have them, in the batch or not.


# 2. The gradient before the projection, given to every unit of the word.
def bag_gradient(M, P, g):
    return M.T @ (g @ P.T)  # (U, d')


check_2(bag_gradient)


# 3. A running maximum and a running sum.
def cross_entropy_by_blocks(block_of, V, target, block):
    N = len(target)
    m, s, wanted = np.full(N, -np.inf), np.zeros(N), np.zeros(N)
    for start in range(0, V, block):
        ids = np.arange(start, min(start + block, V))
        S = block_of(ids)  # (N, W)
        top = np.maximum(m, S.max(1))
        s = s * np.exp(m - top) + np.exp(S - top[:, None]).sum(1)
        m, here = top, np.isin(target, ids)
        wanted[here] = S[here, target[here] - start]
    return m + np.log(s) - wanted


check_3(cross_entropy_by_blocks)

# 4. Not measured here. A word moves if one of its units was ever gathered; so with sharing there
#    are more words that move, and fewer whose movement nothing has taught.
