"""The job on translation, the job on masked words, and checkpoints of every model as a user meets them."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from see_min.__main__ import main
from see_min.bridge import (
    BERTConfig,
    GPTConfig,
    SememeEmbedding,
    TinyBERT,
    TinyGPT,
    TinyTranslator,
    TranslatorConfig,
    compress,
    load_checkpoint,
    perplexity,
    save_checkpoint,
)
from see_min.bridge.finetune import masked_accuracy, stage2
from see_min.bridge.job import STUDENTS, run_job, settings
from see_min.bridge.measure import MASK, bleu, masked, text_ids, translations
from see_min.bridge.translation import METHODS, TranslationStudy
from see_min.inputs import find_source
from see_min.lexicon import Lexicon
from see_min.vocabulary import build_vocabulary

pytest.importorskip("sacrebleu")
torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
SIZES = {"dimension": 24, "blocks": 1, "teacher-steps": 20, "stage1-steps": 2, "stage2-steps": 4, "sweeps": 2}
QUIET = {"say": lambda line: None}
STEMS = [onset + rime for onset in ("ba", "de", "fi", "gro", "ku", "la", "mi") for rime in "n sk lt rm tt po ge vi".split()]


# ------------------------------------------------------------------ two made-up languages


def sentence(rng):
    """Words of the source, stems and plurals in "en"; the target has the letters of stems turned round, plurals in "s"."""
    stems, many = rng.choice(STEMS, rng.integers(4, 8)), rng.random(8) < 0.4
    source = [stem + "en" * int(plural) for stem, plural in zip(stems, many)]
    target = [stem[::-1] + "s" * int(plural) for stem, plural in zip(stems, many)]
    return " ".join(source), " ".join(target)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A directory with train.x, train.y, valid.x, valid.y, a lexicon of the target, a text, and files that are broken."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for name, size in (("train", 500), ("valid", 23)):
        pairs = [sentence(rng) for _ in range(size)]
        for side in (0, 1):
            (folder / f"{name}.{'xy'[side]}").write_text("\n".join(pair[side] for pair in pairs) + "\n")
    texts = {"lexicon.txt": "".join(f"{stem[::-1]}\nthing\tkind{i % 5}\n" for i, stem in enumerate(STEMS)),
             "short.y": "abe\n", "empty.x": "", "blank.x": "\n\n", "one.x": "ban\n", "one.y": "nab\n",
             "text.txt": "\n\n".join(" ".join(rng.choice(STEMS, 40)) for _ in range(60))}
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "broken.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    return folder


def command(files, out, *more, **sizes):
    """compress --task translation; further flags may replace what stands here."""
    flags = [word for name, value in (SIZES | sizes).items() for word in (f"--{name}", value)]
    base = ["compress", "--task", "translation", "--quick", "--parallel", files / "train.x", files / "train.y",
            "--valid-parallel", files / "valid.x", files / "valid.y", "--lexicon", files / "lexicon.txt",
            "--source-lexicon", "none", "--ratios", "4", "--device", "cpu", "--out", out]
    return [str(word) for word in (*base, *flags, *more)]


def job(files, **changes):
    """Settings of a few steps."""
    base = {"parallel": (str(files / "train.x"), str(files / "train.y")), "lexicon": str(files / "lexicon.txt"), "ratios": (4,),
            "valid_parallel": (str(files / "valid.x"), str(files / "valid.y")), "source_lexicon": "none", "device": "cpu",
            "dimension": 24, "blocks": 1, "teacher_steps": 3, "stage1_steps": 1, "stage2_steps": 1, "sweeps": 1}
    return settings(**({"task": "translation", "quick": True} | base | changes))


def start(words):
    return subprocess.Popen([sys.executable, "-m", "see_min", *words], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def finish(process):
    """(exit code, stdout, stderr)."""
    try:
        out, err = process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def call(capsys, *words):
    """The same in this process."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code
    return (code, *capsys.readouterr())


def values(report):
    """All that a second run must repeat."""
    return [{key: value for key, value in row.items() if key not in ("seconds", "tokens_per_second")} for row in report["rows"]]


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    """(directory, report, stdout) of a real process that ran to the end."""
    out = tmp_path_factory.mktemp("finished") / "out"
    code, stdout, stderr = finish(start(command(files, out)))
    assert (code, stderr) == (0, "")
    return out, json.loads((out / "report.json").read_text()), stdout


# ------------------------------------------------------------------ the job on translation


def test_the_report_has_dense_and_five_methods_in_three_stages_each(finished):
    out, report, stdout = finished
    found = [(row["method"], row["ratio"], row["stage"]) for row in report["rows"]]
    students = [(method, 4, stage) for method in METHODS for stage in ("fit", "stage1", "stage2")]
    assert METHODS == ("see", "svd", "hashed", "shuffled", "morphemes") and report["others"] == ["morphemes"]
    assert found == [("dense", 1, "teacher"), ("dense", 1, "stage2"), *students]
    assert all(row["metric"] == "BLEU" and 0 <= row["value"] <= 100 and row["rare_value"] is None for row in report["rows"])
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG") and (out / "report.md").read_text() in stdout
    assert (report["task"]["train_pairs"], report["task"]["valid_pairs"]) == (500, 23)
    assert "tokenize none" in report["task"]["bleu"]


def test_both_embeddings_are_compressed_and_counted_once(finished):
    out, report, _ = finished
    dense, sizes = report["rows"][0], report["task"]["vocabulary"]
    assert dense["embedding_floats"] == 24 * sum(sizes)
    model, words = load_checkpoint(out / "see_4x.pt")
    kept = [sum(p.numel() for p in model.get_submodule(name).parameters()) for name in model.embeddings]
    row = next(row for row in report["rows"] if row["method"] == "see")
    assert row["embedding_floats"] == sum(kept) and all(0.9 * size * 24 / 4 < k <= size * 24 / 4 for k, size in zip(kept, sizes))
    assert sum(p.numel() for p in model.parameters()) == row["model_floats"]
    for row in report["rows"][2:]:
        assert dense["model_floats"] - row["model_floats"] == dense["embedding_floats"] - row["embedding_floats"]
    assert [len(one) for one in words] == sizes


def test_a_killed_run_resumes_to_the_report_of_an_uninterrupted_one(files, finished, tmp_path):
    out = tmp_path / "out"
    process, deadline = start(command(files, out)), time.monotonic() + 600
    while not list((out / "phases").glob("svd-4.json")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL and not (out / "report.json").exists()
    code, stdout, stderr = finish(start(command(files, out, "--resume")))
    assert (code, stderr) == (0, "")
    assert {"teacher", "dense", "see-4", "svd-4"} <= set(re.findall(r"^(\S+): done before$", stdout, re.M))
    assert "morphemes-4: done before" not in stdout
    assert values(json.loads((out / "report.json").read_text())) == values(finished[1])


def test_the_lexicon_of_the_source_is_its_own(files, tmp_path):
    senses = lambda words: sum(bool(note.senses) for note in words.annotations)
    source, target = TranslationStudy(job(files), tmp_path, **QUIET).embeddings
    assert senses(source) == 0 and senses(target) > 50
    assert sum(bool(note.morphemes) for note in source.annotations) > 50  # morphemes come from its own words
    (tmp_path / "foreign.txt").write_text("ban\nfalse\tfriend\n")  # a word of both languages, of one meaning in the file
    changes = {"lexicon": str(tmp_path / "foreign.txt"), "source_lexicon": None}
    source, target = TranslationStudy(job(files, **changes), tmp_path, **QUIET).embeddings
    assert senses(source) >= 1


def test_an_aligned_source_has_the_senses_of_its_translations(files, tmp_path):
    """A word of these texts and its translation are each other's reverse."""
    source, target = TranslationStudy(job(files, source_lexicon="aligned"), tmp_path, **QUIET).embeddings
    senses = [dict(zip(side.words, (note.senses for note in side.annotations))) for side in (source, target)]
    stems = [stem for stem in STEMS if stem in senses[0] and stem[::-1] in senses[1]]
    right = sum(senses[1][stem[::-1]][0] in senses[0][stem] for stem in stems)
    by_chance = sum(senses[1][stem[::-1]][0] in senses[0][other] for stem, other in zip(stems, stems[1:]))
    assert len(stems) > 30 and right > 0.9 * len(stems) and by_chance < 0.5 * len(stems)  # there are five meanings
    none, _ = TranslationStudy(job(files), tmp_path / "none", **QUIET).embeddings
    assert source.words == none.words and [a.morphemes for a in source.annotations] == [a.morphemes for a in none.annotations]


def test_the_dense_model_is_trained_on_at_one_rate_and_students_leaves_at_twelve_times_it(files, tmp_path, monkeypatch):
    """A dense embedding at the rate of leaves would lose what it has learned, and be no fair line to compare with."""
    seen = []

    def recorded(student, *arguments, **given):
        compressed = any(isinstance(module, SememeEmbedding) for module in student.modules())
        seen.append((compressed, given["rate"], given["leaves"]))
        return stage2(student, *arguments, **given)

    monkeypatch.setattr("see_min.bridge.study.stage2", recorded)
    run_job(job(files), tmp_path, **QUIET)
    assert set(seen) == {(False, 1e-4, 1.0), (True, 1e-4, 12.0)} and len(seen) == 1 + len(METHODS)


def test_beginnings_and_ends_are_counted_once_a_sentence(files, tmp_path):
    for words in TranslationStudy(job(files), tmp_path, **QUIET).embeddings:
        assert words.words[:4] == ["<pad>", "<s>", "</s>", "<unk>"] and words.counts[:3].tolist() == [0, 500, 500]


def test_without_validation_pairs_every_twentieth_is_held_out(files, tmp_path):
    study = TranslationStudy(job(files, valid_parallel=None), tmp_path, **QUIET)
    lines = [(files / f"train.{side}").read_text().splitlines() for side in "xy"]
    assert study.pairs == [(a.split(), b.split()) for a, b in zip(*lines)][::20]
    assert len(study.train) == 475 and len(study.pairs) == 25


def test_pairs_longer_than_the_context_are_not_trained_on(files, tmp_path):
    study = TranslationStudy(job(files, context=6), tmp_path, **QUIET)
    assert 0 < len(study.train) < 500 and max(len(side) for pair in study.train for side in pair) == 5


def test_a_shared_vocabulary_is_one_embedding_counted_once(files, tmp_path):
    report = run_job(job(files, shared_vocabulary=True, source_lexicon=None), tmp_path, **QUIET)
    V, = report["task"]["vocabulary"]
    assert report["rows"][0]["embedding_floats"] == 24 * V
    model, words = load_checkpoint(tmp_path / "see_4x.pt")
    assert model.source_embedding is model.target_embedding and words[0] == words[1] and len(words[0]) == V
    row = next(row for row in report["rows"] if row["method"] == "see")
    assert sum(p.numel() for p in model.source_embedding.parameters()) == row["embedding_floats"] <= 24 * V / 4
    assert sum(p.numel() for p in model.parameters()) == row["model_floats"]


def test_further_policies_join_and_are_named_once(files, tmp_path):
    report = run_job(job(files, also=("backoff", "morphemes")), tmp_path, **QUIET)
    assert report["others"] == ["morphemes", "backoff"]
    assert len(report["rows"]) == 2 + 3 * 6


# ------------------------------------------------------------------ a teacher for several seeds


def test_seeds_may_share_a_teacher_and_differ_in_the_students(files, finished, tmp_path):
    teacher = str(finished[0] / "phases" / "teacher.pt")
    reports = [run_job(job(files, teacher=teacher, seed=seed), tmp_path / str(seed), **QUIET) for seed in (0, 1)]
    first = [report["rows"][0]["value"] for report in (finished[1], *reports)]
    assert first[0] == first[1] == first[2]
    assert values(reports[0])[1:] != values(reports[1])[1:]


def test_another_teacher_is_other_work_and_not_resumed(files, finished, tmp_path):
    shared = job(files, teacher=str(finished[0] / "phases" / "teacher.pt"))
    TranslationStudy(job(files), tmp_path, **QUIET).phase("teacher", lambda: "own")
    said = []
    TranslationStudy(shared, tmp_path, resume=True, say=said.append).phase("teacher", lambda: "shared")
    assert "teacher: done before" not in said


# ------------------------------------------------------------------ BLEU and greedy translations


def slow_bleu(sentences, references):
    """100 brevity (product of the precisions of 1 to 4 words)^(1/4), straight from the paper; every precision is above 0 here."""
    logs = 0
    for n in (1, 2, 3, 4):
        right = total = 0
        for words, reference in zip(sentences, references):
            grams, goal = (Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1)) for text in (words, reference))
            right += sum(min(count, goal[gram]) for gram, count in grams.items())
            total += sum(grams.values())
        logs += math.log(right / total) / 4
    ours, theirs = (sum(map(len, texts)) for texts in (sentences, references))
    return 100 * min(1, math.exp(1 - theirs / ours)) * math.exp(logs)


def test_bleu_of_perfect_copies_is_100_and_of_other_words_0():
    text = ["a man plays the guitar".split(), "two dogs run on grass .".split()]
    assert bleu(text, text) == pytest.approx(100, abs=1e-9)
    assert bleu([["x"] * 5, ["y"] * 6], text) == pytest.approx(0, abs=1e-9)


def test_bleu_is_the_one_of_the_paper_on_words_as_they_are():
    references = ["A man , who plays the guitar .".split(), "two dogs don't run on grass .".split()]
    sentences = ["A man who plays the guitar .".split(), "two big dogs don't run on grass .".split()]
    assert bleu(sentences, references) == pytest.approx(slow_bleu(sentences, references), rel=1e-9)
    lower = [[word.lower() for word in text] for text in sentences]
    assert bleu(lower, references) < bleu(sentences, references)  # case counts
    assert bleu(sentences[:1] + [["two", "dogs", "don't", "run"]], references) == pytest.approx(
        slow_bleu(sentences[:1] + [["two", "dogs", "don't", "run"]], references), rel=1e-9)  # too short


def test_translations_are_those_of_each_sentence_alone_in_their_order():
    torch.manual_seed(1)
    model = TinyTranslator(TranslatorConfig(11, 13, 8, 2, 2, context=6)).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter)  # so large that every word shows
    words = [f"s{i}" for i in range(7)], [f"t{i}" for i in range(13)]
    words = ["<pad>", "<s>", "</s>", "<unk>", *words[0]], words[1]
    sentences = [["s1", "s2", "s3"], ["s4"], ["s5", "new", "s6", "s0"], ["s2"] * 9]
    expected = []
    for one in sentences:
        ids = [words[0].index(word) if word in words[0] else 3 for word in one][:5] + [2]
        written = [1]
        while len(written) <= 6 and written[-1] != 2:
            padded = torch.tensor([written])[:, :6]
            written.append(int(model(torch.tensor([ids]), padded)[0, -1].argmax()))
        expected.append([words[1][i] for i in written[1:] if i != 2])
    assert translations(model, sentences, words) == expected
    assert len({tuple(one) for one in expected}) == 4 and min(map(len, expected)) == 1


# ------------------------------------------------------------------ masked words


@pytest.fixture(scope="module")
def masked_run(files, tmp_path_factory):
    """(directory, report) of the job on masked words."""
    out = tmp_path_factory.mktemp("mlm")
    base = {"corpus": str(files / "text.txt"), "lexicon": "none", "ratios": (4,), "vocabulary": 50, "dimension": 24, "context": 8,
            "teacher_steps": 3, "stage1_steps": 1, "stage2_steps": 1, "sweeps": 1, "device": "cpu", "blocks": 1}
    return out, run_job(settings("mlm", quick=True, **base), out, **QUIET)


def test_the_job_on_masked_words_has_the_methods_of_the_main_job_and_reports_accuracy(masked_run):
    out, report = masked_run
    assert list(dict.fromkeys(row["method"] for row in report["rows"])) == ["dense", *STUDENTS]
    assert all(row["metric"] == "masked accuracy" and 0 <= row["value"] <= 1 for row in report["rows"])
    model, words = load_checkpoint(out / "see_4x.pt")
    assert words[0] == MASK and isinstance(model, TinyBERT) and report["task"]["vocabulary"] == len(words) == 51


def test_only_words_that_are_not_special_are_hidden_and_asked_for():
    words = [MASK, "<unk>", "<eos>", "a", "b", "c"]
    ids = np.random.default_rng(0).integers(1, 6, 400)
    for batch in masked(ids, words, 10, 4, 20, seed=0):
        asked = batch.targets[batch.targets >= 0]
        assert asked.min() >= 3 and not (batch.inputs[0][batch.targets < 0] == 0).any()


# ------------------------------------------------------------------ checkpoints


def made(kind, compressed):
    """A model of a kind, and its words."""
    torch.manual_seed(0)
    plain = [f"w{i}" for i in range(30)]
    if kind == "translator":
        model, words = TinyTranslator(TranslatorConfig(30, 27, 12, 1, 2, context=7)), [plain, plain[:27]]
    elif kind == "shared":
        model, words = TinyTranslator(TranslatorConfig(30, 30, 12, 1, 2, context=7, shared=True)), [plain, plain]
    elif kind == "bert":
        model, words = TinyBERT(BERTConfig(30, 12, 1, 2, context=7, pad=3)), plain
    else:
        model, words = TinyGPT(GPTConfig(30, 12, 1, 2, context=7)), plain
    if compressed:
        names = model.embeddings[:1] if kind == "shared" else model.embeddings
        rows = [one[: model.get_submodule(name).num_embeddings] for name in names for one in [plain]]
        compress(model, {name: build_vocabulary(one, Lexicon({})) for name, one in zip(names, rows)}, ratio=2, order=1)
    return model.eval(), words


RELOAD = """
import sys, numpy as np, torch
from see_min.bridge import load_checkpoint
torch.set_num_threads(1)
for path in sys.argv[1:]:
    model, words = load_checkpoint(path)
    ids = torch.tensor([[1, 2, 10, 0, 7], [3, 4, 5, 6, 3]])
    with torch.no_grad():
        logits = model(*[ids] * len(model.embeddings)).numpy()
    same, floats = np.array_equal(logits, np.load(path + ".npy")), sum(p.numel() for p in model.parameters())
    print(same, words[-1][-1], type(model).__name__, floats)
"""


def test_checkpoints_of_every_model_give_bit_identical_logits_in_a_fresh_process(tmp_path):
    paths, expected = [], []
    for kind in ("gpt", "bert", "translator", "shared"):
        for compressed in (False, True):
            model, words = made(kind, compressed)
            path = str(tmp_path / f"{kind}{compressed}.pt")
            save_checkpoint(model, path, words)
            ids = torch.tensor([[1, 2, 10, 0, 7], [3, 4, 5, 6, 3]])
            with torch.no_grad():
                np.save(path + ".npy", model(*[ids] * len(model.embeddings)).numpy())
            paths.append(path)
            expected.append(f"True {words[-1][-1]} {type(model).__name__} {sum(p.numel() for p in model.parameters())}")
    run = subprocess.run([sys.executable, "-c", RELOAD, *paths], cwd=ROOT, env=ENVIRONMENT, capture_output=True, encoding="utf-8",
                         timeout=120, check=False)
    assert (run.returncode, run.stderr, run.stdout.splitlines()) == (0, "", expected)


@pytest.mark.parametrize("kind", ["bert", "translator"])
def test_a_checkpoint_of_another_kind_or_cut_anywhere_is_named(tmp_path, kind):
    path = tmp_path / "a.pt"
    model, words = made(kind, True)
    save_checkpoint(model, path, words)
    whole, stored = path.read_bytes(), torch.load(path, weights_only=True)
    expected = re.escape(f"{path}: expected a checkpoint of see_min, got ")
    for share in (0.001, 0.5, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=expected):
            load_checkpoint(path)
    torch.save(stored | {"format": "see_min gpt 1"}, path)
    with pytest.raises(ValueError, match=expected):
        load_checkpoint(path)


# ------------------------------------------------------------------ evaluate


def test_evaluate_prints_the_bleu_of_the_report(capsys, files, finished):
    out, report, _ = finished
    row = next(row for row in report["rows"] if (row["method"], row["stage"]) == ("see", "stage2"))
    pair = "--parallel", files / "valid.x", files / "valid.y"
    assert call(capsys, "evaluate", out / "see_4x.pt", *pair) == (0, f"BLEU {row['value']:.4f}\n", "")
    code, stdout, _ = call(capsys, "evaluate", out / "phases" / "teacher.pt", *pair, "--json")
    result = json.loads(stdout)
    assert code == 0 and result["value"] == pytest.approx(report["rows"][0]["value"]) and result["metric"] == "BLEU"
    assert result["parameters"] == report["rows"][0]["model_floats"]


def test_evaluate_of_a_text_is_the_measure_of_its_ids(capsys, files, masked_run, tmp_path):
    model, words = load_checkpoint(masked_run[0] / "see_4x.pt")
    ids = text_ids(files / "text.txt", words)
    assert len(ids) == 60 * 41 and (ids == words.index("<eos>")).sum() == 60
    expected = masked_accuracy(model, masked(ids, words, 8, 16, math.ceil(len(ids) / 8 / 16), seed=0))
    run = call(capsys, "evaluate", masked_run[0] / "see_4x.pt", "--corpus", files / "text.txt")
    assert run == (0, f"masked accuracy {expected:.4f}\n", "")
    gpt = TinyGPT(GPTConfig(len(words), 12, 1, 2, context=8))
    save_checkpoint(gpt, tmp_path / "gpt.pt", words)
    expected = perplexity(gpt, ids, most=10**6)[0]
    run = call(capsys, "evaluate", tmp_path / "gpt.pt", "--corpus", files / "text.txt")
    assert run == (0, f"perplexity {expected:.4f}\n", "")


# ------------------------------------------------------------------ input that cannot be used

BAD = {
    "different lengths": (["--parallel", "train.x", "short.y"], "short.y: expected as many lines in both, got 500 and 1"),
    "empty": (["--parallel", "empty.x", "empty.x"], "empty.x: expected at least 1 line with words in both, got none"),
    "blank": (["--valid-parallel", "blank.x", "blank.x"], "blank.x: expected at least 1 line with words in both, got none"),
    "missing": (["--parallel", "none.x", "train.y"], "none.x: expected a file that can be read, got No such file"),
    "one file": (["--parallel", "train.x"], "--parallel: expected 2 arguments"),
    "another task": (["--task", "lm"], "parallel: expected --task translation with it, got lm"),
    "encoder": (["--task", "encoder"], "task: expected one of lm, mlm, translation without a PATH, got 'encoder'"),
    "unknown task": (["--task", "poetry"], "--task: invalid choice: 'poetry'"),
    "a corpus": (["--corpus", "text.txt"], "corpus: expected --task lm or mlm with it, got translation"),
    "ratio out of reach": (["--ratios", "4", "1000"], "ratio: expected 1 to "),
    "two languages in one": (["--shared-vocabulary"], "source-lexicon: expected a vocabulary of its own for each language"),
    "heads": (["--dimension", "25"], "dimension: expected a multiple of 2 heads, got 25"),
    "least": (["--least", "0"], "least: expected at least 1, got 0"),
    "unknown policy": (["--also", "magic"], "policy: expected one of "),
    "source lexicon": (["--source-lexicon", "none.txt"], "none.txt: expected a lexicon file, got No such file"),
    "no teacher": (["--teacher", "none.pt"], "none.pt: expected a checkpoint of see_min, got "),
    "broken teacher": (["--teacher", "broken.pt"], "broken.pt: expected a checkpoint of see_min, got "),
    "methods": (["--methods", "see"], "methods: expected a PATH with it, got none"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2_before_any_training(capsys, files, tmp_path, case):
    flags, text = BAD[case]
    flags = [str(files / word) if "." in word else word for word in flags]
    code, _, stderr = call(capsys, *command(files, tmp_path / "out", *flags))
    assert code == 2 and stderr.count("\n") == 1 and text in stderr
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("report.*"))


def test_the_task_needs_a_parallel_text(capsys, tmp_path):
    code, _, stderr = call(capsys, "compress", "--task", "translation", "--out", tmp_path)
    assert (code, stderr) == (2, "see_min: parallel: expected --parallel SOURCE TARGET with the task translation, got none\n")


def test_a_single_pair_cannot_be_split(capsys, files, tmp_path):
    words = ["compress", "--task", "translation", "--parallel", files / "one.x", files / "one.y", "--out", tmp_path]
    assert "parallel: expected at least 2 pairs" in call(capsys, *words)[2]


def test_without_sacrebleu_one_line_says_what_to_install_before_anything_is_read(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    words = ["compress", "--task", "translation", "--parallel", "none.x", "none.y", "--out", tmp_path / "out"]
    text = "see_min: sacrebleu: expected the package to be installed, got none: pip install sacrebleu\n"
    assert call(capsys, *words) == (2, "", text) and not (tmp_path / "out").exists()


def test_a_teacher_of_other_sizes_or_words_is_refused(files, finished, tmp_path):
    teacher = str(finished[0] / "phases" / "teacher.pt")
    TranslationStudy(job(files, teacher=teacher), tmp_path, **QUIET)
    for changes in ({"dimension": 32}, {"vocabulary": 20}, {"dropout": 0.2}):
        with pytest.raises(ValueError, match="teacher: expected a model of this job's sizes and words, got another in"):
            TranslationStudy(replace(job(files, teacher=teacher), **changes), tmp_path, **QUIET)


@pytest.mark.parametrize("kind, words, text", [
    ("gpt", [], "expected 30 words, one a row, got [0]"),
    ("bert", [f"w{i}" for i in range(28)] + ["<unk>", "<eos>"], "expected the word <mask> in the vocabulary, got none"),
    ("translator", [], "expected 30 and 27 words, one a row, got []"),
])
def test_evaluate_refuses_a_checkpoint_without_its_words(capsys, files, tmp_path, kind, words, text):
    path = tmp_path / "a.pt"
    save_checkpoint(made(kind, False)[0], path, words)
    data = ["--parallel", files / "valid.x", files / "valid.y"] if kind == "translator" else ["--corpus", files / "text.txt"]
    assert call(capsys, "evaluate", path, *data) == (2, "", f"see_min: {path}: {text}\n")


def test_explain_takes_the_target_of_a_finished_translation(finished):
    source = find_source(job=finished[0])
    model, words = load_checkpoint(finished[0] / "phases" / "teacher.pt")
    assert source.names == words[1] and np.array_equal(source.matrix, model.target_embedding.weight.detach().double().numpy())


EVALUATE = {
    "corrupt": (["broken.pt", "--corpus", "text.txt"], "broken.pt: expected a checkpoint of see_min, got "),
    "missing": (["none.pt", "--corpus", "text.txt"], "none.pt: expected a checkpoint of see_min, got "),
    "no pairs": (["T"], "parallel: expected --parallel with a TinyTranslator, got none"),
    "a text for a translator": (["T", "--corpus", "text.txt"], "parallel: expected --parallel with a TinyTranslator, got --corp"),
    "pairs for masked words": (["M", "--parallel", "valid.x", "valid.y"], "corpus: expected --corpus with a TinyBERT, got --par"),
    "no text": (["M"], "corpus: expected --corpus with a TinyBERT, got none"),
    "a short text": (["M", "--corpus", "one.x"], "one.x: expected more than 8 tokens, a window, got 2"),
    "different lengths": (["T", "--parallel", "valid.x", "short.y"], "expected as many lines in both, got 23 and 1"),
    "a task": (["T", "--task", "lm"], "task: expected a folder with it, got a file"),
}


@pytest.mark.parametrize("case", EVALUATE)
def test_evaluate_refuses_what_does_not_fit_in_one_line(capsys, files, finished, masked_run, case):
    words, text = EVALUATE[case]
    places = {"T": finished[0] / "see_4x.pt", "M": masked_run[0] / "see_4x.pt"}
    words = [places.get(word, files / word if "." in word else word) for word in words]
    code, stdout, stderr = call(capsys, "evaluate", *words)
    assert (code, stdout) == (2, "") and stderr.count("\n") == 1 and text in stderr
