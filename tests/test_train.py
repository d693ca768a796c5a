"""The main job by its command: report, figure, models; masked words; settings."""

import json
import shlex

import numpy as np
import pytest
import torch

from see_min.experiments.checkpoint import load_checkpoint
from see_min.experiments.cli import main
from see_min.experiments.train import (
    MASK,
    METHODS,
    QUICK,
    masked_text,
    run_training,
    train_settings,
)
from see_min.toy.models import TinyBERT

torch.set_num_threads(1)
WORDS = [a + b for a in ("b", "d", "f", "gr", "k", "l", "m", "pl")
    for b in "ad en ilk om urt ip".split()]


def quiet(line):
    pass


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path, rng = tmp_path_factory.mktemp("train") / "corpus.txt", np.random.default_rng(0)
    paragraphs = [" ".join(rng.choice(WORDS, 40)) + " ." for _ in range(80)]
    path.write_text("\n\n".join(paragraphs))
    return path


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """(folder, words of the command) of the command in its quick form with fewer steps."""
    out = tmp_path_factory.mktemp("out")
    words = ["train", "--quick", "--corpus", str(corpus), "--lexicon", "none", "--ratios", "3",
        "--device", "cpu", "--methods", "see", "weighted-svd", "--teacher-steps", "20",
        "--stage2-steps", "3", "--out", str(out)]
    assert main(words) == 0
    return out, words


def test_the_command_leaves_a_report_a_figure_and_a_model_per_student(finished):
    out, words = finished
    names = {"phases", "report.json", "report.md", "report.png", "see_3x.pt", "weighted-svd_3x.pt"}
    assert {path.name for path in out.iterdir()} == names
    report = json.loads((out / "report.json").read_text())
    assert shlex.split(report["task"]["command"]) == ["python", "-m", "see_min", *words]
    assert report["task"]["n_embd"] == QUICK["n_embd"] and report["task"]["teacher_steps"] == 20
    assert {"python", "numpy", "torch", "cores", "date"} <= set(report["environment"])


def test_resuming_prints_the_same_table(finished, capsys):
    out, words = finished
    before = (out / "report.md").read_text().splitlines()[2:8]
    assert main([*words, "--resume"]) == 0
    text = capsys.readouterr().out
    assert (text.count("done before") == 4 and (out / "report.md").read_text().splitlines()[2:8]
        == before)
    assert (out / "report.md").read_text() in text


def test_defaults_are_those_of_the_published_runs():
    lm, pairs = train_settings(), train_settings("translation", parallel=("a", "b"))
    assert (lm.vocab_size, lm.n_embd, lm.teacher_steps, lm.batch_size, lm.lr) == (4000, 192, 700,
        16, 1e-3)
    assert (pairs.vocab_size, pairs.teacher_steps, pairs.batch_size) == (8000, 4000, 32)
    assert (pairs.lr, pairs.embedding_lr_scale, pairs.stage1_lr) == (1e-4, 12.0, 2e-3)
    assert lm.methods == METHODS and "morphemes" in pairs.methods


def test_masked_words_are_a_small_variant(corpus, tmp_path):
    settings = train_settings("mlm", quick=True, corpus=str(corpus), lexicon="none", ratios=(3,),
        methods=("see",), n_layer=1, block_size=8, teacher_steps=3, stage1_steps=1, stage2_steps=1,
        device="cpu")
    report = run_training(settings, tmp_path, log=quiet)
    assert all(row["metric"] == "masked accuracy" and 0 <= row["value"] <= 1
        for row in report["rows"])
    model, words = load_checkpoint(tmp_path / "see_3x.pt")
    assert (isinstance(model, TinyBERT) and words[0] == MASK and len(words)
        == report["task"]["vocabulary"])


def test_only_words_that_are_not_special_are_hidden_and_asked_for():
    words, ids = ([MASK, "<unk>", "<eos>", "a", "b", "c"], np.random.default_rng(0).integers(1, 6,
        400))
    for batch in masked_text(ids, words, 10, 4, 20, seed=0):
        assert batch.targets[batch.targets >= 0].min() >= 3
        assert not (batch.inputs[0][batch.targets < 0] == 0).any()


def test_a_teacher_of_another_run_is_taken_as_it_is(finished, corpus, tmp_path):
    teacher = finished[0] / "phases" / "teacher.pt"
    settings = train_settings(quick=True, corpus=str(corpus), lexicon="none", ratios=(3,),
        methods=("weighted-svd",), stage1_steps=1, stage2_steps=1, teacher=str(teacher),
        device="cpu")
    row = run_training(settings, tmp_path, log=quiet)["rows"][0]
    before = json.loads((finished[0] / "report.json").read_text())["rows"][0]
    assert row["value"] == pytest.approx(before["value"]) and row["seconds"] == 0
