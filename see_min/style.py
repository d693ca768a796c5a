"""One look for every figure: colours that colour-blind readers tell apart, markers and dashes that say the same in grey."""

from pathlib import Path

from see_min.files import atomic_path

BLUE, SKY, RED, GREEN, PINK, ORANGE, GREY, BLACK = ("#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#7F7F7F",
                                                    "#000000")
# a method: colour, marker, dashes
STYLES = {
    "see": (BLUE, "o", "-"),
    "see-paper": (SKY, "s", (0, (6, 2))),
    "svd": (RED, "^", (0, (4, 1.5, 1, 1.5))),
    "hashed": (GREEN, "D", (0, (2, 1.2))),
    "shuffled": (PINK, "v", (0, (4, 1.5, 1, 1.5, 1, 1.5))),
}
# taken in turn by other methods
OTHER_STYLES = ((ORANGE, "P", (0, (8, 2, 2, 2))), (GREY, "X", (0, (1, 2))), (BLACK, "*", (0, (3, 3))),
                ("#8C564B", "h", (0, (10, 3))), ("#9467BD", "<", (0, (1, 1))), ("#5F7A1F", ">", (0, (5, 1, 1, 1))))
SIGNED = "cividis"  # for numbers of both signs: lightness rises with the value, so that signs can be told in grey, too
GRID = {"color": "#E3E3E3", "lw": 0.8}


def new_figure(width, height, title=None, dpi=150, layout="constrained", **pads):
    """A matplotlib Figure, in inches, with a bold title at the left; `pads` are those of the constrained layout.

    Source: ours; colours from Okabe and Ito, "Color universal design" (2008).
    """
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    fig = Figure(figsize=(width, height), dpi=dpi, layout=layout)
    if layout == "constrained":
        fig.get_layout_engine().set(**({"w_pad": 0.1, "h_pad": 0.06} | pads))
    if title is not None:
        fig.suptitle(title, x=0.012, ha="left", fontsize=14, fontweight="bold")
    return fig


def save_png(fig, path):
    """Write a figure, whole or not at all; the same figure gives the same bytes.

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    with atomic_path(path) as temporary:
        fig.savefig(temporary, format="png", metadata={"Software": None})
    return Path(path)


def notebook_style():
    """Give pyplot this look: colours in the order above, light grid, no box around the axes."""
    from cycler import cycler
    from matplotlib import rcParams

    methods = [*STYLES.values(), *OTHER_STYLES]
    rcParams.update({
        "axes.prop_cycle": cycler(color=[colour for colour, _, _ in methods]) + cycler(ls=[dashes for *_, dashes in methods]),
        "axes.grid": True, "grid.color": GRID["color"], "grid.linewidth": GRID["lw"], "axes.axisbelow": True,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left", "axes.titlesize": 11,
        "figure.constrained_layout.use": True, "figure.figsize": (8, 3.6), "figure.dpi": 110, "savefig.dpi": 110,
        "legend.frameon": False, "lines.linewidth": 1.9,
    })
