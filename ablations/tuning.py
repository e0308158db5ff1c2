"""Recipes for the variants of a grid: as many trials for each of them, on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ablations.grid import Setting
from benchmarks.results.run_config import build_config
from benchmarks.training.tuning import Tuning

if TYPE_CHECKING:
    from benchmarks.base.workers import Progress
    from benchmarks.data.dataset import Dataset
    from benchmarks.data.tasks import Task

__all__ = ["make_tuning", "with_finished_recipe", "with_recipe"]


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
    leaves_few = len(folds) > 1 and dataset.n_folds in {None, len(folds)}
    return Tuning(
        str(setting),
        setting.name,
        setting.given,
        dataset,
        folds=folds[:1] if leaves_few else folds,
        seeds=[seed],
        trials=trials,
        out=out,
        progress=progress,
    )


def with_recipe(setting: Setting, task: Task, recipe: Path) -> Setting:
    """Return a point of the grid with the recipe that was found for it, as --config X=FILE gives it.

    A limit of training rows is no part of a recipe; one of the file that the recipe replaces is kept.
    """
    flags = {**setting.given["flags"], "limit": setting.config.limit}
    given = {**setting.given, "file": recipe, "flags": flags}
    config = build_config(task.name, setting.name, defaults=task.defaults, **given)
    return replace(setting, config=config, given=given)


def with_finished_recipe(setting: Setting, tuning: Tuning) -> Setting:
    """Return a point of the grid with the recipe that was found for it, as it is while trials are left.

    Nothing is written into the folder of the search.

    Raises:
        RunError: All trials failed.
    """
    if tuning.left:
        return setting
    with TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.toml"
        recipe.write_text(tuning.recipe())
        return with_recipe(setting, tuning.plan.dataset.task, recipe)
