"""What a page points at is there: files, headings, tests, claims; its formulas are shown."""

import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
from test_derivations import DOCUMENT, WITHDRAWN, claims, docstrings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "see_min" / "data" / "README.md",
         *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "notebooks").rglob("*.ipynb"))]
SOURCES = sorted([*(ROOT / "see_min").rglob("*.py"), *(ROOT / "tests").glob("*.py")])
FENCE = re.compile(r"^ *(```|~~~).*?^ *\1", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)  # code between backticks
LINK = re.compile(r"\]\(\s*([^)\s]+)[^)]*\)")
PATH = re.compile(r"(?<![\w./-])(?:see_min|tests|docs|notebooks)/[\w./-]*\w\.(?:py|md|ipynb|png)\b")
TEST = re.compile(r"(tests/\w+\.py)::(\w+)")
CLAIM = re.compile(r"(?<![#\w])D(\d+)\b")
ESCAPED = re.compile(r"\\[^\w\s]|\]\(|<[A-Za-z/]")
MATH = re.compile(r"(?<!\\)\$\$(.+?)\$\$|(?<![\\$])\$([^$]+?)\$", re.DOTALL)
NUMBERS = set(claims(DOCUMENT))
PLANTED = {"test_documents.py", "test_derivations.py", "test_links.py", "test_notebooks.py"}
read_tests = cache(docstrings)


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def markdown(path):
    """The text of a page; of a notebook its markdown cells, a blank line between two."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def without_code(text):
    return SPAN.sub("", FENCE.sub("", text))


def anchors(text):
    """What a link to a heading may say: its letters in lower case, hyphens for spaces, no marks."""
    found = []
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCE.sub("", text), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # of a link its text
        found.append(re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-"))
    return found


def broken_links(path, text):
    """Relative links of a page that lead to no file or to no heading of it."""
    found = []
    for target in LINK.findall(without_code(text)):
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        if re.match(r"[a-z]+:", target):
            continue  # another site
        if (file and not place.exists()) or not place.is_relative_to(ROOT):
            found.append(f"{target}: no such file")
        elif anchor and place.suffix in (".md", ".ipynb"):
            page = text if place == path else markdown(place)
            found += [f"{target}: no such heading"] * (anchor not in anchors(page))
    return found


def broken_names(text, numbers):
    """Paths from the root, tests and claims that a text names and that do not exist."""
    found = [f"{path}: no such file" for path in PATH.findall(text) if not (ROOT / path).exists()]
    for file, test in TEST.findall(text):
        if (ROOT / file).exists() and test not in read_tests(ROOT / file):
            found.append(f"{file}::{test}: no such test")
    return found + [f"D{n}: no such claim" for n in CLAIM.findall(text) if int(n) not in numbers]


def broken_maths(text, escapes=True):
    """Formulas that a code host, which reads them as markdown first, does not show as meant."""
    found = []
    for part in re.split(r"\n\s*\n|\n(?=\|)", without_code(text)):  # paragraphs, rows of tables
        formulas = [display or inline for display, inline in MATH.findall(part)]
        if re.search(r"(?<!\\)\$", MATH.sub("", part)):
            found.append(f"a $ without its partner: {part.strip()[:60]}")
        if part.strip().startswith("|"):
            found += [f"a bar in ${formula}$" for formula in formulas if "|" in formula]
        if escapes:
            found += [f"{mark[0]} in ${one}$" for one in formulas for mark in ESCAPED.finditer(one)]
    return found


def problems(path, text):
    numbers = NUMBERS | (WITHDRAWN if path.name == "derivations.md" else set())
    maths = broken_maths(text, escapes=path.suffix == ".md")
    return broken_links(path, text) + broken_names(text, numbers) + maths


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_names_and_formulas_of_a_page(path):
    assert problems(path, markdown(path)) == []


def test_names_in_docstrings_and_comments_lead_somewhere():
    for path in SOURCES:
        if path.name not in PLANTED:
            assert broken_names(path.read_text(encoding="utf-8"), NUMBERS) == [], path.name


@pytest.mark.parametrize(("text", "broken"), [
    ("[a](nowhere.md)", "nowhere.md: no such file"),
    ("[a](../../../etc)", "../../../etc: no such file"),
    ("[a](symbols.md#no-heading)", "symbols.md#no-heading: no such heading"),
    ("in see_min/nowhere.py", "see_min/nowhere.py: no such file"),
    ("tests/test_links.py::test_nothing", "tests/test_links.py::test_nothing: no such test"),
    ("D1 and D999", "D999: no such claim"),
    ("one $a\n\nb$ formula", "a $ without its partner"),
    (r"$a \, b$", r"\, in"),
    ("$a <b$", "<b in"),
    ("| $a | b$ | size |", "a bar in"),
    ("[a](symbols.md#the-fit) [b](../see_min) [c](https://a.b/c) `[d](nowhere)`", None),
    (r"$\lVert x \rVert < 1$ in $\lbrace a \rbrace$; `$` and \$5, $$\sum_k a_k$$", None),
])
def test_what_is_broken_is_found_and_nothing_else(text, broken):
    lines = problems(ROOT / "docs" / "page.md", text)
    assert any(broken in line for line in lines) if broken else lines == []
