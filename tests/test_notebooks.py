"""The committed notebooks have one form, and their runner rejects a broken one."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).parents[1]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECTIONS = ("Why / On paper / Derive / Check / From the library / What this does not show / "
            "Summary / Exercises")
EXERCISES = ["1. Predict.", "2. One line.", "3. Real.", "4. Open."]
LARGEST = 700_000  # bytes of a file
FOLDERS = "home|root|tmp|usr|opt|mnt|var|work|Users|content"
ABSOLUTE = re.compile(rf"(?<![\w.:/*-])(?:/(?:{FOLDERS})/\w|[A-Z]:\\\\?\w)")


def section(notebook, name):
    """The cells under a heading, with the cell that has it."""
    inside, cells = False, []
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            inside = cell.source.startswith(f"## {name}")
        cells += [cell] * inside
    return cells


def problems(notebook):
    """What is wrong with the form of a notebook and with its outputs, as a list of lines."""
    head, place = (cell.source for cell in notebook.cells[:2])
    text = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    sections = " / ".join(re.findall(r"^## (.+)$", text, re.M))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    source = "\n".join(cell.source for cell in cells)
    exercises = "\n\n".join(c.source for c in section(notebook, "Exercises"))
    bullets = re.findall(r"^- ", "\n".join(c.source for c in section(notebook, "Summary")), re.M)
    shown = [str(output.get("text", output.get("data", {}).get("text/plain", "")))
             for output in outputs]
    paths = [match[0] for match in map(ABSOLUTE.search, [text, source, *shown]) if match]
    about = r"^\*Reading time: \d+ minutes, exercises \d+; runs in [^*]+?\.\s+You\s+need:\s"
    early = "01" <= head[2:4] <= "06"
    is_wrong = {
        "no **Claim** in the first cell": "**Claim" not in head,
        "no reading time and prerequisites": not re.search(about, head, re.M),
        "no strip in the second cell": not place.startswith("> **You are here**"),
        "no part is boxed": "\\boxed" not in place,
        "not said who does the work": early and "**Who does the work**" not in place,
        f"sections: expected {SECTIONS}, got {sections}": sections != SECTIONS,
        "nothing is asserted": not any(re.search(r"\bassert", cell.source) for cell in cells),
        "no figure says why": "image/png" not in str(section(notebook, "Why")),
        f"summary: expected 3 bullets, got {len(bullets)}": len(bullets) != 3,
        "exercises": re.findall(r"^\*\*(\d\. .+?)\*\*", exercises, re.M) != EXERCISES,
        "an exercise is not checked": not all(f"def check_{n}(" in source for n in (2, 3)),
        "a cell was not executed": any(cell.execution_count is None for cell in cells),
        "a cell may raise": any("raises-exception" in c.metadata.get("tags", []) for c in cells),
        "an error": any(output.output_type == "error" for output in outputs),
        "output on stderr": any(output.get("name") == "stderr" for output in outputs),
        f"absolute paths: {paths}": bool(paths),
    }
    return [line for line, wrong in is_wrong.items() if wrong]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_a_notebook_has_the_form_of_all_and_links_to_its_neighbours(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert problems(notebook) == []
    assert notebook.cells[0].source.startswith(f"# {path.name[:2]} ")
    assert path.stat().st_size < LARGEST
    place = PATHS.index(path)
    for other in {*PATHS[max(0, place - 1) : place + 2]} - {path}:
        assert f"]({other.name})" in path.read_text(encoding="utf-8")


def test_the_formula_is_the_same_on_all_pages_but_for_what_is_boxed():
    formulas = set()
    for path in PATHS:
        strip = nbformat.read(path, as_version=4).cells[1].source.partition("**Who does")[0]
        formulas.add(re.sub(r"\\boxed|[{}]", "", strip.split("\n\n")[0]).rstrip("> \n"))
    assert len(formulas) == 1


def test_solutions_answer_every_check():
    for path in PATHS:
        notebook = nbformat.read(path, as_version=4)
        solutions = (path.parent / "solutions" / f"{path.name[:2]}.py").read_text(encoding="utf-8")
        source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
        for check in re.findall(r"^def (check_\d)\(", source, re.M):
            assert re.search(rf"^{check}\(", solutions, re.M), f"{path.name}: {check}"


@pytest.mark.parametrize(("old", "new", "text"), [
    ("**Claim.**", "Claim:", "no **Claim**"),
    ("Reading time: ", "Reading time: some ", "no reading time"),
    ("You are here", "Here", "no strip"),
    ("boxed{", "text{", "no part is boxed"),
    ("Who does the work", "The work", "not said who"),
    ("## Derive", "## Derivation", "sections: expected"),
    ("assert", "show", "nothing is asserted"),
    ("image/png", "image/gif", "no figure says why"),
    ("- One product", "One product", "expected 3 bullets, got 2"),
    ("4. Open.", "4. Closed.", "exercises"),
    ("def check_3", "def check_4", "an exercise is not checked"),
    ('"execution_count": 1,', '"execution_count": null,', "a cell was not executed"),
    ("Three short vectors", "/home/me/x", "absolute paths: ['/home/m'"),
])
def test_a_wrong_form_is_found(old, new, text):
    right = (ROOT / "notebooks" / "01_product_state.ipynb").read_text(encoding="utf-8")
    found = problems(nbformat.reads(right.replace(old, new), as_version=4))
    assert old in right and any(text in line for line in found)


def test_the_runner_accepts_a_right_notebook_and_rejects_broken_ones(tmp_path):
    """A solution, solutions/NN.py, runs as the last cell."""
    paths = [tmp_path / f"{name}.ipynb" for name in ("right", "unsolved", "damaged")]
    for path in paths[:2]:
        cells = [new_code_cell("x = 2"), new_code_cell("assert x == 2")]
        nbformat.write(new_notebook(cells=cells), path)
    paths[2].write_text("{")
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "ri.py").write_text("assert x == 2")
    (tmp_path / "solutions" / "un.py").write_text("assert x == 3, 'wrong solution'")
    before = paths[0].read_bytes()
    command = [sys.executable, ROOT / "tests" / "run_notebooks.py", *paths]
    done = subprocess.run(command, capture_output=True, text=True)
    right, unsolved, damaged, last = done.stdout.splitlines()
    assert done.returncode == 1 and last == "3 notebooks, 2 failed"
    assert right.endswith(" s") and paths[0].read_bytes() == before
    assert "FAILED, cell 3: AssertionError: wrong solution" in unsolved
    assert "FAILED, expected a notebook, got" in damaged
