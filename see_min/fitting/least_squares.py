"""Fit an encoding to a given matrix by weighted alternating least squares.

    minimise  sum_w f_w ||E0[w] - E[w]||^2  +  ridge * (all squared leaves and shared bag vectors)
              + price * (bits of all codes, where a unit of a share p of the words has -log2 p)

With everything frozen but one slot the problem is linear and falls apart into one small system per
unit; bag vectors are one sparse ridge regression. Free words are reassigned to the hash bucket of
least cost, as in k-means; the projection is turned to where the rows are. Every step solves its
part exactly, so the objective can only fall. A word with a private vector needs none of this: that
vector takes whatever the other parts leave, so the word weighs nothing when those are fitted.

Everything goes through the rows a block at a time: the matrix may be a memory map of a file larger
than memory, and what a fit holds of it are the rows (V, d') before the projection.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import scipy.linalg
import scipy.sparse

from see_min.encoding import BLOCK, SememeEncoding, private_units, row_blocks
from see_min.entangle import entangled_rows, kron_rows
from see_min.errors import InputError, check_at_least, check_axes, check_shape
from see_min.storage.codes import code_lengths

SMALLEST = 1e-100  # of the largest number of a matrix; what is above 1 / SMALLEST is refused, too


def frequency_weights(counts, power=0.5):
    """f_w = (count_w + 1)^p, divided by the mean.

    >>> frequency_weights(np.array([0, 8]))
    array([0.5, 1.5])
    """
    weights = (np.asarray(counts, dtype=float) + 1) ** power
    return weights / weights.mean()


def projection(matrix, weights, inner_dim):
    """P (d', D): the top right singular vectors of diag(sqrt(f)) E0 (Eckart and Young 1936)."""
    moments = second_moments(matrix, np.arange(len(matrix)), weights)  # (D, D)
    _, vectors = np.linalg.eigh(moments)  # (D, D), ascending
    return np.ascontiguousarray(vectors[:, ::-1][:, :inner_dim].T)  # (d', D)


def second_moments(matrix, words, weights):
    """sum_w f_w E0[w]^T E0[w] (D, D) over some words; weights (V,) of all."""
    moments = np.zeros((matrix.shape[1], matrix.shape[1]))  # (D, D)
    for block in row_blocks(len(words), BLOCK):
        rows = np.sqrt(weights[words[block], None]) * project(matrix, words[block])  # (W, D)
        moments += rows.T @ rows
    return moments


def polar(Q):
    """A B^T of the SVD Q = A s B^T: of all P (d', D) with P P^T = I, that of largest <P, Q>.

    Source: Schönemann 1966.

    >>> polar(np.array([[0.0, 3.0]])).tolist()
    [[0.0, 1.0]]
    """
    left, _, right = np.linalg.svd(Q, full_matrices=False)
    return left @ right


def low_rank_encoding(matrix, weights, rank):
    """Weighted truncated SVD as a special case: order 1, one term, every word its own unit.

    No matrix of this rank has a smaller weighted error. V r + r D parameters, no index.
    """
    P = projection(matrix, weights, rank)  # (r, D)
    table = np.empty((len(matrix), 1, rank))  # (V, 1, r)
    for block in row_blocks(len(matrix), BLOCK):
        table[block, 0] = project(matrix, block, P)
    return SememeEncoding([table], None, P)


def random_encoding(units, plan, seed, P=None):
    """Random leaves for `units`, such that rows have variance 1: the start of a fit."""
    rng = np.random.default_rng(seed)
    scale = plan.rank ** (-0.5 / len(plan.sizes))  # a sum of r products of n leaves: variance 1
    shapes = [(U, plan.rank, q) for U, q in zip(plan.units, plan.sizes)]
    tables = [scale * rng.standard_normal(shape) for shape in shapes]  # (U, r, q_j) each
    vectors = None if units.bag is None else np.zeros((units.bag.shape[1], plan.inner_dim))
    names = {"slot_names": units.slot_names, "bag_names": units.bag_names}
    return SememeEncoding(tables, units.index.copy(), P, units.bag, vectors, **names)


def fit(
    matrix, encoding, weights=None, units=None, sweeps=20, ridge=0.5, turn=False, price=0.0,
    progress=None,
):  # fmt: skip
    """Alternating least squares from a start.

    Parameters
    ----------
    matrix : array (V, D), E0; it may be a memory map
    encoding : SememeEncoding
        The start, for entries of variance 1 (`random_encoding`); it is not changed. Slots have a
        table each; a projection must have orthonormal rows.
    weights : array (V,), optional, f_w; ones when left out
    units : Units, optional
        If given, free entries of the index are reassigned from the second sweep on.
    sweeps : int
    ridge : float
        For entries of variance 1 and weights of mean 1; it does not hold private vectors back.
    turn : bool
        Whether each sweep ends with a new projection, again with orthonormal rows.
    price : float
        Of a bit of a code, for entries of variance 1 and weights of mean 1.
    progress : callable(sweep, error), optional

    Returns
    -------
    (SememeEncoding, list of float)
        The fitted encoding, and after every step the objective divided by sum_w f_w ||E0[w]||^2; it
        never rises.

    Raises
    ------
    InputError
        If shapes do not fit together, the matrix has NaN or infinity, a weight or the ridge is
        below 0, slots share a table, or the projection is not orthonormal.
    """
    matrix = check_finite_rows(check_shape("matrix", matrix, *encoding.shape))
    weights = np.ones(len(matrix)) if weights is None else weights
    check_at_least("weights", check_axes("weights", weights, len(matrix)).min(), 0)
    _check_start(encoding, ridge)
    words, private = private_units(encoding.bag)
    if len(words) == len(matrix):  # every word has a private vector
        encoding = _with_private_vectors(matrix, encoding, words, private)
        return encoding, [relative_error(matrix, encoding, weights)]
    problem = Problem(matrix, encoding, weights, units, ridge, price)
    for sweep in range(sweeps):
        problem.update_bag()
        for terms in problem.groups:
            problem.update_terms(terms, reassign=units is not None and sweep > 0)
        if turn:
            problem.update_projection()
        if progress:
            progress(sweep, problem.history[-1])
    return _with_private_vectors(matrix, problem.result(), words, private), problem.history


def bag_solver(M, f, ridge):
    """R (V, d') -> (M^T F M + ridge)^-1 M^T F R (U, d'): vectors whose sums are nearest to R."""
    weighted = M.T @ scipy.sparse.diags_array(f)  # (U, V)
    gram = (weighted @ M).toarray()  # (U, U)
    factor = scipy.linalg.cho_factor(gram + _damping(gram, ridge))
    return lambda R: scipy.linalg.cho_solve(factor, weighted @ R)


def relative_error(matrix, encoding, weights=None):
    """sum_w f_w ||E0[w] - E[w]||^2 / sum_w f_w ||E0[w]||^2, computed in blocks of rows."""
    weights = np.ones(len(matrix)) if weights is None else weights
    error = 0.0
    for block in row_blocks(len(matrix), BLOCK):
        off = project(matrix, block) - encoding.rows(np.arange(block.start, block.stop))  # (W, D)
        error += weights[block] @ (off**2).sum(1)
    return float(error / (weights @ squared_lengths(matrix)))


class Problem:
    """One least-squares problem: tables, index, bag vectors, projection, residual, history.

    Entries are scaled to mean square 1. The steps weigh words by `f`, where one with a private
    vector has 0: its vector takes whatever the other parts leave. `weights` are those of all words.
    The one array as large as the rows before the projection is `residual`, what all parts together
    leave of them; every step changes it in place.
    """

    def __init__(self, matrix, encoding, weights, units, ridge, price=0.0):
        V, D = matrix.shape
        self.matrix, self.start, self.units = matrix, encoding, units
        self.ridge, self.price = ridge, price
        self.blocks, self.history = row_blocks(V, BLOCK), []
        self.private, own = private_units(encoding.bag)  # (N,), (N,)
        rest = np.setdiff1d(np.arange(V), self.private)
        share = weights[rest].mean() / weights.mean() if weights[rest].any() else 1.0
        self.weights = weights / share  # the ridge meets weights of mean 1
        self.f = self.weights.copy()  # (V,)
        self.f[self.private] = 0
        lengths = squared_lengths(matrix)  # (V,)
        self.scale = float(np.sqrt(lengths[rest].mean() / D)) or 1.0
        self.norm = float(self.weights @ lengths) / self.scale**2 or 1.0
        self.tables = [np.array(table, dtype=float) for table in encoding.tables]  # (U_j, r, q_j)
        self.index = encoding.units_of(np.arange(V)).copy()  # (V, k, n)
        self.groups = np.arange(encoding.rank).reshape(self.index.shape[1], -1)  # (k, g)
        self.coded = np.flatnonzero(self.f)  # (N,) words whose codes say something
        self.lengths, self.bits = {}, {}
        for k in range(len(self.groups)):
            for j in range(encoding.order):
                self._count(k, j)
        P = encoding.projection
        self.P = None if P is None else np.array(P, dtype=float)  # (d', D)
        self.residual = np.zeros((V, encoding.inner_dim))  # (V, d')
        self._add_target()
        for terms in self.groups:
            self._add(-1, partial(self._rows, terms))
        M, vectors = encoding.bag, encoding.bag_vectors  # (V, all units), (all units, d')
        if M is None:
            M, vectors = scipy.sparse.csr_array((V, 0)), np.zeros((0, encoding.inner_dim))
        self.shared = np.setdiff1d(np.arange(len(vectors)), own)  # (U,)
        self.bag, self.bag_vectors = M[:, self.shared], vectors[self.shared] / self.scale
        self.solve_bag = bag_solver(self.bag, self.f, ridge)
        self._add(-1, self._bag_rows)

    def update_bag(self):
        """b = (M^T F M + ridge)^-1 M^T F R, R what the products leave."""
        if not len(self.shared):
            return
        self._add(1, self._bag_rows)
        self.bag_vectors = self.solve_bag(self.residual)  # (U, d')
        self._add(-1, self._bag_rows)
        self._record(self._squares())

    def update_terms(self, terms, reassign):
        """One pass over the slots of terms that share an index, against what all else leaves."""
        rows = partial(self._rows, terms)
        self._add(1, rows)
        total = self._squares()
        for j, table in enumerate(self.tables):
            A, B = self._sums(j, terms, reassign)  # (U_j, g, g), (U_j, g, q_j)
            leaves = np.linalg.solve(A + _damping(A, self.ridge), B)  # (U_j, g, q_j)
            table[:, terms] = leaves
            self._record(total - 2 * (leaves * B).sum() + ((A @ leaves) * leaves).sum())
        self._add(-1, rows)

    def update_projection(self):
        """P = polar(sum_w f_w Y_w^T E0[w]) brings the rows Y_w before it nearest to E0[w]."""
        if self.P is None:
            return
        self.residual[self.private] = 0  # Y = E0 P^T there
        total = 0.0
        for block in self.blocks:
            rows = project(self.matrix, block) / self.scale  # (W, D)
            self.residual[block] -= rows @ self.P.T  # (W, d'), now -Y
            total -= self.residual[block].T @ (self.weights[block, None] * rows)  # (d', D)
        self.P = polar(total)  # (d', D)
        self._add_target()
        self._record(self._squares())

    def _count(self, k, j):
        """Lengths (U_j,) of the codes of an index in a slot, and the bits of all words in it."""
        codes = self.index[self.coded, k, j]  # (N,)
        self.lengths[k, j] = code_lengths(codes, len(self.tables[j]))
        self.bits[k, j] = self.lengths[k, j][codes].sum()

    def _sums(self, j, terms, reassign):
        """A_u = sum_{w: u} f_w G_w and B_u = sum_{w: u} f_w b_w, after reassigning free words."""
        (U, _, q), g = self.tables[j].shape, len(terms)
        A, B = np.zeros((U, g * g)), np.zeros((U, g * q))
        for block in self.blocks:
            G, b = self._normal(j, terms, block)  # (W, g, g), (W, g, q)
            if reassign:
                self._reassign(j, terms, block, G, b)
            u = self.index[block, terms[0], j]  # (W,)
            entries = self.f[block], (u, np.arange(len(u)))
            select = scipy.sparse.csr_array(entries, shape=(U, len(u)))  # (U, W)
            A += select @ G.reshape(len(u), -1)
            B += select @ b.reshape(len(u), -1)
        if reassign:
            self._count(terms[0], j)
        return A.reshape(U, g, g), B.reshape(U, g, q)

    def _normal(self, j, terms, block):
        """G_w = hadamard_{i != j} L_wi L_wi^T (W, g, g), b_w = K_w unfold_j(R_w)^T (W, g, q_j)."""
        others, R = self._leaves(terms, block, but=j), self.residual[block]  # R (W, d')
        tensor = R.reshape(len(R), *self.start.sizes)  # (W, q_1, ..., q_n)
        unfolded = np.moveaxis(tensor, j + 1, -1).reshape(len(R), -1, self.start.sizes[j])
        G = np.ones((len(R), len(terms), len(terms)))
        for leaf in others:
            G *= leaf @ leaf.swapaxes(1, 2)  # (W, g, g)
        K = kron_rows(others) if others else np.ones((len(R), len(terms), 1))  # (W, g, d'/q_j)
        return G, K @ unfolded  # (W, g, q_j)

    def _reassign(self, j, terms, block, G, b):
        """Give each free word the bucket of lowest cost f_w (<G_w, T_u T_u^T> - 2 <b_w, T_u>), and
        the price of its bits."""
        low, high = self.units.buckets[j]
        T = self.tables[j][low:high][:, terms]  # (C, g, q_j), C candidates
        if not len(T):
            return
        squares = (T @ T.swapaxes(1, 2)).reshape(len(T), -1)  # (C, g g)
        bits = self.price * self.lengths[terms[0], j][low:high]  # (C,)
        best = np.empty(len(G), dtype=np.int64)  # (W,)
        for part in row_blocks(len(G), 512):  # costs stay in a core's cache
            cost = G[part].reshape(len(G[part]), -1) @ squares.T  # (w, C)
            cost -= 2 * b[part].reshape(len(cost), -1) @ T.reshape(len(T), -1).T
            if self.price:
                cost += bits / np.maximum(self.f[block][part, None], SMALLEST)
            best[part] = low + cost.argmin(1)
        own, free = self.index[block, terms[0], j], self.units.free[block, terms[0], j]  # (W,)
        own[:] = np.where(free, best, own)

    def _leaves(self, terms, block, but=None):
        """Leaves (W, g, q_j) of a block of words in g terms of one index, for all slots but one."""
        index = self.index[block, terms[0]]  # (W, n)
        slots = [j for j in range(len(self.tables)) if j != but]
        return [self.tables[j][index[:, j, None], terms] for j in slots]

    def _rows(self, terms, block):
        return entangled_rows(self._leaves(terms, block))  # (W, d')

    def _bag_rows(self, block):
        return self.bag[block] @ self.bag_vectors  # (W, d')

    def _add(self, sign, rows):
        for block in self.blocks:
            self.residual[block] += sign * rows(block)  # (W, d')

    def _add_target(self):
        """Add the rows E0 P^T (V, d') to the residual; `beyond` is what P leaves of E0."""
        self.beyond = 0.0
        for block in self.blocks:
            rows = project(self.matrix, block) / self.scale  # (W, D)
            inner = rows if self.P is None else rows @ self.P.T  # (W, d')
            self.residual[block] += inner
            self.beyond += self.weights[block] @ ((rows**2).sum(1) - (inner**2).sum(1))
        self.beyond = max(0.0, self.beyond)

    def _squares(self):
        """sum_w f_w ||residual_w||^2."""
        return self.f @ np.einsum("wi,wi->w", self.residual, self.residual)

    def _record(self, data_error):
        penalty = sum((part**2).sum() for part in [*self.tables, self.bag_vectors])
        data_error = max(0.0, data_error)  # a difference of large sums may be -1e-13
        penalty = self.ridge * penalty + self.price * sum(self.bits.values())
        objective = self.beyond + data_error + penalty
        self.history.append(float(objective / self.norm))

    def _sort(self):
        """Number the units of a term by falling frequency: then terms can share a Huffman code."""
        for (k, j), lengths in self.lengths.items():
            order = np.argsort(lengths, kind="stable")  # (U_j,)
            self.tables[j][:, self.groups[k]] = self.tables[j][order][:, self.groups[k]]
            self.index[:, k, j] = np.argsort(order)[self.index[:, k, j]]

    def result(self):
        """The start with what was fitted, at the scale of the matrix."""
        if self.price:
            self._sort()
        scale = self.scale ** (1 / len(self.tables))  # spread evenly: gradients of one size
        fitted = {"tables": [table * scale for table in self.tables], "projection": self.P}
        if self.start.index is not None:
            fitted["index"] = self.index
        if self.start.bag is not None:
            fitted["bag_vectors"] = self.start.bag_vectors.astype(float)
            fitted["bag_vectors"][self.shared] = self.bag_vectors * self.scale
        return replace(self.start, **fitted)


def _with_private_vectors(matrix, encoding, words, private):
    """Set private vectors so that their words are as good as the projection allows.

    Their codes then say nothing: all become 0, and no file needs to hold them.
    """
    if not len(words):
        return encoding
    vectors, index = encoding.bag_vectors.astype(float), encoding.index
    vectors[private] = 0
    if index is not None:
        index = index.copy()
        index[words] = 0
    encoding = replace(encoding, bag_vectors=vectors, index=index)
    for block in row_blocks(len(words), BLOCK):  # no word has another's private unit: any order
        ids = words[block]
        rest = project(matrix, ids, encoding.projection) - encoding.inner_rows(ids)  # (W, d')
        vectors[private[block]] = rest
    return encoding


def project(matrix, words, P=None):
    """E0[words] P^T (W, d') in double precision, or E0[words] (W, D); words: a slice or ids."""
    rows = np.asarray(matrix[words], dtype=float)  # (W, D)
    return rows if P is None else rows @ P.T  # (W, d')


def squared_lengths(matrix):
    """||E0[w]||^2 (V,), in blocks of rows."""
    blocks = row_blocks(len(matrix), BLOCK)
    return np.concatenate([(project(matrix, block) ** 2).sum(1) for block in blocks])


def check_finite_rows(matrix):
    """Refuse NaN, infinity, and numbers whose squares float64 cannot add, a block at a time."""
    bad, largest = 0, 0.0
    for block in row_blocks(len(matrix), BLOCK):
        sizes = abs(np.asarray(matrix[block], dtype=float))  # (W, D)
        bad += int(np.count_nonzero(~(sizes <= 1 / SMALLEST)))  # NaN compares as false
        largest = max(largest, sizes.max(initial=0.0))
    if bad:
        got = f"{bad} that are NaN, infinite or above {1 / SMALLEST:g}"
        raise InputError(f"matrix: expected finite numbers, got {got}")
    if 0 < largest < SMALLEST:
        raise InputError(f"matrix: expected a number above {SMALLEST:g}, got {largest:g} at most")
    return matrix


def _check_start(encoding, ridge):
    """Refuse what the steps do not cover."""
    check_at_least("ridge", ridge, 0)
    if len({id(table) for table in encoding.tables}) < encoding.order:
        raise InputError("encoding: expected a table for each slot, got slots that share one")
    if encoding.projection is not None:
        P = encoding.projection
        off = np.abs(P @ P.T - np.eye(len(P))).max()
        if off > 1e-4:  # float32 projections pass
            raise InputError(f"projection: expected orthonormal rows, got products {off:.2g} off")


def _damping(systems, ridge):
    """ridge * identity per system (..., g, g); without one, what keeps singular ones solvable."""
    least = 1e-12 * (1 + np.trace(systems, axis1=-2, axis2=-1))  # (...)
    return np.maximum(ridge, least)[..., None, None] * np.eye(systems.shape[-1])  # (..., g, g)
