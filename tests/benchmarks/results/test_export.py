from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from benchmarks.base.console import figures
from benchmarks.base.errors import DataError, UsageError
from benchmarks.data.folds import official_folds
from benchmarks.data.tasks import TASKS, Task
from benchmarks.results.export import make_submission, write_submission
from benchmarks.results.metrics import matbench_scores
from benchmarks.results.store import Run, Training, find_runs
from benchmarks.results.submission import read_submission, rescore
from tests.benchmarks.conftest import Answer, replace_file
from tests.benchmarks.results.made_submissions import JDFT2D, MOMENT, make_run, regression, with_hash, write_fold
from tests.benchmarks.splits import MATBENCH, find_labels, fold_of_rows, official_splits
from tests.conftest import REPOSITORY

Command = Callable[..., Answer]


@pytest.fixture
def small_classification(monkeypatch: pytest.MonkeyPatch) -> Task:
    """The classification as if it had 200 rows."""
    task = replace(TASKS["matbench_mp_is_metal"], n_rows=200)
    monkeypatch.setattr("benchmarks.data.tasks.TASKS", {**TASKS, task.name: task})
    return task


def test_export_writes_matbenchs_layout(run: Run, sen_bench: Command, tmp_path: Path) -> None:
    file = tmp_path / "results.json.gz"
    answer = sen_bench("export", run.path, "-o", file, "--algorithm", "Mine")
    assert answer.code == 0, answer.err
    content = json.loads(gzip.decompress(file.read_bytes()))
    assert content == with_hash(dict(content))
    assert (content["@module"], content["@class"]) == ("matbench.bench", "MatbenchBenchmark")
    assert (content["benchmark_name"], content["version"]) == ("matbench_v0.1", "0.6")
    datetime.strptime(content["datestamp"], "%Y.%m.%d %H:%M.%S").replace(tzinfo=UTC)
    assert content["user_metadata"]["algorithm"] == "Mine"
    assert content["user_metadata"]["tasks"]["matbench_jdft2d"]["provenance"]["python"] == ["3.11.7"]
    (task,) = content["tasks"].values()
    assert {key: value for key, value in task.items() if key != "results"} == {
        "@module": "matbench.task",
        "@class": "MatbenchTask",
        "benchmark_name": "matbench_v0.1",
        "dataset_name": "matbench_jdft2d",
    }
    targets, (predicted,) = regression()
    for fold, (_, test) in enumerate(official_folds("regression", 636)):
        result = task["results"][f"fold_{fold}"]
        assert list(result["data"]) == [f"mb-jdft2d-{row + 1:03d}" for row in test]
        assert list(result["data"].values()) == predicted[test].tolist()
        assert result["scores"] == matbench_scores("regression", targets[test], predicted[test])
        assert result["uncertainty"] is None, "one seed has no spread"
        assert result["parameters"]["config"]["block_name"] == "mlp"
        assert (result["parameters"]["seeds"], result["parameters"]["best_epochs"]) == ([0], [7])
    mean = np.mean([result["scores"]["mae"] for result in task["results"].values()])
    assert figures(mean) in answer.out
    assert "meV/atom" in answer.out
    assert "materialsproject/matbench" in answer.out
    assert "ensemble" not in answer.out


def test_seeds_are_averaged_and_their_spread_is_the_uncertainty(sen_bench: Command, tmp_path: Path) -> None:
    targets, predictions = regression(n_seeds=3)
    predictions[1][5] = predictions[2][5] = predictions[0][5]  # where the seeds agree the interval is a point
    run = make_run(tmp_path / "runs", JDFT2D, targets, predictions)
    answer = sen_bench("export", run.path, "-o", tmp_path / "results.json.gz")
    assert answer.code == 0, answer.err
    assert "ensemble" in answer.out
    result = read_submission(tmp_path / "results.json.gz").tasks["matbench_jdft2d"]
    mean, std = np.mean(predictions, axis=0), np.std(predictions, axis=0, ddof=1)
    for fold, (_, test) in zip(result.folds, official_folds("regression", 636), strict=True):
        np.testing.assert_allclose(fold.prediction, mean[test], rtol=1e-14)
        assert fold.scores == matbench_scores("regression", targets[test], fold.prediction)
        assert fold.uncertainty is not None
        lower, upper = (mean[test] + norm.ppf(share) * std[test] for share in (0.025, 0.975))
        np.testing.assert_allclose(fold.uncertainty, np.stack([lower, upper, std[test]], axis=1), atol=1e-12)


def test_classification_holds_probabilities_and_no_uncertainty(
    small_classification: Task, sen_bench: Command, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    labels, predictions = (rng.random(200) < 0.4).astype(float), list(rng.random((2, 200)))
    run = make_run(tmp_path / "runs", small_classification, labels, predictions)
    answer = sen_bench("export", run.path, "-o", tmp_path / "results.json.gz")
    assert answer.code == 0, answer.err
    assert "takes no uncertainty for a classification" in answer.out
    result = read_submission(tmp_path / "results.json.gz").tasks["matbench_mp_is_metal"]
    assert [fold.uncertainty for fold in result.folds] == [None] * 5
    again = rescore(result, labels)
    mean = np.mean(predictions, axis=0)
    for fold, scores, (_, test) in zip(result.folds, again, official_folds("classification", 200, labels), strict=True):
        assert set(scores) == {"accuracy", "balanced_accuracy", "f1", "rocauc"}
        assert fold.scores == scores == matbench_scores("classification", labels[test], mean[test])
    with pytest.raises(DataError, match="official fold"):
        rescore(result, 1 - labels[::-1])
    with pytest.raises(ValueError, match="200 rows"):
        rescore(result, labels[1:])


def test_several_tasks_go_into_one_file_in_any_order(
    run: Run, small_classification: Task, sen_bench: Command, tmp_path: Path
) -> None:
    labels = np.arange(200) % 2.0
    other = make_run(tmp_path / "runs", small_classification, labels, [labels])
    for i, paths in enumerate([(run.path, other.path), (other.path, run.path)]):
        answer = sen_bench("export", *paths, "-o", tmp_path / f"{i}.json.gz")
        assert answer.code == 0, answer.err
        submission = read_submission(tmp_path / f"{i}.json.gz")
        assert list(submission.tasks) == ["matbench_jdft2d", "matbench_mp_is_metal"]


def test_same_content_gives_the_same_bytes(content: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a.json.gz", "b.json.gz"):
        write_submission(tmp_path / name, content)
    first, second = ((tmp_path / name).read_bytes() for name in ("a.json.gz", "b.json.gz"))
    assert first == second
    assert first[4:8] == bytes(4), "the time in the gzip header"


# Each spoils a finished run (one seed, five folds).
def spoil_nothing_finished(run: Run) -> None:
    for seed in run.path.glob("seed_*"):
        seed.rename(run.path / f"old_{seed.name}")


def spoil_missing_fold(run: Run) -> None:
    run.training_path(Training(0, 3)).rename(run.path / "elsewhere")


def spoil_unfinished_seed(run: Run) -> None:
    predictions = run.read_predictions(Training(0, 2))
    write_fold(run, Training(1, 2), *predictions)


def spoil_damaged(run: Run) -> None:
    path = run.training_path(Training(0, 4)) / "predictions.csv"
    path.write_bytes(path.read_bytes()[:-2])


def rewrite(run: Run, training: Training, change: Callable[[list[str], np.ndarray, np.ndarray], None]) -> None:
    ids, targets, predictions = run.read_predictions(training)
    change(ids, targets, predictions)
    write_fold(run, training, ids, targets, predictions)


def spoil_exchanged_rows(run: Run) -> None:
    first, second = run.read_predictions(Training(0, 0)).ids[0], run.read_predictions(Training(0, 1)).ids[0]
    rewrite(run, Training(0, 0), lambda ids, *_: ids.__setitem__(0, second))
    rewrite(run, Training(0, 1), lambda ids, *_: ids.__setitem__(0, first))


def spoil_order(run: Run) -> None:
    rewrite(run, Training(0, 0), lambda ids, *_: ids.reverse())


def spoil_unknown_row(run: Run) -> None:
    rewrite(run, Training(0, 0), lambda ids, *_: ids.__setitem__(0, "mb-phonons-001"))


def spoil_row_twice(run: Run) -> None:
    rewrite(run, Training(0, 0), lambda ids, *_: ids.__setitem__(0, ids[1]))


def spoil_row_lost(run: Run) -> None:
    ids, targets, predictions = run.read_predictions(Training(0, 0))
    write_fold(run, Training(0, 0), ids[1:], targets[1:], predictions[1:])


def spoil_nan(run: Run) -> None:
    rewrite(run, Training(0, 2), lambda _ids, _targets, predictions: predictions.__setitem__(1, np.nan))


def spoil_seed_on_other_rows(run: Run) -> None:
    for fold in range(5):
        ids, targets, predictions = run.read_predictions(Training(0, fold))
        write_fold(run, Training(1, fold), ids, targets + 1, predictions)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (spoil_nothing_finished, "--seed 0 --folds 0,1,2,3,4"),
        (spoil_missing_fold, "(fold 3, seed 0 missing): `sen-bench run matbench_jdft2d --block mlp --seed 0 --folds 3"),
        (spoil_unfinished_seed, "fold 4, seed 1 missing): `sen-bench run matbench_jdft2d --block mlp --seed 1 --folds"),
        (spoil_damaged, "(fold 4, seed 0 damaged)"),
        (spoil_exchanged_rows, "rows of fold 0 are not those"),
        (spoil_order, "not in its order"),
        (spoil_unknown_row, "'mb-phonons-001', which is not a row of matbench_jdft2d"),
        (spoil_row_twice, "is predicted 0 times, not once"),
        (spoil_row_lost, "is predicted 0 times, not once"),
        (spoil_nan, "is not a finite number but nan"),
        (spoil_seed_on_other_rows, "not tested on the same rows of fold 0"),
    ],
)
def test_incomplete_or_spoilt_run_is_refused(
    run: Run, sen_bench: Command, tmp_path: Path, spoil: Callable[[Run], None], expected: str
) -> None:
    spoil(run)
    answer = sen_bench("export", run.path, "-o", tmp_path / "results.json.gz")
    assert answer.code == 2
    assert expected in answer.err
    assert str(run.path) in answer.err
    assert not (tmp_path / "results.json.gz").exists()


def test_run_may_be_named_from_inside_its_folder(
    run: Run, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.path)
    assert sen_bench("export", ".", "-o", tmp_path / "results.json.gz").code == 0
    spoil_missing_fold(run)
    answer = sen_bench("export", ".", "-o", tmp_path / "other.json.gz")
    assert answer.code == 2
    assert f"--folds 3 --out {tmp_path / 'runs'}`" in answer.err


def test_predictions_that_are_no_table_are_named(run: Run, sen_bench: Command, tmp_path: Path) -> None:
    folder = run.training_path(Training(0, 1))
    content = (folder / "predictions.csv").read_bytes()
    replace_file(folder, "predictions.csv", content.replace(b"prediction", b"predicted"))
    answer = sen_bench("export", run.path, "-o", tmp_path / "results.json.gz")
    assert answer.code == 1
    assert f"{folder / 'predictions.csv'} does not hold the columns" in answer.err


def test_a_submission_is_named_after_what_its_model_was_pretrained_on(tmp_path: Path) -> None:
    pretrained = {"run": "mlp-1", "task": "gaps", "seed": 0, "fold": 0, "weights": "w", "allow_overlap": False}
    run = make_run(tmp_path / "runs", JDFT2D, *regression(), facts={"config": {"pretrained": pretrained}})
    content = make_submission([run], moment=MOMENT)
    assert content["user_metadata"]["algorithm"] == "SEN (mlp), pretrained on gaps"
    fold = content["tasks"]["matbench_jdft2d"]["results"]["fold_0"]
    assert fold["parameters"]["config"]["pretrained"] == pretrained


def test_probability_beyond_one_is_refused(small_classification: Task, tmp_path: Path) -> None:
    labels = np.arange(200) % 2.0
    run = make_run(tmp_path / "runs", small_classification, labels, [np.where(np.arange(200) == 150, 1.5, labels)])
    with pytest.raises(UsageError, match=r"prediction for mb-mp-is-metal-151 is not a probability but 1\.5"):
        make_submission([run], moment=MOMENT)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"task": {"split": "resample"}}, "on the split resample: a submission needs a run on the official folds"),
        ({"data": {"is_complete": False, "coverage": 0.394}}, "partial data, 39.4% of matbench_jdft2d"),
        ({"config": {"limit": 400}}, "at most 400 rows of each fold (--limit)"),
        (
            {"config": {"tuned": {"variant": "mlp", "task": "matbench_jdft2d", "data": "", "folds": [0], "trials": 9}}},
            "has a recipe that rows of matbench_jdft2d chose (sen-bench tune)",
        ),
        (
            {"config": {"pretrained": {"run": "mlp-1", "task": "gaps", "allow_overlap": True}}},
            "started from weights of mlp-1 that may know test rows (--allow-overlap)",
        ),
        (
            {"task": {"name": "my_gaps", "is_official": False}, "config": {"task": "my_gaps"}},
            "my_gaps, which is not a task of",
        ),
        (
            {"task": TASKS["prototypes"].facts(), "config": {"task": "prototypes"}},
            "prototypes, which is not a task of MatBench",
        ),
    ],
)
def test_run_that_is_not_on_all_official_data_is_refused(
    sen_bench: Command, tmp_path: Path, facts: dict[str, Any], expected: str
) -> None:
    run = make_run(tmp_path / "runs", JDFT2D, *regression(), facts=facts)
    answer = sen_bench("export", run.path, "-o", tmp_path / "results.json.gz")
    assert answer.code in {1, 2}
    assert expected in answer.err
    assert not (tmp_path / "results.json.gz").exists()


def test_two_runs_of_a_task_and_runs_of_two_blocks_are_refused(run: Run, tmp_path: Path) -> None:
    targets, predictions = regression(n_rows=1265)
    other = make_run(tmp_path / "runs", TASKS["matbench_phonons"], targets, predictions, block="capsule")
    with pytest.raises(UsageError, match=r"run of mlp, .* of capsule"):
        make_submission([run, other], moment=MOMENT)
    with pytest.raises(UsageError, match="both runs of matbench_jdft2d"):
        make_submission([run, run], moment=MOMENT)


def test_folder_that_is_no_run_is_refused(run: Run, sen_bench: Command, tmp_path: Path) -> None:
    file = tmp_path / "results.json.gz"
    above = sen_bench("export", tmp_path / "runs", "-o", file)
    assert above.code == 2
    assert str(run.path) in above.err
    empty = sen_bench("export", run.path / "seed_0", "-o", file)
    assert empty.code == 2
    assert "is not a run" in empty.err
    nowhere = sen_bench("export", tmp_path / "nowhere", "-o", file)
    assert nowhere.code == 2
    assert "There is no folder" in nowhere.err
    assert sen_bench("export", run.path).code == 2
    assert not file.exists()


def test_existing_file_is_kept_without_overwrite(run: Run, sen_bench: Command, tmp_path: Path) -> None:
    file = tmp_path / "results.json.gz"
    file.write_text("mine")
    refused = sen_bench("export", run.path, "-o", file)
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert file.read_text() == "mine"
    assert sen_bench("export", run.path, "-o", file, "--overwrite").code == 0
    assert read_submission(file).tasks
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(("name", "expected"), [("results.json", ".json.gz"), ("nowhere/r.json.gz", "be written")])
def test_file_that_cannot_be_written_is_named(
    run: Run, sen_bench: Command, tmp_path: Path, name: str, expected: str
) -> None:
    answer = sen_bench("export", run.path, "-o", tmp_path / name)
    assert answer.code == 2
    assert expected in answer.err
    assert str(tmp_path / name) in answer.err


@pytest.fixture
def matbench_python() -> str:
    """The Python that has the real matbench."""
    python = os.environ.get("SEN_BENCH_MATBENCH_PYTHON")
    if python is None:
        pytest.skip("needs a Python with benchmarks/results/matbench-requirements.txt (set SEN_BENCH_MATBENCH_PYTHON)")
    return python


def score_by_matbench(python: str, file: Path, targets: dict[str, list[float]], again: Path) -> None:
    """Have the real matbench check a submission; what it makes of it goes to `again`."""
    again.with_name("targets.json").write_text(json.dumps(targets))
    arguments = [python, REPOSITORY / ".ci" / "check_submission.py", file, again.with_name("targets.json"), again]
    checked = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("equal to 1e-09") == len(targets)
    assert checked.stdout.count("refused") == 6


def test_real_matbench_takes_and_scores_the_archived_files(matbench_python: str, tmp_path: Path) -> None:
    results = REPOSITORY / "docs" / "results"
    files = sorted((results / "submissions").glob("*.json.gz"))
    if not files:
        pytest.skip("no submission is archived")
    for file in files:
        targets = {}
        for name in read_submission(file).tasks:
            runs = [
                run
                for archive in results.glob("*.zip")
                for run in find_runs(archive)
                if run.read_config()["config"]["task"] == name
            ]
            predicted = [run.read_predictions(training) for run in runs for training in run.trainings()]
            by_id = {row: target for one in predicted for row, target in zip(one.ids, one.target.tolist(), strict=True)}
            targets[name] = [by_id[row] for row in sorted(by_id)]
        score_by_matbench(matbench_python, file, targets, tmp_path / "again.json")


def test_real_matbench_takes_and_scores_our_file(matbench_python: str, sen_bench: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    phonons, is_metal = TASKS["matbench_phonons"], TASKS["matbench_mp_is_metal"]
    n_rows, share_true = MATBENCH[is_metal.name]
    labels = find_labels(fold_of_rows(official_splits(is_metal.name)), round((share_true or 0) * n_rows))
    assert labels is not None
    targets = rng.normal(scale=300, size=1265)
    targets[:20] = 0, 1e-6, *rng.normal(scale=1e-4, size=18)  # some that the percentage error leaves out
    probabilities = list(rng.beta(1 + labels, 2 - labels, size=(2, n_rows)))
    runs = [
        make_run(tmp_path / "runs", phonons, targets, list(targets + rng.normal(size=(3, 1265)))),
        make_run(tmp_path / "runs", is_metal, labels.astype(float), probabilities),
    ]
    file, again = tmp_path / "results.json.gz", tmp_path / "again.json"
    answer = sen_bench("export", *(run.path for run in runs), "-o", file)
    assert answer.code == 0, answer.err
    score_by_matbench(matbench_python, file, {phonons.name: targets.tolist(), is_metal.name: labels.tolist()}, again)
    # What matbench writes is read as what we wrote.
    for name, theirs in read_submission(again).tasks.items():
        for ours, fold in zip(read_submission(file).tasks[name].folds, theirs.folds, strict=True):
            assert (ours.ids, ours.prediction.tolist()) == (fold.ids, fold.prediction.tolist())
            np.testing.assert_equal(ours.uncertainty, fold.uncertainty)
