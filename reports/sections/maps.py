"""Section: maps of materials, t-SNE of the vectors from which a model predicts (paper Fig. 2e, 3b, 3c, S12-S14)."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.machine import n_threads
from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable, reduced_formula
from benchmarks.results.store import Training
from reports.environments.description import Models, open_models, rows_of_trainings, shared_fold
from reports.page.items import Column, Items
from reports.page.section import Heading, Item, Section, Table
from reports.page.style import (
    GROUP_COLOURS,
    INK,
    MARKERS,
    SEQUENTIAL,
    SYSTEM_COLOURS,
    label_points,
    legend,
    legend_beside,
    panels,
    subplots,
)
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
# Points of the map of all rows, as many as the paper's has.
_POINTS_OF_ALL = 6027
# Clusters of Ca-O-X in the paper, and the numbers of clusters whose silhouettes stand beside theirs.
_CLUSTERS, _TRIED = 4, range(2, 9)
# Width of the edge of a test row among the other rows.
_EDGE = 0.8
_OXYGEN, _CALCIUM = 8, 20
# The first space group of the point group m-3m, the last of all.
_FULL_CUBIC = 221
# Elements X of a cluster that are named.
_NAMED = 6
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


def neighbour_correlation(
    points: NDArray[np.float64], target: NDArray[np.float64], of: NDArray[np.bool_] | slice = slice(None)
) -> float:
    """Return the rank correlation of the target with its mean over the 10 nearest points [n, D]; NaN if constant.

    A mask `of` [n] chooses the points that count; their neighbours may be any.
    """
    from scipy.stats import spearmanr
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(points) - 1)).fit(points)
    around = target[search.kneighbors(return_distance=False)].mean(axis=1)
    target, around = target[of], around[of]
    if len(target) < 3 or np.ptp(target) == 0 or np.ptp(around) == 0:
        return float("nan")
    return float(spearmanr(target, around).statistic)


def first_component(vectors: NDArray[np.floating]) -> float:
    """Return the share of the variance of vectors [n, D] that lies along their first principal component."""
    centred = np.asarray(vectors, dtype=np.float64) - vectors.mean(axis=0)
    total = float((centred**2).sum())
    return float(np.linalg.norm(centred, ord=2) ** 2 / total) if total else float("nan")


def nearest_shares_group(points: NDArray[np.float64], labels: Sequence[str]) -> NDArray[np.bool_]:
    """Return of each point [n, D] whether its nearest neighbour has the same label, [n]."""
    from sklearn.neighbors import NearestNeighbors

    names = np.array(labels)
    nearest = NearestNeighbors(n_neighbors=1).fit(points).kneighbors(return_distance=False)[:, 0]
    same: NDArray[np.bool_] = names[nearest] == names
    return same


def chance_of_group(labels: Sequence[str]) -> float:
    """Return the share of points whose nearest neighbour would have the same label by chance."""
    counts = np.unique(np.array(labels), return_counts=True)[1]
    n = len(labels)
    return float((counts * (counts - 1)).sum() / (n * (n - 1)))


def find_clusters(
    vectors: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.int64], dict[int, float]]:
    """Divide vectors [n, D] into four clusters by k-means.

    Returns:
        The cluster of each, from 1 for that of the largest mean target, [n]; and the mean silhouette (Rousseeuw 1987)
        of two to eight clusters, from -1 to 1, which is highest for the number that fits best.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    labels, silhouettes = {}, {}
    for n in _TRIED:
        labels[n] = KMeans(n, n_init=10, random_state=0).fit_predict(vectors)
        silhouettes[n] = float(silhouette_score(vectors, labels[n]))
    found = labels[_CLUSTERS]
    means = [target[found == cluster].mean() for cluster in range(_CLUSTERS)]
    place = np.argsort(np.argsort(-np.array(means)))
    return place[found] + 1, silhouettes


def compound_group(numbers: NDArray[Any]) -> str | None:
    """Return the A of an A-O-X compound, A-O included; None of another crystal.

    It contains oxygen, one of K, Ba, Sr, Li, Ca and Al, and at most one other element.
    """
    elements = {SYMBOLS[z - 1] for z in np.unique(numbers).tolist()}
    if "O" not in elements or not 2 <= len(elements) <= 3:
        return None
    return next((symbol for symbol in GROUPS if symbol in elements), None)


class Maps(Section):
    """t-SNE maps of the material vectors of every run, of all rows by one model, and of groups of oxides."""

    name: ClassVar[str] = "maps"
    title: ClassVar[str] = "Maps of the materials"
    place: ClassVar[int] = 620

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Map the test rows of one fold, which one model of each run did not see; and all rows by one of the models."""
        opened = open_models(study, "material", progress)
        table = opened.table
        fold = shared_fold([models for _, models in opened.runs])
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
        of_map: tuple[str, Models, Training] | None = None
        of_sen: tuple[str, Models, Training] | None = None
        for label, (training, models) in having.items():
            material, chemistry = crystal_vectors(models, training, table, rows, progress)
            if not _differ(material):
                collapsed.append(label)
                continue
            untrained, _ = crystal_vectors(models, training, table, rows, progress, trained=False)
            of_map = of_map or (label, models, training)
            if chemistry is not None:
                of_sen = of_sen or (label, models, training)
            maps.append(
                {
                    "label": label,
                    "seed": training.seed,
                    **make_map(material, progress=progress).facts(),
                    "first_component": first_component(material),
                    "neighbour_correlation": neighbour_correlation(reduce(material), target),
                    "neighbour_correlation_untrained": neighbour_correlation(reduce(untrained), target),
                }
            )
        if of_map is None:
            raise Absent(
                f"Every run gives all {len(rows)} test rows of fold {fold} the same vector, so there is no map of them."
            )
        numbers = _numbers(table, np.arange(len(table)))
        oxides = np.array([row for row, z in enumerate(numbers) if compound_group(z)], dtype=np.int64)
        of_calcium = np.array([row for row in oxides.tolist() if _CALCIUM in numbers[row]], dtype=np.int64)
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
            "all_rows": _map_all(*of_map, table, progress),
            "compounds": {
                "a_o_x": of_sen and _map_oxides(*of_sen, table, oxides, progress),
                "ca_o_x": _map_calcium(*of_map, table, of_calcium, progress),
            },
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
        yield items.figure("all-rows", lambda: draw_all(facts["all_rows"], property_))
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
            yield _cluster_table(items, ca_o_x)


def _cluster_table(items: Items, facts: Mapping[str, Any]) -> Table:
    columns: list[Column] = [
        ("cluster", lambda cluster: str(cluster["cluster"])),
        ("n", "n"),
        ("of these tested", "n_tested"),
        (f"mean target{items.unit}", "mean"),
        ("lowest", "lowest"),
        ("highest", "highest"),
        ("point group m-3m", "full_cubic"),
        ("elements X", "elements"),
        ("crystal systems", "systems"),
    ]
    return items.table("clusters", facts["clusters"], columns, digits=3)


def crystal_vectors(
    models: Models,
    training: Training,
    table: CrystalTable,
    rows: NDArray[np.int64],
    progress: Progress | None = None,
    *,
    trained: bool = True,
) -> tuple[NDArray[np.floating], NDArray[np.floating] | None]:
    """Return two vectors of each row by the model of a training, or by the one from which it began.

    The material vector from which the property is predicted [n, D], and the mean over the atoms of the chemical
    environments before the block [n, environment_width]; None of another model than SEN.
    """
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


def _numbers(table: CrystalTable, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
    """Return the atomic numbers of the crystals at rows [n] of a table."""
    return [table.numbers[table.ptr[row] : table.ptr[row + 1]] for row in rows.tolist()]


def _tested(models: Models, training: Training, table: CrystalTable, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each row [n] is one that a training was tested on."""
    tested = set(models.run.read_predictions(training).ids)
    return np.array([str(name) in tested for name in table.ids[rows]])


def _rows_of_map(
    label: str, models: Models, training: Training, table: CrystalTable, rows: NDArray[np.int64]
) -> dict[str, Any]:
    """Return the facts of a map of rows by one model but the map itself, which is None where the rows are too few."""
    return {
        "run": {"label": label},
        "seed": training.seed,
        "n": len(rows),
        "n_trained": models.run.read_metrics(training)["rows"]["train"],
        "tested": _tested(models, training, table, rows),
        "target": drawable(table.target[rows]),
        "points": None,
    }


def _map_all(label: str, models: Models, training: Training, table: CrystalTable, progress: Progress) -> dict[str, Any]:
    """Map all rows of the data, or a random part of them, by one model."""
    rows = np.sort(np.random.default_rng(0).permutation(len(table))[:_POINTS_OF_ALL])
    facts = _rows_of_map(label, models, training, table, rows)
    vectors, _ = crystal_vectors(models, training, table, rows, progress)
    order = neighbour_correlation(reduce(vectors), table.target[rows], facts["tested"])
    return {
        **facts,
        "n_rows": len(table),
        **make_map(vectors, progress=progress).facts(),
        "neighbour_correlation_tested": order,
    }


def _map_oxides(
    label: str, models: Models, training: Training, table: CrystalTable, rows: NDArray[np.int64], progress: Progress
) -> dict[str, Any]:
    """Map the A-O-X compounds at rows [n] of all the data by their chemistry (paper Fig. 2e).

    The map is of one model. Whether the nearest neighbour of a row has the same A is judged for each row by the model
    that did not see it, and only once where several did not: unlike vectors, such answers of several models can be
    pooled.
    """
    asked = [models.tested_by.get(str(name)) for name in table.ids[rows]]
    groups = [str(compound_group(z)) for z in _numbers(table, rows)]
    facts = {**_rows_of_map(label, models, training, table, rows), "group": groups}
    if len(rows) < _MIN_POINTS:
        return facts
    same: dict[bool, list[NDArray[np.bool_]]] = {True: [], False: []}
    for other in models.trainings:
        for trained, answers in same.items():
            _, vectors = crystal_vectors(models, other, table, rows, progress, trained=trained)
            assert vectors is not None
            if trained and other == training and _differ(vectors):
                facts |= make_map(vectors).facts()
            is_own = np.array([training_of_row == other for training_of_row in asked])
            answers.append(nearest_shares_group(reduce(vectors), groups)[is_own])
    pooled = {trained: np.concatenate(answers) for trained, answers in same.items()}
    return {
        **facts,
        "n_pooled": len(pooled[True]),
        "folds": [other.fold for other in models.trainings],
        "same_group": float(pooled[True].mean()) if len(pooled[True]) else None,
        "same_group_untrained": float(pooled[False].mean()) if len(pooled[False]) else None,
        "chance": chance_of_group(groups),
    }


def _map_calcium(
    label: str, models: Models, training: Training, table: CrystalTable, rows: NDArray[np.int64], progress: Progress
) -> dict[str, Any]:
    """Map the Ca-O-X compounds at rows [n] of all the data by their material vectors, in four clusters (Fig. 3c)."""
    numbers = _numbers(table, rows)
    facts = {
        **_rows_of_map(label, models, training, table, rows),
        "formula": [reduced_formula(z) for z in numbers],
        "cluster": None,
    }
    if len(rows) < _MIN_POINTS:
        return facts
    vectors, _ = crystal_vectors(models, training, table, rows, progress)
    if len(np.unique(vectors, axis=0)) <= _TRIED[-1]:
        return facts
    target = table.target[rows]
    cluster, silhouettes = find_clusters(reduce(vectors), target)
    others = [[SYMBOLS[z - 1] for z in np.unique(own).tolist() if z not in {_OXYGEN, _CALCIUM}] for own in numbers]
    clusters = []
    for number in range(1, _CLUSTERS + 1):
        at = np.flatnonzero(cluster == number)
        elements = Counter(symbol for i in at.tolist() for symbol in others[i])
        systems = Counter(table.crystal_system[rows[at]].tolist())
        clusters.append(
            {
                "cluster": number,
                "n": len(at),
                "n_tested": int(facts["tested"][at].sum()),
                "mean": float(target[at].mean()),
                "lowest": float(target[at].min()),
                "highest": float(target[at].max()),
                "elements": [f"{symbol} ({n})" for symbol, n in elements.most_common(_NAMED)],
                "systems": [f"{name} ({n})" for name, n in systems.most_common()],
                "full_cubic": int((table.space_group[rows[at]] >= _FULL_CUBIC).sum()),
            }
        )
    return {
        **facts,
        **make_map(vectors).facts(),
        "cluster": cluster,
        "clusters": clusters,
        "silhouettes": silhouettes,
    }


def draw_by_target(maps: Sequence[Mapping[str, Any]], target: Sequence[float], label: str) -> Canvas:
    """Draw a map for each run, coloured by the target."""
    figure, axes = panels([facts["label"] for facts in maps], height=2.4)
    low, high = np.quantile(target, [0.02, 0.98])
    look = {"vmin": low, "vmax": high, "s": _size(len(target)), "linewidths": 0, "rasterized": True}
    for axis, facts in zip(axes, maps, strict=True):
        dots = _scatter(axis, np.array(facts["points"]), np.array(target), look)
    _colour_bar(figure, axes, dots, label, extend="both")
    return figure


def draw_all(facts: Mapping[str, Any], label: str) -> Canvas:
    """Draw the map of all rows, coloured by the target, and beside it only the rows that the model was tested on."""
    tested, points = np.array(facts["tested"]), np.array(facts["points"])
    figure, axes = panels([f"all rows ({facts['n']:,})", f"test rows ({tested.sum():,})"], height=2.9)
    low, high = np.quantile(facts["target"], [0.02, 0.98])
    for axis, shown in zip(axes, (np.full_like(tested, fill_value=True), tested), strict=True):
        look = {"vmin": low, "vmax": high, "s": _size(int(shown.sum())), "linewidths": 0, "rasterized": True}
        dots = _scatter(axis, points[:, shown], np.array(facts["target"])[shown], look)
        axis.set(xlim=_ends(points[0]), ylim=_ends(points[1]))
    _colour_bar(figure, axes, dots, label, extend="both")
    return figure


def draw_calcium(facts: Mapping[str, Any], label: str) -> Canvas:
    """Draw the map of Ca-O-X compounds, coloured by the target, a marker for each cluster, with formulas if few."""
    from matplotlib.lines import Line2D

    figure, axis = subplots(width=5.6, height=3.6)
    points, target, cluster, tested = (np.array(facts[name]) for name in ("points", "target", "cluster", "tested"))
    look = {"vmin": target.min(), "vmax": target.max(), "s": 26, "edgecolors": INK}
    handles = []
    for number, marker in enumerate(MARKERS[:_CLUSTERS], start=1):
        for is_test in (False, True):
            at = (cluster == number) & (tested == is_test)
            edge = _EDGE if is_test else 0.0
            dots = _scatter(axis, points[:, at], target[at], {**look, "marker": marker, "linewidths": edge})
        handles.append(Line2D([], [], color="none", marker=marker, markeredgecolor=INK, markeredgewidth=0.7))
    _colour_bar(figure, [axis], dots, label)
    legend(figure, handles, [f"cluster {own['cluster']} ({own['n']})" for own in facts["clusters"]])
    if facts["n"] <= 60:
        places = list(zip(*facts["points"], strict=True))
        label_points(figure, axis, places, list(map(typeset_formula, facts["formula"])), size=5)
    return figure


def _scatter(axis: Axes, points: NDArray[Any], values: NDArray[Any], look: Mapping[str, Any]) -> Any:
    """Draw points [2, n], coloured by values [n]; points of large values lie on top."""
    order = np.argsort(values, kind="stable")
    x, y = points[:, order]
    dots = axis.scatter(x, y, c=values[order], cmap=SEQUENTIAL, **look)
    _bare(axis)
    return dots


def _colour_bar(figure: Canvas, axes: Sequence[Axes], dots: Any, label: str, **options: Any) -> None:
    bar = figure.colorbar(dots, ax=axes, shrink=0.8, aspect=30, label=label, **options)
    bar.outline.set_visible(False)


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of an axis that holds these values."""
    margin = 0.05 * float(np.ptp(values))
    return float(values.min()) - margin, float(values.max()) + margin


def draw_by_system(facts: Mapping[str, Any], system: Sequence[str]) -> Canvas:
    """Draw a map coloured by crystal system."""
    # In a random order no system hides the others.
    order = np.random.default_rng(0).permutation(len(system))
    points, names = np.array(facts["points"])[:, order], [system[i] for i in order]
    return _draw_groups(points, names, SYSTEM_COLOURS, "{} ({:,})", s=_size(len(system)), rasterized=True)


def draw_groups(facts: Mapping[str, Any]) -> Canvas:
    """Draw the map of A-O-X compounds, a colour and a marker for each A; test rows have edges."""
    colours, markers = (dict(zip(GROUPS, looks, strict=False)) for looks in (GROUP_COLOURS, MARKERS))
    groups, tested = facts["group"], np.array(facts["tested"])
    figure = _draw_groups(facts["points"], groups, colours, "{}–O–X ({})", style=groups, markers=markers, s=18)
    figure.axes[0].collections[0].set(edgecolors=INK, linewidths=np.where(tested, _EDGE, 0.0))
    return figure


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
