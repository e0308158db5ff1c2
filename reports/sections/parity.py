"""Section: predictions against true values (paper Fig. 4a-c)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from benchmarks.base.console import figures
from benchmarks.base.workers import Progress
from reports.page.section import Figure, Item, Section, Table
from reports.page.style import GRID, INK, MUTED, look_of, n_columns, panels
from reports.study.study import Study, fold_scores
from reports.study.wording import drawable, in_brackets, join

__all__ = ["Parity"]

# More points than this would hide each other and fill the page: a sample of the rows is drawn, and said to be.
_MOST_POINTS = 20_000
_BINS = 10


class Parity(Section):
    """Every test row: what was predicted against what is true."""

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
                facts["reliability"] = _reliability(rows.target, rows.prediction)
                facts["confusion"] = _confusion(rows.target, rows.prediction)
            results.append(facts)
            progress(i + 1, len(study.results))
        return {"kind": study.task.kind, "unit": study.task.unit, "target": study.task.target, "results": results}

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """One panel for each result."""
        if facts["kind"] == "regression":
            yield _parity_figure(facts)
            yield _parity_table(facts)
        else:
            yield _reliability_figure(facts)
            yield _confusion_table(facts)


def _reliability(target: Any, probability: Any) -> list[dict[str, float]]:
    """Rows by tenths of the predicted probability: how many, what was predicted, what was true."""
    bins = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    return [
        {
            "rows": int(np.count_nonzero(bins == i)),
            "predicted": float(probability[bins == i].mean()),
            "true": float(target[bins == i].mean()),
        }
        for i in range(_BINS)
        if (bins == i).any()
    ]


def _confusion(target: Any, probability: Any) -> dict[str, int]:
    label, truth = probability > 0.5, target > 0.5
    return {
        "true_positive": int(np.count_nonzero(label & truth)),
        "false_positive": int(np.count_nonzero(label & ~truth)),
        "false_negative": int(np.count_nonzero(~label & truth)),
        "true_negative": int(np.count_nonzero(~label & ~truth)),
    }


def _parity_figure(facts: Mapping[str, Any]) -> Figure:
    results, unit = facts["results"], in_brackets(facts["unit"])

    def draw() -> Any:
        figure, axes = panels(len(results), height=2.55)
        values = np.concatenate([np.concatenate(result["points"]) for result in results])
        low, high = values.min(), values.max()
        margin = 0.03 * (high - low)
        ends = (low - margin, high + margin)
        for panel, result in zip(axes, results, strict=True):
            target, prediction = result["points"]
            panel.plot(ends, ends, color=MUTED, linewidth=0.7, zorder=0)
            size = 7 if len(target) < 3000 else 3 if len(target) < 12000 else 1.5
            colour = look_of(result["label"]).colour
            panel.scatter(target, prediction, s=size, color=colour, alpha=0.45, linewidths=0, rasterized=True)
            panel.set_xlim(ends)
            panel.set_ylim(ends)
            panel.set_aspect("equal")
            panel.set_title(result["label"])
            metrics = result["metrics"]
            r2 = "" if metrics["r2"] is None else f"\nR² {metrics['r2']:.4f}"
            seeds = f"\npoints: means of {_seeds(result)} seeds" if result["seeds"][1] > 1 else ""
            text = f"MAE {figures(metrics['mae'])}{r2}\nn {result['rows']:,}{seeds}"
            panel.text(0.04, 0.97, text, transform=panel.transAxes, va="top", fontsize=7, color=INK, linespacing=1.35)
        columns = n_columns(len(results))
        for i, panel in enumerate(axes):
            if i % columns == 0:
                panel.set_ylabel(f"predicted{unit}")
            if i + columns >= len(results):
                panel.set_xlabel(f"true{unit}")
        return figure

    sampled = [result for result in results if len(result["points"][0]) < result["rows"]]
    drawn = f" Points: {_MOST_POINTS:,} rows drawn at random; the numbers are of all rows." if sampled else ""
    told = "; ".join(f"{r['label']}: MAE {figures(r['metrics']['mae'])}, n = {r['rows']:,}" for r in results)
    return Figure(
        name="parity",
        draw=draw,
        caption=f"Predicted against true {facts['target']} of every test row; right on the line.{drawn}",
        method=(
            "As Fig. 4a–c of Liang et al. (10.1038/s41467-023-40756-2), with every row predicted by the models that "
            f"did not see it{_unproven(results)}. MAE and R² are those of the overview: means over folds, and over the "
            "seeds of each. A point is the mean prediction over seeds, which lies nearer to the line than that of a "
            "single seed."
        ),
        alt=f"Scatter plots of predicted against true values{unit}. {told}.",
    )


def _parity_table(facts: Mapping[str, Any]) -> Table:
    unit = in_brackets(facts["unit"])
    return Table(
        name="errors",
        columns=[
            "model",
            f"MAE{unit}",
            f"RMSE{unit}",
            "R²",
            f"bias{unit}",
            f"median error{unit}",
            f"90 % below{unit}",
            f"99 % below{unit}",
            "n",
            "folds",
            "seeds",
        ],
        rows=[
            [
                result["label"],
                result["metrics"]["mae"],
                result["metrics"]["rmse"],
                result["metrics"]["r2"],
                result["bias"],
                *result["quantiles"],
                result["rows"],
                len(result["folds"]) if result["has_folds"] else None,
                _seeds(result),
            ]
            for result in facts["results"]
        ],
        caption="How errors are distributed.",
        method=(
            "MAE, RMSE and R²: means over folds, and over the seeds of each. Bias: mean of predicted minus true over "
            "all test rows. Then quantiles over them of the absolute error, of which each row has its mean over seeds."
        ),
    )


def _reliability_figure(facts: Mapping[str, Any]) -> Figure:
    results = facts["results"]

    def draw() -> Any:
        figure, axes = panels(len(results), height=2.5)
        for panel, result in zip(axes, results, strict=True):
            bins = result["reliability"]
            panel.plot((0, 1), (0, 1), color=MUTED, linewidth=0.7, zorder=0)
            panel.bar(
                [b["predicted"] for b in bins],
                [b["rows"] / result["rows"] for b in bins],
                width=0.05,
                color=GRID,
                zorder=0,
            )
            panel.plot(
                [b["predicted"] for b in bins],
                [b["true"] for b in bins],
                marker=look_of(result["label"]).marker,
                color=look_of(result["label"]).colour,
            )
            panel.set_xlim(-0.03, 1.03)
            panel.set_ylim(-0.03, 1.03)
            panel.set_aspect("equal")
            panel.set_title(result["label"])
            panel.set_xlabel("predicted probability")
        axes[0].set_ylabel("share that is true")
        return figure

    scores = [(r["label"], r["metrics"]["balanced_accuracy"]) for r in results]
    told = "; ".join(f"{label}: balanced accuracy {figures(math.nan if s is None else s)}" for label, s in scores)
    return Figure(
        name="reliability",
        draw=draw,
        caption=(
            f"Share of rows whose {facts['target']} is true against its predicted probability; on the line "
            "probabilities mean what they say. Grey bars: share of the rows."
        ),
        method="Test rows in ten bins of the probability, which is the mean over seeds.",
        alt=f"Reliability diagrams. {told}.",
    )


def _confusion_table(facts: Mapping[str, Any]) -> Table:
    return Table(
        name="confusion",
        columns=[
            "model",
            "true positives",
            "false positives",
            "false negatives",
            "true negatives",
            "accuracy",
            "balanced accuracy",
            "F1",
            "ROC-AUC",
            "n",
            "folds",
        ],
        rows=[
            [
                result["label"],
                *(result["confusion"][f"{right}_{sign}"] for right, sign in _CELLS),
                *(result["metrics"][name] for name in ("accuracy", "balanced_accuracy", "f1", "rocauc")),
                result["rows"],
                len(result["folds"]) if result["has_folds"] else None,
            ]
            for result in facts["results"]
        ],
        caption="Predicted labels against true ones.",
        method=(
            "Counts: of all test rows, by the mean probability over seeds; above 0.5 counts as true. Scores: means "
            "over folds, and over the seeds of each. ROC-AUC is that of the probabilities, not MatBench's column."
        ),
    )


def _unproven(results: Iterable[Mapping[str, Any]]) -> str:
    """Name the published files of which it is not known what their models saw."""
    labels = [result["label"] for result in results if not result["has_folds"]]
    return f"; whether that holds for {join(labels)} its file does not tell" if labels else ""


_CELLS = (("true", "positive"), ("false", "positive"), ("false", "negative"), ("true", "negative"))


def _seeds(result: Mapping[str, Any]) -> int | str:
    """Return how many seeds the mean of a point is of: 2, or "1 to 2" where not all folds have as many."""
    fewest, most = result["seeds"]
    return int(most) if fewest == most else f"{fewest} to {most}"
