"""TinyTranslator: an encoder and a decoder with a tied output head; the embeddings of both languages can be replaced."""

from dataclasses import dataclass

import torch
from torch import nn

from see_min.bridge.models import Block, SelfAttention, attend, dropout, embed, initialize, mlp, real_positions, tied_scores
from see_min.checks import DataError, check_at_least


@dataclass(frozen=True)
class TranslatorConfig:
    """Sizes of a TinyTranslator: words of both languages, D dimensions, blocks of the encoder and as many of the decoder.

    Examples
    --------
    >>> TranslatorConfig(source_vocabulary=4000, target_vocabulary=3000).dimension
    256
    """

    source_vocabulary: int
    target_vocabulary: int
    dimension: int = 256
    blocks: int = 3
    heads: int = 4
    context: int = 64
    pad: int = 0
    begin: int = 1
    end: int = 2
    shared: bool = False
    dropout: float = 0.1

    def __post_init__(self):
        if self.dimension % self.heads:
            raise DataError(f"dimension: expected a multiple of {self.heads} heads, got {self.dimension}")
        if self.shared and self.source_vocabulary != self.target_vocabulary:
            raise DataError(f"target_vocabulary: expected {self.source_vocabulary} words as the source has, because the "
                            f"embedding is shared, got {self.target_vocabulary}")


class CrossAttention(nn.Module):
    """Each target position looks at the source; its keys and values, ``kv(memory)`` (b, s, 2 D), are computed once."""

    def __init__(self, config):
        super().__init__()
        self.heads = config.heads
        self.q = nn.Linear(config.dimension, config.dimension)
        self.kv = nn.Linear(config.dimension, 2 * config.dimension)
        self.project = nn.Linear(config.dimension, config.dimension)

    def forward(self, x, kv, seen):
        return self.project(attend(self.q(x), *kv.chunk(2, dim=-1), self.heads, seen=seen))  # (b, t, D)


class DecoderBlock(nn.Module):
    """x + attention(norm x), then x + cross(norm x, source), then x + mlp(norm x)."""

    def __init__(self, config):
        super().__init__()
        width = config.dimension
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attention = SelfAttention(config, causal=True)
        self.cross = CrossAttention(config)
        self.mlp = mlp(width)
        self.drop = dropout(config.dropout)

    def forward(self, x, kv, seen, cache=None):
        x = x + self.drop(self.attention(self.norm1(x), cache=cache))
        x = x + self.drop(self.cross(self.norm2(x), kv, seen))
        return x + self.drop(self.mlp(self.norm3(x)))


class TinyTranslator(nn.Module):
    """A word-level translator whose output head is the embedding of the target: logits = h @ E.T.

    ``source_embedding`` and ``target_embedding``, one module if ``config.shared``, are each a `torch.nn.Embedding` or
    anything with ``forward(ids)`` and, for the target, ``scores(h)`` (`see_min.bridge.SememeEmbedding`). Rows are filled
    up at their end with ``config.pad``.

    Source: arXiv 1706.03762; ours are pre-norm blocks and learned positions.
    """

    embeddings = ("source_embedding", "target_embedding")

    def __init__(self, config):
        super().__init__()
        self.config = config
        width = config.dimension
        self.source_embedding = nn.Embedding(config.source_vocabulary, width)
        self.target_embedding = self.source_embedding if config.shared else nn.Embedding(config.target_vocabulary, width)
        self.source_positions = nn.Embedding(config.context, width)
        self.target_positions = nn.Embedding(config.context, width)
        self.encoder = nn.ModuleList(Block(config, False, config.dropout) for _ in range(config.blocks))
        self.decoder = nn.ModuleList(DecoderBlock(config) for _ in range(config.blocks))
        self.source_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = dropout(config.dropout)
        initialize(self, config.blocks, [self.source_embedding, self.target_embedding])

    def hidden_states(self, source, target):
        """States of the encoder (b, s, D), then of the decoder (b, t, D), each from embeddings to the last block."""
        encoded, seen = self._encode(source)
        return encoded + self._decode(target, self._source_keys(encoded[-1]), seen)

    def _encode(self, source):
        seen = real_positions(source, self.config.pad)  # (b, s)
        states = [self.drop(embed(self.source_embedding, self.source_positions, source, "source"))]  # (b, s, D)
        for block in self.encoder:
            states.append(block(states[-1], seen))
        return states, seen

    def _source_keys(self, encoded):
        memory = self.source_norm(encoded)  # (b, s, D)
        return [block.cross.kv(memory) for block in self.decoder]  # (b, s, 2 D) each

    def _decode(self, target, keys, seen, caches=None, start=0):
        states = [self.drop(embed(self.target_embedding, self.target_positions, target, "target", start))]  # (b, t, D)
        for block, kv, cache in zip(self.decoder, keys, caches or [None] * len(keys)):
            states.append(block(states[-1], kv, seen, cache))
        return states

    def logits(self, last_state):
        """Scores of all target words from the last state of the decoder: (b, t, D) -> (b, t, V)."""
        return tied_scores(self.target_embedding, self.norm(last_state))

    def forward(self, source, target):
        return self.logits(self.hidden_states(source, target)[-1])

    @torch.no_grad()
    def translate(self, source, longest):
        """The likeliest next word, one after the other, without dropout, until every sentence has ended.

        Parameters
        ----------
        source : int tensor (b, s)
        longest : int
            Words of a translation at most, its end included.

        Returns
        -------
        int tensor (b, L), L <= longest
            Without ``config.begin``; ``config.pad`` after ``config.end``.

        Raises
        ------
        DataError
            If `longest` is below 1.
        ShapeError
            If a sentence has more positions than ``config.context``.
        """
        check_at_least("longest", longest, 1)
        training = self.training
        self.eval()
        try:
            return self._greedy(source, longest)
        finally:
            self.train(training)

    def _greedy(self, source, longest):
        encoded, seen = self._encode(source)
        keys, caches = self._source_keys(encoded[-1]), [[] for _ in self.decoder]
        words = [torch.full_like(source[:, :1], self.config.begin)]  # (b, 1) each
        ended = torch.zeros_like(words[0], dtype=torch.bool)  # (b, 1)
        while len(words) <= longest and not ended.all():
            state = self._decode(words[-1], keys, seen, caches, start=len(words) - 1)[-1]  # (b, 1, D)
            best = self.logits(state).argmax(dim=-1)  # (b, 1)
            words.append(best.masked_fill(ended, self.config.pad))
            ended |= best == self.config.end
        return torch.cat(words[1:], dim=1)  # (b, L)
