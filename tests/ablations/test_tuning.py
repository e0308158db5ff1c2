from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ablations.grid import build_settings
from ablations.tuning import make_tuning, with_recipe
from benchmarks.data.dataset import load_dataset


@pytest.mark.parametrize(
    ("split", "folds", "left_out"),
    [
        ("folds", [0, 1], "0,1"),
        ("folds", [1, 0, 2, 3, 4], "1"),  # all, which leave no row
        ("holdout:0.8/0.1/0.1", [0], "0"),
    ],
)
def test_a_search_leaves_out_the_test_rows_of_the_grid(
    tmp_path: Path, split: str, folds: list[int], left_out: str
) -> None:
    dataset = load_dataset("prototypes")
    dataset = replace(dataset, task=replace(dataset.task, split=split))
    (setting,) = build_settings(
        "prototypes",
        ["mlp"],
        {"sen.rounds": ["2"]},
        recipe="own",
        defaults=dataset.task.defaults,
        files={},
        flags={"training.epochs": 3},
        assignments=["block.hidden=512"],
    )
    tuning = make_tuning(setting, dataset, folds=folds, seed=3, trials=2, out=tmp_path)
    assert tuning.plan.dataset.task.split == f"tuning:{left_out}:{split}"
    assert [training.seed for training in tuning.plan.trainings] == [3]
    assert tuning.name == "mlp, sen.rounds=2"
    assert not {"training.epochs", "block.hidden", "sen.rounds"} & tuning.space.keys()
    assert {"training.learning_rate", "sen.encoder_width"} < tuning.space.keys()


@pytest.mark.parametrize(
    ("limit", "assignments", "kept"), [("limit = 120\n", [], 120), ("limit = 120\n", ["limit=50"], 50), ("", [], None)]
)
def test_a_recipe_keeps_the_limit_of_the_file_that_it_replaces(
    tmp_path: Path, limit: str, assignments: list[str], kept: int | None
) -> None:
    (tmp_path / "given.toml").write_text(f"{limit}[training]\nepochs = 3\n")
    (tmp_path / "recipe.toml").write_text("[training]\nepochs = 4\n")
    task = load_dataset("prototypes").task
    files = {"mlp": tmp_path / "given.toml"}
    (setting,) = build_settings(
        "prototypes",
        ["mlp"],
        {},
        recipe="own",
        defaults={},
        files=files,
        flags={"limit": None},
        assignments=assignments,
    )
    config = with_recipe(setting, task, tmp_path / "recipe.toml").config
    assert (config.limit, config.training.epochs) == (kept, 4)
