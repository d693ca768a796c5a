"""Micro-structured pruning: in p blocks of b weights all have one absolute value, or are 0.

    minimise  ||X W^T - X W'^T||^2  over W' with p blocks |w| = c (c = 0: pruning);
    (B - p) b + p parameters

p sign patterns (b bits each) and a bitmap of the B blocks come on top; pruning keeps (B - p) b
parameters and the bitmap. The loss of unifying a block is sum w^2 - b c^2 with c = mean |w|, so the
nearest W' unifies the p blocks of least loss. ADMM weighs by the inputs: W = (W0 C + rho (Z - U))
(C + rho I)^-1, Z = project(W + U), U += W - Z; the best Z of all steps is kept.

Source: arXiv 2106.08301, from summaries. Ours: blocks of neighbours in a row, rho, the best step,
and the first as a start.
"""

import numpy as np

from see_min.errors import InputError
from see_min.related.layers.layer import CompressedLayer, check_layer, masked
from see_min.related.layers.magnitude import mask_of

BLOCK = 8  # b
STEPS = 15


def project(W, unified, block=BLOCK, prune=False):
    """The nearest W' (out, in) with `unified` blocks of one absolute value or of zeros, and which.

    The second result, (B,), is 1 for these blocks, else 0.

    >>> project(np.array([[1., -3., 5., 6.]]), unified=1, block=2)     # losses 2 and 0.5
    (array([[ 1. , -3. ,  5.5,  5.5]]), array([0., 1.]))
    """
    blocks = W.reshape(-1, block)  # (B, b)
    c = abs(blocks).mean(axis=1, keepdims=True) * (not prune)  # (B, 1)
    losses = (blocks**2).sum(axis=1) - block * c[:, 0] ** 2  # (B,)
    chosen = mask_of(-losses, unified)  # (B,)
    same = c * np.where(blocks < 0, -1, 1)  # (B, b)
    return np.where(chosen[:, None] > 0, same, blocks).reshape(W.shape), chosen


def weights_step(W, C, rho, target):
    """Minimise tr((W' - W) C (W' - W)^T) + rho ||W' - target||^2 over W'."""
    return np.linalg.solve(C + rho * np.eye(len(C)), (W @ C + rho * target).T).T


def admm(W, C, unified, block=BLOCK, prune=False):
    """(W', blocks, losses tr((W' - W) C (W' - W)^T)), the best of the projection and all steps."""

    def loss(Z):
        return float(((Z - W) @ C * (Z - W)).sum())

    rho = max(float(np.trace(C)) / len(C), 1e-300)
    best, U = project(W, unified, block, prune), np.zeros(W.shape)
    Z, losses = best[0], [loss(best[0])]
    for _ in range(STEPS):
        new = weights_step(W, C, rho, Z - U)  # (out, in)
        Z, chosen = project(new + U, unified, block, prune)
        U = U + new - Z
        losses.append(loss(Z))
        best = (Z, chosen) if losses[-1] == min(losses) else best
    return *best, losses


def unify(W, calibration, ratio):
    """The layer with as few blocks unified as the ratio allows; signs and blocks are buffers."""
    W, X = check_layer(W, calibration, ratio, BLOCK)
    blocks, chosen = _solve(W, X, ratio, prune=False)
    free = 1 - chosen  # (B, 1)
    signs = np.where(blocks < 0, -1.0, 1.0) * chosen  # (B, b)
    c = abs(blocks).mean(axis=1, keepdims=True) * chosen  # (B, 1)

    def reconstruct(p, b):
        return (p[0] * b[0] + p[1] * b[1]).reshape(W.shape)

    unified, kept = int(chosen.sum()), int(free.sum()) * BLOCK
    bits, count = len(blocks) + unified * BLOCK, kept + unified
    return CompressedLayer([blocks * free, c], reconstruct, [free, signs], bits, count)


def prune(W, calibration, ratio):
    """The layer with as few blocks of zeros as the ratio allows."""
    W, X = check_layer(W, calibration, ratio)
    blocks, chosen = _solve(W, X, ratio, prune=True)
    mask = np.tile(1 - chosen, BLOCK).reshape(W.shape)  # (out, in)
    return masked(blocks.reshape(W.shape), mask, len(blocks))


def _solve(W, X, ratio, prune):
    """W' in blocks (B, b), and which p are unified (B, 1): (B - p) b + p <= B b / ratio."""
    if W.size % BLOCK:
        raise InputError(f"W: expected a multiple of {BLOCK} weights, got {W.size}")
    each = BLOCK if prune else BLOCK - 1  # parameters that a unified block saves
    unified = int(np.ceil((W.size - W.size / ratio) / each - 1e-9))
    new, chosen, _ = admm(W, X.T @ X, unified, BLOCK, prune)
    return new.reshape(-1, BLOCK), chosen[:, None]
