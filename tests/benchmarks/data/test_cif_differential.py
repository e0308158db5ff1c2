"""CIFs that pymatgen, ASE and gemmi write of published crystals: read as the crystal that was written, or refused."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import gemmi
import moyopy
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter

from benchmarks.data.structures import BadRow, parse_structure
from sen.crystal import SYMBOLS, SYMPREC, Crystal, find_symmetry

MATCHER = StructureMatcher(ltol=1e-3, stol=0.01, angle_tol=0.1, scale=False)
#: Written atom by atom in every cell: larger ones would take long to match.
MOST_ATOMS = 40


@dataclass(frozen=True)
class Cell:
    """A crystal in the cell of a setting of its space group."""

    structure: Structure
    setting: gemmi.SpaceGroup
    asymmetric: Structure


def matrix(operation: gemmi.Op) -> tuple[np.ndarray, np.ndarray]:
    return np.array(operation.rot) / operation.DEN, np.array(operation.tran) / operation.DEN


def rows(data_dir: Path) -> list[Structure]:
    """Small structures of each of the data sets at hand."""
    found: list[Structure] = []
    for path in sorted(data_dir.glob("*.json.gz")):
        content = json.loads(gzip.decompress(path.read_bytes()))
        at = content["columns"].index("structure")
        small = [row[at] for row in content["data"] if len(row[at]["sites"]) <= MOST_ATOMS // 2]
        found += map(Structure.from_dict, small[:: max(1, len(small) // 300)])
    return found


def standard(structure: Structure) -> Cell:
    """The conventional cell."""
    found = find_symmetry(structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers, SYMPREC)
    cell = found.std_cell
    orbits = find_symmetry(cell.basis, cell.positions, cell.numbers, SYMPREC).orbits
    whole = Structure(cell.basis, cell.numbers, cell.positions)
    # moyopy writes = where Hall wrote ".
    symbol = moyopy.HallSymbolEntry(found.hall_number).hall_symbol.replace("=", '"')
    first = Structure.from_sites([whole[i] for i in sorted(set(orbits))])
    return Cell(whole, gemmi.find_spacegroup_by_ops(gemmi.symops_from_hall(symbol)), first)


def in_setting(cell: Cell, setting: gemmi.SpaceGroup) -> Cell:
    """The crystal in the cell of another setting of its space group."""
    rotation, shift = matrix(setting.basisop.combine(cell.setting.basisop.inverse()))
    lattice = Lattice(np.linalg.inv(rotation).T @ cell.structure.lattice.matrix)
    asymmetric = Structure(lattice, cell.asymmetric.species, cell.asymmetric.frac_coords @ rotation.T + shift)
    whole = Structure(lattice, [], [])
    for site in asymmetric:
        images = [turn @ site.frac_coords + by for turn, by in map(matrix, setting.operations())]
        orbit: list[np.ndarray] = []
        for image in images:
            apart = np.array(orbit).reshape(-1, 3) - image
            if not (np.linalg.norm((apart - np.rint(apart)) @ lattice.matrix, axis=1) < 0.1).any():
                orbit.append(image)
        for image in orbit:
            whole.append(site.specie, image)
    return Cell(whole, setting, asymmetric)


def by_pymatgen(cell: Cell, *, listed: bool) -> str:
    """With operations in the cell as it is; without them in the standard setting, which alone it names."""
    if cell.setting.number == 1:
        return str(CifWriter(cell.structure))
    document = gemmi.cif.read_string(str(CifWriter(cell.structure, symprec=SYMPREC, refine_struct=not listed)))
    if not listed:
        document.sole_block().find_loop("_symmetry_equiv_pos_as_xyz").erase()
    return str(document.as_string())


def by_ase(cell: Cell, *, listed: bool) -> str:
    """All atoms, whose only symmetry operation is the identity."""
    atoms = AseAtomsAdaptor.get_atoms(cell.structure)
    with io.BytesIO() as file:
        ase.io.write(file, atoms, format="cif")
        document = gemmi.cif.read_string(file.getvalue())
    if not listed:
        document.sole_block().find_loop("_space_group_symop_operation_xyz").erase()
    return str(document.as_string())


def by_gemmi(cell: Cell, *, listed: bool) -> str:
    small = gemmi.SmallStructure()
    small.name = "x"
    small.cell = gemmi.UnitCell(*cell.structure.lattice.parameters)
    small.spacegroup_hm = cell.setting.xhm()
    for i, atom in enumerate(cell.asymmetric):
        site = gemmi.SmallStructure.Site()
        site.label, site.type_symbol = f"{atom.specie}{i}", str(atom.specie)
        site.element = gemmi.Element(site.type_symbol)
        site.fract = gemmi.Fractional(*atom.frac_coords)
        small.add_site(site)
    block = small.make_cif_block()
    if listed:
        loop = block.init_loop("_space_group_symop_operation_", ["xyz"])
        for operation in cell.setting.operations():
            loop.add_row([gemmi.cif.quote(operation.triplet())])
    return str(block.as_string())


WRITERS = {"pymatgen": by_pymatgen, "ASE": by_ase, "gemmi": by_gemmi}


def as_read_by_gemmi(text: str) -> Structure:
    small = gemmi.make_small_structure_from_block(gemmi.cif.read_string(text).sole_block())
    sites = small.get_all_unit_cell_sites()
    lattice = Lattice.from_parameters(*small.cell.parameters)
    return Structure(lattice, [site.element.name for site in sites], [site.fract.tolist() for site in sites])


def outcome(structure: Structure, writer: str, cell: Cell, *, listed: bool) -> str:
    """What becomes of a crystal that is written and read.

    Raises:
        AssertionError: It is read as another crystal.
    """
    text = WRITERS[writer](cell, listed=listed)
    by_gemmi_alone = MATCHER.fit(as_read_by_gemmi(text), structure)
    try:
        found = parse_structure(text, "cif")
    except BadRow as problem:
        return f"refused by sen-bench: {problem}"
    symbols = [SYMBOLS[number - 1] for number in found.numbers]
    assert MATCHER.fit(Structure(found.lattice, symbols, found.positions), structure), text
    return "read alike" if by_gemmi_alone else "read rightly by sen-bench, wrongly by gemmi"


def check_written(structures: Sequence[Structure], n: int) -> Counter[str]:
    """Write and read crystals in cells and ways that hypothesis draws; count what becomes of them."""
    counts: Counter[str] = Counter()

    # The text in the error is as clear as a simpler example, for which it would take minutes to look.
    @settings(max_examples=n, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(structures) - 1), st.sampled_from(sorted(WRITERS)), st.booleans(), st.data())
    def check(row: int, writer: str, listed: bool, data: st.DataObject) -> None:
        structure = structures[row]
        cell = standard(structure)
        others = [entry for entry in gemmi.spacegroup_table() if entry.number == cell.setting.number]
        form = data.draw(st.sampled_from(["conventional", "primitive", "setting"]))
        if form == "setting":
            cell = in_setting(cell, data.draw(st.sampled_from(others)))
        elif form == "primitive":
            whole = structure.get_primitive_structure()
            cell = Cell(whole, gemmi.SpaceGroup("P 1"), whole)
        counts[outcome(structure, writer, cell, listed=listed)] += 1

    check()
    for what, count in counts.most_common():
        sys.stdout.write(f"{count:5} {what}\n")
    return counts


def test_written_cifs_of_known_crystals_are_read_as_they_were_written(real_crystals: list[Crystal]) -> None:
    structures = [Structure(crystal.lattice, crystal.numbers, crystal.positions) for crystal in real_crystals]
    assert check_written([one for one in structures if len(one) <= MOST_ATOMS // 4], 25).total() >= 25


@pytest.mark.deep
def test_written_cifs_are_read_as_they_were_written_or_refused(data_dir: Path) -> None:
    counts = check_written(rows(data_dir), 500)
    n = counts.total()
    assert n >= 500
    assert sum(count for what, count in counts.items() if what.startswith("refused")) < 0.1 * n
