"""SememeEmbedding: a SememeEncoding as parameters, with the look-up and the tied head.

    look-up   E[ids] = (sum_k leaf_1k (x) ... (x) leaf_nk + sum of bag vectors) @ P
    head      h @ E.T = (h @ P.T) @ inner_rows(all words).T
"""

import math
from contextlib import contextmanager

import numpy as np
import scipy.sparse
import torch
from torch import nn

from see_min.bridge.blocked_scores import blocked_scores
from see_min.encoding import SememeEncoding, smallest
from see_min.entangle import entangled_rows


class SememeEmbedding(nn.Module):
    """Replaces `torch.nn.Embedding`; the (V, D) matrix is never stored.

    The arrays of the encoding become parameters, its index buffers of the smallest integer type.
    `padding` multiplies the row of `padding_idx`, which gets no gradient when it is looked up;
    `scale` multiplies looked-up rows, but not those of the head. Source: arXiv 2412.12204.
    """

    def __init__(self, encoding, dtype=torch.float32, padding_idx=None, padding=1.0, scale=1.0):
        super().__init__()
        self.order, self.num_embeddings = encoding.order, len(encoding)
        self.padding_idx, self.scale = padding_idx, scale
        self.cache = None  # inner rows (V, d') of all words, within `cached_rows`
        once = {}  # a table of several slots stays one parameter
        named = {f"table_{j}": table for j, table in enumerate(encoding.tables)}
        has_bag = encoding.bag is not None and encoding.bag_vectors.size  # one of no units is none
        named["bag_vectors"] = encoding.bag_vectors if has_bag else None  # (U, d')
        named["projection"] = encoding.projection  # (d', D)
        for name, array in named.items():
            if array is not None and id(array) not in once:
                once[id(array)] = nn.Parameter(torch.as_tensor(array).to(dtype, copy=True))
            self.register_parameter(name, None if array is None else once[id(array)])
        for j, table in enumerate(encoding.tables):
            own = encoding.index is None  # the unit of a word is the word
            units = None if own else _digits(encoding.index[:, :, j], len(table))
            self.register_buffer(f"index_{j}", units)  # (V, k, b), k = 1 or r
        if self.bag_vectors is not None:
            counts = np.diff(encoding.bag.indptr)  # (V,)
            units = _digits(encoding.bag.indices, len(self.bag_vectors))
            self.register_buffer("bag_lengths", _digits(counts, counts.max() + 1))  # (V, b)
            self.register_buffer("bag_units", units)  # (entries of M, b)
            self.register_buffer("bag_starts", None, persistent=False)  # (V,)
            _set_starts(self)
            self.register_load_state_dict_post_hook(_set_starts)
        factor = None if padding_idx is None else torch.tensor(padding, dtype=dtype)
        self.register_buffer("padding", factor)  # in the state: a fresh model has another pad row

    @classmethod
    def like(cls, layer, encoding):
        """With padding, scale, dtype, device, freezing and mode of an `nn.Embedding`."""
        weight, pad = layer.weight, layer.padding_idx
        zero = pad is not None and not weight[pad].any()
        scale = float(getattr(layer, "embed_scale", 1.0))
        new = cls(encoding, weight.dtype, pad, 0.0 if zero else 1.0, scale).to(weight.device)
        return new.requires_grad_(weight.requires_grad).train(layer.training)

    @classmethod
    def from_embedding(cls, layer, words, ratio=20, **options):
        """Compress one `nn.Embedding`; words and options are those of `see_min.recipe`."""
        from see_min.recipe import encode

        matrix = layer.weight.detach().cpu().double().numpy()  # (V, D)
        return cls.like(layer, encode(matrix, words, ratio, **options))

    @property
    def tables(self):
        """The n leaf tables (U_j, r, q_j)."""
        return [getattr(self, f"table_{j}") for j in range(self.order)]

    @property
    def inner_dim(self):
        return math.prod(table.shape[2] for table in self.tables)

    @property
    def embedding_dim(self):
        return self.inner_dim if self.projection is None else self.projection.shape[1]

    @property
    def weight(self):
        """E (V, D), computed at every use: for code that asks an embedding for its weight."""
        return self._project(self.inner_rows(self.all_ids()))

    def all_ids(self):
        return torch.arange(self.num_embeddings, device=self.table_0.device)  # (V,)

    def places(self, ids):
        """Rows of each flat table (U_j r, q_j) that words use: a list of n tensors (W r,)."""
        r = self.table_0.shape[1]
        term = torch.arange(r, device=ids.device)  # (r,)
        units = [ids[:, None]] * self.order  # (W, 1)
        if self.index_0 is not None:  # index_select, unlike [ids], refuses negative ids
            index = [getattr(self, f"index_{j}") for j in range(self.order)]  # (V, k, b)
            units = [_numbers(slot.index_select(0, ids)) for slot in index]  # (W, k)
        return [(unit * r + term).flatten() for unit in units]  # (W r,)

    def leaves(self, places, tables):
        """tables[j][index[ids, :, j], arange(r)]: a list of n tensors (W, r, q_j)."""
        flat = [table.flatten(0, 1) for table in tables]  # (U_j r, q_j): index_select is faster
        leaves = [table.index_select(0, place) for table, place in zip(flat, places)]
        return [leaf.view(-1, *table.shape[1:]) for leaf, table in zip(leaves, tables)]

    def bags(self, ids):
        """(units, offsets) as `nn.EmbeddingBag` takes them: row after row of M[ids]."""
        lengths = _numbers(self.bag_lengths[ids])  # (W,)
        offsets = lengths.cumsum(0) - lengths  # (W,)
        shift = (self.bag_starts[ids] - offsets).repeat_interleave(lengths)  # (N,)
        place = torch.arange(len(shift), device=ids.device) + shift  # (N,)
        return _numbers(self.bag_units[place]), offsets

    def inner_rows(self, ids):
        """Rows before the projection, (W, d'), from the cache where it may be used."""
        if self.cache is not None and not torch.is_grad_enabled():
            return self.cache.index_select(0, ids)
        products = entangled_rows(self.leaves(self.places(ids), self.tables))  # (W, d')
        return self.finished(ids, products, self.bag_vectors)

    def finished(self, ids, rows, bag_vectors):
        """Sums of products (W, d') plus bags, padded."""
        if bag_vectors is not None:
            units, offsets = self.bags(ids)
            rows = rows + nn.functional.embedding_bag(units, bag_vectors, offsets, mode="sum")
        return self.pad(ids, rows)

    def pad(self, ids, rows):
        """Rows (W, d'), that of `padding_idx` times `padding`."""
        if self.padding_idx is None:
            return rows
        factor = torch.where(ids == self.padding_idx, self.padding, 1.0)  # (W,)
        return rows * factor[:, None].to(rows.dtype)

    def _project(self, rows):
        return rows if self.projection is None else rows @ self.projection  # (W, D)

    def forward(self, ids):
        """Embeddings (..., D) of ids (...)."""
        flat = ids.reshape(-1).long()  # (W,)
        if len(flat) > self.num_embeddings:  # every row once is cheaper
            rows = self.inner_rows(self.all_ids()).index_select(0, flat)  # (W, d')
        else:
            rows = self.inner_rows(flat)  # (W, d')
        rows = self._project(rows)  # (W, D)
        if self.padding_idx is not None:
            rows = torch.where((flat == self.padding_idx)[:, None], rows.detach(), rows)
        rows = rows if self.scale == 1.0 else rows * self.scale
        return rows.reshape(*ids.shape, rows.shape[-1])

    def plain_scores(self, h):
        """h @ E.T for states (..., D): (..., V); holds the inner rows of all words at once."""
        h = h if self.projection is None else h @ self.projection.T  # (..., d')
        return h @ self.inner_rows(self.all_ids()).T  # (..., V)

    @torch.compiler.disable  # a loop of small steps and a custom backward: nothing to fuse
    def scores(self, h):
        """As `plain_scores`, in blocks of words, or with the cached rows."""
        if self.cache is not None and not torch.is_grad_enabled():
            return self.plain_scores(h)
        h = h if self.projection is None else h @ self.projection.T  # (..., d')
        scores = blocked_scores(self, h.reshape(-1, h.shape[-1]))  # (N, V)
        return scores.view(*h.shape[:-1], self.num_embeddings)

    def to_encoding(self):
        """Back to numpy, in the parameters' precision (float32 for bfloat16)."""
        return encoding_of(self.state_dict())


class TiedHead(nn.Module):
    """An output layer without a matrix of its own: h @ E.T (+ bias) of the tied embedding."""

    def __init__(self, embedding, bias=None):
        super().__init__()
        self.embedding, self.bias = embedding, bias

    @property
    def weight(self):
        return self.embedding.weight

    def forward(self, h):
        scores = self.embedding.scores(h)  # (..., V)
        return scores if self.bias is None else scores + self.bias


@contextmanager
def cached_rows(model):
    """Within this, each SememeEmbedding computes its inner rows (V, d') once, for reading only.

    A head then costs one product, as it should for a token at a time. Parameters must not change
    meanwhile; where gradients are recorded, the cache is not used.
    """
    own = [module for module in model.modules() if isinstance(module, SememeEmbedding)]
    try:
        with torch.no_grad():
            for module in own:
                module.cache = module.inner_rows(module.all_ids())  # (V, d')
        yield
    finally:
        for module in own:
            module.cache = None


def encoding_of(state, prefix=""):
    """The encoding whose tensors a state dict holds under a prefix; of one memory: one table."""
    arrays, once = {}, {}
    for key, tensor in state.items():
        if key.startswith(prefix):
            exact = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
            exact = _numbers(tensor) if tensor.dtype == torch.uint8 else exact
            place = tensor.data_ptr(), tensor.dtype, tensor.shape  # 0 for empty tensors
            arrays[key.removeprefix(prefix)] = once.setdefault(place, exact.detach().cpu().numpy())
    slots = range(sum(name.startswith("table_") for name in arrays))
    index = bag = None
    if "index_0" in arrays:
        index = np.stack([arrays[f"index_{j}"] for j in slots], axis=-1)  # (V, k, n)
    if "bag_vectors" in arrays:
        ends = np.append(0, np.cumsum(arrays["bag_lengths"]))  # (V + 1,)
        units, shape = arrays["bag_units"], (len(ends) - 1, len(arrays["bag_vectors"]))
        bag = scipy.sparse.csr_array((np.ones(len(units)), units, ends), shape=shape)
    tables = [arrays[f"table_{j}"] for j in slots]
    return SememeEncoding(tables, index, arrays.get("projection"), bag, arrays.get("bag_vectors"))


def _digits(array, count):
    """Numbers below `count` as bytes (..., b): processes cannot send each other 16 bits."""
    kind = smallest(count).newbyteorder("<")
    array = np.ascontiguousarray(array, dtype=kind)[..., None]
    return torch.from_numpy(array.view(np.uint8).copy())  # (..., b), b = 1, 2 or 4


def _numbers(digits):
    """The numbers (...) of bytes (..., b), the lowest byte first."""
    return sum(byte.long() << 8 * i for i, byte in enumerate(digits.unbind(-1)))


def _set_starts(module, _=None):
    """Where each bag begins; a loaded state may hold other bags."""
    lengths = _numbers(module.bag_lengths)  # (V,)
    module.bag_starts = lengths.cumsum(0) - lengths  # (V,)
