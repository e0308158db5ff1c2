"""Comparisons of the variants of a grid."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ablations import comparison
from ablations.comparison import Declaration, compare_finished, declare_contrasts, scores_in_store
from ablations.detection import Detection
from ablations.judge import Judge
from ablations.scores import summarise_variant
from benchmarks.base.zip_path import open_path
from benchmarks.results.contrasts import KnownNoise, known_noise
from benchmarks.results.store import Run
from tests.ablations.made_variants import N_TEST, finished
from tests.conftest import REPOSITORY


def test_declared_contrasts_are_compared_in_their_order() -> None:
    grid = [finished("mlp", 2.0, seeds=2), finished("capsule", 1.0, seeds=2), finished("egnn", 1.01, seeds=2)]
    found = compare_finished(grid, Declaration(declare_contrasts([one.setting for one in grid])))
    assert [(each.first, each.second) for each in found] == [("mlp", "capsule"), ("egnn", "capsule")]
    clear, same = found
    assert (clear.on_these_folds.verdict, clear.on_new_data.verdict) == ("worse", "worse")
    assert same.on_these_folds.verdict in {"no significant difference", "equivalent"}
    rows = [summarise_variant(one, []) for one in grid]
    assert clear.difference == pytest.approx(rows[0].mean - rows[1].mean)
    assert (clear.folds, clear.seeds, clear.rows) == ([0, 1, 2, 3, 4], [0, 1], 5 * N_TEST)
    (only,) = compare_finished(grid, Declaration([("egnn", "mlp")], margin=0.9))
    assert (only.on_these_folds.verdict, only.margin) == ("equivalent", pytest.approx(0.9 * rows[0].mean))


def test_variants_are_compared_on_what_both_have() -> None:
    begun, absent = finished("mlp", 2.0, folds=2), replace(finished("tfn", 1.0), records={}, score={}, predictions={})
    declared = Declaration([("mlp", "capsule"), ("tfn", "capsule")])
    (only,) = compare_finished([begun, finished("capsule", 1.0, seeds=3), absent], declared)
    assert (only.folds, only.seeds, only.rows) == ([0, 1], [0], 2 * N_TEST)
    assert only.on_these_folds.reason == "no fold has two seeds of both"


def test_folds_count_by_the_share_of_rows_that_they_test() -> None:
    grid = [finished("mlp", 1.0), finished("capsule", 1.1)]
    less = {training: {**record, "rows": {"train": 80, "validation": 20, "test": N_TEST}}
            for training, record in grid[0].records.items()}  # fmt: skip
    (usual,), (limited,) = (
        compare_finished(each, Declaration([("mlp", "capsule")]))
        for each in (grid, [replace(grid[0], records=less), grid[1]])
    )
    # 200 of 800 rows, and 200 of 100: 1/5 + 1/4 and 1/5 + 2 of the variance between folds.
    assert limited.on_new_data.detectable == pytest.approx(usual.on_new_data.detectable * np.sqrt(2.2 / 0.45))


def test_a_classification_is_better_above_and_validation_errors_below() -> None:
    good, bad = (finished(name, error, seeds=2, kind="classification") for name, error in (("mlp", 0.1), ("tfn", 0.3)))
    (only,) = compare_finished([good, bad], Declaration([("mlp", "tfn")]))
    assert (only.on_these_folds.verdict, only.difference > 0) == ("better", True)
    score = {training: 0.1 + 0.01 * training.seed + 0.001 * training.fold for training in good.score}
    first, second = (
        replace(one, judge=Judge("classification", "validation"), predictions={}, score=values)
        for one, values in ((good, score), (bad, {training: 2 * value for training, value in score.items()}))
    )
    (only,) = compare_finished([first, second], Declaration([("mlp", "tfn")]))
    assert (only.on_these_folds.verdict, only.difference < 0) == ("better", True)
    assert only.on_new_data.reason == "validation rows judge"


def test_the_target_is_what_is_to_be_detected_or_five_per_cent() -> None:
    assert Declaration([]).target == 0.05
    assert Declaration([], detection=Detection(0.1, 3, 10)).target == 0.1


def test_noise_is_known_from_all_runs_of_the_task_with_two_seeds() -> None:
    results = REPOSITORY / "docs" / "results"
    squares, df = 0.0, 0
    scores: dict[tuple[str, int], list[float]] = {}
    for line in csv.DictReader((results / "matbench_phonons.csv").open()):
        if line["variant"] in {"capsule", "mlp"} and line["run"].startswith(("capsule-9911e0d381", "mlp-c06e24a932")):
            scores.setdefault((line["variant"], int(line["fold"])), []).append(float(line["mae"]))
    for of_fold in scores.values():
        squares += np.var(np.divide(of_fold, np.mean(of_fold)), ddof=1) * (len(of_fold) - 1)
        df += len(of_fold) - 1
    folder, judge = open_path(results / "phonons-blocks.zip") / "matbench_phonons", Judge("regression")
    found = known_noise(scores_in_store(folder, judge, "folds", {None}))
    assert found == KnownNoise(pytest.approx(np.sqrt(squares / df)), 20, 2)
    assert df == 20
    for split, limits in (("holdout:0.8/0.1/0.1", {None}), ("folds", {100})):
        assert list(scores_in_store(folder, judge, split, limits)) == []


def test_noise_is_not_that_of_models_fitted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_path(REPOSITORY / "docs" / "results" / "phonons-blocks.zip") / "matbench_phonons"
    runs = list(scores_in_store(folder, Judge("regression"), "folds", {None}))
    monkeypatch.setattr(comparison, "is_fitted", lambda name: name == "capsule")
    fewer = list(scores_in_store(folder, Judge("regression"), "folds", {None}))
    assert 0 < len(fewer) < len(runs)


def test_a_run_that_cannot_be_read_is_skipped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = open_path(REPOSITORY / "docs" / "results" / "phonons-blocks.zip") / "matbench_phonons"
    judge = Judge("regression", "validation")
    runs = list(scores_in_store(folder, judge, "folds", {None}))
    monkeypatch.setattr(
        Run, "read_history", lambda run, _: [] if "capsule" in run.path.name else [{"validation": 1.0}] * 999
    )
    fewer = list(scores_in_store(folder, judge, "folds", {None}))
    assert 0 < len(fewer) < len(runs)
    assert "lacks the epoch that metrics.json calls best" in caplog.text


def test_nothing_is_known_of_noise_where_all_were_trained_once(tmp_path: Path) -> None:
    assert known_noise(scores_in_store(tmp_path, Judge("regression"), "folds", {None})) is None
    once = open_path(REPOSITORY / "docs" / "results" / "log_kvrh-blocks.zip") / "matbench_log_kvrh"
    assert known_noise(scores_in_store(once, Judge("regression"), "folds", {None})) is None
    assert list(scores_in_store(once, Judge("classification"), "folds", {None})) == []
