from __future__ import annotations

import bz2
import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from benchmarks.base.errors import RunError
from benchmarks.results.metrics import (
    classification_metrics,
    matbench_scores,
    mean_absolute_deviation,
    primary_metric,
    regression_metrics,
)


def test_regression_by_hand():
    scores = regression_metrics([1.0, 2.0, 3.0, 6.0], [1.0, 3.0, 3.0, 3.0])
    assert scores == {
        "mae": 1.0,
        "rmse": pytest.approx(math.sqrt(10 / 4)),
        "r2": pytest.approx(1 - 10 / 14),
        "max_error": 3.0,
    }


def test_regression_equals_scikit_learn():
    rng = np.random.default_rng(0)
    target, prediction = rng.normal(size=(2, 100))
    scores = regression_metrics(target, prediction)
    assert scores["mae"] == pytest.approx(sklearn_metrics.mean_absolute_error(target, prediction))
    assert scores["rmse"] == pytest.approx(sklearn_metrics.root_mean_squared_error(target, prediction))
    assert scores["r2"] == pytest.approx(sklearn_metrics.r2_score(target, prediction))
    assert scores["max_error"] == pytest.approx(sklearn_metrics.max_error(target, prediction))


def test_r2_of_equal_targets_is_undefined():
    assert math.isnan(regression_metrics([2.0, 2.0], [1.0, 2.0])["r2"])


def test_single_precision_predictions_are_scored_in_double():
    target = np.full(1000, 1e4)
    prediction = np.full(1000, 1e4 + 1, dtype=np.float32)
    assert regression_metrics(target, prediction)["mae"] == 1.0


def test_classification_by_hand():
    scores = classification_metrics([0, 0, 0, 1], [0.1, 0.6, 0.2, 0.55])
    assert scores == {
        "accuracy": 0.75,
        "balanced_accuracy": pytest.approx((2 / 3 + 1) / 2),
        "f1": pytest.approx(2 / 3),
        "rocauc": pytest.approx(2 / 3),
        "matbench_rocauc": pytest.approx((2 / 3 + 1) / 2),
    }


def test_matbench_rocauc_is_the_balanced_accuracy_and_not_the_area():
    rng = np.random.default_rng(0)
    target = rng.random(500) < 0.3
    probability = np.clip(0.3 * target + 0.7 * rng.random(500), 0, 1)
    scores = classification_metrics(target, probability)
    assert scores["matbench_rocauc"] == pytest.approx(scores["balanced_accuracy"])
    assert scores["rocauc"] == pytest.approx(sklearn_metrics.roc_auc_score(target, probability))
    assert abs(scores["rocauc"] - scores["matbench_rocauc"]) > 0.01


def test_probability_of_one_half_counts_as_false():
    assert classification_metrics([0, 1], [0.5, 0.500001])["accuracy"] == 1.0


@pytest.mark.filterwarnings("error")
def test_one_class_leaves_the_areas_undefined():
    scores = classification_metrics([0, 0], [0.1, 0.2])
    assert scores["accuracy"] == 1.0
    assert scores["f1"] == 0.0
    assert all(math.isnan(scores[name]) for name in ("balanced_accuracy", "rocauc", "matbench_rocauc"))


def test_matbench_scores_are_the_ones_a_submission_needs():
    assert set(matbench_scores("regression", [1.0, 2.0], [1.0, 1.0])) == {"mae", "rmse", "mape", "max_error"}
    assert set(matbench_scores("classification", [0, 1], [0.1, 0.8])) == {
        "accuracy",
        "balanced_accuracy",
        "f1",
        "rocauc",
    }


@pytest.mark.filterwarnings("error")
def test_percentage_error_leaves_out_vanishing_targets():
    assert matbench_scores("regression", [0.0, 2.0, -4.0], [1.0, 1.0, -3.0])["mape"] == pytest.approx((0.5 + 0.25) / 2)
    assert math.isnan(matbench_scores("regression", [0.0], [1.0])["mape"])


@pytest.mark.parametrize("score", [regression_metrics, classification_metrics])
@pytest.mark.parametrize(("target", "prediction"), [([], []), ([0, 1], [0.5]), ([[0], [1]], [[0.5], [0.5]])])
def test_arrays_that_do_not_match(score, target, prediction):
    with pytest.raises(ValueError, match="cannot be compared"):
        score(target, prediction)


@pytest.mark.parametrize("score", [regression_metrics, classification_metrics])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_diverged_predictions(score, broken):
    with pytest.raises(RunError, match="1 of 2 predictions are not finite"):
        score([0, 1], [0.5, broken])


def test_no_probability():
    with pytest.raises(ValueError, match="between 0 and 1"):
        classification_metrics([0, 1], [-3.0, 4.0])


def test_no_label():
    with pytest.raises(ValueError, match="must be 0 or 1"):
        classification_metrics([0, 2], [0.1, 0.9])


def test_primary_metrics_exist_and_point_the_right_way():
    error, accuracy = primary_metric("regression"), primary_metric("classification")
    assert error.name in regression_metrics([1.0, 2.0], [1.0, 1.0])
    assert accuracy.name in classification_metrics([0, 1], [0.1, 0.8])
    assert not error.higher_is_better
    assert accuracy.higher_is_better


def test_mean_absolute_deviation():
    assert mean_absolute_deviation([0.0, 0.0, 3.0]) == pytest.approx(4 / 3)


def test_mean_absolute_deviation_of_phonons_is_the_official_one(data_dir: Path):
    content = json.loads(gzip.decompress((data_dir / "matbench_phonons.json.gz").read_bytes()))
    targets = [target for _, target in content["data"]]
    # "mad" in matbench_v0.1_dataset_metadata.json of matbench 0.6
    assert mean_absolute_deviation(targets) == pytest.approx(323.78696979348734)


@pytest.mark.parametrize(
    ("name", "rows", "target_of"),
    [
        ("matbench_phonons", "matbench_phonons", lambda row: row["last phdos peak"]),
        ("matbench_mp_is_metal", "matbench_mp_gap", lambda row: {i: gap == 0 for i, gap in row["gap pbe"].items()}),
    ],
    ids=["regression", "classification"],
)
def test_published_scores_are_reproduced(name, rows, target_of, data_dir: Path):
    folder = data_dir.parent / "leaderboard"
    if not folder.is_dir():
        pytest.skip(f"needs published submissions: {folder} is absent")
    truth = target_of(json.loads(bz2.decompress((folder / f"{rows}.rows.json.bz2").read_bytes())))
    submission = json.loads(gzip.decompress((folder / "coNGN.results.json.gz").read_bytes()))
    kind = "classification" if name == "matbench_mp_is_metal" else "regression"
    for fold in submission["tasks"][name]["results"].values():
        target = [truth[str(int(mbid.rsplit("-", 1)[1]) - 1)] for mbid in fold["data"]]
        assert matbench_scores(kind, target, list(fold["data"].values())) == pytest.approx(fold["scores"])
