"""Offline compression: rows of all layers through one autoencoder, lengths kept apart.

    minimise  0.9091 mean_w (1 - cos(x_w, y_w)) + 0.0909 sqrt(mean (x_w - y_w)^2),
    y_w = ||x_w|| z_w / ||z_w||,   z_w = tanh(W_3 s(W_2 s(W_1 c_w)))

with s = LeakyReLU and widths c -> 2c -> 4c -> m. Matrices of one kind from all layers are stacked,
n rows of m; an embedding matrix is the case of one. Kept are the codes (n, c), one length per row,
and the decoder: n c + n + 10 c^2 + (6 + 4 m) c + m parameters, a quadratic from which c follows.
The encoder (m -> 8c -> 4c -> c) is thrown away.

Source: arXiv 2302.04045. Ours: biases, 3,000 steps of Adam at 1e-3 on 256 rows scaled to a mean
square of 1.
"""

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from see_min.errors import check_ids
from see_min.related.autoencoder import Decoded, train
from see_min.related.primitives import check_matrix
from see_min.storage.budget import check_ratio

BATCH_SIZE = 256


@dataclass
class LengthsKept(Decoded):
    """Rows (n, m) as codes (n, c), a decoder, and lengths (n,) that rows are scaled to."""

    lengths: np.ndarray

    @property
    def parameters(self):
        """n c + n + those of the decoder."""
        return super().parameters + self.lengths.size

    def rows(self, ids):
        """Rows, ids (...) -> (..., m), each of the length that was kept."""
        ids = check_ids("ids", ids, len(self.codes))
        z = np.tanh(super().rows(ids))  # (..., m)
        norms = np.linalg.norm(z, axis=-1)  # (...)
        return z * (self.lengths[ids] / np.where(norms > 0, norms, 1))[..., None]


def decoder_parameters(c, m):
    """Those of c -> 2c -> 4c -> m with biases: 10 c^2 + (6 + 4 m) c + m.

    >>> decoder_parameters(1, 3)                               # (1 + 1) 2 + (2 + 1) 4 + (4 + 1) 3
    31
    """
    return 10 * c * c + (6 + 4 * m) * c + m


def plan(rows, dimension, ratio):
    """The largest c with 10 c^2 + (6 + 4 m + n) c + m + n <= n m / ratio.

    >>> plan(6000, 384, 10), 6000 * 28 + 6000 + decoder_parameters(28, 384)
    (28, 225400)
    """
    dense = rows * dimension
    largest = dense / (2 * rows + decoder_parameters(1, dimension))
    check_ratio(ratio, largest, "the offline autoencoder")
    b, rest = 6 + 4 * dimension + rows, dense / ratio - dimension - rows
    return max(1, int((-b + sqrt(b * b + 40 * rest)) / 20))


def fit(matrix, ratio, seed=0, steps=3000):
    """Train on the rows of a matrix (n, m), or of several (`numpy.concatenate`) -> LengthsKept."""
    matrix = check_matrix("matrix", matrix)
    c = plan(*matrix.shape, ratio)
    scale = sqrt((matrix**2).mean()) or 1.0
    epochs = ceil(steps / ceil(len(matrix) / BATCH_SIZE))  # whole passes over the rows
    down, up = (8 * c, 4 * c, c), (2 * c, 4 * c)
    kept = train(matrix / scale, down, up, offline_loss, seed, epochs, BATCH_SIZE)
    return LengthsKept(*kept, np.linalg.norm(matrix, axis=1))


def offline_loss(x, z, epoch=0):
    """The objective of tensors x (W, m) and z (W, m) before the tanh."""
    z = z.tanh()
    lengths, norms = x.norm(dim=1), z.norm(dim=1) + 1e-12  # (W,)
    cosines = (x * z).sum(1) / (lengths * norms + 1e-12)  # (W,)
    y = z * (lengths / norms)[:, None]  # (W, m)
    return 0.9091 * (1 - cosines).mean() + 0.0909 * ((x - y) ** 2).mean().add(1e-12).sqrt()
