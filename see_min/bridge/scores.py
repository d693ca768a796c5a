"""Scores h @ E.T of a tied head without the matrix: z R^T for states z = h P^T and rows R (V, d').

    rows      z @ inner_rows(ids).T for a part of the words at a time; a part is made again in the
              backward pass, so that neither R nor its gradient is ever whole

Where slot 1 has one unit, and a word a code c_k per term, no row is made. With w_k = a_k z, where z
is a matrix (g, q):

    leaves    score[v] = sum_k leaf_vk w_k + sum_{u in bag(v)} b_u z
    units     score[v] = sum_k S[k, c_vk] + ...,  S[k, u] = leaf_uk w_k    r additions per state

Units are for few states (N <= q), and for a CPU, where they take less time than products with
leaves. All but units on a CPU is plain autograd, and nothing waits for an accelerator, so that
`torch.compile` can join gathers and sums to kernels.
"""

from functools import partial

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from see_min.errors import InputError

BLOCK_NUMBERS = 2**21  # of the words that a CPU takes at once, 8 MB: near a cache, and few steps
COPIES = 4  # of leaves in 4 bytes: gathered, their gradients, these in float32, and room
ALIGNED = 8  # numbers of 16 bits: 16 bytes
SMALL = 2**28  # numbers that are taken to fit: asking takes as long as a head of one state
TILE = 32  # states that a CPU adds at once: fewer gather more often, more leave the cache


def on_cpu(tensor):
    """Whether small steps are cheap and numbers can be read at once. Elsewhere a few large steps
    are fast, and reading one number waits for all work; an exported program must not read any."""
    return tensor.device.type == "cpu" and not torch.compiler.is_exporting()


def head_scores(embedding, z):
    """Scores (N, V) of states (N, d') that the projection has met."""
    z = prepared(embedding, z)
    if not embedding.coded or torch.compiler.is_exporting():  # which leaves N open
        return by_parts(row_scores, embedding, z)
    return (unit_sums if on_cpu(z) else code_sums)(embedding, z)


def prepared(embedding, z):
    """States in the type that autocast asks for: our own products do not cast.

    InputError if the weights are on another device.
    """
    device = embedding.table_0.device
    if device != z.device:  # a product with offloaded weights would be silent nonsense
        raise InputError(f"scores: expected weights on {z.device}, got {device}")
    kind = z.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        z = z if z.dtype == torch.float64 else z.to(torch.get_autocast_dtype(kind))
    return z


def by_parts(compute, embedding, z):
    """compute(embedding, z, ids) (N, W) for as many words at once as there is room for: (N, V)."""
    words = words_that_fit(embedding, z)
    if words >= embedding.num_embeddings:
        return compute(embedding, z, None)
    compute = partial(checkpoint, compute, use_reentrant=False, preserve_rng_state=False)
    return torch.cat([compute(embedding, z, some) for some in embedding.all_ids().split(words)], 1)


def words_that_fit(embedding, z):
    """`words_at_once` for a module and states (N, d') on a device."""
    V, tables = embedding.num_embeddings, embedding.tables[embedding.coded :]
    numbers = sum(table[0].numel() for table in tables)
    numbers += 0 if embedding.coded else embedding.inner_dim
    if on_cpu(z):
        return words_at_once("cpu", 0, V, numbers)
    if torch.compiler.is_compiling() or V * (COPIES * numbers + 2 * len(z)) <= SMALL:
        return V
    free = SMALL * 16
    if z.device.type == "cuda":
        kept = torch.cuda.memory_reserved(z.device) - torch.cuda.memory_allocated(z.device)
        free = torch.cuda.mem_get_info(z.device)[0] + kept
    return words_at_once(z.device.type, free, V, numbers, len(z))


def words_at_once(device, free, vocabulary, numbers, states=0):
    """How many of V words a head works on at once, each with so many numbers.

    On a CPU a block stays near a cache. Other devices are fastest with all words: with as many as
    fit, and their gradients, into half of the free bytes beside scores and gradients of these.

    >>> words_at_once("cpu", 0, 50257, 1000), words_at_once("cuda", 2**34, 50257, 1000, 1024)
    (2097, 50257)
    """
    if device == "cpu":
        words = BLOCK_NUMBERS // numbers
    else:
        words = (free // 2 - 8 * states * vocabulary) // (4 * COPIES * numbers)
    return min(vocabulary, max(256, words))


def product(z, R):
    """z R^T (..., W) of states (..., d) and rows (W, d), which may be `filled` already."""
    rows = filled(R)  # (W', d'')
    more = rows.shape[1] - z.shape[-1]
    z = F.pad(z, (0, more)) if more else z  # (..., d'')
    return (z @ rows.T)[..., : len(R)]


def filled(R):
    """R (W, d) with zeros until W and d are multiples of 8.

    Products of 16-bit numbers miss the fast kernels of an accelerator, by a factor of up to five,
    where a row of either factor or of the result does not begin at a multiple of 16 bytes. A
    compiler sees to that itself.
    """
    W, d = (-n % ALIGNED for n in R.shape)
    if on_cpu(R) or torch.compiler.is_compiling() or not W + d:
        return R
    return F.pad(R, (0, d, 0, W))


def row_scores(embedding, z, ids):
    """z R^T (N, W) for the rows R of some words, without ids all."""
    ids = embedding.all_ids() if ids is None else ids  # (W,)
    return product(z, embedding.inner_rows(ids).to(z.dtype))


def code_sums(embedding, z):
    """Scores (N, V) of codes: those of leaves by parts, those of bags of all words at once."""
    scores = by_parts(code_scores, embedding, z)  # (N, V)
    if embedding.bag_vectors is not None:
        words, units, starts = embedding.bagged  # (N',), (entries of M,), (N',)
        bags = F.embedding_bag(units, bag_scores(embedding, z), starts, mode="sum")  # (N', N)
        scores = scores.index_add(1, words, bags.T)
    return padded(embedding, scores.T).T


def padded(embedding, scores):
    """Scores or gradients (V, N), in place, that of `padding_idx` times `padding`."""
    if embedding.padding_idx is not None:
        scores[embedding.padding_idx] *= embedding.padding.to(scores.dtype)
    return scores


def code_scores(embedding, z, ids):
    """The sums over k, (N, W), of some words, without ids of all."""
    leaves, w = leaves_and_weights(embedding, z)  # (r, U, q), (r, q, N)
    if len(z) <= leaves.shape[2]:
        return gather(leaves @ w, embedding.code_places(ids)).sum(1).T  # from (W, r, N)
    places = embedding.code_places(ids, ALIGNED)  # (W', r'), as `filled`, but of whole leaves
    w = F.pad(w, (0, 0, 0, 0, 0, places.shape[1] - len(w)))  # (r', q, N): what is added weighs 0
    scores = w.flatten(0, 1).T.contiguous() @ gather(leaves, places).flatten(1).T  # (N, W')
    return scores[:, : embedding.num_embeddings if ids is None else len(ids)]


def leaves_and_weights(embedding, z):
    """The leaves of each term (r, U, q), and w_k = a_k z (r, q, N); their products are S."""
    first, second = (table.to(z.dtype) for table in embedding.tables)  # (1, r, g), (U, r, q)
    z = z.T.unflatten(0, (first.shape[2], -1))  # (g, q, N)
    w = (first[0] @ z.flatten(1)).unflatten(1, z.shape[1:])  # (r, q, N), from (r, g) (g, q N)
    return second.transpose(0, 1), w


def bag_scores(embedding, z):
    """b_u z for each unit of the bag, (B, N); without a bag B = 0."""
    vectors = embedding.bag_vectors  # (B, d')
    return z.new_empty(0, len(z)) if vectors is None else vectors.to(z.dtype) @ z.T


@torch.compiler.disable  # a loop of small steps and a custom backward: nothing to fuse
def unit_sums(embedding, z):
    """Scores (N, V) as sums over the units of each word."""
    return UnitSums.apply(embedding, *leaves_and_weights(embedding, z), bag_scores(embedding, z))


class UnitSums(torch.autograd.Function):
    """For each word the sum of S and of bag scores (B, N) over its units, (N, V); the gradient of a
    unit is the sum over its words. Both as `embedding_bag` makes them, TILE states at a time."""

    @staticmethod
    def forward(ctx, embedding, leaves, w, bags):
        ctx.embedding = embedding
        ctx.save_for_backward(leaves, w, bags)
        codes = embedding.held if embedding.held is not None else embedding.code_places()  # (V, r)
        scores = w.new_empty(w.shape[2], len(codes))  # (N, V)
        for w_tile, bag_tile, out in tiles(w, bags, scores.T):
            S = (leaves @ w_tile).flatten(0, 1)  # (r U, T)
            sums = F.embedding_bag(codes, S, mode="sum")  # (V, T)
            if len(bags):
                words, units, starts = embedding.bagged  # (N',), (entries of M,), (N',)
                sums.index_add_(0, words, F.embedding_bag(units, bag_tile, starts, mode="sum"))
            out.T.copy_(padded(embedding, sums).T)  # (T, V): of the two `copy_`, the faster
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        leaves, w, bags = ctx.saved_tensors  # (r, U, q), (r, q, N), (B, N)
        first = leaves[..., 0].numel()  # r U
        words, starts = words_of_units(ctx.embedding, first + len(bags))
        dleaves = torch.zeros_like(leaves, dtype=summing(leaves.dtype))
        dw, dbags = torch.empty_like(w), torch.empty_like(bags)
        for given, w_tile, dw_tile, dbag_tile in tiles(gradient.T, w, dw, dbags):
            given = given.clone(memory_format=torch.contiguous_format)  # (V, T), also if T = 1
            padded(ctx.embedding, given)
            dS, dbag = F.embedding_bag(words, given, starts, mode="sum").tensor_split([first])
            dS = dS.unflatten(0, leaves.shape[:2])  # (r, U, T), dbag (B, T)
            dleaves += dS @ w_tile.mT
            dw_tile.copy_(leaves.mT @ dS)  # (r, q, T)
            dbag_tile.copy_(dbag)
        return None, dleaves.to(leaves.dtype), dw, dbags


def tiles(*tensors):
    """TILE states, the last axis of each, at a time."""
    return zip(*(tensor.split(TILE, -1) for tensor in tensors))


def summing(dtype):
    """The type that sums gradients: bfloat16 has too few bits to add many numbers."""
    return torch.promote_types(dtype, torch.float32)


def words_of_units(embedding, rows):
    """The words that have unit 0, 1, .. of S, then of the bag, one after the other, and where each
    of so many `rows` begins. Kept from the first backward pass on: sorting takes as long as a pass.
    """
    if embedding.sorted_words is None:
        codes, ids = embedding.code_places(), embedding.all_ids()  # (V, r), (V,)
        units, words = codes.flatten(), ids.repeat_interleave(codes.shape[1])  # (V r,)
        if embedding.bag_vectors is not None:
            own, bags, starts = embedding.bagged  # (N',), (entries of M,), (N',)
            lengths = torch.diff(starts, append=starts.new_tensor([len(bags)]))  # (N',)
            first = embedding.rank * embedding.slot_units  # of the bag
            units = torch.cat([units, bags.int() + first])  # (V r + entries of M,)
            words = torch.cat([words, own.repeat_interleave(lengths)])
        units, order = units.sort()
        starts = torch.searchsorted(units, torch.arange(rows, dtype=units.dtype))  # (r U + B,)
        embedding.sorted_words = words[order].int(), starts.int()
    return embedding.sorted_words


def gather(table, places):
    """Rows (W, r, q) of a table (U, r, q) or (r, U, q) at places (W, r) of all U r rows."""
    return Gather.apply(table.flatten(0, 1), places.flatten()).unflatten(0, places.shape)


class Gather(torch.autograd.Function):
    """Rows (N, q) of a table (M, q) at places (N,): on a CPU `index_select` adds gradients row by
    row, and everywhere in their own type."""

    @staticmethod
    def forward(ctx, table, places):
        ctx.save_for_backward(places)
        ctx.rows, ctx.dtype = len(table), table.dtype
        return table.index_select(0, places)

    @staticmethod
    def backward(ctx, gradient):
        places, = ctx.saved_tensors
        gradient = gradient.to(summing(ctx.dtype))  # (N, q)
        total = gradient.new_zeros(ctx.rows, gradient.shape[1])  # (M, q)
        if gradient.device.type == "cpu":  # there index_add_ takes rows one by one on one core
            total.scatter_add_(0, places.long()[:, None].expand_as(gradient), gradient)
        else:
            total.index_add_(0, places, gradient)
        return total.to(ctx.dtype), None
