"""The comparison of layer methods: what a student is, its sizes, the command."""

import json

import pytest
from tiny import call, quiet, refused

torch = pytest.importorskip("torch")

from see_min.experiments import layers, train  # noqa: E402
from see_min.experiments.layers import (  # noqa: E402
    Evaluation,
    LayerTask,
    combined_rows,
    held_out_loss,
    row_name,
)
from see_min.toy.data import Batch  # noqa: E402

SMALL = {"vocab_size": 300, "n_embd": 32, "n_head": 4, "block_size": 8, "teacher_steps": 2}
STEPS = {"mask_steps": 1, "finetune_steps": 1, "held_out": 1}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    letters, path = "abcdefghijklmnopqr", tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text("\n\n".join(" ".join(a + b for b in letters[i % 18 :] + letters)
                                for i, a in enumerate(letters * 3)))
    return path


@pytest.fixture(scope="module")
def evaluations(corpus, tmp_path_factory):
    task = LayerTask(**STEPS, training=SMALL | {"corpus": str(corpus)})
    out = tmp_path_factory.mktemp("out")
    return {name: Evaluation(name, task, out, quiet) for name in ("lm", "mlm")}


def test_the_loss_is_the_mean_over_all_targets_of_all_batches(evaluations):
    model, batch = evaluations["lm"].model, evaluations["lm"].held_out[0]
    parts = [Batch((batch.inputs[0][rows],), batch.targets[rows])
             for rows in (slice(0, 5), slice(5, None))]  # of different sizes
    whole = held_out_loss(model, [batch])
    assert held_out_loss(model, parts) == pytest.approx(whole, rel=1e-6)  # float32


@pytest.mark.parametrize("name", ["lm", "mlm"])
def test_rows_say_sizes_and_the_model_stays_as_it_was(evaluations, name):
    evaluation = evaluations[name]
    before = {name: p.clone() for name, p in evaluation.model.named_parameters()}
    dense, rom = evaluation.row("dense", 1), evaluation.row("rom", 2)
    bits = evaluation.row("quantization", 4)
    every = sum(p.numel() for p in evaluation.model.parameters())
    assert dense["model_bytes"] == 4 * every and dense["output_error"] == 0
    assert dense["before"] > 0 and rom["output_error"] > 0
    assert rom["block_parameters"] <= dense["block_parameters"] / 2
    assert bits["block_bytes"] < dense["block_bytes"] / 3  # 8 bits, steps and lowest values
    assert all(torch.equal(p, before[name]) for name, p in evaluation.model.named_parameters())


def test_see_and_blocks_together_keep_the_total(evaluations):
    evaluation = evaluations["lm"]
    rows = combined_rows(evaluation)
    assert [row_name(row).split(",")[0] for row in rows] == [
        "see", "see + rom", "see + modegpt", "weighted-svd + rom"]
    both = evaluation.block_parameters + evaluation.embedding_parameters
    embedding = evaluation.embedding_parameters / layers.EMBEDDING_RATIO
    for row in rows[1:3]:
        assert row["block_parameters"] + embedding < 1.05 * both / layers.TOTAL_RATIO


@pytest.mark.parametrize("flags, text", [
    ("--methods see", "method: expected one of svd, "),
    ("--ratios 9", "ratio: expected above 1 and at most 8 for layers, got 9"),
    ("--matrix e.npy", "matrix: expected no --layers with it, got one"),
    ("--mix 0", "mix: expected no --layers with it, got one"),
    ("--bits 8", "bits: expected no --layers with it, got one"),
    ("--lexicon none", "lexicon: expected no --layers with it, got one"),
    ("--seeds 0 1", "seeds: expected one with --layers, got 2"),
    ("--seeds -1", "seed: expected 0 to 2^63 - 1, got -1"),
])
def test_flags_that_cannot_be_are_refused_before_any_work(capsys, tmp_path, flags, text):
    words = ["compare", "--layers", *flags.split(), "--out", tmp_path / "out"]
    assert text in refused(capsys, *words) and not (tmp_path / "out").exists()


def test_the_command_writes_data_and_tables(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "QUICK", SMALL | {"corpus": str(corpus)})
    monkeypatch.setattr(layers, "QUICK", STEPS)
    words = ["compare", "--layers", "--quick", "--methods", "rom", "--ratios", "2"]
    code, out, _ = call(capsys, *words, "--out", tmp_path)
    report, text = (tmp_path / f"layers.{ending}" for ending in ("json", "md"))
    rows = json.loads(report.read_text())["rows"]
    assert code == 0 and out.startswith(text.read_text())
    assert [row_name(row) for row in rows if row["model"] == "mlm"] == ["dense", "rom, 2x"]
    assert "TinyGPT, next words:" in out and "| rom, 2x | 1/2." in out
