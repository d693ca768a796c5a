"""The torch bridge against the numpy core: look-up, scores, gradients, swapping, checkpoints, and the little GPT itself."""

import copy
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from see_min.bridge import (
    GPTConfig,
    SememeEmbedding,
    TiedHead,
    TinyGPT,
    kept_rows,
    load_checkpoint,
    save_checkpoint,
    swap_embedding,
)
from see_min.bridge.checkpoint import FORMAT
from see_min.checks import DataError, ShapeError
from see_min.encoding import SememeEncoding

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
V, R, UNITS = 7, 5, (4, 3, 6)
SIZES = {1: (6,), 2: (3, 2), 3: (3, 2, 2)}
PARTS = [(), ("amplitudes",), ("carrier",), ("bag",), ("amplitudes", "carrier", "bag"), ("shared",), ("shared", "bag")]
CONFIG = GPTConfig(vocabulary=11, dimension=6, blocks=2, heads=2, context=5)


def encoding(order=2, per_term=False, parts=(), seed=0):
    """Random leaves; with "shared" in parts one table stands in every slot."""
    rng = np.random.default_rng(seed)
    tables = [rng.standard_normal((U, R, q)) for U, q in zip(UNITS, SIZES[order])]
    if "shared" in parts:
        tables = [rng.standard_normal((4, R, 3))] * order
    shape = (V, R) if per_term else (V,)
    index = np.stack([rng.integers(0, len(table), shape) for table in tables], axis=-1)
    inner = int(np.prod([table.shape[2] for table in tables]))
    has_bag = "bag" in parts
    return SememeEncoding(
        tables, index, rng.standard_normal((V, R)) if "amplitudes" in parts else None,
        rng.standard_normal((inner, 11)) if "carrier" in parts else None,
        rng.integers(-1, 3, (V, 2)) if has_bag else None, rng.standard_normal((3, inner)) if has_bag else None,
    )


def assert_close(found, expected, bound):
    """The largest difference is at most `bound` of the largest value."""
    found = found.detach().double().numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= bound * np.abs(expected).max()


def gpt(seed=0, config=CONFIG):
    torch.manual_seed(seed)
    return TinyGPT(config).eval()


def gpt_encoding(parts=("bag", "carrier"), seed=0, shared=False):
    """An encoding of 11 words and 6 dimensions, of order 2."""
    rng = np.random.default_rng(seed)
    tables = [0.1 * rng.standard_normal((4, 2, 2))] * 2 if shared else [0.1 * rng.standard_normal((U, 2, 2)) for U in (4, 3)]
    index = np.stack([rng.integers(0, len(table), 11) for table in tables], axis=-1)
    return SememeEncoding(tables, index, rng.standard_normal((11, 2)), rng.standard_normal((4, 6)), rng.integers(-1, 3, (11, 2)),
                          rng.standard_normal((3, 4)))


def lossless(matrix):
    """Every word its own unit, order 1, one term."""
    return SememeEncoding([matrix[:, None, :]], np.arange(len(matrix))[:, None])


# ------------------------------------------------------------------ look-up and scores


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("parts", PARTS, ids="+".join)
@pytest.mark.parametrize("per_term", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_rows_and_scores_of_torch_are_those_of_numpy(order, per_term, parts, dtype, bound):
    numpy_form = encoding(order, per_term, parts)
    torch_form = SememeEmbedding(numpy_form, dtype)
    h = np.random.default_rng(1).standard_normal((5, numpy_form.shape[1]))
    assert (torch_form.num_embeddings, torch_form.embedding_dim) == numpy_form.shape
    assert_close(torch_form(torch.arange(V)), numpy_form.rows(np.arange(V)), bound)
    assert_close(torch_form.scores(torch.as_tensor(h, dtype=dtype)), numpy_form.scores(h), bound)


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3), (2, 1, 3), (0,), (2, 0)])
def test_ids_of_any_shape_give_rows_of_that_shape(shape):
    numpy_form = encoding(parts=("carrier", "bag"))
    ids = np.random.default_rng(2).integers(0, V, shape)
    found = SememeEmbedding(numpy_form, torch.float64)(torch.as_tensor(ids))
    np.testing.assert_allclose(found.detach().numpy(), numpy_form.rows(ids), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ids", [[-1], [0, V]])
def test_ids_beyond_the_vocabulary_are_refused_as_by_an_ordinary_embedding(ids):
    with pytest.raises(IndexError, match="out of range"):
        nn.Embedding(V, 6)(torch.tensor(ids))
    with pytest.raises(IndexError, match="out of range"):
        SememeEmbedding(encoding(parts=("bag", "amplitudes")))(torch.tensor(ids))


def test_scores_take_hidden_states_of_any_leading_shape():
    numpy_form = encoding(parts=("carrier",))
    h = np.random.default_rng(3).standard_normal((2, 3, 11))
    found = SememeEmbedding(numpy_form, torch.float64).scores(torch.as_tensor(h))  # (2, 3, V)
    np.testing.assert_allclose(found.detach().numpy(), h @ numpy_form.rows(np.arange(V)).T, rtol=1e-12)


@pytest.mark.parametrize("block", [1, 3, 6, 7])
@pytest.mark.parametrize("per_term", [False, True])
def test_scores_in_blocks_have_the_values_and_gradients_of_one_block(block, per_term):
    parts = ("amplitudes", "carrier", "bag")
    results = []
    for size in (block, 100):
        module = SememeEmbedding(encoding(2, per_term, parts), torch.float64, size)
        h = torch.as_tensor(np.random.default_rng(4).standard_normal((5, 11))).requires_grad_()
        scores = module.scores(h)
        scores.square().sum().backward()
        with torch.no_grad():
            quiet = module.scores(h)
        results.append([scores.detach(), quiet, h.grad, *(p.grad for p in module.parameters())])
    for ours, whole in zip(*results):
        torch.testing.assert_close(ours, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("parts", PARTS, ids="+".join)
@pytest.mark.parametrize("per_term", [False, True])
def test_kept_rows_give_the_same_rows_and_scores_and_are_made_once(per_term, parts, monkeypatch):
    module = SememeEmbedding(encoding(2, per_term, parts), torch.float64, padding_idx=2, padding=0.0)
    h = torch.as_tensor(np.random.default_rng(4).standard_normal((2, 3, module.embedding_dim)))
    ids = torch.tensor([[3, 2], [0, 3]])
    with torch.no_grad():
        before = module(ids), module.scores(h)
        with kept_rows(nn.Sequential(module)):
            monkeypatch.setattr(module, "leaves", None)  # whoever gathers leaves now fails
            after = module(ids), module.scores(h)
            assert len(module.kept) == V
        monkeypatch.undo()
    for one, other in zip(before, after):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert module.kept is None and not any("kept" in name for name in module.state_dict())


def test_kept_rows_are_not_used_where_gradients_are_recorded_and_are_gone_after_an_error():
    module, ids = SememeEmbedding(encoding(2), torch.float64), torch.tensor([1])
    h = torch.ones(1, module.embedding_dim, dtype=torch.float64)
    with pytest.raises(ZeroDivisionError), kept_rows(module):
        module.kept.zero_()
        assert module(ids).detach().any() and module.scores(h).detach().any()
        with torch.no_grad():
            assert not module(ids).any() and not module.scores(h).any()
        raise ZeroDivisionError
    assert module.kept is None


# ------------------------------------------------------------------ gradients


@pytest.mark.parametrize("parts", [("amplitudes", "carrier", "bag"), ("shared",)], ids="+".join)
@pytest.mark.parametrize("per_term", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_gradients_are_finite_differences(order, per_term, parts):
    module = SememeEmbedding(encoding(order, per_term, parts), torch.float64, block=3)
    ids = torch.tensor([[0, 3], [3, 6]])
    h = torch.as_tensor(np.random.default_rng(5).standard_normal((2, module.embedding_dim))).requires_grad_()
    parameters = tuple(module.parameters())
    assert torch.autograd.gradcheck(lambda *_: module(ids), parameters, fast_mode=True)
    assert torch.autograd.gradcheck(lambda *_: module.scores(h), (h, *parameters), fast_mode=True)


@pytest.mark.parametrize("per_term", [False, True])
def test_gradients_reach_only_the_leaves_of_the_ids_asked_for(per_term):
    numpy_form = encoding(2, per_term, ("amplitudes", "bag"))
    module, ids = SememeEmbedding(numpy_form, torch.float64), np.array([1, 4, 4])
    module(torch.as_tensor(ids)).square().sum().backward()
    for j, table in enumerate(module.tables):
        expected = np.zeros(table.shape[:2], dtype=bool)  # (U_j, r)
        for w in ids:
            for k in range(R):
                expected[numpy_form.index[(w, k, j) if per_term else (w, j)], k] = True
        assert np.array_equal((table.grad != 0).any(-1).numpy(), expected) and not expected.all()
    assert set(module.amplitudes.grad.abs().sum(1).nonzero().flatten().tolist()) == set(ids)
    in_bags = {u for w in ids for u in numpy_form.bag[w] if u >= 0}
    assert set(module.bag_vectors.grad.abs().sum(1).nonzero().flatten().tolist()) == in_bags


def test_a_unit_that_stands_twice_in_a_bag_counts_twice():
    vector, bag = np.array([[1.0, 3.0]]), np.array([[0, 0], [0, -1]])
    twice = SememeEncoding([np.zeros((1, 1, 2))], np.zeros((2, 1), int), bag=bag, bag_vectors=vector)
    assert SememeEmbedding(twice)(torch.arange(2)).tolist() == [[2.0, 6.0], [1.0, 3.0]]


def test_an_empty_bag_adds_nothing():
    leaf = np.arange(6.0).reshape(3, 1, 2)
    empty = SememeEncoding([leaf], np.arange(3)[:, None], bag=np.full((3, 1), -1), bag_vectors=np.zeros((0, 2)))
    assert np.array_equal(empty.rows(np.arange(3)), leaf[:, 0])
    assert np.array_equal(SememeEmbedding(empty)(torch.arange(3)).detach().numpy(), leaf[:, 0])


# ------------------------------------------------------------------ parameters and the way back


@pytest.mark.parametrize("parts", PARTS, ids="+".join)
@pytest.mark.parametrize("per_term", [False, True])
def test_to_encoding_gives_back_every_array(per_term, parts):
    start = encoding(3, per_term, parts)
    back = SememeEmbedding(start, torch.float64).to_encoding()
    assert (back.floats, back.index_bytes, list(back.parameters)) == (start.floats, start.index_bytes, list(start.parameters))
    for name, array in start.parameters.items():
        assert np.array_equal(back.parameters[name], array)
    assert np.array_equal(back.index, start.index)
    assert np.array_equal(back.rows(np.arange(V)), start.rows(np.arange(V)))


def test_to_encoding_of_bfloat16_is_float32_numpy():
    back = SememeEmbedding(encoding(), torch.bfloat16).to_encoding()
    assert [table.dtype for table in back.tables] == [np.float32] * 2


@pytest.mark.parametrize("parts", PARTS, ids="+".join)
def test_parameters_are_the_floats_of_the_encoding_shared_tables_once(parts):
    numpy_form = encoding(3, parts=parts)
    module = SememeEmbedding(numpy_form)
    assert sum(p.numel() for p in module.parameters()) == numpy_form.floats
    assert len({id(table) for table in module.tables}) == (1 if "shared" in parts else 3)


def test_training_the_module_leaves_the_encoding_alone():
    numpy_form = encoding()
    before = numpy_form.rows(np.arange(V))
    with torch.no_grad():
        SememeEmbedding(numpy_form, torch.float64).tables[0].zero_()
    assert np.array_equal(numpy_form.rows(np.arange(V)), before)


# ------------------------------------------------------------------ swapping


class Tied(nn.Module):
    """Two embeddings and a head that shares the weight of the one over words."""

    def __init__(self, bias=False):
        super().__init__()
        self.body = nn.ModuleDict({"words": nn.Embedding(11, 6), "places": nn.Embedding(11, 2)})
        self.head = nn.Linear(6, 11, bias=bias)
        self.head.weight = self.body["words"].weight
        self.free = nn.Linear(6, 11, bias=False)

    def forward(self, ids):
        h = self.body["words"](ids)
        return self.head(h) + self.free(h)


def Restricted():
    return nn.Sequential(nn.Embedding(11, 6, max_norm=1.0))


def test_swap_on_a_gpt_replaces_its_token_embedding_and_computes_with_the_encoding():
    model, numpy_form = gpt(), gpt_encoding()
    assert swap_embedding(model, numpy_form) == ["token_embedding"]
    states = model.hidden_states(ids := torch.tensor([[1, 2, 10]]))
    E = torch.as_tensor(numpy_form.rows(np.arange(11))).float()
    torch.testing.assert_close(states[0], E[ids] + model.position_embedding.weight[:3], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model(ids), F.linear(model.norm(states[-1]), E), rtol=1e-5, atol=1e-6)
    assert isinstance(model.position_embedding, nn.Embedding)


def test_swap_replaces_a_linear_head_that_shares_the_weight_and_no_other():
    model = Tied()
    assert swap_embedding(model, gpt_encoding()) == ["body.words", "head"]
    assert isinstance(model.head, TiedHead) and model.head.embedding is model.body["words"]
    assert isinstance(model.free, nn.Linear) and isinstance(model.body["places"], nn.Embedding)
    E = model.body["words"](torch.arange(11))
    torch.testing.assert_close(model(torch.arange(11)), E @ E.T + model.free(E), rtol=1e-5, atol=1e-6)


def test_a_bias_of_a_tied_head_is_kept():
    model = Tied(bias=True)
    nn.init.normal_(model.head.bias)
    bias = model.head.bias
    swap_embedding(model, gpt_encoding())
    E = model.body["words"](torch.arange(11))
    torch.testing.assert_close(model.head(E), E @ E.T + bias, rtol=1e-5, atol=1e-6)
    assert any(p is bias for p in model.parameters())


def test_swap_by_name_takes_that_embedding():
    model = Tied()
    assert swap_embedding(model, lossless(np.ones((11, 2))), "body.places") == ["body.places"]
    assert isinstance(model.body["words"], nn.Embedding) and isinstance(model.head, nn.Linear)


def test_swap_replaces_an_embedding_under_all_its_names():
    model = nn.Module()
    model.encoder = model.decoder = nn.Embedding(11, 6)
    swap_embedding(model, gpt_encoding())
    assert model.encoder is model.decoder and isinstance(model.encoder, SememeEmbedding)


def test_swap_replaces_other_embeddings_that_share_the_weight():
    model = nn.Module()
    model.encoder, model.decoder = nn.Embedding(11, 6), nn.Embedding(11, 6)
    model.decoder.weight = model.encoder.weight
    swap_embedding(model, gpt_encoding())
    assert model.encoder is model.decoder and isinstance(model.decoder, SememeEmbedding)


def test_swap_keeps_the_precision_of_the_model():
    model = gpt().double()
    swap_embedding(model, gpt_encoding())
    assert {p.dtype for p in model.parameters()} == {torch.float64}


@pytest.mark.parametrize(
    ("make", "name", "shape", "error", "text"),
    [
        (lambda: nn.Linear(2, 3), None, (11, 6), DataError, "model: expected an nn.Embedding to replace, got none in Linear"),
        (Tied, "words", (11, 6), DataError, "name: expected one of body.words, body.places, got 'words'"),
        (Tied, None, (11, 5), ShapeError, "encoding: expected shape (11, 6) as body.words, got (11, 5)"),
        (Tied, "body.places", (11, 6), ShapeError, "encoding: expected shape (11, 2) as body.places, got (11, 6)"),
        (Restricted, None, (11, 6), DataError, "0: expected an embedding that only looks rows up, got Embedding with max_norm 1"),
    ],
    ids=["no embedding", "unknown name", "wrong D", "wrong D by name", "rows of bounded norm"],
)
def test_swap_that_is_refused_leaves_the_model_untouched(make, name, shape, error, text):
    model = make()
    before = [(key, id(module)) for key, module in model.named_modules()], [(key, id(p)) for key, p in model.named_parameters()]
    with pytest.raises(error, match=re.escape(text)):
        swap_embedding(model, lossless(np.ones(shape)), name)
    after = [(key, id(module)) for key, module in model.named_modules()], [(key, id(p)) for key, p in model.named_parameters()]
    assert after == before


def test_a_deep_copy_ties_its_own_head_to_its_own_embedding():
    model = Tied()
    swap_embedding(model, gpt_encoding(shared=True))
    twin = copy.deepcopy(model)
    assert twin.head.embedding is twin.body["words"] and twin.body["words"] is not model.body["words"]
    assert twin.body["words"].tables[0] is twin.body["words"].tables[1]
    assert sum(p.numel() for p in twin.parameters()) == sum(p.numel() for p in model.parameters())
    before = model(torch.arange(11))
    with torch.no_grad():
        twin.body["words"].tables[0].zero_()
    assert torch.equal(model(torch.arange(11)), before)


def test_a_lossless_encoding_keeps_the_logits_of_the_dense_model():
    dense = gpt()
    swapped = copy.deepcopy(dense)
    swap_embedding(swapped, lossless(dense.token_embedding.weight.detach().double().numpy()))
    ids = torch.tensor([[1, 2, 10, 0, 7], [3, 3, 4, 5, 6]])
    torch.testing.assert_close(swapped(ids), dense(ids), rtol=1e-6, atol=1e-7)


# ------------------------------------------------------------------ checkpoints

RELOAD = """
import sys, numpy as np, torch
from see_min.bridge import load_checkpoint
torch.set_num_threads(1)
for path in sys.argv[1:]:
    model, words = load_checkpoint(path)
    with torch.no_grad():
        logits = model(torch.tensor([[1, 2, 10, 0, 7], [3, 3, 4, 5, 6]])).numpy()
    print(np.array_equal(logits, np.load(path + ".npy")), words[-1], sum(p.numel() for p in model.parameters()))
"""


def test_a_checkpoint_gives_bit_identical_logits_in_a_fresh_process(tmp_path):
    dense, compressed, shared = gpt(), gpt(), gpt()
    swap_embedding(compressed, gpt_encoding())
    swap_embedding(shared, gpt_encoding(shared=True))
    words, paths, expected = [f"w{i}" for i in range(10)] + ["\N{SNOWMAN}"], [], []
    for name, model in (("dense", dense), ("compressed", compressed), ("shared", shared)):
        path = str(tmp_path / f"{name}.pt")
        save_checkpoint(model, path, words)
        with torch.no_grad():
            np.save(path + ".npy", model(torch.tensor([[1, 2, 10, 0, 7], [3, 3, 4, 5, 6]])).numpy())
        paths.append(path)
        expected.append(f"True \N{SNOWMAN} {sum(p.numel() for p in model.parameters())}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    run = subprocess.run([sys.executable, "-c", RELOAD, *paths], cwd=ROOT, env=environment, capture_output=True, encoding="utf-8",
                         timeout=120, check=False)
    assert (run.returncode, run.stderr, run.stdout.splitlines()) == (0, "", expected)


@pytest.mark.parametrize("per_term", [False, True])
@pytest.mark.parametrize("parts", PARTS, ids="+".join)
def test_checkpoints_of_every_form_of_encoding_load(tmp_path, parts, per_term):
    numpy_form = encoding(2, per_term, parts)
    dimension = numpy_form.shape[1]
    model = gpt(config=GPTConfig(V, dimension, blocks=1, heads=1, context=4))
    swap_embedding(model, numpy_form, "token_embedding")
    save_checkpoint(model, tmp_path / "a.pt")
    again, words = load_checkpoint(tmp_path / "a.pt")
    assert torch.equal(again(torch.tensor([[0, 3, 6]])), model(torch.tensor([[0, 3, 6]]))) and words == []
    assert again.token_embedding.to_encoding().floats == numpy_form.floats


def stored(**changes):
    model = gpt()
    return {"format": FORMAT, "config": vars(CONFIG), "words": [], "state": model.state_dict()} | changes


FOREIGN = {
    "a tensor": lambda: torch.zeros(3),
    "a list": lambda: [1, 2],
    "none": lambda: None,
    "other format": lambda: stored(format="see_min gpt 0"),
    "no format": lambda: {"state": {}},
    "unknown size": lambda: stored(config=vars(CONFIG) | {"experts": 2}),
    "another size": lambda: stored(config=vars(CONFIG) | {"vocabulary": 12}),
    "heads that do not divide": lambda: stored(config=vars(CONFIG) | {"heads": 4}),
    "no state": lambda: stored(state={}),
    "state of half an encoding": lambda: stored(state={"token_embedding.index": torch.zeros(11, 2)}),
    "state that is a list": lambda: stored(state=[1]),
    "no words": lambda: {key: value for key, value in stored().items() if key != "words"},
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_is_no_checkpoint_of_ours_is_named(tmp_path, make):
    torch.save(make(), tmp_path / "a.pt")
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'a.pt'}: expected a checkpoint of see_min, got ")) as caught:
        load_checkpoint(tmp_path / "a.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b".", b"N.", b"hello\n", b"\x80\x02.", b"PK\x03\x04", bytes(range(256))])
def test_a_file_of_other_bytes_is_named(tmp_path, data):
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'a.pt'}: expected a checkpoint of see_min, got ")):
        load_checkpoint(tmp_path / "a.pt")


def test_a_checkpoint_cut_anywhere_is_named(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(gpt(), path)
    whole = path.read_bytes()
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=re.escape(str(path))):
            load_checkpoint(path)


def test_a_missing_checkpoint_and_a_directory_are_named(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(DataError, match=re.escape(f"{path}: expected a checkpoint of see_min")):
            load_checkpoint(path)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_checkpoint_that_holds_code_is_refused_and_the_code_not_run(tmp_path):
    path, mark = tmp_path / "a.pt", tmp_path / "ran"
    evil = {"format": FORMAT, "config": {}, "words": Touch(mark), "state": {}}
    torch.save(evil, path)
    with pytest.raises(DataError, match=re.escape(str(path))):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(evil, protocol=2))
    with pytest.raises(DataError, match=re.escape(str(path))):
        load_checkpoint(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(evil))
    assert mark.exists()  # the trap works


def test_a_checkpoint_is_the_size_of_its_floats(tmp_path):
    model = gpt(config=GPTConfig(2000, 32, blocks=1, heads=1, context=4))
    save_checkpoint(model, tmp_path / "dense.pt")
    matrix = np.random.default_rng(0).standard_normal((2000, 1, 4)), np.random.default_rng(1).standard_normal((4, 32))
    numpy_form = SememeEncoding([matrix[0]], np.arange(2000)[:, None], carrier=matrix[1])
    swap_embedding(model, numpy_form)
    save_checkpoint(model, tmp_path / "small.pt")
    saved = (tmp_path / "dense.pt").stat().st_size - (tmp_path / "small.pt").stat().st_size
    assert saved > 4 * (2000 * 32 - numpy_form.floats) - 4 * 2000 - 4000  # int32 index; names of entries


# ------------------------------------------------------------------ the little GPT


@pytest.mark.parametrize("swapped", [False, True])
def test_a_later_token_leaves_earlier_logits_alone(swapped):
    model = gpt()
    if swapped:
        swap_embedding(model, gpt_encoding())
    ids = torch.tensor([[1, 2, 10, 0, 7]])
    before = model(ids)
    for t in range(1, 5):
        changed = ids.clone()
        changed[0, t] = 5
        after = model(changed)
        torch.testing.assert_close(after[:, :t], before[:, :t], rtol=1e-6, atol=1e-7)
        assert (after[:, t:] - before[:, t:]).abs().amax(-1).min() > 1e-6  # the token itself, and all after it, do change


def test_hidden_states_are_embeddings_and_one_a_block():
    assert [tuple(state.shape) for state in gpt().hidden_states(torch.zeros(2, 3, dtype=torch.long))] == [(2, 3, 6)] * 3


def test_the_context_is_the_longest_input():
    model = gpt()
    assert model(torch.zeros(1, 5, dtype=torch.long)).shape == (1, 5, 11)
    with pytest.raises(ShapeError, match=re.escape("ids: expected at most 5 positions, got 6")):
        model(torch.zeros(1, 6, dtype=torch.long))


def test_heads_that_do_not_divide_the_dimension_are_refused():
    with pytest.raises(DataError, match=re.escape("dimension: expected a multiple of 4 heads, got 6")):
        GPTConfig(vocabulary=11, dimension=6, heads=4)
