"""Text -> documents -> vocabulary -> ids: what is prose, which split, which number, and bad files."""

import ast
import re
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from see_min.checks import DataError
from see_min.corpus import (
    TOKEN,
    batches,
    build_corpus,
    default_documents,
    docstrings,
    file_documents,
    file_prose,
    package_files,
    prose,
    tokenize,
    windows,
)

GOOD = "This sentence is long enough to count as English."
OTHER = "And here is another one that says something else."


@pytest.mark.parametrize("docstring, expected", [
    (f"{GOOD}\n\n{OTHER}", [GOOD, OTHER]),
    ("This sentence is broken into lines\nand is one paragraph of English.",
     ["This sentence is broken into lines and is one paragraph of English."]),
    (f"{GOOD}\n\n>>> f('this is code that no one should read here.')\n'output'\n\n{OTHER}", [GOOD, OTHER]),
    (f"{GOOD}\n\n    ... a continued line of code that is no prose at all.\n\n{OTHER}", [GOOD, OTHER]),
    (f"Here is an example that shows the way::\n\n    x = all of this is code, it has been indented.\n\n{OTHER}",
     ["Here is an example that shows the way::", OTHER]),
    (f"{GOOD}\n>>> f(0)\nValueError: the argument must not be zero or less.\n\n{OTHER}", [GOOD, OTHER]),
    (f".. note:: below\n\n    All of this block is a directive and it is gone.\n\n{OTHER}", [OTHER]),
    (f"{GOOD}\n\nParameters\n----------\nx : int\ny : array (V, D)\nz : float, optional\n\n{OTHER}", [GOOD, OTHER]),
    ("===== =====\nname  value\n===== =====\none   two\n===== =====", []),
    (":param x: int\n:rtype: float", []),
    ("The value :math:`a^2 + b` is the sum of two other values.", ["The value is the sum of two other values."]),
    ("Use :func:`numpy.dot` or ``matmul`` for the product of *two* arrays.",
     ["Use numpy.dot or matmul for the product of two arrays."]),
    ("The method is described well in a paper [3]_ at https://example.org/x by them.",
     ["The method is described well in a paper at by them."]),
    ("f(x, y, z, 1, 2, 3, 4, 5) -> (a, b).", []),
    ("Too short a line.", []),
    ("this one has words enough but it does not end like one", []),
    ("", []),
])
def test_prose_keeps_sentences_and_drops_code_tables_and_formulas(docstring, expected):
    assert prose(docstring) == expected


def test_docstrings_are_found_at_every_depth_and_nowhere_else(tmp_path):
    path = tmp_path / "m.py"
    path.write_text(f'''"""{GOOD}"""
X = """This string is no docstring but it looks like one."""
class A:
    """{OTHER}"""
    def f(self):
        """A method may say what it does in a sentence."""
        def g():
            """A function inside of a function may say so as well."""
async def h():
    """A coroutine may say what it waits for in a sentence."""
''')
    assert file_prose(path) == [
        [GOOD], [OTHER], ["A method may say what it does in a sentence."],
        ["A function inside of a function may say so as well."], ["A coroutine may say what it waits for in a sentence."],
    ]
    assert len(list(docstrings(ast.parse(path.read_text())))) == 5


@pytest.fixture
def pretend(tmp_path, monkeypatch):
    """A package on disk whose import would fail: a module, a copy, tests, files that do not parse, one without docstrings."""
    root = tmp_path / "pretend_prose"
    (root / "tests").mkdir(parents=True)
    (root / "inner").mkdir()
    (root / "__init__.py").write_text("raise RuntimeError('the corpus must not import packages')")
    (root / "a.py").write_text(f'"""{GOOD}"""\ndef f():\n    """{OTHER}\n\n    {GOOD.upper()}\n    """\n')
    (root / "inner" / "copy.py").write_text(f'"""{GOOD}\n\nOnly this sentence stands in the inner file of them."""\n')
    (root / "tests" / "test_a.py").write_text('"""A sentence in a test that should not be part of it."""\n')
    (root / "broken.py").write_text('"""A sentence in a file that does not parse at all."""\ndef (:\n')
    (root / "latin.py").write_bytes('"""A sentence in a file of another encoding, caf\xe9 or so."""\n'.encode("latin-1"))
    (root / "code.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return root


def test_documents_of_a_package_have_no_duplicates_and_leave_out_its_tests(pretend):
    """In the order of the files; the package is read and never imported."""
    assert default_documents(("pretend_prose",)) == [GOOD, OTHER, "Only this sentence stands in the inner file of them."]
    assert default_documents(("pretend_prose", "pretend_prose")) == default_documents(("pretend_prose",))
    assert "pretend_prose" not in sys.modules
    names = [path.name for path in package_files("pretend_prose")]
    assert names == ["__init__.py", "a.py", "broken.py", "code.py", "copy.py", "latin.py"]


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(DataError, match="corpus: expected the package no_such_package to be installed, got none: pip install"):
        default_documents(("numpy", "no_such_package"))


def test_the_default_corpus_has_at_least_a_million_and_two_hundred_thousand_tokens():
    """All packages of requirements.txt, once; the only test that reads them."""
    for package in ("numpy", "scipy", "matplotlib", "torch", "sympy", "networkx"):
        try:
            package_files(package)
        except DataError as error:
            pytest.skip(str(error))
    documents = default_documents()
    assert sum(len(TOKEN.findall(document)) for document in documents) >= 1_200_000
    paragraphs = [text.lower() for document in documents for text in document.split("\n")]
    assert len(set(paragraphs)) == len(paragraphs)
    assert not any(">>>" in text for text in paragraphs)


DOCUMENTS = [f"only{chr(97 + i // 26)}{chr(97 + i % 26)} word and more {'word ' * (i % 3)}" for i in range(200)]


def split_words(ids, words):
    """The documents of a split as tuples of words, cut at <eos>."""
    out, document = [], []
    for i in ids:
        if words[i] == "<eos>":
            out.append(tuple(document))
            document = []
        else:
            document.append(words[i])
    assert document == []
    return out


def test_no_document_stands_in_both_splits_and_none_is_lost():
    corpus = build_corpus(DOCUMENTS, 1000, seed=1, valid_share=0.1)
    train, valid = split_words(corpus.train, corpus.words), split_words(corpus.valid, corpus.words)
    assert (len(train), len(valid)) == (180, 20)
    expected = {tuple(tokenize(document)) for document in DOCUMENTS}
    assert set(train) < expected and len(set(train)) == 180
    held_out = expected - set(train)  # their first word is in no training document: it must be unknown
    assert Counter(valid) == Counter(("<unk>", *tokens[1:]) for tokens in held_out)


def test_a_seed_decides_the_split():
    one, same, other = (build_corpus(DOCUMENTS, 1000, seed=seed) for seed in (1, 1, 2))
    assert one.words == same.words
    assert all(np.array_equal(getattr(one, name), getattr(same, name)) for name in ("counts", "train", "valid"))
    assert one.words != other.words


def test_the_vocabulary_is_ordered_by_frequency_then_letter():
    corpus = build_corpus(["b a c c", "c a b d", "e f"] * 20, 6, seed=0)
    count = Counter(corpus.words[i] for i in corpus.train if i > 1)
    assert corpus.words[:2] == ["<unk>", "<eos>"] and len(corpus.words) == 6
    ranked = sorted(count, key=lambda word: (-count[word], word))
    assert corpus.words[2:] == ranked and corpus.words[2] == "c" and corpus.words[3:5] == ["a", "b"]
    assert corpus.counts.tolist() == [int((corpus.train == i).sum()) for i in range(6)]
    assert corpus.counts[0] > 0 and corpus.counts.sum() == len(corpus.train)
    assert len(build_corpus(["x y"] * 9, 99).words) == 4  # a text with fewer words has a smaller vocabulary


def test_texts_and_vocabularies_that_are_too_small_are_refused():
    with pytest.raises(DataError, match="vocabulary: expected at least 3, got 2"):
        build_corpus(DOCUMENTS, 2)
    with pytest.raises(DataError, match="corpus: expected at least 1000 tokens in the validation split, got"):
        build_corpus(DOCUMENTS, 100, least_words=1000)
    with pytest.raises(DataError, match="corpus: expected at least 5000 tokens in the training split, got"):
        build_corpus(DOCUMENTS, 100, least_words=5000)
    for documents in ([], ["one document alone"]):
        with pytest.raises(DataError, match="corpus: expected at least 1 tokens in the training split, got 0"):
            build_corpus(documents, 100)


def test_a_file_is_cut_at_blank_lines(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffOne two\nthree.\n\n \t\nÄnother one.\n\n\n   \n".encode())
    assert file_documents(path) == ["One two\nthree.", "Änother one."]
    path.write_bytes(b"dos text\r\n\r\nsecond\r\n")
    assert file_documents(path) == ["dos text", "second"]


@pytest.mark.parametrize("data, message", [
    (b"", "expected words, got an empty text"),
    (b" \n\n \t\n", "expected words, got an empty text"),
])
def test_an_empty_file_is_named(tmp_path, data, message):
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    with pytest.raises(DataError, match=re.escape(f"{path}: {message}")):
        file_documents(path)


@pytest.mark.parametrize("data, line, byte", [(b"\xff\xfea\n", 1, "ff"), (b"a\nb\nc \xe9 d\n", 3, "e9"), (b"a\n\xc3", 2, "c3")])
def test_a_file_that_is_not_utf8_is_named_with_its_line(tmp_path, data, line, byte):
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    with pytest.raises(DataError, match=re.escape(f"{path}:{line}: expected UTF-8, got byte 0x{byte}")):
        file_documents(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'no.txt'}: expected a text file, got No such file")):
        file_documents(tmp_path / "no.txt")
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}: expected a text file, got")):
        file_documents(tmp_path)


def test_batches_are_windows_of_the_text_and_targets_are_shifted_by_one():
    ids = 10 + np.arange(50)  # every id tells its place
    drawn = list(batches(ids, context=7, size=5, steps=400, seed=0))
    assert len(drawn) == 400 and all(batch.shape == (5, 8) for batch in drawn)
    for batch in drawn:
        inputs, targets = batch[:, :-1], batch[:, 1:]
        assert np.array_equal(targets, inputs + 1)
    assert {batch.min() for batch in drawn} >= {10} and max(batch.max() for batch in drawn) == 59  # both ends are reached
    again = list(batches(ids, 7, 5, 400, seed=0))
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again))
    assert not np.array_equal(drawn[0], next(batches(ids, 7, 5, 1, seed=1)))


def test_a_text_of_one_window_has_one_batch_and_a_shorter_one_is_refused():
    assert next(batches(np.arange(8), 7, 2, 1, 0)).tolist() == [list(range(8))] * 2
    with pytest.raises(DataError, match="ids: expected at least 8, got 7"):
        next(batches(np.arange(7), 7, 2, 1, 0))


def test_windows_predict_every_token_but_the_first_once():
    ids = 10 + np.arange(50)
    cut = windows(ids, context=7, most=99)
    assert cut.shape == (7, 8)
    assert cut[:, 1:].reshape(-1).tolist() == (11 + np.arange(49)).tolist()
    assert all(a[-1] == b[0] for a, b in pairwise(cut))
    assert np.array_equal(windows(ids, 7, 3), cut[:3]) and windows(ids[:7], 7, 3).shape == (0, 8)
