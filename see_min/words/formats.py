"""Lexicons from files, plain or gzip: the embedded sample and the usual formats of sememe lexicons.

The first line says which of three formats a file has:

- "lemma" and a tab: a sense table with the columns lemma, pos, sense_rank, wn30, sememes ("en|zh",
  spaces between them) and perhaps kdml. Senses stand in the order of the lines, whatever their
  rank. Roles are known where the definition (kdml) has the same sememes in the same order. A
  malformed definition is left out and noted, not its sense.
- KEY=...: HowNet's records, each from NO.= to a blank line. W_E is the word, the first word of G_E
  its part of speech, DEF the definition. Records without W_E are Chinese alone; how many is noted.
  Records whose DEF is missing or malformed are left out and noted.
- otherwise text: a word line, then the sememes of one sense separated by tabs, and so on. Many
  senses of one sememe each, none twice, are a list of words and refused.

In tables and records spaces in words and sememes become underscores, and a sememe that a definition
names twice stands once.
"""

import os
import re
from functools import cache
from pathlib import Path

from see_min.errors import InputError
from see_min.storage.files import read_lines
from see_min.words.hownet import read_openhownet
from see_min.words.kdml import parse_definition, sememes
from see_min.words.lexicon import Lexicon, Sense

SAMPLE = Path(__file__).parent.parent / "data" / "sample_lexicon.txt"
COLUMNS = ("lemma", "pos", "sense_rank", "wn30", "sememes", "kdml")  # the last may be missing
KEYS = ("NO.", "W_E", "G_E", "DEF")  # what is used of a record of HowNet
KEY = re.compile(r"[A-Z][A-Za-z_.]*=")
MANY = 20  # senses of which some have a sememe in common


def read_lexicon(path):
    """Read a lexicon file in one of the formats above; a repeated word has a further sense.

    Raises InputError if the file cannot be read or has no entry, or a line is malformed.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = path.write_text("bank\\nplace\\tmoney\\nbank\\nland\\twater\\n")
    >>> read_lexicon(path).senses("banks")
    (('place', 'money'), ('land', 'water'))
    """
    first, entries, skipped = next(read_lines(path), ""), {}, []
    if first.startswith("lemma\t"):
        read = _read_table
    else:
        read = _read_records if KEY.match(first) else _read_pairs
    for word, sense in read(path, enumerate(read_lines(path), start=1), skipped):
        entries[word] = (*entries.get(word, ()), sense)
    if not entries:
        got = "; ".join(["none", *skipped[:3]])
        raise InputError(f"{path}: expected at least 1 entry, got {got}")
    return Lexicon(entries, tuple(skipped))


def _refusal(path, number, rule, got):
    return InputError(f"{path}:{number}: expected {rule}, got {got!r:.80}")


def _read_pairs(path, lines, skipped):
    """Yield (word, Sense); so do the readers of the other formats, which note what they skip."""
    below_words = []
    for number, word in lines:
        if not word.strip() or word != word.strip() or "\t" in word:  # a line too few, or too many
            raise _refusal(path, number, "a word without tabs or spaces around it", word)
        below, line = next(lines, (number + 1, ""))
        names = tuple(line.split("\t"))
        if not all(re.fullmatch(r"[^\s,;<>]+", name) for name in names):  # CSV, HTML, prose
            rule = "sememes separated by single tabs, without spaces or any of , ; < >"
            raise _refusal(path, below, rule, line)
        yield word, Sense(names)
        below_words.append(line)
    is_words = not any("\t" in line for line in below_words)
    if is_words and MANY <= len(below_words) == len(set(below_words)):
        rule = "sememes that words have in common, below each word"
        raise _refusal(path, 2, rule, below_words[0])


def _read_records(path, lines, skipped):
    chinese, named = 0, cache(_roles)
    for number, record in _records(path, lines):
        word = "_".join(record.get("W_E", "").split())
        if not word:
            chinese += 1
            continue
        definition = record.get("DEF", "")
        try:
            roles = named(definition)
        except InputError as error:
            skipped.append(f"{path}:{number}: {error}")
            continue
        pos = "".join(record.get("G_E", "").split()[:1])
        yield word, Sense(tuple(roles), tuple(roles.values()), pos, definition, record["NO."])
    if chinese:
        skipped.append(f"{path}: records without an English word (W_E): {chinese}")


def _records(path, lines):
    """Yield (number of its first line, key -> value) of every record, without unused keys."""
    start, record = 0, {}
    for number, line in lines:
        line = line.strip()
        key, _, value = line.partition("=")
        if record and (not line or key == "NO."):
            yield start, record
            record = {}
        if not line:
            continue
        if not KEY.match(line) or key in record or not record and key != "NO.":
            rule = "KEY=value, a key once in a record, which NO.= opens"
            raise _refusal(path, number, rule, line)
        if key == "NO.":
            start = number
        if key in KEYS:
            record[key] = value.strip()
    if record:
        yield start, record


def _roles(definition):
    """Sememe -> the role in which a definition names it first, in the order of the text."""
    roles = {}
    for name, role in sememes(parse_definition(definition)):
        roles.setdefault(name.replace(" ", "_"), role)
    if not roles:
        raise InputError("definition: expected at least 1 sememe, got none")
    return roles


def _read_table(path, lines, skipped):
    header = tuple(next(lines)[1].split("\t"))
    if header not in (COLUMNS, COLUMNS[:-1]):
        rule = f"the columns {' '.join(COLUMNS[:-1])} [kdml]"
        raise _refusal(path, 1, rule, " ".join(header))
    named = cache(_roles)
    for number, line in lines:
        lemma, pos, _, sense_number, names, definition = _row(line, header, path, number)
        roles = ()
        try:
            found = named(definition) if definition else {}
            roles = tuple(found.values()) if tuple(found) == names else ()
        except InputError as error:
            skipped.append(f"{path}:{number}: {error}")
            definition = ""
        yield lemma, Sense(names, roles, pos, definition, sense_number)


def _row(line, header, path, number):
    """The columns of a row as in COLUMNS, the sememes as a tuple of English names."""
    columns = line.split("\t")
    if len(columns) != len(header):
        raise _refusal(path, number, f"{len(header)} columns separated by tabs", line)
    lemma, pos, rank, sense_number, names, definition = (*columns, "")[: len(COLUMNS)]
    english = tuple(name.partition("|")[0] for name in names.split(" "))
    if not lemma.strip() or not all(name.strip() for name in english):
        raise _refusal(path, number, "a lemma, and sememes en|zh separated by single spaces", line)
    return "_".join(lemma.split()), pos, rank, sense_number, english, definition.strip()


def sample_lexicon():
    """The embedded sample: the common words of technical Python documentation.

    >>> sample_lexicon().senses("Matrices")
    (('math', 'Sequence', 'planar'),)
    """
    return read_lexicon(SAMPLE)


def union(lexicons):
    """All senses of the lexicons; those of the first come first.

    >>> a, b = Lexicon.of({"add": [("add",)]}), Lexicon.of({"add": [("sum",)], "sum": [("add",)]})
    >>> union([a, b]).senses("add"), len(union([a, b]))
    ((('add',), ('sum',)), 2)
    """
    entries, skipped = {}, ()
    for lexicon in lexicons:
        for word, senses in lexicon.entries.items():
            entries[word] = entries.get(word, ()) + senses
        skipped += lexicon.skipped
    return Lexicon(entries, skipped)


def load_lexicon(source):
    """The lexicon that a user named.

    "sample"; "none" (no word is known); "openhownet", the data of that package; a folder with such
    data; a lexicon file; or several joined by "+": of a word, the senses of all.
    Raises InputError for what is none of these.

    >>> len(load_lexicon("none")), load_lexicon("none+sample") == load_lexicon("sample")
    (0, True)
    """
    source = str(source)
    if source == "none":
        return Lexicon({})
    if source == "sample":
        return sample_lexicon()
    if source == "openhownet":
        return read_openhownet()
    if os.path.isdir(source):
        return read_openhownet(source)
    if "+" in source and not os.path.exists(source):
        return union(map(load_lexicon, source.split("+")))
    if not source:
        raise InputError("lexicon: expected a name or a path on either side of +, got ''")
    return read_lexicon(source)
