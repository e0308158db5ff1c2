"""Predictions of all models of a run for structures that belong to no task."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import DataError, UsageError
from benchmarks.base.machine import n_threads, prepare_arithmetic
from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import reduced_formula
from benchmarks.data.graph_table import GraphSettings
from benchmarks.data.raw_crystal import BadRow, any_error_is_bad
from benchmarks.data.structures import FILE_NAMES, parse_structure, read_structure, structure_files
from benchmarks.results.conformal import Calibrator, merge_intervals, merge_labels, read_calibrators, why_too_few
from benchmarks.results.run_config import RunConfig, restore_config
from benchmarks.results.store import Run, Training, other_code
from benchmarks.training.loader import GraphTensors
from benchmarks.training.trainer import Predictor, build_model, guard_model, predict, probabilities
from sen.crystal import SYMBOLS, Crystal, refine
from sen.graph import Graph, build_graph, join_graphs
from sen.registry import variant_kind

_LABELS = ("false", "true")

__all__ = ["Ensemble", "Prediction", "Sample", "find_files", "load_predictor", "prediction_facts", "read_samples"]


@dataclass(frozen=True)
class Sample:
    """A structure to predict.

    Attributes:
        source: The file it was read from, or its name.
        crystal: Its refined primitive cell.
        graph: Its graph, as the models of a run read it.
        heavy_hydrogen: Whether deuterium or tritium was read as hydrogen.
    """

    source: Path | str
    crystal: Crystal
    graph: Graph
    heavy_hydrogen: bool

    @property
    def elements(self) -> list[str]:
        """Symbols of the elements, in order of atomic number."""
        return [SYMBOLS[number - 1] for number in np.unique(self.crystal.numbers)]

    @property
    def formula(self) -> str:
        """Reduced formula, such as "NaCl"."""
        return reduced_formula(self.crystal.numbers)


@dataclass(frozen=True)
class Prediction:
    """Predictions of the models of a run for a structure.

    Attributes:
        sample: The structure.
        by_model: Prediction of each model in the unit of the target, or its probability of a true label, [models].
        never_seen: Elements that some models have not seen in any training row, and the number of those models.
        interval: Lower and upper end of the interval of the target; None for a classification, and where there is none.
        interval_by_spread: That whose width goes with the spread over the seeds; None also where a fold has one seed.
        labels: The set of labels, of "false" and "true", that a classification has in place of an interval; None where
            there is none.
    """

    sample: Sample
    by_model: tuple[float, ...]
    never_seen: dict[str, int]
    interval: tuple[float, float] | None = None
    interval_by_spread: tuple[float, float] | None = None
    labels: list[str] | None = None

    @property
    def mean(self) -> float:
        """Mean over the models."""
        return float(np.mean(self.by_model))

    @property
    def spread(self) -> float:
        """Standard deviation over the models (ddof 1); NaN for a single one. It is no bound on the error."""
        return float(np.std(self.by_model, ddof=1)) if len(self.by_model) > 1 else math.nan


def load_predictor(config: RunConfig, run: Run, training: Training) -> Predictor:
    """Return the model of a finished training, with its weights.

    Raises:
        DataError: The weights were removed, or do not fit because another version of the code made them.
    """
    predictor = Predictor(build_model(config))
    try:
        predictor.load_weights(run.read_weights(training))
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"The weights in {run.training_path(training)} do not fit this version of sen-bench and its "
            f"{variant_kind(config.variant)} {config.variant!r}: use the version that trained them (metrics.json names "
            "it)."
        ) from error
    return predictor


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return the structure files among paths; those of a folder are in the order of their names.

    Raises:
        UsageError: A path does not exist, or is a folder without structure files.
    """
    files = []
    for path in paths:
        found = structure_files(path) if path.is_dir() else [path]
        if not found:
            raise UsageError(f"There is no structure file ({FILE_NAMES}) in {path}.")
        files += found
    if missing := [file for file in files if not file.exists()]:
        raise UsageError(f"There is no file or folder {missing[0]}.")
    return files


def read_samples(
    sources: Sequence[Path | tuple[str, object]], settings: GraphSettings, progress: Progress | None = None
) -> tuple[list[Sample], list[DataError]]:
    """Read and refine structures, and build their graphs.

    Args:
        sources: Structure files; or names of structures, each with what `parse_structure` takes.
        settings: Settings of the graphs: those of the run whose models are to read them.
        progress: Called with the number of structures read.

    Returns:
        The structures that can be used, and what is wrong with the others.

    Raises:
        UsageError: The name of a file is not that of a structure file.
    """
    samples, problems = [], []
    for done, given in enumerate(sources, start=1):
        source = given if isinstance(given, Path) else given[0]
        try:
            raw = read_structure(given) if isinstance(given, Path) else parse_structure(given[1])
            with any_error_is_bad():
                crystal = refine(raw.lattice, raw.positions, raw.numbers, settings.symprec)
                graph = build_graph(crystal, **settings.edges)
        except DataError as problem:
            problems.append(problem)
        except BadRow as problem:
            problems.append(DataError(f"{source} {problem}."))
        else:
            samples.append(Sample(source, crystal, graph, raw.heavy_hydrogen))
        if progress is not None:
            progress(done, len(sources))
    return samples, problems


class Ensemble:
    """The models of a run: one for each finished fold and seed.

    Args:
        run: The run.

    Attributes:
        facts: Task and data of the run, as it recorded them.
        config: Configuration of the run.
        trainings: Fold and seed of each model.
        calibrators: The rows that calibrate the models of each fold: its test rows, which none of them has seen.

    Raises:
        UsageError: The run has no finished fold, its block or model is not installed, or its configuration is of
            another version.
        DataError: The file config.json of the run cannot be read.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.facts: dict[str, Any] = run.read_config()
        self.config: RunConfig = restore_config(self.facts["config"])
        self.trainings: list[Training] = run.trainings()
        if not self.trainings:
            raise UsageError(f"{run.path} has no finished fold yet, and so no model that could predict.")
        self.calibrators: dict[int, Calibrator] = read_calibrators(run, self.trainings, "test")
        for difference in other_code(run, self.trainings, self.config.variant):
            logging.getLogger("sen_bench").warning("%s, and what is installed may be another model.", difference)

    @property
    def is_classification(self) -> bool:
        """Whether the models predict probabilities of a true label."""
        return bool(self.facts["task"]["kind"] == "classification")

    def why_no_interval(self, level: float) -> str | None:
        """Return why predictions have no interval that covers this share of new rows; None if they have one."""
        return why_too_few([len(calibrator) for calibrator in self.calibrators.values()], level, "test rows")

    def predict(
        self, samples: Sequence[Sample], device: str, progress: Progress | None = None, *, level: float = 0.9
    ) -> list[Prediction]:
        """Predict structures with every model.

        Args:
            samples: The structures, at least one, with graphs of the settings of the run.
            device: "cpu", "cuda" or "cuda:N".
            level: Share of structures like those of the task that intervals shall cover, between 0 and 1.
            progress: Called with the number of models that have predicted.

        Raises:
            DataError: The weights were removed, or do not fit because another version of the code made them.
            RunError: The block or model of a plug-in raises.
        """
        prepare_arithmetic(n_threads())
        graphs = GraphTensors(join_graphs([sample.graph for sample in samples]), device)
        columns, seen = [], []
        for done, training in enumerate(self.trainings, start=1):
            columns.append(self._predict_by(training, graphs))
            seen.append(set(self.run.read_metrics(training)["elements"]))
            if progress is not None:
                progress(done, len(self.trainings))
        bounds = self._bounds(np.stack(columns), level)
        return [
            Prediction(
                sample,
                tuple(float(column[i]) for column in columns),
                {e: n for e in sample.elements if (n := sum(e not in elements for elements in seen))},
                **bounds[i],
            )
            for i, sample in enumerate(samples)
        ]

    def _bounds(self, columns: NDArray[np.float64], level: float) -> list[dict[str, Any]]:
        """Return the fields `interval`, `interval_by_spread` and `labels` for predictions [models, samples]."""
        samples = range(columns.shape[1])
        if self.why_no_interval(level) is not None:
            return [{} for _ in samples]
        by_fold = [
            (calibrator, columns[[training.fold == fold for training in self.trainings]])
            for fold, calibrator in self.calibrators.items()
        ]
        if self.is_classification:
            held = merge_labels([calibrator.labels(predicted, level) for calibrator, predicted in by_fold])
            return [
                {"labels": [label for label, is_in in zip(_LABELS, held[:, i], strict=True) if is_in]} for i in samples
            ]
        ends = {"interval": False, "interval_by_spread": True}
        if not all(calibrator.has_spread for calibrator, _ in by_fold):
            del ends["interval_by_spread"]
        mean = columns.mean(axis=0)
        merged = {}
        for name, how in ends.items():
            low, high = merge_intervals(
                [calibrator.interval(predicted, level, by_spread=how) for calibrator, predicted in by_fold]
            )
            # One fold may pull the mean out of the medians. A wider interval covers no less.
            merged[name] = np.stack([np.minimum(low, mean), np.maximum(high, mean)])
        return [{name: tuple(pair[:, i].tolist()) for name, pair in merged.items()} for i in samples]

    def _predict_by(self, training: Training, graphs: GraphTensors) -> NDArray[np.float64]:
        predictor = load_predictor(self.config, self.run, training).to(graphs.device)
        crystals = np.arange(len(graphs))
        with guard_model(self.config.variant, graphs.device):
            predicted = predict(predictor, graphs, crystals, edge_budget=self.config.training.edge_budget)
        return probabilities(predicted) if self.is_classification else predicted


def prediction_facts(ensemble: Ensemble, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Return what programs read of predictions, one mapping for each; an interval is None where there is none."""
    bounds = ("labels",) if ensemble.is_classification else ("interval", "interval_by_spread")
    return [
        {
            "file": str(entry.sample.source),
            "formula": entry.sample.formula,
            "space_group": entry.sample.crystal.space_group,
            "prediction": entry.mean,
            "spread": None if math.isnan(entry.spread) else entry.spread,
            **{name: getattr(entry, name) for name in bounds},
            "never_seen": entry.never_seen,
            "heavy_hydrogen": entry.sample.heavy_hydrogen,
        }
        for entry in predictions
    ]
