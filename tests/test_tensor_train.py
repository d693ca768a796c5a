"""Trains against products of matrices entry by entry, and truncation against singular values of the array itself."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

from see_min.checks import DataError, ShapeError
from see_min.entangle import entangled_rows
from see_min.tensor_train import core_rows, cp_as_tt, tt_dense, tt_round, tt_svd, unit_cores

SHAPES = [(7,), (3, 5), (3, 5, 2), (3, 5, 7, 2), (2, 1, 3)]


def random_array(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def random_train(shape, bonds, seed=0):
    bonds = (1, *bonds, 1)
    return [random_array((bonds[j], size, bonds[j + 1]), seed + j) for j, size in enumerate(shape)]


def slow_dense(cores):
    out = np.empty([core.shape[1] for core in cores])
    for where in itertools.product(*map(range, out.shape)):
        matrix = np.eye(1)
        for core, i in zip(cores, where):
            matrix = matrix @ core[:, i, :]
        out[where] = matrix.item()
    return out


def tails(array, bonds):
    """Per bond the norm of all but the R_j largest singular values of the reshaped array."""
    out = []
    for j, bond in enumerate(bonds, start=1):
        s = np.linalg.svd(array.reshape(int(np.prod(array.shape[:j])), -1), compute_uv=False)
        out.append(np.sqrt((s[bond:] ** 2).sum()))
    return np.array(out)


def bonds_of(cores):
    return [core.shape[2] for core in cores[:-1]]


def close(actual, expected):
    """Relative to the largest entry: sums that cancel have no relative accuracy of their own."""
    assert_allclose(actual, expected, rtol=1e-12, atol=1e-12 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("shape", SHAPES)
def test_tt_svd_without_truncation_gives_the_array_back(shape):
    """D7: the train of tt_svd, multiplied entry by entry, is the array."""
    array = random_array(shape)
    cores, dropped = tt_svd(array)
    assert [core.shape[1] for core in cores] == list(shape) and dropped == [0.0] * (len(shape) - 1)
    close(slow_dense(cores), array)


def test_tt_svd_finds_the_bonds_an_array_was_made_with():
    array = slow_dense(random_train((3, 5, 7, 2), (2, 3, 2)))
    assert bonds_of(tt_svd(array, tolerance=1e-9)[0]) == [2, 3, 2]


def test_cores_of_tt_svd_but_the_last_have_orthonormal_columns():
    for core in tt_svd(random_array((3, 5, 7)), max_rank=2)[0][:-1]:
        matrix = core.reshape(-1, core.shape[2])
        close(matrix.T @ matrix, np.eye(core.shape[2]))


@pytest.mark.parametrize("max_rank", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 7), (3, 5, 7, 2)])
def test_tt_svd_error_is_bounded_by_discarded_singular_values(shape, max_rank):
    """D8: max_j eps_j^2 <= ||T - TT||^2 = sum_j dropped_j^2 <= sum_j eps_j^2."""
    array = random_array(shape)
    cores, dropped = tt_svd(array, max_rank)
    error = ((array - slow_dense(cores)) ** 2).sum()
    eps = tails(array, bonds_of(cores))
    assert (eps**2).max() <= error * (1 + 1e-12) and error <= (eps**2).sum() * (1 + 1e-12) + 1e-24
    assert_allclose(error, (np.array(dropped) ** 2).sum(), rtol=1e-12, atol=1e-24)  # exact arrays leave squares of rounding
    assert (np.array(dropped) <= eps + 1e-12).all()
    if len(shape) > 2 and max_rank == 1:
        assert error > 1.01 * (eps**2).max() and error < 0.99 * (eps**2).sum()  # both bounds are real, none is the error itself


@pytest.mark.parametrize("tolerance", [0.1, 1.0, 3.0])
def test_tt_svd_drops_at_each_bond_as_much_as_the_tolerance_allows(tolerance):
    array = random_array((3, 5, 7))
    cores, dropped = tt_svd(array, tolerance=tolerance)
    assert max(dropped) <= tolerance
    s = np.linalg.svd(array.reshape(3, 35), compute_uv=False)
    assert bonds_of(cores)[0] == min(k for k in range(1, 4) if np.sqrt((s[k:] ** 2).sum()) <= tolerance)


@pytest.mark.parametrize("tolerance", [0.0, 1e9])
def test_a_train_keeps_bonds_of_one_at_least(tolerance):
    cores, _ = tt_svd(np.zeros((2, 3, 5)), tolerance=tolerance)
    assert bonds_of(cores) == [1, 1] and (slow_dense(cores) == 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_tt_dense_is_the_product_of_matrices_at_every_entry(shape):
    cores = random_train(shape, (2, 3, 5)[: len(shape) - 1])
    close(tt_dense(cores), slow_dense(cores))


@pytest.mark.parametrize("sizes", [(3,), (2, 3), (2, 3, 5), (2, 3, 5, 2)])
def test_sum_of_products_is_a_train_with_diagonal_cores(sizes):
    """D9: the train is sum_k v_1k x ... x v_nk, and its cores vanish off the diagonal."""
    leaves = [random_array((5, q), seed) for seed, q in enumerate(sizes)]
    expected = 0
    for k in range(5):
        product = np.ones(1)
        for leaf in leaves:
            product = np.kron(product, leaf[k])
        expected = expected + product
    cores = cp_as_tt(leaves)
    close(slow_dense(cores).reshape(-1), expected)
    for core in cores[1:-1]:
        assert core.shape[0] == core.shape[2] == 5
        assert all((core[k, :, m] == 0).all() for k in range(5) for m in range(5) if k != m)


UNITS = (11, 13, 17, 4)


@pytest.mark.parametrize("sizes", [(3,), (2, 3), (2, 3, 5), (2, 3, 5, 2)])
def test_unit_owned_cores_contain_the_encoding_as_their_diagonal_case(sizes):
    """D10: core_rows of diagonal cores = the sum of products of the words' leaves."""
    tables = [random_array((U, 5, q), U) for U, q in zip(UNITS, sizes)]
    rng = np.random.default_rng(1)
    index = np.stack([rng.integers(0, len(table), 7) for table in tables], axis=1)
    rows = core_rows(unit_cores(tables), index)
    for w in range(7):
        expected = 0
        for k in range(5):
            product = np.ones(1)
            for table, u in zip(tables, index[w]):
                product = np.kron(product, table[u, k])
            expected = expected + product
        close(rows[w], expected)
    close(entangled_rows([table[u] for table, u in zip(tables, index.T)]), rows)
    assert not np.allclose(core_rows(unit_cores(tables), (index + 1) % 4), rows)  # other units, other rows


def test_general_cores_reach_a_state_that_is_no_sum_of_two_products():
    """D10: the W state is a train with bonds 2 but no sum of two products, as the pencil of its slices shows."""
    state = np.zeros((2, 2, 2))
    state[1, 0, 0] = state[0, 1, 0] = state[0, 0, 1] = 1
    first = np.zeros((1, 2, 2))
    first[0, 0], first[0, 1] = [1, 0], [0, 1]
    middle = np.zeros((2, 2, 2))
    middle[:, 0], middle[:, 1] = np.eye(2), [[0, 1], [0, 0]]
    last = np.zeros((2, 2, 1))
    last[0, 1, 0] = last[1, 0, 0] = 1
    rows = core_rows([core[None] for core in (first, middle, last)], np.zeros((1, 3), dtype=int))
    close(rows[0], state.reshape(-1))
    close(slow_dense([first, middle, last]), state)
    # two products have slices S_0 = A diag(x) B and S_1 = A diag(y) B: S_1 S_0^-1 = A diag(y / x) A^-1 would be diagonalisable;
    # this one is not, because its only eigenvalue is 0 and it is not the zero matrix
    pencil = state[1] @ np.linalg.inv(state[0])
    assert (np.linalg.eigvals(pencil) == 0).all() and np.linalg.matrix_rank(pencil) == 1


def test_core_rows_of_general_cores_are_the_trains_of_the_words():
    sizes, bonds = (2, 3, 5), (1, 2, 4, 1)
    cores = [random_array((UNITS[j], bonds[j], sizes[j], bonds[j + 1]), j) for j in range(3)]
    index = np.stack([np.random.default_rng(j).integers(0, UNITS[j], 7) for j in range(3)], axis=1)
    rows = core_rows(cores, index)
    for w in range(7):
        close(rows[w], slow_dense([core[u] for core, u in zip(cores, index[w])]).reshape(-1))
    assert core_rows(cores, index[:0]).shape == (0, 30)


@pytest.mark.parametrize("shape", SHAPES)
def test_rounding_keeps_the_array_when_nothing_is_dropped(shape):
    """D11: the same array from a train with bonds larger than it needs, and the bonds it needs with a small tolerance."""
    bonds = (11, 13, 17)[: len(shape) - 1]
    cores = random_train(shape, bonds)
    close(slow_dense(tt_round(cores)[0]), slow_dense(cores))
    unfoldings = [slow_dense(cores).reshape(int(np.prod(shape[:j])), -1) for j in range(1, len(shape))]
    needed = [int(np.linalg.matrix_rank(unfolding)) for unfolding in unfoldings]
    assert bonds_of(tt_round(cores, tolerance=1e-9)[0]) == needed


@pytest.mark.parametrize("tolerance", [0.5, 4.0, 9.0])
def test_rounding_error_never_exceeds_the_tolerance_times_the_root_of_bonds(tolerance):
    """D11: ||T - rounded|| = (sum_j dropped_j^2)^(1/2) <= tolerance * (n - 1)^(1/2)."""
    exceeded = 0
    for seed in range(20):
        cores = random_train((3, 5, 7, 2), (3, 4, 2), seed)
        rounded, dropped = tt_round(cores, tolerance=tolerance)
        error = np.linalg.norm(slow_dense(cores) - slow_dense(rounded))
        assert error <= tolerance * np.sqrt(3) and max(dropped) <= tolerance
        assert_allclose(error, np.linalg.norm(dropped), rtol=1e-10, atol=1e-11)  # a difference of arrays of norm 40
        exceeded += error > tolerance
    assert exceeded or tolerance < 9  # without the root the bound would be false


def test_rounding_is_tt_svd_of_the_array():
    cores = random_train((3, 5, 7, 2), (6, 7, 5))
    (rounded, dropped), (direct, expected) = tt_round(cores, max_rank=2), tt_svd(slow_dense(cores), max_rank=2)
    assert bonds_of(rounded) == [2, 2, 2]
    assert_allclose(dropped, expected, rtol=1e-10)  # QR in between
    close(slow_dense(rounded), slow_dense(direct))


def test_rounding_leaves_its_train_as_it_was():
    cores = random_train((3, 5, 7), (4, 6))
    before = [core.copy() for core in cores]
    tt_round(cores, max_rank=1)
    assert all((now == then).all() for now, then in zip(cores, before))


A_CORE = np.ones((1, 3, 1))
NO_TENSOR = "tensor: expected at least one axis and no empty one, got shape "
NO_CORES = "cores: expected arrays with 3 axes, got shapes "


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: tt_svd(np.array(2.0)), ShapeError, NO_TENSOR + r"\(\)"),
    (lambda: tt_svd(np.ones((2, 0, 3))), ShapeError, NO_TENSOR + r"\(2, 0, 3\)"),
    (lambda: tt_svd(np.array([1, np.inf])), DataError, "tensor: expected finite numbers, got 1 that are NaN or infinite"),
    (lambda: tt_svd(np.ones((2, 3)), max_rank=0), DataError, "max_rank: expected at least 1, got 0"),
    (lambda: tt_svd(np.ones((2, 3)), tolerance=-0.5), DataError, "tolerance: expected at least 0, got -0.5"),
    (lambda: tt_svd(np.ones((2, 3)), tolerance=np.nan), DataError, "tolerance: expected at least 0, got nan"),
    (lambda: tt_dense([]), ShapeError, NO_CORES + r"\[\]"),
    (lambda: tt_dense([A_CORE, np.ones((1, 3))]), ShapeError, NO_CORES + r"\[\(1, 3, 1\), \(1, 3\)\]"),
    (lambda: tt_dense([np.ones((1, 3, 2)), np.ones((5, 3, 1))]), ShapeError, "cores: expected neighbours that share a bond size"),
    (lambda: tt_dense([np.ones((2, 3, 1))]), ShapeError, "cores: expected neighbours that share a bond size and ends of 1"),
    (lambda: tt_round([np.ones((1, 3, 2))]), ShapeError, "cores: expected neighbours that share a bond size and ends of 1"),
    (lambda: tt_round([A_CORE, A_CORE], tolerance=-1), DataError, "tolerance: expected at least 0, got -1"),
    (lambda: tt_round([A_CORE, A_CORE], max_rank=0), DataError, "max_rank: expected at least 1, got 0"),
    (lambda: core_rows([A_CORE[None]] * 3, np.zeros((7, 2), dtype=int)), ShapeError,
     r"index: expected shape \(\*, 3\), got \(7, 2\)"),
    (lambda: core_rows([A_CORE[None]], np.zeros(7, dtype=int)), ShapeError, r"index: expected shape \(\*, 1\), got \(7,\)"),
])
def test_a_wrong_argument_is_named_with_what_was_expected(call, error, text):
    with pytest.raises(error, match=text):
        call()
