"""word2ket: every word is a sum of r products of n small vectors of its own.

    minimise  sum_w ||E0[w] - sum_{k=1..r} v_w1k (x) ... (x) v_wnk||^2;   r V (q_1 + ... + q_n) floats,  q_1 ... q_n = D

Words share nothing, so each is a problem of its own and weights of words change nothing. At order 2 the answer is in closed form:
the truncated SVD of the row, written as a q_1 x q_2 matrix. At higher orders every word is its own unit in each slot of a
SememeEncoding, and `see_min.fit` alternates. No word costs less than n small vectors: the ratio is at most D / (n D^(1/n)) or so.

Source: arXiv 1911.04975. Simplified: no LayerNorm between the products, no training. Ours: the fit to a given
matrix, and exact leaf sizes where the paper takes q = ceil(D^(1/n)) and cuts the product off.
"""

import numpy as np

from see_min.budget import Plan, check_ratio, floor_root, leaf_sizes
from see_min.checks import check_axes, check_finite
from see_min.encoding import SememeEncoding
from see_min.fit import fit as alternate
from see_min.fit import random_encoding
from see_min.units import Units


def published(vocabulary, dimension, order, rank):
    """The plan that the paper counts: r n V q floats with q = ceil(D^(1/n)).

    Examples
    --------
    >>> published(1, 256, order=4, rank=5).floats                 # one word as five products of four vectors of four
    80

    Source: arXiv 1911.04975.
    """
    return Plan(vocabulary, dimension, (ceil_root(dimension, order),) * order, rank, vocabulary)


def ceil_root(number, order):
    """The smallest q with q^n >= number.

    Examples
    --------
    >>> ceil_root(256, 4), ceil_root(257, 4)
    (4, 5)
    """
    return floor_root(number - 1, order) + 1


def plan(vocabulary, dimension, ratio, order=None):
    """The order and rank that use most of the budget, the lowest order among equals; ours.

    Returns
    -------
    Plan

    Raises
    ------
    DataError
        If the ratio is below 1 or beyond the largest, one term of the order with the fewest floats.

    Examples
    --------
    >>> plan(1000, 384, 10).sizes, plan(1000, 384, 10).rank, plan(1000, 384, 10, order=3).rank
    ((6, 4, 4, 4), 2, 1)
    """
    orders = range(2, max(3, dimension.bit_length())) if order is None else [order]
    splits = [sizes for sizes in (leaf_sizes(dimension, n) for n in orders) if order or min(sizes) > 1 or len(sizes) == 2]
    check_ratio(ratio, dimension / min(map(sum, splits)), "word2ket")
    rank = lambda sizes: min(dimension // sizes[0], int(dimension / ratio / sum(sizes)))  # no row needs more than D / q_1 terms
    best = max(splits, key=lambda sizes: (rank(sizes) * sum(sizes), -len(sizes)))
    return Plan(vocabulary, dimension, best, max(1, rank(best)), vocabulary)


def fit(matrix, ratio, seed=0, order=None, sweeps=20):
    """Leaves of its own for every word.

    Parameters
    ----------
    matrix : array (V, D)
    ratio : float
    seed : int
        Of the random start; order 2 needs none.
    order : int, optional
        n; that of `plan` when left out.
    sweeps : int

    Returns
    -------
    SememeEncoding
        Every word its own unit in each slot: no index has to be kept.

    Raises
    ------
    ShapeError, DataError
        If matrix is not (V, D) or not finite, or the ratio out of reach.

    Examples
    --------
    >>> E = np.array([np.kron([1., 2., 3.], [1., 10.]), np.kron([1., 0., 1.], [3., 1.])])
    >>> kept = fit(E, ratio=1.2)                                   # (3 + 2) of 6 numbers a word
    >>> kept.floats, kept.index_bytes, bool(np.allclose(kept.rows([0, 1]), E))
    (10, 0, True)

    Source: arXiv 1911.04975 for the form; the fit is ours.
    """
    matrix = check_finite("matrix", check_axes("matrix", matrix, None, None)).astype(float)
    sizes = plan(*matrix.shape, ratio, order)
    index = np.repeat(np.arange(len(matrix))[:, None], len(sizes.sizes), axis=1)  # (V, n)
    if len(sizes.sizes) == 2:
        U, s, Vt = np.linalg.svd(matrix.reshape(-1, *sizes.sizes), full_matrices=False)  # (V, q_1, m), (V, m), (V, m, q_2)
        r = sizes.rank
        return SememeEncoding([U[:, :, :r].swapaxes(1, 2) * s[:, :r, None], Vt[:, :r]], index)  # leaves (V, r, q_j)
    start = random_encoding(Units(index, np.zeros_like(index, dtype=bool), [], []), sizes, seed)
    return alternate(matrix, start, sweeps=sweeps, ridge=0.0)[0]
