"""Does a block tell inequivalent atoms of one element apart, and how does equivalence fade when atoms move?

For an exactly invariant block equivalent atoms agree by construction. What blocks differ in is separation: the median
2-KS between inequivalent atoms of the same element over the median 2-KS between elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.crystals import CrystalTable, Progress
from benchmarks.statistics import Interval, bootstrap
from reports.environments import Environments, Models, describe_test_rows, draw_test_rows
from reports.equivalence import headline, literal, models_of
from reports.section import Absent, Block, Cell, Figure, Section, Table, Text
from reports.style import GRID, PAPER, WIDE, subplots
from reports.two_ks import ks_statistic
from sen.crystal import Crystal

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from reports.study import Study

__all__ = [
    "SIZES",
    "Fading",
    "Pairs",
    "Score",
    "Separation",
    "block_separation",
    "displaced",
    "fading",
    "find_pairs",
    "inequivalent_rows",
    "separation",
    "separation_score",
]

SIZES = (0.0, 0.01, 0.02, 0.05, 0.1)
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
        by_unit[unit] = np.random.default_rng(0).permutation(has_pairs)[: -(-at_most // len(drawn))].tolist()
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
    """Return the separation scores of a run's test rows by the "trained" and the "untrained" models.

    Args:
        models: The models of a run.
        table: The crystals of the task.
        at_most: Test rows to draw, of which those with inequivalent atoms of one element count.
        progress: Told how many crystals are done.
    """
    rows = describe_test_rows(models, table, at_most=at_most, progress=progress)
    trained = separation(rows.environments)
    among = inequivalent_rows(table, rows.rows)
    if not len(among):
        return {"trained": trained, "untrained": trained}
    untrained = describe_test_rows(models, table, trained=False, at_most=at_most, among=among, progress=progress)
    return {"trained": trained, "untrained": separation(untrained.environments)}


class Separation(Section):
    """The separation score of every run, and how equivalence fades when atoms are displaced."""

    name: ClassVar[str] = "separation"
    title: ClassVar[str] = "Separation of inequivalent atoms"
    place: ClassVar[int] = 610

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Score every run, trained and untrained, and displace the atoms of some of its test crystals."""
        headline(study)
        table = study.crystals(progress)
        blocks = []
        for result, models in models_of(study):
            scores = block_separation(models, table, progress=progress)
            if not scores["trained"]["after"].n:
                continue
            rows = describe_test_rows(models, table)
            blocks.append(
                {
                    **result.look,
                    "seed": models.units[0].seed,
                    "folds": [unit.fold for unit in models.units],
                    "test_rows": rows.n_rows,
                    "drawn": len(rows.rows),
                    "width": {
                        "before": rows.environments.before.shape[1],
                        "after": rows.environments.after.shape[1],
                    },
                    "scores": {
                        state: {stage: _facts(score) for stage, score in stages.items()}
                        for state, stages in scores.items()
                    },
                    "fading": [_facts(step) for step in fading(models, table, progress=progress)],
                }
            )
        if not blocks:
            raise Absent(
                "No test crystal has inequivalent atoms of one element beside another element, so that there is "
                "nothing to separate."
            )
        return {"blocks": blocks}

    def show(self, facts: Mapping[str, Any]) -> Iterable[Block]:
        """Scores as a figure and a table, and the fading of equivalence."""
        blocks = facts["blocks"]
        fewest, most = (bound(b["scores"]["trained"]["after"]["n"] for b in blocks) for bound in (min, max))
        crystals = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
        steps = ", ".join(f"{b['label']} 1/{b['width']['after']}" for b in blocks)
        yield Text(
            "Equivalent atoms agree by construction in any exactly invariant block, trained or not. Blocks differ in "
            "how far apart they put inequivalent atoms of the same element. The score is the median 2-KS between "
            "those over the median 2-KS between atoms of different elements: 0 if the block cannot tell them apart, "
            "1 if it tells them apart as well as elements. The same is computed for the block with the initial "
            "weights of each fold, because what an untrained network separates is no merit of training."
        )
        yield Figure(
            "scores",
            lambda: draw_scores(blocks),
            f"Separation score after the block, trained and untrained, with 95 % intervals; n = {crystals} test "
            "crystals that have inequivalent atoms of one element.",
            f"{_METHOD} A 2-KS statistic moves in steps of one over the width of the environment ({steps}), and the "
            "score with it.",
            "; ".join(
                f"{b['label']}: {b['scores']['trained']['after']['value']:.3f} trained, "
                f"{b['scores']['untrained']['after']['value']:.3f} untrained"
                for b in blocks
            ),
        )
        rows: list[list[Cell]] = []
        for b in blocks:
            for state, stages in b["scores"].items():
                for stage, score in stages.items():
                    low, high = score["interval"]
                    same, other = score["inequivalent"], score["elements"]
                    rows.append(
                        [b["label"], f"{state}, {stage} the block", score["value"], low, high, same, other, score["n"]]
                    )
        yield Table(
            "scores",
            ["run", "environments", "score", "95 % from", "to", "2-KS inequivalent", "2-KS elements", "crystals"],
            rows,
            "Separation before the block is that of the feature extraction, trained together with each block.",
            _METHOD,
        )
        faded = [b for b in blocks if b["fading"]]
        if not faded:
            yield Text("No test crystal has equivalent atoms in its primitive cell, so that no equivalence can fade.")
            return
        counts = sorted({b["fading"][0]["n"] for b in faded})
        n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        at = next((f["size"] for f in faded[0]["fading"] if f["size"] == 0.02), None)
        told = ""
        if at is not None:
            values = [(b["label"], next(f for f in b["fading"] if f["size"] == at)) for b in faded]
            told = " At 0.02 Å: " + ", ".join(f"{label} {step['relative']:.2f}" for label, step in values) + "."
        yield Figure(
            "fading",
            lambda: draw_fading(faded),
            "2-KS between atoms that were equivalent before every atom was displaced in a random direction, as a "
            f"share of that between elements; {n} test crystals. The lines on the right are the separation scores: "
            f"where a curve reaches its line, noise of that size looks like inequivalence.{told}",
            "Full primitive cells, no refinement after the displacement, trained models, test rows; median over "
            "crystals of the median over pairs, band: 95 % bootstrap interval over crystals. What is left at 0 Å is "
            "rounding of float32. Neighbour lists are cut anew, so that a displacement can change which atoms are "
            "neighbours.",
            "; ".join(
                f"{b['label']}: " + ", ".join(f"{f['relative']:.3f} at {f['size']} Å" for f in b["fading"])
                for b in faded
            ),
        )


_METHOD = (
    "Each test row by the model of the fold that did not see it (one seed). Pairs of symmetry orbits within a crystal; "
    "the median of a crystal's pairs counts once; interval: percentile bootstrap over crystals. Components are rounded "
    "to 1e-5; they are no independent samples, and no p-value is claimed."
)


def _facts(record: Score | Fading) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, Interval) else value for key, value in vars(record).items()}


def draw_scores(blocks: Sequence[Mapping[str, Any]]) -> Canvas:
    """Draw the scores after the block, a row for each run."""
    figure, axis = subplots(width=WIDE, height=0.75 + 0.34 * len(blocks))
    for i, block in enumerate(blocks):
        for state, shift, face in (("trained", -0.1, block["colour"]), ("untrained", 0.14, PAPER)):
            score = block["scores"][state]["after"]
            low, high = score["interval"]
            if low is not None and high is not None:
                axis.plot([low, high], [i + shift] * 2, color=block["colour"], linewidth=1.2)
            axis.plot(
                [score["value"]],
                [i + shift],
                block["marker"],
                color=block["colour"],
                markerfacecolor=face,
                label=state if i == 0 else None,
            )
    axis.set_yticks(range(len(blocks)), [literal(block["label"]) for block in blocks])
    axis.set_ylim(len(blocks) - 0.5, -0.5)
    axis.set_xlim(left=0)
    axis.grid(axis="x")
    axis.set_xlabel("separation score (2-KS of inequivalent atoms of one element / 2-KS between elements)")
    figure.legend(loc="outside right upper")
    return figure


def draw_fading(blocks: Sequence[Mapping[str, Any]]) -> Canvas:
    """Draw how the 2-KS of equivalent atoms grows with the displacement."""
    figure, axis = subplots(width=WIDE, height=2.7)
    for block in blocks:
        steps = block["fading"]
        sizes = np.array([step["size"] for step in steps])
        middle = np.array([step["relative"] for step in steps], dtype=float)
        scale = next((step["relative"] / step["equivalent"] for step in steps if step["equivalent"]), 0.0)
        low, high = (scale * np.array([step["interval"][end] for step in steps], dtype=float) for end in (0, 1))
        axis.fill_between(sizes, low, high, color=block["colour"], alpha=0.18, linewidth=0)
        axis.plot(sizes, middle, color=block["colour"], marker=block["marker"], label=literal(block["label"]))
        score = block["scores"]["trained"]["after"]["value"]
        axis.plot([1.02, 1.07], [score] * 2, color=block["colour"], transform=axis.get_yaxis_transform(), clip_on=False)
    axis.axvline(0.02, color=GRID, linewidth=0.8, zorder=0)
    axis.set_xlabel("displacement of every atom (Å)")
    axis.set_ylabel("2-KS of equivalent atoms\n/ 2-KS between elements")
    axis.set_xlim(0, max(step["size"] for step in blocks[0]["fading"]))
    axis.set_ylim(bottom=0)
    axis.legend(loc="upper left", bbox_to_anchor=(1.1, 1.0), title="line: score")
    return figure
