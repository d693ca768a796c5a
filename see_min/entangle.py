"""Leaves -> rows: sums of product states, their inner products, Schmidt spectrum and entropy.

A word is  sum_k v_1k (x) v_2k (x) ... (x) v_nk : every term k is a product of n leaves. In all that
follows, `leaves` is a list of n arrays (W, r, q_j), one per slot: W words, r terms. Flattening is
C order, the first factor slowest, as in `numpy.kron`. The functions that torch shares use only `@`,
`*`, slicing, `reshape` and `sum`, and take arrays of either library.
"""

import numpy as np

from see_min.errors import InputError, check_finite


def kron_rows(leaves):
    """The product of every term, kept apart: t_wk = v_w1k (x) ... (x) v_wnk, (W, r, q_1 .. q_n).

    The row-wise Kronecker product, also called face-splitting or row-wise Khatri-Rao product.

    >>> a, b = np.array([[[1., 2.]]]), np.array([[[1., 10.]]])     # one word, one term
    >>> kron_rows([a, b])
    array([[[ 1., 10.,  2., 20.]]])

    Source: word2ket, arXiv 1911.04975, section 2.
    """
    product = leaves[0]  # (W, r, q_1)
    for leaf in leaves[1:]:
        W, r, q = leaf.shape
        width = product.shape[2] * q  # written out: -1 cannot be inferred for no words at all
        product = product[:, :, :, None] * leaf[:, :, None, :]  # (W, r, q_1 .. q_{j-1}, q_j)
        product = product.reshape(W, r, width)  # (W, r, q_1 .. q_j)
    return product


def bipartition(leaves):
    """The products of the first and of the last slots, (W, r, a) and (W, r, b).

    For one slot, its leaves alone.
    """
    if len(leaves) == 1:
        return leaves
    half = len(leaves) // 2
    return [kron_rows(leaves[:half]), kron_rows(leaves[half:])]


def entangled_rows(leaves):
    """Superpose the terms: E_w = sum_k v_w1k (x) ... (x) v_wnk, (W, q_1 .. q_n).

    One batched matrix product of the two halves of the slots sums over terms, so that the (W, r, D)
    products are never held: with L = left half and R = right half, E_w = L_w^T R_w as a matrix.

    >>> a = np.array([[[1., 0.], [0., 1.]]])               # the Bell state: one word, two terms
    >>> entangled_rows([a, a])
    array([[1., 0., 0., 1.]])

    Source: word2ket, arXiv 1911.04975, equation 3.
    """
    parts = bipartition(leaves)
    if len(parts) == 1:
        return parts[0].sum(1)  # (W, q_1)
    left, right = parts  # (W, r, a), (W, r, b)
    states = left.swapaxes(1, 2) @ right  # (W, a, b)
    return states.reshape(len(left), left.shape[2] * right.shape[2])  # (W, a b)


def inner_products(left, right):
    """<E_w, F_w> (W,) without building a row: sum_kl prod_j <v_wjk, u_wjl>.

    >>> a = np.array([[[1., 0.], [0., 1.]]])
    >>> inner_products([a, a], [a, a])
    array([2.])

    Raises InputError if the lists have different lengths. Source: word2ket, section 2.3.
    """
    if len(left) != len(right):
        raise InputError(f"right: expected {len(left)} slots as in left, got {len(right)}")
    gram = 1.0
    for a, b in zip(left, right):
        gram = gram * (a @ b.swapaxes(1, 2))  # (W, r, s)
    return gram.sum((1, 2))  # (W,)


def schmidt_spectrum(row, sizes, cut):
    """Squared singular values of a state across the cut between slots 1..cut and cut+1..n.

    `row` is (D,), D = prod(sizes). Descending, summing to 1; zeros for a row of zeros. InputError
    if the row does not have prod(sizes) finite values, or the cut does not split the slots.

    >>> schmidt_spectrum(np.array([1., 0., 0., 1.]), (2, 2), 1)   # the Bell state: maximal
    array([0.5, 0.5])
    """
    row, size = np.asarray(row, dtype=float), int(np.prod(sizes))
    if row.shape != (size,):
        raise InputError(f"row: expected shape ({size},), got {row.shape}")
    if not 1 <= cut < len(sizes):
        raise InputError(f"cut: expected 1 to {len(sizes) - 1}, got {cut}")
    check_finite("row", row)
    matrix = row.reshape(int(np.prod(sizes[:cut])), -1)  # (left, right)
    s = np.linalg.svd(matrix, compute_uv=False)
    if s[0] == 0:
        return s  # no state, no spectrum
    weights = (s / s[0]) ** 2  # divided before squaring: no scale can underflow or overflow
    return weights / weights.sum()


def entanglement_entropy(spectrum):
    """H = - sum_i p_i ln p_i in nats: 0 for a product state, ln r for r equal weights.

    >>> float(entanglement_entropy(np.array([1.0, 0.0])))
    0.0
    """
    p = np.asarray(spectrum, dtype=float)
    p = p[p > 0]
    return abs(-(p * np.log(p)).sum())  # abs turns -0.0 into 0.0
