"""SememeEncoding: leaf tables + index = an embedding matrix that is never stored.

    E[w] = ( sum_{u in bag(w)} b_u
             + sum_{k=1..r} tables[1][i_wk1, k] (x) ... (x) tables[n][i_wkn, k] ) @ P

The second sum is the encoding of the papers: every term is a product of leaves that belong to units
(sememes, morphemes, hash buckets). The bag, whose units have whole vectors that are added, and the
projection P are ours and optional; without them the formula is the papers' form.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse

from see_min.entangle import entangled_rows
from see_min.errors import (
    InputError,
    check_at_least,
    check_axes,
    check_finite,
    check_ids,
    check_shape,
)
from see_min.storage.codes import code_bits, pack_codes
from see_min.units import Unit

BLOCK = 4096  # words per step of everything that goes through all rows: bounds memory


@dataclass
class SememeEncoding:
    """An embedding matrix E (V, D) as leaves and an index.

    Parameters
    ----------
    tables : list of n arrays (U_j, r, q_j)
        Leaf tables, one per slot; the same array may stand in several slots and then counts once.
    index : int array (V, k, n), or None
        Unit of each word, term and slot; k is r, or 1 where all terms share it. None: the unit of a
        word is the word itself, in every slot (U_j = V), and no index is stored.
    projection : array (d', D), optional
        P, with d' = prod q_j; left out, d' = D.
    bag, bag_vectors : sparse array M (V, U) of 0 and 1, and array (U, d'), optional
    words, slot_names, bag_names : lists of V str, of n lists of Unit, of U Unit, optional
    bits : int, optional
        Of a parameter in a file (`storage.encodings.rounded`); left out, files keep the arrays.
    bag_derived : bool
        Whether loading derives the bag from words and lexicon, so that no file has to hold it.

    Raises
    ------
    InputError
        If the parts do not fit together, a unit does not exist, or a number is not finite.

    Examples
    --------
    >>> leaf = np.array([[[1., 0.]], [[0., 1.]]])              # two units, one term, q = 2
    >>> bits = SememeEncoding([leaf, leaf], np.array([[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]]))
    >>> bits.rows([2]), bits.parameters                        # both slots share the table
    (array([[0., 0., 1., 0.]]), 4)

    Source: arXiv 2412.12204 and 2210.15379 for the sum of products.
    """

    tables: list
    index: np.ndarray | None
    projection: np.ndarray | None = None
    bag: scipy.sparse.csr_array | None = None
    bag_vectors: np.ndarray | None = None
    words: list | None = None
    slot_names: list | None = None
    bag_names: list | None = None
    bits: int | None = None
    bag_derived: bool = False

    def __post_init__(self):
        if not self.tables:
            raise InputError("tables: expected at least one slot, got none")
        check_axes("tables[0]", self.tables[0], None, None, None)  # the rank is read off it
        self._check_index()
        for j, table in enumerate(self.tables):
            check_finite(f"tables[{j}]", check_axes(f"tables[{j}]", table, None, self.rank, None))
            if self.index is not None:
                check_ids(f"index[..., {j}]", self.index[..., j], len(table))
        if self.projection is not None:
            P = check_axes("projection", self.projection, self.inner_dim, None)
            check_finite("projection", P)
        if (self.bag is None) != (self.bag_vectors is None):
            raise InputError("bag: expected together with bag_vectors, got one of the two")
        if self.bag is not None:
            vectors = check_axes("bag_vectors", self.bag_vectors, None, self.inner_dim)
            check_finite("bag_vectors", vectors)
            check_shape("bag", self.bag, len(self), len(self.bag_vectors))
        if self.words is not None and len(self.words) != len(self):
            raise InputError(f"words: expected {len(self)}, one per row, got {len(self.words)}")

    def _check_index(self):
        if self.index is None:
            rows = len(self.tables[0])
            if any(len(table) != rows for table in self.tables):
                raise InputError(f"index: expected one, as slots have other sizes than {rows}")
            return
        check_axes("index", self.index, None, None, self.order)
        if self.index.shape[1] not in (1, self.rank):
            raise InputError(f"index: expected 1 or {self.rank} terms, got {self.index.shape[1]}")

    def __len__(self):
        return len(self.tables[0]) if self.index is None else len(self.index)

    @property
    def order(self):
        """n, the number of slots."""
        return len(self.tables)

    @property
    def rank(self):
        """r, the number of terms."""
        return np.shape(self.tables[0])[1]

    @property
    def sizes(self):
        """(q_1, ..., q_n)."""
        return tuple(table.shape[2] for table in self.tables)

    @property
    def inner_dim(self):
        """d' = prod q_j, the dimension in which the products live."""
        return int(np.prod(self.sizes))

    @property
    def shape(self):
        """(V, D) of the matrix this stands for."""
        return len(self), self.inner_dim if self.projection is None else self.projection.shape[1]

    @property
    def arrays(self):
        """Every array of parameters by name; a table of several slots once, under the first."""
        once = {}
        for j, table in enumerate(self.tables):
            once.setdefault(id(table), (f"tables.{j}", table))
        named = dict(once.values(), projection=self.projection, bag_vectors=self.bag_vectors)
        return {name: array for name, array in named.items() if array is not None}

    @property
    def parameters(self):
        """Number of parameters: leaf tables, projection and bag vectors."""
        return sum(array.size for array in self.arrays.values())

    @property
    def index_bytes(self):
        """Bytes of index and bag in a file: codes as `pack_codes` packs them, units side by side.

        A bag needs a length per word and its units; a derived one the words with private vectors.
        """
        total = 0
        if self.index is not None:
            codes = self.index[coded_words(self)]  # (N, k, n)
            total = sum(len(pack_codes(codes[..., j], len(table)))
                        for j, table in enumerate(self.tables))
        if self.bag is None:
            return total
        if self.bag_derived:
            return total + -(-len(private_units(self.bag)[0]) * code_bits(len(self)) // 8)
        lengths = np.diff(self.bag.indptr)  # (V,)
        total += -(-len(self) * code_bits(int(lengths.max(initial=0)) + 1) // 8)
        return total + -(-self.bag.nnz * code_bits(self.bag.shape[1]) // 8)

    @property
    def bytes(self):
        """Parameters in their `bits` (32 without) with the steps of rounding, and the index."""
        if self.bits in (None, 32):
            return 4 * self.parameters + self.index_bytes
        total = self.index_bytes
        for name, array in self.arrays.items():
            steps = len(array) if name in ("projection", "bag_vectors") else self.rank
            total += -(-array.size * self.bits // 8) + 4 * steps
        return total

    def units_of(self, ids):
        """The unit of each slot, int array (W, k, n)."""
        if self.index is not None:
            return self.index[ids]  # (W, k, n)
        return np.broadcast_to(np.asarray(ids)[:, None, None], (len(ids), 1, self.order))

    def leaves(self, ids):
        """The leaves of words: a list of n arrays (W, r, q_j)."""
        index, term = self.units_of(ids), np.arange(self.rank)  # (W, k, n), (r,)
        return [table[index[:, :, j], term] for j, table in enumerate(self.tables)]

    def inner_rows(self, ids):
        """Rows before the projection, (W, d')."""
        rows = entangled_rows(self.leaves(ids))  # (W, d')
        return rows if self.bag is None else rows + self.bag[ids] @ self.bag_vectors

    def rows(self, ids):
        """Embeddings (..., D) of ids (...), from their leaves alone. InputError for a bad id."""
        ids = check_ids("ids", ids, len(self))
        rows = self.inner_rows(ids.reshape(-1))  # (W, d')
        rows = rows if self.projection is None else rows @ self.projection  # (W, D)
        return rows.reshape(*ids.shape, self.shape[1])

    def scores(self, h, block=BLOCK):
        """h @ E.T (N, V) for h (N, D), without E: P meets h, then rows are made in blocks of words.

        Beyond the result, memory is block * d' numbers and their leaves. InputError for h of
        another shape or a block below 1.
        """
        V, D = self.shape
        h = check_axes("h", h, None, D)
        check_at_least("block", block, 1)
        dtype = np.result_type(h, *self.arrays.values())  # whole numbers in h must not round scores
        if self.projection is not None:
            h = h @ self.projection.T  # (N, d')
        out = np.empty((len(h), V), dtype=dtype)
        for words in row_blocks(V, block):
            ids = np.arange(words.start, words.stop)
            out[:, words] = h @ self.inner_rows(ids).T  # (N, W)
        return out

    def save(self, path):
        """Write a compressed .npz (no pickle): parameters in `bits`, codes in what they need."""
        from see_min.storage import encodings  # built on this file

        encodings.save(self, path)

    @classmethod
    def load(cls, path, vocabulary=None):
        """Read what `save` wrote, with the Vocabulary of the fit where the bag is derived.

        A function that makes the Vocabulary of the words will do. InputError if the file is
        missing, truncated, or another.
        """
        from see_min.storage import encodings  # built on this file

        return encodings.load(path, vocabulary)


def private_units(M):
    """Words (N,) with a bag unit that no other word has, and the first such unit (N,) of each."""
    if M is None:
        return np.arange(0), np.arange(0)
    entries = M.tocoo()
    alone = np.bincount(entries.col, minlength=M.shape[1])[entries.col] == 1
    words, first = np.unique(entries.row[alone], return_index=True)
    return words.astype(int), entries.col[alone][first].astype(int)


def with_private_rows(encoding, rows, units=None):
    """The encoding with N more words, the last ones: rows (N, D), kept as private vectors.

    A row is exact as far as the projection reaches it. `units` name the vectors: the row's number
    when left out. InputError for an encoding without an index.
    """
    if encoding.index is None:
        raise InputError("encoding: expected one with an index, got one whose units are the words")
    N, M, inner = len(rows), encoding.bag, np.asarray(rows, dtype=float)
    if encoding.projection is not None:
        inner = np.linalg.lstsq(encoding.projection.T, inner.T, rcond=None)[0].T  # (N, d')
    zero = [table[:1] for table in encoding.tables]  # leaves of codes 0, (1, r, q_j)
    vectors = inner - entangled_rows(zero)  # (N, d')
    if M is None:
        M, old = scipy.sparse.csr_array((len(encoding), 0)), vectors[:0]
    else:
        old = encoding.bag_vectors
    numbered = [f"[ROW{row}]" for row in range(len(encoding), len(encoding) + N)]
    units = units or [Unit("word", name) for name in numbered]
    words, names = encoding.words, encoding.bag_names or (None if M.shape[1] else [])
    return replace(
        encoding,
        index=np.pad(encoding.index, ((0, N), (0, 0), (0, 0))),  # (V + N, k, n)
        bag=scipy.sparse.block_diag((M, scipy.sparse.eye_array(N)), format="csr"),
        bag_vectors=np.concatenate([old, vectors]),  # (U + N, d')
        words=words and [*words, *numbered],
        bag_names=None if names is None else [*names, *units],
        bag_derived=False,
    )


def coded_words(encoding):
    """Words (N,) whose codes a file holds: not those with a private vector, if all are 0."""
    words = private_units(encoding.bag)[0]
    every = np.arange(len(encoding))
    return every if encoding.index[words].any() else np.setdiff1d(every, words)


def smallest(count):
    """The smallest unsigned dtype that holds 0 .. count - 1."""
    return np.min_scalar_type(max(count - 1, 0))


def row_blocks(rows, size):
    """Slices of at most `size` rows that together are all of them.

    >>> row_blocks(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
