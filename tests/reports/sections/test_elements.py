from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from reports.environments.description import DescribedRows, Environments
from reports.sections.elements import (
    draw_spread,
    element_correlation,
    group_means,
    periodic_order,
    rank_correlation,
    rank_within_folds,
    spread_of_environments,
)
from reports.study.study import Absent


def rows_of(
    numbers: list[list[int]], vector: dict[int, np.ndarray], fold: list[int] | None = None, noise: float = 0.0
) -> DescribedRows:
    """Crystals whose atoms, each the only one of its orbit, have the vectors of their elements."""
    rng = np.random.default_rng(0)
    flat = [z for crystal in numbers for z in crystal]
    before = np.array([vector[z] + noise * rng.normal(size=len(vector[z])) for z in flat])
    ptr = np.cumsum([0, *map(len, numbers)])
    environments = Environments(
        stages={"before": before, "after": before},
        prediction=np.zeros(len(numbers)),
        node_ptr=ptr,
        orbit_ptr=ptr,
        orbit_node=np.arange(len(flat)),
        numbers=np.array(flat, np.uint8),
        multiplicity=np.ones(len(flat), np.int32),
        cells="asymmetric",
        extras={},
    )
    n = len(numbers)
    return DescribedRows(np.arange(n), np.array(fold or [0] * n), n, environments)


VECTOR = {z: np.random.default_rng(z).normal(size=64) for z in (3, 8, 11, 17, 26)}


def test_periodic_order_goes_by_groups() -> None:
    # Li, Na; Mg; La, Ce; Ti; Fe; O, S; Cl.
    assert periodic_order([17, 16, 8, 26, 22, 58, 57, 12, 11, 3]) == [3, 11, 12, 57, 58, 22, 26, 8, 16, 17]


def test_the_heatmap_of_fixed_environments_has_no_spread() -> None:
    found = element_correlation(rows_of([[3, 17], [11, 17], [3, 8], [11, 8]] * 4, VECTOR))
    assert found.numbers == [3, 11, 8, 17]
    assert found.crystals == [8, 8, 8, 8]
    assert (found.folds, found.draws) == (1, 50)
    expected = np.corrcoef([VECTOR[z] for z in found.numbers])
    assert np.allclose(found.mean, expected, atol=1e-9)
    assert found.spread == pytest.approx(0, abs=1e-9)
    assert found.repeat == pytest.approx(1)
    same, other = group_means(found)
    assert same == pytest.approx(expected[0, 1])
    assert other == pytest.approx(np.mean([expected[i, j] for i, j in ((0, 2), (0, 3), (1, 2), (1, 3), (2, 3))]))


def test_noise_shows_in_the_spread_and_draws_repeat() -> None:
    rows = rows_of([[3, 17], [11, 17], [3, 8], [11, 8]] * 4, VECTOR, noise=1.0)
    found, again = element_correlation(rows), element_correlation(rows)
    assert found.spread > 0.02
    assert found.repeat < 0.99
    assert np.array_equal(found.mean, again.mean)
    assert np.allclose(found.mean, found.mean.T)


def test_atoms_of_one_crystal_or_of_two_models_are_never_compared() -> None:
    # Iron occurs only together with lithium, in the one crystal of its fold; the other fold has lithium alone.
    rows = rows_of([[3, 26]] + [[3]] * 4 + [[26]] * 4, VECTOR, fold=[0] + [1] * 4 + [0] * 4)
    with_lithium = replace(rows, fold=np.array([0, *[1] * 4, *[2] * 4]))
    found = element_correlation(with_lithium)
    assert found.numbers == [3, 26]
    assert np.isnan(found.mean[0, 1])
    assert np.isfinite(element_correlation(rows).mean[0, 1])


def test_too_few_elements_are_no_heatmap() -> None:
    with pytest.raises(Absent, match="nothing to correlate"):
        element_correlation(rows_of([[3, 17]] * 4, VECTOR))


def test_the_spread_by_hand_and_in_any_cell() -> None:
    rows = rows_of([[3, 17], [11]], VECTOR)
    spread = spread_of_environments(rows)
    assert spread[0] == pytest.approx(np.concatenate([VECTOR[3], VECTOR[17]]).std())
    assert spread[1] == pytest.approx(VECTOR[11].std())
    # An orbit of two atoms counts twice.
    environments = replace(rows.environments, multiplicity=np.array([2, 1, 1], np.int32))
    twice = spread_of_environments(replace(rows, environments=environments))
    assert twice[0] == pytest.approx(np.concatenate([VECTOR[3], VECTOR[3], VECTOR[17]]).std())


def test_ranks_are_taken_within_folds() -> None:
    fold = np.array([0, 0, 0, 1, 1, 1])
    values = np.array([1.0, 2, 3, 100, 300, 200])
    assert rank_within_folds(values, fold) == pytest.approx([1 / 6, 0.5, 5 / 6, 1 / 6, 5 / 6, 0.5])
    # The scale of a fold's model does not matter.
    rng = np.random.default_rng(0)
    first = rng.normal(size=200)
    second = first + rng.normal(size=200)
    fold = np.repeat([0, 1], 100)
    value, interval = rank_correlation(first, second, fold)
    assert rank_correlation(first * np.where(fold, 50, 1) + 7 * fold, second, fold)[0] == pytest.approx(value)
    assert interval.low < value < interval.high
    one_fold = rank_correlation(first, second, np.zeros(200, dtype=int))[0]
    assert one_fold == pytest.approx(spearmanr(first, second).statistic)
    assert np.isnan(rank_correlation(np.ones(5), np.arange(5.0), np.zeros(5, dtype=int))[0])


@pytest.mark.parametrize(("n_folds", "n_labels"), [(5, 5), (8, 8), (9, 0)])
def test_more_folds_than_colours_have_one(n_folds: int, n_labels: int) -> None:
    facts = {
        "target": list(range(18)),
        "spread": [1.0] * 18,
        "fold": [i % n_folds for i in range(18)],
        "fold_names": [],
    }
    axis, *_ = draw_spread(facts, "target").axes
    assert len(axis.get_legend_handles_labels()[1]) == n_labels
