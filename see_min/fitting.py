"""Fit an encoding to a given matrix by weighted alternating least squares.

    minimise  sum_w f_w ||E0[w] - E[w]||^2  +  ridge * (all squared leaves and shared bag vectors)

With everything frozen but one slot the problem is linear and falls apart into one small system per
unit; bag vectors are one sparse ridge regression. Free words are reassigned to the hash bucket of
least cost, as in k-means; the projection is turned to where the rows are. Every step solves its
part exactly, so the objective can only fall. A word with a private vector needs none of this: that
vector takes whatever the other parts leave, so tables and bag are fitted to the remaining words.

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
    shapes = [(plan.slot_units, plan.rank, q) for q in plan.sizes]
    tables = [scale * rng.standard_normal(shape) for shape in shapes]  # (U, r, q_j) each
    vectors = None if units.bag is None else np.zeros((units.bag.shape[1], plan.inner_dim))
    names = {"slot_names": units.slot_names, "bag_names": units.bag_names}
    return SememeEncoding(tables, units.index.copy(), P, units.bag, vectors, **names)


def fit(
    matrix, encoding, weights=None, units=None, sweeps=20, ridge=0.5, turn=False, progress=None
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
    rest = np.setdiff1d(np.arange(len(matrix)), words)
    if not len(rest):  # every word has a private vector
        encoding = _with_private_vectors(matrix, encoding, words, private)
        return encoding, [relative_error(matrix, encoding, weights)]
    problem = Problem(matrix, encoding, weights, units, rest, ridge)
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
    """M^T F R (U, d') -> (M^T F M + ridge)^-1 M^T F R: bag vectors whose sums are nearest to R."""
    gram = (M.T @ scipy.sparse.diags_array(f) @ M).toarray()  # (U, U)
    return partial(scipy.linalg.cho_solve, scipy.linalg.cho_factor(gram + _damping(gram, ridge)))


def relative_error(matrix, encoding, weights=None):
    """sum_w f_w ||E0[w] - E[w]||^2 / sum_w f_w ||E0[w]||^2, computed in blocks of rows."""
    weights = np.ones(len(matrix)) if weights is None else weights
    error = norm = 0.0
    for block in row_blocks(len(matrix), BLOCK):
        rows = project(matrix, block)  # (W, D)
        off = rows - encoding.rows(np.arange(block.start, block.stop))  # (W, D)
        error += weights[block] @ (off**2).sum(1)
        norm += weights[block] @ (rows**2).sum(1)
    return float(error / norm)


class Problem:
    """One least-squares problem: tables, index, bag vectors, projection, residual, history.

    `words` are fitted, entries scaled to mean square 1; of the others, whose private vectors leave
    what lies beyond the projection, the problem keeps the second moments alone. The one array as
    large as the rows before the projection is `residual`, what all parts together leave of them;
    every step changes it in place.
    """

    def __init__(self, matrix, encoding, weights, units, words, ridge):
        share = weights[words].mean() / weights.mean() if weights[words].any() else 1.0
        self.f = weights[words] / share  # the ridge meets weights of mean 1
        self.matrix, self.start, self.words, self.ridge = matrix, encoding, words, ridge
        self.tables = [np.array(table, dtype=float) for table in encoding.tables]  # (U_j, r, q_j)
        self.index = encoding.units_of(words).copy()  # (V, k, n)
        self.free = None if units is None else units.free[words]  # (V, k, n)
        self.buckets = None if units is None else units.buckets
        every = np.arange(encoding.rank)  # terms of one index are solved together, others apart
        self.groups = [every] if self.index.shape[1] == 1 else [every[k : k + 1] for k in every]
        self.history = []
        self._read_target(encoding.projection)
        self._read_private(weights / share)
        self._start_bag()
        for block in self._blocks():
            self.residual[block] -= self._bag_rows(block)
            for terms in self.groups:
                self.residual[block] -= self._rows(block, terms)

    def _read_target(self, P):
        """The rows E0 P^T, their scale, and what of E0 lies beyond the projection."""
        D = self.matrix.shape[1]
        self.P = None if P is None else np.array(P, dtype=float)  # (d', D)
        self.residual = np.empty((len(self.words), D if P is None else len(P)))  # (N, d')
        squares = norm = inside = 0.0
        for block in self._blocks():
            rows = project(self.matrix, self.words[block])  # (W, D)
            lengths = (rows**2).sum(1)  # (W,)
            squares, norm = squares + lengths.sum(), norm + self.f[block] @ lengths
            self.residual[block] = rows if P is None else rows @ P.T
            inside += self.f[block] @ (self.residual[block] ** 2).sum(1)
        self.scale = float(np.sqrt(squares / (len(self.words) * D))) or 1.0
        self.norm = float(norm) / self.scale**2
        self.beyond = max(0.0, float(norm - inside)) / self.scale**2
        self.residual /= self.scale

    def _read_private(self, weights):
        """sum_w f_w E0[w]^T E0[w] (D, D) of the words that are not fitted."""
        self.moments, private = None, np.setdiff1d(np.arange(len(self.matrix)), self.words)
        if self.P is not None and len(private):
            self.moments = second_moments(self.matrix, private, weights) / self.scale**2
            self.norm += np.trace(self.moments)
            self.beyond += self._private_beyond()
        self.norm = self.norm or 1.0

    def _private_beyond(self):
        """sum_w f_w ||E0[w] - E0[w] P^T P||^2 of the words that are not fitted."""
        if self.moments is None:
            return 0.0
        return max(0.0, np.trace(self.moments) - ((self.P @ self.moments) * self.P).sum())

    def _start_bag(self):
        self.bag_vectors = None
        if self.start.bag is None:
            return
        M = self.start.bag[self.words]  # (V, all units)
        self.bag_units = np.unique(M.indices)  # those of these words: U of them
        self.bag = M[:, self.bag_units]  # (V, U)
        self.bag_vectors = self.start.bag_vectors[self.bag_units].astype(float) / self.scale
        self.solve_bag = bag_solver(self.bag, self.f, self.ridge)

    def _blocks(self):
        return row_blocks(len(self.words), BLOCK)

    def _bag_rows(self, block):
        return 0.0 if self.bag_vectors is None else self.bag[block] @ self.bag_vectors  # (W, d')

    def _leaves(self, block, terms, but=None):
        """Leaves (W, g, q_j) of a block of words in g terms, for all slots but one."""
        index = self.index[block] if self.index.shape[1] == 1 else self.index[block][:, terms]
        slots = [j for j in range(len(self.tables)) if j != but]
        return [self.tables[j][index[:, :, j], terms] for j in slots]

    def _rows(self, block, terms):
        return entangled_rows(self._leaves(block, terms))  # (W, d')

    def _squares(self):
        """sum_w f_w ||residual_w||^2."""
        blocks = self._blocks()
        return float(sum(self.f[b] @ (self.residual[b] ** 2).sum(1) for b in blocks))

    def _record(self, data_error):
        penalty = sum((table**2).sum() for table in self.tables)
        penalty += 0.0 if self.bag_vectors is None else (self.bag_vectors**2).sum()
        data_error = max(0.0, data_error)  # a difference of large sums may be -1e-13
        objective = self.beyond + data_error + self.ridge * penalty
        self.history.append(float(objective / self.norm))

    def update_bag(self):
        """b = (M^T F M + ridge)^-1 M^T F R, R what the products leave."""
        if self.bag_vectors is None:
            return
        right = np.zeros_like(self.bag_vectors)  # (U, d')
        for block in self._blocks():
            self.residual[block] += self._bag_rows(block)
            right += self.bag[block].T @ (self.f[block, None] * self.residual[block])
        self.bag_vectors = self.solve_bag(right)  # (U, d')
        for block in self._blocks():
            self.residual[block] -= self._bag_rows(block)
        self._record(self._squares())

    def update_terms(self, terms, reassign):
        """One pass over the slots of terms that share an index, against what all else leaves."""
        for block in self._blocks():
            self.residual[block] += self._rows(block, terms)
        total = self._squares()
        for j in range(len(self.tables)):
            A, B = self._sums(j, terms, reassign)  # (U_j, g, g), (U_j, g, q_j)
            leaves = np.linalg.solve(A + _damping(A, self.ridge), B)  # (U_j, g, q_j)
            self.tables[j][:, terms] = leaves
            explained = 2 * (leaves * B).sum() - ((A @ leaves) * leaves).sum()
            self._record(total - float(explained))
        for block in self._blocks():
            self.residual[block] -= self._rows(block, terms)

    def update_projection(self):
        """P = polar(sum_w f_w Y_w^T E0[w]) brings the rows Y_w before it nearest to E0[w]."""
        if self.P is None:
            return
        total = 0.0 if self.moments is None else self.P @ self.moments  # (d', D): there Y = E0 P^T
        for block in self._blocks():
            rows = project(self.matrix, self.words[block]) / self.scale  # (W, D)
            self.residual[block] -= rows @ self.P.T  # (W, d'), now -Y
            total -= self.residual[block].T @ (self.f[block, None] * rows)
        self.P, self.beyond = polar(total), 0.0  # (d', D)
        for block in self._blocks():
            rows = project(self.matrix, self.words[block]) / self.scale  # (W, D)
            inner = rows @ self.P.T  # (W, d')
            self.residual[block] += inner
            self.beyond += self.f[block] @ ((rows**2).sum(1) - (inner**2).sum(1))
        self.beyond = max(0.0, float(self.beyond)) + self._private_beyond()
        self._record(self._squares())

    def _sums(self, j, terms, reassign):
        """A_u = sum_{w: u} f_w G_w and B_u = sum_{w: u} f_w b_w, after reassigning free words."""
        U, g, q = len(self.tables[j]), len(terms), self.tables[j].shape[2]
        A, B = np.zeros((U, g * g)), np.zeros((U, g * q))
        for block in self._blocks():
            G, b = self._normal(block, j, terms)
            if reassign:
                self._reassign(block, G, b, j, terms)
            u = self.index[block, self._place(terms), j]  # (W,)
            weights = (self.f[block], (u, np.arange(len(u))))
            select = scipy.sparse.csr_array(weights, shape=(U, len(u)))  # (U, W)
            A += select @ G.reshape(len(u), -1)
            B += select @ b.reshape(len(u), -1)
        return A.reshape(U, g, g), B.reshape(U, g, q)

    def _place(self, terms):
        """Where the index of some terms stands."""
        return 0 if self.index.shape[1] == 1 else terms[0]

    def _normal(self, block, j, terms):
        """G_w = hadamard_{i != j} L_wi L_wi^T (W, g, g), b_w = K_w unfold_j(R_w)^T (W, g, q_j)."""
        others, target = self._leaves(block, terms, but=j), self.residual[block]  # R (W, d')
        W, q = len(target), self.tables[j].shape[2]
        before = int(np.prod([table.shape[2] for table in self.tables[:j]]))
        unfolded = target.reshape(W, before, q, -1).swapaxes(1, 2)  # (W, q_j, before, after)
        unfolded = unfolded.reshape(W, q, -1)  # (W, q_j, d'/q_j)
        G = np.ones((W, len(terms), len(terms)))
        for leaf in others:
            G *= leaf @ leaf.swapaxes(1, 2)  # (W, g, g)
        K = kron_rows(others) if others else np.ones((W, len(terms), 1))  # (W, g, d'/q_j)
        return G, K @ unfolded.swapaxes(1, 2)  # (W, g, q_j)

    def _reassign(self, block, G, b, j, terms):
        """Give each free word the bucket of lowest cost <G_w, T_u T_u^T> - 2 <b_w, T_u>."""
        low, high = self.buckets[j]
        T = self.tables[j][low:high][:, terms]  # (C, g, q_j), C candidates
        if not len(T):
            return
        squares = (T @ T.swapaxes(1, 2)).reshape(len(T), -1)  # (C, g g)
        best = np.empty(len(G), dtype=np.int64)  # (W,)
        for part in row_blocks(len(G), 512):  # costs stay in a core's cache
            cost = G[part].reshape(len(G[part]), -1) @ squares.T  # (w, C)
            cost -= 2 * b[part].reshape(len(cost), -1) @ T.reshape(len(T), -1).T
            best[part] = low + cost.argmin(1)
        k = self._place(terms)
        self.index[block, k, j] = np.where(self.free[block, k, j], best, self.index[block, k, j])

    def result(self):
        """The start with what was fitted, at the scale of the matrix."""
        scale = self.scale ** (1 / len(self.tables))  # spread evenly: gradients of one size
        fitted = {"tables": [table * scale for table in self.tables], "projection": self.P}
        if self.start.index is not None:
            fitted["index"] = self.start.index.copy()
            fitted["index"][self.words] = self.index
        if self.bag_vectors is not None:
            fitted["bag_vectors"] = self.start.bag_vectors.astype(float)
            fitted["bag_vectors"][self.bag_units] = self.bag_vectors * self.scale
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
