"""The numbered claims, their code and their tests belong together; the core imports nothing heavy, and nothing imports upward."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "see_min"
DOCUMENT = (ROOT / "docs" / "derivations.md").read_text(encoding="utf-8")
HEADING = re.compile(r"^### D(\d+)\. .+$", re.MULTILINE)
CITATION = re.compile(r"^Code:\s(.+?)\sTests?:\s(.+)", re.MULTILINE | re.DOTALL)
HEAVY = ("torch", "matplotlib", "OpenHowNet", "morfessor")
LIGHT = "encoding fit units budget tensor_train corpus lexicon results report".split()
# from the ground up: a file may import those before it
ORDER = ["checks", "files", "entangle", "tensor_train", "kdml", "lexicon", "alignment", "hownet", "lexicon_files",
         "segmentation", "tokens", "morphemes", "units", "controls", "encoding", "budget", "als", "fit", "__init__",
         "corpus", "sequences", "vocabulary", "spans", "matrices", "similarity", "related", "style", "metrics", "results",
         "compare", "explain", "bridge", "inputs", "report", "compare_report", "explain_report", "bench_report",
         "layers_report", "arguments", "__main__"]


def claims(document):
    """{number: text below its heading} in the order of the document."""
    parts = HEADING.split(document)
    return {int(number): text for number, text in zip(parts[1::2], parts[2::2])}


def cited(text):
    """(code names, tests as file::name) of a claim."""
    code, tests = CITATION.search(text).groups() if CITATION.search(text) else ("", "")
    return re.findall(r"see_min(?:\.\w+)+", code), re.findall(r"tests/\w+\.py::\w+", tests)


def docstrings(path):
    """{function name: docstring} of a test file."""
    functions = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name: ast.get_docstring(node) or "" for node in functions if isinstance(node, ast.FunctionDef)}


def problems(document, tests):
    """What is wrong between a document and the docstrings of tests, {file: {name: docstring}}, as a list of lines."""
    found, numbers = [], list(claims(document))
    if numbers != list(range(1, len(numbers) + 1)):
        found.append(f"numbers are not consecutive: {numbers}")
    for number, text in claims(document).items():
        names = cited(text)[1]
        if not names:
            found.append(f"D{number} cites no test")
        for file, name in (one.split("::") for one in names):
            if name not in tests.get(file, {}):
                found.append(f"D{number} cites {file}::{name}, which does not exist")
            elif not tests[file][name].startswith(f"D{number}: "):
                found.append(f"D{number} cites {file}::{name}, whose docstring does not start with it")
    for file, functions in tests.items():
        for name, docstring in functions.items():
            number = re.match(r"D(\d+):", docstring)
            if number and int(number[1]) not in numbers:
                found.append(f"{file}::{name} proves D{number[1]}, which is not in the document")
    return found


def all_tests():
    return {f"tests/{path.name}": docstrings(path) for path in sorted((ROOT / "tests").glob("test_*.py"))}


def test_every_claim_has_its_test_and_every_numbered_test_its_claim():
    assert len(claims(DOCUMENT)) >= 15
    assert problems(DOCUMENT, all_tests()) == []


def test_every_third_level_heading_of_the_document_is_a_numbered_claim():
    assert len(HEADING.findall(DOCUMENT)) == len(re.findall(r"^###", DOCUMENT, re.MULTILINE))


CLAIM = "### D1. A claim.\n\nCode: see_min.a.b. Test: tests/test_a.py::test_b.\n"


@pytest.mark.parametrize(("document", "docstring", "text"), [
    (CLAIM.replace("D1.", "D2."), "D2: yes", "numbers are not consecutive"),
    (CLAIM + CLAIM.replace("D1.", "D3."), "D1: yes", "numbers are not consecutive"),
    ("### D1. A claim.\n\nNo code.\n", "D1: yes", "D1 cites no test"),
    (CLAIM.replace("test_b", "test_c"), "D1: yes", "tests/test_a.py::test_c, which does not exist"),
    (CLAIM.replace("test_a.py", "test_z.py"), "D1: yes", "tests/test_z.py::test_b, which does not exist"),
    (CLAIM, "D11: other", "whose docstring does not start with it"),
    (CLAIM, "D2: other", "tests/test_a.py::test_b proves D2, which is not in the document"),
])
def test_a_broken_link_between_claim_and_test_is_found(document, docstring, text):
    assert problems(CLAIM, {"tests/test_a.py": {"test_b": "D1: yes"}}) == []
    assert any(text in line for line in problems(document, {"tests/test_a.py": {"test_b": docstring}}))


def defined(path):
    """Names defined in a file: functions, classes, Class.method and constants."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names.update(f"{node.name}.{method.name}" for method in node.body if isinstance(method, ast.FunctionDef))
        if isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return names


@pytest.mark.parametrize("number", claims(DOCUMENT))
def test_the_code_a_claim_cites_exists(number):
    codes = cited(claims(DOCUMENT)[number])[0]
    assert codes
    for code in codes:
        path, parts = PACKAGE, code.split(".")[1:]
        while (path / parts[0]).is_dir():
            path, parts = path / parts[0], parts[1:]
        assert ".".join(parts[1:]) in defined(path / f"{parts[0]}.py"), code


def heavy_modules(statement, path=None):
    """Which of the heavy packages are loaded after a statement in a fresh interpreter, with `path` first on its path."""
    first = f"import sys; sys.path[:0] = {[str(folder) for folder in (path, ROOT) if folder]!r}"
    code = "\n".join([first, statement, f"print(*(name for name in {HEAVY!r} if name in sys.modules))"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_core_imports_nothing_heavy():
    assert heavy_modules(", ".join(["import see_min", *(f"see_min.{name}" for name in LIGHT)])) == []


@pytest.mark.parametrize("name", HEAVY)
def test_a_planted_heavy_import_is_caught(name, tmp_path):
    (tmp_path / f"{name}.py").write_text("")  # a stand-in, so that the control needs none of the packages
    assert heavy_modules(f"import see_min.encoding, {name}", tmp_path) == [name]


def imported(source, module, package="see_min"):
    """What the source of `module` imports from the package, at the top or at the point of use, as names without the package."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = [package, *module.split(".")][: -node.level] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            names.update(f"{start}.{alias.name}" for alias in node.names)
    return {name.removeprefix(package).removeprefix(".") for name in names if name == package or name.startswith(f"{package}.")}


def graph(sources):
    """{module: modules it imports} from {module: source}; a name that is no module belongs to the longest one before it."""
    out = {}
    for module, source in sources.items():
        targets = set()
        for name in imported(source, module):
            while name and name not in sources:
                name = f"{name}.__init__" if f"{name}.__init__" in sources else name.rpartition(".")[0]
            targets.add(name or "__init__")
        out[module] = targets - {module}
    return out


def upward(sources):
    """Imports of a module by one that stands before it in the order, or that has no place in it."""
    place = lambda module: ORDER.index(module.split(".")[0]) if module.split(".")[0] in ORDER else None
    return [f"{module} imports {target}" for module, targets in graph(sources).items() for target in targets
            if place(module) is None or place(target) is None or place(target) > place(module)]


def package_sources():
    files = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {module: path.read_text(encoding="utf-8") for module, path in files.items()}


def test_no_file_imports_one_above_it():
    sources = package_sources()
    assert {module.split(".")[0] for module in sources} <= set(ORDER)
    assert {"checks", "files"} <= graph(sources)["encoding"] and "units" in graph(sources)["encoding"]  # the reader sees imports
    assert upward(sources) == []


def test_imports_make_no_circle():
    graphlib.TopologicalSorter(graph(package_sources())).prepare()


@pytest.mark.parametrize("line", [
    "from see_min.fit import fit", "import see_min.fit", "from see_min import fit", "from .fit import fit", "from . import fit",
    "def f():\n    from see_min.fit import fit",
])
def test_a_planted_upward_import_is_caught(line):
    sources = {"__init__": "", "checks": "", "fit": "from see_min.entangle import kron_rows", "entangle": line}
    assert upward(sources) == ["entangle imports fit"]
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph(sources)).prepare()
