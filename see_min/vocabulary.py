"""The rows of an embedding matrix as words: what each token spells, how often it occurs, and what is known of it."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from see_min.checks import DataError, check_at_least, check_finite
from see_min.morphemes import segment
from see_min.segmentation import read_lines
from see_min.tokens import normalise
from see_min.units import Annotation


@dataclass(frozen=True)
class Vocabulary:
    """What is known of the rows of a matrix.

    Attributes
    ----------
    names : list of str
        The tokens as the tokenizer writes them.
    tokens : list of see_min.tokens.Token
    counts : float array (V,)
        How often each is expected to occur.
    annotations : list of see_min.units.Annotation
    """

    names: list
    tokens: list
    counts: np.ndarray
    annotations: list

    def __len__(self):
        return len(self.names)

    def take(self, rows):
        """The vocabulary of some rows, in their order."""
        pick = lambda values: [values[row] for row in rows]
        return Vocabulary(pick(self.names), pick(self.tokens), self.counts[rows], pick(self.annotations))

    @property
    def numbers(self):
        """Word -> row, for tokens that can be whole words; of tokens that spell the same, the more frequent one."""
        rows = [row for row in np.argsort(self.counts, kind="stable") if self.tokens[row].word]
        return {self.tokens[row].word: int(row) for row in rows}


def build_vocabulary(names, lexicon, counts=None, ordered=True, seed=0, cache=None, segmentation=None):
    """Normalise, count and annotate the tokens of a vocabulary.

    Parameters
    ----------
    names : list of str
    lexicon : see_min.lexicon.Lexicon
    counts : array (V,), optional
        Occurrences in a text; nothing is known when left out.
    ordered : bool
        Whether the rows stand by falling frequency, as tokenizers write them; then `expected_counts` uses it.
    seed, cache :
        Of `see_min.morphemes.segment`.
    segmentation : dict of str to tuple of str, optional
        Morphemes of words, in the place of Morfessor's.

    Raises
    ------
    DataError
        If counts do not fit the vocabulary, or nothing is known of the frequencies.

    Source: ours.
    """
    check_at_least("vocabulary: number of tokens", len(names), 1)
    tokens = normalise(names)
    counts = np.zeros(len(names)) if counts is None else np.asarray(counts, dtype=float)
    if counts.shape != (len(names),):
        raise DataError(f"counts: expected {len(names)} as in the vocabulary, got {counts.shape}")
    check_at_least("counts", check_finite("counts", counts).min(), 0)
    if not ordered and not counts.any():
        raise DataError("counts: expected a text, counts, or rows in the order of frequency, got none of them")
    counts = expected_counts(tokens, counts) if ordered else counts
    return Vocabulary(names, tokens, counts, annotate_tokens(tokens, lexicon, seed, cache, segmentation))


def expected_counts(tokens, counts):
    """How often tokens are expected to occur: what a text shows, drawn to Zipf's law of the row number.

        z_w = c / (row of w),   expected_w = (count_w + 1) / (1 + 1 / z_w)

    The mean of a gamma distribution with shape 1 and mean z_w, after count_w occurrences have been seen: it lies between z_w and
    count_w, and the nearer to the count the larger z_w is. Tokenizers put single letters and
    special tokens first whatever their frequency, so rows are counted from the first longer token on, and those
    before it keep their count. c makes the sum of all z that of the counts of these tokens.

    Parameters
    ----------
    tokens : list of Token
    counts : array (V,)
        All zeros if no text is at hand; then the result is proportional to z.

    Examples
    --------
    >>> expected_counts(normalise(["the", "cat", "sat"]), np.array([9, 0, 2])).round(1)
    array([8.6, 0.8, 2. ])

    Source: ours; Zipf 1949.
    """
    counts = np.asarray(counts, dtype=float)
    longer = np.array([token.kind in ("word", "piece") and len(token.text) > 1 for token in tokens])
    first = int(longer.argmax()) if longer.any() else len(tokens)
    zipf = np.zeros(len(tokens))
    zipf[first:] = 1 / np.arange(1, len(tokens) - first + 1)
    if not counts.any():
        return np.maximum(zipf, zipf[zipf > 0].min(initial=1))
    zipf *= counts[first:].sum() / (zipf.sum() or 1)
    zipf = np.where(np.arange(len(tokens)) < first, counts, zipf) + 1e-3  # above 0, so that no word has no weight at all
    return (counts + 1) / (1 + 1 / zipf)


def annotate_tokens(tokens, lexicon, seed=0, cache=None, segmentation=None):
    """Senses and morphemes of tokens; a piece of a word is a morpheme that continues it, special tokens have nothing.

    Examples
    --------
    >>> from see_min.lexicon import Lexicon
    >>> [note.units for note in annotate_tokens(normalise(["add", "##ing", "[CLS]"]), Lexicon.of({"add": [("more",)]}))]
    [('s:more', 'm:add'), ('+ing',), ()]

    Source: ours.
    """
    words = [token.word for token in tokens]
    if segmentation is None:
        pieces = segment(words, seed, cache)
    else:
        pieces = [tuple(segmentation.get(word, ())) for word in words]
    notes = []
    for token, parts in zip(tokens, pieces):
        if token.morpheme.isalpha():
            parts = ("", token.morpheme) if token.begins is False else (token.morpheme,)  # of "##ing" there is no stem
        senses = lexicon.senses(token.word) if any(letter.isalpha() for letter in token.word) else ()
        notes.append(Annotation(senses, tuple(parts)))
    return notes


def read_counts(path, names):
    """Counts (V,) from a file of lines `token TAB count`; tokens that it lacks have 0.

    Raises
    ------
    DataError
        If a line is malformed, or no token of the vocabulary is in the file; the text names path and line.

    Source: ours.
    """
    row = {name: i for i, name in enumerate(names)}
    counts, found = np.zeros(len(names)), False
    for number, line in enumerate(read_lines(path), start=1):
        token, tab, value = line.rpartition("\t")
        if not tab or not re.fullmatch("[0-9]{1,15}", value):
            raise DataError(f"{path}:{number}: expected a token, a tab and a whole number below 10^15, got {line[:80]!r}")
        if token in row:
            counts[row[token]] += int(value)
            found = True
    if not found:
        raise DataError(f"{path}: expected tokens of the vocabulary, got none")
    return counts


def count_words(path, names):
    """Counts (V,) of a text for a vocabulary of whole words, cut at white space and, if that is unknown, in lower case.

    Raises
    ------
    DataError
        If the text cannot be read or has no word of the vocabulary.

    Source: ours.
    """
    row = {name: i for i, name in enumerate(names)}
    counts = np.zeros(len(names))
    for word, times in Counter(word for line in read_lines(Path(path)) for word in line.split()).items():
        place = row.get(word, row.get(word.lower()))
        if place is not None:
            counts[place] += times
    if not counts.any():
        raise DataError(f"{path}: expected words of the vocabulary, got none: give --counts for a vocabulary of parts of words")
    return counts
