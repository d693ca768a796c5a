"""Batches: windows with next or hidden words, sentences and pairs of similar length, and the files that pairs come from."""

import gzip
from collections import Counter

import numpy as np
import pytest

from see_min.checks import DataError
from see_min.corpus import batches
from see_min.sequences import (
    IGNORE,
    encode,
    language_batches,
    masked_batches,
    padded_rows,
    pair_batches,
    read_parallel,
    word_vocabulary,
)

V, MASK, SPECIAL = 53, 4, (0, 1, 2, 3)


def some_ids(number=2000, seed=0):
    return np.random.default_rng(seed).integers(0, V, number)


def some_sentences(number, seed=0, shortest=1):
    """Sentences that differ from each other in their first id."""
    rng = np.random.default_rng(seed)
    return [[100 + i, *rng.integers(3, 99, rng.integers(shortest - 1, 12)).tolist()] for i in range(number)]


def equal(left, right):
    """Whether two lists of batches are the same."""
    arrays = [[array for batch in side for array in (*batch.inputs, batch.targets) if array is not None]
              for side in (left, right)]
    return len(arrays[0]) == len(arrays[1]) and all(map(np.array_equal, *arrays))


# ------------------------------------------------------------------ windows


def test_language_targets_are_the_inputs_one_later():
    ids = np.arange(200)
    found = list(language_batches(ids, 7, 3, 5, seed=2))
    assert len(found) == 5
    for batch, window in zip(found, batches(ids, 7, 3, 5, seed=2)):
        (x,) = batch.inputs
        assert x.shape == batch.targets.shape == (3, 7)
        assert np.array_equal(batch.targets, x + 1)  # the text counts up
        assert np.array_equal(x, window[:, :-1])


def masked(seed=0, steps=40, ids=None, context=32, **changes):
    ids = some_ids() if ids is None else ids
    settings = {"mask": MASK, "vocabulary": V, "special": SPECIAL} | changes
    return list(masked_batches(ids, context, 16, steps, seed, **settings))


def within(hits, trials, share, deviations=4):
    """Whether a binomial count is within so many standard deviations of its mean."""
    return abs(hits - trials * share) <= deviations * np.sqrt(trials * share * (1 - share))


def test_masked_words_are_80_in_100_mask_10_random_and_10_themselves():
    fates, ordinary, random = Counter(), 0, Counter()
    for batch, window in zip(masked(), batches(some_ids(), 31, 16, 40, seed=0)):
        for x, target, word in zip(batch.inputs[0].flat, batch.targets.flat, window.flat):
            ordinary += int(word > MASK)
            if target == IGNORE:
                assert x == word
                continue
            assert target == word > MASK
            fates["mask" if x == MASK else "same" if x == word else "other"] += 1
            random.update({x} - {MASK, word})
    chosen, others = fates.total(), V - 5
    assert within(chosen, ordinary, 0.15)
    assert within(fates["mask"], chosen, 0.8)
    assert within(fates["other"], chosen, 0.1 * (others - 1) / others)  # a random word may be the word itself
    assert within(fates["same"], chosen, 0.1 + 0.1 / others)
    assert min(random) > MASK and len(random) > others * 0.9


def test_masked_batches_are_those_of_their_seed():
    assert equal(masked(seed=5, steps=3), masked(seed=5, steps=3))
    assert not equal(masked(seed=5, steps=3), masked(seed=6, steps=3))


@pytest.mark.parametrize("context", [1, 2, 5])
def test_every_window_with_an_ordinary_word_has_a_masked_one(context):
    ids = np.where(np.arange(2000) % 2, some_ids(), 0)
    for batch, window in zip(masked(ids=ids, context=context), batches(ids, context - 1, 16, 40, seed=0)):
        for row, target in zip(window, batch.targets):
            assert (target != IGNORE).any() == (row > MASK).any()
            assert not (target[row <= MASK] != IGNORE).any()


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"vocabulary": 40}, "ids: expected whole numbers from 0 to 39, got"),
        ({"mask": V}, f"mask and special: expected whole numbers from 0 to {V - 1}, got {V}"),
        ({"special": range(V)}, f"vocabulary: expected at least {V + 1}, got {V}"),
        ({"context": 3000}, "ids: expected at least 3000, got 2000"),
    ],
)
def test_masked_batches_name_what_they_cannot_use(changes, text):
    with pytest.raises(DataError, match=text):
        masked(**changes)


# ------------------------------------------------------------------ sentences and pairs


def test_padded_rows_are_the_sequences_and_then_padding_only():
    sequences = [[5], [], [6, 7, 8]]
    rows = padded_rows(sequences, pad=9)
    assert rows.shape == (3, 3)
    for row, sequence in zip(rows.tolist(), sequences):
        assert row[: len(sequence)] == sequence and set(row[len(sequence):]) <= {9}
    assert padded_rows([], pad=0).shape == (0, 0)


def sentence_batches(sentences, size, steps, seed):
    """The sources (b, s) of pairs whose two sides are the same, without their ends."""
    for batch in pair_batches([(one, one) for one in sentences], size, steps, seed, 0, 1, 2):
        yield np.where(batch.inputs[0] == 2, 0, batch.inputs[0])


@pytest.mark.parametrize("number, size", [(1, 4), (7, 7), (23, 4), (450, 2)])
def test_every_sentence_stands_once_in_an_epoch(number, size):
    sentences, steps = some_sentences(number), -(-number // size)
    found = list(sentence_batches(sentences, size, 2 * steps, seed=1))
    for epoch in (found[:steps], found[steps:]):
        rows = [[i for i in row if i] for batch in epoch for row in batch.tolist()]
        assert sorted(rows) == sorted(sentences)
        assert all(len(batch) <= size for batch in epoch)
    assert len(found) == 2 * steps


def test_sentence_batches_are_those_of_their_seed_and_differ_from_epoch_to_epoch():
    sentences = some_sentences(40)
    once, again, other = (list(pair_batches([(one, one) for one in sentences], 4, 20, seed, 0, 1, 2)) for seed in (3, 3, 4))
    assert equal(once, again) and not equal(once, other) and not equal(once[:10], once[10:])


def test_sentences_of_one_length_have_other_neighbours_every_epoch():
    found = [frozenset(batch[:, 0].tolist()) for batch in sentence_batches([[i] for i in range(3, 43)], 4, 20, 0)]
    assert len(set(found[:10]) & set(found[10:])) < 5


def test_sentences_of_a_batch_leave_no_other_length_between_them():
    """With one pool, batches are runs of the sentences sorted by length."""
    sentences = some_sentences(60)
    found = [[sum(map(bool, row)) for row in batch.tolist()] for batch in sentence_batches(sentences, 5, 12, 0)]
    assert sum(sorted(found), []) == sorted(map(len, sentences))


def test_pairs_are_read_with_their_ends_and_answered_one_later():
    sources, targets = some_sentences(30, seed=1), some_sentences(30, seed=2)
    pairs, seen = dict(zip(map(tuple, sources), targets)), []
    for read, written, answer in ((*b.inputs, b.targets) for b in pair_batches(list(zip(sources, targets)), 4, 8, 0, 0, 1, 2)):
        assert written.shape == answer.shape
        for r, w, a in zip(read.tolist(), written.tolist(), answer.tolist()):
            source = r[: r.index(2)]
            target = pairs[tuple(source)]
            assert r == source + [2] + [0] * (len(r) - len(source) - 1)
            assert w == [1] + target + [0] * (len(w) - len(target) - 1)
            assert a == target + [2] + [IGNORE] * (len(a) - len(target) - 1)
            seen.append(source)
    assert sorted(seen) == sorted(sources)


def test_no_pairs_and_batches_of_none_are_refused():
    for text, give in [
        ("size: expected at least 1, got 0", lambda: pair_batches([([3], [3])], 0, 1, 0, 0, 1, 2)),
        ("pairs: expected at least 1, got 0", lambda: pair_batches([], 1, 1, 0, 0, 1, 2)),
    ]:
        with pytest.raises(DataError, match=text):
            next(give())


# ------------------------------------------------------------------ files and words


def test_parallel_lines_are_read_alike_from_plain_and_compressed_files(tmp_path):
    (tmp_path / "en").write_text("one two\n\nthree\nfour\n", encoding="utf-8")
    with gzip.open(tmp_path / "de.gz", "wt", encoding="utf-8") as file:
        file.write("eins zwei\nleer\n \nfünf  sechs\n")
    expected = [(["one", "two"], ["eins", "zwei"]), (["four"], ["fünf", "sechs"])]
    assert read_parallel(tmp_path / "en", tmp_path / "de.gz") == expected


def test_parallel_files_that_do_not_match_name_both(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("x\ny\nz\n")
    b.write_text("x\ny\n")
    with pytest.raises(DataError, match=f"{a}, {b}: expected as many lines in both, got 3 and 2"):
        read_parallel(a, b)
    a.write_text("x\n\n")
    b.write_text("\ny\n")
    with pytest.raises(DataError, match=f"{a}, {b}: expected at least 1 line with words in both, got none"):
        read_parallel(a, b)
    b.write_bytes(b"x\n\xff\n")
    with pytest.raises(DataError, match=f"{b}:2: expected UTF-8, got byte 0xff"):
        read_parallel(a, b)


def test_vocabulary_falls_by_count_and_counts_every_occurrence_once():
    sentences = ["b a c b", "a <unk> d", "e e e </s>"]
    text = " ".join(sentences).split()
    words, counts = word_vocabulary([s.split() for s in sentences])
    assert words == ["<pad>", "<s>", "</s>", "<unk>", "e", "a", "b"]
    assert counts.tolist() == [0, 0, 1, 3, 3, 2, 2]  # <unk>: itself, c and d
    assert counts.sum() == len(text)
    for word, count in zip(words, counts):
        assert word == "<unk>" or count == text.count(word)


def test_vocabulary_has_most_words_at_most_and_no_rarer_one_than_least():
    sentences = ["b a c b a e".split()]
    assert word_vocabulary(sentences, least=1, most=6)[0][4:] == ["a", "b"]
    assert word_vocabulary(sentences, least=3)[0][4:] == []
    assert word_vocabulary(sentences, least=1, special=())[0] == ["a", "b", "c", "e"]
    for name, value, low in ("most", 4, 5), ("least", 0, 1):
        with pytest.raises(DataError, match=f"{name}: expected at least {low}, got {value}"):
            word_vocabulary(sentences, **{name: value})


def test_a_word_without_a_number_is_encoded_as_unknown_or_refused():
    words, _ = word_vocabulary(["a a b b".split()])
    numbers = {word: number for number, word in enumerate(words)}
    assert [words[i] for i in encode("b x a".split(), numbers)] == ["b", "<unk>", "a"]
    with pytest.raises(DataError, match="numbers: expected an id for 'x' or for <unk>, got neither"):
        encode(["a", "x"], {"a": 0})
