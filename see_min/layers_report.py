"""Layer methods as people look at them: tables and a figure. The numbers come from `see_min.bridge.compare_layers`."""

from pathlib import Path

from see_min.checks import DataError
from see_min.files import write_atomic
from see_min.report import as_json, cells, facts
from see_min.style import BLUE, GREEN, GREY, GRID, ORANGE, RED, new_figure, save_png

NAMES = {"gpt": "TinyGPT, next words", "bert": "TinyBERT, masked words"}
SEE = "embedding compressed, too"
COLOURS = {"pruning": (RED, "v"), "quantization": (ORANGE, "s"), "efficient architecture": (GREEN, "o"), SEE: (BLUE, "D"),
           "": (GREY, "*")}  # family: colour, marker
HEAD = ("blocks", "embedding", "floats of blocks", "bits of blocks", "bits of model", "weight error", "output error",
        "cross entropy", "finetuned", "seconds")


def groups(rows):
    """{model: rows}, in their order."""
    return {model: [row for row in rows if row["model"] == model] for model in dict.fromkeys(row["model"] for row in rows)}


def short(row):
    """What is done to the blocks, and what to the embedding.

    Examples
    --------
    >>> short({"method": "rom", "ratio": 2.63, "embedding": "see", "leaf_bits": 8})
    ('rom, 2.63x', 'see, 8 bits')
    """
    blocks = "dense" if row["method"] == "dense" else f"{row['method']}, {row['ratio']:.3g}x"
    return blocks, row["embedding"] + (f", {row['leaf_bits']} bits" if row["leaf_bits"] < 32 else "")


def table(report):
    """The comparison as Markdown, a table a model.

    Returns
    -------
    str

    Source: ours.
    """
    task = report["task"]
    text = [f"Command: `{task['command']}`", "",
            "Shares are of the dense model. Errors are squared, relative: of the weights, and of the last block's states on the "
            "calibration batch; – where weights have another basis. Cross entropies in nats on held-out text, before and after "
            f"{task['steps']} steps of the same finetuning. Seconds: compression, finetuning."]
    for model, rows in groups(report["rows"]).items():
        text += ["", f"{NAMES[model]}:", "", cells(HEAD), cells(["---", "---"] + ["---:"] * (len(HEAD) - 2))]
        text += [cells([*short(row), *_numbers(rows[0], row)]) for row in rows]
    for line in facts(report):
        text += ["", line]
    return "\n".join(text) + "\n"


def _numbers(dense, row):
    shares = [f"1/{dense[key] / row[key]:.2f}" for key in ("block_floats", "block_bits", "model_bits")]
    weight = "–" if row["weight_error"] is None else f"{row['weight_error']:.3f}"
    return [*shares, weight, f"{row['output_error']:.3f}", f"{row['before']:.3f}", f"{row['after']:.3f}",
            f"{row['seconds']:.1f}, {row['finetune_seconds']:.1f}"]


def figure(report, path):
    """Draw cross entropy after finetuning against the bits of the model as a PNG, a panel a model, a colour a family.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If the file cannot be written.

    Source: ours; colours from Okabe and Ito, "Color universal design" (2008).
    """
    found = groups(report["rows"])
    fig = new_figure(7.2 * len(found) + 0.4, 6.2, "Cross entropy against bits, after the same short finetuning", wspace=0.04)
    panels = fig.subplots(1, len(found), squeeze=False)[0]
    labels = [_panel(axis, rows) for axis, rows in zip(panels, found.values())]
    for axis, model in zip(panels, found):
        axis.set_title(f"{NAMES[model]} (less is better)", loc="left", fontsize=11)
    lines = {}
    for axis in panels:
        lines |= dict(zip(*axis.get_legend_handles_labels()[::-1]))
    fig.legend(lines.values(), lines, loc="outside lower center", ncols=len(lines), frameon=False)
    fig.draw_without_rendering()  # only now it is known where points are
    for axis, own in zip(panels, labels):
        _name(axis, own)
    return save_png(fig, path)


def _panel(axis, rows):
    """Draw points, and return what to call them: [((x, y), name, colour)]."""
    dense = next(row for row in rows if row["method"] == row["embedding"] == "dense")
    axis.axhline(dense["after"], color="black", ls="--", lw=1.2)
    axis.plot(dense["model_bits"] / 8e6, dense["after"], color="black", marker="*", ls="none", ms=11, label="dense")
    labels = []
    for row in rows:
        if row is dense:
            continue
        family = row["family"] if row["embedding"] == "dense" else SEE
        colour, marker = COLOURS[family]
        point = row["model_bits"] / 8e6, row["after"]
        axis.plot(*point, color=colour, marker=marker, ls="none", ms=7, mec="white", mew=0.7, label=family)
        blocks, embedding = short(row)
        name = blocks if row["embedding"] == "dense" else embedding + ("" if row["method"] == "dense" else f" + {blocks}")
        labels.append((point, name, colour))
    axis.set_xlabel("whole model, indices, signs and masks included (MB)")
    axis.set_ylabel("cross entropy on held-out text (nats)")
    axis.grid(**GRID)
    axis.margins(x=0.14)
    return labels


def _name(axis, labels):
    """Write names beside points, upward where they would stand on each other."""
    placed, scale = [], 72 / axis.figure.dpi  # points a pixel
    for point, name, colour in sorted(labels, key=lambda label: label[0][1]):
        x, y = axis.transData.transform(point) * scale
        near = [top for other, top in placed if abs(other - x) < 65]
        place = max([y - 2, *(top + 8 for top in near)])
        placed.append((x, place))
        text = axis.annotate(name, point, xytext=(6, place - y), textcoords="offset points", fontsize=6.5, color=colour,
                             arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.4, "shrinkA": 0, "shrinkB": 2})
        text.set_in_layout(False)


def write_layers(report, directory):
    """Write layers.json, layers.md and layers.png, each atomically.

    Returns
    -------
    (Path, Path, Path)

    Raises
    ------
    DataError
        If JSON cannot hold a value, a model has no dense row in front, or the directory cannot be written.

    Source: ours.
    """
    for model, rows in groups(report["rows"]).items():
        if rows[0]["method"] != "dense":
            raise DataError(f"rows: expected the dense {model} first, got {rows[0]['method']}")
    directory, text, markdown = Path(directory), as_json(report), table(report)
    return (write_atomic(directory / "layers.json", text), write_atomic(directory / "layers.md", markdown),
            figure(report, directory / "layers.png"))
