"""Section: do equivalent atoms look alike, and inequivalent ones different? (paper Fig. 2a, 2b, 3a, 3d-g)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchmarks.base.workers import Progress
from reports.environments.description import headline, models_of, problems_of, rows_of_trainings, show_problems
from reports.environments.operations import KINDS
from reports.environments.two_ks import DIGITS, choose_crystals, choose_example, describe_crystal
from reports.page.section import Figure, Heading, Item, Section, Table, Text, Value
from reports.page.style import COLOURS, DIVERGING, GRID, INK, MUTED, WIDE, subplots
from reports.study.study import Absent
from reports.study.wording import typeset_formula, typeset_group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

    from benchmarks.data.crystal_table import CrystalTable
    from reports.environments.description import Models
    from reports.study.study import Study

__all__ = [
    "Equivalence",
    "draw_bars",
    "draw_densities",
    "draw_pairs",
    "draw_pearson",
    "relation_table",
]

# Names above the boxes of a figure.
_SHORT = dict(zip(KINDS, ("transl.", "inv.", "mirror", "rot.", "rotoinv.", "screw", "glide"), strict=True))
# Crystals whose pairs of elements are shown, as many as in the paper.
_PAIR_CRYSTALS = 6

METHOD = (
    "Two-sample Kolmogorov-Smirnov statistic between the components of two atoms' environments, rounded to "
    f"1e-{DIGITS} (scipy.stats.ks_2samp, statistic only). Components of one environment are not independent samples, "
    "so no p-value is claimed. Computed in float64 on test rows, each by the model of the fold that did not see it."
)


class Equivalence(Section):
    """2-KS of atoms against a reference atom, pairs of elements, densities, correlation of a crystal's atoms."""

    name: ClassVar[str] = "equivalence"
    title: ClassVar[str] = "Equivalent and inequivalent atoms"
    place: ClassVar[int] = 600

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Describe chosen crystals by the models of the headline run, and one of them by those of every run."""
        headline(study)
        table = study.crystals(progress)
        found = models_of(study)
        result, models = found[0]
        folds = rows_of_trainings(models, table)
        fold_of = {int(row): training for training, rows in folds.items() for row in rows}
        rows = np.array(sorted(fold_of), dtype=np.int64)
        # Crystals that every run was tested on, so that blocks are compared on the same ones.
        shared = rows[[all(str(table.ids[row]) in other.tested_by for _, other in found) for row in rows]]
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
        described = _describe(models, table, wanted, progress)
        facts: dict[str, Any] = {
            "run": {"label": result.label},
            "seed": models.trainings[0].seed,
            "folds": [training.fold for training in models.trainings],
            "crystals": [
                {"shows": kinds, **_only(described[row], "element_pairs", "densities", "pearson", "orbit_matrix")}
                for row, kinds in zip(choice.rows, choice.shows, strict=True)
            ],
            "absent": choice.absent,
            "looked_at": choice.looked_at,
            "n_runs": len(found) if len(shared) else 1,
            "n_candidates": len(candidates),
            "element_pairs": [
                {**_names(described[row]), "pairs": described[row]["element_pairs"]["before"]} for row in pairs
            ],
            "example": None,
            "problems": problems_of(study),
        }
        if example is not None:
            facts["example"] = {
                **_names(described[example]),
                "pearson": described[example]["pearson"],
                "orbits": described[example]["orbits"],
                "blocks": [],
            }
            for other, its_models in found:
                own = described if its_models is models else _describe(its_models, table, [example], progress)
                if example not in own:
                    crystal = facts["example"]["id"]
                    facts["problems"].append(
                        f"{other.label} is left out of the densities: {crystal} is no test row of it."
                    )
                    continue
                facts["example"]["blocks"].append(
                    {
                        "label": other.label,
                        "fold": own[example]["fold"],
                        **own[example]["densities"]["after"],
                        "orbit_matrix": own[example]["orbit_matrix"]["after"],
                    }
                )
        return facts

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """Bars, operations, pairs of elements, correlation of atoms, densities."""
        label = facts["run"]["label"]
        yield Text(
            "For a block that is exactly invariant, equivalent atoms have equal environments by construction: zeros "
            "inside a box below confirm the implementation, and are no achievement of training. What a block can be "
            "judged by is how different it makes inequivalent atoms; the separation score in the next section says so "
            "for many crystals. Which operation relates two atoms is read off the space group, not off the model."
        )
        yield from show_problems(facts["problems"])
        if facts["crystals"]:
            yield from _bars_and_operations(facts, label)
        if facts["element_pairs"]:
            names = ", ".join(crystal["formula"] for crystal in facts["element_pairs"])
            yield Heading("Between elements")
            yield Figure(
                "element-pairs",
                lambda: draw_pairs(facts["element_pairs"]),
                f"2-KS between the elements of {len(facts['element_pairs'])} crystals, before the block ({label}). The "
                "paper's Fig. 2b reads large values as hybridised orbitals; that takes densities of states, which are "
                "not computed here, so the values are shown and not interpreted.",
                f"Median over pairs of symmetry orbits. {METHOD}",
                f"Bars of the 2-KS statistic of each pair of elements in {names}.",
            )
        example = facts["example"]
        if example is None:
            yield Text(
                "No test crystal has both equivalent atoms and inequivalent atoms of one element, so that there is no "
                "example to show densities of."
            )
            return
        yield Heading(f"One crystal in detail: {example['formula']}")
        yield Figure(
            "densities",
            lambda: draw_densities(example["blocks"]),
            f"Density of the components of each atom's environment after the block in {_title(example)}; one line for "
            "each symmetry orbit, in the colour of its element. Lines of one colour that lie apart are inequivalent "
            "atoms that the block tells apart.",
            "Gaussian kernel density of the components (Scott's rule); each panel has its own scale, because blocks "
            "differ in trainings and width (paper Fig. 3d-g). Equivalent atoms coincide by construction.",
            f"Density curves of {len(example['orbits'])} orbits, one panel for each of {len(example['blocks'])} runs.",
        )
        yield Figure(
            "pearson",
            lambda: draw_pearson(example["pearson"]),
            f"Pearson correlation between the environments of the {len(example['pearson']['labels'])} atoms of the "
            f"primitive cell of {_title(example)}, before the block ({label}).",
            "Correlation of the components of x^c (paper Eq. 7 and Fig. 2a), atoms sorted by symmetry orbit.",
            "Heatmap of correlations; equivalent atoms form squares of ones along the diagonal.",
        )


def _bars_and_operations(facts: Mapping[str, Any], label: str) -> Iterable[Item]:
    shown = [kind for kind in KINDS if kind not in facts["absent"]]
    yield Figure(
        "atoms-against-a-reference",
        lambda: draw_bars(facts["crystals"]),
        f"2-KS of every atom of the conventional cell against a reference atom (ref.), after the block ({label}, seed "
        f"{facts['seed']}). Dashed boxes hold equivalent atoms, named by the operations that map their first atom onto "
        f"the others. Shown: {', '.join(shown)}. " + _absent_sentence(facts),
        f"Of all operations that map one atom onto another, the first in the order {', '.join(KINDS)} names the "
        f"relation. {METHOD}",
        "Bars of the 2-KS statistic in " + "; ".join(map(_title, facts["crystals"])) + ".",
    )
    yield relation_table(facts["crystals"], f"What relates the equivalent atoms of these crystals ({label}).")


def _absent_sentence(facts: Mapping[str, Any]) -> str:
    whose = "test crystals" if facts["n_runs"] == 1 else "test crystals that all runs share"
    looked = f"{facts['looked_at']:,} of {facts['n_candidates']:,} {whose}, the smallest first"
    if not facts["absent"]:
        return f"The crystals were chosen by rule among {looked}."
    return f"Absent, because no crystal looked at shows it ({looked}): {', '.join(facts['absent'])}."


def relation_table(crystals: Sequence[Mapping[str, Any]], caption: str) -> Table:
    """Return the table of the operations that relate equivalent atoms in facts of crystals."""
    rows: list[list[Value]] = []
    for crystal in crystals:
        for group in crystal["groups"]:
            for relation in group["relations"]:
                kinds = [_kind(text) for text in relation["all"]]
                counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in KINDS if kind in kinds)
                rows.append(
                    [
                        f"{crystal['formula']} ({crystal['symbol']})",
                        f"{group['label']}: 1 to {relation['atom'] - group['start'] + 1}",
                        relation["first"] or "none found",
                        relation["xyz"] or "",
                        counts,
                        crystal["ks"]["within_before"][relation["atom"]],
                        crystal["ks"]["within_after"][relation["atom"]],
                    ]
                )
    return Table(
        "operations",
        ["crystal", "atoms", "shown as", "coordinates", "all operations between them", "2-KS before", "2-KS after"],
        rows,
        caption,
        "Operations of the space group on the conventional cell, by moyopy; screw and glide where the intrinsic "
        "translation vanishes for no lattice shift. The JSON file beside this page lists every operation.",
    )


def _kind(text: str) -> str:
    """Kind of an operation as facts write it: "2-fold screw: -x, y+1/2, -z"."""
    return next(kind for kind in ("rotoinversion", *KINDS) if kind in text.partition(":")[0])


def _only(described: Mapping[str, Any], *without: str) -> dict[str, Any]:
    return {key: value for key, value in described.items() if key not in without}


def _names(described: Mapping[str, Any]) -> dict[str, Any]:
    return {key: described[key] for key in ("id", "fold", "formula", "symbol")}


def _title(crystal: Mapping[str, Any]) -> str:
    return f"{crystal['formula']} ({crystal['symbol']}, {crystal['id']})"


def _describe(
    models: Models, table: CrystalTable, rows: Sequence[int], progress: Progress
) -> dict[int, dict[str, Any]]:
    """Describe rows, each by the model of the fold that did not see it; without a fold, by none."""
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
    elements = list(dict.fromkeys(label.rstrip("0123456789") for label in labels))
    return {element: COLOURS[i % len(COLOURS)] for i, element in enumerate(elements)}


def draw_bars(crystals: Sequence[Mapping[str, Any]]) -> Canvas:
    """Draw the 2-KS of every atom against the reference atom, one panel for each crystal."""
    columns = 2 if len(crystals) > 1 else 1
    rows = -(-len(crystals) // columns)
    figure, axes = subplots(rows, columns, width=WIDE, height=1.75 * rows + 0.1, squeeze=False)
    for axis, crystal in zip(axes.flat, crystals, strict=False):
        _draw_atoms(axis, crystal)
    for axis in list(axes.flat)[len(crystals) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("2-KS")
    return figure


def _draw_atoms(axis: Axes, crystal: Mapping[str, Any]) -> None:
    from matplotlib.patches import Rectangle

    values = np.array(crystal["ks"]["after"])
    colours = _element_colours(crystal["atoms"])
    top = max(values.max(), 1e-3)
    axis.bar(
        range(len(values)),
        values,
        width=0.75,
        color=[colours[label.rstrip("0123456789")] for label in crystal["atoms"]],
    )
    # A zero is a value, not a missing bar.
    zeros = np.flatnonzero(values < top / 100)
    axis.plot(zeros, np.zeros(len(zeros)), "_", color=INK, markersize=5, clip_on=False)
    for group in crystal["groups"]:
        if group["n"] < 2:
            continue
        start, n = group["start"], group["n"]
        height = max(values[start : start + n].max(), 0.12 * top) * 1.12
        box = Rectangle(
            (start - 0.47, 0), n - 0.06, height, fill=False, edgecolor=MUTED, linestyle=(0, (3, 2)), linewidth=0.8
        )
        axis.add_patch(box)
        names = ", ".join(_SHORT[kind] for kind in group["kinds"])
        # As wide as the box has room for at this size of letters.
        width = max(9, round(n * 60 / max(len(values), 8)))
        axis.annotate(
            "\n".join(textwrap.wrap(names, width)),
            (start + n / 2 - 0.5, height),
            (0, 1.5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=5.5,
            linespacing=0.95,
        )
    axis.set_ylim(0, 1.55 * top)
    axis.set_xlim(-0.8, len(values) - 0.2)
    ticks = [f"{crystal['atoms'][0]}\nref.", *crystal["atoms"][1:]]
    axis.set_xticks(range(len(values)), ticks, fontsize=6 if len(values) <= 16 else 5)
    if len(values) > 16:
        axis.tick_params(axis="x", rotation=90)
    axis.tick_params(axis="x", length=0)
    kinds = ", ".join(crystal.get("shows", []))
    name = f"{typeset_formula(crystal['formula'])}, {typeset_group(crystal['symbol'])}"
    axis.set_title(f"{kinds}: {name}" if kinds else name, parse_math=True)


def draw_pairs(crystals: Sequence[Mapping[str, Any]]) -> Canvas:
    """Draw the 2-KS between elements, one group of bars for each crystal."""
    figure, axis = subplots(width=WIDE, height=2.4)
    place, ticks, labels = 0.0, [], []
    for i, crystal in enumerate(crystals):
        values = [pair["ks"] for pair in crystal["pairs"]]
        places = place + np.arange(len(values))
        axis.bar(places, values, width=0.75, color=COLOURS[i % len(COLOURS)])
        axis.annotate(
            typeset_formula(crystal["formula"]),
            (float(places.mean()), max(values)),
            (0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            fontweight="bold",
            parse_math=True,
        )
        ticks += places.tolist()
        labels += ["–".join(pair["pair"]) for pair in crystal["pairs"]]
        place = places[-1] + 2
    axis.set_xticks(ticks, labels, rotation=90 if len(ticks) > 24 else 40, ha="right" if len(ticks) <= 24 else "center")
    axis.tick_params(axis="x", length=0)
    axis.set_ylabel("2-KS between elements")
    # A few bars need not be as wide as the page.
    axis.set_xlim(-0.8, max(ticks[-1] + 0.8, 10))
    axis.margins(y=0.12)
    return figure


def draw_densities(blocks: Sequence[Mapping[str, Any]]) -> Canvas:
    """Draw the densities of a crystal's orbits, one panel for each block."""
    from matplotlib.lines import Line2D

    from reports.page.style import legend

    columns = min(3, len(blocks))
    rows = -(-len(blocks) // columns)
    figure, axes = subplots(rows, columns, width=WIDE, height=1.9 * rows + 0.4, squeeze=False)
    colours = _element_colours(blocks[0]["labels"])
    for axis, block in zip(axes.flat, blocks, strict=False):
        grid = np.array(block["grid"])
        for label, density in zip(block["labels"], block["density"], strict=True):
            if density is not None:
                colour = colours[label.rstrip("0123456789")]
                axis.plot(grid, density, color=colour, linewidth=1, alpha=0.85)
        # A narrow peak would press all else to the ground.
        peaks = sorted(max(density) for density in block["density"] if density is not None)
        if peaks:
            axis.set_ylim(0, 1.08 * peaks[-1])
        if grid[0] < grid[-1]:  # else all components are equal
            axis.set_xlim(grid[0], grid[-1])
        axis.set_title(block["label"])
        axis.set_yticks([])
        axis.spines["left"].set_color(GRID)
        axis.set_xlabel("component")
    for axis in list(axes.flat)[len(blocks) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("density")
    handles = [Line2D([], [], color=colour) for colour in colours.values()]
    legend(figure, handles, list(colours))
    return figure


def draw_pearson(facts: Mapping[str, Any]) -> Canvas:
    """Draw the correlations between the atoms of a crystal, with their numbers where they can be read."""
    labels = facts["labels"]
    matrix = np.array([[np.nan if value is None else value for value in row] for row in facts["before"]])
    side = min(5.2, 1.4 + 0.27 * len(labels))
    figure, axis = subplots(width=side + 0.6, height=side)
    known = matrix[np.isfinite(matrix)]
    low = float(known.min()) if len(known) else 0.0
    image = (
        axis.imshow(matrix, cmap=DIVERGING, vmin=-1, vmax=1)
        if low < -0.05
        else axis.imshow(matrix, cmap="viridis", vmin=max(0.0, np.floor(low * 20) / 20), vmax=1)
    )
    size = 7 if len(labels) <= 24 else 4
    axis.set_xticks(range(len(labels)), labels, rotation=90, fontsize=size)
    axis.set_yticks(range(len(labels)), labels, fontsize=size)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axis, shrink=0.8)
    bar.set_label("Pearson correlation")
    bar.outline.set_visible(False)
    return figure
