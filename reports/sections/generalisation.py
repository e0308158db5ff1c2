"""Section: what test rows have in common with training rows, and the error on groups that were never trained on."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import UsageError
from benchmarks.base.workers import Progress
from benchmarks.data.dataset import Dataset
from benchmarks.data.folds import depends_on_data
from benchmarks.data.overlap import SAME_VOLUME, RowComparison
from benchmarks.results.contrasts import estimate_difference
from benchmarks.results.statistics import Estimate, Interval, bootstrap_mean, holm
from reports.page.items import Column, Items, interval_columns
from reports.page.section import Figure, Item, Section, Table
from reports.page.style import WIDE, legend, points, subplots
from reports.study.differences import contrasts_of
from reports.study.losses import FoldLoss, fold_losses
from reports.study.study import Absent, Result, Study

__all__ = ["Generalisation"]

_FLOOR = "trees"
_MOST_DRAWN = 20
# The "95 %" interval of a bootstrap over three rows covers 74 %.
_FEWEST_DRAWN = 10
# The halves of the test rows, by what training rows have in common with them.
_HALVES = {
    "formula": ("formula in training", "formula not in training"),
    "crystal": ("nearly identical crystal in training", "no nearly identical crystal in training"),
}


@dataclass(frozen=True, eq=False)
class _Sides:
    """The losses of a model on groups that it was not trained on, and those of the same rows in the official folds.

    Attributes:
        result: The model in the folds by groups.
        inside: The same configuration in the official folds; None where there is none.
        outside_losses: Losses in each fold by groups.
        inside_loss: Mean over the seeds of the loss of each row in the official folds, by its id.
        inside_losses: Losses in each official fold.
    """

    result: Result
    inside: Result | None
    outside_losses: Mapping[int, FoldLoss]
    inside_loss: Mapping[str, float]
    inside_losses: Mapping[int, FoldLoss]

    def seeds(self) -> list[int]:
        """Return the seeds that all folds of both sides have."""
        all_folds = [*self.outside_losses.values(), *self.inside_losses.values()]
        return sorted(set.intersection(*(set(fold.seeds) for fold in all_folds)))

    def gaps(self, fold: int, seeds: list[int], ids: list[str]) -> NDArray[np.float64]:
        """Return by how much the loss is larger outside, for these seeds and rows of a fold by groups, [S, n]."""
        inside = {
            name: column
            for each in self.inside_losses.values()
            for name, column in zip(each.ids, each.of(seeds, each.ids).T, strict=True)
        }
        gaps: NDArray[np.float64] = (
            self.outside_losses[fold].of(seeds, ids) - np.array([inside[name] for name in ids]).T
        )
        return gaps


class Generalisation(Section):
    """Errors inside and outside of what was trained on, and overlaps of test and training rows."""

    name: ClassVar[str] = "generalisation"
    title: ClassVar[str] = "Generalisation"
    place: ClassVar[int] = 540

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Compare groups with the official folds where a split has groups, and test rows with training rows."""
        has_groups = depends_on_data(study.task.split)
        rows: RowComparison | None = None
        reason = ""
        try:
            dataset = study.dataset(progress)
            _ = dataset.tested  # the crystals may be available, and not the file that says the groups
            rows = RowComparison(dataset)
        except (Absent, UsageError) as absent:
            if not has_groups:
                raise
            reason = str(absent)
        losses = {result.label: fold_losses(result, study.task.kind) for result in study.results}
        return {
            "unit": study.task.unit,
            "kind": study.task.kind,
            "split": study.task.split,
            "reason": reason,
            "others": [other.title for other in study.others if depends_on_data(other.task.split)],
            "groups": _groups(study, losses, rows) if has_groups else None,
            "overlap": None if rows is None else _overlap(study, losses, rows),
        }

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """Errors by group, and those of test rows that training rows resemble."""
        items = Items(__name__, {**facts, "floor": _FLOOR})
        if facts["groups"]:
            yield from _show_groups(items, facts)
        if facts["overlap"]:
            yield items.heading("overlap_heading")
            yield items.text("resembling")
            if facts["overlap"]["results"]:
                yield _overlap_table(items, facts)
        if facts["others"] or facts["reason"]:
            yield items.text("elsewhere")


def _known(dataset: Dataset, fold: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the test rows of a fold, and the rows to train and validate on, as positions in the table."""
    (found,) = dataset.folds(numbers=[fold])
    return found.test, np.concatenate([found.train, found.validation])


def _overlap(study: Study, losses: Mapping[str, Mapping[int, FoldLoss]], rows: RowComparison) -> dict[str, Any]:
    """Return which test rows have their formula or a nearly identical crystal in training, and the errors of both."""
    dataset = study.dataset()
    folds = sorted({fold for result in study.results for fold in result.folds})
    has: dict[str, dict[int, NDArray[np.bool_]]] = {name: {} for name in _HALVES}
    tested = []
    for fold in folds:
        test, train = _known(dataset, fold)
        found = rows.overlap(test, train)
        tested.append(found)
        for name, values in (("formula", found.has_formula), ("crystal", found.has_crystal)):
            has[name][fold] = np.zeros(len(dataset.table), dtype=bool)
            has[name][fold][test] = values
    results, left_out = [], []
    for result in study.results:
        config = result.facts["config"] if result.run else {"limit": None}
        if config["limit"] is not None or "without" in config:
            left_out.append(result.label)
            continue
        of_folds = losses[result.label]
        loss = np.concatenate([each.loss.mean(axis=0) for each in of_folds.values()])
        entry: dict[str, Any] = {"label": result.label}
        for name, by_fold in has.items():
            mask = np.concatenate([by_fold[fold][study.positions(each.ids)] for fold, each in of_folds.items()])
            entry[name] = [_part(loss[mask]), _part(loss[~mask])]
        results.append(entry)
    return {
        "rows": sum(len(found.has_formula) for found in tested),
        "formula": float(np.mean(np.concatenate([found.has_formula for found in tested]))),
        "crystal": float(np.mean(np.concatenate([found.has_crystal for found in tested]))),
        "same_volume": SAME_VOLUME,
        "results": results,
        "left_out": left_out,
    }


def _part(loss: NDArray[np.float64]) -> dict[str, Any]:
    """Return the mean of losses [n], with its interval over the rows unless a bootstrap of so few is too narrow."""
    if not len(loss):
        return {"n": 0, "loss": None, "interval": None}
    interval = bootstrap_mean(loss) if len(loss) >= _FEWEST_DRAWN else Interval(math.nan, math.nan)
    return {"n": len(loss), "loss": float(loss.mean()), "interval": interval}


def _groups(study: Study, losses: Mapping[str, Mapping[int, FoldLoss]], rows: RowComparison | None) -> dict[str, Any]:
    """Return the errors of every run in each fold by groups, beside those of the same rows in the official folds."""
    official = next((other for other in study.others if other.task.split == "folds"), None)
    models = [_sides(study, run, losses[run.label], official) for run in study.runs]
    folds = sorted({fold for run in study.runs for fold in run.folds})
    paired = [each for each in models if each.inside_loss]
    contrasts, not_compared = _contrasts(study, {each.result.label: each for each in paired})
    return {
        "official": official and official.title,
        "folds": [_fold_facts(study, official, fold, rows) for fold in folds],
        "n_folds": study.n_folds,
        "models": [_model_facts(study, each) for each in models],
        "contrasts": contrasts,
        "not_compared": not_compared,
        "without_official": [each.result.label for each in models if each not in paired],
    }


def _sides(study: Study, run: Result, losses: Mapping[int, FoldLoss], official: Study | None) -> _Sides:
    inside = next((other for other in official.runs if _is_same(run, other)), None) if official else None
    inside_losses = fold_losses(inside, study.task.kind) if inside else {}
    means = {
        name: loss
        for each in inside_losses.values()
        for name, loss in zip(each.ids, each.loss.mean(axis=0).tolist(), strict=True)
    }
    return _Sides(run, inside, losses, means, inside_losses)


def _is_same(run: Result, other: Result) -> bool:
    """Whether two runs have the same configuration, less what depends on the number of rows unless it is given."""
    return run.variant == other.variant and run.chosen() == other.chosen()


def _fold_facts(study: Study, official: Study | None, fold: int, rows: RowComparison | None) -> dict[str, Any]:
    """Return the name of a fold by groups, and how far its test rows are from training rows in both splits."""
    facts: dict[str, Any] = {"fold": fold, "name": _name(study, fold), "distance": None, "official_distance": None}
    if rows is None:
        return facts
    test, train = _known(study.dataset(), fold)
    facts["distance"] = float(np.median(rows.distance(test, train)))
    facts["known_formula"] = float(rows.overlap(test, train).has_formula.mean())
    if official is not None:
        dataset = study.dataset()
        inside = official.dataset()
        if inside.table.digest == dataset.table.digest:
            distances = np.full(len(dataset.table), np.nan)
            for number in range(official.n_folds):
                tested, known = _known(inside, number)
                wanted = np.intersect1d(tested, test)
                if len(wanted):
                    distances[wanted] = rows.distance(wanted, known)
            facts["official_distance"] = float(np.median(distances[test]))
    return facts


def _name(study: Study, fold: int) -> str:
    names = study.fold_names
    return names[fold] if fold < len(names) and names[fold] else f"fold {fold}"


def _model_facts(study: Study, sides: _Sides) -> dict[str, Any]:
    """Return the loss of a model in each fold by groups, inside, and the gap between them; and their means."""
    groups: list[dict[str, Any]] = []
    gaps: list[NDArray[np.float64]] = []
    for fold, each in sides.outside_losses.items():
        loss = dict(zip(each.ids, each.loss.mean(axis=0).tolist(), strict=True))
        shared = [name for name in each.ids if name in sides.inside_loss]
        inside = np.array([sides.inside_loss[name] for name in shared])
        gap = np.array([loss[name] for name in shared]) - inside
        groups.append(
            {
                "fold": fold,
                "name": _name(study, fold),
                "outside": _part(each.loss.mean(axis=0)),
                "inside": _part(inside),
                "gap": _part(gap),
            }
        )
        if len(gap):
            gaps.append(gap)
    facts: dict[str, Any] = {
        "label": sides.result.label,
        "variant": sides.result.variant,
        "seeds": sides.result.seeds,
        "groups": groups,
        "outside": statistics.fmean(group["outside"]["loss"] for group in groups),
        "inside": None,
        "gap": None,
        "gap_interval": None,
    }
    if gaps and len(gaps) == len(groups):
        estimate = _mean_gap(gaps, share_rows=_share_rows(sides))
        facts |= {
            "inside": statistics.fmean(group["inside"]["loss"] for group in groups),
            "gap": estimate.mean,
            "gap_interval": estimate.interval(),
        }
    return facts


def _share_rows(sides: _Sides) -> bool:
    """Whether rows are tested in several folds, so that the noise of rows would be counted as if each had others."""
    tested = [name for each in sides.outside_losses.values() for name in each.ids]
    return len(set(tested)) < len(tested)


def _mean_gap(gaps: Sequence[NDArray[np.float64]], *, share_rows: bool) -> Estimate:
    """Return the mean over folds of the mean gap of their rows; the error is NaN if a fold has one or they share rows.

    The degrees of freedom are those of Satterthwaite (1946, 10.2307/3002019): a group of a few rows has next to none.
    """
    mean = float(np.mean([gap.mean() for gap in gaps]))
    if share_rows or min(map(len, gaps)) < 2:
        return Estimate(mean, math.nan, math.nan)
    variances = np.array([gap.var(ddof=1) / len(gap) for gap in gaps])
    spread = (variances**2 / [len(gap) - 1 for gap in gaps]).sum()
    return Estimate(mean, math.sqrt(variances.sum()) / len(gaps), variances.sum() ** 2 / spread if spread else math.inf)


def _contrasts(study: Study, models: Mapping[str, _Sides]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Compare the gaps of the models of each contrast, on these folds; return what is and what is not compared."""
    found: list[tuple[str, str, Estimate]] = []
    reasons = []
    for one, other in contrasts_of(study):
        if one.label not in models or other.label not in models:
            continue
        difference = _gap_difference(models[one.label], models[other.label])
        if isinstance(difference, str):
            reasons.append({"first": one.label, "second": other.label, "reason": difference})
        else:
            found.append((one.label, other.label, difference))
    adjusted = holm([estimate.p_value() for _, _, estimate in found])
    compared = [
        {"first": first, "second": second, "difference": each.mean, "interval": each.interval(), "p": p}
        for (first, second, each), p in zip(found, adjusted, strict=True)
    ]
    return compared, reasons


def _gap_difference(first: _Sides, second: _Sides) -> Estimate | str:
    """Return the gap of the first model less that of the second, or why its noise is not known."""
    if _share_rows(first):
        return "rows are tested in several folds"
    seeds = sorted(set(first.seeds()) & set(second.seeds()))
    if not seeds:
        return "they have no seed in common in all folds"
    gaps: list[list[NDArray[np.float64]]] = [[], []]
    for fold in sorted(first.outside_losses.keys() & second.outside_losses.keys()):
        known = {*first.inside_loss} & {*second.inside_loss} & {*second.outside_losses[fold].ids}
        ids = [name for name in first.outside_losses[fold].ids if name in known]
        if ids:
            for side, model in zip(gaps, (first, second), strict=True):
                side.append(model.gaps(fold, seeds, ids))
    return estimate_difference(*gaps) if gaps[0] else "they have no test row in common"


def _label(items: Items, facts: Mapping[str, Any]) -> str:
    return f"MAE{items.unit}" if facts["kind"] == "regression" else "share wrong"


def _show_groups(items: Items, facts: Mapping[str, Any]) -> Iterator[Item]:
    groups = facts["groups"]
    yield items.text("outside", worse=_worse_than_floor(groups["models"]))
    yield _group_figure(items, facts)
    yield _model_table(items, facts)
    yield _group_table(items, facts)
    if groups["contrasts"]:
        columns: list[Column] = [
            ("first", "first"),
            ("second", "second"),
            (f"difference of gaps{items.unit}", "difference"),
            *interval_columns("interval"),
            ("p", "p"),
        ]
        yield items.table("gaps-compared", groups["contrasts"], columns, digits=3)
    if any(fold["distance"] is not None for fold in groups["folds"]):
        yield _distance_table(items, facts)


def _worse_than_floor(models: Sequence[Mapping[str, Any]]) -> dict[str, list[str]] | None:
    """Return the groups in which each model has a larger error outside than trees; None where there are no trees."""
    floor = min((m for m in models if m["variant"] == _FLOOR), key=lambda model: float(model["outside"]), default=None)
    if floor is None:
        return None
    least = {group["fold"]: group["outside"]["loss"] for group in floor["groups"]}
    return {
        model["label"]: [
            group["name"]
            for group in model["groups"]
            if group["fold"] in least and group["outside"]["loss"] > least[group["fold"]]
        ]
        for model in models
        if model["variant"] != _FLOOR
    }


def _group_figure(items: Items, facts: Mapping[str, Any]) -> Figure:
    models = facts["groups"]["models"]
    sizes: dict[str, int] = {}
    for model in models:
        for group in model["groups"]:
            sizes[group["name"]] = max(sizes.get(group["name"], 0), group["outside"]["n"])
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_MOST_DRAWN]
    names = [fold["name"] for fold in facts["groups"]["folds"] if fold["name"] in largest]

    def draw() -> Any:
        figure, axes = subplots(width=WIDE, height=3.2)
        step = 0.72 / len(models)
        for i, model in enumerate(models):
            shown = [group for group in model["groups"] if group["name"] in names]
            middle = [names.index(group["name"]) + (i - (len(models) - 1) / 2) * step for group in shown]
            drawn = [
                (x + shift, group[side]["loss"], group[side]["interval"], side == "inside")
                for side, shift in (("inside", -0.16 * step), ("outside", 0.16 * step))
                for x, group in zip(middle, shown, strict=True)
                if group[side]["n"]
            ]
            if drawn:
                at, values, intervals, hollow = zip(*drawn, strict=True)
                points(axes, at, values, np.array(intervals, dtype=float), model["label"], hollow=hollow)
        axes.set_xticks(range(len(names)), [f"{name}\n{sizes[name]:,}" for name in names], rotation=45, ha="right")
        axes.set(ylabel=_label(items, facts), ylim=(0, None))
        axes.yaxis.grid(True)
        legend(figure, *axes.get_legend_handles_labels())
        return figure

    return items.figure("groups", draw, left_out=len(sizes) - len(names))


def _model_table(items: Items, facts: Mapping[str, Any]) -> Table:
    columns: list[Column] = [
        ("model", "label"),
        (f"outside: {_label(items, facts)}", "outside"),
        ("inside", "inside"),
        ("gap", "gap"),
        *interval_columns("gap_interval"),
        ("groups", lambda model: len(model["groups"])),
        ("seeds", lambda model: len(model["seeds"])),
    ]
    return items.table("models", facts["groups"]["models"], columns)


def _group_table(items: Items, facts: Mapping[str, Any]) -> Table:
    groups = facts["groups"]
    lines = [
        {"label": model["label"], **group}
        for fold in groups["folds"]
        for model in groups["models"]
        for group in model["groups"]
        if group["fold"] == fold["fold"]
    ]
    columns: list[Column] = [
        ("group", "name"),
        ("model", "label"),
        ("n", "outside.n"),
        (f"outside: {_label(items, facts)}", "outside.loss"),
        *interval_columns("outside.interval", "outside low", "outside high"),
        ("inside", "inside.loss"),
        *interval_columns("inside.interval", "inside low", "inside high"),
        ("gap", "gap.loss"),
        *interval_columns("gap.interval", "gap low", "gap high"),
    ]
    return items.table("groups", lines, columns, digits=3)


def _distance_table(items: Items, facts: Mapping[str, Any]) -> Table:
    folds = facts["groups"]["folds"]
    columns: list[Column] = [
        ("group", "name"),
        ("distance outside", "distance"),
        ("distance in the official folds", "official_distance"),
        ("formula in training (%)", lambda fold: 100 * fold["known_formula"]),
    ]
    return items.table("distances", folds, columns, digits=3)


def _overlap_table(items: Items, facts: Mapping[str, Any]) -> Table:
    lines = [
        {"label": result["label"], "rows": rows, **part}
        for result in facts["overlap"]["results"]
        for name, halves in _HALVES.items()
        for rows, part in zip(halves, result[name], strict=True)
    ]
    columns: list[Column] = [
        ("model", "label"),
        ("test rows", "rows"),
        ("n", "n"),
        (_label(items, facts), "loss"),
        *interval_columns("interval"),
    ]
    return items.table("overlap", lines, columns)
