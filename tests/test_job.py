"""The command line and the main job as a user meets them: the report, resuming, interruption, and input that cannot be used."""

import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from see_min.__main__ import main
from see_min.bridge import load_checkpoint, perplexity
from see_min.bridge.job import QUICK, STUDENTS, Job, LanguageStudy, run_job
from see_min.bridge.phases import Phases
from see_min.checks import DataError
from see_min.corpus import build_corpus, file_documents
from see_min.units import POLICIES

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
RATIOS = (4, 10)
SIZES = {"vocabulary": 1150, "dimension": 32, "teacher_steps": 40, "stage1_steps": 2, "stage2_steps": 5, "sweeps": 3}
ROW_KEYS = {"method", "ratio", "stage", "metric", "value", "rare_value", "embedding_floats", "embedding_bytes",
            "model_floats", "seconds"}


# ------------------------------------------------------------------ a text of made-up words, and what they mean

ONSETS, RIMES = ("b", "d", "f", "gr", "k", "l", "m", "pl", "s", "t"), ("ad", "en", "ilk", "om", "urt")
STEMS = [onset + rime + tail for onset in ONSETS for rime in RIMES for tail in ("", "o", "ani", "ul", "ek")]


def made_up_text(rng, sentences=1300):
    """Paragraphs of sentences `the STEMer STEMed a STEM , STEMing STEMs .`: endings have fixed places, stems fall like 1/rank."""
    share = 1 / np.arange(4, len(STEMS) + 4)
    paragraphs = [[]]
    for number in range(sentences):
        stems = [STEMS[i] for i in rng.choice(len(STEMS), 5, p=share / share.sum())]
        stems[number // len(STEMS) % 5] = STEMS[number % len(STEMS)]  # every word occurs
        a, b, c, d, e = (stem + ending for stem, ending in zip(stems, ("er", "ed", "", "ing", "s")))
        paragraphs[-1].append(f"the {a} {b} a {c} , {d} {e} .")
        if rng.random() < 0.2:
            paragraphs.append([])
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines)


def made_up_lexicon(rng):
    """Every stem but some has a sense of two sememes, every third a second sense."""
    lines = []
    for i, stem in enumerate(STEMS):
        for _ in range((i % 7 > 0) + (i % 3 == 0)):
            lines += [stem, "\t".join(f"sememe{u}" for u in rng.choice(20, 2, replace=False))]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A directory with corpus.txt and lexicon.txt."""
    folder, rng = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)
    (folder / "corpus.txt").write_text(made_up_text(rng))
    (folder / "lexicon.txt").write_text(made_up_lexicon(rng))
    return folder


# ------------------------------------------------------------------ how the command is given


def arguments(inputs, out, *more, **sizes):
    flags = [text for name, value in (SIZES | sizes).items() for text in (f"--{name.replace('_', '-')}", str(value))]
    return ["compress", "--quick", "--corpus", str(inputs / "corpus.txt"), "--lexicon", str(inputs / "lexicon.txt"),
            "--ratios", *map(str, RATIOS), "--device", "cpu", *flags, "--out", str(out), *more]


def start(command, **options):
    """A real process; Ctrl-C works in it even where this one was told to ignore it."""
    reset = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([sys.executable, "-m", "see_min", *command], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, preexec_fn=reset, **options)


def finish(process):
    """(exit code, stdout, stderr)."""
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def wait_for(process, folder, pattern):
    """Until a file of that pattern is there."""
    deadline = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)


def call(capsys, *command):
    """The same in this process: (exit code, stdout, stderr). Anything but an exit or an exit code passes through."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in command])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def the_job(inputs, **changes):
    """The job that `arguments` asks for."""
    job = Job(**(QUICK | SIZES | {"corpus": str(inputs / "corpus.txt"), "lexicon": str(inputs / "lexicon.txt"), "ratios": RATIOS,
                                  "device": "cpu", "quick": True}))
    return replace(job, **changes)


def values(report):
    """What a second run must repeat: everything in the rows but times."""
    times = ("seconds", "tokens_per_second")
    return [{key: value for key, value in row.items() if key not in times} for row in report["rows"]]


# ------------------------------------------------------------------ one finished run


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory):
    """(directory, command, stdout) of a run to the end."""
    out = tmp_path_factory.mktemp("finished") / "new" / "out"
    command = arguments(inputs, out)
    code, stdout, stderr = finish(start(command))
    assert (code, stderr) == (0, "")
    return out, command, stdout


@pytest.fixture(scope="module")
def report(finished):
    return json.loads((finished[0] / "report.json").read_text())


@pytest.fixture
def copied(finished, tmp_path):
    """The finished run, to be damaged."""
    shutil.copytree(finished[0], tmp_path / "copied")
    return tmp_path / "copied"


def test_a_run_leaves_a_report_a_figure_and_a_checkpoint_a_ratio(finished):
    out = finished[0]
    names = {"phases", "report.json", "report.md", "report.png", "see_4x.pt", "see_10x.pt"}
    assert {path.name for path in out.iterdir()} == names
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG\r\n") and (out / "report.png").stat().st_size > 10_000
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]  # no temporary files


def test_the_report_has_its_promised_shape(report):
    assert {"task", "environment", "rows"} <= set(report)
    for row in report["rows"]:
        assert ROW_KEYS <= set(row) and row["metric"] == "perplexity"
        numbers = [row[key] for key in ROW_KEYS - {"method", "stage", "metric"}]
        assert all(math.isfinite(number) for number in numbers) and min(numbers) >= 0
        assert 1 < row["value"] < 10 * 1150 and row["rare_value"] > row["value"]


def test_every_method_has_three_stages_at_each_ratio(report):
    found = [(row["method"], row["ratio"], row["stage"]) for row in report["rows"]]
    students = [(method, ratio, stage) for ratio in RATIOS for method in STUDENTS for stage in ("fit", "stage1", "stage2")]
    assert STUDENTS == ("see", "see-paper", "svd", "hashed", "shuffled")
    assert found == [("dense", 1, "teacher"), ("dense", 1, "stage2"), *students]


def test_the_report_names_the_command_and_the_task(finished, report):
    task = report["task"]
    assert shlex.split(task["command"]) == ["python", "-m", "see_min", *finished[1]]
    assert (task["vocabulary"], task["dimension"], task["seed"], task["ratios"]) == (1150, 32, 0, list(RATIOS))
    assert task["train_tokens"] > 1000 and task["valid_tokens"] > 100 and task["knowledge_units"] > 50
    assert {"python", "numpy", "torch", "platform", "cores", "threads", "date"} <= set(report["environment"])


def test_the_table_has_a_line_a_method_and_ratio_and_is_printed(finished):
    text = (finished[0] / "report.md").read_text()
    lines = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    assert lines[2:] == ["dense", *(f"{method}, {ratio}" for ratio in RATIOS for method in STUDENTS)]
    assert text in finished[2]


def test_stdout_says_what_each_phase_gave(finished, report):
    for row in report["rows"]:
        if row["stage"] == "stage2" and row["method"] != "dense":
            assert f"{row['method']} at {row['ratio']}x: perplexity after fit " in finished[2]
            assert f"stage2 {row['value']:.1f}" in finished[2]
    assert "done before" not in finished[2]


def test_training_helps_the_teacher_and_finetuning_every_student(report):
    value = {(row["method"], row["ratio"], row["stage"]): row["value"] for row in report["rows"]}
    assert value["dense", 1, "teacher"] < 1150 / 2  # equal chances would give 1150
    for method in STUDENTS:
        for ratio in RATIOS:
            assert value[method, ratio, "stage2"] < value[method, ratio, "fit"]


@pytest.mark.parametrize("ratio", RATIOS)
def test_methods_keep_equal_floats_never_more_than_the_ratio_allows(report, ratio):
    floats = {row["method"]: row["embedding_floats"] for row in report["rows"] if row["ratio"] == ratio}
    allowed = 1150 * 32 / ratio
    assert floats["see"] == floats["hashed"] == floats["shuffled"]
    for method in ("see", "see-paper", "hashed", "shuffled"):
        assert 0.97 * allowed <= floats[method] <= allowed
    assert floats["svd"] >= allowed  # rounded up, never a weaker control


def test_sizes_in_a_row_agree(report):
    dense = report["rows"][0]
    assert (dense["embedding_floats"], dense["embedding_bytes"]) == (1150 * 32, 4 * 1150 * 32)
    for row in report["rows"][2:]:
        index_bytes = row["embedding_bytes"] - 4 * row["embedding_floats"]
        assert index_bytes == 0 if row["method"] == "svd" else index_bytes > 0  # rows of factors stand in the order of the words
        assert dense["model_floats"] - row["model_floats"] == dense["embedding_floats"] - row["embedding_floats"]


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_saved_student_has_the_perplexity_of_its_row(finished, report, inputs, ratio):
    model, words = load_checkpoint(finished[0] / f"see_{ratio}x.pt")
    corpus = build_corpus(file_documents(inputs / "corpus.txt"), SIZES["vocabulary"])
    row = next(row for row in report["rows"] if (row["method"], row["ratio"], row["stage"]) == ("see", ratio, "stage2"))
    assert words == corpus.words
    assert perplexity(model, corpus.valid, QUICK["windows"]) == pytest.approx((row["value"], row["rare_value"]), rel=1e-6)
    assert sum(p.numel() for p in model.parameters()) == row["model_floats"]
    assert sum(p.numel() for p in model.token_embedding.parameters()) == row["embedding_floats"]


# ------------------------------------------------------------------ resuming


def test_a_killed_run_resumes_to_the_report_of_an_uninterrupted_one(inputs, report, tmp_path):
    out = tmp_path / "out"
    process = start(arguments(inputs, out))
    wait_for(process, out / "phases", "see-*.json")
    process.send_signal(signal.SIGKILL)
    assert finish(process)[0] == -signal.SIGKILL and not (out / "report.json").exists()
    done = {path.stem for path in (out / "phases").glob("*.json")} - {"job", "morphemes"}
    code, stdout, stderr = finish(start(arguments(inputs, out, "--resume")))
    assert (code, stderr) == (0, "")
    assert {"teacher", "dense", "see-4"} <= done
    assert set(re.findall(r"^(\S+): done before$", stdout, re.M)) == done
    assert values(json.loads((out / "report.json").read_text())) == values(report)


def test_resuming_a_finished_run_works_nothing_again_and_reports_the_same(capsys, inputs, copied, report):
    before = (copied / "report.md").read_text(), (copied / "report.png").read_bytes()
    code, stdout, stderr = call(capsys, *arguments(inputs, copied, "--resume"))
    assert (code, stderr) == (0, "") and stdout.count("done before") == 2 + len(STUDENTS) * len(RATIOS)
    assert json.loads((copied / "report.json").read_text())["rows"] == report["rows"]
    assert (copied / "report.png").read_bytes() == before[1]
    assert before[0].splitlines()[2:-2] == (copied / "report.md").read_text().splitlines()[2:-2]  # all but command and task


def reused(job, out, phase, resume=True):
    """Whether a phase is taken from an earlier run."""
    return LanguageStudy(job, out, resume, say=lambda line: None).phase(phase, lambda: "worked again") != "worked again"


def test_phases_are_reused_by_the_same_job_that_resumes_and_by_no_other(inputs, copied, tmp_path):
    job, other = the_job(inputs), tmp_path / "other.txt"
    other.write_text((inputs / "corpus.txt").read_text().replace("the adener", "an adener") + "\n\nthe end .\n")
    assert reused(job, copied, "see-4") and reused(job, copied, "hashed-10")
    assert reused(replace(job, ratios=(4,)), copied, "see-4")  # a ratio more or less changes no other phase
    for change in ({"lexicon": "none"}, {"teacher_steps": 41}, {"sweeps": 4}, {"seed": 1}, {"corpus": str(other)}):
        assert not reused(replace(job, **change), copied, "hashed-10")
        shutil.copy(copied / "phases" / "see-4.json", copied / "phases" / "hashed-10.json")
    assert not reused(job, copied, "svd-4", resume=False)


def test_a_corpus_moved_elsewhere_with_the_same_text_resumes(inputs, copied, tmp_path):
    moved = shutil.copy(inputs / "corpus.txt", tmp_path / "moved.txt")
    assert reused(the_job(inputs, corpus=str(moved)), copied, "see-4")


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"fingerprint": "0", "value": []}', b"[" * 100_000,
                                  b'{"fingerprint": 3}'])
def test_a_damaged_phase_is_worked_again(inputs, copied, data):
    (copied / "phases" / "see-4.json").write_bytes(data)
    job = the_job(inputs)
    assert not reused(job, copied, "see-4")
    assert reused(job, copied, "see-10")


def test_a_phase_that_was_lost_is_worked_again_to_the_same_values(inputs, copied, report):
    (copied / "phases" / "see-4.json").write_text('{"fingerprint": "')
    (copied / "phases" / "morphemes.json").unlink()
    (copied / "see_4x.pt").unlink()
    # a process of one thread like the finished run: another number of threads adds in another order
    code, stdout, stderr = finish(start(arguments(inputs, copied, "--resume")))
    assert (code, stderr) == (0, "") and "see-4: done before" not in stdout and stdout.count("done before") == 11
    assert values(json.loads((copied / "report.json").read_text())) == values(report)
    assert (copied / "see_4x.pt").exists()


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"."),
                                    lambda path: path.write_bytes(path.read_bytes()[:5000])], ids=["lost", "foreign", "cut"])
def test_a_damaged_teacher_is_one_line_that_names_it(capsys, inputs, copied, damage):
    damage(copied / "phases" / "teacher.pt")
    code, _, stderr = call(capsys, *arguments(inputs, copied, "--resume"))
    assert code == 2 and stderr.count("\n") == 1
    assert stderr.startswith(f"see_min: {copied / 'phases' / 'teacher.pt'}: expected a checkpoint of see_min, got ")


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(inputs, tmp_path):
    out = tmp_path / "out"
    process = start(arguments(inputs, out, stage2_steps=100_000, teacher_steps=1, vocabulary=300))
    wait_for(process, out / "phases", "teacher.json")
    process.send_signal(signal.SIGINT)
    code, _, stderr = finish(process)
    assert code == 130 and not (out / "report.json").exists()
    assert "Traceback" not in stderr and len(stderr.strip().splitlines()) == 1
    assert f"{out}/phases" in stderr and "--resume" in stderr
    assert not list(out.rglob(".*"))  # no half-written file


# ------------------------------------------------------------------ input that cannot be used


def bytes_file(name, data):
    def write(folder):
        (folder / name).write_bytes(data)
        return folder / name

    return write


BAD = {
    "missing corpus": (["--corpus", lambda t: t / "none.txt"],
                       "{t}/none.txt: expected a text file, got No such file or directory"),
    "corpus is a directory": (["--corpus", lambda t: t], "{t}: expected a text file, got Is a directory"),
    "empty corpus": (["--corpus", bytes_file("c", b" \n\n")], "{t}/c: expected words, got an empty text"),
    "corpus not UTF-8": (["--corpus", bytes_file("c", b"a b\nc \xff d\n")], "{t}/c:2: expected UTF-8, got byte 0xff"),
    "short corpus": (["--corpus", bytes_file("c", b"too few words\n\nto train on\n")],
                     "corpus: expected at least 129 tokens in the training split, got 4"),
    "missing lexicon": (["--lexicon", lambda t: t / "none.txt"], "{t}/none.txt: expected a lexicon file, got No such file"),
    "malformed lexicon": (["--lexicon", bytes_file("l", b"a\nx\nb\n\n")],
                          "{t}/l:4: expected sememes separated by tabs, got an empty"),
    "empty lexicon": (["--lexicon", bytes_file("l", b"")], "{t}/l: expected at least 1 entry, got none"),
    "ratio below 1": (["--ratios", "0.5"], "ratio: expected 1 to "),
    "ratio nan": (["--ratios", "4", "nan"], "ratio: expected 1 to "),
    "ratio infinite": (["--ratios", "inf"], "ratio: expected 1 to "),
    "ratio too large": (["--ratios", "100000"],
                        "ratio: expected 1 to 70.5 for the default form of order 2 with this vocabulary, got 100000"),
    "ratio a word": (["--ratios", "x"], "--ratios: invalid number value: 'x'"),
    "ratios left out": (["--ratios"], "--ratios: expected at least one argument"),
    "unknown policy": (["--policy", "magic"],
                       "policy: expected one of additive, amplitudes, shared, superposed, backoff, undealt, morphemes, "
                       "mixed, senses, terms, got 'magic'"),
    "unknown paper policy": (["--paper-policy", "magic"], "policy: expected one of additive, amplitudes, "),
    "unknown further policy": (["--also", "morphemes", "magic"], "policy: expected one of additive, amplitudes, "),
    "no CUDA": (["--device", "cuda"], "device: expected a machine with CUDA, got none: use --device cpu"),
    "unknown device": (["--device", "abacus"], "--device: invalid choice: 'abacus'"),
    "out below a file": (["--out", lambda t: bytes_file("f", b"")(t) / "out"],
                         "out: expected a directory that can be written, got {t}/f/out"),
    "out is a file": (["--out", bytes_file("f", b"")], "out: expected a directory that can be written, got {t}/f"),
    "heads": (["--dimension", "33"], "dimension: expected a multiple of 2 heads, got 33"),
    "small vocabulary": (["--vocabulary", "2"], "vocabulary: expected at least 3, got 2"),
    "negative seed": (["--seed", "-1"], "seed: expected 0 to 2^63 - 1, got -1"),
    "huge seed": (["--seed", str(2**64)], "seed: expected 0 to 2^63 - 1, got 18446744073709551616"),
    "steps a word": (["--teacher-steps", "many"], "--teacher-steps: invalid int value: 'many'"),
    "unknown flag": (["--speed=9"], "unrecognized arguments: --speed=9"),
} | {
    f"{sign} {name}": ([f"--{name.replace('_', '-')}", value], f"{name}: expected at least 1, got {value}")
    for sign, value, names in (
        ("negative", "-3", ("teacher_steps", "stage1_steps", "stage2_steps", "sweeps", "blocks", "dimension", "vocabulary")),
        ("zero", "0", ("teacher_steps", "stage1_steps", "stage2_steps", "sweeps", "blocks", "order", "paper_order")),
    )
    for name in names
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(capsys, inputs, tmp_path, case):
    flags, text = BAD[case]
    if case == "no CUDA" and torch.cuda.is_available():
        pytest.skip("CUDA is here")
    flags = [flag(tmp_path) if callable(flag) else flag for flag in flags]
    code, _, stderr = call(capsys, *arguments(inputs, tmp_path / "out", vocabulary=300), *flags)
    assert code == 2
    assert stderr.count("\n") == 1 and stderr.endswith("\n") and text.replace("{t}", str(tmp_path)) in stderr
    assert not list(tmp_path.rglob("report.*")) and not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("flags, text", [
    (["--corpus", "none.txt"], "see_min: none.txt: expected a text file, got No such file or directory"),
    (["--speed=9"], "python -m see_min: unrecognized arguments: --speed=9"),
])
def test_bad_input_is_one_line_and_exit_code_2_in_a_real_process(inputs, tmp_path, flags, text):
    code, stdout, stderr = finish(start([*arguments(inputs, tmp_path / "out"), *flags]))
    assert (code, stderr) == (2, text + "\n") and "corpus:" not in stdout


def test_no_command_is_one_line_and_exit_code_2():
    code, stdout, stderr = finish(start([]))
    assert (code, stdout, stderr) == (2, "", "python -m see_min: the following arguments are required: command\n")


@pytest.mark.parametrize("command", [["--help"], ["compress", "--help"]])
def test_help_is_printed_without_loading_torch(command):
    code = ("import sys; from see_min.__main__ import main\n"
            f"try: main({command!r})\nexcept SystemExit as stop: print(stop.code, 'torch' in sys.modules)")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.stdout.startswith("usage: python -m see_min") and run.stdout.endswith("0 False\n") and run.stderr == ""


def test_the_help_knows_every_default(capsys):
    _, text, _ = call(capsys, "compress", "--help")
    text = " ".join(text.split())
    for name in ("vocabulary", "order", "policy", "paper_order", "paper_policy", "sweeps", "dimension", "blocks", "teacher_steps",
                 "stage1_steps", "stage2_steps", "seed", "device", "lexicon"):
        flag, default = f"--{name.replace('_', '-')} ", getattr(Job(), name)
        described = text.rsplit(flag, 1)[1][:110]
        assert f"default: {default}" in described or f"{default} (default)" in described


def test_a_table_over_seeds_of_something_else_is_one_line_and_exit_code_2(capsys, tmp_path):
    text = f"see_min: {tmp_path}/report.json: expected a report.json, got No such file or directory\n"
    assert call(capsys, "seeds", tmp_path) == (2, "", text)


def test_ctrl_c_elsewhere_promises_no_phases(capsys, monkeypatch, tmp_path):
    def stop(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("see_min.results.read_report", stop)
    assert call(capsys, "seeds", tmp_path) == (130, "", "\nsee_min: interrupted\n")


# ------------------------------------------------------------------ policies and edges


def tiny(inputs, **changes):
    return the_job(inputs, **({"ratios": (4,), "vocabulary": 300, "teacher_steps": 2, "stage1_steps": 1, "stage2_steps": 1,
                               "sweeps": 2, "blocks": 1, "context": 8, "batch": 4, "windows": 8} | changes))


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_runs_to_the_end_within_its_floats(inputs, tmp_path, policy):
    report = run_job(tiny(inputs, policy=policy, paper_policy="morphemes"), tmp_path, say=lambda line: None)
    assert len(report["rows"]) == 2 + 3 * len(STUDENTS)
    assert all(math.isfinite(row["value"]) for row in report["rows"])
    floats = {row["method"]: row["embedding_floats"] for row in report["rows"]}
    assert floats["see"] == floats["hashed"] == floats["shuffled"] and floats["see"] <= 300 * 32 / 4


def test_further_policies_join_a_finished_run_as_lines_of_their_own(inputs, tmp_path):
    said = []
    before = run_job(tiny(inputs), tmp_path, say=said.append)
    after = run_job(tiny(inputs, also=("backoff", "senses")), tmp_path, resume=True, say=said.append)
    assert len([line for line in said if line.endswith("done before")]) == len(before["rows"]) - 2 * len(STUDENTS)
    assert after["rows"][: len(before["rows"])] == before["rows"] and after["others"] == ["backoff", "senses"]
    assert [row["method"] for row in after["rows"][len(before["rows"]) :]] == ["backoff"] * 3 + ["senses"] * 3


def test_a_lexicon_of_nothing_and_higher_orders_run_to_the_end(inputs, tmp_path):
    job = tiny(inputs, lexicon="none", order=3, paper_order=2, ratios=(1, 2.5))
    report = run_job(job, tmp_path, say=lambda line: None)
    assert len(report["rows"]) == 2 + 3 * len(STUDENTS) * 2 and (tmp_path / "see_2.5x.pt").exists()


def test_the_largest_ratio_that_a_refusal_names_runs_to_the_end(inputs, tmp_path):
    quiet, ratio = {"out": tmp_path, "say": lambda line: None}, 1e6
    while True:  # each form names a largest of its own
        try:
            report = run_job(tiny(inputs, ratios=(ratio,)), **quiet)
            break
        except DataError as refusal:
            largest = float(re.search(r"expected 1 to ([\d.]+) ", str(refusal))[1])
            assert largest < ratio
            ratio = largest
    floats = {row["method"]: row["embedding_floats"] for row in report["rows"]}
    assert floats["see"] <= 300 * 32 / ratio and len(report["rows"]) == 2 + 3 * len(STUDENTS)


def test_work_that_is_stopped_leaves_no_older_phase_file_beside_its_new_checkpoint(tmp_path):
    """Else the older job would resume with the teacher of the newer one."""
    assert Phases(tmp_path, "older")("teacher", lambda: 1) == 1
    assert Phases(tmp_path, "older", resume=True)("teacher", lambda: 2) == 1  # done before

    def stopped():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Phases(tmp_path, "newer", resume=True)("teacher", stopped)
    assert Phases(tmp_path, "older", resume=True)("teacher", lambda: 3) == 3
