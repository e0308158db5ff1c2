"""Files are read packed or plain, written completely or not at all, and hashed.

A file that the user names may come from a stranger. So nothing but regular files is opened, because a pipe or a device
may never end; what is held in memory is bounded; and packed files may not unpack to many times their size.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import io
import json
import math
import os
import secrets
import shutil
import stat
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.base.errors import DataError, UnreadableError, UsageError, printable
from benchmarks.base.zip_path import MOST_IN_MEMORY, AnyPath

__all__ = [
    "BadFile",
    "check_file",
    "check_folder",
    "expanded",
    "file_digest",
    "is_full",
    "new_folder",
    "open_file",
    "open_unpacked",
    "parse_json",
    "plain",
    "put_in_place",
    "read_again",
    "read_file",
    "read_packed",
    "read_unpacked",
    "reading",
    "remedy",
    "size_problem",
    "write_bytes",
    "write_json",
]

_Stream = io.BufferedReader | io.BytesIO

# The first bytes of packed files.
_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"
# Files of crystals unpack to 5 to 10 times their size, and those of predictions to 3 to 5 times; zeros unpack to 1,000
# times with gzip, and to a million times with bzip2. Small files may be very regular.
_MOST_TIMES = 50
_SMALL = 2**24
_CHUNK = 2**20
# Levels of lists and objects in JSON: a submission has 6, and functions that call themselves get to some 300.
_MOST_LEVELS = 100


class BadFile(Exception):  # noqa: N818 - its message becomes part of a sentence
    """A file is cut, damaged or too large; the message completes the sentence "FILE ..."."""


# There is no file of this name.
_NO_FILE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EINVAL, errno.EFBIG),  # `read_file` refuses what is no file or too large
}
# What an archive holds under this name is damaged.
_DAMAGED = {errno.EBADMSG, None}
# Refusals that may pass, of disks and network file systems or for lack of file descriptors; and the seconds between
# the trials.
_PASSING = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EINTR}
_PAUSES = (0.05, 0.2, 0.5)

P = TypeVar("P", Path, AnyPath)
T = TypeVar("T")


def expanded(path: str | Path) -> Path:
    """Return a path with ~ or ~user replaced by the home folder; unchanged where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def check_folder(path: Path, purpose: str) -> None:
    """Check that a path that the user names is a folder.

    Args:
        path: The path.
        purpose: The end of the sentence that says that it is none, such as "(--data-dir) to hold the files".

    Raises:
        UsageError: Nothing is there, or something else.
    """
    if not path.is_dir():
        what = f"{path} is a file and no folder" if path.exists() else f"There is no folder {path}"
        raise UsageError(f"{what} {purpose}.")


def is_full(error: OSError) -> bool:
    """Whether something could not be written for lack of space."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def remedy(error: OSError) -> str:
    """Return what to do where a folder cannot be written, for a message: "free disk space"."""
    return "free disk space" if is_full(error) else "make it writable"


def open_file(path: AnyPath) -> _Stream:
    """Open a regular file to read its bytes.

    Raises:
        OSError: It cannot be read, or is a pipe, a device or a socket; `strerror` says why.
    """
    if isinstance(path, Path):
        kind = stat.S_IFMT(path.stat().st_mode)
        if kind not in {stat.S_IFREG, stat.S_IFDIR}:  # opening a folder says what it is
            raise OSError(errno.EINVAL, "it is a pipe, a device or a socket, and no file", str(path))
    return path.open("rb")


def read_file(path: AnyPath) -> bytes:
    """Return the content of a regular file as it is.

    Raises:
        OSError: It cannot be read, is no regular file, or has more than `MOST_IN_MEMORY` bytes.
    """
    with open_file(path) as file:
        if file.seek(0, os.SEEK_END) > MOST_IN_MEMORY:
            raise OSError(errno.EFBIG, f"it has more than {MOST_IN_MEMORY / 2**20:g} MiB", str(path))
        file.seek(0)
        return file.read()


def file_digest(path: AnyPath) -> str:
    """Return the sha256 of a file's content in hexadecimal."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_again(path: P, read: Callable[[P], T]) -> T:
    """Return what a function reads of a path; where the system refuses and that may pass, try again a few times.

    Raises:
        UnreadableError: The system refuses still, or for a reason that does not pass.
        OSError: There is no such file or folder, or it is damaged in its archive.
    """
    pauses = iter(_PAUSES)
    while True:
        try:
            return read(path)
        except OSError as error:
            if error.errno in _NO_FILE | _DAMAGED:
                raise
            pause = next(pauses, None) if error.errno in _PASSING else None
            if pause is None:
                raise UnreadableError(
                    f"{path} cannot be read ({error.strerror}), which does not mean that it is damaged: nothing was "
                    "changed, so repeat the command when the system can read it."
                ) from error
            time.sleep(pause)


def check_file(path: AnyPath, sha256: str, size: int) -> str | None:
    """Return what is wrong with a file whose hash and size in bytes were recorded; None if nothing is.

    Raises:
        UnreadableError: See `read_again`.
    """

    def compare(path: AnyPath) -> str | None:
        with open_file(path) as file:
            if (found := file.seek(0, os.SEEK_END)) != size:
                return f"{path.name} is {found} bytes long, not {size}: it is cut, or something was added to it"
            file.seek(0)
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return f"{path.name} is altered: its hash is not the one recorded when it was written"
        return None

    try:
        return read_again(path, compare)
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"


def size_problem(unpacked: int, packed: int) -> str | None:
    """Return why a file of `packed` bytes that unpacks to `unpacked` is refused; None if it is not."""
    if unpacked <= max(_MOST_TIMES * packed, _SMALL):
        return None
    return f"unpacks to more than {_MOST_TIMES} times its size, which data do not: if it is right, unpack it"


class _Unpacking(io.RawIOBase):
    """What a gzip or bzip2 file of `size` bytes unpacks to."""

    def __init__(self, file: gzip.GzipFile | bz2.BZ2File, size: int) -> None:
        self._file = file
        self._size = size
        self._n_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            # All of what comes before a cut is read before the cut is.
            content = self._file.read1(min(len(buffer), _CHUNK))
        except (EOFError, OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.strerror:  # the system refuses to read on
                raise
            raise BadFile(f"is cut or damaged ({error}): download or write it again") from error
        buffer[: len(content)] = content
        self._n_bytes += len(content)
        if problem := size_problem(self._n_bytes, self._size):
            raise BadFile(problem)
        return len(content)


@contextmanager
def _unpacked(path: Path) -> Iterator[_Stream]:
    """Open a regular file to be read unpacked where gzip or bzip2 packed it, whatever its name.

    Raises:
        OSError: It cannot be read, or is no regular file.
        BadFile: It is cut, damaged, or unpacks to far more than data do. Reading it may raise this, too.
    """
    with open_file(path) as file:
        begin = file.read(len(_BZIP2))
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if begin.startswith(_GZIP) or begin == _BZIP2:
            packed = gzip.GzipFile(fileobj=file) if begin.startswith(_GZIP) else bz2.BZ2File(file)
            yield io.BufferedReader(_Unpacking(packed, size), _CHUNK)
        else:
            yield file


def read_packed(path: Path) -> bytes:
    """Return the content of a regular file, unpacked where gzip or bzip2 packed it, whatever its name.

    Raises:
        OSError: It cannot be read, or is no regular file.
        BadFile: It is cut or damaged, unpacks to far more than data do, or has more than `MOST_IN_MEMORY` bytes.
    """
    with _unpacked(path) as file:
        content = file.read(MOST_IN_MEMORY + 1)
    if len(content) > MOST_IN_MEMORY:
        raise BadFile(f"has more than {MOST_IN_MEMORY / 2**20:g} MiB, which is the most that is read")
    return content


def read_unpacked(path: Path) -> bytes:
    """Return the content of a file as `read_packed` does.

    Raises:
        UsageError: There is no regular file of this name.
        DataError: The file cannot be read, or is empty, cut, damaged or too large.
    """
    try:
        with reading(path):
            raw = read_again(path, read_packed)
    except BadFile as problem:
        raise DataError(f"{path} {problem}.") from None
    if not raw.strip():
        raise DataError(f"{path} is empty.")
    return raw


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system says about a file that the user named, and the block reads, into an error of sen-bench.

    Raises:
        UsageError: There is no regular file of this name.
        DataError: The system refuses to read it.
    """
    try:
        yield
    except OSError as error:
        kind = UsageError if error.errno in _NO_FILE else DataError
        raise kind(f"{path} cannot be read ({error.strerror}).") from error


@contextmanager
def open_unpacked(path: Path, position: Callable[[], str]) -> Iterator[_Stream]:
    """Open a regular file to be read in chunks, unpacked where gzip or bzip2 packed it.

    Args:
        path: The file.
        position: Returns how far the file was read, such as "row 5", for the message about what is wrong with it.

    Raises:
        UsageError: There is no regular file of this name.
        DataError: The file cannot be read, is empty, or is not gzipped although its name says so; or `BadFile` was
            raised in the block, by reading the file or by the caller.
    """
    with reading(path):
        with open_file(path) as file:
            begin = file.read(len(_GZIP))
        if not begin:
            raise DataError(f"{path} is empty.")
        if path.suffix == ".gz" and begin != _GZIP:
            raise DataError(f"{path} is not gzipped although its name ends in .gz; download it again or rename it.")
        try:
            with _unpacked(path) as file:
                if isinstance(file, io.BufferedReader) and not file.peek(1):
                    raise DataError(f"{path} is empty.")
                yield file
        except BadFile as problem:
            raise DataError(f"{path} {problem}; it was read to {position()}.") from problem


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


def parse_json(text: str | bytes) -> Any:
    """Parse JSON, in which no object may have one key twice, as Python would keep only the last of its values.

    Raises:
        ValueError: It is not JSON, an object has one key twice, or it is nested so deeply that functions which call
            themselves could not walk it.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
            raise ValueError(f"an object in it has the key {printable(repr(twice))} twice")
        return found

    too_deep = ValueError(f"its lists and objects are nested more than {_MOST_LEVELS} deep")
    try:
        content = json.loads(text, object_pairs_hook=unique)
    except RecursionError:
        raise too_deep from None
    level = [content] if isinstance(content, dict | list) else []
    for _ in range(_MOST_LEVELS):
        containers = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for inner in containers for item in inner if isinstance(item, dict | list)]
    if level:
        raise too_deep
    return content


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
