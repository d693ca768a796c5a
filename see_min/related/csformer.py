"""CSformer, its linear stem: an image is measured block by block, y = Phi x, and first rebuilt by one linear map of y.

    minimise  sum over blocks ||x - R Phi x||^2,  x (256,) a block of 16 x 16,  Phi (n, 256);   n floats a block instead of 256

With a learned Phi the best are principal components, R = Phi^T, and the error is the tail of the eigenvalues of C = sum x x^T.
With a fixed random Phi the best R is C Phi^T (Phi C Phi^T)^-1 (LMMSE), and what is missed is orthogonal to the measurements.
The stems behind it, a CNN and a transformer, are in `see_min.related.csformer_net`.

Source: arXiv 2112.15299. Ours: closed forms in place of training, and to read a weight matrix as an image: `compress` keeps Phi
and the measurements of all 16 x 16 blocks of W, n (B + 256) floats, which is the nearest sum of n Kronecker products.
"""

import numpy as np

from see_min.checks import DataError, ShapeError
from see_min.related.layer import Kept, check_layer
from see_min.related.primitives import rearrange, truncated_svd, whitened_svd

SIDE = 16  # of a block


def measurements(share):
    """n of a block for a share of its 256 numbers, rounded up.

    Examples
    --------
    >>> [measurements(percent / 100) for percent in (1, 4, 10, 25, 50)]
    [3, 11, 26, 64, 128]

    Source: arXiv 2112.15299.
    """
    if not 0 < share <= 1:
        raise DataError(f"share: expected above 0 and at most 1, got {share}")
    return int(np.ceil(SIDE**2 * share - 1e-9))


def sample_image():
    """The photograph of Grace Hopper that matplotlib brings along, in grey, cut to whole blocks: (592, 512), 0 to 1."""
    from matplotlib.cbook import get_sample_data
    from matplotlib.image import imread

    with get_sample_data("grace_hopper.jpg") as file:
        image = imread(file, format="jpg") @ [0.299, 0.587, 0.114] / 255  # (600, 512)
    return image[: len(image) // SIDE * SIDE, : image.shape[1] // SIDE * SIDE]


def blocks(image):
    """(H, W) -> (B, 256), H and W multiples of 16."""
    if np.ndim(image) != 2 or image.shape[0] % SIDE or image.shape[1] % SIDE:
        raise ShapeError(f"image: expected two axes of multiples of {SIDE}, got {np.shape(image)}")
    return rearrange(image, (len(image) // SIDE, SIDE), (image.shape[1] // SIDE, SIDE))


def unblock(rows, shape):
    """What `blocks` took apart: (B, 256) -> (H, W); arrays and tensors alike."""
    return rows.reshape(shape[0] // SIDE, shape[1] // SIDE, SIDE, SIDE).swapaxes(1, 2).reshape(shape)


def learned(C, n):
    """Phi (n, 256) with the least error of all, its rows orthonormal, for blocks with the second moment C."""
    return whitened_svd(np.eye(len(C)), C, n)[1]


def lmmse(Phi, C):
    """R (256, n) with the least sum ||x - R Phi x||^2 for a Phi that is given."""
    return np.linalg.lstsq(Phi @ C @ Phi.T, Phi @ C, rcond=None)[0].T


def psnr(image, other):
    """10 log10 (1 / mean squared error) in dB, of images between 0 and 1.

    Examples
    --------
    >>> round(psnr(np.zeros((2, 2)), np.full((2, 2), 0.1)), 9)
    20.0
    """
    return float(-10 * np.log10(np.mean((image - other) ** 2)))


def compress(W, calibration, ratio):
    """A weight matrix as an image: Phi, and n measurements of each block; the calibration inputs play no part.

    W (out, in) with multiples of 16, calibration (N, in), ratio -> Kept; errors are those of `blocks` and of checks.

    Source: ours.
    """
    rows = blocks(np.asarray(W))  # (B, 256)
    W, _ = check_layer(W, calibration, ratio, np.size(W) / sum(rows.shape))
    y, Phi = truncated_svd(rows, min(*rows.shape, int(W.size / ratio / sum(rows.shape))))  # (B, n), (n, 256)
    return Kept([y, Phi], lambda parts, fixed: unblock(parts[0] @ parts[1], W.shape))
