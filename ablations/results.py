"""The result of an ablation, and the files that keep it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ablations.answers import answers, explanations, how_often_better, seeds_wanted, verdict, with_share
from ablations.comparison import Declaration, compare_finished, declare_contrasts, scores_in_store
from ablations.detection import Need
from ablations.grid import Setting, Variant
from ablations.judge import Judge, JudgedRows
from ablations.paper import SCALE, paper_mae
from ablations.scores import FinishedVariant, VariantSummary, read_finished, summarise_variant
from benchmarks.base import latex
from benchmarks.base.cache import digest
from benchmarks.base.console import count, figures
from benchmarks.base.errors import UsageError
from benchmarks.base.files import plain, remedy, write_bytes, write_json
from benchmarks.base.text import csv_text
from benchmarks.data.dataset import Dataset
from benchmarks.results.contrasts import MARGIN, Answer, Comparison, KnownNoise, Noise, Superiority, known_noise
from benchmarks.results.metrics import PrimaryMetric
from benchmarks.results.recorded import TUNED_HERE, is_tuned_here
from benchmarks.training.plans import PlannedTraining, run_facts

__all__ = ["AblationResult", "evaluate", "write_result"]

_PARTS = {"noise": Noise, "on_these_folds": Answer, "on_new_data": Answer, "superiority": Superiority}
# Of comparisons.csv, which has one line for each contrast.
_COLUMNS = [
    *(
        f"{field.name}_{part.name}" if part else field.name
        for field in fields(Comparison)
        for part in (fields(_PARTS[field.name]) if field.name in _PARTS else [None])
    ),
    "seeds_for_target",
    "split",
]


@dataclass(frozen=True, eq=False)
class AblationResult:
    """The result of the finished trainings of a grid.

    Attributes:
        variants: All variants of the grid.
        finished: The finished trainings of each variant, in the same order.
        judge: How the variants are scored.
        summaries: Lines of the table, best first, incomplete variants last.
        absent: Settings of the variants without a finished training.
        paper: The paper's mean absolute error for each line, in its scaled units; None where the paper gives none.
        declaration: What was declared before.
        comparisons: The declared contrasts of which both variants have results.
        needs: What each contrast needed after the first stage of a detection.
        known_noise: Noise of training in the run store, where no contrast has two seeds; None where nothing is known.
    """

    variants: Sequence[Variant]
    finished: Sequence[FinishedVariant]
    judge: Judge
    summaries: Sequence[VariantSummary]
    absent: Sequence[Setting]
    paper: Sequence[float | None]
    declaration: Declaration
    comparisons: Sequence[Comparison]
    needs: Sequence[Need] = ()
    known_noise: KnownNoise | None = None

    @property
    def metric(self) -> PrimaryMetric:
        """Metric of the scores."""
        return self.judge.metric

    @property
    def dataset(self) -> Dataset:
        """The data set of all variants, whose crystals may be refined to other tolerances."""
        return self.variants[0].plan.dataset

    @property
    def limits(self) -> list[int]:
        """The limits on the training rows of a fold that variants have, sorted."""
        return sorted({v.plan.config.limit for v in self.variants if v.plan.config.limit is not None})

    def parameters(self) -> list[dict[str, str]]:
        """Return the lines of the table of parameters: of each part of SEN that was counted, and in all."""
        parts = dict.fromkeys(part for row in self.summaries for part in row.parameters_by_part)
        has_capsule = any(math.isfinite(row.parameters_beside_capsule) for row in self.summaries)
        return [
            {
                "variant": str(row.setting),
                **{
                    part: f"{row.parameters_by_part[part]:,}" if part in row.parameters_by_part else ""
                    for part in parts
                },
                "in all": f"{row.parameters:,}",
                **({"beside capsule": _share(row.parameters_beside_capsule)} if has_capsule else {}),
            }
            for row in self.summaries
        ]

    def lines_of_trainings(self) -> list[dict[str, Any]]:
        """Return a line for each finished training, with the name of its fold, if folds have any."""
        names = self.dataset.fold_names
        return [
            {
                "variant": finished.setting.name,
                **finished.setting.values,
                "seed": training.seed,
                "fold": training.fold,
                **({"fold_name": names[training.fold]} if any(names) else {}),
                **(
                    record["metrics"]
                    if finished.judge.rows == "test"
                    else {finished.metric.name: finished.score[training]}
                ),
                "best_epoch": record["best_epoch"],
                "epochs": record["epochs"],
                "wall_seconds": record["wall_seconds"],
                "commit": record["provenance"]["git_commit"],
            }
            for finished in self.finished
            for training, record in sorted(finished.records.items())
        ]

    @property
    def tuned_here(self) -> list[str]:
        """Names of the variants with a recipe that test rows of these folds may have chosen."""
        return [
            str(variant)
            for variant in self.variants
            if is_tuned_here(
                run_facts(variant.plan.config, variant.plan.dataset),
                {training.fold for training in variant.plan.trainings},
            )
        ]

    @property
    def trials(self) -> dict[str, int | None]:
        """Number of recipes that were tried for each variant; None of one that was not tuned."""
        recipes = {str(variant): variant.plan.config.tuned for variant in self.variants}
        return {name: tuned.trials if tuned else None for name, tuned in recipes.items()}

    @property
    def unequal_tuning(self) -> str:
        """A sentence on how variants were tuned, if they were not tuned alike, else nothing."""
        trials = self.trials
        if len(set(trials.values())) == 1:
            return ""
        tuned = "; ".join(f"{name} ({count(n, 'trial')})" for name, n in trials.items() if n is not None)
        others = "; ".join(name for name, n in trials.items() if n is None)
        return f"Tuned: {tuned}{f'; not tuned: {others}' if others else ''}."

    @property
    def explanations(self) -> list[str]:
        """What a reader of the comparisons must know, sentence by sentence."""
        split = self.dataset.task.split
        return explanations(
            self.judge,
            split,
            self.declaration,
            self.comparisons,
            self.known_noise,
            lacks_trainings=any(one.missing for one in self.finished),
        )


def evaluate(
    variants: Sequence[Variant], declaration: Declaration, judge: JudgedRows = "test", needs: Sequence[Need] = ()
) -> AblationResult:
    """Read the finished trainings of at least one variant, and compare the variants by their scores on these rows.

    Args:
        variants: The variants.
        declaration: What was declared before they were trained.
        judge: Rows that judge.
        needs: What each contrast needed after the first stage of a detection.

    Raises:
        DataError: A result is not of this version.
    """
    task = variants[0].plan.dataset.task
    finished = [read_finished(variant, judge) for variant in variants]
    begun = sorted((one for one in finished if one.records), key=FinishedVariant.rank)
    summaries = [summarise_variant(one, finished) for one in begun]
    paper = [paper_mae(task.name, summary.setting.name) if judge == "test" else None for summary in summaries]
    absent = [one.setting for one in finished if not one.records]
    comparisons = compare_finished(finished, declaration)
    how = Judge(task.kind, judge)
    known = None
    if not declaration.resampled and any(comparison.noise is None for comparison in comparisons):
        limits = {variant.plan.config.limit for variant in variants}
        known = known_noise(scores_in_store(variants[0].plan.run.path.parent, how, task.split, limits))
    return AblationResult(variants, finished, how, summaries, absent, paper, declaration, comparisons, needs, known)


def write_result(result: AblationResult, failures: Mapping[PlannedTraining, Exception], command: str) -> Path:
    """Write the result into a folder next to its runs, each file whole or not at all, and return the folder.

    `ablation.json` holds everything; `table.csv`, `comparisons.csv` and `cells.csv` (one line for each training) hold
    the numbers; `table.tex` holds three tables for LaTeX with booktabs.

    Args:
        result: The result.
        failures: The trainings that failed, with the reason.
        command: The command line that gave the result.

    Raises:
        UsageError: The folder cannot be written, or the runs are in an archive.
    """
    plans = [variant.plan for variant in result.variants]
    trainings = sorted({str(training) for plan in plans for training in plan.trainings})
    # The keys are part of the name of the folder; what is the default is left out.
    other: dict[str, Any] = {} if result.judge.rows == "test" else {"judge": result.judge.rows}
    if result.declaration.margin != MARGIN:
        other["margin"] = result.declaration.margin
    if result.declaration.contrasts != declare_contrasts([each.setting for each in result.variants]):
        other["contrasts"] = result.declaration.contrasts
    name = digest(runs=sorted(plan.run.path.name for plan in plans), units=trainings, **other)[:10]
    folder = plans[0].run.folder.parent / f"ablation-{name}"
    task = result.dataset.task
    table = [
        {**_as_facts(row), **_paper_columns(paper)} for row, paper in zip(result.summaries, result.paper, strict=True)
    ]
    declaration = result.declaration
    comparisons = [
        {**asdict(each), "seeds_for_target": each.seeds_for(declaration.target * abs(each.score))}
        for each in result.comparisons
    ]
    facts = {
        "command": command,
        "task": task.facts(),
        "fold_names": result.dataset.fold_names,
        "coverage": result.dataset.coverage,
        "limit": result.limits,
        "tuned_here": result.tuned_here,
        "trials": result.trials,
        "metric": result.metric.name,
        "judge": result.judge.rows,
        "runs": {str(variant): str(variant.plan.run.path) for variant in result.variants},
        "table": table,
        "absent": [str(setting) for setting in result.absent],
        "contrasts": declaration.contrasts,
        "margin": declaration.margin,
        "target": declaration.target,
        "comparisons": comparisons,
        "known_noise": asdict(result.known_noise) if result.known_noise else None,
        "detection": _detection_facts(result),
        "failures": [
            {"run": str(planned.plan.run.path), "training": str(planned), "reason": str(reason)}
            for planned, reason in failures.items()
        ],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "ablation.json", facts)
        _write_csv(
            folder / "table.csv",
            [
                {
                    **line,
                    "metric": result.metric.name,
                    "unit": task.unit,
                    "judge": result.judge.rows,
                    "split": task.split,
                }
                for line in table
            ],
        )
        _write_csv(folder / "comparisons.csv", [{**_flat(each), "split": task.split} for each in comparisons], _COLUMNS)
        _write_csv(
            folder / "cells.csv",
            [{**line, "split": task.split} for line in result.lines_of_trainings()],
        )
        write_bytes(folder / "table.tex", _latex(result).encode())
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written ({error.strerror}): {remedy(error)}, and repeat the command."
        ) from None
    return folder


def _share(share: float) -> str:
    return f"{share:+.0%}" if share and math.isfinite(share) else ""


def _as_facts(line: VariantSummary) -> dict[str, Any]:
    """Return a line for JSON, where numbers that are not finite are None."""
    facts = dict(vars(line))
    facts = {"variant": line.setting.name, "values": dict(facts.pop("setting").values), **facts}
    found: dict[str, Any] = plain(facts)
    return found


def _detection_facts(result: AblationResult) -> dict[str, Any] | None:
    if (detection := result.declaration.detection) is None:
        return None
    needs = [
        {"first": each.comparison.first, "second": each.comparison.second, "seeds": each.seeds, "trained": each.trained}
        for each in result.needs
    ]
    return {**asdict(detection), "needs": needs}


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of a comparison as one line: those of an answer have its name before theirs."""
    line: dict[str, Any] = {}
    for name, value in facts.items():
        line |= {f"{name}_{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
    found: dict[str, Any] = plain(line)
    return found


def _paper_columns(paper: float | None) -> dict[str, float]:
    return {} if paper is None else {"paper_mae_scaled": paper, "paper_mae_ev": paper * SCALE}


def _write_csv(path: Path, lines: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    flat = [
        {key: _joined(value) for key, value in line.items() if not isinstance(value, dict)}
        | line.get("values", {})
        | {f"parameters_{part}": n for part, n in line.get("parameters_by_part", {}).items()}
        for line in lines
    ]
    columns = columns or list(dict.fromkeys(key for line in flat for key in line))
    write_bytes(path, csv_text([columns, *([line.get(column) for column in columns] for line in flat)]).encode())


def _joined(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _latex(result: AblationResult) -> str:
    """Return the table of results, that of parameters and that of comparisons for LaTeX."""
    task = result.dataset.task
    unit = f" ({task.unit})" if task.unit else ""
    heading = f"{result.metric.label}{unit}"
    any_ensemble = any(math.isfinite(row.ensemble) for row in result.summaries)
    any_paper = any(paper is not None for paper in result.paper)
    lines = [
        {
            "variant": str(row.setting),
            heading: figures(row.mean),
            "std, folds": figures(row.std_folds),
            "std, seeds": figures(row.std_seeds),
            **({"seeds averaged": figures(row.ensemble)} if any_ensemble else {}),
            "trainings": f"{row.trainings} of {row.trainings + row.missing}",
            **({"paper (scaled)": _decimals(paper), "paper (eV)": _decimals(paper, SCALE)} if any_paper else {}),
        }
        for row, paper in zip(result.summaries, result.paper, strict=True)
    ]
    notes = [f"{heading} on {result.judge.rows} rows, mean over folds of the mean over seeds."]
    if not result.dataset.is_complete:
        notes.append(f"Partial data: {result.dataset.coverage:.1%} of the rows.")
    if result.limits:
        notes.append(f"Trained on at most {' or '.join(map(str, result.limits))} rows of each fold.")
    if result.tuned_here:
        notes.append(f"{TUNED_HERE.capitalize()}: {'; '.join(result.tuned_here)}.")
    if result.unequal_tuning:
        notes.append(result.unequal_tuning)
    if result.absent:
        notes.append(f"Not finished: {'; '.join(map(str, result.absent))}.")
    label = f"tab:{task.name}" if task.split == "folds" else f"tab:{task.name}-{task.split}"
    parts = [r"% \usepackage{booktabs}", _latex_table(lines, f"{task.title}: {' '.join(notes)}", label)]
    caption = f"{task.title}: trainable parameters."
    parts.append(_latex_table(result.parameters(), caption, f"{label}-parameters"))
    if result.comparisons:
        caption = f"{task.title}: {' '.join(result.explanations)}"
        any_share = any(comparison.superiority for comparison in result.comparisons)
        lines = [
            {
                "first": comparison.first if is_first else "",
                "second": comparison.second if is_first else "",
                f"difference{unit}": with_share(comparison.difference, comparison) if is_first else "",
                "question": question,
                "95 % interval": "" if answer.reason else f"{figures(answer.low, 3)} to {figures(answer.high, 3)}",
                "p": figures(answer.p, 2),
                "verdict": verdict(answer),
                **({} if not any_share else {"first better": "" if is_first else how_often_better(comparison)}),
                "finds": with_share(answer.detectable, comparison, 2),
                "seeds": seeds_wanted(comparison, result.declaration.target) if is_first else "",
            }
            for comparison in result.comparisons
            for is_first, (question, answer) in zip((True, False), answers(comparison), strict=True)
        ]
        parts.append(_latex_table(lines, caption, f"{label}-differences"))
    return "\n".join(parts)


def _decimals(paper: float | None, scale: float = 1) -> str:
    return "--" if paper is None else f"{paper * scale:.2f}"


def _latex_table(lines: Sequence[Mapping[str, str]], caption: str, label: str) -> str:
    """Return lines, which all have the same columns, as a LaTeX float."""
    columns = list(lines[0])
    return latex.table(
        [_with_minus(column) for column in columns],
        [[_with_minus(cell) for cell in line.values()] for line in lines],
        # Names and verdicts are text; the columns between them are numbers.
        alignment="".join(
            "l" if name in {"variant", "first", "second", "question", "verdict", "first better"} else "r"
            for name in columns
        ),
        caption=_with_minus(caption),
        label=label,
        begin=(r"\begin{table}[htbp]",),
    )


def _with_minus(text: str) -> str:
    """Replace hyphens before numbers by minus signs."""
    return re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text)
