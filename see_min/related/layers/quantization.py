"""Quantization to nearest: a weight becomes one of 2^b values between the ends of its row.

    minimise  |w - (low + step c)|  over c = 0 .. 2^b - 1,  step = (max - min) / (2^b - 1) of a row

Kept are b bits per weight and two parameters per row. |w - w'| <= step / 2, and the least and the
largest weight of a row are exact. The calibration inputs play no part: this is what needs no data.

Source: one of the four families of the survey, arXiv 2402.05964; a row as the group is ours.
Simplified: no groups within rows, no clipping, no error compensation as GPTQ or AWQ have it.
"""

import numpy as np

from see_min.errors import InputError
from see_min.related.layers.layer import CompressedLayer, check_layer
from see_min.related.primitives import check_matrix
from see_min.storage.budget import check_ratio

BITS = (8, 4, 2)


def quantize(matrix, bits=8):
    """Codes (m, n) of whole numbers, steps (m, 1) and least values (m, 1) of the rows of a matrix.

    Bits are 1 to 16, else an InputError.

    >>> quantize(np.array([[0., 1., 2.2, 3.]]), bits=2)
    (array([[0, 1, 2, 3]], dtype=uint16), array([[1.]]), array([[0.]]))
    """
    matrix = check_matrix("matrix", matrix)
    if bits not in range(1, 17):
        raise InputError(f"bits: expected 1 to 16, got {bits}")
    low = matrix.min(axis=1, keepdims=True)  # (m, 1)
    step = (matrix.max(axis=1, keepdims=True) - low) / (2**bits - 1)  # (m, 1)
    codes = np.rint((matrix - low) / np.where(step > 0, step, 1))  # (m, n); 0 in constant rows
    return codes.astype(np.uint16), step, low


def compress(W, calibration, ratio):
    """The layer at the most bits b with 32 / b >= ratio; two parameters per row come on top.

    These are the reach and the middle of a row, and may move.

    >>> kept = compress(np.array([[0., 1., 2.2, 3.]]), np.ones((1, 4)), ratio=16)
    >>> kept.dense(), kept.n_parameters, kept.index_bits
    (array([[0., 1., 2., 3.]]), 2, 8)
    """
    check_ratio(ratio, 32 / BITS[-1], "quantization")
    bits = next(bits for bits in BITS if bits * ratio <= 32)
    W, _ = check_layer(W, calibration, 1)
    codes, step, low = quantize(W, bits)
    reach = (2**bits - 1) * step  # (out, 1), max - min: as large as weights, for one learning rate
    middle = low + reach / 2  # (out, 1)
    shares = codes / (2**bits - 1) - 0.5  # (out, in), -1/2 to 1/2
    parts = [reach, middle]
    return CompressedLayer(parts, lambda p, b: p[1] + p[0] * b[0], [shares], bits * W.size)
