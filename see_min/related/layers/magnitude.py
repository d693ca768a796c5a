"""Magnitude pruning: the k largest weights stay, the others are 0 and remain so.

    minimise  ||W - W'||^2  over W' with at most k weights that are not 0;
    k parameters, 1 bit per weight

The mask is frozen, and finetuning moves the weights that are left. Which weights matter is read off
the weights alone: the calibration inputs play no part.

Source: arXiv 2310.04573. Simplified: one step instead of a schedule. Ours: the share of weights is
the same in every layer, and ties are kept in the order of the weights.
"""

import numpy as np

from see_min.related.layers.layer import check_layer, masked


def mask_of(sizes, keep):
    """1. at the `keep` largest numbers of an array, else 0.; a larger `keep` only adds places.

    >>> mask_of(np.array([[1, 4], [3, 2]]), 2)
    array([[0., 1.],
           [1., 0.]])
    """
    mask = np.zeros(sizes.size)
    mask[np.argsort(-sizes.ravel(), kind="stable")[:keep]] = 1
    return mask.reshape(sizes.shape)


def compress(W, calibration, ratio):
    """The layer with out in / ratio of its weights, rounded down.

    >>> kept = compress(np.array([[1., -4.], [3., 2.]]), np.ones((1, 2)), ratio=2)
    >>> kept.dense(), kept.n_parameters, kept.index_bits
    (array([[ 0., -4.],
           [ 3.,  0.]]), 2, 4)
    """
    W, _ = check_layer(W, calibration, ratio)
    return masked(W, mask_of(abs(W), int(W.size / ratio)), W.size)
