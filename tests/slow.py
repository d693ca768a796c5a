"""Slow oracles: the formulas as loops over numpy.kron; comparisons; shared by several tests."""

from functools import reduce

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal


def close(actual, expected, rtol=1e-12):
    """Relative to the largest entry: sums whose terms cancel have no accuracy of their own."""
    scale = max(1, np.abs(expected).max(initial=0))
    assert_allclose(actual, expected, rtol=rtol, atol=rtol * scale)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def same(one, other):
    """Every part of two encodings, to the bit."""
    assert list(one.arrays) == list(other.arrays)
    for name, array in one.arrays.items():
        assert_array_equal(other.arrays[name], array)
    assert_array_equal(other.index, one.index)
    assert (one.bag is None) == (other.bag is None)
    if one.bag is not None:
        assert_array_equal(other.bag.toarray(), one.bag.toarray())
    for name in ("shape", "words", "slot_names", "bag_names", "bits", "bag_derived", "bytes"):
        assert getattr(other, name) == getattr(one, name), name


def error(matrix, rows, weights):
    """Weighted squares of what rows (V, D) miss, as a share of those of the matrix."""
    return weights @ ((matrix - rows) ** 2).sum(1) / (weights @ (matrix**2).sum(1))


def squares(array):
    """The sum of squares."""
    return float((np.asarray(array) ** 2).sum())


def product(vectors):
    """v_1 (x) ... (x) v_n."""
    return reduce(np.kron, vectors, np.ones(1))


def units_of(encoding, w, k):
    """The unit of word w in every slot of term k."""
    if encoding.index is None:
        return [w] * encoding.order
    return encoding.index[w, k if encoding.index.shape[1] > 1 else 0]


def slow_term(encoding, w, k):
    """Term k of word w, (d',)."""
    units = units_of(encoding, w, k)
    return product([table[u, k] for table, u in zip(encoding.tables, units)])


def slow_bag(encoding, w):
    """The sum of the bag vectors of word w, (d',)."""
    total = np.zeros(encoding.inner_dim)
    if encoding.bag is not None:
        for u in np.nonzero(encoding.bag.toarray()[w])[0]:
            total = total + encoding.bag_vectors[u]
    return total


def slow_row(encoding, w):
    """Row w, (D,)."""
    row = slow_bag(encoding, w) + sum(slow_term(encoding, w, k) for k in range(encoding.rank))
    if encoding.projection is None:
        return row
    return sum(x * line for x, line in zip(row, encoding.projection))


def slow_matrix(encoding):
    return np.array([slow_row(encoding, w) for w in range(len(encoding))])


def slow_train(cores):
    """The array of a tensor train, entry by entry as products of small matrices."""
    out = np.empty([core.shape[1] for core in cores])
    for where in np.ndindex(out.shape):
        out[where] = reduce(np.matmul, (core[:, i] for core, i in zip(cores, where))).item()
    return out


def slow_cosine(x, y):
    """Of two vectors; 0 where one of them is zero."""
    norms = sum(a * a for a in x) * sum(b * b for b in y)
    return sum(a * b for a, b in zip(x, y)) / np.sqrt(norms) if norms else 0.0
