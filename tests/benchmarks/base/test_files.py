"""Files of strangers cost no more than a file should, and what is no file is not opened."""

from __future__ import annotations

import bz2
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
from benchmarks.base.errors import DataError, UsageError
from benchmarks.base.files import (
    check_file,
    file_digest,
    open_file,
    open_unpacked,
    parse_json,
    read_file,
    read_packed,
    read_unpacked,
)

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
    with pytest.raises(DataError, match=rf"name cannot be read \({reason}\)"), open_unpacked(path, str):
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
