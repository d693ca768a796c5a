"""Scores of a tied head against dense products: values, gradients, memory, devices."""

import itertools

import numpy as np
import pytest
import torch
from slow import units_of
from test_layers import TERMS, coded, encoding
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from see_min.bridge import SememeEmbedding, cached_rows, layers, scores
from see_min.encoding import SememeEncoding
from see_min.entangle import entangled_rows
from see_min.errors import InputError

torch.set_num_threads(1)
V, D = 41, 11  # of the codes
BAGS = {"no bag": 0, "private vectors": 1, "known units": 3}
WAYS = ["a CPU", "a CPU, in parts", "an accelerator", "an accelerator, in parts"]


PARTS = [(1, ("projection", "bag")), (2, ()), (2, ("projection", "bag")), (3, ("shared", "bag"))]
FORMS = {f"order {order}, {name}, {'+'.join(parts)}": encoding(order, k, parts)
         for order, parts in PARTS for name, k in TERMS.items()}
FORMS |= {f"codes, {name}": coded(most) for name, most in BAGS.items()}
every_form = pytest.mark.parametrize("core", FORMS.values(), ids=FORMS)
codes_and_others = pytest.mark.parametrize("core", [coded(3), encoding()], ids=["codes", "others"])


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """A head as on that device, of all words at once or of three, but computed on the CPU."""
    if "CPU" not in request.param:
        as_accelerator(monkeypatch)
    if "parts" in request.param:
        monkeypatch.setattr(scores, "words_that_fit", lambda *_: 3)


def as_accelerator(monkeypatch):
    for module in (layers, scores):
        monkeypatch.setattr(module, "on_cpu", lambda tensor: False)


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


def check_gradients(ours, dense, parameters, **how):
    pair = [torch.autograd.grad(one.sin().sum(), parameters, **how) for one in (ours, dense)]
    for found, expected in zip(*pair):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@every_form
def test_values_and_gradients_are_those_of_the_dense_product(core, way):
    """D39: against autograd through h @ rows.T; of no state, of few and many, twice in a graph."""
    module = SememeEmbedding(core, torch.float64, padding_idx=1, padding=0.5)
    h, ids = states(2, 20, module.embedding_dim), torch.tensor([[0, 6, 6, 1]] * 2)
    everything, rows = [h, *module.parameters()], dense_rows(module)
    fixed = torch.where((torch.arange(len(rows)) == 1)[:, None], rows.detach(), rows)  # as padding
    found, expected = module(ids), fixed[ids]
    ours = [found, *map(module.scores, (h[:, :0], h[0, :2] + found[0, 0], h))]
    dense = [expected, *(x @ rows.T for x in (h[:, :0], h[0, :2] + expected[0, 0], h))]
    for one, other in zip(ours, dense):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    ours, dense = (torch.cat([one.flatten() for one in all]) for all in (ours, dense))
    for _ in range(2):  # the second pass finds what the first has sorted
        check_gradients(ours, dense, everything, retain_graph=True)


def test_gradients_of_halves_are_products_of_the_other_half_and_the_gradient():
    """D41: one coordinate at a time."""
    rng = np.random.default_rng(4)
    shapes = (7, 5, 3), (7, 5, 2), (7, 3, 2)
    L, R, X = (torch.as_tensor(rng.standard_normal(shape)).requires_grad_() for shape in shapes)
    left, right = torch.autograd.grad(entangled_rows([L, R]), (L, R), X.flatten(1))
    L, R, X = (one.detach().numpy() for one in (L, R, X))
    for w, k in itertools.product(range(7), range(5)):
        for i in range(3):
            expected = sum(X[w, i, j] * R[w, k, j] for j in range(2))
            np.testing.assert_allclose(left[w, k, i], expected, rtol=1e-12)
        for j in range(2):
            expected = sum(X[w, i, j] * L[w, k, i] for i in range(3))
            np.testing.assert_allclose(right[w, k, j], expected, rtol=1e-12)


@codes_and_others
def test_nothing_waits_for_an_accelerator(core):
    """On meta tensors, which have no numbers: reading one is an error."""
    module = SememeEmbedding(core, padding_idx=1).to("meta")
    ids = torch.zeros(2, 5, dtype=torch.long, device="meta")
    for count in (1, 7):
        h = torch.ones(count, module.embedding_dim, device="meta")
        assert module.scores(h + module(ids).sum()).shape == (count, module.num_embeddings)
    with pytest.raises(NotImplementedError):
        module.bag_lengths.nonzero()


def test_a_compiler_sees_the_head_of_an_accelerator_as_one_graph(monkeypatch):
    as_accelerator(monkeypatch)
    module = SememeEmbedding(coded(3), torch.float64, padding_idx=1)
    h, ids = states(7, module.embedding_dim), torch.tensor([3, 1, 3])

    def loss(h):
        return module.scores(h + module(ids).sum()).sin().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    check_gradients(compiled(h), loss(h), list(module.parameters()))
    with torch.no_grad(), cached_rows(module):  # filled up before the compiler comes
        torch.testing.assert_close(compiled(h), loss(h))


@pytest.mark.parametrize("device, free, states, words", [
    ("cpu", 0, 0, 2097), ("cpu", 2**40, 10**6, 2097),  # of 1,000 numbers: a cache
    ("cuda", 2**34, 1024, 50257), ("cuda", 2**30, 8, 33353), ("cuda", 2**30, 8192, 256),
])
def test_words_at_once_follow_from_device_memory_and_states(device, free, states, words):
    found = scores.words_at_once(device, free, 50257, 1000, states)
    assert found == words
    held = found * 1000 * 4 * scores.COPIES + 8 * states * 50257
    assert device == "cpu" or found == 256 or held <= free / 2


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = filter(torch.is_tensor, torch.utils._pytree.tree_leaves(out))
        self.numel = max([self.numel, *(one.numel() for one in tensors)])
        return out


@pytest.mark.parametrize("is_coded", [True, False])
def test_scores_and_their_gradients_never_hold_the_matrix(is_coded, monkeypatch):
    monkeypatch.setattr(scores, "BLOCK_NUMBERS", 0)  # parts of 256 words
    if is_coded:
        core = coded(1, 3000, width=500)
    else:
        rng = np.random.default_rng(0)
        tables = [rng.standard_normal((4, 2, q)) for q in (3, 2)]
        P = rng.standard_normal((6, 500))
        core = SememeEncoding(tables, rng.integers(0, 4, (3000, 2, 2)), P)
    module, h = SememeEmbedding(core), torch.ones(2, 500, requires_grad=True)
    with Largest() as spy:
        module.scores(h).sum().backward()
    assert spy.numel <= max(core.index[..., 0].size, 2 * 3000, core.projection.size) + 12
    with Largest() as spy:
        module.weight.sum()
    assert spy.numel == 3000 * 500  # the spy sees a matrix


class Products(TorchDispatchMode):
    """Factors and result of every product of two matrices."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.mm.default:
            self.found.append((*args, out))
        return out


@pytest.mark.parametrize("cached", [False, True])
@codes_and_others
def test_an_accelerator_multiplies_matrices_whose_rows_have_whole_16_bytes(
        core, cached, monkeypatch):
    """Those of all words, by the distance of one row or column from the next: 8 numbers."""
    as_accelerator(monkeypatch)
    module, words = SememeEmbedding(core, torch.float64), len(core)
    h = states(7, core.shape[1])
    expected = h @ module.weight.T
    with Products() as spy:
        if cached:
            with torch.no_grad(), cached_rows(module):
                found = module.scores(h)
        else:
            found = module.scores(h)
            found.sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    whole = [one for one in spy.found if any(max(matrix.shape) >= words for matrix in one)]
    steps = [step for one in whole for matrix in one for step in matrix.stride() if step > 1]
    assert whole and all(step % 8 == 0 for step in steps)


@codes_and_others
def test_autocast_computes_in_bfloat16_with_gradients_near_the_exact_ones(core):
    module = SememeEmbedding(core)
    h = torch.ones(3, module.embedding_dim) / 9
    exact = torch.autograd.grad(module.scores(h).square().sum(), list(module.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        found = module.scores(h)
    assert found.dtype == torch.bfloat16
    rough = torch.autograd.grad(found.float().square().sum(), list(module.parameters()))
    for ours, expected in zip(rough, exact):
        assert ours.dtype == torch.float32
        assert (ours - expected).norm() < 0.1 * expected.norm()  # bfloat16 has eight bits


@pytest.mark.parametrize("way", [WAYS[0], WAYS[2]])
def test_gradients_of_bfloat16_are_summed_in_float32(way, monkeypatch):
    """Units of 1,000 words: eight bits cannot add 1,000 numbers one by one."""
    if way == WAYS[2]:
        as_accelerator(monkeypatch)
    module = SememeEmbedding(coded(0, 2000, units=2)).bfloat16()
    exact = SememeEmbedding(module.to_encoding(), torch.float64)
    h = torch.ones(7, 6)
    for one in (module, exact):
        found = one.scores(h.to(one.table_0.dtype))
        found.backward(torch.ones_like(found))
    error = (module.table_1.grad - exact.table_1.grad).norm()
    assert error < 0.02 * exact.table_1.grad.norm()


# ---------------------------------------------------------------- codes


@pytest.mark.parametrize("change", ["more units", "one index", "one unit everywhere"])
def test_other_forms_with_one_unit_in_a_slot_have_the_rows_of_numpy(change):
    core = coded(3, units=300 if change == "more units" else 9)
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
    check_gradients(module.scores(h), h @ module.weight.T, [module.table_1])


def test_places_are_held_within_cached_rows_alone(monkeypatch):
    module, h = SememeEmbedding(coded(), torch.float64), states(2, D)
    before = module.scores(h)
    with cached_rows(nn.Sequential(module)):
        monkeypatch.setattr(module, "code_places", None)  # whoever computes them now fails
        after = module.scores(h)
    assert torch.equal(before, after) and module.held is None


# ---------------------------------------------------------------- refused


def test_weights_that_were_offloaded_are_refused_instead_of_giving_nonsense():
    module = SememeEmbedding(encoding(parts=())).to("meta")
    with pytest.raises(InputError, match="^scores: expected weights on cpu, got meta$"):
        module.scores(torch.ones(1, 6))


def test_a_second_derivative_of_the_sums_of_a_cpu_is_refused():
    module, h = SememeEmbedding(coded(), torch.float64), states(2, D)
    first, = torch.autograd.grad(module.scores(h).square().sum(), h, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
