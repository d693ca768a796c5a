"""Measures against slow ones: perplexity, masked accuracy, BLEU, STS, greedy translations."""

import math

import numpy as np
import pytest
import torch
from slow import slow_cosine

from see_min.experiments.measure import (
    bleu,
    in_batches,
    masked_accuracy,
    perplexity,
    sts,
    translations,
)
from see_min.toy.data import IGNORE, masked_batches
from see_min.toy.models import (
    BERTConfig,
    GPTConfig,
    TinyBERT,
    TinyGPT,
    TinyTranslator,
    TranslatorConfig,
)

torch.set_num_threads(1)


def sharp(model):
    """Weights so large that every word shows."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter)
    return model.eval()


def test_perplexity_is_that_of_a_loop_over_targets():
    model = sharp(TinyGPT(GPTConfig(13, 8, 1, 2, 5)))
    ids = np.random.default_rng(0).integers(0, 13, 36)
    losses = []
    for start in range(0, 35, 5):
        for t in range(5):
            logits = model(torch.tensor(ids[start : start + t + 1])[None])[0, -1].double()
            target = ids[start + t + 1]
            losses.append((target, float((logits.logsumexp(0) - logits[target]).detach())))
    everything = math.exp(np.mean([loss for _, loss in losses]))
    rare = math.exp(np.mean([loss for target, loss in losses if target >= 9]))
    found = perplexity(model, ids, rare_from=9)
    assert found == pytest.approx((everything, rare), rel=1e-5)  # float32
    assert perplexity(model, ids, rare_from=13)[1] is None
    first = math.exp(np.mean([loss for _, loss in losses[:10]]))
    assert perplexity(model, ids, max_windows=2)[0] == pytest.approx(first, rel=1e-5)


def test_masked_accuracy_is_the_share_of_hits():
    model = sharp(TinyBERT(BERTConfig(13, 8, 1, 2, 6, pad=-1)))
    ids = np.random.default_rng(0).integers(1, 13, 200)
    batches = list(masked_batches(ids, 6, 4, 3, 0, 0, 13))
    hits = [int(model(torch.as_tensor(batch.inputs[0]))[i, t].argmax()) == batch.targets[i, t]
        for batch in batches for i, t in np.argwhere(batch.targets != IGNORE)]
    assert masked_accuracy(model, batches) == pytest.approx(np.mean(hits))


def test_bleu_is_that_of_words_as_they_are():
    """The beginning of a reference has all its n-grams, so the brevity penalty is left alone."""
    pytest.importorskip("sacrebleu")
    reference = "A man , who doesn't play , has two dogs .".split()
    assert bleu([reference[:8]], [reference]) == pytest.approx(100 * math.exp(1 - 11 / 8))
    lower = [word.lower() for word in reference]
    assert bleu([lower], [reference]) < bleu([reference], [reference]) == pytest.approx(100)


def test_translations_are_those_of_each_sentence_alone_in_their_order():
    model = sharp(TinyTranslator(TranslatorConfig(11, 13, 8, 2, 2, block_size=6)))
    words = (["<pad>", "<s>", "</s>", "<unk>", *(f"s{i}" for i in range(7))],
             [f"t{i}" for i in range(13)])
    sentences = [["s1", "s2", "s3"], ["s4"], ["s5", "new", "s6", "s0"], ["s2"] * 9]
    expected = []
    for one in sentences:
        ids = [words[0].index(word) if word in words[0] else 3 for word in one][:5] + [2]
        written = [1]
        while len(written) <= 6 and written[-1] != 2:
            scores = model(torch.tensor([ids]), torch.tensor([written])[:, :6])[0, -1]  # (V,)
            written.append(int(scores.argmax()))
        expected.append([words[1][i] for i in written[1:] if i != 2])
    assert translations(model, sentences, words) == expected
    assert len({tuple(one) for one in expected}) > 1


def test_sts_is_spearmans_correlation():
    rng = np.random.default_rng(0)
    pairs = [(f"a{i}", f"b{i}", score) for i, score in enumerate(rng.permutation(9))]
    table = {name: rng.normal(size=5) for one, other, _ in pairs for name in (one, other)}
    cosine = [slow_cosine(table[a], table[b]) for a, b, _ in pairs]
    ranks = [np.argsort(np.argsort(x)) for x in (cosine, [score for *_, score in pairs])]
    expected = 1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (9 * 80)

    def vectors(sentences):
        return np.array([table[name] for name in sentences])

    assert sts(vectors, pairs) == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="^sts: expected at least 3 pairs whose scores and cos"):
        sts(vectors, pairs[:1])


def test_every_sequence_has_its_result_from_a_batch_of_similar_lengths():
    seen, ids = [], [[n] * n for n in (7, 1, 5, 3, 2)]

    def first(rows):
        seen.append(rows.tolist())
        return rows[:, 0].tolist()

    assert in_batches(first, ids, 0, "cpu", batch_size=2) == [7, 1, 5, 3, 2]
    assert seen[0] == [[1, 0], [2, 2]] and [len(rows) for rows in seen] == [2, 2, 1]
