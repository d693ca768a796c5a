"""Fit an encoding to an existing matrix by weighted alternating least squares.

    minimise  sum_w f_w ||E0[w] - E[w]||^2  +  ridge * (sum of all squared leaves, amplitudes and bag vectors)

The steps of the alternation are in `see_min.als`. Words that own a vector need none of them: that vector takes whatever
the other parts leave, so the other parts are fitted to the remaining words alone.

Everything here goes through the rows of the matrix a block at a time, so the matrix may be a memory map of a file larger than
the memory; with a carrier, what a fit holds of it are the rows (V, d') before the carrier.
"""

from dataclasses import replace

import numpy as np

from see_min.als import BLOCK, Goal, Problem, check_start, row_blocks
from see_min.checks import DataError, check_at_least, check_axes, check_shape
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
    gram = np.zeros((matrix.shape[1], matrix.shape[1]))  # (D, D)
    for block in row_blocks(len(matrix), BLOCK):
        rows = np.sqrt(weights[block, None]) * _inner_rows(matrix, block)  # (W, D)
        gram += rows.T @ rows  # one array with itself: half the multiplications of two
    _, vectors = np.linalg.eigh(gram)  # (D, D), ascending
    return np.ascontiguousarray(vectors[:, ::-1][:, :inner].T)  # (d', D)


def _inner_rows(matrix, words, carrier=None):
    """E0[words] P^T (W, d') in double precision, or the rows (W, D) themselves without a carrier; words: a slice or ids."""
    rows = np.asarray(matrix[words], dtype=float)  # (W, D)
    return rows if carrier is None else rows @ carrier.T  # (W, d')


def low_rank_encoding(matrix, weights, rank):
    """Weighted truncated SVD as a corner of the encoding: order 1, one term, every word its own unit, a carrier.

    Returns
    -------
    SememeEncoding with V r + r D floats; no matrix of this rank has a smaller weighted error.

    Source: Eckart and Young 1936.
    """
    P = carrier(matrix, weights, rank)  # (r, D)
    table = np.empty((len(matrix), 1, rank))  # (V, 1, r)
    for block in row_blocks(len(matrix), BLOCK):
        table[block, 0] = _inner_rows(matrix, block, P)
    return SememeEncoding([table], np.arange(len(matrix))[:, None], carrier=P)


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
        E0; it may be a memory map (`see_min.matrices.load_matrix`), of which a block of rows is read at a time.
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
    matrix = _check_finite_rows(check_shape("matrix", matrix, *encoding.shape))
    weights = np.ones(len(matrix)) if weights is None else check_axes("weights", weights, len(matrix))
    check_at_least("weights", weights.min(), 0)
    check_start(encoding, ridge)
    words, own = own_units(encoding)
    rest = np.setdiff1d(np.arange(len(matrix)), words)
    if not len(rest):  # every word has a vector of its own: nothing is left to fit
        return _with_own_vectors(matrix, encoding, words, own), [0.0]
    share = weights[rest].mean() / weights.mean() if weights[rest].any() else 1.0  # the ridge meets weights of the same mean
    f = weights[rest] / share
    problem = Problem(_goal(matrix, rest, f, encoding.carrier), _of_words(encoding, rest), f, ridge)
    free = None if units is None else replace(units, index=units.index[rest], free=units.free[rest])
    for sweep in range(sweeps):
        problem.update_bag()
        for terms in problem.groups:
            problem.update_terms(terms, free if sweep else None)
        if progress:
            progress(sweep, problem.history[-1])
    return _with_own_vectors(matrix, problem.result(encoding, rest), words, own), problem.history


def _check_finite_rows(matrix):
    """`see_min.checks.check_finite` without an array of the size of the matrix."""
    finite = sum(np.count_nonzero(np.isfinite(matrix[block])) for block in row_blocks(len(matrix), BLOCK))
    if finite < matrix.size:
        raise DataError(f"matrix: expected finite numbers, got {matrix.size - finite} that are NaN or infinite")
    return matrix


def _goal(matrix, words, f, carrier):
    """The rows of words before the carrier, and the sums over their rows in E0, in one pass over the matrix."""
    D = matrix.shape[1]
    rows = np.empty((len(words), D if carrier is None else len(carrier)))  # (W, d')
    squares = norm = inside = 0.0
    for block in row_blocks(len(words), BLOCK):
        whole = _inner_rows(matrix, words[block])  # (W, D)
        lengths = (whole**2).sum(1)  # (W,)
        squares, norm = squares + lengths.sum(), norm + f[block] @ lengths
        rows[block] = whole if carrier is None else whole @ carrier.T
        inside += f[block] @ (rows[block] ** 2).sum(1)
    scale = np.sqrt(squares / (len(words) * D)) or 1.0
    return Goal(rows, float(scale), float(norm), max(0.0, float(norm - inside)))


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
    """The encoding of some of the words, before the carrier."""
    part = lambda array: None if array is None else array[words]
    parts = {"index": encoding.index[words], "amplitudes": part(encoding.amplitudes), "bag": part(encoding.bag)}
    return replace(encoding, carrier=None, **parts)


def _with_own_vectors(matrix, encoding, words, own):
    """Set the vectors of own units so that their words are as good as the carrier allows."""
    if not len(words):
        return encoding
    vectors = encoding.bag_vectors.copy()
    vectors[own] = 0
    encoding = replace(encoding, bag_vectors=vectors)
    for block in row_blocks(len(words), BLOCK):  # no word has the own unit of another, so the order does not matter
        ids = words[block]
        vectors[own[block]] = _inner_rows(matrix, ids, encoding.carrier) - encoding.inner_rows(ids)  # (W, d')
    return encoding


def relative_error(matrix, encoding, weights=None):
    """sum_w f_w ||E0[w] - E[w]||^2 / sum_w f_w ||E0[w]||^2, computed in blocks of rows."""
    weights = np.ones(len(matrix)) if weights is None else weights
    error = norm = 0.0
    for block in row_blocks(len(matrix), BLOCK):
        rows = _inner_rows(matrix, block)  # (W, D)
        error += weights[block] @ ((rows - encoding.rows(np.arange(block.start, block.stop))) ** 2).sum(1)
        norm += weights[block] @ (rows**2).sum(1)
    return float(error / norm)
