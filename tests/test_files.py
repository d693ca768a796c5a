"""Files are whole or as before; lines are read one way, whatever their ends, packing and damage."""

import errno
import gzip
import os
import re
from pathlib import Path

import pytest

from see_min.errors import InputError
from see_min.storage.files import atomic_path, check_writable, read_json, read_lines, write_atomic


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_lines_lose_their_ends_and_the_byte_order_mark_alone(tmp_path, pack):
    path = tmp_path / "a"
    path.write_bytes(pack("\ufeffone\r\n\u2028 two\x85\n\nthree".encode()))
    assert list(read_lines(path)) == ["one", "\u2028 two\x85", "", "three"]
    for nothing in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(pack(nothing))
        assert list(read_lines(path)) == []


PACKED = gzip.compress(b"play\tplay\n" * 5)


@pytest.mark.parametrize("data, text", [
    (b"a\nb\nc\xff\n", "a:3: expected UTF-8, got byte 0xff"),
    *((PACKED[:cut], "a: expected a file that can be read, got .*") for cut in (3, 20, -1)),
])
def test_damaged_text_is_named_in_one_line(tmp_path, data, text):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(InputError, match=f"^.*{text}$"):
        list(read_lines(tmp_path / "a"))


@pytest.mark.parametrize("name", ["absent", "", "a\0b"])
def test_what_is_no_file_is_named(tmp_path, name):
    with pytest.raises(InputError, match="expected a file that can be read, got "):
        list(read_lines(f"{tmp_path}/{name}"))


@pytest.mark.parametrize("text, message", [
    ('{"a": 0, "a": 1}', ": expected every key once, got 'a' again"),
    ('{\n"a" 0}', ":2: expected JSON, got an error: Expecting ':' delimiter"),
    ("[" * 100_000, ":1: expected JSON, got an error: maximum recursion"),
])
def test_json_that_cannot_be_read_is_named_by_path_and_line(tmp_path, text, message):
    path = write_atomic(tmp_path / "a.json", text)
    with pytest.raises(InputError, match="^" + re.escape(f"{path}{message}")):
        read_json(path)


@pytest.mark.parametrize("owner, name", [(Path, "write_bytes"), (os, "replace")])
def test_a_full_disk_or_another_error_leaves_the_old_file_alone(tmp_path, monkeypatch, owner, name):
    path = write_atomic(tmp_path / "a.txt", "old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="No space left"):
        patch.setattr(owner, name, full)
        write_atomic(path, "new")
    with pytest.raises(KeyError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_its_target_is_written(tmp_path):
    target = tmp_path / "elsewhere" / "a.txt"
    link = tmp_path / "link.txt"
    link.symlink_to(target)  # dangles at first
    for text in ("one", "two"):
        write_atomic(link, text)
        assert link.is_symlink() and target.read_text() == text


@pytest.mark.parametrize("make, kind", [(os.mkdir, "directory"), (os.mkfifo, "device or pipe")])
def test_what_is_no_regular_file_is_not_replaced(tmp_path, make, kind):
    path = tmp_path / "a"
    make(path)
    with pytest.raises(InputError, match=f"^out: expected the name of a file, got the {kind} "):
        write_atomic(path, "x")
    assert path.exists() and not path.is_file()


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path):
    path = write_atomic(tmp_path / "file", "x")
    assert check_writable(tmp_path / "new" / "deep") == tmp_path / "new" / "deep"
    assert list(tmp_path.iterdir()) == [path]
    for act in (check_writable, lambda folder: write_atomic(folder / "b", "x")):
        with pytest.raises(InputError, match="^out: expected a directory that can be written, "):
            act(path / "a")
