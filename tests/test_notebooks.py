"""The committed notebooks have one form, and the runner that CI uses rejects a broken one; no committed one is executed here."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).parents[1]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECTIONS = ["By hand", "Derive", "Check", "See it", "From the library", "What this does not show", "Exercises"]
LARGEST = 700_000  # bytes of a file
ABSOLUTE = re.compile(r"(?<![\w.:/*-])(?:/(?:home|root|tmp|usr|opt|mnt|var|work|Users|content)/\w|[A-Z]:\\\\?\w)")


def sections(notebook):
    """{heading: cells from it to the next}; what stands before the first heading of level 2 has the key ''."""
    found, heading = {"": []}, ""
    for cell in notebook.cells:
        match = re.match(r"## (.+)", cell.source) if cell.cell_type == "markdown" else None
        heading = match[1].strip() if match else heading
        found.setdefault(heading, []).append(cell)
    return found


def code(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


def asserts(cells):
    """Whether some cell can fail on purpose."""
    return any(re.search(r"\bassert\w*\b", cell.source) for cell in code(cells))


def tree(cells):
    return ast.walk(ast.parse("\n".join(cell.source for cell in code(cells))))


def library_names(cells):
    """Names that cells import from see_min."""
    imports = [node for node in tree(cells) if isinstance(node, ast.Import | ast.ImportFrom)]
    return {(alias.asname or alias.name).split(".")[0] for node in imports for alias in node.names
            if (getattr(node, "module", None) or alias.name).split(".")[0] == "see_min"}


def used_names(cells):
    return {node.id for node in tree(cells) if isinstance(node, ast.Name)}


def form_problems(notebook, number):
    """What is wrong with headings, sections and what must stand in each, as a list of lines."""
    parts = sections(notebook)
    first = parts[""][0].source if parts[""] else ""
    solutions = [cell for cell in code(parts.get("Exercises", [])) if "solution" in cell.metadata.get("tags", [])]
    imported = library_names(notebook.cells)
    wrong = {
        f"expected the title '# {number} ...'": not re.match(rf"# {number} \S", first),
        "no **Claim** in the first cell": "**Claim" not in first,
        f"sections: expected {SECTIONS}, got {list(parts)[1:]}": list(parts)[1:] != SECTIONS,
        "nothing is asserted in Check": not asserts(parts.get("Check", [])),
        "nothing of see_min is used in From the library": not imported & used_names(parts.get("From the library", [])),
        "nothing is asserted in From the library": not asserts(parts.get("From the library", [])),
        "no figure in See it": not any("image/png" in output.get("data", {}) for cell in code(parts.get("See it", []))
                                       for output in cell.outputs),
        "fewer than two solutions among the exercises": len(solutions) < 2,
        "a solution is not folded": not all(cell.metadata.get("jupyter", {}).get("source_hidden") for cell in solutions),
        "a solution is not checked": not all(re.search(r"^check_\d+\(", cell.source, re.M) for cell in solutions),
    }
    return [line for line, is_wrong in wrong.items() if is_wrong]


def output_problems(notebook):
    """What is wrong with the outputs that were committed."""
    found = []
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "code":
            kinds = [output.get("name", output.output_type) for output in cell.outputs]
            found += [f"cell {number}: output on stderr"] * ("stderr" in kinds)
            found += [f"cell {number}: an error"] * ("error" in kinds)
            found += [f"cell {number}: not executed"] * (cell.execution_count is None)
            found += [f"cell {number}: may raise"] * ("raises-exception" in cell.metadata.get("tags", []))
        shown = [output.get("text", output.get("data", {}).get("text/plain", "")) for output in cell.get("outputs", [])]
        paths = [match[0] for match in map(ABSOLUTE.search, [cell.source, *shown]) if match]
        found += [f"cell {number}: an absolute path, {path}" for path in paths]
    if not any(cell.get("outputs") for cell in notebook.cells):
        found.append("no outputs")
    return found


def bodies(source):
    """{body of a function as a syntax tree, without docstring and names of the function: its name}."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            found["\n".join(map(ast.dump, body))] = node.name
    return found


def copies(notebook, sources):
    """Functions of a notebook whose body stands in the package."""
    library = {body: name for source in sources for body, name in bodies(source).items()}
    own = bodies("\n".join(cell.source for cell in code(notebook.cells)))
    return [f"{name} is a copy of {library[body]}" for body, name in own.items() if body in library]


def chain_problems(path, paths):
    """Each notebook but the last links to the one after it, and each but the first to the one before."""
    place, text = paths.index(path), path.read_text(encoding="utf-8")
    return [f"no link to {other.name}" for other in paths[max(0, place - 1) : place + 2]
            if other != path and f"]({other.name})" not in text]


def package_sources():
    return [path.read_text(encoding="utf-8") for path in sorted((ROOT / "see_min").rglob("*.py"))]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_a_notebook_has_the_form_of_all(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert form_problems(notebook, path.name[:2]) == []
    assert output_problems(notebook) == []
    assert copies(notebook, package_sources()) == []
    assert path.stat().st_size < LARGEST


def test_notebooks_are_numbered_without_a_gap():
    numbers = [int(path.name[:2]) for path in PATHS]
    assert numbers == list(range(min(numbers, default=0), max(numbers, default=-1) + 1))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_a_notebook_links_to_its_neighbours(path):
    assert chain_problems(path, PATHS) == []


def test_a_chain_without_a_link_is_found(tmp_path):
    paths = [tmp_path / f"0{number}_x.ipynb" for number in (1, 2, 3)]
    for path, text in zip(paths, ("[next](02_x.ipynb)", "[before](01_x.ipynb)", "[before](02_x.ipynb)")):
        path.write_text(text)
    assert [chain_problems(path, paths) for path in paths] == [[], ["no link to 03_x.ipynb"], []]


def right_notebook():
    """The smallest notebook of the right form."""
    figure = new_output("display_data", data={"image/png": "", "text/plain": "<Figure>"})
    solution = {"tags": ["solution"], "jupyter": {"source_hidden": True}}
    cells = [new_markdown_cell("# 01 Sums\n\n**Claim.** One and one is two.")]
    filling = {
        "Check": [new_code_cell("assert 1 + 1 == 2", execution_count=1)],
        "See it": [new_code_cell("plot()", execution_count=2, outputs=[figure])],
        "From the library": [new_code_cell("from see_min import kron_rows\nassert kron_rows", execution_count=3)],
        "Exercises": [new_code_cell(f"check_{i}(2)", execution_count=4, metadata=dict(solution)) for i in (1, 2)],
    }
    for heading in SECTIONS:
        cells += [new_markdown_cell(f"## {heading}"), *filling.get(heading, [])]
    return new_notebook(cells=cells)


def test_the_right_form_has_no_problem():
    assert form_problems(right_notebook(), "01") == [] and output_problems(right_notebook()) == []


@pytest.mark.parametrize(("old", "new", "text"), [
    ("# 01 Sums", "# 02 Sums", "expected the title '# 01"),
    ("**Claim.**", "Claim:", "no **Claim**"),
    ("## Derive", "## Derivation", "sections: expected"),
    ("## Derive", "### Derive", "sections: expected"),
    ("assert 1 + 1 == 2", "print(1 + 1 == 2)", "nothing is asserted in Check"),
    ("from see_min import kron_rows", "from numpy import kron as kron_rows", "nothing of see_min is used"),
    ("assert kron_rows", "kron_rows", "nothing is asserted in From the library"),
    ("image/png", "image/gif", "no figure in See it"),
    ("check_2(2)", "2", "a solution is not checked"),
    ('"solution"', '"answer"', "fewer than two solutions"),
    ('"source_hidden": true', '"source_hidden": false', "a solution is not folded"),
])
def test_a_wrong_form_is_found(old, new, text):
    source = nbformat.writes(right_notebook())
    assert old in source
    assert any(text in line for line in form_problems(nbformat.reads(source.replace(old, new), as_version=4), "01"))


@pytest.mark.parametrize(("cell", "text"), [
    (new_code_cell("1"), "not executed"),
    (new_code_cell("1", execution_count=1, outputs=[new_output("stream", name="stderr", text="Warning")]), "output on stderr"),
    (new_code_cell("1", execution_count=1, outputs=[new_output("error", ename="E", evalue="", traceback=[])]), "an error"),
    (new_code_cell("1", execution_count=1, metadata={"tags": ["raises-exception"]}), "may raise"),
    (new_code_cell("open('/home/me/x.txt')", execution_count=1), "an absolute path"),
    (new_code_cell("1", execution_count=1, outputs=[new_output("stream", name="stdout", text="in /tmp/x")]), "an absolute path"),
    (new_markdown_cell("see C:\\data"), "an absolute path"),
])
def test_a_wrong_output_is_found(cell, text):
    notebook = right_notebook()
    notebook.cells.append(cell)
    assert any(text in line for line in output_problems(notebook))


def test_ordinary_text_is_no_absolute_path():
    for text in ("https://arxiv.org/abs/2412.12204", "../docs/derivations.md", "see_min/entangle.py", "V D b / B", "a/tmp/b"):
        assert not ABSOLUTE.search(text)


def test_a_copied_formula_is_found():
    copy = "def hand(leaves):\n    a = leaves[0]\n    return a.sum(1)"
    library = 'def rows(leaves):\n    """Sum."""\n    a = leaves[0]\n    return a.sum(1)'
    assert copies(new_notebook(cells=[new_code_cell(copy)]), [library]) == ["hand is a copy of rows"]
    assert copies(new_notebook(cells=[new_code_cell(copy.replace("1", "0"))]), [library]) == []


def run(*paths):
    """(exit code, lines) of the runner in a process of its own."""
    done = subprocess.run([sys.executable, ROOT / "tests" / "run_notebooks.py", *paths], capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines()


def write(path, *sources):
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources]), path)
    return path


def test_the_runner_accepts_a_right_notebook_and_leaves_it_as_it_is(tmp_path):
    path = write(tmp_path / "right.ipynb", "x = 2; print(x)", "assert x == 2", "open('left.txt', 'w').close()")
    before = path.read_bytes()
    assert run(path)[0] == 0
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["right.ipynb"]


def test_the_runner_rejects_a_broken_assertion_and_a_cell_that_raises(tmp_path):
    broken = write(tmp_path / "broken.ipynb", "from see_min import leaf_sizes", "assert leaf_sizes(384, 3) == (8, 8, 7), 'sizes'")
    raises = write(tmp_path / "raises.ipynb", "1 / 0")
    allowed = nbformat.read(raises, as_version=4)  # a tag that tells nbclient to go on must not help
    allowed.cells[0].metadata["tags"] = ["raises-exception"]
    nbformat.write(allowed, raises)
    damaged = tmp_path / "damaged.ipynb"
    damaged.write_text("{")
    code, lines = run(broken, raises, damaged)
    assert code == 1 and len(lines) == 4 and lines[-1] == "3 notebooks, 3 failed"
    for line, text in zip(lines, ("FAILED, cell 2: AssertionError: sizes", "FAILED, cell 1: ZeroDivisionError: division by zero",
                                  "FAILED, expected a notebook, got")):
        assert text in line
