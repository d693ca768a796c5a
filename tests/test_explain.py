"""Explanations: parts against dense computations, saved encodings, text, figures."""

import html
import re
import shutil
import subprocess
from dataclasses import replace
from urllib.parse import quote

import numpy as np
import pytest
from slow import close, slow_cosine, slow_term
from tiny import call

from see_min.experiments import page
from see_min.experiments.explain import (
    as_page,
    as_text,
    built,
    explain_words,
    known,
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
        found = [(part["kind"], part["name"]) for part in one["parts"][:-1]]
        assert sorted(found) == sorted(expected)


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
        vectors["product", f"order {encoding.order}, rank {encoding.rank}"] = product
        assert len(one["parts"]) == len(vectors)
        for part in one["parts"]:
            vector = vectors[part["kind"], part["name"]]
            close(part["norm"], np.sqrt(sum(vector**2)))
            close(part["cosine"], slow_cosine(vector, x))
            close(part["share"], sum(vector * x) / sum(x * x))
        close(sum(part["share"] for part in one["parts"]), 1)


@pytest.mark.parametrize("case", CASES)
def test_entropy_is_that_of_the_product_as_a_matrix(fits, case):
    encoding = fits[case]
    for w, word in SOME:
        entropy, most = built(encoding, word)["entropy"]
        product = slow_product(encoding, w).reshape(encoding.sizes[0], -1)
        weights = np.linalg.svd(product, compute_uv=False) ** 2
        p = weights / (weights.sum() or 1)  # a word whose private vector is all has no product
        close(entropy, -sum(x * np.log(x) for x in p if x > 0))
        assert entropy <= most + 1e-12


def test_dense_rows_give_explained_share_and_cosine(fits):
    encoding = fits["see"]
    for w, word in SOME:
        found, row = built(encoding, word, E0)["dense"], encoding.rows([w])[0]
        close(found["explained"], 1 - sum((E0[w] - row) ** 2) / sum(E0[w] ** 2))
        close(found["cosine"], slow_cosine(E0[w], row))


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
        said = as_text(explain_words([word], Lexicon({}), encoding, E0))
        assert f"nearest words, {len(found[0] & found[1])} of 10 the same" in said
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
    assert found[0]["built"]["entropy"] is None and "entanglement" not in as_text(found)
    assert found[0]["built"]["slots"] == [["unit:0"]]
    assert {part["kind"] for part in found[0]["built"]["parts"]} == {"unit", "product"}


def test_text_draws_trees_of_definitions_that_can_be_read_and_joins_morphemes():
    lexicon = Lexicon({"soldier": (SOLDIER, Sense(("part", "more"), definition="{more|"))})
    found = [known(word, lexicon, parts) | {"built": None}
             for word, parts in (("soldiers", ("soldier", "s")), ("xyzzy", None))]
    assert as_text(found).splitlines() == [
        "soldiers", "========", "known as soldier, 2 senses", "  1  noun  7", "     human|人",
        "     └─ [belong] army|军队", "  2  part > more", "morphemes: soldier + s",
        "", "xyzzy", "=====", "no sense is known", "xyzzy is no whole word of the vocabulary"]


@pytest.mark.parametrize("case", CASES)
def test_text_has_every_unit_and_neighbour(fits, case):
    for one in explain_words(WORDS[::11], sample_lexicon(), fits[case], E0):
        said, own = as_text([one]), one["built"]
        assert max(map(len, said.splitlines())) <= 100
        assert all(part["name"] in said for part in own["parts"])
        assert all(name in said for names in own["slots"] for name in names)
        pairs = own["nearest"] + own["dense"]["nearest"]
        assert all(f"{cosine:6.3f}  {word}" in said for word, cosine in pairs)


@pytest.mark.parametrize("case, dense", [("see", E0), ("paper", None)])
def test_a_word_with_dollars_is_drawn(fits, tmp_path, case, dense):
    found = explain_words(["$x$"], sample_lexicon(), fits[case], dense)
    assert plot(found[0], tmp_path / "new" / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def command(fits, tmp_path, capsys, monkeypatch):
    """Run `explain` beside e.npz and e.npy: (exit code, stdout, stderr)."""
    fits["see"].save(tmp_path / "e.npz")
    np.save(tmp_path / "e.npy", E0)

    monkeypatch.chdir(tmp_path)
    return lambda *words: call(capsys, "explain", *words)


def test_a_saved_encoding_is_read_and_nothing_is_fitted(command, fits, tmp_path, monkeypatch):
    monkeypatch.setattr("see_min.recipe.fit", None)
    words = WORDS[0], "xyzzy"
    code, said, _ = command("e.npz", *words, "--dense", "e.npy", "--plot", "a.svg", "--html",
                            "a.html")
    expected = explain_words(words, sample_lexicon(), fits["see"], E0)
    assert code == 0 and said == as_text(expected)
    assert "xyzzy is no whole word" in said
    assert (tmp_path / "a.svg").exists() and (tmp_path / "a.html").exists()


def test_a_bag_that_no_file_holds_is_made_again_with_the_lexicon_of_the_fit(command, tmp_path):
    encoding, path = encode(E0, NAMES, 6, derived=True, sweeps=1), tmp_path / "derived.npz"
    encoding.save(path)
    expected = as_text(explain_words(WORDS, sample_lexicon(), encoding))
    assert command(path, *WORDS) == (0, expected, "") and encoding.bag.nnz > 0
    code, _, said = command(path, WORDS[0], "--lexicon", "none")
    assert code == 2 and "expected the words and the lexicon of the fit" in said


def test_without_a_file_the_lexicon_tells_what_it_knows(command):
    said = command("adds", "xyzzy")[1]
    assert said.startswith("adds\n====\nknown as add, ") and "no sense is known" in said


@pytest.mark.parametrize("words, text", [
    ("adds --plot a.png", "plot: expected FILE before the words with it, got none"),
    ("adds --html a.html", "html: expected FILE before the words with it, got none"),
    ("adds --dense e.npy", "dense: expected FILE before the words with it, got none"),
    ("nowhere.npz adds", "nowhere.npz: expected"),
    ("d.npy adds", "a folder with config.json, got d.npy"),
    ("e.npz", "words: expected at least 1 after e.npz, got none"),
    ("e.npz adds --plot a.gif", "plot: expected a name that ends in one of .png, .svg, .pdf, got "),
    ("e.npz adds --dense d.npy", "dense: expected shape (62, 12), got (3, 2)"),
    ("e.npz adds --plot a.png", "plot: expected a word of the vocabulary, got"),
    ("e.npz adds --html a.html", "html: expected a word of the vocabulary, got 'adds'"),
    ("bare.npz adds", "bare.npz: expected an encoding with its words, got none"),
])
def test_wrong_arguments_are_refused(command, fits, tmp_path, words, text):
    np.save("d.npy", np.ones((3, 2)))
    replace(fits["see"], words=None).save("bare.npz")
    code, _, said = command(*words.split())
    assert (code, said.count("\n")) == (2, 1) and text in said
    assert not list(tmp_path.glob("a.*"))


BROWSERS = "chromium", "chromium-browser", "google-chrome"
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
needs_browser = pytest.mark.skipif(not BROWSER, reason="no chromium")


def open_page(text, path, word=""):
    """{id: text} of what a browser shows of a page with a word typed, the page's sources apart."""
    path.write_text(text, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
             f"--user-data-dir={path.parent / 'browser'}"]
    done = subprocess.run([BROWSER, *flags, f"{path.as_uri()}#{quote(word)}"], timeout=300,
                          capture_output=True, text=True)
    dom = re.sub(r"<(script|style|h3|summary).*?</\1>", "", done.stdout, flags=re.S)
    found = re.findall(r'id="(\w+)"[^>]*>(.*?)(?= id="|$)', dom, re.S)
    return {name: html.unescape(re.sub("<[^>]*>?", " ", inside)).strip() for name, inside in found}


def shown_row(shown):
    return np.array(shown["row"].split(), dtype=float)


FLAT = {"order 1": dict(tables=[np.random.default_rng(3).standard_normal((V, 2, D))], index=None,
                        projection=None, bag=None, bag_vectors=None, slot_names=None, bits=None)}


@needs_browser
@pytest.mark.parametrize("case", ["see-derived", "see-shared", "order 3", *FLAT])
def test_a_browser_rebuilds_the_rows_and_finds_the_neighbours(fits, tmp_path, case):
    encoding = replace(fits["see"], **FLAT[case]) if case in FLAT else fits[case]
    first, typed = WORDS[40], WORDS[7]
    text = as_page(explain_words([first], sample_lexicon(), encoding, E0), encoding)
    rows = encoding.rows(list(rows_of_words(NAMES).values()))  # (W, D)
    shown, one = open_page(text, tmp_path / "a.html", typed), built(encoding, typed)
    row = encoding.rows([one["row"]])[0]
    assert shown["title"] == typed and np.abs(shown_row(shown) - row).max() < 1e-5
    close(float(shown["check"].split(":")[1]), ((rows @ row) ** 2).sum(), rtol=1e-5)
    assert shown["after"].split() == [x for w, c in one["nearest"] for x in (f"{c:.3f}", w)]
    assert shown["before"] == "not in this page"
    for part in one["parts"][:-1]:
        assert f"{part['kind']}:{part['name']}  {100 * part['share']:.0f} %" in shown["parts"]
    assert all(name in shown["codes"] for names in one["slots"] for name in names)
    if case == "see-derived":  # no word typed: the first that was asked for
        pairs = built(encoding, first, E0)["dense"]["nearest"]
        shown = open_page(text, tmp_path / "a.html")
        assert shown["before"].split() == [x for w, c in pairs for x in (f"{c:.3f}", w)]


@needs_browser
def test_another_number_in_the_page_is_another_row_and_another_checksum(fits, tmp_path):
    encoding = fits["see"]
    bent = replace(encoding, bag_vectors=1.001 * encoding.bag_vectors)  # a private word has no more
    text = as_page(explain_words(WORDS[:1], Lexicon({}), bent), bent)
    shown, row = open_page(text, tmp_path / "a.html"), encoding.rows([0])[0]
    assert np.abs(shown_row(shown) - row).max() > 1e-5
    right = ((encoding.rows(list(rows_of_words(NAMES).values())) @ row) ** 2).sum()
    assert abs(float(shown["check"].split(":")[1]) / right - 1) > 1e-3


EVIL = ["<script>x</script>", "<!--", "</script><img src=x onerror=alert(1)>", "&lt;", "%"]


@needs_browser
def test_a_word_that_is_markup_is_text(fits, tmp_path):
    numbers = {word: row for row, word in enumerate(EVIL)}
    named = replace(fits["see"], bag_names=[f"word:{EVIL[0]}"] * fits["see"].bag.shape[1])
    text = page.page(named, numbers, EVIL[:1])
    assert text.count("<script") == 2 and "<!--" not in text
    assert "http" not in text.replace("http-equiv", "")  # nothing is fetched
    for word in EVIL[1:3]:
        shown = open_page(text, tmp_path / "a.html", word)
        assert shown["title"] == word and all(other in shown["after"] for other in {*EVIL} - {word})
    shown = open_page(text, tmp_path / "a.html", "<b>nobody</b>")
    assert shown["note"] == "no whole word of this page: <b>nobody</b>" and not shown["title"]


def test_a_page_of_a_large_vocabulary_keeps_the_first_words_and_says_so(fits, monkeypatch):
    encoding = fits["see"]
    monkeypatch.setattr(page, "LARGEST", 5 * encoding.inner_dim)
    numbers = rows_of_words(NAMES)
    text = page.page(encoding, numbers, [WORDS[40]])
    assert f'"words": ["{WORDS[40]}", "{WORDS[0]}", "{WORDS[1]}", "{WORDS[2]}", ' in text
    assert f"This page holds 5 of its {len(numbers)} whole words" in text
