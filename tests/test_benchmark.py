"""The benchmark: what is timed computes what it should at equal budgets, memory is counted."""

import json
from dataclasses import asdict

import pytest
from tiny import call

torch = pytest.importorskip("torch")

from see_min.errors import InputError  # noqa: E402
from see_min.experiments import benchmark  # noqa: E402
from see_min.experiments.benchmark import (  # noqa: E402
    CACHED,
    COMPILED,
    QUICK,
    Bench,
    LowRank,
    TimedCall,
    count_bytes,
    count_parameters,
    make_modules,
    measure_calls,
    peak_bytes,
    run_bench,
    synthetic_vocabulary,
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


def test_see_keeps_to_the_bytes_and_all_others_to_the_parameters(modules):
    sizes = {name: count_parameters(module) for name, module in modules.items()}
    assert sizes.pop("dense") == 300 * 32 == count_bytes(modules["dense"]) / 4
    sizes["see"] = count_bytes(modules["see"]) / 4
    assert modules["see"].coded and count_parameters(modules["see"]) > sizes["see"]
    for name, size in sizes.items():
        # low rank is rounded up; in memory a code takes a whole byte
        assert 0.75 < size * TASK.ratio / (300 * 32) < 1.3, name


def test_scores_of_every_module_are_those_of_its_rows(modules):
    h = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    for module in modules.values():
        with torch.no_grad():
            E = module(torch.arange(300))
            torch.testing.assert_close(module.scores(h), h @ E.T, rtol=1e-4, atol=1e-4)


def test_cached_rows_are_there_within_the_measurement_alone(modules):
    for name, held in (("see", "held"), ("see, by parameters", "cache")):
        module, seen = modules[name], []

        def call(h, module=module, held=held, seen=seen):
            seen.append(getattr(module, held) is not None)
            return module.scores(h)

        measure_calls({CACHED: TimedCall(module, call, torch.randn(2, 32), cached=True)}, 1, CPU)
        assert all(seen) and getattr(module, held) is None


def test_every_timed_backward_begins_without_gradients():
    module, x, before = LowRank(7, 5, 2), torch.arange(3), []

    def call(ids):
        before.append(module.left.grad is None)
        return module(ids)

    timed = TimedCall(module, call, x, torch.ones(3, 5))
    for _ in range(2):
        timed.seconds()
        assert before[-1] and module.left.grad is not None
    timed.clear()
    TimedCall(module, module, x)()
    assert module.left.grad is None


def test_peak_counts_what_is_held_at_once_beyond_the_result():
    def hold(n):
        one = torch.zeros(n, dtype=torch.uint8)
        two = torch.zeros(n, dtype=torch.uint8)
        return (one[:1] + two[:1])[:1]

    peak = peak_bytes(lambda: hold(10**6), CPU)
    assert 2 * 10**6 <= peak < 2.1 * 10**6


def test_every_part_is_measured_once_per_method_and_call(report):
    keys = [(row["part"], row["call"], row["method"]) for row in report["rows"]]
    assert len(set(keys)) == len(keys)
    forms = {"see", "see, by parameters", "paper, order 2", "paper, order 3"}
    for part, name, expected in (
        ("lookup", "forward+backward", {"dense", "low-rank", *forms}),
        ("head", "forward", {"dense", "low-rank", *forms, CACHED}),
        ("head", "forward+backward", {"dense", "low-rank", *forms}),
    ):
        assert {key[2] for key in keys if key[:2] == (part, name)} == expected
    dense = {key[:2]: row["ms"] for key, row in zip(keys, report["rows"]) if key[2] == "dense"}
    for key, row in zip(keys, report["rows"]):
        assert 0 < row["low"] <= row["ms"] <= row["high"]
        assert row["ratio"] == row["ms"] / dense[key[:2]]


def test_bfloat16_and_compiled_calls_are_measured_through_the_same_code(monkeypatch):
    made = []
    monkeypatch.setattr(torch, "compile", lambda call: made.append(call) or call)
    small = Bench(**asdict(TASK) | {"bf16": True, "compiled": True, "states": (1,), "repeats": 1})
    found = run_bench(small, log=lambda line: None)["rows"]
    compiled = [row for row in found if row["method"] == COMPILED]
    assert len(compiled) == len(made) == 4 and all(row["ratio"] > 0 for row in compiled)
    assert {row["part"] for row in compiled} == {"lookup", "head"}
    assert not [row for row in run_bench(TASK, print)["rows"] if row["method"] == COMPILED]


def test_the_command_writes_data_and_tables(report, tmp_path, monkeypatch, capsys):
    asked = []

    def fake(task, log):
        asked.append(task)
        return dict(report)

    monkeypatch.setattr(benchmark, "run_bench", fake)
    flags = ["--quick", "--rows", 500, "--dimensions", 16, 16, "--out", tmp_path, "--states", 7,
             "--bf16", "--device", "cpu"]
    code, out, _ = call(capsys, "bench", *flags)
    given = {"rows": 500, "dimensions": (16,), "states": (7,), "bf16": True, "device": "cpu"}
    assert code == 0 and asked == [Bench(**QUICK | given)]
    text = (tmp_path / "bench.md").read_text()
    assert out.startswith(text)
    assert "Look-up of 11 random ids, D = 32:" in text and "(1.00)" in text
    assert json.loads((tmp_path / "bench.json").read_text())["rows"] == report["rows"]


@pytest.mark.parametrize("change, text", [
    ({"states": (3, 0)}, "states: expected at least 1, got 0"),
    ({"ratio": 5000}, "ratio: expected 1 to .*, got 5000"),
])
def test_sizes_that_cannot_be_are_refused_before_any_work(change, text):
    with pytest.raises(InputError, match=text):
        run_bench(Bench(**QUICK | change), log=lambda line: pytest.fail(line))
