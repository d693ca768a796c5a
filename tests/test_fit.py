"""Alternating least squares: every step against a dense oracle, the history, the corners that have a known optimum."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from real_size_fit import random_matrix, real_size_fit, write_random

import see_min.als
import see_min.fit
from see_min.budget import Plan
from see_min.checks import DataError, ShapeError
from see_min.encoding import SememeEncoding
from see_min.fit import carrier, fit, frequency_weights, low_rank_encoding, own_units, random_encoding, relative_error
from see_min.units import Annotation, Units, assign

V, R, U = 23, 3, 7
SIZES = (2, 3, 5)
SHAPES = [(order, by_term) for order in (1, 2, 3) for by_term in (False, True)]


def problem(order=3, by_term=False, amplitudes=False, inner=False, bag=False, seed=0):
    """A random matrix of mean square 1 (then leaves need no rescaling), weights, a start, and units of which 2 to 6 are free."""
    rng = np.random.default_rng(seed)
    sizes = SIZES[:order]
    d = int(np.prod(sizes))
    matrix = rng.standard_normal((V, d + 2 if inner else d))
    matrix /= np.sqrt((matrix**2).mean())
    weights = rng.uniform(0.2, 3, V)
    index = rng.integers(0, U, (V, R, order) if by_term else (V, order))
    free = (index >= 2) & (rng.random(index.shape) < 0.8)
    start = SememeEncoding(
        [rng.standard_normal((U, R, q)) for q in sizes], index,
        1 + 0.5 * rng.standard_normal((V, R)) if amplitudes else None,
        carrier(matrix, weights, d) if inner else None,
        rng.integers(-1, 4, (V, 2)) if bag else None,
        rng.standard_normal((4, d)) if bag else None,
    )
    return matrix, weights, start, Units(index, free, [(2, U)] * order, [])


class State:
    """The parts of an encoding as plain arrays, and rows made with numpy.kron in loops."""

    def __init__(self, encoding):
        V, r, n = len(encoding.index), encoding.rank, encoding.order
        self.tables = [table.copy() for table in encoding.tables]
        self.index = encoding.index.copy() if encoding.index.ndim == 3 else np.stack([encoding.index] * r, axis=1)  # (V, r, n)
        self.alpha = np.ones((V, r)) if encoding.amplitudes is None else encoding.amplitudes.copy()
        self.bag, self.vectors = encoding.bag, None if encoding.bag is None else encoding.bag_vectors.copy()
        self.n, self.r = n, r

    def term(self, w, k):
        out = np.array([self.alpha[w, k]])
        for j in range(self.n):
            out = np.kron(out, self.tables[j][self.index[w, k, j], k])
        return out

    def bag_row(self, w):
        units = [] if self.bag is None else [u for u in self.bag[w] if u >= 0]
        return sum((self.vectors[u] for u in units), 0.0)

    def row(self, w):
        return self.bag_row(w) + sum(self.term(w, k) for k in range(self.r))

    def objective(self, matrix, weights, ridge, P=None):
        total = 0.0
        for w in range(len(matrix)):
            row = self.row(w) if P is None else self.row(w) @ P
            total += weights[w] * ((matrix[w] - row) ** 2).sum()
        leaves = [*self.tables] + ([] if self.bag is None else [self.vectors])
        return total + ridge * sum((leaf**2).sum() for leaf in leaves)


def dense_slot(state, target, weights, ridge, j, terms):
    """One weighted ridge regression over all unknowns (u, k, c) of slot j for some terms: a column each, a row a number."""
    units, _, q = state.tables[j].shape
    columns = np.zeros((*target.shape, units, len(terms), q))
    for w in range(len(target)):
        for g, k in enumerate(terms):
            for c in range(q):
                out = np.array([state.alpha[w, k]])
                for i in range(state.n):
                    out = np.kron(out, np.eye(q)[c] if i == j else state.tables[i][state.index[w, k, i], k])
                columns[w, :, state.index[w, k, j], g, c] = out
    design = (np.sqrt(weights)[:, None, None] * columns.reshape(*target.shape, -1)).reshape(target.size, -1)
    goal = (np.sqrt(weights)[:, None] * target).reshape(-1)
    unknowns = design.shape[1]
    solution = np.linalg.lstsq(np.vstack([design, np.sqrt(ridge) * np.eye(unknowns)]), np.append(goal, np.zeros(unknowns)))[0]
    return solution.reshape(units, len(terms), q)


@pytest.mark.parametrize("order, by_term", SHAPES)
@pytest.mark.parametrize("inner", [False, True])
def test_a_sweep_solves_every_slot_like_one_dense_ridge_regression(order, by_term, inner):
    """D16: slot after slot, term group after term group, the state follows the dense solution.

    rtol 1e-9: the systems are solved in squared form, which doubles the digits lost.
    """
    matrix, weights, start, _ = problem(order, by_term, inner=inner)
    target = matrix @ start.carrier.T if inner else matrix
    state = State(start)
    result, _ = fit(matrix, start, weights, sweeps=1, ridge=0.5)
    for terms in [[k] for k in range(R)] if by_term else [list(range(R))]:
        others = [k for k in range(R) if k not in terms]
        rest = np.array([target[w] - sum((state.term(w, k) for k in others), 0.0) for w in range(V)])
        for j in range(order):
            state.tables[j][:, terms] = dense_slot(state, rest, weights, 0.5, j, terms)
            np.testing.assert_allclose(result.tables[j][:, terms], state.tables[j][:, terms], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("order, by_term", SHAPES)
@pytest.mark.parametrize("amplitudes, inner, bag", [(0, 0, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1)])
@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("redeal", [False, True])
def test_no_step_raises_the_objective(order, by_term, amplitudes, inner, bag, ridge, redeal):
    """D17: slack 1e-12 of the matrix's own norm, since the history is a difference of sums of that size."""
    matrix, weights, start, units = problem(order, by_term, amplitudes, inner, bag)
    _, history = fit(matrix, start, weights, units if redeal else None, sweeps=6, ridge=ridge)
    steps = bag + (order + amplitudes) * (R if by_term else 1)
    assert len(history) == 6 * steps
    assert np.diff(history).max() <= 1e-12
    assert history[-1] < history[0] or steps == 1  # one slot alone is solved at once


def test_a_step_that_solves_another_problem_is_seen_in_the_history(monkeypatch):
    """D17: the control; leaves that are 30 % too long must raise the objective somewhere."""
    matrix, weights, start, _ = problem()
    solve = np.linalg.solve
    monkeypatch.setattr(see_min.fit.np.linalg, "solve", lambda A, B: 1.3 * solve(A, B))
    _, history = fit(matrix, start, weights, sweeps=6)
    assert np.diff(history).max() > 1e-3


@pytest.mark.parametrize("order, by_term", SHAPES)
@pytest.mark.parametrize("inner, bag", [(False, False), (True, True)])
def test_the_recorded_objective_is_the_one_computed_from_scratch(order, by_term, inner, bag):
    """D18: after every sweep, with the ridge on leaves and bag vectors, and the error beyond the carrier."""
    matrix, weights, start, _ = problem(order, by_term, inner=inner, bag=bag)
    norm = (weights[:, None] * matrix**2).sum()
    longest = fit(matrix, start, weights, sweeps=4, ridge=0.5)[1]
    for sweeps in (1, 2, 4):
        result, history = fit(matrix, start, weights, sweeps=sweeps, ridge=0.5)
        expected = State(result).objective(matrix, weights, 0.5, result.carrier) / norm
        np.testing.assert_allclose(history[-1], expected, rtol=1e-11)
        assert history == longest[: len(history)]


def test_the_objective_is_recorded_after_every_slot_of_a_sweep():
    """D18: within the first sweep the state after step j is known: slots up to j are new, the others are the start's."""
    matrix, weights, start, _ = problem()
    result, history = fit(matrix, start, weights, sweeps=1, ridge=0.5)
    state, norm = State(start), (weights[:, None] * matrix**2).sum()
    for j in range(3):
        state.tables[j] = result.tables[j]
        np.testing.assert_allclose(history[j], state.objective(matrix, weights, 0.5) / norm, rtol=1e-11)


@pytest.mark.parametrize("by_term", [False, True])
def test_amplitudes_are_one_more_slot_of_size_one(by_term):
    """D19: the fit with amplitudes is the fit of an encoding with the slot (V, r, 1) that word w owns at index w."""
    matrix, weights, start, _ = problem(2, by_term, amplitudes=True)
    number = np.arange(V)[:, None, None] if by_term else np.arange(V)[:, None]
    own = np.broadcast_to(number, (*start.index.shape[:-1], 1))
    longer = SememeEncoding([*start.tables, start.amplitudes[:, :, None]], np.concatenate([start.index, own], axis=-1))
    np.testing.assert_allclose(longer.rows(range(V)), start.rows(range(V)), rtol=1e-12, atol=1e-14)
    a, history_a = fit(matrix, start, weights, sweeps=3)
    b, history_b = fit(matrix, longer, weights, sweeps=3)
    np.testing.assert_allclose(a.rows(range(V)), b.rows(range(V)), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(history_a, history_b, rtol=1e-11)


def test_amplitudes_solve_a_ridge_regression_a_word():
    """D19: alpha_w is the ridge regression of E0[w] on the r product states of w."""
    matrix, weights, start, _ = problem(3, amplitudes=True)
    result, _ = fit(matrix, start, weights, sweeps=1, ridge=0.5)
    state = State(result)
    state.alpha[:] = 1
    for w in range(V):
        terms = np.sqrt(weights[w]) * np.stack([state.term(w, k) for k in range(R)], axis=1)  # (D, r)
        goal = np.append(np.sqrt(weights[w]) * matrix[w], np.zeros(R))
        expected = np.linalg.lstsq(np.vstack([terms, np.sqrt(0.5) * np.eye(R)]), goal)[0]
        np.testing.assert_allclose(result.amplitudes[w], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("order, by_term", SHAPES)
@pytest.mark.parametrize("amplitudes", [False, True])
def test_redealing_gives_each_free_word_the_unit_of_least_error(order, by_term, amplitudes):
    """D20: the second sweep against trying every unit of the range on every free word; no other entry moves."""
    matrix, weights, start, units = problem(order, by_term, amplitudes)
    once, _ = fit(matrix, start, weights, units, sweeps=1)
    twice, _ = fit(matrix, start, weights, units, sweeps=2)
    assert np.array_equal(once.index, start.index)
    assert np.array_equal(twice.index[~units.free], start.index[~units.free])
    state, after, moved = State(once), State(twice), 0
    free = units.free if by_term else np.stack([units.free] * R, axis=1)  # (V, r, n)
    for terms in [[k] for k in range(R)] if by_term else [list(range(R))]:
        for j in range(order):
            for w in np.nonzero(free[:, terms[0], j])[0]:
                before, errors = state.index[w, terms[0], j], []
                for u in range(2, U):
                    state.index[w, terms, j] = u
                    errors.append(((matrix[w] - state.row(w)) ** 2).sum())
                best = 2 + int(np.argmin(errors))
                assert (after.index[w, terms, j] == best).all()
                state.index[w, terms, j] = best
                moved += best != before
            state.tables[j][:, terms] = after.tables[j][:, terms]
        state.alpha[:, terms] = after.alpha[:, terms]
    assert moved > 0


def test_redealing_lowers_the_error_of_a_bad_start():
    """D20: words of five clusters that were dealt at random find a unit of their own cluster; without re-dealing they cannot."""
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((5, 12))[rng.integers(0, 5, 200)]
    index = rng.integers(0, 5, (200, 1))
    start = SememeEncoding([rng.standard_normal((5, 1, 12))], index)
    units = Units(index, np.ones_like(index, dtype=bool), [(0, 5)], [])
    kept = fit(matrix, start, sweeps=20, ridge=0)[1][-1]
    dealt = fit(matrix, start, units=units, sweeps=20, ridge=0)[1][-1]
    assert kept > 0.7 and dealt < 0.3, (kept, dealt)


def test_slots_without_backoff_units_are_not_redealt():
    matrix, weights, start, units = problem()
    units.free[:], units.backoff = False, [(U, U)] * 3
    result, _ = fit(matrix, start, weights, units, sweeps=3)
    assert np.array_equal(result.index, start.index)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_the_bag_step_is_a_ridge_regression_on_the_units_of_each_word(ridge):
    """D21: the 0/1 (or count) matrix is filled by loops; without a ridge the matrix has full column rank here."""
    matrix, weights, start, _ = problem(bag=True)
    counts = np.zeros((V, 4))
    for w in range(V):
        for u in start.bag[w]:
            if u >= 0:
                counts[w, u] += 1
    state = State(start)
    rest = np.array([matrix[w] - sum(state.term(w, k) for k in range(R)) for w in range(V)])
    roots = np.sqrt(weights)[:, None]
    design = np.vstack([roots * counts, np.sqrt(ridge) * np.eye(4)])
    expected = np.linalg.lstsq(design, np.vstack([roots * rest, np.zeros((4, rest.shape[1]))]))[0]
    result, _ = fit(matrix, start, weights, sweeps=1, ridge=ridge)
    np.testing.assert_allclose(result.bag_vectors, expected, rtol=1e-9, atol=1e-11)  # squared form, and 1e-12 of damping


def decaying(V=31, D=13, seed=0):
    """A matrix whose weighted singular values fall by half each: the gaps make alternating steps converge fast."""
    rng = np.random.default_rng(seed)
    left, right = np.linalg.qr(rng.standard_normal((V, D)))[0], np.linalg.qr(rng.standard_normal((D, D)))[0]
    weights = rng.uniform(0.3, 3, V)
    return (left * 0.5 ** np.arange(D)) @ right / np.sqrt(weights)[:, None], weights


def discarded(matrix, weights, rank):
    """Sum of squares of the singular values after `rank` of diag(sqrt f) E0, as a share of all."""
    squares = np.linalg.svd(np.sqrt(weights)[:, None] * matrix, compute_uv=False) ** 2
    return squares[rank:].sum() / squares.sum()


def test_one_unit_with_free_amplitudes_reaches_the_weighted_truncated_svd():
    """D22: E = alpha @ leaves is any matrix of rank r; rtol 1e-9, where the iteration has converged."""
    matrix, weights = decaying()
    rng = np.random.default_rng(1)
    start = SememeEncoding([rng.standard_normal((1, 3, 13))], np.zeros((31, 1), int), rng.standard_normal((31, 3)))
    result, history = fit(matrix, start, weights, sweeps=60, ridge=0)
    best = discarded(matrix, weights, 3)
    np.testing.assert_allclose(relative_error(matrix, result, weights), best, rtol=1e-9)
    assert min(history) >= best * (1 - 1e-9)
    unweighted = fit(matrix, start, sweeps=60, ridge=0)[0]
    assert relative_error(matrix, unweighted, weights) > 1.01 * best  # control: another problem has another optimum


def test_the_low_rank_encoding_cannot_be_beaten_at_its_rank():
    """D22: its error is the discarded spectrum, and 50 random subspaces that are not its own do worse."""
    matrix, weights = decaying()
    encoding = low_rank_encoding(matrix, weights, 3)
    error = relative_error(matrix, encoding, weights)
    np.testing.assert_allclose(error, discarded(matrix, weights, 3), rtol=1e-9)
    assert encoding.floats == 31 * 3 + 3 * 13
    rng = np.random.default_rng(2)
    for size in np.repeat([0.01, 0.1, 1.0], 20):
        P = np.linalg.qr((encoding.carrier + size * rng.standard_normal((3, 13))).T)[0].T
        other = (weights[:, None] * (matrix - matrix @ P.T @ P) ** 2).sum() / (weights[:, None] * matrix**2).sum()
        assert other > error


def test_the_carrier_spans_the_top_right_singular_vectors_of_the_weighted_matrix():
    """D23: the projector is that of numpy's SVD, the rows are orthonormal, and weights change it."""
    matrix, weights = decaying()
    P = carrier(matrix, weights, 4)
    right = np.linalg.svd(np.sqrt(weights)[:, None] * matrix)[2][:4]
    np.testing.assert_allclose(P @ P.T, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(P.T @ P, right.T @ right, atol=1e-10)  # squared singular values: gaps of 1/100 at the cut
    plain = carrier(matrix, np.ones(31), 4)
    assert np.abs(plain.T @ plain - right.T @ right).max() > 1e-3


@pytest.mark.parametrize("bag", [False, True])
def test_the_error_beyond_the_carrier_is_a_constant_of_the_history(bag):
    """D24: Pythagoras: the history is the whole error, and never below what lies outside the carrier's span."""
    matrix, weights, start, _ = problem(2, inner=True, bag=bag)
    result, history = fit(matrix, start, weights, sweeps=5, ridge=0)
    np.testing.assert_allclose(history[-1], relative_error(matrix, result, weights), rtol=1e-9)
    P, norm = start.carrier, (weights[:, None] * matrix**2).sum()
    beyond = (weights[:, None] * (matrix - matrix @ P.T @ P) ** 2).sum() / norm
    inside = (weights[:, None] * (matrix @ P.T - result.inner_rows(np.arange(V))) ** 2).sum() / norm
    assert min(history) > beyond > 1e-3
    np.testing.assert_allclose(history[-1], beyond + inside, rtol=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("redeal", [False, True])
def test_one_table_for_all_slots_stays_one_and_never_raises_the_objective(ridge, redeal):
    """D35: and the objective that is recorded is the one computed from scratch, the table counted once."""
    rng = np.random.default_rng(5)
    table, index = rng.standard_normal((U, R, 3)), rng.integers(0, U, (V, 2))
    matrix, weights = rng.standard_normal((V, 9)), rng.uniform(0.1, 2, V)
    free = Units(index, np.ones_like(index, bool), [(0, U)] * 2, [[]] * 2)
    result, history = fit(matrix, SememeEncoding([table, table], index), weights, free if redeal else None, 8, ridge)
    assert result.tables[0] is result.tables[1] and result.floats == table.size
    assert len(history) == 8 and (np.diff(history) <= 1e-12).all() and history[-1] < 0.9 * history[0]
    scale = np.sqrt((matrix**2).mean())
    norm = weights @ (matrix**2).sum(1)
    rows = np.array([sum(np.kron(result.tables[0][a, k], result.tables[0][b, k]) for k in range(R)) for a, b in result.index])
    penalty = ridge * (result.tables[0] ** 2).sum() / scale  # leaves carry the square root of the scale
    np.testing.assert_allclose(history[-1], weights @ ((matrix - rows) ** 2).sum(1) / norm + penalty * scale**2 / norm, rtol=1e-9)


def test_the_step_of_one_table_is_towards_the_solution_for_both_slots_together():
    """D35: A and B summed by hand over the slots and the words; of the step the first share that does not raise the objective."""
    rng = np.random.default_rng(6)
    T, index, ridge = rng.standard_normal((U, R, 3)), rng.integers(0, U, (V, 2)), 0.5
    matrix, f = rng.standard_normal((V, 9)), rng.uniform(0.1, 2, V)
    X = (matrix / np.sqrt((matrix**2).mean())).reshape(V, 3, 3)
    A, B = np.zeros((U, R, R)), np.zeros((U, R, 3))
    for w, (a, b) in enumerate(index):
        A[a] += f[w] * T[b] @ T[b].T
        B[a] += f[w] * T[b] @ X[w].T
        A[b] += f[w] * T[a] @ T[a].T
        B[b] += f[w] * T[a] @ X[w]
    step = np.array([np.linalg.solve(A[u] + ridge * np.eye(R), B[u]) - T[u] for u in range(U)])

    def objective(table):
        rows = np.array([sum(np.outer(table[a, k], table[b, k]) for k in range(R)) for a, b in index])
        return f @ ((X - rows) ** 2).sum((1, 2)) + ridge * (table**2).sum()

    share = next(share for share in 0.5 ** np.arange(20) if objective(T + share * step) <= objective(T))
    result, _ = fit(matrix, SememeEncoding([T, T], index), f, sweeps=1, ridge=ridge)
    scale = np.sqrt((matrix**2).mean())
    np.testing.assert_allclose(result.tables[0] / np.sqrt(scale), T + share * step, rtol=1e-9)


def test_a_word_with_a_vector_of_its_own_is_exact_and_pulls_at_nothing_else():
    """D34: the other parts are those of a fit to the remaining words, with their mean weight brought to that of all."""
    matrix, weights, start, units = problem(2, inner=True, bag=True)
    bag = np.full((V, 2), -1)
    bag[:, 0] = [0, 1] + [2 + w % 3 for w in range(V - 2)]  # units 0 and 1 have one word each
    start = replace(start, bag=bag, bag_vectors=np.random.default_rng(1).standard_normal((5, start.inner)))
    result, history = fit(matrix, start, weights, units, sweeps=4)
    np.testing.assert_allclose(result.rows([0, 1]), matrix[:2] @ start.carrier.T @ start.carrier, atol=1e-12)
    alone = weights[2:] * weights.mean() / weights[2:].mean()
    part = replace(start, index=start.index[2:], bag=bag[2:])
    some = replace(units, index=units.index[2:], free=units.free[2:])
    expected, other = fit(matrix[2:], part, alone, some, sweeps=4)
    np.testing.assert_allclose(result.rows(np.arange(2, V)), expected.rows(np.arange(V - 2)), atol=1e-12)
    np.testing.assert_allclose(history, other, rtol=1e-12)
    pulled, _ = fit(matrix * np.r_[9, 9, np.ones(V - 2)][:, None], start, weights, units, sweeps=4)
    np.testing.assert_allclose(pulled.rows([5, 6]), result.rows([5, 6]), atol=1e-12)


def test_a_word_owns_a_unit_exactly_if_no_other_word_has_it():
    bag = np.random.default_rng(2).integers(-1, 30, (V, 3))  # of 30 units some have no word, one, two or more
    expected = {}
    for w in range(V):
        for u in bag[w]:
            others = [x for x in range(V) if u in bag[x] and x != w]
            if u >= 0 and not others and list(bag[w]).count(u) == 1:
                expected.setdefault(w, u)
    assert 2 < len(expected) < V and {sum(u in row for row in bag) for u in range(30)} >= {0, 1, 2, 3}
    start = SememeEncoding([np.ones((1, 1, 2))], np.zeros((V, 1), dtype=int), bag=bag, bag_vectors=np.zeros((30, 2)))
    words, own = own_units(start)
    assert dict(zip(words.tolist(), own.tolist())) == expected


def test_words_that_all_own_vectors_leave_nothing_to_fit():
    matrix, weights, start, units = problem(2, inner=True, bag=True)
    start = replace(start, bag=np.arange(V)[:, None], bag_vectors=np.zeros((V, start.inner)))
    result, history = fit(matrix, start, weights, units)
    assert history == [0.0]
    np.testing.assert_allclose(result.rows(np.arange(V)), matrix @ start.carrier.T @ start.carrier, atol=1e-12)


def test_an_exactly_representable_matrix_is_recovered_and_its_shuffled_entries_are_not():
    """D25: order 2, two terms, 61 words on 7 units a slot, a start 10 % away from the truth."""
    rng = np.random.default_rng(3)
    index = rng.integers(0, U, (61, 2))
    truth = SememeEncoding([rng.standard_normal((U, 2, q)) for q in (3, 5)], index)
    matrix = truth.rows(np.arange(61))
    scale = np.sqrt((matrix**2).mean())
    near = [table / np.sqrt(scale) + 0.1 * rng.standard_normal(table.shape) for table in truth.tables]
    start = SememeEncoding(near, index)
    assert relative_error(matrix, fit(matrix, start, sweeps=200, ridge=0)[0]) < 1e-12
    mixed = rng.permutation(matrix.reshape(-1)).reshape(matrix.shape)
    assert relative_error(mixed, fit(mixed, start, sweeps=200, ridge=0)[0]) > 0.5


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_start_has_leaves_for_entries_of_variance_one_and_bag_vectors_in_units_of_the_matrix(order):
    """Seen where nothing is fitted: the products come out times the scale of the matrix, the bag as it went in."""
    matrix, weights, start, _ = problem(order, bag=True)
    result, history = fit(7 * matrix, start, weights, sweeps=0)
    without = replace(start, bag=None, bag_vectors=None)
    np.testing.assert_allclose(result.bag_vectors, start.bag_vectors, rtol=1e-12)
    products = without.rows(range(V))  # (V, d')
    np.testing.assert_allclose(result.rows(range(V)), start.rows(range(V)) + 6 * products, rtol=1e-9, atol=1e-12)
    assert history == []


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("factor", [1e-4, 7.0])
def test_scaling_the_matrix_scales_the_fitted_rows(order, factor):
    """D26: with ridge, amplitudes, carrier, bag and re-dealing."""
    matrix, weights, start, units = problem(order, amplitudes=True, inner=True, bag=True)
    start.bag_vectors = np.zeros_like(start.bag_vectors)  # bag vectors of a start are in the units of the matrix
    one, history_one = fit(matrix, start, weights, units, sweeps=4)
    other, history_other = fit(factor * matrix, start, weights, units, sweeps=4)
    np.testing.assert_allclose(other.rows(range(V)), factor * one.rows(range(V)), rtol=1e-8, atol=1e-10 * factor)
    np.testing.assert_allclose(history_other, history_one, rtol=1e-10)  # rounding of the scale, through four sweeps


def test_sums_in_blocks_do_not_depend_on_the_size_of_a_block(monkeypatch):
    matrix, weights, start, units = problem(amplitudes=True, bag=True)
    whole, _ = fit(matrix, start, weights, units, sweeps=3)
    monkeypatch.setattr(see_min.fit, "BLOCK", 5)
    parts, _ = fit(matrix, start, weights, units, sweeps=3)
    np.testing.assert_allclose(parts.rows(range(V)), whole.rows(range(V)), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(relative_error(matrix, parts, weights), relative_error(matrix, whole, weights), rtol=1e-9)


def owning(start):
    """The start with a bag in which words 3 and 17 alone have units 0 and 1."""
    bag = 2 + np.arange(V)[:, None] % 2
    bag[[3, 17], 0] = 0, 1
    return replace(start, bag=bag, bag_vectors=np.ones((4, start.inner)))


@pytest.mark.parametrize("inner", [False, True])
def test_no_step_and_no_pass_over_the_matrix_depends_on_the_size_of_a_block(monkeypatch, inner):
    """Blocks of 5 in 23 words, the last of them short, against one block; sums in another order, so 1e-9 as above."""
    matrix, weights, start, units = problem(2, amplitudes=True, inner=inner, bag=True)
    start = owning(start)
    fitted, spanned = lambda: fit(matrix, start, weights, units, sweeps=3), lambda: carrier(matrix, weights, 4)
    (whole, one), P, low = fitted(), spanned(), low_rank_encoding(matrix, weights, 2)
    monkeypatch.setattr(see_min.fit, "BLOCK", 5)
    monkeypatch.setattr(see_min.als, "BLOCK", 5)
    (parts, many), Q, other = fitted(), spanned(), low_rank_encoding(matrix, weights, 2)
    np.testing.assert_allclose(many, one, rtol=1e-11)
    np.testing.assert_allclose(parts.rows(range(V)), whole.rows(range(V)), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(Q.T @ Q, P.T @ P, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(other.rows(range(V)), low.rows(range(V)), rtol=1e-9, atol=1e-11)
    error = (weights @ ((matrix - low.rows(range(V))) ** 2).sum(1)) / (weights @ (matrix**2).sum(1))
    np.testing.assert_allclose(relative_error(matrix, other, weights), error, rtol=1e-9)


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_mapped_file_is_fitted_exactly_like_the_array_in_it(tmp_path, monkeypatch, inner, kind):
    matrix, weights, start, units = problem(2, inner=inner, bag=True)
    matrix, start = matrix.astype(kind), owning(start)
    np.save(tmp_path / "e.npy", matrix)
    mapped = np.load(tmp_path / "e.npy", mmap_mode="r")
    monkeypatch.setattr(see_min.fit, "BLOCK", 5)
    assert isinstance(mapped, np.memmap) and np.array_equal(carrier(mapped, weights, 4), carrier(matrix, weights, 4))
    (a, history_a), (b, history_b) = (fit(E0, start, weights, units, sweeps=3) for E0 in (mapped, matrix))
    assert history_a == history_b and np.array_equal(a.index, b.index)
    assert all(np.array_equal(a.parameters[name], b.parameters[name]) for name in b.parameters)
    assert relative_error(mapped, a, weights) == relative_error(matrix, b, weights)
    low_a, low_b = low_rank_encoding(mapped, weights, 3), low_rank_encoding(matrix, weights, 3)
    assert np.array_equal(low_a.tables[0], low_b.tables[0]) and type(low_a.tables[0]) is np.ndarray


def test_single_precision_is_fitted_in_double():
    """Numbers of single precision are numbers of double precision too, so the fit of both is the same; the bag's as well."""
    matrix, weights, start, units = problem(2, inner=True, bag=True)
    single, vectors = matrix.astype(np.float32), start.bag_vectors.astype(np.float32)
    (a, history_a), (b, history_b) = (
        fit(single.astype(kind), replace(start, bag_vectors=vectors.astype(kind)), weights, units, sweeps=3)
        for kind in (np.float32, np.float64)
    )
    assert history_a == history_b and all(np.array_equal(a.parameters[name], b.parameters[name]) for name in b.parameters)
    assert all(array.dtype == np.float64 for array in a.parameters.values())


def test_numbers_that_are_not_finite_are_counted_over_all_blocks(monkeypatch):
    matrix, _, start, _ = problem(2)
    monkeypatch.setattr(see_min.fit, "BLOCK", 5)
    matrix[[0, 7, V - 1], 1] = np.nan, np.inf, -np.inf
    with pytest.raises(DataError, match="matrix: expected finite numbers, got 3 that are NaN or infinite"):
        fit(matrix, start)


PEAK = """
import re, sys
import numpy as np
from see_min.encoding import SememeEncoding
from see_min.fit import carrier, fit, relative_error
from see_min.matrices import load_matrix

def resident(name):
    return 1024 * int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

before = resident("VmRSS")
matrix = load_matrix(sys.argv[1], mapped=True)
whole = matrix.astype(float) if sys.argv[2] == "copy" else None
V, rng = len(matrix), np.random.default_rng(0)
P = carrier(matrix, np.ones(V), 16)
bag = np.where(np.arange(V) < 1000, np.arange(V), -1)[:, None]
start = SememeEncoding([rng.standard_normal((50, 3, 4))] * 2, rng.integers(0, 50, (V, 2)), None, P, bag, np.zeros((1000, 16)))
encoding, history = fit(matrix, start, sweeps=1)
assert relative_error(matrix, encoding) < 1
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of one process is read where Linux tells it")
def test_a_fit_of_a_mapped_file_never_holds_a_copy_of_the_matrix(tmp_path):
    """205 MB of float32: the pages of the file count as held, and beyond them less than half a float32 copy is asked for.

    The control keeps a float64 copy from the start and must be seen.
    """
    write_random(tmp_path / "e.npy", (200_000, 256))
    size = (tmp_path / "e.npy").stat().st_size
    call = [sys.executable, "-c", PEAK, tmp_path / "e.npy"]
    streamed, copied = (int(subprocess.check_output([*call, way], text=True)) for way in ("stream", "copy"))
    assert streamed < 1.5 * size < 2.9 * size < copied, (streamed / size, copied / size)


@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_units_that_no_word_uses_and_terms_that_cannot_be_told_apart_do_not_stop_a_fit(ridge):
    matrix, _, start, _ = problem(1)  # with one slot all terms of a unit have the same rows: singular without a ridge
    start.index[:] = 3
    result, history = fit(matrix, start, sweeps=3, ridge=ridge)
    np.testing.assert_allclose(result.rows([0])[0], matrix.mean(0) * V / (V + ridge / R), rtol=1e-6)  # damping of 1e-12
    zero = fit(np.zeros_like(matrix), start, sweeps=2, ridge=ridge)[0]
    assert np.abs(zero.rows(range(V))).max() == 0


def test_a_fit_leaves_its_start_as_it_is_and_reports_each_sweep():
    matrix, weights, start, units = problem(amplitudes=True, bag=True)
    kept, seen = State(start), []
    _, history = fit(matrix, start, weights, units, sweeps=3, progress=lambda sweep, error: seen.append((sweep, error)))
    assert seen == [(s, history[5 * s + 4]) for s in range(3)]
    assert all(type(value) is float for value in history)
    now = State(start)
    pairs = [(now.index, kept.index), (now.alpha, kept.alpha), (now.vectors, kept.vectors), *zip(now.tables, kept.tables)]
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_frequency_weights_have_mean_one_and_grow_with_the_count():
    counts = np.array([0, 3, 3, 99])
    np.testing.assert_allclose(frequency_weights(counts), np.array([1, 2, 2, 10]) / 3.75, rtol=1e-12)
    np.testing.assert_allclose(frequency_weights(counts, power=0), 1, rtol=1e-12)


def test_a_random_start_has_entries_of_variance_one():
    """Within 10 %: 400 words of few units, so that entries are far from independent."""
    words = [f"w{i}" for i in range(400)]
    for rank, sizes in ((1, (5, 7)), (11, (5, 7)), (5, (3, 5, 2))):
        plan = Plan(400, int(np.prod(sizes)), sizes, rank, 101)
        starts = [random_encoding(assign(words, [Annotation()] * 400, plan, "backoff"), plan, seed) for seed in range(20)]
        assert abs(np.mean([(start.rows(range(400)) ** 2).mean() for start in starts]) - 1) < 0.1
        assert np.array_equal(starts[3].tables[0], random_encoding(Units(starts[3].index, None, [], []), plan, 3).tables[0])


def test_what_does_not_fit_together_is_refused():
    matrix, weights, start, _ = problem(2, inner=True)
    with pytest.raises(ShapeError, match=r"matrix: expected shape \(23, 8\), got \(23, 7\)"):
        fit(matrix[:, 1:], start)
    with pytest.raises(ShapeError, match=r"weights: expected shape \(23,\), got \(22,\)"):
        fit(matrix, start, weights[1:])
    with pytest.raises(DataError, match="weights: expected at least 0, got -1"):
        fit(matrix, start, -np.ones(V))
    with pytest.raises(DataError, match="ridge: expected at least 0, got -0.5"):
        fit(matrix, start, ridge=-0.5)
    with pytest.raises(DataError, match="matrix: expected finite numbers, got 184 that are NaN or infinite"):
        fit(matrix * np.nan, start)
    start.carrier = 2 * start.carrier
    with pytest.raises(DataError, match="encoding.carrier: expected orthonormal rows, got products of rows that are off by 3"):
        fit(matrix, start)
    table, index = np.ones((U, R, 2)), np.zeros((V, 3), int)
    with pytest.raises(ShapeError, match="expected one table for all 3 slots or one for each, got some shared"):
        fit(np.ones((V, 8)), SememeEncoding([table, table, table.copy()], index))


def test_a_matrix_of_real_size_is_fitted_without_a_rise():
    """D17: 30,522 x 384 with a decaying spectrum, order 3, a tenth of the floats, two sweeps."""
    matrix = random_matrix()
    result, history = real_size_fit(matrix, "product", sweeps=2, redeal=False)
    assert matrix.shape == (30522, 384) and result.sizes == (8, 8, 6)
    assert 0.97 * matrix.size / 10 <= result.floats <= matrix.size / 10
    assert len(history) == 6 and np.diff(history).max() < 0 and history[-1] < 0.95
