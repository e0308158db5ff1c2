"""Scores of a variant, and its line of the table."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ablations.scores import FinishedVariant, summarise_variant
from benchmarks.results.store import Training
from tests.ablations.made_variants import FOLDS, N_TEST, finished


def test_table_gives_means_and_both_spreads_as_numpy_does() -> None:
    one = finished("mlp", 1.0, seeds=3, fold_effect=0.2, parameters=110)
    row = summarise_variant(one, [one, finished("capsule", 1.0)])
    mae = np.array([[one.records[Training(s, f)]["metrics"]["mae"] for f in range(FOLDS)] for s in range(3)])
    assert row.mean == pytest.approx(mae.mean())
    assert row.std_folds == pytest.approx(mae.mean(0).std())
    assert row.std_seeds == pytest.approx(mae.mean(1).std(ddof=1))
    assert (row.folds, row.seeds, row.trainings, row.rows) == (list(range(5)), [0, 1, 2], 15, 5 * N_TEST)
    assert row.parameters_beside_capsule == pytest.approx(0.1)
    assert row.epoch_seconds == pytest.approx(30 / 12)


def test_parameters_are_listed_by_part_where_they_were_recorded() -> None:
    parts = {"features": 70, "block": 20, "readout": 0, "head": 10}
    assert summarise_variant(finished("mlp", 1.0, parts=parts), []).parameters_by_part == parts
    assert summarise_variant(finished("mlp", 1.0), []).parameters_by_part == {}


def test_spread_over_seeds_needs_the_same_folds_of_each() -> None:
    one = finished("mlp", 1.0, seeds=2)
    row = summarise_variant(replace(one, records=dict(list(one.records.items())[:-1])), [one])
    assert math.isnan(row.std_seeds)
    assert math.isnan(row.parameters_beside_capsule)


def test_score_that_is_no_number_is_ranked_last() -> None:
    broken, whole = finished("mlp", 0.1), finished("capsule", 1.0)
    broken = replace(broken, score={**broken.score, Training(0, 0): math.nan})
    assert sorted([broken, whole], key=FinishedVariant.rank) == [whole, broken]
    row = summarise_variant(broken, [])
    assert math.isnan(row.mean)
    assert math.isnan(row.std_folds)


def test_predictions_averaged_over_seeds_are_scored_as_one_model() -> None:
    one = finished("mlp", 1.0, seeds=3)
    row = summarise_variant(one, [])
    by_hand = []
    for fold in range(FOLDS):
        parts = [one.predictions[Training(seed, fold)] for seed in range(3)]
        by_hand.append(np.abs(np.mean([part.prediction for part in parts], axis=0) - parts[0].target).mean())
    assert row.ensemble == pytest.approx(np.mean(by_hand))
    assert row.ensemble < 0.7 * row.mean  # independent noise of three seeds: 1 / sqrt(3)
    votes = finished("mlp", 0.2, seeds=3, kind="classification")
    assert summarise_variant(votes, []).ensemble > summarise_variant(votes, []).mean


def test_seeds_are_not_averaged_where_a_fold_lacks_one() -> None:
    one = finished("mlp", 1.0, seeds=2)
    lacking = dict(list(one.predictions.items())[:-1])
    assert math.isnan(replace(one, predictions=lacking).ensemble())
    assert math.isnan(finished("mlp", 1.0).ensemble())
