"""Measure how fast models train and predict, each beside what its users run today.

    python -m tools.perf.models matbench_mp_gap --data-dir DATA

Both get the same crystals and batches of the same size, that of the model's recipe. A training step is that of a run:
assemble a batch, forward, loss, backward, update; the neighbour search is left out on both sides. Prediction is that of
a run, on batches by its edge budget, against the peer's loader. They take turns, and the script prints medians over the
turns, and of the ratios within a turn. MEGNet's peer needs kgcnn 4 and TensorFlow (`pip install kgcnn dm-tree
tensorflow-cpu`), that of ALIGNN its package (`pip install "alignn>=2026.8"`); they are left out without them. ALIGNN
takes a third of a second for a crystal: give it fewer (`--models alignn --crystals 200 --turn 32 --turns 3`).
"""

from __future__ import annotations

import argparse
import os
import statistics
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from benchmarks.base.machine import n_threads, prepare_arithmetic
from benchmarks.data.dataset import load_dataset
from benchmarks.data.tasks import get_task
from benchmarks.results.run_config import RunConfig, build_config
from benchmarks.training.loader import GraphTensors, epoch_batches
from benchmarks.training.trainer import Predictor, Update, build_model, n_parameters, predict
from sen.crystal import Crystal
from sen.graph import Graph, build_graph, join_graphs
from tools.perf.peers import PEERS, Peer
from tools.perf.training import peak, seconds

CPU = torch.device("cpu")


class Run:
    """A model as a run trains it and predicts with it."""

    frees_memory = True

    def __init__(self, config: RunConfig, graph: Graph) -> None:
        self._training = config.training
        self._graphs = GraphTensors(graph)
        model = build_model(config)
        self._cost = model.cost(graph)
        self._predictor = Predictor(model)
        self._update = Update(self._predictor, config.training, model.undecayed())
        self._rng = np.random.default_rng(0)
        self.n_parameters, self.n_edges = n_parameters(model), int(graph.n_edges.sum())

    def train(self, crystals: NDArray[np.int64]) -> None:
        """Take a training step for each batch of the crystals at these positions."""
        self._predictor.train()
        batches = epoch_batches(
            crystals,
            self._cost,
            size=self._training.batch_size,
            edge_budget=self._training.edge_budget,
            rng=self._rng,
        )
        for chosen in batches:
            predicted = self._predictor(self._graphs.batch(chosen))
            F.l1_loss(predicted, torch.zeros_like(predicted)).backward()
            self._update(0.5)

    def predict(self, crystals: NDArray[np.int64]) -> None:
        """Predict the crystals at these positions."""
        predict(self._predictor, self._graphs, crystals, edge_budget=self._training.edge_budget)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--models", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--crystals", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--turn", type=int, default=256, help="crystals in a turn")
    arguments = parser.parse_args()
    prepare_arithmetic(n_threads())
    task = get_task(arguments.task)
    table = load_dataset(task, arguments.data_dir).table
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(table))[: arguments.crystals]
    crystals = [table.crystal(int(i)) for i in chosen]
    print(f"{task.name}, {len(crystals):,} of {len(table):,} crystals, {arguments.turns} turns of {arguments.turn};")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}\n")
    print("| model, beside | parameters | edges per crystal | training/s | ratio | prediction/s | ratio | peak MiB |")
    print("|---|---|---|---|---|---|---|---|")
    turns = [rng.permutation(len(crystals))[: arguments.turn] for _ in range(arguments.turns)]
    for name in arguments.models:
        _measure(name, build_config(task.name, name), crystals, turns)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


def _measure(name: str, config: RunConfig, crystals: list[Crystal], turns: list[NDArray[np.int64]]) -> None:
    """Print a line for a model and one for each of its peers."""
    asked, full = (_graphs(crystals, config, cells) for cells in (config.graph.cells, "full"))
    contenders: dict[str, Peer] = {f"`{name}`": Run(config, asked)}
    for peer, make in PEERS[name].items():
        try:
            contenders[peer] = make(full, config.training.batch_size)
        except ImportError as error:
            print(f"| {peer}: {error} |")
    works = {
        (peer, work): getattr(contender, work)
        for peer, contender in contenders.items()
        for work in ("train", "predict")
    }
    for do in works.values():
        do(turns[0])
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in works}
    for turn in turns:
        for key, do in works.items():
            taken[key].append(seconds(partial(do, turn), CPU))
    for peer, contender in contenders.items():
        cells = []
        for work in ("train", "predict"):
            own, other = taken[f"`{name}`", work], taken[peer, work]
            cells.append(f"{len(turns[0]) / statistics.median(other):.0f}")
            ratios = [theirs / ours for ours, theirs in zip(own, other, strict=True)]
            shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            cells.append("" if own is other else shown)
        memory = f"{peak(partial(contender.train, turns[0]), CPU) / 2**20:.0f}" if contender.frees_memory else "–"
        print(
            f"| {peer} | {contender.n_parameters:,} | {contender.n_edges / len(crystals):.0f} | {' | '.join(cells)} "
            f"| {memory} |",
            flush=True,
        )


def _graphs(crystals: list[Crystal], config: RunConfig, cells: str) -> Graph:
    settings = config.graph.model_copy(update={"cells": cells})
    return join_graphs([build_graph(crystal, **settings.edges) for crystal in crystals])


if __name__ == "__main__":
    main()
