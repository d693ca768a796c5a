"""Models compressed in one call against dense copies of them, real transformers among them, and the gradients of block scores."""

import copy
import functools
import importlib
import itertools
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from see_min import Lexicon
from see_min.bridge import SememeEmbedding, TiedHead, compress, to_dense
from see_min.bridge.compress import device_memory, in_order
from see_min.bridge.layers import _halves_gradients
from see_min.checks import DataError, ShapeError
from see_min.encoding import SememeEncoding
from see_min.vocabulary import build_vocabulary

torch.set_num_threads(1)
MODULE = importlib.import_module("see_min.bridge.compress")  # the package's attribute of that name is the function
V, D, RATIO = 307, 32, 8
IDS = torch.tensor([[5, 9, 300, 1, 0], [7, 7, 2, 306, 11]])
SMALL = {"vocab_size": V, "hidden_size": D, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
ENDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}


@functools.cache
def words(size=V, seed=0):
    """Tokens of two morphemes each, whose counts do not fall with the row."""
    parts = "bcdfghjklmn", "aeiouy", ("ing", "ed", "er", "ly", "est")
    names = ["".join(letters) for letters in itertools.islice(itertools.product(*parts), size)]
    counts = np.random.default_rng(seed).integers(1, 1000, size)
    return build_vocabulary(names, Lexicon({}), counts, segmentation={name: (name[:2], name[2:]) for name in names})


WHOLE = {"vocab_size": V, "d_model": D, "num_heads": 2, "num_layers": 2, "d_ff": 24, "d_kv": 16, "dropout_rate": 0.0}
CODER = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "encoder_attention_heads": 2,
         "decoder_attention_heads": 2, "max_position_embeddings": 32, "dropout": 0.0, "scale_embedding": True}
QUIET = {"vocab_size": V, "n_embd": D, "n_layer": 2, "n_head": 2, "n_positions": 32,
         "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
MODELS = {
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", QUIET),
    "bert": ("BertForMaskedLM", "BertConfig", {**SMALL, "max_position_embeddings": 32, "hidden_dropout_prob": 0.0,
                                               "attention_probs_dropout_prob": 0.0}),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", SMALL),
    "llama tied": ("LlamaForCausalLM", "LlamaConfig", {**SMALL, "tie_word_embeddings": True}),
    "llama untied": ("LlamaForCausalLM", "LlamaConfig", {**SMALL, "tie_word_embeddings": False}),
    "bart": ("BartForConditionalGeneration", "BartConfig", {"vocab_size": V, "d_model": D, **CODER}),
    "t5": ("T5ForConditionalGeneration", "T5Config", WHOLE),
}
TIED = [name for name in MODELS if name not in ("phi3", "llama untied")]
every_model = pytest.mark.parametrize("name", MODELS)


def build(name):
    """A model of transformers with random weights; its biases of the vocabulary are not zero."""
    transformers = pytest.importorskip("transformers")
    model, config, sizes = MODELS[name]
    ends = {**ENDS, "decoder_start_token_id": 0} if name in ("bart", "t5") else ENDS
    torch.manual_seed(0)
    model = getattr(transformers, model)(getattr(transformers, config)(**sizes, **ends)).eval()
    for key, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if tensor.shape[-1] == V and "bias" in key:
            nn.init.normal_(tensor)
    return model


def logits(model, ids=IDS):
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    return model(input_ids=ids, **more).logits


def compressed(name, **how):
    """(the model, a dense copy of it whose rows are overwritten by those of the encoding, what compress says)."""
    model = build(name)
    dense = copy.deepcopy(model)
    done = compress(model, words(), RATIO, **how)[0]
    embedding, old = model.get_input_embeddings(), dense.get_input_embeddings()
    rows = embedding.to_encoding().rows(np.arange(V))  # (V, D)
    if old.padding_idx is not None and not old.weight[old.padding_idx].any():
        rows[old.padding_idx] = 0
    with torch.no_grad():
        old.weight.copy_(torch.as_tensor(rows))  # in place: whatever shares the weight has them too
    return model, dense, done


def state(model):
    """Modules and parameters as objects."""
    numbers = lambda p: None if p.is_meta else p.detach().clone().nan_to_num().tolist()
    return ([(key, id(module)) for key, module in model.named_modules(remove_duplicate=False)],
            [(key, id(p), numbers(p)) for key, p in model.named_parameters(remove_duplicate=False)])


def count(model):
    return sum(p.numel() for p in model.parameters())


# ------------------------------------------------------------------ models of transformers


@every_model
def test_a_compressed_model_has_the_logits_of_the_dense_one_with_the_rows_of_the_encoding(name):
    model, dense, done = compressed(name)
    torch.testing.assert_close(logits(model), logits(dense), rtol=1e-5, atol=1e-5)  # float32, sums in another order
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert isinstance(embedding, SememeEmbedding) and (embedding.num_embeddings, embedding.embedding_dim) == (V, D)
    assert (isinstance(head, TiedHead) and head.embedding is embedding) == (name in TIED)
    assert count(dense) - count(model) == V * D - done.floats
    assert done.ratio == V * D / done.floats >= RATIO and done.bytes > 4 * done.floats and done.shape == (V, D)
    assert {id(model.get_submodule(key)) for key in done.names} <= {id(embedding), id(head)}
    assert embedding.scale == (D**0.5 if name == "bart" else 1)


@pytest.mark.parametrize("name", ["gpt2", "llama tied", "phi3", "bart", "t5"])
def test_a_compressed_model_generates_what_the_dense_one_with_its_rows_generates(name):
    model, dense, _ = compressed(name)
    write = functools.partial(model.generate, IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=6, do_sample=False)
    expected = dense.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=6, do_sample=False)
    assert torch.equal(write(), expected) and torch.equal(write(use_cache=False), expected)


@pytest.mark.parametrize("change, bound", [("half", 2e-3), ("bfloat16", 2e-2), ("double", 1e-6)])
@pytest.mark.parametrize("name", ["gpt2", "phi3", "bart"])
def test_a_compressed_model_changes_its_data_type_as_a_whole(name, change, bound):
    model = compressed(name)[0]
    before = logits(model).detach()
    getattr(model, change)()
    assert {p.dtype for p in model.parameters()} == {getattr(torch, {"half": "float16", "double": "float64"}.get(change, change))}
    assert model.get_input_embeddings().index.dtype == torch.int32  # an index is no number to round
    assert (logits(model).float() - before).abs().max() < bound * before.abs().max()


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama tied", "bart"])
def test_a_bfloat16_model_keeps_its_data_type_and_trains(name):
    model = build(name).bfloat16()
    compress(model, words(), RATIO)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    scores = logits(model)
    scores.float().logsumexp(-1).sum().backward()
    assert scores.dtype == torch.bfloat16 and scores.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.get_input_embeddings().parameters())


@pytest.mark.parametrize("inside", [False, True])
def test_gradients_under_autocast_are_finite_and_near_those_without(inside):
    model = compressed("gpt2")[0]
    parameters = list(model.get_input_embeddings().parameters())
    loss = lambda: nn.functional.cross_entropy(logits(model).flatten(0, 1).float(), IDS.flatten())
    exact = torch.autograd.grad(loss(), parameters)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss()
        rough = torch.autograd.grad(value, parameters) if inside else None
    rough = rough or torch.autograd.grad(value, parameters)
    for ours, expected in zip(rough, exact):
        assert ours.isfinite().all() and ours.dtype == torch.float32
        assert (ours - expected).norm() < 0.05 * expected.norm()  # bfloat16 has eight bits


@pytest.mark.filterwarnings("ignore::FutureWarning")  # the name of the method is to change
@pytest.mark.parametrize("name", ["gpt2", "bert", "llama tied", "t5"])
def test_gradient_checkpointing_changes_no_gradient(name):
    model, found = compressed(name)[0].train(), []
    for enable in (lambda: None, model.gradient_checkpointing_enable):
        enable()
        model.zero_grad()
        logits(model).square().mean().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(again, plain, rtol=0, atol=1e-5 * float(plain.abs().max()))
    assert model.is_gradient_checkpointing


@every_model
def test_a_state_saved_and_loaded_gives_bit_identical_logits(name, tmp_path):
    model = compressed(name)[0]
    twin = copy.deepcopy(model)
    assert count(twin) == count(model) and torch.equal(logits(twin), before := logits(model))
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert torch.equal(logits(model), before) and not torch.equal(logits(twin), before)  # the copy is independent
    torch.save(model.state_dict(), tmp_path / "a.pt")
    twin.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))
    assert torch.equal(logits(twin), before)


@every_model
def test_to_dense_gives_plain_classes_with_the_outputs_and_the_ties(name):
    model, dense, _ = compressed(name)
    model.get_input_embeddings().requires_grad_(False)
    before = logits(model)
    assert to_dense(model) is model
    torch.testing.assert_close(logits(model), before, rtol=1e-5, atol=1e-5)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert isinstance(embedding, nn.Embedding) and type(head) is nn.Linear and not embedding.weight.requires_grad
    assert embedding.padding_idx == dense.get_input_embeddings().padding_idx
    assert (head.weight is embedding.weight) == (name in TIED) and count(model) == count(dense)


@pytest.mark.parametrize("name", ["gpt2", "bart", "phi3"])
def test_a_bfloat16_model_is_dense_again_with_the_outputs_it_had(name):
    model = build(name).bfloat16()
    compress(model, words(), RATIO)
    before = logits(model).detach()
    assert {p.dtype for p in to_dense(model).parameters()} == {torch.bfloat16}
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0.02 * float(before.abs().max()))  # rows are rounded


@every_model
def test_methods_of_transformers_leave_ties_alone_or_refuse_until_the_model_is_dense(name, tmp_path):
    model = copy.deepcopy(compressed(name)[0])  # guards are copied, too
    before, objects = logits(model), state(model)
    model.tie_weights()
    model.init_weights()
    text = "{}: expected a model with plain embeddings, got a compressed one: use {}to_dense first"
    save = text.format("save_pretrained", "see_min.bridge.pretrained.save_compressed, or ")
    for call, line in ((model.save_pretrained, save), (model.base_model.save_pretrained, save),
                       (model.resize_token_embeddings, text.format("resize_token_embeddings", ""))):
        with pytest.raises(DataError, match=f"^{re.escape(line)}$"):
            call(tmp_path / "model")
    assert state(model) == objects and torch.equal(logits(model), before) and not list(tmp_path.iterdir())
    to_dense(model).save_pretrained(tmp_path / "model")
    again = type(model).from_pretrained(tmp_path / "model")
    for key, buffer in model.named_buffers():
        if key.endswith("bias"):  # made up by `build`
            torch.testing.assert_close(again.get_buffer(key), buffer)
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=0)
    model.resize_token_embeddings(V + 3)
    assert logits(model).shape[-1] == V + 3


@pytest.mark.parametrize("name, sizes, expected", [
    ("gpt2", {"n_positions": 900}, "transformer.wte"),
    ("bert", {"max_position_embeddings": 900}, "bert.embeddings.word_embeddings"),
    ("t5", {"relative_attention_num_buckets": 9000}, "shared"),
    ("bart", {"max_position_embeddings": 900}, "model.shared"),
    ("bart", {"tie_word_embeddings": False}, "model.encoder.embed_tokens"),  # nothing reads model.shared there
])
def test_without_a_name_the_table_of_the_input_ids_is_compressed_even_if_another_is_larger(monkeypatch, name, sizes, expected):
    kind, config, own = MODELS[name]
    monkeypatch.setitem(MODELS, name, (kind, config, own | sizes))
    model = build(name)
    before = logits(model)
    assert compress(model, words(), RATIO)[0].names[0] == expected
    assert not torch.allclose(logits(model), before)


MARIAN = ("MarianMTModel", "MarianConfig", {"vocab_size": V, "d_model": D, **CODER, "share_encoder_decoder_embeddings": False,
                                            "decoder_vocab_size": 211, "decoder_start_token_id": 0, "num_beams": 1})


def test_an_encoder_and_a_decoder_with_tables_of_their_own_are_compressed_by_name(monkeypatch):
    monkeypatch.setitem(MODELS, "marian", MARIAN)
    model, only = build("marian"), build("marian")
    assert compress(only, words(), RATIO)[0].names == ["model.encoder.embed_tokens"]
    names = ["model.encoder.embed_tokens", "model.decoder.embed_tokens"]
    done = compress(model, dict(zip(names, (words(), words(211)))), RATIO)
    assert [one.names for one in done] == [names[:1], [names[1], "lm_head"]]
    dense, ids = build("marian"), IDS % 211
    with torch.no_grad():
        for key in names:
            dense.get_submodule(key).weight.copy_(model.get_submodule(key).weight)
    torch.testing.assert_close(logits(model, ids), logits(dense, ids), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits(to_dense(model), ids), logits(dense, ids), rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------ plain torch


class Tied(nn.Module):
    """An embedding with padding, another one, and a head with bias that is tied to the first."""

    def __init__(self, zero=True, size=V):
        super().__init__()
        torch.manual_seed(1)
        self.words, self.tags = nn.Embedding(size, D, padding_idx=4), nn.Embedding(101, 16)
        self.head = nn.Linear(D, size)
        if not zero:
            nn.init.normal_(self.words.weight)
        self.head.weight = self.words.weight

    def forward(self, ids):
        return self.head(self.words(ids))


@pytest.mark.parametrize("zero", [False, True])
def test_gradients_with_padding_and_a_tied_head_are_those_of_the_dense_rows(zero):
    dense = Tied(zero).double()
    model, ids = copy.deepcopy(dense), torch.tensor([4, 1, 4, 2])
    compress(model, words(), RATIO)
    start = model.words.weight  # (V, D), a function of the parameters
    assert bool(start[4].any()) is not zero
    with torch.no_grad():
        dense.words.weight.copy_(start)
    torch.testing.assert_close(model(ids), dense(ids), rtol=1e-12, atol=1e-12)
    for one in (model, dense):
        one(ids).square().sum().backward()
    parameters = list(model.words.parameters())
    for p, expected in zip(parameters, torch.autograd.grad(start, parameters, dense.words.weight.grad)):
        torch.testing.assert_close(p.grad, expected, rtol=1e-10, atol=1e-10)


def test_a_row_of_padding_gets_no_gradient_and_stays_zero_in_training():
    model = Tied()
    compress(model, words(), RATIO)
    model.words(torch.tensor([4, 4])).sum().backward()
    assert all(not p.grad.any() for p in model.words.parameters() if p.grad is not None)
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):
        model(torch.tensor([4, 1])).square().mean().backward()
        optimiser.step()
    assert not model.words(torch.tensor(4)).any() and not model.words.weight[4].any()
    torch.testing.assert_close(model(torch.tensor([1]))[:, 4], model.head.bias[4:5], rtol=0, atol=0)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_has_equal_outputs_and_gradients(backend):
    model = Tied()
    compress(model, words(), RATIO)
    found = []
    for run in (model, torch.compile(model, backend=backend)):
        model.zero_grad()
        run(IDS).square().mean().backward()
        found.append([run(IDS).detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for plain, fused in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale, padding_idx", [(1.0, None), (3.0, 2)])
@pytest.mark.parametrize("order, per_term", [(1, False), (2, False), (2, True)])
def test_more_ids_than_words_have_the_rows_and_gradients_of_few(order, per_term, scale, padding_idx):
    module = SememeEmbedding(encoding(order, per_term), torch.float64, padding_idx=padding_idx, scale=scale)
    ids, parameters = torch.arange(30).reshape(3, 10) % 7, list(module.parameters())
    many, few = module(ids), torch.stack([module(row) for row in ids.flatten()[:, None]]).reshape(3, 10, -1)
    torch.testing.assert_close(many, few, rtol=1e-12, atol=1e-12)
    weights = torch.arange(float(many.numel()), dtype=torch.float64).view(many.shape)
    for ours, expected in zip(*(torch.autograd.grad((one * weights).sum(), parameters) for one in (many, few))):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    with pytest.raises(IndexError, match="out of range"):
        module(torch.full((8,), -1))


def test_embeddings_that_share_a_weight_at_another_scale_are_refused():
    model = nn.ModuleDict({"a": nn.Embedding(V, D), "b": nn.Embedding(V, D)})
    model.b.weight, model.b.embed_scale = model.a.weight, 2.0
    with pytest.raises(DataError, match="^b: expected scale 1 as a, got 2$"):
        compress(model, words())


# ------------------------------------------------------------------ scores in blocks


FORMS = [(), ("amplitudes",), ("carrier",), ("bag",), ("shared",), ("shared", "amplitudes", "bag", "carrier")]


def encoding(order=2, per_term=False, parts=("amplitudes", "bag", "carrier"), size=7, rank=3, width=11):
    """Random leaves of unequal sizes, two of the words with an empty bag; a carrier to `width`."""
    rng = np.random.default_rng(5)
    tables = [rng.standard_normal((units, rank, q)) for units, q in zip((4, 3), (3, 2) if order == 2 else (5,))]
    tables = [tables[0]] * order if "shared" in parts else tables
    index = np.stack([rng.integers(0, len(t), (size, rank) if per_term else size) for t in tables], axis=-1)
    inner, bag = int(np.prod([t.shape[2] for t in tables])), rng.integers(-1, 3, (size, 2))
    bag[:2], bag[2] = -1, 1  # empty, and one unit twice
    add = lambda part, array: array if part in parts else None
    return SememeEncoding(tables, index, add("amplitudes", rng.standard_normal((size, rank))),
                          add("carrier", rng.standard_normal((inner, width))), add("bag", bag),
                          add("bag", rng.standard_normal((3, inner))))


def dense_rows(module):
    """The rows of all words by loops, as a function of the parameters that autograd sees through."""
    rows = []
    for w, units in enumerate(module.index.tolist()):
        row = 0.0
        for k in range(module.tables[0].shape[1]):
            term = torch.ones(1, dtype=torch.float64)
            for j, table in enumerate(module.tables):
                term = torch.kron(term, table[units[k][j] if module.index.ndim == 3 else units[j], k])
            row = row + (term if module.amplitudes is None else module.amplitudes[w, k] * term)
        for unit in [] if module.bag is None else module.bag[w].tolist():
            row = row + module.bag_vectors[unit] if unit >= 0 else row
        rows.append(row if module.carrier is None else row @ module.carrier)
    return torch.stack(rows)  # (V, D)


@pytest.mark.parametrize("block", [3, 256])
@pytest.mark.parametrize("parts", FORMS, ids="+".join)
@pytest.mark.parametrize("order, per_term", [(1, False), (1, True), (2, False), (2, True)])
def test_block_scores_have_the_values_and_gradients_of_the_dense_product(order, per_term, parts, block):
    """D39: against autograd through h @ rows.T."""
    module = SememeEmbedding(encoding(order, per_term, parts), torch.float64, block)
    h = torch.randn(2, 4, module.embedding_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    everything, ids = [h, *module.parameters()], torch.tensor([[0, 6, 6, 2]] * 2)
    rows = dense_rows(module)
    ours = module.scores(h + module(ids)), module.scores(2 * h)  # the tables are used four times in one graph
    dense = (h + rows[ids]) @ rows.T, 2 * h @ rows.T
    for found, expected in zip(ours, dense):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    found, expected = (torch.autograd.grad((a.sin() * b).sum(), everything) for a, b in (ours, dense))
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_block_scores_pass_gradcheck_and_refuse_a_second_derivative():
    module = SememeEmbedding(encoding(size=4, rank=2), torch.float64, block=3)
    h = torch.randn(2, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda *_: module.scores(h), (h, *module.parameters()))
    first, = torch.autograd.grad(module.scores(h).square().sum(), h, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_gradients_of_halves_are_products_of_the_other_half_and_the_gradient():
    """D41: one coordinate at a time; halves of one slot, and one half alone."""
    rng = np.random.default_rng(4)
    L, R, X = (torch.as_tensor(rng.standard_normal(shape)) for shape in ((7, 5, 3), (7, 5, 2), (7, 3, 2)))
    left, right = _halves_gradients([L, R], X.flatten(1))
    for w, k in itertools.product(range(7), range(5)):
        for i in range(3):
            np.testing.assert_allclose(left[w, k, i], sum(X[w, i, j] * R[w, k, j] for j in range(2)), rtol=1e-12)
        for j in range(2):
            np.testing.assert_allclose(right[w, k, j], sum(X[w, i, j] * L[w, k, i] for i in range(3)), rtol=1e-12)
    alone, = _halves_gradients([L], X[:, :, 0])
    assert all(torch.equal(alone[:, k], X[:, :, 0]) for k in range(5))


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(one.numel() for one in torch.utils._pytree.tree_leaves(out) if torch.is_tensor(one))])
        return out


@pytest.mark.parametrize("per_term", [False, True])
def test_scores_and_their_gradients_never_hold_the_matrix(per_term):
    module = SememeEmbedding(encoding(2, per_term, ("carrier", "bag"), size=1000), block=50)  # d' = 6
    h = torch.ones(2, 11, requires_grad=True)
    with Largest() as spy:
        module.scores(h).sum().backward()
    assert spy.numel == 1000 * 2  # the scores; an index (V, n) is as large
    with Largest() as spy:
        module.weight.sum()
    assert spy.numel >= 1000 * 11  # the spy sees a matrix


@pytest.mark.parametrize("order, per_term", [(1, False), (2, False), (2, True)])
def test_kept_rows_have_the_gradients_of_the_dense_product_in_every_backward_pass(order, per_term):
    """D39: rows that are kept are not made again, and stay as they are for a second pass."""
    module = SememeEmbedding(encoding(order, per_term, width=29), torch.float64, block=3)  # 4 d' <= 29
    h = torch.randn(4, 29, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    everything, ours, dense = [h, *module.parameters()], module.scores(h), h @ dense_rows(module).T
    expected = torch.autograd.grad(dense.sin().sum(), everything)
    module._bag_rows = lambda ids: pytest.fail("rows are made again")
    for _ in range(2):
        for one, other in zip(torch.autograd.grad(ours.sin().sum(), everything, retain_graph=True), expected):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("width, largest", [(23, 1000), (24, 6000)])
def test_rows_are_kept_where_they_are_a_quarter_of_the_matrix_and_only_for_a_backward_pass(width, largest):
    module = SememeEmbedding(encoding(2, size=1000, width=width), block=50)  # d' = 6; the scores of one state are 1000 numbers
    for trained, numel in ((True, largest), (False, 1000)):
        with Largest() as spy, torch.set_grad_enabled(trained):
            module.scores(torch.ones(1, width))
        assert spy.numel == numel


# ------------------------------------------------------------------ compress


METHODS = [("see", policy) for policy in ("additive", "amplitudes", "shared", "undealt", "morphemes", "senses", "mixed", "terms")]
METHODS += [(method, "additive") for method in ("svd", "weighted-svd", "shuffled", "hashed", "backoff")]


@pytest.mark.parametrize("method, policy", METHODS)
def test_rows_in_the_order_of_the_model_have_the_error_that_is_said(method, policy):
    model = nn.Sequential(nn.Embedding(V, D))
    E0 = model[0].weight.detach().double().numpy()
    done, = compress(model, words(), RATIO, method=method, policy=policy, sweeps=2)
    found = model[0](torch.arange(V)).detach().double().numpy()  # (V, D)
    error = sum(((a - b) ** 2).sum() for a, b in zip(E0, found)) / sum((a**2).sum() for a in E0)
    np.testing.assert_allclose(done.error, error, rtol=1e-5)
    assert error < 1 and done.bytes == 4 * done.floats + model[0].to_encoding().index_bytes
    assert ("svd" in method) == (done.bytes == 4 * done.floats)  # factors have no index


@pytest.mark.parametrize("factors", [False, True])
@pytest.mark.parametrize("order, per_term", [(1, False), (2, False), (2, True)])
def test_in_order_permutes_the_rows_and_leaves_of_one_word_each_keep_an_index_that_costs_nothing(order, per_term, factors):
    start, rows = encoding(order, per_term), np.random.default_rng(0).permutation(7)
    if factors:
        start = SememeEncoding([start.amplitudes[:, :1, None]], np.arange(7)[:, None], carrier=np.ones((1, 5)))
    before = start.rows(np.arange(7))
    turned = in_order(start, rows)
    assert np.array_equal(turned.rows(np.arange(7)), before[rows]) and turned.floats == start.floats
    assert np.array_equal(start.rows(np.arange(7)), before) and turned.index_bytes == start.index_bytes


def test_several_embeddings_have_a_vocabulary_each():
    model = Tied()
    done = compress(model, {"tags": words(101), "words": words()}, 6)
    assert [one.names for one in done] == [["tags"], ["words", "head"]] and [one.shape for one in done] == [(101, 16), (V, D)]
    assert not any(isinstance(module, nn.Embedding) for module in model.modules())
    only = Tied()
    assert compress(only, words(101), 6, name="tags")[0].names == ["tags"] and type(only.words) is nn.Embedding


def with_nan():
    model = Tied()
    model.words.weight.data[5, 3] = torch.nan
    return model


def wrong_head():
    model = build("llama tied")
    model.lm_head = nn.Linear(D, V + 5, bias=False)
    return model


def parametrized():
    model = Tied()
    nn.utils.parametrize.register_parametrization(model.words, "weight", nn.Identity())
    return model


def eight_bits():
    model = nn.Sequential(nn.Embedding(V, D))
    model[0].weight = nn.Parameter(torch.zeros(V, D, dtype=torch.int8), requires_grad=False)
    return model


def twice():
    model = build("gpt2")
    compress(model, words(), RATIO)
    return model


REFUSED = {
    "no embedding": (lambda: nn.Linear(2, 3), {}, DataError, "model: expected an nn.Embedding to replace, got none in Linear"),
    "no place": (lambda: nn.Embedding(V, D), {}, DataError, "model: expected an nn.Embedding to replace, got none in Embedding"),
    "name": (Tied, {"name": "x"}, DataError, "name: expected one of words, tags, got 'x'"),
    "length": (Tied, {"vocabulary": words(300)}, ShapeError, "vocabulary: expected 307 tokens, one a row of words, got 300"),
    "second length": (Tied, {"vocabulary": {"words": words(), "tags": words()}}, ShapeError,
                      "vocabulary: expected 101 tokens, one a row of tags, got 307"),
    "nan": (with_nan, {}, DataError, "words: expected finite numbers, got NaN or infinity in row 5"),
    "pq": (Tied, {"method": "pq"}, DataError, "method: expected one whose result is an encoding, got 'pq'"),
    "ratio": (Tied, {"ratio": 5000}, DataError,
              "ratio: expected 1 to 72.2 for the default form of order 2 with this vocabulary, got 5000"),
    "meta": (lambda: Tied().to("meta"), {}, DataError,
             "words: expected numbers in its weight, got the device meta: load the model first"),
    "parametrized": (parametrized, {}, DataError,
                     "words: expected a weight that is a parameter, got one that is computed: remove its parametrization"),
    "eight bits": (eight_bits, {}, DataError, "0: expected a weight of plain floats, got Tensor of torch.int8"),
    "twice": (twice, {}, DataError, "name: expected one of transformer.wpe, got SememeEmbedding"),
    "tie": (wrong_head, {}, ShapeError, "head: expected shape (307, 32) as the embedding that it is tied to, got (312, 32)"),
    "one weight twice": (
        lambda: build("bart"), {"vocabulary": {"model.shared": words(), "model.decoder.embed_tokens": words()}}, DataError,
        "vocabulary: expected one for each weight, got model.shared and model.decoder.embed_tokens, which share one"),
}


@pytest.mark.parametrize("make, how, error, text", REFUSED.values(), ids=REFUSED)
def test_a_compression_that_is_refused_leaves_the_model_untouched(make, how, error, text):
    model = make()
    before = state(model)
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        compress(model, **{"vocabulary": words(), "ratio": RATIO, **how})
    assert state(model) == before


def test_running_out_of_memory_is_one_line_and_leaves_the_model_untouched(monkeypatch):
    model, fits = Tied(), []

    def full(task, *rest):
        fits.append(task)
        if len(fits) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore lines")
        return real(task, *rest)

    real = MODULE.approximate
    monkeypatch.setattr(MODULE, "approximate", full)
    before = state(model)
    with pytest.raises(DataError, match="^device: expected enough memory, got CUDA out of memory. Tried to allocate 2 GiB.$"):
        compress(model, {"words": words(), "tags": words(101)}, 6)
    assert state(model) == before and len(fits) == 2
    monkeypatch.setattr(MODULE, "approximate", real)
    make, made = MODULE.stand_in, []

    def no_room(place, encoding):
        made.append(place.name)
        return make(place, encoding) if len(made) == 1 else full(None)

    monkeypatch.setattr(MODULE, "stand_in", no_room)
    fits[:] = [None]
    with pytest.raises(DataError, match="^device: expected enough memory"):
        compress(model, {"words": words(), "tags": words(101)}, 6)
    assert state(model) == before and made == ["words", "tags"]  # the first had been made
    with pytest.raises(DataError, match="^device: expected enough memory, got none left$"), device_memory():
        raise MemoryError


def test_a_frozen_embedding_stays_frozen_both_ways():
    model = Tied()
    model.words.weight.requires_grad_(False)
    compress(model, words(), RATIO)
    assert not any(p.requires_grad for p in model.words.parameters()) and model.head.bias.requires_grad
    to_dense(model)
    assert model.head.weight is model.words.weight and not model.words.weight.requires_grad and model.head.bias.requires_grad

