"""Writing of finished runs as a MatBench submission file; `benchmarks.results.submission` reads one."""

from __future__ import annotations

import gzip
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import DataError, UsageError
from benchmarks.base.files import write_bytes
from benchmarks.data.folds import N_FOLDS
from benchmarks.data.tasks import Task, get_task
from benchmarks.results.metrics import matbench_scores
from benchmarks.results.recorded import is_tuned_here, recorded_variant, variant_label, variant_option
from benchmarks.results.store import Run, Training
from benchmarks.results.submission import (
    BENCHMARK,
    FOLDS,
    VERSION,
    Misfit,
    content_hash,
    require_official,
    require_values,
    row_numbers,
)

__all__ = ["make_submission", "write_submission"]

_DATESTAMP = "%Y.%m.%d %H:%M.%S"

# Half the width of the 95 % interval of a normal distribution, in standard deviations.
_HALF_WIDTH = NormalDist().inv_cdf(0.975)


def make_submission(runs: Sequence[Run], *, algorithm: str | None = None, moment: datetime) -> dict[str, Any]:
    """Make the content of a submission file from finished runs, one for each task.

    The prediction of a row is the mean over the seeds. With two or more seeds, the uncertainty is their standard
    deviation (ddof 1: the seeds are a sample) and the 95 % interval of a normal distribution. A classification has
    none, because matbench 0.6 does not accept it.

    Args:
        runs: The runs.
        algorithm: Name of the model; default: its own, or SEN with its block.
        moment: Time at which the file is made, in UTC.

    Raises:
        UsageError: A run cannot be submitted: folds are missing or damaged, the data are partial, training rows were
            limited, rows of the task chose the recipe, the initial weights may know test rows, the task is not of
            MatBench, or the test rows are not the official ones; or there are two runs of one task, or runs of
            different models.
        DataError: A run cannot be read.
    """
    finished = [_finished(run) for run in runs]
    for i, one in enumerate(finished):
        for other in finished[:i]:
            if one.task.name == other.task.name:
                raise UsageError(
                    f"{other.run.path} and {one.run.path} are both runs of {one.task.name}: "
                    "a submission has one result for each task."
                )
            if one.variant != other.variant:
                raise UsageError(
                    f"{other.run.path} is a run of {other.variant}, {one.run.path} of {one.variant}: "
                    "a submission has the results of one model."
                )
    parts = sorted(finished, key=lambda part: part.task.name)
    content = {
        "@module": "matbench.bench",
        "@class": "MatbenchBenchmark",
        "version": VERSION,
        "tasks": {part.task.name: _task_content(part) for part in parts},
        "user_metadata": {
            "algorithm": algorithm or _default_name(parts),
            "variant": parts[0].variant,
            "predictions": "mean over the seeds; uncertainty of regressions: standard deviation over seeds (ddof 1)",
            "tasks": {part.task.name: _task_metadata(part) for part in parts},
        },
        "benchmark_name": BENCHMARK,
        "datestamp": moment.strftime(_DATESTAMP),
    }
    return {**content, "hash": content_hash(content)}


def _default_name(parts: Sequence[_Finished]) -> str:
    """Return what the model is called where the user names it not: with what it was pretrained on."""
    on = sorted({part.facts["config"]["pretrained"]["task"] for part in parts if "pretrained" in part.facts["config"]})
    return variant_label(parts[0].facts["config"]) + (f", pretrained on {', '.join(on)}" if on else "")


def write_submission(path: Path, content: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write a submission file, whole or not at all; the same content gives the same bytes.

    Raises:
        UsageError: The file exists and `overwrite` is false, its name does not end in .json.gz, or it cannot be
            written.
    """
    if not path.name.endswith(".json.gz"):
        raise UsageError(f"{path} must end in .json.gz: MatBench's file is called results.json.gz.")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists: name another file, or replace it with --overwrite.")
    try:
        write_bytes(path, gzip.compress(json.dumps(content, allow_nan=False).encode(), mtime=0))
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}).") from error


@dataclass(frozen=True, eq=False)
class _Finished:
    """A run that can be submitted, with its content.

    Attributes:
        run: The run.
        task: Its task.
        variant: Name of its block or model.
        facts: Its config.json.
        seeds: Its seeds.
        ids: Row ids of each fold's test rows.
        targets: Their targets, for each fold [n].
        predictions: The predictions of each seed for them, for each fold [n_seeds, n].
        records: The record of each training.
    """

    run: Run
    task: Task
    variant: str
    facts: dict[str, Any]
    seeds: list[int]
    ids: list[list[str]]
    targets: list[NDArray[np.float64]]
    predictions: list[NDArray[np.float64]]
    records: dict[Training, dict[str, Any]]


def _finished(run: Run) -> _Finished:
    facts = run.read_config()
    try:
        task = _submittable_task(run, facts)
        variant = recorded_variant(facts["config"])
        seeds = _complete_seeds(run, task, shlex.join(variant_option(facts["config"])))
        ids, targets, predictions = [], [], []
        for fold in range(N_FOLDS):
            parts = [run.read_predictions(Training(seed, fold)) for seed in seeds]
            if any(part.ids != parts[0].ids or (part.target != parts[0].target).any() for part in parts):
                raise UsageError(f"The seeds in {run.path} were not tested on the same rows of fold {fold}.")
            ids.append(parts[0].ids)
            targets.append(parts[0].target)
            predictions.append(np.stack([part.prediction for part in parts]))
        records = {
            Training(seed, fold): run.read_metrics(Training(seed, fold)) for seed in seeds for fold in range(N_FOLDS)
        }
    except (KeyError, TypeError) as error:
        raise DataError(f"The config.json in {run.path} was not written by sen-bench ({error!r}).") from None
    try:
        rows = row_numbers(task, ids)
        truth = np.empty(sum(map(len, rows)))
        truth[np.concatenate(rows)] = np.concatenate(targets)
        require_official(task, rows, truth)
        for names, predicted in zip(ids, predictions, strict=True):
            for values in predicted:
                require_values(task, names, values)
    except Misfit as error:
        raise UsageError(f"{run.path} cannot be submitted: {error}.") from None
    return _Finished(run, task, variant, facts, seeds, ids, targets, predictions, records)


def _submittable_task(run: Run, facts: Mapping[str, Any]) -> Task:
    name, limit = facts["task"]["name"], facts["config"]["limit"]
    if not facts["task"]["is_official"]:
        raise UsageError(
            f"{run.path} is a run on {name}, which is not a task of MatBench and cannot be submitted to it."
        )
    if facts["task"]["split"] != "folds":
        raise UsageError(
            f"{run.path} is a run on the split {facts['task']['split']}: a submission needs a run on the official "
            "folds."
        )
    task = get_task(name)
    if not facts["data"]["is_complete"]:
        raise UsageError(
            f"{run.path} is a run on partial data, {facts['data']['coverage']:.1%} of {name}: "
            f"a submission needs all {task.n_rows:,} rows, from the official file."
        )
    if limit is not None:
        raise UsageError(
            f"{run.path} was trained on at most {limit:,} rows of each fold (--limit): "
            "a submission needs a run without that limit."
        )
    if is_tuned_here(facts, range(N_FOLDS)):
        raise UsageError(
            f"{run.path} has a recipe that rows of {name} chose (sen-bench tune), among them test rows of other folds: "
            "a submission needs a recipe that was chosen without them."
        )
    if (pretrained := facts["config"].get("pretrained")) and pretrained["allow_overlap"]:
        raise UsageError(
            f"{run.path} started from weights of {pretrained['run']} that may know test rows (--allow-overlap): a "
            "submission needs weights that know none."
        )
    return task


def _complete_seeds(run: Run, task: Task, option: str) -> list[int]:
    """Return all seeds that were started; each must be complete, because leaving one out would be a selection."""
    seeds, trainings = run.seeds(), run.trainings()
    missing = [
        Training(seed, fold)
        for seed in seeds or [0]
        for fold in range(N_FOLDS)
        if Training(seed, fold) not in trainings
    ]
    if missing:
        listed = "; ".join(
            f"{training} {'damaged' if run.training_path(training).exists() else 'missing'}" for training in missing
        )
        seed = missing[0].seed
        folds = ",".join(str(training.fold) for training in missing if training.seed == seed)
        command = f"sen-bench run {task.name} {option} --seed {seed} --folds {folds}"
        if isinstance(run.path, Path):
            command += f" --out {run.path.resolve().parents[1]}"
        raise UsageError(
            f"{run.path} is not complete ({listed}): `{command}`, with the other options it was started with, trains "
            f"what seed {seed} lacks."
        )
    return seeds


def _task_content(part: _Finished) -> dict[str, Any]:
    return {
        "@module": "matbench.task",
        "@class": "MatbenchTask",
        "benchmark_name": BENCHMARK,
        "dataset_name": part.task.name,
        "results": {name: _fold_content(part, fold) for fold, name in enumerate(FOLDS)},
    }


def _fold_content(part: _Finished, fold: int) -> dict[str, Any]:
    ids, predictions = part.ids[fold], part.predictions[fold]
    mean = predictions.mean(axis=0)
    uncertainty = None
    if part.task.kind == "regression" and len(part.seeds) > 1:
        std = predictions.std(axis=0, ddof=1)
        rows = zip(ids, mean - _HALF_WIDTH * std, mean + _HALF_WIDTH * std, std, strict=True)
        uncertainty = {
            name: {"ci_lower": float(lower), "ci_upper": float(upper), "std": float(deviation)}
            for name, lower, upper, deviation in rows
        }
    records = [part.records[Training(seed, fold)] for seed in part.seeds]
    return {
        "data": dict(zip(ids, mean.tolist(), strict=True)),
        "parameters": {
            "config": part.facts["config"],
            "seeds": part.seeds,
            "best_epochs": [record["best_epoch"] for record in records],
            "rows": records[0]["rows"],
        },
        "scores": matbench_scores(part.task.kind, part.targets[fold], mean),
        "uncertainty": uncertainty,
    }


def _task_metadata(part: _Finished) -> dict[str, Any]:
    records = list(part.records.values())
    return {
        "seeds": part.seeds,
        "parameters": records[0]["parameters"],
        "data": part.facts["data"],
        "devices": sorted({record["device"] for record in records}),
        "wall_seconds": math.fsum(record["wall_seconds"] for record in records),
        "provenance": {
            name: sorted({value for record in records if (value := record["provenance"].get(name)) is not None})
            for name in sorted({name for record in records for name in record["provenance"]})
        },
    }
