from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.batches import GraphTensors, epoch_batches, evaluation_batches
from benchmarks.config import build_config
from benchmarks.graphs import join_graphs
from benchmarks.training import build_model
from sen.graph import Cells, build_graph
from sen.testing import collate, sample_crystals


@pytest.mark.parametrize("cells", ["asymmetric", "full"])
@pytest.mark.parametrize("chosen", [[0], [5], [3, 0, 6, 0], [6, 5, 4, 3, 2, 1, 0]])
def test_batch_is_the_chosen_graphs_one_after_the_other(cells: Cells, chosen: list[int]) -> None:
    graphs = [build_graph(crystal, cells=cells) for crystal in sample_crystals()]
    batch = GraphTensors(join_graphs(graphs)).batch(np.array(chosen))
    expected = collate([graphs[i] for i in chosen], dtype=torch.float32)
    for name in expected.__dataclass_fields__:
        found, wanted = getattr(batch, name), getattr(expected, name)
        if wanted is None:
            assert found is None
        else:
            torch.testing.assert_close(found, wanted)


def test_epoch_has_every_crystal_once_within_size_and_budget() -> None:
    rng = np.random.default_rng(0)
    n_edges = rng.integers(0, 100, 1000)
    n_edges[17] = 5000
    crystals = np.arange(0, 1000, 2)
    crystals = np.append(crystals, 17)
    batches = epoch_batches(crystals, n_edges, size=32, edge_budget=1600, rng=rng)
    assert sorted(np.concatenate(batches)) == sorted(crystals)
    assert max(map(len, batches)) == 32
    too_large = [batch for batch in batches if n_edges[batch].sum() > 1600]
    assert [list(batch) for batch in too_large] == [[17]]


def test_evaluation_packs_crystals_of_similar_size() -> None:
    n_edges = np.array([50, 10, 40, 20, 30, 500])
    batches = evaluation_batches(np.arange(6), n_edges, edge_budget=70)
    assert [list(batch) for batch in batches] == [[1, 3, 4], [2], [0], [5]]


def test_empty_choice_gives_no_batches() -> None:
    assert evaluation_batches(np.array([], dtype=np.int64), np.array([3]), edge_budget=10) == []


class AskingTheDevice(TorchDispatchMode):
    """Collects the operations whose result, or its size, the host has to wait for on a GPU."""

    WAITING = ("_local_scalar_dense", "nonzero", "_unique2", "unique_consecutive", "bincount", "masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        kwargs = kwargs or {}
        if name in self.WAITING or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            self.found.append(name)
        if name == "index" and any(index is not None and index.dtype == torch.bool for index in args[1]):
            self.found.append("index by a mask")
        return func(*args, **kwargs)


@pytest.mark.parametrize("block", ["mlp", "capsule", "densenet", "egnn", "tfn", "se3"])
def test_a_training_step_never_waits_for_the_device(block: str) -> None:
    config = build_config("prototypes", block)
    model = build_model(config)
    crystals = [build_graph(crystal, cells=config.graph.cells) for crystal in sample_crystals()]
    graphs = GraphTensors(join_graphs(crystals))
    chosen = np.array([3, 0, 6])
    target = torch.zeros(len(chosen))
    with AskingTheDevice() as asking:
        F.l1_loss(model(graphs.batch(chosen)).prediction, target).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert asking.found == []
    with AskingTheDevice() as asking:
        collate(crystals)
    assert asking.found
