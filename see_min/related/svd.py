"""Truncated SVD of the embedding matrix, plain and weighted by frequency: what every other method has to beat.

    minimise  sum_w f_w ||E0[w] - E[w]||^2  over E = A B,  A (V, r), B (r, D);   V r + r D floats

f = 1 is the truncated SVD. With the frequencies of words as f the tokens of a text are rebuilt best, not the rows of the table.
The rank is rounded up (`see_min.budget.low_rank`), so that what is compared with it never has more floats.

Source: Eckart and Young 1936. Ours: nothing but the weights, and the rounding.
"""

import numpy as np

from see_min.als import BLOCK, row_blocks
from see_min.budget import low_rank as plan  # the rank at a ratio
from see_min.checks import check_axes
from see_min.fit import low_rank_encoding


def fit(matrix, ratio, weights=None):
    """The best factors at a ratio.

    Parameters
    ----------
    matrix : array (V, D)
        E0; it may be a memory map.
    ratio : float
    weights : array (V,), optional
        f_w, ones when left out: the plain truncated SVD.

    Returns
    -------
    SememeEncoding
        One unit a word and a carrier; no index has to be kept.

    Raises
    ------
    ShapeError
        If matrix is not (V, D), or weights not (V,).
    DataError
        If the ratio is beyond the reach of factors.

    Examples
    --------
    >>> E = np.outer([1., 2., 3., 4.], [1., 0., 2.])              # rank 1: (4 + 3) of 12 floats
    >>> kept = fit(E, ratio=12 / 7)
    >>> kept.floats, kept.index_bytes, bool(np.allclose(kept.rows(range(4)), E))
    (7, 0, True)

    Source: Eckart and Young 1936.
    """
    matrix = check_axes("matrix", matrix, None, None)
    weights = np.ones(len(matrix)) if weights is None else check_axes("weights", weights, len(matrix))
    return low_rank_encoding(matrix, weights, plan(*matrix.shape, ratio))


def errors(matrix, weights=None):
    """The least relative error of every rank at once: sum_{i > r} lambda_i / sum_i lambda_i, lambda of E0^T F E0.

    Parameters
    ----------
    matrix : array (V, D)
    weights : array (V,), optional

    Returns
    -------
    array (D + 1,), for r = 0 .. D; it falls from 1 to 0. A matrix of zeros has no error at all.

    Examples
    --------
    >>> errors(np.diag([3., 1.])).round(12)
    array([1. , 0.1, 0. ])

    Source: Eckart and Young 1936.
    """
    matrix = check_axes("matrix", matrix, None, None)
    weights = np.ones(len(matrix)) if weights is None else check_axes("weights", weights, len(matrix))
    gram = np.zeros((matrix.shape[1], matrix.shape[1]))  # (D, D)
    for block in row_blocks(len(matrix), BLOCK):
        rows = np.sqrt(weights[block, None]) * np.asarray(matrix[block], dtype=float)  # (W, D)
        gram += rows.T @ rows
    values = np.maximum(np.linalg.eigvalsh(gram), 0)  # (D,), ascending
    tails = np.concatenate([[0.0], np.cumsum(values)])[::-1]  # (D + 1,)
    return tails / (tails[0] or 1.0)
