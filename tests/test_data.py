"""Documents -> words -> ids -> batches: which split, which targets, bad files."""

import gzip
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from see_min.errors import InputError
from see_min.toy import data
from see_min.toy.documents import tokenize
from see_min.words.tokens import normalise
from see_min.words.vocabulary import Vocabulary

# ------------------------------------------------------------------ vocabularies and ids

STEMS = [f"only{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(200)]
DOCUMENTS = [f"{stem} word and more {'word ' * (i % 3)}" for i, stem in enumerate(STEMS)]


def split_words(ids, words):
    """The documents of a split as tuples of words, cut at <eos>."""
    text = " ".join(words[i] for i in ids)
    assert text.endswith("<eos>")
    return [tuple(document.split()) for document in text.split("<eos>")[:-1]]


def test_no_document_stands_in_both_splits_and_none_is_lost():
    corpus = data.build_corpus(DOCUMENTS, 1000, seed=1)
    train, valid = (split_words(ids, corpus.words) for ids in (corpus.train, corpus.valid))
    assert (len(train), len(valid)) == (190, 10)
    expected = {tuple(tokenize(document)) for document in DOCUMENTS}
    assert set(train) < expected and len(set(train)) == 190
    held_out = expected - set(train)  # their first word is in no training document: unknown
    assert Counter(valid) == Counter(("<unk>", *tokens[1:]) for tokens in held_out)
    same, other = (data.build_corpus(DOCUMENTS, 1000, seed) for seed in (1, 2))
    assert corpus.words == same.words != other.words


def test_the_vocabulary_is_ordered_by_frequency_then_letter():
    corpus = data.build_corpus(["b a c c", "c a b d", "e f"] * 20, 6, seed=0)
    assert corpus.words[:5] == ["<unk>", "<eos>", "c", "a", "b"] and len(corpus.words) == 6
    assert corpus.counts.tolist() == [int((corpus.train == i).sum()) for i in range(6)]
    assert corpus.counts[0] > 0 and corpus.counts.sum() == len(corpus.train)
    assert len(data.build_corpus(["x y"] * 9, 99).words) == 4  # a text with fewer words


@pytest.mark.parametrize(("documents", "settings", "text"), [
    (DOCUMENTS, {"vocab_size": 2}, "vocab_size: expected at least 3, got 2"),
    (DOCUMENTS, {"vocab_size": 9, "min_tokens": 1000},
     "corpus: expected at least 1000 tokens in the validation split, got"),
    (["one"], {"vocab_size": 9}, "corpus: expected at least 1 tokens in the training split, got 0"),
])
def test_texts_and_vocabularies_that_are_too_small_are_refused(documents, settings, text):
    with pytest.raises(InputError, match=text):
        data.build_corpus(documents, **settings)


def test_word_vocabulary_falls_by_count_and_counts_every_occurrence_once():
    sentences = ["b a c b".split(), "a <unk> d".split(), "e e e </s>".split()]
    words, counts = data.word_vocabulary(sentences)
    assert words == ["<pad>", "<s>", "</s>", "<unk>", "e", "a", "b"]
    assert counts.tolist() == [0, 0, 1, 3, 3, 2, 2]  # <unk>: itself, c and d
    assert counts.sum() == sum(map(len, sentences))
    assert data.word_vocabulary(sentences, vocab_size=6)[0][4:] == ["e", "a"]
    with pytest.raises(InputError, match="vocab_size: expected at least 5, got 4"):
        data.word_vocabulary(sentences, vocab_size=4)


def test_parallel_lines_are_read_alike_from_plain_and_compressed_files(tmp_path):
    a, b = tmp_path / "en", tmp_path / "de.gz"
    a.write_text("one two\n\nthree\nfour\n", encoding="utf-8")
    b.write_bytes(gzip.compress("eins zwei\nleer\n \nfünf  sechs\n".encode()))
    expected = [(["one", "two"], ["eins", "zwei"]), (["four"], ["fünf", "sechs"])]
    assert data.read_parallel(a, b) == expected
    b.write_bytes(b"eins\n" * 3)
    with pytest.raises(InputError, match=f"{a}, {b}: expected as many lines in both, got 4 and 3"):
        data.read_parallel(a, b)
    b.write_bytes(b"\n" * 4)
    with pytest.raises(InputError, match="expected at least 1 line with words in both, got none"):
        data.read_parallel(a, b)


# ------------------------------------------------------------------ windows

V, MASK, OTHERS = 53, 4, (0, 1, 2, 3)  # special: the mask and others


def some_ids(number=2000, seed=0):
    return np.random.default_rng(seed).integers(0, V, number)


def test_windows_predict_every_token_but_the_first_once():
    ids = 10 + np.arange(50)
    cut = data.windows(ids, 7, max_windows=99)
    assert cut[:, 1:].ravel().tolist() == (11 + np.arange(49)).tolist()
    assert all(a[-1] == b[0] for a, b in pairwise(cut))
    assert np.array_equal(data.windows(ids, 7, 3), cut[:3])
    assert data.windows(ids[:7], 7, 3).shape == (0, 8)


def test_language_targets_are_the_inputs_one_later_and_both_ends_are_reached():
    ids = 10 + np.arange(50)  # every id tells its place
    drawn, other = (list(data.language_batches(ids, 7, 5, 400, seed)) for seed in (0, 1))
    for batch in drawn:
        assert batch.inputs[0].shape == batch.targets.shape == (5, 7)
        assert np.array_equal(batch.targets, batch.inputs[0] + 1)
    read = [batch.inputs[0] for batch in drawn]
    assert len(read) == 400 and np.min(read) == 10 and np.max(read) == 58
    assert not np.array_equal(read, [batch.inputs[0] for batch in other])
    assert next(data.random_windows(np.arange(8), 8, 2, 1, 0)).tolist() == [list(range(8))] * 2
    with pytest.raises(InputError, match="ids: expected at least 8, got 7"):
        next(data.language_batches(np.arange(7), 7, 2, 1, 0))


def masked(seed=0, steps=40, ids=None, block_size=32, **changes):
    ids = some_ids() if ids is None else ids
    settings = {"mask": MASK, "vocab_size": V, "special": OTHERS} | changes
    return list(data.masked_batches(ids, block_size, 16, steps, seed, **settings))


def within(hits, trials, share, deviations=4):
    """Whether a binomial count is within so many standard deviations of its mean."""
    return abs(hits - trials * share) <= deviations * np.sqrt(trials * share * (1 - share))


def test_masked_words_are_80_in_100_mask_10_random_and_10_themselves():
    fates, ordinary, random = Counter(), 0, Counter()
    drawn = data.random_windows(some_ids(), 32, 16, 40, seed=0)
    for batch, window in zip(masked(), drawn, strict=True):
        read, targets = batch.inputs[0].flat, batch.targets.flat
        for x, target, word in zip(read, targets, window.flat, strict=True):
            ordinary += int(word > MASK)
            if target == data.IGNORE:
                assert x == word
                continue
            assert target == word > MASK
            fates["mask" if x == MASK else "same" if x == word else "other"] += 1
            random.update({x} - {MASK, word})
    chosen, others = fates.total(), V - 5
    assert within(chosen, ordinary, 0.15)
    assert within(fates["mask"], chosen, 0.8)
    assert within(fates["other"], chosen, 0.1 * (others - 1) / others)  # it may draw the same
    assert within(fates["same"], chosen, 0.1 + 0.1 / others)
    assert min(random) > MASK and len(random) > others * 0.9


@pytest.mark.parametrize("block_size", [1, 5])
def test_every_window_with_an_ordinary_word_has_a_masked_one(block_size):
    ids = np.where(np.arange(2000) % 2, some_ids(), 0)
    drawn = data.random_windows(ids, block_size, 16, 40, seed=0)
    for batch, window in zip(masked(ids=ids, block_size=block_size), drawn, strict=True):
        has_target = batch.targets != data.IGNORE  # (b, t)
        assert np.array_equal(has_target.any(1), (window > MASK).any(1))
        assert not has_target[window <= MASK].any()


def test_a_vocabulary_of_special_words_alone_is_refused():
    with pytest.raises(InputError, match=f"vocab_size: expected at least {V + 1}, got {V}"):
        masked(special=range(V))


# ------------------------------------------------------------------ pairs


def some_sentences(number, seed=0):
    """Sentences that differ from each other in their first id."""
    rng = np.random.default_rng(seed)
    return [[100 + i, *rng.integers(3, 99, rng.integers(0, 12)).tolist()] for i in range(number)]


def batches_of(sentences, size, steps, seed):
    """The sentences of each batch of pairs whose two sides are the same."""
    pairs = [(one, one) for one in sentences]
    return [[[i for i in row if i not in (0, 2)] for row in batch.inputs[0].tolist()]
            for batch in data.pair_batches(pairs, size, steps, seed, 0, 1, 2)]


@pytest.mark.parametrize(("number", "size"), [(1, 4), (23, 4), (450, 2)])
def test_every_sentence_stands_once_in_an_epoch(number, size):
    sentences, steps = some_sentences(number), -(-number // size)
    found = batches_of(sentences, size, 2 * steps, seed=1)
    assert len(found) == 2 * steps and all(len(batch) <= size for batch in found)
    for epoch in (found[:steps], found[steps:]):
        assert sorted(sum(epoch, [])) == sorted(sentences)
    again, other = (batches_of(sentences, size, 2 * steps, seed) for seed in (1, 2))
    assert found == again and (number == 1 or found != other and found[:steps] != found[steps:])


def test_sentences_of_a_batch_leave_no_other_length_between_them():
    """With one pool, batches are runs of the sentences sorted by length."""
    sentences = some_sentences(60)
    found = [[len(row) for row in batch] for batch in batches_of(sentences, 5, 12, 0)]
    assert sum(sorted(found), []) == sorted(map(len, sentences))


def test_pairs_are_read_with_their_ends_and_answered_one_later():
    pairs = [([5, 6], [7]), ([5], [7, 8])]
    batch = next(data.pair_batches(pairs, 2, 1, seed=0, pad=0, begin=1, end=2))
    assert batch.inputs[0].tolist() == [[5, 2, 0], [5, 6, 2]]  # the shorter one first
    assert batch.inputs[1].tolist() == [[1, 7, 8], [1, 7, 0]]
    assert batch.targets.tolist() == [[7, 8, 2], [7, 2, data.IGNORE]]
    with pytest.raises(InputError, match="pairs: expected at least 1, got 0"):
        next(data.pair_batches([], 1, 1, 0, 0, 1, 2))


# ------------------------------------------------------------------ spans

SENTENCES = [[0, *range(10 * i + 10, 10 * i + 10 + n), 1] for i, n in enumerate((7, 9, 5))]


def span_rows(chances, steps=30, sentences=SENTENCES):
    batches = data.span_batches(sentences, 5, steps, 3, chances, special=(0, 1))
    return [row for batch in batches for row in batch.inputs[0].tolist()]


def test_without_swaps_every_span_is_a_part_of_a_sentence_between_its_special_ids(monkeypatch):
    monkeypatch.setattr(data, "SWAPPED", 0.0)
    seen = set()
    for first, *words, last in span_rows(np.ones(60)):
        assert (first, last) == (0, 1) and data.SHORTEST <= len(words) <= data.LONGEST
        source = next(sentence for sentence in SENTENCES if words[0] in sentence)
        start = source.index(words[0])
        assert source[start : start + len(words)] == words
        seen.add(tuple(words))
    assert len(seen) > 15


def test_words_are_swapped_at_the_rate_and_by_the_chances_that_are_named():
    chances = np.zeros(60)
    chances[[50, 51]] = 0.75, 0.25
    words = [number for row in span_rows(chances, steps=400) for number in row[1:-1]]
    swapped = [number for number in words if number in (50, 51)]
    assert len(swapped) / len(words) == pytest.approx(data.SWAPPED, abs=0.02)  # 4 standard errors
    assert swapped.count(50) / len(swapped) == pytest.approx(0.75, abs=0.03)
    assert set(words) - {50, 51} <= {number for sentence in SENTENCES for number in sentence}


def test_special_tokens_never_replace_and_rare_words_more_often_than_in_a_text():
    names = ["[CLS]", "the", "cat", "[unused0]"]
    vocabulary = Vocabulary(names, normalise(names), np.array([50.0, 99.0, 0.0, 3.0]), [])
    np.testing.assert_allclose(data.swap_chances(vocabulary), [0, 10 / 11, 1 / 11, 0], rtol=1e-12)


@pytest.mark.parametrize(("sentences", "text"), [
    ([], "sequences: expected at least 1, got 0"),
    ([[0, 10], [0, 1]], "sequences: words in each: expected at least 1, got 0"),
])
def test_sentences_without_words_are_refused(sentences, text):
    with pytest.raises(InputError, match=text):
        span_rows(np.ones(60), 1, sentences)


# ------------------------------------------------------------------ the matrix of the notebooks


def test_ppmi_counts_pairs_one_by_one():
    ids = np.random.default_rng(0).integers(0, 7, 60)
    for reach, skip in ((1, 0), (3, 0), (3, 2)):
        N = np.zeros((7, 7))
        for i, v in enumerate(ids):
            for j, w in enumerate(ids):
                if v >= skip and w >= skip and 0 < abs(i - j) <= reach:
                    N[v, w] += 1
        expected = np.zeros((7, 7))
        for v, w in np.argwhere(N):
            chance = N[v].sum() * N[w].sum() / N.sum()
            expected[v, w] = max(0, np.log(N[v, w] / chance))
        found = data.ppmi(ids, 7, reach, skip)
        np.testing.assert_allclose(found, expected[skip:, skip:], rtol=1e-12, atol=1e-12)
        assert 0 < (found == 0).sum() < found.size


def test_the_example_matrix_is_near_its_pairs(monkeypatch):
    documents = ["a b c d e f g", "b a d c e g f", "a a b c f f g e"] * 20
    monkeypatch.setattr(data, "default_documents", lambda packages: documents)
    corpus = data.build_corpus(documents, 9)
    values, vectors = np.linalg.eigh(data.ppmi(corpus.train, 9, skip=2))
    positive = values > 0  # a root needs them
    words, counts, E = data.example_matrix(size=7, dimension=int(positive.sum()))
    assert words == corpus.words[2:] and counts.tolist() == corpus.counts[2:].tolist()
    best = (vectors[:, positive] * values[positive]) @ vectors[:, positive].T
    np.testing.assert_allclose(E @ E.T, best, rtol=1e-9, atol=1e-12)
