"""Symmetry orbits of a crystal, and the operations of its space group that map one atom onto another.

Operations act on the atoms of the conventional cell, in which centring translations relate different atoms.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sen.crystal import Crystal, find_symmetry

__all__ = ["KINDS", "ConventionalCell", "conventional_cell", "first_atoms", "orbits_of_elements"]

KINDS = ("translation", "inversion", "mirror", "rotation", "rotoinversion", "screw", "glide")
"""Kinds of operations, in the order in which one of several is chosen to name a relation."""

# Fractional coordinates closer than this are the same; refined cells agree to rounding.
_CLOSE = 1e-3
# Å: refined crystals are symmetric to rounding, and what a wider search finds is no symmetry of theirs.
_SYMPREC = 1e-4
# Lattice vectors that are tried: in the conventional settings an axis or plane parallel to that of the operation, and
# through some point of the cell, lies within this many cells.
_SHIFTS = np.array(list(itertools.product(range(-3, 4), repeat=3)), dtype=np.float64)
# Order of a rotation by the trace of its matrix.
_ORDER = {3: 1, -1: 2, 0: 3, 1: 4, 2: 6}


@dataclass(frozen=True, eq=False)
class Operation:
    """A symmetry operation x -> W x + w in fractional coordinates of the conventional cell.

    Attributes:
        rotation: W, int [3, 3].
        translation: w, each component in [0, 1), float64 [3].
        kind: One of `KINDS`.
        order: Order of the rotation, or of the rotation that is followed by an inversion; 1 for a translation, an
            inversion; 2 for mirror and glide.
    """

    rotation: NDArray[np.int64]
    translation: NDArray[np.float64]
    kind: str
    order: int

    @property
    def name(self) -> str:
        """Its name: "mirror", "2-fold rotation", "4-fold screw", "-3 rotoinversion"."""
        if self.kind == "rotoinversion":
            return f"-{self.order} rotoinversion"
        return f"{self.order}-fold {self.kind}" if self.kind in {"rotation", "screw"} else self.kind

    @property
    def xyz(self) -> str:
        """Its coordinate triplet: "-x, y+1/2, -z"."""
        from pymatgen.core.operations import SymmOp

        # In the conventional settings translations are whole numbers of 24ths of the cell, found up to rounding.
        translation = np.rint(24 * self.translation) / 24 % 1
        return str(SymmOp.from_rotation_and_translation(self.rotation, translation).as_xyz_str())


def first_atoms(crystal: Crystal) -> NDArray[np.int64]:
    """Return the first atom of each symmetry orbit of a crystal, [orbits]."""
    return np.unique(crystal.orbit, return_index=True)[1]


def orbits_of_elements(crystal: Crystal) -> NDArray[np.int64]:
    """Return how many symmetry orbits each element of a crystal has, [elements]."""
    return np.unique(crystal.numbers[first_atoms(crystal)], return_counts=True)[1]


def classify(rotation: NDArray[Any], translation: NDArray[Any]) -> tuple[str, int]:
    """Return the kind of an operation ("identity" or one of `KINDS`) and the order of its rotation.

    The operation stands for all those that differ from it by a lattice vector t of the cell. It is a screw or a glide
    if the intrinsic translation, (1/k) sum of W^m (w + t) over its order k, vanishes for no t.

    Args:
        rotation: W, whole numbers [3, 3].
        translation: w, [3].
    """
    numbers = tuple(np.asarray(rotation, dtype=np.int64).ravel().tolist())
    return _classify(numbers, tuple(np.asarray(translation, dtype=np.float64).round(6).tolist()))


# The same few hundred operations occur in most crystals.
@functools.lru_cache(maxsize=10_000)
def _classify(numbers: tuple[int, ...], shift: tuple[float, ...]) -> tuple[str, int]:
    rotation, translation = np.array(numbers).reshape(3, 3), np.array(shift)
    proper = round(float(np.linalg.det(rotation))) > 0
    order = _ORDER[int(np.trace(rotation)) if proper else -int(np.trace(rotation))]
    if proper and order == 1:
        return ("translation" if np.abs(translation - np.rint(translation)).max() > _CLOSE else "identity"), 1
    if not proper and order != 2:
        return ("inversion" if order == 1 else "rotoinversion"), order
    # The part of a shift that the operation leaves unchanged: along the axis, or in the plane.
    powers = [np.linalg.matrix_power(rotation, m) for m in range(order)]
    intrinsic = (translation + _SHIFTS) @ (np.sum(powers, axis=0) / order).T
    moves_on = bool(np.abs(intrinsic).max(axis=1).min() > _CLOSE)
    if proper:
        return ("screw" if moves_on else "rotation"), order
    return ("glide" if moves_on else "mirror"), order


@dataclass(frozen=True, eq=False)
class ConventionalCell:
    """The conventional cell of a crystal, with n atoms, and the operations that relate them.

    Attributes:
        lattice: Lattice vectors as rows in Å, float64 [3, 3].
        positions: Fractional coordinates, float64 [n, 3].
        numbers: Atomic numbers, int64 [n].
        atom: The atom of the original crystal of which each atom is a copy, int64 [n].
        space_group: International number; 0 where the symmetry search failed and the cell is that of the crystal.
        operations: The operations of the space group except the identity, with those of the centring translations.
        images: Atom onto which each operation maps each atom, int64 [operations, n]; -1 for none.
    """

    lattice: NDArray[np.float64]
    positions: NDArray[np.float64]
    numbers: NDArray[np.int64]
    atom: NDArray[np.int64]
    space_group: int
    operations: list[Operation]
    images: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of atoms n."""
        return len(self.numbers)

    def between(self, first: int, second: int) -> list[Operation]:
        """Return all operations that map atom `first` onto atom `second`, in the order of `KINDS`."""
        found: list[int] = np.flatnonzero(self.images[:, first] == second).tolist()
        return [self.operations[i] for i in found]


def conventional_cell(crystal: Crystal) -> ConventionalCell:
    """Return the conventional cell of a crystal with its space-group operations, as moyopy finds them.

    If the search fails, the cell is that of the crystal, without operations.
    """
    found = again = find_symmetry(crystal.lattice, crystal.positions, crystal.numbers, _SYMPREC)
    if found is not None:
        standard = found.std_cell
        again = find_symmetry(standard.basis, standard.positions, standard.numbers, _SYMPREC)
    if again is None:
        numbers, atom = crystal.numbers.astype(np.int64), np.arange(len(crystal))
        images = np.empty((0, len(crystal)), dtype=np.int64)
        return ConventionalCell(crystal.lattice, crystal.positions, numbers, atom, 0, [], images)
    lattice, positions = np.array(standard.basis), np.array(standard.positions)
    numbers, operations = np.array(standard.numbers, dtype=np.int64), again.operations
    in_crystal = positions @ np.array(found.std_linear).T + np.array(found.std_origin_shift)
    atom = _distances(in_crystal, crystal.positions, crystal.lattice).argmin(axis=1)
    kept = []
    for rotation, translation in zip(operations.rotations, operations.translations, strict=True):
        w, shift = np.array(rotation, dtype=np.int64), np.array(translation) % 1.0
        shift[shift > 1 - _CLOSE / 10] = 0.0
        kind, order = classify(w, shift)
        if kind != "identity":
            kept.append(Operation(w, shift, kind, order))
    kept.sort(key=lambda operation: (KINDS.index(operation.kind), operation.order))
    images = np.array(
        [_matches(positions @ o.rotation.T + o.translation, positions, numbers, lattice) for o in kept], dtype=np.int64
    ).reshape(-1, len(numbers))
    return ConventionalCell(lattice, positions, numbers, atom, found.number, kept, images)


def _distances(points: NDArray[Any], others: NDArray[Any], lattice: NDArray[Any]) -> NDArray[np.float64]:
    """Distances in Å, exact where they are small, between points [n, 3] and the nearest images of others [m, 3]."""
    difference = points[:, None] - others[None]
    difference -= np.rint(difference)
    distances: NDArray[np.float64] = np.linalg.norm(difference @ lattice, axis=2)
    return distances


def _matches(
    mapped: NDArray[Any], positions: NDArray[Any], numbers: NDArray[Any], lattice: NDArray[Any]
) -> NDArray[np.int64]:
    """Index of the atom of the same element at each mapped position [n, 3]; -1 for none."""
    distances = _distances(mapped, positions, lattice)
    distances[numbers[:, None] != numbers[None]] = np.inf
    nearest = distances.argmin(axis=1)
    return np.where(distances[np.arange(len(mapped)), nearest] < 2 * _SYMPREC, nearest, -1)
