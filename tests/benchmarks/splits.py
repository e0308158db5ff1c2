"""The folds in the split file of matbench 0.6, and labels that reproduce the stratified ones."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

OFFICIAL_SEED = 18012019

#: Rows of each MatBench task, its kind, and the share of true labels (matbench_v0.1_dataset_metadata.json).
MATBENCH: dict[str, tuple[int, float | None]] = {
    "matbench_steels": (312, None),
    "matbench_jdft2d": (636, None),
    "matbench_phonons": (1265, None),
    "matbench_expt_gap": (4604, None),
    "matbench_dielectric": (4764, None),
    "matbench_expt_is_metal": (4921, 0.4980694980694981),
    "matbench_glass": (5680, 0.710387323943662),
    "matbench_log_gvrh": (10987, None),
    "matbench_log_kvrh": (10987, None),
    "matbench_perovskites": (18928, None),
    "matbench_mp_gap": (106113, None),
    "matbench_mp_is_metal": (106113, 0.43492314796490533),
    "matbench_mp_e_form": (132752, None),
}


def official_splits(name: str) -> dict[str, dict[str, list[str]]]:
    """Return the folds of a task from the split file; skip the test where there is no such file."""
    path = os.environ.get("SEN_BENCH_MATBENCH_SPLITS")
    if path is None:
        pytest.skip("needs matbench_v0.1_validation.json of the matbench 0.6 wheel (set SEN_BENCH_MATBENCH_SPLITS)")
    return _read(path)[name]


@cache
def _read(path: str) -> dict[str, Any]:
    return json.loads(Path(path).read_bytes())["splits"]


def fold_of_rows(splits: dict[str, dict[str, list[str]]]) -> np.ndarray:
    """Return the fold that tests each row, [n_rows]."""
    ids = [splits[f"fold_{index}"]["test"] for index in range(5)]
    fold = np.repeat(range(5), [len(part) for part in ids])
    return fold[np.argsort(np.concatenate(ids))]  # ids are zero-padded: their order is that of the rows


def find_labels(fold: np.ndarray, n_true: int, seed: int = OFFICIAL_SEED) -> np.ndarray | None:
    """Return labels, n_true of them true, whose stratified folds are these; None where no labels have them.

    The split file holds no labels, but its folds constrain them: `StratifiedKFold` deals fold numbers evenly to the
    rows of each class and shuffles both sequences of numbers. The folds of all rows are the two sequences merged, and
    the labels say which number comes from which.

    Args:
        fold: Fold that tests each row, [n_rows].
        n_true: Number of true labels.
        seed: Seed of the split.
    """
    for first_is_true in (True, False):
        n_first = n_true if first_is_true else len(fold) - n_true
        merged = _unmerge(fold, *_shuffled_folds(n_first, len(fold) - n_first, seed))
        if merged is not None:
            return merged if first_is_true else ~merged
    return None


def _shuffled_folds(n_first: int, n_second: int, seed: int) -> tuple[list[int], list[int]]:
    """Return the fold numbers of the class of the first row, in the order of the rows, and those of the other class."""
    in_blocks = np.repeat((0, 1), (n_first, n_second))
    rng = np.random.RandomState(seed)
    sequences = []
    for label in (0, 1):
        numbers = np.repeat(range(5), [np.count_nonzero(in_blocks[index::5] == label) for index in range(5)])
        rng.shuffle(numbers)
        sequences.append(numbers.tolist())
    return sequences[0], sequences[1]


def _unmerge(fold: np.ndarray, first: list[int], second: list[int]) -> np.ndarray | None:
    """Return which rows belong to the class of the first row, [n_rows]; None unless `fold` merges the sequences."""
    # reachable[n]: possible numbers of rows of the first class among the first n rows. Row 0 is one by definition.
    reachable = [{0}, {1} if first[0] == fold[0] else set()]
    for row, number in enumerate(fold[1:].tolist(), start=1):
        taken = {a + 1 for a in reachable[-1] if a < len(first) and first[a] == number}
        left = {a for a in reachable[-1] if row - a < len(second) and second[row - a] == number}
        reachable.append(taken | left)
    a = len(first)
    if a not in reachable[-1]:
        return None
    is_first = np.zeros(len(fold), dtype=bool)
    for row in reversed(range(len(fold))):
        number = fold[row]
        is_first[row] = a > 0 and a - 1 in reachable[row] and first[a - 1] == number
        a -= int(is_first[row])
    return is_first
