"""Scores of predictions, under MatBench's names where it has one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.base.errors import UnlearntError
from benchmarks.data.tasks import Kind

__all__ = [
    "METRIC_LABELS",
    "THRESHOLD",
    "PrimaryMetric",
    "classification_metrics",
    "matbench_scores",
    "mean_absolute_deviation",
    "primary_metric",
    "regression_metrics",
    "row_loss",
    "score",
]

THRESHOLD = 0.5
"""A probability above this counts as true."""

METRIC_LABELS = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "max_error": "max error",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "rocauc": "ROC-AUC",
    "matbench_rocauc": "MatBench 'rocauc'",
}
"""Labels of the scores in tables and figures."""

# matbench 0.6 leaves rows with smaller targets out of its mean absolute percentage error.
_SMALLEST_MAPE_TARGET = 1e-5


@dataclass(frozen=True)
class PrimaryMetric:
    """The score by which MatBench ranks models on a kind of task.

    Attributes:
        name: Key in the dictionary of metrics.
        label: Its name in tables and figures.
        higher_is_better: Whether a higher score is better.
    """

    name: str
    label: str
    higher_is_better: bool


def primary_metric(kind: Kind) -> PrimaryMetric:
    """Return the score by which MatBench ranks models: MAE, or its `rocauc` for classifications."""
    if kind == "regression":
        return PrimaryMetric("mae", "MAE", higher_is_better=False)
    return PrimaryMetric("matbench_rocauc", "balanced accuracy (MatBench 'rocauc')", higher_is_better=True)


def score(kind: Kind, target: ArrayLike, prediction: ArrayLike) -> dict[str, float]:
    """Return all scores for a kind of task: `regression_metrics` or `classification_metrics`."""
    return (regression_metrics if kind == "regression" else classification_metrics)(target, prediction)


def row_loss(kind: Kind, target: NDArray[np.float64], prediction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the absolute error of each row, [n]; for a classification 1 if its label is wrong, else 0."""
    if kind == "regression":
        error: NDArray[np.float64] = np.abs(prediction - target)
        return error
    wrong: NDArray[np.bool_] = (prediction > THRESHOLD) != (target > THRESHOLD)
    return wrong.astype(np.float64)


def regression_metrics(target: ArrayLike, prediction: ArrayLike) -> dict[str, float]:
    """Return the scores of predicted numbers.

    Args:
        target: True values, [n], in any unit.
        prediction: Predicted values, [n], in the same unit.

    Returns:
        `mae`, `rmse` and `max_error` in that unit, and `r2`, which is NaN if all targets are equal.

    Raises:
        ValueError: The arrays are empty or have different shapes.
        UnlearntError: A prediction is not finite.
    """
    target, prediction = _checked(target, prediction)
    error = prediction - target
    spread = np.sum((target - target.mean()) ** 2)
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "r2": float(1 - np.sum(error**2) / spread) if spread > 0 else float("nan"),
        "max_error": float(np.abs(error).max()),
    }


def classification_metrics(target: ArrayLike, probability: ArrayLike) -> dict[str, float]:
    """Return the scores of predicted probabilities of the true class.

    MatBench computes its `rocauc` from labels thresholded at 0.5, so that it equals the balanced accuracy. It is
    called `matbench_rocauc` here, and `rocauc` is the area under the curve of the probabilities.

    Args:
        target: True labels, [n], 0 or 1 or booleans.
        probability: Predicted probability of 1, [n]; above 0.5 it counts as 1.

    Returns:
        `accuracy`, `balanced_accuracy`, `f1`, `rocauc` and `matbench_rocauc`; the areas and the balanced accuracy are
        NaN if all targets are of one class.

    Raises:
        ValueError: The arrays are empty or have different shapes, or the values are not labels and probabilities.
        UnlearntError: A prediction is not finite.
    """
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

    target, probability = _checked(target, probability)
    if not np.isin(target, (0, 1)).all():
        raise ValueError("the targets of a classification must be 0 or 1")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("probabilities must lie between 0 and 1")
    label = probability > THRESHOLD
    truth = target.astype(bool)
    both_classes = truth.any() and not truth.all()
    return {
        "accuracy": float(accuracy_score(truth, label)),
        "balanced_accuracy": float(balanced_accuracy_score(truth, label)) if both_classes else float("nan"),
        "f1": float(f1_score(truth, label, zero_division=0)),
        "rocauc": float(roc_auc_score(truth, probability)) if both_classes else float("nan"),
        "matbench_rocauc": float(roc_auc_score(truth, label)) if both_classes else float("nan"),
    }


def matbench_scores(kind: Kind, target: ArrayLike, prediction: ArrayLike) -> dict[str, float]:
    """Return exactly the scores that matbench 0.6 computes for a fold and requires in a submission file.

    Args:
        kind: "regression" or "classification".
        target: True values or labels, [n].
        prediction: Predicted values or probabilities, [n].

    Returns:
        `mae`, `rmse`, `mape`, `max_error`, or `accuracy`, `balanced_accuracy`, `f1`, `rocauc` (on thresholded labels).

    Raises:
        ValueError: See `regression_metrics` and `classification_metrics`.
        UnlearntError: A prediction is not finite.
    """
    if kind == "classification":
        scores = classification_metrics(target, prediction)
        scores["rocauc"] = scores.pop("matbench_rocauc")
        return scores
    scores = regression_metrics(target, prediction)
    del scores["r2"]
    target, prediction = _checked(target, prediction)
    counted = np.abs(target) > _SMALLEST_MAPE_TARGET
    relative_error = np.abs((target - prediction)[counted] / target[counted])
    scores["mape"] = float(relative_error.mean()) if counted.any() else float("nan")
    return scores


def mean_absolute_deviation(target: ArrayLike) -> float:
    """Return the mean distance of the targets [n] from their mean: the MAE of a model that predicts the mean."""
    values = np.asarray(target, dtype=np.float64)
    return float(np.abs(values - values.mean()).mean())


def _checked(target: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    truth, predicted = np.asarray(target, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != predicted.shape or truth.size == 0:
        raise ValueError(
            f"targets of shape {truth.shape} and predictions of shape {predicted.shape} cannot be compared"
        )
    n_broken = int(np.count_nonzero(~np.isfinite(predicted)))
    if n_broken:
        raise UnlearntError(f"{n_broken} of {predicted.size} predictions are not finite: the training diverged.")
    return truth, predicted
