"""What does the work? `see-derived` with one part left out at a time, at equal bytes.

    python tests/ablation_run.py docs/data/ablation.json

The notebooks' table at 1/20 of its bytes. What a part leaves free goes to the others; of several
plans the one of least error counts. Last a projection, which the plan here has not, is added. The
file holds the rows, the command and the commit.
"""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np

import see_min as see
from see_min.experiments.reports import environment
from see_min.fitting.least_squares import fit, frequency_weights, projection, relative_error
from see_min.fitting.starts import quantizer_encoding
from see_min.recipe import FIT_POWER, RIDGE_CODED
from see_min.storage.budget import default_bits, plan_bytes, plans_bytes
from see_min.storage.encodings import rounded
from see_min.storage.files import write_atomic
from see_min.toy.data import example_matrix

UNITS = (32, 256)  # per slot, where a part left out changes what is best
PROJECTION = "nothing, a projection added"  # what encode takes has none here


def filled(plan, key, budget, bits):
    """The plan with as much of `key` as fits into the bytes; None if nothing does."""
    best = None
    for size in range(getattr(plan, key), plan.vocabulary // 2 + 1):
        more = replace(plan, **{key: size})
        if more.bytes(more.private, bits) > budget:
            break
        best = more
    return best


def plan_of_encoding(one):
    """The plan behind an encoding of the form see, coded and derived."""
    private = 0 if one.bag is None else sum(unit.kind == "word" for unit in one.bag_names)
    known = 0 if one.bag is None else len(one.bag_names) - private
    return see.Plan(*one.shape, one.sizes, one.rank, len(one.tables[1]), private, known,
                    coded=True, derived=True, projected=one.projection is not None)


def plans_without(part, base, budget, bits):
    """The plans from which the best counts, all of at most `budget` bytes."""
    V, D = base.vocabulary, base.dimension
    some = V, D, 4 * V * D / budget, base.knowledge, True, bits
    with_P = [plan for plan in plans_bytes(*some) if plan.projected and plan.private < V]
    if part == "private vectors":
        return [filled(replace(base, private=0), "rank", budget, bits)]
    if part == PROJECTION:
        return with_P
    few = {"rank": 1, "private": 0, "rate": 1.0}
    whole = [replace(one, sizes=(1, one.inner_dim), **few) for one in (base, with_P[0])]
    if part == "codes":  # what is left: words with private vectors, and known units
        none = [filled(replace(one, slot_units=2), "private", budget, bits) for one in whole]
        return [*none, plan_bytes(*some, share=1.0)]
    whole = [replace(one, slot_units=U) for one in whole for U in UNITS]
    return [filled(one, "rank", budget, bits) for one in whole]  # products: a leaf is a whole row


def fitted(E, vocabulary, plan, bits):
    """The encoding of a plan, as `see_min.encode` fits it."""
    units = see.assign(vocabulary.names, vocabulary.annotations, plan, vocabulary.counts)
    f, P = frequency_weights(vocabulary.counts, FIT_POWER), None
    if plan.projected:
        P = projection(E, frequency_weights(vocabulary.counts, 1.0), plan.inner_dim)
    start, price = quantizer_encoding(E, units, plan, P, f)
    one, _ = fit(E, start, f, units, 2, RIDGE_CODED, True, price)
    return rounded(replace(one, bag_derived=True), bits)


def left_out(E, vocabulary, ratio):
    """Yield (part that is left out, encoding), first ("nothing", all parts)."""
    bits, budget = default_bits(ratio), 4 * E.size / ratio
    full = see.encode(E, vocabulary, ratio, derived=True)
    yield "nothing", full
    yield "lexicon", see.encode(E, vocabulary, ratio, derived=True, control="no_knowledge")
    yield "lexicon, shuffled", see.encode(E, vocabulary, ratio, derived=True, control="shuffled")
    f, base = frequency_weights(vocabulary.counts, FIT_POWER), plan_of_encoding(full)
    for part in ("private vectors", "codes", "products", PROJECTION):
        plans = [plan for plan in plans_without(part, base, budget, bits) if plan]
        found = [fitted(E, vocabulary, plan, bits) for plan in dict.fromkeys(plans)]
        yield part, min(found, key=lambda one: relative_error(E, one, f))


def neighbours_kept(E, rows, some):
    """Share of the ten nearest words of `some` words that stay among the ten nearest."""
    def nearest(matrix):
        unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
        cosines = unit[some] @ unit.T  # (N, V)
        cosines[np.arange(len(some)), some] = -2
        return np.argpartition(-cosines, 10, axis=1)[:, :10]  # (N, 10)

    return float(np.mean([len(set(a) & set(b)) for a, b in zip(nearest(E), nearest(rows))]) / 10)


def measured(E, vocabulary, ratio):
    """A row per part that is left out."""
    f = frequency_weights(vocabulary.counts, FIT_POWER)
    some = np.random.default_rng(0).permutation(len(E))[:1000]
    for part, one in left_out(E, vocabulary, ratio):
        row = {"table": "docstrings", "ratio": ratio, "left_out": part, "bytes": one.bytes}
        row |= {"error": relative_error(E, one), "weighted_error": relative_error(E, one, f)}
        row["neighbours"] = neighbours_kept(E, one.rows(np.arange(len(E))), some)
        yield row | {"sizes": one.sizes, "rank": one.rank, "units": len(one.tables[1])}


def main(out):
    words, counts, E = example_matrix()
    rows = measured(E, see.build_vocabulary(words, "sample", counts), 20)
    body = ",\n".join(json.dumps(row) for row in rows)
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    head = {"command": f"python tests/ablation_run.py {out}", "commit": commit,
            "environment": environment()}
    write_atomic(out, f'{json.dumps(head)[:-1]}, "rows": [\n{body}\n]}}\n')


if __name__ == "__main__":
    main(*sys.argv[1:])
