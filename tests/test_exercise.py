"""The checker of docs/exercise.md accepts its solution and shows where a wrong one fails."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks" / "solutions"
SOLUTION = (FOLDER / "exercise.py").read_text(encoding="utf-8")


def checked(source, tmp_path, *steps):
    """(exit code, printed lines) of the checker for a file with this source."""
    (tmp_path / "mini.py").write_text(source, encoding="utf-8")
    command = [sys.executable, FOLDER / "check_exercise.py", tmp_path / "mini.py", *steps]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


def test_the_solution_is_that_of_the_library_and_short(tmp_path):
    code, lines = checked(SOLUTION, tmp_path)
    assert code == 0 and len(lines) == 5 and all(": right in " in line for line in lines)
    assert len([line for line in SOLUTION.splitlines() if line.strip()]) <= 80


@pytest.mark.parametrize(("old", "new", "step"), [
    ("left[:, :, None] * right[:, None, :]", "right[:, :, None] * left[:, None, :]", "1, product"),
    ("x = bag @ vectors", "x = 0 * bag @ vectors", "2, rows"),
    ("below[own] + ridge)", "below[own] + 2 * ridge)", "3, leaves"),
    ("- 2 * above @ leaf.T", "- above @ leaf.T", "4, codes"),
    ("            terms[k] = term(tables, index, k)\n", "", "5, fit"),
    ("def codes(", "def kodes(", "4, codes"),
])
def test_a_planted_error_is_shown_at_its_step(old, new, step, tmp_path):
    assert old in SOLUTION
    code, lines = checked(SOLUTION.replace(old, new), tmp_path)
    text = "\n".join(lines)
    number, name = step.split(", ")
    missing = f"step {number}: expected a function {name}, got none"
    assert code == 1 and (missing in text or f"step {step}: smallest counterexample: (" in text)
    assert missing in text or ("\nexpected " in text and "\ngot " in text)


def test_one_step_is_checked_before_the_next_are_written(tmp_path):
    first = SOLUTION[: SOLUTION.index("# 2.")]
    assert checked(first, tmp_path, "1")[0] == 0
    assert checked(first, tmp_path, "2") == (1, [
        "step 1, product: right in 4 cases", "step 2: expected a function rows, got none"])
    assert checked(first, tmp_path, "x")[0] == 2
