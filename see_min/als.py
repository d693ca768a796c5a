"""One alternating least-squares problem: its state, and its steps, each for one part of an encoding.

    minimise  sum_w f_w ||E0[w] - E[w]||^2  +  ridge * (sum of all squared leaves, amplitudes and bag vectors)

With everything frozen but one slot the problem is linear and falls apart into one small system a unit. Amplitudes are
one more slot, with leaves of size 1 that belong to one word each, so the same step fits them; bag vectors are one sparse
least-squares problem. Every step solves its part exactly, so the objective can only fall. Where one table stands in all slots
the problem is not linear: a step downhill is taken, as long as it does not raise the objective.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import scipy.sparse

from see_min.checks import DataError, ShapeError, check_at_least
from see_min.entangle import entangled_rows, kron_rows

BLOCK = 4096  # words a step of the sums over words: bounds memory at BLOCK * r * d' floats


def row_blocks(rows, size):
    """Slices of at most `size` rows that together are all of them.

    Examples
    --------
    >>> row_blocks(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


@dataclass
class Goal:
    """What a problem has to know of E0.

    Parameters
    ----------
    rows : array (V, d'), float64
        E0 P^T, or E0 itself without a carrier. A problem takes this array for its residual and overwrites it.
    scale : float
        Root mean square of the entries of E0; 1 if all are 0.
    norm, beyond : float
        sum_w f_w ||E0[w]||^2, and the part of it that lies outside the span of the carrier.
    """

    rows: np.ndarray
    scale: float
    norm: float
    beyond: float = 0.0


class Problem:
    """The state of one fit: slots (tables, then amplitudes), their index, the residual and the history.

    The encoding has no carrier, since the rows of the goal are those before it. Of arrays as large as these rows there is
    one, the residual; every step changes it in place, a block of words at a time.
    """

    def __init__(self, goal, encoding, weights, ridge):
        V = len(goal.rows)
        self.f = weights
        self.start, self.ridge, self.scale = encoding, ridge, goal.scale
        self.norm, self.beyond_carrier = goal.norm / goal.scale**2 or 1.0, goal.beyond / goal.scale**2
        self.tied = _one_table(encoding)
        copies = {id(table): np.array(table, dtype=float) for table in encoding.tables}
        self.slots = [copies[id(table)] for table in encoding.tables]  # (U_j, r, q_j)
        columns = list(np.moveaxis(encoding.index, -1, 0).copy())  # n arrays (V,) or (V, r)
        if encoding.amplitudes is not None:
            self.slots.append(encoding.amplitudes[:, :, None].astype(float))  # (V, r, 1): a slot of one unit a word
            columns.append(np.arange(V) if columns[0].ndim == 1 else np.repeat(np.arange(V)[:, None], encoding.rank, 1))
        self.columns = columns
        every = np.arange(encoding.rank)
        self.groups = [every] if encoding.index.ndim == 2 else [every[k : k + 1] for k in every]
        self.history = []
        self._start_bag()
        self.residual = goal.rows  # (V, d')
        for block in self._blocks():
            self.residual[block] /= self.scale
            self.residual[block] -= self._bag_rows(block)
            for terms in self.groups:
                self.residual[block] -= self._rows(block, terms)

    def _start_bag(self):
        self.bag_vectors = None
        if self.start.bag is None:
            return
        word, column = np.nonzero(self.start.bag >= 0)
        self.bag_units, unit = np.unique(self.start.bag[word, column], return_inverse=True)  # of these words: U of them
        shape = (len(self.f), len(self.bag_units))
        self.bag = scipy.sparse.csr_array((np.ones(len(word)), (word, unit)), shape=shape)  # (V, U)
        self.bag_vectors = self.start.bag_vectors[self.bag_units].astype(float) / self.scale  # (U, d')
        gram = (self.bag.T @ scipy.sparse.diags_array(self.f) @ self.bag).toarray()  # (U, U)
        self.bag_solver = scipy.linalg.cho_factor(gram + _damping(gram, self.ridge))

    def _bag_rows(self, block):
        return 0.0 if self.bag_vectors is None else self.bag[block] @ self.bag_vectors  # (W, d')

    def _blocks(self):
        return row_blocks(len(self.f), BLOCK)

    def _leaves(self, block, terms, but=None):
        """Leaves (W, g, q) of the words of a block in some terms, for all slots but one."""
        out = []
        for j, (slot, column) in enumerate(zip(self.slots, self.columns)):
            if j != but:
                index = column[block]
                out.append(slot[index] if index.ndim == 1 else slot[index[:, terms], terms])  # (W, g, q_j)
        return out

    def _rows(self, block, terms):
        return entangled_rows(self._leaves(block, terms))  # (W, d')

    def _normal(self, block, target, j, terms):
        """G_w = hadamard_{i != j} L_wi L_wi^T (W, g, g) and b_w = K_w unfold_j(target_w)^T (W, g, q_j)."""
        others = self._leaves(block, terms, but=j)
        sizes = [slot.shape[2] for slot in self.slots]
        before, q = int(np.prod(sizes[:j])), sizes[j]
        unfolded = target.reshape(len(target), before, q, -1).swapaxes(1, 2).reshape(len(target), q, -1)  # (W, q_j, d'/q_j)
        G = np.ones((len(target), len(terms), len(terms)))
        for leaf in others:
            G *= leaf @ leaf.swapaxes(1, 2)  # (W, g, g)
        K = kron_rows(others) if others else np.ones((len(target), len(terms), 1))  # (W, g, d'/q_j)
        return G, K @ unfolded.swapaxes(1, 2)  # (W, g, q_j)

    def _record(self, data_error):
        squares = sum((slot**2).sum() for slot in {id(slot): slot for slot in self.slots}.values())
        squares += 0.0 if self.bag_vectors is None else (self.bag_vectors**2).sum()
        data_error = max(0.0, data_error)  # a difference of large sums may be -1e-13 at a perfect fit
        self.history.append(float((self.beyond_carrier + data_error + self.ridge * squares) / self.norm))

    def update_bag(self):
        """b = (M^T F M + ridge)^-1 M^T F R, M the 0/1 matrix of words and their bag units."""
        if self.bag_vectors is None:
            return
        sums = np.zeros_like(self.bag_vectors)  # (U, d')
        for block in self._blocks():
            self.residual[block] += self._bag_rows(block)
            sums += self.bag[block].T @ (self.f[block, None] * self.residual[block])
        self.bag_vectors = scipy.linalg.cho_solve(self.bag_solver, sums)  # (U, d')
        for block in self._blocks():
            self.residual[block] -= self._bag_rows(block)
        self._record(self._squares())

    def _squares(self):
        """sum_w f_w ||residual_w||^2."""
        return float(sum(self.f[block] @ (self.residual[block] ** 2).sum(1) for block in self._blocks()))

    def update_terms(self, terms, units):
        """One pass over the slots for a group of terms that share units, against what all other parts leave."""
        for block in self._blocks():
            self.residual[block] += self._rows(block, terms)
        target = self.residual  # (V, d')
        total = self._squares()
        if self.tied:
            self._step_of_one_table(target, terms, units)
        for j in range(self.start.order if self.tied else 0, len(self.slots)):
            redeal = units is not None and j < self.start.order
            A, B = self._sums(target, j, terms, units if redeal else None)
            leaves = np.linalg.solve(A + _damping(A, self.ridge), B)  # (U_j, g, q_j)
            if len(terms) == self.start.rank:
                self.slots[j] = leaves
            else:
                self.slots[j][:, terms] = leaves
            explained = 2 * (leaves * B).sum() - ((A @ leaves) * leaves).sum()  # sum_u 2<x, B> - <x, A x>
            self._record(total - float(explained))
        for block in self._blocks():
            self.residual[block] -= self._rows(block, terms)

    def _step_of_one_table(self, target, terms, units):
        """All slots at once, where they share one table T and the problem is no longer linear in it.

        With A and B summed over the slots, A^-1 B - T points downhill (it is minus half the gradient, times A^-1; words that
        are re-dealt in between disturb that a little), so of this step 1, 1/2, 1/4, ... is taken, the first share that does
        not raise the objective, or nothing.
        """
        sums = [self._sums(target, j, terms, units) for j in range(self.start.order)]  # re-deals slot by slot
        A, B = (sum(parts) for parts in zip(*sums))  # (U, g, g), (U, g, q)
        old = self.slots[0]
        step = np.linalg.solve(A + _damping(A, self.ridge), B) - old[:, terms]  # (U, g, q)
        before = self._error(target, terms) + self.ridge * (old**2).sum()
        for share in (*0.5 ** np.arange(20), 0.0):
            new = old.copy()
            new[:, terms] += share * step
            self.slots[: self.start.order] = [new] * self.start.order
            error = self._error(target, terms)
            if error + self.ridge * (new**2).sum() <= before:
                break
        self._record(error)

    def _error(self, target, terms):
        """sum_w f_w ||target_w - (the terms of w)||^2."""
        return float(sum(self.f[block] @ ((target[block] - self._rows(block, terms)) ** 2).sum(1) for block in self._blocks()))

    def _sums(self, target, j, terms, units):
        """A_u = sum_{w: u} f_w G_w (U, g, g) and B_u = sum_{w: u} f_w b_w (U, g, q_j), after re-dealing free words."""
        U, g, q = len(self.slots[j]), len(terms), self.slots[j].shape[2]
        A, B = np.zeros((U, g * g)), np.zeros((U, g * q))
        for block in self._blocks():
            G, b = self._normal(block, target[block], j, terms)
            if units is not None:
                self._redeal(block, G, b, j, terms, units)
            column = self.columns[j][block]
            u = column if column.ndim == 1 else column[:, terms[0]]  # (W,): the group shares its unit
            select = scipy.sparse.csr_array((self.f[block], (u, np.arange(len(u)))), shape=(U, len(u)))  # (U, W)
            A += select @ G.reshape(len(u), -1)
            B += select @ b.reshape(len(u), -1)
        return A.reshape(U, g, g), B.reshape(U, g, q)

    def _redeal(self, block, G, b, j, terms, units):
        """Give each free word the back-off unit of lowest cost <G_w, T_u T_u^T> - 2 <b_w, T_u>."""
        low, high = units.backoff[j]
        table = self.slots[j][low:high][:, terms]  # (candidates, g, q_j)
        if len(table) == 0:
            return
        squares = (table @ table.swapaxes(1, 2)).reshape(len(table), -1)  # (candidates, g g)
        cost = G.reshape(len(G), -1) @ squares.T - 2 * b.reshape(len(b), -1) @ table.reshape(len(table), -1).T  # (W, candidates)
        best = low + cost.argmin(1)
        if self.columns[j].ndim == 1:
            self.columns[j][block] = np.where(units.free[block, j], best, self.columns[j][block])
        else:
            k = terms[0]
            self.columns[j][block, k] = np.where(units.free[block, k, j], best, self.columns[j][block, k])

    def result(self, encoding, words):
        """`encoding` with what was fitted, at the scale of the matrix; `words` are the words that were."""
        n = encoding.order
        scaled = {id(slot): slot * self.scale ** (1 / n) for slot in self.slots[:n]}  # spread evenly: gradients of one size
        tables = [scaled[id(slot)] for slot in self.slots[:n]]
        fitted = {"tables": tables, "index": _put(encoding.index, words, np.stack(self.columns[:n], axis=-1))}
        if encoding.amplitudes is not None:
            fitted["amplitudes"] = _put(encoding.amplitudes, words, self.slots[n][:, :, 0])
        if self.bag_vectors is not None:
            fitted["bag_vectors"] = _put(encoding.bag_vectors, self.bag_units, self.bag_vectors * self.scale)
        return replace(encoding, **fitted)


def _one_table(encoding):
    """Whether one table stands in all of several slots."""
    return encoding.order > 1 and len({id(table) for table in encoding.tables}) == 1


def check_start(encoding, ridge):
    """Refuse what the steps do not cover: a table in some slots but not in all, a carrier that stretches rows, a ridge below 0.

    Raises
    ------
    ShapeError
        If some slots share a table and others do not.
    DataError
        If the ridge is below 0 or the rows of the carrier are not orthonormal.
    """
    check_at_least("ridge", ridge, 0)
    if len({id(table) for table in encoding.tables}) not in (1, encoding.order):
        raise ShapeError(f"encoding: expected one table for all {encoding.order} slots or one for each, got some shared")
    if encoding.carrier is not None:
        off = np.abs(encoding.carrier @ encoding.carrier.T - np.eye(encoding.inner)).max()
        if off > 1e-4:  # float32 carriers pass
            raise DataError(f"encoding.carrier: expected orthonormal rows, got products of rows that are off by {off:.2g}")


def _damping(systems, ridge):
    """ridge * identity for each system (..., g, g); without a ridge, what keeps singular ones solvable."""
    least = 1e-12 * (1 + np.trace(systems, axis1=-2, axis2=-1))  # (...)
    return np.maximum(ridge, least)[..., None, None] * np.eye(systems.shape[-1])  # (..., g, g)


def _put(array, places, values):
    """A copy of `array` with `values` in some rows."""
    out = array.astype(np.result_type(array, values))
    out[places] = values
    return out
