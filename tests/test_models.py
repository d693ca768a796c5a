"""TinyBERT and TinyTranslator: what a position sees, padding, the heads, greedy translation, and replaced embeddings."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from see_min.bridge import GPTConfig, TinyGPT, swap_embedding
from see_min.bridge.models import BERTConfig, SelfAttention, TinyBERT, attend
from see_min.bridge.translator import TinyTranslator, TranslatorConfig
from see_min.checks import DataError, ShapeError
from see_min.encoding import SememeEncoding
from see_min.sequences import IGNORE, padded_rows, pair_batches

torch.set_num_threads(1)
V, W, D = 11, 13, 6
SIZES = {"dimension": D, "blocks": 2, "heads": 2, "context": 7}


def larger(model, factor=10):
    """Weights so large that every input shows in the output, in float64."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor if parameter.ndim == 2 else 1)
    return model.double().eval()


def bert(seed=0):
    torch.manual_seed(seed)
    return larger(TinyBERT(BERTConfig(V, **SIZES)))


def translator(seed=0, factor=10, **changes):
    torch.manual_seed(seed)
    return larger(TinyTranslator(TranslatorConfig(V, W, **(SIZES | changes))), factor)


def words(shape, size, seed=0):
    """Ids from 3 on: neither padding nor begin nor end."""
    return torch.as_tensor(np.random.default_rng(seed).integers(3, size, shape))


def padded(ids, more):
    return torch.cat([ids, torch.zeros(len(ids), more, dtype=ids.dtype)], dim=1)


def encoding(size, seed=0):
    """An encoding of D dimensions, of order 2."""
    rng = np.random.default_rng(seed)
    tables = [0.3 * rng.standard_normal((4, 3, q)) for q in (3, 2)]
    return SememeEncoding(tables, rng.integers(0, 4, (size, 2)), bag=rng.integers(-1, 3, (size, 2)),
                          bag_vectors=rng.standard_normal((3, D)))


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------ attention


@pytest.mark.parametrize("which", ["all", "causal", "seen"])
def test_attention_is_the_softmax_average_of_what_a_position_may_see(which):
    batch, time, keys, heads, size = 2, 5, 5 if which == "causal" else 3, 3, 2
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((batch, t, heads * size)) for t in (time, keys, keys))
    seen = np.array([[True, True, False], [False, True, False]]) if which == "seen" else np.ones((batch, keys), dtype=bool)
    expected = np.zeros((batch, time, heads * size))
    for b in range(batch):
        for t in range(time):
            for part in (slice(h * size, (h + 1) * size) for h in range(heads)):
                allowed = [s for s in range(keys) if seen[b, s] and (which != "causal" or s <= t)]
                weight = np.exp([q[b, t, part] @ k[b, s, part] / np.sqrt(size) for s in allowed])
                expected[b, t, part] = sum(w * v[b, s, part] for w, s in zip(weight / weight.sum(), allowed))
    mask = torch.as_tensor(seen) if which == "seen" else None
    found = attend(*map(torch.as_tensor, (q, k, v)), heads, causal=which == "causal", seen=mask)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_attention_with_a_cache_is_causal_attention_position_by_position():
    torch.manual_seed(0)
    attention = SelfAttention(GPTConfig(V, **SIZES), causal=True).double()
    x, cache = torch.randn(2, 5, D, dtype=torch.float64), []
    steps = [attention(x[:, t : t + 1], cache=cache) for t in range(5)]
    close(torch.cat(steps, dim=1), attention(x))


def test_tiny_gpt_keeps_the_names_that_saved_models_have():
    block = [f"{part}.{kind}" for part in ("norm1", "norm2", "attention.qkv", "attention.project", "mlp.0", "mlp.2")
             for kind in ("weight", "bias")]
    expected = ["token_embedding.weight", "position_embedding.weight", "norm.weight", "norm.bias",
                *(f"blocks.{number}.{name}" for number in range(2) for name in block)]
    assert sorted(TinyGPT(GPTConfig(V, **SIZES)).state_dict()) == sorted(expected)


# ------------------------------------------------------------------ TinyBERT


def test_bert_states_of_words_do_not_depend_on_padding():
    model, ids = bert(), words((3, 4), V)
    for short, long in zip(model.hidden_states(ids), model.hidden_states(padded(ids, 3))):
        close(long[:, :4], short)


def test_bert_sees_words_on_both_sides():
    model, ids = bert(), words((1, 5), V)
    for changed in range(5):
        other = ids.clone()
        other[0, changed] = 3 + (ids[0, changed] - 2) % (V - 3)
        difference = (model(other) - model(ids)).abs().amax(dim=-1)[0]  # (t,)
        assert (difference > 1e-6).all()


def test_bert_rows_of_padding_only_are_finite_and_leave_others_alone():
    model, ids = bert(), words((1, 4), V)
    both = model(torch.cat([ids, torch.zeros_like(ids)]))
    assert both.isfinite().all()
    close(both[:1], model(ids))


def test_bert_head_is_the_transform_against_the_embedding_plus_a_bias():
    model = bert()
    with torch.no_grad():
        model.head_bias.copy_(torch.arange(V))
    state = model.hidden_states(words((2, 4), V))[-1]
    linear, _, norm = model.transform
    h = norm(F.gelu(linear(model.norm(state)))).detach().numpy()
    expected = np.einsum("btd,vd->btv", h, model.token_embedding.weight.detach().numpy()) + np.arange(V)
    np.testing.assert_allclose(model.logits(state).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_bert_learns_which_word_is_hidden():
    torch.manual_seed(0)
    model = TinyBERT(BERTConfig(V, dimension=16, heads=2, context=4))
    text = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])
    hidden = text.clone()
    hidden[:, 1] = 1
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(hidden)[:, 1], text[:, 1]).backward()
        optimizer.step()
    assert model(hidden)[:, 1].argmax(dim=-1).tolist() == [4, 8]


# ------------------------------------------------------------------ TinyTranslator


def test_translator_logits_of_words_do_not_depend_on_padding():
    model, source, target = translator(), words((3, 4), V), words((3, 3), W)
    expected = model(source, target)
    close(model(padded(source, 3), padded(target, 2))[:, :3], expected)


def test_translator_logits_do_not_depend_on_later_target_words_but_on_all_others():
    model, source, target = translator(), words((1, 4), V), words((1, 5), W)
    expected = model(source, target)
    for changed in range(5):
        other = target.clone()
        other[0, changed] = 3 + (target[0, changed] - 2) % (W - 3)
        found = model(source, other)
        close(found[:, :changed], expected[:, :changed])
        assert ((found - expected).abs().amax(dim=-1)[0, changed:] > 1e-6).all()
    for changed in range(4):
        other = source.clone()
        other[0, changed] = 3 + (source[0, changed] - 2) % (V - 3)
        assert ((model(other, target) - expected).abs().amax(dim=-1) > 1e-6).all()


def test_translator_states_are_the_encoders_then_the_decoders():
    model, source, target = translator(), words((2, 4), V), words((2, 3), W)
    states = model.hidden_states(source, target)
    assert [tuple(state.shape) for state in states] == [(2, 4, D)] * 3 + [(2, 3, D)] * 3
    close(states[0], model.source_embedding(source) + model.source_positions.weight[:4])
    close(states[3], model.target_embedding(target) + model.target_positions.weight[:3])
    close(model(source, target), model.norm(states[-1]) @ model.target_embedding.weight.T)


def greedy_by_hand(model, source, longest):
    """One sentence: the whole model again for every word."""
    found = []
    while len(found) < longest and 2 not in found:
        target = torch.tensor([[1, *found]])
        found.append(int(model(source[None], target)[0, -1].argmax()))
    return found


@pytest.mark.parametrize("seed", [0, 3, 4, 5])  # models that end some sentences, not all
def test_translation_is_the_likeliest_word_after_the_whole_model_ran_again(seed):
    model = translator(seed, factor=20)
    with torch.no_grad():
        model.target_embedding.weight[2] *= 3  # so that the end is likely
    sources = [words((1 + i % 5,), V, seed=i) for i in range(12)]
    expected = [greedy_by_hand(model, source, 7) for source in sources]
    found = model.translate(torch.as_tensor(padded_rows([s.tolist() for s in sources], 0)), 7)
    assert found.tolist() == padded_rows(expected, 0).tolist()
    assert len({len(row) for row in expected}) > 1


def test_translation_stops_when_every_sentence_has_ended():
    model = translator()
    with torch.no_grad():
        model.norm.weight.zero_()
        model.norm.bias.copy_(model.target_embedding.weight[2] * 100)
        model.target_embedding.weight[3:] = 0
        model.target_embedding.weight[:2] = 0
    assert model.translate(words((3, 4), V), 7).tolist() == [[2]] * 3


def test_translation_draws_no_dropout_and_leaves_the_mode_alone():
    model, source = translator(dropout=0.5), words((2, 4), V)
    expected = model.translate(source, 6)
    model.train()
    assert all(torch.equal(model.translate(source, 6), expected) for _ in range(3))
    assert model.training and model.encoder[0].drop.training
    assert not torch.equal(model(source, source), model(source, source))


def test_translator_learns_to_reverse_sentences_and_translates_them_exactly():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    sources = [rng.integers(3, V, 2 + i % 4).tolist() for i in range(8)]
    pairs = [(source, source[::-1]) for source in sources]
    model = TinyTranslator(TranslatorConfig(V, V, dimension=32, blocks=2, heads=2, context=7, shared=True, dropout=0.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for batch in pair_batches(pairs, 8, 150, seed=0, pad=0, begin=1, end=2):
        source, target, answer = map(torch.as_tensor, (*batch.inputs, batch.targets))
        optimizer.zero_grad()
        F.cross_entropy(model(source, target).flatten(0, 1), answer.flatten(), ignore_index=IGNORE).backward()
        optimizer.step()
    read = torch.as_tensor(padded_rows([[*source, 2] for source in sources], 0))
    assert model.translate(read, 7).tolist() == padded_rows([[*source[::-1], 2] for source in sources], 0).tolist()


# ------------------------------------------------------------------ all of them


def models():
    """Name, model, inputs, and embeddings to replace with their sizes."""
    torch.manual_seed(0)
    source, target = words((2, 4), V), words((2, 3), V)
    shapes = TranslatorConfig(V, W, **SIZES), TranslatorConfig(V, V, shared=True, **SIZES)
    return {
        "gpt": (TinyGPT(GPTConfig(V, **SIZES)), (source,), {"token_embedding": V}),
        "bert": (TinyBERT(BERTConfig(V, **SIZES)), (padded(source, 1),), {"token_embedding": V}),
        "translator": (TinyTranslator(shapes[0]), (source, target), {"source_embedding": V, "target_embedding": W}),
        "shared": (TinyTranslator(shapes[1]), (source, target), {"target_embedding": V}),
    }


@pytest.mark.parametrize("name", ["gpt", "bert", "translator", "shared"])
def test_forward_is_the_logits_of_the_last_hidden_state(name):
    model, inputs, _ = models()[name]
    model.eval()
    close(model(*inputs), model.logits(model.hidden_states(*inputs)[-1]))


@pytest.mark.parametrize("name", ["gpt", "bert", "translator", "shared"])
def test_replaced_embeddings_run_forward_and_backward_in_every_model(name):
    model, inputs, embeddings = models()[name]
    model.eval()
    for key, size in embeddings.items():
        swap_embedding(model, encoding(size), key)
    if name == "shared":
        assert model.source_embedding is model.target_embedding
    logits = model(*inputs)
    logits.square().sum().backward()
    assert logits.shape == (*inputs[-1].shape, W if name == "translator" else V)
    for key in embeddings:
        gradients = [parameter.grad for parameter in getattr(model, key).parameters()]
        assert all(g is not None and g.isfinite().all() and g.abs().sum() > 0 for g in gradients)


@pytest.mark.parametrize("name", ["gpt", "bert", "translator"])
def test_an_embedding_without_loss_leaves_every_logit_as_it_was(name):
    model, inputs, embeddings = models()[name]
    model.double().eval()
    expected = model(*inputs)
    for key in embeddings:
        matrix = getattr(model, key).weight.detach().numpy()
        swap_embedding(model, SememeEncoding([matrix[:, None, :]], np.arange(len(matrix))[:, None]), key)
    close(model(*inputs), expected)


@pytest.mark.parametrize(
    "name, inputs, text",
    [
        ("bert", (words((1, 8), V),), "ids: expected at most 7 positions, got 8"),
        ("translator", (words((1, 8), V), words((1, 2), V)), "source: expected at most 7 positions, got 8"),
        ("translator", (words((1, 2), V), words((1, 9), V)), "target: expected at most 7 positions, got 9"),
    ],
)
def test_more_positions_than_the_context_are_refused(name, inputs, text):
    with pytest.raises(ShapeError, match=text):
        models()[name][0](*inputs)


def test_sizes_that_do_not_fit_are_refused():
    for config in (lambda: BERTConfig(V, dimension=7, heads=2), lambda: TranslatorConfig(V, V, dimension=7, heads=2)):
        with pytest.raises(DataError, match="dimension: expected a multiple of 2 heads, got 7"):
            config()
    with pytest.raises(DataError, match="target_vocabulary: expected 11 words as the source has, .* got 13"):
        TranslatorConfig(V, W, shared=True)
    with pytest.raises(DataError, match="longest: expected at least 1, got 0"):
        translator().translate(words((1, 2), V), 0)


def test_a_shared_embedding_is_one_parameter():
    model = models()["shared"][0]
    assert model.source_embedding is model.target_embedding
    assert sum(isinstance(module, nn.Embedding) for module in model.modules()) == 3  # words, and the positions of both sides
