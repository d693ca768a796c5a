"""Product quantization: means and codes against loops, weights, counts, and the plan of a ratio."""

import numpy as np
import pytest

from see_min.errors import InputError
from see_min.related.pq import ProductQuantization, k_means, plan, product_quantize

pytest.importorskip("faiss")
V, D, M, K = 211, 11, 3, 7  # parts of 4, 4 and 3 columns
CUTS = ((0, 4), (4, 8), (8, 11))


@pytest.fixture
def matrix():
    return np.random.default_rng(0).standard_normal((V, D))


@pytest.fixture
def weights():
    return np.random.default_rng(1).exponential(size=V)


def error(matrix, kept, weights):
    rows = kept.rows(np.arange(len(matrix)))
    return sum(f * ((x - y) ** 2).sum() for x, y, f in zip(matrix, rows, weights))


@pytest.mark.parametrize("shift, scale", [(0, 1), (1e4, 1), (0, 1e30), (0, 1e-30)])
def test_codes_are_nearest_and_centroids_weighted_means(matrix, weights, shift, scale):
    """A fixed point of both steps in every part; neither a large mean nor the scale eats digits."""
    matrix = scale * (matrix + shift)
    kept = product_quantize(matrix, M, K, weights, sweeps=200)
    for (start, end), book, codes in zip(CUTS, kept.codebooks, kept.codes.T):
        part = matrix[:, start:end]
        for x, code in zip(part, codes):
            distances = [((x - c) ** 2).sum() for c in book]
            assert distances[code] <= min(distances) * (1 + 1e-4)  # faiss counts in float32
        for i in range(K):
            mine = codes == i
            mean = (weights[mine, None] * part[mine]).sum(0) / weights[mine].sum()
            np.testing.assert_allclose(book[i], mean, rtol=1e-12, atol=1e-12 * scale)


def test_more_sweeps_lower_the_error_and_one_centroid_is_the_mean(matrix, weights):
    errors = [error(matrix, product_quantize(matrix, M, K, weights, sweeps=n), weights)
              for n in (1, 5, 25)]
    assert errors[0] > errors[1] > errors[2]
    mean = product_quantize(matrix, M, 1, weights).rows(0)
    np.testing.assert_allclose(mean, weights @ matrix / weights.sum(), rtol=1e-12)


def test_words_of_more_weight_lie_nearer_to_their_rows(matrix):
    """Control: the same call without the weights serves these words worse."""
    weights = np.where(np.arange(V) < 20, 100.0, 1.0)
    first = (np.arange(V) < 20).astype(float)
    heavy, even = (error(matrix, product_quantize(matrix, M, K, f), first) for f in (weights, None))
    assert heavy < 0.7 * even


def test_equal_seeds_give_equal_codes_others_do_not_and_arguments_stay(matrix, weights):
    before = matrix.copy(), weights.copy()
    one, same, other = (product_quantize(matrix, M, K, weights, seed=s) for s in (3, 3, 4))
    assert np.array_equal(one.codes, same.codes) and not np.array_equal(one.codes, other.codes)
    product_quantize(matrix, M, V, weights).codebooks[0][:] = 0
    assert np.array_equal(matrix, before[0]) and np.array_equal(weights, before[1])


@pytest.mark.parametrize("units", [V, V + 1, 5 * V])
def test_no_more_words_than_centroids_are_exact(matrix, units):
    assert np.array_equal(product_quantize(matrix, M, units).rows(np.arange(V)), matrix)


def test_equal_rows_leave_centroids_without_words():
    points = np.repeat([[0.0], [3.0]], [5, 7], axis=0)
    book, codes = k_means(points, 4, np.ones(12))
    np.testing.assert_allclose(book[codes], points, atol=1e-12)


def test_rows_stand_side_by_side_and_codes_are_of_the_smallest_type(matrix):
    kept = product_quantize(matrix, M, K)
    rows = kept.rows([[0, 5], [5, 7]])
    for i, w in np.ndenumerate([[0, 5], [5, 7]]):
        parts = [book[code] for book, code in zip(kept.codebooks, kept.codes[w])]
        assert rows[i].tolist() == np.concatenate(parts).tolist()
    assert kept.rows([]).shape == (0, D)
    assert (kept.parameters, kept.index_bytes, kept.shape) == (K * D, V * M, (V, D))
    many = np.random.default_rng(6).standard_normal((300, 1))
    for units, dtype in ((256, np.uint8), (257, np.uint16)):
        assert product_quantize(many, 1, units, sweeps=1).codes.dtype == dtype


@pytest.mark.parametrize("change, text", [
    ({"matrix": np.ones(3)}, r"matrix: expected shape \(\*, \*\), got \(3,\)"),
    ({"matrix": np.full((3, 2), np.nan)}, "matrix: expected finite numbers, got 6 "),
    ({"parts": 3}, "parts: expected 1 to 2, got 3"),
    ({"units": 65537}, "units: expected 1 to 65536, got 65537"),
    ({"weights": np.ones(2)}, r"weights: expected shape \(3,\), got \(2,\)"),
    ({"weights": np.array([1, -2, 1])}, "weights: expected at least 0, got -2"),
])
def test_what_cannot_be_quantized_is_refused(change, text):
    with pytest.raises(InputError, match=f"^{text}"):
        product_quantize(**{"matrix": np.ones((3, 2)), "parts": 1, **change})


def test_parts_that_do_not_fit_together_are_refused():
    with pytest.raises(InputError, match=r"^codes: expected shape \(\*, 1\), got \(3, 2\)"):
        ProductQuantization([np.ones((2, 2))], np.zeros((3, 2), int))
    text = r"^codes\[:, 0\]: expected whole numbers from 0 to 1, got 2"
    with pytest.raises(InputError, match=text):
        ProductQuantization([np.ones((2, 2))], np.full((3, 1), 2))


def test_a_missing_faiss_is_named_with_its_command(matrix, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(InputError, match="^faiss: expected the package.*: pip install faiss-cpu"):
        product_quantize(matrix, M, K)


@pytest.mark.parametrize("V, D, units", [(30522, 384, 256), (997, 64, 100), (4000, 192, 16)])
@pytest.mark.parametrize("ratio", [1, 3.9, 4.1, 10, 60])
def test_the_plan_is_the_largest_number_of_parts_within_the_budget(V, D, units, ratio):
    def fits(m, k):
        return 4 * k * D + V * m <= 4 * V * D / ratio

    parts, k = plan(V, D, ratio, units)
    assert 1 <= parts <= D and fits(parts, k)
    assert parts == D or not fits(parts + 1, k)
    halved = k < units
    assert k in [units >> i for i in range(8)]
    assert not halved or not fits(1, 2 * k) and not fits(1, 2 * k + 1)


def test_the_plan_is_what_a_quantized_matrix_takes():
    matrix = np.random.default_rng(7).standard_normal((997, 64))
    parts, units = plan(997, 64, 20)
    kept = product_quantize(matrix, parts, units, sweeps=1)
    used = 4 * kept.parameters + kept.index_bytes
    assert units < 256 and used == 4 * units * 64 + 997 * parts <= 4 * matrix.size / 20


@pytest.mark.parametrize("ratio", [0.5, float("nan"), 1e6])
def test_a_ratio_that_cannot_be_met_is_refused_with_the_largest_that_can(ratio):
    largest = 4 * 4000 * 192 / (4 * 2 * 192 + 4000)  # 554.9: two centroids, one part
    text = rf"ratio: expected 1 to {int(largest * 10) / 10} for product quantization"
    with pytest.raises(InputError, match=text):
        plan(4000, 192, ratio)
    with pytest.raises(InputError, match="^units: expected 2 to 256, got 257"):
        plan(4000, 192, 10, 257)


def test_the_largest_ratio_leaves_one_part_of_two_centroids_whatever_the_rounding():
    for vocabulary in range(100, 1000):
        assert plan(vocabulary, 7, 4 * vocabulary * 7 / (4 * 2 * 7 + vocabulary)) == (1, 2)
