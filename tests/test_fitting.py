"""Alternating least squares: each step against a dense oracle, the history, known optima."""

import tracemalloc
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose
from slow import close, error, normal, product, slow_bag, slow_matrix, slow_row, slow_term, units_of

from see_min import assign, fit, relative_error
from see_min.encoding import SememeEncoding, private_units
from see_min.errors import InputError
from see_min.fitting import least_squares
from see_min.fitting.least_squares import frequency_weights, low_rank_encoding, projection
from see_min.storage.budget import Plan
from see_min.units import Annotation, Units, sparse_rows

V, R, U = 23, 3, 7
SIZES = (2, 3, 5)
shapes = pytest.mark.parametrize(
    "order, per_term", [(n, per_term) for n in (1, 2, 3) for per_term in (False, True)]
)


def problem(order=3, per_term=False, inner=False, bag=False, seed=0):
    """A matrix of mean square 1 (leaves need no rescaling), weights, a start, units 2 to 6 free."""
    rng = np.random.default_rng(seed)
    sizes = SIZES[:order]
    d = int(np.prod(sizes))
    matrix = rng.standard_normal((V, d + 2 if inner else d))
    matrix /= np.sqrt((matrix**2).mean())
    weights = rng.uniform(0.2, 3, V)
    index = rng.integers(0, U, (V, R if per_term else 1, order))
    free = (index >= 2) & (rng.random(index.shape) < 0.8)
    tables = [rng.standard_normal((U, R, q)) for q in sizes]
    P = projection(matrix, weights, d) if inner else None
    M = scipy.sparse.csr_array(rng.integers(0, 2, (V, 4)).astype(float)) if bag else None
    vectors = rng.standard_normal((4, d)) if bag else None
    start = SememeEncoding(tables, index, P, M, vectors)
    return matrix, weights, start, Units(index, free, [(2, U)] * order, [])


def term_groups(encoding):
    """Terms that are solved together."""
    every = list(range(encoding.rank))
    return [every] if encoding.index.shape[1] == 1 else [[k] for k in every]


def objective(matrix, weights, encoding, ridge):
    """J from scratch, with rows made by numpy.kron; the scale of the matrix is 1."""
    total = weights @ ((matrix - slow_matrix(encoding)) ** 2).sum(1)
    parts = [*encoding.tables, *([] if encoding.bag is None else [encoding.bag_vectors])]
    return total + ridge * sum((part**2).sum() for part in parts)


def dense_slot(state, target, weights, ridge, j, terms):
    """One weighted ridge regression over all unknowns (u, k, c) of slot j for some terms."""
    units, _, q = state.tables[j].shape
    columns = np.zeros((*target.shape, units, len(terms), q))
    for w, g, c in np.ndindex(V, len(terms), q):
        k = terms[g]
        own = units_of(state, w, k)
        leaves = [table[u, k] for table, u in zip(state.tables, own)]
        leaves[j] = np.eye(q)[c]
        columns[w, :, own[j], g, c] = product(leaves)
    roots = np.sqrt(weights)
    design = (roots[:, None, None] * columns.reshape(*target.shape, -1)).reshape(target.size, -1)
    penalty = np.sqrt(ridge) * np.eye(design.shape[1])
    right = np.append((roots[:, None] * target).reshape(-1), np.zeros(len(penalty)))
    return np.linalg.lstsq(np.vstack([design, penalty]), right)[0].reshape(units, len(terms), q)


@shapes
@pytest.mark.parametrize("inner", [False, True])
def test_a_sweep_solves_every_slot_like_one_dense_ridge_regression(order, per_term, inner):
    """D16: slot after slot, term group after term group, the state follows the dense solution.

    rtol 1e-9: the systems are solved in squared form, which doubles the digits lost.
    """
    matrix, weights, start, _ = problem(order, per_term, inner)
    target = matrix @ start.projection.T if inner else matrix
    state = replace(start, tables=[table.copy() for table in start.tables])
    result, _ = fit(matrix, start, weights, sweeps=1, ridge=0.5)
    for terms in term_groups(start):
        others = [k for k in range(R) if k not in terms]
        rest = [target[w] - sum(slow_term(state, w, k) for k in others) for w in range(V)]
        for j in range(order):
            state.tables[j][:, terms] = dense_slot(state, np.array(rest), weights, 0.5, j, terms)
            close(result.tables[j][:, terms], state.tables[j][:, terms], rtol=1e-9)


@shapes
@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("reassign", [False, True])
def test_no_step_raises_the_objective(order, per_term, more, ridge, reassign):
    """D17: slack 1e-12 of the matrix's norm: the history is a difference of sums of that size."""
    matrix, weights, start, units = problem(order, per_term, inner=more, bag=more)
    _, history = fit(matrix, start, weights, units if reassign else None, sweeps=6, ridge=ridge)
    steps = more + order * (R if per_term else 1)
    assert len(history) == 6 * steps and np.diff(history).max() <= 1e-12
    assert history[-1] < history[0] or steps == 1  # one slot alone is solved at once


def test_a_step_that_solves_another_problem_is_seen_in_the_history(monkeypatch):
    """D17: the control; leaves that are 30 % too long must raise the objective somewhere."""
    matrix, weights, start, _ = problem()
    solve = np.linalg.solve

    def longer(A, B):
        return 1.3 * solve(A, B)

    monkeypatch.setattr(least_squares.np.linalg, "solve", longer)
    assert np.diff(fit(matrix, start, weights, sweeps=6)[1]).max() > 1e-3


@shapes
@pytest.mark.parametrize("more", [False, True])
def test_the_recorded_objective_is_the_one_computed_from_scratch(order, per_term, more):
    """D18: after every sweep, with ridge on leaves and bag vectors and what P leaves out."""
    matrix, weights, start, _ = problem(order, per_term, inner=more, bag=more)
    norm = (weights[:, None] * matrix**2).sum()
    longest = fit(matrix, start, weights, sweeps=4, ridge=0.5)[1]
    for sweeps in (1, 2, 4):
        result, history = fit(matrix, start, weights, sweeps=sweeps, ridge=0.5)
        assert_allclose(history[-1], objective(matrix, weights, result, 0.5) / norm, rtol=1e-11)
        assert history == longest[: len(history)]


@shapes
def test_reassignment_gives_each_free_word_the_unit_of_least_error(order, per_term):
    """D20: the second sweep against trying every bucket for every free word; others stay."""
    matrix, weights, start, units = problem(order, per_term)
    once, _ = fit(matrix, start, weights, units, sweeps=1)
    after, _ = fit(matrix, start, weights, units, sweeps=2)
    assert np.array_equal(once.index, start.index)
    assert np.array_equal(after.index[~units.free], start.index[~units.free])
    state, moved = replace(once, index=once.index.copy()), 0
    for terms in term_groups(start):
        k = terms[0]
        for j in range(order):
            for w in np.nonzero(units.free[:, k, j])[0]:
                before, errors = state.index[w, k, j], []
                for u in range(2, U):
                    state.index[w, k, j] = u
                    errors.append(((matrix[w] - slow_row(state, w)) ** 2).sum())
                state.index[w, k, j] = best = 2 + int(np.argmin(errors))
                assert after.index[w, k, j] == best
                moved += best != before
            state.tables[j][:, terms] = after.tables[j][:, terms]
    assert moved > 0
    none = replace(units, buckets=[(U, U)] * order)  # no buckets, no move
    assert np.array_equal(fit(matrix, start, weights, none, sweeps=2)[0].index, start.index)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_the_bag_step_is_a_ridge_regression_on_the_units_of_each_word(ridge):
    """D21: on what the products of the start leave; without a ridge M has full column rank here."""
    matrix, weights, start, _ = problem(bag=True)
    rest = matrix - slow_matrix(start) + [slow_bag(start, w) for w in range(V)]
    roots = np.sqrt(weights)[:, None]
    design = np.vstack([roots * start.bag.toarray(), np.sqrt(ridge) * np.eye(4)])
    expected = np.linalg.lstsq(design, np.vstack([roots * rest, np.zeros((4, 30))]))[0]
    result, _ = fit(matrix, start, weights, sweeps=1, ridge=ridge)
    close(result.bag_vectors, expected, rtol=1e-9)  # squared form, and 1e-12 of damping


def decaying():
    """Weighted singular values fall by half each: such gaps let alternating steps converge."""
    left, right = np.linalg.qr(normal(31, 13))[0], np.linalg.qr(normal(13, 13, seed=1))[0]
    weights = np.random.default_rng(2).uniform(0.3, 3, 31)
    return (left * 0.5 ** np.arange(13)) @ right / np.sqrt(weights)[:, None], weights


def test_the_low_rank_encoding_cannot_be_beaten_at_its_rank():
    """D22: its error is the discarded spectrum; 60 subspaces that are not its own do worse."""
    matrix, weights = decaying()
    encoding = low_rank_encoding(matrix, weights, 3)
    least = relative_error(matrix, encoding, weights)
    spectrum = np.linalg.svd(np.sqrt(weights)[:, None] * matrix, compute_uv=False) ** 2
    assert_allclose(least, spectrum[3:].sum() / spectrum.sum(), rtol=1e-9)
    assert encoding.parameters == 31 * 3 + 3 * 13 and encoding.index_bytes == 0
    for seed, size in enumerate(np.repeat([0.01, 0.1, 1.0], 20)):
        P = np.linalg.qr((encoding.projection + size * normal(3, 13, seed=seed)).T)[0].T
        assert error(matrix, matrix @ P.T @ P, weights) > least


def test_the_projection_spans_the_top_right_singular_vectors_of_the_weighted_matrix():
    """D23: the projector is that of numpy's SVD, rows are orthonormal, and weights change it."""
    matrix, weights = decaying()
    P, plain = projection(matrix, weights, 4), projection(matrix, np.ones(31), 4)
    right = np.linalg.svd(np.sqrt(weights)[:, None] * matrix)[2][:4]
    assert_allclose(P @ P.T, np.eye(4), atol=1e-12)
    assert_allclose(P.T @ P, right.T @ right, atol=1e-10)  # squared: gaps of 1/100 at the cut
    assert np.abs(plain.T @ plain - right.T @ right).max() > 1e-3


@pytest.mark.parametrize("bag", [False, True])
def test_the_error_beyond_the_projection_is_a_constant_of_the_history(bag):
    """D24: Pythagoras: the history is the whole error, never below what lies outside the span."""
    matrix, weights, start, _ = problem(2, inner=True, bag=bag)
    result, history = fit(matrix, start, weights, sweeps=5, ridge=0)
    assert_allclose(history[-1], relative_error(matrix, result, weights), rtol=1e-9)
    P = start.projection
    beyond = error(matrix, matrix @ P.T @ P, weights)
    inside = error(matrix @ P.T, result.inner_rows(np.arange(V)), weights) * (1 - beyond)
    assert min(history) > beyond > 1e-3
    assert_allclose(history[-1], beyond + inside, rtol=1e-9)


@shapes
@pytest.mark.parametrize("private", [False, True])
def test_turning_the_projection_never_raises_the_objective(order, per_term, private):
    """D93: with reassignment; P keeps orthonormal rows, and the history is the whole error."""
    matrix, weights, start, units = problem(order, per_term, inner=True)
    start = owning(start) if private else start
    before = fit(matrix, start, weights, units, sweeps=1, ridge=0)[1]
    result, history = fit(matrix, start, weights, units, sweeps=6, ridge=0, turn=True)
    assert np.diff(history).max() <= 1e-12 and len(history) == 6 * (len(before) + 1)
    assert history[len(before)] < before[-1] - 1e-3  # the first turn
    P = result.projection
    close(P @ P.T, np.eye(len(P)))
    assert_allclose(history[-1], relative_error(matrix, result, weights), rtol=1e-9)


def test_no_other_projection_is_better_for_the_same_rows():
    """D93: after one step, against 500 orthonormal ones near and far; the rows stay as they are."""
    matrix, weights, start, _ = problem(2, inner=True)
    result, _ = fit(matrix, start, weights, sweeps=1, turn=True)
    P, Y = result.projection, result.inner_rows(np.arange(V))  # (d', D), (V, d')
    kept, _ = fit(matrix, start, weights, sweeps=1)
    close(kept.inner_rows(np.arange(V)), Y)
    least, rng = error(matrix, Y @ P, weights), np.random.default_rng(0)
    assert least < error(matrix, Y @ start.projection, weights) - 1e-5
    for step in np.repeat((1e-3, 0.1, 10), 500 // 3):
        other = np.linalg.qr((P + step * rng.standard_normal(P.shape)).T)[0].T
        other *= np.sign((other * P).sum(1))[:, None]  # qr may turn a row round
        assert error(matrix, Y @ other, weights) > least


def test_a_wrong_turn_is_seen_in_the_history(monkeypatch):
    """D93: the control; the SVD of the unweighted sum is another projection."""
    matrix, weights, start, _ = problem(2, inner=True)
    svd = np.linalg.svd

    def other(total, **options):
        return svd(total + normal(*total.shape) * np.abs(total).max(), **options)

    monkeypatch.setattr(least_squares.np.linalg, "svd", other)
    assert np.diff(fit(matrix, start, weights, sweeps=3, turn=True)[1]).max() > 1e-3


def test_an_exactly_representable_matrix_is_recovered_and_its_shuffled_entries_are_not():
    """D25: order 2, two terms, 61 words on 7 units per slot, a start 10 % away from the truth."""
    index = np.random.default_rng(3).integers(0, U, (61, 1, 2))
    truth = SememeEncoding([normal(U, 2, q, seed=q) for q in (3, 5)], index)
    matrix = truth.rows(np.arange(61))
    scale = np.sqrt(np.sqrt((matrix**2).mean()))
    near = [table / scale + 0.1 * normal(*table.shape, seed=9) for table in truth.tables]
    start = SememeEncoding(near, index)
    assert relative_error(matrix, fit(matrix, start, sweeps=200, ridge=0)[0]) < 1e-12
    mixed = np.random.default_rng(4).permutation(matrix.reshape(-1)).reshape(matrix.shape)
    assert relative_error(mixed, fit(mixed, start, sweeps=200, ridge=0)[0]) > 0.5


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("factor", [1e-4, 7.0])
def test_scaling_the_matrix_scales_the_fitted_rows(order, factor):
    """D26: with ridge, projection, bag and reassignment; leaves of a start have no units."""
    matrix, weights, start, units = problem(order, inner=True, bag=True)
    start.bag_vectors *= 0  # those of a start are in the units of the matrix
    one, history = fit(matrix, start, weights, units, sweeps=4)
    other, scaled = fit(factor * matrix, start, weights, units, sweeps=4)
    close(other.rows(range(V)) / factor, one.rows(range(V)), rtol=1e-8)
    assert_allclose(scaled, history, rtol=1e-10)  # rounding of the scale, through four sweeps
    unfitted, none = fit(factor * matrix, start, weights, sweeps=0)
    close(unfitted.rows(range(V)), factor * start.rows(range(V)), rtol=1e-9)
    assert none == []


def owning(start, owners=(3, 17)):
    """The start with a bag in which each of some words alone has a unit; the rest share four."""
    M = [[4 + owners.index(w)] if w in owners else [w % 4] for w in range(V)]
    bag = sparse_rows(M, 4 + len(owners))
    return replace(start, bag=bag, bag_vectors=normal(bag.shape[1], start.inner_dim, seed=1))


def test_a_word_with_a_private_vector_is_exact_and_affects_nothing_else():
    """D34: these are the parts of a fit to the remaining words, their mean weight that of all."""
    matrix, weights, start, units = problem(2, inner=True)
    start = owning(start)
    P, rest = start.projection, np.setdiff1d(np.arange(V), (3, 17))
    result, history = fit(matrix, start, weights, units, sweeps=4)
    close(result.rows([3, 17]), matrix[[3, 17]] @ P.T @ P)
    assert not result.index[[3, 17]].any() and start.index[[3, 17]].any()  # codes say nothing
    alone = weights[rest] * weights.mean() / weights[rest].mean()
    part = replace(start, index=start.index[rest], bag=start.bag[rest])
    some = replace(units, index=units.index[rest], free=units.free[rest])
    expected, other = fit(matrix[rest], part, alone, some, sweeps=4)
    close(result.rows(rest), expected.rows(np.arange(len(rest))))
    lost = weights[[3, 17]] @ ((matrix - matrix @ P.T @ P)[[3, 17]] ** 2).sum(1)
    squares = weights * (matrix**2).sum(1)  # the history is of all words
    total = (np.array(other) * squares[rest].sum() + lost) / squares.sum()
    assert_allclose(history, total, rtol=1e-11)
    matrix[[3, 17]] *= 9
    close(fit(matrix, start, weights, units, sweeps=4)[0].rows(rest), result.rows(rest))
    matrix, weights, start, _ = problem(2)  # no projection, nothing beyond it
    result, history = fit(matrix, owning(start), weights, sweeps=2, ridge=0)
    assert_allclose(history[-1], relative_error(matrix, result, weights), rtol=1e-9)


def test_a_private_unit_is_one_that_no_other_word_has():
    rng = np.random.default_rng(2)
    bags = [rng.choice(30, 3, replace=False).tolist() for _ in range(V)]
    M = sparse_rows(bags, 30)
    expected = {}
    for w, bag in enumerate(bags):
        for u in sorted(bag):
            if sum(u in other for other in bags) == 1:
                expected.setdefault(w, u)
    assert 2 < len(expected) < V
    words, private = private_units(M)
    assert words.tolist() == list(expected) and all(M.sum(0)[private] == 1)
    everyone = owning(problem(2)[2], tuple(range(V)))  # nothing is left to fit
    matrix = normal(V, 6)
    result, history = fit(matrix, everyone)
    close(result.rows(range(V)), matrix)
    assert history[0] < 1e-30


@pytest.mark.parametrize("inner", [False, True])
def test_nothing_depends_on_the_size_of_a_block_or_on_a_mapped_file(inner, monkeypatch, tmp_path):
    """Blocks of 5 in 23 words against one block (other sums: 1e-9); float32 in double."""
    matrix, weights, start, units = problem(2, inner=inner)
    matrix, start = matrix.astype(np.float32), owning(start)
    np.save(tmp_path / "e.npy", matrix)
    mapped = np.load(tmp_path / "e.npy", mmap_mode="r")

    def results(E0):
        fitted, history = fit(E0, start, weights, units, sweeps=3, turn=inner)
        P, low = projection(E0, weights, 4), low_rank_encoding(E0, weights, 2)
        errors = [relative_error(E0, one, weights) for one in (fitted, low)]
        return [fitted.rows(range(V)), np.array(history), P.T @ P, low.rows(range(V)), errors]

    whole = results(matrix.astype(float))
    assert_allclose(whole[4][1], error(matrix.astype(float), whole[3], weights), rtol=1e-9)
    for size in (4096, 5):
        monkeypatch.setattr(least_squares, "BLOCK", size)
        for E0 in (matrix, mapped):
            for one, other in zip(results(E0), whole):
                close(one, other, rtol=1e-9)
    assert fit(matrix, start, sweeps=1)[0].tables[0].dtype == float


def test_a_fit_of_a_mapped_file_never_holds_a_copy_of_the_matrix(tmp_path, monkeypatch):
    """Of 20 MB of float32 less than half are allocated at any time; the control makes a copy."""
    rng, path = np.random.default_rng(0), tmp_path / "e.npy"
    np.save(path, rng.standard_normal((20_000, 256), dtype=np.float32))
    monkeypatch.setattr(least_squares, "BLOCK", 512)
    mapped, peaks = np.load(path, mmap_mode="r"), []
    bag = sparse_rows([[w] if w < 1000 else [] for w in range(len(mapped))], 1000)
    tables, index = [normal(50, 3, 4), normal(50, 3, 4)], rng.integers(0, 50, (len(mapped), 1, 2))
    for read in (np.asarray, np.float64):
        tracemalloc.start()
        matrix = read(mapped)
        P = projection(matrix, np.ones(len(matrix)), 16)
        start = SememeEncoding(tables, index, P, bag, np.zeros((1000, 16)))
        encoding, _ = fit(matrix, start, sweeps=1, turn=True)
        assert relative_error(matrix, encoding) < 1
        peaks.append(tracemalloc.get_traced_memory()[1] / mapped.nbytes)
        tracemalloc.stop()
    assert peaks[0] < 0.5 and peaks[1] > 2, peaks


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_singular_systems_do_not_stop_a_fit(ridge):
    """Units without words; with one slot all terms of a unit have the same rows."""
    matrix, _, start, _ = problem(1)
    start.index[:] = 3
    result, _ = fit(matrix, start, sweeps=3, ridge=ridge)
    expected = matrix.mean(0) * V / (V + ridge / R)
    assert_allclose(result.rows([0])[0], expected, rtol=1e-6)  # damping of 1e-12
    zero = fit(np.zeros_like(matrix), start, sweeps=2, ridge=ridge)[0]
    assert np.abs(zero.rows(range(V))).max() == 0


def test_a_fit_leaves_its_start_as_it_is_and_reports_each_sweep():
    matrix, weights, start, units = problem(bag=True)
    before, seen = deepcopy(start), []

    def progress(*step):
        seen.append(step)

    _, history = fit(matrix, start, weights, units, sweeps=3, progress=progress)
    assert seen == [(s, history[4 * s + 3]) for s in range(3)]
    assert all(type(value) is float for value in history)
    assert np.array_equal(start.index, before.index)
    assert all(np.array_equal(start.arrays[name], one) for name, one in before.arrays.items())


def test_frequency_weights_have_mean_one_and_grow_with_the_count():
    counts = np.array([0, 3, 3, 99])
    assert_allclose(frequency_weights(counts), np.array([1, 2, 2, 10]) / 3.75, rtol=1e-12)
    assert_allclose(frequency_weights(counts, power=0), 1, rtol=1e-12)


@pytest.mark.parametrize("rank, sizes", [(1, (5, 7)), (11, (5, 7)), (5, (3, 5, 2))])
def test_a_random_start_has_entries_of_variance_one(rank, sizes):
    """Within 10 %: 400 words of few units, so that entries are far from independent."""
    words = [f"w{i}" for i in range(400)]
    plan = Plan(400, int(np.prod(sizes)), sizes, rank, 101, form="paper")
    units = assign(words, [Annotation()] * 400, plan)
    starts = [least_squares.random_encoding(units, plan, seed) for seed in range(20)]
    assert abs(np.mean([(start.rows(range(400)) ** 2).mean() for start in starts]) - 1) < 0.1
    again = least_squares.random_encoding(units, plan, 3)
    assert np.array_equal(starts[3].tables[0], again.tables[0])


MATRIX, WEIGHTS, START, _ = problem(2, inner=True)
SHARED = SememeEncoding([np.ones((U, R, 2))] * 2, np.zeros((V, 1, 2), int))


@pytest.mark.parametrize(("call", "text"), [
    (lambda: fit(MATRIX[:, 1:], START), r"matrix: expected shape \(23, 8\), got \(23, 7\)"),
    (lambda: fit(MATRIX, START, -np.ones(V)), "weights: expected at least 0, got -1"),
    (lambda: fit(MATRIX, START, ridge=-0.5), "ridge: expected at least 0, got -0.5"),
    (lambda: fit(MATRIX * 1e300, START), "matrix: expected finite numbers, got 184 that are NaN,"),
    (lambda: fit(MATRIX * 1e-300, START), "matrix: expected a number above 1e-100, got"),
    (lambda: fit(MATRIX, replace(START, projection=2 * START.projection)),
     "projection: expected orthonormal rows, got products"),
    (lambda: fit(np.ones((V, 4)), SHARED), "expected a table for each slot, got slots that share"),
])
def test_what_does_not_fit_together_is_refused(call, text):
    with pytest.raises(InputError, match=text):
        call()
