"""Reading, checking and scoring of MatBench's submission file; `benchmarks.results.export` writes one.

The layout is what `MatbenchBenchmark.to_file` of matbench 0.6 writes, compressed with gzip.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from benchmarks.base.errors import DataError, UsageError
from benchmarks.base.files import parse_json, read_unpacked
from benchmarks.data.folds import N_FOLDS, official_folds
from benchmarks.data.tasks import COMPOSITION_TASKS, Kind, Task, get_task
from benchmarks.results.metrics import matbench_scores

__all__ = [
    "BENCHMARK",
    "FOLDS",
    "VERSION",
    "FoldResult",
    "Misfit",
    "Submission",
    "TaskResult",
    "content_hash",
    "read_submission",
    "require_official",
    "require_values",
    "rescore",
    "row_numbers",
]

BENCHMARK = "matbench_v0.1"
VERSION = "0.6"
FOLDS = tuple(f"fold_{index}" for index in range(N_FOLDS))
_SCORES: Mapping[Kind, set[str]] = {
    "regression": {"mae", "rmse", "mape", "max_error"},
    "classification": {"accuracy", "balanced_accuracy", "f1", "rocauc"},
}


@dataclass(frozen=True, eq=False)
class FoldResult:
    """The predictions of one fold's test rows.

    Attributes:
        ids: Row ids in the official order, [n].
        prediction: Predicted values, or probabilities of a true label, [n].
        uncertainty: Lower and upper end of the 95 % interval and standard deviation, [n, 3], NaN if the file omits
            one; None if it has none.
        scores: The stored scores, under MatBench's names.
        parameters: The submitter's description of the model of this fold.
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
    """The content of a submission file, without the tasks of MatBench that have only compositions.

    Attributes:
        tasks: Results by name of the task.
        user_metadata: The submitter's description of the model.
    """

    tasks: Mapping[str, TaskResult]
    user_metadata: Mapping[str, Any]


def read_submission(path: Path) -> Submission:
    """Read a submission file, plain or compressed by gzip or bzip2, and check it as matbench 0.6 does.

    Every row must occur once. The folds of a regression must be the official ones; `rescore` checks those of a
    classification.

    Raises:
        UsageError: There is no such file.
        DataError: It is cut, damaged, edited after it was made, or not a submission; or it has one key twice, such as
            the id of a row.
    """
    raw = read_unpacked(path)
    try:
        content = parse_json(raw)
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}).") from None
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its content"
        raise DataError(f"{path} is not a submission of matbench {VERSION}: {where}: {first['msg']}.") from None
    if content_hash({key: value for key, value in content.items() if key != "hash"}) != file.hash:
        raise DataError(f"{path} does not match the hash in it: it was edited or damaged after it was made.")
    try:
        tasks = {name: _task_result(name, entry) for name, entry in file.tasks.items() if name not in COMPOSITION_TASKS}
    except Misfit as error:
        raise DataError(f"{path}: {error}.") from None
    return Submission(tasks, file.user_metadata)


def rescore(result: TaskResult, targets: ArrayLike) -> list[dict[str, float]]:
    """Score the five folds of a task again.

    Args:
        result: The predictions.
        targets: True values or labels of all rows in the official order, [n_rows].

    Returns:
        The scores of each fold as matbench 0.6 computes them.

    Raises:
        DataError: The folds are not the official ones.
        ValueError: The number of targets is not the number of rows of the task.
    """
    truth = np.asarray(targets, dtype=np.float64)
    if truth.shape != (result.task.n_rows,):
        raise ValueError(f"targets of shape {truth.shape} are not those of the {result.task.n_rows} rows")
    try:
        rows = row_numbers(result.task, [fold.ids for fold in result.folds])
        require_official(result.task, rows, truth)
    except Misfit as error:
        raise DataError(f"The submission cannot be scored: {error}.") from None
    return [
        matbench_scores(result.task.kind, truth[at], fold.prediction)
        for at, fold in zip(rows, result.folds, strict=True)
    ]


class Misfit(Exception):  # noqa: N818 - its message becomes part of a sentence
    """The content of a submission does not meet the rules of MatBench."""


def row_numbers(task: Task, folds: Iterable[Sequence[str]]) -> list[NDArray[np.int64]]:
    """Return the row numbers of the ids in each fold, [n] for each.

    Raises:
        Misfit: They do not contain every row of the task exactly once.
    """
    n_rows = cast("int", task.n_rows)  # an official task states it
    number = {task.row_id(row): row for row in range(n_rows)}
    rows = []
    for fold, ids in enumerate(folds):
        if unknown := [name for name in ids if name not in number]:
            raise Misfit(f"fold {fold} holds {unknown[0]!r}, which is not a row of {task.name}")
        rows.append(np.array([number[name] for name in ids], dtype=np.int64))
    counts = np.bincount(np.concatenate(rows), minlength=n_rows)
    if (counts != 1).any():
        wrong = int((counts != 1).argmax())
        raise Misfit(f"{task.row_id(wrong)} is predicted {counts[wrong]} times, not once")
    return rows


def require_official(task: Task, rows: Iterable[NDArray[np.int64]], targets: NDArray[np.float64] | None) -> None:
    """Check that these are the test rows of MatBench's folds, in their order.

    Args:
        task: An official task.
        rows: Row numbers of each fold, [n] for each.
        targets: Labels of all rows, [n_rows], which determine the folds of a classification.

    Raises:
        Misfit: They are not.
    """
    n_rows = cast("int", task.n_rows)
    for fold, (given, (_, test)) in enumerate(zip(rows, official_folds(task.kind, n_rows, targets), strict=True)):
        if not np.array_equal(given, test):
            raise Misfit(f"the rows of fold {fold} are not those of {task.name}'s official fold, or not in its order")


def require_values(task: Task, ids: Sequence[str], values: NDArray[np.float64]) -> None:
    """Check that predictions [n] are finite numbers, and those of a classification probabilities.

    Raises:
        Misfit: One is not; the message names its row.
    """
    broken = ~np.isfinite(values)
    if task.kind == "classification":
        broken |= (values < 0) | (values > 1)
    if broken.any():
        at = int(broken.argmax())
        what = "a finite number" if task.kind == "regression" else "a probability"
        raise Misfit(f"the prediction for {ids[at]} is not {what} but {values[at]}")


def content_hash(content: Mapping[str, Any]) -> str:
    """Return the hash that matbench 0.6 requires: that of the content with all keys sorted."""
    return hashlib.sha256(json.dumps(_in_order(content)).encode()).hexdigest()


def _in_order(content: Mapping[str, Any]) -> dict[str, Any]:
    # As in matbench, and unlike json's sort_keys, dictionaries inside lists keep their order.
    return {key: _in_order(value) if isinstance(value, Mapping) else value for key, value in sorted(content.items())}


def _number(value: object) -> object:
    # MatBench accepts no integers, and Python reads NaN in JSON.
    if not isinstance(value, float | bool) or not math.isfinite(value):
        raise ValueError(f"{value!r} is neither a finite float nor a boolean")
    return float(value)


def _without_leftovers(value: object) -> object:
    # Matbench's own check looks up "std" and "ci" in an uncertainty, which leaves empty entries of these names in it.
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
        raise Misfit(str(error).removesuffix(".")) from None
    if not task.is_official or entry.dataset_name != name:
        raise Misfit(f"its task {name!r} (dataset {entry.dataset_name!r}) is not a task of MatBench")
    if set(entry.results) != set(FOLDS):
        raise Misfit(f"{name} holds {', '.join(sorted(entry.results)) or 'no folds'}, not {', '.join(FOLDS)}")
    folds = tuple(_fold_result(task, entry.results[fold]) for fold in FOLDS)
    rows = row_numbers(task, [fold.ids for fold in folds])
    if task.kind == "regression":
        require_official(task, rows, None)
    return TaskResult(task, folds)


def _fold_result(task: Task, entry: _Fold) -> FoldResult:
    ids = sorted(entry.data)  # the official order, because the numbers in ids are padded with zeros
    prediction = np.array([entry.data[name] for name in ids])
    require_values(task, ids, prediction)
    if set(entry.scores) != _SCORES[task.kind]:
        raise Misfit(f"the scores of {task.name} are {', '.join(sorted(entry.scores))}")
    uncertainty = None
    if entry.uncertainty is not None:
        if set(entry.uncertainty) != set(ids):
            raise Misfit(f"the uncertainties of {task.name} are for other rows than the predictions")
        intervals = [entry.uncertainty[name] for name in ids]
        uncertainty = np.array([(i.ci_lower, i.ci_upper, i.std) for i in intervals], dtype=np.float64)
    return FoldResult(tuple(ids), prediction, uncertainty, entry.scores, entry.parameters)
