"""Spans of sentences with some words swapped: batches that teach an encoder's whole vocabulary from a small text.

A text of some hundred thousand words shows a fraction of a vocabulary, and the rows of all other words would only be moved by
the units that they share. So each batch holds short spans, and a share of their words is replaced by words drawn from the whole
vocabulary. The teacher reads the same spans, so nothing false is learnt: only that the student should read them as it does.
"""

import numpy as np

from see_min.checks import DataError, check_at_least, check_axes
from see_min.sequences import Batch

SHORTEST, LONGEST = 4, 16  # words of a span
SWAPPED = 0.4  # share of the words of a span that are replaced


def swap_chances(vocabulary, power=0.5):
    """How likely each word of a vocabulary is to stand in for another: (count + 1)^power, 0 for special tokens; they sum to 1.

    Parameters
    ----------
    vocabulary : see_min.vocabulary.Vocabulary
    power : float
        1: as in a text; 0: all words alike.

    Returns
    -------
    array (V,)

    Raises
    ------
    DataError
        If there are special tokens alone.

    Source: ours.
    """
    words = np.array([token.kind != "special" for token in vocabulary.tokens])
    check_at_least("vocabulary: number of words", words.sum(), 1)
    chances = words * (vocabulary.counts + 1.0) ** power
    return chances / chances.sum()


def span_batches(sequences, size, steps, seed, chances, special=()):
    """Yield `steps` batches (b, t) without targets: spans of one length, their words swapped with probability `SWAPPED`.

    Special ids at the ends of a sequence stay at the ends of its spans. Spans of a batch have equally many words, as many as the
    shortest sequence drawn for it allows.

    Parameters
    ----------
    sequences : list of lists of int
        Each with a word that is not special.
    size : int
        Spans a batch.
    steps, seed : int
    chances : array (V,)
        Of `swap_chances`.
    special : ints
        Ids of special tokens.

    Raises
    ------
    DataError
        If there is no sequence, or one of special ids alone.
    ShapeError
        If chances is not (V,).

    Examples
    --------
    >>> batch = next(span_batches([[101, 7, 7, 7, 102]], 2, 1, seed=1, chances=np.eye(200)[9], special=(101, 102)))
    >>> batch.inputs[0].tolist()
    [[101, 7, 7, 9, 102], [101, 7, 7, 9, 102]]

    Source: ours.
    """
    check_at_least("sequences", len(sequences), 1)
    parts = [_ends(sequence, set(special)) for sequence in sequences]
    empty = next((i for i, (_, words, _) in enumerate(parts) if not words), None)
    if empty is not None:
        raise DataError(f"sequences: expected at least 1 word in each, got none in number {empty}")
    lows = np.cumsum(check_axes("chances", chances, None))  # (V,)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        drawn = [parts[i] for i in rng.integers(len(parts), size=size)]
        length = min(int(rng.integers(SHORTEST, LONGEST + 1)), *(len(words) for _, words, _ in drawn))
        first = [int(rng.integers(len(words) - length + 1)) for _, words, _ in drawn]
        spans = np.array([words[start : start + length] for start, (_, words, _) in zip(first, drawn)])  # (b, L)
        others = np.searchsorted(lows, rng.random(spans.shape) * lows[-1], side="right")  # (b, L)
        spans = np.where(rng.random(spans.shape) < SWAPPED, others, spans)
        yield Batch((np.array([[*left, *span, *right] for (left, _, right), span in zip(drawn, spans)]),), None)  # (b, t)


def _ends(sequence, special):
    """(special ids before, words, special ids behind) of a sequence."""
    inner = [i for i, number in enumerate(sequence) if number not in special]
    low, high = (inner[0], inner[-1] + 1) if inner else (len(sequence), len(sequence))
    return sequence[:low], sequence[low:high], sequence[high:]
