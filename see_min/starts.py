"""Quantizers as starts of a fit: product, optimized product, residual and group quantization.

    E[w] = ( sum_{u in bag(w)} b_u  +  sum_{k=1..r} a_k (x) T[i_wk, k] ) @ P

All four have one unit a_k in slot 1 of term k, so that slot carries no information. With r = q_1
and a_k the unit vector e_k, term k fills block k of the row: product quantization; a rotation in P
makes it *optimized* product quantization; q_1 = 1 gives residual (additive) quantization; r > q_1,
several terms per block, gives group residual quantization. The fit then frees the a_k.
"""

import numpy as np

from see_min.encoding import BLOCK, SememeEncoding, private_units, row_blocks
from see_min.errors import InputError, check_axes, check_finite
from see_min.fitting import bag_solver, polar, project, second_moments

SWEEPS, FEW = 12, 4  # of k-means, the second where a start is known or soon forgotten
ROUNDS = 12  # of projection and k-means in turn


def metric_roots(metric, mix):
    """S = (mix C + (1 - mix) I)^(1/2) and its inverse, (D, D) each; C scaled to the trace of I.

    An error e of a row costs e C e^T where the row meets states h with C = mean of h h^T, and
    |e S|^2 = mix e C e^T + (1 - mix) |e|^2. So a fit of E0 S without a metric is a fit of E0 with
    one, and P S^-1 takes the rows back.

    Raises InputError for a metric that is no symmetric matrix of positive trace, or mix outside
    0 to below 1.

    >>> S, inverse = metric_roots(np.diag([4.0, 0.0]), 0.5)
    >>> (S @ S).round(6).tolist()
    [[1.5, 0.0], [0.0, 0.5]]
    """
    D = len(metric)
    C = check_finite("metric", check_axes("metric", metric, D, D)).astype(float)
    if np.trace(C) <= 0:
        raise InputError(f"metric: expected a trace above 0, got {np.trace(C):g}")
    if np.abs(C - C.T).max() > 1e-6 * np.trace(C):
        raise InputError(f"metric: expected C = C^T, got {np.abs(C - C.T).max():.2g} off")
    if not 0 <= mix < 1:
        raise InputError(f"mix: expected 0 to below 1, got {mix}")
    values, vectors = np.linalg.eigh(mix * D / np.trace(C) * C + (1 - mix) * np.eye(D))
    roots = np.sqrt(np.maximum(values, (1 - mix) / 2))  # below 0 by rounding errors alone
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T


def mapped(matrix, S):
    """E0 S, in float32 if E0 is; what is mapped from a file is not read whole."""
    if isinstance(matrix, np.memmap):
        return Mapped(matrix, S)
    return (matrix @ S).astype(np.float32 if matrix.dtype == np.float32 else float)


class Mapped:
    """E0 S, a block of rows at a time: E0 may be a file larger than memory."""

    def __init__(self, matrix, S):
        self.matrix, self.S, self.shape = matrix, S, (matrix.shape[0], S.shape[1])

    def __len__(self):
        return len(self.matrix)

    def __getitem__(self, words):
        return np.asarray(self.matrix[words], dtype=float) @ self.S  # (W, D)


def quantizer_encoding(matrix, units, plan, P, weights, seed=0, rounds=ROUNDS):
    """The encoding that k-means per block gives, for entries of variance 1: the start of a fit.

    Term k quantizes what terms before it leave of block k mod q_1. P is first `turned`, unless
    there are no rounds; without a P the blocks are those of the columns, in order. Words with a
    private vector have no other part in it; known units first get the vectors that explain most of
    the rows.
    """
    rng, private = np.random.default_rng(seed), private_units(units.bag)[0]
    words = np.setdiff1d(np.arange(len(matrix)), private)  # (N,)
    (g, q), r, U = plan.sizes, plan.rank, plan.slot_units
    f = weights[words] if weights[words].any() else np.ones(len(words))
    share = f.mean() if len(f) else 1.0
    f, moments = f / share, second_moments(matrix, private, weights / share)  # (N,), (D, D)
    M = units.bag[words] if plan.knowledge and len(words) else None  # (N, all units)
    books = [None] * g
    if rounds and P is not None and len(words):
        P, books = turned(matrix, words, f, P, g, U, rng, M, moments, rounds)
    squares = sum((project(matrix, words[b]) ** 2).sum() for b in row_blocks(len(words), BLOCK))
    scale = float(np.sqrt(squares / max(1, len(words) * matrix.shape[1]))) or 1.0
    X = projected(matrix, words, P) / scale  # (N, d')
    vectors = None if units.bag is None else np.zeros((units.bag.shape[1], g * q))
    if M is not None:
        vectors = known_vectors(M, f)(X)
        X -= M @ vectors
    first, T = np.zeros((1, r, g)), np.zeros((U, r, q))
    index = units.index.copy()  # (V, r, 2)
    for k in range(r):
        first[0, k, k % g] = 1
        part = X[:, k % g * q : (k % g + 1) * q]  # (N, q), a view
        book = books[k] / scale if k < g and books[k] is not None else None  # (U, q)
        book, codes = k_means(part, f, U, rng, SWEEPS if book is None else FEW, book)
        T[: len(book), k], index[words, k, 1] = book, codes
        part -= book[codes]
    names = {"slot_names": units.slot_names, "bag_names": units.bag_names}
    vectors = None if vectors is None else vectors * scale
    return SememeEncoding([first, T], index, P, units.bag, vectors, **names)


def known_vectors(M, f):
    """X (N, d') -> vectors (U, d') of known units whose sums, M (N, U) times them, are nearest."""
    return bag_solver(M, f, ridge=0.5)


def k_means(points, f, units, rng, sweeps=SWEEPS, book=None):
    """Weighted k-means: centroids (K, q), K = min(units, N), and codes (N,); `book` is a start."""
    N = len(points)
    if N <= units:
        return points.copy(), np.arange(N)
    if book is None:
        share = f / f.sum()
        start = rng.choice(N, units, replace=False, p=share if np.all(share > 0) else None)
        book = points[start].copy()  # (U, q)
    for _ in range(sweeps):
        codes = nearest(points, book)  # (N,)
        book, empty = centroids(points, f, codes, book)
        if empty.any():  # a code nobody uses moves to a point that is badly served
            off = f * ((points - book[codes]) ** 2).sum(1)  # (N,)
            if off.sum() > 0:
                book[empty] = points[rng.choice(N, empty.sum(), p=off / off.sum())]
    codes = nearest(points, book)
    return centroids(points, f, codes, book)[0], codes


def nearest(points, book):
    """The number of the centroid (K, q) that is nearest to each point (N, q).

    In single precision and blocks that stay in a core's cache: ten times as fast.
    """
    codes = np.empty(len(points), dtype=np.int64)  # (N,)
    points, turned = points.astype(np.float32), (-2 * book.T).astype(np.float32)  # (q, K)
    squares = (book**2).sum(1).astype(np.float32)  # (K,)
    for block in row_blocks(len(points), 1024):
        distances = points[block] @ turned  # (W, K), but for |x|^2
        distances += squares
        codes[block] = distances.argmin(1)
    return codes


def centroids(points, f, codes, book):
    """Weighted means (K, q) of the points of each code; an unused code keeps its centroid."""
    total = np.bincount(codes, f, len(book))  # (K,)
    sums = np.stack([np.bincount(codes, f * x, len(book)) for x in points.T], axis=1)  # (K, q)
    empty = total == 0
    return np.where(empty[:, None], book, sums / np.where(empty, 1, total)[:, None]), empty


def turned(matrix, words, f, P, blocks, units, rng, M=None, moments=None, rounds=ROUNDS):
    """P (d', D) and a book per block, for optimized product quantization: Ge, He, Ke, Sun 2013.

    It starts from principal directions, given to the blocks so that the products of their variances
    are alike. Then rows are projected and quantized, and P = A B^T of the SVD A s B^T = Y^T F E0
    turns to the quantized rows Y, in turn: inside the span of P and, where d' < D, the span itself.
    Known units, M (N, U), get vectors first. `moments` (D, D) are those of words that no code
    serves: what P leaves of them counts, too.
    """
    X, q = projected(matrix, words, P), len(P) // blocks  # (N, d')
    values, vectors = np.linalg.eigh((X * f[:, None]).T @ X)  # ascending
    logs = np.log(np.maximum(values[::-1], 1e-12 * max(values[-1], 1e-300)))
    dealt, total = [[] for _ in range(blocks)], np.zeros(blocks)
    for i in range(len(P)):
        j = min((j for j in range(blocks) if len(dealt[j]) < q), key=lambda j: total[j])
        dealt[j].append(i)
        total[j] += logs[i] - logs[-1]
    P = vectors[:, ::-1][:, sum(dealt, [])].T @ P  # (d', D)
    books, nearest_known = [None] * blocks, None if M is None else known_vectors(M, f)
    for _ in range(rounds if blocks > 1 else 0):  # residual quantization sees distances alone
        Y = projected(matrix, words, P)  # (N, d')
        known = 0.0 if M is None else M @ nearest_known(Y)  # (N, d')
        Y -= known
        for j in range(blocks):
            part = Y[:, j * q : (j + 1) * q]  # (N, q), a view
            if books[j] is None:
                books[j], codes = k_means(part, f, units, rng, FEW)
            else:
                codes = nearest(part, books[j])
                books[j] = centroids(part, f, codes, books[j])[0]
            part[:] = books[j][codes]
        Y += known
        Q = 0.0 if moments is None else P @ moments  # (d', D)
        for block in row_blocks(len(words), BLOCK):
            Q = Q + (f[block, None] * Y[block]).T @ project(matrix, words[block])
        P = polar(Q)
    return P, books


def projected(matrix, words, P):
    """E0[words] P^T (N, d'), or E0[words] (N, D), a block of rows at a time."""
    X = np.empty((len(words), matrix.shape[1] if P is None else len(P)))
    for block in row_blocks(len(words), BLOCK):
        X[block] = project(matrix, words[block], P)
    return X
