"""The command line: its commands, exit codes, one line for whatever cannot be used."""

import io
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import call, refused

from see_min import __version__
from see_min.experiments.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(capsys, name):
    code, out, _ = call(capsys, name, "--help")
    assert code == 0 and f"usage: python -m see_min {name}" in out


def run_main(*arguments, without=()):
    """`main` in a process of its own, where some packages are missing; it prints heavy ones."""
    code = (f"import sys\nfor name in {without}: sys.modules[name] = None\n"
            "from see_min.experiments.cli import main\n"
            f"try: code = main({arguments})\nexcept SystemExit as stop: code = stop.code\n"
            "print([name for name in ('torch', 'matplotlib') if sys.modules.get(name)])\n"
            "sys.exit(code)")
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_help_imports_nothing_heavy():
    run = run_main("--help")
    assert "train a toy model" in run.stdout and run.stdout.endswith("[]\n"), run


def test_a_missing_package_is_named_with_what_installs_it():
    run = run_main("evaluate", "a.pt", without=("torch",))
    text = "see_min: torch: expected the package, got none: pip install -r requirements.txt\n"
    assert (run.returncode, run.stderr) == (2, text)


LONG = "x" * 300
BAD = {
    "": "the following arguments are required: COMMAND",
    "zip": "invalid choice: 'zip'",
    "train --speed 9": "unrecognized arguments: --speed 9",
    "train --seed x": "--seed: invalid int value: 'x'",
    "train --task poetry": "--task: invalid choice: 'poetry'",
    "train --stage2-steps 0": "stage2-steps: expected 1 to 1000000, got 0",
    "bench --rows 999999999999": "dimensions: expected at most ",
    "bench --quick --states 99999999999": "states: expected at most ",
    "train --methods magic": "method: expected one of see, ",
    "train --corpus none.txt": "none.txt: expected a file that can be read",
    "train --corpus f --out f/out": "out: expected a directory that can be written, got ",
    f"train --corpus {LONG}": "File name too long",
    "train --corpus a\0b": "arguments: expected names without NUL",
    "compress none --corpus f --sts s": "model: expected all-MiniLM-L6-v2 or a folder",
    "evaluate none --task lm --corpus f": "model: expected all-MiniLM-L6-v2 or a folder",
    "explain f/none.pt adds": "f/none.pt: expected a checkpoint of see_min",
    "hownet --folder none": "none",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_text("the cat sat on the mat .\n\n" * 999)
    (tmp_path / "s").write_text("a,b,1\nb,c,2\nc,d,3\n")
    assert BAD[words] in refused(capsys, *words.split())
    assert not list(tmp_path.rglob("*.pt")) and not list(tmp_path.rglob("report.*"))


@pytest.mark.parametrize("words", [["train", "--corpus", ""], ["compare", "--matrix", " "],
                                   ["explain", ""], ["hownet", "--folder", ""]])
def test_an_empty_argument_is_refused(capsys, words):
    """It would be the present directory, the default text, or nobody's word."""
    assert "arguments: expected names and values, got an empty one" in refused(capsys, *words)


def test_the_version_is_told(capsys):
    code, out, _ = call(capsys, "--version")
    assert (code, out) == (0, f"see_min {__version__}\n")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_what_the_system_refuses_is_one_line(capsys, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr("see_min.experiments.hownet_data.run", fail)
    refused(capsys, "hownet")


def test_output_does_not_crash_on_an_ascii_terminal(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr("see_min.experiments.hownet_data.run", lambda *_: print("– 禁止"))
    assert main(["hownet"]) == 0
    stream.flush()
    assert stream.buffer.getvalue() == b"? ??\n"


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tmp_path):
    some = ["".join(letters) for letters in itertools.product("abcdefghij", repeat=3)]  # words
    (tmp_path / "corpus.txt").write_text(f"{' '.join(some)} .\n\n" * 40)
    words = ["train", "--quick", "--corpus", str(tmp_path / "corpus.txt"), "--lexicon", "none",
             "--out", str(tmp_path / "out")]
    reset = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    process = subprocess.Popen([sys.executable, "-m", "see_min", *words], cwd=ROOT, text=True,
                               env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               preexec_fn=reset)
    process.stdout.readline()  # it runs
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    text = f"finished phases are kept in {tmp_path}/out/phases: the same command with --resume "
    assert process.returncode == 130
    assert stderr.endswith(f"see_min: interrupted; {text}goes on after them\n")
