"""Table of models trained here by the recipes of their publications, beside what was published of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.base.console import duration
from benchmarks.data.folds import N_FOLDS
from benchmarks.results.leaderboard import published
from benchmarks.results.metrics import primary_metric
from benchmarks.results.recorded import recorded_variant
from benchmarks.results.store import find_runs
from tools.results_page.formats import commits, markdown, number

__all__ = ["reproduced"]

_PUBLISHED = {
    "cgcnn": "CGCNN v2019",
    "cogn": "coGN",
    "megnet": "MegNet (kgcnn v2.1.0)",
    "schnet": "SchNet (kgcnn v2.1.0)",
}


def reproduced(folder: Path) -> str:
    """Return the errors of the runs in a folder, fold by fold, each above the published ones of the same model.

    Raises:
        ValueError: There is no run.
    """
    lines = []
    for run in sorted(find_runs(folder), key=lambda run: run.path.name):
        facts = run.read_config()
        name, task = recorded_variant(facts["config"]), facts["task"]
        metric = primary_metric(task["kind"]).name
        records = {t.fold: run.read_metrics(t) for t in run.trainings() if t.seed == 0}
        scores = {fold: record["metrics"][metric] for fold, record in records.items()}
        epochs = " or ".join(map(str, sorted({record["epochs"] for record in records.values()})))
        time = duration(sum(record["wall_seconds"] for record in records.values()))
        made = commits(record["provenance"]["git_commit"] for record in records.values())
        entry = next((entry for entry in published(task["name"]) if entry.model == _PUBLISHED.get(name)), None)
        beside = "–"
        if entry is not None and (theirs := entry.on_folds(list(scores))):
            beside = f"{np.mean(list(scores.values())) / theirs[0] - 1:+.1%}"
        lines.append([f"`{name}`", *_columns(scores), beside, epochs, time, made])
        if entry is not None:
            known = {fold: score for fold, score in enumerate(entry.folds) if score is not None}
            lines.append([entry.model, *_columns(known), "", "", "", "published"])
    if not lines:
        raise ValueError(f"{folder}: there is no run.")
    folds = [f"fold {fold}" for fold in range(N_FOLDS)]
    return markdown(["model", *folds, "mean", "std", "beside the published", "epochs", "time", "commit"], lines)


def _columns(scores: Mapping[int, float]) -> list[str]:
    """Return the score of each fold, and their mean and standard deviation (ddof 0) as on the leaderboard."""
    found = list(scores.values())
    summary = [number(float(np.mean(found))), number(float(np.std(found)))]
    return [*(number(scores.get(fold)) for fold in range(N_FOLDS)), *summary]
