"""Section: how far intervals and probabilities can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.workers import Progress
from benchmarks.results.conformal import (
    Calibrator,
    coverage_range,
    read_calibrators,
    rows_needed,
    spread,
    why_no_interval,
)
from benchmarks.results.store import Predictions, Training
from reports.auditing.breakdown import rank_correlation, rows_by_system
from reports.page.items import FOLDS, Column, Items, interval_columns
from reports.page.section import Figure, Item, Section, Table
from reports.page.style import GRID, MUTED, look_of, panels, subplots
from reports.study.study import Absent, Result, Study

__all__ = ["Calibration"]

# Level of the intervals in tables, and of those in figures.
_LEVEL = 0.9
_LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))
_BINS = 10
# How half-widths are made, by the name of the facts: one for all rows, or by the spread over the seeds of a row.
_WAYS = {"absolute": False, "by_spread": True}


class Calibration(Section):
    """Coverage and width of intervals, and of sets of labels; reliability of probabilities."""

    name: ClassVar[str] = "calibration"
    title: ClassVar[str] = "Calibration"
    place: ClassVar[int] = 250

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Calibrate each fold of each run by its own rows, and count which of its test rows are covered."""
        kind = study.task.kind
        results = []
        for i, result in enumerate(study.results):
            facts: dict[str, Any] = {
                "label": result.label,
                "rows": len(result.rows),
                "folds": result.folds,
                "has_folds": result.has_folds,
            }
            if kind == "classification":
                facts |= _probabilities(result.rows.target, result.rows.prediction)
            if result.run is not None:
                facts |= _intervals(study, result)
            results.append(facts)
            progress(i + 1, len(study.results))
        lacking = {result["label"]: result["reason"] for result in results if result.get("reason")}
        if kind == "regression" and not any(result.get("ways") or result.get("correlation") for result in results):
            raise Absent(
                "No run has an interval. "
                + " ".join(f"{label}: {reason}." for label, reason in dict(list(lacking.items())[:1]).items())
            )
        return {
            "kind": kind,
            "unit": study.task.unit,
            "target": study.task.target,
            "level": _LEVEL,
            "results": results,
            "lacking": lacking,
            "published": [result.label for result in study.published],
            "without_systems": _why_no_systems(study),
        }

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """Reliability, sharpness, coverage over all rows and by crystal system, and whether spread tells of errors."""
        items = Items(__name__, facts)
        calibrated = [result for result in facts["results"] if result.get("ways")]
        if facts["kind"] == "classification":
            yield _reliability_figure(items, facts["results"])
            yield _probability_table(items, facts["results"])
        elif calibrated:
            yield _coverage_figure(items, calibrated)
            yield _sharpness_figure(items, calibrated)
        at_level = [way for way in _each_way(calibrated) if way["at"]]
        if at_level:
            yield _coverage_table(items, facts, at_level)
        if any(way["systems"] for way in at_level):
            yield _system_table(items, facts, at_level)
        if any(result.get("correlation") for result in facts["results"]):
            yield _correlation_table(items, facts["results"])
        if facts["lacking"] or facts["published"] or facts["without_systems"]:
            yield items.text("without_intervals")


@dataclass(frozen=True, eq=False)
class _Fold:
    """The test rows of one fold, predicted by the model of each seed, and what calibrates these models."""

    calibrator: Calibrator | None
    test: Predictions
    prediction: NDArray[np.float64]  # [seeds, n]


def _folds(result: Result) -> list[_Fold]:
    run = result.run
    assert run is not None
    by_fold: dict[int, list[Training]] = {}
    for training in result.trainings:
        by_fold.setdefault(training.fold, []).append(training)
    calibrators = read_calibrators(run, result.trainings, "calibration")
    folds = []
    for fold, trainings in by_fold.items():
        parts = [run.read_predictions(training) for training in trainings]
        prediction = np.stack([part.prediction for part in parts])
        folds.append(_Fold(calibrators.get(fold), parts[0], prediction))
    return folds


def _intervals(study: Study, result: Result) -> dict[str, Any]:
    """Return what intervals of a run cover, or why it has none, and whether its spread tells of its errors."""
    folds = _folds(result)
    sizes = [0 if fold.calibrator is None else len(fold.calibrator) for fold in folds]
    facts: dict[str, Any] = {
        "calibrating": [min(sizes), max(sizes)],
        "reason": why_no_interval(result.facts["config"]["training"], sizes, _LEVEL),
    }
    has_spread = all(len(fold.prediction) > 1 for fold in folds)
    if study.task.kind == "regression" and has_spread:
        error = np.concatenate([np.abs(fold.test.target - fold.prediction.mean(axis=0)) for fold in folds])
        facts["correlation"] = rank_correlation(np.concatenate([spread(fold.prediction) for fold in folds]), error)
    if min(sizes):
        ways = _WAYS if has_spread and study.task.kind == "regression" else {"absolute": False}
        facts["ways"] = {name: _way(study, folds, by_spread) for name, by_spread in ways.items()}
    return facts


def _way(study: Study, folds: Sequence[_Fold], by_spread: bool) -> dict[str, Any]:
    """Return coverage and width at every level that the rows suffice for, and by crystal system at one of them."""
    calibrators = [fold.calibrator for fold in folds if fold.calibrator is not None]
    fewest = min(map(len, calibrators))
    levels = [level for level in _LEVELS if rows_needed(level) <= fewest]
    n_test = [len(fold.test.ids) for fold in folds]
    sizes, number = [len(each) for each in calibrators], np.repeat(np.arange(len(folds)), n_test)
    facts: dict[str, Any] = {"levels": levels, "at": None, "systems": []}
    curve = []
    for level in levels:
        covered, width = _cover(study, folds, calibrators, level, by_spread=by_spread)
        chance = coverage_range(sizes, n_test, level)
        curve.append((float(covered.mean()), list(chance), float(f"{width.mean():.5g}")))
        if level == _LEVEL:
            facts["at"] = _shares(study, sizes, number, covered, width)
            if _why_no_systems(study) is None:
                ids = [name for fold in folds for name in fold.test.ids]
                groups = study.crystals().space_group[study.positions(ids)]
                facts["systems"] = [
                    {"group": name, **_shares(study, sizes, number[at], covered[at], width[at])}
                    for name, at in rows_by_system(groups)
                ]
    coverage, ranges, widths = map(list, zip(*curve, strict=True))
    area = np.trapezoid(np.abs(np.subtract([0, *coverage], [0, *levels])), [0, *levels])
    return {**facts, "coverage": coverage, "range": ranges, "width": widths, "area": float(area)}


def _cover(
    study: Study, folds: Sequence[_Fold], calibrators: Sequence[Calibrator], level: float, *, by_spread: bool
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return whether each test row [n] is covered, and the width of its interval or the size of its set of labels."""
    covered, width = [], []
    for fold, calibrator in zip(folds, calibrators, strict=True):
        target = fold.test.target
        if study.task.kind == "classification":
            held = calibrator.labels(fold.prediction, level)
            covered.append(held[target.astype(int), np.arange(len(target))])
            width.append(held.sum(axis=0).astype(float))
        else:
            low, high = calibrator.interval(fold.prediction, level, by_spread=by_spread)
            covered.append((low <= target) & (target <= high))
            width.append(high - low)
    return np.concatenate(covered), np.concatenate(width)


def _shares(
    study: Study,
    n_calibrating: Sequence[int],
    fold: NDArray[np.int64],
    covered: NDArray[np.bool_],
    width: NDArray[np.float64],
) -> dict[str, Any]:
    """Return which share of rows [n] is covered, what chance allows, and how wide the intervals or sets are."""
    n_test = np.bincount(fold, minlength=len(n_calibrating)).tolist()
    if study.task.kind == "classification":
        widths = {"both": float((width == 2).mean()), "neither": float((width == 0).mean())}
    else:
        widths = {"width": float(width.mean())}
    chance = coverage_range(n_calibrating, n_test, _LEVEL)
    return {"n": len(fold), "coverage": float(covered.mean()), "range": list(chance), **widths}


def _why_no_systems(study: Study) -> str | None:
    """Return why the crystal systems of the rows are not known; None if they are."""
    try:
        study.crystals()
    except Absent as absent:
        return str(absent)
    return None


def _probabilities(target: NDArray[np.float64], probability: NDArray[np.float64]) -> dict[str, Any]:
    """Return how probabilities compare with what is true: by tenths, and as two scores."""
    bins = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    tenths = [
        {
            "rows": int(np.count_nonzero(bins == i)),
            "predicted": float(probability[bins == i].mean()),
            "true": float(target[bins == i].mean()),
        }
        for i in range(_BINS)
        if (bins == i).any()
    ]
    return {
        "reliability": tenths,
        "ece": sum(tenth["rows"] * abs(tenth["predicted"] - tenth["true"]) for tenth in tenths) / len(target),
        "brier": float(((probability - target) ** 2).mean()),
    }


def _each_way(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the facts of every way of every result, with the label and the number of rows that calibrate."""
    return [
        {
            "label": result["label"],
            "way": name.replace("_", " "),
            "calibrating": " to ".join(f"{n:,}" for n in dict.fromkeys(result["calibrating"])),
            **{key: result[key] for key in ("folds", "has_folds")},
            **way,
        }
        for result in results
        for name, way in result["ways"].items()
    ]


def _line(way: str) -> str:
    return "-" if way == "absolute" else "--"


def _coverage_figure(items: Items, results: Sequence[Mapping[str, Any]]) -> Figure:
    def draw() -> Any:
        titles = [result["label"] for result in results]
        figure, axes = panels(titles, height=2.5, xlabel="level asked for", ylabel="share of test rows covered")
        for panel, result in zip(axes, results, strict=True):
            panel.plot((0, 1), (0, 1), color=MUTED, linewidth=0.7, zorder=0)
            for way in _each_way([result]):
                low, high = np.transpose(way["range"])
                panel.fill_between(way["levels"], low, high, color=GRID, linewidth=0, zorder=0)
                colour = look_of(result["label"]).colour
                panel.plot(way["levels"], way["coverage"], _line(way["way"]), color=colour, label=way["way"])
            panel.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
            panel.legend(loc="upper left")
        return figure

    return items.figure("coverage", draw, ways=_each_way(results))


def _sharpness_figure(items: Items, results: Sequence[Mapping[str, Any]]) -> Figure:
    def draw() -> Any:
        figure, axes = subplots(height=3.0)
        for way in _each_way(results):
            look = look_of(way["label"])
            axes.plot(
                way["coverage"],
                way["width"],
                _line(way["way"]),
                marker=look.marker,
                markersize=2.5,
                color=look.colour,
                label=f"{way['label']}, {way['way']}",
            )
        axes.set(xlim=(0, 1), xlabel="share of test rows covered", ylabel=f"mean width{items.unit}")
        axes.set_ylim(bottom=0)
        axes.grid(visible=True)
        axes.legend(loc="upper left")
        return figure

    return items.figure("sharpness", draw, ways=_each_way(results))


def _reliability_figure(items: Items, results: Sequence[Mapping[str, Any]]) -> Figure:
    def draw() -> Any:
        titles = [result["label"] for result in results]
        figure, axes = panels(titles, height=2.5, xlabel="predicted probability", ylabel="share that is true")
        for panel, result in zip(axes, results, strict=True):
            predicted, true, n = (
                np.array([tenth[name] for tenth in result["reliability"]]) for name in ("predicted", "true", "rows")
            )
            look = look_of(result["label"])
            panel.plot((0, 1), (0, 1), color=MUTED, linewidth=0.7, zorder=0)
            panel.bar(predicted, n / result["rows"], width=0.05, color=GRID, zorder=0)
            panel.plot(predicted, true, marker=look.marker, color=look.colour)
            panel.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        return figure

    return items.figure("reliability", draw)


def _probability_table(items: Items, results: Sequence[Mapping[str, Any]]) -> Table:
    columns: list[Column] = [("model", "label"), ("ECE", "ece"), ("Brier score", "brier"), ("n", "rows"), FOLDS]
    return items.table("probabilities", results, columns, digits=3)


def _coverage_columns(items: Items, facts: Mapping[str, Any], path: str = "") -> list[Column]:
    """Return the columns of what is covered, which a record has at a path."""
    widths: list[Column] = [(f"mean width{items.unit}", f"{path}width")]
    if facts["kind"] == "classification":
        widths = [("both labels", f"{path}both"), ("neither", f"{path}neither")]
    return [
        ("n", f"{path}n"),
        ("covered", f"{path}coverage"),
        *interval_columns(f"{path}range", "by chance low", "by chance high"),
        *widths,
    ]


def _coverage_table(items: Items, facts: Mapping[str, Any], ways: Sequence[Mapping[str, Any]]) -> Table:
    columns: list[Column] = [
        ("model", "label"),
        *([("interval", "way")] if facts["kind"] == "regression" else []),
        *_coverage_columns(items, facts, "at."),
        ("miscalibration area", "area"),
        ("rows that calibrate a fold", "calibrating"),
        FOLDS,
    ]
    return items.table("coverage", ways, columns, digits=3)


def _system_table(items: Items, facts: Mapping[str, Any], ways: Sequence[Mapping[str, Any]]) -> Table:
    systems = [{**way, **system} for way in ways for system in way["systems"]]
    columns: list[Column] = [
        ("system", "group"),
        ("model", "label"),
        *([("interval", "way")] if facts["kind"] == "regression" else []),
        *_coverage_columns(items, facts),
    ]
    names = list(dict.fromkeys(system["group"] for system in systems))
    return items.table("systems", sorted(systems, key=lambda each: names.index(each["group"])), columns, digits=3)


def _correlation_table(items: Items, results: Sequence[Mapping[str, Any]]) -> Table:
    known = [result for result in results if result.get("correlation")]
    columns: list[Column] = [
        ("model", "label"),
        ("correlation", "correlation.value"),
        *interval_columns("correlation.interval"),
        ("n", "correlation.n"),
    ]
    return items.table("correlation", known, columns, digits=3)
