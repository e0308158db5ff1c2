"""How far apart the environments of atoms are, by two measures: 2-KS and the angle (paper Fig. 2a, 2b, 3a, 3d-g).

2-KS is the two-sample Kolmogorov-Smirnov statistic of the components. They are not independent samples, so no p-value
is claimed. It does not know which component is which: it is zero between a vector and its own permutation. The angle
between two environments compares component with component, and does not know their lengths. Both are zero only between
equal environments. For both, components are rounded to 1e-5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.files import plain
from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable, reduced_formula
from reports.environments.description import Environments, Stage
from reports.environments.operations import (
    KINDS,
    ConventionalCell,
    conventional_cell,
    first_atoms,
    orbits_of_elements,
)
from reports.study.wording import drawable, space_group_symbol
from sen.crystal import SYMBOLS, Crystal

__all__ = [
    "DIGITS",
    "MEASURES",
    "NAMES",
    "SUBSETS",
    "WITH_UNIT",
    "Measure",
    "angles",
    "choose_crystals",
    "choose_example",
    "compare",
    "describe_crystal",
    "element_of",
    "ks_of_subsets",
    "ks_statistic",
    "matrix_of",
    "orbit_labels",
    "pearson",
]

Measure = Literal["ks", "angle"]
"""How the distance of two environments is measured: 2-KS, from 0 to 1; or the angle between them, in degrees."""

MEASURES: dict[Measure, str] = {"ks": "2-KS", "angle": "angle"}
"""What the measures are called in tables and figures."""

WITH_UNIT: dict[Measure, str] = {"ks": "2-KS", "angle": "angle (°)"}
"""What their values are called there."""

DIGITS = 5
"""Decimals to which components are rounded."""

NAMES: dict[Stage, str] = {"before": "before the block", "after": "final"}
"""What environments are called in tables and figures."""

SUBSETS = 16
"""Random subsets of components over which the 2-KS of environments of different widths is averaged."""

# Components compared at a time, to limit memory.
_AT_A_TIME = 4_000_000
# Atoms of a conventional cell whose bars can still be read.
_READABLE = 32
# Crystals searched for operations, the smallest first.
_SEARCHED = 2000
# Kinds of operations that a crystal may show at most for the search to end with it.
_PURE = 2
# The paper's example by atomic number: Y4Cu2O7, with 13 atoms in its primitive cell.
_EXAMPLE = {39: 4, 29: 2, 8: 7}
_LIKE = 13


def ks_statistic(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the 2-KS statistic of each pair of environments: the largest difference of their distribution functions.

    Args:
        first: Environments, [P, D].
        second: The environments to compare with, [P, D].

    Returns:
        The statistics, [P], from 0 to 1; those of `scipy.stats.ks_2samp` for components rounded to 1e-5.
    """
    n_pairs, width = first.shape
    result = np.empty(n_pairs)
    for pairs in _parts(n_pairs, width):
        # The lowest bit marks the environment of a component, so that one sort of plain integers keeps both together.
        values = [np.rint(part[pairs].astype(np.float64) * 10**DIGITS).astype(np.int64) * 2 for part in (first, second)]
        merged = np.sort(np.concatenate([values[0], values[1] + 1], axis=1), axis=1)
        step = (1 - 2 * (merged & 1)).cumsum(axis=1)
        # Only after the last of equal components is the difference that of the distribution functions.
        is_last = (merged[:, 1:] >> 1) != (merged[:, :-1] >> 1)
        result[pairs] = np.abs(step[:, :-1] * is_last).max(axis=1) / width
    return result


def _parts(n_pairs: int, width: int) -> Iterator[slice]:
    """Yield the parts in which pairs of this width are compared."""
    size = max(1, _AT_A_TIME // (2 * width))
    for start in range(0, n_pairs, size):
        yield slice(start, start + size)


def angles(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the angle in degrees between each pair of environments: the arc cosine of their cosine similarity.

    Unlike 1 - cosine, it grows in proportion to a small difference, so that a ratio of two angles compares differences
    and not their squares.

    Args:
        first: Environments, [P, D].
        second: The environments to compare with, [P, D].

    Returns:
        The angles, [P], from 0 to 180; 90 between zero and another vector.
    """
    n_pairs, width = first.shape
    result = np.empty(n_pairs)
    for pairs in _parts(n_pairs, width):
        one, other = (_directions(part[pairs]) for part in (first, second))
        # The arc cosine would lose half the digits of a small angle.
        apart, along = np.linalg.norm(one - other, axis=1), np.linalg.norm(one + other, axis=1)
        result[pairs] = np.degrees(2 * np.arctan2(apart, along))
    return result


def _directions(environments: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return environments [P, D] with the length 1; zero stays zero."""
    rounded = np.round(environments.astype(np.float64), DIGITS)
    length = np.linalg.norm(rounded, axis=1, keepdims=True)
    directions: NDArray[np.float64] = rounded / np.where(length > 0, length, 1)
    return directions


_STATISTICS: dict[Measure, Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]] = {
    "ks": ks_statistic,
    "angle": angles,
}


def ks_of_subsets(first: NDArray[np.floating], second: NDArray[np.floating], width: int) -> NDArray[np.float64]:
    """Return the mean 2-KS of each pair over random subsets of the components, the same ones of both environments.

    The steps in which 2-KS moves, and its expectation under chance, depend on the width of the environments.
    Environments of different widths are therefore compared by the same number of components.

    Args:
        first: Environments, [P, D].
        second: The environments to compare with, [P, D].
        width: Components in a subset; with D or more of them the whole is compared.

    Returns:
        The means, [P]; at least 1 / width for environments that have no component in common.
    """
    n_pairs, own = first.shape
    if width >= own:
        return ks_statistic(first, second)
    # Environments of the same width share their subsets.
    rng = np.random.default_rng([0, own])
    total = np.zeros(n_pairs)
    for _ in range(SUBSETS):
        chosen = rng.permutation(own)[:width]
        total += ks_statistic(first[:, chosen], second[:, chosen])
    return total / SUBSETS


def compare(
    first: NDArray[np.floating], second: NDArray[np.floating], width: int
) -> dict[Measure, NDArray[np.float64]]:
    """Return both measures of each pair of environments [P, D], [P] each; 2-KS as `ks_of_subsets` with this width."""
    return {"ks": ks_of_subsets(first, second, width), "angle": angles(first, second)}


def matrix_of(measure: Measure, environments: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a measure between all environments [n, D], symmetric [n, n]."""
    n = len(environments)
    i, j = np.triu_indices(n, k=1)
    matrix = np.zeros((n, n))
    matrix[i, j] = matrix[j, i] = _STATISTICS[measure](environments[i], environments[j])
    return matrix


def pearson(environments: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the Pearson correlation between all environments [n, D], [n, n]; NaN for one without variation."""
    centred = environments.astype(np.float64)
    centred -= centred.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    result: NDArray[np.float64] = centred @ centred.T
    return result


def orbit_labels(crystal: Crystal) -> list[str]:
    """Name the symmetry orbits of a crystal by element: "K", and where an element has several, "O1", "O2"."""
    elements = [SYMBOLS[z - 1] for z in crystal.numbers[first_atoms(crystal)].tolist()]
    labels = []
    for i, element in enumerate(elements):
        several = elements.count(element) > 1
        labels.append(element + (str(elements[: i + 1].count(element)) if several else ""))
    return labels


def element_of(label: str) -> str:
    """Return the element of an orbit's label: "O" of "O2"."""
    return label.rstrip("0123456789")


@dataclass(frozen=True, eq=False)
class Choice:
    """Crystals chosen to show operations.

    Attributes:
        rows: Positions of the crystals in the table, in the order of the kinds that they were chosen for.
        shows: The kinds that each was chosen for.
        absent: Kinds of operations that no searched crystal shows.
        looked_at: Number of crystals searched.
    """

    rows: list[int]
    shows: list[list[str]]
    absent: list[str]
    looked_at: int


def shown_kinds(cell: ConventionalCell, orbit: NDArray[Any]) -> set[str]:
    """Kinds that name a relation in a cell: that of the first operation from the first atom of an orbit to another."""
    kinds = set()
    for label in np.unique(orbit):
        members = np.flatnonzero(orbit == label)
        for other in members[1:]:
            if operations := cell.between(int(members[0]), int(other)):
                kinds.add(operations[0].kind)
    return kinds


def choose_crystals(table: CrystalTable, rows: NDArray[np.int64], progress: Progress | None = None) -> Choice:
    """Choose a crystal among rows of a table for each kind of operation, for as many of the seven as they contain.

    Crystals have at least two symmetry orbits and at most 32 atoms in the conventional cell. Crystals with inequivalent
    atoms of one element come first, because these can be compared, then those that show few other kinds, then small
    cells. At most the 2,000 smallest crystals are searched, and no larger ones once every kind is found in such
    crystals. The progress is the number of kinds found.
    """
    size = np.diff(table.ptr)[rows]
    order = rows[np.lexsort((rows, size))]
    best: dict[str, tuple[bool, int, int, int]] = {}
    looked_at = last_size = 0
    for row in order[:_SEARCHED].tolist():
        crystal = table.crystal(row)
        all_found = len(best) == len(KINDS) and max(best.values())[:2] <= (False, _PURE)
        if len(crystal) > last_size and (all_found or len(crystal) > _READABLE):
            break
        last_size = len(crystal)
        looked_at += 1
        # Where all atoms are equivalent there is nothing to compare.
        if crystal.orbit.max() == 0:
            continue
        # Operations take long to find, and these crystals could not come before those found.
        has_inequivalent = orbits_of_elements(crystal).max() > 1
        if not has_inequivalent and len(best) == len(KINDS) and not max(best.values())[0]:
            continue
        cell = conventional_cell(crystal)
        if len(cell) <= _READABLE:
            kinds = shown_kinds(cell, crystal.orbit[cell.atom])
            key = (not has_inequivalent, len(kinds), len(cell), row)
            best |= {kind: min(best.get(kind, key), key) for kind in kinds}
        if progress is not None:
            progress(len(best), len(KINDS))
    shows: dict[int, list[str]] = {}
    for kind in KINDS:
        if kind in best:
            shows.setdefault(best[kind][-1], []).append(kind)
    return Choice(list(shows), list(shows.values()), [kind for kind in KINDS if kind not in best], looked_at)


def choose_example(table: CrystalTable, rows: NDArray[np.int64]) -> int | None:
    """Choose the paper's Y4Cu2O7, or else a crystal like it, to show in detail; None where no row is like it.

    It has three elements or more if possible, inequivalent atoms of one element, equivalent atoms, and about as many
    atoms in the primitive cell.
    """
    best: tuple[int, ...] | None = None
    size = np.diff(table.ptr)
    for row in rows[np.argsort(np.abs(size[rows] - _LIKE), kind="stable")].tolist():
        # None that follows, of another size, could be better.
        if best is not None and best[:2] < (-3, abs(int(size[row]) - _LIKE)):
            break
        crystal = table.crystal(row)
        orbits = orbits_of_elements(crystal)
        n_orbits = int(orbits.sum())
        if n_orbits == len(crystal) or len(orbits) < 2 or orbits.max() < 2:
            continue
        if Counter(crystal.numbers.tolist()) == _EXAMPLE:
            return int(row)
        key = (-min(len(orbits), 3), abs(len(crystal) - _LIKE), -n_orbits, row)
        if best is None or key < best:
            best = key
    return None if best is None else best[-1]


def relations(crystal: Crystal, stages: Mapping[Stage, NDArray[np.floating]]) -> dict[str, Any]:
    """Return how far every atom of the conventional cell is from a reference atom, and what relates the atoms.

    Args:
        crystal: The crystal.
        stages: Environments of its atoms at each stage, [atoms, D].

    Returns:
        Facts: the atoms sorted by orbit, the orbit of the reference atom first (the smallest, of an element that has
        several orbits if there is one), and for each orbit of several atoms the operations that map its first atom onto
        the others.
    """
    cell = conventional_cell(crystal)
    orbit, labels = crystal.orbit[cell.atom], orbit_labels(crystal)
    counts = np.bincount(orbit)
    element = [element_of(label) for label in labels]
    # From an element that has several orbits, to show how inequivalent atoms of one element differ.
    several = [i for i in range(len(labels)) if element.count(element[i]) > 1] or range(len(labels))
    home = min(several, key=lambda i: (counts[i], i))
    # Orbits of one element stand side by side.
    order = sorted(range(len(labels)), key=lambda i: (element[i] != element[home], element[i], i != home, i))
    orbits = [np.flatnonzero(orbit == label) for label in order]
    starts = np.cumsum([0, *map(len, orbits)]).tolist()
    atoms = np.concatenate(orbits)
    source = cell.atom[atoms]
    reference = np.repeat(source[:1], len(source))
    # The first atom of each atom's orbit.
    first = cell.atom[np.repeat([members[0] for members in orbits], [len(members) for members in orbits])]
    distances: dict[str, dict[str, list[float]]] = {measure: {} for measure in MEASURES}
    for measure, statistic in _STATISTICS.items():
        for stage, values in stages.items():
            distances[measure][stage] = statistic(values[source], values[reference]).tolist()
            distances[measure][f"within_{stage}"] = statistic(values[source], values[first]).tolist()
    groups = []
    for label, members, start in zip(order, orbits, starts, strict=False):
        operations = [cell.between(int(members[0]), int(member)) for member in members[1:]]
        groups.append(
            {
                "label": labels[label],
                "start": start,
                "n": len(members),
                "relations": [
                    {
                        "atom": start + k,
                        "n": len(between),
                        "first": between[0].name if between else None,
                        "xyz": between[0].xyz if between else None,
                        "all": [f"{o.name}: {o.xyz}" for o in between],
                    }
                    for k, between in enumerate(operations, start=1)
                ],
            }
        )
    return {
        "formula": reduced_formula(crystal.numbers),
        "space_group": cell.space_group,
        "symbol": space_group_symbol(cell.space_group),
        "atoms_primitive": len(crystal),
        "atoms": [labels[label] for label in orbit[atoms]],
        **distances,
        "groups": groups,
        "width": {stage: values.shape[1] for stage, values in stages.items()},
    }


def element_pairs(crystal: Crystal, environments: NDArray[np.floating]) -> list[dict[str, Any]]:
    """Return how far apart the elements of a crystal are (Fig. 2b): medians over pairs of orbits, with their number.

    Environments are those of its atoms, [atoms, D].
    """
    first = first_atoms(crystal)
    numbers = crystal.numbers[first]
    matrices = {measure: matrix_of(measure, environments[first]) for measure in MEASURES}
    found = []
    for one, other in combinations(np.unique(numbers).tolist(), 2):
        of_pair = np.ix_(numbers == one, numbers == other)
        medians: dict[str, Any] = {measure: float(np.median(matrix[of_pair])) for measure, matrix in matrices.items()}
        n = int((numbers == one).sum() * (numbers == other).sum())
        found.append({"pair": [SYMBOLS[one - 1], SYMBOLS[other - 1]], **medians, "n": n})
    return found


def describe_crystal(crystal: Crystal, environments: Environments, i: int = 0) -> dict[str, Any]:
    """Return all that the report shows of crystal i of some environments: of the final ones, and before a block of SEN.

    The correlation of the atoms, which is that before a block, is None of another model.
    """
    nodes = environments.atom_nodes(i, crystal)
    stages: dict[Stage, NDArray[Any]] = {
        stage: values[nodes] for stage, values in environments.stages.items() if stage != "material"
    }
    labels, first = orbit_labels(crystal), first_atoms(crystal)
    by_orbit = np.argsort(crystal.orbit, kind="stable")
    return {
        **relations(crystal, stages),
        "element_pairs": {stage: element_pairs(crystal, values) for stage, values in stages.items()},
        "components": {stage: [drawable(value) for value in values[first]] for stage, values in stages.items()},
        "pearson": {
            "labels": [labels[label] for label in crystal.orbit[by_orbit]],
            "before": plain(pearson(stages["before"][by_orbit])),
        }
        if "before" in stages
        else None,
        "orbits": [
            {"label": label, "multiplicity": int(count)}
            for label, count in zip(labels, np.bincount(crystal.orbit), strict=True)
        ],
        "orbit_matrix": {
            measure: {stage: matrix_of(measure, values[first]).tolist() for stage, values in stages.items()}
            for measure in MEASURES
        },
    }
