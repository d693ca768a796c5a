"""Word similarity: what benchmark files say and refuse, correlations against slow ones."""

import gzip

import numpy as np
import pytest
from scipy.stats import spearmanr
from slow import slow_cosine

from see_min.errors import InputError
from see_min.experiments import similarity
from see_min.experiments.similarity import (
    mean_cosine,
    read_pairs,
    read_sentence_pairs,
    word_similarity,
)


@pytest.fixture
def file(tmp_path):
    def write(data, name="a.txt"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("data, name", [
    (b"car\tauto\t9.5\nNew York\tcity\t-1\n", "a.txt"),
    (b"\xef\xbb\xbfcar , auto,9.50\r\nNew York\tcity\t-1e0\n \n\n", "a.txt"),
    (gzip.compress(b"car\tauto\t9.5\nNew York\tcity\t-1\n"), "a.txt.gz"),
])
def test_pairs_are_read_with_tabs_or_commas_and_from_gzip(file, data, name):
    assert read_pairs(file(data, name)) == [("car", "auto", 9.5), ("New York", "city", -1.0)]


def test_sentences_are_quoted_as_in_csv(file):
    data = b'"Yes, it is.","He said ""no"".",4.5\n"two\nlines",one,1\n\n'
    expected = [("Yes, it is.", 'He said "no".', 4.5), ("two\nlines", "one", 1.0)]
    assert read_sentence_pairs(file(data)) == expected


@pytest.mark.parametrize("read, data, text", [
    (read_pairs, b"\n\n", "a.txt: expected at least 1 pair, got none"),
    (read_pairs, b"a\tb\t1\na\tb\n", r"a.txt:2: expected 3 columns, none empty, got \['a', 'b'\]"),
    (read_pairs, b"a\t \t1\n", "a.txt:1: expected 3 columns, none empty, got "),
    (read_pairs, b"word\tword\tscore\n", "a.txt:1: expected a finite score, got 'score'"),
    (read_pairs, b"a\tb\t1\na\tb\tnan\n", "a.txt:2: expected a finite score, got 'nan'"),
    (read_sentence_pairs, b"Yes, it is.,It is.,4\n", "a.txt:1: expected 3 columns, none empty"),
    (read_sentence_pairs, b'"a\nb",c,1\na,b,x\n', "a.txt:3: expected a finite score, got 'x'"),
    (read_sentence_pairs, b'a,b,1\n"a,b,1\n', "a.txt:2: expected CSV, got an error: unexpected"),
])
def test_malformed_pairs_are_named_by_path_and_line(file, read, data, text):
    with pytest.raises(InputError, match=text):
        read(file(data))


def test_word_similarity_is_the_rank_correlation_of_cosines_and_scores():
    rng = np.random.default_rng(1)
    E = rng.integers(-1, 2, (23, 3)).astype(float)  # few different rows: ranks tie; some are zero
    pairs = [(f"w{i}", f"w{j}", float(s))
             for i, j, s in zip(*rng.integers(0, 23, (2, 97)), rng.integers(0, 5, 97))]
    rows, rare = {f"w{i}": i for i in range(23)}, {3, 5, 11}
    got = word_similarity(lambda ids: E[ids], rows, pairs, rare)
    cosine = [round(slow_cosine(E[rows[a]], E[rows[b]]), 12) for a, b, _ in pairs]
    seldom = [k for k, (a, b, _) in enumerate(pairs) if rows[a] in rare or rows[b] in rare]
    scores = [score for *_, score in pairs]
    assert (got["pairs"], got["rare_pairs"]) == (97, len(seldom)) and 3 < len(seldom) < 97
    assert got["spearman"] == pytest.approx(spearmanr(cosine, scores).statistic, rel=1e-12)
    oracle = spearmanr([cosine[k] for k in seldom], [scores[k] for k in seldom])
    assert got["rare_spearman"] == pytest.approx(oracle.statistic, rel=1e-12)


def test_words_are_looked_up_as_written_and_then_in_lower_case():
    asked = []

    def rows(ids):
        asked.append(ids.tolist())
        return np.eye(3)[ids]

    pairs = [("May", "The", 1), ("MAY", "the", 2), ("may", "other", 3)]
    word_similarity(rows, {"May": 0, "may": 1, "the": 2}, pairs)
    assert asked == [[0, 1], [2, 2]]


@pytest.mark.parametrize("pairs", [
    [("a", "x", 1.0)] * 5,
    [("a", "b", 1.0), ("a", "c", 2.0)],
    [("a", "b", 1.0), ("a", "c", 1.0), ("b", "c", 1.0)],
    [("a", "a", 1.0), ("b", "b", 2.0), ("c", "c", 3.0), ("d", "d", 4.0)],
], ids=["unknown words", "two pairs", "equal scores", "equal cosines"])
@pytest.mark.filterwarnings("error")
def test_a_correlation_that_is_undefined_is_none(pairs):
    E = np.array([[1.0, 0.1], [1, 1], [0.3, 2], [0.7, 0.3]])
    got = word_similarity(lambda ids: E[ids], {"a": 0, "b": 1, "c": 2, "d": 3}, pairs)
    assert got["spearman"] is None and got["rare_pairs"] == 0


def test_mean_cosine_is_a_mean_in_which_zero_words_have_no_part(monkeypatch):
    monkeypatch.setattr(similarity, "BLOCK", 3)  # the last block is not full
    rng = np.random.default_rng(2)
    E, near = rng.standard_normal((2, 11, 5))
    E[4], near[7] = 0, 0
    words = [w for w in range(11) if w != 4]  # a zero approximation counts, as 0
    expected = sum(slow_cosine(E[w], near[w]) for w in words) / 10
    assert mean_cosine(E, lambda ids: near[ids]) == pytest.approx(expected, rel=1e-12)
    scale = rng.random((11, 1)) + 0.5
    assert mean_cosine(E, lambda ids: -(scale * E)[ids]) == pytest.approx(-1, rel=1e-12)
    with pytest.raises(InputError, match="matrix: expected at least 1 row that is not zero"):
        mean_cosine(0 * E, lambda ids: near[ids])
