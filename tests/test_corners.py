"""Known methods as special cases of SememeEncoding, each from its own formula."""

import zlib

import numpy as np
import pytest
from slow import close, normal, product

from see_min.encoding import SememeEncoding
from see_min.fitting.least_squares import low_rank_encoding

V, R, D = 7, 5, 11


def rows(encoding):
    return encoding.rows(np.arange(encoding.shape[0]))


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_low_rank_encoding_is_the_weighted_eckart_young_optimum(rank):
    """D15: F^-1/2 times the truncated SVD of F^1/2 E0; without the weights it is another."""
    matrix, f = normal(V, D), np.random.default_rng(1).uniform(0.1, 10, V)
    root = np.diag(np.sqrt(f))
    U, s, Vt = np.linalg.svd(root @ matrix)
    best = np.linalg.inv(root) @ sum(s[i] * np.outer(U[:, i], Vt[i]) for i in range(rank))
    encoding = low_rank_encoding(matrix, f, rank)
    # eigenvectors of E0^T F E0, whose condition is the square: a few more digits are lost
    close(rows(encoding), best, rtol=1e-10)
    assert encoding.parameters == V * rank + rank * D and encoding.index_bytes == 0
    assert not np.allclose(rows(low_rank_encoding(matrix, np.ones(V), rank)), best)


def test_own_units_are_word2ket():
    """D15: word w is sum_k v_w1k x v_w2k x v_w3k with leaves of its own."""
    tables = [normal(V, R, q, seed=q) for q in (2, 3, 5)]
    encoding = SememeEncoding(tables, None)
    words = [sum(product([t[w, k] for t in tables]) for k in range(R)) for w in range(V)]
    close(rows(encoding), np.array(words))
    assert encoding.parameters == R * V * (2 + 3 + 5)


@pytest.mark.parametrize("words", [105, 103])
def test_digits_of_the_row_number_are_word2ketxs(words):
    """D15: the matrix is sum_k F_1k x F_2k x F_3k of small matrices, cut off after V rows."""
    F = [normal(R, t, q, seed=t) for t, q in zip((3, 5, 7), (2, 3, 5))]  # (r, t_j, q_j)
    expected = sum(np.kron(np.kron(F[0][k], F[1][k]), F[2][k]) for k in range(R))[:words]
    index = np.array([[[w // 35, w // 7 % 5, w % 7]] for w in range(words)])  # (V, 1, 3)
    encoding = SememeEncoding([factor.swapaxes(0, 1) for factor in F], index)
    close(rows(encoding), expected)
    assert encoding.parameters == R * (3 * 2 + 5 * 3 + 7 * 5)
    backwards = np.array([[[w % 3, w // 3 % 5, w // 15]] for w in range(words)])
    other = SememeEncoding(encoding.tables, backwards)
    assert not np.allclose(rows(other), expected)  # the first digit is the slowest


def test_same_morphemes_in_every_term_are_morphte():
    """D15: sum_k f_k(m_1) x f_k(m_2) x f_k(m_3), one table for all slots, r |M| q parameters."""
    M, q = 13, 3
    f = normal(R, M, q)
    morphemes = [(0, 1, 2), (0, 1, 12), (2, 1, 0), (3, 3, 3), (4, 5, 6), (12, 11, 10), (7, 8, 9)]
    table, index = f.swapaxes(0, 1), np.array(morphemes)[:, None]  # (M, r, q), (V, 1, 3)
    encoding = SememeEncoding([table] * 3, index)
    words = [sum(product(f[k, list(word)]) for k in range(R)) for word in morphemes]
    close(rows(encoding), np.array(words))
    assert encoding.parameters == R * M * q
    apart = SememeEncoding([table.copy() for _ in range(3)], index)
    assert apart.parameters == 3 * R * M * q


def test_senses_as_terms_are_see():
    """D15: term k is the product of the units of sense k mod (number of senses), a rule of ours."""
    tables = [normal(U, R, q, seed=U) for U, q in zip((11, 13), (2, 3))]
    five = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]
    senses = [[(0, 1)], [(2, 3), (4, 5)], [(6, 7), (8, 9), (10, 11)], [(0, 12)], five]
    index = np.array([[word[k % len(word)] for k in range(R)] for word in senses])  # (V, r, n)
    encoding = SememeEncoding(tables, index)
    for w, word in enumerate(senses):
        pairs = [word[k % len(word)] for k in range(R)]
        expected = sum(np.kron(tables[0][a, k], tables[1][b, k]) for k, (a, b) in enumerate(pairs))
        close(rows(encoding)[w], expected)
    first = rows(SememeEncoding(tables, index[:, :1]))  # words of one sense are MorphTE's
    same = [bool(np.allclose(a, b)) for a, b in zip(first, rows(encoding))]
    assert same == [len(word) == 1 for word in senses]


def test_hashed_units_of_one_term_are_the_hashing_trick():
    """D15: r = 1, n = 1: a word has the vector of its bucket, so words of one bucket are equal."""
    words, buckets = [f"word{i}" for i in range(17)], 5
    vectors = normal(buckets, D)
    place = np.array([zlib.crc32(word.encode()) % buckets for word in words])
    encoding = SememeEncoding([vectors[:, None, :]], place[:, None, None])
    close(rows(encoding), vectors[place])
    assert len(np.unique(rows(encoding), axis=0)) == len(set(place)) <= buckets
    assert encoding.parameters == buckets * D
