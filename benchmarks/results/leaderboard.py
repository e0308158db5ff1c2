"""The published MatBench results that runs are compared with."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from benchmarks.data.folds import N_FOLDS
from benchmarks.data.tasks import TASKS
from benchmarks.results.metrics import primary_metric

__all__ = ["TAGS", "LeaderboardEntry", "published", "rank", "source"]

#: What the tags of published results mean.
TAGS = {
    "official": "on MatBench's own leaderboard, which checked its predictions; these alone have ranks",
    "unmerged": "published elsewhere, and not on MatBench's leaderboard",
    "pretrained": "first trained on other data than the task's",
    "one fold": "the score of one fold, not the mean over five",
    "leak suspected": "first trained on Materials Project energies, from which the targets of test rows follow",
}


@dataclass(frozen=True)
class LeaderboardEntry:
    """A published model on one task, scored by MatBench's own metric (see `metrics.primary_metric`).

    For classifications MatBench calls the score `rocauc`, but computes it from thresholded labels, so that it is the
    balanced accuracy. Compare it with `matbench_rocauc`, never with a true area under the curve.

    Attributes:
        model: Name of the model.
        mean: Mean score over the five official folds, in the unit of the task; with the tag `one fold` that of one.
        std: Standard deviation over the folds (ddof 0); None where it is not published.
        folds: Score of each official fold, to compare with a run of some folds; None where it is not published.
        tags: What to know of it, of `TAGS`.
        source: Where it was published.
        date: When, as YYYY-MM-DD; of the source, or of the state in which it was read.
    """

    model: str
    mean: float
    std: float | None
    folds: tuple[float | None, ...]
    tags: tuple[str, ...]
    source: str
    date: str

    @property
    def is_official(self) -> bool:
        """Whether it is on MatBench's own leaderboard, and so has a rank."""
        return "official" in self.tags

    @property
    def label(self) -> str:
        """Its name, with the tags of one that is not official."""
        return self.model if self.is_official else f"{self.model} ({', '.join(self.tags)})"

    def on_folds(self, folds: Sequence[int]) -> tuple[float, float | None] | None:
        """Return mean and standard deviation of the score on these folds; None where a fold is not published."""
        if len(folds) == N_FOLDS:
            return self.mean, self.std
        scores = [score for fold in folds if (score := self.folds[fold]) is not None]
        return (float(np.mean(scores)), float(np.std(scores))) if len(scores) == len(folds) else None


def source() -> str:
    """Return the source of the official results, in one sentence."""
    text: str = _read()["sources"]["matbench"]["text"]
    return text


def published(task_name: str) -> list[LeaderboardEntry]:
    """Return the published models of a task, best first; an empty list for a task outside MatBench."""
    content = _read()
    entries = [
        LeaderboardEntry(
            model=row["model"],
            mean=row["mean"],
            std=row["std"],
            folds=tuple(row.get("folds", [None] * N_FOLDS)),
            tags=tuple(row["tags"]),
            source=content["sources"][row["source"]]["text"],
            date=content["sources"][row["source"]]["date"],
        )
        for row in content["tasks"].get(task_name, [])
    ]
    return sorted(entries, key=lambda entry: entry.mean, reverse=_higher_is_better(task_name)) if entries else []


def rank(task_name: str, score: float) -> int | None:
    """Return the rank, from 1, of a mean score over all five folds among the official published models.

    Args:
        task_name: Name of a task.
        score: The primary metric, averaged over the five official folds.

    Returns:
        One more than the number of official models that are strictly better; None if there are none.

    Raises:
        ValueError: The score is NaN.
    """
    if math.isnan(score):
        raise ValueError("a score that is not a number has no rank")
    official = [entry for entry in published(task_name) if entry.is_official]
    if not official:
        return None
    sign = -1 if _higher_is_better(task_name) else 1
    return 1 + sum(sign * entry.mean < sign * score for entry in official)


def _higher_is_better(task_name: str) -> bool:
    return primary_metric(TASKS[task_name].kind).higher_is_better


@cache
def _read() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        resources.files("benchmarks.results").joinpath("leaderboard.json").read_text(encoding="utf-8")
    )
    return content
