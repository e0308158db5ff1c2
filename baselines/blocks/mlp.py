"""The `mlp` block: each atom's environment through a multilayer perceptron, then the mean over the atoms."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock, SymmetryOutput
from sen.config import Config, Space

__all__ = ["MLPBlock", "MLPConfig"]


class MLPConfig(Config):
    """Sizes chosen so that SEN with this block has about as many parameters as with the capsule block."""

    hidden: int = Field(1024, ge=1, description="Width of the two hidden layers.")
    width: int = Field(512, ge=1, description="Width of an atom's environment after the block.")


class MLPBlock(SymmetryBlock):
    """No symmetry perception: the block adds nothing to what the features contain."""

    Config = MLPConfig
    source = "baseline of Liang et al., Nat. Commun. 14, 5198 (2023)"
    space: ClassVar[Space] = {"hidden": (512, 1024, 2048)}

    def __init__(self, width: int, config: MLPConfig) -> None:
        super().__init__(width, config)
        self.material_width = self.atom_width = config.width
        self.layers = nn.Sequential(
            nn.Linear(width, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.width),
        )

    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        """Apply the perceptron to [N, width] and average over the atoms of each crystal."""
        atoms = self.layers(env)
        return SymmetryOutput(atoms, graph.mean(atoms))
