"""A word as SEE sees it: what is known of it, the units it was built from, how entangled its product is, what it is near.

`known` needs a lexicon alone, `built` a finished fit. Both return data; `see_min.explain_report` shows them.
"""

import json

import numpy as np

from see_min.checks import DataError, ShapeError, check_axes
from see_min.entangle import entangled_rows, entanglement_entropy, schmidt_spectrum
from see_min.kdml import draw, parse_definition
from see_min.similarity import cosines


def known(word, lexicon, morphemes):
    """What a lexicon and a segmentation say of a word.

    Parameters
    ----------
    word : str
    lexicon : see_min.lexicon.Lexicon
    morphemes : sequence of str
        Its pieces.

    Returns
    -------
    dict
        word, entry (under which the lexicon knows the word, or None), senses (a list of dicts with sememes, roles, pos, number,
        definition, tree; the tree is "" where the source has no definition that can be parsed), morphemes.

    Examples
    --------
    >>> from see_min.lexicon import Lexicon
    >>> found = known("adding", Lexicon.of({"add": [("more",)]}), ("add", "ing"))
    >>> found["entry"], found["senses"][0]["sememes"], found["morphemes"]
    ('add', ('more',), ('add', 'ing'))

    Source: ours.
    """
    senses = [{"sememes": sense.sememes, "roles": sense.roles, "pos": sense.pos, "number": sense.number,
               "definition": sense.definition, "tree": _tree(sense.definition)} for sense in lexicon.meanings(word)]
    return {"word": word, "entry": lexicon.find(word), "senses": senses, "morphemes": tuple(morphemes)}


def _tree(definition):
    try:
        return draw(parse_definition(definition)) if definition else ""
    except DataError:  # the sememes of such a sense are known all the same
        return ""


def row_of(vocabulary, word):
    """The row of a word as it is written, else in lower case; None if no token is the whole word.

    Examples
    --------
    >>> from see_min.lexicon import Lexicon
    >>> from see_min.vocabulary import build_vocabulary
    >>> rows = build_vocabulary(["play", "##ing"], Lexicon({}), segmentation={})
    >>> row_of(rows, "Play"), row_of(rows, "ing")
    (0, None)

    Source: ours.
    """
    numbers = vocabulary.numbers
    return numbers.get(word, numbers.get(word.lower()))


def built(task, encoding, units, word, nearest=10, rows=None):
    """How a fitted encoding puts a word together.

    With x = sum_u b_u + p, the word's row before the carrier, p the sum of its products: a part has the share <part, x> / <x, x>,
    and the shares of all parts sum to 1.

    Parameters
    ----------
    task : see_min.compare.Task
    encoding : see_min.encoding.SememeEncoding
        Fitted to the task.
    units : see_min.units.Units
        Its names; the numbers are the encoding's, because a fit re-deals back-off units.
    word : str
    nearest : int
        How many words to list before and after.
    rows : array (V, D), optional
        All rows of the encoding, if they are at hand.

    Returns
    -------
    dict
        token, row, count (expected); shape, order, rank, floats, ratio (of floats); slots (n lists of unit names: one, or one
        a term where the terms differ); bag (dicts with unit, norm, cosine with x, share); owns (whether one of these belongs
        to this word alone); product (norm, cosine, share); error (||E0 - E||^2 / ||E0||^2), explained (1 - error), reach (what
        the carrier lets an encoding explain at most), cosine (of E0 and E); schmidt (spectrum, entropy, maximum of p across
        the first split; None for order 1); before, after (lists of [word, cosine]), same (how many words are in both);
        arrays (for figures).

    Raises
    ------
    DataError
        If the word is in no row.
    ShapeError
        If task, encoding and units do not fit together.

    Source: ours.
    """
    _check_parts(task, encoding, units)
    row = row_of(task.vocabulary, word)
    if row is None:
        raise DataError(f"word: expected a whole word of the vocabulary, got {word!r}")
    rows = encoding.rows(np.arange(len(task.matrix))) if rows is None else rows  # (V, D)
    arrays = _arrays(task, encoding, row)
    bag, product = _parts(encoding, units, row, arrays)
    numbers = task.vocabulary.numbers
    before, after = (nearest_words(matrix, numbers, row, nearest) for matrix in (task.matrix, rows))
    V, D = encoding.shape
    return {
        "token": task.vocabulary.names[row], "row": int(row), "count": float(task.vocabulary.counts[row]),
        "shape": [V, D], "order": encoding.order, "rank": encoding.rank, "floats": int(encoding.floats),
        "ratio": float(V * D / encoding.floats),
        "slots": slot_names(encoding, units, row), "bag": bag,
        "owns": f"={task.vocabulary.names[row]}" in [part["unit"] for part in bag],
        "product": product, **_quality(arrays), "schmidt": _schmidt(encoding, arrays["product"]),
        "before": before, "after": after, "same": len({word for word, _ in before} & {word for word, _ in after}),
        "arrays": arrays,
    }


def _check_parts(task, encoding, units):
    check_axes("task.matrix", task.matrix, *encoding.shape)
    sizes, names = [len(table) for table in encoding.tables], [len(slot) for slot in units.names]
    if sizes != names:
        raise ShapeError(f"units.names: expected {sizes} as in the tables, got {names}")
    vectors = 0 if encoding.bag is None else len(encoding.bag_vectors)
    if vectors != len(units.bag_names):
        raise ShapeError(f"units.bag_names: expected {vectors} as in the bag vectors, got {len(units.bag_names)}")


def slot_names(encoding, units, row):
    """Unit names of a word: a list a slot, of one name, or of r where the terms of the word differ.

    Examples
    --------
    >>> from see_min.encoding import SememeEncoding
    >>> from see_min.units import Units
    >>> index, leaf = np.array([[[0, 0], [1, 0]]]), np.ones((2, 2, 3))          # one word, two terms, two slots
    >>> slot_names(SememeEncoding([leaf, leaf], index), Units(index, index > 9, [], [["s:a", "s:b"], ["+s", "~0"]]), 0)
    [['s:a', 's:b'], ['+s']]

    Source: ours.
    """
    index = encoding.index[row].reshape(-1, encoding.order)  # (1 or r, n)
    slots = [[units.names[j][unit] for unit in column] for j, column in enumerate(index.T)]
    return [names if len(set(names)) > 1 else names[:1] for names in slots]


def _arrays(task, encoding, row):
    """What a figure draws: leaves (r, q_j), amplitudes (r,), vectors (m, d'), product and inner (d',), row and dense (D,)."""
    ids = np.array([row])
    amplitudes = None if encoding.amplitudes is None else encoding.amplitudes[ids]  # (1, r)
    leaves = encoding.leaves(ids)  # n arrays (1, r, q_j)
    numbers = np.arange(0) if encoding.bag is None else encoding.bag[row][encoding.bag[row] >= 0]  # (m,)
    vectors = np.zeros((0, encoding.inner)) if encoding.bag is None else encoding.bag_vectors[numbers]  # (m, d')
    return {
        "leaves": [leaf[0] for leaf in leaves], "amplitudes": None if amplitudes is None else amplitudes[0],
        "vectors": vectors, "product": entangled_rows(leaves, amplitudes)[0], "inner": encoding.inner_rows(ids)[0],
        "carrier": encoding.carrier, "row": encoding.rows(ids)[0], "dense": np.asarray(task.matrix[row], dtype=float),
    }


def _parts(encoding, units, row, arrays):
    """(bag, product): the size of every part of x and what it has of x."""
    x = arrays["inner"]
    parts = np.vstack([arrays["vectors"], arrays["product"]])  # (m + 1, d')
    angles, shares = cosines(parts, np.broadcast_to(x, parts.shape)), parts @ x / ((x @ x) or 1)  # (m + 1,), (m + 1,)
    said = [{"norm": float(norm), "cosine": float(cosine), "share": float(share)}
            for norm, cosine, share in zip(np.linalg.norm(parts, axis=1), angles, shares)]
    numbers = [] if encoding.bag is None else [unit for unit in encoding.bag[row] if unit >= 0]
    return [{"unit": units.bag_names[unit]} | part for unit, part in zip(numbers, said)], said[-1]


def _quality(arrays):
    """error, explained, reach and cosine of one row; a dense row of zeros has error 0 if it is met, else as it stands."""
    dense, row, P = arrays["dense"], arrays["row"], arrays["carrier"]
    size = (dense @ dense) or 1.0
    error = float(((dense - row) ** 2).sum() / size)
    reach = 1.0
    if P is not None:
        basis = np.linalg.qr(P.T)[0]  # (D, d'); orthonormal also if training has moved the carrier
        reach = float(((dense @ basis) ** 2).sum() / size)
    return {"error": error, "explained": 1 - error, "reach": reach, "cosine": float(cosines([dense], [row])[0])}


def _schmidt(encoding, product):
    if encoding.order == 1:
        return None  # nothing to split
    left = encoding.sizes[0]
    spectrum = schmidt_spectrum(product, encoding.sizes, 1)  # (min(q_1, q_2 .. q_n),)
    most = min(encoding.rank, left, encoding.inner // left)
    return {"spectrum": spectrum.tolist(), "entropy": float(entanglement_entropy(spectrum)), "maximum": float(np.log(most))}


def nearest_words(rows, numbers, row, count):
    """The words of the largest cosine with a row, the row itself left out; of equal ones the first in `numbers`.

    Parameters
    ----------
    rows : array (V, D)
    numbers : dict of str to int
        Word -> row, of the words that may be listed.
    row, count : int

    Returns
    -------
    list of [word, cosine]

    Examples
    --------
    >>> nearest_words(np.array([[1., 0.], [2., 0.], [0., 1.]]), {"a": 0, "b": 1, "c": 2}, 0, 2)
    [['b', 1.0], ['c', 0.0]]

    Source: ours.
    """
    words, ids = [word for word in numbers if numbers[word] != row], [i for i in numbers.values() if i != row]
    others = rows[np.array(ids, dtype=int)]  # (N, D)
    angles = cosines(others, np.broadcast_to(rows[row], others.shape))  # (N,)
    return [[words[i], float(angles[i])] for i in np.argsort(-angles, kind="stable")[:count]]


def explain(words, lexicon, pieces, task=None, encoding=None, units=None):
    """`known` of every word and, under the key built, `built` after a fit.

    Parameters
    ----------
    words : sequence of str
    lexicon : see_min.lexicon.Lexicon
    pieces : dict of str to tuple of str
        Morphemes of words; a word that it lacks has none.
    task, encoding, units :
        As of `built`, all or none of them.

    Returns
    -------
    list of dict
        built is None without a fit, and for a word that is in no row.

    Raises
    ------
    DataError
        If there are no words, or only a part of a fit.

    Examples
    --------
    >>> from see_min.lexicon import Lexicon
    >>> explain(["xyzzy"], Lexicon({}), {})
    [{'word': 'xyzzy', 'entry': None, 'senses': [], 'morphemes': (), 'built': None}]

    Source: ours.
    """
    words, parts = list(words), (task, encoding, units)
    if not words:
        raise DataError("words: expected at least 1 word, got none")
    given = sum(part is not None for part in parts)
    if given not in (0, 3):
        raise DataError(f"fit: expected task, encoding and units together, got {given} of the three")
    found = {word for word in words if given and row_of(task.vocabulary, word) is not None}
    rows = encoding.rows(np.arange(len(task.matrix))) if found else None  # (V, D), once for all words
    return [known(word, lexicon, pieces.get(word, ()))
            | {"built": built(*parts, word, rows=rows) if word in found else None} for word in words]


def as_json(explanations):
    """Explanations as JSON has them, without arrays: `json.loads(json.dumps(...))` gives the same again.

    Examples
    --------
    >>> from see_min.lexicon import Lexicon
    >>> as_json(explain(["adds"], Lexicon({}), {"adds": ("add", "s")}))[0]["morphemes"]
    ['add', 's']

    Source: ours.
    """
    bare = lambda built: built and {key: value for key, value in built.items() if key != "arrays"}
    return json.loads(json.dumps([one | {"built": bare(one["built"])} for one in explanations], allow_nan=False))
