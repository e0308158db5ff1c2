"""Files in a zip archive, read like files in a folder."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePath, PurePosixPath
from typing import Literal
from zipfile import ZipFile, ZipInfo

from benchmarks.base.errors import DataError, UsageError, printable

__all__ = [
    "MOST_BYTES",
    "MOST_FILES",
    "MOST_IN_MEMORY",
    "AnyPath",
    "ZipPath",
    "find_archive",
    "find_files",
    "open_path",
]

MOST_FILES = 100_000
"""An archive with more files is refused."""

MOST_BYTES = 4 * 2**30
"""An archive that takes more memory when unpacked is refused."""

MOST_IN_MEMORY = 2**28
"""A file that is read as a whole, or a row of one that is read in chunks, is refused if it has more bytes unpacked.

A submission to all tasks of MatBench with uncertainties has about 75 MB.
"""

_MAGIC = b"PK"


@dataclass(frozen=True)
class ZipPath:
    """A file or folder in a zip archive, with the part of the interface of `Path` that reads.

    Its name is that of the archive, followed by the path inside it: "results.zip/matbench_phonons".

    Attributes:
        file: The archive.
        at: The path inside the archive.
    """

    file: Path
    at: PurePosixPath
    _content: _Content = field(compare=False, repr=False)

    def __truediv__(self, name: str | PurePath) -> ZipPath:
        """Return the path of a file or folder below this one."""
        return ZipPath(self.file, self.at / name, self._content)

    def __str__(self) -> str:
        return str(self.file / self.at)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the path."""
        return (self.file / self.at).parts

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.at.name or self.file.name

    @property
    def parent(self) -> ZipPath:
        """The folder that holds it."""
        return ZipPath(self.file, self.at.parent, self._content)

    def resolve(self) -> ZipPath:
        """Return the same path with the absolute path of the archive."""
        return ZipPath(self.file.resolve(), self.at, self._content)

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return self.at in self._content.folders

    def exists(self) -> bool:
        """Whether the archive has it."""
        return self.is_dir() or self.at in self._content.files

    def iterdir(self) -> Iterator[ZipPath]:
        """Yield what a folder holds."""
        return (self / name for name in self._content.folders.get(self.at, ()))

    def glob(self, pattern: str) -> Iterator[ZipPath]:
        """Yield what matches a pattern such as "seed_*/fold_*"; `**` is not supported."""
        first, _, rest = pattern.partition("/")
        for child in self.iterdir():
            if fnmatchcase(child.name, first):
                yield from child.glob(rest) if rest else (child,)

    def rglob(self, name: str) -> Iterator[ZipPath]:
        """Yield every file or folder of this name below a folder."""
        for child in self.iterdir():
            if child.name == name:
                yield child
            yield from child.rglob(name)

    def read_bytes(self) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: It is missing, a folder, or damaged.
        """
        info = self._content.files.get(self.at)
        if info is None:
            number = errno.EISDIR if self.is_dir() else errno.ENOENT
            raise OSError(number, os.strerror(number), str(self))
        try:
            return self._content.archive.read(info)
        except Exception as error:  # whatever the decompressors raise
            if isinstance(error, OSError) and error.errno is not None:  # the system refuses to read the archive
                raise
            raise OSError(errno.EBADMSG, f"it is damaged in the archive: {printable(error)}", str(self)) from error

    def open(self, mode: Literal["rb"] = "rb") -> io.BytesIO:  # noqa: ARG002 - as `Path.open`
        """Open a file to read bytes; see `read_bytes`."""
        return io.BytesIO(self.read_bytes())


AnyPath = Path | ZipPath
"""A path in a file system or in an archive."""


@dataclass(frozen=True, eq=False)
class _Content:
    """An open archive.

    Attributes:
        archive: The archive.
        files: The entry of each file.
        folders: The names in each folder, in order.
    """

    archive: ZipFile
    files: Mapping[PurePosixPath, ZipInfo]
    folders: Mapping[PurePosixPath, list[str]]


def find_archive(path: Path) -> Path | None:
    """Return the zip archive that a path is, or leads into; None where it is a path in a file system."""
    for file in (path, *path.parents):
        if file.is_file():
            with file.open("rb") as opened:
                return file if opened.read(len(_MAGIC)) == _MAGIC else None
    return None


def open_path(path: AnyPath) -> AnyPath:
    """Return a path as it is; one that is or leads into a zip archive, as a `ZipPath`.

    Raises:
        UsageError: It is a file, but no zip archive, or empty.
        DataError: It is a zip archive that is damaged, encrypted, too large, or has names that no archive of results
            has.
    """
    if isinstance(path, ZipPath):
        return path
    file = find_archive(path)
    if file is not None:
        return ZipPath(file, PurePosixPath(path.relative_to(file)), _open(file))
    if path.is_file():
        if not path.stat().st_size:
            raise UsageError(f"{path} is empty: name a folder, or an archive of results, such as results.zip.")
        raise UsageError(f"{path} is neither a folder nor an archive of results, such as results.zip.")
    return path


def _open(file: Path) -> _Content:
    try:
        archive = ZipFile(file)
    except OSError:
        raise
    except Exception as error:  # BadZipFile, and whatever else damaged entries lead to
        raise DataError(f"The archive {file} is cut or damaged ({printable(error)}).") from error
    entries = [info for info in archive.infolist() if not info.is_dir()]
    if problem := _problem(entries):
        archive.close()
        raise DataError(f"The archive {file} cannot be read: {problem}.")
    files = {PurePosixPath(info.filename): info for info in entries}
    children: dict[PurePosixPath, set[str]] = {PurePosixPath(): set()}
    for name in files:
        for path in (name, *name.parents[:-1]):
            children.setdefault(path.parent, set()).add(path.name)
    return _Content(archive, files, {folder: sorted(names) for folder, names in children.items()})


def _problem(entries: list[ZipInfo]) -> str | None:
    """Return why an archive with these files is refused, if it is."""
    if len(entries) > MOST_FILES:
        return f"it holds {len(entries):,} files, more than the {MOST_FILES:,} that are allowed"
    if (size := sum(info.file_size for info in entries)) > MOST_BYTES:
        return f"its files take {size / 2**30:,.1f} GiB unpacked, more than the {MOST_BYTES / 2**30:g} that are allowed"
    if large := next((info for info in entries if info.file_size > MOST_IN_MEMORY), None):
        allowed = f"the {MOST_IN_MEMORY / 2**20:g} that are allowed"
        return f"{printable(large.filename)} takes {large.file_size / 2**20:,.0f} MiB unpacked, more than {allowed}"
    if encrypted := next((info for info in entries if info.flag_bits & 1), None):
        return f"{printable(encrypted.filename)} is encrypted"
    names = set()
    for info in entries:
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or path in names:
            return f"{printable(info.filename)!r} is not allowed as a name, or occurs twice"
        names.add(path)
    return None


def find_files(root: AnyPath, names: Collection[str], on_problem: Callable[[str], None]) -> Iterator[AnyPath]:
    """Yield the files of these names below a folder, through links too.

    Args:
        root: The folder.
        names: The names.
        on_problem: Called with a sentence about each folder that cannot be read.
    """
    if isinstance(root, ZipPath):
        for name in names:
            yield from root.rglob(name)
        return
    seen = set()
    unreadable: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=unreadable.append, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a loop of links, or one folder by two ways
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(folder) / name for name in (*files, *folders) if name in names)
    for error in unreadable:
        on_problem(f"{error.filename} cannot be read ({error.strerror}).")
