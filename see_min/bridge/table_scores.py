"""h @ E.T by tables, where a word is a code per term (slot 1 has one unit): no row is made.

    E[v] = (sum_k a_k (x) T[c_vk, k] + sum of bag vectors) @ P
    S[k, u] = T[u, k] (sum_g a_kg z_g),  z = P h as (g, q)     scores of units, U per term
    score[v] = sum_k S[k, c_vk] + sum_{u in bag(v)} b_u z      r additions per word and state

instead of the d' products of a row. Both directions are sums of rows as `embedding_bag` makes them,
TILE states wide: of a word over its units, and in the backward pass of a unit over its words.
"""

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from see_min.bridge.blocked_scores import add_rows, summing

TILE = 32  # states at once: fewer gather more often, more leave the cache


@torch.compiler.disable  # a loop of small steps and a custom backward: nothing to fuse
def table_scores(embedding, h):
    """Scores (N, V) of states (N, d') that the projection has met and `prepared`."""
    return TableScores.apply(embedding, h, embedding.bag_vectors, *embedding.tables)


class TableScores(torch.autograd.Function):
    """Parameters are arguments, so that autograd knows them under any wrapper of the model."""

    @staticmethod
    def forward(ctx, embedding, h, bag_vectors, first, second):
        ctx.embedding = embedding
        ctx.save_for_backward(h, bag_vectors, first, second)
        parts = [one if one is None else one.to(h.dtype) for one in (bag_vectors, first, second)]
        scores = h.new_empty(len(h), embedding.num_embeddings)  # (N, V)
        places = embedding.held if embedding.held is not None else places_of(embedding)  # (V, r)
        bagged = None if bag_vectors is None else embedding.bagged
        for states, out in zip(*map(tiles, (h, scores))):  # (T, d'), (T, V)
            S, bag_scores = unit_scores(states.T.contiguous(), *parts)  # (r U, T), (B, T)
            out.copy_(F.embedding_bag(places, S, mode="sum").T)  # from (V, T)
            if bagged is not None:
                words, units, starts = bagged  # (N,), (entries of M,), (N,)
                more = F.embedding_bag(units, bag_scores, starts, mode="sum")  # (N, T)
                out[:, words] += more.T
        if embedding.padding_idx is not None:
            scores[:, embedding.padding_idx] *= embedding.padding.to(h.dtype)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        embedding, (h, bag_vectors, first, second) = ctx.embedding, ctx.saved_tensors
        parts = [one if one is None else one.to(h.dtype) for one in (bag_vectors, first, second)]
        wide = summing(h.dtype)
        sums = [one if one is None else torch.zeros_like(one, dtype=wide) for one in parts]
        dh = torch.empty_like(h)
        words, starts = words_of_units(embedding)  # (r V,), (r U,)
        for states, given, out in zip(*map(tiles, (h, gradient, dh))):
            G = given.T.to(h.dtype, copy=True, memory_format=torch.contiguous_format)  # (V, T)
            if embedding.padding_idx is not None:
                G[embedding.padding_idx] *= embedding.padding.to(h.dtype)
            dS, dbag = F.embedding_bag(words, G, starts, mode="sum"), None  # (r U, T)
            if bag_vectors is not None:
                dbag = bag_gradient(embedding, G)  # (B, T)
            out.copy_(unit_gradients(dS, dbag, states.T.contiguous(), parts, sums).T)
        kinds = (bag_vectors, first, second)
        return None, dh, *(s if s is None else s.to(p.dtype) for s, p in zip(sums, kinds))


def tiles(tensor):
    """TILE rows at a time; of no rows no tile."""
    return tensor.split(TILE) if len(tensor) else ()


def unit_scores(z, bag_vectors, first, second):
    """S (r U, T) of slot 2, and scores (B, T) of bag units, for states z (d', T)."""
    (_, r, g), T = first.shape, z.shape[1]
    w = (first[0] @ z.view(g, -1)).view(r, -1, T)  # (r, q, T)
    S = second.transpose(0, 1) @ w  # (r, U, T)
    return S.flatten(0, 1), None if bag_vectors is None else bag_vectors @ z


def unit_gradients(dS, dbag, z, parts, sums):
    """Add what gradients of `unit_scores` give to each parameter; returns dz (d', T)."""
    bag_vectors, first, second = parts
    (_, r, g), T = first.shape, z.shape[1]
    dS = dS.view(r, -1, T)  # (r, U, T)
    w = (first[0] @ z.view(g, -1)).view(r, -1, T)  # (r, q, T)
    sums[2] += (dS @ w.transpose(1, 2)).transpose(0, 1)  # (U, r, q)
    dw = (second.permute(1, 2, 0) @ dS).view(r, -1)  # (r, q T)
    sums[1][0] += dw @ z.view(g, -1).T  # (r, g)
    dz = (first[0].T @ dw).view(-1, T)  # (d', T)
    if dbag is not None:
        sums[0] += dbag @ z.T  # (B, d')
        dz += bag_vectors.T @ dbag
    return dz


def places_of(embedding):
    """The rows of S that each word adds, (V, r): four times the bytes of the codes."""
    U, r, _ = embedding.table_1.shape
    shift = torch.arange(0, r * U, U, dtype=torch.int32, device=embedding.index_1.device)  # (r,)
    return embedding.index_1[..., 0] + shift  # (V, r)


def words_of_units(embedding):
    """Words (r V,) of unit 0 .. U - 1 of term 1, 2, .. r, and where each unit begins (r U,).

    Kept from the first backward pass on: sorting takes as long as a pass.
    """
    if embedding.sorted_words is None:
        U, r, _ = embedding.table_1.shape
        codes, order = embedding.index_1[..., 0].T.sort(dim=1)  # (r, V)
        numbers = torch.arange(U, dtype=torch.uint8, device=codes.device).expand(r, U)  # (r, U)
        starts = torch.searchsorted(codes.contiguous(), numbers.contiguous())  # (r, U)
        starts += torch.arange(r, device=codes.device)[:, None] * codes.shape[1]
        embedding.sorted_words = order.flatten().int(), starts.flatten().int()
    return embedding.sorted_words


def bag_gradient(embedding, G):
    """What G (V, T) gives to the scores of bag units: (B, T)."""
    words, units, starts = embedding.bagged
    lengths = torch.diff(starts, append=starts.new_tensor([len(units)]))  # (N,)
    rows = G.index_select(0, words.repeat_interleave(lengths))  # (entries of M, T)
    return add_rows(G.new_zeros(len(embedding.bag_vectors), G.shape[1]), units, rows)  # (B, T)
