from __future__ import annotations

import torch

from baselines.blocks.mlp import MLPBlock
from sen.capsule import CapsuleBlock
from sen.config import SENConfig
from sen.model import SEN
from sen.testing import BlockContracts
from tests.contracts import ContractsOnRealCrystals


class TestMLPContracts(BlockContracts):
    block = MLPBlock


class TestMLPOnRealCrystals(ContractsOnRealCrystals):
    block = MLPBlock


def test_parameter_count_is_within_a_fifth_of_capsules() -> None:
    def parameters(block: type[MLPBlock | CapsuleBlock]) -> int:
        with torch.device("meta"):
            model = SEN(SENConfig(), block(192, block.Config()))
        return sum(p.numel() for p in model.parameters())

    assert abs(parameters(MLPBlock) / parameters(CapsuleBlock) - 1) < 0.2
