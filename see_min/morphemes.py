"""Word -> morphemes: Morfessor's baseline model, trained on the vocabulary that it then splits.

The model picks the pieces that make vocabulary and pieces together shortest to write down. It sees every word
once, whatever its frequency: on tokens it would keep frequent words whole.
"""

import contextlib
import hashlib
import io
import json
import logging
import random
from pathlib import Path

from see_min.checks import DataError
from see_min.files import write_atomic


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
    list of tuples of str, one a word: as a rule the stem first, then endings; () for a word that is not all letters

    Raises
    ------
    DataError
        If morfessor is not installed, or the cache cannot be written.

    Examples
    --------
    >>> words = "play plays played playing work works worked working".split()
    >>> segment([*words, "x1"])[1:4] + segment([*words, "x1"])[-1:]
    [('play', 's'), ('play', 'ed'), ('play', 'ing'), ()]

    Source: Morfessor baseline, Virpioja et al. 2013, on types; MorphTE (arXiv 2210.15379) uses it on vocabularies.
    """
    words = list(words)
    types = sorted({word for word in words if word.isalpha()})  # sorted: neither word order nor hashing matters
    if not types:
        return [() for _ in words]
    morfessor = _morfessor()
    fingerprint = _fingerprint(types, seed, morfessor.__version__)
    pieces = None if cache is None else _read_cache(cache, fingerprint, types)
    if pieces is None:
        pieces = _train_and_split(morfessor, types, seed)
        if cache is not None:
            write_atomic(cache, json.dumps({"fingerprint": fingerprint, "pieces": pieces}))
    return [tuple(pieces.get(word, ())) for word in words]


def _morfessor():
    try:
        import morfessor
    except ImportError:
        raise DataError("morfessor: expected the package to be installed, got none: pip install morfessor") from None
    return morfessor


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
    return {word: ["".join(piece) for piece in model.viterbi_segment(tuple(word))[0]] for word in types}


def _fingerprint(types, seed, version):
    return hashlib.sha256(json.dumps([types, int(seed), version]).encode()).hexdigest()


def _read_cache(cache, fingerprint, types):
    """The cached pieces, or None if the file is absent, damaged, or was written for something else."""
    try:
        stored = json.loads(Path(cache).read_text(encoding="utf-8"))
        pieces = stored["pieces"]
        fits = stored["fingerprint"] == fingerprint and all(_splits(pieces[word], word) for word in types)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # ValueError: not JSON, not UTF-8
        return None
    return pieces if fits else None


def _splits(pieces, word):
    return isinstance(pieces, list) and all(pieces) and "".join(pieces) == word
