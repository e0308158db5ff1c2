"""Section: the error against the number of training rows, of models that were trained with several limits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.workers import Progress
from benchmarks.data.folds import depends_on_data
from benchmarks.results.contrasts import declare
from benchmarks.results.metrics import primary_metric
from benchmarks.results.statistics import Estimate, corrected_variance, holm, share_tested
from benchmarks.results.store import Training
from reports.page.items import Column, Items, interval_columns
from reports.page.section import Figure, Item, Section, Table
from reports.page.style import drawing, legend, log_ticks, look_of, points, subplots
from reports.study.study import Absent, Result, Study

__all__ = ["LearningCurves"]


@dataclass(frozen=True, eq=False)
class _Curve:
    """The errors of one model at P numbers of training rows.

    Attributes:
        label: Name of the block or model.
        runs: The run of each number of rows, P.
        rows: Rows that a fold trains and validates on, their mean over the folds, ascending, [P].
        units: What the errors vary over: folds, or the seeds of a single fold, U.
        error: Mean over the other of the two of the error in a unit, [P, U].
        n_seeds: Number of seeds of a fold.
        folds: Folds.
        ratio: Ratio of test to training rows by which folds depend on each other; 0 for the seeds of a single fold.
    """

    label: str
    runs: Sequence[Result]
    rows: NDArray[np.float64]
    units: Sequence[int]
    error: NDArray[np.float64]
    n_seeds: int
    folds: Sequence[int]
    ratio: float

    def estimate(self, values: NDArray[np.float64]) -> Estimate:
        """Return the mean of values in the units [U] with its error; NaN for a single unit."""
        if len(values) < 2:
            return Estimate(float(values.mean()), math.nan, math.nan)
        return Estimate(float(values.mean()), math.sqrt(corrected_variance(values, self.ratio)), len(values) - 1)

    def power_law(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return log a and b of error = a n^-b in each unit, [U] each; None where an error is 0."""
        if not (self.error > 0).all():
            return None
        slope, intercept = np.polyfit(np.log(self.rows), np.log(self.error), 1)
        return intercept, -slope

    def rows_for(self, error: float) -> tuple[str, float]:
        """Return "", and the rows at which the mean error falls to this one.

        Between points the logarithms are on a line. Outside of them it is "at most" with the fewest rows, or "more
        than" with the most.
        """
        means = self.error.mean(axis=1)
        reached = np.flatnonzero(means <= error)
        if not len(reached):
            return "more than", float(self.rows[-1])
        if (at := int(reached[0])) == 0:
            return "at most", float(self.rows[0])
        low, high = np.log(np.maximum(means[[at, at - 1]], np.finfo(float).tiny))
        share = (math.log(error) - low) / (high - low) if error > 0 else 0.0
        few, many = np.log(self.rows[[at - 1, at]])
        return "", float(np.exp(many + share * (few - many)))


class LearningCurves(Section):
    """Error against training rows, with a power law, and the rows that each model needs."""

    name: ClassVar[str] = "learning-curves"
    title: ClassVar[str] = "Learning curves over data"
    place: ClassVar[int] = 320

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Collect the runs that differ by their limit alone, and fit a power law to the errors of each model."""
        metric = primary_metric(study.task.kind)
        curves, left_out = [], []
        for runs in _alike(study.runs):
            if len(runs) > 1 and (curve := _curve(runs, metric.name, higher_is_better=metric.higher_is_better)):
                curves.append(curve)
            elif len(runs) > 1:
                left_out.append([run.label for run in runs])
        progress(1, 1)
        if not curves:
            raise Absent(
                "No model was trained on several numbers of rows, on the same folds and seeds: "
                "`sen-bench ablate --limit 250,500,1000,all` trains it so."
            )
        curves = _named(curves)
        return {
            "unit": study.task.unit,
            "kind": study.task.kind,
            "metric": metric.label,
            "has_groups": depends_on_data(study.task.split),
            "curves": [_facts(curve) for curve in curves],
            "needed": [_needed(target, curves) for target in curves],
            "exponents": _compared(curves),
            "left_out": left_out,
        }

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """A summary, the curves, the power laws, and the rows that models need."""
        items = Items(__name__, facts)
        yield items.text("summary")
        yield _figure(items, facts)
        yield _error_table(items, facts)
        yield _exponent_table(items, facts)
        if len(facts["curves"]) > 1:
            yield _needed_table(items, facts)
        if facts["exponents"]:
            columns: list[Column] = [
                ("first", "first"),
                ("second", "second"),
                ("difference", "difference"),
                *interval_columns("interval"),
                ("p", "p"),
            ]
            yield items.table("exponents-compared", facts["exponents"], columns, digits=3)
        yield items.text("limits")


def _alike(runs: Iterable[Result]) -> Iterator[list[Result]]:
    """Yield the runs whose configurations differ by nothing but the limit of rows, from the fewest rows to the most.

    What depends on the number of rows unless it is given does not count, and of recipes that were tuned for each
    number only the trials do.
    """
    groups: dict[str, list[Result]] = {}
    for run in runs:
        chosen = {field: value for field, value in run.chosen().items() if field != "limit"}
        if run.tuned:
            chosen = {"trials": run.tuned["trials"]}
        groups.setdefault(json.dumps([run.variant, chosen], sort_keys=True), []).append(run)
    for group in groups.values():
        yield sorted(group, key=lambda run: run.fields["limit"] or math.inf)


def _curve(runs: Sequence[Result], metric: str, *, higher_is_better: bool) -> _Curve | None:
    """Return the curve of these runs on the trainings that all have; None where there are none, or no two numbers."""
    common: list[Training] = sorted(set.intersection(*(set(run.trainings) for run in runs)))
    given = [
        [each["train"] + each["validation"] + each.get("calibration", 0) for each in _rows(run, common)] for run in runs
    ]
    if not common or len({tuple(rows) for rows in given}) < len(runs):
        return None
    folds, seeds = (sorted({getattr(training, name) for training in common}) for name in ("fold", "seed"))
    by = "fold" if len(folds) > 1 else "seed"
    units = folds if by == "fold" else seeds

    def error(run: Result, unit: int) -> float:
        scores = [run.records[each]["metrics"][metric] for each in common if getattr(each, by) == unit]
        return float(np.mean([1 - score if higher_is_better else score for score in scores]))

    return _Curve(
        label=str(runs[0].variant),
        runs=runs,
        rows=np.array([np.mean(rows) for rows in given]),
        units=units,
        error=np.array([[error(run, unit) for unit in units] for run in runs]),
        n_seeds=len(common) // len(folds),
        folds=folds,
        ratio=share_tested(runs[-1].records[each] for each in common) if by == "fold" else 0.0,
    )


def _rows(run: Result, trainings: Iterable[Training]) -> Iterator[Mapping[str, int]]:
    return (run.records[training]["rows"] for training in trainings)


def _named(curves: Sequence[_Curve]) -> list[_Curve]:
    """Name the curves of one variant by their runs with the most rows, which say how they differ."""
    variants = [curve.label for curve in curves]
    return [
        replace(curve, label=curve.runs[-1].label) if variants.count(curve.label) > 1 else curve for curve in curves
    ]


def _facts(curve: _Curve) -> dict[str, Any]:
    means = curve.error.mean(axis=1)
    law = curve.power_law()
    fitted: dict[str, Any] | None = None
    if law is not None:
        level, exponent = law
        line = level.mean() - exponent.mean() * np.log(curve.rows)
        estimate = curve.estimate(exponent)
        fitted = {
            "factor": math.exp(level.mean()),
            "exponent": estimate.mean,
            "interval": estimate.interval(),
            "deviation": float(np.abs(np.expm1(np.log(curve.error).mean(axis=1) - line)).max()),
        }
    return {
        "label": curve.label,
        "folds": curve.folds,
        "n_seeds": curve.n_seeds,
        "points": [
            {
                "run": run.label,
                "limit": run.fields["limit"],
                "rows": n,
                "error": mean,
                "interval": _interval(curve, each),
            }
            for run, n, mean, each in zip(curve.runs, curve.rows.tolist(), means.tolist(), curve.error, strict=True)
        ],
        "power_law": fitted,
        "changing": _changing(curve),
    }


def _interval(curve: _Curve, error: NDArray[np.float64]) -> tuple[float, float]:
    """Return the interval of the mean of errors [U], which are positive: that of its logarithm."""
    estimate = curve.estimate(error)
    if not estimate.mean > 0:
        return math.nan, math.nan
    low, high = Estimate(math.log(estimate.mean), estimate.error / estimate.mean, estimate.df).interval()
    return math.exp(low), math.exp(min(high, 700.0))


def _changing(curve: _Curve) -> list[dict[str, Any]]:
    """Return the fields of the recipe and the model that depend on the number of training rows, with their values."""
    return [
        {"field": field, "values": [json.dumps(run.fields[field]) for run in curve.runs]}
        for field in curve.runs[0].fields
        if field != "limit"
        and not field.startswith("tuned.")
        and any(run.fields.get(field) != curve.runs[0].fields[field] for run in curve.runs)
    ]


def _needed(target: _Curve, curves: Sequence[_Curve]) -> dict[str, Any]:
    """Return the rows with which each model reaches the error that the target has with the most rows."""
    error = float(target.error[-1].mean())
    needed = []
    for curve in curves:
        bound, rows = ("", float(target.rows[-1])) if curve is target else curve.rows_for(error)
        needed.append({"label": curve.label, "bound": bound, "rows": rows})
    return {"label": target.label, "error": error, "rows": float(target.rows[-1]), "needed": needed}


def _compared(curves: Sequence[_Curve]) -> list[dict[str, Any]]:
    """Compare the exponents of models that have the same numbers of rows, fold by fold or seed by seed."""
    by_label = {curve.label: curve for curve in curves}
    found = []
    for names in declare({curve.label: (str(curve.runs[0].variant), frozenset()) for curve in curves}):
        first, second = (by_label[name] for name in names)
        laws = first.power_law(), second.power_law()
        alike = first.units == second.units and first.folds == second.folds and np.array_equal(first.rows, second.rows)
        if laws[0] is None or laws[1] is None or not alike or len(first.units) < 2:
            continue
        estimate = first.estimate(laws[0][1] - laws[1][1])
        found.append((names, estimate))
    adjusted = holm([estimate.p_value() for _, estimate in found])
    return [
        {
            "first": first,
            "second": second,
            "difference": estimate.mean,
            "interval": estimate.interval(),
            "p": p,
        }
        for ((first, second), estimate), p in zip(found, adjusted, strict=True)
    ]


def _figure(items: Items, facts: Mapping[str, Any]) -> Figure:
    curves = facts["curves"]

    def draw() -> Any:
        with drawing([curve["label"] for curve in curves]):
            figure, axes = subplots(width=5.2, height=3.4)
            for curve in curves:
                rows = [point["rows"] for point in curve["points"]]
                values, intervals = ([point[name] for point in curve["points"]] for name in ("error", "interval"))
                points(axes, rows, values, np.array(intervals, dtype=float), curve["label"])
                if law := curve["power_law"]:
                    ends = np.array([rows[0], rows[-1]])
                    line = law["factor"] * ends ** -law["exponent"]
                    axes.plot(ends, line, color=look_of(curve["label"]).colour, linewidth=0.9, linestyle="--")
            axes.set(xlabel="rows to train and validate on", ylabel=_error_label(items, facts), xscale="log")
            log_ticks(axes.xaxis)
            if all(curve["power_law"] for curve in curves):  # no error is 0
                axes.set_yscale("log")
                log_ticks(axes.yaxis)
            axes.grid(True)
            legend(figure, *axes.get_legend_handles_labels())
            return figure

    return items.figure("curves", draw)


def _error_label(items: Items, facts: Mapping[str, Any]) -> str:
    return f"MAE{items.unit}" if facts["kind"] == "regression" else f"1 - {facts['metric']}"


def _error_table(items: Items, facts: Mapping[str, Any]) -> Table:
    lines = [{"label": curve["label"], **point} for curve in facts["curves"] for point in curve["points"]]
    columns: list[Column] = [
        ("model", "label"),
        ("limit", lambda line: "all" if line["limit"] is None else line["limit"]),
        ("rows", lambda line: round(line["rows"])),
        (_error_label(items, facts), "error"),
        *interval_columns("interval"),
    ]
    return items.table("errors", lines, columns)


def _exponent_table(items: Items, facts: Mapping[str, Any]) -> Table:
    columns: list[Column] = [
        ("model", "label"),
        ("exponent b", "power_law.exponent"),
        *interval_columns("power_law.interval"),
        ("farthest point (%)", lambda curve: curve["power_law"] and 100 * curve["power_law"]["deviation"]),
        ("points", lambda curve: len(curve["points"])),
        ("folds", lambda curve: len(curve["folds"])),
        ("seeds", "n_seeds"),
    ]
    return items.table("power-laws", facts["curves"], columns, digits=3)


def _needed_table(items: Items, facts: Mapping[str, Any]) -> Table:
    columns: list[Column] = [
        ("error of", "label"),
        (_error_label(items, facts), "error"),
        *((curve["label"], lambda target, i=i: _shown(target["needed"][i])) for i, curve in enumerate(facts["curves"])),
    ]
    return items.table("needed", facts["needed"], columns)


def _shown(needed: Mapping[str, Any]) -> str:
    sign = {"": "", "at most": "≤ ", "more than": "> "}[needed["bound"]]
    return f"{sign}{needed['rows']:,.0f}"
