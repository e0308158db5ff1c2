"""Variants of a grid whose trainings are made up."""

from __future__ import annotations

from typing import Any

import numpy as np

from ablations.grid import Setting
from ablations.judge import Judge
from ablations.scores import FinishedVariant
from benchmarks.results.metrics import classification_metrics, regression_metrics
from benchmarks.results.run_config import build_config
from benchmarks.results.store import Predictions, Training

N_TEST, FOLDS = 200, 5


def finished(
    block: str,
    error: float,
    *,
    seeds: int = 1,
    folds: int = FOLDS,
    fold_effect: float = 0.0,
    values: dict[str, str] | None = None,
    parameters: int = 100,
    parts: dict[str, int] | None = None,
    kind: str = "regression",
) -> FinishedVariant:
    """A block whose predictions are off by normal noise of that width, or whose labels are wrong so often."""
    records: dict[Training, dict[str, Any]] = {}
    predictions: dict[Training, Predictions] = {}
    for seed in range(seeds):
        for fold in range(folds):
            truth = np.random.default_rng(fold).normal(size=N_TEST)
            noise = np.random.default_rng([fold, seed, len(block), ord(block[0])])
            if kind == "regression":
                prediction = truth + noise.normal(0, error + fold_effect * fold, N_TEST)
                metrics = regression_metrics(truth, prediction)
            else:
                truth = (truth > 0).astype(float)
                prediction = np.where(noise.random(N_TEST) < error, 1 - truth, truth)
                metrics = classification_metrics(truth, prediction)
            training = Training(seed, fold)
            ids = [f"row-{fold}-{i}" for i in range(N_TEST)]
            predictions[training] = Predictions(ids, truth, prediction)
            records[training] = {
                "metrics": metrics, "parameters": parameters,
                **({"parameters_by_part": parts} if parts else {}), "wall_seconds": 30.0, "epochs": 10 + fold,
                "peak_memory_bytes": 2**30, "rows": {"train": 720, "validation": 80, "test": N_TEST},
            }  # fmt: skip
    setting = Setting(block, values or {}, build_config("prototypes", "mlp"))
    judge = Judge(kind)  # type: ignore[arg-type]
    score = {training: record["metrics"][judge.metric.name] for training, record in records.items()}
    return FinishedVariant(setting, judge, records, score, predictions)
