"""Split-conformal prediction: intervals, and sets of labels, that cover a stated share of new rows.

Rows that neither trained the models of a fold nor chose their epoch calibrate: its test rows, where the new row is no
row of the task, and rows kept for that where the new row is a test row. Whatever the model, if they and a new row are
exchangeable, the interval covers the target of that row with at least the stated probability (Vovk et al. 2005,
doi:10.1007/b106715; Angelopoulos and Bates 2021, arXiv:2107.07511). The probability is over the rows that calibrate as
well: for given ones the share of covered rows varies, by the beta-binomial distribution of `coverage_range`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import DataError
from benchmarks.results.statistics import CONFIDENCE, Interval
from benchmarks.results.store import Run, Training

__all__ = [
    "Calibrator",
    "coverage_range",
    "merge_intervals",
    "merge_labels",
    "read_calibrators",
    "rows_needed",
    "spread",
    "why_no_interval",
    "why_too_few",
]


@dataclass(frozen=True, eq=False)
class Calibrator:
    """The rows that calibrate the models of one fold, one model for each seed.

    Attributes:
        target: True values, or 0 and 1, [n].
        prediction: Predicted values or probabilities of 1, [seeds, n].
    """

    target: NDArray[np.float64]
    prediction: NDArray[np.float64]

    def __len__(self) -> int:
        """Number of rows n."""
        return len(self.target)

    @property
    def has_spread(self) -> bool:
        """Whether there are several seeds, over which predictions vary."""
        return len(self.prediction) > 1

    def interval(
        self, prediction: NDArray[np.float64], level: float, *, by_spread: bool = False
    ) -> NDArray[np.float64]:
        """Return the lower and upper ends [2, m] of the intervals around the mean predictions over the seeds.

        They are infinite where the level needs more rows than there are.

        Args:
            prediction: Predictions of the same seeds for other rows, [seeds, m].
            level: Share of rows to be covered, between 0 and 1.
            by_spread: Whether the width goes with the spread over the seeds; else it is the same for all rows. What
                residuals are divided by is the spread plus its mean over the rows that calibrate, without which rows
                on which the seeds agree by chance would decide.
        """
        residual = np.abs(self.target - self.prediction.mean(axis=0))
        scale, scale_here = np.ones(prediction.shape[1]), np.ones(len(self))
        if by_spread:
            usual = spread(self.prediction).mean() or 1.0
            scale, scale_here = spread(prediction) + usual, spread(self.prediction) + usual
        half = _quantile(residual / scale_here, level) * scale
        centre = prediction.mean(axis=0)
        return np.stack([centre - half, centre + half])

    def labels(self, prediction: NDArray[np.float64], level: float) -> NDArray[np.bool_]:
        """Return whether the set of a row holds the label false, and whether it holds true, [2, m].

        A set holds the labels that are not less probable than the true labels of nearly all rows that calibrate.

        Args:
            prediction: Probabilities of 1 by the same seeds for other rows, [seeds, m].
            level: Share of rows whose sets shall hold the true label, between 0 and 1.
        """
        known, new = (_of_labels(each.mean(axis=0)) for each in (self.prediction, prediction))
        of_truth = known[self.target.astype(int), np.arange(len(self))]
        held: NDArray[np.bool_] = 1 - new <= _quantile(1 - of_truth, level)
        return held


def read_calibrators(
    run: Run, trainings: Sequence[Training], rows: Literal["calibration", "test"]
) -> dict[int, Calibrator]:
    """Read the rows that calibrate each fold of a run; folds without any are left out.

    Args:
        run: The run.
        trainings: Those of its finished trainings to read.
        rows: Which rows calibrate: for test rows those kept for that, for any other structure the test rows.

    Raises:
        DataError: A file cannot be read, or the seeds of a fold have other rows.
    """
    read = run.read_calibration if rows == "calibration" else run.read_predictions
    calibrators = {}
    for fold in sorted({training.fold for training in trainings}):
        parts = {
            training: part for training in trainings if training.fold == fold and (part := read(training)) is not None
        }
        if not parts:
            continue
        first, *others = parts
        for other in others:
            if parts[other].ids != parts[first].ids:
                raise DataError(
                    f"{run.path}: other rows calibrate {other} than {first}; train one of them again, with "
                    "`sen-bench run --overwrite always`."
                )
        calibrators[fold] = Calibrator(parts[first].target, np.stack([part.prediction for part in parts.values()]))
    return calibrators


def spread(prediction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation (ddof 1) over the seeds of predictions [seeds, m], at least two of them, [m]."""
    deviation: NDArray[np.float64] = prediction.std(axis=0, ddof=1)
    return deviation


def rows_needed(level: float) -> int:
    """Return the smallest number of rows that can calibrate an interval of this level: 9 for 0.9."""
    return max(1, math.ceil(round(level / (1 - level), 9)))


def why_too_few(n_rows: Sequence[int], level: float, what: str) -> str | None:
    """Return why the rows that calibrate are too few for an interval of this level, as the end of a sentence, or None.

    Args:
        n_rows: Number of rows that calibrate, of each fold, at least one.
        level: Share of rows to be covered.
        what: What they are called.
    """
    if (fewest := min(n_rows)) >= (needed := rows_needed(level)):
        return None
    possible = math.floor(100 * fewest / (fewest + 1))
    return f"the {what} of a fold are {fewest}, and {100 * level:g} % needs {needed}: ask for {possible} % or less"


def why_no_interval(recipe: Mapping[str, Any], n_rows: Sequence[int], level: float) -> str | None:
    """Return why the test rows of a run have no interval of this level, as the end of a sentence; None if they have.

    Args:
        recipe: Its recipe, as config.json records it and `benchmarks.results.recorded.completed` completes it.
        n_rows: Number of rows that calibrate, of each fold.
        level: Share of rows to be covered.
    """
    if min(n_rows):
        too_few = why_too_few(n_rows, level, "rows that calibrate")
        return too_few and f"{too_few}, or train with a larger training.validation"
    if recipe["validation"] == 0:
        return (
            "all rows of its recipe train (training.validation=0), so that none calibrates: train with --set "
            "training.validation=0.1 --set training.calibration=1, which leaves the choice of the epoch as it is"
        )
    if recipe["calibration"] == 0:
        return (
            "no row calibrates (training.calibration=0, as in all runs from before that field): train with --set "
            "training.calibration=0.5"
        )
    return "a fold has too few validation rows for one of them to calibrate: give more rows"


def merge_intervals(intervals: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the medians [2, m] of the ends of the intervals of several folds, each [2, m], for the same rows.

    If each covers a target with the probability 1 - a, this does with at least 1 - 2 a: what it misses at least half of
    them miss (Gasparin and Ramdas 2024, arXiv:2401.09379). A single interval is returned as it is.
    """
    merged: NDArray[np.float64] = np.median(np.stack(intervals), axis=0)
    return merged


def merge_labels(labels: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Return the labels [2, m] that at least half of the sets of several folds hold, see `merge_intervals`."""
    merged: NDArray[np.bool_] = np.mean(labels, axis=0) >= 0.5
    return merged


def coverage_range(n_calibration: Sequence[int], n_test: Sequence[int], level: float) -> Interval:
    """Return between which shares of test rows are covered in 95 % of studies, if nothing but chance decides.

    The number covered of m rows by an interval from n others has the beta-binomial distribution of m draws with the
    parameters k and n + 1 - k, where the k-th smallest residual is the half-width. Folds are added as independent.

    Args:
        n_calibration: Number of rows that calibrate, of each fold.
        n_test: Number of test rows of each fold.
        level: Share of rows to be covered.
    """
    from scipy.signal import fftconvolve
    from scipy.stats import betabinom

    chance = np.ones(1)
    for n, m in zip(n_calibration, n_test, strict=True):
        k = _rank(n, level)
        of_fold = betabinom.pmf(np.arange(m + 1), m, k, n + 1 - k) if k <= n else np.eye(1, m + 1, m)[0]
        chance = fftconvolve(chance, of_fold)
    reached = np.cumsum(chance) / chance.sum()
    low, high = (
        float(np.searchsorted(reached, tail)) / sum(n_test) for tail in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    )
    return Interval(low, min(high, 1.0))


def _of_labels(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of false and of true [2, n], given those of true [n]."""
    return np.stack([1 - probability, probability])


def _rank(n: int, level: float) -> int:
    """Return which of n scores, in ascending order and counted from 1, is the quantile; n + 1 if none is."""
    # Rounded, because 100 * 0.07 is a little more than 7.
    return math.ceil(round((n + 1) * level, 9))


def _quantile(scores: NDArray[np.float64], level: float) -> float:
    """Return the quantile of scores [n], with the correction for finite n; infinite if the level needs more of them."""
    k = _rank(len(scores), level)
    return float(np.sort(scores)[k - 1]) if k <= len(scores) else math.inf
