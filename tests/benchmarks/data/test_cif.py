from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

import gemmi
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice

from benchmarks.data.cif import parse_cif
from benchmarks.data.raw_crystal import BadRow, RawCrystal

ANGLES = ("alpha", "beta", "gamma")
SITE = ("label", "type_symbol", "fract_x", "fract_y", "fract_z")
CUBE = (5.6, 5.6, 5.6, 90, 90, 90)
ROCK_SALT = ("Na1 Na 0 0 0", "Cl1 Cl 0.5 0.5 0.5")


def cif(
    *items: str, cell: Sequence[float] = CUBE, sites: Sequence[str] = ROCK_SALT, columns: Sequence[str] = SITE
) -> str:
    """A block with a cell, these items and these sites."""
    lines = ["data_x", *(f"_cell_length_{axis} {length}" for axis, length in zip("abc", cell[:3], strict=True))]
    lines += [f"_cell_angle_{name} {angle}" for name, angle in zip(ANGLES, cell[3:], strict=True)]
    return "\n".join([*lines, *items, "loop_", *(f"_atom_site_{name}" for name in columns), *sites, ""])


def operations(*triplets: str, name: str = "_space_group_symop_operation_xyz") -> str:
    return "\n".join(["loop_", name, *(f"'{triplet}'" for triplet in triplets)])


def hm(symbol: str) -> str:
    return f"_space_group_name_H-M_alt '{symbol}'"


def same_atoms(crystal: RawCrystal, numbers: Sequence[int], positions: np.ndarray) -> bool:
    """Whether a crystal has these atoms, in any order, in the cell that it was given in."""
    if sorted(crystal.numbers) != sorted(numbers):
        return False
    apart = crystal.positions[:, None] - positions
    apart = np.linalg.norm((apart - np.rint(apart)) @ crystal.lattice, axis=-1)
    apart[np.array(crystal.numbers)[:, None] != np.array(numbers)] = np.inf
    return bool((apart.min(axis=1) < 1e-3).all() and (apart.min(axis=0) < 1e-3).all())


def fitting_cell(group: gemmi.GroupOps) -> tuple[float, ...]:
    """Lengths and angles of a cell without more symmetry than the group needs."""
    metric = np.array([[1600, 60, 90], [60, 1900, 130], [90, 130, 2300]])
    rotations = [np.array(operation.rot) / operation.DEN for operation in group]
    metric = np.mean([rotation.T @ metric @ rotation for rotation in rotations], axis=0)
    a, b, c = np.sqrt(np.diag(metric))
    cosines = metric[1, 2] / b / c, metric[0, 2] / a / c, metric[0, 1] / a / b
    return (a, b, c, *np.degrees(np.arccos(cosines)))


def test_settings_by_operations_hall_symbol_symbol_and_number():
    site = (0.1371, 0.2113, 0.0847)
    by_number = 0
    for entry in list(gemmi.spacegroup_table())[::6]:
        group = entry.operations()
        options = {"cell": fitting_cell(group), "sites": [f"He1 He {site[0]} {site[1]} {site[2]}"]}
        expected = np.array([operation.apply_to_xyz(site) for operation in group])
        listed = operations(*(operation.triplet() for operation in group))
        for item in (listed, f"_space_group_name_Hall\n;{entry.hall}\n;", hm(entry.xhm())):
            assert same_atoms(parse_cif(cif(item, **options)), [2] * len(expected), expected), (entry.xhm(), item)
        with contextlib.suppress(BadRow):
            crystal = parse_cif(cif(f"_space_group_IT_number {entry.number}", **options))
            assert same_atoms(crystal, [2] * len(expected), expected), entry.number
            by_number += 1
    assert by_number > 10


SETTINGS = list(gemmi.spacegroup_table())


@settings(deadline=None, max_examples=60)
@given(
    entry=st.sampled_from(SETTINGS),
    site=st.tuples(*[st.floats(-1, 2)] * 3),
    digits=st.integers(2, 6),
    name=st.sampled_from(["operations", "hall", "full", "short", "number"]),
)
def test_no_setting_is_read_wrongly(entry, site, digits, name):
    """Whatever names the symmetry, each image of a site is an atom, and each atom an image; or the file is refused."""
    group = entry.operations()
    cell = fitting_cell(group)
    text = [f"{coordinate:.{digits}f}" for coordinate in site]
    images = np.array([operation.apply_to_xyz([float(coordinate) for coordinate in text]) for operation in group])
    item = {
        "operations": operations(*(operation.triplet() for operation in group)),
        "hall": f"_space_group_name_Hall\n;{entry.hall}\n;",
        "full": hm(entry.xhm()),
        "short": hm(entry.short_name()),
        "number": f"_space_group_IT_number {entry.number}",
    }[name]
    try:
        crystal = parse_cif(cif(item, cell=cell, sites=[f"He1 He {' '.join(text)}"]))
    except BadRow as problem:
        event(str(problem)[:40])
        return
    apart = crystal.positions[:, None] - images
    apart = np.linalg.norm((apart - np.rint(apart)) @ crystal.lattice, axis=-1)
    tolerance = 0.01 + min(0.5, 2 * 10**-digits * np.linalg.norm(cell[:3]))
    assert (apart.min(axis=0) < tolerance).all()
    assert (apart.min(axis=1) < tolerance).all()


DIAMOND = {"cell": (3.567, 3.567, 3.567, 90, 90, 90), "sites": ["C1 C 0.125 0.125 0.125"]}
ARSENIC = {"cell": (4.13, 4.13, 4.13, 54.1, 54.1, 54.1), "sites": ["As1 As 0.227 0.227 0.227"]}
HEXAGONAL = {"cell": (3.76, 3.76, 10.55, 90, 90, 120), "sites": ["As1 As 0 0 0.227"]}
GENERAL = {"cell": (5.3, 6.1, 7.4, 90, 100, 90), "sites": ["Hf1 Hf 0.1 0.2 0.3"]}


@pytest.mark.parametrize(
    ("items", "options", "n_atoms"),
    [
        ([hm("F d -3 m :2")], DIAMOND, 8),
        ([hm("F d -3 m Z")], DIAMOND, 8),
        ([hm("Fd-3mZ")], DIAMOND, 8),
        ([hm("Fd-3m"), "_space_group_IT_coordinate_system_code 2"], DIAMOND, 8),
        ([hm("F d -3 m"), "_chemical_formula_sum C", "_cell_formula_units_Z 8"], DIAMOND, 8),
        ([hm("F d -3 m"), "_exptl_crystal_density_diffrn 3.51"], DIAMOND, 8),
        ([hm("R -3 m")], ARSENIC, 2),
        ([hm("R -3 m :R")], ARSENIC, 2),
        ([hm("R -3 m")], HEXAGONAL, 6),
        ([hm("R_-3_m_H")], HEXAGONAL, 6),
        (["_symmetry_Int_Tables_number 166"], ARSENIC, 2),
        ([hm("P 21/n"), "_space_group_IT_number 14"], GENERAL, 4),
        ([hm("P 21"), "_space_group_IT_number 4"], GENERAL, 2),
        ([hm("P2_1")], GENERAL, 2),
        ([hm("P2_1/c")], GENERAL, 4),
        ([hm("P 2_1/c")], GENERAL, 4),
        ([hm("F d -3 m"), "_symmetry_space_group_name_H-M 'F d -3 m :2'"], DIAMOND, 8),
        ([hm("Pnma"), "_space_group_name_H-M_full 'P 21/n 21/m 21/a'"], {"sites": ["He1 He 0.1 0.1 0.1"]}, 8),
        (["_space_group_IT_number 225"], {}, 8),
        ([hm("?"), "_space_group_name_Hall .", "_space_group_IT_number 225"], {}, 8),
        ([operations("x,y,z"), hm("P 1 (no. 1)"), "_space_group_IT_number 1"], {}, 2),
        ([operations("x,y,z", "-x,-y,-z"), hm("some symbol")], {}, 2),
        ([operations("x, y, z", "-X,-Y,-Z"), hm("P -1")], {}, 2),
        (["_symmetry_equiv_pos_as_xyz x,y,z"], {}, 2),
        (["_symmetry_cell_setting triclinic"], {}, 2),
    ],
)
def test_symmetry_that_is_clear(items, options, n_atoms):
    assert len(parse_cif(cif(*items, **options)).numbers) == n_atoms


def test_operations_in_a_setting_that_no_table_has():
    there, back = gemmi.Op("x+1/24,y,z"), gemmi.Op("x-1/24,y,z")
    shifted = [there.combine(operation).combine(back) for operation in gemmi.symops_from_hall("-P 2ybc")]
    text = cif(operations(*(operation.triplet() for operation in shifted)), hm("P 21/c"), **GENERAL)
    assert len(parse_cif(text).numbers) == 4
    for other in ("P b c a", "P 2/m"):
        with pytest.raises(BadRow, match=f"symmetry operations and space group {other} contradict each other"):
            parse_cif(text.replace("P 21/c", other))


def test_operations_of_a_primitive_cell():
    cell = (3.96, 3.96, 3.96, 60, 60, 60)
    to_primitive = gemmi.Op("-x+y+z,x-y+z,x+y-z")
    group = gemmi.find_spacegroup_by_name("F m -3 m").operations()
    group.change_basis_forward(to_primitive)
    text = cif(operations(*{operation.wrap().triplet() for operation in group}), hm("F m -3 m"), cell=cell)
    assert len(parse_cif(text).numbers) == 2
    with pytest.raises(BadRow, match="contradict each other"):
        parse_cif(text.replace("F m -3 m", "P m -3 m"))


def test_operations_of_magnetic_structures_move_the_atoms():
    listed = operations("x,y,z,+1", "-x,-y,-z,-1", name="_space_group_symop_magn_operation.xyz")
    centring = operations("x,y,z,+1", "x+1/2,y+1/2,z+1/2,-1", name="_space_group_symop_magn_centering.xyz")
    assert len(parse_cif(cif(listed, centring, sites=["He1 He 0.1 0.2 0.3"])).numbers) == 4


CONTRADICTIONS = {
    "identity alone": ([operations("x,y,z"), hm("F m -3 m")], {}, "operations and space group F m -3 m contra"),
    "hall": (["_space_group_name_Hall '-P 2yn'", hm("P 21/c")], GENERAL, "Hall symbol -P 2yn and space group P 21/c"),
    "operations and hall": (
        [operations("x,y,z", "-x,-y,-z"), "_space_group_name_Hall '-P 2yn'"], GENERAL, "operations and Hall symbol",
    ),
    "number": ([hm("P 21/n"), "_space_group_IT_number 15"], GENERAL, "P 21/n and space group number 15 contra"),
    "two symbols": (
        [hm("P 21/n"), "_symmetry_space_group_name_H-M 'P 21/c'"], GENERAL, "P 21/n and space group P 21/c contra",
    ),
    "two lists": (
        [operations("x,y,z"), operations("x,y,z", "-x,-y,-z", name="_symmetry_equiv_pos_as_xyz")], {}, "twice",
    ),
    "some operations": ([operations("x,y,z", "-y,x,z")], {}, "lists 2 symmetry operations, which are not all: 4"),
    "no operation": ([operations("x,y,z", "x,y")], {}, "symmetry operations that cannot be read"),
    "cell": ([hm("F m -3 m")], GENERAL, "space group F m -3 m and cell contradict each other"),
    "hexagonal": ([hm("R -3 m :H")], ARSENIC, "space group R -3 m :H and cell contra"),
    "origin open": ([hm("F d -3 m")], DIAMOND, "leaves its setting or origin open"),
    "origin ruled out by distances": ([hm("F d -3 m")], {**DIAMOND, "sites": ["C1 C 0.125 0.127 0.125"]}, "leaves its"),
    "setting open": (["_space_group_IT_number 14"], GENERAL, "leaves its setting or origin open"),
    "unknown symbol": ([hm("P 99")], {}, "unknown space group P 99"),
    "unknown Hall symbol": (["_space_group_name_Hall 'Z 9'", hm("P 1")], {}, "unknown Hall symbol Z 9"),
    "unknown number": (["_space_group_IT_number 231"], {}, "unknown space group number 231"),
    "no symmetry": (["_space_group_crystal_system cubic"], {}, "cubic crystal without symmetry operations"),
    "Z": ([hm("F m -3 m"), "_chemical_formula_sum 'Cl Na'", "_cell_formula_units_Z 2"], {}, "Na4 Cl4.*units, 2"),
    "Z alone": (["_cell_formula_units_Z 3"], {}, "holds Na Cl, which contradicts .* 3"),
    "Z of one molecule": (
        ["_chemical_formula_sum 'C2 H2'", "_cell_formula_units_Z 2"],
        {"sites": ["C1 C 0 0 0", "C2 C 0.2 0 0", "H1 H 0.4 0 0", "H2 H -0.2 0 0"]},
        "contradicts its number of formula units, 2",
    ),
    "formula": (["_chemical_formula_sum 'Cl2 Na'"], {}, r"atoms \(NaCl\) do not match its formula \(Cl2 Na\): some"),
    "odd formula": (["_chemical_formula_sum 'Na Cl x(H2 O)'"], {}, r"formula cannot be read \(Na Cl x"),
    "volume": (["_cell_volume 350.2(1)"], {}, r"volume of 175.62 Å³ and not of 350.2"),
    "density": (["_exptl_crystal_density_diffrn 2.20"], {}, r"density of 0.55 g/cm³ and not of 2.2"),
    "modulated": (["_cell_modulation_dimension 1"], {}, "modulated structure"),
    "superspace": (
        [operations("x1,x2,x3,x4", name="_space_group_symop_ssg_operation_algebraic")], {}, "modulated structure",
    ),
    "twice": (["_cell_length_a 5.7"], {}, "gives _cell_length_a twice"),
    "volume in words": (["_cell_volume large"], {}, "_cell_volume is no finite number but 'large'"),
}  # fmt: skip


@pytest.mark.parametrize(("items", "options", "problem"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_what_is_contradictory_or_open_is_refused(items, options, problem):
    with pytest.raises(BadRow, match=problem):
        parse_cif(cif(*items, **options))


@pytest.mark.parametrize(
    ("items", "options"),
    [
        (["_chemical_formula_sum ?", "_cell_formula_units_Z ?", "_cell_volume ."], {}),
        (["_chemical_formula_sum 'Cl1 Na1'", "_cell_formula_units_Z 1", "_cell_volume 175.6"], {}),
        (["_chemical_formula_sum Na2Cl2", "_cell_formula_units_Z 0.5"], {}),
        # As pymatgen writes it: the sum of the whole cell.
        (
            ["_chemical_formula_sum 'Na4 Cl4'", "_chemical_formula_structural NaCl", "_cell_formula_units_Z 4"],
            {"sites": ["Na1 Na 0 0 0", "Na2 Na 0 .5 .5", "Na3 Na .5 0 .5", "Na4 Na .5 .5 0", "Cl1 Cl .5 .5 .5",
                       "Cl2 Cl .5 0 0", "Cl3 Cl 0 .5 0", "Cl4 Cl 0 0 .5"]},
        ),
    ],
)  # fmt: skip
def test_what_agrees_is_read(items, options):
    assert set(parse_cif(cif(*items, **options)).numbers) == {11, 17}


HCP = {"cell": (3.21, 3.21, 5.21, 90, 90, 120)}


@pytest.mark.parametrize(
    ("x", "y"), [("0.3333", "0.6667"), ("0.333", "0.667"), ("0.33", "0.67"), ("0.333(1)", "0.666(1)")]
)
def test_rounded_coordinates_of_a_special_position(x, y):
    crystal = parse_cif(cif(hm("P 63/m m c"), sites=[f"Mg1 Mg {x} {y} 0.25"], **HCP))
    assert same_atoms(crystal, [12, 12], np.array([[1 / 3, 2 / 3, 1 / 4], [2 / 3, 1 / 3, 3 / 4]])) or x == "0.33"
    assert len(crystal.numbers) == 2


@pytest.mark.parametrize(
    ("site", "problem"),
    [
        ("Mg1 Mg 0.35 0.65 0.25", "too close to be right .site 0 and an image of it.: Mg and Mg"),
        ("Mg1 Mg 0.3 0.6 0.25", "too close|closer than"),
    ],
)
def test_images_that_are_neither_one_atom_nor_two(site, problem):
    with pytest.raises(BadRow, match=problem):
        parse_cif(cif(hm("P 63/m m c"), sites=[site], **HCP))


@pytest.mark.parametrize(
    ("multiplicity", "is_right"), [("4", True), ("48", True), ("?", True), ("8", False), ("1", False)]
)
@pytest.mark.parametrize("name", ["symmetry_multiplicity", "site_symmetry_multiplicity"])
def test_multiplicity_of_a_site(multiplicity, is_right, name):
    text = cif(hm("F m -3 m"), sites=[f"{site} {multiplicity}" for site in ROCK_SALT], columns=[*SITE, name])
    if is_right:
        assert len(parse_cif(text).numbers) == 8
    else:
        with pytest.raises(BadRow, match=r"multiplicity of Na1 is .* its symmetry gives 4"):
            parse_cif(text)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("attached_hydrogens", "2", "hydrogen atoms are missing: Cl1 has 2"),
        ("disorder_group", "1", "disordered .site 1: Cl1 is in a disorder group"),
        ("disorder_group", "-1", "disordered"),
        ("disorder_assembly", "A", "disordered"),
        ("occupancy", "0.98", "disordered .site 1: Cl 0.98"),
        ("calc_flag", "dum", "dummy site"),
    ],
)
def test_what_a_site_says_of_itself(column, value, problem):
    text = cif(sites=[f"{ROCK_SALT[0]} .", f"{ROCK_SALT[1]} {value}"], columns=[*SITE, column])
    with pytest.raises(BadRow, match=problem):
        parse_cif(text)
    harmless = "1" if column == "occupancy" else "?" if column == "calc_flag" else "0"
    assert len(parse_cif(text.replace(f" {value}\n", f" {harmless}\n")).numbers) == 2


DIOPSIDE = ["CaM2 0 .3015 .25", "MgM1 0 .9082 .25", "SiT .2862 .0933 .2293", "O1 .1156 .0873 .1422",
            "O2 .3611 .25 .318", "O3 .3505 .0176 .9953"]  # fmt: skip
LABELS = ("label", "fract_x", "fract_y", "fract_z")


def labelled(*sites: str, formula: str | None = None) -> str:
    items = [] if formula is None else [f"_chemical_formula_sum '{formula}'"]
    return cif(*items, sites=sites, columns=LABELS, cell=(9, 9, 9, 90, 90, 90))


@pytest.mark.parametrize(
    ("sites", "formula", "numbers"),
    [
        (["CaM2 0 0 0", "SiT .5 0 0", "OA1 0 .5 0"], "Ca Si O", [8, 14, 20]),
        (["MgM1 0 0 0", "OH .5 0 0", "H .6 0 0"], "Mg H O", [1, 8, 12]),
        (["Wat1 0 0 0", "H1 .1 0 0", "H2 0 .1 0"], "H2 O", [1, 1, 8]),
        (["CO1 0 0 0", "OC1 .2 0 0"], "C O", [6, 8]),
        (["CO1 0 0 0", "O1 .2 0 0"], "Co O", [8, 27]),
        (["HO1 .1 0 0", "O1 0 0 0"], "O H", [1, 8]),
        (["D1 .1 0 0", "O1 0 0 0"], "O D", [1, 8]),
        (["Ca1 0 0 0", "O(2) .5 0 0"], None, [8, 20]),
        (["AL1 0 0 0", "O2A .5 0 0"], None, [8, 13]),
    ],
)
def test_labels_name_elements_that_the_formula_has(sites, formula, numbers):
    assert sorted(parse_cif(labelled(*sites, formula=formula)).numbers) == numbers


@pytest.mark.parametrize(
    ("sites", "formula", "problem"),
    [
        (["CaM2 0 0 0"], None, "unknown element 'CaM2'"),
        (["HO1 0 0 0"], None, "label 'HO1' may mean Ho or H .site 0.: add type symbols"),
        (["T1 0 0 0"], None, "label 'T1' may mean tritium or a tetrahedral site"),
        (["H2O1 0 0 0"], None, "label 'H2O1' may mean hydrogen or water"),
        (["NO3 0 0 0"], None, "label 'NO3' may mean No or N"),
        (["Ca1 0 0 0"], "Mg", "'Ca1' .site 0. is no element of its formula"),
        (["XM2 0 0 0"], "Mg", "unknown element 'XM2'"),
        (["MgM1 0 0 0", "OH .5 0 0"], "Mg H O", "atoms .MgO. do not match its formula"),
        (["Wat1 0 0 0"], "H2 O", "do not match its formula"),
    ],
)
def test_labels_that_name_no_element_are_refused(sites, formula, problem):
    with pytest.raises(BadRow, match=problem):
        parse_cif(labelled(*sites, formula=formula))


def test_a_mineral_with_labels_alone():
    text = cif(
        *("_chemical_formula_sum 'Ca Mg Si2 O6'", hm("C 1 2/c 1")),
        sites=DIOPSIDE, columns=LABELS, cell=(9.746, 8.899, 5.251, 90, 105.63, 90),
    )  # fmt: skip
    counts = np.unique(parse_cif(text).numbers, return_counts=True)
    assert [each.tolist() for each in counts] == [[8, 12, 14, 20], [24, 4, 8, 4]]


def test_blocks():
    text = cif()
    empty = "data_global\n_journal_name_full ?\n"
    assert len(parse_cif(empty + text + empty).numbers) == 2
    assert len(parse_cif(text + text.replace("data_x", "data_y")).numbers) == 2
    with pytest.raises(BadRow, match="2 different structures"):
        parse_cif(text + cif(sites=["Na1 Na 0 0 0", "Br1 Br 0.5 0.5 0.5"]))


def test_ways_to_write_the_same():
    expected = parse_cif(cif())
    text = cif("_publ_section_title\n;\ndata_not a block\n_atom_site_fract_x\n;")
    for same in (
        text, text.upper().replace("NA", "Na").replace("CL", "Cl"), text.replace("_atom_site_", "_atom_site."),
        text.replace("\n", "\r\n"), text.replace("0.5", "5.0e-1"), text.replace("5.6", "5.600(3)"),
        "# a comment\n" + text, text.replace("Na1 Na", "1 Na0+").replace("Cl1 Cl", "? Cl1-"),
    ):  # fmt: skip
        crystal = parse_cif(same)
        assert crystal.numbers == expected.numbers
        np.testing.assert_allclose(crystal.lattice, expected.lattice)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (cif().removeprefix("data_x\n"), "line 1: expected block header .data_"),
        (cif().replace("_cell_length_b 5.6\n", ""), "without a cell ._cell_length_b"),
        (cif().replace("_atom_site_fract_", "_atom_site_Cartn_"), "without atoms ._atom_site_fract_x"),
        (cif() + "loop_\n_atom_site_occupancy\n1\n1\n", "list of sites .* is split"),
        (cif().replace("0.5 0.5 0.5", "0.5 0.5"), "cannot be read"),
        (cif().replace("0.5 0.5 0.5", "0.5 1/2 0.5"), "fract_y of Cl1 is no finite number but '1/2'"),
        (cif().replace("0.5 0.5 0.5", "\u22120.5 0.5 0.5"), "fract_x of Cl1 is no finite number but .~0.5"),
        # The first letter is Cyrillic; written as any Latin letter it could name another element, such as Xe.
        (cif(sites=["A1 \u0421e 0 0 0"]), "unknown element .~e. .site 0"),
    ],
)
def test_text_that_is_no_structure(text, problem):
    with pytest.raises(BadRow, match=problem):
        parse_cif(text)


def test_lattice_is_the_one_of_the_parameters():
    parameters = (5.1, 6.2, 7.3, 81.0, 101.0, 95.5)
    lattice = Lattice(parse_cif(cif(cell=parameters)).lattice)
    np.testing.assert_allclose(lattice.parameters, parameters)
    assert math.isclose(lattice.volume, Lattice.from_parameters(*parameters).volume)
