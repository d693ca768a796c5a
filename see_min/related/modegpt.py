"""MoDeGPT: layers that belong together are compressed together, each pair in the way its nonlinearity allows.

    minimise  ||f(X) - f'(X)||^2 of a pair of layers with k inner channels instead of d:   k / d of its floats are kept

MLP: the k channels with the largest ridge leverage [C (C + lam I)^-1]_ii stay, W_down' = W_down C_:S C_SS^-1 (Nystrom).
Queries and keys: the k channels of a head with the largest (Cq)_ii (Ck)_ii stay (CR). Values and output: the SVD of
C^(1/2) W_v^T W_o^T of a head (VO). Blocks that change their input little lose more, by a softmax. What goes is written as rows
and columns of zeros, which a smaller layer does without, so no bits are added.

Source: arXiv 2408.09632. Ours: one k / d for all of a block, lam, the temperature, the bias of values moved into the output's.
"""

import numpy as np

from see_min.related.layer import masked
from see_min.related.magnitude import mask_of
from see_min.related.primitives import refit, whitened_svd

RIDGE = 0.01  # lam in units of the mean of C's diagonal
TEMPERATURE = 0.5


def sparsities(influences, share, temperature=TEMPERATURE, most=0.9):
    """Share of each block that goes, `share` on average: L share softmax(-influence / temperature).

    influences array (L,), 1 - cos(x_in, x_out) of each block -> array (L,); where one were above `most`, all are equal, ours

    Examples
    --------
    >>> sparsities(np.array([0.2, 0.2]), 0.5), sparsities(np.array([0.1, 0.2]), 0.4).round(2)
    (array([0.5, 0.5]), array([0.44, 0.36]))

    Source: arXiv 2408.09632.
    """
    weights = np.exp(-(influences - np.min(influences)) / temperature)  # (L,)
    out = len(weights) * share * weights / weights.sum()
    return out if out.max() <= most else np.full(len(weights), share)


def leverage(C):
    """Ridge leverage scores [C (C + lam I)^-1]_ii, (d,), in 0 .. 1."""
    lam = max(RIDGE * np.trace(C) / len(C), 1e-300)
    return np.diag(np.linalg.solve(C + lam * np.eye(len(C)), C))  # C and (C + lam I)^-1 commute


def nystrom(down, C, keep):
    """(S, W') for inputs with the second moment C: `keep` of them, and the weights (out, keep) on these."""
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
    """(Kept of up (h, in), Kept of down (out, h)) with `keep` hidden channels; H (N, h) holds what down reads.

    Source: arXiv 2408.09632.
    """
    S, new = nystrom(down, H.T @ H, keep)
    stays, thin = np.isin(np.arange(len(up)), S), np.zeros(down.shape)
    thin[:, S] = new
    return masked(up, stays[:, None], 0), masked(thin, stays, 0)


def attention(qkv, bias, output, X, heads, keep):
    """(Kept of qkv (3 D, in), Kept of output (out, D)) with `keep` channels a head for queries and keys, and for values.

    X (N, in) holds what queries, keys and values are made of, bias (3 D,) is theirs. Channels of queries and keys that go keep
    their biases: they add one constant to all scores of a head, which the softmax does not see.

    Source: arXiv 2408.09632.
    """
    D, C = len(qkv) // 3, X.T @ X
    new, mask, thin = qkv.copy(), np.zeros((3 * D, 1)), np.zeros(output.shape)
    for channels in np.arange(D).reshape(heads, -1):  # (d,)
        q, k = (X @ qkv[part].T + bias[part] for part in (channels, D + channels))  # (N, d)
        both = cr(q.T @ q, k.T @ k, keep)[:, None]  # (d, 1)
        mask[channels], mask[D + channels] = both, both
        first = channels[:keep]
        new[2 * D + first], thin[:, first] = vo(qkv[2 * D + channels], output[:, channels], C, keep)
        mask[2 * D + first] = 1
    inputs = mask[2 * D :, 0]  # (D,)
    shift = np.concatenate([np.zeros(2 * D), -bias[2 * D :]])  # attention weights sum to 1: the bias of values passes through
    return masked(new, mask, 0, shift), masked(thin, inputs, 0, output @ bias[2 * D :])
