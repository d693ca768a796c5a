"""Rows of words that a vocabulary lacks, from what is known of them.

    B = (M^T M + ridge)^-1 M^T (E - m)          vectors of units (U, D), from the rows E there are
    E[w] = m + c sum_u M[w, u] B[u]             c gives what is added its usual length
    E[w] = m + c (x / |x| + y / |y|)            x that sum; y = pieces of w, their mean row - m

M (V, U) says which units a word has: a word of many senses is the sum of its senses, scaled to
length 1; the mean row is m (D,). A fit is worth its codes where a word has a row to code. Of a new
word there is no row: what is known of it is all there is. The paper does not speak of new words.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import scipy.sparse

from see_min.encoding import with_private_rows
from see_min.errors import InputError, check_finite, check_shape
from see_min.storage.encodings import rounded
from see_min.units import Unit, morpheme_units
from see_min.words.formats import load_lexicon
from see_min.words.lexicon import Lexicon
from see_min.words.tokens import Token, normalise
from see_min.words.vocabulary import annotate_tokens

RIDGE = 1.0  # beside sums of squares of about one per word that has a unit
PART = 0.5  # length of a morpheme and of whole definitions, where the sememes have length 1
TINY = np.finfo(np.float32).tiny  # instead of the zeros of a solution that is exact
MEANT = 2  # senses: in docs/results.md better than 1 and than all
STEPS = 15  # of conjugate gradients; 30 change rows by half a percent


def new_rows(encoding, words, lexicon="sample", pieces=None, seed=0):
    """Rows (N, D) of words outside the vocabulary of an encoding.

    Parameters
    ----------
    encoding : SememeEncoding with its words; anything with `rows(ids)` and `words` will do
    words : list of N str, or {word: senses}
        Senses are lists of sememes, head first: a definition of one's own. None: the lexicon's.
        Morphemes are found among those of the vocabulary.
    lexicon : str or Lexicon, as in `see_min.encode`
    pieces : {word: ids}, optional
        Tokens that spell a word: the last formula. A word of which nothing is known has the mean
        of their rows.

    Raises
    ------
    InputError
        If the encoding has no words, or nothing is known of a word, which the text names.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> E = np.array([[2., 0.], [3., 1.], [0., 2.], [1., 3.]])
    >>> kept = SimpleNamespace(words=["add", "more", "cut", "less"], rows=lambda ids: E[ids])
    >>> lexicon = Lexicon.of({w: [[k]] for w, k in zip(kept.words, "uudd")})
    >>> new_rows(kept, {"plus": [["u"]]}, lexicon).round(2)
    array([[2.62, 0.38]])
    """
    return rows_of(encoding, words, *annotated(encoding.words, words, lexicon, seed), pieces)


def rows_of(encoding, words, notes, own, pieces=None):
    """The rows of `new_rows`, and its InputError, from annotations of vocabulary and words."""
    model = UnitVectors(encoding, notes)
    unknown = [word for word, note in zip(words, own) if not model.knows(note)]
    lost = [word for word in unknown if not (pieces or {}).get(word)]
    if lost:
        raise InputError(f"words: expected something known of each, got nothing of {lost[0]!r}")
    rows = model.rows(own)  # (N, D)
    for i, word in enumerate(words):
        if ids := (pieces or {}).get(word):
            spelled = encoding.rows(np.asarray(ids)).mean(0)  # (D,)
            rows[i] = spelled if word in unknown else model.between(rows[i], spelled)
    return rows


def annotated(names, words, lexicon="sample", seed=0):
    """Annotations of the tokens of a vocabulary, and of new words; InputError without names."""
    if names is None:
        raise InputError("encoding: expected one that knows its words, got none")
    lexicon = lexicon if isinstance(lexicon, Lexicon) else load_lexicon(lexicon)
    given = words if isinstance(words, dict) else {}
    fresh = [Token(word, "word", True) for word in words]
    notes = annotate_tokens([*normalise(names), *fresh], lexicon, seed)
    own = [replace(note, senses=tuple(map(tuple, given[word]))) if given.get(word) else note
           for word, note in zip(words, notes[len(names) :])]
    return notes[: len(names)], own


def described(text, lexicon):
    """Senses of a definition in words: the first two of each word but HowNet's function words.

    A word of a definition is meant in one sense: all of them would be mostly others.

    >>> described("a fast car", Lexicon.of({"fast": [["quick"]], "car": [["vehicle", "land"]]}))
    (('quick',), ('vehicle', 'land'))
    """
    senses = (lexicon.senses(word.strip(".,;:()\"'")) for word in text.split())
    meant = ([s for s in own if "FuncWord" not in s][:MEANT] for own in senses)
    return tuple(dict.fromkeys(s for own in meant for s in own))


class UnitVectors:
    """Vectors of units, by ridge regression from the units of words to their rows.

    `words` (N,), all when left out, are those from which it learns: parts of words, which begin
    with no stem, and words without a unit have no part in it.
    """

    def __init__(self, encoding, notes, words=None, ridge=RIDGE):
        owned = [weighted_units(note) for note in notes]
        some = [w for w in (range(len(notes)) if words is None else words)
                if notes[w].morphemes[:1] != ("",)]
        count = Counter(unit for w in some for unit in owned[w])
        self.number = {unit: u for u, unit in enumerate(u for u in count if count[u] > 1)}
        words = np.array([w for w in some if owned[w].keys() & self.number.keys()], dtype=int)
        if not len(words):
            raise InputError("lexicon: expected units that two words share, got none")
        inner = getattr(encoding, "inner_rows", encoding.rows)
        self.P = getattr(encoding, "projection", None)  # (d', D)
        X = np.asarray(inner(words), dtype=np.float32)  # (N, d'): half the time of float64
        self.mean = X.mean(0)  # (d',)
        X = X - self.mean
        self.length = self.norms(X).mean()
        self.vectors = ridge_solution(self.incidence(notes, words), X, ridge)  # (U, d')

    def norms(self, X):
        """Lengths (N,) of rows before the projection, after it."""
        return np.linalg.norm(X, axis=1) if self.P is None else np.linalg.norm(X @ self.P, axis=1)

    def knows(self, note):
        return bool(weighted_units(note).keys() & self.number.keys())

    def incidence(self, notes, words=None):
        """M (N, U)."""
        entries = [(i, self.number[unit], x)
                   for i, w in enumerate(range(len(notes)) if words is None else words)
                   for unit, x in weighted_units(notes[w]).items() if unit in self.number]
        rows, columns, values = zip(*entries) if entries else ((), (), ())
        shape = (len(notes) if words is None else len(words), len(self.number))
        return scipy.sparse.csr_array((np.array(values, np.float32), (rows, columns)), shape=shape)

    def between(self, *rows):
        """Halfway between the directions of rows (D,) from the mean row, at the usual length."""
        mean = self.mean if self.P is None else self.mean @ self.P  # (D,)
        x = sum((row - mean) / max(np.linalg.norm(row - mean), 1e-12) for row in rows)  # (D,)
        return mean + x * (self.length / max(np.linalg.norm(x), 1e-12))

    def rows(self, notes):
        """Rows (N, D); the mean row for a note without a unit."""
        X = self.incidence(notes) @ self.vectors  # (N, d')
        X *= (self.length / np.maximum(self.norms(X), 1e-12))[:, None]
        X += self.mean
        return X if self.P is None else X @ self.P  # (N, D)


def weighted_units(note):
    """{unit: its entry of M} of an Annotation.

    >>> from see_min import Annotation
    >>> note = Annotation((("car", "part"), ("car",)), ("wheel",))
    >>> [f"{unit} {x:.2f}" for unit, x in weighted_units(note).items()][:3]
    ['sememe:car 0.89', 'sememe:part 0.45', 'sense:car part 0.35']
    """
    sememes = Counter(Unit("sememe", n) for sense in note.senses for n in dict.fromkeys(sense))
    whole = Counter(Unit("sense", " ".join(sorted(sense))) for sense in note.senses)
    out = {}
    for part, length in ((sememes, 1.0), (whole, PART)):
        size = sum(x * x for x in part.values()) ** 0.5
        out |= {unit: length * x / size for unit, x in part.items()}
    return out | dict.fromkeys(morpheme_units(note.morphemes), PART)


def ridge_solution(M, X, ridge=RIDGE, steps=STEPS):
    """(M^T M + ridge)^-1 M^T X (U, d') by conjugate gradients: U may be too large for a matrix.

    Source: Hestenes and Stiefel 1952, on all columns at once, scaled by the diagonal.
    """
    turned = M.T.tocsr()  # (U, N)
    scale = (turned.power(2).sum(1) + ridge)[:, None]  # (U, 1)
    B = np.zeros((M.shape[1], X.shape[1]))  # (U, d')
    left = turned @ X
    step = left / scale
    gain = (left * step).sum(0)  # (d',)
    for _ in range(steps):
        image = turned @ (M @ step) + ridge * step  # (U, d')
        along = gain / np.maximum((step * image).sum(0), TINY)  # (d',)
        B += along * step
        left -= along * image
        better = left / scale
        gain, before = (left * better).sum(0), gain
        step = better + gain / np.maximum(before, TINY) * step
    return B


def with_words(encoding, words, rows, notes=None):
    """The encoding with further words, whose rows (N, D) are private vectors, rounded as the rest.

    `notes`, their Annotations, name what a row is made of. InputError for words that it has, twice
    the same, or an encoding without an index.

    >>> from see_min import SememeEncoding
    >>> book = np.array([[[0.]], [[1.]]])
    >>> kept = SememeEncoding([np.ones((1, 1, 1)), book], np.array([[[0, 1]]]), words=["a"])
    >>> with_words(kept, ["b"], np.array([[3.]])).rows([0, 1]).tolist()
    [[1.0], [3.0]]
    """
    V, N = len(encoding), len(words)
    if len({*(encoding.words or ()), *words}) < len(set(encoding.words or ())) + N:
        raise InputError("words: expected new ones, each once, got one that is there")
    rows = check_finite("rows", check_shape("rows", rows, N, encoding.shape[1]))
    units = list(map(private_name, words, notes or [None] * N))
    kept = encoding.words or [f"[ROW{row}]" for row in range(V)]
    grown = replace(with_private_rows(encoding, rows, units), words=[*kept, *words])
    return rounded(grown, encoding.bits) if encoding.bits else grown


def private_name(word, note=None):
    """The unit of a new word: itself, or the units whose sum it is."""
    units = [] if note is None else note.units
    return Unit("sum", " + ".join(map(str, units))) if units else Unit("word", word)
