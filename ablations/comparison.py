"""Paired differences between the variants of a finished grid, with a verdict in words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablations.scores import REFERENCE, FinishedVariant, find_reference
from benchmarks.base.errors import DataError
from benchmarks.results.metrics import PrimaryMetric, row_loss
from benchmarks.results.statistics import (
    CONFIDENCE,
    FEWEST_OF_A_CLASS,
    bootstrap,
    bootstrap_mean,
    corrected_t_test,
    holm,
    share_tested,
)
from benchmarks.results.store import Training

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """A variant compared with another on the trainings that both have finished.

    Attributes:
        variant: Name of the first variant.
        against: Name of the second.
        difference: Mean over folds of the difference of scores, first less second, in the unit of the target.
        low: Lower end of the 95 % bootstrap interval of the difference over test rows. The interval of balanced
            accuracies pools the folds, and is NaN with fewer rows of a class than FEWEST_OF_A_CLASS.
        high: Upper end of the interval.
        p: p-value of the corrected resampled t-test over folds; NaN for one fold.
        p_holm: p-value adjusted after Holm for all comparisons with the same reference, which is the best variant or a
            variant of capsule; the larger of two values where both are references.
        folds: Folds compared.
        seeds: Seeds compared.
        rows: Number of test rows compared.
        verdict: Conclusion in words.
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


def compare(all_finished: Sequence[FinishedVariant]) -> list[Comparison]:
    """Compare every variant with the best one, and with capsule where that is another.

    The best one is chosen among the complete variants, or among all of them where none is complete.

    Validation rows of the official folds differ from seed to seed, and their predictions are not kept. Where validation
    rows judge, variants cannot be compared row by row, and the result is empty.
    """
    begun = [finished for finished in all_finished if finished.predictions]
    if len(begun) < 2:
        return []
    best = min(begun, key=FinishedVariant.rank)
    pairs = [(one, best) for one in begun if one is not best]
    others = [one for one in begun if one is not best and one.setting.name != REFERENCE]
    with_capsule = [(one, capsule) for one in others if (capsule := find_reference(one, begun)) not in {None, best}]
    found = [facts for one, other in [*pairs, *with_capsule] if (facts := _compare(one, other)) is not None]
    return [
        Comparison(**facts, p_holm=p, verdict=_verdict({**facts, "p_holm": p}, best.metric))
        for facts, p in zip(found, _adjusted(found), strict=True)
    ]


def _adjusted(found: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the p-values, adjusted for all comparisons with the same reference, on either side of them."""
    adjusted = np.zeros(len(found))
    for reference in {facts["against"] for facts in found}:
        family = [i for i, facts in enumerate(found) if reference in {facts["variant"], facts["against"]}]
        adjusted[family] = np.maximum(adjusted[family], holm([found[i]["p"] for i in family]))
    return adjusted.tolist()


def _compare(one: FinishedVariant, other: FinishedVariant) -> dict[str, Any] | None:
    """Return the facts of a comparison that do not depend on the other ones; None without common trainings."""
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


def _targets(one: FinishedVariant, other: FinishedVariant, trainings: Sequence[Training]) -> NDArray[np.float64]:
    """Return the targets of the test rows of these trainings, fold by fold.

    Raises:
        DataError: The two variants were not tested on the same rows.
    """
    first = {training.fold: training for training in reversed(trainings)}
    for training in trainings:
        if one.predictions[training].ids != other.predictions[training].ids:
            raise DataError(f"{one.setting} and {other.setting} were not tested on the same rows of {training}.")
    return np.concatenate([one.predictions[first[fold]].target for fold in sorted(first)])


def _by_row(finished: FinishedVariant, trainings: Sequence[Training]) -> NDArray[np.float64]:
    """Return each row's absolute error, or share of right labels, averaged over the seeds, fold by fold."""
    columns = []
    for fold in sorted({training.fold for training in trainings}):
        parts = [finished.predictions[training] for training in trainings if training.fold == fold]
        losses = [row_loss(finished.judge.kind, part.target, part.prediction) for part in parts]
        columns.append(np.mean(losses, axis=0))
    loss: NDArray[np.float64] = np.concatenate(columns)
    return 1 - loss if finished.metric.higher_is_better else loss


def _fold_weights(finished: FinishedVariant, trainings: Sequence[Training]) -> NDArray[np.float64]:
    """Return the weight of each row in the mean over folds, relative to that in the mean over rows, fold by fold."""
    size_of = {training.fold: len(finished.predictions[training].ids) for training in trainings}
    sizes = np.array([size_of[fold] for fold in sorted(size_of)])
    weights: NDArray[np.float64] = np.repeat(sizes.sum() / (len(sizes) * sizes), sizes)
    return weights


def _balanced_accuracy_difference(
    one: NDArray[np.float64], other: NDArray[np.float64], target: NDArray[np.float64], axis: int
) -> NDArray[np.float64]:
    """Return the difference of balanced accuracies from the shares of right labels and the true labels of rows."""
    difference = one - other
    positive = target.sum(axis)
    negative = target.shape[axis] - positive
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: NDArray[np.float64] = (
            (difference * target).sum(axis) / positive + (difference * (1 - target)).sum(axis) / negative
        ) / 2
    return mean


def _verdict(facts: Mapping[str, Any], metric: PrimaryMetric) -> str:
    """Return the conclusion of a comparison in words."""
    low, high, p = facts["low"], facts["high"], facts["p_holm"]
    one_fold = len(facts["folds"]) == 1
    beyond_chance = low > 0 or high < 0
    if not beyond_chance or (not one_fold and not p < 1 - CONFIDENCE):
        return "not distinguishable"
    better = (facts["difference"] < 0) != metric.higher_is_better
    words = "better" if better else "worse"
    return f"{words} on these rows; one fold says nothing of other training rows" if one_fold else words
