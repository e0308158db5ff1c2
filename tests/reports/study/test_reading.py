from __future__ import annotations

import json
import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.base.errors import DataError, UsageError
from benchmarks.data.tasks import TASKS
from benchmarks.results.run_config import TrainingConfig, build_config
from benchmarks.results.store import Training
from reports.study.reading import choose_pair, read_run_predictions, read_studies
from reports.study.study import Absent, shared_rows
from tests.benchmarks.conftest import change_facts, replace_file
from tests.reports.made_runs import N_ROWS, make_resampled, make_run, official, own
from tests.reports.study.conftest import only


def test_error_of_a_row_is_the_mean_over_seeds_of_its_errors(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[1], seeds=[0, 1])
    result = only(read_studies([tmp_path / "runs"])).results[0]
    parts = [run.read_predictions(Training(seed, 1)) for seed in (0, 1)]
    assert result.rows.ids.tolist() == parts[0].ids == parts[1].ids
    assert np.allclose(result.rows.prediction, np.mean([part.prediction for part in parts], axis=0))
    errors = [np.abs(part.prediction - part.target) for part in parts]
    assert np.allclose(result.rows.error, np.mean(errors, axis=0))
    assert result.rows.error.mean() > np.abs(result.rows.prediction - result.rows.target).mean()
    assert np.array_equal(result.rows.loss, result.rows.error)
    assert set(result.rows.n_seeds.tolist()) == {2}
    assert (result.folds, result.seeds) == ([1], [0, 1])
    assert result.rows.fold.tolist() == [1] * len(result.rows)


def test_ids_that_end_in_a_null_character_are_rows_apart(tmp_path: Path) -> None:
    dataset = own(tmp_path / "data")
    dataset.table.ids[:2] = ["a", "a\0"]
    make_run(tmp_path / "runs", dataset)
    file = tmp_path / "theirs.csv"
    file.write_text("id,prediction\na,5\na\0,6\n")
    ours, theirs = only(read_studies([tmp_path / "runs"], against=[file])).results
    assert len(ours.rows) == len(set(ours.rows.ids.tolist())) == N_ROWS
    assert dict(zip(theirs.rows.ids, theirs.rows.prediction, strict=True)) == {"a": 5, "a\0": 6}
    assert [len(at) for at in shared_rows(ours.rows, theirs.rows)] == [2, 2]


def test_failed_trainings_are_named_with_their_reason(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0, 1])
    for fold in (1, 2):
        run.note_failure(Training(0, fold), "Training collapsed.")
    (note,) = only(read_studies([tmp_path / "runs"])).notes
    assert note == f"{run.path}, fold 2, seed 0, failed: Training collapsed."


def test_results_of_the_older_format_are_named_in_a_note(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    run = make_run(tmp_path / "runs", dataset, folds=[0])
    make_run(tmp_path / "runs", dataset, block="capsule", folds=[0])
    assert not only(read_studies([tmp_path / "runs"])).notes
    record = run.read_metrics(Training(0, 0))
    del record["run"]
    replace_file(run.training_path(Training(0, 0)), "metrics.json", json.dumps(record).encode())
    (note,) = only(read_studies([tmp_path / "runs"])).notes
    assert note.startswith("Results in the older format of sen-bench 0.1, ")
    assert note.endswith(f": {run.path}.")


def test_every_row_of_all_folds_is_there_once(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    result = only(read_studies([tmp_path / "runs"])).results[0]
    assert len(set(result.rows.ids.tolist())) == len(result.rows) == N_ROWS
    assert result.rows.fold.tolist() == sorted(result.rows.fold.tolist())


def test_labels_tell_runs_apart(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset)
    make_run(tmp_path / "runs", dataset, flags={"training.epochs": 7})
    make_run(tmp_path / "runs", dataset, block="capsule", flags={"limit": 20})
    study = only(read_studies([tmp_path / "runs"]))
    assert sorted(result.label for result in study.results) == [
        "capsule (limit 20)",
        "mlp (epochs 200)",
        "mlp (epochs 7)",
    ]
    commands = {result.label: result.command() for result in study.results}
    assert commands["mlp (epochs 7)"].endswith("--set training.epochs=7")
    assert "--limit 20" in commands["capsule (limit 20)"]


def test_labels_of_a_grid_over_many_fields_name_what_is_no_default(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    for flags in ({}, {"training.epochs": 7, "sen.rounds": 2}, {"training.patience": 5, "sen.dropout": 0.1}):
        make_run(tmp_path / "runs", dataset, folds=[0], flags=flags)
    study = only(read_studies([tmp_path / "runs"]))
    labels = ["mlp (defaults)", "mlp (epochs 7, rounds 2)", "mlp (patience 5, dropout 0.1)"]
    assert sorted(result.label for result in study.results) == labels


def test_labels_do_not_name_what_follows_from_the_training_rows(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")

    def make(limit: int | None, training_rows: int, **given: float) -> None:
        settled = build_config(dataset.task.name, "mlp").settle(training_rows)
        recipe = {"training.weight_decay": settled.training.weight_decay, "sen.dropout": settled.model.dropout, **given}
        run = make_run(tmp_path / "runs", dataset, folds=[0], flags={"limit": limit, **recipe})
        record = run.read_metrics(Training(0, 0))
        rows = {**record["rows"], "train": training_rows}
        replace_file(run.training_path(Training(0, 0)), "metrics.json", json.dumps({**record, "rows": rows}).encode())

    make(None, 7355)
    make(2000, 1800)
    make(4000, 3600)
    names = [f"mlp (limit {limit})" for limit in ("2000", "4000", "none")]
    assert sorted(result.label for result in only(read_studies([tmp_path / "runs"])).results) == names
    make(None, 7355, **{"training.weight_decay": 3.0})
    labels = [result.label for result in only(read_studies([tmp_path / "runs"])).results]
    assert {"mlp (weight_decay 1, limit none)", "mlp (weight_decay 3, limit none)"} < set(labels)


def test_labels_name_a_field_that_is_set_to_none(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, folds=[0])
    run = make_run(tmp_path / "runs", dataset, folds=[0], flags={"graph.max_neighbors": 11})
    facts = run.read_config()
    facts["config"]["graph"]["max_neighbors"] = None
    change_facts(run, facts)
    labels = [result.label for result in only(read_studies([tmp_path / "runs"])).results]
    assert sorted(labels) == ["mlp (max_neighbors 12)", "mlp (max_neighbors none)"]


def test_a_run_given_twice_counts_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0])
    study = only(read_studies([tmp_path / "runs", run.path, tmp_path / "." / "runs"]))
    assert [result.label for result in study.results] == ["mlp"]


def test_tasks_are_studied_apart(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0])
    make_run(tmp_path / "runs", own(tmp_path / "own"), folds=[0])
    studies = read_studies([tmp_path / "runs"])
    assert [study.task.name for study in studies] == ["matbench_jdft2d", "mine"]


def test_what_is_damaged_is_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = official(tmp_path / "data")
    run = make_run(tmp_path / "runs", dataset, folds=[0, 1])
    (run.training_path(Training(0, 1)) / "predictions.csv").write_text("id,target,prediction\n")
    broken = make_run(tmp_path / "runs", dataset, block="capsule", folds=[0])
    (broken.path / "config.json").write_text('{"format": 1, "config": ')
    odd = make_run(tmp_path / "runs", dataset, block="egnn", folds=[0])
    (odd.path / "config.json").write_text('{"format": 1, "config": {"block_name": "egnn"}}')
    with caplog.at_level(logging.WARNING):
        study = only(read_studies([tmp_path / "runs"]))
    assert [result.folds for result in study.results] == [[0]]
    told = " ".join(study.notes)
    for what in (
        "seed_0/fold_1 counts as missing: predictions.csv",
        f"{broken.path}/config.json",
        f"{odd.path}/config.json has no data and no task",
    ):
        assert what in told


def test_damaged_runs_are_left_out_of_what_an_audit_compares_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = official(tmp_path / "data")
    run = make_run(tmp_path / "runs", dataset, folds=[0])
    broken = make_run(tmp_path / "runs", dataset, block="capsule", folds=[0])
    facts = broken.read_config()
    broken = change_facts(broken, {**facts, "data": {**facts["data"], "rows": "all"}})
    other = make_run(tmp_path / "runs", own(tmp_path / "own"), folds=[0])
    facts = other.read_config()
    change_facts(other, {**facts, "data": {**facts["data"], "rows": "all"}})
    task = TASKS["matbench_jdft2d"]
    (found,) = read_run_predictions(tmp_path / "runs", task)
    assert found.path == run.path
    # The run on another task is not read.
    (warning,) = caplog.messages
    assert warning.startswith(f"The run {broken.path} is left out: its config.json is not as a run writes it")
    with pytest.raises(UsageError, match="No training on the official folds of matbench_phonons is finished"):
        read_run_predictions(tmp_path / "runs", TASKS["matbench_phonons"])


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("task", "target", None),
        ("task", "kind", ["regression"]),
        ("task", "kind", "ranking"),
        ("task", "split", "sideways"),
        ("config", "limit", None),
        ("config", "limit", "many"),
        ("config", "training", []),
        ("config", "training", {**TrainingConfig().model_dump(), "epochs": "60"}),
        ("config", "training", {**TrainingConfig().model_dump(), "patience": None}),
        ("config", "block_name", None),
        ("data", "digest", None),
        ("data", "coverage", None),
        ("data", "coverage", "half"),
        ("data", "rows", [636]),
        ("data", "skipped", 3),
        ("config", "tuned", {"trials": 3}),
    ],
)
def test_a_run_with_an_odd_field_is_left_out_and_the_others_are_read(
    tmp_path: Path, part: str, field: str, value: object
) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, folds=[0])
    odd = make_run(tmp_path / "runs", dataset, block="egnn", folds=[0])
    facts = odd.read_config()
    if value is None:
        del facts[part][field]
    else:
        facts[part][field] = value
    odd = change_facts(odd, facts)
    study = only(read_studies([tmp_path / "runs"]))
    assert [result.label for result in study.results] == ["mlp"]
    (told,) = study.notes
    assert told.startswith((f"The run {odd.path} is left out: ", f"Skipped: {odd.path}/config.json lacks what"))


@pytest.mark.parametrize("n_wrong", [0, 1])
def test_stated_folds_count_only_where_they_are_the_known_ones(tmp_path: Path, n_wrong: int) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    known = only(read_studies([tmp_path / "runs"])).results[0].rows
    fold = known.fold.copy()
    fold[:n_wrong] = (fold[:n_wrong] + 1) % 5
    file = tmp_path / "theirs.csv"
    lines = [f"{name},5,{number}" for name, number in zip(known.ids, fold, strict=True)]
    # Rows that the runs did not predict do not matter.
    file.write_text("\n".join(["id,prediction,fold", *lines, "mb-jdft2d-600,5,0", "mb-jdft2d-601,5,0"]) + "\n")
    study = only(read_studies([tmp_path / "runs"], against=[file]))
    assert study.published[0].has_folds == (n_wrong == 0)
    told = [note for note in study.notes if "another fold than that of the runs for 1 of 60 rows" in note]
    assert len(told) == n_wrong


def test_nothing_to_report_on_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no folder"):
        read_studies([tmp_path / "runs"])
    (tmp_path / "runs").mkdir()
    with pytest.raises(UsageError, match="No run is named"):
        read_studies([])
    with pytest.raises(UsageError, match="There is no run below"):
        read_studies([tmp_path / "runs"])
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[])
    with pytest.raises(UsageError, match="No fold is finished yet of the 1 run below"):
        read_studies([tmp_path / "runs"])


def test_published_predictions_are_cut_to_the_rows_of_the_runs(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0, 2])
    file = tmp_path / "theirs.csv"
    file.write_text("id,prediction\n" + "".join(f"mb-jdft2d-{i:03d},5\n" for i in range(1, 637)))
    study = only(read_studies([tmp_path / "runs"], against=[file]))
    ours, theirs = study.results
    assert theirs.run is None
    assert sorted(theirs.rows.ids.tolist()) == sorted(ours.rows.ids.tolist())
    (at, other) = shared_rows(ours.rows, theirs.rows)
    assert np.array_equal(ours.rows.fold[at], theirs.rows.fold[other])
    assert np.allclose(theirs.rows.error[other], np.abs(5 - ours.rows.target[at]))
    assert "is not a submission to MatBench" in " ".join(study.notes)


def test_published_predictions_of_another_task_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0])
    file = tmp_path / "theirs.csv"
    file.write_text("id,prediction\nmb-phonons-0001,5\n")
    with pytest.raises(UsageError, match="has no predictions for the rows of matbench_jdft2d"):
        read_studies([tmp_path / "runs"], against=[file])
    file.write_text(json.dumps({"a": 1}))
    with pytest.raises(DataError, match=r"theirs\.csv"):
        read_studies([tmp_path / "runs"], against=[file])


def test_studies_of_one_name_are_titled_by_what_tells_them_apart(tmp_path: Path) -> None:
    for split in ("folds", "holdout:0.6/0.2/0.2"):
        make_run(tmp_path / "runs", own(tmp_path / "own", split=split), folds=[0])
    make_run(tmp_path / "runs", own(tmp_path / "own", target="b"), folds=[0])
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0])
    assert [study.title for study in read_studies([tmp_path / "runs"])] == [
        "matbench_jdft2d",
        "mine: a (folds)",
        "mine: a (holdout:0.6/0.2/0.2)",
        "mine: b",
    ]


def test_runs_on_own_data_that_changed_are_studied_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = make_run(tmp_path / "runs", own(tmp_path / "own", n=40))
    fresh = make_run(tmp_path / "runs", own(tmp_path / "own"), block="capsule")
    studies = {study.results[0].label: study for study in read_studies([tmp_path / "runs"], data_dir=tmp_path / "own")}
    assert {label: len(study.results) for label, study in studies.items()} == {"mlp": 1, "capsule": 1}
    assert len(studies["capsule"].crystals()) == N_ROWS
    assert len(studies["mlp"].crystals()) == 40  # from the cache
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    (gone,) = (study for study in read_studies([stale.path], data_dir=tmp_path / "own"))
    with pytest.raises(Absent, match="its content has changed since"):
        gone.crystals()
    for label, other in (("mlp", fresh), ("capsule", stale)):
        digest = studies[label].runs[0].facts["data"]["digest"]
        assert studies[label].title == f"mine: a (digest {digest[:10]})"
        (note,) = studies[label].notes
        assert note.startswith("Not all runs on mine.json used the same version of the file, read by")
        assert note.endswith(f"and leaves out {other.path}.")


def test_published_values_of_a_classification_are_probabilities(tmp_path: Path) -> None:
    dataset = own(tmp_path / "own", kind="classification")
    make_run(tmp_path / "runs", dataset, folds=[0])
    file = tmp_path / "theirs.csv"
    file.write_text("id,prediction\n" + "".join(f"{name},0.5\n" for name in dataset.table.ids))
    assert len(only(read_studies([tmp_path / "runs"], against=[file])).results) == 2
    file.write_text("id,prediction\n" + "".join(f"{name},-3.5\n" for name in dataset.table.ids))
    with pytest.raises(DataError, match="not probabilities"):
        read_studies([tmp_path / "runs"], against=[file])


def test_a_pair_is_of_labels_or_of_variants(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset)
    for rate in (1e-3, 2e-3):
        make_run(tmp_path / "runs", dataset, block="egnn", flags={"training.learning_rate": rate, "limit": 20})
    file = tmp_path / "theirs.csv"
    file.write_text("id,prediction\n" + "".join(f"mb-jdft2d-{i:03d},5.5\n" for i in range(1, 61)))
    study = only(read_studies([tmp_path / "runs"], against=[file]))
    labels = {result.label: result for result in study.results}
    several = sorted(label for label in labels if label.startswith("egnn"))
    assert all("," in label for label in several)
    for text, pair in {
        "mlp,theirs": ("mlp", "theirs"),
        f"{several[0]}, mlp": (several[0], "mlp"),
        ",".join(several): tuple(several),
    }.items():
        choose_pair([study], text)
        assert study.pair == (labels[pair[0]], labels[pair[1]])
    for text, message in {
        "mlp": "takes two names separated by a comma, such as capsule,megnet, not mlp.",
        "mlp,their": "there is no result called 'their'. Did you mean theirs?",
        "mlp,": "there is no result called ''. Available: ",
        "mlp,mlp": "two different results, and both names are of mlp.",
        "mlp,egnn": f"'egnn' may be any of {', '.join(label for label in labels if label in several)}: give the label",
    }.items():
        with pytest.raises(UsageError, match=re.escape(message)):
            choose_pair([study], text)


def test_a_pair_that_a_task_lacks_is_noted_there(tmp_path: Path) -> None:
    for task, blocks in {"matbench_jdft2d": ("mlp", "egnn"), "matbench_phonons": ("mlp", "capsule")}.items():
        for block in blocks:
            make_run(tmp_path / "runs", official(tmp_path / "data", task), block=block)
    both, lacking = studies = read_studies([tmp_path / "runs"])
    choose_pair(studies, "mlp,egnn")
    assert both.pair is not None
    assert lacking.pair is None
    assert lacking.notes[-1] == ("Crystal systems are not compared between mlp and egnn: no result here is of egnn.")
    with pytest.raises(UsageError, match="no task has results of both egnn and capsule"):
        choose_pair(studies, "egnn,capsule")


def test_runs_by_groups_are_a_study_of_their_own_with_names_of_folds(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data", n=130)
    outside = replace(dataset, task=replace(dataset.task, split="element"))
    assert len(outside.fold_names) >= 4
    make_run(tmp_path / "runs", dataset)
    make_run(tmp_path / "runs", outside, folds=range(len(outside.fold_names)))
    fewer = official(tmp_path / "fewer", n=125)
    make_run(tmp_path / "runs", replace(fewer, task=outside.task), folds=[1])
    file = tmp_path / "theirs.csv"
    file.write_text("id,prediction\n" + "".join(f"{name},5\n" for name in dataset.table.ids))
    studies = {len(study.results[0].rows): study for study in read_studies([tmp_path / "runs"], against=[file])}
    # Groups of other rows are other groups, also in an official task.
    assert len(studies) == 3
    on_folds, by_element = studies[130], studies[len(np.unique(np.concatenate([t.rows for t in outside.tested])))]
    assert (len(on_folds.published), len(by_element.published)) == (1, 0)
    assert by_element.title.startswith("matbench_jdft2d (element")
    assert (by_element.n_folds, by_element.fold_names) == (len(outside.fold_names), outside.fold_names)
    assert by_element.fold_label(1) == f"1 ({outside.fold_names[1]})"
    assert (by_element.tests_rows_twice, on_folds.tests_rows_twice, on_folds.fold_label(1)) == (True, False, "1")
    (result,) = by_element.results
    assert result.rows.n_seeds.max() == 2
    assert result.command().endswith("--split element")


def test_runs_on_random_splits_are_a_study_of_their_own(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, folds=[0])
    run = make_resampled(tmp_path / "runs", dataset, splits=30)
    file = tmp_path / "theirs.csv"
    file.write_text("id,prediction\n" + "".join(f"{name},5\n" for name in dataset.table.ids))
    on_folds, resampled = read_studies([tmp_path / "runs"], against=[file])
    assert [study.title for study in (on_folds, resampled)] == [
        "matbench_jdft2d (folds)",
        "matbench_jdft2d (resample)",
    ]
    assert len(on_folds.published) == 1
    (result,) = resampled.results
    # Every row was tested within the first splits, and the last are folds all the same.
    assert (result.folds, resampled.n_folds, len(result.rows)) == (list(range(30)), 30, N_ROWS)
    assert result.rows.n_seeds.sum() == 30 * N_ROWS // 5
    assert result.command() == "sen-bench ablate --task matbench_jdft2d --blocks mlp --resample 30"
    shutil.rmtree(tmp_path / "runs" / "matbench_jdft2d" / on_folds.results[0].path.name)
    assert only(read_studies([tmp_path / "runs"])).title == "matbench_jdft2d (resample)"
    with pytest.raises(UsageError, match="has no predictions for the rows of matbench_jdft2d"):
        read_studies([tmp_path / "runs"], against=[file])
    with pytest.raises(UsageError, match="No training on the official folds of matbench_jdft2d is finished"):
        read_run_predictions(tmp_path / "runs", dataset.task)
    shutil.rmtree(run.path / "seed_3")
    make_run(tmp_path / "runs", replace(dataset, task=resampled.task), folds=[0, 1], seeds=[5])
    assert (
        only(read_studies([tmp_path / "runs"]))
        .results[0]
        .command()
        .startswith("sen-bench run matbench_jdft2d --block mlp --folds 0,1,2,")
    )


def test_studies_of_the_same_data_on_other_splits_know_each_other(tmp_path: Path) -> None:
    for split in ("folds", "formula", "holdout:0.8/0.1/0.1"):
        make_run(tmp_path / "runs", own(tmp_path / "data", split=split), folds=[0])
    make_run(tmp_path / "runs", own(tmp_path / "changed", split="formula", n=50), folds=[0])
    make_run(tmp_path / "runs", own(tmp_path / "data", target="b"), folds=[0])
    dataset = official(tmp_path / "official")
    for split in ("folds", "formula"):
        make_run(tmp_path / "runs", replace(dataset, task=replace(dataset.task, split=split)), folds=[0])
    studies = read_studies([tmp_path / "runs"])
    others = [
        sorted((study.task.target, study.task.split, other.task.split) for other in study.others) for study in studies
    ]
    splits = ("folds", "formula", "holdout:0.8/0.1/0.1")
    e = "exfoliation_en"
    assert sorted(filter(None, others)) == [
        *([("a", split, other) for other in splits if other != split] for split in splits),
        [(e, "folds", "formula")],
        [(e, "formula", "folds")],
    ]
    assert others.count([]) == 2
    assert all(other.runs[0].facts["data"]["rows"] == N_ROWS for study in studies for other in study.others)
