"""The interface: what a symmetry block receives and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from sen.batch import CrystalBatch
from sen.config import Config as BlockConfig
from sen.config import Space

__all__ = ["SymmetryBlock", "SymmetryOutput"]


@dataclass(frozen=True)
class SymmetryOutput:
    """What a block returns for B crystals with N nodes.

    Attributes:
        atoms: Environment of each node after the block, [N, atom_width].
        material: Vector of each crystal from which the property is predicted, [B, material_width].
        extras: Further tensors for the reports by name, such as capsule poses and presences.
    """

    atoms: Tensor
    material: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)


class SymmetryBlock(nn.Module, ABC):
    """The symmetry stage of SEN, between feature extraction and property head.

    A block must give the same answer for any description of the same crystal; `sen.testing` has the contract tests for
    that. Register it under the entry point group `sen_bench.blocks`.

    Attributes:
        Config: Its hyper-parameters.
        needs_vectors: Whether it reads `graph.vector`; it then receives full cells instead of asymmetric units, with
            equal environments for equivalent atoms.
        chiral: Whether it may distinguish a crystal from its mirror image, for which it must read vectors.
        source: The publication it follows.
        space: Fields of its Config that `sen-bench tune` searches, beside those of SEN and of the recipe.
        material_width: Width of `SymmetryOutput.material`, set by the constructor.
        atom_width: Width of `SymmetryOutput.atoms`, set by the constructor; None of a block whose `atoms` are not for
            other readouts than its own.
    """

    Config: ClassVar[type[BlockConfig]]
    needs_vectors: ClassVar[bool] = False
    chiral: ClassVar[bool] = False
    source: ClassVar[str] = ""
    space: ClassVar[Space] = {}
    material_width: int
    atom_width: int | None = None

    @abstractmethod
    def __init__(self, width: int, config: BlockConfig) -> None:
        """Build a block for environments of `width` channels."""
        super().__init__()

    @abstractmethod
    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        """Map environments [N, width] to the environments after the block and one vector per crystal."""
