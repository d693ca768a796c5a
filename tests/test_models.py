"""The toy models: what a position sees, padding, the heads, greedy translation."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from see_min.errors import InputError
from see_min.toy.data import IGNORE, padded_rows, pair_batches
from see_min.toy.models import (
    BERTConfig,
    GPTConfig,
    TinyBERT,
    TinyGPT,
    TinyTranslator,
    TranslatorConfig,
    attend,
)

torch.set_num_threads(1)
V, W, D = 11, 13, 6
SIZES = {"n_embd": D, "n_layer": 2, "n_head": 2, "block_size": 7}


def larger(model):
    """Weights so large that every input shows in the output, in float64."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10 if parameter.ndim == 2 else 1)
    return model.double().eval()


def made(name):
    """A small model by name."""
    torch.manual_seed(0)
    if name == "gpt":
        return larger(TinyGPT(GPTConfig(V, **SIZES)))
    if name == "bert":
        return larger(TinyBERT(BERTConfig(V, **SIZES)))
    return larger(TinyTranslator(TranslatorConfig(V, W, **SIZES)))


def words(shape, size, seed=0):
    """Ids from 3 on: neither padding nor begin nor end."""
    return torch.as_tensor(np.random.default_rng(seed).integers(3, size, shape))


def changed_at(ids, place, size):
    """The ids with another word at one place."""
    other = ids.clone()
    other[0, place] = 3 + (ids[0, place] - 2) % (size - 3)
    return other


def padded(ids, more):
    return torch.cat([ids, torch.zeros(len(ids), more, dtype=ids.dtype)], dim=1)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)  # another order of sums


# ------------------------------------------------------------------ attention


def slow_attention(q, k, v, n_head, allowed):
    """softmax(q k^T / sqrt(D/h)) v over the keys with allowed[b, t, s], one number at a time."""
    y, size = np.zeros(q.shape), q.shape[-1] // n_head
    for b, t, h in np.ndindex(*q.shape[:2], n_head):
        head, keys = slice(h * size, (h + 1) * size), np.flatnonzero(allowed[b, t])
        weight = np.exp([q[b, t, head] @ k[b, s, head] / np.sqrt(size) for s in keys])
        parts = zip(weight / weight.sum(), keys, strict=True)
        y[b, t, head] = sum(w * v[b, s, head] for w, s in parts)
    return y


@pytest.mark.parametrize("which", ["all", "causal", "mask"])
def test_attention_is_the_softmax_average_of_what_a_position_may_see(which):
    b, t, s, n_head, size = 2, 5, 5 if which == "causal" else 3, 3, 2
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((b, length, n_head * size)) for length in (t, s, s))
    mask = np.array([[True, True, False], [False, True, False]]) if which == "mask" else None
    allowed = np.ones((b, t, s), dtype=bool)
    allowed &= np.tri(t, s, dtype=bool) if which == "causal" else True
    allowed &= True if mask is None else mask[:, None]
    mask = None if mask is None else torch.as_tensor(mask)
    found = attend(*map(torch.as_tensor, (q, k, v)), n_head, which == "causal", mask)
    expected = slow_attention(q, k, v, n_head, allowed)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------ TinyGPT


def reach(model, inputs, which, size):
    """Whether a word at each place (row) of an input changes the output at each place (column)."""
    expected, rows = model(*inputs), []
    for place in range(inputs[which].shape[1]):
        other = list(inputs)
        other[which] = changed_at(inputs[which], place, size)
        rows.append((model(*other) - expected).abs().amax(dim=-1)[0] > 1e-9)  # (t,)
    return torch.stack(rows).tolist()  # (places, t)


UPPER = np.triu(np.ones((5, 5), dtype=bool)).tolist()  # itself and those before it


def test_gpt_sees_words_so_far_and_bert_those_on_both_sides():
    assert reach(made("gpt"), [words((1, 5), V)], 0, V) == UPPER
    assert np.all(reach(made("bert"), [words((1, 5), V)], 0, V))


def test_gpt_states_start_from_words_and_positions_and_end_in_the_tied_head():
    model, ids = made("gpt"), words((2, 4), V)
    E, states = model.token_embedding.weight, model.hidden_states(ids)
    assert [tuple(state.shape) for state in states] == [(2, 4, D)] * 3
    close(states[0], E[ids] + model.position_embedding.weight[:4])
    close(model(ids), model.norm(states[-1]) @ E.T)
    assert sum(p.numel() for p in model.parameters() if p.shape[0] == V) == V * D  # one matrix


def test_initial_values_do_not_grow_with_depth():
    torch.manual_seed(0)
    model = TinyGPT(GPTConfig(101, n_embd=64, n_layer=8))
    std = {name: float(p.detach().std()) for name, p in model.named_parameters() if p.ndim == 2}
    assert std["token_embedding.weight"] == pytest.approx(0.05, rel=0.05)  # 6,464 draws
    assert std["blocks.7.mlp.0.weight"] == pytest.approx(0.02, rel=0.05)
    assert std["blocks.7.mlp.2.weight"] == pytest.approx(0.02 / 4, rel=0.05)
    assert std["blocks.7.attention.project.weight"] == pytest.approx(0.02 / 4, rel=0.05)


# ------------------------------------------------------------------ TinyBERT


def test_bert_states_of_words_do_not_depend_on_padding():
    """Nor on a row of padding alone, whose states are finite."""
    model, ids = made("bert"), words((3, 4), V)
    rows = torch.cat([padded(ids, 3), torch.zeros(1, 7, dtype=ids.dtype)])  # (4, 7)
    for one, other in zip(model.hidden_states(ids), model.hidden_states(rows), strict=True):
        close(other[:3, :4], one)
        assert other.isfinite().all()


def test_bert_head_is_the_transform_against_the_embedding_plus_a_bias():
    model = made("bert")
    with torch.no_grad():
        model.head_bias.copy_(torch.arange(V))
    state = model.hidden_states(words((2, 4), V))[-1]
    linear, _, norm = model.transform
    h = norm(F.gelu(linear(model.norm(state)))).detach().numpy()
    E = model.token_embedding.weight.detach().numpy()
    expected = np.einsum("btd,vd->btv", h, E) + np.arange(V)
    close(model.logits(state).detach(), torch.as_tensor(expected))


# ------------------------------------------------------------------ TinyTranslator


def test_translator_logits_of_words_do_not_depend_on_padding():
    model, source, target = made("translator"), words((3, 4), V), words((3, 3), W)
    expected = model(source, target)
    close(model(padded(source, 3), padded(target, 2))[:, :3], expected)


def test_translator_logits_do_not_depend_on_later_target_words_but_on_all_others():
    model, inputs = made("translator"), [words((1, 4), V), words((1, 5), W)]
    assert reach(model, inputs, 1, W) == UPPER
    assert np.all(reach(model, inputs, 0, V))


def test_translator_states_are_the_encoders_then_the_decoders():
    model, source, target = made("translator"), words((2, 4), V), words((2, 3), W)
    states = model.hidden_states(source, target)
    assert [tuple(state.shape) for state in states] == [(2, 4, D)] * 3 + [(2, 3, D)] * 3
    close(states[0], model.source_embedding(source) + model.source_positions.weight[:4])
    close(states[3], model.target_embedding(target) + model.target_positions.weight[:3])
    close(model(source, target), model.norm(states[-1]) @ model.target_embedding.weight.T)


def test_translator_learns_to_reverse_sentences_and_translates_them_exactly():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    sources = [rng.integers(3, V, 2 + i % 4).tolist() for i in range(8)]
    pairs = [(source, source[::-1]) for source in sources]
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "block_size": 7}
    model = TinyTranslator(TranslatorConfig(V, V, **sizes, dropout=0.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for batch in pair_batches(pairs, 8, 150, seed=0, pad=0, begin=1, end=2):
        source, target, answer = map(torch.as_tensor, (*batch.inputs, batch.targets))
        optimizer.zero_grad()
        logits = model(source, target).flatten(0, 1)  # (b t, V)
        F.cross_entropy(logits, answer.flatten(), ignore_index=IGNORE).backward()
        optimizer.step()
    read = torch.as_tensor(padded_rows([[*source, 2] for source in sources], 0))
    expected = padded_rows([[*source[::-1], 2] for source in sources], 0)
    assert model.translate(read, 7).tolist() == expected.tolist()


# ------------------------------------------------------------------ all of them


class Doubled(nn.Module):
    """An embedding of another kind: rows 2 E[ids], scores h @ (2 E).T."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight.detach() / 2)

    def forward(self, ids):
        return 2 * self.weight[ids]

    def scores(self, h):
        return h @ (2 * self.weight).T


@pytest.mark.parametrize("name", ["gpt", "bert", "translator"])
def test_an_embedding_of_another_kind_takes_its_place_in_every_model(name):
    model, new = made(name), {}
    inputs = [words((2, 4), V)] * (1 if name in ("gpt", "bert") else 2)
    expected = model(*inputs)
    for key in model.embeddings:
        old = model.get_submodule(key)
        setattr(model, key, new.setdefault(id(old), Doubled(old.weight)))
    logits = model(*inputs)
    close(logits, expected)
    logits.square().sum().backward()
    assert len(new) == (2 if name == "translator" else 1)
    assert all(one.weight.grad.abs().sum() > 0 for one in new.values())


@pytest.mark.parametrize("name, shapes, text", [
    ("gpt", [(1, 8)], "ids: expected at most 7 positions, got 8"),
    ("translator", [(1, 2), (1, 9)], "target: expected at most 7 positions, got 9"),
])
def test_more_positions_than_the_model_has_are_refused(name, shapes, text):
    with pytest.raises(InputError, match=text):
        made(name)(*(words(shape, V) for shape in shapes))


@pytest.mark.parametrize("call, text", [
    (lambda: BERTConfig(V, n_embd=7, n_head=2), "n_embd: expected a multiple of 2 heads, got 7"),
    (lambda: TranslatorConfig(V, W, n_head=0), "n_head: expected at least 1, got 0"),
    (lambda: made("translator").translate(words((1, 2), V), 0),
     "longest: expected at least 1, got 0"),
])
def test_sizes_that_do_not_fit_are_refused(call, text):
    with pytest.raises(InputError, match=text):
        call()
