from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.results.statistics import (
    Estimate,
    bootstrap,
    bootstrap_all,
    bootstrap_mean,
    corrected_variance,
    holm,
    interval_of_share,
    p_of_share,
    share_tested,
)


def test_bootstrap_interval_has_the_width_of_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 4000)
    low, high = bootstrap_mean(values)
    error = values.std() / np.sqrt(len(values))
    assert low < values.mean() < high
    assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.06)
    assert bootstrap_mean(values) == (low, high)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    intervals = [bootstrap_mean(rng.exponential(1.0, 60), seed=i) for i in range(200)]
    covered = np.mean([low <= 1 <= high for low, high in intervals])
    assert 0.88 <= covered <= 0.98


def test_bootstrap_keeps_the_values_of_a_row_together() -> None:
    rng = np.random.default_rng(2)
    one = rng.normal(0, 10, 300)
    other = one + rng.normal(0.1, 0.1, 300)

    def difference(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        return second.mean(axis) - first.mean(axis)

    low, high = bootstrap(difference, one, other)
    assert 0.05 < low < high < 0.15


def test_bootstrap_of_one_row_knows_nothing_and_of_none_is_refused() -> None:
    assert all(map(math.isnan, bootstrap_mean([1.0])))
    with pytest.raises(ValueError, match="needs rows"):
        bootstrap_mean([])


def test_corrected_variance_against_the_formula_and_the_ordinary_test() -> None:
    from scipy.stats import ttest_1samp

    differences = [1.0, 2.0, 0.5, 1.5, 3.0]

    def p_value(test_to_train: float) -> float:
        return Estimate(1.6, math.sqrt(corrected_variance(differences, test_to_train)), 4).p_value()

    assert p_value(0.0) == pytest.approx(ttest_1samp(differences, 0).pvalue)
    # mean 1.6, variance 0.925: t = 1.6 / sqrt((1/5 + 1/4) * 0.925) = 2.48, with 4 degrees of freedom.
    assert corrected_variance(differences, 0.25) == pytest.approx(0.41625)
    assert p_value(0.25) == pytest.approx(0.06830, abs=1e-4)


def test_corrected_variance_rarely_finds_what_is_not_there() -> None:
    # Five folds of a model trained on 4/5 of the rows: scores share a part, as in cross-validation.
    rng = np.random.default_rng(3)

    def found(test_to_train: float) -> bool:
        values = rng.normal(0, 1) * 0.5 + rng.normal(0, 1, 5)
        return Estimate(values.mean(), math.sqrt(corrected_variance(values, test_to_train)), 4).p_value() < 0.05

    assert np.mean([found(0.25) for _ in range(2000)]) < 0.06 < np.mean([found(0.0) for _ in range(2000)])


def test_estimate_by_hand() -> None:
    # t = 2 and 4 degrees of freedom; quantiles from a table: 2.776 (0.975) and 0.941 (0.8).
    one = Estimate(1.0, 0.5, 4)
    assert one.p_value() == pytest.approx(0.1161, abs=1e-4)
    assert one.interval() == pytest.approx((1 - 0.5 * 2.776, 1 + 0.5 * 2.776), abs=1e-3)
    assert one.detectable(0.05) == pytest.approx(0.5 * (2.776 + 0.941), abs=1e-3)
    # The nearer of the margins -2 and 2 is two errors away, on one side.
    assert one.p_equivalent(2.0) == pytest.approx(0.1161 / 2, abs=1e-4)
    assert Estimate(-1.0, 0.5, 4).p_equivalent(2.0) == one.p_equivalent(2.0)
    assert one.p_equivalent(0.5) > 0.5
    assert Estimate(1.0, 0.5, math.inf).interval() == pytest.approx((1 - 0.98, 1 + 0.98), abs=1e-3)


def test_the_smallest_difference_is_found_in_four_of_five_studies() -> None:
    rng = np.random.default_rng(6)
    true = Estimate(0.0, 1 / math.sqrt(10), 9).detectable(0.05)
    studies = rng.normal(true, 1.0, (4000, 10))
    errors = studies.std(1, ddof=1) / math.sqrt(10)
    found = [Estimate(mean, error, 9).p_value() < 0.05 for mean, error in zip(studies.mean(1), errors, strict=True)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_estimate_without_an_error() -> None:
    assert Estimate(0.0, 0.0, math.inf).p_value() == 1
    assert math.isnan(Estimate(1.0, 0.0, math.inf).p_value())
    assert Estimate(0.0, 0.0, math.inf).p_equivalent(1.0) == 0
    assert math.isnan(Estimate(1.0, 0.0, math.inf).p_equivalent(1.0))
    assert math.isnan(Estimate(math.nan, math.nan, math.nan).p_equivalent(1.0))


def test_the_share_tested_is_that_of_the_model_trained_on_fewer_rows() -> None:
    rows = [{"train": 720, "validation": 80, "test": 200}, {"train": 90, "validation": 10, "test": 200}]
    assert share_tested({"rows": each} for each in rows) == pytest.approx(2.0)


def test_holm() -> None:
    assert holm([0.01, 0.04, math.nan, 0.03])[:2] == pytest.approx([0.03, 0.06])
    assert holm([0.01, 0.04, math.nan, 0.03])[3] == pytest.approx(0.06)
    assert math.isnan(holm([math.nan])[0])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("n", [2, 7, 1265, 60_000])
def test_bootstrap_is_that_of_scipy(n: int) -> None:
    from scipy.stats import bootstrap as scipy_bootstrap

    values = np.random.default_rng(4).exponential(1.0, n)
    expected = scipy_bootstrap(
        (values,), np.mean, n_resamples=2000, batch=100, method="percentile", rng=np.random.default_rng(7)
    ).confidence_interval
    assert bootstrap_mean(values, seed=7) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_several_statistics_share_their_draws_and_may_overwrite_them() -> None:
    values = np.random.default_rng(5).normal(0, 1, 50)
    before = values.copy()

    def statistics(drawn: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mean = drawn.mean(axis)
        drawn -= 1
        return mean, drawn.mean(axis), np.full_like(mean, np.inf)

    plain, shifted, endless = bootstrap_all(statistics, values)
    assert plain == bootstrap_mean(values)
    assert shifted == pytest.approx((plain.low - 1, plain.high - 1))
    assert all(map(math.isnan, endless))
    assert len(bootstrap_all(statistics, values[:1])) == 3
    np.testing.assert_array_equal(values, before)


def test_the_interval_of_a_share_is_the_exact_one_and_agrees_with_the_sign_test() -> None:
    from scipy.stats import binomtest

    for n in (2, 10, 29):
        for count in range(n + 1):
            exact = binomtest(count, n)
            low, high = interval_of_share(count, n)
            assert (low, high) == pytest.approx(tuple(exact.proportion_ci(0.95, "exact")), abs=1e-9)
            assert p_of_share(count, n) == pytest.approx(exact.pvalue)
            assert (p_of_share(count, n) < 0.05) == (not low <= 0.5 <= high)
    assert p_of_share(5, 10) == 1
    assert p_of_share(9, 10) < p_of_share(8.5, 10) < p_of_share(8, 10)
    assert sum(interval_of_share(2.5, 5)) == pytest.approx(1)
