"""What environments say of elements and of the target (paper Fig. 2d, S4-S6, S11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.workers import Progress
from benchmarks.results.statistics import Interval, bootstrap
from reports.environments.description import (
    DescribedRows,
    describe_test_rows,
    headline,
    models_of,
    problems_of,
    show_problems,
)
from reports.page.section import Figure, Heading, Item, Section, Table, Text
from reports.page.style import DIVERGING, INK, SYSTEM_COLOURS, WIDE, subplots
from reports.study.study import Absent
from reports.study.wording import drawable, in_brackets, rounded
from sen.crystal import SYMBOLS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from reports.study.study import Study

__all__ = [
    "Correlation",
    "Elements",
    "element_correlation",
    "periodic_order",
    "rank_correlation",
    "rank_within_folds",
    "spread_of_environments",
]

# Random choices of atoms.
_DRAWS = 50
# Elements that fewer crystals have, in all folds, say nothing certain.
_MIN_CRYSTALS = 5
# Points in a scatter of which more would only weigh.
_SHOWN = 3000
# Hues of COLOURS, whose exact values the page would replace in the dark, but not in points that are pixels.
_FOLD_COLOURS = [SYSTEM_COLOURS[name] for name in ("monoclinic", "hexagonal", "tetragonal", "triclinic", "trigonal")]


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
        repeat: Mean correlation of the heatmaps of two single draws: how alike a repetition of the figure looks.
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


def element_correlation(rows: DescribedRows, *, draws: int = _DRAWS, seed: int = 0) -> Correlation:
    """Return the Pearson correlation of the environments, before the block, of atoms of each two elements.

    In each draw two atoms of every element are chosen at random, each from a crystal of its own choice; a pair of atoms
    from one crystal does not count, because its atoms know of each other. Only atoms described by the same model are
    compared, and the heatmaps of the folds averaged.

    Args:
        rows: Test rows.
        draws: Random choices in each fold.
        seed: Of the draws.

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
    rng = np.random.default_rng(seed)
    n = len(numbers)
    maps = []
    spreads = []
    folds = np.unique(rows.fold)
    before = environments.before[node]
    for fold in folds:
        in_fold = rows.fold[crystal_of] == fold
        # For each element, its orbits by crystal: first a crystal is drawn, then an atom of it.
        places = [np.flatnonzero(in_fold & (z == number)) for number in numbers]
        by_crystal = [[part[crystal_of[part] == c] for c in np.unique(crystal_of[part])] for part in places]
        own = np.full((draws, n, n), np.nan)
        for draw in range(draws):
            chosen = np.full((2, n), -1)
            for i, crystals in enumerate(by_crystal):
                if crystals:
                    for side, at in enumerate(rng.integers(len(crystals), size=2)):
                        chosen[side, i] = rng.choice(crystals[at])
            own[draw] = _correlate(before, crystal_of, chosen)
        maps.append(own)
        with np.errstate(invalid="ignore"):
            spreads.append(_nan(np.nanstd, own))
    every = np.concatenate(maps)
    mean = _nan(np.nanmean, every)
    both = np.where(np.isnan(mean), mean.T, np.where(np.isnan(mean.T), mean, (mean + mean.T) / 2))
    upper = np.triu_indices(n)
    repeats = [
        _masked_correlation(own[a][upper], own[b][upper])
        for own in maps
        for a, b in zip(range(0, draws - 1, 2), range(1, draws, 2), strict=False)
    ]
    known = [value for value in repeats if np.isfinite(value)]
    return Correlation(
        numbers,
        both,
        float(np.nanmedian(_nan(np.nanmean, np.stack(spreads))[upper])),
        float(np.mean(known)) if known else np.nan,
        draws,
        len(folds),
        counts[numbers].tolist(),
    )


def _correlate(
    before: NDArray[np.floating], crystal_of: NDArray[np.int64], chosen: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Correlate the atoms `chosen` [2, E] (-1: none): those of the first row with those of the second, [E, E]."""
    values = before[np.maximum(chosen, 0)].astype(np.float64)
    values -= values.mean(axis=2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        values /= np.linalg.norm(values, axis=2, keepdims=True)
    found: NDArray[np.float64] = values[0] @ values[1].T
    crystals = np.where(chosen < 0, -1, crystal_of[chosen])
    unfit = (chosen[0][:, None] < 0) | (chosen[1][None] < 0) | (crystals[0][:, None] == crystals[1][None])
    found[unfit] = np.nan
    return found


def _nan(function: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reduce the first axis, quietly where there is nothing."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result: NDArray[np.float64] = function(values, axis=0)
    return result


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
    return _mean(values[same]), _mean(values[~same])


def _mean(values: NDArray[np.float64]) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def spread_of_environments(rows: DescribedRows) -> NDArray[np.float64]:
    """Return the standard deviation of all components of each crystal's environments after the block, [M].

    Nodes count as often as they occur, so that the cell that is written down does not matter.
    """
    environments = rows.environments
    weight = environments.multiplicity.astype(np.float64)
    first = environments.node_ptr[:-1]
    after = environments.after.astype(np.float64)
    total = np.add.reduceat(weight, first)
    mean = np.add.reduceat(weight * after.mean(axis=1), first) / total
    square = np.add.reduceat(weight * (after**2).mean(axis=1), first) / total
    spread: NDArray[np.float64] = np.sqrt(np.maximum(square - mean**2, 0))
    return spread


def rank_within_folds(values: NDArray[np.float64], fold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rank values [n] within each fold, from 0 to 1; the middle for a fold of one row."""
    from scipy.stats import rankdata

    ranks = np.empty(len(values))
    for number in np.unique(fold):
        members = fold == number
        ranks[members] = (rankdata(values[members]) - 0.5) / members.sum()
    return ranks


def rank_correlation(
    first: NDArray[np.float64], second: NDArray[np.float64], fold: NDArray[np.int64]
) -> tuple[float, Interval]:
    """Return the rank correlation within folds of two values [n] and its 95 % interval over rows drawn again."""
    ranks = rank_within_folds(first, fold), rank_within_folds(second, fold)
    if len(first) < 3 or np.ptp(ranks[0]) == 0 or np.ptp(ranks[1]) == 0:
        return float("nan"), Interval(float("nan"), float("nan"))

    def pearson(one: NDArray[np.float64], other: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        one = one - one.mean(axis=axis, keepdims=True)
        other = other - other.mean(axis=axis, keepdims=True)
        result: NDArray[np.float64] = (one * other).sum(axis) / np.sqrt((one**2).sum(axis) * (other**2).sum(axis))
        return result

    return float(pearson(*ranks)), bootstrap(pearson, *ranks)


class Elements(Section):
    """Correlation of the environments of elements, and the spread of environments against the target."""

    name: ClassVar[str] = "elements"
    title: ClassVar[str] = "Elements, and the spread of environments"
    place: ClassVar[int] = 630

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Correlate elements by the headline run, trained and untrained; spread against target for every run."""
        headline(study)
        table = study.crystals(progress)
        found = models_of(study)
        result, models = found[0]
        rows = describe_test_rows(models, table, progress=progress)
        heatmaps = {"trained": element_correlation(rows)}
        untrained = describe_test_rows(models, table, trained=False, progress=progress)
        heatmaps["untrained"] = element_correlation(untrained)
        value, interval = rank_correlation(
            spread_of_environments(untrained), table.target[untrained.rows], untrained.fold
        )
        untrained_spread = {"rank_correlation": value, "interval": list(interval)}
        spreads = []
        for other, its_models in found:
            own = describe_test_rows(its_models, table, progress=progress)
            spread, target = spread_of_environments(own), table.target[own.rows]
            value, interval = rank_correlation(spread, target, own.fold)
            spreads.append(
                {
                    "label": other.label,
                    "seed": its_models.trainings[0].seed,
                    "folds": [training.fold for training in its_models.trainings],
                    "n": len(own.rows),
                    "n_test": own.n_rows,
                    "rank_correlation": value,
                    "interval": list(interval),
                }
            )
        spread = spread_of_environments(rows)
        for fold in np.unique(rows.fold):
            # Models differ in the scale of their environments.
            spread[rows.fold == fold] /= np.median(spread[rows.fold == fold]) or 1.0
        shown = np.sort(np.random.default_rng(0).permutation(len(spread))[:_SHOWN])
        return {
            "run": {"label": result.label},
            "seed": models.trainings[0].seed,
            "folds": [training.fold for training in models.trainings],
            "n": len(rows.rows),
            "n_test": rows.n_rows,
            "elements": [SYMBOLS[z - 1] for z in heatmaps["trained"].numbers],
            "crystals": heatmaps["trained"].crystals,
            "correlation": {
                state: {
                    "mean": np.round(heatmap.mean, 4),
                    "spread": heatmap.spread,
                    "repeat": heatmap.repeat,
                    "draws": heatmap.draws,
                    "same_group": group_means(heatmap)[0],
                    "other_group": group_means(heatmap)[1],
                }
                for state, heatmap in heatmaps.items()
            },
            "target_name": study.task.target,
            "unit": study.task.unit,
            "spread": drawable(spread[shown]),
            "fold": rows.fold[shown],
            "target": drawable(table.target[rows.rows][shown]),
            "spreads": spreads,
            "spread_untrained": untrained_spread,
            "problems": problems_of(study),
        }

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """The heatmap with its robustness, and the spread."""
        trained, untrained = facts["correlation"]["trained"], facts["correlation"]["untrained"]
        run = facts["run"]["label"]
        folds = ", ".join(map(str, facts["folds"]))
        rows = f"{facts['n']:,} of {facts['n_test']:,} test rows (folds {folds}; seed {facts['seed']})"
        yield Text(
            "Atoms of similar elements have similar environments. Part of that is built in: the features tell the "
            "model an element's group and period. So the untrained model stands beside the trained one, and only "
            "what differs between them was learnt."
        )
        yield from show_problems(facts["problems"])
        yield Figure(
            "element-correlation",
            lambda: draw_correlation(facts["elements"], trained["mean"], untrained["mean"]),
            f"Correlation between the environments of {len(facts['elements'])} elements before the block ({run}), in "
            "the order of groups and periods: trained above the diagonal, untrained below, trained on it. Grey: "
            "never drawn together.",
            f"Pearson correlation of two atoms from different crystals, mean over {trained['draws']} random choices "
            f"in each fold and over folds (paper Fig. 2d); {rows}. Elements of fewer than {_MIN_CRYSTALS} crystals "
            "are left out.",
            f"Heatmap. Mean within a group of the periodic table {rounded(trained['same_group'], 2)} trained and "
            f"{rounded(untrained['same_group'], 2)} untrained, between groups {rounded(trained['other_group'], 2)} and "
            f"{rounded(untrained['other_group'], 2)}.",
        )
        yield Table(
            "element-correlation",
            ["model", "same group", "different groups", "spread of a pair between draws", "likeness of two draws"],
            [
                [state, facts_["same_group"], facts_["other_group"], facts_["spread"], facts_["repeat"]]
                for state, facts_ in facts["correlation"].items()
            ],
            "Mean correlation of different elements, and how much of the heatmap is chance (the check of paper Fig. "
            "S5).",
            "Spread: median over pairs of the standard deviation between random choices of atoms. Likeness: mean "
            "correlation between the heatmaps of two single choices; a heatmap of one choice, as the paper's, "
            "repeats as well as this says.",
        )
        yield Heading("Spread of the environments against the target")
        label = facts["target_name"] + in_brackets(facts["unit"])
        own = facts["spreads"][0]
        yield Figure(
            "spread",
            lambda: draw_spread(facts, label),
            f"Standard deviation of the components of a crystal's environments after the block ({run}) against "
            f"{label}; {own['n']:,} test rows, a colour for each fold and its model. Rank correlation "
            f"{_with_interval(own)}; before training {_with_interval(facts['spread_untrained'])}. Folds that lie on "
            "lines of their own show what is chance of a training.",
            "All components of all atoms of the primitive cell, as a share of the median of the fold, because models "
            "differ in scale. The paper's Fig. S11 shows five crystals whose densities spread with the gap. Rank "
            "correlation within folds, interval by percentile bootstrap over rows.",
            f"Scatter of {own['n']} points, rank correlation {_with_interval(own)}.",
        )
        yield Table(
            "spread",
            ["run", "rank correlation", "95 % from", "to", "test rows", "folds"],
            [
                [
                    s["label"],
                    s["rank_correlation"],
                    *s["interval"],
                    s["n"],
                    ", ".join(map(str, s["folds"])),
                ]
                for s in facts["spreads"]
            ],
            f"Spread of the environments against {label}, every run.",
            "Spearman's, ranks taken within folds; one seed.",
        )


def _with_interval(facts: Mapping[str, Any]) -> str:
    value, (low, high) = facts["rank_correlation"], facts["interval"]
    return "not defined" if value is None else f"{value:.2f} (95 %: {rounded(low, 2)} to {rounded(high, 2)})"


def draw_correlation(
    elements: Sequence[str], trained: Sequence[Sequence[float | None]], untrained: Sequence[Sequence[float | None]]
) -> Canvas:
    """Draw the heatmap: trained on and above the diagonal, untrained below."""
    from pymatgen.core import Element

    above, below = (np.array([[np.nan if v is None else v for v in row] for row in m]) for m in (trained, untrained))
    matrix = np.where(np.tril(np.ones(above.shape, dtype=bool), k=-1), below, above)
    n = len(elements)
    side = min(WIDE - 0.8, 2.2 + 0.075 * n)
    figure, axis = subplots(width=side + 0.9, height=side)
    # The plain layout loses the labels on the left of a square.
    figure.set_layout_engine("compressed")
    axis.set_facecolor("#9a9a9a")
    image = axis.imshow(matrix, cmap=DIVERGING, vmin=-1, vmax=1)
    size = 7 if n <= 30 else 5 if n <= 55 else 4
    axis.set_xticks(range(n), elements, rotation=90, fontsize=size)
    axis.set_yticks(range(n), elements, fontsize=size)
    axis.tick_params(length=0, pad=1)
    axis.spines[:].set_visible(False)
    # Lines between the groups of the periodic table.
    groups = [Element(symbol).group for symbol in elements]
    for i in range(1, n):
        if groups[i] != groups[i - 1]:
            axis.axhline(i - 0.5, color=INK, linewidth=0.25)
            axis.axvline(i - 0.5, color=INK, linewidth=0.25)
    axis.plot([-0.5, n - 0.5], [-0.5, n - 0.5], color=INK, linewidth=0.6)
    axis.set_xlim(-0.5, n - 0.5)
    axis.set_ylim(n - 0.5, -0.5)
    bar = figure.colorbar(image, ax=axis, shrink=0.7)
    bar.set_label("Pearson correlation")
    bar.outline.set_visible(False)
    return figure


def draw_spread(facts: Mapping[str, Any], label: str) -> Canvas:
    """Draw the spread against the target."""
    figure, axis = subplots(width=4.6, height=2.8)
    target, spread, fold = (np.array(facts[name]) for name in ("target", "spread", "fold"))
    size = float(np.clip(4000 / len(spread), 2, 12))
    for number, colour in zip(np.unique(fold), _FOLD_COLOURS, strict=False):
        chosen = fold == number
        axis.scatter(target[chosen], spread[chosen], color=colour, s=size, alpha=0.5, linewidths=0, rasterized=True)
        axis.scatter([], [], color=colour, s=12, label=f"fold {number}")
    axis.set_xlabel(label)
    axis.set_ylabel("spread / median of the fold")
    figure.legend(loc="outside right upper")
    return figure
