"""Quantizers: rows against faiss and loops, weights, private vectors, bytes.

Budget, ratios and seeds of all methods: test_related.py.
"""

import numpy as np
import pytest
from slow import error

from see_min.encoding import private_units
from see_min.errors import InputError
from see_min.fitting import starts
from see_min.fitting.least_squares import fit as fit_encoding
from see_min.fitting.least_squares import frequency_weights, projection, relative_error
from see_min.related import quantizers
from see_min.related.quantizers import GRID, additive, fit, plan, scale_rows
from see_min.storage.encodings import rounded
from see_min.units import Units

faiss = pytest.importorskip("faiss")
V, D = 700, 32


@pytest.fixture(scope="module")
def matrix():
    """Rows near a subspace, with a spread that falls from column to column."""
    rng = np.random.default_rng(0)
    low = rng.standard_normal((V, 12)) * 0.8 ** np.arange(12)  # (V, 12)
    return low @ rng.standard_normal((12, D)) + 0.1 * rng.standard_normal((V, D))


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(1).permutation(10_000 // np.arange(1, V + 1))


@pytest.fixture(scope="module")
def weights(counts):
    return frequency_weights(counts, 0.3)


def fit8(*arguments, **options):
    """At 8 bits, so that these rows, which are near a subspace, are not all rounding error."""
    return fit(*arguments, **options, bits=8)


def test_the_plan_is_what_an_encoding_takes(matrix, counts):
    for method in ("opq", "prq"):
        kept = fit(matrix, 6, method, counts=counts)
        assert kept.bytes in [one.bytes(one.private, 8) for one in plan(V, D, 6, method)]


@pytest.mark.parametrize("change, text", [
    ({"method": "lsa"}, "method: expected one of pq, opq, .*, got 'lsa'"),
    ({"matrix": np.full((20, 8), np.nan)}, "matrix: expected finite numbers, got 160 "),
    ({"weights": np.ones(2)}, r"weights: expected shape \(20,\), got \(2,\)"),
    ({"metric": np.eye(3)}, r"metric: expected shape \(8, 8\), got \(3, 3\)"),
])
def test_what_cannot_be_quantized_is_refused(change, text):
    with pytest.raises(InputError, match=f"^{text}"):
        fit(**{"matrix": np.ones((20, 8)), "ratio": 2, **change})


# ------------------------------------------------------------------ rows


def additive_of(matrix, method, g, r, U, private=()):
    """(encoding, P) of rows by one plan."""
    one = quantizers.Plan(V, D, (g, 8 // g), r, U, len(private), coded=True)
    bag = None
    if len(private):
        entries = np.ones(len(private)), (private, np.arange(len(private)))
        bag = quantizers.scipy.sparse.csr_array(entries, shape=(V, len(private)))
    units = Units(np.zeros((V, r, 2), dtype=int), None, None, None, bag)
    P = projection(matrix, np.ones(V), 8)
    return additive(matrix, units, one, P, np.ones(V), 0, method), P


@pytest.mark.parametrize("method", ["rq", "lsq"])
@pytest.mark.parametrize("units", [16, 32, 256])
def test_codes_and_books_are_what_faiss_decodes(method, units, matrix):
    """Codes of 4, 5 and 8 bits; the control gives every term the codes of the next."""
    points = matrix[:, :8].astype(np.float32)
    one = quantizers.faiss_quantizer(8, 3, units, 0, method)
    one.train(points)
    codes = quantizers.read_codes(one, points, 3, quantizers.code_bits(units))
    books = faiss.vector_to_array(one.codebooks).reshape(3, units, 8)
    want = one.decode(one.compute_codes(points))
    np.testing.assert_allclose(quantizers._decoded(books, codes), want, atol=1e-5)
    assert np.abs(quantizers._decoded(books, np.roll(codes, 1, axis=1)) - want).max() > 0.1


@pytest.mark.parametrize("method", ["rq", "lsq"])
def test_books_are_weighted_means_and_lower_what_faiss_leaves(method, matrix):
    points, f = matrix[:, :8].astype(np.float32), np.where(np.arange(V) < 70, 30.0, 1.0)

    def off(decoded):
        return f @ ((points - decoded) ** 2).sum(1)

    books, codes = quantizers.faiss_codes(points, f, 3, 16, np.random.default_rng(0), method)
    rng = np.random.default_rng(0)
    one = quantizers.faiss_quantizer(8, 3, 16, int(rng.integers(2**31)), method)
    one.train(points[rng.choice(V, V, p=f / f.sum())])
    one.max_beam_size = 8
    books = books.swapaxes(0, 1)  # (r, U, q)
    mine = off(quantizers._decoded(books, codes))
    assert mine < off(one.decode(one.compute_codes(points)))
    again = quantizers.improved_books(points, f, codes, books, passes=20)
    assert 0.95 * mine < off(quantizers._decoded(again, codes)) <= mine
    for k in range(3):  # at the fixed point
        rest = points - quantizers._decoded(again, codes) + again[k][codes[:, k]]
        mean = (f[:, None] * rest)[codes[:, k] == 0].sum(0) / f[codes[:, k] == 0].sum()
        np.testing.assert_allclose(again[k][0], mean, atol=0.02)


def test_product_residual_terms_stand_in_their_blocks(matrix):
    """Term k adds to block k mod g alone; the error of every block is that of its own terms."""
    encoding, _ = additive_of(matrix, "prq", 2, 4, 16)
    np.testing.assert_array_equal(encoding.tables[0][0], [[1, 0], [0, 1], [1, 0], [0, 1]])
    target = matrix @ encoding.projection.T  # (V, 8), P with the rotation
    want = np.zeros((V, 8))
    for k in range(4):
        block = slice(4 * (k % 2), 4 * (k % 2) + 4)
        before = ((target[:, block] - want[:, block]) ** 2).sum()
        want[:, block] += encoding.tables[1][encoding.index[:, k, 1], k]
        assert ((target[:, block] - want[:, block]) ** 2).sum() < before
    np.testing.assert_allclose(encoding.inner_rows(np.arange(V)), want, atol=1e-9)


def test_opq_is_the_start_of_see_without_its_fit(matrix, counts, weights, monkeypatch):
    """The same numbers, rounded alike; a fit of the start goes on from there, and down."""
    monkeypatch.setitem(GRID, "opq", GRID["opq"][:1])
    one = plan(V, D, 6, "opq", 8)[0]
    kept = fit8(matrix, 6, "opq", weights, 3, counts)
    P = projection(matrix, frequency_weights(counts, 1), one.inner_dim)
    private = np.sort(np.argsort(-counts, kind="stable")[: one.private])
    units = Units(kept.index * 0, None, None, None, kept.bag)
    start, _ = starts.quantizer_encoding(matrix, units, one, P, weights, 3)
    want = rounded(fit_encoding(matrix, start, weights, sweeps=0)[0], 8)
    np.testing.assert_array_equal(kept.rows(np.arange(V)), want.rows(np.arange(V)))
    assert private_units(kept.bag)[0].tolist() == private.tolist()
    better = rounded(fit_encoding(matrix, start, weights, None, 3, 1e-3)[0], 8)
    assert relative_error(matrix, better, weights) < relative_error(matrix, kept, weights)


def test_private_words_have_the_codes_0_and_the_best_vectors(matrix, counts):
    words = np.array([3, 50, 699])
    for method, g in (("rq", 1), ("prq", 2), ("lsq", 1)):
        kept, _ = additive_of(matrix, method, g, 4, 16, words)
        P = kept.projection
        assert not kept.index[words].any() and kept.index[:, :, 1].any()
        np.testing.assert_allclose(kept.rows(words), matrix[words] @ P.T @ P, atol=1e-9)
        rest = np.setdiff1d(np.arange(V), words)
        assert np.abs(kept.rows(rest) - matrix[rest] @ P.T @ P).mean() > 0.01


# ------------------------------------------------------------------ weights, metric, seed


@pytest.mark.parametrize("method", ["opq", "rq", "svd-int8"])
def test_a_metric_lowers_the_error_that_it_measures(method, matrix, weights):
    root = np.random.default_rng(2).standard_normal((D, 6))
    metric = root @ root.T
    with_, without = (fit8(matrix, 12, method, weights, metric=C) for C in (metric, None))
    S = starts.metric_roots(metric, 0.5)[0]
    seen = [error(matrix @ S, one.rows(np.arange(V)) @ S, weights) for one in (with_, without)]
    assert seen[0] < seen[1]
    assert relative_error(matrix, with_, weights) > relative_error(matrix, without, weights)


def test_the_best_of_the_grid_is_kept(matrix, weights, monkeypatch):
    best = relative_error(matrix, fit(matrix, 8, "opq", weights), weights)
    for one in list(GRID["opq"]):
        monkeypatch.setitem(GRID, "opq", [one])
        assert relative_error(matrix, fit(matrix, 8, "opq", weights), weights) >= best


# ------------------------------------------------------------------ rows of whole numbers


@pytest.mark.parametrize("bits", [8, 4])
def test_rows_of_whole_numbers_are_within_half_a_step(bits, matrix):
    """At 8 bits; at 4 a row may give up its largest entries for a finer step, if that is better."""
    kept, top = scale_rows(matrix, bits), 2 ** (bits - 1) - 1
    steps = (kept.scale * kept.steps.astype(float))[:, None]
    off = np.abs(kept.rows(np.arange(V)) - matrix)
    inside = np.abs(matrix) <= steps * top
    half = np.broadcast_to(0.5 * steps, (V, D))
    assert np.abs(kept.numbers).max() == top and (off <= half + 1e-9)[inside].all()
    largest = np.abs(matrix).max(1, keepdims=True) / top
    plain = ((np.rint(matrix / largest) * largest - matrix) ** 2).sum()
    assert ((kept.rows(np.arange(V)) - matrix) ** 2).sum() < {8: 1.01, 4: 0.95}[bits] * plain
    assert kept.bytes == V * D * bits // 8 + 2 * V + 4


def test_rows_of_whole_numbers_at_any_scale_and_of_zeros(matrix):
    for scale in (1e-30, 1.0, 1e30):
        kept = scale_rows(scale * np.vstack([matrix, np.zeros(D)]), 8)
        off = np.abs(kept.rows(np.arange(V)) / scale - matrix).max()
        assert off < 0.05 and not kept.rows(V).any()
    assert not scale_rows(np.zeros((3, 2)), 4).rows([0, 1, 2]).any()


def test_factors_of_8_bits_are_near_the_best_of_their_rank(matrix, weights):
    kept = fit(matrix, 6, "svd-int8", weights)
    P = projection(matrix, weights, kept.inner_dim)
    exact = error(matrix, matrix @ P.T @ P, weights)
    assert exact < relative_error(matrix, kept, weights) < 1.05 * exact + 1e-4
    assert kept.order == 1 and kept.index is None
