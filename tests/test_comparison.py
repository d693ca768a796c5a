"""Comparisons on a matrix whose rows are sums of vectors of sememes: knowledge must help."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from tiny import call, refused

from see_min.errors import InputError
from see_min.experiments.comparison import (
    as_dense,
    measure_rows,
    reachable,
    run_comparison,
)
from see_min.fitting.least_squares import frequency_weights
from see_min.recipe import FIT_POWER
from see_min.related import registry
from see_min.words.lexicon import Lexicon
from see_min.words.vocabulary import build_vocabulary

V, D, S = 241, 24, 30  # S sememes
COMPARED = ("no_knowledge", "shuffled", "random_units")  # controls of see-derived
SYLLABLES = [first + second for first in "bdfgklmnp" for second in "aiou"]
WORDS = [SYLLABLES[w % 36] + SYLLABLES[7 * w % 35] + SYLLABLES[w // 36] for w in range(V)]


@pytest.fixture(scope="module")
def data():
    """(E0, vocabulary): word w has 1 + w mod 4 sememes; its row is their sum and noise."""
    rng = np.random.default_rng(0)
    sememes = [rng.choice(S, 1 + w % 4, replace=False) for w in range(V)]
    columns = 0.8 ** np.arange(D)  # later columns are smaller
    vectors = columns * rng.standard_normal((S, D))  # (S, D)
    E0 = np.array([vectors[own].sum(0) for own in sememes])  # (V, D)
    E0 += 0.3 * columns * rng.standard_normal((V, D))
    lexicon = Lexicon.of({w: [tuple(f"m{s}" for s in own)] for w, own in zip(WORDS, sememes)})
    counts = np.floor(3000 / np.arange(1, V + 1))
    return E0, build_vocabulary(WORDS, lexicon, counts, segmentation={})


def pairs(number=40):
    rng = np.random.default_rng(5)
    drawn = [rng.choice(V, 2, replace=False) for _ in range(number)]
    return [(WORDS[a], WORDS[b], float(i * i % 23)) for i, (a, b) in enumerate(drawn)]


def error(data, method, ratio, count):
    found = registry.approximate(*data, method, ratio, sweeps=3, count=count)
    return ((data[0] - found.rows(np.arange(V))) ** 2).sum()


@pytest.mark.parametrize("ratio, count", [(3, "parameters"), (6, "parameters"), (20, "bytes"),
                                          (24, "bytes")])
def test_knowledge_leaves_less_error_than_its_controls(data, ratio, count):
    """By bytes from the ratio on at which codes alone are too few."""
    own = error(data, "see-derived", ratio, count)
    assert all(own < 0.7 * error(data, control, ratio, count) for control in COMPARED)


@pytest.mark.parametrize("ratio, count", [(4, "parameters"), (20, "bytes")])
def test_knowledge_is_worth_nothing_where_rows_have_nothing_to_do_with_it(data, ratio, count):
    """The control of the test above: rows of other words."""
    permuted = np.random.default_rng(1).permutation(data[0]), data[1]
    own, other = (error(permuted, name, ratio, count) for name in ("see-derived", "shuffled"))
    assert own > 0.8 * other


def test_measures_are_those_of_loops(data):
    E0, vocabulary = data
    found = registry.approximate(*data, "svd", 4)
    row = measure_rows(E0, vocabulary, found, {"a": pairs()}, sentences=np.sum)
    E, f = found.rows(np.arange(V)), frequency_weights(vocabulary.counts, FIT_POWER)
    squares = [((E0[w] - E[w]) ** 2).sum() for w in range(V)]
    norms = [(E0[w] ** 2).sum() for w in range(V)]
    assert row["error"] == pytest.approx(sum(squares) / sum(norms), rel=1e-12)
    weighted = sum(f[w] * squares[w] for w in range(V)) / sum(f[w] * norms[w] for w in range(V))
    assert row["weighted_error"] == pytest.approx(weighted, rel=1e-12)
    assert row["bytes"] == 4 * row["parameters"] == 4 * found.parameters
    assert row["scores"]["STS"] == pytest.approx(E.sum(), rel=1e-12)
    rare = {WORDS[w] for w in range(V // 2, V)}  # counts fall
    assert row["pairs"] == {"a": [40, sum(a in rare or b in rare for a, b, _ in pairs())]}


def test_the_weighted_error_is_that_of_the_metric_and_no_other_measure_is(data):
    """An error e costs 0.7 e C e^T + 0.3 |e|^2, with C of trace D."""
    C = np.diag(np.linspace(0.1, 1.9, D))
    found, plain = registry.approximate(*data, "svd", 4), {"metric": None}
    rows = [run_comparison(*data, ("svd",), (4,), log=str, **how)[1]
            for how in (plain, {"metric": 5 * C, "mix": 0.7})]
    off = data[0] - found.rows(np.arange(V))
    f, G = frequency_weights(data[1].counts, FIT_POWER), 0.7 * C + 0.3 * np.eye(D)
    cost = sum(f[w] * off[w] @ G @ off[w] for w in range(V))
    norm = sum(f[w] * data[0][w] @ G @ data[0][w] for w in range(V))
    assert rows[1]["weighted_error"] == pytest.approx(cost / norm, rel=1e-9)
    assert rows[0]["weighted_error"] != pytest.approx(cost / norm, rel=1e-3)
    assert rows[0]["error"] == rows[1]["error"]


def test_rows_may_stand_in_any_order(data):
    E0, vocabulary = data
    order = np.random.default_rng(2).permutation(V)
    names, tokens, notes = ([values[w] for w in order] for values in
                            (vocabulary.names, vocabulary.tokens, vocabulary.annotations))
    turned = replace(vocabulary, names=names, tokens=tokens, annotations=notes,
                     counts=vocabulary.counts[order])
    benchmarks = {"a": pairs()}
    one = measure_rows(E0, vocabulary, as_dense(E0), benchmarks)
    two = measure_rows(E0[order], turned, as_dense(E0[order]), benchmarks)
    assert one["scores"] == two["scores"] and one["rare_scores"] == two["rare_scores"]


def test_dense_is_first_and_methods_without_random_numbers_run_once(data):
    lines = []
    rows = run_comparison(*data, ("see", "svd"), (3,), (0, 1), log=lines.append, sweeps=1)
    found = [(row["method"], row["ratio"], row["seed"]) for row in rows]
    assert found == [("dense", 1, 0), ("see", 3, 0), ("see", 3, 1), ("svd", 3, 0)]
    assert rows[0]["error"] == 0 and rows[0]["cosine"] == pytest.approx(1, rel=1e-12)
    assert [line.split(":")[0] for line in lines] == [
        "1/3 see at 3x, seed 0", "2/3 see at 3x, seed 1", "3/3 svd at 3x, seed 0"]


def test_ratios_out_of_reach_are_refused_before_any_work_or_left_out_with_all(data):
    with pytest.raises(InputError, match="ratio: expected 1 to .* got 500"):
        run_comparison(*data, ("svd", "see"), (3, 500), log=lambda line: pytest.fail(line))
    lines = []
    found = reachable((V, D), data[1], ("svd", "see"), (3, 500), lines.append)
    assert found == [(3, "svd"), (3, "see")]
    assert [line.split(" is")[0] for line in lines] == ["svd at 500x", "see at 500x"]
    with pytest.raises(InputError, match="ratio: "):
        reachable((V, D), data[1], ("svd",), (500,), lines.append)


def test_forms_that_count_parameters_may_be_rounded(data):
    """word2ket: 5 numbers of 8 bits a word and term, a step per table and term; see has its own."""
    names = ("word2ket", "svd", "see", "tt")
    plain, few = (run_comparison(*data, names, (2,), log=str, sweeps=1, bits=bits)[1:]
                  for bits in (None, 8))
    assert few[0]["parameters"] == plain[0]["parameters"] == few[0]["bytes"] - 8
    assert 0 < abs(few[0]["error"] - plain[0]["error"]) < 0.01
    assert few[1]["bytes"] < 0.3 * plain[1]["bytes"]
    for before, after in zip(plain[2:], few[2:]):
        assert before | {"seconds": 0} == after | {"seconds": 0}


@pytest.fixture
def command(data, tmp_path):
    """The words of `compare` with the files of the data."""
    np.save(tmp_path / "e.npy", data[0])
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    (tmp_path / "a.txt").write_text("\n".join(f"{a}\t{b}\t{score}" for a, b, score in pairs()))
    (tmp_path / "sts.csv").write_text("a,b,1\n")
    return ["compare", "--matrix", tmp_path / "e.npy", "--lexicon", "none", "--quick",
            "--out", tmp_path / "out"]


def test_the_command_writes_data_a_table_and_a_figure(command, tmp_path, capsys):
    code, said, log = call(capsys, *command, "--methods", "see-derived", "shuffled",
                           "--ratios", 4, "--seeds", 0, 1, "--similarity", tmp_path / "a.txt")
    out = tmp_path / "out"
    assert code == 0 and {path.name for path in out.iterdir()} == {
        "compare.json", "compare.md", "compare.png"}
    table = (out / "compare.md").read_text()
    assert said.startswith(table) and "1/4 see-derived at 4x, seed 0: " in log
    rows = json.loads((out / "compare.json").read_text())["rows"]
    see = np.mean([row["scores"]["a"] for row in rows if row["method"] == "see-derived"])
    assert re.search(r"\| see-derived, 4 \| 1/[\d.]+ \| 1/4\.", table)  # parameters, bytes
    assert f"{see:.3f}" in table
    assert "Pairs whose two words" in table


def test_flags_that_make_no_sense_are_refused(command, tmp_path, capsys):
    sts = "sts: expected --model, whose embedding the matrix can replace, got none"
    assert sts in refused(capsys, *command, "--sts", tmp_path / "sts.csv")
    assert "method: expected one of see, " in refused(capsys, *command, "--methods", "lsa")
    for mix in ("1", "nan", "-0.1"):
        assert "mix: expected 0 to below 1, got " in refused(capsys, *command, "--mix", mix)
    assert "bits: expected 4 to 16, or 32, got 3" in refused(capsys, *command, "--bits", 3)
    big = "seed: expected 0 to 2^63 - 1, got 9999999999999999999"
    assert big in refused(capsys, *command, "--seeds", 9999999999999999999)
    assert not (tmp_path / "out").exists()


def test_importing_the_comparison_loads_no_torch():
    code = "import sys, see_min.experiments.comparison as c, see_min.experiments.explain as e\n"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
