from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.base.errors import UsageError
from benchmarks.data.overlap import SAME_VOLUME, RowComparison, leave_out
from tests.benchmarks.data.test_groups import made

# NaCl, Na2Cl2 of the same formula, KCl, NaF, and NaCl again.
ATOMS = [[11, 17], [11, 11, 17, 17], [19, 17], [11, 9], [11, 17]]


def compared(*per_atom: float) -> RowComparison:
    """Compare crystals of these volumes per atom in Å^3."""
    dataset = made(ATOMS, [225] * len(ATOMS))
    volume = np.array(per_atom) * np.diff(dataset.table.ptr)
    lattice = np.cbrt(volume)[:, None, None] * np.eye(3)
    return RowComparison(replace(dataset, table=replace(dataset.table, lattice=lattice)))


def test_a_formula_is_reduced_and_a_volume_is_that_per_atom() -> None:
    rows = compared(20, 20, 20, 20, 25)
    found = rows.overlap(np.array([0, 2, 3, 4]), np.array([1]))
    assert found.has_formula.tolist() == [True, False, False, True]
    assert found.has_crystal.tolist() == [True, False, False, False]


@pytest.mark.parametrize(("ratio", "is_near"), [(0.999, True), (1.001, False)])
@pytest.mark.parametrize("larger", ["test", "train"])
def test_a_crystal_is_nearly_identical_within_half_a_per_cent_of_the_volume(
    ratio: float, larger: str, *, is_near: bool
) -> None:
    scale = 1 + SAME_VOLUME * ratio
    rows = compared(*((20 * scale, 20) if larger == "test" else (20, 20 * scale)), 20, 20, 30)
    # Another training row, of a volume far from it, changes nothing.
    assert rows.overlap(np.array([0]), np.array([1, 2, 3, 4])).has_crystal.tolist() == [is_near]


def test_the_distance_is_to_the_nearest_composition() -> None:
    rows = compared(20, 20, 20, 20, 25)
    train = np.array([2, 3])
    distance = rows.distance(np.array([0, 1, 4, 2]), train)
    assert distance[0] == distance[1] == distance[2] > 0
    assert distance[3] == 0
    to_each = [rows.distance(np.array([0]), np.array([row]))[0] for row in train]
    assert distance[0] == min(to_each) < max(to_each)


def test_rows_whose_formula_another_task_has_neither_train_nor_validate_and_are_tested() -> None:
    many = made(ATOMS * 4, [225] * 4 * len(ATOMS))
    other = made([[11, 11, 17, 17]], [225])
    fewer = leave_out(many, other)
    salts = [row for row in range(len(many.table)) if row % 5 in {0, 1, 4}]
    assert fewer.left_out is not None
    assert fewer.left_out.ids == tuple(many.table.ids[salts])
    assert (fewer.left_out.task, fewer.left_out.digest) == (other.task.name, other.table.digest)
    for limit in (None, 4):
        for before, fold in zip(many.folds(limit=limit), fewer.folds(limit=limit), strict=True):
            known = {*fold.train.tolist(), *fold.validation.tolist()}
            assert known.isdisjoint(salts)
            assert len(known) == (limit or len(set(range(len(many.table))) - {*salts, *fold.test.tolist()}))
            assert fold.test.tolist() == before.test.tolist()
    with pytest.raises(UsageError, match=r"--without leaves fold 0 no rows to train or validate on"):
        leave_out(many, many).folds()
