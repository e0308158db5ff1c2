"""Does a block tell inequivalent atoms of one element apart, and how does equivalence fade when atoms move?

For an exactly invariant block equivalent atoms agree by construction. What blocks differ in is separation: the median
2-KS between inequivalent atoms of the same element over the median 2-KS between elements. Blocks differ in the width of
their environments as well, on which 2-KS depends; so that it is taken of as many components of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable
from benchmarks.results.statistics import Interval, bootstrap
from reports.environments.description import (
    DRAWN,
    Environments,
    Models,
    describe_test_rows,
    headline,
    inequivalent_rows,
    models_of,
    problems_of,
    show_problems,
)
from reports.environments.two_ks import SUBSETS, ks_of_subsets
from reports.page.section import Figure, Item, Section, Table, Text, Value
from reports.page.style import GRID, MUTED, PAPER, WIDE, look_of, subplots
from reports.study.study import Absent
from reports.study.wording import rounded
from sen.crystal import Crystal

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from reports.study.study import Study

__all__ = [
    "SIZES",
    "WIDTH",
    "Fading",
    "Pairs",
    "Score",
    "Separation",
    "Step",
    "block_separation",
    "common_width",
    "displaced",
    "fading",
    "find_pairs",
    "separation",
    "separation_score",
]

SIZES = (0.0, 0.01, 0.02, 0.05, 0.1)
"""Displacements in Å at which equivalence is looked at."""

WIDTH = 96
"""Components of which 2-KS is taken, unless a block is too narrow: three quarters of the 128 of the capsule block."""

# Å: the displacement whose effect is named.
_NAMED = 0.02
# Crystals with equivalent and with inequivalent atoms; where there are fewer, all with equivalent atoms are looked at.
_ENOUGH = 20
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


def common_width(widths: Iterable[int]) -> int:
    """Return of how many components 2-KS is taken to compare environments of these widths: at most 96.

    It is three quarters of the narrowest, so that 2-KS is a mean over different subsets for that one, too: a median of
    single ones sits on one of their steps.
    """
    return max(1, min(WIDTH, 3 * min(widths) // 4))


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


def separation(environments: Environments, width: int = WIDTH) -> dict[str, Score]:
    """Return the separation scores "before" and "after" the block of crystals.

    Crystals without inequivalent atoms of one element, or of one element alone, are left out. Pairs are taken between
    symmetry orbits, so that the score does not depend on the cell that is written down.

    Args:
        environments: Of the crystals.
        width: Components of which 2-KS is taken.
    """
    found = orbit_pairs(environments, range(len(environments)))
    pairs = [part for part in found if len(part.inequivalent) and len(part.elements)]
    return {
        stage: separation_score(
            _medians(getattr(environments, stage), [part.inequivalent for part in pairs], width),
            _medians(getattr(environments, stage), [part.elements for part in pairs], width),
        )
        for stage in ("before", "after")
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
    """Median 2-KS of the pairs of each crystal, of so many components; NaN of none."""
    if not pairs:
        return np.empty(0)
    joined = np.concatenate(pairs)
    values = ks_of_subsets(environments[joined[:, 0]], environments[joined[:, 1]], width)
    parts = np.split(values, np.cumsum([len(part) for part in pairs])[:-1])
    return np.array([np.median(part) if len(part) else np.nan for part in parts])


def displaced(crystal: Crystal, size: float, rng: np.random.Generator) -> Crystal:
    """Return a crystal whose atoms are each moved by `size` Å in a random direction; no symmetry is left to it."""
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
        relative: The median over that between elements in the crystals as they are; NaN where that is zero.
        interval: 95 % interval of this ratio over crystals drawn again.
    """

    size: float
    equivalent: float
    relative: float
    interval: Interval


@dataclass(frozen=True)
class Fading:
    """How the agreement of equivalent atoms fades.

    Attributes:
        n: Crystals.
        elements: Median over them of the median 2-KS between elements, as they are.
        score: Separation score of these crystals; NaN where they were not chosen among those that have one.
        steps: For each displacement.
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

    The crystals are drawn among the test rows of the separation score that have equivalent atoms as well; where there
    are fewer than 20 of these, among all with equivalent atoms and several elements. After the displacement they are
    described in full cells and without refinement, each by the model that did not see it. The draws are the same for
    every block.

    Args:
        models: The models of a run.
        table: The crystals of the task.
        at_most: Crystals to look at.
        sizes: Displacements in Å.
        width: Components of which 2-KS is taken.
        progress: Told how many sizes are done.

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
                # As the run has them: nodes of an asymmetric unit stand for all equivalent atoms.
                described, places = rows.environments, chosen[members].tolist()
            else:
                # A stream for each crystal: it is moved in the same directions by every size and for every block.
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


def block_separation(
    models: Models,
    table: CrystalTable,
    *,
    at_most: int = DRAWN,
    width: int = WIDTH,
    progress: Progress | None = None,
) -> dict[str, dict[str, Score]]:
    """Return the separation scores of a run's test rows by the "trained" and the "untrained" models.

    Args:
        models: The models of a run.
        table: The crystals of the task.
        at_most: Test rows to draw, of which those with inequivalent atoms of one element count.
        width: Components of which 2-KS is taken.
        progress: Told how many crystals are done.

    Raises:
        Absent: None has.
    """
    found = {}
    for state in ("trained", "untrained"):
        rows = describe_test_rows(
            models, table, trained=state == "trained", at_most=at_most, only_inequivalent=True, progress=progress
        )
        found[state] = separation(rows.environments, width)
    return found


class Separation(Section):
    """The separation score of every run, and how equivalence fades when atoms are displaced."""

    name: ClassVar[str] = "separation"
    title: ClassVar[str] = "Separation of inequivalent atoms"
    place: ClassVar[int] = 610

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Score every run, trained and untrained, and displace the atoms of some of its test crystals."""
        headline(study)
        table = study.crystals(progress)
        found = models_of(study)
        described = [describe_test_rows(models, table, progress=progress) for _, models in found]
        stages = ("before", "after")
        widths = [{stage: getattr(rows.environments, stage).shape[1] for stage in stages} for rows in described]
        width = common_width(own for block in widths for own in block.values())
        blocks, problems = [], problems_of(study)
        for (result, models), rows, own in zip(found, described, widths, strict=True):
            if not len(inequivalent_rows(table, rows.rows)):
                problems.append(
                    f"{result.label} is left out: none of the {len(rows.rows):,} crystals drawn among its test rows "
                    "has inequivalent atoms of one element beside another element."
                )
                continue
            scores = block_separation(models, table, width=width, progress=progress)
            blocks.append(
                {
                    "label": result.label,
                    "seed": models.trainings[0].seed,
                    "folds": [training.fold for training in models.trainings],
                    "test_rows": rows.n_rows,
                    "drawn": len(rows.rows),
                    "width": own,
                    "scores": {
                        state: {
                            stage: {**_facts(score), "resolution": _share(1 / width, score.elements)}
                            for stage, score in of_state.items()
                        }
                        for state, of_state in scores.items()
                    },
                    "fading": _fading_facts(fading(models, table, width=width, progress=progress), width),
                }
            )
        if not blocks:
            raise Absent(
                "No test crystal has inequivalent atoms of one element beside another element, so that there is "
                "nothing to separate."
            )
        return {"blocks": blocks, "width": width, "subsets": SUBSETS, "problems": problems}

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """Scores as a figure and a table, and the fading of equivalence."""
        blocks, width = facts["blocks"], facts["width"]
        fewest, most = (bound(b["scores"]["trained"]["after"]["n"] for b in blocks) for bound in (min, max))
        crystals = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
        yield Text(
            "Equivalent atoms agree by construction in any exactly invariant block, trained or not. Blocks differ in "
            "how far apart they put inequivalent atoms of the same element. The score is the median 2-KS between "
            "those over the median 2-KS between atoms of different elements: 0 if the block cannot tell them apart, "
            "1 if it tells them apart as well as elements. The same is computed for the block with the initial "
            "weights of each fold, because what an untrained network separates is no merit of training."
        )
        yield Text(
            f"Blocks differ in the width of their environments, too, and 2-KS depends on it. So it is the mean over "
            f"{facts['subsets']} random subsets of {width} components of each. Its resolution is 1/{width} = "
            f"{1 / width:.4f}: in a subset, environments of which one component differs are that far apart, however "
            "little it differs; those of which all differ are at least that far apart in the mean. In units of the "
            "score the resolution depends on how far apart a block puts elements; a score near it says that "
            "inequivalent atoms differ, and not by how much."
        )
        yield from show_problems(facts["problems"])
        method = _method(facts)
        yield Figure(
            "scores",
            lambda: draw_scores(blocks),
            f"Separation score after the block, trained and untrained, with 95 % intervals; n = {crystals} test "
            f"crystals that have inequivalent atoms of one element. Grey ticks: the resolution, 1/{width} in units of "
            f"the score.{_undefined(blocks)}",
            method,
            "; ".join(
                f"{b['label']}: {rounded(b['scores']['trained']['after']['value'], 3)} trained, "
                f"{rounded(b['scores']['untrained']['after']['value'], 3)} untrained"
                for b in blocks
            ),
        )
        rows: list[list[Value]] = []
        for b in blocks:
            for state, stages in b["scores"].items():
                for stage, score in stages.items():
                    low, high = score["interval"]
                    same, other = score["inequivalent"], score["elements"]
                    which = f"{state}, {stage} the block"
                    own = b["width"][stage]
                    rows.append(
                        [
                            b["label"],
                            which,
                            score["value"],
                            low,
                            high,
                            score["resolution"],
                            same,
                            other,
                            score["n"],
                            own,
                        ]
                    )
        yield Table(
            "scores",
            [
                *("run", "environments", "score", "95 % from", "to", "resolution"),
                *("2-KS inequivalent", "2-KS elements", "crystals", "components"),
            ],
            rows,
            f"Resolution: that of 2-KS, 1/{width} = {1 / width:.4f}, in units of the score. Components: the width of "
            "the environments. Separation before the block is that of the feature extraction, trained "
            f"together with each block.{_undefined(blocks)}",
            method,
        )
        faded = [b for b in blocks if b["fading"]]
        if not faded:
            yield Text(
                "No test crystal of several elements has equivalent atoms in its primitive cell, so that no "
                "equivalence can fade."
            )
            return
        yield Figure(
            "fading",
            lambda: draw_fading(faded),
            "2-KS between atoms that were equivalent before every atom was displaced in a random direction, as a "
            f"share of that between elements in the same crystals; n = {_counts(faded)} test crystals. Dotted: the "
            "resolution, the least there is where all components differ after rounding; only above it does the height "
            "say how far atoms differ." + _told(faded),
            "Full primitive cells, no refinement after the displacement, trained models, test rows; ratio of the "
            "medians over crystals of the medians over pairs, band: 95 % interval of the ratio, percentile bootstrap "
            f"over crystals. {_chosen(faded)} At 0 Å environments are those of the run: equal by construction in "
            "asymmetric units, and up to the rounding of float32 in full cells. Neighbour lists are cut anew, so that "
            f"a displacement can change which atoms are neighbours. {_subsets(facts)}",
            "; ".join(
                f"{b['label']}: "
                + ", ".join(f"{rounded(step['relative'], 3)} at {step['size']} Å" for step in b["fading"]["steps"])
                for b in faded
            ),
        )


def _subsets(facts: Mapping[str, Any]) -> str:
    return (
        f"2-KS: mean over {facts['subsets']} random subsets of {facts['width']} components, the same ones of both "
        "atoms. Components are rounded to 1e-5; they are no independent samples, and no p-value is claimed."
    )


def _method(facts: Mapping[str, Any]) -> str:
    return (
        "Each test row by the model of the fold that did not see it (one seed). Pairs of symmetry orbits within a "
        "crystal; the median of a crystal's pairs counts once; interval: percentile bootstrap over crystals. "
        + _subsets(facts)
    )


def _counts(faded: Sequence[Mapping[str, Any]]) -> str:
    counts = sorted({b["fading"]["n"] for b in faded})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _chosen(faded: Sequence[Mapping[str, Any]]) -> str:
    if all(b["fading"]["score"] is not None for b in faded):
        return "Crystals are drawn among those of the score that have equivalent atoms as well."
    return (
        f"Of {', '.join(b['label'] for b in faded if b['fading']['score'] is None)} fewer than {_ENOUGH} crystals have "
        "both equivalent and inequivalent atoms, or their score is not defined: crystals are drawn among all with "
        "equivalent atoms, and no score can stand beside the curve."
    )


def _told(faded: Sequence[Mapping[str, Any]]) -> str:
    """What the curves say at 0.02 Å, and which of them can be compared with a score."""
    told = ""
    at = [(b["label"], step) for b in faded for step in b["fading"]["steps"] if step["size"] == _NAMED]
    if at:
        told += f" At {_NAMED} Å: " + ", ".join(f"{label} {rounded(step['relative'], 3)}" for label, step in at) + "."
    above = [b["label"] for b in faded if _is_above(b)]
    below = [b["label"] for b in faded if not _is_above(b) and b["fading"]["score"] is not None]
    if above:
        told += (
            f" Lines on the right: the separation score of these crystals ({', '.join(above)}); where a curve reaches "
            "its line, noise of that size looks like inequivalence."
        )
    if below:
        told += f" No line, because the score is not clearly above the resolution: {', '.join(below)}."
    return told


def _is_above(block: Mapping[str, Any]) -> bool:
    """Whether the score of a run, and that of the crystals that were displaced, are above the resolution."""
    fading, whole = block["fading"], block["scores"]["trained"]["after"]
    values = (fading["score"], fading["resolution"], whole["interval"][0], whole["resolution"])
    if any(value is None for value in values):
        return False
    return bool(fading["score"] > fading["resolution"] and whole["interval"][0] > whole["resolution"])


def _undefined(blocks: Sequence[Mapping[str, Any]]) -> str:
    names = [
        f"{b['label']} ({state})"
        for b in blocks
        for state, stages in b["scores"].items()
        if stages["after"]["value"] is None
    ]
    if not names:
        return ""
    return (
        f" Not defined, because the block gives the elements of most crystals equal environments: {', '.join(names)}."
    )


def _share(value: float, whole: float) -> float:
    return value / whole if whole else float("nan")


def _facts(record: Score | Step) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, Interval) else value for key, value in vars(record).items()}


def _fading_facts(found: Fading | None, width: int) -> dict[str, Any] | None:
    if found is None:
        return None
    resolution = _share(1 / width, found.elements)
    return {**vars(found), "resolution": resolution, "steps": [_facts(step) for step in found.steps]}


def draw_scores(blocks: Sequence[Mapping[str, Any]]) -> Canvas:
    """Draw the scores after the block, a row for each run."""
    figure, axis = subplots(width=WIDE, height=0.75 + 0.34 * len(blocks))
    for state, face in (("trained", MUTED), ("untrained", PAPER)):
        axis.plot([], [], "o", color=MUTED, markerfacecolor=face, label=state)
    axis.plot([], [], "|", color=MUTED, markersize=8, label="resolution")
    for i, block in enumerate(blocks):
        look = look_of(block["label"])
        for state, shift, face in (("trained", -0.14, look.colour), ("untrained", 0.14, PAPER)):
            score = block["scores"][state]["after"]
            low, high = score["interval"]
            if low is not None and high is not None:
                axis.plot([low, high], [i + shift] * 2, color=look.colour, linewidth=1.2)
            if score["value"] is None:
                axis.text(0, i + shift, " not defined", va="center", color=look.colour, fontsize=6)
                continue
            axis.plot(
                [score["value"]],
                [i + shift],
                look.marker,
                color=look.colour,
                markerfacecolor=face,
            )
            if score["resolution"] is not None:
                axis.plot([score["resolution"]], [i + shift], "|", color=MUTED, markersize=8, zorder=0)
    axis.set_yticks(range(len(blocks)), [block["label"] for block in blocks])
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
        fading = block["fading"]
        steps = fading["steps"]
        sizes = np.array([step["size"] for step in steps])
        middle = np.array([step["relative"] for step in steps], dtype=float)
        low, high = (np.array([step["interval"][end] for step in steps], dtype=float) for end in (0, 1))
        label = block["label"] if np.isfinite(middle).any() else f"{block['label']} (not defined)"
        look = look_of(block["label"])
        axis.plot(sizes, middle, color=look.colour, marker=look.marker, label=label)
        if not np.isfinite(middle).any():
            continue
        axis.fill_between(sizes, low, high, color=look.colour, alpha=0.18, linewidth=0)
        axis.axhline(fading["resolution"], color=look.colour, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
        if _is_above(block):
            across = axis.get_yaxis_transform()
            axis.plot(
                [1.02, 1.07],
                [fading["score"]] * 2,
                color=look.colour,
                transform=across,
                clip_on=False,
            )
    axis.axvline(_NAMED, color=GRID, linewidth=0.8, zorder=0)
    axis.set_xlabel("displacement of every atom (Å)")
    axis.set_ylabel("2-KS of equivalent atoms\n/ 2-KS between elements")
    axis.set_xlim(0, max(step["size"] for step in blocks[0]["fading"]["steps"]))
    axis.set_ylim(bottom=0)
    axis.legend(loc="upper left", bbox_to_anchor=(1.1, 1.0), title="dotted: resolution; line: score")
    return figure
