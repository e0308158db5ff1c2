"""Errors by crystal system and by space group, of one model or of two on the same rows: arrays in, facts out.

Facts are what JSON can hold; an interval is [low, high], and an end that is not finite is None. Intervals are bootstrap
intervals of 2,000 resamples of the rows of each group; that of a rank correlation comes from the delta method. They do
not include how a model would change if it were trained again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.data.tasks import Kind
from benchmarks.results.metrics import THRESHOLD, mean_absolute_deviation, row_loss
from benchmarks.results.statistics import CONFIDENCE, FEWEST_OF_A_CLASS, Interval, bootstrap_all, bootstrap_mean
from reports.study.row_facts import crystal_systems
from reports.study.sentences import Sentences
from reports.study.wording import space_group_symbol
from sen.crystal import CRYSTAL_SYSTEMS, crystal_system

__all__ = ["SMALL", "break_down", "compare", "describe", "describe_comparison", "rank_correlation", "rows_by_system"]

SMALL = 30
"""With fewer rows, intervals are too narrow more often than their level says, and the group is marked."""


def point_group_order(space_group: ArrayLike) -> NDArray[np.int64]:
    """Return the number of operations of the point groups of space groups 1 to 230, of the shape given."""
    orders: NDArray[np.int64] = _point_group_orders()[np.asarray(space_group)]
    return orders


@cache
def _point_group_orders() -> NDArray[np.int64]:
    from moyopy import operations_from_number

    # In a primitive cell no two operations differ by a translation alone.
    return np.array([0, *(len(operations_from_number(number, primitive=True)) for number in range(1, 231))])


def break_down(
    kind: Kind,
    target: NDArray[np.float64],
    prediction: NDArray[np.float64],
    space_group: NDArray[np.integer[Any]],
    loss: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """Return the errors of a model by crystal system and by space group.

    Args:
        kind: "regression" or "classification".
        target: True values, or 0 and 1, [n].
        prediction: Predicted values, or probabilities of 1, [n].
        space_group: International numbers, [n]; 0 for an unknown one.
        loss: Absolute error of each row, or the share of its labels that are wrong, [n]; by default that of
            `prediction`. The error of a mean over seeds is smaller than the mean of their errors.

    Returns:
        kind, n; overall: facts of all rows; systems: of each crystal system that has rows, in the order of the space
        groups, unknown last; absent: the systems without rows; space_groups: of each space group that has rows, in
        order; symmetry: how the error depends on the number of point group operations, or None.

        Facts of a group of a regression: group, n, is_small, mae and mae_interval, mad (mean absolute deviation of its
        own targets from their mean), relative (mae / mad) and relative_interval, bias (mean of prediction - target)
        and bias_interval. Relative is None if all targets are the same. Of a classification: accuracy,
        balanced_accuracy (None if there is one class; without an interval if a class has fewer rows than
        FEWEST_OF_A_CLASS), their intervals, and positive, the share of true rows.

    Raises:
        ValueError: There are no rows, or not as many of each.
    """
    if loss is None:
        loss = row_loss(kind, target, prediction)
    if not len(target) == len(prediction) == len(space_group) == len(loss) or len(target) == 0:
        raise ValueError("a breakdown needs rows, and one target, prediction and space group for each")
    # A bootstrap draws rows by their places: the same rows have the same intervals wherever they come from.
    order = np.lexsort((prediction, target, loss))
    target, prediction, loss, space_group = target[order], prediction[order], loss[order], space_group[order]

    def facts(at: NDArray[np.int64]) -> dict[str, Any]:
        if kind == "regression":
            scores = _score_regression(target[at], prediction[at], loss[at])
        else:
            scores = _score_classification(target[at], loss[at])
        return {"n": len(at), "is_small": len(at) < SMALL, **scores}

    systems = [{"group": name, **facts(at)} for name, at in rows_by_system(space_group)]
    names = [system["group"] for system in systems]
    return {
        "kind": kind,
        "n": len(target),
        "overall": {"group": "all", **facts(np.arange(len(target)))},
        "systems": systems,
        "absent": [name for name in CRYSTAL_SYSTEMS[1:] if name not in names],
        "space_groups": [
            {"group": number, "symbol": space_group_symbol(number), "system": crystal_system(number), **facts(at)}
            for number, at in _by_number(space_group)
        ],
        "symmetry": _symmetry(kind, target, loss, space_group, facts),
    }


def compare(
    kind: Kind,
    target: NDArray[np.float64],
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    space_group: NDArray[np.integer[Any]],
    losses: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> dict[str, Any]:
    """Return how the predictions of one model and of another, both [n], differ on the same rows, by crystal system.

    The other arguments are those of `break_down`, with a loss of each row for either model.

    Returns:
        kind, n, overall and systems. Each entry: group, n, is_small, one and other (MAE, or share of wrong labels),
        difference (one - other, negative if the first model errs less) with difference_interval, and errs_less: "one",
        "other" or None if the interval includes 0 or there is none. It is of these predictions, not of the models.

    Raises:
        ValueError: There are no rows, or not as many of each.
    """
    if not len(target) == len(one) == len(other) == len(space_group) or len(target) == 0:
        raise ValueError("a comparison needs rows, and one target, space group and prediction of either model for each")
    if losses is None:
        losses = row_loss(kind, target, one), row_loss(kind, target, other)

    def facts(name: str, at: NDArray[np.int64]) -> dict[str, Any]:
        first, second = losses[0][at], losses[1][at]
        interval = _plain(bootstrap_mean(np.sort(first - second)))
        low, high = interval
        errs_less = None
        if low is not None and high is not None:
            errs_less = "one" if high < 0 else "other" if low > 0 else None
        return {
            "group": name,
            "n": len(at),
            "is_small": len(at) < SMALL,
            "one": float(first.mean()),
            "other": float(second.mean()),
            "difference": float((first - second).mean()),
            "difference_interval": interval,
            "errs_less": errs_less,
        }

    return {
        "kind": kind,
        "n": len(target),
        "overall": facts("all", np.arange(len(target))),
        "systems": [facts(name, at) for name, at in rows_by_system(space_group)],
    }


def describe(facts: Mapping[str, Any], unit: str = "", model: str = "the model") -> list[str]:
    """Return sentences on what the facts of `break_down` show about symmetry and error, and what they do not."""
    return Sentences(__name__, {**facts, "unit": unit, "model": model, "small": SMALL}).paragraphs("breakdown")


def describe_comparison(facts: Mapping[str, Any], one: str, other: str, unit: str = "") -> list[str]:
    """Return sentences on where, by the facts of `compare`, one of the models of these names is better.

    A fact "p_over_folds", if there is one, is the p-value of the difference of the models on new data.
    """
    known = {"one": one, "other": other, "unit": unit, "level": 1 - CONFIDENCE}
    return Sentences(__name__, {"p_over_folds": None, **facts, **known}).paragraphs("comparison")


def rows_by_system(space_group: NDArray[np.integer[Any]]) -> Iterable[tuple[str, NDArray[np.int64]]]:
    """Yield each crystal system that rows [n] have, from low to high symmetry, then "unknown", and their positions."""
    systems = crystal_systems(space_group)
    for name in (*CRYSTAL_SYSTEMS[1:], "unknown"):
        at = np.flatnonzero(systems == name)
        if len(at):
            yield name, at


def _by_number(space_group: NDArray[np.integer[Any]]) -> Iterable[tuple[int, NDArray[np.int64]]]:
    for number in np.unique(space_group[space_group > 0]).tolist():
        yield number, np.flatnonzero(space_group == number)


def _score_regression(
    target: NDArray[np.float64], prediction: NDArray[np.float64], loss: NDArray[np.float64]
) -> dict[str, Any]:
    error = prediction - target
    mae, mad = float(loss.mean()), mean_absolute_deviation(target)
    # Targets that are all the same differ from their mean by what rounding leaves.
    varies = bool((target != target[0]).any())

    def statistics(
        loss: NDArray[np.float64], error: NDArray[np.float64], target: NDArray[np.float64], axis: int
    ) -> Sequence[NDArray[np.float64]]:
        bias = error.mean(axis=axis)
        mae = loss.mean(axis=axis)
        target -= target.mean(axis=axis, keepdims=True)
        spread = np.abs(target, out=target).mean(axis=axis)
        # A draw of rows whose targets are all the same says nothing about an upper end.
        known = (spread > 1e-12 * mad) & varies
        return mae, np.divide(mae, spread, out=np.full_like(mae, np.inf), where=known), bias

    interval, relative, bias = map(_plain, bootstrap_all(statistics, loss, error, target))
    return {
        "mae": mae,
        "mae_interval": interval,
        "mad": mad if varies else 0.0,
        "relative": mae / mad if varies else None,
        "relative_interval": relative,
        "bias": float(error.mean()),
        "bias_interval": bias,
    }


def _score_classification(target: NDArray[np.float64], loss: NDArray[np.float64]) -> dict[str, Any]:
    right = 1 - loss
    classes = [target > THRESHOLD, target <= THRESHOLD]
    balanced, interval = None, Interval(np.nan, np.nan)
    if all(rows.any() for rows in classes):
        rates = [right[rows].mean() for rows in classes]
        balanced = float(np.mean(rates))
        # To first order a row moves the balanced accuracy by its own part of its class's rate. Drawing rows for the
        # statistic itself would now and then draw none of a rare class.
        influence = np.empty(len(target))
        for rows, rate in zip(classes, rates, strict=True):
            influence[rows] = (right[rows] - rate) * len(target) / (2 * np.count_nonzero(rows))
        if min(map(np.count_nonzero, classes)) >= FEWEST_OF_A_CLASS:
            interval = bootstrap_mean(balanced + influence)
    return {
        "accuracy": float(right.mean()),
        "accuracy_interval": _plain(bootstrap_mean(right)),
        "balanced_accuracy": balanced,
        "balanced_accuracy_interval": _plain(interval),
        "positive": float(classes[0].mean()),
    }


def _symmetry(
    kind: Kind,
    target: NDArray[np.float64],
    loss: NDArray[np.float64],
    space_group: NDArray[np.integer[Any]],
    score: Callable[[NDArray[np.int64]], dict[str, Any]],
) -> dict[str, Any] | None:
    """Return Spearman's correlations of the loss of a row with the order of its point group, and what may explain it.

    "loss" is over all rows. "without_most_common" leaves out the rows with the most common target, if one in ten
    has it, and gives the errors of the others by crystal system, with the share of each system that is left
    out: gaps of metals are all 0, easy to predict, and unevenly distributed over the systems. Losses divided by
    the MAD of their crystal system have no correlation here: if the MADs differ, that division makes a trend of
    any losses. `score` returns the facts of the rows at some positions.
    """
    known = np.flatnonzero(space_group > 0)

    def correlate(at: NDArray[np.int64]) -> dict[str, Any] | None:
        return rank_correlation(point_group_order(space_group[at]), loss[at])

    overall = correlate(known)
    if overall is None:
        return None
    facts: dict[str, Any] = {"n": len(known), "loss": overall, "without_most_common": None}
    if kind == "regression":
        values, counts = np.unique(target[known], return_counts=True)
        common = values[counts.argmax()]
        if counts.max() >= 0.1 * len(known):
            others = known[target[known] != common]
            systems = []
            for name, at in rows_by_system(space_group):
                left = np.intersect1d(at, others)
                if len(left):
                    systems.append({"group": name, "share": 1 - len(left) / len(at), **score(left)})
            facts["without_most_common"] = {
                "value": float(common),
                "share": float(1 - len(others) / len(known)),
                "rest": correlate(others),
                "systems": systems,
            }
    return facts


def rank_correlation(one: NDArray[Any], other: NDArray[Any]) -> dict[str, Any] | None:
    """Return Spearman's correlation with its interval and n, or None where one of the two does not vary."""
    from scipy.stats import rankdata

    if len(one) < 3:
        return None
    ranks = [rankdata(values) for values in (one, other)]
    if any(np.ptp(values) == 0 for values in ranks):
        return None
    x, y = ((values - values.mean()) / values.std() for values in ranks)
    value = float((x * y).mean())
    # The influence of a row on a correlation gives its standard error (the delta method); ranking every draw of rows
    # again would take minutes.
    influence = x * y - value * (x**2 + y**2) / 2
    half = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * float(influence.std()) / math.sqrt(len(one))
    return {"value": value, "interval": [max(-1.0, value - half), min(1.0, value + half)], "n": len(one)}


def _plain(interval: Interval) -> list[float | None]:
    return [end if np.isfinite(end) else None for end in interval]
