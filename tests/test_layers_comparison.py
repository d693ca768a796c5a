"""The comparison of layer methods: what a student is, its sizes, the command."""

import argparse
import json

import pytest

torch = pytest.importorskip("torch")

from see_min.errors import InputError  # noqa: E402
from see_min.experiments import comparison, layers  # noqa: E402
from see_min.experiments.layers import (  # noqa: E402
    QUICK,
    Evaluation,
    LayerTask,
    combined_rows,
    held_out_loss,
    make_setups,
    row_name,
)
from see_min.toy.data import Batch, build_corpus  # noqa: E402

TASK = LayerTask(**QUICK | {"methods": ("rom", "quantization"), "ratios": (2,), "vocab_size": 300,
                            "n_embd": 32, "block_size": 8, "gpt_steps": 2, "bert_steps": 2,
                            "mask_steps": 1, "finetune_steps": 1})


@pytest.fixture(scope="module")
def corpus():
    letters = "abcdefghijklmnopqr"
    documents = [" ".join(a + b for b in letters[i % 18 :] + letters) for i, a in
                 enumerate(letters * 3)]
    return build_corpus(documents, TASK.vocab_size)


@pytest.fixture(scope="module")
def setups(corpus):
    return list(make_setups(TASK, corpus, log=lambda line: None))


def test_both_models_get_batches_with_answers(setups):
    assert [setup.name for setup in setups] == ["gpt", "bert"]
    for setup in setups:
        assert (len(setup.masks), len(setup.fine), len(setup.held_out)) == (1, 1, 1)
        assert held_out_loss(setup.model, setup.held_out) > 0


def test_the_loss_is_the_mean_over_all_targets_of_all_batches(setups):
    model, batch = setups[0].model, setups[0].held_out[0]
    parts = [Batch((batch.inputs[0][rows],), batch.targets[rows])
             for rows in (slice(0, 5), slice(5, None))]  # of different sizes
    whole = held_out_loss(model, [batch])
    assert held_out_loss(model, parts) == pytest.approx(whole, rel=1e-6)  # float32


def test_rows_say_sizes_and_the_setup_stays_as_it_was(setups):
    before = {name: p.clone() for name, p in setups[0].model.named_parameters()}
    evaluation = Evaluation(setups[0], log=lambda line: None)
    dense, rom = evaluation.row("dense", 1), evaluation.row("rom", 2)
    bits = evaluation.row("quantization", 4)
    every = sum(p.numel() for p in setups[0].model.parameters())
    assert dense["model_bytes"] == 4 * every and dense["output_error"] == 0
    assert rom["block_parameters"] <= dense["block_parameters"] / 2 and rom["output_error"] > 0
    assert bits["block_bytes"] < dense["block_bytes"] / 3  # 8 bits, steps and lowest values
    assert all(torch.equal(p, before[name]) for name, p in setups[0].model.named_parameters())


def test_see_and_blocks_together_keep_the_total(setups, corpus):
    evaluation = Evaluation(setups[0], log=lambda line: None)
    rows = combined_rows(evaluation, TASK, corpus)
    assert [row_name(row).split(",")[0] for row in rows] == [
        "see", "see + rom", "see + modegpt", "weighted-svd + rom"]
    both = evaluation.block_parameters + evaluation.embedding_parameters
    embedding = evaluation.embedding_parameters / TASK.embedding_ratio
    for row in rows[1:3]:
        assert row["block_parameters"] + embedding < 1.05 * both / TASK.total_ratio


@pytest.mark.parametrize("flags, text", [
    (("--methods", "see"), "method: expected one of svd, .*, got 'see'"),
    (("--ratios", "9"), "ratio: expected above 1 and at most 8 for layers, got 9"),
    (("--matrix", "e.npy"), "matrix: expected no --layers with it, got one"),
    (("--seeds", "-1"), "seed: expected 0 to 2.63 - 1, got -1"),
])
def test_flags_that_cannot_be_are_refused_before_any_work(flags, text):
    with pytest.raises(InputError, match=text):
        run("--layers", *flags)


def run(*flags):
    parser = argparse.ArgumentParser()
    comparison.add_arguments(parser)
    comparison.run(parser.parse_args(flags), "python -m see_min compare --layers")


def test_the_command_writes_data_and_tables(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(layers, "default_documents", lambda packages: [])
    monkeypatch.setattr(layers, "build_corpus", lambda *arguments: corpus)
    monkeypatch.setattr(layers, "QUICK", {key: getattr(TASK, key) for key in QUICK})
    run("--layers", "--quick", "--methods", "rom", "--ratios", "2", "--out", str(tmp_path))
    rows = json.loads((tmp_path / "layers.json").read_text())["rows"]
    assert [row_name(row) for row in rows if row["model"] == "bert"] == ["dense", "rom, 2x"]
    text = (tmp_path / "layers.md").read_text()
    assert "TinyGPT, next words:" in text and "| rom, 2x | 1/2." in text
    assert capsys.readouterr().out.startswith(text)
