"""Measured cost as people look at it: tables and a figure. The numbers come from `see_min.bridge.bench`."""

from pathlib import Path

from see_min.files import write_atomic
from see_min.report import as_json, cells, facts
from see_min.style import GRID, OTHER_STYLES, STYLES, new_figure, save_png

TITLES = {"lookup": "Look-up of {:,} random ids", "head": "Tied head, {:,} hidden states", "fit": "Fit of {:,} rows"}
SHARES = {"lookup": "peak / rows and their gradients", "head": "E and its gradient / peak"}
COLOURS = {"dense": ("#000000", "*", "--"), "low-rank": STYLES["svd"], "see": STYLES["see"],
           "see-paper, order 2": STYLES["see-paper"], "see-paper, order 3": STYLES["hashed"],
           "superposed": STYLES["shuffled"], "see, rows kept": (STYLES["see"][0], "P", "-"),
           "MorphTE's whole matrix": OTHER_STYLES[3], "word2ket": OTHER_STYLES[0], "tensorly-torch": OTHER_STYLES[1]}
AXES = {"vocabulary": "V", "dimension": "D", "order": "order n", "rank": "rank r"}
BOTH = "forward+backward"


def groups(rows):
    """{(part, dimension, size): {method: {call: row}}} in the order of the rows.

    Examples
    --------
    >>> list(groups([{"part": "head", "dimension": 8, "size": 2, "method": "dense", "call": "forward"}]))
    [('head', 8, 2)]
    """
    out = {}
    for row in rows:
        lines = out.setdefault((row["part"], row["dimension"], row["size"]), {})
        lines.setdefault(row["method"], {})[row["call"]] = row
    return out


def table(report):
    """The measurement as Markdown: one table a part and size, the growth, and where it was measured.

    Returns
    -------
    str

    Source: ours.
    """
    task = report["task"]
    text = [f"Command: `{task['command']}`", "",
            f"{task['rows']:,} rows at 1/{task['ratio']:g} of the floats; medians in ms, taken in turn in one run; in brackets "
            "the ratio to dense. Peak: bytes held at once beyond parameters, inputs and the result."]
    for (part, dimension, size), lines in groups(report["rows"]).items():
        text += ["", f"{TITLES[part].format(size)}, D = {dimension}:", ""]
        text += _fit_table(lines) if part == "fit" else _call_table(part, lines)
    return "\n".join([*text, "", *_growth_table(report["growth"]), "", *facts(report)]) + "\n"


def _call_table(part, lines):
    dense = lines["dense"]["forward"]["floats"]
    text = [cells(["method", "floats", "forward", BOTH, f"peak of {BOTH}, MB", SHARES[part]]), cells(["---"] + ["---:"] * 5)]
    for method, calls in lines.items():
        forward, row = calls["forward"], calls.get(BOTH)
        last = row or forward
        if last["note"]:
            text.append(cells([method, last["note"], *["–"] * 4]))
            continue
        peak = f"{last['peak_bytes'] / 1e6:,.2f}" + ("" if row else " (forward)")
        share = "–" if last["peak_share"] is None else f"{last['peak_share']:.2f}"
        text.append(cells([method, f"1/{dense / last['floats']:.1f}", _time(forward), _time(row) if row else "–", peak, share]))
    return text


def _fit_table(lines):
    text = [cells(["method", "what", "seconds", "ratio to the weighted SVD"]), cells(["---", "---", "---:", "---:"])]
    rows = [row for calls in lines.values() for row in calls.values()]
    return text + [cells([row["method"], row["call"], f"{row['ms'] / 1000:.3g}", f"{row['ratio']:.2f}"]) for row in rows]


def _time(row):
    if row["ms"] is None:
        return "–"
    return f"{row['ms']:.3g}" + ("" if row["ratio"] is None else f" ({row['ratio']:.2f})")


def _growth_table(points):
    """Lines: time and FLOPs of every point as multiples of the first of its axis."""
    text = ["Growth of the papers' form as one size varies, as multiples of the first value (time measured, FLOPs by formula):",
            "",
            cells(["varies", "look-up, ms", "time", "formula", "head, ms", "time", "formula"]), cells(["---"] + ["---:"] * 6)]
    for point in points:
        row = [f"{AXES[point['axis']]} = {point['value']:,}"]
        for part in ("lookup", "head"):
            row += [f"{point[f'{part}_ms']:.3g}", *(f"{point[f'{part}_{key}_relative']:.2f}" for key in ("ms", "flops"))]
        text.append(cells(row))
    return text


def figure(report, path):
    """Draw time against dense, and growth against the formulas, as a PNG.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If the file cannot be written.

    Source: ours; colours from Okabe and Ito, "Color universal design" (2008).
    """
    fig = new_figure(14, 8, "Time against dense, and growth against the formulas", dpi=130)
    above, below = fig.subfigures(2, 1)
    methods = {}
    for axis, call in zip(above.subplots(1, 2, sharey=True), ("forward", BOTH)):
        _ratio_panel(axis, report["rows"], call)
        methods |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels())}
    shown = [method for method in COLOURS if method in methods]
    above.legend([methods[method] for method in shown], shown, loc="outside right upper", frameon=False)
    for axis, name in zip(below.subplots(1, len(AXES)), AXES):
        _growth_panel(axis, [point for point in report["growth"] if point["axis"] == name], name)
    handles, labels = axis.get_legend_handles_labels()
    below.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, handlelength=3.6)
    return save_png(fig, path)


def _ratio_panel(axis, rows, call):
    """Time / time of dense of every method, a place on the x axis for every part and size; absent peers are left out."""
    found = groups([row for row in rows if row["call"] == call])
    places = [f"{part} {size:,}\nD = {dimension}" for part, dimension, size in found]
    for method, (colour, marker, _) in COLOURS.items():
        points = [(x, lines[method][call]["ratio"]) for x, lines in enumerate(found.values()) if call in lines.get(method, {})]
        points = [(x, ratio) for x, ratio in points if ratio is not None]
        if points:
            axis.plot(*zip(*points), color=colour, marker=marker, ls="none", ms=9, mec="white", mew=0.8, label=method)
    axis.axhline(1, color="black", lw=1)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:,g}")
    axis.set_xticks(range(len(places)), places, fontsize=8)
    axis.set_ylabel("time / time of dense (less is better)")
    axis.set_title(call, loc="left", fontsize=11)
    axis.grid(**GRID)


def _growth_panel(axis, points, name):
    values = [point["value"] for point in points]
    for part, colour, marker in (("lookup", "#0072B2", "o"), ("head", "#D55E00", "^")):
        for key, label, dashes in (("ms", "measured", "-"), ("flops", "formula", ":")):
            axis.plot(values, [point[f"{part}_{key}_relative"] for point in points], color=colour, marker=marker, ls=dashes,
                      mfc=colour if key == "ms" else "white", label=f"{part}, {label}")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.set_xticks(values, [f"{value:,}" for value in values])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter("{x:,g}")
    axis.set_xlabel(AXES[name])
    axis.set_ylabel("multiple of the first value")
    axis.grid(**GRID)


def write_bench(report, directory):
    """Write bench.json, bench.md and bench.png, each atomically.

    Returns
    -------
    (Path, Path, Path)

    Raises
    ------
    DataError
        If JSON cannot hold a value, or the directory cannot be written.

    Source: ours.
    """
    directory, text, markdown = Path(directory), as_json(report), table(report)
    return (write_atomic(directory / "bench.json", text), write_atomic(directory / "bench.md", markdown),
            figure(report, directory / "bench.png"))
