"""Documents for the toy models: the prose of docstrings, or the paragraphs of a text file.

The default text is the prose of the docstrings of packages that requirements.txt installs: real
technical English that every fresh install has on disk, so nothing is downloaded. Files are parsed
with `ast`, never imported.
"""

import ast
import importlib.util
import multiprocessing
import re
import signal
import warnings
from pathlib import Path

from see_min.errors import InputError
from see_min.storage.files import read_lines

PACKAGES = ("numpy", "scipy", "matplotlib", "torch", "sympy", "networkx")  # of requirements.txt
WORD = r"[^\W\d_]+(?:'[^\W\d_]+)?"  # letters of any script, one inner apostrophe
TOKEN = re.compile(rf"{WORD}|\d+|[^\w\s]")
ITEM = re.compile(r"[-=~^*+.]{3,}$|[\w*, ]+ ?: |:\w+|[-*] ")  # rules, parameters, fields, lists
MARKUP = (
    (re.compile(r":math:`[^`]*`"), " "),  # formulas are not prose
    (re.compile(r":[\w:]+:`~?([^`<]*)[^`]*`_*"), r"\1"),  # :func:`name` -> name
    (re.compile(r"https?://\S+"), " "),
    (re.compile(r"\[\d+\]_|\|"), " "),  # citations and table rules
    (re.compile(r"[`*]+"), ""),
)


def tokenize(text):
    """Lower-case words, numbers and single marks.

    >>> tokenize("Don't sum np.array_2!")
    ["don't", 'sum', 'np', '.', 'array', '2', '!']
    """
    return TOKEN.findall(text.lower())


def docstrings(node):
    """Yield the docstrings of an `ast` node and of the classes and functions in its body."""
    text = ast.get_docstring(node)
    if text:
        yield text
    for child in node.body:
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from docstrings(child)


def prose(docstring):
    """The paragraphs of English: no doctests, code, tables, formulas or bare parameter lines."""
    paragraphs, skip_deeper, in_doctest = [[]], None, False
    for line in docstring.split("\n"):
        indent, line = len(line) - len(line.lstrip()), line.strip()
        if not line:
            paragraphs.append([])
            in_doctest = False
        elif in_doctest or (skip_deeper is not None and indent > skip_deeper):
            continue  # inside a doctest, a literal block or a directive
        elif line.startswith((">>>", "...", "In [")):
            in_doctest = True  # with its output, up to the next blank line
        elif line.startswith(".. "):
            skip_deeper = indent
        else:
            skip_deeper = indent if line.endswith("::") else None
            if ITEM.match(line):
                paragraphs.append([])
            paragraphs[-1].append(line)
    texts = [_plain(" ".join(lines)) for lines in paragraphs if lines]
    return [text for text in texts if _is_english(text)]


def _plain(text):
    """Text without markup, its blanks single."""
    for pattern, replacement in MARKUP:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _is_english(text):
    """Sentences, not signatures: six words or more, 7 of 10 tokens, an end like a sentence's."""
    tokens = TOKEN.findall(text)
    words = sum(len(token) > 1 and token[0].isalpha() for token in tokens)
    return words >= 6 and words >= 0.7 * len(tokens) and text[-1] in ".!?:"


def default_documents(packages=PACKAGES):
    """The prose of every docstring of the packages, a document each, in the order of the files.

    A paragraph that stood before is left out. A package that is not installed is refused.
    """
    files = sorted({path for package in packages for path in package_files(package)})
    ignore = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for this process, which ends the workers
    with multiprocessing.Pool(2, signal.signal, ignore) as pool:
        found = pool.map(file_prose, files, chunksize=4)
    seen, documents = set(), []
    for paragraphs in (paragraphs for docstrings in found for paragraphs in docstrings):
        fresh = []
        for text in paragraphs:
            if text.lower() not in seen:
                seen.add(text.lower())
                fresh.append(text)
        documents += ["\n".join(fresh)] if fresh else []
    return documents


def package_files(package):
    """The .py files of an installed package without its tests; it is found, not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"corpus: expected the package {package} to be installed, got none: "
                         "pip install -r requirements.txt")
    root = Path(spec.submodule_search_locations[0])
    tests = {"tests", "testing"}
    return [p for p in root.rglob("*.py") if not tests & set(p.relative_to(root).parts)]


def file_prose(path):
    """The paragraphs of each docstring of a file; none if it does not parse."""
    source = path.read_bytes()
    if b'"""' not in source and b"'''" not in source:
        return []  # parsing is what takes time
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes in other people's strings
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    return [paragraphs for paragraphs in map(prose, docstrings(tree)) if paragraphs]


def file_documents(path):
    """The paragraphs (blocks between blank lines) of a text file; refuses one without words."""
    blocks = re.split(r"\n\s*\n", "\n".join(read_lines(path)))
    documents = [block.strip() for block in blocks if TOKEN.search(block)]
    if not documents:
        raise InputError(f"{path}: expected words, got an empty text")
    return documents
