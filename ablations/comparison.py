"""What is declared before a grid is trained, its contrasts, and what other runs know of the noise of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ablations.detection import Detection
from ablations.judge import Judge
from ablations.scores import FinishedVariant
from benchmarks.base.zip_path import AnyPath
from benchmarks.results.contrasts import MARGIN, Compared, Comparison, compare
from benchmarks.results.statistics import share_tested
from benchmarks.results.store import find_runs

__all__ = ["Declaration", "KnownNoise", "compare_finished", "known_noise"]

_TARGET = 0.05


@dataclass(frozen=True)
class Declaration:
    """What is declared before anything is trained.

    Attributes:
        contrasts: Names of the first and second variant of each, see `contrasts.declare`.
        margin: Share of the second variant's score within which differences do not matter.
        detection: The difference to find; None where the number of seeds is given.
    """

    contrasts: Sequence[tuple[str, str]]
    margin: float = MARGIN
    detection: Detection | None = None

    @property
    def target(self) -> float:
        """The difference of which the result says how many seeds find it, as a share of the second variant's score."""
        return self.detection.share if self.detection else _TARGET


def compare_finished(all_finished: Sequence[FinishedVariant], declaration: Declaration) -> list[Comparison]:
    """Compare the variants of each contrast, if they have finished trainings in common."""
    compared = {
        str(one.setting): Compared(str(one.setting), one.score, one.predictions, share_tested(one.records.values()))
        for one in all_finished
        if one.records
    }
    pairs = [
        (compared[first], compared[second])
        for first, second in declaration.contrasts
        if first in compared and second in compared
    ]
    judge = all_finished[0].judge
    return compare(pairs, judge.kind, higher_is_better=judge.metric.higher_is_better, margin=declaration.margin)


@dataclass(frozen=True)
class KnownNoise:
    """How much the score of a fold varies between seeds, in a run store.

    Attributes:
        relative: Standard deviation between seeds over the mean of the fold, pooled over folds and runs.
        df: Its degrees of freedom.
        runs: Number of runs with two seeds or more.
    """

    relative: float
    df: int
    runs: int


def known_noise(tasks_runs: AnyPath, judge: Judge) -> KnownNoise | None:
    """Return the noise of training of all runs on a task, whatever their configuration; None where nothing is known.

    Args:
        tasks_runs: Folder of the runs on the task.
        judge: How trainings are scored.

    Raises:
        DataError: A result cannot be read.
    """
    squares, df, n_runs = 0.0, 0, 0
    for run in find_runs(tasks_runs):
        trainings = run.trainings()
        scores = {training: judge.score(run, training, run.read_metrics(training)) for training in trainings}
        by_fold = [
            np.array([score for training, score in scores.items() if training.fold == fold])
            for fold in {training.fold for training in trainings}
        ]
        repeated = [
            fold / abs(fold.mean()) for fold in by_fold if len(fold) > 1 and fold.mean() and np.isfinite(fold).all()
        ]
        squares += sum(float(((fold - fold.mean()) ** 2).sum()) for fold in repeated)
        df += sum(len(fold) - 1 for fold in repeated)
        n_runs += bool(repeated)
    return KnownNoise(math.sqrt(squares / df), df, n_runs) if df else None
