"""word2ketXS: the whole matrix is a sum of r Kronecker products of n small matrices.

    minimise  ||E0 - (F_11 (x) ... (x) F_n1 + ... + F_1r (x) ... (x) F_nr)||^2,   F_jk (t_j, q_j);   r sum_j t_j q_j floats

Words are the digits of their numbers: E[w] = sum_k F_1k[i_1] (x) ... (x) F_nk[i_n], and a word owns nothing. At order 2 the
best factors are the truncated SVD of the rearranged matrix. At higher orders the same rearrangement has one axis (t_j q_j) for
each factor, and alternating least squares find a sum of products of vectors. Rows are filled up with zeros to t_1 ... t_n.

Source: arXiv 1911.04975. Ours: the fit to a given matrix in place of training, exact q_j where the paper
takes q = ceil(D^(1/n)) and cuts the rows off.
"""

from dataclasses import dataclass

import numpy as np

from see_min.budget import Plan, check_ratio, leaf_sizes
from see_min.checks import DataError, check_axes, check_finite, check_ids
from see_min.related.primitives import cp_als, kronecker_rows, nearest_kronecker_sum
from see_min.related.word2ket import ceil_root


@dataclass
class KroneckerMatrix:
    """E (V, D) as tables of n arrays (t_j, r, q_j); row w is made of the digits of w."""

    tables: list
    vocabulary: int
    index_bytes = 0

    @property
    def shape(self):
        """(V, D)."""
        return self.vocabulary, int(np.prod([table.shape[2] for table in self.tables]))

    @property
    def floats(self):
        """r sum_j t_j q_j."""
        return sum(table.size for table in self.tables)

    def rows(self, ids):
        """Embeddings of words, ids (...) -> (..., D); a DataError if an id is not in 0 .. V - 1."""
        return kronecker_rows(self.tables, check_ids("ids", ids, self.vocabulary))


def published(vocabulary, dimension, order, rank):
    """The plan that the paper counts: r n q t floats with q = ceil(D^(1/n)) and t = ceil(V^(1/n)).

    Examples
    --------
    >>> published(118655, 300, order=4, rank=1).floats
    380

    Source: arXiv 1911.04975.
    """
    return Plan(vocabulary, dimension, (ceil_root(dimension, order),) * order, rank, ceil_root(vocabulary, order))


def plan(vocabulary, dimension, ratio, order=2):
    """The largest rank within the budget, with t = ceil(V^(1/n)) rows a factor.

    Raises
    ------
    DataError
        If the order is below 2, or the ratio below 1 or beyond rank 1.

    Examples
    --------
    >>> plan(6000, 384, 10).sizes, plan(6000, 384, 10).slot_units, plan(6000, 384, 10).rank
    ((24, 16), 78, 73)
    """
    if order < 2:
        raise DataError(f"order: expected at least 2, got {order}")
    sizes, t = leaf_sizes(dimension, order), ceil_root(vocabulary, order)
    check_ratio(ratio, vocabulary * dimension / (t * sum(sizes)), f"word2ketXS of order {order}")
    most = t ** (order - 1) * dimension // sizes[0]  # no array needs more terms than it has fibres
    return Plan(vocabulary, dimension, sizes, max(1, min(most, int(vocabulary * dimension / ratio / (t * sum(sizes))))), t)


def fit(matrix, ratio, seed=0, order=2, sweeps=20):
    """Factors of the nearest sum of Kronecker products (order 2), or of one that alternation finds.

    Parameters
    ----------
    matrix : array (V, D)
    ratio : float
    seed, sweeps : int
        Of the alternation; order 2 needs neither.
    order : int

    Returns
    -------
    KroneckerMatrix

    Raises
    ------
    ShapeError, DataError
        If matrix is not (V, D) or not finite, or as `plan`.

    Examples
    --------
    >>> E = np.kron([[1., 2.], [0., 1.]], [[1., 3.], [5., 1.]])
    >>> kept = fit(E, ratio=2)
    >>> kept.floats, bool(np.allclose(kept.rows(range(4)), E))
    (8, True)

    Source: arXiv 1911.04975 for the form; Van Loan and Pitsianis 1993 for the fit at order 2.
    """
    matrix = check_finite("matrix", check_axes("matrix", matrix, None, None))
    sizes = plan(*matrix.shape, ratio, order)
    t, V = sizes.slot_units, len(matrix)
    padded = np.zeros((t**order, matrix.shape[1]))
    padded[:V] = matrix
    if order == 2:
        factors = nearest_kronecker_sum(padded, (t, t), sizes.sizes, sizes.rank)  # (r, t, q_1), (r, t, q_2)
        return KroneckerMatrix([factor.swapaxes(0, 1) for factor in factors], V)
    axes = [axis for j in range(order) for axis in (j, order + j)]  # (t, q_1, t, q_2, ...): factor by factor
    tensor = padded.reshape([t] * order + list(sizes.sizes)).transpose(axes).reshape([t * q for q in sizes.sizes])
    factors, _ = cp_als(tensor, sizes.rank, seed, sweeps)
    return KroneckerMatrix([factor.reshape(t, q, -1).swapaxes(1, 2) for factor, q in zip(factors, sizes.sizes)], V)
