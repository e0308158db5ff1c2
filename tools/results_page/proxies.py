"""Table of recipes that were tried on the proxies, each relative to the default recipe of 0.1 on the same rows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.base.console import duration
from benchmarks.results.metrics import primary_metric
from benchmarks.results.recorded import by_field, completed, recorded_variant
from benchmarks.results.store import Run, find_runs
from tools.proxies import SOURCES
from tools.results_page.formats import markdown, number

__all__ = ["ALL_ROWS", "REFERENCE", "Tried", "read_tried", "recipe_of", "reference_of", "tried"]

REFERENCE = {
    "training.epochs": 60,
    "training.weight_decay": 3.0,
    "training.validation": None,
    "training.learning_rate": 7e-4,
    "sen.dropout": 0.3,
}
"""What marks the default recipe of 0.1 among the runs; all other fields have the values that it recorded."""
ALL_ROWS = 8000
"""Training rows of a proxy without a limit."""


class Tried(NamedTuple):
    """A recipe that was tried.

    Attributes:
        run: Its trainings.
        rows: Which rows trained what, for all recipes that are comparable: the proxy, the variant and the limit.
        fields: Its values of dotted fields.
        errors: Error of each seed.
        seconds: Time of its trainings.
    """

    run: Run
    rows: tuple[str, str, int | None]
    fields: dict[str, Any]
    errors: dict[int, float]
    seconds: float


def tried(pattern: Path) -> str:
    """Return the errors of the recipes in archives, as shares of that of the default recipe on the same rows and seeds.

    Raises:
        ValueError: There is no recipe, or the default recipe was not trained on the same rows and seeds.
    """
    recipes = [each for path in sorted(pattern.parent.glob(pattern.name)) for each in read_tried(path)]
    if not recipes:
        raise ValueError(f"{pattern}: there is no run on a proxy.")
    lines: dict[tuple[int, str, str], dict[str, tuple[Tried, float]]] = defaultdict(dict)
    for each in recipes:
        reference = reference_of(each, recipes)
        share = np.mean([*each.errors.values()]) / np.mean([reference.errors[seed] for seed in each.errors])
        proxy, variant, limit = each.rows
        lines[limit or ALL_ROWS, variant, recipe_of(each, reference)][proxy] = each, float(share)
    rows = []
    for (limit, variant, recipe), cells in lines.items():
        shares = [share for _, share in cells.values()]
        mean = float(np.exp(np.mean(np.log(shares))))
        seeds = str(min(len(each.errors) for each, _ in cells.values()))
        time = duration(sum(each.seconds for each, _ in cells.values()))
        columns = [number(cells[proxy][1]) if proxy in cells else "–" for proxy in SOURCES]
        rows.append(((limit, variant, -len(cells), mean), [recipe, *columns, number(mean), seeds, time]))
    proxies = [proxy.removeprefix("proxy_").replace("_", " ") for proxy in SOURCES]
    return markdown(
        ["rows", "block", "recipe", *proxies, "mean", "seeds", "time"],
        ([f"{limit:,}", f"`{variant}`", *columns] for (limit, variant, *_), columns in sorted(rows)),
    )


def read_tried(folder: Path) -> Iterator[Tried]:
    """Yield the recipes of a folder of runs, or an archive, that have results on proxies."""
    for run in find_runs(folder):
        facts = run.read_config()
        config = completed(facts["config"])
        trainings = run.trainings()
        if not trainings or config["task"] not in SOURCES:
            continue
        metric = primary_metric(facts["task"]["kind"]).name
        records = {training.seed: run.read_metrics(training) for training in trainings}
        yield Tried(
            run,
            (config["task"], recorded_variant(config), config["limit"]),
            by_field(config),
            {seed: record["metrics"][metric] for seed, record in records.items()},
            sum(record["wall_seconds"] for record in records.values()),
        )


def reference_of(recipe: Tried, recipes: Iterable[Tried]) -> Tried:
    """Return the default recipe of 0.1, trained on the same rows with the same seeds.

    Raises:
        ValueError: It was not.
    """
    for reference in recipes:
        is_default = all(reference.fields[field] == value for field, value in REFERENCE.items())
        if is_default and reference.rows == recipe.rows and recipe.errors.keys() <= reference.errors.keys():
            return reference
    raise ValueError(f"{recipe.run.path}: the default recipe was not trained on the same rows with the same seeds.")


def recipe_of(recipe: Tried, reference: Tried) -> str:
    """Return the fields of a recipe that have other values than the reference."""
    changed = {field: value for field, value in recipe.fields.items() if reference.fields[field] != value}
    return ", ".join(f"{field}={json.dumps(value)}" for field, value in sorted(changed.items())) or "default of 0.1"
