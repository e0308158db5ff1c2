"""What the model knows of an element: its number, its place in the periodic table and some of its properties."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["N_ELEMENTS", "ElementEmbedding", "element_properties", "element_table"]

N_ELEMENTS = 118


_PROPERTIES = ("atomic_mass", "X", "atomic_radius", "ionization_energy", "electron_affinity", "molar_volume")


def element_table() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return group [119], period [119] and properties [119, 6] by atomic number; row 0 belongs to no element.

    The properties are the logarithm of the mass, Pauling's electronegativity, atomic radius, first ionisation energy,
    electron affinity and molar volume, from pymatgen, standardised over the elements; 0 where unknown.
    """
    place = np.nan_to_num(element_properties("group", "row")).astype(np.int64)
    properties = element_properties(*_PROPERTIES)
    properties[:, 0] = np.log(properties[:, 0])
    standardised = (properties - np.nanmean(properties, axis=0)) / np.nanstd(properties, axis=0)
    return place[:, 0], place[:, 1], np.nan_to_num(standardised).astype(np.float32)


def element_properties(*names: str) -> NDArray[np.float64]:
    """Return properties of pymatgen's elements by atomic number, [119, len(names)]; NaN where unknown, as in row 0."""
    from pymatgen.core.periodic_table import Element

    properties = np.full((N_ELEMENTS + 1, len(names)), np.nan)
    with warnings.catch_warnings(action="ignore"):  # pymatgen warns about each missing value
        for number in range(1, N_ELEMENTS + 1):
            element = Element.from_Z(number)
            properties[number] = [_look_up(element, name) for name in names]
    return properties


def _look_up(element: object, name: str) -> float:
    """Return a property of an element; NaN where pymatgen has none, whether it raises or returns None."""
    try:
        value = getattr(element, name)
    except (KeyError, AttributeError):
        return float("nan")
    return float("nan") if value is None else float(value)


class ElementEmbedding(nn.Module):
    """Embed atomic numbers [N] as [N, width]: the sum of embeddings of number, group, period and properties.

    This is the atom information of Xie and Grossman (Phys. Rev. Lett. 120, 145301 (2018)), whose procedure the paper
    follows. Without it a model would have to learn from the data that caesium resembles rubidium, for which a small
    data set may not suffice. The table is saved with the weights.
    """

    group: Tensor
    period: Tensor
    properties: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        group, period, properties = element_table()
        self.register_buffer("group", torch.tensor(group))
        self.register_buffer("period", torch.tensor(period))
        self.register_buffer("properties", torch.tensor(properties))
        self.of_number = nn.Embedding(N_ELEMENTS + 1, width)
        self.of_group = nn.Embedding(int(group.max()) + 1, width)
        self.of_period = nn.Embedding(int(period.max()) + 1, width)
        self.of_properties = nn.Linear(properties.shape[1], width, bias=False)
        nn.init.normal_(self.of_number.weight, std=0.5)  # small, so similar elements start with similar embeddings

    def forward(self, numbers: Tensor) -> Tensor:
        """Embed atomic numbers [N] as [N, width]."""
        place: Tensor = self.of_group(self.group[numbers]) + self.of_period(self.period[numbers])
        element: Tensor = self.of_number(numbers) + self.of_properties(self.properties[numbers])
        return place + element
