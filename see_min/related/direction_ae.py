"""Direction is what you need: rows through a bottleneck, trained for their direction.

    minimise  (0.9975 / 5) mean_w (1 - cos(x_w, y_w)) + 0.0025 mean |x_w - y_w|^a,   y_w = B c_w + b

with c_w = A x_w + a_0. Kept are the codes c_w (V, k), B and b: V k + k D + D parameters. The power
a falls from 1 to 0.1 over 20 epochs; Adam takes 32 rows per step and begins at 1e-3, halved every 4
epochs. Nothing but the small second term ties the lengths of rows: their directions come back,
their lengths may not, and the relative error may then exceed 1.

Source: arXiv 2106.08181. Ours: layers without an activation, equal steps of a, PyTorch's own start.
"""

from dataclasses import dataclass

import numpy as np

from see_min.budget import check_ratio
from see_min.errors import check_axes, check_finite, check_ids
from see_min.related.autoencoder import train


@dataclass
class Decoded:
    """E (V, D) as codes (V, k), weight (k, D) and bias (D,): E[w] = codes[w] @ weight + bias."""

    codes: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    index_bytes = 0

    @property
    def shape(self):
        """(V, D)."""
        return len(self.codes), len(self.bias)

    @property
    def parameters(self):
        """V k + k D + D."""
        return self.codes.size + self.weight.size + self.bias.size

    def rows(self, ids):
        """Embeddings of words, ids (...) -> (..., D)."""
        return self.codes[check_ids("ids", ids, len(self.codes))] @ self.weight + self.bias


def plan(vocabulary, dimension, ratio):
    """The largest k with V k + k D + D <= V D / ratio.

    Examples
    --------
    >>> plan(6000, 384, 10)                                 # 36 * 6384 + 384 = 230,208 of 230,400
    36
    """
    dense = vocabulary * dimension
    check_ratio(ratio, dense / (vocabulary + 2 * dimension), "a bottleneck")
    return min(dimension, max(1, int((dense / ratio - dimension) / (vocabulary + dimension))))


def fit(matrix, ratio, seed=0, epochs=20):
    """Train, and keep codes and decoder: matrix (V, D) -> Decoded.
    """
    matrix = check_finite("matrix", check_axes("matrix", matrix, None, None))
    k = plan(*matrix.shape, ratio)

    def loss(x, y, epoch):
        return direction_loss(x, y, 1 - 0.9 * epoch / max(1, epochs - 1))

    codes, [(weight, bias)] = train(matrix, (k,), (), loss, seed, epochs, batch_size=32, halve=4)
    return Decoded(codes, weight, bias)


def direction_loss(x, y, power):
    """(0.9975 / 5) mean_w (1 - cos(x_w, y_w)) + 0.0025 mean |x - y|^a of rows (W, D).

    In numpy or torch. 1e-8 is added where the slope of |.|^a has no bound.

    Examples
    --------
    >>> x = np.array([[3.0, 4.0]])
    >>> round(float(direction_loss(x, 2 * x, 1.0)), 6)         # 0.0025 * (3 + 4) / 2
    0.00875
    """
    lengths = ((x * x).sum(1) * (y * y).sum(1)) ** 0.5  # (W,)
    cosines = (x * y).sum(1) / (lengths + 1e-12)  # (W,)
    return 0.9975 / 5 * (1 - cosines).mean() + 0.0025 * ((abs(x - y) + 1e-8) ** power).mean()
