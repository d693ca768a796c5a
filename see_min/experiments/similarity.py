"""Word-similarity benchmarks: pairs from files, and how cosines of rows rank them beside people.

A compressed matrix is asked here without a model: all that is used of it is `rows(ids) -> (N, D)`.
"""

import csv
import math

import numpy as np

from see_min.encoding import row_blocks
from see_min.errors import InputError, check_finite
from see_min.storage.files import read_lines

BLOCK = 8192  # rows per step of `mean_cosine`
FEWEST = 3  # pairs of a rank correlation: that of two is 1 or -1, whatever they are


def read_pairs(path):
    """Read lines word<tab>word<tab>score, or with commas, without a header, as a list of tuples.

    Raises InputError, with path and line, if one has not two words and a finite score, or there is
    no pair.
    """
    columns = (line.split("\t" if "\t" in line else ",") for line in read_lines(path))
    return _scored(path, enumerate(columns, start=1))


def read_sentence_pairs(path):
    """Read a CSV file without a header, sentence,sentence,score, as a list of tuples.

    Raises InputError as `read_pairs`; a sentence of several lines is named by its last.
    """
    reader = csv.reader((f"{line}\n" for line in read_lines(path)), strict=True)
    try:
        return _scored(path, ((reader.line_num, columns) for columns in reader))
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: expected CSV, got an error: {error}") from None


def _scored(path, numbered):
    pairs = []
    for number, columns in numbered:
        columns = [column.strip() for column in columns]
        if not any(columns):
            continue  # a blank line
        if len(columns) != 3 or not all(columns):
            rule = "expected 3 columns, none empty"
            raise InputError(f"{path}:{number}: {rule}, got {columns!r:.80}")
        try:
            score = float(columns[2])
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise InputError(f"{path}:{number}: expected a finite score, got {columns[2]!r:.80}")
        pairs.append((columns[0], columns[1], score))
    if not pairs:
        raise InputError(f"{path}: expected at least 1 pair, got none")
    return pairs


def cosines(left, right):
    """Cosine of each row of left (N, D) with the same row of right; 0 where one of them is zero.

    >>> cosines([[3, 4], [0, 0]], [[4, 3], [1, 1]])
    array([0.96, 0.  ])
    """
    left, right = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)  # (N,)
    return (left * right).sum(1) / np.where(norms > 0, norms, 1)  # (N,)


def word_similarity(rows, rows_of_words, pairs, rare=None):
    """Spearman's correlation of the cosines of two words' rows with the scores people gave them.

    A word is looked up as written, then in lower case; pairs with an unknown word are left out.

    Parameters
    ----------
    rows : callable, ids (N,) -> (N, D)
    rows_of_words : dict of str to int
    pairs : list of (str, str, float)
    rare : set of int, optional
        Rows; pairs with at least one of them are reported apart too.

    Returns {spearman, pairs (used), rare_spearman, rare_pairs}; None for an undefined correlation.

    >>> E = np.array([[1., 0.], [1., .1], [1., 1.], [0., 1.]])
    >>> pairs = [("a", "b", 9), ("A", "c", 5), ("a", "d", 1), ("a", "e", 5)]
    >>> word_similarity(lambda ids: E[ids], {"a": 0, "b": 1, "c": 2, "d": 3}, pairs, rare={3})
    {'spearman': 1.0, 'pairs': 3, 'rare_spearman': None, 'rare_pairs': 1}
    """
    found = [(row_of(rows_of_words, a), row_of(rows_of_words, b), score) for a, b, score in pairs]
    known = [(a, b, score) for a, b, score in found if None not in (a, b)]
    ids = np.array([(a, b) for a, b, _ in known], dtype=np.int64).reshape(-1, 2)  # (N, 2)
    scores = np.array([score for *_, score in known], dtype=float)  # (N,)
    angles = scores  # (N,) = (0,)
    if known:
        left, right = (check_finite("rows", rows(side)) for side in ids.T)  # (N, D) each
        angles = cosines(left, right).round(12)  # (N,); rounding errors have no rank
    seldom = np.isin(ids, list(rare or ())).any(1)  # (N,)
    return {
        "spearman": rank_correlation(angles, scores), "pairs": len(known),
        "rare_spearman": rank_correlation(angles[seldom], scores[seldom]),
        "rare_pairs": int(seldom.sum()),
    }


def row_of(rows_of_words, word):
    """The row of a word as it is written, else in lower case, else None."""
    return rows_of_words.get(word, rows_of_words.get(word.lower()))


def rank_correlation(x, y):
    """Spearman's rank correlation; None for fewer than 3 pairs or all values of a side equal.

    >>> rank_correlation(np.array([1., 2., 9.]), np.array([3., 4., 5.]))
    1.0
    """
    if len(x) < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    from scipy.stats import spearmanr  # a second to import

    return float(spearmanr(x, y).statistic)


def mean_cosine(matrix, rows):
    """The mean of cos(E0[w], E[w]) over the words whose E0[w] is not zero; E by `rows(ids)`.

    Raises InputError if all rows are zero.

    >>> E = np.array([[3., 4.], [0., 0.], [0., 2.]])
    >>> mean_cosine(E, lambda ids: np.ones((len(ids), 2)) * [4., 3.])        # (24 / 25 + 3 / 5) / 2
    0.78
    """
    total = count = 0
    for block in row_blocks(len(matrix), BLOCK):
        ids = np.arange(block.start, block.stop)
        here = np.asarray(matrix[ids])  # (W, D)
        total, count = total + cosines(here, rows(ids)).sum(), count + here.any(1).sum()
    if not count:
        raise InputError("matrix: expected at least 1 row that is not zero, got none")
    return float(total / count)
