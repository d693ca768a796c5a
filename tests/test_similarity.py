"""Word similarity: what the benchmark files say and refuse, rank correlation against ranks made by hand, mean cosines."""

import csv
import gzip
import math
from pathlib import Path

import numpy as np
import pytest

from see_min import similarity
from see_min.checks import DataError, ShapeError
from see_min.similarity import cosines, mean_cosine, read_pairs, read_sentence_pairs, word_similarity

REAL = Path(__file__).parents[2] / "shared" / "data" / "similarity"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the benchmark files are not at {REAL}")


@pytest.fixture
def file(tmp_path):
    def write(data, name="a.txt"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def slow_ranks(values):
    """Rank i: how many are smaller, and the mean of the places that equals share."""
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


def slow_spearman(x, y):
    a, b = slow_ranks(x), slow_ranks(y)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((p - mean_a) * (q - mean_b) for p, q in zip(a, b))
    return covariance / math.sqrt(sum((p - mean_a) ** 2 for p in a) * sum((q - mean_b) ** 2 for q in b))


def slow_cosine(x, y):
    dot, xx, yy = sum(a * b for a, b in zip(x, y)), sum(a * a for a in x), sum(b * b for b in y)
    return dot / math.sqrt(xx * yy) if xx * yy else 0.0


# files


@pytest.mark.parametrize("data", [
    b"car\tauto\t9.5\nNew York\tcity\t-1\n", b"car,auto,9.5\nNew York,city,-1", b"car\tauto\t9.5\r\nNew York\tcity\t-1\r\n\r\n",
    b"\xef\xbb\xbfcar \t auto\t9.50\nNew York,city,-1e0\n \n\n", gzip.compress(b"car\tauto\t9.5\nNew York\tcity\t-1\n"),
])
def test_pairs_are_read_with_tabs_or_commas_and_from_gzip(file, data):
    assert read_pairs(file(data)) == [("car", "auto", 9.5), ("New York", "city", -1.0)]


def test_the_word_of_a_tab_separated_pair_may_hold_a_comma(file):
    assert read_pairs(file(b"a,b\tc\t1\n")) == [("a,b", "c", 1.0)]


@pytest.mark.parametrize("data, text", [
    (b"", "a.txt: expected at least 1 pair, got none"),
    (b"\n\n", "a.txt: expected at least 1 pair, got none"),
    (b"a\tb\t1\na\tb\n", r"a.txt:2: expected 3 columns, none empty, got \['a', 'b'\]"),
    (b"a\tb\t1\n\na\tb\t1\n", r"a.txt:2: expected 3 columns, none empty, got \[''\]"),
    (b"a\tb\t1\t2\n", r"a.txt:1: expected 3 columns, none empty, got \['a', 'b', '1', '2'\]"),
    (b"a\t \t1\n", r"a.txt:1: expected 3 columns, none empty, got \['a', '', '1'\]"),
    (b"a b 1\n", r"a.txt:1: expected 3 columns, none empty, got \['a b 1'\]"),
    (b"word\tword\tscore\na\tb\t1\n", "a.txt:1: expected a finite score, got 'score'"),
    (b"a\tb\t1\na\tb\tnan\n", "a.txt:2: expected a finite score, got 'nan'"),
    (b"a\tb\t1\na\tb\tinf\n", "a.txt:2: expected a finite score, got 'inf'"),
    (b"a\tb\t1\na\t\xff\t1\n", "a.txt:2: expected UTF-8, got byte 0xff"),
])
def test_malformed_pairs_are_named_by_path_and_line(file, data, text):
    with pytest.raises(DataError, match=text):
        read_pairs(file(data))


def test_a_missing_file_is_named(tmp_path):
    for read in (read_pairs, read_sentence_pairs):
        with pytest.raises(DataError, match="nowhere.txt: expected a file that can be read, got No such file"):
            read(tmp_path / "nowhere.txt")


def test_sentences_are_quoted_as_in_csv(file):
    data = b'"Yes, it is.","He said ""no"".",4.5\nA cat.,A\tdog.,0\r\n"two\nlines",one,1\n\n'
    expected = [("Yes, it is.", 'He said "no".', 4.5), ("A cat.", "A\tdog.", 0.0), ("two\nlines", "one", 1.0)]
    assert read_sentence_pairs(file(data)) == expected
    assert read_sentence_pairs(file(gzip.compress(data), "a.csv.gz")) == expected


@pytest.mark.parametrize("data, text", [
    (b"", "a.txt: expected at least 1 pair, got none"),
    (b"a,b,1\nYes, it is.,It is.,4\n", "a.txt:2: expected 3 columns, none empty, got "),
    (b"a,b,1\n\na,b,1\n", r"a.txt:2: expected 3 columns, none empty, got \[\]"),
    (b'"a\nb",c,1\na,b,x\n', "a.txt:3: expected a finite score, got 'x'"),
    (b'a,b,1\n"a"b,c,1\n', "a.txt:2: expected CSV, got an error: "),
    (b'a,b,1\n"a,b,1\n', "a.txt:2: expected CSV, got an error: unexpected end of data"),
])
def test_malformed_sentence_pairs_are_named_by_path_and_line(file, data, text):
    with pytest.raises(DataError, match=text):
        read_sentence_pairs(file(data))


@needs_real
@pytest.mark.parametrize("name, low, high", [("EN-SIMLEX-999", 0, 10), ("EN-WS-353-ALL", 0, 10), ("EN-MEN-TR-3k", 0, 50),
                                             ("EN-RG-65", 0, 4)])
def test_real_benchmarks_have_a_pair_on_every_line(name, low, high):
    path = REAL / f"{name}.txt"
    pairs = read_pairs(path)
    assert len(pairs) == path.read_bytes().count(b"\n")
    assert all(low <= score <= high and "\t" not in a + b and a.strip() == a for a, b, score in pairs)


@needs_real
def test_the_real_sentence_pairs_are_those_whose_line_ends_in_a_score():
    path = REAL / "stsb-en-dev.csv"
    pairs, lines = read_sentence_pairs(path), path.read_text(encoding="utf-8").splitlines()
    assert len(pairs) == len(lines)
    for (a, b, score), line in zip(pairs, lines):
        assert float(line.rpartition(",")[2]) == score and 0 <= score <= 5
        assert next(csv.reader([line]))[:2] == [a, b]


# rank correlation


def test_cosines_are_those_of_a_loop_and_zero_for_zero_rows():
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, 7, 5))
    left[2], right[4] = 0, 0
    np.testing.assert_allclose(cosines(left, right), [slow_cosine(x, y) for x, y in zip(left, right)], rtol=1e-12)
    assert cosines(left, right)[[2, 4]].tolist() == [0, 0]


def test_word_similarity_is_the_rank_correlation_of_cosines_and_scores():
    rng = np.random.default_rng(1)
    E = rng.integers(-1, 2, (23, 3)).astype(float)  # few different rows, so that ranks tie; some are zero
    words = [f"w{i}" for i in range(23)]
    pairs = [(words[i], words[j], float(s)) for i, j, s in zip(*rng.integers(0, 23, (2, 97)), rng.integers(0, 5, 97))]
    number, rare = {word: i for i, word in enumerate(words)}, {3, 5, 11}
    got = word_similarity(lambda ids: E[ids], number, pairs, rare)
    cosine = [round(slow_cosine(E[number[a]], E[number[b]]), 12) for a, b, _ in pairs]  # equal but for rounding: equal
    seldom = [k for k, (a, b, _) in enumerate(pairs) if number[a] in rare or number[b] in rare]
    scores = [score for _, _, score in pairs]
    assert (got["pairs"], got["rare_pairs"]) == (97, len(seldom)) and 3 < len(seldom) < 97
    assert got["spearman"] == pytest.approx(slow_spearman(cosine, scores), rel=1e-12)
    rare_oracle = slow_spearman([cosine[k] for k in seldom], [scores[k] for k in seldom])
    assert got["rare_spearman"] == pytest.approx(rare_oracle, rel=1e-12)


def test_one_swapped_pair_of_four_lowers_the_correlation_by_a_fifth():
    E = np.array([[1.0, 0], [1, 0.1], [1, 0.5], [1, 2], [0, 1]])  # cosines with the first fall
    number = {word: i for i, word in enumerate("abcde")}
    value = lambda *scores: word_similarity(lambda ids: E[ids], number, [("a", b, s) for b, s in zip("bcde", scores)])["spearman"]
    assert value(9, 5, 2, 1) == pytest.approx(1)
    assert value(5, 9, 2, 1) == pytest.approx(0.8)  # 1 - 6 (1 + 1) / (4 * 15)
    assert value(1, 2, 5, 9) == pytest.approx(-1)


def test_words_are_looked_up_as_written_and_then_in_lower_case():
    asked = []
    rows = lambda ids: asked.append(ids.tolist()) or np.eye(3)[ids]
    word_similarity(rows, {"May": 0, "may": 1, "the": 2}, [("May", "The", 1), ("MAY", "the", 2), ("may", "other", 3)])
    assert asked == [[0, 1], [2, 2]]


def test_rows_of_no_pair_are_never_asked_for():
    unused = {"spearman": None, "pairs": 0, "rare_spearman": None, "rare_pairs": 0}
    assert word_similarity(None, {"a": 0}, [("a", "b", 1.0)] * 5, rare={0}) == unused
    assert word_similarity(None, {}, []) == unused


@pytest.mark.parametrize("pairs", [
    [("a", "b", 1.0), ("a", "c", 2.0)],
    [("a", "b", 1.0), ("a", "c", 1.0), ("b", "c", 1.0)],
    [("a", "a", 1.0), ("b", "b", 2.0), ("c", "c", 3.0), ("d", "d", 4.0)],  # cosines 1, as far as numbers of the machine can say
], ids=["two pairs", "equal scores", "equal cosines"])
@pytest.mark.filterwarnings("error")
def test_a_correlation_that_is_undefined_is_none(pairs):
    E = np.array([[1.0, 0.1], [1, 1], [0.3, 2], [0.7, 0.3]])
    got = word_similarity(lambda ids: E[ids], dict(a=0, b=1, c=2, d=3), pairs)
    assert got["spearman"] is None and got["pairs"] == len(pairs)


def test_rows_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="rows: expected finite numbers, got 4 that are NaN or infinite"):
        word_similarity(lambda ids: np.full((len(ids), 2), np.nan), dict(a=0), [("a", "a", 1), ("a", "a", 2)])


# mean cosine


def test_mean_cosine_is_a_weighted_mean_in_which_zero_words_have_no_part(monkeypatch):
    monkeypatch.setattr(similarity, "BLOCK", 3)  # the last block is not full
    rng = np.random.default_rng(2)
    E, near, f = rng.standard_normal((11, 5)), rng.standard_normal((11, 5)), rng.random(11)
    E[4], near[7] = 0, 0
    cosine = [slow_cosine(x, y) for x, y in zip(E, near)]
    words = [w for w in range(11) if w != 4]  # a zero approximation counts, as 0
    expected = sum(f[w] * cosine[w] for w in words) / sum(f[w] for w in words)
    assert mean_cosine(E, lambda ids: near[ids], f) == pytest.approx(expected, rel=1e-12)
    assert mean_cosine(E, lambda ids: near[ids]) == pytest.approx(sum(cosine[w] for w in words) / 10, rel=1e-12)


def test_mean_cosine_of_a_matrix_with_itself_is_one_whatever_the_scale_of_a_row():
    rng = np.random.default_rng(3)
    E, scale = rng.standard_normal((7, 5)), rng.random((7, 1)) + 0.5
    assert mean_cosine(E, lambda ids: (scale * E)[ids]) == pytest.approx(1, rel=1e-12)
    assert mean_cosine(E, lambda ids: -E[ids]) == pytest.approx(-1, rel=1e-12)


@pytest.mark.parametrize("matrix, near, weights, error, text", [
    (np.ones(3), np.ones((3, 1)), None, ShapeError, r"matrix: expected shape \(\*, \*\), got \(3,\)"),
    (np.ones((3, 2)), np.ones((3, 1)), None, ShapeError, r"rows: expected shape \(3, 2\), got \(3, 1\)"),
    (np.ones((3, 2)), np.ones((3, 2)), np.ones(2), ShapeError, r"weights: expected shape \(3,\), got \(2,\)"),
    (np.ones((3, 2)), np.ones((3, 2)), -np.ones(3), DataError, r"weights: expected at least 0, got -1\.0"),
    (np.ones((3, 2)), np.ones((3, 2)), np.zeros(3), DataError, "matrix: expected at least 1 row that is not zero and has"),
    (np.zeros((3, 2)), np.ones((3, 2)), None, DataError, "matrix: expected at least 1 row that is not zero and has a weight"),
    (np.ones((3, 2)), np.full((3, 2), np.inf), None, DataError, "rows: expected finite numbers, got 6"),
    (np.full((3, 2), np.nan), np.ones((3, 2)), None, DataError, "matrix: expected finite numbers, got 6"),
])
def test_mean_cosine_refuses_what_has_no_mean(matrix, near, weights, error, text):
    with pytest.raises(error, match=text):
        mean_cosine(matrix, lambda ids: near[ids], weights)
