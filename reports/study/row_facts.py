"""What is known of the rows of a task without any prediction: id, target, formula, space group, crystal system.

They come from the crystals, where these are available, or from a rows file, which has no crystals and is small enough
to share.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import DataError, UsageError, printable, suggest
from benchmarks.base.files import parse_json, read_unpacked
from benchmarks.base.workers import Progress
from benchmarks.data.dataset import Dataset, find_official, load_dataset
from benchmarks.data.rows import read_target
from benchmarks.data.structures import BadRow
from benchmarks.data.tasks import Kind, Task
from sen.crystal import SYMBOLS, crystal_system

__all__ = ["RowFacts", "crystal_systems", "find_rows", "read_content", "read_formulas", "read_rows_file", "rows_of"]

_NUMBERS = frozenset(range(231))
_SYSTEMS = np.array([crystal_system(number) for number in range(231)])

# What the columns of a rows file may be called, the names in MatBench's own files first.
_ID = ("mbid", "id")
_COMPOSITION = ("composition", "formula")
_FORMULA = ("formula", "composition", "formula_pretty", "pretty_formula", "reduced_formula")
_SPACE_GROUP = ("spg_num", "space_group")
_SYSTEM = ("crys_sys", "crystal_system")


@dataclass(frozen=True, eq=False)
class RowFacts:
    """What is known of M rows of a task.

    Attributes:
        task: The task.
        ids: Row ids, str [M].
        row: Official row index, int64 [M]; in own data the position in the table.
        target: Target value, float64 [M]; 0 and 1 for false and true.
        composition: Elements and their numbers in a cell, "K4 Mn4 O8", for each row; empty if it is unknown.
        space_group: International number, int16 [M]; 0 if it is unknown.
        source: Name of the file that they were read from.
        is_verified: Whether that is the official data file, checked by its hash.
    """

    task: Task
    ids: NDArray[np.object_]
    row: NDArray[np.int64]
    target: NDArray[np.float64]
    composition: Sequence[str]
    space_group: NDArray[np.int16]
    source: str
    is_verified: bool

    def __len__(self) -> int:
        """Number of rows M."""
        return len(self.target)

    @property
    def is_complete(self) -> bool:
        """Whether these are all rows of the task; own data are always complete."""
        return self.task.n_rows is None or len(self) == self.task.n_rows

    @property
    def crystal_system(self) -> NDArray[np.str_]:
        """Crystal system of each row, unicode [M]; "unknown" if the space group is."""
        return crystal_systems(self.space_group)

    def formula(self, at: int) -> str:
        """Return the reduced formula of the row at a position, "KMnO2", or its composition if it has none."""
        text = self.composition[at]
        return _reduced(text) or text

    def positions(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the positions of the rows with these ids, int64 [n]; -1 for an unknown id."""
        at = {name: i for i, name in enumerate(self.ids.tolist())}
        return np.array([at.get(name, -1) for name in ids], dtype=np.int64)


def crystal_systems(space_group: NDArray[np.integer[Any]]) -> NDArray[np.str_]:
    """Return the crystal systems of space group numbers [n], unicode [n]; 0 is "unknown"."""
    systems: NDArray[np.str_] = _SYSTEMS[space_group]
    return systems


def rows_of(dataset: Dataset) -> RowFacts:
    """Return what is known of the crystals of a data set."""
    table = dataset.table
    return RowFacts(
        task=dataset.task,
        ids=table.ids,
        row=table.row,
        target=table.target,
        composition=_compositions(table.numbers, table.ptr),
        space_group=table.space_group,
        source=dataset.source,
        is_verified=dataset.is_complete,
    )


def find_rows(
    task: Task, rows: Path | None = None, data_dir: Path | None = None, progress: Progress | None = None
) -> RowFacts:
    """Return what is known of the rows of a task, from the rows file or else from the data. Nothing is downloaded.

    Raises:
        UsageError: Neither is available; the message says how to get one.
        DataError: The file is damaged, or is not a rows file of the task.
    """
    if rows is not None:
        return read_rows_file(rows, task)
    if not task.is_official:
        return rows_of(load_dataset(task, data_dir, progress=progress))
    dataset = find_official(task, data_dir, progress=progress)
    if dataset is None:
        raise UsageError(
            f"The rows of {task.name} are neither in the cache nor in a folder of data: name the folder of "
            f"{task.file_name} with --data-dir, give "
            f"a file of its ids, targets and space groups with --rows, or download the data with "
            f"`sen-bench prepare {task.name}`."
        )
    return rows_of(dataset)


def read_rows_file(path: Path, task: Task) -> RowFacts:
    """Read a rows file: JSON, plain or compressed by gzip or bzip2, with a table as pandas writes it.

    Its columns are `mbid` (or `id`), the target under its own name (or `target`), `spg_num` (or `space_group`; null if
    it is unknown), and optionally `composition` (or `formula`) and `crys_sys` (or `crystal_system`), which must agree
    with the space groups.

    Args:
        path: The file; {"mbid": {"0": ..., ...}, ...}, lists in place of the inner objects, or one object per row.
        task: The task that it is about.

    Raises:
        UsageError: There is no such file.
        DataError: It is damaged, or is not a rows file of this task; the message names the row if there is one.
    """
    columns = _columns(path, read_content(path))
    ids = _column(path, columns, _ID)
    targets = _column(path, columns, (task.target, "target"))
    groups = _column(path, columns, _SPACE_GROUP)
    compositions = _column(path, columns, _COMPOSITION, optional=True)
    systems = _column(path, columns, _SYSTEM, optional=True)
    n = len(ids)
    if n == 0:
        raise DataError(f"{path} has no rows.")
    row = _official_rows(path, ids, task)
    return RowFacts(
        task=task,
        ids=np.array(ids, dtype=object),
        row=row,
        target=_targets(path, ids, targets, task.kind, task.target),
        composition=["" if text is None else str(text) for text in compositions] if compositions else [""] * n,
        space_group=_space_groups(path, ids, groups, systems),
        source=path.name,
        is_verified=False,
    )


def _reduced(text: object) -> str | None:
    """Return the reduced formula of a composition, deuterium and tritium as hydrogen; None if it is none."""
    from pymatgen.core import Composition, Element

    try:
        amounts = Composition(text).as_dict() if isinstance(text, str) else {}
        if not amounts or any(not Element.is_valid_symbol(symbol) for symbol in amounts):
            return None
        hydrogen = sum(amounts.pop(isotope, 0.0) for isotope in ("H", "D", "T"))
        return str(Composition({**amounts, **({"H": hydrogen} if hydrogen else {})}).reduced_formula)
    except (ValueError, KeyError, AttributeError):
        return None


def read_formulas(path: Path) -> list[str]:
    """Read a table of formulas, and return the reduced formula of each row.

    It is CSV with a header line, or JSON: a list of formulas, or a table as `read_rows_file` takes it. The column is
    called formula, composition, formula_pretty, pretty_formula or reduced_formula. Files may be compressed by gzip or
    bzip2.

    Raises:
        UsageError: There is no such file.
        DataError: It is damaged, has no such column, or a value in it that is no formula; the message names the row.
    """
    if ".csv" in path.suffixes:
        try:
            header, *rows = csv.reader(io.StringIO(read_unpacked(path).decode("utf-8-sig"), newline=""), strict=True)
        except (ValueError, csv.Error) as error:
            raise DataError(f"{path} is not CSV in UTF-8 with a header line ({error}).") from None
        rows = [row for row in rows if row]
        columns = {name.strip(): [row[i] if i < len(row) else "" for row in rows] for i, name in enumerate(header)}
        given = _column(path, columns, _FORMULA)
    else:
        content = read_content(path)
        is_list = isinstance(content, list) and all(isinstance(each, str) for each in content)
        given = content if is_list else _column(path, _columns(path, content), _FORMULA)
    if not given:
        raise DataError(f"{path} has no formulas.")
    formulas = []
    for row, text in enumerate(given):
        formula = _reduced(text)
        if formula is None:
            raise DataError(f"{path}: row {row} (counted from 0) has no formula but {printable(text)!r}.")
        formulas.append(formula)
    return formulas


def read_content(path: Path) -> Any:
    """Read a JSON file, plain or compressed by gzip or bzip2, whatever its name.

    Raises:
        UsageError: There is no such file.
        DataError: It is empty, cut, damaged, or no JSON.
    """
    raw = read_unpacked(path)
    try:
        return parse_json(raw)
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}).") from None


def _columns(path: Path, content: Any) -> dict[str, list[Any]]:
    """Return a table, in any of the layouts that pandas writes, as lists of the same length."""
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        names = list(content[0])
        if odd := next((i for i, row in enumerate(content) if list(row) != names), None):
            raise DataError(f"{path}: row {odd} (counted from 0) has other columns than the first one.")
        return {str(name): [row[name] for row in content] for name in names}
    if not isinstance(content, dict) or not content or not all(isinstance(c, dict | list) for c in content.values()):
        raise DataError(
            f"{path} has no table of rows: a rows file is a JSON object of columns, "
            '{"mbid": {"0": ...}, ...}, as pandas writes it.'
        )
    first = next(iter(content))
    columns = {}
    for name, column in content.items():
        if isinstance(column, dict) and isinstance(content[first], dict) and column.keys() == content[first].keys():
            same_order = list(column) == list(content[first])
            columns[name] = list(column.values()) if same_order else [column[key] for key in content[first]]
        elif isinstance(column, list) and isinstance(content[first], list) and len(column) == len(content[first]):
            columns[name] = column
        else:
            raise DataError(f"{path}: the columns {printable(first)!r} and {printable(name)!r} have different rows.")
    return columns


def _column(path: Path, columns: Mapping[str, list[Any]], names: Sequence[str], *, optional: bool = False) -> list[Any]:
    """Return the column with one of these names; no values if it is optional and missing."""
    found = next((columns[name] for name in names if name in columns), None)
    if found is None and not optional:
        raise DataError(
            f"{path} has no column {' or '.join(map(repr, names))}. {suggest(names[0], map(printable, columns))}"
        )
    return found or []


def _official_rows(path: Path, ids: Sequence[Any], task: Task) -> NDArray[np.int64]:
    """Return the row index of each id; in own data the position."""
    odd = next((i for i, name in enumerate(ids) if not isinstance(name, str)), None)
    if odd is not None:
        raise DataError(f"{path}: the id of row {odd} (counted from 0) is not text but {printable(ids[odd])}.")
    twice = next((name for name, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{path} has row {printable(twice)} more than once.")
    if task.n_rows is None:
        return np.arange(len(ids))
    number = {task.row_id(row): row for row in range(task.n_rows)}
    if unknown := [name for name in ids if name not in number]:
        raise DataError(f"{path} has the row {printable(repr(unknown[0]))}, which {task.name} does not have.")
    return np.array([number[name] for name in ids], dtype=np.int64)


def _targets(path: Path, ids: Sequence[str], values: Sequence[Any], kind: Kind, name: str) -> NDArray[np.float64]:
    numbers = []
    for row, value in zip(ids, values, strict=True):
        try:
            numbers.append(read_target(value, name, kind))
        except BadRow as problem:
            raise DataError(f"{path}: row {row} {printable(problem, 300)}.") from None
    return np.array(numbers)


def _space_groups(path: Path, ids: Sequence[str], groups: Sequence[Any], systems: Sequence[Any]) -> NDArray[np.int16]:
    for row, group in zip(ids, groups, strict=True):
        if group is not None and (type(group) not in {int, float} or group not in _NUMBERS):
            raise DataError(f"{path}: row {row} has no space group number from 1 to 230 but {printable(group)}.")
    numbers = np.array([0 if group is None else group for group in groups], dtype=np.int16)
    if systems:
        own = crystal_systems(numbers)
        odd = (own != np.array([str(system) for system in systems])) & (numbers > 0)
        if odd.any():
            at = int(odd.argmax())
            raise DataError(
                f"{path}: row {ids[at]} is called {printable(systems[at])}, "
                f"but its space group {numbers[at]} is {own[at]}."
            )
    return numbers


def _compositions(numbers: NDArray[np.uint8], ptr: NDArray[np.int64]) -> list[str]:
    """Return the composition of each cell as text: "Na1 Cl1", in order of atomic number."""
    n_crystals, width = len(ptr) - 1, len(SYMBOLS) + 1
    crystal = np.repeat(np.arange(n_crystals), np.diff(ptr))
    keys, counts = np.unique(crystal * width + numbers, return_counts=True)
    texts: list[list[str]] = [[] for _ in range(n_crystals)]
    for i, number, count in zip((keys // width).tolist(), (keys % width).tolist(), counts.tolist(), strict=True):
        texts[i].append(f"{SYMBOLS[number - 1]}{count}")
    return [" ".join(parts) for parts in texts]
