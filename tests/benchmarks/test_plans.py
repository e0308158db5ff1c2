"""What a plan settles before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.config import build_config
from benchmarks.data import load_dataset
from benchmarks.plans import make_plan
from benchmarks.tasks import get_task


@pytest.mark.parametrize(("limit", "weight_decay"), [(None, 2.4), (1200, 2.9), (100, 3.0)])
def test_the_regularisation_of_a_run_is_that_of_its_training_rows(
    tmp_path: Path, limit: int | None, weight_decay: float
) -> None:
    # 2,020 prototypes, of which four fifths are for training and its validation; without the task's own recipe.
    dataset = load_dataset(get_task("prototypes"))
    config = build_config("prototypes", "mlp", flags={"limit": limit})
    plans = [make_plan(config, dataset, folds=[0], seeds=[seed], out=tmp_path) for seed in (0, 1)]
    assert plans[0].config.training.weight_decay == weight_decay
    recorded = json.loads((plans[0].run.path / "config.json").read_text())["config"]
    assert recorded["training"]["weight_decay"] == weight_decay
    assert plans[0].run.path == plans[1].run.path
