"""Truncated SVD of the embedding matrix, plain and weighted: what all else has to beat.

    minimise  sum_w f_w ||E0[w] - E[w]||^2  over E = A B,  A (V, r), B (r, D)
    V r + r D parameters

f = 1 is the truncated SVD. With the frequencies of words as f the tokens of a text are rebuilt
best, not the rows of the table. The rank is rounded up (`storage.budget.low_rank`), so that what is
compared with it never has more parameters.

Source: Eckart and Young 1936. Ours: nothing but the weights, and the rounding.
"""

import numpy as np

from see_min.errors import check_axes, check_shape
from see_min.fitting.least_squares import low_rank_encoding
from see_min.storage.budget import low_rank as plan  # the rank at a ratio


def fit(matrix, ratio, weights=None):
    """The best factors at a ratio, as a SememeEncoding: every word its own unit, and a projection.

    The matrix (V, D) may be a memory map; weights f (V,) are ones when left out.

    >>> E = np.outer([1., 2., 3., 4.], [1., 0., 2.])           # rank 1: (4 + 3) of 12 numbers
    >>> kept = fit(E, ratio=12 / 7)
    >>> kept.parameters, kept.index_bytes, bool(np.allclose(kept.rows(range(4)), E))
    (7, 0, True)
    """
    matrix = check_shape("matrix", matrix, None, None)
    weights = np.ones(len(matrix)) if weights is None else weights
    check_axes("weights", weights, len(matrix))
    return low_rank_encoding(matrix, weights, plan(*matrix.shape, ratio))
