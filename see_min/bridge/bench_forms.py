"""What is measured: the sizes, and at each of them dense, low-rank, the forms of SEE and the peers within the same floats."""

from dataclasses import dataclass, fields
from math import ceil, sqrt

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from see_min.bridge.layers import SememeEmbedding
from see_min.budget import Plan, leaf_sizes, low_rank, plan_general, plan_product
from see_min.checks import check_at_least
from see_min.entangle import kron_rows
from see_min.fit import random_encoding
from see_min.units import Annotation, assign, shared_units

METHODS = ("dense", "low-rank", "see", "superposed", "see-paper, order 2", "see-paper, order 3")
WHOLE, KEPT = "MorphTE's whole matrix", "see, rows kept"  # of look-ups alone, and of heads without gradients alone
PEERS = {"word2ket": "word2ket 'gpytorch<=1.8.1'", "tensorly-torch": "tensorly tensorly-torch"}  # and what pip is given


@dataclass(frozen=True)
class Bench:
    """What is measured; see `python -m see_min bench --help`. `growth` holds the values that vary alone."""

    rows: int = 30000
    dimensions: tuple = (256, 512)
    ids: int = 2048
    states: tuple = (128, 512, 1)
    ratio: float = 20
    repeats: int = 15
    device: str = "auto"
    threads: int | None = None
    seed: int = 0
    quick: bool = False

    @property
    def growth(self):
        """{axis: values}; the others stand at the second value of theirs."""
        if self.quick:
            return {"vocabulary": (250, 500, 1000, 2000), "dimension": (16, 32, 64, 128), "order": (1, 2, 3, 4),
                    "rank": (2, 4, 8, 16)}
        return {"vocabulary": (4000, 8000, 16000, 32000), "dimension": (128, 256, 512, 1024), "order": (1, 2, 3, 4),
                "rank": (4, 8, 16, 32, 64)}


QUICK = {"rows": 2000, "dimensions": (64,), "ids": 256, "states": (16,), "repeats": 3}


def check(task):
    """Refuse a value below 1, and a size at which a form cannot meet the ratio, before any work."""
    for field in fields(Bench):
        value = getattr(task, field.name)
        for one in value if isinstance(value, tuple) else (value,):
            if field.name not in ("seed", "quick", "device") and one is not None:
                check_at_least(field.name, one, 1)
    check_at_least("seed", task.seed, 0)
    for dimension in task.dimensions:
        plans(task, dimension, ())
        low_rank(task.rows, dimension, task.ratio)


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


class WholeMatrix(nn.Module):
    """The papers' form as MorphTE looks it up: the products of all words, their sum over terms, and then rows of that matrix.

    Source: what the authors' code of arXiv 2210.15379 does, without its layer norm; ours.
    """

    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, ids):
        everything = torch.arange(self.form.num_embeddings, device=ids.device)
        return F.embedding(ids, kron_rows(self.form.leaves(everything)).sum(1))  # (V, r, D), then (V, D), then (W, D)


class KeptRows(nn.Module):
    """The head of a form within `see_min.bridge.layers.kept_rows`: its rows before the carrier were made beforehand."""

    def __init__(self, form):
        super().__init__()
        self.form = form
        with torch.no_grad():
            self.register_buffer("rows", form.inner_rows(torch.arange(form.num_embeddings)))  # (V, d')

    @property
    def held_bytes(self):
        """What is held besides parameters while nothing is computed."""
        return self.rows.nbytes

    def scores(self, h):
        self.form.kept = self.rows
        try:
            return self.form.scores(h)  # (N, V)
        finally:
            self.form.kept = None


def made_up_words(count, seed, sememes=2000, morphemes=5000):
    """Words with three sememes and one morpheme each, drawn with probability 1 / rank.

    Returns
    -------
    (list of str, list of Annotation)

    Examples
    --------
    >>> words, annotations = made_up_words(3, 0)
    >>> words[0], [len(annotation.units) <= 4 for annotation in annotations]
    ('w0', [True, True, True])
    """
    rng, chance = np.random.default_rng(seed), lambda size: 1 / np.arange(1, size + 1) / (1 / np.arange(1, size + 1)).sum()
    known = rng.choice(sememes, (count, 3), p=chance(sememes))  # (V, 3)
    stems = rng.choice(morphemes, count, p=chance(morphemes))  # (V,)
    annotations = [Annotation((tuple(map(str, own)),), (str(stem),)) for own, stem in zip(known, stems)]
    return [f"w{i}" for i in range(count)], annotations


def plans(task, dimension, annotations):
    """The plan of every form of SEE at this size: {method: Plan}; forms with a bag know as many units as the words share."""
    size = task.rows, dimension, task.ratio
    known = len(shared_units(annotations))
    return {"see": plan_general(*size, 2, known), "superposed": plan_general(*size, 2, known, superposed=True),
            "see-paper, order 2": plan_product(*size, 2), "see-paper, order 3": plan_product(*size, 3)}


def units_of(method, plan, words, annotations):
    """Knowledge and identity units for forms with a bag; hashed back-off units in a plain index (V, n) for the papers'."""
    return assign(words, annotations, plan, method if method == "superposed" else "additive" if plan.bag else "backoff")


def modules(task, dimension, words, annotations):
    """{method: nn.Module, or the reason why it is absent}, all with about V D / ratio floats but for dense."""
    torch.manual_seed(task.seed)
    V, rng = task.rows, np.random.default_rng(task.seed)
    out = {"dense": Dense(V, dimension), "low-rank": LowRank(V, dimension, low_rank(V, dimension, task.ratio))}
    for method, plan in plans(task, dimension, annotations).items():
        P = rng.standard_normal((plan.inner, dimension)) / sqrt(dimension) if plan.carrier else None
        out[method] = SememeEmbedding(random_encoding(units_of(method, plan, words, annotations), plan, task.seed, P))
    out[WHOLE], out[KEPT] = WholeMatrix(out["see-paper, order 3"]), KeptRows(out["see"])
    budget = V * dimension / task.ratio
    out["word2ket"] = peer("word2ket", word2ket, V, dimension, budget)
    out["tensorly-torch"] = peer("tensorly-torch", tensorly_torch, V, dimension, budget)
    return out


def peer(name, build, *arguments):
    """build(*arguments), or one line that says why the package cannot be used: whatever it raises, nothing else stops."""
    try:
        return build(*arguments)
    except ModuleNotFoundError:
        return f"not installed: pip install {PEERS[name]}"
    except Exception as error:
        return f"not usable: {first_line(error)} (pip install {PEERS[name]})"


def first_line(error):
    """The first line of an error's text, its type if it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def word2ket(vocabulary, dimension, budget):
    """EmbeddingKetXS of order 2, at the largest rank within the budget: 2 r ceil(sqrt V) ceil(sqrt D) floats.

    Source: arXiv 1911.04975, the authors' package.
    """
    from word2ket import EmbeddingKetXS

    rank = max(1, int(budget / (2 * ceil(sqrt(vocabulary)) * ceil(sqrt(dimension)))))
    return EmbeddingKetXS(vocabulary, dimension, order=2, rank=rank)


def tensorly_torch(vocabulary, dimension, budget):
    """FactorizedEmbedding as a block tensor train of three cores, at the largest rank within the budget.

    The cores hold a r, b r^2 and c r floats, where a, b, c are the products of their two sides.

    Source: TensorLy-Torch, class FactorizedEmbedding.
    """
    from tltorch import FactorizedEmbedding

    shape = FactorizedEmbedding(vocabulary, dimension, factorization="blocktt", rank=1).tensor_shape
    a, b, c = (rows * columns for rows, columns in zip(*shape))
    rank = max(1, int((sqrt((a + c) ** 2 + 4 * b * budget) - (a + c)) / (2 * b)))
    return FactorizedEmbedding(vocabulary, dimension, factorization="blocktt", rank=rank)


def floats(module):
    """Numbers that a module keeps."""
    return sum(parameter.numel() for parameter in module.parameters())


def growth_plan(**at):
    """The papers' form at one point of `growth`: 500 units a slot, or V / 2 where that is less."""
    V, D = at["vocabulary"], at["dimension"]
    return Plan(V, D, leaf_sizes(D, at["order"]), at["rank"], min(500, V // 2))


def growth_form(plan, seed):
    """The module of a plan of `growth`: words of which nothing is known."""
    words, none = [f"w{i}" for i in range(plan.vocabulary)], [Annotation()] * plan.vocabulary
    return SememeEmbedding(random_encoding(units_of("see-paper", plan, words, none), plan, seed))


def growth_flops(plan, states):
    """FLOPs of one row, and of the scores of `states` hidden states: V rows are made, and each state meets each of them.

    Examples
    --------
    >>> growth_flops(Plan(10, 4, (2, 2), 3, 5), 2)              # a row: 2 * 3 * 4; a state: 2 * 10 * 4
    (24, 400)
    """
    return plan.lookup_flops, states * plan.head_flops + plan.vocabulary * plan.lookup_flops


def is_measured(part, call, method):
    """Whether a method has numbers in a part: peers and the whole matrix in look-ups, kept rows in heads without gradients.

    Examples
    --------
    >>> is_measured("head", "forward", "word2ket"), is_measured("lookup", "forward", "word2ket")
    (False, True)
    """
    if method == KEPT:
        return part == "head" and call == "forward"
    return part == "lookup" or method in METHODS


class Work:
    """One call that is measured: forward without a graph, or, given the gradient of its result, forward and backward.

    The gradient exists before the call; those of the parameters and of the input are made by it, as they are cleared first.
    """

    def __init__(self, module, call, x, gradient=None):
        self.module, self.call, self.x, self.gradient = module, call, x, gradient

    def clear(self):
        self.module.zero_grad(set_to_none=True)
        self.x.grad = None

    def __call__(self):
        if self.gradient is None:
            with torch.no_grad():
                return self.call(self.x)
        out = self.call(self.x)
        out.backward(self.gradient)
        return out
