"""Results as data: what a report is, its rules, where it was made, and the spread over seeds.

A report is a dict with three entries: `task` (what was run, the command first), `environment` (where) and `rows`,
one a method, ratio and stage, with the keys `method`, `ratio`, `stage`, `metric` and the numbers of NUMBERS.
Methods outside METHODS are welcome once the optional entry `others` lists them; a misspelt one is an error.
All rows have one metric of METRICS, which says whether more is better. A row may have the numbers of OPTIONAL as well.
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

from see_min.checks import DataError
from see_min.metrics import METRICS, RANGES, SLACK, behind

STAGES = {"teacher": "as trained", "fit": "after the fit", "stage1": "after stage 1", "stage2": "after stage 2"}  # in time
METHODS = ("dense", "see", "see-paper", "svd", "hashed", "shuffled")  # the order of the lines of one ratio
NUMBERS = ("ratio", "value", "rare_value", "embedding_floats", "embedding_bytes", "model_floats", "seconds")
OPTIONAL = ("loss", "tokens", "tokens_per_second")


def environment():
    """What a reader needs to repeat a number: versions, platform, cores, threads, date; no names of hosts or folders.

    Torch is described only if something else has imported it.

    Returns
    -------
    dict of str to str or int

    Examples
    --------
    >>> environment()["numpy"] == np.__version__
    True

    Source: ours.
    """
    torch = sys.modules.get("torch")
    cores = os.cpu_count() or 1
    facts = {"python": platform.python_version(), "numpy": np.__version__}
    if torch is not None:
        facts["torch"] = str(torch.__version__)
    facts["platform"] = f"{platform.system()} {platform.machine()}"
    facts["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    facts["threads"] = torch.get_num_threads() if torch is not None else os.environ.get("OMP_NUM_THREADS", facts["cores"])
    try:
        facts["see_min"] = importlib.metadata.version("see_min")
    except importlib.metadata.PackageNotFoundError:  # a checkout that was not installed
        pass
    facts["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    return facts


def check_report(report):
    """Return the lines of a report, {(method, ratio): {stage: row}}, in the order in which they are shown.

    Dense comes first, then by ratio, within a ratio in the order of METHODS, then `others` by the alphabet.

    Raises
    ------
    DataError
        If a key is missing, a method, stage or metric is unknown, rows differ in the metric, a value is outside the
        range of its metric, another number is not finite and positive (`seconds` and OPTIONAL may be 0, `rare_value`
        None), two rows describe the same thing, or the teacher is missing.

    Examples
    --------
    >>> check_report({"task": {}, "environment": {}, "rows": []})
    Traceback (most recent call last):
    ...
    see_min.checks.DataError: task.command: expected the command that made the numbers, got nothing

    Source: ours.
    """
    for key in ("task", "environment", "rows"):
        if key not in report:
            raise DataError(f"report.{key}: expected a value, got nothing")
    if "command" not in report["task"]:
        raise DataError("task.command: expected the command that made the numbers, got nothing")
    allowed = {"method": (*METHODS, *sorted(report.get("others", ()))), "stage": tuple(STAGES), "metric": tuple(METRICS)}
    lines = {}
    for i, row in enumerate(report["rows"]):
        _check_row(f"rows[{i}]", row, allowed)
        first = report["rows"][0]["metric"]
        if row["metric"] != first:
            raise DataError(f"metric: expected one metric in all rows, got {first} in rows[0] and {row['metric']} in rows[{i}]")
        stages = lines.setdefault((row["method"], row["ratio"]), {})
        if row["stage"] in stages:
            same = f"{row['method']}, {row['ratio']:g}, {row['stage']}"
            raise DataError(f"rows[{i}]: expected one row a method, ratio and stage, got a second {same}")
        stages[row["stage"]] = row
    if not any(method == "dense" and "teacher" in stages for (method, _), stages in lines.items()):
        raise DataError("rows: expected a row of method dense and stage teacher, got none")
    key = {line: (line[0] != "dense", line[1], allowed["method"].index(line[0])) for line in lines}
    return {line: lines[line] for line in sorted(lines, key=key.get)}


def _check_row(name, row, allowed):
    for key in (*allowed, *NUMBERS):
        if key not in row:
            raise DataError(f"{name}.{key}: expected a value, got nothing")
    for key, values in allowed.items():
        if row[key] not in values:
            raise DataError(f"{name}.{key}: expected one of {', '.join(values)}, got {row[key]!r}")
    for key in (*NUMBERS, *(key for key in OPTIONAL if key in row)):
        if key == "rare_value" and row[key] is None:  # no rare targets in this task
            continue
        _check_number(f"{name}.{key}", row[key], key, RANGES.get(row["metric"]))


def _check_number(name, value, key, span):
    """Values in `span` = (low, high), the range of their metric, if it has one; all else above 0, or 0 where that makes sense."""
    real = isinstance(value, numbers.Real) and math.isfinite(value)
    if span and key in ("value", "rare_value"):
        low, high = span
        if not real or not low - SLACK <= value <= high + SLACK:
            raise DataError(f"{name}: expected a number from {low} to {high}, got {value!r}")
    elif key in OPTIONAL:
        if not real or value < 0:
            raise DataError(f"{name}: expected a finite number, 0 or above, got {value!r}")
    elif not real or value < 0 or (value == 0 and key != "seconds"):
        raise DataError(f"{name}: expected a finite number above 0, got {value!r}")


def teacher_row(lines):
    """The row of the dense model as trained."""
    return next(stages["teacher"] for (method, _), stages in lines.items() if method == "dense" and "teacher" in stages)


def final_rows(lines, ratio=None):
    """(stage, rows): the last stage that a student reached (at one ratio), and the rows of all who reached it."""
    order = list(STAGES)
    rows = [row for (method, own), stages in lines.items() for row in stages.values()
            if method != "dense" and ratio in (None, own)]
    stage = max((row["stage"] for row in rows), key=order.index, default="fit")
    return stage, [row for row in rows if row["stage"] == stage]


def read_report(path):
    """The report of a directory or file that `see_min.report.write_report` wrote.

    Raises
    ------
    DataError
        If it cannot be read, or is not a report.
    """
    path = Path(path) / "report.json" if Path(path).is_dir() else Path(path)
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a report.json, got {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(report, dict):
        raise DataError(f"{path}: expected a report, got {type(report).__name__}")
    check_report(report)
    return report


def over_seeds(reports):
    """Final values of several runs side by side, and how far each method is behind `see` run by run.

    Returns
    -------
    {(method, ratio): {"value": array, "rare_value": array, "behind": array}}, one number a run; `behind` is
    `see_min.metrics.behind` of see at the same ratio of the same run (value(method) / value(see) - 1 for a
    perplexity, else value(see) - value(method)), NaN for dense.

    Raises
    ------
    DataError
        If the runs do not have the same methods and ratios, or not the same metric.

    Source: ours.
    """
    finals = []
    for report in reports:
        lines = check_report(report)
        finals.append({(method, ratio): stages["teacher"] if method == "dense" else stages[max(stages, key=list(STAGES).index)]
                       for (method, ratio), stages in lines.items()})
    if any(list(final) != list(finals[0]) for final in finals):
        raise DataError("reports: expected the same methods and ratios in every run, got different ones")
    metrics = list(dict.fromkeys(report["rows"][0]["metric"] for report in reports))
    if len(metrics) > 1:
        raise DataError(f"reports: expected one metric in all runs, got {', '.join(metrics)}")
    out = {}
    for method, ratio in finals[0]:
        own = {key: np.array([np.nan if final[method, ratio][key] is None else final[method, ratio][key] for final in finals])
               for key in ("value", "rare_value")}  # a value of 0 is a value
        see = np.array([final["see", ratio]["value"] if ("see", ratio) in final else np.nan for final in finals])
        out[method, ratio] = own | {"behind": behind(own["value"], see, metrics[0])}
    return out
