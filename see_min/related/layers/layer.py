"""What a layer method keeps of a weight W (out, in), y = x W^T, and how W comes out of it."""

from dataclasses import dataclass, field

import numpy as np

from see_min.related.primitives import check_matrix
from see_min.storage.budget import check_ratio


@dataclass
class CompressedLayer:
    """W (out, in) as reconstruct(parameters, buffers), one formula for numpy arrays and tensors."""

    parameters: list  # arrays that finetuning may move
    reconstruct: object  # callable(parameters, buffers) -> (out, in)
    buffers: list = field(default_factory=list)  # codes and masks, which nothing moves
    index_bits: int = 0  # of the buffers
    count: int | None = None  # parameters kept, if not all entries: a mask knows where zeros are
    shift: np.ndarray | None = None  # (out,), added to the layer's bias

    @property
    def n_parameters(self):
        """Number of parameters kept."""
        return sum(array.size for array in self.parameters) if self.count is None else self.count

    def dense(self):
        """W (out, in)."""
        return self.reconstruct(self.parameters, self.buffers)


def factors(B, A, shift=None):
    """W = B A, B (out, r), A (r, in); a shift counts as out more, as if the layer had had no bias.

    >>> factors(np.ones((3, 1)), np.ones((1, 2))).n_parameters
    5
    """
    count = B.size + A.size + (0 if shift is None else shift.size)
    return CompressedLayer([B, A], lambda p, _: p[0] @ p[1], count=count, shift=shift)


def masked(W, mask, index_bits, shift=None):
    """W where the mask, (out, in) or broadcast to it, is 1, else 0: only the former are kept.

    >>> kept = masked(np.array([[1., 2.]]), np.array([[0, 1]]), index_bits=2)
    >>> kept.dense(), kept.n_parameters
    (array([[0., 2.]]), 1)
    """
    mask = np.broadcast_to(mask, W.shape).astype(float)
    count = int(mask.sum())
    return CompressedLayer([W * mask], lambda p, b: p[0] * b[0], [mask], index_bits, count, shift)


def check_layer(W, calibration, ratio, largest=None):
    """(W (out, in), X (N, in)) as finite floats, else an InputError; ratios end at `largest`."""
    W = check_matrix("W", W)
    X = check_matrix("calibration", calibration, None, W.shape[1])
    check_ratio(ratio, W.size if largest is None else largest, "this layer")
    return W, X
