"""SEN around its block: readouts, heads of one size, other messages, and features that know no bonds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock, SymmetryOutput
from sen.config import Config, SENConfig
from sen.features import BondPooling
from sen.network import SEN
from sen.ops import segment_sum
from sen.registry import load_block
from sen.testing import BlockContracts, sample_crystals

QUICK = ("capsule", "egnn", "mlp", "none")
SLOW = ("densenet", "se3", "tfn")
OTHERS = ({"readout": "mean", "head_input": 48}, {"readout": "attention", "rounds": 0})
OTHER_MESSAGES = (
    {"aggregation": "gated", "message_layers": 3},
    {"aggregation": "sum", "bond_map": True},
    {"aggregation": "root", "message_layers": 2, "bond_map": True},
)


def contracts_of(block: str, **changes: Any) -> BlockContracts:
    contracts = BlockContracts()
    contracts.block, contracts.sen = load_block(block), SENConfig(**changes)  # type: ignore[misc]
    return contracts


class TestBlocksInOtherSENs(BlockContracts):
    """The contracts of every block with readouts that are not its own, and behind features that know no bonds."""

    # It takes longest; what a block makes of its threads does not depend on its readout.
    test_gradients_are_the_same_every_time = None  # type: ignore[assignment]

    @pytest.fixture(autouse=True, params=[*QUICK, *(pytest.param(name, marks=pytest.mark.deep) for name in SLOW)])
    def _block(self, request: pytest.FixtureRequest) -> None:
        self.block = load_block(request.param)  # type: ignore[misc]

    @pytest.fixture(autouse=True, params=OTHERS, ids=str)
    def _sen(self, request: pytest.FixtureRequest) -> None:
        self.sen = SENConfig(**request.param)


class TestOtherMessages(BlockContracts):
    """The contracts of features that make and pool messages in other ways."""

    block = load_block("none")
    test_gradients_are_the_same_every_time = None  # type: ignore[assignment]

    @pytest.fixture(autouse=True, params=OTHER_MESSAGES, ids=str)
    def _sen(self, request: pytest.FixtureRequest) -> None:
        self.sen = SENConfig(**request.param)


def test_aggregation_is_the_weight_of_each_message() -> None:
    batch = contracts_of("none").batch(sample_crystals()[:1])
    messages = torch.randn(len(batch.center), 8, dtype=batch.distance.dtype)
    neighbours = segment_sum(batch.edge_multiplicity, batch.center, 2)

    def shares(aggregation: str) -> Tensor:
        pooling = BondPooling(SENConfig(aggregation=aggregation), 8).to(messages.dtype)
        weights = pooling.weights(messages, batch, 2)
        return segment_sum(weights.mean(1), batch.center, 2)

    torch.testing.assert_close(shares("softmax"), torch.ones_like(neighbours))
    torch.testing.assert_close(shares("sum"), neighbours)
    torch.testing.assert_close(shares("root"), neighbours.sqrt())
    gates = shares("gated") / neighbours
    assert ((gates > 0.2) & (gates < 0.8)).all()


@pytest.mark.parametrize("block", ["capsule", "mlp"])
def test_mean_readout_averages_what_the_block_makes_of_the_atoms(block: str) -> None:
    output = contracts_of(block, readout="mean").output(sample_crystals()[:1])
    titanium, oxygen = output.atoms  # rutile: two and four atoms in one orbit each
    torch.testing.assert_close(output.material[0], (2 * titanium + 4 * oxygen) / 6)


def test_attention_readout_weighs_every_atom_of_an_orbit_by_its_score() -> None:
    contracts = contracts_of("mlp", readout="attention")
    model, batch = contracts.build(), contracts.batch(sample_crystals()[:1])
    with torch.no_grad():
        model.readout.score.weight.zero_()
        alike = model(batch)
        titanium, oxygen = alike.atoms
        torch.testing.assert_close(alike.material[0], (2 * titanium + 4 * oxygen) / 6)
        # Scores that tell the two apart without bound leave one of them.
        normed = nn.functional.layer_norm(alike.atoms, alike.atoms.shape[1:])
        model.readout.score.weight.copy_(1e3 * (normed[:1] - normed[1:]))
        torch.testing.assert_close(model(batch).material[0], titanium)


def test_head_is_as_large_whatever_the_width_of_the_readout() -> None:
    def size(block: str, **changes: Any) -> int:
        return sum(p.numel() for p in contracts_of(block, **changes).build().head.parameters())

    assert size("capsule") > 3 * size("mlp")
    sizes = {
        size(block, head_input=100, readout=readout)
        for block in ("capsule", "mlp", "none")
        for readout in ("block", "mean", "attention")
    }
    assert sizes == {2 * 100 + 100 * 256 + 256 + 256 + 1}


class WithoutAtoms(SymmetryBlock):
    """A block of which only the vectors of crystals mean anything."""

    Config = Config

    def __init__(self, width: int, config: Config) -> None:
        super().__init__(width, config)
        self.material_width = width

    def forward(self, env: torch.Tensor, graph: CrystalBatch) -> SymmetryOutput:
        return SymmetryOutput(env[:, :0], graph.mean(env))


@pytest.mark.parametrize("readout", ["mean", "attention"])
def test_a_block_without_environments_of_atoms_has_its_own_readout_alone(readout: str) -> None:
    SEN(SENConfig(), WithoutAtoms(192, Config()))
    with pytest.raises(ValueError, match=rf"it returns no environments of atoms that sen\.readout = {readout} could"):
        SEN(SENConfig(readout=readout), WithoutAtoms(192, Config()))


def test_features_without_rounds_know_composition_and_no_structure() -> None:
    crystals = sample_crystals()
    stretched = [replace(crystal, lattice=1.1 * crystal.lattice) for crystal in crystals]
    for rounds, is_blind in ((0, True), (1, False)):
        contracts = contracts_of("none", rounds=rounds)
        before, after = (contracts.output(cs).prediction for cs in (crystals, stretched))
        assert torch.equal(before, after) == is_blind
    contracts = contracts_of("egnn", rounds=0)
    assert not torch.equal(contracts.output(crystals).prediction, contracts.output(stretched).prediction)
