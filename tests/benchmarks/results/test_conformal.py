"""Intervals and sets of labels calibrated by rows that were held out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from benchmarks.base.errors import DataError
from benchmarks.results.conformal import (
    Calibrator,
    coverage_range,
    merge_intervals,
    merge_labels,
    read_calibrators,
    rows_needed,
    spread,
)
from benchmarks.results.store import Run, Training
from tests.benchmarks.conftest import replace_file
from tests.reports.made_runs import make_run, official

Predict = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def heavy_tailed(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets [n] and predictions of three seeds [3, n] whose errors are large for some rows, as is their spread."""
    target, difficulty = rng.normal(size=n), rng.exponential(size=n)
    return target, target + difficulty * (rng.standard_t(3, n) + rng.normal(size=(3, n)))


def labelled(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels [n], and overconfident probabilities of two seeds [2, n]."""
    truth = rng.uniform(size=n)
    return (rng.uniform(size=n) < truth).astype(float), np.clip(2 * truth - 0.5 + rng.normal(0, 0.1, (2, n)), 0, 1)


def covered(kind: str, calibrator: Calibrator, target: np.ndarray, prediction: np.ndarray, level: float) -> float:
    """The share of rows whose interval, or set, covers their target."""
    if kind == "labels":
        return float(calibrator.labels(prediction, level)[target.astype(int), np.arange(len(target))].mean())
    low, high = calibrator.interval(prediction, level, by_spread=kind == "by_spread")
    return float(((low <= target) & (target <= high)).mean())


@given(st.integers(0, 2**32 - 1), st.integers(5, 60), st.sampled_from([0.5, 0.8, 0.9]))
@pytest.mark.parametrize("kind", ["absolute", "by_spread", "labels"])
def test_exchangeable_rows_are_covered_as_often_as_the_level_says(kind: str, seed: int, n: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    draw: Predict = labelled if kind == "labels" else heavy_tailed
    shares = []
    for _ in range(60):
        target, prediction = draw(rng, n + 200)
        calibrator = Calibrator(target[:n], prediction[:, :n])
        shares.append(covered(kind, calibrator, target[n:], prediction[:, n:], level))
    k = math.ceil(round((n + 1) * level, 9))
    # Five standard errors of the mean over 60 studies; with ties, as between clipped probabilities, more are covered.
    expected, error = (k / (n + 1), 5 * math.sqrt(betabinom.var(200, k, n + 1 - k) / 60) / 200) if k <= n else (1, 0)
    assert np.mean(shares) >= expected - error - 1e-9
    if kind != "labels":
        assert np.mean(shares) <= expected + error + 1e-9


@pytest.mark.parametrize(("n", "level"), [(19, 0.9), (50, 0.9), (50, 0.5)])
def test_the_range_of_coverage_is_that_of_studies(n: int, level: float) -> None:
    rng = np.random.default_rng(0)
    low, high = coverage_range([n, n], [100, 150], level)
    inside = 0
    for _ in range(400):
        shares = []
        for m in (100, 150):
            target, prediction = heavy_tailed(rng, n + m)
            shares.append(
                m * covered("", Calibrator(target[:n], prediction[:, :n]), target[n:], prediction[:, n:], level)
            )
        inside += low <= sum(shares) / 250 <= high
    assert 0.92 <= inside / 400 <= 0.99


def test_the_range_of_coverage_of_one_fold_is_beta_binomial() -> None:
    low, high = coverage_range([50], [250], 0.9)
    exact = betabinom(250, 46, 5)
    assert (low, high) == (exact.ppf(0.025) / 250, exact.ppf(0.975) / 250)
    assert coverage_range([50, 50], [25_000, 1], 0.9).low == pytest.approx(
        coverage_range([50], [25_000], 0.9).low, abs=1e-3
    )
    assert coverage_range([5], [10], 0.9) == (1, 1)  # too few rows to leave any out


@pytest.mark.parametrize(("level", "needed"), [(0.9, 9), (0.8, 4), (0.5, 1), (0.95, 19), (0.99, 99), (0.01, 1)])
def test_fewer_rows_than_the_level_needs_leave_an_interval_without_ends(level: float, needed: int) -> None:
    assert rows_needed(level) == needed
    prediction = np.zeros((1, 2))
    enough = Calibrator(np.arange(1.0, needed + 1), np.zeros((1, needed)))
    assert np.isfinite(enough.interval(prediction, level)).all()
    if needed > 1:
        few = Calibrator(np.arange(1.0, needed), np.zeros((1, needed - 1)))
        assert few.interval(prediction, level).tolist() == [[-math.inf] * 2, [math.inf] * 2]
        assert Calibrator(np.zeros(needed - 1), np.zeros((1, needed - 1))).labels(prediction, level).all()


def test_the_half_width_is_a_residual_by_the_rank_of_the_finite_sample() -> None:
    calibrator = Calibrator(np.arange(1.0, 20.0), np.zeros((1, 19)))
    for level, rank in ((0.9, 18), (0.05, 1), (0.1, 2), (0.95, 19)):
        assert calibrator.interval(np.array([[3.0]]), level).ravel().tolist() == [3 - rank, 3 + rank]


def test_intervals_by_spread_are_wide_where_seeds_disagree_and_exist_where_they_agree() -> None:
    target, prediction = heavy_tailed(np.random.default_rng(0), 50)
    calibrator = Calibrator(target, prediction)
    assert calibrator.has_spread
    new = np.array([[1.0, 1.0], [1.0, 3.0], [1.0, 5.0]])
    assert spread(new).tolist() == [0, 2]
    low, high = calibrator.interval(new, 0.8, by_spread=True)
    assert 0 < high[0] - low[0] < high[1] - low[1]
    agreeing = Calibrator(target, np.zeros((2, 50)))
    assert np.isfinite(agreeing.interval(np.zeros((2, 1)), 0.8, by_spread=True)).all()


def test_folds_are_merged_by_medians_and_majorities() -> None:
    ends = [np.array([[0.0], [1.0]]), np.array([[0.5], [3.0]]), np.array([[-9.0], [2.0]])]
    assert merge_intervals(ends).tolist() == [[0.0], [2.0]]
    assert merge_intervals(ends[:1]) is not ends[0]
    held = [np.array([[True], [False]]), np.array([[True], [True]]), np.array([[False], [False]])]
    assert merge_labels(held).tolist() == [[True], [False]]
    assert merge_labels(held[:2]).tolist() == [[True], [True]]


def test_the_rows_of_a_fold_are_read_for_all_seeds(tmp_path) -> None:
    held_out = {"training.validation": 0.1}
    run = make_run(tmp_path / "runs", official(tmp_path / "data"), flags=held_out, folds=[0, 1], seeds=[0, 1])
    calibrators = read_calibrators(run, run.trainings(), "calibration")
    assert {fold: calibrator.prediction.shape for fold, calibrator in calibrators.items()} == {0: (2, 2), 1: (2, 2)}
    stored = run.read_calibration(Training(1, 0))
    assert stored is not None
    assert np.array_equal(calibrators[0].prediction[1], stored.prediction)
    without = make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0])
    assert read_calibrators(without, without.trainings(), "calibration") == {}
    (tested,) = read_calibrators(without, without.trainings(), "test").values()
    assert np.array_equal(tested.target, without.read_predictions(Training(0, 0)).target)

    folder = run.folder / "seed_1" / "fold_0"
    lines = (folder / "calibration.csv").read_text().splitlines()
    replace_file(folder, "calibration.csv", "\n".join([lines[0], lines[2], lines[1]]).encode())
    with pytest.raises(DataError, match=r"other rows calibrate fold 0, seed 1 than fold 0, seed 0; train one of them"):
        read_calibrators(Run(run.path), run.trainings(), "calibration")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["rows"]["calibration"] == 2
