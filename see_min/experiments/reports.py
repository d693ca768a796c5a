"""Results as data and as people see them: rules of a report, one table writer, one figure style.

The report of an experiment is a dict with `task` (the command and its settings), `environment` and
`rows`: one row per method, ratio and stage, with NUMBERS and one metric of METRICS for all of them.
"""

import importlib.metadata
import json
import math
import numbers
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

from see_min.errors import InputError
from see_min.files import atomic_path, write_atomic

# whether higher is better
METRICS = {"perplexity": False, "masked accuracy": True, "STS": True, "BLEU": True}
RANGES = {"masked accuracy": (0, 1), "STS": (-1, 1), "BLEU": (0, 100)}
DECIMALS = {"masked accuracy": 3, "STS": 3}  # all others: 1
SLACK = 1e-6  # a perfect score is often computed as 100.00000000000004
STAGES = {"teacher": "as trained", "fit": "after the fit", "stage1": "after stage 1",
          "stage2": "after stage 2"}
CONTROLS = ("no_knowledge", "shuffled", "random_units", "fixed")
ORDER = ("dense", "see", "see-shared", "paper", "morphemes", "weighted-svd", "svd", *CONTROLS)
NUMBERS = ("ratio", "value", "rare_value", "embedding_parameters", "embedding_bytes",
           "model_parameters", "seconds")

BLUE, SKY, RED, GREEN = "#0072B2", "#56B4E9", "#D55E00", "#009E73"  # Okabe and Ito
PINK, ORANGE, GREY, BLACK = "#CC79A7", "#E69F00", "#7F7F7F", "#000000"
BROWN, PURPLE = "#8C564B", "#9467BD"
SIGNED = "cividis"  # numbers of both signs: lightness rises with the value
GRID = {"color": "#E3E3E3", "lw": 0.8}
LONG, SHORT, DOTS = (0, (6, 2)), (0, (2, 1.2)), (0, (1, 1))
STYLES = {  # colour, marker, dashes
    "see": (BLUE, "o", "-"), "see-shared": (SKY, "s", LONG), "paper": (SKY, "X", SHORT),
    "morphemes": (SKY, "d", DOTS), "weighted-svd": (RED, "^", "-"), "svd": (RED, "v", LONG),
    "shuffled": (PINK, "v", SHORT), "random_units": (GREEN, "D", SHORT),
    "no_knowledge": (GREY, "X", LONG), "fixed": (GREY, "d", DOTS), "pq": (BLACK, "p", LONG),
    "opq": (BLACK, "h", "-"), "direction": (RED, "*", DOTS), "word2ket": (PURPLE, "<", "-"),
    "word2ketxs": (PURPLE, ">", LONG), "tt": (PURPLE, "s", DOTS), 
    "direction-ae": (BROWN, "h", "-"), "offline": (BROWN, "8", LONG), "dense": (BLACK, "*", "--"),
    "low-rank": (RED, "^", "-"), "see, cached rows": (BLUE, "P", LONG),
    "paper, order 2": (SKY, "X", SHORT), "paper, order 3": (GREEN, "X", SHORT),
}
OTHER_STYLES = ((ORANGE, "P", "-"), (ORANGE, "X", LONG), (GREY, "*", SHORT), ("#5F7A1F", ">", "-"))


def markdown_row(values):
    """A line of a Markdown table."""
    return f"| {' | '.join(values)} |"


def markdown_table(head, rows, text=1):
    """A Markdown table; the first `text` columns are words, the others numbers.

    Examples
    --------
    >>> print(markdown_table(["method", "error"], [["see", "0.1"]]))
    | method | error |
    | --- | ---: |
    | see | 0.1 |
    """
    rule = ["---"] * text + ["---:"] * (len(head) - text)
    return "\n".join(map(markdown_row, [head, rule, *rows]))


def environment():
    """What a reader needs to repeat a number: versions, platform, cores, threads, date."""
    torch = sys.modules.get("torch")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    out = {"python": platform.python_version(), "numpy": np.__version__}
    if torch is not None:
        out["torch"] = str(torch.__version__)
    threads = torch.get_num_threads() if torch else os.environ.get("OMP_NUM_THREADS", cores)
    out |= {"platform": f"{platform.system()} {platform.machine()}", "cores": cores}
    try:
        out["see_min"] = importlib.metadata.version("see_min")
    except importlib.metadata.PackageNotFoundError:  # a checkout that was not installed
        pass
    return out | {"threads": threads, "date": time.strftime("%Y-%m-%d", time.gmtime())}


def environment_lines(report):
    """What was asked for, but the command, and where it ran."""
    lines = []
    for part in ("task", "environment"):
        words = [f"{key} {value}" for key, value in report[part].items() if key != "command"]
        lines.append(f"{part.capitalize()}: {', '.join(words) or '–'}.")
    return "\n\n".join(lines)


def format_value(value, metric=None):
    """A value with the decimals of its metric (1 without one), from 1000 on none.

    Examples
    --------
    >>> format_value(0.61549, "STS"), format_value(1234.5), format_value(None)
    ('0.615', '1,234', '–')
    """
    if value is None:
        return "–"
    return f"{value:z,.{DECIMALS.get(metric, 1)}f}" if value < 1000 else f"{value:,.0f}"


def relative_change(value, reference, metric):
    """value / reference - 1 in per cent where lower is better, else value - reference.

    Examples
    --------
    >>> relative_change(102, 100, "perplexity"), relative_change(0.55, 0.6, "masked accuracy")
    ('+2.0 %', '-0.050')
    """
    decimals = DECIMALS.get(metric, 1)
    if METRICS[metric]:
        return f"{round(value - reference, decimals) + 0.0:+.{decimals}f}"  # + 0.0: no -0.0
    return f"{round(100 * (value / reference - 1), decimals) + 0.0:+.{decimals}f} %"


def deficit(value, reference, metric):
    """How far value is behind reference, above 0 is worse; numbers or arrays (runs,).

    Examples
    --------
    >>> deficit(110.0, 88.0, "perplexity"), deficit(20.5, 22.0, "BLEU")
    (0.25, 1.5)
    """
    return reference - value if METRICS[metric] else value / reference - 1


def format_range(deficits, metric):
    """Mean and range of an array of deficits, with signs.

    Examples
    --------
    >>> format_range(np.array([0.01, 0.03]), "perplexity")
    '+2.0 % (+1.0 to +3.0)'
    """
    scaled, unit = (deficits, "") if METRICS[metric] else (100 * deficits, " %")
    form = f"+.{DECIMALS.get(metric, 1)}f"
    return f"{scaled.mean():{form}}{unit} ({scaled.min():{form}} to {scaled.max():{form}})"


def check_report(report):
    """The lines of a report, {(method, ratio): {stage: row}}, in the order in which they are shown.

    Raises
    ------
    InputError
        If a key is missing, a stage or metric is unknown, a number is out of its range, two rows
        describe the same thing, or the row of the teacher is missing.
    """
    for key in ("task", "environment", "rows"):
        if key not in report:
            raise InputError(f"report.{key}: expected a value, got none")
    if "command" not in report["task"]:
        raise InputError("task.command: expected the command that made the numbers, got none")
    lines = {}
    for i, row in enumerate(report["rows"]):
        _check_row(f"rows[{i}]", row, report["rows"][0])
        stages = lines.setdefault((row["method"], row["ratio"]), {})
        if row["stage"] in stages:
            same = f"{row['method']}, {row['ratio']:g}, {row['stage']}"
            raise InputError(f"rows[{i}]: expected one row of {same}, got two")
        stages[row["stage"]] = row
    if "teacher" not in lines.get(("dense", 1), ()):
        raise InputError("rows: expected a row of method dense and stage teacher, got none")
    names = list(dict.fromkeys((*ORDER, *(method for method, _ in lines))))
    order = sorted(lines, key=lambda key: (key[0] != "dense", key[1], names.index(key[0])))
    return {key: lines[key] for key in order}


def _check_row(name, row, first):
    for key in ("method", "stage", "metric", *NUMBERS):
        if key not in row:
            raise InputError(f"{name}.{key}: expected a value, got none")
    for key, known in (("stage", STAGES), ("metric", METRICS)):
        if row[key] not in known:
            raise InputError(f"{name}.{key}: expected one of {', '.join(known)}, got {row[key]!r}")
    if row["metric"] != first["metric"]:
        rule = f"{first['metric']} in all rows"
        raise InputError(f"{name}.metric: expected {rule}, got {row['metric']}")
    for key in NUMBERS:
        if key == "rare_value" and row[key] is None:  # no rare targets in this task
            continue
        low, high = (0, math.inf)
        if key in ("value", "rare_value"):
            low, high = RANGES.get(row["metric"], (low, high))
        real = isinstance(row[key], numbers.Real) and math.isfinite(row[key])
        if not real or not low - SLACK <= row[key] <= high + SLACK:
            rule = f"a finite number from {low} to {high}"
            raise InputError(f"{name}.{key}: expected {rule}, got {row[key]!r}")


def table(report):
    """The report as Markdown: a line per method and ratio, a sentence per ratio, the environment.

    Sizes are shares of the dense embedding, bytes with the indices. *vs dense* is
    value / value(teacher) - 1 for a perplexity, else value - value(teacher).
    """
    lines = check_report(report)
    teacher = lines["dense", 1]["teacher"]
    metric = teacher["metric"]
    speed = ["tokens/s"] if any("tokens_per_second" in row for row in report["rows"]) else []
    head = ["method, ratio", "parameters", "bytes", f"after fit ({metric})", "stage 1", "stage 2",
            "rare words", "vs dense", "seconds", *speed]
    rows = [_line(stages, teacher)[: len(head)] for stages in lines.values()]
    ratios = dict.fromkeys(ratio for method, ratio in lines if method != "dense")
    note = ("The dense line shows the teacher under *after fit*; under *stage 2*, if there, the "
            "teacher with the same extra training. Bytes include indices. One run per number.")
    sentences = [f"- {sentence(lines, ratio)}" for ratio in ratios]
    text = [f"Command: `{report['task']['command']}`", markdown_table(head, rows), note]
    text += ["\n".join(sentences)] if sentences else []
    return "\n\n".join([*text, environment_lines(report)]) + "\n"


def _line(stages, teacher):
    """The cells of one line; dense stands under *after fit* as the teacher."""
    start = stages.get("fit", stages.get("teacher"))
    one, two = stages.get("stage1"), stages.get("stage2")
    row, metric = two or one or start, teacher["metric"]
    name = line_name(row)
    sizes = [format_share(teacher[key], row[key])
             for key in ("embedding_parameters", "embedding_bytes")]
    values = [format_value(stage and stage["value"], metric) for stage in (start, one, two)]
    rare = format_value(row["rare_value"], metric)
    change = relative_change(two["value"], teacher["value"], metric) if two else "–"
    seconds = sum(stage["seconds"] for stage in stages.values())
    times = map(format_value, (seconds, row.get("tokens_per_second")))
    return [name, *sizes, *values, rare, change, *times]


def line_name(row):
    """What a line of a table is called."""
    return "dense" if row["method"] == "dense" else f"{row['method']}, {row['ratio']:g}"


def format_share(dense, size):
    """A share of the dense size.

    Examples
    --------
    >>> format_share(100, 40), format_share(100, 100)
    ('1/2.5', '1')
    """
    share = dense / size
    return "1" if share == 1 else f"1/{share:.1f}" if share < 100 else f"1/{share:.0f}"


def final_rows(lines, ratio=None):
    """(stage, rows): the last stage that a student reached, and the rows of all that reached it."""
    rows = [row for (method, own), stages in lines.items() if method != "dense"
            for row in stages.values() if ratio in (None, own)]
    stage = max((row["stage"] for row in rows), key=list(STAGES).index, default="fit")
    return stage, [row for row in rows if row["stage"] == stage]


def sentence(lines, ratio):
    """Which method is best at a ratio, and how far the controls are behind see."""
    stage, rows = final_rows(lines, ratio)
    metric = rows[0]["metric"]
    word, choose = ("highest", max) if METRICS[metric] else ("lowest", min)
    best = choose(rows, key=lambda row: row["value"])
    values = {row["method"]: row["value"] for row in rows}
    text = f"Ratio {ratio:g}: {best['method']} has the {word} {metric} {STAGES[stage]}"
    text += f" ({format_value(best['value'], metric)})"
    for control in CONTROLS:
        if "see" in values and control in values:
            change = relative_change(values[control], values["see"], metric)
            text += f"; {control} is {change} from see"
    return f"{text}."


def read_report(path):
    """The report in a directory or file; InputError if there is none."""
    path = Path(path) / "report.json" if Path(path).is_dir() else Path(path)
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: expected a report.json, got {reason}") from None
    if not isinstance(report, dict):
        raise InputError(f"{path}: expected a report, got {type(report).__name__}")
    check_report(report)
    return report


def over_seeds(reports):
    """{(method, ratio): {"value", "rare_value", "deficit": array (runs,)}}; the deficit to see.

    Runs that differ in their methods, ratios or metric are refused.
    """
    finals = []
    for report in reports:
        lines = check_report(report)
        last = {key: max(stages, key=list(STAGES).index) for key, stages in lines.items()}
        last["dense", 1] = "teacher"
        finals.append({key: stages[last[key]] for key, stages in lines.items()})
    metric = finals[0]["dense", 1]["metric"]
    for final in finals:
        if list(final) != list(finals[0]) or final["dense", 1]["metric"] != metric:
            raise InputError("reports: expected the same methods, ratios and metric, got others")
    out = {}
    for method, ratio in finals[0]:
        own = {key: np.array([final[method, ratio][key] for final in finals], dtype=float)
               for key in ("value", "rare_value")}  # None becomes NaN
        own["deficit"] = None
        if ("see", ratio) in finals[0]:
            see = np.array([final["see", ratio]["value"] for final in finals])  # (runs,)
            own["deficit"] = deficit(own["value"], see, metric)
        out[method, ratio] = own
    return out


def seeds_table(reports):
    """Mean and range of the final value over runs that differ in the seed, as Markdown."""
    metric, rows = reports[0]["rows"][0]["metric"], []
    for (method, ratio), runs in over_seeds(reports).items():
        mean, low, high = (format_value(getattr(runs["value"], name)(), metric)
                           for name in ("mean", "min", "max"))
        compared = runs["deficit"] is not None and method != "see"
        behind = format_range(runs["deficit"], metric) if compared else "–"
        rare = None if np.isnan(runs["rare_value"]).any() else runs["rare_value"].mean()
        name = line_name({"method": method, "ratio": ratio})
        rows.append([name, f"{mean} ({low} to {high})", format_value(rare, metric), behind])
    head = ["method, ratio", f"{metric}: mean (range)", "rare words: mean",
            "behind see: mean (range)"]
    commands = [f"- `{report['task']['command']}`" for report in reports]
    return "\n".join(["Commands:", *commands, "", markdown_table(head, rows)]) + "\n"


def new_figure(width, height, title=None):
    """A matplotlib Figure, in inches, with a bold title at the left; no display is needed."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), dpi=150, layout="constrained")
    if title is not None:
        fig.suptitle(title, x=0.012, ha="left", fontsize=14, fontweight="bold")
    return fig


def check_plot(path):
    """The path of a figure; InputError if its ending is none of .png, .svg, .pdf."""
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        got = path.suffix or "no ending"
        raise InputError(f"plot: expected a name that ends in .png, .svg or .pdf, got {got}")
    return path


def save_figure(fig, path):
    """Write a figure in the format of its ending, nothing of it cut off; returns the Path."""
    path = check_plot(path)
    with atomic_path(path) as temporary:
        fig.savefig(temporary, format=path.suffix[1:].lower(), bbox_inches="tight")
    return path


def method_styles(methods):
    """{method: (colour, marker, dashes)}, the same for a method in all figures."""
    others = iter(OTHER_STYLES * len(methods))
    return {method: STYLES.get(method) or next(others) for method in methods}


def size_panel(axis, points, dense, title, xlabel):
    """Values against sizes on a logarithmic axis, one line per method; each line names itself.

    Parameters
    ----------
    points : {method: list of (size, value, low, high)}
    dense : list of (value, name, dashes), lines across
    """
    from matplotlib.ticker import LogLocator

    for value, name, dashes in dense:
        axis.axhline(value, color="black", ls=dashes, lw=1.3, label=name)
    for method, (colour, marker, dashes) in method_styles(points).items():
        x, y, low, high = np.array(sorted(points[method])).T  # (points,) each
        look = {"color": colour, "marker": marker, "ls": dashes, "lw": 1.8, "ms": 7, "mec": "white"}
        front = 4 if method == "see" else 3  # never hidden by another method
        spread = [y - low, high - y]
        axis.errorbar(x, y, spread, capsize=2.5, elinewidth=1, label=method, zorder=front, **look)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.set_title(title, loc="left", fontsize=11)
    axis.set_xlabel(xlabel, fontsize=9)
    axis.grid(**GRID)
    axis.spines[["top", "right"]].set_visible(False)


def compact_legend(fig, axes, per_row):
    """One legend below all panels, each method once."""
    entries = {}
    for axis in axes:
        entries |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels())}
    columns = math.ceil(len(entries) / math.ceil(len(entries) / per_row))
    fig.legend(entries.values(), entries, loc="outside lower center", ncols=columns, frameon=False,
               handlelength=3.2)


def figure(report, path):
    """Draw quality against parameters and against bytes: all targets, and rare ones if measured."""
    lines = check_report(report)
    teacher, (stage, rows) = lines["dense", 1]["teacher"], final_rows(lines)
    keys = {"value": "All targets", "rare_value": "Rare targets"}
    keys = {key: title for key, title in keys.items() if teacher[key] is not None}
    better = "higher" if METRICS[teacher["metric"]] else "lower"
    fig = new_figure(11, 4.2 * len(keys) + 0.8, f"Quality {STAGES[stage]} against size")
    grid = fig.subplots(len(keys), 2, squeeze=False, sharey="row")
    for axes, (key, title) in zip(grid, keys.items()):
        axes[0].set_ylabel(f"{teacher['metric']} ({better} is better)")
        dense = [(teacher[key], "dense", "--")]
        if "stage2" in lines["dense", 1]:
            dense.append((lines["dense", 1]["stage2"][key], "dense, same extra training", ":"))
        for axis, size in zip(axes, ("parameters", "bytes")):
            unit, points = 1e6 if size == "bytes" else 1e3, {}
            for row in (row for row in rows if row[key] is not None):
                point = row[f"embedding_{size}"] / unit, *[row[key]] * 3
                points.setdefault(row["method"], []).append(point)
            label = {"parameters": "embedding parameters (thousands)",
                     "bytes": "embedding, indices included (MB)"}[size]
            size_panel(axis, points, dense, title, label)
    compact_legend(fig, grid.flat, 7)
    return save_figure(fig, path)


def as_json(report):
    """A report as JSON text; InputError if JSON cannot hold a value (NaN, infinity, an object)."""
    try:
        options = {"indent": 1, "allow_nan": False, "ensure_ascii": False, "default": _plain}
        return json.dumps(report, **options) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(f"report: expected what JSON can hold, got {error}") from error


def _plain(value):
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r}")


def write_files(report, directory, name, table, figure):
    """Write name.json, name.md and name.png, each atomically; nothing of a report that is wrong."""
    text, markdown, start = as_json(report), table(report), Path(directory) / name
    return (write_atomic(start.with_suffix(".json"), text),
            write_atomic(start.with_suffix(".md"), markdown),
            figure(report, start.with_suffix(".png")))


def write_report(report, directory):
    """Write report.json, report.md and report.png; returns their paths."""
    check_report(report)
    return write_files(report, directory, "report", table, figure)


def notebook_style():
    """Give pyplot this look: the colours of the methods, a light grid, no box around the axes."""
    from cycler import cycler
    from matplotlib import rcParams

    colours = [BLUE, RED, GREEN, PINK, ORANGE, SKY, GREY, BLACK]
    rcParams.update({
        "axes.prop_cycle": cycler(color=colours), "axes.grid": True, "grid.color": GRID["color"],
        "grid.linewidth": GRID["lw"], "axes.axisbelow": True, "axes.spines.top": False,
        "axes.spines.right": False, "axes.titlelocation": "left", "axes.titlesize": 11,
        "figure.constrained_layout.use": True, "figure.figsize": (8, 3.6), "figure.dpi": 110,
        "savefig.dpi": 110, "legend.frameon": False, "lines.linewidth": 1.9,
    })
