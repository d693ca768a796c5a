"""Lexicons from files, plain or gzip: the embedded sample and the usual formats of sememe lexicons.

The first line says which of three formats a file has:

- "lemma" and a tab: a sense table with the columns lemma, pos, sense_rank, wn30, sememes ("en|zh",
  spaces between them) and perhaps kdml. Senses of a word go by part of speech as first met, then by
  rank. Roles are known where the definition (kdml) has the same sememes in the same order. A
  malformed definition is left out and noted, not its sense.
- KEY=...: HowNet's records, each from NO.= to a blank line. W_E is the word, the first word of G_E
  its part of speech, DEF the definition. Records without W_E are Chinese alone; how many is noted.
  Records whose DEF is missing or malformed are left out and noted.
- otherwise text: a word line, then the sememes of one sense separated by tabs, and so on.

In tables and records spaces in words and sememes become underscores, and a sememe that a definition
names twice stands once.
"""

import itertools
import os
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from see_min.errors import InputError
from see_min.files import read_lines
from see_min.words.hownet import read_openhownet
from see_min.words.kdml import parse_definition, sememes
from see_min.words.lexicon import Lexicon, Sense

SAMPLE = Path(__file__).parent.parent / "data" / "sample_lexicon.txt"
COLUMNS = ("lemma", "pos", "sense_rank", "wn30", "sememes", "kdml")  # the last may be missing
KEYS = ("NO.", "W_E", "G_E", "DEF")  # what is used of a record of HowNet
KEY = re.compile(r"[A-Z][A-Za-z_.]*=")
FOREIGN = re.compile(r"""\s*[<{\["]""")  # HTML, XML, JSON, quoted CSV


def read_lexicon(path):
    """Read a lexicon file in one of the formats above; a repeated word has a further sense.

    Raises
    ------
    InputError
        If the file cannot be read, has no entry or another format, or a line is malformed.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = path.write_text("bank\\nplace\\tmoney\\nbank\\nland\\twater\\n")
    >>> read_lexicon(path).senses("banks")
    (('place', 'money'), ('land', 'water'))
    """
    lines = enumerate(read_lines(path), start=1)
    start = list(itertools.islice(lines, 1))
    reader = _reader(start[0][1] if start else "", path)
    entries, skipped = reader(path, itertools.chain(start, lines))
    if not entries:
        got = "; ".join(["none", *skipped[:3]])
        raise InputError(f"{path}: expected at least 1 entry, got {got}")
    return Lexicon({word: tuple(senses) for word, senses in entries.items()}, tuple(skipped))


def _reader(first, path):
    """The function that reads the format of which `first` is the first line."""
    if first.startswith(f"{COLUMNS[0]}\t"):
        return _read_table
    if FOREIGN.match(first):
        rule = "expected a word, a sense table or HowNet's records"
        raise InputError(f"{path}:1: {rule}, got {_short(first)}")
    return _read_records if KEY.match(first) else _read_pairs


def _read_pairs(path, lines):
    entries = {}
    for number, word in lines:
        place = f"{path}:{number}"
        if not word.strip() or word != word.strip() or "\t" in word:  # a line too few, or too many
            rule = "expected a word without tabs or spaces around it"
            raise InputError(f"{place}: {rule}, got {_short(word)}")
        below, names = next(lines, (number, None))
        if names is None:
            rule = f"expected a line of sememes after {_short(word)}"
            raise InputError(f"{place}: {rule}, got the end of the file")
        entries.setdefault(word, []).append(Sense(_check_sememes(names, f"{path}:{below}")))
    return entries, []


def _check_sememes(line, place):
    names = tuple(line.split("\t"))
    if any(not name or re.search(r"[\s,;<>]", name) for name in names):  # CSV, HTML, prose
        rule = "expected sememes separated by single tabs, without spaces or any of , ; < >"
        raise InputError(f"{place}: {rule}, got {_short(line)}")
    return names


def _read_records(path, lines):
    entries, skipped, chinese, named = {}, [], 0, cache(_named)
    for record in _records(path, lines):
        word = "_".join(record.get("W_E", ("",))[0].split())
        if not word:
            chinese += 1
            continue
        definition, number = record.get("DEF", ("", record["NO."][1]))
        pos = "".join(record.get("G_E", ("",))[0].split()[:1])
        try:
            roles = named(definition)
        except InputError as error:
            skipped.append(f"{path}:{number}: {error}")
            continue
        sense = Sense(tuple(roles), tuple(roles.values()), pos, definition, record["NO."][0])
        entries.setdefault(word, []).append(sense)
    if chinese:
        skipped.append(f"{path}: records without an English word (W_E): {chinese}")
    return entries, skipped


def _records(path, lines):
    """Yield the records, each as key -> (value, number of the line), without unused keys."""
    record = {}
    for number, line in lines:
        line = line.strip()
        key, _, value = line.partition("=")
        rule = None
        if line and not KEY.match(line):
            rule = "expected KEY=value or a blank line"
        elif key and not record and key != "NO.":
            rule = "expected NO.= to open a record"
        elif key in record and key != "NO.":
            rule = f"expected {key}= once in a record"
        if rule:
            raise InputError(f"{path}:{number}: {rule}, got {_short(line)}")
        if record and (not key or key == "NO."):
            yield record
            record = {}
        if key in KEYS:
            record[key] = (value.strip(), number)
    if record:
        yield record


def _named(definition):
    """Sememe -> the role in which a definition names it first, in the order of the text."""
    roles = {}
    for name, role in sememes(parse_definition(definition)):
        roles.setdefault(name.replace(" ", "_"), role)
    if not roles:
        raise InputError("definition: expected at least 1 sememe, got none")
    return roles


def _read_table(path, lines):
    header = tuple(next(lines)[1].split("\t"))
    if header not in (COLUMNS, COLUMNS[:-1]):
        rule = f"expected the columns {' '.join(COLUMNS[:-1])} [kdml]"
        raise InputError(f"{path}:1: {rule}, got {_short(' '.join(header))}")
    ranked, skipped, named = {}, [], cache(_named)
    for number, line in lines:
        word, rank, sense = _check_row(line, len(header), f"{path}:{number}")
        if sense.definition:
            try:
                roles = named(sense.definition)
                agree = tuple(roles) == sense.sememes
                sense = replace(sense, roles=tuple(roles.values()) if agree else ())
            except InputError as error:
                skipped.append(f"{path}:{number}: {error}")
                sense = replace(sense, definition="")
        ranked.setdefault(word, []).append((rank, sense))
    return {word: _by_rank(senses) for word, senses in ranked.items()}, skipped


def _check_row(line, width, place):
    """(word, rank, sense without roles) of a row of a sense table."""
    columns = line.split("\t")
    if len(columns) != width:
        got = len(columns)
        raise InputError(f"{place}: expected {width} columns separated by tabs, got {got}")
    lemma, pos, rank, number, names, definition = (*columns, "")[: len(COLUMNS)]
    if not lemma.strip():
        raise InputError(f"{place}: expected a lemma, got an empty column")
    if not re.fullmatch("[0-9]{1,9}", rank):
        raise InputError(f"{place}: expected a whole number as sense_rank, got {_short(rank)}")
    english = tuple(name.partition("|")[0] for name in names.split(" "))
    if any(not name.strip() for name in english):
        rule = "expected sememes en|zh separated by single spaces"
        raise InputError(f"{place}: {rule}, got {_short(names)}")
    return "_".join(lemma.split()), int(rank), Sense(english, (), pos, definition.strip(), number)


def _by_rank(senses):
    """The senses of (rank, sense): by part of speech as first met, then by rank."""
    order = {pos: i for i, pos in enumerate(dict.fromkeys(sense.pos for _, sense in senses))}
    return [s for _, s in sorted(senses, key=lambda pair: (order[pair[1].pos], pair[0]))]


def _short(text):
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def sample_lexicon():
    """The embedded sample: the common words of technical Python documentation.

    Examples
    --------
    >>> sample_lexicon().senses("Matrices")
    (('math', 'Sequence', 'planar'),)
    """
    return read_lexicon(SAMPLE)


def union(lexicons):
    """All entries of the lexicons; a word that stands in several has the entry of the first.

    Examples
    --------
    >>> a, b = Lexicon.of({"add": [("add",)]}), Lexicon.of({"add": [("sum",)], "sum": [("add",)]})
    >>> union([a, b]).senses("add"), len(union([a, b]))
    ((('add',),), 2)
    """
    entries, skipped = {}, []
    for lexicon in lexicons:
        entries = {**entries, **{w: s for w, s in lexicon.entries.items() if w not in entries}}
        skipped += lexicon.skipped
    return Lexicon(entries, tuple(skipped))


def load_lexicon(source):
    """The lexicon that a user named.

    "sample"; "none" (no word is known); "openhownet", the data of that package; a folder with such
    data; a lexicon file; or several joined by "+": of a word, the entry of the first that has it.

    Examples
    --------
    >>> len(load_lexicon("none")), load_lexicon("none+sample") == load_lexicon("sample")
    (0, True)
    """
    source = str(source)
    parts = _parts(source)
    if len(parts) > 1:
        return union(map(load_lexicon, parts))
    if source in ("none", "sample"):
        return sample_lexicon() if source == "sample" else Lexicon({})
    if source == "openhownet":
        return read_openhownet()
    return read_openhownet(source) if os.path.isdir(source) else read_lexicon(source)


def _parts(source):
    """The names joined by "+"; the longest run of them that is a path is one: "c++/a.txt"."""
    pieces, parts = source.split("+"), []
    while pieces:
        runs = ("+".join(pieces[:size]) for size in range(len(pieces), 1, -1))
        parts.append(next((run for run in runs if os.path.exists(run)), pieces[0]))
        del pieces[: parts[-1].count("+") + 1]
    if "" in parts and len(parts) > 1:
        raise InputError(f"lexicon: expected names joined by single +, got {_short(source)}")
    return parts
