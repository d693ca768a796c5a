"""The command line: its commands, exit codes, one line for whatever cannot be used."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from see_min.experiments.cli import COMMANDS, main, make_parser
from see_min.experiments.options import parse_ratio

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def call(capsys, *words):
    """(exit code, stdout, stderr); an exception passes through."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def refused(capsys, *words):
    """The one line of stderr."""
    code, out, err = call(capsys, *words)
    assert ((code, err.count("\n")) == (2, 1) and err.startswith("see_min: ")
        and "Traceback" not in err), err
    return err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_flags_and_help(capsys, name):
    code, out, _ = call(capsys, name, "--help")
    assert code == 0 and "usage: python -m see_min" in out
    parser, module = make_parser(name)
    assert callable(module.run) and callable(module.add_arguments)


def test_the_help_and_version_import_nothing_heavy():
    code = ("import sys; from see_min.experiments.cli import main\n"
        "try: main(['{}'])\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'transformers', 'matplotlib') if name in sys.modules])")
    for word, text in (("--version", "see_min "), ("--help", "train a toy model")):
        run = subprocess.run([sys.executable, "-c", code.format(word)], cwd=ROOT,
            capture_output=True, text=True)
        assert text in run.stdout and run.stdout.endswith("[]\n"), run


def test_flags_are_few():
    """Counted over commands that may share a flag; a reader should find what a user needs."""
    flags = set()
    for name in COMMANDS:
        parser, _ = make_parser(name)
        own = parser._subparsers._group_actions[0].choices[name]
        flags |= {option for action in own._actions for option in action.option_strings}
    assert len(flags) <= 45


LONG = "x" * 300
BAD = [("", "the following arguments are required: COMMAND"), ("zip", "invalid choice: 'zip'"),
    ("train --speed 9", "unrecognized arguments: --speed 9"), ("train --seed x",
    "--seed: invalid int value: 'x'"), ("train --task poetry", "--task: invalid choice: 'poetry'"),
    ("train --teacher-steps 0", "teacher-steps: expected at least 1, got 0"),
    ("train --seed -1", "seed: expected 0 to 2^63 - 1, got -1"),
    ("train --methods magic", "method: expected one of see, "),
    ("train --corpus none.txt", "none.txt: expected a file that can be read"),
    ("train --corpus f --lexicon none.txt", "none.txt: expected a file that can be read"),
    (f"train --corpus {LONG}", "File name too long"), ("train --corpus a\0b",
    "arguments: expected names without NUL"), ("train --task translation",
    "parallel: expected --parallel SOURCE TARGET"), ("compress none --corpus f --sts s",
    "model: expected all-MiniLM-L6-v2 or a folder"), (f"compress {LONG} --corpus f --sts s",
    "File name too long"),
    ("evaluate none.pt --corpus f", "none.pt: expected a checkpoint of see_min, got"),
    ("evaluate none.pt --task lm", "task: expected a folder with it, got none.pt"),
    ("hownet --folder none", "none")]


@pytest.mark.parametrize("words, text", BAD)
def test_bad_input_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, words, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_text("the cat sat on the mat .\n\n" * 999)
    (tmp_path / "s").write_text("a,b,1\nb,c,2\nc,d,3\n")
    assert text in refused(capsys, *words.split())
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("report.*"))


def test_an_out_that_cannot_be_written_is_named(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    words = ["train", "--out", tmp_path / "file" / "out", "--corpus", tmp_path / "file"]
    assert "out: expected a directory that can be written, got " in refused(capsys, *words)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError(),
    OverflowError("too large")])
def test_what_the_system_refuses_is_one_line(capsys, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("see_min.experiments.hownet_data.run", fail)
    refused(capsys, "hownet")


def test_a_missing_package_is_named_with_what_installs_it():
    code = ("import sys; sys.modules['torch'] = None; from see_min.experiments.cli import main\n"
        "sys.exit(main(['evaluate', 'a.pt']))")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    text = "see_min: torch: expected the package, got none: pip install -r requirements.txt\n"
    assert (run.returncode, run.stderr) == (2, text)


def test_output_does_not_crash_on_an_ascii_terminal(monkeypatch, tmp_path):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr("see_min.experiments.hownet_data.run", lambda *_: print("– 禁止"))
    assert main(["hownet"]) == 0
    stream.flush()
    assert stream.buffer.getvalue() == b"? ??\n"


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tmp_path):
    (tmp_path / "corpus.txt").write_text("the cat sat on a mat near the dog .\n\n" * 3000)
    words = ["train", "--quick", "--corpus", tmp_path / "corpus.txt", "--lexicon", "none", "--out",
        tmp_path / "out"]
    reset = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    process = subprocess.Popen([sys.executable, "-m", "see_min", *map(str, words)], cwd=ROOT,
        env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=reset)
    process.stdout.readline()  # it runs
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    text = f"finished phases are kept in {tmp_path}/out/phases: the same command with --resume "
    text += "goes on after them"
    assert process.returncode == 130 and stderr.endswith(f"see_min: interrupted; {text}\n")


def test_a_ratio_is_shown_as_it_is_written():
    assert repr(parse_ratio("10.0")) == "10" and parse_ratio("2.5") == 2.5
