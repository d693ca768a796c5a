"""The checker of docs/exercise.md accepts its solution and shows where a wrong one fails."""

import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks" / "solutions"
SOLUTION = (FOLDER / "exercise.py").read_text(encoding="utf-8")
CHECKER = runpy.run_path(str(FOLDER / "check_exercise.py"))["main"]


@pytest.fixture
def checked(tmp_path, capsys):
    """A function: (exit code, printed lines) of the checker for a file with this source."""
    def checked(source, *steps):
        (tmp_path / "mini.py").write_text(source, encoding="utf-8")
        code = CHECKER([tmp_path / "mini.py", *steps])
        return code, capsys.readouterr().out.splitlines()

    return checked


def test_the_solution_is_that_of_the_library_and_short(checked):
    code, lines = checked(SOLUTION)
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
def test_a_planted_error_is_shown_at_its_step(old, new, step, checked):
    assert old in SOLUTION
    code, lines = checked(SOLUTION.replace(old, new))
    text = "\n".join(lines)
    number, name = step.split(", ")
    missing = f"step {number}: expected a function {name}, got none"
    assert code == 1 and (missing in text or f"step {step}: smallest counterexample: (" in text)
    assert missing in text or ("\nexpected " in text and "\ngot " in text)


def test_one_step_is_checked_before_the_next_are_written(checked):
    first = SOLUTION[: SOLUTION.index("# 2.")]
    assert checked(first, "1")[0] == 0
    assert checked(first, "2") == (1, [
        "step 1, product: right in 4 cases", "step 2: expected a function rows, got none"])
    assert checked(first, "x")[0] == 2
