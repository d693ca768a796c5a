"""The one recipe from a matrix and its words to an encoding. Every caller in the package uses it.

    words -> annotations -> plan for the ratio -> units -> projection, random leaves -> fit
"""

from see_min.budget import make_plan
from see_min.errors import InputError, check_at_least, check_shape
from see_min.fitting import check_finite_rows, fit, frequency_weights, projection, random_encoding
from see_min.units import Annotation, assign, random_units, shared_units, shuffled
from see_min.words.vocabulary import Vocabulary, build_vocabulary

# Rows are weighted by (count + 1)^power. The projection serves what occurs in text; the fit of the
# rest serves rare words too, as frequent ones have private vectors (docs/results.md, "One recipe").
PROJECTION_POWER, FIT_POWER = 1.0, 0.3
CONTROLS = ("shuffled", "random_units", "no_knowledge", "fixed")


def encode(
    matrix,
    words,
    ratio=20,
    counts=None,
    lexicon="sample",
    *,
    form="see",
    per_term=True,
    order=None,
    control=None,
    sweeps=10,
    seed=0,
    progress=None,
):
    """Compress a matrix E0 (V, D) of V words to a SememeEncoding of V D / ratio parameters.

    Parameters
    ----------
    matrix : array (V, D)
        E0, rows in any order; it may be a memory map.
    words : list or array of V str, {token: row}, or Vocabulary
        Words or a tokenizer's tokens. A Vocabulary brings its own counts and annotations.
    ratio : float
        V D / parameters kept.
    counts : array (V,), optional
        How often each word occurs. Left out, words stand by falling frequency (Zipf's law).
    lexicon : str or Lexicon
        What words mean: "sample", "none", "openhownet", a file, or several joined by +.
    form : str
        "see"; or an opponent, a sum of products alone: "paper" (senses as terms), "morphemes".
    per_term : bool
        Whether every term has its own index: fewer errors for more index bytes.
    order : int, optional
        Factors of a product; 2 for "see", 3 for the others when left out.
    control : str, optional, of CONTROLS
        "shuffled": annotations of other words; "random_units": as many, without meaning;
        "no_knowledge": none, more private vectors instead; "fixed": no reassignment in the fit.
    sweeps, seed : int
    progress : callable(sweep, error), optional

    Returns
    -------
    SememeEncoding, which knows its words and units

    Raises
    ------
    InputError
        If matrix, words and counts do not fit together, or the ratio is out of reach.

    Examples
    --------
    >>> import numpy as np
    >>> E0 = np.random.default_rng(0).standard_normal((300, 32))
    >>> encoding = encode(E0, [f"word{i}" for i in range(300)], ratio=10, lexicon="none")
    >>> encoding.shape, encoding.parameters <= 300 * 32 / 10
    ((300, 32), True)
    """
    matrix = check_shape("matrix", matrix, None, None)
    check_at_least("sweeps", sweeps, 1)
    check_at_least("seed", seed, 0)
    if not isinstance(words, Vocabulary):
        words = build_vocabulary(words, lexicon, counts, seed=seed)
    if len(words) != len(matrix):
        raise InputError(f"words: expected {len(matrix)}, one per row, got {len(words)}")
    plan = plan_of(matrix.shape, words, ratio, form, control, order, per_term)
    check_finite_rows(matrix)
    annotations = controlled(words, control, plan, seed)
    units = assign(words.names, annotations, plan, words.counts)
    P = None
    if plan.form == "see":
        P = projection(matrix, frequency_weights(words.counts, PROJECTION_POWER), plan.inner_dim)
    start = random_encoding(units, plan, seed, P)
    start.words = list(words.names)
    weights = frequency_weights(words.counts, FIT_POWER)
    free = None if control == "fixed" else units
    return fit(matrix, start, weights, free, sweeps, progress=progress)[0]


def plan_of(shape, vocabulary, ratio, form="see", control=None, order=None, per_term=True):
    """The Plan that `encode` follows; a ratio out of reach is refused here, before any work."""
    if control not in (None, *CONTROLS):
        raise InputError(f"control: expected one of {', '.join(CONTROLS)}, got {control!r}")
    known = 0 if control == "no_knowledge" else len(shared_units(vocabulary.annotations))
    return make_plan(form, *shape, ratio, known, order, per_term)


def controlled(vocabulary, control, plan, seed):
    """The annotations of a vocabulary, or what a control puts in their place."""
    if control == "shuffled":
        return shuffled(vocabulary.annotations, seed)
    if control == "random_units":
        return random_units(vocabulary.names, vocabulary.annotations, plan.knowledge)
    if control == "no_knowledge":
        return [Annotation()] * len(vocabulary)
    return vocabulary.annotations
