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

KINDS = ("screw", "glide", "rotation", "rotoinversion", "mirror", "inversion", "translation")
"""Kinds of operations.

Of several operations the one of highest order names a relation, and of those of one order the one whose kind comes
first. The higher its order, the more an operation tells: fewer crystals have it, and its powers are operations as well.
Screws and glides come first because the point group does not tell of them; a translation only repeats the lattice.
"""

# Fractional coordinates closer than this are the same; refined cells agree to rounding.
_CLOSE = 1e-3
# Å: refined crystals are symmetric to rounding, and what a wider search finds is no symmetry of theirs.
_SYMPREC = 1e-4
# Lattice vectors to the neighbouring cells: glides move by a half or a quarter of one.
_NEIGHBOURS = np.array([v for v in itertools.product((-1, 0, 1), repeat=3) if any(v)])
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
        symbol: Its symbol in the International Tables: "2", "4_1", "-3", "m", "c".
    """

    rotation: NDArray[np.int64]
    translation: NDArray[np.float64]
    kind: str
    order: int
    symbol: str

    @property
    def name(self) -> str:
        """Its name: "mirror", "2-fold rotation", "4_1 screw", "-3 rotoinversion", "c glide"."""
        if self.kind == "rotation":
            return f"{self.order}-fold rotation"
        return f"{self.symbol} {self.kind}" if self.kind in {"screw", "glide", "rotoinversion"} else self.kind

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


def classify(rotation: NDArray[Any], translation: NDArray[Any], centring: NDArray[Any]) -> tuple[str, int, str]:
    """Return the kind of an operation ("identity" or one of `KINDS`), the order of its rotation, and its symbol.

    The symbol is that of the symmetry element (International Tables A, 2006, chapters 1.3 and 11.2). Its intrinsic
    translation, (1/k) sum of W^m w over its order k, counts modulo the lattice vectors along the axis or in the plane.
    A screw n_p turns by 360/n degrees to the right about the direction in which it moves, by p/n of the shortest of
    these vectors. The letter of a glide is relative to the axes of the cell. The operation stands for all those that
    differ from it by a vector of the cell, whose axes or planes may differ. The first of their symbols counts: without
    a translation, then by p, or in the order e, a, b, c, n, d, g, where g is none of the others.

    Args:
        rotation: W, whole numbers [3, 3].
        translation: w, [3].
        centring: Lattice points in a right-handed conventional cell, the origin among them, [points, 3].
    """
    numbers = tuple(np.asarray(rotation, dtype=np.int64).ravel().tolist())
    shift, points = (np.asarray(values, dtype=np.float64).round(6) for values in (translation, centring))
    return _classify(numbers, tuple(shift.tolist()), tuple(points.ravel().tolist()))


# The same few hundred operations occur in most crystals.
@functools.lru_cache(maxsize=10_000)
def _classify(numbers: tuple[int, ...], shift: tuple[float, ...], points: tuple[float, ...]) -> tuple[str, int, str]:
    rotation, translation, centring = np.array(numbers).reshape(3, 3), np.array(shift), np.reshape(points, (-1, 3))
    proper = round(float(np.linalg.det(rotation))) > 0
    order = _ORDER[int(np.trace(rotation)) if proper else -int(np.trace(rotation))]
    if proper and order == 1:
        is_identity = np.abs(translation - np.rint(translation)).max() < _CLOSE
        return ("identity", 1, "1") if is_identity else ("translation", 1, "t")
    if not proper and order != 2:
        return ("inversion" if order == 1 else "rotoinversion"), order, f"-{order}"
    # The part of a shift that the operation leaves unchanged: along the axis, or in the plane. That of `order` times a
    # vector of the cell is a lattice vector.
    total = np.sum([np.linalg.matrix_power(rotation, m) for m in range(order)], axis=0)
    shifts = np.array(list(itertools.product(range(order), repeat=3)))
    intrinsic = (translation + shifts) @ total.T / order
    if proper:
        step = _along_axis(rotation, total, centring) / order
        p = next(p for p in range(order) if _are_lattice_vectors(intrinsic - p * step, centring).any())
        return ("screw", order, f"{order}_{p}") if p else ("rotation", order, str(order))
    letter = min((_plane_letter(glide, rotation, centring) for glide in intrinsic), key="meabcndg".index)
    return ("mirror" if letter == "m" else "glide"), order, letter


def _are_lattice_vectors(vectors: NDArray[Any], centring: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether vectors [..., 3] lead from the origin to a lattice point, [...]."""
    difference = vectors[..., None, :] - centring
    close: NDArray[np.bool_] = (np.abs(difference - np.rint(difference)).max(axis=-1) < _CLOSE).any(axis=-1)
    return close


def _along_axis(rotation: NDArray[Any], total: NDArray[Any], centring: NDArray[Any]) -> NDArray[np.float64]:
    """Return the shortest lattice vector along the axis of a rotation, in the direction in which it turns to the right.

    The columns of `total`, the sum of the powers of the rotation, lie along the axis.
    """
    column = total[:, np.abs(total).sum(axis=0).argmax()]
    along: NDArray[np.float64] = column / np.gcd.reduce(column)
    along /= next(parts for parts in (3, 2, 1) if _are_lattice_vectors(along / parts, centring))
    volumes = [np.linalg.det(np.stack([along, x, rotation @ x])) for x in np.eye(3)]
    # 2-fold rotations turn both ways: all volumes are zero.
    return along if sum(volumes) > -_CLOSE else -along


def _plane_letter(glide: NDArray[Any], rotation: NDArray[Any], centring: NDArray[Any]) -> str:
    """Return the letter of a plane with this intrinsic translation: "m" where that is a lattice vector."""
    if _are_lattice_vectors(glide, centring):
        return "m"
    in_plane = _NEIGHBOURS[(_NEIGHBOURS @ rotation.T == _NEIGHBOURS).all(axis=1)]
    halves = in_plane[_are_lattice_vectors(glide - in_plane / 2, centring)]
    quarters = in_plane[_are_lattice_vectors(glide - in_plane / 4, centring)]
    # Along perpendicular directions.
    if any(not (one * other).any() for one, other in itertools.combinations(halves, 2)):
        return "e"
    axes = halves[np.count_nonzero(halves, axis=1) == 1]
    if len(axes):
        return "abc"[np.abs(axes).argmax(axis=1).min()]
    # Across the faces of the cell, or its body where the plane is perpendicular to no axis.
    diagonal = 2 if not (rotation - np.diag(np.diag(rotation))).any() else 3
    for letter, found in (("n", halves), ("d", quarters)):
        if (np.count_nonzero(found, axis=1) == diagonal).any():
            return letter
    return "g"


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
        """Return all operations that map atom `first` onto atom `second`; the first names the relation, see `KINDS`."""
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
    rotations, shifts = np.array(operations.rotations, dtype=np.int64), np.array(operations.translations) % 1.0
    shifts[shifts > 1 - _CLOSE / 10] = 0.0
    centring = shifts[(rotations == np.eye(3)).all(axis=(1, 2))]
    named = [Operation(w, shift, *classify(w, shift, centring)) for w, shift in zip(rotations, shifts, strict=True)]
    kept = [operation for operation in named if operation.kind != "identity"]
    kept.sort(key=lambda operation: (-operation.order, KINDS.index(operation.kind), operation.symbol))
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
