"""A reference that knows only the composition: what a structure model has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.crystal_table import CrystalTable
from benchmarks.data.folds import Fold
from benchmarks.data.tasks import Kind

__all__ = ["element_fractions", "extra_trees_on_composition"]

_N_ELEMENTS = 118
_N_TREES = 200


def element_fractions(table: CrystalTable) -> NDArray[np.float64]:
    """Return the atomic fraction of every element in every crystal, [M, 118]; column Z - 1 belongs to element Z."""
    n_atoms = np.diff(table.ptr)
    crystal = np.repeat(np.arange(len(n_atoms)), n_atoms)
    cell = crystal * _N_ELEMENTS + table.numbers.astype(np.int64) - 1
    counts = np.bincount(cell, minlength=len(n_atoms) * _N_ELEMENTS).reshape(-1, _N_ELEMENTS)
    fractions: NDArray[np.float64] = counts / n_atoms[:, None]
    return fractions


def extra_trees_on_composition(table: CrystalTable, fold: Fold, kind: Kind, *, seed: int = 0) -> NDArray[np.float64]:
    """Fit extremely randomised trees on the element fractions of a fold and predict its test rows.

    There is nothing to tune and nothing to stop, so the validation rows are trained on as well.

    Args:
        table: The crystals of the task.
        fold: Positions in the table.
        kind: "regression" or "classification".
        seed: Seed of the trees.

    Returns:
        Predicted target, or probability of 1, of each test row, [n_test], in the order of `fold.test`.
    """
    from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

    fractions = element_fractions(table)
    known = np.concatenate([fold.train, fold.validation])
    trees = {"regression": ExtraTreesRegressor, "classification": ExtraTreesClassifier}[kind]
    # One job: several add up their trees in the order in which they finish, which rounds differently each time.
    model = trees(_N_TREES, random_state=seed, n_jobs=1).fit(fractions[known], table.target[known])
    prediction: NDArray[np.float64]
    if kind == "regression":
        prediction = model.predict(fractions[fold.test])
    else:
        # The classes are 0 and 1, or only one of them: their expectation is the probability of 1.
        prediction = model.predict_proba(fractions[fold.test]) @ model.classes_
    return prediction
