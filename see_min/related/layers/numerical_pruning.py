"""Numerical pruning: which channels can go, from one Newton step, and what others take over.

    minimise  sum_i ||X W_i - X (M o W_i)||^2 = (1 - z)^T A (1 - z),  A = C o W^T W,
    over z with sum z = k

z is relaxed to real numbers and the sum is asked for by a penalty, mu (sum z - k)^2. The objective
is quadratic, so one Newton step ends at its minimum from any start. Channels with the largest z
stay, and least squares on them compensate: out k parameters and a bitmap of in bits; where the
channels are another layer's outputs, its rows go too and no bitmap is needed.

Source: arXiv 2412.12441, from summaries. Ours: the weight of the penalty, the mean of a head's
channels as its z.
"""

import numpy as np

from see_min.related.layers.layer import check_layer, masked
from see_min.related.layers.magnitude import mask_of
from see_min.related.primitives import refit

PENALTY = 100.0  # mu in units of the mean of A's diagonal


def quadratic(W, C):
    """A (in, in) with ||X W^T - X diag(z) W^T||^2 = (1 - z)^T A (1 - z): A = C o W^T W.

    >>> quadratic(np.array([[1., 2.]]), np.array([[3., 5.], [5., 7.]]))
    array([[ 3., 10.],
           [10., 28.]])
    """
    return C * (W.T @ W)


def newton(A, keep, start=None):
    """z (in,) after one Newton step on (1 - z)^T A (1 - z) + mu (sum z - keep)^2, from any start.

    A singular A gets the step of least norm, ours.

    >>> newton(np.diag([1., 1., 4.]), keep=1).round(1)         # the third channel costs most
    array([0.1, 0.1, 0.8])
    """
    mu = PENALTY * max(float(np.trace(A)) / len(A), 1e-300)
    z = np.ones(len(A)) if start is None else np.asarray(start, dtype=float)  # (in,)
    gradient = -2 * A @ (1 - z) + 2 * mu * (z.sum() - keep)  # (in,)
    return z - np.linalg.lstsq(2 * A + 2 * mu, gradient, rcond=None)[0]


def compress(W, calibration, ratio):
    """The layer on in / ratio of its input channels, rounded down, refit.

    >>> X = np.array([[1., 2.], [1., 2.], [3., 6.]])       # the second is twice the first
    >>> compress(np.array([[1., 3.]]), X, ratio=2).dense().round(12)
    array([[0. , 3.5]])
    """
    W, X = check_layer(W, calibration, ratio, np.shape(W)[-1])
    C, keep = X.T @ X, int(W.shape[1] / ratio)
    mask = mask_of(newton(quadratic(W, C), keep), keep)  # (in,)
    new = np.zeros(W.shape)
    new[:, mask > 0] = refit(W, C, np.flatnonzero(mask))
    return masked(new, mask, W.shape[1])
