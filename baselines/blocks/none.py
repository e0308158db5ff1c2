"""The `none` block: environments pass through it, then the mean over the atoms. What the features alone can do."""

from __future__ import annotations

from torch import Tensor

from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock, SymmetryOutput
from sen.config import Config as BlockConfig

__all__ = ["NoBlock"]


class NoBlock(SymmetryBlock):
    """No block: the control without parameters, beside which any other block shows what it adds."""

    Config = BlockConfig

    def __init__(self, width: int, config: BlockConfig) -> None:
        super().__init__(width, config)
        self.material_width = self.atom_width = width

    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        """Return environments [N, width] as they are, and their average over the atoms of each crystal."""
        return SymmetryOutput(env, graph.mean(env))
