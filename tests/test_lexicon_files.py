"""Lexicon files: the three formats, plain and gzip, what each refuses, and the names by which a lexicon is asked for."""

import csv
import functools
import gzip
import io
import itertools
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from see_min import lexicon_files
from see_min.checks import DataError
from see_min.kdml import parse_definition
from see_min.lexicon import Lexicon, Sense
from see_min.lexicon_files import LONGEST_LINE, SAMPLE, load_lexicon, read_lexicon, sample_lexicon, union

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


# --- the two-line text format ----------------------------------------------------------------------------------------


def test_read_lexicon_keeps_the_order_of_sememes_and_senses(lexicon_file):
    entries = {"bank": [("place", "money"), ("land", "water", "edge")], "New_York": [("city",)]}
    assert read_lexicon(lexicon_file(TEXT)) == Lexicon.of(entries)


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
        (b"\n", 1, "expected a word, got an empty line"),
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


# --- HowNet's records ------------------------------------------------------------------------------------------------


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


def test_names_in_definitions_have_underscores_for_spaces(lexicon_file):
    path = lexicon_file('NO.=1\nW_E=llama\nDEF={livestock|牲畜:belong="South America|南美"}\n'.encode())
    assert read_lexicon(path).entries["llama"][0].sememes == ("livestock", "South_America")


@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        ("W_C=x\nNO.=1\n", 1, "expected NO.= to open a record, got 'W_C=x'"),
        ("NO.=1\n\nW_E=x\n", 3, "expected NO.= to open a record, got 'W_E=x'"),
        ("NO.=1\nbroken\n", 2, "expected KEY=value or a blank line, got 'broken'"),
        ("NO.=1\n=x\n", 2, "expected KEY=value or a blank line, got '=x'"),
        ("NO.=1\nw e=x\n", 2, "expected KEY=value or a blank line, got 'w e=x'"),
        ("NO.=1\nW_E=a\nW_E=b\n", 3, "expected W_E= once in a record, got it again"),
    ],
)
def test_a_malformed_record_is_named_by_path_and_number(lexicon_file, data, line, text):
    path = lexicon_file(data.encode())
    with pytest.raises(DataError, match=re.escape(f"{path}:{line}: {text}")):
        read_lexicon(path)


def test_records_in_gb18030_are_refused_with_the_command_that_converts_them(lexicon_file):
    path = lexicon_file(RECORDS.decode().encode("gb18030"))
    found = f"byte 0x{'厨'.encode('gb18030')[0]:02x}; if it is in GB18030: iconv -f GB18030 -t UTF-8"
    with pytest.raises(DataError, match=re.escape(f"{path}:2: expected UTF-8, got {found}")):
        read_lexicon(path)


# --- sense tables ----------------------------------------------------------------------------------------------------


def test_senses_of_a_table_go_by_part_of_speech_as_first_met_and_then_by_rank(lexicon_file):
    assert read_lexicon(lexicon_file(TABLE)) == Lexicon(SENSES)


def test_a_table_without_definitions_has_the_same_sememes_and_no_roles(lexicon_file):
    data = b"".join(line.rpartition(b"\t")[0] + b"\n" for line in TABLE.splitlines())
    bare = {word: tuple(Sense(s.sememes, (), s.pos, "", s.number) for s in senses) for word, senses in SENSES.items()}
    assert read_lexicon(lexicon_file(data)) == Lexicon(bare)


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
    with pytest.raises(DataError, match=re.escape(f"{path}:7: {text}")):
        read_lexicon(path)


@pytest.mark.parametrize("header", ["lemma\tpos", "lemma\tpos\tsense_rank\twn30\tkdml\tsememes"])
def test_a_table_with_other_columns_is_refused(lexicon_file, header):
    path = lexicon_file(f"{header}\na\tn\t1\tw\tx|y\t\n".encode())
    text = f"{path}:1: expected the columns lemma pos sense_rank wn30 sememes [kdml], got 'lemma pos"
    with pytest.raises(DataError, match=re.escape(text)):
        read_lexicon(path)


# --- any format ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", TABLE.splitlines()[0], b"NO.=1\n\nNO.=2\nW_E=a\n"])
def test_a_file_without_entries_is_no_lexicon(lexicon_file, data):
    path = lexicon_file(data)
    with pytest.raises(DataError, match=re.escape(f"{path}: expected at least 1 entry, got none")):
        read_lexicon(path)


def test_an_unreadable_file_is_named(tmp_path):
    for path in (tmp_path / "absent.txt", tmp_path):  # the second is a directory
        with pytest.raises(DataError, match=re.escape(f"{path}: expected a lexicon file, got ")):
            read_lexicon(path)
    with pytest.raises(DataError, match="expected a lexicon file, got embedded null"):
        load_lexicon("a\0b")


@pytest.mark.parametrize("data", [TEXT, RECORDS, TABLE])
def test_a_gzip_file_gives_the_entries_of_the_plain_one_whatever_its_name(lexicon_file, data):
    plain, packed = lexicon_file(data), lexicon_file(gzip.compress(data[:70]) + gzip.compress(data[70:]))
    assert read_lexicon(packed).entries == read_lexicon(plain).entries


@pytest.mark.parametrize("data", [TEXT, RECORDS, TABLE])
def test_a_gzip_file_cut_off_at_any_byte_is_refused_by_its_path(lexicon_file, tmp_path, data):
    path, packed = tmp_path / "a.gz", gzip.compress(data)
    for size in range(2, len(packed)):
        path.write_bytes(packed[:size])
        with pytest.raises(DataError, match=re.escape(f"{path}: expected a whole gzip file, got ")):
            read_lexicon(path)


@pytest.mark.parametrize("place", [2, 20, 60, -6, -1])
def test_a_damaged_gzip_file_is_refused_by_its_path(lexicon_file, place):
    packed = bytearray(gzip.compress(TABLE, mtime=0))
    packed[place] ^= 0xE0
    path = lexicon_file(packed)
    with pytest.raises(DataError, match=re.escape(str(path))):
        read_lexicon(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_line_may_be_as_long_as_the_bound_and_not_a_byte_longer(lexicon_file, pack):
    for mark, end in itertools.product((b"", b"\xef\xbb\xbf"), (b"\n", b"\r\n")):
        longest = b"y" * LONGEST_LINE
        assert read_lexicon(lexicon_file(pack(mark + longest + end + longest + end))).entries.keys() == {longest.decode()}
        path = lexicon_file(pack(mark + b"x" + end + longest + b"y" + end))
        with pytest.raises(DataError, match=re.escape(f"{path}:2: expected a line of at most {LONGEST_LINE} bytes, got more")):
            read_lexicon(path)


def test_a_text_that_unpacks_to_more_than_the_bound_is_refused_before_it_is_unpacked(lexicon_file, monkeypatch):
    monkeypatch.setattr(lexicon_files, "LONGEST_TEXT", 10_000)
    assert len(read_lexicon(lexicon_file(gzip.compress(b"a\nb\n" * 2_500)))) == 1
    path = lexicon_file(gzip.compress(b"a\nb\n" * 2_501))
    with pytest.raises(DataError, match=re.escape(f"{path}: expected at most 10000 bytes of text, got more")):
        read_lexicon(path)
    member = gzip.compress(b"a\nb\n" * 2_500)
    path = lexicon_file(member + b"no gzip")  # never reached: the bound stands before it
    monkeypatch.setattr(lexicon_files, "LONGEST_TEXT", 9_999)
    with pytest.raises(DataError, match=re.escape(f"{path}: expected at most 9999 bytes of text, got more")):
        read_lexicon(path)


def test_zeros_that_unpack_to_a_gigabyte_are_refused_as_one_line(lexicon_file):
    path = lexicon_file(gzip.compress(bytes(2**20)) * 2**10)
    with pytest.raises(DataError, match=re.escape(f"{path}:1: expected a line of at most {LONGEST_LINE} bytes, got more")):
        read_lexicon(path)


MISHAPS = [b"{", b"}", b"\t", b"\0", b"\xff", b"=", b"\n", b"\r", b" ", b'"', b"|", b":~,;", b"\x1f\x8b", b"{" * 500,
           b"a" * 1_000_000, "厨师".encode("gb18030")]  # fmt: skip


def damaged(data, rng):
    """`data` with one to three random mishaps."""
    for _ in range(rng.integers(1, 4)):
        at, lines = int(rng.integers(len(data) + 1)), data.split(b"\n")
        i, j = (int(k) for k in rng.integers(len(lines), size=2))
        kind = int(rng.integers(8))
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data = data[:at] + data[at + int(rng.integers(1, 30)) :]
        elif kind == 2:
            lines[i], lines[j] = lines[j], lines[i]
            data = b"\n".join(lines)
        elif kind == 3:
            data = b"\n".join((*lines[:i], *lines[i + 1 :]))
        elif kind == 4:
            lines[i] = lines[i][: int(rng.integers(len(lines[i]) + 1))]
            data = b"\n".join(lines)
        else:
            data = data[:at] + MISHAPS[int(rng.integers(len(MISHAPS)))] + data[at:]
    return data


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("data", [TEXT, RECORDS, TABLE])
def test_a_damaged_file_gives_a_lexicon_or_a_data_error_with_its_path(tmp_path, data, pack):
    path, read, refused = tmp_path / "lexicon.txt", 0, 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        text = damaged(data, rng)
        path.write_bytes(pack(text) if pack is bytes or seed % 2 else damaged(pack(data), rng))
        try:
            lexicon = read_lexicon(path)
        except DataError as error:
            assert str(error).startswith(f"{path}:") and len(str(error)) < 1000
            refused += 1
        else:
            senses = [sense for found in lexicon.entries.values() for sense in found]
            assert senses and all(sense.sememes and len(sense.roles) in (0, len(sense.sememes)) for sense in senses)
            assert all(text.startswith(f"{path}:") for text in lexicon.skipped)
            read += 1
    assert read and refused  # the damage is neither always fatal nor always harmless


@pytest.mark.parametrize(
    "data",
    [
        b"a\nx\n" * 250_000,  # one word of many senses
        b"NO.=1\nW_E=a\n" * 80_000 + f"NO.=1\nW_E=a\nDEF={ICE}".encode(),
        TABLE + b"".join(b"a\t%d\t1\tw\tx|y\t{\n" % i for i in range(50_000)),  # as many parts of speech, none defined
        f"NO.=1\nW_E=a\nDEF={ICE}".encode() + b"\n" * 1_000_000,
    ],
)
def test_a_megabyte_of_one_word_is_read_whole(lexicon_file, data):
    path = lexicon_file(data)
    lexicon = read_lexicon(path)
    assert sum(map(len, lexicon.entries.values())) + len(lexicon.skipped) >= 1
    assert len(lexicon.entries.get("a", ())) == (250_000 if data.startswith(b"a") else 50_000 if data.startswith(b"lemma") else 1)


# --- union and names -------------------------------------------------------------------------------------------------


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


def test_a_path_with_a_plus_that_exists_is_a_path(tmp_path):
    (tmp_path / "c++").mkdir()
    odd, plain = tmp_path / "c++" / "a+b.txt", tmp_path / "a"
    odd.write_bytes(b"add\nx\n")
    plain.write_bytes(b"add\ny\nsum\nz\n")
    assert load_lexicon(odd) == load_lexicon(str(odd)) == read_lexicon(odd)
    assert load_lexicon(f"{odd}+{plain}") == union([read_lexicon(odd), read_lexicon(plain)])
    assert load_lexicon(f"{plain}+{odd}") == union([read_lexicon(plain), read_lexicon(odd)])


@pytest.mark.parametrize("source", ["+", "sample+", "+sample", "sample++none"])
def test_nothing_beside_a_plus_is_refused(source):
    with pytest.raises(DataError, match=re.escape(f"lexicon: expected names joined by single +, got '{source}'")):
        load_lexicon(source)


def test_a_part_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'absent'}: expected a lexicon file, got ")):
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


# --- the real files --------------------------------------------------------------------------------------------------


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


@needs_real
def test_the_roles_of_the_real_table_are_those_of_the_definition(real_table):
    lexicon = real_table("hownet_wn")
    first = lexicon.meanings("power")[0]
    assert (first.sememes, first.roles) == (("Power", "politics", "AnimalHuman", "group"), ("", "domain", "host", "host"))
    assert [sense.number for sense in lexicon.meanings("bank")] == [
        "wn:09213565n", "wn:08420278n", "wn:02787772n", "wn:02310855v", "wn:01234793v", "wn:00688377v"]  # fmt: skip
    known = [sense for found in lexicon.entries.values() for sense in found if sense.roles]
    assert {sense.roles[0] for sense in known} == {""}
    assert all(parse_definition(sense.definition)[0].english == sense.sememes[0] for sense in known[::50])
