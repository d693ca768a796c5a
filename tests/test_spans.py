"""Spans with swapped words: where they come from, what is swapped for what, and how often."""

import numpy as np
import pytest

from see_min.checks import DataError, ShapeError
from see_min.spans import LONGEST, SHORTEST, SWAPPED, span_batches, swap_chances
from see_min.tokens import normalise
from see_min.vocabulary import Vocabulary

BEGIN, END = 0, 1
SENTENCES = [[BEGIN, *range(10 * i + 10, 10 * i + 10 + n), END] for i, n in enumerate((7, 9, 5))]  # ids from 10 on, all different


def rows(chances, steps=30, size=5, sentences=SENTENCES):
    return [row for batch in span_batches(sentences, size, steps, 3, chances, (BEGIN, END)) for row in batch.inputs[0].tolist()]


def test_without_swaps_every_span_is_a_part_of_a_sentence_between_its_special_ids(monkeypatch):
    monkeypatch.setattr("see_min.spans.SWAPPED", 0.0)
    seen = set()
    for row in rows(np.ones(60)):
        assert row[0] == BEGIN and row[-1] == END
        words = row[1:-1]
        source = next(sentence for sentence in SENTENCES if words[0] in sentence)
        start = source.index(words[0])
        assert source[start : start + len(words)] == words and SHORTEST <= len(words) <= LONGEST
        seen.add(tuple(words))
    assert len(seen) > 15


def test_words_are_swapped_at_the_rate_and_by_the_chances_that_are_named():
    chances = np.zeros(60)
    chances[[50, 51]] = 0.75, 0.25
    words = [number for row in rows(chances, steps=400) for number in row[1:-1]]
    swapped = [number for number in words if number in (50, 51)]
    assert len(swapped) / len(words) == pytest.approx(SWAPPED, abs=0.02)  # 9,000 words: four standard errors
    assert swapped.count(50) / len(swapped) == pytest.approx(0.75, abs=0.03)
    assert set(words) - {50, 51} <= {number for sentence in SENTENCES for number in sentence}


def test_rows_of_a_batch_have_one_length_and_the_same_seed_gives_the_same_batches():
    batches = list(span_batches(SENTENCES, 4, 6, 5, np.ones(60), (BEGIN, END)))
    again = list(span_batches(SENTENCES, 4, 6, 5, np.ones(60), (BEGIN, END)))
    other = list(span_batches(SENTENCES, 4, 6, 6, np.ones(60), (BEGIN, END)))
    assert all(batch.inputs[0].shape[0] == 4 and batch.targets is None for batch in batches) and len(batches) == 6
    assert all(np.array_equal(a.inputs[0], b.inputs[0]) for a, b in zip(batches, again))
    assert not all(np.array_equal(a.inputs[0], b.inputs[0]) for a, b in zip(batches, other))


def test_special_tokens_never_stand_in_and_rare_words_more_often_than_in_a_text():
    names = ["[CLS]", "the", "cat", "[unused0]"]
    vocabulary = Vocabulary(names, normalise(names), np.array([50.0, 99.0, 0.0, 3.0]), [])
    np.testing.assert_allclose(swap_chances(vocabulary), [0, 10 / 11, 1 / 11, 0], rtol=1e-12)
    np.testing.assert_allclose(swap_chances(vocabulary, power=1), [0, 100 / 101, 1 / 101, 0], rtol=1e-12)


@pytest.mark.parametrize(("sentences", "text"), [
    ([], "sequences: expected at least 1, got 0"),
    ([[0, 10], [0, 1]], "sequences: expected at least 1 word in each, got none in number 1"),
])
def test_sentences_without_words_are_refused(sentences, text):
    with pytest.raises(DataError, match=text):
        next(span_batches(sentences, 2, 1, 0, np.ones(60), (0, 1)))


def test_chances_that_are_no_vector_are_refused():
    with pytest.raises(ShapeError, match="chances"):
        next(span_batches(SENTENCES, 2, 1, 0, np.ones((60, 2)), (0, 1)))
