"""Tables of single trainings: a CSV file of all of them, and blocks that were trained more than once."""

from __future__ import annotations

from itertools import chain, combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.data.folds import N_FOLDS
from benchmarks.results.recorded import recorded_variant
from benchmarks.results.statistics import bootstrap_mean
from benchmarks.results.store import Run, Training, find_runs
from tools.results_page.formats import commits, markdown, number, short

__all__ = ["apart", "export", "repeated"]


def export(results: Path) -> dict[str, str]:
    """Return CSV with a line for each training on a task in a folder of archives, by task.

    Archives of second trainings, `*-again.zip`, do not count: their runs have the names of the first.
    """
    archives = [archive for archive in results.glob("*.zip") if not archive.stem.endswith("-again")]
    lines: dict[str, list[dict[str, Any]]] = {}
    for run in sorted(chain.from_iterable(map(find_runs, archives)), key=lambda run: run.path.name):
        facts = run.read_config()
        config, split = facts["config"], facts["task"]["split"]
        for training in run.trainings():
            record = run.read_metrics(training)
            lines.setdefault(config["task"], []).append(
                {
                    "variant": recorded_variant(config),
                    "run": run.path.name,
                    "split": split,
                    "limit": config["limit"],
                    "seed": training.seed,
                    "fold": training.fold,
                    **record["metrics"],
                    **{f"{part}_rows": n for part, n in record["rows"].items()},
                    "best_epoch": record["best_epoch"],
                    "epochs": record["epochs"],
                    "precision": config["training"]["precision"],
                    "device": record["device"],
                    "wall_seconds": round(record["wall_seconds"], 1),
                    "commit": short(record["provenance"]["git_commit"]),
                }
            )
    return {task: pd.DataFrame(rows).to_csv(index=False, lineterminator="\n") for task, rows in lines.items()}


def repeated(pattern: Path) -> str:
    """Return the table of the blocks that were trained more than once, a line for each run.

    Raises:
        ValueError: There is no such block, or its runs have different test rows.
    """
    folds = [f"fold {fold}" for fold in range(N_FOLDS)]
    heading = ["variant", "commit", *folds, "mean", "this line less the first, mean over rows (95 % interval)"]
    lines = []
    for block, runs in by_block(pattern).items():
        if len(runs) < 2:
            continue
        first = predicted(runs[0]).error
        for run in runs:
            records = [run.read_metrics(Training(0, fold)) for fold in range(N_FOLDS)]
            errors = [record["metrics"]["mae"] for record in records]
            made = commits(record["provenance"]["git_commit"] for record in records)
            less_first = "–"
            if run is not runs[0]:
                change = predicted(run).error - first
                if change.isna().any():
                    raise ValueError(f"{run.path} has other test rows than {runs[0].path}.")
                less_first = f"{number(change.mean())} ({' to '.join(map(number, bootstrap_mean(change)))})"
            lines.append([f"`{block}`", made, *map(number, errors), number(np.mean(errors)), less_first])
    if not lines:
        raise ValueError(f"{pattern}: no block was trained more than once.")
    return markdown(heading, lines)


def apart(pattern: Path) -> str:
    """Return the table of mean absolute differences between the predictions of two runs for the same rows.

    The diagonal is for blocks that were trained more than once. Several pairs of runs are averaged.

    Raises:
        ValueError: The runs have different test rows.
    """
    predictions = {block: [predicted(run).prediction for run in runs] for block, runs in by_block(pattern).items()}
    if len({frozenset(rows.index) for of_block in predictions.values() for rows in of_block}) > 1:
        raise ValueError(f"{pattern}: the runs with all five folds have different test rows.")

    def distance(one: str, other: str) -> float | None:
        pairs = product(predictions[one], predictions[other]) if one != other else combinations(predictions[one], 2)
        distances = [(first - second).abs().mean() for first, second in pairs]
        return np.mean(distances) if distances else None

    rows = ([f"`{one}`", *(number(distance(one, other)) for other in predictions)] for one in predictions)
    return markdown(["", *(f"`{block}`" for block in predictions)], rows)


def by_block(pattern: Path) -> dict[str, list[Run]]:
    """Return the runs with all five folds of seed 0 in the archives of this pattern, by block, first trainings first.

    Raises:
        ValueError: Runs of a block differ in their configuration, or there is none.
    """
    found: dict[str, list[Run]] = {}
    archives = sorted(pattern.parent.glob(pattern.name), key=lambda path: path.stem)
    for run in chain.from_iterable(map(find_runs, archives)):
        facts = run.read_config()
        if facts["task"]["split"] == "folds" and {Training(0, fold) for fold in range(N_FOLDS)} <= set(run.trainings()):
            of_block = found.setdefault(recorded_variant(facts["config"]), [])
            of_block.append(run)
            if facts["config"] != of_block[0].read_config()["config"]:
                raise ValueError(f"{run.path} has another configuration than {of_block[0].path}.")
    if not found:
        raise ValueError(f"{pattern}: there is no run with all five folds of seed 0.")
    return found


def predicted(run: Run) -> pd.DataFrame:
    """Return the predictions of a run with seed 0 for the test rows of all folds, and their errors, by row id."""
    folds = [run.read_predictions(Training(0, fold)) for fold in range(N_FOLDS)]
    errors = [abs(fold.prediction - fold.target) for fold in folds]
    return pd.concat(
        pd.DataFrame({"prediction": fold.prediction, "error": error}, index=fold.ids)
        for fold, error in zip(folds, errors, strict=True)
    )
