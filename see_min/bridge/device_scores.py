"""h @ E.T on accelerators: a product with rows of all words, or of as many as there is room for.

Where slot 1 has one unit, leaves alone are multiplied, and no row is made. Of a few states (N <= q)
the scores of units are fewer numbers than leaves, and are gathered instead:

    score[v] = sum_k leaf_vk w_k + bags,  w_k = a_k z, z = P h as (g, q)      many states
    score[v] = sum_k S[c_vk, k] + bags,   S[u, k] = leaf_uk w_k               few states

Plain autograd, and nothing here waits for the device, so that `torch.compile` can join gathers and
sums to kernels.
"""

from functools import partial

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from see_min.bridge.blocked_scores import COPIES, Gather, words_at_once

SMALL = 2**28  # numbers that are taken to fit: asking takes as long as a head of one state


def scores_at_once(embedding, z):
    """Scores (N, V) of states (N, d') that the projection has met and `prepared`."""
    compute = partial(code_scores if embedding.coded else row_scores, embedding, z)
    ids, words = embedding.all_ids(), words_that_fit(embedding, z)
    if words >= len(ids):
        scores = compute(ids)  # (N, V)
    else:  # each part is made again in the backward pass
        again = {"use_reentrant": False, "preserve_rng_state": False}
        parts = [checkpoint(compute, some, **again) for some in ids.split(words)]
        scores = torch.cat(parts, 1)  # (N, V)
    if embedding.coded and embedding.bag_vectors is not None:
        own, units, starts = embedding.bagged  # (N',), (entries of M,), (N',)
        bags = embedding.bag_vectors.to(z.dtype) @ z.T  # (B, N)
        scores = scores.index_add(1, own, F.embedding_bag(units, bags, starts, mode="sum").T)
    if embedding.coded and embedding.padding_idx is not None:
        scores[:, embedding.padding_idx] *= embedding.padding.to(z.dtype)
    return scores


def words_that_fit(embedding, z):
    """`words_at_once` for a module and states (N, d') on a device."""
    V, tables = embedding.num_embeddings, embedding.tables[embedding.coded :]
    numbers = sum(table[0].numel() for table in tables)
    numbers += 0 if embedding.coded else embedding.inner_dim
    if torch.compiler.is_compiling() or V * (COPIES * numbers + 2 * len(z)) <= SMALL:
        return V
    free = SMALL * 16
    if z.device.type == "cuda":
        kept = torch.cuda.memory_reserved(z.device) - torch.cuda.memory_allocated(z.device)
        free = torch.cuda.mem_get_info(z.device)[0] + kept
    return words_at_once(z.device.type, free, V, numbers, len(z))


def row_scores(embedding, z, ids):
    """z R^T (N, W) for the rows R of some words."""
    return z @ embedding.inner_rows(ids).to(z.dtype).T


def code_scores(embedding, z, ids):
    """The sums over k, (N, W), of some words."""
    first, second = (table.to(z.dtype) for table in embedding.tables)
    (_, r, g), q = first.shape, second.shape[2]
    w = torch.einsum("kg,ngq->nkq", first[0], z.view(len(z), g, q))  # (N, r, q)
    places = embedding.code_places(ids)  # (W, r)
    if len(z) > q:
        leaves = Gather.apply(second.flatten(0, 1), places.flatten())  # (W r, q)
        return w.flatten(1) @ leaves.view(len(ids), -1).T
    S = torch.einsum("ukq,nkq->ukn", second, w).flatten(0, 1)  # (U r, N)
    return Gather.apply(S, places.flatten()).view(len(ids), r, -1).sum(1).T
