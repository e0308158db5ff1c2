"""Weights of another run to start from: which of them fit, and which test rows they may know."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.base.console import count
from benchmarks.base.errors import DataError, UsageError, printable
from benchmarks.base.workers import Progress
from benchmarks.base.zip_path import AnyPath
from benchmarks.data.dataset import Dataset, load_recorded
from benchmarks.data.folds import data_digest
from benchmarks.data.near_duplicates import find_known
from benchmarks.data.tasks import recorded_task
from benchmarks.results.recorded import completed, recorded_variant
from benchmarks.results.run_config import Pretrained, RunConfig
from benchmarks.results.store import Run, Training, find_training

__all__ = ["InitialWeights", "Start", "find_initial_weights", "freeze", "start_from", "take", "with_current_names"]

# What BatchNorm learns beside its parameters. Other buffers are constants, which the configuration sets.
_RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_HEAD = "model.head."
# Rows named in a message.
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """The weights of a finished training, for other trainings to start from.

    Attributes:
        run: Its run.
        training: Which of its trainings.
        facts: The config.json of the run.
        record: What the configuration of a run that starts from them says.
        data_dir: Folder of the data that the run was trained on; None for SEN_BENCH_DATA or this folder.
    """

    run: Run
    training: Training
    facts: Mapping[str, Any]
    record: Pretrained
    data_dir: Path | None

    def __str__(self) -> str:
        """How messages name them."""
        return str(self.run.training_path(self.training))

    def read(self) -> dict[str, Tensor]:
        """Read the weights, onto the CPU.

        Raises:
            DataError: They were removed or have changed.
        """
        if self.run.weights_digest(self.training) != self.record.weights:
            raise DataError(f"The weights in {self} have changed since the command began: start it again.")
        return with_current_names(self.run.read_weights(self.training))

    def known_rows(self, dataset: Dataset, progress: Progress | None = None) -> NDArray[np.int64]:
        """Return the positions of the rows of a data set whose crystals the weights know, int64 [n].

        These are the crystals that trained them, chose their epoch or chose their recipe, and nearly the same ones.

        Raises:
            DataError: That cannot be determined; the message says why.
        """
        config, data = completed(self.facts["config"]), self.facts["data"]
        if "pretrained" in config:
            raise DataError(f"it started itself from weights that {config['pretrained']['task']} had trained")
        if (symprec := config["graph"]["symprec"]) != dataset.symprec:
            raise DataError(
                f"its crystals were refined to {symprec:g} Å, these to {dataset.symprec:g} Å (graph.symprec)"
            )
        tuned = config.get("tuned")
        if tuned and tuned["data"] != data_digest(data["digest"], self.facts["task"]["split"]):
            raise DataError(f"other rows, of {tuned['task']}, chose its recipe")
        source = load_recorded(
            recorded_task(self.facts["task"]), data, self.data_dir, symprec=symprec, progress=progress
        )
        if source.table.digest != data["digest"]:
            raise DataError(f"{source.source} is not the file that it was trained on")
        share = config["training"]["validation"]

        def rows_of(dataset: Dataset, folds: Collection[int], limit: int | None) -> list[NDArray[np.int64]]:
            """Return the rows of each fold that train or validate."""
            found = dataset.folds(self.training.seed, limit, share, numbers=[*folds])
            return [np.union1d(fold.train, fold.validation) for fold in found]

        (rows,) = rows_of(source, [self.training.fold], config["limit"])
        if tuned:
            # A row that chose the recipe is a test row of none of these folds. The search had no limit, or another one;
            # unless it left out the same rows as the run, it may have left out none.
            has_same = tuned.get("without") == (config.get("without") or {}).get("data")
            searched = source if has_same else replace(source, left_out=None)
            rows = np.union1d(rows, functools.reduce(np.intersect1d, rows_of(searched, tuned["folds"], None)))
        return find_known(dataset.table, source.table, rows, progress=progress)


def find_initial_weights(path: AnyPath, *, allow_overlap: bool, data_dir: Path | None = None) -> InitialWeights:
    """Find the weights of a finished training.

    Args:
        path: A run, for its first training, or one of its trainings, such as RUN/seed_1/fold_2.
        allow_overlap: Whether rows that will be tested may be among the crystals that they know.
        data_dir: Folder of the data that the run was trained on; None for SEN_BENCH_DATA or this folder.

    Raises:
        UsageError: There is no such run, or the training is not finished.
        DataError: The run cannot be read, or has no weights, as in an archive.
    """
    run, training = find_training(path)
    facts = run.read_config()
    record = Pretrained(
        run=run.path.resolve().name,
        task=facts["task"]["name"],
        seed=training.seed,
        fold=training.fold,
        weights=run.weights_digest(training),
        allow_overlap=allow_overlap,
    )
    return InitialWeights(run, training, facts, record, data_dir)


@dataclass(frozen=True, eq=False)
class Start:
    """How the trainings of a plan start from weights of another run.

    Attributes:
        weights: The weights.
        taken: Names of the parameters and running statistics of the model that are taken from there.
        drawn: Names of those that are drawn at random, because nothing there has their name and shape.
        share: Share of the model's parameters that is taken.
        known: Positions of the rows of the data set that the weights know, int64 [n]; None if that is not known.
    """

    weights: InitialWeights
    taken: list[str]
    drawn: list[str]
    share: float
    known: NDArray[np.int64] | None

    def facts(self, tested: NDArray[np.int64]) -> dict[str, Any]:
        """Return what the record of a training says that tests the rows at these positions [m]."""
        return {
            **self.weights.record.model_dump(),
            "source": str(self.weights),
            "taken": self.taken,
            "drawn": self.drawn,
            "known_test_rows": None if self.known is None else len(np.intersect1d(self.known, tested)),
        }


def start_from(
    weights: InitialWeights,
    predictor: nn.Module,
    config: RunConfig,
    dataset: Dataset,
    tested: NDArray[np.int64],
    progress: Progress | None = None,
) -> Start:
    """Find out what a run takes from weights, and check that they know none of its test rows unless they may.

    Args:
        weights: The weights.
        predictor: The untrained model.
        config: Its configuration.
        dataset: The crystals.
        tested: Positions of all rows that will be tested [m].
        progress: Called with the number of crystals of the other run that are read.

    Raises:
        UsageError: Nothing fits, or is left to train; or the weights know test rows, or may know them, although that is
            not allowed.
        DataError: The weights cannot be read.
    """
    theirs = recorded_variant(weights.facts["config"])
    state = _learnt(predictor)
    taken = (
        take(predictor, weights.read()) if weights.facts["config"].get("model_name", "sen") == config.model_name else []
    )
    if not taken:
        raise UsageError(
            f"No weights in {weights}, of {theirs}, have the names and shapes of those of {config.variant}: start from "
            "a run of the same model."
        )
    parameters = dict(predictor.named_parameters())
    if config.training.frozen_epochs and not any(_changes(name, taken) for name in parameters):
        raise UsageError(
            "training.frozen_epochs leaves nothing to train: all weights are taken, and the model has no head."
        )
    known = _check_overlap(weights, dataset, tested, progress)
    n_taken = sum(parameters[name].numel() for name in taken if name in parameters)
    share = n_taken / sum(parameter.numel() for parameter in parameters.values())
    return Start(weights, taken, [name for name in state if name not in taken], share, known)


def _check_overlap(
    weights: InitialWeights, dataset: Dataset, tested: NDArray[np.int64], progress: Progress | None
) -> NDArray[np.int64] | None:
    """Return the rows that the weights know; None if that is not known.

    Raises:
        UsageError: Test rows are among them, or may be, although that is not allowed.
    """
    hint = "--allow-overlap trains nevertheless, and its results are labelled and have no rank."
    try:
        known = weights.known_rows(dataset, progress)
    except DataError as reason:
        if weights.record.allow_overlap:
            return None
        why = str(reason).removesuffix(".")
        raise UsageError(
            f"It cannot be checked whether {weights} has test rows among its crystals: {why}. {hint}"
        ) from None
    overlap = np.intersect1d(known, tested)
    if len(overlap) and not weights.record.allow_overlap:
        first = ", ".join(map(printable, dataset.table.ids[overlap[:_SHOWN]].tolist()))
        raise UsageError(
            f"{weights} was trained on nearly the crystals of {len(overlap):,} of {count(len(tested), 'test row')} "
            f"({first}{', ...' if len(overlap) > _SHOWN else ''}): choose other folds or weights. {hint}"
        )
    return known


def with_current_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by the names that they have now; sen-bench 0.1 stored others."""
    own = {"shift", "scale"}
    return {name if name in own or name.startswith("model.") else f"model.{name}": w for name, w in weights.items()}


@torch.no_grad()
def take(predictor: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Give a model the weights whose names and shapes are those of its own, and return their names."""
    fitting = {
        name: own for name, own in _learnt(predictor).items() if name in weights and weights[name].shape == own.shape
    }
    for name, own in fitting.items():
        own.copy_(weights[name])
    return list(fitting)


def freeze(predictor: nn.Module, taken: Collection[str], *, frozen: bool) -> None:
    """Let the weights that were taken, except those of the head, change in training or not.

    The model must be in the mode for training. BatchNorm whose statistics are frozen uses them, as in prediction.
    """
    for name, parameter in predictor.named_parameters():
        parameter.requires_grad_(not frozen or _changes(name, taken))
    for path, module in predictor.named_modules():
        names = [f"{path}.{name}" for name, _ in module.named_buffers(recurse=False)]
        if frozen and any(not _changes(name, taken) for name in names):
            module.eval()


def _changes(name: str, taken: Collection[str]) -> bool:
    """Whether a weight changes although others are frozen."""
    return name not in taken or name.startswith(_HEAD)


def _learnt(predictor: nn.Module) -> dict[str, Tensor]:
    """Return what training changes in a model: its parameters and running statistics, by name."""
    statistics = {name: b for name, b in predictor.named_buffers() if name.rpartition(".")[2] in _RUNNING_STATISTICS}
    return dict(predictor.named_parameters()) | statistics
