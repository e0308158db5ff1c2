"""What is going to be trained: a configuration on a data set, and the folds and seeds of it that are missing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.base.errors import DataError, UsageError
from benchmarks.base.workers import Progress
from benchmarks.base.zip_path import open_path
from benchmarks.data.dataset import Dataset
from benchmarks.data.folds import Fold, check_fold_numbers, make_folds
from benchmarks.data.graph_table import GraphTable, build_graphs
from benchmarks.results.run_config import RunConfig
from benchmarks.results.store import Run, Training, other_code
from benchmarks.training.trainer import build_model

__all__ = ["Overwrite", "Plan", "PlannedTraining", "make_plan"]

Overwrite = Literal["only-missing", "always", "never"]


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be done in one run.

    Attributes:
        config: The configuration.
        dataset: The crystals.
        graphs: Their graphs.
        run: Where results go.
        trainings: The folds and seeds asked for.
        missing: Those of them that have to be trained.
    """

    config: RunConfig
    dataset: Dataset
    graphs: GraphTable
    run: Run
    trainings: list[Training]
    missing: list[Training]

    @property
    def pending(self) -> list[PlannedTraining]:
        """The missing trainings, as `execute` takes them."""
        return [PlannedTraining(self, training) for training in self.missing]

    @property
    def under_way(self) -> list[Training]:
        """The missing trainings that an earlier command began."""
        return [training for training in self.run.under_way() if training in self.missing]

    def fold(self, training: Training) -> Fold:
        """The rows of a training's fold."""
        task, table = self.dataset.task, self.dataset.table
        folds = make_folds(
            task.kind, table.row, task.n_rows, table.target, training.seed, limit=self.config.limit, split=task.split
        )
        return folds[training.fold]


class PlannedTraining(NamedTuple):
    """A training of a plan: what one worker trains at a time."""

    plan: Plan
    training: Training


def make_plan(
    config: RunConfig,
    dataset: Dataset,
    *,
    folds: Sequence[int],
    seeds: Sequence[int],
    out: Path,
    overwrite: Overwrite = "only-missing",
    progress: Progress | None = None,
    is_trial: bool = False,
) -> Plan:
    """Settle the configuration, build the graphs, open the run folder and see which folds are missing.

    With `overwrite` "always", results and states of the trainings are discarded, so that all are missing. A trial
    writes nothing into the store. An archive in place of `out` is only read.

    Raises:
        UsageError: A fold or seed that cannot be, too few rows, a block that refuses its configuration, a folder that
            cannot be written, an archive that lacks a training, results that exist although `overwrite` is "never", or
            trainings that another process is training although it is "always".
    """
    task, table = dataset.task, dataset.table
    check_fold_numbers(folds, task.split)
    if not seeds or min(seeds) < 0:
        raise UsageError("A seed is a whole number from 0 on, and at least one is needed.")
    try:
        first, *_ = make_folds(
            task.kind, table.row, task.n_rows, table.target, seeds[0], limit=config.limit, split=task.split
        )
    except (UsageError, DataError) as error:
        raise type(error)(f"{dataset.source}: {error}") from None
    # A run has one configuration: that of the first fold, from which the others differ by a few rows.
    config = config.settle(len(first.train))
    build_model(config)  # refuses what its block refuses
    facts = {
        "config": config.model_dump(mode="json"),
        "task": task.facts(),
        "data": {
            "source": dataset.source,
            "digest": table.digest,
            "rows": len(table),
            "official_rows": task.n_rows,
            "coverage": dataset.coverage,
            "is_complete": dataset.is_complete,
            "read_as_hydrogen": dataset.read_as_hydrogen,
            "skipped": [row._asdict() for row in dataset.skipped],
        },
    }
    if out.suffix == ".zip" and not out.exists():
        raise UsageError(f"There is no archive {out}: name it, or a folder to train in, with --out.")
    run = Run(open_path(out) / task.name / f"{config.block_name}-{config.digest(dataset.digest)}")
    trainings = [Training(seed, fold) for seed in seeds for fold in folds]
    if overwrite == "never" and (there := [training for training in run.trainings() if training in trainings]):
        raise UsageError(
            f"{run.path} already holds results ({'; '.join(map(str, there))}): with --overwrite never nothing is run."
        )
    if run.is_archived and not is_trial:
        _check_complete(run, trainings)
    elif not is_trial:
        _tell_new_unit(run, task.unit)
        run.write_config(facts)
    graphs = build_graphs(table, config.graph, jobs=-1, progress=progress)
    if overwrite == "always":
        run.discard(trainings)
    finished = [training for training in run.trainings() if training in trainings]
    for told in other_code(run, finished, config.block_name):
        logging.getLogger("sen_bench").warning("%s and is kept as it is; --overwrite always trains it anew.", told)
    return Plan(
        config, dataset, graphs, run, trainings, [training for training in trainings if training not in finished]
    )


def _check_complete(run: Run, trainings: Sequence[Training]) -> None:
    finished = run.trainings()
    if lacks := [training for training in trainings if training not in finished]:
        raise UsageError(
            f"{run.path} is in an archive, which is never changed, and lacks {'; '.join(map(str, lacks))}: name a "
            "folder with --out to train there."
        )


def _tell_new_unit(run: Run, unit: str) -> None:
    """Say where the results of a run are about to be given in another unit: it is a label, and no part of its name."""
    try:
        before = run.read_config()["task"]["unit"]
    except (DataError, KeyError, TypeError):  # a new run, or a damaged config.json, which is written anew
        return
    if before != unit and (run.trainings() or run.under_way()):
        logging.getLogger("sen_bench").warning(
            "%s: its unit was %s and is %s from now on (--unit).", run.path, before or "not given", unit or "not given"
        )
