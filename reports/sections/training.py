"""Section: the error on the validation rows during training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from benchmarks.base.console import count
from benchmarks.base.errors import DataError
from benchmarks.base.workers import Progress
from benchmarks.data.folds import fold_label
from reports.page.items import Column, Items
from reports.page.section import Figure, Item, Section, Table
from reports.page.style import MUTED, log_ticks, look_of, panels
from reports.study.study import Absent, Result, Study
from reports.study.wording import drawable

__all__ = ["Training"]


class Training(Section):
    """Training loss and validation error by epoch."""

    name: ClassVar[str] = "training"
    title: ClassVar[str] = "Training curves"
    place: ClassVar[int] = 300

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Read the history of every fold and seed."""
        results: list[dict[str, Any]] = []
        for i, result in enumerate(study.runs):
            curves = _curves(result)
            if curves:
                results.append({"label": result.label, "curves": curves})
            progress(i + 1, len(study.runs))
        if not results:
            raise Absent("No run has a readable history.csv, where the training curves are; train it again.")
        unvalidated = [result["label"] for result in results if result["curves"][0]["validation"] is None]
        return {
            "unit": study.task.unit,
            "kind": study.task.kind,
            "fold_names": study.fold_names,
            "results": results,
            "unvalidated": unvalidated,
        }

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """One panel for each run that has validation rows, one line for each training."""
        items = Items(__name__, facts)
        if len(facts["unvalidated"]) < len(facts["results"]):
            yield _figure(items, facts)
        yield _table(items, facts)


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
        has_validation = record["rows"]["validation"] > 0
        curves.append(
            {
                "fold": training.fold,
                "seed": training.seed,
                **{name: drawable(column) for name, column in columns.items()},
                **({} if has_validation else {"validation": None}),
                "best_epoch": record["best_epoch"],
                "planned": result.facts["config"]["training"]["epochs"],
                "test": record["metrics"].get("mae"),
            }
        )
    return curves


def _figure(items: Items, facts: Mapping[str, Any]) -> Figure:
    results = [result for result in facts["results"] if result["label"] not in facts["unvalidated"]]
    label = f"validation MAE{items.unit}" if facts["kind"] == "regression" else "validation error"

    def draw() -> Any:
        import pandas as pd
        import seaborn as sns
        from matplotlib.ticker import MaxNLocator

        titles = [result["label"] for result in results]
        figure, axes = panels(titles, height=2.1, xlabel="epoch", ylabel=label, sharex=True, sharey=True)
        for panel, result in zip(axes, results, strict=True):
            columns = ("fold", "seed", "epoch", "validation", "best_epoch")
            curves = pd.concat([pd.DataFrame({name: curve[name] for name in columns}) for curve in result["curves"]])
            style = {"x": "epoch", "y": "validation", "color": look_of(result["label"]).colour, "ax": panel}
            lines = curves.groupby(["fold", "seed"]).ngroup()
            sns.lineplot(curves, units=lines, estimator=None, linewidth=0.9, alpha=0.7, **style)
            sns.scatterplot(curves[curves["epoch"] == curves["best_epoch"]], s=9, linewidth=0, **style)
            panel.set(yscale="log", xlabel="", ylabel="")
            text = count(len(result["curves"]), "training")
            panel.text(0.97, 0.95, text, transform=panel.transAxes, ha="right", va="top", fontsize=7, color=MUTED)
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            log_ticks(panel.yaxis)
        return figure

    return items.figure("training-curves", draw, label=label)


def _table(items: Items, facts: Mapping[str, Any]) -> Table:
    curves = [{"label": result["label"], **curve} for result in facts["results"] for curve in result["curves"]]
    names: list[str] = facts["fold_names"]
    columns: list[Column] = [
        ("model", "label"),
        ("fold", lambda curve: fold_label(curve["fold"], *names[curve["fold"] :][:1]) if names else curve["fold"]),
        ("seed", "seed"),
        ("epochs", lambda curve: len(curve["epoch"])),
        ("best epoch", "best_epoch"),
        (f"best validation error{items.unit}", lambda curve: min(curve["validation"]) if curve["validation"] else None),
    ]
    if facts["kind"] == "regression":
        columns.append((f"test MAE{items.unit}", "test"))
    return items.table("trainings", curves, columns)
