from __future__ import annotations

import pytest
import torch

from baselines.blocks.capsule_released import CapsuleReleasedBlock
from baselines.blocks.densenet import DenseNetBlock
from baselines.blocks.egnn import EGNNBlock
from baselines.blocks.mlp import MLPBlock
from baselines.blocks.se3 import SE3Block
from baselines.blocks.tfn import TFNBlock
from sen.blocks import SymmetryBlock
from sen.capsule import CapsuleBlock
from sen.config import SENConfig
from sen.network import SEN


@pytest.mark.parametrize("block", [CapsuleReleasedBlock, MLPBlock, DenseNetBlock, EGNNBlock, TFNBlock, SE3Block])
def test_parameter_count_is_within_a_fifth_of_capsules(block: type[SymmetryBlock]) -> None:
    def parameters(block: type[SymmetryBlock]) -> int:
        with torch.device("meta"):
            model = SEN(SENConfig(), block(192, block.Config()))
        return sum(p.numel() for p in model.parameters())

    assert abs(parameters(block) / parameters(CapsuleBlock) - 1) < 0.2
