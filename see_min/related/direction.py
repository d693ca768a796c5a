"""Direction in closed form: the best subspace, and codes that keep lengths.

    maximise  sum_w cos(x_w, P^T P x_w)^2  over P (k, D) with P P^T = I,
    E[w] = ||x_w|| P^T P x_w / ||P x_w||

x_w are the rows of E0. The best P holds the top right singular vectors of the rows divided by their
lengths. Since P keeps lengths, a code as long as its row keeps the length of the row at no cost: V
k + k D parameters, as many as factors of rank k.

Source: arXiv 2106.08181 for the aim (`see_min.related.direction_ae` trains it). Ours: the closed
form. The error of a row is 2 ||x||^2 (1 - cos): more than that of the shorter P^T P x, because the
lost length is put back in a direction slightly off.
"""

from dataclasses import replace

import numpy as np

from see_min.fitting.least_squares import low_rank_encoding
from see_min.related.primitives import check_matrix
from see_min.storage.budget import check_ratio


def plan(vocabulary, dimension, ratio):
    """The largest k with (V + D) k <= V D / ratio.

    >>> plan(6000, 384, 10)                                    # 36 * 6384 = 229,824 of 230,400
    36
    """
    largest = vocabulary * dimension / (vocabulary + dimension)
    check_ratio(ratio, largest, "a subspace of directions")
    return max(1, int(largest / ratio))


def fit(matrix, ratio):
    """Codes and subspace, as a SememeEncoding with a projection; rows of zeros stay so.

    >>> E = np.array([[3., 4., 0.], [30., 40., 1.], [0.3, 0.4, 0.]] * 4)
    >>> np.linalg.norm(fit(E, ratio=2).rows([0, 1]), axis=1).round(2)  # sqrt(2501)
    array([ 5.  , 50.01])
    """
    matrix = check_matrix("matrix", matrix)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)  # (V, 1)
    directions = matrix / np.where(lengths > 0, lengths, 1)  # (V, D)
    kept = low_rank_encoding(directions, np.ones(len(matrix)), plan(*matrix.shape, ratio))
    codes = kept.tables[0][:, 0]  # (V, k)
    cosines = np.linalg.norm(codes, axis=1, keepdims=True)  # (V, 1), ||P x_w|| / ||x_w||
    codes = codes * lengths / np.where(cosines > 0, cosines, 1)  # (V, k)
    return replace(kept, tables=[codes[:, None]])  # (V, 1, k)
