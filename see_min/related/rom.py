"""LLM-ROM, reduced order modelling: a layer's outputs are projected on their principal components.

    minimise  ||X W^T - X W'^T||^2  over W' = B A,  B (out, r), A (r, in);   r (out + in) floats

B holds the top eigenvectors of Y^T Y, Y = X W^T, and A = B^T W. Layers are compressed in order, X being what the layers that are
compressed already hand over. With centring the mean of the outputs is put back by out more floats, which a layer with a bias has
room for anyway: the error is then the tail of the covariance in place of that of Y^T Y, and never larger.

Source: arXiv 2312.07046. Ours: the largest rank within a ratio, the same for every layer; centring.
"""

from see_min.checks import DataError
from see_min.related.layer import check_layer, factors
from see_min.related.primitives import whitened_svd


def rank_at(shape, ratio, extra=0):
    """The largest r with r (out + in) + extra <= out in / ratio.

    Raises
    ------
    DataError
        If not even r = 1 is within.

    Examples
    --------
    >>> rank_at((576, 192), 2)                                     # 72 * 768 = 55,296 = 576 * 192 / 2
    72
    """
    out, into = shape
    rank = int((out * into / ratio - extra) // (out + into))
    if not (ratio >= 1 and rank >= 1):
        largest = out * into / (out + into + extra)
        raise DataError(f"ratio: expected 1 to {int(10 * largest) / 10:g} for factors of this layer, got {ratio:g}")
    return min(rank, out, into)


def compress(W, calibration, ratio, centre=False):
    """Factors of the layer at a ratio.

    Parameters
    ----------
    W : array (out, in)
    calibration : array (N, in)
        X.
    ratio : float
    centre : bool

    Returns
    -------
    Kept

    Raises
    ------
    ShapeError, DataError
        If shapes do not fit, a number is not finite, or the ratio is out of reach.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1., 0., 0., 0.], [0., 9., 0., 0.]])         # the second input is the large one
    >>> compress(np.eye(4), X, ratio=2).dense().round(12).diagonal()
    array([0., 1., 0., 0.])

    Source: arXiv 2312.07046.
    """
    W, X = check_layer(W, calibration, ratio)
    rank = rank_at(W.shape, ratio, extra=len(W) if centre else 0)
    mean = X.mean(axis=0) * centre  # (in,)
    centred = X - mean
    B, A = whitened_svd(W, centred.T @ centred, rank)
    return factors(B, A, W @ mean - B @ (A @ mean) if centre else None)
