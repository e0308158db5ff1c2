"""A user's own data: the task that they define, and their crystals."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.cache import digest, load_or_build, read_cached, record_source
from benchmarks.base.errors import DataError, UsageError, printable, suggest
from benchmarks.base.files import expanded
from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable, refinement_facts, with_ptr
from benchmarks.data.layouts import LAYOUTS, Layout, find_column, open_layout
from benchmarks.data.rows import NO_TARGET, Fault
from benchmarks.data.split_files import open_split
from benchmarks.data.tasks import COMPOSITION_TASKS, TASKS, Kind, Task, get_task, named_folder
from sen.crystal import SYMPREC

__all__ = [
    "OnBadRow",
    "SkippedRow",
    "cached_own_data",
    "find_own_data",
    "find_task",
    "own_data_only",
    "own_task",
    "read_crystals",
    "read_own_data",
]

OnBadRow = Literal["fail", "skip"]

# Raised whenever the same files give other arrays.
_VERSION = 3
# Mean of the targets over their standard deviation: above this, float32 rounds away a thousandth of their differences.
_MAX_OFFSET = 1e4
# Interquartile ranges between a target and the median: beyond, the target is named in a warning.
_FAR = 1000
# Rows named in a message.
_SHOWN = 5


class SkippedRow(NamedTuple):
    """A row that was left out because it cannot be used; `problem` completes the sentence "row ..."."""

    id: str
    problem: str


def find_task(
    name: str,
    *,
    target: str | None = None,
    kind: Kind | None = None,
    split: str | None = None,
    unit: str | None = None,
) -> Task:
    """Return the task of a name, or the one that own data define.

    Args:
        name: Name of a task, or the path of own data.
        target: Column of own data that holds the target. This and the other arguments, for which see `own_task`, are
            for own data only, except the split.
        kind: What is predicted.
        split: How rows are split: "file:PATH" or what `benchmarks.data.folds.check_split` takes; "group:COLUMN" is for
            own data.
        unit: Unit of the target.

    Raises:
        UsageError: There is no such task, folder or file; an argument for own data is given with the name of a task; or
            `own_task` raises it.
        DataError: `own_task` raises it.
    """
    given: dict[str, Any] = {"target": target, "kind": kind, "split": split, "unit": unit}
    given = {option: value for option, value in given.items() if value is not None}
    path = find_own_data(name)
    if path is not None:
        return own_task(path, **given)
    task = get_task(name)
    split, split_path = open_split(given.pop("split", "folds"))
    if split.startswith("group:"):
        given[f"--split {split}"] = split
    if given:
        raise own_data_only(task, *given)
    return task if split == task.split else replace(task, split=split, split_path=split_path)


def own_data_only(task: Task, *options: str) -> UsageError:
    """Return the error for options or arguments that are for own data but were given with the name of a task."""
    verb = "is" if len(options) == 1 else "are"
    return UsageError(f"{' and '.join(options)} {verb} only for your own data; {task.name} is a built-in task.")


def find_own_data(name: str) -> Path | None:
    """Return the path of own data that a task argument names, or None where it names a task, known or not.

    Raises:
        UsageError: The argument looks like a path, and nothing is there.
    """
    if name in TASKS or name in COMPOSITION_TASKS:
        return None
    path = expanded(name)
    if path.exists():
        # A link keeps its name; "." and ".." are no names.
        return path if path.name not in {"", ".."} else path.resolve()
    if path.suffix or os.sep in name:
        folder = named_folder(None)
        if folder and (elsewhere := folder / name).exists():
            raise UsageError(f"There is no file or folder {path}. Do you mean {elsewhere}?")
        raise UsageError(f"There is no file or folder {path}: own data are {LAYOUTS}.")
    return None


def own_task(
    path: Path, *, target: str | None = None, kind: Kind = "regression", split: str = "folds", unit: str = ""
) -> Task:
    """Return the task that own data define, without parsing any structure.

    Args:
        path: The folder or file.
        target: Column that holds the target; None where only one column can hold it.
        kind: What is predicted.
        split: How rows are split: "file:PATH" or what `benchmarks.data.folds.check_split` takes.
        unit: Unit of the target, for tables.

    Raises:
        UsageError: The data are in no known layout, or have the name of a task; the split is impossible; no target is
            named although several columns can hold it.
        DataError: The file cannot be read.
    """
    split, split_path = open_split(split)
    name = path.name
    if not path.is_dir():
        name = re.sub(r"(\.partial)?(\.[^.]+?)(\.gz)?$", "", name)
    if name in TASKS:
        hint = f"run {name} --data-dir {path.parent}" if TASKS[name].is_official else f"run {name}"
        raise UsageError(
            f"{path} has the name of the task {name}: to run that task, use `sen-bench {hint}`; if these are other "
            "data, rename them, so that their results are never taken for the task's."
        )
    return Task(
        name=re.sub(r"[^\w.+-]+", "_", name).strip("._") or "data",
        target=target or _only_target(path),
        unit=unit,
        kind=kind,
        description=f"Own data: {path.name}.",
        split=split,
        path=path,
        split_path=split_path,
    )


def _only_target(path: Path) -> str:
    """Return the one column that can be the target."""
    targets = open_layout(path, None).targets()
    if len(targets) == 1:
        return targets[0]
    if not targets:
        raise DataError(f"{path} has no column that could be a target, only ids and structures.")
    raise UsageError(f"Name the column of {path} to predict with --target. Available: {', '.join(targets)}.")


def read_own_data(
    task: Task,
    path: Path,
    *,
    on_bad_row: OnBadRow = "fail",
    symprec: float = SYMPREC,
    jobs: int = -1,
    progress: Progress | None = None,
) -> tuple[CrystalTable, tuple[SkippedRow, ...]]:
    """Return the crystals of own data, from the cache where they were read before.

    Args:
        task: The task that they define.
        path: The folder or file.
        on_bad_row: Whether rows that cannot be used are an error ("fail"), or are left out ("skip").
        symprec: Tolerance of the refinement in Å.
        jobs: Worker processes; -1 is one per core.
        progress: Called with the number of rows read; not called where the cache has the crystals.

    Returns:
        The crystals, and the rows that were left out.

    Raises:
        UsageError: A column is missing, or the cache cannot be written.
        DataError: The data cannot be read, have bad rows (all of them are found before any is reported), or leave
            nothing to learn.
    """
    layout = open_layout(path, task.target)
    facts = {
        "own": type(layout).__name__,
        "content": layout.content(),
        "target": task.target,
        "kind": task.kind,
        "version": _VERSION,
        "parser": layout.parser,
        **refinement_facts(symprec),
    }
    key = digest(**facts)
    arrays = load_or_build(
        _folder(key), lambda: _chunks(layout, task, symprec, jobs, progress), {"file": path.name, **facts}
    )
    record_source(key, path)
    table, skipped = _table(arrays, key)
    if skipped and on_bad_row == "fail":
        raise _bad_rows(layout.path, skipped, "Repair what is wrong, or leave it out with --on-bad-row skip.")
    if task.target:
        _check_targets(layout.path, task, table.target)
        _warn_of_outliers(layout.path, task, table)
    return table, skipped


def cached_own_data(key: str) -> tuple[CrystalTable, tuple[SkippedRow, ...]] | None:
    """Return what `read_own_data` read before, by the digest of the table; None where the cache does not have it.

    Raises:
        UsageError: Nothing says where the cache is.
    """
    arrays = read_cached(_folder(key))
    return None if arrays is None else _table(arrays, key)


def _folder(key: str) -> str:
    """Name of the folder of the cache that holds the table of this digest."""
    return f"crystals-{key[:32]}"


def _table(arrays: dict[str, NDArray[Any]], key: str) -> tuple[CrystalTable, tuple[SkippedRow, ...]]:
    """Return the table, and the rows that were left out, of what the cache holds."""
    ids, bad = (json.loads(arrays.pop(name).tobytes()) for name in ("ids", "bad"))
    table = CrystalTable(**arrays, row=np.arange(len(ids)), ids=np.array(ids, dtype=object), digest=key)
    return table, tuple(SkippedRow(*row) for row in bad)


def read_crystals(
    path: Path, *, symprec: float = SYMPREC, jobs: int = -1, progress: Progress | None = None
) -> tuple[CrystalTable, tuple[SkippedRow, ...]]:
    """Return the crystals in own data without any target, and the rows that are left out, see `read_own_data`.

    Raises:
        UsageError: See `read_own_data`, as for `DataError`.
        DataError: The data cannot be read, or no row can be used.
    """
    task = Task(name=path.name, target=NO_TARGET, unit="", kind="regression", description="Crystals.", path=path)
    return read_own_data(task, path, on_bad_row="skip", symprec=symprec, jobs=jobs, progress=progress)


def _check_targets(path: Path, task: Task, values: NDArray[np.float64]) -> None:
    """Check that the targets differ, and by enough to be learnt in single precision.

    Raises:
        DataError: They do not.
    """
    if len(values) > 1 and np.ptp(values) == 0:
        value = f"{values[0]:g}" if task.kind == "regression" else str(bool(values[0])).lower()
        raise DataError(f"{path}: all {len(values):,} rows have the {task.target} {value}: nothing to learn.")
    mean, spread = values.mean(), values.std()
    if task.kind == "regression" and abs(mean) > _MAX_OFFSET * spread > 0:
        raise DataError(
            f"{path}: the {task.target} of the rows is {mean:g} with a standard deviation of {spread:g}, "
            f"which drowns in the float32 that models compute in: subtract {mean:.3g}, say, from every target."
        )


def _warn_of_outliers(path: Path, task: Task, table: CrystalTable) -> None:
    """Name rows whose targets lie so far from the others that they may be slips, such as another unit."""
    first, median, third = np.quantile(table.target, [0.25, 0.5, 0.75])
    far = np.abs(table.target - median) > _FAR * (third - first)
    if task.kind == "regression" and third > first and far.any():
        shown = ", ".join(f"{printable(table.ids[i])} ({table.target[i]:g})" for i in np.flatnonzero(far)[:_SHOWN])
        logging.getLogger("sen_bench").warning(
            "%s: %d of %d rows have a %s more than %d interquartile ranges from the median, %g: %s.",
            *(path, far.sum(), len(far), task.target, _FAR, median, shown),
        )


def _chunks(
    layout: Layout, task: Task, symprec: float, jobs: int, progress: Progress | None
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the arrays of a data set chunk by chunk, and at the end the ids of its rows and which rows are bad."""
    given = layout.ids()
    ids = [name or f"(number {row}, counted from 0)" for row, name in enumerate(given)]
    if not ids:
        raise DataError(f"{layout.path} has no rows.")
    if task.target:
        task = replace(task, target=find_column(task.target, targets := layout.targets()))
        if task.target not in targets:
            raise UsageError(f"{layout.path} has no column {task.target!r} to predict. {suggest(task.target, targets)}")
    kept: list[str] = []
    bad: list[SkippedRow] = []

    def crystals() -> Iterator[dict[str, NDArray[Any]]]:
        of_ids = _repeats(ids) | {row: "has no id" for row, name in enumerate(given) if not name}
        done = 0
        for chunk in layout.read(task, symprec, jobs):
            if isinstance(chunk, Fault):
                row = min(done + chunk.row, len(ids) - 1)
                raise DataError(f"{layout.path}: row {ids[row]} {chunk.problem}; repair the file.")
            names = ids[done : done + chunk.n_rows]
            problems = dict(chunk.faults) | {i: of_ids[done + i] for i in range(len(names)) if done + i in of_ids}
            bad.extend(SkippedRow(names[i], problems[i]) for i in sorted(problems))
            wanted = ~np.isin(chunk.kept, list(problems))
            kept.extend(names[i] for i in chunk.kept[wanted].tolist())
            if wanted.any():
                yield _select(chunk.arrays, wanted)
            done += chunk.n_rows
            if progress is not None:
                progress(done, len(ids))

    yield from with_ptr(crystals())
    if not kept:
        raise _bad_rows(layout.path, bad, "No row can be used.")
    # As JSON in bytes: the cache holds arrays and never pickles.
    yield {name: np.frombuffer(json.dumps(rows).encode(), np.uint8) for name, rows in (("ids", kept), ("bad", bad))}


def _repeats(ids: list[str]) -> dict[int, str]:
    """Return the problem of each row whose id an earlier row has."""
    first: dict[str, int] = {}
    return {
        row: f"has the id of an earlier row (rows {first[name]} and {row}, counted from 0)"
        for row, name in enumerate(ids)
        if first.setdefault(name, row) != row
    }


def _select(arrays: dict[str, NDArray[Any]], wanted: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a chunk, restricted to the wanted crystals, bool [m]."""
    if wanted.all():
        return arrays
    of_atoms = np.repeat(wanted, arrays["count"])
    per_atom = {"positions", "numbers", "orbit"}
    return {name: array[of_atoms if name in per_atom else wanted] for name, array in arrays.items()}


def _bad_rows(path: Path, rows: Sequence[SkippedRow], advice: str) -> DataError:
    """Return the error that names the first bad rows and the number of the others."""
    shown = "; ".join(f"row {printable(row.id)} {row.problem}" for row in rows[:_SHOWN])
    more = f"; and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    count = f"{len(rows):,} rows cannot be used: " if len(rows) > 1 else ""
    return DataError(f"{path}: {count}{shown}{more}. {advice}")
