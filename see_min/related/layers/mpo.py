"""MPOBERT: matrices of all blocks as trains of three cores whose large central core they share.

    minimise  sum_l ||W_l - A_l C B_l||^2  over A_l (n_1, R), C (R, n_2, S), B_l (S, n_3);
    |C| + L (|A| + |B|) parameters

W_l (i_1 i_2 i_3, j_1 j_2 j_3) is sorted into axes n_k = i_k j_k first. The shared core holds most
of the parameters and costs them once; the small ones beside it tell the blocks apart. TT-SVD of the
mean gives the start, then A_l, B_l and C are solved by turns, and no step raises the error.

Source: arXiv 2303.16753. Ours: applied to trained weights by alternating least squares, instead of
training with the shared core from the start; three cores; the bonds that use most of the budget.
"""

from itertools import product

import numpy as np

from see_min.errors import check_finite
from see_min.related.layers.layer import CompressedLayer
from see_min.related.primitives import rearrange
from see_min.storage.budget import check_ratio
from see_min.tensor_train import tt_svd

SWEEPS = 6


def modes(size):
    """(e, m, e) with e m e = size: e a power of two, the largest with 12 e^2 <= size.

    >>> modes(768), modes(192)                                 # the first is the paper's
    ((8, 12, 8), (4, 12, 4))
    """
    e = 1
    while 12 * (2 * e) ** 2 <= size and size % (2 * e) ** 2 == 0:
        e *= 2
    return e, size // e**2, e


def parameters_of(shape, bonds=None):
    """(|C|, |A| + |B|) of matrices of one shape for bonds (R, S); left out: the largest that help.

    >>> core, small = parameters_of((768, 768))
    >>> core + 12 * small, 12 * 768 * 768                      # as in the paper
    (688128, 7077888)
    """
    n1, n2, n3 = np.multiply(*map(modes, shape)).tolist()
    R, S = bonds or (n1, n3)
    return R * n2 * S, n1 * R + S * n3


def to_tensor(W):
    """(out, in) -> (i_1 j_1, i_2 j_2, i_3 j_3)."""
    return rearrange(W, *map(modes, W.shape))


def matrix_of(A, C, B, shape):
    """A C B back in the order of the matrix (out, in), of arrays or tensors alike."""
    (i1, i2, i3), (j1, j2, j3) = map(modes, shape)
    left = (A @ C.reshape(C.shape[0], -1)).reshape(-1, B.shape[0])  # (n_1 n_2, S)
    cores = (left @ B).reshape(i1, j1, i2, j2, i3, j3)
    rows = cores.swapaxes(1, 2).swapaxes(2, 4)  # (i1, i2, i3, j2, j1, j3)
    return rows.swapaxes(3, 4).reshape(shape)


def alternate(tensors, bonds, sweeps=SWEEPS):
    """([A_l], C, [B_l], errors after each sweep, the start first) of L tensors (n_1, n_2, n_3)."""
    (A, C, B), _ = tt_svd(np.mean(tensors, axis=0))
    (R, S), L = bonds, len(tensors)
    As, Bs = [A[0, :, :R]] * L, [B[:S, :, 0]] * L  # (n_1, R), (S, n_3) each
    C = C[:R, :, :S]  # (R, n_2, S)
    errors = [_error(tensors, As, C, Bs)]
    for _ in range(sweeps):
        As = [_solve_end(T, C, B) for T, B in zip(tensors, Bs)]
        Bs = [_solve_end(T.T, C.T, A.T).T for T, A in zip(tensors, As)]  # from the other side
        C = _solve_core(tensors, As, Bs)
        errors.append(_error(tensors, As, C, Bs))
    return As, C, Bs, errors


def _error(tensors, As, C, Bs):
    rest = (T - np.einsum("ar,rms,sb->amb", A, C, B) for T, A, B in zip(tensors, As, Bs))
    return sum(float((one**2).sum()) for one in rest)


def _solve_end(T, C, B):
    design = np.tensordot(C, B, 1).reshape(len(C), -1).T  # (n_2 n_3, R)
    return np.linalg.lstsq(design, T.reshape(len(T), -1).T, rcond=None)[0].T  # (n_1, R)


def _solve_core(tensors, As, Bs):
    normal = sum(np.kron(A.T @ A, B @ B.T) for A, B in zip(As, Bs))  # (R S, R S)
    parts = zip(As, tensors, Bs)
    right = sum(np.einsum("ar,amb,sb->rsm", A, T, B) for A, T, B in parts)  # (R, S, n_2)
    solution = np.linalg.lstsq(normal, right.reshape(len(normal), -1), rcond=None)[0]  # (R S, n_2)
    return solution.reshape(right.shape).swapaxes(1, 2)  # (R, n_2, S)


def compress(weights, ratio):
    """One CompressedLayer per matrix (out, in); all hold one array C, which the first counts."""
    weights = check_finite("weights", np.asarray(weights, dtype=float))  # (L, out, in)
    L, shape, tensors = len(weights), weights.shape[1:], [to_tensor(W) for W in weights]
    pairs = product(range(1, len(tensors[0]) + 1), range(1, tensors[0].shape[2] + 1))
    totals = {pair: np.dot((1, L), parameters_of(shape, pair)) for pair in pairs}
    check_ratio(ratio, weights.size / totals[1, 1], f"{L} shared trains")
    within = (pair for pair in totals if totals[pair] <= weights.size / ratio)
    As, C, Bs, _ = alternate(tensors, max(within, key=totals.get))
    layers = [CompressedLayer([A, C, B], lambda p, _: matrix_of(*p, shape)) for A, B in zip(As, Bs)]
    for i, layer in enumerate(layers):
        layer.count = layer.n_parameters - (C.size if i else 0)
    return layers
