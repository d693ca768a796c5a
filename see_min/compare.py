"""Compare methods on one embedding matrix: SEE, its controls and the embedding methods of `see_min.related` at equal budgets.

All keep 1/ratio of the floats, but for product quantization: it has few floats and many codes, and is given 1/ratio of the
*bytes*, codes included. Every row of the result says both.
"""

import time
from dataclasses import dataclass

import numpy as np

from see_min.budget import plan_policy
from see_min.checks import DataError, check_at_least
from see_min.controls import hashed, shuffled
from see_min.fit import carrier, fit, frequency_weights, random_encoding, relative_error
from see_min.related.registry import EMBEDDINGS, bits
from see_min.similarity import mean_cosine, word_similarity
from see_min.units import POLICIES, assign, check_policy, shared_units
from see_min.vocabulary import Vocabulary

CONTROLS = ("shuffled", "hashed")
METHODS = ("see", "backoff", *CONTROLS, "svd", "weighted-svd", "pq")  # what is compared when nothing is said
RELATED = {method.name: method for method in EMBEDDINGS}
FIXED = ("pq", *(name for name in RELATED if "seed" not in RELATED[name].takes))  # the start of k-means matters little
RATIOS = (10, 20, 40, 80)
CARRIER_POWER, FIT_POWER = 1.0, 0.3  # of the counts: the carrier serves tokens, the fit the rare words that own no vector


@dataclass(frozen=True)
class Task:
    """What is compared.

    Attributes
    ----------
    matrix : array (V, D)
        E0, rows by falling count.
    vocabulary : Vocabulary
        Of the same rows.
    policy : str
        Of `see` and its controls.
    order : int or None
        None: 2 in the default form, 3 in the papers'.
    sweeps : int
    progress : callable(method), optional
        Called after each sweep of a fit.

    Raises
    ------
    DataError
        If order or sweeps is below 1.
    """

    matrix: np.ndarray
    vocabulary: Vocabulary
    policy: str = "additive"
    order: int | None = None
    sweeps: int = 6
    progress: object = None

    def __post_init__(self):
        check_at_least("sweeps", self.sweeps, 1)
        check_at_least("order", 1 if self.order is None else self.order, 1)


def by_count(vocabulary):
    """The numbers (V,) of the rows by falling count, equal counts in their order."""
    return np.argsort(-vocabulary.counts, kind="stable")


def by_frequency(matrix, vocabulary):
    """(matrix, vocabulary, order) with the rows by falling count; `order` holds the original row numbers."""
    order = by_count(vocabulary)
    return matrix[order], vocabulary.take(order), order


def approximate(task, method, ratio, seed=0):
    """The matrix by one method at one ratio.

    Returns
    -------
    object with rows(ids), floats and index_bytes
        A SememeEncoding, or what a method of `see_min.related` returns.

    Raises
    ------
    DataError
        If the ratio is beyond the reach of the method.

    Source: see each method; weighting and defaults are ours.
    """
    E0, vocabulary, counts, plan = task.matrix, task.vocabulary, task.vocabulary.counts, plan_of(task, method, ratio)
    if method in RELATED:
        weights = frequency_weights(counts, CARRIER_POWER if method == "weighted-svd" else FIT_POWER)
        offered = {"weights": weights, "seed": seed, "sweeps": task.sweeps, "names": vocabulary.names,
                   "annotations": vocabulary.annotations}
        return RELATED[method].run(E0, ratio, **{name: offered[name] for name in RELATED[method].takes})
    units = units_of(task, method, plan, seed)
    P = carrier(E0, frequency_weights(counts, CARRIER_POWER), plan.inner) if plan.carrier else None
    progress = None if task.progress is None else lambda sweep, error: task.progress(method)
    start = random_encoding(units, plan, seed, P)
    return fit(E0, start, frequency_weights(counts, FIT_POWER), units, task.sweeps, progress=progress)[0]


def plan_of(task, method, ratio):
    """What the method keeps at a ratio: a Plan, or what a method of `see_min.related` calls its plan.

    Raises
    ------
    DataError
        If the ratio is beyond the reach of the method.
    """
    V, D = task.matrix.shape
    if method in RELATED:
        return RELATED[method].plan(V, D, ratio)
    policy = task.policy if method in ("see", *CONTROLS) else method
    return plan_policy(policy, V, D, ratio, len(shared_units(task.vocabulary.annotations)), task.order)


def units_of(task, method, plan, seed=0):
    """Units of the words by `see`, a control of it, or a policy by its name."""
    words, notes = task.vocabulary.names, task.vocabulary.annotations
    if method == "shuffled":
        notes = shuffled(notes, seed)
    if method == "hashed":
        notes = hashed(words, notes, plan.knowledge)
    return assign(words, notes, plan, task.policy if method in ("see", *CONTROLS) else method)


def check_methods(methods, policy="additive"):
    """The methods, each once, if all are known; "all" stands for those compared by default and all of `see_min.related`.

    Raises
    ------
    DataError
        If one is not, or the policy of `see` is not; the text lists those that are.

    Examples
    --------
    >>> check_methods(["see", "pq", "see"])
    ('see', 'pq')
    """
    check_policy(policy)
    known = tuple(dict.fromkeys((*METHODS, *RELATED, *POLICIES)))
    for method in methods:
        if method not in (*known, "all"):
            raise DataError(f"method: expected one of {', '.join(known)}, got {method!r}")
    return tuple(dict.fromkeys(one for method in methods for one in ((*METHODS, *RELATED) if method == "all" else [method])))


def check_encodings(methods, policy="additive"):
    """`check_methods`, and whether all have a SememeEncoding as their result, so that they can stand in a model.

    Raises
    ------
    DataError
        If not.
    """
    for method in check_methods(methods, policy):
        if method in RELATED and not RELATED[method].encoding:
            raise DataError(f"method: expected one whose result is an encoding, got {method!r}")


class Dense:
    """A matrix (V, D) as what approximates itself."""

    index_bytes = 0

    def __init__(self, matrix):
        self.matrix, self.floats = matrix, matrix.size

    def rows(self, ids):
        """Rows (..., D) of ids (...)."""
        return self.matrix[ids]


def measure(task, approximation, benchmarks, sentences=None):
    """Numbers of one approximation, None standing for the dense matrix.

    Parameters
    ----------
    task : Task
    approximation : object with rows(ids), floats and index_bytes, or None
    benchmarks : dict of str to list of (word, word, score)
    sentences : callable(matrix) -> float, optional
        A score of the whole matrix in its model.

    Returns
    -------
    dict
        floats, bytes; error (relative squared error), weighted_error (by the square root of the counts), cosine (mean over
        words), scores {name: Spearman}, rare_scores (pairs with a word of the rarer half of the known words), pairs.
    """
    E0, vocabulary = task.matrix, task.vocabulary
    approximation = Dense(E0) if approximation is None else approximation
    numbers = vocabulary.numbers
    rare = set(sorted(numbers.values())[len(numbers) // 2 :])  # rows are by falling count
    found = {name: word_similarity(approximation.rows, numbers, pairs, rare) for name, pairs in benchmarks.items()}
    scores = {name: one["spearman"] for name, one in found.items()}
    if sentences is not None:
        scores["STS"] = sentences(approximation.rows(np.arange(len(E0))))
    return {
        "floats": int(approximation.floats), "bytes": int(bits(approximation)) // 8,
        "error": relative_error(E0, approximation),
        "weighted_error": relative_error(E0, approximation, frequency_weights(vocabulary.counts)),
        "cosine": mean_cosine(E0, approximation.rows),
        "scores": scores, "rare_scores": {name: one["rare_spearman"] for name, one in found.items()},
        "pairs": {name: [one["pairs"], one["rare_pairs"]] for name, one in found.items()},
    }


def reachable(task, methods, ratios, say=None):
    """[(ratio, method)] of all, before any work. Ratios that a method cannot reach are refused, or left out if `say` may say so.

    Raises
    ------
    DataError
        If a ratio is out of reach and there is no `say`, or nothing is left.
    """
    found, refusal = [], None
    for ratio in ratios:
        for method in methods:
            try:
                plan_of(task, method, ratio)
                found.append((ratio, method))
            except DataError as error:
                if say is None:
                    raise
                refusal = error
                say(f"{method} at {ratio:g}x is left out: {error}")
    if refusal and not found:
        raise refusal
    return found


def compare(task, methods, ratios, seeds, benchmarks, sentences=None, say=lambda line: None, leave_out=False):
    """All methods at all ratios: a list of rows, dense first.

    Methods that draw no random numbers run with the first seed alone. Ratios that a method cannot reach are refused before any
    work; with `leave_out` they are left out, as long as one method reaches one of them.

    Returns
    -------
    list of dict
        As `measure`, with method, ratio, seed and seconds.
    """
    check_at_least("seeds", min(seeds), 0)
    pairs = reachable(task, methods, ratios, say if leave_out else None)
    rows = [{"method": "dense", "ratio": 1, "seed": seeds[0], "seconds": 0.0} | measure(task, None, benchmarks, sentences)]
    for ratio, method in pairs:
        for seed in seeds if method not in FIXED else seeds[:1]:
            start = time.perf_counter()
            approximation = approximate(task, method, ratio, seed)
            seconds = time.perf_counter() - start
            row = {"method": method, "ratio": ratio, "seed": seed, "seconds": seconds}
            rows.append(row | measure(task, approximation, benchmarks, sentences))
            scores = [f"{name} {value:.3f}" for name, value in rows[-1]["scores"].items() if value is not None]
            values = ", ".join([f"weighted error {rows[-1]['weighted_error']:.3f}", *scores])
            say(f"{method} at {ratio:g}x, seed {seed}: {values} ({seconds:.0f} s)")
    return rows
