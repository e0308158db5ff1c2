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
from ablations.judge import Judge, JudgedRows
from benchmarks.base.errors import DataError
from benchmarks.base.files import plain
from benchmarks.results.metrics import PrimaryMetric, row_loss, score
from benchmarks.results.statistics import (
    CONFIDENCE,
    FEWEST_OF_A_CLASS,
    bootstrap,
    bootstrap_mean,
    corrected_t_test,
    holm,
    share_tested,
)
from benchmarks.results.store import Predictions, Training, fold_means

__all__ = ["Comparison", "Finished", "VariantScore", "as_facts", "compare", "read_finished", "summary_row"]

_REFERENCE = "capsule"


@dataclass(frozen=True, eq=False)
class Finished:
    """What is finished of a variant, among the folds and seeds asked for.

    Attributes:
        setting: Its block and values.
        judge: What it is judged by.
        records: What was recorded of each training.
        score: Score of each training.
        predictions: What each training predicted of its test rows; empty where those do not judge.
        missing: How many trainings are not finished.
    """

    setting: Setting
    judge: Judge
    records: Mapping[Training, dict[str, Any]]
    score: Mapping[Training, float]
    predictions: Mapping[Training, Predictions]
    missing: int = 0

    @property
    def metric(self) -> PrimaryMetric:
        """What the scores are."""
        return self.judge.metric

    @property
    def mean(self) -> float:
        """Mean over the folds of the mean score over the seeds of each."""
        return statistics.fmean(self.scores(sorted(self.records)).values())

    def rank(self) -> tuple[bool, float]:
        """Sort key, best first: what is not complete comes last, and so does a score that is no number."""
        mean = -self.mean if self.metric.higher_is_better else self.mean
        return self.missing > 0, math.inf if math.isnan(mean) else mean

    def scores(self, trainings: Sequence[Training]) -> dict[int, float]:
        """Mean score over the seeds of each fold in these trainings."""
        return fold_means({training: self.score[training] for training in trainings})

    def ensemble(self) -> float:
        """Mean over the folds of the score of predictions averaged over the seeds; NaN with one seed, or unlike folds.

        The averaged models are judged together: what a user gets who trains all of them (`sen-bench export`).

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


def read_finished(variant: Variant, rows: JudgedRows) -> Finished:
    """Read what is finished of a variant, to be judged by these rows.

    Raises:
        DataError: Predictions, or a history, cannot be read.
    """
    run, wanted = variant.plan.run, set(variant.plan.trainings)
    trainings = [training for training in run.trainings() if training in wanted]
    judge = Judge(variant.plan.dataset.task.kind, rows)
    records = {training: run.read_metrics(training) for training in trainings}
    return Finished(
        variant.setting,
        judge,
        records,
        {unit: judge.score(run, unit, record) for unit, record in records.items()},
        {training: run.read_predictions(training) for training in trainings} if rows == "test" else {},
        len(wanted - set(trainings)),
    )


@dataclass(frozen=True)
class VariantScore:
    """A line of the table.

    Attributes:
        setting: Block and values.
        mean: Mean over folds of the mean over seeds, in the unit of the target.
        std_folds: Standard deviation over folds (ddof 0, as MatBench).
        std_seeds: Standard deviation (ddof 1) of the seeds' own means over the same folds; NaN for a single seed.
        ensemble: Mean over folds of the score of predictions averaged over the seeds; NaN for a single seed.
        folds: Folds that count.
        seeds: Seeds that count.
        trainings: Trainings that count.
        missing: Trainings asked for that are not finished.
        rows: Rows that judge.
        parameters: Of SEN with the block.
        parameters_beside_capsule: Relative to capsule's, less one; NaN where capsule is not in the grid.
        epoch_seconds: Median wall time of an epoch.
        peak_memory_bytes: Largest memory of a training: that of the GPU where it took place on one, else resident.
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
    parameters_beside_capsule: float
    epoch_seconds: float
    peak_memory_bytes: int


def summary_row(finished: Finished, all_finished: Sequence[Finished]) -> VariantScore:
    """Summarise what is finished of a variant, at least one training."""
    records, trainings = finished.records, sorted(finished.records)
    scores = list(finished.scores(trainings).values())
    seeds = sorted({training.seed for training in trainings})
    of_seed = {seed: finished.scores([training for training in trainings if training.seed == seed]) for seed in seeds}
    alike = len({tuple(folds) for folds in of_seed.values()}) == 1
    means = [statistics.fmean(folds.values()) for folds in of_seed.values()]
    parameters = records[trainings[0]]["parameters"]
    capsule = _reference(finished, all_finished)
    return VariantScore(
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
    """A variant against another on the trainings that both have.

    Attributes:
        variant: Name of the one.
        against: Name of the other.
        difference: Mean over folds of the difference of scores, one less the other, in the unit of the target.
        low: Lower end of its 95 % bootstrap interval over test rows; that of balanced accuracies pools the folds, and
            is NaN with fewer rows of a class than FEWEST_OF_A_CLASS.
        high: Upper end.
        p: Of the corrected resampled t-test over folds; NaN for one fold.
        p_holm: Adjusted (Holm) for all comparisons with the same reference: the best, or a variant of capsule; the
            larger of two where both are.
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
    """Compare every variant with the best, and with capsule where that is another.

    The best is that of the complete ones; only where none is, of what there is.

    In official folds validation rows differ from seed to seed, and what was predicted of them is not kept: judged by
    them, nothing is compared row by row.
    """
    begun = [finished for finished in all_finished if finished.predictions]
    if len(begun) < 2:
        return []
    best = min(begun, key=Finished.rank)
    pairs = [(one, best) for one in begun if one is not best]
    others = [one for one in begun if one is not best and one.setting.block != _REFERENCE]
    with_capsule = [(one, capsule) for one in others if (capsule := _reference(one, begun)) not in {None, best}]
    found = [facts for one, other in [*pairs, *with_capsule] if (facts := _compare(one, other)) is not None]
    return [
        Comparison(**facts, p_holm=p, verdict=_verdict({**facts, "p_holm": p}, best.metric))
        for facts, p in zip(found, _adjusted(found), strict=True)
    ]


def _adjusted(found: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the p-values, adjusted for the comparisons with the same reference, which may be on either side of one."""
    adjusted = np.zeros(len(found))
    for reference in {facts["against"] for facts in found}:
        family = [i for i, facts in enumerate(found) if reference in {facts["variant"], facts["against"]}]
        adjusted[family] = np.maximum(adjusted[family], holm([found[i]["p"] for i in family]))
    return adjusted.tolist()


def _compare(one: Finished, other: Finished) -> dict[str, Any] | None:
    """Return the facts of a comparison, all but what depends on other comparisons; None without common trainings."""
    trainings = sorted(one.records.keys() & other.records.keys())
    if not trainings:
        return None
    scores, others = one.scores(trainings), other.scores(trainings)
    differences = [scores[fold] - others[fold] for fold in scores]
    records = [finished.records[training] for finished in (one, other) for training in trainings]
    mine, theirs, target = _by_row(one, trainings), _by_row(other, trainings), _targets(one, other, trainings)
    if not one.metric.higher_is_better:
        low, high = bootstrap_mean((mine - theirs) * _fold_weights(one, trainings))
    elif min(np.count_nonzero(target), np.count_nonzero(target == 0)) >= FEWEST_OF_A_CLASS:
        low, high = bootstrap(_balanced_accuracy_difference, mine, theirs, target)
    else:
        low, high = math.nan, math.nan
    return {
        "variant": str(one.setting),
        "against": str(other.setting),
        "difference": statistics.fmean(differences),
        "low": low,
        "high": high,
        "p": corrected_t_test(differences, share_tested(records)),
        "folds": sorted(scores),
        "seeds": sorted({training.seed for training in trainings}),
        "rows": len(target),
    }


def _targets(one: Finished, other: Finished, trainings: Sequence[Training]) -> NDArray[np.float64]:
    """Return the targets of the test rows in these trainings, fold by fold, which must be the same rows for both.

    Raises:
        DataError: They are not.
    """
    first = {training.fold: training for training in reversed(trainings)}
    for training in trainings:
        if one.predictions[training].ids != other.predictions[training].ids:
            raise DataError(f"{one.setting} and {other.setting} were not tested on the same rows of {training}.")
    return np.concatenate([one.predictions[first[fold]].target for fold in sorted(first)])


def _by_row(finished: Finished, trainings: Sequence[Training]) -> NDArray[np.float64]:
    """Return, fold by fold, each row's absolute error, or the share of its labels that are right, over the seeds."""
    columns = []
    for fold in sorted({training.fold for training in trainings}):
        parts = [finished.predictions[training] for training in trainings if training.fold == fold]
        losses = [row_loss(finished.judge.kind, part.target, part.prediction) for part in parts]
        columns.append(np.mean(losses, axis=0))
    loss: NDArray[np.float64] = np.concatenate(columns)
    return 1 - loss if finished.metric.higher_is_better else loss


def _fold_weights(finished: Finished, trainings: Sequence[Training]) -> NDArray[np.float64]:
    """Return, fold by fold, the weight of each row in the mean over folds, relative to that in the mean over rows."""
    size_of = {training.fold: len(finished.predictions[training].ids) for training in trainings}
    sizes = np.array([size_of[fold] for fold in sorted(size_of)])
    weights: NDArray[np.float64] = np.repeat(sizes.sum() / (len(sizes) * sizes), sizes)
    return weights


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


def _verdict(facts: Mapping[str, Any], metric: PrimaryMetric) -> str:
    """Say in words what a comparison shows."""
    low, high, p = facts["low"], facts["high"], facts["p_holm"]
    one_fold = len(facts["folds"]) == 1
    beyond_chance = low > 0 or high < 0
    if not beyond_chance or (not one_fold and not p < 1 - CONFIDENCE):
        return "not distinguishable"
    better = (facts["difference"] < 0) != metric.higher_is_better
    words = "better" if better else "worse"
    return f"{words} on these rows; one fold says nothing of other training rows" if one_fold else words


def as_facts(line: VariantScore | Comparison) -> dict[str, Any]:
    """Return a line as JSON has it: numbers that are not finite are None."""
    facts = dict(vars(line))
    if isinstance(line, VariantScore):
        facts = {"block": line.setting.block, "values": dict(facts.pop("setting").values), **facts}
    found: dict[str, Any] = plain(facts)
    return found
