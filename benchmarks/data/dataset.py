"""The crystals of a task, wherever they come from, and their folds."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.cache import read_source
from benchmarks.base.console import count
from benchmarks.base.errors import DataError, UsageError, printable, suggest
from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable, cached_matbench_json, matbench_json_key, read_matbench_json
from benchmarks.data.folds import (
    VALIDATION_FRACTION,
    Fold,
    data_digest,
    depends_on_data,
    make_folds,
    n_folds,
    outer_split,
)
from benchmarks.data.groups import FEWEST_WITH_ELEMENT, DataFolds, TestedRows, grouped_folds
from benchmarks.data.own_data import OnBadRow, SkippedRow, cached_own_data, own_data_only, own_task, read_own_data
from benchmarks.data.split_files import read_folds
from benchmarks.data.tasks import DataFile, Task, download_folder, find_data_file, get_task, named_folder
from sen.crystal import SYMBOLS, SYMPREC

__all__ = ["AbsentDataError", "Dataset", "LeftOut", "as_trained", "find_official", "load_dataset", "load_recorded"]


class AbsentDataError(DataError):
    """The crystals that a run was trained on are not available, or differ from those that are."""


@dataclass(frozen=True)
class LeftOut:
    """Rows of a data set that neither train nor validate, because another task has their formulas.

    Attributes:
        task: The other task.
        digest: Hash of its crystals.
        ids: Ids of the rows, in the order of the table.
    """

    task: str
    digest: str
    ids: tuple[str, ...]


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
        left_out: Rows that neither train nor validate; None if there are no such rows.
    """

    task: Task
    table: CrystalTable
    source: str
    is_complete: bool
    skipped: tuple[SkippedRow, ...] = ()
    symprec: float = SYMPREC
    left_out: LeftOut | None = None
    _made: dict[tuple[object, ...], list[Fold]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _of_data: list[DataFolds] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def tested(self) -> tuple[TestedRows, ...]:
        """What each fold tests, and its name; empty where the split does not depend on the data.

        Raises:
            UsageError: See `grouped_folds` and `read_folds`, as for
                `DataError`.
            DataError: The data or the split file cannot be read.
        """
        found = self._find_of_data() if depends_on_data(self.task.split) else None
        return found.tested if found else ()

    @property
    def n_folds(self) -> int | None:
        """Number of folds; None where there is no end of them.

        Raises:
            UsageError: See `tested`, as for `DataError`.
            DataError: The data or the split file cannot be read.
        """
        return len(self.tested) or n_folds(self.task.split)

    @property
    def fold_names(self) -> list[str]:
        """Name of each fold, such as "cubic", empty where it has none; no names where the split has no groups.

        Raises:
            UsageError: See `tested`, as for `DataError`.
            DataError: The data or the split file cannot be read.
        """
        return [tested.name for tested in self.tested]

    @property
    def has_validation_rows(self) -> bool:
        """Whether the split names validation rows, so that none are drawn from the training rows.

        Raises:
            UsageError: See `tested`, as for `DataError`.
            DataError: The data or the split file cannot be read.
        """
        found = self._find_of_data()
        in_file = found is not None and any(tested.validation is not None for tested in found.tested)
        return in_file or outer_split(self.task.split).startswith("holdout:")

    def fold_number(self, name: str) -> int:
        """Return the number of the fold of this name, such as "cubic".

        Raises:
            UsageError: There is none; the message has the nearest names.
            DataError: The data or the split file cannot be read.
        """
        if name in (names := self.fold_names):
            return names.index(name)
        if self.task.split == "element" and name in SYMBOLS:
            n = sum(
                SYMBOLS.index(name) + 1 in crystal for crystal in np.split(self.table.numbers, self.table.ptr[1:-1])
            )
            how_many = f"only {count(n)} contain" if n > 1 else "only 1 row contains" if n else "no row contains"
            raise UsageError(
                f"There is no fold for the element {name}: {how_many} it, and a fold tests an element that at least "
                f"{FEWEST_WITH_ELEMENT} rows contain."
            )
        if not any(names):
            raise UsageError(f"The folds of the split {self.task.split} have no names, only numbers: --folds 0,1.")
        raise UsageError(f"The split {self.task.split} has no fold {printable(name)!r}. {suggest(name, names)}")

    def training_rows(self, seed: int, limit: int | None, validation: float | None) -> int:
        """Return the training rows of a fold, without its validation rows, by which a configuration is settled.

        It is those of the first fold. Folds by groups differ much, and --folds may leave out the first: of them it is
        the mean, so that a run has one configuration whatever its folds.

        Raises:
            UsageError: See `folds`, as for `DataError`.
            DataError: The rows are not those of the task.
        """
        if not self.tested:
            return len(self.folds(seed, limit, validation)[0].train)
        share = VALIDATION_FRACTION if validation is None else validation
        rows = np.arange(len(self.table))
        if self.left_out:
            rows = np.setdiff1d(rows, self._left_out_rows())
        known = [len(np.setdiff1d(rows, tested.rows)) for tested in self.tested]
        kept = known if limit is None else [min(limit, n) for n in known]
        return max(1, round((1 - share) * sum(kept) / len(kept)))

    def _find_of_data(self) -> DataFolds | None:
        """Return the folds that depend on the data, which are found once; the inner ones of a split for tuning."""
        split = outer_split(self.task.split)
        if not depends_on_data(split):
            return None
        if not self._of_data:
            is_file = split.startswith("file:")
            found = read_folds(self.task, self.table) if is_file else grouped_folds(split, self.task, self.table)
            self._of_data.append(found)
        return self._of_data[0]

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
                of_data=self._find_of_data(),
                left_out=self._left_out_rows() if self.left_out else None,
            )
        return self._made[key]

    def _left_out_rows(self) -> NDArray[np.int64]:
        """Return the positions of the rows that neither train nor validate, [n]."""
        ids = set(self.left_out.ids if self.left_out else ())
        return np.flatnonzero([each in ids for each in self.table.ids.tolist()])

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the folds of seeds, which are megabytes and follow from the rest, and keep the groups."""
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
    if dataset := find_official(task, data_dir, symprec=symprec, jobs=jobs, progress=progress):
        return dataset
    from benchmarks.data.download import fetch

    folder = named_folder(data_dir) or download_folder()
    logging.getLogger("sen_bench").warning("Downloading %s to %s.", task.url, folder)
    file = DataFile(fetch(task, folder, download_progress), "complete")
    return _read_official(task, file, symprec=symprec, jobs=jobs, progress=progress)


def find_official(
    task: Task,
    data_dir: Path | None = None,
    *,
    symprec: float = SYMPREC,
    jobs: int = -1,
    progress: Progress | None = None,
) -> Dataset | None:
    """Load the crystals of an official task from its file or, where that is nowhere, from the cache; nothing else.

    Args:
        task: The task.
        data_dir: Folder that holds the data file, see `load_dataset`.
        symprec: Tolerance of the refinement in Å.
        jobs: Worker processes; -1 is one per core.
        progress: Called with the number of crystals read; not called where the cache has them.

    Returns:
        None where they are not available without a download.

    Raises:
        UsageError: The folder does not exist.
        DataError: The data file is not what it should be.
    """
    if file := find_data_file(task, data_dir):
        return _read_official(task, file, symprec=symprec, jobs=jobs, progress=progress)
    assert task.sha256 is not None
    table = cached_matbench_json(matbench_json_key(task.sha256, task.target, symprec), task.row_id)
    return None if table is None else Dataset(task, table, task.file_name, is_complete=True, symprec=symprec)


def _read_official(task: Task, file: DataFile, *, symprec: float, jobs: int = -1, progress: Progress | None) -> Dataset:
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


def load_recorded(
    task: Task, facts: Mapping[str, Any], data_dir: Path | None, *, symprec: float, progress: Progress | None = None
) -> Dataset:
    """Load the crystals that runs recorded: from the cache, from the file that they were read from, or as told.

    Nothing is downloaded. Rows of an official task are the same rows in every file of it, so that its content is not
    compared; the complete file, and one in a folder that the user names here, come before the cached rows of another.

    Args:
        task: The task of the runs, see `recorded_task`.
        facts: What they recorded of their data: "source", "digest", "is_complete", "skipped" and "left_out".
        data_dir: Folder of the MatBench files or of own data; None for SEN_BENCH_DATA or this folder.
        symprec: Tolerance of the refinement in Å.
        progress: Called with the number of crystals read; not called where the cache has them.

    Raises:
        AbsentDataError: They are not available, or differ from what was recorded.
        UsageError: There is no folder `data_dir`.
        DataError: They cannot be read.
    """
    if task.name == "prototypes":
        dataset = _recorded_prototypes(task, facts, symprec, progress)
    else:
        load = _recorded_official if task.is_official else _recorded_own
        dataset = load(task, facts, data_dir, symprec, progress)
    return as_trained(dataset, facts)


def as_trained(dataset: Dataset, facts: Mapping[str, Any]) -> Dataset:
    """Return a data set in which the rows are left out that a run recorded as left out of its training."""
    recorded = facts.get("left_out")
    left_out = LeftOut(recorded["task"], recorded["digest"], tuple(recorded["ids"])) if recorded else None
    return dataset if left_out == dataset.left_out else replace(dataset, left_out=left_out)


def _recorded_prototypes(task: Task, facts: Mapping[str, Any], symprec: float, progress: Progress | None) -> Dataset:
    from benchmarks.data.prototypes import cached_prototypes

    if table := cached_prototypes(facts["digest"]):
        return Dataset(task, table, facts["source"], is_complete=True, symprec=symprec)
    dataset = load_dataset(task, symprec=symprec, progress=progress)
    if dataset.table.digest != facts["digest"]:
        raise AbsentDataError("The runs were trained on prototypes that another version of sen-bench or moyopy made.")
    return dataset


def _recorded_official(
    task: Task, facts: Mapping[str, Any], data_dir: Path | None, symprec: float, progress: Progress | None
) -> Dataset:
    coverage: Literal["complete", "partial"] = "complete" if facts["is_complete"] else "partial"
    file = find_data_file(task, data_dir)
    if file is None or (data_dir is None and file.coverage == coverage):
        if table := cached_matbench_json(facts["digest"], task.row_id):
            is_complete = facts["is_complete"]
            return Dataset(task, table, facts["source"], is_complete=is_complete, symprec=symprec)
        if source := read_source(facts["digest"]):
            dataset = _read_official(task, DataFile(source, coverage), symprec=symprec, progress=progress)
            if dataset.table.digest == facts["digest"]:
                return dataset
    if found := find_official(task, data_dir, symprec=symprec, progress=progress):
        return found
    raise AbsentDataError(
        f"The crystals of {task.name} are not available: they are neither in the cache nor where they were read from, "
        f"and no folder of data holds {task.file_name}: name its folder with --data-dir or SEN_BENCH_DATA."
    )


def _recorded_own(
    task: Task, facts: Mapping[str, Any], data_dir: Path | None, symprec: float, progress: Progress | None
) -> Dataset:
    cached = cached_own_data(facts["digest"])
    from_cache = None
    if cached is not None:
        table, skipped = cached
        from_cache = Dataset(task, table, facts["source"], is_complete=True, skipped=skipped, symprec=symprec)
        if not task.split.startswith("group:"):  # the column of these groups is in the file alone
            return from_cache
    named = named_folder(data_dir)
    places = (named and named / facts["source"], read_source(facts["digest"]), Path(facts["source"]))
    path = next((place for place in places if place is not None and place.exists()), None)
    if path is not None:
        own = replace(own_task(path, target=task.target, kind=task.kind, unit=task.unit), split=task.split)
        on_bad_row: OnBadRow = "skip" if facts.get("skipped") else "fail"
        dataset = load_dataset(own, on_bad_row=on_bad_row, symprec=symprec, progress=progress)
        if dataset.table.digest == facts["digest"]:
            return dataset
    if from_cache is not None:
        return from_cache
    if path is not None:
        raise AbsentDataError(
            f"{facts['source']} is not what the runs were trained on: its content has changed since, or the version of "
            "sen-bench, moyopy or pymatgen that reads it."
        )
    raise AbsentDataError(
        f"The crystals of {task.name} are not available: they are neither in the cache nor where they were read from: "
        f"give the folder that holds {facts['source']} with --data-dir, or start the command there."
    )
