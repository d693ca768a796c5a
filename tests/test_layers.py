"""SememeEmbedding against the numpy core: look-up, cache, and the way back."""

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn

from see_min.bridge import SememeEmbedding, cached_rows
from see_min.encoding import SememeEncoding
from see_min.recipe import encode
from see_min.units import Unit

torch.set_num_threads(1)
V, R, UNITS, SIZES = 7, 5, (4, 3, 6), (3, 2, 2)
TERMS = {"one index": 1, "index per term": R, "no index": None}
PARTS = [(), ("projection",), ("bag",), ("projection", "bag"), ("shared",)]
every_form = pytest.mark.parametrize("k", TERMS.values(), ids=TERMS)
every_part = pytest.mark.parametrize("parts", PARTS, ids="+".join)


def encoding(order=2, k=R, parts=("projection", "bag"), seed=0):
    """Random leaves; with "shared" in parts one table stands in every slot."""
    rng = np.random.default_rng(seed)
    units = [V] * 3 if k is None else UNITS
    tables = [rng.standard_normal((U, R, q)) for U, q in zip(units, SIZES[:order])]
    tables = tables[:1] * order if "shared" in parts else tables
    index = [rng.integers(0, len(table), (V, k or 1)) for table in tables]
    inner = int(np.prod([table.shape[2] for table in tables]))
    has_bag = "bag" in parts
    bag = scipy.sparse.csr_array((rng.random((V, 4)) < 0.4).astype(float)) if has_bag else None
    return SememeEncoding(
        tables,
        None if k is None else np.stack(index, axis=-1),
        rng.standard_normal((inner, 11)) if "projection" in parts else None,
        bag,
        rng.standard_normal((4, inner)) if has_bag else None,
    )


def coded(most=1, rows=41, units=9, width=11):
    """Random codes; bags of at most so many of seven units; without a bag no projection either."""
    rng = np.random.default_rng(0)
    index = np.zeros((rows, R, 2), dtype=int)
    index[..., 1] = rng.integers(0, units - 1, (rows, R))  # the last unit has no word
    tables = [rng.standard_normal((1, R, 3)), rng.standard_normal((units, R, 2))]
    if not most:
        return SememeEncoding(tables, index)
    M = np.zeros((rows, 7))
    for row in range(0, 12, 2):  # of six words, if they have one each
        M[row, rng.permutation(6)[:most] if most > 1 else row // 2] = 1
    P = rng.standard_normal((6, width))
    bag, vectors = scipy.sparse.csr_array(M), rng.standard_normal((7, 6))
    return SememeEncoding(tables, index, P, bag, vectors)


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@every_part
@every_form
@pytest.mark.parametrize("order", [1, 2, 3])
def test_rows_and_scores_of_torch_are_those_of_numpy(order, k, parts, dtype, bound):
    core = encoding(order, k, parts)
    module = SememeEmbedding(core, dtype)
    h = np.random.default_rng(1).standard_normal((2, 3, core.shape[1]))
    assert (module.num_embeddings, module.embedding_dim) == core.shape
    assert sum(p.numel() for p in module.parameters()) == core.parameters
    rows, scores = core.rows(np.arange(V)), h @ core.rows(np.arange(V)).T
    tensor = torch.as_tensor(h, dtype=dtype)
    found = module(torch.arange(V)), module.weight, module.scores(tensor)
    for ours, expected in zip(found, (rows, rows, scores), strict=True):
        assert ours.shape == expected.shape
        difference = np.abs(ours.detach().double().numpy() - expected).max()
        assert difference <= bound * np.abs(expected).max()


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 1, 3), (0,), (2, 0)])
def test_ids_of_any_shape_give_rows_of_that_shape(shape):
    core, ids = encoding(), np.random.default_rng(2).integers(0, V, shape)
    found = SememeEmbedding(core, torch.float64)(torch.as_tensor(ids))
    np.testing.assert_allclose(found.detach().numpy(), core.rows(ids), rtol=1e-12, atol=1e-12)


@every_form
def test_ids_beyond_the_vocabulary_are_refused_as_by_an_ordinary_embedding(k):
    for module in (nn.Embedding(V, 6), SememeEmbedding(encoding(k=k)), SememeEmbedding(coded())):
        for ids in ([-1], [0, module.num_embeddings]):
            with pytest.raises(IndexError, match="out of range"):
                module(torch.tensor(ids))


@every_form
def test_cached_rows_give_the_same_rows_and_scores_and_are_computed_once(k, monkeypatch):
    module = SememeEmbedding(encoding(2, k), torch.float64, padding_idx=2, padding=0.0)
    h = torch.ones(2, 3, module.embedding_dim, dtype=torch.float64)
    ids = torch.tensor([[3, 2], [0, 3]])
    with torch.no_grad():
        before = module(ids), module.scores(h)
        with cached_rows(nn.Sequential(module)):
            monkeypatch.setattr(module, "leaves", None)  # whoever gathers leaves now fails
            after = module(ids), module.scores(h)
    for one, other in zip(before, after):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert module.cache is None and "cache" not in module.state_dict()


def test_the_cache_is_not_used_where_gradients_are_recorded_and_gone_after_an_error():
    module, ids = SememeEmbedding(encoding(), torch.float64), torch.tensor([1])
    h = torch.ones(1, module.embedding_dim, dtype=torch.float64)
    with pytest.raises(ZeroDivisionError), cached_rows(module):
        module.cache.zero_()
        assert module(ids).detach().any() and module.scores(h).detach().any()
        with torch.no_grad():
            assert not module(ids).any() and not module.scores(h).any()
        raise ZeroDivisionError
    assert module.cache is None


FORMS = [encoding(3, k, parts) for k in TERMS.values() for parts in PARTS]


@pytest.mark.parametrize("start", [*FORMS, coded(3)])
def test_to_encoding_gives_back_every_array(start):
    back = SememeEmbedding(start, torch.float64).to_encoding()
    assert (back.parameters, back.bytes) == (start.parameters, start.bytes)
    assert list(back.arrays) == list(start.arrays)
    for name, array in start.arrays.items():
        assert np.array_equal(back.arrays[name], array)
    ids = np.arange(len(start))
    assert np.array_equal(back.rows(ids), start.rows(ids))


def test_a_slot_of_one_unit_has_no_index_in_the_state():
    core = coded(3)
    state = SememeEmbedding(core).state_dict()
    assert "index_0" not in state and state["index_1"].nbytes == core.index[..., 1].size


def test_names_bits_and_origin_of_the_bag_come_back():
    core = coded()
    assert SememeEmbedding(core).to_encoding().words is None
    core.bits, core.bag_derived, core.words = 8, True, [f"w{v}" for v in range(41)]
    core.slot_names = [[Unit("bucket", str(u)) for u in range(len(t))] for t in core.tables]
    core.bag_names = [Unit("word", "a:b"), *(Unit("sememe", str(u)) for u in range(6))]
    back = SememeEmbedding(core).to_encoding()
    assert (back.bits, back.bag_derived, back.bytes) == (8, True, core.bytes)
    for name in ("words", "slot_names", "bag_names"):
        assert getattr(back, name) == getattr(core, name)


@pytest.mark.parametrize("units", [200, 300, 70_000])
def test_the_state_has_float32_and_an_index_of_the_smallest_whole_bytes(units):
    """Bytes go anywhere: processes cannot send each other 16 bits."""
    rng = np.random.default_rng(0)
    tables = [rng.standard_normal((U, 2, 1)) for U in (units, 3)]
    index = np.stack([rng.integers(0, len(table), (V, 2)) for table in tables], axis=-1)
    index[0, 0, 0] = units - 1
    bag = scipy.sparse.csr_array(np.eye(V, units))
    core = SememeEncoding(tables, index, None, bag, rng.standard_normal((units, 1)))
    module = SememeEmbedding(core)
    wide = 1 if units <= 256 else 2 if units <= 65536 else 4  # bytes of a unit's number
    index_bytes = V * 2 * (wide + 1) + V * (1 + wide)  # two slots of two terms; lengths and a unit
    state = module.state_dict().values()
    assert sum(tensor.nbytes for tensor in state) == 4 * core.parameters + index_bytes
    assert {buffer.dtype for _, buffer in module.named_buffers()} == {torch.uint8, torch.int64}
    back = module.to_encoding()
    assert np.array_equal(back.index, index) and (back.bag != bag).nnz == 0
    rows = module.double()(torch.arange(V)).detach().numpy()
    np.testing.assert_allclose(rows, core.rows(np.arange(V)), rtol=1e-6, atol=1e-6)  # float32


def test_a_state_with_other_bags_can_be_loaded():
    first, second = (SememeEmbedding(encoding(seed=seed)) for seed in (0, 1))
    second.bag_units = first.bag_units.flip(0)
    second.bag_lengths = first.bag_lengths.flip(0)
    first.load_state_dict(second.state_dict())
    expected = second.to_encoding().rows(np.arange(V))
    np.testing.assert_allclose(first(torch.arange(V)).detach(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("units", [0, 3])
def test_an_empty_bag_adds_nothing(units):
    leaf, bag = np.arange(6.0).reshape(3, 1, 2), scipy.sparse.csr_array((3, units))
    core = SememeEncoding([leaf], None, bag=bag, bag_vectors=np.ones((units, 2)))
    assert np.array_equal(SememeEmbedding(core)(torch.arange(3)).detach().numpy(), leaf[:, 0])


def test_a_layer_like_another_keeps_what_that_was():
    layer = nn.Embedding(307, 32, padding_idx=4, dtype=torch.bfloat16).requires_grad_(False).eval()
    words = [f"w{i}" for i in range(307)]
    matrix = layer.weight.double().numpy()
    module = SememeEmbedding.like(layer, encode(matrix, words, 8, lexicon="none", sweeps=2))
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    assert not module.training and not any(p.requires_grad for p in module.parameters())
    assert module.padding_idx == 4 and not module(torch.tensor(4)).any()
    assert module.to_encoding().bytes <= 4 * 307 * 32 / 8
