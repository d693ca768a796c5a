"""Look-up of inflected forms, regular and irregular, coverage, and the embedded sample."""

import re
from pathlib import Path

import pytest

from see_min.checks import DataError
from see_min.lexicon import IRREGULAR, Lexicon, bases, irregular_forms
from see_min.lexicon_files import SAMPLE, sample_lexicon

REAL = Path(__file__).parents[2] / "shared" / "data" / "lexicon"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the HowNet text files are not at {REAL}")
BASES = ("add", "plan", "plane", "hope", "create", "simple", "normal", "class", "matrix", "vary")
SMALL = Lexicon.of({word: [(word.upper(),)] for word in BASES})


@pytest.mark.parametrize(
    ("word", "base"),
    [
        ("add", "add"), ("Add", "add"), ("ADDED", "add"), ("adds", "add"), ("adder", "add"),
        ("planes", "plane"), ("planned", "plan"), ("planning", "plan"), ("plans", "plan"), ("plan's", "plan"),
        ("hoping", "hope"), ("creation", "create"), ("creator", "create"), ("creations", "create"), ("creatable", "create"),
        ("simply", "simple"), ("simpler", "simple"), ("simplest", "simple"), ("normally", "normal"), ("classes", "class"),
        ("varies", "vary"), ("varied", "vary"), ("matrixes", "matrix"),
    ],
)  # fmt: skip
def test_an_inflected_form_has_the_senses_of_its_base(word, base):
    assert SMALL.senses(word) == ((base.upper(),),)


@pytest.mark.parametrize("word", ["", "s", "ing", "clas", "tensor", "ad", "1", "planet", "ünïcode"])
def test_an_unknown_word_has_no_senses(word):
    assert SMALL.senses(word) == ()


def test_an_exact_entry_wins_over_lower_case_and_over_a_base():
    lexicon = Lexicon.of({"US": (("country",),), "us": (("human",),), "add": (("a",),), "adding": (("b",),)})
    assert [lexicon.senses(word) for word in ("US", "Us", "adding")] == [(("country",),), (("human",),), (("b",),)]


def test_no_base_is_shorter_than_three_letters():
    words = ["as", "bed", "going", "used", "ions", "added", "ely", "able", "runner", "is's"]
    assert all(len(base) >= 3 for word in words for base in bases(word))


@pytest.mark.parametrize(
    ("word", "base"),
    [
        ("went", "go"), ("Gone", "go"), ("is", "be"), ("men", "man"), ("MEN'S", "man"), ("better", "good"), ("dying", "die"),
        ("thought", "think"), ("vertices", "vertex"), ("women", "woman"), ("written", "write"), ("quizzes", "quiz"),
    ],
)  # fmt: skip
def test_an_irregular_form_has_the_senses_of_its_base(word, base):
    assert Lexicon.of({base: [("x",)]}).senses(word) == (("x",),)


def test_an_irregular_base_comes_after_entries_of_the_word_and_before_what_endings_leave():
    words = ["leave", "left", "lie", "LAY", "axe", "axis", "a_found", "a", "find"]
    lexicon = Lexicon.of({word: [(word,)] for word in words})
    found = [lexicon.find(word) for word in ("left", "Left", "lay", "axes", "a-found", "found")]
    assert found == ["left", "left", "LAY", "axis", "a_found", "find"]
    assert Lexicon.of({"axe": [("tool",)]}).find("axes") == "axe"  # the base is unknown, so the endings have their turn


def test_the_irregular_forms_are_sorted_lower_case_pairs_one_a_form():
    lines = IRREGULAR.read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch("[a-z]+\t[a-z]+", line) for line in lines)
    forms = [line.split("\t")[0] for line in lines]
    assert forms == sorted(set(forms)) == list(irregular_forms())
    assert 250 <= len(forms) and f"{len(forms)} inflected forms" in (IRREGULAR.parent / "README.md").read_text()


def test_no_ending_undoes_an_irregular_form_and_no_base_but_lay_and_saw_is_itself_a_form():
    forms = irregular_forms()
    assert [form for form, base in forms.items() if base in bases(form) or form == base] == []
    assert {base for base in forms.values() if base in forms} == {"lay", "saw"}  # a past of lie, of see


@needs_real
def test_the_irregular_forms_agree_with_a_list_of_lemmas_of_other_authors():
    lemmas = {}
    for line in (REAL / "lemmatization.txt").read_text(encoding="utf-8-sig").splitlines():
        lemma, form = line.split("\t")
        lemmas.setdefault(form, set()).add(lemma)
    forms = irregular_forms()
    assert {form: base for form, base in forms.items() if base not in lemmas.get(form, {base})} == {}
    assert sum(form in lemmas for form in forms) >= 0.95 * len(forms)


def test_coverage_counts_types_and_tokens():
    words, counts = ["add", "tensor", "plans", "numel"], [5, 1, 3, 1]
    known = [word in ("add", "plans") for word in words]
    tokens = [ok for ok, count in zip(known, counts) for _ in range(count)]
    assert SMALL.coverage(words, counts) == (sum(known) / 4, sum(tokens) / len(tokens))
    assert SMALL.coverage(["add", "add", "tensor"]) == (1 / 2, 2 / 3)  # a repeated word is one type, two tokens


@pytest.mark.parametrize(
    ("words", "counts", "text"),
    [
        ([], None, "words: number: expected at least 1, got 0"),
        (["add"], [1, 2], "counts: expected 1 as in words, got 2"),
        (["add", "of"], [3, -1], "counts: expected at least 0, got -1"),
        (["add"], [0], "counts: sum: expected at least 1, got 0"),
    ],
)
def test_coverage_rejects_counts_that_do_not_fit(words, counts, text):
    with pytest.raises(DataError, match=f"^{text}$"):
        SMALL.coverage(words, counts)


def test_the_sample_has_at_least_1200_words():
    assert len(sample_lexicon()) >= 1200


def test_the_sample_is_sorted_plain_words_without_repeated_senses_or_sememes():
    entries = sample_lexicon().entries
    assert list(entries) == sorted(entries)
    assert all(re.fullmatch("[a-z]+", word) for word in entries)
    for word, senses in entries.items():
        assert len(set(senses)) == len(senses), word
        assert all(len(set(sense.sememes)) == len(sense.sememes) for sense in senses), word


def test_the_sample_reuses_its_sememes():
    words_of = {}
    for word, senses in sample_lexicon().entries.items():
        for name in {name for sense in senses for name in sense.sememes}:
            words_of.setdefault(name, set()).add(word)
    assert min(map(len, words_of.values())) >= 2  # a sememe of one word alone shares nothing


def test_the_readme_of_the_sample_counts_what_the_file_holds():
    entries = sample_lexicon().entries
    senses = [sense for word in entries.values() for sense in word]
    claim = f"{len(entries):,} English words, {len(senses):,} senses, {len({n for s in senses for n in s.sememes})} sememes"
    assert claim in (SAMPLE.parent / "README.md").read_text()


@needs_real
def test_every_sememe_of_the_sample_is_a_name_of_hownet():
    names = set((REAL / "sememe_names.txt").read_text(encoding="utf-8").splitlines())
    used = {name for senses in sample_lexicon().entries.values() for sense in senses for name in sense.sememes}
    assert used - names == set()


@pytest.mark.parametrize("entry", ["ice_cream", "ice-cream", "icecream"])
@pytest.mark.parametrize("word", ["ice cream", "ice_cream", "ice-cream", "Ice Cream"])
def test_the_parts_of_a_word_may_be_joined_in_any_way_by_the_lexicon(entry, word):
    assert Lexicon.of({entry: [("food",)]}).find(word) == entry
    assert Lexicon.of({entry: [("food",)]}).find("ice") is None
