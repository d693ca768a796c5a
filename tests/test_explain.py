"""Explanations of words: names against the index, spectra and neighbours against slow ones, text and figures as files."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from see_min.budget import plan_general, plan_product
from see_min.checks import DataError, ShapeError
from see_min.compare import Task, by_frequency
from see_min.explain import as_json, built, explain, known, row_of
from see_min.explain_report import bar, describe, plot, text
from see_min.fit import carrier, fit, random_encoding
from see_min.lexicon import Lexicon, Sense
from see_min.lexicon_files import sample_lexicon
from see_min.tokens import normalise
from see_min.units import GENERAL, assign
from see_min.vocabulary import build_vocabulary

CASES = [("additive", 2), ("additive", 3), ("senses", 2), ("senses", 3), ("amplitudes", 2), ("terms", 3)]


@pytest.fixture(scope="module")
def lexicon():
    return sample_lexicon()


@pytest.fixture(scope="module")
def fits(lexicon):
    """{case: (task, fitted encoding, units)} on 62 rows, two of which are no whole words."""
    words = [word for word in lexicon.entries if word.isalpha()][::5][:59]
    names = [*words, "$x$", "##ing", "##ed"]
    pieces = {word: (word[:-2], word[-2:]) for word in words if len(word) > 5}
    E0, vocabulary = np.random.default_rng(5).standard_normal((62, 12)), build_vocabulary(names, lexicon, segmentation=pieces)
    E0, vocabulary, _ = by_frequency(E0, vocabulary)
    out = {}
    for policy, order in CASES:
        if policy in GENERAL:
            plan = replace(plan_general(62, 12, 2, order, 10, policy == "amplitudes"), rank=2, identity=8, knowledge=20)
        else:
            plan = plan_product(62, 12, 2, order, 10)
        units = assign(vocabulary.names, vocabulary.annotations, plan, policy)
        P = carrier(E0, np.ones(62), plan.inner) if plan.carrier else None
        out[policy, order] = Task(E0, vocabulary), fit(E0, random_encoding(units, plan, 0, P), units=units, sweeps=3)[0], units
    return out


def whole_words(task):
    return [token.text for token in task.vocabulary.tokens if token.kind == "word"]


def slow_cosine(x, y):
    dot, xx, yy = (sum(float(a) * float(b) for a, b in zip(p, q)) for p, q in ((x, y), (x, x), (y, y)))
    return dot / np.sqrt(xx * yy) if xx * yy else 0.0


def slow_product(encoding, w):
    """The sum of terms, each with numpy.kron."""
    total = np.zeros(encoding.inner)
    for k in range(encoding.rank):
        term = np.ones(1) if encoding.amplitudes is None else encoding.amplitudes[w, k : k + 1]
        for j, table in enumerate(encoding.tables):
            unit = encoding.index[w, j] if encoding.index.ndim == 2 else encoding.index[w, k, j]
            term = np.kron(term, table[unit, k])
        total += term
    return total


# what is known


def test_known_gives_senses_with_their_trees():
    sense = Sense(("human", "army"), ("", "belong"), "noun", "{human|人:belong={army|军队}}", "7")
    found = known("Soldiers", Lexicon({"soldier": (sense,)}), ("soldier", "s"))
    assert (found["word"], found["entry"], found["morphemes"]) == ("Soldiers", "soldier", ("soldier", "s"))
    assert found["senses"] == [{"sememes": ("human", "army"), "roles": ("", "belong"), "pos": "noun", "number": "7",
                                "definition": "{human|人:belong={army|军队}}", "tree": "human|人\n└─ [belong] army|军队"}]


def test_known_keeps_the_sememes_of_a_sense_whose_definition_cannot_be_read():
    found = known("add", Lexicon({"add": (Sense(("more",), definition="{more|"),)}), ())
    assert found["senses"][0]["sememes"] == ("more",) and found["senses"][0]["tree"] == ""


def test_explain_without_a_fit_has_no_row_and_an_unknown_word_has_only_its_morphemes(lexicon):
    one, two = explain(["Adding", "xyzzying"], lexicon, {"xyzzying": ("xyzzy", "ing")})
    assert one["entry"] == "add" and one["morphemes"] == () and one["built"] is None
    assert two == {"word": "xyzzying", "entry": None, "senses": [], "morphemes": ("xyzzy", "ing"), "built": None}


# how it is built


@pytest.mark.parametrize("case", CASES)
def test_slots_and_bag_are_named_as_the_index_says(fits, case):
    task, encoding, units = fits[case]
    for word in whole_words(task):
        one, w = built(task, encoding, units, word), task.vocabulary.numbers[word]
        assert one["token"] == task.vocabulary.names[w] and one["row"] == w and one["count"] == task.vocabulary.counts[w]
        for j, names in enumerate(one["slots"]):
            for k in range(encoding.rank):
                unit = encoding.index[w, j] if encoding.index.ndim == 2 else encoding.index[w, k, j]
                assert names[k if len(names) > 1 else 0] == units.names[j][unit]
            assert len(names) in (1, encoding.rank) and (len(names) == 1 or len(set(names)) > 1)
        held = [] if encoding.bag is None else [unit for unit in encoding.bag[w] if unit >= 0]
        assert [part["unit"] for part in one["bag"]] == [units.bag_names[unit] for unit in held]


def test_slots_have_a_name_a_term_where_senses_differ(fits):
    task, encoding, units = fits["senses", 2]
    assert encoding.index.ndim == 3
    assert any(len(names) > 1 for word in whole_words(task) for names in built(task, encoding, units, word)["slots"])


def test_slots_are_those_after_the_fit_dealt_units_again(fits):
    task, encoding, units = fits["additive", 2]
    moved = np.flatnonzero((encoding.index != units.index).any(1))
    assert len(moved)  # otherwise this test shows nothing
    word = next(word for word in whole_words(task) if task.vocabulary.numbers[word] in moved)
    w = task.vocabulary.numbers[word]
    before = [units.names[j][unit] for j, unit in enumerate(units.index[w])]
    assert [names[0] for names in built(task, encoding, units, word)["slots"]] != before


@pytest.mark.parametrize("case", CASES)
def test_parts_have_the_norms_cosines_and_shares_of_their_vectors(fits, case):
    """D38: every part against a dense computation."""
    task, encoding, units = fits[case]
    for word in whole_words(task)[::7]:
        one, w = built(task, encoding, units, word), task.vocabulary.numbers[word]
        held = [] if encoding.bag is None else [encoding.bag_vectors[unit] for unit in encoding.bag[w] if unit >= 0]
        vectors = [*held, slow_product(encoding, w)]
        x = sum(vectors)
        for part, vector in zip([*one["bag"], one["product"]], vectors, strict=True):
            np.testing.assert_allclose(part["norm"], np.sqrt(sum(vector**2)), rtol=1e-12)
            np.testing.assert_allclose(part["cosine"], slow_cosine(vector, x), rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(part["share"], sum(vector * x) / sum(x * x), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(sum(part["share"] for part in [*one["bag"], one["product"]]), 1, rtol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_row_has_the_error_and_cosine_of_the_two_rows(fits, case):
    task, encoding, units = fits[case]
    for word in whole_words(task)[::7]:
        one, w = built(task, encoding, units, word), task.vocabulary.numbers[word]
        dense = task.matrix[w]
        row = encoding.inner_rows(np.array([w]))[0] @ (np.eye(12) if encoding.carrier is None else encoding.carrier)
        np.testing.assert_allclose(one["error"], sum((dense - row) ** 2) / sum(dense**2), rtol=1e-12)
        np.testing.assert_allclose(one["cosine"], slow_cosine(dense, row), rtol=1e-12)
        assert one["explained"] == 1 - one["error"]
        assert one["explained"] <= one["reach"] + 1e-12  # rounding, where a word owns a vector and reaches it


def test_reach_is_the_part_of_the_row_in_the_span_of_the_carrier_and_all_of_it_without_one(fits):
    task, encoding, units = fits["additive", 2]
    bent = replace(encoding, carrier=np.random.default_rng(0).standard_normal(encoding.carrier.shape))
    one = built(task, bent, units, whole_words(task)[0])
    dense = task.matrix[one["row"]]
    rest = dense - np.linalg.lstsq(bent.carrier.T, dense, rcond=None)[0] @ bent.carrier
    np.testing.assert_allclose(one["reach"], 1 - sum(rest**2) / sum(dense**2), rtol=1e-10)
    task, encoding, units = fits["senses", 3]
    assert built(task, encoding, units, whole_words(task)[0])["reach"] == 1


def test_words_own_a_vector_exactly_if_the_bag_has_their_name(fits):
    task, encoding, units = fits["additive", 2]
    owns = {word: built(task, encoding, units, word)["owns"] for word in whole_words(task)}
    assert owns == {word: f"={word}" in units.bag_names for word in owns}
    assert set(owns.values()) == {True, False}
    word = next(word for word in owns if owns[word])
    assert [part["unit"] for part in built(task, encoding, units, word)["bag"]] == [f"={word}"]


@pytest.mark.parametrize("case", CASES)
def test_spectrum_is_that_of_the_product_as_a_matrix(fits, case):
    task, encoding, units = fits[case]
    for word in whole_words(task)[::7]:
        one, w = built(task, encoding, units, word), task.vocabulary.numbers[word]
        s = np.linalg.svd(slow_product(encoding, w).reshape(encoding.sizes[0], -1), compute_uv=False) ** 2
        p = s / s.sum()
        np.testing.assert_allclose(one["schmidt"]["spectrum"], p, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(one["schmidt"]["entropy"], -sum(x * np.log(x) for x in p if x > 0), rtol=1e-9, atol=1e-12)
        rest = int(np.prod(encoding.sizes[1:]))
        assert one["schmidt"]["maximum"] == np.log(min(encoding.rank, encoding.sizes[0], rest))
        assert one["schmidt"]["entropy"] <= one["schmidt"]["maximum"] + 1e-12


@pytest.mark.parametrize("case", CASES)
def test_nearest_words_are_those_of_a_search_over_all_whole_words(fits, case):
    task, encoding, units = fits[case]
    E = encoding.rows(np.arange(62))
    for word in whole_words(task)[::9]:
        one, numbers = built(task, encoding, units, word, nearest=6), task.vocabulary.numbers
        found = []
        for key, matrix in (("before", task.matrix), ("after", E)):
            angles = {other: slow_cosine(matrix[numbers[word]], matrix[numbers[other]]) for other in numbers if other != word}
            best = sorted(angles, key=lambda other, angles=angles: -angles[other])[:6]
            np.testing.assert_allclose([angle for _, angle in one[key]], [angles[other] for other in best], rtol=1e-10)
            assert all(abs(angles[other] - angle) < 1e-10 for other, angle in one[key])
            assert word not in [other for other, _ in one[key]] and len(dict(one[key])) == 6
            found.append({other for other, _ in one[key]})
        assert one["same"] == len(found[0] & found[1])


def test_nearest_words_are_all_others_if_there_are_fewer_than_asked(fits):
    task, encoding, units = fits["senses", 2]
    one = built(task, encoding, units, whole_words(task)[0], nearest=1000)
    assert len(one["before"]) == len(one["after"]) == one["same"] == len(task.vocabulary.numbers) - 1


def test_order_one_has_no_spectrum(fits):
    task, encoding, units = fits["additive", 2]
    flat = replace(encoding, tables=[np.ones((1, 1, encoding.inner))], index=np.zeros((62, 1), int))
    one = explain(whole_words(task)[:1], Lexicon({}), {}, task, flat, replace(units, names=[["~0"]]))
    assert one[0]["built"]["schmidt"] is None
    assert "Schmidt" not in text(one)


def test_explain_gives_the_same_as_built_and_none_to_a_word_that_is_in_no_row(fits, lexicon):
    task, encoding, units = fits["additive", 3]
    word = whole_words(task)[20]
    assert row_of(task.vocabulary, "ing") is None and row_of(task.vocabulary, word.upper()) == task.vocabulary.numbers[word]
    found = explain([word.upper(), "ing", "xyzzy"], lexicon, {}, task, encoding, units)
    assert [one["built"] is None for one in found] == [False, True, True]
    direct = {"built": built(task, encoding, units, word)}
    assert as_json(found)[0]["built"] == as_json([direct])[0]["built"]


def test_unfit_parts_are_refused_by_name(fits, lexicon):
    task, encoding, units = fits["additive", 2]
    word = whole_words(task)[0]
    with pytest.raises(DataError, match="words: expected at least 1 word, got none"):
        explain([], lexicon, {})
    with pytest.raises(DataError, match="fit: expected task, encoding and units together, got 2 of the three"):
        explain([word], lexicon, {}, task, encoding)
    with pytest.raises(DataError, match="word: expected a whole word of the vocabulary, got 'ing'"):
        built(task, encoding, units, "ing")
    with pytest.raises(ShapeError, match=r"task.matrix: expected shape \(62, 12\), got \(61, 12\)"):
        built(replace(task, matrix=task.matrix[1:]), encoding, units, word)
    with pytest.raises(ShapeError, match="units.names: expected .* as in the tables, got "):
        built(task, encoding, replace(units, names=units.names[:1]), word)
    with pytest.raises(ShapeError, match=rf"units.bag_names: expected {len(units.bag_names)} as in the bag vectors, got 0"):
        built(task, encoding, replace(units, bag_names=()), word)


@pytest.mark.parametrize("case", CASES)
def test_explanations_survive_json_without_their_arrays(fits, lexicon, case):
    task, encoding, units = fits[case]
    found = explain([*whole_words(task)[::20], "xyzzy"], lexicon, {}, task, encoding, units)
    plain = as_json(found)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert "arrays" in found[0]["built"] and "arrays" not in plain[0]["built"]
    assert set(found[0]["built"]) - set(plain[0]["built"]) == {"arrays"} and plain[-1]["built"] is None


# how it is shown


@pytest.mark.parametrize("case", CASES)
def test_text_has_every_sememe_unit_and_neighbour_within_100_columns(fits, lexicon, case):
    task, encoding, units = fits[case]
    for one in explain(whole_words(task)[::11], lexicon, {}, task, encoding, units):
        said = text([one])
        assert said.startswith(f"{one['word']}\n{'=' * len(one['word'])}\n") and max(map(len, said.splitlines())) <= 100
        assert all(" > ".join(sense["sememes"]) in said for sense in one["senses"])
        names = [part["unit"] for part in one["built"]["bag"]] + sum(one["built"]["slots"], [])
        assert all(describe(name)[1] in said for name in names)
        assert all(f"{cosine:6.3f}  {word}" in said for key in ("before", "after") for word, cosine in one["built"][key])
        assert f"nearest words, {one['built']['same']} of 10 the same" in said


def test_text_draws_trees_and_joins_morphemes_and_separates_words():
    sense = Sense(("human", "army"), ("", "belong"), "noun", "{human|人:belong={army|军队}}", "7")
    lexicon = Lexicon({"soldier": (sense, Sense(("part", "more")))})
    assert text(explain(["soldiers", "xyzzy"], lexicon, {"soldiers": ("soldier", "s")})).splitlines() == [
        "soldiers", "========", "known as soldier, 2 senses", "  1  noun  7", "     human|人", "     └─ [belong] army|军队",
        "  2  part > more", "morphemes: soldier + s", "", "xyzzy", "=====", "no sense is known", "morphemes: none",
    ]


def test_text_says_what_it_means_to_own_a_vector_only_of_words_that_do(fits):
    task, encoding, units = fits["additive", 2]
    for word in whole_words(task)[::6]:
        one = explain([word], Lexicon({}), {}, task, encoding, units)
        assert ("owns a vector" in text(one)) == one[0]["built"]["owns"]


@pytest.mark.parametrize("unit, kind, name", [
    ("s:a:b", "sememe", "a:b"), ("m:play", "stem", "play"), ("+ing", "affix", "+ing"), ("=#1", "own", "#1"),
    ("~3", "back-off", "~3"), ("#1", "rarity", "rank 1"), ("#1024", "rarity", "ranks 1,024–2,047"),
    ("anchor", "anchor", "anchor"),
])
def test_units_are_described_by_kind_and_name(unit, kind, name):
    assert describe(unit) == (kind, name)


def test_bars_are_as_long_as_the_share_says_to_an_eighth():
    for eighths in range(81):
        drawn = bar(eighths / 80, 10)
        assert sum(8 - "█▉▊▋▌▍▎▏".index(block) for block in drawn) == eighths
    assert bar(-0.5) == "" and bar(2, 3) == "███"


@pytest.mark.parametrize("case", CASES)
def test_plot_writes_a_png_at_300_dpi(fits, lexicon, tmp_path, case):
    task, encoding, units = fits[case]
    path = plot(explain(["$x$"], lexicon, {}, task, encoding, units)[0], tmp_path / "new" / "a.png")
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (3300, 2100)
    assert [one.name for one in path.parent.iterdir()] == ["a.png"]


def test_plot_draws_words_of_order_one_and_rows_of_zeros(fits, tmp_path):
    task, encoding, units = fits["additive", 2]
    flat = replace(encoding, tables=[np.zeros((1, 1, encoding.inner))], index=np.zeros((62, 1), int),
                   bag_vectors=0 * encoding.bag_vectors)
    one = explain(whole_words(task)[:1], Lexicon({}), {}, task, flat, replace(units, names=[["~0"]]))[0]
    assert plot(one, tmp_path / "a.png").exists() and one["built"]["cosine"] == 0


def test_a_figure_that_fails_leaves_the_old_file(fits, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def broken(self, path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    task, encoding, units = fits["additive", 2]
    one = explain(whole_words(task)[:1], Lexicon({}), {}, task, encoding, units)[0]
    old = tmp_path / "a.png"
    old.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        plot(one, old)
    assert old.read_bytes() == b"old" and [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_plot_refuses_a_word_without_a_row_or_arrays(fits, tmp_path):
    task, encoding, units = fits["additive", 2]
    found = explain(["xyzzy", whole_words(task)[0]], Lexicon({}), {}, task, encoding, units)
    for one in (found[0], as_json(found)[1]):
        text_of = f"explanation: expected one after a fit, with its arrays, got none for '{one['word']}'"
        with pytest.raises(DataError, match=text_of):
            plot(one, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_pieces_of_words_are_nobodys_neighbours(fits):
    task, encoding, units = fits["senses", 3]
    assert [token.kind for token in normalise(["##ing", "the"])] == ["piece", "word"]
    one = built(task, encoding, units, whole_words(task)[0], nearest=1000)
    assert not {"ing", "ed", "##ing", "##ed"} & {word for word, _ in one["before"] + one["after"]}
