"""Layers that several models share."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sen.features import GaussianExpansion

__all__ = ["JoinedLinear", "ShiftedSoftplus", "expand_as_kgcnn", "initialise_as_keras", "perceptron"]


class ShiftedSoftplus(nn.Module):
    """The activation log(1 + e^x) - log 2, which is 0 at 0 (Schütt et al. 2017)."""

    def forward(self, x: Tensor) -> Tensor:
        """Activate `x`, of any shape."""
        return F.softplus(x) - math.log(2.0)


class JoinedLinear(nn.Linear):
    """A linear map of rows joined from several tensors, which can map them without joining them.

    So atoms can be mapped before they are gathered to edges, which are far more numerous.

    Args:
        widths: Widths of the tensors, in the order in which they would be joined.
        out: Width of the result.
    """

    def __init__(self, *widths: int, out: int) -> None:
        super().__init__(sum(widths), out)
        self.widths = widths

    def map_parts(self, *parts: Tensor) -> list[Tensor]:
        """Map each of `parts` [R, width], with R of its own, to [R, out].

        The results, gathered to the same rows, add up to the linear map. The bias is part of the first.
        """
        first, *others = zip(parts, self.weight.split(self.widths, dim=1), strict=True)
        return [F.linear(*first, self.bias), *(F.linear(part, weight) for part, weight in others)]


def perceptron(*widths: int, is_last_activated: bool = False) -> nn.Sequential:
    """Return linear maps from each of `widths` to the next, with shifted softplus between them or after each."""
    layers = [layer for width, out in pairwise(widths) for layer in (nn.Linear(width, out), ShiftedSoftplus())]
    return nn.Sequential(*(layers if is_last_activated else layers[:-1]))


def expand_as_kgcnn(n: int, distance: float, sigma: float) -> GaussianExpansion:
    """Return kgcnn's expansion in n Gaussians exp(-(d - c)^2 / (2 sigma^2)), of which a next would be at `distance`."""
    return GaussianExpansion(n, distance * (n - 1) / n, math.sqrt(2) * sigma)


def initialise_as_keras(module: nn.Module) -> None:
    """Draw all weights below `module` as Keras does: Glorot's for linear maps, zero biases, embeddings within 0.05."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.Embedding):
                nn.init.uniform_(layer.weight, -0.05, 0.05)
