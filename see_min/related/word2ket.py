"""word2ket: every word is a sum of r products of n small vectors of its own.

    minimise  sum_w ||E0[w] - sum_{k=1..r} v_w1k (x) ... (x) v_wnk||^2;
    r V (q_1 + ... + q_n) parameters

with q_1 ... q_n = D. Words share nothing, so each is a problem of its own and weights of words
change nothing. At order 2 the answer is in closed form: the truncated SVD of the row, written as a
q_1 x q_2 matrix. At higher orders every word is its own unit in each slot of a SememeEncoding, and
`fitting.least_squares.fit` alternates. No word costs less than n small vectors: the ratio is at
most about D / (n D^(1/n)).

Source: arXiv 1911.04975. Simplified: no LayerNorm between the products, no training. Ours: the fit
to a given matrix, and exact leaf sizes where the paper takes q = ceil(D^(1/n)) and cuts the product
off.
"""

import numpy as np

from see_min.encoding import SememeEncoding
from see_min.fitting.least_squares import fit as alternate
from see_min.related.primitives import check_matrix
from see_min.storage.budget import Plan, check_ratio, leaf_sizes


def ceil_root(number, order):
    """The smallest q with q^n >= number.

    >>> ceil_root(256, 4), ceil_root(257, 4)
    (4, 5)
    """
    q = round(number ** (1 / order))
    return q if q**order >= number else q + 1


def plan(vocabulary, dimension, ratio, order=None):
    """The order and rank that use most of the budget, the lowest order among equals; ours.

    >>> plan(1000, 384, 10).sizes, plan(1000, 384, 10).rank, plan(1000, 384, 10, order=3).rank
    ((6, 4, 4, 4), 2, 1)
    """
    orders = range(2, max(3, dimension.bit_length())) if order is None else [order]
    splits = [leaf_sizes(dimension, n) for n in orders]
    splits = [sizes for sizes in splits if order or min(sizes) > 1 or len(sizes) == 2]
    check_ratio(ratio, dimension / min(map(sum, splits)), "word2ket")

    def rank(sizes):
        most = dimension // sizes[0]  # no row needs more terms
        return min(most, int(dimension / ratio / sum(sizes)))

    best = max(splits, key=lambda sizes: (rank(sizes) * sum(sizes), -len(sizes)))
    return Plan(vocabulary, dimension, best, max(1, rank(best)), vocabulary, form="paper")


def fit(matrix, ratio, seed=0, order=None, sweeps=20):
    """Leaves of its own for every word: matrix (V, D) -> SememeEncoding without an index.

    The order is that of `plan` when left out; at order 2 neither seed nor sweeps play a part.

    >>> E = np.array([np.kron([1., 2., 3.], [1., 10.]), np.kron([1., 0., 1.], [3., 1.])])
    >>> kept = fit(E, ratio=1.2)                                # (3 + 2) of 6 numbers per word
    >>> kept.parameters, kept.index_bytes, bool(np.allclose(kept.rows([0, 1]), E))
    (10, 0, True)
    """
    matrix = check_matrix("matrix", matrix)
    one = plan(*matrix.shape, ratio, order)
    r = one.rank
    if len(one.sizes) == 2:
        U, s, Vt = np.linalg.svd(matrix.reshape(-1, *one.sizes), full_matrices=False)
        left = U[:, :, :r].swapaxes(1, 2) * s[:, :r, None]  # (V, r, q_1)
        return SememeEncoding([left, Vt[:, :r]], None)  # (V, r, q_j) each
    rng, scale = np.random.default_rng(seed), r ** (-0.5 / len(one.sizes))  # rows of variance 1
    leaves = [scale * rng.standard_normal((len(matrix), r, q)) for q in one.sizes]  # (V, r, q_j)
    return alternate(matrix, SememeEncoding(leaves, None), sweeps=sweeps, ridge=0.0)[0]
