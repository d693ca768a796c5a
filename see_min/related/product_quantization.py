"""Product quantization: every row as m numbers of centroids, one for each part of its columns. What a practitioner tries first.

    minimise  sum_w f_w ||E0[w] - (C_1[i_w1], C_2[i_w2], ..., C_m[i_wm])||^2

Rows are cut into m parts of D_1 + ... + D_m = D columns; part j has a codebook C_j of K centroids, and a word keeps one code
a part. The objective is a sum over parts, so each is a weighted k-means of its own. Kept are K D floats and V m codes of
one byte (two beyond K = 256): nearly all of it is what other methods call the index. A row is put together from codes in
the same way as a word from units in `see_min.encoding`, but side by side, where leaves are multiplied and added up.

Source: Jegou, Douze, Schmid 2011, "Product quantization for nearest neighbor search", section II. Simplified: no rotation of the
columns before they are cut, no entropy coding of the codes (K below 256 still takes a byte), no distances between codes.
"""

from dataclasses import dataclass, field

import numpy as np

from see_min.budget import check_ratio
from see_min.checks import DataError, ShapeError, check_at_least, check_axes, check_finite, check_ids
from see_min.encoding import smallest

BLOCK = 2**19  # distances a step, rows times centroids: 2 MiB in float32, near the size of a core's cache
MOST_UNITS = 2**16  # centroids a part: codes of two bytes


@dataclass
class ProductQuantization:
    """An embedding matrix E (V, D) as codebooks and codes: E[w] = (C_1[i_w1], ..., C_m[i_wm]).

    Parameters
    ----------
    codebooks : list of m arrays (K, D_j)
    codes : unsigned int array (V, m)
    history : list of float
        What `product_quantize` reached: the objective before the first sweep and after each, divided by sum_w f_w ||E0[w]||^2.

    Raises
    ------
    ShapeError
        If the parts do not fit together.
    DataError
        If a code names a centroid that does not exist, or a centroid is not finite.

    Examples
    --------
    >>> codes = np.array([[0, 1], [1, 1]], dtype=np.uint8)
    >>> two = ProductQuantization([np.array([[1., 2.], [3., 4.]]), np.array([[5.], [6.]])], codes)
    >>> two.rows([1])
    array([[3., 4., 6.]])
    >>> two.floats, two.index_bytes, two.shape
    (6, 4, (2, 3))

    Source: Jegou, Douze, Schmid 2011.
    """

    codebooks: list
    codes: np.ndarray
    history: list = field(default_factory=list)

    def __post_init__(self):
        if not self.codebooks:
            raise ShapeError("codebooks: expected at least one part, got none")
        check_axes("codebooks[0]", self.codebooks[0], None, None)  # K is read off it
        check_axes("codes", self.codes, None, len(self.codebooks))
        for j, book in enumerate(self.codebooks):
            check_finite(f"codebooks[{j}]", check_axes(f"codebooks[{j}]", book, len(self.codebooks[0]), None))
        check_ids("codes", self.codes, len(self.codebooks[0]))

    @property
    def shape(self):
        """(V, D) of the matrix this stands for."""
        return len(self.codes), sum(book.shape[1] for book in self.codebooks)

    @property
    def floats(self):
        """K D: the codebooks."""
        return sum(book.size for book in self.codebooks)

    @property
    def index_bytes(self):
        """Bytes of the codes: V m, twice that for codes of two bytes."""
        return self.codes.size * self.codes.itemsize

    def rows(self, ids):
        """Embeddings of words, ids (...) -> (..., D); a DataError if an id is not in 0 .. V - 1."""
        codes = self.codes[check_ids("ids", ids, len(self.codes))]  # (..., m)
        return np.concatenate([book[codes[..., j]] for j, book in enumerate(self.codebooks)], axis=-1)  # (..., D)


def fit(matrix, ratio, weights=None, seed=0):
    """`product_quantize` with as many parts as `plan` finds: at most 1/ratio of the bytes. Errors are theirs."""
    return product_quantize(matrix, *plan(*np.shape(matrix), ratio), weights, seed)


def product_quantize(matrix, parts, units=256, weights=None, seed=0, sweeps=15):
    """Fit codebooks and codes to a matrix by weighted k-means, part by part.

    Parameters
    ----------
    matrix : array (V, D)
        E0.
    parts : int
        m, at most D; part sizes differ by at most one, the larger ones first.
    units : int
        K, at most 65,536; where there are no more words than that, every word is its own centroid.
    weights : array (V,), optional
        f_w, ones when left out.
    seed : int or numpy.random.Generator
    sweeps : int
        Steps of Lloyd's algorithm at most; a part stops where its codes do.

    Returns
    -------
    ProductQuantization
        Its `history` never rises.

    Raises
    ------
    ShapeError
        If matrix is not (V, D), or weights not (V,).
    DataError
        If a number is not finite, parts or units is out of range, sweeps or a weight below 0, or no weight above 0.

    Examples
    --------
    >>> E = np.array([[0., 5.], [1., 5.], [10., 7.], [11., 7.]])
    >>> product_quantize(E, parts=2, units=2).rows([0, 3])
    array([[ 0.5,  5. ],
           [10.5,  7. ]])

    Source: Jegou, Douze, Schmid 2011; weights are ours.
    """
    matrix = check_finite("matrix", check_axes("matrix", matrix, None, None))
    V, D = matrix.shape
    weights = np.ones(V) if weights is None else check_finite("weights", check_axes("weights", weights, V)).astype(float)
    check_at_least("weights", weights.min(initial=0), 0)
    if not weights.any():
        raise DataError("weights: expected at least one above 0, got none")
    for name, value, most in (("parts", parts, D), ("units", units, MOST_UNITS)):
        if not 1 <= value <= most:
            raise DataError(f"{name}: expected 1 to {most}, got {value}")
    check_at_least("sweeps", sweeps, 0)
    rng, books, codes, error = np.random.default_rng(seed), [], np.empty((V, parts), smallest(min(units, V))), 0.0
    for j, part in enumerate(np.array_split(matrix, parts, axis=1)):
        book, codes[:, j], history = k_means(np.array(part, dtype=float), units, weights, rng, sweeps)
        books.append(book)
        error += np.pad(history, (0, sweeps + 1 - len(history)), mode="edge")  # (sweeps + 1,)
    norm = weights @ np.square(matrix, dtype=float).sum(1) or 1.0
    return ProductQuantization(books, codes, (error / norm).tolist())


def k_means(points, units, weights, rng, sweeps):
    """Weighted k-means: minimise sum_w f_w ||x_w - C[i_w]||^2 by turns over C and i.

    A sweep puts every centroid at the weighted mean of its rows, gives each centroid without any weight one of the rows
    that are worst off, and moves rows to a centroid that is nearer. Each of the three can only lower the objective.
    Points (V, d) -> centroids (K, d), K = min(units, V), codes (V,), and the objective before the first sweep and after each.

    Source: Lloyd 1982; the start is k-means++, Arthur and Vassilvitskii 2007.
    """
    if len(points) <= units:
        return points, np.arange(len(points)), [0.0]
    book = spread_points(points, units, weights, rng)  # (K, d)
    codes = nearest(points, book)  # (V,)
    history = [float(weights @ _errors(points, book, codes))]
    for _ in range(sweeps):
        before = codes.copy()
        book = centroids(points, codes, weights, book)  # (K, d)
        _occupy(points, codes, weights, book)
        codes = _nearer(points, book, codes)  # (V,)
        history.append(float(weights @ _errors(points, book, codes)))
        if np.array_equal(codes, before):
            break
    return book, codes, history


def spread_points(points, units, weights, rng):
    """K rows as the first centroids, one after the other, each with probability f_w * (squared distance to the nearest so far).

    Where all distances are zero, rows have fewer than K different values; any row will do then.

    Source: k-means++, Arthur and Vassilvitskii 2007; the weights are ours.
    """
    columns = np.ascontiguousarray(points.T)  # (d, V): the sum over columns then runs along memory
    distance, chosen = np.full(len(points), np.inf), []
    chance = weights
    for _ in range(units):
        total = np.cumsum(chance if chance.any() else weights)  # (V,)
        row = min(np.searchsorted(total, rng.random() * total[-1], side="right"), len(points) - 1)
        chosen.append(row)
        new = sum((column - value) ** 2 for column, value in zip(columns, points[row]))  # (V,)
        np.minimum(distance, new, out=distance)
        chance = weights * distance  # (V,)
    return points[chosen]  # (K, d)


def nearest(points, book):
    """argmin_i ||x_w - C_i||^2 = argmin_i ||C_i||^2 - 2 x_w . C_i, one matrix product a block of rows.

    Points (V, d), book (K, d) -> codes (V,). In float32, about the middle of the centroids and in units of their spread: large
    means and scales must not eat its digits. Centroids much closer to each other than to an outlier can still be confused.

    Examples
    --------
    >>> nearest(np.array([[0.2], [0.9]]), np.array([[1.], [0.]]))
    array([1, 0])

    Source: ours.
    """
    middle = book.mean(0)
    scale = np.abs(book - middle).max() or 1.0
    C = (book - middle) / scale  # (K, d)
    right = np.concatenate([-2 * C, (C**2).sum(1, keepdims=True)], axis=1).T.astype(np.float32)  # (d + 1, K)
    codes, step = np.empty(len(points), dtype=np.int64), max(1, BLOCK // len(book))
    for start in range(0, len(points), step):
        x = (points[start : start + step] - middle) / scale  # (W, d)
        left = np.concatenate([x, np.ones((len(x), 1))], axis=1).astype(np.float32)  # (W, d + 1)
        codes[start : start + step] = (left @ right).argmin(1)  # (W, K) -> (W,)
    return codes


def centroids(points, codes, weights, book):
    """C_i = sum_{w: i_w = i} f_w x_w / sum_{w: i_w = i} f_w; the row of `book` where that is 0 / 0.

    Examples
    --------
    >>> centroids(np.array([[0.], [4.]]), np.array([0, 0]), np.array([3., 1.]), np.array([[9.], [8.]]))
    array([[1.],
           [8.]])

    Source: Lloyd 1982.
    """
    K = len(book)
    total = np.bincount(codes, weights, K)[:, None]  # (K, 1)
    sums = np.stack([np.bincount(codes, weights * column, K) for column in points.T], axis=1)  # (K, d)
    return np.where(total > 0, sums / np.where(total > 0, total, 1), book)  # (K, d)


def _occupy(points, codes, weights, book):
    """In place: a centroid without any weight moves to a row of the largest weighted error, no two to the same row."""
    empty = np.flatnonzero(np.bincount(codes, weights, len(book)) == 0)
    if not len(empty):
        return
    cost = weights * _errors(points, book, codes)  # (V,)
    worst = np.argsort(-cost, kind="stable")[: len(empty)]
    worst = worst[cost[worst] > 0]
    codes[worst] = empty[: len(worst)]
    book[empty[: len(worst)]] = points[worst]


def _nearer(points, book, codes):
    """The nearest centroids, but the old one unless the new is nearer in float64: rounding must not raise the objective."""
    new = nearest(points, book)  # (V,)
    return np.where(_errors(points, book, new) < _errors(points, book, codes), new, codes)


def _errors(points, book, codes):
    return ((points - book[codes]) ** 2).sum(1)  # (V,)


def plan(vocabulary, dimension, ratio, units=256):
    """The finest cut of the columns whose bytes stay within those of the dense matrix over `ratio`.

    The largest m <= D with  4 K D + V m <= 4 V D / ratio. Where codebooks of `units` centroids leave no room for one code a word,
    K is halved until they do, down to 2; codes stay one byte each.

    Parameters
    ----------
    vocabulary, dimension, units : int
        V, D; K at most, 2 to 256.
    ratio : float
        Of bytes, codes included: at 4 bytes a float the codes are most of what is kept.

    Returns
    -------
    (int, int): m and K

    Raises
    ------
    DataError
        If units is out of range, or the ratio is below 1 or beyond the largest, which has one part and the fewest centroids.

    Examples
    --------
    >>> plan(30522, 384, 10)                       # 4 * 256 * 384 + 30522 * 140 <= 4 * 30522 * 384 / 10
    (140, 256)
    >>> plan(4000, 192, 40)
    (6, 64)

    Source: ours.
    """
    if not 2 <= units <= 256:
        raise DataError(f"units: expected 2 to 256, got {units}")
    dense = 4 * vocabulary * dimension
    fewest = units >> (int(units).bit_length() - 2)  # 2 or 3: as far as units can be halved
    check_ratio(ratio, dense / (4 * fewest * dimension + vocabulary), "product quantization")
    while units > fewest and 4 * units * dimension + vocabulary > dense / ratio:
        units //= 2
    parts = int((dense / ratio - 4 * units * dimension) // vocabulary)
    return max(1, min(dimension, parts)), units  # 1 at the largest ratio, whatever the rounding
