from __future__ import annotations

import numpy as np
import pytest

from benchmarks.data.crystal_table import CrystalTable
from benchmarks.data.folds import make_folds
from benchmarks.results.metrics import mean_absolute_deviation
from benchmarks.training.reference import element_fractions, extra_trees_on_composition

SODIUM, CHLORINE, POTASSIUM = 11, 17, 19


def table_of(formulas: list[list[int]], targets: np.ndarray) -> CrystalTable:
    """A table of crystals with these atomic numbers; composition models read nothing else of it."""
    n_crystals, n_atoms = len(formulas), sum(map(len, formulas))
    return CrystalTable(
        lattice=np.tile(np.eye(3), (n_crystals, 1, 1)),
        positions=np.zeros((n_atoms, 3)),
        numbers=np.concatenate(formulas).astype(np.uint8),
        ptr=np.cumsum([0, *map(len, formulas)]),
        target=np.asarray(targets, dtype=np.float64),
        heavy_hydrogen=np.zeros(n_crystals, dtype=bool),
        row=np.arange(n_crystals),
        ids=np.array([f"crystal-{i}" for i in range(n_crystals)]),
        space_group=np.ones(n_crystals, dtype=np.int16),
        orbit=np.concatenate([np.arange(len(formula)) for formula in formulas]).astype(np.int32),
        digest="",
    )


def mixtures(n_crystals: int) -> tuple[list[list[int]], np.ndarray]:
    """Crystals of sodium, potassium and chlorine, and their fraction of potassium."""
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 6, size=(n_crystals, 3))
    formulas = [np.repeat([SODIUM, POTASSIUM, CHLORINE], count).tolist() for count in counts]
    return formulas, counts[:, 1] / counts.sum(axis=1)


def test_element_fractions_by_hand():
    fractions = element_fractions(table_of([[SODIUM, CHLORINE], [1, 1, 118, 1]], np.zeros(2)))
    expected = np.zeros((2, 118))
    expected[0, [SODIUM - 1, CHLORINE - 1]] = 0.5
    expected[1, [0, 117]] = 0.75, 0.25
    assert np.array_equal(fractions, expected)


def test_what_depends_on_composition_is_learnt():
    formulas, target = mixtures(200)
    table = table_of(formulas, target)
    fold = make_folds("regression", table.row, None, table.target, seed=0)[0]
    prediction = extra_trees_on_composition(table, fold, "regression")
    error = np.abs(prediction - target[fold.test]).mean()
    assert error < 0.2 * mean_absolute_deviation(target)


def test_classes_are_predicted_as_probabilities():
    formulas, target = mixtures(200)
    metal = (target > 0.3).astype(float)
    table = table_of(formulas, metal)
    fold = make_folds("classification", table.row, None, table.target, seed=0)[0]
    probability = extra_trees_on_composition(table, fold, "classification")
    assert probability.min() >= 0
    assert probability.max() <= 1
    assert ((probability > 0.5) == metal[fold.test]).mean() > 0.9


def test_one_class_is_predicted_with_certainty():
    formulas, target = mixtures(50)
    table = table_of(formulas, np.ones(50))
    fold = make_folds("regression", table.row, None, target, seed=0)[0]
    assert np.allclose(extra_trees_on_composition(table, fold, "classification"), 1)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_the_seed_decides(kind: str):
    formulas, target = mixtures(60)
    table = table_of(formulas, (target > 0.3).astype(float))
    fold = make_folds("regression", table.row, None, table.target, seed=0)[0]
    first, again, other = (extra_trees_on_composition(table, fold, kind, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_targets_of_test_rows_are_never_read():
    formulas, target = mixtures(60)
    fold = make_folds("regression", np.arange(60), None, target, seed=0)[0]
    spoilt = target.copy()
    spoilt[fold.test] = np.nan
    assert np.array_equal(
        extra_trees_on_composition(table_of(formulas, target), fold, "regression"),
        extra_trees_on_composition(table_of(formulas, spoilt), fold, "regression"),
    )


def test_validation_rows_are_trained_on():
    formulas, target = mixtures(60)
    fold = make_folds("regression", np.arange(60), None, target, seed=0)[0]
    changed = target.copy()
    changed[fold.validation] += 1
    assert not np.array_equal(
        extra_trees_on_composition(table_of(formulas, target), fold, "regression"),
        extra_trees_on_composition(table_of(formulas, changed), fold, "regression"),
    )
