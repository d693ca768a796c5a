"""MPOBERT: matrices of all blocks as trains of three cores whose large central core they share.

    minimise  sum_l ||W_l - A_l C B_l||^2  over A_l (n_1, R), C (R, n_2, S), B_l (S, n_3);   |C| + L (|A| + |B|) floats

W_l (i_1 i_2 i_3, j_1 j_2 j_3) is sorted into axes n_k = i_k j_k first. The shared core holds most of the floats and costs them
once; the small ones beside it tell the blocks apart. TT-SVD of the mean gives the start, then A_l, B_l and C are solved by turns,
and no step raises the error.

Source: arXiv 2303.16753. Ours: applied to trained weights by alternating least squares, in place of training with the shared
core from the start; three cores; the bonds that use most of the budget.
"""

from itertools import product

import numpy as np

from see_min.checks import DataError, check_finite
from see_min.related.layer import Kept
from see_min.tensor_train import tt_svd

SWEEPS = 6


def modes(size):
    """(e, m, e) with e m e = size: e the largest power of two with 12 e^2 <= size that divides it so.

    Examples
    --------
    >>> modes(768), modes(192)
    ((8, 12, 8), (4, 12, 4))

    Source: arXiv 2303.16753 for 768; the rule is ours.
    """
    e = max(2**k for k in range(16) if k == 0 or (12 * 4**k <= size and size % 4**k == 0))
    return e, size // e**2, e


def floats_of(shape, bonds=None):
    """(|C|, |A| + |B|) of matrices of one shape for bonds (R, S), with the largest that help when they are left out.

    Examples
    --------
    >>> core, small = floats_of((768, 768))
    >>> core, small, core + 12 * small, 12 * 768 * 768
    (589824, 8192, 688128, 7077888)

    Source: arXiv 2303.16753.
    """
    n1, n2, n3 = np.multiply(*map(modes, shape)).tolist()
    R, S = bonds or (n1, n3)
    return R * n2 * S, n1 * R + S * n3


def to_tensor(W):
    """(out, in) -> (i_1 j_1, i_2 j_2, i_3 j_3)."""
    (i1, i2, i3), (j1, j2, j3) = map(modes, W.shape)
    return W.reshape(i1, i2, i3, j1, j2, j3).transpose(0, 3, 1, 4, 2, 5).reshape(i1 * j1, i2 * j2, i3 * j3)


def matrix_of(A, C, B, shape):
    """A C B back in the order of the matrix (out, in), of arrays or tensors alike."""
    (i1, i2, i3), (j1, j2, j3) = map(modes, shape)
    cores = ((A @ C.reshape(C.shape[0], -1)).reshape(-1, B.shape[0]) @ B).reshape(i1, j1, i2, j2, i3, j3)
    order = (0, 2, 4, 1, 3, 5)
    return (cores.transpose(order) if isinstance(cores, np.ndarray) else cores.permute(order)).reshape(shape)


def alternate(tensors, bonds, sweeps=SWEEPS):
    """([A_l], C, [B_l], errors after each sweep, the start first) of L tensors (n_1, n_2, n_3).

    Source: ours.
    """
    (A, C, B), _ = tt_svd(np.mean(tensors, axis=0))
    (R, S), L = bonds, len(tensors)
    As, C, Bs = [A[0, :, :R]] * L, C[:R, :, :S], [B[:S, :, 0]] * L  # (n1, R), (R, n2, S), (S, n3)
    errors, solve = [], lambda M, Y: np.linalg.lstsq(M, Y, rcond=None)[0]
    error = lambda: sum(float(((T - np.einsum("ar,rms,sb->amb", a, C, b)) ** 2).sum()) for T, a, b in zip(tensors, As, Bs))
    errors.append(error())
    for _ in range(sweeps):
        As = [solve(np.tensordot(C, b, 1).reshape(len(C), -1).T, T.reshape(len(T), -1).T).T for T, b in zip(tensors, Bs)]
        Bs = [solve(np.tensordot(a, C, 1).reshape(-1, C.shape[2]), T.reshape(-1, T.shape[2])) for T, a in zip(tensors, As)]
        normal = sum(np.kron(a.T @ a, b @ b.T) for a, b in zip(As, Bs))  # (R S, R S)
        right = sum(np.einsum("ar,amb,sb->rsm", a, T, b) for T, a, b in zip(tensors, As, Bs))  # (R, S, n2)
        C = solve(normal, right.reshape(len(normal), -1)).reshape(right.shape).swapaxes(1, 2)  # (R, n2, S)
        errors.append(error())
    return As, C, Bs, errors


def compress(weights, ratio):
    """One Kept a matrix, of L matrices (out, in) of one shape; all have the same array C, whose floats the first counts.

    Raises
    ------
    DataError
        If a number is not finite, or the ratio is out of reach.

    Source: arXiv 2303.16753 for the form.
    """
    weights, L = check_finite("weights", np.asarray(weights, dtype=float)), len(weights)  # (L, out, in)
    shape, tensors = weights.shape[1:], [to_tensor(W) for W in weights]
    n1, _, n3 = tensors[0].shape
    totals = {pair: np.dot((1, L), floats_of(shape, pair)) for pair in product(range(1, n1 + 1), range(1, n3 + 1))}
    largest = weights.size / totals[1, 1]
    if not 1 <= ratio <= largest:
        raise DataError(f"ratio: expected 1 to {int(10 * largest) / 10:g} for {L} shared trains, got {ratio:g}")
    bonds = max((pair for pair in totals if totals[pair] <= weights.size / ratio), key=totals.get)
    As, C, Bs, _ = alternate(tensors, bonds)
    build = lambda parts, fixed: matrix_of(*parts, shape)
    return [Kept([A, C, B], build, count=A.size + B.size + (0 if i else C.size)) for i, (A, B) in enumerate(zip(As, Bs))]
