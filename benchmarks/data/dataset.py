"""The crystals of a task, wherever they come from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.base.cache import digest
from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable, read_matbench_json
from benchmarks.data.tasks import DataFile, Task, find_data_file, named_folder, own_folder

__all__ = ["Dataset", "SkippedRow", "load_dataset"]


class SkippedRow(NamedTuple):
    """A row that was left out because it cannot be used; `problem` completes the sentence "row ..."."""

    id: str
    problem: str


@dataclass(frozen=True)
class Dataset:
    """A task with its crystals.

    Attributes:
        task: What is predicted.
        table: The crystals at hand.
        source: Name of the file they were read from, or what made them.
        is_complete: Whether these are all rows of the task, verified by hash where there is an official file.
        skipped: Rows of the user's own data that were left out.
    """

    task: Task
    table: CrystalTable
    source: str
    is_complete: bool
    skipped: tuple[SkippedRow, ...] = ()

    @property
    def digest(self) -> str:
        """Hash of the crystals, their targets and their split: what names a run beside its configuration."""
        split = self.task.split
        return self.table.digest if split == "folds" else digest(table=self.table.digest, split=split)

    @property
    def read_as_hydrogen(self) -> list[str]:
        """Ids of the rows whose deuterium or tritium was read as hydrogen."""
        ids: list[str] = self.table.ids[self.table.heavy_hydrogen].tolist()
        return ids

    @property
    def coverage(self) -> float:
        """Share of the official rows that are at hand; 1 where the data set is complete by itself."""
        return len(self.table) / self.task.n_rows if self.task.n_rows else 1.0


def load_dataset(
    task: Task,
    data_dir: Path | None = None,
    *,
    jobs: int = -1,
    progress: Progress | None = None,
    download_progress: Progress | None = None,
) -> Dataset:
    """Load the crystals of a task, from the cache where they were loaded before; download a file that is not at hand.

    Args:
        task: What to load.
        data_dir: Folder that holds the data file, or else receives it; None means SEN_BENCH_DATA or, where that names
            none, the cache.
        jobs: Worker processes; -1 is one per core.
        progress: Told how far the reading is.
        download_progress: Told how far the download is, in megabytes.

    Raises:
        UsageError: A folder does not exist, or cannot be written.
        DataError: The data file is not what it should be, or cannot be downloaded.
    """
    if task.name == "prototypes":
        from benchmarks.data.prototypes import make_prototypes

        return Dataset(task, make_prototypes(jobs=jobs, progress=progress), "made by sen-bench", is_complete=True)
    file = find_data_file(task, data_dir)
    if file is None:
        from benchmarks.data.download import fetch

        folder = named_folder(data_dir) or own_folder()
        logging.getLogger("sen_bench").warning("Downloading %s to %s.", task.url, folder)
        file = DataFile(fetch(task, folder, download_progress), "complete")
    table = read_matbench_json(file.path, task.target, row_id=task.row_id, kind=task.kind, jobs=jobs, progress=progress)
    return Dataset(task, table, file.path.name, is_complete=file.coverage == "complete")
