"""The split file inside the matbench 0.6 wheel, and labels that are not in it."""

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
    """The folds of a task in the split file; a test that asks for them is skipped where there is none."""
    path = os.environ.get("SEN_BENCH_MATBENCH_SPLITS")
    if path is None:
        pytest.skip("needs matbench_v0.1_validation.json of the matbench 0.6 wheel (set SEN_BENCH_MATBENCH_SPLITS)")
    return _read(path)[name]


@cache
def _read(path: str) -> dict[str, Any]:
    return json.loads(Path(path).read_bytes())["splits"]


def fold_of_rows(splits: dict[str, dict[str, list[str]]]) -> np.ndarray:
    """In which fold each row is tested, [n_rows]."""
    ids = [splits[f"fold_{index}"]["test"] for index in range(5)]
    fold = np.repeat(range(5), [len(part) for part in ids])
    return fold[np.argsort(np.concatenate(ids))]  # ids are zero-padded: their order is that of the rows


def find_labels(fold: np.ndarray, n_true: int, seed: int = OFFICIAL_SEED) -> np.ndarray | None:
    """Labels of which n_true are true and whose stratified folds are these; None where there are none.

    Which labels a row has is not in the split file, but what they must be like is: `StratifiedKFold` deals the numbers
    of the folds out evenly to the rows of the class that comes first and to those of the other, and shuffles each of
    the two sequences. The folds of all rows are those sequences merged, and the labels say how.

    Args:
        fold: In which fold each row is tested, [n_rows].
        n_true: How many labels are true.
        seed: Seed of the split.
    """
    for first_is_true in (True, False):
        n_first = n_true if first_is_true else len(fold) - n_true
        merged = _unmerge(fold, *_shuffled_folds(n_first, len(fold) - n_first, seed))
        if merged is not None:
            return merged if first_is_true else ~merged
    return None


def _shuffled_folds(n_first: int, n_second: int, seed: int) -> tuple[list[int], list[int]]:
    """The folds of the rows of the class that comes first, in the order of the rows, and those of the other class."""
    in_blocks = np.repeat((0, 1), (n_first, n_second))
    rng = np.random.RandomState(seed)
    sequences = []
    for label in (0, 1):
        numbers = np.repeat(range(5), [np.count_nonzero(in_blocks[index::5] == label) for index in range(5)])
        rng.shuffle(numbers)
        sequences.append(numbers.tolist())
    return sequences[0], sequences[1]


def _unmerge(fold: np.ndarray, first: list[int], second: list[int]) -> np.ndarray | None:
    """Which rows are of the class that comes first, [n_rows], if `fold` is a merge of the two sequences."""
    # reachable[n]: how many of the first n rows may be of the first class. Row 0 is, by definition.
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
