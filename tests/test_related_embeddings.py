"""Embedding methods of the family against slow sums, dense matrices and their own formulas."""

import itertools
import json
from math import prod
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from see_min.checks import DataError, ShapeError
from see_min.encoding import SememeEncoding
from see_min.entangle import inner_products
from see_min.fit import low_rank_encoding
from see_min.related import direction, direction_ae, morphte, offline, svd, tt_embedding, word2ket, word2ketxs
from see_min.related.primitives import cp_als
from see_min.units import Annotation

V, D = 23, 35
SEGMENTATION = Path(__file__).parents[2] / "shared" / "data" / "morphology" / "iwslt14deen_bpe10000_morSeg_results.json"


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def skewed(rows=V, columns=D, seed=0):
    """A matrix with columns of unequal sizes and rows of unequal lengths."""
    return np.exp(numbers(rows, 1, seed=seed)) * numbers(rows, columns, seed=seed + 1) * 0.8 ** np.arange(columns)


def squares(array):
    return float((np.asarray(array) ** 2).sum())


def everything(kept):
    return kept.rows(np.arange(kept.shape[0]))


# truncated SVD

@pytest.mark.parametrize("weights", [None, np.random.default_rng(3).uniform(0.1, 9, V)], ids=["plain", "weighted"])
def test_errors_of_all_ranks_are_those_of_the_factors_one_by_one(weights):
    matrix = skewed()
    f = np.ones(V) if weights is None else weights
    errors = svd.errors(matrix, weights)
    assert errors.shape == (D + 1,) and errors[0] == 1 and errors[V:].max() < 1e-12 and (np.diff(errors) <= 0).all()
    for rank in (1, 2, 7):
        rows = everything(low_rank_encoding(matrix, f, rank))
        error = sum(f[w] * squares(matrix[w] - rows[w]) for w in range(V)) / sum(f[w] * squares(matrix[w]) for w in range(V))
        assert errors[rank] == pytest.approx(error, rel=1e-9)
    assert (svd.errors(np.zeros((V, D))) == 0).all()


def test_weighted_fit_is_the_best_for_its_weights_and_the_plain_fit_for_equal_ones():
    matrix, f = skewed(), np.random.default_rng(3).uniform(0.1, 9, V)
    error = lambda kept, f: sum(f[w] * squares(matrix[w] - kept.rows(w)) for w in range(V))
    plain, weighted = svd.fit(matrix, 5), svd.fit(matrix, 5, f)
    assert error(weighted, f) < 0.999 * error(plain, f) and error(plain, np.ones(V)) < 0.999 * error(weighted, np.ones(V))
    with pytest.raises(ShapeError, match=r"^weights: expected shape \(23,\), got \(22,\)$"):
        svd.fit(matrix, 5, f[:-1])


# word2ket

def test_word2ket_of_order_two_is_the_truncated_svd_of_every_row():
    """D49: the error is the sum of the tails of all rows as 7 x 5 matrices, and no near leaves have less."""
    matrix = skewed()
    kept = word2ket.fit(matrix, 35 / 24, order=2)  # two terms of 7 + 5
    assert kept.sizes == (7, 5) and kept.rank == 2 and kept.floats == V * 24 and kept.index_bytes == 0
    tails = [squares(np.linalg.svd(row.reshape(7, 5), compute_uv=False)[2:]) for row in matrix]
    assert_allclose([squares(row - kept.rows(w)) for w, row in enumerate(matrix)], tails, rtol=1e-10)
    for seed in range(10):
        near = [table + 0.05 * numbers(*table.shape, seed=seed + j) for j, table in enumerate(kept.tables)]
        assert squares(matrix - everything(SememeEncoding(near, kept.index))) > sum(tails)


@pytest.mark.parametrize("order", [2, 3])
def test_words_of_word2ket_have_nothing_in_common(order):
    """D49: a row is the same whether the other words are there or not."""
    matrix = skewed(columns=30)
    options = {"ratio": 2, "order": order}
    whole = word2ket.fit(matrix, **options)
    changed = word2ket.fit(np.concatenate([matrix[:5], matrix[5:][::-1]]), **options)
    assert_allclose(whole.rows(range(5)), changed.rows(range(5)), rtol=1e-7, atol=1e-9)
    assert not np.allclose(whole.rows(range(5, V)), changed.rows(range(5, V)))  # the control: these are other words


def test_word2ket_of_order_three_finds_words_that_are_products():
    leaves = [numbers(V, 1, q, seed=q) for q in (5, 3, 2)]
    matrix = np.array([np.kron(np.kron(leaves[0][w, 0], leaves[1][w, 0]), leaves[2][w, 0]) for w in range(V)])
    kept = word2ket.fit(matrix, 3, order=3)
    assert kept.floats == V * 10 and squares(matrix - everything(kept)) < 1e-12 * squares(matrix)


def test_inner_products_of_words_need_leaves_alone():
    """D1: <kron a, kron b> = prod <a_j, b_j>, on the words of a fit."""
    kept = word2ket.fit(skewed(columns=30), 3, order=3)
    rows = everything(kept)
    left, right = (kept.leaves(np.array(ids)) for ids in ([0, 5, 7], [1, 5, 11]))
    assert_allclose(inner_products(left, right), [rows[a] @ rows[b] for a, b in ((0, 1), (5, 5), (7, 11))], rtol=1e-10)


@pytest.mark.parametrize("ratio", [1, 2, 5, 9, 17])
def test_plan_of_word2ket_uses_most_of_the_budget_of_all_orders(ratio):
    best = word2ket.plan(1000, 384, ratio)
    assert best.floats <= 384_000 / ratio and prod(best.sizes) == 384
    for order in range(2, 9):
        try:
            assert word2ket.plan(1000, 384, ratio, order).floats <= best.floats
        except DataError:
            continue


# word2ketXS

@pytest.mark.parametrize("words", [25, 23])
def test_word2ketxs_of_order_two_has_the_tail_of_the_rearrangement_as_its_error(words):
    """D50: with zeros below the last word exactly; the words alone have at most that."""
    matrix = skewed(words)
    kept = word2ketxs.fit(matrix, words * 35 / (3 * 5 * 12))
    rank = kept.tables[0].shape[1]
    assert rank == 3 and kept.floats == 3 * (5 * 7 + 5 * 5) and kept.index_bytes == 0
    padded = np.concatenate([matrix, np.zeros((25 - words, 35))])
    blocks = [padded[5 * i : 5 * i + 5, 5 * j : 5 * j + 5].ravel() for i in range(5) for j in range(7)]
    tail = squares(np.linalg.svd(np.array(blocks), compute_uv=False)[rank:])
    dense = sum(np.kron(a, b) for a, b in zip(*(table.swapaxes(0, 1) for table in kept.tables)))  # (25, 35)
    assert_allclose(squares(padded - dense), tail, rtol=1e-10)
    assert_allclose(everything(kept), dense[:words], rtol=1e-12, atol=1e-12)
    error = squares(matrix - everything(kept))
    assert error <= tail * (1 + 1e-12) and (words == 25 or error < 0.9999 * tail)


def test_no_step_of_cp_raises_the_error_and_each_solves_its_least_squares_problem():
    """D51: errors from loops over outer products; the last factor against a dense least-squares solution."""
    tensor = numbers(3, 5, 7)
    _, errors = cp_als(tensor, 4, sweeps=10)
    assert len(errors) == 30 and all(after <= before + 1e-12 for before, after in itertools.pairwise(errors))
    factors, errors = cp_als(tensor, 4, sweeps=3)
    dense = np.zeros_like(tensor)
    for k, *where in itertools.product(range(4), range(3), range(5), range(7)):
        dense[tuple(where)] += prod(factor[i, k] for factor, i in zip(factors, where))
    assert errors[-1] == pytest.approx(squares(tensor - dense) / squares(tensor), rel=1e-9)
    design = np.array([[factors[0][i, k] * factors[1][j, k] for k in range(4)] for i in range(3) for j in range(5)])  # (15, 4)
    wanted = np.linalg.lstsq(design, tensor.reshape(15, 7), rcond=None)[0].T  # (7, 4)
    assert_allclose(factors[2], wanted, rtol=1e-8, atol=1e-10)


def test_word2ketxs_of_order_three_finds_a_kronecker_product_and_places_its_digits():
    factors = [numbers(t, q, seed=q) for t, q in ((3, 5), (3, 3), (3, 2))]
    dense = np.kron(np.kron(factors[0], factors[1]), factors[2])  # (27, 30)
    kept = word2ketxs.fit(dense, 27, order=3)
    assert kept.floats == 30 and kept.shape == (27, 30)
    assert_allclose(everything(kept), dense, rtol=1e-6, atol=1e-9)
    with pytest.raises(DataError, match="^order: expected at least 2, got 1$"):
        word2ketxs.fit(dense, 2, order=1)


# tensor trains

def slow_train(cores):
    """The matrix of a train, entry by entry as products of small matrices."""
    out = np.zeros((prod(core.shape[1] for core in cores), prod(core.shape[2] for core in cores)))
    for w, i in enumerate(itertools.product(*(range(core.shape[1]) for core in cores))):
        for d, j in enumerate(itertools.product(*(range(core.shape[2]) for core in cores))):
            product = np.eye(1)
            for core, ik, jk in zip(cores, i, j):
                product = product @ core[:, ik, jk, :]
            out[w, d] = product.item()
    return out


def test_rows_of_a_train_are_products_of_the_cores_their_digits_select():
    """D52: every row, against a matrix made entry by entry; D = 5 x 3 x 2."""
    kept = tt_embedding.fit(skewed(columns=30), 3)
    assert [core.shape[1:3] for core in kept.cores] == [(3, 5), (3, 3), (3, 2)]
    assert_allclose(everything(kept), slow_train(kept.cores)[:V], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_error_of_a_train_lies_between_the_largest_and_the_sum_of_the_tails(ratio):
    """D52: tails of the padded matrix, its entries sorted by pairs of digits (i_k, j_k) in loops; all of it has no error."""
    matrix = skewed(columns=30)
    kept, sizes = tt_embedding.fit(matrix, ratio), [15, 9, 6]
    tensor = np.zeros(sizes)
    for w, d in itertools.product(range(V), range(30)):
        i, j = (w // 9, w // 3 % 3, w % 3), (d // 6, d // 2 % 3, d % 2)
        tensor[i[0] * 5 + j[0], i[1] * 3 + j[1], i[2] * 2 + j[2]] = matrix[w, d]
    bonds = [core.shape[3] for core in kept.cores[:-1]]
    tails = [squares(np.linalg.svd(tensor.reshape(prod(sizes[: k + 1]), -1), compute_uv=False)[bond:])
             for k, bond in enumerate(bonds)]
    padded = np.concatenate([matrix, np.zeros((27 - V, 30))])
    error = squares(padded - slow_train(kept.cores))
    assert max(tails) * (1 - 1e-12) <= error <= sum(tails) * (1 + 1e-12)
    assert squares(matrix - everything(kept)) <= error
    assert max(tails) < 0.99 * error < 0.99 * sum(tails) or ratio == 2


def test_a_train_of_full_bonds_costs_more_than_the_matrix():
    assert tt_embedding.train_floats([15, 9, 6], 99) == 15 * 15 + 15 * 9 * 6 + 6 * 6 > 27 * 30
    assert tt_embedding.fit(skewed(27, 30), 1).floats <= 27 * 30


@pytest.mark.parametrize("rank", [1, 2, 3, 6, 40])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_floats_of_a_train_are_those_of_its_cores_and_the_next_bond_is_beyond_the_budget(order, rank):
    """D52: the count, against the cores that are built."""
    matrix = skewed(211, 48)
    rows, columns, bond = tt_embedding.plan(211, 48, 1 + rank / 3, order)
    kept = tt_embedding.fit(matrix, 1 + rank / 3, order)
    sizes = [i * j for i, j in zip(rows, columns)]
    assert prod(columns) == 48 and prod(rows) >= 211 and kept.floats == tt_embedding.train_floats(sizes, bond)
    assert kept.floats <= 211 * 48 / (1 + rank / 3) < tt_embedding.train_floats(sizes, bond + 1)


def test_a_train_of_two_cores_is_word2ketxs():
    """D58: the same rows where both have the same modes and the same number of terms."""
    matrix = skewed(25)
    ratio = 25 * 35 / (3 * 5 * 12)
    train, xs = tt_embedding.fit(matrix, ratio, order=2), word2ketxs.fit(matrix, ratio)
    assert train.floats == xs.floats
    assert_allclose(everything(train), everything(xs), rtol=1e-9, atol=1e-11)


# MorphTE

def test_words_share_a_unit_in_a_slot_if_they_have_the_same_morpheme_there_and_only_then():
    words = [stem + end for stem in ("work", "play", "jump", "look") for end in ("", "s", "ed", "ing")] * 4
    notes = [Annotation(morphemes=(word[:4], word[4:]) if word[4:] else (word,)) for word in words]
    matrix = numbers(64, 30)
    kept = morphte.fit(matrix, 3, names=words, annotations=notes)
    for slot, part in ((0, slice(4)), (1, slice(4, None))):
        having = [w for w in range(64) if words[w][part]]
        for a, b in itertools.product(having, having):
            assert (kept.index[a, slot] == kept.index[b, slot]) == (words[a][part] == words[b][part])
    ends = {int(kept.index[w, 1]) for w in range(64) if words[w][4:]}
    assert ends.isdisjoint({int(kept.index[w, 1]) for w in range(64) if not words[w][4:]})  # back-off units are others
    with pytest.raises(DataError, match="^annotations: expected 64, one a row of the matrix, got 63$"):
        morphte.fit(matrix, 3, names=words, annotations=notes[:-1])


def test_counts_of_morphte_follow_from_its_segmentation():
    """D57: compression 26.9 (de), 22.1 (en) and 24.6 (both) at order 3, rank 7, D = 512."""
    if not SEGMENTATION.exists():
        pytest.skip(f"{SEGMENTATION} is not there")
    data = json.loads(SEGMENTATION.read_text(encoding="utf-8"))
    dense = floats = 0
    for side, ratio in (("src", 26.9), ("tgt", 22.1)):
        words = data[f"word2mor_{side}"]
        morphemes = {morpheme for pieces in words.values() for morpheme in pieces}
        assert morphemes == set(data[f"mor_set_{side}"]) and max(map(len, words.values())) == 3
        plan = morphte.published(len(words), 512, len(morphemes))
        assert plan.floats == 7 * len(morphemes) * 8 and round(plan.ratio, 1) == ratio
        dense, floats = dense + len(words) * 512, floats + plan.floats
    assert round(dense / floats, 1) == 24.6


# counts

KET, XS = word2ket.published, word2ketxs.published


@pytest.mark.parametrize("form, words, dimension, order, rank, floats", [
    (None, 30_428, 256, 1, 1, 7_789_568), (KET, 30_428, 256, 4, 1, 486_848), (XS, 30_428, 400, 2, 10, 70_000),
    (XS, 30_428, 256, 4, 1, 224), (XS, 30_428, 8_000, 3, 10, 19_200), (None, 32_011, 256, 1, 1, 8_194_816),
    (XS, 32_011, 400, 2, 30, 214_800), (XS, 32_011, 400, 2, 10, 71_600), (XS, 32_011, 1_000, 3, 10, 9_600),
    (None, 118_655, 300, 1, 1, 35_596_500), (XS, 118_655, 300, 2, 2, 24_840), (XS, 118_655, 300, 4, 1, 380),
    (XS, 30_000, 256, 4, 1, 224), (XS, 30_000, 256, 4, 2, 448), (KET, 1, 256, 4, 5, 80), (XS, 81, 16, 4, 5, 120),
])
def test_counts_of_word2ket_are_those_printed(form, words, dimension, order, rank, floats):
    """D56: r n V q and r n t q with the smallest q^n >= D and t^n >= V, found by counting up; dense is a leaf a word, V D."""
    plan = (form or KET)(words, dimension, order, rank)
    q, t = (next(x for x in itertools.count(1) if x**order >= size) for size in (dimension, words))
    assert plan.floats == floats == rank * order * q * (t if form is XS else words)


# directions

def test_projection_keeps_the_cosine_that_is_its_length_and_the_top_subspace_the_most():
    """D53: against the plain SVD's subspace and random ones of the same rank, with cosines from their definition."""
    matrix = skewed()
    unit = np.array([row / np.sqrt(squares(row)) for row in matrix])
    kept = direction.fit(matrix, 5)
    P = kept.carrier
    k = len(P)
    cosine = lambda x, y: x @ y / np.sqrt(squares(x) * squares(y))
    for x, row in zip(unit, everything(kept)):
        assert_allclose(cosine(x, row), np.sqrt(squares(P @ x)), rtol=1e-10)
    mean = lambda Q: np.mean([cosine(x, Q.T @ Q @ x) ** 2 for x in unit])
    spectrum = np.sort(np.linalg.eigvalsh(unit.T @ unit))[::-1]
    assert_allclose(mean(P), spectrum[:k].sum() / V, rtol=1e-10)
    plain = np.linalg.svd(matrix)[2][:k]
    assert mean(P) > 1.02 * mean(plain)
    for seed in range(20):
        assert mean(P) > mean(np.linalg.qr(P.T + 0.1 * numbers(D, k, seed=seed))[0].T)


@pytest.mark.parametrize("method", ["direction", "offline"])
def test_rows_whose_length_is_kept_have_an_error_that_only_the_angle_decides(method):
    """D54: ||x - y||^2 = 2 ||x||^2 (1 - cos), and ||y|| = ||x||."""
    matrix = skewed(211, 48)
    if method == "offline":
        pytest.importorskip("torch")
        kept = offline.fit(matrix, 5, steps=20)
    else:
        kept = direction.fit(matrix, 5)
        assert kept.floats == len(kept.carrier) * (211 + 48)  # the lengths cost nothing
    for x, y in zip(matrix, everything(kept)):
        assert_allclose(squares(y), squares(x), rtol=1e-10)
        assert_allclose(squares(x - y), 2 * squares(x) * (1 - x @ y / np.sqrt(squares(x) * squares(y))), rtol=1e-8)
    short = low_rank_encoding(matrix, np.ones(211), 4)
    assert all(squares(short.rows(w)) < 0.9999 * squares(matrix[w]) for w in range(211))  # the control: factors shorten rows


def test_rows_of_zeros_stay_zeros():
    matrix = skewed()
    matrix[3] = 0
    assert (direction.fit(matrix, 5).rows(3) == 0).all()


def test_direction_loss_is_the_sum_of_its_definition():
    x, y = numbers(7, 5), numbers(7, 5, seed=1)
    cosines = [a @ b / np.sqrt(squares(a) * squares(b)) for a, b in zip(x, y)]
    for power in (1.0, 0.3):
        wanted = 0.9975 / 5 * (1 - sum(cosines) / 7) + 0.0025 * sum(abs(a - b) ** power for a, b in zip(x.flat, y.flat)) / 35
        assert float(direction_ae.direction_loss(x, y, power)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("ratio", [2, 5, 10])
def test_floats_of_the_autoencoders_are_counted_and_one_more_column_is_beyond_the_budget(ratio):
    """D55: n c + n + (c + 1) 2c + (2c + 1) 4c + (4c + 1) m is 10 c^2 + (6 + 4 m + n) c + m + n; and V k + k D + D."""
    pytest.importorskip("torch")
    rows, columns = 1009, 48
    matrix, budget = numbers(rows, columns), rows * columns / ratio
    count = lambda c: rows * c + rows + (c + 1) * 2 * c + (2 * c + 1) * 4 * c + (4 * c + 1) * columns
    kept = offline.fit(matrix, ratio, steps=1)
    c = kept.codes.shape[1]
    assert kept.floats == count(c) <= budget < count(c + 1)
    assert [layer[0].shape for layer in kept.decoder] == [(c, 2 * c), (2 * c, 4 * c), (4 * c, columns)]
    plain = direction_ae.fit(matrix, ratio, epochs=1)
    k = plain.codes.shape[1]
    assert plain.floats == rows * k + k * columns + columns <= budget < plain.floats + rows + columns


def test_decoder_in_numpy_is_the_decoder_that_was_trained():
    torch = pytest.importorskip("torch")
    from see_min.related.autoencoder import train

    matrix, seen = numbers(31, 7), {}

    def loss(x, y, epoch):
        seen[epoch] = seen.get(epoch, 0) + len(x)
        return ((x - y) ** 2).mean()

    from see_min.related.autoencoder import decode

    before = torch.random.get_rng_state()
    codes, layers = train(matrix, (8, 3), (5, 6), loss, epochs=60, batch=8, rate=1e-2)
    assert (torch.random.get_rng_state() == before).all() and seen == dict.fromkeys(range(60), 31)
    hidden = torch.tensor(codes)
    for i, (weight, bias) in enumerate(layers):
        hidden = torch.nn.functional.leaky_relu(hidden) if i else hidden
        hidden = torch.nn.functional.linear(hidden, torch.tensor(weight).T, torch.tensor(bias))
    assert_allclose(decode(codes, layers), hidden.numpy(), rtol=1e-12, atol=1e-12)
    assert squares(matrix - decode(codes, layers)) < 0.8 * squares(matrix)
    untrained = decode(*train(matrix, (8, 3), (5, 6), loss, epochs=0))
    assert squares(matrix - untrained) > 0.95 * squares(matrix)  # the control
