"""Simulated studies, and the arithmetic of `benchmarks.results.contrasts` for many of them at once.

In a study every variant is trained on the same folds with the same seeds, and each variant but the first is compared
with the first. The absolute error of a row is the score of its variant in its fold, plus what is peculiar to the row,
plus the noise of a training, which has a part of the whole score and one of the row. A true difference shifts all
errors of a variant, so it shifts the estimate by as much and leaves the noise as it is. Studies are therefore drawn
once, without any difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from benchmarks.results.contrasts import MEANINGFUL
from benchmarks.results.statistics import CONFIDENCE, POWER, p_of_share
from tools.power.components import Components

__all__ = [
    "Estimates",
    "Found",
    "Tails",
    "draw",
    "estimate",
    "find",
    "find_meaningful",
    "holm",
    "in_two_stages",
    "on_random_splits",
    "over_splits",
    "simulate",
]

Tails = Literal["normal", "resampled", "by fold"]
"""How the noise of training is drawn: normal; from the residuals of the archive; or normal, with a variance of its own
in each fold of each variant, drawn from those of the archive."""

_FOLDS = 5
_AT_A_TIME = 20  # studies, which the caches of a processor nearly hold


@dataclass(frozen=True, eq=False)
class Estimates:
    """Estimated differences with their errors, [studies, contrasts]; see `benchmarks.results.statistics.Estimate`."""

    mean: NDArray[np.float64]
    error: NDArray[np.float64]
    df: NDArray[np.float64]

    def shifted(self, difference: NDArray[np.float64] | float) -> Estimates:
        """Return what the same studies estimate if the true difference of the first contrast is larger by so much."""
        mean = self.mean.copy()
        mean[:, 0] += difference
        return replace(self, mean=mean)

    def p_value(self) -> NDArray[np.float64]:
        """Return two-sided p-values of no difference."""
        return np.asarray(2 * stdtr(self.df, -np.abs(self.mean) / self.error))

    def p_equivalent(self, margin: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the larger p-value of two one-sided tests against margins."""
        return np.asarray(stdtr(self.df, (np.abs(self.mean) - margin) / self.error))

    def detectable(self, level: float) -> NDArray[np.float64]:
        """Return the smallest differences that are found with a probability of POWER."""
        return np.asarray(self.error * (stdtrit(self.df, POWER) - stdtrit(self.df, level / 2)))


@dataclass(frozen=True, eq=False)
class Found:
    """What studies find, each [studies, contrasts]; see `benchmarks.results.contrasts.Noise`.

    Attributes:
        seeds: Seeds of each fold.
        score: Score of the first variant, with which the others are compared.
        difference: Score of the other one less that.
        one_seed: Variance of the difference from training with one seed.
        df: Degrees of freedom of `one_seed`.
        rows: Variance of the difference from test rows.
        rows_df: Degrees of freedom of `rows`.
        over_folds: Variance of the difference by the correction of Nadeau and Bengio.
        over_rows: Variance of the difference over test rows, as the bootstrap of version 0.1 took it.
        moved: True difference on these folds, where the one on new data is zero.
    """

    seeds: NDArray[np.float64]
    score: NDArray[np.float64]
    difference: NDArray[np.float64]
    one_seed: NDArray[np.float64]
    df: NDArray[np.float64]
    rows: NDArray[np.float64]
    rows_df: NDArray[np.float64]
    over_folds: NDArray[np.float64]
    over_rows: NDArray[np.float64]
    moved: NDArray[np.float64]

    def on_these_folds(self) -> Estimates:
        """Return the estimates of studies without a difference on these folds."""
        training = self.one_seed / self.seeds
        variance = training + self.rows
        spread = training**2 / self.df + self.rows**2 / self.rows_df
        df = np.divide(variance**2, spread, out=np.full_like(spread, np.inf), where=spread > 0)
        return Estimates(self.difference - self.moved, np.sqrt(variance), df)

    def on_new_data(self) -> Estimates:
        """Return the estimates of studies without a difference on new data."""
        return Estimates(self.difference, np.sqrt(self.over_folds), np.full_like(self.df, _FOLDS - 1))

    def over_test_rows(self) -> Estimates:
        """Return the estimates whose intervals are those of version 0.1."""
        return Estimates(self.difference, np.sqrt(self.over_rows), np.full_like(self.df, np.inf))

    def of_variants(self, n: int) -> Found:
        """Return what studies of the first n variants find."""
        return _map(lambda array: array[:, : n - 1], self)


def simulate(
    components: Components,
    seeds: Sequence[int],
    tails: Tails,
    *,
    variants: int,
    n: int,
) -> dict[int, Found]:
    """Draw studies, and return what they find with each number of seeds, of which more include fewer.

    Args:
        components: What makes the scores vary.
        seeds: Numbers of seeds.
        tails: How the noise of training is drawn.
        variants: Number of variants.
        n: Number of studies.
    """
    rng = np.random.default_rng(0)
    parts: dict[int, list[Found]] = {each: [] for each in seeds}
    for done in range(0, n, _AT_A_TIME):
        shape = (min(_AT_A_TIME, n - done), variants, _FOLDS, max(seeds))
        loss, moved = draw(components, shape, tails, rng)
        for each, found in parts.items():
            found.append(estimate(loss[..., :each, :], components.test_to_train, moved))
    return {each: _map(_joined, *found) for each, found in parts.items()}


def on_random_splits(
    components: Components, splits: int, tails: Tails, *, variants: int, n: int
) -> NDArray[np.float64]:
    """Draw studies on random splits, each trained once; return differences of scores [studies, contrasts, splits].

    Test rows of two splits are drawn apart; their share in the noise is small.
    """
    rng = np.random.default_rng(0)
    parts = []
    for done in range(0, n, _AT_A_TIME):
        loss, _ = draw(components, (min(_AT_A_TIME, n - done), variants, splits, 1), tails, rng)
        score = loss.mean((-2, -1))
        parts.append(score[:, 1:] - score[:, :1])
    return np.concatenate(parts)


def over_splits(differences: NDArray[np.float64], test_to_train: float) -> Estimates:
    """Return the estimates on new data from differences on random splits, [studies, contrasts, splits]."""
    n = differences.shape[-1]
    error = np.sqrt((1 / n + test_to_train) * differences.var(-1, ddof=1))
    return Estimates(differences.mean(-1), error, np.full_like(error, n - 1))


def find_meaningful(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where differences [studies, contrasts, splits] have mostly one sign, see `contrasts.Superiority`.

    That is the sign of those that are significant and meaningful, and 0 elsewhere.
    """
    n = differences.shape[-1]
    won = (differences > 0).sum(-1)
    p = holm(np.array([p_of_share(k, n) for k in range(n + 1)])[won])
    is_meaningful = np.maximum(won, n - won) / n > MEANINGFUL
    return np.asarray(np.sign(won - n / 2) * (is_meaningful & (p < 1 - CONFIDENCE)))


def draw(
    components: Components, shape: tuple[int, int, int, int], tails: Tails, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return absolute errors [studies, variants, folds, seeds, rows] for this shape without rows, and `Found.moved`.

    There is no difference on new data. The part of a variant in its folds is correlated between folds as the correction
    of Nadeau and Bengio assumes: by the share of the test rows.
    """
    n, variants, folds, _ = shape
    common = components.test_to_train / (1 + components.test_to_train)
    block_fold = math.sqrt(components.block_fold.variance) * (
        math.sqrt(common) * rng.standard_normal((n, variants, 1))
        + math.sqrt(1 - common) * rng.standard_normal(shape[:3])
    )
    if tails == "resampled":
        training = rng.choice(components.residuals, shape) * math.sqrt(components.training.variance)
    else:
        variance = rng.choice(components.cells, shape[:3]) if tails == "by fold" else components.training.variance
        training = rng.standard_normal(shape) * np.sqrt(np.asarray(variance)[..., None])
    rows = rng.integers(len(components.row_noise), size=(n, 1, folds, 1, components.n_rows))
    loss = rng.standard_normal((*shape, components.n_rows)) * components.row_noise[rows]
    loss -= loss.mean(-1, keepdims=True)
    loss += (components.score + block_fold[..., None] + training)[..., None]
    loss[:, 1:] += components.row_difference[rows]
    moved = block_fold.mean(-1)
    return loss, moved[:, 1:] - moved[:, :1]


def estimate(loss: NDArray[np.float64], test_to_train: float, moved: NDArray[np.float64]) -> Found:
    """Return what studies find.

    Args:
        loss: Absolute errors, [studies, variants, folds, seeds, rows] with at least two seeds.
        test_to_train: Ratio of test to training rows of a fold.
        moved: See `Found`.
    """
    *_, k, seeds, n = loss.shape
    score = loss.mean(-1)
    by_fold = score.mean(-1)
    squares = ((score - by_fold[..., None]) ** 2).sum(-1)
    squares = np.stack(np.broadcast_arrays(squares[:, 1:], squares[:, :1]))  # [2, studies, contrasts, folds]
    total = squares.sum((0, -1))
    equal_df = 2 * k * (seeds - 1)
    df = np.minimum(equal_df, total**2 / (squares**2 / (seeds + 1)).sum((0, -1)) - 2)
    difference = loss[:, 1:] - loss[:, :1]
    of_row, of_seed = difference.mean(-2), difference.mean(-1)
    over_rows = of_row.reshape(*total.shape, -1).var(-1) / (k * n)
    difference -= of_row[..., None, :]
    difference -= (of_seed - of_seed.mean(-1, keepdims=True))[..., None]
    error = np.einsum("...sn,...sn->...", difference, difference) / ((seeds - 1) * (n - 1))
    rows = np.maximum(0.0, ((of_row.var(-1, ddof=1) - error / seeds) / n).sum(-1) / k**2)
    by_fold_difference = by_fold[:, 1:] - by_fold[:, :1]
    return Found(
        seeds=np.full_like(total, seeds),
        score=np.broadcast_to(by_fold[:, :1].mean(-1), total.shape),
        difference=by_fold_difference.mean(-1),
        one_seed=total / (k**2 * (seeds - 1)),
        df=df,
        rows=rows,
        rows_df=np.full_like(total, k * (n - 1)),
        over_folds=(1 / k + test_to_train) * by_fold_difference.var(-1, ddof=1),
        over_rows=over_rows,
        moved=moved,
    )


def in_two_stages(by_seeds: Mapping[int, Found], target: float, level: float) -> Found:
    """Return what studies find that choose their seeds by the noise of the fewest, see `Noise.seeds_for`.

    Where the test rows alone are too few, the first stage is all; where the most seeds are too few, all are trained.

    Args:
        by_seeds: What they find with each number of seeds, without a gap.
        target: The difference that shall be found, in the unit of the score.
        level: Level of the test.
    """
    first, *more = sorted(by_seeds)
    pilot = found = by_seeds[first]
    attainable = _with_seeds(pilot, math.inf).detectable(level) < target
    for n in more:
        goes_on = attainable & (_with_seeds(pilot, n - 1).detectable(level) > target)
        found = _map(partial(_chosen, goes_on), by_seeds[n], found)
    return found


def find(estimates: Estimates) -> NDArray[np.float64]:
    """Return the verdicts [studies, contrasts]: 1 where the second variant is found better, -1 where worse, else 0."""
    return np.sign(estimates.mean) * (holm(estimates.p_value()) < 1 - CONFIDENCE)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust the p-values of each study, [studies, contrasts]."""
    n, order = p_values.shape[1], np.argsort(p_values, 1)
    sorted_p = np.take_along_axis(p_values, order, 1) * (n - np.arange(n))
    adjusted = np.empty_like(p_values)
    np.put_along_axis(adjusted, order, np.minimum(1.0, np.maximum.accumulate(sorted_p, 1)), 1)
    return adjusted


def _joined(*arrays: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate(arrays)


def _chosen(where: NDArray[np.bool_], new: NDArray[np.float64], old: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(where, new, old)


def _with_seeds(pilot: Found, seeds: float) -> Estimates:
    return replace(pilot, seeds=np.full_like(pilot.seeds, seeds)).on_these_folds()


def _map(function: Callable[..., NDArray[np.float64]], *found: Found) -> Found:
    """Return the results of a function of each array of the studies."""
    return Found(**{each.name: function(*(getattr(one, each.name) for one in found)) for each in fields(Found)})
