"""One training, from its plan to its folder in the run store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.base.errors import RunError, SenBenchError
from benchmarks.base.interrupts import Interrupted
from benchmarks.base.locks import Taken
from benchmarks.base.machine import hold_device, peak_memory, prepare_arithmetic, provenance, reset_peak_memory
from benchmarks.base.stopwatch import Stopwatch
from benchmarks.data.crystal_table import CrystalTable
from benchmarks.results.metrics import mean_absolute_deviation, score
from benchmarks.results.store import facts_digest
from benchmarks.training.loader import GraphTensors
from benchmarks.training.memory import check_memory
from benchmarks.training.plans import PlannedTraining, run_facts
from benchmarks.training.trainer import (
    Epoch,
    build_model,
    guard_model,
    n_parameters,
    parameters_by_part,
    predict,
    probabilities,
    train_fold,
)
from sen.registry import variant_code, variant_kind

__all__ = ["Outcome", "halted", "train_one"]

Outcome = dict[str, Any] | SenBenchError | Interrupted | None
"""Outcome of a training: its record, or why there is none; None if another process is working on it."""


def halted(planned: PlannedTraining, place: str = "not begun") -> Interrupted:
    """Return that a training was stopped at this place, or that it has a state from which it continues."""
    has_state = planned.plan.run.state_path(planned.training).exists()
    return Interrupted("its last state is saved" if has_state else place)


def train_one(
    planned: PlannedTraining, device: str, threads: int, on_epoch: Callable[[Epoch], None], stop: Callable[[], bool]
) -> Outcome:
    """Train one fold with one seed, predict its test rows once, and store the result; or return why that failed.

    Args:
        planned: The training and its plan.
        device: "cpu", "cuda:N", or "cuda" for a GPU that no other training on this machine holds.
        threads: CPU threads to compute with.
        on_epoch: Called after every epoch.
        stop: Called after every step; whether to stop.
    """
    plan, training = planned
    run = plan.run
    try:
        with (
            guard_model(
                plan.config.variant,
                device,
                action=f"The training of {training}",
                passing=(SenBenchError, Interrupted, OSError, Taken),
            ),
            run.lock(training) as is_held,
            hold_device(device) as held,
        ):
            if is_held:
                run.sweep(training)
            run.keep_config(run_facts(plan.config, plan.dataset))
            if run.is_finished(training):  # another process has finished it since the plan was made
                return run.read_metrics(training)
            return _train_and_store(planned, held, threads, on_epoch, stop)
    except Taken:
        return None
    except (SenBenchError, Interrupted) as outcome:
        # Without the frames that it passed through, which hold the model and the graphs in memory.
        outcome.__cause__ = outcome.__context__ = None
        return outcome.with_traceback(None)
    except OSError as error:
        return RunError(f"A file that the training needs cannot be used ({error}).")


def _train_and_store(
    planned: PlannedTraining, device: str, threads: int, on_epoch: Callable[[Epoch], None], stop: Callable[[], bool]
) -> dict[str, Any]:
    if stop():
        raise halted(planned)
    plan, training = planned
    stopwatch = Stopwatch()

    def stopped() -> bool:
        stopwatch.lap()
        return stop()

    prepare_arithmetic(threads)
    reset_peak_memory()
    if device.startswith("cuda"):
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats(device)
    task, table, fold = plan.dataset.task, plan.dataset.table, plan.fold(training)
    graphs, origin = GraphTensors(plan.graphs, device), provenance()
    check_memory(build_model(plan.config).to(device), graphs, fold.train, table.ids, plan.config.variant)
    budget, target = plan.config.training.edge_budget, np.asarray(table.target[fold.test])
    try:
        trained = train_fold(
            plan.config,
            graphs,
            np.asarray(table.target),
            fold,
            kind=task.kind,
            seed=training.seed,
            initial=plan.start.weights.read() if plan.start else None,
            on_epoch=on_epoch,
            checkpoint=plan.run.state_path(training),
            session={"device": device, "threads": torch.get_num_threads(), **origin},
            stop=stopped,
            stopwatch=stopwatch,
        )
        try:
            prediction, calibrating = (
                predict(trained.predictor, graphs, rows, edge_budget=budget, stop=stopped)
                for rows in (fold.test, fold.calibration)
            )
        except Interrupted:
            raise Interrupted("trained, and not yet tested") from None
        if task.kind == "classification":
            prediction, calibrating = probabilities(prediction), probabilities(calibrating)
        metrics = score(task.kind, target, prediction)
        if len(fold.calibration):  # a prediction that is not finite is an error here, too
            score(task.kind, table.target[fold.calibration], calibrating)
    except RunError as failure:  # it has not learnt, or predicts what is not finite: the same again from this state
        plan.run.state_path(training).unlink(missing_ok=True)
        plan.run.note_failure(training, str(failure))
        raise
    on_gpu = device.startswith("cuda")
    record = {
        "task": task.name,
        "kind": task.kind,
        variant_kind(plan.config.variant): plan.config.variant,
        f"{variant_kind(plan.config.variant)}_code": variant_code(plan.config.variant),
        "seed": training.seed,
        "fold": training.fold,
        "metrics": metrics,
        "mean_absolute_deviation": mean_absolute_deviation(target),
        "rows": {part: len(getattr(fold, part)) for part in ("train", "validation", "calibration", "test")},
        "coverage": plan.dataset.coverage,
        "elements": table.elements(fold.train),
        "parameters": n_parameters(trained.predictor),
        "parameters_by_part": parameters_by_part(trained.predictor.model),
        "best_epoch": trained.best_epoch,
        "epochs": len(trained.history),
        "sessions": trained.sessions,
        "wall_seconds": trained.seconds_before + stopwatch.lap(),
        "peak_memory_bytes": peak_memory(),
        "peak_device_memory_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else None,
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "threads": torch.get_num_threads(),
        "data_digest": table.digest,
        "run": facts_digest(run_facts(plan.config, plan.dataset)),
        "provenance": origin,
        **({"pretrained": plan.start.facts(fold.test)} if plan.start else {}),
    }
    plan.run.write_training(
        training,
        predictions=_predictions(table, fold.test, prediction),
        calibration=_predictions(table, fold.calibration, calibrating),
        record=record,
        history=trained.history,
        weights=trained.predictor.state_dict(),
    )
    return record


def _predictions(
    table: CrystalTable, rows: NDArray[np.int64], prediction: NDArray[np.float64]
) -> list[tuple[str, float, float]]:
    """Return the id, target and prediction of each of these rows [n]."""
    return list(zip(table.ids[rows].tolist(), table.target[rows].tolist(), prediction.tolist(), strict=True))
