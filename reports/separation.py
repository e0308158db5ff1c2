"""Does a block tell inequivalent atoms of one element apart, and how does equivalence fade when atoms move?

For an exactly invariant block equivalent atoms agree by construction. What blocks differ in is separation: the median
2-KS between inequivalent atoms of the same element over the median 2-KS between elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.crystals import CrystalTable, Progress
from benchmarks.statistics import Interval, bootstrap
from reports.environments import Environments, Models, describe_test_rows, draw_test_rows
from reports.two_ks import ks_statistic
from sen.crystal import Crystal

__all__ = [
    "SIZES",
    "Pairs",
    "Score",
    "displaced",
    "fading",
    "inequivalent_rows",
    "separation",
    "separation_score",
]

SIZES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Displacements in Å at which equivalence is looked at."""

# Pairs of one kind looked at in a crystal: those of a large cell would be millions.
_PAIRS = 200


@dataclass(frozen=True)
class Pairs:
    """Pairs of nodes of one crystal, each [pairs, 2].

    Attributes:
        equivalent: Atoms that a symmetry operation relates.
        inequivalent: Atoms of one element that none relates.
        elements: Atoms of different elements.
    """

    equivalent: NDArray[np.int64]
    inequivalent: NDArray[np.int64]
    elements: NDArray[np.int64]


def find_pairs(
    nodes: NDArray[np.int64], numbers: NDArray[np.uint8], orbit: NDArray[np.int32], rng: np.random.Generator
) -> Pairs:
    """Return the pairs among the nodes of a crystal, at most 200 of a kind, drawn at random.

    Args:
        nodes: The nodes, [n].
        numbers: Their atomic numbers, [n].
        orbit: Their symmetry orbits, [n].
        rng: Draws.
    """
    i, j = np.triu_indices(len(nodes), k=1)
    same_element, same_orbit = numbers[i] == numbers[j], orbit[i] == orbit[j]
    found = []
    for mask in (same_orbit, same_element & ~same_orbit, ~same_element):
        chosen = np.flatnonzero(mask)
        if len(chosen) > _PAIRS:
            chosen = np.sort(rng.choice(chosen, _PAIRS, replace=False))
        found.append(np.stack([nodes[i[chosen]], nodes[j[chosen]]], axis=1))
    return Pairs(*found)


def inequivalent_rows(table: CrystalTable, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of the rows whose crystals have inequivalent atoms of one element, and more than one element."""
    kept = []
    for row in rows.tolist():
        crystal = table.crystal(row)
        _, first = np.unique(crystal.orbit, return_index=True)
        _, orbits = np.unique(crystal.numbers[first], return_counts=True)
        if len(orbits) > 1 and orbits.max() > 1:
            kept.append(row)
    return np.array(kept, dtype=np.int64)


@dataclass(frozen=True)
class Score:
    """A separation score.

    Attributes:
        value: Median 2-KS of inequivalent atoms of one element over the median between elements. NaN without crystals.
        interval: 95 % interval over crystals drawn again.
        inequivalent: The first median.
        elements: The second.
        n: Crystals.
    """

    value: float
    interval: Interval
    inequivalent: float
    elements: float
    n: int


def separation_score(inequivalent: NDArray[np.float64], elements: NDArray[np.float64]) -> Score:
    """Return the score of the median 2-KS of each crystal's pairs, both [crystals]; each crystal counts once."""
    if not len(inequivalent):
        return Score(np.nan, Interval(np.nan, np.nan), np.nan, np.nan, 0)

    def ratio(same: NDArray[np.float64], other: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            result: NDArray[np.float64] = np.median(same, axis=axis) / np.median(other, axis=axis)
        return result

    return Score(
        float(ratio(inequivalent, elements)),
        bootstrap(ratio, inequivalent, elements) if len(inequivalent) > 1 else Interval(np.nan, np.nan),
        float(np.median(inequivalent)),
        float(np.median(elements)),
        len(inequivalent),
    )


def separation(environments: Environments) -> dict[str, Score]:
    """Return the separation scores "before" and "after" the block of crystals.

    Crystals without inequivalent atoms of one element, or of one element alone, are left out. Pairs are taken between
    symmetry orbits, so that the score does not depend on the cell that is written down.
    """
    rng = np.random.default_rng(0)
    pairs = []
    for i in range(len(environments)):
        nodes = environments.orbit_nodes(i)
        found = find_pairs(nodes, environments.numbers[nodes], np.arange(len(nodes), dtype=np.int32), rng)
        if len(found.inequivalent) and len(found.elements):
            pairs.append(found)
    return {
        stage: separation_score(
            _medians(getattr(environments, stage), [found.inequivalent for found in pairs]),
            _medians(getattr(environments, stage), [found.elements for found in pairs]),
        )
        for stage in ("before", "after")
    }


def _medians(environments: NDArray[np.floating], pairs: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Median 2-KS of the pairs of each crystal; NaN of none."""
    if not pairs:
        return np.empty(0)
    joined = np.concatenate(pairs)
    values = ks_statistic(environments[joined[:, 0]], environments[joined[:, 1]])
    parts = np.split(values, np.cumsum([len(part) for part in pairs])[:-1])
    return np.array([np.median(part) if len(part) else np.nan for part in parts])


def displaced(crystal: Crystal, size: float, rng: np.random.Generator) -> Crystal:
    """Return a crystal whose atoms are each moved by `size` Å in a random direction; its orbits stay as they were."""
    steps = rng.normal(size=(len(crystal), 3))
    steps *= size / np.linalg.norm(steps, axis=1, keepdims=True)
    return replace(crystal, positions=crystal.positions + steps @ np.linalg.inv(crystal.lattice))


@dataclass(frozen=True)
class Fading:
    """2-KS after random displacements of one size.

    Attributes:
        size: How far each atom is moved, in Å.
        equivalent: Median over crystals of the median 2-KS of atoms that were equivalent.
        interval: 95 % interval of that median over crystals drawn again.
        relative: The median over that between elements in the crystals as they are.
        n: Crystals.
    """

    size: float
    equivalent: float
    interval: Interval
    relative: float
    n: int


def fading(
    models: Models,
    table: CrystalTable,
    *,
    at_most: int = 100,
    sizes: Sequence[float] = SIZES,
    progress: Progress | None = None,
) -> list[Fading]:
    """Return how the agreement of equivalent atoms fades when all atoms are displaced at random.

    The crystals are test rows with equivalent atoms, in full cells and without refinement after the displacement, each
    described by the model that did not see it. The draws are the same for every block.

    Args:
        models: The models of a run.
        table: The crystals of the task.
        at_most: Crystals to look at.
        sizes: Displacements in Å.
        progress: Told how many sizes are done.
    """
    drawn, _ = draw_test_rows(models, table, at_most=4 * at_most)
    by_unit = {}
    for unit, rows in drawn.items():
        has_pairs = [row for row in rows.tolist() if len(crystal := table.crystal(row)) > 1 + crystal.orbit.max()]
        by_unit[unit] = has_pairs[: -(-at_most // len(drawn))]
    loaded = {unit: models.load(unit) for unit, rows in by_unit.items() if rows}
    if not loaded:
        return []
    found, between = [], np.nan
    for done, size in enumerate(sizes, start=1):
        medians, element_medians = [], []
        for unit, model in loaded.items():
            # A stream for each crystal: it is moved in the same directions by every size and for every block.
            crystals = [displaced(table.crystal(row), size, np.random.default_rng([0, row])) for row in by_unit[unit]]
            environments = models.describe(crystals, model, cells="full")
            rng = np.random.default_rng(0)
            pairs = [
                find_pairs(environments.atom_nodes(i, crystal), crystal.numbers, crystal.orbit, rng)
                for i, crystal in enumerate(crystals)
            ]
            medians.append(_medians(environments.after, [part.equivalent for part in pairs]))
            if size == sizes[0]:
                element_medians.append(_medians(environments.after, [part.elements for part in pairs]))
        values = np.concatenate(medians)
        if size == sizes[0]:
            between = float(np.nanmedian(np.concatenate(element_medians)))
        middle = float(np.median(values))
        found.append(
            Fading(size, middle, bootstrap(np.median, values), middle / between if between else np.nan, len(values))
        )
        if progress is not None:
            progress(done, len(sizes))
    return found


def block_separation(
    models: Models, table: CrystalTable, *, at_most: int = 2000, progress: Progress | None = None
) -> dict[str, dict[str, Score]]:
    """Return the separation scores of a run's test rows by the "trained" and the "untrained" models."""
    rows = describe_test_rows(models, table, at_most=at_most, progress=progress)
    among = inequivalent_rows(table, rows.rows)
    if not len(among):
        return {"trained": separation(rows.environments)}
    untrained = describe_test_rows(models, table, trained=False, at_most=at_most, among=among, progress=progress)
    return {"trained": separation(rows.environments), "untrained": separation(untrained.environments)}
