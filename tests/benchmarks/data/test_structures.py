from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from benchmarks.base.errors import DataError, UsageError
from benchmarks.data.structures import BadRow, parse_dictionary, parse_structure, read_structure, structure_files

QUARTZ = Structure.from_spacegroup(
    "P3_121", Lattice.hexagonal(4.913, 5.405), ["Si", "O"], [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.1191]]
)

CIF = """data_x
_cell_length_a {a}
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma {gamma}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{first}
{second}
"""
POSCAR = """x
1.0
{a} 0 0
0 4 0
0 0 4
{symbols}
1 1
direct
0 0 0
{second}
"""


def cif(*, a: str = "4", gamma: str = "90", first: str = "Cs1 Cs 0 0 0 1", second: str = "Cl1 Cl 0.5 0.5 0.5 1") -> str:
    return CIF.format(a=a, gamma=gamma, first=first, second=second)


def poscar(*, a: str = "4", symbols: str = "Cs Cl", second: str = "0.5 0.5 0.5") -> str:
    return POSCAR.format(a=a, symbols=symbols, second=second)


@pytest.mark.parametrize("form", ["cif", "poscar", "json"])
@pytest.mark.parametrize("named", [True, False], ids=["named", "guessed"])
@pytest.mark.parametrize("encode", [str, str.encode], ids=["str", "bytes"])
def test_each_form_gives_the_crystal(form, named, encode):
    text = QUARTZ.to(fmt=form)
    crystal = parse_structure(encode(text), form if named else None)
    found = Structure(crystal.lattice, crystal.numbers, crystal.positions)
    assert found.composition == QUARTZ.composition
    np.testing.assert_allclose(np.sort(found.distance_matrix, None), np.sort(QUARTZ.distance_matrix, None), atol=1e-5)
    assert not crystal.heavy_hydrogen


def test_dictionary_and_json_agree():
    as_dict = parse_structure(QUARTZ.as_dict())
    as_json = parse_structure(json.dumps(QUARTZ.as_dict()))
    for one, other in zip(as_dict, as_json, strict=True):
        np.testing.assert_array_equal(one, other)


def test_symmetry_operations_of_a_cif_are_applied():
    crystal = parse_structure(QUARTZ.to(fmt="cif", symprec=0.01))
    assert sorted(crystal.numbers) == sorted(QUARTZ.atomic_numbers) == [8] * 6 + [14] * 3


def test_space_group_alone_is_enough():
    text = cif(a="4(2)", first="Li1 Li 0 0 0 1", second="F1 F 0 0 0.5 1")
    assert len(parse_structure(text + "_symmetry_space_group_name_H-M 'F m -3 m'\n").numbers) == 8


@pytest.mark.parametrize("name", ["CS1", "Cs+", "Cs1+", "Cs", "CS"])
@pytest.mark.parametrize("occupancy", ["1", "1.0", "1.000(5)", "?", "."])
def test_ways_to_write_a_site(name, occupancy):
    crystal = parse_structure(cif(first=f"Cs1 {name} 0 0 0 {occupancy}"))
    assert sorted(crystal.numbers) == [17, 55]


def test_labels_tell_the_elements_where_nothing_else_does():
    text = cif().replace("_atom_site_type_symbol\n", "").replace("Cs1 Cs ", "Cs1A ").replace("Cl1 Cl ", "Cl(2) ")
    assert sorted(parse_structure(text).numbers) == [17, 55]


@pytest.mark.parametrize(
    "structure",
    [
        cif(first="D1 D 0 0 0 1"),
        cif(first="T1 T 0 0 0 1"),
        cif(first="D1 D1+ 0 0 0 1"),
        poscar(symbols="D Cl"),
        poscar(symbols="Cl T"),
        cif(first="D1 D 0 0 0 1").replace("_atom_site_type_symbol\n", "").replace(" D ", " ").replace(" Cl ", " "),
    ],
)
def test_deuterium_and_tritium_are_hydrogen(structure):
    crystal = parse_structure(structure)
    assert sorted(crystal.numbers) == [1, 17]
    assert crystal.heavy_hydrogen


def test_poscar_of_vasp_4_with_symbols_behind_the_coordinates():
    text = poscar(symbols="", second="0.5 0.5 0.5 Cl").replace("0 0 0\n0.5", "0 0 0 Cs\n0.5").replace("\n\n", "\n")
    assert parse_structure(text).numbers == [55, 17]


def test_five_hundred_atoms():
    n = 8
    grid = np.stack(np.meshgrid(*[np.arange(n)] * 3), axis=-1).reshape(-1, 3) / n
    structure = Structure(Lattice.cubic(3 * n), ["Po"] * n**3, grid)
    for form in ("cif", "poscar"):
        assert len(parse_structure(structure.to(fmt=form)).numbers) == 512
    structure.append("Po", grid[400] + [0.001, 0, 0])
    with pytest.raises(BadRow, match=r"closer than 0.1 Å \(sites 400 and 512\)"):
        parse_structure(structure.as_dict())


BAD = {
    "no text": (" ", "has no structure"),
    "nothing": (None, "has no structure"),
    "a number": (3.5, "has no structure"),
    "NaN length": (cif(a="nan"), "finite"),
    "no volume": (cif(gamma="0"), "cannot be read|without volume"),
    "zero length": (cif(a="0"), "cannot be read|without volume"),
    "close": (cif(second="Cl1 Cl 0.01 0 0 1"), r"closer than 0.1 Å \(sites 0 and 1\)"),
    "one place": (cif(second="Cl1 Cl 0 0 0 1"), "closer than 0.1 Å"),
    "one place, one element": (cif(second="Cs2 Cs 0 0 0 1"), "closer than 0.1 Å"),
    "occupancy": (cif(second="Cl1 Cl 0.5 0.5 0.5 0.9(1)"), r"disordered \(site 1: Cl 0.9\)"),
    "vacant": (cif(second="Cl1 Cl 0.5 0.5 0.5 0"), r"disordered \(site 1: Cl 0\)"),
    "two on a site": (cif(first="Cs1 Cs 0 0 0 0.5", second="K1 K 0 0 0 0.5"), r"disordered \(site 0: Cs 0.5\)"),
    "occupancy in words": (cif(second="Cl1 Cl 0.5 0.5 0.5 full"), "cannot be read"),
    "unknown element": (cif(first="Xx1 Xx 0 0 0 1"), r"unknown element 'Xx' \(site 0\)"),
    "not potassium": (cif(first="Kx1 Kx 0 0 0 1"), r"unknown element 'Kx' \(site 0\)"),
    "water": (cif(first="Wat1 Wat 0 0 0 1"), "unknown element 'Wat'"),
    "coordinate not known": (cif(second="Cl1 Cl ? 0.5 0.5 1"), "cannot be read"),
    "no atoms": (cif().partition("loop_")[0], "without atoms"),
    "no rows of atoms": (cif(first="", second=""), "without atoms"),
    "two structures": (cif() + cif(a="4.1").replace("data_x", "data_y"), "2 different structures"),
    "space group not known": (
        cif() + "_symmetry_space_group_name_H-M 'Z 99'\n",
        "unknown space group Z 99",
    ),
    "cif, really a poscar": (("cif", poscar()), "cannot be read .*data_"),
    "poscar, really a cif": (("poscar", cif()), "POSCAR that cannot be read"),
    "prose": ("Cs1 Cl1\nReduced Formula: CsCl", "POSCAR that cannot be read"),
    "printed": ("Full Formula (Cs1 Cl1)\nReduced Formula: CsCl", "printed text of a structure"),
    "broken json": ('{"lattice": ', "not valid JSON"),
    "another json": ('{"a": 1}', "not a pymatgen dictionary"),
    "poscar cut": (poscar().rpartition("\n0.5")[0], "POSCAR that cannot be read"),
    "poscar NaN": (poscar(a="nan"), "finite"),
    "poscar flat": (poscar(a="0"), "without volume|cannot be read"),
    "poscar close": (poscar(second="0.01 0 0"), r"closer than 0.1 Å \(sites 0 and 1\)"),
    "poscar dummy": (poscar(symbols="Xx Cl"), "unknown element 'Xx'"),
    "poscar unknown": (poscar(symbols="Kx Cl"), "unknown element 'Kx'"),
    "poscar nameless": (poscar(symbols="").replace("\n\n", "\n"), "names no elements"),
    "poscar empty": (poscar().replace("\n1 1\n", "\n0 0\n"), "without atoms|cannot be read"),
}


@pytest.mark.parametrize(("structure", "problem"), BAD.values(), ids=BAD)
def test_bad_structure_is_refused_with_its_problem(structure, problem, recwarn):
    form, text = structure if isinstance(structure, tuple) else (None, structure)
    with pytest.raises(BadRow, match=problem) as caught:
        parse_structure(text, form)
    assert "\n" not in str(caught.value)
    assert not recwarn.list


def test_files_by_their_names(tmp_path: Path):
    names = ["a.cif", "B.CIF", "POSCAR", "CONTCAR", "POSCAR_b", "POSCAR.c", "CONTCAR-d", "d.vasp", "e.poscar"]
    for name in [*names, "id_prop.csv", "POSCARS", "cif", "f.cif.txt", "OUTCAR"]:
        (tmp_path / name).write_text(cif() if name.lower().endswith(".cif") else poscar())
    (tmp_path / "folder.cif").mkdir()
    assert [path.name for path in structure_files(tmp_path)] == sorted(names)
    for path in structure_files(tmp_path):
        assert sorted(read_structure(path).numbers) == [17, 55]


@pytest.mark.parametrize(
    "name", ["a.cif.gz", "b.CIF.GZ", "POSCAR.gz", "CONTCAR.relax2.gz", "c.vasp.Gz", "d.Poscar", "e.VASP"]
)
@pytest.mark.parametrize(
    "encode",
    [
        str.encode,
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
    ],
    ids=["plain", "mark", "utf-16", "windows"],
)
def test_packed_files_extensions_in_any_case_and_byte_order_marks(tmp_path: Path, name, encode):
    path = tmp_path / name
    content = encode(cif() if "cif" in name.lower() else poscar())
    path.write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
    assert structure_files(tmp_path) == [path]
    assert sorted(read_structure(path).numbers) == [17, 55]


def test_packed_file_that_is_cut_is_refused(tmp_path: Path):
    path = tmp_path / "a.cif.gz"
    path.write_bytes(gzip.compress(cif().encode())[:-20])
    with pytest.raises(DataError, match=r"a\.cif\.gz is cut or damaged"):
        read_structure(path)


def test_structure_file_that_is_a_pipe_or_unpacks_to_far_too_much_is_refused(tmp_path: Path):
    path = tmp_path / "a.cif.gz"
    path.write_bytes(gzip.compress(cif().encode() + b" " * 2**25))
    with pytest.raises(DataError, match=r"a\.cif\.gz unpacks to more than 50 times its size"):
        read_structure(path)
    os.mkfifo(tmp_path / "b.cif")
    with pytest.raises(UsageError, match=r"b\.cif cannot be read \(it is a pipe"):
        read_structure(tmp_path / "b.cif")


@pytest.mark.parametrize("form", ["cif", "poscar", "json", "dictionary"])
def test_atoms_too_close_to_be_right_are_refused_in_every_form(form):
    close = Structure(Lattice.cubic(5), ["Fe", "O", "H"], [[0, 0, 0], [0.2, 0, 0], [0.5, 0.5, 0.5]])
    structure = close.as_dict() if form == "dictionary" else close.to(fmt=form)
    with pytest.raises(
        BadRow, match=r"too close to be right \(sites 0 and 1\): Fe and O are 1\.00 Å apart, less than 60 %"
    ):
        parse_structure(structure)
    # The files of MatBench keep such rows.
    assert len(parse_dictionary(close.as_dict()).numbers) == 3
    apart = Structure(Lattice.cubic(5), ["O", "H", "H"], [[0, 0, 0], [0.15, 0, 0], [0, 0.15, 0]])
    assert len(parse_structure(apart.to(fmt="cif")).numbers) == 3
    near = Structure(Lattice.cubic(5), ["O", "H"], [[0, 0, 0], [0.09, 0, 0]])
    with pytest.raises(BadRow, match=r"O and H are 0\.45 Å apart, less than 50 %"):
        parse_structure(near.as_dict())


def test_atoms_too_close_to_their_own_images_are_refused():
    flat = Structure(Lattice.orthorhombic(1.5, 9, 9), ["Cs"], [[0, 0, 0]])
    with pytest.raises(BadRow, match=r"site 0 and an image of it\): Cs and Cs are 1.50 Å apart"):
        parse_structure(flat.as_dict())


@pytest.mark.parametrize("error", [ValueError("odd"), ZeroDivisionError(), MemoryError(), KeyError("x")])
def test_any_error_of_a_library_is_a_bad_row(monkeypatch, error):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("gemmi.cif.read_string", fail)
    with pytest.raises(BadRow, match=r"cannot be used \((ZeroDiv|Memory|Key)|cannot be read \(odd"):
        parse_structure(cif())


def test_file_that_is_not_there_or_none(tmp_path: Path):
    with pytest.raises(UsageError, match=r"a\.cif cannot be read \(No such file"):
        read_structure(tmp_path / "a.cif")
    with pytest.raises(UsageError, match=r"a\.xyz is not a structure file"):
        read_structure(tmp_path / "a.xyz")
    (tmp_path / "b.cif").mkdir()
    with pytest.raises(UsageError, match=r"b\.cif cannot be read \(Is a directory"):
        read_structure(tmp_path / "b.cif")


def test_bad_file_is_named(tmp_path: Path):
    path = tmp_path / "c.cif"
    path.write_bytes(b"\x00\xff\xfe not a CIF")
    with pytest.raises(DataError, match=r"c\.cif has a CIF that cannot be read \(.*data_"):
        read_structure(path)


def test_names_in_another_encoding_do_no_harm(tmp_path: Path):
    path = tmp_path / "d.cif"
    path.write_bytes(cif().encode() + "_publ_author_name Müller\n".encode("latin-1"))
    assert sorted(read_structure(path).numbers) == [17, 55]
