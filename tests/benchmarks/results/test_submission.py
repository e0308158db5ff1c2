from __future__ import annotations

import bz2
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.base.errors import DataError, UsageError
from benchmarks.data.folds import official_folds
from benchmarks.data.tasks import TASKS
from benchmarks.results.export import write_submission
from benchmarks.results.submission import Submission, read_submission, rescore
from tests.benchmarks.results.made_submissions import regression, with_hash


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


def test_a_row_that_is_predicted_twice_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(content)
    name = "mb-jdft2d-001"
    path = tmp_path / "results.json"
    path.write_text(text.replace(f'"{name}": ', f'"{name}": 0.5, "{name}": ', 1))
    with pytest.raises(DataError, match=f"is not valid JSON .an object in it has the key '{name}' twice"):
        read_submission(path)


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels else {}


def test_deeply_nested_file_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    content["user_metadata"] = nested(90)
    file.write_text(json.dumps(with_hash(content)))
    assert read_submission(file).user_metadata == nested(90)
    file.write_text(json.dumps(content | {"user_metadata": nested(480)}))
    with pytest.raises(DataError, match=r"results\.json is not valid JSON \(.* are nested more than"):
        read_submission(file)


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
