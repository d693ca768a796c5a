"""Lexicon files: the three formats, plain and gzip, what each refuses, and the names by which a lexicon is asked for."""

import csv
import functools
import gzip
import io
import itertools
import pickle
import re
from pathlib import Path

import pytest

from see_min.errors import InputError
from see_min.words.formats import SAMPLE, load_lexicon, read_lexicon, sample_lexicon, union
from see_min.words.lexicon import Lexicon, Sense

REAL = Path(__file__).parents[2] / "shared" / "data" / "lexicon"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the HowNet text files are not at {REAL}")
TEXT = b"bank\nplace\tmoney\nNew_York\ncity\nbank\nland\twater\tedge\n"
COOK, ICE = "{human|人:{cook|烹调:agent={~}},belong={human|人}}", "{food|食品:modifier={cold|冷}}"
RECORDS = f"""NO.=000000000001
W_C=厨师
G_C=noun [chu2 shi1]
S_C=
E_C=
W_E=cook
G_E=noun  person
S_E=
E_E=
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
""".encode()
TABLE = f"""lemma\tpos\tsense_rank\twn30\tsememes\tkdml
cook\tn\t10\twn:2n\thuman|人 cook|烹调\t{COOK}
cook\tv\t2\twn:3v\tcook|烹调\t
cook\tv\t1\twn:4v\tNew_York|纽约\t{{New York|纽约}}
cook\tn\t9\twn:1n\thuman|人 tool|用具\t{COOK}
ice_cream\tn\t1\twn:5n\tfood|食品 cold|冷\t{ICE}
""".encode()
SENSES = {  # what TABLE says
    "cook": (
        Sense(("human", "tool"), (), "n", COOK, "wn:1n"),  # the definition has another sememe: no roles
        Sense(("human", "cook"), ("", ""), "n", COOK, "wn:2n"),
        Sense(("New_York",), ("",), "v", "{New York|纽约}", "wn:4v"),
        Sense(("cook",), (), "v", "", "wn:3v"),
    ),
    "ice_cream": (Sense(("food", "cold"), ("", "modifier"), "n", ICE, "wn:5n"),),
}


@pytest.fixture
def lexicon_file(tmp_path):
    numbers = itertools.count()

    def write(data):
        path = tmp_path / f"lexicon{next(numbers)}.txt"
        path.write_bytes(data)
        return path

    return write


def test_read_lexicon_keeps_the_order_of_sememes_and_senses(lexicon_file):
    entries = {"bank": [("place", "money"), ("land", "water", "edge")], "New_York": [("city",)]}
    assert read_lexicon(lexicon_file(TEXT)) == Lexicon.of(entries)


@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        (b"a\nx\n\ny\n", 3, "expected a word without tabs or spaces around it, got ''"),
        (b"\n", 1, "expected a word without tabs or spaces around it, got ''"),
        (b"a\tb\nx\n", 1, "expected a word without tabs or spaces around it, got"),
        (b" a\nx\n", 1, "expected a word without tabs or spaces around it, got"),
        (b"a\nx\nb\n", 3, "expected a line of sememes after 'b', got the end of the file"),
        (b"a\nx\nb\n\n", 4, "expected sememes separated by single tabs, without"),
        (b"a\nx\t\ty\n", 2, "expected sememes separated by single tabs, without"),
        (b"a\nx\t y\n", 2, "expected sememes separated by single tabs, without"),
        (b"word,sememes\nbank,place money\n", 2, "expected sememes separated by single tabs"),
        (b"the bank\nis a place.\n", 2, "expected sememes separated by single tabs"),
        (b"<!DOCTYPE html>\n<html>\n", 1, "expected a word, a sense table or HowNet's records"),
        (b'{"bank": [["place"]]}\n', 1, "expected a word, a sense table or HowNet's records"),
        (b'"word","sememes"\n', 1, "expected a word, a sense table or HowNet's records"),
        (b"a\nx\nb\ny\xff\n", 4, "expected UTF-8, got byte 0xff"),
    ],
)
def test_a_malformed_line_is_named_by_path_and_number(lexicon_file, data, line, text):
    path = lexicon_file(data)
    with pytest.raises(InputError, match=re.escape(f"{path}:{line}: {text}")):
        read_lexicon(path)


@pytest.mark.parametrize("data", [RECORDS, RECORDS.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + RECORDS.rstrip(b"\n")])
def test_records_give_english_words_with_roles_pos_definition_and_number(lexicon_file, data):
    path = lexicon_file(data)
    first = Sense(("human", "cook"), ("", ""), "noun", COOK, "000000000001")  # the second "human" is the first one again
    last = Sense(("cook",), ("",), "verb", "{cook|烹调}RMK=as before", "000000000004")
    cream = Sense(("food", "cold"), ("", "modifier"), "", ICE, "000000000003")
    skipped = (f"{path}: records without an English word (W_E): 1",)  # and no word on its definition
    assert read_lexicon(path) == Lexicon({"cook": (first, last), "ice_cream": (cream,)}, skipped)


@pytest.mark.parametrize(
    ("record", "line", "text"),
    [
        ("W_E=a\nDEF={a|一\n", 7, "definition: expected ':' or '}', got the end at character 5"),
        ("W_E=a\nDEF=\n", 7, "definition: expected '{', got the end at character 1"),
        ("W_E=a\nDEF={~}\n", 7, "definition: expected at least 1 sememe, got none"),
        ("W_E=a\n", 5, "definition: expected '{', got the end at character 1"),
    ],
)
def test_a_record_without_a_definition_that_can_be_read_is_left_out_and_noted(lexicon_file, record, line, text):
    path = lexicon_file(f"NO.=1\nW_E=b\nDEF={ICE}\n\nNO.=2\n{record}".encode())
    lexicon = read_lexicon(path)
    assert list(lexicon.entries) == ["b"] and lexicon.skipped == (f"{path}:{line}: {text}",)


@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        ("W_C=x\nNO.=1\n", 1, "expected NO.= to open a record, got 'W_C=x'"),
        ("NO.=1\n\nW_E=x\n", 3, "expected NO.= to open a record, got 'W_E=x'"),
        ("NO.=1\nbroken\n", 2, "expected KEY=value or a blank line, got 'broken'"),
        ("NO.=1\n=x\n", 2, "expected KEY=value or a blank line, got '=x'"),
        ("NO.=1\nw e=x\n", 2, "expected KEY=value or a blank line, got 'w e=x'"),
        ("NO.=1\nW_E=a\nW_E=b\n", 3, "expected W_E= once in a record, got 'W_E=b'"),
    ],
)
def test_a_malformed_record_is_named_by_path_and_number(lexicon_file, data, line, text):
    path = lexicon_file(data.encode())
    with pytest.raises(InputError, match=re.escape(f"{path}:{line}: {text}")):
        read_lexicon(path)


def test_senses_of_a_table_go_by_part_of_speech_as_first_met_and_then_by_rank(lexicon_file):
    assert read_lexicon(lexicon_file(TABLE)) == Lexicon(SENSES)


def test_a_malformed_definition_in_a_table_costs_the_roles_but_not_the_sense(lexicon_file):
    path = lexicon_file(TABLE.replace(ICE.encode(), b"{food"))
    sense = Sense(("food", "cold"), (), "n", "", "wn:5n")
    skipped = (f"{path}:6: definition: expected ':' or '}}', got the end at character 6",)
    assert read_lexicon(path) == Lexicon({**SENSES, "ice_cream": (sense,)}, skipped)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("a\tn\t1\tw\tx|y", "expected 6 columns separated by tabs, got 5"),
        ("a\tn\t1\tw\tx|y\t\t", "expected 6 columns separated by tabs, got 7"),
        ("", "expected 6 columns separated by tabs, got 1"),
        (" \tn\t1\tw\tx|y\t", "expected a lemma, got an empty column"),
        ("a\tn\tone\tw\tx|y\t", "expected a whole number as sense_rank, got 'one'"),
        ("a\tn\t-1\tw\tx|y\t", "expected a whole number as sense_rank, got '-1'"),
        ("a\tn\t\u0663\tw\tx|y\t", "expected a whole number as sense_rank, got '\u0663'"),
        (f"a\tn\t{'1' * 5000}\tw\tx|y\t", f"expected a whole number as sense_rank, got '{'1' * 80}...'"),
        ("a\tn\t1\tw\t\t", "expected sememes en|zh separated by single spaces, got ''"),
        ("a\tn\t1\tw\tx|y  z|w\t", "expected sememes en|zh separated by single spaces, got 'x|y  z|w'"),
        ("a\tn\t1\tw\t|y\t", "expected sememes en|zh separated by single spaces, got '|y'"),
    ],
)
def test_a_malformed_row_is_named_by_path_and_number(lexicon_file, row, text):
    path = lexicon_file(TABLE + f"{row}\n".encode())
    with pytest.raises(InputError, match=re.escape(f"{path}:7: {text}")):
        read_lexicon(path)


@pytest.mark.parametrize("header", ["lemma\tpos", "lemma\tpos\tsense_rank\twn30\tkdml\tsememes"])
def test_a_table_with_other_columns_is_refused(lexicon_file, header):
    path = lexicon_file(f"{header}\na\tn\t1\tw\tx|y\t\n".encode())
    text = f"{path}:1: expected the columns lemma pos sense_rank wn30 sememes [kdml], got 'lemma pos"
    with pytest.raises(InputError, match=re.escape(text)):
        read_lexicon(path)


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", TABLE.splitlines()[0], b"NO.=1\n\nNO.=2\nW_E=a\n"])
def test_a_file_without_entries_is_no_lexicon(lexicon_file, data):
    path = lexicon_file(data)
    with pytest.raises(InputError, match=re.escape(f"{path}: expected at least 1 entry, got none")):
        read_lexicon(path)


def test_an_unreadable_file_is_named(tmp_path):
    for path in (tmp_path / "absent.txt", tmp_path):  # the second is a directory
        with pytest.raises(InputError, match=re.escape(f"{path}: expected a file that can be read, got ")):
            read_lexicon(path)
    with pytest.raises(InputError, match="expected a file that can be read, got embedded null"):
        load_lexicon("a\0b")


@pytest.mark.parametrize("data", [TEXT, RECORDS, TABLE])
def test_a_gzip_file_gives_the_entries_of_the_plain_one_whatever_its_name(lexicon_file, data):
    plain, packed = lexicon_file(data), lexicon_file(gzip.compress(data[:70]) + gzip.compress(data[70:]))
    assert read_lexicon(packed).entries == read_lexicon(plain).entries


MISHAPS = [b"{", b"}", b"\t", b"\0", b"\xff", b"=", b"\n", b"\r", b" ", b'"', b"|", b":~,;", b"\x1f\x8b", b"{" * 500,
           b"a" * 1_000_000, "厨师".encode("gb18030")]  # fmt: skip


def test_of_a_word_in_several_lexicons_the_union_has_the_entry_of_the_first():
    a = Lexicon({"Add": (Sense(("x",)),), "add": (Sense(("y",)),)}, ("left out of a",))
    b = Lexicon({"add": (Sense(("z",)), Sense(("w",))), "sum": (Sense(("v",)),)}, ("left out of b",))
    expected = Lexicon({**a.entries, "sum": b.entries["sum"]}, ("left out of a", "left out of b"))
    assert union([a, b]) == expected and list(union([a, b]).entries) == ["Add", "add", "sum"]
    assert union([b, a]).senses("add") == (("z",), ("w",)) and union(iter([])) == Lexicon({})


def test_load_lexicon_knows_the_two_names_and_takes_paths(lexicon_file, tmp_path, monkeypatch):
    for name in ("none", "sample"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)  # a name is a name, whatever is there
    assert len(load_lexicon("none")) == 0 and load_lexicon("none").senses("add") == ()
    assert load_lexicon("sample") == sample_lexicon() == load_lexicon(SAMPLE)
    assert len(load_lexicon(str(lexicon_file(b"a\nx\n")))) == 1


def test_names_joined_by_plus_are_a_union_in_their_order(lexicon_file):
    a, b = lexicon_file(b"add\nx\n"), lexicon_file(gzip.compress(b"add\ny\nxyzzy\nz\n"))
    lexicon = load_lexicon(f"{a}+{b}+sample")
    assert lexicon == union([read_lexicon(a), read_lexicon(b), sample_lexicon()])
    assert [lexicon.senses(word) for word in ("add", "xyzzy")] == [(("x",),), (("z",),)]
    assert load_lexicon(f"{b}+{a}").senses("add") == (("y",),)


@pytest.mark.parametrize("source", ["+", "sample+", "+sample", "sample++none"])
def test_nothing_beside_a_plus_is_refused(source):
    with pytest.raises(InputError, match=re.escape(f"lexicon: expected names joined by single +, got '{source}'")):
        load_lexicon(source)


def test_a_part_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'absent'}: expected a file that can be read, got ")):
        load_lexicon(f"sample+{tmp_path / 'absent'}")


def test_openhownet_is_a_name_for_its_own_folder_and_a_folder_is_read_by_it(tmp_path, monkeypatch):
    pytest.importorskip("OpenHowNet")
    folder = tmp_path / ".openhownet" / "resources"
    folder.mkdir(parents=True)
    record = {"No": "1", "en_word": "cook", "en_grammar": "verb", "ch_word": "煮", "ch_grammar": "verb", "Def": "{cook|烹调}"}
    (folder / "sememe_all").write_bytes(pickle.dumps({"cook|烹调": 1, "human|人": 1}))
    (folder / "HowNet_dict_complete").write_bytes(pickle.dumps({"1": record}))
    (folder / "sememe_triples_taxonomy.txt").write_text("cook|烹调 hypernym human|人\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = Lexicon({"cook": (Sense(("cook",), ("",), "verb", "{cook|烹调}", "1"),)})
    assert load_lexicon("openhownet") == load_lexicon(folder.parent) == load_lexicon(str(folder)) == expected
    assert load_lexicon("openhownet+sample").entries["cook"] == expected.entries["cook"]


@pytest.fixture(scope="module")
def real_table():
    return functools.cache(lambda name: read_lexicon(REAL / f"{name}_en_senses.tsv.gz"))


@needs_real
@pytest.mark.parametrize(("name", "words"), [("hownet_wn_en.txt", 58_865), ("babelsememe_en.txt", 29_553)])
def test_every_entry_of_the_full_english_lists_parses(name, words):
    path = REAL / name
    lexicon, lines = read_lexicon(path), path.read_text(encoding="utf-8").split("\n")
    assert len(lexicon) == words and lexicon.skipped == ()
    for word, sememes in zip(lines[0::2], lines[1::2]):
        assert lexicon.senses(word) == (tuple(sememes.split("\t")),)


@needs_real
@pytest.mark.parametrize(("name", "senses", "roles"), [("hownet_wn", 80_703, 80_444), ("babelsememe", 36_706, 0)])
def test_every_sense_of_the_real_tables_is_read_in_the_order_of_the_file(real_table, name, senses, roles):
    lexicon = real_table(name)
    text = io.StringIO(gzip.decompress((REAL / f"{name}_en_senses.tsv.gz").read_bytes()).decode(), newline="")
    rows = list(csv.DictReader(text, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) == senses and lexicon.skipped == () and list(lexicon.entries) == list({row["lemma"]: 0 for row in rows})
    read = [(word, s.pos, s.number, s.sememes, s.definition) for word, found in lexicon.entries.items() for s in found]
    names = [tuple(name.split("|")[0] for name in row["sememes"].split(" ")) for row in rows]
    assert read == [(row["lemma"], row["pos"], row["wn30"], n, row.get("kdml", "")) for row, n in zip(rows, names)]
    assert sum(sense.roles != () for found in lexicon.entries.values() for sense in found) == roles


