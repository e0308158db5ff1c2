"""How much test rows are like training rows: the same formula, nearly the same crystal, a similar composition."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.dataset import Dataset, LeftOut
from benchmarks.data.descriptors import composition_statistics
from benchmarks.data.groups import group_rows

__all__ = ["SAME_VOLUME", "Overlap", "RowComparison", "leave_out"]

SAME_VOLUME = 0.005
"""Crystals of one formula whose volumes per atom differ by no more than this share are nearly identical."""

# Apart from the logarithm of any volume per atom, so that those of different formulas are never near.
_APART = 100.0


@dataclass(frozen=True, eq=False)
class Overlap:
    """How much each of n test rows is like the training rows.

    Attributes:
        has_formula: Whether a training row has its reduced formula, bool [n].
        has_crystal: Whether such a row has nearly its volume per atom as well (`SAME_VOLUME`), bool [n].
    """

    has_formula: NDArray[np.bool_]
    has_crystal: NDArray[np.bool_]


def leave_out(dataset: Dataset, other: Dataset) -> Dataset:
    """Return a data set of which no row trains or validates whose reduced formula is that of a row of another one.

    So nothing of the other one is known to what is trained on it: a crystal that is nearly the same has the same
    formula.
    """
    formulas = group_rows("formula", dataset.task, dataset.table)
    theirs = set(group_rows("formula", other.task, other.table).names)
    rows = [formulas.rows(group) for group, name in enumerate(formulas.names) if name in theirs]
    ids = dataset.table.ids[np.sort(np.concatenate([np.empty(0, dtype=np.int64), *rows]))]
    return replace(dataset, left_out=LeftOut(other.task.name, other.table.digest, tuple(ids.tolist())))


class RowComparison:
    """Compares rows of a data set with others of it; rows are positions in its table."""

    def __init__(self, dataset: Dataset) -> None:
        table = dataset.table
        formulas = group_rows("formula", dataset.task, table)
        self._formula = np.empty(len(table), dtype=np.int64)
        self._formula[formulas.row] = np.repeat(np.arange(len(formulas)), formulas.sizes)
        self._log_volume = np.log(np.abs(np.linalg.det(table.lattice)) / np.diff(table.ptr))
        statistics = composition_statistics(table)
        deviation = statistics.std(axis=0)
        self._statistics = (statistics - statistics.mean(axis=0)) / np.where(deviation > 0, deviation, 1)

    def overlap(self, test: NDArray[np.int64], train: NDArray[np.int64]) -> Overlap:
        """Return how much test rows [n] are like training rows [m], of which there is at least one."""
        key = _APART * self._formula + self._log_volume
        known, wanted = np.sort(key[train]), key[test]
        nearest = np.full(len(test), np.inf)
        right = np.searchsorted(known, wanted)
        for at in (right - 1, right):
            inside = (at >= 0) & (at < len(known))
            nearest[inside] = np.minimum(nearest[inside], np.abs(known[at[inside]] - wanted[inside]))
        return Overlap(np.isin(self._formula[test], self._formula[train]), nearest <= np.log1p(SAME_VOLUME))

    def distance(self, test: NDArray[np.int64], train: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the distance of test rows [n] to the nearest of the training rows [m] by their composition, [n].

        It is that of `benchmarks.data.descriptors.composition_statistics`, each divided by its standard deviation over
        all rows of the data set.
        """
        from sklearn.metrics import pairwise_distances_argmin_min

        # Rows of one formula have one composition.
        _, first, place = np.unique(self._formula[test], return_index=True, return_inverse=True)
        _, others = np.unique(self._formula[train], return_index=True)
        _, distance = pairwise_distances_argmin_min(self._statistics[test[first]], self._statistics[train[others]])
        distances: NDArray[np.float64] = np.where(
            np.isin(self._formula[test], self._formula[train]), 0.0, distance[place]
        )
        return distances
