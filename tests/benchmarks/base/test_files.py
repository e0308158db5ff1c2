"""What the system refuses to read is tried again, and is not taken for damaged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from benchmarks.base.errors import UnreadableError
from benchmarks.base.files import check_file, file_digest, parse_json, read_again


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
