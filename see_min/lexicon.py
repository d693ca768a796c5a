"""Word -> senses -> sememes: the embedded sample and files in the same plain-text format.

A lexicon file has two lines an entry: the word, then the sememes of one sense separated by tabs, the head sememe
first. A word that stands again brings a further sense. English endings are not listed in such files, so a look-up
falls back from "normalizing" to "normalize".
"""

import codecs
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from see_min.checks import DataError, check_at_least

SAMPLE = Path(__file__).parent / "data" / "sample_lexicon.txt"
VOWELS = "aeiouy"
ENDINGS = (  # ending -> what may stand in its place; "2" undoubles a consonant; the safer guess first
    ("'s", ("",)),
    ("ies", ("y",)),
    ("s", ("",)),  # before "es": planes -> plane, not plan
    ("es", ("",)),
    ("ied", ("y",)),
    ("ier", ("y",)),
    ("ily", ("y",)),
    ("ing", ("e", "", "2")),  # "e" before "": hoping -> hope, not hop
    ("ed", ("e", "", "2")),
    ("er", ("e", "", "2")),
    ("or", ("e", "")),
    ("est", ("e", "", "2")),
    ("ly", ("", "le", "e")),
    ("ally", ("",)),  # after "ly": normally -> normal, not norm
    ("ment", ("e", "")),
    ("ation", ("e", "")),
    ("ition", ("e",)),
    ("ion", ("e", "")),
    ("able", ("e", "")),
    ("ness", ("",)),
)


@dataclass(frozen=True)
class Lexicon:
    """What words mean: `entries` maps a word to its senses, each a tuple of sememe names, the head sememe first.

    Examples
    --------
    >>> lexicon = Lexicon({"add": (("add", "calculate"),)})
    >>> len(lexicon), lexicon.senses("Adding"), lexicon.senses("tensor")
    (1, (('add', 'calculate'),), ())
    """

    entries: dict[str, tuple[tuple[str, ...], ...]]

    def __len__(self):
        return len(self.entries)

    def senses(self, word):
        """The senses of `word`, of its lower-case form, or of the first base of it that is known; () if none is.

        Two endings may come off, one after the other.

        Examples
        --------
        >>> Lexicon({"normal": (("ordinary",),)}).senses("normally")
        (('ordinary',),)

        Source: ours.
        """
        lower = word.lower()
        once = list(bases(lower))
        twice = [base for form in once for base in bases(form)]
        return next((self.entries[form] for form in (word, lower, *once, *twice) if form in self.entries), ())

    def coverage(self, words, counts=None):
        """(share of types, share of tokens) of `words` that have a sense.

        Parameters
        ----------
        words : sequence of str
            A repeated word is one type; its counts add up.
        counts : sequence of int, optional
            How often each word occurs; 1 when left out.

        Raises
        ------
        DataError
            If there are no words, or `counts` has another length, a negative value or the sum 0.

        Examples
        --------
        >>> Lexicon({"add": (("add",),)}).coverage(["add", "xyzzy"], [3, 1])
        (0.5, 0.75)

        Source: ours.
        """
        words = list(words)
        counts = [1] * len(words) if counts is None else list(counts)
        check_at_least("words: number", len(words), 1)
        if len(counts) != len(words):
            raise DataError(f"counts: expected {len(words)} as in words, got {len(counts)}")
        check_at_least("counts", min(counts), 0)
        check_at_least("counts: sum", sum(counts), 1)
        tally = Counter()
        for word, count in zip(words, counts):
            tally[word] += count
        known = [word for word in tally if self.senses(word)]
        return len(known) / len(tally), float(sum(tally[word] for word in known) / sum(counts))


def bases(word):
    """Yield the forms of at least 3 letters that `word` may be inflected or derived from, best guess first.

    Examples
    --------
    >>> list(bases("planned"))
    ['planne', 'plann', 'plan']
    >>> list(bases("matrices")), list(bases("class"))
    (['matrice', 'matric'], [])

    Source: ours; suffixes of English, no list of exceptions.
    """
    for ending, replacements in ENDINGS:
        stem = word.removesuffix(ending)
        if stem == word or (ending == "s" and stem.endswith(("s", "u", "i"))):  # class, status, basis are no plurals
            continue
        for replacement in replacements:
            if replacement != "2":
                base = stem + replacement
            elif stem[-1:] == stem[-2:-1] and stem[-1:] not in VOWELS:
                base = stem[:-1]
            else:
                continue
            if len(base) >= 3:
                yield base


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
        entries[word] = (*entries.get(word, ()), sense)
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
