"""Explanations: parts against dense computations, saved encodings, text, figures."""

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest
from slow import close, slow_cosine, slow_term

from see_min.encoding import SememeEncoding
from see_min.errors import InputError
from see_min.experiments import explain
from see_min.experiments.explain import (
    as_text,
    built,
    explain_words,
    known,
    load_encoding,
    nearest_words,
    plot,
    rows_of_words,
)
from see_min.recipe import encode
from see_min.words.formats import sample_lexicon
from see_min.words.lexicon import Lexicon, Sense
from see_min.words.vocabulary import build_vocabulary

V, D = 62, 12
PARAMETERS = {"count": "parameters"}
CASES = {"see": {}, "see-derived": {"derived": True}, "see-parameters": PARAMETERS,
         "see-shared": PARAMETERS | {"per_term": False}, "order 3": PARAMETERS | {"order": 3},
         "paper": {"form": "paper", "order": 2}}
WORDS = [word for word in sample_lexicon().entries if word.isalpha()][::5][:59]
NAMES = [*WORDS, "$x$", "##ing", "##ed"]
SOME = list(enumerate(WORDS))[::7]
E0 = np.random.default_rng(5).standard_normal((V, D))
SOLDIER = Sense(("human", "army"), ("", "belong"), "noun", "{human|人:belong={army|军队}}", "7")


@pytest.fixture(scope="module")
def fits():
    """{case: fitted encoding} on 62 rows, two of which are no whole words."""
    pieces = {word: (word[:-2], word[-2:]) for word in WORDS if len(word) > 5}
    vocabulary = build_vocabulary(NAMES, sample_lexicon(), segmentation=pieces)
    return {case: encode(E0, vocabulary, 2, sweeps=3, **options)
            for case, options in CASES.items()}


def slow_product(encoding, w):
    return sum(slow_term(encoding, w, k) for k in range(encoding.rank))


def bag_of(encoding, w):
    return [] if encoding.bag is None else np.flatnonzero(encoding.bag.toarray()[w])


@pytest.mark.parametrize("case", CASES)
def test_slots_and_bag_are_named_as_the_index_says(fits, case):
    encoding = fits[case]
    for w, word in enumerate(WORDS):
        one = built(encoding, word)
        assert one["token"] == word and one["row"] == w
        for j, names in enumerate(one["slots"]):
            index = np.broadcast_to(encoding.index[w, :, j], encoding.rank)
            expected = [str(encoding.slot_names[j][unit]) for unit in index]
            assert names == (expected if len(set(expected)) > 1 else expected[:1])
        expected = [tuple(encoding.bag_names[unit]) for unit in bag_of(encoding, w)]
        assert sorted((part["kind"], part["name"]) for part in one["bag"]) == sorted(expected)


@pytest.mark.parametrize("case", CASES)
def test_parts_have_the_norms_cosines_and_shares_of_their_vectors(fits, case):
    """D38: every part against a dense computation."""
    encoding = fits[case]
    for w, word in SOME:
        one = built(encoding, word)
        vectors = {tuple(encoding.bag_names[unit]): encoding.bag_vectors[unit]
                   for unit in bag_of(encoding, w)}
        product = slow_product(encoding, w)
        x = sum(vectors.values()) + product
        parts = [(part, vectors[part["kind"], part["name"]]) for part in one["bag"]]
        for part, vector in [*parts, (one["product"], product)]:
            close(part["norm"], np.sqrt(sum(vector**2)))
            close(part["cosine"], slow_cosine(vector, x))
            close(part["share"], sum(vector * x) / sum(x * x))
        close(sum(part["share"] for part in [*one["bag"], one["product"]]), 1)


@pytest.mark.parametrize("case", CASES)
def test_spectrum_is_that_of_the_product_as_a_matrix(fits, case):
    encoding = fits[case]
    for w, word in SOME:
        schmidt = built(encoding, word)["schmidt"]
        product = slow_product(encoding, w).reshape(encoding.sizes[0], -1)
        weights = np.linalg.svd(product, compute_uv=False) ** 2
        p = weights / (weights.sum() or 1)  # a word whose private vector is all has no product
        close(schmidt["spectrum"], p)
        close(schmidt["entropy"], -sum(x * np.log(x) for x in p if x > 0))
        assert schmidt["entropy"] <= schmidt["maximum"] + 1e-12


def test_dense_rows_give_error_cosine_and_reach(fits):
    encoding = fits["see"]
    shape = encoding.projection.shape
    projection = np.random.default_rng(0).standard_normal(shape)  # not orthonormal
    bent = replace(encoding, projection=projection)
    for w, word in SOME:
        found, row = built(bent, word, E0)["dense"], bent.rows([w])[0]
        error = sum((E0[w] - row) ** 2) / sum(E0[w] ** 2)
        close(found["error"], error)
        close(found["cosine"], slow_cosine(E0[w], row))
        rest = E0[w] - np.linalg.lstsq(projection.T, E0[w], rcond=None)[0] @ projection
        close(found["reach"], 1 - sum(rest**2) / sum(E0[w] ** 2))
        assert found["explained"] <= found["reach"] + 1e-12
    assert built(fits["paper"], WORDS[0], E0)["dense"]["reach"] == 1


def test_nearest_words_are_those_of_a_search_over_all_whole_words(fits):
    encoding, numbers = fits["see"], rows_of_words(NAMES)
    E = encoding.rows(np.arange(V))
    for word in WORDS[::9]:
        one, found = built(encoding, word, E0), []
        for pairs, matrix in ((one["dense"]["nearest"], E0), (one["nearest"], E)):
            angles = {other: slow_cosine(matrix[numbers[word]], matrix[numbers[other]])
                      for other in numbers if other != word}
            best = sorted(angles.values(), reverse=True)[:10]
            close([angle for _, angle in pairs], best)
            close([angles[other] for other, _ in pairs], best)
            found.append({other for other, _ in pairs})
        assert one["dense"]["same"] == len(found[0] & found[1])
    everything = {word for word, _ in nearest_words(E, numbers, 0, 1000)}
    assert everything == set(numbers) - {WORDS[0]}
    assert not {"ing", "ed", "##ing", "##ed"} & set(numbers)  # pieces are nobody's neighbours


def test_words_are_found_in_lower_case_and_pieces_are_no_words(fits):
    encoding = fits["see"]
    assert built(encoding, WORDS[3].upper())["row"] == 3
    assert built(encoding, "ing") is None and built(encoding, "xyzzy") is None


def test_order_one_has_no_spectrum_and_nameless_units_have_numbers(fits):
    flat = replace(fits["see"], tables=[np.ones((1, 1, fits["see"].inner_dim))],
                   index=np.zeros((V, 1, 1), int), slot_names=None, bag_names=None)
    found = explain_words(WORDS[:1], Lexicon({}), flat)
    assert found[0]["built"]["schmidt"] is None and "Schmidt" not in as_text(found)
    assert found[0]["built"]["slots"] == [["unit:0"]]
    assert {part["kind"] for part in found[0]["built"]["bag"]} == {"unit"}


def test_known_gives_senses_with_trees_and_keeps_those_whose_definition_cannot_be_read():
    found = known("Soldiers", Lexicon({"soldier": (SOLDIER,)}), ("soldier", "s"))
    assert (found["entry"], found["morphemes"]) == ("soldier", ["soldier", "s"])
    assert found["senses"][0]["tree"] == "human|人\n└─ [belong] army|军队"
    found = known("add", Lexicon({"add": (Sense(("more",), definition="{more|"),)}), ())
    assert found["senses"][0]["sememes"] == ("more",) and found["senses"][0]["tree"] == ""


def test_text_draws_trees_joins_morphemes_and_separates_words():
    lexicon = Lexicon({"soldier": (SOLDIER, Sense(("part", "more")))})
    found = [known(word, lexicon, parts) | {"built": None}
             for word, parts in (("soldiers", ("soldier", "s")), ("xyzzy", ()))]
    assert as_text(found, encoded=True).splitlines() == [
        "soldiers", "========", "known as soldier, 2 senses", "  1  noun  7", "     human|人",
        "     └─ [belong] army|军队", "  2  part > more", "morphemes: soldier + s",
        "soldiers is no whole word of the vocabulary", "", "xyzzy", "=====", "no sense is known",
        "morphemes: none", "xyzzy is no whole word of the vocabulary"]


@pytest.mark.parametrize("case", CASES)
def test_text_has_every_unit_and_neighbour(fits, case):
    for one in explain_words(WORDS[::11], sample_lexicon(), fits[case], E0):
        said, own = as_text([one]), one["built"]
        assert max(map(len, said.splitlines())) <= 100
        assert all(part["name"] in said for part in own["bag"])
        assert all(name in said for names in own["slots"] for name in names)
        pairs = own["nearest"] + own["dense"]["nearest"]
        assert all(f"{cosine:6.3f}  {word}" in said for word, cosine in pairs)


@pytest.mark.parametrize("case, dense", [("see", E0), ("paper", None)])
def test_a_word_with_dollars_is_drawn(fits, tmp_path, case, dense):
    found = explain_words(["$x$"], sample_lexicon(), fits[case], dense)
    assert plot(found[0], tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def command(fits, tmp_path, capsys):
    """Run `explain`, and return what it printed."""
    fits["see"].save(tmp_path / "e.npz")
    np.save(tmp_path / "e.npy", E0)

    def run(*arguments):
        parser = argparse.ArgumentParser()
        explain.add_arguments(parser)
        explain.run(parser.parse_args(list(map(str, arguments))), "python -m see_min explain ...")
        return capsys.readouterr().out

    return run


def test_a_saved_encoding_is_read_and_nothing_is_fitted(command, fits, tmp_path, monkeypatch):
    monkeypatch.setattr("see_min.recipe.fit", None)
    said = command(tmp_path / "e.npz", WORDS[0], "xyzzy", "--dense", tmp_path / "e.npy", "--json",
                   "--plot", tmp_path / "a.svg")
    found = json.loads(said)
    assert found[0]["built"] == built(fits["see"], WORDS[0], E0) and found[1]["built"] is None
    assert (tmp_path / "a.svg").exists()
    assert "xyzzy is no whole word" in command(tmp_path / "e.npz", "xyzzy")


def test_without_a_file_the_lexicon_tells_what_it_knows(command):
    said = command("adds", "xyzzy")
    assert said.startswith("adds\n====\nknown as add, ") and "no sense is known" in said


@pytest.mark.parametrize("arguments, text", [
    (("adds", "--plot", "a.png"), "plot: expected FILE before the words with it, got none"),
    (("adds", "--dense", "e.npy"), "dense: expected FILE before the words with it, got none"),
    (("nowhere.npz", "adds"), "nowhere.npz: expected an encoding or a folder, got no such file"),
    (("d.npy", "adds"), "d.npy: expected an encoding or a folder, got another file"),
    (("e.npz",), "words: expected at least 1 after .*e.npz, got none"),
    (("e.npz", "adds", "--plot", "a.gif"), "plot: expected a name that ends in .*, got .gif"),
    (("e.npz", "adds", "--dense", "d.npy"), r"dense: expected shape \(62, 12\), got \(3, 2\)"),
    (("e.npz", "adds", "xyzzy", "--plot", "a.png"), "plot: expected a word of the vocabulary, got"),
    (("bare.npz", "adds"), "bare.npz: expected an encoding with its words, got none"),
])
def test_wrong_arguments_are_refused(command, fits, tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    np.save("d.npy", np.ones((3, 2)))
    replace(fits["see"], words=None).save("bare.npz")
    with pytest.raises(InputError, match=text):
        command(*arguments)
    assert not list(tmp_path.glob("a.*"))


def test_a_compressed_checkpoint_is_read_and_a_dense_one_refused(fits, tmp_path):
    torch = pytest.importorskip("torch")
    from see_min.bridge.swap import swap_embedding
    from see_min.experiments.checkpoint import save_checkpoint
    from see_min.toy.models import GPTConfig, TinyGPT

    torch.manual_seed(0)
    model = TinyGPT(GPTConfig(V, D, 1, 2, 4))
    save_checkpoint(model, tmp_path / "dense.pt", NAMES)
    with pytest.raises(InputError, match="dense.pt: expected a compressed embedding, got Emb"):
        load_encoding(tmp_path / "dense.pt")
    swap_embedding(model, fits["see"], "token_embedding")
    save_checkpoint(model, tmp_path / "m.pt", NAMES)
    encoding = load_encoding(tmp_path / "m.pt")
    assert isinstance(encoding, SememeEncoding) and encoding.words == NAMES
    np.testing.assert_allclose(encoding.rows([5]), fits["see"].rows([5]), rtol=1e-5, atol=1e-6)
