"""h @ rows.T for the rows of all words, block by block in both directions: speed engineering.

`SememeEmbedding.plain_scores` is the formula; this computes the same values and gradients without
holding the rows (V, d') or their leaves.

    forward     S_b = h R_b^T                        rows R_b of block b, computed and let go
    backward    dh += G_b R_b,  dR_b = G_b^T h,      and from dR_b to the leaves of the block

Contracting h with leaves first, instead of computing rows, would cost r times as much.
"""

import torch
from torch.autograd.function import once_differentiable

from see_min.entangle import bipartition, entangled_rows
from see_min.errors import InputError

BLOCK_NUMBERS = 3 * 2**18  # numbers of a block, 3 MB: they stay in a core's cache
CACHE_LINE = 64  # words per block are a multiple of it, so that no two blocks share a cache line
KEEP = 4  # d' <= D / KEEP: rows are kept for the backward pass, which is then an eighth faster


def blocked_scores(embedding, h):
    """Scores (N, V) of states (N, d') that the projection has met."""
    tables, h = embedding.tables, prepared(embedding, h)
    keep = h.requires_grad and KEEP * h.shape[1] <= embedding.embedding_dim
    return BlockedScores.apply(embedding, keep, h, embedding.bag_vectors, *tables)


def prepared(embedding, h):
    """States in the type that autocast asks for: products with out= and our own do not cast.

    InputError if the weights are on another device.
    """
    device = embedding.table_0.device
    if device != h.device:  # a product with offloaded weights would be silent nonsense
        raise InputError(f"scores: expected weights on {h.device}, got {device}")
    if torch.is_autocast_enabled(h.device.type) and h.dtype != torch.float64:
        h = h.to(torch.get_autocast_dtype(h.device.type))
    return h


def blocks(embedding):
    """All ids in blocks whose rows, bags and leaves have about BLOCK_NUMBERS numbers."""
    per_word = embedding.inner_dim + sum(table[0].numel() for table in embedding.tables)
    if embedding.bag_vectors is not None:
        entries = len(embedding.bag_units) * embedding.inner_dim
        per_word += entries // embedding.num_embeddings
    words = max(256, BLOCK_NUMBERS // per_word // CACHE_LINE * CACHE_LINE)
    return embedding.all_ids().split(words)


class BlockedScores(torch.autograd.Function):
    """Parameters are arguments, so that autograd knows them under any wrapper of the model."""

    @staticmethod
    def forward(ctx, embedding, keep, h, bag_vectors, *tables):
        scores = h.new_empty(len(h), embedding.num_embeddings)  # (N, V)
        kept, start = [], 0
        for ids in blocks(embedding):
            products = entangled_rows(embedding.leaves(embedding.places(ids), tables))  # (W, d')
            rows = embedding.finished(ids, products, bag_vectors).to(h.dtype)  # (W, d')
            torch.mm(h, rows.T, out=scores[:, start : start + len(ids)])  # (N, W)
            start += len(ids)
            if keep:
                kept.append(rows)
        ctx.embedding = embedding
        ctx.save_for_backward(h, bag_vectors, *tables, *kept)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        embedding, n = ctx.embedding, ctx.embedding.order
        h, bag_vectors, *rest = ctx.saved_tensors
        tables, kept = rest[:n], rest[n:]
        sums = [_zeros(parameter) for parameter in (bag_vectors, *tables)]
        dh, start = torch.zeros_like(h), 0
        for number, ids in enumerate(blocks(embedding)):
            g = gradient[:, start : start + len(ids)].to(h.dtype)  # (N, W)
            start += len(ids)
            drows = embedding.pad(ids, (g.T @ h).to(tables[0].dtype))  # (W, d')
            parts = _add_to_leaves(embedding, ids, drows, tables, sums[1:])
            if bag_vectors is not None:
                _add_to_bags(embedding, ids, drows, sums[0])
            if kept:
                rows = kept[number]  # (W, d')
            else:
                rows = embedding.finished(ids, entangled_rows(parts), bag_vectors)  # (W, d')
            dh.addmm_(g, rows.to(h.dtype))
        sums = [s if s is None else s.to(p.dtype) for s, p in zip(sums, (bag_vectors, *tables))]
        return None, None, dh, *sums


def _zeros(parameter):
    """Where gradients are summed: bfloat16 has too few bits to add many numbers."""
    if parameter is None:
        return None
    dtype = torch.float32 if parameter.dtype == torch.bfloat16 else parameter.dtype
    return torch.zeros_like(parameter, dtype=dtype)


def _add_to_leaves(embedding, ids, drows, tables, sums):
    """Add what the gradient (W, d') of rows gives to each table; returns factors of the rows."""
    places = embedding.places(ids)  # n of (W r,)
    leaves = [leaf.detach().requires_grad_() for leaf in embedding.leaves(places, tables)]
    with torch.enable_grad():
        parts = bipartition(leaves)  # (W, r, a), (W, r, b)
    values = [part.detach() for part in parts]
    gradients = bipartition_gradients(values, drows)
    for place, total, leaf in zip(places, sums, torch.autograd.grad(parts, leaves, gradients)):
        flat = total.flatten(0, 1)  # (U_j r, q_j), a view
        _add_rows(flat, place, leaf.reshape(len(place), -1))  # (W r, q_j)
    return values


def _add_to_bags(embedding, ids, drows, total):
    """Add the gradient of each row to the vectors of all units in its bag."""
    units, offsets = embedding.bags(ids)  # (N,), (W,)
    ends = torch.cat([offsets[1:], offsets.new_tensor([len(units)])])  # (W,)
    word = torch.arange(len(ids), device=ids.device).repeat_interleave(ends - offsets)  # (N,)
    _add_rows(total, units, drows.index_select(0, word))  # (N, d')


def bipartition_gradients(parts, drows):
    """What the gradient (W, d') of `entangled_rows` gives to its factors."""
    if len(parts) == 1:
        return [drows[:, None].expand_as(parts[0])]  # (W, r, q_1)
    left, right = parts
    drows = drows.view(len(left), left.shape[2], right.shape[2])  # (W, a, b)
    return [right @ drows.transpose(1, 2), left @ drows]  # (W, r, a), (W, r, b)


def _add_rows(total, place, rows):
    """total[place_i] += rows_i; index_add_ takes the rows one by one on one core."""
    total.scatter_add_(0, place[:, None].expand_as(rows), rows.to(total.dtype))
