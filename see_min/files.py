"""Files that are either the old one or the whole new one, never half of one."""

import os
import secrets
from contextlib import contextmanager
from pathlib import Path

from see_min.checks import DataError


@contextmanager
def atomic_path(path):
    """Yield a temporary Path beside `path`; on success it takes the name of `path`, on any error it is removed.

    The temporary exists and is empty when the block starts, and keeps the suffix of `path`: `numpy.savez` and
    matplotlib read the format off it. Missing parent directories are created.

    Raises
    ------
    DataError
        If the directory cannot be made or written, or `path` is itself a directory.

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

    Source: ours.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"out: expected the name of a file, got the directory {path}")
    # not tempfile: its files are private to their owner, and the new file would stay so
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield temporary
        try:
            os.replace(temporary, path)
        except OSError as error:
            raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)  # gone already after a replace


def check_writable(directory):
    """Return the directory as a Path if files can be written to it, or if it is missing and can be made; nothing is changed.

    Long work calls this first, so that its result has a place in the end.

    Raises
    ------
    DataError
        If not.

    Source: ours.
    """
    directory = Path(directory)
    existing = next(place for place in (directory, *directory.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise DataError(f"out: expected a directory that can be written, got {directory}")
    return directory


def write_atomic(path, data):
    """Write bytes, or text as UTF-8, so that `path` holds either what it held before or all of `data`.

    Parameters
    ----------
    path : str or Path
    data : bytes or str

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If the directory cannot be made or written, or `path` is itself a directory.

    Examples
    --------
    >>> import tempfile
    >>> write_atomic(Path(tempfile.mkdtemp()) / "a.txt", "x").read_bytes()
    b'x'

    Source: ours.
    """
    data = data.encode() if isinstance(data, str) else data
    with atomic_path(path) as temporary:
        try:
            temporary.write_bytes(data)
        except OSError as error:  # a full disk
            raise _unwritable(path, error) from error
    return Path(path)


def _unwritable(path, error):
    return DataError(f"out: expected a directory that can be written, got {Path(path).parent} ({error.strerror})")
