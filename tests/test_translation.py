"""The toy translator: what is read, both embeddings compressed, lexicons by alignment."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from see_min.experiments.checkpoint import load_checkpoint
from see_min.experiments.measure import translation_score
from see_min.experiments.train import (
    TRANSLATION_METHODS,
    TranslationSubject,
    run_training,
    train_settings,
)
from see_min.toy.data import read_parallel

pytest.importorskip("sacrebleu")
torch.set_num_threads(1)
STEMS = [onset + rime for onset in ("b", "d", "f", "gr", "k", "l")
    for rime in "ad en ilk om urt ip".split()]
SIZES = {"ratios": (3,), "n_embd": 16, "n_layer": 1, "n_head": 2, "block_size": 12, "batch_size": 8,
    "teacher_steps": 60, "stage1_steps": 2, "stage2_steps": 4, "sweeps": 2, "device": "cpu"}


def quiet(line):
    pass


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
    lexicon = str(folder / "lexicon.txt")
    return train_settings("translation", parallel=parallel, lexicon=lexicon,
        source_lexicon="aligned", **SIZES)


def subject_of(settings, tmp_path, **changes):
    subject = TranslationSubject(replace(settings, **changes), torch.device("cpu"), quiet)
    subject.read(tmp_path)
    return subject


def test_a_run_compresses_both_embeddings_and_reports_bleu(settings, tmp_path):
    report = run_training(settings, tmp_path, log=quiet)
    rows = report["rows"]
    assert [row["method"] for row in rows[2::3]] == list(TRANSLATION_METHODS)
    assert all(row["metric"] == "BLEU" and 0 <= row["value"] <= 100 for row in rows)
    assert rows[0]["embedding_parameters"] == sum(report["task"]["vocabulary"]) * 16
    saved = rows[0]["embedding_parameters"] - rows[2]["embedding_parameters"]
    assert rows[0]["model_parameters"] - rows[2]["model_parameters"] == saved
    model, words = load_checkpoint(tmp_path / "see_3x.pt")
    pairs = read_parallel(*(path.replace("train", "valid") for path in settings.parallel))
    assert translation_score(model, pairs, words) == pytest.approx(rows[4]["value"])


def test_a_source_inherits_the_senses_of_its_translations(settings, tmp_path):
    source, target = subject_of(settings, tmp_path).vocabularies.values()
    senses = {word: note.senses for word, note in zip(target.names, target.annotations,
        strict=True)}
    own = [note.senses == senses.get(f"{word}o", 0) for word, note in zip(source.names,
        source.annotations, strict=True)]
    assert np.mean(own) > 0.7
    none, _ = subject_of(settings, tmp_path, source_lexicon="none").vocabularies.values()
    assert not any(note.senses for note in none.annotations)


def test_every_twentieth_pair_is_held_out_and_long_ones_are_not_trained_on(settings, tmp_path):
    subject = subject_of(settings, tmp_path, block_size=5)
    assert len(subject.pairs) == 15 and 0 < len(subject.train) < 285
    assert max(len(side) for pair in subject.train for side in pair) < 5
    valid = tuple(path.replace("train", "valid") for path in settings.parallel)
    assert len(subject_of(settings, tmp_path, valid_parallel=valid).train) == 300


def test_beginnings_and_ends_occur_once_per_sentence(settings, tmp_path):
    source, _ = subject_of(settings, tmp_path).vocabularies.values()
    assert source.names[:4] == ["<pad>", "<s>", "</s>", "<unk>"]
    assert source.counts[[1, 2]].tolist() == [285, 285]


def test_a_shared_vocabulary_is_one_embedding(settings, tmp_path):
    subject = subject_of(settings, tmp_path, source_lexicon=None, shared_vocabulary=True)
    model = subject.model()
    assert list(subject.vocabularies) == ["source_embedding"]
    assert model.source_embedding is model.target_embedding
    assert subject.words[0] is subject.words[1]


def test_a_teacher_of_other_sizes_is_refused(settings, tmp_path):
    from see_min.experiments.checkpoint import save_checkpoint

    subject = subject_of(settings, tmp_path)
    save_checkpoint(subject.model(), tmp_path / "teacher.pt", subject.words)
    teacher = str(tmp_path / "teacher.pt")
    subject_of(settings, tmp_path, teacher=teacher)
    with pytest.raises(ValueError,
            match="teacher: expected a model of these sizes and words, got another in"):
        subject_of(settings, tmp_path, teacher=teacher, n_embd=32)


@pytest.mark.parametrize("given, text", [({"task": "poetry"},
    "task: expected one of lm, mlm, translation, got 'poetry'"),
    ({"task": "translation"}, "parallel: expected --parallel SOURCE TARGET, got none"),
    ({"task": "lm", "parallel": ("a", "b")},
    "parallel: expected --task translation with it, got lm"), ({"task": "translation",
    "corpus": "a"}, "corpus: expected --task lm or mlm with it, got translation"),
    ({"task": "translation", "parallel": ("a", "b"), "source_lexicon": "none",
    "shared_vocabulary": True},
    "source-lexicon: expected a vocabulary of each language, got a shared one")])
def test_settings_that_do_not_fit_together_are_refused(given, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        train_settings(**given)


def test_texts_that_cannot_be_used_are_refused(settings, tmp_path):
    for name, text in (("one", "bad\n"), ("blank", " \n")):
        (tmp_path / name).write_text(text)
    for source, target, expected in (("one", "blank", "expected at least 1 line"),
            ("none", "one", "none: expected"), ("one", "one", "expected at least 2 pairs")):
        paths = str(tmp_path / source), str(tmp_path / target)
        with pytest.raises(ValueError, match=expected):
            subject_of(settings, tmp_path, parallel=paths)
