"""Two names of one block."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.base.errors import UsageError
from benchmarks.results.store import find_run
from tests.tools.test_results_page import store_fold
from tools.same_block import repetitions


def test_groups_of_seeds_are_compared_in_pairs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    errors = {seed: np.abs(rng.normal(1, 0.1, 6)) for seed in range(9)}
    for seed, values in errors.items():
        name = store_fold(tmp_path, "mlp", seed, 0, {f"row-{i}": 1 + value for i, value in enumerate(values)})
    found = list(repetitions(find_run(tmp_path / name), 2))
    assert [len(each.seeds) for each in found] == [2, 2]  # seed 8 is left over
    mean = [errors[seed].mean() for seed in range(8)]
    assert found[1].difference == pytest.approx((mean[4] + mean[5] - mean[6] - mean[7]) / 2)
    assert found[1].score == pytest.approx((mean[6] + mean[7]) / 2)
    assert found[1].noise is not None
    assert found[1].noise.df <= 2


def test_too_few_seeds_are_refused(tmp_path: Path) -> None:
    for seed in range(5):
        name = store_fold(tmp_path, "mlp", seed, 0, {"row-0": 1.0, "row-1": 2.0})
    run = find_run(tmp_path / name)
    for n in (-1, 0, 1):
        with pytest.raises(UsageError, match=rf"^--seeds takes 2 seeds of each name or more, .* not {n}\.$"):
            list(repetitions(run, n))
    with pytest.raises(UsageError, match=r"has 5 seeds, and two names of 3 seeds take 6: train more"):
        list(repetitions(run, 3))
    assert len(list(repetitions(run, 2))) == 1
