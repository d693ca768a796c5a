"""Word-similarity benchmarks: pairs from files, and how the cosines of rows rank them beside what people say.

A compressed matrix is asked here without a model and without finetuning. All that is used of it is `rows(ids) -> (N, D)`.
"""

import csv
import math

import numpy as np

from see_min.checks import DataError, check_at_least, check_axes, check_finite, check_shape
from see_min.segmentation import read_lines

BLOCK = 8192  # rows a step of `mean_cosine`: bounds memory at BLOCK * D floats
FEWEST = 3  # pairs of a rank correlation: that of two is 1 or -1, whatever they are


def read_pairs(path):
    """Read a word-similarity benchmark: lines word<tab>word<tab>score, or with commas; plain or gzip, no header.

    Returns
    -------
    list of (str, str, float)

    Raises
    ------
    DataError
        If the file cannot be read or has no pair, or a line but the last ones has not two words and a finite score; the text
        names path and line.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = path.write_text("car\\tautomobile\\t9.5\\nnoon\\tstring\\t0\\n")
    >>> read_pairs(path)
    [('car', 'automobile', 9.5), ('noon', 'string', 0.0)]

    Source: ours; the columns are those in which SimLex-999, WordSim-353, MEN and RG-65 are commonly passed on.
    """
    lines = _without_blank_end(read_lines(path))
    columns = (line.split("\t" if "\t" in line else ",") for line in lines)
    return _scored(path, enumerate(columns, start=1))


def read_sentence_pairs(path):
    """Read sentence pairs with scores from a CSV file without a header: sentence, sentence, score; quotes as in CSV.

    Returns
    -------
    list of (str, str, float)

    Raises
    ------
    DataError
        As `read_pairs`, or if the quotes are not CSV's; a sentence of several lines is named by its last.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.csv"
    >>> _ = path.write_text('"Yes, it is.",It is.,4.5\\n')
    >>> read_sentence_pairs(path)
    [('Yes, it is.', 'It is.', 4.5)]

    Source: ours; the columns are those of the STS benchmark in the files of stsb-multi-mt.
    """
    lines = [f"{line}\n" for line in _without_blank_end(read_lines(path))]
    reader = csv.reader(lines, strict=True)
    try:
        return _scored(path, ((reader.line_num, columns) for columns in reader))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: expected CSV, got an error: {error}") from None


def _without_blank_end(lines):
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _scored(path, numbered):
    pairs = []
    for number, columns in numbered:
        columns = [column.strip() for column in columns]
        if len(columns) != 3 or not all(columns):
            raise DataError(f"{path}:{number}: expected 3 columns, none empty, got {columns!r:.80}")
        pairs.append((columns[0], columns[1], _score(columns[2], f"{path}:{number}")))
    if not pairs:
        raise DataError(f"{path}: expected at least 1 pair, got none")
    return pairs


def _score(text, place):
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise DataError(f"{place}: expected a finite score, got {text!r:.80}")
    return score


def cosines(left, right):
    """Cosine of each row of left with the same row of right, 0 where one of them is zero.

    Parameters
    ----------
    left, right : arrays (N, D)

    Returns
    -------
    float array (N,)

    Examples
    --------
    >>> cosines([[3, 4], [0, 0]], [[4, 3], [1, 1]])
    array([0.96, 0.  ])

    Source: ours.
    """
    left, right = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)  # (N,)
    return (left * right).sum(1) / np.where(norms > 0, norms, 1)  # (N,)


def word_similarity(rows, number, pairs, rare=None):
    """Spearman's rank correlation of the cosines of two words' rows with the scores that people gave the two words.

    Parameters
    ----------
    rows : callable, ids (N,) -> (N, D)
        Such as `SememeEncoding.rows`.
    number : dict of str to int
        Word -> row. A word is looked up as it is written, then in lower case; pairs with an unknown word are left out.
    pairs : list of (str, str, float)
    rare : set of int, optional
        Rows; pairs with at least one word among them are reported apart too.

    Returns
    -------
    dict
        spearman, pairs (how many were used), rare_spearman, rare_pairs. A correlation is None where fewer than 3 pairs
        are left, or where the scores or the cosines are all the same, which leaves it undefined.

    Raises
    ------
    DataError
        If a row that is used is not finite.

    Examples
    --------
    >>> E = np.array([[1., 0.], [1., .1], [1., 1.], [0., 1.]])
    >>> pairs = [("a", "b", 9), ("A", "c", 5), ("a", "d", 1), ("a", "e", 5)]
    >>> word_similarity(lambda ids: E[ids], {"a": 0, "b": 1, "c": 2, "d": 3}, pairs, rare={3})
    {'spearman': 1.0, 'pairs': 3, 'rare_spearman': None, 'rare_pairs': 1}

    Source: Spearman 1904; the choice of pairs is ours.
    """
    look_up = lambda word: number.get(word, number.get(word.lower()))
    found = [(look_up(a), look_up(b), score) for a, b, score in pairs]
    known = [(i, j, score) for i, j, score in found if i is not None and j is not None]
    left, right = np.array([(i, j) for i, j, _ in known], dtype=np.int64).reshape(-1, 2).T  # (N,), (N,)
    scores = np.array([score for _, _, score in known], dtype=float)  # (N,)
    angles = cosines(check_finite("rows", rows(left)), check_finite("rows", rows(right))) if known else scores  # (N,)
    angles = angles.round(12)  # equal cosines stay equal: rounding errors have no rank
    seldom = np.isin(left, list(rare or ())) | np.isin(right, list(rare or ()))  # (N,)
    return {
        "spearman": rank_correlation(angles, scores),
        "pairs": len(known),
        "rare_spearman": rank_correlation(angles[seldom], scores[seldom]),
        "rare_pairs": int(seldom.sum()),
    }


def rank_correlation(x, y):
    """Spearman's rank correlation; None where it is not defined: fewer than 3 pairs, or all values of a side equal.

    Examples
    --------
    >>> rank_correlation(np.array([1., 2., 9.]), np.array([3., 4., 5.])), rank_correlation(np.array([1., 2.]), np.array([1., 2.]))
    (1.0, None)
    """
    if len(x) < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    from scipy.stats import spearmanr  # a second to import, and this is the only use

    return float(spearmanr(x, y).statistic)


def mean_cosine(matrix, rows, weights=None):
    """sum_w f_w cos(E0[w], E[w]) / sum_w f_w over the words whose E0[w] is not zero.

    Parameters
    ----------
    matrix : array (V, D)
        E0.
    rows : callable, ids (N,) -> (N, D)
        The approximation; a row of it that is zero has cosine 0, so nothing is gained by leaving words out.
    weights : array (V,), optional
        f_w, ones when left out.

    Returns
    -------
    float

    Raises
    ------
    ShapeError
        If rows are not (N, D), or weights not (V,).
    DataError
        If a number is not finite, a weight is below 0, or no word of positive weight has a row other than zero.

    Examples
    --------
    >>> E = np.array([[3., 4.], [0., 0.], [0., 2.]])
    >>> mean_cosine(E, lambda ids: np.ones((len(ids), 2)) * [4., 3.])        # (24 / 25 + 3 / 5) / 2
    0.78

    Source: ours.
    """
    V, D = check_shape("matrix", matrix, None, None).shape
    weights = np.ones(V) if weights is None else check_finite("weights", check_axes("weights", weights, V))
    check_at_least("weights", weights.min(initial=0), 0)
    total = norm = 0.0
    for start in range(0, V, BLOCK):
        ids = np.arange(start, min(start + BLOCK, V))
        near = check_finite("rows", check_axes("rows", rows(ids), len(ids), D))  # (W, D)
        here = check_finite("matrix", matrix[ids])  # (W, D)
        f = weights[ids] * here.any(1)  # (W,)
        total, norm = total + f @ cosines(here, near), norm + f.sum()
    if not norm > 0:
        raise DataError("matrix: expected at least 1 row that is not zero and has a weight above 0, got none")
    return float(total / norm)
