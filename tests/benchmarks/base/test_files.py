"""Files of strangers cost no more than a file should; what the system refuses is tried again and is not damaged."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.base import files
from benchmarks.base.errors import DataError, UnreadableError, UsageError
from benchmarks.base.files import (
    check_file,
    file_digest,
    open_file,
    open_unpacked,
    parse_json,
    read_again,
    read_file,
    read_packed,
    read_unpacked,
    remedy,
    write_json,
)


def refusing(numbers: list[int]):
    """Return a function that reads a file after refusals with these error numbers."""
    left = iter(numbers)

    def read(path: Path) -> bytes:
        if number := next(left, 0):
            raise OSError(number, os.strerror(number))
        return path.read_bytes()

    return read


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.base.files._PAUSES", (0, 0, 0))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    return path


@pytest.mark.parametrize("name", ["EIO", "EMFILE", "ENFILE", "ESTALE", "EINTR"])
def test_a_refusal_that_passes_is_not_noticed(file: Path, name: str) -> None:
    number = getattr(errno, name)
    assert read_again(file, refusing([number] * 3)) == b"1"
    with pytest.raises(UnreadableError, match=r"cannot be read \(.*\), which does not mean that it is damaged"):
        read_again(file, refusing([number] * 4))


def test_lack_of_permission_is_not_tried_again_and_a_missing_file_is_missing(file: Path) -> None:
    with pytest.raises(UnreadableError, match="Permission denied"):
        read_again(file, refusing([errno.EACCES]))
    with pytest.raises(FileNotFoundError):
        read_again(file.with_name("b"), Path.read_bytes)


def test_a_file_is_checked_only_where_it_can_be_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = file_digest(file)
    assert check_file(file, sha256, 1) is None
    assert check_file(file, sha256, 2) == "a is 1 bytes long, not 2: it is cut, or something was added to it"
    assert check_file(file.parent, sha256, 1) == f"{file.parent.name} cannot be read (Is a directory)"
    monkeypatch.setattr("hashlib.file_digest", lambda *_: refusing([errno.EIO])(file))
    with pytest.raises(UnreadableError):
        check_file(file, sha256, 1)


def test_an_object_of_json_has_a_key_once() -> None:
    assert parse_json(b'{"a": {"b": 1}, "b": [{}, {"a": 2}]}') == {"a": {"b": 1}, "b": [{}, {"a": 2}]}
    with pytest.raises(ValueError, match="an object in it has the key 'b' twice"):
        parse_json(b'[{"a": {"b": 1, "c": 2, "b": 1}}]')


# Reads the file of its first argument and prints the sentence and the most memory that the process had.
READ = """
import sys
from pathlib import Path
from benchmarks.base.errors import DataError
from benchmarks.base.files import open_unpacked, read_unpacked
from benchmarks.base.machine import peak_memory
path, streamed = Path(sys.argv[1]), sys.argv[2] == "streamed"
try:
    if streamed:
        with open_unpacked(path, lambda: "row 0") as file:
            while file.read(2**20):
                pass
    else:
        read_unpacked(path)
except DataError as error:
    print(error)
print(peak_memory())
"""


@pytest.mark.parametrize("way", ["whole", "streamed"])
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_two_megabytes_that_unpack_to_two_gigabytes_are_not_unpacked(
    tmp_path: Path, compress: Callable[[bytes], bytes], way: str
) -> None:
    path = tmp_path / "packed"
    path.write_bytes(compress(bytes(2**25)) * 64)
    command = [sys.executable, "-c", READ, str(path), way]
    sentence, memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert f"{path} unpacks to more than 50 times its size" in sentence
    assert int(memory) < 300e6


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, bytes])
def test_small_files_may_be_regular_and_large_ones_plain(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "file"
    content = b"1" * files._SMALL
    path.write_bytes(compress(content))
    assert read_unpacked(path) == content
    with open_unpacked(path, str) as file:
        assert b"".join(iter(lambda: file.read(10**6), b"")) == content


def test_what_is_held_in_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_IN_MEMORY", 10)
    for name, write in (("plain", bytes), ("packed", gzip.compress)):
        path = tmp_path / name
        path.write_bytes(write(bytes(10)))
        assert read_packed(path) == bytes(10)
        path.write_bytes(write(bytes(11)))
        with pytest.raises(DataError, match=rf"{name} has more than 9\.5.*e-06 MiB"):
            read_unpacked(path)
    with pytest.raises(OSError, match="it has more than"):
        read_file(tmp_path / "plain")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (pipe, "it is a pipe, a device or a socket, and no file"),
        (device, "it is a pipe, a device or a socket, and no file"),
        (loop, "Too many levels of symbolic links"),
        (Path.mkdir, "Is a directory"),
    ],
)
def test_what_is_no_file_is_not_opened(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    path = tmp_path / "name"
    make(path)
    for read in (open_file, read_file, read_packed, file_digest):
        with pytest.raises(OSError, match=reason):
            read(path)
    with pytest.raises(UsageError, match=rf"name cannot be read \({reason}\)"):
        read_unpacked(path)
    with pytest.raises(UsageError, match=rf"name cannot be read \({reason}\)"), open_unpacked(path, str):
        pass
    assert check_file(path, hashlib.sha256().hexdigest(), 0) == f"name cannot be read ({reason})"


@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a": ', "}"), ('[{"a": ', "}]")])
def test_json_is_nested_a_hundred_deep_and_no_deeper(begin: str, end: str) -> None:
    levels = 100 // len(end)
    deep = f"{begin * levels}1{end * levels}"
    assert json.dumps(parse_json(deep)) == deep
    for text in (f"[{deep}]", begin * 10**5 + "1" + end * 10**5, begin * 400 + "1" + end * 400):
        with pytest.raises(ValueError, match="nested more than 100 deep"):
            parse_json(text)
    assert parse_json(b'[1, {"a": []}, "' + b"[" * 200 + b'"]') == [1, {"a": []}, "[" * 200]


def test_bytes_of_a_name_that_are_no_utf_8_become_escapes_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"file": os.fsdecode(b"Si\xff.cif"), "greek": "\u0394"})
    text = (tmp_path / "a.json").read_bytes().decode()
    assert json.loads(text) == {"file": "Si\\udcff.cif", "greek": "\u0394"}


def test_only_a_full_disk_needs_space() -> None:
    assert remedy(OSError(errno.ENOSPC, "No space left on device")) == "free disk space"
    assert remedy(PermissionError(errno.EACCES, "Permission denied")) == "make it writable"
