"""What a finished grid says: a table of its variants, and paired differences between them with a verdict in words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.grid import Setting, Variant
from benchmarks.errors import DataError
from benchmarks.metrics import THRESHOLD, PrimaryMetric, primary_metric
from benchmarks.statistics import CONFIDENCE, bootstrap, bootstrap_mean, corrected_t_test, holm
from benchmarks.store import Predictions, Unit

__all__ = ["Comparison", "Finished", "Row", "as_facts", "compare", "read_finished", "summary_row"]

_REFERENCE = "capsule"


@dataclass(frozen=True, eq=False)
class Finished:
    """What is finished of a variant, among the folds and seeds asked for.

    Attributes:
        setting: Its block and values.
        metric: The score by which the task is judged.
        records: What was recorded of each unit.
        predictions: What each unit predicted of its test rows.
        missing: How many units are not finished.
    """

    setting: Setting
    metric: PrimaryMetric
    records: Mapping[Unit, dict[str, Any]]
    predictions: Mapping[Unit, Predictions]
    missing: int = 0

    @property
    def mean(self) -> float:
        """Mean over the folds of the mean score over the seeds of each."""
        return statistics.fmean(self.scores(sorted(self.records)).values())

    def rank(self) -> tuple[bool, float]:
        """Sort key, best first: what is not complete comes last, and so does a score that is no number."""
        mean = -self.mean if self.metric.higher_is_better else self.mean
        return self.missing > 0, math.inf if math.isnan(mean) else mean

    def scores(self, units: Sequence[Unit]) -> dict[int, float]:
        """Mean score over the seeds of each fold in these units."""
        folds = sorted({unit.fold for unit in units})
        return {
            fold: statistics.fmean(_score(self.records[unit], self.metric) for unit in units if unit.fold == fold)
            for fold in folds
        }


def _score(record: Mapping[str, Any], metric: PrimaryMetric) -> float:
    value = record["metrics"][metric.name]
    return math.nan if value is None else float(value)


def read_finished(variant: Variant) -> Finished:
    """Read what is finished of a variant.

    Raises:
        DataError: Predictions cannot be read.
    """
    run, wanted = variant.plan.run, set(variant.plan.units)
    units = [unit for unit in run.units() if unit in wanted]
    return Finished(
        variant.setting,
        primary_metric(variant.plan.dataset.task.kind),
        {unit: run.read_metrics(unit) for unit in units},
        {unit: run.read_predictions(unit) for unit in units},
        len(wanted - set(units)),
    )


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        setting: Block and values.
        mean: Mean over folds of the mean over seeds, in the unit of the target.
        std_folds: Standard deviation over folds (ddof 0, as MatBench).
        std_seeds: Standard deviation (ddof 1) of the seeds' own means over the same folds; NaN for a single seed.
        folds: Folds that count.
        seeds: Seeds that count.
        units: Trainings that count.
        missing: Trainings asked for that are not finished.
        rows: Test rows that count.
        parameters: Of SEN with the block.
        parameters_beside_capsule: Relative to capsule's, less one; NaN where capsule is not in the grid.
        epoch_seconds: Median wall time of an epoch.
        peak_memory_bytes: Largest memory of a training: that of the GPU where it took place on one, else resident.
    """

    setting: Setting
    mean: float
    std_folds: float
    std_seeds: float
    folds: list[int]
    seeds: list[int]
    units: int
    missing: int
    rows: int
    parameters: int
    parameters_beside_capsule: float
    epoch_seconds: float
    peak_memory_bytes: int


def summary_row(finished: Finished, all_finished: Sequence[Finished]) -> Row:
    """Summarise what is finished of a variant, at least one unit."""
    records, units = finished.records, sorted(finished.records)
    scores = list(finished.scores(units).values())
    seeds = sorted({unit.seed for unit in units})
    of_seed = {seed: finished.scores([unit for unit in units if unit.seed == seed]) for seed in seeds}
    alike = len({tuple(folds) for folds in of_seed.values()}) == 1
    means = [statistics.fmean(folds.values()) for folds in of_seed.values()]
    parameters = records[units[0]]["parameters"]
    capsule = _reference(finished, all_finished)
    return Row(
        setting=finished.setting,
        mean=finished.mean,
        std_folds=float(np.std(scores)) if len(scores) > 1 else math.nan,
        std_seeds=float(np.std(means, ddof=1)) if len(means) > 1 and alike else math.nan,
        folds=sorted({unit.fold for unit in units}),
        seeds=seeds,
        units=len(units),
        missing=finished.missing,
        rows=sum(
            len(finished.predictions[unit].ids) for unit in {unit.fold: unit for unit in reversed(units)}.values()
        ),
        parameters=parameters,
        parameters_beside_capsule=(
            parameters / next(iter(capsule.records.values()))["parameters"] - 1 if capsule is not None else math.nan
        ),
        epoch_seconds=statistics.median(record["wall_seconds"] / record["epochs"] for record in records.values()),
        peak_memory_bytes=max(
            record.get("peak_device_memory_bytes") or record["peak_memory_bytes"] for record in records.values()
        ),
    )


def _reference(finished: Finished, all_finished: Sequence[Finished]) -> Finished | None:
    """Return the finished capsule variant with the same values on the other axes."""
    for other in all_finished:
        if other.setting.block == _REFERENCE and other.setting.values == finished.setting.values and other.records:
            return other
    return None


@dataclass(frozen=True)
class Comparison:
    """A variant against another on the units that both have.

    Attributes:
        variant: Name of the one.
        against: Name of the other.
        difference: Mean over folds of the difference of scores, one less the other, in the unit of the target.
        low: Lower end of its 95 % bootstrap interval over test rows.
        high: Upper end.
        p: Of the corrected resampled t-test over folds; NaN for one fold.
        p_holm: Adjusted (Holm) for all comparisons with the best, or for all with capsule.
        folds: Folds compared.
        seeds: Seeds compared.
        rows: Test rows compared.
        verdict: In words.
    """

    variant: str
    against: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    folds: list[int]
    seeds: list[int]
    rows: int
    verdict: str


def compare(all_finished: Sequence[Finished]) -> list[Comparison]:
    """Compare every variant with the best one that is complete, and with capsule where that is another."""
    begun = [finished for finished in all_finished if finished.records]
    if len(begun) < 2:
        return []
    best = min(begun, key=Finished.rank)
    pairs = [(one, best) for one in begun if one is not best]
    others = [one for one in begun if one is not best and one.setting.block != _REFERENCE]
    with_capsule = [(one, capsule) for one in others if (capsule := _reference(one, begun)) not in {None, best}]
    return [*_adjusted(pairs), *_adjusted(with_capsule)]


def _adjusted(pairs: Sequence[tuple[Finished, Finished]]) -> list[Comparison]:
    found = [comparison for one, other in pairs if (comparison := _compare(one, other)) is not None]
    adjusted = holm([comparison["p"] for comparison in found])
    metric = pairs[0][0].metric if pairs else None
    return [
        Comparison(**facts, p_holm=p, verdict=_verdict({**facts, "p_holm": p}, metric))
        for facts, p in zip(found, adjusted, strict=True)
    ]


def _compare(one: Finished, other: Finished) -> dict[str, Any] | None:
    """Return the facts of a comparison, all but what depends on other comparisons; None without common units."""
    units = sorted(one.records.keys() & other.records.keys())
    if not units:
        return None
    scores, others = one.scores(units), other.scores(units)
    differences = [scores[fold] - others[fold] for fold in scores]
    rows = one.records[units[0]]["rows"]
    mine, theirs, target = _by_row(one, units), _by_row(other, units), _targets(one, other, units)
    if one.metric.higher_is_better:
        low, high = bootstrap(_balanced_accuracy_difference, mine, theirs, target)
    else:
        low, high = bootstrap_mean(mine - theirs)
    return {
        "variant": str(one.setting),
        "against": str(other.setting),
        "difference": statistics.fmean(differences),
        "low": low,
        "high": high,
        "p": corrected_t_test(differences, rows["test"] / (rows["train"] + rows["validation"])),
        "folds": sorted(scores),
        "seeds": sorted({unit.seed for unit in units}),
        "rows": len(target),
    }


def _targets(one: Finished, other: Finished, units: Sequence[Unit]) -> NDArray[np.float64]:
    """Return the targets of the test rows in these units, fold by fold, which must be the same rows for both.

    Raises:
        DataError: They are not.
    """
    first = {unit.fold: unit for unit in reversed(units)}
    for unit in units:
        if one.predictions[unit].ids != other.predictions[unit].ids:
            raise DataError(f"{one.setting} and {other.setting} were not tested on the same rows of {unit}.")
    return np.concatenate([one.predictions[first[fold]].target for fold in sorted(first)])


def _by_row(finished: Finished, units: Sequence[Unit]) -> NDArray[np.float64]:
    """Return, fold by fold, each row's absolute error, or the share of its labels that are right, over the seeds."""
    columns = []
    for fold in sorted({unit.fold for unit in units}):
        parts = [finished.predictions[unit] for unit in units if unit.fold == fold]
        if finished.metric.higher_is_better:
            values = [(part.prediction > THRESHOLD) == (part.target > THRESHOLD) for part in parts]
        else:
            values = [np.abs(part.prediction - part.target) for part in parts]
        columns.append(np.mean(values, axis=0))
    return np.concatenate(columns)


def _balanced_accuracy_difference(
    one: NDArray[np.float64], other: NDArray[np.float64], target: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
    """Difference of balanced accuracies from the share of right labels and the true labels of rows along an axis."""
    difference = one - other
    positive = target.sum(axis)
    negative = target.shape[axis] - positive
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: NDArray[np.float64] = (
            (difference * target).sum(axis) / positive + (difference * (1 - target)).sum(axis) / negative
        ) / 2
    return mean


def _verdict(facts: Mapping[str, Any], metric: PrimaryMetric | None) -> str:
    """Say in words what a comparison shows."""
    low, high, p = facts["low"], facts["high"], facts["p_holm"]
    one_fold = len(facts["folds"]) == 1
    beyond_chance = low > 0 or high < 0
    if not beyond_chance or (not one_fold and not p < 1 - CONFIDENCE):
        return "not distinguishable"
    better = (facts["difference"] < 0) != (metric is not None and metric.higher_is_better)
    words = "better" if better else "worse"
    return f"{words} on these rows; one fold says nothing of other training rows" if one_fold else words


def as_facts(line: Row | Comparison) -> dict[str, Any]:
    """Return a line as JSON has it: numbers that are not finite are None."""
    facts = dict(vars(line))
    if isinstance(line, Row):
        facts = {"block": line.setting.block, "values": dict(facts.pop("setting").values), **facts}
    return {key: None if isinstance(item, float) and not math.isfinite(item) else item for key, item in facts.items()}
