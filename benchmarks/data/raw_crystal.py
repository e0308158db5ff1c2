"""A crystal as its file describes it, and the checks that it must pass whatever its format."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import UnreadableError
from sen.crystal import SYMBOLS

__all__ = [
    "HEAVY_HYDROGEN",
    "NUMBERS",
    "BadRow",
    "RawCrystal",
    "any_error_is_bad",
    "check",
    "refuse_disorder",
    "refuse_short_bonds",
]

#: Symbols of deuterium and tritium, which are read as hydrogen.
HEAVY_HYDROGEN = frozenset({"D", "T"})
#: Atomic number of each element symbol.
NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)} | dict.fromkeys(HEAVY_HYDROGEN, 1)

_MIN_DISTANCE = 0.1
_MIN_VOLUME = 1e-3
# In MatBench a cell is at least 1.7 Å high and at most 211 Å long. Beyond these limits moyopy may never return, and the
# neighbour search may need more memory than there is.
_MIN_HEIGHT = 0.5
_MAX_LENGTH = 500
_MAX_ATOMS = 2000
_SPECIES = re.compile(r"([A-Z][a-z]?)(?:\d*(?:\.\d*)?[+-])?")
# Distances are computed between this many atoms and all others at a time, so that a large cell takes no gigabytes.
_CHUNK = 256
# Shortest distance between two atoms as a share of the sum of their covalent radii, and where one is hydrogen.
_SHORTEST = 0.6
_SHORTEST_TO_HYDROGEN = 0.5
_PERIODIC = np.ones(3, dtype=np.int64)


class BadRow(Exception):  # noqa: N818 - its message completes the sentence "row ..."
    """A structure, or a row that holds it, cannot be used; the message completes the sentence "row ..."."""


@contextmanager
def any_error_is_bad() -> Iterator[None]:
    """Raise `BadRow` for whatever a library raises in the block: one crystal must not stop the reading of others.

    Raises:
        BadRow: See above.
        UnreadableError: The system refuses to read a file, whose crystal may be good.
    """
    try:
        yield
    except (BadRow, UnreadableError):
        raise
    except RecursionError as error:
        raise BadRow("is nested too deeply") from error
    except Exception as error:
        raise BadRow(f"cannot be used ({type(error).__name__}: {error})") from error


class RawCrystal(NamedTuple):
    """A crystal as its file describes it, checked but not yet refined.

    Attributes:
        lattice: Lattice vectors as rows in Å, float64 [3, 3].
        positions: Fractional coordinates, float64 [n, 3].
        numbers: Atomic numbers, [n].
        heavy_hydrogen: Whether deuterium or tritium is among the atoms; both are read as hydrogen.
    """

    lattice: NDArray[np.float64]
    positions: NDArray[np.float64]
    numbers: list[int]
    heavy_hydrogen: bool


def check(
    lattice: NDArray[np.float64],
    positions: NDArray[np.float64],
    symbols: Sequence[str],
    sites: Sequence[int] | None = None,
) -> RawCrystal:
    """Return a structure that was read as a crystal, if it can be used.

    Args:
        lattice: Lattice vectors as rows in Å, [3, 3].
        positions: Fractional coordinates, [n, 3].
        symbols: Element of each atom, with or without its charge: "Fe", "Fe3+".
        sites: Which site of the file each atom is an image of, [n], for messages; by default each atom is a site.

    Raises:
        BadRow: There are no atoms, numbers that are not finite, no volume, an unknown element, or atoms at the same
            place.
    """
    if not symbols:
        raise BadRow("has a structure without atoms")
    if len(symbols) > _MAX_ATOMS:
        raise BadRow(f"has {len(symbols)} atoms; cells of more than {_MAX_ATOMS} are not supported")
    species = [_SPECIES.fullmatch(symbol) for symbol in symbols]
    elements = [match[1] if match else "" for match in species]
    for site, element in enumerate(elements):
        if element not in NUMBERS:
            raise BadRow(f"has an unknown element {symbols[site]!r} (site {site})")
    if lattice.shape != (3, 3) or not np.isfinite(lattice).all():
        raise BadRow("has a lattice that is not 3 x 3 finite numbers")
    if positions.shape != (len(symbols), 3) or not np.isfinite(positions).all():
        raise BadRow("has coordinates that are not 3 finite numbers for each atom")
    if np.abs(lattice).max() > _MAX_LENGTH:
        raise BadRow(f"has a lattice vector longer than {_MAX_LENGTH} Å")
    if abs(np.linalg.det(lattice)) < _MIN_VOLUME:
        raise BadRow("has a cell without volume")
    _refuse_overlap(lattice, positions, sites)
    numbers = [NUMBERS[element] for element in elements]
    return RawCrystal(lattice, positions, numbers, not HEAVY_HYDROGEN.isdisjoint(elements))


def refuse_disorder(species: Sequence[tuple[str, float]], site: int) -> None:
    """Refuse a site that is not occupied by exactly one atom.

    Args:
        species: Symbol and occupancy of each species on the site.
        site: Number of the site, for the message.

    Raises:
        BadRow: The site is disordered or vacant.
    """
    if len(species) != 1 or not abs(species[0][1] - 1) <= 1e-6:  # so that NaN is refused
        found = ", ".join(f"{symbol} {share:g}" for symbol, share in species)
        raise BadRow(f"is disordered (site {site}: {found or 'vacant'}), and only ordered crystals have a graph")


def _refuse_overlap(lattice: NDArray[np.float64], positions: NDArray[np.float64], sites: Sequence[int] | None) -> None:
    """Refuse atoms closer than 0.1 Å: the symmetry search fails on them, and no crystal has them."""
    if np.linalg.norm(lattice, axis=1).min() < _MIN_DISTANCE:
        raise BadRow(f"has a lattice vector shorter than {_MIN_DISTANCE} Å")
    height = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0).max()
    if height < _MIN_HEIGHT:
        raise BadRow(f"has a cell only {height:.2g} Å high: if it is a skewed cell of a crystal, reduce it")
    for start in range(0, len(positions), _CHUNK):
        # Wrapping each coordinate finds the nearest image if the distance is far below the height of the cell.
        apart = positions[start : start + _CHUNK, None] - positions
        apart = (apart - np.rint(apart)) @ lattice
        square = np.einsum("ijk,ijk->ij", apart, apart)
        np.fill_diagonal(square[:, start:], np.inf)
        if square.min() < _MIN_DISTANCE**2:
            first, second = np.unravel_index(square.argmin(), square.shape)
            pair = _pair(int(first) + start, int(second), sites)
            raise BadRow(f"has atoms closer than {_MIN_DISTANCE} Å ({pair})")


def _pair(first: int, second: int, sites: Sequence[int] | None) -> str:
    one, other = sorted((first, second) if sites is None else (sites[first], sites[second]))
    return f"sites {one} and {other}" if one != other else f"site {one} and an image of it"


def refuse_short_bonds(crystal: RawCrystal, sites: Sequence[int] | None = None) -> RawCrystal:
    """Return the crystal unless two of its atoms are closer than atoms come in crystals.

    The limit is 60 % of the sum of the covalent radii of Cordero et al. (2008), 50 % where one atom is hydrogen.

    Args:
        crystal: The crystal.
        sites: As for `check`.

    Raises:
        BadRow: Two atoms, which the message names, are closer.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    numbers = np.array(crystal.numbers)
    reach = _radii()[numbers]
    positions = crystal.positions - np.floor(crystal.positions)
    points = positions @ crystal.lattice
    lattice = np.ascontiguousarray(crystal.lattice)
    first, second, image, distance = find_points_in_spheres(
        points, points, 2 * _SHORTEST * reach.max(), _PERIODIC, lattice
    )
    with_hydrogen = (numbers[first] == 1) | (numbers[second] == 1)
    share = np.where(with_hydrogen, _SHORTEST_TO_HYDROGEN, _SHORTEST)
    radii = reach[first] + reach[second]
    # An atom finds itself.
    ratio = np.where((first == second) & ~image.any(axis=1), np.inf, distance / (share * radii))
    worst = ratio.argmin()
    if ratio[worst] >= 1:
        return crystal
    i, j = sorted((int(first[worst]), int(second[worst])))
    one, other = (SYMBOLS[numbers[atom] - 1] for atom in (i, j))
    raise BadRow(
        f"has atoms too close to be right ({_pair(i, j, sites)}): {one} and {other} are {distance[worst]:.2f} Å apart, "
        f"less than {100 * share[worst]:.0f} % of the sum of their covalent radii, {radii[worst]:.2f} Å"
    )


@functools.cache
def _radii() -> NDArray[np.float64]:
    """Covalent radius of each atomic number in Å, [119]."""
    import gemmi

    return np.array([gemmi.Element(number).covalent_r for number in range(len(SYMBOLS) + 1)])
