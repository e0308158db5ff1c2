"""Published predictions in a common form, from files of any of three kinds.

Three forms are read: MatBench's submission file (`results.json.gz`), the file of the SEN authors (sets of predictions
under headings, each with a loss that it claims), and plain CSV with the columns id,prediction[,target][,fold].
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import DataError, UsageError, printable, suggest
from benchmarks.base.files import read_unpacked
from benchmarks.base.text import whole_number
from benchmarks.base.zip_path import AnyPath
from benchmarks.data.folds import N_FOLDS
from benchmarks.data.tasks import TASKS, Task
from benchmarks.results.metrics import primary_metric
from benchmarks.results.submission import TaskResult, read_submission

__all__ = ["Form", "PredictionFile", "PredictionSet", "read_predictions", "task_of_ids"]

Form = Literal["submission", "sen", "csv", "run"]

_COLUMNS = ("id", "prediction", "target", "fold")
_WORDS = {"true": 1.0, "false": 0.0}
# A heading of the SEN file and the claim that belongs to it: "bandgap_test", "Loss of bandgap".
_SET = re.compile(r"(.+)_test")
_CLAIM = "Loss of {}"
_NUMBER = re.compile(r"\s*([-+]?(?:[0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?|(?:nan|inf|infinity)\b))", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class PredictionSet:
    """Predictions of n rows, in the order of the file.

    Attributes:
        name: Their name in the file.
        task: The task that the ids belong to, if any.
        ids: Row ids, [n]; one may occur twice.
        prediction: Predicted values or probabilities, [n]; NaN or infinite if the file has such a value.
        target: True values that the file gives, [n], NaN where it leaves one out; None if it gives none.
        fold: The fold in which each row was tested according to the file, [n]; None if it names none.
        claimed: The score that the file claims, if any.
        claim: That claim in the words of the file.
    """

    name: str
    task: Task | None
    ids: tuple[str, ...]
    prediction: NDArray[np.float64]
    target: NDArray[np.float64] | None = None
    fold: NDArray[np.int64] | None = None
    claimed: float | None = None
    claim: str | None = None

    def __len__(self) -> int:
        """Number of predictions n."""
        return len(self.ids)

    @property
    def first(self) -> dict[str, int]:
        """Position of the first prediction for each id, which is the one that counts."""
        found: dict[str, int] = {}
        for i, name in enumerate(self.ids):
            found.setdefault(name, i)
        return found


@dataclass(frozen=True, eq=False)
class PredictionFile:
    """A file of predictions.

    Attributes:
        path: The file; for a run, its folder.
        form: Its form.
        model: Name of the model according to the file, or else to its name.
        sets: The predictions in it, at least one set.
        metadata: What a submission says about its model, such as what to cite; empty for the other forms.
    """

    path: AnyPath
    form: Form
    model: str
    sets: tuple[PredictionSet, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def find(self, task: Task | None) -> tuple[Task, PredictionSet]:
        """Return the predictions for a task; without one, for the only task in the file.

        Raises:
            UsageError: The file has none, or several; the message says for which tasks.
        """
        known = [(entry.task, entry) for entry in self.sets if entry.task is not None]
        names = ", ".join(sorted({of.name for of, _ in known}))
        if task is None:
            if not known:
                raise UsageError(
                    f"The ids in {self.path}, such as {self._example()}, belong to no task that sen-bench knows."
                )
            if len(known) > 1:
                raise UsageError(f"{self.path} has predictions for several tasks; choose one with --task: {names}.")
            return known[0]
        found = [(of, entry) for of, entry in known if of.name == task.name]
        if not found:
            others = f"those of {names}" if known else f"ids such as {self._example()}"
            raise UsageError(f"{self.path} has no predictions for {task.name}, but {others}.")
        return max(found, key=lambda pair: len(pair[1]))

    def _example(self) -> str:
        return printable(next((repr(entry.ids[0]) for entry in self.sets if entry.ids), "none"))


def read_predictions(path: Path) -> PredictionFile:
    """Read published predictions of any of the three forms, plain or compressed.

    Raises:
        UsageError: There is no such file.
        DataError: It is damaged, empty, or has none of the forms; the message says what was found.
    """
    raw = read_unpacked(path)
    if not raw.lstrip().startswith((b"{", b"[")):
        return _read_csv(path, raw)
    # Its own reader checks it, at a tenth of the cost of parsing it here first.
    if b"MatbenchBenchmark" in raw[:4096] or b"matbench.bench" in raw[:4096]:
        return _from_submission(path)
    try:
        content = json.loads(raw, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}).") from None
    if isinstance(content, _Pairs) and {"tasks", "benchmark_name"} <= {key for key, _ in content.pairs}:
        return _from_submission(path)
    return _read_headings(path, content)


def task_of_ids(ids: Sequence[str]) -> Task | None:
    """Return the task to which most ids belong by their form: "mb-phonons-0001" is a row of matbench_phonons."""
    stems = {task.row_id(0).rpartition("-")[0]: task for task in TASKS.values() if task.is_official}
    counts = Counter(name.rpartition("-")[0] for name in ids)
    counts = Counter({stem: n for stem, n in counts.items() if stem in stems})
    if not counts:
        return None
    stem, n = counts.most_common(1)[0]
    return stems[stem] if 2 * n > len(ids) else None


@dataclass(frozen=True, eq=False)
class _Pairs:
    """A JSON object with all its keys; of two equal ones a dictionary would keep only the last."""

    pairs: list[tuple[str, Any]]


def _from_submission(path: Path) -> PredictionFile:
    submission = read_submission(path)
    if not submission.tasks:
        raise DataError(f"{path} is a submission without any task that has crystal structures.")
    model = submission.user_metadata.get("algorithm") or _stem(path)
    sets = tuple(_submitted(name, result) for name, result in submission.tasks.items())
    return PredictionFile(path, "submission", printable(model), sets, submission.user_metadata)


def _submitted(name: str, result: TaskResult) -> PredictionSet:
    metric = primary_metric(result.task.kind)
    scores = [fold.scores[metric.name.removeprefix("matbench_")] for fold in result.folds]
    claimed = float(np.mean(scores))
    return PredictionSet(
        name=name,
        task=result.task,
        ids=tuple(row for fold in result.folds for row in fold.ids),
        prediction=np.concatenate([fold.prediction for fold in result.folds]),
        fold=np.repeat(np.arange(N_FOLDS), [len(fold.ids) for fold in result.folds]),
        claimed=claimed if math.isfinite(claimed) else None,
        claim=f"mean of the five {metric.label} stored in the file",
    )


def _read_headings(path: Path, content: Any) -> PredictionFile:
    """Read the form of the SEN authors: under each heading objects that map ids to predictions, and claims."""
    sets = list(_sets_under(path, content)) if isinstance(content, _Pairs) else []
    if not sets:
        raise _no_form(path, f"JSON with {_outline(content)}")
    # The file lists the models that it compares; the predictions are those of the last.
    listed = next((str(value) for key, value in content.pairs if key == "@modules"), "")
    return PredictionFile(path, "sen", printable(listed.rpartition(",")[2].strip() or _stem(path)), tuple(sets))


def _sets_under(path: Path, content: _Pairs) -> Iterator[PredictionSet]:
    for heading, part in content.pairs:
        if not isinstance(part, _Pairs):
            continue
        claims = {key: value for key, value in part.pairs if isinstance(value, str)}
        for name, values in part.pairs:
            named = _SET.fullmatch(name)
            if named is None or not isinstance(values, _Pairs):
                continue
            label = f"{heading}/{name}"
            prediction = np.array([_number(path, label, *pair) for pair in values.pairs], dtype=np.float64)
            ids = tuple(key for key, _ in values.pairs)
            claim = claims.get(_CLAIM.format(named[1].replace("_", " ")))
            yield PredictionSet(
                name=printable(label, 120),
                task=task_of_ids(ids),
                ids=ids,
                prediction=prediction,
                claimed=_claimed(path, label, claim),
                claim=printable(claim) if claim else None,
            )


def _claimed(path: Path, label: str, claim: str | None) -> float | None:
    """Return the number at the beginning of a claim; None if there is none."""
    found = _NUMBER.match(claim or "")
    if found is None:
        return None
    value = float(found[1])
    if not (math.isfinite(value) and value > 0):
        raise DataError(f"{path}: {printable(label)} claims a loss of {value:g}, which is not a finite number above 0.")
    return value


def _number(path: Path, label: str, key: str, value: object) -> float:
    if value is None:
        return np.nan
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    except OverflowError:  # JSON has integers that are too large for a float
        pass
    found = "an object" if isinstance(value, _Pairs) else "a list" if isinstance(value, list) else printable(value)
    raise DataError(f"{path}: {label} has no number for {printable(key)} but {found}.")


def _read_csv(path: Path, raw: bytes) -> PredictionFile:
    lines, columns = _table(path, raw)
    if missing := [name for name in _COLUMNS[:2] if name not in columns]:
        if not columns.keys() & set(_COLUMNS):
            raise _no_form(path, f"text whose first line is {printable(','.join(columns))!r}")
        raise DataError(f"{path} has no column {missing[0]!r}. {suggest(missing[0], map(printable, columns))}")
    if not lines:
        raise DataError(f"{path} has a header and no rows.")
    if nameless := next((line for line, name in zip(lines, columns["id"], strict=True) if not name), None):
        raise DataError(f"{path}, line {nameless} has no id.")
    ids = tuple(columns["id"])
    entry = PredictionSet(
        name=_stem(path),
        task=task_of_ids(ids),
        ids=ids,
        prediction=_numbers(path, lines, "prediction", columns["prediction"]),
        target=_numbers(path, lines, "target", columns["target"]) if "target" in columns else None,
        fold=_folds(path, lines, columns["fold"]) if "fold" in columns else None,
    )
    return PredictionFile(path, "csv", _stem(path), (entry,))


def _table(path: Path, raw: bytes) -> tuple[list[int], dict[str, list[str]]]:
    """Return the line number of each row, and the columns by their names in lower case."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _no_form(path, "neither JSON nor text") from None
    reader = csv.reader(io.StringIO(text))
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: this is not CSV ({error}).") from None
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise DataError(f"{path} has two columns {printable(twice[0])!r}.")
    columns: dict[str, list[str]] = {name: [] for name in header}
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(f"{path}, line {line} has {len(row)} values, but the header names {len(header)} columns.")
        for name, cell in zip(header, row, strict=True):
            columns[name].append(cell.strip())
    return [line for line, _ in rows[1:]], columns


def _numbers(path: Path, lines: Sequence[int], name: str, cells: Sequence[str]) -> NDArray[np.float64]:
    values = []
    for line, cell in zip(lines, cells, strict=True):
        try:
            values.append(_WORDS[cell.lower()] if cell.lower() in _WORDS else float(cell) if cell else np.nan)
        except ValueError:
            raise DataError(f"{path}, line {line} has no number as its {name} but {printable(cell)!r}.") from None
    return np.array(values, dtype=np.float64)


def _folds(path: Path, lines: Sequence[int], cells: Sequence[str]) -> NDArray[np.int64]:
    values = []
    for line, cell in zip(lines, cells, strict=True):
        fold = whole_number(cell.removeprefix("fold_"))
        if fold is None or fold >= N_FOLDS:
            raise DataError(f"{path}, line {line} has no fold from 0 to {N_FOLDS - 1} but {printable(cell)!r}.")
        values.append(fold)
    return np.array(values, dtype=np.int64)


def _no_form(path: Path, found: str) -> DataError:
    return DataError(
        f"{path} is not a file of predictions that can be read (MatBench's results.json.gz, the file of the SEN "
        f"authors, CSV with the columns id,prediction[,target][,fold]): it is {found}."
    )


def _outline(content: Any) -> str:
    if isinstance(content, _Pairs):
        keys = [printable(key, 30) for key, _ in content.pairs[:5]]
        return f"the keys {', '.join(keys)}{', ...' if len(content.pairs) > 5 else ''}" if keys else "no keys"
    return f"a list of {len(content):,} values"


def _stem(path: Path) -> str:
    return path.name.split(".")[0]
