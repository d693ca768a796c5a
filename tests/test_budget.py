"""Counting: formulas against built encodings, saved files and slow loops; plans against their budgets."""

import itertools
from dataclasses import replace
from math import prod

import numpy as np
import pytest

from see_min.budget import Plan, inner_dimension, leaf_sizes, low_rank, plan_general, plan_policy, plan_product
from see_min.checks import DataError
from see_min.encoding import SememeEncoding
from see_min.fit import low_rank_encoding, random_encoding
from see_min.units import GENERAL, POLICIES, Annotation, Units, assign, shared_units

STEMS = ["ab", "ba", "cd", "dc", "ef"]
WORDS = [f"w{i}" for i in range(601)]
NOTES = [  # two senses a word, many shared names
    Annotation(((f"s{i % 41}", f"s{i % 7}"), (f"s{i % 13}",)), (STEMS[i % 5], f"x{i % 31}", f"x{i % 3}")) for i in range(601)
]
SWEEP = list(itertools.product((500, 1000, 4000, 8848, 30000), (64, 96, 192, 256, 384, 768), (2, 3, 5, 10, 20, 40, 80)))


def plans(form):
    """Every plan of the sweep that the form allows, with its budget in floats."""
    for (V, D, ratio), order, known in itertools.product(SWEEP, (2, 3, 4), (0, 900)):
        try:
            if form == "product":
                yield plan_product(V, D, ratio, order, known), V * D / ratio
            else:
                yield plan_general(V, D, ratio, order, known, **({} if form == "additive" else {form: True})), V * D / ratio
        except DataError as error:
            assert ratio > float(str(error).split("expected 1 to ")[1].split()[0]) - 0.1  # refused only beyond the largest


def built(policy, ratio=5, order=2):
    known = 0 if policy == "backoff" else len(shared_units(NOTES))
    if policy in GENERAL:
        form = {name: policy == name for name in ("amplitudes", "superposed")}
        plan = plan_general(601, 48, ratio, order, known, **form)
    else:
        plan = plan_product(601, 48, ratio, order, known)
    P = np.eye(48)[: plan.inner] if plan.carrier else None
    return plan, random_encoding(assign(WORDS, NOTES, plan, policy), plan, seed=0, carrier=P)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("ratio", [2, 5, 8])
def test_floats_of_a_plan_are_the_floats_of_the_encoding_built_from_it(policy, order, ratio):
    """D27: the arrays are counted one by one."""
    plan, encoding = built(policy, ratio, order)
    arrays = [*encoding.tables, encoding.amplitudes, encoding.carrier, encoding.bag_vectors]
    assert plan.floats == sum(array.size for array in arrays if array is not None) == encoding.floats
    assert encoding.shape == (601, 48) and encoding.sizes == plan.sizes and encoding.rank == plan.rank
    assert plan.ratio == 601 * 48 / plan.floats >= ratio


def test_a_part_that_the_plan_does_not_name_breaks_the_count():
    """D27: the control."""
    plan, encoding = built("additive")
    encoding.amplitudes = np.ones((601, plan.rank))
    assert plan.floats != encoding.floats


@pytest.mark.parametrize("form", ["additive", "amplitudes", "superposed", "product"])
def test_plans_keep_to_the_budget_and_leave_less_than_one_unit_a_slot(form):
    """D28: a slot unit costs r * sum q_j; with 33 or more units a slot 97 % are used. Small vocabularies may own all units."""
    seen = 0
    for plan, budget in plans(form):
        unit = plan.rank * sum(plan.sizes)
        if form == "superposed" and plan.slot_units == 256:
            unit = max(unit, plan.inner)  # slots are full: what is left is less than a vector of the bag
        assert plan.floats <= budget
        full = plan.vocabulary in (plan.slot_units, plan.identity)  # each word owns a unit of every slot, or a vector
        assert budget - plan.floats < unit or full, (plan, budget)
        assert plan.floats >= 0.97 * budget or plan.slot_units < 33 or full, (plan, budget)
        assert prod(plan.sizes) == plan.inner and (plan.carrier or plan.inner == plan.dimension)
        assert 2 <= plan.slot_units <= plan.vocabulary and plan.rank >= 1 and min(plan.sizes) > 1
        assert 0 <= plan.identity <= plan.vocabulary and 0 <= plan.knowledge <= 900
        seen += 1
    assert seen > 1100


def test_all_but_tiny_plans_use_97_percent():
    """D28: from 1,000 words on no plan of orders 2 to 4 has so few units that one of them matters."""
    for form in ("additive", "amplitudes", "superposed", "product"):
        assert all(plan.floats >= 0.97 * budget for plan, budget in plans(form) if plan.vocabulary >= 1000)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("ratio", [2, 8])
def test_index_bytes_are_the_bytes_of_the_index_arrays_in_the_file(policy, ratio, tmp_path):
    """D29: every array of the file that is neither floats nor text is index."""
    _, encoding = built(policy, ratio)
    encoding.save(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as stored:
        arrays = [stored[name] for name in stored.files if stored[name].dtype.kind in "iu"]
    assert encoding.index_bytes == sum(array.nbytes for array in arrays)
    assert len(arrays) == 2 + 2 * (encoding.bag is not None)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("ratio", [2, 5, 8])
def test_bytes_of_a_plan_are_the_bytes_of_the_encoding_built_from_it(policy, ratio):
    plan, encoding = built(policy, ratio)
    entries = 0 if encoding.bag is None else int((encoding.bag >= 0).sum())
    terms = encoding.rank if encoding.index.ndim == 3 else 1
    assert plan.bytes(entries, terms) == 4 * encoding.floats + encoding.index_bytes
    assert plan.bytes(entries + 1, terms) > plan.bytes(entries, terms) or not plan.bag  # the entries are counted


@pytest.mark.parametrize("count, width", [(256, 1), (257, 2), (65536, 2), (65537, 4)])
def test_an_index_entry_takes_the_fewest_bytes_that_hold_its_table(count, width, tmp_path):
    """D29: at the numbers where the width changes."""
    encoding = SememeEncoding([np.zeros((count, 1, 2))], np.array([[0], [count - 1], [3]]))
    encoding.save(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz") as stored:
        assert encoding.index_bytes == 3 * width == stored["index.0"].nbytes


@pytest.mark.parametrize("plan, floats", [
    (Plan(30428, 256, (4, 4, 4, 4), 1, 30428), 486_848),  # word2ket: every word its own leaves
    (Plan(30428, 256, (4, 4, 4, 4), 1, 14), 224),  # word2ketXS: 14 digits a slot, 14^4 = 38,416 >= 30,428
    (Plan(30428, 256, (4, 4, 4, 4), 2, 14), 448),
    (Plan(81, 16, (2, 2, 2, 2), 5, 3), 120),  # 3^4 = 81
])
def test_counts_of_known_methods_are_plans(plan, floats):
    """D30: r n V q for word2ket and r n q t with t = ceil(V^(1/n)) for word2ketXS, by building the leaves."""
    assert plan.floats == floats == sum(np.zeros((plan.slot_units, plan.rank, q)).size for q in plan.sizes)
    assert plan.slot_units ** len(plan.sizes) >= plan.vocabulary
    assert plan.slot_units == plan.vocabulary or (plan.slot_units - 1) ** len(plan.sizes) < plan.vocabulary


def test_the_count_of_morphte_is_its_leaves_and_its_index_entries():
    """D30: 195,272 = r |M| q + 3 V for V = 8,848 words on |M| = 3,013 morphemes; the table stands in all three slots."""
    table = np.zeros((3013, 7, 8))
    encoding = SememeEncoding([table, table, table], np.zeros((8848, 3), dtype=int))
    plan = Plan(8848, 512, (8, 8, 8), 7, 3013, shared=True)
    assert plan.floats == encoding.floats == 168_728
    assert plan.floats + encoding.index.size == 195_272
    assert replace(plan, shared=False).floats == 3 * plan.floats  # control: tables of their own cost three times that


class Counter:
    """Arithmetic on floats that counts what it does."""

    def __init__(self):
        self.done = 0

    def times(self, a, b):
        self.done += 1
        return a * b

    def plus(self, a, b):
        self.done += 1
        return a + b


def slow_row(encoding, w):
    """One row in loops: products of each half of the slots, their sum over terms, the carrier; with the operations done."""
    c, halves = Counter(), []
    leaves = [[list(leaf[k]) for k in range(encoding.rank)] for leaf in (leaf[0] for leaf in encoding.leaves(np.array([w])))]
    if encoding.amplitudes is not None:
        leaves[0] = [[c.times(a, x) for x in leaf] for a, leaf in zip(encoding.amplitudes[w], leaves[0])]
    half = len(leaves) // 2
    for part in (leaves[:half], leaves[half:]):
        products = part[0] if part else None
        for leaf in part[1:]:
            products = [[c.times(a, b) for a in products[k] for b in leaf[k]] for k in range(encoding.rank)]
        halves.append(products)
    left, right = halves
    row = [0.0] * encoding.inner
    for k in range(encoding.rank):
        term = right[k] if left is None else [c.times(a, b) for a in left[k] for b in right[k]]
        row = [c.plus(x, y) for x, y in zip(row, term)]
    if encoding.carrier is not None:
        out = [0.0] * encoding.carrier.shape[1]
        for x, line in zip(row, encoding.carrier):
            out = [c.plus(y, c.times(x, p)) for y, p in zip(out, line)]
        row = out
    return np.array(row), c.done


@pytest.mark.parametrize("sizes", [(5,), (3, 5), (2, 3, 5), (5, 3, 2, 2), (2, 3, 2, 2, 3)])
@pytest.mark.parametrize("amplitudes", [False, True])
@pytest.mark.parametrize("carried", [False, True])
def test_lookup_flops_are_the_operations_of_a_slow_loop(sizes, amplitudes, carried):
    """D31: the loop counts each multiplication and addition, and gives the row that the library gives."""
    d = prod(sizes)
    D = d + 2 if carried else d
    plan = Plan(7, D, sizes, 3, 4, amplitudes=amplitudes, carrier=carried)
    P = np.random.default_rng(0).standard_normal((d, D)) if carried else None
    units = Units(np.arange(7)[:, None] % np.full(len(sizes), 4), None, [], [])
    encoding = random_encoding(units, plan, seed=0, carrier=P)
    row, done = slow_row(encoding, 5)
    np.testing.assert_allclose(row, encoding.rows(5), rtol=1e-12, atol=1e-13)
    assert plan.lookup_flops == done


def test_head_flops_are_the_operations_of_a_slow_loop():
    """D31: the carrier meets the hidden state once, then each of V rows costs d' multiplications and additions."""
    plan, c = Plan(7, 11, (2, 3), 3, 4, carrier=True), Counter()
    rng = np.random.default_rng(0)
    h, P, rows = rng.standard_normal(11), rng.standard_normal((6, 11)), rng.standard_normal((7, 6))

    def dot(x, y):
        total = 0.0
        for a, b in zip(x, y):
            total = c.plus(total, c.times(a, b))
        return total

    inner = [dot(h, line) for line in P]
    np.testing.assert_allclose([dot(inner, row) for row in rows], rows @ P @ h, rtol=1e-12, atol=1e-13)
    assert plan.head_flops == c.done


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("dimension", [2, 7, 12, 64, 100, 192, 384, 768])
def test_leaf_sizes_are_the_factorisation_of_least_sum(dimension, order):
    divisors = [q for q in range(1, dimension + 1) if dimension % q == 0]
    least = min(sum(split) for split in itertools.product(divisors, repeat=order) if prod(split) == dimension)
    sizes = leaf_sizes(dimension, order)
    assert (prod(sizes), sum(sizes), len(sizes)) == (dimension, least, order)
    assert sizes == tuple(sorted(sizes, reverse=True))


def test_low_rank_is_the_smallest_rank_that_reaches_the_budget():
    for V, D, ratio in ((4000, 192, 10), (4000, 192, 40), (997, 64, 3)):
        rank = low_rank(V, D, ratio)
        assert (rank - 1) * (V + D) < V * D / ratio <= rank * (V + D)
    matrix = np.random.default_rng(0).standard_normal((97, 11))
    assert low_rank_encoding(matrix, np.ones(97), low_rank(97, 11, 3)).floats >= matrix.size / 3


def test_the_carrier_takes_at_most_two_fifths_of_the_budget():
    for V, D, ratio in SWEEP:
        inner = inner_dimension(D, ratio, 2, V * D / ratio, rest=0)
        assert inner <= max(4, 1.05 * D / ratio**0.5 + 4, 8) and (inner == 4 or inner * D <= 0.4 * V * D / ratio)


@pytest.mark.parametrize("ratio", [0.5, 0, -3, float("nan"), 1e6])
def test_ratios_that_cannot_be_met_are_refused_with_the_largest_that_can(ratio):
    got = f"with this vocabulary, got {ratio:g}".replace("+", r"\+")
    with pytest.raises(DataError, match=rf"ratio: expected 1 to \d+\.\d for the default form of order 2 {got}"):
        plan_general(4000, 192, ratio)
    with pytest.raises(DataError, match=rf"ratio: expected 1 to \d+\.\d for the papers' form of order 3 {got}"):
        plan_product(4000, 192, ratio)
    with pytest.raises(DataError, match=rf"ratio: expected 1 to 183\.2 for low-rank factors {got}"):
        low_rank(4000, 192, ratio)


def test_the_largest_ratio_that_is_named_can_be_met():
    for form in (plan_general, plan_product):
        with pytest.raises(DataError) as caught:
            form(4000, 192, 1e6)
        largest = float(str(caught.value).split("expected 1 to ")[1].split()[0]) - 0.1  # the text is rounded to one digit
        assert form(4000, 192, largest).ratio >= largest


@pytest.mark.parametrize("policy, form", [("additive", {}), ("amplitudes", {"amplitudes": True}), ("shared", {"shared": True}),
                                          ("superposed", {"superposed": True}), ("backoff", {"known": 0}), ("undealt", {})])
def test_the_plan_of_a_policy_of_the_default_form_is_plan_general(policy, form):
    assert plan_policy(policy, 3001, 96, 7, 500) == plan_general(3001, 96, 7, 2, **{"known": 500} | form)
    assert plan_policy(policy, 3001, 96, 7, 500, 3) == plan_general(3001, 96, 7, 3, **{"known": 500} | form)


@pytest.mark.parametrize("policy", ["senses", "morphemes", "mixed", "terms"])
def test_the_plan_of_a_policy_of_slots_is_plan_product(policy):
    assert plan_policy(policy, 3001, 96, 7, 500) == plan_product(3001, 96, 7, 3, 500)
    assert plan_policy(policy, 3001, 96, 7, 500, 2) == plan_product(3001, 96, 7, 2, 500)


def test_entries_of_terms_with_units_of_their_own_take_one_byte():
    for V, D, ratio in SWEEP:
        plan = plan_general(V, D, min(ratio, V * D / (8 * D + 64)), superposed=True)
        assert plan.slot_units <= 256 and plan.rank <= 16
        assert plan.bytes(terms=plan.rank) - 4 * plan.floats == V * 2 * plan.rank + V  # and a length of the bag


@pytest.mark.parametrize("ratio", [4, 10, 20])
def test_one_table_for_all_slots_is_planned_within_the_budget_with_equal_leaves(ratio):
    plan = plan_general(3001, 96, ratio, known=500, shared=True)
    assert len(set(plan.sizes)) == 1 and plan.floats <= 3001 * 96 / ratio and plan.floats > 0.95 * 3001 * 96 / ratio
