"""What is to be trained: a configuration on a data set, and the folds and seeds that are missing."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks.base.errors import DataError, UnreadableError, UsageError
from benchmarks.base.workers import Progress
from benchmarks.base.zip_path import open_path
from benchmarks.data.dataset import Dataset
from benchmarks.data.folds import Fold, check_fold_numbers, fold_label
from benchmarks.data.graph_table import GraphTable, build_graphs
from benchmarks.data.tasks import TASKS
from benchmarks.results.recorded import assignment, earlier_defaults
from benchmarks.results.run_config import RunConfig, Without, is_fitted
from benchmarks.results.store import Run, Training, other_code
from benchmarks.training.pretrained import InitialWeights, Start, start_from
from benchmarks.training.trainer import Predictor, build_model, check_model

__all__ = ["Overwrite", "Plan", "PlannedTraining", "make_plan", "run_facts"]

Overwrite = Literal["only-missing", "always", "never"]


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be done in one run.

    Attributes:
        config: The configuration.
        dataset: The crystals.
        graphs: Graphs of the crystals.
        run: The run, which stores the results.
        trainings: The trainings asked for, one for each fold and seed.
        missing: Those of them that are not finished.
        start: The weights of another run from which they start; None if theirs are drawn.
    """

    config: RunConfig
    dataset: Dataset
    graphs: GraphTable
    run: Run
    trainings: list[Training]
    missing: list[Training]
    start: Start | None = None

    @property
    def pending(self) -> list[PlannedTraining]:
        """The missing trainings, each with this plan."""
        return [PlannedTraining(self, training) for training in self.missing]

    @property
    def under_way(self) -> list[Training]:
        """The missing trainings that an earlier command began."""
        return [training for training in self.run.under_way() if training in self.missing]

    def fold(self, training: Training) -> Fold:
        """The rows of a training's fold."""
        config, recipe = self.config, self.config.training
        (fold,) = self.dataset.folds(
            training.seed, config.limit, recipe.validation, recipe.calibration, numbers=[training.fold]
        )
        return fold


class PlannedTraining(NamedTuple):
    """A training with its plan: what one worker trains at a time."""

    plan: Plan
    training: Training

    def __str__(self) -> str:
        """How messages name the training: "fold 6 (cubic), seed 0"."""
        names, fold = self.plan.dataset.fold_names, self.training.fold
        return f"fold {fold_label(fold, *names[fold : fold + 1])}, seed {self.training.seed}"


def run_facts(config: RunConfig, dataset: Dataset) -> dict[str, Any]:
    """Return what config.json of a run records: its configuration, its task and its data."""
    return {
        "config": config.model_dump(mode="json"),
        "task": dataset.task.facts(),
        "data": {
            "source": dataset.source,
            "digest": dataset.table.digest,
            "rows": len(dataset.table),
            "official_rows": dataset.task.n_rows,
            "coverage": dataset.coverage,
            "is_complete": dataset.is_complete,
            "read_as_hydrogen": dataset.read_as_hydrogen,
            "skipped": [row._asdict() for row in dataset.skipped],
            **({"left_out": asdict(dataset.left_out)} if dataset.left_out else {}),
            **_folds_of_data(config, dataset),
        },
    }


def _folds_of_data(config: RunConfig, dataset: Dataset) -> dict[str, Any]:
    """Return what a run records of folds that only the data tell: their names, and by which rows it was settled."""
    if not dataset.tested:
        return {}
    n_rows = dataset.training_rows(0, config.limit, config.training.validation)
    return {"fold_names": dataset.fold_names, "training_rows": n_rows}


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
    paired: bool = False,
    initial: InitialWeights | None = None,
) -> Plan:
    """Settle the configuration, open the run folder, build the graphs and find the trainings that are missing.

    Args:
        config: The configuration.
        dataset: The crystals.
        folds: Numbers of the folds.
        seeds: The seeds; each trains all folds, unless they are paired.
        out: Folder of the run store; an archive in its place is only read.
        overwrite: Whether to keep finished trainings ("only-missing"), to discard their results and states first, so
            that all are missing ("always"), or to refuse to train where results exist ("never").
        progress: Called with the number of graphs that are built, and of crystals that are read for `initial`.
        is_trial: Whether to write nothing into the store.
        paired: Whether each seed trains the fold in the same place alone.
        initial: Weights of another run to start from.

    Raises:
        UsageError: A fold or seed is not valid, there are too few rows, the model refuses its configuration, the loss
            is not for this kind of task, a folder cannot be written, an archive lacks a training, results exist
            although `overwrite` is "never", or another process is training although it is "always"; or the run cannot
            start from the initial weights, see `start_from`.
        DataError: The rows of the data set are not those of its task, or a result cannot be read.
    """
    task, table = dataset.task, dataset.table
    _check_fit(config, dataset)
    if not seeds or min(seeds) < 0:
        raise UsageError("A seed is a whole number from 0 on, and at least one is needed.")
    with _named(dataset.source):
        config, end = _with_share_of_split(config, dataset), dataset.n_folds
    check_fold_numbers(folds, task.split, end)
    with _named(dataset.source):
        recipe = config.training
        n_rows = dataset.training_rows(seeds[0], config.limit, recipe.validation)
        if dataset.tested:  # a fold may leave no rows to train on, and is better refused now than after the others
            dataset.folds(seeds[0], config.limit, recipe.validation, recipe.calibration, numbers=folds)
    by_rows = config.by_rows(n_rows)
    config = _with_left_out(config.settle(n_rows), dataset)
    check_model(config)
    pairs = zip(seeds, folds, strict=True) if paired else itertools.product(seeds, folds)
    trainings = [Training(seed, fold) for seed, fold in pairs]
    start = _start(initial, config, dataset, trainings, progress)
    if start is not None:
        config = config.model_copy(update={"pretrained": start.weights.record})
    if out.suffix == ".zip" and not out.exists():
        raise UsageError(f"There is no archive {out}: name it, or a folder to train in, with --out.")
    run = Run(open_path(out) / task.name / f"{config.variant}-{config.digest(dataset.digest)}")
    if overwrite == "never" and (there := [training for training in run.trainings() if training in trainings]):
        raise UsageError(
            f"{run.path} already holds results ({'; '.join(map(str, there))}): with --overwrite never nothing is run."
        )
    _warn_of_earlier(run, config, dataset, by_rows)
    if run.is_archived and not is_trial:
        _check_complete(run, trainings)
    elif not is_trial:
        _warn_of_changes(run, task.unit)
        run.write_config(run_facts(config, dataset))
    graphs = build_graphs(table, config.graph, jobs=-1, progress=progress)
    if overwrite == "always":
        run.discard(trainings)
    finished = [training for training in run.trainings() if training in trainings]
    for difference in other_code(run, finished, config.variant):
        logging.getLogger("sen_bench").warning("%s and is kept as it is; --overwrite always repeats it.", difference)
    missing = [training for training in trainings if training not in finished]
    return Plan(config, dataset, graphs, run, trainings, missing, start)


def _start(
    initial: InitialWeights | None,
    config: RunConfig,
    dataset: Dataset,
    trainings: Sequence[Training],
    progress: Progress | None,
) -> Start | None:
    """Return how trainings start from weights of another run, see `start_from`; None if there are none."""
    if initial is None:
        if config.training.frozen_epochs:
            raise UsageError("training.frozen_epochs is for weights of another run: name it with --init-from.")
        return None
    if is_fitted(config.variant):
        raise UsageError(
            f"The model {config.variant!r} is fitted at once and starts from no weights: leave out --init-from."
        )
    numbers = sorted({training.fold for training in trainings})
    folds = dataset.folds(trainings[0].seed, config.limit, config.training.validation, numbers=numbers)
    tested = np.unique(np.concatenate([fold.test for fold in folds]))
    return start_from(initial, Predictor(build_model(config)), config, dataset, tested, progress)


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Let errors in the `with` statement name the data that they are about."""
    try:
        yield
    except (UsageError, DataError) as error:
        raise type(error)(f"{source}: {error}") from None


def _with_share_of_split(config: RunConfig, dataset: Dataset) -> RunConfig:
    """Let the share of validation rows of a recipe give way to the rows that a holdout split or a split file names."""
    training = config.training
    if not training.validation or "validation" in training.model_fields_set or not dataset.has_validation_rows:
        return config
    return config.model_copy(update={"training": training.model_copy(update={"validation": None})})


def _with_left_out(config: RunConfig, dataset: Dataset) -> RunConfig:
    """Let a configuration say which rows of the data set do not train."""
    if (left_out := dataset.left_out) is None:
        return config
    return config.model_copy(update={"without": Without(task=left_out.task, data=left_out.digest)})


def _check_fit(config: RunConfig, dataset: Dataset) -> None:
    task = dataset.task
    if config.graph.symprec != dataset.symprec:
        raise UsageError(
            f"The crystals of {task.name} were refined to {dataset.symprec:g} Å, but graph.symprec is "
            f"{config.graph.symprec:g}: load them with that tolerance (load_dataset, symprec)."
        )
    # A publication's recipe for regressions is no mistake of the user.
    if task.kind == "classification" and "loss" in config.training.model_fields_set:
        raise UsageError(
            f"{task.name} is a classification, which minimises the binary cross-entropy: leave out training.loss="
            f"{config.training.loss}, which is for regressions."
        )


def _check_complete(run: Run, trainings: Sequence[Training]) -> None:
    finished = run.trainings()
    if lacks := [training for training in trainings if training not in finished]:
        raise UsageError(
            f"{run.path} is in an archive, which is never changed, and lacks {'; '.join(map(str, lacks))}: name a "
            "folder with --out to train there."
        )


def _warn_of_earlier(run: Run, config: RunConfig, dataset: Dataset, by_rows: Container[str]) -> None:
    """Say how to continue a run that an earlier version, with other defaults, began with the same settings.

    Own data are left out: their crystals are read anew, so that no settings continue such a run.
    """
    if run.is_archived or run.path.exists() or dataset.task.name not in TASKS:
        return
    for folder in sorted(run.folder.parent.glob(f"{config.variant}-*")):
        earlier = Run(folder)
        try:
            facts = earlier.read_config()
            is_of_data = facts["task"]["split"] == dataset.task.split and facts["data"]["rows"] == len(dataset.table)
            changed = earlier_defaults(facts["config"], config.model_dump(mode="json"), by_rows)
        except (DataError, KeyError, TypeError, AttributeError):
            continue  # `status` says what is wrong with it
        if is_of_data and changed and (earlier.trainings() or earlier.under_way()):
            logging.getLogger("sen_bench").warning(
                "%s was begun with these settings and the defaults of an earlier version; %s is a new run. To continue "
                "the earlier one, give %s.",
                earlier.path,
                run.path.name,
                " ".join(f"--set {assignment(field, value)}" for field, value in changed.items()),
            )


def _warn_of_changes(run: Run, unit: str) -> None:
    """Warn where the config.json of a run is repaired, or its results get another unit.

    A unit is only a label and does not make it another run.

    Raises:
        UnreadableError: The system refuses to read config.json.
    """
    if not (run.path / "config.json").exists():
        return
    try:
        before = run.read_config()["task"]["unit"]
    except UnreadableError:
        raise
    except (DataError, KeyError) as error:
        logging.getLogger("sen_bench").warning("This command writes a config.json again. %s", error)
        return
    if before != unit and (run.trainings() or run.under_way()):
        logging.getLogger("sen_bench").warning(
            "%s: its unit was %s and is %s from now on (--unit).", run.path, before or "not given", unit or "not given"
        )
