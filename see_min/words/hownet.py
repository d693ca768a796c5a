"""HowNet itself, by way of the OpenHowNet package: its data fetched, and read into a `Lexicon`.

HowNet's data are not part of this project. OpenHowNet downloads them as pickles, and opening a
pickle runs whatever its author put in. So they are opened here first, by a reader that finds no
function and no class, and OpenHowNet is given private copies that were written from what it read.
"""

import contextlib
import io
import os
import pickle
import secrets
import tempfile
from pathlib import Path

from see_min.errors import InputError, require
from see_min.words.kdml import parse_definition, sememes
from see_min.words.lexicon import Lexicon, Sense

FOLDER = "~/.openhownet"  # where OpenHowNet keeps its data
PICKLES = ("sememe_all", "HowNet_dict_complete")
FILES = (*PICKLES, "sememe_triples_taxonomy.txt")
INSTALL = "pip install OpenHowNet==2.0"


class _PlainUnpickler(pickle.Unpickler):
    """Builds containers, strings and numbers; what is not there to be found cannot be called."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}")


def load_plain(path):
    """What a pickle of plain data holds; nothing in it can run.

    Raises InputError if the file cannot be read, is damaged, or asks for a class or a function.
    """
    try:
        with open(path, "rb") as file:
            return _PlainUnpickler(file).load()
    except Exception as error:  # damaged pickles surface as whatever they break
        raise InputError(f"{path}: expected a pickle of plain data, got {_reason(error)}") from None


def _reason(error):
    """What an error says, on one line of bounded length."""
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    text = getattr(error, "strerror", None) or f"{kind}{error}"
    return " ".join(text.split())[:300]


def read_openhownet(folder=None):
    """Every English word of HowNet, read by OpenHowNet from data that cannot run.

    The files are in `folder` (~/.openhownet) or its subfolder "resources". Words of a phrase are
    joined by underscores; the senses of a word stand in the order of their numbers. A sense whose
    definition `kdml` cannot read, or reads otherwise than OpenHowNet, has no roles; one without
    sememes is left out; `Lexicon.skipped` names both.

    Raises InputError if a file is missing, refused by `load_plain`, or not what OpenHowNet reads.
    """
    folder = FOLDER if folder is None else folder
    source = _locate(folder)
    with tempfile.TemporaryDirectory(prefix="see_min.") as private:  # its owner's alone
        copies = Path(private) / "resources"
        copies.mkdir()
        for name in FILES:
            path = source / name
            data = pickle.dumps(load_plain(path)) if name in PICKLES else path.read_bytes()
            (copies / name).write_bytes(data)
        lexicon = _lexicon(_load(private, folder))
    if not lexicon.entries:
        raise InputError(f"{folder}: expected at least 1 English word, got none")
    return lexicon


def _locate(folder):
    """The directory with the three files: `folder`/resources, or `folder` itself."""
    base = Path(os.path.expanduser(folder))
    for place in (base / "resources", base):
        if all(os.path.isfile(place / name) for name in FILES):
            return place
    rule = f"expected HowNet's data ({', '.join(FILES)})"
    raise InputError(f"{folder}: {rule}, got not all of them: python -m see_min hownet --download")


@contextlib.contextmanager
def _openhownet_in(place):
    """Yield OpenHowNet and its module Download, whose data are in `place` until the block ends."""
    package, module = require("OpenHowNet", INSTALL), require("OpenHowNet.Download", INSTALL)
    before, module.OPENHOWNET_RESOURCE_PATH = module.OPENHOWNET_RESOURCE_PATH, str(place)
    try:
        yield package, module
    finally:
        module.OPENHOWNET_RESOURCE_PATH = before


def _load(place, folder):
    """OpenHowNet's list of senses; `folder` is what errors are about."""
    printed = io.StringIO()
    with _openhownet_in(place) as (package, _), contextlib.redirect_stdout(printed):
        try:
            hownet = package.HowNetDict()
            hownet.zh_map  # noqa: B018  set last: what it cannot find it prints, and goes on
            return list(hownet.sense_dic.values())
        except Exception as error:  # damaged data surface as whatever they break
            got = " ".join(printed.getvalue().split())[:300] or _reason(error)
            rule = "expected data that OpenHowNet can read"
            raise InputError(f"{folder}: {rule}, got {got}") from error


def _lexicon(records):
    entries, skipped = {}, []
    for record in sorted(records, key=lambda record: (len(str(record.No)), str(record.No))):
        word = "_".join(str(record.en_word).split())
        if not word:
            continue  # a Chinese word without an English one
        sense, complaint = _sense(record)
        if sense.sememes:
            entries[word] = (*entries.get(word, ()), sense)
        if complaint:
            skipped.append(f"No. {record.No} ({word}): {complaint}")
    return Lexicon(entries, tuple(skipped))


def _sense(record):
    """The Sense of OpenHowNet's `record`, and what is missing in it ("" if nothing is)."""
    names, roles, complaint = tuple(sememe.en for sememe in record.sememes), (), ""
    try:
        pairs = sememes(parse_definition(record.Def))
        if tuple(english.replace(" ", "_") for english, _ in pairs) == names:
            roles = tuple(role for _, role in pairs)
        else:
            found = ", ".join(names)
            complaint = f"no roles: OpenHowNet finds the sememes {found} in {record.Def}"
    except InputError as error:
        complaint = f"no roles, {error}"
    if not names:
        complaint = "left out, because its definition names no sememe"
    pos = str(record.en_grammar or "")
    return Sense(names, roles, pos, str(record.Def), str(record.No)), complaint


def download(folder=None, log=print):
    """Let OpenHowNet download HowNet's data, read them, and only then put them into `folder`.

    Data that are whole are left alone; a download that fails changes nothing. What else was called
    "resources" is kept under another name. Returns the Path of `folder` (~/.openhownet).

    Raises InputError if the download fails or is not whole, or `folder` cannot be written.

    Source: the data are OpenHowNet's, arXiv 1901.09957.
    """
    folder = Path(os.path.expanduser(FOLDER if folder is None else folder))
    with contextlib.suppress(InputError):  # absent or broken: both are what a download mends
        log(f"{folder}: HowNet's data are there, {len(read_openhownet(folder))} English words")
        return folder
    target = folder / "resources"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download.", dir=folder) as fresh:
            source, words = _fetch(Path(fresh))
            if os.path.lexists(target):
                aside = target.with_name(f"resources.{secrets.token_hex(4)}")
                os.replace(target, aside)
                log(f"{target}: was not whole, is kept as {aside.name}")
            os.replace(source, target)
    except OSError as error:
        rule = "out: expected a directory that can be written"
        raise InputError(f"{rule}, got {folder} ({_reason(error)})") from error
    log(f"{folder}: HowNet's data are downloaded, {words} English words")
    return folder


def _fetch(fresh):
    """(directory of the three files, number of English words) after a download into `fresh`."""
    with _openhownet_in(fresh) as (package, module):
        url = module.OPENHOWNET_DATA_URL
        try:
            package.download()
            # the archive may have a folder of its own around the files
            source = next((path.parent for path in sorted(fresh.rglob(FILES[0]))), fresh)
            return source, len(read_openhownet(source))
        except Exception as error:  # of requests, zipfile, zlib; KeyError without a length; ours
            got = _reason(error).replace(f"{fresh}{os.sep}", "")  # the folder is gone by then
            rule = f"expected a whole download from {url}"
            raise InputError(f"HowNet's data: {rule}, got {got}") from error
