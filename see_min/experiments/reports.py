"""Results as data and as people see them: one table writer, one figure style, files.

The report of an experiment is a dict with `task` (the command and its settings), `environment` and
`rows`: one row per method, ratio and stage, all with the same metric of METRICS.
"""

import json
import math
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

from see_min import __version__
from see_min.errors import InputError
from see_min.storage.files import atomic_path, write_atomic

# whether higher is better
METRICS = {"perplexity": False, "masked accuracy": True, "STS": True, "BLEU": True}
DECIMALS = {"masked accuracy": 3, "STS": 3}  # all others: 1
STAGES = {"fit": "after the fit", "stage1": "after stage 1", "stage2": "after stage 2"}

BLUE, SKY, RED, GREEN = "#0072B2", "#56B4E9", "#D55E00", "#009E73"  # Okabe and Ito
PINK, ORANGE, GREY, BLACK = "#CC79A7", "#E69F00", "#7F7F7F", "#000000"
BROWN, PURPLE = "#8C564B", "#9467BD"
SIGNED = "RdBu_r"  # numbers of both signs: white at 0, between limits of equal size
FORMATS = (".png", ".svg", ".pdf")
GRID = {"color": "#E3E3E3", "lw": 0.8}
LONG, SHORT, DOTS = (0, (6, 2)), (0, (2, 1.2)), (0, (1, 1))
STYLES = {  # colour, marker, dashes; in the order of a table's lines
    "dense": (BLACK, "*", "--"), "see": (BLUE, "o", "-"), "see-derived": (BLUE, "s", LONG),
    "no_knowledge": (GREY, "X", LONG), "shuffled": (PINK, "v", SHORT),
    "random_units": (GREEN, "D", SHORT), "fixed": (GREY, "d", DOTS),
    "see-parameters": (SKY, "o", "-"), "see-shared": (SKY, "s", LONG), "paper": (SKY, "X", SHORT),
    "morphemes": (SKY, "d", DOTS), "weighted-svd": (RED, "^", "-"), "svd": (RED, "v", LONG),
    "svd-int8": (RED, "s", SHORT), "svd-int4": (RED, "D", SHORT), "pq": (BLACK, "p", LONG),
    "opq": (BLACK, "h", "-"), "rq": (ORANGE, "h", "-"), "prq": (ORANGE, "p", LONG),
    "lsq": (ORANGE, "d", DOTS), "int8": (BLACK, "s", DOTS), "int4": (BLACK, "D", DOTS),
    "direction": (RED, "*", DOTS), "direction-ae": (BROWN, "h", "-"),
    "offline": (BROWN, "8", LONG), "word2ket": (PURPLE, "<", "-"),
    "word2ketxs": (PURPLE, ">", LONG), "tt": (PURPLE, "s", DOTS),
}


def markdown_table(head, rows):
    """A Markdown table; the first column is words, the others are numbers.

    >>> print(markdown_table(["method", "error"], [["see", "0.1"]]))
    | method | error |
    | --- | ---: |
    | see | 0.1 |
    """
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def progress(line):
    """A line on stderr at once: stdout is for the result."""
    print(line, file=sys.stderr, flush=True)


def environment():
    """What a reader needs to repeat a number: versions, platform, GPU, cores, threads, date."""
    torch = sys.modules.get("torch")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    out = {"python": platform.python_version(), "numpy": np.__version__}
    if torch is not None:
        out["torch"] = str(torch.__version__)
        if torch.cuda.is_initialized():  # something ran there
            out["gpu"] = torch.cuda.get_device_name()
    threads = torch.get_num_threads() if torch else os.environ.get("OMP_NUM_THREADS", cores)
    out |= {"platform": f"{platform.system()} {platform.machine()}", "cores": cores}
    out |= {"see_min": __version__, "threads": threads}
    return out | {"date": time.strftime("%Y-%m-%d", time.gmtime())}


def as_markdown(report, *parts):
    """A report's paragraphs and tables, between its command and where it ran."""
    lines = [f"Command: `{report['task']['command']}`", *filter(None, parts)]
    for part in ("task", "environment"):
        words = [f"{key} {value}" for key, value in report[part].items() if key != "command"]
        lines.append(f"{part.capitalize()}: {', '.join(words) or '–'}.")
    return "\n\n".join(lines) + "\n"


def format_value(value, metric=None):
    """A value with the decimals of its metric (1 without one), from 1000 on none.

    >>> format_value(0.61549, "STS"), format_value(1234.5), format_value(None)
    ('0.615', '1,234', '–')
    """
    if value is None:
        return "–"
    return f"{value:z,.{DECIMALS.get(metric, 1)}f}" if value < 1000 else f"{value:,.0f}"


def relative_change(value, reference, metric):
    """value / reference - 1 in per cent where lower is better, else value - reference.

    >>> relative_change(102, 100, "perplexity"), relative_change(0.55, 0.6, "masked accuracy")
    ('+2.0 %', '-0.050')
    """
    decimals = DECIMALS.get(metric, 1)
    if METRICS[metric]:
        return f"{value - reference:+z.{decimals}f}"
    return f"{100 * (value / reference - 1):+z.{decimals}f} %"


def report_lines(report):
    """{(method, ratio): {stage: row}} in the order in which a report shows them.

    Raises InputError if a value is not finite, as after a training that diverged.
    """
    lines = {}
    for row in report["rows"]:
        if not math.isfinite(row["value"]):
            where = f"{line_name(row)}, {row['stage']}"
            raise InputError(f"{where}: expected a finite {row['metric']}, got {row['value']}")
        lines.setdefault((row["method"], row["ratio"]), {})[row["stage"]] = row
    order = list(STYLES)
    return dict(sorted(lines.items(), key=lambda line: (line[0][1], order.index(line[0][0]))))


def table(report):
    """The report as Markdown: a line per method and ratio, and the environment.

    Sizes are shares of the dense embedding, bytes with the indices. *vs dense* is
    value / value(teacher) - 1 for a perplexity, else value - value(teacher).
    """
    lines = report_lines(report)
    teacher = lines["dense", 1]["teacher"]
    head = ["method, ratio", "parameters", "bytes", f"after fit ({teacher['metric']})", "stage 1",
            "stage 2", "rare words", "vs dense", "seconds", "tokens/s"]
    note = ("The dense line shows the teacher under *after fit*; under *stage 2*, if there, the "
            "teacher with the same extra training. Bytes include indices. One run per number.")
    rows = [_line(stages, teacher) for stages in lines.values()]
    return as_markdown(report, markdown_table(head, rows), note, _folders(report["rows"]))


def _folders(rows):
    """A table of what folders cost, each loaded in a process of its own; empty if none was."""
    head = ["folder", "MB on disk", "seconds to load", "peak MB of memory", "tokens/s"]
    units = {"bytes": 1e6, "load_seconds": 1, "peak_bytes": 1e6, "tokens_per_second": 1}
    lines = [[line_name(row), *(format_value(row["folder"][key] / units[key]) for key in units)]
             for row in rows if "folder" in row]
    return markdown_table(head, lines) if lines else ""


def _line(stages, teacher):
    """The cells of one line; dense stands under *after fit* as the teacher."""
    start = stages.get("fit", stages.get("teacher"))
    one, two = stages.get("stage1"), stages.get("stage2")
    row, metric = two or one or start, teacher["metric"]
    sizes = [format_share(teacher[key], row[key])
             for key in ("embedding_parameters", "embedding_bytes")]
    values = [format_value(stage and stage["value"], metric) for stage in (start, one, two)]
    rare = format_value(row["rare_value"], metric)
    change = relative_change(two["value"], teacher["value"], metric) if two else "–"
    seconds = sum(stage["seconds"] for stage in stages.values())
    times = map(format_value, (seconds, row.get("tokens_per_second")))
    return [line_name(row), *sizes, *values, rare, change, *times]


def line_name(row):
    """What a line of a table is called."""
    return "dense" if row["method"] == "dense" else f"{row['method']}, {row['ratio']:g}"


def format_share(dense, size):
    """A share of the dense size.

    >>> format_share(100, 40), format_share(100, 100)
    ('1/2.5', '1')
    """
    share = dense / size
    return "1" if share == 1 else f"1/{share:.1f}" if share < 100 else f"1/{share:.0f}"


def new_figure(width, height, title):
    """A matplotlib Figure, in inches, with a bold title at the left; no display is needed."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), dpi=150, layout="constrained")
    fig.suptitle(title, x=0.012, ha="left", fontsize=14, fontweight="bold")
    return fig


def save_figure(fig, path):
    """Write a figure in the format of its ending, one of FORMATS; returns the Path."""
    path = Path(path)
    with atomic_path(path) as temporary:
        fig.savefig(temporary, format=path.suffix[1:].lower(), bbox_inches="tight")
    return path


def figure(report, path):
    """Draw quality against bytes, a line per method: all targets, and rare ones if measured."""
    dense = report_lines(report)["dense", 1]
    students = [row for row in report["rows"] if row["method"] != "dense"]
    stage = max((row["stage"] for row in students), key=list(STAGES).index, default="fit")
    rows = [row for row in students if row["stage"] == stage]  # the last that any student reached
    metric, targets = dense["teacher"]["metric"], {"value": "all targets"}
    if dense["teacher"]["rare_value"] is not None:
        targets["rare_value"] = "rare targets"
    better = "higher" if METRICS[metric] else "lower"
    across = {"teacher": ("dense", "--"), "stage2": ("dense, same extra training", ":")}
    fig = new_figure(11, 5, f"Quality {STAGES[stage]} against size")
    for axis, key in zip(fig.subplots(1, len(targets), squeeze=False)[0], targets):
        axis.set_ylabel(f"{metric}, {targets[key]} ({better} is better)")
        for name, row in dense.items():
            label, dashes = across[name]
            axis.axhline(row[key], color="black", label=label, ls=dashes, lw=1.3)
        size_panel(axis, rows, key)
    handles, names = axis.get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, handlelength=3.2)
    return save_figure(fig, path)


def size_panel(axis, rows, key):
    """A line per method over a logarithmic axis of bytes."""
    from matplotlib.ticker import LogLocator

    for method in dict.fromkeys(row["method"] for row in rows):
        points = sorted((row["embedding_bytes"] / 1000, row[key]) for row in rows
                        if row["method"] == method)
        colour, marker, dashes = STYLES[method]
        front = 4 if method == "see" else 3  # never hidden by another method
        axis.plot(*zip(*points), color=colour, marker=marker, ls=dashes, lw=1.8, ms=7, mec="white",
                  label=method, zorder=front)
    axis.set_xscale("log")
    axis.set_xlabel("kilobytes of the embedding, indices included", fontsize=9)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.minorticks_off()
    axis.grid(**GRID)
    axis.spines[["top", "right"]].set_visible(False)


def write_report(report, command, out, name="report", table=table, figure=None):
    """Write name.json, name.md and, of a figure, name.png; print the table and what was written.

    Raises InputError, and writes nothing, if JSON cannot hold a value: NaN, infinity, an object.
    """
    report["task"] = {"command": command, **report["task"]}
    report.setdefault("environment", environment())
    start, markdown = Path(out) / name, table(report)
    try:
        text = json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(f"report: expected what JSON can hold, got {error}") from error
    paths = [write_atomic(start.with_suffix(".json"), text),
             write_atomic(start.with_suffix(".md"), markdown)]
    paths += [figure(report, start.with_suffix(".png"))] if figure else []
    print(f"{markdown}\nwritten: {', '.join(map(str, paths))}")


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
