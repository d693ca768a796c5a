"""The registry: every file of the family is in it and says what it has to say; what it names can be run."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import see_min.related.registry as registry
from see_min.checks import DataError
from see_min.related.registry import EMBEDDINGS, FAMILIES, KINDS, METHODS, bits, table
from see_min.units import Annotation

FOLDER = Path(registry.__file__).parent
HELPERS = {"__init__", "registry", "primitives", "autoencoder", "layer"}  # what methods share
LONGER = {"product_quantization"}  # a method with its own k-means
FILES = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py") if path.stem not in HELPERS}
V, D = 211, 48


def faults(source, longest=120):
    """What the text of a method's file lacks, as a list of words."""
    docstring = ast.get_docstring(ast.parse(source)) or ""
    rules = {"objective": r"\b(minimise|maximise|keep|E\[)", "count": r"\b(floats|bits)\b", "source": r"^Source: ",
             "what is ours": r"\b(Simplified|Ours): "}
    found = [name for name, pattern in rules.items() if not re.search(pattern, docstring, re.MULTILINE)]
    return found + ["50 to 120 lines"] * (not 50 <= source.count("\n") <= longest)


def test_every_file_is_registered_and_every_entry_has_a_file():
    assert {method.code.split(".")[0] for method in METHODS.values()} == set(FILES)
    assert len(METHODS) == len({method.name for method in METHODS.values()}) >= len(EMBEDDINGS)


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_objective_count_source_and_what_is_ours_in_50_to_120_lines(name):
    assert faults(FILES[name], 300 if name in LONGER else 120) == []


def test_a_file_that_says_nothing_is_found():
    """The control of the test above."""
    assert faults('"""A method."""\n') == ["objective", "count", "source", "what is ours", "50 to 120 lines"]
    whole = FILES["svd"]
    assert faults(whole.replace("Source: ", "From: ", 1)) == ["source"]
    assert faults(whole.replace("Ours: ", "", 1)) == ["what is ours"]
    assert faults(whole + "\n" * 80) == ["50 to 120 lines"]


def test_entries_have_a_kind_a_family_and_a_source():
    for method in METHODS.values():
        assert method.kind in KINDS and method.family in FAMILIES, method.name
        assert re.fullmatch(r"\d{4}\.\d{5}|.+ \d{4}", method.source) and method.ours, method.name
        assert callable(method.run)


def test_table_has_a_line_for_every_method_with_equal_numbers_of_cells():
    lines = table().split("\n")
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == list(METHODS)
    assert {line.count("|") for line in lines} == {6}


def test_bits_are_32_a_float_and_those_of_whatever_else_is_kept():
    assert bits(SimpleNamespace(floats=7, index_bytes=3)) == 7 * 32 + 3 * 8
    assert bits(SimpleNamespace(floats=7, index_bits=3)) == 7 * 32 + 3


# one interface for all embedding methods

@pytest.fixture(scope="module")
def matrix():
    rng = np.random.default_rng(0)
    return rng.standard_normal((V, 6)) @ rng.standard_normal((6, D)) + 0.3 * rng.standard_normal((V, D))


def kept(method, matrix, ratio=3, seed=0):
    if method.torch:
        pytest.importorskip("torch")
    words = [f"word{w}" for w in range(len(matrix))]
    notes = [Annotation(morphemes=(f"stem{w % 17}", f"end{w % 5}")) for w in range(len(matrix))]
    offered = {"weights": np.linspace(2, 1, len(matrix)), "seed": seed, "names": words, "annotations": notes, "sweeps": 3}
    shorter = {"offline": {"steps": 100}, "direction-ae": {"epochs": 10}}.get(method.name, {})
    return method.run(matrix, ratio, **{name: offered[name] for name in method.takes}, **shorter)


@pytest.mark.parametrize("method", EMBEDDINGS, ids=lambda method: method.name)
def test_embedding_methods_keep_to_the_budget_and_give_rows_of_the_shape(method, matrix):
    one = kept(method, matrix)
    used = bits(one) / 32 if method.name == "pq" else one.floats
    budget = V * D / 3
    if method.name in ("svd", "weighted-svd"):  # rounded up to a rank
        assert used - (V + D) < budget <= used
    else:
        assert 0.5 * budget < used <= budget
    assert one.shape == (V, D) == one.rows(np.arange(V)).shape
    ids = np.array([[3, 0], [V - 1, 3]])
    np.testing.assert_allclose(one.rows(ids), one.rows(np.arange(V))[ids], rtol=1e-9, atol=1e-12)
    assert one.rows(5).shape == (D,) and one.rows(np.zeros(0, dtype=int)).shape == (0, D)
    for wrong in (V, -1):
        with pytest.raises(DataError, match=f"^ids: expected whole numbers from 0 to {V - 1}, got {wrong}$"):
            one.rows([wrong])


@pytest.mark.parametrize("method", EMBEDDINGS, ids=lambda method: method.name)
def test_embedding_methods_keep_the_directions_of_a_matrix_with_structure(method, matrix):
    """Better than dealing the rows to other words, which is the control."""
    rows = kept(method, matrix).rows(np.arange(V))
    cosine = lambda a, b: ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean()
    assert cosine(matrix, rows) > 0.2 and abs(cosine(matrix[::-1], rows)) < 0.1


@pytest.mark.parametrize("method", EMBEDDINGS, ids=lambda method: method.name)
def test_embedding_methods_repeat_and_leave_the_matrix_and_numpy_alone(method, matrix):
    before, small = np.random.get_state()[1].copy(), matrix[:97]
    copy = small.copy()
    first, again = (kept(method, small, seed=3).rows(np.arange(97)) for _ in range(2))
    assert (first == again).all() and (small == copy).all() and (np.random.get_state()[1] == before).all()
    if "seed" in method.takes and method.name != "word2ket":  # at order 2 it needs no random start
        assert (first != kept(method, small, seed=4).rows(np.arange(97))).any()


@pytest.mark.parametrize("method", EMBEDDINGS, ids=lambda method: method.name)
def test_ratios_out_of_reach_are_refused_by_plan_and_by_the_method(method, matrix):
    for ratio in (0.5, 1e4, np.nan):
        with pytest.raises(DataError, match=r"^ratio: expected 1 to \d+\.\d for .* with this vocabulary, got "):
            method.plan(V, D, ratio)
        with pytest.raises(DataError, match="^ratio: expected 1 to "):
            kept(method, matrix, ratio)


@pytest.mark.parametrize("method", EMBEDDINGS, ids=lambda method: method.name)
def test_the_largest_ratio_that_a_refusal_states_is_reached(method, matrix):
    with pytest.raises(DataError) as refusal:
        method.plan(V, D, 1e4)
    largest = float(re.search(r"to (\d+\.\d)", str(refusal.value))[1])
    one = kept(method, matrix, largest)
    assert (bits(one) / 32 if method.name == "pq" else one.floats) <= V * D / largest or method.run.__module__.endswith("svd")


def test_a_method_that_trains_says_so_where_torch_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(DataError, match="^torch: expected the package to be installed, got "):
        METHODS["offline"].plan  # noqa: B018
    assert METHODS["direction"].plan(V, D, 3) > 0
