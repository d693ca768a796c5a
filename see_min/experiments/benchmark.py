"""`bench`: what look-ups, tied heads and fits cost beside dense, and how time grows with each size.

Everything compared keeps the same number of parameters, sees the same inputs and is timed in turn,
once each per round in a new order: a machine that is busy for a while slows all of them, and the
ratios to dense stay meaningful.
"""

import os
import statistics
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import accumulate
from math import ceil, sqrt

import numpy as np

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before torch: its profiler is noisy otherwise
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.benchmark import Timer

from see_min.bridge.layers import SememeEmbedding, cached_rows
from see_min.budget import Plan, leaf_sizes, low_rank, plan_paper, plan_see
from see_min.errors import InputError, check_at_least
from see_min.experiments import reports
from see_min.experiments.options import parse_ratio
from see_min.files import check_writable
from see_min.fitting import (
    fit,
    frequency_weights,
    low_rank_encoding,
    projection,
    random_encoding,
)
from see_min.toy.training import pick_device
from see_min.units import Annotation, assign, shared_units

CACHED = "see, cached rows"  # of heads without gradients alone
PEERS = {"word2ket": "word2ket 'gpytorch<=1.8.1'", "tensorly-torch": "tensorly tensorly-torch"}
CALLS = ("forward", "forward+backward")
SLOW = 1.0  # seconds: a peer that takes longer in the warm-up is timed once
FITTED, SWEEPS = ("see", "paper, order 3"), 3


@dataclass(frozen=True)
class Bench:
    """Sizes of what is measured."""

    rows: int = 30000
    dimensions: tuple = (256, 512)
    ids: int = 2048
    states: tuple = (128, 512, 1)  # hidden states that a head scores at once
    ratio: float = 20
    repeats: int = 15
    device: str = "auto"
    seed: int = 0

    @property
    def scaling(self):
        """{axis: values}, each varied alone while the others stand at their second value."""
        if self.rows < 10000:
            return {"vocabulary": (250, 500, 1000), "dimension": (16, 32, 64), "order": (1, 2, 3),
                    "rank": (2, 4, 8)}
        return {"vocabulary": (4000, 8000, 16000, 32000), "dimension": (128, 256, 512, 1024),
                "order": (1, 2, 3, 4), "rank": (4, 8, 16, 32, 64)}


QUICK = {"rows": 2000, "dimensions": (64,), "ids": 256, "states": (16,), "repeats": 3}


class Dense(nn.Embedding):
    """E (V, D) in memory."""

    def scores(self, h):
        return h @ self.weight.T  # (N, V)


class LowRank(nn.Module):
    """E = A P with A (V, r) and P (r, D)."""

    def __init__(self, vocabulary, dimension, rank):
        super().__init__()
        self.left = nn.Parameter(torch.randn(vocabulary, rank))
        self.right = nn.Parameter(torch.randn(rank, dimension) / sqrt(dimension))

    def forward(self, ids):
        return F.embedding(ids, self.left) @ self.right  # (W, D)

    def scores(self, h):
        return (h @ self.right.T) @ self.left.T  # (N, V)


def synthetic_vocabulary(count, seed, sememes=2000, morphemes=5000):
    """(words, annotations): three sememes and one morpheme each, drawn with probability 1 / rank.

    Examples
    --------
    >>> words, annotations = synthetic_vocabulary(3, 0)
    >>> words[0], [len(annotation.units) <= 4 for annotation in annotations]
    ('w0', [True, True, True])
    """
    rng = np.random.default_rng(seed)

    def draw(size, shape):
        chance = 1 / np.arange(1, size + 1)  # (size,)
        return rng.choice(size, shape, p=chance / chance.sum())

    known, stems = draw(sememes, (count, 3)), draw(morphemes, count)  # (V, 3), (V,)
    annotations = [Annotation((tuple(map(str, own)),), (str(stem),))
                   for own, stem in zip(known, stems)]
    return [f"w{i}" for i in range(count)], annotations


def plans(task, dimension, annotations=()):
    """{method: Plan} of every form of SEE at this size."""
    size, known = (task.rows, dimension, task.ratio), len(shared_units(annotations))
    return {"see": plan_see(*size, known=known),
            "see-shared": plan_see(*size, known=known, per_term=False),
            "paper, order 2": plan_paper(*size, 2), "paper, order 3": plan_paper(*size, 3)}


def start_of(plan, words, annotations, seed):
    """(encoding, units) before a fit, with random numbers everywhere."""
    units = assign(words, annotations, plan)
    P = None
    if plan.form == "see":
        P = np.random.default_rng(seed).standard_normal((plan.inner_dim, plan.dimension))
        P /= sqrt(plan.dimension)
    return random_encoding(units, plan, seed, P), units


def make_modules(task, dimension, words, annotations):
    """{method: module, or why it is absent}, all but dense with about V D / ratio parameters."""
    torch.manual_seed(task.seed)
    V, budget = task.rows, task.rows * dimension / task.ratio
    out = {"dense": Dense(V, dimension),
           "low-rank": LowRank(V, dimension, low_rank(V, dimension, task.ratio))}
    for method, plan in plans(task, dimension, annotations).items():
        out[method] = SememeEmbedding(start_of(plan, words, annotations, task.seed)[0])
    out[CACHED] = out["see"]
    for name, make in (("word2ket", word2ket), ("tensorly-torch", tensorly_torch)):
        try:
            out[name] = make(V, dimension, budget)
        except Exception as error:  # whatever a peer raises, nothing else stops
            out[name] = f"not usable: {first_line(error)} (pip install {PEERS[name]})"
    return out


def word2ket(vocabulary, dimension, budget):
    """EmbeddingKetXS of order 2, of the largest rank within 2 r ceil(sqrt V) ceil(sqrt D).

    Source: arXiv 1911.04975, the authors' package.
    """
    from word2ket import EmbeddingKetXS

    rank = max(1, int(budget / (2 * ceil(sqrt(vocabulary)) * ceil(sqrt(dimension)))))
    return EmbeddingKetXS(vocabulary, dimension, order=2, rank=rank)


def tensorly_torch(vocabulary, dimension, budget):
    """A block tensor train of three cores with a r, b r^2 and c r parameters, within the budget."""
    from tltorch import FactorizedEmbedding

    arguments = {"factorization": "blocktt"}
    shape = FactorizedEmbedding(vocabulary, dimension, rank=1, **arguments).tensor_shape
    a, b, c = (rows * columns for rows, columns in zip(*shape))
    rank = max(1, int((sqrt((a + c) ** 2 + 4 * b * budget) - (a + c)) / (2 * b)))
    return FactorizedEmbedding(vocabulary, dimension, rank=rank, **arguments)


def first_line(error):
    """The first line of an error's text, its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class TimedCall:
    """One call that is measured: without a graph, or forward and backward given a gradient."""

    def __init__(self, module, call, x, gradient=None, cached=False):
        self.module, self.call, self.x, self.gradient = module, call, x, gradient
        self.cached = cached

    def clear(self):
        """Without this, gradients would be added to those of the call before."""
        self.module.zero_grad(set_to_none=True)
        self.x.grad = None

    def context(self):
        """Where rows are cached, this happens once and is not timed."""
        return cached_rows(self.module) if self.cached else nullcontext()

    def __call__(self):
        if self.gradient is None:
            with torch.no_grad():
                return self.call(self.x)
        out = self.call(self.x)
        out.backward(self.gradient)
        return out

    def whole(self):
        """The call, and what has to be made beforehand."""
        with self.context():
            return self()

    def seconds(self):
        """Of one call; the device is waited for."""
        self.clear()
        with self.context():
            timer = Timer("work()", globals={"work": self}, num_threads=torch.get_num_threads())
            return timer.timeit(1).median


def peak_bytes(call, device):
    """The most bytes that `call()` holds at once beyond those held before and its result.

    What torch's allocator gives out counts; buffers of BLAS and Python's objects do not.
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
        events = [e for e in recorded.kineto_results.events() if e.name() == "[memory]"]
        events.sort(key=lambda event: event.start_ns())
        peak = max(accumulate((event.nbytes() for event in events), initial=0))
    return max(0, peak - result.nbytes)


def measure_calls(calls, repeats, device):
    """{name: ms (median), low, high, repeats, peak_bytes}, or a note for a peer that fails."""
    out, times = {}, {}
    for name, call in calls.items():
        call.clear()
        start = time.perf_counter()
        try:
            out[name] = {"peak_bytes": peak_bytes(call.whole, device)}  # the warm-up, too
        except Exception as error:
            if name not in PEERS:
                raise
            out[name] = {"note": f"fails: {first_line(error)}"}
            continue
        slow = name in PEERS and time.perf_counter() - start > SLOW
        times[name] = 1 if slow else repeats
    seconds = in_turn({name: calls[name].seconds for name in times}, times)
    return {name: out[name] | (summary(seconds[name]) if name in seconds else {}) for name in calls}


def in_turn(calls, repeats):
    """Call each so many times, once per round, in an order drawn anew: {name: list of results}.

    Examples
    --------
    >>> in_turn({"a": lambda: 1, "b": lambda: 2}, {"a": 2, "b": 1})
    {'a': [1, 1], 'b': [2]}
    """
    results = {name: [] for name in calls}
    for turn in range(max(repeats.values(), default=0)):
        for name in np.random.default_rng(turn).permutation(list(calls)).tolist():
            if turn < repeats[name]:
                results[name].append(calls[name]())
    return results


def summary(seconds):
    """Median, least and most, in milliseconds.

    Examples
    --------
    >>> summary([3.0, 1.0, 2.0])
    {'ms': 2000.0, 'low': 1000.0, 'high': 3000.0, 'repeats': 3}
    """
    ms = [1000 * value for value in seconds]
    return {"ms": statistics.median(ms), "low": min(ms), "high": max(ms), "repeats": len(ms)}


def call_rows(task, part, size, dimension, modules, device):
    """Rows of one part, "lookup" of `size` ids or "head" of `size` hidden states, both calls."""
    draw = torch.Generator().manual_seed(task.seed)
    if part == "lookup":
        x, width = torch.randint(task.rows, (size,), generator=draw).to(device), dimension
    else:
        x = torch.randn(size, dimension, generator=draw).to(device).requires_grad_()
        width = task.rows
    gradient = torch.randn(size, width, generator=draw).to(device)
    rows = []
    for call in CALLS:
        own = {name: module for name, module in modules.items() if is_measured(part, call, name)}
        calls = {name: TimedCall(module, module if part == "lookup" else module.scores, x,
                                 gradient if call != "forward" else None, name == CACHED)
                 for name, module in own.items() if isinstance(module, nn.Module)}
        numbers = measure_calls(calls, task.repeats, device)
        for name, module in own.items():
            found = {"note": module} if isinstance(module, str) else numbers[name]
            row = {"part": part, "call": call, "method": name, "dimension": dimension, "size": size}
            row["parameters"] = None if isinstance(module, str) else count_parameters(module)
            rows.append(row | {"ms": None, "peak_bytes": None, "note": None} | found)
    return with_ratio(rows)


def is_measured(part, call, method):
    """Peers have look-ups alone, cached rows heads without gradients alone."""
    if method == CACHED:
        return part == "head" and call == "forward"
    return part == "lookup" or method not in PEERS


def count_parameters(module):
    """Numbers that a module keeps."""
    return sum(parameter.numel() for parameter in module.parameters())


def with_ratio(rows, against="dense"):
    """Every row with `ratio`, ms / ms of the row of the same call whose method is `against`."""
    base = {row["call"]: row["ms"] for row in rows if row["method"] == against}
    one = next(iter(base.values()))
    return [row | {"ratio": row["ms"] and row["ms"] / base.get(row["call"], one)} for row in rows]


def fit_rows(task, dimension, words, annotations):
    """Seconds per sweep after the first, against one weighted SVD; numpy, not torch."""
    V, rng = task.rows, np.random.default_rng(task.seed)
    matrix = rng.standard_normal((V, dimension))
    weights = frequency_weights(1e6 / np.arange(1, V + 1))  # (V,)
    rank, own = low_rank(V, dimension, task.ratio), plans(task, dimension, annotations)
    start = time.perf_counter()
    low_rank_encoding(matrix, weights, rank)
    seconds = {"low-rank": [time.perf_counter() - start]}
    counts = {"low-rank": rank * (V + dimension)}
    for name in FITTED:
        encoding, units = start_of(own[name], words, annotations, task.seed)
        if encoding.projection is not None:
            encoding.projection = projection(matrix, weights, own[name].inner_dim)
        marks = []
        fit(matrix, encoding, weights, units, SWEEPS,
            progress=lambda sweep, error, marks=marks: marks.append(time.perf_counter()))
        seconds[name], counts[name] = np.diff(marks).tolist(), encoding.parameters
    rows = [{"part": "fit", "call": "one SVD" if name == "low-rank" else "sweep", "method": name,
             "dimension": dimension, "size": V, "parameters": counts[name], "peak_bytes": None,
             "note": None} | summary(seconds[name]) for name in seconds]
    return with_ratio(rows, "low-rank")


def scaling_plan(vocabulary, dimension, order, rank):
    """The papers' form with 500 units per slot, or V / 2 where that is less."""
    sizes = leaf_sizes(dimension, order)
    return Plan(vocabulary, dimension, sizes, rank, min(500, vocabulary // 2), form="paper")


def scaling_flops(plan, states):
    """FLOPs of one row, and of the scores of `states` hidden states: V rows, each met by each.

    Examples
    --------
    >>> scaling_flops(Plan(10, 4, (2, 2), 3, 5, form="paper"), 2)  # 2 * 3 * 4; 2 * 10 * 4 + ...
    (24, 400)
    """
    made = plan.vocabulary * plan.lookup_flops
    return plan.lookup_flops, states * plan.head_flops + made


def scaling_points(task, device):
    """Time and FLOPs as V, D, order and rank vary alone, with multiples of the first value."""
    points, states = [], task.states[0]
    for axis, values in task.scaling.items():
        calls, flops = {"lookup": {}, "head": {}}, {}
        for value in values:
            sizes = {name: own[1] for name, own in task.scaling.items()} | {axis: value}
            plan = scaling_plan(**sizes)
            words = [f"w{i}" for i in range(plan.vocabulary)]
            start = start_of(plan, words, [Annotation()] * len(words), task.seed)[0]
            module = SememeEmbedding(start).to(device)
            draw = torch.Generator().manual_seed(task.seed)
            ids = torch.randint(plan.vocabulary, (task.ids,), generator=draw).to(device)
            h = torch.randn(states, plan.dimension, generator=draw).to(device)
            calls["lookup"][value] = TimedCall(module, module, ids)
            calls["head"][value] = TimedCall(module, module.scores, h)
            flops[value] = dict(zip(calls, scaling_flops(plan, states)))
        for part, own in calls.items():
            found = measure_calls(own, task.repeats, device)
            for value in values:
                ms, count = found[value]["ms"], flops[value][part]
                points.append({"axis": axis, "value": value, "part": part, "ms": ms, "flops": count,
                               "ms_relative": ms / found[values[0]]["ms"],
                               "flops_relative": count / flops[values[0]][part]})
    return points


def run_bench(task, log=print):
    """Measure everything.

    Returns
    -------
    {"task", "environment", "rows", "scaling"}
        A row has part (lookup, head, fit), call, method, dimension, size, parameters, ms (median),
        low, high, repeats, ratio (to dense; of a fit to the SVD), peak_bytes, note.

    Raises
    ------
    InputError
        If a size is below 1, or a form cannot meet the ratio: before any work.
    """
    for name, value in asdict(task).items():
        for one in value if isinstance(value, tuple) else (value,):
            if name not in ("device", "seed"):
                check_at_least(name, one, 1)
    for dimension in task.dimensions:
        plans(task, dimension), low_rank(task.rows, dimension, task.ratio)
    device = pick_device(task.device)
    try:
        rows = _all_rows(task, device, log)
        log("scaling: V, D, order and rank, each alone")
        scaling = scaling_points(task, device)
    except torch.cuda.OutOfMemoryError as error:
        text = first_line(error)
        raise InputError(f"device: expected memory for this size, got {text}") from None
    where = reports.environment()
    if device.type == "cuda":
        where["gpu"] = torch.cuda.get_device_name(device)
    return {"task": asdict(task) | {"device": device.type}, "environment": where, "rows": rows,
            "scaling": scaling}


def _all_rows(task, device, log):
    rows, (words, annotations) = [], synthetic_vocabulary(task.rows, task.seed)
    for dimension in task.dimensions:
        modules = {name: module if isinstance(module, str) else module.to(device)
                   for name, module in make_modules(task, dimension, words, annotations).items()}
        for part, sizes in (("lookup", (task.ids,)), ("head", task.states)):
            for size in sizes:
                log(f"{part}: {size:,} x {dimension} against {task.rows:,} rows")
                rows += call_rows(task, part, size, dimension, modules, device)
        log(f"fit: {task.rows:,} x {dimension}")
        rows += fit_rows(task, dimension, words, annotations)
    return rows


def grouped(rows):
    """{(part, dimension, size): {method: {call: row}}} in the order of the rows."""
    out = {}
    for row in rows:
        lines = out.setdefault((row["part"], row["dimension"], row["size"]), {})
        lines.setdefault(row["method"], {})[row["call"]] = row
    return out


def table(report):
    """The measurement as Markdown: one table per part and size, the scaling, the environment."""
    task = report["task"]
    titles = {"lookup": "Look-up of {:,} random ids", "fit": "Fit of {:,} rows",
              "head": "Tied head, {:,} hidden states"}
    text = [f"Command: `{task['command']}`",
            f"{task['rows']:,} rows at 1/{task['ratio']:g} of the parameters; medians in ms, taken "
            "in turn in one run; in brackets the ratio to dense (of a fit: to one SVD). Peak: MB "
            "held at once beyond parameters, inputs and the result."]
    for (part, dimension, size), lines in grouped(report["rows"]).items():
        calls = list(dict.fromkeys(call for own in lines.values() for call in own))
        peaks = [f"peak, {call}" for call in calls if part != "fit"]
        rows = [[name, *_cells(own, calls, part)] for name, own in lines.items()]
        text += [f"{titles[part].format(size)}, D = {dimension}:",
                 reports.markdown_table(["method", "parameters", *calls, *peaks], rows)]
    text += ["Scaling of the papers' form as one size varies, as multiples of the first value:",
             _scaling_table(report["scaling"]), reports.environment_lines(report)]
    return "\n\n".join(text) + "\n"


def _scaling_table(points):
    rows = [[f"{p['axis']} = {p['value']:,}", p["part"], f"{p['ms']:.3g}",
             f"{p['ms_relative']:.2f}", f"{p['flops_relative']:.2f}"] for p in points]
    return reports.markdown_table(["varies", "part", "ms", "time", "FLOPs"], rows, 2)


def _cells(own, calls, part):
    first = next(iter(own.values()))
    if first["note"]:
        return [first["note"], *["–"] * (len(calls) * (1 if part == "fit" else 2))]
    found = [own.get(call, {"ms": None, "peak_bytes": None}) for call in calls]
    times = ["–" if one["ms"] is None else f"{one['ms']:.3g} ({one['ratio']:.2f})"
             for one in found]
    peaks = ["–" if one["peak_bytes"] is None else f"{one['peak_bytes'] / 1e6:,.2f}"
             for one in found]
    return [f"{first['parameters']:,}", *times, *(peaks if part != "fit" else [])]


def figure(report, path):
    """Draw time against dense, and scaling against the formulas."""
    fig = reports.new_figure(13, 8.4, "Time against dense, and scaling against the formulas")
    above, below = fig.subfigures(2, 1)
    axes = above.subplots(1, 2, sharey=True)
    for axis, call in zip(axes, CALLS):
        _ratio_panel(axis, [row for row in report["rows"] if row["call"] == call], call)
    reports.compact_legend(above, axes, 9)
    names = dict.fromkeys(point["axis"] for point in report["scaling"])
    axes = below.subplots(1, len(names))
    for axis, name in zip(axes, names):
        _scaling_panel(axis, [point for point in report["scaling"] if point["axis"] == name], name)
    reports.compact_legend(below, axes, 4)
    return reports.save_figure(fig, path)


def _ratio_panel(axis, rows, call):
    """A place on the x axis for every part and size; absent peers are left out."""
    places = list(grouped(rows))
    names = dict.fromkeys(row["method"] for row in rows if row["ratio"] is not None)
    for method, (colour, marker, _) in reports.method_styles(names).items():
        own = [row for row in rows if row["method"] == method and row["ratio"] is not None]
        x = [places.index((row["part"], row["dimension"], row["size"])) for row in own]
        axis.plot(x, [row["ratio"] for row in own], color=colour, marker=marker, ls="none", ms=8,
                  mec="white", label=method)
    labels = [f"{part} {size:,}\nD = {dimension}" for part, dimension, size in places]
    axis.set_xticks(range(len(places)), labels, fontsize=8)
    axis.axhline(1, color="black", lw=1)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:,g}")
    axis.set_ylabel("time / time of dense (lower is better)")
    axis.set_title(call, loc="left", fontsize=11)
    axis.grid(**reports.GRID)


def _scaling_panel(axis, points, name):
    for part, colour, marker in (("lookup", reports.BLUE, "o"), ("head", reports.RED, "^")):
        own = [point for point in points if point["part"] == part]
        values = [point["value"] for point in own]
        for key, label, dashes in (("ms", "measured", "-"), ("flops", "formula", ":")):
            multiples = [point[f"{key}_relative"] for point in own]
            axis.plot(values, multiples, color=colour, marker=marker, ls=dashes,
                      label=f"{part}, {label}")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.set_xticks(values, [f"{value:,}" for value in values], fontsize=8)
    axis.minorticks_off()
    axis.yaxis.set_major_formatter("{x:,g}")
    axis.set_xlabel(name)
    axis.set_ylabel("multiple of the first value")
    axis.grid(**reports.GRID)


def add_arguments(parser):
    """The flags of `bench`."""
    parser.add_argument("--rows", type=int, metavar="V", help="rows of the matrix (default: 30000)")
    parser.add_argument("--dimensions", type=int, nargs="+", metavar="D", help="default: 256 512")
    parser.add_argument("--ratio", type=parse_ratio, metavar="R", help="default: 20")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, a few seconds")
    parser.add_argument("--out", default="out", metavar="FOLDER", help="default: out")


def run(arguments, command):
    """Measure time and memory, and write bench.json, .md and .png."""
    check_writable(arguments.out)
    given = {name: getattr(arguments, name) for name in ("rows", "dimensions", "ratio", "device")}
    given = {name: value for name, value in given.items() if value is not None}
    if "dimensions" in given:
        given["dimensions"] = tuple(dict.fromkeys(given["dimensions"]))
    task = Bench(**((QUICK if arguments.quick else {}) | given))
    report = run_bench(task, log=lambda line: print(line, file=sys.stderr, flush=True))
    report["task"] = {"command": command, **report["task"]}
    paths = reports.write_files(report, arguments.out, "bench", table, figure)
    print(f"{table(report)}written: {', '.join(map(str, paths))}")
