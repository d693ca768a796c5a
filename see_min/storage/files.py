"""Files: text read line by line, and files that are either the old one or the whole new one."""

import codecs
import gzip
import json
import os
import secrets
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path

from see_min.errors import InputError

GZIP = b"\x1f\x8b"  # the first bytes of a compressed file, whatever its name


def read_lines(path):
    """Yield the lines of a UTF-8 file, plain or gzip, without their ends and byte order mark.

    Raises
    ------
    InputError
        If the file cannot be read or is not UTF-8; the text names path and line.

    Examples
    --------
    >>> import tempfile
    >>> path = write_atomic(Path(tempfile.mkdtemp()) / "a.txt", "one\\r\\ntwo")
    >>> list(read_lines(path))
    ['one', 'two']
    """
    for number, raw in enumerate(_raw_lines(path), start=1):
        if number == 1 and not (raw := raw.removeprefix(codecs.BOM_UTF8)):
            return  # a mark and nothing else
        try:
            # not splitlines on text: it breaks at more than line ends
            yield raw.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            found = f"byte 0x{raw[error.start]:02x}"
            raise InputError(f"{path}:{number}: expected UTF-8, got {found}") from None


def _raw_lines(path):
    try:
        with open(path, "rb") as file:
            packed = file.peek(2).startswith(GZIP)
            yield from gzip.GzipFile(fileobj=file) if packed else file
    except (OSError, EOFError, ValueError, zlib.error) as error:  # ValueError: NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: expected a file that can be read, got {reason}") from None


def read_json(path):
    """What a JSON file holds, in which no object may name a key twice.

    Raises
    ------
    InputError
        As `read_lines`; if the text is not JSON, or a key stands twice.
    """

    def check_once(pairs):
        data = dict(pairs)
        if len(data) < len(pairs):
            twice = next(key for i, (key, _) in enumerate(pairs) if (key in dict(pairs[:i])))
            raise InputError(f"{path}: expected every key once, got {twice!r} again")
        return data

    try:
        return json.loads("\n".join(read_lines(path)), object_pairs_hook=check_once)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # RecursionError: brackets nested too deeply
        line, reason = getattr(error, "lineno", 1), getattr(error, "msg", error)
        raise InputError(f"{path}:{line}: expected JSON, got an error: {reason}") from None


@contextmanager
def atomic_path(path):
    """Yield a temporary Path beside `path` that takes its name on success and is removed on error.

    The temporary exists, is empty and has the suffix of `path`: `numpy.savez` and matplotlib read
    the format off it. Missing parent directories are created. A link stays; its target is written.

    Raises
    ------
    InputError
        If the file cannot be written, or `path` exists and is no regular file.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "new" / "a.txt"
    >>> with atomic_path(path) as temporary:
    ...     _ = temporary.write_text("whole")
    ...     print(path.exists(), temporary.suffix)
    False .txt
    >>> path.read_text()
    'whole'
    """
    path = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if path.exists() and not path.is_file():
        kind = "directory" if path.is_dir() else "device or pipe"
        raise InputError(f"out: expected the name of a file, got the {kind} {path}")
    # not tempfile: its files are private to their owner, and the new file would stay so
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:  # a full disk, too
        reason = error.strerror or error
        rule = "out: expected a directory that can be written"
        raise InputError(f"{rule}, got {path.parent} ({reason})") from error
    finally:
        with suppress(OSError):  # no such directory
            temporary.unlink(missing_ok=True)  # gone already after a replace


def check_writable(directory):
    """Return the directory as a Path if it can be written or made; nothing is changed.

    Long work calls this first, so that its result has a place in the end; else an InputError.
    """
    directory = Path(directory)
    places = (directory, *directory.absolute().parents)
    existing = next(place for place in places if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"out: expected a directory that can be written, got {directory}")
    return directory


def write_atomic(path, data):
    """Write bytes, or text as UTF-8: `path` holds what it held, or all of `data`; or InputError.

    Examples
    --------
    >>> import tempfile
    >>> write_atomic(Path(tempfile.mkdtemp()) / "a.txt", "x").read_bytes()
    b'x'
    """
    data = data.encode() if isinstance(data, str) else data
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)
