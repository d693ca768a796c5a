"""SememeEmbedding: a SememeEncoding whose arrays are parameters, with the look-up and the tied head.

A look-up gathers the leaves of its ids and contracts them; gradients are added to the gathered leaves' tables alone. A head makes
the rows of a block of words at a time, in both directions, so that the (V, D) matrix and its gradient are never held; at most
it keeps rows before the carrier, (V, d'), where they are small. A model that only reads, token after token, may keep these rows
from one call to the next: `kept_rows`.
"""

import math
from contextlib import contextmanager

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from see_min.encoding import SememeEncoding
from see_min.entangle import entangled_rows, halves

BLOCK_FLOATS = 3 * 2**18  # rows and leaves of a block stay in the cache: twice as fast as 16 MB, each time new from the system
LINE = 64  # words of a block are a multiple of it: scores of blocks then share no cache line, a tenth faster
KEEP = 4  # where d' is at most D / KEEP, a head keeps its rows (V, d') for the backward pass: an eighth faster


class SememeEmbedding(nn.Module):
    """Stands in for `torch.nn.Embedding`; the (V, D) matrix is never stored.

    Parameters
    ----------
    encoding : SememeEncoding
        Its arrays become the parameters, its index buffers.
    dtype : torch.dtype
    block : int, optional
        Words a step of `scores`; as many as have BLOCK_FLOATS in rows and leaves when left out.
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
        floats = encoding.inner + sum(table[0].size for table in encoding.tables)  # d' + r (q_1 + .. + q_n) a word
        self.block = block or max(256, BLOCK_FLOATS // floats // LINE * LINE)
        self.padding_idx, self.padding, self.scale = padding_idx, padding, scale
        self.kept = None  # rows (V, d') of all words, within `kept_rows`

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
        """Rows before the carrier, (W, d'), taken from those that are kept or made."""
        if self.kept is not None and not torch.is_grad_enabled():
            return self.kept.index_select(0, ids)
        return self._made_rows(ids)

    def _made_rows(self, ids):
        rows = entangled_rows(self.leaves(ids), None if self.amplitudes is None else self.amplitudes[ids])  # (W, d')
        bag = self._bag_rows(ids)
        return rows if bag is None else bag.add_(rows)

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
        """h @ E.T for hidden states (..., D), in blocks of words: (..., V).

        In training, rows before the carrier are kept until the backward pass if they are small, 4 d' <= D; else made again.
        """
        h = h if self.carrier is None else h @ self.carrier.T  # (..., d')
        flat = h.reshape(-1, h.shape[-1])  # (N, d')
        if torch.is_autocast_enabled(h.device.type) and h.dtype != torch.float64:  # a product with out= does not cast by itself
            flat = flat.to(torch.get_autocast_dtype(h.device.type))
        made = self.kept is None or torch.is_grad_enabled()
        scores = self._block_scores(flat) if made else flat @ self.kept.to(flat.dtype).T  # (N, V)
        if self.padding == 0.0 and self.padding_idx is not None:
            scores = scores.index_fill(1, torch.tensor([self.padding_idx], device=h.device), 0.0)  # as h times a row of zeros
        return scores.view(*h.shape[:-1], self.num_embeddings)

    def _block_scores(self, flat):
        parts = {name: p for name, p in self.named_parameters() if name != "carrier"}
        keep = flat.requires_grad and KEEP * flat.shape[1] <= self.embedding_dim
        return BlockScores.apply(self, keep, list(parts), flat, *parts.values())

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


@contextmanager
def kept_rows(model):
    """Within this, every SememeEmbedding of a model makes its rows before the carrier once, (V, d'), to read without gradients.

    A head then costs one product with rows of d' numbers, and a token at a time no longer makes all rows at every token.
    Parameters must not change meanwhile; where gradients are recorded, nothing is kept.

    Examples
    --------
    >>> from see_min.encoding import SememeEncoding
    >>> leaves, index = torch.ones(3, 1, 2).numpy(), torch.tensor([[0], [1], [2], [1]]).numpy()
    >>> embedding = SememeEmbedding(SememeEncoding([leaves], index))
    >>> with torch.no_grad(), kept_rows(embedding):
    ...     embedding.scores(torch.ones(1, 2))
    tensor([[2., 2., 2., 2.]])

    Source: ours.
    """
    own = [module for module in model.modules() if isinstance(module, SememeEmbedding)]
    try:
        with torch.no_grad():
            for module in own:
                module.kept = module.inner_rows(torch.arange(module.num_embeddings, device=module.index.device))  # (V, d')
        yield
    finally:
        for module in own:
            module.kept = None


class BlockScores(torch.autograd.Function):
    """h @ rows.T for the rows of all words before the carrier, made in blocks; kept, or made again in the backward pass.

    With G the gradient of the scores, block by block: dh += G rows, d rows = G^T h, and from there to the leaves of the block,
    whose gradients are added to those of the tables at once. Memory beyond the result: the gradients of the parameters,
    a few blocks of rows, and what is kept.

    Source: ours; contracting h with leaves first would cost r times as much (docs/scaling.md).
    """

    @staticmethod
    def forward(ctx, embedding, keep, names, h, *parameters):
        V, block = embedding.num_embeddings, embedding.block
        scores = h.new_empty(len(h), V)  # (N, V)
        kept = h.new_empty(V, h.shape[1]) if keep else None  # (V, d')
        for ids, out in zip(embedding._blocks(), scores.split(block, 1)):
            rows = embedding._made_rows(ids).to(h.dtype)  # (W, d'); gradients are never recorded here
            torch.mm(h, rows.T, out=out)  # (N, W)
            if keep:
                kept[ids[0] : ids[-1] + 1] = rows
        ctx.embedding, ctx.names = embedding, names
        ctx.save_for_backward(h, kept, *parameters)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        h, kept, *parameters = ctx.saved_tensors
        embedding, block = ctx.embedding, ctx.embedding.block
        sums = {name: torch.zeros(p.shape, dtype=torch.float32 if p.dtype == torch.bfloat16 else p.dtype, device=p.device)
                for name, p in zip(ctx.names, parameters)}
        if embedding.bag is not None:
            sums["bag_vectors"] = nn.functional.pad(sums["bag_vectors"], (0, 0, 0, 1))  # (U + 1, d')
        dh = torch.zeros_like(h)
        for ids, g in zip(embedding._blocks(), gradient.to(h.dtype).split(block, 1)):  # g (N, W)
            product = _add_block(embedding, ids, g.T @ h, sums)
            if kept is None:
                rows, bag = entangled_rows(product), embedding._bag_rows(ids)  # (W, d')
                rows = rows if bag is None else bag.add_(rows)
            else:
                rows = kept[ids[0] : ids[-1] + 1]  # (W, d')
            dh.addmm_(g, rows.to(h.dtype))
        return None, None, None, dh, *(sums[name][: len(p)].to(p.dtype) for name, p in zip(ctx.names, parameters))


def _add_block(embedding, ids, drows, sums):
    """Add what a gradient (W, d') of a block's rows gives to every part; returns the halves of the rows without the bag."""
    drows = drows.to(embedding.tables[0].dtype)
    with torch.no_grad():
        parts = embedding.leaves(ids)  # n tensors (W, r, q_j)
        if embedding.amplitudes is not None:
            parts.append(embedding.amplitudes[ids])  # (W, r)
    parts, n = [part.requires_grad_() for part in parts], len(embedding.tables)
    with torch.enable_grad():
        product = halves(parts[:n], *parts[n:])  # (W, r, a), (W, r, b)
    own = [half.detach() for half in product]
    gradients = torch.autograd.grad(product, parts, _halves_gradients(own, drows))
    names = {id(p): name for name, p in embedding.named_parameters()}  # one table may stand in several slots
    for (place, flat), table, part in zip(embedding._places(ids), embedding.tables, gradients):
        total = sums[names[id(table)]]
        _add_rows(total.view(flat.shape), place, part.reshape(len(place), -1))
    if embedding.amplitudes is not None:
        sums["amplitudes"][ids] = gradients[n].to(sums["amplitudes"].dtype)
    if embedding.bag is not None:
        total = sums["bag_vectors"]  # (U + 1, d'): the last row takes what words with fewer units have none for
        for units in embedding.bag.index_select(0, ids).remainder(len(total)).unbind(1):  # a column of (W, m) at a time
            _add_rows(total, units, drows)
    return own


def _halves_gradients(own, drows):
    """What a gradient (W, d') of `entangled_rows` gives to its halves."""
    if len(own) == 1:
        return [drows[:, None].expand_as(own[0])]  # (W, r, q_1)
    left, right = own
    drows = drows.view(len(left), left.shape[2], right.shape[2])  # (W, a, b)
    return [right @ drows.transpose(1, 2), left @ drows]  # (W, r, a), (W, r, b)


def _add_rows(total, place, rows):
    """total[place_i] += rows_i; several times as fast as index_add_, which takes the rows one by one on one core."""
    total.scatter_add_(0, place.long()[:, None].expand_as(rows), rows.to(total.dtype))


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
