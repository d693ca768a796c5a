"""ACIP: which singular values of all layers the task can spare, from one training of masks.

    minimise  loss(W_1, ..., W_L) + lambda sum |m_li|  over masks m,
    W_l = U_l diag(1[m_l > 0]) S_l V_l^T

The threshold is passed straight through backward. A mask above 0 is its own score; one that falls
to 0 gets the score 0, and every score that is not above 0 falls by 1 per step: what went first is
worth least. One threshold on all scores then gives nested models of every size: sum_l min(m n, k_l
(m + n)) parameters, k_l the singular values that layer l keeps.

Source: arXiv 2502.01717. Simplified: no adapters (LoRA) for repair. Ours: Adam and its rate, a mask
counts 1 (not 0.02) in the product.
"""

import numpy as np

from see_min.errors import require
from see_min.related.layers.layer import factors
from see_min.storage.budget import check_ratio

START = 0.02  # of the masks
PENALTY, GROWTH, EVERY = 1e-3, 1.01, 4  # lambda, and by what it grows every so many steps


def rebuild(U, S, Vt, masks):
    """U diag(1[m > 0] S) V^T as a tensor (out, in); the gradient of 1[m > 0] is taken to be 1."""
    return (U * (((masks > 0) + masks - masks.detach()) * S)) @ Vt


def learn(weights, loss, steps=60, lr=1e-3):
    """Scores of all singular values, in falling order: a list of arrays (min(out, in),).

    `loss` takes a list of tensors (out, in), one per weight, and is called once per step; it may
    take another batch each time.
    """
    torch = require("torch")
    tensors = [torch.as_tensor(np.asarray(W), dtype=torch.float32) for W in weights]
    triples = [torch.linalg.svd(W, full_matrices=False) for W in tensors]
    masks = [torch.full_like(S, START, requires_grad=True) for _, S, _ in triples]
    scores, adam = [mask.detach().clone() for mask in masks], torch.optim.Adam(masks, lr)
    for step in range(steps):
        adam.zero_grad()
        value = loss([rebuild(*triple, mask) for triple, mask in zip(triples, masks)])
        penalty = PENALTY * GROWTH ** (step // EVERY) * sum(abs(mask).sum() for mask in masks)
        (value + penalty).backward()
        adam.step()
        for score, mask in zip(scores, masks):
            score.copy_(update(torch, score, mask.detach()))
    return [score.double().numpy() for score in scores]


def update(xp, scores, masks):
    """Scores after a step: m if m > 0, 0 if it has just fallen, else 1 less; xp is numpy or torch.

    >>> update(np, np.array([0.3, 0.2, 0., -4.]), np.array([0.4, -0.1, -0.1, -0.2]))
    array([ 0.4,  0. , -1. , -5. ])
    """
    return xp.where(masks > 0, masks, xp.where(scores > 0, 0 * scores, scores - 1))


def ranks_at(shapes, scores, ratio):
    """Singular values of each layer above the lowest threshold within all weights / ratio; ours.

    >>> ranks_at([(4, 4), (4, 4)], [np.array([9., 8., 7., 1.]), np.array([6., 5., 4., 3.])], 1.3)
    [3, 1]
    """
    total, ranks, used = sum(m * n for m, n in shapes), [0] * len(shapes), 0
    owner = np.repeat(np.arange(len(shapes)), [len(one) for one in scores])
    best_first = owner[np.argsort(-np.concatenate(scores), kind="stable")]  # a layer for each
    check_ratio(ratio, total / sum(shapes[best_first[0]]), "these layers")
    for layer in best_first:
        (m, n), k = shapes[layer], ranks[layer]
        used += min(m * n, (k + 1) * (m + n)) - min(m * n, k * (m + n))
        if used > total / ratio:
            break
        ranks[layer] += 1
    return ranks


def compress(weights, scores, ratio):
    """One CompressedLayer per weight: the singular values of the largest scores, as factors."""
    layers, shapes = [], [W.shape for W in weights]
    for W, score, rank in zip(weights, scores, ranks_at(shapes, scores, ratio)):
        U, S, Vt = np.linalg.svd(W, full_matrices=False)
        stays = np.sort(np.argsort(-score, kind="stable")[:rank])  # (r,)
        one = factors(U[:, stays] * S[stays], Vt[stays])
        one.count = min(W.size, one.count)  # the layer itself where it is smaller
        layers.append(one)
    return layers
