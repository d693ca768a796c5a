"""The page that tells the method against the package: pico is the oracle of fit, index and rows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from slow import close, normal

from see_min import pico
from see_min.encoding import SememeEncoding
from see_min.fitting.least_squares import fit, projection
from see_min.storage.budget import Plan
from see_min.units import Annotation, Units, assign, shared_units, sparse_rows

V, D, R, U, SIZES = 61, 17, 3, 5, (4, 3)
WORDS = [f"word{w}" for w in range(V)]
PLAN = Plan(V, D, SIZES, R, U, knowledge=7)


@pytest.mark.parametrize("ridge, sweeps", [(0.5, 1), (0.5, 6), (2.0, 3)])
def test_a_fit_of_the_package_is_the_fit_of_the_page(ridge, sweeps):
    """With bag, weights of mean 1, reassignment, a projection, and a matrix of mean square 1."""
    rng = np.random.default_rng(0)
    E0, f = rng.standard_normal((V, D)), rng.uniform(0.2, 3, V)
    E0, f = E0 / np.sqrt((E0**2).mean()), f / f.mean()
    index = pico.hashed_index(WORDS, R, U)
    M = sparse_rows([rng.choice(7, 2, replace=False).tolist() for _ in range(V)], 7)
    assert (M.sum(0) > 1).all()  # no private vectors, which the page does not have
    P, T = projection(E0, f, 12), [rng.standard_normal((U, R, q)) for q in SIZES]
    start = SememeEncoding(T, index, P, M, np.zeros((7, 12)))
    units = Units(index, np.ones_like(index, dtype=bool), [(0, U)] * 2, [])
    encoding, history = fit(E0, start, f, units, sweeps, ridge)
    X = E0 @ P.T
    tables, moved, B, errors = pico.fit(X, f, T, index, M.toarray(), sweeps, ridge)
    assert np.array_equal(encoding.index, moved)
    for mine, its in zip([*encoding.tables, encoding.bag_vectors], [*tables, B], strict=True):
        close(mine, its)
    close(encoding.rows(np.arange(V)), pico.rows(tables, moved, M.toarray(), B, P))
    penalty = ridge * sum((part**2).sum() for part in (*tables, B))
    beyond = f @ (E0**2).sum(1) - f @ (X**2).sum(1)
    inside = errors[-1] * (f @ (X**2).sum(1))
    assert_allclose(history[-1], (inside + beyond + penalty) / (f @ (E0**2).sum(1)), rtol=1e-11)
    assert sweeps == 1 or not np.array_equal(moved, index)
    fixed = fit(E0, start, f, None, sweeps, ridge)[0]
    assert sweeps == 1 or not np.allclose(fixed.tables[0], tables[0])  # reassignment is not idle


def test_index_and_projection_of_the_page_are_those_of_the_package():
    units = assign(WORDS, [Annotation()] * V, PLAN)
    assert np.array_equal(units.index, pico.hashed_index(WORDS, R, U))
    E0, f = normal(V, D), np.random.default_rng(1).uniform(0.2, 3, V)
    P, Q = projection(E0, f, 5), pico.projection(E0, f, 5)
    assert_allclose(P.T @ P, Q.T @ Q, atol=1e-10)  # signs are free


def test_bag_of_the_page_holds_the_units_that_words_share():
    lexicon = {"add": [["more"]], "sum": [["more"]], "cut": [["less"]]}
    words = ["add", "adds", "sum", "cuts", "cut", "other"]
    M, names = pico.bag_matrix(words, lexicon)
    assert pico.units_of("adds", lexicon) == {"sememe:more", "stem:add", "affix:s"}
    assert names == ["affix:s", "sememe:less", "sememe:more", "stem:add", "stem:cut"]
    assert M[[1, 2, 5]].tolist() == [[1, 0, 1, 1, 0], [0, 0, 1, 0, 0], [0] * 5]
    notes = [Annotation((("more",),), ("add",)), Annotation((("more",),), ("add", "s"))]
    assert {str(unit) for unit in shared_units(notes)} == {"sememe:more", "stem:add"}


def test_the_page_runs_and_its_error_falls(capsys):
    pico.main()
    first, last = capsys.readouterr().out.strip().split("\n", 1)
    kept = int(first.split("->")[1].split(";")[0])
    assert first.startswith("720 parameters -> ") and kept < 720
    errors = [float(x) for x in last.split("[")[1].rstrip("]").split()]
    assert len(errors) == 10 and errors == sorted(errors, reverse=True)
