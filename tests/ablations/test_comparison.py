from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ablations.comparison import Comparison, Finished, compare, summary_row
from ablations.grid import Setting
from ablations.judge import Judge
from benchmarks.base.errors import DataError
from benchmarks.results.metrics import classification_metrics, regression_metrics
from benchmarks.results.run_config import build_config
from benchmarks.results.store import Predictions, Training

N_TEST, FOLDS = 200, 5


def finished(
    block: str,
    error: float,
    *,
    seeds: int = 1,
    folds: int = FOLDS,
    fold_effect: float = 0.0,
    values: dict[str, str] | None = None,
    parameters: int = 100,
    kind: str = "regression",
) -> Finished:
    """A block whose predictions are off by normal noise of that width, or whose labels are wrong so often."""
    records: dict[Training, dict[str, Any]] = {}
    predictions: dict[Training, Predictions] = {}
    for seed in range(seeds):
        for fold in range(folds):
            truth = np.random.default_rng(fold).normal(size=N_TEST)
            noise = np.random.default_rng([fold, seed, len(block), ord(block[0])])
            if kind == "regression":
                prediction = truth + noise.normal(0, error + fold_effect * fold, N_TEST)
                metrics = regression_metrics(truth, prediction)
            else:
                truth = (truth > 0).astype(float)
                prediction = np.where(noise.random(N_TEST) < error, 1 - truth, truth)
                metrics = classification_metrics(truth, prediction)
            training = Training(seed, fold)
            ids = [f"row-{fold}-{i}" for i in range(N_TEST)]
            predictions[training] = Predictions(ids, truth, prediction)
            records[training] = {
                "metrics": metrics, "parameters": parameters, "wall_seconds": 30.0, "epochs": 10 + fold,
                "peak_memory_bytes": 2**30, "rows": {"train": 720, "validation": 80, "test": N_TEST},
            }  # fmt: skip
    setting = Setting(block, values or {}, build_config("prototypes", "mlp"))
    judge = Judge(kind)  # type: ignore[arg-type]
    score = {training: record["metrics"][judge.metric.name] for training, record in records.items()}
    return Finished(setting, judge, records, score, predictions)


def by_pair(comparisons: list[Comparison]) -> dict[tuple[str, str], Comparison]:
    return {(comparison.variant, comparison.against): comparison for comparison in comparisons}


def test_table_gives_means_and_both_spreads_as_numpy_does() -> None:
    one = finished("mlp", 1.0, seeds=3, fold_effect=0.2, parameters=110)
    row = summary_row(one, [one, finished("capsule", 1.0)])
    mae = np.array([[one.records[Training(s, f)]["metrics"]["mae"] for f in range(FOLDS)] for s in range(3)])
    assert row.mean == pytest.approx(mae.mean())
    assert row.std_folds == pytest.approx(mae.mean(0).std())
    assert row.std_seeds == pytest.approx(mae.mean(1).std(ddof=1))
    assert (row.folds, row.seeds, row.trainings, row.rows) == (list(range(5)), [0, 1, 2], 15, 5 * N_TEST)
    assert row.parameters_beside_capsule == pytest.approx(0.1)
    assert row.epoch_seconds == pytest.approx(30 / 12)


def test_spread_over_seeds_needs_the_same_folds_of_each() -> None:
    one = finished("mlp", 1.0, seeds=2)
    row = summary_row(replace(one, records=dict(list(one.records.items())[:-1])), [one])
    assert math.isnan(row.std_seeds)
    assert math.isnan(row.parameters_beside_capsule)


def test_clear_difference_is_found_and_chance_is_not() -> None:
    best, same, worse = finished("capsule", 1.0), finished("egnn", 1.01), finished("mlp", 2.0)
    found = by_pair(compare([worse, best, same]))
    winner = min((best, same), key=lambda one: summary_row(one, []).mean)
    other = {"capsule": "egnn", "egnn": "capsule"}[winner.setting.block]
    assert found[other, winner.setting.block].verdict == "not distinguishable"
    clear = found["mlp", winner.setting.block]
    assert clear.verdict == "worse"
    assert 0 < clear.low < clear.difference < clear.high
    assert clear.p_holm < 0.05
    assert clear.rows == 5 * N_TEST
    per_row = np.abs(worse.predictions[Training(0, 0)].prediction - worse.predictions[Training(0, 0)].target)
    assert per_row.mean() == pytest.approx(worse.records[Training(0, 0)]["metrics"]["mae"])


def test_each_block_meets_the_best_and_capsule_once() -> None:
    trio = [finished("mlp", 0.5), finished("capsule", 1.0), finished("egnn", 2.0)]
    assert sorted(by_pair(compare(trio))) == [("capsule", "mlp"), ("egnn", "capsule"), ("egnn", "mlp")]


def test_p_is_adjusted_for_all_comparisons_with_a_reference_on_either_side(monkeypatch: pytest.MonkeyPatch) -> None:
    p_values = iter([0.03, 0.5, 0.02])  # in the order of comparison
    monkeypatch.setattr("ablations.comparison.corrected_t_test", lambda *_: next(p_values))
    found = compare([finished("mlp", 0.5), finished("capsule", 1.0), finished("egnn", 2.0)])
    assert [(one.variant, one.against, one.p) for one in found] == [
        ("capsule", "mlp", 0.03), ("egnn", "mlp", 0.5), ("egnn", "capsule", 0.02)
    ]  # fmt: skip
    # Of mlp: 0.03 and 0.5. Of capsule: 0.03 and 0.02. What is in both families takes the larger value.
    assert [one.p_holm for one in found] == pytest.approx([0.06, 0.5, 0.04])


def test_interval_is_that_of_the_mean_over_folds_of_unlike_sizes() -> None:
    one, other = (finished(block, 1.0, seeds=2, folds=2) for block in ("capsule", "mlp"))
    training = Training(1, 0)
    few = Predictions(*(part[:20] for part in one.predictions[training]))
    off = few._replace(prediction=few.target + 10 + np.random.default_rng(0).normal(size=20))

    def with_fold(whole: Finished, part: Predictions) -> Finished:
        """Let fold 0 be these rows, and seed 0 lack it."""
        trainings = [Training(0, 1), training, Training(1, 1)]
        score = {**whole.score, training: regression_metrics(part.target, part.prediction)["mae"]}
        return replace(
            whole,
            records={each: whole.records[each] for each in trainings},
            predictions={**{each: whole.predictions[each] for each in trainings}, training: part},
            score={each: score[each] for each in trainings},
        )

    (only,) = compare([with_fold(one, few), with_fold(other, off)])
    assert only.low < only.difference < only.high


def test_one_fold_claims_its_rows_alone() -> None:
    (only,) = compare([finished("capsule", 1.0, folds=1), finished("mlp", 2.0, folds=1)])
    assert math.isnan(only.p)
    assert only.verdict == "worse on these rows; one fold says nothing of other training rows"


def test_blocks_are_compared_on_what_both_have() -> None:
    (only,) = compare([finished("capsule", 1.0, seeds=3), finished("mlp", 2.0, folds=2)])
    assert (only.folds, only.seeds, only.rows) == ([0, 1], [0], 2 * N_TEST)
    assert compare([finished("capsule", 1.0)]) == []


def test_incomplete_block_is_ranked_last_and_is_not_the_best() -> None:
    easy = finished("mlp", 0.1, folds=1)
    easy = replace(easy, missing=4)
    whole = finished("capsule", 1.0)
    assert sorted([easy, whole], key=Finished.rank) == [whole, easy]
    assert [(c.variant, c.against) for c in compare([easy, whole])] == [("mlp", "capsule")]


def test_score_that_is_no_number_is_ranked_last() -> None:
    broken, whole = finished("mlp", 0.1), finished("capsule", 1.0)
    broken = replace(broken, score={**broken.score, Training(0, 0): math.nan})
    assert sorted([broken, whole], key=Finished.rank) == [whole, broken]
    row = summary_row(broken, [])
    assert math.isnan(row.mean)
    assert math.isnan(row.std_folds)


def test_axes_are_compared_with_capsule_at_the_same_values() -> None:
    grid = [
        finished(block, error, values={"sen.rounds": rounds})
        for block, rounds, error in (("capsule", "1", 1.0), ("capsule", "2", 1.5), ("mlp", "1", 2.0), ("mlp", "2", 2.5))
    ]
    pairs = by_pair(compare(grid))
    assert ("mlp, sen.rounds=2", "capsule, sen.rounds=2") in pairs
    assert ("mlp, sen.rounds=2", "capsule, sen.rounds=1") in pairs  # the best
    assert len(pairs) == 4


def test_classification_is_judged_by_balanced_accuracy() -> None:
    good, bad = finished("capsule", 0.1, kind="classification"), finished("mlp", 0.3, kind="classification")
    (only,) = compare([bad, good])
    assert (only.variant, only.against, only.verdict) == ("mlp", "capsule", "worse")
    assert only.low < only.difference < only.high < 0
    assert only.difference == pytest.approx(summary_row(bad, []).mean - summary_row(good, []).mean)


def test_a_few_rows_of_a_class_decide_nothing() -> None:
    def rare(block: str, hits: float) -> Finished:
        one = finished(block, 0.0, folds=1, kind="classification")
        truth = np.zeros(N_TEST)
        truth[:9] = 1
        predictions = {u: part._replace(target=truth, prediction=hits * truth) for u, part in one.predictions.items()}
        metrics = classification_metrics(truth, hits * truth)
        score = dict.fromkeys(one.score, metrics[one.metric.name])
        return replace(one, predictions=predictions, score=score)

    (only,) = compare([rare("capsule", 1.0), rare("mlp", 0.0)])
    assert only.difference == -0.5
    assert math.isnan(only.low)
    assert only.verdict == "not distinguishable"


def test_other_test_rows_cannot_be_compared() -> None:
    one, other = finished("capsule", 1.0), finished("mlp", 1.0)
    part = other.predictions[Training(0, 2)]
    changed = {**other.predictions, Training(0, 2): part._replace(ids=part.ids[::-1])}
    with pytest.raises(DataError, match="not tested on the same rows of fold 2, seed 0"):
        compare([one, replace(other, predictions=changed)])


def test_predictions_averaged_over_seeds_are_scored_as_one_model() -> None:
    one = finished("mlp", 1.0, seeds=3)
    row = summary_row(one, [])
    by_hand = []
    for fold in range(FOLDS):
        parts = [one.predictions[Training(seed, fold)] for seed in range(3)]
        by_hand.append(np.abs(np.mean([part.prediction for part in parts], axis=0) - parts[0].target).mean())
    assert row.ensemble == pytest.approx(np.mean(by_hand))
    assert row.ensemble < 0.7 * row.mean  # independent noise of three seeds: 1 / sqrt(3)
    votes = finished("mlp", 0.2, seeds=3, kind="classification")
    assert summary_row(votes, []).ensemble > summary_row(votes, []).mean


def test_seeds_are_not_averaged_where_a_fold_lacks_one() -> None:
    one = finished("mlp", 1.0, seeds=2)
    lacking = dict(list(one.predictions.items())[:-1])
    assert math.isnan(replace(one, predictions=lacking).ensemble())
    assert math.isnan(finished("mlp", 1.0).ensemble())
