"""What must hold on a GPU; skipped where there is none."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.densenet import DenseNetBlock
from baselines.egnn import EGNNBlock
from baselines.mlp import MLPBlock
from baselines.se3 import SE3Block
from baselines.tfn import TFNBlock
from benchmarks.batches import GraphTensors
from benchmarks.config import RunConfig, build_config
from benchmarks.folds import Fold
from benchmarks.graphs import GraphTable, join_graphs
from benchmarks.interrupts import Interrupted
from benchmarks.machine import prepare_arithmetic
from benchmarks.training import build_model, predict, train_fold
from sen.batch import CrystalBatch
from sen.capsule import CapsuleBlock
from sen.crystal import Crystal, refine
from sen.graph import Cells, build_graph
from sen.model import SEN
from sen.testing import BlockContracts, sample_crystals
from tests.benchmarks.conftest import SMALL

DEVICE = "cuda"
BLOCKS = ("mlp", "capsule", "densenet", "egnn", "tfn", "se3")
FOLD = Fold(0, train=np.arange(40), validation=np.arange(40, 48), test=np.arange(48, 60))

pytestmark = pytest.mark.skipif(
    DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a GPU, and torch finds none here"
)


class ContractsOnGPU(BlockContracts):
    """A subclass has `block` set. What must be equal to the last bit is so in torch's deterministic mode."""

    @pytest.fixture(autouse=True)
    def _deterministic(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        yield
        torch.use_deterministic_algorithms(False)

    def model(self, seed: int = 0) -> SEN:
        return super().model(seed).to(DEVICE)

    def batch(self, crystals: Sequence[Crystal], cells: Cells | None = None) -> CrystalBatch:
        return super().batch(crystals, cells).to(DEVICE)


class TestCapsuleContracts(ContractsOnGPU):
    block = CapsuleBlock


class TestMLPContracts(ContractsOnGPU):
    block = MLPBlock


class TestDenseNetContracts(ContractsOnGPU):
    block = DenseNetBlock


class TestEGNNContracts(ContractsOnGPU):
    block = EGNNBlock


class TestTFNContracts(ContractsOnGPU):
    block = TFNBlock


class TestSE3Contracts(ContractsOnGPU):
    block = SE3Block


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("block", BLOCKS)
def test_predictions_are_those_of_the_cpu(block: str, precision: str) -> None:
    config = build_config("prototypes", block)
    table = join_graphs([build_graph(crystal, cells=config.graph.cells) for crystal in sample_crystals()])
    torch.manual_seed(0)
    model, rows = build_model(config), np.arange(len(table))
    expected = predict(model, GraphTensors(table), rows, edge_budget=10_000)
    prepare_arithmetic(1, precision)
    try:
        found = predict(model.to(DEVICE), GraphTensors(table, DEVICE), rows, edge_budget=10_000)
    finally:
        prepare_arithmetic(1)
    tolerance = 1e-4 if precision == "float32" else 1e-2
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("block", BLOCKS)
def test_a_training_step_never_waits_for_the_device(block: str) -> None:
    config = build_config("prototypes", block)
    crystals = [build_graph(crystal, cells=config.graph.cells) for crystal in sample_crystals()]
    graphs, model = GraphTensors(join_graphs(crystals), DEVICE), build_model(config).to(DEVICE)

    def step() -> None:
        model(graphs.batch(np.array([3, 0, 6]))).prediction.abs().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)

    step()  # libraries are loaded and plans made once
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(scope="module")
def rocksalts() -> tuple[GraphTable, np.ndarray]:
    """Crystals whose target is their lattice constant."""
    a = np.random.default_rng(0).uniform(4.5, 6.5, 60)
    fcc = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    crystals = [refine(x * fcc, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17]) for x in a]
    return join_graphs([build_graph(crystal, cells="asymmetric") for crystal in crystals]), a


def small(*more: str) -> RunConfig:
    return build_config("prototypes", "mlp", assignments=[*(option for option in SMALL if "=" in option), *more])


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_training_learns(rocksalts: tuple[GraphTable, np.ndarray], precision: str) -> None:
    table, target = rocksalts
    config, graphs = small("training.epochs=25", f"training.precision={precision}"), GraphTensors(table, DEVICE)
    prepare_arithmetic(1, precision)
    try:
        trained = train_fold(config, graphs, target, FOLD, kind="regression", seed=0)
    finally:
        prepare_arithmetic(1)
    error = np.abs(predict(trained.model, graphs, FOLD.test, edge_budget=1000) - target[FOLD.test]).mean()
    assert error < 0.5 * np.abs(target - target.mean()).mean()


@pytest.mark.parametrize("devices", [("cpu", DEVICE), (DEVICE, "cpu")])
def test_training_is_continued_on_another_device(
    rocksalts: tuple[GraphTable, np.ndarray], devices: tuple[str, str], tmp_path: Path
) -> None:
    table, target = rocksalts
    config, file = small("training.epochs=4"), tmp_path / "state.safetensors"
    first, second = (GraphTensors(table, device) for device in devices)
    undisturbed = train_fold(config, first, target, FOLD, kind="regression", seed=0)
    answers = itertools.chain(itertools.repeat(False, 14), itertools.repeat(True))
    with pytest.raises(Interrupted):
        train_fold(config, first, target, FOLD, kind="regression", seed=0, checkpoint=file, stop=lambda: next(answers))
    continued = train_fold(config, second, target, FOLD, kind="regression", seed=0, checkpoint=file)
    for one, other in zip(continued.history, undisturbed.history, strict=True):
        assert one.validation == pytest.approx(other.validation, rel=1e-3)


def test_memory_is_bounded_by_the_edge_budget(rocksalts: tuple[GraphTable, np.ndarray]) -> None:
    graphs = GraphTensors(rocksalts[0], DEVICE)
    model, rows = build_model(small()).to(DEVICE), np.arange(len(graphs))

    def peak(budget: int) -> int:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        predict(model, graphs, rows, edge_budget=budget)
        return torch.cuda.max_memory_allocated() - before

    per_crystal = int(graphs.n_edges.max())
    peak(per_crystal)  # the first call takes workspaces for good
    assert peak(5 * per_crystal) < 0.5 * peak(60 * per_crystal)
