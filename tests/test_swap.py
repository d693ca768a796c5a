"""Replacing embeddings and tied heads in any model, and putting dense ones back."""

import copy
import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from see_min.bridge import SememeEmbedding, TiedHead, find_embeddings, swap_embedding, to_dense
from see_min.encoding import SememeEncoding
from see_min.errors import InputError

torch.set_num_threads(1)
V, D = 11, 6
IDS = torch.tensor([[1, 2, 10], [0, 4, 4]])


def encoding(seed=0, shape=(V, D)):
    rng = np.random.default_rng(seed)
    tables = [0.3 * rng.standard_normal((U, 2, 2)) for U in (4, 3)]
    index = np.stack([rng.integers(0, len(table), (shape[0], 2)) for table in tables], axis=-1)
    return SememeEncoding(tables, index, rng.standard_normal((4, shape[1])))


def lossless(matrix):
    """Every word is its own unit, order 1, one term."""
    return SememeEncoding([matrix[:, None, :]], None)


class Tied(nn.Module):
    """Two embeddings, a head that shares the weight of the one over words, and a free head."""

    def __init__(self, bias=False, **options):
        super().__init__()
        torch.manual_seed(0)
        words = nn.Embedding(V, D, **options)
        self.body = nn.ModuleDict({"words": words, "places": nn.Embedding(V, 2)})
        self.head, self.free = nn.Linear(D, V, bias=bias), nn.Linear(D, V, bias=False)
        self.head.weight = words.weight

    def forward(self, ids):
        h = self.body["words"](ids)
        return self.head(h) + self.free(h)


def state(model):
    """Modules and parameters as objects."""
    modules = [(key, id(module)) for key, module in model.named_modules(remove_duplicate=False)]
    parameters = model.named_parameters(remove_duplicate=False)
    return modules, [(key, id(p)) for key, p in parameters]


def test_a_head_that_shares_the_weight_is_replaced_with_its_bias_and_no_other():
    model = Tied(bias=True)
    nn.init.normal_(model.head.bias)
    bias = model.head.bias
    assert swap_embedding(model, encoding()) == ["body.words", "head"]
    assert isinstance(model.head, TiedHead) and model.head.embedding is model.body["words"]
    assert isinstance(model.free, nn.Linear) and isinstance(model.body["places"], nn.Embedding)
    E = torch.as_tensor(encoding().rows(np.arange(V))).float()  # (V, D)
    expected = F.linear(E[IDS], E, bias) + model.free(E[IDS])
    torch.testing.assert_close(model(IDS), expected, rtol=1e-5, atol=1e-6)
    assert any(p is bias for p in model.parameters())


def test_a_lossless_encoding_keeps_the_outputs_of_the_dense_model():
    dense = Tied().double()
    model = copy.deepcopy(dense)
    swap_embedding(model, lossless(dense.head.weight.detach().numpy()))
    torch.testing.assert_close(model(IDS), dense(IDS), rtol=1e-12, atol=1e-12)
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_swap_by_name_takes_that_embedding():
    model = Tied()
    assert swap_embedding(model, lossless(np.ones((V, 2))), "body.places") == ["body.places"]
    assert isinstance(model.body["words"], nn.Embedding) and isinstance(model.head, nn.Linear)


@pytest.mark.parametrize("same_module", [True, False])
def test_swap_replaces_an_embedding_under_all_names_that_share_its_weight(same_module):
    model = nn.Module()
    model.encoder = model.decoder = nn.Embedding(V, D)
    if not same_module:
        model.decoder = nn.Embedding(V, D)
        model.decoder.weight = model.encoder.weight
    assert swap_embedding(model, encoding()) == ["encoder", "decoder"]
    assert model.encoder is model.decoder and isinstance(model.encoder, SememeEmbedding)


def test_a_deep_copy_ties_its_own_head_to_its_own_embedding():
    model = Tied()
    swap_embedding(model, encoding())
    twin, before = copy.deepcopy(model), model(IDS)
    assert twin.head.embedding is twin.body["words"] is not model.head.embedding
    with torch.no_grad():
        twin.body["words"].table_0.zero_()
    assert torch.equal(model(IDS), before)


def test_to_dense_gives_plain_classes_with_the_outputs_the_tie_and_the_freezing():
    model = Tied(bias=True, padding_idx=4)
    model.head.weight.requires_grad_(False)
    shapes = [(key, p.shape) for key, p in model.named_parameters()]
    swap_embedding(model, encoding())
    assert not any(p.requires_grad for p in model.body["words"].parameters())
    before = model(IDS)
    assert to_dense(model) is model and model.head.weight is model.body["words"].weight
    torch.testing.assert_close(model(IDS), before, rtol=1e-5, atol=1e-6)
    assert [(key, p.shape) for key, p in model.named_parameters()] == shapes
    assert not model.head.weight.requires_grad and model.head.bias.requires_grad
    assert model.body["words"].padding_idx == 4 and not model.head.weight[4].any()


@pytest.mark.parametrize("zero", [False, True])
def test_gradients_with_padding_and_a_tied_head_are_those_of_the_dense_rows(zero):
    dense = Tied(bias=True, padding_idx=4).double()
    if not zero:
        nn.init.normal_(dense.head.weight)
    model = copy.deepcopy(dense)
    swap_embedding(model, encoding())
    start = model.head.weight  # (V, D), a function of the parameters
    assert bool(start[4].any()) is not zero
    with torch.no_grad():
        dense.head.weight.copy_(start)
    torch.testing.assert_close(model(IDS), dense(IDS), rtol=1e-12, atol=1e-12)
    for one in (model, dense):
        one(IDS).square().sum().backward()
    parameters = list(model.body["words"].parameters())
    expected = torch.autograd.grad(start, parameters, dense.head.weight.grad)
    for p, gradient in zip(parameters, expected):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-10, atol=1e-10)


def test_a_compiled_model_has_equal_outputs_and_gradients():
    model, found = Tied(), []
    swap_embedding(model, encoding())
    for run in (model, torch.compile(model, backend="aot_eager")):
        model.zero_grad()
        run(IDS).square().mean().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([run(IDS).detach(), *gradients])
    for plain, fused in zip(*found, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-6)


def test_forward_hooks_go_over_both_ways_and_their_handles_remove_them():
    model, seen = Tied(), []

    def note(module, _, output):
        seen.append(type(module).__name__)
        output.requires_grad_(True)

    handle = model.body["words"].register_forward_hook(note)
    swap_embedding(model, encoding())
    model(IDS)
    to_dense(model)(IDS)
    assert seen == ["SememeEmbedding", "Embedding"]
    handle.remove()
    model(IDS)
    assert len(seen) == 2


# ---------------------------------------------------------------- refused


class Other(nn.Module):
    """A head that is no nn.Linear."""

    def __init__(self, weight):
        super().__init__()
        self.kernel = weight


def held_by_another_module():
    model = Tied()
    model.other = Other(model.head.weight)
    return model


def held_by_the_model():
    model = Tied()
    model.out = model.head.weight
    return model


def held_as_memory():
    model = Tied()
    model.free.weight.data = model.head.weight.data
    return model


def scaled():
    model = nn.ModuleDict({"a": nn.Embedding(V, D), "b": nn.Embedding(V, D)})
    model.b.weight, model.b.embed_scale = model.a.weight, 2.0
    return model


def parametrized():
    model = Tied()
    nn.utils.parametrize.register_parametrization(model.body["words"], "weight", nn.Identity())
    return model


def eight_bits():
    model = nn.Sequential(nn.Embedding(V, D))
    model[0].weight = nn.Parameter(torch.zeros(V, D, dtype=torch.int8), requires_grad=False)
    return model


def meta():
    return Tied().to("meta")


LOOKS = "body.words: expected an embedding that only looks rows up, got Embedding with "
PLAIN = "body.words: expected a weight that is a parameter of plain floats, got "
NONE = "model: expected an nn.Embedding to replace, got none in "
SHARED = "body.words: expected a weight that only embeddings and linear layers share, got "
REFUSED = [
    (partial(nn.Linear, 2, 3), None, NONE + "Linear"),
    (partial(nn.Embedding, V, D), None, NONE + "Embedding"),
    (Tied, "words", "name: expected one of body.words, body.places, got 'words'"),
    (Tied, "body.places", "encoding: expected shape (11, 2) as body.places, got (11, 6)"),
    (partial(Tied, max_norm=1.0), None, LOOKS + "max_norm 1.0"),
    (partial(Tied, sparse=True), None, LOOKS + "sparse"),
    (partial(Tied, scale_grad_by_freq=True), None, LOOKS + "scale_grad_by_freq"),
    (held_by_another_module, None, SHARED + "other.kernel"),
    (held_by_the_model, None, SHARED + "out"),
    (held_as_memory, None, SHARED + "free.weight"),
    (scaled, None, "b: expected scale 1 as a, got 2"),
    (parametrized, None, PLAIN + "a computed "),
    (meta, None, PLAIN + "Parameter of torch.float32 on meta"),
    (eight_bits, None, PLAIN.replace("body.words", "0") + "Parameter of torch.int8"),
]


@pytest.mark.parametrize("make, name, text", REFUSED)
def test_a_swap_that_is_refused_leaves_the_model_untouched(make, name, text):
    model = make()
    before = state(model)
    with pytest.raises(InputError, match=f"^{re.escape(text)}"):
        swap_embedding(model, encoding(), name)
    assert state(model) == before


def test_embeddings_are_found_the_largest_first():
    assert [found.name for found in find_embeddings(Tied())] == ["body.words", "body.places"]
