"""What the related methods are made of: truncated and whitened SVD, refit, Kronecker sums, CP.

The row-weighted SVD is `see_min.fitting.least_squares.low_rank_encoding`, TT-SVD is
`see_min.tensor_train.tt_svd`. A layer is y = x W^T, W (out, in); C = X^T X (in, in) sums over
calibration inputs X (N, in), and

    ||X W^T - X W'^T||^2 = tr((W - W') C (W - W')^T) = ||(W - W') C^(1/2)||^2

Arguments of another shape, numbers that are not finite and ranks out of reach are an InputError.
"""

from math import prod

import numpy as np

from see_min.entangle import entangled_rows, kron_rows
from see_min.errors import InputError, check_axes, check_finite, check_ids


def check_matrix(name, matrix, rows=None, columns=None):
    """The matrix as finite numbers of float64, if it has this shape."""
    return check_finite(name, check_axes(name, matrix, rows, columns)).astype(float, copy=False)


def truncated_svd(matrix, rank):
    """Factors L (m, r), R (r, n) with the least ||matrix - L R||; the rows of R are orthonormal.

    >>> L, R = truncated_svd(np.diag([3., 2., 1.]), 2)
    >>> (L @ R).round(12).diagonal()
    array([3., 2., 0.])

    Source: Eckart and Young 1936.
    """
    matrix = check_matrix("matrix", matrix)
    _check_rank(rank, matrix)
    U, s, Vt = np.linalg.svd(matrix, full_matrices=False)
    return U[:, :rank] * s[:rank], Vt[:rank]  # (m, r), (r, n)


def whitened_svd(W, C, rank):
    """Factors B (out, r), A (r, in) with the least ||X W^T - X (B A)^T||, C = X^T X.

    B holds the top eigenvectors of W C W^T, the second moment of outputs, and A = B^T W: C needs no
    root and no inverse. The squared error is the sum of the other eigenvalues.

    >>> B, A = whitened_svd(np.eye(2), np.diag([1., 9.]), 1)     # the second input is the large one
    >>> B @ A
    array([[0., 0.],
           [0., 1.]])

    Source: PCA of outputs, arXiv 2312.07046; the same minimum as 2408.09632.
    """
    W = check_matrix("W", W)
    C = check_matrix("C", C, W.shape[1], W.shape[1])
    _check_rank(rank, W)
    _, vectors = np.linalg.eigh(W @ C @ W.T)  # (out, out), ascending
    B = np.ascontiguousarray(vectors[:, ::-1][:, :rank])  # (out, r)
    return B, B.T @ W  # (out, r), (r, in)


def _check_rank(rank, matrix):
    if not 1 <= rank <= min(matrix.shape):
        raise InputError(f"rank: expected 1 to {min(matrix.shape)}, got {rank}")


def refit(W, C, keep):
    """Weights Z (out, k) on kept inputs S with the least ||X W^T - X_S Z^T||: W C[:, S] C[S, S]^-1.

    Where C[S, S] is singular, the least of all solutions. InputError where shapes do not fit.

    >>> refit(np.array([[1., 1.]]), np.array([[1., 1.], [1., 1.]]), [0])   # two equal inputs
    array([[2.]])

    Source: normal equations; compensation in arXiv 2412.12441, the Nystrom step in 2408.09632.
    """
    W = check_matrix("W", W)
    C = check_matrix("C", C, W.shape[1], W.shape[1])
    keep = check_ids("keep", keep, W.shape[1])
    again = keep.size - len(np.unique(keep))
    if again:
        raise InputError(f"keep: expected different inputs, got {again} again")
    solution = np.linalg.lstsq(C[np.ix_(keep, keep)], C[keep] @ W.T, rcond=None)[0]  # (k, out)
    return solution.T  # (out, k)


def rearrange(matrix, rows, columns):
    """A matrix over the digits of rows (m_1 .. m_n) and columns (n_1 .. n_n), paired: a tensor.

    T[i_1 n_1 + j_1, i_2 n_2 + j_2, ..] = matrix[(i_1 i_2 ..), (j_1 j_2 ..)], the first digit the
    slowest. With two digits rows of T are blocks, and A (x) B becomes vec(A) vec(B)^T.

    >>> rearrange(np.kron([[1., 2.]], [[1.], [10.]]), (1, 2), (2, 1))
    array([[ 1., 10.],
           [ 2., 20.]])

    Source: Van Loan and Pitsianis 1993; with more digits arXiv 1901.10787.
    """
    matrix = check_axes("matrix", matrix, prod(rows), prod(columns))
    pairs = [axis for k in range(len(rows)) for axis in (k, len(rows) + k)]
    tensor = matrix.reshape(*rows, *columns).transpose(pairs)  # (m_1, n_1, m_2, n_2, ..)
    return tensor.reshape([m * n for m, n in zip(rows, columns)])  # (m_1 n_1, m_2 n_2, ..)


def nearest_kronecker_sum(matrix, rows, columns, rank):
    """Factors A (r, m1, n1), B (r, m2, n2) with the least ||matrix - sum_k A_k (x) B_k||.

    >>> A, B = nearest_kronecker_sum(np.kron([[1., 2.]], [[1.], [10.]]), (1, 2), (2, 1), rank=1)
    >>> np.kron(A[0], B[0]).round(12)
    array([[ 1.,  2.],
           [10., 20.]])

    Source: Van Loan and Pitsianis 1993: the truncated SVD of the rearrangement.
    """
    (m1, m2), (n1, n2) = rows, columns
    left, right = truncated_svd(rearrange(matrix, rows, columns), rank)  # (m1 n1, r), (r, m2 n2)
    return left.T.reshape(rank, m1, n1), right.reshape(rank, m2, n2)


def kronecker_rows(tables, ids):
    """Rows of sum_k F_1k (x) ... (x) F_nk without the matrix: row w takes the digits of w.

    Tables hold n arrays (t_j, r, q_j), the rows of F_jk; the first digit is the slowest.
    ids (...) -> (..., q_1 ... q_n).

    >>> a = np.array([[[1.]], [[2.]]])                             # two digits, r = 1, q = 1
    >>> kronecker_rows([a, 10 * a], [0, 1, 2, 3]).ravel()        # 1 * 10, 1 * 20, 2 * 10, 2 * 20
    array([10., 20., 20., 40.])

    Source: word2ketXS, arXiv 1911.04975.
    """
    for j, one in enumerate(tables):
        check_axes(f"tables[{j}]", one, None, np.shape(tables[0])[1], None)
    sizes = [len(one) for one in tables]
    ids = check_ids("ids", ids, prod(sizes))
    digits = np.unravel_index(ids.reshape(-1), sizes)  # n arrays (W,)
    rows = entangled_rows([one[digit] for one, digit in zip(tables, digits)])  # (W, D)
    return rows.reshape(*ids.shape, rows.shape[1])


def cp_als(tensor, rank, seed=0, sweeps=20):
    """Minimise ||T - sum_k a_1k o ... o a_nk||^2, o the outer product, by alternation.

    A_j = T_(j) K^T G^-1: K holds the products of the vectors of all factors but j, so G = K K^T is
    the elementwise product of their Gram matrices. Returns the factors, n arrays (I_j, r), and
    after each step ||T - ...||^2 / ||T||^2, which never rises.

    >>> (a, b), errors = cp_als(np.outer([1., 2.], [3., 4., 5.]), rank=1)
    >>> (a @ b.T).round(9), errors[-1] < 1e-12
    (array([[ 3.,  4.,  5.],
           [ 6.,  8., 10.]]), True)

    Source: Carroll and Chang 1970, Harshman 1970.
    """
    rng, norm, errors = np.random.default_rng(seed), float((tensor**2).sum()) or 1.0, []
    factors = [rng.standard_normal((size, rank)) for size in tensor.shape]  # (I_j, r) each
    for _ in range(sweeps):
        for j in range(tensor.ndim):
            others = [factor for i, factor in enumerate(factors) if i != j]
            K = kron_rows([factor.T[None] for factor in others])[0]  # (r, product of I_i)
            B = np.moveaxis(tensor, j, 0).reshape(len(factors[j]), -1) @ K.T  # (I_j, r)
            G = np.prod([factor.T @ factor for factor in others], axis=0)  # (r, r)
            factors[j] = np.linalg.lstsq(G, B.T, rcond=None)[0].T  # (I_j, r)
            explained = float(((2 * B - factors[j] @ G) * factors[j]).sum())
            errors.append(max(0.0, 1 - explained / norm))
    return factors, errors
