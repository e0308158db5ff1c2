"""The `tfn` block: a tensor field network on the atoms of a crystal."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import nn

from baselines.blocks.equivariant import (
    EdgeEncoder,
    Edges,
    EquivariantBlock,
    EquivariantConfig,
    EquivariantLinear,
    Features,
    GatedUpdate,
    TensorProduct,
)
from sen.batch import CrystalBatch
from sen.ops import segment_sum

__all__ = ["TFNBlock", "TFNConfig"]


class TFNConfig(EquivariantConfig):
    """Sizes chosen so that SEN with this block has about as many parameters as with the capsule block."""

    neighbors: float = Field(
        16.0, gt=0, description="Sums over neighbours are divided by the square root of this number."
    )


class TFNBlock(EquivariantBlock):
    """Tensor field network of Thomas et al., arXiv:1802.08219 (2018), on full cells.

    Differences from the paper: the points are the atoms of a crystal, and the edges lead to all periodic images in the
    neighbour list (whole shells until there are `graph.max_neighbors`). The group is O(3) with 0e + 1o + 2e, so the
    block does not see handedness. Filters act channel by channel, and the products are summed over the paths;
    self-interactions before and after mix the channels. Sums over neighbours are divided by a constant, never by
    anything of the batch. Gates replace norm nonlinearities, and layers are residual. Radial networks have no cutoff,
    because the neighbour list ends with a shell and not at a radius; the feature extraction reads the same list.
    """

    Config = TFNConfig
    source = "Thomas et al., arXiv:1802.08219 (2018)"
    config: TFNConfig

    def layer(self, widths: Sequence[int], out: Sequence[int]) -> nn.Module:
        """Build a convolution."""
        return _Convolution(widths, out, self.edges, self.config)


class _Convolution(nn.Module):
    """Point convolution with the filters R(|r|) Y(r / |r|) between self-interactions, then gates."""

    def __init__(self, widths: Sequence[int], out: Sequence[int], edges: EdgeEncoder, config: TFNConfig) -> None:
        super().__init__()
        lmax_in, lmax_out, channels = len(widths) - 1, len(out) - 1, config.channels
        self.source = EquivariantLinear(widths, [channels] * len(widths))
        self.product = TensorProduct(lmax_in, lmax_out, channels, edges.expansion, config.radial_hidden)
        self.update = GatedUpdate(widths, [channels] * len(out), out)
        self.scale = config.neighbors**-0.5

    def forward(self, features: Features, edges: Edges, graph: CrystalBatch) -> Features:
        products = self.product(self.source(features), edges, graph)
        messages = [self.scale * segment_sum(x, graph.center, len(graph.numbers)) for x in products]
        updated: Features = self.update(features, messages)
        return updated
