"""The crystals of a task, wherever they come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.crystals import CrystalTable, Progress, read_matbench_json
from benchmarks.tasks import Task, find_data_file

__all__ = ["Dataset", "load_dataset"]


@dataclass(frozen=True)
class Dataset:
    """A task with its crystals.

    Attributes:
        task: What is predicted.
        table: The crystals at hand.
        source: Name of the file they were read from, or what made them.
        is_complete: Whether these are all rows of the task, verified by hash where there is an official file.
    """

    task: Task
    table: CrystalTable
    source: str
    is_complete: bool

    @property
    def coverage(self) -> float:
        """Share of the official rows that are at hand; 1 where the data set is complete by itself."""
        return len(self.table) / self.task.n_rows if self.task.n_rows else 1.0


def load_dataset(
    task: Task, data_dir: Path | None = None, *, jobs: int = -1, progress: Progress | None = None
) -> Dataset:
    """Load the crystals of a task, from the cache where they were loaded before.

    Raises:
        UsageError: There is no data file.
        DataError: The data file is not what it should be.
    """
    if task.name == "prototypes":
        from benchmarks.prototypes import make_prototypes

        return Dataset(task, make_prototypes(jobs=jobs, progress=progress), "made by sen-bench", is_complete=True)
    file = find_data_file(task, data_dir)
    table = read_matbench_json(file.path, task.target, row_id=task.row_id, jobs=jobs, progress=progress)
    return Dataset(task, table, file.path.name, is_complete=file.coverage == "complete")
