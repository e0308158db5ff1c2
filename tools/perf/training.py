"""Measure how fast SEN trains, for each block and each part of a step, and CGCNN of torch-geometric.

    python tools/perf/training.py matbench_mp_gap --data-dir DATA --max-neighbors 16

A step is that of a run: assemble a batch, forward, loss, backward, clip, AdamW, average. The peer is CGCNN of
torch-geometric, `CGConv` on `Data` objects from a `DataLoader`, with the same crystals, full cells, neighbours, width,
rounds and optimiser. The models take turns of a few steps, and the script prints medians over the turns: shared
machines are noisy, so look at the ratios. The floor of each speed is what arithmetic alone would allow at the rate of a
large matrix product.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import CGConv, global_mean_pool

from benchmarks.base.machine import n_threads, peak_memory, prepare_arithmetic, reset_peak_memory
from benchmarks.data.dataset import load_dataset
from benchmarks.data.graph_table import GraphTable, build_graphs
from benchmarks.data.tasks import get_task
from benchmarks.results.run_config import TrainingConfig, build_config
from benchmarks.training.loader import GraphTensors
from benchmarks.training.trainer import Update, build_model
from sen.capsule import CapsuleBlock
from sen.config import SENConfig
from sen.features import GaussianExpansion
from sen.graph import Graph
from sen.network import SEN
from sen.registry import block_names

PEER = "CGConv"
PARTS = ("batch", "features", "block", "head", "backward", "update")


class CGCNN(nn.Module):
    """Crystal graph convolutions (Xie and Grossman 2018) of torch-geometric in the sizes of SEN."""

    def __init__(self, config: SENConfig) -> None:
        super().__init__()
        width = config.encoder_width
        self.embedding = nn.Embedding(119, width)
        self.expansion = GaussianExpansion(config.gaussians, config.gaussian_range, config.gaussian_width)
        self.layers = nn.ModuleList(CGConv(width, config.gaussians) for _ in range(config.rounds))
        self.head = nn.Sequential(nn.Linear(width, config.head_width), nn.SiLU(), nn.Linear(config.head_width, 1))

    def forward(self, data: Batch) -> Tensor:
        """Predict [B]."""
        atoms, bonds = self.embedding(data.x), self.expansion(data.edge_attr)
        for layer in self.layers:
            atoms = layer(atoms, data.edge_index, bonds)
        result: Tensor = self.head(global_mean_pool(atoms, data.batch)).squeeze(-1)
        return result


@dataclass
class Contender:
    """A model and the batches it trains on.

    Attributes:
        forward: Assembles the next batch and returns predictions; calls its argument with the name of each part done.
        n_nodes: Nodes per structure.
        n_edges: Edges per structure.
        seconds: Time of a step in each turn.
    """

    model: nn.Module
    forward: Callable[[Callable[[str], None]], Tensor]
    n_nodes: float
    n_edges: float
    seconds: list[float]

    def __post_init__(self) -> None:
        self._update = Update(self.model, TrainingConfig())

    def step(self, mark: Callable[[str], None] = lambda _: None) -> None:
        """Take one training step."""
        predicted = self.forward(mark)
        F.l1_loss(predicted, torch.zeros_like(predicted)).backward()
        mark("backward")
        self._update(0.5)
        mark("update")


class Stopwatch:
    """The times at which it was created and called."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.times = [_now(device)]

    def __call__(self, _: str) -> None:
        """Record the time."""
        self.times.append(_now(self._device))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--blocks", default=",".join(block_names()))
    parser.add_argument("--max-neighbors", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--steps", type=int, default=4, help="steps in a turn")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tf32", action="store_true", help="let a GPU multiply with the 10-bit mantissas of TF32")
    arguments = parser.parse_args()
    prepare_arithmetic(n_threads())
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = arguments.tf32
    device, size = torch.device(arguments.device), arguments.batch_size
    task = get_task(arguments.task)
    table = load_dataset(task, arguments.data_dir).table
    rows = np.random.default_rng(0).permutation(len(table))[: size * arguments.turns * arguments.steps]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{task.name}, {len(table):,} crystals, batches of {size}, cap {arguments.max_neighbors};")
    print(
        f"torch {torch.__version__}, {name}, {'TF32' if arguments.tf32 else 'float32'}, load {os.getloadavg()[0]:.1f}"
    )

    contenders: dict[str, Contender] = {}
    graphs: dict[str, tuple[GraphTable, GraphTensors]] = {}
    for block in arguments.blocks.split(","):
        config = build_config(task.name, block, flags={"graph.max_neighbors": arguments.max_neighbors})
        if config.graph.cells not in graphs:
            made = build_graphs(table, config.graph)
            graphs[config.graph.cells] = made, GraphTensors(made, device)
        model = build_model(config).to(device)
        assert isinstance(model, SEN)
        contenders[block] = _sen(model, *graphs[config.graph.cells], rows, size)
    full = config.graph.model_copy(update={"cells": "full"})
    contenders[PEER] = _cgcnn(CGCNN(SENConfig()).to(device), build_graphs(table, full), rows, size, device)

    for contender in contenders.values():
        contender.model.train()
        contender.step()
    rates = []
    for _ in range(arguments.turns):
        rates.append(_matrix_rate(device))
        for contender in contenders.values():
            contender.seconds.append(seconds(contender.step, device, arguments.steps))
    _print_speeds(contenders, size, statistics.median(rates), device)
    _print_parts({name: contender for name, contender in contenders.items() if name != PEER}, device)
    for contender in contenders.values():
        if isinstance(contender.model, SEN) and isinstance(contender.model.block, CapsuleBlock):
            _print_convolutions(contender.model.block, round(contender.n_nodes * size), device)


def _sen(model: SEN, table: GraphTable, graphs: GraphTensors, rows: NDArray[np.int64], size: int) -> Contender:
    batches = _endless(lambda: [rows[i : i + size] for i in range(0, len(rows), size)])

    def forward(mark: Callable[[str], None]) -> Tensor:
        graph = graphs.batch(next(batches))
        mark("batch")
        environment = model.features(graph)
        mark("features")
        symmetry = model.block(environment, graph)
        mark("block")
        prediction: Tensor = model.head(model.readout(symmetry, graph))
        mark("head")
        return prediction

    return Contender(model, forward, np.diff(table.node_ptr)[rows].mean(), table.n_edges[rows].mean(), [])


def _cgcnn(model: CGCNN, table: GraphTable, rows: NDArray[np.int64], size: int, device: torch.device) -> Contender:
    crystals = [graph_data(table, int(row)) for row in rows]
    batches = _endless(lambda: DataLoader(crystals, batch_size=size))

    def forward(mark: Callable[[str], None]) -> Tensor:
        data = next(batches).to(device)
        mark("batch")
        prediction: Tensor = model(data)
        return prediction

    n_nodes = statistics.fmean(data.num_nodes for data in crystals)
    return Contender(model, forward, n_nodes, statistics.fmean(data.num_edges for data in crystals), [])


def graph_data(table: Graph, row: int) -> Data:
    """Return a graph as a user of torch-geometric has it: numbers `x` [N], edges [2, K] and distances [K]."""
    nodes = slice(int(table.node_ptr[row]), int(table.node_ptr[row + 1]))
    edge_ptr = table.edge_ptr[nodes.start : nodes.stop + 1]
    edges = slice(int(edge_ptr[0]), int(edge_ptr[-1]))
    center = np.repeat(np.arange(nodes.stop - nodes.start), np.diff(edge_ptr))
    return Data(
        x=torch.tensor(table.numbers[nodes].astype(np.int64)),
        edge_index=torch.tensor(np.stack([table.neighbor[edges], center])),
        edge_attr=torch.tensor(table.distance[edges], dtype=torch.float32),
    )


def _endless(batches: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    while True:
        yield from batches()


def _print_speeds(contenders: dict[str, Contender], size: int, rate: float, device: torch.device) -> None:
    print(f"\nMatrix rate {rate / 1e9:.0f} GFLOP/s\n")
    print(f"| model | structures/s | over {PEER} | nodes, edges per structure | MFLOP | floor | of it reached | peak |")
    print("|---|---|---|---|---|---|---|---|")
    speeds = {name: size / statistics.median(contender.seconds) for name, contender in contenders.items()}
    for name, contender in contenders.items():
        with FlopCounterMode(display=False) as counter:
            for _ in range(3):
                contender.step()
        flop = counter.get_total_flops() / (3 * size)
        floor = rate / flop
        print(
            f"| `{name}` | {speeds[name]:.0f} | {speeds[name] / speeds[PEER]:.2f} "
            f"| {contender.n_nodes:.1f}, {contender.n_edges:.0f} | {flop / 1e6:.0f} | {floor:.0f}/s "
            f"| {speeds[name] / floor:.0%} | {peak(contender.step, device) / 2**20:.0f} MiB |"
        )


def peak(work: Callable[[], object], device: torch.device) -> int:
    """Return the memory that a call needs in addition to that in use before it, in bytes."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    reset_peak_memory()
    before = peak_memory()
    work()
    return peak_memory() - before


def _print_parts(contenders: dict[str, Contender], device: torch.device, steps: int = 7) -> None:
    """Print the time of each part of a step, in ms and as a share of the step."""
    print("\n| ms |", *(f"{part} |" for part in PARTS))
    print("|---" * (1 + len(PARTS)) + "|")
    for name, contender in contenders.items():
        spent = []
        for _ in range(steps):
            watch = Stopwatch(device)
            contender.step(watch)
            spent.append(np.diff(watch.times))
        medians = np.median(spent, axis=0)
        print(f"| `{name}` |", *(f"{1e3 * value:.1f} ({value / sum(medians):.0%}) |" for value in medians))


def _print_convolutions(block: CapsuleBlock, nodes: int, device: torch.device) -> None:
    """Time the three convolutions, forward and backward, in turn with matrix products."""
    height = block.config.map_height
    maps = torch.randn(nodes, 1, height, SENConfig().environment_width // height, device=device, requires_grad=True)

    def convolve() -> None:
        block.convolutions(maps.contiguous(memory_format=torch.channels_last)).sum().backward()

    with FlopCounterMode(display=False) as counter:
        convolve()
    flop = counter.get_total_flops()
    ratios = []
    for _ in range(9):
        matrix = _matrix_rate(device)
        ratios.append(flop / seconds(convolve, device) / matrix)
    share = statistics.median(ratios)
    print(f"\nCapsule's convolutions: {flop / nodes / 1e6:.0f} MFLOP per node, at {share:.0%} of the matrix rate")


def _matrix_rate(device: torch.device) -> float:
    """Return the rate of a matrix product with the shape of the second convolution, in FLOP/s."""
    repeats, rows = (20, 65536) if device.type == "cuda" else (1, 4096)
    left, right = torch.randn(rows, 2304, device=device), torch.randn(2304, 256, device=device)
    return 2 * rows * 2304 * 256 / seconds(lambda: left @ right, device, repeats)


def seconds(work: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """Return the mean time of a call, over this number of calls."""
    start = _now(device)
    for _ in range(repeats):
        work()
    return (_now(device) - start) / repeats


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
