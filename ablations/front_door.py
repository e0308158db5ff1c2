"""Compare variants from Python: `from ablations import ablate, compare`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ablations.ablation import (
    choose_ablation,
    open_place,
    plan_grid,
    refuse_failures,
    store_result,
    train_grid,
)
from ablations.answers import answers
from benchmarks.base.interrupts import Interrupted
from benchmarks.base.machine import check_device_name
from benchmarks.base.zip_path import AnyPath
from benchmarks.cli.front_door import as_path, chosen_options, each_of, given_data, name_of, parse_share, stopped_error
from benchmarks.data.dataset import Dataset
from benchmarks.data.tasks import Task
from benchmarks.results.contrasts import MARGIN, Comparison
from benchmarks.results.run_config import Recipe
from benchmarks.results.store import Run
from reports.study.differences import choose_contrasts, compare_results
from reports.study.reading import read_studies

if TYPE_CHECKING:
    from pandas import DataFrame

    from sen.blocks import SymmetryBlock
    from sen.models import CrystalModel

__all__ = ["Ablated", "ablate", "compare"]


@dataclass(frozen=True)
class Ablated:
    """The result of an ablation; a notebook shows its table and its comparisons.

    Attributes:
        table: A line for each variant, best first: values on the axes, score as mean over folds of the mean over seeds
            in the unit of the task, its standard deviations, folds, seeds, trainings, parameters, time and memory.
        scores: A line for each training: variant, values on the axes, seed, fold, and the metrics on its test rows.
        comparisons: Two lines for each contrast, see `compare`.
        explanations: What a reader of the comparisons must know, in sentences.
        runs: The run of each variant.
        folder: Where the same stands in files; None if the runs are in an archive.
    """

    table: DataFrame
    scores: DataFrame
    comparisons: DataFrame
    explanations: tuple[str, ...]
    runs: Mapping[str, Run]
    folder: AnyPath | None

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        shown = self.table.drop(columns=_NOT_SHOWN, errors="ignore")
        return f"{shown.to_html(index=False)}{self.comparisons.to_html(index=False)}"


_NOT_SHOWN = ["rows", "parameters_by_part", "parameters_beside_capsule", "epoch_seconds", "peak_memory_bytes"]


def ablate(
    data: Dataset | Task | Path | str,
    *,
    blocks: Iterable[str | type[SymmetryBlock]] | None = None,
    models: Iterable[str | type[CrystalModel]] | None = None,
    folds: int | str | Sequence[int | str] | None = None,
    seed: int = 0,
    seeds: int = 1,
    settings: Mapping[str, Any] | None = None,
    contrasts: str | Sequence[str] = (),
    margin: float = MARGIN,
    recipe: Recipe = "own",
    out: Path | str = "runs",
    device: str = "auto",
    jobs: int = 1,
) -> Ablated:
    """Train variants on the same folds and seeds, and compare them, as `sen-bench ablate` does.

    Finished trainings are kept, and those that were stopped go on: after Ctrl-C the same call continues.

    Args:
        data: What `load_dataset` or `load_task` returned, the name of a task, or the path of own data.
        blocks: Blocks of SEN, by their names or as classes; by default all that are installed, or none with models.
        models: Models beside SEN, by their names or as classes.
        folds: Numbers or names of folds; by default those that the task runs, mostly all.
        seed: The first seed.
        seeds: Number of seeds, counted up from the first; two or more say what is noise of training.
        settings: Value of each configuration field that is not the default; a list of several values adds an axis to
            the grid, such as {"training.epochs": 20, "sen.rounds": [1, 3, 5]}.
        contrasts: What to compare, such as "mlp:capsule"; by default every other variant with capsule, else with the
            first by name.
        margin: Share of the second variant's score within which two are equivalent.
        recipe: That of each model's publication ("own"), or one and the same for every model ("common").
        out: Folder of the run store.
        device: "auto", "cpu", "cuda" or "cuda:N".
        jobs: Trainings at the same time; -1: one per core.

    Returns:
        Scores and comparisons as data frames.

    Raises:
        UsageError: There is no such task, block, model, field or fold, or a value does not fit.
        DataError: The data cannot be read.
        RunError: Trainings failed; the message has the reasons. The others are stored.
        KeyboardInterrupt: It was stopped; what was trained is kept.
    """
    dataset, task = given_data(data)
    options = chosen_options(folds, seed, seeds, settings, recipe, device, jobs, out)
    check_device_name(options.device)
    ablation = choose_ablation(
        options,
        task=task,
        blocks=_names("block", blocks),
        models=_names("model", models),
        set_=[f"{field}={_values(value)}" for field, value in (settings or {}).items()],
        contrast=each_of(contrasts),
        margin=f"{100 * parse_share('margin', margin):.10g}%",
    )
    try:
        with ExitStack() as stack:
            place = open_place(stack, device, jobs, None, options.out)
            grid = plan_grid(ablation, place, dataset=dataset)
            grid, needs, failures = train_grid(grid, place)
    except (KeyboardInterrupt, Interrupted) as stopped:
        raise stopped_error(stopped) from None
    result, folder = store_result(grid, needs, failures, f"from Python: ablate({ablation.task.name!r}, ...)")
    refuse_failures(grid, failures)
    import pandas as pd

    return Ablated(
        table=pd.DataFrame(
            {"variant": row.setting.name, **vars(row.setting)["values"], **vars(row)} for row in result.summaries
        ).drop(columns="setting"),
        scores=pd.DataFrame(result.lines_of_trainings()),
        comparisons=_frame(result.comparisons),
        explanations=tuple(result.explanations),
        runs={str(variant): variant.plan.run for variant in grid.variants},
        folder=folder,
    )


def _names(kind: Literal["block", "model"], given: Iterable[str | type[Any]] | None) -> str | None:
    """Return blocks or models as the command names them.

    Raises:
        UsageError: One is neither a name nor such a class.
    """
    if given is None:
        return None
    return ",".join(str(name_of(kind, each)) for each in each_of(given))


def _values(given: object) -> str:
    """Return the values of a field as the command takes them."""
    every = given if isinstance(given, list) else [given]
    return ",".join(value if isinstance(value, str) else json.dumps(value) for value in every)


def compare(
    runs: Run | AnyPath | str | Iterable[Run | AnyPath | str] = "runs",
    *,
    contrasts: str | Sequence[str] = (),
    margin: float = MARGIN,
) -> DataFrame:
    """Compare runs that exist, on the trainings and test rows that both of two have; nothing is trained.

    Runs are compared within a task and its split, and named as the report names them: by their block or model, and by
    the fields in which those of the same differ.

    Args:
        runs: Runs, folders of runs, archives, or a list of these.
        contrasts: What to compare, such as "mlp:capsule"; by default every other run with capsule, else with the first
            by name.
        margin: Share of the second run's score within which two are equivalent.

    Returns:
        Two lines for each contrast, one for each question ("on these folds", "on new data"): the difference (first less
        second) in the unit of the task, the score of the second, the ends of the 95 % interval, p after Holm, the
        verdict and why there is none, the difference that such a design finds in four of five studies, and the folds,
        seeds and rows compared. Random splits have the share on which the first is better, its interval, and what is
        found, too.

    Raises:
        UsageError: There is no such folder, archive or contrast, or no finished run.
        DataError: An archive or predictions cannot be read.
    """
    import pandas as pd

    share = parse_share("margin", margin)
    paths = [as_path(each) for each in each_of(runs)]
    studies = read_studies(paths)
    choose_contrasts(studies, each_of(contrasts), share)
    frames = [
        _frame(compare_results(study), task=study.task.name, split=study.task.split, unit=study.task.unit)
        for study in studies
    ]
    return pd.concat(frames, ignore_index=True)


def _frame(comparisons: Sequence[Comparison], **of_all: str) -> DataFrame:
    """Return comparisons as a data frame, a line for each question; `of_all` are columns of every line."""
    import pandas as pd

    columns = [*of_all, "first", "second", "question", "difference", "score", "low", "high", "p", "verdict", "reason"]
    lines = []
    for one in comparisons:
        found = one.superiority
        often = {"share_better": found.share, "share_low": found.low, "share_high": found.high} if found else {}
        lines += [
            {
                **of_all,
                "first": one.first,
                "second": one.second,
                "question": question,
                "difference": one.difference,
                "score": one.score,
                "low": answer.low,
                "high": answer.high,
                "p": answer.p,
                "verdict": answer.verdict,
                "reason": answer.reason,
                "detectable": answer.detectable,
                "folds": len(one.folds),
                "seeds": len(one.seeds),
                "rows": one.rows,
                **({**often, "finding": found.finding} if found else {}),
            }
            for question, answer in answers(one)
        ]
    return pd.DataFrame(lines) if lines else pd.DataFrame(columns=columns)
