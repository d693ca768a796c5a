"""Lexicons from files: the embedded sample and the formats in which sememe lexicons are passed on, plain or compressed (.gz).
"""

import codecs
from pathlib import Path

from see_min.checks import DataError
from see_min.lexicon import Lexicon, Sense

SAMPLE = Path(__file__).parent / "data" / "sample_lexicon.txt"


def read_lexicon(path):
    """Read a lexicon file: UTF-8, a word line, then the sememes of one sense separated by tabs, and so on.

    Raises
    ------
    DataError
        If the file cannot be read or has no entry, or a line is malformed; the text names path and line.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = path.write_text("bank\\nplace\\tmoney\\nbank\\nland\\twater\\n")
    >>> read_lexicon(path).senses("banks")
    (('place', 'money'), ('land', 'water'))

    Source: ours; the format is the one in which sememe lexicons are commonly passed on.
    """
    lines = _text_lines(path)
    if not lines:
        raise DataError(f"{path}: expected at least 1 entry, got none")
    entries = {}
    for number in range(0, len(lines) - 1, 2):
        word = _check_word(lines[number], f"{path}:{number + 1}")
        sense = _check_sememes(lines[number + 1], f"{path}:{number + 2}")
        entries[word] = (*entries.get(word, ()), Sense(sense))
    if len(lines) % 2:
        word = _check_word(lines[-1], f"{path}:{len(lines)}")
        raise DataError(f"{path}:{len(lines)}: expected a line of sememes after {word!r}, got the end of the file")
    return Lexicon(entries)


def _text_lines(path):
    """The lines of a UTF-8 file without their ends; a byte order mark and the \\r of Windows are taken off."""
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path itself
        raise DataError(f"{path}: expected a lexicon file, got {getattr(error, 'strerror', None) or error}") from error
    raw = data.removeprefix(codecs.BOM_UTF8).split(b"\n")  # not splitlines: it breaks at more than line ends
    lines = []
    for number, line in enumerate(raw[:-1] if raw[-1] == b"" else raw, start=1):
        if b"\0" in line:
            raise DataError(f"{path}:{number}: expected text, got a NUL byte")
        try:
            lines.append(line.removesuffix(b"\r").decode())
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{number}: expected UTF-8, got byte 0x{line[error.start]:02x}") from error
    return lines


def _check_word(line, place):
    if not line.strip():
        raise DataError(f"{place}: expected a word, got an empty line")
    if line != line.strip() or "\t" in line:  # a line is missing above, or one too many
        raise DataError(f"{place}: expected a word without tabs or spaces around it, got {line!r}")
    return line


def _check_sememes(line, place):
    if not line.strip():
        raise DataError(f"{place}: expected sememes separated by tabs, got an empty line")
    sememes = tuple(line.split("\t"))
    if any(not name.strip() for name in sememes):
        raise DataError(f"{place}: expected sememes separated by single tabs, got an empty sememe in {line!r}")
    if any(name != name.strip() for name in sememes):
        raise DataError(f"{place}: expected sememes without spaces around them, got {line!r}")
    return sememes


def sample_lexicon():
    """The embedded sample: the common words of technical Python documentation, annotated for this project.

    Examples
    --------
    >>> sample_lexicon().senses("Matrices")
    (('math', 'Sequence', 'planar'),)

    Source: ours; data/README.md.
    """
    return read_lexicon(SAMPLE)


def load_lexicon(source):
    """The lexicon that a user named: "sample", "none" (no word is known), or the path of a lexicon file.

    Raises
    ------
    DataError
        As `read_lexicon`.

    Examples
    --------
    >>> len(load_lexicon("none"))
    0

    Source: ours.
    """
    if source == "none":
        return Lexicon({})
    return sample_lexicon() if source == "sample" else read_lexicon(source)
