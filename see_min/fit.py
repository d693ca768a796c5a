"""Fit an encoding to an existing matrix by weighted alternating least squares.

    minimise  sum_w f_w ||E0[w] - E[w]||^2  +  ridge * (sum of all squared leaves, amplitudes and bag vectors)

The steps of the alternation are in `see_min.als`. Words that own a vector need none of them: that vector takes whatever
the other parts leave, so the other parts are fitted to the remaining words alone.
"""

from dataclasses import replace

import numpy as np

from see_min.als import BLOCK, Problem
from see_min.checks import check_at_least, check_axes, check_finite
from see_min.encoding import SememeEncoding


def frequency_weights(counts, power=0.5):
    """f_w = (count_w + 1)^p, divided by the mean.

    Examples
    --------
    >>> frequency_weights(np.array([0, 8]))
    array([0.5, 1.5])
    """
    weights = (np.asarray(counts, dtype=float) + 1) ** power
    return weights / weights.mean()


def carrier(matrix, weights, inner):
    """P (d', D): the top right singular vectors of diag(sqrt(f)) E0, the best d' dimensions for the weighted matrix.

    Source: Eckart and Young 1936; its use here is ours.
    """
    _, vectors = np.linalg.eigh(matrix.T @ (weights[:, None] * matrix))  # (D, D), ascending
    return np.ascontiguousarray(vectors[:, ::-1][:, :inner].T)  # (d', D)


def low_rank_encoding(matrix, weights, rank):
    """Weighted truncated SVD as a corner of the encoding: order 1, one term, every word its own unit, a carrier.

    Returns
    -------
    SememeEncoding with V r + r D floats; no matrix of this rank has a smaller weighted error.

    Source: Eckart and Young 1936.
    """
    P = carrier(matrix, weights, rank)  # (r, D)
    return SememeEncoding([(matrix @ P.T)[:, None, :]], np.arange(len(matrix))[:, None], carrier=P)


def random_encoding(units, plan, seed, carrier=None):
    """Random leaves for `units` at a unit's variance of rows, as the start of a fit.

    Parameters
    ----------
    units : see_min.units.Units
    plan : see_min.budget.Plan
    seed : int
    carrier : array (d', D), optional
    """
    rng = np.random.default_rng(seed)
    scale = plan.rank ** (-0.5 / len(plan.sizes))  # a sum of r products of n leaves then has variance 1
    draw = lambda q: scale * rng.standard_normal((plan.slot_units, plan.rank, q))  # (U, r, q_j)
    tables = [draw(plan.sizes[0])] * len(plan.sizes) if plan.shared else [draw(q) for q in plan.sizes]
    amplitudes = 1 + 0.5 * rng.standard_normal((len(units.index), plan.rank)) if plan.amplitudes else None
    vectors = None if units.bag is None else np.zeros((len(units.bag_names), plan.inner))
    return SememeEncoding(tables, units.index.copy(), amplitudes, carrier, units.bag, vectors)


def fit(matrix, encoding, weights=None, units=None, sweeps=20, ridge=0.5, progress=None):
    """Alternating least squares from a start.

    Parameters
    ----------
    matrix : array (V, D)
        E0.
    encoding : SememeEncoding
        The start, scaled for a matrix whose entries have variance 1 (`random_encoding`); it is not changed.
        Its slots have a table each, or all have the same. A carrier must have orthonormal rows.
    weights : array (V,), optional
        f_w, ones when left out.
    units : Units, optional
        If given, back-off entries are re-dealt from the second sweep on.
    sweeps : int
    ridge : float
        For entries of variance 1 and weights of mean 1; vectors that belong to one word are not held back by it.
    progress : callable(sweep, error), optional

    Returns
    -------
    (SememeEncoding, list of float)
        The fitted encoding, and after every step the objective of the words that own no vector, divided by their
        sum_w f_w ||E0[w]||^2; it never rises.

    Raises
    ------
    ShapeError
        If matrix, weights and encoding do not have the same V and D, or some slots share a table and others do not.
    DataError
        If the matrix has NaN or infinity, a weight or the ridge is below 0, or the carrier is not orthonormal.

    Source: see the normal equations in docs/derivations.md; word2ket and MorphTE train by gradient only, so this is ours.
    """
    matrix = check_finite("matrix", check_axes("matrix", matrix, *encoding.shape)).astype(float)
    weights = np.ones(len(matrix)) if weights is None else check_axes("weights", weights, len(matrix))
    check_at_least("weights", weights.min(), 0)
    words, own = own_units(encoding)
    rest = np.setdiff1d(np.arange(len(matrix)), words)
    if not len(rest):  # every word has a vector of its own: nothing is left to fit
        return _with_own_vectors(matrix, encoding, words, own), [0.0]
    share = weights[rest].mean() / weights.mean() if weights[rest].any() else 1.0  # the ridge meets weights of the same mean
    problem = Problem(matrix[rest], _of_words(encoding, rest), weights[rest] / share, ridge)
    free = None if units is None else replace(units, index=units.index[rest], free=units.free[rest])
    for sweep in range(sweeps):
        problem.update_bag()
        for terms in problem.groups:
            problem.update_terms(terms, free if sweep else None)
        if progress:
            progress(sweep, problem.history[-1])
    return _with_own_vectors(matrix, problem.result(encoding, rest), words, own), problem.history


def own_units(encoding):
    """Words that have a bag unit which no other word has, and the first such unit of each.

    The vector of such a unit takes whatever the other parts leave of its word, so the best other parts are those that
    are best for the remaining words alone.

    Returns
    -------
    (int array (N,), int array (N,))

    Examples
    --------
    >>> leaf, bag = np.ones((1, 1, 2)), np.array([[0, -1], [1, 2], [1, -1]])
    >>> own_units(SememeEncoding([leaf], np.zeros((3, 1), int), bag=bag, bag_vectors=np.zeros((3, 2))))
    (array([0, 1]), array([0, 2]))

    Source: ours.
    """
    if encoding.bag is None:
        return np.arange(0), np.arange(0)
    word, column = np.nonzero(encoding.bag >= 0)
    unit = encoding.bag[word, column]
    alone = np.bincount(unit)[unit] == 1
    words, first = np.unique(word[alone], return_index=True)
    return words, unit[alone][first]


def _of_words(encoding, words):
    """The encoding of some of the words."""
    part = lambda array: None if array is None else array[words]
    return replace(encoding, index=encoding.index[words], amplitudes=part(encoding.amplitudes), bag=part(encoding.bag))


def _with_own_vectors(matrix, encoding, words, own):
    """Set the vectors of own units so that their words are as good as the carrier allows."""
    if not len(words):
        return encoding
    vectors = encoding.bag_vectors.copy()
    vectors[own] = 0
    encoding = replace(encoding, bag_vectors=vectors)
    rows = matrix[words] if encoding.carrier is None else matrix[words] @ encoding.carrier.T  # (N, d')
    vectors[own] = rows - encoding.inner_rows(words)
    return encoding


def relative_error(matrix, encoding, weights=None):
    """sum_w f_w ||E0[w] - E[w]||^2 / sum_w f_w ||E0[w]||^2, computed in blocks of rows."""
    weights = np.ones(len(matrix)) if weights is None else weights
    error = 0.0
    for start in range(0, len(matrix), BLOCK):
        ids = np.arange(start, min(start + BLOCK, len(matrix)))
        error += weights[ids] @ ((matrix[ids] - encoding.rows(ids)) ** 2).sum(1)
    return float(error / (weights @ (matrix**2).sum(1)))
