"""Rows of a data file as refined crystals: the work of the worker processes."""

from __future__ import annotations

import gc
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.base.errors import printable
from benchmarks.base.files import parse_json
from benchmarks.base.workers import stream
from benchmarks.data.raw_crystal import BadRow, RawCrystal, any_error_is_bad
from benchmarks.data.splitter import DocumentSplitter, RowSplitter, split_file
from benchmarks.data.structures import parse_atoms, parse_dictionary, parse_structure
from benchmarks.data.tasks import Kind
from sen.crystal import Crystal, refine
from sen.graph import build_graph

__all__ = [
    "NO_TARGET",
    "Chunk",
    "Fault",
    "flatten",
    "parse_json_rows",
    "read_chunk",
    "read_documents",
    "read_json_chunk",
    "read_json_rows",
    "read_target",
]

Row = TypeVar("Row")

NO_TARGET = ""
"""The name of the target of crystals that are read without one: it is 0 for each."""

_HINT = "is this a classification (--kind classification)?"
# Far above any property: training uses single precision, and JSON can have integers that no float holds.
_MAX_TARGET = 1e30
_MISSING_IN_JARVIS = "na"
_END_OF_BLANKS = re.compile(r"[\s,]*")
_COMMA = re.compile(r"\s*,\s*")


class Fault(NamedTuple):
    """What is wrong with a row: `problem` completes the sentence "row ..."; rows count from the first of the chunk."""

    row: int
    problem: str


class Chunk(NamedTuple):
    """Rows that were read together.

    Attributes:
        n_rows: Number of rows.
        kept: The rows that can be used, counted from the first of the chunk, int64 [m].
        faults: What is wrong with the other rows, in their order.
        arrays: The flat arrays of the m crystals, as in `CrystalTable`, with "count" (atoms of each) in place of
            "ptr"; empty where no row can be used.
    """

    n_rows: int
    kept: NDArray[np.int64]
    faults: list[Fault]
    arrays: dict[str, NDArray[Any]]


@contextmanager
def _without_collector() -> Iterator[None]:
    """Switch the garbage collector off: it would walk through all parsed JSON, which has no reference cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_json_rows(
    path: Path,
    columns: list[str],
    target: str,
    kind: Kind,
    symprec: float,
    jobs: int,
    *,
    is_own: bool,
) -> Iterator[Chunk | Fault]:
    """Yield the rows of a file in the MatBench layout, read in worker processes, chunk by chunk in their order.

    Own data may hold the text of a structure where official files have a dictionary.

    Of a chunk in which nothing can be read after a row, only the fault of that row comes.
    """
    chunks = split_file(path, RowSplitter())
    return stream(read_json_chunk, ((rows, columns, target, kind, symprec, is_own) for rows in chunks), jobs)


@_without_collector()
def read_json_chunk(
    rows: bytes,
    columns: list[str],
    target: str,
    kind: Kind,
    symprec: float,
    is_own: bool,
) -> Chunk | Fault:
    """Parse, check and refine rows of the MatBench layout, given as comma-separated JSON.

    Returns:
        The rows, or the fault of the first row that is not valid JSON, or neither a list nor a dictionary: nothing
        after it can be read.
    """
    parsed = parse_json_rows(rows, check_keys=is_own)
    if isinstance(parsed, Fault):
        return parsed
    parse = parse_structure if is_own else parse_dictionary
    structure_at, target_at = columns.index("structure"), columns.index(target or "structure")
    no_row = f"is not a list of {len(columns)} values, one for each column"
    for i, row in enumerate(parsed):
        # The splitter knows rows by their brackets, and has not counted anything else.
        if not isinstance(row, list | dict | BadRow):
            return Fault(i, no_row)

    def read(row: object) -> tuple[RawCrystal, float]:
        if not isinstance(row, list) or len(row) != len(columns):
            raise BadRow(no_row)
        return parse(row[structure_at]), read_target(row[target_at], target, kind)

    return read_chunk(parsed, read, symprec, is_own=is_own)


def read_documents(path: Path, target: str, kind: Kind, symprec: float, jobs: int) -> Iterator[Chunk | Fault]:
    """Yield the documents of a JSON list as `read_json_rows` yields rows."""
    arguments = ((documents, target, kind, symprec) for documents in split_file(path, DocumentSplitter()))
    return stream(_read_document_chunk, arguments, jobs)


@_without_collector()
def _read_document_chunk(documents: bytes, target: str, kind: Kind, symprec: float) -> Chunk | Fault:
    """Parse, check and refine documents, given as comma-separated JSON (runs in a worker process)."""
    parsed = parse_json_rows(documents)
    if isinstance(parsed, Fault):
        return parsed

    def read(document: object) -> tuple[RawCrystal, float]:
        if not isinstance(document, dict):
            raise BadRow("is not a document {...}")
        if target and target not in document:
            raise BadRow(f"has no field {target!r}")
        value = document.get(target)
        if value == _MISSING_IN_JARVIS:
            raise BadRow(f"has no {target!r} but {_MISSING_IN_JARVIS!r}, a missing value in the layout of JARVIS")
        raw = parse_structure(document["structure"]) if "structure" in document else parse_atoms(document.get("atoms"))
        return raw, read_target(value, target, kind)

    return read_chunk(parsed, read, symprec)


@_without_collector()
def parse_json_rows(rows: bytes, *, check_keys: bool = True) -> list[Any] | Fault:
    """Parse rows or documents, given as comma-separated JSON, or return the fault of the first that is not valid.

    With `check_keys`, a `BadRow` replaces a row in which an object has a key twice: the parser keeps the last value.
    """
    import orjson

    text = b"[" + rows.strip().removeprefix(b",") + b"]"
    try:
        parsed: list[Any] = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            # NaN is not JSON, but Python writes it: Python's parser reads it, so that the message can name the row.
            parsed = json.loads(text.decode())
        except UnicodeDecodeError as error:
            before = DocumentSplitter()
            before.feed(text[: error.start])
            return Fault(before.n_rows, f"is not valid JSON ({error})")
        except (ValueError, RecursionError) as error:
            return Fault(_unreadable_row(text.decode()), f"is not valid JSON ({getattr(error, 'msg', error)})")
    if check_keys:
        try:
            parse_json(text)
        except ValueError:
            return [_checked(row, text) for row, text in zip(parsed, _texts(text.decode()), strict=True)]
    return parsed


def _checked(row: Any, text: str) -> Any:
    try:
        parse_json(text)
    except ValueError as error:
        return BadRow(f"cannot be used: {error}")
    return row


def _texts(rows: str) -> Iterator[str]:
    """Yield the text of each item of a valid JSON list."""
    decoder, at = json.JSONDecoder(), 1
    while (at := _END_OF_BLANKS.match(rows, at).end()) < len(rows) - 1:  # type: ignore[union-attr]
        _, end = decoder.raw_decode(rows, at)
        yield rows[at:end]
        at = end


def read_chunk(
    rows: Iterable[Row], read: Callable[[Row], tuple[RawCrystal, float]], symprec: float, *, is_own: bool = True
) -> Chunk:
    """Read and refine rows; of own data, also try whether they have graphs.

    Args:
        rows: The rows.
        read: Returns the crystal and the target of a row, or raises `BadRow`.
        symprec: Tolerance of the refinement in Å.
        is_own: Whether these are own data, of which a row that has no graph may be left out.
    """
    kept, faults, crystals, targets, heavy_hydrogen = [], [], [], [], []
    n_rows = 0
    for i, row in enumerate(rows):
        n_rows = i + 1
        try:
            with any_error_is_bad():
                if isinstance(row, BadRow):
                    raise row
                raw, target = read(row)
                crystal = refine(raw.lattice, raw.positions, raw.numbers, symprec)
                # A crystal is of no use without a graph: here only its row is lost, later it would be all. No row of an
                # official file is ever left out, and building graphs takes a third of the time.
                if is_own:
                    build_graph(crystal, cells="asymmetric")
        except BadRow as problem:
            faults.append(Fault(i, printable(problem, 300)))
            continue
        kept.append(i)
        crystals.append(crystal)
        targets.append(target)
        heavy_hydrogen.append(raw.heavy_hydrogen)
    arrays = flatten(crystals, targets) | {"heavy_hydrogen": np.array(heavy_hydrogen)} if crystals else {}
    return Chunk(n_rows, np.array(kept, dtype=np.int64), faults, arrays)


def read_target(value: object, name: str, kind: Kind) -> float:
    """Return a target as a number; 0 and 1 for false and true.

    Args:
        value: The value in the data file.
        name: Name of the target, or `NO_TARGET`.
        kind: "regression" takes finite numbers, "classification" booleans, 0 and 1.

    Raises:
        BadRow: The value is anything else.
    """
    if name == NO_TARGET:
        return 0.0
    if kind == "classification":
        if not isinstance(value, int | float) or value not in {0, 1}:
            raise BadRow(f"has neither true nor false (1 or 0) as its {name!r} but {_shown(value)}")
    elif isinstance(value, bool):
        raise BadRow(f"has no number as its {name!r} but {_shown(value)}: {_HINT}")
    elif not isinstance(value, int | float) or not abs(value) < math.inf:
        raise BadRow(f"has no number as its {name!r} but {_shown(value)}")
    elif abs(value) > _MAX_TARGET:
        raise BadRow(f"has a {name!r} that is too large to compute with: {_shown(value)}")
    return float(value)


def _shown(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)[:40]


def _unreadable_row(rows: str) -> int:
    """Return the first row of a JSON list that Python's parser cannot read, or that has no comma after it."""
    decoder = json.JSONDecoder()
    row, at = 0, len(rows) - len(rows[1:].lstrip())
    while True:
        try:
            _, at = decoder.raw_decode(rows, at)
        except (ValueError, RecursionError):
            return row
        comma = _COMMA.match(rows, at)
        if comma is None:
            return row
        row, at = row + 1, comma.end()


def flatten(crystals: Sequence[Crystal], targets: ArrayLike) -> dict[str, NDArray[Any]]:
    """Return crystals as flat arrays as in `CrystalTable`, with "count" (atoms of each) in place of "ptr"."""
    return {
        "lattice": np.stack([crystal.lattice for crystal in crystals]),
        "positions": np.concatenate([crystal.positions for crystal in crystals]),
        "numbers": np.concatenate([crystal.numbers for crystal in crystals]),
        "orbit": np.concatenate([crystal.orbit for crystal in crystals]),
        "space_group": np.array([crystal.space_group for crystal in crystals], dtype=np.int16),
        "target": np.array(targets, dtype=np.float64),
        "count": np.array([len(crystal) for crystal in crystals]),
    }
