"""HowNet itself, by way of the OpenHowNet package: its data fetched, checked, and read into a `Lexicon`.

HowNet's data are not part of this project. OpenHowNet downloads them as pickles, and opening a pickle runs whatever its
author put in. So they are read here without being opened first, and OpenHowNet is given private copies of what passed:
plain data cannot run code. They may still be wrong or wasteful; the check promises nothing about that.
"""

import contextlib
import importlib
import io
import os
import pickletools
import secrets
import tempfile
from pathlib import Path

from see_min.checks import DataError
from see_min.kdml import parse_definition, sememes
from see_min.lexicon import Lexicon, Sense

FOLDER = "~/.openhownet"  # where OpenHowNet keeps its data
PICKLES = ("sememe_all", "HowNet_dict_complete")
FILES = (*PICKLES, "sememe_triples_taxonomy.txt")
PLAIN = frozenset(
    "PROTO FRAME STOP MARK POP POP_MARK DUP"
    " PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET"
    " NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT"
    " STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8"
    " BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8"
    " EMPTY_LIST APPEND APPENDS LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3"
    " EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET".split()
)  # what is not listed is refused, so that an opcode of a later Python is too


def check_pickle(path):
    """Read a pickle, check without opening it that it can only build plain data, and return its bytes.

    The opcodes are walked, none is carried out. The bytes returned are the bytes checked; the file is read once and
    held in memory. An entry of the memo must have a number below its place in the file, because `pickle` makes room
    for all numbers below it.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    bytes

    Raises
    ------
    DataError
        If the file cannot be read, holds an opcode that is not in PLAIN, is cut off or damaged, or goes on after its end.

    Examples
    --------
    >>> import pickle
    >>> path = Path(tempfile.mkdtemp()) / "a"
    >>> _ = path.write_bytes(pickle.dumps({"human|人": 7}))
    >>> pickle.loads(check_pickle(path))
    {'human|人': 7}

    Source: ours.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path itself
        raise DataError(f"{path}: expected a pickle, got {_reason(error)}") from error
    refused, end = None, 0
    try:
        for opcode, argument, at in pickletools.genops(io.BytesIO(data)):  # BytesIO reads no more than there is
            if opcode.name not in PLAIN or ("PUT" in opcode.name and not 0 <= argument <= at):
                refused = _shown(opcode.name, argument, at)
                break
            end = at + 1
    except Exception as error:  # genops parses numbers and text as they come: no list of its errors would be complete
        raise DataError(f"{path}: expected a whole pickle, got {_reason(error)}") from error
    if refused:
        raise DataError(f"{path}: expected a pickle of plain containers, strings and numbers, got opcode {refused}")
    if end < len(data):
        raise DataError(f"{path}: expected the end of the file after byte {end}, got {len(data) - end} more bytes")
    return data


def _shown(name, argument, at):
    text = "" if argument is None else f" ({str(argument).encode('unicode_escape').decode()[:60]})"
    return f"{name}{text} at byte {at}"


def _reason(error):
    """What an error says, on one line of bounded length."""
    text = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return " ".join(str(text).split())[:300]


def read_openhownet(folder=None):
    """Every English word of HowNet, read by OpenHowNet itself from data that were checked first.

    Words of a phrase are joined by underscores ("ice_cream"). The senses of a word stand in the order of their
    numbers. A sense whose definition `see_min.kdml` cannot read, or reads otherwise than OpenHowNet, has no roles;
    one without sememes is left out; `Lexicon.skipped` names both.

    Parameters
    ----------
    folder : str or Path, optional
        Where the three files are, or whose subfolder "resources" has them; ~/.openhownet when left out.

    Returns
    -------
    Lexicon

    Raises
    ------
    DataError
        If a file is missing, refused by `check_pickle`, or not what OpenHowNet can read; if OpenHowNet is not installed.

    Examples
    --------
    >>> read_openhownet("/nowhere")                                # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    see_min.checks.DataError: /nowhere: expected HowNet's data (...), got none: python -m see_min hownet --download

    Source: the data and their reader are OpenHowNet's, arXiv 1901.09957; the check is ours.
    """
    folder = FOLDER if folder is None else folder
    source = _locate(folder)
    try:
        with tempfile.TemporaryDirectory(prefix="see_min.") as private:  # readable by its owner alone
            _copy_checked(source, Path(private) / "resources")
            records = _load(private, folder)
    except OSError as error:
        raise DataError(f"{folder}: expected to copy its files to {tempfile.gettempdir()}, got {_reason(error)}") from error
    lexicon = _lexicon(records)
    if not lexicon.entries:
        raise DataError(f"{folder}: expected at least 1 English word, got none in {len(records)} senses")
    return lexicon


def _locate(folder):
    """The directory with the three files: `folder`/resources, or `folder` itself."""
    base = Path(os.path.expanduser(folder))
    found = {place: [name for name in FILES if os.path.isfile(place / name)] for place in (base / "resources", base)}
    place, names = max(found.items(), key=lambda item: len(item[1]))  # of equals the first
    if len(names) < len(FILES):
        raise DataError(f"{folder}: expected HowNet's data (resources/{', '.join(FILES)}), "
                        f"got {'only ' * bool(names)}{', '.join(names) or 'none'}: python -m see_min hownet --download")
    return place


def _copy_checked(source, target):
    """Copy the files; of the pickles the very bytes that were checked, whatever becomes of the originals meanwhile."""
    target.mkdir()
    for name in FILES:
        (target / name).write_bytes(check_pickle(source / name) if name in PICKLES else (source / name).read_bytes())


@contextlib.contextmanager
def _openhownet_in(place):
    """Yield (OpenHowNet, its module Download) with their data folder being `place` until the block ends."""
    try:
        package, module = importlib.import_module("OpenHowNet"), importlib.import_module("OpenHowNet.Download")
    except ImportError as error:
        raise DataError(f"OpenHowNet: expected it to be installed, got {error}: pip install OpenHowNet==2.0") from error
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
            hownet.zh_map  # noqa: B018  set last: what OpenHowNet cannot find it prints, and leaves half an object
            return list(hownet.sense_dic.values())
        except Exception as error:  # damaged data surface as whatever they break: KeyError, TypeError, UnpicklingError, ...
            said = " ".join(printed.getvalue().split())[:300]
            raise DataError(f"{folder}: expected data that OpenHowNet can read, got {said or _reason(error)}") from error


def _lexicon(records):
    entries, skipped = {}, []
    for record in sorted(records, key=lambda record: _order(record.No)):
        word = "_".join(str(record.en_word).split())
        if not word:
            continue  # a Chinese word without an English one
        sense, complaint = _sense(record)
        if sense.sememes:
            entries[word] = (*entries.get(word, ()), sense)
        if complaint:
            skipped.append(f"No. {record.No} ({word}): {complaint}")
    return Lexicon(entries, tuple(skipped))


def _order(number):
    """Sorts decimal strings by value: of two without leading zeros the longer one is the larger."""
    digits = str(number).lstrip("0")
    return len(digits), digits


def _sense(record):
    """The Sense of OpenHowNet's `record`, and what is missing in it and why ("" if nothing is)."""
    names, roles, complaint = tuple(sememe.en for sememe in record.sememes), (), ""
    if not names:
        complaint = "left out, because its definition names no sememe"
    else:
        try:
            pairs = sememes(parse_definition(record.Def))
            if tuple(english.replace(" ", "_") for english, _ in pairs) == names:  # as OpenHowNet spells them
                roles = tuple(role for _, role in pairs)
            else:
                complaint = f"no roles, because OpenHowNet finds the sememes {', '.join(names)} in {record.Def}"
        except DataError as error:
            complaint = f"no roles, {error}"
    return Sense(names, roles, str(record.en_grammar or ""), str(record.Def), str(record.No)), complaint


def download(folder=None, say=print):
    """Let OpenHowNet download HowNet's data, read them once, and only then put them into `folder`/resources.

    Data that are there and whole are left alone. An interrupted download changes nothing but may leave a folder
    `.download.*`; what else was called "resources" is kept under another name.

    Parameters
    ----------
    folder : str or Path, optional
        ~/.openhownet when left out. A download needs some hundred megabytes free in it.
    say : function of one str
        Told in a line what was done. OpenHowNet shows its progress on stderr.

    Returns
    -------
    Path of `folder`

    Raises
    ------
    DataError
        If OpenHowNet is not installed, the download fails or is not whole, or `folder` cannot be written.

    Source: the data are OpenHowNet's, arXiv 1901.09957.
    """
    folder = Path(os.path.expanduser(FOLDER if folder is None else folder))
    with contextlib.suppress(DataError):  # absent or broken: both are what a download mends
        words = len(read_openhownet(folder))
        say(f"{folder}: HowNet's data are there and whole, {words} English words")
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download.", dir=folder) as fresh:  # on the disk where the data will be
            source, words = _fetch(Path(fresh))
            _move(source, folder / "resources", say)
    except OSError as error:
        raise DataError(f"out: expected a directory that can be written, got {folder} ({_reason(error)})") from error
    say(f"{folder}: HowNet's data are downloaded, {words} English words")
    return folder


def _fetch(fresh):
    """(directory of the three files, number of English words) after a download into `fresh`."""
    with _openhownet_in(fresh) as (package, module):
        url = module.OPENHOWNET_DATA_URL
        try:
            package.download()  # unpacks by ZipFile.extractall, which keeps members such as ../../a inside the folder
        except Exception as error:  # of requests, zipfile, zlib; KeyError where the server does not tell the length
            raise DataError(f"HowNet's data: expected a download from {url}, got {_reason(error)}") from error
    # the archive may have a folder of its own around the files
    places = [path.parent for path in sorted(fresh.rglob(FILES[0])) if all((path.parent / name).is_file() for name in FILES)]
    try:
        source = places[0] if places else fresh
        return source, len(read_openhownet(source))
    except DataError as error:
        got = str(error).replace(f"{fresh}{os.sep}", "").replace(str(fresh), "the archive")  # the folder is gone by then
        raise DataError(f"HowNet's data: expected a whole download from {url}, got {got}") from error


def _move(source, target, say):
    """Give `source` the name `target`; what has that name gets another, and has it back if that fails."""
    aside = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    kept = os.path.lexists(target)
    if kept:
        os.replace(target, aside)
    try:
        os.replace(source, target)
    except OSError:
        if kept:
            os.replace(aside, target)
        raise
    if kept:
        say(f"{target}: was not whole, is kept as {aside.name}")
