from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data.dataset import Dataset, load_dataset
from benchmarks.data.tasks import TASKS
from benchmarks.results.store import Training
from reports.study.reading import read_studies
from reports.study.study import Absent, PredictedRows, shared_rows
from tests.benchmarks.conftest import change_facts, replace_file
from tests.reports.made_runs import N_ROWS, make_run, official, own, write_partial
from tests.reports.study.conftest import only


def rows(ids: list[str], target: list[float]) -> PredictedRows:
    n = len(ids)
    values = np.array(target)
    return PredictedRows(
        np.array(ids), np.zeros(n, dtype=int), values, values, np.zeros(n), np.ones(n, dtype=int), np.zeros(n)
    )


def test_commands_leave_out_what_follows_from_the_training_rows(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", official(tmp_path / "data"), flags={"training.weight_decay": 1.5}, folds=[0])
    assert "weight_decay" in only(read_studies([tmp_path / "runs"])).results[0].command()
    record = run.read_metrics(Training(0, 0))
    rows = {**record["rows"], "train": 3526}
    replace_file(run.training_path(Training(0, 0)), "metrics.json", json.dumps({**record, "rows": rows}).encode())
    assert "weight_decay" not in only(read_studies([tmp_path / "runs"])).results[0].command()


def test_commands_state_every_field_where_the_defaults_of_a_block_are_not_known(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0])
    facts = run.read_config()
    change_facts(run, {**facts, "config": {**facts["config"], "block_name": "not_installed"}})
    (result,) = only(read_studies([tmp_path / "runs"])).results
    assert all(f"--set {field}=" in result.command() for field in result.fields if field != "limit")


def test_crystals_are_had_or_said_to_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    monkeypatch.setenv("MATMINER_DATA", str(tmp_path / "matminer"))
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0])
    study = only(read_studies([tmp_path / "runs"], data_dir=tmp_path / "data"))
    where = study.positions(study.results[0].rows.ids.tolist())
    assert np.allclose(study.crystals().target[where], study.results[0].rows.target)
    assert study.on_other_content() == []
    other = only(read_studies([tmp_path / "runs"], data_dir=write_partial(tmp_path / "other", n=61)))
    (told,) = other.on_other_content()
    assert told.startswith("The crystals described are those of matbench_jdft2d.partial.json.gz (61 rows), and mlp had")
    with pytest.raises(Absent, match="lack the row mb-jdft2d-636"):
        study.positions(["mb-jdft2d-636"])


def test_crystals_are_found_in_the_cache_and_then_where_they_were_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    monkeypatch.setenv("MATMINER_DATA", str(tmp_path / "matminer"))
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    datasets = [official(tmp_path / "data"), own(tmp_path / "data")]
    for dataset in datasets:
        make_run(tmp_path / "runs" / dataset.task.name, dataset, folds=[0])

    def find() -> list[Dataset]:
        return [only(read_studies([tmp_path / "runs" / dataset.task.name])).dataset() for dataset in datasets]

    def check() -> None:
        for found, dataset in zip(find(), datasets, strict=True):
            assert (found.table.digest, found.source) == (dataset.table.digest, dataset.source)
            assert found.table.ids.tolist() == dataset.table.ids.tolist()
            assert found.is_complete == dataset.is_complete

    (tmp_path / "data").rename(tmp_path / "away")
    check()
    for folder in (tmp_path / "cache").glob("crystals-*"):
        shutil.rmtree(folder)
    with pytest.raises(Absent, match=r"neither in the cache nor where they were read from.*--data-dir"):
        find()
    (tmp_path / "away").rename(tmp_path / "data")
    check()


def test_runs_that_recorded_no_tolerance_are_of_crystals_refined_to_a_hundredth(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    ours = official(folder)
    theirs = load_dataset(ours.task, folder, symprec=0.01, jobs=1)
    run = make_run(tmp_path / "runs", theirs, folds=[0], flags={"graph.symprec": 0.01})
    facts = run.read_config()
    del facts["config"]["graph"]["symprec"]
    assert change_facts(run, facts).path == run.path
    study = only(read_studies([tmp_path / "runs"], data_dir=folder))
    assert study.crystals().digest == theirs.table.digest
    assert "--set graph.symprec=0.01" in study.results[0].command()
    make_run(tmp_path / "runs", ours, folds=[0])
    study = only(read_studies([tmp_path / "runs"], data_dir=folder))
    assert sorted(result.label for result in study.results) == ["mlp (symprec 0.001)", "mlp (symprec 0.01)"]
    assert ["graph.symprec" in result.command() for result in study.results] == [
        result.label == "mlp (symprec 0.01)" for result in study.results
    ]
    (told,) = study.on_other_content()
    assert "another version of its reader, or another graph.symprec" in told


def test_own_crystals_are_found_by_their_recorded_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "runs", own(tmp_path / "own"), folds=[0])
    assert len(only(read_studies([tmp_path / "runs"], data_dir=tmp_path / "own")).crystals()) == N_ROWS
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(Absent, match=r"holds mine\.json"):
        only(read_studies([tmp_path / "runs"])).crystals()
    monkeypatch.chdir(tmp_path / "own")
    assert len(only(read_studies([tmp_path / "runs"])).crystals()) == N_ROWS
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "another"))
    own(tmp_path / "own", kind="classification")
    with pytest.raises(Absent, match=r"cannot be read: mine\.json: 60 rows"):
        only(read_studies([tmp_path / "runs"])).crystals()


def test_prototypes_of_another_version_are_not_those_of_the_run(tmp_path: Path) -> None:
    dataset = replace(official(tmp_path / "data"), task=TASKS["prototypes"])
    make_run(tmp_path / "runs", dataset, folds=[0])
    with pytest.raises(Absent, match="prototypes that another version of sen-bench or moyopy made"):
        only(read_studies([tmp_path / "runs"])).crystals()


def test_shared_rows_are_the_same_rows() -> None:
    first, second = rows(["a", "b", "c"], [0.0, 1.0, 2.0]), rows(["c", "x", "a", "b"], [2.0, 0.0, 0.0, 1.5])
    one, other = shared_rows(first, second)
    assert first.ids[one].tolist() == second.ids[other].tolist() == ["a", "c"]  # b has another target
    assert [len(at) for at in shared_rows(first, rows([], []))] == [0, 0]
