"""How sure a score or a difference is: resampled rows, and a t-test over folds whose training rows overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CONFIDENCE", "Interval", "bootstrap", "bootstrap_mean", "corrected_t_test", "holm"]

CONFIDENCE = 0.95
"""Of every interval."""

# The ends of a 95 % interval then vary by some 2 % of its width from seed to seed.
_RESAMPLES = 2000
# Numbers drawn at a time: more would only take memory.
_BATCH = 20_000_000


class Interval(NamedTuple):
    """Lower and upper end of a 95 % interval; NaN where there is nothing to resample."""

    low: float
    high: float


def bootstrap(statistic: Callable[..., NDArray[np.float64]], *samples: ArrayLike, seed: int = 0) -> Interval:
    """Percentile interval of a statistic over rows drawn again with replacement (Efron 1979, 10.1214/aos/1176344552).

    Args:
        statistic: Maps arrays and the keyword `axis` to the statistic along that axis.
        samples: What is known of the rows, each [n]; a row keeps its values together.
        seed: Of the draws.

    Raises:
        ValueError: There are no rows, or the samples are of different lengths.
    """
    from scipy.stats import bootstrap as scipy_bootstrap

    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    n = len(arrays[0])
    if n == 0 or any(len(array) != n for array in arrays):
        raise ValueError("a bootstrap needs rows, and as many of them in every sample")
    if n == 1:
        return Interval(math.nan, math.nan)
    found = scipy_bootstrap(
        arrays,
        statistic,
        paired=len(arrays) > 1,
        vectorized=True,
        axis=0,
        n_resamples=_RESAMPLES,
        batch=max(1, _BATCH // n),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def bootstrap_mean(values: ArrayLike, *, seed: int = 0) -> Interval:
    """95 % interval of the mean of values [n] over rows drawn again."""
    return bootstrap(np.mean, values, seed=seed)


def corrected_t_test(differences: ArrayLike, test_to_train: float) -> float:
    """Two-sided p-value of the corrected resampled t-test (Nadeau and Bengio 2003, 10.1023/A:1024068626366).

    The training rows of two folds overlap, so that their scores are not independent: an ordinary t-test finds
    differences where there are none. The variance is taken larger by the rows tested over those trained on.

    Args:
        differences: Difference of two models' scores on each fold, [k].
        test_to_train: Test rows over training rows of a fold.

    Returns:
        NaN for fewer than two folds, and where the differences do not vary; 1 where all of them are zero.
    """
    from scipy.stats import t as student

    values = np.asarray(differences, dtype=np.float64)
    k = len(values)
    if k < 2:
        return math.nan
    if not values.any():
        return 1.0
    error = math.sqrt((1 / k + test_to_train) * values.var(ddof=1))
    return float(2 * student.sf(abs(values.mean()) / error, k - 1)) if error else math.nan


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for as many comparisons as there are (Holm 1979); a NaN is no comparison and stays."""
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted, highest = list(p_values), 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - rank)))
        adjusted[i] = highest
    return adjusted
