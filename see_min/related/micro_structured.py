"""Micro-structured unification and pruning: in p blocks of b weights all have one absolute value, or are 0.

    minimise  ||X W^T - X W'^T||^2  over W' with p blocks |w| = c (c = 0: pruning);   (B - p) b + p floats

p sign patterns (b bits each) and a bitmap of the B blocks come on top; pruning keeps (B - p) b floats and the bitmap. The loss of
unifying a block is sum w^2 - b c^2 with c = mean |w|, so the nearest W' unifies the p blocks of least loss. ADMM weighs by the
inputs: W = (W0 C + rho (Z - U)) (C + rho I)^-1, Z = project(W + U), U += W - Z; the best Z of all steps is kept.

Source: arXiv 2106.08301, from summaries. Ours: blocks of neighbours in a row, rho, the best step, and the first as a start.
"""

import numpy as np

from see_min.related.layer import Kept, check_layer, cut, masked
from see_min.related.magnitude import mask_of

BLOCK = 8  # b
STEPS = 15


def project(W, unified, block=BLOCK, prune=False):
    """The nearest weights with `unified` blocks of one absolute value, or of zeros, and which these are.

    Parameters
    ----------
    W : array (out, in)
    unified : int
        p.
    block : int
        b.
    prune : bool

    Returns
    -------
    (W' (out, in), array (B,) of 1 for the blocks, else 0)

    Raises
    ------
    ShapeError
        If the weights cannot be cut into blocks.

    Examples
    --------
    >>> project(np.array([[1., -3., 5., 6.]]), unified=1, block=2)  # 1 + 9 - 2 * 4 = 2 against 25 + 36 - 2 * 5.5^2 = 0.5
    (array([[ 1. , -3. ,  5.5,  5.5]]), array([0., 1.]))

    Source: arXiv 2106.08301.
    """
    blocks = cut(W, block)  # (B, b)
    c = 0 * blocks[:, :1] if prune else abs(blocks).mean(axis=1, keepdims=True)  # (B, 1)
    chosen = mask_of(-((blocks**2).sum(axis=1) - block * c[:, 0] ** 2), unified)  # (B,)
    return np.where(chosen[:, None] > 0, c * np.where(blocks < 0, -1, 1), blocks).reshape(W.shape), chosen


def weights_step(W, C, rho, target):
    """The W' with the least tr((W' - W) C (W' - W)^T) + rho ||W' - target||^2: (W C + rho target) (C + rho I)^-1."""
    return np.linalg.solve(C + rho * np.eye(len(C)), (W @ C + rho * target).T).T


def admm(W, C, unified, block=BLOCK, prune=False, steps=STEPS):
    """(W', blocks, list of losses tr((W' - W) C (W' - W)^T)) with the least loss of the projection and all steps.

    Source: arXiv 2106.08301.
    """
    loss = lambda Z: float(((Z - W) @ C * (Z - W)).sum())
    rho = max(float(np.trace(C)) / len(C), 1e-300)
    best, U = project(W, unified, block, prune), np.zeros(W.shape)
    Z, losses = best[0], [loss(best[0])]
    for _ in range(steps):
        new = weights_step(W, C, rho, Z - U)  # (out, in)
        Z, chosen = project(new + U, unified, block, prune)
        U, losses = U + new - Z, [*losses, loss(Z)]
        best = (Z, chosen) if losses[-1] <= min(losses) else best
    return *best, losses


def unify(W, calibration, ratio, prune=False):
    """The layer with as few blocks unified as the ratio allows.

    W (out, in), calibration (N, in), ratio -> Kept, which keeps signs and blocks; errors are those of checks on arrays and ratio.

    Source: arXiv 2106.08301.
    """
    W, X = check_layer(W, calibration, ratio, np.size(W) if prune else BLOCK)
    B = len(cut(W, BLOCK))
    unified = int(np.ceil((W.size - W.size / ratio) / (BLOCK if prune else BLOCK - 1) - 1e-9))  # (B - p) b + p <= B b / ratio
    new, chosen, _ = admm(W, X.T @ X, unified, BLOCK, prune)
    free = 1 - chosen[:, None]  # (B, 1)
    if prune:
        return masked(new, np.tile(free, BLOCK).reshape(W.shape), B)
    blocks = cut(new, BLOCK)  # (B, b)
    signs, c = np.where(blocks < 0, -1.0, 1.0) * chosen[:, None], abs(blocks).mean(axis=1, keepdims=True) * chosen[:, None]
    build = lambda parts, fixed: (parts[0] * fixed[0] + parts[1] * fixed[1]).reshape(W.shape)
    return Kept([blocks * free, c], build, [free, signs], B + unified * BLOCK, (B - unified) * BLOCK + unified)


def prune(W, calibration, ratio):
    """`unify` with c = 0."""
    return unify(W, calibration, ratio, prune=True)
