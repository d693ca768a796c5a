"""Products, their sums and inner products against loops over numpy.kron; Schmidt spectrum and entropy against reduced states."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from see_min.checks import DataError, ShapeError
from see_min.entangle import entangled_rows, entanglement_entropy, halves, inner_products, kron_rows, schmidt_spectrum

SIZES = {1: (3,), 2: (2, 3), 3: (2, 5, 3), 4: (3, 2, 5, 2)}
W, R = 7, 5


def leaves_of(sizes, words=W, terms=R, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((words, terms, q)) for q in sizes]


def slow_product(vectors):
    out = np.ones(1)
    for vector in vectors:
        out = np.kron(out, vector)
    return out


def slow_row(leaves, w, amplitudes=None):
    total = 0
    for k in range(leaves[0].shape[1]):
        total = total + (1 if amplitudes is None else amplitudes[w, k]) * slow_product([leaf[w, k] for leaf in leaves])
    return total


def close(actual, expected):
    """Entries are sums of numbers of size 1: where they cancel, 1e-12 is meant of the terms, not of what is left."""
    assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", SIZES)
def test_halves_are_products_of_the_first_and_last_slots_and_their_rows_are_those_of_all(order):
    leaves, amplitudes = leaves_of(SIZES[order]), np.random.default_rng(3).standard_normal((W, R))
    parts = halves(leaves, amplitudes)
    assert [part.shape for part in parts] == [(W, R, np.prod(own)) for own in
                                              (SIZES[order][: order // 2], SIZES[order][order // 2 :]) if own]
    close(entangled_rows(parts), [slow_row(leaves, w, amplitudes) for w in range(W)])


@pytest.mark.parametrize("order", SIZES)
def test_inner_product_of_products_is_the_product_of_inner_products(order):
    """D1: <a_1 x ... x a_n, b_1 x ... x b_n> = prod_j <a_j, b_j>."""
    a, b = leaves_of(SIZES[order], terms=1), leaves_of(SIZES[order], terms=1, seed=1)
    for w in range(W):
        expected = np.dot(slow_product([leaf[w, 0] for leaf in a]), slow_product([leaf[w, 0] for leaf in b]))
        product = 1.0
        for left, right in zip(a, b):
            product *= np.dot(left[w, 0], right[w, 0])
        assert_allclose(product, expected, rtol=1e-12, atol=1e-12)
        close(inner_products(a, b)[w], expected)


@pytest.mark.parametrize("order", SIZES)
def test_inner_product_of_sums_is_the_sum_over_pairs_of_terms(order):
    """D2: <E, F> = sum_kl prod_j <v_jk, u_jl>, with different numbers of terms on the two sides."""
    a, b = leaves_of(SIZES[order]), leaves_of(SIZES[order], terms=2, seed=1)
    expected = [np.dot(slow_row(a, w), slow_row(b, w)) for w in range(W)]
    close(inner_products(a, b), expected)
    only_equal_terms = [sum(np.prod([np.dot(x[w, k], y[w, k]) for x, y in zip(a, b)]) for k in range(2)) for w in range(W)]
    assert not np.allclose(only_equal_terms, expected)  # the pairs k != l are not idle


def test_product_of_leaves_is_the_kronecker_product_in_c_order():
    """D3: entry (i1, i2, i3) stands at (i1 q2 + i2) q3 + i3, as numpy.kron has it."""
    leaves = leaves_of(SIZES[3])
    _, q2, q3 = SIZES[3]
    rows = kron_rows(leaves)
    assert rows.shape == (W, R, 2 * 5 * 3)
    for w, k in np.ndindex(W, R):
        a, b, c = (leaf[w, k] for leaf in leaves)
        close(rows[w, k], slow_product([a, b, c]))
        for i1, i2, i3 in np.ndindex(SIZES[3]):
            assert_allclose(rows[w, k, (i1 * q2 + i2) * q3 + i3], a[i1] * b[i2] * c[i3], rtol=1e-12)
    assert not np.allclose(rows[0, 0], slow_product([leaf[0, 0] for leaf in leaves[::-1]]))  # the order matters


@pytest.mark.parametrize("with_amplitudes", [False, True])
@pytest.mark.parametrize("order", SIZES)
def test_halves_product_is_the_sum_of_kronecker_products(order, with_amplitudes):
    """D4: the row is L^T R of the two halves = sum_k alpha_k v_1k x ... x v_nk."""
    leaves = leaves_of(SIZES[order])
    amplitudes = np.random.default_rng(2).standard_normal((W, R)) if with_amplitudes else None
    rows = entangled_rows(leaves, amplitudes)
    assert rows.shape == (W, np.prod(SIZES[order]))
    for w in range(W):
        close(rows[w], slow_row(leaves, w, amplitudes))
    fewer = [leaf[:, :-1] for leaf in leaves]
    assert not np.allclose(entangled_rows(fewer, None if amplitudes is None else amplitudes[:, :-1]), rows)


def test_entangled_rows_leaves_its_arguments_as_they_were():
    leaves, amplitudes = leaves_of(SIZES[3]), np.full((W, R), 2.0)
    before = [leaf.copy() for leaf in leaves]
    entangled_rows(leaves, amplitudes)
    assert all((now == then).all() for now, then in zip(leaves, before)) and (amplitudes == 2).all()


@pytest.mark.parametrize("order", SIZES)
def test_no_words_have_no_rows(order):
    leaves = leaves_of(SIZES[order], words=0)
    assert entangled_rows(leaves).shape == (0, np.prod(SIZES[order]))
    assert kron_rows(leaves).shape == (0, R, np.prod(SIZES[order]))
    assert inner_products(leaves, leaves).shape == (0,)


def slow_spectrum(row, sizes, cut):
    """Eigenvalues of the reduced state rho[a, a'] = sum_b psi[a, b] psi[a', b], entry by entry, of the smaller side."""
    left, right = int(np.prod(sizes[:cut])), int(np.prod(sizes[cut:]))
    psi = [[row[a * right + b] for b in range(right)] for a in range(left)]
    psi = psi if left <= right else [list(column) for column in zip(*psi)]
    rho = np.array([[sum(x * y for x, y in zip(one, other)) for other in psi] for one in psi])
    return np.linalg.eigvalsh(rho / np.trace(rho))[::-1]


@pytest.mark.parametrize("terms", [1, 2, 5])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_schmidt_rank_is_at_most_the_number_of_terms(order, terms):
    """D5: rank <= r across every cut, and no less than what random leaves allow."""
    sizes = SIZES[order]
    leaves = leaves_of(sizes, terms=terms)
    for w in range(W):
        for cut in range(1, order):
            row = slow_row(leaves, w)
            spectrum = schmidt_spectrum(row, sizes, cut)
            close(spectrum, slow_spectrum(row, sizes, cut))
            close(spectrum.sum(), 1)
            assert (np.diff(spectrum) <= 0).all()
            generic = min(terms, np.prod(sizes[:cut]), np.prod(sizes[cut:]))
            assert np.count_nonzero(spectrum > 1e-20) == generic  # rounding leaves squares near 1e-32


def test_a_vector_that_is_no_sum_of_few_products_exceeds_their_schmidt_rank():
    row = np.random.default_rng(3).standard_normal(30)
    assert np.count_nonzero(schmidt_spectrum(row, (5, 6), 1) > 1e-20) == 5


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_entropy_lies_between_zero_and_the_logarithm_of_the_rank(terms):
    """D6: 0 <= H <= ln r; r orthonormal pairs of equal size reach ln r."""
    leaves = leaves_of((5, 7, 3), terms=terms)
    for w in range(W):
        for cut in (1, 2):
            p = slow_spectrum(slow_row(leaves, w), (5, 7, 3), cut)
            entropy = entanglement_entropy(schmidt_spectrum(slow_row(leaves, w), (5, 7, 3), cut))
            close(entropy, -sum(x * np.log(x) for x in p if x > 1e-20))
            assert 0 <= entropy <= np.log(terms) + 1e-12
    bell = sum(np.kron(np.eye(3)[k], np.eye(5)[k]) for k in range(terms))
    close(entanglement_entropy(schmidt_spectrum(bell, (3, 5), 1)), np.log(terms))


def test_entropy_is_zero_for_product_states_alone():
    """D6: H = 0 across a cut exactly if the row is a product across it."""
    rng = np.random.default_rng(4)
    a, b, c = rng.standard_normal(2), rng.standard_normal(3), rng.standard_normal(5)
    sizes, product = (2, 3, 5), slow_product([a, b, c])
    half = np.kron(a, rng.standard_normal(15))  # a product across the first cut, not across the second
    entropy = lambda row, cut: entanglement_entropy(schmidt_spectrum(row, sizes, cut))
    assert entropy(product, 1) < 1e-12 and entropy(product, 2) < 1e-12
    assert entropy(half, 1) < 1e-12 and entropy(half, 2) > 0.1
    assert entropy(product + 0.01 * rng.standard_normal(30), 1) > 1e-6


def test_entropy_is_invariant_under_scaling_and_local_orthogonal_maps():
    """D6: the same for c E and after an orthogonal map of every slot; not after other maps."""
    rng, sizes = np.random.default_rng(5), (2, 3, 5)
    row = slow_row(leaves_of(sizes, terms=2), 0)
    maps = [np.linalg.qr(rng.standard_normal((q, q)))[0] for q in sizes]
    local = np.kron(np.kron(maps[0], maps[1]), maps[2])
    whole = np.linalg.qr(rng.standard_normal((30, 30)))[0]
    stretched = np.kron(np.kron(np.diag([1.0, 9.0]), np.eye(3)), np.eye(5))
    for cut in (1, 2):
        entropy = lambda other: entanglement_entropy(schmidt_spectrum(other, sizes, cut))  # noqa: B023
        for same in (-3 * row, 1e-200 * row, 1e200 * row, local @ row):
            close(entropy(same), entropy(row))
        assert abs(entropy(whole @ row) - entropy(row)) > 1e-2
    assert abs(entanglement_entropy(schmidt_spectrum(stretched @ row, sizes, 1))
               - entanglement_entropy(schmidt_spectrum(row, sizes, 1))) > 1e-2


def test_a_row_of_zeros_has_an_empty_spectrum_and_no_entropy():
    spectrum = schmidt_spectrum(np.zeros(6), (2, 3), 1)
    assert (spectrum == 0).all() and entanglement_entropy(spectrum) == 0


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: inner_products(leaves_of((2, 3)), leaves_of((2, 3, 5))), ShapeError, "right: expected 2 slots as in left, got 3"),
    (lambda: schmidt_spectrum(np.ones(5), (2, 3), 1), ShapeError, r"row: expected shape \(6,\), got \(5,\)"),
    (lambda: schmidt_spectrum(np.ones((2, 3)), (2, 3), 1), ShapeError, r"row: expected shape \(6,\), got \(2, 3\)"),
    (lambda: schmidt_spectrum(np.ones(6), (2, 3), 0), ShapeError, "cut: expected 1 to 1, got 0"),
    (lambda: schmidt_spectrum(np.ones(30), (2, 3, 5), 3), ShapeError, "cut: expected 1 to 2, got 3"),
    (lambda: schmidt_spectrum(np.array([1, np.nan, 1, np.inf, 0, 0]), (2, 3), 1), DataError,
     "row: expected finite numbers, got 2 that are NaN or infinite"),
])
def test_a_wrong_argument_is_named_with_what_was_expected(call, error, text):
    with pytest.raises(error, match=text):
        call()
