"""Finished runs that can be submitted to MatBench, and the hash of a submission."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.data.folds import data_digest, official_folds
from benchmarks.data.tasks import TASKS, Task
from benchmarks.results.recorded import config_digest
from benchmarks.results.run_config import build_config
from benchmarks.results.store import Run, Training
from tests.benchmarks.conftest import made_record

JDFT2D = TASKS["matbench_jdft2d"]
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class Epoch:
    epoch: int = 1


def make_run(
    root: Path,
    task: Task,
    targets: np.ndarray,
    predictions: Sequence[np.ndarray],
    *,
    block: str = "mlp",
    facts: dict[str, Any] | None = None,
) -> Run:
    """A finished run on complete official data.

    Args:
        root: Run store.
        task: Task.
        targets: Targets of all rows, [n_rows].
        predictions: What each seed predicts of them, each [n_rows].
        block: Name of the block.
        facts: Facts in the parts of config.json that are others.
    """
    config = build_config(task.name, block).model_dump(mode="json")
    data = {"source": task.file_name, "digest": "d", "rows": len(targets), "coverage": 1.0, "is_complete": True}
    recorded = {"config": config, "task": task.facts(), "data": data}
    recorded = {part: recorded[part] | (facts or {}).get(part, {}) for part in recorded}
    digest = config_digest(recorded["config"], data_digest(recorded["data"]["digest"], recorded["task"]["split"]))
    run = Run(root / task.name / f"{block}-{digest}")
    run.write_config(recorded)
    for seed, predicted in enumerate(predictions):
        for fold, (_, test) in enumerate(official_folds(task.kind, len(targets), targets)):
            write_fold(run, Training(seed, fold), [task.row_id(row) for row in test], targets[test], predicted[test])
    return run


def write_fold(run: Run, training: Training, ids: Sequence[str], targets: np.ndarray, predictions: np.ndarray) -> None:
    record = made_record(
        *(run, training, len(ids)),
        best_epoch=7,
        epochs=9,
        rows={"train": 458, "validation": 51, "test": len(ids)},
        parameters=1234,
        wall_seconds=1.5,
        provenance={"python": "3.11.7", "git_commit": None},
    )
    run.write_training(
        training,
        predictions=list(zip(ids, map(float, targets), map(float, predictions), strict=True)),
        record=record,
        history=[Epoch()],
        weights={"weight": torch.zeros(1)},
    )


def regression(n_seeds: int = 1, n_rows: int = 636) -> tuple[np.ndarray, list[np.ndarray]]:
    """Random targets and predictions."""
    rng = np.random.default_rng(0)
    return rng.normal(size=n_rows), list(rng.normal(size=(n_seeds, n_rows)))


def matbench_hash(content: dict[str, Any]) -> str:
    """The hash as matbench 0.6 defines it (matbench/util.py), for content that came from JSON."""

    def in_order(part: dict[str, Any]) -> dict[str, Any]:
        return {key: in_order(part[key]) if isinstance(part[key], dict) else part[key] for key in sorted(part)}

    return hashlib.sha256(json.dumps(in_order(content)).encode()).hexdigest()


def with_hash(content: dict[str, Any]) -> dict[str, Any]:
    content.pop("hash", None)
    return {**content, "hash": matbench_hash(content)}
