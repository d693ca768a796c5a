"""Lexicons from files: the embedded sample and the formats in which sememe lexicons are passed on, plain or compressed (gzip).

The first line says which of three formats a file has:

- "lemma" and a tab: a sense table with the columns lemma, pos, sense_rank, wn30, sememes and perhaps kdml. Sememes are "en|zh"
  with spaces between them. Ranks count within a part of speech, so the senses of a word go by part of speech as first met, then
  by rank: the order of the file, if it is sorted so. Roles are known where the definition (kdml) has the same sememes in the
  same order. A malformed definition is left out, not its sense, and noted.
- KEY=...: HowNet's records, each from NO.= to a blank line. W_E is the word, the first word of G_E its part of speech, DEF the
  definition; other keys are ignored. Records without W_E are Chinese alone: how many is noted. Records whose DEF is missing
  or malformed are left out, and each is noted.
- otherwise text: a word line, then the sememes of one sense separated by tabs, and so on.

In tables and records spaces in words and sememes become underscores, and a sememe that a definition names twice stands once.
"""

import codecs
import gzip
import itertools
import os
import re
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path

from see_min.checks import DataError
from see_min.kdml import parse_definition, sememes
from see_min.lexicon import Lexicon, Sense

SAMPLE = Path(__file__).parent / "data" / "sample_lexicon.txt"
LONGEST_LINE = 100_000  # bytes, so that a hostile file ends in an error and not in all of the memory: real ones have hundreds
LONGEST_TEXT = 2**28  # bytes after decompression, for the same reason: entries take several times the bytes of their text
COLUMNS = ("lemma", "pos", "sense_rank", "wn30", "sememes", "kdml")  # of a sense table; the last may be missing
KEYS = ("NO.", "W_E", "G_E", "DEF")  # what is used of a record of HowNet
KEY = re.compile(r"[A-Z][A-Za-z_.]*=")


def read_lexicon(path):
    """Read a lexicon file, UTF-8, in one of the formats above; a word that stands again has a further sense.

    Raises
    ------
    DataError
        If the file cannot be read or unpacked or has no entry, or a line is malformed; the text names path and line.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = path.write_text("bank\\nplace\\tmoney\\nbank\\nland\\twater\\n")
    >>> read_lexicon(path).senses("banks")
    (('place', 'money'), ('land', 'water'))

    Source: ours; the formats are those in which sememe lexicons are commonly passed on.
    """
    lines = _lines(path)
    start = list(itertools.islice(lines, 1))
    entries, skipped = _reader(start[0][1] if start else "")(path, itertools.chain(start, lines))
    if not entries:
        raise DataError(f"{path}: expected at least 1 entry, got none{'; ' if skipped else ''}{'; '.join(skipped[:3])}")
    return Lexicon({word: tuple(senses) for word, senses in entries.items()}, tuple(skipped))


def _reader(first):
    """The function that reads the format of which `first` is the first line."""
    if first.startswith(f"{COLUMNS[0]}\t"):
        return _read_table
    return _read_records if KEY.match(first) else _read_pairs


def _lines(path):
    """Yield (number, line without its end); a byte order mark and the \\r of Windows are taken off."""
    total = 0
    for number, raw in enumerate(_raw_lines(path), start=1):
        place, total = f"{path}:{number}", total + len(raw)
        if total > LONGEST_TEXT:
            raise DataError(f"{path}: expected at most {LONGEST_TEXT} bytes of text, got more")
        if number == 1 and not (raw := raw.removeprefix(codecs.BOM_UTF8)):
            return  # a mark and nothing else
        raw = raw.removesuffix(b"\n").removesuffix(b"\r")
        if len(raw) > LONGEST_LINE:
            raise DataError(f"{place}: expected a line of at most {LONGEST_LINE} bytes, got more")
        if b"\0" in raw:
            raise DataError(f"{place}: expected text, got a NUL byte")
        try:
            yield number, raw.decode()
        except UnicodeDecodeError as error:  # HowNet's own files are in GB18030
            found = f"byte 0x{raw[error.start]:02x}; if it is in GB18030: iconv -f GB18030 -t UTF-8"
            raise DataError(f"{place}: expected UTF-8, got {found}") from error


def _raw_lines(path):
    """Yield the lines as bytes with their ends, unpacked; one that is too long in pieces, which are too long as well."""
    longest = LONGEST_LINE + len(codecs.BOM_UTF8 + b"\r\n") + 1
    try:
        with open(Path(path), "rb") as file:
            stream = gzip.GzipFile(fileobj=file) if file.peek(2).startswith(b"\x1f\x8b") else file
            while raw := stream.readline(longest):  # not by splitlines: it breaks at more than line ends
                yield raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: expected a whole gzip file, got {error}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path itself
        raise DataError(f"{path}: expected a lexicon file, got {getattr(error, 'strerror', None) or error}") from error


def _read_pairs(path, lines):
    entries = {}
    for number, line in lines:
        word = _check_word(line, f"{path}:{number}")
        below, names = next(lines, (number, None))
        if names is None:
            raise DataError(f"{path}:{number}: expected a line of sememes after {_short(word)}, got the end of the file")
        entries.setdefault(word, []).append(Sense(_check_sememes(names, f"{path}:{below}")))
    return entries, []


def _check_word(line, place):
    if not line.strip():
        raise DataError(f"{place}: expected a word, got an empty line")
    if line != line.strip() or "\t" in line:  # a line is missing above, or one too many
        raise DataError(f"{place}: expected a word without tabs or spaces around it, got {_short(line)}")
    return line


def _check_sememes(line, place):
    if not line.strip():
        raise DataError(f"{place}: expected sememes separated by tabs, got an empty line")
    names = tuple(line.split("\t"))
    if "" in (stripped := tuple(map(str.strip, names))):
        raise DataError(f"{place}: expected sememes separated by single tabs, got an empty sememe in {_short(line)}")
    if names != stripped:
        raise DataError(f"{place}: expected sememes without spaces around them, got {_short(line)}")
    return names


def _read_records(path, lines):
    entries, skipped, foreign, named = {}, [], 0, cache(_named)
    for record in _records(path, lines):
        word = "_".join(record.get("W_E", ("",))[0].split())
        if not word:
            foreign += 1
            continue
        definition, number = record.get("DEF", ("", record["NO."][1]))
        pos = "".join(record.get("G_E", ("",))[0].split()[:1])
        try:
            roles = named(definition)
            entries.setdefault(word, []).append(Sense((*roles,), (*roles.values(),), pos, definition, record["NO."][0]))
        except DataError as error:
            skipped.append(f"{path}:{number}: {error}")
    if foreign:
        skipped.append(f"{path}: records without an English word (W_E): {foreign}")
    return entries, skipped


def _records(path, lines):
    """Yield the records, each as key -> (value, number of the line), without the keys that are not used."""
    record = {}
    for number, line in lines:
        key, _, value = (line := line.strip()).partition("=")
        if line and not KEY.match(line):
            raise DataError(f"{path}:{number}: expected KEY=value or a blank line, got {_short(line)}")
        if record and (not key or key == "NO."):
            yield record
            record = {}
        if key and not record and key != "NO.":
            raise DataError(f"{path}:{number}: expected NO.= to open a record, got {_short(line)}")
        if key in record:
            raise DataError(f"{path}:{number}: expected {key}= once in a record, got it again")
        if key in KEYS:
            record[key] = (value.strip(), number)
    if record:
        yield record


def _named(definition):
    """The sememes of a definition in the order of the text, each with the role in which it is named first, as a dict."""
    roles = {}
    for name, role in sememes(parse_definition(definition)):
        roles.setdefault(name.replace(" ", "_"), role)
    if not roles:
        raise DataError("definition: expected at least 1 sememe, got none")
    return roles


def _read_table(path, lines):
    header = next(lines)[1].split("\t")
    if tuple(header) not in (COLUMNS, COLUMNS[:-1]):
        raise DataError(f"{path}:1: expected the columns {' '.join(COLUMNS[:-1])} [kdml], got {_short(' '.join(header))}")
    ranked, skipped, named = {}, [], cache(_named)
    for number, line in lines:
        word, rank, sense = _check_row(line, len(header), f"{path}:{number}")
        if sense.definition:
            try:
                roles = named(sense.definition)
                sense = replace(sense, roles=tuple(roles.values()) if tuple(roles) == sense.sememes else ())
            except DataError as error:
                skipped.append(f"{path}:{number}: {error}")
                sense = replace(sense, definition="")
        ranked.setdefault(word, []).append((rank, sense))
    return {word: _by_rank(senses) for word, senses in ranked.items()}, skipped


def _check_row(line, width, place):
    """(word, rank, sense without roles) of a row of a sense table."""
    columns = line.split("\t")
    if len(columns) != width:
        raise DataError(f"{place}: expected {width} columns separated by tabs, got {len(columns)}")
    lemma, pos, rank, number, names, definition = (*columns, "")[: len(COLUMNS)]
    if not lemma.strip():
        raise DataError(f"{place}: expected a lemma, got an empty column")
    if not re.fullmatch("[0-9]{1,9}", rank):
        raise DataError(f"{place}: expected a whole number as sense_rank, got {_short(rank)}")
    english = tuple(name.partition("|")[0] for name in names.split(" "))
    if any(not name.strip() for name in english):
        raise DataError(f"{place}: expected sememes en|zh separated by single spaces, got {_short(names)}")
    return "_".join(lemma.split()), int(rank), Sense(english, (), pos, definition.strip(), number)


def _by_rank(senses):
    """The senses of (rank, sense) in the order in which their parts of speech first stand, then by rank."""
    order = {pos: i for i, pos in enumerate(dict.fromkeys(sense.pos for _, sense in senses))}
    return [sense for _, sense in sorted(senses, key=lambda pair: (order[pair[1].pos], pair[0]))]


def _short(text):
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def sample_lexicon():
    """The embedded sample: the common words of technical Python documentation, annotated for this project.

    Examples
    --------
    >>> sample_lexicon().senses("Matrices")
    (('math', 'Sequence', 'planar'),)

    Source: ours; data/README.md.
    """
    return read_lexicon(SAMPLE)


def union(lexicons):
    """All entries of the lexicons; of a word that stands in several, letter by letter, the entry of the first of them alone.

    Examples
    --------
    >>> a, b = Lexicon.of({"add": [("add",)]}), Lexicon.of({"add": [("sum",)], "sum": [("add",)]})
    >>> union([a, b]).senses("add"), len(union([a, b]))
    ((('add',),), 2)

    Source: ours.
    """
    entries, skipped = {}, []
    for lexicon in lexicons:
        entries |= {word: senses for word, senses in lexicon.entries.items() if word not in entries}
        skipped += lexicon.skipped
    return Lexicon(entries, tuple(skipped))


def load_lexicon(source):
    """The lexicon that a user named.

    "sample"; "none" (no word is known); "openhownet", the data of that package; a folder with such data; a lexicon file; or
    several joined by "+", as in "openhownet+sample": of every word, the entry of the first that has one.

    Raises
    ------
    DataError
        As `read_lexicon`; if there is nothing before or after a "+".

    Examples
    --------
    >>> len(load_lexicon("none")), load_lexicon("none+sample") == load_lexicon("sample")
    (0, True)

    Source: ours.
    """
    if len(parts := _parts(str(source))) > 1:
        return union(map(load_lexicon, parts))
    if source in ("none", "sample"):
        return sample_lexicon() if source == "sample" else Lexicon({})
    if source != "openhownet" and not os.path.isdir(source):
        return read_lexicon(source)
    from see_min.hownet import read_openhownet

    return read_openhownet(None if source == "openhownet" else source)


def _parts(source):
    """The names joined by "+", where the longest run of them that is a path is one: "c++/a.txt+sample" has two parts."""
    pieces, parts = source.split("+"), []
    while pieces:
        runs = ("+".join(pieces[:size]) for size in range(len(pieces), 1, -1))
        parts.append(next((run for run in runs if os.path.exists(run)), pieces[0]))
        del pieces[: parts[-1].count("+") + 1]
    if "" in parts and len(parts) > 1:
        raise DataError(f"lexicon: expected names joined by single +, got {_short(source)}")
    return parts
