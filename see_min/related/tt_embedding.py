"""Tensorized embedding: the matrix as a tensor train over the digits of word and column.

    E[(i_1..i_n), (j_1..j_n)] = G_1[i_1, j_1] G_2[i_2, j_2] ... G_n[i_n, j_n],   V <= prod I_k,  D = prod J_k

Cores G_k (R_{k-1}, I_k, J_k, R_k), R_0 = R_n = 1, have sum_k R_{k-1} I_k J_k R_k floats. A row multiplies the cores that the
digits of its number select, so a word owns nothing; with diagonal cores it would be word2ketXS. Rows are filled up with zeros to
prod I_k, the axes paired (i_k, j_k), and TT-SVD truncates bond after bond.

Source: arXiv 1901.10787. Ours: TT-SVD of a given matrix in place of training, and one largest bond for all.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from see_min.als import row_blocks
from see_min.budget import check_ratio, leaf_sizes
from see_min.checks import check_axes, check_finite, check_ids
from see_min.related.word2ket import ceil_root
from see_min.tensor_train import core_rows, tt_svd

BLOCK = 256  # words a step: the cores that they gather take BLOCK R^2 max(J_k) floats


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
    def floats(self):
        """sum_k R_{k-1} I_k J_k R_k."""
        return sum(core.size for core in self.cores)

    def rows(self, ids):
        """Embeddings of words, ids (...) -> (..., D); a DataError if an id is not in 0 .. V - 1."""
        ids = check_ids("ids", ids, self.vocabulary)
        digits = np.stack(np.unravel_index(ids.reshape(-1), [core.shape[1] for core in self.cores]), axis=1)  # (W, n)
        cores, out = [core.swapaxes(0, 1) for core in self.cores], np.empty((len(digits), self.shape[1]))  # (I_k, R, J_k, R)
        for block in row_blocks(len(digits), BLOCK):
            out[block] = core_rows(cores, digits[block])
        return out.reshape(*ids.shape, self.shape[1])


def train_floats(sizes, rank):
    """sum_k R_{k-1} s_k R_k, s_k = I_k J_k, with the bonds R_k = min(rank, R_{k-1} s_k, s_{k+1} ... s_n) that TT-SVD gives.

    Examples
    --------
    >>> train_floats((6, 6, 6), 2), train_floats((6, 6, 6), 99)    # 6 * 2 + 2 * 6 * 2 + 2 * 6, and 36 + 216 + 36
    (48, 288)

    Source: arXiv 1901.10787.
    """
    floats, left = 0, 1
    for k, size in enumerate(sizes):
        right = min(rank, left * size, prod(sizes[k + 1 :]))
        floats, left = floats + left * size * right, right
    return floats


def plan(vocabulary, dimension, ratio, order=3):
    """(I, J, R): row modes, column modes, and the largest bond within the budget; modes are as even as they can be, ours.

    Raises
    ------
    DataError
        If the ratio is below 1 or beyond bonds of 1.

    Examples
    --------
    >>> plan(6000, 384, 10)
    ((17, 19, 19), (8, 8, 6), 38)
    """
    t = ceil_root(vocabulary, order)
    rows, columns = (-(-vocabulary // t ** (order - 1)), *[t] * (order - 1)), leaf_sizes(dimension, order)
    sizes = [i * j for i, j in zip(rows, columns)]
    check_ratio(ratio, vocabulary * dimension / train_floats(sizes, 1), f"a tensor train of order {order}")
    low, high, budget = 1, prod(sizes), vocabulary * dimension / ratio
    while low < high:  # floats rise with the bond
        middle = (low + high + 1) // 2
        low, high = (middle, high) if train_floats(sizes, middle) <= budget else (low, middle - 1)
    return rows, columns, low


def fit(matrix, ratio, order=3):
    """Cores by TT-SVD.

    matrix (V, D), order n -> TrainMatrix; errors are those of `plan` and of checks on the matrix.

    Examples
    --------
    >>> E = np.kron([[1., 2.], [0., 1.]], [[1., 3.], [5., 1.]])    # one Kronecker product is a train of bond 1
    >>> kept = fit(E, ratio=2, order=2)
    >>> kept.floats, bool(np.allclose(kept.rows(range(4)), E))
    (8, True)

    Source: arXiv 1901.10787 for the form, Oseledets 2011 for the fit.
    """
    matrix = check_finite("matrix", check_axes("matrix", matrix, None, None))
    rows, columns, rank = plan(*matrix.shape, ratio, order)
    padded = np.zeros((prod(rows), matrix.shape[1]))
    padded[: len(matrix)] = matrix
    axes, sizes = [axis for k in range(order) for axis in (k, order + k)], list(zip(rows, columns))
    tensor = padded.reshape(*rows, *columns).transpose(axes).reshape([i * j for i, j in sizes])  # (I_1 J_1, ..., I_n J_n)
    cores, _ = tt_svd(tensor, rank)
    return TrainMatrix([core.reshape(len(core), i, j, -1) for core, (i, j) in zip(cores, sizes)], len(matrix))
