from __future__ import annotations

import bz2
import hashlib
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.base.errors import DataError, UsageError
from benchmarks.data.folds import check_fold_numbers, check_split, make_folds, n_folds, official_folds, tuning_split
from benchmarks.data.tasks import RESAMPLE, TASKS, Task
from tests.benchmarks.splits import MATBENCH, find_labels, fold_of_rows, official_splits

# sha256 of training and test rows of fold 0, then of fold 1, ... as little-endian int64, computed from the split file
# of matbench 0.6 (matbench_v0.1_validation.json).
OFFICIAL_DIGEST = {
    "matbench_jdft2d": "1f27e6b19c31dd21d711eef49f9b3508aef24112934433106ca7262808aee2d6",
    "matbench_phonons": "120473c323f8f8b2cd430fd2f34266725c7c974ab2c906cc7e6caee28586a469",
    "matbench_dielectric": "33600fd8eea8a5205bad89c8190941577b6efbdccfcbe13809d7f7d33163bea1",
    "matbench_log_gvrh": "12762bf14e91e8232af331e11d6de0a2d11b530787ffc1140c4d326b0d13bf5d",
    "matbench_log_kvrh": "12762bf14e91e8232af331e11d6de0a2d11b530787ffc1140c4d326b0d13bf5d",
    "matbench_perovskites": "fbdcfe0c92ccd1efc845c7ef6e15264cd023d0387a9743ec55b604deb705d463",
    "matbench_mp_gap": "512329b91a093cf2ea04636513912cc76dc0f5aefd72412e990749dddb5864ef",
    "matbench_mp_is_metal": "427991b9823d47f1b7100863e2a05c993c1994d2ccc6a41841af2d312fe373aa",
    "matbench_mp_e_form": "92f297627a5d12336023d533e46b772af40803713f6f05c17342d6d39e277d72",
}
REGRESSIONS = [task.name for task in TASKS.values() if task.is_official and task.kind == "regression"]

N_ROWS = 1265
ROWS = np.arange(N_ROWS)
TARGETS = np.zeros(N_ROWS)


def digest(folds: list[tuple[np.ndarray, np.ndarray]]) -> str:
    rows = np.concatenate([part for fold in folds for part in fold])
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()


def labels(n_rows: int) -> np.ndarray:
    """One row in four is true."""
    return (np.random.default_rng(0).permutation(n_rows) % 4 == 0).astype(float)


@pytest.mark.parametrize("name", REGRESSIONS)
def test_folds_are_the_official_ones(name: str):
    n_rows = TASKS[name].n_rows
    assert n_rows is not None
    assert digest(official_folds("regression", n_rows)) == OFFICIAL_DIGEST[name]


def test_stratified_folds_are_the_official_ones(data_dir: Path):
    path = data_dir.parent / "leaderboard" / "matbench_mp_gap.rows.json.bz2"
    if not path.is_file():
        pytest.skip(f"needs the official labels: {path} is absent")
    gap = json.loads(bz2.decompress(path.read_bytes()))["gap pbe"]
    # The rows of matbench_mp_is_metal are those of matbench_mp_gap: a metal is a crystal without a gap.
    is_metal = np.array([gap[str(row)] == 0 for row in range(len(gap))])
    folds = official_folds("classification", len(is_metal), is_metal)
    assert digest(folds) == OFFICIAL_DIGEST["matbench_mp_is_metal"]


@pytest.mark.parametrize("name", MATBENCH)
def test_folds_equal_the_split_file(name: str):
    n_rows, share_true = MATBENCH[name]
    splits = official_splits(name)
    if share_true is None:
        folds = official_folds("regression", n_rows)
    else:
        found = find_labels(fold_of_rows(splits), round(share_true * n_rows))
        assert found is not None, "no labels have these stratified folds"
        folds = official_folds("classification", n_rows, found)
    # The four tasks without structures are no tasks of sen-bench; their folds are made by the same rule.
    row_id = Task(name=name, target="", unit="", kind="regression", description="", n_rows=n_rows).row_id
    for index, (train, test) in enumerate(folds):
        assert [row_id(row) for row in train] == splits[f"fold_{index}"]["train"]
        assert [row_id(row) for row in test] == splits[f"fold_{index}"]["test"]


@pytest.mark.parametrize("name", [name for name, (_, share_true) in MATBENCH.items() if share_true is not None])
def test_labels_exist_for_no_folds_but_the_official_ones(name: str):
    n_rows, share_true = MATBENCH[name]
    fold, n_true = fold_of_rows(official_splits(name)), round((share_true or 0) * n_rows)
    assert find_labels(fold, n_true) is not None
    assert find_labels(fold, n_true, seed=1) is None
    assert find_labels(fold, n_true + 1) is None
    assert find_labels(np.random.default_rng(0).permutation(fold), n_true) is None
    exchanged = fold.copy()
    exchanged[[0, np.flatnonzero(fold != fold[0])[0]]] = exchanged[[np.flatnonzero(fold != fold[0])[0], 0]]
    assert find_labels(exchanged, n_true) is None


@pytest.mark.parametrize("n_true", [5, 60, 195])
def test_labels_are_found_where_they_are_known(n_true: int):
    known = np.random.default_rng(n_true).permutation(200) < n_true
    fold = np.empty(200, dtype=int)
    for index, (_, test) in enumerate(official_folds("classification", 200, known)):
        fold[test] = index
    found = find_labels(fold, n_true)
    assert found is not None
    assert found.sum() == n_true
    for index, (_, test) in enumerate(official_folds("classification", 200, found)):
        assert np.array_equal(test, np.flatnonzero(fold == index))


@pytest.mark.parametrize("kind", ["regression", "classification"])
@pytest.mark.parametrize("limit", [None, 50])
def test_every_row_is_tested_once_and_never_learnt_from(kind: str, limit: int | None):
    folds = make_folds(kind, ROWS, N_ROWS, labels(N_ROWS), seed=3, limit=limit)
    assert [fold.index for fold in folds] == [0, 1, 2, 3, 4]
    assert np.array_equal(np.sort(np.concatenate([fold.test for fold in folds])), ROWS)
    for fold in folds:
        parts = np.concatenate([fold.train, fold.validation, fold.test])
        assert len(np.unique(parts)) == len(parts)
        assert len(parts) == (N_ROWS if limit is None else limit + len(fold.test))


def test_complete_data_give_the_official_test_rows():
    official = official_folds("regression", N_ROWS)
    for fold, (train, test) in zip(make_folds("regression", ROWS, N_ROWS, TARGETS, seed=0), official, strict=True):
        assert np.array_equal(fold.test, test)
        assert np.array_equal(np.sort(np.concatenate([fold.train, fold.validation])), train)
        assert len(fold.validation) == 101


def test_partial_data_keep_every_row_in_its_official_fold():
    rows = np.sort(np.random.default_rng(1).permutation(N_ROWS)[:400])
    folds = make_folds("regression", rows, N_ROWS, TARGETS[:400], seed=0)
    for fold, (train, test) in zip(folds, official_folds("regression", N_ROWS), strict=True):
        assert np.array_equal(rows[fold.test], np.intersect1d(test, rows))
        assert np.isin(rows[fold.train], train).all()
        assert np.isin(rows[fold.validation], train).all()
        assert len(fold.train) + len(fold.validation) + len(fold.test) == 400


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_folds_do_not_depend_on_the_order_of_the_table(kind: str):
    shuffled = np.random.default_rng(1).permutation(N_ROWS)
    targets = labels(N_ROWS)
    folds = make_folds(kind, ROWS, N_ROWS, targets, seed=0)
    for fold, other in zip(folds, make_folds(kind, shuffled, N_ROWS, targets[shuffled], seed=0), strict=True):
        assert np.array_equal(fold.train, shuffled[other.train])
        assert np.array_equal(fold.validation, shuffled[other.validation])
        assert np.array_equal(fold.test, shuffled[other.test])


def test_own_data_are_split_in_the_order_of_the_table():
    rows = 1000 + 7 * np.arange(50)
    folds = make_folds("regression", rows, None, TARGETS[:50], seed=0)
    for fold, (_, test) in zip(folds, official_folds("regression", 50), strict=True):
        assert np.array_equal(fold.test, test)


def test_validation_rows_are_drawn_by_seed_and_fold():
    first, again, other = (make_folds("regression", ROWS, N_ROWS, TARGETS, seed) for seed in (0, 0, 1))
    for a, b, c in zip(first, again, other, strict=True):
        assert np.array_equal(a.validation, b.validation)
        assert not np.array_equal(a.validation, c.validation)
        assert np.array_equal(a.test, c.test)
    # Were the same numbers drawn in every fold, the validation rows would sit at the same places of the training rows.
    places = [
        np.searchsorted(train, fold.validation)
        for fold, (train, _) in zip(first, official_folds("regression", N_ROWS), strict=True)
    ]
    assert not np.array_equal(places[0], places[1])


def test_validation_rows_are_stratified():
    targets = labels(1000)
    for fold in make_folds("classification", np.arange(1000), 1000, targets, seed=0):
        assert targets[fold.validation].sum() == 20
        assert len(fold.validation) == 80


SPLITS = pytest.mark.parametrize("split", ["folds", "resample", "holdout:0.6/0.2/0.2", "tuning:0:folds"])


@SPLITS
@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_rows_that_calibrate_are_held_out_of_the_validation_rows_for_every_seed(kind: str, split: str):
    targets = labels(N_ROWS) if kind == "classification" else TARGETS
    given = {"split": split, "limit": 200}
    without = make_folds(kind, ROWS, None, targets, seed=0, **given)
    for share in (0.5, 1.0):
        folds, others = (make_folds(kind, ROWS, None, targets, s, calibration=share, **given) for s in (0, 1))
        for fold, other, before in zip(folds, others, without, strict=True):
            parts = [fold.train, fold.validation, fold.calibration, fold.test]
            assert len(set().union(*parts)) == sum(map(len, parts))
            assert abs(len(fold.train) - len(before.train)) <= 2
            assert len(fold.calibration) == pytest.approx(share * len(before.validation), abs=2)
            assert len(fold.validation) == 0 if share == 1 else len(fold.validation) > 0
            assert np.array_equal(fold.test, before.test)
            assert np.array_equal(fold.calibration, other.calibration)
            assert not np.array_equal(fold.train, other.train)
            if kind == "classification":
                assert len(np.unique(targets[fold.calibration])) == 2


@SPLITS
def test_a_limit_keeps_nested_parts_with_those_that_calibrate(split: str):
    sizes = []
    for limit in (20, 100, 150):
        fold, *_ = make_folds("regression", ROWS, None, TARGETS, 0, split=split, limit=limit, calibration=0.5)
        sizes.append((set(fold.calibration), {*fold.train, *fold.validation, *fold.calibration}))
        assert len(sizes[-1][1]) == limit
    for smaller, larger in pairwise(sizes):
        assert all(few < many for few, many in zip(smaller, larger, strict=True))


def test_validation_rows_that_cannot_be_shared_choose_the_epoch():
    for split in ("folds", "holdout:0.8/0.1/0.1"):
        for fold in make_folds("regression", np.arange(12), None, TARGETS[:12], 0, split=split, calibration=0.5):
            assert (len(fold.validation), len(fold.calibration)) == (1, 0)


def test_limit_keeps_nested_parts_of_the_training_rows():
    unlimited, large, small = (
        make_folds("regression", ROWS, N_ROWS, TARGETS, seed=0, limit=limit) for limit in (None, 200, 20)
    )
    for full, more, less in zip(unlimited, large, small, strict=True):
        kept, fewer = (set(fold.train) | set(fold.validation) for fold in (more, less))
        assert (len(kept), len(fewer)) == (200, 20)
        assert fewer < kept
        assert (len(more.validation), len(less.validation)) == (20, 2)
        assert np.array_equal(full.test, less.test)


def test_limit_beyond_the_training_rows_changes_nothing():
    folds = make_folds("regression", ROWS, N_ROWS, TARGETS, seed=0)
    for a, b in zip(folds, make_folds("regression", ROWS, N_ROWS, TARGETS, seed=0, limit=N_ROWS), strict=True):
        assert np.array_equal(a.train, b.train)
        assert np.array_equal(a.validation, b.validation)


def test_smallest_data_set():
    for fold in make_folds("regression", np.arange(5), None, TARGETS[:5], seed=0):
        assert (len(fold.train), len(fold.validation), len(fold.test)) == (3, 1, 1)


@pytest.mark.parametrize("n_rows", [0, 4])
def test_fewer_rows_than_folds(n_rows: int):
    with pytest.raises(UsageError, match=f"{n_rows} rows cannot be split into 5 folds"):
        make_folds("regression", np.arange(n_rows), None, TARGETS[:n_rows], seed=0)


@pytest.mark.parametrize("n_rows", [0, 3])
def test_part_too_small_for_every_fold(n_rows: int):
    with pytest.raises(UsageError, match=f"The {n_rows} rows of the data leave"):
        make_folds("regression", np.arange(n_rows), N_ROWS, TARGETS[:n_rows], seed=0)


def test_part_of_a_classification_is_refused():
    with pytest.raises(UsageError, match="stratified by the labels of all rows"):
        make_folds("classification", np.arange(100), N_ROWS, labels(100), seed=0)


def test_class_with_fewer_rows_than_folds():
    targets = np.zeros(100)
    targets[:3] = 1
    with pytest.raises(UsageError, match=r"Only 3 rows have the target 1\.0"):
        make_folds("classification", np.arange(100), 100, targets, seed=0)


def test_stratified_folds_need_labels():
    with pytest.raises(ValueError, match="label of every row"):
        official_folds("classification", 100)


@pytest.mark.parametrize("limit", [0, 1, -5])
def test_limit_too_small(limit: int):
    with pytest.raises(UsageError, match=f"limit of {limit} training rows"):
        make_folds("regression", ROWS, N_ROWS, TARGETS, seed=0, limit=limit)


@pytest.mark.parametrize("outside", [-1, N_ROWS])
def test_row_outside_the_data_set(outside: int):
    rows = ROWS[:100].copy()
    rows[50] = outside
    with pytest.raises(DataError, match="complete data set has the rows 0 to 1264"):
        make_folds("regression", rows, N_ROWS, TARGETS[:100], seed=0)


def test_repeated_row():
    rows = ROWS[:100].copy()
    rows[50] = 7
    with pytest.raises(DataError, match="Row index 7 occurs more than once"):
        make_folds("regression", rows, N_ROWS, TARGETS[:100], seed=0)


HOLDOUT = "holdout:0.8/0.1/0.1"
FIRST_TEST_ROWS = {"regression": [6, 30, 39, 48, 49], "classification": [0, 5, 13, 15, 16]}


@pytest.mark.parametrize(
    ("split", "written"),
    [
        ("folds", "folds"),
        ("resample", "resample"),
        ("holdout:0.8/0.1/0.1", HOLDOUT),
        ("holdout:.80/1e-1/0.10", HOLDOUT),
        ("holdout:0.3333333/0.3333333/0.3333334", "holdout:0.333333/0.333333/0.333333"),
    ],
)
def test_split_has_one_way_to_be_written(split: str, written: str):
    assert check_split(split) == written


@pytest.mark.parametrize(
    "split", ["", "fold", "holdout", "holdout:", "holdout:0.8/0.2", "holdout:1/0/0", "holdout:0.8/0.1/0.2",
              "holdout:0.5/0.6/-0.1", "holdout:a/b/c", "holdout:nan/nan/nan", "holdout:inf/0/0", "random:0.8/0.1/0.1"],
)  # fmt: skip
def test_impossible_split(split: str):
    with pytest.raises(UsageError, match=r"holdout:0\.8/0\.1/0\.1"):
        check_split(split)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("crystalsystem", "There is no split 'crystalsystem'. Did you mean crystal-system"),
        ("cluster", "Did you mean cluster:K"),
        ("group:", "Did you mean group:COLUMN"),
        ("elements", "Did you mean element"),
        ("cluster:1", "a number of clusters, 2 or more, such as cluster:5, not '1'"),
        ("cluster:five", "a number of clusters, 2 or more, such as cluster:5, not 'five'"),
        ("cluster:-3", "a number of clusters, 2 or more, such as cluster:5, not '-3'"),
    ],
)
def test_no_split_has_the_nearest_names(split: str, expected: str):
    with pytest.raises(UsageError, match=re.escape(expected)):
        check_split(split)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_a_holdout_of_part_of_an_official_data_set_does_not_depend_on_the_order_of_its_file(kind: str):
    rows, shuffled = np.arange(0, N_ROWS, 2), np.random.default_rng(2).permutation((N_ROWS + 1) // 2)
    targets = labels(N_ROWS)[rows]
    (fold,) = make_folds(kind, rows, N_ROWS, targets, 3, split=HOLDOUT, limit=90)
    (other,) = make_folds(kind, rows[shuffled], N_ROWS, targets[shuffled], 3, split=HOLDOUT, limit=90)
    for part in ("train", "validation", "test"):
        assert np.array_equal(getattr(fold, part), shuffled[getattr(other, part)])


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_holdout_uses_every_row_once_and_depends_on_no_seed(kind: str):
    targets = labels(1000)
    (fold,) = make_folds(kind, np.arange(1000), None, targets, seed=0, split=HOLDOUT)
    assert n_folds(HOLDOUT) == 1
    assert fold.index == 0
    assert (len(fold.train), len(fold.validation), len(fold.test)) == (800, 100, 100)
    parts = np.concatenate([fold.train, fold.validation, fold.test])
    assert np.array_equal(np.sort(parts), np.arange(1000))
    (other,) = make_folds(kind, np.arange(1000), None, targets, seed=5, split=HOLDOUT)
    for name in ("train", "validation", "test"):
        part = getattr(fold, name)
        assert np.array_equal(part, getattr(other, name))
        assert np.array_equal(part, np.sort(part))
        if kind == "classification":
            assert targets[part].mean() == 0.25
    # The same on every machine and with every version: a test set that moves is none.
    assert fold.test[:5].tolist() == FIRST_TEST_ROWS[kind]


@pytest.mark.parametrize(("n_rows", "sizes"), [(3, (1, 1, 1)), (5, (3, 1, 1)), (25, (21, 2, 2))])
def test_small_holdout(n_rows: int, sizes: tuple[int, int, int]):
    (fold,) = make_folds("regression", np.arange(n_rows), None, np.zeros(n_rows), seed=0, split=HOLDOUT)
    assert (len(fold.train), len(fold.validation), len(fold.test)) == sizes


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("regression", [1.0, 2.0]),
        ("regression", []),
        ("classification", [0, 1, 0, 1]),
        ("classification", [0] * 50 + [1] * 2),
        ("classification", [0] * 500 + [1] * 3),
    ],
)
def test_too_few_rows_for_a_holdout(kind: str, targets: list[float]):
    with pytest.raises(UsageError, match=f"{len(targets)} rows are too few for this holdout split"):
        make_folds(kind, np.arange(len(targets)), None, np.array(targets), seed=0, split=HOLDOUT)


def test_limit_of_a_holdout_keeps_nested_parts_and_every_test_row():
    full, large, small = (
        make_folds("regression", ROWS, None, TARGETS, seed=1, split=HOLDOUT, limit=limit)[0] for limit in (None, 90, 9)
    )
    assert (len(large.train), len(large.validation)) == (80, 10)
    assert (len(small.train), len(small.validation)) == (8, 1)
    for name in ("train", "validation"):
        assert set(getattr(small, name)) < set(getattr(large, name)) < set(getattr(full, name))
    assert np.array_equal(small.test, full.test)
    (smallest,) = make_folds("regression", ROWS, None, TARGETS, seed=1, split=HOLDOUT, limit=2)
    assert (len(smallest.train), len(smallest.validation)) == (1, 1)


@pytest.mark.parametrize(("folds", "share"), [([0], 0.8), ([3, 1], 0.6), ([0, 1, 2, 3], 0.2)])
def test_a_split_for_tuning_leaves_out_the_test_rows_of_its_folds(folds: list[int], share: float):
    outer = make_folds("regression", ROWS, N_ROWS, TARGETS, seed=0)
    known = set(ROWS) - {row for fold in folds for row in outer[fold].test}
    judging = []
    for seed, limit, validation in ((0, None, None), (1, None, 0.0), (2, 100, 0.3)):
        (fold,) = make_folds(
            "regression", ROWS, N_ROWS, TARGETS, seed, limit=limit, validation=validation,
            split=tuning_split("folds", folds),
        )  # fmt: skip
        parts = [fold.train, fold.validation, fold.test]
        assert len(set(np.concatenate(parts))) == sum(map(len, parts))
        assert set(np.concatenate(parts)) <= known
        n_train = limit or len(known) - len(fold.test)
        assert len(fold.validation) == round(n_train * (0.1 if validation is None else validation))
        assert len(fold.train) == n_train - len(fold.validation)
        judging.append(fold.test.tolist())
    assert len(known) == pytest.approx(share * N_ROWS, abs=4)
    assert len(judging[0]) == round(0.2 * len(known))
    assert judging[0] == judging[1] == judging[2]
    assert n_folds(tuning_split("folds", folds)) == 1


def test_a_split_for_tuning_keeps_classes_and_holdouts():
    targets = labels(N_ROWS)
    (fold,) = make_folds("classification", ROWS, N_ROWS, targets, 0, split=tuning_split("folds", [0]))
    assert targets[fold.test].mean() == pytest.approx(0.25, abs=0.005)
    holdout = "holdout:0.8/0.1/0.1"
    (outer,) = make_folds("regression", ROWS, None, TARGETS, 0, split=holdout)
    (fold,) = make_folds("regression", ROWS, None, TARGETS, 0, split=tuning_split(holdout, [0]))
    rows = [*fold.train, *fold.validation, *fold.test]
    assert sorted(rows) == sorted([*outer.train, *outer.validation])
    with pytest.raises(UsageError, match="names its share of validation rows"):
        make_folds("regression", ROWS, None, TARGETS, 0, validation=0.2, split=tuning_split(holdout, [0]))


def test_all_folds_leave_no_rows_for_tuning():
    with pytest.raises(
        UsageError, match=r"0 rows train in all of the folds 0,1,2,3,4, too few to tune on: name fewer folds\.$"
    ):
        make_folds("regression", ROWS, N_ROWS, TARGETS, 0, split=tuning_split("folds", range(5)))


# sha256 of training and test rows of the first ten random splits, as `digest` takes it.
RESAMPLED = {
    "regression": "0fdafb4d762aa5e212efc403260c134986fe0daec0e6e0eaa8f559d69c700150",
    "classification": "03103fd3e8f0a0d93995773523c110c0cb4b6da37bcac9350be30e1688f282ae",
}


def resampled(kind: str, numbers: list[int] | None, *, rows: np.ndarray = ROWS, seed: int = 0, **options: Any):
    """Random splits of rows of the official data set, of which one in four is true."""
    targets = labels(N_ROWS)[rows]
    return make_folds(kind, rows, N_ROWS, targets, seed, split=RESAMPLE, numbers=numbers, **options)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_random_splits_are_the_same_on_every_machine_and_go_on_where_fewer_end(kind: str):
    folds = resampled(kind, list(range(10)), validation=0.0)
    assert digest([(fold.train, fold.test) for fold in folds]) == RESAMPLED[kind]
    (alone,) = resampled(kind, [7], validation=0.0)
    assert (alone.index, alone.test.tolist()) == (7, folds[7].test.tolist())
    (first,) = resampled(kind, None, validation=0.0)
    assert (first.index, first.test.tolist()) == (0, folds[0].test.tolist())


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_random_splits_test_a_fifth_and_differ(kind: str):
    folds = resampled(kind, list(range(20)))
    assert [fold.index for fold in folds] == list(range(20))
    assert len({fold.test.tobytes() for fold in folds}) == 20
    for fold in folds:
        assert np.array_equal(np.sort(np.concatenate([fold.train, fold.validation, fold.test])), ROWS)
        assert (len(fold.test), len(fold.validation)) == (N_ROWS // 5, 101)
        if kind == "classification":
            assert labels(N_ROWS)[fold.test].mean() == pytest.approx(0.25, abs=0.003)
    (other,) = resampled(kind, [3], seed=1)
    assert np.array_equal(other.test, folds[3].test)
    assert not np.array_equal(other.validation, folds[3].validation)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_random_splits_of_partial_data_are_of_the_rows_that_are_there_in_any_order(kind: str):
    rows = np.sort(np.random.default_rng(1).permutation(N_ROWS)[:400])
    shuffled = np.random.default_rng(2).permutation(400)
    for fold, other in zip(resampled(kind, [0, 1]), resampled(kind, [0, 1], rows=rows), strict=True):
        assert (len(fold.test), len(other.test)) == (253, 80)
        assert len(np.unique(np.concatenate([other.train, other.validation, other.test]))) == 400
    for fold, other in zip(
        resampled(kind, [0, 1], rows=rows), resampled(kind, [0, 1], rows=rows[shuffled]), strict=True
    ):
        assert np.array_equal(fold.test, shuffled[other.test])
        assert np.array_equal(fold.validation, shuffled[other.validation])


def test_random_splits_need_rows_of_each_class_and_have_no_end():
    with pytest.raises(UsageError, match="4 rows cannot be split"):
        make_folds("regression", np.arange(4), None, TARGETS[:4], 0, split=RESAMPLE)
    with pytest.raises(UsageError, match=r"Only 3 rows have the target 1\.0"):
        make_folds("classification", np.arange(100), None, (np.arange(100) < 3).astype(float), 0, split=RESAMPLE)
    assert n_folds(RESAMPLE) is None
    check_fold_numbers([0, 99], RESAMPLE, None)
    for wrong in ([-1], [2**32], [3, 3], []):
        with pytest.raises(UsageError, match="--folds takes numbers from 0 to 4294967295, none of them twice"):
            check_fold_numbers(wrong, RESAMPLE, None)


def test_a_split_for_tuning_leaves_out_the_test_rows_of_random_splits():
    (fold,) = make_folds("regression", ROWS, N_ROWS, TARGETS, 0, split=tuning_split(RESAMPLE, [0, 5]))
    rows = {*fold.train, *fold.validation, *fold.test}
    assert rows == set(ROWS).difference(*(outer.test for outer in resampled("regression", [0, 5])))


def test_only_the_folds_asked_for_are_made():
    every = make_folds("regression", ROWS, N_ROWS, TARGETS, 0)
    found = make_folds("regression", ROWS, N_ROWS, TARGETS, 0, numbers=[3, 1])
    assert [fold.index for fold in found] == [3, 1]
    for fold in found:
        assert np.array_equal(fold.train, every[fold.index].train)
        assert np.array_equal(fold.test, every[fold.index].test)
