"""The numbered claims, their code and their tests belong together; no folder imports from above."""

import ast
import pkgutil
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
WITHDRAWN = {19, 35, 37}
HEAVY = ("torch", "matplotlib", "OpenHowNet", "morfessor", "faiss", "simplemma")
# from the ground up: a file or folder may import those of its own line and of the lines before it
FLOORS = [
    ["errors", "pico"],
    ["entangle", "tensor_train", "units", "encoding", "fitting", "storage"],
    ["words"],
    ["recipe", "__init__"],
    ["toy"],
    ["related"],
    ["bridge"],
    ["experiments", "__main__"],
]


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
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name: ast.get_docstring(node) or "" for node in nodes
            if isinstance(node, ast.FunctionDef)}


def problems(document, tests):
    """What is wrong between a document and {file: {test: docstring}}, as a list of lines."""
    found, numbers = [], list(claims(document))
    if numbers != sorted(set(numbers)) or WITHDRAWN & set(numbers):
        found.append(f"numbers do not rise, or one is withdrawn: {numbers}")
    for number, text in claims(document).items():
        names = cited(text)[1]
        if not names:
            found.append(f"D{number} cites no test")
        for file, name in (one.split("::") for one in names):
            if name not in tests.get(file, {}):
                found.append(f"D{number} cites {file}::{name}, which does not exist")
            elif not tests[file][name].startswith(f"D{number}: "):
                found.append(f"D{number} cites {file}::{name}, whose docstring does not say so")
    every = [(name, text) for functions in tests.values() for name, text in functions.items()]
    proved = [(name, re.match(r"D(\d+):", text)) for name, text in every]
    return found + [f"{name} proves D{number[1]}, which is not in the document"
                    for name, number in proved if number and int(number[1]) not in numbers]


def test_every_claim_has_its_test_and_every_numbered_test_its_claim():
    files = sorted((ROOT / "tests").glob("test_*.py"))
    assert len(claims(DOCUMENT)) == len(re.findall(r"^###", DOCUMENT, re.MULTILINE)) > 70
    assert problems(DOCUMENT, {f"tests/{path.name}": docstrings(path) for path in files}) == []


CLAIM = "### D1. A claim.\n\nCode: see_min.a.b. Test: tests/test_a.py::test_b.\n"


@pytest.mark.parametrize(("document", "docstring", "text"), [
    (CLAIM.replace("D1.", "D2.") + CLAIM, "D1: yes", "numbers do not rise"),
    (CLAIM.replace("D1.", "D19."), "D19: yes", "one is withdrawn"),
    ("### D1. A claim.\n\nNo code.\n", "D1: yes", "D1 cites no test"),
    (CLAIM.replace("test_b", "test_c"), "D1: yes", "tests/test_a.py::test_c, which does not exist"),
    (CLAIM, "D2: other", "proves D2, which is not in the document"),
])
def test_a_broken_link_between_claim_and_test_is_found(document, docstring, text):
    assert problems(CLAIM, {"tests/test_a.py": {"test_b": "D1: yes"}}) == []
    assert text in " ".join(problems(document, {"tests/test_a.py": {"test_b": docstring}}))


def test_the_code_a_claim_cites_exists():
    for number, text in claims(DOCUMENT).items():
        assert cited(text)[0], number
        for code in cited(text)[0]:
            pkgutil.resolve_name(code)  # raises where there is none
    with pytest.raises(AttributeError):
        pkgutil.resolve_name("see_min.fitting.least_squares.refit")


def heavy_modules(statement):
    """Which of the heavy packages a statement loads in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    return subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split()


def test_the_core_imports_nothing_heavy_and_a_heavy_import_would_be_seen():
    light = "see_min, see_min.pico, see_min.related.registry, see_min.experiments.cli"
    assert heavy_modules(f"import {light}") == []
    assert heavy_modules("import see_min, morfessor") == ["morfessor"]


def floor(module):
    """The number of a module's floor, None if it has none."""
    first = module.split(".")[0]
    return next((number for number, names in enumerate(FLOORS) if first in names), None)


def imported(source):
    """Modules that a file imports from the package, at the top or at the point of use."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            names.update(f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names)
    assert not any(name.startswith(".") for name in names), "imports are absolute here"
    inside = (name.split(".")[1:] for name in names if name.split(".")[0] == "see_min")
    return {".".join(parts) if parts and floor(parts[0]) is not None else "__init__"
            for parts in inside}


def upward(sources):
    """Imports that lead to a floor above, and modules without a floor, of {module: source}."""
    return [f"{module} imports {target}" for module, source in sources.items()
            for target in sorted(imported(source))
            if floor(module) is None or floor(target) > floor(module)]


def test_no_folder_imports_one_above_it():
    sources = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path.read_text("utf-8")
               for path in PACKAGE.rglob("*.py")}
    assert upward(sources) == []
    lines = sum(len(text.splitlines()) for name, text in sources.items() if "." not in name)
    assert lines <= 1300  # what an encoding is, in one sitting


@pytest.mark.parametrize("line", [
    "import see_min.bridge", "from see_min import bridge",
    "def f():\n    from see_min.bridge import compress",
])
def test_an_upward_import_is_found(line):
    assert len(upward({"units": line})) == 1 and upward({"experiments.train": line}) == []
