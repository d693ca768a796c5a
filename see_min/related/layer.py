"""What a layer method keeps of a weight W (out, in), y = x W^T: floats, what stands still, and how W comes out of both."""

from dataclasses import dataclass, field

import numpy as np

from see_min.checks import DataError, ShapeError, check_axes, check_finite


@dataclass
class Kept:
    """W as build(parts, fixed), one formula for numpy arrays and for tensors.

    Attributes
    ----------
    parts : list of arrays
        Floats that finetuning may move.
    build : callable(parts, fixed) -> (out, in)
    fixed : list of arrays
        Codes and masks, which nothing moves.
    index_bits : int
        Of what is fixed.
    count : int, optional
        Floats kept, if parts has another number of entries: a mask knows where zeros are.
    shift : array (out,), optional
        What is added to the layer's bias.
    """

    parts: list
    build: object
    fixed: list = field(default_factory=list)
    index_bits: int = 0
    count: int | None = None
    shift: np.ndarray | None = None

    @property
    def floats(self):
        """Floats kept."""
        return sum(part.size for part in self.parts) if self.count is None else self.count

    def dense(self):
        """W (out, in)."""
        return self.build(self.parts, self.fixed)


def factors(B, A, shift=None):
    """W = B A, B (out, r), A (r, in); a shift counts as out floats more, as if the layer had had no bias.

    Examples
    --------
    >>> factors(np.ones((3, 1)), np.ones((1, 2))).floats
    5
    """
    count = B.size + A.size + (0 if shift is None else shift.size)
    return Kept([B, A], lambda parts, fixed: parts[0] @ parts[1], count=count, shift=shift)


def masked(W, mask, index_bits, shift=None):
    """W where the mask (out, in), or one that broadcasts to it, is 1, else 0: only the former are floats kept.

    Examples
    --------
    >>> kept = masked(np.array([[1., 2.]]), np.array([[0, 1]]), index_bits=2)
    >>> kept.dense(), kept.floats
    (array([[0., 2.]]), 1)
    """
    mask = np.broadcast_to(mask, W.shape).astype(float)
    return Kept([W * mask], lambda parts, fixed: parts[0] * fixed[0], [mask], index_bits, int(mask.sum()), shift)


def check_layer(W, calibration, ratio, largest=None):
    """(W, X) as arrays of floats, if they fit together and the ratio is one that the form can reach.

    Raises
    ------
    ShapeError
        If W is not (out, in), or the calibration inputs are not (N, in).
    DataError
        If a number is not finite, or the ratio not in 1 to `largest`.
    """
    W = check_finite("W", check_axes("W", W, None, None)).astype(float)
    X = check_finite("calibration", check_axes("calibration", calibration, None, W.shape[1])).astype(float)
    largest = W.size if largest is None else largest
    if not 1 <= ratio <= largest:
        raise DataError(f"ratio: expected 1 to {int(10 * largest) / 10:g} for this layer, got {ratio:g}")
    return W, X


def cut(W, size):
    """The weights in blocks of `size` neighbours: (out, in) -> (out in / size, size).

    Raises
    ------
    ShapeError
        If they cannot be cut so.

    Examples
    --------
    >>> cut(np.arange(4.).reshape(2, 2), 2)
    array([[0., 1.],
           [2., 3.]])
    """
    if W.size % size:
        raise ShapeError(f"W: expected a multiple of {size} weights, got {W.size}")
    return W.reshape(-1, size)
