"""Models compressed in one call against dense copies of them, real transformers among them."""

import copy
import functools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import SPECIAL, WORDS, D, V, transformer
from torch import nn

from see_min.bridge import SememeEmbedding, TiedHead, compress, to_dense
from see_min.bridge import model as module
from see_min.bridge.model import round_parameters
from see_min.encoding import SememeEncoding
from see_min.errors import InputError
from see_min.storage.budget import plan_see
from see_min.storage.encodings import pack
from see_min.units import shared_units
from see_min.words.lexicon import Lexicon
from see_min.words.vocabulary import build_vocabulary

torch.set_num_threads(1)
RATIO = 8
NAMES = [*SPECIAL, *WORDS]
IDS = torch.tensor([[5, 9, 299, 1, 0], [7, 7, 2, 206, 11]])
MODELS = {
    "gpt2": ("GPT2LMHeadModel", {}),
    "bert": ("BertForMaskedLM", {}),
    "llama tied": ("LlamaForCausalLM", {"tie_word_embeddings": True}),
    "llama untied": ("LlamaForCausalLM", {"tie_word_embeddings": False}),
    "bart": ("BartForConditionalGeneration", {"scale_embedding": True}),
    "t5": ("T5ForConditionalGeneration", {}),
}
every_model = pytest.mark.parametrize("name", MODELS)


@functools.cache
def words(size=V):
    """A vocabulary of two morphemes a word, whose counts do not fall with the row."""
    counts = np.random.default_rng(0).integers(1, 1000, size)
    cuts = {name: (name[:2], name[2:]) for name in NAMES[:size]}
    return build_vocabulary(NAMES[:size], Lexicon({}), counts, segmentation=cuts)


def build(name):
    kind, changes = MODELS[name]
    return transformer(kind, **changes)


def logits(model, ids=IDS):
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    return model(input_ids=ids, **more).logits


def compressed(name):
    """(the model, a dense copy whose rows are overwritten by those of the encoding, report)."""
    model = build(name)
    dense = copy.deepcopy(model)
    report, = compress(model, words(), RATIO, sweeps=3)
    with torch.no_grad():  # in place: whatever shares the weight has the rows too
        dense.get_input_embeddings().weight.copy_(model.get_input_embeddings().weight)
    return model, dense, report


def count(model):
    return sum(p.numel() for p in model.parameters())


# ---------------------------------------------------------------- models of transformers


@every_model
def test_a_compressed_model_has_the_logits_of_the_dense_one_with_its_rows(name):
    model, dense, report = compressed(name)
    torch.testing.assert_close(logits(model), logits(dense), rtol=1e-5, atol=1e-5)  # float32
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = isinstance(head, TiedHead) and head.embedding is embedding
    assert isinstance(embedding, SememeEmbedding) and is_tied == (name != "llama untied")
    assert count(dense) - count(model) == V * D - report.parameters
    assert report.ratio == 4 * V * D / report.bytes >= RATIO and report.shape == (V, D)
    replaced = {id(model.get_submodule(key)) for key in report.names}
    assert replaced <= {id(embedding), id(head)}
    assert embedding.scale == (D**0.5 if name == "bart" else 1)


@pytest.mark.parametrize("name", ["gpt2", "llama tied", "bart", "t5"])
def test_a_compressed_model_generates_what_the_dense_one_with_its_rows_generates(name):
    model, dense, _ = compressed(name)
    how = {"attention_mask": torch.ones_like(IDS), "max_new_tokens": 6, "do_sample": False}
    expected = dense.generate(IDS, **how)
    for use_cache in (True, False):
        assert torch.equal(model.generate(IDS, use_cache=use_cache, **how), expected)


@pytest.mark.parametrize("name", ["gpt2", "bert", "bart"])
def test_a_bfloat16_model_keeps_its_data_type_and_trains(name):
    model = build(name).bfloat16()
    compress(model, words(), RATIO, sweeps=2)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    scores = logits(model)
    scores.float().logsumexp(-1).sum().backward()
    assert scores.dtype == torch.bfloat16 and scores.isfinite().all()
    parameters = list(model.get_input_embeddings().parameters())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
    assert {p.dtype for p in to_dense(model).parameters()} == {torch.bfloat16}


@every_model
def test_methods_of_transformers_keep_ties_and_a_dense_model_has_them_as_before(name, tmp_path):
    model, dense, _ = compressed(name)
    model = copy.deepcopy(model)  # as what it was taught
    before = logits(model)
    model.tie_weights()
    model.init_weights()
    assert torch.equal(logits(model), before)
    to_dense(model).save_pretrained(tmp_path / "model")
    torch.testing.assert_close(logits(model), before, rtol=1e-5, atol=1e-5)
    again = type(model).from_pretrained(tmp_path / "model")
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=0)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert isinstance(embedding, nn.Embedding) and type(head) is nn.Linear
    assert (head.weight is embedding.weight) == (name != "llama untied")
    assert count(model) == count(dense)


@pytest.mark.parametrize("kind, sizes, expected", [
    ("GPT2LMHeadModel", {"max_position_embeddings": 900}, "transformer.wte"),
    ("T5ForConditionalGeneration", {"relative_attention_num_buckets": 9000}, "shared"),
    ("BartForConditionalGeneration", {"tie_word_embeddings": False},
     "model.encoder.embed_tokens"),  # nothing reads model.shared there
])
def test_without_a_name_the_table_of_the_input_ids_is_compressed(kind, sizes, expected):
    model = transformer(kind, **sizes)
    before = logits(model)
    assert compress(model, words(), RATIO, sweeps=1)[0].names[0] == expected
    assert not torch.allclose(logits(model), before)


def test_an_encoder_and_a_decoder_with_tables_of_their_own_are_compressed_by_name():
    two = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 211, "num_beams": 1}
    model, dense = (transformer("MarianMTModel", scale_embedding=True, **two) for _ in range(2))
    sides = ["model.encoder.embed_tokens", "model.decoder.embed_tokens"]
    reports = compress(model, dict(zip(sides, (words(), words(211)))), RATIO, sweeps=2)
    assert [one.names for one in reports] == [sides[:1], [sides[1], "lm_head"]]
    ids = IDS % 211
    with torch.no_grad():
        for key in sides:
            dense.get_submodule(key).weight.copy_(model.get_submodule(key).weight)
    for same in (model, to_dense(model)):
        torch.testing.assert_close(logits(same, ids), logits(dense, ids), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- words, methods, refusals


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.words, self.tags = nn.Embedding(V, D, padding_idx=4), nn.Embedding(101, 16)
        self.head = nn.Linear(D, V)
        self.head.weight = self.words.weight

    def forward(self, ids):
        return self.head(self.words(ids))


METHODS = ["see", "see-derived", "shuffled", "see-parameters", "paper", "morphemes", "weighted-svd",
           "opq", "svd-int8"]
NOTES = ("format", "bits", "slots", "bag.most", "bag.check")  # in a file, but no numbers or codes


def stored_bytes(encoding):
    """Of the numbers and codes of a file, names left out."""
    arrays = pack(replace(encoding, words=None, slot_names=None, bag_names=None))
    return sum(array.nbytes for key, array in arrays.items()
               if key not in NOTES and not key.endswith(".shape"))


@pytest.mark.parametrize("method", METHODS)
def test_rows_in_the_order_of_the_model_have_the_error_that_is_said(method):
    model = nn.Sequential(nn.Embedding(V, D))
    E0 = model[0].weight.detach().double().numpy()
    report, = compress(model, words(), RATIO, method=method, sweeps=2)
    found = model[0](torch.arange(V)).detach().double().numpy()  # (V, D)
    error = sum(((a - b) ** 2).sum() for a, b in zip(E0, found)) / (E0**2).sum()
    np.testing.assert_allclose(report.error, error, rtol=1e-5)
    assert error < 1 and report.bytes == stored_bytes(model[0].to_encoding())
    whole = report.bytes == 4 * report.parameters  # factors have no index, and here no few bits
    assert whole == (method == "weighted-svd")


def test_parameters_are_counted_as_the_papers_do_where_that_is_asked_for():
    """The sizes and rows are those of the method that counts no other way."""
    one, other = Tied(), Tied()
    report, = compress(one, words(), RATIO, count="parameters", sweeps=1)
    compress(other, words(), RATIO, method="see-parameters", sweeps=1)
    known = len(shared_units(words().annotations))
    assert report.parameters == plan_see(V, D, RATIO, 2, known).parameters <= V * D / RATIO
    assert report.ratio == V * D / report.parameters >= RATIO
    assert report.bytes > 4 * report.parameters and one.words.bits is None  # and an index
    assert torch.equal(one.words.weight, other.words.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ["see", "see-derived", "opq", "svd-int8", "weighted-svd"])
def test_rounded_parameters_are_those_of_a_saved_and_loaded_encoding(tmp_path, method, dtype):
    model = Tied().to(dtype)
    compress(model, words(), RATIO, method=method, sweeps=1)
    layer = model.words
    torch.manual_seed(2)
    with torch.no_grad():  # as training leaves them: between the numbers of a file
        for parameter in layer.parameters():
            parameter += 0.1 * parameter.std() * torch.randn_like(parameter)
    moved = layer.weight.clone()
    round_parameters(model)
    layer.to_encoding().save(tmp_path / "e.npz")
    loaded = SememeEncoding.load(tmp_path / "e.npz", words()).rows(np.arange(V))  # (V, D)
    precise = copy.deepcopy(layer).float().weight.detach().double().numpy()
    loaded[4] = precise[4]  # the padding row, which the layer keeps at zero
    close = 1e-5 if dtype is torch.float32 else 2**-7  # bfloat16 has 8 bits
    np.testing.assert_allclose(precise, loaded, rtol=0, atol=close * np.abs(loaded).max())
    assert torch.equal(layer.weight, moved) == (method == "weighted-svd")  # it has no few bits
    rows = layer.weight.detach().clone()
    round_parameters(model)
    torch.testing.assert_close(layer.weight, rows, rtol=0, atol=close * float(rows.abs().max()))


def test_words_may_be_a_list_an_array_a_dict_or_a_vocabulary():
    by_id = {token: row for row, token in reversed(list(enumerate(NAMES)))}
    found = []
    for given in (NAMES, np.array(NAMES), by_id, build_vocabulary(NAMES, "none")):
        model = Tied()
        compress(model, given, RATIO, lexicon="none", sweeps=1)
        found.append(model.words.weight)
    assert all(torch.equal(rows, found[0]) for rows in found)
    by_id = {token: by_id[token] for token in NAMES[:290]}  # rows without a token
    assert compress(Tied(), by_id, RATIO, lexicon="none", sweeps=1)[0].shape == (V, D)


def test_several_embeddings_have_a_vocabulary_each_as_lists_or_dicts():
    tags = NAMES[:101]
    for of_tags in (words(101), tags, {name: i for i, name in enumerate(tags)}):
        model = Tied()
        given = {"tags": of_tags, "words": words()}
        counts = {"tags": np.arange(101)}
        reports = compress(model, given, 6, counts, "none", sweeps=1)
        assert [one.names for one in reports] == [["tags"], ["words", "head"]]
        assert not any(isinstance(one, nn.Embedding) for one in model.modules())


def with_nan():
    model = Tied()
    model.words.weight.data[5, 3] = torch.nan
    return model


def twice():
    model = build("gpt2")
    compress(model, words(), RATIO, sweeps=1)
    return model


BOTH = {"model.shared": words(), "model.decoder.embed_tokens": words()}
REFUSED = {
    "name": (Tied, {"name": "x"}, "name: expected one of words, tags, got 'x'"),
    "length": (Tied, {"words": NAMES[:9]}, "words: expected 300, one per row of words, got 9"),
    "id": (Tied, {"words": {"a": 300}}, "words: expected whole numbers from 0 to 299, got 300"),
    "second length": (Tied, {"words": {"words": words(), "tags": words()}}, "words: expected 101"),
    "nan": (with_nan, {}, "words: expected finite numbers, got 1 that"),
    "int8": (Tied, {"method": "int8"},
             "method: expected one whose result is an encoding, got 'int8'"),
    "count": (Tied, {"count": "bits"}, "count: expected one of bytes, parameters, got 'bits'"),
    "ratio": (Tied, {"ratio": 5000}, "ratio: expected "),
    "twice": (twice, {}, "name: expected one of transformer.wpe, got SememeEmbedding"),
    "one weight twice": (lambda: build("bart"), {"words": BOTH},
                         "words: expected one name per weight, got "),
}


@pytest.mark.parametrize("make, how, text", REFUSED.values(), ids=REFUSED)
def test_a_compression_that_is_refused_leaves_the_model_untouched(make, how, text):
    model = make()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    parts = [(key, id(part)) for key, part in model.named_modules(remove_duplicate=False)]
    with pytest.raises(InputError, match=f"^{re.escape(text)}"):
        compress(model, **{"words": words(), "ratio": RATIO, "sweeps": 1, **how})
    after = model.state_dict()
    assert [(key, id(part)) for key, part in model.named_modules(remove_duplicate=False)] == parts
    assert all(torch.equal(tensor.nan_to_num(), after[key].nan_to_num())
               for key, tensor in before.items())


def test_running_out_of_memory_is_one_line_and_leaves_the_model_untouched(monkeypatch):
    model, real, calls = Tied(), module.make_replacement, []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) == 2:  # after the first was made
            raise torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB.\nMore lines")
        return real(*arguments)

    monkeypatch.setattr(module, "make_replacement", full)
    text = "^device: expected enough memory, got CUDA out of memory. Tried 2 GiB.$"
    with pytest.raises(InputError, match=text):
        compress(model, {"words": words(), "tags": words(101)}, 6, sweeps=1)
    assert type(model.words) is nn.Embedding and type(model.head) is nn.Linear
    with pytest.raises(InputError, match="^device: .* got .*allocate memory"):  # as a CPU says it
        with module.device_memory():
            torch.empty(2**55)
    with pytest.raises(RuntimeError, match="^else$"), module.device_memory():
        raise RuntimeError("else")
