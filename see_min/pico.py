"""SEE on one page, numpy alone: words -> units -> leaves -> rows, fitted to a given matrix.

    E[w] = ( sum_{u in bag(w)} b_u  +  sum_k T_1[i_wk1, k] (x) T_2[i_wk2, k] ) @ P

The package does the same for any order, checked, in blocks; the tests hold it against this page.
"""

import hashlib

import numpy as np


# 1. What is known of a word: sememes (units of meaning) and morphemes (units of form).
def units_of(word, lexicon, endings=("ing", "ed", "er", "s")):
    """The sememes of a word's stem, the stem, and the ending that was cut off."""
    fits = (end for end in endings if word.endswith(end) and word.removesuffix(end) in lexicon)
    end = next(fits, "")
    stem = word.removesuffix(end)
    sememes = {f"sememe:{name}" for sense in lexicon.get(stem, ()) for name in sense}
    return sememes | {f"stem:{stem}"} | ({f"affix:{end}"} if end else set())


def bag_matrix(words, lexicon):
    """M (V, U), M[w, u] = 1 if word w has unit u; only units that two words share."""
    owned = [units_of(word, lexicon) for word in words]
    every = sorted(set().union(*owned))
    names = [unit for unit in every if sum(unit in units for units in owned) > 1]
    return np.array([[unit in units for unit in names] for units in owned], dtype=float), names


# 2. A start: a hash gives every word one of U buckets per term k and slot j.
def bucket(text, U):
    """A number from 0 to U - 1, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % U


def hashed_index(words, r, U):
    """The bucket of each word in each term and slot, (V, r, 2)."""
    return np.array(  # (V, r, 2)
        [[[bucket(f"{word} {k} {j}", U) for j in (0, 1)] for k in range(r)] for word in words]
    )


def projection(E0, f, d):
    """P (d', D): the d' directions in which the weighted matrix is largest (Eckart and Young)."""
    return np.linalg.svd(np.sqrt(f)[:, None] * E0, full_matrices=False)[2][:d]


# 3. Look-up: gather leaves, multiply, add.
def term(T, index, k):
    """T_1[i_wk1, k] (x) T_2[i_wk2, k] for all words, (V, q_1 q_2)."""
    left, right = T[0][index[:, k, 0], k], T[1][index[:, k, 1], k]  # (V, q_1), (V, q_2)
    return (left[:, :, None] * right[:, None, :]).reshape(len(index), -1)  # (V, q_1 q_2)


def rows(T, index, M, B, P):
    """The formula above for all words, (V, D)."""
    return (M @ B + sum(term(T, index, k) for k in range(index.shape[1]))) @ P  # (V, D)


# 4. The fit: freeze all but one part; what is left is a weighted mean per unit.
def fit(X, f, T, index, M, sweeps=10, ridge=0.5):
    """Alternating least squares on X = E0 P^T (V, d'); from the second sweep on words may move."""
    V, r, U = len(X), T[0].shape[1], len(T[0])
    T, index, errors = [table.copy() for table in T], index.copy(), []
    products = [term(T, index, k) for k in range(r)]
    gram = M.T @ (f[:, None] * M) + ridge * np.eye(M.shape[1])  # (bag units, bag units)
    for sweep in range(sweeps):
        B = np.linalg.solve(gram, M.T @ (f[:, None] * (X - sum(products))))  # ridge regression
        for k in range(r):
            rest = X - M @ B - sum(products) + products[k]  # what term k should be
            rest = rest.reshape(V, T[0].shape[2], T[1].shape[2])  # (V, q_1, q_2)
            for j, other in ((0, 1), (1, 0)):
                frozen = T[other][index[:, k, other], k]  # (V, q) of the other slot
                G = (frozen**2).sum(1)  # (V,)
                b = np.einsum("wab,wb->wa" if j == 0 else "wab,wa->wb", rest, frozen)  # (V, q_j)
                if sweep:  # reassign: the bucket of least error, as in k-means
                    cost = G[:, None] * (T[j][:, k] ** 2).sum(1) - 2 * b @ T[j][:, k].T  # (V, U)
                    index[:, k, j] = cost.argmin(1)
                u = index[:, k, j]
                total = np.zeros_like(T[j][:, k])  # (U, q_j)
                np.add.at(total, u, f[:, None] * b)
                T[j][:, k] = total / (np.bincount(u, f * G, U) + ridge)[:, None]
            products[k] = term(T, index, k)
        errors.append(f @ ((X - M @ B - sum(products)) ** 2).sum(1) / (f @ (X**2).sum(1)))
    return T, index, B, errors


def main():
    """Compress 30 made-up words of 24 numbers and print what is left of them."""
    rng = np.random.default_rng(0)
    lexicon = {"add": [["more"]], "sum": [["more"]], "cut": [["less"]], "trim": [["less"]]}
    lexicon |= {"walk": [["go"]], "run": [["go"]]}
    words = [stem + end for stem in lexicon for end in ("", "s", "ed", "ing", "er")]  # V = 30
    M, names = bag_matrix(words, lexicon)
    E0 = M @ rng.standard_normal((len(names), 24))  # what knowledge explains
    E0 += 0.5 * rng.standard_normal(E0.shape)  # and what it does not
    f, P = np.ones(len(words)), projection(E0, np.ones(len(words)), 12)
    X = E0 @ P.T  # (V, 12)
    scale = np.sqrt((X**2).mean())
    T = [rng.standard_normal((5, 3, q)) * 3**-0.25 for q in (4, 3)]  # 5 buckets, 3 terms
    T, index, B, errors = fit(X / scale, f, T, hashed_index(words, 3, 5), M)
    E = scale * rows(T, index, M, B, P)
    kept = sum(table.size for table in T) + B.size + P.size
    error = ((E - E0) ** 2).sum() / (E0**2).sum()
    print(f"{E0.size} parameters -> {kept}; relative squared error {error:.3f}")
    print("inside the projection, sweep by sweep:", np.round(errors, 3))


if __name__ == "__main__":
    main()
