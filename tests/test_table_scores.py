"""The head by tables of codes against plain products: values, gradients, memory, look-up."""

import numpy as np
import pytest
import scipy.sparse
import torch
from test_blocked_scores import Largest, at_once, dense_rows, states
from torch import nn

from see_min.bridge import SememeEmbedding, cached_rows, layers, table_scores
from see_min.encoding import SememeEncoding
from see_min.units import Unit

torch.set_num_threads(1)
V, R, G, Q, UNITS, D = 40, 5, 3, 2, 9, 11
BAGS = {"no bag": 0, "private vectors": 1, "known units": 3}
every_bag = pytest.mark.parametrize("most", BAGS.values(), ids=BAGS)


def coded(most=1, rows=V, dimension=D, units=UNITS):
    """Random codes; bags of at most so many of seven units; without a bag no projection either."""
    rng = np.random.default_rng(0)
    index = np.zeros((rows, R, 2), dtype=int)
    index[..., 1] = rng.integers(0, units - 1, (rows, R))  # the last unit has no word
    tables = [rng.standard_normal((1, R, G)), rng.standard_normal((units, R, Q))]
    if not most:
        return SememeEncoding(tables, index)
    M = np.zeros((rows, 7))
    for row in range(0, 12, 2):  # of six words, if they have one each
        M[row, rng.permutation(6)[:most] if most > 1 else row // 2] = 1
    P = rng.standard_normal((G * Q, dimension))
    bag, vectors = scipy.sparse.csr_array(M), rng.standard_normal((7, G * Q))
    return SememeEncoding(tables, index, P, bag, vectors)


@pytest.mark.parametrize("padding_idx", [None, 2])
@every_bag
@pytest.mark.parametrize("count", [0, 1, 5, 32, 33, 70])
def test_values_and_gradients_are_those_of_the_dense_product(count, most, padding_idx):
    """Against autograd through rows that loops made, for whole tiles and parts of them."""
    module = SememeEmbedding(coded(most), torch.float64, padding_idx, padding=0.5)
    assert module.coded
    h, everything = states(count, module.embedding_dim), list(module.parameters())
    ours, dense = module.scores(h), h @ dense_rows(module).T
    for found in (ours, at_once(module, h), h @ module.weight.T):
        torch.testing.assert_close(found, dense, rtol=1e-12, atol=1e-12)
    for _ in range(2):  # the second pass uses the words that the first has sorted
        pair = [torch.autograd.grad(one.sin().sum(), [h, *everything], retain_graph=True)
                for one in (ours, dense)]
        for found, expected in zip(*pair):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("count", [0, Q, 33])
@every_bag
def test_accelerators_have_the_values_and_gradients_of_the_dense_product(count, most, accelerator):
    """Scores of units for up to Q states, leaves for more; and look-ups with bags of one length."""
    module = SememeEmbedding(coded(most), torch.float64, padding_idx=2, padding=0.5)
    h, ids = states(count, module.embedding_dim), torch.tensor([0, 4, 2, 39, 4])
    everything, rows = [h, *module.parameters()], dense_rows(module)
    fixed = torch.where((torch.arange(V) == 2)[:, None], rows.detach(), rows)  # as padding
    ours, dense = (module.scores(h), module(ids)), (h @ rows.T, fixed[ids])
    for one, other in zip(ours, dense):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    losses = [scores.sin().sum() + found.sin().sum() for scores, found in (ours, dense)]
    pair = [torch.autograd.grad(loss, everything) for loss in losses]
    for one, other in zip(*pair):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@every_bag
def test_nothing_waits_for_an_accelerator(most):
    """On meta tensors, which have no numbers: reading one is an error."""
    module = SememeEmbedding(coded(most), padding_idx=1).to("meta")
    ids = torch.zeros(2, 5, dtype=torch.long, device="meta")
    for count in (1, 7):
        h = torch.ones(count, module.embedding_dim, device="meta")
        assert module.scores(h + module(ids).sum()).shape == (count, V)


def test_a_compiler_sees_the_head_of_an_accelerator_as_one_graph(monkeypatch):
    monkeypatch.setattr(layers, "on_cpu", lambda tensor: False)
    module = SememeEmbedding(coded(3), torch.float64, padding_idx=1)
    h, ids = states(7, module.embedding_dim), torch.tensor([3, 1, 3])

    def loss(h):
        return module.scores(h + module(ids).sum()).sin().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    pair = [torch.autograd.grad(of(h), list(module.parameters())) for of in (compiled, loss)]
    for one, other in zip(*pair):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_gradients_of_bfloat16_are_summed_in_float32(monkeypatch):
    """Units of 1,000 words: eight bits cannot add 1,000 numbers one by one."""
    monkeypatch.setattr(layers, "on_cpu", lambda tensor: False)
    module = SememeEmbedding(coded(0, 2000, units=2)).bfloat16()
    exact = SememeEmbedding(module.to_encoding(), torch.float64)
    h = torch.ones(7, 6)
    for one in (module, exact):
        scores = one.scores(h.to(one.table_0.dtype))
        scores.backward(torch.ones_like(scores))
    error = (module.table_1.grad - exact.table_1.grad).norm()
    assert error < 0.02 * exact.table_1.grad.norm()


@every_bag
def test_float32_is_as_near_as_it_can_be(most):
    core = coded(most)
    pair = [SememeEmbedding(core, dtype) for dtype in (torch.float32, torch.float64)]
    losses, h = [], states(40, pair[0].embedding_dim).detach()
    for module in pair:
        losses.append(module.scores(h.to(module.table_0.dtype)).sin().sum())
        losses[-1].backward()
    for ours, exact in zip(*(module.parameters() for module in pair)):
        assert (ours.grad - exact.grad).norm() < 1e-5 * exact.grad.norm()


def test_autocast_computes_in_bfloat16_with_gradients_near_the_exact_ones():
    module, h = SememeEmbedding(coded(3)), torch.ones(3, D) / 9
    exact = torch.autograd.grad(module.scores(h).square().sum(), list(module.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        scores = module.scores(h)
    assert scores.dtype == torch.bfloat16
    rough = torch.autograd.grad(scores.float().square().sum(), list(module.parameters()))
    for ours, expected in zip(rough, exact):
        assert ours.dtype == torch.float32
        assert (ours - expected).norm() < 0.1 * expected.norm()  # bfloat16 has eight bits


def test_a_second_derivative_is_refused():
    module, h = SememeEmbedding(coded(), torch.float64), states(2, D)
    first, = torch.autograd.grad(module.scores(h).square().sum(), h, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_scores_and_their_gradients_never_hold_the_matrix():
    rows = 3000
    module = SememeEmbedding(coded(1, rows, 500))
    h = torch.ones(2, 500, requires_grad=True)
    with Largest() as spy:
        module.scores(h).sum().backward()
    assert spy.numel == R * rows  # a code per term; rows of d' = 6 are never there


@every_bag
def test_look_ups_have_the_rows_and_gradients_of_loops(most):
    core = coded(most)
    module = SememeEmbedding(core, torch.float64, padding_idx=2, padding=0.5)
    ids, rows = torch.tensor([[0, 3, 2], [7, 0, 39]]), dense_rows(module)
    rows = torch.where((torch.arange(V) == 2)[:, None], rows.detach(), rows)
    torch.testing.assert_close(module(ids), rows[ids], rtol=1e-12, atol=1e-12)
    everything = list(module.parameters())
    losses = [found.sin().sum() for found in (module(ids), rows[ids])]
    pair = [torch.autograd.grad(loss, everything) for loss in losses]
    for ours, expected in zip(*pair):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    for wrong in ([-1], [0, V]):
        with pytest.raises(IndexError, match="out of range"):
            module(torch.tensor(wrong))


def test_a_slot_of_one_unit_has_no_index_in_the_state_and_its_zeros_come_back():
    core = coded(3)
    module = SememeEmbedding(core, torch.float64)
    state = module.state_dict()
    assert "index_0" not in state and state["index_1"].nbytes == V * R
    back = module.to_encoding()
    assert np.array_equal(back.index, core.index)
    assert np.array_equal(back.rows(np.arange(V)), core.rows(np.arange(V)))


@pytest.mark.parametrize("change", ["more units", "one index", "one unit everywhere"])
def test_other_forms_with_one_unit_in_a_slot_have_the_rows_of_numpy(change):
    core = coded(3, units=300 if change == "more units" else UNITS)
    index, tables = core.index, core.tables
    if change == "one index":
        index = index[:, :1]
    if change == "one unit everywhere":
        index, tables = np.zeros_like(index), [tables[0], tables[1][:1]]
    core = SememeEncoding(tables, index, core.projection, core.bag, core.bag_vectors)
    module, h = SememeEmbedding(core, torch.float64), states(3, D)
    assert not module.coded and np.array_equal(module.to_encoding().index, index)
    rows = torch.as_tensor(core.rows(np.arange(V)))
    torch.testing.assert_close(module.weight, rows, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(module.scores(h), h @ rows.T, rtol=1e-12, atol=1e-12)


def test_a_state_with_other_codes_can_be_loaded_after_a_backward_pass():
    module, h = SememeEmbedding(coded(), torch.float64), states(3, D)
    module.scores(h).sum().backward()
    state = module.state_dict()
    module.load_state_dict(state | {"index_1": state["index_1"].flip(0)})
    pair = [torch.autograd.grad(scores.sin().sum(), module.table_1)[0]
            for scores in (module.scores(h), at_once(module, h))]
    torch.testing.assert_close(*pair, rtol=1e-10, atol=1e-10)


def test_places_are_held_within_cached_rows_alone(monkeypatch):
    module, h = SememeEmbedding(coded(), torch.float64), states(2, D)
    before = module.scores(h)
    with cached_rows(nn.Sequential(module)):
        monkeypatch.setattr(table_scores, "places_of", None)  # whoever computes them now fails
        after = module.scores(h)
    assert torch.equal(before, after) and module.held is None


def test_names_bits_and_origin_of_the_bag_come_back():
    core = coded()
    assert SememeEmbedding(core).to_encoding().words is None
    core.bits, core.bag_derived, core.words = 8, True, [f"w{v}" for v in range(V)]
    core.slot_names = [[Unit("bucket", "0")], [Unit("bucket", str(u)) for u in range(UNITS)]]
    core.bag_names = [Unit("word", "a:b"), *(Unit("sememe", str(u)) for u in range(6))]
    back = SememeEmbedding(core).to_encoding()
    assert (back.bits, back.bag_derived, back.bytes) == (8, True, core.bytes)
    for name in ("words", "slot_names", "bag_names"):
        assert getattr(back, name) == getattr(core, name)
