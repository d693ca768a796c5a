"""ACIP: which singular values of all layers the task can spare, from one short training of masks; afterwards any size at once.

    minimise  loss(W_1, ..., W_L) + lambda sum |m_li|  over masks m,  W_l = U_l diag(1[m_l > 0]) S_l V_l^T

The threshold is passed straight through backward. A mask above 0 is its own score; one that falls to 0 gets the score 0, and
every score that is not above 0 falls by 1 a step: what went first is worth least. One threshold on all scores then gives nested
models of every size: sum_l min(m n, k_l (m + n)) floats, k_l the singular values that layer l keeps.

Source: arXiv 2502.01717. Simplified: no adapters (LoRA) for repair. Ours: Adam and its rate, a mask counts 1 (not 0.02) in the
product.
"""

import numpy as np

from see_min.checks import DataError
from see_min.related.layer import factors
from see_min.related.registry import need_torch

START = 0.02  # of the masks


def rebuild(torch, U, S, Vt, masks):
    """U diag(1[masks > 0] S) V^T as a tensor (out, in); the gradient of 1[m > 0] is taken to be 1."""
    return (U * (((masks > 0) + masks - masks.detach()) * S)) @ Vt


def learn(weights, loss, steps=60, rate=1e-3, penalty=1e-3, growth=1.01, every=4):
    """Scores of all singular values.

    Parameters
    ----------
    weights : list of arrays (out, in)
    loss : callable(list of tensors (out, in)) -> scalar tensor
        Called once a step; it may take another batch each time.
    steps, rate : int, float
        Of Adam.
    penalty, growth, every : float, float, int
        lambda, and by what it grows every so many steps.

    Returns
    -------
    list of arrays (min(out, in),)
        Singular values in falling order.

    Raises
    ------
    DataError
        If PyTorch is not installed.

    Source: arXiv 2502.01717.
    """
    torch = need_torch()
    triples = [torch.linalg.svd(torch.as_tensor(np.asarray(W), dtype=torch.float32), full_matrices=False) for W in weights]
    masks = [torch.full_like(S, START, requires_grad=True) for _, S, _ in triples]
    scores, adam = [mask.detach().clone() for mask in masks], torch.optim.Adam(masks, rate)
    for step in range(steps):
        adam.zero_grad()
        value = loss([rebuild(torch, *triple, mask) for triple, mask in zip(triples, masks)])
        (value + penalty * growth ** (step // every) * sum(abs(mask).sum() for mask in masks)).backward()
        adam.step()
        for score, mask in zip(scores, masks):
            score.copy_(update(torch, score, mask.detach()))
    return [score.double().numpy() for score in scores]


def update(xp, scores, masks):
    """Scores after a step, from those before it: m if m > 0, 0 if it has just fallen, else 1 less. For numpy and torch.

    Examples
    --------
    >>> update(np, np.array([0.3, 0.2, 0., -4.]), np.array([0.4, -0.1, -0.1, -0.2]))
    array([ 0.4,  0. , -1. , -5. ])

    Source: arXiv 2502.01717.
    """
    return xp.where(masks > 0, masks, xp.where(scores > 0, 0 * scores, scores - 1))


def ranks_at(shapes, scores, ratio):
    """Singular values of each layer above one threshold, the lowest with floats <= all weights / ratio; ties by place.

    Raises
    ------
    DataError
        If the ratio is below 1, or no singular value fits.

    >>> ranks_at([(4, 4), (4, 4)], [np.array([9., 8., 7., 1.]), np.array([6., 5., 4., 3.])], ratio=1.3)
    [3, 1]

    Source: arXiv 2502.01717; size <= target, ours.
    """
    total = sum(m * n for m, n in shapes)
    ranks, used = [0] * len(shapes), 0
    owner = np.repeat(np.arange(len(shapes)), [len(one) for one in scores])
    for layer in owner[np.argsort(-np.concatenate(scores), kind="stable")]:
        m, n = shapes[layer]
        used += min(m * n, (ranks[layer] + 1) * (m + n)) - min(m * n, ranks[layer] * (m + n))
        if not used <= total / ratio:
            break
        ranks[layer] += 1
    if not (ratio >= 1 and any(ranks)):
        raise DataError(f"ratio: expected 1 to {total / min(sum(shape) for shape in shapes):.0f} for these layers, got {ratio:g}")
    return ranks


def compress(weights, scores, ratio):
    """One Kept a layer: the singular values with the largest scores, factors where these are smaller than the layer.

    weights list of arrays (out, in), scores those of `learn` -> list of Kept; errors are those of `ranks_at`.

    Source: arXiv 2502.01717.
    """
    kept = []
    for W, score, rank in zip(weights, scores, ranks_at([W.shape for W in weights], scores, ratio)):
        U, S, Vt = np.linalg.svd(W, full_matrices=False)
        stays = np.sort(np.argsort(-score, kind="stable")[:rank])  # (r,)
        one = factors(U[:, stays] * S[stays], Vt[stays])
        one.count = min(W.size, one.count)
        kept.append(one)
    return kept
