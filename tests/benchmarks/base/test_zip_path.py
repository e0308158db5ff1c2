"""A zip archive is read like a folder, and what is no archive of results is refused in one sentence."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.base.errors import DataError, SenBenchError, UsageError
from benchmarks.base.zip_path import ZipPath, open_path

FILES = {"task/run/config.json": b"{}", "task/run/seed_0/fold_10/a.csv": b"1", "task/run/seed_0/fold_2/a.csv": b"2"}


def write(path: Path, files: Mapping[str, bytes] = FILES) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def unpacked(path: Path) -> Path:
    zipfile.ZipFile(path).extractall(path.with_suffix(""))
    return path.with_suffix("")


def test_an_archive_is_read_as_the_folder_it_unpacks_to(tmp_path: Path) -> None:
    archive = write(tmp_path / "results.zip")
    folder, place = unpacked(archive), open_path(archive)
    assert isinstance(place, ZipPath)
    assert open_path(place) is place
    for name in (".", "task", "task/run", "task/run/config.json", "task/run/seed_0/fold_2", "none", "none/a", ".."):
        ours, theirs = place / name, folder / name
        inside = name != ".."
        assert (ours.is_dir(), ours.exists()) == (inside and theirs.is_dir(), inside and theirs.exists()), name
        assert str(ours) == str(theirs).replace(str(folder), str(archive))
        assert ours == open_path(archive / name)
        if inside and theirs.exists():
            assert (ours.name or "results", ours.parts[-1]) == (
                theirs.name if name != "." else "results.zip",
                ours.name,
            )
            for pattern in ("*", "run/seed_*/fold_*", "seed_*/fold_*", "config.json", "seed_?/fold_1*"):
                assert {str(path) for path in ours.glob(pattern)} == {
                    str(path).replace(str(folder), str(archive)) for path in theirs.glob(pattern)
                }
    found = [*place.rglob("a.csv")]
    assert [path.read_bytes() for path in found] == [b"1", b"2"]
    assert found[0].parent.parent == place / "task/run/seed_0"
    assert found[0].resolve().file == archive.resolve()
    with found[0].open("rb") as file:
        assert file.read() == b"1"
    with pytest.raises(FileNotFoundError, match=r"results\.zip/task/none"):
        (place / "task" / "none").read_bytes()
    with pytest.raises(IsADirectoryError):
        (place / "task").read_bytes()


def test_what_is_no_archive_stays_a_path(tmp_path: Path) -> None:
    assert open_path(tmp_path) == tmp_path
    assert open_path(tmp_path / "none" / "deeper") == tmp_path / "none" / "deeper"
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(UsageError, match=r"notes\.txt is neither a folder nor an archive"):
        open_path(text)
    assert open_path(text / "task") == text / "task"


def encrypt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "is cut or damaged"),
        (lambda path: path.write_bytes(b"PK"), "is cut or damaged"),
        (encrypt, r"task/run/config\.json is encrypted"),
        (lambda path: write(path, {"/etc/passwd": b""}), "'/etc/passwd' is not allowed as a name, or occurs twice"),
        (lambda path: write(path, {"a/../../b": b""}), "is not allowed as a name, or occurs twice"),
        (lambda path: write(path, {f"{i}": b"" for i in range(8)}), "holds 8 files, more than the 7 that are allowed"),
        (lambda path: write(path, {"a": bytes(200), "b": bytes(200)}), "GiB unpacked, more than"),
        (lambda path: write(path, {"a": bytes(201)}), "a takes 0 MiB unpacked, more than the"),
    ],
)
def test_damaged_foreign_and_huge_archives_are_refused(tmp_path: Path, monkeypatch, damage, reason: str) -> None:
    monkeypatch.setattr("benchmarks.base.zip_path.MOST_FILES", 7)
    monkeypatch.setattr("benchmarks.base.zip_path.MOST_BYTES", 399)
    monkeypatch.setattr("benchmarks.base.zip_path.MOST_IN_MEMORY", 200)
    path = write(tmp_path / "results.zip")
    damage(path)
    with pytest.raises(DataError, match=reason) as error:
        open_path(path / "task")
    assert str(path) in str(error.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "results.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "1")
        archive.writestr("a", "2")
    with pytest.raises(DataError, match="'a' is not allowed as a name, or occurs twice"):
        open_path(path)


def test_a_damaged_file_in_an_archive_cannot_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "results.zip", {"a": bytes(range(256)), "b": b"whole"})
    content = bytearray(path.read_bytes())
    content[40] ^= 255
    path.write_bytes(content)
    place = open_path(path)
    assert (place / "b").read_bytes() == b"whole"
    with pytest.raises(OSError, match=r"damaged in the archive: .*results\.zip/a"):
        (place / "a").read_bytes()
    at = content.index(b"PK\x01\x02")
    content[at + 10 : at + 12] = struct.pack("<H", 97)  # an unknown compression
    path.write_bytes(content)
    with pytest.raises(OSError, match="damaged in the archive"):
        (open_path(path) / "a").read_bytes()


def test_any_bytes_are_an_archive_or_refused(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.zip").read_bytes()
    path = tmp_path / "results.zip"
    for at in range(len(whole)):
        content = bytearray(whole)
        content[at] ^= 0x55
        path.write_bytes(content)
        try:
            for file in open_path(path).rglob("a.csv"):
                file.read_bytes()
        except (SenBenchError, OSError):
            pass
