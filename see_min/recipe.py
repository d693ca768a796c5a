"""The one recipe from a matrix and its words to an encoding. Every caller in the package uses it.

    words -> annotations -> plan for the ratio -> units -> projection, start -> fit -> few bits
"""

from dataclasses import replace

import numpy as np

from see_min.errors import InputError, check_at_least, check_shape
from see_min.fitting.least_squares import (
    check_finite_rows,
    fit,
    frequency_weights,
    projection,
    random_encoding,
    relative_error,
)
from see_min.fitting.starts import FEW, ROUNDS, mapped, metric_roots, quantizer_encoding
from see_min.storage.budget import default_bits, make_plan, plans_bytes
from see_min.storage.encodings import check_bits, rounded
from see_min.units import Annotation, assign, random_units, shared_units, shuffled
from see_min.words.vocabulary import Vocabulary, build_vocabulary

# Rows are weighted by (count + 1)^power. The projection serves what occurs in text; the fit of the
# rest serves rare words too, as frequent ones have private vectors (docs/results.md, "One recipe").
PROJECTION_POWER, FIT_POWER = 1.0, 0.5
MIX = 0.7  # the share of the metric; the rest is the plain sum of squares
COUNTS = ("bytes", "parameters")
SAMPLE = 20_000  # words on which plans are compared
RIDGE_CODED = 1e-3  # every code has many words: what is left is to keep the systems solvable
CONTROLS = ("shuffled", "random_units", "no_knowledge", "fixed")


def encode(
    matrix,
    words,
    ratio=20,
    counts=None,
    lexicon="sample",
    *,
    metric=None,
    mix=MIX,
    count="bytes",
    bits=None,
    derived=False,
    form="see",
    per_term=True,
    order=None,
    control=None,
    sweeps=None,
    seed=0,
    progress=None,
):
    """Compress a matrix E0 (V, D) of V words to a SememeEncoding.

    Parameters
    ----------
    matrix : array (V, D)
        E0, rows in any order; it may be a memory map.
    words : list or array of V str, {token: row}, or Vocabulary
        Words or a tokenizer's tokens. A Vocabulary brings its own counts and annotations.
    ratio : float
        4 V D bytes / bytes of a file, or V D / parameters, as `count` says.
    counts : array (V,), optional
        How often each word occurs. Left out, words stand by falling frequency (Zipf's law).
    lexicon : str or Lexicon
        What words mean: "sample", "none", "openhownet", a file, or several joined by +.
    metric : array (D, D), optional
        C: an error e of a row costs mix e C e^T + (1 - mix) |e|^2, C scaled to trace D. Only plans
        of `see` with a projection then count, as the way back goes into it.
    mix : float
    count : str, of COUNTS
        "bytes": all that a file holds. "parameters": numbers alone, as the papers count.
    bits : int, optional
        Of a parameter in a file where bytes are counted, 4 to 16 or 32; left out, 8 up to a ratio
        of 30, else 6. By parameters it is 32.
    derived : bool
        Whether words and lexicon are at hand at loading: then known units cost no index.
    form : str
        "see"; or an opponent, a sum of products alone: "paper" (senses as terms), "morphemes".
        The opponents count parameters.
    per_term : bool
        Of `see` by parameters: whether every term has its own index.
    order : int, optional
        Factors of a product; 2 for "see" (by bytes always), 3 for the others when left out.
    control : str, optional, of CONTROLS
        "shuffled": annotations of other words; "random_units": as many, without meaning;
        "no_knowledge": none, more private vectors instead; "fixed": no reassignment in the fit.
    sweeps : int, optional
        Of the fit: 2 by bytes, whose start is good, 10 by parameters when left out.
    seed : int
    progress : callable(sweep, error), optional

    Returns
    -------
    SememeEncoding, which knows its words and units

    Raises
    ------
    InputError
        If matrix, words, metric and counts do not fit together, or the ratio is out of reach.

    Examples
    --------
    >>> import numpy as np
    >>> E0 = np.random.default_rng(0).standard_normal((300, 32))
    >>> encoding = encode(E0, [f"word{i}" for i in range(300)], ratio=10, lexicon="none")
    >>> encoding.shape, encoding.bytes <= 4 * 300 * 32 / 10
    ((300, 32), True)
    """
    matrix = check_shape("matrix", matrix, None, None)
    check_at_least("seed", seed, 0)
    if not isinstance(words, Vocabulary):
        words = build_vocabulary(words, lexicon, counts, seed=seed)
    if len(words) != len(matrix):
        raise InputError(f"words: expected {len(matrix)}, one per row, got {len(words)}")
    bits = default_bits(ratio, bits)
    options = {"count": count, "bits": bits, "derived": derived}
    plans = plans_of(matrix.shape, words, ratio, form, control, order, per_term, **options)
    check_finite_rows(matrix)
    inverse = None
    if metric is not None:
        if form != "see":
            rule = f"expected none for form {form}, which has no projection"
            raise InputError(f"metric: {rule}, got shape {np.shape(metric)}")
        S, inverse = metric_roots(check_shape("metric", metric, *matrix.shape[1:] * 2), mix)
        matrix = mapped(matrix, S)
        plans = [plan for plan in plans if plan.projected]  # where the inverse goes
    weights = frequency_weights(words.counts, FIT_POWER)
    P = None
    if form == "see":
        P = _projection(matrix, words, max(plan.inner_dim for plan in plans))
    problem = matrix, words, weights, P, control, seed
    plan = plans[0] if len(plans) == 1 else _best_plan(plans, problem, bits)
    sweeps = check_at_least("sweeps", (2 if plan.coded else 10) if sweeps is None else sweeps, 1)
    while True:
        start, price, units = _start(plan, *problem)
        free, ridge = None if control == "fixed" else units, RIDGE_CODED if plan.coded else 0.5
        encoding, _ = fit(
            matrix, start, weights, free, sweeps, ridge, plan.coded, price, progress)
        if inverse is not None:
            encoding = replace(encoding, projection=encoding.projection @ inverse)
        encoding = replace(
            encoding, words=list(words.names), bag_derived=derived and plan.coded)
        if not plan.coded:
            return encoding
        encoding = rounded(encoding, bits)
        over = encoding.bytes * ratio / (4 * matrix.shape[0] * matrix.shape[1])
        if over <= 1:
            return encoding
        plan = replace(plan, rate=plan.rate / over**2)  # codes came out longer than planned


def _projection(matrix, words, inner_dim):
    return projection(matrix, frequency_weights(words.counts, PROJECTION_POWER), inner_dim)


def _start(plan, matrix, words, weights, P, control, seed, **rounds):
    """Where a fit of a plan begins: an encoding, the price of a bit, and its Units."""
    units = assign(words.names, controlled(words, control, plan, seed), plan, words.counts)
    P = P[: plan.inner_dim] if P is not None and plan.projected else None
    if not plan.coded:
        return random_encoding(units, plan, seed, P), 0.0, units
    return *quantizer_encoding(matrix, units, plan, P, weights, seed, **rounds), units


def _best_plan(plans, problem, bits):
    """The plan of least weighted error, of what a file holds, after a short start on some words."""
    matrix, words, weights, P, control, seed = problem
    rows = np.random.default_rng(seed).permutation(len(words))[:SAMPLE]
    some, f = matrix[rows], weights[rows]

    def error(plan):
        private = plan.private * len(rows) // len(words)
        small = replace(plan, vocabulary=len(rows), private=private)
        rounds = FEW if plan.rate == 1 else ROUNDS  # a price has to be found
        start, price, _ = _start(small, some, words.some(rows), f, P, control, seed, rounds=rounds)
        unfitted, _ = fit(some, start, f, sweeps=0, price=price)
        return relative_error(some, rounded(unfitted, bits), f)

    return min(plans, key=error)


def plans_of(
    shape, vocabulary, ratio, form="see", control=None, order=None, per_term=True, count="bytes",
    bits=None, derived=False,
):  # fmt: skip
    """The plans of which `encode` takes the best.

    Raises InputError for a ratio out of reach and options that do not go together.
    """
    if control not in (None, *CONTROLS):
        raise InputError(f"control: expected one of {', '.join(CONTROLS)}, got {control!r}")
    if count not in COUNTS:
        raise InputError(f"count: expected one of {', '.join(COUNTS)}, got {count!r}")
    coded, known = form == "see" and count == "bytes", 0
    if control != "no_knowledge" and (derived or not coded):  # else its codes are all there is
        known = len(shared_units(vocabulary.annotations))
    if coded:
        bits = check_bits(default_bits(ratio, bits))
        if order not in (None, 2) or not per_term:
            got = "an index that terms share" if order in (None, 2) else f"order {order}"
            raise InputError(f"count: expected parameters with {got}, got bytes")
        return plans_bytes(*shape, ratio, known, derived, bits)
    return [make_plan(form, *shape, ratio, known, order, per_term)]


def plan_of(*arguments, **options):
    """The first of `plans_of`: the only one, unless bytes are counted."""
    return plans_of(*arguments, **options)[0]


def controlled(vocabulary, control, plan, seed):
    """The annotations of a vocabulary if any are used, or what a control puts in their place."""
    if control == "no_knowledge" or (plan.form == "see" and not plan.knowledge):
        return [Annotation()] * len(vocabulary)
    if control == "shuffled":
        return shuffled(vocabulary.annotations, seed)
    if control == "random_units":
        return random_units(vocabulary.names, vocabulary.annotations, plan.knowledge)
    return vocabulary.annotations
