from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from reports.environments.operations import (
    KINDS,
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


@pytest.mark.parametrize(
    ("rotation", "translation", "kind", "order"),
    [
        (EYE, (0, 0, 0), "identity", 1),
        (EYE, (0, 0.5, 0.5), "translation", 1),
        (-EYE, (0, 0, 0), "inversion", 1),
        # An inversion has a centre somewhere, whatever its translation.
        (-EYE, (0.5, 0.25, 0), "inversion", 1),
        (M_X, (0, 0, 0), "mirror", 2),
        # The translation across the plane only moves the plane.
        (M_X, (0.5, 0, 0), "mirror", 2),
        (M_X, (0, 0.5, 0), "glide", 2),
        (M_X, (0.5, 0.25, 0.25), "glide", 2),
        (Z2, (0.5, 0.5, 0), "rotation", 2),
        (Z2, (0, 0, 0.5), "screw", 2),
        (Z4, (0, 0, 0.25), "screw", 4),
        (Z4, (0.5, 0, 0), "rotation", 4),
        (Z6, (0, 0, 1 / 6), "screw", 6),
        (Z6, (0, 0, 0), "rotation", 6),
        (-Z4, (0, 0, 0.5), "rotoinversion", 4),
        (-CYCLE, (0.5, 0, 0), "rotoinversion", 3),
        # Along a body diagonal lattice vectors have shares of thirds.
        (CYCLE, (0.5, 0, 0.5), "rotation", 3),
        (CYCLE, (1 / 3, 1 / 3, 1 / 3), "rotation", 3),
        (CYCLE, (0.5, 0, 0), "screw", 3),
        # The mirror x, y -> y, x: with a lattice vector less, half of (1, 1) is half of (1, -1), which is across it.
        (np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]), (0.5, 0.5, 0), "mirror", 2),
        (np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]), (0.5, 0, 0), "glide", 2),
        (np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]]), (0.5, -0.5, 0), "mirror", 2),
    ],
)
def test_kinds_by_hand(rotation: np.ndarray, translation: tuple[float, ...], kind: str, order: int) -> None:
    assert classify(rotation, np.array(translation)) == (kind, order)


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
        ([-1, 1, -1, 0, 0.5, 0], 4, "screw", "2-fold screw", "-x, y+1/2, -z"),
        ([-1, 1, -1, 0, 0, 0], 3, "rotation", "2-fold rotation", "-x, y, -z"),
        ([1, -1, 1, 0, 0, 0.5], 7, "glide", "glide", "x, -y, z+1/2"),
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


def test_rocksalt() -> None:
    cell = conventional_cell(crystal(rocksalt(5.64)))
    assert len(cell) == 8
    assert len(cell.operations) == 191
    sodium = np.flatnonzero(cell.numbers == 11)
    for other in sodium[1:]:
        operations = cell.between(sodium[0], other)
        assert operations[0].kind == "translation"
        assert {"inversion", "rotation", "mirror"} <= {o.kind for o in operations}
        assert len(operations) == 48
    assert not cell.between(sodium[0], int(np.flatnonzero(cell.numbers == 17)[0]))


def test_diamond() -> None:
    cell = conventional_cell(refine(3.57 * FCC, [[0, 0, 0], [0.25, 0.25, 0.25]], [6, 6]))
    assert (cell.space_group, len(cell)) == (227, 8)
    firsts = Counter(cell.between(0, j)[0].kind for j in range(1, 8))
    # Three atoms of the same sublattice, four of the other one.
    assert firsts == {"translation": 3, "inversion": 4}
    kinds = Counter(o.kind for o in cell.operations)
    assert kinds["glide"]
    assert kinds["screw"]
    assert kinds["translation"] == 3


def test_close_packing() -> None:
    lattice = 2.66 * np.array([[1, 0, 0], [-0.5, 3**0.5 / 2, 0], [0, 0, 1.633]])
    cell = conventional_cell(refine(lattice, [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]], [27, 27]))
    assert cell.space_group == 194
    kinds = [o.kind for o in cell.between(0, 1)]
    assert Counter(kinds) == {"inversion": 1, "rotation": 3, "rotoinversion": 2, "screw": 3, "glide": 3}
    assert kinds == sorted(kinds, key=KINDS.index)


def test_wurtzite_is_related_by_screws_and_glides_alone() -> None:
    cell = conventional_cell(crystal(wurtzite(3.8)))
    assert cell.space_group == 186
    assert {o.kind for o in cell.between(*np.flatnonzero(cell.numbers == 30).tolist())} == {"screw", "glide"}


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
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    assert Operation(swap, np.array([noise, 0, 0.5 + noise]), "glide", 2).xyz == "y, x, z+1/2"
    assert Operation(swap, np.array([1 + noise, 0, 1 / 3 + noise]), "glide", 2).xyz == "y, x, z+1/3"


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
