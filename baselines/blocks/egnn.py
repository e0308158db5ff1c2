"""The `egnn` block: E(n)-equivariant message passing with coordinate updates, then the mean over the atoms.

The layers are those of Satorras et al., Eq. 3-6, in a periodic crystal. They need no coordinates, only displacements of
atoms and the edge vectors, which follow them: r_ij <- r_ij + dx_j - dx_i for every image of a neighbour.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock, SymmetryOutput
from sen.config import Config, Space
from sen.ops import segment_sum

__all__ = ["EGNNBlock", "EGNNConfig"]

#: A typical distance between neighbours in Å; messages read squared distances divided by its square.
LENGTH = 3.0


class EGNNConfig(Config):
    """Sizes chosen so that SEN with this block has about as many parameters as with the capsule block."""

    layers: int = Field(4, ge=1, description="Rounds of message passing; all but the last move the atoms.")
    width: int = Field(256, ge=1, description="Width of an atom's environment in and after the block.")
    message: int = Field(128, ge=1, description="Width of a message.")
    hidden: int = Field(512, ge=1, description="Hidden width of the update of the atoms.")


class EGNNBlock(SymmetryBlock):
    """Invariant environments and equivariant displacements that inform each other."""

    Config = EGNNConfig
    needs_vectors = True
    source = "Satorras et al., ICML 2021 (arXiv:2102.09844)"
    space: ClassVar[Space] = {"width": (128, 256, 384)}

    def __init__(self, width: int, config: EGNNConfig) -> None:
        super().__init__(width, config)
        self.material_width = config.width
        self.embedding = nn.Linear(width, config.width)
        # No layer would read displacements that follow the last messages.
        self.layers = nn.ModuleList(_Layer(config, moves=i + 1 < config.layers) for i in range(config.layers))

    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        """Update environments [N, width]; the extra `vectors` [N, 1, 3] is the total displacement of each atom in Å."""
        if graph.vector is None:
            raise ValueError("egnn reads edge vectors, which asymmetric units do not have: give it full cells.")
        atoms, edges = self.embedding(env), graph.vector
        moved = edges.new_zeros(len(env), 3)
        for layer in self.layers:
            atoms, step = layer(atoms, edges, graph)
            if step is not None:
                moved = moved + step
                edges = edges + step.index_select(0, graph.neighbor) - step.index_select(0, graph.center)
        return SymmetryOutput(atoms, graph.mean(atoms), {"vectors": moved.unsqueeze(1)})


class _Layer(nn.Module):
    """One E(n) layer: messages (Eq. 3), coordinates (Eq. 4), pooled messages (Eq. 5), environments (Eq. 6).

    Both sums over neighbours are means, because the number of neighbours depends on the cap of the graph; an atom
    without neighbours does not move. An atom moves by less than 1 Å, because differences of coordinates are divided by
    their length plus 1 Å, as in the authors' code, and their weights are bounded by tanh.
    """

    def __init__(self, config: EGNNConfig, *, moves: bool) -> None:
        super().__init__()
        width, message = config.width, config.message
        # The first linear map of Eq. 3 is applied to atoms before they are gathered to edges, which are more numerous.
        self.center = nn.Linear(width, message)
        self.neighbor = nn.Linear(width, message, bias=False)
        self.distance = nn.Linear(1, message, bias=False)
        self.edge = nn.Sequential(nn.SiLU(), nn.Linear(message, message), nn.SiLU())
        self.move = (
            nn.Sequential(nn.Linear(message, message), nn.SiLU(), nn.Linear(message, 1, bias=False), nn.Tanh())
            if moves
            else None
        )
        self.update = nn.Sequential(
            nn.Linear(width + message, config.hidden), nn.SiLU(), nn.Linear(config.hidden, width)
        )

    def forward(self, atoms: Tensor, edges: Tensor, graph: CrystalBatch) -> tuple[Tensor, Tensor | None]:
        """Return the environments [N, width] and the displacements [N, 3] in Å, which the last layer does not have."""
        length = torch.linalg.vector_norm(edges, dim=1, keepdim=True)
        messages = self.edge(
            self.center(atoms).index_select(0, graph.center)
            + self.neighbor(atoms).index_select(0, graph.neighbor)
            + self.distance((length / LENGTH) ** 2)
        )
        share = 1 / graph.edge_ptr.diff().clamp(min=1).unsqueeze(1).to(edges.dtype)
        step = None
        if self.move is not None:
            # Eq. 4 adds x_i - x_j, which is the edge backwards.
            step = -share * segment_sum(edges / (length + 1) * self.move(messages), graph.center, len(atoms))
        pooled = share * segment_sum(messages, graph.center, len(atoms))
        return atoms + self.update(torch.cat([atoms, pooled], dim=1)), step
