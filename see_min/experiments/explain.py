"""`explain`: a word as SEE sees it: its senses, units and shares, entanglement, nearest words.

A saved encoding is read and nothing is fitted. Without one, the lexicon tells what it knows.
"""

import sys
import textwrap
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from see_min.encoding import SememeEncoding
from see_min.entangle import entangled_rows, entanglement_entropy, schmidt_spectrum
from see_min.errors import InputError, check_shape
from see_min.experiments import reports, sources
from see_min.experiments.options import add_flags
from see_min.experiments.page import page
from see_min.experiments.similarity import cosines, row_of
from see_min.storage.files import write_atomic
from see_min.units import Unit
from see_min.words.formats import load_lexicon
from see_min.words.kdml import draw, parse_definition
from see_min.words.morphemes import segment
from see_min.words.tokens import normalise
from see_min.words.vocabulary import build_vocabulary

WIDTH = 100  # columns
NEAREST = 10  # words
COLOURS = {"word": reports.BLACK, "sememe": reports.BLUE, "stem": reports.RED,
           "affix": reports.ORANGE, "product": reports.GREEN}  # others are grey
MAX_UNITS = 10  # of a figure


def known(word, lexicon, morphemes=None):
    """What a lexicon and, if it was asked, a segmentation say of a word."""
    senses = []
    for sense in lexicon.meanings(word):
        try:
            tree = draw(parse_definition(sense.definition)) if sense.definition else ""
        except InputError:  # the sememes of such a sense are known all the same
            tree = ""
        senses.append(asdict(sense) | {"tree": tree})
    return {"word": word, "entry": lexicon.find(word), "senses": senses, "morphemes": morphemes}


def load_encoding(path, lexicon="sample"):
    """The encoding, with its words, in a saved .npz, a toy checkpoint or a compressed folder.

    The lexicon is that of the fit, for a bag that no file holds.
    Raises InputError if nothing in it is compressed, or the words are missing.
    """
    path = Path(path)
    if path.suffix == ".npz":
        encoding = SememeEncoding.load(path, lambda words: build_vocabulary(words, lexicon))
        if encoding.words is None:
            raise InputError(f"{path}: expected an encoding with its words, got none")
        return encoding
    layer, words, *_ = sources.open_model(path)
    if not hasattr(layer, "to_encoding"):
        got = type(layer).__name__
        raise InputError(f"{path}: expected a compressed embedding, got {got}")
    return replace(layer.to_encoding(), words=words)


def rows_of_words(words):
    """Word -> row, for tokens that can be whole words; the first of those that spell the same.

    >>> rows_of_words(["play", "##ing", "play"])
    {'play': 0}
    """
    spelled = [token.word for token in normalise(words)]
    return {word: row for row, word in reversed(list(enumerate(spelled))) if word}


def built(encoding, word, dense=None, rows=None):
    """How an encoding puts a word together.

    With x = sum_u b_u + p, the row before the projection, and p the sum of its products: a part has
    the share <part, x> / <x, x>, and the shares of all parts sum to 1.

    `dense` (V, D) is the matrix that the encoding stands for, `rows` (V, D) are all rows of the
    encoding, if they are at hand. None if no row is the word.
    """
    numbers = rows_of_words(encoding.words)
    row = row_of(numbers, word)
    if row is None:
        return None
    rows = encoding.rows(np.arange(len(encoding))) if rows is None else rows  # (V, D)
    units, vectors = parts_of(encoding, row)  # m + 1, (m + 1, d'); the product is last
    x = vectors.sum(0)  # (d',)
    norms, shares = np.linalg.norm(vectors, axis=1), vectors @ x / ((x @ x) or 1)  # (m + 1,) each
    facts = zip(units, norms, cosines(vectors, np.broadcast_to(x, vectors.shape)), shares)
    V, D = encoding.shape
    return {
        "token": encoding.words[row], "row": int(row), "shape": [V, D],
        "parameters": int(encoding.parameters), "ratio": float(V * D / encoding.parameters),
        "slots": slot_units(encoding, row),
        "parts": [unit._asdict() | {"norm": float(norm), "cosine": float(cosine),
                                    "share": float(share)} for unit, norm, cosine, share in facts],
        "entropy": product_entropy(encoding, vectors[-1]),
        "nearest": nearest_words(rows, numbers, row),
        "dense": None if dense is None else dense_facts(dense, rows, numbers, row),
    }


def dense_facts(dense, rows, numbers, row):
    """Explained share of the squared norm, cosine, and the nearest words of the dense row."""
    target, own = np.asarray(dense[row], dtype=float), rows[row]  # (D,), (D,)
    error = float(((target - own) ** 2).sum() / ((target @ target) or 1))
    return {"explained": 1 - error, "cosine": float(cosines([target], [own])[0]),
            "nearest": nearest_words(dense, numbers, row)}


def slot_units(encoding, row):
    """Units of a word as text: a list per slot, of one name, or of r where the terms differ."""
    slots = []
    for j, column in enumerate(encoding.units_of(np.array([row]))[0].T):  # of (k, n)
        names = [str(encoding.slot_names[j][unit]) if encoding.slot_names else f"unit:{unit}"
                 for unit in column]
        slots.append(names if len(set(names)) > 1 else names[:1])
    return slots


def parts_of(encoding, row):
    """Units of a word and their vectors (d') side by side: those of its bag, then its product."""
    product = entangled_rows(encoding.leaves(np.array([row])))  # (1, d')
    units, vectors = [], product[:0]  # (0, d')
    if encoding.bag is not None:
        numbers = encoding.bag.indices[slice(*encoding.bag.indptr[row : row + 2])]  # (m,)
        units = [encoding.bag_names[unit] if encoding.bag_names else Unit("unit", str(unit))
                 for unit in numbers]
        vectors = encoding.bag_vectors[numbers]  # (m, d')
    units.append(Unit("product", f"order {encoding.order}, rank {encoding.rank}"))
    return units, np.vstack([vectors, product])  # (m + 1, d')


def product_entropy(encoding, product):
    """Entanglement of slot 1 with the rest: entropy and its maximum in nats; None for order 1."""
    if encoding.order == 1:
        return None
    left = encoding.sizes[0]
    bound = min(encoding.rank, left, encoding.inner_dim // left)
    spectrum = schmidt_spectrum(product, encoding.sizes, 1)  # (min(q_1, q_2 .. q_n),)
    return float(entanglement_entropy(spectrum)), float(np.log(bound))


def nearest_words(rows, numbers, row, count=NEAREST):
    """The words of the largest cosine with a row, without the row itself: a list of [word, cosine].

    >>> nearest_words(np.array([[1., 0.], [2., 0.], [0., 1.]]), {"a": 0, "b": 1, "c": 2}, 0)
    [['b', 1.0], ['c', 0.0]]
    """
    words = [word for word in numbers if numbers[word] != row]
    others = np.asarray(rows[np.array([numbers[word] for word in words], dtype=int)])  # (N, D)
    angles = cosines(others, np.broadcast_to(rows[row], others.shape))  # (N,)
    order = np.argsort(-angles, kind="stable")[:count]
    return [[words[i], float(angles[i])] for i in order]


def explain_words(words, lexicon, encoding=None, dense=None):
    """A list of dicts: `known` of every word and, under the key built, `built` or None.

    Without an encoding, whose units say more, Morfessor splits words and entries of the lexicon.
    """
    if encoding is None:
        pieces = segment([*words, *lexicon.entries])
        return [known(word, lexicon, parts) | {"built": None} for word, parts in zip(words, pieces)]
    rows = encoding.rows(np.arange(len(encoding)))  # (V, D), once
    return [known(word, lexicon) | {"built": built(encoding, word, dense, rows)} for word in words]


def as_text(explanations):
    """Explanations for a terminal of 100 columns."""
    texts = []
    for one in explanations:
        lines = _known_lines(one)
        if one["built"]:
            lines += _built_lines(one["built"])
        elif one["morphemes"] is None:  # of an encoding
            lines += [f"{one['word']} is no whole word of the vocabulary"]
        texts.append("\n".join(lines) + "\n")
    return "\n".join(texts)


def _known_lines(one):
    senses, entry = one["senses"], one["entry"]
    known_as = f"known as {entry}, " if entry not in (None, one["word"]) else ""
    count = f"{known_as}{len(senses)} sense{'s' * (len(senses) != 1)}"
    lines = [one["word"], "=" * len(one["word"]), count if senses else "no sense is known"]
    for number, sense in enumerate(senses, start=1):
        head = "  ".join(part for part in (f"  {number}", sense["pos"], sense["number"]) if part)
        if sense["tree"]:
            lines += [head, textwrap.indent(sense["tree"], " " * 5)]
        else:
            lines += _wrap(f"{head}  {' > '.join(sense['sememes'])}", 5)
    if one["morphemes"] is not None:
        lines.append(f"morphemes: {' + '.join(one['morphemes']) or 'none'}")
    return lines


def _wrap(line, indent):
    return textwrap.wrap(line, WIDTH, subsequent_indent=" " * indent, break_long_words=False,
                         break_on_hyphens=False)


def _built_lines(built):
    V, D = built["shape"]
    lines = ["", f"token {built['token']}, row {built['row']:,} of {V:,}",
             f"{built['parameters']:,} of {V * D:,} parameters, ratio {built['ratio']:.1f}"]
    lines += ["", *_unit_lines(built)]
    dense = built["dense"]
    if built["entropy"]:
        entropy, most = built["entropy"]
        lines += [f"entanglement of the product, slot 1 with the rest: {entropy:.2f} nats "
                  f"of at most {most:.2f}"]
    after = [f"{cosine:6.3f}  {word}" for word, cosine in built["nearest"]]
    if not dense:
        return [*lines, "", "nearest words", *(f"  {word}" for word in after)]
    lines += ["", f"explained {dense['explained']:.0%} of the squared norm, "
              f"cosine {dense['cosine']:.3f} with the dense row"]
    before = [f"{cosine:6.3f}  {word}" for word, cosine in dense["nearest"]]
    wide = max([24, *map(len, before)])
    same = len({word for word, _ in dense["nearest"]} & {word for word, _ in built["nearest"]})
    lines += ["", f"nearest words, {same} of {len(after)} the same"]
    lines += [f"  {'before':{wide}}  | after"]
    return lines + [f"  {left:{wide}}  |{right}" for left, right in zip(before, after)]


def _unit_lines(built):
    """One line per part: kind, name, norm, cosine, share; then what stands in the slots."""
    wide = max(len(part["name"]) for part in built["parts"])
    lines = [f"  {'unit':9}  {'':{wide}}   norm  cosine   share"]
    for part in built["parts"]:
        lines.append(f"  {part['kind']:9}  {part['name']:{wide}}  {part['norm']:5.2f}  "
                     f"{part['cosine']:6.2f}  {round(100 * part['share']):4} %")
    for j, names in enumerate(built["slots"], start=1):
        per_term = ", per term" * (len(names) > 1)
        lines += _wrap(f"  slot {j}{per_term}: {', '.join(names)}", 10)
    return lines


def as_page(explanations, encoding):
    """A page of HTML with these words of an encoding; others can be typed into it."""
    numbers = rows_of_words(encoding.words)
    shown = {word if (word := one["word"]) in numbers else word.lower(): one["built"]["dense"]
             for one in explanations if one["built"]}
    before = {word: dense["nearest"] for word, dense in shown.items() if dense}
    return page(encoding, numbers, list(shown), before)


def plot(explanation, path):
    """Draw the parts of a word and their shares: what its bag adds up, and the product."""
    from matplotlib import rc_context

    built = explanation["built"]
    V, D = built["shape"]
    *bag, product = built["parts"]
    parts = [*sorted(bag, key=lambda part: -part["share"])[:MAX_UNITS], product]
    with rc_context({"text.parse_math": False}):  # words may have dollars
        title = f"{explanation['word']}: {V:,} × {D} embedding at 1/{built['ratio']:.1f}"
        fig = reports.new_figure(7.5, 1.6 + 0.32 * len(parts), title)
        axis = fig.subplots()
        for y, part in enumerate(parts):
            axis.barh(y, part["share"], 0.6, color=COLOURS.get(part["kind"], reports.GREY))
            axis.text(max(part["share"], 0), y, f"  {part['share']:.0%}", va="center", fontsize=9)
        axis.set_yticks(range(len(parts)), [f"{part['kind']} {part['name']}" for part in parts])
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.set_xlabel("share of the squared norm of the row before the projection")
        axis.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axis.spines[["top", "right"]].set_visible(False)
        return reports.save_figure(fig, path)


def add_arguments(parser):
    """The flags of `explain`."""
    parser.add_argument("words", nargs="+", metavar="[FILE] WORD",
                        help="an encoding (.npz), a checkpoint (.pt) or a compressed folder, and "
                             "words; without a file, what the lexicon knows")
    parser.add_argument("--dense", metavar="FILE",
                        help="the matrix, checkpoint or folder as it was")
    add_flags(parser, "lexicon")
    parser.add_argument("--plot", metavar="FILE", help="draw the first word: .png, .svg or .pdf")
    parser.add_argument("--html", metavar="FILE",
                        help="a page that shows these words, and others as they are typed")


def run(arguments, command):
    """Print what words are made of, draw the first; InputError for what cannot be used."""
    path, words = _split(arguments.words)
    for name in ("dense", "plot", "html"):
        if getattr(arguments, name) and path is None:
            raise InputError(f"{name}: expected FILE before the words with it, got none")
    if arguments.plot and (ending := Path(arguments.plot).suffix.lower()) not in reports.FORMATS:
        rule = f"a name that ends in one of {', '.join(reports.FORMATS)}"
        raise InputError(f"plot: expected {rule}, got {ending or 'no ending'}")
    lexicon = load_lexicon(arguments.lexicon)
    encoding = None if path is None else load_encoding(path, lexicon)
    dense = None
    if arguments.dense:
        dense = check_shape("dense", sources.named_matrix(arguments.dense), *encoding.shape)
    found = explain_words(words, lexicon, encoding, dense)
    for name in ("plot", "html"):
        if getattr(arguments, name) and found[0]["built"] is None:
            raise InputError(f"{name}: expected a word of the vocabulary, got {words[0]!r}")
    print(as_text(found), end="")
    if arguments.plot:
        print(f"written: {plot(found[0], arguments.plot)}", file=sys.stderr)
    if arguments.html:
        text = as_page(found, encoding)
        print(f"written: {write_atomic(arguments.html, text)}", file=sys.stderr)


def _split(arguments):
    """(path or None, words): the first argument is a path if it is, or looks like, an encoding."""
    first, *rest = arguments
    path = Path(first)
    named = first.endswith((".npz", ".pt")) or "/" in first
    if not (named or path.is_file() or (path / "config.json").is_file()):
        return None, list(dict.fromkeys(arguments))
    if not rest:
        raise InputError(f"words: expected at least 1 after {first}, got none")
    return first, list(dict.fromkeys(rest))
