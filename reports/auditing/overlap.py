"""Which rows of a task are in the data that another model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import DataError, printable
from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable, reduced_formula
from benchmarks.data.layouts import open_layout
from benchmarks.data.near_duplicates import find_known
from benchmarks.data.own_data import SkippedRow, read_crystals
from benchmarks.results.metrics import primary_metric, score
from reports.study.row_facts import RowFacts, read_formulas

__all__ = ["TrainingData", "find_overlap", "overlap_facts", "read_training_data"]

# Rows named in the facts of each kind.
_NAMED = 5


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What another model was trained on.

    Attributes:
        path: The file or folder.
        formulas: Reduced formula of each row.
        table: The crystals; None of a table of formulas.
        skipped: Rows that could not be read.
    """

    path: Path
    formulas: list[str]
    table: CrystalTable | None = None
    skipped: tuple[SkippedRow, ...] = ()


def read_training_data(path: Path, progress: Progress | None = None) -> TrainingData:
    """Read crystals in a layout of own data, of which no target is read, or else formulas (`read_formulas`).

    Raises:
        UsageError: There is nothing, or its layout is unknown.
        DataError: It cannot be read, or has neither structures nor formulas.
    """
    try:
        open_layout(path, None).targets()
    except DataError as no_structures:
        try:
            return TrainingData(path, read_formulas(path))
        except DataError as no_formulas:
            reasons = dict.fromkeys((str(no_formulas), str(no_structures)))  # the same of an empty file
            raise DataError(" ".join(reasons)) from None
    table, skipped = read_crystals(path, progress=progress)
    formulas = [reduced_formula(table.numbers[a:b]) for a, b in zip(table.ptr[:-1], table.ptr[1:], strict=True)]
    return TrainingData(path, formulas, table, skipped)


def find_overlap(
    known: TrainingData, rows: RowFacts, table: CrystalTable | None, progress: Progress | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Return which rows of a task [M] are in training data: by "formula", and where both have them by "crystal".

    A row is there by its crystal if it has the same formula and nearly the same cell as one, see `find_known`.

    Args:
        known: The training data.
        rows: Rows of the task.
        table: Their crystals, in the same order; None if they are not available.
        progress: Called with the number of crystals whose graphs are built.
    """
    formulas = set(known.formulas)
    found = {"formula": np.array([rows.formula(i) in formulas for i in range(len(rows))])}
    if table is not None and known.table is not None:
        at = find_known(table, known.table, np.arange(len(known.table)), progress=progress)
        found["crystal"] = np.isin(np.arange(len(rows)), at)
    return found


def overlap_facts(
    known: TrainingData,
    rows: RowFacts,
    overlap: Mapping[str, NDArray[np.bool_]],
    folds: NDArray[np.int64] | None,
    scored: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None,
) -> dict[str, Any]:
    """Return the facts about an overlap.

    Args:
        known: The training data.
        rows: Rows of the task.
        overlap: Which of them are in the training data, from `find_overlap`.
        folds: Official fold of every official row, [n_rows]; None if unknown.
        scored: Positions of the rows that have predictions [n], and these [n]; None if there are none.

    Returns:
        file, form, n, skipped; found: for each way of comparing "by", n, share, first ids, ids, folds, and where
        predictions are given score: that of the rows there, of the others and of all.
    """
    return {
        "file": known.path.name,
        "form": "formulas" if known.table is None else "crystals",
        "n": len(known.formulas),
        "skipped": {"n": len(known.skipped), "first": [printable(row.id) for row in known.skipped[:_NAMED]]},
        "rows": len(rows),
        "task": rows.task.name,
        "found": [
            {
                "by": by,
                "n": int(is_known.sum()),
                "share": float(is_known.mean()),
                "first": [printable(name) for name in rows.ids[is_known][:_NAMED]],
                "ids": rows.ids[is_known].tolist(),
                "folds": None if folds is None else np.bincount(folds[rows.row[is_known]], minlength=5).tolist(),
                "score": None if scored is None else _scores(rows, is_known, *scored),
            }
            for by, is_known in overlap.items()
        ],
    }


def _scores(
    rows: RowFacts, is_known: NDArray[np.bool_], position: NDArray[np.int64], prediction: NDArray[np.float64]
) -> dict[str, Any]:
    """Return the primary score of rows in the training data, of the others and of all, with their numbers."""
    name = primary_metric(rows.task.kind).name
    inside, every = is_known[position], np.ones(len(position), dtype=bool)
    found: dict[str, Any] = {}
    for part, chosen in (("known", inside), ("others", ~inside), ("all", every)):
        at = position[chosen]
        value = score(rows.task.kind, rows.target[at], prediction[chosen])[name] if len(at) else None
        found[part] = {"n": len(at), "score": value}
    return found
