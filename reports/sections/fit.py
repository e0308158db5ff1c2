"""Section: rows that a model was trained on beside rows that it was tested on (paper Fig. 4a-c)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from benchmarks.base.console import figures
from benchmarks.base.workers import Progress
from benchmarks.data.dataset import as_trained
from benchmarks.results.metrics import score
from benchmarks.results.store import Training
from reports.environments.description import Models, open_models, predictions, shared_fold
from reports.page.items import Column, Items
from reports.page.section import Figure, Item, Section
from reports.page.style import GROUP_COLOURS, INK, MUTED, legend, panels
from reports.study.study import Absent, Result, Study
from reports.study.wording import drawable

__all__ = ["Fit"]

# Training rows that are predicted; of more rows a sample is drawn, which the caption says.
_MOST_ROWS = 3000


class Fit(Section):
    """How much better a model predicts the rows that it was trained on."""

    name: ClassVar[str] = "fit"
    title: ClassVar[str] = "Training rows and test rows"
    place: ClassVar[int] = 210

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Predict training rows of one fold by its model of every run; its test rows were predicted in the run."""
        if study.task.kind == "classification":
            raise Absent("Training rows are shown beside test rows for regressions only.")
        opened = open_models(study, "material", progress)
        # Which rows a model was trained on follows from the rows of its data.
        digest = opened.table.digest
        runs = [(run, models) for run, models in opened.runs if run.facts["data"]["digest"] == digest]
        if not runs:
            raise Absent(
                "The available crystals are not those that the runs were trained on, so which rows these were is "
                "unknown: give the data of the runs with --data-dir."
            )
        others = [run.label for run, _ in opened.runs if run.facts["data"]["digest"] != digest]
        fold = shared_fold([models for _, models in runs])
        results = []
        for run, models in runs:
            training = next((own for own in models.trainings if own.fold == fold), models.trainings[0])
            results.append(_compare(study, run, models, training, progress))
        return {
            "unit": study.task.unit,
            "target": study.task.target,
            "results": results,
            "problems": opened.problems,
            "other_data": others,
            "published": [result.label for result in study.published],
        }

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """One panel for each run, and a table."""
        items = Items(__name__, {**facts, "most_rows": _MOST_ROWS})
        if facts["problems"] or facts["other_data"] or facts["published"]:
            yield items.text("left_out")
        yield _figure(items, facts)
        columns: list[Column] = [
            ("model", "label"),
            (f"MAE{items.unit}, test rows", "test.metrics.mae"),
            (f"MAE{items.unit}, training rows", "train.metrics.mae"),
            ("R², test rows", "test.metrics.r2"),
            ("R², training rows", "train.metrics.r2"),
            ("test rows", "test.rows"),
            ("training rows", "n_train"),
            ("of these predicted", "train.rows"),
            ("fold", "fold"),
            ("seed", "seed"),
        ]
        yield items.table("fit", facts["results"], columns)


def _compare(study: Study, run: Result, models: Models, training: Training, progress: Progress) -> dict[str, Any]:
    """Return the facts of one training: its predictions of its training rows and of its test rows, and their scores."""
    dataset, recipe = as_trained(study.dataset(), run.facts["data"]), models.config.training
    parts = dataset.folds(
        *(training.seed, models.config.limit, recipe.validation, recipe.calibration), numbers=[training.fold]
    )
    trained_on = parts[0].train
    rows = np.sort(np.random.default_rng(0).permutation(trained_on)[:_MOST_ROWS])
    model = models.load(training)
    described = models.describe([dataset.table.crystal(row) for row in rows.tolist()], model, progress=progress)
    tested = models.run.read_predictions(training)
    sides = {
        "train": (dataset.table.target[rows], predictions(model, described, study.task.kind)),
        "test": (np.array(tested.target), np.array(tested.prediction)),
    }
    return {
        "label": run.label,
        "variant": run.variant,
        "fold": training.fold,
        "seed": training.seed,
        "n_train": len(trained_on),
        **{
            side: {
                "rows": len(target),
                "metrics": score(study.task.kind, target, prediction),
                "points": [drawable(target), drawable(prediction)],
            }
            for side, (target, prediction) in sides.items()
        },
    }


def _figure(items: Items, facts: Mapping[str, Any]) -> Figure:
    results = facts["results"]

    def draw() -> Any:
        from matplotlib.lines import Line2D

        sides = {"train": ("training rows", GROUP_COLOURS[0]), "test": ("test rows", GROUP_COLOURS[1])}
        values = np.concatenate([np.ravel(result[side]["points"]) for result in results for side in sides])
        margin = 0.03 * np.ptp(values)
        ends = (values.min() - margin, values.max() + margin)
        labels = {"xlabel": f"true{items.unit}", "ylabel": f"predicted{items.unit}"}
        figure, axes = panels([result["label"] for result in results], height=2.5, **labels)
        for panel, result in zip(axes, results, strict=True):
            panel.plot(ends, ends, color=MUTED, linewidth=0.7, zorder=0)
            for side, (_, colour) in sides.items():
                panel.scatter(*result[side]["points"], s=5, color=colour, alpha=0.45, linewidth=0, rasterized=True)
            panel.set(xlim=ends, ylim=ends, aspect="equal")
            text = "\n".join(_numbers(name, result[side]["metrics"]) for side, (name, _) in sides.items())
            panel.text(0.04, 0.97, text, transform=panel.transAxes, va="top", fontsize=6, color=INK)
        handles = [Line2D([], [], color=colour, marker="o", linewidth=0) for _, colour in sides.values()]
        legend(figure, handles, [name for name, _ in sides.values()])
        return figure

    return items.figure("fit", draw)


def _numbers(name: str, metrics: Mapping[str, Any]) -> str:
    return f"{name}: MAE {figures(metrics['mae'])}" + ("" if metrics["r2"] is None else f", R² {metrics['r2']:.3f}")
