"""Comparisons as people see them: means and gains by hand, a line a method and ratio, a figure that hides nothing."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from see_min.checks import DataError
from see_min.compare import check_methods
from see_min.compare_report import figure, gains, means, table, write_comparison


def row(method, ratio, seed, size, sim, rare, sts=None, seconds=2.0):
    scores = {"SIM": sim} if sts is None else {"SIM": sim, "STS": sts}
    error = round(1 - 1 / ratio, 3)
    return {"method": method, "ratio": ratio, "seed": seed, "seconds": seconds, "floats": size // 5, "bytes": size,
            "error": error, "weighted_error": error / 2, "cosine": 1 - error / 4, "scores": scores,
            "rare_scores": {"SIM": rare}, "pairs": {"SIM": [1234, 56]}}


def a_report():
    """Numbers that can be worked out in the head; two seeds at ratio 10, one at 20; no rare score for one of two seeds."""
    return {"task": {"command": "python -m see_min compare", "policy": "additive"}, "environment": {"cores": 2}, "rows": [
        row("dense", 1, 0, 40000, 0.5, 0.4, 0.8, 0.0),
        row("see", 10, 0, 5000, 0.40, 0.30, 0.70, 1.0),
        row("see", 10, 1, 5200, 0.42, 0.34, 0.72, 4.0),
        row("shuffled", 10, 0, 5000, 0.38, 0.35, 0.60),
        row("shuffled", 10, 1, 5000, 0.36, None, 0.70),
        row("svd", 10, 0, 4000, 0.45, 0.20, 0.75),
        row("backoff", 20, 0, 2500, 0.20, 0.10, 0.30),
        row("hashed", 20, 0, 2500, 0.35, None, 0.50),
        row("see", 20, 0, 2500, 0.30, 0.25, 0.55),
    ]}


def one_seed():
    """The same, without sentences and with the first seed alone."""
    report = a_report()
    report["rows"] = [one for one in report["rows"] if one["seed"] == 0]
    for one in report["rows"]:
        del one["scores"]["STS"]
    return report


# numbers

def test_means_are_over_the_seeds_of_a_line_and_lines_stand_in_the_order_of_the_rows():
    lines = means(a_report()["rows"])
    assert list(lines) == [("dense", 1), ("see", 10), ("shuffled", 10), ("svd", 10), ("backoff", 20), ("hashed", 20), ("see", 20)]
    see = lines["see", 10]
    assert (see["floats"], see["bytes"], see["seconds"]) == (1020, 5100, 2.5)
    assert see["scores"] == {"SIM": pytest.approx(0.41), "STS": pytest.approx(0.71)}
    assert see["rare_scores"] == {"SIM": pytest.approx(0.32)}
    assert [see[key] for key in ("error", "weighted_error", "cosine")] == pytest.approx([0.9, 0.45, 0.775])
    assert lines["svd", 10]["scores"] == {"SIM": 0.45, "STS": 0.75}


def test_means_of_a_score_that_one_seed_lacks_are_none_and_the_other_scores_stay():
    shuffled = means(a_report()["rows"])["shuffled", 10]
    assert shuffled["rare_scores"] == {"SIM": None}
    assert shuffled["scores"] == {"SIM": pytest.approx(0.37), "STS": pytest.approx(0.65)}


def test_means_and_gains_leave_the_rows_alone():
    report = a_report()
    means(report["rows"]), gains(report["rows"]), table(report)
    assert report == a_report()


def test_gains_are_differences_by_seed_to_each_control_and_to_nothing_else():
    found = gains(a_report()["rows"])
    assert set(found) == {(10, "shuffled"), (20, "backoff"), (20, "hashed")}  # neither svd nor dense is a control
    assert found[10, "shuffled"]["SIM"] == pytest.approx([0.02, 0.06])
    assert found[10, "shuffled"]["STS"] == pytest.approx([0.10, 0.02])
    assert found[10, "shuffled"]["rare SIM"] == pytest.approx([-0.05])  # the seed that has both
    assert {name: list(one) for name, one in found[20, "backoff"].items()} == {
        "SIM": pytest.approx([0.10]), "STS": pytest.approx([0.25]), "rare SIM": pytest.approx([0.15])}
    assert set(found[20, "hashed"]) == {"SIM", "STS"} and found[20, "hashed"]["SIM"] == pytest.approx([-0.05])


def test_gains_do_not_mix_seeds_or_ratios_and_do_not_depend_on_the_order_of_the_rows():
    rows = a_report()["rows"]
    assert set(gains(rows[::-1])) == set(gains(rows))
    assert sorted(gains(rows[::-1])[10, "shuffled"]["SIM"]) == pytest.approx([0.02, 0.06])
    without = [one for one in rows if (one["method"], one["seed"]) != ("see", 1) and (one["method"], one["ratio"]) != ("see", 20)]
    assert {key: len(one["SIM"]) for key, one in gains(without).items()} == {(10, "shuffled"): 1}
    assert gains([one for one in rows if one["method"] != "see"]) == {}


# table

def lines_of_table(text):
    return [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]


def test_table_equals_the_lines_written_by_hand():
    assert lines_of_table(table(a_report())) == [
        "| method, ratio | floats | bytes | error | weighted | cosine | SIM | STS | SIM (rare) | seconds |",
        "| dense | 1/1.0 | 1/1.0 | 0.000 | 0.000 | 1.000 | 0.500 | 0.800 | 0.400 | 0 |",
        "| see, 10 | 1/7.8 | 1/7.8 | 0.900 | 0.450 | 0.775 | 0.410 | 0.710 | 0.320 | 2 |",
        "| shuffled, 10 | 1/8.0 | 1/8.0 | 0.900 | 0.450 | 0.775 | 0.370 | 0.650 | – | 2 |",
        "| svd, 10 | 1/10.0 | 1/10.0 | 0.900 | 0.450 | 0.775 | 0.450 | 0.750 | 0.200 | 2 |",
        "| backoff, 20 | 1/16.0 | 1/16.0 | 0.950 | 0.475 | 0.762 | 0.200 | 0.300 | 0.100 | 2 |",
        "| hashed, 20 | 1/16.0 | 1/16.0 | 0.950 | 0.475 | 0.762 | 0.350 | 0.500 | – | 2 |",
        "| see, 20 | 1/16.0 | 1/16.0 | 0.950 | 0.475 | 0.762 | 0.300 | 0.550 | 0.250 | 2 |",
        "| ratio, other | SIM | STS | rare SIM |",
        "| 10, shuffled | +0.040 (+0.020 to +0.060) | +0.060 (+0.020 to +0.100) | -0.050 |",
        "| 20, hashed | -0.050 | +0.050 | – |",
        "| 20, backoff | +0.100 | +0.250 | +0.150 |",
    ]


def test_table_has_as_many_cells_in_every_line_of_a_block():
    for block in table(a_report()).split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) <= 1


def test_table_of_one_seed_shows_no_range_and_of_two_seeds_says_how_many():
    one, two = table(one_seed()), table(a_report())
    assert "means of 1 seed." in one and " to +" not in one and "STS" not in one
    assert "means of 2 seeds." in two and "+0.040 (+0.020 to +0.060)" in two


def test_table_names_command_pairs_task_and_environment():
    text = table(a_report()).splitlines()
    assert text[0] == "Command: `python -m see_min compare`"
    assert "Pairs whose two words are tokens of the vocabulary: SIM 1,234 (56 rare)." in text
    assert text[-2:] == ["Task: policy additive.", "Environment: cores 2."]


def test_table_without_controls_or_benchmarks_claims_no_gain():
    report = a_report()
    report["rows"] = [{**one, "scores": {}, "rare_scores": {}, "pairs": {}} for one in report["rows"]]
    text = table(report)
    assert "What knowledge is worth" not in text and "vocabulary: none." in text
    assert lines_of_table(text)[1] == "| dense | 1/1.0 | 1/1.0 | 0.000 | 0.000 | 1.000 | 0 |"
    report = a_report()
    report["rows"] = report["rows"][:1]
    assert "What knowledge is worth" not in table(report) and len(lines_of_table(table(report))) == 2


def test_table_shows_a_large_share_without_a_digit_behind_the_point():
    report = one_seed()
    report["rows"] = [report["rows"][0], {**report["rows"][1], "bytes": 100, "floats": 81}]
    assert "| see, 10 | 1/98.8 | 1/400 |" in table(report)


# figure

def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR"
    return struct.unpack(">II", data[16:24])


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, as matplotlib has them."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **options: figures.append(self) or save(self, *args, **options))
    return figures


def panels(fig):
    return {axis.get_title(loc="left").removesuffix(" (more is better)"): axis for axis in fig.axes}


def points(axis):
    """{method: [(x, y, low, high)]} of a panel: points and the ends of their whiskers."""
    out = {}
    for container in axis.containers:
        line, _, (bars,) = container.lines
        ends = [(low[1], high[1]) for low, high in bars.get_segments()]
        out[container.get_label()] = [(*point, *end) for point, end in zip(line.get_xydata(), ends)]
    return out


def test_figure_is_a_png_with_a_panel_for_each_kind_of_score_and_the_same_bytes_twice(tmp_path, drawn):
    first, second = figure(a_report(), tmp_path / "a.png"), figure(a_report(), tmp_path / "b.png")
    assert png_size(first) == (2430, 705)  # (5.2 * 3 + 0.6) * 150, 4.7 * 150
    assert first.read_bytes() == second.read_bytes()
    assert list(panels(drawn[0])) == ["Sentences (STS)", "Words", "Rare words"]


def test_figure_shows_means_over_seeds_with_whiskers_from_the_lowest_to_the_highest(tmp_path, drawn):
    figure(a_report(), tmp_path / "a.png")
    words, rare = (points(panels(drawn[0])[name]) for name in ("Words", "Rare words"))
    assert words["see"] == [pytest.approx((5.1, 0.41, 0.40, 0.42)), pytest.approx((2.5, 0.30, 0.30, 0.30))]  # kB
    assert words["shuffled"] == [pytest.approx((5, 0.37, 0.36, 0.38))]
    assert words["svd"] == [pytest.approx((4, 0.45, 0.45, 0.45))]
    assert rare["shuffled"] == [pytest.approx((5, 0.35, 0.35, 0.35))] and rare["hashed"] == []
    assert set(words) == set(rare) == {"see", "shuffled", "svd", "backoff", "hashed"}


def test_figure_draws_dense_as_a_line_across_and_words_as_the_mean_of_the_benchmarks(tmp_path, drawn):
    report = a_report()
    for one in report["rows"]:
        one["scores"]["REL"] = one["scores"]["SIM"] + 0.1
    figure(report, tmp_path / "a.png")
    words = panels(drawn[0])["Words"]
    (dense,) = [line for line in words.lines if line.get_label() == "dense, 40 kB"]
    assert list(dense.get_ydata()) == pytest.approx([0.55, 0.55])  # SIM 0.5 and REL 0.6, without STS
    assert points(words)["svd"] == [pytest.approx((4, 0.5, 0.5, 0.5))]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind, names", [
    ("no sentences", ["Words", "Rare words"]), ("no rare score", ["Sentences (STS)", "Words"]),
    ("dense alone", ["Sentences (STS)", "Words", "Rare words"]), ("no scores", ["Cosine with the dense rows"]),
    ("large", ["Sentences (STS)", "Words", "Rare words"]), ("one method far off", ["Sentences (STS)", "Words", "Rare words"]),
])
def test_figure_draws_unusual_reports_without_a_warning(tmp_path, drawn, kind, names):
    report = a_report()
    if kind == "no sentences":
        report = one_seed()
    elif kind == "no rare score":
        report["rows"] = [{**one, "rare_scores": {"SIM": None}} for one in report["rows"]]
    elif kind == "dense alone":
        report["rows"] = report["rows"][:1]
    elif kind == "no scores":
        report["rows"] = [{**one, "scores": {}, "rare_scores": {}} for one in report["rows"]]
    elif kind == "large":
        report["rows"] = [{**one, "bytes": 1000 * one["bytes"]} for one in report["rows"]]
    else:
        report["rows"][5]["scores"]["SIM"] = 0.002
    assert png_size(figure(report, tmp_path / "a.png"))[0] == round((5.2 * len(names) + 0.6) * 150)
    assert list(panels(drawn[0])) == names


def test_figure_shows_a_correlation_below_zero_at_its_place(tmp_path, drawn):
    report = a_report()
    report["rows"][3]["rare_scores"]["SIM"] = -0.05  # chance does that to a control, and few pairs do
    figure(report, tmp_path / "a.png")
    assert panels(drawn[0])["Rare words"].get_yscale() == "linear"


def test_figure_gives_every_method_its_own_look(tmp_path, drawn):
    report = a_report()
    report["rows"] += [row(name, 10, 0, 4800, 0.3, 0.2, 0.6) for name in ("senses", "morphemes", "weighted-svd", "pq")]
    figure(report, tmp_path / "a.png")
    lines = [container.lines[0] for container in panels(drawn[0])["Words"].containers]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(lines) == 9


def test_figure_of_all_methods_tells_them_apart_and_keeps_its_legend_inside(tmp_path, drawn):
    report = a_report()
    report["rows"] = report["rows"][:1] + [row(name, 10, 0, 4800, 0.3, 0.2, 0.6) for name in check_methods(["all"])]
    figure(report, tmp_path / "a.png")
    lines = [container.lines[0] for container in panels(drawn[0])["Words"].containers]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(lines) == len(check_methods(["all"]))
    box, page = drawn[0].legends[0].get_window_extent(), drawn[0].bbox
    assert 0 <= box.x0 and box.x1 <= page.x1 and 0 <= box.y0


def test_figure_loads_no_pyplot_and_the_module_alone_loads_no_matplotlib(tmp_path):
    code = """if True:
        import json, sys
        from see_min import compare, compare_report
        assert not {"matplotlib", "torch", "scipy.stats"} & set(sys.modules), "heavy packages at import time"
        compare_report.figure(json.load(sys.stdin), sys.argv[1])
        assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], input=json.dumps(a_report()), text=True, check=True)


# files

def test_write_comparison_writes_three_files_of_which_the_json_is_the_report(tmp_path):
    report = a_report()
    report["rows"][1]["error"] = np.float64(report["rows"][1]["error"])
    report["rows"][1]["floats"] = np.int64(report["rows"][1]["floats"])
    paths = write_comparison(report, tmp_path / "new" / "out")
    assert [path.name for path in paths] == ["compare.json", "compare.md", "compare.png"]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == [path.name for path in paths]
    back = json.loads(paths[0].read_text(encoding="utf-8"))
    assert back == a_report() and table(back) == table(report) == paths[1].read_text(encoding="utf-8")
    assert png_size(paths[2]) == (2430, 705)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), object()])
def test_write_comparison_refuses_what_json_cannot_hold_and_writes_nothing(tmp_path, value):
    for place in ("error", "scores"):
        report = a_report()
        report["rows"][4][place] = value if place == "error" else {"SIM": value, "STS": 0.5}
        with pytest.raises(DataError, match="^report: expected finite numbers and text that JSON can hold, got "):
            write_comparison(report, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [[], a_report()["rows"][1:], a_report()["rows"][::-1]])
def test_write_comparison_refuses_rows_without_dense_in_front_and_writes_nothing(tmp_path, rows):
    with pytest.raises(DataError, match="^rows: expected the dense matrix first, got something else$"):
        write_comparison({**a_report(), "rows": rows}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_write_comparison_that_is_stopped_while_drawing_leaves_the_old_figure_whole_and_no_temporary(tmp_path, monkeypatch):
    paths = write_comparison(a_report(), tmp_path)
    old = paths[2].read_bytes()

    def stopped(self, path, **_):
        path.write_bytes(b"half of a figure")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_comparison(one_seed(), tmp_path)
    assert paths[2].read_bytes() == old and sorted(tmp_path.iterdir()) == sorted(paths)


def test_write_comparison_names_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"^out: expected a directory that can be written, got .*file "):
        write_comparison(a_report(), tmp_path / "file")
