"""The built-in data set `prototypes`: ionic crystals made by code, with a target that follows a known law.

It has about 2,000 crystals: structure prototypes of the AFLOW library (Mehl et al., Comput. Mater. Sci. 136, S1 (2017),
as included in pymatgen), decorated with ions, scaled to ionic radii and slightly strained. The target is the
electrostatic energy per atom of the point charges. It depends on the composition and, for the same composition, on the
structure, so a run shows that a model learns from structure, offline and within minutes. It is a demonstration, not a
benchmark.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.cache import digest, load_or_build, read_cached
from benchmarks.base.errors import DataError
from benchmarks.base.workers import Progress, stream
from benchmarks.data.crystal_table import CrystalTable, refinement_facts, with_ptr
from benchmarks.data.rows import flatten
from sen.crystal import CRYSTAL_SYSTEMS, SYMBOLS, SYMPREC, crystal_system, find_symmetry, refine

__all__ = ["IONS", "Ion", "cached_prototypes", "ewald_energy", "make_prototypes"]


class Ion(NamedTuple):
    """Charge in e and six-coordinate radius in Å."""

    charge: int
    radius: float


#: One ion per element, by atomic number, so that a model that sees elements can infer the charges. Radii: Shannon,
#: Acta Cryst. A 32, 751 (1976).
IONS = {
    SYMBOLS.index(symbol) + 1: Ion(charge, radius)
    for charge, radii in {
        +1: {"Li": 0.76, "Na": 1.02, "K": 1.38, "Rb": 1.52, "Cs": 1.67, "Ag": 1.15},
        +2: {"Mg": 0.72, "Ca": 1.00, "Sr": 1.18, "Ba": 1.35, "Zn": 0.74, "Cd": 0.95},
        +3: {"Al": 0.535, "Sc": 0.745, "Ga": 0.62, "In": 0.80, "Y": 0.90, "La": 1.032},
        +4: {"Ti": 0.605, "Zr": 0.72, "Hf": 0.71, "Sn": 0.69},
        -1: {"F": 1.33, "Cl": 1.81, "Br": 1.96, "I": 2.20},
        -2: {"O": 1.40, "S": 1.84, "Se": 1.98},
    }.items()
    for symbol, radius in radii.items()
}
_IONS_OF_CHARGE = {q: [number for number, ion in IONS.items() if ion.charge == q] for q in (1, 2, 3, 4, -1, -2)}

# Increased whenever the data set changes.
_VERSION = 2
_SEED = 0
_PROTOTYPES_PER_SYSTEM = 6
_MAX_ATOMS = 16
# The second limit is for triclinic crystals: their cells are large, and each atom costs time to train on.
_CRYSTALS_PER_SYSTEM = 310
_ATOMS_PER_SYSTEM = 2200
# More than necessary: the search ends even if the library changes.
_ATTEMPTS = 20 * _CRYSTALS_PER_SYSTEM
# In an ionic structure, every ion is at least this factor farther from the nearest like ion than from a counter-ion.
_IONIC = 1.05
# In a crystal the nearest counter-ion is at most this many sums of the radii away, and ions of like charge this many Å.
_LOOSEST_CONTACT = 1.5
_MIN_LIKE_DISTANCE = 1.8
# Largest relative change of all lengths, and standard deviation of the components of the strain that changes the shape.
_DILATION = 0.05
_SHAPE_STRAIN = 0.03
# Largest distance of a pair, in units of the cube root of the volume per atom.
_REACH = 2.7
# Å: the tolerance by which prototypes and the drawn crystals that keep their system are chosen.
_SYMPREC = 0.01
# Crystals that a worker process is given at a time.
_CHUNK = 50


def make_prototypes(*, symprec: float = SYMPREC, jobs: int = -1, progress: Progress | None = None) -> CrystalTable:
    """Return the data set, made within seconds the first time and read from the cache afterwards.

    It is the same on every machine. The order is random, so that every fold has crystals of every system. Targets are
    in eV/atom.

    Args:
        symprec: Tolerance of the refinement in Å. The crystals are the same ones for every tolerance.
        jobs: Worker processes; -1 is one per core.
        progress: Called with the number of crystals made; not called where the cache has them.

    Raises:
        DataError: The installed pymatgen does not include the structure prototypes.
        UsageError: The cache folder cannot be written.
    """
    library = _read_library()
    facts = {"library": digest(library=library), "version": _VERSION, **refinement_facts(symprec)}
    key = digest(prototypes=facts)
    arrays = load_or_build(_folder(key), lambda: with_ptr(_chunks(library, symprec, jobs, progress)), facts)
    return _table(arrays, key)


def cached_prototypes(key: str) -> CrystalTable | None:
    """Return the table of this digest that `make_prototypes` made before; None where the cache does not have it.

    Raises:
        UsageError: Nothing says where the cache is.
    """
    arrays = read_cached(_folder(key))
    return None if arrays is None else _table(arrays, key)


def _folder(key: str) -> str:
    """Name of the folder of the cache that holds the table of this digest."""
    return f"prototypes-{key[:32]}"


def _table(arrays: dict[str, NDArray[Any]], key: str) -> CrystalTable:
    row = np.arange(len(arrays["target"]))
    ids = np.array([f"prototypes-{i + 1:04d}" for i in row], dtype=object)
    return CrystalTable(**arrays, heavy_hydrogen=np.zeros(len(row), dtype=bool), row=row, ids=ids, digest=key)


def ewald_energy(lattice: NDArray[Any], positions: NDArray[Any], numbers: NDArray[Any]) -> float:
    """Return the electrostatic energy of a crystal of point charges in eV per atom, by pymatgen's Ewald summation.

    Args:
        lattice: Lattice vectors as rows in Å, [3, 3].
        positions: Fractional coordinates, [n, 3].
        numbers: Atomic numbers of elements in `IONS`, [n].
    """
    from pymatgen.analysis.ewald import EwaldSummation
    from pymatgen.core import Species, Structure

    ions = [Species(SYMBOLS[number - 1], IONS[number].charge) for number in numbers.tolist()]
    return float(EwaldSummation(Structure(lattice, ions, positions)).total_energy) / len(ions)


@dataclass(frozen=True)
class _Prototype:
    """A structure of n atoms whose species, counted from 0, are not yet elements.

    Attributes:
        lattice: Lattice vectors as rows, scaled to a volume of 1 per atom, [3, 3].
        positions: Fractional coordinates, [n, 3].
        species: Species of each atom, [n].
        system: Crystal system.
        rotations: Point group as Cartesian matrices, [operations, 3, 3].
        pairs: First and second atom of the K pairs within reach, [2, K].
        vectors: From the first atom to the second, [K, 3].
        ionicity: Ratio of the distances to the nearest ion of like charge and to the nearest counter-ion, for the ion
            where it is smallest and the signs of charge where that is largest.
        charges: Neutral choices of a charge for each species, with those signs or their reverse.
    """

    lattice: NDArray[np.float64]
    positions: NDArray[np.float64]
    species: NDArray[np.int64]
    system: str
    rotations: NDArray[np.float64]
    pairs: NDArray[np.int64]
    vectors: NDArray[np.float64]
    ionicity: float
    charges: list[tuple[int, ...]]


class _Draw(NamedTuple):
    """A crystal as drawn, and the crystal system that it must have."""

    lattice: NDArray[np.float64]
    positions: NDArray[np.float64]
    numbers: NDArray[np.int64]
    system: str


def _chunks(
    library: list[dict[str, Any]], symprec: float, jobs: int, progress: Progress | None
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the arrays of the data set chunk by chunk, with "count", the atoms of each crystal."""
    draws = _draw(_select(library), np.random.Generator(np.random.PCG64(_SEED)))
    starts = range(0, len(draws), _CHUNK)
    chunks = stream(_finish, ((draws[i : i + _CHUNK], symprec) for i in starts), jobs)
    for start, chunk in zip(starts, chunks, strict=True):
        yield chunk
        if progress is not None:
            progress(min(start + _CHUNK, len(draws)), len(draws))


def _read_library() -> list[dict[str, Any]]:
    """Read the AFLOW library from its file: pymatgen's class for it is slow to import and being phased out."""
    path = files("pymatgen") / "analysis" / "prototypes" / "aflow_prototypes.json.gz"
    try:
        library: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))
    except OSError as error:
        message = f"pymatgen {version('pymatgen')} lacks the structure prototypes ({path}): upgrade pymatgen."
        raise DataError(message) from error
    return library


def _select(library: list[dict[str, Any]]) -> list[_Prototype]:
    """Choose prototypes of each crystal system: the smallest ionic ones, and others only if these are too few."""
    found = [prototype for entry in library if (prototype := _parse(entry)) is not None]
    found.sort(key=lambda prototype: (prototype.ionicity < _IONIC, len(prototype.species)))
    of_system = ([prototype for prototype in found if prototype.system == system] for system in CRYSTAL_SYSTEMS)
    return [prototype for prototypes in of_system for prototype in prototypes[:_PROTOTYPES_PER_SYSTEM]]


def _parse(entry: dict[str, Any]) -> _Prototype | None:
    """Return a prototype of the library, or None where it is large or ions cannot form it."""
    from pymatgen.optimization.neighbors import find_points_in_spheres

    sites = entry["snl"]["sites"]
    elements = [site["species"][0]["element"] for site in sites]
    names = sorted(set(elements))
    if len(sites) > _MAX_ATOMS or len(names) < 2:
        return None
    lattice, positions = np.array(entry["snl"]["lattice"]["matrix"]), np.array([site["abc"] for site in sites])
    species = np.array([names.index(element) for element in elements])
    symmetry = find_symmetry(lattice, positions, species, _SYMPREC)

    lattice = lattice * (len(sites) / abs(np.linalg.det(lattice))) ** (1 / 3)
    rotations = lattice.T @ np.array(symmetry.operations.rotations) @ np.linalg.inv(lattice.T)
    points = positions @ lattice
    first, second, image, distance = find_points_in_spheres(points, points, _REACH, np.ones(3, dtype=int), lattice)
    pair = distance > 1e-8
    pairs = np.stack([first, second])[:, pair]
    vectors = ((positions[second] + image - positions[first]) @ lattice)[pair]

    ionicity, signs = _most_ionic_signs(species, pairs, distance[pair])
    count = np.bincount(species)
    charges = [
        choice
        for reverse in (1, -1)
        for choice in itertools.product(*([q for q in _IONS_OF_CHARGE if q * sign * reverse > 0] for sign in signs))
        if np.dot(choice, count) == 0
    ]
    if not charges:
        return None
    system = crystal_system(symmetry.number)
    return _Prototype(lattice, positions, species, system, rotations, pairs, vectors, ionicity, charges)


def _most_ionic_signs(
    species: NDArray[np.int64], pairs: NDArray[np.int64], distance: NDArray[np.float64]
) -> tuple[float, tuple[int, ...]]:
    """Return the ionicity of a prototype, and the signs of its species that give it, the first one positive."""
    best: tuple[float, tuple[int, ...]] = (-1.0, ())
    for signs in itertools.product((1,), *[(1, -1)] * int(species.max())):
        sign = np.array(signs)[species]
        like, unlike = np.full((2, len(species)), _REACH)
        is_like = sign[pairs[0]] == sign[pairs[1]]
        np.minimum.at(like, pairs[0, is_like], distance[is_like])
        np.minimum.at(unlike, pairs[0, ~is_like], distance[~is_like])
        # Rounded, so that ties are the same on every machine.
        ionicity = round(float((like / unlike).min()), 3)
        if ionicity > best[0]:
            best = ionicity, signs
    return best


def _draw(prototypes: list[_Prototype], rng: np.random.Generator) -> list[_Draw]:
    """Draw crystals of every crystal system and mix them."""
    seen: set[tuple[float, ...]] = set()
    draws: list[_Draw] = []
    for _, of_system in itertools.groupby(prototypes, key=lambda prototype: prototype.system):
        atoms = 0
        for draw in itertools.islice(_draws(list(of_system), rng, seen), _CRYSTALS_PER_SYSTEM):
            draws.append(draw)
            atoms += len(draw.numbers)
            if atoms >= _ATOMS_PER_SYSTEM:
                break
    return [draws[i] for i in rng.permutation(len(draws))]


def _draws(prototypes: list[_Prototype], rng: np.random.Generator, seen: set[tuple[float, ...]]) -> Iterator[_Draw]:
    """Yield crystals, no two with the same ions in the same structure, and none that was `seen` before."""
    for _ in range(_ATTEMPTS):
        prototype = prototypes[rng.integers(len(prototypes))]
        charges = prototype.charges[rng.integers(len(prototype.charges))]
        ions = np.array([_IONS_OF_CHARGE[charge][rng.integers(len(_IONS_OF_CHARGE[charge]))] for charge in charges])
        strain = _draw_strain(prototype, rng)
        if len(set(ions.tolist())) < len(ions):
            continue
        numbers = ions[prototype.species]
        lattice = _scaled_lattice(prototype, numbers, strain)
        fingerprint = _fingerprint(prototype, numbers)
        if lattice is not None and fingerprint not in seen:
            seen.add(fingerprint)
            yield _Draw(lattice, prototype.positions, numbers, prototype.system)


def _draw_strain(prototype: _Prototype, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a deformation gradient [3, 3] that keeps the symmetry of a prototype."""
    strain = rng.normal(scale=_SHAPE_STRAIN, size=(3, 3))
    shape = np.mean(prototype.rotations @ (strain + strain.T) @ prototype.rotations.transpose(0, 2, 1), axis=0) / 2
    shape -= np.eye(3) * np.trace(shape) / 3
    deformation: NDArray[np.float64] = (1 + rng.uniform(-_DILATION, _DILATION)) * (np.eye(3) + shape)
    return deformation


def _fingerprint(prototype: _Prototype, numbers: NDArray[np.int64]) -> tuple[float, ...]:
    """Describe which ions are where, independent of strain and of the way in which the structure is described."""
    first, second = numbers[prototype.pairs]
    weight = np.exp(-np.linalg.norm(prototype.vectors, axis=1))
    fractions = np.bincount(numbers, minlength=max(IONS) + 1) / len(numbers)
    return (*fractions.round(6).tolist(), round(float(np.sqrt(first * second) @ weight) / len(numbers), 6))


def _scaled_lattice(
    prototype: _Prototype, numbers: NDArray[np.int64], strain: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return the strained lattice [3, 3] in Å in which the closest ions touch; None where the ions do not fit."""
    charge, radius = np.array([IONS[number] for number in numbers.tolist()]).T
    first, second = prototype.pairs
    like = charge[first] * charge[second] > 0
    contact = (radius[first] + radius[second]) / np.linalg.norm(prototype.vectors, axis=1)
    scale = contact[~like].max()
    tightest = np.zeros(len(numbers))
    np.maximum.at(tightest, first[~like], contact[~like])
    distance = np.linalg.norm(prototype.vectors[like] @ strain, axis=1) * scale
    if scale > _LOOSEST_CONTACT * tightest.min() or distance.min(initial=np.inf) < _MIN_LIKE_DISTANCE:
        return None
    lattice: NDArray[np.float64] = prototype.lattice @ strain * scale
    return lattice


def _finish(draws: list[_Draw], symprec: float) -> dict[str, NDArray[Any]]:
    """Refine crystals and compute their targets, without those whose strain is within the tolerance of the choice.

    Returns:
        Flat arrays as in `CrystalTable`, with "count" (atoms of each crystal) in place of "ptr".
    """
    cells = [
        (draw.lattice, draw.positions, draw.numbers)
        for draw in draws
        if crystal_system(refine(draw.lattice, draw.positions, draw.numbers, _SYMPREC).space_group) == draw.system
    ]
    crystals = [refine(*cell, symprec) for cell in cells]
    energies = [ewald_energy(crystal.lattice, crystal.positions, crystal.numbers) for crystal in crystals]
    # Rounded, so that the last digits, which differ between machines, do not show.
    return flatten(crystals, np.round(energies, 6))
