"""Section: maps of materials, t-SNE of the vectors from which a model predicts (paper Fig. 2e, 3b, 3c, S12-S14)."""

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
from reports.environments.description import Models, open_models, rows_of_trainings
from reports.page.items import Column, Items
from reports.page.section import Heading, Item, Section
from reports.page.style import COLOURS, MARKERS, SEQUENTIAL, SYSTEM_COLOURS, legend_beside, panels, subplots
from reports.study.study import Absent, Study
from reports.study.wording import drawable, in_brackets, typeset_formula
from sen.crystal import SYMBOLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["Maps"]

GROUPS = ("K", "Ba", "Sr", "Li", "Ca", "Al")
"""The A of the paper's A-O-X compounds, the most electropositive first; of two in a compound the first is the A."""

# Points of all maps of a report together, and at least of each.
_POINTS, _FEWEST_POINTS = 20_000, 3_000
# Points that a map takes at least.
_MIN_POINTS = 20
_PERPLEXITY = 30
# Neighbours by which a map is judged.
_NEIGHBOURS = 10
# Trustworthiness needs a matrix of all distances: 72 MB for 3,000 points.
_JUDGED = 3000
_COMPONENTS = 50
# Iterations with exaggeration, without, and between two reports of progress.
_EARLY, _LATE, _EVERY = 250, 500, 25
# Crystals described at a time; only their vectors are kept.
_CHUNK = 2048


@dataclass(frozen=True, eq=False)
class Map:
    """A t-SNE map of n vectors.

    Attributes:
        points: Coordinates in the plane, [n, 2].
        perplexity: Perplexity of the t-SNE.
        trustworthiness: Trustworthiness of the neighbourhoods in the map (Venna and Kaski 2001), from 0 to 1.
        judged: Points from which it was computed.
    """

    points: NDArray[np.float64]
    perplexity: float
    trustworthiness: float
    judged: int

    def facts(self) -> dict[str, Any]:
        """Return what goes to report.json; points are [2, n], rounded to what a figure can show."""
        return {**vars(self), "points": self.points.T.round(2).tolist()}


def make_map(vectors: NDArray[np.floating], *, seed: int = 0, progress: Progress | None = None) -> Map:
    """Map vectors [n, D] to the plane by t-SNE, started from PCA; the same seed gives the same map.

    Vectors are reduced to 50 principal components first. Trustworthiness compares the 10 nearest neighbours in the map
    with the neighbourhoods of the unreduced vectors, on at most 3,000 points drawn at random.

    Args:
        vectors: At least 20 vectors.
        seed: Seed of the t-SNE and of the draw.
        progress: Called with the number of iterations done.
    """
    from openTSNE import TSNE
    from sklearn.manifold import trustworthiness

    n = len(vectors)
    reduced = reduce(vectors, seed)

    # openTSNE counts from 1 again after the exaggeration.
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
    """Return vectors [n, D] along their first 50 principal components; unchanged where they have no more."""
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
    """Return the share of points [n, D] whose nearest neighbour has the same label, and the share by chance."""
    from sklearn.neighbors import NearestNeighbors

    names = np.array(labels)
    nearest = NearestNeighbors(n_neighbors=1).fit(points).kneighbors(return_distance=False)[:, 0]
    counts = np.unique(names, return_counts=True)[1]
    n = len(names)
    return float((names[nearest] == names).mean()), float((counts * (counts - 1)).sum() / (n * (n - 1)))


def compound_group(numbers: NDArray[Any]) -> str | None:
    """Return the A of an A-O-X compound, A-O included; None of another crystal.

    It contains oxygen, one of K, Ba, Sr, Li, Ca and Al, and at most one other element.
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
        opened = open_models(study, "material", progress)
        table = opened.table
        fold = _shared_fold([models for _, models in opened.runs])
        having = {
            result.label: (training, models)
            for result, models in opened.runs
            for training in models.trainings
            if training.fold == fold
        }
        first, its_models = next(iter(having.values()))
        rows = rows_of_trainings(its_models, table)[first]
        n_test, most = len(rows), max(_FEWEST_POINTS, _POINTS // len(opened.runs))
        if n_test > most:
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:most])
        if len(rows) < _MIN_POINTS:
            raise Absent(f"Fold {fold} has {len(rows)} test rows, and a map takes at least {_MIN_POINTS}.")
        target = table.target[rows]
        maps: list[dict[str, Any]] = []
        collapsed: list[str] = []
        a_o_x: dict[str, Any] | None = None
        ca_o_x: dict[str, Any] | None = None
        for label, (training, models) in having.items():
            material, chemistry = crystal_vectors(models, fold, table, rows, progress)
            if not _differ(material):
                collapsed.append(label)
                continue
            untrained = crystal_vectors(models, fold, table, rows, progress, trained=False)
            ca_o_x = ca_o_x or {"run": {"label": label}, **_oxides(table, rows, material, with_calcium=True)}
            if a_o_x is None and chemistry is not None and untrained[1] is not None:
                a_o_x = {"run": {"label": label}, **_oxides(table, rows, chemistry, untrained[1])}
            maps.append(
                {
                    "label": label,
                    "seed": training.seed,
                    **make_map(material, progress=progress).facts(),
                    "first_component": first_component(material),
                    "neighbour_correlation": neighbour_correlation(reduce(material), target),
                    "neighbour_correlation_untrained": neighbour_correlation(reduce(untrained[0]), target),
                }
            )
        if not maps:
            raise Absent(
                f"Every run gives all {len(rows)} test rows of fold {fold} the same vector, so there is no map of them."
            )
        return {
            "fold": fold,
            "fold_label": study.fold_label(fold),
            "n_test": n_test,
            "n": len(rows),
            "left_out": [result.label for result, _ in opened.runs if result.label not in having],
            "collapsed": collapsed,
            "problems": opened.giving("before").problems,
            "target": drawable(target),
            "target_name": study.task.target,
            "unit": study.task.unit,
            "symprec": study.symprec,
            "kind": study.task.kind,
            "system": table.crystal_system[rows].tolist(),
            "maps": maps,
            "compounds": {"a_o_x": a_o_x, "ca_o_x": ca_o_x},
        }

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """The maps by target and by crystal system, their numbers, and the maps of compounds."""
        maps, a_o_x, ca_o_x = facts["maps"], facts["compounds"]["a_o_x"], facts["compounds"]["ca_o_x"]
        property_ = facts["target_name"] + in_brackets(facts["unit"])
        items = Items(
            __name__,
            {
                **facts,
                "property": property_,
                "groups": GROUPS,
                "components": _COMPONENTS,
                "neighbours": _NEIGHBOURS,
                "most_judged": _JUDGED,
                "min_points": _MIN_POINTS,
            },
        )
        yield items.text("summary")
        yield items.figure("by-target", lambda: draw_by_target(maps, facts["target"], property_))
        columns: list[Column] = [
            ("run", "label"),
            ("points", lambda _: facts["n"]),
            ("trustworthiness", "trustworthiness"),
            ("from points", "judged"),
            ("target of neighbours, trained", "neighbour_correlation"),
            ("untrained", "neighbour_correlation_untrained"),
            ("variance on first component", "first_component"),
        ]
        yield items.table("maps", maps, columns)
        yield items.figure("by-system", lambda: draw_by_system(maps[0], facts["system"]))
        yield Heading("Oxides")
        if a_o_x is None:
            yield items.text("no_environments")
        elif a_o_x["points"] is None:
            yield items.text("no_a_o_x")
        else:
            yield items.figure("a-o-x", lambda: draw_groups(a_o_x))
        if ca_o_x["points"] is None:
            yield items.text("no_ca_o_x")
        else:
            yield items.figure("ca-o-x", lambda: draw_calcium(ca_o_x, property_))


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
) -> tuple[NDArray[np.floating], NDArray[np.floating] | None]:
    """Return two vectors of each row by the model of a fold, or by the one from which its training began.

    The material vector from which the property is predicted [n, D], and the mean over the atoms of the chemical
    environments before the block [n, environment_width]; None of another model than SEN.
    """
    training = next(training for training in models.trainings if training.fold == fold)
    model = models.load(training, trained=trained)
    material, chemistry = [], []
    for start in range(0, len(rows), _CHUNK):
        crystals = [table.crystal(row) for row in rows[start : start + _CHUNK].tolist()]
        described = models.describe(crystals, model)
        material.append(described.material)
        if "before" in described.stages:
            chemistry.append(described.mean_over_atoms(described.before))
        if progress is not None:
            progress(start + len(crystals), len(rows))
    return np.concatenate(material), np.concatenate(chemistry) if chemistry else None


def _differ(vectors: NDArray[np.floating]) -> bool:
    """Whether any two of the vectors [n, D] differ."""
    return bool(np.ptp(vectors, axis=0).any())


def _oxides(
    table: CrystalTable,
    rows: NDArray[np.int64],
    vectors: NDArray[np.floating],
    untrained: NDArray[np.floating] | None = None,
    *,
    with_calcium: bool = False,
) -> dict[str, Any]:
    """Map the A-O-X compounds among rows, or those with calcium; where there are too few, there is no map.

    The paper's Fig. 2e shows all of them by their chemistry, and Fig. 3c those with calcium by their material vectors.
    Rows are positions [n] in the table; vectors are [n, width], and `untrained` are those before training, of which the
    share of neighbours with the same A is given beside that of the vectors.
    """
    numbers = [table.numbers[table.ptr[row] : table.ptr[row + 1]] for row in rows.tolist()]
    groups = [compound_group(z) for z in numbers]
    chosen = np.flatnonzero(
        [g is not None and (20 in z or not with_calcium) for g, z in zip(groups, numbers, strict=True)]
    )
    facts: dict[str, Any] = {
        "n": len(chosen),
        "points": None,
        "group": [groups[i] for i in chosen],
        "formula": [reduced_formula(numbers[i]) for i in chosen],
        "target": drawable(table.target[rows[chosen]]),
    }
    if len(chosen) >= _MIN_POINTS and _differ(vectors[chosen]):
        facts |= make_map(vectors[chosen]).facts()
        if untrained is not None:
            facts["same_group"], facts["chance"] = same_group_share(reduce(vectors[chosen]), facts["group"])
            facts["same_group_untrained"] = same_group_share(reduce(untrained[chosen]), facts["group"])[0]
    return facts


def draw_by_target(maps: Sequence[Mapping[str, Any]], target: Sequence[float], label: str) -> Canvas:
    """Draw a map for each run, coloured by the target."""
    figure, axes = panels([facts["label"] for facts in maps], height=2.4)
    low, high = np.quantile(target, [0.02, 0.98])
    look = {"vmin": low, "vmax": high, "s": _size(len(target)), "rasterized": True}
    _draw_values(figure, axes, [facts["points"] for facts in maps], target, label, look, extend="both")
    return figure


def draw_calcium(facts: Mapping[str, Any], label: str) -> Canvas:
    """Draw the map of Ca-O-X compounds, coloured by the target, with formulas where they are few."""
    figure, axis = subplots(width=4.6, height=3.2)
    _draw_values(figure, [axis], [facts["points"]], facts["target"], label, {"s": 18})
    if facts["n"] <= 60:
        for text, *place in zip(facts["formula"], *facts["points"], strict=True):
            axis.annotate(typeset_formula(text), place, (3, 2), textcoords="offset points", fontsize=5, parse_math=True)
    return figure


def _draw_values(
    figure: Canvas,
    axes: Sequence[Axes],
    maps: Sequence[Any],
    values: Sequence[float],
    label: str,
    look: Mapping[str, Any],
    **options: Any,
) -> None:
    """Draw maps, each [2, n], coloured by values [n]; points of large values lie on top."""
    order = np.argsort(values, kind="stable")
    for axis, points in zip(axes, maps, strict=True):
        x, y = np.array(points)[:, order]
        shown = axis.scatter(x, y, c=np.array(values)[order], cmap=SEQUENTIAL, linewidths=0, **look)
        _bare(axis)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, aspect=30, label=label, **options)
    bar.outline.set_visible(False)


def draw_by_system(facts: Mapping[str, Any], system: Sequence[str]) -> Canvas:
    """Draw a map coloured by crystal system."""
    # In a random order no system hides the others.
    order = np.random.default_rng(0).permutation(len(system))
    points, names = np.array(facts["points"])[:, order], [system[i] for i in order]
    return _draw_groups(points, names, SYSTEM_COLOURS, "{} ({:,})", s=_size(len(system)), rasterized=True)


def draw_groups(facts: Mapping[str, Any]) -> Canvas:
    """Draw the map of A-O-X compounds, a colour and a marker for each A."""
    colours, markers = (dict(zip(GROUPS, looks, strict=False)) for looks in (COLOURS, MARKERS))
    groups = facts["group"]
    return _draw_groups(facts["points"], groups, colours, "{}–O–X ({})", style=groups, markers=markers, s=18)


def _draw_groups(points: Any, groups: Sequence[str], colours: Mapping[str, str], label: str, **options: Any) -> Canvas:
    """Draw a map [2, n] whose points belong to groups; labels have the name of a group and its number of points."""
    import seaborn as sns

    figure, axis = subplots(width=4.6, height=3.2)
    x, y = points
    present = [name for name in colours if name in groups]
    sns.scatterplot(x=x, y=y, hue=groups, hue_order=present, palette=colours, linewidth=0, ax=axis, **options)
    legend_beside(figure, axis, "center", [label.format(name, groups.count(name)) for name in present])
    _bare(axis)
    return figure


def _size(n: int) -> float:
    return float(np.clip(4000 / n, 1.5, 14))


def _bare(axis: Axes) -> None:
    """Leave out the scales, which mean nothing in a t-SNE map."""
    axis.set(xticks=[], yticks=[], box_aspect=0.85)
    axis.spines[:].set_visible(False)
