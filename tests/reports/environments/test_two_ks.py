from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from reports.environments.operations import KINDS
from reports.environments.two_ks import (
    angles,
    choose_crystals,
    choose_example,
    compare,
    element_pairs,
    ks_of_subsets,
    ks_statistic,
    matrix_of,
    pearson,
    relations,
)
from tests.reports.made_models import copper, crystal, made_dataset, perovskite, rocksalt, wurtzite


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(
    st.integers(1, 40).flatmap(
        lambda n: st.tuples(*[st.lists(st.integers(-6, 6) | st.floats(-3, 3, width=32), min_size=n, max_size=n)] * 2)
    )
)
def test_it_is_the_statistic_of_scipy(samples: tuple[list[float], list[float]]) -> None:
    first, second = np.array(samples)
    expected = ks_2samp(np.round(first, 5), np.round(second, 5), method="asymp").statistic
    assert ks_statistic(first[None], second[None])[0] == pytest.approx(expected, abs=1e-12)


def test_known_answers() -> None:
    zero = np.zeros((1, 4))
    assert ks_statistic(zero, zero) == 0
    assert ks_statistic(zero, zero + 1) == 1
    assert ks_statistic(np.array([[0, 0, 1, 1.0]]), np.array([[0, 1, 1, 1.0]])) == 0.25
    # Differences below 1e-5 are rounded away.
    assert ks_statistic(zero + 0.1, zero + 0.1 + 2e-6) == 0


def test_each_measure_sees_what_the_other_does_not() -> None:
    vector = np.array([[1.0, 2, 3]])
    # A distribution knows no order of components, and a direction no length.
    assert compare(vector, vector[:, ::-1], 3) == {"ks": 0, "angle": pytest.approx(np.degrees(np.arccos(10 / 14)))}
    assert compare(vector, 2 * vector, 3) == {"ks": pytest.approx(2 / 3), "angle": 0}
    assert compare(vector, vector, 3) == {"ks": 0, "angle": 0}


def test_known_angles() -> None:
    x, zero = np.array([[1.0, 0]]), np.zeros((1, 2))
    assert angles(x, np.array([[0, 3.0]])) == pytest.approx(90)
    assert angles(x, -2 * x) == pytest.approx(180)
    assert (angles(zero, zero), angles(x, zero)) == (0, pytest.approx(90))
    # Small angles keep their digits, in single precision as well.
    first = np.ones((1, 1000), np.float32)
    other = first.copy()
    other[0, 0] += 1e-3
    assert angles(first, other) == pytest.approx(np.degrees(1e-3 / 1000**0.5), rel=1e-2)
    # Differences below 1e-5 are rounded away.
    assert angles(first / 10, first / 10 + np.linspace(0, 2e-6, 1000)) == 0


def test_subsets_of_the_components() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 40, 64))
    # All components are the one subset that there is.
    assert np.array_equal(ks_of_subsets(first, second, 64), ks_statistic(first, second))
    assert np.array_equal(ks_of_subsets(first, second, 99), ks_statistic(first, second))
    few = ks_of_subsets(first, second, 24)
    assert np.array_equal(few, ks_of_subsets(first, second, 24))
    assert ((few >= 1 / 24) & (few <= 1)).all()
    # A mean over 16 subsets.
    assert np.allclose(few * 24 * 16, np.rint(few * 24 * 16))
    assert not np.allclose(few * 24, np.rint(few * 24))
    # Both environments have the same components in a subset.
    assert not ks_of_subsets(first, first, 24).any()
    # Environments of which all components differ are at least one component apart, those of which one does less.
    assert np.allclose(ks_of_subsets(first, first + 1e-4, 24), 1 / 24, atol=1 / 24)
    assert (ks_of_subsets(first, first + 1e-4, 24) >= 1 / 24 - 1e-12).all()
    one = first.copy()
    one[:, 0] += 1e-4
    assert (ks_of_subsets(first, one, 24) < 1 / 24 - 1e-12).all()
    assert ks_of_subsets(first, one, 24).any()


def test_many_pairs_are_the_same_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 30, 16))
    whole, turned = ks_statistic(first, second), angles(first, second)
    monkeypatch.setattr("reports.environments.two_ks._AT_A_TIME", 100)
    assert np.array_equal(ks_statistic(first, second), whole)
    assert np.allclose(angles(first, second), turned)
    assert matrix_of("angle", first)[5, 2] == pytest.approx(angles(first[2:3], first[5:6])[0])
    matrix = matrix_of("ks", first)
    assert np.array_equal(matrix, matrix.T)
    assert not matrix.diagonal().any()
    assert matrix[2, 5] == ks_statistic(first[2:3], first[5:6])[0]
    assert len(ks_statistic(first[:0], second[:0])) == 0


def test_pearson() -> None:
    values = np.random.default_rng(0).normal(size=(5, 20)).astype(np.float32)
    assert np.allclose(pearson(values), np.corrcoef(values), atol=1e-6)
    values[1] = 2
    assert np.isnan(pearson(values)[0, 1])


def by_orbit(made: dict[str, object], width: int = 40) -> tuple[object, np.ndarray]:
    own = crystal(made)
    return own, np.random.default_rng(0).normal(size=(own.orbit.max() + 1, width))[own.orbit]


def test_relations_of_a_perovskite() -> None:
    own, environments = by_orbit(perovskite(4.0, 4.3))
    facts = relations(own, {"before": environments, "after": 2 * environments})
    assert sorted(label.rstrip("12") for label in facts["atoms"]) == ["Ba", "O", "O", "O", "Ti"]
    # The reference is an oxygen: another oxygen is not equivalent to it.
    assert facts["atoms"][0][0] == facts["atoms"][1][0] == "O"
    double = next(group for group in facts["groups"] if group["n"] == 2)
    assert double["relations"][0]["first"] == "4-fold rotation"
    assert any("mirror" in text for text in double["relations"][0]["all"])
    # The reference is the only atom of its orbit, equal to itself, and equivalent atoms have equal bars.
    values = facts["ks"]["after"]
    assert values[0] == 0
    assert all(value > 0 for value in values[1:])
    assert values[double["start"]] == values[double["start"] + 1]
    assert facts["ks"]["within_after"] == facts["angle"]["within_after"] == [0] * 5


def test_relations_of_a_crystal_of_one_atom() -> None:
    own, environments = by_orbit(copper(3.6))
    facts = relations(own, {"after": environments})
    assert facts["atoms"] == ["Cu"] * 4
    assert {relation["first"] for relation in facts["groups"][0]["relations"]} == {"4_2 screw"}
    assert element_pairs(own, environments) == []


def test_elements_of_a_crystal() -> None:
    own, environments = by_orbit(perovskite(4.0, 4.3))
    found = {tuple(sorted(pair["pair"])): pair for pair in element_pairs(own, environments)}
    assert {pair: facts["n"] for pair, facts in found.items()} == {("Ba", "O"): 2, ("Ba", "Ti"): 1, ("O", "Ti"): 2}
    _, first = np.unique(own.orbit, return_index=True)
    ba, ti = (next(i for i in first if own.numbers[i] == z) for z in (56, 22))
    assert found["Ba", "Ti"]["ks"] == ks_statistic(environments[[ba]], environments[[ti]])[0]


def test_crystals_are_chosen_for_the_operations_that_are_there(tmp_path: Path) -> None:
    structures = [copper(3.6), rocksalt(5.6), rocksalt(5.7), wurtzite(3.8), perovskite(4.0, 4.3), perovskite(4.2, 4.5)]
    table = made_dataset(tmp_path, [[made, 1.0] for made in structures]).table
    rows = np.arange(len(table))
    choice = choose_crystals(table, rows)
    # Copper has nothing to compare; the perovskite shows a rotation and has inequivalent oxygen.
    assert choice.shows == [["screw"], ["rotation"]]
    assert choice.rows == [3, 4]
    assert choice.absent == ["glide", "rotoinversion", "mirror", "inversion", "translation"]
    assert set(choice.absent).isdisjoint({kind for kinds in choice.shows for kind in kinds})
    assert choose_crystals(table, rows[::-1]).rows == choice.rows
    assert choose_example(table, rows) == 4
    assert choose_crystals(table, rows[:1]).absent == list(KINDS)
    assert choose_example(table, rows[:4]) is None


def test_the_example_is_the_same_in_any_order(tmp_path: Path) -> None:
    structures = [wurtzite(3.8), perovskite(4.0, 4.3), perovskite(4.1, 4.3), rocksalt(5.6)]
    table = made_dataset(tmp_path, [[made, 1.0] for made in structures]).table
    for rows in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]):
        assert choose_example(table, np.array(rows)) == 1
