"""Data of the user's own as a task with its crystals."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.cache import digest, load_or_build
from benchmarks.base.errors import DataError, UsageError, printable, suggest
from benchmarks.base.files import expanded
from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable, with_ptr
from benchmarks.data.dataset import Dataset, SkippedRow
from benchmarks.data.folds import check_split
from benchmarks.data.layouts import LAYOUTS, Layout, open_layout
from benchmarks.data.rows import Fault
from benchmarks.data.tasks import COMPOSITION_TASKS, TASKS, Kind, Task

__all__ = ["OnBadRow", "OwnData", "find_own_data"]

OnBadRow = Literal["fail", "skip"]

# Raised whenever the arrays that come out of the same files change.
_VERSION = 2
# Mean of the targets over their standard deviation: beyond, float32 rounds away a thousandth of what they differ by.
_MAX_OFFSET = 1e4
# Rows named in a message.
_SHOWN = 5


def find_own_data(name: str) -> Path | None:
    """Return the path that a task argument names, or None where it names a task, known or not.

    Raises:
        UsageError: It looks like a path and there is nothing.
    """
    if name in TASKS or name in COMPOSITION_TASKS:
        return None
    path = expanded(name)
    if path.exists():
        # A link keeps its own name; "." and ".." have none.
        return path if path.name not in {"", ".."} else path.resolve()
    if path.suffix or os.sep in name:
        raise UsageError(f"There is no file or folder {path}: own data are {LAYOUTS}.")
    return None


@dataclass(frozen=True, kw_only=True)
class OwnData:
    """A data set of the user's own, named but not yet read.

    Attributes:
        path: The folder or file.
        target: Column that holds the target; None where there is only one that can be it.
        kind: What is predicted.
        split: How rows are split, see `check_split`.
        unit: Unit of the target, for tables.
    """

    path: Path
    target: str | None = None
    kind: Kind = "regression"
    split: str = "folds"
    unit: str = ""

    @cached_property
    def task(self) -> Task:
        """The task that the data define.

        Raises:
            UsageError: Data that are in no layout known, or are those of a task; an impossible split; a target that is
                not named although there are several columns.
            DataError: The file cannot be read.
        """
        split = check_split(self.split)
        name = self.path.name
        if not self.path.is_dir():
            name = re.sub(r"(\.partial)?(\.[^.]+?)(\.gz)?$", "", name)
        if name in TASKS:
            hint = f"run {name} --data-dir {self.path.parent}" if TASKS[name].is_official else f"run {name}"
            raise UsageError(
                f"{self.path} has the name of the task {name}: to run that task say `sen-bench {hint}`; rename the "
                "data if they are others, so that their results are never taken for the task's."
            )
        return Task(
            name=re.sub(r"[^\w.+-]+", "_", name).strip("._") or "data",
            target=self.target or self._only_target(),
            unit=self.unit,
            kind=self.kind,
            description=f"Own data: {self.path.name}.",
            split=split,
            default_folds=(0, 1, 2, 3, 4) if split == "folds" else (0,),
        )

    def load(self, *, on_bad_row: OnBadRow = "fail", jobs: int = -1, progress: Progress | None = None) -> Dataset:
        """Read the data, from the cache where they were read before.

        Args:
            on_bad_row: Whether rows that cannot be used are an error, or are left out and listed in `Dataset.skipped`.
            jobs: Worker processes; -1 is one per core.
            progress: Told how many rows are done; not called when the cache has the answer.

        Raises:
            UsageError: A column is not there, or the cache cannot be written.
            DataError: The data cannot be read, have bad rows (all of them are looked for before any is reported), or
                leave nothing to learn.
        """
        task = self.task
        layout = open_layout(self.path, task.target)
        facts = {
            "own": type(layout).__name__,
            "content": layout.content(),
            "target": task.target,
            "kind": task.kind,
            "moyopy": version("moyopy"),
            "version": _VERSION,
            "parser": layout.parser,
        }
        key = digest(**facts)
        arrays = load_or_build(
            f"crystals-{key[:32]}",
            lambda: _pieces(layout, task, jobs, progress),
            {"file": self.path.name, **facts},
        )
        ids, bad = (json.loads(arrays.pop(name).tobytes()) for name in ("ids", "bad"))
        skipped = tuple(SkippedRow(*row) for row in bad)
        if skipped and on_bad_row == "fail":
            raise _bad_rows(layout.path, skipped, "Repair what is wrong, or leave it out with --on-bad-row skip.")
        table = CrystalTable(**arrays, row=np.arange(len(ids)), ids=np.array(ids), digest=key)
        if len(table) > 1 and np.ptp(table.target) == 0:
            value = f"{table.target[0]:g}" if task.kind == "regression" else str(bool(table.target[0])).lower()
            raise DataError(f"{layout.path}: all {len(table):,} rows have the {task.target} {value}: nothing to learn.")
        mean, spread = table.target.mean(), table.target.std()
        if task.kind == "regression" and abs(mean) > _MAX_OFFSET * spread > 0:
            raise DataError(
                f"{layout.path}: the {task.target} of the rows is {mean:g} with a standard deviation of {spread:g}, "
                f"which drowns in the float32 that models compute in: subtract {mean:.3g}, say, from every target."
            )
        return Dataset(task, table, self.path.name, is_complete=True, skipped=skipped)

    def _only_target(self) -> str:
        targets = open_layout(self.path, None).targets()
        if len(targets) == 1:
            return targets[0]
        if not targets:
            raise DataError(f"{self.path} has no column that could be a target beside ids and structures.")
        raise UsageError(f"Name the column of {self.path} to predict with --target. Available: {', '.join(targets)}.")


def _pieces(layout: Layout, task: Task, jobs: int, progress: Progress | None) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the arrays of a data set batch by batch, and at the end what is known of its rows."""
    given = layout.ids()
    ids = [name or f"(number {row}, counted from 0)" for row, name in enumerate(given)]
    if not ids:
        raise DataError(f"{layout.path} has no rows.")
    if task.target not in (targets := layout.targets()):
        raise UsageError(f"{layout.path} has no column {task.target!r} to predict. {suggest(task.target, targets)}")
    kept: list[str] = []
    bad: list[SkippedRow] = []

    def crystals() -> Iterator[dict[str, NDArray[Any]]]:
        of_ids = _repeats(ids) | {row: "has no id" for row, name in enumerate(given) if not name}
        done = 0
        for batch in layout.read(task, jobs):
            if isinstance(batch, Fault):
                row = min(done + batch.row, len(ids) - 1)
                raise DataError(f"{layout.path}: row {ids[row]} {batch.problem}; repair the file.")
            names = ids[done : done + batch.n_rows]
            problems = dict(batch.faults) | {i: of_ids[done + i] for i in range(len(names)) if done + i in of_ids}
            bad.extend(SkippedRow(names[i], problems[i]) for i in sorted(problems))
            wanted = ~np.isin(batch.kept, list(problems))
            kept.extend(names[i] for i in batch.kept[wanted].tolist())
            if wanted.any():
                yield _select(batch.arrays, wanted)
            done += batch.n_rows
            if progress is not None:
                progress(done, len(ids))

    yield from with_ptr(crystals())
    if not kept:
        raise _bad_rows(layout.path, bad, "No row can be used.")
    # As text in bytes, because the cache holds arrays and never pickles.
    yield {name: np.frombuffer(json.dumps(rows).encode(), np.uint8) for name, rows in (("ids", kept), ("bad", bad))}


def _repeats(ids: list[str]) -> dict[int, str]:
    """Return what is wrong with the rows whose id an earlier row has."""
    first: dict[str, int] = {}
    return {
        row: f"has the id of an earlier row (rows {first[name]} and {row}, counted from 0)"
        for row, name in enumerate(ids)
        if first.setdefault(name, row) != row
    }


def _select(arrays: dict[str, NDArray[Any]], wanted: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a batch for the wanted crystals alone."""
    if wanted.all():
        return arrays
    of_atoms = np.repeat(wanted, arrays["count"])
    per_atom = {"positions", "numbers", "orbit"}
    return {name: array[of_atoms if name in per_atom else wanted] for name, array in arrays.items()}


def _bad_rows(path: Path, rows: Sequence[SkippedRow], advice: str) -> DataError:
    """Return the error that names the first bad rows and how many more there are."""
    shown = "; ".join(f"row {printable(row.id)} {row.problem}" for row in rows[:_SHOWN])
    more = f"; and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    count = f"{len(rows):,} rows cannot be used: " if len(rows) > 1 else ""
    return DataError(f"{path}: {count}{shown}{more}. {advice}")
