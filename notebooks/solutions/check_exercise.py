"""Check a mini-SEE (docs/exercise.md): `python notebooks/solutions/check_exercise.py FILE [STEPS]`.

Steps 1 to STEPS in order, each on cases from the smallest on; the first wrong answer is printed.
"""

import sys
from copy import deepcopy
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np

import see_min as see
from see_min.toy.exercises import compare
from see_min.units import sparse_rows

NAMES = ("product", "rows", "leaves", "codes", "fit")


def numbers(rng, *shape):
    """Multiples of 1/4, which are short to read."""
    return rng.integers(-4, 5, shape) / 4


# What is expected, slow and obvious or by the library.
def slow_product(left, right):
    return np.array([np.kron(a, b) for a, b in zip(left, right)])  # (V, q_1 q_2)


def library_rows(tables, index, bag, vectors, P):
    bag = sparse_rows([np.flatnonzero(row).tolist() for row in bag], bag.shape[1])
    return see.SememeEncoding(tables, index, P, bag, vectors).rows(np.arange(len(index)))


def slow_leaves(rest, frozen, f, codes, U, ridge):
    """Each unit's least-squares problem, written out as one system with the ridge below it."""
    q, found = rest.shape[1], []
    for u in range(U):
        system, target = [np.sqrt(ridge) * np.eye(q)], [np.zeros(q)]
        for w in np.flatnonzero(codes == u):
            system.append(np.sqrt(f[w]) * np.kron(np.eye(q), frozen[w][:, None]))  # (q p, q)
            target.append(np.sqrt(f[w]) * rest[w].ravel())
        found.append(np.linalg.lstsq(np.vstack(system), np.concatenate(target), rcond=None)[0])
    return np.array(found)  # (U, q)


def slow_codes(rest, frozen, leaf):
    errors = [[((one - np.outer(t, other)) ** 2).sum() for t in leaf]
              for one, other in zip(rest, frozen)]
    return np.argmin(errors, axis=1)


def library_fit(X, f, tables, index, bag, sweeps, ridge):
    M = sparse_rows([np.flatnonzero(row).tolist() for row in bag], bag.shape[1])
    start = see.SememeEncoding(tables, index, None, M, np.zeros((bag.shape[1], X.shape[1])))
    free = see.Units(index, np.ones_like(index, dtype=bool), [(0, len(tables[0]))] * 2, [])
    return see.fit(X, start, f, free, sweeps, ridge)[0].rows(np.arange(len(X)))  # (V, d')


# Cases, from the smallest on.
def cases_of(step, seed=0):
    rng = np.random.default_rng(seed)
    for V, U, r, q, p in ((1, 2, 1, 2, 1), (2, 2, 1, 2, 3), (3, 2, 2, 2, 3), (6, 3, 2, 3, 2)):
        rest, frozen = numbers(rng, V, q, p), numbers(rng, V, p)
        f, codes = rng.integers(1, 5, V) / 2, rng.integers(0, U, V)
        tables = [rng.standard_normal((U, r, q)), rng.standard_normal((U, r, p))]
        index, bag = rng.integers(0, U, (V, r, 2)), np.arange(2 * V).reshape(V, 2) % 3 < 1.0
        bag = bag.astype(float)  # (V, 2)
        if step == 1:
            yield numbers(rng, V, q), frozen
        elif step == 2:
            yield tables, index, bag, numbers(rng, 2, q * p), numbers(rng, q * p, q * p + 1)
        elif step == 3:
            yield rest, frozen, f, codes, U, 0.5
        elif step == 4:
            yield rng.standard_normal((V, q, p)), rng.standard_normal((V, p)), tables[0][:, 0]
        elif V > 2:  # entries of variance 1 and weights of mean 1, as the library takes them
            X = rng.standard_normal((V, q * p))
            bag = np.ones((V, 1)) if V < 5 else np.eye(3)[np.arange(V) % 3]
            X, f = X / np.sqrt((X**2).mean()), f / f.mean()
            for sweeps in (1, 2, 5):
                yield deepcopy((X, f, tables, index, bag, sweeps, 0.5))


def fitted_rows(fit):
    """The rows (V, d') that the answer of `fit` stands for."""
    def answer(X, f, tables, index, bag, sweeps, ridge):
        tables, index, vectors = fit(X, f, tables, index, bag, sweeps, ridge)
        return library_rows(tables, index, bag, vectors, np.eye(X.shape[1]))
    return answer


def check(module, steps=5):
    """Raise an AssertionError that says the smallest counterexample of the first wrong step."""
    oracles = slow_product, library_rows, slow_leaves, slow_codes, library_fit
    for step, (name, oracle) in enumerate(zip(NAMES[:steps], oracles), start=1):
        if not hasattr(module, name):
            raise AssertionError(f"step {step}: expected a function {name}, got none")
        answer = getattr(module, name)
        print(f"step {step}, {name}: ", end="", flush=True)
        compare(fitted_rows(answer) if name == "fit" else answer, oracle, list(cases_of(step)))


def main(argv):
    if len(argv) not in (1, 2) or not all(one.isdigit() for one in argv[1:]):
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    spec = spec_from_file_location("mini_see", argv[0])
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        check(module, int(argv[1]) if len(argv) == 2 else 5)
    except AssertionError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
