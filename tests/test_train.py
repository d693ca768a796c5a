"""The command `train`: report, figure, models; masked words; settings."""

import json
import re
import shlex

import numpy as np
import pytest
import torch
from tiny import STEMS, call, quiet, refused

from see_min.experiments import train
from see_min.experiments.checkpoint import load_checkpoint
from see_min.experiments.cli import main
from see_min.experiments.engine import run_experiment
from see_min.experiments.sources import find_source
from see_min.experiments.train import MASK, METHODS, MaskedSubject, train_settings
from see_min.toy.models import TinyBERT

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path, rng = tmp_path_factory.mktemp("train") / "corpus.txt", np.random.default_rng(0)
    path.write_text("\n\n".join(" ".join(rng.choice(STEMS[:48], 40)) + " ." for _ in range(80)))
    return path


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """(folder, words of the command) of the command in its quick form with fewer steps."""
    out = tmp_path_factory.mktemp("out")
    words = ["train", "--quick", "--corpus", str(corpus), "--lexicon", "none", "--ratios", "3",
             "--device", "cpu", "--methods", "see", "weighted-svd", "--stage2-steps", "3",
             "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(train.QUICK, "teacher_steps", 20)
        assert main(words) == 0
        yield out, words


def test_the_command_leaves_a_report_a_figure_and_a_model_per_student(finished):
    out, words = finished
    names = {"phases", "report.json", "report.md", "report.png", "see_3x.pt", "weighted-svd_3x.pt"}
    assert {path.name for path in out.iterdir()} == names
    report = json.loads((out / "report.json").read_text())
    assert shlex.split(report["task"]["command"]) == ["python", "-m", "see_min", *words]
    assert report["task"]["n_embd"] == 96 and report["task"]["stage2_steps"] == 3
    assert {"python", "numpy", "torch", "cores", "date"} <= set(report["environment"])


def test_explain_names_the_units_of_a_saved_student_beside_its_teacher(finished, capsys):
    path, teacher = finished[0] / "see_3x.pt", finished[0] / "phases" / "teacher.pt"
    model, words = load_checkpoint(path)
    private = model.token_embedding.to_encoding().bag_names
    assert private and set(private) <= {("word", word) for word in words}
    code, text, _ = call(capsys, "explain", path, words[-1], "--dense", teacher)
    assert re.search("^  (word|stem) ", text, re.M) and "bucket:" in text and "unit:" not in text
    row = model.token_embedding(torch.tensor([len(words) - 1])).detach()
    source = find_source(teacher)
    cosine = torch.cosine_similarity(row, torch.tensor(source.matrix[-1:]).float()).item()
    assert source.words == words and f"cosine {cosine:.3f} with the dense row" in text
    assert "expected a compressed embedding, got Emb" in refused(capsys, "explain", teacher, "bad")


def test_defaults_are_those_of_the_published_runs():
    lm, pairs = train_settings(), train_settings("translation", parallel=("a", "b"))
    sizes = lm.vocab_size, lm.n_embd, lm.teacher_steps, lm.batch_size, lm.lr
    assert sizes == (4000, 192, 700, 16, 1e-3) and lm.methods == METHODS
    assert (pairs.vocab_size, pairs.teacher_steps, pairs.batch_size) == (8000, 4000, 32)
    assert (pairs.lr, pairs.embedding_lr_scale, pairs.stage1_lr) == (1e-4, 12.0, 2e-3)
    assert pairs.methods == METHODS and (pairs.count, pairs.mix) == ("bytes", 0.7)


@pytest.mark.parametrize("given, text", [
    ({"task": "poetry"}, "task: expected one of lm, mlm, translation, got 'poetry'"),
    ({"task": "translation"}, "parallel: expected --parallel SOURCE TARGET, got none"),
    ({"source_lexicon": "a"}, "source-lexicon: expected none with --task lm, got a"),
    ({"task": "translation", "corpus": "a"}, "corpus: expected none with --task translation, g"),
])
def test_settings_that_do_not_fit_together_are_refused(tmp_path, given, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        run_experiment(train_settings(**given), tmp_path, log=pytest.fail)


def test_masked_words_are_a_small_variant(corpus, tmp_path):
    settings = train_settings(
        "mlm", quick=True, corpus=str(corpus), lexicon="none", ratios=(3,), methods=("see",),
        n_layer=1, block_size=8, teacher_steps=3, stage1_steps=1, stage2_steps=1, device="cpu")
    report = run_experiment(settings, tmp_path, log=quiet)
    assert all(row["metric"] == "masked accuracy" and 0 <= row["value"] <= 1
               for row in report["rows"])
    model, words = load_checkpoint(tmp_path / "see_3x.pt")
    assert isinstance(model, TinyBERT) and words[0] == MASK
    assert len(words) == report["task"]["vocabulary"]


def test_only_words_that_are_not_special_are_hidden_and_asked_for(corpus):
    settings = train_settings("mlm", True, corpus=str(corpus), lexicon="none", block_size=8)
    subject = MaskedSubject(settings, torch.device("cpu"), quiet)
    subject.read()
    special = [subject.words.index(word) for word in (MASK, "<unk>", "<eos>")]
    for batch in subject.batches(20, seed=0):
        assert not np.isin(batch.targets, special).any()
        assert not (batch.inputs[0][batch.targets < 0] == special[0]).any()
