"""Whatever a page or a notebook points at is there: files, headings, tests, claims; and its maths is maths on a code host."""

import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
from test_derivations import DOCUMENT, claims, docstrings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "see_min" / "data" / "README.md",
         *sorted((ROOT / "notebooks").glob("*.ipynb"))]
SOURCES = [*sorted((ROOT / "see_min").rglob("*.py")), *sorted((ROOT / "tests").glob("*.py"))]
FENCE = re.compile(r"^ *(```|~~~).*?^ *\1", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)  # code between backticks
LINK = re.compile(r"\]\(\s*([^)\s]+)[^)]*\)")
PATH = re.compile(r"(?<![\w./-])(?:see_min|tests|docs|notebooks)/[\w./-]*\w\.(?:py|md|ipynb|png|txt)\b")
TEST = re.compile(r"(tests/\w+\.py)::(\w+)")
CLAIM = re.compile(r"(?<![#\w])D(\d+)\b")
ESCAPED = re.compile(r"\\[^\w\s]|\]\(|<[A-Za-z/]")
MATH = re.compile(r"(?<!\\)\$\$(.+?)\$\$|(?<![\\$])\$([^$]+?)\$", re.DOTALL)


read_tests = cache(docstrings)


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def markdown(path):
    """The text of a page; of a notebook its markdown cells, a blank line between two."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")


def without_code(text):
    """A page without blocks and spans of code."""
    return SPAN.sub("", FENCE.sub("", text))


def anchors(text):
    """What a link to a heading may say: its letters in lower case, hyphens for spaces, no other marks; -1 for a second one."""
    found = []
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", FENCE.sub("", text), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # of a link its text
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        times = sum(re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other) is not None for other in found)
        found.append(f"{anchor}-{times}" if times else anchor)
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
        elif anchor and place.suffix in (".md", ".ipynb") and anchor not in anchors(text if place == path else markdown(place)):
            found.append(f"{target}: no such heading")
    return found


def broken_names(text, numbers):
    """Paths from the root, tests and claims that a text names and that do not exist."""
    found = [f"{path}: no such file" for path in PATH.findall(text) if not (ROOT / path).exists()]
    found += [f"{file}::{test}: no such test" for file, test in TEST.findall(text)
              if (ROOT / file).exists() and test not in read_tests(ROOT / file)]
    return found + [f"D{number}: no such claim" for number in CLAIM.findall(text) if int(number) not in numbers]


def broken_maths(text, escapes=True):
    """Formulas that a code host does not show as they are meant.

    It reads markdown first: a backslash before a mark is gone, a bar ends a table's cell, `](` makes a link, `<` before a letter
    begins a tag. Notebooks are read the other way round, so that there only balance and tables matter.
    """
    found = []
    for part in re.split(r"\n\s*\n|\n(?=\|)", without_code(text)):  # paragraphs, and rows of tables
        formulas = [display or inline for display, inline in MATH.findall(part)]
        if re.search(r"(?<!\\)\$", MATH.sub("", part)):
            found.append(f"a $ without its partner: {part.strip()[:60]}")
        if part.strip().startswith("|"):
            found += [f"a bar in ${formula}$" for formula in formulas if "|" in formula]
        if escapes:
            found += [f"{wrong[0]} in ${formula}$" for formula in formulas for wrong in ESCAPED.finditer(formula)]
    return found


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_and_names_of_a_page_lead_somewhere(path):
    text = markdown(path)
    assert broken_links(path, text) == []
    assert broken_names(text, claims(DOCUMENT)) == []


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_formulas_of_a_page_are_shown_as_they_are_meant(path):
    assert broken_maths(markdown(path), escapes=path.suffix == ".md") == []


def test_names_in_docstrings_and_comments_lead_somewhere():
    planted = {"test_links.py", "test_derivations.py", "test_mutation_run.py", "test_notebooks.py"}  # broken on purpose
    found = {name_of(path): broken_names(path.read_text(encoding="utf-8"), claims(DOCUMENT)) for path in SOURCES
             if path.name not in planted}
    assert {name: broken for name, broken in found.items() if broken} == {}


@pytest.mark.parametrize(("text", "broken"), [
    ("[a](nowhere.md)", "nowhere.md: no such file"),
    ("[a](../../../etc)", "../../../etc: no such file"),
    ("[a](symbols.md#no-heading)", "symbols.md#no-heading: no such heading"),
    ("# One\n[a](#two)", "#two: no such heading"),
    ("![a](figures/nowhere.png)", "figures/nowhere.png: no such file"),
])
def test_a_planted_broken_link_is_found(text, broken):
    assert broken_links(ROOT / "docs" / "page.md", text) == [broken]


def test_links_that_lead_somewhere_and_links_in_code_are_not_broken():
    text = "# Two words, `code`\n[a](symbols.md#letters-with-two-meanings) [b](#two-words-code) [c](../see_min) [d](https://a.b/c)"
    assert broken_links(ROOT / "docs" / "page.md", text + "\n`[e](nowhere)`\n\n```\n[f](nowhere)\n```") == []


@pytest.mark.parametrize(("text", "broken"), [
    ("as in see_min/nowhere.py.", "see_min/nowhere.py: no such file"),
    ("`tests/test_links.py::test_nothing`", "tests/test_links.py::test_nothing: no such test"),
    ("by D1 and D999", "D999: no such claim"),
])
def test_a_planted_broken_name_is_found(text, broken):
    assert broken_names(text, {1}) == [broken]


def test_headings_become_anchors_as_on_a_code_host():
    text = "# What it *costs*: `V x D`, 10x!\n## See [a](b.md)\n## See a\n```\n# no heading\n```\n### D7. TT-SVD's error"
    assert anchors(text) == ["what-it-costs-v-x-d-10x", "see-a", "see-a-1", "d7-tt-svds-error"]


@pytest.mark.parametrize(("text", "broken"), [
    ("costs $V D and more", "a $ without its partner"),
    ("one $a\n\nb$ formula", "a $ without its partner"),
    (r"$a \, b$", r"\, in"),
    (r"$\{1, 2\}$", r"\{ in"),
    (r"$$ a \| b $$", r"\| in"),
    ("$[a](b)$", "]( in"),
    ("$a <b$", "<b in"),
    ("| $|M|$ | size |", "a bar in"),
    ("| $a | b$ | size |", "a bar in"),
])
def test_a_planted_broken_formula_is_found(text, broken):
    assert any(broken in line for line in broken_maths(text))


def test_right_formulas_are_not_broken():
    assert broken_maths(r"It is $\lVert x \rVert < 1$ in $\lbrace a \rbrace$; `$` and `a|b` are code, \$5, $$\sum_k a_k$$") == []
    assert broken_maths("| $r \\lvert M \\rvert$ | $a$ |\n| `$` | b |") == [] and broken_maths(r"$a \, b$", escapes=False) == []
