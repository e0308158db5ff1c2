"""The result of an ablation and the files it is kept in."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.comparison import Comparison, Finished, VariantScore, as_facts, compare, read_finished, summary_row
from ablations.grid import Setting, Variant
from ablations.judge import Judge, JudgedRows
from ablations.paper import SCALE, paper_mae
from benchmarks.base.cache import digest
from benchmarks.base.console import figures
from benchmarks.base.errors import UsageError
from benchmarks.base.files import write_bytes, write_json
from benchmarks.base.latex import escape
from benchmarks.results.metrics import PrimaryMetric
from benchmarks.training.plans import PlannedTraining

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Result", "evaluate", "write_result"]


@dataclass(frozen=True, eq=False)
class Result:
    """What a grid says so far.

    Attributes:
        variants: All of the grid.
        finished: What is finished of each, in the same order.
        judge: What the variants are judged by.
        rows: Lines of the table, best first, incomplete ones last.
        absent: The variants of which nothing is finished.
        comparisons: Paired differences.
        paper: The paper's mean absolute error of each line in its scaled units, where the paper has one.
    """

    variants: Sequence[Variant]
    finished: Sequence[Finished]
    judge: Judge
    rows: Sequence[VariantScore]
    absent: Sequence[Setting]
    comparisons: Sequence[Comparison]
    paper: Sequence[float | None]

    @property
    def metric(self) -> PrimaryMetric:
        """What the scores are."""
        return self.judge.metric


def evaluate(variants: Sequence[Variant], judge: JudgedRows = "test") -> Result:
    """Read what is finished of the variants, at least one, and compare it, judged by these rows.

    Raises:
        DataError: A result is not of this version.
    """
    task = variants[0].plan.dataset.task
    finished = [read_finished(variant, judge) for variant in variants]
    rows = [summary_row(one, finished) for one in sorted((one for one in finished if one.records), key=Finished.rank)]
    paper = [paper_mae(task.name, row.setting.block) if judge == "test" else None for row in rows]
    absent = [one.setting for one in finished if not one.records]
    return Result(variants, finished, Judge(task.kind, judge), rows, absent, compare(finished), paper)


def write_result(result: Result, failures: Mapping[PlannedTraining, Exception], command: str) -> Path:
    """Write the result beside its runs, each file whole or not at all, and return the folder.

    `ablation.json` holds everything; `table.csv`, `comparisons.csv` and `cells.csv` (one line for each training) the
    numbers; `table.tex` two tables for LaTeX with booktabs.

    Raises:
        UsageError: The folder cannot be written, or the runs are in an archive.
    """
    plans = [variant.plan for variant in result.variants]
    trainings = sorted({str(training) for plan in plans for training in plan.trainings})
    judged = {} if result.judge.rows == "test" else {"judge": result.judge.rows}
    name = digest(runs=sorted(plan.run.path.name for plan in plans), units=trainings, **judged)[:10]
    folder = plans[0].run.folder.parent / f"ablation-{name}"
    task = plans[0].dataset.task
    unit = task.unit
    table = [{**as_facts(row), **_paper_columns(paper)} for row, paper in zip(result.rows, result.paper, strict=True)]
    comparisons = [as_facts(comparison) for comparison in result.comparisons]
    facts = {
        "command": command,
        "task": task.facts(),
        "coverage": plans[0].dataset.coverage,
        "limit": sorted({plan.config.limit for plan in plans if plan.config.limit is not None}),
        "metric": result.metric.name,
        "judge": result.judge.rows,
        "runs": {str(variant): str(variant.plan.run.path) for variant in result.variants},
        "table": table,
        "absent": [str(setting) for setting in result.absent],
        "comparisons": comparisons,
        "failures": [
            {"run": str(planned.plan.run.path), "training": str(planned.training), "reason": str(reason)}
            for planned, reason in failures.items()
        ],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "ablation.json", facts)
        _write_csv(
            folder / "table.csv",
            [{**line, "metric": result.metric.name, "unit": unit, "judge": result.judge.rows} for line in table],
        )
        _write_csv(folder / "comparisons.csv", comparisons, [field.name for field in fields(Comparison)])
        _write_csv(folder / "cells.csv", _cells(result.finished))
        write_bytes(folder / "table.tex", _latex(result, unit).encode())
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror}): make room, and repeat the command.") from None
    return folder


def _paper_columns(paper: float | None) -> dict[str, float]:
    return {} if paper is None else {"paper_mae_scaled": paper, "paper_mae_ev": paper * SCALE}


def _cells(all_finished: Sequence[Finished]) -> list[dict[str, Any]]:
    """Return a line for every training."""
    return [
        {
            "block": finished.setting.block,
            **finished.setting.values,  # noqa: PD011 - no data frame
            "seed": training.seed,
            "fold": training.fold,
            **(
                record["metrics"] if finished.judge.rows == "test" else {finished.metric.name: finished.score[training]}
            ),
            "best_epoch": record["best_epoch"],
            "epochs": record["epochs"],
            "wall_seconds": record["wall_seconds"],
            "commit": record["provenance"]["git_commit"],
        }
        for finished in all_finished
        for training, record in sorted(finished.records.items())
    ]


def _write_csv(path: Path, lines: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    import pandas as pd

    text = io.StringIO()
    flat = [
        {key: _joined(value) for key, value in line.items() if key != "values"} | dict(line.get("values", {}))
        for line in lines
    ]
    pd.DataFrame(flat, columns=columns).to_csv(text, index=False, lineterminator="\n")
    write_bytes(path, text.getvalue().encode())


def _joined(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _latex(result: Result, unit: str) -> str:
    """Return the two tables for LaTeX."""
    import pandas as pd

    task, plans = result.variants[0].plan.dataset.task, [variant.plan for variant in result.variants]
    label, of = f"{result.metric.label}{f' ({unit})' if unit else ''}", f" ({unit})" if unit else ""
    any_ensemble = any(math.isfinite(row.ensemble) for row in result.rows)
    table = pd.DataFrame(
        {
            "block": str(row.setting),
            label: figures(row.mean),
            "std, folds": figures(row.std_folds),
            "std, seeds": figures(row.std_seeds),
            **({"seeds averaged": figures(row.ensemble)} if any_ensemble else {}),
            "trainings": f"{row.trainings} of {row.trainings + row.missing}",
            "parameters": f"{row.parameters:,}",
            **({} if paper is None else {"paper (scaled)": f"{paper:.2f}", "paper (eV)": f"{paper * SCALE:.2f}"}),
        }
        for row, paper in zip(result.rows, result.paper, strict=True)
    ).fillna("--")
    differences = pd.DataFrame(
        {
            "block": comparison.variant,
            "against": comparison.against,
            f"difference{of}": figures(comparison.difference, 3),
            "95 % interval": f"{figures(comparison.low, 3)} to {figures(comparison.high, 3)}",
            "p (Holm)": figures(comparison.p_holm, 2),
            "verdict": comparison.verdict,
        }
        for comparison in result.comparisons
    )
    notes = [f"{label} on {result.judge.rows} rows, mean over folds of the mean over seeds."]
    notes += [f"Partial data: {plans[0].dataset.coverage:.1%} of the rows."] if not plans[0].dataset.is_complete else []
    limits = sorted({plan.config.limit for plan in plans if plan.config.limit is not None})
    notes += [f"Trained on at most {' or '.join(map(str, limits))} rows of each fold."] if limits else []
    notes += [f"Not finished: {'; '.join(map(str, result.absent))}."] if result.absent else []
    parts = [r"% \usepackage{booktabs}", _booktabs(table, f"{task.name}: {' '.join(notes)}", f"tab:{task.name}")]
    if len(differences):
        caption = (
            f"{task.name}: paired differences; interval: bootstrap over test rows, p: corrected resampled t-test over "
            "folds (Nadeau and Bengio 2003), adjusted after Holm for the comparisons with the same block. The best "
            "block was chosen on these rows."
        )
        parts.append(_booktabs(differences, caption, f"tab:{task.name}-differences"))
    return "\n".join(parts)


def _booktabs(frame: DataFrame, caption: str, label: str) -> str:
    from pandas import Series

    escaped = frame.rename(columns=_escape).apply(lambda column: Series([_escape(str(cell)) for cell in column]))
    # Names and verdicts are text, what stands between them numbers.
    is_text = [name in {"block", "against", "verdict"} for name in frame.columns]
    text: str = escaped.to_latex(
        index=False,
        escape=False,
        caption=_escape(caption),
        label=label,
        position="htbp",
        column_format="".join("l" if each else "r" for each in is_text),
    )
    return text


def _escape(text: str) -> str:
    """Escape a text in which numbers have hyphens for their signs."""
    return escape(re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text))
