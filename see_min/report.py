"""Results as people look at them: a table, one sentence a ratio, a figure. What a report is: `see_min.results`."""

import json
import math
from pathlib import Path

import numpy as np

from see_min.checks import DataError
from see_min.files import write_atomic
from see_min.metrics import METRICS, against, direction, gain, gaps, number
from see_min.results import STAGES, check_report, final_rows, over_seeds, teacher_row
from see_min.style import GRID, OTHER_STYLES, STYLES, new_figure, save_png

COLUMNS = ("method, ratio", "floats kept", "bytes kept", "after fit", "stage 1", "stage 2", "rare words (stage 2)", "vs dense",
           "seconds")


def table(report):
    """The report as Markdown: the command, one line a method and ratio, one sentence a ratio, task and environment.

    Floats and bytes kept are shares of the dense embedding (bytes with the indices); *vs dense* is
    value(stage 2) / value(teacher) - 1 for a perplexity, else value(stage 2) - value(teacher) in points; seconds are
    summed over the stages of the line, tokens/s (if any) are of its last stage. The same report gives the same text.

    Returns
    -------
    str

    Raises
    ------
    DataError
        As `check_report`.

    Examples
    --------
    >>> row = dict(method="dense", ratio=1, stage="teacher", metric="perplexity", value=104.4, rare_value=8919.0,
    ...            embedding_floats=76780, embedding_bytes=330000, model_floats=960000, seconds=12.3)
    >>> print(table({"task": {"command": "see"}, "environment": {}, "rows": [row]}).splitlines()[4])
    | dense | 1 | 1 | 104.4 | – | – | – | – | 12.3 |

    Source: ours.
    """
    lines = check_report(report)
    teacher = teacher_row(lines)
    extra = ("tokens/s",) if any("tokens_per_second" in row for row in report["rows"]) else ()
    added = {"after fit": f" ({teacher['metric']})", "vs dense": " (points)" if METRICS[teacher["metric"]] else ""}
    heads = [head + added.get(head, "") for head in COLUMNS + extra]
    text = [f"Command: `{' '.join(str(report['task']['command']).split())}`", ""]
    text += [cells(heads), cells(["---"] + ["---:"] * (len(heads) - 1))]
    text += [cells(_line(stages, teacher)[:len(heads)]) for stages in lines.values()]
    text += ["", _note(teacher, any(method == "dense" and "stage2" in stages for (method, _), stages in lines.items())), ""]
    ratios = dict.fromkeys(ratio for method, ratio in lines if method != "dense")  # a set that keeps the order
    text += [f"- {sentence(lines, ratio)}" for ratio in ratios]
    for line in facts(report):
        text += ["", line]
    return "\n".join(text) + "\n"


def cells(values):
    """A line of a Markdown table.

    Examples
    --------
    >>> cells(["a", "b"])
    '| a | b |'
    """
    return f"| {' | '.join(values)} |"


def facts(report):
    """Two lines: what was asked for, but the command, and where it ran.

    Examples
    --------
    >>> facts({"task": {"command": "compare", "seed": 0}, "environment": {}})
    ['Task: seed 0.', 'Environment: –.']

    Source: ours.
    """
    said = {part: [f"{key} {value}" for key, value in report[part].items() if key != "command"]
            for part in ("task", "environment")}
    return [f"{part.capitalize()}: {', '.join(words) or '–'}." for part, words in said.items()]


def _line(stages, teacher):
    """The cells of one line of the table, tokens/s last; dense stands under *fit* as the teacher."""
    metric = teacher["metric"]
    start = stages.get("fit", stages.get("teacher"))
    one, two = stages.get("stage1"), stages.get("stage2")
    row = two or one or start
    kept = [teacher[key] / row[key] for key in ("embedding_floats", "embedding_bytes")]
    values = [number(stage and stage["value"], metric) for stage in (start, one, two)]
    change = against(two["value"], teacher["value"], metric) if two else "–"
    seconds = sum(stage["seconds"] for stage in stages.values())
    name = row["method"] if row["method"] == "dense" else f"{row['method']}, {row['ratio']:g}"
    kept = ["1" if row["method"] == "dense" else f"1/{share:.1f}" for share in kept]
    values.append(number(two and two["rare_value"], metric))
    return [name, *kept, *values, change, number(seconds), number(row.get("tokens_per_second"))]


def _note(teacher, trained_on):
    note = f"The dense line shows the teacher under *after fit* (rare words {number(teacher['rare_value'], teacher['metric'])})"
    note += ", and the teacher trained on for as long as the students under *stage 2*" if trained_on else ""
    return f"{note}; *vs dense* compares with the teacher. Bytes include indices. One run a number: no spread is known."


def sentence(lines, ratio):
    """Who has the best final value at a ratio, and the knowledge gain of see, control by control.

    The gain is value(control) - value(see), with the sign turned if more is better. Only methods that reached
    the last stage of that ratio are compared.

    Parameters
    ----------
    lines : dict, from `check_report`
    ratio : number

    Examples
    --------
    >>> rows = {(name, 10): {"fit": dict(method=name, ratio=10, stage="fit", metric="perplexity", value=value)}
    ...         for name, value in (("see", 90.0), ("hashed", 92.5), ("shuffled", 89.0))}
    >>> print(*sentence(rows, 10).split("; "), sep="\\n")
    Ratio 10: the lowest perplexity after the fit is that of shuffled (89.0)
    see gains 2.50 on hashed and loses 1.00 to shuffled.

    Source: ours.
    """
    stage, rows = final_rows(lines, ratio)
    metric = rows[0]["metric"]
    word, choose = ("highest", max) if METRICS[metric] else ("lowest", min)
    best = choose(rows, key=lambda row: row["value"])
    values = {row["method"]: row["value"] for row in rows}
    gains = [f"{gain(values['see'], values[control], metric)} {control}" for control in ("hashed", "shuffled")
             if "see" in values and control in values]
    text = f"Ratio {ratio:g}: the {word} {metric} {STAGES[stage]} is that of {best['method']} ({number(best['value'], metric)})"
    return text + (f"; see {' and '.join(gains)}." if gains else ".")


def seeds_table(reports):
    """Mean and range of the final value over runs with different seeds, as Markdown.

    *behind see* is the mean over runs of value / value(see) - 1 for a perplexity, else of value(see) - value in points,
    with its lowest and highest run in brackets.

    Raises
    ------
    DataError
        As `see_min.results.over_seeds`.

    Source: ours.
    """
    text = ["Commands:", *(f"- `{report['task']['command']}`" for report in reports), ""]
    spreads, metric = over_seeds(reports), reports[0]["rows"][0]["metric"]
    points = " in points" if METRICS[metric] else ""
    heads = ["method, ratio", f"{metric}: mean (lowest to highest)", "rare words: mean", f"behind see{points}: mean (range)"]
    text += [cells(heads), cells(["---", "---:", "---:", "---:"])]
    for (method, ratio), runs in spreads.items():
        mean, low, high = (number(getattr(runs["value"], name)(), metric) for name in ("mean", "min", "max"))
        gap = "–" if method in ("dense", "see") else gaps(runs["behind"], metric)
        rare = None if np.isnan(runs["rare_value"]).any() else float(runs["rare_value"].mean())
        name = "dense" if method == "dense" else f"{method}, {ratio:g}"
        text.append(cells([name, f"{mean} ({low} to {high})", number(rare, metric), gap]))
    return "\n".join(text) + "\n"


def figure(report, path):
    """Draw quality against size as a PNG: all targets, and beside them rare targets if they were measured; written atomically.

    One line a method; x is the size of the embedding with its indices, y the value after the last stage that
    a student reached. Methods that stopped earlier stand in the table alone. Dense is a line across, not a point:
    at its true place, ten times further right, it would squeeze the students into a corner.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        As `check_report`, or if the file cannot be written.

    Examples
    --------
    >>> figure(report, "out/report.png")  # doctest: +SKIP

    Source: ours; colours from Okabe and Ito, "Color universal design" (2008).
    """
    lines = check_report(report)
    panels = [("value", "All targets")]
    panels += [("rare_value", "Rare targets")] if any(row["rare_value"] is not None for row in report["rows"]) else []
    fig = new_figure(5.5 * len(panels) + 2 * (len(panels) == 1), 4.7, "Quality against size", wspace=0.03)
    axes = fig.subplots(1, len(panels), squeeze=False)[0]
    for axis, (key, title) in zip(axes, panels):
        _panel(axis, lines, key, title)
    handles, labels = axes[0].get_legend_handles_labels()
    most = 7 if len(panels) > 1 else 4
    columns = math.ceil(len(labels) / math.ceil(len(labels) / most))  # rows of equal length, at most so many entries each
    fig.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.6)
    return save_png(fig, path)


def _panel(axis, lines, key, title):
    """The dense reference and one line a method; see is drawn last, so that no other method hides it."""
    teacher, (stage, rows) = teacher_row(lines), final_rows(lines)
    unit, name = (1e6, "MB") if teacher["embedding_bytes"] >= 1e6 else (1e3, "kB")
    dense = teacher["embedding_bytes"] / unit
    references = [(teacher, f"dense, {dense:,.3g} {name}", "black", "--")]
    references += [(stages["stage2"], "dense, trained on", "#7F7F7F", ":")
                   for (method, _), stages in lines.items() if method == "dense" and "stage2" in stages]
    for row, label, colour, dashes in references:
        if row[key] is not None:
            axis.axhline(row[key], color=colour, ls=dashes, lw=1.5, label=label)
    others = iter(OTHER_STYLES * len(rows))
    for method in dict.fromkeys(row["method"] for row in rows):
        colour, marker, dashes = STYLES.get(method) or next(others)
        own = [row for row in rows if row["method"] == method and row[key] is not None]
        points = sorted((row["embedding_bytes"] / unit, row[key]) for row in own)
        axis.plot([x for x, _ in points], [y for _, y in points], color=colour, marker=marker, ls=dashes, label=method,
                  lw=1.9, ms=7.5, mec="white", mew=0.8, zorder=4 if method == "see" else 3)
    scales(axis, [row["embedding_bytes"] / unit for row in rows] or [dense], dense,
           wide=not METRICS[teacher["metric"]])  # scores may be 0 or negative: never logarithmic
    axis.set_title(f"{title} ({direction(teacher['metric'])})", loc="left", fontsize=11)
    axis.set_xlabel(f"embedding, indices included ({name})")
    axis.set_ylabel(f"{teacher['metric']} {STAGES[stage]}")


def scales(axis, sizes, dense, wide=True):
    """Logarithmic size below, the share of the dense bytes above, plain numbers as ticks, a light grid.

    With `wide`, values that span a factor of 8 are on a logarithmic scale as well.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    margin = max(1.25, 2.4 / math.sqrt(max(sizes) / min(sizes)))  # the axis spans a factor of 5 at least: two ticks
    axis.set_xscale("log")
    axis.set_xlim(min(sizes) / margin, max(sizes) * margin)
    share = axis.secondary_xaxis("top", functions=(lambda x: dense / np.maximum(x, 1e-12),) * 2)  # its own inverse
    share.set_xlabel("share of the dense bytes", fontsize=9)
    scaled = [(axis.xaxis, (1, 2, 3, 5), "{:,g}"), (share.xaxis, (1, 2, 4), "1/{:g}")]
    heights = [y for line in axis.lines for y in line.get_ydata()]
    axis.yaxis.set_major_formatter("{x:,g}")
    if not heights:
        axis.set_yticks([])
        axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", color="#7F7F7F")
    elif wide and max(heights) > 8 * min(heights):  # one method far off would flatten all others
        axis.set_yscale("log")
        scaled.append((axis.yaxis, (1, 2, 5), "{:,g}"))
    for scale, steps, form in scaled:
        scale.set_major_locator(LogLocator(subs=steps))
        scale.set_major_formatter(lambda value, _, form=form: form.format(value))
        scale.set_minor_locator(NullLocator())
    axis.grid(**GRID)
    axis.spines["right"].set_visible(False)


def write_report(report, directory):
    """Write report.json, report.md and report.png, each atomically; nothing is written of a report that is wrong.

    Returns
    -------
    (Path, Path, Path)

    Raises
    ------
    DataError
        As `check_report`, or if JSON cannot hold a value (NaN, infinity, an object), or the directory cannot be written.

    Examples
    --------
    >>> [path.name for path in write_report(report, "out")]  # doctest: +SKIP
    ['report.json', 'report.md', 'report.png']

    Source: ours.
    """
    directory, markdown = Path(directory), table(report)
    text = as_json(report)
    return (write_atomic(directory / "report.json", text), write_atomic(directory / "report.md", markdown),
            figure(report, directory / "report.png"))


def as_json(report):
    """A report as JSON text; numbers of numpy are welcome.

    Raises
    ------
    DataError
        If JSON cannot hold a value (NaN, infinity, an object).

    Source: ours.
    """
    try:
        return json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False, default=_plain) + "\n"
    except (TypeError, ValueError) as error:
        raise DataError(f"report: expected finite numbers and text that JSON can hold, got {error}") from error


def _plain(value):
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r}")
