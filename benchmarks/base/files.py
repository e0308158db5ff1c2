"""Files read whatever packed them, written whole or not at all, and hashed."""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import json
import math
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from benchmarks.base.errors import DataError, UsageError
from benchmarks.base.zip_path import AnyPath

__all__ = [
    "check_file",
    "expanded",
    "file_digest",
    "new_folder",
    "open_unpacked",
    "plain",
    "put_in_place",
    "read_unpacked",
    "write_bytes",
    "write_json",
]


def expanded(path: str | Path) -> Path:
    """Return a path with the home folder in place of ~ or ~user; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def file_digest(path: AnyPath) -> str:
    """Return the sha256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: AnyPath, sha256: str, size: int) -> str | None:
    """Return what is wrong with a file of which the hash and the size in bytes were recorded, if anything."""
    try:
        with path.open("rb") as file:
            if (found := file.seek(0, os.SEEK_END)) != size:
                return f"{path.name} is {found} bytes long, not {size}: it is cut or was added to"
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256:
            return f"{path.name} is altered: its hash is not the one recorded when it was written"
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    return None


def read_unpacked(path: Path) -> bytes:
    """Return what a file holds, unpacked where gzip or bzip2 packed it, whatever its name.

    Raises:
        UsageError: There is no such file.
        DataError: It is empty, cut or damaged.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from None
    try:
        if raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
        elif raw.startswith(b"BZh"):
            raw = bz2.decompress(raw)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise DataError(f"{path} is cut or damaged ({error}).") from None
    if not raw.strip():
        raise DataError(f"{path} is empty.")
    return raw


@contextmanager
def open_unpacked(path: Path) -> Iterator[gzip.GzipFile | BufferedReader]:
    """Open a file that is read piece by piece; what gzip packed is unpacked on the way.

    Raises:
        DataError: It is not gzipped although its name says so.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    if path.suffix == ".gz" and not gzipped:
        raise DataError(f"{path} is not gzipped although its name ends in .gz; download it again or rename it.")
    with gzip.open(path) if gzipped else path.open("rb") as file:
        yield file


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one step; it is on the disk when this returns."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write what `plain` makes of a mapping as a JSON file in one step; it is on the disk when this returns."""
    write_bytes(path, f"{json.dumps(plain(content), indent=1, allow_nan=False)}\n".encode())


def plain(value: Any) -> Any:
    """Return a value as JSON gives it back: arrays become lists, numbers that are not finite None.

    Raises:
        TypeError: JSON has nothing for it.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"JSON holds numbers, text, lists and dictionaries, not {type(value).__name__}")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a new hidden folder beside `folder`, to be filled and put in place; what is left of it is removed."""
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(temporary: Path, folder: Path) -> None:
    """Rename a complete folder to its final name, moving away what another process, or an older run, left there.

    Its files are on the disk before it bears that name, and the name is when this returns.
    """
    for path in (*temporary.iterdir(), temporary):
        _sync(path)
    while True:
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
        else:
            break
        discarded = folder.with_name(f"{temporary.name}.old")
        try:
            folder.rename(discarded)
        except FileNotFoundError:
            continue
        shutil.rmtree(discarded, ignore_errors=True)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
