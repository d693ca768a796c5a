"""LLM-ROM, reduced order modelling: a layer's outputs are projected on their principal components.

    minimise  ||X W^T - X W'^T||^2  over W' = B A,  B (out, r), A (r, in);   r (out + in) parameters

B holds the top eigenvectors of Y^T Y, Y = X W^T, and A = B^T W. Layers are compressed in order, X
being what the layers that are compressed already hand over. With centring the mean of the outputs
is put back by out more parameters, which a layer with a bias has room for anyway: the error is then
the tail of the covariance instead of that of Y^T Y, and never larger.

Source: arXiv 2312.07046. Ours: the largest rank within a ratio, the same for every layer; centring.
"""

import numpy as np

from see_min.related.layers.layer import check_layer, factors
from see_min.related.primitives import whitened_svd
from see_min.storage.budget import check_ratio


def rank_at(shape, ratio, extra=0):
    """The largest r with r (out + in) + extra <= out in / ratio.

    >>> rank_at((576, 192), 2)                                 # 72 * 768 = 55,296 = 576 * 192 / 2
    72
    """
    n_out, n_in = shape
    check_ratio(ratio, n_out * n_in / (n_out + n_in + extra), "factors of this layer")
    rank = int((n_out * n_in / ratio - extra) // (n_out + n_in))
    return max(1, min(rank, n_out, n_in))


def compress(W, calibration, ratio, centre=False):
    """Factors of the layer at a ratio: W (out, in), calibration X (N, in) -> CompressedLayer.

    >>> X = np.array([[1., 0., 0., 0.], [0., 9., 0., 0.]])     # the second input is the large one
    >>> compress(np.eye(4), X, ratio=2).dense().round(12).diagonal()
    array([0., 1., 0., 0.])
    """
    W, X = check_layer(W, calibration, ratio)
    rank = rank_at(W.shape, ratio, extra=len(W) if centre else 0)
    mean = X.mean(axis=0) if centre else np.zeros(W.shape[1])  # (in,)
    centred = X - mean
    B, A = whitened_svd(W, centred.T @ centred, rank)
    return factors(B, A, W @ mean - B @ (A @ mean) if centre else None)
