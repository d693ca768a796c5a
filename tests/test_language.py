"""Phrases of an earlier dialect stay out of pages, notebooks, docstrings and messages.

The glossary has the field's words for them; its table of earlier words may say what it replaces.
"""

import io
import re
import tokenize

import nbformat
from test_links import PAGES, ROOT, markdown, without_code

EARLIER = "## Words of earlier versions"
SOURCES = sorted((ROOT / "see_min").rglob("*.py"))
COUNTED = "bits|bytes|codes|entries|floats|leaves|numbers|parameters|tokens|units|vectors"
PER = "code|block|number|parameter|row|slot|step|term|token|unit|word"
GONE = [
    # measures
    r"(?:less|more|fewer) is better", r"equal floats", r"floats an? ", r"of (?:its|their) floats",
    rf"\b(?:{COUNTED})\)? an? (?:{PER})\b(?! (?:has|is|adds|needs|needed)\b)", r"share lost",
    r"honest", r"clearest", r"\bbehind see:",
    # parts of the method
    r"\bcarrier\b", r"re-deal", r"\bdealt\b", r"undealt", r"\bdeal (?:annotations|units)",
    r"identity units?\b", r"owns? a vector", r"vectors? that (?:they|it) owns?",
    r"own units a term", r"terms? (?:with|has|have) units of (?:its|their) own", r"rarity",
    r"back-?off", r"hashed units?\b", r"false knowledge",
    # turns of phrase
    r"in the place of", r"tra(?:in|ins|ined) on for as long", r"backward of its own", r"pulls? at",
    r"made anew", r"rows (?:that are )?kept\b", r"(?<!annotated )\bby hand\b", r"find your way",
    r"planted errors?", r"what they own\b", r"all of them alike", r"that say nothing",
]
FORBIDDEN = re.compile("|".join(GONE), re.IGNORECASE)


def said(source):
    """Strings and comments of Python source: docstrings, messages, remarks; no names."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", None)}
    return " ".join(token.string.strip("# ") for token in tokens if token.type in kinds)


def prose(path):
    """What readers read of a page or source, on one line; of the glossary only today's words."""
    if path.suffix == ".py":
        return " ".join(said(path.read_text("utf-8")).split())
    text = without_code(markdown(path)).partition(EARLIER)[0]
    if path.suffix == ".ipynb":  # titles and remarks, too
        cells = nbformat.read(path, as_version=4).cells
        text += " ".join(said(cell.source) for cell in cells if cell.cell_type == "code")
    return " ".join(text.split())


def dialect(text):
    return [text[max(0, found.start() - 30):found.end() + 30]
            for found in FORBIDDEN.finditer(text)]


def test_no_phrase_of_the_earlier_dialect_comes_back():
    found = {path.name: dialect(prose(path)) for path in [*PAGES, *SOURCES]}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_a_phrase_of_the_earlier_dialect_is_found_and_a_plain_sentence_is_not():
    assert dialect(said("dealt = 1  # units are dealt\n")) == ["units are dealt"]
    assert len(dialect("255 units a word; a file of 4 bytes a step; less is better")) == 3
    assert dialect("how many units a word has; 4 bytes per step; lists annotated by hand") == []
