"""The `se3` block: an SE(3)-Transformer on the atoms of a crystal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

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
from sen.ops import segment_softmax, segment_sum

__all__ = ["SE3Block", "SE3Config"]


class SE3Config(EquivariantConfig):
    """Sizes chosen so that SEN with this block has about as many parameters as with the capsule block."""

    key_channels: int = Field(16, ge=1, description="Channels of queries and keys, for each degree.")
    heads: int = Field(4, ge=1, description="Attention heads; must divide channels and key_channels.")


class SE3Block(EquivariantBlock):
    """SE(3)-Transformer of Fuchs et al., NeurIPS 2020 (arXiv:2006.10503), on full cells.

    Differences from the paper: the points are the atoms of a crystal, and the edges lead to all periodic images in the
    neighbour list, those of the atom itself included (whole shells until there are `graph.max_neighbors`). The group is
    O(3) with 0e + 1o + 2e, so the block does not see handedness. Tensor products act channel by channel and are summed
    over the paths; linear maps before and after mix the channels. Keys have fewer channels than values. Gates replace
    norm nonlinearities, and layers are residual with a linear self-interaction, which alone updates an atom without
    neighbours.
    """

    Config = SE3Config
    source = "Fuchs et al., NeurIPS 2020 (arXiv:2006.10503)"
    config: SE3Config

    def __init__(self, width: int, config: SE3Config) -> None:
        if config.channels % config.heads or config.key_channels % config.heads:
            raise ValueError(
                f"heads ({config.heads}) must divide channels ({config.channels}) and key_channels "
                f"({config.key_channels})."
            )
        super().__init__(width, config)

    def layer(self, widths: Sequence[int], out: Sequence[int]) -> nn.Module:
        """Build an attention."""
        return _Attention(widths, out, self.edges, self.config)


class _Attention(nn.Module):
    """Attention over the neighbours of an atom: invariant weights, equivariant values (Fuchs et al., Eq. 10).

    Queries are linear in the features of the atom; keys and values are tensor products of the features of the neighbour
    with the harmonics of the edge. The scalar product of query and key runs over all degrees.
    """

    def __init__(self, widths: Sequence[int], out: Sequence[int], edges: EdgeEncoder, config: SE3Config) -> None:
        super().__init__()
        lmax_in, lmax_out, channels = len(widths) - 1, len(out) - 1, config.channels
        keys, hidden = [config.key_channels] * len(widths), config.radial_hidden
        self.query = EquivariantLinear(widths, keys)
        self.key_source = EquivariantLinear(widths, keys)
        self.key = TensorProduct(lmax_in, lmax_in, config.key_channels, edges.expansion, hidden)
        self.value_source = EquivariantLinear(widths, [channels] * len(widths))
        self.value = TensorProduct(lmax_in, lmax_out, channels, edges.expansion, hidden)
        self.update = GatedUpdate(widths, [channels] * len(out), out)
        self.heads = config.heads
        self.scale = (config.key_channels // config.heads * (lmax_in + 1) ** 2) ** -0.5

    def forward(self, features: Features, edges: Edges, graph: CrystalBatch) -> Features:
        n = len(graph.numbers)
        weights = segment_softmax(self.logits(features, edges, graph), graph.center, n)
        values = self.value(self.value_source(features), edges, graph)
        by_channel = weights.repeat_interleave(self.value.channels // self.heads, dim=1).unsqueeze(1)
        messages = [segment_sum(by_channel * value, graph.center, n) for value in values]
        updated: Features = self.update(features, messages)
        return updated

    def logits(self, features: Features, edges: Edges, graph: CrystalBatch) -> Tensor:
        """Return the scalar products of queries and keys, [K, heads]."""
        queries = [x.index_select(0, graph.center) for x in self.query(features)]
        keys = self.key(self.key_source(features), edges, graph)
        products = [(query * key).unflatten(2, (self.heads, -1)) for query, key in zip(queries, keys, strict=True)]
        return torch.stack([product.sum((1, 3)) for product in products]).sum(0).mul(self.scale)
