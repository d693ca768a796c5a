"""The rows of a matrix as words: what each token spells, its count, and what is known of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from see_min.errors import InputError, check_at_least, check_finite
from see_min.storage.files import read_lines
from see_min.units import Annotation
from see_min.words.formats import load_lexicon
from see_min.words.lexicon import Lexicon
from see_min.words.morphemes import segment
from see_min.words.tokens import normalise, ordered_by_id


class Later(Sequence):
    """The list that `make()` returns, made when it is first read: Morfessor takes its time."""

    def __init__(self, make):
        self.make = make

    @cached_property
    def made(self):
        return self.make()

    def __getitem__(self, place):
        return self.made[place]

    def __len__(self):
        return len(self.made)

    def __eq__(self, other):
        return self.made == list(other)


@dataclass(frozen=True)
class Vocabulary:
    """What is known of the rows of a matrix."""

    names: list  # V str: the tokens as the tokenizer writes them
    tokens: list  # V see_min.words.tokens.Token
    counts: np.ndarray  # (V,), how often each is expected to occur
    annotations: Sequence  # V see_min.units.Annotation

    def __len__(self):
        return len(self.names)

    def some(self, rows):
        """The vocabulary of some rows (N,)."""
        names, tokens = ([of[row] for row in rows] for of in (self.names, self.tokens))
        notes = Later(lambda: [self.annotations[row] for row in rows])
        return Vocabulary(names, tokens, self.counts[rows], notes)

    @property
    def rows_of_words(self):
        """Word -> row, for whole words; of tokens that spell the same, the more frequent one."""
        rows = [row for row in np.argsort(self.counts, kind="stable") if self.tokens[row].word]
        return {self.tokens[row].word: int(row) for row in rows}


def build_vocabulary(words, lexicon="sample", counts=None, seed=0, segmentation=None,
                     smooth=False):
    """Words, or the tokens of a vocabulary, and counts; annotations are made when they are read.

    Parameters
    ----------
    words : list or array of V str, dict of token -> id, or Vocabulary (returned as it is)
    lexicon : str, path or Lexicon
        A name is one of `see_min.words.formats.load_lexicon`.
    counts : array (V,), optional
        Occurrences in a text. Without any, they follow Zipf's law of the row: rows stand by
        falling frequency, as tokenizers write them.
    seed : int
        Of `see_min.words.morphemes.segment`.
    segmentation : dict of str to tuple of str, optional
        Morphemes of words, instead of Morfessor's.
    smooth : bool
        Draw the counts to Zipf's law (`expected_counts`): for a small text and ordered rows.

    Raises
    ------
    InputError
        If words or counts are none, or do not fit each other.

    Examples
    --------
    >>> vocabulary = build_vocabulary({"##s": 1, "add": 0}, "none", counts=[3, 4])
    >>> vocabulary.names, [str(unit) for unit in vocabulary.annotations[1].units]
    (['add', '##s'], ['affix:s'])
    """
    if isinstance(words, Vocabulary):
        return words
    names = word_list(words)
    tokens = normalise(names)
    counts = _check_counts(counts, len(names))
    if smooth or not counts.any():
        counts = expected_counts(tokens, counts)
    lexicon = lexicon if isinstance(lexicon, Lexicon) else load_lexicon(lexicon)
    notes = Later(lambda: annotate_tokens(tokens, lexicon, seed, segmentation))
    return Vocabulary(names, tokens, counts, notes)


def word_list(words):
    """A list of str from a list, an array, or a dict token -> id that names 0 .. V - 1 once each.

    Raises InputError if there are no words, or one is no text.
    """
    if isinstance(words, dict):
        return ordered_by_id(list(words.items()), "words")
    if isinstance(words, str):
        raise InputError(f"words: expected a list of texts, got the text {words[:80]!r}")
    names = list(words)
    check_at_least("words: number", len(names), 1)
    wrong = next((name for name in names if not isinstance(name, str)), None)
    if wrong is not None:
        raise InputError(f"words: expected texts, got {wrong!r:.80}")
    return [str(name) for name in names]  # numpy's texts become Python's


def _check_counts(counts, size):
    if counts is None:
        return np.zeros(size)
    counts = np.asarray(counts, dtype=float)
    if counts.shape != (size,):
        raise InputError(f"counts: expected {size} as in the vocabulary, got {counts.shape}")
    check_at_least("counts", check_finite("counts", counts).min(), 0)
    return counts


def expected_counts(tokens, counts):
    """How often tokens are expected to occur: what a text shows, drawn to Zipf's law of the row.

        z_w = c / (row of w),   expected_w = (count_w + 1) / (1 + 1 / z_w)

    The mean of a gamma distribution with shape 1 and mean z_w after count_w occurrences: it lies
    between z_w and count_w, the nearer to the count the larger z_w is. Tokenizers put letters and
    special tokens first whatever their frequency, so rows are counted from the first longer token
    on, and those before it keep their count. c makes the sum of all z that of these counts.

    Counts (V,) of all zeros mean that no text is at hand; then the result is proportional to z.

    >>> expected_counts(normalise(["the", "cat", "sat"]), np.array([9, 0, 2])).round(1)
    array([8.6, 0.8, 2. ])

    Source: Zipf 1949.
    """
    counts = np.asarray(counts, dtype=float)
    longer = [token.kind in ("word", "piece") and len(token.text) > 1 for token in tokens]
    first = longer.index(True) if any(longer) else len(tokens)
    zipf = np.zeros(len(tokens))
    zipf[first:] = 1 / np.arange(1, len(tokens) - first + 1)
    if not counts.any():
        zipf = np.maximum(zipf, zipf[zipf > 0].min(initial=1))
        return zipf / zipf.min()  # the rarest word once: fractions would all weigh alike
    zipf *= counts[first:].sum() / (zipf.sum() or 1)
    zipf[:first] = counts[:first]
    zipf += 1e-3  # above 0, so that no word has no weight at all
    return (counts + 1) / (1 + 1 / zipf)


def annotate_tokens(tokens, lexicon, seed=0, segmentation=None):
    """Senses and morphemes of tokens: the one way from a word to an Annotation.

    A piece of a word is a morpheme that continues it; special tokens and signs have nothing.

    >>> tokens = normalise(["add", "##ing", "[CLS]"])
    >>> [note.morphemes for note in annotate_tokens(tokens, Lexicon.of({}))]
    [('add',), ('', 'ing'), ()]
    """
    words = [token.word for token in tokens]
    if segmentation is None:
        pieces = segment(words, seed)
    else:
        pieces = [tuple(segmentation.get(word, ())) for word in words]
    return [_annotation(token, parts, lexicon) for token, parts in zip(tokens, pieces)]


def _annotation(token, parts, lexicon):
    if token.morpheme.isalpha():  # of "##ing" there is no stem
        parts = ("", token.morpheme) if token.begins is False else (token.morpheme,)
    is_more_than_signs = any(letter.isalnum() for letter in token.word)
    return Annotation(lexicon.senses(token.word) if is_more_than_signs else (), tuple(parts))


def read_counts(path, names):
    """Counts (V,) from a file of lines `token TAB count`; tokens that it lacks have 0.

    Raises InputError if a line is malformed, or no token of the vocabulary is in the file.
    """
    row = {name: i for i, name in enumerate(names)}
    counts = np.zeros(len(names))
    for number, line in enumerate(read_lines(path), start=1):
        token, tab, value = line.rpartition("\t")
        if not tab or not re.fullmatch("[0-9]{1,15}", value):
            rule = "expected a token, a tab and a whole number below 10^15"
            raise InputError(f"{path}:{number}: {rule}, got {line!r:.80}")
        if token in row:
            counts[row[token]] += int(value)
    if not counts.any():
        raise InputError(f"{path}: expected tokens of the vocabulary, got none")
    return counts


def count_words(path, names):
    """Counts (V,) of a text for a vocabulary of whole words; unknown ones in lower case.

    Raises InputError if the text cannot be read or has no word of the vocabulary.
    """
    row = {name: i for i, name in enumerate(names)}
    counts = np.zeros(len(names))
    for word in (word for line in read_lines(path) for word in line.split()):
        place = row.get(word, row.get(word.lower()))
        if place is not None:
            counts[place] += 1
    if not counts.any():
        hint = "give lines of token, tab, count (.tsv) for a vocabulary of parts of words"
        raise InputError(f"{path}: expected words of the vocabulary, got none: {hint}")
    return counts
