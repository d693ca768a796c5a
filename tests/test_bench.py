"""The measurement itself: medians and ratios by hand with a clock that ticks, memory of known allocations, all rows."""

import json
import struct
import subprocess
import sys
from dataclasses import replace
from statistics import median

import numpy as np
import pytest

torch = pytest.importorskip("torch")
bench_module = pytest.importorskip("see_min.bridge.bench")

from see_min.bench_report import groups, table, write_bench  # noqa: E402
from see_min.bridge.bench import (  # noqa: E402
    CALLS,
    SLOW,
    TOO_SLOW,
    bench,
    interleaved,
    measured,
    part_rows,
    peak_bytes,
    summary,
    too_slow,
    with_ratio,
)
from see_min.bridge.bench_forms import (  # noqa: E402
    KEPT,
    METHODS,
    PEERS,
    QUICK,
    WHOLE,
    Bench,
    Dense,
    LowRank,
    WholeMatrix,
    Work,
    growth_flops,
    growth_form,
    growth_plan,
    made_up_words,
    modules,
    peer,
    plans,
    tensorly_torch,
    word2ket,
)
from see_min.budget import Plan  # noqa: E402
from see_min.checks import DataError  # noqa: E402

CPU = torch.device("cpu")
pytestmark = [pytest.mark.filterwarnings(f"ignore:::{package}") for package in ("gpytorch", "tltorch")]  # not ours to mend
TINY = Bench(**QUICK | {"rows": 600, "dimensions": (32,), "ids": 16, "states": (3,), "ratio": 4}, quick=True, device="cpu")


class Clock:
    """Time passes only when a work says so."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def work(self, name, *durations):
        left = iter(durations)

        def run():
            self.order.append(name)
            self.now += next(left)

        return run


@pytest.fixture(scope="module")
def report():
    return {**bench(TINY), "task": {"command": "python -m see_min bench --quick", "rows": 600, "ratio": 4}}


# time

def test_repeats_of_all_works_are_taken_in_turn_and_each_has_its_own_seconds():
    clock = Clock()
    works = {"a": clock.work("a", 1.0, 5.0, 2.0), "b": clock.work("b", 0.5), "c": clock.work("c", 4.0, 4.0, 1.0)}
    assert interleaved(works, {"a": 3, "b": 1, "c": 3}, clock) == {"a": [1.0, 5.0, 2.0], "b": [0.5], "c": [4.0, 4.0, 1.0]}
    turns = clock.order[:3], clock.order[3:5], clock.order[5:]
    assert [sorted(turn) for turn in turns] == [["a", "b", "c"], ["a", "c"], ["a", "c"]]


def test_no_work_stands_behind_the_same_other_in_every_turn():
    clock = Clock()
    names = "abcde"
    interleaved({name: clock.work(name, *[1.0] * 30) for name in names}, dict.fromkeys(names, 30), clock)
    before = {name: {clock.order[i - 1] for i in range(1, 150) if clock.order[i] == name} for name in names}
    assert all(len(others - {name}) == 4 for name, others in before.items())


def test_what_is_cleared_before_a_repeat_is_not_timed_and_what_is_waited_for_is():
    clock = Clock()

    class Cleared:
        def clear(self):
            clock.now += 100.0

        def __call__(self):
            clock.now += 1.0

    pending = iter([10.0, 3.0])  # before the start, after the work
    wait = lambda: setattr(clock, "now", clock.now + next(pending))
    assert interleaved({"a": Cleared()}, {"a": 1}, clock, wait) == {"a": [4.0]}


def test_summary_is_the_median_in_milliseconds_and_not_the_mean():
    seconds = [0.007, 0.001, 0.002]
    assert summary(seconds) == {"ms": 1000 * median(seconds), "low": 1.0, "high": 7.0, "repeats": 3}


def test_ratio_is_to_dense_of_the_same_rows_and_none_where_nothing_was_measured():
    rows = with_ratio([{"method": "see", "ms": 6.0}, {"method": "dense", "ms": 4.0}, {"method": "word2ket", "ms": None}])
    assert [row["ratio"] for row in rows] == [1.5, 1.0, None]


@pytest.mark.parametrize(("name", "seconds", "repeats"), [
    ("word2ket", 2 * SLOW, 1), ("word2ket", SLOW / 2, 4), ("see", 2 * SLOW, 4),
])
def test_only_a_slow_peer_is_repeated_once(name, seconds, repeats):
    clock = Clock()
    work = Work(torch.nn.Identity(), lambda x: (setattr(clock, "now", clock.now + seconds), x + 1)[1], torch.zeros(2))
    found = measured({name: work}, 4, CPU, clock)[name]
    assert (found["repeats"], found["ms"]) == (repeats, 1000 * seconds)


@pytest.mark.parametrize(("took", "skipped"), [(1000 * TOO_SLOW, False), (1000 * TOO_SLOW + 100, True), (None, False)])
def test_only_a_word2ket_that_took_too_long_is_skipped(took, skipped):
    rows = [{"method": method, "warm_up_ms": ms, "ms": 5100.0, "dimension": 8}
            for method, ms in (("word2ket", 1.0), ("word2ket", took), ("see", 10**6), ("tensorly-torch", 10**6))]
    assert too_slow(rows) == ({"word2ket": "not run: one call takes 5.1 s at D = 8"} if skipped else {})


def test_a_slow_word2ket_has_numbers_at_the_first_dimension_and_a_note_at_those_that_follow(monkeypatch):
    monkeypatch.setattr(bench_module, "TOO_SLOW", 0.0)
    monkeypatch.setattr(bench_module, "modules", lambda task, D, *rest: modules(task, D, *rest) | {"word2ket": Dense(600, D)})
    rows = [row for row in bench(replace(TINY, dimensions=(16, 32, 64)))["rows"] if row["method"] == "word2ket"]
    assert [(row["dimension"], row["ms"] is None) for row in rows] == [
        (D, D > 16) for D in (16, 32, 64) for _ in CALLS]
    assert all(row["note"].startswith("not run: one call takes ") and row["note"].endswith(" s at D = 16") for row in rows[2:])
    assert all(row["note"] is None and row["warm_up_ms"] > 0 for row in rows[:2])


# memory

def test_peak_counts_what_is_held_at_once_and_neither_the_result_nor_what_was_there():
    before = torch.zeros(10_000)

    def call():
        large = before + 1  # 40,000 bytes
        small = large[:2500].clone()  # 10,000 bytes more: the peak
        del large
        return small.neg_()  # the result, 10,000 bytes

    assert peak_bytes(call, CPU) == pytest.approx(40_000, abs=64)  # numbers that meet a tensor take a few bytes
    assert peak_bytes(lambda: before, CPU) == 0


def test_peak_of_one_after_the_other_is_the_larger_and_not_the_sum():
    def one(count):
        torch.empty(count)

    def call():
        one(1000), one(5000), one(2000)
        return torch.empty(0)

    assert peak_bytes(call, CPU) == 20_000


def test_peak_of_a_dense_lookup_with_its_backward_pass_is_the_gradient_of_the_matrix():
    module, ids = Dense(500, 8), torch.arange(20)
    work = Work(module, module, ids, torch.ones(20, 8))
    work.clear()
    assert peak_bytes(work, CPU) == pytest.approx(500 * 8 * 4, abs=64)


# what is compared

def test_dense_and_low_rank_scores_are_products_with_their_own_rows():
    h = torch.randn(3, 6, dtype=torch.float64)
    for module in (Dense(11, 6).double(), LowRank(11, 6, 2).double()):
        torch.testing.assert_close(module.scores(h), h @ module(torch.arange(11)).T, rtol=1e-12, atol=1e-12)


def test_the_whole_matrix_has_the_rows_of_its_form_and_holds_every_word():
    form = growth_form(growth_plan(vocabulary=50, dimension=27, order=3, rank=2), 0)
    ids, whole = torch.tensor([[3, 49], [3, 0]]), WholeMatrix(form)
    torch.testing.assert_close(whole(ids), form(ids))
    assert peak_bytes(Work(whole, whole, ids), CPU) >= 50 * 2 * 27 * 4 > peak_bytes(Work(form, form, ids), CPU)


def test_every_form_keeps_at_most_its_share_of_the_floats_and_the_default_has_knowledge_units():
    words, annotations = made_up_words(TINY.rows, 0)
    found = modules(TINY, 32, words, annotations)
    for method, plan in plans(TINY, 32, annotations).items():
        count = sum(parameter.numel() for parameter in found[method].parameters())
        assert 0.9 * 600 * 32 / 4 <= count <= 600 * 32 / 4
        assert count == plan.floats
    assert plans(TINY, 32, annotations)["see"].knowledge > 0
    assert found["see"].bag is not None and (found["see"].bag >= 0).sum(1).max() > 1
    assert found["see-paper, order 3"].bag is None and found["see-paper, order 3"].index.shape == (600, 3)


def test_made_up_words_are_the_same_for_a_seed_and_common_units_are_common():
    words, annotations = made_up_words(500, 3)
    assert (words, annotations) == made_up_words(500, 3) and annotations != made_up_words(500, 4)[1]
    heads = [name for annotation in annotations for name in annotation.senses[0]]
    assert len(heads) == 1500 and heads.count("0") > heads.count("50")


@pytest.mark.parametrize(("error", "text"), [
    (ModuleNotFoundError("No module named 'word2ket'"), "not installed: pip install word2ket"),
    (Exception("\nYou need another.\nMore lines"), "not usable: You need another. (pip install word2ket"),
    (RuntimeError(), "not usable: RuntimeError"),
])
def test_a_peer_that_cannot_be_used_is_a_line_that_says_why(error, text):
    def build():
        raise error

    line = peer("word2ket", build)
    assert line.startswith(text) and "\n" not in line


def test_absent_peers_are_rows_that_say_so(monkeypatch):
    for name in ("word2ket", "tltorch"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails as if it were not there
    words, annotations = made_up_words(TINY.rows, 0)
    rows = part_rows(TINY, "lookup", 16, 32, modules(TINY, 32, words, annotations), CPU)
    absent = [row for row in rows if row["method"] in PEERS]
    assert len(absent) == len(PEERS) * len(CALLS)
    assert {(row["ms"], row["ratio"], row["peak_bytes"]) for row in absent} == {(None, None, None)}
    assert {row["note"] for row in absent} == {f"not installed: pip install {value}" for value in PEERS.values()}


def test_a_peer_that_fails_when_called_is_a_row_and_a_form_of_see_that_fails_is_an_error():
    def fails(x):
        raise RuntimeError("it broke\nhere")

    work = Work(torch.nn.Identity(), fails, torch.zeros(1))
    assert measured({"word2ket": work}, 2, CPU) == {"word2ket": {"note": "fails: it broke"}}
    with pytest.raises(RuntimeError, match="it broke"):
        measured({"see": work}, 2, CPU)


@pytest.mark.parametrize(("package", "build"), [("word2ket", word2ket), ("tltorch", tensorly_torch)])
def test_an_installed_peer_has_rows_of_the_width_and_at_most_the_budget(package, build):
    try:
        __import__(package)
    except Exception as error:
        pytest.skip(f"{package}: {error}")
    module = build(600, 32, 600 * 32 / 4)
    count = sum(parameter.numel() for parameter in module.parameters())
    assert 0.5 * 600 * 32 / 4 <= count <= 600 * 32 / 4
    assert module(torch.tensor([0, 599])).shape == (2, 32)


# the whole

def test_there_is_a_row_for_every_part_call_and_method(report):
    found = [(row["part"], row["call"], row["method"]) for row in report["rows"]]
    expected = [("lookup", call, method) for call in CALLS for method in (*METHODS, WHOLE, *PEERS)]
    expected += [("head", call, method) for call in CALLS for method in (*METHODS, KEPT)[: -1 if call != "forward" else None]]
    expected += [("fit", "one SVD", "low-rank"), ("fit", "sweep", "see"), ("fit", "sweep", "see-paper, order 3")]
    assert found == expected
    for part in ("lookup", "head"):
        for call in CALLS:
            rows = {row["method"]: row for row in report["rows"] if (row["part"], row["call"]) == (part, call)}
            for method in METHODS:
                assert rows[method]["ratio"] == rows[method]["ms"] / rows["dense"]["ms"]


def test_shares_of_memory_are_of_the_batch_in_a_lookup_and_of_the_matrix_in_a_head(report):
    both = {(row["part"], row["method"]): row for row in report["rows"] if row["call"] == "forward+backward"}
    look, head = both["lookup", "see"], both["head", "see"]
    assert look["peak_share"] == look["peak_bytes"] / (2 * 16 * 32 * 4)
    assert head["peak_share"] == 2 * 600 * 32 * 4 / head["peak_bytes"]


def test_kept_rows_are_the_scores_of_the_form_and_their_bytes_are_counted(report):
    words, annotations = made_up_words(TINY.rows, 0)
    found = modules(TINY, 32, words, annotations)
    form, kept, h = found["see"], found[KEPT], torch.randn(3, 32)
    with torch.no_grad():
        torch.testing.assert_close(kept.scores(h), form.scores(h))
        kept.rows.zero_()
        assert not kept.scores(h).any() and form.scores(h).any() and form.kept is None  # it reads them; the form does not
    row = next(row for row in report["rows"] if row["method"] == KEPT)
    assert row["peak_bytes"] >= 4 * 600 * plans(TINY, 32, annotations)["see"].inner == kept.held_bytes
    assert row["floats"] == next(row["floats"] for row in report["rows"] if row["method"] == "see")


def test_growth_formulas_are_those_of_the_plan_and_relative_to_the_first_point_of_an_axis(report):
    assert {point["axis"] for point in report["growth"]} == set(TINY.growth)
    middle, points = {name: values[1] for name, values in TINY.growth.items()}, iter(report["growth"])
    for axis, values in TINY.growth.items():
        own = [next(points) for _ in values]
        for value, point in zip(values, own):
            plan = growth_plan(**middle | {axis: value})
            assert (point["axis"], point["value"]) == (axis, value)
            assert point["lookup_flops"] == plan.lookup_flops
            assert point["head_flops"] == 3 * plan.head_flops + plan.vocabulary * plan.lookup_flops
            for key in ("lookup_ms", "lookup_flops", "head_ms", "head_flops"):
                assert point[f"{key}_relative"] == point[key] / own[0][key]


def test_flops_of_growth_count_a_product_by_hand():
    plan = Plan(7, 6, (3, 2), 5, 4)  # a row: 5 terms of 3 x 2 products, each a multiplication and an addition
    assert growth_flops(plan, 2) == (60, 2 * 7 * 6 * 2 + 7 * 60)


def test_files_are_whole_and_the_table_names_every_method(report, tmp_path):
    paths = write_bench(report, tmp_path / "new")
    assert [path.name for path in paths] == ["bench.json", "bench.md", "bench.png"]
    assert json.loads(paths[0].read_text()) == report
    text = paths[1].read_text()
    assert text == table(report)
    assert text.count("| dense |") == 2 and text.count("| see |") == 3
    assert all(text.count(f"| {name} |") == 1 for name in (WHOLE, *PEERS))
    assert struct.unpack(">II", paths[2].read_bytes()[16:24]) == (1820, 1040)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["bench.json", "bench.md", "bench.png"]


def test_the_table_shows_a_known_row_as_it_is():
    row = {"part": "lookup", "dimension": 8, "size": 4, "method": "dense", "floats": 80, "ms": 2.0, "ratio": 1.0,
           "peak_bytes": 1_500_000, "peak_share": 0.5, "note": None}
    see = row | {"method": "see", "floats": 8, "ms": 5.0, "ratio": 2.5}
    absent = row | {"method": "word2ket", "floats": None, "ms": None, "ratio": None, "peak_bytes": None, "peak_share": None,
                    "note": "not installed: pip install it"}
    rows = [one | {"call": call} for call in CALLS for one in (row, see, absent)]
    assert list(groups(rows)) == [("lookup", 4 * 2, 4)]
    text = table({"task": {"command": "c", "rows": 10, "ratio": 10}, "environment": {}, "rows": rows, "growth": []})
    assert "| see | 1/10.0 | 5 (2.50) | 5 (2.50) | 1.50 | 0.50 |" in text
    assert "| word2ket | not installed: pip install it | – | – | – | – |" in text


# errors

@pytest.mark.parametrize(("given", "text"), [
    ({"rows": 0}, "rows: expected at least 1, got 0"),
    ({"dimensions": (64, 0)}, "dimensions: expected at least 1, got 0"),
    ({"ids": 0}, "ids: expected at least 1, got 0"),
    ({"repeats": 0}, "repeats: expected at least 1, got 0"),
    ({"threads": 0}, "threads: expected at least 1, got 0"),
    ({"ratio": np.nan}, "ratio: expected at least 1, got nan"),
    ({"ratio": 10**6}, "ratio: expected"),
])
def test_a_bad_value_is_refused_before_any_work(given, text):
    with pytest.raises(DataError, match=text):
        bench(Bench(**QUICK | {"quick": True} | given), say=lambda line: pytest.fail("work was done"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
def test_cuda_that_is_absent_is_an_error_and_threads_stay_as_they_were():
    threads = torch.get_num_threads()
    with pytest.raises(DataError, match="device: expected a machine with CUDA, got none: use --device cpu"):
        bench(Bench(**QUICK, quick=True, device="cuda", threads=threads + 1))
    assert torch.get_num_threads() == threads


def test_memory_that_does_not_suffice_is_one_line(monkeypatch):
    def full(*arguments):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore")

    monkeypatch.setattr(bench_module, "modules", full)
    with pytest.raises(DataError, match=r"^device: expected memory for this size, got CUDA out of memory. Tried to allocate$"):
        bench(TINY)


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "see_min", "bench", *map(str, arguments)], capture_output=True, text=True)


def test_the_command_writes_three_files_and_prints_the_table(tmp_path):
    done = command("--quick", "--rows", 500, "--dimensions", 32, "--ratio", 4, "--repeats", 2, "--device", "cpu", "--threads", 1,
                   "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "bench.json").read_text())
    assert (report["task"]["rows"], report["task"]["dimensions"], report["task"]["repeats"]) == (500, [32], 2)
    assert report["environment"]["threads"] == 1 and "profiler" not in done.stderr
    assert done.stdout.startswith((tmp_path / "bench.md").read_text())
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_a_bad_value_on_the_command_line_is_one_line_and_code_2(tmp_path):
    done = command("--quick", "--repeats", 0, "--out", tmp_path)
    assert (done.returncode, done.stderr) == (2, "see_min: repeats: expected at least 1, got 0\n")
    assert not list(tmp_path.iterdir())
