"""The head in blocks of words against dense products: values, gradients, and memory."""

import itertools

import numpy as np
import pytest
import torch
from slow import units_of
from test_layers import TERMS, R, encoding
from torch.utils._python_dispatch import TorchDispatchMode

from see_min.bridge import SememeEmbedding, blocked_scores, device_scores
from see_min.encoding import SememeEncoding
from see_min.errors import InputError

torch.set_num_threads(1)
every_form = pytest.mark.parametrize("k", TERMS.values(), ids=TERMS)


def in_blocks(monkeypatch, words):
    """Fix the number of words per block, which is 256 at least."""
    monkeypatch.setattr(blocked_scores, "blocks", lambda module: module.all_ids().split(words))


def states(*shape):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def dense_rows(module):
    """The rows of all words by loops, as a function of the parameters that autograd sees."""
    rows, core = [], module.to_encoding()
    for w in range(module.num_embeddings):
        row = 0.0
        for term in range(core.rank):
            product = torch.ones(1, dtype=torch.float64)
            for table, unit in zip(module.tables, units_of(core, w, term)):
                product = torch.kron(product, table[unit, term])
            row = row + product
        if core.bag is not None:
            for unit in core.bag[[w]].indices:
                row = row + module.bag_vectors[unit]
        row = row if w != module.padding_idx else row * module.padding
        rows.append(row if module.projection is None else row @ module.projection)
    return torch.stack(rows)  # (V, D)


def at_once(module, h):
    """Scores in the way of accelerators, computed on the CPU."""
    z = h if module.projection is None else h @ module.projection.T
    scores = device_scores.scores_at_once(module, z.reshape(-1, z.shape[-1]))
    return scores.view(*h.shape[:-1], module.num_embeddings)


@pytest.mark.parametrize("words", [1, 3, 256])
@pytest.mark.parametrize("parts", [(), ("projection", "bag"), ("shared", "bag")], ids="+".join)
@every_form
@pytest.mark.parametrize("order", [1, 2, 3])
def test_values_and_gradients_are_those_of_the_dense_product(order, k, parts, words, monkeypatch):
    """D39: against autograd through h @ rows.T."""
    in_blocks(monkeypatch, words)
    module = SememeEmbedding(encoding(order, k, parts), torch.float64, padding_idx=1, padding=0.5)
    h, ids = states(2, 4, module.embedding_dim), torch.tensor([[0, 6, 6, 2]] * 2)
    everything, rows = [h, *module.parameters()], dense_rows(module)
    # the tables are used five times in one graph
    ours = module.scores(h + module(ids)), module.scores(2 * h), at_once(module, h)
    dense = (h + rows[ids]) @ rows.T, 2 * h @ rows.T, h @ rows.T
    for found, expected in zip(ours, dense):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    losses = [sum(scores.sin().sum() for scores in three) for three in (ours, dense)]
    for one, other in zip(*(torch.autograd.grad(loss, everything) for loss in losses)):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("parts", [("projection", "bag"), ("shared", "bag")], ids="+".join)
@every_form
@pytest.mark.parametrize("order", [1, 2])
def test_accelerators_have_the_values_and_gradients_of_the_dense_product(order, k, parts,
                                                                         accelerator):
    module = SememeEmbedding(encoding(order, k, parts), torch.float64, padding_idx=1, padding=0.5)
    h, ids = states(2, 4, module.embedding_dim), torch.tensor([[0, 6, 6, 2]] * 2)
    everything, rows = [h, *module.parameters()], dense_rows(module)
    ours, dense = module.scores(h + module(ids)), (h + rows[ids]) @ rows.T
    torch.testing.assert_close(ours, dense, rtol=1e-12, atol=1e-12)
    pair = [torch.autograd.grad(scores.sin().sum(), everything) for scores in (ours, dense)]
    for one, other in zip(*pair):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@every_form
def test_nothing_waits_for_an_accelerator(k):
    """On meta tensors, which have no numbers: reading one is an error."""
    module = SememeEmbedding(encoding(2, k, ("projection", "bag")), padding_idx=1).to("meta")
    h, ids = torch.ones(3, 11, device="meta"), torch.zeros(2, 5, dtype=torch.long, device="meta")
    assert module.scores(h + module(ids).sum()).shape == (3, module.num_embeddings)
    with pytest.raises(NotImplementedError):
        module.bag_lengths.nonzero()


@pytest.mark.parametrize("device, free, states, words", [
    ("cpu", 0, 0, 768), ("cpu", 2**40, 10**6, 768),  # of 1,000 numbers: a core's cache
    ("cuda", 2**34, 1024, 50257), ("cuda", 2**30, 8, 33353), ("cuda", 2**30, 8192, 256),
])
def test_words_at_once_follow_from_device_memory_and_states(device, free, states, words):
    found = blocked_scores.words_at_once(device, free, 50257, 1000, states)
    assert found == words
    held = found * 1000 * 4 * blocked_scores.COPIES + 8 * states * 50257
    assert device == "cpu" or found == 256 or held <= free / 2


@every_form
def test_kept_rows_have_the_gradients_of_the_dense_product_in_every_backward_pass(k, monkeypatch):
    """D39: rows that are kept are not made again, and stay as they are for a second pass."""
    in_blocks(monkeypatch, 3)
    core = encoding(2, k)
    core.projection = np.random.default_rng(3).standard_normal((6, 24))  # 4 d' <= D
    module, h = SememeEmbedding(core, torch.float64), states(4, 24)
    everything = [h, *module.parameters()]
    ours, dense = module.scores(h), h @ dense_rows(module).T
    expected = torch.autograd.grad(dense.sin().sum(), everything)
    monkeypatch.setattr(module, "finished", None)  # whoever computes rows now fails
    for _ in range(2):
        found = torch.autograd.grad(ours.sin().sum(), everything, retain_graph=True)
        for one, other in zip(found, expected):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_a_second_derivative_is_refused():
    module, h = SememeEmbedding(encoding(), torch.float64), states(2, 11)
    first, = torch.autograd.grad(module.scores(h).square().sum(), h, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_gradients_of_halves_are_products_of_the_other_half_and_the_gradient():
    """D41: one coordinate at a time; halves of one slot, and one half alone."""
    rng = np.random.default_rng(4)
    shapes = (7, 5, 3), (7, 5, 2), (7, 3, 2)
    L, R, X = (torch.as_tensor(rng.standard_normal(shape)) for shape in shapes)
    left, right = blocked_scores.bipartition_gradients([L, R], X.flatten(1))
    for w, k in itertools.product(range(7), range(5)):
        for i in range(3):
            expected = sum(X[w, i, j] * R[w, k, j] for j in range(2))
            np.testing.assert_allclose(left[w, k, i], expected, rtol=1e-12)
        for j in range(2):
            expected = sum(X[w, i, j] * L[w, k, i] for i in range(3))
            np.testing.assert_allclose(right[w, k, j], expected, rtol=1e-12)
    alone, = blocked_scores.bipartition_gradients([L], X[:, :, 0])
    assert all(torch.equal(alone[:, k], X[:, :, 0]) for k in range(5))


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = filter(torch.is_tensor, torch.utils._pytree.tree_leaves(out))
        self.numel = max([self.numel, *(one.numel() for one in tensors)])
        return out


def test_scores_and_their_gradients_never_hold_the_matrix(monkeypatch):
    in_blocks(monkeypatch, 50)
    rng = np.random.default_rng(0)
    tables = [rng.standard_normal((4, 2, q)) for q in (3, 2)]
    index = rng.integers(0, 4, (1000, 2, 2))
    module = SememeEmbedding(SememeEncoding(tables, index, rng.standard_normal((6, 11))))
    module.projection.requires_grad_(False)
    h = torch.ones(2, 11, requires_grad=True)
    with Largest() as spy:
        module.scores(h).sum().backward()
    assert spy.numel == 1000 * 2  # the scores; index (V, k) is as large
    with Largest() as spy:
        module.weight.sum()
    assert spy.numel >= 1000 * 11  # the spy sees a matrix


def test_weights_that_were_offloaded_are_refused_instead_of_giving_nonsense():
    module = SememeEmbedding(encoding(parts=())).to("meta")
    with pytest.raises(InputError, match="^scores: expected weights on cpu, got meta$"):
        module.scores(torch.ones(1, 6))


def test_autocast_computes_in_bfloat16_with_gradients_near_the_exact_ones():
    module, h = SememeEmbedding(encoding(2, R)), torch.ones(3, 11) / 9
    exact = torch.autograd.grad(module.scores(h).square().sum(), list(module.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        scores = module.scores(h)
    assert scores.dtype == torch.bfloat16
    rough = torch.autograd.grad(scores.float().square().sum(), list(module.parameters()))
    for ours, expected in zip(rough, exact):
        assert ours.dtype == torch.float32 and ours.isfinite().all()
        assert (ours - expected).norm() < 0.1 * expected.norm()  # bfloat16 has eight bits
