"""Files are read packed or plain, written completely or not at all, and hashed."""

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
from collections.abc import Callable, Iterator, Mapping
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
    "reading",
    "write_bytes",
    "write_json",
]

# The first bytes of packed files.
_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"


def expanded(path: str | Path) -> Path:
    """Return a path with ~ or ~user replaced by the home folder; unchanged where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def file_digest(path: AnyPath) -> str:
    """Return the sha256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: AnyPath, sha256: str, size: int) -> str | None:
    """Return what is wrong with a file whose hash and size in bytes were recorded; None if nothing is."""
    try:
        with path.open("rb") as file:
            if (found := file.seek(0, os.SEEK_END)) != size:
                return f"{path.name} is {found} bytes long, not {size}: it is cut, or something was added to it"
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
    """Return the content of a file, unpacked where gzip or bzip2 packed it, whatever its name.

    Raises:
        UsageError: The file cannot be read.
        DataError: The file is empty, cut or damaged.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from None
    try:
        if raw.startswith(_GZIP):
            raw = gzip.decompress(raw)
        elif raw.startswith(_BZIP2):
            raw = bz2.decompress(raw)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise DataError(f"{path} is cut or damaged ({error}).") from None
    if not raw.strip():
        raise DataError(f"{path} is empty.")
    return raw


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise DataError where the system refuses to read a file in the block."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error


@contextmanager
def open_unpacked(path: Path, position: Callable[[], str]) -> Iterator[gzip.GzipFile | BufferedReader]:
    """Open a file to be read in chunks, unpacked where gzip packed it.

    Args:
        path: The file.
        position: Returns how far the file was read, such as "row 5", for the message about damage.

    Raises:
        DataError: The file cannot be read, it is cut or damaged, or it is not gzipped although its name says so.
    """
    with reading(path):
        with path.open("rb") as file:
            is_gzipped = file.read(len(_GZIP)) == _GZIP
        if path.suffix == ".gz" and not is_gzipped:
            raise DataError(f"{path} is not gzipped although its name ends in .gz; download it again or rename it.")
        try:
            with gzip.open(path) if is_gzipped else path.open("rb") as file:
                yield file
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path} is damaged after {position()} ({error}); download or write it again.") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one step; it is on the disk when this function returns."""
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
    """Write a mapping, made `plain`, as a JSON file in one step; it is on the disk when this function returns."""
    write_bytes(path, f"{json.dumps(plain(content), indent=1, allow_nan=False)}\n".encode())


def plain(value: Any) -> Any:
    """Return a value as JSON would return it: arrays become lists, numbers that are not finite become None.

    Bytes of a file's name that are not UTF-8 become escapes, because other readers of JSON refuse lone surrogates.

    Raises:
        TypeError: JSON cannot express the value.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if value is None or isinstance(value, int):
        return value
    raise TypeError(f"JSON holds numbers, text, lists and dictionaries, not {type(value).__name__}")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a new hidden folder next to `folder`, to be filled and put in place; whatever is left of it is removed."""
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_in_place(temporary: Path, folder: Path) -> None:
    """Rename a complete folder to its final name, replacing what another process, or an older run, left there.

    Its files are on the disk before it has that name; the name is on the disk when this function returns.
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
    """Make the system write a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
