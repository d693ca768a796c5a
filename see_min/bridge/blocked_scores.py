"""h @ rows.T for the rows of all words, block by block in both directions: speed engineering.

`h @ embedding.weight.T` is the formula; this computes the same values and gradients without
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
COPIES = 4  # of leaves in 4 bytes: gathered, their gradients, these in float32, and room
KEEP = 4  # d' <= D / KEEP: rows are kept for the backward pass, which is then an eighth faster


@torch.compiler.disable  # a loop of small steps and a custom backward: nothing to fuse
def blocked_scores(embedding, h):
    """Scores (N, V) of states (N, d') that the projection has met and `prepared`."""
    keep = h.requires_grad and KEEP * h.shape[1] <= embedding.embedding_dim
    return BlockedScores.apply(embedding, keep, h, embedding.bag_vectors, *embedding.tables)


def prepared(embedding, h):
    """States in the type that autocast asks for: products with out= and our own do not cast.

    InputError if the weights are on another device.
    """
    device = embedding.table_0.device
    if device != h.device:  # a product with offloaded weights would be silent nonsense
        raise InputError(f"scores: expected weights on {h.device}, got {device}")
    kind = h.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        h = h if h.dtype == torch.float64 else h.to(torch.get_autocast_dtype(kind))
    return h


def on_cpu(tensor):
    """Whether small steps are cheap and numbers can be read at once; elsewhere a few large steps
    are fast, and reading one number waits for all work."""
    return tensor.device.type == "cpu"


def words_at_once(device, free, vocabulary, numbers, states=0):
    """How many of V words a head works on at once, each with so many numbers.

    On a CPU a block stays in a core's cache. Other devices are fastest with all words: with as many
    as fit, and their gradients, into half of the free bytes beside scores and gradients of these.

    >>> words_at_once("cpu", 0, 50257, 1000), words_at_once("cuda", 2**34, 50257, 1000, 1024)
    (768, 50257)
    """
    if device == "cpu":
        words = BLOCK_NUMBERS // numbers // CACHE_LINE * CACHE_LINE
    else:
        words = (free // 2 - 8 * states * vocabulary) // (4 * COPIES * numbers)
    return min(vocabulary, max(256, words))


def blocks(embedding):
    """All ids in blocks: rows, bags and leaves of a block have about BLOCK_NUMBERS numbers."""
    per_word = embedding.inner_dim + embedding.leaf_numbers
    if embedding.bag_vectors is not None:
        entries = len(embedding.bag_units) * embedding.inner_dim
        per_word += entries // embedding.num_embeddings
    return embedding.all_ids().split(words_at_once("cpu", 0, embedding.num_embeddings, per_word))


class Gather(torch.autograd.Function):
    """Rows (N, q) of a table (M, q) at places (N,), whose gradients are summed in float32.

    bfloat16 has too few bits to add many numbers; and on a CPU `index_select` adds row by row.
    """

    @staticmethod
    def forward(ctx, table, places):
        ctx.save_for_backward(places)
        ctx.rows, ctx.dtype = len(table), table.dtype
        return table.index_select(0, places)

    @staticmethod
    def backward(ctx, gradient):
        total = gradient.new_zeros(ctx.rows, gradient.shape[1], dtype=summing(ctx.dtype))  # (M, q)
        return add_rows(total, ctx.saved_tensors[0], gradient).to(ctx.dtype), None


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
    """Where gradients are summed."""
    if parameter is not None:
        return torch.zeros_like(parameter, dtype=summing(parameter.dtype))


def summing(dtype):
    """The type in which many numbers of a type are added."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


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
        add_rows(flat, place, leaf.reshape(len(place), -1))  # (W r, q_j)
    return values


def _add_to_bags(embedding, ids, drows, total):
    """Add the gradient of each row to the vectors of all units in its bag."""
    units, offsets, _ = embedding.bags(ids)  # (N,), (W,)
    ends = torch.cat([offsets[1:], offsets.new_tensor([len(units)])])  # (W,)
    word = torch.arange(len(ids), device=ids.device).repeat_interleave(ends - offsets)  # (N,)
    add_rows(total, units, drows.index_select(0, word))  # (N, d')


def bipartition_gradients(parts, drows):
    """What the gradient (W, d') of `entangled_rows` gives to its factors."""
    if len(parts) == 1:
        return [drows[:, None].expand_as(parts[0])]  # (W, r, q_1)
    left, right = parts
    drows = drows.view(len(left), left.shape[2], right.shape[2])  # (W, a, b)
    return [right @ drows.transpose(1, 2), left @ drows]  # (W, r, a), (W, r, b)


def add_rows(total, place, rows):
    """total[place_i] += rows_i; on a CPU index_add_ takes the rows one by one on one core."""
    rows = rows.to(total.dtype)
    if total.device.type != "cpu":
        return total.index_add_(0, place, rows)
    return total.scatter_add_(0, place.long()[:, None].expand_as(rows), rows)
