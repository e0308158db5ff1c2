"""Rows of a data set whose crystals are the same, or nearly the same, as those of other rows or of other data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable
from benchmarks.data.graph_table import GraphSettings, GraphTable, build_graphs

__all__ = ["NEAR", "NearDuplicates", "find_known", "find_near_duplicates", "structure_fingerprints"]

#: Crystals whose fingerprints differ by no more than this many Å are nearly the same.
NEAR = 0.01
# Fingerprints of the same refined crystal differ by the rounding of float32.
_SAME = 1e-5
_NEIGHBORS = 12
_SETTINGS = GraphSettings(max_neighbors=_NEIGHBORS)
# A row is compared with those of the nearest fingerprints, so that the work does not grow with the square of the rows.
_COMPARED = 8
# Å: farther apart than any two fingerprints that are nearly the same.
_FAR = 1.0


@dataclass(frozen=True)
class NearDuplicates:
    """Rows of a table of crystals, by their positions, which have a crystal of another row.

    Attributes:
        same: Rows whose crystal, once refined, is that of another row, int64 [n].
        near: Rows with nearly the crystal of another row, or the same one, and another target, int64 [m].
        farthest: Of pairs of the latter, that whose targets differ most; empty where m is 0.
        difference: How much they differ.
    """

    same: NDArray[np.int64]
    near: NDArray[np.int64]
    farthest: tuple[int, ...] = ()
    difference: float = 0.0


def find_near_duplicates(table: CrystalTable, *, jobs: int = -1, progress: Progress | None = None) -> NearDuplicates:
    """Find rows with the same or nearly the same crystal.

    Crystals are nearly the same if they have the same atoms in the primitive cell and if fingerprints agree to `NEAR`:
    the cube root of the volume per atom, and the average minimum distances (Widdowson et al., MATCH Commun. Math.
    Comput. Chem. 87, 529 (2022)), which are the distances to the nearest neighbour, the second and so on to the
    twelfth, each averaged over the atoms. They change by at most twice what atoms move. A second average, in which the
    atomic number weighs each atom, distinguishes crystals whose elements have changed places. Mirror images are the
    same, and so may be stackings of the same layers, which differ beyond the twelfth neighbour.

    Args:
        table: The crystals. Their graphs by the default settings are built where they are not in the cache.
        jobs: Worker processes; -1 is one per core.
        progress: Called with the number of crystals whose graphs are built.
    """
    from scipy.spatial import cKDTree

    fingerprints = _fingerprints(table, {}, jobs, progress)
    nearest = np.arange(1, min(1 + _COMPARED, len(table)) + 1)
    apart, others = cKDTree(fingerprints).query(fingerprints, nearest, p=np.inf, distance_upper_bound=NEAR)
    first, at = np.nonzero(np.isfinite(apart))
    pairs, apart = np.column_stack([first, others[first, at]]), apart[first, at]
    is_pair = pairs[:, 0] != pairs[:, 1]
    pairs, apart = pairs[is_pair], apart[is_pair]
    difference = np.abs(np.diff(table.target[pairs])[:, 0])
    found = NearDuplicates(same=np.unique(pairs[apart <= _SAME]), near=np.unique(pairs[difference > 0]))
    if not len(found.near):
        return found
    farthest = tuple(sorted(pairs[difference.argmax()].tolist()))
    return replace(found, farthest=farthest, difference=float(difference.max()))


def structure_fingerprints(table: CrystalTable) -> NDArray[np.float64]:
    """Return the cube root of the volume per atom and the 12 average minimum distances of each crystal in Å, [M, 13].

    They ignore which element is where; see `find_near_duplicates`, also for the graphs.
    """
    distances = _distances(build_graphs(table, _SETTINGS))
    return np.column_stack([_volume_lengths(table), distances[:, ::2]])


def find_known(
    table: CrystalTable,
    known: CrystalTable,
    rows: NDArray[np.int64],
    *,
    jobs: int = -1,
    progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Return the positions of the crystals of a table that are the same or nearly the same as known ones, int64 [n].

    They have the same formula and nearly the same cell, see `find_near_duplicates`.

    Args:
        table: The crystals that are looked for.
        known: The data that have the known crystals, refined to the same tolerance.
        rows: Positions of these in the data [m].
        jobs: Worker processes; -1 is one per core.
        progress: Called with the number of crystals whose graphs are built.
    """
    from scipy.spatial import cKDTree

    seen: dict[bytes, int] = {}
    fingerprints, of_known = (_fingerprints(each, seen, jobs, progress) for each in (table, known))
    apart, _ = cKDTree(of_known[rows]).query(fingerprints, p=np.inf, distance_upper_bound=NEAR)
    return np.flatnonzero(np.isfinite(apart))


def _fingerprints(
    table: CrystalTable, seen: dict[bytes, int], jobs: int, progress: Progress | None
) -> NDArray[np.float64]:
    """Return what is compared of each crystal, in Å [M, 26]; tables that share `seen` can be compared."""
    distances = _distances(build_graphs(table, _SETTINGS, jobs=jobs, progress=progress))
    return np.column_stack([_FAR * _cell_contents(table, seen), _volume_lengths(table), distances])


def _cell_contents(table: CrystalTable, seen: dict[bytes, int]) -> NDArray[np.int64]:
    """Return a number for each crystal, equal for those with the same atoms in the primitive cell, int64 [M].

    Args:
        table: The crystals.
        seen: The number of each content that has one already; others are added.
    """
    contents = (np.sort(table.numbers[start:stop]).tobytes() for start, stop in pairwise(table.ptr.tolist()))
    return np.array([seen.setdefault(content, len(seen)) for content in contents])


def _volume_lengths(table: CrystalTable) -> NDArray[np.float64]:
    """Return the cube root of the volume per atom of each crystal in Å, [M]."""
    lengths: NDArray[np.float64] = np.cbrt(np.abs(np.linalg.det(table.lattice)) / np.diff(table.ptr))
    return lengths


def _distances(graphs: GraphTable) -> NDArray[np.float64]:
    """Return the average minimum distances of each crystal in Å, without and with weights, [M, 24]."""
    # An edge stands for several neighbours; before each edge there are so many in all.
    before = np.concatenate([[0], np.cumsum(np.asarray(graphs.edge_multiplicity), dtype=np.int64)])
    begin, end = before[graphs.edge_ptr[:-1]], before[graphs.edge_ptr[1:]]
    weights = np.column_stack([graphs.multiplicity, graphs.multiplicity * graphs.numbers.astype(np.float64)])
    totals = np.add.reduceat(weights, graphs.node_ptr[:-1])
    columns = []
    for k in range(_NEIGHBORS):
        # No neighbour is farther than the cutoff; where there is none, the cutoff takes its place.
        nearest = np.full(len(begin), _SETTINGS.cutoff)
        has = begin + k < end
        nearest[has] = graphs.distance[np.searchsorted(before, begin[has] + k, side="right") - 1]
        columns.append(np.add.reduceat(weights * nearest[:, None], graphs.node_ptr[:-1]) / totals)
    return np.concatenate(columns, axis=1)
