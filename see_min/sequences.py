"""Batches of ids for the models of the bridge: next words, masked words, and pairs of sentences.

A batch is what a model reads and what it should answer. Rows of one batch have one length, so sentences of similar length go
together and little is padding.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

from see_min.checks import DataError, check_at_least, check_ids
from see_min.corpus import batches
from see_min.segmentation import read_lines

IGNORE = -100  # a target that no loss counts; the value torch's cross entropy leaves out
MASKED = 0.15  # share of the positions that are predicted
HIDDEN, SWAPPED = 0.8, 0.1  # of these: replaced by the mask, by a random word; the rest stays
POOL = 100  # batches that are sorted by length together: similar lengths, yet other neighbours every epoch
UNKNOWN = "<unk>"


class Batch(NamedTuple):
    """`inputs`, the arrays (b, t) a model reads, and `targets`, an array (b, t) or None where a model has no answer to give."""

    inputs: tuple
    targets: np.ndarray | None


def language_batches(ids, context, size, steps, seed):
    """Yield `steps` batches of random windows whose targets are the next words.

    Parameters
    ----------
    ids : int array (N,)
    context, size : int
        Positions and rows of a batch.
    seed : int

    Raises
    ------
    DataError
        If there are fewer than context + 1 ids.

    Examples
    --------
    >>> batch = next(language_batches(np.arange(4), 3, 1, 1, seed=0))
    >>> batch.inputs[0].tolist(), batch.targets.tolist()
    ([[0, 1, 2]], [[1, 2, 3]])

    Source: ours.
    """
    for window in batches(ids, context, size, steps, seed):  # (b, t + 1)
        yield Batch((window[:, :-1],), window[:, 1:])


def masked_batches(ids, context, size, steps, seed, mask, vocabulary, special=()):
    """Yield `steps` batches of random windows in which some words are hidden; only these have a target.

    Each position that holds no special id is chosen with probability `MASKED`, and one a window at least. Of the chosen,
    `HIDDEN` become `mask`, `SWAPPED` a random word that is not special, and the rest stay.

    Parameters
    ----------
    ids : int array (N,)
    context, size : int
        Positions and rows of a batch.
    seed, mask : int
        The mask is a special id itself.
    vocabulary : int
        V; ids are below it.
    special : ints
        Ids that are neither chosen nor drawn. A window of nothing else has no target.

    Raises
    ------
    DataError
        If there are fewer than `context` ids, an id is not below V, or every id is special.

    Source: arXiv 1810.04805, section 3.1; there the random word may be any.
    """
    ids, special = np.asarray(ids), np.unique([mask, *special])
    for name, values in (("ids", ids), ("mask and special", special)):
        check_ids(name, values, vocabulary)
    words = np.setdiff1d(np.arange(vocabulary), special)  # what a random word is drawn from
    check_at_least("vocabulary", vocabulary, len(special) + 1)
    rng = np.random.default_rng([seed, 1])  # not the stream that draws the windows
    for window in batches(ids, context - 1, size, steps, seed):  # (b, t)
        draw = np.where(np.isin(window, special), np.inf, rng.random(window.shape))  # (b, t)
        lowest = draw == draw.min(axis=1, keepdims=True)
        chosen = (draw < MASKED) | (lowest & np.isfinite(draw))
        kind = np.where(chosen, rng.random(window.shape), 1.0)  # 1: stays
        swapped = np.where(kind < HIDDEN + SWAPPED, rng.choice(words, window.shape), window)
        yield Batch((np.where(kind < HIDDEN, mask, swapped),), np.where(chosen, window, IGNORE))


def padded_rows(sequences, pad):
    """Sequences as rows of one array, filled up at their end: (b, length of the longest).

    Examples
    --------
    >>> padded_rows([[5, 6, 7], [8]], 0).tolist()
    [[5, 6, 7], [8, 0, 0]]

    Source: ours.
    """
    rows = np.full((len(sequences), max(map(len, sequences), default=0)), pad, dtype=np.int64)
    for row, sequence in zip(rows, sequences):
        row[: len(sequence)] = sequence
    return rows


def pair_batches(pairs, size, steps, seed, pad, begin, end):
    """Yield `steps` batches: source + end and begin + target are read, target + end is to be answered.

    Parameters
    ----------
    pairs : list of (source, target), each a list of int
    size : int
        Pairs a batch; the last batch of an epoch may be short.
    seed, pad, begin, end : int
        Targets are filled up with `IGNORE`, inputs with `pad`.

    Raises
    ------
    DataError
        If there is no pair.

    Examples
    --------
    >>> batch = next(pair_batches([([5, 6], [7])], 1, 1, seed=0, pad=0, begin=1, end=2))
    >>> [array.tolist() for array in batch.inputs], batch.targets.tolist()
    ([[[5, 6, 2]], [[1, 7]]], [[7, 2]])

    Source: ours.
    """
    check_at_least("pairs", len(pairs), 1)
    lengths = np.array([[len(source), len(target)] for source, target in pairs])  # (N, 2)
    for rows in _by_length(lengths, size, steps, seed):
        sources, targets = zip(*(pairs[row] for row in rows))
        read = padded_rows([[*source, end] for source in sources], pad)  # (b, s)
        written = padded_rows([[begin, *target] for target in targets], pad)  # (b, t)
        yield Batch((read, written), padded_rows([[*target, end] for target in targets], IGNORE))


def _by_length(lengths, size, steps, seed):
    """Yield `steps` sets of rows of `lengths` (N, k), of similar length each, epoch after epoch."""
    check_at_least("size", size, 1)
    rng = np.random.default_rng(seed)
    while steps > 0:
        order, found = rng.permutation(len(lengths)), []
        for first in range(0, len(order), POOL * size):
            pool = order[first : first + POOL * size]
            pool = pool[np.lexsort(lengths[pool].T[::-1])]  # stable: equal lengths stay in random order
            found += [pool[start : start + size] for start in range(0, len(pool), size)]
        for number in rng.permutation(len(found))[:steps]:  # not from short to long
            yield found[number]
        steps -= len(found)


def read_parallel(source, target):
    """Read the sentences of two languages, a line each, words between blanks.

    Parameters
    ----------
    source, target : str or Path
        UTF-8, plain or gzip. A line that is empty on either side is left out on both.

    Returns
    -------
    list of (list of str, list of str)

    Raises
    ------
    DataError
        If a file cannot be read, the files have different numbers of lines, or no pair is left.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name, text in ("en", "good day\\n\\n"), ("de", "guten Tag\\nja\\n"):
    ...     _ = (folder / name).write_text(text)
    >>> read_parallel(folder / "en", folder / "de")
    [(['good', 'day'], ['guten', 'Tag'])]

    Source: ours.
    """
    sides = [[line.split() for line in read_lines(path)] for path in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise DataError(f"{source}, {target}: expected as many lines in both, got {len(sides[0])} and {len(sides[1])}")
    pairs = [(a, b) for a, b in zip(*sides) if a and b]
    if not pairs:
        raise DataError(f"{source}, {target}: expected at least 1 line with words in both, got none")
    return pairs


def word_vocabulary(sentences, least=2, most=None, special=("<pad>", "<s>", "</s>", UNKNOWN)):
    """The words of sentences by falling count, equal counts by word, after the special words.

    Parameters
    ----------
    sentences : iterable of lists of str
    least : int
        Occurrences a word must have.
    most : int, optional
        V at most, the special words included.
    special : strings

    Returns
    -------
    words : list of str, V entries
    counts : int array (V,)
        Occurrences in the sentences; those of words left out go to "<unk>", where it is special.

    Raises
    ------
    DataError
        If `least` is below 1, or `most` leaves no room for a word.

    Examples
    --------
    >>> words, counts = word_vocabulary([["b", "a", "b"], ["a", "c"]], special=("<unk>",))
    >>> words, counts.tolist()
    (['<unk>', 'a', 'b'], [1, 2, 2])

    Source: ours.
    """
    check_at_least("least", least, 1)
    if most is not None:
        check_at_least("most", most, len(special) + 1)
    count = Counter(word for sentence in sentences for word in sentence)
    ranked = sorted((word for word in count if count[word] >= least and word not in special), key=lambda w: (-count[w], w))
    words = [*special, *ranked][:most]
    counts = np.array([count[word] for word in words], dtype=np.int64)  # (V,)
    if UNKNOWN in special:
        counts[words.index(UNKNOWN)] += count.total() - counts.sum()
    return words, counts


def encode(sentence, numbers):
    """The ids of words; a word without one gets that of "<unk>".

    Parameters
    ----------
    sentence : list of str
    numbers : dict of str to int

    Returns
    -------
    list of int

    Raises
    ------
    DataError
        If a word has no id and "<unk>" has none.

    Examples
    --------
    >>> encode(["a", "x"], {"<unk>": 0, "a": 1})
    [1, 0]

    Source: ours.
    """
    missing = [] if UNKNOWN in numbers else [word for word in sentence if word not in numbers]
    if missing:
        raise DataError(f"numbers: expected an id for {missing[0]!r} or for {UNKNOWN}, got neither")
    return [numbers[word if word in numbers else UNKNOWN] for word in sentence]
