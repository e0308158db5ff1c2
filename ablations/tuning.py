"""Recipes for the variants of a grid: as many trials for each of them, on the same rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.grid import Setting
from benchmarks.data.folds import n_folds
from benchmarks.results.run_config import RunConfig, build_config, given_fields
from benchmarks.training.tuning import Tuning

if TYPE_CHECKING:
    from benchmarks.base.workers import Progress
    from benchmarks.data.dataset import Dataset
    from benchmarks.data.tasks import Task

__all__ = ["make_tuning", "with_recipe"]


def make_tuning(
    setting: Setting,
    dataset: Dataset,
    *,
    folds: Sequence[int],
    seed: int,
    trials: int,
    out: Path,
    progress: Progress | None = None,
) -> Tuning:
    """Return the search for a recipe of a point of the grid; what the point sets is not searched.

    It reads no test row of the folds of the grid. Every row is a test row of one of all folds, and nearly every one of
    a few random splits, so that for these it leaves out the test rows of the first one, and the results on the others
    are labelled.

    Raises:
        UsageError: See `Tuning`, as for the arguments and `DataError`.
        DataError: The trials cannot be read.
    """

    def configure(fields: Mapping[str, Any]) -> RunConfig:
        searched = [f"{field}={json.dumps(value)}" for field, value in fields.items()]
        given = {**setting.given, "assignments": [*setting.given["assignments"], *searched]}
        return build_config(dataset.task.name, setting.name, defaults=dataset.task.defaults, **given)

    leaves_few = len(folds) > 1 and n_folds(dataset.task.split) in {None, len(folds)}
    recipe, given = setting.given["recipe"], {key: each for key, each in setting.given.items() if key != "recipe"}
    return Tuning(
        str(setting),
        configure,
        given_fields(**given),
        dataset,
        folds=folds[:1] if leaves_few else folds,
        seeds=[seed],
        trials=trials,
        out=out,
        recipe=recipe,
        progress=progress,
    )


def with_recipe(setting: Setting, task: Task, recipe: Path) -> Setting:
    """Return a point of the grid with the recipe that was found for it, as --config X=FILE gives it."""
    given = {**setting.given, "file": recipe}
    config = build_config(task.name, setting.name, defaults=task.defaults, **given)
    return replace(setting, config=config, given=given)
