"""Reports: a table written out by hand, values that are refused, files whole or not at all."""

import json

import pytest

from see_min.errors import InputError
from see_min.experiments import reports
from see_min.experiments.reports import figure, table, write_report
from see_min.related.registry import KNOWN


def a_row(method, ratio, stage, value, rare=None, metric="perplexity", size=1000, **more):
    return {"method": method, "ratio": ratio, "stage": stage, "metric": metric, "value": value,
            "rare_value": rare, "embedding_parameters": size, "embedding_bytes": 4 * size,
            "model_parameters": 5 * size, "seconds": 1.5, **more}


def a_report(rows=None):
    if rows is None:
        rows = [a_row("shuffled", 10, "fit", 150.0, 900.0, size=100),
                a_row("see", 10, "fit", 140.0, 800.0, size=100),
                a_row("see", 10, "stage2", 110.0, 700.0, size=100, tokens_per_second=2500.0),
                a_row("shuffled", 10, "stage2", 121.0, 2000.0, size=100),
                a_row("svd", 5, "stage2", 105.0, 600.0, size=200),
                a_row("dense", 1, "teacher", 100.0, 500.0),
                a_row("dense", 1, "stage2", 98.0, 490.0)]
    return {"task": {"command": "see", "seed": 0}, "environment": {"cores": 2}, "rows": rows}


TABLE = """Command: `see`

| method, ratio | parameters | bytes | after fit (perplexity) | stage 1 | stage 2 | rare words |\
 vs dense | seconds | tokens/s |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| dense | 1 | 1 | 100.0 | – | 98.0 | 490.0 | -2.0 % | 3.0 | – |
| svd, 5 | 1/5.0 | 1/5.0 | – | – | 105.0 | 600.0 | +5.0 % | 1.5 | – |
| see, 10 | 1/10.0 | 1/10.0 | 140.0 | – | 110.0 | 700.0 | +10.0 % | 3.0 | 2,500 |
| shuffled, 10 | 1/10.0 | 1/10.0 | 150.0 | – | 121.0 | 2,000 | +21.0 % | 3.0 | – |
"""


def test_the_table_is_the_one_written_by_hand_whatever_the_order_of_the_rows():
    text = table(a_report())
    assert text.startswith(TABLE) and text.endswith("\n\nTask: seed 0.\n\nEnvironment: cores 2.\n")
    assert table(a_report(a_report()["rows"][::-1])) == text


@pytest.mark.parametrize("rows", [
    a_report()["rows"],
    [a_row("dense", 1, "teacher", 0.0, metric="BLEU"), a_row("see", 9, "fit", 0.0, metric="BLEU")],
    [a_row("dense", 1, "teacher", 100.0)],
], ids=["two lines of panels", "zeros", "dense alone"])
def test_a_report_is_written_as_data_as_a_table_and_as_a_figure(tmp_path, capsys, rows):
    report, out = a_report(rows), tmp_path / "new"
    write_report(report, "see", out, figure=figure)
    paths = [out / f"report.{ending}" for ending in ("json", "md", "png")]
    assert json.loads(paths[0].read_text()) == a_report(rows)
    assert paths[1].read_text() == table(report)
    picture = paths[2].read_bytes()
    assert picture[:4] == b"\x89PNG" and len(picture) > 10000
    assert sorted(out.iterdir()) == sorted(paths)
    assert capsys.readouterr().out == f"{table(report)}\nwritten: {', '.join(map(str, paths))}\n"


@pytest.mark.parametrize("change, text", [
    ({"value": float("nan")}, "see, 10, fit: expected a finite perplexity, got nan"),
    ({"rare_value": float("inf")}, "report: expected what JSON can hold, got Out of range"),
    ({"note": object()}, "report: expected what JSON can hold, got Object of"),
])
def test_nothing_is_written_of_a_report_that_json_cannot_hold(tmp_path, change, text):
    report = a_report()
    report["rows"][1] |= change
    with pytest.raises(InputError, match=text):
        write_report(report, "see", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_environment_names_versions_and_no_place():
    found = reports.environment()
    assert {"python", "numpy", "cores", "threads", "date"} <= set(found)
    assert not any("/" in str(value) for value in found.values())


def test_every_method_has_a_look_of_its_own():
    assert set(KNOWN) | {"dense"} == set(reports.STYLES)
    assert len(set(reports.STYLES.values())) == len(reports.STYLES)
