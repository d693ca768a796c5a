"""Matrices and tokens from files: round trips, memory maps, damaged files, bad requests."""

import os

import numpy as np
import pytest
from tiny import D, V, tokenizer, transformer

from see_min.errors import InputError
from see_min.experiments.sources import (
    coverage_line,
    find_source,
    load_matrix,
    named_benchmarks,
)
from see_min.words.lexicon import Lexicon

E = np.random.default_rng(0).standard_normal((7, 3))


def save(path, array, **others):
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        numpy = pytest.importorskip("safetensors.numpy")
        little = array.astype(array.dtype.newbyteorder("<"))
        numpy.save_file({"word_Embedding": little, **others}, path)


every_ending = pytest.mark.parametrize("ending", ["npy", "safetensors"])


@pytest.mark.parametrize("kind, expected", [("<f2", "f4"), (">f4", "f4"), ("<f8", "f8")])
@every_ending
def test_files_come_back_in_single_or_double_precision(tmp_path, kind, expected, ending):
    path, array = tmp_path / f"e.{ending}", E.astype(kind)
    save(path, array)
    loaded = load_matrix(path)
    assert loaded.dtype == np.dtype(expected) and loaded.dtype.isnative
    np.testing.assert_array_equal(loaded, array)
    assert isinstance(loaded, np.memmap) == (ending == "npy" and kind == "<f8")  # stays in the file


def test_bfloat16_is_widened_exactly(tmp_path):
    torch, files = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    half, path = torch.tensor(E).bfloat16(), tmp_path / "model.safetensors"
    files.save_file({"wte.embed": half}, path)
    np.testing.assert_array_equal(load_matrix(path), half.float().numpy())


def test_the_largest_matrix_named_embed_is_taken_in_safetensors(tmp_path):
    others = {"head": np.zeros((20, 20)), "position_embed": E[:2], "embed_bias": np.zeros(99)}
    save(tmp_path / "e.safetensors", E, **others)
    np.testing.assert_array_equal(load_matrix(tmp_path / "e.safetensors"), E)


def test_pickled_objects_are_never_loaded(tmp_path):
    class Mark:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.save(tmp_path / "e.npy", np.array([[Mark()]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="e.npy: expected a whole file of arrays, got"):
        load_matrix(tmp_path / "e.npy")
    assert not (tmp_path / "ran").exists()


@every_ending
def test_a_file_cut_anywhere_is_refused_by_name(tmp_path, ending):
    path = tmp_path / f"e.{ending}"
    save(path, E)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 17):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=rf"e.{ending}: expected a whole file of arrays, got "):
            load_matrix(path)


@pytest.mark.parametrize("array, text", [
    (np.arange(6).reshape(2, 3), "expected floats of at most 64 bits, got int64"),
    (np.zeros(3), r"expected rows and columns, got shape \(3,\)"),
    (np.zeros((0, 3)), r"expected rows and columns, got shape \(0, 3\)"),
    (np.array([[1.0], [np.nan]]), "expected finite numbers, got NaN or infinity in row 1"),
])
def test_what_is_no_matrix_of_finite_floats_is_refused(tmp_path, array, text):
    np.save(tmp_path / "e.npy", array)
    with pytest.raises(InputError, match=text):
        load_matrix(tmp_path / "e.npy")
    with pytest.raises(InputError, match="e.txt: expected one of .npy, .safetensors, got .txt"):
        load_matrix(tmp_path / "e.txt")


def a_source(tmp_path, vocabulary="the\ncat\nsat\na\nb\nc\nd\n"):
    np.save(tmp_path / "e.npy", E)
    (tmp_path / "vocab.txt").write_text(vocabulary)
    return tmp_path / "e.npy"


def test_a_matrix_has_the_vocabulary_beside_it_and_rows_keep_their_order(tmp_path):
    source = find_source(a_source(tmp_path))
    np.testing.assert_array_equal(source.matrix, E)
    (tmp_path / "t.txt").write_text("cat sat cat\n")
    vocabulary = source.vocabulary("none", tmp_path / "t.txt")
    assert vocabulary.names == source.words == ["the", "cat", "sat", "a", "b", "c", "d"]
    assert vocabulary.counts[1] > vocabulary.counts[2] > vocabulary.counts[3]
    (tmp_path / "t.tsv").write_text("sat\t7\ncat\t1\n")
    counts = source.vocabulary("none", tmp_path / "t.tsv").counts
    assert counts.argmax() == 2


@pytest.mark.parametrize("given, text", [
    ({"matrix": "e.npy", "model": "x"}, "expected either --matrix FILE or --model .*, got both"),
    ({}, "expected either --matrix FILE or --model .*, got neither"),
    ({"vocabulary": "x", "model": "x"}, "vocabulary: expected --matrix with it, got a model"),
    ({"matrix": "e.npy"}, "vocabulary: expected 7 tokens, one per row of .*, got 2"),
])
def test_requests_that_contradict_each_other_are_refused(tmp_path, monkeypatch, given, text):
    a_source(tmp_path, "the\ncat\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=text):
        find_source(**given)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder of a BERT, two of whose rows are without a token."""
    folder = tmp_path_factory.mktemp("bert")
    transformer("BertModel", vocab_size=V + 2).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def test_a_model_gives_its_matrix_and_names_rows_without_a_token(bert):
    source = find_source(model=bert)
    assert source.matrix.shape == (V + 2, D)
    assert source.words[4:6] + source.words[-2:] == ["[MASK]", "bad", "[ROW300]", "[ROW301]"]


def test_sentence_scores_are_those_of_the_model_with_the_matrix(bert):
    pairs = [("bad bado", "bado", 5.0), ("ben", "bad ben bado", 1.0), ("bado ben", "bad", 2.5)]
    source = find_source(model=bert)
    own = source.sts(pairs, source.matrix)
    orders = (np.random.default_rng(i).permutation(source.matrix) for i in range(9))
    assert len({source.sts(pairs, matrix) for matrix in orders}) > 1  # the matrix has an effect
    assert source.sts(pairs, source.matrix) == own


def test_tokens_are_counted_with_the_special_ones(bert, tmp_path):
    (tmp_path / "t.txt").write_text("bad bado\n\nbado\n")
    counts = find_source(model=bert).count_tokens(tmp_path / "t.txt")
    assert counts[:8].tolist() == [0, 0, 2, 2, 0, 1, 2, 0] and counts.sum() == 7


def test_benchmarks_are_named_by_their_files_and_coverage_by_types_and_tokens(tmp_path):
    (tmp_path / "a.txt").write_text("car\tauto\t9\n")
    assert named_benchmarks([tmp_path / "a.txt"]) == {"a": [("car", "auto", 9.0)]}
    with pytest.raises(InputError, match="similarity: expected files of different names, got a tw"):
        named_benchmarks([tmp_path / "a.txt", tmp_path / "a.txt"])
    lexicon = Lexicon.of({"the": [("x",)]})
    vocabulary = find_source(a_source(tmp_path)).vocabulary(lexicon)
    assert coverage_line(lexicon, vocabulary).startswith("the lexicon covers 14% of the 7 tokens")
