"""The published MatBench results that runs are compared with."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from benchmarks.data.tasks import TASKS
from benchmarks.results.metrics import primary_metric

__all__ = ["LeaderboardEntry", "published", "rank", "source"]


@dataclass(frozen=True)
class LeaderboardEntry:
    """A published model on one task, scored by MatBench's own metric (see `metrics.primary_metric`).

    For classifications MatBench calls the score `rocauc`, but computes it from thresholded labels, so that it is the
    balanced accuracy. Compare it with `matbench_rocauc`, never with a true area under the curve.

    Attributes:
        model: Name on the leaderboard.
        mean: Mean score over the five official folds, in the unit of the task.
        std: Standard deviation over the folds (ddof 0).
        folds: Score of each fold, to compare with a run of some folds.
    """

    model: str
    mean: float
    std: float
    folds: tuple[float, ...]


def source() -> str:
    """Return the source of the published results, in one sentence."""
    text: str = _read()["source"]
    return text


def published(task_name: str) -> list[LeaderboardEntry]:
    """Return the published models of a task, best first; an empty list for a task outside MatBench."""
    rows = _read()["tasks"].get(task_name, [])
    entries = [LeaderboardEntry(row["model"], row["mean"], row["std"], tuple(row["folds"])) for row in rows]
    return sorted(entries, key=lambda entry: entry.mean, reverse=_higher_is_better(task_name)) if entries else []


def rank(task_name: str, score: float) -> int | None:
    """Return the rank, from 1, of a mean score over all five folds among the published models.

    Args:
        task_name: Name of a task.
        score: The primary metric, averaged over the five official folds.

    Returns:
        One more than the number of models that are strictly better; None if there are no published models.

    Raises:
        ValueError: The score is NaN.
    """
    if math.isnan(score):
        raise ValueError("a score that is not a number has no rank")
    entries = published(task_name)
    if not entries:
        return None
    sign = -1 if _higher_is_better(task_name) else 1
    return 1 + sum(sign * entry.mean < sign * score for entry in entries)


def _higher_is_better(task_name: str) -> bool:
    return primary_metric(TASKS[task_name].kind).higher_is_better


@cache
def _read() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        resources.files("benchmarks.results").joinpath("leaderboard.json").read_text(encoding="utf-8")
    )
    return content
