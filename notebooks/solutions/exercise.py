"""A mini-SEE: one solution of docs/exercise.md."""

import numpy as np


# 1. A term: every pair of entries, the first factor slowest.
def product(left, right):
    """(V, q_1), (V, q_2) -> (V, q_1 q_2)."""
    table = left[:, :, None] * right[:, None, :]  # (V, q_1, q_2)
    return table.reshape(len(left), -1)


# 2. Look up, multiply, add, project.
def term(tables, index, k):
    """(V, q_1 q_2): term k of every word."""
    left, right = (table[index[:, k, j], k] for j, table in enumerate(tables))  # (V, q_j) each
    return product(left, right)


def rows(tables, index, bag, vectors, P):
    """(V, D)."""
    x = bag @ vectors  # (V, q_1 q_2)
    for k in range(index.shape[1]):
        x = x + term(tables, index, k)
    return x @ P


# 3. The best leaves with all else frozen: a weighted mean per unit.
def leaves(rest, frozen, f, codes, U, ridge):
    """(U, q): rest (V, q, p) is what the term should be, frozen (V, p) its other factor."""
    above = (rest * frozen[:, None, :]).sum(2)  # (V, q)
    below = (frozen**2).sum(1)  # (V,)
    found = np.zeros((U, rest.shape[1]))
    for u in range(U):
        own = codes == u  # (V,)
        found[u] = f[own] @ above[own] / (f[own] @ below[own] + ridge)
    return found


# 4. The best unit of every word with all leaves frozen.
def codes(rest, frozen, leaf):
    """(V,): ||rest_w - t (x) frozen_w||^2 is least for t = leaf[codes[w]], leaf (U, q)."""
    above = (rest * frozen[:, None, :]).sum(2)  # (V, q)
    below = (frozen**2).sum(1)  # (V,)
    cost = below[:, None] * (leaf**2).sum(1) - 2 * above @ leaf.T  # (V, U), without ||rest_w||^2
    return cost.argmin(1)


# 5. All parts in turn.
def bag_vectors(bag, f, rest, ridge):
    """(units, d'): ridge regression of what the products leave."""
    gram = bag.T @ (f[:, None] * bag) + ridge * np.eye(bag.shape[1])  # (units, units)
    return np.linalg.solve(gram, bag.T @ (f[:, None] * rest))


def fit(X, f, tables, index, bag, sweeps, ridge):
    """Tables, index (V, r, 2) and bag vectors for X (V, d')."""
    tables, index = [table.copy() for table in tables], index.copy()
    U, r, _ = tables[0].shape
    for sweep in range(sweeps):
        terms = [term(tables, index, k) for k in range(r)]
        vectors = bag_vectors(bag, f, X - sum(terms), ridge)
        for k in range(r):
            terms[k] = 0
            rest = X - bag @ vectors - sum(terms)  # (V, d')
            rest = rest.reshape(len(X), tables[0].shape[2], -1)  # (V, q_1, q_2)
            for j, own in enumerate((rest, rest.swapaxes(1, 2))):  # the factor that moves first
                frozen = tables[1 - j][index[:, k, 1 - j], k]  # (V, q) of the other slot
                if sweep:
                    index[:, k, j] = codes(own, frozen, tables[j][:, k])
                tables[j][:, k] = leaves(own, frozen, f, index[:, k, j], U, ridge)
            terms[k] = term(tables, index, k)
    return tables, index, vectors
