"""What is finished of each variant of a grid: scores, predictions, and a line of the table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablations.grid import Setting, Variant
from ablations.judge import Judge, JudgedRows
from benchmarks.base.errors import DataError
from benchmarks.results.contrasts import REFERENCE
from benchmarks.results.metrics import PrimaryMetric, score
from benchmarks.results.store import Predictions, Training, fold_means

__all__ = ["FinishedVariant", "VariantSummary", "find_reference", "read_finished", "summarise_variant"]


@dataclass(frozen=True, eq=False)
class FinishedVariant:
    """The finished trainings of a variant, among the folds and seeds asked for.

    Attributes:
        setting: Block or model, and values.
        judge: How the trainings are scored.
        records: Record of each training, the content of its metrics.json.
        score: Score of each training.
        predictions: Predictions of each training for its test rows; empty where validation rows judge.
        missing: Number of trainings that are not finished.
    """

    setting: Setting
    judge: Judge
    records: Mapping[Training, dict[str, Any]]
    score: Mapping[Training, float]
    predictions: Mapping[Training, Predictions]
    missing: int = 0

    @property
    def metric(self) -> PrimaryMetric:
        """Metric of the scores."""
        return self.judge.metric

    @property
    def mean(self) -> float:
        """Mean over the folds of the mean score over the seeds of each."""
        return statistics.fmean(self.scores(sorted(self.records)).values())

    def rank(self) -> tuple[bool, float]:
        """Sort key, best first; incomplete variants come last, and so do means that are NaN."""
        mean = -self.mean if self.metric.higher_is_better else self.mean
        return self.missing > 0, math.inf if math.isnan(mean) else mean

    def scores(self, trainings: Sequence[Training]) -> dict[int, float]:
        """Mean score over the seeds, for each fold of these trainings."""
        return fold_means({training: self.score[training] for training in trainings})

    def ensemble(self) -> float:
        """Mean over the folds of the score of predictions averaged over the seeds.

        It is the score of the models together, which `sen-bench export` writes. NaN with a single seed, or where the
        folds do not have the same seeds.

        Raises:
            DataError: The seeds of a fold did not predict the same rows.
        """
        seeds = [
            sorted(training.seed for training in self.predictions if training.fold == fold)
            for fold in sorted({training.fold for training in self.predictions})
        ]
        if not seeds or len(seeds[0]) < 2 or any(others != seeds[0] for others in seeds):
            return math.nan
        scores = []
        for fold in sorted({training.fold for training in self.predictions}):
            parts = [self.predictions[Training(seed, fold)] for seed in seeds[0]]
            if any(part.ids != parts[0].ids for part in parts):
                raise DataError(f"{self.setting}, fold {fold}: the seeds did not predict the same rows.")
            averaged = np.mean([part.prediction for part in parts], axis=0)
            scores.append(score(self.judge.kind, parts[0].target, averaged)[self.metric.name])
        return statistics.fmean(scores)


def read_finished(variant: Variant, rows: JudgedRows) -> FinishedVariant:
    """Read the finished trainings of a variant, scored on these rows.

    Raises:
        DataError: Predictions, or a history, cannot be read.
    """
    run, wanted = variant.plan.run, set(variant.plan.trainings)
    trainings = [training for training in run.trainings() if training in wanted]
    judge = Judge(variant.plan.dataset.task.kind, rows)
    records = {training: run.read_metrics(training) for training in trainings}
    return FinishedVariant(
        variant.setting,
        judge,
        records,
        {training: judge.score(run, training, record) for training, record in records.items()},
        {training: run.read_predictions(training) for training in trainings} if rows == "test" else {},
        len(wanted - set(trainings)),
    )


@dataclass(frozen=True)
class VariantSummary:
    """A line of the table of results.

    Attributes:
        setting: Block or model, and values.
        mean: Mean over folds of the mean over seeds, in the unit of the target.
        std_folds: Standard deviation over folds (ddof 0, as MatBench).
        std_seeds: Standard deviation (ddof 1) of the seeds' own means over the same folds; NaN for a single seed.
        ensemble: Mean over folds of the score of predictions averaged over the seeds; NaN for a single seed.
        folds: Folds of the finished trainings.
        seeds: Seeds of the finished trainings.
        trainings: Number of finished trainings.
        missing: Number of trainings asked for that are not finished.
        rows: Number of rows that judge.
        parameters: Number of parameters of the model.
        parameters_by_part: That of the features, block, readout and head of SEN; empty of other models, and of
            trainings from before it was recorded.
        parameters_beside_capsule: Relative difference from capsule's parameters; NaN where capsule is not in the grid.
        epoch_seconds: Median wall time of an epoch.
        peak_memory_bytes: Largest memory of a training: of the GPU for trainings on one, resident for the others.
    """

    setting: Setting
    mean: float
    std_folds: float
    std_seeds: float
    ensemble: float
    folds: list[int]
    seeds: list[int]
    trainings: int
    missing: int
    rows: int
    parameters: int
    parameters_by_part: dict[str, int]
    parameters_beside_capsule: float
    epoch_seconds: float
    peak_memory_bytes: int


def summarise_variant(finished: FinishedVariant, all_finished: Sequence[FinishedVariant]) -> VariantSummary:
    """Summarise a variant of which at least one training is finished."""
    records, trainings = finished.records, sorted(finished.records)
    scores = list(finished.scores(trainings).values())
    seeds = sorted({training.seed for training in trainings})
    of_seed = {seed: finished.scores([training for training in trainings if training.seed == seed]) for seed in seeds}
    alike = len({tuple(folds) for folds in of_seed.values()}) == 1
    means = [statistics.fmean(folds.values()) for folds in of_seed.values()]
    parameters = records[trainings[0]]["parameters"]
    capsule = find_reference(finished, all_finished)
    return VariantSummary(
        setting=finished.setting,
        mean=finished.mean,
        std_folds=float(np.std(scores)) if len(scores) > 1 else math.nan,
        std_seeds=float(np.std(means, ddof=1)) if len(means) > 1 and alike else math.nan,
        ensemble=finished.ensemble(),
        folds=sorted({training.fold for training in trainings}),
        seeds=seeds,
        trainings=len(trainings),
        missing=finished.missing,
        rows=sum(
            records[training]["rows"][finished.judge.rows]
            for training in {training.fold: training for training in reversed(trainings)}.values()
        ),
        parameters=parameters,
        parameters_by_part={
            part: n for record in records.values() for part, n in record.get("parameters_by_part", {}).items()
        },
        parameters_beside_capsule=(
            parameters / next(iter(capsule.records.values()))["parameters"] - 1 if capsule is not None else math.nan
        ),
        epoch_seconds=statistics.median(record["wall_seconds"] / record["epochs"] for record in records.values()),
        peak_memory_bytes=max(
            record.get("peak_device_memory_bytes") or record["peak_memory_bytes"] for record in records.values()
        ),
    )


def find_reference(finished: FinishedVariant, all_finished: Sequence[FinishedVariant]) -> FinishedVariant | None:
    """Return the variant of capsule with the same values on the other axes; None where none is finished."""
    for other in all_finished:
        if other.setting.name == REFERENCE and other.setting.values == finished.setting.values and other.records:
            return other
    return None
