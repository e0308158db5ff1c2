"""The rows that judge a grid: test rows, or validation rows while a recipe is still being chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.base.errors import DataError
from benchmarks.data.tasks import Kind
from benchmarks.results.metrics import PrimaryMetric, primary_metric
from benchmarks.results.store import Run, Training

__all__ = ["Judge", "JudgedRows"]

JudgedRows = Literal["test", "validation"]

_VALIDATION = {
    "regression": PrimaryMetric("mae", "MAE", higher_is_better=False),
    "classification": PrimaryMetric("cross_entropy", "cross-entropy", higher_is_better=False),
}


@dataclass(frozen=True)
class Judge:
    """How trainings are scored.

    With validation rows, nothing that a training did on test rows is read or shown, so that a recipe can be chosen
    within the protocol. The score is then the validation error of the epoch whose weights are kept, which is the lowest
    of all epochs. It is a little too good for every recipe, and more so for a noisier one.

    Attributes:
        kind: "regression" or "classification".
        rows: Rows that judge.
    """

    kind: Kind
    rows: JudgedRows = "test"

    @property
    def metric(self) -> PrimaryMetric:
        """The score: on test rows MatBench's, on validation rows the error that chose the epoch."""
        return primary_metric(self.kind) if self.rows == "test" else _VALIDATION[self.kind]

    def score(self, run: Run, training: Training, record: Mapping[str, Any]) -> float:
        """Return the score of a finished training; NaN where its record has none.

        Raises:
            DataError: The history of the training cannot be read.
        """
        if self.rows == "test":
            value = record["metrics"][self.metric.name]
            return math.nan if value is None else float(value)
        try:
            return float(run.read_history(training)[record["best_epoch"] - 1]["validation"])
        except (KeyError, IndexError):
            raise DataError(
                f"{run.training_path(training)}/history.csv lacks the epoch that metrics.json calls best."
            ) from None
