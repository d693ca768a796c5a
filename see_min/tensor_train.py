"""Tensor trains: TT-SVD, back to dense, rounding, and the sum of products as a train with diagonal cores.

A train writes an array T (I_1, ..., I_n) as T[i_1, ..., i_n] = G_1[:, i_1, :] G_2[:, i_2, :] ... G_n[:, i_n, :], with cores
G_j (R_{j-1}, I_j, R_j) and R_0 = R_n = 1. In an embedding every unit may own such a core: a word is then the product of the
cores of its units, of which the leaves of `see_min.entangle` are the diagonal special case.
"""

import numpy as np

from see_min.checks import ShapeError, check_at_least, check_axes, check_finite


def tt_svd(tensor, max_rank=None, tolerance=0.0):
    """Split off one axis after the other by a truncated SVD.

    Parameters
    ----------
    tensor : array (I_1, ..., I_n), n >= 1
    max_rank : int, optional
        The largest bond size R_j.
    tolerance : float
        Singular values are dropped while the norm of all that are dropped at a bond stays within this.

    Returns
    -------
    cores : list of n arrays (R_{j-1}, I_j, R_j)
    dropped : list of n - 1 floats
        eps_j, the norm of the singular values dropped at bond j: the error obeys ||T - TT||^2 <= sum_j eps_j^2.

    Raises
    ------
    ShapeError
        If the tensor has no axis or an empty one.
    DataError
        If it is not finite, max_rank is below 1 or tolerance below 0.

    Examples
    --------
    >>> cores, dropped = tt_svd(np.ones((2, 3, 4)))
    >>> [core.shape for core in cores] if np.allclose(tt_dense(cores), 1) else "wrong"
    [(1, 2, 2), (2, 3, 4), (4, 4, 1)]
    >>> [core.shape for core in tt_svd(np.ones((2, 3, 4)), tolerance=1e-9)[0]]
    [(1, 2, 1), (1, 3, 1), (1, 4, 1)]

    Source: Oseledets 2011, algorithm 1; used on embeddings in arXiv 1901.10787.
    """
    tensor = check_finite("tensor", np.asarray(tensor, dtype=float))
    if tensor.ndim == 0 or tensor.size == 0:
        raise ShapeError(f"tensor: expected at least one axis and no empty one, got shape {tensor.shape}")
    check_at_least("tolerance", tolerance, 0)
    max_rank = check_at_least("max_rank", tensor.size if max_rank is None else max_rank, 1)
    cores, dropped, rest, rank = [], [], tensor, 1
    for size in tensor.shape[:-1]:
        U, s, Vt = np.linalg.svd(rest.reshape(rank * size, -1), full_matrices=False)
        tails = np.sqrt(np.append(np.cumsum(s[::-1] ** 2)[::-1], 0.0))  # tails[k]: norm of s[k:]
        keep = max(1, min(max_rank, int(np.argmax(tails <= tolerance))))
        cores.append(U[:, :keep].reshape(rank, size, keep))  # (R_{j-1}, I_j, R_j)
        dropped.append(float(tails[keep]))
        rest, rank = s[:keep, None] * Vt[:keep], keep  # (R_j, I_{j+1} ... I_n)
    cores.append(rest.reshape(rank, tensor.shape[-1], 1))
    return cores, dropped


def tt_dense(cores):
    """Multiply the cores of a train: the array (I_1, ..., I_n).

    Raises
    ------
    ShapeError
        If neighbouring cores do not share a bond size, or the ends are not 1.

    Examples
    --------
    >>> tt_dense([np.array([[[1.], [2.]]]), np.array([[[3.], [5.]]])])
    array([[ 3.,  5.],
           [ 6., 10.]])

    Source: Oseledets 2011.
    """
    check_train(cores)
    dense = np.ones((1, 1))  # (I_1 ... I_j, R_j)
    for core in cores:
        dense = np.tensordot(dense, core, axes=1).reshape(-1, core.shape[2])  # (I_1 ... I_j, R_j)
    return dense.reshape([core.shape[1] for core in cores])


def tt_round(cores, max_rank=None, tolerance=0.0):
    """Lower the bond sizes of a train without building the array: QR from the right, then truncated SVD from the left.

    Returns
    -------
    cores : list of n arrays, dropped : list of n - 1 floats
        As `tt_svd` of the dense array.

    Raises
    ------
    ShapeError, DataError
        As `tt_dense` and `tt_svd`.

    Examples
    --------
    >>> a = np.array([[[1.], [2.]]])
    >>> twice = [np.concatenate([a, a], 2), np.concatenate([a, a], 2).transpose(2, 1, 0)]      # a (x) a + a (x) a, bond 2
    >>> [core.shape for core in tt_round(twice, tolerance=1e-9)[0]]
    [(1, 2, 1), (1, 2, 1)]

    Source: Oseledets 2011, algorithm 2.
    """
    check_train(cores)
    check_at_least("tolerance", tolerance, 0)
    right = list(cores)
    for j in range(len(cores) - 1, 0, -1):  # make every core but the first row-orthonormal
        rank, size, out = right[j].shape
        Q, R = np.linalg.qr(right[j].reshape(rank, size * out).T)  # (I_j R_j, k), (k, R_{j-1})
        right[j] = Q.T.reshape(-1, size, out)
        right[j - 1] = np.tensordot(right[j - 1], R.T, axes=1)  # (R_{j-2}, I_{j-1}, k)
    dropped = []
    for j in range(len(cores) - 1):
        rank, size, out = right[j].shape
        pair, eps = tt_svd(right[j].reshape(rank * size, out), max_rank, tolerance)
        dropped += eps
        right[j] = pair[0].reshape(rank, size, -1)  # (R_{j-1}, I_j, R_j)
        right[j + 1] = np.tensordot(pair[1][:, :, 0], right[j + 1], axes=1)  # (R_j, I_{j+1}, R_{j+1})
    return right, dropped


def cp_as_tt(leaves):
    """A sum of products as a train whose cores are diagonal in the bond: G_j[k, a, l] = v_jk[a] if k = l, else 0.

    Parameters
    ----------
    leaves : list of n arrays (r, q_j)
        One word.

    Returns
    -------
    list of cores (1, q_1, r), (r, q_j, r), ..., (r, q_n, 1)

    Examples
    --------
    >>> bell = np.eye(2)
    >>> tt_dense(cp_as_tt([bell, bell]))
    array([[1., 0.],
           [0., 1.]])

    Source: Oseledets 2011, section 1 (canonical to TT).
    """
    return [core[0] for core in unit_cores([np.asarray(leaf)[None] for leaf in leaves])]


def unit_cores(tables):
    """Leaf tables as unit-owned cores: each unit's leaves on the diagonal of its core.

    Parameters
    ----------
    tables : list of n arrays (U_j, r, q_j)

    Returns
    -------
    list of n arrays (U_j, R_{j-1}, q_j, R_j), R_0 = R_n = 1 and r between

    Source: ours.
    """
    cores = [np.einsum("uka,kl->ukal", table, np.eye(table.shape[1])) for table in tables]  # (U_j, r, q_j, r)
    cores[0] = cores[0].sum(1, keepdims=True)  # (U_1, 1, q_1, r)
    cores[-1] = cores[-1].sum(3, keepdims=True)  # (U_n, r, q_n, 1)
    return cores


def core_rows(cores, index):
    """Rows of words from unit-owned cores: E[w] = G_1[i_w1] G_2[i_w2] ... G_n[i_wn], flattened.

    Parameters
    ----------
    cores : list of n arrays (U_j, R_{j-1}, q_j, R_j)
    index : int array (W, n)

    Returns
    -------
    array (W, q_1 ... q_n)

    Raises
    ------
    ShapeError
        If the index does not have a column a slot.

    Source: ours; the TT embedding of arXiv 1901.10787 is the case where the units are digits of the row number.
    """
    index = check_axes("index", index, None, len(cores))
    rows = np.ones((len(index), 1, 1))  # (W, q_1 .. q_j, R_j)
    for core, unit in zip(cores, index.T):
        W, width, _ = rows.shape
        rows = np.einsum("wpk,wkal->wpal", rows, core[unit]).reshape(W, width * core.shape[2], core.shape[3])
    return rows[:, :, 0]


def check_train(cores):
    """Raise ShapeError unless the cores form a train."""
    shapes = [np.shape(core) for core in cores]
    if not shapes or any(len(shape) != 3 for shape in shapes):
        raise ShapeError(f"cores: expected arrays with 3 axes, got shapes {shapes}")
    bonds = [1, *(shape[2] for shape in shapes)]
    if bonds[-1] != 1 or any(shape[0] != bond for shape, bond in zip(shapes, bonds)):
        raise ShapeError(f"cores: expected neighbours that share a bond size and ends of 1, got shapes {shapes}")
