"""One crystal structure from a file, a text or a pymatgen dictionary, as checked arrays; pymatgen parses the texts."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import DataError, UsageError
from sen.crystal import SYMBOLS

__all__ = [
    "BadRow",
    "Form",
    "RawCrystal",
    "parse_dictionary",
    "parse_file",
    "parse_structure",
    "read_structure",
    "structure_files",
]

Form = Literal["cif", "poscar", "json"]

_MIN_DISTANCE = 0.1
_MIN_VOLUME = 1e-3
# In MatBench a cell is at least 1.7 Å high and at most 211 Å long. Beyond these limits moyopy may never return, and the
# neighbour search may need more memory than there is.
_MIN_HEIGHT = 0.5
_MAX_LENGTH = 500
_MAX_ATOMS = 2000
_HEAVY_HYDROGEN = frozenset({"D", "T"})
_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)} | dict.fromkeys(_HEAVY_HYDROGEN, 1)
_SPECIES = re.compile(r"([A-Z][a-z]?)(?:\d*(?:\.\d*)?[+-])?")
# Distances are computed between this many atoms and all others at a time, so that a large cell takes no gigabytes.
_CHUNK = 256

_POSCAR_NAME = re.compile(r"(POSCAR|CONTCAR)([._-].*)?")
_CIF_TEXT = re.compile(r"^\s*(data_|_cell_length_a)", re.MULTILINE)
_CIF_ATOMS = re.compile(r"^\s*_atom_site_fract_x\s", re.MULTILINE)
_CIF_SPACE_GROUP = re.compile(r"_(symmetry_)?(space_group_(name|IT)|Int_Tables)")
_CIF_UNKNOWN = frozenset({"?", "."})
# Elements in a CIF: "Fe", "Fe3+", "Fe+3", in old files "FE"; in labels "Fe1", "Fe(1)", "Fe1A".
_CIF_ELEMENT = re.compile(r"[A-Za-z]+")


class BadRow(Exception):  # noqa: N818 - its message completes the sentence "row ..."
    """A structure, or a row that holds it, cannot be used; the message completes the sentence "row ..."."""


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


def structure_files(folder: Path) -> list[Path]:
    """Return the files of a folder and its subfolders that `read_structure` reads, sorted by name."""
    return sorted(path for path in folder.rglob("*") if _form_of(path) is not None and path.is_file())


def read_structure(path: Path) -> RawCrystal:
    """Read a structure file: CIF (*.cif) or POSCAR (POSCAR, CONTCAR, either with a suffix, *.vasp, *.poscar).

    Raises:
        UsageError: There is no such file, or its name is not that of a structure file.
        DataError: The file cannot be read, or the structure in it cannot be used; the message names the file.
    """
    if _form_of(path) is None:
        raise UsageError(
            f"{path} is not a structure file by its name: sen-bench reads *.cif, POSCAR, CONTCAR, *.vasp and *.poscar."
        )
    try:
        return parse_file(path)
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    except BadRow as problem:
        raise DataError(f"{path} {problem}.") from problem


def parse_file(path: Path) -> RawCrystal:
    """Parse a structure file as `read_structure` does, with errors that do not name the file.

    Raises:
        OSError: The file cannot be read.
        BadRow: The structure in it cannot be parsed or used.
    """
    # In these formats only names of authors and the like are not ASCII; older files have them in any encoding.
    return parse_structure(path.read_text(encoding="utf-8", errors="replace"), _form_of(path))


def parse_structure(structure: object, form: Form | None = None) -> RawCrystal:
    """Parse a structure: a pymatgen dictionary, or the text of a CIF, of a POSCAR or of a pymatgen dictionary in JSON.

    Args:
        structure: The dictionary, or the text as str or bytes.
        form: Format of the text; None means to guess it from the text.

    Raises:
        BadRow: The structure cannot be parsed or used.
    """
    if isinstance(structure, bytes):
        structure = structure.decode(errors="replace")
    if not isinstance(structure, str):
        return parse_dictionary(structure)
    if not structure.strip():
        raise BadRow("has no structure")
    with warnings.catch_warnings(action="ignore"):
        return _PARSERS[form or _guess_form(structure)](structure)


def parse_dictionary(structure: object) -> RawCrystal:
    """Read the arrays of a pymatgen dictionary, without pymatgen.

    Raises:
        BadRow: The value is not such a dictionary, or the crystal cannot be used.
    """
    if not isinstance(structure, dict):
        raise BadRow("has no structure")
    try:
        lattice = np.array(structure["lattice"]["matrix"], dtype=np.float64)
        sites = structure["sites"]
        positions = np.array([site["abc"] for site in sites], dtype=np.float64)
        symbols = [_only_species(site["species"], i) for i, site in enumerate(sites)]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise BadRow(f"has a structure that is not a pymatgen dictionary ({type(error).__name__}: {error})") from error
    return _checked(lattice, positions, symbols)


def _parse_json(text: str) -> RawCrystal:
    try:
        # Python's parser reads NaN, which Python also writes, so that the message can say what is wrong.
        content = json.loads(text)
    except ValueError as error:
        raise BadRow(f"has a structure that is not valid JSON ({error})") from error
    return parse_dictionary(content)


def _parse_cif(text: str) -> RawCrystal:
    """Parse a CIF that holds one ordered structure.

    pymatgen continues where it has doubts: it leaves out atoms whose element is unknown or whose occupancy is 0, and
    replaces an unknown space group with P1. Here such doubts are errors.
    """
    from pymatgen.io.cif import CifParser

    found = len(_CIF_ATOMS.findall(text))
    if found != 1:
        problem = f"with {found} structures instead of one" if found else "without atoms (_atom_site_fract_x)"
        raise BadRow(f"has a CIF {problem}")
    try:
        parser = CifParser.from_str(text)
        (block,) = (block for block in parser.as_dict().values() if "_atom_site_fract_x" in block)
        symbols = _cif_symbols(block)
        (structure,) = parser.parse_structures(primitive=False, check_occu=False, on_error="raise")
    except BadRow:
        raise
    except Exception as error:  # any error of pymatgen
        raise BadRow(f"has a CIF that cannot be read ({_in_one_line(error)})") from error
    groups = [value for name, value in block.items() if _CIF_SPACE_GROUP.match(name)]
    if any("Defaulting to P1" in doubt for doubt in parser.warnings) and (
        unknown := [group for group in groups if str(group).replace(" ", "") not in {"P1", "1", *_CIF_UNKNOWN}]
    ):
        raise BadRow(f"has a CIF without symmetry operations and with the unknown space group {unknown[0]}")
    formula = block.get("_chemical_formula_sum")
    if formula and _HEAVY_HYDROGEN.isdisjoint(symbols) and parser.check(structure):
        atoms = structure.composition.reduced_formula
        raise BadRow(f"has a CIF whose atoms ({atoms}) do not match its formula ({formula}): some may be missing")
    for site in structure:
        if len(site.species) > 1 or site.species.num_atoms > 1 + 1e-6:
            raise BadRow(f"has atoms closer than {_MIN_DISTANCE} Å ({site.species_string} at the same place)")
    elements = [str(next(iter(site.species)).symbol) for site in structure]
    crystal = _checked(structure.lattice.matrix.copy(), structure.frac_coords, elements)
    return crystal._replace(heavy_hydrogen=not _HEAVY_HYDROGEN.isdisjoint(symbols))


def _cif_symbols(block: dict[str, Any]) -> list[str]:
    """Return the element symbol of each site in a data block of a CIF; every occupancy must be 1."""
    names = block.get("_atom_site_type_symbol") or block["_atom_site_label"]
    occupancies = block.get("_atom_site_occupancy") or ["1"] * len(names)
    symbols = []
    for i, (name, occupancy) in enumerate(zip(names, occupancies, strict=True)):
        letters = _CIF_ELEMENT.match(name)
        symbol = letters.group() if letters else name
        symbols.append(symbol if symbol in _NUMBERS else symbol.title())
        if symbols[-1] not in _NUMBERS:
            raise BadRow(f"has an unknown element {name!r} (site {i})")
        share = 1 if occupancy in _CIF_UNKNOWN else float(occupancy.partition("(")[0])
        _refuse_disorder([(symbols[-1], share)], i)
    return symbols


def _parse_poscar(text: str) -> RawCrystal:
    from pymatgen.io.vasp.inputs import Poscar

    try:
        poscar = Poscar.from_str(text, read_velocities=False)
    except Exception as error:  # any error of pymatgen
        raise BadRow(f"has a POSCAR that cannot be read ({_in_one_line(error)})") from error
    if not poscar.true_names:
        raise BadRow("has a POSCAR that names no elements: add them in line 6")
    structure = poscar.structure
    symbols = [str(getattr(site.specie, "name", site.specie.symbol)) for site in structure]
    return _checked(structure.lattice.matrix.copy(), structure.frac_coords, symbols)


_PARSERS = {"cif": _parse_cif, "poscar": _parse_poscar, "json": _parse_json}


def _form_of(path: Path) -> Form | None:
    """Return the format of a structure file by its name; None for other files."""
    suffix = path.suffix.lower()
    if suffix == ".cif":
        return "cif"
    return "poscar" if suffix in {".vasp", ".poscar"} or _POSCAR_NAME.fullmatch(path.name) else None


def _guess_form(text: str) -> Form:
    if text.lstrip().startswith("{"):
        return "json"
    return "cif" if _CIF_TEXT.search(text) else "poscar"


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:200]


def _only_species(species: Sequence[dict[str, Any]], site: int) -> str:
    """Return the element of a site that one species occupies."""
    if len(species) == 1 and species[0].get("occu", 1) == 1:
        return str(species[0].get("element"))
    _refuse_disorder([(str(entry.get("element")), entry.get("occu", 1)) for entry in species], site)
    return str(species[0].get("element"))


def _refuse_disorder(species: Sequence[tuple[str, float]], site: int) -> None:
    if len(species) != 1 or not abs(species[0][1] - 1) <= 1e-6:  # so that NaN is refused
        found = ", ".join(f"{symbol} {share:g}" for symbol, share in species)
        raise BadRow(f"is disordered (site {site}: {found or 'vacant'}), and only ordered crystals have a graph")


def _checked(lattice: NDArray[np.float64], positions: NDArray[np.float64], symbols: Sequence[str]) -> RawCrystal:
    """Check a structure that was read, whatever its format.

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
        if element not in _NUMBERS:
            raise BadRow(f"has an unknown element {symbols[site]!r} (site {site})")
    if lattice.shape != (3, 3) or not np.isfinite(lattice).all():
        raise BadRow("has a lattice that is not 3 x 3 finite numbers")
    if positions.shape != (len(symbols), 3) or not np.isfinite(positions).all():
        raise BadRow("has coordinates that are not 3 finite numbers for each atom")
    if np.abs(lattice).max() > _MAX_LENGTH:
        raise BadRow(f"has a lattice vector longer than {_MAX_LENGTH} Å")
    if abs(np.linalg.det(lattice)) < _MIN_VOLUME:
        raise BadRow("has a cell without volume")
    _refuse_close_atoms(lattice, positions)
    numbers = [_NUMBERS[element] for element in elements]
    return RawCrystal(lattice, positions, numbers, not _HEAVY_HYDROGEN.isdisjoint(elements))


def _refuse_close_atoms(lattice: NDArray[np.float64], positions: NDArray[np.float64]) -> None:
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
            raise BadRow(f"has atoms closer than {_MIN_DISTANCE} Å (sites {first + start} and {second})")
