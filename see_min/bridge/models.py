"""TinyGPT: a pre-norm decoder with a tied output head, small enough to train in a minute on two cores.

Every model of the bridge returns its hidden states, because finetuning compares them with the teacher's.
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


class CausalSelfAttention(nn.Module):
    """Each position looks at itself and the positions before it, once a head."""

    def __init__(self, config):
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.dimension, 3 * config.dimension)
        self.project = nn.Linear(config.dimension, config.dimension)

    def forward(self, x):
        batch, time, width = x.shape  # (b, t, D)
        q, k, v = (
            part.view(batch, time, self.heads, -1).transpose(1, 2)  # (b, heads, t, D/heads)
            for part in self.qkv(x).split(width, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (b, heads, t, D/heads)
        return self.project(mixed.transpose(1, 2).reshape(batch, time, width))  # (b, t, D)


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x)."""

    def __init__(self, config):
        super().__init__()
        width = config.dimension
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CausalSelfAttention(config)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TinyGPT(nn.Module):
    """A word-level GPT whose output head is its own embedding: logits = h @ E.T.

    ``token_embedding`` is a `torch.nn.Embedding` or anything with ``forward(ids)`` and ``scores(h)``
    (`see_min.bridge.SememeEmbedding`), so that compressing the model is replacing this one module.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocabulary, config.dimension)
        self.position_embedding = nn.Embedding(config.context, config.dimension)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dimension)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:  # residual branches start smaller, so that depth does not change the scale
                deep = name.endswith(("project.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.blocks) if deep else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        nn.init.normal_(self.token_embedding.weight, std=0.05)  # at 0.02 positions drown the words at first

    def hidden_states(self, ids):
        """Embeddings, then the output of every block: blocks + 1 tensors (b, t, D)."""
        if ids.shape[1] > self.config.context:
            raise ShapeError(f"ids: expected at most {self.config.context} positions, got {ids.shape[1]}")
        positions = torch.arange(ids.shape[1], device=ids.device)  # (t,)
        states = [self.token_embedding(ids) + self.position_embedding(positions)]  # (b, t, D)
        for block in self.blocks:
            states.append(block(states[-1]))
        return states

    def logits(self, last_state):
        """Scores of all words from the last hidden state: (b, t, D) -> (b, t, V)."""
        h = self.norm(last_state)
        if isinstance(self.token_embedding, nn.Embedding):
            return F.linear(h, self.token_embedding.weight)
        return self.token_embedding.scores(h)

    def forward(self, ids):
        return self.logits(self.hidden_states(ids)[-1])
