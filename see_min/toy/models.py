"""TinyGPT, TinyBERT, TinyTranslator: pre-norm transformers, trained in minutes on two cores.

The output head of each is its own embedding, logits = h @ E.T, so compressing a model is replacing
the modules that ``model.embeddings`` names: by anything with ``forward(ids)`` and, for the head,
``scores(h)``. Every model returns its hidden states, because finetuning compares them.
Shapes: b rows, t positions, s positions looked at, D = n_embd, h = n_head, V = vocab_size.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from see_min.errors import InputError, check_at_least


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a TinyGPT; `block_size` is the longest context."""

    vocab_size: int
    n_embd: int = 256
    n_layer: int = 2
    n_head: int = 4
    block_size: int = 64

    def __post_init__(self):
        check_heads(self)


@dataclass(frozen=True)
class BERTConfig(GPTConfig):
    """Sizes of a TinyBERT, and the id that fills rows up."""

    n_embd: int = 192
    pad: int = 0


@dataclass(frozen=True)
class TranslatorConfig:
    """Sizes of a TinyTranslator: as many layers in the encoder as in the decoder."""

    source_vocab_size: int
    target_vocab_size: int
    n_embd: int = 256
    n_layer: int = 3
    n_head: int = 4
    block_size: int = 64
    pad: int = 0
    begin: int = 1
    end: int = 2
    dropout: float = 0.1

    def __post_init__(self):
        check_heads(self)


def check_heads(config):
    """Refuse a width that the heads cannot share."""
    width, heads = config.n_embd, check_at_least("n_head", config.n_head, 1)
    if width % heads:
        raise InputError(f"n_embd: expected a multiple of {heads} heads, got {width}")


def attend(q, k, v, n_head, causal=False, attention_mask=None):
    """softmax(q k^T / sqrt(D / h)) v per head: q (b, t, D), k and v (b, s, D) -> (b, t, D).

    If `causal`, position t looks at positions s <= t. An `attention_mask`, bool (b, s), names the
    keys that may be looked at; causal attention needs none, because padding stands at the end.
    Source: arXiv 1706.03762, equation 1.
    """
    q, k, v = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in (q, k, v))  # (b, h, ., D/h)
    mask = None if attention_mask is None else attention_mask[:, None, None, :]  # (b, 1, 1, s)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)  # (b, h, t, D/h)
    return y.transpose(1, 2).flatten(2)  # (b, t, D)


class SelfAttention(nn.Module):
    """Each position looks at all positions; if causal, at itself and those before it.

    With a `cache`, a list that is empty at first, x (b, 1, D) is the position after those of the
    calls before, whose keys and values it holds.
    """

    def __init__(self, config, causal):
        super().__init__()
        self.n_head, self.causal = config.n_head, causal
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.project = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x, attention_mask=None, cache=None):
        D = x.shape[-1]
        q, kv = self.qkv(x).split([D, 2 * D], dim=-1)  # (b, t, D), (b, t, 2 D)
        if cache is not None:
            kv = torch.cat([*cache, kv], dim=1)  # (b, s, 2 D)
            cache[:] = [kv]
        k, v = kv.chunk(2, dim=-1)  # (b, s, D) each
        causal = self.causal and cache is None  # the last position looks at all there are
        return self.project(attend(q, k, v, self.n_head, causal, attention_mask))  # (b, t, D)


class CrossAttention(nn.Module):
    """Each target position looks at the source, whose ``kv(memory)`` is computed once."""

    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        self.q = nn.Linear(config.n_embd, config.n_embd)
        self.kv = nn.Linear(config.n_embd, 2 * config.n_embd)
        self.project = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x, kv, mask):
        k, v = kv.chunk(2, dim=-1)  # (b, s, D) each
        return self.project(attend(self.q(x), k, v, self.n_head, attention_mask=mask))  # (b, t, D)


def make_mlp(n_embd):
    """Four times as wide inside: (b, t, D) -> (b, t, 4 D) -> (b, t, D)."""
    return nn.Sequential(nn.Linear(n_embd, 4 * n_embd), nn.GELU(), nn.Linear(4 * n_embd, n_embd))


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, config, causal, dropout=0.0):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.n_embd), nn.LayerNorm(config.n_embd)
        self.attention = SelfAttention(config, causal)
        self.mlp = make_mlp(config.n_embd)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, attention_mask=None):
        x = x + self.dropout(self.attention(self.norm1(x), attention_mask))  # (b, t, D)
        return x + self.dropout(self.mlp(self.norm2(x)))  # (b, t, D)


class DecoderBlock(nn.Module):
    """x + attention(norm x), then x + cross(norm x, source), then x + mlp(norm x)."""

    def __init__(self, config):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(config.n_embd) for _ in range(3))
        self.attention = SelfAttention(config, causal=True)
        self.cross = CrossAttention(config)
        self.mlp = make_mlp(config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, kv, attention_mask, cache=None):
        x = x + self.dropout(self.attention(self.norm1(x), cache=cache))  # (b, t, D)
        x = x + self.dropout(self.cross(self.norm2(x), kv, attention_mask))  # (b, t, D)
        return x + self.dropout(self.mlp(self.norm3(x)))  # (b, t, D)


def initialize(model):
    """Matrices from N(0, 0.02^2), smaller where a residual branch ends; biases are 0."""
    deep = 0.02 / math.sqrt(2 * model.config.n_layer)  # depth does not change the scale
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            ends_branch = name.endswith(("project.weight", "mlp.2.weight"))
            nn.init.normal_(parameter, std=deep if ends_branch else 0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    for name in model.embeddings:
        nn.init.normal_(model.get_submodule(name).weight, std=0.05)  # at 0.02 positions drown words


def embed(embedding, positions, ids, name="ids", start=0):
    """E[ids] + P[start : start + t]: (b, t) -> (b, t, D); InputError for positions beyond P."""
    stop, most = start + ids.shape[1], positions.num_embeddings
    if stop > most:
        raise InputError(f"{name}: expected at most {most} positions, got {stop}")
    places = torch.arange(start, stop, device=ids.device)  # (t,)
    return embedding(ids) + positions(places)  # (b, t, D) + (t, D)


def tied_scores(embedding, h):
    """h @ E.T of an `nn.Embedding` or anything that has ``scores(h)``: (b, t, D) -> (b, t, V)."""
    if isinstance(embedding, nn.Embedding):
        return F.linear(h, embedding.weight)  # (b, t, V)
    return embedding.scores(h)  # (b, t, V)


def padding_mask(ids, pad):
    """Which ids are not padding, (b, t); in a row of padding all count, as a softmax needs some.

    >>> padding_mask(torch.tensor([[5, 6, 0], [0, 0, 0]]), 0).tolist()
    [[True, True, False], [True, True, True]]
    """
    valid = ids != pad  # (b, t)
    return valid | ~valid.any(dim=1, keepdim=True)  # (b, t) | (b, 1)


class WordModel(nn.Module):
    """Embeddings, blocks and a norm; `logits` of the subclasses is the head."""

    embeddings = ("token_embedding",)
    causal: bool

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.ModuleList(Block(config, self.causal) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd)

    def hidden_states(self, ids):
        """Embeddings, then the output of every block: n_layer + 1 tensors (b, t, D)."""
        mask = None if self.causal else padding_mask(ids, self.config.pad)  # (b, t)
        states = [embed(self.token_embedding, self.position_embedding, ids)]  # (b, t, D)
        for block in self.blocks:
            states.append(block(states[-1], mask))  # (b, t, D)
        return states

    def forward(self, ids):
        return self.logits(self.hidden_states(ids)[-1])  # (b, t, V)


class TinyGPT(WordModel):
    """A word-level language model: each position sees itself and those before it."""

    causal = True

    def __init__(self, config):
        super().__init__(config)
        initialize(self)

    def logits(self, state):
        """Scores of all words from the last hidden state: (b, t, D) -> (b, t, V)."""
        return tied_scores(self.token_embedding, self.norm(state))  # (b, t, V)


class TinyBERT(WordModel):
    """A word-level masked language model: logits = transform(norm h) @ E.T + bias.

    Each position sees both sides, but no padding.
    Source: arXiv 1810.04805 for the task and the head; the blocks are `TinyGPT`'s, pre-norm.
    """

    causal = False

    def __init__(self, config):
        super().__init__(config)
        D = config.n_embd
        self.transform = nn.Sequential(nn.Linear(D, D), nn.GELU(), nn.LayerNorm(D))
        self.head_bias = nn.Parameter(torch.zeros(config.vocab_size))  # (V,)
        initialize(self)

    def logits(self, state):
        """Scores of all words from the last hidden state: (b, t, D) -> (b, t, V)."""
        h = self.transform(self.norm(state))  # (b, t, D)
        return tied_scores(self.token_embedding, h) + self.head_bias  # (b, t, V) + (V,)


class TinyTranslator(nn.Module):
    """A word-level translator: an encoder, and a decoder with the target's embedding as its head.

    Rows are filled up at their end with ``config.pad``.
    Source: arXiv 1706.03762; here with pre-norm blocks and learned positions.
    """

    embeddings = ("source_embedding", "target_embedding")

    def __init__(self, config):
        super().__init__()
        self.config = config
        V, W, D = config.source_vocab_size, config.target_vocab_size, config.n_embd
        layers = range(config.n_layer)
        self.source_embedding = nn.Embedding(V, D)
        self.target_embedding = nn.Embedding(W, D)
        self.source_positions = nn.Embedding(config.block_size, D)
        self.target_positions = nn.Embedding(config.block_size, D)
        self.encoder = nn.ModuleList(Block(config, False, config.dropout) for _ in layers)
        self.decoder = nn.ModuleList(DecoderBlock(config) for _ in layers)
        self.source_norm, self.norm = nn.LayerNorm(D), nn.LayerNorm(D)
        self.dropout = nn.Dropout(config.dropout)
        initialize(self)

    def hidden_states(self, source, target):
        """States of the encoder (b, s, D), then of the decoder (b, t, D), n_layer + 1 each."""
        encoded, mask = self._encode(source)
        return encoded + self._decode(target, self._source_keys(encoded[-1]), mask)

    def logits(self, state):
        """Scores of all target words from the decoder's last state: (b, t, D) -> (b, t, W)."""
        return tied_scores(self.target_embedding, self.norm(state))  # (b, t, W)

    def forward(self, source, target):
        return self.logits(self.hidden_states(source, target)[-1])  # (b, t, W)

    def _encode(self, source):
        mask = padding_mask(source, self.config.pad)  # (b, s)
        x = embed(self.source_embedding, self.source_positions, source, "source")  # (b, s, D)
        states = [self.dropout(x)]
        for block in self.encoder:
            states.append(block(states[-1], mask))  # (b, s, D)
        return states, mask

    def _source_keys(self, encoded):
        memory = self.source_norm(encoded)  # (b, s, D)
        return [block.cross.kv(memory) for block in self.decoder]  # n_layer times (b, s, 2 D)

    def _decode(self, target, keys, mask, caches=None, start=0):
        x = embed(self.target_embedding, self.target_positions, target, "target", start)
        states, caches = [self.dropout(x)], caches or [None] * len(keys)  # (b, t, D)
        for block, kv, cache in zip(self.decoder, keys, caches, strict=True):
            states.append(block(states[-1], kv, mask, cache))  # (b, t, D)
        return states

    @torch.no_grad()
    def translate(self, source, longest):
        """Greedy translation: source (b, s) -> words (b, L), L <= longest.

        Rows end with ``config.end`` and are filled up with ``config.pad``.
        """
        check_at_least("longest", longest, 1)
        encoded, mask = self._encode(source)
        keys, caches = self._source_keys(encoded[-1]), [[] for _ in self.decoder]
        words = [torch.full_like(source[:, :1], self.config.begin)]  # (b, 1) each
        ended = torch.zeros_like(words[0], dtype=torch.bool)  # (b, 1)
        while len(words) <= longest and not ended.all():
            states = self._decode(words[-1], keys, mask, caches, start=len(words) - 1)  # (b, 1, D)
            best = self.logits(states[-1]).argmax(dim=-1)  # (b, 1)
            words.append(best.masked_fill(ended, self.config.pad))
            ended |= best == self.config.end
        return torch.cat(words[1:], dim=1)  # (b, L)
