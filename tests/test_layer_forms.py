"""Layer methods in models: what stands in the blocks, what it computes, counts and trains."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from see_min.bridge.finetune import stage2  # noqa: E402
from see_min.errors import InputError  # noqa: E402
from see_min.related.layers import forms  # noqa: E402
from see_min.related.layers.layer import masked  # noqa: E402
from see_min.toy.data import language_batches  # noqa: E402
from see_min.toy.models import BERTConfig, GPTConfig, TinyBERT, TinyGPT  # noqa: E402

V, D, HEADS, T = 61, 48, 2, 12


def model(kind="gpt", seed=0):
    torch.manual_seed(seed)
    if kind == "gpt":
        one = TinyGPT(GPTConfig(V, D, 2, HEADS, T))
    else:
        one = TinyBERT(BERTConfig(V, D, 2, HEADS, T, pad=V - 1))
    for name, parameter in one.blocks.named_parameters():
        mean = float("norm" in name and name.endswith("weight"))
        torch.nn.init.normal_(parameter, mean, 0.3 if parameter.ndim == 1 else 0.15)
    return one.eval()


def batches(steps=1, size=24, seed=0):
    ids = np.random.default_rng(7).integers(0, V - 1, 900)
    return list(language_batches(ids, T, size, steps, seed))


def output(one):
    with torch.no_grad():
        return one.hidden_states(torch.as_tensor(batches()[0].inputs[0]))[-1]


def blocks(method=None, ratio=2, kind="gpt"):
    found = forms.Blocks(model(kind), batches()[0], batches(6, 8, seed=1))
    if method:
        forms.compress_blocks(found, method, ratio)
    return found


@pytest.mark.parametrize("kind, method", [
    *(("gpt", name) for name in forms.FORMS if name != "csformer"),
    ("bert", "rom"), ("bert", "modegpt")])
def test_every_method_keeps_to_the_budget_and_is_nearer_than_another_model(method, kind):
    """csformer needs blocks of 16 x 16 that are few beside the layer."""
    found, dense = blocks(method, kind=kind), blocks(kind=kind)
    budget = dense.parameters() / 2
    assert found.parameters() <= budget * 1.001
    assert found.parameters() > 0.6 * budget or method == "quantization"
    other = copy.deepcopy(dense.model)
    other.blocks = model(kind, seed=1).blocks
    exact = output(dense.model)
    errors = [float((output(one) - exact).square().sum()) for one in (found.model, other)]
    assert 0 < errors[0] < errors[1]


def test_layers_get_their_inputs_from_those_before_them_already_compressed():
    found, dense, inputs = blocks(), blocks(), {}
    for name in found.names:
        inputs[name] = found.inputs(name)
        found.replace(name, masked(0.5 * found.weight(name), 1, 0))
    first, second = found.names[:2]
    assert np.array_equal(inputs[first], dense.inputs(first))
    assert not np.allclose(inputs[second], dense.inputs(second))
    assert all(np.allclose(found.inputs(name), inputs[name], atol=1e-5) for name in found.names)


@pytest.mark.parametrize("method", [
    "magnitude", "modegpt", "numerical", "micro-prune", "micro-unify", "quantization", "mpo"])
def test_finetuning_moves_what_is_kept_and_no_mask(method):
    """Zeros stay; unified blocks keep one absolute value; codes stay; the core stays shared."""
    found, fine = blocks(method), batches(6, 8, seed=2)
    before = {n: found.model.get_submodule(n).weight.detach().clone() for n in found.names}
    stage2(found.model, model(), fine, len(fine), lr=1e-2)
    for name, old in before.items():
        layer = found.model.get_submodule(name)
        new = layer.weight.detach()
        assert (new != old).any() == bool(old.any())  # numerical pruning may leave no head at all
        if method in ("magnitude", "modegpt", "numerical", "micro-prune"):
            assert (new[old == 0] == 0).all() and (old == 0).any()
        if method == "micro-unify":
            was, now = (w.abs().reshape(-1, 8) for w in (old, new))
            unified = was.amax(1) - was.amin(1) < 1e-6
            assert unified.any() and (now.amax(1) - now.amin(1) < 1e-6)[unified].all()
        if method == "quantization":
            codes = torch.tensor(found.compressed[name].buffers[0])
            assert (layer.buffer0 == codes.float()).all()
    if method == "mpo":
        first, second = (found.model.get_submodule(f"blocks.{i}.mlp.0") for i in range(2))
        assert first.arrays[1] is second.arrays[1]


@pytest.mark.parametrize("kind", ["gpt", "bert"])
def test_modules_at_full_width_compute_what_the_model_computes(kind):
    """MoDeGPT at ratio 1 only turns the basis of values: the function is the same."""
    found, dense, qkv = blocks("modegpt", 1, kind), blocks(kind=kind), "blocks.0.attention.qkv"
    assert torch.allclose(output(found.model), output(dense.model), atol=2e-3)
    assert found.parameters() == dense.parameters()
    assert not np.allclose(found.weight(qkv), dense.weight(qkv))


def test_numerical_pruning_cuts_whole_heads_and_channels_and_the_rows_that_made_them():
    found, d = blocks("numerical"), D // HEADS
    one, name = blocks(), "blocks.0.attention.project"
    forms._cut_channels(one, name, np.array([True, False]))
    assert (one.weight(name).any(axis=0) == np.repeat([True, False], d)).all()
    for i in range(2):
        qkv, project, up, down = (found.weight(f"blocks.{i}.{name}") for name in forms.NAMES)
        heads = project.reshape(D, HEADS, d).any(axis=(0, 2))
        assert (qkv.reshape(3, HEADS, d, D).any(axis=(2, 3)) == heads).all()
        assert (up.any(axis=1) == down.any(axis=0)).all()
    assert found.index_bits() == 0
    scores = [np.array([0.9, 0.1]), np.array([0.5, 0.8, 0.2, 0.7])]  # 2 heads of 8, 4 channels of 4
    heads, channels = forms.affordable(scores, width=2, heads=2, ratio=2)  # the best within 32 / 2
    assert heads.tolist() == [True, False] and channels.tolist() == [False, True, False, True]


def test_scores_of_masks_serve_every_ratio_and_unknown_methods_are_refused():
    first = blocks("acip", 2)
    scores = first.cache["acip"]
    second = forms.Blocks(model(), batches()[0], cache=first.cache)
    forms.compress_blocks(second, "acip", 3)
    assert second.parameters() < first.parameters() and first.cache["acip"] is scores
    with pytest.raises(InputError, match="^method: expected one of svd, rom, .*, got 'pq'$"):
        forms.compress_blocks(first, "pq", 2)
