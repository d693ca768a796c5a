"""SememeEmbedding: a SememeEncoding as parameters, with the look-up and the tied head.

    look-up   E[ids] = (sum_k leaf_1k (x) ... (x) leaf_nk + sum of bag vectors) @ P
    head      h @ E.T = (h @ P.T) @ inner_rows(all words).T
"""

import copy
from contextlib import contextmanager

import numpy as np
import scipy.sparse
import torch
from torch import nn

from see_min.bridge.scores import filled, gather, head_scores, on_cpu, product
from see_min.encoding import SememeEncoding, smallest
from see_min.entangle import entangled_rows
from see_min.errors import InputError
from see_min.storage.encodings import rounded

NOTES = ("words", "slot_names", "bag_names", "bag_derived")  # of an encoding, beside its arrays


class SememeEmbedding(nn.Module):
    """Replaces `torch.nn.Embedding`; the (V, D) matrix is never stored.

    The arrays of the encoding become parameters, its index buffers of the smallest integer type.
    `padding` multiplies the row of `padding_idx`, which gets no gradient when it is looked up;
    `scale` multiplies looked-up rows, but not those of the head. Source: arXiv 2412.12204.
    """

    def __init__(self, encoding, dtype=torch.float32, padding_idx=None, padding=1.0, scale=1.0):
        super().__init__()
        self.order, self.rank, self.inner_dim = encoding.order, encoding.rank, encoding.inner_dim
        self.num_embeddings, self.embedding_dim = encoding.shape
        self.slot_units = len(encoding.tables[-1])  # a shard of a table does not say it
        self.padding_idx, self.scale = padding_idx, scale
        self.bits, self.notes = encoding.bits, {name: getattr(encoding, name) for name in NOTES}
        self.cache = None  # inner rows of all words, `filled`, within `cached_rows`
        self.held = self.sorted_words = None  # of `unit_sums`: within `cached_rows`, or kept
        once = {}  # a table of several slots stays one parameter
        named = {f"table_{j}": table for j, table in enumerate(encoding.tables)}
        has_bag = encoding.bag is not None and encoding.bag_vectors.size  # one of no units is none
        named["bag_vectors"] = encoding.bag_vectors if has_bag else None  # (U, d')
        named["projection"] = encoding.projection  # (d', D)
        for name, array in named.items():
            if array is not None and id(array) not in once:
                once[id(array)] = nn.Parameter(torch.as_tensor(array).to(dtype, copy=True))
            self.register_parameter(name, None if array is None else once[id(array)])
        most = max(map(len, encoding.tables))
        for j, table in enumerate(encoding.tables):
            known = encoding.index is None or len(table) == 1 < most  # it is the word, or 0
            units = None if known else _digits(encoding.index[:, :, j], len(table))
            self.register_buffer(f"index_{j}", units)  # (V, k, b), k = 1 or r
        if self.bag_vectors is not None:
            counts = np.diff(encoding.bag.indptr)  # (V,)
            units = _digits(encoding.bag.indices, len(self.bag_vectors))
            self.register_buffer("bag_lengths", _digits(counts, counts.max() + 1))  # (V, b)
            self.register_buffer("bag_units", units)  # (entries of M, b)
            self.register_buffer("bag_starts", None, persistent=False)  # (V,)
            self.register_buffer("bag_words", None, persistent=False)  # (N,), whose bags have units
        factor = None if padding_idx is None else torch.tensor(padding, dtype=dtype)
        self.register_buffer("padding", factor)  # in the state: a fresh model has another pad row
        _set_starts(self)
        self.register_load_state_dict_post_hook(_set_starts)

    def forward(self, ids, scores=False):
        """Embeddings (..., D) of ids (...); for a head the `scores` of states (..., D).

        Both are calls of the module: hooks that bring the weights (offloading, sharding) then run.
        """
        if scores:
            return self.scores(ids)
        words, places = ids.reshape(-1).long(), None  # (W,)
        if on_cpu(ids):  # text repeats words; elsewhere nothing waits
            words, places = words.unique(return_inverse=True)  # (W',), (W,)
        elif not torch.compiler.is_exporting() and len(words) > self.num_embeddings:
            words, places = self.all_ids(), words  # every row once is cheaper
        rows = self.rows(words)  # (W', D)
        if self.padding_idx is not None:
            rows = torch.where((words == self.padding_idx)[:, None], rows.detach(), rows)
        rows = rows if places is None else rows.index_select(0, places)  # (W, D)
        return rows.reshape(*ids.shape, rows.shape[-1]) * self.scale

    def scores(self, h):
        """h @ E.T for states (..., D): (..., V)."""
        h = h if self.projection is None else product(h, self.projection)  # (..., d')
        if self.cached:
            return product(h, self.cache)[..., : self.num_embeddings]  # (..., V)
        scores = head_scores(self, h.reshape(-1, h.shape[-1]))  # (N, V)
        return scores.view(*h.shape[:-1], self.num_embeddings)

    def rows(self, ids):
        """Rows of E, (W, D), not scaled."""
        rows = self.inner_rows(ids)  # (W, d')
        return rows if self.projection is None else product(rows, self.projection.T)  # (W, D)

    def inner_rows(self, ids):
        """Rows before the projection, (W, d'), from the cache where it may be used."""
        if self.cached:
            return self.cache.index_select(0, ids)[:, : self.inner_dim]
        if self.coded:  # sum_k a_k (x) leaf_k of all words is one product
            leaf = gather(self.table_1.transpose(0, 1), self.code_places(ids))  # (W, r, q)
            products = torch.einsum("kg,wkq->wgq", self.table_0[0], leaf).flatten(1)  # (W, d')
        else:
            products = entangled_rows(self.leaves(ids))  # (W, d')
        if self.bag_vectors is not None:
            units, offsets, weights = self.bags(ids)
            products = products + nn.functional.embedding_bag(
                units, self.bag_vectors, offsets, mode="sum", per_sample_weights=weights
            )
        if self.padding_idx is not None:
            factor = torch.where(ids == self.padding_idx, self.padding, 1.0)  # (W,)
            products = products * factor[:, None].to(products.dtype)
        return products

    def leaves(self, ids):
        """tables[j][index[ids, :, j], arange(r)]: a list of n tensors (W, r, q_j)."""
        index = [getattr(self, f"index_{j}") for j in range(self.order)]  # (V, k, b)
        own = all(slot is None for slot in index)  # the unit is the word, else 0
        units = [  # index_select, unlike [ids], refuses negative ids
            ids[:, None] * own if slot is None else _numbers(slot.index_select(0, ids))
            for slot in index
        ]  # (W, k)
        r = self.rank
        term = torch.arange(r, device=ids.device)  # (r,)
        return [gather(table, unit * r + term) for table, unit in zip(self.tables, units)]

    def code_places(self, ids=None, multiple=1):
        """Rows of table 1 as (r U, q) that `coded` words use, without ids all: (W, r).

        Words and terms are filled up to a `multiple`, with any places: (W', r').
        """
        codes = self.index_1[..., 0]  # (V, r)
        codes = codes if ids is None else codes.index_select(0, ids)  # (W, r)
        W, r = (-n % multiple for n in codes.shape)
        codes = nn.functional.pad(codes, (0, r, 0, W)) if W or r else codes  # (W', r')
        term = torch.arange(codes.shape[1], dtype=torch.int32, device=codes.device)  # (r',)
        return codes.int().add_(self.slot_units * term.clamp_(max=self.rank - 1))

    def bags(self, ids):
        """(units, offsets, weights) as `F.embedding_bag` takes them: row after row of M[ids].

        How many units there are depends on the ids, and only a CPU knows without waiting. Other
        devices take as many for every word as the largest bag has, those too many with weight 0.
        """
        starts = self.bag_starts[ids]  # (W,)
        lengths = _numbers(self.bag_lengths[ids])  # (W,)
        if not on_cpu(ids):
            place = torch.arange(self.longest_bag, device=ids.device)  # (m,)
            weights = (place < lengths[:, None]).to(self.bag_vectors.dtype)  # (W, m)
            place = (starts[:, None] + place).clamp(max=len(self.bag_units) - 1)  # (W, m)
            return _numbers(self.bag_units[place]), None, weights
        offsets = lengths.cumsum(0) - lengths  # (W,)
        shift = (starts - offsets).repeat_interleave(lengths)  # (N,)
        place = torch.arange(len(shift)) + shift  # (N,)
        return _numbers(self.bag_units[place]), offsets, None

    @property
    def bagged(self):
        """Words (N,) whose bags have units, these (entries of M,), and where each begins (N,)."""
        return self.bag_words, _numbers(self.bag_units), self.bag_starts[self.bag_words]

    @property
    def tables(self):
        """The n leaf tables (U_j, r, q_j)."""
        return [getattr(self, f"table_{j}") for j in range(self.order)]

    @property
    def coded(self):
        """Whether slot 1 has one unit, and slot 2 a code of one byte for each of r terms."""
        if self.order != 2 or self.index_0 is not None or self.index_1 is None:
            return False
        return self.index_1.shape[1:] == (self.rank, 1)

    @property
    def cached(self):
        """Whether inner rows are at hand and may be used."""
        return self.cache is not None and not torch.is_grad_enabled()

    def all_ids(self):
        return torch.arange(self.num_embeddings, device=self.table_0.device)  # (V,)

    @property
    def weight(self):
        """E (V, D), computed at every use: for code that asks an embedding for its weight."""
        return self.rows(self.all_ids())

    @classmethod
    def like(cls, layer, encoding):
        """With padding, scale, dtype, device, freezing and mode of an `nn.Embedding`."""
        weight, pad = layer.weight, layer.padding_idx
        zero = pad is not None and not weight[pad].any()
        scale = getattr(layer, "embed_scale", 1.0)  # a tensor has the type of the rows
        scale = float(scale.to(weight.dtype) if torch.is_tensor(scale) else scale)
        new = cls(encoding, weight.dtype, pad, 0.0 if zero else 1.0, scale).to(weight.device)
        if weight.dtype.itemsize == 2:
            new.round()  # again: the type has fewer digits than the steps of the encoding
        return new.requires_grad_(weight.requires_grad).train(layer.training)

    def rebuilt(self, encoding):
        """A layer of another encoding, with padding, scale, dtype, device and freezing of this."""
        weight, padding = self.table_0, 1.0 if self.padding is None else float(self.padding)
        new = SememeEmbedding(encoding, weight.dtype, self.padding_idx, padding, self.scale)
        return new.to(weight.device).requires_grad_(weight.requires_grad).train(self.training)

    @torch.no_grad()
    def round(self):
        """Round the parameters to those that a file of `bits` holds."""
        if self.bits:
            kept = self.rebuilt(rounded(self.to_encoding(), self.bits)).state_dict()
            for name, parameter in self.named_parameters():
                parameter.copy_(kept[name])

    def to_encoding(self):
        """Back to numpy, in the parameters' precision (float32 for bfloat16), with its names.

        Raises InputError where the weights are offloaded.
        """
        if self.table_0.is_meta:
            raise InputError("embedding: expected weights in memory, got offloaded ones")
        arrays = {None: None}  # a table of several slots stays one array
        for parameter in self.parameters():
            exact = parameter.float() if parameter.dtype == torch.bfloat16 else parameter
            arrays[parameter] = exact.detach().cpu().numpy()
        tables = [arrays[table] for table in self.tables]
        projection, vectors = arrays[self.projection], arrays[self.bag_vectors]
        index, bag = self._index(), None
        if vectors is not None:
            ends = np.append(0, _numbers(self.bag_lengths).cpu().cumsum(0))  # (V + 1,)
            units, shape = _numbers(self.bag_units).cpu(), (len(ends) - 1, len(vectors))
            bag = scipy.sparse.csr_array((np.ones(len(units)), units, ends), shape=shape)
        return SememeEncoding(tables, index, projection, bag, vectors, bits=self.bits, **self.notes)

    def _index(self):
        """The index (V, k, n) of an encoding: 0 where a slot has one unit; None of words."""
        slots = [getattr(self, f"index_{j}") for j in range(self.order)]
        known = [None if slot is None else _numbers(slot).cpu() for slot in slots]  # (V, k)
        some = next((one for one in known if one is not None), None)
        if some is None:
            return None
        return np.stack([torch.zeros_like(some) if one is None else one for one in known], axis=-1)


class TiedHead(nn.Module):
    """An output layer without a matrix of its own: h @ E.T (+ bias) of the tied embedding.

    The embedding is what stands at `name` in `parent` when it is used: who puts another one there
    has it in the head, too. The pair is a tuple, so that each tensor of a model has one name.
    """

    def __init__(self, parent, name, bias=None):
        super().__init__()
        self.tie, self.bias = (parent, name), bias

    def __deepcopy__(self, memo):
        if not memo:  # it would drift away from its embedding
            raise InputError("head: expected to be copied with its model, got a copy of it alone")
        new = memo[id(self)] = TiedHead.__new__(TiedHead)
        vars(new).update(copy.deepcopy(vars(self), memo))
        return new

    @property
    def embedding(self):
        parent, name = self.tie
        return getattr(parent, name)

    @property
    def weight(self):
        return self.embedding.weight

    def forward(self, h):
        embedding = self.embedding
        if isinstance(embedding, nn.Embedding):  # another one was put in its place
            return nn.functional.linear(h, embedding.weight, self.bias)
        home = embedding.table_0.device  # another one than that of h where a model is spread out
        states = h if home.type == "meta" else h.to(home)  # meta: offloaded, a hook brings them
        scores = embedding(states, scores=True).to(h.device)  # (..., V)
        return scores if self.bias is None else scores + self.bias


@contextmanager
def cached_rows(model):
    """Within this, each SememeEmbedding computes its inner rows (V, d') once, for reading only.

    A head then costs one product, as it should for a token at a time. Parameters must not change
    meanwhile; where gradients are recorded, the cache is not used. Of codes on a CPU it holds the
    places in the tables instead of rows: fewer bytes to read, 4 r instead of 4 d' per word.
    """
    own = [module for module in model.modules() if isinstance(module, SememeEmbedding)]
    try:
        with torch.no_grad():
            for module in own:
                if module.coded and on_cpu(module.table_1):
                    module.held = module.code_places()  # (V, r)
                else:
                    rows = module.inner_rows(module.all_ids())  # (V, d')
                    module.cache = filled(rows)
        yield
    finally:
        for module in own:
            module.cache = module.held = None


def _digits(array, count):
    """Numbers below `count` as bytes (..., b): processes cannot send each other 16 bits."""
    kind = smallest(count).newbyteorder("<")
    array = np.ascontiguousarray(array, dtype=kind)[..., None]
    return torch.from_numpy(array.view(np.uint8).copy())  # (..., b), b = 1, 2 or 4


def _numbers(digits):
    """The numbers (...) of bytes (..., b), the lowest byte first."""
    return sum(byte.long() << 8 * i for i, byte in enumerate(digits.unbind(-1)))


def _set_starts(module, _=None):
    """Where each bag begins, and what else follows from a state; a loaded one may have others."""
    module.sorted_words = None
    if module.bag_vectors is not None and not module.bag_lengths.is_meta:
        lengths = _numbers(module.bag_lengths)  # (V,)
        module.bag_starts = lengths.cumsum(0) - lengths  # (V,)
        module.bag_words = lengths.nonzero().flatten()  # (N,)
        module.longest_bag = int(lengths.max())
