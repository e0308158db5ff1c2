"""One crystal structure from a file, a text or a pymatgen dictionary, as checked arrays."""

from __future__ import annotations

import codecs
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.base.errors import DataError, UsageError, printable
from benchmarks.base.files import BadFile, parse_json, read_again, read_packed, reading
from benchmarks.data.poscar import parse_poscar
from benchmarks.data.raw_crystal import BadRow, RawCrystal, any_error_is_bad, check, refuse_disorder, refuse_short_bonds

__all__ = [
    "FILE_NAMES",
    "BadRow",
    "Form",
    "RawCrystal",
    "form_of",
    "parse_atoms",
    "parse_dictionary",
    "parse_file",
    "parse_structure",
    "read_structure",
    "structure_files",
]

Form = Literal["cif", "poscar", "json"]

#: Names of the files that `read_structure` reads, for messages.
FILE_NAMES = "*.cif, POSCAR, CONTCAR, *.vasp and *.poscar, also with .gz"

_POSCAR_NAME = re.compile(r"(POSCAR|CONTCAR)([._-].*)?")
_CIF_TEXT = re.compile(r"^\s*(data_|_cell_length_a)", re.MULTILINE | re.IGNORECASE)
# The text of a pymatgen structure, which pandas writes in place of the structure.
_PRINTED = "Full Formula ("


def structure_files(folder: Path) -> list[Path]:
    """Return the files of a folder and its subfolders that `read_structure` reads, sorted by name."""
    return sorted(path for path in folder.rglob("*") if form_of(path) is not None and path.is_file())


def read_structure(path: Path) -> RawCrystal:
    """Read a structure file, gzipped or not; `FILE_NAMES` says which.

    Raises:
        UsageError: There is no such regular file, or its name is not that of a structure file.
        DataError: The file cannot be read, or the structure in it cannot be used; the message names the file.
    """
    if form_of(path) is None:
        raise UsageError(f"{path} is not a structure file by its name: sen-bench reads {FILE_NAMES}.")
    try:
        with reading(path):
            return parse_file(path)
    except BadRow as problem:
        raise DataError(f"{path} {problem}.") from problem


def parse_file(path: Path) -> RawCrystal:
    """Parse a structure file as `read_structure` does, with errors that do not name the file.

    Raises:
        OSError: There is no such file.
        UnreadableError: The system refuses to read it.
        BadRow: The structure in it cannot be parsed or used.
    """
    try:
        content = read_again(path, read_packed)
    except BadFile as problem:
        raise BadRow(str(problem)) from problem
    return parse_structure(content, form_of(path))


def parse_structure(structure: object, form: Form | None = None) -> RawCrystal:
    """Parse a structure: a pymatgen dictionary, or the text of a CIF, of a POSCAR or of a pymatgen dictionary in JSON.

    Args:
        structure: The dictionary, or the text as str or bytes.
        form: Format of the text; None means to guess it from the text.

    Raises:
        BadRow: The structure cannot be parsed or used, or two of its atoms are too close to be right.
    """
    if isinstance(structure, bytes):
        # Only names of authors and the like are not ASCII; older files have them in any encoding.
        encoding = "utf-16" if structure.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
        structure = structure.decode(encoding, errors="replace")
    if not isinstance(structure, str):
        with any_error_is_bad():
            return refuse_short_bonds(parse_dictionary(structure))
    structure = structure.removeprefix("\ufeff")
    if not structure.strip():
        raise BadRow("has no structure")
    if structure.startswith(_PRINTED):
        raise BadRow(
            f'has the printed text of a structure ("{_PRINTED}..."), which is no CIF, POSCAR or JSON: write structures '
            'with structure.to(fmt="cif")'
        )
    if "\n" not in (name := structure.strip()) and form_of(Path(name)) is not None:
        raise BadRow(
            f"has the name of a file ({printable(name)}) in place of a structure: write the content of the file there, "
            "or give the folder of the files with an id_prop.csv"
        )
    with any_error_is_bad(), warnings.catch_warnings(action="ignore"):
        return _PARSERS[form or _guess_form(structure)](structure)


def parse_dictionary(structure: object) -> RawCrystal:
    """Read the arrays of a pymatgen dictionary, without pymatgen and whatever the distances between its atoms.

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
    return check(lattice, positions, symbols)


def parse_atoms(atoms: object) -> RawCrystal:
    """Read a dictionary `atoms` as JARVIS writes it: lattice_mat in Å, coords, elements, cartesian.

    Raises:
        BadRow: The value is not such a dictionary, the crystal cannot be used, or two of its atoms are too close to be
            right.
    """
    if not isinstance(atoms, dict):
        raise BadRow("has neither a structure nor atoms")
    try:
        lattice = np.array(atoms["lattice_mat"], dtype=np.float64)
        positions = np.array(atoms["coords"], dtype=np.float64)
        symbols, is_cartesian = list(map(str, atoms["elements"])), atoms["cartesian"]
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise BadRow(f"has atoms that are not a JARVIS dictionary ({type(error).__name__}: {error})") from error
    if not isinstance(is_cartesian, bool):
        raise BadRow(f"has atoms whose 'cartesian' is neither true nor false but {is_cartesian!r}")
    with any_error_is_bad():
        # What is wrong with other lattices the check says.
        if is_cartesian and lattice.shape == (3, 3) and np.linalg.det(lattice):
            positions = positions @ np.linalg.inv(lattice)
        return refuse_short_bonds(check(lattice, positions, symbols))


def _parse_json(text: str) -> RawCrystal:
    try:
        # Python's parser reads NaN, which Python also writes, so that the message can say what is wrong.
        content = parse_json(text)
    except ValueError as error:
        raise BadRow(f"has a structure that is not valid JSON ({error})") from error
    return refuse_short_bonds(parse_dictionary(content))


def _parse_cif(text: str) -> RawCrystal:
    # It imports pymatgen and gemmi, which dictionaries do not need.
    from benchmarks.data.cif import parse_cif

    return parse_cif(text)


_PARSERS = {"cif": _parse_cif, "poscar": parse_poscar, "json": _parse_json}


def form_of(path: Path) -> Form | None:
    """Return the format of a structure file by its name; None for other files."""
    name = path.name[:-3] if path.suffix.lower() == ".gz" else path.name
    suffix = Path(name).suffix.lower()
    if suffix == ".cif":
        return "cif"
    return "poscar" if suffix in {".vasp", ".poscar"} or _POSCAR_NAME.fullmatch(name) else None


def _guess_form(text: str) -> Form:
    if text.lstrip().startswith("{"):
        return "json"
    return "cif" if _CIF_TEXT.search(text) else "poscar"


def _only_species(species: Sequence[dict[str, Any]], site: int) -> str:
    """Return the element of a site that one species occupies."""
    if len(species) == 1 and species[0].get("occu", 1) == 1:
        return str(species[0].get("element"))
    refuse_disorder([(str(entry.get("element")), entry.get("occu", 1)) for entry in species], site)
    return str(species[0].get("element"))
