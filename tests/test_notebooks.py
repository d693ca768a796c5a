"""The committed notebooks have one form, and their runner rejects a broken one."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).parents[1]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECTIONS = (
    "By hand / Derive / Check / See it / From the library / What this does not show / Exercises"
)
LARGEST = 700_000  # bytes of a file
FOLDERS = "home|root|tmp|usr|opt|mnt|var|work|Users|content"
ABSOLUTE = re.compile(rf"(?<![\w.:/*-])(?:/(?:{FOLDERS})/\w|[A-Z]:\\\\?\w)")


def texts(notebook):
    """Sources and outputs of all cells."""
    for cell in notebook.cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield str(output.get("text", output.get("data", {}).get("text/plain", "")))


def problems(notebook):
    """What is wrong with the form of a notebook and with its outputs, as a list of lines."""
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    sections = " / ".join(re.findall(r"^## (.+)$", "\n".join(prose), re.M))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    answers = [cell for cell in cells if "solution" in cell.metadata.get("tags", [])]
    hidden = [cell.metadata.get("jupyter", {}).get("source_hidden") for cell in answers]
    paths = [match[0] for match in map(ABSOLUTE.search, texts(notebook)) if match]
    is_wrong = {
        "no **Claim** in the first cell": "**Claim" not in prose[0],
        f"sections: expected {SECTIONS}, got {sections}": sections != SECTIONS,
        "nothing is asserted": not any(re.search(r"\bassert", cell.source) for cell in cells),
        "no figure": not any("image/png" in output.get("data", {}) for output in outputs),
        "fewer than two solutions": len(answers) < 2,
        "a solution is not folded": not all(hidden),
        "a solution is not checked": not all("\ncheck_" in cell.source for cell in answers),
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


def right_notebook():
    """The smallest notebook of the right form."""
    figure = new_output("display_data", data={"image/png": "", "text/plain": "<Figure>"})
    folded = {"tags": ["solution"], "jupyter": {"source_hidden": True}}
    cells = [new_markdown_cell("# 01 Sums\n\n**Claim.** One and one is two.")]
    cells += [new_markdown_cell(f"## {heading}") for heading in SECTIONS.split(" / ")]
    cells += [new_code_cell("assert 1 + 1 == 2", execution_count=1, outputs=[figure])]
    cells += [new_code_cell("1\ncheck_1(2)", execution_count=2, metadata=folded) for _ in range(2)]
    return nbformat.writes(new_notebook(cells=cells))


@pytest.mark.parametrize(("old", "new", "text"), [
    ("**Claim.**", "Claim:", "no **Claim**"),
    ("## Derive", "## Derivation", "sections: expected"),
    ("assert 1 + 1 == 2", "print(1 + 1 == 2)", "nothing is asserted"),
    ("image/png", "image/gif", "no figure"),
    ("check_1(2)", "2", "a solution is not checked"),
    ('"solution"', '"answer"', "fewer than two solutions"),
    ('"source_hidden": true', '"source_hidden": false', "a solution is not folded"),
    ('"execution_count": 1', '"execution_count": null', "a cell was not executed"),
    ("One and one", "/home/me/x", "absolute paths: ['/home/m']"),
])
def test_a_wrong_form_is_found(old, new, text):
    right = right_notebook()
    assert old in right and problems(nbformat.reads(right, as_version=4)) == []
    found = problems(nbformat.reads(right.replace(old, new), as_version=4))
    assert any(text in line for line in found)


def test_the_runner_accepts_a_right_notebook_and_rejects_broken_ones(tmp_path):
    paths = [tmp_path / f"{name}.ipynb" for name in ("right", "broken", "damaged")]
    for path, number in zip(paths, (2, 3)):
        cells = [new_code_cell("x = 2"), new_code_cell(f"assert x == {number}, 'sizes'")]
        nbformat.write(new_notebook(cells=cells), path)
    paths[2].write_text("{")
    before = paths[0].read_bytes()
    command = [sys.executable, ROOT / "tests" / "run_notebooks.py", *paths]
    done = subprocess.run(command, capture_output=True, text=True)
    right, broken, damaged, last = done.stdout.splitlines()
    assert done.returncode == 1 and last == "3 notebooks, 2 failed"
    assert right.endswith(" s") and paths[0].read_bytes() == before
    assert "FAILED, cell 2: AssertionError: sizes" in broken
    assert "FAILED, expected a notebook, got" in damaged
