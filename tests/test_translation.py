"""The toy translator: what is read, both embeddings compressed, lexicons by alignment."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import STEMS, quiet

from see_min.experiments.checkpoint import load_checkpoint
from see_min.experiments.engine import run_experiment
from see_min.experiments.measure import translation_score
from see_min.experiments.train import METHODS, TranslationSubject, train_settings
from see_min.toy.data import read_parallel

pytest.importorskip("sacrebleu")
torch.set_num_threads(1)
STEMS = STEMS[:180:5]
SIZES = {"ratios": (3,), "n_embd": 16, "n_layer": 1, "n_head": 2, "block_size": 12, "batch_size": 8,
         "teacher_steps": 60, "stage1_steps": 2, "stage2_steps": 4, "sweeps": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A target repeats its source's words with another ending; a lexicon of the target alone."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    texts = [rng.choice(STEMS, rng.integers(2, 6)) for _ in range(300)]
    for name, ending in (("x", ""), ("y", "o")):
        lines = [" ".join(f"{word}{ending}" for word in text) for text in texts]
        (folder / f"train.{name}").write_text("\n".join(lines) + "\n")
        (folder / f"valid.{name}").write_text("\n".join(lines[::20]) + "\n")
    senses = [f"{stem}o\nfirst{i % 5}\tsecond{i % 3}" for i, stem in enumerate(STEMS)]
    (folder / "lexicon.txt").write_text("\n".join(senses) + "\n")
    parallel = str(folder / "train.x"), str(folder / "train.y")
    return train_settings("translation", parallel=parallel, lexicon=str(folder / "lexicon.txt"),
                          source_lexicon="aligned", **SIZES)


def subject_of(settings, **changes):
    subject = TranslationSubject(replace(settings, **changes), torch.device("cpu"), quiet)
    subject.read()
    return subject


def test_a_run_compresses_both_embeddings_and_reports_bleu(settings, tmp_path):
    report = run_experiment(settings, tmp_path, log=quiet)
    rows = report["rows"]
    assert [row["method"] for row in rows[2::3]] == list(METHODS)
    assert all(row["metric"] == "BLEU" and 0 <= row["value"] <= 100 for row in rows)
    assert rows[0]["embedding_parameters"] == sum(report["task"]["vocabulary"]) * 16
    saved = rows[0]["embedding_parameters"] - rows[2]["embedding_parameters"]
    assert rows[0]["model_parameters"] - rows[2]["model_parameters"] == saved
    model, words = load_checkpoint(tmp_path / "see_3x.pt")
    pairs = read_parallel(*(path.replace("train", "valid") for path in settings.parallel))
    assert translation_score(model, pairs, words) == pytest.approx(rows[4]["value"])


def test_a_source_inherits_the_senses_of_its_translations(settings, tmp_path):
    source, target = subject_of(settings).vocabularies.values()
    senses = dict(zip(target.names, (note.senses for note in target.annotations), strict=True))
    own = [note.senses == senses.get(f"{word}o", 0)
           for word, note in zip(source.names, source.annotations, strict=True)]
    assert np.mean(own) > 0.7
    none, _ = subject_of(settings, source_lexicon="none").vocabularies.values()
    assert not any(note.senses for note in none.annotations)


def test_every_twentieth_pair_is_held_out_and_long_ones_are_not_trained_on(settings, tmp_path):
    subject = subject_of(settings, block_size=5)
    assert len(subject.pairs) == 15 and 0 < len(subject.train) < 285
    assert max(len(side) for pair in subject.train for side in pair) < 5
    source, _ = subject.vocabularies.values()
    assert source.names[:4] == ["<pad>", "<s>", "</s>", "<unk>"]
    assert source.counts[[1, 2]].tolist() == [285, 285]  # once per sentence
    valid = tuple(path.replace("train", "valid") for path in settings.parallel)
    assert len(subject_of(settings, valid_parallel=valid).train) == 300


def test_one_pair_is_too_few(settings, tmp_path):
    (tmp_path / "one").write_text("bad\n")
    with pytest.raises(ValueError, match="number of pairs: expected at least 2, got 1"):
        subject_of(settings, parallel=(tmp_path / "one",) * 2)
