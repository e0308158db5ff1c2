"""The `egnn` block: E(n)-equivariant message passing with coordinate updates, then the mean over the atoms.

The layers are those of Satorras et al., Eq. 3-6, in a periodic crystal. They need no coordinates, only displacements of
atoms and the edge vectors, which follow them: r_ij <- r_ij + dx_j - dx_i for every image of a neighbour.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock, SymmetryOutput
from sen.config import Config, Space
from sen.features import GaussianExpansion
from sen.ops import segment_sum

__all__ = ["EGNNBlock", "EGNNConfig"]

#: A typical distance between neighbours in Å; squared distances are divided by its square.
LENGTH = 3.0

#: Number, last centre and width of the Gaussians that expand a distance, both in Å: the defaults of `tfn` and `se3`.
GAUSSIANS = (20, 6.0, 0.5)


class EGNNConfig(Config):
    """Sizes chosen so that SEN with this block has about as many parameters as with the capsule block."""

    layers: int = Field(4, ge=1, description="Rounds of message passing; all but the last move the atoms.")
    width: int = Field(256, ge=1, description="Width of an atom's environment in and after the block.")
    message: int = Field(128, ge=1, description="Width of a message.")
    hidden: int = Field(512, ge=1, description="Hidden width of the update of the atoms.")
    aggregation: Literal["mean", "sum"] = Field(
        "sum", description="What an atom takes of the messages of its neighbours (sum: as the authors)."
    )
    tanh: bool = Field(
        True,
        description="Whether tanh bounds the weights of displacements, so that a layer moves an atom by less than 1 Å; "
        "without it (as the authors) nothing bounds them, and they are nearly zero at first.",
    )
    distances: Literal["squared", "gaussians"] = Field(
        "gaussians", description="How messages read a distance: its square (as the authors), or expanded in Gaussians."
    )


class EGNNBlock(SymmetryBlock):
    """Invariant environments and equivariant displacements that inform each other."""

    Config = EGNNConfig
    needs_vectors = True
    source = "Satorras et al., ICML 2021 (arXiv:2102.09844)"
    space: ClassVar[Space] = {"width": (128, 256, 384)}

    def __init__(self, width: int, config: EGNNConfig) -> None:
        super().__init__(width, config)
        self.material_width = self.atom_width = config.width
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

    The displacement is a mean over the neighbours, as in Eq. 4; an atom without neighbours does not move. Differences
    of coordinates are divided by their length plus 1 Å, as in the authors' flows (Garcia Satorras et al., NeurIPS
    2021), so that an atom moves by less than the largest of their weights in Å, which is 1 with tanh.
    """

    def __init__(self, config: EGNNConfig, *, moves: bool) -> None:
        super().__init__()
        width, message = config.width, config.message
        # The first linear map of Eq. 3 is applied to atoms before they are gathered to edges, which are more numerous.
        self.center = nn.Linear(width, message)
        self.neighbor = nn.Linear(width, message, bias=False)
        self.expansion = GaussianExpansion(*GAUSSIANS) if config.distances == "gaussians" else None
        self.distance = nn.Linear(1 if self.expansion is None else GAUSSIANS[0], message, bias=False)
        if self.expansion is not None:
            # Scaled for the few Gaussians that a length excites, as in sen.features.
            nn.init.normal_(self.distance.weight, std=self.expansion.excited**-0.5)
        self.edge = nn.Sequential(nn.SiLU(), nn.Linear(message, message), nn.SiLU())
        self.move = None
        if moves:
            first, last = nn.Linear(message, message), nn.Linear(message, 1, bias=False)
            if not config.tanh:
                # As in the authors' code: far displacements at the start would make all later distances meaningless.
                nn.init.xavier_uniform_(last.weight, gain=0.001)
            self.move = nn.Sequential(first, nn.SiLU(), last, *([nn.Tanh()] if config.tanh else []))
        self.sums = config.aggregation == "sum"
        self.update = nn.Sequential(
            nn.Linear(width + message, config.hidden), nn.SiLU(), nn.Linear(config.hidden, width)
        )

    def forward(self, atoms: Tensor, edges: Tensor, graph: CrystalBatch) -> tuple[Tensor, Tensor | None]:
        """Return the environments [N, width] and the displacements [N, 3] in Å, which the last layer does not have."""
        length = torch.linalg.vector_norm(edges, dim=1, keepdim=True)
        messages = self.edge(
            self.center(atoms).index_select(0, graph.center)
            + self.neighbor(atoms).index_select(0, graph.neighbor)
            + self.distance((length / LENGTH) ** 2 if self.expansion is None else self.expansion(length.squeeze(1)))
        )
        share = 1 / graph.edge_ptr.diff().clamp(min=1).unsqueeze(1).to(edges.dtype)
        step = None
        if self.move is not None:
            # Eq. 4 adds x_i - x_j, which is the edge backwards.
            step = -share * segment_sum(edges / (length + 1) * self.move(messages), graph.center, len(atoms))
        pooled = segment_sum(messages, graph.center, len(atoms))
        if not self.sums:
            pooled = share * pooled
        return atoms + self.update(torch.cat([atoms, pooled], dim=1)), step
