"""Uncertainty of scores and differences: a bootstrap over rows, and a t-test over folds with common training rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # not scipy.stats, which gives the same numbers and takes half a second more to load

__all__ = [
    "CONFIDENCE",
    "FEWEST_OF_A_CLASS",
    "POWER",
    "Estimate",
    "Interval",
    "bootstrap",
    "bootstrap_all",
    "bootstrap_mean",
    "corrected_variance",
    "holm",
    "interval_of_share",
    "p_of_share",
    "share_tested",
]

CONFIDENCE = 0.95
"""Confidence level of every interval."""

POWER = 0.8
"""Probability with which a design finds the smallest difference that it is said to find."""

FEWEST_OF_A_CLASS = 10
"""With fewer rows of a class a balanced accuracy has no interval: few rows may all be right by chance."""

# With this number the ends of a 95 % interval vary by about 2 % of its width from seed to seed.
_RESAMPLES = 2000
# Numbers drawn at a time: as many as fit into the caches of a processor, which makes it several times as fast.
_CHUNK = 100_000


class Interval(NamedTuple):
    """Lower and upper end of a 95 % interval; NaN if there is nothing to resample."""

    low: float
    high: float


def bootstrap(statistic: Callable[..., NDArray[np.float64]], *samples: ArrayLike, seed: int = 0) -> Interval:
    """Return the percentile interval of a statistic over rows resampled with replacement.

    The bootstrap of Efron (1979), 10.1214/aos/1176344552.

    Args:
        statistic: Maps arrays and the keyword `axis` to the statistic along that axis.
        samples: Values of the rows, each [n]; the values of a row are drawn together.
        seed: Seed of the draws.

    Raises:
        ValueError: There are no rows, or the samples have different lengths.
    """

    def only(*parts: NDArray[np.float64], axis: int) -> tuple[NDArray[np.float64]]:
        return (statistic(*parts, axis=axis),)

    return bootstrap_all(only, *samples, seed=seed)[0]


def bootstrap_all(
    statistics: Callable[..., Sequence[NDArray[np.float64]]], *samples: ArrayLike, seed: int = 0
) -> list[Interval]:
    """Return the intervals of several statistics over the same draws, as `bootstrap` does.

    Args:
        statistics: Maps arrays, which it may overwrite, and the keyword `axis` to the statistics along that axis.
        samples: Values of the rows, each [n]; the values of a row are drawn together.
        seed: Seed of the draws.

    Returns:
        The interval of each statistic; an end that is not finite is NaN.

    Raises:
        ValueError: There are no rows, or the samples have different lengths.
    """
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    n = len(arrays[0])
    if n == 0 or any(len(array) != n for array in arrays):
        raise ValueError("a bootstrap needs rows, and the same number of them in every sample")
    if n == 1:
        return [Interval(math.nan, math.nan) for _ in statistics(*(array.copy() for array in arrays), axis=0)]
    rng = np.random.default_rng(seed)
    size = min(max(1, _CHUNK // n), _RESAMPLES)
    # Reused, because allocating memory for every chunk took most of the time.
    drawn = [np.empty((size, n)) for _ in arrays]
    found = []
    for done in range(0, _RESAMPLES, size):
        rows = rng.integers(n, size=(min(size, _RESAMPLES - done), n))
        # "clip" has nothing to clip, but without it numpy allocates memory first.
        parts = [array.take(rows, out=out[: len(rows)], mode="clip") for array, out in zip(arrays, drawn, strict=True)]
        found.append(np.stack(statistics(*parts, axis=-1)))
    tail = (1 - CONFIDENCE) / 2
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a statistic that is defined for no draw
        # A draw for which the statistic is not defined, such as one that lacks a class, does not count.
        ends = np.nanquantile(np.concatenate(found, axis=-1), [tail, 1 - tail], axis=-1)
    return [Interval(*map(float, pair)) for pair in np.where(np.isfinite(ends), ends, np.nan).T]


def bootstrap_mean(values: ArrayLike, *, seed: int = 0) -> Interval:
    """Return the 95 % interval of the mean of values [n] over resampled rows."""
    return bootstrap(np.mean, values, seed=seed)


@dataclass(frozen=True)
class Estimate:
    """An estimated difference, normal around the true one, whose standard error was estimated too.

    Attributes:
        mean: The difference.
        error: Its standard error.
        df: Degrees of freedom of the error.
    """

    mean: float
    error: float
    df: float

    def interval(self) -> Interval:
        """Return the 95 % interval of the true difference."""
        half = self.error * -float(special.stdtrit(self.df, (1 - CONFIDENCE) / 2))
        return Interval(self.mean - half, self.mean + half)

    def p_value(self) -> float:
        """Return the two-sided p-value of no difference; NaN if there is one and no error."""
        if self.error == 0:
            return 1.0 if self.mean == 0 else math.nan
        return float(2 * special.stdtr(self.df, -abs(self.mean) / self.error))

    def p_equivalent(self, margin: float) -> float:
        """Return the larger p-value of two one-sided tests, of differences of -margin and of margin.

        It is NaN if there is a difference and no error. The tests are those of Schuirmann (1987, 10.1007/BF01068419).
        """
        if self.error == 0:
            return 0.0 if self.mean == 0 else math.nan
        return float(special.stdtr(self.df, -(margin - abs(self.mean)) / self.error))

    def detectable(self, level: float) -> float:
        """Return the smallest true difference that a two-sided test finds with a probability of POWER.

        Args:
            level: Level of the test.
        """
        return self.error * float(special.stdtrit(self.df, POWER) - special.stdtrit(self.df, level / 2))


def corrected_variance(differences: ArrayLike, test_to_train: float) -> float:
    """Return the variance of the mean difference over folds (Nadeau and Bengio 2003, 10.1023/A:1024068626366).

    The training rows of two folds overlap, so that their scores are not independent, and the variance of an ordinary
    t-test is too small. The corrected one is larger by the ratio of test to training rows. It has k - 1 degrees of
    freedom.

    Args:
        differences: Difference of two models' scores on each fold, [k] with k of at least 2.
        test_to_train: Ratio of test to training rows of a fold, see `share_tested`.
    """
    values = np.asarray(differences, dtype=np.float64)
    return float((1 / len(values) + test_to_train) * values.var(ddof=1))


def interval_of_share(count: float, n: int) -> Interval:
    """Return the exact 95 % interval of a probability (Clopper and Pearson 1934, 10.1093/biomet/26.4.404).

    Args:
        count: How often it came true in n independent trials; halves are allowed.
        n: Number of trials.
    """
    tail = (1 - CONFIDENCE) / 2
    low = float(special.betaincinv(count, n - count + 1, tail)) if count else 0.0
    return Interval(low, float(special.betainccinv(count + 1, n - count, tail)) if count < n else 1.0)


def p_of_share(count: float, n: int) -> float:
    """Return the two-sided p-value of a probability of one half, twice the smaller tail as in `interval_of_share`."""
    most = max(count, n - count)
    return min(1.0, 2 * float(special.betainc(most, n - most + 1, 0.5)))


def share_tested(records: Iterable[Mapping[str, Any]]) -> float:
    """Return the ratio of test rows to training rows, including validation rows, from the records of both models.

    It is the largest ratio of all trainings: if one model was trained on fewer rows, the t-test is conservative.
    """
    rows = [record["rows"] for record in records]
    return float(max(each["test"] / (each["train"] + each["validation"]) for each in rows))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of comparisons (Holm 1979); NaN does not count as one and stays NaN."""
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted, highest = list(p_values), 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - rank)))
        adjusted[i] = highest
    return adjusted
