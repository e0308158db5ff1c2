"""A task with its crystals, and the folds that it makes once."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.base.errors import DataError
from benchmarks.base.files import file_digest
from benchmarks.data.dataset import find_official, load_dataset
from benchmarks.data.folds import make_folds
from benchmarks.data.tasks import get_task
from tests.reports.made_runs import write_partial


def test_folds_are_made_once_for_a_seed_and_a_limit() -> None:
    dataset = load_dataset(get_task("prototypes"), jobs=1)
    table = dataset.table
    for seed, limit in ((0, None), (1, None), (0, 100)):
        folds = dataset.folds(seed, limit)
        assert dataset.folds(seed, limit) is folds
        for fold, other in zip(
            folds, make_folds("regression", table.row, None, table.target, seed, limit=limit), strict=True
        ):
            for part in ("train", "validation", "test"):
                np.testing.assert_array_equal(getattr(fold, part), getattr(other, part))


def test_the_prototypes_are_the_same_crystals_refined_to_any_tolerance() -> None:
    tables = [load_dataset("prototypes", symprec=symprec, jobs=1).table for symprec in (0.01, 0.001)]
    assert tables[0].digest != tables[1].digest
    np.testing.assert_array_equal(tables[0].target, tables[1].target)
    np.testing.assert_array_equal(tables[0].ids, tables[1].ids)


def test_folds_follow_the_task_and_are_not_sent_to_other_processes() -> None:
    dataset = load_dataset(get_task("prototypes"), jobs=1)
    before = pickle.dumps(dataset)
    assert len(dataset.folds(0)) == 5
    sent = pickle.dumps(dataset)
    assert len(sent) == len(before)
    assert len(pickle.loads(sent).folds(0)) == 5
    holdout = replace(dataset, task=replace(dataset.task, split="holdout:0.8/0.1/0.1"))
    assert len(holdout.folds(0)) == 1
    random = replace(dataset, task=replace(dataset.task, split="resample"))
    assert len({random.digest, holdout.digest, dataset.digest}) == 3
    assert [fold.index for fold in random.folds(0)] == [0]
    assert random.folds(0, numbers=[7, 2]) is random.folds(0, numbers=(7, 2))
    assert [fold.index for fold in random.folds(0, numbers=[7, 2])] == [7, 2]
    with pytest.raises(DataError, match="has the rows 0 to 999"):
        replace(dataset, task=replace(dataset.task, n_rows=1000)).folds(0)


def test_crystals_of_a_file_that_was_read_and_removed_are_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    monkeypatch.setenv("MATMINER_DATA", str(tmp_path / "matminer"))
    file = write_partial(tmp_path / "data", n=20) / "matbench_jdft2d.json.gz"
    file.with_name("matbench_jdft2d.partial.json.gz").rename(file)
    task = replace(get_task("matbench_jdft2d"), n_rows=20, sha256=file_digest(file))
    assert find_official(task) is None
    before = load_dataset(task, file.parent, jobs=1)
    file.unlink()
    found = find_official(task)
    assert found is not None
    assert (found.digest, found.is_complete, found.source) == (before.digest, True, file.name)
    np.testing.assert_array_equal(found.table.positions, before.table.positions)
    np.testing.assert_array_equal(found.table.ids, before.table.ids)
    assert find_official(task, symprec=0.1) is None
