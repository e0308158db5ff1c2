"""Split files in the layout of MatFold 1.3: read to split the rows as they say, and written for others.

A split file is a JSON file of the settings with CSV files beside it that have its name: `NAME.k0_outer.train.csv` and
`NAME.k0_outer.test.csv` hold the rows of the first fold, one in each line that begins with its id, and
`NAME.k0_outer.l0_inner.test.csv` the part of its training rows that the first inner fold tests, which are validation
rows here. A file of a single split has `NAME.train.csv`, `NAME.test.csv` and perhaps `NAME.validation.csv`. See Witman
and Schindler, Digital Discovery 4, 625 (2025), and github.com/d2r2group/MatFold.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.cache import digest
from benchmarks.base.errors import DataError, UsageError, printable
from benchmarks.base.files import expanded, parse_json, read_unpacked, write_bytes, write_json
from benchmarks.data.crystal_table import CrystalTable
from benchmarks.data.folds import Fold, check_split
from benchmarks.data.groups import DataFolds, TestedRows
from benchmarks.data.layouts import csv_rows
from benchmarks.data.tasks import Task

__all__ = ["open_split", "read_folds", "write_folds"]

# The version whose layout is written, and its settings that have no effect on rows that are already chosen.
_LAYOUT = "v1.3.3"
_SETTINGS = {
    "return_frac": 1.0,
    "always_include_n_elements": None,
    "cols_to_keep": None,
    "keep_splitlabel_cols": False,
    "write_data_checksums": True,
    "seed": 0,
}
_NUMBER = re.compile(r"\.k(\d{1,6})_outer\.test\.csv")


class _FoldIds(NamedTuple):
    """The ids in the files of a fold; no validation where its rows are to be drawn."""

    name: str
    path: Path
    train: list[str]
    validation: list[str] | None
    test: list[str]


def open_split(split: str) -> tuple[str, Path | None]:
    """Return a split in its standard form, see `check_split`, and the split file that it names.

    The standard form of "file:PATH" has the name of the file and the hash of what it says, which is the same wherever
    the file lies.

    Raises:
        UsageError: The text is not a split, or there is no such file.
        DataError: The file is no split file, or cannot be read.
    """
    kind, _, name = split.partition(":")
    if kind != "file" or not name:
        return check_split(split), None
    path = expanded(name)
    folds = _read(path)[1]
    said = [
        [fold.name, sorted(fold.test), None if fold.validation is None else sorted(fold.validation)] for fold in folds
    ]
    return f"file:{path.name}:{digest(folds=said)[:10]}", path


def read_folds(task: Task, table: CrystalTable) -> DataFolds:
    """Return the folds that the split file of a task says.

    Raises:
        UsageError: The split file is not known, because the task comes from a run that was read.
        DataError: It cannot be read, or is of other data.
    """
    if task.split_path is None:
        raise UsageError(f"The folds of the split {task.split} are in its file: name it with --split file:PATH.")
    settings, folds = _read(task.split_path)
    is_own = isinstance(settings.get("sen-bench"), dict)
    if is_own and settings.get("data_checksums") != _checksums(task, table):
        raise DataError(
            f"{task.split_path} is a split file of other data than {task.name}: its rows or targets have another "
            "checksum."
        )
    place = {name: i for i, name in enumerate(table.ids.tolist())}
    tested = []
    for number, fold in enumerate(folds):
        train, test = (_positions(fold, ids, place, task) for ids in (fold.train, fold.test))
        validation = None if fold.validation is None else _positions(fold, fold.validation, place, task)
        parts = [train, test] if validation is None else [train, validation, test]
        found, times = np.unique(np.concatenate(parts), return_counts=True)
        if (times > 1).any():
            row = printable(table.ids[found[times.argmax()]])
            raise DataError(
                f"{fold.path}: row {row} is more than once in the files of this fold: each row has one part."
            )
        if len(found) < len(table):
            lacking = np.setdiff1d(np.arange(len(table)), found)
            raise DataError(
                f"{fold.path} and the files beside it lack {len(lacking):,} of the {len(table):,} rows of {task.name}, "
                f"such as {printable(table.ids[lacking[0]])}: a split file names every row in every fold (MatFold: "
                "return_frac=1). It may be one of other data, or its CSV files lack their header."
            )
        tested.append(TestedRows(number, fold.name, (), np.sort(test), validation))
    return DataFolds(tuple(tested), None)


def write_folds(path: Path, task: Task, table: CrystalTable, folds: Sequence[Fold]) -> list[Path]:
    """Write a split file of these folds, which MatFold and `read_folds` read, and return all its files.

    `MatFold.from_json` checks with it that data are the same, and makes no other split.

    Raises:
        UsageError: The file is not called .json, a split file of that name exists, or it cannot be written.
    """
    if path.suffix != ".json":
        raise UsageError(f"{path} must be called NAME.json: a split file is a JSON file, with CSV files beside it.")
    if existing := [each for each in (path, *_beside(path)) if each.exists()]:
        raise UsageError(f"{existing[0]} exists, and belongs to a split file {path.name}: choose another name.")
    contents: dict[str, NDArray[np.int64]] = {}
    for number, fold in enumerate(folds):
        outer = f"k{number}_outer"
        contents[f"{outer}.train"] = np.sort(np.concatenate([fold.train, fold.validation]))
        contents[f"{outer}.test"] = fold.test
        if len(fold.validation):
            contents |= {f"{outer}.l0_inner.train": fold.train, f"{outer}.l0_inner.test": fold.validation}
    rows = _frame(task, table)
    try:
        for name, part in contents.items():
            text = rows.iloc[part].to_csv(index=False, lineterminator="\n")
            write_bytes(path.with_name(f"{path.stem}.{name}.csv"), text.encode())
        write_json(
            path,
            {
                "MatFold": _LAYOUT,
                "data_checksums": _checksums(task, table),
                "__init__": _SETTINGS,
                "sen-bench": {
                    "version": version("sen-bench"),
                    "task": task.name,
                    "target": task.target,
                    "split": task.split,
                    "fold_names": [fold.name for fold in folds],
                },
            },
        )
    except OSError as error:
        raise UsageError(f"{path} and the files beside it cannot be written ({error.strerror}).") from error
    return [path, *_beside(path)]


def _frame(task: Task, table: CrystalTable) -> Any:
    """Return ids and targets as the DataFrame that MatFold takes, [M]."""
    import pandas as pd

    return pd.DataFrame({"id": table.ids.tolist(), task.target: np.asarray(table.target)})


def _checksums(task: Task, table: CrystalTable) -> list[int]:
    """Return MatFold's checksums of ids with targets, and of ids alone."""
    import pandas as pd

    rows = hashlib.md5(
        np.array(pd.util.hash_pandas_object(_frame(task, table)).values).tobytes(), usedforsecurity=False
    )
    ids = hashlib.md5("".join(sorted(table.ids.tolist())).encode(), usedforsecurity=False)
    return [int(each.hexdigest(), 16) for each in (rows, ids)]


def _beside(path: Path) -> list[Path]:
    """Return the CSV files beside a split file that may be its own, sorted."""
    try:
        return sorted(each for each in path.parent.iterdir() if each.name.startswith(f"{path.stem}.k"))
    except OSError:
        return []


def _read(path: Path) -> tuple[Mapping[str, Any], list[_FoldIds]]:
    """Return the settings in a split file, and the ids in the files beside it."""
    try:
        settings = parse_json(read_unpacked(path))
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(settings, dict) or "MatFold" not in settings:
        raise DataError(
            f"{path} is no split file: it has no key MatFold, as files of MatFold and `sen-bench split` have."
        )
    stem = path.with_suffix("").name
    numbers = sorted(
        int(found[1]) for each in _beside(path) if (found := _NUMBER.fullmatch(each.name.removeprefix(stem)))
    )
    names = _names(settings, numbers)
    beginnings = {f"{stem}.k{number}_outer": "l0_inner.test" for number in numbers} or {stem: "validation"}
    folds = []
    for name, (beginning, of_validation) in zip(names, beginnings.items(), strict=True):
        train, test, held_out = (path.with_name(f"{beginning}.{part}.csv") for part in ("train", "test", of_validation))
        if not test.exists():
            raise DataError(f"{path} has no files of folds beside it, such as {stem}.k0_outer.test.csv or {test.name}.")
        validation = _ids(held_out) if held_out.exists() else None
        known = _ids(train)
        if validation is not None and numbers:  # an inner fold tests a part of the training rows
            inner = set(validation)
            if not inner <= set(known):
                raise DataError(f"{held_out} has rows that are not in {train.name}: it must hold a part of them.")
            known = [row for row in known if row not in inner]
        folds.append(_FoldIds(name, test, known, validation, _ids(test)))
    return settings, folds


def _names(settings: Mapping[str, Any], numbers: Sequence[int]) -> list[str]:
    """Return the name of each fold: that of sen-bench, the group that a fold alone tests, or MatFold's number."""
    own, parameters = settings.get("sen-bench"), settings.get("split_parameters")
    if isinstance(own, dict) and isinstance(names := own.get("fold_names"), list) and len(names) == len(numbers):
        return list(map(str, names))
    if not numbers:
        return [str(parameters.get("loo_label") or "") if isinstance(parameters, dict) else ""]
    # MatFold leaves out folds with too few training rows.
    return [f"k{number}" if numbers[-1] >= len(numbers) else "" for number in numbers]


def _ids(path: Path) -> list[str]:
    """Return the ids in a file of a fold: the first value of each line after the first."""
    return [row[0].strip() for row in csv_rows(path)][1:]


def _positions(fold: _FoldIds, ids: Sequence[str], place: Mapping[str, int], task: Task) -> NDArray[np.int64]:
    """Return the positions of rows in the table, [n]."""
    try:
        return np.array([place[name] for name in ids], dtype=np.int64)
    except KeyError as error:
        raise DataError(
            f"{fold.path} or a file beside it has the row {printable(error.args[0])}, which {task.name} does not have: "
            "it is a split file of other data."
        ) from None
