"""Section: do equivalent atoms look alike, also when they move, and inequivalent ones different?

The figures but that of displaced atoms are those of the paper (Fig. 2a, 2b, 3a, 3d-g).
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable
from reports.environments.description import Models, StudyModels, describe_test_rows, open_models, rows_of_trainings
from reports.environments.displacement import ENOUGH, fading
from reports.environments.operations import KINDS
from reports.environments.pairs import common_width, resolution
from reports.environments.two_ks import (
    DIGITS,
    MEASURES,
    NAMES,
    SUBSETS,
    WITH_UNIT,
    choose_crystals,
    choose_example,
    describe_crystal,
    element_of,
)
from reports.page.items import Column, Items
from reports.page.section import Heading, Item, Section, Table
from reports.page.style import (
    DIVERGING,
    GRID,
    GROUP_COLOURS,
    INK,
    MUTED,
    SEQUENTIAL,
    WIDE,
    heatmap,
    legend,
    look_of,
    panels,
    subplots,
)
from reports.study.study import Absent, Study
from reports.study.wording import typeset_formula, typeset_symbol

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = [
    "Equivalence",
    "describe_as_tested",
    "draw_bars",
    "draw_densities",
    "draw_pairs",
    "draw_pearson",
    "relation_table",
]

# Å: the displacement whose effect is written out.
_NAMED = 0.02
# Facts that name a crystal.
_NAMES = ("id", "fold", "formula", "symbol")
# Facts of a crystal that are kept of the example alone.
_LARGE = {"element_pairs", "components", "pearson", "orbit_matrix"}
# Crystals whose pairs of elements are shown, as many as in the paper.
_PAIR_CRYSTALS = 6


class Equivalence(Section):
    """Displaced equivalent atoms, atoms against a reference atom, pairs of elements, a crystal in detail."""

    name: ClassVar[str] = "equivalence"
    title: ClassVar[str] = "Equivalent and inequivalent atoms"
    place: ClassVar[int] = 600

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Displace test crystals, describe chosen ones by the models of the first run, and one by those of every run.

        What is shown of the environments before a block is that of the first run of SEN.
        """
        opened = open_models(study, "after", progress)
        table, (result, models) = opened.table, opened.runs[0]
        rows = np.sort(np.concatenate(list(rows_of_trainings(models, table).values())))
        # Crystals that every run was tested on, so that models are compared on the same ones.
        shared = rows[[all(str(table.ids[row]) in other.tested_by for _, other in opened.runs) for row in rows]]
        candidates = shared if len(shared) else rows
        choice = choose_crystals(table, candidates, progress)
        example = choose_example(table, candidates)
        pairs = _pair_rows(table, candidates)
        if not choice.rows and example is None:
            raise Absent(
                f"None of the {len(candidates)} test crystals has inequivalent atoms: there is nothing to compare "
                "within a crystal of one atom, or of atoms that are all equivalent."
            )
        wanted = list(dict.fromkeys([*choice.rows, *pairs, *([] if example is None else [example])]))
        described = describe_as_tested(models, table, wanted, progress)
        of_sen = opened.giving("before")
        before = described
        if not of_sen.runs:
            before = {}
        elif of_sen.runs[0] is not opened.runs[0]:
            before = describe_as_tested(
                of_sen.runs[0][1], table, [row for row in wanted if row in {*pairs, example}], progress
            )
        facts: dict[str, Any] = {
            "run": {"label": result.label},
            "run_before": {"label": of_sen.runs[0][0].label} if of_sen.runs else None,
            "full_cells": [other.label for other, its_models in opened.runs if its_models.config.graph.cells == "full"],
            "displaced": _displace(opened, progress),
            "seed": models.trainings[0].seed,
            "folds": [training.fold for training in models.trainings],
            "crystals": [
                {"shows": kinds, **{key: value for key, value in described[row].items() if key not in _LARGE}}
                for row, kinds in zip(choice.rows, choice.shows, strict=True)
            ],
            "absent": choice.absent,
            "looked_at": choice.looked_at,
            "n_runs": len(opened.runs) if len(shared) else 1,
            "n_candidates": len(candidates),
            "element_pairs": [
                {**{key: before[row][key] for key in _NAMES}, "pairs": before[row]["element_pairs"]["before"]}
                for row in pairs
                if row in before
            ],
            "example": None,
            "not_tested_on_example": [],
            "problems": of_sen.problems,
        }
        if example is None:
            return facts
        facts["example"] = {key: described[example][key] for key in (*_NAMES, "orbits")}
        facts["example"]["pearson"] = before[example]["pearson"] if example in before else None
        facts["example"]["runs"] = runs = []
        for other, its_models in opened.runs:
            own = described if its_models is models else describe_as_tested(its_models, table, [example], progress)
            if example not in own:
                facts["not_tested_on_example"].append(other.label)
                continue
            runs.append(
                {
                    "label": other.label,
                    "fold": own[example]["fold"],
                    "labels": [orbit["label"] for orbit in own[example]["orbits"]],
                    "components": own[example]["components"]["after"],
                    "orbit_matrix": {measure: own[example]["orbit_matrix"][measure]["after"] for measure in MEASURES},
                }
            )
        return facts

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """Displaced atoms, then bars, operations, pairs of elements, densities, correlation of atoms."""
        faded = facts["displaced"]["runs"]
        items = Items(
            __name__,
            {
                **facts,
                "digits": DIGITS,
                "kinds": KINDS,
                "faded": faded,
                "above": [run["label"] for run in faded if _is_above(run["curves"]["ks"])],
                "named": _NAMED,
                "enough": ENOUGH,
                "subsets": SUBSETS,
            },
        )
        crystals, pairs, example = facts["crystals"], facts["element_pairs"], facts["example"]
        yield items.text("summary")
        yield items.figure("fading", lambda: draw_fading(faded)) if faded else items.text("no_fading")
        if crystals:
            yield items.heading("as_read")
            yield items.figure("atoms-against-a-reference", lambda: draw_bars(crystals))
            yield relation_table(items, crystals)
        if pairs:
            yield Heading("Between elements")
            yield items.figure("element-pairs", lambda: draw_pairs(pairs))
        if example is None:
            yield items.text("no_example")
            return
        yield Heading(f"One crystal in detail: {example['formula']}")
        yield items.figure("densities", lambda: draw_densities(example["runs"]))
        if example["pearson"]:
            yield items.figure("pearson", lambda: draw_pearson(example["pearson"]))


def _displace(opened: StudyModels, progress: Progress) -> dict[str, Any]:
    """Return the facts of displaced atoms, by the runs whose test crystals have equivalent atoms."""
    table = opened.table
    described = [describe_test_rows(models, table, progress=progress).environments for _, models in opened.runs]
    width = common_width(own for environments in described for own in environments.widths.values())
    runs = []
    for result, models in opened.runs:
        if found := fading(models, table, width=width, progress=progress):
            curves = {
                measure: {**asdict(curve), "resolution": resolution(measure, curve.elements, width)}
                for measure, curve in found.curves.items()
            }
            runs.append({"label": result.label, "n": found.n, "curves": curves})
    return {"width": width, "runs": runs}


def _is_above(curve: Mapping[str, Any]) -> bool:
    """Whether the score of the crystals that were displaced is clearly above the resolution."""
    score = curve["score"]
    if score is None or score["value"] is None:
        return False
    return bool(score["interval"][0] > (curve["resolution"] or 0))


def draw_fading(runs: Sequence[Mapping[str, Any]]) -> Canvas:
    """Draw how the distance of equivalent atoms grows with the displacement, a panel for each measure."""
    figure, axes = subplots(1, 2, width=WIDE, height=2.9)
    for axis, (measure, name) in zip(axes, MEASURES.items(), strict=True):
        for run in runs:
            curve = run["curves"][measure]
            sizes = [step["size"] for step in curve["steps"]]
            middle = np.array([step["relative"] for step in curve["steps"]], dtype=float)
            low, high = np.array([step["interval"] for step in curve["steps"]], dtype=float).T
            is_defined = np.isfinite(middle).any()
            colour, marker = look_of(run["label"])
            label = run["label"] if is_defined else f"{run['label']} (not defined)"
            axis.plot(sizes, middle, color=colour, marker=marker, label=label)
            if not is_defined:
                continue
            axis.fill_between(sizes, low, high, color=colour, alpha=0.18, linewidth=0)
            if curve["resolution"]:
                axis.axhline(curve["resolution"], color=colour, linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
            if _is_above(curve):
                across = axis.get_yaxis_transform()
                axis.plot([1.02, 1.07], [curve["score"]["value"]] * 2, color=colour, transform=across, clip_on=False)
        axis.axvline(_NAMED, color=GRID, linewidth=0.8, zorder=0)
        axis.set_title(name)
        axis.set_xlabel("displacement of every atom (Å)")
        axis.set_xlim(0, max(step["size"] for step in runs[0]["curves"][measure]["steps"]))
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("equivalent atoms / elements")
    legend(figure, *axes[0].get_legend_handles_labels())
    return figure


def relation_table(items: Items, crystals: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table of the operations that relate equivalent atoms in facts of crystals."""
    stages = [f"within_{stage}" for stage in NAMES if f"within_{stage}" in crystals[0]["ks"]]
    records = [
        {
            "crystal": f"{crystal['formula']} ({crystal['symbol']})",
            "atoms": f"{group['label']}: 1 to {relation['atom'] - group['start'] + 1}",
            **{measure: max(crystal[measure][stage][relation["atom"]] for stage in stages) for measure in MEASURES},
            **relation,
        }
        for crystal in crystals
        for group in crystal["groups"]
        for relation in group["relations"]
    ]
    columns: list[Column] = [
        ("crystal", "crystal"),
        ("atoms", "atoms"),
        ("shown as", lambda relation: typeset_symbol(relation["first"] or "none found")),
        ("coordinates", lambda relation: relation["xyz"] or ""),
        ("all operations between them", lambda relation: _count_names(relation["all"])),
        *((name, measure) for measure, name in WITH_UNIT.items()),
    ]
    return items.table("operations", records, columns)


def _count_names(operations: Sequence[str]) -> str:
    """Name each of the operations once, with their number, as facts write them: "2_1 screw: -x, y+1/2, -z"."""
    counts = Counter(typeset_symbol(operation.partition(":")[0]) for operation in operations)
    return ", ".join(name if n == 1 else f"{name} ({n})" for name, n in counts.items())


def describe_as_tested(
    models: Models, table: CrystalTable, rows: Sequence[int], progress: Progress
) -> dict[int, dict[str, Any]]:
    """Return the facts of rows, each by the model of the fold that did not see it; rows of no fold are left out."""
    by_training: dict[Any, list[int]] = {}
    for row in rows:
        if (training := models.tested_by.get(str(table.ids[row]))) is not None:
            by_training.setdefault(training, []).append(row)
    found: dict[int, dict[str, Any]] = {}
    for training, members in sorted(by_training.items()):
        crystals = [table.crystal(row) for row in members]
        environments = models.describe(crystals, models.load(training), exact=True)
        for i, row in enumerate(members):
            facts = describe_crystal(crystals[i], environments, i)
            found[row] = {"id": str(table.ids[row]), "fold": training.fold, **facts}
        progress(len(found), len(rows))
    return found


def _pair_rows(table: CrystalTable, rows: NDArray[np.int64]) -> list[int]:
    """Choose crystals of three elements for the pairs of elements, of different formulas, the smallest ones first."""
    size = np.diff(table.ptr)[rows]
    chosen: list[int] = []
    seen: set[tuple[int, ...]] = set()
    for row in rows[np.lexsort((rows, size))].tolist():
        elements = tuple(np.unique(table.numbers[table.ptr[row] : table.ptr[row + 1]]).tolist())
        if len(elements) == 3 and not any(len({*elements} & {*other}) > 1 for other in seen):
            seen.add(elements)
            chosen.append(row)
        if len(chosen) == _PAIR_CRYSTALS:
            break
    return chosen


def _element_colours(labels: Iterable[str]) -> dict[str, str]:
    """Return a colour for each element among labels of orbits."""
    elements = dict.fromkeys(map(element_of, labels))
    return {element: GROUP_COLOURS[i % len(GROUP_COLOURS)] for i, element in enumerate(elements)}


def draw_bars(crystals: Sequence[Mapping[str, Any]]) -> Canvas:
    """Draw how far every atom is from the reference atom, a panel for each crystal: 2-KS as bars, angles as points."""
    columns = 2 if len(crystals) > 1 else 1
    rows = -(-len(crystals) // columns)
    figure, axes = subplots(rows, columns, width=WIDE, height=1.75 * rows + 0.1, squeeze=False)
    for axis, crystal in zip(axes.flat, crystals, strict=False):
        _draw_atoms(axis, crystal)
    for axis in list(axes.flat)[len(crystals) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel(WITH_UNIT["ks"])
    return figure


def _draw_atoms(axis: Axes, crystal: Mapping[str, Any]) -> None:
    values, atoms = np.array(crystal["ks"]["after"]), crystal["atoms"]
    n = len(atoms)
    colours = _element_colours(atoms)
    top = max(values.max(), 1e-3)
    axis.bar(range(n), values, width=0.75, color=[colours[element_of(label)] for label in atoms])
    # A zero is a value, not a missing bar.
    zeros = np.flatnonzero(values < top / 100)
    axis.plot(zeros, np.zeros(len(zeros)), "_", color=INK, markersize=5, clip_on=False)
    for group in crystal["groups"]:
        if group["n"] < 2:
            continue
        start, size = group["start"], group["n"]
        height = max(values[start : start + size].max(), 0.12 * top) * 1.12
        look: dict[str, Any] = {"fill": False, "edgecolor": MUTED, "linestyle": (0, (3, 2)), "linewidth": 0.8}
        axis.bar(start + size / 2 - 0.5, height, width=size - 0.06, **look)
        names = ", ".join(dict.fromkeys(relation["first"] for relation in group["relations"] if relation["first"]))
        # As many letters of this size as fit above the box.
        width = max(9, round(size * 60 / max(n, 8)))
        axis.annotate(
            "\n".join(textwrap.wrap(typeset_symbol(names), width)),
            (start + size / 2 - 0.5, height),
            (0, 1.5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=5.5,
            linespacing=0.95,
        )
    beside = axis.twinx()
    turned = np.array(crystal["angle"]["after"])
    beside.plot(range(n), turned, "o", color=INK, markersize=2.5, clip_on=False)
    beside.set_ylim(0, 1.55 * max(turned.max(), 1e-3))
    beside.set_ylabel(WITH_UNIT["angle"])
    axis.set_ylim(0, 1.55 * top)
    axis.set_xlim(-0.8, n - 0.2)
    axis.set_xticks(range(n), [f"{atoms[0]}\nref.", *atoms[1:]], fontsize=6 if n <= 16 else 5)
    axis.tick_params(axis="x", length=0, rotation=90 if n > 16 else 0)
    kinds = ", ".join(crystal.get("shows", []))
    name = f"{typeset_formula(crystal['formula'])}, {crystal['symbol']}"
    axis.set_title(f"{kinds}: {name}" if kinds else name)


def draw_pairs(crystals: Sequence[Mapping[str, Any]]) -> Canvas:
    """Draw how far apart elements are, one group of bars for each crystal and a panel for each measure."""
    figure, axes = subplots(2, 1, width=WIDE, height=3.6, sharex=True)
    for axis, (measure, name) in zip(axes, WITH_UNIT.items(), strict=True):
        ticks: list[int] = []
        for crystal in crystals:
            values = [pair[measure] for pair in crystal["pairs"]]
            start = ticks[-1] + 2 if ticks else 0
            places = range(start, start + len(values))
            axis.bar(places, values, width=0.75, color=MUTED)
            ticks += places
            if axis is axes[0]:
                axis.annotate(
                    typeset_formula(crystal["formula"]),
                    (float(np.mean(places)), max(values)),
                    (0, 3),
                    textcoords="offset points",
                    ha="center",
                    fontsize=7,
                    fontweight="bold",
                )
        axis.set_ylabel(name)
        axis.margins(y=0.15)
    labels = ["–".join(pair["pair"]) for crystal in crystals for pair in crystal["pairs"]]
    many = len(ticks) > 24
    axes[1].set_xticks(ticks, labels, rotation=90 if many else 40, ha="center" if many else "right")
    for axis in axes:
        axis.tick_params(axis="x", length=0)
    # A few bars need not be as wide as the page.
    axes[1].set_xlim(-0.8, max(ticks[-1] + 0.8, 10))
    return figure


def draw_densities(described: Sequence[Mapping[str, Any]]) -> Canvas:
    """Draw the densities of the components of a crystal's orbits, one panel for each description of it."""
    import seaborn as sns
    from matplotlib.lines import Line2D

    titles = [own["label"] for own in described]
    figure, axes = panels(titles, height=2.3, xlabel="component", ylabel="density")
    colours = _element_colours(described[0]["labels"])
    for axis, own in zip(axes, described, strict=True):
        components = dict(zip(own["labels"], own["components"], strict=True))
        low, high = np.quantile(own["components"], [0.002, 0.998])
        if low < high:  # else all components are equal
            margin = 0.1 * (high - low)
            axis.set_xlim(low - margin, high + margin)
            # An environment without variation has no density.
            palette = {label: colours[element_of(label)] for label in components}
            sns.kdeplot(
                {label: values for label, values in components.items() if np.ptp(values) > 10.0**-DIGITS},
                palette=palette,
                common_norm=False,
                clip=axis.get_xlim(),
                legend=False,
                linewidth=1,
                alpha=0.85,
                ax=axis,
            )
        axis.set(yticks=[], xlabel="", ylabel="")
        axis.spines["left"].set_color(GRID)
    legend(figure, [Line2D([], [], color=colour) for colour in colours.values()], list(colours))
    return figure


def draw_pearson(facts: Mapping[str, Any]) -> Canvas:
    """Draw the correlations between the atoms of a crystal."""
    labels, matrix = facts["labels"], np.array(facts["before"], dtype=float)
    side = min(5.2, 1.4 + 0.27 * len(labels))
    figure, axis = subplots(width=side + 0.6, height=side)
    lowest = min(matrix[np.isfinite(matrix)], default=0.0)
    scale = (DIVERGING, -1) if lowest < -0.05 else (SEQUENTIAL, max(0.0, np.floor(lowest * 20) / 20))
    heatmap(axis, matrix, labels, labels, "Pearson correlation", scale=(*scale, 1), square=True)
    return figure
