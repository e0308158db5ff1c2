"""Runs that nobody trained: stored as a training stores them, with predictions made up here."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.base.machine import provenance
from benchmarks.data.dataset import Dataset, load_dataset
from benchmarks.data.own_data import own_task
from benchmarks.data.tasks import RESAMPLE, TASKS
from benchmarks.results.metrics import classification_metrics, mean_absolute_deviation, regression_metrics
from benchmarks.results.recorded import config_digest, variant_kind_of
from benchmarks.results.run_config import Pretrained, build_config
from benchmarks.results.store import Run, Training, facts_digest
from benchmarks.training.plans import run_facts
from reports.study.reading import read_studies
from reports.study.study import Study
from tests.benchmarks.conftest import rocksalts

N_ROWS = 60


@dataclass
class Epoch:
    epoch: int
    train_loss: float
    validation: float
    learning_rate: float
    seconds: float


def write_partial(folder: Path, task: str = "matbench_jdft2d", n: int = N_ROWS) -> Path:
    """Write the first rows of a task into a folder, made up; returns the folder."""
    folder.mkdir(exist_ok=True, parents=True)
    content = {"index": list(range(n)), "columns": ["structure", TASKS[task].target], "data": rocksalts(n)}
    with gzip.open(folder / f"{task}.partial.json.gz", "wt") as file:
        json.dump(content, file)
    return folder


def official(folder: Path, task: str = "matbench_jdft2d", n: int = N_ROWS) -> Dataset:
    """The task with the rows that `write_partial` wrote."""
    return load_dataset(TASKS[task], write_partial(folder, task, n), jobs=1)


def own(
    folder: Path,
    *,
    kind: str = "regression",
    split: str = "folds",
    name: str = "mine.json",
    target: str = "a",
    n: int = N_ROWS,
) -> Dataset:
    """Data of one's own in a file in this folder."""
    folder.mkdir(exist_ok=True, parents=True)
    rows = rocksalts(n)
    if kind == "classification":
        rows = [[structure, a > 5.5] for structure, a in rows]
    content = {"index": list(range(n)), "columns": ["structure", target], "data": rows}
    (folder / name).write_text(json.dumps(content))
    unit = "Å" if kind == "regression" else ""
    return load_dataset(own_task(folder / name, target=target, kind=kind, split=split, unit=unit), jobs=1)


def tuned_by(trials: int, block: str = "mlp") -> dict[str, Any]:
    """The fields of a run whose recipe `sen-bench tune` chose on fold 0 of matbench_jdft2d."""
    fields = {
        "variant": block,
        "recipe": "own",
        "task": "matbench_jdft2d",
        "data": "rows",
        "folds": [0],
        "trials": trials,
    }
    return {f"tuned.{field}": value for field, value in fields.items()}


#: Weights that a run started from, as its configuration has them.
PRETRAINED = Pretrained(run="mlp-0", task="gaps", seed=2, fold=0, weights="w", allow_overlap=True)


def make_run(
    root: Path,
    dataset: Dataset,
    *,
    block: str = "mlp",
    folds: Sequence[int] = (0, 1, 2, 3, 4),
    seeds: Sequence[int] = (0,),
    noise: float = 0.1,
    flags: Mapping[str, Any] | None = None,
    name: str | None = None,
    pretrained: Pretrained | None = None,
) -> Run:
    """Store a run whose predictions are the targets and noise of this size, another for each seed."""
    task, table = dataset.task, dataset.table
    config = build_config(task.name, block, flags=flags).model_copy(update={"pretrained": pretrained})
    facts = run_facts(config, dataset)
    kind = variant_kind_of(facts["config"])
    facts["config"][f"{kind}_name"] = name or block
    run = Run(root / task.name / f"{name or block}-{config_digest(facts['config'], dataset.digest)}")
    run.write_config(facts)
    origin = provenance()
    for seed in seeds:
        for number in folds:
            recipe = config.training
            (fold,) = dataset.folds(seed, config.limit, recipe.validation, recipe.calibration, numbers=[number])
            error = 0.5 if len(fold.validation) else math.nan
            rng = np.random.default_rng([seed, number, len(block)])
            target, prediction = _predicted(dataset, fold.test, noise, rng)
            score = classification_metrics if task.kind == "classification" else regression_metrics
            calibrating = _predicted(dataset, fold.calibration, noise, rng)
            run.write_training(
                Training(seed, number),
                predictions=list(zip(table.ids[fold.test].tolist(), target.tolist(), prediction.tolist(), strict=True)),
                calibration=list(zip(table.ids[fold.calibration].tolist(), *map(list, calibrating), strict=True)),
                record={
                    "task": task.name,
                    "kind": task.kind,
                    kind: name or block,
                    "seed": seed,
                    "fold": number,
                    "metrics": score(target, prediction),
                    "mean_absolute_deviation": mean_absolute_deviation(target),
                    "rows": {part: len(rows) for part, rows in vars(fold).items() if part != "index"},
                    "coverage": dataset.coverage,
                    "elements": table.elements(fold.train),
                    "parameters": 1000,
                    "best_epoch": 2,
                    "epochs": 3,
                    "sessions": [{"device": "cpu", "threads": 1, **origin}],
                    "wall_seconds": 6.0,
                    "peak_memory_bytes": 2**30,
                    "peak_device_memory_bytes": None,
                    "device": "cpu",
                    "threads": 1,
                    "data_digest": table.digest,
                    "run": facts_digest(facts),
                    "provenance": origin,
                    **({"pretrained": {"source": f"there/{pretrained.run}/seed_2/fold_0"}} if pretrained else {}),
                },
                history=[Epoch(e, 1 / e, error / e, 1e-3, 2.0 * e) for e in (1, 2, 3)],
                weights={"weight": torch.zeros(1)},
            )
    return run


def _predicted(
    dataset: Dataset, rows: NDArray[np.int64], noise: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    target = np.asarray(dataset.table.target[rows])
    error = noise * rng.normal(size=len(target))
    return target, np.clip(
        0.8 * target + 0.1 + error, 0, 1
    ) if dataset.task.kind == "classification" else target + error


def make_resampled(root: Path, dataset: Dataset, *, block: str = "mlp", splits: int = 8, noise: float = 0.1) -> Run:
    """Store a run on random splits of a data set, fold i with seed i, as `ablate --resample` trains it."""
    drawn = replace(dataset, task=replace(dataset.task, split=RESAMPLE))
    runs = [make_run(root, drawn, block=block, folds=[i], seeds=[i], noise=noise) for i in range(splits)]
    return runs[-1]


def no_progress(_done: int, _total: int | None) -> None:
    pass


def study_of(folder: Path) -> Study:
    """The only study of the runs in this folder's `runs`, with the data in its `data`."""
    (study,) = read_studies([folder / "runs"], data_dir=folder / "data")
    return study
