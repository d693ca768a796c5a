"""Product quantization: every step of k-means against loops, descent, counts, weights, and the plan that meets a ratio."""

import numpy as np
import pytest

from see_min.checks import DataError, ShapeError
from see_min.related import product_quantization
from see_min.related.product_quantization import (
    ProductQuantization,
    centroids,
    k_means,
    nearest,
    plan,
    product_quantize,
    spread_points,
)

V, D, M, K = 211, 11, 3, 7  # parts of 4, 4 and 3 columns
CUTS = ((0, 4), (4, 8), (8, 11))


@pytest.fixture
def matrix():
    return np.random.default_rng(0).standard_normal((V, D))


@pytest.fixture
def weights():
    return np.random.default_rng(1).exponential(size=V)


def slow_nearest(points, book):
    return [min(range(len(book)), key=lambda i: sum((x - c) ** 2 for x, c in zip(point, book[i]))) for point in points]


def slow_means(points, codes, weights, book):
    out = []
    for i, old in enumerate(book):
        mine = [w for w in range(len(points)) if codes[w] == i and weights[w] > 0]
        out.append(sum(weights[w] * points[w] for w in mine) / sum(weights[w] for w in mine) if mine else old)
    return out


def slow_error(matrix, rows, weights):
    return sum(f * ((x - y) ** 2).sum() for x, y, f in zip(matrix, rows, weights))


def test_assignment_is_to_the_nearest_centroid(matrix, monkeypatch):
    monkeypatch.setattr(product_quantization, "BLOCK", 5 * K)  # five rows a step, and the last step is not full
    book = np.random.default_rng(2).standard_normal((K, D))
    for shift, scale in ((0, 1), (1e4, 1), (0, 1e30), (0, 1e-30)):  # neither a large mean nor the scale may eat digits
        assert nearest(scale * (matrix + shift), scale * (book + shift)).tolist() == slow_nearest(matrix, book)


def test_centroids_are_weighted_means_of_their_rows(matrix, weights):
    codes = np.random.default_rng(3).integers(0, K - 1, V)  # the last centroid has no row
    weights[codes == 2] = 0  # and the third none that counts
    book = np.random.default_rng(4).standard_normal((K, D))
    got = centroids(matrix, codes, weights, book)
    np.testing.assert_allclose(got, slow_means(matrix, codes, weights, book), rtol=1e-12, atol=1e-13)
    assert np.array_equal(got[[2, K - 1]], book[[2, K - 1]])


def test_converged_codes_are_nearest_and_centroids_are_means(matrix, weights):
    """A fixed point of both steps, in every part; the columns of the parts are those of an even cut."""
    quantized = product_quantize(matrix, M, K, weights, sweeps=200)
    assert quantized.history[-1] == quantized.history[-50]
    for (start, end), book, codes in zip(CUTS, quantized.codebooks, quantized.codes.T):
        part = matrix[:, start:end]
        assert codes.tolist() == slow_nearest(part, book)
        np.testing.assert_allclose(book, slow_means(part, codes, weights, book), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_the_error_never_rises_and_is_the_objective(matrix, weights, seed):
    """D37: for plain and weighted words; the last value is the objective from scratch."""
    matrix = np.round(matrix) + 100 * (seed % 2)  # many equal rows: ties, and centroids that lose all of theirs
    for sweeps in (0, 1, 40):
        quantized = product_quantize(matrix, M, K, weights, seed, sweeps)
        history = np.array(quantized.history)
        assert len(history) == sweeps + 1 and (np.diff(history) <= 1e-12 * history[:-1]).all()
        error = slow_error(matrix, quantized.rows(np.arange(V)), weights) / slow_error(matrix, 0 * matrix, weights)
        assert history[-1] == pytest.approx(error, rel=1e-12)


def test_the_error_does_not_rise_where_float32_confuses_centroids(matrix):
    matrix[0] = 1e5  # next to this row all others look nearly the same
    history = np.array(product_quantize(matrix, M, 5 * K, sweeps=30).history)
    assert (np.diff(history) <= 1e-12 * history[:-1]).all() and history[-1] < history[0]


def test_more_sweeps_lower_the_error(matrix):
    history = product_quantize(matrix, M, K).history
    assert history[-1] < 0.97 * history[0]


def test_an_empty_centroid_takes_the_row_that_costs_most(monkeypatch):
    points, weights = np.array([[0.0], [1], [2], [50], [30]]), np.array([0.5, 1, 1, 1, 9])
    monkeypatch.setattr(product_quantization, "spread_points", lambda *args: np.array([[1.0], [1000], [2000]]))
    book, codes, history = k_means(points, 3, weights, None, 1)
    # all rows are at 1 and move it to 323 / 12.5 = 25.84: weights * squared distances are 334, 617, 568, 584 and 156
    assert book.tolist() == [[25.84], [1.0], [50.0]] and codes.tolist() == [1, 1, 1, 2, 0]
    assert history[1] < history[0]


@pytest.mark.parametrize("units", [V, V + 1, 5 * V])
def test_no_more_words_than_centroids_are_exact(matrix, weights, units):
    weights[5] = 0
    quantized = product_quantize(matrix, M, units, weights)
    assert np.array_equal(quantized.rows(np.arange(V)), matrix)
    assert quantized.floats == V * D and quantized.history == [0.0] * 16


def test_no_more_different_rows_than_centroids_are_exact(weights):
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal((K, D))[rng.integers(0, K, V)]
    quantized = product_quantize(matrix, M, K + 2, weights)
    np.testing.assert_allclose(quantized.rows(np.arange(V)), matrix, rtol=1e-12)


def test_one_part_of_one_centroid_is_the_weighted_mean(matrix, weights):
    quantized = product_quantize(matrix, 1, 1, weights)
    np.testing.assert_allclose(quantized.rows([0, V - 1]), [weights @ matrix / weights.sum()] * 2, rtol=1e-12)


def test_floats_and_bytes_are_counted_from_shapes(matrix):
    quantized = product_quantize(matrix, M, K)
    assert (quantized.shape, quantized.floats, quantized.index_bytes) == ((V, D), K * D, V * M)
    assert [book.shape for book in quantized.codebooks] == [(K, 4), (K, 4), (K, 3)]
    wide = ProductQuantization([np.ones((257, 2))], np.full((V, 1), 256, dtype=np.uint16))
    assert wide.index_bytes == 2 * V
    many = np.random.default_rng(6).standard_normal((300, 1))
    assert product_quantize(many, 1, 256, sweeps=1).codes.dtype == np.uint8
    assert product_quantize(many, 1, 257, sweeps=1).codes.dtype == np.uint16


def test_rows_stand_side_by_side_and_keep_the_shape_of_the_ids(matrix):
    quantized = product_quantize(matrix, M, K)
    rows = quantized.rows([[0, 5], [5, 7]])
    for i, w in np.ndenumerate([[0, 5], [5, 7]]):
        assert rows[i].tolist() == [x for book, code in zip(quantized.codebooks, quantized.codes[w]) for x in book[code]]
    assert quantized.rows([]).shape == (0, D)


def test_words_of_more_weight_lie_nearer_to_their_rows(matrix):
    """Control: the same call without the weights serves these words worse."""
    weights = np.where(np.arange(V) < 20, 100.0, 1.0)
    error = lambda f: ((product_quantize(matrix, M, K, f).rows(np.arange(20)) - matrix[:20]) ** 2).sum()
    assert error(weights) < 0.7 * error(None)


def test_a_weight_of_two_is_a_row_that_stands_twice(matrix):
    """From the same start, every step sees the same sums."""
    twice = np.concatenate([matrix, matrix[:50]])
    weights = np.where(np.arange(V) < 50, 2.0, 1.0)
    codes = nearest(matrix, matrix[:K])
    np.testing.assert_allclose(centroids(matrix, codes, weights, matrix[:K]),
                               centroids(twice, nearest(twice, matrix[:K]), np.ones(V + 50), matrix[:K]), rtol=1e-12)


def test_words_without_weight_move_no_centroid(matrix, weights):
    weights[100:] = 0
    other = matrix.copy()
    other[100:] *= 7
    one, two = (product_quantize(E, M, K, weights) for E in (matrix, other))
    assert all(np.array_equal(a, b) for a, b in zip(one.codebooks, two.codebooks))
    for (start, end), book, codes in zip(CUTS, two.codebooks, two.codes.T):
        assert codes[100:].tolist() == slow_nearest(other[100:, start:end], book)  # though they still get the best code


def test_the_start_prefers_rows_far_from_those_chosen():
    points = np.repeat([[0.0], [1000.0], [2000.0]], [97, 3, 3], axis=0) + np.linspace(0, 1, 103)[:, None]
    starts = [spread_points(points, 3, np.ones(103), np.random.default_rng(seed)) for seed in range(50)]
    found = [sorted(np.round(start[:, 0], -3).tolist()) == [0, 1000, 2000] for start in starts]
    assert sum(found) >= 49  # rows drawn evenly find all three in 1 of 200 cases


def test_equal_seeds_give_equal_codes_and_others_do_not(matrix):
    one, same, other = (product_quantize(matrix, M, K, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one.codes, same.codes) and one.history == same.history
    assert not np.array_equal(one.codes, other.codes)


def test_the_matrix_and_the_weights_are_left_as_they_were(matrix, weights):
    before = matrix.copy(), weights.copy()
    quantized = product_quantize(matrix, M, V, weights)
    quantized.codebooks[0][:] = 0
    product_quantize(matrix, 1, V, weights).codebooks[0][:] = 0
    assert np.array_equal(matrix, before[0]) and np.array_equal(weights, before[1])


@pytest.mark.parametrize("change, error, text", [
    (dict(matrix=np.ones(3)), ShapeError, r"matrix: expected shape \(\*, \*\), got \(3,\)"),
    (dict(matrix=np.full((3, 2), np.nan)), DataError, "matrix: expected finite numbers, got 6 that are NaN or infinite"),
    (dict(parts=0), DataError, "parts: expected 1 to 2, got 0"),
    (dict(parts=3), DataError, "parts: expected 1 to 2, got 3"),
    (dict(units=0), DataError, "units: expected 1 to 65536, got 0"),
    (dict(units=65537), DataError, "units: expected 1 to 65536, got 65537"),
    (dict(weights=np.ones(2)), ShapeError, r"weights: expected shape \(3,\), got \(2,\)"),
    (dict(weights=np.array([1, -2, 1])), DataError, "weights: expected at least 0, got -2"),
    (dict(weights=np.array([1, np.nan, 1])), DataError, "weights: expected finite numbers, got 1"),
    (dict(weights=np.zeros(3)), DataError, "weights: expected at least one above 0, got none"),
    (dict(matrix=np.ones((0, 2))), DataError, "weights: expected at least one above 0, got none"),
    (dict(sweeps=-1), DataError, "sweeps: expected at least 0, got -1"),
])
def test_what_cannot_be_quantized_is_refused(change, error, text):
    with pytest.raises(error, match=text):
        product_quantize(**{"matrix": np.ones((3, 2)), "parts": 1, **change})


@pytest.mark.parametrize("books, codes, error, text", [
    ([], np.zeros((3, 0), int), ShapeError, "codebooks: expected at least one part, got none"),
    ([np.ones(2)], np.zeros((3, 1), int), ShapeError, r"codebooks\[0\]: expected shape \(\*, \*\), got \(2,\)"),
    ([np.ones((2, 2)), np.ones((3, 2))], np.zeros((3, 2), int), ShapeError,
     r"codebooks\[1\]: expected shape \(2, \*\), got \(3, 2\)"),
    ([np.ones((2, 2))], np.zeros((3, 2), int), ShapeError, r"codes: expected shape \(\*, 1\), got \(3, 2\)"),
    ([np.full((2, 2), np.inf)], np.zeros((3, 1), int), DataError, r"codebooks\[0\]: expected finite numbers, got 4"),
    ([np.ones((2, 2))], np.full((3, 1), 2), DataError, "codes: expected whole numbers from 0 to 1, got 2"),
])
def test_parts_that_do_not_fit_together_are_refused(books, codes, error, text):
    with pytest.raises(error, match=text):
        ProductQuantization(books, codes)


def test_an_id_out_of_range_is_refused(matrix):
    with pytest.raises(DataError, match=f"ids: expected whole numbers from 0 to {V - 1}, got {V}"):
        product_quantize(matrix, M, K).rows([V])


# the plan


@pytest.mark.parametrize("vocabulary, dimension, units", [(30522, 384, 256), (4000, 192, 256), (997, 64, 100), (4000, 192, 16)])
@pytest.mark.parametrize("ratio", [1, 3.9, 4.1, 10, 20, 40, 60])
def test_the_plan_is_the_largest_number_of_parts_within_the_budget(vocabulary, dimension, units, ratio):
    fits = lambda m, k: 4 * k * dimension + vocabulary * m <= 4 * vocabulary * dimension / ratio
    parts, k = plan(vocabulary, dimension, ratio, units)
    assert 1 <= parts <= dimension and fits(parts, k)
    assert parts == dimension or not fits(parts + 1, k)
    assert k in [units >> i for i in range(8)] and (k == units or not fits(1, 2 * k) and not fits(1, 2 * k + 1))


def test_the_plan_is_what_a_quantized_matrix_takes():
    matrix = np.random.default_rng(7).standard_normal((997, 64))
    parts, units = plan(997, 64, 20)
    quantized = product_quantize(matrix, parts, units, sweeps=1)
    assert units < 256 and 4 * quantized.floats + quantized.index_bytes == 4 * units * 64 + 997 * parts <= 4 * matrix.size / 20


@pytest.mark.parametrize("ratio", [0.5, 0, -3, float("nan"), float("inf"), 1e6])
def test_a_ratio_that_cannot_be_met_is_refused_with_the_largest_that_can(ratio):
    largest = 4 * 4000 * 192 / (4 * 2 * 192 + 4000)  # 554.9: two centroids, one part
    with pytest.raises(DataError, match=rf"ratio: expected 1 to {int(largest * 10) / 10} for product quantization with this"):
        plan(4000, 192, ratio)


def test_the_largest_ratio_leaves_one_part_of_two_centroids_whatever_the_rounding():
    for vocabulary in range(100, 1000):
        assert plan(vocabulary, 7, 4 * vocabulary * 7 / (4 * 2 * 7 + vocabulary)) == (1, 2)


@pytest.mark.parametrize("units", [0, 1, 257])
def test_units_that_are_no_byte_are_refused(units):
    with pytest.raises(DataError, match=f"units: expected 2 to 256, got {units}"):
        plan(4000, 192, 10, units)
