"""Tensorized embedding: the matrix as a tensor train over the digits of word and column.

    E[(i_1..i_n), (j_1..j_n)] = G_1[i_1, j_1] G_2[i_2, j_2] ... G_n[i_n, j_n]

with V <= prod I_k, D = prod J_k. Cores G_k (R_{k-1}, I_k, J_k, R_k), R_0 = R_n = 1, have sum_k
R_{k-1} I_k J_k R_k parameters. A row multiplies the cores that the digits of its number select, so
a word owns nothing; with diagonal cores it would be word2ketXS. Rows are filled up with zeros to
prod I_k, the axes paired (i_k, j_k), and TT-SVD truncates bond after bond.

Source: arXiv 1901.10787; Oseledets 2011 for TT-SVD. Ours: a given matrix instead of training, one
largest bond for all.
"""

from bisect import bisect_right
from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from see_min.encoding import row_blocks
from see_min.errors import check_ids
from see_min.related.primitives import check_matrix, rearrange
from see_min.related.word2ket import ceil_root
from see_min.storage.budget import check_ratio, leaf_sizes
from see_min.tensor_train import core_rows, tt_svd

BLOCK = 256  # words per step: the cores that they gather take BLOCK R^2 max(J_k) numbers


@dataclass
class TrainMatrix:
    """E (V, D) as cores of a train (R_{k-1}, I_k, J_k, R_k)."""

    cores: list
    vocabulary: int
    index_bytes = 0

    @property
    def shape(self):
        """(V, D)."""
        return self.vocabulary, prod(core.shape[2] for core in self.cores)

    @property
    def parameters(self):
        """sum_k R_{k-1} I_k J_k R_k."""
        return sum(core.size for core in self.cores)

    def rows(self, ids):
        """Embeddings of words, ids (...) -> (..., D)."""
        ids = check_ids("ids", ids, self.vocabulary)
        cores = [core.swapaxes(0, 1) for core in self.cores]  # (I_k, R_{k-1}, J_k, R_k) each
        digits = np.stack(np.unravel_index(ids.reshape(-1), [*map(len, cores)]), axis=1)  # (W, n)
        out = np.empty((len(digits), self.shape[1]))  # (W, D)
        for block in row_blocks(len(digits), BLOCK):
            out[block] = core_rows(cores, digits[block])
        return out.reshape(*ids.shape, self.shape[1])


def train_parameters(sizes, rank):
    """sum_k R_{k-1} s_k R_k, s_k = I_k J_k, with the bonds that TT-SVD gives.

    R_k = min(rank, R_{k-1} s_k, s_{k+1} ... s_n).

    >>> train_parameters((6, 6, 6), 2), train_parameters((6, 6, 6), 99)    # 12 + 24 + 12, ...
    (48, 288)
    """
    total, left = 0, 1
    for k, size in enumerate(sizes):
        right = min(rank, left * size, prod(sizes[k + 1 :]))
        total, left = total + left * size * right, right
    return total


def plan(vocabulary, dimension, ratio, order=3):
    """(I, J, R): modes of rows and of columns, as even as they can be, and the largest bond.

    >>> plan(6000, 384, 10)
    ((17, 19, 19), (8, 8, 6), 38)
    """
    t = ceil_root(vocabulary, order)
    rows = (ceil(vocabulary / t ** (order - 1)), *[t] * (order - 1))
    columns = leaf_sizes(dimension, order)
    sizes = [i * j for i, j in zip(rows, columns)]
    dense = vocabulary * dimension
    check_ratio(ratio, dense / train_parameters(sizes, 1), f"a tensor train of order {order}")
    bonds = range(1, prod(sizes) + 1)  # parameters rise with the bond
    within = bisect_right(bonds, dense / ratio, key=lambda bond: train_parameters(sizes, bond))
    return rows, columns, within


def fit(matrix, ratio, order=3):
    """Cores by TT-SVD: matrix (V, D) -> TrainMatrix.

    >>> E = np.kron([[1., 2.], [0., 1.]], [[1., 3.], [5., 1.]])    # one product: a train of bond 1
    >>> kept = fit(E, ratio=2, order=2)
    >>> kept.parameters, bool(np.allclose(kept.rows(range(4)), E))
    (8, True)
    """
    matrix = check_matrix("matrix", matrix)
    rows, columns, bond = plan(*matrix.shape, ratio, order)
    padded = np.pad(matrix, ((0, prod(rows) - len(matrix)), (0, 0)))  # (prod I_k, D)
    cores, _ = tt_svd(rearrange(padded, rows, columns), bond)  # (R_{k-1}, I_k J_k, R_k) each
    cores = [core.reshape(len(core), i, j, -1) for core, i, j in zip(cores, rows, columns)]
    return TrainMatrix(cores, len(matrix))
