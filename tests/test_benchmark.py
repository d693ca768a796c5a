"""The benchmark: what is timed computes what it should at equal budgets, memory is counted."""

import argparse
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from see_min.errors import InputError  # noqa: E402
from see_min.experiments import benchmark  # noqa: E402
from see_min.experiments.benchmark import (  # noqa: E402
    CACHED,
    PEERS,
    QUICK,
    Bench,
    LowRank,
    TimedCall,
    count_parameters,
    make_modules,
    measure_calls,
    peak_bytes,
    run_bench,
    scaling_flops,
    scaling_plan,
    synthetic_vocabulary,
    table,
    with_ratio,
)

CPU = torch.device("cpu")
TASK = Bench(**QUICK | {"rows": 300, "dimensions": (32,), "ids": 11, "states": (3,), "ratio": 6,
                        "repeats": 2})


@pytest.fixture(scope="module")
def modules():
    return make_modules(TASK, 32, *synthetic_vocabulary(300, 0))


@pytest.fixture(scope="module")
def report():
    return run_bench(TASK, log=lambda line: None)


def test_all_but_dense_keep_the_same_number_of_parameters(modules):
    budget = 300 * 32 / TASK.ratio
    for name, module in modules.items():
        if name in PEERS and isinstance(module, str):
            assert module.startswith("not usable: ")
        elif name != "dense" and name not in PEERS:
            share = count_parameters(module) / budget
            assert 0.75 < share < 1.2, name  # low rank is rounded up, forms down
    assert count_parameters(modules["dense"]) == 300 * 32


def test_scores_of_every_module_are_those_of_its_rows(modules):
    h = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    for module in modules.values():
        if hasattr(module, "scores"):
            with torch.no_grad():
                E = module(torch.arange(300))
                torch.testing.assert_close(module.scores(h), h @ E.T, rtol=1e-4, atol=1e-4)


def test_cached_rows_are_there_within_the_measurement_alone(modules):
    module, seen = modules[CACHED], []

    def call(h):
        seen.append(module.cache is not None)
        return module.scores(h)

    measure_calls({CACHED: TimedCall(module, call, torch.randn(2, 32), cached=True)}, 1, CPU)
    assert all(seen) and module.cache is None


def test_backward_fills_gradients_and_clear_takes_them_away():
    module, x = LowRank(7, 5, 2), torch.arange(3)
    call = TimedCall(module, module, x, torch.ones(3, 5))
    call()
    assert module.left.grad is not None
    call.clear()
    assert module.left.grad is None
    TimedCall(module, module, x)()
    assert module.left.grad is None


def test_peak_counts_what_is_held_at_once_beyond_the_result():
    def hold(n):
        one = torch.zeros(n, dtype=torch.uint8)
        two = torch.zeros(n, dtype=torch.uint8)
        return (one[:1] + two[:1])[:1]

    peak = peak_bytes(lambda: hold(10**6), CPU)
    assert 2 * 10**6 <= peak < 2.1 * 10**6


def test_a_peer_that_fails_gets_a_note_and_nothing_else_stops():
    def broken(ids):
        raise RuntimeError("no kernel\nfor this")

    module = torch.nn.Embedding(5, 3)
    call, ids = TimedCall(module, module, torch.arange(3)), torch.arange(3)
    found = measure_calls({"dense": call, "word2ket": TimedCall(module, broken, ids)}, 2, CPU)
    assert found["word2ket"] == {"note": "fails: no kernel"} and found["dense"]["repeats"] == 2
    with pytest.raises(RuntimeError, match="no kernel"):
        measure_calls({"see": TimedCall(module, broken, ids)}, 2, CPU)


def test_ratios_are_those_to_dense_within_one_call():
    rows = [{"method": method, "call": call, "ms": ms} for method, call, ms in
            (("dense", "f", 2.0), ("see", "f", 6.0), ("dense", "b", 4.0), ("see", "b", None))]
    assert [row["ratio"] for row in with_ratio(rows)] == [1, 3, 1, None]


def test_flops_are_those_of_a_count_by_hand():
    plan = scaling_plan(vocabulary=100, dimension=24, order=3, rank=5)
    assert plan.sizes == (4, 3, 2) and plan.slot_units == 50
    row = 5 * 3 * 2 + 2 * 5 * 24  # halves (4) and (3, 2); their outer products, summed
    assert scaling_flops(plan, 7) == (row, 7 * 2 * 100 * 24 + 100 * row)


def test_every_part_is_measured_once_per_method_and_call(report):
    keys = [(row["part"], row["call"], row["method"]) for row in report["rows"]]
    assert len(set(keys)) == len(keys)
    heads = {method for part, call, method in keys if part == "head" and call == "forward"}
    forms = {"see", "see-shared", "paper, order 2", "paper, order 3"}
    assert heads == {"dense", "low-rank", *forms, CACHED}
    assert ("head", "forward+backward", CACHED) not in keys
    fits = {method for part, _, method in keys if part == "fit"}
    assert fits == {"low-rank", "see", "paper, order 3"}
    for row in report["rows"]:
        assert row["note"] or (row["ms"] > 0 and row["low"] <= row["ms"] <= row["high"])


def test_scaling_begins_at_one_and_varies_one_size_at_a_time(report):
    for axis, values in TASK.scaling.items():
        for part in ("lookup", "head"):
            own = [p for p in report["scaling"] if p["axis"] == axis and p["part"] == part]
            assert [point["value"] for point in own] == list(values)
            assert own[0]["ms_relative"] == own[0]["flops_relative"] == 1
    vocabulary = [p["flops_relative"] for p in report["scaling"]
                  if p["axis"] == "vocabulary" and p["part"] == "head"]
    assert vocabulary == [1, 2, 4]


def test_the_command_writes_data_tables_and_a_figure(report, tmp_path, monkeypatch, capsys):
    asked = []

    def fake(task, log):
        asked.append(task)
        return dict(report)

    monkeypatch.setattr(benchmark, "run_bench", fake)
    parser = argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    flags = ["--quick", "--rows", "500", "--dimensions", "16", "16", "--out", str(tmp_path)]
    benchmark.run(parser.parse_args(flags), "python -m see_min bench")
    assert asked[0] == Bench(**QUICK | {"rows": 500, "dimensions": (16,)})
    text = (tmp_path / "bench.md").read_text()
    assert capsys.readouterr().out.startswith(text) and (tmp_path / "bench.png").exists()
    assert "Look-up of 11 random ids, D = 32:" in text and "(1.00)" in text
    assert json.loads((tmp_path / "bench.json").read_text())["rows"] == report["rows"]
    task = {"command": "python -m see_min bench", **report["task"]}
    assert text == table(report | {"task": task})


@pytest.mark.parametrize("change, text", [
    ({"ids": 0}, "ids: expected at least 1, got 0"),
    ({"states": (3, 0)}, "states: expected at least 1, got 0"),
    ({"ratio": 5000}, "ratio: expected 1 to .*, got 5000"),
])
def test_sizes_that_cannot_be_are_refused_before_any_work(change, text):
    with pytest.raises(InputError, match=text):
        run_bench(Bench(**QUICK | change), log=lambda line: pytest.fail(line))


def test_words_are_the_same_for_a_seed_and_share_units():
    words, annotations = synthetic_vocabulary(200, 3)
    assert synthetic_vocabulary(200, 3) == (words, annotations) != synthetic_vocabulary(200, 4)
    known = [name for one in annotations for sense in one.senses for name in sense]
    assert len(set(known)) < len(known) / 2 and np.unique(words).size == 200
