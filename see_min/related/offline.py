"""Revisiting Offline Compression: the rows of all layers' matrices through one small nonlinear autoencoder, lengths kept apart.

    minimise  0.9091 mean_w (1 - cos(x_w, y_w)) + 0.0909 sqrt(mean (x_w - y_w)^2),   y_w = ||x_w|| z_w / ||z_w||,
    z_w = tanh(W_3 s(W_2 s(W_1 c_w))),   s = LeakyReLU,  widths c -> 2c -> 4c -> m

Matrices of one kind from all layers are stacked, n rows of m; an embedding matrix is the case of one. Kept are the codes (n, c),
one length a row, and the decoder: n c + n + 10 c^2 + (6 + 4 m) c + m floats, a quadratic from which c follows. The encoder
(m -> 8c -> 4c -> c) is thrown away.

Source: arXiv 2302.04045. Ours: biases, 3,000 steps of Adam at 1e-3 on 256 rows, which are scaled to a mean square of 1.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from see_min.budget import check_ratio
from see_min.checks import check_axes, check_finite, check_ids
from see_min.related.autoencoder import decode, train

BATCH = 256  # rows a step


@dataclass
class NormKept:
    """Rows (n, m) as codes (n, c), lengths (n,) and a decoder, a list of (weight, bias)."""

    codes: np.ndarray
    lengths: np.ndarray
    decoder: list
    index_bytes = 0

    @property
    def shape(self):
        """(n, m)."""
        return len(self.codes), len(self.decoder[-1][1])

    @property
    def floats(self):
        """n c + n + those of the decoder."""
        return self.codes.size + self.lengths.size + sum(array.size for layer in self.decoder for array in layer)

    def rows(self, ids):
        """Rows, ids (...) -> (..., m), each of the length that was kept; a DataError if an id is not in 0 .. n - 1."""
        ids = check_ids("ids", ids, len(self.codes))
        z = np.tanh(decode(self.codes[ids.reshape(-1)], self.decoder))  # (W, m)
        sizes = np.linalg.norm(z, axis=1)  # (W,)
        z *= (self.lengths[ids.reshape(-1)] / np.where(sizes > 0, sizes, 1))[:, None]
        return z.reshape(*ids.shape, z.shape[1])


def decoder_floats(c, m):
    """Floats of c -> 2c -> 4c -> m with biases: 10 c^2 + (6 + 4 m) c + m.

    Examples
    --------
    >>> decoder_floats(1, 3)                                       # (1 + 1) 2 + (2 + 1) 4 + (4 + 1) 3
    31
    """
    return 10 * c * c + (6 + 4 * m) * c + m


def plan(rows, dimension, ratio):
    """The largest c with 10 c^2 + (6 + 4 m + n) c + m + n <= n m / ratio.

    Raises
    ------
    DataError
        If the ratio is below 1 or beyond c = 1.

    Examples
    --------
    >>> plan(6000, 384, 10), 6000 * 28 + 6000 + decoder_floats(28, 384)
    (28, 225400)
    """
    dense = rows * dimension
    check_ratio(ratio, dense / (2 * rows + decoder_floats(1, dimension)), "the offline autoencoder")
    b, rest = 6 + 4 * dimension + rows, dense / ratio - dimension - rows
    return max(1, int((-b + sqrt(b * b + 40 * rest)) / 20))


def fit(matrix, ratio, seed=0, steps=3000):
    """Train the autoencoder on the rows of a matrix, or of several on top of each other (`numpy.concatenate`).

    Parameters
    ----------
    matrix : array (n, m)
    ratio : float
    seed, steps : int

    Returns
    -------
    NormKept

    Raises
    ------
    ShapeError, DataError
        If matrix is not (n, m) or not finite, the ratio out of reach, or PyTorch not installed.

    Source: arXiv 2302.04045.
    """
    matrix = check_finite("matrix", check_axes("matrix", matrix, None, None)).astype(float)
    c = plan(*matrix.shape, ratio)
    scale = sqrt((matrix**2).mean()) or 1.0

    def loss(x, z, epoch):
        z = z.tanh()
        cosines = (x * z).sum(1) / (x.norm(dim=1) * z.norm(dim=1) + 1e-12)
        y = z * (x.norm(dim=1) / (z.norm(dim=1) + 1e-12))[:, None]
        return 0.9091 * (1 - cosines).mean() + 0.0909 * ((x - y) ** 2).mean().add(1e-12).sqrt()

    epochs = -(-steps // -(-len(matrix) // BATCH))  # whole passes over the rows
    codes, decoder = train(matrix / scale, (8 * c, 4 * c, c), (2 * c, 4 * c), loss, seed, epochs, BATCH)
    return NormKept(codes, np.linalg.norm(matrix, axis=1), decoder)
