"""Comparisons of variants, and their verdicts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ablations.comparison import Comparison, compare
from ablations.scores import FinishedVariant, summarise_variant
from benchmarks.base.errors import DataError
from benchmarks.results.metrics import classification_metrics, regression_metrics
from benchmarks.results.store import Predictions, Training
from tests.ablations.made_variants import N_TEST, finished


def by_pair(comparisons: list[Comparison]) -> dict[tuple[str, str], Comparison]:
    return {(comparison.variant, comparison.against): comparison for comparison in comparisons}


def test_clear_difference_is_found_and_chance_is_not() -> None:
    best, same, worse = finished("capsule", 1.0), finished("egnn", 1.01), finished("mlp", 2.0)
    found = by_pair(compare([worse, best, same]))
    winner = min((best, same), key=lambda one: summarise_variant(one, []).mean)
    other = {"capsule": "egnn", "egnn": "capsule"}[winner.setting.name]
    assert found[other, winner.setting.name].verdict == "not distinguishable"
    clear = found["mlp", winner.setting.name]
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

    def with_fold(whole: FinishedVariant, part: Predictions) -> FinishedVariant:
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
    assert sorted([easy, whole], key=FinishedVariant.rank) == [whole, easy]
    assert [(c.variant, c.against) for c in compare([easy, whole])] == [("mlp", "capsule")]


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
    assert only.difference == pytest.approx(summarise_variant(bad, []).mean - summarise_variant(good, []).mean)


def test_a_few_rows_of_a_class_decide_nothing() -> None:
    def rare(block: str, hits: float) -> FinishedVariant:
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
