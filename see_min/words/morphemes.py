"""Word -> morphemes: Morfessor's baseline model, trained on the vocabulary that it then splits.

The model picks the pieces that make vocabulary and pieces together shortest to write down. It sees
every word once, whatever its frequency: on tokens it would keep frequent words whole.
"""

import contextlib
import hashlib
import io
import json
import logging
import random
from pathlib import Path

from see_min.errors import InputError, require
from see_min.files import read_json, read_lines, write_atomic

LONGEST = 64  # letters: longer "words" stay uncut, for the search takes the square of their length


def segment(words, seed=0, cache=None):
    """Split words into morphemes; the pieces of a word, put together, are the word.

    Parameters
    ----------
    words : sequence of str
        The vocabulary; upper and lower case are different letters.
    seed : int
        Of the order in which training visits the words.
    cache : str or Path, optional
        A JSON file that is used if it was written for the same words and seed, else (re)written.

    Returns
    -------
    list of tuples of str, one per word
        As a rule the stem first, then endings; () for a word that is not all letters.

    Examples
    --------
    >>> words = "play plays played playing work works worked working".split()
    >>> segment([*words, "x1"])[1:4] + segment([*words, "x1"])[-1:]
    [('play', 's'), ('play', 'ed'), ('play', 'ing'), ()]

    Source: Virpioja et al. 2013, on types; MorphTE (arXiv 2210.15379) uses it on vocabularies.
    """
    words = list(words)
    types = {word for word in words if word.isalpha()}
    pieces = {word: [word] for word in types if len(word) > LONGEST}
    types = sorted(types - set(pieces))  # sorted: neither word order nor hashing matters
    if types:
        pieces |= _cached_pieces(types, seed, cache)
    return [tuple(pieces.get(word, ())) for word in words]


def _cached_pieces(types, seed, cache):
    morfessor = require("morfessor")
    fingerprint = json.dumps([types, int(seed), morfessor.__version__])
    fingerprint = hashlib.sha256(fingerprint.encode()).hexdigest()
    pieces = None if cache is None else _read_cache(cache, fingerprint, types)
    if pieces is None:
        pieces = _train_and_split(morfessor, types, seed)
        if cache is not None:
            write_atomic(cache, json.dumps({"fingerprint": fingerprint, "pieces": pieces}))
    return pieces


def _train_and_split(morfessor, types, seed):
    """{word: its pieces}; morfessor's random numbers, progress dots and log stay in here."""
    logger, state = logging.getLogger("morfessor"), random.getstate()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    random.seed(int(seed))  # morfessor draws from the global generator
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            model = morfessor.BaselineModel()
            model.load_data([(1, tuple(word)) for word in types])
            model.train_batch()
    finally:
        random.setstate(state)
        logger.setLevel(level)
    return {w: ["".join(piece) for piece in model.viterbi_segment(tuple(w))[0]] for w in types}


def _read_cache(cache, fingerprint, types):
    """The cached pieces, or None if the file is absent, damaged, or for other words."""
    try:
        stored = json.loads(Path(cache).read_text(encoding="utf-8"))
        pieces = stored["pieces"]
        fits = stored["fingerprint"] == fingerprint
        fits = fits and all(_is_split(pieces[word], word) for word in types)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # ValueError: not JSON
        return None
    return pieces if fits else None


def _is_split(pieces, word):
    return isinstance(pieces, list) and all(pieces) and "".join(pieces) == word


def read_segmentation(path, key=None):
    """Read word -> morphemes, a dict of str to tuple of str.

    Parameters
    ----------
    path : str or Path
        Named .json (.gz): {word: "a b c" or ["a", "b", "c"]}, or such objects under several keys.
        Else lines word<tab>a @@b @@c, whose third column is ignored, and "@@" is taken off.
    key : str, optional
        Of the object to read in a JSON file that holds several, such as "word2mor_src".

    Raises
    ------
    InputError
        If the file has no word, or an entry is malformed or stands twice; the line is named.

    Source: the columns are those of the SIGMORPHON 2022 task, the keys those of MorphTE.
    """
    is_json = str(path).removesuffix(".gz").endswith(".json")
    result = _from_json(read_json(path), path, key) if is_json else _from_lines(path)
    if not result:
        raise InputError(f"{path}: expected at least 1 word, got none")
    return result


def _from_lines(path):
    result = {}
    for number, line in enumerate(read_lines(path), start=1):
        word, *columns = line.split("\t")
        if len(columns) not in (1, 2):
            got = 1 + len(columns)
            raise InputError(f"{path}:{number}: expected 2 or 3 columns, got {got}")
        if not word.strip() or word in result:
            raise InputError(f"{path}:{number}: expected a word, each once, got {word!r}")
        result[word] = _pieces(columns[0], f"{path}:{number}")
    return result


def _from_json(data, path, key):
    groups = [k for k, v in data.items() if isinstance(v, dict)] if isinstance(data, dict) else []
    if (key is not None or groups) and key not in groups:
        names = ", ".join(groups) or "none"
        raise InputError(f"key: expected one of {names} in {path}, got {key!r}")
    data = data[key] if groups else data
    if not isinstance(data, dict):
        got = type(data).__name__
        raise InputError(f"{path}: expected an object of word -> morphemes, got {got}")
    return {word: _pieces(value, f"{path}: {word!r}") for word, value in data.items()}


def _pieces(value, place):
    pieces = value
    if isinstance(value, str):
        pieces = [piece.removeprefix("@@") for piece in value.split()]
    is_list = isinstance(pieces, list) and pieces
    if not is_list or not all(isinstance(piece, str) and piece for piece in pieces):
        raise InputError(f"{place}: expected morphemes, none of them empty, got {value!r:.80}")
    return tuple(pieces)
