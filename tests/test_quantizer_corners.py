"""Quantizers as corners of the encoding, starts of a fit and its metric; slow loops as oracles."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose
from slow import close, error, normal, slow_matrix, squares

from see_min.encoding import SememeEncoding, private_units
from see_min.errors import InputError
from see_min.fitting import least_squares
from see_min.fitting.least_squares import (
    fit,
    low_rank_encoding,
    projection,
    random_encoding,
    relative_error,
)
from see_min.fitting.starts import (
    Mapped,
    k_means,
    mapped,
    metric_roots,
    nearest,
    quantizer_encoding,
    turned,
)
from see_min.storage.budget import Plan
from see_min.storage.encodings import pack
from see_min.units import Annotation, Units, assign

V, D = 120, 12
WORDS = [f"word{w}" for w in range(V)]
NOTES = [Annotation(((f"s{w % 7}", f"t{w % 5}"),) if w % 3 else ()) for w in range(V)]
WEIGHTS = np.random.default_rng(8).uniform(0.3, 3, V)
# (q_1, q_2), terms: a term per block; several per block; one block; as many blocks as directions
SPLITS = [((3, 4), 3), ((2, 3), 6), ((1, 8), 3), ((8, 1), 8)]
splits = pytest.mark.parametrize("sizes, rank", SPLITS)


def correlated(seed=0):
    """Rows whose columns depend on each other: a rotation has something to find."""
    return normal(V, 5, seed=seed) @ normal(5, D, seed=seed + 1) + 0.5 * normal(V, D, seed=seed + 2)


def started(matrix, sizes, rank, private=0, knowledge=0, units=9, rounds=12):
    """(start, Units) of a plan without training of any other part."""
    plan = Plan(V, D, sizes, rank, units, private, knowledge, coded=True)
    given = assign(WORDS, NOTES, plan)
    P = projection(matrix, WEIGHTS, plan.inner_dim)
    return quantizer_encoding(matrix, given, plan, P, WEIGHTS, 3, rounds)[0], given


def codes_of(encoding):
    return encoding.index[:, :, 1]  # (V, r)


def bits_in_file(encoding):
    """Bits of the index, counted in the packed arrays of a vocabulary that fills its bytes."""
    return 8 * sum(array.size for name, array in pack(encoding).items()
                   if name.startswith("index.") and name != "index.shape")


@pytest.mark.parametrize("K, bits", [(2, 1), (16, 4), (17, 5), (256, 8)])
def test_a_slot_with_one_unit_has_no_bits_and_the_split_decides_the_parameters(K, bits):
    """D83: 8 words, 4 terms, q = (3, 5): K q_2 + q_1 against K q_1 + q_2 at the same bits."""
    codes = np.random.default_rng(0).integers(0, K, (8, 4))
    for slot, own in ((1, K * 5 + 3), (0, K * 3 + 5)):
        counts, index = [1, 1], np.zeros((8, 4, 2), dtype=int)
        counts[slot], index[..., slot] = K, codes
        encoding = SememeEncoding([normal(U, 4, q) for U, q in zip(counts, (3, 5))], index)
        assert encoding.parameters == 4 * own
        assert bits_in_file(encoding) == 8 * encoding.index_bytes == 8 * 4 * bits
    both = SememeEncoding([normal(K, 4, 3), normal(K, 4, 5)], np.stack([codes, codes], axis=-1))
    assert bits_in_file(both) == 2 * 8 * 4 * bits  # control: two slots that choose


def test_a_slot_with_one_unit_tells_no_words_apart():
    """D83: all codes of 3 units in 2 terms give 9 rows; 2 units in slot 1 make it 36."""
    tables = [normal(2, 2, 3), normal(3, 2, 5, seed=1)]
    for first, rows in ((1, 9), (2, 36)):
        choices = [(a, b) for a in range(first) for b in range(3)]
        index = np.array([[one, other] for one in choices for other in choices])  # (rows, 2, 2)
        matrix = slow_matrix(SememeEncoding([tables[0][:first], tables[1]], index))
        assert len(np.unique(matrix.round(9), axis=0)) == rows == len(index)


def concatenated(encoding):
    """The centroids of each word's codes, one after the other."""
    T = encoding.tables[1]
    words = codes_of(encoding).tolist()
    return np.array([np.hstack([T[u, k] for k, u in enumerate(word)]) for word in words])


@pytest.mark.parametrize("blocks, q", [(3, 4), (12, 1), (2, 6)])
def test_product_quantization_is_order_2_with_unit_vectors_in_slot_1(blocks, q):
    """D84: the rows are centroids side by side; a_k in another order puts them elsewhere."""
    T, codes = normal(9, blocks, q), np.random.default_rng(1).integers(0, 9, (V, blocks))
    index = np.stack([np.zeros_like(codes), codes], axis=-1)
    encoding = SememeEncoding([np.eye(blocks)[None], T], index)
    close(encoding.rows(range(V)), concatenated(encoding))
    assert encoding.parameters == 9 * blocks * q + blocks**2  # a_k: what PQ need not store
    turned = replace(encoding, tables=[np.eye(blocks)[None, ::-1], T])
    assert not np.allclose(turned.rows(range(V)), concatenated(encoding))


def test_the_start_without_rotation_is_k_means_of_each_block():
    """D84: without P each centroid is the weighted mean of its words, block by block."""
    matrix = correlated()
    plan = Plan(V, D, (3, 4), 3, 9, coded=True, projected=False)
    units = assign(WORDS, NOTES, plan)
    start, _ = quantizer_encoding(matrix, units, plan, None, WEIGHTS, 3)
    assert start.projection is None
    scale = np.sqrt((matrix**2).mean())
    close(scale * start.rows(range(V)), scale * concatenated(start))
    for k, u in np.ndindex(3, 9):
        own = codes_of(start)[:, k] == u
        mean = np.average(matrix[own, 4 * k : 4 * k + 4], axis=0, weights=WEIGHTS[own])
        close(scale * start.tables[1][u, k], mean)
    assert_allclose(start.tables[0], np.eye(3)[None])
    one = np.average(matrix, axis=0, weights=WEIGHTS)  # control: a centroid for all
    assert error(matrix, scale * start.rows(range(V)), WEIGHTS) < 0.8 * error(matrix, one, WEIGHTS)


def test_k_means_gives_the_nearest_centroid_and_never_a_larger_error_than_its_start():
    points, f = normal(60, 3), np.random.default_rng(2).uniform(0.2, 2, 60)
    book, _ = k_means(points, f, 5, np.random.default_rng(0))
    expected = [min(range(5), key=lambda u: squares(x - book[u])) for x in points]
    assert nearest(points, book).tolist() == expected
    errors = []
    for sweeps in range(6):
        book, codes = k_means(points, f, 5, np.random.default_rng(0), sweeps)
        errors.append(sum(f[w] * squares(x - book[codes[w]]) for w, x in enumerate(points)))
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0]
    own, codes = k_means(points, f, 60, np.random.default_rng(0))  # a unit for each
    close(own[codes], points)


def test_a_code_nobody_uses_moves_to_points_that_are_badly_served():
    """40 copies of one point: most draws begin with a code twice, none ends so."""
    points = np.array([[0.0]] * 40 + [[100.0], [101.0], [200.0], [201.0]])
    used = []
    for sweeps in (0, 12):
        found = [k_means(points, np.ones(44), 3, np.random.default_rng(seed), sweeps)[1]
                 for seed in range(20)]
        used.append([len(np.unique(codes)) for codes in found])
    assert min(used[0]) < 3 == min(used[1])


def test_optimized_product_quantization_keeps_its_rotation_in_the_projection():
    """D85: P stays orthonormal; distances are those of the rows in its coordinates, by blocks."""
    matrix = correlated()
    start, _ = started(matrix, (2, 4), 2)
    P, scale = start.projection, np.sqrt((matrix**2).mean())
    close(P @ P.T, np.eye(8))
    close(start.rows(range(V)), concatenated(start) @ P)
    seen = matrix @ P.T  # what the blocks quantize
    inside = ((seen - scale * concatenated(start)) ** 2).sum(1)
    beyond = (matrix**2).sum(1) - (seen**2).sum(1)
    off = ((matrix - scale * start.rows(range(V))) ** 2).sum(1)
    assert_allclose(off, inside + beyond, rtol=1e-10)
    plain, _ = started(matrix, (2, 4), 2, rounds=0)
    errors = [error(matrix, scale * one.rows(range(V)), WEIGHTS) for one in (start, plain)]
    assert errors[0] < 0.98 * errors[1]  # turning is not idle here


@pytest.mark.parametrize("inner", [6, D])
def test_a_turn_brings_projected_rows_nearer_to_what_was_quantized(inner):
    """D85: round after round; with d' = D the span is fixed, with d' < D it moves."""
    matrix, words, blocks = correlated(), np.arange(V), 3
    P0, errors = projection(matrix, WEIGHTS, inner), []
    for rounds in range(7):
        rng = np.random.default_rng(0)
        P, books, price = turned(matrix, words, WEIGHTS, P0, blocks, 5, rng, rounds=rounds)
        assert price == 0
        close(P @ P.T, np.eye(inner))
        if rounds == 0:
            close(P.T @ P, P0.T @ P0)  # principal directions of the same span
            continue
        Y = np.hstack([book[nearest(part, book)] for part, (book, _)
                       in zip(np.split(matrix @ P.T, blocks, axis=1), books)])
        errors.append(error(matrix, Y @ P, WEIGHTS))
    assert np.diff(errors).max() <= 1e-12 and errors[-1] < errors[0] - 1e-5
    assert np.allclose(P.T @ P, P0.T @ P0) == (inner == D)


def test_a_start_goes_on_from_the_books_of_the_turns():
    """D85: k-means from these books ends at most where they are, in the same projection."""
    matrix = correlated()
    start, _ = started(matrix, (3, 3), 3)
    rng, f = np.random.default_rng(3), WEIGHTS / WEIGHTS.mean()
    P0 = projection(matrix, WEIGHTS, 9)
    P, books, _ = turned(matrix, np.arange(V), f, P0, 3, 9, rng)
    close(start.projection, P)
    parts = zip(np.split(matrix @ P.T, 3, axis=1), books)
    off = [x - book[nearest(x, book)] for x, (book, _) in parts]
    scale = np.sqrt((matrix**2).mean())
    left = matrix @ P.T - scale * concatenated(start)
    least = sum(WEIGHTS @ (one**2).sum(1) for one in off)
    assert 0.8 * least < WEIGHTS @ (left**2).sum(1) <= least


def prefix_bits(codes):
    """Bits of all codes if each takes -log2 of the share that has it, in a loop."""
    codes = codes.tolist()
    return -sum(np.log2(codes.count(code) / len(codes)) for code in codes)


def test_a_word_takes_the_code_of_least_error_and_price():
    """D96: f |x - c|^2 + price length, by loops; a dearer bit never has longer codes or less error.

    Control: without a price the nearest, whatever the present codes are.
    """
    points, book = normal(200, 3), normal(9, 3, seed=1)
    f = np.random.default_rng(2).uniform(0.2, 2, 200)
    now = np.random.default_rng(3).choice(8, 200, p=np.arange(8) / 28)
    share = [(now == u).mean() for u in range(9)]
    bits, errors = [], []
    for price in (0.0, 0.1, 0.3, 1.0, 9.0):
        found = nearest(points, book, f, now, price)
        for w, x in enumerate(points):
            cost = {u: f[w] * squares(x - book[u]) - (price * np.log2(share[u]) if price else 0)
                    for u in range(9) if share[u] or not price}
            assert found[w] == min(cost, key=cost.get)
        bits.append(sum(-np.log2(share[u]) if share[u] else 99 for u in found))
        errors.append(sum(f[w] * squares(x - book[found[w]]) for w, x in enumerate(points)))
    assert np.diff(bits).max() < 0 < np.diff(errors).min()
    assert nearest(points, book).tolist() == nearest(points, book, f, now, 0.0).tolist()
    assert prefix_bits(found) < 0.7 * prefix_bits(now)


@pytest.mark.parametrize("order, per_term", [(2, True), (3, False), (1, True)])
def test_no_step_raises_error_plus_price_times_bits(order, per_term):
    """D96: the history is the objective from scratch; units then stand by falling frequency."""
    rng, N, r, U = np.random.default_rng(order), 80, 3, 6
    tables = [normal(U, r, 3, seed=j) for j in range(order)]
    index = rng.integers(0, U, (N, r if per_term else 1, order))
    start = SememeEncoding(tables, index)
    matrix, f = normal(N, 3**order, seed=9), rng.uniform(0.2, 2, N)
    f /= f.mean()
    matrix /= np.sqrt((matrix**2).mean())
    free = Units(index, np.ones_like(index, dtype=bool), [(0, U)] * order, [])
    ends = []
    for price in (0.0, 0.05, 2.0):
        result, history = fit(matrix, start, f, free, sweeps=5, ridge=0.1, price=price)
        assert np.diff(history).max() <= 1e-12
        bits = sum(prefix_bits(result.index[:, k, j]) for k, j in np.ndindex(*index.shape[1:]))
        off = error(matrix, slow_matrix(result), f) * (f @ (matrix**2).sum(1))
        whole = off + 0.1 * sum(squares(table) for table in result.tables) + price * bits
        assert_allclose(history[-1], whole / (f @ (matrix**2).sum(1)), rtol=1e-10)
        for k, j in np.ndindex(*index.shape[1:]):
            counts = np.bincount(result.index[:, k, j], minlength=U)
            assert (np.diff(counts) <= 0).all() or not price
        ends.append((bits, off))
    assert ends[2][0] < 0.9 * ends[0][0] and ends[2][1] > ends[0][1]  # the price is not idle


def test_a_start_meets_its_rate_and_beats_codes_of_fixed_length():
    """D96: 4.8 bits on average where all codes of 32 units take 5: fewer bits and less error."""
    N = 3000
    matrix = normal(N, 5) @ normal(5, D, seed=1) + 0.5 * normal(N, D, seed=2)
    words, f = [f"word{w}" for w in range(N)], np.random.default_rng(3).uniform(0.1, 3, N)
    plan = Plan(N, D, (3, 4), 3, 64, coded=True, rate=0.8)
    P, errors, bits = projection(matrix, f, D), [], []
    for one in (plan, replace(plan, slot_units=32, rate=1.0)):
        units = assign(words, [Annotation()] * N, one)
        start, price = quantizer_encoding(matrix, units, one, P, f, 0)
        assert (price > 0) == (one is plan)
        result = fit(matrix, start, f, sweeps=0, price=price)[0]
        errors.append(relative_error(matrix, result, f))
        bits.append(sum(map(prefix_bits, codes_of(result).T)) / N / 3)
    assert 0.97 * 4.8 < bits[0] < 1.02 * 4.8 < bits[1] <= 5
    assert errors[0] < 0.95 * errors[1]


def test_turns_count_what_known_units_explain():
    """D93: Y holds the vectors of known units, too; else P would turn away from them."""
    M = np.eye(4)[np.arange(V) % 4]  # (V, 4)
    known = scipy.sparse.csr_array(M)
    matrix = 3 * M @ normal(4, D) + 0.5 * correlated()
    P0, errors = projection(matrix, WEIGHTS, 6), []
    for rounds in (1, 12):
        rng = np.random.default_rng(0)
        P, *_ = turned(matrix, np.arange(V), WEIGHTS, P0, 3, 5, rng, known, rounds=rounds)
        errors.append(error(matrix, matrix @ P.T @ P, WEIGHTS))
    assert max(errors) < 0.1  # the four directions of the units stay in the span


def test_words_without_a_code_hold_the_span():
    """D93: a word whose row is long and has no code keeps its direction in the span of P."""
    matrix = correlated()
    matrix[0] = 40 * normal(D, seed=9)
    words, P0 = np.arange(1, V), projection(matrix[1:], WEIGHTS[1:], 6)
    beyond = []
    for moments in (None, WEIGHTS[0] * np.outer(matrix[0], matrix[0])):
        rng = np.random.default_rng(0)
        P, *_ = turned(matrix, words, WEIGHTS[1:], P0, 3, 5, rng, moments=moments)
        beyond.append(squares(matrix[0] - matrix[0] @ P.T @ P))
    assert beyond[1] < 0.1 * beyond[0]


@pytest.mark.parametrize("q", [1, 7])
def test_additive_quantization_is_order_2_with_one_block(q):
    """D86: q_1 = 1 and a_k = 1: the row is the sum of the code words, as for order 1."""
    T, codes = normal(9, 4, q), np.random.default_rng(1).integers(0, 9, (V, 4))
    index = np.stack([np.zeros_like(codes), codes], axis=-1)
    encoding = SememeEncoding([np.ones((1, 4, 1)), T], index)
    expected = [sum(T[u, k] for k, u in enumerate(word)) for word in codes]
    close(encoding.rows(range(V)), np.array(expected))
    order_1 = SememeEncoding([T], codes[..., None])
    close(order_1.rows(range(V)), np.array(expected))
    assert encoding.index_bytes == order_1.index_bytes
    assert not np.allclose(encoding.rows(range(V)), T[codes[:, 0], 0])  # all terms count


@pytest.mark.parametrize("sizes, rank", [((1, 8), 3), ((2, 3), 6), ((2, 3), 5)])
def test_residual_quantization_codes_what_terms_before_it_leave(sizes, rank):
    """D86: term k adds to block k mod q_1 the weighted means of what is left there."""
    matrix = correlated()
    start, _ = started(matrix, sizes, rank)
    (g, q), scale = sizes, np.sqrt((matrix**2).mean())
    rest = matrix @ start.projection.T / scale  # (V, d')
    lengths = [WEIGHTS @ (rest**2).sum(1)]
    for k in range(rank):
        block, codes = slice(k % g * q, k % g * q + q), codes_of(start)[:, k]
        for u in range(9):
            mean = np.average(rest[codes == u, block], axis=0, weights=WEIGHTS[codes == u])
            close(start.tables[1][u, k], mean)
        rest[:, block] -= start.tables[1][codes, k]
        lengths.append(WEIGHTS @ (rest**2).sum(1))
    assert np.diff(lengths).max() < 0  # weighted means leave less, term by term
    left = matrix @ start.projection.T / scale - start.inner_rows(np.arange(V))
    close(left, rest)
    assert not np.allclose(concatenated(start)[:, : g * q], start.inner_rows(np.arange(V)))


def penalty(matrix, start, rest):
    """All squared leaves and shared bag vectors over the weighted squares of all rows."""
    share = WEIGHTS[rest].mean() / WEIGHTS.mean()  # the ridge meets weights of mean 1
    scale = (matrix[rest] ** 2).mean()
    shared = np.unique(start.bag[rest].indices) if start.bag is not None else []
    total = sum(squares(table) for table in start.tables)
    total += squares(start.bag_vectors[shared]) / scale if len(shared) else 0.0
    return share * total * scale / (WEIGHTS @ (matrix**2).sum(1))


@splits
@pytest.mark.parametrize("private, knowledge, ridge", [(0, 0, 1e-3), (20, 0, 0.0), (10, 6, 1e-3)])
def test_a_fit_from_a_quantizer_ends_below_it(sizes, rank, private, knowledge, ridge):
    """D87: J of the start, by loops, bounds all of the history; so does its error the last one."""
    matrix = correlated(private + rank)
    start, units = started(matrix, sizes, rank, private, knowledge)
    unfitted = fit(matrix, start, WEIGHTS, sweeps=0)[0]
    rest = np.setdiff1d(np.arange(V), private_units(start.bag)[0])
    assert len(rest) == V - private
    least = error(matrix, slow_matrix(unfitted), WEIGHTS)
    first = least + ridge * penalty(matrix, start, rest)
    result, history = fit(matrix, start, WEIGHTS, units, sweeps=3, ridge=ridge, turn=True)
    assert np.diff([first, *history]).max() <= 1e-12
    last = relative_error(matrix, result, WEIGHTS)
    assert last < relative_error(matrix, unfitted, WEIGHTS) and history[-1] < first - 1e-6
    if sizes[0] > 1:
        assert not np.allclose(result.tables[0] / result.tables[0].max(), start.tables[0])
    random = random_encoding(units, Plan(V, D, sizes, rank, 9), 0, start.projection)
    assert relative_error(matrix, random, WEIGHTS) > least  # the bound is worth something


def test_a_step_away_from_a_quantizer_is_seen(monkeypatch):
    """D87: the control; leaves that are 30 % too long end above the start."""
    matrix = correlated()
    start, units = started(matrix, (3, 4), 3)
    before = relative_error(matrix, fit(matrix, start, WEIGHTS, sweeps=0)[0], WEIGHTS)
    solve = np.linalg.solve
    monkeypatch.setattr(least_squares.np.linalg, "solve", lambda A, B: 1.3 * solve(A, B))
    assert max(fit(matrix, start, WEIGHTS, units, sweeps=1, ridge=0)[1]) > before


METRICS = {"full": normal(D, D, seed=5) @ normal(D, D, seed=5).T,
           "of rank 3": normal(D, 3, seed=6) @ normal(D, 3, seed=6).T, "plain": np.eye(D)}
metrics = pytest.mark.parametrize("C", METRICS.values(), ids=METRICS)


@metrics
@pytest.mark.parametrize("mix", [0.0, 0.5, 0.9])
def test_the_metric_is_a_sum_of_squares_in_its_own_coordinates(C, mix):
    """D88: |e S|^2 = mix e C e^T D / tr C + (1 - mix) |e|^2, in loops; S^-1 takes e S back."""
    S, inverse = metric_roots(C, mix)
    close(S @ inverse, np.eye(D), rtol=1e-11)
    close(S, S.T)
    for e in normal(5, D):
        cost = sum(e[i] * C[i, j] * e[j] for i, j in np.ndindex(D, D)) * D / np.trace(C)
        assert_allclose(squares(e @ S), mix * cost + (1 - mix) * squares(e), rtol=1e-11)
    close(metric_roots(7 * C, mix)[0], S)  # its scale does not matter
    close(Mapped(np.ones((V, D)), S)[3:5], np.ones((2, D)) @ S)


def test_rows_of_a_mapped_file_meet_the_metric_when_they_are_read(tmp_path):
    np.save(tmp_path / "e.npy", correlated().astype(np.float32))
    rows, S = np.load(tmp_path / "e.npy", mmap_mode="r"), metric_roots(METRICS["full"], 0.5)[0]
    lazy, whole = mapped(rows, S), mapped(np.array(rows), S)
    assert isinstance(lazy, Mapped) and whole.dtype == np.float32
    close(lazy[5:9], whole[5:9], rtol=1e-5)


@metrics
def test_no_matrix_of_the_rank_has_a_smaller_error_in_the_metric(C):
    """D88: the weighted SVD of E0 S times S^-1 leaves its tail; 60 neighbours leave more."""
    matrix, (S, inverse) = correlated(), metric_roots(C, 0.7)
    encoding = low_rank_encoding(Mapped(matrix, S), WEIGHTS, 4)
    best = replace(encoding, projection=encoding.projection @ inverse).rows(range(V))
    assert np.linalg.matrix_rank(best) == 4

    def seen(rows):
        return sum(WEIGHTS[w] * squares((matrix[w] - rows[w]) @ S) for w in range(V))

    roots = np.sqrt(WEIGHTS)[:, None]
    left, values, right = np.linalg.svd(roots * (matrix @ S), full_matrices=False)
    close(best, (left[:, :4] * values[:4]) @ right[:4] @ inverse / roots, rtol=1e-9)
    assert_allclose(seen(best), squares(values[4:]), rtol=1e-10)
    for seed, size in enumerate(np.repeat([0.01, 0.1, 1.0], 20)):
        near = encoding.tables[0][:, 0] + size * normal(V, 4, seed=seed + 99)
        basis = encoding.projection @ inverse + size * normal(4, D, seed=seed)
        assert seen(near @ basis) > seen(best)


@metrics
def test_a_fit_in_the_metric_is_a_fit_of_the_mapped_rows(C):
    """D88: its history is the error of the rows it gives, as the metric sees them."""
    matrix, (S, inverse) = correlated(), metric_roots(C, 0.7)
    seen = Mapped(matrix, S)
    start, units = started(seen, (2, 4), 4)
    result, history = fit(seen, start, WEIGHTS, units, sweeps=3, ridge=0)
    rows = replace(result, projection=result.projection @ inverse).rows(range(V))
    assert_allclose(history[-1], error(matrix @ S, rows @ S, WEIGHTS), rtol=1e-9)
    start, units = started(matrix, (2, 4), 4)
    without = fit(matrix, start, WEIGHTS, units, sweeps=3, ridge=0)[0].rows(range(V))
    other = error(matrix @ S, without @ S, WEIGHTS)
    assert history[-1] < other or np.allclose(C, np.eye(D))  # the metric is not idle


@pytest.mark.parametrize(("call", "text"), [
    (lambda: metric_roots(np.eye(D), 1.0), "mix: expected 0 to below 1, got 1.0"),
    (lambda: metric_roots(np.zeros((D, D)), 0.5), "metric: expected a trace above 0, got 0"),
    (lambda: metric_roots(np.triu(np.ones((D, D))), 0.5), r"metric: expected C = C\^T, got 1 off"),
    (lambda: metric_roots(np.ones((D, 2)), 0.5), r"metric: expected shape \(12, 12\), got"),
])
def test_what_is_no_metric_is_refused(call, text):
    with pytest.raises(InputError, match=text):
        call()


def test_the_metric_of_a_linear_model_is_known(monkeypatch):
    """D92: over all directions e_i exactly A A^T, A = B E^T, and the mean of h^T h by loops.

    The head shares the rows of the embedding: x B meets it, scores are x B E^T.
    """
    torch = pytest.importorskip("torch")
    from see_min.bridge.metric import measure_metric

    layer = torch.nn.Embedding(50, D, dtype=torch.float64)
    head = torch.nn.Linear(D, 50, bias=False, dtype=torch.float64)
    head.weight = layer.weight
    B = torch.tensor(normal(D, D, seed=3))
    batches = [torch.tensor(np.random.default_rng(s).integers(0, 50, (4, 6))) for s in range(3)]
    E = layer.weight.detach().numpy()
    A = B.numpy() @ E.T  # (D, V)
    G, C = A @ A.T, np.zeros((D, D))
    for h in (E[int(i)] @ B.numpy() for batch in batches for i in batch.flatten()):
        C += np.outer(h, h)
    G, C = G / np.trace(G), C / np.trace(C)
    output = lambda ids: head(layer(ids) @ B)  # noqa: E731
    often = lambda times: [batch for batch in batches for _ in range(times)]  # noqa: E731
    drawn = measure_metric(layer, output, often(200), head)
    assert np.abs(2 * drawn - C - G).max() < 0.1 * G.max()  # of 200 drawn directions
    turn = iter(range(10**6))
    basis = lambda shape, generator: torch.eye(50)[next(turn) % 50].expand(shape)  # noqa: E731
    monkeypatch.setattr(torch, "randn", basis)
    close(measure_metric(layer, output, often(50), head), (G + C) / 2, rtol=1e-11)
    close(measure_metric(layer, output, often(50)), G, rtol=1e-11)
    assert np.abs(G - C).max() > 0.01  # control: one is not the other
    for unread in (lambda ids: torch.ones(3), lambda ids: head(layer(ids).detach())):
        with pytest.raises(InputError, match="metric: expected a text whose rows the model reads"):
            measure_metric(layer, unread, batches)


def test_private_words_have_no_part_in_a_start_and_known_units_come_first():
    """But for turning P; bag vectors are a ridge regression of the rows on units, by lstsq."""
    matrix = 3 * correlated()
    start, units = started(matrix, (2, 4), 2, private=20, knowledge=6, rounds=0)
    owners = private_units(units.bag)[0]
    rest = np.setdiff1d(np.arange(V), owners)
    other = matrix.copy()
    other[owners] = 50 * normal(20, D)
    plan, P0 = Plan(V, D, (2, 4), 2, 9, 20, 6, coded=True), projection(matrix, WEIGHTS, 8)
    again, _ = quantizer_encoding(other, units, plan, P0, WEIGHTS, 3, 0)
    for name, array in start.arrays.items():
        assert np.array_equal(array, again.arrays[name]), name
    f = WEIGHTS[rest] / WEIGHTS[rest].mean()
    M = units.bag.toarray()[rest]
    design = np.vstack([np.sqrt(f)[:, None] * M, np.sqrt(0.5) * np.eye(M.shape[1])])
    right = np.sqrt(f)[:, None] * (matrix[rest] @ P0.T)
    expected = np.linalg.lstsq(design, np.vstack([right, np.zeros((M.shape[1], 8))]))[0]
    close(start.bag_vectors @ start.projection, expected @ P0, rtol=1e-9)
    assert np.abs(expected).max() > 0.1 and not start.index[owners].any()
