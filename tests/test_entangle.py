"""Products, sums and inner products against loops over numpy.kron; Schmidt spectrum, entropy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from slow import close, normal, product

from see_min import entangled_rows, entanglement_entropy, kron_rows, schmidt_spectrum
from see_min.entangle import bipartition, inner_products
from see_min.errors import InputError

SIZES = {1: (3,), 2: (2, 3), 3: (2, 5, 3), 4: (3, 2, 5, 2)}
W, R = 7, 5
orders = pytest.mark.parametrize("order", SIZES)


def leaves_of(sizes, words=W, terms=R, seed=0):
    return [normal(words, terms, q, seed=10 * seed + j) for j, q in enumerate(sizes)]


def row_of(leaves, w):
    return sum(product([leaf[w, k] for leaf in leaves]) for k in range(leaves[0].shape[1]))


@orders
def test_inner_product_of_products_is_the_product_of_inner_products(order):
    """D1: <a_1 x ... x a_n, b_1 x ... x b_n> = prod_j <a_j, b_j>."""
    a, b = leaves_of(SIZES[order], terms=1), leaves_of(SIZES[order], terms=1, seed=1)
    for w in range(W):
        expected = row_of(a, w) @ row_of(b, w)
        close(np.prod([left[w, 0] @ right[w, 0] for left, right in zip(a, b)]), expected)
        close(inner_products(a, b)[w], expected)


@orders
def test_inner_product_of_sums_is_the_sum_over_pairs_of_terms(order):
    """D2: <E, F> = sum_kl prod_j <v_jk, u_jl>, with different numbers of terms on the two sides."""
    a, b = leaves_of(SIZES[order]), leaves_of(SIZES[order], terms=2, seed=1)
    expected = [row_of(a, w) @ row_of(b, w) for w in range(W)]
    close(inner_products(a, b), expected)
    equal_terms = [leaf[:, :2] for leaf in a]
    diagonal = [sum(np.prod([x[w, k] @ y[w, k] for x, y in zip(equal_terms, b)]) for k in (0, 1))
                for w in range(W)]
    assert not np.allclose(diagonal, expected)  # the pairs k != l are not idle


def test_product_of_leaves_is_the_kronecker_product_in_c_order():
    """D3: entry (i1, i2, i3) stands at (i1 q2 + i2) q3 + i3, as numpy.kron has it."""
    leaves, (_, q2, q3) = leaves_of(SIZES[3]), SIZES[3]
    rows = kron_rows(leaves)
    assert rows.shape == (W, R, 2 * 5 * 3)
    for w, k in np.ndindex(W, R):
        a, b, c = (leaf[w, k] for leaf in leaves)
        close(rows[w, k], product([a, b, c]))
        for i1, i2, i3 in np.ndindex(SIZES[3]):
            place = (i1 * q2 + i2) * q3 + i3
            assert_allclose(rows[w, k, place], a[i1] * b[i2] * c[i3], rtol=1e-12)
    reverse = product([leaf[0, 0] for leaf in leaves[::-1]])
    assert not np.allclose(rows[0, 0], reverse)  # the order matters


@orders
def test_bipartition_product_is_the_sum_of_kronecker_products(order):
    """D4: the halves are products of the first and last slots, and the row is L^T R of them."""
    leaves, half = leaves_of(SIZES[order]), order // 2
    parts, rows = bipartition(leaves), entangled_rows(leaves)
    sides = [side for side in (leaves[:half], leaves[half:]) if side]
    for part, side in zip(parts, sides, strict=True):
        close(part, [[product([leaf[w, k] for leaf in side]) for k in range(R)] for w in range(W)])
    for w in range(W):
        close(rows[w], row_of(leaves, w))
        if order > 1:
            close(rows[w], (parts[0][w].T @ parts[1][w]).reshape(-1))
    assert not np.allclose(entangled_rows([leaf[:, :-1] for leaf in leaves]), rows)


@orders
def test_no_words_have_no_rows(order):
    leaves = leaves_of(SIZES[order], words=0)
    assert entangled_rows(leaves).shape == (0, np.prod(SIZES[order]))
    assert kron_rows(leaves).shape == (0, R, np.prod(SIZES[order]))
    assert inner_products(leaves, leaves).shape == (0,)


def slow_spectrum(row, sizes, cut):
    """Eigenvalues of the reduced state, sum_b psi[a, b] psi[a', b], of the smaller side."""
    left, right = int(np.prod(sizes[:cut])), int(np.prod(sizes[cut:]))
    psi = [[row[a * right + b] for b in range(right)] for a in range(left)]
    psi = psi if left <= right else list(zip(*psi))
    rho = np.array([[sum(x * y for x, y in zip(one, other)) for other in psi] for one in psi])
    return np.linalg.eigvalsh(rho / np.trace(rho))[::-1]


@pytest.mark.parametrize("terms", [1, 2, 5])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_schmidt_rank_is_at_most_the_number_of_terms(order, terms):
    """D5: rank <= r across every cut, and no less than what random leaves allow."""
    sizes = SIZES[order]
    for w, cut in np.ndindex(W, order - 1):
        cut, row = cut + 1, row_of(leaves_of(sizes, terms=terms), w)
        spectrum = schmidt_spectrum(row, sizes, cut)
        close(spectrum, slow_spectrum(row, sizes, cut))
        close(spectrum.sum(), 1)
        generic = min(terms, np.prod(sizes[:cut]), np.prod(sizes[cut:]))
        assert np.count_nonzero(spectrum > 1e-20) == generic  # rounding leaves squares near 1e-32
    other = schmidt_spectrum(normal(30), (5, 6), 1)  # no sum of few products
    assert np.count_nonzero(other > 1e-20) == 5


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_entropy_lies_between_zero_and_the_logarithm_of_the_rank(terms):
    """D6: 0 <= H <= ln r; r orthonormal pairs of equal size reach ln r."""
    sizes = (5, 7, 3)
    for w, cut in np.ndindex(W, 2):
        row = row_of(leaves_of(sizes, terms=terms), w)
        p = slow_spectrum(row, sizes, cut + 1)
        entropy = entanglement_entropy(schmidt_spectrum(row, sizes, cut + 1))
        close(entropy, -sum(x * np.log(x) for x in p if x > 1e-20))
        assert 0 <= entropy <= np.log(terms) + 1e-12
    bell = sum(np.kron(np.eye(3)[k], np.eye(5)[k]) for k in range(terms))
    close(entanglement_entropy(schmidt_spectrum(bell, (3, 5), 1)), np.log(terms))


def entropy_of(row, sizes, cut):
    return entanglement_entropy(schmidt_spectrum(row, sizes, cut))


def test_entropy_is_zero_for_product_states_alone():
    """D6: H = 0 across a cut exactly if the row is a product across it."""
    sizes, leaves = (2, 3, 5), [normal(q, seed=q) for q in (2, 3, 5)]
    state = product(leaves)
    half = np.kron(leaves[0], normal(15))  # a product across the first cut, not across the second
    assert entropy_of(state, sizes, 1) < 1e-12 and entropy_of(state, sizes, 2) < 1e-12
    assert entropy_of(half, sizes, 1) < 1e-12 and entropy_of(half, sizes, 2) > 0.1
    assert entropy_of(state + 0.01 * normal(30), sizes, 1) > 1e-6
    assert entropy_of(np.zeros(30), sizes, 1) == 0  # no state


def test_entropy_is_invariant_under_scaling_and_local_orthogonal_maps():
    """D6: the same for c E and after an orthogonal map of every slot; not after other maps."""
    sizes = (2, 3, 5)
    row = row_of(leaves_of(sizes, terms=2), 0)
    maps = [np.linalg.qr(normal(q, q, seed=q))[0] for q in (*sizes, 30)]
    local, whole = np.kron(np.kron(*maps[:2]), maps[2]), maps[3]
    for cut in (1, 2):
        H = entropy_of(row, sizes, cut)
        for same in (-3 * row, 1e-200 * row, 1e200 * row, local @ row):
            close(entropy_of(same, sizes, cut), H)
        assert abs(entropy_of(whole @ row, sizes, cut) - H) > 1e-2
    stretched = np.kron(np.diag([1.0, 9.0]), np.eye(15)) @ row
    assert abs(entropy_of(stretched, sizes, 1) - entropy_of(row, sizes, 1)) > 1e-2


@pytest.mark.parametrize(("call", "text"), [
    (lambda: inner_products(leaves_of((2, 3)), leaves_of((2, 3, 5))),
     "right: expected 2 slots as in left, got 3"),
    (lambda: schmidt_spectrum(np.ones(5), (2, 3), 1), r"row: expected shape \(6,\), got \(5,\)"),
    (lambda: schmidt_spectrum(np.ones(6), (2, 3), 0), "cut: expected 1 to 1, got 0"),
])
def test_a_wrong_argument_is_named_with_what_was_expected(call, text):
    with pytest.raises(InputError, match=text):
        call()
