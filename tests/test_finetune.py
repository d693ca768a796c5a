"""Finetuning: what each stage moves, its losses against formulas in numpy, and interruption."""

import copy

import numpy as np
import pytest
import scipy.sparse
import torch

from see_min.bridge import stage1, stage2, swap_embedding
from see_min.bridge.finetune import EmbeddingTask, sentence_loss
from see_min.encoding import SememeEncoding
from see_min.toy.data import Batch
from see_min.toy.models import GPTConfig, TinyGPT
from see_min.toy.training import pretrain

torch.set_num_threads(1)
V, D, T = 23, 8, 5
CONFIG = GPTConfig(vocab_size=V, n_embd=D, n_layer=2, n_head=2, block_size=T)


@pytest.fixture
def pair():
    """A student that starts from a poor encoding, and its dense teacher."""
    torch.manual_seed(0)
    teacher = TinyGPT(CONFIG).eval()
    student, rng = copy.deepcopy(teacher), np.random.default_rng(0)
    tables = [0.3 * rng.standard_normal((7, 3, q)) for q in (4, 2)]
    index = np.stack([np.arange(V) % 7, np.arange(V) // 4], axis=-1)[:, None]  # (V, 1, 2)
    bag = scipy.sparse.csr_array((rng.random((V, 5)) < 0.3).astype(float))
    core = SememeEncoding(tables, index, None, bag, 0.1 * rng.standard_normal((5, D)))
    swap_embedding(student, core, "token_embedding")
    return student, teacher


def some_batches(count):
    windows = np.random.default_rng(1).integers(0, V, (count, 3, T + 1))
    return [Batch((window[:, :-1],), window[:, 1:]) for window in windows]


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(model, before):
    """Names of the parameters that are not what they were."""
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def numpy_states(models, ids):
    with torch.no_grad():
        states = [model.hidden_states(torch.as_tensor(ids)) for model in models]
    return [[state.double().numpy() for state in of_model] for of_model in states]


def test_stage_1_changes_the_token_embedding_only_and_lowers_its_loss(pair):
    student, teacher = pair
    before, taught, batch = state(student), state(teacher), some_batches(1)
    first = stage1(student, teacher, batch, 1)["loss"]
    assert stage1(student, teacher, batch * 60, 60)["loss"] < 0.7 * first
    own = {name for name, _ in student.named_parameters() if name.startswith("token_embedding.")}
    assert changed(student, before) == own and not changed(teacher, taught)
    assert all(p.requires_grad for p in student.parameters()) and not student.training


def test_stage_1_loss_is_its_formula(pair):
    student, teacher = pair
    batch = some_batches(1)
    ids = batch[0].inputs[0]
    E0 = teacher.token_embedding.weight.detach().double().numpy()[ids]
    E = student.token_embedding.to_encoding().rows(ids)
    H, H0 = numpy_states(pair, ids)
    pairs = [(E, E0), *zip(H[1:], H0[1:])]
    expected = sum(((a - b) ** 2).mean() / b.var(ddof=1) for a, b in pairs)
    found = stage1(student, teacher, batch, 1)["loss"]
    assert found == pytest.approx(expected, rel=1e-5)  # float32


def test_stage_2_changes_every_parameter_and_not_the_teacher(pair):
    student, teacher = pair
    before, taught = state(student), state(teacher)
    result = stage2(student, teacher, iter(some_batches(3)), 3)
    assert set(result) == {"loss", "tokens", "seconds", "tokens_per_second"}
    assert result["tokens"] == 3 * 3 * T and not student.training
    assert changed(student, before) == {name for name, _ in student.named_parameters()}
    assert not changed(teacher, taught)


@pytest.mark.parametrize("alpha, temperature", [(0.0, 1.0), (0.3, 2.0)])
def test_stage_2_loss_is_its_formula(pair, alpha, temperature):
    batch = some_batches(1)
    ids, targets = torch.as_tensor(batch[0].inputs[0]), batch[0].targets.ravel()
    with torch.no_grad():
        s, t = (model(ids).double().numpy().reshape(-1, V) for model in pair)
    p, q = softmax(t / temperature), softmax(s / temperature)
    kl = (p * (np.log(p) - np.log(q))).sum(-1).mean()
    ce = -np.log(softmax(s)[np.arange(len(s)), targets]).mean()
    expected = alpha * temperature**2 * kl + (1 - alpha) * ce
    found = stage2(*pair, batch, 1, alpha=alpha, temperature=temperature)["loss"]
    assert found == pytest.approx(expected, rel=1e-4)  # float32, and small differences


def test_the_loss_of_sentences_is_its_formula_and_leaves_padding_out(pair):
    ids = np.array([[3, 4, 5, 0, 0], [6, 7, 8, 9, 1]])  # 0 fills up
    batch, task = Batch((torch.as_tensor(ids),), None), EmbeddingTask(pad=0)
    H, H0 = numpy_states(pair, ids)
    valid = ids != 0
    blocks = [((a - b)[valid] ** 2).mean() / b[valid].var(ddof=1) for a, b in zip(H[1:], H0[1:])]
    means = [np.stack([row[m].mean(0) for row, m in zip(h[-1], valid)]) for h in (H, H0)]  # (b, D)
    expected = np.mean(blocks) + 3 * ((means[0] - means[1]) ** 2).mean() / means[1].var(ddof=1)
    found = float(sentence_loss(*pair, task, batch, 3.0).detach())
    assert found == pytest.approx(expected, rel=1e-5)  # float32
    in_stage = stage2(*pair, [Batch((ids,), None)], 1, task=task)["loss"]
    assert in_stage == pytest.approx(expected, rel=1e-5)


def test_pretraining_lowers_the_cross_entropy(pair):
    model, batch = pair[1], some_batches(1)
    first = pretrain(model, batch, 1)["loss"]
    assert pretrain(model, batch * 80, 80)["loss"] < 0.8 * first and not model.training


def test_an_interrupted_stage_1_restores_the_flags_that_it_found(pair):
    def broken_off():
        yield from some_batches(2)
        raise KeyboardInterrupt

    student, teacher = pair
    student.norm.weight.requires_grad_(False)  # the user's own choice
    before = {name: p.requires_grad for name, p in student.named_parameters()}
    with pytest.raises(KeyboardInterrupt):
        stage1(student, teacher, broken_off(), 9)
    assert {name: p.requires_grad for name, p in student.named_parameters()} == before
