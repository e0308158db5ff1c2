"""Statistics of the composition and of the structure of each crystal, by which crystals are compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.crystal_table import CrystalTable
from benchmarks.data.near_duplicates import structure_fingerprints

__all__ = ["composition_statistics", "crystal_statistics", "elements_of"]


def elements_of(table: CrystalTable) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return each crystal with each of its elements once: crystals ascending, atomic numbers, numbers of atoms, [P]."""
    base = 256  # above every atomic number
    crystal = np.repeat(np.arange(len(table)), np.diff(table.ptr))
    entries, n_atoms = np.unique(crystal * base + table.numbers, return_counts=True)
    return entries // base, entries % base, n_atoms


def composition_statistics(table: CrystalTable) -> NDArray[np.float64]:
    """Return statistics of the elements of each crystal, [M, 41]: those of the composition that `trees` reads.

    The number of elements; then mean, standard deviation, minimum, maximum and range of the properties of
    `sen.elements.element_table`, over the atoms of the crystal.
    """
    from sen.elements import element_table

    crystal, number, n_atoms = elements_of(table)
    properties = np.column_stack(element_table()).astype(np.float64)[number]
    first = np.searchsorted(crystal, np.arange(len(table)))
    fraction = (n_atoms / np.diff(table.ptr)[crystal])[:, None]
    mean = np.add.reduceat(fraction * properties, first)
    deviation = np.sqrt(np.add.reduceat(fraction * (properties - mean[crystal]) ** 2, first))
    low, high = np.minimum.reduceat(properties, first), np.maximum.reduceat(properties, first)
    return np.column_stack([np.bincount(crystal), mean, deviation, low, high, high - low])


def crystal_statistics(table: CrystalTable) -> NDArray[np.float64]:
    """Return statistics of composition and structure, [M, 54], each with mean 0 and, unless constant, deviation 1.

    Those of the structure are the fingerprints of `near_duplicates`: the cube root of the volume per atom, and the
    average minimum distances. The graphs that they need are built where they are not in the cache.
    """
    statistics = np.column_stack([composition_statistics(table), structure_fingerprints(table)])
    deviation = statistics.std(axis=0)
    standardised: NDArray[np.float64] = (statistics - statistics.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return standardised
