"""word2ketXS: the whole matrix is a sum of r Kronecker products of n small matrices.

    minimise  ||E0 - sum_{k=1..r} F_1k (x) ... (x) F_nk||^2,
    F_jk (t_j, q_j);   r sum_j t_j q_j parameters

Words are the digits of their numbers: E[w] = sum_k F_1k[i_1] (x) ... (x) F_nk[i_n], and a word owns
nothing. At order 2 the best factors are the truncated SVD of the rearranged matrix. At higher
orders the same rearrangement has one axis (t_j q_j) for each factor, and alternating least squares
find a sum of products of vectors. Rows are filled up with zeros to t_1 ... t_n.

Source: arXiv 1911.04975; Van Loan and Pitsianis 1993 for the fit at order 2. Ours: a given matrix
instead of training, exact q_j where the paper takes q = ceil(D^(1/n)) and cuts the rows off.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from see_min.errors import check_at_least, check_ids
from see_min.related.primitives import (
    check_matrix,
    cp_als,
    kronecker_rows,
    nearest_kronecker_sum,
    rearrange,
)
from see_min.related.word2ket import ceil_root
from see_min.storage.budget import Plan, check_ratio, leaf_sizes


@dataclass
class KroneckerMatrix:
    """E (V, D) as tables of n arrays (t_j, r, q_j); row w is made of the digits of w."""

    tables: list
    vocabulary: int
    index_bytes = 0

    @property
    def shape(self):
        """(V, D)."""
        return self.vocabulary, prod(table.shape[2] for table in self.tables)

    @property
    def parameters(self):
        """r sum_j t_j q_j."""
        return sum(table.size for table in self.tables)

    def rows(self, ids):
        """Embeddings of words, ids (...) -> (..., D)."""
        return kronecker_rows(self.tables, check_ids("ids", ids, self.vocabulary))


def plan(vocabulary, dimension, ratio, order=2):
    """The largest rank within the budget, with t = ceil(V^(1/n)) rows per factor.

    >>> plan(6000, 384, 10).sizes, plan(6000, 384, 10).slot_units, plan(6000, 384, 10).rank
    ((24, 16), 78, 73)
    """
    check_at_least("order", order, 2)
    sizes, t = leaf_sizes(dimension, order), ceil_root(vocabulary, order)
    term, dense = t * sum(sizes), vocabulary * dimension
    check_ratio(ratio, dense / term, f"word2ketXS of order {order}")
    most = t ** (order - 1) * dimension // sizes[0]  # no array needs more terms than it has fibres
    rank = max(1, min(most, int(dense / ratio / term)))
    return Plan(vocabulary, dimension, sizes, rank, t, form="paper")


def fit(matrix, ratio, seed=0, order=2, sweeps=20):
    """The nearest sum of Kronecker products (order 2), or one that alternation finds.

    Matrix (V, D) -> KroneckerMatrix; at order 2 neither seed nor sweeps play a part.

    >>> E = np.kron([[1., 2.], [0., 1.]], [[1., 3.], [5., 1.]])
    >>> kept = fit(E, ratio=2)
    >>> kept.parameters, bool(np.allclose(kept.rows(range(4)), E))
    (8, True)
    """
    matrix = check_matrix("matrix", matrix)
    one = plan(*matrix.shape, ratio, order)
    t, digits = one.slot_units, [one.slot_units] * order
    padded = np.pad(matrix, ((0, t**order - len(matrix)), (0, 0)))  # (t^n, D)
    if order == 2:
        factors = nearest_kronecker_sum(padded, digits, one.sizes, one.rank)  # (r, t, q_j) each
        tables = [factor.swapaxes(0, 1) for factor in factors]  # (t, r, q_j) each
    else:
        tensor = rearrange(padded, digits, one.sizes)  # (t q_1, ..., t q_n)
        factors, _ = cp_als(tensor, one.rank, seed, sweeps)  # (t q_j, r) each
        tables = [factor.reshape(t, -1, one.rank).swapaxes(1, 2) for factor in factors]
    return KroneckerMatrix(tables, len(matrix))
