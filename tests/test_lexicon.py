"""Look-up of inflected and derived forms, coverage, and the embedded sample."""

import re

import pytest

from see_min.errors import InputError
from see_min.words.formats import SAMPLE, sample_lexicon
from see_min.words.lexicon import SHORTEST, Lexicon, forms

BASES = "add plan plane hope create simple normal class matrix vary go be man good die vertex"
SMALL = Lexicon.of({word: [(word.upper(),)] for word in BASES.split()})


@pytest.mark.parametrize("base, words", [
    ("add", "add Add ADDED adds adder"), ("plan", "planned planning plans plan's"),
    ("plane", "planes"), ("hope", "hoping"), ("create", "creation creator creations creatable"),
    ("simple", "simply simpler simplest"), ("normal", "normally Normally"), ("class", "classes"),
    ("vary", "varies varied"), ("go", "went Gone"), ("be", "is"), ("man", "men MEN'S"),
    ("good", "better"), ("die", "dying"), ("vertex", "vertices"), ("matrix", "matrices"),
])
def test_other_forms_of_a_word_have_the_senses_of_its_base(base, words):
    assert {word: SMALL.find(word) for word in words.split()} == dict.fromkeys(words.split(), base)


@pytest.mark.parametrize("word", ["", "s", "ing", "'s", "tensor", "ad", "1", "planet", "ünïcode"])
def test_an_unknown_word_has_no_senses(word):
    assert SMALL.senses(word) == ()


def test_an_exact_entry_wins_over_lower_case_and_over_a_base():
    lexicon = Lexicon.of({"US": [("a",)], "us": [("b",)], "add": [("c",)], "adding": [("d",)]})
    assert [lexicon.find(word) for word in ("US", "Us", "adding")] == ["US", "us", "adding"]


def test_an_irregular_base_comes_after_the_word_itself_and_before_its_lemma():
    lexicon = Lexicon.of({word: [(word,)] for word in ("leave", "left", "axe", "axis", "find")})
    assert [lexicon.find(word) for word in ("left", "Axes", "found")] == ["left", "axis", "find"]
    assert Lexicon.of({"axe": [("tool",)]}).find("axes") == "axe"


def test_no_ending_leaves_a_base_that_is_too_short_and_a_long_word_has_no_base():
    for word in "ions added ely able runner".split():
        assert min(map(len, forms(word))) >= SHORTEST
    assert list(forms("a" * 300_000)) == ["a" * 300_000]


@pytest.mark.parametrize("entry", ["ice_cream", "ice-cream", "icecream"])
def test_the_parts_of_a_word_may_be_joined_in_any_way(entry):
    lexicon = Lexicon.of({entry: [("food",)]})
    for word in ("ice cream", "ice_cream", "ice-cream", "Ice Cream"):
        assert lexicon.find(word) == entry
    assert lexicon.find("ice") is None


def test_coverage_counts_types_and_tokens():
    words, counts = ["add", "tensor", "plans", "numel"], [5, 1, 3, 1]
    assert SMALL.coverage(words, counts) == (2 / 4, 8 / 10)
    assert SMALL.coverage(["add", "add", "tensor"]) == (1 / 2, 2 / 3)  # one type, two tokens
    with pytest.raises(InputError, match="^counts: expected 1 as in words, got 2$"):
        SMALL.coverage(["add"], [1, 2])


def test_the_sample_is_sorted_plain_words_whose_sememes_are_shared():
    entries, words_of = sample_lexicon().entries, {}
    assert list(entries) == sorted(entries)
    for word, senses in entries.items():
        assert re.fullmatch("[a-z]+", word) and len(set(senses)) == len(senses), word
        for sense in senses:
            assert len(set(sense.sememes)) == len(sense.sememes), word
            for name in sense.sememes:
                words_of.setdefault(name, set()).add(word)
    assert min(map(len, words_of.values())) >= 2  # a sememe of one word alone shares nothing
    number = sum(map(len, entries.values()))
    claim = f"{len(entries):,} English words, {number:,} senses, {len(words_of)} sememes"
    assert claim in (SAMPLE.parent / "README.md").read_text()
