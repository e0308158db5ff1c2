"""Section: what environments say about elements and about the target (paper Fig. 2d, S4-S6, S11)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable
from benchmarks.data.folds import fold_label
from benchmarks.results.statistics import Interval, bootstrap
from reports.environments.description import DescribedRows, Models, describe_test_rows, open_models
from reports.environments.two_ks import pearson
from reports.page.items import Column, Items, interval_columns
from reports.page.section import Heading, Item, Section
from reports.page.style import DIVERGING, GROUP_COLOURS, INK, WIDE, heatmap, legend_beside, subplots
from reports.study.study import Absent, Result, Study
from reports.study.wording import drawable, in_brackets
from sen.crystal import SYMBOLS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["Elements"]

# Random choices of atoms in each fold.
_DRAWS = 50
# Elements of fewer crystals, in all folds, are left out: too little is known of them.
_MIN_CRYSTALS = 5
# Points in a scatter; more would only make the file large.
_SHOWN = 3000


def periodic_order(numbers: Iterable[int]) -> list[int]:
    """Sort atomic numbers by group and then period; lanthanides and actinides stand in group 3."""
    from pymatgen.core import Element

    return sorted(numbers, key=lambda z: (Element.from_Z(z).group, Element.from_Z(z).row, z))


@dataclass(frozen=True, eq=False)
class Correlation:
    """Correlation of the environments of elements.

    Attributes:
        numbers: Atomic numbers of E elements in periodic order.
        mean: Mean over folds and draws, symmetric [E, E]; NaN where no draw has both elements.
        spread: Median over pairs of elements of the standard deviation between draws.
        repeat: Mean correlation of the heatmaps of two single draws: how similar a repetition of the figure looks.
        draws: Random choices of atoms in each fold.
        folds: Folds.
        crystals: Crystals that have each element, in all folds, [E].
    """

    numbers: list[int]
    mean: NDArray[np.float64]
    spread: float
    repeat: float
    draws: int
    folds: int
    crystals: list[int]


def element_correlation(rows: DescribedRows) -> Correlation:
    """Return the Pearson correlation of the environments, before the block, of atoms of each two elements.

    In each draw two atoms of every element are chosen at random, each from a random crystal. A pair of atoms from one
    crystal does not count, because the environment of one depends on the other. Only atoms described by the same model
    are compared; the heatmaps of the folds are averaged.

    Raises:
        Absent: Fewer than two elements are in five crystals or more.
    """
    environments = rows.environments
    crystal_of = np.repeat(np.arange(len(environments)), np.diff(environments.orbit_ptr))
    node = environments.orbit_node
    z = environments.numbers[node].astype(np.int64)
    counts = np.bincount(np.unique(crystal_of * 128 + z) % 128, minlength=128)
    numbers = periodic_order(np.flatnonzero(counts >= _MIN_CRYSTALS).tolist())
    if len(numbers) < 2:
        raise Absent(
            f"Fewer than two elements are in {_MIN_CRYSTALS} test crystals or more: there is nothing to correlate."
        )
    rng = np.random.default_rng(0)
    n = len(numbers)
    folds = np.unique(rows.fold)
    before = environments.before[node]
    # A heatmap for each fold and draw.
    maps = np.full((len(folds), _DRAWS, n, n), np.nan)
    for of_fold, fold in zip(maps, folds, strict=True):
        in_fold = rows.fold[crystal_of] == fold
        # For each element, its orbits by crystal: first a crystal is drawn, then an atom of it.
        places = [np.flatnonzero(in_fold & (z == number)) for number in numbers]
        by_crystal = [[part[crystal_of[part] == c] for c in np.unique(crystal_of[part])] for part in places]
        for draw in range(_DRAWS):
            chosen = np.full((2, n), -1)
            for i, crystals in enumerate(by_crystal):
                if crystals:
                    for side, at in enumerate(rng.integers(len(crystals), size=2)):
                        chosen[side, i] = rng.choice(crystals[at])
            of_fold[draw] = _correlate(before, crystal_of, chosen)
    upper = np.triu_indices(n)
    repeats = [
        _masked_correlation(of_fold[a][upper], of_fold[a + 1][upper])
        for of_fold in maps
        for a in range(0, _DRAWS - 1, 2)
    ]
    with warnings.catch_warnings():
        # A pair of elements may never be drawn together.
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(maps, axis=(0, 1))
        spread = np.nanmean(np.nanstd(maps, axis=1), axis=0)
        return Correlation(
            numbers,
            np.nanmean([mean, mean.T], axis=0),
            float(np.nanmedian(spread[upper])),
            float(np.nanmean(repeats)),
            _DRAWS,
            len(folds),
            counts[numbers].tolist(),
        )


def _correlate(
    before: NDArray[np.floating], crystal_of: NDArray[np.int64], chosen: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Correlate the atoms `chosen` [2, E] (-1: none): those of the first row with those of the second, [E, E]."""
    n = chosen.shape[1]
    found = pearson(before[np.maximum(chosen, 0)].reshape(2 * n, -1))[:n, n:]
    crystals = np.where(chosen < 0, -1, crystal_of[chosen])
    unfit = (chosen[0][:, None] < 0) | (chosen[1][None] < 0) | (crystals[0][:, None] == crystals[1][None])
    found[unfit] = np.nan
    return found


def _masked_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 3 or np.ptp(first[both]) == 0 or np.ptp(second[both]) == 0:
        return float("nan")
    return float(np.corrcoef(first[both], second[both])[0, 1])


def group_means(correlation: Correlation) -> tuple[float, float]:
    """Mean correlation of different elements of one group of the periodic table, and of different groups."""
    from pymatgen.core import Element

    groups = np.array([Element.from_Z(z).group for z in correlation.numbers])
    i, j = np.triu_indices(len(groups), k=1)
    values, same = correlation.mean[i, j], groups[i] == groups[j]
    with warnings.catch_warnings():
        # There may be no such pair.
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(np.nanmean(values[same])), float(np.nanmean(values[~same]))


def spread_of_environments(rows: DescribedRows) -> NDArray[np.float64]:
    """Return the standard deviation of all components of each crystal's final environments, [M].

    Nodes count with their multiplicity, so that the choice of the cell does not matter.
    """
    environments = rows.environments
    after = environments.after.astype(np.float64)
    mean = environments.mean_over_atoms(after.mean(axis=1))
    square = environments.mean_over_atoms((after**2).mean(axis=1))
    spread: NDArray[np.float64] = np.sqrt(np.maximum(square - mean**2, 0))
    return spread


def rank_within_folds(values: NDArray[np.float64], fold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rank values [n] within each fold, from 0 to 1; the middle for a fold of one row."""
    import pandas as pd

    of_fold = pd.Series(values).groupby(fold)
    ranks: NDArray[np.float64] = ((of_fold.rank() - 0.5) / of_fold.transform("size")).to_numpy()
    return ranks


def rank_correlation(
    first: NDArray[np.float64], second: NDArray[np.float64], fold: NDArray[np.int64]
) -> tuple[float, Interval]:
    """Return the rank correlation within folds of two values [n] and its 95 % interval over resampled rows."""
    ranks = rank_within_folds(first, fold), rank_within_folds(second, fold)
    if len(first) < 3 or np.ptp(ranks[0]) == 0 or np.ptp(ranks[1]) == 0:
        return float("nan"), Interval(float("nan"), float("nan"))

    def correlate(one: NDArray[np.float64], other: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        one = one - one.mean(axis=axis, keepdims=True)
        other = other - other.mean(axis=axis, keepdims=True)
        result: NDArray[np.float64] = (one * other).sum(axis) / np.sqrt((one**2).sum(axis) * (other**2).sum(axis))
        return result

    return float(correlate(*ranks)), bootstrap(correlate, *ranks)


class Elements(Section):
    """Correlation of the environments of elements, and the spread of environments against the target."""

    name: ClassVar[str] = "elements"
    title: ClassVar[str] = "Elements, and the spread of environments"
    place: ClassVar[int] = 630

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Correlate elements by the first run of SEN, trained and untrained; spread against target for every run."""
        opened = open_models(study, "after", progress)
        table, models = opened.table, opened.runs[0][1]
        of_sen = opened.giving("before")
        heatmap = _heatmap(*of_sen.runs[0], table, progress) if of_sen.runs else None
        rows = describe_test_rows(models, table, progress=progress)
        untrained = describe_test_rows(models, table, trained=False, progress=progress)

        def against_target(described: DescribedRows) -> dict[str, Any]:
            spread = spread_of_environments(described)
            value, interval = rank_correlation(spread, table.target[described.rows], described.fold)
            return {"rank_correlation": value, "interval": list(interval)}

        spreads = []
        for other, its_models in opened.runs:
            own = describe_test_rows(its_models, table, progress=progress)
            spreads.append(
                {
                    "label": other.label,
                    "seed": its_models.trainings[0].seed,
                    "folds": [training.fold for training in its_models.trainings],
                    "n": len(own.rows),
                    "n_test": own.n_rows,
                    **against_target(own),
                }
            )
        spread = spread_of_environments(rows)
        for fold in np.unique(rows.fold):
            # Models differ in the scale of their environments.
            spread[rows.fold == fold] /= np.median(spread[rows.fold == fold]) or 1.0
        shown = np.sort(np.random.default_rng(0).permutation(len(spread))[:_SHOWN])
        return {
            "heatmap": heatmap,
            "target_name": study.task.target,
            "unit": study.task.unit,
            "spread": drawable(spread[shown]),
            "fold": rows.fold[shown],
            "fold_names": study.fold_names,
            "target": drawable(table.target[rows.rows][shown]),
            "spreads": spreads,
            "spread_untrained": against_target(untrained),
            "problems": of_sen.problems,
        }

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """The heatmap with its robustness, and the spread."""
        target = facts["target_name"] + in_brackets(facts["unit"])
        items = Items(
            __name__, {**facts, "target": target, "min_crystals": _MIN_CRYSTALS, "most_colours": len(GROUP_COLOURS)}
        )
        yield items.text("summary")
        columns: list[Column]
        if heatmap := facts["heatmap"]:
            yield items.figure(
                "element-correlation", lambda: draw_correlation(heatmap["elements"], heatmap["correlation"])
            )
            columns = [
                ("model", "state"),
                ("same group", "same_group"),
                ("different groups", "other_group"),
                ("spread of a pair between draws", "spread"),
                ("similarity of two draws", "repeat"),
            ]
            records = [{"state": state, **correlation} for state, correlation in heatmap["correlation"].items()]
            yield items.table("element-correlation", records, columns)
        yield Heading("Spread of the environments against the target")
        yield items.figure("spread", lambda: draw_spread(facts, target))
        columns = [
            ("run", "label"),
            ("rank correlation", "rank_correlation"),
            *interval_columns("interval", "95 % from", "to"),
            ("test rows", "n"),
            ("folds", "folds"),
        ]
        yield items.table("spread", facts["spreads"], columns)


def _heatmap(result: Result, models: Models, table: CrystalTable, progress: Progress) -> dict[str, Any]:
    """Return the facts of the correlation of elements by a run of SEN."""
    rows = {
        state: describe_test_rows(models, table, trained=state == "trained", progress=progress)
        for state in ("trained", "untrained")
    }
    correlations = {state: element_correlation(of_state) for state, of_state in rows.items()}
    return {
        "run": {"label": result.label},
        "seed": models.trainings[0].seed,
        "folds": [training.fold for training in models.trainings],
        "n": len(rows["trained"].rows),
        "n_test": rows["trained"].n_rows,
        "elements": [SYMBOLS[z - 1] for z in correlations["trained"].numbers],
        "crystals": correlations["trained"].crystals,
        "correlation": {
            state: {
                "mean": np.round(correlation.mean, 4),
                "spread": correlation.spread,
                "repeat": correlation.repeat,
                "draws": correlation.draws,
                "same_group": group_means(correlation)[0],
                "other_group": group_means(correlation)[1],
            }
            for state, correlation in correlations.items()
        },
    }


def draw_correlation(elements: Sequence[str], correlation: Mapping[str, Any]) -> Canvas:
    """Draw the heatmap of E elements: trained on and above the diagonal, untrained below."""
    from pymatgen.core import Element

    trained, untrained = (np.array(correlation[state]["mean"], dtype=float) for state in ("trained", "untrained"))
    n = len(elements)
    side = min(WIDE - 0.8, 2.2 + 0.1 * n)
    figure, axis = subplots(width=side + 0.9, height=side)
    # The plain layout loses the labels on the left of a square.
    figure.set_layout_engine("compressed")
    axis.set_facecolor("#9a9a9a")
    matrix = np.triu(trained) + np.tril(untrained, k=-1)
    heatmap(axis, matrix, elements, elements, "Pearson correlation", scale=(DIVERGING, -1, 1), square=True)
    # Lines between the groups of the periodic table, and along the diagonal.
    groups = np.array([Element(symbol).group for symbol in elements])
    borders = 1 + np.flatnonzero(np.diff(groups))
    axis.hlines(borders, 0, n, color=INK, linewidth=0.25)
    axis.vlines(borders, 0, n, color=INK, linewidth=0.25)
    axis.plot([0, n], [0, n], color=INK, linewidth=0.6)
    return figure


def draw_spread(facts: Mapping[str, Any], label: str) -> Canvas:
    """Draw the spread against the target."""
    import seaborn as sns

    figure, axis = subplots(width=4.6, height=2.8)
    names = facts["fold_names"]
    folds = [f"fold {fold_label(fold, *names[fold : fold + 1])}" for fold in facts["fold"]]
    several = len(set(folds)) <= len(GROUP_COLOURS)
    sns.scatterplot(
        x=facts["target"],
        y=facts["spread"],
        hue=folds if several else None,
        palette=dict(zip(sorted(set(folds)), GROUP_COLOURS, strict=False)) if several else None,
        color=INK,
        s=float(np.clip(4000 / len(folds), 2, 12)),
        alpha=0.5,
        linewidth=0,
        rasterized=True,
        ax=axis,
    )
    axis.set(xlabel=label, ylabel="spread / median of the fold")
    if several:
        legend_beside(figure, axis, "upper")
    return figure
