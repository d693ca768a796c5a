"""Known methods as corners of SememeEncoding: each written from its own formula in a few slow lines."""

import zlib

import numpy as np
import pytest
from numpy.testing import assert_allclose

from see_min.encoding import SememeEncoding
from see_min.fit import low_rank_encoding

V, R, D = 7, 5, 11


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def close(actual, expected):
    """Entries are sums of numbers of size 1: where they cancel, 1e-12 is meant of the terms."""
    assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def rows(encoding):
    return encoding.rows(np.arange(encoding.shape[0]))


def test_amplitudes_over_one_unit_are_a_truncated_svd():
    """D15: n = 1, one unit, alpha = U_r S_r, leaves = V_r^T."""
    matrix = numbers(V, D)
    U, s, Vt = np.linalg.svd(matrix, full_matrices=False)
    encoding = SememeEncoding([Vt[None, :3]], np.zeros((V, 1), dtype=int), amplitudes=U[:, :3] * s[:3])
    close(rows(encoding), sum(s[i] * np.outer(U[:, i], Vt[i]) for i in range(3)))
    assert encoding.floats == V * 3 + 3 * D


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_low_rank_encoding_is_the_weighted_eckart_young_optimum(rank):
    """D15: equals F^-1/2 times the truncated SVD of F^1/2 E0, whose weighted error is the tail of the singular values."""
    matrix, f = numbers(V, D), np.random.default_rng(1).uniform(0.1, 10, V)
    root = np.diag(np.sqrt(f))
    U, s, Vt = np.linalg.svd(root @ matrix)
    best = np.linalg.inv(root) @ sum(s[i] * np.outer(U[:, i], Vt[i]) for i in range(rank))
    encoding = low_rank_encoding(matrix, f, rank)
    # the encoding takes eigenvectors of E0^T F E0, whose condition is the square: a few more digits are lost
    assert_allclose(rows(encoding), best, rtol=1e-10, atol=1e-10)
    error = lambda other: sum(f[w] * ((matrix[w] - other[w]) ** 2).sum() for w in range(V))
    assert_allclose(error(rows(encoding)), (s[rank:] ** 2).sum(), rtol=1e-10)
    assert encoding.floats == V * rank + rank * D
    unweighted = rows(low_rank_encoding(matrix, np.ones(V), rank))
    assert error(unweighted) > 1.001 * error(rows(encoding))  # the weights are not idle
    for seed in range(20):
        left = encoding.tables[0][:, 0] + 0.1 * numbers(V, rank, seed=seed)
        right = encoding.carrier + 0.1 * numbers(rank, D, seed=seed + 100)
        assert error(left @ right) > error(rows(encoding))


def test_own_units_are_word2ket():
    """D15: word w is sum_k v_w1k x v_w2k x v_w3k with leaves of its own."""
    tables = [numbers(V, R, q, seed=q) for q in (2, 3, 5)]
    encoding = SememeEncoding(tables, np.repeat(np.arange(V)[:, None], 3, axis=1))
    expected = np.zeros((V, 30))
    for w in range(V):
        for k in range(R):
            expected[w] += np.kron(np.kron(tables[0][w, k], tables[1][w, k]), tables[2][w, k])
    close(rows(encoding), expected)
    assert encoding.floats == R * V * (2 + 3 + 5)


@pytest.mark.parametrize("words", [105, 103])
def test_digits_of_the_row_number_are_word2ketxs(words):
    """D15: the matrix is sum_k F_1k x F_2k x F_3k of small matrices, cut off after V rows."""
    digits, sizes = (3, 5, 7), (2, 3, 5)
    factors = [numbers(R, t, q, seed=t) for t, q in zip(digits, sizes)]  # (r, t_j, q_j)
    expected = sum(np.kron(np.kron(factors[0][k], factors[1][k]), factors[2][k]) for k in range(R))[:words]
    index = [[w // 35, w // 7 % 5, w % 7] for w in range(words)]
    encoding = SememeEncoding([factor.swapaxes(0, 1) for factor in factors], np.array(index))
    close(rows(encoding), expected)
    assert encoding.floats == R * (3 * 2 + 5 * 3 + 7 * 5)
    reversed_digits = SememeEncoding(encoding.tables, np.array([[w % 3, w // 3 % 5, w // 15] for w in range(words)]))
    assert not np.allclose(rows(reversed_digits), expected)  # the first digit is the slowest


def test_same_morphemes_in_every_term_are_morphte():
    """D15: sum_k f_k(m_1) x f_k(m_2) x f_k(m_3), one table for all slots, r |M| q floats."""
    M, q = 13, 3
    lookup = numbers(R, M, q)
    morphemes = [(0, 1, 2), (0, 1, 12), (2, 1, 0), (3, 3, 3), (4, 5, 6), (12, 11, 10), (7, 8, 9)]
    table = lookup.swapaxes(0, 1)  # (M, r, q)
    encoding = SememeEncoding([table] * 3, np.array(morphemes))
    for word, (a, b, c) in enumerate(morphemes):
        close(rows(encoding)[word], sum(np.kron(np.kron(lookup[k, a], lookup[k, b]), lookup[k, c]) for k in range(R)))
    assert encoding.floats == R * M * q
    assert SememeEncoding([table.copy() for _ in range(3)], np.array(morphemes)).floats == 3 * R * M * q


def test_senses_as_terms_are_see():
    """D15: term k is the product of the units of sense k mod (number of senses), a rule of ours; the index is (V, r, n)."""
    tables = [numbers(U, R, q, seed=U) for U, q in zip((11, 13), (2, 3))]
    senses = [[(0, 1)], [(2, 3), (4, 5)], [(6, 7), (8, 9), (10, 11)], [(0, 12)], [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]]
    index = np.array([[word[k % len(word)] for k in range(R)] for word in senses])
    encoding = SememeEncoding(tables, index)
    assert encoding.index.shape == (5, R, 2)
    for w, word in enumerate(senses):
        expected = np.zeros(6)
        for k in range(R):
            head, second = word[k % len(word)]
            expected += np.kron(tables[0][head, k], tables[1][second, k])
        close(rows(encoding)[w], expected)
    first_sense_only = SememeEncoding(tables, index[:, 0])
    assert np.allclose(rows(first_sense_only)[[0, 3]], rows(encoding)[[0, 3]])  # words of one sense are MorphTE's
    assert not any(np.allclose(rows(first_sense_only)[w], rows(encoding)[w]) for w in (1, 2, 4))


def test_hashed_units_of_one_term_are_the_hashing_trick():
    """D15: r = 1, n = 1: a word has the vector of its bucket, so words of one bucket are equal."""
    words, buckets = [f"word{i}" for i in range(17)], 5
    vectors = numbers(buckets, D)
    place = [zlib.crc32(word.encode()) % buckets for word in words]
    encoding = SememeEncoding([vectors[:, None, :]], np.array(place)[:, None])
    for w, bucket in enumerate(place):
        close(rows(encoding)[w], vectors[bucket])
    assert len(np.unique(rows(encoding), axis=0)) == len(set(place)) <= buckets
    assert encoding.floats == buckets * D


def test_hashed_units_in_two_slots_tell_more_words_apart_than_buckets():
    words, buckets = [f"word{i}" for i in range(17)], 5
    place = np.array([[zlib.crc32(f"{word} {j}".encode()) % buckets for j in range(2)] for word in words])
    tables = [numbers(buckets, 1, 2, seed=1), numbers(buckets, 1, 3, seed=2)]
    matrix = rows(SememeEncoding(tables, place))
    for w, (a, b) in enumerate(place):
        close(matrix[w], np.kron(tables[0][a, 0], tables[1][b, 0]))
    assert len(np.unique(matrix.round(12), axis=0)) == len({tuple(pair) for pair in place}) > buckets
