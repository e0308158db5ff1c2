"""Section: predictions against true values (paper Fig. 4a-c)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from benchmarks.base.console import figures
from benchmarks.base.workers import Progress
from reports.page.items import FOLDS, Column, Items
from reports.page.section import Figure, Item, Section, Table
from reports.page.style import INK, MUTED, look_of, panels
from reports.study.study import Study, fold_scores
from reports.study.wording import drawable

__all__ = ["Parity"]

# More points would hide each other and fill the page; of more rows a sample is drawn, which the caption says.
_MOST_POINTS = 20_000


class Parity(Section):
    """Predicted against true values of every test row."""

    name: ClassVar[str] = "parity"
    title: ClassVar[str] = "Predictions and true values"
    place: ClassVar[int] = 200

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Collect the points, rounded to what a figure can show, and score them."""
        results = []
        for i, result in enumerate(study.results):
            rows = result.rows
            n = len(rows)
            at = np.arange(n)
            if n > _MOST_POINTS:
                at = np.sort(np.random.default_rng(0).choice(n, _MOST_POINTS, replace=False))
            scores = fold_scores(result, study.task.kind).values()
            facts: dict[str, Any] = {
                "label": result.label,
                "rows": n,
                "folds": result.folds,
                "has_folds": result.has_folds,
                "seeds": [int(rows.n_seeds.min()), int(rows.n_seeds.max())],
                # Those of the overview, so that a model has one MAE on the page: means over folds and seeds.
                "metrics": {name: float(np.mean([score[name] for score in scores])) for name in next(iter(scores))},
            }
            if study.task.kind == "regression":
                facts["bias"] = float((rows.prediction - rows.target).mean())
                facts["quantiles"] = np.quantile(rows.error, (0.5, 0.9, 0.99)).tolist()
                facts["points"] = [drawable(rows.target[at]), drawable(rows.prediction[at])]
            else:
                facts["confusion"] = _confusion(rows.target, rows.prediction)
            results.append(facts)
            progress(i + 1, len(study.results))
        return {"kind": study.task.kind, "unit": study.task.unit, "target": study.task.target, "results": results}

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """One panel for each result."""
        items = Items(__name__, facts)
        if facts["kind"] == "regression":
            yield _parity_figure(items, facts)
            yield _parity_table(items, facts)
        else:
            yield _confusion_table(items, facts)


def _confusion(target: Any, probability: Any) -> dict[str, int]:
    from sklearn.metrics import confusion_matrix

    ((tn, fp), (fn, tp)) = confusion_matrix(target > 0.5, probability > 0.5, labels=[False, True]).tolist()
    return {"true_positive": tp, "false_positive": fp, "false_negative": fn, "true_negative": tn}


def _parity_figure(items: Items, facts: Mapping[str, Any]) -> Figure:
    results = facts["results"]

    def draw() -> Any:
        import seaborn as sns

        values = np.concatenate([np.concatenate(result["points"]) for result in results])
        margin = 0.03 * np.ptp(values)
        ends = (values.min() - margin, values.max() + margin)
        titles = [result["label"] for result in results]
        labels = {"xlabel": f"true{items.unit}", "ylabel": f"predicted{items.unit}"}
        figure, axes = panels(titles, height=2.55, **labels)
        for panel, result in zip(axes, results, strict=True):
            target, prediction = result["points"]
            colour = look_of(result["label"]).colour
            size = 7 if len(target) < 3000 else 3 if len(target) < 12000 else 1.5
            panel.plot(ends, ends, color=MUTED, linewidth=0.7, zorder=0)
            points = {"s": size, "color": colour, "alpha": 0.45, "linewidth": 0, "rasterized": True}
            sns.scatterplot(x=target, y=prediction, ax=panel, **points)
            panel.set(xlim=ends, ylim=ends, aspect="equal")
            top, right = panel.inset_axes((0, 1, 1, 0.1), sharex=panel), panel.inset_axes((1, 0, 0.1, 1), sharey=panel)
            bars = {"bins": 40, "binrange": ends, "color": colour, "alpha": 0.45, "linewidth": 0}
            sns.histplot(x=target, ax=top, **bars)
            sns.histplot(y=prediction, ax=right, **bars)
            top.set_axis_off()
            right.set_axis_off()
            text = _numbers(result)
            panel.text(0.04, 0.97, text, transform=panel.transAxes, va="top", fontsize=7, color=INK, linespacing=1.35)
        return figure

    is_sampled = any(len(result["points"][0]) < result["rows"] for result in results)
    return items.figure("parity", draw, n_points=_MOST_POINTS if is_sampled else None)


def _numbers(result: Mapping[str, Any]) -> str:
    """Return the text in the panel of a result."""
    metrics = result["metrics"]
    lines = [f"MAE {figures(metrics['mae'])}"]
    if metrics["r2"] is not None:
        lines.append(f"R² {metrics['r2']:.4f}")
    lines.append(f"n {result['rows']:,}")
    if result["seeds"][1] > 1:
        lines.append(f"points: means of {_seeds(result)} seeds")
    return "\n".join(lines)


def _parity_table(items: Items, facts: Mapping[str, Any]) -> Table:
    unit = items.unit
    columns: list[Column] = [
        ("model", "label"),
        (f"MAE{unit}", "metrics.mae"),
        (f"RMSE{unit}", "metrics.rmse"),
        ("R²", "metrics.r2"),
        (f"bias{unit}", "bias"),
        (f"median error{unit}", "quantiles.0"),
        (f"90 % below{unit}", "quantiles.1"),
        (f"99 % below{unit}", "quantiles.2"),
        ("n", "rows"),
        FOLDS,
        ("seeds", _seeds),
    ]
    return items.table("errors", facts["results"], columns)


def _confusion_table(items: Items, facts: Mapping[str, Any]) -> Table:
    columns: list[Column] = [
        ("model", "label"),
        ("true positives", "confusion.true_positive"),
        ("false positives", "confusion.false_positive"),
        ("false negatives", "confusion.false_negative"),
        ("true negatives", "confusion.true_negative"),
        ("accuracy", "metrics.accuracy"),
        ("balanced accuracy", "metrics.balanced_accuracy"),
        ("F1", "metrics.f1"),
        ("ROC-AUC", "metrics.rocauc"),
        ("n", "rows"),
        FOLDS,
    ]
    return items.table("confusion", facts["results"], columns)


def _seeds(result: Mapping[str, Any]) -> int | str:
    """Return how many seeds a point is the mean of: 2, or "1 to 2" if that depends on the fold."""
    fewest, most = result["seeds"]
    return int(most) if fewest == most else f"{fewest} to {most}"
