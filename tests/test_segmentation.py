"""Segmentations: files, the alignment of underlying forms against an exhaustive search, and scores by hand."""

import gzip
import itertools
import json
import random
import re
from functools import cache
from pathlib import Path

import pytest

from see_min import segmentation
from see_min.checks import DataError
from see_min.segmentation import boundaries, boundary_scores, read_segmentation

REAL = Path(__file__).parents[2] / "shared" / "data" / "morphology"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the segmentations are not at {REAL}")


@pytest.fixture
def write(tmp_path):
    def write(name, data):
        path = tmp_path / name
        data = data if isinstance(data, bytes) else data.encode() if isinstance(data, str) else json.dumps(data).encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


@cache
def edits(a, b):
    """Levenshtein's distance by its recursion."""
    if not a or not b:
        return len(a) + len(b)
    return min(edits(a[1:], b[1:]) + (a[0] != b[0]), edits(a[1:], b) + 1, edits(a, b[1:]) + 1)


def exhaustive(word, pieces):
    """All ways to cut `word` into len(pieces) parts, some perhaps empty; the best by the rule in words."""

    def rank(cuts):
        ends = (0, *cuts, len(word))
        costs = [edits(piece, word[a:b]) for piece, a, b in zip(pieces, ends, ends[1:])]
        return sum(costs), [(costs[i], ends[i]) for i in range(len(pieces) - 1, 0, -1)]

    best = min(itertools.combinations_with_replacement(range(len(word) + 1), len(pieces) - 1), key=rank)
    return set(best) - {0, len(word)}


def test_boundaries_are_those_of_an_exhaustive_search():
    rng = random.Random(0)
    for _ in range(600):
        word = "".join(rng.choices("abc", k=rng.randrange(7)))
        pieces = tuple("".join(rng.choices("abc", k=rng.randrange(1, 4))) for _ in range(rng.randrange(1, 4)))
        assert boundaries(word, pieces) == exhaustive(word, pieces), (word, pieces)


def test_pieces_that_spell_the_word_are_cut_where_they_end():
    rng = random.Random(1)
    for _ in range(300):
        word = "".join(rng.choices("ab", k=rng.randrange(1, 9)))  # two letters, so that other alignments come close
        cuts = sorted(rng.sample(range(1, len(word)), rng.randrange(len(word))))
        pieces = tuple(word[a:b] for a, b in zip([0, *cuts], [*cuts, len(word)]))
        assert boundaries(word, pieces) == set(cuts) == exhaustive(word, pieces)


@pytest.mark.parametrize(
    ("cut", "pieces"),
    [
        ("play|s", "play s"),
        ("mak|ing", "make ing"),
        ("bak|ed", "bake ed"),
        ("stopp|ed", "stop ed"),
        ("bodi|ly", "body ly"),
        ("subsid|is|ed", "subside y ise ed"),  # nothing is left of y
        ("sub|neur|al", "sub neuron al"),
        ("mouth |harp|ist", "mouth harp ist"),
        ("word", "word"),
    ],
)
def test_underlying_forms_are_cut_as_a_reader_would(cut, pieces):
    parts = cut.split("|")
    assert boundaries("".join(parts), pieces.split()) == set(itertools.accumulate(map(len, parts[:-1])))


def test_a_word_without_pieces_has_no_boundary():
    assert boundaries("x1", ()) == boundaries("", ()) == boundaries("", ("a", "b")) == set()


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "a.txt"])
def test_columns_are_read_plain_and_compressed(write, name):
    text = "\ufeffbaking\tbake @@ing\t100\r\nmouth harpist\tmouth harp @@ist\nx\tx"
    expected = {"baking": ("bake", "ing"), "mouth harpist": ("mouth", "harp", "ist"), "x": ("x",)}
    assert read_segmentation(write(name, text)) == expected


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_json_texts_are_split_and_lists_stay_as_they_are(write, name):
    data = {"baking": "bake @@ing", "plays": ["play", "s"], "arab@@": ["arab", "@@"]}
    expected = {"baking": ("bake", "ing"), "plays": ("play", "s"), "arab@@": ("arab", "@@")}
    assert read_segmentation(write(name, data)) == expected
    assert read_segmentation(write(name, {"units": ["a"], "one": {"b": "b"}, "two": data}), key="two") == expected


@pytest.mark.parametrize("key", [None, "three", "units"])
def test_a_key_that_names_no_segmentation_is_answered_with_those_that_do(write, key):
    path = write("a.json", {"units": ["a"], "one": {"b": "b"}, "two": {}})
    with pytest.raises(DataError, match=re.escape(f"key: expected one of one, two in {path}, got {key!r}")):
        read_segmentation(path, key)


def test_a_key_for_a_file_without_several_objects_is_an_error(write):
    with pytest.raises(DataError, match="^key: expected one of none in .*, got 'two'$"):
        read_segmentation(write("a.json", {"b": "b"}), "two")


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("a.tsv", "", ": expected at least 1 word, got none"),
        ("a.tsv", "a\ta\n\nb\tb\n", ":2: expected 2 or 3 columns, got 1"),
        ("a.tsv", "a\ta\t1\t2\n", ":1: expected 2 or 3 columns, got 4"),
        ("a.tsv", "a\ta\n \tb\n", ":2: expected a word, each once, got ' '"),
        ("a.tsv", "a\ta\nb\tb\na\tc\n", ":3: expected a word, each once, got 'a'"),
        ("a.tsv", "a\ta\nb\t \n", ":2: expected morphemes, none of them empty, got ' '"),
        ("a.tsv", "a\ta @@\n", ":1: expected morphemes, none of them empty, got 'a @@'"),
        ("a.tsv", b"a\ta\nb\t\xff\n", ":2: expected UTF-8, got byte 0xff"),
        ("a.json", {}, ": expected at least 1 word, got none"),
        ("a.json", [1], ": expected an object of word -> morphemes, got list"),
        ("a.json", '{"a": "a",\n"b": }', ":2: expected JSON, got an error: Expecting value"),
        ("a.json", '{"a": "a", "a": "b"}', ": expected every key once, got 'a' again"),
        ("a.json", {"a": []}, ": 'a': expected morphemes, none of them empty, got []"),
        ("a.json", {"a": ["b", ""]}, ": 'a': expected morphemes, none of them empty, got ['b', '']"),
        ("a.json", {"a": 7}, ": 'a': expected morphemes, none of them empty, got 7"),
    ],
)
def test_a_bad_segmentation_is_an_error_with_its_place(write, name, data, text):
    path = write(name, data)
    with pytest.raises(DataError, match="^" + re.escape(f"{path}{text}")):
        read_segmentation(path)


@pytest.mark.parametrize("cut", [3, 12, 20, -9, -1])
def test_a_truncated_gzip_is_an_error(write, cut):
    path = write("a.tsv.gz", "play\tplay\n" * 5)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="expected a file that can be read, got"):
        read_segmentation(path)


def test_a_small_file_cannot_unpack_without_bound(write, monkeypatch):
    monkeypatch.setattr(segmentation, "MOST_BYTES", 100)
    assert read_segmentation(write("a.tsv.gz", "a\t" + "b" * 98)) == {"a": ("b" * 98,)}
    with pytest.raises(DataError, match="expected at most 100 bytes, got more$"):
        read_segmentation(write("a.tsv.gz", "a\t" + "b" * 99))


def test_a_missing_file_is_an_error(tmp_path):
    for path in (tmp_path / "a.tsv", tmp_path, f"{tmp_path}/a\0b"):
        with pytest.raises(DataError, match="expected a file that can be read, got"):
            read_segmentation(path)


def test_scores_are_those_counted_by_hand():
    gold = {"plays": ("play", "s"), "players": ("play", "er", "s"), "sing": ("sing",), "only": ("only",)}
    predicted = {"plays": ("play", "s"), "players": ("player", "s"), "sing": ("s", "ing"), "more": ("mo", "re")}
    scores = boundary_scores(predicted, gold)  # hits: 4 of plays, 6 of players; claimed 3, true 3
    assert scores == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "words": 3, "exact": 1 / 3}, rel=1e-12)


def test_scores_of_no_cuts_are_one_and_swapping_the_sides_swaps_precision_and_recall():
    whole, cut = {"sing": ("sing",)}, {"sing": ("s", "ing")}
    assert boundary_scores(whole, whole) == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "words": 1, "exact": 1.0}
    assert boundary_scores(whole, cut) == {"precision": 1.0, "recall": 0.0, "f1": 0.0, "words": 1, "exact": 0.0}
    assert boundary_scores(cut, whole) == {"precision": 0.0, "recall": 1.0, "f1": 0.0, "words": 1, "exact": 0.0}


def test_segmentations_without_a_common_word_cannot_be_scored():
    with pytest.raises(DataError, match="^predicted: expected at least 1 word of gold, got none$"):
        boundary_scores({"a": ("a",)}, {"b": ("b",)})


@needs_real
def test_an_annotated_lexicon_is_read_whole():
    path = REAL / "eng.word.dev.tsv.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    gold = read_segmentation(path)
    assert len(gold) == len(lines) and gold["monomethylases"] == ("mono", "methyl", "ase", "s")
    some = {line.split("\t")[0]: gold[line.split("\t")[0]] for line in lines[::300]}
    assert boundary_scores(some, gold)["exact"] == 1
    for word, pieces in some.items():
        assert len(boundaries(word, pieces)) < len(pieces)


@needs_real
def test_the_segmentations_of_morphte_spell_their_words():
    path = REAL / "iwslt14deen_bpe10000_morSeg_results.json"
    sizes = {key: len(read_segmentation(path, key)) for key in ("word2mor_src", "word2mor_tgt")}
    assert sizes == {key: len(json.loads(path.read_text())[key]) for key in sizes}
    assert all("".join(pieces) == word for word, pieces in read_segmentation(path, "word2mor_src").items())
