"""The benchmark: what is timed computes what it should at equal budgets, memory is counted."""

import json
from dataclasses import replace
from functools import partial

import pytest
from tiny import call

torch = pytest.importorskip("torch")

from see_min.errors import InputError  # noqa: E402
from see_min.experiments import benchmark  # noqa: E402
from see_min.experiments.benchmark import (  # noqa: E402
    CACHED,
    QUICK,
    Bench,
    LowRank,
    cached_rows,
    call_once,
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

        def call(module=module, held=held, seen=seen):
            seen.append(getattr(module, held) is not None)
            return call_once(module.scores, torch.randn(2, 32))

        measure_calls({CACHED: call, "see": call}, 1, CPU, {CACHED: partial(cached_rows, module)})
        assert seen.count(True) == seen.count(False) > 1 and getattr(module, held) is None


def test_a_timed_backward_computes_all_gradients_and_keeps_none():
    module, x = LowRank(7, 5, 2), torch.arange(3)
    found = {}
    for name in ("left", "right"):
        getattr(module, name).register_hook(partial(found.__setitem__, name))
    out = call_once(module, x, torch.ones(3, 5), [*module.parameters()])
    assert out.shape == (3, 5) and found.keys() == {"left", "right"}
    assert torch.equal(found["right"], module.left[:3].sum(0)[:, None].expand(2, 5))
    assert all(p.grad is None for p in module.parameters())
    assert not call_once(module, x).requires_grad


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


def test_bfloat16_is_measured_through_the_same_code(report):
    found = run_bench(replace(TASK, bf16=True, repeats=1), log=lambda line: None)["rows"]
    assert [row["method"] for row in found] == [row["method"] for row in report["rows"]]


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
