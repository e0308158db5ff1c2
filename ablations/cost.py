"""What a training will cost, estimated from a few steps of it."""

from __future__ import annotations

import statistics
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.base.errors import RunError, SenBenchError, printable
from benchmarks.base.interrupts import Interrupted
from benchmarks.base.machine import hold_device, prepare_arithmetic
from benchmarks.base.stopwatch import Stopwatch
from benchmarks.results.run_config import is_fitted
from benchmarks.training.loader import GraphTensors, epoch_batches
from benchmarks.training.plans import Plan
from benchmarks.training.trainer import Predictor, build_model, n_parameters, predict, train_fold
from sen.registry import guard

__all__ = ["Cost", "finished_cost", "probe"]

# The first step also allocates memory and loads kernels; it is not counted.
_STEPS = 7
_PREDICTED = 256


@dataclass(frozen=True)
class Cost:
    """Wall time of one training, on the machine and with the threads that it was measured with.

    Attributes:
        epoch_seconds: Wall time of one epoch, including validation.
        training_seconds: Wall time of all epochs; a training that stops early takes less.
        parameters: Number of parameters of the model.
    """

    epoch_seconds: float
    training_seconds: float
    parameters: int


def finished_cost(plan: Plan) -> Cost:
    """Return the median cost of the finished trainings of a plan.

    Raises:
        DataError: A record cannot be read.
    """
    finished = [training for training in plan.trainings if training not in plan.missing]
    records = [plan.run.read_metrics(training) for training in finished]
    return Cost(
        statistics.median(record["wall_seconds"] / record["epochs"] for record in records),
        statistics.median(record["wall_seconds"] for record in records),
        records[0]["parameters"],
    )


def probe(plan: Plan, *, device: str, threads: int) -> Cost:
    """Train a few steps of the plan's first training, discard its state, and extrapolate.

    Args:
        plan: What would be trained.
        device: "cpu", "cuda" or "cuda:N".
        threads: CPU threads that a worker would have.

    Raises:
        SenBenchError: It cannot be trained.
    """

    def explain(error: Exception) -> RunError:
        return RunError(f"{type(error).__name__}: {printable(error, 200)}.")

    with guard("The probe of a training failed.", explain, passing=SenBenchError):
        return _probe(plan, device, threads)


def _probe(plan: Plan, device: str, threads: int) -> Cost:
    config, fold = plan.config, plan.fold(plan.trainings[0])
    prepare_arithmetic(threads)
    with hold_device(device) as held:
        graphs = GraphTensors(plan.graphs, held)
        predictor = Predictor(build_model(config)).to(graphs.device)
        batches = epoch_batches(
            fold.train,
            predictor.model.cost(graphs.graph),
            size=config.training.batch_size,
            edge_budget=config.training.edge_budget,
            rng=np.random.default_rng(0),
        )
        n_steps, n_epochs = (1, 1) if is_fitted(config.variant) else (len(batches), config.training.epochs)
        # At most one epoch: after it `stop` is also called between the batches of the validation.
        stopwatch, moments, n_probed = Stopwatch(), [0.0], min(_STEPS, n_steps)

        def stop() -> bool:
            if graphs.device.type == "cuda":
                torch.cuda.synchronize(graphs.device)  # a step does not wait for its own end
            moments.append(stopwatch.lap())
            return len(moments) > n_probed

        target, kind = np.asarray(plan.dataset.table.target), plan.dataset.task.kind
        with suppress(Interrupted):
            train_fold(config, graphs, target, fold, kind=kind, seed=0, stop=stop)
        seconds = np.diff(moments).tolist()
        step = statistics.median(seconds[1:] or seconds)
        validation = 0.0
        if len(rows := fold.validation[:_PREDICTED]):
            start = stopwatch.lap()
            # `stop` never asks to stop: it ends a lap.
            budget = config.training.edge_budget
            predict(predictor, graphs, rows, edge_budget=budget, stop=lambda: stopwatch.lap() < start)
            validation = (stopwatch.lap() - start) * len(fold.validation) / len(rows)
    epoch = step * n_steps + validation
    return Cost(epoch, epoch * n_epochs, n_parameters(predictor))
