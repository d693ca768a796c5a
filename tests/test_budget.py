"""Counting: formulas against encodings, files and slow loops; plans against their budgets."""

import itertools
from dataclasses import replace
from math import prod

import numpy as np
import pytest
from numpy.testing import assert_allclose
from slow import normal

from see_min import Plan, plan_paper, plan_see
from see_min.encoding import SememeEncoding
from see_min.errors import InputError
from see_min.fitting.least_squares import low_rank_encoding, random_encoding
from see_min.storage.budget import leaf_sizes, low_rank, make_plan, plan_bytes, plans_bytes
from see_min.units import Annotation, assign, shared_units

STEMS = ["ab", "ba", "cd", "dc", "ef"]
WORDS = [f"w{i}" for i in range(601)]
NOTES = [  # two senses per word, many shared names
    Annotation(
        ((f"s{i % 41}", f"s{i % 7}"), (f"s{i % 13}",)), (STEMS[i % 5], f"x{i % 31}", f"x{i % 3}")
    )
    for i in range(601)
]
SHAPES = [*itertools.product((500, 1000, 8848, 30000), (64, 96, 256, 768)), (128256, 3072)]
SWEEP = list(itertools.product(SHAPES, (2, 3, 5, 10, 20, 40, 80)))
KINDS = [("see", True), ("see", False), ("paper", True), ("morphemes", True)]
kinds = pytest.mark.parametrize("form, per_term", KINDS)


def plans(form, per_term=True):
    """Every plan of the sweep that the form allows, with its budget in parameters."""
    for ((V, D), ratio), order, known in itertools.product(SWEEP, (2, 3, 4), (0, 900)):
        try:
            yield make_plan(form, V, D, ratio, known, order, per_term), V * D / ratio
        except InputError as error:  # refused only beyond the largest
            assert ratio > largest_of(error)


def largest_of(error):
    return float(str(error).split("expected 1 to ")[1].split()[0])


def built(form, per_term=True, ratio=5, order=2, known=None):
    known = len(shared_units(NOTES)) if known is None else known
    plan = make_plan(form, 601, 48, ratio, known, order, per_term)
    P = np.eye(48)[: plan.inner_dim] if form == "see" else None
    return plan, random_encoding(assign(WORDS, NOTES, plan), plan, 0, P)


@kinds
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("ratio", [2, 8])
def test_parameters_of_a_plan_are_those_of_the_encoding_built_from_it(form, per_term, order, ratio):
    """D27: the arrays are counted one by one; a part that the plan does not name is missed."""
    plan, encoding = built(form, per_term, ratio, order)
    parts = [*encoding.tables, encoding.projection, encoding.bag_vectors]
    counted = sum(array.size for array in parts if array is not None)
    assert plan.parameters == counted == encoding.parameters
    assert (encoding.sizes, encoding.rank) == (plan.sizes, plan.rank)
    assert encoding.shape == (601, 48) and plan.ratio == 601 * 48 / counted >= ratio
    encoding.tables.append(np.ones((3, plan.rank, 1)))
    assert plan.parameters != encoding.parameters


@kinds
def test_plans_keep_to_the_budget_and_leave_less_than_one_unit_per_slot(form, per_term):
    """D28: a unit in every slot costs r sum q_j; at a limit of U less than a bag vector is left.

    All but tiny plans use 97 %: below 1,000 words and 33 units per slot one unit may matter.
    """
    seen = 0
    for plan, budget in plans(form, per_term):
        left, unit = budget - plan.parameters, plan.rank * sum(plan.sizes)
        most = min(256, plan.vocabulary) if per_term else plan.vocabulary
        limited = form == "see" and plan.slot_units == most
        least = left < plan.inner_dim or plan.private == plan.vocabulary
        assert 0 <= left and (least if limited else left < unit), (plan, budget)
        assert limited or plan.parameters >= budget * (1 - 1 / (plan.slot_units + 1))
        assert prod(plan.sizes) == plan.inner_dim
        assert form == "see" or plan.inner_dim == plan.dimension
        assert 2 <= plan.slot_units <= plan.vocabulary and plan.rank >= 1 and min(plan.sizes) > 1
        assert 0 <= plan.private <= plan.vocabulary and 0 <= plan.knowledge <= 900
        assert plan.per_term == per_term and plan.form == form
        every = plan.vocabulary in (plan.slot_units, plan.private)  # a part of its own for each
        small = plan.vocabulary < 1000 and (plan.slot_units < 33 or every)
        assert plan.parameters >= 0.97 * budget or small, (plan, budget)
        seen += 1
    assert seen > 500


@kinds
@pytest.mark.parametrize("ratio", [2, 8])
def test_index_bytes_are_the_bytes_of_the_index_arrays_in_the_file(form, per_term, ratio, tmp_path):
    """D29: the packed arrays of index and bag in the file; a plan allows for bags of 255 units."""
    plan, encoding = built(form, per_term, ratio)
    encoding.save(tmp_path / "e.npz")
    names = ["index.0", "index.1", *["bag.lengths", "bag.units"] * (form == "see")]
    with np.load(tmp_path / "e.npz") as stored:
        assert encoding.index_bytes == sum(stored[name].nbytes for name in names)
        others = {name for name in stored.files if stored[name].dtype.kind == "u"} - {*names}
        assert all("names" in name for name in others)
        lengths = 601 - stored["bag.lengths"].nbytes if form == "see" else 0
    entries = 0 if encoding.bag is None else encoding.bag.nnz
    assert encoding.bytes == 4 * encoding.parameters + encoding.index_bytes
    fixed = plan.bytes(entries) - lengths  # buckets of hashes: some are rare, some slots short
    assert 0.9 * fixed < encoding.bytes <= fixed
    assert plan.bytes(entries + 8) > plan.bytes(entries) or form != "see"  # entries are counted


COUNTS = [(1, 0), (2, 1), (3, 2), (64, 6), (65, 7), (256, 8), (257, 9), (65536, 16), (65537, 17)]


@pytest.mark.parametrize("count, bits", COUNTS)
def test_an_index_entry_takes_the_fewest_bits_that_tell_the_units_of_its_table_apart(
    count, bits, tmp_path
):
    """D29: at the numbers where the width changes; one unit, no bits; no index, no bytes."""
    assert 2**bits >= count > 2**bits / 2
    index = np.array([0, count - 1, min(3, count - 1)]).reshape(3, 1, 1)
    encoding = SememeEncoding([np.zeros((count, 1, 2))], index)
    encoding.save(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as stored:
        assert encoding.index_bytes == -(-3 * bits // 8) == stored["index.0"].nbytes
    assert SememeEncoding([np.zeros((count, 1, 2))], None).index_bytes == 0


@pytest.mark.parametrize("plan, parameters", [
    (Plan(30428, 256, (4, 4, 4, 4), 1, 30428, form="paper"), 486_848),  # word2ket: leaves per word
    (Plan(30428, 256, (4, 4, 4, 4), 1, 14, form="paper"), 224),  # word2ketXS: 14^4 >= 30,428
    (Plan(30428, 256, (4, 4, 4, 4), 2, 14, form="paper"), 448),
    (Plan(81, 16, (2, 2, 2, 2), 5, 3, form="paper"), 120),  # 3^4 = 81
])
def test_counts_of_known_methods_are_plans(plan, parameters):
    """D30: r n V q for word2ket, r n q t with t = ceil(V^(1/n)) for word2ketXS, as built leaves."""
    leaves = [np.zeros((plan.slot_units, plan.rank, q)) for q in plan.sizes]
    assert plan.parameters == parameters == sum(leaf.size for leaf in leaves)
    n, t = len(plan.sizes), plan.slot_units
    assert t == plan.vocabulary or (t - 1) ** n < plan.vocabulary <= t**n


def test_the_count_of_morphte_is_its_leaves_and_its_index_entries():
    """D30: 195,272 = r |M| q + 3 V: 8,848 words, 3,013 morphemes, one table in all three slots."""
    table = np.zeros((3013, 7, 8))
    encoding = SememeEncoding([table, table, table], np.zeros((8848, 1, 3), dtype=int))
    assert encoding.parameters == 168_728
    assert encoding.parameters + encoding.index.size == 195_272
    plan = Plan(8848, 512, (8, 8, 8), 7, 3013, form="morphemes")
    assert plan.parameters == 3 * encoding.parameters  # control: a table per slot


class Number:
    """A number that counts what is done with numbers."""

    done = 0

    def __init__(self, value):
        self.value = value

    def __mul__(self, other):
        Number.done += 1
        return Number(self.value * other.value)

    def __add__(self, other):
        Number.done += 1
        return Number(self.value + other.value)


def numbers(array):
    return [Number(x) for x in array]


def products(leaves):
    """All entries of the product of one term's leaves."""
    out, *rest = leaves
    for leaf in rest:
        out = [a * b for a in out for b in leaf]
    return out


def dot(x, y):
    return sum((a * b for a, b in zip(x, y)), Number(0.0))


def slow_row(encoding, w):
    """One row in loops: products of both halves of the slots, their sum over terms, projection."""
    half, row = encoding.order // 2, numbers([0.0] * encoding.inner_dim)
    leaves = [leaf[0] for leaf in encoding.leaves(np.array([w]))]  # n arrays (r, q_j)
    for k in range(encoding.rank):
        own = [numbers(leaf[k]) for leaf in leaves]
        halves = [products(side) for side in (own[:half], own[half:]) if side]
        row = [x + y for x, y in zip(row, products(halves))]
    if encoding.projection is not None:
        row = [dot(row, numbers(column)) for column in encoding.projection.T]
    return np.array([x.value for x in row])


@pytest.mark.parametrize("sizes", [(5,), (3, 5), (2, 3, 5), (5, 3, 2, 2), (2, 3, 2, 2, 3)])
@pytest.mark.parametrize("form, projected", [("see", True), ("see", False), ("paper", True)])
def test_lookup_flops_are_the_operations_of_a_slow_loop(sizes, form, projected):
    """D31: the loop counts every multiplication and addition, and gives the library's row."""
    d = prod(sizes)
    P = normal(d, d + 2) if form == "see" and projected else None
    D = d if P is None else d + 2
    plan = Plan(7, D, sizes, 3, 4, form=form, projected=projected)
    index = (np.arange(7) % 4)[:, None, None].repeat(len(sizes), 2)
    encoding = SememeEncoding([normal(4, 3, q, seed=q) for q in sizes], index, P)
    Number.done = 0
    assert_allclose(slow_row(encoding, 5), encoding.rows(5), rtol=1e-12, atol=1e-12)
    assert plan.lookup_flops == Number.done


def test_head_flops_are_the_operations_of_a_slow_loop():
    """D31: the projection meets the hidden state once; each of V rows costs 2 d' operations."""
    plan, Number.done = Plan(7, 11, (2, 3), 3, 4), 0
    h, P, rows = normal(11), normal(6, 11, seed=1), normal(7, 6, seed=2)
    inner = [dot(numbers(h), numbers(line)) for line in P]
    scores = [dot(inner, numbers(row)).value for row in rows]
    assert_allclose(scores, rows @ P @ h, rtol=1e-12, atol=1e-12)
    assert plan.head_flops == Number.done
    assert replace(plan, projected=False).head_flops == Number.done - 2 * 6 * 11


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("dimension", [7, 12, 100, 768])
def test_leaf_sizes_are_the_factorisation_of_least_sum(dimension, order):
    divisors = [q for q in range(1, dimension + 1) if dimension % q == 0]
    splits = itertools.product(divisors, repeat=order)
    least = min(sum(split) for split in splits if prod(split) == dimension)
    sizes = leaf_sizes(dimension, order)
    assert (prod(sizes), sum(sizes), len(sizes)) == (dimension, least, order)
    assert sizes == tuple(sorted(sizes, reverse=True))


def test_low_rank_is_the_smallest_rank_that_reaches_the_budget():
    for V, D, ratio in ((4000, 192, 10), (4000, 192, 40), (997, 64, 3)):
        rank = low_rank(V, D, ratio)
        assert (rank - 1) * (V + D) < V * D / ratio <= rank * (V + D)
    encoding = low_rank_encoding(normal(97, 11), np.ones(97), low_rank(97, 11, 3))
    assert encoding.parameters >= 97 * 11 / 3


def test_the_parts_of_a_plan_have_their_shares():
    """The projection at most 2/5 of the budget; of the rest 1/3 for knowledge, 1/8 for products."""
    for plan, budget in plans("see"):
        assert plan.inner_dim * plan.dimension <= 0.4 * budget or plan.inner_dim <= 16
        rest = budget - plan.inner_dim * plan.dimension
        assert plan.knowledge * plan.inner_dim <= rest / 3
        assert plan.slot_units <= 256 and plan.rank <= 16
    plan = plan_see(30000, 384, 10, known=10**6)
    rest = 30000 * 384 / 10 - plan.inner_dim * 384
    assert plan.knowledge * plan.inner_dim > 0.99 * rest / 3  # plenty of known units: all of it
    assert rest / 10 < plan.rank * plan.slot_units * sum(plan.sizes) < rest / 7
    paper = plan_paper(4000, 192, 10, known=10**6)
    assert (paper.private, paper.knowledge) == (paper.slot_units // 4, paper.slot_units // 2)
    units = 4000 * 192 / 10 / sum(paper.sizes)
    assert paper.slot_units == int(units / paper.rank) <= 0.3 * 4000 < units / (paper.rank - 1)


@pytest.mark.parametrize("ratio", [0.5, np.nan, 1e6])
@kinds
def test_ratios_that_cannot_be_met_are_refused_with_the_largest_that_can(form, per_term, ratio):
    text = rf"ratio: expected 1 to \d+\.\d for the form {form} of order \d at this size, got "
    with pytest.raises(InputError, match=text) as caught:
        make_plan(form, 4000, 192, ratio, 0, None, per_term)
    largest = largest_of(caught.value)
    assert make_plan(form, 4000, 192, largest, 0, None, per_term).ratio >= largest
    with pytest.raises(InputError, match=r"ratio: expected 1 to \d+\.\d for low-rank factors "):
        low_rank(4000, 192, ratio)


@pytest.mark.parametrize("shape, ratio", [((2048, 384), 20), ((100, 12), 4), ((30522, 384), 80)])
def test_a_plan_without_a_projection_has_all_directions_and_no_term_more_would_fit(shape, ratio):
    """D91: as many blocks as divide the row; one with a projection needs D (D + 4) bytes more."""
    V, D = shape
    plan = plan_bytes(V, D, ratio, width=None)
    blocks, q = plan.sizes
    assert not plan.projected and blocks * q == plan.inner_dim == D
    assert not any(D % g == 0 for g in range(blocks + 1, min(plan.rank, D) + 1))
    assert plan.bytes(plan.private, 6) <= 4 * V * D / ratio < replace(
        plan, rank=plan.rank + 1, private=0).bytes(0, 6)
    with_P = replace(plan, projected=True)  # what it saves: D rows of D numbers and their steps
    assert with_P.bytes(plan.private, 6) - plan.bytes(plan.private, 6) == -(-6 * D * D // 8) + 4 * D


@pytest.mark.parametrize(("V", "units", "share"), [(10_000, 64, 0.12), (10_001, 256, 0.01)])
def test_usual_plans_of_few_words_have_fewer_units_and_more_private_vectors(V, units, share):
    """D91: a share of the bytes, less than one vector left, and units of an uneven code."""
    plans = [plan for plan in plans_bytes(V, 192, 10, bits=8) if plan.rate < 1]
    shares = [plan.private * plan.inner_dim / (4 * V * 192 / 10) for plan in plans]
    usual = [plan for plan, got in zip(plans, shares)
             if share - plan.inner_dim / (4 * V * 192 / 10) < got <= share]
    assert units in [plan.slot_units for plan in usual]
    assert all(plan.slot_units == units for plan, got in zip(plans, shares) if got < 0.1)


def test_the_plans_of_many_words_are_tried_for_few_where_all_codes_are_of_fixed_length():
    """D91: 1,500 words have too few bytes for 64 units; 4,000 have uneven codes."""
    for V, D, ratio, tried in ((1500, 96, 20, True), (4000, 192, 10, False)):
        plans = plans_bytes(V, D, ratio, bits=8)
        assert all(plan.rate == 1 for plan in plans) == tried
        assert (plan_bytes(V, D, ratio, bits=8, width=3.4, share=0.01) in plans) == tried


@pytest.mark.parametrize(("call", "text"), [
    (lambda: plan_bytes(300, 1, 2), "matrix: columns: expected at least 2, got 1"),
    (lambda: make_plan("best", 4000, 192, 10, 0), "form: expected one of see, paper, morphemes, "),
    (lambda: make_plan("see", 4000, 192, 10, 0, 8), "order: expected 1 to 7 for 192 dimensions, "),
    (lambda: make_plan("paper", 4000, 192, 10, 0, 8), "order: expected 1 to 7 for 192 dimensio"),
])
def test_a_form_an_order_or_a_matrix_that_cannot_be_planned_is_refused(call, text):
    with pytest.raises(InputError, match=f"^{text}"):
        call()
