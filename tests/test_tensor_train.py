"""Trains against products of matrices entry by entry; truncation against singular values."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from slow import close, normal, product, slow_train

from see_min.entangle import entangled_rows
from see_min.errors import InputError
from see_min.tensor_train import core_rows, cp_as_tt, tt_round, tt_svd, tt_to_tensor, unit_cores

SHAPES = [(7,), (3, 5), (3, 5, 2), (3, 5, 7, 2), (2, 1, 3)]
every_shape = pytest.mark.parametrize("shape", SHAPES)


def random_train(shape, bonds, seed=0):
    bonds = (1, *bonds, 1)
    return [normal(bonds[j], size, bonds[j + 1], seed=seed + j) for j, size in enumerate(shape)]


def unfolding(array, j):
    return array.reshape(int(np.prod(array.shape[:j])), -1)


def tails(array, bonds):
    """eps_j: per bond the norm of all but the R_j largest singular values of the reshaped array."""
    spectra = [np.linalg.svd(unfolding(array, j + 1), compute_uv=False) for j in range(len(bonds))]
    return np.array([np.sqrt((s[bond:] ** 2).sum()) for s, bond in zip(spectra, bonds)])


def bonds_of(cores):
    return [core.shape[2] for core in cores[:-1]]


@every_shape
def test_tt_svd_without_truncation_gives_the_array_back(shape):
    """D7: the train of tt_svd, multiplied entry by entry, is the array."""
    array = normal(*shape)
    cores, dropped = tt_svd(array)
    assert [core.shape[1] for core in cores] == list(shape)
    assert dropped == [0.0] * (len(shape) - 1)
    close(slow_train(cores), array)
    for core in cores[:-1]:
        matrix = core.reshape(-1, core.shape[2])
        close(matrix.T @ matrix, np.eye(core.shape[2]))


@pytest.mark.parametrize("max_rank", [1, 2, 3])
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 7), (3, 5, 7, 2)])
def test_tt_svd_error_is_bounded_by_discarded_singular_values(shape, max_rank):
    """D8: max_j eps_j^2 <= ||T - TT||^2 = sum_j delta_j^2 <= sum_j eps_j^2."""
    array = normal(*shape)
    cores, delta = tt_svd(array, max_rank)
    error = ((array - slow_train(cores)) ** 2).sum()
    eps = tails(array, bonds_of(cores))
    assert (eps**2).max() <= error * (1 + 1e-12) <= (eps**2).sum() * (1 + 1e-11) + 1e-24
    assert_allclose(error, (np.array(delta) ** 2).sum(), rtol=1e-12, atol=1e-24)
    assert (np.array(delta) <= eps + 1e-12).all()
    if len(shape) > 2 and max_rank == 1:  # neither bound is the error itself
        assert 1.01 * (eps**2).max() < error < 0.99 * (eps**2).sum()


@pytest.mark.parametrize("tolerance", [0.1, 1.0, 3.0])
def test_tt_svd_drops_at_each_bond_as_much_as_the_tolerance_allows(tolerance):
    array = normal(3, 5, 7)
    cores, dropped = tt_svd(array, tolerance=tolerance)
    assert max(dropped) <= tolerance
    s = np.linalg.svd(unfolding(array, 1), compute_uv=False)
    fits = [k for k in range(1, 4) if np.sqrt((s[k:] ** 2).sum()) <= tolerance]
    assert bonds_of(cores)[0] == min(fits)
    assert bonds_of(tt_svd(0 * array, tolerance=tolerance)[0]) == [1, 1]  # never fewer


@every_shape
def test_tt_to_tensor_is_the_product_of_matrices_at_every_entry(shape):
    cores = random_train(shape, (2, 3, 5)[: len(shape) - 1])
    close(tt_to_tensor(cores), slow_train(cores))


@pytest.mark.parametrize("max_rank", [2, 4])
def test_tensorly_has_the_same_trains(max_rank):
    tensorly = pytest.importorskip("tensorly")
    array = normal(3, 5, 7, 2)
    other = tensorly.decomposition.tensor_train(array, rank=[1, *[max_rank] * 3, 1])
    cores, _ = tt_svd(array, max_rank)
    assert bonds_of(cores) == list(other.rank[1:-1])
    close(tt_to_tensor(cores), tensorly.tt_to_tensor(other), rtol=1e-10)  # signs differ
    close(tt_to_tensor(cores), tensorly.tt_to_tensor(cores))


@every_shape
def test_sum_of_products_is_a_train_with_diagonal_cores(shape):
    """D9: the train is sum_k v_1k x ... x v_nk, and its cores vanish off the diagonal."""
    leaves = [normal(5, q, seed=q) for q in shape]
    cores = cp_as_tt(leaves)
    expected = sum(product([leaf[k] for leaf in leaves]) for k in range(5))
    close(slow_train(cores).reshape(-1), expected)
    for core in cores[1:-1]:
        assert core.shape[0] == core.shape[2] == 5
        assert not (core * (1 - np.eye(5))[:, None]).any()
    fewer = cp_as_tt([leaf[:4] for leaf in leaves])
    assert not np.allclose(slow_train(fewer).reshape(-1), expected)


UNITS = (11, 13, 17, 4)


@every_shape
def test_unit_owned_cores_contain_the_encoding_as_their_diagonal_case(shape):
    """D10: core_rows of diagonal cores = the sum of products of the words' leaves."""
    tables = [normal(U, 5, q, seed=U) for U, q in zip(UNITS, shape)]
    rng = np.random.default_rng(1)
    index = np.stack([rng.integers(0, len(table), 7) for table in tables], axis=1)
    rows = core_rows(unit_cores(tables), index)
    for w in range(7):
        leaves = [table[u] for table, u in zip(tables, index[w])]
        close(rows[w], sum(product([leaf[k] for leaf in leaves]) for k in range(5)))
    close(entangled_rows([table[u] for table, u in zip(tables, index.T)]), rows)
    assert not np.allclose(core_rows(unit_cores(tables), (index + 1) % 4), rows)


def test_general_cores_reach_a_state_that_is_no_sum_of_two_products():
    """D10: the W state is a train with bonds 2, but no sum of two products: see its slices."""
    state = np.zeros((2, 2, 2))
    state[1, 0, 0] = state[0, 1, 0] = state[0, 0, 1] = 1
    first, middle, last = np.eye(2)[None], np.zeros((2, 2, 2)), np.zeros((2, 2, 1))
    middle[:, 0], middle[:, 1] = np.eye(2), [[0, 1], [0, 0]]
    last[0, 1, 0] = last[1, 0, 0] = 1
    index = np.zeros((1, 3), dtype=int)
    close(core_rows([core[None] for core in (first, middle, last)], index)[0], state.reshape(-1))
    close(slow_train([first, middle, last]), state)
    # two products have slices S_0 = A diag(x) B and S_1 = A diag(y) B, so that S_1 S_0^-1
    # = A diag(y / x) A^-1 is diagonalisable; here it is not: not zero, but no eigenvalue except 0
    pencil = state[1] @ np.linalg.inv(state[0])
    assert (np.linalg.eigvals(pencil) == 0).all() and np.linalg.matrix_rank(pencil) == 1


@every_shape
def test_rounding_keeps_the_array_when_nothing_is_dropped(shape):
    """D11: the same array from a train with larger bonds than it needs; then the bonds it needs."""
    cores = random_train(shape, (11, 13, 17)[: len(shape) - 1])
    before, array = [core.copy() for core in cores], slow_train(cores)
    close(slow_train(tt_round(cores)[0]), array)
    needed = [int(np.linalg.matrix_rank(unfolding(array, j))) for j in range(1, len(shape))]
    assert bonds_of(tt_round(cores, tolerance=1e-9)[0]) == needed
    assert all((now == then).all() for now, then in zip(cores, before))


@pytest.mark.parametrize("tolerance", [0.5, 4.0, 9.0])
def test_rounding_error_never_exceeds_the_tolerance_times_the_root_of_bonds(tolerance):
    """D11: ||T - rounded|| = (sum_j delta_j^2)^(1/2) <= tolerance * (n - 1)^(1/2)."""
    exceeded = 0
    for seed in range(20):
        cores = random_train((3, 5, 7, 2), (3, 4, 2), seed)
        rounded, dropped = tt_round(cores, tolerance=tolerance)
        error = np.linalg.norm(slow_train(cores) - slow_train(rounded))
        assert error <= tolerance * np.sqrt(3) and max(dropped) <= tolerance
        assert_allclose(error, np.linalg.norm(dropped), rtol=1e-10, atol=1e-11)  # arrays of norm 40
        exceeded += error > tolerance
    assert exceeded or tolerance < 9  # without the root the bound would be false


CORE = np.ones((1, 3, 1))


@pytest.mark.parametrize(("call", "text"), [
    (lambda: tt_svd(np.ones((2, 0))), r"axes, none of them empty, got shape \(2, 0\)"),
    (lambda: tt_svd(np.ones((2, 3)), max_rank=0), "max_rank: expected at least 1, got 0"),
    (lambda: tt_to_tensor([CORE[0]]), r"arrays with 3 axes, got shapes \[\(3, 1\)\]"),
    (lambda: tt_to_tensor([np.ones((1, 3, 2)), np.ones((5, 3, 1))]), "expected equal bond sizes"),
    (lambda: tt_round([CORE, CORE], tolerance=-1), "tolerance: expected at least 0, got -1"),
    (lambda: core_rows([CORE[None]] * 3, np.ones((7, 2), int)), r"index: expected shape \(\*, 3\)"),
])
def test_a_wrong_argument_is_named_with_what_was_expected(call, text):
    with pytest.raises(InputError, match=text):
        call()
