"""Section: how far apart does a model put inequivalent atoms of one element? See `reports.environments.pairs`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.base.workers import Progress
from reports.environments.description import describe_test_rows, inequivalent_rows, open_models
from reports.environments.pairs import common_width, resolution, run_separation
from reports.environments.two_ks import DIGITS, MEASURES, NAMES, SUBSETS, WITH_UNIT
from reports.page.items import Column, Items, interval_columns
from reports.page.section import Item, Section
from reports.page.style import MUTED, PAPER, WIDE, legend, look_of, subplots
from reports.study.study import Absent, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["Separation"]


class Separation(Section):
    """The separation score of every run, by 2-KS and by the angle."""

    name: ClassVar[str] = "separation"
    title: ClassVar[str] = "Separation of inequivalent atoms"
    place: ClassVar[int] = 610

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Score every run, trained and untrained."""
        opened = open_models(study, "after", progress)
        table = opened.table
        described = [describe_test_rows(models, table, progress=progress) for _, models in opened.runs]
        width = common_width(own for rows in described for own in rows.environments.widths.values())
        runs, left_out = [], []
        for (result, models), rows in zip(opened.runs, described, strict=True):
            if not len(inequivalent_rows(table, rows.rows)):
                left_out.append({"label": result.label, "drawn": len(rows.rows)})
                continue
            scores = run_separation(models, table, width=width, progress=progress)
            runs.append(
                {
                    "label": result.label,
                    "seed": models.trainings[0].seed,
                    "folds": [training.fold for training in models.trainings],
                    "test_rows": rows.n_rows,
                    "drawn": len(rows.rows),
                    "width": rows.environments.widths,
                    "scores": {
                        measure: {
                            state: {
                                stage: {**asdict(score), "resolution": resolution(measure, score.elements, width)}
                                for stage, score in stages.items()
                            }
                            for state, stages in of_measure.items()
                        }
                        for measure, of_measure in scores.items()
                    },
                }
            )
        if not runs:
            raise Absent(
                "No test crystal has several elements and inequivalent atoms of one of them, so there is nothing to "
                "separate."
            )
        return {
            "runs": runs,
            "width": width,
            "subsets": SUBSETS,
            "without_inequivalent": left_out,
            "problems": opened.giving("before").problems,
        }

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """The scores as a figure, and as a table for each measure."""
        runs = facts["runs"]
        items = Items(__name__, {**facts, "digits": DIGITS})
        yield items.text("summary")
        yield items.figure("scores", lambda: draw_scores(runs))
        for measure, name in WITH_UNIT.items():
            records = [
                {**score, "label": run["label"], "which": f"{state}, {NAMES[stage]}", "width": run["width"][stage]}
                for run in runs
                for state, stages in run["scores"][measure].items()
                for stage, score in stages.items()
            ]
            columns: list[Column] = [
                ("run", "label"),
                ("environments", "which"),
                ("score", "value"),
                *interval_columns("interval", "95 % from", "to"),
                *([("resolution", "resolution")] if measure == "ks" else []),
                (f"{name} inequivalent", "inequivalent"),
                (f"{name} elements", "elements"),
                ("crystals", "n"),
                ("components", "width"),
            ]
            yield items.table(f"{measure}-scores", records, columns)


def draw_scores(runs: Sequence[Mapping[str, Any]]) -> Canvas:
    """Draw the scores of the final environments, a row for each run and a panel for each measure."""
    figure, axes = subplots(1, 2, width=WIDE, height=0.95 + 0.34 * len(runs), sharey=True)
    for axis, (measure, name) in zip(axes, MEASURES.items(), strict=True):
        for i, run in enumerate(runs):
            colour, marker = look_of(run["label"])
            for state, y, face in (("trained", i - 0.14, colour), ("untrained", i + 0.14, PAPER)):
                score = run["scores"][measure][state]["after"]
                if score["value"] is None:
                    axis.text(0, y, " not defined", va="center", color=colour, fontsize=6)
                    continue
                axis.plot(score["interval"], [y, y], color=colour)
                axis.plot([score["value"]], [y], marker, color=colour, markerfacecolor=face)
                if score["resolution"] is not None:
                    axis.plot([score["resolution"]], [y], "|", color=MUTED, markersize=8, zorder=0)
        axis.set_title(name)
        axis.set_xlabel("score (inequivalent atoms of one element / elements)")
        axis.set_xlim(left=0)
        axis.grid(axis="x")
    axes[0].set_yticks(range(len(runs)), [run["label"] for run in runs])
    axes[0].set_ylim(len(runs) - 0.5, -0.5)
    for state, face in (("trained", MUTED), ("untrained", PAPER)):
        axes[0].plot([], [], "o", color=MUTED, markerfacecolor=face, label=state)
    axes[0].plot([], [], "|", color=MUTED, markersize=8, label="resolution")
    legend(figure, *axes[0].get_legend_handles_labels())
    return figure
