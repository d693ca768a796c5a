"""Primitives of the related methods against dense matrices, loops and searches that share nothing with them."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

from see_min.checks import DataError, ShapeError
from see_min.related.primitives import kronecker_rows, nearest_kronecker_sum, rearrange, refit, truncated_svd, whitened_svd

OUT, IN, N = 7, 11, 23


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def close(actual, expected):
    """Entries are sums of numbers of size 1: where they cancel, 1e-12 is meant of the terms."""
    assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def calibration(seed=1):
    """Inputs (N, in) that are correlated and of unequal sizes, so that plain and whitened factors differ."""
    return numbers(N, IN, seed=seed) @ (numbers(IN, IN, seed=seed + 1) * 0.6 ** np.arange(IN))


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_truncated_svd_has_the_tail_of_the_spectrum_as_its_error_and_nothing_near_it_has_less(rank):
    """D44: the singular values come from the eigenvalues of the Gram matrix; neighbours of the factors are worse."""
    matrix = numbers(OUT, IN)
    L, R = truncated_svd(matrix, rank)
    tail = np.sort(np.linalg.eigvalsh(matrix @ matrix.T))[::-1][rank:]
    error = lambda left, right: sum((matrix[i, j] - left[i] @ right[:, j]) ** 2 for i in range(OUT) for j in range(IN))
    assert_allclose(error(L, R), tail.sum(), rtol=1e-12, atol=1e-24)
    close(R @ R.T, np.eye(rank))
    if rank < OUT:
        for seed in range(20):
            assert error(L + 0.1 * numbers(OUT, rank, seed=seed), R + 0.1 * numbers(rank, IN, seed=seed + 50)) > error(L, R)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_whitened_svd_leaves_the_tail_of_the_outputs_and_less_than_the_plain_svd(rank):
    """D45: errors are measured on the outputs themselves; the spectrum is that of X W^T, and of W times a root of C."""
    W, X = numbers(OUT, IN), calibration()
    B, A = whitened_svd(W, X.T @ X, rank)
    assert B.shape == (OUT, rank) and A.shape == (rank, IN)
    error = lambda other: sum(((W @ x - other @ x) ** 2).sum() for x in X)
    s = np.linalg.svd(X @ W.T, compute_uv=False)
    values, vectors = np.linalg.eigh(X.T @ X)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    assert_allclose(error(B @ A), (s[rank:] ** 2).sum(), rtol=1e-9)  # eigenvectors of a square keep half the digits
    assert_allclose(np.linalg.svd(W @ root, compute_uv=False), s, rtol=1e-9)
    plain = np.matmul(*truncated_svd(W, rank))
    assert error(plain) > 1.05 * error(B @ A)
    assert ((W - plain) ** 2).sum() < ((W - B @ A) ** 2).sum()  # each is best at its own


def test_whitened_svd_with_equal_and_uncorrelated_inputs_is_the_plain_one():
    W = numbers(OUT, IN)
    close(np.matmul(*whitened_svd(W, 3.0 * np.eye(IN), 3)), np.matmul(*truncated_svd(W, 3)))


@pytest.mark.parametrize("keep", [[0], [7, 2, 9], list(range(11))])
def test_refit_solves_the_normal_equations_and_leaves_a_residual_orthogonal_to_kept_inputs(keep):
    """D46: against least squares on the inputs, one output at a time."""
    W, X = numbers(OUT, IN), calibration()
    Z = refit(W, X.T @ X, keep)
    for row, z in zip(W, Z):
        assert_allclose(z, np.linalg.lstsq(X[:, keep], X @ row, rcond=None)[0], rtol=1e-8, atol=1e-8)
    residual = X @ W.T - X[:, keep] @ Z.T
    assert np.abs(X[:, keep].T @ residual).max() < 1e-9 * np.abs(X.T @ X @ W.T).max()
    dropped = X @ W.T - X[:, keep] @ W[:, keep].T
    assert (residual**2).sum() < (dropped**2).sum() or len(keep) == IN  # the control: without the refit more is lost


def test_refit_finds_a_solution_where_kept_inputs_depend_on_each_other():
    X = calibration()
    X[:, 4] = 2 * X[:, 2]
    W = numbers(OUT, IN)
    got, wanted = (X[:, keep] @ refit(W, X.T @ X, keep).T for keep in ([2, 4, 8], [2, 8]))
    assert_allclose(got, wanted, rtol=1e-7, atol=1e-7)


def test_rearrangement_has_each_entry_at_the_place_of_the_formula():
    matrix = numbers(2 * 5, 3 * 7)
    R = rearrange(matrix, (2, 5), (3, 7))
    assert R.shape == (6, 35)
    for i1, i2, j1, j2 in itertools.product(range(2), range(5), range(3), range(7)):
        assert R[i1 * 3 + j1, i2 * 7 + j2] == matrix[i1 * 5 + i2, j1 * 7 + j2]


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_nearest_kronecker_sum_has_the_tail_of_the_rearrangement_as_its_error(rank):
    """D47: the matrix is compared with a loop over numpy.kron; the spectrum is that of rows which are blocks laid flat."""
    matrix = numbers(2 * 5, 3 * 7)
    A, B = nearest_kronecker_sum(matrix, (2, 5), (3, 7), rank)
    dense = lambda A, B: sum(np.kron(a, b) for a, b in zip(A, B))
    blocks = [matrix[5 * i : 5 * i + 5, 7 * j : 7 * j + 7].ravel() for i in range(2) for j in range(3)]
    tail = np.linalg.svd(np.array(blocks), compute_uv=False)[rank:]
    assert_allclose(((matrix - dense(A, B)) ** 2).sum(), (tail**2).sum(), rtol=1e-12)
    for seed in range(20):
        other = dense(A + 0.1 * numbers(*A.shape, seed=seed), B + 0.1 * numbers(*B.shape, seed=seed + 50))
        assert ((matrix - other) ** 2).sum() > (tail**2).sum()


def test_nearest_kronecker_sum_finds_the_sum_a_matrix_was_made_of_and_not_in_the_wrong_cut():
    matrix = np.kron(numbers(2, 3), numbers(5, 7, seed=1)) + np.kron(numbers(2, 3, seed=2), numbers(5, 7, seed=3))
    error = lambda A, B: np.abs(matrix - sum(np.kron(a, b) for a, b in zip(A, B))).max()
    assert error(*nearest_kronecker_sum(matrix, (2, 5), (3, 7), 2)) < 1e-12
    assert error(*nearest_kronecker_sum(matrix, (5, 2), (3, 7), 2)) > 0.1


def test_kronecker_rows_are_the_rows_of_the_kronecker_product_of_the_factors():
    """D48: against numpy.kron of whole factors; ids in any order and shape."""
    tables = [numbers(t, 5, q, seed=t) for t, q in ((3, 2), (2, 7), (5, 3))]
    dense = sum(np.kron(np.kron(*(table[:, k] for table in tables[:2])), tables[2][:, k]) for k in range(5))
    ids = np.array([[29, 0, 7], [7, 11, 23]])
    close(kronecker_rows(tables, ids), dense[ids])
    close(kronecker_rows(tables, 13), dense[13])
    assert kronecker_rows(tables, np.zeros(0, dtype=int)).shape == (0, 42)
    assert not np.allclose(kronecker_rows(tables[::-1], ids), dense[ids])  # the first digit is the slowest


def test_primitives_refuse_what_does_not_fit():
    W, C = np.eye(3), np.eye(3)
    for call, error, text in [
        (lambda: truncated_svd(W, 4), DataError, "rank: expected 1 to 3, got 4"),
        (lambda: truncated_svd(np.ones(3), 1), ShapeError, r"matrix: expected shape \(\*, \*\), got \(3,\)"),
        (lambda: truncated_svd(np.full((2, 2), np.nan), 1), DataError, "matrix: expected finite numbers, got 4"),
        (lambda: whitened_svd(W, np.eye(4), 1), ShapeError, r"C: expected shape \(3, 3\), got \(4, 4\)"),
        (lambda: whitened_svd(W, C, 0), DataError, "rank: expected 1 to 3, got 0"),
        (lambda: refit(W, C, [0, 3]), DataError, "keep: expected whole numbers from 0 to 2, got 3"),
        (lambda: refit(W, C, [1, 1]), DataError, "keep: expected different inputs, got 1 again"),
        (lambda: rearrange(W, (2, 2), (1, 3)), ShapeError, r"matrix: expected shape \(4, 3\), got \(3, 3\)"),
        (lambda: kronecker_rows([], [0]), ShapeError, "tables: expected at least one, got none"),
        (lambda: kronecker_rows([np.ones((2, 1, 1)), np.ones((2, 3, 1))], [0]), ShapeError, r"tables\[1\]: expected shape"),
        (lambda: kronecker_rows([np.ones((2, 1, 1))], [2]), DataError, "ids: expected whole numbers from 0 to 1, got 2"),
    ]:
        with pytest.raises(error, match=f"^{text}"):
            call()
