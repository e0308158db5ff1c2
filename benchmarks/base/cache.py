"""A folder of cached arrays: written whole or not at all, checked by hash when read, never unpickled."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import RunError, UnreadableError, UsageError
from benchmarks.base.files import check_file, expanded, file_digest, new_folder, put_in_place, write_json
from benchmarks.base.locks import Taken, lock

__all__ = [
    "CachedArrays",
    "DamagedCache",
    "cache_folder",
    "cached_files",
    "delete_cached",
    "digest",
    "load_or_build",
    "read_arrays",
    "read_cached",
    "read_source",
    "record_source",
    "write_arrays",
]

_FORMAT = 1
_MANIFEST = "manifest.json"
# The names that `new_folder` and `put_in_place` give to temporary folders; the cache may hold files of other programs.
_TEMPORARY = re.compile(r"\.([a-z]+-[0-9a-f]{32})\.[0-9a-f]{8}(\.old)?")
_ARRAYS = re.compile(r"[a-z]+-[0-9a-f]{32}")

Arrays = dict[str, NDArray[Any]]


class DamagedCache(Exception):  # noqa: N818 - a state of the cache that its readers repair, never seen by a user
    """A cached folder is incomplete, altered, or of another format version."""


class CachedArrays:
    """A dataclass of cached arrays that is pickled as their paths, so that another process maps the same files.

    Workers of a cluster need the cache on a file system that they share.
    """

    def __getstate__(self) -> dict[str, Any]:
        """Replace every array that is a whole file of the cache with its path."""
        return {name: _file_of(value) or value for name, value in vars(self).items()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Map the files again."""
        vars(self).update({name: _map(value) if isinstance(value, Path) else value for name, value in state.items()})


def _file_of(value: object) -> Path | None:
    """Return the file behind an array that `_map` returned; None for any other value."""
    if isinstance(value, np.ndarray) and isinstance(base := value.base, np.memmap):
        is_whole = not isinstance(base.base, np.ndarray) and base.shape == value.shape
        return Path(base.filename) if is_whole and base.filename else None
    return None


def _map(path: Path) -> NDArray[Any]:
    # A plain view of the map: slicing the memmap subclass costs several times as much.
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def cache_folder() -> Path:
    """Return the folder that holds caches: SEN_BENCH_CACHE, else sen-bench in the user's cache folder (XDG).

    Raises:
        UsageError: Nothing says where that is.
    """
    if folder := os.environ.get("SEN_BENCH_CACHE"):
        return expanded(folder)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sen-bench"
    except RuntimeError:
        raise UsageError("This user has no home folder: set SEN_BENCH_CACHE to a folder for the cache.") from None


def digest(**facts: object) -> str:
    """Return the sha256, in hexadecimal, of facts that JSON can express: the key of what is computed from them."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def load_or_build(
    name: str, build: Callable[[], Iterable[Mapping[str, NDArray[Any]]]], meta: Mapping[str, Any]
) -> Arrays:
    """Return the arrays cached under a name, after building them where they are missing or damaged.

    Of several processes that miss the same arrays, one builds them while the others wait.

    Args:
        name: Name of the folder in the cache; it must change with everything that the arrays depend on.
        build: Yields the arrays in chunks, as `write_arrays` takes them.
        meta: What the arrays were made from, for people who look into the cache.

    Raises:
        UsageError: The cache folder cannot be written.
        RunError: The arrays cannot be built, or the disk alters them.
    """
    folder = cache_folder() / name
    with suppress(DamagedCache):
        return read_arrays(folder)
    with _writing(folder), lock(_lock_path(folder), f"building the cache {folder}") as is_held:
        try:
            return read_arrays(folder)  # another process may have built them meanwhile
        except DamagedCache as damage:
            if folder.exists():
                logging.getLogger("sen_bench").warning("The cache %s is rebuilt: %s.", folder, damage)
        if is_held:
            _sweep(folder)
        write_arrays(folder, build(), meta)
        try:
            return read_arrays(folder)
        except DamagedCache as damage:
            raise RunError(f"The cache {folder} is damaged as soon as it is written ({damage}): try again.") from None


def read_cached(name: str) -> Arrays | None:
    """Return the arrays cached under a name, see `read_arrays`; None where they are missing or damaged.

    Raises:
        UsageError: Nothing says where the cache is.
    """
    with suppress(DamagedCache):
        return read_arrays(cache_folder() / name)
    return None


def cached_files() -> dict[Path, list[Path]]:
    """Return the folders of arrays in the cache, also those cut short, each with the files that sen-bench wrote in it.

    Raises:
        UsageError: Nothing says where the cache is.
    """
    cache = cache_folder()
    folders = [
        path
        for path in (sorted(cache.iterdir()) if cache.is_dir() else ())
        if (_ARRAYS.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name)) and path.is_dir()
    ]
    return {
        folder: [path for path in folder.iterdir() if path.suffix == ".npy" or path.name == _MANIFEST]
        for folder in folders
    }


def delete_cached(folder: Path, files: Sequence[Path]) -> bool:
    """Delete files of a folder of arrays, and the folder if nothing else is in it.

    Returns:
        Whether that was done; it is not where another process is building these arrays.
    """
    found = _TEMPORARY.fullmatch(folder.name)
    try:
        with lock(_lock_path(folder.with_name(found[1]) if found else folder)):
            for path in files:
                path.unlink(missing_ok=True)
            with suppress(OSError):  # something else is in it
                folder.rmdir()
    except Taken:
        return False
    return True


def record_source(key: str, path: Path) -> None:
    """Note, for this machine alone, from where data were read; a cache that cannot be written notes nothing.

    Args:
        key: Hash of the data.
        path: Their file or folder.
    """
    file = _source_file(key)
    if read_source(key) != (path := path.absolute()):
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {"path": str(path)})


def read_source(key: str) -> Path | None:
    """Return from where data were read, by their hash; None if that is not known, or nothing is there any more."""
    try:
        path = Path(json.loads(_source_file(key).read_bytes())["path"])
        return path if path.exists() else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _source_file(key: str) -> Path:
    return cache_folder() / "sources" / f"{key[:32]}.json"


def write_arrays(folder: Path, chunks: Iterable[Mapping[str, NDArray[Any]]], meta: Mapping[str, Any]) -> None:
    """Write each array to an .npy file, with a manifest of sizes and hashes; `folder` appears complete or not at all.

    Args:
        folder: The folder to write; an existing one is replaced. If two processes write at once, the later one wins.
        chunks: At least one mapping from name to array. The arrays of one name are joined along the first axis; only
            one chunk is held in memory at a time.
        meta: Kept in the manifest, which is JSON.

    Raises:
        UsageError: The folder cannot be written.
        RunError: The system refuses what making the chunks needs, such as another process.
    """
    with _writing(folder), new_folder(folder) as temporary:
        entries = _write_chunks(temporary, _checked(chunks))
        write_json(temporary / _MANIFEST, {"format": _FORMAT, "meta": meta, "arrays": entries})
        put_in_place(temporary, folder)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = (
            f"Cannot write to the cache folder {folder.parent} ({error.strerror}): set SEN_BENCH_CACHE to another."
        )
        raise UsageError(message) from error


def _lock_path(folder: Path) -> Path:
    """Where the lock lies that is held while a folder of the cache is built."""
    return folder.with_name(f".{folder.name}.lock")


def _sweep(folder: Path) -> None:
    """Remove the temporary folders that killed processes left in the cache: nobody holds the locks of those builds.

    Args:
        folder: The folder that this process is going to build, holding its lock.
    """
    for path in folder.parent.glob(".*"):
        if found := _TEMPORARY.fullmatch(path.name):
            build = folder.with_name(found[1])
            with (
                suppress(OSError, Taken),
                nullcontext(True) if build == folder else lock(_lock_path(build)) as is_held,
            ):
                if is_held:
                    shutil.rmtree(path)


def _checked(chunks: Iterable[Mapping[str, NDArray[Any]]]) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Yield the chunks; an error of the system in making them must not look like one in writing them.

    Raises:
        RunError: The system refuses to make a chunk.
    """
    try:
        yield from chunks
    except OSError as error:
        raise RunError(
            f"Crystals cannot be read or graphs built ({error}). Where the system limits processes or shared memory, "
            "`sen-bench prepare` with --jobs 1 does it in one process; other commands then find all of it in the cache."
        ) from error


def _write_chunks(folder: Path, chunks: Iterable[Mapping[str, NDArray[Any]]]) -> dict[str, dict[str, Any]]:
    """Write the arrays and return the manifest's entry for each file."""
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        whole: dict[str, tuple[int, NDArray[Any]]] = {}
        for chunk in chunks:
            for name, array in chunk.items():
                if name not in files:
                    files[name] = stack.enter_context((folder / f"{name}.npy").open("w+b"))
                    _write_header(files[name], 0, array)
                rows, _ = whole.get(name, (0, array))
                whole[name] = (rows + len(array), array[:0])
                files[name].write(np.ascontiguousarray(array).data)
        for name, file in files.items():
            file.seek(0)
            _write_header(file, *whole[name])
            file.flush()
            os.fsync(file.fileno())
    return {
        path.name: {"size": path.stat().st_size, "sha256": file_digest(path)} for path in sorted(folder.glob("*.npy"))
    }


def _write_header(file: BinaryIO, rows: int, like: NDArray[Any]) -> None:
    """Write an .npy header; numpy pads it, so that its length stays the same when the number of rows is set later."""
    header = {
        "descr": np.lib.format.dtype_to_descr(like.dtype),
        "fortran_order": False,
        "shape": (rows, *like.shape[1:]),
    }
    np.lib.format.write_array_header_1_0(file, header)


def read_arrays(folder: Path) -> Arrays:
    """Return a folder's arrays, memory-mapped and read-only, after checking them against the manifest.

    Raises:
        DamagedCache: The manifest or an array is missing or altered, or has another format version.
    """
    try:
        manifest = _read_manifest(folder)
        arrays = {}
        for name, entry in manifest["arrays"].items():
            path = folder / name
            if problem := check_file(path, entry["sha256"], entry["size"]):
                raise DamagedCache(problem)
            arrays[path.stem] = _map(path)
        added = {path.name for path in folder.glob("*.npy")} - manifest["arrays"].keys()
    except UnreadableError as error:  # unlike a result, it can be built again
        raise DamagedCache(f"an array in it cannot be read ({error.__cause__})") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCache(f"its manifest or an array is altered ({error})") from error
    if added:
        raise DamagedCache(f"{min(added)} was added to it")
    return arrays


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest, which must have the format that this version writes."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
    except FileNotFoundError:
        raise DamagedCache(f"{_MANIFEST} is missing") from None
    except OSError as error:
        raise DamagedCache(f"{_MANIFEST} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DamagedCache(f"{_MANIFEST} is cut or altered ({error})") from error
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise DamagedCache(f"{_MANIFEST} is altered")
    if manifest["format"] != _FORMAT:
        raise DamagedCache(f"it was written by another version (format {manifest['format']}, this is {_FORMAT})")
    return manifest
