from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.results.statistics import bootstrap, bootstrap_all, bootstrap_mean, corrected_t_test, holm, share_tested


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


def test_corrected_t_test_against_the_formula_and_the_ordinary_test() -> None:
    from scipy.stats import ttest_1samp

    differences = [1.0, 2.0, 0.5, 1.5, 3.0]
    assert corrected_t_test(differences, 0.0) == pytest.approx(ttest_1samp(differences, 0).pvalue)
    # mean 1.6, variance 0.925: t = 1.6 / sqrt((1/5 + 1/4) * 0.925) = 2.48, with 4 degrees of freedom.
    assert corrected_t_test(differences, 0.25) == pytest.approx(0.06830, abs=1e-4)


def test_corrected_t_test_of_what_cannot_be_tested() -> None:
    assert math.isnan(corrected_t_test([1.0], 0.25))
    assert corrected_t_test([0.0, 0.0], 0.25) == 1
    assert math.isnan(corrected_t_test([1.0, 1.0], 0.25))
    assert math.isnan(corrected_t_test([0.1, 0.1, 0.1], 0.25))  # whose mean is not 0.1 to the last bit


def test_corrected_t_test_rarely_finds_what_is_not_there() -> None:
    # Five folds of a model trained on 4/5 of the rows: scores share a part, as in cross-validation.
    rng = np.random.default_rng(3)
    found = [corrected_t_test(rng.normal(0, 1) * 0.5 + rng.normal(0, 1, 5), 0.25) < 0.05 for _ in range(2000)]
    ordinary = [corrected_t_test(rng.normal(0, 1) * 0.5 + rng.normal(0, 1, 5), 0.0) < 0.05 for _ in range(2000)]
    assert np.mean(found) < 0.06 < np.mean(ordinary)


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
