"""Quantizers of rows: the strong opponents of `see`, at equal bytes and each at its best.

    minimise  sum_w f_w ||E0[w] - E[w]||^2,   E[w] = ( sum_{k=1..r} a_k (x) T[i_wk, k] ) @ P
    r U q + r g + d' D parameters in the bits of `see`, r log2 U bits of codes per word

They are corners of a SememeEncoding: a_k = e_j says that term k belongs to block j of g. `pq`:
a term per block and no P; `opq`: a term per block, P turned to what is quantized, or `pq` itself;
`rq` and `lsq`: one block, so all terms are added, codes by beam search or by local search; `prq`:
some terms in each of a few blocks. All but `pq` give frequent words vectors of their own.
`svd-int8` and `svd-int4` are order 1, a row per word times P. `int8` and `int4` are no encodings:
rows as whole numbers with a step each.

Source: pq Jegou, Douze, Schmid 2011; opq Ge, He, Ke, Sun 2013; rq Chen, Guan, Wang 2010; prq
Babenko and Lempitsky 2015; lsq Martinez et al. 2018; svd Eckart and Young 1936. Ours: the
projection, the private vectors, row weights (faiss takes none: it learns from rows drawn in
proportion to them, then books are weighted means), the metric, books of few bits, and the ratio
met in bytes, by the best of a small grid.
"""

from dataclasses import dataclass, replace
from math import ceil, sqrt

import numpy as np
import scipy.sparse

from see_min.encoding import BLOCK, SememeEncoding, row_blocks
from see_min.errors import InputError, check_at_least, check_axes, check_ids, check_shape, require
from see_min.fitting import least_squares, starts
from see_min.recipe import MIX, PROJECTION_POWER
from see_min.storage.budget import Plan, check_ratio, default_bits, with_private
from see_min.storage.codes import code_bits
from see_min.storage.encodings import rounded
from see_min.units import Units

# (blocks, units, d' in units of D / sqrt(ratio), share of private vectors); no blocks: one per term
GRID = {
    "pq": [(None, units, None, 0.0) for units in (256, 128, 64, 32, 16)],
    "opq": [(None, 256, *one) for one in ((2.8, 0.0), (4.0, 0.0), (3.2, 0.11), (2.8, 0.4))],
    "rq": [(1, 256, 2.4, 0.0), (1, 64, 2.4, 0.0), (1, 64, 4.0, 0.0), (1, 64, 3.2, 0.11)],
    "prq": [(4, 256, 2.4, 0.0), (4, 256, 4.0, 0.0), (2, 64, 3.2, 0.0), (4, 256, 3.2, 0.11)],
}
GRID["opq"] += GRID["pq"]  # but in a metric, whose root needs a P to go back in
GRID["lsq"] = GRID["rq"]  # of which it takes the one that is best for rq
FACTORS = {"svd-int8": 8, "svd-int4": 4}  # bits
ROWS = {"int8": 8, "int4": 4}
BEAM, ROUNDS = 8, 2  # of the search for codes; of books and codes in turn
LUT = 4096  # centroids at most for which faiss keeps the products of all pairs
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6)  # of the largest entry of a row: int4 is better without outliers


def plan(vocabulary, dimension, ratio, method="opq", bits=None):
    """What `fit` tries: a list of Plan; for factors their rank, for int8 and int4 the bits.

    InputError for a ratio or method that there is not.

    >>> [(one.sizes, one.rank, one.private) for one in plan(30522, 384, 80)][:2]
    [((17, 7), 17, 69), ((16, 11), 16, 69)]
    """
    V, D, dense = vocabulary, dimension, 4 * vocabulary * dimension
    bits = default_bits(ratio, bits)  # as many as `see` takes
    if method in ROWS:
        check_ratio(ratio, dense / _bytes_of_rows(V, D, ROWS[method]), f"rows of {method}")
        return ROWS[method]
    if method in FACTORS:
        return _rank(V, D, ratio, FACTORS[method])
    if method not in GRID:
        known = ", ".join((*GRID, *FACTORS, *ROWS))
        raise InputError(f"method: expected one of {known}, got {method!r}")
    smallest = [_smallest(V, D, width) for _, _, width, _ in GRID[method]]
    check_ratio(ratio, dense / smallest[0].bytes(0, bits), f"the quantizer {method}")
    found = [_plan(least, dense / ratio, bits, *one) for least, one in zip(smallest, GRID[method])
             if least.bytes(0, bits) <= dense / ratio]
    return list(dict.fromkeys(found))


def _rank(V, D, ratio, bits):
    """The largest rank k of factors: ceil(V k b / 8) + ceil(k D b / 8), and 4 (k + 1) of steps."""

    def size(k):
        return ceil(V * k * bits / 8) + ceil(k * D * bits / 8) + 4 * (k + 1)

    dense = 4 * V * D
    check_ratio(ratio, dense / size(1), f"factors of {bits} bits")
    k = min(V, D, int(8 * dense / ratio / (bits * (V + D))))
    while size(k) > dense / ratio:
        k -= 1
    return k


def _smallest(V, D, width):
    """One term of two units: of one direction, or of a whole row where there is no P."""
    sizes = (1, D if width is None else 1)
    return Plan(V, D, sizes, 1, 2, coded=True, projected=width is not None)


def _plan(least, budget, bits, blocks, units, width, share):
    """The most terms within the bytes that private vectors leave; these get what then remains."""
    V, D = least.vocabulary, least.dimension
    inner = D
    if width is not None:
        inner = width * sqrt(budget * D / (4 * V))  # D / sqrt(ratio)
        inner = max(1, min(D, round(inner), int(2 * budget / D / bits)))  # P: a quarter at most
    while units > 2 and units * inner * bits > 2 * budget:
        units //= 2
    while True:
        most = int(8 * budget / V / code_bits(units)) + 1
        if blocks == 1:  # then books take most of the bytes
            most = min(most, int(8 * budget / (bits * units * inner)) + 1)
        for r in range(most, 0, -1):
            g = blocks or min(r, inner)
            q = max(1, min(D // g, round(inner / g)))
            if r % g or (width is None and g * q != D) or g * q < 0.9 * inner:
                continue  # the last: more codes of fewer directions are worse
            one = replace(least, sizes=(g, q), rank=r, slot_units=units)
            if one.bytes(one.private, bits) <= (1 - share) * budget:
                return one if width is None else with_private(one, budget, bits)
        if blocks in (None, 1) and units == 2 and share == 0 and inner == 1:
            return least
        units, share, blocks = max(2, units // 2), 0, blocks and 1
        inner = inner if width is None or units > 2 else max(1, inner * 3 // 4)


def fit(
    matrix, ratio, method="opq", weights=None, seed=0, counts=None, metric=None, mix=MIX, bits=None
):  # fmt: skip
    """The best encoding of a method that takes at most 4 V D / ratio bytes.

    Parameters
    ----------
    matrix : array (V, D), E0; it may be a memory map
    ratio : float, of bytes
    method : str, one of GRID, FACTORS and ROWS
    weights : array (V,), optional, f_w; ones when left out
    seed : int
    counts : array (V,), optional
        For the projection, and for who gets a private vector; the weights when left out.
    metric, mix : as in `see_min.recipe.encode`; for all but pq, int8 and int4
    bits : int, optional, of a parameter of the quantizers; those of `see` when left out

    >>> E = np.random.default_rng(0).standard_normal((400, 32))
    >>> kept = fit(E, 10)
    >>> kept.shape, kept.order, kept.bytes <= 4 * 400 * 32 / 10
    ((400, 32), 2, True)
    """
    matrix = least_squares.check_finite_rows(check_shape("matrix", matrix, None, None))
    V, D = matrix.shape
    check_at_least("seed", seed, 0)
    f = np.ones(V) if weights is None else check_axes("weights", weights, V)
    check_at_least("weights", f.min(initial=0), 0)
    bits = default_bits(ratio, bits)
    plans = plan(V, D, ratio, method, bits)
    if method in ROWS:
        return scale_rows(matrix, plans)
    if method == "pq":
        metric = None
    elif metric is not None and method in GRID:
        plans = [one for one in plans if one.projected]
    task = _Task(matrix, f, counts, metric, mix, seed)
    if method in FACTORS:
        return task.finish(_factors(task.matrix, f, plans), FACTORS[method])
    if method == "lsq" and len(plans) > 1:
        plans = [_best(task, plans, "rq", bits)[1]]
    return _best(task, plans, method, bits)[0]


def _best(task, plans, method, bits):
    """The encoding of lowest weighted error, and its plan."""
    found = [(task.finish(task.quantize(one, method), bits), one) for one in plans]
    return min(found, key=lambda pair: task.error(pair[0])) if len(found) > 1 else found[0]


class _Task:
    """A matrix with its weights, in the coordinates of its metric."""

    def __init__(self, matrix, weights, counts, metric, mix, seed):
        V, D = matrix.shape
        self.matrix, self.f, self.seed, self.S = matrix, weights, seed, None
        if metric is not None:
            self.S, self.inverse = starts.metric_roots(check_shape("metric", metric, D, D), mix)
            self.matrix = starts.mapped(matrix, self.S)
        of_projection, ranked = weights, weights
        if counts is not None:
            ranked = check_axes("counts", counts, V)
            of_projection = least_squares.frequency_weights(ranked, PROJECTION_POWER)
        self.ranked = np.argsort(-ranked, kind="stable")  # row numbers, the most frequent first
        self.P = least_squares.projection(self.matrix, of_projection, D)  # (D, D)

    def quantize(self, one, method):
        """An encoding of the rows in these coordinates."""
        V, private = len(self.matrix), np.sort(self.ranked[: one.private])
        bag = None
        if len(private):
            entries = np.ones(len(private)), (private, np.arange(len(private)))
            bag = scipy.sparse.csr_array(entries, shape=(V, len(private)))
        index = np.zeros((V, one.rank, 2), dtype=np.int64)
        units = Units(index, None, None, None, bag, None)
        P = self.P[: one.inner_dim] if one.projected else None
        if method in ("pq", "opq"):
            start, _ = starts.quantizer_encoding(self.matrix, units, one, P, self.f, self.seed)
            return least_squares.fit(self.matrix, start, self.f, sweeps=0)[0]
        return additive(self.matrix, units, one, P, self.f, self.seed, method)

    def finish(self, encoding, bits):
        """Back to the coordinates of the matrix, as a file of these bits holds it."""
        if self.S is not None:
            encoding = replace(encoding, projection=encoding.projection @ self.inverse)
        return rounded(encoding, bits)

    def error(self, encoding):
        """The weighted error in these coordinates."""
        if self.S is not None:
            encoding = replace(encoding, projection=encoding.projection @ self.S)
        return least_squares.relative_error(self.matrix, encoding, self.f)


def additive(matrix, units, one, P, weights, seed, method):
    """Sums of centroids in each of g blocks, learned and coded by faiss: rq, prq or lsq."""
    rng = np.random.default_rng(seed)
    words = np.setdiff1d(np.arange(len(matrix)), starts.private_units(units.bag)[0])  # (N,)
    (g, q), r, U = one.sizes, one.rank, one.slot_units
    f = weights[words] if weights[words].any() else np.ones(len(words))
    if g > 1 and len(words):
        P, _, _ = starts.turned(matrix, words, f, P, g, U, rng)
    X = starts.projected(matrix, words, P)  # (N, d')
    scale = float(np.sqrt((X**2).mean())) if X.size else 1.0
    X /= scale or 1.0  # faiss counts in float32
    first, T, index = np.zeros((1, r, g)), np.zeros((U, r, q)), units.index.copy()
    first[0, np.arange(r), np.arange(r) % g] = 1
    for j in range(g if len(words) else 0):
        part = np.ascontiguousarray(X[:, j * q : (j + 1) * q], dtype=np.float32)  # (N, q)
        T[:, j::g], index[words, j::g, 1] = faiss_codes(part, f, r // g, U, rng, method)
    encoding = SememeEncoding([first, T * (scale or 1.0)], index, P)
    if units.bag is None:
        return encoding
    encoding = replace(encoding, bag=units.bag, bag_vectors=np.zeros((one.private, len(P))))
    return least_squares._with_private_vectors(matrix, encoding, *starts.private_units(units.bag))


def faiss_codes(points, f, terms, units, rng, method):
    """Books (U, r, q) and codes (N, r) with points (N, q) ~ sum_k book[code_k, k].

    faiss learns from rows drawn in proportion to f; then books are weighted means of what the other
    terms leave, and codes are searched again, as long as that lowers the weighted error.
    """
    faiss = require("faiss", "pip install faiss-cpu")
    quantizer = faiss_quantizer(points.shape[1], terms, units, int(rng.integers(2**31)), method)
    quantizer.train(points[rng.choice(len(points), max(len(points), units), p=f / f.sum())])
    books = faiss.vector_to_array(quantizer.codebooks).reshape(terms, units, -1).astype(float)
    best, least = None, np.inf
    for _ in range(1 + ROUNDS):
        codes = read_codes(quantizer, points, terms, code_bits(units))  # (N, r)
        books = improved_books(points, f, codes, books)
        error = f @ ((points - _decoded(books, codes)) ** 2).sum(1)
        if error >= least:
            break
        best, least = (books, codes), error
        faiss.copy_array_to_vector(books.astype(np.float32).ravel(), quantizer.codebooks)
        if method != "lsq":
            quantizer.max_beam_size = BEAM
            quantizer.compute_codebook_tables()
    return best[0].swapaxes(0, 1), best[1]


def faiss_quantizer(columns, terms, units, seed, method):
    """The additive quantizer of faiss for lsq, else the residual one with a beam."""
    faiss = require("faiss", "pip install faiss-cpu")
    kind = faiss.LocalSearchQuantizer if method == "lsq" else faiss.ResidualQuantizer
    quantizer = kind(columns, terms, code_bits(units))
    if method == "lsq":
        quantizer.random_seed, quantizer.train_iters, quantizer.train_ils_iters = seed, 10, 4
        return quantizer
    quantizer.train_type = faiss.ResidualQuantizer.Train_default
    quantizer.use_beam_LUT = int(terms * units <= LUT)
    quantizer.max_beam_size = 2  # a wide one while learning costs much and helps nothing
    quantizer.cp.seed, quantizer.cp.min_points_per_centroid, quantizer.cp.niter = seed, 1, 15
    return quantizer


def read_codes(quantizer, points, terms, bits):
    """The codes (N, r) of faiss, which packs them with the lowest bit first."""
    packed = np.unpackbits(quantizer.compute_codes(points), axis=1, bitorder="little")
    digits = packed[:, : terms * bits].reshape(len(points), terms, bits)  # (N, r, b)
    return digits.astype(np.int64) @ (1 << np.arange(bits))


def improved_books(points, f, codes, books, passes=2):
    """Books (r, U, q), each the weighted means of what all others leave of the points (N, q)."""
    books, rest = books.copy(), points - _decoded(books, codes)  # (N, q)
    for _ in range(passes):
        for k, book in enumerate(books):
            rest += book[codes[:, k]]
            book[:] = starts.centroids(rest, f, codes[:, k], book)[0]
            rest -= book[codes[:, k]]
    return books


def _decoded(books, codes):
    return sum(book[code] for book, code in zip(books, codes.T))  # (N, q)


def _factors(matrix, f, rank):
    """Weighted SVD; columns of equal range, as a table has one step and P a step per row."""
    encoding = least_squares.low_rank_encoding(matrix, f, rank)
    table = encoding.tables[0]  # (V, 1, k)
    top = np.abs(table).max(axis=(0, 1))  # (k,)
    top = np.where(top > 0, top, 1)
    return replace(encoding, tables=[table / top], projection=encoding.projection * top[:, None])


@dataclass
class ScaledRows:
    """E (V, D) as whole numbers of few bits and a step per row: E[w] = scale step_w q_w.

    >>> kept = scale_rows(np.array([[0.5, -1.0], [20.0, 10.0]]), bits=8)
    >>> kept.rows([1]).round(1).tolist(), kept.bytes
    ([[20.0, 10.1]], 12)
    """

    numbers: np.ndarray
    steps: np.ndarray
    scale: float
    bits: int

    @property
    def shape(self):
        """(V, D)."""
        return self.numbers.shape

    @property
    def parameters(self):
        """V D, and a step per row."""
        return self.numbers.size + len(self.steps)

    @property
    def index_bytes(self):
        """None."""
        return 0

    @property
    def bytes(self):
        """The numbers side by side, two bytes per step, four of the scale."""
        return _bytes_of_rows(*self.shape, self.bits)

    def rows(self, ids):
        """Embeddings of words, ids (...) -> (..., D)."""
        ids = check_ids("ids", ids, len(self.numbers))
        return self.numbers[ids] * (self.scale * self.steps[ids].astype(float))[..., None]


def _bytes_of_rows(V, D, bits):
    return ceil(V * D * bits / 8) + 2 * V + 4


def scale_rows(matrix, bits):
    """Rows (V, D) in `bits` each, every row with the step that is best of those in CLIPS."""
    top, V = 2 ** (bits - 1) - 1, len(matrix)
    largest = np.concatenate(
        [np.abs(np.asarray(matrix[b], dtype=float)).max(1) for b in row_blocks(V, BLOCK)]
    )  # (V,)
    scale = float(largest.max(initial=0)) / top or 1.0
    numbers, steps = np.zeros(matrix.shape, dtype=np.int8), np.zeros(V, dtype=np.float16)
    for block in row_blocks(V, BLOCK):
        rows = np.asarray(matrix[block], dtype=float) / scale  # (W, D)
        best = np.full(len(rows), np.inf)
        for clip in CLIPS:
            step = (clip * largest[block] / scale / top).astype(np.float16)  # (W,)
            s = np.where(step > 0, step, 1).astype(float)[:, None]
            q = np.clip(np.rint(rows / s), -top, top)  # (W, D)
            error = ((rows - q * s) ** 2).sum(1)
            better = error < best
            best[better] = error[better]
            numbers[block][better], steps[block][better] = q[better], s[better, 0]
    return ScaledRows(numbers, steps, scale, bits)
