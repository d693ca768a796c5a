"""Text -> documents -> words -> ids: the default corpus and the word-level vocabulary.

The default corpus is the prose of the docstrings of packages that requirements.txt installs: real technical
English that every fresh install already has on disk, so nothing is downloaded. Files are parsed with `ast`,
never imported.
"""

import ast
import importlib.util
import multiprocessing
import re
import signal
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from see_min.checks import DataError, check_at_least

PACKAGES = ("numpy", "scipy", "matplotlib", "torch", "sympy", "networkx")  # all pinned in requirements.txt
SPECIAL = ("<unk>", "<eos>")  # an unknown word, the end of a document
WORD = r"[^\W\d_]+(?:'[^\W\d_]+)?"  # letters of any script, one inner apostrophe
TOKEN = re.compile(rf"{WORD}|\d+|[^\w\s]")
DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
MARKUP = (
    (re.compile(r":math:`[^`]*`"), " "),  # formulas are not prose
    (re.compile(r":[\w:]+:`~?([^`<]*)[^`]*`_*"), r"\1"),  # :func:`name` -> name
    (re.compile(r"https?://\S+"), " "),
    (re.compile(r"\[\d+\]_|\|"), " "),  # citations and table rules
    (re.compile(r"[`*]+"), ""),
)


def docstrings(node):
    """Yield the docstrings of an `ast` node and of the classes and functions in its body, outermost first.

    Examples
    --------
    >>> list(docstrings(ast.parse("'one'\\ndef f():\\n    'two'")))
    ['one', 'two']
    """
    text = ast.get_docstring(node)
    if text:
        yield text
    for child in node.body:
        if isinstance(child, DOCUMENTED):
            yield from docstrings(child)


def prose(docstring):
    """The paragraphs of English in a docstring: no doctests, code blocks, tables, formulas or bare parameter lines.

    Examples
    --------
    >>> prose("Return the sum of all the numbers.\\n\\n>>> f(1)\\n1")
    ['Return the sum of all the numbers.']
    """
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
            starts_item = re.match(r"[-=~^*+.]{3,}$|[\w*, ]+ ?: |:\w+", line) or line.startswith(("- ", "* "))
            if starts_item or not paragraphs[-1]:
                paragraphs.append([])
            paragraphs[-1].append(line)
    return [text for text in map(_clean, filter(None, paragraphs)) if _is_english(text)]


def _clean(lines):
    text = " ".join(lines)
    for pattern, replacement in MARKUP:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _is_english(text):
    """Sentences, not signatures: at least six words of two letters or more, 7 of 10 tokens, an end like a sentence's."""
    tokens = TOKEN.findall(text)
    words = sum(len(token) > 1 and token[0].isalpha() for token in tokens)
    return words >= 6 and words >= 0.7 * len(tokens) and text[-1] in ".!?:"


def default_documents(packages=PACKAGES):
    """The prose of every docstring of the packages, a document each, without paragraphs that stood before.

    Returns
    -------
    list of str, in the order of the files

    Raises
    ------
    DataError
        If a package is not installed.
    """
    files = [path for package in packages for path in package_files(package)]
    files.sort(key=lambda path: -path.stat().st_size)  # the two workers finish together
    # workers leave Ctrl-C to this process, which ends them
    with multiprocessing.Pool(2, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)) as pool:
        found = dict(zip(files, pool.map(file_prose, files, chunksize=16)))
    seen, documents = set(), []
    for path in sorted(found):
        for paragraphs in found[path]:
            fresh = [text for text in paragraphs if not (text.lower() in seen or seen.add(text.lower()))]
            if fresh:
                documents.append("\n".join(fresh))
    return documents


def package_files(package):
    """The .py files of an installed package, its tests left out; the package is found, not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"corpus: expected the package {package} to be installed, got none: pip install -r requirements.txt")
    root = Path(spec.submodule_search_locations[0])
    return sorted(path for path in root.rglob("*.py") if not {"tests", "testing"} & set(path.relative_to(root).parts))


def file_prose(path):
    """The prose of the docstrings of one file: a list of paragraphs a docstring; none if it does not parse."""
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
    """The paragraphs (blocks between blank lines) of a UTF-8 text file.

    Raises
    ------
    DataError
        If the file is missing, empty, or not UTF-8; the text names the line.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: expected a text file, got {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: expected UTF-8, got byte 0x{data[error.start]:02x}") from None
    documents = [block.strip() for block in re.split(r"\n\s*\n", text) if TOKEN.search(block.lower())]
    if not documents:
        raise DataError(f"{path}: expected words, got an empty text")
    return documents


@dataclass(frozen=True)
class Corpus:
    """A tokenised text: vocabulary by falling frequency, training counts, and ids of both splits.

    Attributes
    ----------
    words : list of str, V entries, the two special tokens first
    counts : int array (V,), occurrences in the training split
    train, valid : int arrays (N,), documents one after the other, each closed by <eos>
    """

    words: list
    counts: np.ndarray
    train: np.ndarray
    valid: np.ndarray


def tokenize(text):
    """Lower-case words, numbers and single marks.

    Examples
    --------
    >>> tokenize("Don't sum np.array_2!")
    ["don't", 'sum', 'np', '.', 'array', '2', '!']
    """
    return TOKEN.findall(text.lower())


def build_corpus(documents, vocabulary, seed=0, valid_share=0.05, least_words=1):
    """Shuffle documents, split them, and number the most frequent words of the training split.

    Parameters
    ----------
    documents : list of str
    vocabulary : int
        V at most, the special tokens included; fewer if the text has fewer words.
    seed : int
    valid_share : float
        Share of the documents that are held out, whole.
    least_words : int
        How many tokens the smaller split must have.

    Raises
    ------
    DataError
        If vocabulary is below 3, or a split has fewer tokens than `least_words`.

    Examples
    --------
    >>> corpus = build_corpus(["a b b", "b a b"] * 10, 4)
    >>> corpus.words, corpus.counts.tolist(), len(corpus.valid)
    (['<unk>', '<eos>', 'b', 'a'], [0, 19, 38, 19], 4)
    """
    check_at_least("vocabulary", vocabulary, len(SPECIAL) + 1)
    order = np.random.default_rng(seed).permutation(len(documents))
    held_out = max(1, int(valid_share * len(documents)))
    splits = [[tokenize(documents[d]) for d in part] for part in (order[held_out:], order[:held_out])]
    for name, split in zip(("training", "validation"), splits):
        size = sum(len(tokens) + 1 for tokens in split)
        if size < least_words:
            raise DataError(f"corpus: expected at least {least_words} tokens in the {name} split, got {size}")
    count = Counter(token for tokens in splits[0] for token in tokens)
    ranked = sorted(count.items(), key=lambda item: (-item[1], item[0]))[: vocabulary - len(SPECIAL)]
    words = [*SPECIAL, *(word for word, _ in ranked)]
    number = {word: i for i, word in enumerate(words)}
    train, valid = (
        np.array([i for tokens in split for i in (*(number.get(token, 0) for token in tokens), 1)], dtype=np.int64)
        for split in splits
    )
    return Corpus(words, np.bincount(train, minlength=len(words)), train, valid)


def batches(ids, context, size, steps, seed):
    """Yield `steps` random batches (size, context + 1): inputs are all columns but the last, targets all but the first."""
    check_at_least("ids", len(ids), context + 1)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        start = rng.integers(0, len(ids) - context, size)  # (size,)
        yield ids[start[:, None] + np.arange(context + 1)]  # (size, context + 1)


def windows(ids, context, most):
    """Consecutive windows (n, context + 1), each overlapping the last by one token, n <= most."""
    starts = np.arange(0, len(ids) - context, context)[:most]  # (n,)
    return ids[starts[:, None] + np.arange(context + 1)]  # (n, context + 1)
