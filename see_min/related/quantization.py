"""Quantization, row-affine and rounded to nearest: a weight becomes one of 2^b values from the least to the largest of its row.

    minimise  |w - (low + step c)|  over c = 0 .. 2^b - 1,  step = (max - min) / (2^b - 1) of the row

Kept are b bits a weight and two floats a row. |w - w'| <= step / 2, and the least and the largest weight of a row are exact. The
calibration inputs play no part: this is what needs no data at all.

Source: one of the four families of the survey, arXiv 2402.05964. Simplified: no groups within rows, no clipping, no error
compensation as GPTQ or AWQ have it.
"""

import numpy as np

from see_min.checks import DataError, check_axes, check_finite
from see_min.related.layer import Kept, check_layer

BITS = (8, 4, 2)


def bits_at(ratio):
    """The most bits b with 32 / b >= ratio; the two floats a row come on top.

    Raises
    ------
    DataError
        If the ratio is below 1 or above 16.

    Examples
    --------
    >>> [bits_at(ratio) for ratio in (2, 4, 8, 16)]
    [8, 8, 4, 2]
    """
    if not 1 <= ratio <= 32 / BITS[-1]:
        raise DataError(f"ratio: expected 1 to {32 // BITS[-1]} for quantization, got {ratio:g}")
    return next(bits for bits in BITS if bits * ratio <= 32)


def quantize(matrix, bits=8):
    """Codes, steps and least values of rows.

    Parameters
    ----------
    matrix : array (m, n)
    bits : int, 1 to 16

    Returns
    -------
    (codes (m, n) of whole numbers, step (m, 1), low (m, 1))

    Raises
    ------
    ShapeError, DataError
        If the matrix is not (m, n) or not finite, or bits are out of range.

    Examples
    --------
    >>> quantize(np.array([[0., 1., 2.2, 3.]]), bits=2)
    (array([[0, 1, 2, 3]], dtype=uint16), array([[1.]]), array([[0.]]))

    Source: arXiv 2402.05964 for the family; a row as the group is ours.
    """
    matrix = check_finite("matrix", check_axes("matrix", matrix, None, None)).astype(float)
    if bits not in range(1, 17):
        raise DataError(f"bits: expected 1 to 16, got {bits}")
    low = matrix.min(axis=1, keepdims=True)  # (m, 1)
    step = (matrix.max(axis=1, keepdims=True) - low) / (2**bits - 1)  # (m, 1)
    codes = np.rint((matrix - low) / np.where(step > 0, step, 1))  # (m, n); rows of one value have the code 0
    return codes.astype(np.uint16), step, low


def compress(W, calibration, ratio):
    """The layer at the most bits within a ratio of 32 (`bits_at`); reach and middle of a row are floats that may be finetuned.

    W (out, in), calibration (N, in), ratio -> Kept; errors are those of `bits_at` and of checks on the arrays.

    Examples
    --------
    >>> kept = compress(np.array([[0., 1., 2.2, 3.]]), np.ones((1, 4)), ratio=16)
    >>> kept.dense(), kept.floats, kept.index_bits
    (array([[0., 1., 2., 3.]]), 2, 8)

    Source: arXiv 2402.05964 for the family.
    """
    bits = bits_at(ratio)
    W, _ = check_layer(W, calibration, 1)
    codes, step, low = quantize(W, bits)
    reach = (2**bits - 1) * step  # max - min: of the size of weights, so that one learning rate suits all
    shares = codes / (2**bits - 1) - 0.5
    return Kept([reach, low + reach / 2], lambda parts, fixed: parts[1] + parts[0] * fixed[0], [shares], bits * W.size)
