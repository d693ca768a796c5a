"""Measures of any model with the protocol `hidden_states(*inputs)`, `logits(state)`, `forward`."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from see_min.bridge.layers import cached_rows
from see_min.errors import InputError, require
from see_min.experiments.similarity import cosines, rank_correlation
from see_min.toy.data import IGNORE, encode, padded_rows, windows
from see_min.toy.training import on_device

RARE_FROM = 1000  # targets that are not among the 1,000 most frequent words are rare
BATCH = 16  # windows per step
SENTENCES = 128  # per step


@torch.no_grad()
def perplexity(model, ids, max_windows=320, block_size=None, rare_from=RARE_FROM):
    """exp(mean cross entropy) over consecutive windows of ids (N,): (of all targets, of rare ones).

    Rare are targets of rank `rare_from` and beyond; None if there is none.
    """
    model.eval()
    rows = torch.from_numpy(windows(ids, block_size or model.config.block_size, max_windows))
    rows = rows.to(next(model.parameters()).device)  # (w, t + 1)
    target = rows[:, 1:].flatten()  # (w t,)
    loss = torch.empty(len(target), device=rows.device)  # kept apart: parts would split the heap
    for chunk, out in zip(rows.split(BATCH), loss.view(len(rows), -1).split(BATCH)):
        scores, y = model(chunk[:, :-1]).flatten(0, 1), chunk[:, 1:].flatten()  # (b t, V), (b t,)
        out.copy_(F.cross_entropy(scores, y, reduction="none").view_as(out))  # (b, t)
    loss = loss.double()
    rare = loss[target >= rare_from]
    return _exp(loss.mean()), _exp(rare.mean()) if len(rare) else None


def _exp(loss):
    """e^loss, the largest float where that overflows: a report holds no infinity."""
    return math.exp(min(float(loss), 700.0))


@torch.no_grad()
def masked_accuracy(model, batches):
    """The share of positions with a target whose word has the highest score."""
    model.eval()
    device, right, total = next(model.parameters()).device, 0, 0
    for batch in batches:
        batch = on_device(batch, device)
        here = batch.targets != IGNORE  # (b, t)
        scores = model.logits(model.hidden_states(*batch.inputs)[-1][here])  # (n, V)
        right += int((scores.argmax(-1) == batch.targets[here]).sum())
        total += int(here.sum())
    return right / max(total, 1)


def bleu(sentences, references):
    """Corpus BLEU of sentences that are words already, 0 to 100: tokenize="none", case counts.

    Source: Papineni et al. 2002, as computed by sacrebleu (arXiv 1804.08771).
    """
    ours, theirs = ([" ".join(words) for words in texts] for texts in (sentences, references))
    return require("sacrebleu").corpus_bleu(ours, [theirs], tokenize="none", force=True).score


def translations(model, sentences, words):
    """Greedy translations of a TinyTranslator, in the order of the sentences.

    They are at most twice as long as the longest sentence of their batch and 10 words more; longer
    sentences than the model's positions are cut. `words` are those of both languages.
    """
    model.eval()
    numbers, config = {word: i for i, word in enumerate(words[0])}, model.config
    ids = [[*encode(one, numbers)[: config.block_size - 1], config.end] for one in sentences]

    def translate(source):
        longest = min(config.block_size, 2 * source.shape[1] + 10)
        for answer in model.translate(source, longest).tolist():
            length = answer.index(config.end) if config.end in answer else len(answer)
            yield [words[1][number] for number in answer[:length]]

    with cached_rows(model):
        return in_batches(translate, ids, config.pad, next(model.parameters()).device)


def translation_score(model, pairs, words):
    """BLEU of the greedy translations of (source words, target words)."""
    sources, targets = zip(*pairs, strict=True)
    return bleu(translations(model, sources, words), targets)


def sts(vectors, pairs):
    """Spearman's correlation of cosines of `vectors(sentences)` (N, H), scores; or InputError."""
    one, other = (vectors([pair[side] for pair in pairs]) for side in (0, 1))  # (N, H)
    angles = cosines(np.asarray(one), np.asarray(other))  # (N,)
    value = rank_correlation(angles, np.array([score for *_, score in pairs]))
    if value is None:
        rule = "at least 3 pairs whose scores and cosines differ"
        raise InputError(f"sts: expected {rule}, got {len(pairs)} pairs")
    return value


def in_batches(work, ids, pad, device, batch_size=SENTENCES):
    """[result of each sequence of ids]; `work(rows (b, t))` gives those of a batch.

    Sequences of similar length stand together, filled up with `pad`.
    """
    out, order = [None] * len(ids), sorted(range(len(ids)), key=lambda i: len(ids[i]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        rows = torch.from_numpy(padded_rows([ids[i] for i in batch], pad)).to(device)  # (b, t)
        for i, result in zip(batch, work(rows), strict=True):
            out[i] = result
    return out
