from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.blocks.egnn import GAUSSIANS, EGNNBlock, EGNNConfig
from baselines.blocks.equivariant import EquivariantConfig
from sen.crystal import Crystal
from sen.network import SEN
from sen.testing import BlockContracts, sample_crystals
from tests.contracts import OnRealCrystals


class TestEGNNContracts(BlockContracts):
    block = EGNNBlock


class TestEGNNOnRealCrystals(OnRealCrystals, BlockContracts):
    block = EGNNBlock


VARIANTS = [
    {"aggregation": aggregation, "tanh": tanh, "distances": distances}
    for aggregation, tanh, distances in product(("mean", "sum"), (True, False), ("squared", "gaussians"))
]
AUTHORS = {"aggregation": "sum", "tanh": False, "distances": "squared"}


class OfVariant(BlockContracts):
    block = EGNNBlock
    variant: dict[str, Any]

    def construct(self) -> SEN:
        return SEN(self.sen, EGNNBlock(self.sen.environment_width, EGNNConfig(**self.variant)))


class TestEGNNVariants(OfVariant):
    """Quick tests take the variant of the authors, deep tests all."""

    @pytest.fixture(
        autouse=True,
        params=[AUTHORS, *(pytest.param(variant, marks=pytest.mark.deep) for variant in VARIANTS)],
        ids=str,
    )
    def _variant(self, request: pytest.FixtureRequest) -> None:
        self.variant = request.param


def displacements(crystals: list[Crystal], dtype: torch.dtype) -> Tensor:
    contracts = TestEGNNContracts()
    model, batch = contracts.build().to(dtype), contracts.batch(crystals).to(dtype=dtype)
    with torch.no_grad():
        vectors = model(batch).extras["vectors"]
    assert vectors.shape == (len(batch.numbers), 1, 3)
    assert vectors.dtype == dtype
    return vectors.double()


def equivariance_error(crystals: list[Crystal], orthogonal: np.ndarray, dtype: torch.dtype) -> float:
    """Turn the crystals and compare with the vectors turned, relative to the longest."""
    turned = [replace(crystal, lattice=crystal.lattice @ orthogonal) for crystal in crystals]
    expected = displacements(crystals, dtype) @ torch.from_numpy(orthogonal)
    return float((displacements(turned, dtype) - expected).norm(dim=-1).max() / expected.norm(dim=-1).max())


@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_displacements_turn_with_the_crystal(
    determinant: int, dtype: torch.dtype, tolerance: float, real_crystals: list[Crystal]
) -> None:
    orthogonal, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    orthogonal[:, 0] *= determinant * np.sign(np.linalg.det(orthogonal))
    for kind, crystals in (("generated", sample_crystals()), ("real", real_crystals)):
        error = equivariance_error(crystals, orthogonal, dtype)
        what = "rotation" if determinant > 0 else "reflection"
        print(f"egnn, {kind} crystals, {what}, {dtype}: equivariance error {error:.1e}")  # noqa: T201
        assert error < tolerance


def test_atoms_move_unless_symmetry_or_loneliness_holds_them() -> None:
    length = displacements(sample_crystals(), torch.float64).norm(dim=-1).squeeze(1).split([6, 5, 2, 1, 5, 1, 3])
    rutile, perovskite, rocksalt, copper, triclinic, helium, argon_and_nitrogen = length
    assert float(triclinic.min()) > 1e-3
    for held in (rutile[:2], perovskite, rocksalt, copper, helium, argon_and_nitrogen[:1]):
        assert float(held.max()) < 1e-12
    # The atoms of a nitrogen molecule have nowhere to go but along their axis.
    assert float(argon_and_nitrogen[1:].min()) > 1e-3


def test_edges_follow_the_atoms_and_end_at_the_same_images() -> None:
    contracts = TestEGNNContracts()
    model, crystals = contracts.build(), sample_crystals()[4:5]
    batch = contracts.batch(crystals)
    calls: list[tuple[Tensor, Tensor | None]] = []
    for layer in model.block.layers:
        layer.register_forward_hook(lambda _layer, given, made: calls.append((given[1], made[1])))
    with torch.no_grad():
        moved = model(batch).extras["vectors"].squeeze(1)
    *moves, last = [step for _, step in calls]
    assert last is None
    torch.testing.assert_close(moved, sum(moves))
    assert float(moved.abs().max()) > 1e-3
    # The edges that the crystal has with its atoms put where they have moved, each to the same image as before.
    assert batch.vector is not None
    lattice, positions = crystals[0].lattice, crystals[0].positions
    to_neighbor = positions[batch.neighbor] - positions[batch.center]
    image = np.rint(batch.vector.numpy() @ np.linalg.inv(lattice) - to_neighbor)
    positions = positions + moved.numpy() @ np.linalg.inv(lattice)
    expected = (positions[batch.neighbor] + image - positions[batch.center]) @ lattice
    torch.testing.assert_close(calls[-1][0], torch.from_numpy(expected))


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant["tanh"]], ids=str)
def test_displacements_stay_bounded_by_tanh_however_large_the_weights(variant: dict[str, Any]) -> None:
    contracts = OfVariant()
    contracts.variant = variant
    model, batch = contracts.build(), contracts.batch(sample_crystals())
    with torch.no_grad():
        for parameter in model.block.parameters():
            parameter.mul_(100)
        moved = model(batch).extras["vectors"].norm(dim=-1)
    assert float(moved.max()) < 3, "three layers move an atom, each by less than 1 Å"


def test_without_tanh_atoms_begin_almost_in_place() -> None:
    contracts = OfVariant()
    contracts.variant = AUTHORS
    moved = contracts.output(sample_crystals()).extras["vectors"].norm(dim=-1)
    assert 0 < float(moved.max()) < 0.01


def test_messages_are_summed_and_displacements_averaged() -> None:
    contracts = TestEGNNContracts()
    batch = contracts.batch(sample_crystals()[:1])
    n_neighbors = batch.edge_ptr.diff().unsqueeze(1)
    pooled: dict[str, Tensor] = {}
    steps = {}
    for aggregation in ("mean", "sum"):
        torch.manual_seed(0)
        layer = EGNNBlock(192, EGNNConfig(aggregation=aggregation)).double().layers[0]
        layer.update.register_forward_pre_hook(lambda _, given, a=aggregation: pooled.update({a: given[0][:, -128:]}))
        _, steps[aggregation] = layer(torch.ones(len(batch.numbers), 256).double(), batch.vector, batch)
    torch.testing.assert_close(pooled["sum"], n_neighbors * pooled["mean"])
    assert torch.equal(steps["sum"], steps["mean"])


def test_distances_are_expanded_as_those_of_the_other_equivariant_blocks() -> None:
    other = EquivariantConfig()
    assert (other.gaussians, other.gaussian_range, other.gaussian_width) == GAUSSIANS
    expansion = EGNNBlock(192, EGNNConfig(distances="gaussians")).layers[0].expansion
    assert int(expansion(torch.tensor([6.0])).argmax()) == GAUSSIANS[0] - 1


def test_asymmetric_units_are_refused() -> None:
    contracts = TestEGNNContracts()
    with pytest.raises(ValueError, match="full cells"):
        contracts.output(sample_crystals(), "asymmetric")


def test_one_layer_moves_nothing() -> None:
    contracts = TestEGNNContracts()
    batch = contracts.batch(sample_crystals())
    block = EGNNBlock(192, EGNNConfig(layers=1)).double()
    vectors = block(torch.randn(len(batch.numbers), 192, dtype=torch.float64), batch).extras["vectors"]
    assert not bool(vectors.any())
