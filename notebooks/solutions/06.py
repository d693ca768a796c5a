# 1. (5 + 3) t = (6, 8), so t = (0.75, 1). With b = (2, 2) the costs are 5 - 4 = 1, 5 - 4 = 1 and
#    10 - 8 = 2: the first two tie, and none is as good as no unit at all.


# 2. The gain decides.
def reassign_with_a_price(cost, old, epsilon):
    gain = cost[np.arange(len(cost)), old] - cost.min(1)  # (V,)
    return np.where(gain > epsilon, cost.argmin(1), old)


check_2(reassign_with_a_price)


# 3. Normal equations of a ridge regression.
def bag_vectors(R, M, f, ridge):
    weighted = f[:, None] * M  # (V, U)
    return np.linalg.solve(M.T @ weighted + ridge * np.eye(M.shape[1]), weighted.T @ R)  # (U, D)


check_3(bag_vectors)

# 4. Keep B partial sums per word; for each term, all B U continuations, of which the best B stay.
#    That is how additive quantization (Babenko and Lempitsky, 2014) searches; it costs B times as
#    much per term. Compare J after the same number of sweeps, and mind that solving comes between.
