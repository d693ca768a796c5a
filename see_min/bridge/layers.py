"""SememeEmbedding: a SememeEncoding whose arrays are parameters, with the look-up and the tied head.

A look-up gathers the leaves of its ids and contracts them; gradients are added to the gathered leaves' tables alone. A head makes
the rows of a block of words at a time, in both directions, so that the (V, D) matrix and its gradient are never held.
"""

import math

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from see_min.encoding import SememeEncoding
from see_min.entangle import entangled_rows

BLOCK_FLOATS = 2**19  # a block of rows stays in the cache: twice as fast as rows of 16 MB, each time new from the system


class SememeEmbedding(nn.Module):
    """Stands in for `torch.nn.Embedding`; the (V, D) matrix is never stored.

    Parameters
    ----------
    encoding : SememeEncoding
        Its arrays become the parameters, its index buffers.
    dtype : torch.dtype
    block : int, optional
        Words a step of `scores`; as many as make BLOCK_FLOATS when left out.
    padding_idx : int, optional
        As in `torch.nn.Embedding`: the row of this id gets no gradient.
    padding : float
        What multiplies the row of `padding_idx`: 0 where that row was zero.
    scale : float
        What multiplies looked-up rows, but not the rows of the head.

    Source: arXiv 2412.12204; the formula is `see_min.encoding.SememeEncoding`'s, through the same `entangled_rows`.
    """

    def __init__(self, encoding, dtype=torch.float32, block=None, padding_idx=None, padding=1.0, scale=1.0):
        super().__init__()
        once = {}  # a table that stands in several slots stays one parameter

        def parameter(array):
            if array is None:
                return None
            return once.setdefault(id(array), nn.Parameter(torch.as_tensor(array).to(dtype, copy=True)))

        self.tables = nn.ParameterList(parameter(table) for table in encoding.tables)  # (U_j, r, q_j)
        self.amplitudes = parameter(encoding.amplitudes)  # (V, r)
        self.carrier = parameter(encoding.carrier)  # (d', D)
        self.bag_vectors = parameter(encoding.bag_vectors)  # (U, d')
        self.register_buffer("index", torch.as_tensor(encoding.index).int())  # (V, n) or (V, r, n)
        self.register_buffer("bag", None if encoding.bag is None else torch.as_tensor(encoding.bag).int())  # (V, m)
        self.block = block or max(256, BLOCK_FLOATS // encoding.inner)
        self.padding_idx, self.padding, self.scale = padding_idx, padding, scale

    @property
    def num_embeddings(self):
        return len(self.index)

    @property
    def embedding_dim(self):
        if self.carrier is not None:
            return self.carrier.shape[1]
        return math.prod(table.shape[2] for table in self.tables)

    @property
    def weight(self):
        """The matrix (V, D), built anew at every use: for code that asks an embedding for its weight."""
        rows = self.inner_rows(torch.arange(self.num_embeddings, device=self.index.device))  # (V, d')
        rows = rows if self.carrier is None else rows @ self.carrier  # (V, D)
        if self.padding_idx is None:
            return rows
        keep = torch.ones(len(rows), 1, dtype=rows.dtype, device=rows.device)
        keep[self.padding_idx] = self.padding
        return rows * keep

    def _places(self, ids):
        """For each slot: rows of the flat table, and that table; (W,) of (U_j, r q_j), or (W r,) of (U_j r, q_j)."""
        index = self.index.index_select(0, ids)  # (W, n) or (W, r, n); unlike [ids] it refuses negative ids
        if index.ndim == 2:
            return [(unit, table.flatten(1)) for unit, table in zip(index.unbind(-1), self.tables)]
        r = index.shape[1]
        term = torch.arange(r, device=index.device, dtype=index.dtype)  # (r,)
        return [((unit * r + term).flatten(), table.flatten(0, 1)) for unit, table in zip(index.unbind(-1), self.tables)]

    def leaves(self, ids):
        """The leaves of words: a list of n tensors (W, r, q_j)."""
        return [flat.index_select(0, place).view(len(ids), *table.shape[1:])  # its backward is one index_add
                for (place, flat), table in zip(self._places(ids), self.tables)]

    def _bag_rows(self, ids):
        """The sums of the bags of words, (W, d'), or None."""
        if self.bag is None or not len(self.bag_vectors):
            return None
        units = self.bag.index_select(0, ids)  # (W, m), -1 where a word has fewer
        present = (units >= 0).to(self.bag_vectors.dtype)
        return nn.functional.embedding_bag(units.clamp(min=0), self.bag_vectors, mode="sum", per_sample_weights=present)

    def inner_rows(self, ids):
        """Rows before the carrier, (W, d')."""
        rows = entangled_rows(self.leaves(ids), None if self.amplitudes is None else self.amplitudes[ids])  # (W, d')
        bag = self._bag_rows(ids)
        return rows if bag is None else rows + bag

    def forward(self, ids):
        """Embeddings (..., D) of ids (...)."""
        flat = ids.reshape(-1)  # (W,)
        if len(flat) > self.num_embeddings:  # every row once is cheaper
            everything = torch.arange(self.num_embeddings, device=ids.device)
            rows = self.inner_rows(everything).index_select(0, flat)  # (W, d')
        else:
            rows = self.inner_rows(flat)  # (W, d')
        rows = rows if self.carrier is None else rows @ self.carrier  # (W, D)
        if self.padding_idx is not None:
            rows = torch.where((flat == self.padding_idx)[:, None], self.padding * rows.detach(), rows)  # (W, D)
        rows = rows if self.scale == 1.0 else rows * self.scale
        return rows.reshape(*ids.shape, rows.shape[-1])

    @torch.compiler.disable  # a loop of small steps and a backward of its own: nothing to fuse
    def scores(self, h):
        """h @ E.T for hidden states (..., D), in blocks of words: (..., V)."""
        h = h if self.carrier is None else h @ self.carrier.T  # (..., d')
        flat = h.reshape(-1, h.shape[-1])  # (N, d')
        parts = {name: p for name, p in self.named_parameters() if name != "carrier"}
        scores = BlockScores.apply(self, list(parts), flat, *parts.values())  # (N, V)
        if self.padding == 0.0 and self.padding_idx is not None:
            scores = scores.index_fill(1, torch.tensor([self.padding_idx], device=h.device), 0.0)  # as h times a row of zeros
        return scores.view(*h.shape[:-1], self.num_embeddings)

    def _blocks(self):
        return torch.arange(self.num_embeddings, device=self.index.device).split(self.block)

    def to_encoding(self):
        """Back to numpy, in the parameters' precision (float32 where numpy lacks it)."""
        once = {}

        def array(tensor):
            if tensor is None:
                return None
            exact = tensor.detach().float() if tensor.dtype == torch.bfloat16 else tensor.detach()
            return once.setdefault(tensor.data_ptr(), exact.cpu().numpy())

        return SememeEncoding([array(table) for table in self.tables], self.index.cpu().long().numpy(),
                              array(self.amplitudes), array(self.carrier),
                              None if self.bag is None else self.bag.cpu().long().numpy(), array(self.bag_vectors))


class BlockScores(torch.autograd.Function):
    """h @ rows.T for the rows of all words before the carrier, made in blocks, and made again in the backward pass.

    With G the gradient of the scores, block by block: dh += G rows, d rows = G^T h, and from there to the leaves of the block,
    whose gradients are added to those of the tables at once. Memory beyond the result: the gradients of the parameters and
    a few blocks of rows.

    Source: ours; contracting h with leaves first would cost r times as much (docs/scaling.md).
    """

    @staticmethod
    def forward(ctx, embedding, names, h, *parameters):
        ctx.embedding, ctx.names = embedding, names
        ctx.save_for_backward(h, *parameters)
        scores = None
        for ids in embedding._blocks():
            block = h @ embedding.inner_rows(ids).T.to(h.dtype)  # (N, W)
            if scores is None:
                scores = block.new_empty(len(h), embedding.num_embeddings)  # (N, V)
            scores[:, ids[0] : ids[-1] + 1] = block
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        h, *parameters = ctx.saved_tensors
        embedding = ctx.embedding
        sums = {name: torch.zeros(p.shape, dtype=torch.float32 if p.dtype == torch.bfloat16 else p.dtype, device=p.device)
                for name, p in zip(ctx.names, parameters)}
        dh = torch.zeros_like(h)
        for ids in embedding._blocks():
            g = gradient[:, ids[0] : ids[-1] + 1].to(h.dtype)  # (N, W)
            rows = _add_block(embedding, ids, g.T @ h, sums)  # (W, d')
            dh += g @ rows.to(h.dtype)
        return None, None, dh, *(sums[name].to(p.dtype) for name, p in zip(ctx.names, parameters))


def _add_block(embedding, ids, drows, sums):
    """Add what a gradient (W, d') of a block's rows gives to every part; returns the rows (W, d')."""
    drows = drows.to(embedding.tables[0].dtype)
    with torch.no_grad():
        parts = embedding.leaves(ids)  # n tensors (W, r, q_j)
        if embedding.amplitudes is not None:
            parts.append(embedding.amplitudes[ids])  # (W, r)
    parts = [part.requires_grad_() for part in parts]
    n = len(embedding.tables)
    with torch.enable_grad():
        products = entangled_rows(parts[:n], *parts[n:])  # (W, d')
    gradients = torch.autograd.grad(products, parts, drows)
    names = {id(p): name for name, p in embedding.named_parameters()}  # one table may stand in several slots
    for (place, flat), table, part in zip(embedding._places(ids), embedding.tables, gradients):
        total = sums[names[id(table)]]
        total.view(flat.shape).index_add_(0, place, part.reshape(len(place), -1).to(total.dtype))
    if embedding.amplitudes is not None:
        sums["amplitudes"][ids] = gradients[n].to(sums["amplitudes"].dtype)
    rows, bag = products.detach(), embedding._bag_rows(ids)
    if bag is not None:
        units = embedding.bag.index_select(0, ids)  # (W, m)
        word, column = (units >= 0).nonzero(as_tuple=True)
        total = sums["bag_vectors"]
        total.index_add_(0, units[word, column], drows.index_select(0, word).to(total.dtype))
    return rows if bag is None else rows + bag.detach()


class TiedHead(nn.Module):
    """An output layer without a matrix of its own: logits = h @ E.T (+ bias) of the embedding that it is tied to."""

    def __init__(self, embedding, bias=None):
        super().__init__()
        self.embedding = embedding
        self.bias = bias

    @property
    def weight(self):
        """The embedding's matrix, built anew at every use."""
        return self.embedding.weight

    def forward(self, h):
        scores = self.embedding.scores(h)
        return scores if self.bias is None else scores + self.bias
