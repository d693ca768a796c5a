"""SememeEncoding: leaf tables + index = an embedding matrix that is never stored.

    E[w] = ( sum_{u in bag(w)} b_u  +  sum_{k=1..r} alpha_wk * tables[1][i_wk1, k] (x) ... (x) tables[n][i_wkn, k] ) @ P

The second sum is the encoding of the papers: every term is a product of leaves that belong to units (sememes,
morphemes, back-off buckets). Amplitudes alpha, carrier P and the bag, whose units own whole vectors that are simply
added, are ours and optional; without them the formula is the papers' form.
"""

import zipfile
import zlib
from dataclasses import dataclass

import numpy as np

from see_min.checks import DataError, ShapeError, check_at_least, check_axes, check_finite, check_ids
from see_min.entangle import entangled_rows
from see_min.files import atomic_path
from see_min.units import padded

FORMAT = "see_min encoding 1"
# what numpy and zipfile raise on bytes that are no encoding (RuntimeError: an entry that claims to be encrypted)
READ_ERRORS = (OSError, ValueError, TypeError, LookupError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


@dataclass
class SememeEncoding:
    """An embedding matrix E (V, D) as leaves and an index.

    Parameters
    ----------
    tables : list of n arrays (U_j, r, q_j)
        Leaf tables, one a slot; the same array may stand in several slots (MorphTE) and then counts once.
    index : int array (V, n), or (V, r, n) when the terms of a word use different units
    amplitudes : array (V, r), optional
    carrier : array (d', D), optional
        d' = prod q_j; left out, d' = D.
    bag : int array (V, m), optional
        The units whose vectors a word adds up; -1 where it has fewer than m.
    bag_vectors : array (U, d'), with `bag`

    Raises
    ------
    ShapeError
        If the parts do not fit together.
    DataError
        If an index names a unit that does not exist, or a leaf is not finite.

    Examples
    --------
    >>> leaf = np.array([[[1., 0.]], [[0., 1.]]])              # two units, one term, q = 2
    >>> bits = SememeEncoding([leaf, leaf], np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    >>> bits.rows([2])
    array([[0., 0., 1., 0.]])
    >>> bits.floats                                            # the table is shared by both slots
    4

    Source: arXiv 2412.12204 and 2210.15379 for the sum of products; bag, amplitudes and carrier are ours.
    """

    tables: list
    index: np.ndarray
    amplitudes: np.ndarray | None = None
    carrier: np.ndarray | None = None
    bag: np.ndarray | None = None
    bag_vectors: np.ndarray | None = None

    def __post_init__(self):
        if not self.tables:
            raise ShapeError("tables: expected at least one slot, got none")
        check_axes("tables[0]", self.tables[0], None, None, None)  # the rank is read off it
        for j, table in enumerate(self.tables):
            check_finite(f"tables[{j}]", check_axes(f"tables[{j}]", table, None, self.rank, None))
        if np.ndim(self.index) == 3:
            check_axes("index", self.index, None, self.rank, self.order)
        else:
            check_axes("index", self.index, None, self.order)
        for j, table in enumerate(self.tables):
            check_ids(f"index[..., {j}]", self.index[..., j], len(table))
        if self.amplitudes is not None:
            check_finite("amplitudes", check_axes("amplitudes", self.amplitudes, len(self.index), self.rank))
        if self.carrier is not None:
            check_finite("carrier", check_axes("carrier", self.carrier, self.inner, None))
        if (self.bag is None) != (self.bag_vectors is None):
            raise ShapeError("bag: expected together with bag_vectors, got one of the two")
        if self.bag is not None:
            check_axes("bag", self.bag, len(self.index), None)
            check_finite("bag_vectors", check_axes("bag_vectors", self.bag_vectors, None, self.inner))
            check_ids("bag", self.bag[self.bag >= 0], len(self.bag_vectors))

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
    def inner(self):
        """d' = prod q_j, the dimension in which the products live."""
        return int(np.prod(self.sizes))

    @property
    def shape(self):
        """(V, D) of the matrix this stands for."""
        return len(self.index), self.inner if self.carrier is None else self.carrier.shape[1]

    @property
    def parameters(self):
        """Every float array by name; a table shared by several slots once, under the first of them."""
        once = {}
        for j, table in enumerate(self.tables):
            once.setdefault(id(table), (f"tables.{j}", table))
        named = dict(once.values(), amplitudes=self.amplitudes, carrier=self.carrier, bag_vectors=self.bag_vectors)
        return {name: array for name, array in named.items() if array is not None}

    @property
    def floats(self):
        """Number of floats kept: leaf tables, amplitudes, carrier and bag vectors."""
        return sum(array.size for array in self.parameters.values())

    @property
    def index_bytes(self):
        """Bytes of the index: the smallest integer type a slot; a bag costs a length byte a word and its entries.

        A slot in which every word has its own number costs nothing.
        """
        own = np.arange(len(self.index)).reshape(-1, *[1] * (self.index.ndim - 2))  # (V,) or (V, 1)
        bytes_ = sum(self.index[..., j].size * smallest(len(table)).itemsize for j, table in enumerate(self.tables)
                     if not (self.index[..., j] == own).all())
        if self.bag is not None:
            bytes_ += len(self.bag) + np.count_nonzero(self.bag >= 0) * smallest(len(self.bag_vectors)).itemsize
        return int(bytes_)

    def leaves(self, ids):
        """The leaves of words: a list of n arrays (W, r, q_j)."""
        if self.index.ndim == 2:
            return [table[self.index[ids, j]] for j, table in enumerate(self.tables)]  # (W, r, q_j)
        term = np.arange(self.rank)
        return [table[self.index[ids, :, j], term] for j, table in enumerate(self.tables)]  # (W, r, q_j)

    def inner_rows(self, ids):
        """Rows before the carrier, (W, d')."""
        amplitudes = None if self.amplitudes is None else self.amplitudes[ids]
        rows = entangled_rows(self.leaves(ids), amplitudes)  # (W, d')
        if self.bag is not None:
            units = self.bag[ids]  # (W, m)
            for column in units.T:  # one gather of (W, d') at a time keeps memory at the size of the rows
                has = column >= 0
                rows[has] += self.bag_vectors[column[has]]
        return rows

    def rows(self, ids):
        """Embeddings of words; only the leaves of these ids are touched.

        Parameters
        ----------
        ids : int array (...)

        Returns
        -------
        array (..., D)

        Raises
        ------
        DataError
            If an id is not in 0 .. V - 1.
        """
        ids = check_ids("ids", ids, len(self.index))
        rows = self.inner_rows(ids.reshape(-1))  # (W, d')
        rows = rows if self.carrier is None else rows @ self.carrier  # (W, D)
        return rows.reshape(*ids.shape, self.shape[1])

    def scores(self, h, block=4096):
        """h @ E.T without E: the carrier meets h first, then rows are made `block` words at a time.

        Parameters
        ----------
        h : array (N, D)
        block : int
            Words a step; beyond the result, memory is block * d' floats and the leaves they gather.

        Returns
        -------
        array (N, V)

        Raises
        ------
        ShapeError
            If h is not (N, D).
        DataError
            If block is below 1.
        """
        V, D = self.shape
        h = check_axes("h", h, None, D)
        check_at_least("block", block, 1)
        dtype = np.result_type(h, *self.parameters.values())  # of h @ E.T: whole numbers in h must not round the scores
        if self.carrier is not None:
            h = h @ self.carrier.T  # (N, d')
        out = np.empty((len(h), V), dtype=dtype)
        for start in range(0, V, block):
            ids = np.arange(start, min(start + block, V))
            out[:, ids] = h @ self.inner_rows(ids).T  # (N, W)
        return out

    def save(self, path):
        """Write a compressed .npz (no pickle): floats as they are, indices in the smallest integer type."""
        arrays = {"format": np.array(FORMAT), **self.parameters}
        owner = {id(array): name for name, array in self.parameters.items()}
        arrays["slots"] = np.array([owner[id(table)] for table in self.tables])
        for j, table in enumerate(self.tables):
            arrays[f"index.{j}"] = self.index[..., j].astype(smallest(len(table)))
        if self.bag is not None:
            arrays["bag.lengths"] = (self.bag >= 0).sum(1).astype(smallest(self.bag.shape[1] + 1))
            arrays["bag.units"] = self.bag[self.bag >= 0].astype(smallest(len(self.bag_vectors)))
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **arrays)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote.

        Raises
        ------
        DataError
            If the file is missing, truncated, or not an encoding.
        """
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:  # numpy leaves a damaged file open
                arrays = {name: stored[name] for name in stored.files}
            if str(arrays.pop("format", "")) != FORMAT:
                raise DataError(f"no entry format = '{FORMAT}'")
            slots = [str(name) for name in arrays.pop("slots")]
            index = np.stack([arrays[f"index.{j}"].astype(np.int64) for j in range(len(slots))], axis=-1)
            bag = None
            if "bag_vectors" in arrays:
                bag = padded(np.split(arrays["bag.units"].astype(np.int64), np.cumsum(arrays["bag.lengths"], dtype=int)[:-1]))
            return cls([arrays[name] for name in slots], index, arrays.get("amplitudes"), arrays.get("carrier"),
                       bag, arrays.get("bag_vectors"))
        except READ_ERRORS as error:
            raise DataError(f"{path}: expected an encoding saved by see_min, got {type(error).__name__}: {error}") from None


def smallest(count):
    """The smallest unsigned dtype that holds 0 .. count - 1.

    Examples
    --------
    >>> smallest(256), smallest(257)
    (dtype('uint8'), dtype('uint16'))
    """
    return np.min_scalar_type(max(count - 1, 0))
