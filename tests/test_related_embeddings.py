"""Embedding methods of the family against slow sums, dense matrices and their own formulas."""

import itertools
from math import prod

import numpy as np
import pytest
from numpy.testing import assert_allclose
from slow import normal, product, slow_train, squares

from see_min.errors import InputError
from see_min.related import (
    autoencoder,
    direction,
    direction_ae,
    offline,
    svd,
    tt_embedding,
    word2ket,
    word2ketxs,
)
from see_min.related.primitives import rearrange
from see_min.storage.budget import Plan

V, D = 23, 35


def skewed(rows=V, columns=D, seed=0):
    """A matrix with columns of unequal sizes and rows of unequal lengths."""
    sizes = np.exp(normal(rows, 1, seed=seed)) * 0.8 ** np.arange(columns)
    return sizes * normal(rows, columns, seed=seed + 1)


def everything(kept):
    return kept.rows(np.arange(kept.shape[0]))


def cosine(x, y):
    return x @ y / np.sqrt(squares(x) * squares(y))


# ------------------------------------------------------------------ word2ket


def test_word2ket_of_order_two_is_the_truncated_svd_of_every_row():
    """D49: the error of a row is the tail of its singular values as a 7 x 5 matrix."""
    matrix = skewed()
    kept = word2ket.fit(matrix, 35 / 24, order=2)  # two terms of 7 + 5
    assert kept.sizes == (7, 5) and kept.rank == 2
    assert kept.parameters == V * 24 and kept.index_bytes == 0
    tails = [squares(np.linalg.svd(x.reshape(7, 5), compute_uv=False)[2:]) for x in matrix]
    found = [squares(x - kept.rows(w)) for w, x in enumerate(matrix)]
    assert_allclose(found, tails, rtol=1e-10)


@pytest.mark.parametrize("order", [2, 3])
def test_words_of_word2ket_have_nothing_in_common(order):
    """D49: a row is the same whether the other words are there or not."""
    matrix = skewed(columns=30)
    whole = word2ket.fit(matrix, 2, order=order)
    other = word2ket.fit(np.concatenate([matrix[:5], matrix[5:][::-1]]), 2, order=order)
    assert_allclose(whole.rows(range(5)), other.rows(range(5)), rtol=1e-7, atol=1e-9)
    assert not np.allclose(whole.rows(range(5, V)), other.rows(range(5, V)))  # the control


def test_word2ket_of_order_three_finds_words_that_are_products():
    leaves = [normal(V, q, seed=q) for q in (5, 3, 2)]
    matrix = np.array([product(word) for word in zip(*leaves)])
    kept = word2ket.fit(matrix, 3, order=3)
    assert kept.parameters == V * 10
    assert squares(matrix - everything(kept)) < 1e-12 * squares(matrix)


@pytest.mark.parametrize("ratio", [1, 5, 17])
def test_plan_of_word2ket_uses_most_of_the_budget_of_all_orders(ratio):
    best = word2ket.plan(1000, 384, ratio)
    assert best.parameters <= 384_000 / ratio and prod(best.sizes) == 384
    for order in range(2, 9):
        try:
            assert word2ket.plan(1000, 384, ratio, order).parameters <= best.parameters
        except InputError:
            continue


# ------------------------------------------------------------------ word2ketXS


@pytest.mark.parametrize("words", [25, 23])
def test_word2ketxs_of_order_two_has_the_tail_of_the_rearrangement_as_its_error(words):
    """D50: exactly, with zeros below the last word; the words alone have at most that."""
    matrix = skewed(words)
    kept = word2ketxs.fit(matrix, words * 35 / (3 * 5 * 12))
    rank = kept.tables[0].shape[1]
    assert rank == 3 and kept.parameters == 3 * (5 * 7 + 5 * 5) and kept.index_bytes == 0
    padded = np.concatenate([matrix, np.zeros((25 - words, 35))])
    cells = itertools.product(range(5), range(7))
    blocks = [padded[5 * i : 5 * i + 5, 5 * j : 5 * j + 5].ravel() for i, j in cells]
    tail = squares(np.linalg.svd(np.array(blocks), compute_uv=False)[rank:])
    a, b = (table.swapaxes(0, 1) for table in kept.tables)
    dense = sum(np.kron(x, y) for x, y in zip(a, b))  # (25, 35)
    assert_allclose(squares(padded - dense), tail, rtol=1e-10)
    assert_allclose(everything(kept), dense[:words], rtol=1e-12, atol=1e-12)
    error = squares(matrix - everything(kept))
    assert error <= tail * (1 + 1e-12) and (words == 25 or error < 0.9999 * tail)


def test_word2ketxs_of_order_three_finds_a_kronecker_product_and_places_its_digits():
    dense = product([normal(3, q, seed=q) for q in (5, 3, 2)])  # (27, 30)
    kept = word2ketxs.fit(dense, 27, order=3)
    assert kept.parameters == 30 and kept.shape == (27, 30)
    assert_allclose(everything(kept), dense, rtol=1e-6, atol=1e-9)
    with pytest.raises(InputError, match="^order: expected at least 2, got 1$"):
        word2ketxs.fit(dense, 2, order=1)


# ------------------------------------------------------------------ tensor trains


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_error_of_a_train_lies_between_the_largest_and_the_sum_of_the_tails(ratio):
    """D52: rows entry by entry; tails of the padded matrix, rearranged by pairs of digits."""
    matrix = skewed(columns=30)
    kept, rows, columns = tt_embedding.fit(matrix, ratio), (3, 3, 3), (5, 3, 2)
    assert [core.shape[1:3] for core in kept.cores] == list(zip(rows, columns))
    pairs = slow_train([core.reshape(len(core), -1, core.shape[3]) for core in kept.cores])
    dense = pairs.reshape(3, 5, 3, 3, 3, 2).transpose(0, 2, 4, 1, 3, 5).reshape(27, 30)
    assert_allclose(everything(kept), dense[:V], rtol=1e-10, atol=1e-12)
    padded = np.concatenate([matrix, np.zeros((27 - V, 30))])
    tensor = rearrange(padded, rows, columns)  # (15, 9, 6)
    tails = []
    for cut, core in zip((15, 15 * 9), kept.cores):
        s = np.linalg.svd(tensor.reshape(cut, -1), compute_uv=False)
        tails.append(squares(s[core.shape[3] :]))
    error = squares(padded - dense)
    assert max(tails) * (1 - 1e-12) <= error <= sum(tails) * (1 + 1e-12)
    assert squares(matrix - everything(kept)) <= error
    assert max(tails) < 0.99 * error < 0.99 * sum(tails) or ratio == 2


@pytest.mark.parametrize("order, rank", [(2, 40), (3, 6), (4, 1)])
def test_a_train_is_counted_and_the_next_bond_is_beyond_the_budget(order, rank):
    """D52: the count, against the cores that are built."""
    ratio = 1 + rank / 3
    rows, columns, bond = tt_embedding.plan(211, 48, ratio, order)
    kept = tt_embedding.fit(skewed(211, 48), ratio, order)
    sizes = [i * j for i, j in zip(rows, columns)]
    assert prod(columns) == 48 and prod(rows) >= 211
    assert kept.parameters == tt_embedding.train_parameters(sizes, bond) <= 211 * 48 / ratio
    assert tt_embedding.train_parameters(sizes, bond + 1) > 211 * 48 / ratio


def test_a_train_of_two_cores_is_word2ketxs():
    """D58: the same rows where both have the same modes and the same number of terms."""
    matrix, ratio = skewed(25), 25 * 35 / (3 * 5 * 12)
    train, xs = tt_embedding.fit(matrix, ratio, order=2), word2ketxs.fit(matrix, ratio)
    assert train.parameters == xs.parameters
    assert_allclose(everything(train), everything(xs), rtol=1e-9, atol=1e-11)


# ------------------------------------------------------------------ counts that papers print


def test_counts_of_morphte_follow_from_its_segmentation():
    """D57: compression 26.9 (de), 22.1 (en) and 24.6 (both) at order 3, rank 7, D = 512."""
    dense = parameters = 0
    for words, morphemes, ratio in ((8842, 3004, 26.9), (6628, 2737, 22.1)):
        plan = Plan(words, 512, (8, 8, 8), 7, morphemes, form="morphemes")
        count = plan.parameters // 3  # one table for all slots
        assert count == 7 * morphemes * 8 and round(words * 512 / count, 1) == ratio
        dense, parameters = dense + words * 512, parameters + count
    assert round(dense / parameters, 1) == 24.6


KET, XS = "word2ket", "word2ketXS"


@pytest.mark.parametrize("form, words, dimension, order, rank, parameters", [
    (KET, 30_428, 256, 1, 1, 7_789_568), (KET, 30_428, 256, 4, 1, 486_848),
    (XS, 30_428, 400, 2, 10, 70_000), (XS, 30_428, 256, 4, 1, 224),
    (XS, 30_428, 8_000, 3, 10, 19_200), (XS, 32_011, 400, 2, 30, 214_800),
    (XS, 32_011, 1_000, 3, 10, 9_600), (KET, 118_655, 300, 1, 1, 35_596_500),
    (XS, 118_655, 300, 2, 2, 24_840), (XS, 118_655, 300, 4, 1, 380),
])
def test_counts_of_word2ket_are_those_printed(form, words, dimension, order, rank, parameters):
    """D56: r n V q and r n t q with the smallest q^n >= D, t^n >= V; dense is a leaf per word."""
    q, t = (next(x for x in itertools.count(1) if x**order >= n) for n in (dimension, words))
    assert (word2ket.ceil_root(dimension, order), word2ket.ceil_root(words, order)) == (q, t)
    units = t if form is XS else words
    plan = Plan(words, dimension, (q,) * order, rank, units, form="paper")
    assert plan.parameters == parameters == rank * order * q * units


# ------------------------------------------------------------------ directions and autoencoders


def test_projection_keeps_its_length_as_cosine_and_the_top_subspace_the_most():
    """D53: against the plain SVD's subspace and one near by."""
    matrix = skewed()
    unit = np.array([row / np.sqrt(squares(row)) for row in matrix])
    kept = direction.fit(matrix, 5)
    P, k = kept.projection, len(kept.projection)
    for x, row in zip(unit, everything(kept)):
        assert_allclose(cosine(x, row), np.sqrt(squares(P @ x)), rtol=1e-10)

    def mean(Q):
        return np.mean([cosine(x, Q.T @ Q @ x) ** 2 for x in unit])

    spectrum = np.sort(np.linalg.eigvalsh(unit.T @ unit))[::-1]
    assert_allclose(mean(P), spectrum[:k].sum() / V, rtol=1e-10)
    assert mean(P) > 1.02 * mean(np.linalg.svd(matrix)[2][:k])
    assert mean(P) > mean(np.linalg.qr(P.T + 0.1 * normal(D, k))[0].T)


@pytest.mark.parametrize("method", ["direction", "offline"])
def test_rows_whose_length_is_kept_have_an_error_that_only_the_angle_decides(method):
    """D54: ||x - y||^2 = 2 ||x||^2 (1 - cos), and ||y|| = ||x||."""
    matrix = skewed(211, 48)
    matrix[3] = 0
    if method == "offline":
        pytest.importorskip("torch")
        kept = offline.fit(matrix, 5, steps=20)
    else:
        kept = direction.fit(matrix, 5)
        assert kept.parameters == len(kept.projection) * (211 + 48)  # the lengths cost nothing
    assert (kept.rows(3) == 0).all()
    for x, y in zip(np.delete(matrix, 3, axis=0), np.delete(everything(kept), 3, axis=0)):
        assert_allclose(squares(y), squares(x), rtol=1e-10)
        assert_allclose(squares(x - y), 2 * squares(x) * (1 - cosine(x, y)), rtol=1e-8)
    short = svd.fit(matrix, 5)  # the control: factors shorten rows
    assert all(squares(short.rows(w)) < 0.9999 * squares(matrix[w]) for w in range(3))


def test_losses_are_the_sums_of_their_definitions():
    torch = pytest.importorskip("torch")
    x, y = normal(7, 5), normal(7, 5, seed=1)

    def angle(other):
        return 1 - np.mean([cosine(a, b) for a, b in zip(x, other)])

    for power in (1.0, 0.3):
        wanted = 0.9975 / 5 * angle(y) + 0.0025 * np.mean(abs(x - y) ** power)
        assert float(direction_ae.direction_loss(x, y, power)) == pytest.approx(wanted, rel=1e-6)
    z = np.array([b * np.sqrt(squares(a) / squares(b)) for a, b in zip(x, np.tanh(y))])
    wanted = 0.9091 * angle(z) + 0.0909 * np.sqrt(squares(x - z) / 35)
    found = offline.offline_loss(torch.tensor(x), torch.tensor(y))
    assert float(found) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("ratio", [2, 10])
def test_autoencoders_are_counted_and_one_more_column_is_beyond_the_budget(ratio):
    """D55: n c + n + (c + 1) 2c + (2c + 1) 4c + (4c + 1) m, and V k + k D + D."""
    pytest.importorskip("torch")
    n, m = 1009, 48
    matrix, budget = normal(n, m), n * m / ratio

    def count(c):
        return n * c + n + (c + 1) * 2 * c + (2 * c + 1) * 4 * c + (4 * c + 1) * m

    kept = offline.fit(matrix, ratio, steps=1)
    c = kept.codes.shape[1]
    assert kept.parameters == count(c) <= budget < count(c + 1)
    assert [layer[0].shape for layer in kept.decoder] == [(c, 2 * c), (2 * c, 4 * c), (4 * c, m)]
    plain = direction_ae.fit(matrix, ratio, epochs=1)
    k = plain.codes.shape[1]
    assert plain.parameters == n * k + k * m + m <= budget < plain.parameters + n + m
    assert (plain.rows([0]) == direction_ae.fit(matrix, ratio, epochs=1).rows([0])).all()
    assert (plain.rows([0]) != direction_ae.fit(matrix, ratio, seed=1, epochs=1).rows([0])).any()


def test_decoder_in_numpy_is_the_decoder_that_was_trained():
    """The control of what training is worth is the start."""
    torch = pytest.importorskip("torch")
    matrix, before = normal(31, 7), torch.random.get_rng_state()

    def loss(x, y, epoch):
        return ((x - y) ** 2).mean()

    codes, layers = autoencoder.train(matrix, (8, 3), (5,), loss, epochs=50, batch_size=8)
    assert (torch.random.get_rng_state() == before).all()
    (A, a), (B, b) = (map(torch.tensor, layer) for layer in layers)
    hidden = torch.nn.functional.leaky_relu(torch.tensor(codes) @ A + a)
    decoded = autoencoder.decode(codes, layers)
    assert_allclose(decoded, (hidden @ B + b).numpy(), rtol=1e-12, atol=1e-12)
    start = autoencoder.decode(*autoencoder.train(matrix, (8, 3), (5,), loss, epochs=0))
    assert squares(matrix - decoded) < 0.9 * squares(matrix - start)
