"""Section: does a model distinguish inequivalent atoms of one element, and how does equivalence fade when atoms move?

For an exactly invariant model equivalent atoms agree by construction. What models differ in is separation: the median
2-KS between inequivalent atoms of the same element over the median 2-KS between elements. 2-KS depends on the width of
the environments, in which models differ as well, and is therefore computed from the same number of components of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable
from benchmarks.results.statistics import Interval, bootstrap
from reports.environments.description import (
    Environments,
    Models,
    Stage,
    describe_test_rows,
    inequivalent_rows,
    open_models,
)
from reports.environments.two_ks import NAMES, SUBSETS, ks_of_subsets
from reports.page.items import Column, Items, interval_columns
from reports.page.section import Item, Section
from reports.page.style import GRID, MUTED, PAPER, WIDE, look_of, subplots
from reports.study.study import Absent, Study
from sen.crystal import Crystal

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["Separation"]

SIZES = (0.0, 0.01, 0.02, 0.05, 0.1)
"""Displacements in Å at which equivalence is measured."""

WIDTH = 96
"""Components from which 2-KS is computed if none is too narrow: three quarters of the 128 of the capsule block."""

# Å: the displacement whose effect is written out.
_NAMED = 0.02
# Crystals with equivalent and with inequivalent atoms; if there are fewer, all with equivalent atoms are displaced.
_ENOUGH = 20
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


@dataclass(frozen=True)
class Score:
    """A separation score.

    Attributes:
        value: Median 2-KS of inequivalent atoms of one element over the median between elements. NaN without crystals.
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


def separation(environments: Environments, width: int = WIDTH) -> dict[Stage, Score]:
    """Return the separation scores of crystals by the environments of each stage.

    Crystals without inequivalent atoms of one element, or of one element alone, are left out. Pairs are taken between
    symmetry orbits, so that the score does not depend on the choice of the cell; 2-KS is computed from `width`
    components.
    """
    found = orbit_pairs(environments, range(len(environments)))
    pairs = [part for part in found if len(part.inequivalent) and len(part.elements)]
    return {
        stage: separation_score(
            _medians(values, [part.inequivalent for part in pairs], width),
            _medians(values, [part.elements for part in pairs], width),
        )
        for stage, values in environments.stages.items()
        if stage != "material"
    }


def orbit_pairs(environments: Environments, crystals: Iterable[int]) -> list[Pairs]:
    """Return the pairs of symmetry orbits of crystals."""
    rng = np.random.default_rng(0)
    pairs = []
    for i in crystals:
        nodes = environments.orbit_nodes(i)
        pairs.append(find_pairs(nodes, environments.numbers[nodes], np.arange(len(nodes), dtype=np.int32), rng))
    return pairs


def _medians(environments: NDArray[np.floating], pairs: Sequence[NDArray[np.int64]], width: int) -> NDArray[np.float64]:
    """Median 2-KS of the pairs of each crystal, from this many components; NaN without pairs."""
    if not pairs:
        return np.empty(0)
    joined = np.concatenate(pairs)
    values = ks_of_subsets(environments[joined[:, 0]], environments[joined[:, 1]], width)
    parts = np.split(values, np.cumsum([len(part) for part in pairs])[:-1])
    return np.array([np.median(part) if len(part) else np.nan for part in parts])


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
    """2-KS after random displacements of one size.

    Attributes:
        size: How far each atom is moved, in Å.
        equivalent: Median over crystals of the median 2-KS of atoms that were equivalent.
        relative: The median over that between elements in the crystals before the displacement; NaN where that is zero.
        interval: 95 % interval of this ratio over resampled crystals.
    """

    size: float
    equivalent: float
    relative: float
    interval: Interval


@dataclass(frozen=True)
class Fading:
    """How the agreement of equivalent atoms fades.

    Attributes:
        n: Number of crystals.
        elements: Median over them of the median 2-KS between elements, before the displacement.
        score: Separation score of these crystals; NaN where they were not chosen among those that have one.
        steps: Its median 2-KS after each displacement.
    """

    n: int
    elements: float
    score: float
    steps: list[Step]


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
    is_enough = bool((fits & scored).sum() >= _ENOUGH)
    fits &= scored | (not is_enough)
    chosen = np.sort(np.random.default_rng(0).permutation(np.flatnonzero(fits))[:at_most])
    if not len(chosen):
        return None
    apart = orbit_pairs(rows.environments, chosen)
    after = rows.environments.after
    elements = _medians(after, [part.elements for part in apart], width)
    score = np.nan
    if is_enough:
        score = separation_score(_medians(after, [part.inequivalent for part in apart], width), elements).value
    folds = {training.fold: training for training in models.trainings}
    steps = []
    for done, size in enumerate(sizes, start=1):
        values = np.empty(len(chosen))
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
            values[members] = _medians(described.after, pairs, width)
        ratio = separation_score(values, elements)
        steps.append(Step(size, ratio.inequivalent, ratio.value, ratio.interval))
        if progress is not None:
            progress(done, len(sizes))
    return Fading(len(chosen), float(np.median(elements)), score, steps)


def run_separation(
    models: Models, table: CrystalTable, *, width: int = WIDTH, progress: Progress | None = None
) -> dict[str, dict[Stage, Score]]:
    """Return the separation scores of a run's test rows by the "trained" and the "untrained" models."""
    found = {}
    for state in ("trained", "untrained"):
        rows = describe_test_rows(models, table, trained=state == "trained", progress=progress)
        found[state] = separation(rows.environments, width)
    return found


class Separation(Section):
    """The separation score of every run, and how equivalence fades when atoms are displaced."""

    name: ClassVar[str] = "separation"
    title: ClassVar[str] = "Separation of inequivalent atoms"
    place: ClassVar[int] = 610

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Score every run, trained and untrained, and displace the atoms of some of its test crystals."""
        opened = open_models(study, "after", progress)
        table = opened.table
        described = [describe_test_rows(models, table, progress=progress) for _, models in opened.runs]
        widths = [
            {stage: rows.environments.stages[stage].shape[1] for stage in NAMES if stage in rows.environments.stages}
            for rows in described
        ]
        width = common_width(own for of_run in widths for own in of_run.values())
        runs, left_out = [], []
        for (result, models), rows, own in zip(opened.runs, described, widths, strict=True):
            if not len(inequivalent_rows(table, rows.rows)):
                left_out.append({"label": result.label, "drawn": len(rows.rows)})
                continue
            scores = run_separation(models, table, width=width, progress=progress)
            faded = fading(models, table, width=width, progress=progress)
            runs.append(
                {
                    "label": result.label,
                    "seed": models.trainings[0].seed,
                    "folds": [training.fold for training in models.trainings],
                    "test_rows": rows.n_rows,
                    "drawn": len(rows.rows),
                    "width": own,
                    "scores": {
                        state: {stage: _facts(score, width) for stage, score in of_state.items()}
                        for state, of_state in scores.items()
                    },
                    "fading": faded and _facts(faded, width),
                }
            )
        if not runs:
            raise Absent(
                "No test crystal has several elements and inequivalent atoms of one of them, so there is nothing to "
                "separate."
            )
        return {
            "runs": runs,
            "width": width,
            "subsets": SUBSETS,
            "without_inequivalent": left_out,
            "problems": opened.giving("before").problems,
        }

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """Scores as a figure and a table, and the fading of equivalence."""
        runs = facts["runs"]
        faded = [run for run in runs if run["fading"]]
        above = [run["label"] for run in faded if _is_above(run)]
        items = Items(__name__, {**facts, "faded": faded, "above": above, "named": _NAMED, "enough": _ENOUGH})
        yield items.text("summary")
        yield items.figure("scores", lambda: draw_scores(runs))
        records = [
            {**score, "label": run["label"], "which": f"{state}, {NAMES[stage]}", "width": run["width"][stage]}
            for run in runs
            for state, stages in run["scores"].items()
            for stage, score in stages.items()
        ]
        columns: list[Column] = [
            ("run", "label"),
            ("environments", "which"),
            ("score", "value"),
            *interval_columns("interval", "95 % from", "to"),
            ("resolution", "resolution"),
            ("2-KS inequivalent", "inequivalent"),
            ("2-KS elements", "elements"),
            ("crystals", "n"),
            ("components", "width"),
        ]
        yield items.table("scores", records, columns)
        yield items.figure("fading", lambda: draw_fading(faded)) if faded else items.text("no_fading")


def _facts(record: Score | Fading, width: int) -> dict[str, Any]:
    """Return a record with its resolution: that of 2-KS, relative to the median 2-KS between elements."""
    return {**asdict(record), "resolution": 1 / width / record.elements if record.elements else None}


def _is_above(run: Mapping[str, Any]) -> bool:
    """Whether the score of a run, and that of the crystals that were displaced, are above the resolution."""
    fading, whole = run["fading"], run["scores"]["trained"]["after"]
    values = (fading["score"], fading["resolution"], whole["interval"][0], whole["resolution"])
    if any(value is None for value in values):
        return False
    return bool(fading["score"] > fading["resolution"] and whole["interval"][0] > whole["resolution"])


def draw_scores(runs: Sequence[Mapping[str, Any]]) -> Canvas:
    """Draw the scores of the final environments, a row for each run."""
    figure, axis = subplots(width=WIDE, height=0.75 + 0.34 * len(runs))
    for state, face in (("trained", MUTED), ("untrained", PAPER)):
        axis.plot([], [], "o", color=MUTED, markerfacecolor=face, label=state)
    axis.plot([], [], "|", color=MUTED, markersize=8, label="resolution")
    for i, run in enumerate(runs):
        colour, marker = look_of(run["label"])
        for state, y, face in (("trained", i - 0.14, colour), ("untrained", i + 0.14, PAPER)):
            score = run["scores"][state]["after"]
            if score["value"] is None:
                axis.text(0, y, " not defined", va="center", color=colour, fontsize=6)
                continue
            axis.plot(score["interval"], [y, y], color=colour)
            axis.plot([score["value"]], [y], marker, color=colour, markerfacecolor=face)
            axis.plot([score["resolution"]], [y], "|", color=MUTED, markersize=8, zorder=0)
    axis.set_yticks(range(len(runs)), [run["label"] for run in runs])
    axis.set_ylim(len(runs) - 0.5, -0.5)
    axis.set_xlim(left=0)
    axis.grid(axis="x")
    axis.set_xlabel("separation score (2-KS of inequivalent atoms of one element / 2-KS between elements)")
    figure.legend(loc="outside right upper")
    return figure


def draw_fading(runs: Sequence[Mapping[str, Any]]) -> Canvas:
    """Draw how the 2-KS of equivalent atoms grows with the displacement."""
    figure, axis = subplots(width=WIDE, height=2.7)
    for run in runs:
        fading = run["fading"]
        sizes = [step["size"] for step in fading["steps"]]
        middle = np.array([step["relative"] for step in fading["steps"]], dtype=float)
        low, high = np.array([step["interval"] for step in fading["steps"]], dtype=float).T
        is_defined = np.isfinite(middle).any()
        colour, marker = look_of(run["label"])
        label = run["label"] if is_defined else f"{run['label']} (not defined)"
        axis.plot(sizes, middle, color=colour, marker=marker, label=label)
        if not is_defined:
            continue
        axis.fill_between(sizes, low, high, color=colour, alpha=0.18, linewidth=0)
        axis.axhline(fading["resolution"], color=colour, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
        if _is_above(run):
            across = axis.get_yaxis_transform()
            axis.plot([1.02, 1.07], [fading["score"]] * 2, color=colour, transform=across, clip_on=False)
    axis.axvline(_NAMED, color=GRID, linewidth=0.8, zorder=0)
    axis.set_xlabel("displacement of every atom (Å)")
    axis.set_ylabel("2-KS of equivalent atoms\n/ 2-KS between elements")
    axis.set_xlim(0, max(step["size"] for step in runs[0]["fading"]["steps"]))
    axis.set_ylim(bottom=0)
    axis.legend(loc="upper left", bbox_to_anchor=(1.1, 1.0), title="dotted: resolution; line: score")
    return figure
