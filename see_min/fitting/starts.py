"""Quantizers as starts of a fit: product, optimized product, residual and group quantization.

    E[w] = ( sum_{u in bag(w)} b_u  +  sum_{k=1..r} a_k (x) T[i_wk, k] ) @ P

All four have one unit a_k in slot 1 of term k, so that slot carries no information. With r = q_1
and a_k the unit vector e_k, term k fills block k of the row: product quantization; a rotation in P
makes it *optimized* product quantization; q_1 = 1 gives residual (additive) quantization; r > q_1,
several terms per block, gives group residual quantization. The fit then frees the a_k.

A unit that a share p_u of the words has takes -log2 p_u bits in a file. So a bit has a price, and a
word takes the unit u of

    least  f_w |x_w - c_u|^2 + price * (-log2 p_u)

where frequent words pay for long codes and rare ones take what is cheap: entropy-constrained vector
quantization (Chou, Lookabaugh, Gray 1989). The price is that at which codes are as long as planned.
"""

import numpy as np

from see_min.encoding import BLOCK, SememeEncoding, private_units, row_blocks
from see_min.errors import InputError, check_axes, check_finite
from see_min.fitting.least_squares import bag_solver, polar, project, second_moments
from see_min.storage.codes import bits_per_code, code_bits, code_lengths

SWEEPS, FEW = 12, 4  # of k-means, the second where a start is known or soon forgotten
ROUNDS = 12  # of projection and k-means in turn
AHEAD = 2  # rounds by which codes follow their price
TINY = np.finfo(np.float32).tiny


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
    """The encoding that k-means per block gives, and the price of a bit: the start of a fit.

    Both are for entries of variance 1. Term k quantizes what terms before it leave of block k mod
    q_1. Books are first learned by `turned`, unless there are no rounds; without a P the blocks are
    those of the columns, in order. Words with a private vector have no other part in it; known
    units first get the vectors that explain most of the rows.
    """
    rng, private = np.random.default_rng(seed), private_units(units.bag)[0]
    words = np.setdiff1d(np.arange(len(matrix)), private)  # (N,)
    (g, q), r, U = plan.sizes, plan.rank, plan.slot_units
    f = weights[words] if weights[words].any() else np.ones(len(words))
    share = f.mean() if len(f) else 1.0
    f, moments = f / share, second_moments(matrix, private, weights / share)  # (N,), (D, D)
    M = units.bag[words] if plan.knowledge and len(words) else None  # (N, all units)
    books, price = [(None, None)] * g, 0.0
    if rounds and len(words) and P is not None:
        target = plan.rate * code_bits(U) if plan.rate < 1 else None
        P, books, price = turned(matrix, words, f, P, g, U, rng, M, moments, rounds, target)
    squares = sum((project(matrix, words[b]) ** 2).sum() for b in row_blocks(len(words), BLOCK))
    scale = float(np.sqrt(squares / max(1, len(words) * matrix.shape[1]))) or 1.0
    X, price = projected(matrix, words, P) / scale, price / scale**2  # (N, d')
    vectors = None if units.bag is None else np.zeros((units.bag.shape[1], g * q))
    if M is not None:
        vectors = known_vectors(M, f)(X)
        X -= M @ vectors
    first, T = np.zeros((1, r, g)), np.zeros((U, r, q))
    index = units.index.copy()  # (V, r, 2)
    for k in range(r):
        first[0, k, k % g] = 1
        part = X[:, k % g * q : (k % g + 1) * q]  # (N, q), a view
        book, codes = books[k] if k < g else (None, None)
        sweeps = SWEEPS if book is None else 1 if price else FEW  # priced codes shrink on
        book = None if book is None else book / scale  # (U, q)
        book, codes = k_means(part, f, U, rng, sweeps, book, codes, price)
        T[: len(book), k], index[words, k, 1] = book, codes
        part -= book[codes]
    names = {"slot_names": units.slot_names, "bag_names": units.bag_names}
    vectors = None if vectors is None else vectors * scale
    return SememeEncoding([first, T], index, P, units.bag, vectors, **names), price


def known_vectors(M, f):
    """X (N, d') -> vectors (U, d') of known units whose sums, M (N, U) times them, are nearest."""
    return bag_solver(M, f, ridge=0.5)


def k_means(points, f, units, rng, sweeps=SWEEPS, book=None, codes=None, price=0.0):
    """Weighted k-means: centroids (K, q), K = min(units, N), and codes (N,).

    `book` is a start, and so are its `codes`, by which a bit costs `price`.
    """
    N = len(points)
    if N <= units:
        return points.copy(), np.arange(N)
    if book is None:
        share = f / f.sum()
        start = rng.choice(N, units, replace=False, p=share if np.all(share > 0) else None)
        book = points[start].copy()  # (U, q)
    for _ in range(sweeps):
        codes = nearest(points, book, f, codes, price)  # (N,)
        book, empty = centroids(points, f, codes, book)
        if empty.any() and not price:  # a code nobody uses moves to a point that is badly served
            off = f * ((points - book[codes]) ** 2).sum(1)  # (N,)
            if off.sum() > 0:
                book[empty] = points[rng.choice(N, empty.sum(), p=off / off.sum())]
    codes = nearest(points, book, f, codes, price)
    return centroids(points, f, codes, book)[0], codes


def nearest(points, book, f=None, codes=None, price=0.0):
    """The number of the centroid (K, q) that is nearest to each point (N, q), or cheapest.

    With a price by the code lengths of the present `codes` (N,). In single precision and blocks
    that stay in a core's cache: ten times as fast.
    """
    found = np.empty(len(points), dtype=np.int64)  # (N,)
    points, turned = points.astype(np.float32), (-2 * book.T).astype(np.float32)  # (q, K)
    squares = (book**2).sum(1).astype(np.float32)  # (K,)
    if price and codes is not None:
        lengths = code_lengths(codes, len(book)).astype(np.float32)  # (K,)
        of_bit = (price / np.maximum(f, TINY)).astype(np.float32)  # (N,)
    for block in row_blocks(len(points), 1024):
        distances = points[block] @ turned  # (W, K), but for |x|^2
        distances += squares
        if price and codes is not None:
            distances += of_bit[block, None] * lengths
        found[block] = distances.argmin(1)
    return found


def centroids(points, f, codes, book):
    """Weighted means (K, q) of the points of each code; an unused code keeps its centroid."""
    total = np.bincount(codes, f, len(book))  # (K,)
    sums = np.stack([np.bincount(codes, f * x, len(book)) for x in points.T], axis=1)  # (K, q)
    empty = total == 0
    return np.where(empty[:, None], book, sums / np.where(empty, 1, total)[:, None]), empty


def turned(
    matrix, words, f, P, blocks, units, rng, M=None, moments=None, rounds=ROUNDS, target=None
):  # fmt: skip
    """P (d', D), (book, codes) per block, price: optimized product quantization (Ge et al. 2013).

    It starts from principal directions, given to the blocks so that the products of their variances
    are alike. Then rows are projected and quantized, and P = A B^T of the SVD A s B^T = Y^T F E0
    turns to the quantized rows Y, in turn: inside the span of P and, where d' < D, the span itself.
    Known units, M (N, U), get vectors first. `moments` (D, D) are those of words that no code
    serves: what P leaves of them counts, too.

    `target` bits per code in a file: the price begins at half of what a bit saves in theory,
    2 ln 2 / q of the error, as rare words pay less, and moves until codes are as long. A bit more
    divides the error by 4^(1/q), and so the price; codes follow it over some rounds, so that what
    counts is where they are heading.
    """
    q = len(P) // blocks
    P = dealt(projected(matrix, words, P), f, blocks, q) @ P  # (d', D)
    nearest_known = None if M is None else known_vectors(M, f)
    books, price, last = [(None, None)] * blocks, None, None
    for _ in range(rounds if blocks > 1 or target else 0):  # else distances are all that counts
        Y, error = projected(matrix, words, P), 0.0  # (N, d')
        known = 0.0 if M is None else M @ nearest_known(Y)  # (N, d')
        Y -= known
        for j, (book, codes) in enumerate(books):
            part = Y[:, j * q : (j + 1) * q]  # (N, q), a view
            if book is None:
                book, codes = k_means(part, f, units, rng, FEW)
            else:
                codes = nearest(part, book, f, codes, price or 0.0)
                book = centroids(part, f, codes, book)[0]
            books[j] = book, codes
            error += f @ ((part - book[codes]) ** 2).sum(1) / len(words) / blocks
            part[:] = book[codes]
        if target is not None:
            bits = bits_per_code(np.stack([codes for _, codes in books], axis=1), units)
            over = bits + AHEAD * (bits - (last or bits)) - target
            price = np.log(2) / q * error if price is None else price * 4 ** (over / q)
            last = bits
        Y += known
        Q = 0.0 if moments is None else P @ moments  # (d', D)
        for block in row_blocks(len(words), BLOCK):
            Q = Q + (f[block, None] * Y[block]).T @ project(matrix, words[block])
        P = polar(Q)
    return P, books, price or 0.0


def dealt(X, f, blocks, q):
    """Principal directions (d', d') of X (N, d'), dealt to blocks of like products of variances."""
    values, vectors = np.linalg.eigh((X * f[:, None]).T @ X)  # ascending
    logs = np.log(np.maximum(values[::-1], 1e-12 * max(values[-1], 1e-300)))
    places, total = [[] for _ in range(blocks)], np.zeros(blocks)
    for i in range(len(logs)):
        j = min((j for j in range(blocks) if len(places[j]) < q), key=lambda j: total[j])
        places[j].append(i)
        total[j] += logs[i] - logs[-1]
    return vectors[:, ::-1][:, sum(places, [])].T  # (d', d')


def projected(matrix, words, P):
    """E0[words] P^T (N, d'), or E0[words] (N, D), a block of rows at a time."""
    X = np.empty((len(words), matrix.shape[1] if P is None else len(P)))
    for block in row_blocks(len(words), BLOCK):
        X[block] = project(matrix, words[block], P)
    return X
