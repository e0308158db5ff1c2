from __future__ import annotations

import torch

from baselines.blocks.none import NoBlock
from sen.testing import BlockContracts, sample_crystals
from tests.contracts import OnRealCrystals


class TestNoBlockContracts(BlockContracts):
    block = NoBlock


class TestNoBlockOnRealCrystals(OnRealCrystals, BlockContracts):
    block = NoBlock


def test_environments_pass_through_and_material_is_their_mean_over_the_cell() -> None:
    contracts = TestNoBlockContracts()
    output = contracts.output(sample_crystals()[:1])  # rutile: two titanium and four oxygen atoms in one orbit each
    assert torch.equal(output.atoms, output.extras["environment"])
    titanium, oxygen = output.atoms
    torch.testing.assert_close(output.material[0], (2 * titanium + 4 * oxygen) / 6)
    assert not list(contracts.build().block.parameters())
