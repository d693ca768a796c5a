"""Reports: the table against lines written by hand, files that are whole or untouched, errors that name the row."""

import json
import os
import platform
import struct
import subprocess
import sys

import numpy as np
import pytest

from see_min.checks import DataError
from see_min.files import atomic_path, write_atomic
from see_min.report import figure, seeds_table, sentence, table, write_report
from see_min.results import check_report, environment, over_seeds, read_report


def row(method, ratio, stage, value, rare, floats, size, seconds):
    return {"method": method, "ratio": ratio, "stage": stage, "metric": "perplexity", "value": value, "rare_value": rare,
            "embedding_floats": floats, "embedding_bytes": size, "model_floats": floats + 5000, "seconds": seconds}


def a_report():
    """Numbers chosen so that every cell can be worked out in the head; rows in no order."""
    return {"task": {"command": "python -m see_min compare", "seed": 3}, "environment": {"cores": 2}, "rows": [
        row("hashed", 20, "fit", 400.0, 12000.0, 500, 2500, 1.0),
        row("shuffled", 10, "stage2", 101.0, 1500.0, 1000, 5000, 2.0),
        row("hashed", 10, "stage2", 103.5, 1400.0, 1000, 5000, 2.0),
        row("see", 10, "stage2", 102.0, 1300.0, 800, 5000, 4.5),
        row("see", 10, "fit", 200.0, 9000.0, 800, 5000, 0.5),
        row("see", 10, "stage1", 150.0, 5000.0, 800, 5000, 1.0),
        row("svd", 10, "stage2", 99.0, None, 1000, 4000, 2.0),
        row("dense", 1, "teacher", 100.0, 1234.0, 10000, 40000, 60.0),
    ]}


def lines_of_table(text):
    return [line for line in text.splitlines() if line.startswith("| ")][2:]  # without head and rule


def test_table_equals_the_lines_written_by_hand():
    assert lines_of_table(table(a_report())) == [
        "| dense | 1 | 1 | 100.0 | – | – | – | – | 60.0 |",
        "| see, 10 | 1/12.5 | 1/8.0 | 200.0 | 150.0 | 102.0 | 1,300 | +2.0 % | 6.0 |",
        "| svd, 10 | 1/10.0 | 1/10.0 | – | – | 99.0 | – | -1.0 % | 2.0 |",
        "| hashed, 10 | 1/10.0 | 1/8.0 | – | – | 103.5 | 1,400 | +3.5 % | 2.0 |",
        "| shuffled, 10 | 1/10.0 | 1/8.0 | – | – | 101.0 | 1,500 | +1.0 % | 2.0 |",
        "| hashed, 20 | 1/20.0 | 1/16.0 | 400.0 | – | – | – | – | 1.0 |",
    ]


def test_table_opens_with_the_command_and_ends_with_task_and_environment():
    text = table(a_report()).splitlines()
    assert text[0] == "Command: `python -m see_min compare`"
    assert text[-3:] == ["Task: seed 3.", "", "Environment: cores 2."]


def test_table_does_not_depend_on_the_order_of_the_rows_and_leaves_the_report_alone():
    report = a_report()
    before = json.dumps(report)
    assert table(report) == table({**report, "rows": report["rows"][::-1]})
    assert json.dumps(report) == before


def test_table_shows_the_teacher_trained_on_in_the_dense_line():
    report = a_report()
    assert "trained on" not in table(report)
    report["rows"].append(row("dense", 1, "stage2", 94.0, 1100.0, 10000, 40000, 30.0))
    assert lines_of_table(table(report))[0] == "| dense | 1 | 1 | 100.0 | – | 94.0 | 1,100 | -6.0 % | 90.0 |"
    assert "teacher trained on for as long as the students" in table(report)


def test_lines_put_other_methods_last_by_the_alphabet_within_their_ratio():
    report = a_report()
    report["others"] = ["tt", "bloom"]
    report["rows"] += [row(name, 10, "stage2", 110.0, 1.0, 1000, 4000, 1.0) for name in ("tt", "see-paper", "bloom")]
    names = ["dense", "see", "see-paper", "svd", "hashed", "shuffled", "bloom", "tt"]
    assert list(check_report(report)) == [(name, 1 if name == "dense" else 10) for name in names] + [("hashed", 20)]


def test_sentence_says_loses_where_see_is_behind_and_gains_where_it_is_ahead():
    text = sentence(check_report(a_report()), 10)
    assert text == ("Ratio 10: the lowest perplexity after stage 2 is that of svd (99.0); "
                    "see gains 1.50 on hashed and loses 1.00 to shuffled.")


def test_sentence_calls_a_difference_that_rounds_to_nothing_a_draw():
    report = a_report()
    report["rows"][2]["value"] = 102.004
    assert "see draws level with hashed and loses" in sentence(check_report(report), 10)


def test_sentence_without_see_claims_no_gain():
    text = sentence(check_report(a_report()), 20)
    assert text == "Ratio 20: the lowest perplexity after the fit is that of hashed (400.0)."


def test_sentence_compares_only_methods_that_reached_the_last_stage():
    report = a_report()
    report["rows"][6].update(stage="fit", value=1.0)  # svd, unbeatable but unfinished
    assert "that of shuffled (101.0)" in sentence(check_report(report), 10)


@pytest.mark.parametrize("key, value, text", [
    ("stage", "x", r"rows\[3\]\.stage: expected one of teacher, fit, stage1, stage2, got 'x'"),
    ("method", "sea", r"rows\[3\]\.method: expected one of dense, see, see-paper, svd, hashed, shuffled, got 'sea'"),
    ("metric", "bleu", r"rows\[3\]\.metric: expected one of perplexity, masked accuracy, STS, BLEU, got 'bleu'"),
    ("value", float("nan"), r"rows\[3\]\.value: expected a finite number above 0, got nan"),
    ("value", "104", r"rows\[3\]\.value: expected a finite number above 0, got '104'"),
    ("embedding_bytes", 0, r"rows\[3\]\.embedding_bytes: expected a finite number above 0, got 0"),
    ("stage", "fit", r"rows\[4\]: expected one row a method, ratio and stage, got a second see, 10, fit"),
])
def test_row_that_is_wrong_is_named(key, value, text):
    report = a_report()
    report["rows"][3][key] = value
    for show in (table, lambda report: figure(report, "never.png"), lambda report: write_report(report, "never")):
        with pytest.raises(DataError, match=text):
            show(report)


@pytest.mark.parametrize("key", list(a_report()["rows"][0]))
def test_row_without_a_key_is_named(key):
    report = a_report()
    del report["rows"][3][key]
    with pytest.raises(DataError, match=rf"rows\[3\]\.{key}: expected a value, got nothing"):
        check_report(report)


def test_report_without_a_teacher_a_command_or_rows_is_refused():
    report = a_report()
    with pytest.raises(DataError, match="rows: expected a row of method dense and stage teacher, got none"):
        check_report({**report, "rows": report["rows"][:-1]})
    with pytest.raises(DataError, match="task.command: expected the command"):
        check_report({**report, "task": {}})
    with pytest.raises(DataError, match="report.rows: expected a value, got nothing"):
        check_report({"task": {"command": "c"}, "environment": {}})


def test_write_report_writes_three_files_of_which_the_json_is_the_report(tmp_path):
    report = a_report()
    report["rows"][0]["value"] = np.float32(400.0)
    paths = write_report(report, tmp_path / "new" / "out")
    assert [path.name for path in paths] == ["report.json", "report.md", "report.png"]
    assert json.loads(paths[0].read_text(encoding="utf-8")) == a_report()
    assert paths[0].read_text(encoding="utf-8").startswith('{\n "task": {\n  "command"')
    assert paths[1].read_text(encoding="utf-8") == table(report)
    assert sorted(path.name for path in paths[0].parent.iterdir()) == [path.name for path in paths]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), object()])
def test_write_report_refuses_what_json_cannot_hold_and_writes_nothing(tmp_path, value):
    report = a_report()
    report["task"]["loss"] = value
    with pytest.raises(DataError, match="report: expected finite numbers and text that JSON can hold, got "):
        write_report(report, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR"
    return struct.unpack(">II", data[16:24])


def test_figure_is_a_png_of_11_by_4_7_inches_at_150_dots_and_the_same_bytes_twice(tmp_path):
    first, second = figure(a_report(), tmp_path / "a.png"), figure(a_report(), tmp_path / "b.png")
    assert png_size(first) == (1650, 705)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["teacher alone", "no rare targets", "one method far off", "other methods"])
def test_figure_draws_unusual_reports_without_a_warning(tmp_path, kind):
    report = a_report()
    if kind == "teacher alone":
        report["rows"] = report["rows"][-1:]
    elif kind == "no rare targets":
        report["rows"] = [{**one, "rare_value": None} for one in report["rows"]]
    elif kind == "one method far off":
        report["rows"][3]["value"] = 1e6
    else:
        report["others"] = ["a", "b", "c"]
        report["rows"] += [row(name, 40, "stage2", 300.0, 2000.0, 250, 1000, 1.0) for name in "abc"]
    width = 1125 if kind == "no rare targets" else 1650  # pixels: one panel, two panels
    assert png_size(figure(report, tmp_path / "a.png")) == (width, 705)


def test_figure_loads_no_pyplot_and_the_module_alone_loads_no_matplotlib(tmp_path):
    code = """if True:
        import json, sys
        from see_min import report, results
        assert not {"matplotlib", "torch"} & set(sys.modules), "heavy packages at import time"
        results.environment()
        assert "torch" not in sys.modules
        report.figure(json.load(sys.stdin), sys.argv[1])
        assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], input=json.dumps(a_report()), text=True, check=True)


def test_environment_names_versions_but_neither_host_nor_folder():
    facts = environment()
    assert {"python", "numpy", "platform", "cores", "threads", "date"} <= set(facts)
    assert len(facts["date"]) == 10 and facts["date"][4] == facts["date"][7] == "-"
    assert platform.node() not in facts.values() and os.getcwd() not in json.dumps(facts)


def test_environment_describes_torch_only_if_something_imported_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "torch" not in environment()

    class Torch:
        __version__ = "7.1"

        @staticmethod
        def get_num_threads():
            return 13

    monkeypatch.setitem(sys.modules, "torch", Torch)
    assert (environment()["torch"], environment()["threads"]) == ("7.1", 13)


def test_writer_that_raises_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "a.npz"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        assert path.read_text() == "old"
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_atomic_path_suits_writers_that_read_the_format_off_the_name(tmp_path):
    path = tmp_path / "a.npz"
    with atomic_path(path) as temporary:
        assert temporary.parent == tmp_path and temporary != path
        np.savez(temporary, x=np.arange(3))
    assert np.load(path)["x"].tolist() == [0, 1, 2] and list(tmp_path.iterdir()) == [path]


def test_write_atomic_makes_parents_replaces_the_old_file_and_changes_no_byte(tmp_path):
    path = tmp_path / "b" / "c" / "a.txt"
    assert write_atomic(path, "é\r\n") == path
    assert path.read_bytes() == b"\xc3\xa9\r\n"
    write_atomic(path, b"\x00")
    assert path.read_bytes() == b"\x00" and list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="permission bits")
def test_write_atomic_gives_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    assert write_atomic(tmp_path / "a", "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_place_that_cannot_be_written_is_a_data_error_with_its_path_and_reason(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"^out: expected a directory that can be written, got .*file \(File exists\)$"):
        write_atomic(tmp_path / "file" / "a", "x")
    with pytest.raises(DataError, match=r"^out: expected a directory that can be written, got .*file.deep \(Not a directory\)$"):
        write_report(a_report(), tmp_path / "file" / "deep")
    with pytest.raises(DataError, match="^out: expected the name of a file, got the directory "):
        write_atomic(tmp_path, "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def two_runs():
    """Two runs whose second has every value of the students 10 % higher, and hashed 21 % higher."""
    runs = [a_report(), a_report()]
    for one in runs[1]["rows"]:
        if one["method"] != "dense":
            one["value"] *= 1.21 if one["method"] == "hashed" else 1.1
    return runs


def test_over_seeds_compares_each_method_with_see_of_the_same_run():
    first, second = two_runs()
    spread = over_seeds([first, second])
    see = [final(run, "see") for run in (first, second)]
    hashed = [final(run, "hashed") for run in (first, second)]
    ratio = next(ratio for method, ratio in spread if method == "hashed")
    assert spread["see", ratio]["value"] == pytest.approx(see)
    assert see == pytest.approx([102.0, 112.2])
    assert spread["hashed", ratio]["behind"] == pytest.approx([h / s - 1 for h, s in zip(hashed, see)])
    assert spread["see", ratio]["behind"] == pytest.approx([0, 0])


def final(report, method):
    """The value of the last row of a method at its lowest ratio, found by hand."""
    rows = [one for one in report["rows"] if one["method"] == method]
    low = min(one["ratio"] for one in rows)
    stages = {one["stage"]: one["value"] for one in rows if one["ratio"] == low}
    return stages.get("stage2", stages.get("fit"))


def test_seeds_table_shows_mean_and_range_of_each_method():
    text = seeds_table(two_runs())
    first, second = (final(run, "hashed") for run in two_runs())
    line = next(line for line in text.splitlines() if line.startswith("| hashed"))
    assert f"{(first + second) / 2:,.1f} ({first:,.1f} to {second:,.1f})" in line


def test_over_seeds_refuses_runs_with_different_methods():
    runs = two_runs()
    runs[1]["rows"] = [one for one in runs[1]["rows"] if one["method"] != "hashed"]
    with pytest.raises(DataError, match="reports: expected the same methods and ratios in every run, got different ones"):
        over_seeds(runs)


def test_read_report_returns_what_was_written_and_names_the_path_of_anything_else(tmp_path):
    write_report(a_report(), tmp_path)
    assert read_report(tmp_path) == json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    (tmp_path / "other.json").write_text("[1")
    with pytest.raises(DataError, match="other.json: expected a report.json, got"):
        read_report(tmp_path / "other.json")


def a_score_report(metric, values, rare=None):
    """values: dense, dense trained on, see, svd, hashed, shuffled, all at ratio 10."""
    names = [("dense", "teacher"), ("dense", "stage2"), *((name, "stage2") for name in ("see", "svd", "hashed", "shuffled"))]
    rows = [row(name, 1 if name == "dense" else 10, stage, value, rare, 1000, 8000, 2.0)
            for (name, stage), value in zip(names, values)]
    return {"task": {"command": "c"}, "environment": {}, "rows": [{**one, "metric": metric} for one in rows]}


ACCURACIES = (0.6, 0.625, 0.55, 0.5, 0.5504, 0.5)
SIMILARITIES = (0.0, 0.0, -0.0001, -0.25, 0.004, -1)
BLEUS = (30, 31.25, 28.5, 0.0, 27.25, 28.504)
SCORES = [("masked accuracy", ACCURACIES), ("STS", SIMILARITIES), ("BLEU", BLEUS)]


@pytest.mark.parametrize("metric, values, dense, see, svd", [
    ("masked accuracy", ACCURACIES, ("0.600", "0.625", "+0.025"), ("0.550", "-0.050"), ("0.500", "-0.100")),
    ("STS", SIMILARITIES, ("0.000", "0.000", "+0.000"), ("0.000", "+0.000"), ("-0.250", "-0.250")),
    ("BLEU", BLEUS, ("30.0", "31.2", "+1.2"), ("28.5", "-1.5"), ("0.0", "-30.0")),
])
def test_table_of_scores_shows_their_decimals_and_differences_in_points(metric, values, dense, see, svd):
    text = table(a_score_report(metric, values))
    assert f"| after fit ({metric}) |" in text and "| vs dense (points) | seconds |" in text and "perplexity" not in text
    assert lines_of_table(text)[:3] == [
        f"| dense | 1 | 1 | {dense[0]} | – | {dense[1]} | – | {dense[2]} | 4.0 |",
        f"| see, 10 | 1/1.0 | 1/1.0 | – | – | {see[0]} | – | {see[1]} | 2.0 |",
        f"| svd, 10 | 1/1.0 | 1/1.0 | – | – | {svd[0]} | – | {svd[1]} | 2.0 |",
    ]


@pytest.mark.parametrize("metric, values, text", [
    ("masked accuracy", ACCURACIES, "hashed (0.550); see draws level with hashed and gains 0.050 on shuffled."),
    ("STS", SIMILARITIES, "hashed (0.004); see loses 0.004 to hashed and gains 1.000 on shuffled."),
    ("BLEU", BLEUS, "shuffled (28.5); see gains 1.25 on hashed and draws level with shuffled."),
])
def test_sentence_calls_the_highest_score_the_best_and_turns_the_sign_of_the_gain(metric, values, text):
    lines = check_report(a_score_report(metric, values))
    assert sentence(lines, 10) == f"Ratio 10: the highest {metric} after stage 2 is that of {text}"


@pytest.mark.parametrize("metric, values", SCORES)
def test_over_seeds_counts_points_behind_see_and_takes_zero_for_a_value(metric, values):
    spread = over_seeds([a_score_report(metric, values), a_score_report(metric, values[::-1])])
    assert spread["svd", 10]["value"].tolist() == [values[3], values[2]]
    assert spread["svd", 10]["behind"].tolist() == [values[2] - values[3], values[3] - values[2]]
    assert spread["see", 10]["behind"].tolist() == [0, 0] and np.isnan(spread["dense", 1]["behind"]).all()
    assert over_seeds([a_score_report(metric, values, rare=0)])["see", 10]["rare_value"].tolist() == [0]


def test_seeds_table_of_scores_names_the_metric_and_shows_points():
    text = seeds_table([a_score_report("STS", (0.8, 0.8, 0.7, svd, 0.5, 0.5)) for svd in (0.65, 0.75)])
    assert "| STS: mean (lowest to highest) | rare words: mean | behind see in points: mean (range) |" in text
    assert "| hashed, 10 | 0.500 (0.500 to 0.500) | – | +0.200 (+0.200 to +0.200) |" in text.splitlines()
    assert "| svd, 10 | 0.700 (0.650 to 0.750) | – |" in text and "(-0.050 to +0.050) |" in text


def test_seeds_table_of_perplexities_equals_the_lines_written_by_hand():
    assert seeds_table(two_runs()).splitlines()[4:8] == [
        "| method, ratio | perplexity: mean (lowest to highest) | rare words: mean | behind see: mean (range) |",
        "| --- | ---: | ---: | ---: |",
        "| dense | 100.0 (100.0 to 100.0) | 1,234 | – |",
        "| see, 10 | 107.1 (102.0 to 112.2) | 1,300 | – |",
    ]
    assert "| hashed, 10 | 114.4 (103.5 to 125.2) | 1,400 | +6.5 % (+1.5 to +11.6) |" in seeds_table(two_runs())


def test_rows_with_different_metrics_are_refused_in_one_report_and_over_seeds():
    report = a_score_report("BLEU", BLEUS)
    report["rows"][3]["metric"] = "perplexity"
    report["rows"][3]["value"] = 2.0
    text = r"^metric: expected one metric in all rows, got BLEU in rows\[0\] and perplexity in rows\[3\]$"
    with pytest.raises(DataError, match=text):
        check_report(report)
    with pytest.raises(DataError, match="^reports: expected one metric in all runs, got STS, masked accuracy$"):
        over_seeds([a_score_report(metric, ACCURACIES) for metric in ("STS", "masked accuracy")])


@pytest.mark.parametrize("metric, low, high", [("masked accuracy", 0, 1), ("STS", -1, 1), ("BLEU", 0, 100)])
@pytest.mark.parametrize("key", ["value", "rare_value"])
def test_score_outside_the_range_of_its_metric_is_named(metric, low, high, key):
    report = a_score_report(metric, ACCURACIES)
    for value in (low, high, high * (1 + 4e-16)):  # as 100 * exp(0.0...) comes out of a perfect translation
        report["rows"][2][key] = value
        check_report(report)
    for value in (low - 0.01, high + 0.01, float("nan"), "0.5"):
        report["rows"][2][key] = value
        with pytest.raises(DataError, match=rf"^rows\[2\]\.{key}: expected a number from {low} to {high}, got {value!r}$"):
            check_report(report)


@pytest.mark.parametrize("key", ["loss", "tokens", "tokens_per_second"])
def test_optional_number_may_be_absent_or_zero_but_neither_negative_nor_none(key):
    report = a_report()
    report["rows"][3][key] = 0
    check_report(report)
    for value in (-1, None, float("inf")):
        report["rows"][3][key] = value
        with pytest.raises(DataError, match=rf"^rows\[3\]\.{key}: expected a finite number, 0 or above, got {value!r}$"):
            check_report(report)


def test_table_shows_the_tokens_a_second_of_the_last_stage_once_a_row_has_them():
    report = a_report()
    plain = table(report)
    report["rows"][3].update(tokens_per_second=45678.9, loss=4.6, tokens=1e6)  # see, stage 2
    report["rows"][4]["tokens_per_second"] = 5.0  # see, after the fit
    report["rows"][0]["tokens_per_second"] = 812.34  # hashed, whose last stage is the fit
    assert "tokens/s" not in plain and "| seconds | tokens/s |" in table(report)
    added = ["–", "45,679", "–", "–", "–", "812.3"]
    assert lines_of_table(table(report)) == [f"{line} {cell} |" for line, cell in zip(lines_of_table(plain), added)]


def panels(report, monkeypatch, tmp_path):
    """The axes of a figure, caught as it is saved."""
    from matplotlib.figure import Figure

    caught, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **keys: (caught.append(self), save(self, *args, **keys)))
    figure(report, tmp_path / "a.png")
    return caught[-1].axes


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric, values", [("perplexity", (100, 90, 2000, 300, 400, 500)), *SCORES])
def test_figure_says_which_way_is_better_and_draws_scores_on_a_plain_scale(monkeypatch, tmp_path, metric, values):
    report = a_score_report(metric, values)
    axis, = panels(report, monkeypatch, tmp_path)  # rare targets were not measured: no panel
    better, scale = ("less", "log") if metric == "perplexity" else ("more", "linear")
    assert axis.get_title(loc="left") == f"All targets ({better} is better)"
    assert axis.get_ylabel() == f"{metric} after stage 2" and axis.get_yscale() == scale
    report["rows"].append({**report["rows"][2], "stage": "fit", "rare_value": values[2]})  # but not after the last stage
    left, right = panels(report, monkeypatch, tmp_path)
    assert right.get_title(loc="left") == f"Rare targets ({better} is better)"
    assert [text.get_text() for text in right.texts] == ["not measured"]
