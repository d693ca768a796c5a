"""CSformer, its linear stem: an image is measured block by block, y = Phi x, and rebuilt linearly.

    minimise  sum over blocks ||x - R Phi x||^2,  x (256,) a block of 16 x 16,  Phi (n, 256);
    n parameters per block instead of 256

With a learned Phi the best are principal components, R = Phi^T, and the error is the tail of the
eigenvalues of C = sum x x^T. With a fixed random Phi the best R is C Phi^T (Phi C Phi^T)^-1
(LMMSE), and what is missed is orthogonal to the measurements. The stems behind it, a CNN and a
transformer, are in `see_min.related.layers.csformer_net`.

Source: arXiv 2112.15299. Ours: closed forms instead of training, and to read a weight matrix as an
image: `compress` keeps Phi and the measurements of all 16 x 16 blocks of W, n (B + 256) parameters,
which is the nearest sum of n Kronecker products.
"""

import numpy as np

from see_min.errors import InputError
from see_min.related.layers.layer import check_layer, factors
from see_min.related.primitives import rearrange, truncated_svd, whitened_svd

SIDE = 16  # of a block


def measurements(share):
    """n of a block for a share of its 256 numbers, above 0 and at most 1, rounded up.

    >>> [measurements(percent / 100) for percent in (1, 4, 10, 25, 50)]    # those of the paper
    [3, 11, 26, 64, 128]
    """
    if not 0 < share <= 1:
        raise InputError(f"share: expected above 0 and at most 1, got {share}")
    return int(np.ceil(SIDE**2 * share - 1e-9))


def blocks(image):
    """(H, W) -> (B, 256), H and W multiples of 16, else an InputError."""
    if np.ndim(image) != 2 or image.shape[0] % SIDE or image.shape[1] % SIDE:
        raise InputError(f"image: expected two axes of multiples of {SIDE}, got {np.shape(image)}")
    return rearrange(image, (len(image) // SIDE, SIDE), (image.shape[1] // SIDE, SIDE))


def unblock(rows, shape):
    """What `blocks` took apart: (B, 256) -> (H, W); arrays and tensors alike."""
    cells = rows.reshape(shape[0] // SIDE, shape[1] // SIDE, SIDE, SIDE)  # (H/16, W/16, 16, 16)
    return cells.swapaxes(1, 2).reshape(shape)


def learned(C, n):
    """Phi (n, 256) with orthonormal rows and the least error, for blocks with second moment C."""
    return whitened_svd(np.eye(len(C)), C, n)[1]


def lmmse(Phi, C):
    """R (256, n) with the least sum ||x - R Phi x||^2 for a Phi that is given."""
    return np.linalg.lstsq(Phi @ C @ Phi.T, Phi @ C, rcond=None)[0].T


def compress(W, calibration, ratio):
    """A weight matrix as an image: Phi, and n measurements of each block, whatever the inputs."""
    rows = blocks(np.asarray(W))  # (B, 256)
    W, _ = check_layer(W, calibration, ratio, np.size(W) / sum(rows.shape))
    n = min(*rows.shape, int(W.size / ratio / sum(rows.shape)))
    kept = factors(*truncated_svd(rows, n))  # y (B, n), Phi (n, 256)
    kept.reconstruct = lambda p, _: unblock(p[0] @ p[1], W.shape)
    return kept
