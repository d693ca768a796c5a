"""The registry: every file of the family is in it; names lead to results."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from see_min.errors import InputError
from see_min.fitting.least_squares import frequency_weights
from see_min.recipe import FIT_POWER, PROJECTION_POWER, encode
from see_min.related import quantizers, registry, svd
from see_min.related.registry import EMBEDDINGS, KNOWN, LAYERS, RELATED, approximate
from see_min.words.vocabulary import build_vocabulary

FOLDER = Path(registry.__file__).parent
HELPERS = {"__init__", "registry", "primitives", "autoencoder", "layer", "forms"}
PATHS = [path for path in sorted(FOLDER.rglob("*.py")) if path.stem not in HELPERS]
V, D = 211, 48


def test_every_file_is_registered_and_entries_have_a_family_and_a_source():
    pytest.importorskip("torch")  # the net of CSformer is made of its modules
    every = (*EMBEDDINGS, *LAYERS)
    assert {method.code.split(".")[0] for method in every} == {path.stem for path in PATHS}
    assert len({method.name for method in every}) == len(every)
    for method in every:
        assert callable(method.run) and method.family in registry.FAMILIES, method.name
        assert re.fullmatch(r"\d{4}\.\d{5}|.+ \d{4}", method.source), method.name


# ------------------------------------------------------------------ one interface for all methods


@pytest.fixture(scope="module")
def matrix():
    rng = np.random.default_rng(0)
    low = rng.standard_normal((V, 6)) @ rng.standard_normal((6, D))
    return low + 0.3 * rng.standard_normal((V, D))


@pytest.fixture(scope="module")
def vocabulary():
    ends = ("", "s", "ed", "ing", "er")
    words = [f"word{chr(97 + w // 5 % 26)}{chr(97 + w // 130)}{ends[w % 5]}" for w in range(V)]
    counts = np.random.default_rng(3).permutation(1000 // np.arange(1, V + 1))  # rows in any order
    return build_vocabulary(words, "none", counts)


def kept(name, matrix, vocabulary, ratio=3, seed=0):
    needs = RELATED[name].needs if name in RELATED else ()
    if "torch" in needs or name in ("rq", "prq", "lsq"):
        pytest.importorskip("torch" if "torch" in needs else "faiss")
    shorter = {"offline": {"steps": 100}, "direction-ae": {"epochs": 10}}.get(name)
    if shorter:
        return RELATED[name].run(matrix, ratio, seed, **shorter)
    return approximate(matrix, vocabulary, name, ratio, seed, sweeps=2)


def numbers(name, one):
    """What the ratio counts: a quarter of the bytes, or parameters."""
    of_bytes = "method" in RELATED[name].needs if name in RELATED else one.bits is not None
    return registry.bits(one) / 32 if of_bytes else one.parameters


@pytest.mark.parametrize("name", KNOWN)
def test_methods_keep_to_the_budget_and_give_rows_of_the_shape(name, matrix, vocabulary):
    """Rows stand in no order; the control of quality is the matrix upside down."""
    copy = matrix.copy()
    one = kept(name, matrix, vocabulary)
    used, budget = numbers(name, one), V * D / 3
    if name in ("svd", "weighted-svd"):  # rounded up to a rank
        assert used - (V + D) < budget <= used
    else:
        assert (0.3 if "int4" in name else 0.5) * budget < used <= budget
    every = one.rows(np.arange(V))
    ids = np.array([[3, 0], [V - 1, 3]])
    assert one.shape == (V, D) == every.shape and (matrix == copy).all()
    np.testing.assert_allclose(one.rows(ids), every[ids], rtol=1e-9, atol=1e-12)
    assert one.rows(5).shape == (D,) and one.rows(np.zeros(0, dtype=int)).shape == (0, D)
    with pytest.raises(InputError, match=f"^ids: expected whole numbers from 0 to {V - 1}, got -1"):
        one.rows([-1])

    def cosine(a):
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(every, axis=1)
        return ((a * every).sum(1) / lengths).mean()

    assert cosine(matrix) > 0.2 and abs(cosine(matrix[::-1])) < 0.1
    assert hasattr(one, "tables") and hasattr(one, "index") or name not in registry.ENCODINGS


@pytest.mark.parametrize("name", ["see-parameters", "opq", "rq", "word2ket"])
def test_methods_repeat_with_their_seed(name, matrix, vocabulary):
    first, again, other = (kept(name, matrix, vocabulary, seed=s).rows([5]) for s in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any() == (name != "word2ket")  # at order 2 no random start


@pytest.mark.parametrize("name", KNOWN)
def test_ratios_out_of_reach_are_refused_by_plan_and_method(name, matrix, vocabulary):
    """And the largest ratio that a refusal states is reached."""
    for ratio in (0.5, np.nan, 1e4):
        text = r"^ratio: expected 1 to \d+\.\d for .*, got "
        with pytest.raises(InputError, match=text) as refusal:
            registry.plan_method((V, D), vocabulary, name, ratio)
        with pytest.raises(InputError, match="^ratio: expected 1 to "):
            kept(name, matrix, vocabulary, ratio)
    largest = float(re.search(r"to (\d+\.\d)", str(refusal.value))[1])
    one = kept(name, matrix, vocabulary, largest)
    assert numbers(name, one) <= V * D / largest or name in ("svd", "weighted-svd")


def test_names_lead_to_the_encodings_and_weights_they_stand_for(matrix, vocabulary):
    def row(name):
        return approximate(matrix, vocabulary, name, 4, 1, sweeps=2).rows(3)

    options = {"see": {}, "shuffled": {"control": "shuffled", "derived": True}}
    options["see-shared"] = {"count": "parameters", "per_term": False}
    options["morphemes"] = {"form": "morphemes"}
    for name, option in options.items():
        wanted = encode(matrix, vocabulary, 4, sweeps=2, seed=1, **option)
        assert (row(name) == wanted.rows(3)).all()
    weights = frequency_weights(vocabulary.counts, PROJECTION_POWER)
    assert (row("weighted-svd") == svd.fit(matrix, 4, weights).rows(3)).all()
    assert (row("svd") == svd.fit(matrix, 4).rows(3)).all()
    weights, counts = frequency_weights(vocabulary.counts, FIT_POWER), vocabulary.counts
    for name in ("opq", "svd-int8"):
        assert (row(name) == quantizers.fit(matrix, 4, name, weights, 1, counts).rows(3)).all()


def test_a_metric_reaches_see_and_its_opponents_and_no_other(matrix, vocabulary):
    metric = np.diag(np.arange(D) + 1.0)
    for name in ("see", "opq", "svd-int8", "weighted-svd", "int8", "morphemes"):
        with_, without = (
            approximate(matrix, vocabulary, name, 3, 1, C).rows(3) for C in (metric, None)
        )
        assert (with_ != without).any() == (name in ("see", "opq", "svd-int8"))


def test_a_method_names_the_package_that_is_missing_before_any_work(monkeypatch, vocabulary):
    for package, name in (("torch", "offline"), ("faiss", "rq")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InputError, match=f"^{package}: expected the package"):
            registry.plan_method((V, D), vocabulary, name, 3)
    assert registry.plan_method((V, D), vocabulary, "direction", 3) > 0
