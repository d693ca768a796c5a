"""Explanations of words as people look at them: text for a terminal of 100 columns, a figure of how a word is built."""

import textwrap

import numpy as np

from see_min.checks import DataError
from see_min.style import BLACK, BLUE, GREEN, ORANGE, RED, SIGNED, new_figure, save_png

WIDTH = 100  # columns
BLOCKS = " ▏▎▍▌▋▊▉█"  # eighths
KINDS = {"s:": "sememe", "m:": "stem", "+": "affix", "=": "own", "#": "rarity", "~": "back-off"}
# the kind stands beside the bar in words, too
COLOURS = {"own": BLACK, "sememe": BLUE, "stem": RED, "affix": ORANGE, "rarity": "#999999", "product": GREEN}
MOST_TERMS, MOST_UNITS, MOST_WORDS = 6, 8, 10  # of a figure
GREY = "#555555"


def describe(unit):
    """(kind, name) of a unit as people read it.

    Examples
    --------
    >>> describe("s:human"), describe("+ing"), describe("#4"), describe("~17")
    (('sememe', 'human'), ('affix', '+ing'), ('rarity', 'ranks 4–7'), ('back-off', '~17'))

    Source: ours.
    """
    kind = next((KINDS[mark] for mark in KINDS if unit.startswith(mark) and unit != mark), "anchor")
    if kind == "rarity":
        first = int(unit[1:])
        return kind, f"ranks {first:,}–{2 * first - 1:,}" if first > 1 else "rank 1"
    return kind, unit[2:] if kind in ("sememe", "stem") else unit[1:] if kind == "own" else unit


def bar(share, width=20):
    """A bar of block characters, to an eighth of a character; nothing below 0.

    Examples
    --------
    >>> bar(0.5, 4), bar(0.03, 4)
    ('██', '▏')

    Source: ours.
    """
    eighths = round(8 * width * min(max(share, 0), 1))
    return "█" * (eighths // 8) + BLOCKS[eighths % 8].strip()


def text(explanations):
    """What `see_min.explain.explain` returns, for a terminal of 100 columns; definition trees may be wider.

    Examples
    --------
    >>> from see_min.explain import explain
    >>> from see_min.lexicon import Lexicon
    >>> print(text(explain(["adding"], Lexicon.of({"add": [("act", "more")]}), {"adding": ("add", "ing")})), end="")
    adding
    ======
    known as add, 1 sense
      1  act > more
    morphemes: add + ing

    Source: ours.
    """
    return "\n".join("\n".join(_known(one) + (_built(one["built"]) if one["built"] else [])) + "\n" for one in explanations)


def _known(one):
    senses, entry = one["senses"], one["entry"]
    as_entry = f"known as {entry}, " if entry not in (None, one["word"]) else ""
    lines = [one["word"], "=" * len(one["word"])]
    lines.append(f"{as_entry}{len(senses)} sense{'s' * (len(senses) != 1)}" if senses else "no sense is known")
    for number, sense in enumerate(senses, start=1):
        head = f"  {number}  " + "  ".join(fact for fact in (sense["pos"], sense["number"]) if fact)
        if sense["tree"]:
            lines += [head.rstrip(), textwrap.indent(sense["tree"], " " * 5)]
        else:
            lines += _wrap(f"{head.rstrip()}  {' > '.join(sense['sememes'])}", 5)
    return lines + [f"morphemes: {' + '.join(one['morphemes']) or 'none'}"]


def _wrap(line, indent):
    return textwrap.wrap(line, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _built(built):
    V, D = built["shape"]
    lines = ["", f"token {built['token']}, row {built['row']:,} of {V:,} by falling frequency",
             f"kept {built['floats']:,} of {V * D:,} floats, ratio {built['ratio']:.1f}"]
    lines += ["", *_units(built), "", *_quality(built)]
    if built["schmidt"]:
        lines += ["", *_spectrum(built)]
    return lines + ["", *_nearest(built)]


def _units(built):
    """One line a part: kind, name, norm, cosine with the row before the carrier, share; then what stands in the slots."""
    bag = [(*describe(part["unit"]), part) for part in built["bag"]]
    rows = [*bag, ("product", f"order {built['order']}, rank {built['rank']}", built["product"])]
    wide = max(len(name) for _, name, _ in rows)
    lines = [f"  {'unit':8}  {'':{wide}}   norm  cosine   share"]
    lines += [f"  {kind:8}  {name:{wide}}  {part['norm']:5.2f}  {part['cosine']:6.2f}  {round(100 * part['share']):4} %  "
              f"{bar(part['share'])}".rstrip() for kind, name, part in rows]
    for j, names in enumerate(built["slots"], start=1):
        said = ", ".join(" ".join(dict.fromkeys(describe(name))) for name in names)  # an anchor has no further name
        lines += _wrap(f"  slot {j}{', term by term' * (len(names) > 1)}: {said}", 10)
    note = "  The word owns a vector, which takes what its product leaves: what the slots hold is chance."
    return lines + [note] * built["owns"]


def _quality(built):
    lines = [f"explained {100 * built['explained']:.0f} % of the squared norm, error {built['error']:.2f}, "
             f"cosine {built['cosine']:.3f} with the dense row"]
    return lines + ["(the carrier allows at most {:.0f} %)".format(100 * built["reach"])] * (built["reach"] < 1 - 1e-9)


def _spectrum(built):
    schmidt = built["schmidt"]
    lines = ["Schmidt spectrum of the product, slot 1 against the rest"]
    lines += [f"  {value:.3f}  {bar(value, 40)}".rstrip() for value in schmidt["spectrum"] if value >= 5e-4]
    return lines + [f"entropy {schmidt['entropy']:.2f} nats of at most {schmidt['maximum']:.2f}"]


def _nearest(built):
    both = list(zip(*([f"{cosine:6.3f}  {word}" for word, cosine in built[side]] for side in ("before", "after"))))
    wide = max([24, *(len(left) for left, _ in both)])
    lines = [f"nearest words, {built['same']} of {len(both)} the same", f"  {'before':{wide}}  | after"]
    return lines + [f"  {left:{wide}}  |{right}" for left, right in both]


def plot(explanation, path):
    """Draw how a word is built, as PNG: vectors that are added up, terms of the product, the row they give; its neighbours.

    Parameters
    ----------
    explanation : dict, one of those of `see_min.explain.explain`
    path : str or Path

    Raises
    ------
    DataError
        If the word was in no row, or the file cannot be written.

    Examples
    --------
    >>> plot(explanation, "power.png")  # doctest: +SKIP
    PosixPath('power.png')

    Source: ours.
    """
    built = explanation["built"]
    if built is None or "arrays" not in built:
        raise DataError(f"explanation: expected one after a fit, with its arrays, got none for {explanation['word']!r}")
    fig = new_figure(11, 7, dpi=300, layout=None)
    V, D = built["shape"]
    fig.text(0.03, 0.955, _safe(explanation["word"]), fontsize=19, fontweight="bold", va="center")
    fig.text(0.97, 0.955, f"{V:,} × {D} embedding at {built['floats']:,} floats, 1/{built['ratio']:.1f}   ·   "
             f"row {built['row']:,} by frequency", fontsize=9.5, color=GREY, ha="right", va="center")
    for draw in (_draw_units, _draw_terms, _draw_rows, _draw_spectrum, _draw_nearest):
        draw(fig, built)
    return save_png(fig, path)


def _safe(name, most=40):
    name = name if len(name) <= most else f"{name[: most - 1]}…"
    return name.replace("$", r"\$")  # two dollars would be read as a formula


def _head(fig, x, y, title, further=""):
    fig.text(x, y, title, fontsize=11, fontweight="bold")
    fig.text(x, y - 0.026, further, fontsize=8.5, color=GREY)


def _draw_units(fig, built):
    """Boxes and bars: the norm of every vector in the bag, and of the product, on one scale."""
    bag = sorted(built["bag"], key=lambda part: -part["norm"])
    _head(fig, 0.03, 0.885, "Units, added up", "norm of the vector, share of the row" if bag else "none: the product is all")
    parts = [(*describe(part["unit"]), part) for part in bag[:MOST_UNITS]] + [("product", "product", built["product"])]
    longest = max(part["norm"] for *_, part in parts) or 1
    axis = fig.add_axes((0.17, 0.445, 0.12, 0.405))
    axis.set(xlim=(0, 1.45 * longest), ylim=(max(len(parts), 7) - 0.4, -0.6))
    axis.set_axis_off()
    for y, (kind, name, part) in enumerate(parts):
        colour = COLOURS.get(kind, GREY)
        fill = {"color": "white", "hatch": "////"} if kind == "product" else {"color": colour}
        axis.barh(y, part["norm"], 0.52, **fill | {"edgecolor": colour})
        axis.text(-0.06, y, _safe(name, 19), transform=axis.get_yaxis_transform(), ha="right", va="center", fontsize=8.5,
                  bbox={"boxstyle": "round,pad=0.28", "fc": "white", "ec": colour})
        said = f"{part['norm']:.2f}  {round(100 * part['share'])} %"
        axis.text(part["norm"] + 0.04 * longest, y, said, va="center", fontsize=7.5)
        axis.text(0.03 * longest, y + 0.4, kind * (kind != "product"), va="center", fontsize=6, color=GREY)
    axis.plot([0, 0], [-0.4, len(parts) - 0.6], color="black", lw=0.8, clip_on=False)
    note = "This word owns a vector,\nwhich takes what the product leaves." * built["owns"]
    note = f"and {len(bag) - MOST_UNITS} more, of smaller norm" if len(bag) > MOST_UNITS else note
    axis.text(-1.17, len(parts) - 0.2, note, transform=axis.get_yaxis_transform(), va="top", fontsize=8, color=GREY)


def _strip(fig, box, values, most):
    """One vector as a row of cells; `most` is where the scale ends on both sides."""
    axis = fig.add_axes(box)
    axis.imshow(np.atleast_2d(values), aspect="auto", cmap=SIGNED, vmin=-most, vmax=most, interpolation="nearest")
    axis.set(xticks=[], yticks=[])


def _scale(arrays):
    """Where the scale of strips ends: one value in fifty lies beyond, so that a few large ones do not wash out the rest."""
    return np.quantile(np.abs(np.concatenate([np.ravel(array) for array in arrays])), 0.98) or 1


def _draw_terms(fig, built):
    """The strongest terms as leaf (x) leaf; amplitudes are drawn into the first leaf."""
    arrays, r, n = built["arrays"], built["rank"], built["order"]
    leaves = list(arrays["leaves"])  # n arrays (r, q_j)
    if arrays["amplitudes"] is not None:
        leaves[0] = leaves[0] * arrays["amplitudes"][:, None]
    strength = np.prod([np.linalg.norm(leaf, axis=1) for leaf in leaves], axis=0)  # (r,)
    top = np.argsort(-strength, kind="stable")[:MOST_TERMS]
    said = f"the {MOST_TERMS} strongest of {r} terms" if r > MOST_TERMS else f"{r} term{'s' * (r > 1)}"
    _head(fig, 0.375, 0.885, "Product of leaves, superposed", f"order {n}, {said}")
    width = (0.26 - 0.025 * (n - 1)) / n
    each = any(len(names) > 1 for names in built["slots"])  # then names stand on every term, else on the first
    for place, k in enumerate(top):
        y = 0.78 - 0.0645 * place
        fig.text(0.36, y + 0.014, "+" * (place > 0), ha="center", va="center")
        for j, (leaf, names) in enumerate(zip(leaves, built["slots"])):
            x = 0.375 + j * (width + 0.025)
            _strip(fig, (x, y, width, 0.028), leaf[k], _scale([leaf[top]]))  # of the slot: a factor may move between slots
            fig.text(x - 0.0125, y + 0.014, "⊗" * (j > 0), ha="center", va="center")
            name = _safe(describe(names[k % len(names)])[1], round(150 * width)) * (each or not place)
            fig.text(x + width / 2, y + 0.034, name, ha="center", fontsize=7.5)


def _draw_rows(fig, built):
    """What is added up, the carrier, and the row beside the dense one; dark is negative, bright positive."""
    arrays, P = built["arrays"], built["arrays"]["carrier"]
    _head(fig, 0.725, 0.885, "From units to the row", f"{100 * built['explained']:.0f} % of the squared norm explained")
    parts = [("units", arrays["vectors"].sum(0)), ("+ product", arrays["product"]), ("= sum", arrays["inner"])]
    parts = parts if len(arrays["vectors"]) else [("product", arrays["product"])] * (P is not None)  # else it is the row
    y = _strips(fig, 0.785, parts) if parts else 0.83
    if P is not None:
        fig.text(0.8475, y + 0.02, f"↓  carrier, {P.shape[0]} × {P.shape[1]}", ha="center", va="center", fontsize=8.5)
    y = _strips(fig, y - 0.045, [("row", arrays["row"]), ("dense row", arrays["dense"])])
    fig.text(0.8475, y + 0.022, f"cosine {built['cosine']:.3f}", ha="center", va="center", fontsize=10)
    _strip(fig, (0.795, 0.425, 0.105, 0.012), np.linspace(-1, 1, 64), 1)
    fig.text(0.788, 0.431, "negative", ha="right", va="center", fontsize=7.5)
    fig.text(0.907, 0.431, "positive", va="center", fontsize=7.5)


def _strips(fig, y, rows):
    """Named strips from `y` downwards on one scale; where the next would stand."""
    most = _scale([values for _, values in rows])
    for name, values in rows:
        _strip(fig, (0.725, y, 0.245, 0.042), values, most)
        fig.text(0.717, y + 0.021, name, ha="right", va="center", fontsize=8.5)
        y -= 0.057
    return y


def _draw_spectrum(fig, built):
    """Bars of the Schmidt weights; the entropy beside the largest that rank and sizes allow."""
    schmidt = built["schmidt"]
    if schmidt is None:
        return _head(fig, 0.03, 0.355, "Schmidt spectrum", "none: one slot has no other to be entangled with")
    _head(fig, 0.03, 0.355, "Schmidt spectrum of the product",
          f"entropy {schmidt['entropy']:.2f} nats of at most {schmidt['maximum']:.2f}")
    axis = fig.add_axes((0.065, 0.085, 0.235, 0.215))
    values = schmidt["spectrum"][:16]
    axis.bar(range(1, len(values) + 1), values, 0.7, color=COLOURS["product"])
    axis.set(xticks=range(1, len(values) + 1), ylim=(0, 1.05 * max(values) or 1))
    axis.tick_params(labelsize=8)
    axis.set_xlabel("slot 1 against the rest: weight, largest first", fontsize=8.5)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_nearest(fig, built):
    """Two ranked lists; a line joins a word that stands in both."""
    lists = [built[side][:MOST_WORDS] for side in ("before", "after")]
    places = [{word: (place, cosine) for place, (word, cosine) in enumerate(pairs)} for pairs in lists]
    both = places[0].keys() & places[1].keys()
    _head(fig, 0.375, 0.355, "Nearest words", f"{len(both)} of {len(places[0])} stay; the cosine beside the word")
    axis = fig.add_axes((0.375, 0.03, 0.595, 0.275))
    axis.set(xlim=(0, 1), ylim=(MOST_WORDS - 0.4, -1.4))
    axis.set_axis_off()
    for x, align, side, head in ((0.33, "right", 0, "before"), (0.67, "left", 1, "after")):
        axis.text(x, -1.1, head, ha=align, va="center", fontsize=8.5, color=GREY)
        for word, (place, cosine) in places[side].items():
            said = "   ".join((_safe(word, 24), f"{cosine:.2f}")[:: -1 if side else 1])
            style = {"fontweight": "bold"} if word in both else {"color": "#777777"}
            axis.text(x, place, said, ha=align, va="center", fontsize=8.5, **style)
    for word in sorted(both):
        axis.plot([0.35, 0.65], [side[word][0] for side in places], color=COLOURS["sememe"], lw=1.6, marker="o", ms=3)
