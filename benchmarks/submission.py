"""MatBench's submission file: made from finished runs, written, read, and scored again.

The layout is what `MatbenchBenchmark.to_file` of matbench 0.6 writes, compressed with gzip.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from benchmarks.errors import DataError, UsageError
from benchmarks.files import write_bytes
from benchmarks.folds import N_FOLDS, official_folds
from benchmarks.metrics import matbench_scores
from benchmarks.store import Run, Unit
from benchmarks.tasks import COMPOSITION_TASKS, Kind, Task, get_task

__all__ = [
    "FoldResult",
    "Submission",
    "TaskResult",
    "make_submission",
    "read_submission",
    "rescore",
    "write_submission",
]

_BENCHMARK = "matbench_v0.1"
_VERSION = "0.6"
_DATESTAMP = "%Y.%m.%d %H:%M.%S"
_FOLDS = tuple(f"fold_{index}" for index in range(N_FOLDS))
_SCORES: Mapping[Kind, set[str]] = {
    "regression": {"mae", "rmse", "mape", "max_error"},
    "classification": {"accuracy", "balanced_accuracy", "f1", "rocauc"},
}

# Half the width of the 95 % interval of a normal distribution, in standard deviations.
_HALF_WIDTH = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, eq=False)
class FoldResult:
    """The predictions of one fold's test rows.

    Attributes:
        ids: Row ids in the official order, [n].
        prediction: Predicted values, or probabilities of a true label, [n].
        uncertainty: Lower and upper end of the 95 % interval and standard deviation, [n, 3], NaN where the file leaves
            one out; None where nothing is told.
        scores: The stored scores, under MatBench's names.
        parameters: What the submitter says about the model of this fold.
    """

    ids: tuple[str, ...]
    prediction: NDArray[np.float64]
    uncertainty: NDArray[np.float64] | None
    scores: Mapping[str, float]
    parameters: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class TaskResult:
    """The five folds of one task."""

    task: Task
    folds: tuple[FoldResult, ...]


@dataclass(frozen=True, eq=False)
class Submission:
    """What a submission file holds, less the tasks of MatBench that know only compositions.

    Attributes:
        tasks: Results by name of the task.
        user_metadata: What the submitter says about the model.
        version: Version of matbench that wrote the file.
    """

    tasks: Mapping[str, TaskResult]
    user_metadata: Mapping[str, Any]
    version: str


def make_submission(runs: Sequence[Run], *, algorithm: str | None = None, moment: datetime) -> dict[str, Any]:
    """Make the content of a submission file from finished runs, one for each task.

    The prediction of a row is the mean over the seeds. With two or more seeds, their standard deviation (ddof 1: the
    seeds are a sample of all that could have been drawn) and the 95 % interval of a normal distribution go in as
    uncertainty; not for a classification, where matbench 0.6 refuses any.

    Args:
        runs: The runs.
        algorithm: Name of the model; default: SEN with the block.
        moment: When the file is made, in UTC.

    Raises:
        UsageError: A run that cannot be submitted: folds missing or damaged, partial data, fewer training rows than
            there are, a task outside MatBench, test rows that are not the official ones; two runs of one task; runs of
            different blocks.
        DataError: A run folder cannot be read.
    """
    finished = [_finished(run) for run in runs]
    for i, one in enumerate(finished):
        for other in finished[:i]:
            if one.task.name == other.task.name:
                raise UsageError(
                    f"{other.run.path} and {one.run.path} are both runs of {one.task.name}: "
                    "a submission holds one result for each task."
                )
            if one.block != other.block:
                raise UsageError(
                    f"{other.run.path} is a run of the block {other.block}, {one.run.path} of {one.block}: "
                    "a submission holds the results of one model."
                )
    parts = sorted(finished, key=lambda part: part.task.name)
    content = {
        "@module": "matbench.bench",
        "@class": "MatbenchBenchmark",
        "version": _VERSION,
        "tasks": {part.task.name: _task_content(part) for part in parts},
        "user_metadata": {
            "algorithm": algorithm or f"SEN ({parts[0].block})",
            "block": parts[0].block,
            "predictions": "mean over the seeds; uncertainty of regressions: standard deviation over seeds (ddof 1)",
            "tasks": {part.task.name: _task_metadata(part) for part in parts},
        },
        "benchmark_name": _BENCHMARK,
        "datestamp": moment.strftime(_DATESTAMP),
    }
    return {**content, "hash": _hash(content)}


def write_submission(path: Path, content: Mapping[str, Any], *, overwrite: bool = False) -> None:
    """Write a submission file, whole or not at all; the same content gives the same bytes.

    Raises:
        UsageError: The file exists and is not to be overwritten, has another ending than .json.gz, or cannot be
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


def read_submission(path: Path) -> Submission:
    """Read a submission file, compressed or not, and check it as matbench 0.6 does; every row must be there once.

    Folds of a regression are held to the official ones; for those of a classification see `rescore`.

    Raises:
        UsageError: There is no such file.
        DataError: It is cut, damaged, edited after it was made, or no submission.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from None
    try:
        content = json.loads(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is cut or damaged ({error}).") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}).") from None
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its content"
        raise DataError(f"{path} is no submission of matbench {_VERSION}: {where}: {first['msg']}.") from None
    if _hash({key: value for key, value in content.items() if key != "hash"}) != file.hash:
        raise DataError(f"{path} does not match the hash in it: it was edited or damaged after it was made.")
    try:
        tasks = {name: _task_result(name, entry) for name, entry in file.tasks.items() if name not in COMPOSITION_TASKS}
    except _Misfit as error:
        raise DataError(f"{path}: {error}.") from None
    return Submission(tasks, file.user_metadata, file.version)


def rescore(result: TaskResult, targets: ArrayLike) -> list[dict[str, float]]:
    """Score the five folds of a task again.

    Args:
        result: The predictions.
        targets: True values or labels of all rows in the official order, [n_rows].

    Returns:
        The scores that matbench 0.6 computes, of each fold.

    Raises:
        DataError: The folds are not the official ones.
        ValueError: There is not one target for each row of the task.
    """
    truth = np.asarray(targets, dtype=np.float64)
    if truth.shape != (result.task.n_rows,):
        raise ValueError(f"targets of shape {truth.shape} are not those of the {result.task.n_rows} rows")
    try:
        rows = _rows(result.task, [fold.ids for fold in result.folds])
        _require_official(result.task, rows, truth)
    except _Misfit as error:
        raise DataError(f"The submission cannot be scored: {error}.") from None
    return [
        matbench_scores(result.task.kind, truth[at], fold.prediction)
        for at, fold in zip(rows, result.folds, strict=True)
    ]


class _Misfit(Exception):  # noqa: N818 - its message becomes part of a sentence
    pass


@dataclass(frozen=True, eq=False)
class _Finished:
    """A run that may be submitted, with all that it holds.

    Attributes:
        run: The run.
        task: Its task.
        block: Name of its block.
        facts: Its config.json.
        seeds: Its seeds.
        ids: Row ids of each fold's test rows.
        targets: Their targets, for each fold [n].
        predictions: What each seed predicted of them, for each fold [n_seeds, n].
        records: What was recorded of each unit.
    """

    run: Run
    task: Task
    block: str
    facts: dict[str, Any]
    seeds: list[int]
    ids: list[list[str]]
    targets: list[NDArray[np.float64]]
    predictions: list[NDArray[np.float64]]
    records: dict[Unit, dict[str, Any]]


def _finished(run: Run) -> _Finished:
    facts = run.read_config()
    try:
        task = _submittable_task(run, facts)
        block = facts["config"]["block_name"]
        seeds = _complete_seeds(run, task, block)
        ids, targets, predictions = [], [], []
        for fold in range(N_FOLDS):
            parts = [run.read_predictions(Unit(seed, fold)) for seed in seeds]
            if any(part.ids != parts[0].ids or (part.target != parts[0].target).any() for part in parts):
                raise UsageError(f"The seeds in {run.path} were not tested on the same rows of fold {fold}.")
            ids.append(parts[0].ids)
            targets.append(parts[0].target)
            predictions.append(np.stack([part.prediction for part in parts]))
        records = {Unit(seed, fold): run.read_metrics(Unit(seed, fold)) for seed in seeds for fold in range(N_FOLDS)}
    except (KeyError, TypeError) as error:
        raise DataError(f"The config.json in {run.path} is not one that sen-bench writes ({error!r}).") from None
    try:
        rows = _rows(task, ids)
        truth = np.empty(sum(map(len, rows)))
        truth[np.concatenate(rows)] = np.concatenate(targets)
        _require_official(task, rows, truth)
        for names, predicted in zip(ids, predictions, strict=True):
            for values in predicted:
                _require_values(task, names, values)
    except _Misfit as error:
        raise UsageError(f"{run.path} cannot be submitted: {error}.") from None
    return _Finished(run, task, block, facts, seeds, ids, targets, predictions, records)


def _submittable_task(run: Run, facts: Mapping[str, Any]) -> Task:
    name, limit = facts["task"]["name"], facts["config"]["limit"]
    if not facts["task"]["is_official"]:
        raise UsageError(f"{run.path} is a run of {name}, which is no task of MatBench and cannot be submitted to it.")
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
    return task


def _complete_seeds(run: Run, task: Task, block: str) -> list[int]:
    """Return the seeds that were begun; all of them must be complete: leaving one out afterwards would be a choice."""
    names = (path.name.removeprefix("seed_") for path in run.path.glob("seed_*"))
    seeds = sorted(int(name) for name in names if name.isdigit())
    units = run.units()
    missing = [Unit(seed, fold) for seed in seeds or [0] for fold in range(N_FOLDS) if Unit(seed, fold) not in units]
    if missing:
        told = "; ".join(f"{unit} {'damaged' if run.unit_path(unit).exists() else 'missing'}" for unit in missing)
        seed = missing[0].seed
        folds = ",".join(str(unit.fold) for unit in missing if unit.seed == seed)
        command = f"sen-bench run {task.name} --block {block} --seed {seed} --folds {folds}"
        raise UsageError(
            f"{run.path} is not complete ({told}): `{command} --out {run.path.resolve().parents[1]}`, with the other "
            f"options it was started with, trains what seed {seed} lacks."
        )
    return seeds


def _rows(task: Task, folds: Iterable[Sequence[str]]) -> list[NDArray[np.int64]]:
    """Return the row numbers of the ids in each fold; together they must be every row of the task once."""
    n_rows = cast("int", task.n_rows)  # an official task states it
    number = {task.row_id(row): row for row in range(n_rows)}
    rows = []
    for fold, ids in enumerate(folds):
        if unknown := [name for name in ids if name not in number]:
            raise _Misfit(f"fold {fold} holds {unknown[0]!r}, which is no row of {task.name}")
        rows.append(np.array([number[name] for name in ids], dtype=np.int64))
    counts = np.bincount(np.concatenate(rows), minlength=n_rows)
    if (counts != 1).any():
        wrong = int((counts != 1).argmax())
        raise _Misfit(f"{task.row_id(wrong)} is predicted {counts[wrong]} times, not once")
    return rows


def _require_official(task: Task, rows: Iterable[NDArray[np.int64]], targets: NDArray[np.float64] | None) -> None:
    """Require that these are the test rows of MatBench's folds, in their order."""
    n_rows = cast("int", task.n_rows)
    for fold, (given, (_, test)) in enumerate(zip(rows, official_folds(task.kind, n_rows, targets), strict=True)):
        if not np.array_equal(given, test):
            raise _Misfit(f"the rows of fold {fold} are not those of {task.name}'s official fold, or not in its order")


def _require_values(task: Task, ids: Sequence[str], values: NDArray[np.float64]) -> None:
    """Require numbers, and probabilities for a classification."""
    broken = ~np.isfinite(values)
    if task.kind == "classification":
        broken |= (values < 0) | (values > 1)
    if broken.any():
        at = int(broken.argmax())
        what = "finite number" if task.kind == "regression" else "probability"
        raise _Misfit(f"the prediction of {ids[at]} is no {what} but {values[at]}")


def _task_content(part: _Finished) -> dict[str, Any]:
    return {
        "@module": "matbench.task",
        "@class": "MatbenchTask",
        "benchmark_name": _BENCHMARK,
        "dataset_name": part.task.name,
        "results": {name: _fold_content(part, fold) for fold, name in enumerate(_FOLDS)},
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
    records = [part.records[Unit(seed, fold)] for seed in part.seeds]
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


def _hash(content: Mapping[str, Any]) -> str:
    """Return the hash that matbench 0.6 demands: of the content with all keys in order."""
    return hashlib.sha256(json.dumps(_in_order(content)).encode()).hexdigest()


def _in_order(content: Mapping[str, Any]) -> dict[str, Any]:
    # Like matbench, and unlike json's sort_keys, this leaves dictionaries inside lists as they are.
    return {key: _in_order(value) if isinstance(value, Mapping) else value for key, value in sorted(content.items())}


def _number(value: object) -> object:
    # MatBench takes no whole numbers, and the JSON of Python knows NaN.
    if not isinstance(value, float | bool) or not math.isfinite(value):
        raise ValueError(f"{value!r} is neither a finite float nor a boolean")
    return float(value)


def _without_leftovers(value: object) -> object:
    # Asking an uncertainty for "std" and "ci", as matbench's own check does, leaves empty entries of those names in it.
    return {key: item for key, item in value.items() if item != {}} if isinstance(value, dict) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Interval(_Strict):
    ci_lower: float | None
    ci_upper: float | None
    std: float | None


class _Fold(_Strict):
    data: dict[str, Annotated[float, BeforeValidator(_number)]]
    parameters: dict[str, Any]
    scores: dict[str, float]
    uncertainty: Annotated[dict[str, _Interval] | None, BeforeValidator(_without_leftovers)] = None


class _Task(_Strict):
    module: Literal["matbench.task"] = Field(alias="@module")
    class_name: Literal["MatbenchTask"] = Field(alias="@class")
    benchmark_name: Literal["matbench_v0.1"]
    dataset_name: str
    results: dict[str, _Fold]


class _File(_Strict):
    module: Literal["matbench.bench"] = Field(alias="@module")
    class_name: Literal["MatbenchBenchmark"] = Field(alias="@class")
    version: str
    tasks: dict[str, _Task]
    user_metadata: dict[str, Any]
    benchmark_name: Literal["matbench_v0.1"]
    datestamp: str
    hash: str


def _task_result(name: str, entry: _Task) -> TaskResult:
    try:
        task = get_task(name)
    except UsageError as error:
        raise _Misfit(str(error).removesuffix(".")) from None
    if not task.is_official or entry.dataset_name != name:
        raise _Misfit(f"its task {name!r} (dataset {entry.dataset_name!r}) is none of MatBench")
    if set(entry.results) != set(_FOLDS):
        raise _Misfit(f"{name} holds {', '.join(sorted(entry.results)) or 'no folds'}, not {', '.join(_FOLDS)}")
    folds = tuple(_fold_result(task, entry.results[fold]) for fold in _FOLDS)
    rows = _rows(task, [fold.ids for fold in folds])
    if task.kind == "regression":
        _require_official(task, rows, None)
    return TaskResult(task, folds)


def _fold_result(task: Task, entry: _Fold) -> FoldResult:
    ids = sorted(entry.data)  # ids have as many digits as it takes, so that this is the official order
    prediction = np.array([entry.data[name] for name in ids])
    _require_values(task, ids, prediction)
    if set(entry.scores) != _SCORES[task.kind]:
        raise _Misfit(f"the scores of {task.name} are {', '.join(sorted(entry.scores))}")
    uncertainty = None
    if entry.uncertainty is not None:
        if set(entry.uncertainty) != set(ids):
            raise _Misfit(f"the uncertainties of {task.name} are not those of the rows that are predicted")
        intervals = [entry.uncertainty[name] for name in ids]
        uncertainty = np.array([(i.ci_lower, i.ci_upper, i.std) for i in intervals], dtype=np.float64)
    return FoldResult(tuple(ids), prediction, uncertainty, entry.scores, entry.parameters)
