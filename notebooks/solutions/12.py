# 1. Rows shuffled: word2ketXS alone (digits of the row number). Columns shuffled: word2ketXS, and
#    product quantization, whose blocks are neighbouring columns.


# 2. The cheaper of a bitmap and a list.
def mask_bits(n, k):
    return min(n, k * (n - 1).bit_length())


check_2(mask_bits)
share = 1 / (16384 - 1).bit_length()
print(f"of 16,384 weights the list is cheaper below a share of {share:.3f}")


# 3. The mean goes into the bias; the rest is primitive 2 for centred inputs.
def with_bias(W, X, r):
    mean = X.mean(0)  # (in,)
    B = np.linalg.eigh(W @ (X - mean).T @ (X - mean) @ W.T)[1][:, -r:]  # (out, r)
    return B @ B.T @ W, W @ mean - B @ (B.T @ (W @ mean))


check_3(with_bias)

# 4. Not measured here. With codes first there is nothing left that has a low rank.
