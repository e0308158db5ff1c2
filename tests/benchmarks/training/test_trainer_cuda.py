"""What must hold on a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.blocks.capsule_released import CapsuleReleasedBlock
from baselines.blocks.densenet import DenseNetBlock
from baselines.blocks.egnn import EGNNBlock
from baselines.blocks.mlp import MLPBlock
from baselines.blocks.se3 import SE3Block
from baselines.blocks.tfn import TFNBlock
from benchmarks.base.interrupts import Interrupted
from benchmarks.data.folds import Fold
from benchmarks.results.run_config import RunConfig, build_config
from benchmarks.training.loader import GraphTensors, evaluation_batches
from benchmarks.training.trainer import _multiplied_in, build_model, predict, train_fold
from sen.batch import CrystalBatch
from sen.capsule import CapsuleBlock
from sen.crystal import Crystal, refine
from sen.graph import Cells, Graph, build_graph, join_graphs
from sen.network import SEN
from sen.testing import BlockContracts, sample_crystals
from tests.benchmarks.conftest import SMALL
from tests.benchmarks.training.test_trainer import FOLD, stopped_after

DEVICE = "cuda"
BLOCKS = ("mlp", "capsule", "capsule_released", "densenet", "egnn", "tfn", "se3")

pytestmark = [pytest.mark.gpu] if DEVICE == "cuda" else []


class ContractsOnGPU(BlockContracts):
    """A subclass has `block` set. What must be equal to the last bit is so in torch's deterministic mode."""

    @pytest.fixture(autouse=True)
    def _deterministic(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        torch.use_deterministic_algorithms(True)
        yield
        torch.use_deterministic_algorithms(False)

    def build(self, seed: int = 0) -> SEN:
        return super().build(seed).to(DEVICE)

    def batch(self, crystals: Sequence[Crystal], cells: Cells | None = None) -> CrystalBatch:
        return super().batch(crystals, cells).to(DEVICE)


class TestCapsuleContracts(ContractsOnGPU):
    block = CapsuleBlock


class TestCapsuleReleasedContracts(ContractsOnGPU):
    block = CapsuleReleasedBlock


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


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `prepare_arithmetic` sets it."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("block", BLOCKS)
def test_predictions_are_those_of_the_cpu(block: str) -> None:
    config = build_config("prototypes", block)
    table = join_graphs([build_graph(crystal, cells=config.graph.cells) for crystal in sample_crystals()])
    torch.manual_seed(0)
    model, rows = build_model(config), np.arange(len(table))
    expected = predict(model, GraphTensors(table), rows, edge_budget=10_000)
    found = predict(model.to(DEVICE), GraphTensors(table, DEVICE), rows, edge_budget=10_000)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0), reason="this GPU has no TF32"
)
def test_tf32_is_for_training_alone() -> None:
    def product() -> Tensor:
        return left @ left

    left = torch.randn(256, 256, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    exact = product()
    with _multiplied_in("tf32", left.device):
        rounded = product()
    assert not torch.equal(rounded, exact)
    assert torch.equal(product(), exact)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_training_step_never_waits_for_the_device(block: str) -> None:
    config = build_config("prototypes", block)
    crystals = [build_graph(crystal, cells=config.graph.cells) for crystal in [*sample_crystals()] * 20]
    graphs, target = GraphTensors(join_graphs(crystals), DEVICE), np.arange(140.0)
    fold = Fold(0, np.arange(120), np.arange(120, 130), np.arange(130, 140))
    steps = 0

    def stop_after_three() -> bool:
        nonlocal steps
        steps += 1
        if steps == 1:  # libraries are loaded and plans made in the first of the epoch's four
            torch.cuda.set_sync_debug_mode("error")
        return steps == 3

    try:
        with pytest.raises(Interrupted):
            train_fold(config, graphs, target, fold, kind="regression", seed=0, stop=stop_after_three)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert steps == 3


@pytest.fixture(scope="module")
def rocksalts() -> tuple[Graph, np.ndarray]:
    """Crystals whose target is their lattice constant."""
    a = np.random.default_rng(0).uniform(4.5, 6.5, 60)
    fcc = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    crystals = [refine(x * fcc, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17]) for x in a]
    return join_graphs([build_graph(crystal, cells="asymmetric") for crystal in crystals]), a


def small(*more: str, block: str = "mlp") -> RunConfig:
    options = [option for option in SMALL if "=" in option and (block == "mlp" or not option.startswith("block."))]
    return build_config("prototypes", block, assignments=[*options, *more])


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("block", ["mlp", "capsule"])
def test_accuracy_is_within_the_noise_of_float32(
    rocksalts: tuple[Graph, np.ndarray], block: str, precision: str
) -> None:
    table, target = rocksalts
    graphs = GraphTensors(table, DEVICE)

    def error(seed: int, *more: str) -> float:
        config = small("training.epochs=25", *more, block=block)
        trained = train_fold(config, graphs, target, FOLD, kind="regression", seed=seed)
        return float(np.abs(predict(trained.predictor, graphs, FOLD.test, edge_budget=1000) - target[FOLD.test]).mean())

    exact = [error(seed) for seed in range(5)]
    rounded = [error(seed, f"training.precision={precision}") for seed in range(5)]
    # Three standard errors of the difference of two means of five.
    assert abs(np.mean(rounded) - np.mean(exact)) < 3 * np.sqrt((np.var(exact, ddof=1) + np.var(rounded, ddof=1)) / 5)


@pytest.mark.parametrize("devices", [("cpu", DEVICE), (DEVICE, "cpu")])
def test_training_is_continued_on_another_device(
    rocksalts: tuple[Graph, np.ndarray], devices: tuple[str, str], tmp_path: Path
) -> None:
    table, target = rocksalts
    config, file = small("training.epochs=4"), tmp_path / "state.safetensors"
    first, second = (GraphTensors(table, device) for device in devices)
    undisturbed = train_fold(config, first, target, FOLD, kind="regression", seed=0)
    with pytest.raises(Interrupted):
        train_fold(config, first, target, FOLD, kind="regression", seed=0, checkpoint=file, stop=stopped_after(14))
    continued = train_fold(config, second, target, FOLD, kind="regression", seed=0, checkpoint=file)
    for one, other in zip(continued.history, undisturbed.history, strict=True):
        assert one.validation == pytest.approx(other.validation, rel=1e-3)


@pytest.mark.parametrize("cells", ["symmetric", "without symmetry"])
def test_memory_is_bounded_by_the_edge_budget(cells: str) -> None:
    rng = np.random.default_rng(0)
    crystal = sample_crystals()[2]
    if cells == "without symmetry":
        crystal = Crystal(
            9 * np.eye(3), rng.random((20, 3)), rng.integers(1, 90, 20).astype(np.uint8), np.arange(20), 1
        )
    graphs = GraphTensors(join_graphs([build_graph(crystal, cells="asymmetric")]), DEVICE)
    model = build_model(build_config("prototypes", "capsule")).to(DEVICE)
    rows = np.zeros(20_000 // int(graphs.graph.n_neighbors[0]) + 1, dtype=np.int64)

    def peak(budget: int) -> int:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for chosen in evaluation_batches(rows, graphs.graph.n_neighbors, edge_budget=budget):
            model(graphs.batch(chosen)).prediction.sum().backward()
        return torch.cuda.max_memory_allocated() - before

    peak(2000)  # the first time takes workspaces, and gradients, for good
    assert peak(2000) < 0.3 * peak(20_000)
