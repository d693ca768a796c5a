"""Vocabularies: Zipf's law against counts in loops, units of tokens, files that are wrong."""

import re
import sys
from functools import partial

import numpy as np
import pytest

from see_min.errors import InputError
from see_min.recipe import encode
from see_min.storage.files import write_atomic
from see_min.units import Annotation, annotate
from see_min.words.lexicon import Lexicon
from see_min.words.morphemes import segment
from see_min.words.tokens import normalise
from see_min.words.vocabulary import (
    annotate_tokens,
    build_vocabulary,
    count_words,
    expected_counts,
    read_counts,
)

NAMES = ["[PAD]", "[CLS]", "a", "q", "the", "play", "##ing", "x", "cat", "##s", "zebra"]
COUNTS = np.array([0.0, 5.0, 40.0, 3.0, 300.0, 0.0, 90.0, 7.0, 0.0, 60.0, 2.0])
FIRST = NAMES.index("the")  # rows count from here on
GAME = ("do", "game"), ("perform",)
LEXICON = Lexicon.of({"play": GAME, "child": [("human", "young")], "Paris": [("place",)]})


def test_expected_counts_equal_the_formula_row_by_row():
    """D36: the code computes what the next test derives; Zipf's law has the sum of the counts."""
    got, counts = expected_counts(normalise(NAMES), COUNTS)[FIRST:], COUNTS[FIRST:]
    shares = [1 / rank for rank in range(1, len(counts) + 1)]
    for share, count, value in zip(shares, counts, got):
        z = sum(counts) * share / sum(shares)
        assert value == pytest.approx((count + 1) / (1 + 1 / (z + 1e-3)), rel=1e-12)


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("z", [0.2, 3.0])
def test_expected_count_is_the_mean_rate_that_a_text_leaves_of_an_exponential_law(z, count):
    """D36: by a sum over a fine grid of rates, weighted by prior and Poisson probability."""
    rates = np.arange(0.5, 200_000) * 2e-4
    weight = np.exp(-rates / z) * np.exp(-rates) * rates**count
    mean = (weight * rates).sum() / weight.sum()
    assert (count + 1) / (1 + 1 / z) == pytest.approx(mean, rel=1e-6)


def test_special_tokens_and_single_letters_in_front_are_not_drawn_to_the_law():
    got = expected_counts(normalise(NAMES), COUNTS)
    np.testing.assert_allclose(got[:FIRST], COUNTS[:FIRST], atol=1e-3)
    assert abs(got[NAMES.index("x")] - 7) > 0.5  # a letter behind the first word is drawn
    got = expected_counts(normalise(NAMES), np.zeros(len(NAMES)))
    assert got[FIRST:] == pytest.approx([7 / k for k in range(1, 8)])  # the rarest word once
    assert got[:FIRST] == pytest.approx([1] * FIRST)
    got = expected_counts(normalise(["<s>", "a", "b"]), np.zeros(3))  # no longer token
    np.testing.assert_allclose(got, 1, atol=1e-3)


def units_of(names, segmentation):
    notes = annotate_tokens(normalise(names), LEXICON, segmentation=segmentation)
    return [tuple(map(str, note.units)) for note in notes]


PLAY = ("sememe:do", "sememe:game", "sememe:perform")


def test_annotation_of_a_piece_is_an_affix_and_of_a_special_token_or_a_digit_nothing():
    names = ["play", "##ing", "[CLS]", "1984", "##7", "##play"]
    assert units_of(names, {}) == [PLAY, ("affix:ing",), (), (), (), ("affix:play",)]


@pytest.mark.parametrize("names", [
    ["Ġplay", "ing", "Ġ[", "<s>"], ["▁play", "ing", "▁[", "<s>"], ["play", "##ing", "[", "<s>"],
])
def test_annotations_are_the_same_in_every_style_of_marks(names):
    expected = [(*PLAY, "stem:play"), ("affix:ing",), (), ()]
    assert units_of(names, {"play": ("play",)}) == expected


def test_morphemes_are_those_of_the_segmentation_that_was_given():
    given = {"baking": ("bake", "ing"), "ing": ("i", "ng"), "##s": ("no",)}
    tokens = normalise(["baking", "##ing", "##s", "played"])
    notes = annotate_tokens(tokens, Lexicon.of({}), segmentation=given)
    assert [note.morphemes for note in notes] == [("bake", "ing"), ("", "ing"), ("", "s"), ()]


def test_plain_words_have_the_annotations_of_lexicon_and_morfessor():
    """The slow way, word by word; only signs and special tokens have nothing."""
    words = ["add", "adds", ",", "3", "<eos>", "plays", "played", "x1"]
    lexicon = Lexicon.of({"add": [("add",)], ",": [("stop",)], "3": [("cardinal",)]})
    slow = annotate([w if w not in (",", "<eos>") else "" for w in words], lexicon, segment(words))
    assert annotate_tokens(normalise(words), lexicon) == slow
    assert slow[3].senses == (("cardinal",),) and slow[2] == slow[4] == Annotation()


def test_words_are_segmented_only_where_their_annotations_are_read(monkeypatch):
    """`see` by bytes has codes alone; the control, a derived bag, asks for Morfessor."""
    monkeypatch.setitem(sys.modules, "morfessor", None)
    words, E0 = [f"of{i}some" for i in range(300)], np.eye(300, 32) + 0.1
    words[:9] = "none of these words was ever split here before".split()
    vocabulary = build_vocabulary(words, LEXICON)
    assert encode(E0, vocabulary, 10).shape == E0.shape
    with pytest.raises(InputError, match="^morfessor: expected the package"):
        encode(E0, vocabulary, 10, derived=True)


def build(names=NAMES, **options):
    return build_vocabulary(names, LEXICON, **{"segmentation": {}, **options})


def test_counts_are_drawn_to_the_law_only_where_asked_or_unknown():
    assert build(counts=COUNTS).counts.tolist() == COUNTS.tolist()
    drawn = expected_counts(normalise(NAMES), COUNTS).tolist()
    assert build(counts=COUNTS, smooth=True).counts.tolist() == drawn
    law = expected_counts(normalise(NAMES), np.zeros(len(NAMES))).tolist()
    assert build().counts.tolist() == build(counts=0 * COUNTS).counts.tolist() == law


def test_words_may_be_a_list_an_array_a_dict_or_a_vocabulary():
    vocabulary = build()
    assert vocabulary.names == NAMES and vocabulary.tokens == normalise(NAMES)
    by_id = {name: row for row, name in sorted(enumerate(NAMES), key=lambda item: item[1])}
    assert build(np.array(NAMES)).names == build(by_id).names == NAMES
    assert build(vocabulary) is vocabulary


@pytest.mark.parametrize("words, text", [
    ([], "words: number: expected at least 1, got 0"),
    (["a", 3], "words: expected texts, got 3"),
    ("text", "words: expected a list of texts, got the text 'text'"),
    ({"a": 0, "b": 2}, "words: expected the ids 0 to 1, each once, got 2 instead of 1"),
])
def test_words_that_name_no_rows_are_refused(words, text):
    with pytest.raises(InputError, match=f"^{text}$"):
        build(words)


@pytest.mark.parametrize("counts, text", [
    (COUNTS[1:], r"expected 11 as in the vocabulary, got \(10,\)"),
    (COUNTS - 1, r"expected at least 0, got -1\.0"),
    (COUNTS + np.inf, "expected finite numbers, got 11 that are NaN or infin"),
])
def test_vocabulary_refuses_counts_that_do_not_fit_or_say_nothing(counts, text):
    with pytest.raises(InputError, match=f"^counts: {text}"):
        build(counts=counts)


@pytest.mark.parametrize("counts, row", [((9, 1, 2, 8), 3), ((9, 8, 1, 2), 1)])
def test_rows_of_words_of_tokens_that_spell_the_same_hold_the_more_frequent(counts, row):
    names = ["▁a", "▁the", "▁▁the", "▁the▁"]
    found = build(names, counts=counts).rows_of_words
    assert found == {"a": 0, "the": row}
    expected = {name: row for row, name in enumerate(NAMES) if name[0].isalpha()}
    assert build(counts=COUNTS).rows_of_words == expected  # no piece, no special token


@pytest.fixture
def text_file(tmp_path):
    """A function from a text to the file that holds it."""
    return partial(write_atomic, tmp_path / "text")


def test_read_counts_adds_up_repeated_tokens_and_leaves_others_at_zero(text_file):
    path = text_file("the\t12\nunknown\t99\n##s\t3\nthe\t5\na\tb\t7\n")
    assert read_counts(path, ["a", "the", "##s", "a\tb"]).tolist() == [0, 17, 3, 7]


@pytest.mark.parametrize("line", ["cat 4", "cat\t4.5", "cat\t-4", ""])
def test_read_counts_names_the_path_and_line_that_is_wrong(text_file, line):
    path = text_file(f"the\t12\na\t3\n{line}\na\t4\n")
    rule = f"{path}:3: expected a token, a tab and a whole number below 10^15, got {line!r}"
    with pytest.raises(InputError, match=re.escape(rule)):
        read_counts(path, ["the", "a", "cat"])


def test_count_words_counts_in_lower_case_only_what_is_unknown_as_written(text_file):
    path = text_file("The cat saw US\nthe  CAT\tand us\n\nThe Paris paris dog\n")
    counts = count_words(path, ["the", "cat", "US", "us", "Paris", "none"])
    assert counts.tolist() == [3, 2, 1, 1, 1, 0]


def test_counts_of_other_words_are_refused(text_file):
    with pytest.raises(InputError, match="text: expected tokens of the vocabulary, got none$"):
        read_counts(text_file("dog\t4\n"), ["the", "cat"])
    with pytest.raises(InputError, match="text: expected words of the vocabulary, got none: give"):
        count_words(text_file("a cat\n"), ["Ġcat", "dog"])
