# 1. Slot 1 has one unit and needs no bits; slot 2 needs 4 bits per term: 2,048 * 3 * 4 / 8 = 3,072
#    bytes, and 16^3 = 4,096 rows. With 16 units in slot 1 both the bits double and there may be
#    16^6 rows.


# 2. Whole terms that fit.
def largest_rank(V, D, sizes, U, ratio):
    return V * D // (ratio * U * sum(sizes))


check_2(largest_rank)


# 3. All terms at once, one more slot at a time.
def row_without_kron(tables, index, w):
    k = np.arange(tables[0].shape[1])
    product = np.ones((len(k), 1))  # (r, 1)
    for j, table in enumerate(tables):
        leaves = table[index[w, :, j], k]  # (r, q_j)
        product = (product[:, :, None] * leaves[:, None, :]).reshape(len(k), -1)  # (r, q_1 .. q_j)
    return product.sum(0)


check_3(row_without_kron)

# 4. The four forms of a stem are 4 endings, 2 bits per word, in a slot of their own; a slot with a
#    hash bucket per word needs log2 of the number of buckets. With 2,048 words some of 372 head
#    sememes are shared by many stems: count the largest group of equal rows first.
