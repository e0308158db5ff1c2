"""What decision trees read of a crystal: statistics of its composition and a few numbers of its cell."""

from __future__ import annotations

from collections.abc import Sequence

import gemmi
import numpy as np
from numpy.typing import NDArray

from sen.crystal import CRYSTAL_SYSTEMS, Crystal, crystal_system
from sen.elements import element_properties, element_table

__all__ = ["FEATURES", "crystal_features"]

_PROPERTIES = (
    "group",
    "period",
    "log mass",
    "electronegativity",
    "radius",
    "ionisation energy",
    "electron affinity",
    "molar volume",
)
_STATISTICS = ("mean", "standard deviation", "minimum", "maximum", "range")
_CELL = (
    "elements",
    "atoms",
    "volume per atom",
    "density",
    "space group",
    "crystal system",
    "middle length",
    "longest length",
)
#: Names of the features of a crystal, in order.
FEATURES = (*(f"{statistic} of {name}" for statistic in _STATISTICS for name in _PROPERTIES), *_CELL)

_DALTON = 1.66053907  # in g/cm³ Å³


def crystal_features(crystals: Sequence[Crystal]) -> NDArray[np.float64]:
    """Return the features of refined crystals, [M, 48], in the order of `FEATURES`.

    Statistics of the elements' properties are weighted by atomic fraction; the properties are those of
    `sen.elements.element_table`. Then come the number of elements; the number of atoms in the primitive cell; its
    volume per atom in Å³ and density in g/cm³; the number of the space group and of the crystal system, 0 where the
    symmetry is not known; and the two longer lengths of the Niggli cell, relative to the shortest.
    """
    group, period, properties = element_table()
    table = np.column_stack([group, period, properties])
    mass = element_properties("atomic_mass")[:, 0]
    return np.array([_features(crystal, table, mass) for crystal in crystals]).reshape(-1, len(FEATURES))


def _features(crystal: Crystal, table: NDArray[np.float64], mass: NDArray[np.float64]) -> NDArray[np.float64]:
    elements, counts = np.unique(crystal.numbers, return_counts=True)
    fraction, values = counts / len(crystal), table[elements]
    mean, low, high = fraction @ values, values.min(axis=0), values.max(axis=0)
    deviation = np.sqrt(fraction @ (values - mean) ** 2)
    volume = abs(np.linalg.det(crystal.lattice))
    shortest, middle, longest = _niggli_lengths(crystal.lattice)
    cell = (
        len(elements),
        len(crystal),
        volume / len(crystal),
        _DALTON * (counts @ mass[elements]) / volume,
        crystal.space_group,
        CRYSTAL_SYSTEMS.index(crystal_system(crystal.space_group)),
        middle / shortest,
        longest / shortest,
    )
    return np.concatenate([mean, deviation, low, high, high - low, cell])


def _niggli_lengths(lattice: NDArray[np.float64]) -> list[float]:
    """Return the lengths of the edges of the Niggli cell in Å, sorted."""
    lengths = np.linalg.norm(lattice, axis=1)
    cosines = [lattice[i] @ lattice[j] / (lengths[i] * lengths[j]) for i, j in ((1, 2), (0, 2), (0, 1))]
    vector = gemmi.GruberVector(gemmi.UnitCell(*lengths, *np.degrees(np.arccos(cosines))), "P")
    vector.niggli_reduce()
    return sorted(vector.cell_parameters()[:3])
