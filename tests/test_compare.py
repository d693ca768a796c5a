"""Comparisons on a matrix whose rows are sums of the vectors of their sememes: knowledge must help, budgets must hold."""

from dataclasses import replace
from math import log

import numpy as np
import pytest

from see_min.checks import DataError
from see_min.compare import (
    CARRIER_POWER,
    CONTROLS,
    FIT_POWER,
    FIXED,
    METHODS,
    RELATED,
    Task,
    approximate,
    by_frequency,
    check_encodings,
    check_methods,
    compare,
    measure,
    plan_of,
    reachable,
    units_of,
)
from see_min.encoding import SememeEncoding
from see_min.fit import frequency_weights, low_rank_encoding
from see_min.lexicon import Lexicon
from see_min.units import GENERAL, POLICIES
from see_min.vocabulary import build_vocabulary

V, D, S = 241, 24, 30  # S sememes
ALL = tuple(dict.fromkeys((*METHODS, *POLICIES)))
SYLLABLES = [first + second for first in "bdfgklmnp" for second in "aiou"]
WORDS = [SYLLABLES[w % 36] + SYLLABLES[7 * w % 35] + SYLLABLES[w // 36] for w in range(V)]


def a_task(noise=0.3, **options):
    """Word w has 1 + w mod 4 sememes, and its row is the sum of their vectors and noise; later columns are smaller."""
    rng = np.random.default_rng(0)
    sememes = [rng.choice(S, 1 + w % 4, replace=False) for w in range(V)]
    columns = 0.8 ** np.arange(D)
    vectors = columns * rng.standard_normal((S, D))  # (S, D)
    E0 = np.array([sum(vectors[s] for s in own) for own in sememes]) + noise * columns * rng.standard_normal((V, D))  # (V, D)
    lexicon = Lexicon.of({word: [tuple(f"m{s}" for s in own)] for word, own in zip(WORDS, sememes)})
    counts = np.floor(3000 / np.arange(1, V + 1))
    return Task(E0, build_vocabulary(WORDS, lexicon, counts, ordered=False, segmentation={}), **{"sweeps": 3, **options})


@pytest.fixture(scope="module")
def task():
    return a_task()


@pytest.fixture(scope="module")
def fits(task):
    """{(method, ratio): approximation} of everything there is."""
    return {(method, ratio): approximate(task, method, ratio) for method in ALL for ratio in (3, 6)}


def slow_error(task, approximation, weights):
    top = bottom = 0.0
    for w in range(V):
        top += weights[w] * ((task.matrix[w] - approximation.rows(np.array([w]))[0]) ** 2).sum()
        bottom += weights[w] * (task.matrix[w] ** 2).sum()
    return top / bottom


def slow_ranks(values):
    return [sum(other < value for other in values) + sum(other == value for other in values) / 2 for value in values]


def slow_spearman(rows, pairs):
    angles = [rows[a] @ rows[b] / np.sqrt((rows[a] @ rows[a]) * (rows[b] @ rows[b])) for a, b, _ in pairs]
    return np.corrcoef(slow_ranks(angles), slow_ranks([score for *_, score in pairs]))[0, 1]


def some_pairs(number=40):
    rng = np.random.default_rng(5)
    return [(*map(int, rng.choice(V, 2, replace=False)), float(i * i % 23)) for i in range(number)]


def spelled(pairs):
    return [(WORDS[a], WORDS[b], score) for a, b, score in pairs]


# knowledge

@pytest.mark.parametrize("ratio", [3, 6])
def test_true_knowledge_leaves_less_than_half_the_error_of_false_of_hashed_and_of_none_at_equal_floats(task, fits, ratio):
    ones = np.ones(V)
    see = fits["see", ratio]
    for method in (*CONTROLS, "backoff"):
        assert fits[method, ratio].floats == see.floats
        assert slow_error(task, see, ones) < 0.5 * slow_error(task, fits[method, ratio], ones), method


def test_true_knowledge_is_worth_nothing_where_rows_have_nothing_to_do_with_it(task):
    """The control of the test above: rows dealt to other words, so that what is known of a word is wrong."""
    dealt = replace(task, matrix=np.random.default_rng(1).permutation(task.matrix))
    see, false = (measure(dealt, approximate(dealt, method, 4), {})["error"] for method in ("see", "shuffled"))
    assert see > 0.8 * false


def test_see_is_the_policy_of_the_task_and_a_control_has_its_plan(task):
    for policy in POLICIES:
        other = replace(task, policy=policy)
        plan = plan_of(task, policy, 4)
        assert all(plan_of(other, method, 4) == plan for method in ("see", *CONTROLS))
        got, wanted = units_of(other, "see", plan), units_of(task, policy, plan)
        np.testing.assert_array_equal(got.index, wanted.index)
        assert list(got.bag_names) == list(wanted.bag_names) and got.names == wanted.names


def test_backoff_has_no_unit_that_any_annotation_names(task):
    names = {name for note in task.vocabulary.annotations for name in note.units}
    see, backoff = (set(units_of(task, method, plan_of(task, method, 4)).bag_names) for method in ("see", "backoff"))
    assert names & see and not names & backoff


@pytest.mark.parametrize("order", [2, 3])
def test_order_of_the_task_is_the_order_of_the_encoding_in_both_forms(task, order):
    for method in ("see", "senses"):
        assert approximate(replace(task, order=order, sweeps=1), method, 4).order == order
    assert [approximate(replace(task, sweeps=1), method, 4).order for method in ("see", "senses")] == [2, 3]


# budgets

@pytest.mark.parametrize("ratio", [3, 6])
@pytest.mark.parametrize("method", [method for method in ALL if method not in FIXED])
def test_floats_of_see_its_controls_and_every_policy_are_within_the_budget_and_use_most_of_it(fits, method, ratio):
    assert 0.9 * V * D / ratio <= fits[method, ratio].floats <= V * D / ratio


@pytest.mark.parametrize("ratio", [3, 6])
@pytest.mark.parametrize("method", ["svd", "weighted-svd"])
def test_floats_of_factors_reach_the_budget_and_would_not_with_a_rank_less(fits, method, ratio):
    floats = fits[method, ratio].floats
    assert floats % (V + D) == 0 and floats - (V + D) < V * D / ratio <= floats


@pytest.mark.parametrize("ratio", [1, 3, 6, 20])
def test_bytes_of_product_quantization_are_within_the_budget_codes_included(task, ratio):
    numbers = measure(task, approximate(task, "pq", ratio), {})
    assert numbers["bytes"] <= 4 * V * D / ratio
    assert numbers["bytes"] > 4 * numbers["floats"]


@pytest.mark.parametrize("method", ALL)
def test_every_method_stands_for_a_matrix_of_the_same_shape_and_is_better_than_nothing(task, fits, method):
    for ratio in (3, 6):
        assert fits[method, ratio].rows(np.arange(V)).shape == (V, D)
    errors = [measure(task, fits[method, ratio], {})["error"] for ratio in (3, 6)]
    assert errors[0] < errors[1] < 1


@pytest.mark.parametrize("method", ["see", "backoff", "svd", "pq", "senses"])
def test_ratio_out_of_reach_is_refused_with_what_the_form_allows(task, method):
    for ratio in (0.5, 1e4):
        with pytest.raises(DataError, match=rf"^ratio: expected 1 to \d+\.\d for .* with this vocabulary, got {ratio:g}$"):
            approximate(task, method, ratio)


# low-rank factors

def test_factors_have_the_least_error_of_their_rank_each_by_its_own_weights(task, fits):
    for method, weights in (("svd", np.ones(V)), ("weighted-svd", task.vocabulary.counts + 1)):
        squares = np.linalg.svd(np.sqrt(weights)[:, None] * task.matrix, compute_uv=False) ** 2
        rank = plan_of(task, method, 6)
        assert slow_error(task, fits[method, 6], weights) == pytest.approx(squares[rank:].sum() / squares.sum(), rel=1e-9)


def test_weighted_factors_are_better_than_plain_ones_by_the_counts_and_worse_without(task, fits):
    counts = frequency_weights(task.vocabulary.counts, CARRIER_POWER)
    for ratio in (3, 6):
        plain, weighted = fits["svd", ratio], fits["weighted-svd", ratio]
        assert slow_error(task, weighted, counts) < slow_error(task, plain, counts)
        assert slow_error(task, weighted, np.ones(V)) > slow_error(task, plain, np.ones(V))


# measuring

def test_dense_matrix_is_measured_as_exact(task):
    got = measure(task, None, {"SIM": spelled(some_pairs())})
    assert (got["floats"], got["bytes"], got["error"], got["weighted_error"]) == (V * D, 4 * V * D, 0, 0)
    assert got["cosine"] == pytest.approx(1, abs=1e-12)
    assert got["scores"]["SIM"] == pytest.approx(slow_spearman(task.matrix, some_pairs()), abs=1e-12)


@pytest.mark.parametrize("method", ["see", "pq"])
def test_measured_numbers_equal_loops_over_the_words(task, fits, method):
    one, E0, pairs = fits[method, 6], task.matrix, some_pairs()
    E = np.array([one.rows(w) for w in range(V)])
    got = measure(task, one, {"SIM": spelled(pairs), "none": [("xyzzy", WORDS[0], 1.0)]})
    assert got["error"] == pytest.approx(slow_error(task, one, np.ones(V)), rel=1e-10)
    assert got["weighted_error"] == pytest.approx(slow_error(task, one, np.sqrt(task.vocabulary.counts + 1)), rel=1e-10)
    angles = [E0[w] @ E[w] / (np.linalg.norm(E0[w]) * np.linalg.norm(E[w])) for w in range(V)]
    assert got["cosine"] == pytest.approx(sum(angles) / V, rel=1e-10)
    rare = [pair for pair in pairs if max(pair[:2]) >= V // 2]
    assert 10 < len(rare) < len(pairs)
    assert got["scores"] == {"SIM": pytest.approx(slow_spearman(E, pairs), abs=1e-12), "none": None}
    assert got["rare_scores"] == {"SIM": pytest.approx(slow_spearman(E, rare), abs=1e-12), "none": None}
    assert got["pairs"] == {"SIM": [len(pairs), len(rare)], "none": [0, 0]}
    assert got["bytes"] == 4 * got["floats"] + one.index_bytes and got["floats"] == one.floats


def test_rare_words_are_the_rarer_half_of_the_words_and_not_of_the_rows(task):
    names = [f"##{word}" if w < 100 else word for w, word in enumerate(WORDS)]  # 141 words, and 100 pieces in front of them
    pieces = build_vocabulary(names, Lexicon.of({}), task.vocabulary.counts, ordered=False, segmentation={})
    middle = 100 + 141 // 2
    pairs = [(WORDS[100], WORDS[middle - 1], 1.0), (WORDS[100], WORDS[middle], 2.0), (WORDS[0], WORDS[-1], 3.0)]
    assert measure(Task(task.matrix, pieces), None, {"SIM": pairs})["pairs"] == {"SIM": [2, 1]}


def test_sentences_are_scored_on_the_whole_matrix_in_the_order_of_the_rows(task, fits):
    seen = []
    for one in (None, fits["see", 6], fits["pq", 6]):
        numbers = measure(task, one, {}, lambda matrix: seen.append(matrix) or 0.25)
        assert numbers["scores"] == {"STS": 0.25} and numbers["rare_scores"] == {} and numbers["pairs"] == {}
    assert (seen[0] == task.matrix).all()
    for matrix, one in zip(seen[1:], (fits["see", 6], fits["pq", 6])):
        np.testing.assert_allclose(matrix, [one.rows(w) for w in range(V)], rtol=1e-12, atol=1e-14)


def test_factors_need_no_index(task, fits):
    assert measure(task, fits["svd", 6], {})["bytes"] == 4 * fits["svd", 6].floats


def test_factors_keep_what_low_rank_encoding_keeps(task, fits):
    assert fits["svd", 6].floats == low_rank_encoding(task.matrix, np.ones(V), plan_of(task, "svd", 6)).floats


# seeds, order, refusals

def test_seed_changes_what_is_random_and_nothing_else(task):
    rows = lambda method, seed: approximate(task, method, 4, seed).rows(np.arange(V))
    for method in ("see", "shuffled", "hashed", "pq"):
        assert (rows(method, 3) == rows(method, 3)).all() and (rows(method, 3) != rows(method, 4)).any(), method
    for method in ("svd", "weighted-svd"):
        assert (rows(method, 3) == rows(method, 4)).all(), method


def test_seed_of_shuffled_deals_the_annotations_anew_and_that_of_see_and_hashed_does_not(task):
    bags = lambda method, seed: units_of(task, method, plan_of(task, method, 4), seed).bag.tolist()
    assert bags("shuffled", 3) != bags("shuffled", 4)
    for method in ("see", "hashed", "backoff"):
        assert bags(method, 3) == bags(method, 4)


def test_compare_has_dense_first_then_ratios_methods_and_seeds_in_the_order_given(task):
    said = []
    rows = compare(replace(task, sweeps=1), ("svd", "see", "pq", "shuffled"), (6, 3), (7, 2), {}, say=said.append)
    wanted = [("dense", 1, 7)]
    for ratio in (6, 3):
        wanted += [("svd", ratio, 7), ("see", ratio, 7), ("see", ratio, 2), ("pq", ratio, 7)]
        wanted += [("shuffled", ratio, 7), ("shuffled", ratio, 2)]
    assert [(row["method"], row["ratio"], row["seed"]) for row in rows] == wanted
    assert [line.split(":")[0] for line in said] == [f"{name} at {ratio}x, seed {seed}" for name, ratio, seed in wanted[1:]]
    assert all(row["seconds"] >= 0 for row in rows)


def test_compare_gives_the_numbers_of_each_approximation_and_says_the_known_scores(task):
    said, benchmarks = [], {"SIM": spelled(some_pairs()), "none": []}
    sentences = lambda matrix: float(np.abs(matrix).mean())
    rows = compare(task, ("see", "svd"), (6,), (3,), benchmarks, sentences, say=said.append)
    for row, one in zip(rows, (None, approximate(task, "see", 6, 3), approximate(task, "svd", 6))):
        numbers = measure(task, one, benchmarks, sentences)
        assert {key: row[key] for key in numbers} == numbers
        assert set(row) == set(numbers) | {"method", "ratio", "seed", "seconds"}
    error, scores = rows[1]["weighted_error"], rows[1]["scores"]
    line = f"see at 6x, seed 3: weighted error {error:.3f}, SIM {scores['SIM']:.3f}, STS {scores['STS']:.3f} ("
    assert said[0].startswith(line) and "none" not in said[0]


@pytest.mark.parametrize("methods, ratios, text", [
    (("see", "svd"), (4, 40), r"1 to 21\.8 for low-rank factors with this vocabulary, got 40"),
    (("see", "pq"), (4, 54), r"1 to 53\.4 for product quantization with this vocabulary, got 54"),
    (("see", "pq"), (4, 57), r"1 to 55\.6 for the default form of order 2 with this vocabulary, got 57"),
    (("see", "pq"), (4, 0.5), r"1 to .*got 0\.5"),
])
def test_compare_refuses_a_ratio_that_one_method_cannot_reach_before_any_work(task, methods, ratios, text):
    def never(*_):
        raise AssertionError("work was done")

    with pytest.raises(DataError, match=f"^ratio: expected {text}$"):
        compare(replace(task, progress=never), methods, ratios, (0,), {}, sentences=never, say=never)


def test_progress_is_called_with_the_method_after_each_sweep_of_a_fit(task):
    called = []
    counted = replace(task, sweeps=2, progress=called.append)
    compare(counted, ("see", "svd", "hashed", "pq"), (4,), (0, 1), {})
    assert called == 4 * ["see"] + 4 * ["hashed"]


def test_check_methods_keeps_the_first_of_each_and_knows_every_policy():
    assert check_methods(["svd", "see", "svd", "pq", "see"]) == ("svd", "see", "pq")
    assert check_methods(ALL) == ALL and set(GENERAL) <= set(ALL)
    assert check_methods(()) == ()


def test_check_methods_names_what_it_does_not_know_and_what_it_does():
    known = dict.fromkeys((*METHODS, *RELATED, *POLICIES))
    with pytest.raises(DataError, match=f"^method: expected one of {', '.join(known)}, got 'sea'$"):
        check_methods(["see", "sea"])
    with pytest.raises(DataError, match=f"^policy: expected one of {', '.join(POLICIES)}, got 'svd'$"):
        check_methods(["see"], policy="svd")


# related methods

def test_all_are_the_default_methods_then_the_related_ones():
    assert METHODS == ("see", "backoff", "shuffled", "hashed", "svd", "weighted-svd", "pq")  # of documents and their numbers
    assert check_methods(["all"]) == check_methods(["see", "all", "tt"]) == tuple(dict.fromkeys((*METHODS, *RELATED)))
    assert check_methods(["tt", "all"])[0] == "tt"


def test_methods_that_draw_nothing_run_once_and_those_that_draw_run_with_every_seed(task):
    drawing = ("word2ket", "morphte", "direction-ae", "offline")
    assert set(RELATED) == {*drawing, *FIXED}
    rows = compare(replace(task, sweeps=1), ("tt", "morphte"), (4,), (0, 5), {})
    assert [(row["method"], row["seed"]) for row in rows[1:]] == [("tt", 0), ("morphte", 0), ("morphte", 5)]


def test_related_methods_get_what_they_take_of_the_task(task):
    got, words = approximate(replace(task, sweeps=2), "morphte", 4, seed=3), task.vocabulary
    weights = frequency_weights(words.counts, FIT_POWER)
    wanted = RELATED["morphte"].run(task.matrix, 4, weights, 3, words.names, words.annotations, sweeps=2)
    assert (got.rows(np.arange(V)) == wanted.rows(np.arange(V))).all()
    assert (approximate(task, "tt", 4).rows(np.arange(V)) == RELATED["tt"].run(task.matrix, 4).rows(np.arange(V))).all()


@pytest.mark.parametrize("method", ["word2ketxs", "tt", "morphte", "direction"])
def test_related_methods_are_measured_as_the_others(task, method):
    one = approximate(task, method, 4)
    got = measure(task, one, {"SIM": spelled(some_pairs())})
    assert got["floats"] == one.floats <= V * D / 4 and got["bytes"] == 4 * one.floats + one.index_bytes
    assert got["error"] == pytest.approx(slow_error(task, one, np.ones(V)), rel=1e-10)
    rows = np.array([one.rows(w) for w in range(V)])
    assert got["scores"]["SIM"] == pytest.approx(slow_spearman(rows, some_pairs()), abs=1e-12)


def test_ratios_out_of_reach_are_left_out_with_a_line_where_that_is_asked_for_as_long_as_something_is_left(task):
    said = []
    rows = compare(replace(task, sweeps=1), ("word2ket", "svd"), (2, 20), (0,), {}, say=said.append, leave_out=True)
    assert [(row["method"], row["ratio"]) for row in rows] == [("dense", 1), ("word2ket", 2), ("svd", 2), ("svd", 20)]
    assert said[0] == ("word2ket at 20x is left out: ratio: expected 1 to 2.6 for word2ket with this vocabulary, got 20")
    assert reachable(task, ("svd", "see"), (2, 4)) == [(2, "svd"), (2, "see"), (4, "svd"), (4, "see")]
    with pytest.raises(DataError, match="^ratio: expected 1 to .* got 1000$"):
        compare(task, ("word2ket", "svd"), (1000,), (0,), {}, say=said.append, leave_out=True)


def test_only_methods_whose_result_is_an_encoding_can_stand_in_a_model(task):
    encodings = [name for name in RELATED if RELATED[name].encoding]
    check_encodings(["see", *encodings, *POLICIES])
    for method in RELATED:
        if method in ("direction-ae", "offline"):
            assert method not in encodings
        else:
            assert isinstance(approximate(task, method, 2), SememeEncoding) == (method in encodings)
        if method not in encodings:
            with pytest.raises(DataError, match=f"^method: expected one whose result is an encoding, got '{method}'$"):
                check_encodings(["see", method])


# rows by frequency

def test_by_frequency_is_a_permutation_that_argsort_undoes(task):
    mixed = np.random.default_rng(2).permutation(V)
    counts = np.floor(task.vocabulary.counts / 40)  # many ties
    vocabulary = replace(task.vocabulary, counts=counts).take(mixed)
    matrix, by_count, order = by_frequency(task.matrix[mixed], vocabulary)
    assert sorted(order) == list(range(V))
    assert (matrix[np.argsort(order)] == task.matrix[mixed]).all()
    back = by_count.take(np.argsort(order))
    assert back.names == vocabulary.names and back.counts.tolist() == vocabulary.counts.tolist()
    assert back.annotations == vocabulary.annotations and back.tokens == vocabulary.tokens


def test_by_frequency_sorts_by_falling_count_and_leaves_ties_in_order(task):
    counts = np.array([2.0, 9.0, 2.0, 0.0, 9.0, 2.0])
    vocabulary = replace(task.vocabulary.take(np.arange(6)), counts=counts)
    matrix, by_count, order = by_frequency(task.matrix[:6], vocabulary)
    assert order.tolist() == [1, 4, 0, 2, 5, 3] and by_count.counts.tolist() == [9, 9, 2, 2, 2, 0]
    assert by_count.names == [WORDS[row] for row in order] and (matrix == task.matrix[order]).all()


def test_words_of_the_task_are_all_different_and_their_counts_fall_as_zipf_says(task):
    """What the other tests take for granted."""
    assert len(set(WORDS)) == V and task.vocabulary.numbers == {word: w for w, word in enumerate(WORDS)}
    assert task.vocabulary.counts[0] == 3000 and log(task.vocabulary.counts[-1]) == pytest.approx(log(3000 / V), abs=0.1)
    assert all(len(note.units) == 1 + w % 4 for w, note in enumerate(task.vocabulary.annotations))


def test_the_carrier_of_see_serves_tokens_and_its_fit_rare_words(fits, task):
    """The carrier's span is that of the leading right singular vectors of rows times the root of their counts."""
    P = fits["see", 3].carrier
    rows = np.sqrt(task.vocabulary.counts + 1)[:, None] * task.matrix
    leading = np.linalg.svd(rows, full_matrices=False)[2][: len(P)]
    np.testing.assert_allclose(P.T @ P, leading.T @ leading, atol=1e-8)
