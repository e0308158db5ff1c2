"""How the agreement of equivalent atoms fades when every atom is displaced at random.

In a crystal as it is read the environments of equivalent atoms are equal by construction. After a displacement nothing
makes them so but the smoothness of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable
from benchmarks.results.statistics import Interval
from reports.environments.description import Models, describe_test_rows, inequivalent_rows
from reports.environments.pairs import WIDTH, Score, find_pairs, medians, orbit_pairs, separation_score
from reports.environments.two_ks import Measure
from sen.crystal import Crystal

__all__ = ["ENOUGH", "Curve", "Fading", "Step", "displaced", "fading"]

SIZES = (0.0, 0.01, 0.02, 0.05, 0.1)
"""Displacements in Å at which equivalence is measured."""

ENOUGH = 20
"""Crystals with equivalent and with inequivalent atoms; if there are fewer, all with equivalent atoms are displaced."""


def displaced(crystal: Crystal, size: float, rng: np.random.Generator) -> Crystal:
    """Return a crystal with each atom moved by `size` Å in a random direction, without any symmetry."""
    steps = rng.normal(size=(len(crystal), 3))
    steps *= size / np.linalg.norm(steps, axis=1, keepdims=True)
    return replace(
        crystal,
        positions=crystal.positions + steps @ np.linalg.inv(crystal.lattice),
        orbit=np.arange(len(crystal), dtype=np.int32),
        space_group=1,
    )


@dataclass(frozen=True)
class Step:
    """Distance of atoms after random displacements of one size.

    Attributes:
        size: How far each atom is moved, in Å.
        equivalent: Median over crystals of the median distance of atoms that were equivalent.
        relative: The median over that between elements in the crystals before the displacement; NaN where that is zero.
        interval: 95 % interval of this ratio over resampled crystals.
    """

    size: float
    equivalent: float
    relative: float
    interval: Interval


@dataclass(frozen=True)
class Curve:
    """How the agreement of equivalent atoms fades by one measure.

    Attributes:
        elements: Median over crystals of the median distance between elements, before the displacement.
        score: Separation score of these crystals; None where they were not chosen among those that have one.
        steps: The distance after each displacement.
    """

    elements: float
    score: Score | None
    steps: list[Step]


@dataclass(frozen=True)
class Fading:
    """How the agreement of equivalent atoms fades.

    Attributes:
        n: Number of crystals.
        curves: The curve of each measure.
    """

    n: int
    curves: dict[Measure, Curve]


def fading(
    models: Models,
    table: CrystalTable,
    *,
    at_most: int = 100,
    sizes: Sequence[float] = SIZES,
    width: int = WIDTH,
    progress: Progress | None = None,
) -> Fading | None:
    """Return how the agreement of equivalent atoms fades when all atoms are displaced at random.

    The crystals are drawn among the test rows of the separation score that have equivalent atoms as well; if there are
    fewer than 20 of these, among all with equivalent atoms and several elements. After the displacement they are
    described in full cells and without refinement, each by the model that did not see it. The draws are the same for
    every run. Sizes are in Å, and 2-KS is computed from `width` components.

    Returns:
        None where no crystal has equivalent atoms and several elements.
    """
    rows = describe_test_rows(models, table)
    crystals = [table.crystal(row) for row in rows.rows.tolist()]
    scored = np.isin(rows.rows, inequivalent_rows(table, rows.rows))
    fits = np.array([len(own) > 1 + own.orbit.max() and np.ptp(own.numbers) > 0 for own in crystals], dtype=bool)
    is_enough = bool((fits & scored).sum() >= ENOUGH)
    fits &= scored | (not is_enough)
    chosen = np.sort(np.random.default_rng(0).permutation(np.flatnonzero(fits))[:at_most])
    if not len(chosen):
        return None
    apart = orbit_pairs(rows.environments, chosen)
    after = rows.environments.after
    elements = medians(after, [part.elements for part in apart], width)
    inequivalent = medians(after, [part.inequivalent for part in apart], width)
    curves = {
        measure: Curve(
            float(np.median(values)), separation_score(inequivalent[measure], values) if is_enough else None, []
        )
        for measure, values in elements.items()
    }
    folds = {training.fold: training for training in models.trainings}
    for done, size in enumerate(sizes, start=1):
        equivalent = {measure: np.empty(len(chosen)) for measure in curves}
        for fold in np.unique(rows.fold[chosen]).tolist():
            members = np.flatnonzero(rows.fold[chosen] == fold)
            own = [crystals[i] for i in chosen[members]]
            if size == 0:
                # In the cells of the run: nodes of an asymmetric unit stand for all equivalent atoms.
                described, places = rows.environments, chosen[members].tolist()
            else:
                # A generator for each crystal: its directions are the same for every size and every run.
                moved = [
                    displaced(crystals[i], size, np.random.default_rng([0, int(rows.rows[i])])) for i in chosen[members]
                ]
                described = models.describe(moved, models.load(folds[fold]), cells="full")
                places = list(range(len(own)))
            rng = np.random.default_rng(0)
            pairs = [
                find_pairs(described.atom_nodes(i, crystal), crystal.numbers, crystal.orbit, rng).equivalent
                for i, crystal in zip(places, own, strict=True)
            ]
            for measure, values in medians(described.after, pairs, width).items():
                equivalent[measure][members] = values
        for measure, curve in curves.items():
            ratio = separation_score(equivalent[measure], elements[measure])
            curve.steps.append(Step(size, ratio.inequivalent, ratio.value, ratio.interval))
        if progress is not None:
            progress(done, len(sizes))
    return Fading(len(chosen), curves)
