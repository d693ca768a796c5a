"""Replacing embeddings and tied heads in any model, and putting dense ones back."""

import re

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


def encoding(width=D):
    rng = np.random.default_rng(0)
    tables = [0.3 * rng.standard_normal((U, 2, 2)) for U in (4, 3)]
    index = np.stack([rng.integers(0, len(table), (V, 2)) for table in tables], axis=-1)
    return SememeEncoding(tables, index, rng.standard_normal((4, width)))


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


def test_the_largest_embedding_is_swapped_or_the_one_that_is_named():
    model = Tied()
    assert [found.name for found in find_embeddings(model)] == ["body.words", "body.places"]
    assert swap_embedding(model, encoding(2), "body.places") == ["body.places"]
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


# ---------------------------------------------------------------- refused


def parametrized(model):
    nn.utils.parametrize.register_parametrization(model.body["words"], "weight", nn.Tanh())


def eight_bits(model):
    weight = torch.zeros(V, D, dtype=torch.int8)
    model.body["words"].weight = nn.Parameter(weight, requires_grad=False)


def scaled(model):
    model.other = nn.Embedding(V, D)
    model.other.weight, model.other.embed_scale = model.head.weight, 2.0


def no_embedding(model):
    del model.body["words"], model.body["places"]


LOOKS = "body.words: expected an embedding that only looks rows up, got Embedding with "
LINEAR = "head: expected a linear layer that only multiplies, got Linear with "
PLAIN = "body.words: expected a weight that is a parameter of plain floats, got "
SHARED = "body.words: expected a weight that only embeddings and linear layers share, got "
REFUSED = [
    (no_embedding, None, "model: expected an nn.Embedding to replace, got none in Tied"),
    (id, "words", "name: expected one of body.words, body.places, got 'words'"),
    (id, "body.places", "encoding: expected shape (11, 2) as body.places, got (11, 6)"),
    (lambda m: setattr(m.body["words"], "max_norm", 1.0), None, LOOKS + "max_norm"),
    (lambda m: m.body["words"].register_forward_hook(print), None, LOOKS + "_forward_hooks"),
    (lambda m: m.head.register_forward_pre_hook(print), None, LINEAR + "_forward_pre_hooks"),
    (lambda m: m.head.register_full_backward_hook(print), None, LINEAR + "_backward_hooks"),
    (lambda m: setattr(m.head, "forward", print), None, LINEAR + "a forward of its own"),
    (lambda m: m.head.weight.register_hook(print), None,
     "body.words: expected a weight without hooks, got one with hooks"),
    (scaled, None, "other: expected scale 1 as body.words, got 2"),
    (lambda m: setattr(m, "out", m.head.weight), None, SHARED + "out"),
    (lambda m: setattr(m, "out", m.head.weight.T), None, SHARED + "out"),  # another shape
    (lambda m: setattr(m, "out", [m.head.weight]), None, SHARED + "out"),
    (lambda m: m.register_buffer("out", m.head.weight.data[3:]), None, SHARED + "out"),
    (lambda m: setattr(m.free.weight, "data", m.head.weight.data), None, SHARED + "free.weight"),
    (parametrized, None, PLAIN + "Tensor of torch.float32 on cpu"),
    (lambda m: m.to("meta"), None, PLAIN + "Parameter of torch.float32 on meta"),
    (eight_bits, None, PLAIN + "Parameter of torch.int8 on cpu"),
]


def objects(model):
    modules = model.named_modules(remove_duplicate=False)
    return [(key, id(one)) for pairs in (modules, model.named_parameters()) for key, one in pairs]


@pytest.mark.parametrize("change, name, text", REFUSED)
def test_a_swap_that_is_refused_leaves_the_model_untouched(change, name, text):
    model = Tied()
    change(model)
    before = objects(model)
    with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
        swap_embedding(model, encoding(), name)
    assert objects(model) == before
