"""The crystals of a data set as flat arrays, and how they are read, as a stream, from the MatBench layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.cache import CachedArrays, digest, load_or_build, read_cached, record_source
from benchmarks.base.errors import DataError, printable, suggest
from benchmarks.base.files import file_digest, reading
from benchmarks.base.workers import Progress
from benchmarks.data.rows import Fault, read_json_rows
from benchmarks.data.splitter import RowSplitter, split_file
from benchmarks.data.tasks import Kind
from sen.crystal import SYMBOLS, SYMPREC, Crystal, crystal_system

__all__ = [
    "UNRECORDED_SYMPREC",
    "CrystalTable",
    "Outline",
    "cached_matbench_json",
    "matbench_json_key",
    "read_matbench_json",
    "read_outline",
    "reduced_formula",
    "refinement_facts",
    "with_ptr",
]

#: Tolerance of the refinement in Å where none is recorded: version 0.1 had no other.
UNRECORDED_SYMPREC = 0.01

# Increased whenever the same file gives other crystals: runs on them are other runs.
_VERSION = 1
# Increased whenever the format of the cached arrays changes.
_CACHE_VERSION = 2


@dataclass(frozen=True)
class CrystalTable(CachedArrays):
    """M crystals with N atoms in all; the atoms of crystal i are `ptr[i]` to `ptr[i + 1]`.

    Attributes:
        lattice: Lattice vectors as rows in Å, float64 [M, 3, 3].
        positions: Fractional coordinates, float64 [N, 3].
        numbers: Atomic numbers, uint8 [N].
        orbit: Symmetry orbit of each atom, counted from 0 in its crystal, int32 [N].
        ptr: First atom of each crystal, int64 [M + 1].
        space_group: International number, int16 [M]; 0 where the symmetry search failed.
        target: Target value, float64 [M]; 0 and 1 for false and true.
        heavy_hydrogen: Whether a crystal contained deuterium or tritium, which are read as hydrogen, bool [M].
        row: Official row index; in own data the position in the table, int64 [M].
        ids: Id of each row as MatBench, or the file of own data, writes it, str [M].
        digest: Hash of the file and of everything done to it: the key of what is computed from the table.
    """

    lattice: NDArray[np.float64]
    positions: NDArray[np.float64]
    numbers: NDArray[np.uint8]
    orbit: NDArray[np.int32]
    ptr: NDArray[np.int64]
    space_group: NDArray[np.int16]
    target: NDArray[np.float64]
    heavy_hydrogen: NDArray[np.bool_]
    row: NDArray[np.int64]
    ids: NDArray[np.object_]
    digest: str

    def __len__(self) -> int:
        """Number of crystals M."""
        return len(self.target)

    @property
    def crystal_system(self) -> NDArray[np.str_]:
        """Crystal system of each crystal, unicode [M]."""
        names = np.array([crystal_system(number) for number in range(231)])
        return names[self.space_group]

    def elements(self, crystals: NDArray[np.int64]) -> list[str]:
        """Return the symbols of the elements in the crystals at these positions [n], in order of atomic number."""
        wanted = np.zeros(len(self), dtype=bool)
        wanted[crystals] = True
        numbers = np.unique(self.numbers[np.repeat(wanted, np.diff(self.ptr))])
        return [SYMBOLS[number - 1] for number in numbers.tolist()]

    def slice(self, start: int, stop: int) -> CrystalTable:
        """Return a copy of the crystals from `start` up to, not including, `stop`."""
        crystals = slice(start, stop)
        atoms = slice(self.ptr[start], self.ptr[stop])
        return CrystalTable(
            lattice=self.lattice[crystals].copy(),
            positions=self.positions[atoms].copy(),
            numbers=self.numbers[atoms].copy(),
            orbit=self.orbit[atoms].copy(),
            ptr=self.ptr[start : stop + 1] - self.ptr[start],
            space_group=self.space_group[crystals].copy(),
            target=self.target[crystals].copy(),
            heavy_hydrogen=self.heavy_hydrogen[crystals].copy(),
            row=self.row[crystals].copy(),
            ids=self.ids[crystals].copy(),
            digest=digest(table=self.digest, start=start, stop=stop),
        )

    def crystal(self, i: int) -> Crystal:
        """Return crystal i."""
        atoms = slice(self.ptr[i], self.ptr[i + 1])
        return Crystal(
            self.lattice[i], self.positions[atoms], self.numbers[atoms], self.orbit[atoms], int(self.space_group[i])
        )


def read_matbench_json(
    path: Path | str,
    target: str,
    *,
    row_id: Callable[[int], str],
    kind: Kind = "regression",
    symprec: float = SYMPREC,
    jobs: int = -1,
    progress: Progress | None = None,
) -> CrystalTable:
    """Read a data set in the MatBench layout, refine its crystals and cache them by the content of the file.

    The layout is a JSON object, gzipped or not, `{"index": [...], "columns": [...], "data": [[...], ...]}`, in which
    one column is "structure" (pymatgen dictionaries) and another the target. Neither the document nor its parsed form
    is ever complete in memory: chunks of it go to worker processes as bytes.

    Args:
        path: The file.
        target: Name of the target column.
        row_id: Returns the id of an official row index.
        kind: Whether the targets are numbers ("regression") or booleans ("classification").
        symprec: Tolerance of the refinement in Å.
        jobs: Worker processes; -1 is one per core.
        progress: Called with the number of rows read; not called where the cache has the crystals.

    Raises:
        UsageError: There is no such file.
        DataError: The file cannot be read, or is not what it claims to be; the message names the file and, if one is
            at fault, the row.
    """
    path = Path(path)
    with reading(path):
        content = file_digest(path)
    facts = _facts(content, target, symprec)
    key = digest(**facts)
    arrays = load_or_build(
        _folder(key),
        lambda: with_ptr(_chunks(path, target, kind, row_id, symprec, jobs, progress)),
        {"file": path.name, **facts},
    )
    record_source(key, path)
    return _with_ids(arrays, row_id, key)


def matbench_json_key(content: str, target: str, symprec: float) -> str:
    """Return the digest of the table that `read_matbench_json` reads from a file.

    Args:
        content: The sha256 of the file, in hexadecimal.
        target: Name of the target column.
        symprec: Tolerance of the refinement in Å.
    """
    return digest(**_facts(content, target, symprec))


def cached_matbench_json(key: str, row_id: Callable[[int], str]) -> CrystalTable | None:
    """Return the table of this digest that `read_matbench_json` read before; None where the cache does not have it.

    Raises:
        UsageError: Nothing says where the cache is.
    """
    arrays = read_cached(_folder(key))
    return None if arrays is None else _with_ids(arrays, row_id, key)


def _facts(content: str, target: str, symprec: float) -> dict[str, Any]:
    return {"content": content, "target": target, "version": _VERSION, **refinement_facts(symprec)}


def _folder(key: str) -> str:
    """Name of the folder of the cache that holds the table of this digest."""
    return f"crystals-{digest(crystals=key, version=_CACHE_VERSION)[:32]}"


def _with_ids(arrays: dict[str, NDArray[Any]], row_id: Callable[[int], str], key: str) -> CrystalTable:
    ids = np.array([row_id(row) for row in arrays["row"].tolist()], dtype=object)
    return CrystalTable(**arrays, ids=ids, digest=key)


def refinement_facts(symprec: float) -> dict[str, Any]:
    """Return what the refined crystals depend on beside their files: a part of the key of a table.

    The tolerance of version 0.1 is left out, so that its tables, and the runs on them, keep their keys.

    Args:
        symprec: Tolerance of the refinement in Å.
    """
    facts: dict[str, Any] = {"moyopy": version("moyopy")}
    return facts if symprec == UNRECORDED_SYMPREC else {**facts, "symprec": symprec}


def reduced_formula(numbers: NDArray[np.integer]) -> str:
    """Return the reduced formula of atomic numbers [n]: "NaCl"."""
    from pymatgen.core import Composition

    found, counts = np.unique(numbers, return_counts=True)
    composition = {SYMBOLS[z - 1]: n for z, n in zip(found.tolist(), counts.tolist(), strict=True)}
    return str(Composition(composition).reduced_formula)


def with_ptr(chunks: Iterable[dict[str, NDArray[Any]]]) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield chunks of a table, each of at least one crystal, with "ptr" in place of "count" (atoms of each crystal)."""
    atoms, first = 0, [0]
    for chunk in chunks:
        ends = atoms + np.cumsum(chunk.pop("count"))
        yield chunk | {"ptr": np.concatenate([first, ends]).astype(np.int64)}
        atoms, first = int(ends[-1]), []


@dataclass(frozen=True)
class Outline:
    """What a file in the MatBench layout says about its rows."""

    index: list[Any]
    columns: list[Any]


def read_outline(path: Path) -> Outline:
    """Read what a file in the MatBench layout says about its rows, and check that the index has one entry for each.

    Raises:
        DataError: The file does not have that layout.
    """
    splitter = RowSplitter()
    for _ in split_file(path, splitter):
        pass
    try:
        outline: Any = splitter.close()
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}; download it again.") from error
    for name in ("index", "columns", "data"):
        if not isinstance(outline.get(name) if isinstance(outline, dict) else None, list):
            message = f'{path} has no list "{name}"; the MatBench layout is {{"index": [], "columns": [], "data": []}}.'
            raise DataError(message)
    n_rows, n_named = splitter.n_rows, len(outline["index"])
    if n_named != n_rows:
        raise DataError(f'{path}: "index" names {n_named} rows, but "data" has {n_rows} lists, one for each row.')
    if not n_rows:
        raise DataError(f'{path}: "index" is empty.')
    return Outline(outline["index"], outline["columns"])


def _chunks(
    path: Path,
    target: str,
    kind: Kind,
    row_id: Callable[[int], str],
    symprec: float,
    jobs: int,
    progress: Progress | None,
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the arrays of a file chunk by chunk."""
    # A pass over the bytes, about 3 % of the work, reads the row ids before the first row, wherever they are.
    outline = read_outline(path)
    for name in ("structure", target):
        if name not in outline.columns:
            raise DataError(f"{path} has no column {name!r}. {suggest(name, map(printable, outline.columns))}")
    if problem := _index_problem(outline.index, row_id):
        raise DataError(f'{path}: "index" {problem}.')
    index = np.array(outline.index, dtype=np.int64)
    done = 0
    for chunk in read_json_rows(path, outline.columns, target, kind, symprec, jobs, is_own=False):
        faults = [chunk] if isinstance(chunk, Fault) else chunk.faults
        if faults or isinstance(chunk, Fault):
            row = int(index[min(done + faults[0].row, len(index) - 1)])
            message = f"{path}: row {row_id(row)} (index {row}) {faults[0].problem}; repair or remove that row."
            raise DataError(message)
        yield chunk.arrays | {"row": index[done : done + chunk.n_rows]}
        done += chunk.n_rows
        if progress is not None:
            progress(done, len(index))


def _index_problem(index: list[Any], row_id: Callable[[int], str]) -> str | None:
    """Return what is wrong with the index of an official file; None if nothing is."""
    if not all(type(row) is int and 0 <= row <= np.iinfo(np.int64).max for row in index):
        return "must hold row numbers, integers from 0 up"
    seen: set[int] = set()
    for row in index:
        if row in seen:
            return f"names row {row_id(row)} (index {row}) twice"
        seen.add(row)
    return None
