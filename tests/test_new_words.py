"""Rows of words that a vocabulary lacks: the fit of unit vectors, and encodings that grow."""

from types import SimpleNamespace

import numpy as np
import pytest

from see_min import Annotation, InputError, SememeEncoding, encode
from see_min.experiments.similarity import cosines
from see_min.units import shuffled
from see_min.words.formats import load_lexicon
from see_min.words.lexicon import Lexicon
from see_min.words.new_words import (
    UnitVectors,
    annotated,
    described,
    new_rows,
    ridge_solution,
    weighted_units,
    with_words,
)

SEMEMES = [f"s{i}" for i in range(20)]


@pytest.fixture(scope="module")
def made():
    """300 words whose rows are sums of vectors of their sememes, with noise, and a lexicon."""
    rng = np.random.default_rng(0)
    B = rng.standard_normal((20, 16))  # (U, D)
    words = [f"w{a}{b}" for a in "abcdefghijklmno" for b in "abcdefghijklmnopqrst"]
    own = [tuple(rng.choice(20, 3, replace=False)) for _ in words]
    E = np.array([B[list(units)].sum(0) for units in own]) + 5
    E += 0.1 * rng.standard_normal(E.shape)
    lexicon = Lexicon.of({w: [[SEMEMES[u] for u in units]] for w, units in zip(words, own)})
    return SimpleNamespace(words=words, rows=lambda ids: E[ids], E=E, B=B, lexicon=lexicon)


@pytest.fixture(scope="module")
def encoding(made):
    return encode(made.E, made.words, ratio=4, lexicon=made.lexicon, sweeps=1)


@pytest.mark.claim
@pytest.mark.parametrize("ridge", [0.1, 1.0, 10.0])
def test_conjugate_gradients_solve_the_ridge_regression(ridge):
    """D94: the minimum is that of a dense solver, and one step is not enough."""
    rng = np.random.default_rng(1)
    M = load_sparse(rng.random((40, 12)) * (rng.random((40, 12)) < 0.3))
    X = rng.standard_normal((40, 5))
    dense = M.toarray()
    direct = np.linalg.solve(dense.T @ dense + ridge * np.eye(12), dense.T @ X)
    np.testing.assert_allclose(ridge_solution(M, X, ridge, steps=60), direct, atol=1e-9)
    assert np.abs(ridge_solution(M, X, ridge, steps=1) - direct).max() > 1e-3  # steps matter


def load_sparse(array):
    import scipy.sparse

    return scipy.sparse.csr_array(array)


def test_an_entry_is_a_sum_of_senses_of_length_1_and_parts_of_a_half():
    entries = weighted_units(Annotation((("a", "b"), ("a",)), ("wheel", "s")))
    size = {kind: sum(x * x for u, x in entries.items() if u.kind == kind) ** 0.5
            for kind in ("sememe", "sense", "stem", "affix")}
    assert size == pytest.approx({"sememe": 1, "sense": 0.5, "stem": 0.5, "affix": 0.5})
    by_name = {str(unit): x for unit, x in entries.items()}
    assert by_name["sememe:a"] == pytest.approx(2 * by_name["sememe:b"])


def centred_cosine(made, rows, true):
    mean = made.E.mean(0)
    rows, true = rows - mean, true - mean
    return cosines(rows, true).mean()


def test_new_rows_are_near_those_of_the_same_sememes_and_shuffled_ones_are_not(made):
    rng = np.random.default_rng(2)
    own = {f"new{chr(97 + i)}": [list(rng.choice(20, 3, replace=False))] for i in range(20)}
    true = np.array([made.B[units[0]].sum(0) + 5 for units in own.values()])
    given = {word: [[SEMEMES[u] for u in units[0]]] for word, units in own.items()}
    assert centred_cosine(made, new_rows(made, given, made.lexicon), true) > 0.9
    notes, fresh = annotated(made.words, given, made.lexicon)
    control = UnitVectors(made, shuffled(notes, 0)).rows(fresh)
    assert centred_cosine(made, control, true) < 0.4


def test_rows_are_as_far_from_the_mean_as_others(made):
    row = new_rows(made, {"newa": [["s1", "s2"]]}, made.lexicon)[0]
    usual = np.linalg.norm(made.E - made.E.mean(0), axis=1).mean()
    assert np.linalg.norm(row - made.E.mean(0)) == pytest.approx(usual)


@pytest.mark.claim
def test_held_out_words_teach_nothing(made):
    """D94: rows of words that are left out have no part."""
    notes, _ = annotated(made.words, ["x"], made.lexicon)
    some = np.arange(200)
    model = UnitVectors(made, notes, some)
    E = made.E.copy()
    E[200:] = 1e6
    other = UnitVectors(SimpleNamespace(words=made.words, rows=lambda ids: E[ids]), notes, some)
    np.testing.assert_allclose(model.rows(notes[200:]), other.rows(notes[200:]))


@pytest.mark.claim
def test_inner_rows_and_rows_give_the_same_new_rows(made, encoding):
    """D94: before the projection or after it."""
    given = {"newa": [["s1", "s2"]]}
    plain = SimpleNamespace(words=made.words, rows=encoding.rows)
    np.testing.assert_allclose(new_rows(encoding, given, made.lexicon),
                               new_rows(plain, given, made.lexicon), atol=1e-6)


def test_parts_of_words_teach_nothing(made):
    """Their rows mean no word: here a tenth of them are far away."""
    notes, fresh = annotated(made.words, {"newa": [["s1", "s2"]]}, made.lexicon)
    parts = [Annotation(note.senses, ("", "ing")) for note in notes[:30]]
    E = made.E.copy()
    E[:30] = 1e3
    model = UnitVectors(SimpleNamespace(words=made.words, rows=lambda ids: E[ids]),
                        parts + notes[30:])
    without = UnitVectors(made, notes, np.arange(30, 300))
    np.testing.assert_allclose(model.rows(fresh), without.rows(fresh), rtol=1e-3, atol=1e-3)


def test_a_word_of_which_nothing_is_known_is_refused_or_gets_its_pieces(made):
    with pytest.raises(InputError, match="'1234'"):
        new_rows(made, {"newa": [["s1"]], "1234": None}, made.lexicon)
    rows = new_rows(made, ["1234"], made.lexicon, pieces={"1234": [3, 5]})
    np.testing.assert_allclose(rows[0], made.E[[3, 5]].mean(0))
    rows = new_rows(made, {"newa": [["s1"]]}, made.lexicon, pieces={"newa": []})
    np.testing.assert_array_equal(rows, new_rows(made, {"newa": [["s1"]]}, made.lexicon))
    with pytest.raises(InputError, match="its words"):
        new_rows(SimpleNamespace(words=None), ["a"], made.lexicon)
    with pytest.raises(InputError, match="units that two words share"):
        new_rows(SimpleNamespace(words=["1", "2"], rows=made.rows), ["wx"], made.lexicon)


def test_pieces_turn_a_row_halfway_and_leave_its_length(made):
    given = {"newa": [["s1", "s2"]]}
    model = UnitVectors(made, annotated(made.words, given, made.lexicon)[0])
    alone = new_rows(made, given, made.lexicon)[0] - model.mean
    both = new_rows(made, given, made.lexicon, pieces={"newa": [3, 5]})[0] - model.mean
    spelled = made.E[[3, 5]].mean(0) - model.mean

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    assert cosine(alone, spelled) < 0.9  # there is something to turn
    np.testing.assert_allclose(cosine(both, alone), cosine(both, spelled), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(both), model.length, rtol=1e-5)
    gram = np.stack([alone, spelled, both])
    assert np.linalg.matrix_rank(gram, tol=1e-4) == 2  # between the two, nowhere else


def test_a_definition_is_the_first_two_senses_of_its_words():
    lexicon = load_lexicon("sample")
    assert lexicon.senses("the")  # a function word
    assert described("the matrices, added", lexicon) == (
        lexicon.senses("matrices") + lexicon.senses("added"))
    assert described("xyzzy", lexicon) == ()
    many = Lexicon.of({"a": [["FuncWord"], ["x"], ["y"], ["z"]], "b": [["y"], ["x"], ["w"]]})
    assert described("(a) b", many) == (("x",), ("y",))


@pytest.mark.claim
def test_a_grown_encoding_keeps_its_rows_and_adds_the_new_ones(made, encoding, tmp_path):
    """D95: old rows stay, in memory and in a file; new ones are the nearest in the span."""
    rows = made.E[:3] @ np.eye(16)
    grown = with_words(encoding, ["newa", "newb", "newc"], rows)
    assert len(grown) == len(encoding) + 3 and grown.words[-3:] == ["newa", "newb", "newc"]
    old = np.arange(len(encoding))
    np.testing.assert_allclose(grown.rows(old), encoding.rows(old), atol=1e-6)
    P = encoding.projection
    nearest = rows if P is None else rows @ np.linalg.pinv(P) @ P
    step = np.abs(nearest).max() / 50
    np.testing.assert_allclose(grown.rows(old[-1] + 1 + np.arange(3)), nearest, atol=step)
    grown.save(tmp_path / "a.npz")
    loaded = SememeEncoding.load(tmp_path / "a.npz")
    every = np.arange(len(grown))
    np.testing.assert_allclose(loaded.rows(every), grown.rows(every), atol=1e-6)
    assert loaded.words == grown.words and loaded.bytes == grown.bytes
    assert grown.bytes - encoding.bytes < 3 * (4 * encoding.inner_dim)  # no codes


def test_growing_refuses_words_that_are_there_and_rows_of_other_shapes(made, encoding):
    with pytest.raises(InputError, match="words: expected new ones"):
        with_words(encoding, [made.words[0]], made.E[:1])
    with pytest.raises(InputError, match="words: expected new ones"):
        with_words(encoding, ["a", "a"], made.E[:2])
    with pytest.raises(InputError, match="rows: expected"):
        with_words(encoding, ["a"], made.E[:2])
    own = SememeEncoding([np.ones((3, 1, 2))], None)
    with pytest.raises(InputError, match="index"):
        with_words(own, ["a"], np.ones((1, 2)))


def test_the_private_vector_of_a_new_word_is_named_after_its_units(made, encoding):
    note = Annotation((("s1",),), ("new",))
    grown = with_words(encoding, ["newa"], made.E[:1], [note])
    if grown.bag_names is not None:
        names = [str(name) for name in grown.bag_names]
        assert "sum:sememe:s1 + stem:new" in names
    assert grown.bag[[len(grown) - 1]].sum() == 1
