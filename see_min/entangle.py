"""Leaves -> rows: superpositions of product states, their inner products, Schmidt spectrum and entropy.

A word is  sum_k alpha_k * v_1k (x) v_2k (x) ... (x) v_nk : every term k is a product of n leaves. The leaves of
many words travel as a list with one array (W, r, q_j) a slot, so that slots may differ in size. Flattening
is C order, the first factor slowest, the same as `numpy.kron`. The functions that torch shares use only `@`,
`*`, slicing, `reshape` and `sum`, and take arrays of either library.
"""

import numpy as np

from see_min.checks import ShapeError, check_finite


def kron_rows(leaves):
    """The product of every term, kept apart: t_wk = v_w1k (x) v_w2k (x) ... (x) v_wnk.

    Parameters
    ----------
    leaves : list of n arrays (W, r, q_j)

    Returns
    -------
    array (W, r, q_1 q_2 ... q_n)

    Examples
    --------
    >>> a, b = np.array([[[1., 2.]]]), np.array([[[1., 10.]]])     # one word, one term
    >>> kron_rows([a, b])
    array([[[ 1., 10.,  2., 20.]]])

    Source: word2ket, arXiv 1911.04975, section 2; every Kronecker product of rows in this package is this one.
    """
    product = leaves[0]  # (W, r, q_1)
    for leaf in leaves[1:]:
        W, r, q = leaf.shape
        width = product.shape[2] * q  # written out, because -1 cannot be inferred for no words at all
        product = (product[:, :, :, None] * leaf[:, :, None, :]).reshape(W, r, width)  # (W, r, q_1 .. q_j)
    return product


def halves(leaves, amplitudes=None):
    """The two factors of `entangled_rows`: the products of the first and of the last slots; for one slot its leaves alone.

    Parameters
    ----------
    leaves : list of n arrays (W, r, q_j)
    amplitudes : array (W, r), optional

    Returns
    -------
    list of arrays (W, r, a), (W, r, b), a and b the products of the sizes of their slots

    Examples
    --------
    >>> a = np.array([[[1., 2.]]])
    >>> [part.shape for part in halves([a, a, a])]
    [(1, 1, 2), (1, 1, 4)]

    Source: ours.
    """
    if amplitudes is not None:
        leaves = [leaves[0] * amplitudes[:, :, None], *leaves[1:]]
    if len(leaves) == 1:
        return leaves
    half = len(leaves) // 2
    return [kron_rows(leaves[:half]), kron_rows(leaves[half:])]


def entangled_rows(leaves, amplitudes=None):
    """Superpose the terms: E_w = sum_k alpha_wk v_w1k (x) ... (x) v_wnk.

    The sum over terms is done by one batched matrix product of the two halves of the slots, so that the
    (W, r, D) products are never held: with L = first half and R = last half, E_w = L_w^T R_w as a matrix.

    Parameters
    ----------
    leaves : list of n arrays (W, r, q_j)
    amplitudes : array (W, r), optional
        All ones when left out, the papers' form.

    Returns
    -------
    array (W, q_1 q_2 ... q_n)

    Examples
    --------
    >>> a = np.array([[[1., 0.], [0., 1.]]])                       # the Bell state, one word of two terms
    >>> entangled_rows([a, a])
    array([[1., 0., 0., 1.]])

    Source: word2ket, arXiv 1911.04975, equation 3; amplitudes are ours.
    """
    parts = halves(leaves, amplitudes)
    if len(parts) == 1:
        return parts[0].sum(1)  # (W, q_1)
    left, right = parts  # (W, r, a), (W, r, b)
    return (left.swapaxes(1, 2) @ right).reshape(len(left), left.shape[2] * right.shape[2])  # (W, a b)


def inner_products(left, right):
    """<E_w, F_w> for two lists of leaves without building a row: sum_kl prod_j <v_wjk, u_wjl>.

    Parameters
    ----------
    left, right : lists of n arrays (W, r, q_j) and (W, s, q_j)

    Returns
    -------
    array (W,)

    Raises
    ------
    ShapeError
        If the lists have different lengths.

    Examples
    --------
    >>> a = np.array([[[1., 0.], [0., 1.]]])
    >>> inner_products([a, a], [a, a])
    array([2.])

    Source: word2ket, arXiv 1911.04975, section 2.3 (one term each); the sum over terms is its bilinear form.
    """
    if len(left) != len(right):
        raise ShapeError(f"right: expected {len(left)} slots as in left, got {len(right)}")
    gram = 1.0
    for a, b in zip(left, right):
        gram = gram * (a @ b.swapaxes(1, 2))  # (W, r, s)
    return gram.sum((1, 2))  # (W,)


def schmidt_spectrum(row, sizes, cut):
    """Squared singular values of the word's state across the cut between slots 1..cut and cut+1..n, summing to 1.

    Parameters
    ----------
    row : array (D,) with D = prod(sizes)
    sizes : sequence of n leaf dimensions q_j
    cut : int, 1 <= cut < n

    Returns
    -------
    array (min(prod of sizes left of the cut, right of it),), descending; zeros for a row of zeros

    Raises
    ------
    ShapeError
        If the row does not have prod(sizes) values, or the cut does not split the slots.
    DataError
        If the row is not finite.

    Examples
    --------
    >>> schmidt_spectrum(np.array([1., 0., 0., 1.]), (2, 2), 1)     # the Bell state is maximally entangled
    array([0.5, 0.5])

    Source: the Schmidt decomposition, any text on quantum information; its use on words is ours.
    """
    row = np.asarray(row, dtype=float)
    if row.shape != (int(np.prod(sizes)),):
        raise ShapeError(f"row: expected shape ({int(np.prod(sizes))},), got {row.shape}")
    if not 1 <= cut < len(sizes):
        raise ShapeError(f"cut: expected 1 to {len(sizes) - 1}, got {cut}")
    check_finite("row", row)
    matrix = row.reshape(int(np.prod(sizes[:cut])), -1)  # (left, right)
    s = np.linalg.svd(matrix, compute_uv=False)
    if s[0] == 0:
        return s  # no state, no spectrum
    weights = (s / s[0]) ** 2  # divided before squaring, so that the scale of a row can neither underflow nor overflow
    return weights / weights.sum()


def entanglement_entropy(spectrum):
    """H = - sum_i p_i ln p_i in nats: 0 for a product state, ln r for r equal Schmidt weights.

    Examples
    --------
    >>> float(entanglement_entropy(np.array([1.0, 0.0])))
    0.0
    >>> bool(np.isclose(entanglement_entropy(np.array([0.5, 0.5])), np.log(2)))
    True

    Source: von Neumann entropy of the reduced state.
    """
    p = np.asarray(spectrum, dtype=float)
    p = p[p > 0]
    return abs(-(p * np.log(p)).sum())  # abs turns -0.0 into 0.0
