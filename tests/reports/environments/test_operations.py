from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from reports.environments.operations import (
    ConventionalCell,
    Operation,
    classify,
    conventional_cell,
    first_atoms,
    orbits_of_elements,
)
from sen.crystal import Crystal, refine
from tests.contracts import known_crystals
from tests.reports.made_models import FCC, copper, crystal, perovskite, rocksalt, wurtzite

EYE = np.eye(3, dtype=int)
Z2 = np.diag([-1, -1, 1])
M_X = np.diag([-1, 1, 1])
CYCLE = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])
Z4 = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
Z6 = np.array([[1, -1, 0], [1, 0, 0], [0, 0, 1]])


SWAP = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
PRIMITIVE, BASE, BODY, FACE = (
    np.array([[0, 0, 0], *points])
    for points in ([], [[0.5, 0.5, 0]], [[0.5, 0.5, 0.5]], [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
)


@pytest.mark.parametrize(
    ("rotation", "translation", "centring", "kind", "order", "symbol"),
    [
        (EYE, (0, 0, 0), PRIMITIVE, "identity", 1, "1"),
        (EYE, (0, 0.5, 0.5), FACE, "translation", 1, "t"),
        (-EYE, (0, 0, 0), PRIMITIVE, "inversion", 1, "-1"),
        # An inversion has a centre somewhere, whatever its translation.
        (-EYE, (0.5, 0.25, 0), PRIMITIVE, "inversion", 1, "-1"),
        (M_X, (0, 0, 0), PRIMITIVE, "mirror", 2, "m"),
        # The translation across the plane only moves the plane.
        (M_X, (0.5, 0, 0), PRIMITIVE, "mirror", 2, "m"),
        (M_X, (0, 0.5, 0), PRIMITIVE, "glide", 2, "b"),
        (M_X, (0.5, 0, 0.5), PRIMITIVE, "glide", 2, "c"),
        (M_X, (0, 0.5, 0.5), PRIMITIVE, "glide", 2, "n"),
        # A mirror followed by a lattice vector in its plane is no glide; across it that plane glides both ways.
        (M_X, (0, 0.5, 0.5), FACE, "mirror", 2, "m"),
        (M_X, (0.5, 0, 0.5), FACE, "glide", 2, "e"),
        (M_X, (0.25, 0.25, 0.25), FACE, "glide", 2, "d"),
        (M_X, (0, 0.25, 0), BODY, "glide", 2, "g"),
        (Z2, (0.5, 0.5, 0), PRIMITIVE, "rotation", 2, "2"),
        (Z2, (0, 0, 0.5), PRIMITIVE, "screw", 2, "2_1"),
        (Z4, (0, 0, 0.25), PRIMITIVE, "screw", 4, "4_1"),
        (Z4, (0.5, 0, 0.5), PRIMITIVE, "screw", 4, "4_2"),
        (Z4, (0, 0, 0.75), PRIMITIVE, "screw", 4, "4_3"),
        # A turn to the left by 90 degrees is one to the right about the opposite axis.
        (Z4.T, (0, 0, 0.75), PRIMITIVE, "screw", 4, "4_1"),
        (Z4, (0.5, 0, 0), PRIMITIVE, "rotation", 4, "4"),
        (Z4, (0.5, 0.5, 0.5), BODY, "screw", 4, "4_2"),
        *((Z6, (0, 0, p / 6), PRIMITIVE, "screw", 6, f"6_{p}") for p in range(1, 6)),
        *((Z6.T, (0, 0, p / 6), PRIMITIVE, "screw", 6, f"6_{6 - p}") for p in range(1, 6)),
        *((Z6 @ Z6, (0, 0, p / 3), PRIMITIVE, "screw", 3, f"3_{p}") for p in (1, 2)),
        (Z6, (0, 0, 0), PRIMITIVE, "rotation", 6, "6"),
        (-Z4, (0, 0, 0.5), PRIMITIVE, "rotoinversion", 4, "-4"),
        (-CYCLE, (0.5, 0, 0), PRIMITIVE, "rotoinversion", 3, "-3"),
        # Along a body diagonal vectors of the cell have shares of thirds.
        (CYCLE, (0.5, 0, 0.5), PRIMITIVE, "rotation", 3, "3"),
        (CYCLE, (1 / 3, 1 / 3, 1 / 3), PRIMITIVE, "rotation", 3, "3"),
        (CYCLE, (0.5, 0, 0), BODY, "rotation", 3, "3"),
        # The mirror x, y -> y, x: with a lattice vector less, half of (1, 1) is half of (1, -1), which is across it.
        (SWAP, (0.5, 0.5, 0), PRIMITIVE, "mirror", 2, "m"),
        (SWAP, (0.5, -0.5, 0), PRIMITIVE, "mirror", 2, "m"),
        (SWAP, (0, 0, 0.5), PRIMITIVE, "glide", 2, "c"),
        (SWAP, (0, 0, 0.5), BODY, "mirror", 2, "m"),
        (SWAP, (0.25, 0.25, 0.25), BODY, "glide", 2, "d"),
        (SWAP, (0.5, 0, 0.5), FACE, "glide", 2, "g"),
        # In the plane of a face centre a half along one axis is a half along the other.
        (np.diag([1, 1, -1]), (0.5, 0, 0), BASE, "glide", 2, "e"),
    ],
)
def test_symbols_by_hand(
    rotation: np.ndarray, translation: tuple[float, ...], centring: np.ndarray, kind: str, order: int, symbol: str
) -> None:
    assert classify(rotation, np.array(translation), centring) == (kind, order, symbol)


def test_every_space_group_has_the_operations_of_its_full_symbol() -> None:
    import moyopy

    for number in range(1, 231):
        operations = moyopy.operations_from_number(number)
        rotations, shifts = np.array(operations.rotations), np.array(operations.translations)
        centring = shifts[(rotations == EYE).all(axis=(1, 2))]
        found = {classify(w, shift, centring)[2] for w, shift in zip(rotations, shifts, strict=True)}
        _, *directions = moyopy.SpaceGroupType(number).hm_full.split()
        expected = {symbol for direction in directions for symbol in direction.split("/")} - {"1"}
        if number in {218, 223}:
            # These call n what is c as well, from the next plane of a set.
            expected.discard("n")
        assert expected <= found, moyopy.SpaceGroupType(number).hm_full
        # Screws are right- or left-handed as the group is.
        if number in {76, 144, 152, 169}:
            assert not {"4_3", "3_2", "6_5"} & found
        if number in {78, 145, 154, 170}:
            assert not {"4_1", "3_1", "6_1"} & found


def only_general(lattice: np.ndarray, images: list[list[float]]) -> ConventionalCell:
    """Two atoms of each of three elements, related by nothing but what relates the images of a general position."""
    rng = np.random.default_rng(1)
    positions, numbers = [], []
    for z in (8, 22, 56):
        x = rng.uniform(0.1, 0.4, 3)
        for image in images:
            signs, shift = np.array(image[:3]), np.array(image[3:])
            positions.append(signs * x + shift)
            numbers.append(z)
    return conventional_cell(refine(lattice, positions, numbers))


MONOCLINIC = np.array([[5.1, 0, 0], [0, 6.3, 0], [1.1, 0, 7.2]])
SAME = [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("image", "space_group", "kind", "name", "xyz"),
    [
        ([-1, 1, -1, 0, 0.5, 0], 4, "screw", "2_1 screw", "-x, y+1/2, -z"),
        ([-1, 1, -1, 0, 0, 0], 3, "rotation", "2-fold rotation", "-x, y, -z"),
        ([1, -1, 1, 0, 0, 0.5], 7, "glide", "c glide", "x, -y, z+1/2"),
        ([1, -1, 1, 0, 0, 0], 6, "mirror", "mirror", "x, -y, z"),
        ([-1, -1, -1, 0, 0, 0], 2, "inversion", "inversion", "-x, -y, -z"),
    ],
)
def test_groups_of_one_operation(image: list[float], space_group: int, kind: str, name: str, xyz: str) -> None:
    cell = only_general(MONOCLINIC, [SAME, image])
    assert cell.space_group == space_group
    assert [operation.kind for operation in cell.operations] == [kind]
    for first in range(6):
        for second in range(6):
            found = cell.between(first, second)
            related = first != second and cell.numbers[first] == cell.numbers[second]
            assert [operation.name for operation in found] == [name] * int(related)
    # The choice of origin and axes is moyopy's, in the conventional setting.
    assert cell.operations[0].xyz == xyz


def test_rotoinversion() -> None:
    lattice = np.diag([5.0, 5.0, 6.5])
    x, y, z = 0.13, 0.27, 0.21
    four = [[x, y, z], [-x, -y, z], [y, -x, -z], [-y, x, -z]]
    found = conventional_cell(
        refine(lattice, [[0, 0, 0], [0, 0.5, 0.3], [0.5, 0, -0.3], *four], [56, 22, 22, 8, 8, 8, 8])
    )
    assert found.space_group == 81
    assert Counter(o.name for o in found.operations) == {"2-fold rotation": 1, "-4 rotoinversion": 2}


def first_names(cell: ConventionalCell, element: int) -> set[str]:
    """The names by which the atoms of an element are related to its first atom."""
    first, *others = np.flatnonzero(cell.numbers == element).tolist()
    return {cell.between(first, other)[0].name for other in others}


def symbols(cell: ConventionalCell) -> set[str]:
    return {operation.symbol for operation in cell.operations}


def test_rocksalt() -> None:
    cell = conventional_cell(crystal(rocksalt(5.64)))
    assert len(cell) == 8
    assert len(cell.operations) == 191
    sodium = np.flatnonzero(cell.numbers == 11)
    for other in sodium[1:]:
        operations = cell.between(sodium[0], other)
        assert {"screw", "glide", "rotation", "rotoinversion", "mirror", "inversion"} < {o.kind for o in operations}
        assert operations[-1].kind == "translation"
        assert len(operations) == 48
    assert first_names(cell, 11) == first_names(cell, 17) == {"4_2 screw"}
    assert symbols(cell) == {"4", "4_2", "-4", "3", "-3", "2", "2_1", "m", "e", "g", "-1", "t"}
    assert not cell.between(sodium[0], int(np.flatnonzero(cell.numbers == 17)[0]))


def test_diamond() -> None:
    cell = conventional_cell(refine(3.57 * FCC, [[0, 0, 0], [0.25, 0.25, 0.25]], [6, 6]))
    assert (cell.space_group, len(cell)) == (227, 8)
    firsts = Counter(cell.between(0, j)[0].name for j in range(1, 8))
    # Three atoms of the same sublattice, four of the other one.
    assert firsts == {"-4 rotoinversion": 3, "4_1 screw": 4}
    assert {"4_1", "4_3", "d", "-3"} < symbols(cell)
    assert not {"4", "4_2", "a", "b", "c", "n"} & symbols(cell)
    assert sum(o.kind == "translation" for o in cell.operations) == 3


HCP = 2.66 * np.array([[1, 0, 0], [-0.5, 3**0.5 / 2, 0], [0, 0, 1.633]])


def test_close_packing() -> None:
    cell = conventional_cell(refine(HCP, [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]], [27, 27]))
    assert cell.space_group == 194
    found = cell.between(0, 1)
    assert [o.kind for o in found[:2]] == ["screw", "screw"]
    assert Counter(o.name for o in found) == {
        "6_3 screw": 2, "2_1 screw": 1, "c glide": 3, "2-fold rotation": 3, "-3 rotoinversion": 2, "inversion": 1,
    }  # fmt: skip


def test_wurtzite_is_related_by_screws_and_glides_alone() -> None:
    cell = conventional_cell(crystal(wurtzite(3.8)))
    assert cell.space_group == 186
    found = cell.between(*np.flatnonzero(cell.numbers == 30).tolist())
    assert Counter(o.symbol for o in found) == {"6_3": 2, "2_1": 1, "c": 3}
    assert first_names(cell, 16) == {"6_3 screw"}


def rutile() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u = 0.3053
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [u, u, 0], [-u, -u, 0], [0.5 + u, 0.5 - u, 0.5], [0.5 - u, 0.5 + u, 0.5]]
    return np.diag([4.594, 4.594, 2.959]), np.array(sites), np.array([22, 22, 8, 8, 8, 8])


def quartz(hand: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Alpha quartz in P3_121 (hand 1), or its mirror image in P3_221 (-1): Glinnemann et al. 1992."""
    lattice = np.array([[4.921, 0, 0], [-2.4605, 4.921 * 3**0.5 / 2, 0], [0, 0, 5.4163 * hand]])
    u, (x, y, z) = 0.4698, (0.4151, 0.2675, 0.2140 - 1 / 3)
    silicon = [[u, 0, 1 / 3], [0, u, 2 / 3], [-u, -u, 0]]
    oxygen = [[x, y, z], [-y, x - y, z + 1 / 3], [y - x, -x, z + 2 / 3]]
    oxygen += [[y, x, -z], [x - y, -y, -z + 2 / 3], [-x, y - x, -z + 1 / 3]]
    return lattice, np.array(silicon + oxygen), np.array([14] * 3 + [8] * 6)


def test_rutile() -> None:
    cell = conventional_cell(refine(*rutile()))
    assert cell.space_group == 136
    assert first_names(cell, 22) == {"4_2 screw"}
    assert {"4_2", "n", "2_1", "m", "-4"} < symbols(cell)
    assert not {"4", "4_1", "4_3", "a", "b", "c"} & symbols(cell)


@pytest.mark.parametrize(("hand", "space_group", "screw"), [(1, 152, "3_1"), (-1, 154, "3_2")])
def test_quartz_of_either_hand(hand: int, space_group: int, screw: str) -> None:
    cell = conventional_cell(refine(*quartz(hand)))
    assert cell.space_group == space_group
    assert symbols(cell) == {screw, "2"}
    assert first_names(cell, 14) == {f"{screw} screw"}


@pytest.mark.parametrize("made", [rutile(), quartz(1), quartz(-1), (HCP, np.array([[1 / 3, 2 / 3, 0.25]] * 2), None)])
def test_names_know_neither_cells_nor_directions(made: tuple[np.ndarray, np.ndarray, np.ndarray | None]) -> None:
    lattice, sites, numbers = made
    if numbers is None:
        sites, numbers = sites * [[1], [-1]], np.array([27, 27])
    own = refine(lattice, sites, numbers)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    twice = np.concatenate([(sites + np.array([i, 0, 0])) / [2, 1, 1] for i in range(2)])
    # A left-handed cell of the same crystal, and another basis of its lattice.
    sheared = np.array([[1, 0, 0], [1, 1, 0], [0, 2, 1]])
    others = [
        refine(lattice @ turn.T, sites, numbers),
        refine(lattice * [[2], [1], [1]], twice, np.tile(numbers, 2)),
        refine(lattice[[1, 0, 2]], sites[:, [1, 0, 2]], numbers),
        refine(sheared @ lattice, sites @ np.linalg.inv(sheared), numbers),
    ]
    expected = conventional_cell(own)
    for other in map(conventional_cell, others):
        assert Counter(o.name for o in other.operations) == Counter(o.name for o in expected.operations)
        for element in np.unique(numbers).tolist():
            assert first_names(other, element) == first_names(expected, element)


MADE = [rocksalt(5.6), copper(3.6), perovskite(4.0, 4.2), wurtzite(3.8)]


def check(cell: ConventionalCell, own: Crystal) -> None:
    n = len(cell)
    assert not any(np.array_equal(o.rotation, EYE) and np.allclose(o.translation, 0) for o in cell.operations)
    total = 0
    for first in range(n):
        for second in range(n):
            for o in cell.between(first, second):
                difference = o.rotation @ cell.positions[first] + o.translation - cell.positions[second]
                assert np.abs((difference - np.rint(difference)) @ cell.lattice).max() < 0.02
                assert cell.numbers[first] == cell.numbers[second]
                total += 1
    # Every operation maps every atom onto one atom.
    assert total == n * len(cell.operations)
    # Atoms are related exactly if they are copies of atoms of one orbit.
    orbit = own.orbit[cell.atom]
    related = np.eye(n, dtype=bool)
    for images in cell.images:
        related[np.arange(n), images] = True
    assert np.array_equal(related, orbit[:, None] == orbit[None])
    assert np.array_equal(own.numbers[cell.atom], cell.numbers)


@pytest.mark.parametrize("made", MADE)
def test_every_operation_maps_its_atom(made: dict[str, object]) -> None:
    own = crystal(made)
    check(conventional_cell(own), own)


def test_real_crystals(real_crystals: list[Crystal]) -> None:
    checked = 0
    for own in real_crystals:
        cell = conventional_cell(own)
        # Where refinement was refused, orbits are single atoms although operations relate them.
        if len(cell) <= 24 and own.orbit.max() < len(own) - 1:
            check(cell, own)
            checked += 1
    assert checked >= 3


def test_primitive_cells_have_no_translations() -> None:
    for made in (perovskite(4.0, 4.2), wurtzite(3.8)):
        assert all(o.kind != "translation" for o in conventional_cell(crystal(made)).operations)


def triplet(rotation: np.ndarray, translation: list[Fraction]) -> str:
    """The coordinate triplet of an operation with an exact translation."""
    words = []
    for row, shift in zip(rotation.tolist(), translation, strict=True):
        terms = [f"{'-' if factor < 0 else '+'}{name}" for factor, name in zip(row, "xyz", strict=True) if factor]
        words.append(("".join(terms) + (f"+{shift}" if shift else "")).removeprefix("+"))
    return ", ".join(words)


def test_triplets_are_those_of_exact_translations() -> None:
    for own in known_crystals():
        for operation in conventional_cell(own).operations:
            exact = [Fraction(shift).limit_denominator(24) % 1 for shift in operation.translation.tolist()]
            assert np.allclose(np.array(exact, dtype=float), operation.translation, atol=1e-3)
            assert operation.xyz == triplet(operation.rotation, exact)
            assert "+0" not in operation.xyz


@pytest.mark.parametrize("noise", [1e-17, -1e-17, 2e-5, -2e-5])
def test_triplets_show_no_rounding(noise: float) -> None:
    assert Operation(SWAP, np.array([noise, 0, 0.5 + noise]), "glide", 2, "c").xyz == "y, x, z+1/2"
    assert Operation(SWAP, np.array([1 + noise, 0, 1 / 3 + noise]), "glide", 2, "g").xyz == "y, x, z+1/3"


def test_a_failed_search_gives_the_own_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no symmetry")

    own = crystal(rocksalt(5.6))
    monkeypatch.setattr("moyopy.MoyoDataset", fail)
    cell = conventional_cell(own)
    assert (cell.space_group, cell.operations, len(cell)) == (0, [], 2)
    assert cell.between(0, 1) == []


def test_orbits_of_a_perovskite() -> None:
    own = crystal(perovskite(4.0, 4.3))
    assert own.orbit[first_atoms(own)].tolist() == [0, 1, 2, 3]
    # Oxygen has two orbits, titanium and barium one each.
    assert orbits_of_elements(own).tolist() == [2, 1, 1]
