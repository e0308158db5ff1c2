from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from benchmarks.base.console import figures
from benchmarks.base.errors import DataError, UsageError
from benchmarks.data.folds import official_folds
from benchmarks.data.tasks import TASKS, Task
from benchmarks.results.export import make_submission, write_submission
from benchmarks.results.metrics import matbench_scores
from benchmarks.results.run_config import build_config
from benchmarks.results.store import Run, Training, find_runs
from benchmarks.results.submission import Submission, read_submission, rescore
from tests.benchmarks.conftest import Answer, replace_file
from tests.benchmarks.splits import MATBENCH, find_labels, fold_of_rows, official_splits
from tests.conftest import REPOSITORY

Command = Callable[..., Answer]
JDFT2D = TASKS["matbench_jdft2d"]
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class Epoch:
    epoch: int = 1


def make_run(
    root: Path,
    task: Task,
    targets: np.ndarray,
    predictions: Sequence[np.ndarray],
    *,
    block: str = "mlp",
    facts: dict[str, Any] | None = None,
) -> Run:
    """A finished run on complete official data.

    Args:
        root: Run store.
        task: Task.
        targets: Targets of all rows, [n_rows].
        predictions: What each seed predicts of them, each [n_rows].
        block: Name of the block.
        facts: Facts in config.json that are others.
    """
    config = build_config(task.name, block).model_dump(mode="json")
    data = {"source": task.file_name, "digest": "d", "rows": len(targets), "coverage": 1.0, "is_complete": True}
    run = Run(root / task.name / f"{block}-0123456789")
    run.write_config({"config": config, "task": task.facts(), "data": data, **(facts or {})})
    for seed, predicted in enumerate(predictions):
        for fold, (_, test) in enumerate(official_folds(task.kind, len(targets), targets)):
            write_fold(run, Training(seed, fold), [task.row_id(row) for row in test], targets[test], predicted[test])
    return run


def write_fold(run: Run, training: Training, ids: Sequence[str], targets: np.ndarray, predictions: np.ndarray) -> None:
    record = {
        "metrics": {},
        "best_epoch": 7,
        "epochs": 9,
        "peak_memory_bytes": 2**28,
        "elements": ["Li"],
        "rows": {"train": 458, "validation": 51, "test": len(ids)},
        "parameters": 1234,
        "device": "cpu",
        "wall_seconds": 1.5,
        "provenance": {"python": "3.11.7", "git_commit": None},
        "sessions": [],
    }
    run.write_training(
        training,
        predictions=list(zip(ids, map(float, targets), map(float, predictions), strict=True)),
        record=record,
        history=[Epoch()],
        weights={"weight": torch.zeros(1)},
    )


def regression(n_seeds: int = 1, n_rows: int = 636) -> tuple[np.ndarray, list[np.ndarray]]:
    """Random targets and predictions."""
    rng = np.random.default_rng(0)
    return rng.normal(size=n_rows), list(rng.normal(size=(n_seeds, n_rows)))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "runs", JDFT2D, *regression())


@pytest.fixture
def content(run: Run) -> dict[str, Any]:
    return make_submission([run], moment=MOMENT)


@pytest.fixture
def small_classification(monkeypatch: pytest.MonkeyPatch) -> Task:
    """The classification as if it had 200 rows."""
    task = replace(TASKS["matbench_mp_is_metal"], n_rows=200)
    monkeypatch.setattr("benchmarks.data.tasks.TASKS", {**TASKS, task.name: task})
    return task


def matbench_hash(content: dict[str, Any]) -> str:
    """The hash as matbench 0.6 defines it (matbench/util.py), for content that came from JSON."""

    def in_order(part: dict[str, Any]) -> dict[str, Any]:
        return {key: in_order(part[key]) if isinstance(part[key], dict) else part[key] for key in sorted(part)}

    return hashlib.sha256(json.dumps(in_order(content)).encode()).hexdigest()


def with_hash(content: dict[str, Any]) -> dict[str, Any]:
    content.pop("hash", None)
    return {**content, "hash": matbench_hash(content)}


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
    replace_file(folder, "predictions.csv", b"id,target\nmb-jdft2d-001,3\n")
    answer = sen_bench("export", run.path, "-o", tmp_path / "results.json.gz")
    assert answer.code == 1
    assert f"{folder / 'predictions.csv'} does not hold the columns" in answer.err


def test_probability_beyond_one_is_refused(small_classification: Task, tmp_path: Path) -> None:
    labels = np.arange(200) % 2.0
    run = make_run(tmp_path / "runs", small_classification, labels, [np.where(np.arange(200) == 150, 1.5, labels)])
    with pytest.raises(UsageError, match=r"prediction for mb-mp-is-metal-151 is not a probability but 1\.5"):
        make_submission([run], moment=MOMENT)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"data": {"is_complete": False, "coverage": 0.394}}, "partial data, 39.4% of matbench_jdft2d"),
        ({"config": {"block_name": "mlp", "limit": 400}}, "at most 400 rows of each fold (--limit)"),
        (
            {"task": {**JDFT2D.facts(), "name": "my_gaps", "is_official": False}},
            "my_gaps, which is not a task of",
        ),
        ({"task": TASKS["prototypes"].facts()}, "prototypes, which is not a task of MatBench"),
        ({"task": {"name": "matbench_jdft2d"}}, "was not written by sen-bench"),
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
    with pytest.raises(UsageError, match=r"block mlp, .* of capsule"):
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


def test_file_is_read_as_it_was_written_compressed_or_not(content: dict[str, Any], tmp_path: Path) -> None:
    targets, (predicted,) = regression()
    write_submission(tmp_path / "a.json.gz", content)
    (tmp_path / "b.json").write_text(json.dumps(content))
    for name in ("a.json.gz", "b.json"):
        submission = read_submission(tmp_path / name)
        assert submission.user_metadata == content["user_metadata"]
        result = submission.tasks["matbench_jdft2d"]
        for fold, (_, test) in zip(result.folds, official_folds("regression", 636), strict=True):
            assert fold.prediction.tolist() == predicted[test].tolist()
        assert rescore(result, targets) == [fold.scores for fold in result.folds]


def test_cut_or_damaged_file_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "results.json.gz"
    write_submission(file, content)
    whole = file.read_bytes()
    for length in (0, 1, 5, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"results\.json\.gz"):
            read_submission(file)
    for at in range(12, len(whole), len(whole) // 40):
        flipped = bytearray(whole)
        flipped[at] ^= 1
        file.write_bytes(flipped)
        with pytest.raises(DataError, match=r"results\.json\.gz"):
            read_submission(file)
    text = json.dumps(content).encode()
    for at in range(0, len(text), len(text) // 40):
        flipped = bytearray(text)
        flipped[at] ^= 4
        file.write_bytes(flipped)
        with pytest.raises(DataError, match=r"results\.json\.gz"):
            read_submission(file)


def fold_0(content: dict[str, Any]) -> dict[str, Any]:
    return content["tasks"]["matbench_jdft2d"]["results"]["fold_0"]


def change_nan(content: dict[str, Any]) -> None:
    fold_0(content)["data"]["mb-jdft2d-012"] = float("nan")


def change_whole_number(content: dict[str, Any]) -> None:
    fold_0(content)["data"]["mb-jdft2d-012"] = 3


def change_lost_row(content: dict[str, Any]) -> None:
    del fold_0(content)["data"]["mb-jdft2d-012"]


def change_exchanged_folds(content: dict[str, Any]) -> None:
    results = content["tasks"]["matbench_jdft2d"]["results"]
    results["fold_0"], results["fold_1"] = results["fold_1"], results["fold_0"]


def change_lost_fold(content: dict[str, Any]) -> None:
    del content["tasks"]["matbench_jdft2d"]["results"]["fold_2"]


def change_lost_score(content: dict[str, Any]) -> None:
    del fold_0(content)["scores"]["mape"]


def change_extra_key(content: dict[str, Any]) -> None:
    fold_0(content)["remark"] = "mine"


def change_uncertainty(content: dict[str, Any]) -> None:
    fold_0(content)["uncertainty"] = {"mb-jdft2d-012": {"ci_lower": 1.0, "ci_upper": 2.0, "std": 0.3}}


def change_task(content: dict[str, Any]) -> None:
    content["tasks"]["matbench_jdft3d"] = content["tasks"].pop("matbench_jdft2d")


def change_demonstration(content: dict[str, Any]) -> None:
    content["tasks"]["prototypes"] = content["tasks"].pop("matbench_jdft2d")


def change_benchmark(content: dict[str, Any]) -> None:
    content["benchmark_name"] = "matbench_v0.2"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (change_nan, "fold_0.data.mb-jdft2d-012: .*nan is neither"),
        (change_whole_number, "fold_0.data.mb-jdft2d-012: .*3 is neither"),
        (change_lost_row, "mb-jdft2d-012 is predicted 0 times"),
        (change_exchanged_folds, "rows of fold 0 are not those"),
        (change_lost_fold, "holds fold_0, fold_1, fold_3, fold_4, not"),
        (change_lost_score, "the scores of matbench_jdft2d are"),
        (change_extra_key, "fold_0.remark: Extra inputs"),
        (change_uncertainty, "uncertainties of matbench_jdft2d"),
        (change_task, "Did you mean matbench_jdft2d"),
        (change_demonstration, "is not a task of MatBench"),
        (change_benchmark, "benchmark_name"),
    ],
)
def test_wrong_content_is_refused_by_name(
    content: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], None], expected: str
) -> None:
    file = tmp_path / "results.json"
    change(content)
    file.write_text(json.dumps(with_hash(content)))
    with pytest.raises(DataError, match=rf"results\.json.*{expected}"):
        read_submission(file)


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"tasks": ', "\ud800"])
def test_file_that_is_no_submission_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(text, errors="surrogatepass")
    with pytest.raises(DataError, match=r"results\.json"):
        read_submission(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_submission(tmp_path / "nowhere.json")


def test_edited_file_does_not_match_its_hash(content: dict[str, Any], tmp_path: Path) -> None:
    fold_0(content)["data"]["mb-jdft2d-012"] *= 0.9
    (tmp_path / "results.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="does not match the hash in it"):
        read_submission(tmp_path / "results.json")


def test_tasks_without_structures_are_passed_over(content: dict[str, Any], tmp_path: Path) -> None:
    content["tasks"]["matbench_steels"] = content["tasks"]["matbench_jdft2d"] | {"dataset_name": "matbench_steels"}
    (tmp_path / "results.json").write_text(json.dumps(with_hash(content)))
    assert list(read_submission(tmp_path / "results.json").tasks) == ["matbench_jdft2d"]


# Which file holds the official targets of a task, in which column, and how they are had from it.
OFFICIAL_TARGETS: dict[str, tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = {
    "matbench_phonons": ("matbench_phonons", "last phdos peak", np.asarray),
    "matbench_log_kvrh": ("matbench_log_kvrh", "log10(K_VRH)", np.asarray),
    "matbench_mp_gap": ("matbench_mp_gap", "gap pbe", np.asarray),
    "matbench_mp_is_metal": ("matbench_mp_gap", "gap pbe", lambda gap: gap == 0),
    "matbench_mp_e_form": ("matbench_mp_e_form", "e_form", np.asarray),
}


@pytest.fixture(
    scope="module", params=["alignn", *(pytest.param(name, marks=pytest.mark.deep) for name in ("cgcnnv2019", "coNGN"))]
)
def published(request: pytest.FixtureRequest, data_dir: Path) -> Submission:
    path = data_dir.parent / "leaderboard" / f"{request.param}.results.json.gz"
    if not path.is_file():
        pytest.skip(f"needs {path.name}: not in {path.parent}")
    return read_submission(path)


def test_published_submissions_hold_all_structure_tasks(published: Submission) -> None:
    assert set(published.tasks) == {task.name for task in TASKS.values() if task.is_official}


@pytest.mark.parametrize("name", OFFICIAL_TARGETS)
def test_published_submissions_score_as_they_say(published: Submission, data_dir: Path, name: str) -> None:
    file, column, derive = OFFICIAL_TARGETS[name]
    path = data_dir.parent / "leaderboard" / f"{file}.rows.json.bz2"
    if not path.is_file():
        pytest.skip(f"needs the official targets: {path} is absent")
    by_row = json.loads(bz2.decompress(path.read_bytes()))[column]
    targets = derive(np.array([by_row[str(row)] for row in range(len(by_row))]))
    result = published.tasks[name]
    for fold, scores in zip(result.folds, rescore(result, targets), strict=True):
        assert scores == pytest.approx(dict(fold.scores), rel=1e-6, abs=1e-6)


@pytest.fixture
def matbench_python() -> str:
    """The Python that has the real matbench."""
    python = os.environ.get("SEN_BENCH_MATBENCH_PYTHON")
    if python is None:
        pytest.skip("needs a Python with .ci/matbench-requirements.txt (set SEN_BENCH_MATBENCH_PYTHON)")
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
