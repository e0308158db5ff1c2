"""What the finished trainings of a run say together, beside what models that know little would say."""

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

__all__ = ["references", "summarise"]


def summarise(plan: Plan) -> dict[str, Any]:
    """Summarise everything that is finished in the run, whichever command asked for it.

    A fold's score is the mean over its seeds; mean and standard deviation (ddof 0, as MatBench) are over the folds.
    """
    task = plan.dataset.task
    trainings = plan.run.trainings()
    records = [plan.run.read_metrics(training) for training in trainings]
    names = list(records[0]["metrics"]) if records else []
    scores = {
        name: list(fold_means({u: r["metrics"][name] for u, r in zip(trainings, records, strict=True)}).values())
        for name in names
    }
    seeds = {training.seed for training in trainings}
    return {
        "task": task.name,
        "block": plan.config.block_name,
        "coverage": plan.dataset.coverage,
        "limit": plan.config.limit,
        "primary_metric": primary_metric(task.kind).name,
        "folds": sorted({training.fold for training in trainings}),
        "seeds": sorted(seeds),
        "is_official": is_official(plan.run.read_config(), trainings),
        "trainings": [
            {"seed": u.seed, "fold": u.fold, **r["metrics"]} for u, r in zip(trainings, records, strict=True)
        ],
        "mean": {name: statistics.fmean(column) for name, column in scores.items()},
        "std": {name: float(np.std(column)) for name, column in scores.items()},
        "wall_seconds": sum(record["wall_seconds"] for record in records),
        "peak_memory_bytes": max((record["peak_memory_bytes"] for record in records), default=None),
        "parameters": records[0]["parameters"] if records else None,
        "device": ", ".join(sorted({record["device"] for record in records})) or None,
    }


def references(plan: Plan, folds: Sequence[int]) -> dict[str, float]:
    """Errors on the test rows of these folds of models that know little: composition alone, the mean alone.

    Shown where nothing is published to compare with. Those in summary.json are taken where they are of the same folds.
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
