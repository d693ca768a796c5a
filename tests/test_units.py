"""Words -> units: no shared pad, honest controls, the same numbers on every machine."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from see_min.budget import Plan
from see_min.checks import DataError
from see_min.controls import hashed, shuffled
from see_min.encoding import SememeEncoding
from see_min.lexicon import Lexicon
from see_min.units import GENERAL, POLICIES, Annotation, annotate, assign, bucket, shared_units

ROOT = Path(__file__).parents[1]
STEMS = ["tele", "auto", "gram", "graph", "phon"]
WORDS = [f"word{i}" for i in range(300)]
NOTES = [  # every fifth word without annotation, some with two senses, some with morphemes only
    Annotation() if i % 5 == 0
    else Annotation(((f"s{i % 17}", f"s{i % 3}"), (f"s{i % 11}",))[: i % 3], (STEMS[i % 4], f"x{i % 23}", "s")[: 1 + i % 3])
    for i in range(300)
]
SLOTS = Plan(300, 30, (2, 3, 5), 3, 97, identity=20, knowledge=30)
BAG = Plan(300, 30, (2, 3, 5), 3, 97, identity=40, knowledge=15, carrier=True, bag=True)
FILLED = [(name, BAG if name in GENERAL else SLOTS) for name in POLICIES if name != "terms"] + [("backoff", SLOTS)]
CODE = """
import hashlib, json, sys
sys.path.insert(0, "tests")
from test_units import fingerprint
print(json.dumps(fingerprint()))
"""


def fingerprint():
    """A digest of everything that each policy and each control decides."""
    out = {}
    for policy, plan in FILLED:
        units = assign(WORDS, NOTES, plan, policy)
        parts = [units.index.tolist(), units.free.tolist(), units.backoff, units.names, units.bag_names]
        parts.append(None if units.bag is None else units.bag.tolist())
        out[f"{policy} {plan.bag}"] = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    for name, notes in (("shuffled", shuffled(NOTES, 3)), ("hashed", hashed(WORDS, NOTES, 50))):
        out[name] = hashlib.sha256(repr(notes).encode()).hexdigest()
    return out


@pytest.mark.parametrize("hash_seed", ["0", "123"])
def test_units_do_not_depend_on_the_hash_seed_of_the_process(hash_seed):
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == fingerprint()
    assert len(set(fingerprint().values())) == len(FILLED)  # two controls more; 'amplitudes' and 'shared' deal as 'additive'


@pytest.mark.parametrize("slot_units", [61, 64, 192, 256])
@pytest.mark.parametrize("order", [2, 3])
def test_back_off_rows_are_as_many_as_of_independent_draws(slot_units, order):
    """D32: among U^n rows V words hit U^n (1 - (1 - U^-n)^V) on average, for powers of two too.

    The slack is five standard deviations: the variance is at most the expected number of words that meet another one.
    """
    words = [f"w{i}" for i in range(4000)]
    plan = Plan(4000, 0, (2,) * order, 1, slot_units)
    distinct = len(np.unique(assign(words, [Annotation()] * 4000, plan, "backoff").index, axis=0))
    cells = float(slot_units) ** order
    expected = cells * -np.expm1(4000 * np.log1p(-1 / cells))
    assert abs(distinct - expected) <= 5 * np.sqrt(4000 - expected) + 1


def test_a_linear_hash_would_pair_the_buckets_of_two_slots():
    """D32: the control, and the reason for BLAKE2: with a CRC and 256 units 4,000 words have at most 256 rows."""
    import zlib

    rows = {tuple(zlib.crc32(f"w{i} {j}".encode()) % 256 for j in range(3)) for i in range(4000)}
    assert len(rows) <= 256


def test_words_without_annotation_do_not_share_a_pad():
    """D32: in every policy of slots; the buckets of a slot are used evenly."""
    words, notes = [f"w{i}" for i in range(2000)], [Annotation()] * 2000
    for policy in ("morphemes", "senses", "backoff"):
        units = assign(words, notes, Plan(2000, 30, (2, 3, 5), 3, 97), policy)
        rows = np.reshape(units.index, (2000, -1))
        assert len(np.unique(rows, axis=0)) >= 1990  # 97^3 = 912,673 rows: 2.2 pairs of words meet on average
        most = max(np.bincount(column, minlength=97).max() for column in rows.T)
        assert most < 2000 / 97 + 6 * np.sqrt(2000 / 97)


def test_a_shared_pad_confines_short_words_to_r_q1_dimensions():
    """D33: with one pad in slots 2 and 3 the rows of 60 words span r q_1 = 6 dimensions, with back-off units all 30."""
    rng = np.random.default_rng(0)
    plan = Plan(60, 30, (2, 3, 5), 3, 60)
    tables = [rng.standard_normal((60, 3, q)) for q in plan.sizes]
    own = assign(WORDS[:60], [Annotation()] * 60, plan, "backoff").index
    padded = own.copy()
    padded[:, 1:] = 0
    ranks = [np.linalg.matrix_rank(SememeEncoding(tables, index).rows(range(60))) for index in (padded, own)]
    assert ranks == [6, 30]


def explained_by_false_knowledge(M, E0):
    """Mean over all orders of the rows of M of the share of E0 that least squares on them explains."""
    shares = []
    for order in permutations(range(len(M))):
        dealt = M[list(order)]
        best = dealt @ np.linalg.lstsq(dealt, E0)[0]  # (V, D)
        shares.append(1 - ((E0 - best) ** 2).sum() / (E0**2).sum())
    return np.mean(shares)


def test_false_knowledge_explains_its_share_on_average():
    """D43: all 120 orders of five words that have one unit of each of two kinds; not so without ones or around another mean."""
    E0 = np.random.default_rng(0).standard_normal((5, 3)) * [1, 2, 3]
    E0 -= E0.mean(0)
    M = np.array([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1]])  # rank 3
    np.testing.assert_allclose(explained_by_false_knowledge(M, E0), (3 - 1) / (5 - 1), rtol=1e-12)
    assert abs(explained_by_false_knowledge(M, E0 + 1) - 1 / 2) > 0.01
    assert abs(explained_by_false_knowledge(M[:, :1], E0) - 0) > 0.01  # three words without a unit
    one_each = [Annotation(morphemes=(name,)) for name in "abc"]
    assert len({tuple(note.units for note in shuffled(one_each, seed)) for seed in range(60)}) == 6  # every order can be drawn


def test_shuffled_annotations_are_the_same_ones_on_other_words():
    for seed in range(3):
        dealt = shuffled(NOTES, seed)
        assert Counter(dealt) == Counter(NOTES)
        assert [bool(note.units) for note in dealt] == [bool(note.units) for note in NOTES]
        known = [i for i, note in enumerate(NOTES) if note.units]
        assert sum(dealt[i] is NOTES[i] for i in known) < 0.05 * len(known)
    assert shuffled(NOTES, 1) == shuffled(NOTES, 1) != shuffled(NOTES, 2)
    assert shuffled([Annotation()], 0) == [Annotation()]


@pytest.mark.parametrize("buckets", [7, 50, 1000])  # no word has more than 6 units
def test_hashed_annotations_have_as_many_units_and_none_of_the_names(buckets):
    control = hashed(WORDS, NOTES, buckets)
    names = {name for note in NOTES for name in note.units}
    assert [len(note.units) for note in control] == [len(note.units) for note in NOTES]
    assert not names & {name for note in control for name in note.units}
    assert len({name for note in control for name in note.units}) <= buckets


def test_hashed_annotations_do_not_follow_the_knowledge():
    """Words with the same annotation get different ones, where shuffling gives whole groups the same."""
    same = [Annotation((("a", "b"),), ("c",))] * 100
    assert len(set(hashed(WORDS[:100], same, 1000))) > 95
    assert len(set(shuffled(same, 0))) == 1


def test_a_bucket_is_a_fixed_number_below_the_count():
    assert [bucket("a 0", 7), bucket("a 1", 7), bucket("ä", 1000)] == [
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % count
        for text, count in (("a 0", 7), ("a 1", 7), ("ä", 1000))
    ]
    assert {bucket(str(i), 1) for i in range(9)} == {bucket(str(i), 0) for i in range(9)} == {0}


def test_stems_and_affixes_of_the_same_letters_are_different_units():
    assert Annotation(morphemes=("s", "s")).units == ("m:s", "+s")
    assert Annotation((("a", "a"), ("a",)), ()).units == ("s:a",)


def test_shared_units_are_counted_once_a_word_and_ties_go_by_name():
    notes = [Annotation((("b", "a"), ("b",))), Annotation((("a", "b"),)), Annotation((("b",),), ("lone",)), Annotation()]
    assert shared_units(notes) == ["s:b", "s:a"]


def test_annotations_join_lexicon_and_morphemes():
    lexicon = Lexicon.of({"add": [("sum", "do"), ("join",)]})
    assert annotate(["add", "x"], lexicon, [("add",), ()]) == [Annotation((("sum", "do"), ("join",)), ("add",)), Annotation()]


@pytest.mark.parametrize("policy, plan", FILLED)
def test_units_are_as_many_as_planned_and_free_entries_are_back_off(policy, plan):
    units = assign(WORDS, NOTES, plan, policy)
    assert units.index.shape == units.free.shape and units.index.shape[0] == 300 and units.index.shape[-1] == 3
    for j, (low, high) in enumerate(units.backoff):
        column, free = units.index[..., j], units.free[..., j]
        assert len(units.names[j]) == len(set(units.names[j])) == high == plan.slot_units
        assert ((column >= 0) & (column < high)).all()
        assert np.array_equal(free, (column >= low) & (policy != "undealt"))
        assert all(name.startswith("~") == (u >= low) for u, name in enumerate(units.names[j]))
    if plan.bag:
        assert len(units.bag_names) == len(set(units.bag_names)) == plan.identity + plan.knowledge
        assert units.bag.max() < len(units.bag_names)


@pytest.mark.parametrize("policy", ["morphemes", "mixed", "senses"])
def test_identity_units_in_slots_belong_to_one_word_each(policy):
    units = assign(WORDS, NOTES, SLOTS, policy)
    for j in range(3):
        column = units.index[..., j].reshape(300, -1)  # (V, terms)
        for i in range(20):
            assert units.names[j][i] == f"={WORDS[i]}"
            assert np.nonzero((column == i).any(1))[0].tolist() == [i] and (column[i] == i).all()


def test_identity_units_in_the_bag_belong_to_one_word_and_others_share_the_unit_of_their_rank():
    units = assign(WORDS, NOTES, BAG, "additive")
    bags = [[units.bag_names[u] for u in row if u >= 0] for row in units.bag]
    owners = Counter(name for bag in bags for name in bag if name.startswith("="))
    assert len(owners) == 40 - 9 and set(owners.values()) == {1}  # 9 rarity units: 1, 2, 4, .. 256
    for rank, (word, bag) in enumerate(zip(WORDS, bags), start=1):
        own = f"={word}" if rank <= 31 else f"#{2 ** (len(bin(rank)) - 3)}"
        assert [name for name in bag if name[0] in "=#"] == [own]
    kept = set(shared_units(NOTES[31:])[:15])
    known = [[n for n in bag if n[0] not in "=#"] for bag in bags]
    assert known[31:] == [[n for n in note.units if n in kept] for note in NOTES[31:]]
    assert known[:31] == [[]] * 31  # what a word owns outright leaves nothing to share


def test_morphemes_stand_in_the_slot_of_their_place_and_in_every_term():
    words, notes = ["a", "b", "c"], [Annotation(morphemes=("auto", "graph")), Annotation(morphemes=("auto",)), Annotation()]
    units = assign(words, notes, Plan(3, 12, (2, 2, 3), 3, 50, knowledge=9), "morphemes")
    assert units.index.ndim == 2 and units.names[0][0] == "m:auto"
    assert units.index[:2, 0].tolist() == [0, 0] and units.free.tolist() == [[False, True, True]] * 2 + [[True] * 3]


def test_mixed_slots_hold_morphemes_before_sememes_in_every_term():
    note = Annotation((("bank", "money"), ("river", "bank")), ("bank", "s"))
    units = assign(["banks", "banks2"], [note, note], Plan(2, 16, (2, 2, 2, 2), 3, 50, knowledge=9), "mixed")
    assert units.index.ndim == 2
    assert [units.names[j][units.index[0, j]] for j in range(4)] == ["m:bank", "+s", "s:bank", "s:money"]


def test_senses_take_turns_as_terms():
    """Term k has sense k mod 2; the stem stands before the sememes of the sense, affixes after them."""
    note = Annotation((("bank", "money"), ("river",)), ("bank", "s"))
    units = assign(["banks", "banks2"], [note, note], Plan(2, 16, (2, 2, 2, 2), 3, 50, knowledge=9), "senses")
    names = [[units.names[j][units.index[0, k, j]] for j in range(4)] for k in range(3)]
    assert names[0] == names[2] == ["m:bank", "s:bank", "s:money", "+s"]
    assert names[1][:3] == ["m:bank", "s:river", "+s"] and names[1][3].startswith("~")


def test_what_knowledge_does_not_need_goes_to_identity_units():
    plan = replace(BAG, knowledge=200)
    units = assign(WORDS, NOTES, plan, "additive")
    known = [name for name in units.bag_names if name[0] not in "=#"]
    assert 0 < len(known) < 200 and len(units.bag_names) == plan.identity + 200
    assert sum(name[0] == "=" for name in units.bag_names) == plan.identity + 200 - len(known) - 9


def test_in_knowledge_terms_the_first_slot_alone_varies():
    notes = [Annotation((("a", "b", "c"),)), Annotation((("b", "a"),)), Annotation()]
    units = assign(["x", "y", "z"], notes, Plan(3, 8, (2, 2, 2), 5, 12, knowledge=9), "terms")
    name = lambda w, k, j: units.names[j][units.index[w, k, j]]
    assert units.index.shape == (3, 5, 3) and all(len(names) == 12 for names in units.names)
    assert [name(0, k, 0) for k in range(3)][:2] == ["s:a", "s:b"] and name(0, 2, 0).startswith("~")  # "c" has one word alone
    assert [name(1, k, 0) for k in range(2)] == ["s:b", "s:a"]
    assert {name(w, k, j) for w in range(3) for k in range(3) for j in (1, 2)} == {"anchor"}
    assert all(name(w, k, j).startswith("~") for w in range(3) for k in (3, 4) for j in range(3))
    assert np.array_equal(units.free, np.vectorize(lambda w, k, j: name(w, k, j).startswith("~"))(*np.indices((3, 5, 3))))


def test_terms_with_units_of_their_own_tell_more_words_apart_at_the_same_floats():
    """D42: all indices of two units, two slots and three terms: 2^(2 3) different rows, and 2^2 where the terms share units."""
    U, n, r = 2, 2, 3
    rng = np.random.default_rng(0)
    tables = [rng.standard_normal((U, r, q)) for q in (5, 7)]
    own = np.array(list(itertools.product(range(U), repeat=n * r))).reshape(-1, r, n)  # (64, r, n)
    one = np.array(list(itertools.product(range(U), repeat=n)))  # (4, n)

    def row(index):  # (r, n)
        return sum(np.kron(tables[0][index[k, 0], k], tables[1][index[k, 1], k]) for k in range(r))

    rows = {index.tobytes(): row(index) for index in own}
    assert len({tuple(values.round(9)) for values in rows.values()}) == U ** (n * r) == 64
    assert len({tuple(row(np.tile(index, (r, 1))).round(9)) for index in one}) == U**n == 4
    for index, form in ((own, "own"), (one, "one")):
        found = SememeEncoding(tables, index).rows(np.arange(len(index)))
        wanted = [rows[(index[i] if form == "own" else np.tile(index[i], (r, 1))).tobytes()] for i in range(len(index))]
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_superposed_differs_from_the_default_policy_in_the_slots_alone():
    plan = replace(BAG, rank=4)
    own, shared = (assign(WORDS, NOTES, plan, policy) for policy in ("superposed", "additive"))
    assert own.index.shape == (*shared.index.shape[:1], 4, 3) and own.free.all()
    assert np.array_equal(own.bag, shared.bag) and own.bag_names == shared.bag_names
    assert all(len(np.unique(own.index[w], axis=0)) > 1 for w in range(20))  # the hash deals every term anew


def test_undealt_slots_are_those_of_the_default_policy_and_stay():
    dealt, undealt = (assign(WORDS, NOTES, BAG, policy) for policy in ("additive", "undealt"))
    assert np.array_equal(dealt.index, undealt.index) and np.array_equal(dealt.bag, undealt.bag)
    assert dealt.free.all() and not undealt.free.any()


def test_back_off_knows_nothing_but_the_words():
    """Other annotations change nothing, and no unit has a name of the lexicon."""
    one, other = assign(WORDS, NOTES, BAG, "backoff"), assign(WORDS, shuffled(NOTES, 0), BAG, "backoff")
    assert np.array_equal(one.index, other.index) and np.array_equal(one.bag, other.bag) and one.bag_names == other.bag_names
    assert {name[0] for name in one.bag_names} == {"=", "#"}


def test_names_that_one_word_alone_has_are_left_to_back_off():
    notes = [Annotation(morphemes=("rare",)), Annotation()]
    units = assign(["a", "b"], notes, Plan(2, 4, (2, 2), 1, 9, knowledge=5), "morphemes")
    assert units.free.all() and units.backoff == [(0, 9), (0, 9)]


def test_an_unknown_policy_is_answered_with_the_names_of_all():
    with pytest.raises(DataError, match=f"policy: expected one of {', '.join(POLICIES)}, got 'best'"):
        assign(WORDS, NOTES, SLOTS, "best")
