"""Section: how the error on validation rows went down while the models were trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from benchmarks.base.console import figures
from benchmarks.base.errors import DataError
from benchmarks.base.workers import Progress
from reports.page.section import Figure, Item, Section, Table
from reports.page.style import MUTED, look_of, panels
from reports.study.study import Absent, Result, Study
from reports.study.wording import in_brackets

__all__ = ["Learning"]


class Learning(Section):
    """Training loss and validation error by epoch."""

    name: ClassVar[str] = "learning"
    title: ClassVar[str] = "Learning curves"
    place: ClassVar[int] = 300

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Read the history of every fold and seed."""
        results = []
        for i, result in enumerate(study.runs):
            curves = _curves(result)
            if curves:
                results.append({"label": result.label, "curves": curves})
            progress(i + 1, len(study.runs))
        if not results:
            raise Absent("No run has a readable history.csv, so that there are no learning curves; train it again.")
        return {"unit": study.task.unit, "kind": study.task.kind, "results": results}

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """One panel for each run, one line for each training."""
        yield _figure(facts)
        yield _table(facts)


def _curves(result: Result) -> list[dict[str, Any]]:
    assert result.run is not None
    curves = []
    for training in result.trainings:
        try:
            rows = result.run.read_history(training)
            columns = {name: [row[name] for row in rows] for name in ("epoch", "train_loss", "validation")}
        except (DataError, KeyError):
            continue
        if not rows:
            continue
        record = result.records[training]
        curves.append(
            {
                "fold": training.fold,
                "seed": training.seed,
                **{name: [float(f"{value:.5g}") for value in column] for name, column in columns.items()},
                "best_epoch": record["best_epoch"],
                "planned": result.facts["config"]["training"]["epochs"],
                "test": record["metrics"].get("mae"),
            }
        )
    return curves


def _figure(facts: Mapping[str, Any]) -> Figure:
    results = facts["results"]
    regression = facts["kind"] == "regression"
    label = f"validation MAE{in_brackets(facts['unit'])}" if regression else "validation error"

    def draw() -> Any:
        figure, axes = panels(len(results), height=2.1, sharex=True, sharey=True)
        for panel, result in zip(axes, results, strict=True):
            for curve in result["curves"]:
                epochs = np.array(curve["epoch"])
                colour = look_of(result["label"]).colour
                panel.plot(epochs, curve["validation"], color=colour, linewidth=0.9, alpha=0.7)
                best = int(np.flatnonzero(epochs == curve["best_epoch"])[0]) if curve["best_epoch"] in epochs else None
                if best is not None:
                    panel.plot(
                        epochs[best],
                        curve["validation"][best],
                        "o",
                        color=look_of(result["label"]).colour,
                        markersize=3,
                    )
            panel.set_title(result["label"])
            panel.set_yscale("log")
            n = len(result["curves"])
            panel.text(
                0.97,
                0.95,
                f"{n} training{'' if n == 1 else 's'}",
                transform=panel.transAxes,
                ha="right",
                va="top",
                fontsize=7,
                color=MUTED,
            )
            _plain_ticks(panel)
        figure.supxlabel("epoch", fontsize=8)
        figure.supylabel(label, fontsize=8)
        return figure

    told = "; ".join(
        f"{result['label']} from {figures(np.median([c['validation'][0] for c in result['curves']]), 3)} to "
        f"{figures(np.median([min(c['validation']) for c in result['curves']]), 3)} (medians)"
        for result in results
    )
    return Figure(
        name="learning-curves",
        draw=draw,
        caption="Error on the validation rows by epoch, a line for each fold and seed; the point is the epoch chosen.",
        method=(
            "Validation rows are cut from the training rows; weights are the moving average. Logarithmic scale. Test "
            "rows play no part."
        ),
        alt=f"Learning curves, {label} against epoch: {told}.",
    )


def _plain_ticks(panel: Any) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

    panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    formatter = ScalarFormatter()
    formatter.set_scientific(False)
    panel.yaxis.set_major_formatter(formatter)
    panel.yaxis.set_minor_formatter(NullFormatter())


def _table(facts: Mapping[str, Any]) -> Table:
    regression = facts["kind"] == "regression"
    unit = in_brackets(facts["unit"])
    rows = []
    for result in facts["results"]:
        for curve in result["curves"]:
            row = [
                result["label"],
                curve["fold"],
                curve["seed"],
                len(curve["epoch"]),
                curve["best_epoch"],
                min(curve["validation"]),
            ]
            rows.append([*row, curve["test"]] if regression else row)
    return Table(
        name="trainings",
        columns=[
            "model",
            "fold",
            "seed",
            "epochs",
            "best epoch",
            f"best validation error{unit}",
            *([f"test MAE{unit}"] if regression else []),
        ],
        rows=rows,
        caption="Every training: the epoch chosen, and the errors there.",
        method="Validation error: MAE, or binary cross-entropy for a classification.",
    )
