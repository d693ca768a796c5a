"""Tensor trains: TT-SVD, back to a tensor, rounding, and the sum of products as a diagonal train.

A train writes an array T (I_1, ..., I_n) as T[i_1, ..., i_n] = G_1[:, i_1, :] ... G_n[:, i_n, :],
with cores G_j (R_{j-1}, I_j, R_j) and R_0 = R_n = 1. In an embedding every unit may own such a
core: a word is then the product of the cores of its units, of which the leaves of
`see_min.entangle` are the diagonal special case.
"""

import numpy as np

from see_min.errors import InputError, check_at_least, check_axes, check_finite


def tt_svd(tensor, max_rank=None, tolerance=0.0):
    """Split off one axis after the other by a truncated SVD.

    Parameters
    ----------
    tensor : array (I_1, ..., I_n), n >= 1
    max_rank : int, optional
        The largest bond size R_j.
    tolerance : float
        Singular values are dropped while the norm of all dropped at a bond stays within this.

    Returns
    -------
    cores : list of n arrays (R_{j-1}, I_j, R_j)
    dropped : list of n - 1 floats
        delta_j, the norm of the singular values dropped at bond j: ||T - TT||^2 <= sum_j delta_j^2.

    Raises
    ------
    InputError
        If the tensor is empty or not finite, max_rank is below 1 or tolerance below 0.

    Examples
    --------
    >>> cores, dropped = tt_svd(np.ones((2, 3, 4)), tolerance=1e-9)
    >>> [core.shape for core in cores]
    [(1, 2, 1), (1, 3, 1), (1, 4, 1)]

    Source: Oseledets 2011, algorithm 1; used on embeddings in arXiv 1901.10787.
    """
    tensor = check_finite("tensor", np.asarray(tensor, dtype=float))
    if tensor.ndim == 0 or tensor.size == 0:
        raise InputError(f"tensor: expected axes, none of them empty, got shape {tensor.shape}")
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


def tt_to_tensor(cores):
    """Multiply the cores of a train: the array (I_1, ..., I_n). InputError if it is no train.

    >>> tt_to_tensor([np.array([[[1.], [2.]]]), np.array([[[3.], [5.]]])])
    array([[ 3.,  5.],
           [ 6., 10.]])
    """
    check_train(cores)
    tensor = np.ones((1, 1))  # (I_1 ... I_j, R_j)
    for core in cores:
        tensor = np.tensordot(tensor, core, axes=1).reshape(-1, core.shape[2])  # (I_1 .. I_j, R_j)
    return tensor.reshape([core.shape[1] for core in cores])


def tt_round(cores, max_rank=None, tolerance=0.0):
    """Lower the bond sizes of a train without building the array; returns and raises as `tt_svd`.

    QR from the right makes every core but the first row-orthonormal; truncated SVD from the left
    then errs as it would on the array itself.

    Source: Oseledets 2011, algorithm 2.
    """
    check_train(cores)
    check_at_least("tolerance", tolerance, 0)
    right = list(cores)
    for j in range(len(cores) - 1, 0, -1):
        rank, size, out = right[j].shape
        Q, R = np.linalg.qr(right[j].reshape(rank, size * out).T)  # (I_j R_j, k), (k, R_{j-1})
        right[j] = Q.T.reshape(-1, size, out)  # (k, I_j, R_j)
        right[j - 1] = np.tensordot(right[j - 1], R.T, axes=1)  # (R_{j-2}, I_{j-1}, k)
    dropped = []
    for j in range(len(cores) - 1):
        rank, size, out = right[j].shape
        pair, delta = tt_svd(right[j].reshape(rank * size, out), max_rank, tolerance)
        dropped += delta
        right[j] = pair[0].reshape(rank, size, -1)  # (R_{j-1}, I_j, R_j)
        # (R_j, I_{j+1}, R_{j+1})
        right[j + 1] = np.tensordot(pair[1][:, :, 0], right[j + 1], axes=1)
    return right, dropped


def cp_as_tt(leaves):
    """One word's leaves (r, q_j) as a train: G_j[k, a, l] = v_jk[a] if k = l, else 0.

    >>> bell = np.eye(2)
    >>> tt_to_tensor(cp_as_tt([bell, bell]))
    array([[1., 0.],
           [0., 1.]])

    Source: Oseledets 2011, section 1 (canonical to TT).
    """
    return [core[0] for core in unit_cores([np.asarray(leaf)[None] for leaf in leaves])]


def unit_cores(tables):
    """Leaf tables (U_j, r, q_j) as cores of units (U_j, R_{j-1}, q_j, R_j), leaves on diagonals."""
    cores = [np.einsum("uka,kl->ukal", table, np.eye(table.shape[1])) for table in tables]
    cores[0] = cores[0].sum(1, keepdims=True)  # (U_1, 1, q_1, r)
    cores[-1] = cores[-1].sum(3, keepdims=True)  # (U_n, r, q_n, 1)
    return cores


def core_rows(cores, index):
    """Rows (W, q_1 .. q_n) from unit-owned cores: E[w] = G_1[i_w1] G_2[i_w2] ... G_n[i_wn].

    `cores` are n arrays (U_j, R_{j-1}, q_j, R_j), `index` is (W, n), else an InputError. The TT
    embedding of arXiv 1901.10787 is the case where units are digits of the row number.
    """
    index = check_axes("index", index, None, len(cores))
    rows = np.ones((len(index), 1, 1))  # (W, q_1 .. q_j, R_j)
    for core, unit in zip(cores, index.T):
        W, width, _ = rows.shape
        rows = np.einsum("wpk,wkal->wpal", rows, core[unit])  # (W, q_1 .. q_{j-1}, q_j, R_j)
        rows = rows.reshape(W, width * core.shape[2], core.shape[3])  # (W, q_1 .. q_j, R_j)
    return rows[:, :, 0]


def check_train(cores):
    """Raise InputError unless the cores form a train."""
    shapes = [np.shape(core) for core in cores]
    if not shapes or any(len(shape) != 3 for shape in shapes):
        raise InputError(f"cores: expected arrays with 3 axes, got shapes {shapes}")
    bonds = [1, *(shape[2] for shape in shapes)]
    if bonds[-1] != 1 or any(shape[0] != bond for shape, bond in zip(shapes, bonds)):
        raise InputError(
            f"cores: expected equal bond sizes of neighbours and ends of 1, got shapes {shapes}"
        )
