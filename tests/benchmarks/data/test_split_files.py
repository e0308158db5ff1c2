from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.base.errors import DataError, SenBenchError, UsageError
from benchmarks.data.dataset import Dataset
from benchmarks.data.own_data import find_task
from benchmarks.data.split_files import open_split, write_folds
from tests.benchmarks.data.made_own_data import load, rows_of, write_csv

N_ROWS = 60


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return load(write_csv(tmp_path / "mine", rows_of(N_ROWS)), split="formula")


def written(dataset: Dataset, path: Path, **options: Any) -> Path:
    write_folds(path, dataset.task, dataset.table, dataset.folds(**options))
    return path


def read(dataset: Dataset, path: Path) -> Dataset:
    split, split_path = open_split(f"file:{path}")
    return replace(dataset, task=replace(dataset.task, split=split, split_path=split_path))


def parts(dataset: Dataset, **options: Any) -> list[list[list[int]]]:
    return [[part.tolist() for part in (f.train, f.validation, f.test)] for f in dataset.folds(**options)]


@pytest.mark.parametrize("split", ["formula", "cluster:2", "folds", "holdout:0.5/0.2/0.3"])
def test_folds_that_were_written_are_read(dataset: Dataset, tmp_path: Path, split: str) -> None:
    before = replace(dataset, task=replace(dataset.task, split=split))
    after = read(dataset, written(before, tmp_path / "splits.json"))
    assert parts(after) == parts(before)
    assert after.fold_names == [fold.name for fold in before.folds()]
    # Validation rows are those of the file for every seed, unless all rows train.
    assert parts(after, seed=3) == parts(before)
    assert [fold[0] for fold in parts(after, validation=0.0)] == [sorted(a + b) for a, b, _ in parts(before)]
    with pytest.raises(UsageError, match="names its share of validation rows"):
        after.folds(validation=0.3)


def test_validation_rows_are_drawn_where_the_file_has_none(dataset: Dataset, tmp_path: Path) -> None:
    after = read(dataset, written(dataset, tmp_path / "splits.json", validation=0.0))
    assert not after.has_validation_rows
    assert [test for *_, test in parts(after)] == [test for *_, test in parts(dataset)]
    assert all(len(validation) == round(0.1 * (len(train) + len(validation))) for train, validation, _ in parts(after))


def test_a_run_is_of_what_a_file_says_and_not_of_where_it_lies(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first, moved = (written(dataset, tmp_path / path) for path in ("splits.json", "other/splits.json"))
    seeded = written(dataset, tmp_path / "other" / "seeded.json", seed=1)
    names = [open_split(f"file:{path}")[0] for path in (first, moved, seeded)]
    assert names[0] == names[1]
    assert names[0].startswith("file:splits.json:")
    assert names[0].rpartition(":")[2] != names[2].rpartition(":")[2]
    task = find_task(str(dataset.task.path), target="gap", split=f"file:{first}")
    assert (task.split, task.split_path, task.title) == (names[0], first, f"mine ({names[0]})")
    assert str(tmp_path) not in json.dumps(task.facts())


def test_a_split_file_of_other_data_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = written(dataset, tmp_path / "splits.json")
    rows = rows_of(N_ROWS)
    rows[0] = (*rows[0][:2], 9.0)
    others = {
        "targets": load(write_csv(tmp_path / "targets", rows)),
        "fewer": load(write_csv(tmp_path / "fewer", rows_of(N_ROWS)[1:])),
    }
    for name, other in others.items():
        with pytest.raises(DataError, match=rf"splits\.json is a split file of other data than {name}: its rows or"):
            read(other, path).folds()
    # A file of MatFold's own does not say what the targets are.
    path.write_text('{"MatFold": "v1.3.3"}')
    assert len(read(others["targets"], path).folds()) == 5
    with pytest.raises(
        DataError, match=r"has the row mp-0, which fewer does not have: it is a split file of other data"
    ):
        read(others["fewer"], path).folds()
    more = load(write_csv(tmp_path / "more", [*rows_of(N_ROWS), ("mp-x", *rows_of(1)[0][1:])]))
    with pytest.raises(
        DataError, match=r"lack 1 of the 61 rows of more, such as mp-x: a split file names every row in every fold"
    ):
        read(more, path).folds()


def _no_test_file(path: Path) -> None:
    for each in path.parent.glob("*outer*.csv"):
        each.unlink()


def _row_twice(path: Path) -> None:
    test = path.with_name("splits.k1_outer.test.csv")
    test.write_text(f"{test.read_text()}{test.read_text().splitlines()[-1]}\n")


def _foreign_validation(path: Path) -> None:
    test, inner = (path.with_name(f"splits.k1_outer.{name}.csv") for name in ("test", "l0_inner.test"))
    inner.write_text(test.read_text())


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: path.write_text("{"), r"splits\.json is not valid JSON"),
        (lambda path: path.write_text("[]"), r"splits\.json is no split file: it has no key MatFold"),
        (Path.unlink, r"splits\.json cannot be read"),
        (_no_test_file, r"splits\.json has no files of folds beside it, such as splits\.k0_outer\.test\.csv"),
        (_row_twice, r"splits\.k1_outer\.test\.csv: row mp-\d+ is more than once in the files of this fold"),
        (_foreign_validation, r"l0_inner\.test\.csv has rows that are not in splits\.k1_outer\.train\.csv"),
    ],
)
def test_a_file_that_is_no_split_is_refused(dataset: Dataset, tmp_path: Path, damage: Any, expected: str) -> None:
    path = written(dataset, tmp_path / "splits.json")
    damage(path)
    with pytest.raises(SenBenchError, match=expected):
        read(dataset, path).folds()


def test_a_split_file_is_never_overwritten(dataset: Dataset, tmp_path: Path) -> None:
    path = written(dataset, tmp_path / "splits.json")
    with pytest.raises(UsageError, match=r"splits\.json exists"):
        written(dataset, path)
    path.unlink()
    with pytest.raises(UsageError, match=r"splits\.k0_outer\.l0_inner\.test\.csv exists, and belongs to a split file"):
        written(dataset, path)
    with pytest.raises(UsageError, match=r"must be called NAME\.json"):
        written(dataset, tmp_path / "splits.csv")
    with pytest.raises(UsageError, match="cannot be written"):
        written(dataset, tmp_path / "nowhere" / "splits.json")


def test_split_files_are_exchanged_with_matfold(dataset: Dataset, tmp_path: Path) -> None:
    matfold = pytest.importorskip("MatFold", reason="MatFold is not installed: pip install sen-bench[test]")
    table, (theirs, ours) = dataset.table, (tmp_path / "theirs", tmp_path / "ours")
    theirs.mkdir()
    ours.mkdir()
    rows = pd.DataFrame({"id": table.ids.tolist(), "gap": np.asarray(table.target)})
    bulk = {name: _structure(table.crystal(i)) for i, name in enumerate(table.ids.tolist())}
    made = matfold.MatFold(rows, bulk)
    made.create_nested_splits("composition", n_outer_splits=4, n_inner_splits=3, output_dir=str(theirs))
    made.create_loo_split("elements", "Li", output_dir=str(theirs))
    made.create_train_validation_test_splits(
        "composition",
        "composition",
        train_fraction=0.6,
        validation_fraction=0.2,
        test_fraction=0.2,
        output_dir=str(theirs),
    )

    nested = read(dataset, theirs / "mf.composition.json")
    formulas = [bulk[name].get("formula") for name in table.ids.tolist()]
    for number, (train, validation, test) in enumerate(parts(nested)):
        outer, inner = (
            pd.read_csv(theirs / f"mf.composition.k{number}_outer.{part}.csv")["id"].tolist()
            for part in ("test", "l0_inner.test")
        )
        assert (table.ids[test].tolist(), table.ids[validation].tolist()) == (outer, inner)
        assert len(train) + len(validation) + len(test) == N_ROWS
        known = {formulas[row] for row in train}
        assert not known & {formulas[row] for row in (*validation, *test)}
    assert nested.n_folds == 4
    single = read(dataset, theirs / "mf.elements.loo.Li.json")
    assert single.fold_names == ["Li"]
    assert all((3 in table.crystal(row).numbers) for row in parts(single)[0][2])
    (three,) = theirs.glob("mf.composition-val*-test*[0-9].json")
    (fold,) = read(dataset, three).folds()
    assert 0 < len(fold.validation) < len(fold.train)

    path = written(dataset, ours / "splits.json")
    assert matfold.MatFold.from_json(rows, bulk, path).seed == 0
    with pytest.raises(ValueError, match="Data in `df` might be different"):
        matfold.MatFold.from_json(rows.assign(gap=0.0), bulk, path)
    assert len(list(ours.iterdir())) == 21


def _structure(crystal: Any) -> dict[str, Any]:
    from pymatgen.core import Structure

    structure = Structure(crystal.lattice, crystal.numbers.tolist(), crystal.positions)
    return {**structure.as_dict(), "formula": structure.composition.reduced_formula}
