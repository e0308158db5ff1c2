from __future__ import annotations

from baselines.blocks.mlp import MLPBlock
from sen.testing import BlockContracts
from tests.contracts import OnRealCrystals


class TestMLPContracts(BlockContracts):
    block = MLPBlock


class TestMLPOnRealCrystals(OnRealCrystals, BlockContracts):
    block = MLPBlock
