"""How many seeds a contrast gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ablations.comparison import Declaration, compare_finished
from ablations.detection import Detection, Need
from benchmarks.base.errors import UsageError
from benchmarks.results.contrasts import Answer, Comparison, Noise
from tests.ablations.made_variants import finished


def comparison(first: str, second: str = "capsule", *, one_seed: float = 1.0, rows: float = 0.0) -> Comparison:
    noise = Noise(one_seed, 3.0, 20, rows, 500 if rows else 0)
    return Comparison(
        *(first, second, [0], [0, 1, 2], 9, 10.0, 0.0, 0.2, 0.05, noise),
        Answer(verdict="no significant difference"),
        Answer(),
    )


def test_four_seeds_come_first_and_ten_are_the_most() -> None:
    assert Detection.of(0.05, None, None) == Detection(0.05, 4, 10)
    assert Detection.of(0.05, 2, 2) == Detection(0.05, 2, 2)
    assert Detection.of(0.05, 12, None) == Detection(0.05, 12, 12)


@pytest.mark.parametrize(
    ("seeds", "most", "message"),
    [(1, None, "give --seeds 2 or more, not 1"), (None, 3, "--max-seeds 3 is below the 4 seeds")],
)
def test_seeds_that_measure_no_noise_are_refused(seeds: int | None, most: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Detection.of(0.05, seeds, most)


def test_a_contrast_gets_the_seeds_that_it_needs_and_no_more() -> None:
    detection = Detection(0.1, 3, 10)
    needed = Need(comparison("mlp"), detection)
    assert needed.difference == 1.0
    assert needed.seeds is not None
    assert 3 < needed.seeds == needed.trained < 10
    assert needed.found <= 1.0 < replace(needed, detection=Detection(0.1, 3, needed.trained - 1)).found
    few = Need(comparison("mlp", one_seed=0.01), detection)
    assert (few.seeds, few.trained) == (2, 3)
    many = Need(comparison("mlp", one_seed=3.0), detection)
    assert many.seeds is not None
    assert many.seeds > many.trained == 10
    assert many.found > 1.0


def test_no_seed_is_added_where_the_rows_are_too_few() -> None:
    need = Need(comparison("mlp", rows=0.2), Detection(0.1, 3, 10))
    assert (need.seeds, need.trained) == (None, 3)


def test_contrasts_that_lack_trainings_wait_and_those_not_assessable_need_nothing() -> None:
    few = replace(comparison("tfn"), on_these_folds=Answer(reason="a class has fewer than 10 test rows"))
    complete = {"mlp": True, "capsule": True, "egnn": False, "tfn": True}
    needs = Detection(0.1, 3, 10).needs([comparison("mlp"), comparison("egnn"), few], complete)
    assert [need.comparison.first for need in needs] == ["mlp"]


def test_the_difference_does_not_change_the_seeds() -> None:
    """To train on until a difference shows would find one where there is none."""
    grid = [finished("mlp", 1.0, seeds=3), finished("capsule", 1.0, seeds=3)]
    shifted = [replace(grid[0], predictions={
        training: part._replace(prediction=part.target + 1 + abs(part.prediction - part.target))
        for training, part in grid[0].predictions.items()
    }), grid[1]]  # fmt: skip
    plain, moved = (compare_finished(each, Declaration([("mlp", "capsule")])) for each in (grid, shifted))
    detection = Detection(0.05, 3, 10)
    one, other = (Need(found[0], detection) for found in (plain, moved))
    assert other.comparison.on_these_folds.verdict == "worse"
    assert one.comparison.on_these_folds.verdict != "worse"
    assert one.seeds == other.seeds
