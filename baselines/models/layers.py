"""Layers and atom features that several models share."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import gemmi
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sen.elements import N_ELEMENTS, element_properties
from sen.features import GaussianExpansion

__all__ = [
    "BatchNorm",
    "JoinedLinear",
    "ShiftedSoftplus",
    "element_categories",
    "expand_as_kgcnn",
    "initialise_as_keras",
    "perceptron",
]


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


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of rows that stand for several equal ones, as those of asymmetric units do.

    Asymmetric units and full cells have the same statistics.
    """

    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def forward(self, rows: Tensor, multiplicity: Tensor | None = None) -> Tensor:
        """Normalise rows [R, C], each counting `multiplicity` [R] times or once, to [R, C].

        Fewer than two rows, which have no variance, are normalised by the running statistics in training, too.
        """
        by_batch = self.training and len(rows) > 1
        if not by_batch or multiplicity is None:
            statistics = self.running_mean, self.running_var
            return F.batch_norm(rows, *statistics, self.weight, self.bias, by_batch, self.momentum, self.eps)
        n = multiplicity.sum()
        mean = multiplicity @ rows / n
        centered = rows - mean
        variance = multiplicity @ centered.square() / n
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        return torch.addcmul(self.bias, centered, self.weight * (variance + self.eps).rsqrt())


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


def element_categories() -> NDArray[np.float32]:
    """Return the categories of the elements by atomic number, 0 or 1, [119, 92]; row 0 belongs to no element.

    These are the atom features of Xie and Grossman (2018), in the order of their code's atom_init.json: group, where
    the f block has one of its own; period; electronegativity; covalent radius in Å; valence electrons; logarithm of the
    first ionisation energy in eV; electron affinity in eV; block; logarithm of the molar volume in cm³. Continuous
    values have ten bins, of which the outer two are open; an unknown value is in none. Covalent radii are gemmi's, the
    other values pymatgen's.
    """
    number = np.arange(N_ELEMENTS + 1)
    group, period, electronegativity, energy, affinity, volume = element_properties(
        "group", "row", "X", "ionization_energy", "electron_affinity", "molar_volume"
    ).T
    radius = np.array([np.nan, *(gemmi.Element(n).covalent_r for n in range(1, N_ELEMENTS + 1))])
    in_f_block = ((number >= 57) & (number <= 70)) | ((number >= 89) & (number <= 102))
    s, p, d, f = range(4)
    block = np.select([in_f_block, (group <= 2) | (number == 2), group <= 12, group <= 18], [f, s, d, p], np.nan)
    valence = np.select([in_f_block | (number == 2), group <= 12], [2, group], group - 10)
    categories = (
        (np.where(in_f_block, 0, group), 19),
        (period - 1, 7),
        (_bins(electronegativity, 0.5, 4.0), 10),
        (_bins(radius, 0.25, 2.5), 10),
        (valence - 1, 12),
        (_bins(np.log(energy), 1.3, 3.3), 10),
        (_bins(affinity, -3.0, 3.7), 10),
        (block, 4),
        (_bins(np.log(volume), 1.5, 4.3), 10),
    )
    one_hot = [category[:, None] == np.arange(n) for category, n in categories]
    return np.concatenate(one_hot, axis=1, dtype=np.float32)


def _bins(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """Return the bin of each value, 0 to 9, of ten between `low` and `high`; values beyond are in the outer ones."""
    bins: NDArray[Any] = np.clip(np.floor((values - low) / (high - low) * 10), 0, 9)
    return bins
