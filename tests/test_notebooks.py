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
PRODUCT = r"T_1[i_{wk1}, k] \otimes \cdots \otimes T_n[i_{wkn}, k]"
PARTS = ("E_w", r"\sum_{u \in \mathrm{bag}(w)} b_u", r"\sum_{k=1}^{r}", PRODUCT,
         r"\sum_{k=1}^{r} " + PRODUCT, "P")
STRIP = rf"""> **You are here** (boxed: the part of this page).
>
> $$E_w = \Big( {PARTS[1]} + {PARTS[4]} \Big) \, P$$
>
> A word's row: whole vectors of its units, added (the **bag**: private vectors of frequent words,
> known units), plus a sum of $r$ products of short vectors (**leaves**) that an **index** looks up,
> all through one **projection** $P$."""
WORK = """> **Who does the work** (the matrix of these notebooks at 1/20 of its bytes,
> [measured in 05](05_encoding_and_budget.ipynb#by-bytes)): the codes, which choose the leaves of a
> word, take 85 % of the bytes, the leaves 15 %. Private vectors, sememes and a projection take none
> ([10](10_does_knowledge_help.ipynb) asks why)."""
CORE = ("00", "01", "02", "04", "05", "06", "08", "10")  # the others are electives
MOST = 9000  # words of prose of the core path
LARGEST = 700_000  # bytes of a file
FOLDERS = "home|root|tmp|usr|opt|mnt|var|work|Users|content"
ABSOLUTE = re.compile(rf"(?<![\w.:/*-])(?:/(?:{FOLDERS})/\w|[A-Z]:\\\\?\w)")


def markdown(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def unboxed(text):
    for part in PARTS:
        text = text.replace(rf"\boxed{{{part}}}", part)
    return text


def prose(text):
    """The words of markdown: no formulas, code or addresses."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", " ", text, flags=re.S)
    return re.findall(r"[^\W\d_](?:[\w'’-]*\w)?", re.sub(r"\]\([^)]*\)", "]", text))


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
    text, head, place = markdown(notebook), notebook.cells[0].source, notebook.cells[1].source
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
        "no strip in the second cell": not unboxed(place).startswith(STRIP),
        "no part is boxed": "\\boxed" not in place,
        "not said who does the work": early and WORK not in place,
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


def test_solutions_answer_every_check():
    for path in PATHS:
        notebook = nbformat.read(path, as_version=4)
        solutions = (path.parent / "solutions" / f"{path.name[:2]}.py").read_text(encoding="utf-8")
        source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
        for check in re.findall(r"^def (check_\d)\(", source, re.M):
            assert re.search(rf"^{check}\(", solutions, re.M), f"{path.name}: {check}"


def test_the_core_path_is_short():
    core = [nbformat.read(path, as_version=4) for path in PATHS if path.name[:2] in CORE]
    assert sum(len(prose(markdown(notebook))) for notebook in core) <= MOST


@pytest.mark.parametrize(("old", "new", "text"), [
    ("**Claim.**", "Claim:", "no **Claim**"),
    ("Reading time: ", "Reading time: some ", "no reading time"),
    ("known units", "units", "no strip"),
    ("boxed{", "text{", "no strip"),
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
