"""One crystal: its cell, its atoms and the symmetry that relates them."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CRYSTAL_SYSTEMS", "SYMBOLS", "SYMPREC", "Crystal", "crystal_system", "find_symmetry", "refine"]

_SYMBOLS = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo
Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl
Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
#: Element symbols in order of atomic number; SYMBOLS[0] is hydrogen.
SYMBOLS = tuple(_SYMBOLS.split())

# Last space group of each crystal system (International Tables, volume A); the entry 0 stands for "not known".
_LAST_SPACE_GROUP = (0, 2, 15, 74, 142, 167, 194, 230)
CRYSTAL_SYSTEMS = ("unknown", "triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")

#: Default tolerance of the symmetry search in Å. Rows of a data set may differ by an atom displaced by 0.01 Å, which is
#: phonopy's default; refinement must not hide that.
SYMPREC = 0.001


@dataclass(frozen=True)
class Crystal:
    """A periodic crystal of n atoms.

    Attributes:
        lattice: Lattice vectors as rows in Å, float64 [3, 3].
        positions: Fractional coordinates, float64 [n, 3].
        numbers: Atomic numbers, uint8 [n].
        orbit: Symmetry orbit of each atom, counted from 0 in order of first occurrence, int32 [n].
        space_group: International number, 1 to 230; 0 where the symmetry search failed.
    """

    lattice: NDArray[np.float64]
    positions: NDArray[np.float64]
    numbers: NDArray[np.uint8]
    orbit: NDArray[np.int32]
    space_group: int

    def __len__(self) -> int:
        """Number of atoms n."""
        return len(self.numbers)


def crystal_system(space_group: int) -> str:
    """Return the crystal system of a space group number, "triclinic" to "cubic"; 0 is "unknown"."""
    return CRYSTAL_SYSTEMS[np.searchsorted(_LAST_SPACE_GROUP, space_group)]


def refine(lattice: ArrayLike, positions: ArrayLike, numbers: ArrayLike, symprec: float = SYMPREC) -> Crystal:
    """Return the refined standard primitive cell of a crystal, in which equivalent atoms are equivalent to rounding.

    The symmetry search is moyopy's. Where it fails, or where the refinement would move an atom by more than the
    tolerance, the cell is returned as given, with one orbit per atom. The move of an atom is measured in fractional
    coordinates of the standard primitive cell, which neither rotation nor strain changes, relative to the mean move of
    all atoms (the choice of origin). Strain is measured separately: it may displace the end of a lattice vector by
    twice the tolerance.

    Args:
        lattice: Lattice vectors as rows in Å, [3, 3].
        positions: Fractional coordinates, [n, 3].
        numbers: Atomic numbers, [n].
        symprec: Tolerance of the symmetry search in Å, and the farthest that an atom may move.
    """
    lattice = np.array(lattice, dtype=np.float64)
    positions = np.array(positions, dtype=np.float64)
    numbers = np.array(numbers, dtype=np.uint8)
    raw_orbit = np.arange(len(numbers), dtype=np.int32)
    found = find_symmetry(lattice, positions, numbers, symprec)
    if found is None:
        return Crystal(lattice, positions, numbers, raw_orbit, space_group=0)

    cell = found.prim_std_cell
    image = np.array(found.mapping_std_prim)
    refined_lattice, refined_positions = np.array(cell.basis), np.array(cell.positions)
    linear, origin = np.array(found.prim_std_linear), np.array(found.prim_std_origin_shift)
    moves = (positions - origin) @ np.linalg.inv(linear).T - refined_positions[image]
    if _moves_far(linear.T @ lattice, refined_lattice, moves, symprec):
        return Crystal(lattice, positions, numbers, raw_orbit, found.number)
    orbit = np.empty(len(refined_positions), dtype=np.int64)
    orbit[image] = found.orbits
    return Crystal(
        refined_lattice,
        refined_positions,
        np.array(cell.numbers, dtype=np.uint8),
        _in_order_of_occurrence(orbit),
        found.number,
    )


def find_symmetry(lattice: ArrayLike, positions: ArrayLike, numbers: ArrayLike, symprec: float = SYMPREC) -> Any:
    """Return moyopy's MoyoDataset of a crystal; None where the search fails.

    Args:
        lattice: Lattice vectors as rows in Å, [3, 3].
        positions: Fractional coordinates, [n, 3].
        numbers: Atomic numbers, [n].
        symprec: Tolerance of the symmetry search in Å.
    """
    moyopy = _moyopy()
    cell = moyopy.Cell(*(np.asarray(values).tolist() for values in (lattice, positions, numbers)))
    try:
        return moyopy.MoyoDataset(cell, symprec=symprec)
    except BaseException as error:
        # A panic of moyopy's Rust code is a BaseException whose class cannot be imported.
        if not isinstance(error, ValueError) and type(error).__name__ != "PanicException":
            raise
        return None


@functools.cache
def _moyopy() -> Any:
    """Import moyopy and silence its messages about omitted operations, none of which its results lack."""
    import moyopy

    logging.getLogger("moyo").setLevel(logging.ERROR)
    return moyopy


def _moves_far(before: NDArray[Any], after: NDArray[Any], moves: NDArray[Any], limit: float) -> bool:
    """Return whether an atom (fractional `moves` [n, 3]) moves farther than the limit in Å, or strain twice as far."""
    moves = moves - moves[0]
    moves -= np.rint(moves)
    moves -= moves.mean(axis=0)
    deformation = np.linalg.solve(before, after)
    # Green-Lagrange strain, which does not depend on the rotation to the standard orientation.
    strain = (deformation @ deformation.T - np.eye(3)) / 2
    displaced = np.concatenate([moves @ after, before @ strain / 2])
    return bool((displaced**2).sum(axis=1).max() > limit**2)


def _in_order_of_occurrence(labels: NDArray[Any]) -> NDArray[np.int32]:
    """Renumber labels [n] from 0 in the order in which they first occur."""
    seen: dict[int, int] = {}
    return np.array([seen.setdefault(label, len(seen)) for label in labels.tolist()], dtype=np.int32)
