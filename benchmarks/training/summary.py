"""Summary of the finished trainings of a run, and the errors of reference models on the same rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.results.metrics import mean_absolute_deviation, primary_metric, score
from benchmarks.results.store import Training, fold_means, is_official
from benchmarks.training.plans import Plan
from benchmarks.training.reference import extra_trees_on_composition
from sen.registry import variant_kind

__all__ = ["references", "summarise"]


def summarise(plan: Plan) -> dict[str, Any]:
    """Summarise all finished trainings of the run of a plan, including those that the plan does not ask for.

    A fold's score is the mean over its seeds; mean and standard deviation (ddof 0, as MatBench) are over the folds,
    however many rows they test.
    """
    task = plan.dataset.task
    records = {training: plan.run.read_metrics(training) for training in plan.run.trainings()}
    first = next(iter(records.values()), None)
    scores = {
        name: list(fold_means({training: record["metrics"][name] for training, record in records.items()}).values())
        for name in (first["metrics"] if first else ())
    }
    return {
        "task": task.name,
        "split": task.split,
        variant_kind(plan.config.variant): plan.config.variant,
        "coverage": plan.dataset.coverage,
        "limit": plan.config.limit,
        "primary_metric": primary_metric(task.kind).name,
        "folds": sorted({training.fold for training in records}),
        "fold_names": plan.dataset.fold_names,
        "seeds": sorted({training.seed for training in records}),
        "is_official": is_official(plan.run.read_config(), list(records)),
        "trainings": [
            {"seed": training.seed, "fold": training.fold, **record["metrics"]} for training, record in records.items()
        ],
        "mean": {name: statistics.fmean(column) for name, column in scores.items()},
        "std": {name: float(np.std(column)) for name, column in scores.items()},
        "wall_seconds": sum(record["wall_seconds"] for record in records.values()),
        "peak_memory_bytes": max((record["peak_memory_bytes"] for record in records.values()), default=None),
        "parameters": first["parameters"] if first else None,
        "device": ", ".join(sorted({record["device"] for record in records.values()})) or None,
    }


def references(plan: Plan, folds: Sequence[int]) -> dict[str, float]:
    """Return the errors of reference models on the test rows of these folds.

    The references are extremely randomised trees on the composition and, for a regression, the mean of the target. They
    are shown where no published results exist. Errors in summary.json are reused if they are of the same folds.
    """
    known = plan.run.read_summary()
    if known.get("folds") == list(folds) and "references" in known:
        return {model: math.nan if error is None else error for model, error in known["references"].items()}
    task, table = plan.dataset.task, plan.dataset.table
    parts = [plan.fold(Training(plan.trainings[0].seed, fold)) for fold in folds]
    targets = [table.target[part.test] for part in parts]
    metric = primary_metric(task.kind).name
    trees = [
        score(task.kind, target, extra_trees_on_composition(table, part, task.kind))[metric]
        for target, part in zip(targets, parts, strict=True)
    ]
    found = {"ExtraTrees on composition": float(np.mean(trees))}
    if task.kind == "regression":
        found["mean absolute deviation"] = float(np.mean([mean_absolute_deviation(target) for target in targets]))
    return found
