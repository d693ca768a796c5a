"""Primitives of the related methods against dense matrices, loops and spectra."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from slow import close, normal, squares

from see_min.errors import InputError
from see_min.related.primitives import (
    cp_als,
    kronecker_rows,
    nearest_kronecker_sum,
    rearrange,
    refit,
    truncated_svd,
    whitened_svd,
)

OUT, IN, N = 7, 11, 23


def calibration(seed=1):
    """Inputs (N, in), correlated and of unequal sizes: plain and whitened factors differ."""
    return normal(N, IN, seed=seed) @ (normal(IN, IN, seed=seed + 1) * 0.6 ** np.arange(IN))


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_truncated_svd_has_the_tail_of_the_spectrum_as_its_error(rank):
    """D44: singular values from the eigenvalues of the Gram matrix; near factors are worse."""
    matrix = normal(OUT, IN)
    L, R = truncated_svd(matrix, rank)
    tail = np.sort(np.linalg.eigvalsh(matrix @ matrix.T))[::-1][rank:].sum()
    assert squares(matrix - L @ R) == pytest.approx(tail, rel=1e-12, abs=1e-24)
    close(R @ R.T, np.eye(rank))
    near = L + 0.1 * normal(OUT, rank, seed=1), R + 0.1 * normal(rank, IN, seed=2)
    assert squares(matrix - np.matmul(*near)) > tail


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_whitened_svd_leaves_the_tail_of_the_outputs_and_less_than_the_plain_svd(rank):
    """D45: errors are measured on outputs; the spectrum is that of X W^T, and of W C^(1/2)."""
    W, X = normal(OUT, IN), calibration()
    B, A = whitened_svd(W, X.T @ X, rank)
    assert B.shape == (OUT, rank) and A.shape == (rank, IN)
    s = np.linalg.svd(X @ W.T, compute_uv=False)
    values, vectors = np.linalg.eigh(X.T @ X)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    # eigenvectors of a square keep half the digits
    assert squares(X @ (W - B @ A).T) == pytest.approx(squares(s[rank:]), rel=1e-9)
    assert_allclose(np.linalg.svd(W @ root, compute_uv=False), s, rtol=1e-9)
    plain = np.matmul(*truncated_svd(W, rank))
    assert squares(X @ (W - plain).T) > 1.05 * squares(s[rank:])
    assert squares(W - plain) < squares(W - B @ A)  # each is best at its own
    close(np.matmul(*whitened_svd(W, 3.0 * np.eye(IN), rank)), plain)  # equal, uncorrelated inputs


@pytest.mark.parametrize("keep", [[0], [7, 2, 9], list(range(11))])
def test_refit_solves_the_normal_equations_and_its_residual_is_orthogonal(keep):
    """D46: against least squares on the inputs; without the refit, the control, more is lost."""
    W, X = normal(OUT, IN), calibration()
    Z = refit(W, X.T @ X, keep)
    wanted = np.linalg.lstsq(X[:, keep], X @ W.T, rcond=None)[0].T
    assert_allclose(Z, wanted, rtol=1e-8, atol=1e-8)
    residual = X @ W.T - X[:, keep] @ Z.T
    assert np.abs(X[:, keep].T @ residual).max() < 1e-9 * np.abs(X.T @ X @ W.T).max()
    dropped = X @ W.T - X[:, keep] @ W[:, keep].T
    assert squares(residual) < squares(dropped) or len(keep) == IN


def test_refit_finds_a_solution_where_kept_inputs_depend_on_each_other():
    W, X = normal(OUT, IN), calibration()
    X[:, 4] = 2 * X[:, 2]
    got, wanted = (X[:, keep] @ refit(W, X.T @ X, keep).T for keep in ([2, 4, 8], [2, 8]))
    assert_allclose(got, wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("rows, columns", [((2, 5), (3, 7)), ((2, 3, 2), (1, 5, 2))])
def test_rearrangement_has_each_entry_at_the_place_of_the_formula(rows, columns):
    matrix = normal(np.prod(rows), np.prod(columns))
    tensor = rearrange(matrix, rows, columns)
    for i in itertools.product(*map(range, rows)):
        for j in itertools.product(*map(range, columns)):
            place = tuple(a * n + b for a, b, n in zip(i, j, columns))
            row, column = np.ravel_multi_index(i, rows), np.ravel_multi_index(j, columns)
            assert tensor[place] == matrix[row, column]


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_nearest_kronecker_sum_has_the_tail_of_the_rearrangement_as_its_error(rank):
    """D47: against a loop over numpy.kron; the spectrum is that of blocks laid flat as rows."""
    matrix = normal(2 * 5, 3 * 7)
    cells = itertools.product(range(2), range(3))
    blocks = [matrix[5 * i : 5 * i + 5, 7 * j : 7 * j + 7].ravel() for i, j in cells]
    tail = squares(np.linalg.svd(np.array(blocks), compute_uv=False)[rank:])

    def error(A, B):
        return squares(matrix - sum(np.kron(a, b) for a, b in zip(A, B)))

    A, B = nearest_kronecker_sum(matrix, (2, 5), (3, 7), rank)
    assert error(A, B) == pytest.approx(tail, rel=1e-12)
    assert error(A + 0.1 * normal(*A.shape, seed=1), B + 0.1 * normal(*B.shape, seed=2)) > tail


def test_kronecker_rows_are_the_rows_of_the_kronecker_product_of_the_factors():
    """D48: against numpy.kron of whole factors; ids in any order and shape."""
    tables = [normal(t, 5, q, seed=t) for t, q in ((3, 2), (2, 7), (5, 3))]
    terms = [[table[:, k] for table in tables] for k in range(5)]
    whole = sum(np.kron(np.kron(a, b), c) for a, b, c in terms)
    ids = np.array([[29, 0, 7], [7, 11, 23]])
    close(kronecker_rows(tables, ids), whole[ids])
    close(kronecker_rows(tables, 13), whole[13])
    assert kronecker_rows(tables, np.zeros(0, dtype=int)).shape == (0, 42)
    # the control: the first digit is the slowest
    assert not np.allclose(kronecker_rows(tables[::-1], ids), whole[ids])


@pytest.mark.parametrize("call, text", [
    (lambda W: truncated_svd(W, 4), "rank: expected 1 to 3, got 4"),
    (lambda W: truncated_svd(W * np.nan, 1), "matrix: expected finite numbers, got 9"),
    (lambda W: whitened_svd(W, np.eye(4), 1), r"C: expected shape \(3, 3\), got \(4, 4\)"),
    (lambda W: refit(W, W, [0, 3]), "keep: expected whole numbers from 0 to 2, got 3"),
    (lambda W: refit(W, W, [1, 1]), "keep: expected different inputs, got 1 again"),
])
def test_primitives_refuse_what_does_not_fit(call, text):
    with pytest.raises(InputError, match=f"^{text}"):
        call(np.eye(3))


def test_no_step_of_cp_raises_the_error_and_each_solves_its_least_squares_problem():
    """D51: errors from loops over outer products; the last factor against dense least squares."""
    tensor = normal(3, 5, 7)
    factors, errors = cp_als(tensor, 4, sweeps=3)
    assert len(errors) == 9
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(errors))
    dense = np.zeros_like(tensor)
    for k, *where in itertools.product(range(4), range(3), range(5), range(7)):
        dense[tuple(where)] += np.prod([factor[i, k] for factor, i in zip(factors, where)])
    assert errors[-1] == pytest.approx(squares(tensor - dense) / squares(tensor), rel=1e-9)
    A, B = factors[:2]
    design = np.array([A[i] * B[j] for i in range(3) for j in range(5)])  # (15, 4)
    wanted = np.linalg.lstsq(design, tensor.reshape(15, 7), rcond=None)[0].T  # (7, 4)
    assert_allclose(factors[2], wanted, rtol=1e-8, atol=1e-10)
