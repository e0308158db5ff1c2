"""Maps of materials: t-SNE of the vectors from which a model predicts (paper Fig. 2e, 3b, 3c, S12-S14)."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.machine import n_threads
from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable, reduced_formula
from reports.environments.description import (
    DRAWN,
    Environments,
    Models,
    describe_test_rows,
    draw_test_rows,
    headline,
    models_of,
    problems_of,
    rows_of_trainings,
    show_problems,
)
from reports.page.section import Figure, Heading, Item, Section, Table, Text
from reports.page.style import COLOURS, MARKERS, SEQUENTIAL, SYSTEM_COLOURS, WIDE, subplots
from reports.study.study import Absent
from reports.study.wording import drawable, in_brackets, rounded, typeset_formula
from sen.crystal import SYMBOLS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from reports.study.study import Study

__all__ = ["GROUPS", "Map", "Maps", "compound_group", "make_map", "neighbour_correlation"]

GROUPS = ("K", "Ba", "Sr", "Li", "Ca", "Al")
"""The A of the paper's A-O-X compounds, the most electropositive first: where two are in a compound, it is the A."""

# Points of all maps of a report together, and at least of each.
_POINTS, _FEWEST_POINTS = 20_000, 3_000
# Fewer points are no map.
_MIN_POINTS = 20
_PERPLEXITY = 30
# Neighbours by which a map is judged.
_NEIGHBOURS = 10
# Trustworthiness takes a matrix of all distances: 3,000 points, 72 MB.
_JUDGED = 3000
_COMPONENTS = 50
# Iterations with exaggeration, without, and between two words of progress.
_EARLY, _LATE, _EVERY = 250, 500, 25
# Crystals described at a time; only their vectors are kept.
_CHUNK = 2048


@dataclass(frozen=True, eq=False)
class Map:
    """A t-SNE map of n vectors.

    Attributes:
        points: Places in the plane, [n, 2].
        perplexity: Of the t-SNE.
        trustworthiness: Of the neighbourhoods in the map (Venna and Kaski 2001), from 0 to 1.
        judged: Points from which it was computed.
    """

    points: NDArray[np.float64]
    perplexity: float
    trustworthiness: float
    judged: int


def make_map(vectors: NDArray[np.floating], *, seed: int = 0, progress: Progress | None = None) -> Map:
    """Map vectors [n, D] to the plane by t-SNE, from a start by PCA, the same for the same seed.

    Vectors are reduced to 50 principal components first. Trustworthiness compares the 10 nearest neighbours in the map
    with the neighbourhoods of the unreduced vectors, on at most 3,000 points drawn at random.

    Args:
        vectors: At least 20 vectors.
        seed: Of the t-SNE and the draw.
        progress: Told how many iterations are done.
    """
    from openTSNE import TSNE
    from sklearn.manifold import trustworthiness

    n = len(vectors)
    reduced = reduce(vectors, seed)

    # Iterations are counted anew after the exaggeration.
    steps = itertools.count(_EVERY, _EVERY)

    def report(_iteration: int, _error: float, _embedding: object) -> None:
        if progress is not None:
            progress(min(next(steps), _EARLY + _LATE), _EARLY + _LATE)

    perplexity = min(_PERPLEXITY, (n - 1) / 3)
    tsne = TSNE(
        perplexity=perplexity,
        initialization="pca",
        random_state=seed,
        n_jobs=n_threads(),
        early_exaggeration_iter=_EARLY,
        n_iter=_LATE,
        callbacks=report,
        callbacks_every_iters=_EVERY,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        points = np.asarray(tsne.fit(reduced))
    judged = np.arange(n) if n <= _JUDGED else np.sort(np.random.default_rng(seed).permutation(n)[:_JUDGED])
    value = trustworthiness(vectors[judged], points[judged], n_neighbors=min(_NEIGHBOURS, (len(judged) - 1) // 2))
    return Map(points, perplexity, float(value), len(judged))


def reduce(vectors: NDArray[np.floating], seed: int = 0) -> NDArray[np.float64]:
    """Return vectors [n, D] along their first 50 principal components; as they are where they have no more."""
    from sklearn.decomposition import PCA

    reduced: NDArray[np.float64] = np.asarray(vectors, dtype=np.float64)
    if min(vectors.shape) > _COMPONENTS:
        reduced = PCA(_COMPONENTS, svd_solver="randomized", random_state=seed).fit_transform(reduced)
    return reduced


def neighbour_correlation(points: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Return the rank correlation of the target with its mean over the 10 nearest points [n, D]; NaN if constant."""
    from scipy.stats import spearmanr
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(points) - 1)).fit(points)
    around = target[search.kneighbors(return_distance=False)].mean(axis=1)
    if np.ptp(target) == 0 or np.ptp(around) == 0:
        return float("nan")
    return float(spearmanr(target, around).statistic)


def first_component(vectors: NDArray[np.floating]) -> float:
    """Return the share of the variance of vectors [n, D] that lies along their first principal component."""
    centred = np.asarray(vectors, dtype=np.float64) - vectors.mean(axis=0)
    total = float((centred**2).sum())
    return float(np.linalg.norm(centred, ord=2) ** 2 / total) if total else float("nan")


def same_group_share(points: NDArray[np.float64], labels: Sequence[str]) -> tuple[float, float]:
    """Return the share of points [n, D] whose nearest neighbour has the same label, and what chance would give."""
    from sklearn.neighbors import NearestNeighbors

    names = np.array(labels)
    nearest = NearestNeighbors(n_neighbors=1).fit(points).kneighbors(return_distance=False)[:, 0]
    counts = np.unique(names, return_counts=True)[1]
    n = len(names)
    return float((names[nearest] == names).mean()), float((counts * (counts - 1)).sum() / (n * (n - 1)))


def compound_group(numbers: NDArray[Any]) -> str | None:
    """Return the A of an A-O-X compound, A-O included; None of another crystal.

    It has oxygen, one of K, Ba, Sr, Li, Ca and Al, and at most one element beside.
    """
    elements = {SYMBOLS[z - 1] for z in np.unique(numbers).tolist()}
    if "O" not in elements or not 2 <= len(elements) <= 3:
        return None
    return next((symbol for symbol in GROUPS if symbol in elements), None)


class Maps(Section):
    """t-SNE maps of the material vectors of every run, and of groups of oxides."""

    name: ClassVar[str] = "maps"
    title: ClassVar[str] = "Maps of the materials"
    place: ClassVar[int] = 620

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Map the test rows of one fold, which one model of each run did not see."""
        headline(study)
        table = study.crystals(progress)
        found = models_of(study)
        fold = _shared_fold([models for _, models in found])
        maps: list[dict[str, Any]] = []
        left_out, collapsed = [], []
        rows: NDArray[np.int64] | None = None
        n_test = 0
        compounds: dict[str, Any] | None = None
        for result, models in found:
            training = next((training for training in models.trainings if training.fold == fold), None)
            if training is None:
                left_out.append(result.label)
                continue
            if rows is None:
                rows = rows_of_trainings(models, table)[training]
                n_test = len(rows)
                most = max(_FEWEST_POINTS, _POINTS // len(found))
                if n_test > most:
                    rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
                if len(rows) < _MIN_POINTS:
                    raise Absent(f"Fold {fold} has {len(rows)} test rows, and a map takes at least {_MIN_POINTS}.")
            material, chemistry = crystal_vectors(models, training.fold, table, rows, progress)
            if not _differ(material):
                collapsed.append(result.label)
                continue
            untrained = crystal_vectors(models, training.fold, table, rows, progress, trained=False)
            if compounds is None:
                compounds = _compounds(table, rows, chemistry, material, untrained[1])
            made = make_map(material, progress=progress)
            maps.append(
                {
                    "label": result.label,
                    "seed": training.seed,
                    **_map_facts(made),
                    "first_component": first_component(material),
                    "neighbour_correlation": neighbour_correlation(reduce(material), table.target[rows]),
                    "neighbour_correlation_untrained": neighbour_correlation(reduce(untrained[0]), table.target[rows]),
                }
            )
        assert rows is not None
        if not maps:
            raise Absent(
                f"Every run gives all {len(rows)} test rows of fold {fold} the same vector, so that there is no map of "
                "them."
            )
        return {
            "fold": fold,
            "n_test": n_test,
            "n": len(rows),
            "left_out": left_out,
            "collapsed": collapsed,
            "problems": problems_of(study),
            "target": drawable(table.target[rows]),
            "target_name": study.task.target,
            "unit": study.task.unit,
            "kind": study.task.kind,
            "system": table.crystal_system[rows].tolist(),
            "maps": maps,
            "compounds": compounds,
        }

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """The maps by target and by crystal system, their numbers, and the maps of compounds."""
        maps = facts["maps"]
        first = maps[0]
        drawn = "all" if facts["n"] == facts["n_test"] else f"{facts['n']:,} of"
        rows = f"{drawn} {facts['n_test']:,} test rows of fold {facts['fold']}"
        yield Text(
            f"A map shows {rows} by the vectors from which the property is predicted. Only one fold can stand in one "
            "map: each fold has a model of its own, and vectors of different models cannot be compared. t-SNE keeps "
            "neighbourhoods; sizes of clusters and distances between them mean nothing. An order by target or by "
            "element is news only where the untrained model lacks it: numbers of both stand under the figure."
            + (
                f" Without a model of this fold, and left out: {', '.join(facts['left_out'])}."
                if facts["left_out"]
                else ""
            )
            + (
                f" Left out, because it gives all these rows the same vector: {', '.join(facts['collapsed'])}."
                if facts["collapsed"]
                else ""
            )
        )
        yield from show_problems(facts["problems"])
        method = (
            f"openTSNE, perplexity {first['perplexity']:.0f}, started from PCA, seed 0, after reduction to "
            f"{_COMPONENTS} principal components (van der Maaten and Hinton 2008; Poličar et al. 2024, "
            "10.18637/jss.v109.i03)."
        )
        label = facts["target_name"] + in_brackets(facts["unit"])
        yield Figure(
            "by-target",
            lambda: draw_by_target(maps, facts["target"], label),
            f"Material vectors of each run, coloured by {label}. Colours end at the 2nd and the 98th percentile; each "
            "axis is stretched to its panel.",
            method,
            "; ".join(f"{m['label']}: trustworthiness {rounded(m['trustworthiness'], 3)}" for m in maps),
        )
        yield Table(
            "maps",
            [
                "run",
                "points",
                "trustworthiness",
                "from points",
                "target of neighbours, trained",
                "untrained",
                "variance on first component",
            ],
            [
                [
                    m["label"],
                    facts["n"],
                    m["trustworthiness"],
                    m["judged"],
                    m["neighbour_correlation"],
                    m["neighbour_correlation_untrained"],
                    m["first_component"],
                ]
                for m in maps
            ],
            "How far the maps can be trusted, how well a target follows from its neighbours, and how near the "
            "vectors are to a line: a share near 1 says that training has left little in them but the property, and "
            "a map of them is a thread.",
            f"Trustworthiness: {_NEIGHBOURS} neighbours, scikit-learn (Venna and Kaski 2001), on a random part of the "
            f"points beyond {_JUDGED:,}. Target of neighbours: Spearman's rank correlation between a row's target and "
            f"its mean over the {_NEIGHBOURS} nearest other rows, by the vectors and not by the map; untrained: by "
            "the vectors of the model from which training began. First component: share of the variance.",
        )
        yield Figure(
            "by-system",
            lambda: draw_by_system(first, facts["system"]),
            f"The map of {first['label']}, coloured by crystal system.",
            f"{method} Space groups by moyopy, 0.01 Å.",
            f"Scatter of {facts['n']} points in the colours of the crystal systems.",
        )
        yield Heading("Oxides")
        yield from _show_compounds(facts, first["label"], label)


def _show_compounds(facts: Mapping[str, Any], run: str, target: str) -> Iterable[Item]:
    compounds = facts["compounds"]
    a_o_x, calcium = compounds["a_o_x"], compounds["ca_o_x"]
    names = ", ".join(GROUPS)
    if a_o_x["points"] is None:
        yield Text(
            f"Fold {facts['fold']} has {a_o_x['n']} test rows of the form A-O-X (A one of {names}); a map takes at "
            f"least {_MIN_POINTS} whose vectors differ. The paper's Fig. 2e has 408."
        )
    else:
        share, chance = a_o_x["same_group"], a_o_x["chance"]
        counts = ", ".join(f"{a_o_x['group'].count(name)} {name}" for name in GROUPS if name in a_o_x["group"])
        yield Figure(
            "a-o-x",
            lambda: draw_groups(a_o_x),
            f"{a_o_x['n']} binary and ternary oxides A-O-X ({counts}) of fold {facts['fold']} by {run}. The nearest "
            f"neighbour has the same A for {100 * share:.0f} % of them, before training for "
            f"{100 * a_o_x['same_group_untrained']:.0f} %, by chance for {100 * chance:.0f} %. "
            f"Trustworthiness {rounded(a_o_x['trustworthiness'], 3)}.",
            f"t-SNE of these rows alone, perplexity {a_o_x['perplexity']:.0f}, by the mean over the atoms of the "
            "environments before the block (paper Fig. 2e). Where a compound holds two of these elements, A is the "
            "more electropositive one.",
            "Scatter of the oxides, a colour and a marker for each A.",
        )
    if calcium["points"] is None:
        yield Text(
            f"Fold {facts['fold']} has {calcium['n']} test rows of the form Ca-O-X; a map takes at least {_MIN_POINTS} "
            "whose vectors differ (paper Fig. 3c)."
        )
    else:
        yield Figure(
            "ca-o-x",
            lambda: draw_calcium(calcium, target),
            f"{calcium['n']} oxides Ca-O-X of fold {facts['fold']} by {run}, coloured by {target}. Trustworthiness "
            f"{rounded(calcium['trustworthiness'], 3)}.",
            f"t-SNE of the material vectors of these rows alone, perplexity {calcium['perplexity']:.0f}. The paper's "
            "Fig. 3c reads four clusters by spin polarisation and hybridisation; these are not in the data, so none "
            "are marked.",
            "Scatter of the calcium oxides with their formulas.",
        )


def _shared_fold(runs: Sequence[Models]) -> int:
    """Return the lowest fold that all runs have finished, or else the lowest of the first."""
    folds = [{training.fold for training in models.trainings} for models in runs]
    return min(set.intersection(*folds) or folds[0])


def crystal_vectors(
    models: Models,
    fold: int,
    table: CrystalTable,
    rows: NDArray[np.int64],
    progress: Progress | None = None,
    *,
    trained: bool = True,
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return two vectors of each row by the model of a fold, or by the one from which its training began.

    The material vector from which the property is predicted [n, D], and the mean over the atoms of the chemical
    environments before the block [n, 192].
    """
    training = next(training for training in models.trainings if training.fold == fold)
    drawn, _ = draw_test_rows(models, table, at_most=DRAWN)
    if np.isin(rows, drawn.get(training, [])).all():
        # Other sections look at these rows as well.
        found = describe_test_rows(models, table, trained=trained, at_most=DRAWN, folds=[fold], progress=progress)
        place = np.searchsorted(found.rows, rows)
        return found.environments.material[place], _means(found.environments)[place]
    model = models.load(training, trained=trained)
    material, chemistry = [], []
    for start in range(0, len(rows), _CHUNK):
        crystals = [table.crystal(row) for row in rows[start : start + _CHUNK].tolist()]
        described = models.describe(crystals, model)
        material.append(described.material)
        chemistry.append(_means(described))
        if progress is not None:
            progress(start + len(crystals), len(rows))
    return np.concatenate(material), np.concatenate(chemistry)


def _means(environments: Environments) -> NDArray[np.floating]:
    """Mean over the atoms of each crystal of the environments before the block, [M, 192]."""
    weight = environments.multiplicity[:, None].astype(environments.before.dtype)
    first = environments.node_ptr[:-1]
    means: NDArray[np.floating] = np.add.reduceat(weight * environments.before, first)
    return means / np.add.reduceat(weight, first)


def _differ(vectors: NDArray[np.floating]) -> bool:
    """Whether any two of the vectors [n, D] differ."""
    return bool(np.ptp(vectors, axis=0).any())


def _map_facts(made: Map) -> dict[str, Any]:
    return {
        "points": made.points.T.round(2).tolist(),
        "perplexity": made.perplexity,
        "trustworthiness": made.trustworthiness,
        "judged": made.judged,
    }


def _compounds(
    table: CrystalTable,
    rows: NDArray[np.int64],
    chemistry: NDArray[np.floating],
    material: NDArray[np.floating],
    untrained: NDArray[np.floating],
) -> dict[str, Any]:
    """Map the A-O-X compounds among rows by their chemistry, and those with calcium by their material vectors.

    These are the stages that the paper's Fig. 2e and 3c show. Where there are too few, there is no map.

    Args:
        table: The crystals.
        rows: Positions of the rows in it, [n].
        chemistry: Their chemistry after training, [n, width].
        material: Their material vectors after training, [n, width].
        untrained: Their chemistry before training, [n, width].
    """
    numbers = [table.numbers[table.ptr[row] : table.ptr[row + 1]] for row in rows.tolist()]
    groups = [compound_group(z) for z in numbers]
    oxide = np.flatnonzero([group is not None for group in groups])
    calcium = np.flatnonzero([g is not None and 20 in z for g, z in zip(groups, numbers, strict=True)])
    found: dict[str, Any] = {}
    for name, chosen, vectors in (("a_o_x", oxide, chemistry), ("ca_o_x", calcium, material)):
        facts: dict[str, Any] = {
            "n": len(chosen),
            "points": None,
            "group": [groups[i] for i in chosen],
            "formula": [reduced_formula(numbers[i]) for i in chosen],
            "target": drawable(table.target[rows[chosen]]),
        }
        if len(chosen) >= _MIN_POINTS and _differ(vectors[chosen]):
            made = make_map(vectors[chosen])
            facts |= _map_facts(made)
            if name == "a_o_x":
                facts["same_group"], facts["chance"] = same_group_share(reduce(vectors[chosen]), facts["group"])
                facts["same_group_untrained"] = same_group_share(reduce(untrained[chosen]), facts["group"])[0]
        found[name] = facts
    return found


def draw_by_target(maps: Sequence[Mapping[str, Any]], target: Sequence[float], label: str) -> Canvas:
    """Draw a map for each run, coloured by the target."""
    columns = min(3, len(maps))
    rows = -(-len(maps) // columns)
    width = WIDE if columns > 1 else 4.2
    figure, axes = subplots(
        rows, columns, width=width, height=(2.3 if columns > 1 else 3.2) * rows + 0.2, squeeze=False
    )
    low, high = np.quantile(target, [0.02, 0.98])
    order = np.argsort(target, kind="stable")
    shown = []
    for axis, facts in zip(axes.flat, maps, strict=False):
        x, y = (np.array(values)[order] for values in facts["points"])
        look = {"s": _size(len(x)), "linewidths": 0, "rasterized": True}
        colour = {"c": np.array(target)[order], "cmap": SEQUENTIAL, "vmin": low, "vmax": high}
        shown.append(axis.scatter(x, y, **colour, **look))
        axis.set_title(facts["label"])
        _bare(axis)
    for axis in list(axes.flat)[len(maps) :]:
        axis.set_axis_off()
    bar = figure.colorbar(shown[0], ax=axes, shrink=0.8, aspect=30, extend="both")
    bar.set_label(label)
    bar.outline.set_visible(False)
    return figure


def draw_by_system(facts: Mapping[str, Any], system: Sequence[str]) -> Canvas:
    """Draw a map coloured by crystal system."""
    figure, axis = subplots(width=4.6, height=3.2)
    x, y = map(np.array, facts["points"])
    names = np.array(system)
    # In a random order no system hides the others.
    order = np.random.default_rng(0).permutation(len(x))
    colours = [SYSTEM_COLOURS[name] for name in names[order]]
    axis.scatter(x[order], y[order], c=colours, s=_size(len(x)), linewidths=0, rasterized=True)
    for name, colour in SYSTEM_COLOURS.items():
        if n := int((names == name).sum()):
            axis.scatter([], [], color=colour, s=14, label=f"{name} ({n:,})")
    figure.legend(loc="outside right center")
    _bare(axis)
    return figure


def draw_groups(facts: Mapping[str, Any]) -> Canvas:
    """Draw the map of A-O-X compounds, a colour and a marker for each A."""
    figure, axis = subplots(width=4.6, height=3.2)
    x, y = map(np.array, facts["points"])
    groups = np.array(facts["group"])
    for i, name in enumerate(GROUPS):
        chosen = groups == name
        if chosen.any():
            label = f"{name}–O–X ({chosen.sum()})"
            axis.scatter(x[chosen], y[chosen], color=COLOURS[i], marker=MARKERS[i], s=18, linewidths=0, label=label)
    figure.legend(loc="outside right center")
    _bare(axis)
    return figure


def draw_calcium(facts: Mapping[str, Any], label: str) -> Canvas:
    """Draw the map of Ca-O-X compounds, coloured by the target, with formulas where they are few."""
    figure, axis = subplots(width=4.6, height=3.2)
    x, y = facts["points"]
    scatter = axis.scatter(x, y, c=facts["target"], cmap=SEQUENTIAL, s=18, linewidths=0)
    if facts["n"] <= 60:
        for text, *place in zip(facts["formula"], x, y, strict=True):
            axis.annotate(typeset_formula(text), place, (3, 2), textcoords="offset points", fontsize=5, parse_math=True)
    bar = figure.colorbar(scatter, ax=axis, shrink=0.8)
    bar.set_label(label)
    bar.outline.set_visible(False)
    _bare(axis)
    return figure


def _size(n: int) -> float:
    return float(np.clip(4000 / n, 1.5, 14))


def _bare(axis: Any) -> None:
    """Leave out what means nothing in a t-SNE map: scales."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.set_box_aspect(0.85)
