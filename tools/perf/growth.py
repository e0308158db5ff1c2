"""Measure how time and memory of an epoch grow with the number of crystals and with the atoms of a cell.

    python tools/perf/growth.py matbench_mp_gap --data-dir DATA --rows 1000 10000 40000 100000 --plot growth.png

Each measurement is a whole epoch of `train_fold`, with a tenth of the crystals for validation, in a new process after a
few steps. Rows are drawn from those of the task, repeatedly if it has fewer. For cells of a given size, atoms of eight
elements are placed at random in a cube, with 15 Å³ for each: without symmetry every atom is a node, and the number of
edges of a node hardly depends on the size. On a busy machine look at the CPU time. An exponent is the slope of log y
over log x, fitted to all lines of a table; 1 is linear. The last line is about a crystal with more edges than the edge
budget.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import RunError
from benchmarks.base.machine import n_threads, peak_memory, prepare_arithmetic, reset_peak_memory
from benchmarks.data.dataset import load_dataset
from benchmarks.data.folds import Fold
from benchmarks.data.graph_table import build_graphs
from benchmarks.data.tasks import get_task
from benchmarks.results.run_config import RunConfig, build_config
from benchmarks.training.loader import GraphTensors, epoch_batches
from benchmarks.training.trainer import Epoch, train_fold
from sen.crystal import Crystal
from sen.graph import Graph, build_graph, join_graphs

_VOLUME_OF_ATOM = 15.0
_ELEMENTS = (3, 8, 11, 14, 16, 20, 26, 30)
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#808080"  # of Okabe and Ito, which colour-blind people can distinguish


class Point(NamedTuple):
    """Wall time, CPU time and peak memory of an epoch over `x` rows, or over cells of `x` atoms."""

    x: int
    seconds: float
    cpu: float
    memory: int


def main() -> None:
    """Measure, print and plot."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--block", default="mlp")
    parser.add_argument("--rows", type=int, nargs="*", default=[1000, 10_000, 40_000, 100_000])
    parser.add_argument("--atoms", type=int, nargs="*", default=[2, 5, 10, 20, 50, 100, 200, 500])
    parser.add_argument("--cells", type=int, default=256, help="crystals of each size in --atoms")
    parser.add_argument("--max-neighbors", type=int, default=12)
    parser.add_argument("--plot", type=Path, help="file for a plot of the tables")
    arguments = parser.parse_args()
    config = build_config(
        arguments.task,
        arguments.block,
        flags={"graph.max_neighbors": arguments.max_neighbors, "training.epochs": 1},
    )
    threads = n_threads()
    print(f"{arguments.block}, cap {arguments.max_neighbors}, {threads} threads, load {os.getloadavg()[0]:.1f}")
    series = {}
    if arguments.rows:
        table = load_dataset(get_task(arguments.task), arguments.data_dir).table
        graphs = build_graphs(table, config.graph)
        order = np.random.default_rng(0).permutation(len(table))
        chosen = {n: np.resize(order, n) for n in arguments.rows}
        rows = ((n, _take(graphs, crystals), table.target[crystals]) for n, crystals in chosen.items())
        series["rows"] = _measure("rows", rows, config)
    if arguments.atoms:
        target = np.random.default_rng(0).normal(size=arguments.cells)
        cells = ((n, _random_crystals([n] * arguments.cells, config), target) for n in arguments.atoms)
        series["atoms per cell"] = _measure("atoms per cell", cells, config)
    _show_large_crystal(config)
    if arguments.plot:
        _plot(series, arguments.plot)


def _measure(name: str, tables: Iterable[tuple[int, Graph, NDArray[np.float64]]], config: RunConfig) -> list[Point]:
    """Measure an epoch on each table, and print a line for each and the exponents."""
    print(f"\n| {name:>14s} | crystals |    nodes |     edges | epoch s |   CPU s | crystals/s |  nodes/s | peak MB |")
    print("|---------------:|---------:|---------:|----------:|--------:|--------:|-----------:|---------:|--------:|")
    points = []
    for x, graphs, target in tables:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            seconds, cpu, memory = pool.submit(_epoch, graphs, target, config).result()
        points.append(Point(x, seconds, cpu, memory))
        n_crystals, n_nodes, n_edges = graphs.n_crystals, len(graphs.numbers), len(graphs.neighbor)
        print(
            f"| {x:14d} | {n_crystals:8d} | {n_nodes:8d} | {n_edges:9d} | {seconds:7.2f} | {cpu:7.2f} "
            f"| {n_crystals / seconds:10.0f} | {n_nodes / seconds:8.0f} | {memory / 1e6:7.0f} |",
            flush=True,
        )
    if len(points) > 1:
        x, *times = np.log([point[:3] for point in points]).T
        wall, cpu = (np.polyfit(x, y, 1)[0] for y in times)
        print(f"exponents: time {wall:.2f}, CPU time {cpu:.2f}; memory is bounded by the edge budget")
    return points


def _epoch(graphs: Graph, target: NDArray[np.float64], config: RunConfig) -> tuple[float, float, int]:
    """Return the wall and CPU seconds of an epoch, and the peak memory of this process in bytes."""
    prepare_arithmetic(n_threads())
    tensors = GraphTensors(graphs)
    order = np.random.default_rng(0).permutation(graphs.n_crystals)
    _train(config, tensors, target, order[:100])
    reset_peak_memory()
    return *_train(config, tensors, target, order), peak_memory()


def _train(
    config: RunConfig, graphs: GraphTensors, target: NDArray[np.float64], crystals: NDArray[np.int64]
) -> tuple[float, float]:
    """Train for an epoch; return its wall seconds, and its CPU seconds with those of the set-up."""
    validation, train = np.split(crystals, [len(crystals) // 10])
    fold = Fold(0, train, validation, test=crystals[:0])
    start = time.process_time()
    epochs: list[tuple[float, float]] = []

    def note(epoch: Epoch) -> None:
        epochs.append((epoch.seconds, time.process_time() - start))

    with suppress(RunError):  # after one epoch the model may be no better than a constant
        train_fold(config, graphs, target, fold, kind="regression", seed=0, on_epoch=note)
    return epochs[0]


def _take(graphs: Graph, crystals: NDArray[np.int64]) -> Graph:
    """Return a table of the crystals at these positions, which may be repeated."""
    nodes, node_ptr = _ranges(graphs.node_ptr, crystals)
    edges, edge_ptr = _ranges(graphs.edge_ptr, nodes)
    return Graph(
        **{name: array[nodes] for name, array in graphs.arrays("node").items()},
        **{name: array[edges] for name, array in graphs.arrays("edge").items()},
        node_ptr=node_ptr,
        edge_ptr=edge_ptr,
        asymmetric=None if graphs.asymmetric is None else _take(graphs.asymmetric, crystals),
    )


def _ranges(ptr: NDArray[np.int64], chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the members of the chosen groups, and the start of each group among them."""
    count = ptr[chosen + 1] - ptr[chosen]
    begin = np.concatenate([[0], np.cumsum(count)])
    return np.arange(begin[-1]) + np.repeat(ptr[chosen] - begin[:-1], count), begin


def _random_crystals(sizes: list[int], config: RunConfig) -> Graph:
    """Return the graphs of crystals with these numbers of atoms, at random positions."""
    rng = np.random.default_rng(0)
    settings = config.graph.edges
    graphs = []
    for n in sizes:
        crystal = Crystal(
            lattice=np.eye(3) * (n * _VOLUME_OF_ATOM) ** (1 / 3),
            positions=rng.random((n, 3)),
            numbers=rng.choice(_ELEMENTS, n).astype(np.uint8),
            orbit=np.arange(n, dtype=np.int32),
            space_group=1,
        )
        graphs.append(build_graph(crystal, **settings))
    return join_graphs(graphs)


def _show_large_crystal(config: RunConfig) -> None:
    """Print which batch of an epoch has a crystal with more edges than the edge budget."""
    budget = 8192
    graphs = _random_crystals([1000] + [20] * 255, config)
    batches = epoch_batches(
        np.arange(256), graphs.n_neighbors, size=32, edge_budget=budget, rng=np.random.default_rng(0)
    )
    (own,) = (batch for batch in batches if 0 in batch)
    others = max(graphs.n_neighbors[batch].sum() for batch in batches if 0 not in batch)
    print(
        f"\nedge budget {budget}: the batch of a crystal of {graphs.n_neighbors[0]} edges has {len(own)} crystal; "
        f"the other {len(batches) - 1} batches have at most {others} edges"
    )


def _plot(series: dict[str, list[Point]], path: Path) -> None:
    """Plot time and memory over rows and over atoms per cell, with lines of slope 1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(series), 6), layout="constrained")
    axes = figure.subplots(2, len(series), squeeze=False, sharex="col")
    for column, (name, points) in enumerate(series.items()):
        x, seconds, _, memory = np.array(points).T
        for axis, y, label, colour in zip(
            axes[:, column],
            (seconds, memory / 1e6),
            ("time of an epoch (s)", "peak memory (MB)"),
            (_BLUE, _ORANGE),
            strict=True,
        ):
            axis.loglog(x, y[-1] * x / x[-1], color=_GREY, linestyle="--", label="linear")
            axis.loglog(x, y, color=colour, marker="o", label="measured")
            axis.set_ylabel(label)
            axis.legend(frameon=False)
        axes[1, column].set_xlabel(name)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
