"""Pairs of atoms, and the separation score: how far apart a model puts inequivalent atoms of one element.

For an exactly invariant model equivalent atoms agree by construction. What models differ in is separation: the median
distance between inequivalent atoms of the same element over the median distance between elements, by 2-KS and by the
angle. 2-KS depends on the width of the environments, in which models differ as well, and is therefore computed from the
same number of components of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable
from benchmarks.results.statistics import Interval, bootstrap
from reports.environments.description import Environments, Models, Stage, describe_test_rows
from reports.environments.two_ks import MEASURES, Measure, compare

__all__ = [
    "WIDTH",
    "Pairs",
    "Score",
    "common_width",
    "find_pairs",
    "medians",
    "orbit_pairs",
    "resolution",
    "run_separation",
    "separation",
    "separation_score",
]

WIDTH = 96
"""Components from which 2-KS is computed if none is too narrow: three quarters of the 128 of the capsule block."""

# Pairs of one kind in a crystal: a large cell would have millions.
_PAIRS = 200


@dataclass(frozen=True)
class Pairs:
    """Pairs of nodes of one crystal, each [pairs, 2].

    Attributes:
        equivalent: Atoms that a symmetry operation relates.
        inequivalent: Atoms of one element that no operation relates.
        elements: Atoms of different elements.
    """

    equivalent: NDArray[np.int64]
    inequivalent: NDArray[np.int64]
    elements: NDArray[np.int64]


def find_pairs(
    nodes: NDArray[np.int64], numbers: NDArray[np.uint8], orbit: NDArray[np.int32], rng: np.random.Generator
) -> Pairs:
    """Return the pairs among the nodes of a crystal, at most 200 of a kind, drawn at random.

    The nodes, their atomic numbers and their symmetry orbits are all [n].
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


def common_width(widths: Iterable[int]) -> int:
    """Return from how many components 2-KS is computed to compare environments of these widths: at most 96.

    It is three quarters of the narrowest width, so that 2-KS is a mean over different subsets there, too: the median of
    statistics of single subsets would be one of their steps.
    """
    return max(1, min(WIDTH, 3 * min(widths) // 4))


def resolution(measure: Measure, elements: float, width: int) -> float | None:
    """Return the step of 2-KS from `width` components, as a share of the median between elements; None of the angle.

    It is None as well where the elements are not apart.
    """
    return 1 / width / elements if measure == "ks" and elements else None


@dataclass(frozen=True)
class Score:
    """A separation score.

    Attributes:
        value: Median distance of inequivalent atoms of one element over that between elements. NaN without crystals.
        interval: 95 % interval over resampled crystals.
        inequivalent: The first median.
        elements: The second.
        n: Number of crystals.
    """

    value: float
    interval: Interval
    inequivalent: float
    elements: float
    n: int


def separation_score(inequivalent: NDArray[np.float64], elements: NDArray[np.float64]) -> Score:
    """Return the score of the median distance of each crystal's pairs, both [crystals]; each crystal counts once."""
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


def separation(environments: Environments, width: int = WIDTH) -> dict[Measure, dict[Stage, Score]]:
    """Return the separation scores of crystals by each measure of the environments of each stage.

    Crystals without inequivalent atoms of one element, or of one element alone, are left out. Pairs are taken between
    symmetry orbits, so that the score does not depend on the choice of the cell; 2-KS is computed from `width`
    components.
    """
    found = orbit_pairs(environments, range(len(environments)))
    pairs = [part for part in found if len(part.inequivalent) and len(part.elements)]
    scores: dict[Measure, dict[Stage, Score]] = {measure: {} for measure in MEASURES}
    for stage, values in environments.stages.items():
        if stage != "material":
            inequivalent = medians(values, [part.inequivalent for part in pairs], width)
            elements = medians(values, [part.elements for part in pairs], width)
            for measure in MEASURES:
                scores[measure][stage] = separation_score(inequivalent[measure], elements[measure])
    return scores


def orbit_pairs(environments: Environments, crystals: Iterable[int]) -> list[Pairs]:
    """Return the pairs of symmetry orbits of crystals."""
    rng = np.random.default_rng(0)
    pairs = []
    for i in crystals:
        nodes = environments.orbit_nodes(i)
        pairs.append(find_pairs(nodes, environments.numbers[nodes], np.arange(len(nodes), dtype=np.int32), rng))
    return pairs


def medians(
    environments: NDArray[np.floating], pairs: Sequence[NDArray[np.int64]], width: int
) -> dict[Measure, NDArray[np.float64]]:
    """Return the median of each measure over the pairs of each crystal, [crystals]; NaN without pairs.

    Args:
        environments: Environments of nodes, [N, D].
        pairs: The nodes of the pairs of each crystal, [pairs, 2].
        width: Components from which 2-KS is computed.
    """
    if not pairs:
        return {measure: np.empty(0) for measure in MEASURES}
    joined, ends = np.concatenate(pairs), np.cumsum([len(part) for part in pairs])[:-1]
    compared = compare(environments[joined[:, 0]], environments[joined[:, 1]], width)
    return {
        measure: np.array([np.median(part) if len(part) else np.nan for part in np.split(values, ends)])
        for measure, values in compared.items()
    }


def run_separation(
    models: Models, table: CrystalTable, *, width: int = WIDTH, progress: Progress | None = None
) -> dict[Measure, dict[str, dict[Stage, Score]]]:
    """Return the separation scores of a run's test rows by the "trained" and the "untrained" models."""
    found: dict[Measure, dict[str, dict[Stage, Score]]] = {measure: {} for measure in MEASURES}
    for state in ("trained", "untrained"):
        rows = describe_test_rows(models, table, trained=state == "trained", progress=progress)
        for measure, scores in separation(rows.environments, width).items():
            found[measure][state] = scores
    return found
