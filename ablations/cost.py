"""What a training will cost, from a few steps of it."""

from __future__ import annotations

import statistics
import time
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from benchmarks.batches import GraphTensors, epoch_batches
from benchmarks.interrupts import Interrupted
from benchmarks.machine import hold_device, prepare_arithmetic
from benchmarks.plans import Plan
from benchmarks.training import build_model, predict, train_fold

__all__ = ["Cost", "probe"]

# The first step pays for memory and kernels that later ones find ready.
_STEPS = 6
_PREDICTED = 256


@dataclass(frozen=True)
class Cost:
    """Wall time of one unit on the machine and threads it was probed with.

    Attributes:
        epoch_seconds: An epoch, validation included.
        unit_seconds: All epochs; less where a training stops early.
        parameters: Of SEN with the block.
    """

    epoch_seconds: float
    unit_seconds: float
    parameters: int


def probe(plan: Plan, *, device: str, threads: int) -> Cost:
    """Train a few steps of the plan's first unit, whose state is thrown away, and extrapolate.

    Args:
        plan: What would be trained.
        device: "cpu", "cuda" or "cuda:N".
        threads: CPU threads, as many as a worker would have.

    Raises:
        Exception: Whatever the block raises.
    """
    config, fold = plan.config, plan.fold(plan.units[0])
    prepare_arithmetic(threads)
    with hold_device(device) as held:
        graphs = GraphTensors(plan.graphs, held)
        moments: list[float] = []

        def stop() -> bool:
            moments.append(time.perf_counter())
            return len(moments) > _STEPS

        target, kind = np.asarray(plan.dataset.table.target), plan.dataset.task.kind
        with suppress(Interrupted):
            train_fold(config, graphs, target, fold, kind=kind, seed=0, stop=stop)
        step = statistics.median(np.diff(moments).tolist() or [0.0])
        model = build_model(config).to(graphs.device)
        rows = fold.validation[:_PREDICTED]
        start = time.perf_counter()
        predict(model, graphs, rows, edge_budget=config.training.edge_budget)
        validation = (time.perf_counter() - start) * len(fold.validation) / len(rows)
    batches = epoch_batches(
        fold.train,
        graphs.n_edges,
        size=config.training.batch_size,
        edge_budget=config.training.edge_budget,
        rng=np.random.default_rng(0),
    )
    epoch = step * len(batches) + validation
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(epoch, epoch * config.training.epochs, parameters)
