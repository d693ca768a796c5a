"""What is prose in a docstring, which docstrings a package has, paragraphs of a text file."""

import sys

import pytest

from see_min.errors import InputError
from see_min.toy import documents

GOOD = "This sentence is long enough to count as English."
OTHER = "And here is another one that says something else."


@pytest.mark.parametrize(("docstring", "expected"), [
    (f"{GOOD}\n\n{OTHER}", [GOOD, OTHER]),
    (f"{GOOD}\n>>> f(0)\nValueError: it must not be zero or less.\n\n{OTHER}", [GOOD, OTHER]),
    (f"{GOOD}\n\n    ... a continued line of code, no prose at all.\n\n{OTHER}", [GOOD, OTHER]),
    (f"Here is an example that shows the way::\n\n    x = all of this is code.\n\n{OTHER}",
     ["Here is an example that shows the way::", OTHER]),
    (f".. note:: below\n\n    All of this block is a directive.\n\n{OTHER}", [OTHER]),
    (f"{GOOD}\n\nParameters\n----------\nx : int\ny : array (V, D)\n\n{OTHER}", [GOOD, OTHER]),
    ("===== =====\nname  value\n===== =====\none   two\n===== =====", []),
    (f"- {GOOD}\n- {OTHER}", [f"- {GOOD}", f"- {OTHER}"]),
    ("The value :math:`a^2 + b` is the sum\nof two other values.",
     ["The value is the sum of two other values."]),
    ("Use :func:`numpy.dot` or ``matmul`` for *two* arrays as in a paper [3]_.",
     ["Use numpy.dot or matmul for two arrays as in a paper ."]),
    ("f(x, y, z, 1, 2, 3, 4, 5) -> (a, b).", []),
    ("Too short a line.", []),
    ("this one has words enough but it does not end like one", []),
])
def test_prose_keeps_sentences_and_drops_code_tables_and_formulas(docstring, expected):
    assert documents.prose(docstring) == expected


def test_documents_of_a_package_have_no_duplicates_and_leave_out_its_tests(tmp_path, monkeypatch):
    """Docstrings of every depth, in the order of the files; the package is read, never imported."""
    inner = [f"The {name} of this file may say what it does." for name in ("method", "coroutine")]
    again = "Only this sentence stands in the inner file of them."
    files = {
        "__init__.py": "raise RuntimeError('the corpus must not import packages')",
        "a.py": f'''"""{GOOD}"""
X = """This string is no docstring but it looks like one."""
class A:
    """{OTHER}\n\n    {GOOD.upper()}\n\n    {OTHER}"""
    def f(self):
        """{inner[0]}"""
async def h():
    """{inner[1]}"""
''',
        "broken.py": '"""A sentence in a file that does not parse at all."""\ndef (:\n',
        "inner/copy.py": f'"""{GOOD}\n\n{again}"""\n',
        "latin.py": '"""A sentence in a file of another encoding, café or so."""\n',
        "tests/test_a.py": '"""A sentence in a test that should not be part of it."""\n',
    }
    for name, text in files.items():
        path = tmp_path / "pretend_prose" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="latin-1")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert documents.default_documents(("pretend_prose",)) == [GOOD, OTHER, *inner, again]
    assert "pretend_prose" not in sys.modules
    with pytest.raises(InputError, match="corpus: expected the package no_such to be installed"):
        documents.default_documents(("numpy", "no_such"))


def test_a_file_is_cut_at_blank_lines(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffOne two\nthree.\n\n \t\nÄnother one.\n\n\n   \n".encode())
    assert documents.file_documents(path) == ["One two\nthree.", "Änother one."]
    path.write_bytes(b"dos text\r\n\r\nsecond\r\n")
    assert documents.file_documents(path) == ["dos text", "second"]
    path.write_bytes(b" \n\n \t\n")
    with pytest.raises(InputError, match=f"{path}: expected words, got an empty text"):
        documents.file_documents(path)
