"""Reports: a table written out by hand, one error per rule, seeds, files whole or not at all."""

import json

import numpy as np
import pytest

from see_min.errors import InputError
from see_min.experiments import reports
from see_min.experiments.reports import (
    check_report,
    environment,
    new_figure,
    read_report,
    save_figure,
    seeds_table,
    table,
    write_report,
)


def a_row(method, ratio, stage, value, rare=None, metric="perplexity", size=1000, **more):
    return {"method": method, "ratio": ratio, "stage": stage, "metric": metric, "value": value,
            "rare_value": rare, "embedding_parameters": size, "embedding_bytes": 4 * size,
            "model_parameters": 5 * size, "seconds": 1.5, **more}


def a_report(rows=None, seed=0):
    if rows is None:
        rows = [a_row("shuffled", 10, "fit", 150.0, 900.0, size=100),
                a_row("see", 10, "fit", 140.0, 800.0, size=100),
                a_row("see", 10, "stage2", 110.0, 700.0, size=100, tokens_per_second=2500.0),
                a_row("shuffled", 10, "stage2", 121.0, 2000.0, size=100),
                a_row("other", 5, "stage2", 105.0, 600.0, size=200),
                a_row("dense", 1, "teacher", 100.0, 500.0),
                a_row("dense", 1, "stage2", 98.0, 490.0)]
    return {"task": {"command": "see", "seed": seed}, "environment": {"cores": 2}, "rows": rows}


TABLE = """Command: `see`

| method, ratio | parameters | bytes | after fit (perplexity) | stage 1 | stage 2 | rare words |\
 vs dense | seconds | tokens/s |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| dense | 1 | 1 | 100.0 | – | 98.0 | 490.0 | -2.0 % | 3.0 | – |
| other, 5 | 1/5.0 | 1/5.0 | – | – | 105.0 | 600.0 | +5.0 % | 1.5 | – |
| see, 10 | 1/10.0 | 1/10.0 | 140.0 | – | 110.0 | 700.0 | +10.0 % | 3.0 | 2,500 |
| shuffled, 10 | 1/10.0 | 1/10.0 | 150.0 | – | 121.0 | 2,000 | +21.0 % | 3.0 | – |
"""
SENTENCES = """
- Ratio 5: other has the lowest perplexity after stage 2 (105.0).
- Ratio 10: see has the lowest perplexity after stage 2 (110.0); shuffled is +10.0 % from see.

Task: seed 0.

Environment: cores 2.
"""


def test_the_table_is_the_one_written_by_hand_whatever_the_order_of_the_rows():
    text = table(a_report())
    assert text.startswith(TABLE) and text.endswith(SENTENCES)
    assert table(a_report(a_report()["rows"][::-1])) == text


def test_higher_is_better_for_scores():
    rows = [a_row("dense", 1, "teacher", 30.0, metric="BLEU"),
            a_row("see", 9, "fit", 28.0, metric="BLEU"),
            a_row("shuffled", 9, "fit", 27.5, metric="BLEU")]
    said = "see has the highest BLEU after the fit (28.0); shuffled is -0.5 from see."
    assert said in table(a_report(rows))


def without(key):
    row = a_row("see", 10, "fit", 1.0)
    del row[key]
    return row


@pytest.mark.parametrize("row, text", [
    (without("value"), r"rows\[1\].value: expected a value, got none"),
    (a_row("see", 10, "stage3", 1.0), r"stage: expected one of teacher, .*, got 'stage3'"),
    (a_row("see", 10, "fit", 1.0, metric="F1"), r"rows\[1\].metric: expected one of .*, got 'F1'"),
    (a_row("see", 10, "fit", 1.0, metric="BLEU"), "metric: expected perplexity in all rows"),
    (a_row("see", 10, "fit", float("nan")), r"rows\[1\].value: expected a finite number from 0"),
    (a_row("see", 10, "fit", -1.0), r"rows\[1\].value: expected a finite number from 0"),
    (a_row("dense", 1, "teacher", 1.0), "expected one row of dense, 1, teacher, got two"),
])
def test_a_wrong_row_is_named_with_its_number(row, text):
    with pytest.raises(InputError, match=text):
        check_report(a_report([a_row("dense", 1, "teacher", 100.0), row]))


def test_scores_stay_in_their_range_and_the_teacher_must_be_there():
    row = a_row("dense", 1, "teacher", 1.5, metric="STS")
    with pytest.raises(InputError, match="value: expected a finite number from -1 to 1, got 1.5"):
        check_report(a_report([row]))
    with pytest.raises(InputError, match="rows: expected a row of method dense and stage teacher"):
        check_report(a_report([a_row("see", 10, "fit", 1.0)]))
    with pytest.raises(InputError, match="task.command: expected the command"):
        check_report({"task": {}, "environment": {}, "rows": []})


def test_a_report_comes_back_as_it_was_written(tmp_path):
    report = a_report()
    report["rows"][0]["value"] = np.float64(150.0)  # numbers of numpy are welcome
    paths = write_report(report, tmp_path / "new")
    assert [path.name for path in paths] == ["report.json", "report.md", "report.png"]
    expected = json.loads(json.dumps(a_report()))
    assert read_report(tmp_path / "new") == read_report(paths[0]) == expected
    assert paths[1].read_text() == table(report) and paths[2].read_bytes()[:4] == b"\x89PNG"


def test_nothing_is_written_of_a_wrong_report_and_what_json_cannot_hold_is_refused(tmp_path):
    report = a_report()
    report["task"]["object"] = object()
    with pytest.raises(InputError, match="report: expected what JSON can hold, got object"):
        write_report(report, tmp_path)
    with pytest.raises(InputError, match="rows: expected a row of method dense"):
        write_report(a_report([a_row("see", 10, "fit", 1.0)]), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text, got", [(None, "No such file"), ("{", "Expecting"), ("[]", "list")])
def test_what_is_no_report_is_refused_by_name(tmp_path, text, got):
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    with pytest.raises(InputError, match=f"report.json: expected a report.*, got {got}"):
        read_report(tmp_path)


def test_seeds_are_summed_up_run_by_run():
    first, second = a_report(), a_report(seed=1)
    for row, value in zip(second["rows"][2:4], (100.0, 130.0)):
        row["value"] = value
    text = seeds_table([first, second])
    assert "| see, 10 | 105.0 (100.0 to 110.0) | 700.0 | – |" in text
    assert "| shuffled, 10 | 125.5 (121.0 to 130.0) | 2,000 | +20.0 % (+10.0 to +30.0) |" in text
    assert "| other, 5 | 105.0 (105.0 to 105.0) | 600.0 | – |" in text  # there is no see at 5
    assert "| dense | 100.0 (100.0 to 100.0) | 500.0 | – |" in text  # as trained, not trained on


def test_runs_that_differ_are_not_compared():
    other = a_report(a_report()["rows"][1:3] + a_report()["rows"][5:])
    with pytest.raises(InputError, match="reports: expected the same methods, ratios and metric"):
        seeds_table([a_report(), other])


@pytest.mark.parametrize("rows", [
    a_report()["rows"],
    [a_row("dense", 1, "teacher", 0.0, metric="BLEU"), a_row("see", 9, "fit", 0.0, metric="BLEU")],
    [a_row("dense", 1, "teacher", 100.0)],
], ids=["two panels", "zeros", "dense alone"])
def test_figures_are_drawn_of_any_report(tmp_path, rows):
    assert reports.figure(a_report(rows), tmp_path / "a.png").stat().st_size > 10000


def test_a_figure_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    fig, old = new_figure(2, 2), tmp_path / "a.png"
    old.write_bytes(b"old")

    def broken(path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(fig, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        save_figure(fig, old)
    assert old.read_bytes() == b"old" and [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(InputError, match="plot: expected a name that ends in .png, .svg or .pdf"):
        save_figure(fig, tmp_path / "a.jpg")


def test_the_environment_names_versions_and_no_place():
    found = environment()
    assert found["numpy"] == np.__version__ and {"python", "cores", "threads", "date"} <= set(found)
    assert not any("/" in str(value) for value in found.values())


def test_every_method_keeps_its_look_and_no_two_look_alike():
    looks = list(reports.STYLES.items())
    same = [(a, b) for i, (a, x) in enumerate(looks) for b, y in looks[:i] if x == y]
    allowed = {"low-rank", "paper, order 2"}  # of bench alone
    assert all({a, b} & allowed for a, b in same)
    assert reports.method_styles(["new", "see"])["see"] == reports.STYLES["see"]
