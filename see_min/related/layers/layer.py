"""What a layer method keeps of a weight W (out, in), y = x W^T, and how W comes out of it."""

from dataclasses import dataclass, field

import numpy as np

from see_min.errors import InputError, check_axes, check_finite


@dataclass
class CompressedLayer:
    """W as reconstruct(parameters, buffers), one formula for numpy arrays and for tensors.

    Attributes
    ----------
    parameters : list of arrays
        What finetuning may move.
    reconstruct : callable(parameters, buffers) -> (out, in)
    buffers : list of arrays
        Codes and masks, which nothing moves.
    index_bits : int
        Of the buffers.
    count : int, optional
        Parameters kept, if other than all entries: a mask knows where zeros are.
    shift : array (out,), optional
        What is added to the layer's bias.
    """

    parameters: list
    reconstruct: object
    buffers: list = field(default_factory=list)
    index_bits: int = 0
    count: int | None = None
    shift: np.ndarray | None = None

    @property
    def n_parameters(self):
        """Number of parameters kept."""
        return sum(array.size for array in self.parameters) if self.count is None else self.count

    def dense(self):
        """W (out, in)."""
        return self.reconstruct(self.parameters, self.buffers)


def factors(B, A, shift=None):
    """W = B A, B (out, r), A (r, in); a shift counts as out more, as if the layer had had no bias.

    Examples
    --------
    >>> factors(np.ones((3, 1)), np.ones((1, 2))).n_parameters
    5
    """
    count = B.size + A.size + (0 if shift is None else shift.size)
    return CompressedLayer([B, A], lambda p, _: p[0] @ p[1], count=count, shift=shift)


def masked(W, mask, index_bits, shift=None):
    """W where the mask, (out, in) or broadcast to it, is 1, else 0: only the former are kept.

    Examples
    --------
    >>> kept = masked(np.array([[1., 2.]]), np.array([[0, 1]]), index_bits=2)
    >>> kept.dense(), kept.n_parameters
    (array([[0., 2.]]), 1)
    """
    mask = np.broadcast_to(mask, W.shape).astype(float)
    count = int(mask.sum())
    return CompressedLayer([W * mask], lambda p, b: p[0] * b[0], [mask], index_bits, count, shift)


def check_layer(W, calibration, ratio, largest=None):
    """(W, X) as arrays of floats, if they fit together and the form can reach the ratio.

    Raises
    ------
    InputError
        If W is not (out, in), calibration not (N, in), a number not finite, or the ratio too large.
    """
    W = check_finite("W", check_axes("W", W, None, None)).astype(float)
    X = check_axes("calibration", calibration, None, W.shape[1])
    check_reach(ratio, W.size if largest is None else largest, "this layer")
    return W, check_finite("calibration", X).astype(float)


def check_reach(ratio, largest, what):
    """Refuse a ratio (or NaN) that is not in 1 to `largest`, which the text states rounded down."""
    if not 1 <= ratio <= largest:
        rule = f"expected 1 to {int(10 * largest) / 10:g} for {what}"
        raise InputError(f"ratio: {rule}, got {ratio:g}")
