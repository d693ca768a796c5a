"""Training: what each stage moves, its losses against formulas in numpy, schedule, perplexity, and interruption."""

import copy
import math

import numpy as np
import pytest
import torch

from see_min.bridge import GPTConfig, TinyGPT, finetune, perplexity, pretrain, stage1, stage2, swap_embedding
from see_min.bridge.finetune import cross_entropy, distillation
from see_min.bridge.training import cosine
from see_min.encoding import SememeEncoding
from see_min.sequences import Batch

torch.set_num_threads(1)
V, D, T = 23, 8, 5
CONFIG = GPTConfig(vocabulary=V, dimension=D, blocks=2, heads=2, context=T)


@pytest.fixture
def pair():
    """A dense teacher and a student that starts from a poor encoding."""
    torch.manual_seed(0)
    teacher = TinyGPT(CONFIG).eval()
    student, rng = copy.deepcopy(teacher), np.random.default_rng(0)
    tables = [0.3 * rng.standard_normal((7, 3, q)) for q in (4, 2)]
    index = np.stack([np.arange(V) % 7, np.arange(V) // 4], axis=-1)
    bag = rng.integers(-1, 5, (V, 2))
    encoding = SememeEncoding(tables, index, bag=bag, bag_vectors=0.1 * rng.standard_normal((5, D)))
    swap_embedding(student, encoding, "token_embedding")
    return student, teacher


def some_batches(count, seed=1):
    windows = np.random.default_rng(seed).integers(0, V, (count, 3, T + 1))
    return [Batch((window[:, :-1],), window[:, 1:]) for window in windows]


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(model, before):
    """Names of the parameters that are not what they were."""
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# ------------------------------------------------------------------ the stages


def test_stage_1_changes_the_token_embedding_only_and_lowers_its_loss(pair):
    student, teacher = pair
    before, taught = state(student), state(teacher)
    batch = some_batches(1)
    first = stage1(student, teacher, batch, 1)["loss"]
    last = stage1(student, teacher, batch * 60, 60)["loss"]
    assert last < 0.7 * first
    assert changed(student, before) == {name for name in before if name.startswith("token_embedding.")
                                        and not name.endswith(("index", "bag"))}
    assert not changed(teacher, taught)
    assert all(p.requires_grad for p in student.parameters())


def test_stage_1_loss_is_its_formula(pair):
    student, teacher = pair
    batch = some_batches(1)
    ids = batch[0].inputs[0]
    E0 = teacher.token_embedding.weight.detach().double().numpy()[ids]
    E = student.token_embedding.to_encoding().rows(ids)
    with torch.no_grad():
        H, H0 = ([h.double().numpy() for h in model.hidden_states(torch.as_tensor(ids))] for model in (student, teacher))
    expected = sum(((a - b) ** 2).mean() / b.var(ddof=1) for a, b in [(E, E0), *zip(H[1:], H0[1:])])
    assert stage1(student, teacher, batch, 1)["loss"] == pytest.approx(expected, rel=1e-5)  # float32


def test_stage_2_changes_every_parameter_and_not_the_teacher(pair):
    student, teacher = pair
    before, taught = state(student), state(teacher)
    stage2(student, teacher, some_batches(3), 3)
    assert changed(student, before) == {name for name, _ in student.named_parameters()}
    assert not changed(teacher, taught)


@pytest.mark.parametrize("alpha, temperature", [(0.0, 1.0), (1.0, 1.0), (0.3, 2.0)])
def test_stage_2_loss_is_its_formula(pair, alpha, temperature):
    student, teacher = pair
    batch = some_batches(1)
    ids, targets = batch[0].inputs[0], batch[0].targets.ravel()
    with torch.no_grad():
        s, t = (model(torch.as_tensor(ids)).double().numpy().reshape(-1, V) for model in (student, teacher))
    p, q = softmax(t / temperature), softmax(s / temperature)
    kl = (p * (np.log(p) - np.log(q))).sum(-1).mean()
    ce = -np.mean([np.log(softmax(s)[i, target]) for i, target in enumerate(targets)])
    expected = alpha * temperature**2 * kl + (1 - alpha) * ce
    found = stage2(student, teacher, batch, 1, alpha=alpha, temperature=temperature)["loss"]
    assert found == pytest.approx(expected, rel=1e-4)  # float32, and a small difference of logarithms


@pytest.mark.parametrize("stage", [stage1, stage2])
def test_a_stage_counts_its_tokens_and_leaves_the_model_in_evaluation_mode(pair, stage):
    student, teacher = pair
    result = stage(student, teacher, iter(some_batches(4)), 4)
    assert set(result) == {"loss", "tokens", "seconds", "tokens_per_second"} and result["tokens"] == 4 * 3 * T
    assert not student.training


def test_pretraining_lowers_the_cross_entropy(pair):
    _, model = pair
    batch = some_batches(1)
    first = pretrain(model, batch, 1)["loss"]
    assert pretrain(model, batch * 80, 80)["loss"] < 0.8 * first


def broken_off(count):
    yield from some_batches(count)
    raise KeyboardInterrupt


def test_an_interrupted_stage_1_restores_the_flags_that_it_found(pair):
    student, teacher = pair
    student.norm.weight.requires_grad_(False)  # the user's own choice
    before = {name: p.requires_grad for name, p in student.named_parameters()}
    with pytest.raises(KeyboardInterrupt):
        stage1(student, teacher, broken_off(2), 9)
    assert {name: p.requires_grad for name, p in student.named_parameters()} == before
    stage1(student, teacher, some_batches(1), 1)
    assert {name: p.requires_grad for name, p in student.named_parameters()} == before


# ------------------------------------------------------------------ losses and schedule


def random_logits(seed):
    return torch.as_tensor(np.random.default_rng(seed).standard_normal((2, 3, V)))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_distillation_is_zero_exactly_if_logits_differ_by_a_constant_a_position(temperature):
    goal, shift = random_logits(0), torch.as_tensor(np.random.default_rng(1).standard_normal((2, 3, 1)))
    assert abs(float(distillation(goal + shift, goal, temperature))) < 1e-14
    for place in range(V):
        other = goal.clone()
        other[0, 0, place] += 0.1
        assert float(distillation(other, goal, temperature)) > 1e-9


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_distillation_gradient_is_t_times_the_difference_of_softmaxes(temperature):
    logits, goal = random_logits(2).requires_grad_(), random_logits(3)
    distillation(logits, goal, temperature).backward()
    s, t = logits.detach().numpy(), goal.numpy()
    expected = temperature * (softmax(s / temperature) - softmax(t / temperature)) / 6  # 2 * 3 positions
    np.testing.assert_allclose(logits.grad.numpy(), expected, rtol=1e-12, atol=1e-15)


def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_vocabulary():
    assert float(cross_entropy(torch.zeros(2, 3, V), torch.zeros(2, 3, dtype=torch.long))) == pytest.approx(math.log(V))


def test_cosine_schedule_starts_small_peaks_once_and_ends_at_the_floor():
    rates = [cosine(step, 200) for step in range(201)]
    assert rates[0] == pytest.approx(0.1) and rates[200] == pytest.approx(0.05)
    assert np.argmax(rates) == 9 and max(rates) <= 1
    assert all(a < b for a, b in zip(rates[:9], rates[1:10])) and all(a > b for a, b in zip(rates[9:], rates[10:]))
    assert cosine(7, 7, warmup=1, floor=0.3) == pytest.approx(0.3) and cosine(0, 7, warmup=1, floor=0.3) == 1


# ------------------------------------------------------------------ perplexity


def slow_perplexity(model, ids, most, rare_from):
    """Window by window, position by position."""
    losses, rare = [], []
    for k in range(most):
        window = ids[k * T : (k + 1) * T + 1]
        if len(window) < T + 1:
            break
        with torch.no_grad():
            logits = model(torch.as_tensor(window[None, :-1]))[0].double().numpy()
        for row, target in zip(logits, window[1:]):
            losses.append(-math.log(softmax(row)[target]))
            if target >= rare_from:
                rare.append(losses[-1])
    return math.exp(sum(losses) / len(losses)), math.exp(sum(rare) / len(rare)) if rare else None


@pytest.mark.parametrize("length, most, size", [(47, 99, 2), (51, 99, 16), (60, 3, 2), (6, 99, 16)])
def test_perplexity_is_that_of_a_slow_loop_with_its_rare_part(pair, monkeypatch, length, most, size):
    monkeypatch.setattr(finetune, "RARE_FROM", 15)
    ids = np.random.default_rng(4).integers(0, V, length)
    for model in pair:
        found, expected = perplexity(model, ids, most, size), slow_perplexity(model, ids, most, 15)
        assert found == pytest.approx(expected, rel=1e-5) and found[1] is not None  # float32


def test_perplexity_without_rare_targets_has_no_rare_part(pair):
    assert perplexity(pair[0], np.arange(12) % V)[1] is None
