"""The crystals of a task, wherever they come from, and their folds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.base.errors import UsageError
from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable, read_matbench_json
from benchmarks.data.folds import Fold, data_digest, make_folds
from benchmarks.data.own_data import OnBadRow, SkippedRow, own_data_only, read_own_data
from benchmarks.data.tasks import DataFile, Task, download_folder, find_data_file, get_task, named_folder
from sen.crystal import SYMPREC

__all__ = ["Dataset", "load_dataset"]


@dataclass(frozen=True)
class Dataset:
    """A task with its crystals.

    Attributes:
        task: What is predicted.
        table: The crystals that were loaded.
        source: Name of the file that they were read from, or what made them.
        is_complete: Whether these are all rows of the task, verified by hash where there is an official file.
        skipped: Rows of own data that were left out.
        symprec: Tolerance in Å to which the crystals were refined.
    """

    task: Task
    table: CrystalTable
    source: str
    is_complete: bool
    skipped: tuple[SkippedRow, ...] = ()
    symprec: float = SYMPREC
    _made: dict[tuple[object, ...], list[Fold]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def folds(
        self,
        seed: int = 0,
        limit: int | None = None,
        validation: float | None = None,
        calibration: float = 0.0,
        *,
        numbers: Sequence[int] | None = None,
    ) -> list[Fold]:
        """Return the folds for a seed; they are made once.

        Args:
            seed: Seed of the run, from 0 on, which draws the validation rows.
            limit: Largest number of training and validation rows of a fold.
            validation: Share of these that are validation rows, see `make_folds`.
            calibration: Share of the validation rows that calibrate intervals, see `make_folds`.
            numbers: Which folds; by default all, or the first of a split that has no last one.

        Raises:
            UsageError: See `make_folds`, as for `DataError`.
            DataError: The rows are not those of the task.
        """
        if seed < 0:
            raise UsageError(f"A seed is a whole number from 0 on, not {seed}.")
        key = (seed, limit, validation, calibration, None if numbers is None else tuple(numbers))
        if key not in self._made:
            task, table = self.task, self.table
            self._made[key] = make_folds(
                task.kind,
                table.row,
                task.n_rows,
                table.target,
                seed,
                limit=limit,
                validation=validation,
                calibration=calibration,
                split=task.split,
                numbers=numbers,
            )
        return self._made[key]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the folds, which are megabytes and follow from the rest."""
        return vars(self) | {"_made": {}}

    @property
    def digest(self) -> str:
        """Hash of the crystals, their targets and their split: with the configuration it names a run."""
        return data_digest(self.table.digest, self.task.split)

    @property
    def read_as_hydrogen(self) -> list[str]:
        """Ids of the rows whose deuterium or tritium was read as hydrogen."""
        ids: list[str] = self.table.ids[self.table.heavy_hydrogen].tolist()
        return ids

    @property
    def coverage(self) -> float:
        """Share of the official rows that were loaded; 1 where the data set is complete by itself."""
        return len(self.table) / self.task.n_rows if self.task.n_rows else 1.0


def load_dataset(
    task: Task | str,
    data_dir: Path | None = None,
    *,
    on_bad_row: OnBadRow | None = None,
    symprec: float = SYMPREC,
    jobs: int = -1,
    progress: Progress | None = None,
    download_progress: Progress | None = None,
) -> Dataset:
    """Load the crystals of a task, from the cache where they were loaded before; a missing official file is downloaded.

    Args:
        task: What to load, or the name of a built-in task; `find_task` makes a task of own data.
        data_dir: Folder that holds the official data file, or receives it; None means SEN_BENCH_DATA or, where that
            is not set, the cache.
        on_bad_row: Whether rows of own data that cannot be used are an error ("fail", the default), or are left out and
            listed in `Dataset.skipped` ("skip").
        symprec: Tolerance of the refinement in Å: `graph.symprec` of the configuration that the crystals are for.
        jobs: Worker processes; -1 is one per core.
        progress: Called with the number of crystals read; not called where the cache has them.
        download_progress: Called with the megabytes (10^6 bytes) downloaded.

    Raises:
        UsageError: A folder does not exist or cannot be written, own data lack a column, or an argument is not for this
            kind of task.
        DataError: The data file is not what it should be, or cannot be downloaded; own data have bad rows.
    """
    if isinstance(task, str):
        task = get_task(task)
    if task.path is not None:
        if data_dir is not None:
            raise UsageError(f"data_dir is for the files of built-in tasks; {task.path} is read from where it is.")
        table, skipped = read_own_data(
            task, task.path, on_bad_row=on_bad_row or "fail", symprec=symprec, jobs=jobs, progress=progress
        )
        return Dataset(task, table, task.path.name, is_complete=True, skipped=skipped, symprec=symprec)
    if on_bad_row is not None:
        raise own_data_only(task, "on_bad_row")
    if task.name == "prototypes":
        from benchmarks.data.prototypes import make_prototypes

        table = make_prototypes(symprec=symprec, jobs=jobs, progress=progress)
        return Dataset(task, table, "made by sen-bench", is_complete=True, symprec=symprec)
    file = find_data_file(task, data_dir)
    if file is None:
        from benchmarks.data.download import fetch

        folder = named_folder(data_dir) or download_folder()
        logging.getLogger("sen_bench").warning("Downloading %s to %s.", task.url, folder)
        file = DataFile(fetch(task, folder, download_progress), "complete")
    table = read_matbench_json(
        file.path,
        task.target,
        row_id=task.row_id,
        kind=task.kind,
        symprec=symprec,
        jobs=jobs,
        progress=progress,
    )
    return Dataset(task, table, file.path.name, is_complete=file.coverage == "complete", symprec=symprec)
