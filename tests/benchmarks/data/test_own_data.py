from __future__ import annotations

import copy
import csv
import errno
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.base.errors import DataError, UnreadableError, UsageError
from benchmarks.data.dataset import load_dataset
from benchmarks.data.own_data import find_own_data, find_task, own_task
from benchmarks.data.tasks import TASKS
from sen.crystal import refine
from tests.benchmarks.conftest import SMALL, Answer, structure, write_packed
from tests.benchmarks.data.made_own_data import (
    CUBE,
    GOOD,
    cif,
    load,
    rows_of,
    write_csv,
    write_folder,
    write_json,
    write_parquet,
)

pytestmark = pytest.mark.usefixtures("fresh_cache")

NAN = float("nan")


def edited(crystal: dict[str, Any], edit: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    crystal = copy.deepcopy(crystal)
    edit(crystal)
    return crystal


def test_the_second_time_the_cache_answers_with_the_same(tmp_path, write):
    path = write(tmp_path / "mine", [*rows_of(5), ("bad", GOOD, "x") if write is not write_parquet else ("b", "", 1)])
    seen: list[tuple[int, int]] = []
    first, again = (load(path, on_bad_row="skip", progress=lambda *done: seen.append(done) or None) for _ in range(2))
    assert len(seen) >= 1
    assert seen[-1] == (6, 6)
    assert first.digest == again.digest
    assert first.skipped == again.skipped
    assert len(first.skipped) == 1
    assert first.table.ids.tolist() == again.table.ids.tolist()


@pytest.mark.usefixtures("no_graph_of_polonium")
def test_a_row_without_a_graph_can_be_skipped(tmp_path, write):
    polonium = structure(3.35 * CUBE, ["Po"], np.zeros((1, 3)))
    path = write(tmp_path / "mine", [*rows_of(5), ("mp-po", polonium, 3.0)])
    problem = "cannot be used (IndexError: cell list is full)"
    assert load(path, on_bad_row="skip").skipped == (("mp-po", problem),)
    with pytest.raises(DataError, match=rf"row mp-po {re.escape(problem)}"):
        load(path)


def test_what_decides_a_result_changes_the_digest(tmp_path, write):
    rows = [(name, crystal, i % 2) for i, (name, crystal, _) in enumerate(rows_of(8))]
    path = write(tmp_path / "mine", rows)
    datasets = {
        "regression": load(path),
        "classification": load(path, kind="classification"),
        "holdout": load(path, split="holdout:0.5/0.25/0.25"),
        "another holdout": load(path, split="holdout:0.25/0.5/0.25"),
    }
    assert len({dataset.digest for dataset in datasets.values()}) == 4
    # The graphs do not depend on the split and are kept by the digest of the table.
    assert datasets["holdout"].table.digest == datasets["regression"].table.digest
    same = load(path, split="holdout:0.50/0.250/0.25", unit="eV", on_bad_row="skip")
    assert same.digest == datasets["holdout"].digest
    other = write(tmp_path / "other", rows[:-1])
    assert load(other).digest != datasets["regression"].digest


def test_a_changed_structure_file_is_read_anew(tmp_path):
    path = write_folder(tmp_path / "mine", rows_of(5))
    before = load(path)
    (path / "mp-2.cif").write_text(cif(GOOD))
    after = load(path)
    assert after.digest != before.digest
    assert sorted(after.table.crystal(2).numbers) == [17, 55]


def at_site(**change: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda crystal: crystal["sites"][1].update(change)


def lattice(matrix: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda crystal: crystal["lattice"].update(matrix=matrix)


BAD = {
    "target NaN": (GOOD, NAN, "no number as its 'gap' but (NaN|null)"),
    "lattice NaN": (edited(GOOD, lattice([[NAN, 0, 0], [0, 4, 0], [0, 0, 4]])), 1, "finite|NaN"),
    "no volume": (edited(GOOD, lattice([[4, 0, 0], [4, 0, 0], [0, 0, 4]])), 1, "without volume|below threshold"),
    "close atoms": (edited(GOOD, at_site(abc=[0.01, 0, 0])), 1, r"closer than 0.1 Å \(sites 0 and 1\)"),
    "disordered": (
        edited(GOOD, at_site(species=[{"element": "Cl", "occu": 0.5}, {"element": "Br", "occu": 0.5}])),
        1,
        r"disordered \(site 1: Cl 0.5",
    ),
    "unknown element": (
        edited(GOOD, at_site(species=[{"element": "Xx", "occu": 1}])), 1, r"unknown element 'Xx' \(site 1\)",
    ),
    "empty": (edited(GOOD, lambda crystal: crystal.update(sites=[])), 1, "without atoms|cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(("crystal", "value", "problem"), BAD.values(), ids=BAD)
def test_bad_crystal_is_named_or_left_out(tmp_path, write, crystal, value, problem, jobs):
    rows = rows_of(6)
    rows[3] = ("odd one", crystal, value)
    path = write(tmp_path / "mine", rows)
    with pytest.raises(DataError, match=problem) as caught:
        load(path, jobs=jobs)
    assert str(path) in str(caught.value)
    assert "row odd one" in str(caught.value)
    assert "--on-bad-row skip" in str(caught.value)
    dataset = load(path, on_bad_row="skip", jobs=jobs)
    assert dataset.table.ids.tolist() == ["mp-0", "mp-1", "mp-2", "mp-4", "mp-5"]
    assert [row.id for row in dataset.skipped] == ["odd one"]
    assert dataset.table.row.tolist() == list(range(5))
    expected = load(write(tmp_path / "without", rows[:3] + rows[4:])).table
    for name in ("lattice", "positions", "numbers", "orbit", "ptr", "target"):
        np.testing.assert_array_equal(getattr(dataset.table, name), getattr(expected, name))


@pytest.mark.parametrize("on_bad_row", ["fail", "skip"])
@pytest.mark.parametrize("at", [0, 2, 6])
def test_a_value_between_rows_never_shifts_ids(tmp_path, at, on_bad_row):
    path = write_json(tmp_path / "mine", rows_of(6))
    content = json.loads(gzip.decompress(path.read_bytes()))
    content["data"].insert(at, 5)
    write_packed(path, content)
    with pytest.raises(DataError, match=f"row mp-{min(at, 5)} is not a list of 2 values, one for each column"):
        load(path, on_bad_row=on_bad_row)


@pytest.mark.parametrize("write", [write_folder, write_csv, write_json])
@pytest.mark.parametrize("value", ["1.5 eV", "high", "1_0", "inf"])
def test_text_is_no_number(tmp_path, write, value):
    path = write(tmp_path / "mine", [*rows_of(4), ("t", GOOD, value)])
    with pytest.raises(DataError, match="row t has no number as its 'gap' but "):
        load(path)


@pytest.mark.parametrize("write", [write_folder, write_csv, write_json])
@pytest.mark.parametrize("value", [1e302, -1e31])
def test_a_number_beyond_single_precision_is_called_too_large(tmp_path, write, value):
    path = write(tmp_path / "mine", [*rows_of(4), ("t", GOOD, value)])
    with pytest.raises(DataError, match=r"row t has a 'gap' that is too large to compute with: -?1e\+30?[12]"):
        load(path)


def test_the_later_row_of_an_id_is_bad(tmp_path, write):
    rows = rows_of(6)
    rows[4] = ("mp-1", *rows[4][1:])
    path = write(tmp_path / "mine", rows)
    with pytest.raises(DataError, match=r"row mp-1 has the id of an earlier row \(rows 1 and 4, counted from 0\)"):
        load(path)
    table = load(path, on_bad_row="skip").table
    assert table.ids.tolist() == ["mp-0", "mp-1", "mp-2", "mp-3", "mp-5"]
    assert table.target[1] == rows[1][2]


@pytest.mark.parametrize("write", [write_csv, write_json, write_parquet])
def test_ids_that_end_in_a_null_character_stay_apart(tmp_path, write):
    rows = [
        (name, crystal, value) for name, (_, crystal, value) in zip(["a", "a\0", "b", "c"], rows_of(4), strict=True)
    ]
    table = load(write(tmp_path / "mine", rows)).table
    assert table.ids.tolist() == ["a", "a\0", "b", "c"]
    assert np.flatnonzero(table.ids == "a").tolist() == [0]


def test_a_structure_file_that_the_system_refuses_to_read_is_no_bad_row(tmp_path, monkeypatch):
    path = write_folder(tmp_path / "mine", rows_of(4))
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise UnreadableError("mp-2.cif cannot be read")

        patch.setattr("benchmarks.data.structures.read_again", refuse)
        with pytest.raises(UnreadableError):
            load(path, on_bad_row="skip", jobs=1)
    assert load(path, on_bad_row="skip").skipped == ()


def test_deuterium_is_read_as_hydrogen_and_listed(tmp_path, write):
    rows = rows_of(5)
    heavy = edited(GOOD, at_site(species=[{"element": "D", "occu": 1}]))
    rows[1] = ("heavy", heavy, 1)
    rows[2] = ("lost", edited(heavy, lattice(np.zeros((3, 3)).tolist())), 1)
    dataset = load(write(tmp_path / "mine", rows), on_bad_row="skip")
    assert dataset.read_as_hydrogen == ["heavy"]
    assert sorted(dataset.table.crystal(1).numbers) == [1, 55]


def test_isolated_atoms_and_large_cells_are_kept(tmp_path, write):
    grid = np.stack(np.meshgrid(*[np.arange(8)] * 3), axis=-1).reshape(-1, 3) / 8
    large = structure(24 * CUBE, ["Po"] * 512, grid + np.random.default_rng(0).uniform(0, 0.01, (512, 3)))
    alone = structure(30 * CUBE, ["He"], np.zeros((1, 3)))
    table = load(write(tmp_path / "mine", [*rows_of(4), ("alone", alone, 1), ("large", large, 2)])).table
    assert table.ids[-2:].tolist() == ["alone", "large"]
    assert np.diff(table.ptr)[-2:].tolist() == [1, 512]


def test_several_bad_rows_are_counted_and_the_first_ones_listed(tmp_path, write):
    rows = [(f"r{i}", edited(GOOD, lambda crystal: crystal.update(sites=[])), i) for i in range(8)] + rows_of(5)
    with pytest.raises(DataError) as caught:
        load(write(tmp_path / "mine", rows))
    message = str(caught.value)
    assert "8 rows cannot be used: row r0 has " in message
    assert "row r4" in message
    assert "row r5" not in message
    assert "and 3 more" in message


def test_nothing_but_bad_rows(tmp_path, write):
    rows = [(f"r{i}", edited(GOOD, lambda crystal: crystal.update(sites=[])), i) for i in range(3)]
    path = write(tmp_path / "mine", rows)
    with pytest.raises(DataError, match="No row can be used"):
        load(path, on_bad_row="skip")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("kind", "values", "problem"),
    [
        ("regression", [2, 2, 2, 2, 2], "all 5 rows have the gap 2: nothing to learn"),
        (
            "regression",
            [-1e6, -1e6 + 1, -1e6, -1e6 - 1, -1e6],
            r"the gap of the rows is -1e\+06 with a standard deviation of 0\.6",
        ),
        ("classification", [1, 1, 1, 1, 1], "all 5 rows have the gap true: nothing to learn"),
        ("classification", [0, 1, 0, 2, 1], "row mp-3 has neither true nor false"),
    ],
)
def test_targets_that_teach_nothing(tmp_path, write, kind, values, problem):
    rows = [(name, crystal, value) for (name, crystal, _), value in zip(rows_of(5), values, strict=True)]
    with pytest.raises(DataError, match=problem):
        load(write(tmp_path / "mine", rows), kind=kind)


@pytest.mark.parametrize("values", [[True, False, True], ["TRUE", "false", "True"], [1, 0, 1], ["1", "0.0", "1.0"]])
def test_classes_may_be_written_in_several_ways(tmp_path, values):
    rows = [(name, crystal, value) for (name, crystal, _), value in zip(rows_of(3), values, strict=True)]
    for write in (write_folder, write_csv):
        path = write(tmp_path / "mine", rows)
        assert load(path, kind="classification").table.target.tolist() == [1, 0, 1]


def test_booleans_are_no_numbers(tmp_path, write):
    rows = [(name, crystal, i % 2 == 0) for i, (name, crystal, _) in enumerate(rows_of(3))]
    path = write(tmp_path / "mine", rows)
    assert load(path, kind="classification").table.target.tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="but true: is this a classification"):
        load(path)


def test_any_error_of_a_library_on_a_crystal_is_its_bad_row(tmp_path, write, monkeypatch):
    def fail(lattice: np.ndarray, *rest: Any) -> Any:
        if abs(np.linalg.det(lattice) - 4.12**3) < 0.01:
            raise ZeroDivisionError("a library is wrong")
        return refine(lattice, *rest)

    monkeypatch.setattr("benchmarks.data.rows.refine", fail)
    rows = rows_of(4)
    rows[2] = ("odd one", GOOD, 1)
    dataset = load(write(tmp_path / "mine", rows), on_bad_row="skip")
    assert dataset.table.ids.tolist() == ["mp-0", "mp-1", "mp-3"]
    (skipped,) = dataset.skipped
    assert (skipped.id, skipped.problem) == ("odd one", "cannot be used (ZeroDivisionError: a library is wrong)")


def test_targets_far_from_the_others_are_named_in_a_warning(tmp_path, write, caplog):
    rows = [(name, crystal, value) for name, crystal, value in rows_of(20)]
    load(write(tmp_path / "usual", rows))
    assert not caplog.records
    rows[3] = (*rows[3][:2], -2e5)
    load(write(tmp_path / "mine", rows))
    (record,) = caplog.records
    assert re.search(
        r"1 of 20 rows have a gap more than 1000 interquartile .* median, 5\.\d+: mp-3 \(-200000\)", record.message
    )


def test_own_data_have_no_atoms_too_close_to_be_right(tmp_path, write):
    rows = rows_of(4)
    rows[1] = ("close", edited(GOOD, at_site(abc=[0.3, 0, 0])), 2)
    with pytest.raises(
        DataError, match=r"row close has atoms too close to be right \(sites 0 and 1\): Cs and Cl are 1.24"
    ):
        load(write(tmp_path / "mine", rows))


@pytest.mark.parametrize("name", ["matbench_phonons.json.gz", "matbench_mp_gap.partial.json.gz", "prototypes.csv"])
def test_the_name_of_a_task_is_taken(tmp_path, name):
    with pytest.raises(UsageError, match=f"sen-bench run {name.partition('.')[0]}.*rename"):
        own_task(tmp_path / name, target="gap")


def test_a_task_is_found_by_its_name_or_made_of_own_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_csv(tmp_path / "mine", rows_of(12))
    assert find_task("prototypes") is TASKS["prototypes"]
    random = find_task("matbench_phonons", split="resample")
    assert (random.split, random.title) == ("resample", "matbench_phonons (resample)")
    assert (random.is_official, random.has_leaderboard, random.is_resampled) == (True, False, True)
    task = find_task("mine.csv", target="gap", split="holdout:0.50/0.25/0.25", unit="eV")
    assert (task.name, task.target, task.kind, task.unit) == ("mine", "gap", "regression", "eV")
    assert (task.split, task.path) == ("holdout:0.5/0.25/0.25", Path("mine.csv"))
    assert len(load_dataset(task, jobs=1).table) == 12
    with pytest.raises(UsageError, match=r"^target and unit are only for your own data; prototypes is a built-in task"):
        find_task("prototypes", target="gap", unit="eV")
    with pytest.raises(UsageError, match=r"^on_bad_row is only for your own data; prototypes is a built-in task"):
        load_dataset(find_task("prototypes"), on_bad_row="skip")
    with pytest.raises(UsageError, match=r"^data_dir is for the files of built-in tasks; .*mine.csv is read from"):
        load_dataset(own_task(path, target="gap"), tmp_path)


@pytest.mark.parametrize(
    ("name", "task"),
    [("gaps.json.gz", "gaps"), ("a.b.csv.gz", "a.b"), ("my data (2).csv", "my_data_2"), ("..csv", "data")],
)
def test_name_of_a_run(tmp_path, name, task):
    assert own_task(tmp_path / name, target="gap").name == task


def test_task_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("prototypes", "matbench_glass", "crystals"):
        (tmp_path / name).mkdir()
    assert find_own_data("prototypes") is None
    assert find_own_data("matbench_glass") is None
    assert find_own_data("crystals") == Path("crystals")
    assert find_own_data(".") == tmp_path
    assert find_own_data("crystals/..") == tmp_path
    assert find_own_data("matbench_phonon") is None
    for name in ("mine.csv", "./mine", "a/b"):
        with pytest.raises(UsageError, match="There is no file or folder"):
            find_own_data(name)
    (tmp_path / "crystals" / "mine.csv").touch()
    monkeypatch.setenv("SEN_BENCH_DATA", "crystals")
    with pytest.raises(UsageError, match=r"Do you mean crystals/mine\.csv\?"):
        find_own_data("mine.csv")


# --- whole runs


Command = Callable[..., Answer]


def only_run(out: Path) -> Path:
    (config,) = out.rglob("config.json")
    return config.parent


def predictions(run: Path, fold: int = 0, seed: int = 0) -> dict[str, tuple[float, float]]:
    with (run / f"seed_{seed}/fold_{fold}/predictions.csv").open() as file:
        return {row["id"]: (float(row["target"]), float(row["prediction"])) for row in csv.DictReader(file)}


@pytest.mark.usefixtures("unlearnt")
def test_run_of_a_folder_on_folds(tmp_path: Path, sen_bench: Command) -> None:
    rows = rows_of(50)
    rows[7] = ("mp-7", edited(GOOD, at_site(abc=[0, 0, 0.01])), 5.0)
    rows[8] = ("mp-8", edited(rows[8][1], at_site(species=[{"element": "D", "occu": 1}])), rows[8][2])
    folder, out = write_folder(tmp_path / "crystals", rows), tmp_path / "runs"
    arguments = ("run", folder, "--target", "length", "--unit", "Å", "--out", out, "--epochs", 1, *SMALL)
    refused = sen_bench(*arguments)
    assert refused.code == 1
    assert "row mp-7 has atoms closer than 0.1 Å (sites 0 and 1) (mp-7.cif)" in refused.err
    assert not out.exists()
    answer = sen_bench(*arguments, "--on-bad-row", "skip")
    assert answer.code == 0, answer.err
    assert "1 row left out" in answer.out
    assert "row mp-7 has atoms closer" in answer.out
    assert "1 row holds deuterium or tritium, read as hydrogen (mp-8)" in answer.out
    assert "ExtraTrees on composition" in answer.out
    assert "MAE (Å)" in answer.out
    assert "leaderboard" not in answer.out
    run = only_run(out)
    assert run.parent.name == "crystals"
    tested = [name for fold in range(5) for name in predictions(run, fold)]
    assert sorted(tested) == sorted(name for name, _, _ in rows if name != "mp-7")
    config = json.loads((run / "config.json").read_text())
    assert [row["id"] for row in config["data"]["skipped"]] == ["mp-7"]
    assert config["data"]["read_as_hydrogen"] == ["mp-8"]
    assert config["task"]["target"] == "length"
    assert config["task"]["split"] == "folds"
    assert not json.loads((run / "summary.json").read_text())["is_official"]
    status = sen_bench("status", out)
    assert "5 of 5" in status.out
    assert "MAE (Å)" in status.out
    prepared = sen_bench("prepare", folder, "--target", "length", "--on-bad-row", "skip")
    assert prepared.code == 0
    assert "49 crystals" in prepared.out
    assert "1 row left out" in prepared.out


@pytest.mark.usefixtures("unlearnt")
def test_run_of_a_table_on_a_holdout_split(tmp_path: Path, sen_bench: Command) -> None:
    path, out = write_csv(tmp_path / "mine", rows_of(60)), tmp_path / "runs"
    arguments = ("run", path, "--target", "gap", "--split", "holdout:0.6/0.2/0.2", "--out", out, "--epochs", 1, *SMALL)
    answer = sen_bench(*arguments, "--seeds", 2)
    assert answer.code == 0, answer.err
    run = only_run(out)
    assert len(predictions(run)) == 12
    assert predictions(run, seed=1).keys() == predictions(run).keys()
    rows = json.loads((run / "seed_0/fold_0/metrics.json").read_text())["rows"]
    assert rows == {"train": 48, "validation": 0, "calibration": 0, "test": 12}
    assert "1 of 1" in sen_bench("status", out).out
    refused = sen_bench(*arguments, "--folds", "0,1")
    assert refused.code == 2
    assert "has only fold 0" in refused.err
    few = sen_bench(*arguments, "--limit", 20, "--seed", 0)
    assert few.code == 0, few.err
    limited = next(path for path in out.rglob("seed_0/fold_0/metrics.json") if run not in path.parents)
    assert json.loads(limited.read_text())["rows"] == {"train": 20, "validation": 0, "calibration": 0, "test": 12}


def test_run_of_a_classification(tmp_path: Path, sen_bench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(name, crystal, value > 5.5) for name, crystal, value in rows_of(60)]
    path, out = write_json(tmp_path / "mine", rows), tmp_path / "runs"
    arguments = ("run", path, "--kind", "classification", "--split", "holdout:0.6/0.2/0.2", "--out", out)
    answer = sen_bench(*arguments, "--epochs", 25, *SMALL)
    assert answer.code == 0, answer.err
    assert "ROC-AUC" in answer.out
    (trees,) = re.findall("ExtraTrees on composition.*", answer.out)
    # Nothing is trained again, the trees neither.
    monkeypatch.delattr("benchmarks.training.summary.extra_trees_on_composition")
    assert trees in sen_bench(*arguments, "--epochs", 25, *SMALL).out
    # A score that is not defined, as of test rows of one class, is null in JSON.
    summary = only_run(out) / "summary.json"
    content = json.loads(summary.read_text())
    summary.write_text(json.dumps(content | {"references": dict.fromkeys(content["references"])}))
    undefined = sen_bench(*arguments, "--epochs", 25, *SMALL)
    assert undefined.code == 0
    assert re.search("ExtraTrees on composition .*–", undefined.out)
    found = np.array(list(predictions(only_run(out)).values()))
    assert set(found[:, 0]) == {0, 1}
    assert ((found[:, 1] > 0.5) == found[:, 0]).mean() > 0.7


def test_isolated_atoms_and_a_large_cell_are_trained_on_and_predicted(tmp_path: Path, sen_bench: Command) -> None:
    grid = np.stack(np.meshgrid(*[np.arange(8)] * 3), axis=-1).reshape(-1, 3) / 8
    noise = np.random.default_rng(0)
    rows = rows_of(30)
    for i in range(5):
        rows.append((f"alone-{i}", structure((30 + i) * CUBE, ["He"], np.zeros((1, 3))), 5.0 + i / 100))
        positions = grid + noise.uniform(0, 0.01, grid.shape)
        rows.append((f"large-{i}", structure((25 + i / 10) * CUBE, ["Po"] * 512, positions), 6.0 + i / 100))
    path, out = write_json(tmp_path / "mine", rows), tmp_path / "runs"
    answer = sen_bench(
        *("run", path, "--target", "gap", "--split", "holdout:0.5/0.1/0.4", "--out", out, "--epochs", 12, *SMALL),
        *("--set", "sen.rounds=1", "--set", "sen.lstm_rounds=1"),
    )
    assert answer.code == 0, answer.err
    run = only_run(out)
    tested = predictions(run)
    assert all(np.isfinite(prediction) for _, prediction in tested.values())
    for kind in ("alone", "large"):
        assert any(name.startswith(kind) for name in tested), "one is predicted"
        assert sum(name.startswith(kind) for name in tested) < 5, "one is trained on"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["mine.csv", "--target", "gap", "--split", "holdout:0.8/0.2"],
            "--split takes holdout:TRAIN/VALIDATION/TEST, such as holdout:0.8/0.1/0.1, not 'holdout:0.8/0.2'",
        ),
        (["mine.csv", "--target", "gap", "--split", "holdout:0.8/0.1/0.2"], "must be positive and sum to 1"),
        (["mine.csv", "--target", "gap", "--split", "holdout:1/0/0"], "must be positive and sum to 1"),
        (["mine.csv", "--target", "gap", "--split", "holdout:nan/0.5/0.5"], "must be positive and sum to 1"),
        (
            ["mine.csv", "--target", "gap", "--split", "thirds"],
            "There is no split 'thirds'. Available: chemical-system,",
        ),
        (["mine.csv", "--target", "gap", "--kind", "ranking"], "classification"),
        (["mine.csv", "--data-dir", "."], "--data-dir is for the files of built-in tasks; mine.csv is read"),
        (["mine.csv"], "--target. Available: note, gap"),
        (["mine.csv", "--target", "gap"], "mine.csv: 4 rows cannot be split into 5 folds"),
        (["mine.csv", "--target", "gap", "--split", "holdout:0.01/0.01/0.98"], "too few for this holdout split"),
        (["mine.csv", "--target", "gap", "--split", "group:sauce"], "has no column 'sauce'. Available: gap, note."),
        (["mine.csv", "--target", "gap", "--split", "group:note"], "all rows have the note x, y: the rows cannot be"),
        (["mine.csv", "--target", "gap", "--split", "cluster:4"], "4 clusters of 4 rows are too many"),
        (["mine.csv", "--target", "gap", "--split", "crystal-system"], "all rows are of one (cubic): choose another"),
        (["mine.csv", "--target", "gap", "--split", "element"], "no element is in so many"),
        (["prototypes", "--target", "gap"], "--target is only for your own data; prototypes is a built-in task"),
        (["prototypes", "--on-bad-row", "skip"], "--on-bad-row is only for your own data"),
        (["prototypes", "--target", "gap", "--on-bad-row", "skip"], "--target and --on-bad-row are only for your own"),
        (
            ["matbench_phonons", "--split", "group:source"],
            "--split group:source is only for your own data; matbench_phonons is a built-in task",
        ),
        (["other.csv"], "There is no file or folder other.csv"),
        (["mines"], "There is no task 'mines'"),
    ],
)
def test_wrong_use_is_answered_in_one_sentence(
    tmp_path: Path,
    sen_bench: Command,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "mine", rows_of(4))
    answer = sen_bench("run", *arguments)
    assert answer.code == 2
    assert expected.lower() in answer.err.lower()
    assert not list(tmp_path.rglob("fold_*"))


def test_a_path_that_the_system_refuses_is_named(
    tmp_path: Path, sen_bench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    path = write_csv(tmp_path / "mine", rows_of(4))
    monkeypatch.setattr(Path, "exists", refuse)  # root may enter every folder
    answer = sen_bench("run", path)
    assert (answer.code, answer.err.strip()) == (2, f"Error: {path} cannot be used (Permission denied).")
    monkeypatch.undo()
    answer = sen_bench("run", tmp_path / ("x" * 300 + ".csv"))
    assert answer.code == 2
    assert "cannot be used (File name too long)" in answer.err
