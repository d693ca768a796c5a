"""encode: one recipe for all kinds of words, rows in any order; controls; what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from slow import close, error, same

import see_min as see
from see_min.encoding import private_units
from see_min.errors import InputError
from see_min.fitting.least_squares import frequency_weights, projection, random_encoding
from see_min.fitting.starts import Mapped, metric_roots, quantizer_encoding
from see_min.recipe import CONTROLS, FIT_POWER, PROJECTION_POWER, RIDGE_CODED, plan_of, plans_of
from see_min.related import quantizers
from see_min.storage import budget
from see_min.storage.budget import make_plan
from see_min.storage.encodings import rounded
from see_min.units import shared_units
from see_min.words.lexicon import Lexicon

STEMS = [a + b for a in "bdfgklmnprst" for b in ("ale", "one", "ive", "ump")]  # 48
WORDS = [stem + ending for ending in ("", "s", "ed", "ing") for stem in STEMS]
LEXICON = Lexicon.of({stem: [(f"kind{i % 6}", f"trait{i % 5}")] for i, stem in enumerate(STEMS)})
V, D = len(WORDS), 24
ROWS = np.arange(V)
COUNTS = 1e4 / (1 + ROWS) ** 1.2


def matrix_of_meaning():
    """Sums of vectors of what words are made of, and noise."""
    rng = np.random.default_rng(0)
    kinds, traits, endings = (rng.standard_normal((k, D)) for k in (6, 5, 4))
    stem = ROWS % 48
    rows = kinds[stem % 6] + traits[stem % 5] + endings[ROWS // 48]
    return rows + 0.3 * rng.standard_normal((V, D))


E0 = matrix_of_meaning()


def encode(words=WORDS, matrix=E0, **options):
    given = {"ratio": 4, "lexicon": LEXICON, "sweeps": 3, "count": "parameters", **options}
    return see.encode(matrix, words, **given)


def by_bytes(**options):
    return encode(**{"count": "bytes", "counts": COUNTS, "ratio": 8, "sweeps": 1, **options})


def test_the_recipe_is_the_steps_one_by_one():
    vocabulary = see.build_vocabulary(WORDS, LEXICON, COUNTS)
    known = len(shared_units(vocabulary.annotations))
    plan = make_plan("see", V, D, 4, known)
    units = see.assign(WORDS, vocabulary.annotations, plan, vocabulary.counts)
    P = projection(E0, frequency_weights(vocabulary.counts, PROJECTION_POWER), plan.inner_dim)
    weights = frequency_weights(vocabulary.counts, FIT_POWER)
    expected, _ = see.fit(E0, random_encoding(units, plan, 5, P), weights, units, 3)
    encoding = encode(counts=COUNTS, seed=5)
    assert plan == plan_of((V, D), vocabulary, 4, count="parameters") and encoding.words == WORDS
    expected.words = WORDS
    same(encoding, expected)
    assert encoding.parameters == plan.parameters <= V * D / 4 < 1.03 * plan.parameters


def test_lists_dicts_vocabularies_and_mapped_files_have_one_result(tmp_path):
    one = by_bytes()
    ids = {WORDS[w]: int(w) for w in np.random.default_rng(0).permutation(V)}
    same(by_bytes(words=ids), one)
    vocabulary = see.build_vocabulary(WORDS, LEXICON, COUNTS)
    same(by_bytes(words=vocabulary, lexicon="none", counts=None), one)  # it brings its own
    np.save(tmp_path / "e.npy", E0)
    same(by_bytes(matrix=np.load(tmp_path / "e.npy", mmap_mode="r")), one)


@pytest.mark.parametrize("form", ["see", "paper", "morphemes"])
def test_rows_in_any_order_give_the_same_encoding_permuted(form):
    """To 1e-9: sums over words in another order. The same words are segmented from any order."""
    order = np.random.default_rng(1).permutation(V)
    one = encode(counts=COUNTS, form=form)
    other = encode([WORDS[w] for w in order], E0[order], counts=COUNTS[order], form=form)
    assert np.array_equal(other.index, one.index[order]) and other.bag_names == one.bag_names
    close(other.rows(ROWS), one.rows(order), rtol=1e-9)
    if form == "see":
        assert np.array_equal(other.bag.toarray(), one.bag.toarray()[order])
    wrong = encode(counts=COUNTS[order], form=form)  # the same rows, other frequencies
    assert not np.allclose(wrong.rows(ROWS), one.rows(ROWS))


def test_without_counts_rows_stand_by_falling_frequency():
    vocabulary = see.build_vocabulary(WORDS, LEXICON)
    assert (np.diff(vocabulary.counts) < 0).all()
    same(encode(), encode(counts=vocabulary.counts))
    private = {unit.name for unit in named(encode(), "word")}
    assert private == set(WORDS[: len(private)]) and private
    rising = {unit.name for unit in named(encode(counts=ROWS + 1.0), "word")}
    assert rising == set(WORDS[-len(private) :])


METRIC = np.diag(np.linspace(0.1, 3, D))


def best_start(matrix, vocabulary, plans, weights, seed):
    """The start of lowest weighted error of all plans, and its Units."""
    power, starts = frequency_weights(vocabulary.counts, PROJECTION_POWER), []
    for plan in plans:
        units = see.assign(WORDS, vocabulary.annotations, plan, vocabulary.counts)
        P = projection(matrix, power, plan.inner_dim)
        start, price = quantizer_encoding(matrix, units, plan, P, weights, seed)
        unfitted = see.fit(matrix, start, weights, sweeps=0)[0]
        starts.append((see.relative_error(matrix, unfitted, weights), start, units, price))
    return min(starts, key=lambda one: one[0])[1:]


def test_the_recipe_by_bytes_is_the_steps_one_by_one_in_the_metric():
    """Rows in the coordinates of the metric, the best quantizer, the fit, the way back, bits."""
    vocabulary = see.build_vocabulary(WORDS, LEXICON, COUNTS)
    S, inverse = metric_roots(METRIC, 0.6)
    matrix, weights = Mapped(E0, S), frequency_weights(vocabulary.counts, FIT_POWER)
    plans = plans_of((V, D), vocabulary, 8, derived=True, bits=8)
    assert not all(plan.projected for plan in plans)
    plans = [plan for plan in plans if plan.projected]  # where the way back goes
    start, units, price = best_start(matrix, vocabulary, plans, weights, 5)
    expected, history = see.fit(E0 @ S, start, weights, units, 1, RIDGE_CODED, True, price)
    P = expected.projection @ inverse
    expected = replace(expected, projection=P, words=WORDS, bag_derived=True)
    how = {"metric": METRIC, "mix": 0.6, "derived": True, "bits": 8, "seed": 5}
    encoding = by_bytes(**how)
    same(encoding, rounded(expected, 8))
    assert encoding.bits == 8 and encoding.bag_derived and len(plans) > 1
    assert named(encoding, "sememe")
    assert encoding.bytes <= 4 * V * D / 8 < 1.1 * encoding.bytes
    plain = by_bytes(**how | {"metric": np.eye(D)})  # of the same plans
    seen = [error(E0 @ S, one.rows(ROWS) @ S, weights) for one in (encoding, plain)]
    assert seen[0] < seen[1]  # what it was fitted to


@pytest.mark.parametrize("seed, ratio", [(0, 4), (1, 4), (2, 8)])
def test_on_few_words_see_is_at_least_as_good_as_plain_product_quantization(
    seed, ratio, monkeypatch, tmp_path
):
    """One of the plans has no projection. Control: the others alone do worse."""
    matrix = np.random.default_rng(seed).standard_normal((V, D))  # no direction stands out
    weights = frequency_weights(COUNTS, FIT_POWER)
    plain = quantizers.fit(matrix, ratio, "pq", weights)
    one = by_bytes(matrix=matrix, ratio=ratio, seed=seed, lexicon="none")
    assert one.projection is None and plain.projection is None
    least = see.relative_error(matrix, one, weights)
    assert least < see.relative_error(matrix, plain, weights)
    one.save(tmp_path / "e.npz")
    same(see.SememeEncoding.load(tmp_path / "e.npz"), one)
    monkeypatch.setattr(budget, "GRID", [kind for kind in budget.GRID if kind[0]])
    other = by_bytes(matrix=matrix, ratio=ratio, seed=seed, lexicon="none")
    assert see.relative_error(matrix, other, weights) > 1.1 * least


@pytest.mark.parametrize("ratio, bits, derived", [
    (3, 16, True), (3, 32, False), (10, 4, True), (10, 6, False)])
def test_bytes_keep_to_the_ratio_and_use_most_of_it(ratio, bits, derived):
    encoding = by_bytes(ratio=ratio, bits=bits, derived=derived)
    assert encoding.bytes <= 4 * V * D / ratio
    full = encoding.inner_dim == D  # nothing is left to buy
    assert full or 4 * V * D / ratio < 1.3 * encoding.bytes
    assert (encoding.bits, encoding.bag_derived) == (bits, derived)
    assert encoding.order == 2 and len(encoding.tables[0]) == 1  # a code per term
    same(rounded(encoding, bits), encoding)  # what was returned is what a file holds


def sized(count, **options):
    """By bytes with a derived bag, or by parameters."""
    counted = {"counts": COUNTS, "sweeps": 2, **options}
    return by_bytes(derived=True, **counted) if count == "bytes" else encode(**counted)


def named(encoding, *kinds):
    return {unit for unit in encoding.bag_names if unit.kind in kinds}


counted = pytest.mark.parametrize("count", ["bytes", "parameters"])


@counted
@pytest.mark.parametrize("control", CONTROLS)
def test_controls_change_what_they_name_at_the_same_size(count, control):
    one, other = sized(count), sized(count, control=control)
    if count == "bytes":
        assert other.bytes <= 4 * V * D / 8
    else:
        assert other.parameters <= V * D / 4 < 1.03 * other.parameters
    known = named(other, "sememe", "stem", "affix")
    assert bool(known) == (control != "no_knowledge") and named(one, "sememe")
    if control == "no_knowledge":
        assert count == "bytes" or len(named(other, "word")) > len(named(one, "word"))
        same(other, sized(count, control=control, lexicon="none"))
    if control == "random_units":
        assert not named(one, "sememe") & set(other.bag_names)
    if control in ("shuffled", "fixed"):
        assert not np.array_equal(other.rows(ROWS), one.rows(ROWS))


def test_fixed_codes_are_the_hash_buckets_of_the_start():
    one, other = encode(counts=COUNTS), encode(counts=COUNTS, control="fixed")
    vocabulary = see.build_vocabulary(WORDS, LEXICON, COUNTS)
    plan = plan_of((V, D), vocabulary, 4, count="parameters")
    hashed = see.assign(WORDS, [see.Annotation()] * V, plan).index
    coded = np.setdiff1d(ROWS, private_units(other.bag)[0])  # others: codes that say nothing
    assert np.array_equal(other.index[coded], hashed[coded]) and 0 < len(coded) < V
    assert not np.array_equal(one.index[coded], hashed[coded])


@counted
def test_knowledge_that_is_right_lowers_the_error_and_controls_do_not(count):
    """The matrix is made of meaning here, so that the lexicon is worth much."""
    errors = {control: see.relative_error(E0, sized(count, ratio=20, control=control))
              for control in (None, "shuffled", "random_units", "no_knowledge")}
    assert errors.pop(None) < 0.8 * min(errors.values()), errors


def test_forms_orders_and_the_index_are_as_asked():
    cases = (("see", None, 2), ("see", 3, 3), ("paper", None, 3), ("morphemes", 2, 2))
    for form, order, slots in cases:
        encoding = encode(form=form, order=order)
        assert encoding.order == slots and encoding.shape == (V, D)
        assert (encoding.projection is None) == (encoding.bag is None) == (form != "see")
    assert encode(ratio=2, per_term=False).index.shape[1] == 1
    assert encode(ratio=2).index.shape[1] == encode(ratio=2).rank > 1


def test_progress_sees_every_sweep_and_more_sweeps_fit_better():
    seen = []
    encode(sweeps=6, progress=lambda sweep, error: seen.append((sweep, error)))
    assert [sweep for sweep, _ in seen] == list(range(6))
    assert np.diff([error for _, error in seen]).max() <= 1e-12


class Unread:
    """A matrix that must not be read."""

    shape = (V, D)
    ndim = 2

    def __len__(self):
        return V

    def __getitem__(self, rows):
        raise AssertionError("read")


@counted
def test_a_ratio_out_of_reach_is_refused_before_any_work(count):
    for ratio in (0.5, 1e4, np.nan):
        with pytest.raises(InputError, match=r"ratio: expected 1 to \d+\.\d for the form"):
            encode(matrix=Unread(), ratio=ratio, count=count)
    with pytest.raises(AssertionError, match="read"):
        encode(matrix=Unread(), count=count)


@pytest.mark.parametrize(("options", "text"), [
    ({"matrix": E0[0]}, r"matrix: expected shape \(\*, \*\), got \(24,\)"),
    ({"words": WORDS[1:]}, "words: expected 192, one per row, got 191"),
    ({"control": "best"}, f"control: expected one of {', '.join(CONTROLS)}, got 'best'"),
    ({"form": "best"}, "form: expected one of see, paper, morphemes, got 'best'"),
    ({"count": "floats"}, "count: expected one of bytes, parameters, got 'floats'"),
    ({"count": "bytes", "bits": 3}, "bits: expected 4 to 16, or 32, got 3"),
    ({"count": "bytes", "order": 3}, "count: expected parameters with order 3, got bytes"),
    ({"count": "bytes", "per_term": False}, "count: expected parameters with an index that"),
    ({"metric": np.eye(D + 1)}, r"metric: expected shape \(24, 24\), got \(25, 25\)"),
    ({"metric": METRIC, "form": "paper"}, "metric: expected none for form paper"),
    ({"sweeps": 0}, "sweeps: expected at least 1, got 0"),
])
def test_what_cannot_be_encoded_is_refused_with_the_rule(options, text):
    with pytest.raises(InputError, match=text):
        encode(**options)
