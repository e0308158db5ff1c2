from __future__ import annotations

from baselines.blocks.tfn import TFNBlock
from sen.testing import BlockContracts


class TestTFNContracts(BlockContracts):
    block = TFNBlock
