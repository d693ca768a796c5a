"""Lexicon files: three formats, what each refuses, and how a lexicon is named."""

import itertools
import re

import pytest

from see_min.errors import InputError
from see_min.words.formats import SAMPLE, load_lexicon, read_lexicon, sample_lexicon, union
from see_min.words.lexicon import Lexicon, Sense

TEXT = "bank\nplace\tmoney\nNew_York\ncity\nbank\nland\twater\tedge\n"
COOK = "{human|人:{cook|烹调:agent={~}},belong={human|人}}"
ICE = "{food|食品:modifier={cold|冷}}"
RECORDS = f"""NO.=000000000001
W_C=厨师
G_C=noun [chu2 shi1]
W_E=cook
G_E=noun  person
DEF={COOK}
RMK=

NO.=000000000002
W_C=饭
W_E=
DEF=no definition at all

NO.=000000000003
W_E= ice  cream
DEF={ICE}
Colour=unknown keys are no error

NO.=000000000004
W_E=cook
G_E=verb
DEF={{cook|烹调}}RMK=as before
"""
TABLE = f"""lemma\tpos\tsense_rank\twn30\tsememes\tkdml
cook\tn\t1\twn:2n\thuman|人 cook|烹调\t{COOK}
cook\tv\t1\twn:4v\tNew_York|纽约\t{{New York|纽约}}
cook\tn\t2\twn:1n\thuman|人 tool|用具\t{COOK}
ice_cream\tn\t1\twn:5n\tfood|食品 cold|冷\t{ICE}
"""
SENSES = {  # what TABLE says
    "cook": (
        Sense(("human", "cook"), ("", ""), "n", COOK, "wn:2n"),
        Sense(("New_York",), ("",), "v", "{New York|纽约}", "wn:4v"),
        Sense(("human", "tool"), (), "n", COOK, "wn:1n"),  # another sememe: no roles
    ),
    "ice_cream": (Sense(("food", "cold"), ("", "modifier"), "n", ICE, "wn:5n"),),
}


@pytest.fixture
def lexicon_file(tmp_path):
    numbers = itertools.count()

    def write(data):
        path = tmp_path / f"lexicon{next(numbers)}.txt"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


def test_pairs_of_lines_keep_the_order_of_sememes_and_senses(lexicon_file):
    entries = {"bank": [("place", "money"), ("land", "water", "edge")], "New_York": [("city",)]}
    assert read_lexicon(lexicon_file(TEXT)) == Lexicon.of(entries)


@pytest.mark.parametrize("data", [RECORDS, RECORDS.replace("\n", "\r\n"), "\ufeff" + RECORDS])
def test_records_give_english_words_with_roles_pos_definition_and_number(lexicon_file, data):
    path = lexicon_file(data)
    first = Sense(("human", "cook"), ("", ""), "noun", COOK, "000000000001")  # each sememe once
    last = Sense(("cook",), ("",), "verb", "{cook|烹调}RMK=as before", "000000000004")
    cream = Sense(("food", "cold"), ("", "modifier"), "", ICE, "000000000003")
    skipped = (f"{path}: records without an English word (W_E): 1",)
    expected = Lexicon({"cook": (first, last), "ice_cream": (cream,)}, skipped)
    assert read_lexicon(path) == expected
    assert expected.note == f"notes on what the lexicon lacks: 1, the first: {skipped[0]}"


@pytest.mark.parametrize(("lines", "text"), [
    ("W_E=a\nDEF={a|一\n", "definition: expected ':' or '}', got the end at character 5"),
    ("W_E=a\nDEF={~}\n", "definition: expected at least 1 sememe, got none"),
    ("W_E=a\n", "definition: expected '{', got the end at character 1"),
])
def test_a_record_without_a_definition_that_can_be_read_is_noted(lexicon_file, lines, text):
    path = lexicon_file(f"NO.=1\nW_E=b\nDEF={ICE}\n\nNO.=2\n{lines}")
    lexicon = read_lexicon(path)
    assert list(lexicon.entries) == ["b"] and lexicon.skipped == (f"{path}:5: {text}",)


def test_a_table_gives_senses_in_the_order_of_its_lines(lexicon_file):
    assert read_lexicon(lexicon_file(TABLE)) == Lexicon(SENSES)


def test_a_malformed_definition_in_a_table_costs_the_roles_but_not_the_sense(lexicon_file):
    path = lexicon_file(TABLE.replace(ICE, "{food"))
    sense = Sense(("food", "cold"), (), "n", "", "wn:5n")
    skipped = (f"{path}:5: definition: expected ':' or '}}', got the end at character 6",)
    assert read_lexicon(path) == Lexicon({**SENSES, "ice_cream": (sense,)}, skipped)


ROW = TABLE.split("\n")[0]
WORDS = [f"word{i}" for i in range(40)]


@pytest.mark.parametrize(("data", "line", "text"), [
    ("a\nx\n\ny\n", 3, "a word without tabs or spaces around it, got ''"),
    ("a\nx\nb\n", 4, "sememes separated by single tabs, without"),
    ("word,sememes\nbank,place money\n", 2, "sememes separated by single tabs"),
    ("\n".join(WORDS), 2, "sememes that words have in common, below each word, got 'word1'"),
    (b"a\nx\nb\ny\xff\n", 4, "UTF-8, got byte 0xff"),
    ("W_C=x\nNO.=1\n", 1, "KEY=value, a key once in a record, which NO.= opens, got 'W_C=x'"),
    ("NO.=1\nW_E=a\nW_E=b\n", 3, "KEY=value, a key once in a record, which NO.="),
    (f"{ROW}\na\tn\t1\tw\tx|y", 2, "6 columns separated by tabs, got 'a\\tn\\t1\\tw\\tx|y'"),
    (f"{ROW}\na\tn\t1\tw\tx|y  z|w\t", 2, "a lemma, and sememes en|zh separated by single spaces"),
    ("lemma\tpos\na\tn\n", 1, "the columns lemma pos sense_rank wn30 sememes [kdml], got 'lemma"),
])
def test_a_malformed_line_is_named_by_path_and_number(lexicon_file, data, line, text):
    path = lexicon_file(data)
    with pytest.raises(InputError, match=re.escape(f"{path}:{line}: expected {text}")):
        read_lexicon(path)


@pytest.mark.parametrize("lines", [WORDS[:38], [*WORDS[:39], "word1"], [*WORDS[:39], "a\tb"]])
def test_few_senses_and_sememes_in_common_or_several_are_no_list_of_words(lexicon_file, lines):
    assert len(read_lexicon(lexicon_file("\n".join(lines)))) == len(lines) // 2


@pytest.mark.parametrize("data", [ROW, "NO.=1\n\nNO.=2\nW_E=a\n"])
def test_a_file_without_entries_is_no_lexicon(lexicon_file, data):
    path = lexicon_file(data)
    with pytest.raises(InputError, match=re.escape(f"{path}: expected at least 1 entry, got none")):
        read_lexicon(path)


def test_of_a_word_in_several_lexicons_the_union_has_all_senses_in_their_order():
    a = Lexicon({"Add": (Sense(("x",)),), "add": (Sense(("y",)),)}, ("left out of a",))
    b = Lexicon({"add": (Sense(("z",)),), "sum": (Sense(("v",)),)}, ("left out of b",))
    both = {**a.entries, **b.entries, "add": (*a.entries["add"], *b.entries["add"])}
    assert union([a, b]) == Lexicon(both, ("left out of a", "left out of b"))
    assert union([b, a]).senses("add") == (("z",), ("y",))


def test_load_lexicon_knows_names_and_paths_and_joins_them_in_their_order(lexicon_file):
    a, b = lexicon_file("add\nx\n"), lexicon_file("add\ny\nxyzzy\nz\n")
    assert len(load_lexicon("none")) == 0
    assert load_lexicon("sample") == sample_lexicon() == load_lexicon(SAMPLE)
    lexicon = load_lexicon(f"{a}+{b}+sample")
    assert lexicon == union([read_lexicon(a), read_lexicon(b), sample_lexicon()])
    assert lexicon.senses("add") == (("x",), ("y",), *sample_lexicon().senses("add"))
    assert lexicon.senses("xyzzy") == (("z",),)
    plus = a.rename(a.with_name("a+b.txt"))
    assert len(load_lexicon(plus)) == 1  # a path first, then names that are joined


@pytest.mark.parametrize(("source", "text"), [
    ("sample+", "lexicon: expected a name or a path on either side of +, got ''"),
    ("sample+/absent", "/absent: expected a file that can be read, got No such file"),
])
def test_a_part_that_is_not_there_is_named(source, text):
    with pytest.raises(InputError, match=f"^{re.escape(text)}"):
        load_lexicon(source)
