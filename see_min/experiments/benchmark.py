"""`bench`: what look-ups and tied heads cost beside dense.

`see` takes 1/ratio of the bytes of the dense matrix, everything else 1/ratio of its parameters. All
see the same inputs and are timed in turn, once each per round in a new order: a machine that is
busy for a while slows all of them, and the ratios to dense stay meaningful.
"""

import os
import statistics
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from math import sqrt

import numpy as np

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # before torch: its profiler is noisy otherwise
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.benchmark import Timer

from see_min.bridge.layers import SememeEmbedding, cached_rows
from see_min.bridge.model import device_memory
from see_min.errors import InputError, check_at_least
from see_min.experiments import reports
from see_min.experiments.options import add_flags, given_settings, parse_ratio
from see_min.fitting.least_squares import random_encoding
from see_min.storage.budget import default_bits, low_rank, plan_bytes, plan_paper, plan_see
from see_min.storage.files import check_writable
from see_min.toy.training import pick_device
from see_min.units import Annotation, assign, shared_units

CACHED = "see, cached"  # within `cached_rows`: of heads without gradients alone
MOST = 2**32  # numbers of a matrix
CALLS = ("forward", "forward+backward")
TITLES = {"lookup": "Look-up of {:,} random ids", "head": "Tied head, {:,} hidden states"}


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
    bf16: bool = False
    seed: int = 0


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
    return {"see": plan_bytes(*size, bits=default_bits(task.ratio)),
            "see, by parameters": plan_see(*size, known=known),
            "paper, order 2": plan_paper(*size, 2), "paper, order 3": plan_paper(*size, 3)}


def made_up_encoding(plan, words, annotations, seed, ratio):
    """An encoding of a plan with random numbers everywhere."""
    rng, P = np.random.default_rng(seed), None
    if plan.form == "see":
        P = rng.standard_normal((plan.inner_dim, plan.dimension)) / sqrt(plan.dimension)
    encoding = random_encoding(assign(words, annotations, plan), plan, seed, P)
    if plan.coded:
        encoding.index[..., 1] = rng.integers(plan.slot_units, size=encoding.index.shape[:2])
        encoding.bits = default_bits(ratio)
    return encoding


def make_modules(task, dimension, words, annotations):
    """{method: module}, all but dense with about 1 / ratio of its bytes or parameters."""
    torch.manual_seed(task.seed)
    rank = low_rank(task.rows, dimension, task.ratio)
    out = {"dense": Dense(task.rows, dimension), "low-rank": LowRank(task.rows, dimension, rank)}
    for method, plan in plans(task, dimension, annotations).items():
        encoding = made_up_encoding(plan, words, annotations, task.seed, task.ratio)
        out[method] = SememeEmbedding(encoding)
    return out


def call_once(work, x, gradient=None, leaves=()):
    """`work(x)` without a graph; given a gradient of it, also those of the leaves."""
    if gradient is None:
        with torch.no_grad():
            return work(x)
    out = work(x)
    torch.autograd.grad(out, leaves, gradient)
    return out


def seconds(call):
    """Of one call; the device is waited for."""
    threads = torch.get_num_threads()
    return Timer("call()", globals={"call": call}, num_threads=threads).timeit(1).median


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


def measure_calls(calls, repeats, device, contexts=None):
    """{name of a call: peak_bytes; median, least and most of ms}, timed in turn.

    Entering the context of a call, if it has one, is not timed; its memory counts.
    """

    def within(name, work):
        with (contexts or {}).get(name, nullcontext)():
            return work(calls[name])

    peaks = {name: peak_bytes(partial(within, name, lambda call: call()), device)
             for name in calls}  # the warm-up, too
    ms = {name: [] for name in calls}
    for turn in range(repeats):
        for name in np.random.default_rng(turn).permutation(list(calls)).tolist():
            ms[name].append(1000 * within(name, seconds))
    return {name: {"peak_bytes": peaks[name], "ms": statistics.median(own), "low": min(own),
                   "high": max(own), "repeats": len(own)} for name, own in ms.items()}


def call_rows(task, part, size, dimension, modules):
    """Rows of one part, "lookup" of `size` ids or "head" of `size` hidden states, both calls."""
    draw, weight = torch.Generator().manual_seed(task.seed), modules["dense"].weight
    if part == "lookup":
        x = torch.randint(task.rows, (size,), generator=draw).to(weight.device)
        width, work, inputs = dimension, modules, []
    else:
        x = torch.randn(size, dimension, generator=draw).to(weight).requires_grad_()
        width, inputs = task.rows, [x]
        work = {name: module.scores for name, module in modules.items()}
    gradient, rows, see = torch.randn(size, width, generator=draw).to(weight), [], modules["see"]
    for call in CALLS:
        given = None if call == "forward" else gradient
        calls = {name: partial(call_once, work[name], x, given, [*module.parameters(), *inputs])
                 for name, module in modules.items()}
        of, contexts = modules, {}
        if part == "head" and call == "forward":
            calls[CACHED], of = calls["see"], modules | {CACHED: see}
            contexts[CACHED] = partial(cached_rows, see)
        numbers = measure_calls(calls, task.repeats, weight.device, contexts)
        rows += [{"part": part, "call": call, "method": name, "dimension": dimension, "size": size,
                  "parameters": count_parameters(of[name]), "bytes": count_bytes(of[name]), **own,
                  "ratio": own["ms"] / numbers["dense"]["ms"]} for name, own in numbers.items()]
    return rows


def count_parameters(module):
    """Numbers that a module keeps."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_bytes(module):
    """Of a file, with the index; float32 where nothing else is said."""
    if isinstance(module, SememeEmbedding):
        return module.to_encoding().bytes
    return 4 * count_parameters(module)


@device_memory()
def run_bench(task, log=print):
    """Measure everything: {"task", "rows"}.

    A row has part (lookup, head), call, method, dimension, size, parameters, bytes (of a file), ms
    (median), low, high, repeats, ratio (to dense), peak_bytes.

    Raises InputError if a size is below 1, or a form cannot meet the ratio: before any work.
    """
    for name in ("rows", "dimensions", "ids", "states", "repeats"):
        check_at_least(name, np.min(getattr(task, name)), 1)
    V, widest = task.rows, max(task.dimensions)
    for name, numbers in {"dimensions": V * widest, "ids": task.ids * widest,
                          "states": V * max(task.states)}.items():
        if numbers > MOST:
            raise InputError(f"{name}: expected at most {MOST} numbers at once, got {numbers}")
    for dimension in task.dimensions:
        plans(task, dimension), low_rank(V, dimension, task.ratio)
    device, dtype = pick_device(task.device), torch.bfloat16 if task.bf16 else torch.float32
    rows, (words, annotations) = [], synthetic_vocabulary(V, task.seed)
    for dimension in task.dimensions:
        modules = make_modules(task, dimension, words, annotations)
        modules = {name: module.to(device, dtype) for name, module in modules.items()}
        for part, sizes in (("lookup", (task.ids,)), ("head", task.states)):
            for size in sizes:
                log(f"{part}: {size:,} x {dimension} against {V:,} rows")
                rows += call_rows(task, part, size, dimension, modules)
    return {"task": asdict(task) | {"device": device.type}, "rows": rows}


def table(report):
    """The measurement as Markdown: one table per part and size, the environment."""
    task, groups = report["task"], {}  # {(part, dimension, size): {method: {call: row}}}
    for row in report["rows"]:
        lines = groups.setdefault((row["part"], row["dimension"], row["size"]), {})
        lines.setdefault(row["method"], {})[row["call"]] = row
    text = [f"{task['rows']:,} rows at 1/{task['ratio']:g} of the bytes (`see`) or parameters (the "
            "rest); medians in ms, taken in turn in one run; in brackets the ratio to dense. MB: "
            "of a file. Peak: MB held at once beyond parameters, inputs and the result."]
    head = ["method", "parameters", "MB", *CALLS, *(f"peak, {call}" for call in CALLS)]
    for (part, dimension, size), lines in groups.items():
        rows = [[name, *_cells(own)] for name, own in lines.items()]
        text += [f"{TITLES[part].format(size)}, D = {dimension}:",
                 reports.markdown_table(head, rows)]
    return reports.as_markdown(report, *text)


def _cells(own):
    """Of one method: parameters, bytes, the time of each call, the peak of each call."""
    found = [own.get(call) for call in CALLS]
    times = [f"{row['ms']:.3g} ({row['ratio']:.2f})" if row else "–" for row in found]
    peaks = [f"{row['peak_bytes'] / 1e6:,.2f}" if row else "–" for row in found]
    row = next(iter(own.values()))
    return [f"{row['parameters']:,}", f"{row['bytes'] / 1e6:.2f}", *times, *peaks]


def add_arguments(parser):
    """The flags of `bench`."""
    parser.add_argument("--rows", type=int, metavar="V", help="rows of the matrix (default: 30000)")
    parser.add_argument("--dimensions", type=int, nargs="+", metavar="D", help="default: 256 512")
    parser.add_argument("--states", type=int, nargs="+", metavar="N",
                        help="hidden states that a head scores at once (default: 128 512 1)")
    parser.add_argument("--ratio", type=parse_ratio, metavar="R", help="default: 20")
    add_flags(parser, "device", "bf16", "quick", "out")


def run(arguments, command):
    """Measure time and memory, and write bench.json and .md."""
    check_writable(arguments.out)
    task = Bench(**((QUICK if arguments.quick else {}) | given_settings(arguments)))
    report = run_bench(task, reports.progress)
    reports.write_report(report, command, arguments.out, "bench", table)
