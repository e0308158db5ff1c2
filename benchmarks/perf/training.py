"""How fast SEN trains, beside the arithmetic it cannot do without and the machine's matrix rate in the same run.

    python benchmarks/perf/training.py matbench_mp_gap --data-dir DATA --max-neighbors 16

A step is what a run does: assemble a batch, forward, backward, clip, AdamW, average. Medians over the steps are quoted;
shared machines are noisy, so look at the ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.batches import GraphTensors
from benchmarks.config import build_config
from benchmarks.data import load_dataset
from benchmarks.graphs import build_graphs
from benchmarks.machine import n_cores, prepare_arithmetic
from benchmarks.tasks import get_task
from benchmarks.training import build_model
from sen.capsule import CapsuleBlock
from sen.registry import block_names


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--blocks", default=",".join(block_names()))
    parser.add_argument("--max-neighbors", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    prepare_arithmetic(n_cores())
    task = get_task(arguments.task)
    table = load_dataset(task, arguments.data_dir).table
    print(f"{task.name}, {len(table):,} crystals, batches of {arguments.batch_size}, cap {arguments.max_neighbors};")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    for name in arguments.blocks.split(","):
        config = build_config(
            task.name,
            name,
            flags={"graph.max_neighbors": arguments.max_neighbors, "training.batch_size": arguments.batch_size},
        )
        graphs = GraphTensors(build_graphs(table, config.graph))
        rng = np.random.default_rng(0)
        batches = [rng.choice(len(table), arguments.batch_size, replace=False) for _ in range(arguments.steps)]
        model = build_model(config)
        step = _step_function(model, graphs)
        rate = _matrix_rate()
        seconds = [step(chosen) for chosen in batches]
        with FlopCounterMode(display=False) as counter:
            for chosen in batches[:5]:
                step(chosen)
        flop = counter.get_total_flops() / (5 * arguments.batch_size)
        nodes = statistics.fmean(len(graphs.batch(chosen).numbers) for chosen in batches) / arguments.batch_size
        speed = arguments.batch_size / statistics.median(seconds)
        print(f"\n{name}: {speed:.0f} structures/s, {speed * nodes:.0f} nodes/s ({nodes:.1f} nodes per structure)")
        print(f"  {flop / 1e6:.0f} MFLOP per structure: {flop * speed / 1e9:.0f} GFLOP/s in the whole step")
        print(f"  matrix rate {rate / 1e9:.0f} GFLOP/s: at most {rate / flop:.0f} structures/s by arithmetic alone")
        if isinstance(model.block, CapsuleBlock):
            _print_convolutions(model.block, config.sen.environment_width, round(nodes * arguments.batch_size))


def _step_function(model: nn.Module, graphs: GraphTensors) -> Callable[[np.ndarray], float]:
    averaged = AveragedModel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    model.train()

    def step(chosen: np.ndarray) -> float:
        start = time.perf_counter()
        model(graphs.batch(chosen)).prediction.abs().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        averaged.update_parameters(model)
        return time.perf_counter() - start

    return step


def _print_convolutions(block: CapsuleBlock, width: int, nodes: int) -> None:
    """Time the three convolutions, forward and backward, against matrix products timed in turn with them."""
    maps = torch.randn(nodes, 1, block.config.map_height, width // block.config.map_height, requires_grad=True)

    def convolve() -> None:
        block.convolutions(maps.contiguous(memory_format=torch.channels_last)).sum().backward()

    with FlopCounterMode(display=False) as counter:
        convolve()
    flop = counter.get_total_flops()
    ratios = []
    for _ in range(9):
        matrix = _matrix_rate(1)
        ratios.append(flop / _seconds(convolve) / matrix)
    share = statistics.median(ratios)
    print(f"  convolutions: {flop / nodes / 1e6:.0f} MFLOP per node, at {share:.0%} of the matrix rate")


def _matrix_rate(repeats: int = 7) -> float:
    """Rate of a float32 matrix product of the shape of the second convolution, FLOP/s: the median of some."""
    left, right = torch.randn(4096, 2304), torch.randn(2304, 256)
    return 2 * 4096 * 2304 * 256 / statistics.median(_seconds(lambda: left @ right) for _ in range(repeats))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
