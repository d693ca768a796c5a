"""Compressed models in transformers' own ways: folders, training, adapters, devices; refusals."""

import copy
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import SPECIAL, WORDS, D, V, tokenizer, transformer
from torch import nn

from see_min.bridge import SememeEmbedding, TiedHead, compress, round_parameters, to_dense
from see_min.errors import InputError
from see_min.experiments.hf_models import load_model, save_model

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
GPT, BERT, T5 = "GPT2LMHeadModel", "BertForMaskedLM", "T5ForConditionalGeneration"
IDS = torch.arange(3, 19).reshape(2, 8)
WEIGHTS = "model.safetensors"


def compressed(kind=GPT, dtype=torch.float32, weights=None, **changes):
    model = transformer(kind, **changes).to(dtype)
    nn.init.normal_(model.get_input_embeddings().weight)  # of the padding, too
    how = {"ratio": 4, "lexicon": "none", "sweeps": 1, "weights": weights}
    compress(model, tokenizer().get_vocab(), **how)
    return model


def outputs(model, ids=IDS):
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, **more)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a small GPT; tests copy it before they spoil it."""
    path = tmp_path_factory.mktemp("folders") / "gpt"
    save_model(compressed(), tokenizer(), path)
    return path


@pytest.fixture
def model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder)


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("dtype, weights", [
    (torch.bfloat16, None), (torch.float32, "float16"), (torch.float32, "int8"),
    (torch.bfloat16, "int8")])
def test_what_is_rounded_is_what_a_folder_gives_and_saves_again(tmp_path, dtype, weights):
    model = compressed(BERT, dtype, weights)
    with torch.no_grad():  # as after training: between the numbers of a file
        for parameter in model.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    moved = outputs(model)
    round_parameters(model)
    model.save_pretrained(tmp_path / "one")
    again = type(model).from_pretrained(tmp_path / "one")
    assert torch.equal(outputs(again), outputs(model)) and not torch.equal(outputs(model), moved)
    assert again.dtype == dtype and {p.dtype for p in again.parameters()} == {dtype}
    again.save_pretrained(tmp_path / "two")
    for name in (WEIGHTS, "config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    kinds = [one.dtype for one in load_file(tmp_path / "one" / WEIGHTS).values()]
    assert (torch.int8 in kinds) == (weights == "int8")
    assert (torch.float16 in kinds) == (weights == "float16")


def test_a_file_has_each_tensor_once_and_few_bits(folder):
    state = load_file(folder / WEIGHTS)
    assert not any(key.startswith("lm_head") for key in state)
    own = {key: one for key, one in state.items() if key.startswith("transformer.wte.")}
    assert {one.dtype for key, one in own.items() if not key.endswith("step")} == {torch.uint8}
    rest = sum(one.nbytes for key, one in own.items() if "names" not in key)
    assert rest == compressed().get_input_embeddings().to_encoding().bytes + 1 <= V * D + 1
    entry = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert entry["embeddings"]["transformer.wte"]["bits"] == 8


def test_names_of_units_come_back_and_words_are_the_tokenizers(tmp_path):
    model = transformer(GPT)
    compress(model, tokenizer().get_vocab(), 4, lexicon="none", sweeps=1, count="parameters")
    save_model(model, tokenizer(), tmp_path / "m")
    again = load_model(tmp_path / "m", "lm")[0].get_input_embeddings().to_encoding()
    encoding = model.get_input_embeddings().to_encoding()
    assert again.words is None and encoding.words == [*SPECIAL, *WORDS]
    assert again.bag_names == encoding.bag_names and again.slot_names == encoding.slot_names
    assert ("word", "bad") in again.bag_names


@pytest.mark.parametrize("one, other", [
    ("AutoModelForCausalLM", "AutoModel"), ("AutoModel", "AutoModelForCausalLM")])
def test_a_folder_loads_with_and_without_a_head(tmp_path, folder, one, other):
    getattr(transformers, one).from_pretrained(folder).save_pretrained(tmp_path)
    model = getattr(transformers, other).from_pretrained(tmp_path)
    whole = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        states = whole.transformer(IDS)[0]  # (2, 8, D)
    expected = states if other == "AutoModel" else outputs(whole)
    assert torch.equal(outputs(model), expected)


WITHOUT = """
import sys, transformers
if sys.argv[2:]:
    import see_min.bridge
try:
    print(transformers.pipeline("text-generation", sys.argv[1], max_new_tokens=2)("bad"))
except Exception as error:
    print("refused", type(error).__name__)
"""


@pytest.mark.parametrize("more, expected", [([], "refused ValueError"), (["see"], "'bad")])
def test_without_the_import_no_random_rows_but_an_error_that_names_it(folder, more, expected):
    done = subprocess.run([sys.executable, "-c", WITHOUT, str(folder), *more], cwd=ROOT, text=True,
                          capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert expected in done.stdout, done.stderr
    assert ("import see_min.bridge before loading" in done.stderr) == (not more)


def spoil(path, **changes):
    """Change tensors of the embedding in a folder; None deletes one."""
    state = load_file(path / WEIGHTS)
    for name, change in changes.items():
        key = f"transformer.wte.{name.replace('_', '-')}"
        state[key] = change(state[key])
    save_file({k: v for k, v in state.items() if v is not None}, path / WEIGHTS, {"format": "pt"})


def config(path, change):
    stored = json.loads((path / "config.json").read_text())
    change(stored["quantization_config"])
    (path / "config.json").write_text(json.dumps(stored))


BROKEN = {
    "no words": (lambda path: [one.unlink() for one in path.glob("*token*")], "no words in the"),
    "cut": (lambda path: os.truncate(path / WEIGHTS, 9000), "got "),
    "codes": (lambda path: spoil(path, index_1=lambda one: one[:-1]), "transformer.wte: expected"),
    "no table": (lambda path: spoil(path, tables_0=lambda one: None), "transformer.wte: expected"),
    "no numbers": (lambda path: spoil(path, tables_0_step=lambda one: one * torch.nan), "finite"),
    "shape": (lambda path: config(path, lambda one: one["embeddings"]["transformer.wte"].update(
        {"tables.0.shape": [1, 2, 3]})), "transformer.wte: expected"),
    "name": (lambda path: config(path, lambda one: one.update(embeddings={"x": {}})), "x: expect"),
    "weights": (lambda path: config(path, lambda one: one.update(weights="int3")), "int3"),
    "former": (lambda path: (path / "see_min.pt").touch(), "of an earlier version: compress again"),
}


@pytest.mark.parametrize("change, text", BROKEN.values(), ids=BROKEN)
def test_a_folder_that_is_not_whole_is_refused_in_one_line(folder, tmp_path, change, text):
    mine = shutil.copytree(folder, tmp_path / "mine")
    change(mine)
    with pytest.raises(InputError, match=re.escape(text)) as caught:
        load_model(mine, "lm")
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_leaves_the_old_one_whole(folder, tmp_path, monkeypatch):
    mine = shutil.copytree(folder, tmp_path / "mine")
    model, words = load_model(mine, "lm")
    monkeypatch.setattr(type(words), "save_pretrained", lambda *_: 1 / 0)
    with pytest.raises(InputError, match="^out: expected a folder with room, got "):
        save_model(model, words, mine)
    assert (mine / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    assert os.listdir(tmp_path) == ["mine"]


# ------------------------------------------------------------------ training


def lines(count=24):
    rng = np.random.default_rng(0)
    rows = torch.as_tensor(rng.integers(5, V, (count, 8)))
    return [{"input_ids": row, "labels": row} for row in rows]


def trainer(model, out, **options):
    arguments = {"max_steps": 3, "per_device_train_batch_size": 4, "save_steps": 3, "report_to": [],
                 "use_cpu": True, "disable_tqdm": True, "learning_rate": 1e-3} | options
    return transformers.Trainer(model, transformers.TrainingArguments(str(out), **arguments),
                                train_dataset=lines())


@pytest.mark.parametrize("weights", [None, "int8"])
def test_trainer_trains_saves_a_checkpoint_and_goes_on_from_it(tmp_path, weights):
    pytest.importorskip("accelerate")
    model = compressed(weights=weights)
    before = model.transformer.wte.table_1.detach().clone()
    trainer(model, tmp_path).train()
    assert not torch.equal(model.transformer.wte.table_1, before)
    fresh = compressed(weights=weights)
    trainer(fresh, tmp_path)._load_from_checkpoint(str(tmp_path / "checkpoint-3"), fresh)
    round_parameters(model)
    assert torch.equal(outputs(fresh), outputs(model))


def gradients(model):
    model.zero_grad()
    model(input_ids=IDS, labels=IDS).loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_checkpointed_and_compiled_models_have_the_outputs_and_gradients_of_the_plain_one(model):
    expected = gradients(model)
    assert len(expected) == len(list(model.parameters()))
    twin = copy.deepcopy(model).train()
    twin.gradient_checkpointing_enable()
    for other in (twin, torch.compile(copy.deepcopy(model), backend="aot_eager")):
        torch.testing.assert_close(gradients(other), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(outputs(other), outputs(model), rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------ adapters


def test_an_adapter_is_small_and_merges(model, tmp_path):
    peft = pytest.importorskip("peft")
    whole = outputs(model)
    base = sum(path.stat().st_size for path in Path(model.name_or_path).iterdir())
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable()
    tuned = peft.get_peft_model(model.train(), peft.LoraConfig(r=2, target_modules=["c_attn"]))
    optimizer = torch.optim.SGD(tuned.parameters(), 10.0)
    for _ in range(2):
        tuned(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    moved = outputs(tuned.eval())
    assert not torch.allclose(moved, whole)
    tuned.save_pretrained(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size < base / 4
    plain = transformers.AutoModelForCausalLM.from_pretrained(model.name_or_path)
    again = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter")
    torch.testing.assert_close(outputs(again), moved, rtol=1e-4, atol=1e-4)
    merged = again.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    loaded = type(plain).from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(outputs(loaded), moved, rtol=1e-4, atol=1e-4)


def test_an_embedding_that_an_adapter_trains_stays_tied_to_the_head(tmp_path):
    peft = pytest.importorskip("peft")
    model = compressed("LlamaForCausalLM", tie_word_embeddings=True)
    how = {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}
    tuned = peft.get_peft_model(model, peft.LoraConfig(**how, ensure_weight_tying=True))
    optimizer = torch.optim.SGD(tuned.parameters(), 1.0)
    for _ in range(2):
        tuned(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    base = tuned.base_model.model
    h = torch.randn(3, D)
    rows = base.model.embed_tokens(torch.arange(V))  # (V, D)
    assert not torch.allclose(rows, base.model.embed_tokens.original_module(torch.arange(V)))
    torch.testing.assert_close(base.lm_head(h), h @ rows.T, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="^head: expected to be copied with its model"):
        peft.get_peft_model(compressed(), peft.LoraConfig(modules_to_save=["lm_head"]))


# ------------------------------------------------------------------ places


@pytest.mark.parametrize("tied", [True, False])
def test_weights_that_are_brought_from_elsewhere_give_the_same(tmp_path, tied):
    accelerate = pytest.importorskip("accelerate")
    model = compressed("LlamaForCausalLM", tie_word_embeddings=tied)
    expected, twin = outputs(model), copy.deepcopy(model)
    accelerate.cpu_offload(twin, execution_device="cpu")
    assert twin.model.embed_tokens.table_0.is_meta
    assert torch.equal(outputs(twin), expected)
    with pytest.raises(InputError, match="^embedding: expected weights in memory, got offloaded"):
        twin.save_pretrained(tmp_path / "offloaded")
    model.save_pretrained(tmp_path / "model")
    load = transformers.LlamaForCausalLM.from_pretrained
    for place in ("auto", {"": "cpu"}, {"model.embed_tokens": "disk", "model.norm": "cpu",
            "model.layers": "disk", "model.rotary_emb": "cpu", "lm_head": "cpu"}):
        again = load(tmp_path / "model", device_map=place, offload_folder=str(tmp_path / "disk"))
        assert torch.equal(outputs(again), expected)


@pytest.mark.parametrize("kind", [GPT, BERT, T5])
def test_an_exported_model_takes_other_lengths(kind):
    model = compressed(kind).eval()
    names = ["input_ids"] + ["decoder_input_ids"] * model.config.is_encoder_decoder
    dynamic = {name: {1: torch.export.Dim("length", min=2, max=32)} for name in names}
    given = dict.fromkeys(names, IDS) | ({} if kind == BERT else {"use_cache": False})
    shapes = dynamic | dict.fromkeys(given.keys() - dynamic, None)
    program = torch.export.export(model, (), given, dynamic_shapes=shapes).module()
    other = IDS[:, :5]
    found = program(**given | dict.fromkeys(names, other)).logits
    torch.testing.assert_close(found, outputs(model, other), rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------ other words


@pytest.mark.parametrize("kind", [GPT, BERT, T5, "BartForConditionalGeneration",
                                  "GPTNeoXForCausalLM"])
def test_a_model_grows_by_private_rows_and_does_not_shrink(tmp_path, kind):
    model = compressed(kind)
    before, mean = outputs(model), model.get_input_embeddings().weight.mean(0)
    layer = model.resize_token_embeddings(V + 3, pad_to_multiple_of=8)
    size = 304
    assert layer is model.get_input_embeddings() and layer.num_embeddings == size
    torch.testing.assert_close(outputs(model)[..., :V], before, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.weight[V:], mean.expand(size - V, D), rtol=0, atol=1e-4)
    assert outputs(model, torch.full((1, 4), size - 1)).shape[-1] == size == model.config.vocab_size
    round_parameters(model)
    model.save_pretrained(tmp_path / "grown")
    again = type(model).from_pretrained(tmp_path / "grown")
    assert torch.equal(outputs(again), outputs(model))
    with pytest.raises(InputError, match="^new_num_tokens: expected at least 304, got 9: use to_"):
        model.resize_token_embeddings(9)
    assert to_dense(model).resize_token_embeddings(9).weight.shape == (9, D)


def test_the_head_follows_another_embedding(model):
    model.set_input_embeddings(nn.Embedding(V, D))
    model.tie_weights()
    new = model.get_input_embeddings().weight
    h = torch.randn(3, D)
    torch.testing.assert_close(model.lm_head(h), h @ new.T)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.get_input_embeddings().weight.zero_()
    assert not other.lm_head(h).any() and model.lm_head(h).all()


def test_a_copy_of_a_head_alone_is_refused_and_one_with_its_model_is_its_own(model):
    with pytest.raises(InputError, match="^head: expected to be copied with its model, got a copy"):
        copy.deepcopy(model.lm_head)
    twin = copy.deepcopy(model)
    assert isinstance(twin.lm_head, TiedHead)
    assert twin.lm_head.embedding is twin.transformer.wte is not model.transformer.wte
    assert isinstance(twin.transformer.wte, SememeEmbedding)
    assert torch.equal(outputs(pickle.loads(pickle.dumps(model))), outputs(model))


def test_what_is_no_way_to_keep_weights_is_refused():
    for model, weights, text in (
        (transformer(GPT), "int3", "weights: expected float16 or int8, got 'int3'"),
        (nn.Sequential(nn.Embedding(V, D)), "int8",
         "weights: expected a model of transformers, got Sequential"),
    ):
        with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
            compress(model, tokenizer().get_vocab(), weights=weights)


# ------------------------------------------------------------------ sentences

SENTENCES = """
import sys, see_min.bridge, torch
from sentence_transformers import SentenceTransformer
torch.save(torch.as_tensor(SentenceTransformer(sys.argv[1]).encode(["bad beno", "bilk"])), "s.pt")
"""


def test_sentence_transformers_loads_a_folder_in_a_new_process(tmp_path):
    sentences = pytest.importorskip("sentence_transformers")
    source = tmp_path / "source"
    transformer("BertModel").save_pretrained(source)
    tokenizer().save_pretrained(source)
    plain = {"create_model_card": False}  # which asks a server
    sentences.SentenceTransformer(str(source)).save(str(tmp_path / "st"), **plain)
    dense = sentences.SentenceTransformer(str(tmp_path / "st"))
    compress(dense, tokenizer().get_vocab(), 3, lexicon="none", sweeps=1)
    expected = torch.as_tensor(dense.encode(["bad beno", "bilk"]))
    bert = next(part for part in dense.modules() if isinstance(part, transformers.BertModel))
    save_model(bert, tokenizer(), tmp_path / "one", like=tmp_path / "st")
    dense.save(str(tmp_path / "two"), **plain)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
                   "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", SENTENCES, str(tmp_path / "one")], cwd=tmp_path,
                   check=True, env=environment)
    assert torch.equal(torch.load(tmp_path / "s.pt"), expected)
    for name in ("modules.json", "1_Pooling/config.json"):
        kept = (tmp_path / place / name for place in ("st", "one"))
        assert len({path.read_bytes() for path in kept}) == 1
    again = sentences.SentenceTransformer(str(tmp_path / "two"))
    assert torch.equal(torch.as_tensor(again.encode(["bad beno", "bilk"])), expected)
