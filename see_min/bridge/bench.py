"""What looking up, scoring and fitting cost, measured side by side in one run: data only (`see_min.bench_report` shows them).

Everything that is compared keeps the same number of floats, sees the same inputs and is timed in turn, one repeat of each
and then the next: a machine that is busy for a while slows all of them, and the ratios to dense stay meaningful. Others ran in
between, so caches are about as cold as between two steps of training.
"""

import statistics
import time
from dataclasses import asdict
from itertools import accumulate

import numpy as np
import torch
from torch import nn

from see_min.bridge.bench_forms import (
    PEERS,
    QUICK,
    Bench,
    Work,
    check,
    first_line,
    floats,
    growth_flops,
    growth_form,
    growth_plan,
    is_measured,
    made_up_words,
    modules,
    plans,
    units_of,
)
from see_min.bridge.training import pick_device
from see_min.budget import low_rank
from see_min.checks import DataError
from see_min.fit import carrier, fit, frequency_weights, low_rank_encoding, random_encoding
from see_min.results import environment

__all__ = ["QUICK", "Bench", "bench"]
FITTED = ("low-rank", "see", "see-paper, order 3")
CALLS = ("forward", "forward+backward")
SLOW = 1.0  # seconds; what takes longer in the warm-up is repeated once
TOO_SLOW = 5.0  # seconds; a word2ket whose warm-up takes longer is not run at the dimensions that follow
SWEEPS, FITS = 3, 2


def peak_bytes(call, device):
    """The most bytes that `call()` holds at once, beyond those held before it and beyond its result.

    Counted is what torch's allocator of the device gives out and takes back: results of every operation, what is kept for
    the backward pass, gradients, and workspaces that operations ask of the allocator. Not counted are buffers
    that a library (BLAS) keeps for itself, Python's objects, and what the allocator holds in reserve.

    Returns
    -------
    int

    Source: ours.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = call()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) - before
    else:
        with torch.autograd.profiler.profile(profile_memory=True) as recorded:
            result = call()
        events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
        peak = max(accumulate((event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())), initial=0))
    return max(0, peak - result.nbytes)


def interleaved(works, repeats, clock=time.perf_counter, wait=lambda: None):
    """Seconds of every repeat of every work, {name: list}: one repeat of each in turn.

    The order is drawn anew for every turn, the same in every run: what empties the caches stands before others in turn.

    Parameters
    ----------
    works : {name: callable}, each with an optional method clear() that is not timed
    repeats : {name: int}
    clock, wait : callables
        `wait` returns when the device has finished what it was given.

    Examples
    --------
    >>> ticks = iter(range(100))
    >>> interleaved({"a": int, "b": int}, {"a": 2, "b": 1}, clock=lambda: next(ticks))
    {'a': [1, 1], 'b': [1]}
    """
    seconds = {name: [] for name in works}
    for repeat in range(max(repeats.values(), default=0)):
        for name in np.random.default_rng(repeat).permutation(list(works)).tolist():
            work = works[name]
            if repeat < repeats[name]:
                getattr(work, "clear", lambda: None)()
                wait()
                start = clock()
                work()
                wait()
                seconds[name].append(clock() - start)
    return seconds


def measured(works, repeats, device, clock=time.perf_counter):
    """Warm up, which also counts memory, then time: {name: numbers}, or {name: {"note": why}} for a peer that fails.

    Numbers are ms (median), low, high, repeats, peak_bytes and warm_up_ms.
    """
    wait = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)
    out, times = {}, {}
    for name, work in works.items():
        work.clear()
        start = clock()
        try:
            peak = peak_bytes(work, device)
            took = clock() - start
            out[name] = {"peak_bytes": peak, "warm_up_ms": 1000 * took}
            times[name] = 1 if took > SLOW and name in PEERS else repeats
        except Exception as error:
            if name not in PEERS:
                raise
            out[name] = {"note": f"fails: {first_line(error)}"}
        work.clear()  # or its gradients would stand in the way of the next
    for name, seconds in interleaved({name: works[name] for name in times}, times, clock, wait).items():
        out[name] |= summary(seconds)
        works[name].clear()
    return out


def summary(seconds):
    """Median, least and most, in milliseconds.

    Examples
    --------
    >>> summary([3.0, 1.0, 2.0])
    {'ms': 2000.0, 'low': 1000.0, 'high': 3000.0, 'repeats': 3}
    """
    ms = [1000 * value for value in seconds]
    return {"ms": statistics.median(ms), "low": min(ms), "high": max(ms), "repeats": len(ms)}


def with_ratio(rows, against="dense"):
    """Give every row its `ratio`, ms / ms of the row whose method is `against`, None where there is nothing to divide."""
    base = next(row["ms"] for row in rows if row["method"] == against)
    return [row | {"ratio": row["ms"] / base if row["ms"] is not None and base else None} for row in rows]


def part_rows(task, part, size, dimension, found, device, clock=time.perf_counter):
    """Rows of one part, "lookup" of `size` ids or "head" of `size` states, both calls.

    `peak_share` is, of a look-up, peak / bytes of the batch's rows and their gradients; of a head, bytes of E and its
    gradient / peak (the more, the less memory).
    """
    draw = torch.Generator().manual_seed(task.seed)
    if part == "lookup":
        x, width = torch.randint(task.rows, (size,), generator=draw).to(device), dimension
    else:
        x, width = torch.randn(size, dimension, generator=draw).to(device).requires_grad_(), task.rows
    gradient = torch.randn(size, width, generator=draw).to(device)
    matrices = 2 * 4 * dimension * (size if part == "lookup" else task.rows)  # bytes
    rows = []
    for call in CALLS:
        own = {name: module for name, module in found.items() if is_measured(part, call, name)}
        works = {name: Work(module, module if part == "lookup" else module.scores, x, gradient if call != "forward" else None)
                 for name, module in own.items() if isinstance(module, nn.Module)}
        numbers, group = measured(works, task.repeats, device, clock), []
        for name, module in own.items():
            empty = {"ms": None, "low": None, "high": None, "repeats": 0, "peak_bytes": None, "warm_up_ms": None, "note": None}
            row = {"part": part, "call": call, "method": name, "dimension": dimension, "size": size, "floats": None} | empty
            row |= {"note": module} if isinstance(module, str) else {"floats": floats(module)} | numbers[name]
            if (peak := row["peak_bytes"]) is not None:
                row["peak_bytes"] = peak = peak + getattr(module, "held_bytes", 0)
            row["peak_share"] = None if not peak else peak / matrices if part == "lookup" else matrices / peak
            group.append(row)
        rows += with_ratio(group)
    return rows


def fit_rows(task, dimension, words, annotations, clock=time.perf_counter):
    """Seconds a sweep of the default form and of the papers' form of order 3, against one weighted SVD; numpy, not torch.

    Of a fit only the sweeps after the first count, which does not re-deal units.
    """
    V, rng, own = task.rows, np.random.default_rng(task.seed), plans(task, dimension, annotations)
    matrix, weights = rng.standard_normal((V, dimension)), frequency_weights(1e6 / np.arange(1, V + 1))
    starts, seconds = {}, {name: [] for name in FITTED}
    for name in FITTED[1:]:
        units = units_of(name, own[name], words, annotations)
        P = carrier(matrix, weights, own[name].inner) if own[name].carrier else None
        starts[name] = random_encoding(units, own[name], task.seed, P), units
    rank = low_rank(V, dimension, task.ratio)
    for _ in range(FITS):
        start = clock()
        low_rank_encoding(matrix, weights, rank)
        seconds["low-rank"].append(clock() - start)
        for name, (encoding, units) in starts.items():
            marks = []
            fit(matrix, encoding, weights, units, SWEEPS, progress=lambda sweep, error, marks=marks: marks.append(clock()))
            seconds[name] += np.diff(marks).tolist()
    counts = {name: encoding.floats for name, (encoding, _) in starts.items()} | {"low-rank": rank * (V + dimension)}
    rest = {"dimension": dimension, "size": V, "peak_bytes": None, "peak_share": None, "warm_up_ms": None, "note": None}
    rows = [{"part": "fit", "call": "one SVD" if name == "low-rank" else "sweep", "method": name, "floats": counts[name]}
            | rest | summary(seconds[name]) for name in FITTED]
    return with_ratio(rows, "low-rank")


def growth(task, device, clock=time.perf_counter):
    """Time and FLOPs as V, D, order and rank each vary alone: a list of points; times and FLOPs also relative to the first."""
    points, states = [], task.states[0]
    for axis, values in task.growth.items():
        found, first = {}, None
        for value in values:
            at = {name: own[1] for name, own in task.growth.items()} | {axis: value}
            plan = growth_plan(**at)
            module = growth_form(plan, task.seed).to(device)
            draw = torch.Generator().manual_seed(task.seed)
            ids = torch.randint(plan.vocabulary, (task.ids,), generator=draw).to(device)
            h = torch.randn(states, plan.dimension, generator=draw).to(device)
            found[value] = plan, Work(module, module, ids), Work(module, module.scores, h)
        lookup = measured({value: works[1] for value, works in found.items()}, task.repeats, device, clock)
        head = measured({value: works[2] for value, works in found.items()}, task.repeats, device, clock)
        for value, (plan, *_) in found.items():
            row, scores = growth_flops(plan, states)
            point = {"lookup_ms": lookup[value]["ms"], "lookup_flops": row, "head_ms": head[value]["ms"], "head_flops": scores}
            first = first or point
            relative = {f"{key}_relative": number / first[key] for key, number in point.items()}
            points.append({"axis": axis, "value": value} | point | relative)
    return points


def bench(task, say=lambda line: None, clock=time.perf_counter):
    """Measure everything.

    Parameters
    ----------
    task : Bench
    say : callable(str)
    clock : callable() -> float, seconds

    Returns
    -------
    {"task", "environment", "rows", "growth"}
        A row has part (lookup, head, fit), call, method, dimension, size, floats, ms (median), low, high, repeats, ratio (to
        dense; in a fit to the weighted SVD), peak_bytes, peak_share, warm_up_ms, and a note where there are no numbers.

    Raises
    ------
    DataError
        If a value is too small, a plan cannot meet the ratio, CUDA is asked for and absent, or its memory does not suffice.

    Source: ours.
    """
    check(task)
    device, threads = pick_device(task.device), torch.get_num_threads()
    try:
        torch.set_num_threads(task.threads or threads)
        return _bench(task, device, say, clock)
    except torch.cuda.OutOfMemoryError as error:
        raise DataError(f"device: expected memory for this size, got {first_line(error)}") from None
    finally:
        torch.set_num_threads(threads)


def too_slow(rows):
    """{"word2ket": why it is not run at the next dimension}, or {} while no warm-up of it took longer than `TOO_SLOW`.

    A warm-up also counts memory, which takes time; the time that is named is that of the call alone.

    Examples
    --------
    >>> too_slow([{"method": "word2ket", "warm_up_ms": 9000.0, "ms": 6200.0, "dimension": 256}])
    {'word2ket': 'not run: one call takes 6.2 s at D = 256'}
    """
    slow = [row for row in rows if row["method"] == "word2ket" and (row["warm_up_ms"] or 0) > 1000 * TOO_SLOW]
    worst = max(slow, key=lambda row: row["ms"], default=None)
    return {"word2ket": f"not run: one call takes {worst['ms'] / 1000:.1f} s at D = {worst['dimension']}"} if worst else {}


def _bench(task, device, say, clock):
    rows, (words, annotations) = [], made_up_words(task.rows, task.seed)
    for dimension in dict.fromkeys(task.dimensions):
        found = {name: module if isinstance(module, str) else module.to(device)
                 for name, module in (modules(task, dimension, words, annotations) | too_slow(rows)).items()}
        for part, sizes in (("lookup", (task.ids,)), ("head", task.states)):
            for size in sizes:
                say(f"{part}: {size:,} x {dimension} against {task.rows:,} rows")
                rows += part_rows(task, part, size, dimension, found, device, clock)
        say(f"fit: {task.rows:,} x {dimension}")
        rows += fit_rows(task, dimension, words, annotations, clock)
    say("growth: V, D, order and rank, each alone")
    points = growth(task, device, clock)
    about = asdict(task) | {"device": device.type, "dimensions": list(task.dimensions), "states": list(task.states)}
    where = environment()
    if device.type == "cuda":
        where["gpu"] = torch.cuda.get_device_name(device)
    return {"task": about, "environment": where, "rows": rows, "growth": points}
