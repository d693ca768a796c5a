"""Lexicon files, look-up of inflected forms, coverage, and the embedded sample."""

import re
from pathlib import Path

import pytest

from see_min.checks import DataError
from see_min.lexicon import Lexicon, bases
from see_min.lexicon_files import SAMPLE, load_lexicon, read_lexicon, sample_lexicon

REAL = Path(__file__).parents[2] / "shared" / "data" / "lexicon"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the HowNet text files are not at {REAL}")
BASES = ("add", "plan", "plane", "hope", "create", "simple", "normal", "class", "matrix", "vary")
SMALL = Lexicon.of({word: [(word.upper(),)] for word in BASES})


@pytest.fixture
def lexicon_file(tmp_path):
    def write(data):
        path = tmp_path / "lexicon.txt"
        path.write_bytes(data)
        return path

    return write


def test_read_lexicon_keeps_the_order_of_sememes_and_senses(lexicon_file):
    path = lexicon_file(b"bank\nplace\tmoney\nNew_York\ncity\nbank\nland\twater\tedge\n")
    assert read_lexicon(path) == Lexicon.of({"bank": [("place", "money"), ("land", "water", "edge")], "New_York": [("city",)]})


@pytest.mark.parametrize("data", [b"a\nx\ty\n", b"a\nx\ty", b"a\r\nx\ty\r\n", b"\xef\xbb\xbfa\nx\ty\n"])
def test_line_ends_of_other_systems_change_no_entry(lexicon_file, data):
    assert read_lexicon(lexicon_file(data)) == Lexicon.of({"a": [("x", "y")]})


def test_a_line_separator_inside_a_name_does_not_break_the_line(lexicon_file):
    text = "a\u2028b\nx\x85y\n"
    assert read_lexicon(lexicon_file(text.encode())) == Lexicon.of({"a\u2028b": [("x\x85y",)]})


@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        (b"a\nx\n\ny\n", 3, "expected a word, got an empty line"),
        (b"a\nx\n \ny\n", 3, "expected a word, got an empty line"),
        (b"a\nx\n\n", 3, "expected a word, got an empty line"),
        (b"a\nx\nb\n", 3, "expected a line of sememes after 'b', got the end of the file"),
        (b"a\nx\nb\n\n", 4, "expected sememes separated by tabs, got an empty line"),
        (b"a\nx\nb\n\t\n", 4, "expected sememes separated by tabs, got an empty line"),
        (b"a\nx\t\ty\n", 2, "expected sememes separated by single tabs, got an empty sememe in"),
        (b"a\nx\ty\t\n", 2, "expected sememes separated by single tabs, got an empty sememe in"),
        (b"a\nx\t y\n", 2, "expected sememes without spaces around them, got"),
        (b"a\tb\nx\n", 1, "expected a word without tabs or spaces around it, got"),
        (b" a\nx\n", 1, "expected a word without tabs or spaces around it, got"),
        (b"a\nx\nb\0\ny\n", 3, "expected text, got a NUL byte"),
        (b"a\nx\nb\ny\xff\n", 4, "expected UTF-8, got byte 0xff"),
    ],
)
def test_a_malformed_line_is_named_by_path_and_number(lexicon_file, data, line, text):
    path = lexicon_file(data)
    with pytest.raises(DataError, match=re.escape(f"{path}:{line}: {text}")):
        read_lexicon(path)


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_a_file_without_entries_is_no_lexicon(lexicon_file, data):
    path = lexicon_file(data)
    with pytest.raises(DataError, match=re.escape(f"{path}: expected at least 1 entry, got none")):
        read_lexicon(path)


def test_an_unreadable_file_is_named(tmp_path):
    for path in (tmp_path / "absent.txt", tmp_path):  # the second is a directory
        with pytest.raises(DataError, match=re.escape(f"{path}: expected a lexicon file, got ")):
            load_lexicon(path)
    with pytest.raises(DataError, match="expected a lexicon file, got embedded null"):
        load_lexicon("a\0b")


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


def test_load_lexicon_knows_the_two_names_and_takes_paths(lexicon_file):
    assert len(load_lexicon("none")) == 0 and load_lexicon("none").senses("add") == ()
    assert load_lexicon("sample") == sample_lexicon() == load_lexicon(SAMPLE)
    assert len(load_lexicon(str(lexicon_file(b"a\nx\n")))) == 1


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


@needs_real
def test_every_entry_of_the_full_english_list_parses():
    path = REAL / "hownet_wn_en.txt"
    lexicon, lines = read_lexicon(path), path.read_text(encoding="utf-8").split("\n")
    assert len(lexicon) == 58_865
    for word, sememes in zip(lines[0::2], lines[1::2]):
        assert lexicon.senses(word) == (tuple(sememes.split("\t")),)
