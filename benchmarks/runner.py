"""A run: the folds and seeds asked for, those that are missing trained, each stored as soon as it is finished."""

from __future__ import annotations

import itertools
import logging
import math
import signal
import statistics
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import AuthenticationError
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import BaseFileLock, Timeout

from benchmarks.batches import GraphTensors
from benchmarks.channel import Address, Hub, Line
from benchmarks.config import RunConfig
from benchmarks.crystals import Progress
from benchmarks.data import Dataset
from benchmarks.errors import RunError, SenBenchError, UsageError, printable
from benchmarks.folds import N_FOLDS, Fold, check_fold_numbers, make_folds
from benchmarks.graphs import GraphTable, build_graphs
from benchmarks.interrupts import SIGNALS, Interrupted, StopRequest
from benchmarks.machine import n_cores, n_threads, peak_memory, prepare_arithmetic, provenance
from benchmarks.metrics import classification_metrics, mean_absolute_deviation, primary_metric, regression_metrics
from benchmarks.reference import extra_trees_on_composition
from benchmarks.store import Run, Unit
from benchmarks.training import Epoch, build_model, predict, probabilities, train_fold
from benchmarks.workers import held_alive

__all__ = ["Overwrite", "Plan", "execute", "make_plan", "references", "summarise"]

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
        again: Whether results and states of the units are discarded, and all are trained from the beginning.
    """

    config: RunConfig
    dataset: Dataset
    graphs: GraphTable
    run: Run
    units: list[Unit]
    missing: list[Unit]
    again: bool

    @property
    def under_way(self) -> list[Unit]:
        """The missing units that an earlier command began."""
        return [] if self.again else [unit for unit in self.run.under_way() if unit in self.missing]

    def fold(self, unit: Unit) -> Fold:
        """The rows of a unit's fold."""
        task, table = self.dataset.task, self.dataset.table
        folds = make_folds(
            task.kind, table.row, task.n_rows, table.target, unit.seed, limit=self.config.limit, split=task.split
        )
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
    check_fold_numbers(folds, task.split)
    if not seeds or min(seeds) < 0:
        raise UsageError("A seed is a whole number from 0 on, and at least one is needed.")
    try:
        make_folds(task.kind, table.row, task.n_rows, table.target, seeds[0], limit=config.limit, split=task.split)
    except UsageError as error:
        raise UsageError(f"{dataset.source}: {error}") from None
    with torch.device("meta"):
        build_model(config)
    name = f"{config.block_name}-{config.digest(dataset.digest)}"
    facts = {
        "config": config.model_dump(mode="json"),
        "task": task.facts(),
        "data": {
            "source": dataset.source,
            "digest": table.digest,
            "rows": len(table),
            "official_rows": task.n_rows,
            "coverage": dataset.coverage,
            "is_complete": dataset.is_complete,
            "read_as_hydrogen": dataset.read_as_hydrogen,
            "skipped": [row._asdict() for row in dataset.skipped],
        },
    }
    run = Run.create(out, task.name, name, facts)
    units = [Unit(seed, fold) for seed in seeds for fold in folds]
    finished = run.units()
    if overwrite == "never" and (there := [unit for unit in units if unit in finished]):
        raise UsageError(
            f"{run.path} already holds results ({'; '.join(map(str, there))}): with --overwrite never nothing is run."
        )
    again = overwrite == "always"
    missing = units if again else [unit for unit in units if unit not in finished]
    graphs = build_graphs(table, config.graph, jobs=jobs, progress=progress)
    return Plan(config, dataset, graphs, run, units, missing, again)


def execute(
    plan: Plan,
    *,
    device: str,
    stop: StopRequest,
    jobs: int = 1,
    on_epoch: Callable[[Unit, Epoch], None] = lambda *_: None,
    on_unit: Callable[[Unit, dict[str, Any] | SenBenchError], None] = lambda *_: None,
    on_wait: Callable[[Sequence[Unit]], None] = lambda *_: None,
) -> dict[Unit, SenBenchError]:
    """Train the missing units, several at a time where `jobs` says so, and store each when it is finished.

    A unit that another process is training is left to it; when it is done, its result is taken.

    Args:
        plan: What to do.
        device: "cpu", "cuda" or "cuda:N".
        stop: Whether to stop; the units under way then save their state.
        jobs: Processes; the cores are divided among them. With one, training takes place in this process.
        on_epoch: Called after every epoch of every unit, in this process.
        on_unit: Called with a unit's record, or with why it failed.
        on_wait: Called with the units that others are training, when nothing else is left to do.

    Returns:
        The units that failed, with the reason; one failure stops no other unit.

    Raises:
        Interrupted: Somebody asked to stop; the message says what is saved.
    """
    failures: dict[Unit, SenBenchError] = {}
    waiting = list(plan.missing)
    while waiting:
        train = _in_turn if jobs == 1 or len(waiting) < 2 else _in_parallel
        taken, stopped = [], []
        with closing(train(plan, waiting, device, jobs, stop, on_epoch)) as outcomes:
            for unit, outcome in outcomes:
                if outcome is None:
                    taken.append(unit)
                    continue
                if isinstance(outcome, Interrupted):
                    if stop:
                        stopped.append(f"{unit}: {outcome}")
                        continue
                    outcome = RunError(f"It was interrupted ({outcome}), and nobody asked for it.")  # noqa: PLW2901
                if isinstance(outcome, SenBenchError):
                    failures[unit] = outcome
                plan.run.write_summary(partial(summarise, plan))
                on_unit(unit, outcome)
        if stop:
            raise Interrupted("; ".join(stopped))
        if taken:
            on_wait(taken)
        waiting = _wait(plan.run, taken, stop)
    return failures


# What became of a unit; None where another process is training it.
Outcome = dict[str, Any] | SenBenchError | Interrupted | None

_POLL_SECONDS = 1.0


def _wait(run: Run, taken: Sequence[Unit], stop: StopRequest) -> list[Unit]:
    """Wait until at least one of the units that others are training is free, and return all of them.

    Raises:
        Interrupted: Somebody asked to stop.
    """
    locks = [run.lock(unit) for unit in taken]
    while locks and not any(map(_is_free, locks)):
        time.sleep(_POLL_SECONDS)
        if stop:
            raise Interrupted
    return list(taken)


def _is_free(lock: BaseFileLock) -> bool:
    try:
        with lock.acquire(timeout=0):
            return True
    except Timeout:
        return False


def _in_turn(
    plan: Plan,
    units: Sequence[Unit],
    device: str,
    _jobs: int,
    stop: StopRequest,
    on_epoch: Callable[[Unit, Epoch], None],
) -> Generator[tuple[Unit, Outcome]]:
    for unit in units:
        if not stop:
            yield unit, _train_unit(plan, unit, device, n_threads(), partial(on_epoch, unit), lambda: bool(stop))


def _in_parallel(
    plan: Plan,
    units: Sequence[Unit],
    device: str,
    jobs: int,
    stop: StopRequest,
    on_epoch: Callable[[Unit, Epoch], None],
) -> Generator[tuple[Unit, Outcome]]:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    jobs = min(n_cores() if jobs < 0 else jobs, len(units))
    threads = max(1, n_threads() // jobs)
    left = set(units)
    with Hub(lambda message: on_epoch(*message)).listening() as hub, stop.calling(hub.stop):
        devices = itertools.cycle(_all_devices(device))
        tasks = (delayed(_train_in_worker)(plan, unit, next(devices), threads, hub.address) for unit in units)
        results = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(tasks)
        try:
            for unit, outcome in results:
                left.discard(unit)
                yield unit, outcome
        except BrokenProcessPool:
            lost = RunError(
                "a worker process died; a system that runs out of memory kills the largest: try fewer --jobs."
            )
            yield from ((unit, Interrupted("its worker was stopped") if stop else lost) for unit in sorted(left))
        finally:
            # Whatever ends this, joblib would kill its workers: let them save their state first.
            hub.stop()
            with suppress(BrokenProcessPool):
                for _ in results:
                    pass


def _all_devices(device: str) -> list[str]:
    """All GPUs where just "cuda" is asked for, to be dealt out one per worker; else the device itself."""
    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] if device == "cuda" else [device]


def _train_in_worker(plan: Plan, unit: Unit, device: str, threads: int, hub: Address) -> tuple[Unit, Outcome]:
    # Signals reach all processes of a terminal or a job; the word to stop comes from the one that started them.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    try:
        line = Line(hub)
    except (OSError, EOFError, AuthenticationError):  # the process that started this one is gone
        return unit, Interrupted("not begun")
    with held_alive(hub.process), line:
        return unit, _train_unit(plan, unit, device, threads, lambda epoch: line.send((unit, epoch)), line.stopped)


def _train_unit(
    plan: Plan, unit: Unit, device: str, threads: int, on_epoch: Callable[[Epoch], None], stop: Callable[[], bool]
) -> Outcome:
    """Train, predict the test rows once, and store; or return why that did not happen."""
    run = plan.run
    try:
        with run.lock(unit).acquire(timeout=0):
            run.sweep(unit)
            if plan.again and not stop():
                run.discard(unit)
            if run.is_finished(unit):  # by another process, since the plan was made
                return run.read_metrics(unit)
            return _train_and_store(plan, unit, device, threads, on_epoch, stop)
    except Timeout:
        return None
    except (SenBenchError, Interrupted) as outcome:
        return outcome
    except OSError as error:
        return RunError(f"A file that the training needs cannot be used ({error}).")
    except Exception as error:  # whatever a plug-in raises
        logging.getLogger("sen_bench").debug("The training of %s failed.", unit, exc_info=True)
        return _explain(error, plan.config.block_name, device)


def _explain(error: Exception, block_name: str, device: str) -> RunError:
    if isinstance(error, torch.OutOfMemoryError):
        return RunError(f"{device} ran out of memory: lower training.batch_size or training.edge_budget.")
    return RunError(
        f"SEN with the block {block_name!r} raised {type(error).__name__}: {printable(error, 200)}. "
        f"`sen-bench check-block {block_name}` says which contracts the block breaks."
    )


def _train_and_store(
    plan: Plan, unit: Unit, device: str, threads: int, on_epoch: Callable[[Epoch], None], stop: Callable[[], bool]
) -> dict[str, Any]:
    if stop():
        raise Interrupted("not begun")
    start = time.perf_counter()
    prepare_arithmetic(threads)
    if device.startswith("cuda"):
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(device)
    task, table, fold = plan.dataset.task, plan.dataset.table, plan.fold(unit)
    graphs, origin = GraphTensors(plan.graphs, device), provenance()
    trained = train_fold(
        plan.config,
        graphs,
        np.asarray(table.target),
        fold,
        kind=task.kind,
        seed=unit.seed,
        on_epoch=on_epoch,
        checkpoint=plan.run.state_path(unit),
        session={"device": device, "threads": torch.get_num_threads(), **origin},
        stop=stop,
    )
    budget = plan.config.training.edge_budget
    try:
        prediction = predict(trained.model, graphs, fold.test, edge_budget=budget, stop=stop)
    except Interrupted:
        raise Interrupted("trained, and not yet tested") from None
    if task.kind == "classification":
        prediction = probabilities(prediction)
    target = np.asarray(table.target[fold.test])
    score = regression_metrics if task.kind == "regression" else classification_metrics
    on_gpu = device.startswith("cuda")
    record = {
        "task": task.name,
        "kind": task.kind,
        "block": plan.config.block_name,
        "seed": unit.seed,
        "fold": unit.fold,
        "metrics": score(target, prediction),
        "mean_absolute_deviation": mean_absolute_deviation(target),
        "rows": {"train": len(fold.train), "validation": len(fold.validation), "test": len(fold.test)},
        "coverage": plan.dataset.coverage,
        "elements": table.elements(fold.train),
        "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
        "best_epoch": trained.best_epoch,
        "epochs": len(trained.history),
        "sessions": trained.sessions,
        "wall_seconds": trained.seconds_before + time.perf_counter() - start,
        "peak_memory_bytes": peak_memory(),
        "peak_device_memory_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else None,
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "threads": torch.get_num_threads(),
        "data_digest": table.digest,
        "provenance": origin,
    }
    plan.run.write_unit(
        unit,
        predictions=list(zip(table.ids[fold.test].tolist(), target.tolist(), prediction.tolist(), strict=True)),
        record=record,
        history=trained.history,
        weights=trained.model.state_dict(),
    )
    return record


def summarise(plan: Plan) -> dict[str, Any]:
    """Summarise everything that is finished in the run, whichever command asked for it.

    A fold's score is the mean over its seeds; mean and standard deviation (ddof 0, as MatBench) are over the folds.
    """
    task = plan.dataset.task
    units = plan.run.units()
    records = [plan.run.read_metrics(unit) for unit in units]
    names = list(records[0]["metrics"]) if records else []
    folds = sorted({unit.fold for unit in units})
    scores = {
        name: [
            statistics.fmean(
                _number(record["metrics"][name]) for u, record in zip(units, records, strict=True) if u.fold == fold
            )
            for fold in folds
        ]
        for name in names
    }
    seeds = {unit.seed for unit in units}
    return {
        "task": task.name,
        "block": plan.config.block_name,
        "coverage": plan.dataset.coverage,
        "limit": plan.config.limit,
        "primary_metric": primary_metric(task.kind).name,
        "folds": folds,
        "seeds": sorted(seeds),
        "is_official": _is_official(plan, units),
        "units": [{"seed": u.seed, "fold": u.fold, **r["metrics"]} for u, r in zip(units, records, strict=True)],
        "mean": {name: statistics.fmean(column) for name, column in scores.items()},
        "std": {name: statistics.pstdev(column) for name, column in scores.items()},
        "wall_seconds": sum(record["wall_seconds"] for record in records),
        "peak_memory_bytes": max((record["peak_memory_bytes"] for record in records), default=None),
        "parameters": records[0]["parameters"] if records else None,
        "device": records[0]["device"] if records else None,
    }


def _is_official(plan: Plan, units: Sequence[Unit]) -> bool:
    """Whether the mean may stand on the leaderboard: official data, all of it, and all folds of every seed."""
    seeds = {unit.seed for unit in units}
    complete = bool(seeds) and len(units) == N_FOLDS * len(seeds)
    return complete and plan.dataset.task.is_official and plan.dataset.is_complete and plan.config.limit is None


def references(plan: Plan, folds: Sequence[int]) -> dict[str, float]:
    """Errors on the test rows of these folds of models that know little: composition alone, the mean alone.

    Shown where nothing is published to compare with.
    """
    task, table = plan.dataset.task, plan.dataset.table
    parts = [plan.fold(Unit(plan.units[0].seed, fold)) for fold in folds]
    targets = [table.target[part.test] for part in parts]
    metric = primary_metric(task.kind).name
    score = regression_metrics if task.kind == "regression" else classification_metrics
    trees = [
        score(target, extra_trees_on_composition(table, part, task.kind))[metric]
        for target, part in zip(targets, parts, strict=True)
    ]
    found = {"ExtraTrees on composition": float(np.mean(trees))}
    if task.kind == "regression":
        found["mean absolute deviation"] = float(np.mean([mean_absolute_deviation(target) for target in targets]))
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else value
