"""Words -> units: no shared pad, controls, the same numbers on every machine and row order."""

import itertools
import json
import zlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from slow import close, normal, slow_matrix

from see_min import Unit, annotate, assign, random_units, shuffled
from see_min.encoding import SememeEncoding
from see_min.storage.budget import Plan
from see_min.units import Annotation, shared_units
from see_min.words.lexicon import Lexicon

STEMS = ["tele", "auto", "gram", "graph", "phon"]
WORDS = [f"word{i}" for i in range(300)]


def note(i):
    """Every fifth word without annotation, some with two senses, some with morphemes only."""
    senses = ((f"s{i % 17}", f"s{i % 3}"), (f"s{i % 11}",))[: i % 3]
    morphemes = (STEMS[i % 4], f"x{i % 23}", "s")[: 1 + i % 3]
    return Annotation(senses, morphemes) if i % 5 else Annotation()


NOTES = [note(i) for i in range(300)]
SEE = Plan(300, 30, (2, 3, 5), 4, 97, private=40, knowledge=15)
PAPER = Plan(300, 30, (2, 3, 5), 3, 97, private=20, knowledge=30, form="paper")
MORPHEMES = replace(PAPER, form="morphemes")
PLANS = [SEE, replace(SEE, per_term=False), PAPER, MORPHEMES]
plans = pytest.mark.parametrize("plan", PLANS, ids=["see", "see-shared", "paper", "morphemes"])


def test_units_are_the_same_in_every_process_and_on_every_machine():
    """Files of derived bags are read by them. Python's own hashes differ in every process."""
    parts = [repr(random_units(WORDS, NOTES, 50))]
    for plan in PLANS:
        u = assign(WORDS, NOTES, plan)
        bag = None if u.bag is None else u.bag.toarray().tolist()
        parts.append(json.dumps([u.index.tolist(), u.free.tolist(), u.buckets, u.slot_names, bag]))
    assert f"{zlib.crc32(''.join(parts).encode()):08x}" == "71775d88"


@pytest.mark.parametrize("slot_units", [61, 64, 256])
@pytest.mark.parametrize("order", [2, 3])
def test_bucket_rows_are_as_many_as_of_independent_draws(slot_units, order):
    """D32: among U^n rows V words hit U^n (1 - (1 - U^-n)^V) on average, for powers of two too.

    Slack: five standard deviations; the variance is at most the number of words that meet.
    """
    words, plan = [f"w{i}" for i in range(4000)], Plan(4000, 0, (2,) * order, 1, slot_units)
    distinct = len(np.unique(assign(words, [Annotation()] * 4000, plan).index, axis=0))
    cells = float(slot_units) ** order
    expected = cells * -np.expm1(4000 * np.log1p(-1 / cells))
    assert 4000 - 4000**2 / (2 * cells) <= expected <= 4000
    assert abs(distinct - expected) <= 5 * np.sqrt(4000 - expected) + 1


def test_a_linear_hash_would_pair_the_buckets_of_two_slots():
    """D32: the control, and the reason for BLAKE2: by CRC 4,000 words have at most 256 rows."""
    slots = [[zlib.crc32(f"w{i} {j}".encode()) % 256 for j in range(3)] for i in range(4000)]
    assert len(set(map(tuple, slots))) <= 256


@pytest.mark.parametrize("form", ["see", "paper", "morphemes"])
def test_words_without_annotation_do_not_share_a_pad(form):
    """D32: in every form; the buckets of a slot are used evenly."""
    words, plan = [f"w{i}" for i in range(2000)], Plan(2000, 30, (2, 3, 5), 3, 97, form=form)
    rows = assign(words, [Annotation()] * 2000, plan).index.reshape(2000, -1)
    assert len(np.unique(rows, axis=0)) >= 1990  # 97^3 rows: 2.2 pairs of words meet on average
    most = max(np.bincount(column, minlength=97).max() for column in rows.T)
    assert most < 2000 / 97 + 6 * np.sqrt(2000 / 97)


def test_a_shared_pad_confines_short_words_to_r_q1_dimensions():
    """D33: with one pad in slots 2 and 3 rows of 60 words span r q_1 = 6 dimensions, else 30."""
    plan = Plan(60, 30, (2, 3, 5), 3, 60, per_term=False)
    tables = [normal(60, 3, q, seed=q) for q in plan.sizes]
    own = assign(WORDS[:60], [Annotation()] * 60, plan).index
    padded = own.copy()
    padded[..., 1:] = 0
    encodings = [SememeEncoding(tables, index) for index in (padded, own)]
    assert [np.linalg.matrix_rank(e.rows(range(60))) for e in encodings] == [6, 30]


def explained_by_permuted(M, E0):
    """Mean over all orders of the rows of M of the share of E0 that they explain."""
    shares = []
    for order in itertools.permutations(range(len(M))):
        permuted = M[list(order)]
        best = permuted @ np.linalg.lstsq(permuted, E0)[0]  # (V, D)
        shares.append(1 - ((E0 - best) ** 2).sum() / (E0**2).sum())
    return np.mean(shares)


def test_shuffled_annotations_explain_their_share_on_average():
    """D43: all 120 orders of five words with one unit of each of two kinds; not so otherwise."""
    E0 = normal(5, 3) * [1, 2, 3]
    E0 -= E0.mean(0)
    M = np.array([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1]])  # rank 3
    assert_allclose(explained_by_permuted(M, E0), (3 - 1) / (5 - 1), rtol=1e-12)
    assert abs(explained_by_permuted(M, E0 + 1) - 1 / 2) > 0.01  # columns with a mean
    assert explained_by_permuted(M[:, :1], E0) > 0.01  # three words without a unit, rank 1
    one_each = [Annotation(morphemes=(name,)) for name in "abc"]
    orders = Counter(tuple(one.units for one in shuffled(one_each, seed)) for seed in range(600))
    assert len(orders) == 6  # 100 of each on average; slack: five standard deviations of 9.1
    assert 100 - 46 < min(orders.values()) and max(orders.values()) < 100 + 46


def test_shuffled_annotations_are_the_same_ones_on_other_words():
    for seed in range(3):
        permuted = shuffled(NOTES, seed)
        assert Counter(permuted) == Counter(NOTES)
        assert [bool(one.units) for one in permuted] == [bool(one.units) for one in NOTES]
        same = sum(a is b for a, b in zip(permuted, NOTES) if b.units)
        assert same < 0.05 * len(NOTES)
    assert shuffled(NOTES, 1) == shuffled(NOTES, 1) != shuffled(NOTES, 2)
    assert shuffled([Annotation()], 0) == [Annotation()]


@pytest.mark.parametrize("n_units", [7, 50, 1000])  # no word has more than 6 units
def test_random_units_are_as_many_and_follow_no_knowledge(n_units):
    control = random_units(WORDS, NOTES, n_units)
    names = {unit for one in control for unit in one.units}
    assert [len(one.units) for one in control] == [len(one.units) for one in NOTES]
    assert len(names) <= n_units and not names & {unit for one in NOTES for unit in one.units}
    same = [Annotation((("a", "b"),), ("c",))] * 100  # shuffling would give them the same again
    assert len(set(random_units(WORDS[:100], same, 1000))) > 95


def test_annotations_have_units_whose_kinds_are_told_apart_and_read_back():
    lexicon = Lexicon.of({"add": [("sum", "do"), ("join",)]})
    known, unknown = annotate(["add", "x"], lexicon, [("add",), ()])
    assert known == Annotation((("sum", "do"), ("join",)), ("add",)) and unknown == Annotation()
    stem, affix = Annotation(morphemes=("s", "s")).units
    assert (str(stem), str(affix)) == ("stem:s", "affix:s")
    once = Annotation((("a", "a"), ("a",)), ("", "x")).units
    assert once == (Unit("sememe", "a"), Unit("affix", "x"))
    assert Unit.parse(str(Unit("word", "a:b"))) == Unit("word", "a:b")


def test_shared_units_are_counted_once_per_word_and_ties_go_by_name():
    senses = [(("b", "a"), ("b",)), (("a", "b"),), (("b",),), ()]
    notes = [Annotation(one, (f"x{i}",)) for i, one in enumerate(senses)]
    assert [str(unit) for unit in shared_units(notes)] == ["sememe:b", "sememe:a"]


@plans
def test_units_are_as_many_as_planned_and_free_entries_are_buckets(plan):
    units = assign(WORDS, NOTES, plan)
    terms = {"see": 4 if plan.per_term else 1, "paper": 3, "morphemes": 1}[plan.form]
    assert units.index.shape == units.free.shape == (300, terms, 3)
    for j, (low, high) in enumerate(units.buckets):
        column, names = units.index[..., j], units.slot_names[j]
        assert len(names) == len(set(names)) == high == plan.slot_units
        assert ((column >= 0) & (column < high)).all()
        assert np.array_equal(units.free[..., j], column >= low)
        assert all((name.kind == "bucket") == (u >= low) for u, name in enumerate(names))
    if plan.form == "see":
        assert units.bag.shape == (300, plan.private + plan.knowledge)
        assert len(set(units.bag_names)) == units.bag.shape[1] and set(units.bag.data) == {1.0}


@plans
def test_rows_in_any_order_have_the_same_units(plan):
    """Ranks come from counts, so permuted words get permuted units; ties go by row."""
    counts = 1000.0 / (1 + np.arange(300))
    order = np.random.default_rng(1).permutation(300)
    one = assign(WORDS, NOTES, plan, counts)
    other = assign([WORDS[w] for w in order], [NOTES[w] for w in order], plan, counts[order])
    assert np.array_equal(other.index, one.index[order])
    assert np.array_equal(other.free, one.free[order])
    assert (other.slot_names, other.bag_names) == (one.slot_names, one.bag_names)
    if plan.form == "see":
        assert np.array_equal(other.bag.toarray(), one.bag.toarray()[order])
    fallen = assign(WORDS, NOTES, plan)
    assert np.array_equal(fallen.index, one.index) and fallen.bag_names == one.bag_names
    rising = assign(WORDS, NOTES, plan, counts[::-1])
    assert (rising.slot_names, rising.bag_names) != (one.slot_names, one.bag_names)


@pytest.mark.parametrize("plan", [PAPER, MORPHEMES], ids=["paper", "morphemes"])
def test_private_units_in_slots_belong_to_one_word_each(plan):
    units = assign(WORDS, NOTES, plan)
    for j, i in itertools.product(range(3), range(20)):
        assert units.slot_names[j][i] == Unit("word", WORDS[i])
        column = units.index[..., j]
        assert np.nonzero((column == i).any(1))[0].tolist() == [i] and (column[i] == i).all()


def test_private_vectors_belong_to_one_word_and_others_share_their_frequency_bin():
    units = assign(WORDS, NOTES, SEE)
    bags = [[units.bag_names[u] for u in np.nonzero(row)[0]] for row in units.bag.toarray()]
    more = assign(WORDS, NOTES, replace(SEE, knowledge=200)).bag_names  # more than there is
    left = 240 - 9 - sum(unit.kind in ("sememe", "stem", "affix") for unit in more)
    assert sum(unit.kind == "word" for unit in more) == left > SEE.private
    owners = Counter(unit for bag in bags for unit in bag if unit.kind == "word")
    assert len(owners) == 40 - 9 and set(owners.values()) == {1}  # 9 bins: 1, 2, 4, .. 256
    kept = set(shared_units(NOTES[31:])[:15])
    for rank, (word, own, bag) in enumerate(zip(WORDS, NOTES, bags), start=1):
        if rank <= 31:  # what a word owns leaves nothing to share
            assert bag == [Unit("word", word)]
        else:
            known = {unit for unit in own.units if unit in kept}
            assert set(bag) == known | {Unit("frequency", str(2 ** (len(bin(rank)) - 3)))}


def slots_of(units, w, k):
    return [str(units.slot_names[j][units.index[w, k, j]]) for j in range(units.index.shape[2])]


def test_morphemes_stand_in_the_slot_of_their_place_and_in_every_term():
    notes = [Annotation(morphemes=("auto", "graph")), Annotation(morphemes=("auto",)), Annotation()]
    plan = Plan(3, 12, (2, 2, 3), 3, 50, knowledge=9, form="morphemes")
    units = assign(["a", "b", "c"], notes, plan)
    assert slots_of(units, 0, 0)[0] == slots_of(units, 1, 0)[0] == "stem:auto"
    assert units.free[:, 0].tolist() == [[False, True, True]] * 2 + [[True] * 3]  # graph: one word


def test_senses_take_turns_as_terms():
    """Term k has sense k mod 2; the stem stands before the sememes of the sense, affixes after."""
    one = Annotation((("bank", "money"), ("river",)), ("bank", "s"))
    plan = Plan(2, 16, (2, 2, 2, 2), 3, 50, knowledge=9, form="paper")
    units = assign(["banks", "banks2"], [one, one], plan)
    first = ["stem:bank", "sememe:bank", "sememe:money", "affix:s"]
    assert slots_of(units, 0, 0) == slots_of(units, 0, 2) == first
    second = slots_of(units, 0, 1)
    assert second[:3] == ["stem:bank", "sememe:river", "affix:s"] and units.free[0, 1, 3]


@pytest.mark.parametrize("U, r", [(2, 3), (3, 2), (5, 2)])
def test_terms_with_their_own_index_tell_more_words_apart_at_the_same_parameters(U, r):
    """D42: two slots, r terms: U^(2 r) different rows; a shared index has U^2."""
    n = 2
    tables = [normal(U, r, q, seed=q) for q in (5, 7)]
    own = np.array(list(itertools.product(range(U), repeat=n * r))).reshape(-1, r, n)
    shared = np.array(list(itertools.product(range(U), repeat=n))).reshape(-1, 1, n)
    for index, distinct in ((own, U ** (n * r)), (shared, U**n)):
        encoding = SememeEncoding(tables, index)
        rows = slow_matrix(encoding)
        assert len(np.unique(rows.round(9), axis=0)) == distinct == len(index)
        close(encoding.rows(np.arange(len(index))), rows)
        assert encoding.parameters == r * U * (5 + 7)


def test_an_index_per_term_changes_the_slots_alone():
    own, shared = (assign(WORDS, NOTES, plan) for plan in PLANS[:2])
    assert np.array_equal(own.index[:, :1], shared.index) and own.free.all() and shared.free.all()
    assert np.array_equal(own.bag.toarray(), shared.bag.toarray())
    assert all(len(np.unique(own.index[w], axis=0)) > 1 for w in range(20))  # every term anew
