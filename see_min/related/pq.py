"""Product quantization: every row as m codes, one for each part of its columns.

    minimise  sum_w f_w ||E0[w] - (C_1[i_w1], C_2[i_w2], ..., C_m[i_wm])||^2
    K D parameters, V m codes

What a practitioner tries first. Rows are cut into m parts of D_1 + ... + D_m = D columns, and part
j has a codebook C_j of K centroids. The objective is a sum over parts, so each is a weighted
k-means of its own, which faiss solves. A code takes one byte, and nearly all of what is kept are
codes. The parts of a row stand side by side, where leaves are multiplied and added up.

Source: Jegou, Douze, Schmid 2011, section II. Simplified: no rotation of the columns before the
cut, no entropy coding. Ours: row weights; the ratio is met in bytes, codes included.
"""

from dataclasses import dataclass

import numpy as np

from see_min.budget import check_ratio
from see_min.encoding import smallest
from see_min.errors import InputError, check_at_least, check_axes, check_finite, check_ids, require

SWEEPS = 25


@dataclass
class ProductQuantization:
    """E (V, D) as m codebooks (K, D_j) and codes (V, m): E[w] = (C_1[i_w1], ..., C_m[i_wm]).

    Examples
    --------
    >>> codes = np.array([[0, 1], [1, 1]], dtype=np.uint8)
    >>> two = ProductQuantization([np.array([[1., 2.], [3., 4.]]), np.array([[5.], [6.]])], codes)
    >>> two.rows([1])
    array([[3., 4., 6.]])
    >>> two.parameters, two.index_bytes, two.shape
    (6, 4, (2, 3))
    """

    codebooks: list
    codes: np.ndarray

    def __post_init__(self):
        check_axes("codes", self.codes, None, len(self.codebooks))
        for j, book in enumerate(self.codebooks):
            check_finite(f"codebooks[{j}]", check_axes(f"codebooks[{j}]", book, None, None))
            check_ids(f"codes[:, {j}]", self.codes[:, j], len(book))

    @property
    def shape(self):
        """(V, D)."""
        return len(self.codes), sum(book.shape[1] for book in self.codebooks)

    @property
    def parameters(self):
        """K D: the codebooks."""
        return sum(book.size for book in self.codebooks)

    @property
    def index_bytes(self):
        """V m, for codes of one byte."""
        return self.codes.nbytes

    def rows(self, ids):
        """Embeddings of words, ids (...) -> (..., D)."""
        codes = self.codes[check_ids("ids", ids, len(self.codes))]  # (..., m)
        parts = [book[codes[..., j]] for j, book in enumerate(self.codebooks)]  # (..., D_j) each
        return np.concatenate(parts, axis=-1)  # (..., D)


def fit(matrix, ratio, weights=None, seed=0):
    """`product_quantize` with the parts and centroids that `plan` finds for a ratio of bytes."""
    return product_quantize(matrix, *plan(*np.shape(matrix), ratio), weights, seed)


def product_quantize(matrix, parts, units=256, weights=None, seed=0, sweeps=SWEEPS):
    """Codebooks and codes by weighted k-means, part by part.

    Parameters
    ----------
    matrix : array (V, D)
    parts : int
        m, at most D; sizes differ by at most one.
    units : int
        K, at most 65,536; where there are no more words than that, each is its own centroid.
    weights : array (V,), optional
        f_w, ones when left out.
    seed, sweeps : int

    Examples
    --------
    >>> E = np.array([[0., 5.], [1., 5.], [10., 7.], [11., 7.]])
    >>> product_quantize(E, parts=2, units=2).rows([0, 3]).round(5)
    array([[ 0.5,  5. ],
           [10.5,  7. ]])
    """
    matrix = check_finite("matrix", check_axes("matrix", matrix, None, None))
    V, D = matrix.shape
    weights = np.ones(V) if weights is None else check_axes("weights", weights, V)
    check_at_least("weights", check_finite("weights", weights).min(initial=0), 0)
    for name, value, most in (("parts", parts, D), ("units", units, 2**16)):
        if not 1 <= value <= most:
            raise InputError(f"{name}: expected 1 to {most}, got {value}")
    books, codes = [], np.empty((V, parts), smallest(min(units, V)))
    for j, part in enumerate(np.array_split(matrix, parts, axis=1)):  # (V, D_j)
        book, codes[:, j] = k_means(np.array(part, dtype=float), units, weights, seed, sweeps)
        books.append(book)
    return ProductQuantization(books, codes)


def k_means(points, units, weights, seed=0, sweeps=SWEEPS):
    """Weighted k-means of points (V, d): centroids (K, d), K = min(units, V), and codes (V,).

    faiss counts in float32, so it sees the points about their mean and in units of their spread.
    """
    if len(points) <= units:
        return points, np.arange(len(points))
    faiss = require("faiss", "pip install faiss-cpu")
    mean, scale = points.mean(0), points.std() or 1.0  # (d,)
    d = points.shape[1]
    near = np.zeros((len(points), max(d, 8)), dtype=np.float32)
    near[:, :d] = (points - mean) / scale  # zeros change no distance; below 8 columns faiss is slow
    options = {"niter": sweeps, "seed": seed + 1, "min_points_per_centroid": 1}
    options["max_points_per_centroid"] = len(points)  # no sampling: all rows count
    options["init_method"] = faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS
    means = faiss.Kmeans(near.shape[1], units, **options)
    means.train(near, weights=np.asarray(weights, dtype=np.float32))
    codes = means.index.search(near, 1)[1][:, 0]  # (V,)
    book = means.centroids[:, :d].astype(float) * scale + mean  # (K, d)
    total = np.bincount(codes, weights, units)[:, None]  # (K, 1): means in double precision
    sums = np.stack([np.bincount(codes, weights * x, units) for x in points.T], axis=1)  # (K, d)
    return np.where(total > 0, sums / np.where(total > 0, total, 1), book), codes


def plan(vocabulary, dimension, ratio, units=256):
    """(m, K): the finest cut of the columns whose bytes are at most the matrix's over `ratio`.

    The largest m <= D with 4 K D + V m <= 4 V D / ratio. Where `units` centroids leave no room for
    one code per word, K is halved until they do, down to 2.

    Examples
    --------
    >>> plan(30522, 384, 10)              # 4 * 256 * 384 + 30522 * 140 <= 4 * 30522 * 384 / 10
    (140, 256)
    >>> plan(4000, 192, 40)
    (6, 64)
    """
    if not 2 <= units <= 256:
        raise InputError(f"units: expected 2 to 256, got {units}")
    dense = 4 * vocabulary * dimension
    fewest = units >> (int(units).bit_length() - 2)  # 2 or 3: as far as units can be halved
    check_ratio(ratio, dense / (4 * fewest * dimension + vocabulary), "product quantization")
    while units > fewest and 4 * units * dimension + vocabulary > dense / ratio:
        units //= 2
    parts = int((dense / ratio - 4 * units * dimension) // vocabulary)
    return max(1, min(dimension, parts)), units  # 1 at the largest ratio, whatever the rounding
