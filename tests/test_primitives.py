"""Primitives of the related methods against dense matrices, loops and searches."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

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


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def close(actual, expected):
    """Entries are sums of numbers of size 1: where they cancel, 1e-12 is meant of the terms."""
    assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def calibration(seed=1):
    """Inputs (N, in), correlated and of unequal sizes: plain and whitened factors differ."""
    return numbers(N, IN, seed=seed) @ (numbers(IN, IN, seed=seed + 1) * 0.6 ** np.arange(IN))


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_truncated_svd_has_the_tail_of_the_spectrum_as_its_error(rank):
    """D44: singular values from the eigenvalues of the Gram matrix; near factors are worse."""
    matrix = numbers(OUT, IN)
    L, R = truncated_svd(matrix, rank)
    tail = np.sort(np.linalg.eigvalsh(matrix @ matrix.T))[::-1][rank:]

    def error(left, right):
        cells = itertools.product(range(OUT), range(IN))
        return sum((matrix[i, j] - left[i] @ right[:, j]) ** 2 for i, j in cells)

    assert_allclose(error(L, R), tail.sum(), rtol=1e-12, atol=1e-24)
    close(R @ R.T, np.eye(rank))
    if rank < OUT:
        for seed in range(20):
            left = L + 0.1 * numbers(OUT, rank, seed=seed)
            right = R + 0.1 * numbers(rank, IN, seed=seed + 50)
            assert error(left, right) > error(L, R)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_whitened_svd_leaves_the_tail_of_the_outputs_and_less_than_the_plain_svd(rank):
    """D45: errors are measured on outputs; the spectrum is that of X W^T, and of W C^(1/2)."""
    W, X = numbers(OUT, IN), calibration()
    B, A = whitened_svd(W, X.T @ X, rank)
    assert B.shape == (OUT, rank) and A.shape == (rank, IN)

    def error(other):
        return sum(((W @ x - other @ x) ** 2).sum() for x in X)

    s = np.linalg.svd(X @ W.T, compute_uv=False)
    values, vectors = np.linalg.eigh(X.T @ X)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    # eigenvectors of a square keep half the digits
    assert_allclose(error(B @ A), (s[rank:] ** 2).sum(), rtol=1e-9)
    assert_allclose(np.linalg.svd(W @ root, compute_uv=False), s, rtol=1e-9)
    plain = np.matmul(*truncated_svd(W, rank))
    assert error(plain) > 1.05 * error(B @ A)
    assert ((W - plain) ** 2).sum() < ((W - B @ A) ** 2).sum()  # each is best at its own


def test_whitened_svd_with_equal_and_uncorrelated_inputs_is_the_plain_one():
    W = numbers(OUT, IN)
    close(np.matmul(*whitened_svd(W, 3.0 * np.eye(IN), 3)), np.matmul(*truncated_svd(W, 3)))


@pytest.mark.parametrize("keep", [[0], [7, 2, 9], list(range(11))])
def test_refit_solves_the_normal_equations_and_its_residual_is_orthogonal_to_kept_inputs(keep):
    """D46: against least squares on the inputs, one output at a time."""
    W, X = numbers(OUT, IN), calibration()
    Z = refit(W, X.T @ X, keep)
    for row, z in zip(W, Z):
        wanted = np.linalg.lstsq(X[:, keep], X @ row, rcond=None)[0]
        assert_allclose(z, wanted, rtol=1e-8, atol=1e-8)
    residual = X @ W.T - X[:, keep] @ Z.T
    assert np.abs(X[:, keep].T @ residual).max() < 1e-9 * np.abs(X.T @ X @ W.T).max()
    dropped = X @ W.T - X[:, keep] @ W[:, keep].T
    # the control: without the refit more is lost
    assert (residual**2).sum() < (dropped**2).sum() or len(keep) == IN


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
    """D47: against a loop over numpy.kron; the spectrum is that of blocks laid flat as rows."""
    matrix = numbers(2 * 5, 3 * 7)
    A, B = nearest_kronecker_sum(matrix, (2, 5), (3, 7), rank)
    cells = itertools.product(range(2), range(3))
    blocks = [matrix[5 * i : 5 * i + 5, 7 * j : 7 * j + 7].ravel() for i, j in cells]
    tail = np.linalg.svd(np.array(blocks), compute_uv=False)[rank:]
    assert_allclose(((matrix - dense(A, B)) ** 2).sum(), (tail**2).sum(), rtol=1e-12)
    for seed in range(20):
        near = A + 0.1 * numbers(*A.shape, seed=seed), B + 0.1 * numbers(*B.shape, seed=seed + 50)
        other = dense(*near)
        assert ((matrix - other) ** 2).sum() > (tail**2).sum()


def dense(A, B):
    return sum(np.kron(a, b) for a, b in zip(A, B))


def test_nearest_kronecker_sum_finds_the_sum_a_matrix_was_made_of_and_not_in_the_wrong_cut():
    matrix = dense([numbers(2, 3), numbers(2, 3, seed=2)], [numbers(5, 7, seed=s) for s in (1, 3)])

    def error(A, B):
        return np.abs(matrix - dense(A, B)).max()

    assert error(*nearest_kronecker_sum(matrix, (2, 5), (3, 7), 2)) < 1e-12
    assert error(*nearest_kronecker_sum(matrix, (5, 2), (3, 7), 2)) > 0.1


def test_kronecker_rows_are_the_rows_of_the_kronecker_product_of_the_factors():
    """D48: against numpy.kron of whole factors; ids in any order and shape."""
    tables = [numbers(t, 5, q, seed=t) for t, q in ((3, 2), (2, 7), (5, 3))]
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
    (lambda W: truncated_svd(W[0], 1), r"matrix: expected shape \(\*, \*\), got \(3,\)"),
    (lambda W: truncated_svd(W * np.nan, 1), "matrix: expected finite numbers, got 9"),
    (lambda W: whitened_svd(W, np.eye(4), 1), r"C: expected shape \(3, 3\), got \(4, 4\)"),
    (lambda W: refit(W, W, [0, 3]), "keep: expected whole numbers from 0 to 2, got 3"),
    (lambda W: refit(W, W, [1, 1]), "keep: expected different inputs, got 1 again"),
    (lambda W: rearrange(W, (2, 2), (1, 3)), r"matrix: expected shape \(4, 3\), got \(3, 3\)"),
    (lambda W: kronecker_rows([W[:2, :1, None]], [2]), "ids: expected whole numbers from 0 to 1, "),
])
def test_primitives_refuse_what_does_not_fit(call, text):
    with pytest.raises(InputError, match=f"^{text}"):
        call(np.eye(3))


def test_no_step_of_cp_raises_the_error_and_each_solves_its_least_squares_problem():
    """D51: errors from loops over outer products; the last factor against dense least squares."""
    tensor = numbers(3, 5, 7)
    _, errors = cp_als(tensor, 4, sweeps=10)
    assert len(errors) == 30
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(errors))
    factors, errors = cp_als(tensor, 4, sweeps=3)
    dense = np.zeros_like(tensor)
    for k, *where in itertools.product(range(4), range(3), range(5), range(7)):
        dense[tuple(where)] += np.prod([factor[i, k] for factor, i in zip(factors, where)])
    error = ((tensor - dense) ** 2).sum() / (tensor**2).sum()
    assert errors[-1] == pytest.approx(error, rel=1e-9)
    A, B = factors[:2]
    design = np.array([A[i] * B[j] for i in range(3) for j in range(5)])  # (15, 4)
    wanted = np.linalg.lstsq(design, tensor.reshape(15, 7), rcond=None)[0].T  # (7, 4)
    assert_allclose(factors[2], wanted, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shape, rank", [((3, 5, 7), 2), ((2, 3, 5, 7), 3)])
def test_cp_finds_what_tensorly_finds_and_agrees_on_what_factors_mean(shape, rank):
    """Of a tensor of this rank with noise: the minimum that both reach is the same."""
    tensorly = pytest.importorskip("tensorly")
    from tensorly.decomposition import parafac

    factors = [numbers(size, rank, seed=size) for size in shape]
    exact = tensorly.cp_to_tensor((None, factors))
    tensor = exact + 0.1 * numbers(*shape, seed=1)
    runs = [cp_als(tensor, rank, seed, sweeps=300) for seed in range(5)]  # some end elsewhere
    ours, errors = min(runs, key=lambda run: run[1][-1])
    theirs = parafac(tensor, rank, n_iter_max=2000, tol=1e-14, init="svd", random_state=0)
    best = ((tensor - tensorly.cp_to_tensor(theirs)) ** 2).sum() / (tensor**2).sum()
    built = tensorly.cp_to_tensor((None, ours))
    error = ((tensor - built) ** 2).sum() / (tensor**2).sum()
    assert error == pytest.approx(errors[-1], rel=1e-9)
    assert errors[-1] == pytest.approx(best, rel=1e-5) and errors[-1] < 0.05
