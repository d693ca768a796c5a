"""Direction is what you need: rows through a bottleneck, trained for their direction.

    minimise  (0.9975 / 5) mean_w (1 - cos(x_w, y_w)) + 0.0025 mean |x_w - y_w|^a,   y_w = B c_w + b

with c_w = A x_w + a_0. Kept are the codes c_w (V, k), B and b: V k + k D + D parameters. The power
a falls from 1 to 0.1 over 20 epochs; Adam takes 32 rows per step and begins at 1e-3, halved every 4
epochs. Nothing but the small second term ties the lengths of rows: their directions come back,
their lengths may not, and the relative error may then exceed 1.

Source: arXiv 2106.08181. Ours: layers without an activation, equal steps of a, PyTorch's own start.
"""

from see_min.related.autoencoder import Decoded, train
from see_min.related.primitives import check_matrix
from see_min.storage.budget import check_ratio


def plan(vocabulary, dimension, ratio):
    """The largest k with V k + k D + D <= V D / ratio.

    >>> plan(6000, 384, 10)                                 # 36 * 6384 + 384 = 230,208 of 230,400
    36
    """
    dense = vocabulary * dimension
    check_ratio(ratio, dense / (vocabulary + 2 * dimension), "a bottleneck")
    return min(dimension, max(1, int((dense / ratio - dimension) / (vocabulary + dimension))))


def fit(matrix, ratio, seed=0, epochs=20):
    """Train, and keep codes and decoder: matrix (V, D) -> Decoded."""
    matrix = check_matrix("matrix", matrix)
    k = plan(*matrix.shape, ratio)

    def loss(x, y, epoch):
        return direction_loss(x, y, 1 - 0.9 * epoch / max(1, epochs - 1))

    return Decoded(*train(matrix, (k,), (), loss, seed, epochs, batch_size=32, halve=4))


def direction_loss(x, y, power):
    """The objective for rows x, y (W, D) and a power a, in numpy or torch.

    1e-8 is added where the slope of |.|^a has no bound.

    >>> import numpy as np
    >>> x = np.array([[3.0, 4.0]])
    >>> round(float(direction_loss(x, 2 * x, 1.0)), 6)         # 0.0025 * (3 + 4) / 2
    0.00875
    """
    lengths = ((x * x).sum(1) * (y * y).sum(1)) ** 0.5  # (W,)
    cosines = (x * y).sum(1) / (lengths + 1e-12)  # (W,)
    return 0.9975 / 5 * (1 - cosines).mean() + 0.0025 * ((abs(x - y) + 1e-8) ** power).mean()
