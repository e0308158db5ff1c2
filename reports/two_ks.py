"""The two-sample Kolmogorov-Smirnov statistic (2-KS) between the environments of atoms (paper Fig. 2b, 3a).

The components of an environment are taken as a sample, rounded to 1e-5. They are not independent of each other, so that
no p-value is claimed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIGITS", "ks_matrix", "ks_statistic"]

DIGITS = 5
"""Decimals to which components are rounded."""

# Components compared at a time: more would only take memory.
_AT_A_TIME = 4_000_000


def ks_statistic(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the 2-KS statistic of each pair of environments: the largest difference of their distribution functions.

    Args:
        first: Environments, [P, D].
        second: The environments to compare with, [P, D].

    Returns:
        The statistics, [P], from 0 to 1; as `scipy.stats.ks_2samp` of the components rounded to 1e-5 gives them.
    """
    n_pairs, width = first.shape
    result = np.empty(n_pairs)
    size = max(1, _AT_A_TIME // (2 * width))
    for start in range(0, n_pairs, size):
        pairs = slice(start, start + size)
        # The lowest bit says whose component it is, so that one sort of plain integers keeps both together.
        values = [np.rint(part[pairs].astype(np.float64) * 10**DIGITS).astype(np.int64) * 2 for part in (first, second)]
        merged = np.sort(np.concatenate([values[0], values[1] + 1], axis=1), axis=1)
        step = (1 - 2 * (merged & 1)).cumsum(axis=1)
        # Only after the last of equal components is the difference that of the distribution functions.
        is_last = (merged[:, 1:] >> 1) != (merged[:, :-1] >> 1)
        result[pairs] = np.abs(step[:, :-1] * is_last).max(axis=1) / width
    return result


def ks_matrix(environments: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the 2-KS statistic between all environments [n, D], symmetric [n, n]."""
    n = len(environments)
    i, j = np.triu_indices(n, k=1)
    matrix = np.zeros((n, n))
    matrix[i, j] = matrix[j, i] = ks_statistic(environments[i], environments[j])
    return matrix
