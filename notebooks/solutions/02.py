# 1. (1, 1, 1, 1) = (1, 1) x (1, 1) is a product, weights (1, 0). The other table has orthogonal
#    lines of equal length: weights (1/2, 1/2), as entangled as the Bell state.


# 2. Add up weights from the largest on.
def terms_needed(row, left, share):
    return int(1 + (np.cumsum(spectrum(row, left)) < share - 1e-12).sum())


check_2(terms_needed)


# 3. All pairs of terms at once, a table (r, s) per slot.
def dot(left, right):
    pairs = 1.0
    for a, b in zip(left, right):
        pairs = pairs * (a @ b.T)  # (r, s)
    return pairs.sum()


check_3(dot)

# 4. Frequent words meet many others, so they have large entries at the largest eigenvalues, which
#    are the first coordinates: look at the mean share of the first 48 by frequency. A row whose
#    squared length stands in one line of the 8 x 48 table is nearly of rank 1.
