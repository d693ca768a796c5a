"""TinyGPT and TinyBERT: pre-norm transformers with a tied output head, small enough to train in minutes on two cores.

Every model of the bridge returns its hidden states, because finetuning compares them with the teacher's:
``forward(*inputs)`` is ``logits(hidden_states(*inputs)[-1])``. The attention, the blocks, the embedding and the tied head
are those of `see_min.bridge.translator` too.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from see_min.checks import DataError, ShapeError


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a TinyGPT: V words, D dimensions, the blocks, their heads and the longest context.

    Examples
    --------
    >>> GPTConfig(vocabulary=4000, dimension=256).head_dimension
    64
    """

    vocabulary: int
    dimension: int = 256
    blocks: int = 2
    heads: int = 4
    context: int = 64

    def __post_init__(self):
        if self.dimension % self.heads:
            raise DataError(f"dimension: expected a multiple of {self.heads} heads, got {self.dimension}")

    @property
    def head_dimension(self):
        """D / heads."""
        return self.dimension // self.heads


@dataclass(frozen=True)
class BERTConfig(GPTConfig):
    """Sizes of a TinyBERT: those of a `GPTConfig`, and the id that fills rows up.

    Examples
    --------
    >>> BERTConfig(vocabulary=4000).dimension
    192
    """

    dimension: int = 192
    pad: int = 0


def attend(q, k, v, heads, causal=False, seen=None):
    """softmax(q k^T / sqrt(D / heads)) v, once a head.

    Parameters
    ----------
    q : tensor (b, t, D)
    k, v : tensors (b, s, D)
    causal : bool
        Position t looks at positions s <= t only.
    seen : bool tensor (b, s), optional
        The keys that may be looked at; not together with `causal`, where padding at the end is never looked at anyway.

    Returns
    -------
    tensor (b, t, D)

    Source: arXiv 1706.03762, equation 1.
    """
    q, k, v = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))  # (b, heads, t or s, D/heads)
    mask = None if seen is None else seen[:, None, None, :]  # (b, 1, 1, s)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)  # (b, heads, t, D/heads)
    return mixed.transpose(1, 2).flatten(2)  # (b, t, D)


class SelfAttention(nn.Module):
    """Each position looks at all positions, or if causal at itself and those before it.

    With a `cache`, a list that is empty at first, x (b, 1, D) is the position after those of the calls before.
    """

    def __init__(self, config, causal):
        super().__init__()
        self.heads, self.causal = config.heads, causal
        self.qkv = nn.Linear(config.dimension, 3 * config.dimension)
        self.project = nn.Linear(config.dimension, config.dimension)

    def forward(self, x, seen=None, cache=None):
        q, kv = self.qkv(x).tensor_split([x.shape[-1]], dim=-1)  # (b, t, D), (b, t, 2 D)
        if cache is not None:
            cache[:] = [torch.cat([*cache, kv], dim=1)]  # (b, s, 2 D)
            kv = cache[0]
        causal = self.causal and cache is None  # the last position looks at all there are
        return self.project(attend(q, *kv.chunk(2, dim=-1), self.heads, causal, seen))  # (b, t, D)


def mlp(width):
    """Four times as wide inside."""
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


def dropout(share):
    """`torch.nn.Dropout`, or where nothing is dropped a module that draws no random numbers."""
    return nn.Dropout(share) if share else nn.Identity()


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, config, causal, dropped=0.0):
        super().__init__()
        width = config.dimension
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(config, causal)
        self.mlp = mlp(width)
        self.drop = dropout(dropped)

    def forward(self, x, seen=None):
        x = x + self.drop(self.attention(self.norm1(x), seen))
        return x + self.drop(self.mlp(self.norm2(x)))


def initialize(model, blocks, embeddings):
    """Draw matrices from N(0, 0.02^2), those that end a residual branch smaller, embeddings larger; biases are 0."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:  # residual branches start smaller, so that depth does not change the scale
            deep = name.endswith(("project.weight", "mlp.2.weight"))
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * blocks) if deep else 0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    for embedding in embeddings:
        nn.init.normal_(embedding.weight, std=0.05)  # at 0.02 positions drown the words at first


def embed(embedding, positions, ids, name="ids", start=0):
    """Rows of words plus rows of their positions start, start + 1, ...: (b, t) -> (b, t, D).

    Raises
    ------
    ShapeError
        If there are more positions than rows for them.
    """
    stop = start + ids.shape[1]
    if stop > positions.num_embeddings:
        raise ShapeError(f"{name}: expected at most {positions.num_embeddings} positions, got {stop}")
    return embedding(ids) + positions(torch.arange(start, stop, device=ids.device))  # (b, t, D)


def tied_scores(embedding, h):
    """h @ E.T of a `torch.nn.Embedding` or of anything that has ``scores(h)``: (b, t, D) -> (b, t, V)."""
    if isinstance(embedding, nn.Embedding):
        return F.linear(h, embedding.weight)
    return embedding.scores(h)


def real_positions(ids, pad):
    """Which ids are not padding, (b, t); a row of padding only keeps all, as a softmax over nothing is not a number.

    Examples
    --------
    >>> real_positions(torch.tensor([[5, 6, 0], [0, 0, 0]]), 0).tolist()
    [[True, True, False], [True, True, True]]
    """
    real = ids != pad
    return real | ~real.any(dim=1, keepdim=True)


class TinyGPT(nn.Module):
    """A word-level GPT whose output head is its own embedding: logits = h @ E.T.

    ``token_embedding`` is a `torch.nn.Embedding` or anything with ``forward(ids)`` and ``scores(h)``
    (`see_min.bridge.SememeEmbedding`), so that compressing the model is replacing this one module.
    """

    embeddings = ("token_embedding",)

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocabulary, config.dimension)
        self.position_embedding = nn.Embedding(config.context, config.dimension)
        self.blocks = nn.ModuleList(Block(config, causal=True) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dimension)
        initialize(self, config.blocks, [self.token_embedding])

    def hidden_states(self, ids):
        """Embeddings, then the output of every block: blocks + 1 tensors (b, t, D)."""
        states = [embed(self.token_embedding, self.position_embedding, ids)]  # (b, t, D)
        for block in self.blocks:
            states.append(block(states[-1]))
        return states

    def logits(self, last_state):
        """Scores of all words from the last hidden state: (b, t, D) -> (b, t, V)."""
        return tied_scores(self.token_embedding, self.norm(last_state))

    def forward(self, ids):
        return self.logits(self.hidden_states(ids)[-1])


class TinyBERT(nn.Module):
    """A word-level masked language model: logits = transform(norm h) @ E.T + bias, each position sees both sides.

    Positions whose id is ``config.pad`` are not looked at. ``token_embedding`` may be replaced as `TinyGPT`'s.

    Source: arXiv 1810.04805 for the task and the head; the blocks are `TinyGPT`'s, pre-norm.
    """

    embeddings = ("token_embedding",)

    def __init__(self, config):
        super().__init__()
        self.config = config
        width = config.dimension
        self.token_embedding = nn.Embedding(config.vocabulary, width)
        self.position_embedding = nn.Embedding(config.context, width)
        self.blocks = nn.ModuleList(Block(config, causal=False) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(width)
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.head_bias = nn.Parameter(torch.zeros(config.vocabulary))  # (V,)
        initialize(self, config.blocks, [self.token_embedding])

    def hidden_states(self, ids):
        """Embeddings, then the output of every block: blocks + 1 tensors (b, t, D)."""
        seen = real_positions(ids, self.config.pad)  # (b, t)
        states = [embed(self.token_embedding, self.position_embedding, ids)]  # (b, t, D)
        for block in self.blocks:
            states.append(block(states[-1], seen))
        return states

    def logits(self, last_state):
        """Scores of all words from the last hidden state: (b, t, D) -> (b, t, V)."""
        return tied_scores(self.token_embedding, self.transform(self.norm(last_state))) + self.head_bias

    def forward(self, ids):
        return self.logits(self.hidden_states(ids)[-1])
