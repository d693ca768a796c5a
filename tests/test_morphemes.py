"""Splitting words into morphemes: what the pieces are, determinism, silence, and the cache."""

import importlib.util
import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from see_min.errors import InputError
from see_min.words.formats import sample_lexicon
from see_min.words.morphemes import LONGEST, read_segmentation, segment

STEMS = ("play", "work", "talk", "jump", "call")
WORDS = [stem + ending for stem in STEMS for ending in ("", "s", "ed", "ing")]
MANY = list(sample_lexicon().entries)[::8]  # irregular enough that the order of training shows in the result
ROOT = Path(__file__).parents[1]
CODE = "import json, sys; from see_min.words.morphemes import segment; print(json.dumps(segment(json.loads(sys.argv[1]), seed=3)))"
needs_morfessor = pytest.mark.skipif(
    importlib.util.find_spec("morfessor") is None, reason="morfessor is not installed"
)


def segment_elsewhere(words, hash_seed):
    command = [sys.executable, "-c", CODE, json.dumps(words)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    return [tuple(pieces) for pieces in json.loads(run.stdout)]


@needs_morfessor
def test_pieces_put_together_are_the_word():
    assert ["".join(pieces) for pieces in segment(WORDS)] == WORDS


@needs_morfessor
def test_words_that_are_not_all_letters_have_no_morphemes():
    odd = ["x1", "don't", "<unk>", "", "new_york", "3"]
    assert segment([*odd, *WORDS])[: len(odd)] == [()] * len(odd)
    assert segment(odd) == [()] * len(odd) and segment([]) == []


@needs_morfessor
def test_segmentation_depends_neither_on_word_order_nor_on_repeats():
    expected = dict(zip(MANY, segment(MANY)))
    for seed in range(4):
        mixed = random.Random(seed).sample(MANY, len(MANY)) + MANY[:5]
        assert segment(mixed) == [expected[word] for word in mixed]


@needs_morfessor
def test_segmentation_does_not_depend_on_pythonhashseed():
    here = segment(MANY, seed=3)
    assert segment_elsewhere(MANY, "1") == segment_elsewhere(MANY, "2") == here


@needs_morfessor
def test_only_the_seed_given_decides_the_order_of_training():
    results = []
    for state in range(4):
        random.seed(state)
        results.append(segment(MANY))
    assert results == [results[0]] * 4
    assert any(segment(MANY, seed=seed) != results[0] for seed in range(1, 4))  # so that the equality above says something


@needs_morfessor
def test_training_is_silent(capfd, caplog):
    with caplog.at_level(logging.DEBUG):
        segment(WORDS)
    assert capfd.readouterr() == ("", "") and caplog.records == []


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "morfessor", None)  # makes the import fail
    with pytest.raises(InputError, match="^morfessor: expected the package, got none: pip install morfessor$"):
        segment(WORDS)


@needs_morfessor
def test_a_cache_that_fits_is_read_instead_of_training(tmp_path):
    cache = tmp_path / "pieces.json"
    segment(WORDS, cache=cache)
    stored = json.loads(cache.read_text())
    stored["pieces"]["played"] = ["p", "layed"]  # what no training gives, so it can only come from the file
    cache.write_text(json.dumps(stored))
    assert segment(WORDS, cache=cache)[WORDS.index("played")] == ("p", "layed")
    assert list(tmp_path.iterdir()) == [cache]  # no temporary file stays


@needs_morfessor
@pytest.mark.parametrize("change", ["seed", "words"])
def test_a_cache_for_another_question_is_rewritten(tmp_path, change):
    cache = tmp_path / "pieces.json"
    segment(WORDS, cache=cache)
    before = cache.read_text()
    words, seed = (WORDS, 1) if change == "seed" else (WORDS[:-1], 0)
    assert segment(words, seed=seed, cache=cache) == segment(words, seed=seed)
    assert cache.read_text() != before


def damaged(text):
    stored = json.loads(text)
    yield text[: len(text) // 2].encode()  # cut off
    yield b"\xff\0"
    yield b""
    yield b"[]"
    yield b"[" * 100_000
    yield json.dumps({"fingerprint": stored["fingerprint"]}).encode()
    yield json.dumps({**stored, "pieces": {}}).encode()
    yield json.dumps({**stored, "pieces": 7}).encode()
    for wrong in ("played", ["play"], ["", "played"], [1, "played"], None):
        yield json.dumps({**stored, "pieces": {**stored["pieces"], "played": wrong}}).encode()


@needs_morfessor
def test_a_damaged_cache_is_ignored_and_rewritten(tmp_path):
    cache = tmp_path / "pieces.json"
    expected = segment(WORDS, cache=cache)
    good = cache.read_bytes()
    for data in damaged(good.decode()):
        cache.write_bytes(data)
        assert segment(WORDS, cache=cache) == expected, data[:60]
        assert cache.read_bytes() == good, data[:60]


@needs_morfessor
def test_a_cache_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(InputError, match="expected the name of a file, got the directory"):
        segment(WORDS, cache=tmp_path)


@needs_morfessor
def test_a_word_that_is_too_long_stays_uncut():
    longest, line = "abcd" * (LONGEST // 4), "play" * 75_000  # the second would take hours to cut
    pieces = segment([*WORDS, longest, line])
    assert pieces[-1] == (line,) and "".join(pieces[-2]) == longest and pieces[:-2] == segment(WORDS + [longest])[:-1]


def write(path, data):
    path.write_bytes((data if isinstance(data, str) else json.dumps(data)).encode())
    return path


def test_a_segmentation_is_read_from_columns_and_from_json(tmp_path):
    text = "\ufeffbaking\tbake @@ing\t100\r\nmouth harpist\tmouth harp @@ist\nx\tx"
    expected = {"baking": ("bake", "ing"), "mouth harpist": ("mouth", "harp", "ist"), "x": ("x",)}
    assert read_segmentation(write(tmp_path / "a.tsv", text)) == expected
    data = {"baking": "bake @@ing", "mouth harpist": ["mouth", "harp", "ist"], "x": "x"}
    assert read_segmentation(write(tmp_path / "a.json", data)) == expected
    several = write(tmp_path / "b.json", {"units": ["a"], "one": {"b": "b"}, "two": data})
    assert read_segmentation(several, key="two") == expected


@pytest.mark.parametrize("name, data, text", [
    ("a.tsv", "", "{}: expected at least 1 word, got none"),
    ("a.tsv", "a\ta\n\nb\tb\n", "{}:2: expected 2 or 3 columns, got 1"),
    ("a.tsv", "a\ta\nb\tb\na\tc\n", "{}:3: expected a word, each once, got 'a'"),
    ("a.tsv", "a\ta @@\n", "{}:1: expected morphemes, none of them empty, got 'a @@'"),
    ("a.json", [1], "{}: expected an object of word -> morphemes, got list"),
    ("a.json", {"a": ["b", ""]}, "{}: 'a': expected morphemes, none of them empty, got ['b', '']"),
    ("a.json", {"one": {"b": "b"}, "two": {}}, "key: expected one of one, two in {}, got None"),
])
def test_a_bad_segmentation_is_an_error_with_its_place(tmp_path, name, data, text):
    path = write(tmp_path / name, data)
    with pytest.raises(InputError) as error:
        read_segmentation(path)
    assert str(error.value) == text.format(path)
