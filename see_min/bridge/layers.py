"""SememeEmbedding: a SememeEncoding whose arrays are parameters, with the look-up and the tied head."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from see_min.encoding import SememeEncoding
from see_min.entangle import entangled_rows


class SememeEmbedding(nn.Module):
    """Stands in for `torch.nn.Embedding`; the (V, D) matrix is never stored.

    Parameters
    ----------
    encoding : SememeEncoding
        Its arrays become the parameters, its index buffers.
    dtype : torch.dtype
    block : int
        Words a step of `scores`; beyond this size, blocks are computed again in the backward pass instead of kept.

    Source: arXiv 2412.12204; the formula is `see_min.encoding.SememeEncoding`'s, through the same `entangled_rows`.
    """

    def __init__(self, encoding, dtype=torch.float32, block=8192):
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
        self.block = block

    @property
    def num_embeddings(self):
        return len(self.index)

    @property
    def embedding_dim(self):
        if self.carrier is not None:
            return self.carrier.shape[1]
        return math.prod(table.shape[2] for table in self.tables)

    def leaves(self, ids):
        """The leaves of words: a list of n tensors (W, r, q_j)."""
        index = self.index.index_select(0, ids)  # (W, n) or (W, r, n); unlike [ids] it refuses negative ids
        if index.ndim == 2:
            return [F.embedding(unit, table.flatten(1)).unflatten(1, table.shape[1:])  # (W, r, q_j)
                    for unit, table in zip(index.unbind(-1), self.tables)]
        term = torch.arange(index.shape[1], device=index.device)  # (r,)
        return [table[unit, term] for unit, table in zip(index.unbind(-1), self.tables)]  # (W, r, q_j)

    def inner_rows(self, ids):
        """Rows before the carrier, (W, d')."""
        rows = entangled_rows(self.leaves(ids), None if self.amplitudes is None else self.amplitudes[ids])  # (W, d')
        if self.bag is not None and len(self.bag_vectors):
            units = self.bag[ids]  # (W, m), -1 where a word has fewer
            present = (units >= 0).to(rows.dtype)
            rows = rows + F.embedding_bag(units.clamp(min=0), self.bag_vectors, mode="sum", per_sample_weights=present)
        return rows

    def forward(self, ids):
        """Embeddings (..., D) of ids (...)."""
        rows = self.inner_rows(ids.reshape(-1))  # (W, d')
        rows = rows if self.carrier is None else rows @ self.carrier  # (W, D)
        return rows.reshape(*ids.shape, rows.shape[-1])

    def scores(self, h):
        """h @ E.T for hidden states (..., D), in blocks of words: (..., V)."""
        h = h if self.carrier is None else h @ self.carrier.T  # (..., d')
        blocks = torch.arange(self.num_embeddings, device=h.device).split(self.block)
        if len(blocks) == 1:
            return self._block_scores(h, blocks[0])
        if not torch.is_grad_enabled():
            return torch.cat([self._block_scores(h, ids) for ids in blocks], -1)
        return torch.cat([checkpoint(self._block_scores, h, ids, use_reentrant=False) for ids in blocks], -1)

    def _block_scores(self, h, ids):
        return h @ self.inner_rows(ids).T  # (..., W)

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


class TiedHead(nn.Module):
    """An output layer without weights of its own: logits = h @ E.T of the embedding that it is tied to."""

    def __init__(self, embedding):
        super().__init__()
        self.embedding = embedding

    def forward(self, h):
        return self.embedding.scores(h)
