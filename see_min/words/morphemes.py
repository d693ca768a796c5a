"""Word -> morphemes: Morfessor's baseline model, trained on the vocabulary that it then splits.

The model picks the pieces that make vocabulary and pieces together shortest to write down. It sees
every word once, whatever its frequency: on tokens it would keep frequent words whole.
"""

import contextlib
import io
import logging
import random
from functools import lru_cache

from see_min.errors import require

LONGEST = 64  # letters: longer "words" stay uncut, for the search takes the square of their length


def segment(words, seed=0):
    """Split words into morphemes; the pieces of a word, put together, are the word.

    Upper and lower case are different letters. `seed` is that of the order in which training visits
    the words. The result is a list of tuples of str, one per word: as a rule the stem first, then
    endings; () for a word that is not all letters.

    >>> words = "play plays played playing work works worked working".split()
    >>> segment([*words, "x1"])[1:4] + segment([*words, "x1"])[-1:]
    [('play', 's'), ('play', 'ed'), ('play', 'ing'), ()]

    Source: Virpioja et al. 2013, on types; MorphTE (arXiv 2210.15379) uses it on vocabularies.
    """
    words = list(words)
    types = {word for word in words if word.isalpha()}
    pieces = {word: [word] for word in types if len(word) > LONGEST}
    types = tuple(sorted(types - set(pieces)))  # neither word order nor hashing matters
    if types:
        pieces |= _train_and_split(types, seed)
    return [tuple(pieces.get(word, ())) for word in words]


@lru_cache(maxsize=8)  # a vocabulary that is encoded again is not split again
def _train_and_split(types, seed):
    """{word: its pieces}; morfessor's random numbers, progress dots and log stay in here."""
    morfessor = require("morfessor")
    logger, state = logging.getLogger("morfessor"), random.getstate()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    random.seed(seed)  # morfessor draws from the global generator
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            model = morfessor.BaselineModel()
            model.load_data([(1, tuple(word)) for word in types])
            model.train_batch()
    finally:
        random.setstate(state)
        logger.setLevel(level)
    return {w: ["".join(piece) for piece in model.viterbi_segment(tuple(w))[0]] for w in types}
