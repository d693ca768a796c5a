"""A comparison as people look at it: tables, what the knowledge is worth, a figure. The numbers come from `see_min.compare`."""

import math
from pathlib import Path

import numpy as np

from see_min.checks import DataError
from see_min.files import write_atomic
from see_min.report import as_json, cells, facts, scales
from see_min.style import BLACK, OTHER_STYLES, RED, STYLES, new_figure, save_png

WITHOUT = ("shuffled", "hashed", "backoff")  # what `see` is set against: false knowledge, random sharing, none
BROWN, PURPLE = "#8C564B", "#9467BD"
COLOURS = {"weighted-svd": STYLES["svd"], "svd": OTHER_STYLES[0], "pq": (BLACK, "p", (0, (3, 3))), "backoff": OTHER_STYLES[1],
           "direction": (RED, "*", (0, (1, 1))),  # further methods: red low rank, purple products, brown autoencoders
           "word2ket": (PURPLE, "<", "-"), "word2ketxs": (PURPLE, ">", (0, (4, 2))), "tt": (PURPLE, "s", (0, (1, 1))),
           "morphte": (PURPLE, "d", (0, (4, 1.5, 1, 1.5))),
           "direction-ae": (BROWN, "h", "-"), "offline": (BROWN, "8", (0, (4, 2)))}


def means(rows):
    """{(method, ratio): row} with every number the mean over the seeds of that line; a score that one seed lacks is None.

    Source: ours.
    """
    lines = {}
    for row in rows:
        lines.setdefault((row["method"], row["ratio"]), []).append(row)
    return {line: _mean(group) for line, group in lines.items()}


def _mean(group):
    out = dict(group[0])
    for key in ("floats", "bytes", "error", "weighted_error", "cosine", "seconds"):
        out[key] = float(np.mean([row[key] for row in group]))
    for key in ("scores", "rare_scores"):
        out[key] = {name: _mean_or_none([row[key][name] for row in group]) for name in group[0][key]}
    return out


def _mean_or_none(values):
    return None if None in values else float(np.mean(values))


def gains(rows):
    """What knowledge is worth: score(see) - score(other) at the same ratio and seed.

    Returns
    -------
    {(ratio, other): {score name: array, one number a seed}}
        `other` is one of shuffled, hashed, backoff; "rare NAME" are pairs with a rare word.

    Source: ours.
    """
    found = {(row["method"], row["ratio"], row["seed"]): row for row in rows}
    out = {}
    for (method, ratio, seed), row in found.items():
        if method not in WITHOUT or ("see", ratio, seed) not in found:
            continue
        see = found["see", ratio, seed]
        pairs = [(name, see["scores"][name], value) for name, value in row["scores"].items()]
        pairs += [(f"rare {name}", see["rare_scores"][name], value) for name, value in row["rare_scores"].items()]
        for name, with_knowledge, without in pairs:
            if None not in (with_knowledge, without):
                out.setdefault((ratio, method), {}).setdefault(name, []).append(with_knowledge - without)
    return {key: {name: np.array(values) for name, values in own.items()} for key, own in out.items()}


def table(report):
    """The comparison as Markdown: budgets, errors and scores; scores of rare words; what knowledge is worth.

    Returns
    -------
    str

    Source: ours.
    """
    lines, rows = means(report["rows"]), report["rows"]
    dense = next(iter(lines.values()))
    seeds = len({row["seed"] for row in rows})
    names, rare = list(dense["scores"]), [f"{name} (rare)" for name in dense["rare_scores"]]
    text = [f"Command: `{report['task']['command']}`", "",
            f"Spearman's correlations; means of {seeds} seed{'s' * (seeds > 1)}. Shares are of the dense floats and bytes "
            "(indices included). Errors are squared, relative; *weighted* by the square root of the counts.", ""]
    head = ["method, ratio", "floats", "bytes", "error", "weighted", "cosine", *names, *rare, "seconds"]
    text += [cells(head), cells(["---"] + ["---:"] * (len(head) - 1))]
    for (method, ratio), row in lines.items():
        scores = [*row["scores"].values(), *row["rare_scores"].values()]
        shares = [_share(dense[key], row[key]) for key in ("floats", "bytes")]
        errors = [f"{row[key]:.3f}" for key in ("error", "weighted_error", "cosine")]
        name = "dense" if method == "dense" else f"{method}, {ratio:g}"
        text.append(cells([name, *shares, *errors, *map(_score, scores), f"{row['seconds']:.0f}"]))
    pairs = ", ".join(f"{name} {used:,} ({few:,} rare)" for name, (used, few) in dense["pairs"].items())
    text += ["", f"Pairs whose two words are tokens of the vocabulary: {pairs or 'none'}.", ""]
    text += [*_gain_table(rows), *facts(report)]
    return "\n".join(text) + "\n"


def _share(dense, kept):
    share = dense / kept
    return f"1/{share:.1f}" if share < 100 else f"1/{share:.0f}"


def _score(value):
    return "–" if value is None else f"{value:.3f}"


def _gain_table(rows):
    """Lines: mean gain, and the lowest and highest seed in brackets where there are several."""
    found = gains(rows)
    if not found:
        return []
    names = list(dict.fromkeys(name for own in found.values() for name in own))
    show = lambda g: f"{g.mean():+.3f}" + (f" ({g.min():+.3f} to {g.max():+.3f})" if len(g) > 1 else "")
    text = ["What knowledge is worth, score(see) - score(other) at the same ratio and seed:", "",
            cells(["ratio, other", *names]), cells(["---"] + ["---:"] * len(names))]
    for (ratio, other), own in sorted(found.items(), key=lambda item: (item[0][0], WITHOUT.index(item[0][1]))):
        text.append(cells([f"{ratio:g}, {other}", *(show(own[name]) if name in own else "–" for name in names)]))
    return [*text, ""]


def figure(report, path):
    """Draw scores against bytes as a PNG, one panel for sentences and one for the mean of the word benchmarks.

    Points are means over seeds, whiskers the lowest and highest seed.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If the file cannot be written.

    Source: ours; colours from Okabe and Ito, "Color universal design" (2008).
    """
    rows = report["rows"]
    sentences = lambda row: row["scores"].get("STS")
    panels = {"Sentences (STS)": sentences, "Words": _words("scores"), "Rare words": _words("rare_scores")}
    panels = {title: value for title, value in panels.items() if value(rows[0]) is not None}
    panels = panels or {"Cosine with the dense rows": lambda row: row["cosine"]}
    fig = new_figure(5.2 * len(panels) + 0.6, 4.7, "Quality against size, before any finetuning", wspace=0.03)
    for axis, (title, value) in zip(np.ravel(fig.subplots(1, len(panels))), panels.items()):
        _panel(axis, rows, value)
        axis.set_title(f"{title} (more is better)", loc="left", fontsize=11)
    handles, labels = axis.get_legend_handles_labels()
    most = (4 if len(labels) <= 12 else 3) * len(panels)
    columns = math.ceil(len(labels) / math.ceil(len(labels) / most))
    fig.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.6)
    return save_png(fig, path)


def _words(key):
    """A function of a row: the mean of its word benchmarks, None if it has none."""

    def value(row):
        scores = [score for name, score in row[key].items() if name != "STS"]
        return float(np.mean(scores)) if scores and None not in scores else None

    return value


def _panel(axis, rows, value):
    unit, name = (1e6, "MB") if rows[0]["bytes"] >= 1e6 else (1e3, "kB")
    dense = rows[0]["bytes"] / unit
    axis.axhline(value(rows[0]), color="black", ls="--", lw=1.5, label=f"dense, {dense:,.3g} {name}")
    others = iter(OTHER_STYLES[2:] * len(rows))
    for method in dict.fromkeys(row["method"] for row in rows[1:]):
        colour, marker, dashes = COLOURS.get(method) or STYLES.get(method) or next(others)
        groups = {}
        for row in rows:
            if row["method"] == method and value(row) is not None:
                groups.setdefault(row["ratio"], []).append((row["bytes"] / unit, value(row)))
        points = [np.array(groups[ratio]) for ratio in sorted(groups)]  # a list of (seeds, 2)
        x, y = ([group[:, side].mean() for group in points] for side in (0, 1))
        low, high = ([abs(reach(group[:, 1]) - group[:, 1].mean()) for group in points] for reach in (np.min, np.max))
        axis.errorbar(x, y, [low, high], color=colour, marker=marker, ls=dashes, label=method, lw=1.9, ms=7.5, mec="white",
                      mew=0.8, capsize=2.5, elinewidth=1, zorder=4 if method == "see" else 3)
    scales(axis, [row["bytes"] / unit for row in rows[1:]] or [dense], dense, wide=False)
    axis.set_xlabel(f"embedding, indices included ({name})")
    axis.set_ylabel("Spearman's correlation")


def write_comparison(report, directory):
    """Write compare.json, compare.md and compare.png, each atomically.

    Returns
    -------
    (Path, Path, Path)

    Raises
    ------
    DataError
        If JSON cannot hold a value, there is no dense row in front, or the directory cannot be written.

    Source: ours.
    """
    if not report["rows"] or report["rows"][0]["method"] != "dense":
        raise DataError("rows: expected the dense matrix first, got something else")
    directory, text, markdown = Path(directory), as_json(report), table(report)
    return (write_atomic(directory / "compare.json", text), write_atomic(directory / "compare.md", markdown),
            figure(report, directory / "compare.png"))
