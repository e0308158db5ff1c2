from __future__ import annotations

import bz2
import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.base.cache import cache_folder
from benchmarks.base.errors import DataError, UsageError
from benchmarks.data.tasks import TASKS, Task, find_data_file, get_task

OFFICIAL = [task for task in TASKS.values() if task.is_official]
OWN = Task(name="my_gaps", target="gap", unit="eV", kind="regression", description="gaps of my own")


def test_nine_structure_tasks_and_a_demonstration():
    assert len(OFFICIAL) == 9
    assert set(TASKS) - {task.name for task in OFFICIAL} == {"prototypes"}
    assert [task.name for task in OFFICIAL if task.kind == "classification"] == ["matbench_mp_is_metal"]


@pytest.mark.parametrize("task", OFFICIAL, ids=lambda task: task.name)
def test_official_task_is_complete(task: Task):
    assert task.url == f"https://ml.materialsproject.org/projects/{task.file_name}"
    assert task.n_rows is not None
    assert task.sha256 is not None
    assert len(bytes.fromhex(task.sha256)) == 32
    assert task.unit or task.kind == "classification"


def test_hashes_are_all_different():
    assert len({task.sha256 for task in OFFICIAL}) == 9


def test_row_id():
    assert get_task("matbench_phonons").row_id(0) == "mb-phonons-0001"
    assert get_task("matbench_jdft2d").row_id(635) == "mb-jdft2d-636"
    assert get_task("matbench_mp_e_form").row_id(132751) == "mb-mp-e-form-132752"
    assert OWN.row_id(0) == "my-gaps-1"


@pytest.mark.parametrize("name", ["matbench_phonons", "matbench_log_kvrh", "matbench_mp_gap", "matbench_mp_e_form"])
def test_row_ids_are_the_official_ones(name: str, data_dir: Path):
    path = data_dir.parent / "leaderboard" / f"{name}.rows.json.bz2"
    if not path.is_file():
        pytest.skip(f"needs the official row identifiers: {path} is absent")
    official = json.loads(bz2.decompress(path.read_bytes()))["mbid"]
    task = get_task(name)
    assert len(official) == task.n_rows
    assert [task.row_id(row) for row in range(len(official))] == [official[str(row)] for row in range(len(official))]


def test_unknown_task_names_the_nearest():
    with pytest.raises(UsageError, match=r"no task 'matbench_phonon'\. Did you mean matbench_phonons"):
        get_task("matbench_phonon")


@pytest.mark.parametrize("name", ["matbench_expt_gap", "matbench_expt_is_metal", "matbench_glass", "matbench_steels"])
def test_composition_only_task_is_refused(name: str):
    with pytest.raises(UsageError, match=f"{name} is a composition-only task.*no crystal structure"):
        get_task(name)


def test_official_file_is_found_and_verified(data_dir: Path):
    path, coverage = find_data_file(get_task("matbench_phonons"), data_dir)
    assert path == data_dir / "matbench_phonons.json.gz"
    assert coverage == "complete"


def test_columns_are_those_of_the_official_file(data_dir: Path):
    task = get_task("matbench_phonons")
    content = json.loads(gzip.decompress((data_dir / task.file_name).read_bytes()))
    assert content["columns"] == ["structure", task.target]
    assert len(content["index"]) == task.n_rows


def test_folder_is_taken_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / OWN.file_name).write_bytes(b"")
    monkeypatch.setenv("SEN_BENCH_DATA", str(tmp_path))
    assert find_data_file(OWN).path == tmp_path / "my_gaps.json.gz"


def test_folder_that_is_named_beats_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("named", "environment"):
        (tmp_path / name).mkdir()
        (tmp_path / name / OWN.file_name).write_bytes(b"")
    monkeypatch.setenv("SEN_BENCH_DATA", str(tmp_path / "environment"))
    assert find_data_file(OWN, tmp_path / "named").path.parent.name == "named"


def test_complete_file_is_preferred_to_a_partial_one(tmp_path: Path):
    (tmp_path / "my_gaps.partial.json.gz").write_bytes(b"")
    assert find_data_file(OWN, tmp_path).coverage == "partial"
    (tmp_path / "my_gaps.json.gz").write_bytes(b"")
    assert find_data_file(OWN, tmp_path).coverage == "complete"


def test_missing_file_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert find_data_file(get_task("matbench_jdft2d"), tmp_path) is None
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    assert find_data_file(get_task("matbench_jdft2d")) is None


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_folder_that_does_not_exist_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str):
    folder = tmp_path / "nowhere"
    monkeypatch.setenv("SEN_BENCH_DATA", str(folder if how == "environment" else tmp_path))
    with pytest.raises(UsageError, match=f"no folder {folder} .*--data-dir or SEN_BENCH_DATA"):
        find_data_file(get_task("matbench_jdft2d"), folder if how == "argument" else None)


def write_small_task(*folders: Path) -> Task:
    """Write the official file of a small task into folders."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / OWN.file_name).write_bytes(b"all rows")
    return replace(OWN, sha256=hashlib.sha256(b"all rows").hexdigest())


def test_order_of_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MATMINER_DATA", str(tmp_path / "matminer"))
    named, matminer, own = tmp_path / "named", tmp_path / "matminer", tmp_path / "cache" / "data"
    task = write_small_task(named, matminer, own)
    partial = named / "my_gaps.partial.json.gz"
    partial.touch()
    assert find_data_file(task, named) == (named / task.file_name, "complete")
    (named / task.file_name).unlink()
    assert find_data_file(task, named) == (partial, "partial")
    partial.unlink()
    assert find_data_file(task, named) == (matminer / task.file_name, "complete")
    assert find_data_file(task) == (matminer / task.file_name, "complete")
    (matminer / task.file_name).unlink()
    assert find_data_file(task, named) == (own / task.file_name, "complete")
    (own / task.file_name).unlink()
    assert find_data_file(task, named) is None


def test_partial_files_elsewhere_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    monkeypatch.setenv("MATMINER_DATA", str(tmp_path))
    (tmp_path / "my_gaps.partial.json.gz").touch()
    assert find_data_file(OWN) is None


def test_files_inside_an_installed_matminer_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    monkeypatch.delenv("MATMINER_DATA")
    assert find_data_file(OWN) is None
    task = write_small_task(tmp_path / "matminer" / "datasets")
    (tmp_path / "matminer" / "__init__.py").write_text("raise RuntimeError('it must not be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_data_file(task) == (tmp_path / "matminer" / "datasets" / task.file_name, "complete")


@pytest.mark.parametrize("place", ["matminer", "cache/data"])
def test_wrong_file_that_nobody_named_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
):
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MATMINER_DATA", str(tmp_path / "matminer"))
    task = write_small_task(tmp_path / "matminer", tmp_path / "cache" / "data")
    (tmp_path / place / task.file_name).write_bytes(b"something else")
    found = find_data_file(task)
    if place == "matminer":
        assert found == (tmp_path / "cache" / "data" / task.file_name, "complete")
        assert f"{tmp_path / place / task.file_name} is not the official file of my_gaps" in caplog.text
    else:
        (tmp_path / "matminer" / task.file_name).unlink()
        assert find_data_file(task) is None
        assert "is ignored" in caplog.text


def test_file_that_is_not_the_official_one_is_refused(tmp_path: Path):
    task = get_task("matbench_jdft2d")
    (tmp_path / task.file_name).write_bytes(b"something else")
    with pytest.raises(DataError) as error:
        find_data_file(task, tmp_path)
    assert task.sha256 in str(error.value)
    assert hashlib.sha256(b"something else").hexdigest() in str(error.value)


def test_partial_file_has_no_official_hash(tmp_path: Path):
    task = get_task("matbench_jdft2d")
    (tmp_path / "matbench_jdft2d.partial.json.gz").write_bytes(b"some of the rows")
    assert find_data_file(task, tmp_path).coverage == "partial"


def test_home_folders_are_found_and_unknown_users_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / OWN.file_name).write_bytes(b"")
    monkeypatch.setenv("SEN_BENCH_DATA", "~")
    assert find_data_file(OWN).path == tmp_path / "my_gaps.json.gz"
    with pytest.raises(UsageError, match="~nobody-by-this-name"):
        find_data_file(OWN, Path("~nobody-by-this-name/data"))
    monkeypatch.setenv("SEN_BENCH_CACHE", "~/cache")
    assert cache_folder() == tmp_path / "cache"
