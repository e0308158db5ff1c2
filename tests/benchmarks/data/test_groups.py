from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.base.errors import DataError, UsageError
from benchmarks.data.crystal_table import CrystalTable
from benchmarks.data.dataset import Dataset, load_dataset
from benchmarks.data.folds import Fold
from benchmarks.data.groups import FEWEST_WITH_ELEMENT, Grouping, group_rows
from benchmarks.data.own_data import own_task
from benchmarks.data.tasks import Task
from tests.benchmarks.data.made_own_data import LAYOUTS, load, rows_of, write_csv

TASK = Task(name="made", target="y", unit="", kind="regression", description="")
WHOLE = ("formula", "chemical-system", "space-group", "point-group", "crystal-system", "cluster:3", "cluster:7")
ELEMENTS = [3, 8, 11, 26, 37]


def made(numbers: list[list[int]], space_groups: list[int], targets: list[float] | None = None, **task: Any) -> Dataset:
    """Crystals of these atoms and space groups; each has a lattice of its own, by its atoms."""
    sizes = [len(each) for each in numbers]
    n, atoms = len(numbers), np.concatenate(numbers).astype(np.uint8)
    lattice = (
        np.eye(3)
        * np.array([2.5 + 0.5 * size + 0.01 * sum(of) for size, of in zip(sizes, numbers, strict=True)])[:, None, None]
    )
    positions = np.concatenate([np.arange(size)[:, None] / size * [[1, 1, 1]] for size in sizes])
    table = CrystalTable(
        lattice=lattice,
        positions=positions,
        numbers=atoms,
        orbit=np.concatenate([np.arange(size) for size in sizes]).astype(np.int32),
        ptr=np.concatenate([[0], np.cumsum(sizes)]),
        space_group=np.array(space_groups, dtype=np.int16),
        target=np.arange(n, dtype=float) if targets is None else np.array(targets),
        heavy_hydrogen=np.zeros(n, dtype=bool),
        row=np.arange(n),
        ids=np.array([f"m-{i}" for i in range(n)], dtype=object),
        digest=hashlib.sha256(atoms.tobytes() + bytes(space_groups) + bytes(sizes)).hexdigest(),
    )
    return Dataset(replace(TASK, **task), table, "made", is_complete=True)


def drawn(n: int, seed: int, **task: Any) -> Dataset:
    rng = np.random.default_rng(seed)
    numbers = [rng.choice(ELEMENTS, rng.integers(1, 4)).tolist() for _ in range(n)]
    return made(numbers, rng.choice([0, 1, 2, 12, 14, 62, 62, 139, 166, 194, 221, 225], n).tolist(), **task)


def shuffled(dataset: Dataset, order: np.ndarray) -> Dataset:
    """The same rows in another order in the file."""
    table = dataset.table
    numbers = np.split(table.numbers, table.ptr[1:-1])
    other = made([numbers[i].tolist() for i in order], table.space_group[order].tolist())
    task = replace(dataset.task, n_rows=len(order))
    return replace(dataset, task=task, table=replace(other.table, row=order, target=table.target[order]))


def parts(fold: Fold) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return fold.train, fold.validation, fold.test


def keys(dataset: Dataset, split: str) -> list[set[str]]:
    """The groups of each row."""
    grouping = group_rows(split, dataset.task, dataset.table)
    found: list[set[str]] = [set() for _ in range(len(dataset.table))]
    for name, rows in zip(grouping.names, grouping, strict=True):
        for row in rows.tolist():
            found[row].add(name)
    return found


def within(split: str) -> str:
    """Groups of which no row trains where another validates."""
    return {"point-group": "space-group", "crystal-system": "space-group", "cluster": "chemical-system"}.get(
        split.partition(":")[0], split
    )


@pytest.mark.parametrize("split", [*WHOLE, "element"])
@given(seed=st.integers(0, 10**6), n=st.integers(90, 200), of_run=st.integers(0, 3))
def test_no_group_is_on_both_sides_and_every_row_is_tested(split: str, seed: int, n: int, of_run: int) -> None:
    dataset = drawn(n, seed, split=split)
    groups, finer = keys(dataset, split), keys(dataset, within(split))
    folds = dataset.folds(of_run)
    assert [fold.index for fold in folds] == list(range(len(folds))) == [each.fold for each in dataset.tested]
    for fold, tested in zip(folds, dataset.tested, strict=True):
        train, validation, test = parts(fold)
        assert np.array_equal(np.sort(np.concatenate([train, validation, test])), np.arange(n))
        assert len(train)
        assert len(validation)
        assert np.array_equal(test, tested.rows)
        assert (fold.name, fold.name or tested.keys) == (
            tested.name,
            tested.keys[0] if fold.name else "" or tested.keys,
        )
        known = [*train.tolist(), *validation.tolist()]
        assert not set(tested.keys) & set().union(*(groups[row] for row in known))
        if split == "element":
            held_out = set().union(*(groups[row] for row in validation)) - set().union(*(groups[row] for row in train))
            assert all(groups[row] & held_out for row in validation)
        else:
            assert not set().union(*(finer[row] for row in train)) & set().union(*(finer[row] for row in validation))
    times = np.bincount(np.concatenate([fold.test for fold in folds]), minlength=n)
    if split == "element":
        tested_keys = {key for each in dataset.tested for key in each.keys}
        assert times.tolist() == [len(each & tested_keys) for each in groups]
    else:
        assert (times == 1).all()


@pytest.mark.parametrize("split", WHOLE)
@given(seed=st.integers(0, 10**6), limit=st.none() | st.integers(40, 90))
def test_rows_that_calibrate_are_whole_groups_and_the_same_for_every_seed(
    split: str, seed: int, limit: int | None
) -> None:
    dataset = drawn(150, seed, split=split)
    finer = keys(dataset, within(split))
    for fold, other in zip(dataset.folds(0, limit, 0.2, 0.5), dataset.folds(1, limit, 0.2, 0.5), strict=True):
        assert np.array_equal(fold.calibration, other.calibration)
        assert len(fold.train)
        assert len(fold.validation)
        assert len(fold.calibration)
        held_out = [fold.calibration, fold.validation]
        rows = np.concatenate([*parts(fold), fold.calibration])
        assert len(np.unique(rows)) == len(rows)
        for one, two in ((fold.train, fold.calibration), (fold.validation, fold.calibration)):
            assert not set().union(*(finer[row] for row in one)) & set().union(*(finer[row] for row in two))
        n_known = len(fold.train) + sum(map(len, held_out))
        assert n_known == (150 - len(fold.test) if limit is None else min(limit, 150 - len(fold.test)))


def test_a_limit_that_a_calibrating_group_would_take_up_is_refused() -> None:
    dataset = made([[z] for z in ELEMENTS for _ in range(30)], [225] * 150, split="formula")
    assert [len(fold.calibration) for fold in dataset.folds(0, 60, 0.2, 0.5)] == [30] * 5
    with pytest.raises(UsageError, match=r"^Of the 31 rows of fold .* a whole group of 30 rows would calibrate"):
        dataset.folds(0, 31, 0.2, 0.5)


@pytest.mark.parametrize("split", [*WHOLE, "element"])
def test_folds_depend_on_the_rows_and_not_on_their_order_in_a_file(split: str) -> None:
    dataset = drawn(150, 5, split=split)
    order = np.random.default_rng(0).permutation(150)
    other = shuffled(replace(dataset, task=replace(dataset.task, n_rows=150)), order)
    assert other.fold_names == dataset.fold_names
    for seed in (0, 1):
        for fold, same in zip(dataset.folds(seed, 60), other.folds(seed, 60), strict=True):
            for part, of_same in zip(parts(fold), parts(same), strict=True):
                assert np.array_equal(part, order[of_same])


# sha256 of training, validation and test rows of all folds, as little-endian int64.
DIGESTS = {
    "formula": "e060420f8fb4ee80be0ecbec98d486e34da4a1d7eb62b00b787ad5761c0761ee",
    "chemical-system": "c9c803dea931f675bae824bc583faed3504728cf4dde15bf2f94d69f585530fa",
    "space-group": "52f77fbe520bbad2145b43e8bc24edb568bbfbc36e87b640b4be854a41788090",
    "point-group": "57a17fbdc455e122404e2842a333e45bea22111bb70c61a75763efda3b4b3e34",
    "crystal-system": "9daede6c5a2dc541bba2eb956a7122f7c2c1d3649cd7dc1c97f8f44ea41133a9",
    "cluster:3": "bc0f0a05b3ac6e3b2b62c240fb77a3ac280bcdd0ed69ddf554b57bb2521daf82",
    "cluster:7": "5767216114dc2089d69552a610826506af8fad3fad873d7001ef45bc89122861",
    "element": "41a77d61fe1e5532d5995481e914fea6b5bce8d8102542977b2f8f3162874be7",
}


@pytest.mark.parametrize("split", [*WHOLE, "element"])
def test_folds_are_the_same_on_every_machine(split: str) -> None:
    rows = np.concatenate([part for fold in drawn(150, 5, split=split).folds(0) for part in parts(fold)])
    assert hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest() == DIGESTS[split]


def test_folds_of_many_groups_have_equally_many_rows() -> None:
    for split in ("formula", "chemical-system"):
        sizes = [len(fold.test) for fold in drawn(400, 1, split=split).folds()]
        assert len(sizes) == 5
        assert max(sizes) - min(sizes) <= 4


def test_folds_of_few_groups_are_named_in_the_order_of_their_field() -> None:
    dataset = drawn(200, 2, split="crystal-system")
    names = ["unknown", "triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic"]
    assert dataset.fold_names == names
    assert dataset.folds()[7].label == "7 (cubic)"
    assert dataset.fold_number("cubic") == 7
    assert replace(dataset, task=replace(TASK, split="point-group")).fold_names == [
        *("unknown", "1", "-1", "2/m", "mmm", "4/mmm", "-3m", "6/mmm", "m-3m")
    ]
    assert replace(dataset, task=replace(TASK, split="cluster:2")).fold_names == ["cluster 1", "cluster 2"]
    assert replace(dataset, task=replace(TASK, split="element")).fold_names == ["Li", "O", "Na", "Fe", "Rb"]
    assert replace(dataset, task=replace(TASK, split="formula")).fold_names == [""] * 5
    assert replace(dataset, task=TASK).fold_names == []


def test_clusters_are_of_like_crystals() -> None:
    numbers = [[3, 8]] * 20 + [[26, 37, 37]] * 30
    dataset = made(numbers, [225] * 20 + [12] * 30, split="cluster:2")
    assert [each.rows.tolist() for each in dataset.tested] == [list(range(20, 50)), list(range(20))]
    with pytest.raises(UsageError, match="3 clusters of 2 different crystals are too many"):
        _ = made(numbers, [225] * 20 + [12] * 30, split="cluster:3").tested


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Xe", "There is no fold for the element Xe: no row contains it"),
        (
            "K",
            "There is no fold for the element K: only 1 row contains it, and a fold tests an element that at least 30",
        ),
        ("Xy", "The split element has no fold 'Xy'. "),
    ],
)
def test_an_element_of_no_fold_is_refused(name: str, expected: str) -> None:
    dataset = made([*[[3, 8]] * FEWEST_WITH_ELEMENT, [19], *[[11]] * 40], [1] * 71, split="element")
    assert dataset.fold_names == ["Li", "O", "Na"]
    with pytest.raises(UsageError, match=expected):
        dataset.fold_number(name)


def test_a_name_of_a_fold_is_refused_where_folds_have_none_or_other_names() -> None:
    dataset = drawn(100, 0, split="crystal-system")
    with pytest.raises(UsageError, match=r"has no fold 'hexogonal'. Did you mean hexagonal"):
        dataset.fold_number("hexogonal")
    with pytest.raises(UsageError, match="The folds of the split formula have no names, only numbers: --folds 0,1"):
        replace(dataset, task=replace(TASK, split="formula")).fold_number("NaCl")


def test_a_fold_without_training_or_validation_rows_is_refused_and_the_others_run() -> None:
    oxides = made([[8, 3]] * 40 + [[8, 11]] * 40, [1] * 80, split="element")
    with pytest.raises(UsageError, match=r"^Fold 1 \(O\) has 0 training rows, because it tests 80 of 80 rows: leave"):
        oxides.folds()
    assert [len(fold.train) for fold in oxides.folds(validation=0.0, numbers=[0, 2])] == [40, 40]
    two = made([[8]] * 20 + [[3]] * 20, [225] * 20 + [1] * 20, split="crystal-system")
    with pytest.raises(
        UsageError,
        match=r"^Fold 0 \(triclinic\) has no validation rows, because its 20 training rows are all of one group, .*"
        r"--set training\.validation=0\.$",
    ):
        two.folds(numbers=[0])
    assert [len(fold.train) for fold in two.folds(validation=0.0)] == [20, 20]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("formula", r"at least 5 groups of rows, one for each fold, and the data have 1 \(LiF\)"),
        ("crystal-system", r"at least two groups of rows, and all rows are of one \(cubic\)"),
        ("element", "no element is in so many: Li is in 10"),
        ("cluster:10", "10 clusters of 10 rows are too many"),
        ("cluster:11", "11 clusters of 10 rows are too many"),
    ],
)
def test_too_few_groups(split: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        made([[3, 9]] * 10, [225] * 10, split=split).folds()


def test_classes_must_train_and_validate() -> None:
    targets = [float(i % 2) for i in range(120)]
    dataset = drawn(120, 3, targets=targets, kind="classification", split="chemical-system")
    for fold in dataset.folds():
        assert all(len(set(dataset.table.target[part])) == 2 for part in (fold.train, fold.validation))
    one_each = made([[3]] * 40 + [[8]] * 40 + [[11]] * 9, [1] * 40 + [225] * 40 + [62] * 9,
                    [0.0] * 40 + [1.0] * 49, kind="classification", split="crystal-system")  # fmt: skip
    with pytest.raises(UsageError, match=r"^Fold 0 \(triclinic\) has training or validation rows of one class alone"):
        one_each.folds()


def test_a_limit_keeps_a_part_of_the_training_rows_and_whole_groups_to_validate() -> None:
    dataset = drawn(300, 4, split="formula")
    groups = keys(dataset, "formula")
    for large, small in zip(dataset.folds(1, 150), dataset.folds(1, 60), strict=True):
        assert [len(fold.train) + len(fold.validation) for fold in (large, small)] == [150, 60]
        assert {*small.train, *small.validation} < {*large.train, *large.validation}
        assert np.array_equal(large.test, small.test)
        for fold in (large, small):
            train, validation = (set().union(*(groups[i] for i in part)) for part in (fold.train, fold.validation))
            assert not train & validation


def test_a_run_is_settled_by_the_same_number_of_rows_whatever_its_folds() -> None:
    dataset = drawn(200, 2, split="crystal-system")
    sizes = [200 - len(fold.test) for fold in dataset.folds()]
    assert dataset.training_rows(0, None, None) == round(0.9 * np.mean(sizes))
    assert dataset.training_rows(0, 50, 0.0) == 50


def test_rows_that_judge_recipes_are_whole_groups_that_train_in_no_fold() -> None:
    dataset = drawn(300, 6, split="tuning:0,2:formula")
    groups = keys(dataset, "formula")
    outer = replace(dataset, task=replace(TASK, split="formula")).folds()
    (fold,) = dataset.folds()
    assert {*fold.train, *fold.validation, *fold.test} == set(range(300)) - {*outer[0].test, *outer[2].test}
    held = [set().union(*(groups[i] for i in part)) for part in parts(fold)]
    assert sum(map(len, held)) == len(set().union(*held))
    assert dataset.n_folds == 1
    assert not dataset.tested


def test_groups_are_sent_to_other_processes() -> None:
    dataset = drawn(100, 0, split="cluster:3")
    tested = dataset.tested
    sent = pickle.loads(pickle.dumps(dataset))
    assert all(np.array_equal(mine.rows, its.rows) for mine, its in zip(tested, sent._of_data[0].tested, strict=True))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
@given(sizes=st.lists(st.integers(1, 20), min_size=2, max_size=30), seed=st.integers(0, 99))
def test_what_is_held_out_is_whole_groups_and_never_all(share: float, sizes: list[int], seed: int) -> None:
    grouping = Grouping.of_keys(np.repeat([f"g{i}" for i in range(len(sizes))], sizes).tolist())
    rows = np.flatnonzero(np.random.default_rng(seed).random(sum(sizes)) < 0.8)
    left = [np.isin(rows, each) for each in grouping if np.isin(rows, each).any()]
    held_out = grouping.hold_out(rows, share, np.random.default_rng(seed))
    assert held_out.any() == (share > 0 and len(left) > 1)
    assert not len(rows) or not held_out.all()
    assert all(held_out[each].all() or not held_out[each].any() for each in left)
    smallest = min((each.sum() for each in left), default=0)
    assert held_out.sum() <= max(1, round(share * len(rows)), smallest)


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_own_data_are_split_by_a_column(tmp_path: Path, write: Any) -> None:
    rows = [(name, crystal, float(i % 6)) for i, (name, crystal, _) in enumerate(rows_of(24))]
    path = write(tmp_path / "mine", rows)
    column = "target" if path.is_dir() else "gap"
    dataset = load(path, target=column, split=f"group:{column}")
    assert dataset.fold_names == [""] * 5
    assert sorted(key for tested in dataset.tested for key in tested.keys) == list("012345")
    for tested in dataset.tested:
        assert {str(int(value)) for value in dataset.table.target[tested.rows]} == set(tested.keys)


def test_a_row_without_a_group_is_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine", rows_of(12))
    path.write_text(path.read_text().replace('"x,\ny"', "a", 3).replace('"x,\ny"', "", 1).replace('"x,\ny"', "b"))
    with pytest.raises(
        DataError, match=r"mine\.csv: row mp-3 has no value in the column 'note', by which the rows are"
    ):
        load_dataset(own_task(path, target="gap", split="group:note"), jobs=1).folds()


def test_symmetry_of_real_crystals_is_that_of_the_refined_cells(data_dir: Path) -> None:
    dataset = load_dataset("matbench_phonons", data_dir, jobs=1)
    outside = replace(dataset, task=replace(dataset.task, split="crystal-system"))
    assert outside.fold_names == [
        *("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")
    ]
    for tested in outside.tested:
        assert set(dataset.table.crystal_system[tested.rows]) == {tested.name}
    assert outside.digest != dataset.digest
    assert not outside.task.has_leaderboard
