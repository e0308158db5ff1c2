from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.results.run_config import build_config
from benchmarks.training.loader import GraphTensors, epoch_batches, evaluation_batches
from benchmarks.training.trainer import Update, _backward, build_model
from sen.batch import CrystalBatch
from sen.graph import Cells, build_graph, join_graphs
from sen.testing import collate, sample_crystals


@pytest.mark.parametrize("cells", ["asymmetric", "full"])
@pytest.mark.parametrize("chosen", [[0], [5], [3, 0, 6, 0], [6, 5, 4, 3, 2, 1, 0]])
def test_batch_is_the_chosen_graphs_one_after_the_other(cells: Cells, chosen: list[int]) -> None:
    graphs = [build_graph(crystal, cells=cells) for crystal in sample_crystals()]
    batch = GraphTensors(join_graphs(graphs)).batch(np.array(chosen))
    expected = collate([graphs[i] for i in chosen], dtype=torch.float32)
    assert (batch.asymmetric is None) == (cells == "asymmetric")
    assert_same_batch(batch, expected)


def assert_same_batch(found: CrystalBatch, expected: CrystalBatch) -> None:
    for name in expected.__dataclass_fields__:
        value, wanted = getattr(found, name), getattr(expected, name)
        if isinstance(wanted, CrystalBatch):
            assert_same_batch(value, wanted)
        elif wanted is None:
            assert value is None
        else:
            torch.testing.assert_close(value, wanted)


def test_batch_of_full_cells_has_the_asymmetric_units_of_the_same_crystals() -> None:
    def tensors(cells: Cells) -> GraphTensors:
        return GraphTensors(join_graphs([build_graph(crystal, cells=cells) for crystal in sample_crystals()]))

    full, asymmetric = tensors("full"), tensors("asymmetric")
    chosen = np.array([4, 1, 0, 1, 6])
    batch = full.batch(chosen)
    assert batch.asymmetric is not None
    assert batch.orbit is not None
    assert_same_batch(batch.asymmetric, asymmetric.batch(chosen))
    assert torch.equal(batch.asymmetric.numbers[batch.orbit], batch.numbers)
    assert torch.equal(batch.asymmetric.crystal[batch.orbit], batch.crystal)
    assert torch.equal(torch.bincount(batch.orbit), batch.asymmetric.multiplicity.long())


def test_asymmetric_units_move_with_their_batch() -> None:
    batch = collate([build_graph(crystal, cells="full") for crystal in sample_crystals()])
    single = batch.to(dtype=torch.float32)
    assert single.asymmetric is not None
    assert single.orbit is batch.orbit
    assert single.asymmetric.distance.dtype == single.asymmetric.multiplicity.dtype == torch.float32
    meta = batch.to("meta")
    assert meta.asymmetric is not None
    assert meta.orbit is not None
    assert meta.asymmetric.numbers.is_meta
    assert meta.orbit.is_meta


def test_epoch_has_every_crystal_once_within_size_and_budget() -> None:
    rng = np.random.default_rng(0)
    n_neighbors = rng.integers(0, 100, 1000)
    n_neighbors[17] = 5000
    crystals = np.arange(0, 1000, 2)
    crystals = np.append(crystals, 17)
    batches = epoch_batches(crystals, n_neighbors, size=32, edge_budget=1600, rng=rng)
    assert sorted(np.concatenate(batches)) == sorted(crystals)
    assert max(map(len, batches)) == 32
    too_large = [batch for batch in batches if n_neighbors[batch].sum() > 1600]
    assert [list(batch) for batch in too_large] == [[17]]


def test_evaluation_packs_crystals_of_similar_size() -> None:
    n_neighbors = np.array([50, 10, 40, 20, 30, 500])
    batches = evaluation_batches(np.arange(6), n_neighbors, edge_budget=70)
    assert [list(batch) for batch in batches] == [[1, 3, 4], [2], [0], [5]]


def test_empty_choice_gives_no_batches() -> None:
    assert evaluation_batches(np.array([], dtype=np.int64), np.array([3]), edge_budget=10) == []


def test_budgets_count_the_neighbours_that_edges_stand_for() -> None:
    rocksalt = sample_crystals()[2]
    table = join_graphs([build_graph(rocksalt, cells="asymmetric")])
    assert table.n_edges.tolist() == [4]
    assert GraphTensors(table).graph.n_neighbors.tolist() == [36]
    # A cell with an atom for each node has as many edges as neighbours.
    full = join_graphs([build_graph(rocksalt, cells="full")])
    assert GraphTensors(full).graph.n_neighbors.tolist() == full.n_edges.tolist() == [36]


class AskingTheDevice(TorchDispatchMode):
    """Collects operations whose result, or its size, the host has to wait for on a GPU; copies are not seen here."""

    WAITING = (
        *("_local_scalar_dense", "nonzero", "bincount", "masked_select", "equal"),
        *("_unique", "_unique2", "unique_dim", "unique_consecutive"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        has_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in self.WAITING or has_mask or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            self.found.append(name)
        return func(*args, **kwargs)


@pytest.mark.parametrize(
    "work",
    [
        lambda x: float(x.sum()),
        lambda x: x.unique(),
        lambda x: x.unique(dim=0),
        lambda x: torch.repeat_interleave(x, x),
        lambda x: x[x > 1],
        lambda x: x.index_put_((x > 1,), x[:1]),
        lambda x: torch.equal(x, x),
        lambda x: x.nonzero(),
        lambda x: bool(x.any()),
    ],
)
def test_what_waits_for_the_device_is_noticed(work: Callable[[Tensor], object]) -> None:
    with AskingTheDevice() as asking:
        work(torch.tensor([1, 2, 3]))
    assert asking.found


@pytest.mark.parametrize(
    ("block", "readout"),
    [
        *itertools.product(["none", "mlp", "capsule", "densenet", "egnn", "tfn", "se3"], ["block", "attention"]),
        ("capsule_released", "block"),  # it returns no environments that attention could read
    ],
)
def test_a_training_step_never_waits_for_the_device(block: str, readout: str) -> None:
    config = build_config("prototypes", block, assignments=[f"sen.readout={readout}"])
    model = build_model(config)
    crystals = [build_graph(crystal, cells=config.graph.cells) for crystal in sample_crystals()]
    graphs, update = GraphTensors(join_graphs(crystals)), Update(model, config.training)
    chosen, target = np.array([3, 0, 6]), torch.zeros(7)
    with AskingTheDevice() as asking:
        for _ in range(2):
            _backward(model, graphs, chosen, target, F.l1_loss, config.training)
            update(0.5)
    assert asking.found == []
