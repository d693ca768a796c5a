"""One engine: phases, resuming after a kill or Ctrl-C at any moment, fingerprints, rows."""

import math
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import STEMS, quiet

from see_min.experiments import engine
from see_min.experiments.checkpoint import load_checkpoint
from see_min.experiments.engine import Experiment, Phases, run_experiment
from see_min.experiments.train import METHODS, LanguageSubject, train_settings

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SIZES = {"ratios": (4, 10), "vocab_size": 900, "n_embd": 32, "n_layer": 1, "n_head": 2,
         "block_size": 16, "teacher_steps": 30, "stage1_steps": 2, "stage2_steps": 4, "sweeps": 2,
         "max_windows": 20, "device": "cpu"}
STAGES = ("fit", "stage1", "stage2")


def made_up_text(rng, sentences=900):
    """Paragraphs of sentences: endings have fixed places, stems fall like 1 / rank."""
    share, lines = 1 / np.arange(4, len(STEMS) + 4), []
    for number in range(sentences):
        a, b, c, d, e = rng.choice(STEMS, 5, p=share / share.sum())
        a = STEMS[number % len(STEMS)]  # every word occurs
        lines.append(f"the {a}er {b}ed a {c} , {d}ing {e}s .{chr(10) * (number % 5 == 0)}")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)
    (folder / "corpus.txt").write_text(made_up_text(rng))
    senses = [f"{stem}\nsememe{i % 19}\tsememe{i % 7}\n" for i, stem in enumerate(STEMS[::2])]
    (folder / "lexicon.txt").write_text("".join(senses))
    files = {name: str(folder / f"{name}.txt") for name in ("corpus", "lexicon")}
    return train_settings(**SIZES, **files)


@pytest.fixture(scope="module")
def finished(settings, tmp_path_factory):
    """(folder, report) of a run to its end."""
    out = tmp_path_factory.mktemp("finished") / "new" / "out"
    return out, run_experiment(settings, out, log=quiet)


def timeless(rows):
    times = ("seconds", "tokens_per_second")
    return [{key: value for key, value in row.items() if key not in times} for row in rows]


# ------------------------------------------------------------------ a finished run


def test_rows_come_in_order_and_training_helps_the_teacher_and_every_student(finished):
    rows = finished[1]["rows"]
    students = [(m, ratio, stage) for ratio in (4, 10) for m in METHODS for stage in STAGES]
    value = {(row["method"], row["ratio"], row["stage"]): row["value"] for row in rows}
    assert [*value] == [("dense", 1, "teacher"), ("dense", 1, "stage2"), *students]
    assert all(("weighted_error" in row) == (row["stage"] == "fit") for row in rows)
    assert value["dense", 1, "teacher"] < 450  # equal chances would give 900
    assert all(value[m, r, "stage2"] < value[m, r, "fit"] for m in METHODS for r in (4, 10))


def test_methods_keep_equal_bytes_and_the_sizes_of_a_row_agree(finished):
    dense, _, *rows = finished[1]["rows"]
    for ratio in (4, 10):
        kept = {r["method"]: r["embedding_bytes"] for r in rows if r["ratio"] == ratio}
        allowed = dense["embedding_bytes"] / ratio
        # at the small ratio factors of full rank need fewer
        assert all((0.9 if ratio == 10 else 0.6) * allowed <= kept[m] <= allowed for m in METHODS)
        assert abs(kept["see-derived"] - kept["shuffled"]) < 0.02 * allowed
    for row in rows:
        saved = dense["embedding_parameters"] - row["embedding_parameters"]
        assert dense["model_parameters"] - row["model_parameters"] == saved


def test_the_saved_student_has_the_value_of_its_row(finished, settings):
    out, report = finished
    subject = LanguageSubject(settings, torch.device("cpu"), quiet)
    subject.read()
    for method in METHODS:
        model, words = load_checkpoint(out / f"{method}_4x.pt")
        row = [r for r in report["rows"] if (r["method"], r["ratio"]) == (method, 4)][-1]
        assert words == subject.words
        assert subject.score(model)[0] == pytest.approx(row["value"], rel=1e-6)
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]  # nothing temporary


# ------------------------------------------------------------------ what is counted and measured


@pytest.fixture
def short_run(settings, tmp_path, monkeypatch):
    """Run with changes: ({(method, ratio): its last row}, how often a metric was measured)."""
    measured, work = [], engine.measure_metric

    def counted(*arguments, **options):
        measured.append(arguments)
        return work(*arguments, **options)

    def run(**changes):
        steps = {"teacher_steps": 2, "stage1_steps": 1, "stage2_steps": 1, "sweeps": 1}
        report = run_experiment(replace(settings, **steps | changes), tmp_path, log=quiet)
        last = {(r["method"], r["ratio"]): r for r in report["rows"] if r["stage"] == "stage2"}
        return last, len(measured)

    monkeypatch.setattr(engine, "measure_metric", counted)
    return run


def test_the_metric_is_measured_once_and_controls_keep_to_the_bytes(short_run):
    methods = ("see-derived", "shuffled", "random_units", "no_knowledge", "fixed")
    rows, measured = short_run(methods=methods, ratios=(10,), sweeps=2)
    assert measured == 1
    allowed = rows["dense", 1]["embedding_bytes"] / 10
    for method in methods:
        assert 0.9 * allowed <= rows[method, 10]["embedding_bytes"] <= allowed
    assert len({rows[method, 10]["value"] for method in methods}) == len(methods)


def test_without_a_mix_no_metric_is_measured_and_parameters_count_as_they_did(short_run):
    methods = ("see", "see-parameters", "see-shared", "weighted-svd")
    rows, measured = short_run(methods=methods, count="parameters", mix=0.0)
    assert not measured
    for ratio in (4, 10):
        allowed = rows["dense", 1]["embedding_parameters"] / ratio
        kept = {m: rows[m, ratio]["embedding_parameters"] for m in methods}
        assert all(0.9 * allowed <= kept[m] <= allowed for m in methods[:3])
        assert kept["weighted-svd"] >= allowed  # rounded up: never a weaker control
        for method in methods:
            index_bytes = rows[method, ratio]["embedding_bytes"] - 4 * kept[method]
            assert index_bytes == 0 if method == "weighted-svd" else index_bytes > 0
        assert rows["see", ratio]["value"] == rows["see-parameters", ratio]["value"]


# ------------------------------------------------------------------ stopped and resumed

RUN = """
import os
import signal
import torch
from see_min.experiments.engine import run_experiment
from see_min.experiments.train import TrainSettings
torch.set_num_threads(1)
saved, save = [], torch.save
def half(model, path):
    saved.append(path)
    if len(saved) == 2:  # the teacher, the student
        open(path, "wb").write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    save(model, path)
torch.save = half
run_experiment({settings}, {out!r})
"""


def check_resumed(settings, out, done, finished):
    """A stopped run left `done` phases, which are not worked again; its rows are those of all."""
    phases = {path.stem for path in (out / "phases").glob("*.json")} - {"morphemes"}
    assert len(phases) == done
    lines = []
    report = run_experiment(settings, out, resume=True, log=lines.append)
    assert {line.split(":")[0] for line in lines if line.endswith("done before")} == phases
    wanted = [row for row in finished[1]["rows"] if row["ratio"] in (1, 4)
              and row["method"] in ("dense", *settings.methods)]
    assert len(wanted) == 8 and timeless(report["rows"]) == timeless(wanted)


def test_a_run_killed_as_it_writes_a_student_resumes_to_the_same_rows(settings, finished, tmp_path):
    one = replace(settings, ratios=(4,), methods=("see", "svd-int8"))
    code = RUN.format(settings=one, out=str(tmp_path))
    stopped = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, timeout=300)
    assert stopped.returncode == -signal.SIGKILL
    check_resumed(one, tmp_path, 2, finished)


@pytest.mark.parametrize("step, done", [(10, 0), (44, 3)])
def test_a_run_interrupted_in_a_step_resumes_to_the_same_rows(settings, finished, tmp_path,
                                                              monkeypatch, step, done):
    """30 steps of the teacher, 6 of the dense model, 6 per student."""
    one = replace(settings, ratios=(4,), methods=("see", "svd-int8"))
    steps, clip = [], torch.nn.utils.clip_grad_norm_

    def counted(*arguments):
        steps.append(1)
        if len(steps) == step:
            raise KeyboardInterrupt
        return clip(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.nn.utils, "clip_grad_norm_", counted)
        run_experiment(one, tmp_path, log=quiet)
    check_resumed(one, tmp_path, done, finished)


def test_a_fingerprint_covers_settings_and_contents_of_files_but_not_their_names(settings,
                                                                                 tmp_path):
    def fingerprint(**changes):
        changed = replace(settings, **changes)
        subject = LanguageSubject(changed, torch.device("cpu"), quiet)
        return Experiment(changed, subject, tmp_path).phase.fingerprint

    same, other = tmp_path / "same.txt", tmp_path / "other.txt"
    same.write_text(Path(settings.corpus).read_text())
    other.write_text(same.read_text().replace("ader", "eder"))
    base = fingerprint()
    assert fingerprint(corpus=str(same), ratios=(5,), methods=("see",)) == base
    changes = [{"sweeps": 3}, {"lexicon": "none"}, {"corpus": str(other)}, {"mix": 0.0}]
    assert len({base, *(fingerprint(**change) for change in changes)}) == 1 + len(changes)


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"\xff\xfe", b'{"fingerprint": "x"}',
                                  b"[" * 100_000, b'{"fingerprint": "other", "value": 3}'])
def test_a_damaged_or_foreign_phase_is_worked_again(tmp_path, data):
    (tmp_path / "phases").mkdir()
    (tmp_path / "phases" / "a.json").write_bytes(data)
    assert Phases(tmp_path, "x", resume=True, log=quiet)("a", lambda: 7) == 7
    assert Phases(tmp_path, "x", resume=True, log=quiet)("a", lambda: 8) == 7
    assert Phases(tmp_path, "x", resume=False, log=quiet)("a", lambda: 8) == 8


def test_a_phase_that_is_stopped_leaves_no_older_one(tmp_path):
    Phases(tmp_path, "x", log=quiet)("a", lambda: 7)
    with pytest.raises(ZeroDivisionError):
        Phases(tmp_path, "x", log=quiet)("a", lambda: 1 // 0)
    assert not (tmp_path / "phases" / "a.json").exists()


# ------------------------------------------------------------------ refused before any work


@pytest.mark.parametrize("changes, text", [
    ({"ratios": (4, 1000)}, "ratio: expected 1 to "),
    ({"methods": ("see", "paper", "word2ket"), "ratios": (4, 16)}, "ratio: expected"),
    ({"n_head": 5}, "n_embd: expected"),
    ({"block_size": 60_000}, "corpus: expected at least 240001 tokens"),
    ({"count": "bits"}, "count: expected one of bytes, parameters, got 'bits'"),
    ({"mix": 1.0}, "mix: expected 0 to below 1, got 1"),
    ({"sweeps": 0}, "sweeps: expected at least 1, got 0"),
    ({"seed": -1}, "seed: expected 0 to 2^63 - 1, got -1"),
    ({"lr": math.nan}, "lr: expected above 0 to 1000000, got nan"),
    ({"corpus": ""}, ": expected a file that can be read, got "),  # not the default text
    ({"batch_size": 10**9}, "batch-size: expected 1 to 65536, got 1000000000"),
    ({"accumulate": 17}, "accumulate: expected at most the batch size, 16, got 17"),
    ({"methods": ("int8",)}, "method: expected one whose result is an encoding, got 'int8'"),
])
def test_what_cannot_work_is_refused_before_any_work(settings, tmp_path, changes, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        run_experiment(replace(settings, **changes), tmp_path, log=quiet)
    assert not list(tmp_path.rglob("*.pt"))
