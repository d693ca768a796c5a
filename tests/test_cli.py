"""The commands compare, morphology and hownet as a user meets them: what they print and write, and input that cannot be used."""

import json
import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from see_min.__main__ import main
from see_min.hownet import FILES
from see_min.morphemes import segment

ROOT = Path(__file__).parents[1]
WORDS = [onset + rime for onset in ("ba", "de", "fi", "gro", "ku", "la") for rime in "n sk lt rm tt po ge vi ze ma".split()]
V, D = len(WORDS), 12
METHODS = ("see", "shuffled", "svd", "pq")
ROW_KEYS = {"method", "ratio", "seed", "seconds", "floats", "bytes", "error", "weighted_error", "cosine", "scores", "rare_scores",
            "pairs"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A directory with a matrix, its vocabulary, a lexicon, two lists of pairs; and with files that are broken."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    np.save(folder / "e.npy", rng.normal(size=(V, D)))
    pairs = [(WORDS[i], WORDS[(7 * i + 3) % V], i % 11) for i in range(40)] + [("none", "ban", 5)]
    texts = {
        "vocab.txt": "\n".join(WORDS), "short.txt": "\n".join(WORDS[1:]),
        "lexicon.txt": "".join(f"{word}\nfirst{i % 5}\tsecond{i % 3}\n" for i, word in enumerate(WORDS)),
        "half.txt": "ban\nfirst\n\n", "sim.txt": "".join(f"{a}\t{b}\t{score}\n" for a, b, score in pairs),
        "two.txt": "ban\tdesk\t3\nban\tdesk\n", "word.txt": "ban\tdesk\tlow\n", "sts.csv": "one sentence,another,3\n",
        "sts_two.csv": "ban desk,filt,3\nban,3\n", "cut.tsv": "ban\tba @@n\t1\ndesk\tde @@sk\nlonely\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


def command(files, out, *more):
    """compare, of which further flags may replace what stands here."""
    base = ["compare", "--matrix", files / "e.npy", "--lexicon", files / "lexicon.txt", "--ratios", "3", "--sweeps", "2",
            "--methods", *METHODS, "--out", out]
    return [str(word) for word in (*base, *more)]


def call(capsys, *words):
    """(exit code, stdout, stderr) in this process. Anything but an exit or an exit code passes through."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code
    return (code, *capsys.readouterr())


def assert_one_line(stderr, text):
    assert stderr.count("\n") == 1 and stderr.endswith("\n") and "Traceback" not in stderr
    assert text in stderr


# ------------------------------------------------------------------ compare


@pytest.fixture(scope="module")
def compared(files, tmp_path_factory):
    """(directory, command, the finished process) of a real process."""
    out = tmp_path_factory.mktemp("compared") / "new" / "out"
    words = command(files, out, "--similarity", files / "sim.txt")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-m", "see_min", *words], cwd=ROOT, env=environment, capture_output=True, text=True,
                         timeout=120, check=False)
    return out, words, run


@pytest.fixture(scope="module")
def report(compared):
    return json.loads((compared[0] / "compare.json").read_text())


def test_compare_ends_well_and_says_on_stderr_what_it_compares_on(compared, files):
    _, _, run = compared
    assert run.returncode == 0
    assert run.stderr == (f"{files}/e.npy: 60 rows of 12; the lexicon covers 100% of the 60 tokens that can be whole words, "
                          "100% of their occurrences\n")


def test_compare_leaves_data_a_table_and_a_figure_and_nothing_else(compared):
    out = compared[0]
    assert sorted(path.name for path in out.iterdir()) == ["compare.json", "compare.md", "compare.png"]
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert compared[2].stdout.endswith(f"written: {out}/compare.json, {out}/compare.md, {out}/compare.png\n")


def test_the_data_name_the_command_and_have_a_row_a_method(compared, report, files):
    assert shlex.split(report["task"]["command"]) == ["python", "-m", "see_min", *compared[1]]
    expected = {"source": f"{files}/e.npy", "rows": V, "dimension": D, "policy": "additive", "sweeps": 2}
    assert {key: report["task"][key] for key in expected} == expected
    assert [(row["method"], row["ratio"], row["seed"]) for row in report["rows"]] == [
        ("dense", 1, 0), *((method, 3, 0) for method in METHODS)]
    assert all(set(row) == ROW_KEYS for row in report["rows"])
    assert all(row["pairs"]["sim"][0] == 40 for row in report["rows"])  # of 41, one with a word that has no row


def test_each_method_keeps_no_more_than_its_share(report):
    dense, see, shuffled, svd, pq = report["rows"]
    assert (dense["floats"], dense["bytes"], dense["error"]) == (V * D, 4 * V * D, 0)
    assert 0 < see["floats"] == shuffled["floats"] <= V * D / 3 and pq["bytes"] <= 4 * V * D / 3
    rank = svd["floats"] / (V + D)  # rounded up: never a weaker control
    assert rank == int(rank) and (rank - 1) * (V + D) < V * D / 3 <= svd["floats"]


def test_svd_has_the_error_of_the_discarded_singular_values(report, files):
    squares = np.linalg.svd(np.load(files / "e.npy"), compute_uv=False) ** 2
    svd = next(row for row in report["rows"] if row["method"] == "svd")
    rank = svd["floats"] // (V + D)
    assert svd["error"] == pytest.approx(squares[rank:].sum() / squares.sum(), rel=1e-9)


def test_the_dense_score_is_spearmans_correlation_of_the_pairs(report, files):
    from scipy.stats import spearmanr

    E0, cosines, scores = dict(zip(WORDS, np.load(files / "e.npy"))), [], []
    for line in (files / "sim.txt").read_text().splitlines():
        one, other, score = line.split("\t")
        if one in E0 and other in E0:
            x, y = E0[one], E0[other]
            cosines.append(x @ y / (x @ x * (y @ y)) ** 0.5)
            scores.append(float(score))
    assert report["rows"][0]["scores"]["sim"] == pytest.approx(spearmanr(cosines, scores).statistic, abs=1e-9)


def test_the_table_is_printed_with_a_line_a_method(compared, report):
    text = (compared[0] / "compare.md").read_text()
    assert text in compared[2].stdout
    lines = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    assert lines == ["method, ratio", "---", "dense", *(f"{method}, 3" for method in METHODS),
                     "ratio, other", "---", "3, shuffled"]
    gain = report["rows"][1]["scores"]["sim"] - report["rows"][2]["scores"]["sim"]
    assert f"| 3, shuffled | {gain:+.3f} |" in text


def test_each_fit_is_told_when_it_is_done(compared, report):
    told = re.findall(r"^(\S+) at 3x, seed 0: weighted error (\S+), sim (\S+) \(\d+ s\)$", compared[2].stdout, re.M)
    assert told == [(row["method"], f"{row['weighted_error']:.3f}", f"{row['scores']['sim']:.3f}") for row in report["rows"][1:]]


def test_a_second_run_repeats_every_number(compared, report, files, tmp_path, capsys):
    code, _, _ = call(capsys, *command(files, tmp_path, "--similarity", files / "sim.txt"))
    again = json.loads((tmp_path / "compare.json").read_text())["rows"]
    assert code == 0 and len(again) == len(report["rows"])
    for one, other in zip(report["rows"], again):
        for key in ("floats", "bytes", "pairs"):
            assert one[key] == other[key]
        for key in ("error", "weighted_error", "cosine"):
            assert one[key] == pytest.approx(other[key], rel=1e-6, abs=1e-12)  # threads add in another order


def test_random_methods_run_once_a_seed_and_the_others_once_and_nothing_twice(files, tmp_path, capsys):
    flags = ["--methods", "hashed", "svd", "hashed", "--seeds", 5, 2, 5, "--ratios", 3, "3.0", 2.5]
    assert call(capsys, *command(files, tmp_path, *flags))[0] == 0
    rows = json.loads((tmp_path / "compare.json").read_text())["rows"]
    assert [(row["method"], row["ratio"], row["seed"]) for row in rows] == [
        ("dense", 1, 5), ("hashed", 3, 5), ("hashed", 3, 2), ("svd", 3, 5),
        ("hashed", 2.5, 5), ("hashed", 2.5, 2), ("svd", 2.5, 5)]
    assert rows[1]["error"] != rows[2]["error"]


def test_policies_are_methods_of_compare_too(files, tmp_path, capsys):
    (tmp_path / "cut").write_text("ban\tba @@n\n")
    code, out, _ = call(capsys, *command(files, tmp_path, "--methods", "senses", "backoff", "--segmentation", tmp_path / "cut"))
    assert code == 0 and "| senses, 3 |" in out and "| backoff, 3 |" in out


def test_all_methods_are_compared_and_what_is_out_of_reach_is_left_out_with_a_line(files, tmp_path, capsys, monkeypatch):
    import see_min.compare

    quick = {name: see_min.compare.RELATED[name] for name in ("svd", "weighted-svd", "pq", "word2ket", "tt")}
    monkeypatch.setattr(see_min.compare, "RELATED", quick)  # without those that train
    code, out, _ = call(capsys, *command(files, tmp_path, "--methods", "all", "--ratios", 1.5, 4))
    assert code == 0 and re.search(r"^word2ket at 4x is left out: ratio: expected 1 to \S+ for word2ket with", out, re.M)
    lines = [(row["method"], row["ratio"]) for row in json.loads((tmp_path / "compare.json").read_text())["rows"]]
    everything = [*see_min.compare.METHODS, "word2ket", "tt"]
    assert lines == [("dense", 1), *((method, ratio) for ratio in (1.5, 4) for method in everything if (method, ratio) in lines)]
    assert {method for method, _ in lines[1:]} == set(everything) and ("word2ket", 4) not in lines
    assert call(capsys, *command(files, tmp_path, "--methods", "word2ket", "--ratios", 4))[0] == 2  # named, it is refused


def test_what_a_lexicon_lacks_is_noted_on_stderr_and_does_not_stop_the_run(files, tmp_path, capsys):
    records = "NO.=1\nW_E=ban\nDEF={forbid|禁止}\n\nNO.=2\nW_E=desk\nDEF={furniture|家具\n"
    (tmp_path / "records").write_text(records)
    code, _, stderr = call(capsys, *command(files, tmp_path / "out", "--methods", "pq", "--lexicon", tmp_path / "records"))
    assert code == 0
    first = f"see_min: notes on what the lexicon lacks: 1, the first: {tmp_path}/records:7: "
    assert stderr.startswith(first) and stderr.count("\n") == 2  # and the line on the matrix


UNREADABLE = "expected a file that can be read, got No such file or directory"
BAD = {
    "missing matrix": (["--matrix", "{f}/none.npy"], "{f}/none.npy: " + UNREADABLE),
    "matrix of no kind": (["--matrix", "{f}/vocab.txt"], "{f}/vocab.txt: expected a name that ends in .npy, .npz or .safetenso"),
    "missing pairs": (["--similarity", "{f}/none"], "{f}/none: " + UNREADABLE),
    "pairs of two columns": (["--similarity", "{f}/sim.txt", "{f}/two.txt"], "{f}/two.txt:2: expected 3 columns, none empty, "),
    "a score of letters": (["--similarity", "{f}/word.txt"], "{f}/word.txt:1: expected a finite score, got 'low'"),
    "sentences of two columns": (["--sts", "{f}/sts_two.csv"], "{f}/sts_two.csv:2: expected 3 columns, none empty, got "),
    "sentences without a model": (["--sts", "{f}/sts.csv"], "sts: expected --model, whose place in sentences the matrix can "),
    "unknown method": (["--methods", "see", "magic"], "method: expected one of see, backoff, shuffled, hashed, svd, "),
    "unknown policy": (["--policy", "magic"], "policy: expected one of additive, amplitudes, "),
    "broken lexicon": (["--lexicon", "{f}/half.txt"], "{f}/half.txt:3: expected a word, got an empty line"),
    "missing lexicon": (["--lexicon", "{f}/none"], "{f}/none: expected a lexicon file, got No such file or directory"),
    "nothing after a +": (["--lexicon", "sample+"], "lexicon: expected names joined by single +, got 'sample+'"),
    "short vocabulary": (["--vocabulary", "{f}/short.txt"], "vocabulary: expected 60 tokens, one a row of {f}/e.npy, got 59"),
    "missing vocabulary": (["--vocabulary", "{f}/none.txt"], "{f}/none.txt: " + UNREADABLE),
    "missing text": (["--text", "{f}/none"], "{f}/none: " + UNREADABLE),
    "text of other words": (["--text", "{f}/sts.csv"], "{f}/sts.csv: expected words of the vocabulary, got none: "),
    "counts without a tab": (["--counts", "{f}/vocab.txt"], "{f}/vocab.txt:1: expected a token, a tab and a whole number "),
    "no frequencies": (["--unordered"], "counts: expected a text, counts, or rows in the order of frequency, got none of them"),
    "missing segmentation": (["--segmentation", "{f}/none"], "{f}/none: " + UNREADABLE),
    "broken segmentation": (["--segmentation", "{f}/cut.tsv"], "{f}/cut.tsv:3: expected 2 or 3 columns, got 1"),
    "unknown model": (["--model", "{f}/none"], "model: expected all-MiniLM-L6-v2 or a folder with config.json, got {f}/none"),
    "no order": (["--order", "0"], "order: expected at least 1, got 0"),
    "negative order": (["--order", "-1"], "order: expected at least 1, got -1"),
    "no sweeps": (["--sweeps", "0"], "sweeps: expected at least 1, got 0"),
    "one name for two": (["--similarity", "{f}/sim.txt", "{f}/sim.txt"], "similarity: expected files of different names, got "),
    "ratio a word": (["--ratios", "x"], "--ratios: invalid number value: 'x'"),
    "seed a word": (["--seeds", "x"], "--seeds: invalid int value: 'x'"),
    "unknown flag": (["--speed", "9"], "unrecognized arguments: --speed 9"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_of_compare_is_one_line_and_exit_code_2(capsys, files, tmp_path, case):
    *flags, text = (part.replace("{f}", str(files)) for part in (*BAD[case][0], BAD[case][1]))
    code, stdout, stderr = call(capsys, *command(files, tmp_path / "out", *flags))
    assert (code, stdout) == (2, "") and not list(tmp_path.iterdir())
    assert_one_line(stderr, text)


def test_compare_without_any_matrix_is_one_line_and_exit_code_2(capsys, tmp_path):
    code, stdout, stderr = call(capsys, "compare", "--out", tmp_path / "out")
    assert (code, stdout, stderr) == (2, "", "see_min: matrix: expected --matrix FILE or --model NAME, got neither\n")


def test_a_negative_seed_is_refused_before_any_work(capsys, files, tmp_path):
    code, stdout, stderr = call(capsys, *command(files, tmp_path / "out", "--seeds", "3", "-1"))
    assert (code, stdout) == (2, "") and not list(tmp_path.iterdir())
    assert stderr.splitlines()[-1] == "see_min: seeds: expected at least 0, got -1"


@pytest.mark.parametrize("ratio", ["1000", "0.5", "nan", "inf", "-3"])
def test_a_ratio_out_of_reach_is_refused_before_any_work(capsys, files, tmp_path, ratio):
    code, stdout, stderr = call(capsys, *command(files, tmp_path / "out", "--ratios", "3", ratio))
    assert (code, stdout) == (2, "") and not list(tmp_path.iterdir())
    about, refusal = stderr.splitlines()  # the first says what the matrix is
    assert about.startswith(f"{files}/e.npy: 60 rows of 12; ")
    assert re.fullmatch(rf"see_min: ratio: expected 1 to [\d.]+ for .*, got {ratio}", refusal)


def test_an_out_that_cannot_be_written_is_named(capsys, files, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, stderr = call(capsys, *command(files, tmp_path / "file" / "out", "--methods", "pq"))
    assert code == 2 and stderr.splitlines()[-1] == (
        f"see_min: out: expected a directory that can be written, got {tmp_path}/file/out")


# ------------------------------------------------------------------ morphology

GOLD = "plays\tplay @@s\t200\nsing\tsing\nbaking\tbake @@ing\nunsaid\tun @@said\n"
MINE = "plays\tplay @@s\nsing\ts @@ing\nbaking\tbak @@ing\nother\toth @@er\n"
HEAD = "| segmentation | words | precision | recall | F1 | all cuts right |"


@pytest.fixture
def gold(tmp_path):
    (tmp_path / "gold.tsv").write_text(GOLD)
    (tmp_path / "mine.tsv").write_text(MINE)
    return tmp_path / "gold.tsv"


def test_morphology_rates_a_segmentation_on_the_words_of_both_files(capsys, gold, tmp_path):
    """plays and baking are right, sing has a cut too many: precision 2 / 3, recall 2 / 2, F1 4 / 5, exact 2 / 3."""
    code, stdout, stderr = call(capsys, "morphology", gold, "--segmentation", tmp_path / "mine.tsv")
    assert (code, stderr) == (0, "")
    assert stdout.splitlines() == [
        f"Command: `python -m see_min morphology {gold} --segmentation {tmp_path}/mine.tsv`", "", HEAD,
        "| --- | ---: | ---: | ---: | ---: | ---: |", f"| {tmp_path}/mine.tsv | 3 | 0.667 | 1.000 | 0.800 | 0.667 |"]


def test_morphology_rates_only_the_words_of_a_vocabulary(capsys, gold, tmp_path):
    """Of the vocabulary, sing and plays can be words; ##ing is a piece."""
    (tmp_path / "vocab.txt").write_text("[CLS]\nsing\nplays\n##ing\nthe\n")
    flags = ["--segmentation", tmp_path / "mine.tsv", "--vocabulary", tmp_path / "vocab.txt"]
    code, stdout, _ = call(capsys, "morphology", gold, *flags)
    assert code == 0 and stdout.endswith("mine.tsv | 2 | 0.500 | 1.000 | 0.667 | 0.500 |\n")


def test_morphology_reads_the_object_of_a_json_file_that_the_key_names(capsys, gold, tmp_path):
    (tmp_path / "both.json").write_text(json.dumps({"one": {"plays": ["play", "s"]}, "two": {"plays": "pl ays"}}))
    flags = ["morphology", gold, "--segmentation", tmp_path / "both.json"]
    assert call(capsys, *flags, "--key", "one")[1].endswith("| 1 | 1.000 | 1.000 | 1.000 | 1.000 |\n")
    assert call(capsys, *flags, "--key", "two")[1].endswith("| 1 | 0.000 | 0.000 | 0.000 | 0.000 |\n")
    code, stdout, stderr = call(capsys, *flags)
    assert (code, stdout) == (2, "")
    assert_one_line(stderr, f"see_min: key: expected one of one, two in {tmp_path}/both.json, got None")


def test_without_a_segmentation_morfessor_is_trained_and_rated(capsys, tmp_path):
    stems, endings = ("play", "work", "jump", "talk", "look"), ("", "s", "ed", "ing")
    gold = {stem + ending: [part for part in (stem, ending) if part] for stem in stems for ending in endings}
    (tmp_path / "gold.json").write_text(json.dumps(gold))
    code, stdout, stderr = call(capsys, "morphology", tmp_path / "gold.json")
    assert (code, stderr) == (0, "training Morfessor on 20 words of letters alone\n")
    cuts = lambda pieces: {len("".join(pieces[:i])) for i in range(1, len(pieces))}
    pairs = [(cuts(pieces), cuts(gold[word])) for word, pieces in zip(gold, segment(gold))]
    hits, claimed, true = (sum(len(part(*pair)) for pair in pairs) for part in
                           (lambda mine, own: mine & own, lambda mine, own: mine, lambda mine, own: own))
    assert hits > 0
    values = (hits / claimed, hits / true, 2 * hits / (claimed + true), sum(p == g for p, g in pairs) / 20)
    assert stdout.splitlines()[-1] == f"| Morfessor | 20 | {' | '.join(f'{value:.3f}' for value in values)} |"


def test_bad_input_of_morphology_is_one_line_and_exit_code_2(capsys, gold, tmp_path):
    (tmp_path / "strange.tsv").write_text("zebra\tzeb @@ra\n")
    (tmp_path / "broken.tsv").write_text("plays\tplay @@s\nsing\n")
    (tmp_path / "vocab.txt").write_text("zebra\nlion\n")
    disjoint = "see_min: predicted: expected at least 1 word of gold, got none"
    for words, text in [
        ([tmp_path / "none"], f"{tmp_path}/none: {UNREADABLE}"),
        ([tmp_path / "broken.tsv"], f"{tmp_path}/broken.tsv:2: expected 2 or 3 columns, got 1"),
        ([gold, "--segmentation", tmp_path / "none"], f"{tmp_path}/none: {UNREADABLE}"),
        ([gold, "--segmentation", tmp_path / "broken.tsv"], f"{tmp_path}/broken.tsv:2: expected 2 or 3 columns, got 1"),
        ([gold, "--vocabulary", tmp_path / "none"], f"{tmp_path}/none: {UNREADABLE}"),
        ([gold, "--segmentation", tmp_path / "strange.tsv"], disjoint),
        ([gold, "--segmentation", tmp_path / "mine.tsv", "--vocabulary", tmp_path / "vocab.txt"], disjoint),
        ([], "the following arguments are required: FILE"),
    ]:
        code, stdout, stderr = call(capsys, "morphology", *words)
        assert (code, stdout) == (2, ""), words
        assert_one_line(stderr, text)


def test_a_vocabulary_that_shares_no_word_with_the_gold_file_is_exit_code_2_after_morfessor(capsys, gold, tmp_path):
    (tmp_path / "vocab.txt").write_text("zebra\nlion\n1990\n")
    code, stdout, stderr = call(capsys, "morphology", gold, "--vocabulary", tmp_path / "vocab.txt")
    assert (code, stdout) == (2, "")
    assert stderr.splitlines() == ["training Morfessor on 2 words of letters alone",
                                   "see_min: predicted: expected at least 1 word of gold, got none"]


# ------------------------------------------------------------------ hownet

SEMEMES = {"animal|兽": 2, "tool|用具": 1, "money|货币": 1}
SENSES = [  # number, English, Chinese, definition
    ("1", "cat", "猫", "{animal|兽}"), ("2", "cat", "九尾鞭", "{tool|用具}"),
    ("3", "purse", "钱包", "{tool|用具:modifier={money|货币}}"), ("4", "mouse", "鼠", "{animal|兽:modifier={tool|用具}"),
    ("5", "void", "空", ""), ("6", "", "狗", "{animal|兽}"),
]


@pytest.fixture
def resources(tmp_path):
    """A folder as OpenHowNet keeps it: two pickles and a text."""
    keys = ("No", "en_word", "ch_word", "Def")
    records = {sense[0]: {**dict(zip(keys, sense)), "en_grammar": "noun", "ch_grammar": "noun"} for sense in SENSES}
    contents = pickle.dumps(SEMEMES), pickle.dumps(records), "tool|用具 hyponym animal|兽\n".encode()
    (tmp_path / "hownet" / "resources").mkdir(parents=True)
    for name, content in zip(FILES, contents):
        (tmp_path / "hownet" / "resources" / name).write_bytes(content)
    return tmp_path / "hownet"


def test_hownet_without_data_names_the_command_that_downloads_them(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in ("~/.openhownet", tmp_path, tmp_path / "none"):
        flags = [] if folder == "~/.openhownet" else ["--folder", folder]  # the first is the default
        code, stdout, stderr = call(capsys, "hownet", *flags)
        assert (code, stdout) == (2, "")
        assert_one_line(stderr, f"see_min: {folder}: expected HowNet's data (resources/")
        assert stderr.endswith("got none: python -m see_min hownet --download\n")
    assert not list(tmp_path.iterdir())


def test_hownet_counts_words_senses_and_sememes_and_shows_notes(capsys, resources):
    """cat has two senses, purse and mouse one; void has no sememe; the definition of mouse lacks a bracket."""
    pytest.importorskip("OpenHowNet")
    code, stdout, stderr = call(capsys, "hownet", "--folder", resources)
    assert (code, stderr) == (0, "")
    lines = stdout.splitlines()
    assert lines[0] == "3 English words, 4 senses, 3 sememes; 2 notes" and len(lines) == 3
    assert lines[1].startswith("  No. 4 (mouse): no roles, definition: ")
    assert lines[2] == "  No. 5 (void): left out, because its definition names no sememe"


def test_a_folder_of_hownets_data_is_a_lexicon_of_compare(capsys, resources, files, tmp_path):
    pytest.importorskip("OpenHowNet")
    (tmp_path / "vocab.txt").write_text("\n".join(["cat", "mouse", *WORDS[2:]]))
    flags = ["--lexicon", resources, "--vocabulary", tmp_path / "vocab.txt", "--methods", "see"]
    code, _, stderr = call(capsys, *command(files, tmp_path / "out", *flags))
    assert code == 0 and stderr.count("\n") == 2
    assert "see_min: notes on what the lexicon lacks: 2, the first: No. 4 (mouse): " in stderr
    assert "the lexicon covers 3% of the 60 tokens" in stderr  # 2 of 60


def test_what_is_no_plain_pickle_is_refused_unopened(capsys, resources, tmp_path):
    marker = tmp_path / "marker"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    (resources / "resources" / FILES[0]).write_bytes(pickle.dumps(Evil()))
    code, stdout, stderr = call(capsys, "hownet", "--folder", resources)
    assert (code, stdout) == (2, "") and not marker.exists()
    assert_one_line(stderr, f"{resources}/resources/{FILES[0]}: expected a pickle of plain containers, strings and numbers, got ")


def test_explain_without_a_matrix_shows_what_is_known_alone(capsys, tmp_path):
    code, stdout, stderr = call(capsys, "explain", "xyzzy", "normalizes", "--job", tmp_path)
    assert code == 0 and stderr.startswith("no --matrix, no --model, no main job in ")
    assert "change > Standard > adjust" in stdout and "xyzzy" in stdout and "Schmidt" not in stdout
    code, stdout, stderr = call(capsys, "explain", "add", "--job", tmp_path, "--plot", tmp_path / "a.png")
    assert (code, stdout) == (2, "") and not (tmp_path / "a.png").exists()
    assert_one_line(stderr, "plot: expected --matrix FILE, --model NAME or a finished main job, got none of them")


def test_explain_of_a_matrix_is_text_json_and_a_figure(capsys, files, tmp_path):
    matrix = ["--matrix", files / "e.npy", "--ratio", 3, "--sweeps", 2]
    word = (files / "vocab.txt").read_text().split()[0]
    code, text, _ = call(capsys, "explain", word, *matrix)
    assert code == 0 and "nearest words" in text and "Schmidt spectrum" in text
    code, stdout, stderr = call(capsys, "explain", word, "nowhere", *matrix, "--json", "--plot", tmp_path / "a.png")
    one, other = json.loads(stdout)
    assert code == 0 and one["built"]["shape"] == [60, 12] and other["built"] is None
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG") and f"written: {tmp_path}/a.png" in stderr


@pytest.mark.parametrize("flags, text", [
    (["--ratio", "1000"], "ratio: expected 1 to "), (["--seed", "-1"], "seed: expected at least 0, got -1"),
    (["--policy", "magic"], "policy: expected one of "), (["--sweeps", "0"], "sweeps: expected at least 1, got 0"),
])
def test_bad_input_of_explain_is_exit_code_2(capsys, files, flags, text):
    code, stdout, stderr = call(capsys, "explain", "a", "--matrix", files / "e.npy", *flags)
    assert (code, stdout) == (2, "") and stderr.splitlines()[-1].startswith(f"see_min: {text}")
