"""The `densenet` block: densely connected 3x3 convolutions on each atom's 12x16 map, then the mean over the atoms.

DenseNet-BC of Huang et al., with GroupNorm instead of BatchNorm, because a prediction must not depend on its batch.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock, SymmetryOutput
from sen.config import Config, Space

__all__ = ["DenseNetBlock", "DenseNetConfig"]


class DenseNetConfig(Config):
    """Sizes chosen so that SEN with this block has about as many parameters as with the capsule block."""

    map_height: int = Field(12, ge=1, description="Rows of the map that an environment forms (12 x 16 = 192).")
    layers: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (3, 6, 16), min_length=1, description="Layers of each dense block; a transition between blocks."
    )
    growth: int = Field(32, ge=1, description="Channels that a layer adds; the first convolution makes twice as many.")
    bottleneck: int = Field(4, ge=1, description="Channels that a layer's 3x3 convolution reads, divided by `growth`.")
    group: int = Field(16, ge=1, description="Channels that GroupNorm normalises together; must divide `growth`.")


class DenseNetBlock(SymmetryBlock):
    """An image classifier's view of the atoms: no symmetry perception."""

    Config = DenseNetConfig
    source = "Huang et al., CVPR 2017 (arXiv:1608.06993)"
    space: ClassVar[Space] = {"growth": (16, 32, 48)}

    def __init__(self, width: int, config: DenseNetConfig) -> None:
        super().__init__(width, config)
        if width % config.map_height:
            raise ValueError(f"map_height ({config.map_height}) must divide the environment width ({width}).")
        if config.growth % config.group:
            raise ValueError(f"group ({config.group}) must divide growth ({config.growth}).")
        self.config = config
        channels = 2 * config.growth
        # Stride 2, as in Huang et al. for large images: maps of full size would cost four times as much.
        stages: list[nn.Module] = [_convolution(1, channels, 3, stride=2)]
        for i, n_layers in enumerate(config.layers):
            if i:
                # Compression 0.5, rounded to whole groups.
                halved = -(-channels // (2 * config.group)) * config.group
                stages.append(_Transition(channels, halved, config.group))
                channels = halved
            stages.append(_DenseStage(channels, n_layers, config))
            channels += n_layers * config.growth
        self.layers = nn.Sequential(*stages, *_normalise(channels, config.group))
        self.material_width = self.atom_width = channels

    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        """Read environments [N, width] as maps; average the features of a map, then those of the atoms of a crystal."""
        maps = env.view(len(env), 1, self.config.map_height, -1)
        atoms = self.layers(maps).mean((2, 3))
        return SymmetryOutput(atoms, graph.mean(atoms))


def _convolution(channels: int, filters: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution, its weights scaled for ReLU, without a bias: the next GroupNorm would mostly remove it."""
    layer = nn.Conv2d(channels, filters, size, stride=stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


def _normalise(channels: int, group: int) -> tuple[nn.Module, nn.Module]:
    return nn.GroupNorm(channels // group, channels), nn.ReLU(inplace=True)


class _DenseStage(nn.Module):
    """A dense block: every layer reads the input and the output of all layers before it."""

    def __init__(self, channels: int, n_layers: int, config: DenseNetConfig) -> None:
        super().__init__()
        inner = config.bottleneck * config.growth
        self.layers = nn.ModuleList(
            nn.Sequential(
                *_normalise(channels + i * config.growth, config.group),
                _convolution(channels + i * config.growth, inner, 1),
                *_normalise(inner, config.group),
                _convolution(inner, config.growth, 3),
            )
            for i in range(n_layers)
        )

    def forward(self, maps: Tensor) -> Tensor:
        for layer in self.layers:
            maps = torch.cat([maps, layer(maps)], dim=1)
        return maps


class _Transition(nn.Module):
    """A transition between dense blocks: fewer channels, and maps of half the size, rounded up."""

    def __init__(self, channels: int, out: int, group: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_normalise(channels, group), _convolution(channels, out, 1))

    def forward(self, maps: Tensor) -> Tensor:
        return F.avg_pool2d(self.layers(maps), 2, ceil_mode=True)
