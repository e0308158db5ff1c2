"""A run: the folds and seeds asked for, those that are missing trained, each stored as soon as it is finished."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.batches import GraphTensors
from benchmarks.config import RunConfig
from benchmarks.crystals import Progress
from benchmarks.data import Dataset
from benchmarks.errors import RunError, SenBenchError, UsageError
from benchmarks.folds import N_FOLDS, Fold, make_folds
from benchmarks.graphs import GraphTable, build_graphs
from benchmarks.machine import n_cores, peak_memory, prepare_arithmetic, provenance
from benchmarks.metrics import classification_metrics, mean_absolute_deviation, primary_metric, regression_metrics
from benchmarks.reference import extra_trees_on_composition
from benchmarks.store import Run, Unit
from benchmarks.training import Epoch, build_model, predict, train_fold

__all__ = ["Overwrite", "Plan", "execute", "make_plan", "summarise"]

Overwrite = Literal["only-missing", "always", "never"]


@dataclass(frozen=True)
class Plan:
    """What a run command will do.

    Attributes:
        config: The configuration.
        dataset: The crystals.
        graphs: Their graphs.
        run: Where results go.
        units: The folds and seeds asked for.
        missing: Those of them that have to be trained.
    """

    config: RunConfig
    dataset: Dataset
    graphs: GraphTable
    run: Run
    units: list[Unit]
    missing: list[Unit]

    def fold(self, unit: Unit) -> Fold:
        """The rows of a unit's fold."""
        task, table = self.dataset.task, self.dataset.table
        folds = make_folds(task.kind, table.row, task.n_rows, table.target, unit.seed, limit=self.config.limit)
        return folds[unit.fold]


def make_plan(
    config: RunConfig,
    dataset: Dataset,
    *,
    folds: Sequence[int],
    seeds: Sequence[int],
    out: Path,
    overwrite: Overwrite = "only-missing",
    jobs: int = -1,
    progress: Progress | None = None,
) -> Plan:
    """Build the graphs, open the run folder and see which folds are missing.

    Raises:
        UsageError: A fold or seed that cannot be, too few rows, a block that refuses its configuration, a folder that
            cannot be written, or results that exist although `overwrite` is "never".
    """
    task, table = dataset.task, dataset.table
    wrong = [fold for fold in folds if fold not in range(N_FOLDS)]
    if wrong or len(set(folds)) != len(folds) or not folds:
        raise UsageError(f"--folds takes different numbers from 0 to {N_FOLDS - 1}, not {','.join(map(str, folds))}.")
    if not seeds or min(seeds) < 0:
        raise UsageError("A seed is a whole number from 0 on, and at least one is needed.")
    make_folds(task.kind, table.row, task.n_rows, table.target, seeds[0], limit=config.limit)
    with torch.device("meta"):
        build_model(config)
    name = f"{config.block_name}-{config.digest(table.digest)}"
    facts = {
        "config": config.model_dump(mode="json"),
        "data": {
            "source": dataset.source,
            "digest": table.digest,
            "rows": len(table),
            "official_rows": task.n_rows,
            "coverage": dataset.coverage,
        },
    }
    run = Run.create(out, task.name, name, facts)
    units = [Unit(seed, fold) for seed in seeds for fold in folds]
    finished = run.units()
    if overwrite == "never" and any(unit in finished for unit in units):
        raise UsageError(f"{run.path} already holds results, and --overwrite never leaves them alone.")
    missing = units if overwrite == "always" else [unit for unit in units if unit not in finished]
    graphs = build_graphs(table, config.graph, jobs=jobs, progress=progress)
    return Plan(config, dataset, graphs, run, units, missing)


def execute(
    plan: Plan,
    *,
    device: str,
    jobs: int = 1,
    on_epoch: Callable[[Unit, Epoch], None] = lambda *_: None,
    on_unit: Callable[[Unit, dict[str, Any] | SenBenchError], None] = lambda *_: None,
) -> dict[Unit, SenBenchError]:
    """Train the missing units, several at a time where `jobs` says so, and store each when it is finished.

    Args:
        plan: What to do.
        device: "cpu", "cuda" or "cuda:N".
        jobs: Processes; the cores are divided among them. With one, training takes place in this process.
        on_epoch: Called after every epoch of every unit, in this process.
        on_unit: Called with a unit's record, or with why it failed.

    Returns:
        The units that failed, with the reason; one failure stops no other unit.
    """
    failures = {}
    outcomes = _in_turn if jobs == 1 or len(plan.missing) < 2 else _in_parallel
    for unit, outcome in outcomes(plan, device, jobs, on_epoch):
        if isinstance(outcome, SenBenchError):
            failures[unit] = outcome
        plan.run.write_summary(summarise(plan))
        on_unit(unit, outcome)
    return failures


Outcome = dict[str, Any] | SenBenchError


def _in_turn(
    plan: Plan, device: str, _jobs: int, on_epoch: Callable[[Unit, Epoch], None]
) -> Iterator[tuple[Unit, Outcome]]:
    for unit in plan.missing:
        yield unit, _train_unit(plan, unit, device, n_cores(), partial(on_epoch, unit))


def _in_parallel(
    plan: Plan, device: str, jobs: int, on_epoch: Callable[[Unit, Epoch], None]
) -> Iterator[tuple[Unit, Outcome]]:
    from multiprocessing import Manager
    from threading import Thread

    from joblib import Parallel, delayed

    jobs = min(n_cores() if jobs < 0 else jobs, len(plan.missing))
    threads = max(1, n_cores() // jobs)
    with Manager() as manager:
        queue = manager.Queue()

        def listen() -> None:
            while (message := queue.get()) is not None:
                on_epoch(*message)

        listener = Thread(target=listen, daemon=True)
        listener.start()
        try:
            tasks = (delayed(_train_in_worker)(plan, unit, device, threads, queue) for unit in plan.missing)
            yield from Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(tasks)
        finally:
            queue.put(None)
            listener.join()


def _train_in_worker(plan: Plan, unit: Unit, device: str, threads: int, queue: Any) -> tuple[Unit, Outcome]:
    return unit, _train_unit(plan, unit, device, threads, lambda epoch: queue.put((unit, epoch)))


def _train_unit(plan: Plan, unit: Unit, device: str, threads: int, on_epoch: Callable[[Epoch], None]) -> Outcome:
    """Train, predict the test rows once, and store; or return why that failed."""
    prepare_arithmetic(threads)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    task, table, fold = plan.dataset.task, plan.dataset.table, plan.fold(unit)
    graphs = GraphTensors(plan.graphs, device)
    try:
        trained = train_fold(
            plan.config, graphs, np.asarray(table.target), fold, kind=task.kind, seed=unit.seed, on_epoch=on_epoch
        )
        prediction = predict(trained.model, graphs, fold.test, edge_budget=plan.config.training.edge_budget)
        if task.kind == "classification":
            prediction = 1 / (1 + np.exp(-prediction))
        target = np.asarray(table.target[fold.test])
        score = regression_metrics if task.kind == "regression" else classification_metrics
        record = {
            "task": task.name,
            "block": plan.config.block_name,
            "seed": unit.seed,
            "fold": unit.fold,
            "metrics": score(target, prediction),
            "mean_absolute_deviation": mean_absolute_deviation(target),
            "rows": {"train": len(fold.train), "validation": len(fold.validation), "test": len(fold.test)},
            "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
            "best_epoch": trained.best_epoch,
            "epochs": len(trained.history),
            "wall_seconds": time.perf_counter() - start,
            "peak_memory_bytes": peak_memory(),
            "peak_device_memory_bytes": torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else None,
            "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
            "threads": threads,
            "data_digest": table.digest,
            "provenance": provenance(),
        }
        plan.run.write_unit(
            unit,
            predictions=list(zip(table.ids[fold.test].tolist(), target.tolist(), prediction.tolist(), strict=True)),
            record=record,
            history=trained.history,
            weights=trained.model.state_dict(),
        )
    except SenBenchError as error:
        return error
    except torch.OutOfMemoryError:
        return RunError(f"{device} ran out of memory: lower training.batch_size or training.edge_budget.")
    return record


def summarise(plan: Plan) -> dict[str, Any]:
    """Mean and standard deviation (ddof 0, as MatBench) of every metric over the finished units asked for.

    A task without a leaderboard carries the errors of two references on the same test rows instead: extremely
    randomised trees on the composition, and the mean absolute deviation of the targets.
    """
    task, table = plan.dataset.task, plan.dataset.table
    finished = set(plan.run.units())
    units = [unit for unit in plan.units if unit in finished]
    records = [plan.run.read_metrics(unit) for unit in units]
    names = list(records[0]["metrics"]) if records else []
    values = {name: [_number(record["metrics"][name]) for record in records] for name in names}
    summary: dict[str, Any] = {
        "task": task.name,
        "block": plan.config.block_name,
        "coverage": plan.dataset.coverage,
        "primary_metric": primary_metric(task.kind).name,
        "units": [{"seed": u.seed, "fold": u.fold, **r["metrics"]} for u, r in zip(units, records, strict=True)],
        "mean": {name: statistics.fmean(column) for name, column in values.items()},
        "std": {name: statistics.pstdev(column) for name, column in values.items()},
        "wall_seconds": sum(record["wall_seconds"] for record in records),
        "peak_memory_bytes": max((record["peak_memory_bytes"] for record in records), default=None),
    }
    if not task.is_official and task.kind == "regression":
        folds = [plan.fold(unit) for unit in units if unit.seed == plan.units[0].seed]
        trees = [np.abs(extra_trees_on_composition(table, f, task.kind) - table.target[f.test]).mean() for f in folds]
        spread = [mean_absolute_deviation(table.target[fold.test]) for fold in folds]
        summary["references"] = {
            "ExtraTrees on composition": float(np.mean(trees)) if trees else math.nan,
            "mean absolute deviation": float(np.mean(spread)) if spread else math.nan,
        }
    return summary


def _number(value: float | None) -> float:
    return math.nan if value is None else value
