"""MoDeGPT: layers that belong together are compressed together, as their nonlinearity allows.

    minimise  ||f(X) - f'(X)||^2 of a pair of layers with k inner channels instead of d;
    k / d of its parameters are kept

MLP: the k channels with the largest ridge leverage [C (C + lam I)^-1]_ii stay, W_down' = W_down
C_:S C_SS^-1 (Nystrom). Queries and keys: the k channels of a head with the largest (Cq)_ii (Ck)_ii
stay (CR). Values and output: the SVD of C^(1/2) W_v^T W_o^T of a head (VO). Blocks that change
their input little lose more, by a softmax. What goes is written as rows and columns of zeros, which
a smaller layer does without, so no bits are added.

Source: arXiv 2408.09632. Ours: one k / d for all of a block, lam, the temperature, the bias of
values moved into the output's.
"""

import numpy as np
from scipy.special import softmax

from see_min.related.layers.layer import masked
from see_min.related.layers.magnitude import mask_of
from see_min.related.primitives import refit, whitened_svd

RIDGE = 0.01  # lam in units of the mean of C's diagonal
TEMPERATURE = 0.5
MAX_SPARSITY = 0.9


def sparsities(influences, share):
    """Share of each block that goes, `share` on average: L share softmax(-influence / TEMPERATURE).

    influences (L,): 1 - cos(x_in, x_out) of each block. Where one share were above MAX_SPARSITY,
    all are equal, ours.

    >>> sparsities(np.array([0.1, 0.2]), 0.4).round(2)
    array([0.44, 0.36])
    """
    out = len(influences) * share * softmax(-influences / TEMPERATURE)  # (L,)
    return out if out.max() <= MAX_SPARSITY else np.full(len(out), share)


def leverage(C):
    """Ridge leverage scores [C (C + lam I)^-1]_ii, (d,), in 0 .. 1."""
    lam = max(RIDGE * np.trace(C) / len(C), 1e-300)
    return np.diag(np.linalg.solve(C + lam * np.eye(len(C)), C))  # C and (C + lam I)^-1 commute


def nystrom(down, C, keep):
    """(S, W'): `keep` of the inputs with second moment C, and the weights (out, keep) on these."""
    S = np.flatnonzero(mask_of(leverage(C), keep))
    return S, refit(down, C, S)


def cr(Cq, Ck, keep):
    """1 for the `keep` channels of a head that matter most to its scores, else 0: (d,)."""
    return mask_of(np.diag(Cq) * np.diag(Ck), keep)


def vo(value, output, C, keep):
    """(W_v' (keep, in), W_o' (out, keep)) with the least ||X W_v^T W_o^T - X W_v'^T W_o'^T||."""
    B, A = whitened_svd(output @ value, C, keep)
    return A, B


def mlp(up, down, H, keep):
    """Up (h, in) and down (out, h) with `keep` hidden channels, each a CompressedLayer.

    H (N, h) holds what down reads.
    """
    S, new = nystrom(down, H.T @ H, keep)
    stays, thin = np.isin(np.arange(len(up)), S), np.zeros(down.shape)  # (h,), (out, h)
    thin[:, S] = new
    return masked(up, stays[:, None], 0), masked(thin, stays, 0)


def attention(qkv, bias, output, X, heads, keep):
    """qkv (3 D, in) and output (out, D) with `keep` channels per head, each a CompressedLayer.

    X (N, in) holds what queries, keys and values are made of, bias (3 D,) is theirs. Channels of
    queries and keys that go keep their biases: they add one constant to all scores of a head, which
    the softmax does not see.
    """
    D, C = len(qkv) // 3, X.T @ X
    new, mask, thin = qkv.copy(), np.zeros((3 * D, 1)), np.zeros(output.shape)
    for channels in np.arange(D).reshape(heads, -1):  # (d,)
        q, k = (X @ qkv[part].T + bias[part] for part in (channels, D + channels))  # (N, d)
        both = cr(q.T @ q, k.T @ k, keep)[:, None]  # (d, 1)
        mask[channels], mask[D + channels] = both, both
        first, value = channels[:keep], qkv[2 * D + channels]
        new[2 * D + first], thin[:, first] = vo(value, output[:, channels], C, keep)
        mask[2 * D + first] = 1
    # attention weights sum to 1: the bias of values passes through to the output's
    shift = np.concatenate([np.zeros(2 * D), -bias[2 * D :]])  # (3 D,)
    kept = masked(thin, mask[2 * D :, 0], 0, output @ bias[2 * D :])
    return masked(new, mask, 0, shift), kept
