"""A reference model that knows only the composition, which a model of structures has to beat."""

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
    entry = crystal * _N_ELEMENTS + table.numbers.astype(np.int64) - 1
    counts = np.bincount(entry, minlength=len(n_atoms) * _N_ELEMENTS).reshape(-1, _N_ELEMENTS)
    fractions: NDArray[np.float64] = counts / n_atoms[:, None]
    return fractions


def extra_trees_on_composition(table: CrystalTable, fold: Fold, kind: Kind, *, seed: int = 0) -> NDArray[np.float64]:
    """Fit extremely randomised trees on the element fractions of a fold and predict its test rows.

    The trees need no tuning and no stopping, so they are fitted to the validation rows as well.

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
    # One job, because several jobs sum their trees in the order in which they finish, and rounding depends on it.
    model = trees(_N_TREES, random_state=seed, n_jobs=1).fit(fractions[known], table.target[known])
    prediction: NDArray[np.float64]
    if kind == "regression":
        prediction = model.predict(fractions[fold.test])
    else:
        # The classes are 0 and 1, or only one of them: their expectation is the probability of 1.
        prediction = model.predict_proba(fractions[fold.test]) @ model.classes_
    return prediction
