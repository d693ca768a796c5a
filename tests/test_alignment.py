"""Translations of words against sums over all ways to align; the senses that are inherited."""

from itertools import product
from math import log

import numpy as np
import pytest
import scipy.sparse

from see_min.errors import InputError
from see_min.words.alignment import inherited, translation_table
from see_min.words.lexicon import Lexicon, Sense

SIZES = 6, 5


def some_pairs(number=12, seed=0):
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(0, size, rng.integers(1, 5)).tolist() for size in SIZES)
            for _ in range(number)]


def enumerated(pairs, t):
    """log of the sum, over every way to let each e_j come from one f_i, of its probability."""
    total = 0.0
    for source, target in pairs:
        ways = product(range(len(source)), repeat=len(target))
        total += log(sum(np.prod([t[source[i], e] / len(source) for i, e in zip(way, target)])
                         for way in ways))
    return total


def one_round(pairs, t):
    """A round word by word, in two loops."""
    went = np.zeros_like(t)
    for source, target in pairs:
        for e in target:
            whole = sum(t[f, e] for f in source)
            for f in source:
                went[f, e] += t[f, e] / whole
    sums = went.sum(1, keepdims=True)
    return np.divide(went, sums, out=np.zeros_like(went), where=sums > 0)


def test_no_round_lowers_the_likelihood_which_sums_over_all_ways_to_align():
    """D82: the likelihood, summed over all ways to align, never falls; the table is by loops."""
    pairs, sizes = some_pairs(), (SIZES[0] + 1, SIZES[1])  # the last word does not occur
    table, history = translation_table(pairs, sizes, rounds=9)
    t = np.full(sizes, 1 / SIZES[1])
    for value in history:
        assert value == pytest.approx(enumerated(pairs, t), rel=1e-9)
        t = one_round(pairs, t)
    assert np.diff(history).min() >= -1e-9 and history[-1] > history[0] + 1
    np.testing.assert_allclose(table.toarray(), t, atol=1e-12)
    np.testing.assert_allclose(table.sum(1), [1.0] * SIZES[0] + [0.0], atol=1e-12)


def test_likelihood_falls_where_shares_are_swapped():
    """Control: what is not a round of the algorithm can lower it."""
    pairs = some_pairs()
    t = translation_table(pairs, SIZES)[0].toarray()
    assert enumerated(pairs, t[::-1] + 1e-9) < enumerated(pairs, t + 1e-9) - 1


@pytest.mark.parametrize("pairs, rounds, text", [
    ([([], [1]), ([1], [])], 5,
     "pairs: number of pairs with words on both sides: expected at least 1, got 0"),
    ([([9], [1])], 5, "source ids: expected whole numbers from 0 to 5, got 9"),
    ([([1], [1])], 0, "rounds: expected at least 1, got 0"),
])
def test_bad_pairs(pairs, rounds, text):
    with pytest.raises(InputError, match=f"^{text}$"):
        translation_table(pairs, SIZES, rounds)


def test_a_word_inherits_the_senses_of_its_likely_translations_the_likeliest_first():
    table = scipy.sparse.csr_array(np.array(
        [[0.3, 0.6, 0.1, 0], [0, 0.15, 0.85, 0], [0.25, 0.25, 0.25, 0.25], [0, 0, 0, 1]]))
    compete, vehicle = Sense(("compete",), pos="verb"), Sense(("vehicle",))
    entries = {"car": (vehicle,), "rally": (compete, vehicle), "race": (compete,)}
    words, targets = ["rallyeauto", "rennen", "drei", "der"], ["car", "rally", "race", "the"]
    assert inherited(words, table, targets, Lexicon(entries)).entries == {
        "rallyeauto": (compete, vehicle),  # each sense once
        "rennen": (compete,),  # 0.15 is too little
        "drei": (vehicle, compete),  # two translations at most
    }  # no translation of "der" has a sense
