"""Vocabularies: Zipf's law against counts in loops, units of tokens of every kind, files that are wrong by line."""

import numpy as np
import pytest

from see_min.errors import InputError
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

NAMES = ["[PAD]", "[CLS]", "a", "q", "the", "play", "##ing", "x", "cat", "##s", "zebra"]  # wordpiece; rows count from "the" on
COUNTS = np.array([0.0, 5.0, 40.0, 3.0, 300.0, 0.0, 90.0, 7.0, 0.0, 60.0, 2.0])
FIRST = NAMES.index("the")
LEXICON = Lexicon.of({"play": [("do", "game"), ("perform",)], "child": [("human", "young")], "Paris": [("place",)]})


def slow_zipf(counts, first):
    """c / 1, c / 2, ... from row `first` on, with the sum of the counts there."""
    shares = [1 / (row - first + 1) for row in range(first, len(counts))]
    return [sum(counts[first:]) * share / sum(shares) for share in shares]


def test_expected_counts_equal_the_formula_row_by_row():
    """D36: the code computes what the next test derives."""
    got = expected_counts(normalise(NAMES), COUNTS)
    for z, count, value in zip(slow_zipf(COUNTS, FIRST), COUNTS[FIRST:], got[FIRST:]):
        assert value == pytest.approx((count + 1) / (1 + 1 / (z + 1e-3)), rel=1e-12)  # 1e-3: no z is 0


@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("z", [0.2, 3.0])
def test_expected_count_is_the_mean_rate_that_a_text_leaves_of_an_exponential_law(z, count):
    """D36: by a sum over a fine grid of rates, each weighted by its prior and by the Poisson probability of the count."""
    rates = np.arange(0.5, 200_000) * 2e-4
    weight = np.exp(-rates / z) * np.exp(-rates) * rates**count
    assert (count + 1) / (1 + 1 / z) == pytest.approx((weight * rates).sum() / weight.sum(), rel=1e-6)


def test_expected_counts_leave_special_tokens_and_single_letters_in_front_at_their_count():
    got = expected_counts(normalise(NAMES), COUNTS)
    np.testing.assert_allclose(got[:FIRST], COUNTS[:FIRST], atol=1e-3)
    assert abs(got[NAMES.index("x")] - 7) > 0.5  # a letter behind the first word is drawn to the law like any token


def test_expected_counts_without_any_count_are_the_law_alone_and_the_least_of_it_in_front():
    got = expected_counts(normalise(NAMES), np.zeros(len(NAMES)))
    assert got[FIRST:] == pytest.approx([7 / k for k in range(1, 8)])  # the rarest word once
    assert got[:FIRST] == pytest.approx([1] * FIRST)


@pytest.mark.parametrize("counts", [[0.0, 0.0, 0.0], [4.0, 0.0, 2.0]])
def test_expected_counts_are_above_zero_without_any_longer_token_too(counts):
    got = expected_counts(normalise(["<s>", "a", "b"]), np.array(counts))
    assert (got > 0).all() and np.isfinite(got).all()
    np.testing.assert_allclose(got, counts if any(counts) else 1, atol=1e-3)


def test_annotation_of_a_piece_is_an_affix_and_of_a_special_token_or_a_digit_nothing():
    notes = annotate_tokens(normalise(["play", "##ing", "[CLS]", "1984", "##7", "##play"]), LEXICON, segmentation={})
    assert [tuple(map(str, note.units)) for note in notes] == [
        ("sememe:do", "sememe:game", "sememe:perform"), ("affix:ing",), (), (), (), ("affix:play",),  # the piece "play" is not the word "play"
    ]


@pytest.mark.parametrize("names", [["Ġplay", "ing", "Ġ[", "<s>"], ["▁play", "ing", "▁[", "<s>"], ["play", "##ing", "[", "<s>"]])
def test_annotations_are_the_same_in_every_style_of_marks(names):
    notes = annotate_tokens(normalise(names), LEXICON, segmentation={"play": ("play",)})
    assert [tuple(map(str, note.units)) for note in notes] == [("sememe:do", "sememe:game", "sememe:perform", "stem:play"), ("affix:ing",), (), ()]


@pytest.mark.parametrize("name, senses", [
    ("plays", (("do", "game"), ("perform",))), ("Played", (("do", "game"), ("perform",))), ("children", (("human", "young"),)),
    ("paris", (("place",),)), ("tensor", ()),
])
def test_senses_of_a_token_are_found_through_other_forms_of_the_word(name, senses):
    assert annotate_tokens(normalise([name]), LEXICON, segmentation={}) == [Annotation(senses)]


def test_morphemes_are_those_of_the_segmentation_that_was_given():
    given = {"baking": ("bake", "ing"), "ing": ("i", "ng"), "##s": ("no",)}
    notes = annotate_tokens(normalise(["baking", "##ing", "##s", "played"]), Lexicon.of({}), segmentation=given)
    assert [note.morphemes for note in notes] == [("bake", "ing"), ("", "ing"), ("", "s"), ()]


def test_morphemes_without_a_segmentation_spell_the_word(tmp_path):
    names = [f"Ġ{stem}{end}" for stem in ("play", "work", "walk") for end in ("", "s", "ed", "ing")] + ["ed", "Ġ42"]
    cache = tmp_path / "morphemes.json"
    notes = annotate_tokens(normalise(names), Lexicon.of({}), cache=cache)
    assert ["".join(note.morphemes) for note in notes] == [name.removeprefix("Ġ") for name in names[:-1]] + [""]
    assert tuple(map(str, notes[1].units)) == ("stem:play", "affix:s") and tuple(map(str, notes[-2].units)) == ("affix:ed",)
    assert annotate_tokens(normalise(names), Lexicon.of({}), cache=cache) == notes and cache.exists()


def build(names=NAMES, **options):
    return build_vocabulary(names, LEXICON, **{"segmentation": {}, **options})


def test_counts_are_drawn_to_the_law_only_where_asked_or_unknown():
    assert build(counts=COUNTS).counts.tolist() == COUNTS.tolist()
    drawn = expected_counts(normalise(NAMES), COUNTS).tolist()
    assert build(counts=COUNTS, smooth=True).counts.tolist() == drawn
    assert build(counts=COUNTS, smooth=True, ordered=False).counts.tolist() == COUNTS.tolist()
    law = expected_counts(normalise(NAMES), np.zeros(len(NAMES))).tolist()
    assert build().counts.tolist() == build(counts=0 * COUNTS).counts.tolist() == law


def test_words_may_be_a_list_an_array_a_dict_or_a_vocabulary():
    vocabulary = build(counts=COUNTS)
    by_id = {name: row for row, name in sorted(enumerate(NAMES), key=lambda item: item[1])}
    for words in (np.array(NAMES), tuple(NAMES), by_id):
        other = build(words, counts=COUNTS)
        assert other.names == NAMES and other.annotations == vocabulary.annotations
    assert build(vocabulary) is vocabulary


@pytest.mark.parametrize("words, text", [
    ([], "words: number: expected at least 1, got 0"),
    (["a", 3], "words: expected texts, got 3"),
    ("text", "words: expected a list of texts, got the text 'text'"),
    ({}, "words: expected at least 1 token, got none"),
    ({"a": 0, "b": 2}, "words: expected the ids 0 to 1, each once, got 2 instead of 1"),
    ({"a": 0, "b": 0}, "words: expected the ids 0 to 1, each once, got 0 instead of 1"),
    ({"a": "0"}, "words: expected texts as tokens and whole numbers as ids, got 'a': '0'"),
])
def test_words_that_name_no_rows_are_refused(words, text):
    with pytest.raises(InputError) as error:
        build(words)
    assert str(error.value) == text


def test_a_lexicon_may_be_named():
    sample, none = (build_vocabulary(["add"], name, segmentation={}) for name in ("sample", "none"))
    assert sample.annotations[0].senses and none.annotations == [Annotation()]


def test_plain_words_have_the_annotations_of_lexicon_and_morfessor():
    """The slow way, word by word; only signs and special tokens have nothing."""
    words = ["add", "adds", ",", "3", "<eos>", "plays", "played", "x1"]
    lexicon = Lexicon.of({"add": [("add",)], ",": [("stop",)], "3": [("cardinal",)], "eos": [("end",)]})
    slow = annotate([w if w not in (",", "<eos>") else "" for w in words], lexicon, segment(words))
    assert annotate_tokens(normalise(words), lexicon) == slow
    assert slow[3].senses == (("cardinal",),) and slow[2] == slow[4] == Annotation()


def test_vocabulary_has_one_token_count_and_annotation_a_name():
    vocabulary = build(counts=COUNTS)
    assert vocabulary.names == NAMES and vocabulary.tokens == normalise(NAMES)
    assert vocabulary.annotations == annotate_tokens(normalise(NAMES), LEXICON, segmentation={})
    assert len(vocabulary) == len(NAMES) == len(vocabulary.counts)


@pytest.mark.parametrize("options, text", [
    ({"counts": COUNTS[1:]}, r"counts: expected 11 as in the vocabulary, got \(10,\)"),
    ({"counts": COUNTS[:, None]}, r"counts: expected 11 as in the vocabulary, got \(11, 1\)"),
    ({"counts": COUNTS - 1}, r"counts: expected at least 0, got -1\.0"),
    ({"counts": np.where(COUNTS == 7, np.nan, COUNTS)}, r"counts: expected finite numbers, got 1 that are NaN or infinite"),
    ({"ordered": False}, r"counts: expected a text, counts, or rows in the order of frequency, got none of them"),
    ({"counts": 0 * COUNTS, "ordered": False}, r"counts: expected a text, counts, or rows in the order of frequency, got none"),
])
def test_vocabulary_refuses_counts_that_do_not_fit_or_say_nothing(options, text):
    with pytest.raises(InputError, match=f"^{text}"):
        build(**options)


def test_rows_of_words_hold_whole_words_and_no_piece_or_special_token():
    assert build(counts=COUNTS).rows_of_words == {name: row for row, name in enumerate(NAMES) if name[0].isalpha()}


@pytest.mark.parametrize("counts, row", [((9, 1, 2, 8), 3), ((9, 1, 8, 2), 2), ((9, 8, 1, 2), 1)])
def test_rows_of_words_of_tokens_that_spell_the_same_hold_the_more_frequent(counts, row):
    names = ["▁a", "▁the", "▁▁the", "▁the▁"]
    assert build(names, counts=counts, ordered=False).rows_of_words == {"a": 0, "the": row}


def test_read_counts_adds_up_repeated_tokens_and_leaves_those_that_the_file_lacks_at_zero(tmp_path):
    path = tmp_path / "counts.tsv"
    path.write_text("the\t12\nunknown\t99\n##s\t3\nthe\t5\na\tb\t7\n", encoding="utf-8")
    assert read_counts(path, ["a", "the", "##s", "a\tb"]).tolist() == [0, 17, 3, 7]


@pytest.mark.parametrize("line", ["cat 4", "cat\t", "cat\t4.5", "cat\t-4", "cat\tmany", "", "4"])
def test_read_counts_names_the_path_and_line_that_is_wrong(tmp_path, line):
    path = tmp_path / "counts.tsv"
    path.write_text(f"the\t12\na\t3\n{line}\na\t4\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_counts(path, ["the", "a", "cat"])
    assert str(error.value) == f"{path}:3: expected a token, a tab and a whole number below 10^15, got {line!r}"


def test_read_counts_refuses_a_file_without_a_token_of_the_vocabulary_and_one_that_is_not_there(tmp_path):
    path = tmp_path / "counts.tsv"
    for text in ("dog\t4\n", ""):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"counts\.tsv: expected tokens of the vocabulary, got none$"):
            read_counts(path, ["the", "cat"])
    with pytest.raises(InputError, match=r"none\.tsv: expected a file that can be read, got "):
        read_counts(tmp_path / "none.tsv", ["the"])


def test_count_words_counts_in_lower_case_only_what_is_unknown_as_written(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("The cat saw US\nthe  CAT\tand us\n\nThe Paris paris dog\n", encoding="utf-8")
    assert count_words(path, ["the", "cat", "US", "us", "Paris", "none"]).tolist() == [3, 2, 1, 1, 1, 0]


def test_count_words_refuses_a_text_without_a_word_of_the_vocabulary(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("a cat\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"text\.txt: expected words of the vocabulary, got none: give --counts for a vocabulary"):
        count_words(path, ["Ġcat", "dog"])
