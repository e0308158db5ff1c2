"""The capsule block: symmetry perception after stacked capsule autoencoders (paper Eq. 8-9 and Box 2).

The paper names convolutions, attention, a split, a transform and a product, but not what they are applied to. Here the
environment of every atom forms a 12x16 map, and capsules are found in the maps of all atoms of a crystal. Poses are
affine maps of a plane; they act on features, not on the crystal. docs/decisions.md says where each number comes from.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock, SymmetryOutput
from sen.config import Config, Space
from sen.ops import segment_softmax, segment_sum

__all__ = ["CapsuleBlock", "CapsuleConfig", "affine", "transform"]

POSE = 6


class CapsuleConfig(Config):
    """Sizes of the capsule block: the paper's (Methods), but for the map and the heads, which are our choice."""

    map_height: int = Field(
        12, ge=1, description="Rows of the map that an environment forms, 12 x 16 = 192 (our choice)."
    )
    normalise: bool = Field(
        False, description="Layer normalisation of each environment before the convolutions; the paper names none."
    )
    filters: int = Field(256, ge=1, description="Filters of each of the three 3x3 convolutions of stride 2 (paper).")
    capsules: int = Field(16, ge=1, description="Part capsules of a crystal (paper).")
    capsule_width: int = Field(
        128, ge=2, multiple_of=2, description="Width of a capsule (paper), read as points of a plane."
    )
    split_width: int = Field(192, ge=1, description="Width of the self-attention that splits the capsules (paper).")
    heads: int = Field(4, ge=1, description="Heads of that self-attention; must divide split_width (our choice).")


def affine(pose: Tensor) -> tuple[Tensor, Tensor]:
    """Return the affine map of a pose [..., 6] = (scale x, scale y, rotation, shear, translation x, translation y).

    Scales are signed, so reflections and the inversion are among the maps. The zero pose is the identity.

    Returns:
        The matrix R(rotation) Shear diag(scales) [..., 2, 2] and the translation [..., 2].
    """
    scale_x, scale_y, angle, shear = 1 + pose[..., 0], 1 + pose[..., 1], pose[..., 2], pose[..., 3]
    cos, sin = angle.cos(), angle.sin()
    # R @ [[1, shear], [0, 1]] @ diag(scale_x, scale_y), written out.
    first = torch.stack([cos * scale_x, sin * scale_x], dim=-1)
    second = torch.stack([(cos * shear - sin) * scale_y, (sin * shear + cos) * scale_y], dim=-1)
    return torch.stack([first, second], dim=-1), pose[..., 4:]


def transform(pose: Tensor, chemistry: Tensor) -> Tensor:
    """Geo-Trans (Eq. 9): read `chemistry` [..., 2n] as n points of a plane and apply the affine map of `pose`."""
    matrix, translation = affine(pose)
    points = chemistry.unflatten(-1, (-1, 2))
    mapped: Tensor = points @ matrix.mT + translation.unsqueeze(-2)
    return mapped.flatten(-2)


def _convolution(channels: int, filters: int) -> nn.Conv2d:
    """Return a 3x3 convolution of stride 2, its weights scaled for ReLU and in the fastest layout on CPU and GPU."""
    layer = nn.Conv2d(channels, filters, 3, stride=2, padding=1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return layer


class CapsuleBlock(SymmetryBlock):
    """Convolution attention to part capsules, attention-based split, geometric transform, weighting by presence."""

    Config = CapsuleConfig
    source = "Liang et al., Nat. Commun. 14, 5198 (2023)"
    space: ClassVar[Space] = {"capsules": (8, 16, 32)}

    def __init__(self, width: int, config: CapsuleConfig) -> None:
        super().__init__(width, config)
        if width % config.map_height:
            raise ValueError(f"map_height ({config.map_height}) must divide the environment width ({width}).")
        if config.split_width % config.heads:
            raise ValueError(f"heads ({config.heads}) must divide split_width ({config.split_width}).")
        self.config = config
        filters, n, capsule, split = config.filters, config.capsules, config.capsule_width, config.split_width
        self.environment_norm = nn.LayerNorm(width) if config.normalise else nn.Identity()
        self.material_width, self.atom_width = n * capsule, capsule
        self.convolutions = nn.Sequential(
            *(
                layer
                for channels in (1, filters, filters)
                for layer in (_convolution(channels, filters), nn.ReLU(inplace=True))
            )
        )
        # No bias: it would cancel in the softmax.
        self.logits = nn.Linear(filters, n, bias=False)
        self.parts = nn.Parameter(torch.randn(n, filters, capsule) / filters**0.5)
        self.parts_bias = nn.Parameter(torch.zeros(n, capsule))
        self.norm = nn.LayerNorm(capsule)
        self.query_key_value = nn.Linear(capsule, 3 * split)
        self.residual = nn.Linear(capsule, split)
        self.split = nn.Linear(split, POSE + capsule + 1)

    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        """Map environments [N, width] to capsules of the crystals, and capsules back to environments.

        The extras of K capsules are `pose` [B, K, 6], `presence` [B, K], `capsules` [B, K, capsule_width] and `share`,
        the share of each capsule in an atom, [N, K].
        """
        attention, parts = self.part_capsules(env, graph)
        pose, chemistry, presence = self.split_capsules(parts)
        updated = transform(pose, chemistry)
        sigma = updated * presence.unsqueeze(-1)
        # Each atom receives the capsules in proportion to their attention to it: the attention transposed. The
        # multiplicity of the atom cancels; `eps` keeps an atom finite that no capsule attends to.
        share = F.normalize(attention.sum(1), p=1, dim=1, eps=torch.finfo(attention.dtype).tiny)
        atoms = torch.einsum("nk,nkd->nd", share, sigma.index_select(0, graph.crystal))
        extras = {"pose": pose, "presence": presence, "capsules": updated, "share": share}
        return SymmetryOutput(atoms, sigma.flatten(1), extras)

    def part_capsules(self, env: Tensor, graph: CrystalBatch) -> tuple[Tensor, Tensor]:
        """`Att_Conv`: softmax over all (atom, position) pairs of a crystal.

        Returns:
            The attention weights [N, positions, capsules] and the part capsules [B, capsules, capsule_width].
        """
        maps = self.environment_norm(env).view(len(env), 1, self.config.map_height, -1)
        features = self.convolutions(maps.contiguous(memory_format=torch.channels_last))
        features = features.flatten(2).transpose(1, 2)
        positions = features.shape[1]
        logits = self.logits(features)
        weights = segment_softmax(
            logits.flatten(0, 1),
            graph.crystal.repeat_interleave(positions),
            graph.n_crystals,
            graph.multiplicity.repeat_interleave(positions),
        ).view_as(logits)
        # Pooling before the linear maps of the capsules gives the same sum, far cheaper than mapping every position.
        per_atom = torch.einsum("npk,npf->nkf", weights, features)
        pooled = segment_sum(per_atom.flatten(1), graph.crystal, graph.n_crystals).view(-1, *self.parts.shape[:2])
        return weights, torch.einsum("bkf,kfd->bkd", pooled, self.parts) + self.parts_bias

    def split_capsules(self, parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`F_split`: self-attention over the capsules of a crystal.

        Returns:
            The poses [B, capsules, 6], the chemical environments [B, capsules, capsule_width] and the presences
            [B, capsules] in (0, 1).
        """
        normed = self.norm(parts)
        heads = self.config.heads
        query, key, value = (
            x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in self.query_key_value(normed).chunk(3, dim=-1)
        )
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        pose, chemistry, presence = self.split(attended + self.residual(normed)).split(
            [POSE, self.config.capsule_width, 1], dim=-1
        )
        return pose, chemistry, presence.squeeze(-1).sigmoid()
