from __future__ import annotations

import numpy as np
import pytest

from sen.crystal import SYMBOLS, Crystal, crystal_system, find_symmetry, refine
from tests.sen.structures import CUBE, ROCKSALT, RUTILE


def supercell(lattice, positions, numbers, repeat):
    shifts = np.stack(np.meshgrid(*map(np.arange, repeat), indexing="ij"), -1).reshape(-1, 3)
    positions = ((positions[None] + shifts[:, None]) / repeat).reshape(-1, 3)
    return lattice * np.array(repeat)[:, None], positions, list(numbers) * len(shifts)


def nearest(crystal: Crystal) -> np.ndarray:
    """Distance of each atom to its nearest neighbour."""
    images = np.stack(np.meshgrid(*[range(-2, 3)] * 3), -1).reshape(-1, 1, 1, 3)
    apart = (crystal.positions[:, None] - crystal.positions + images) @ crystal.lattice
    distance = np.linalg.norm(apart, axis=-1)
    return np.where(distance < 1e-8, np.inf, distance).min(axis=(0, 2))


def test_symbols():
    assert len(SYMBOLS) == 118
    assert [SYMBOLS[z - 1] for z in (1, 8, 26, 57, 71, 92, 118)] == ["H", "O", "Fe", "La", "Lu", "U", "Og"]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("unknown", 0, 0),
        ("triclinic", 1, 2),
        ("monoclinic", 3, 15),
        ("orthorhombic", 16, 74),
        ("tetragonal", 75, 142),
        ("trigonal", 143, 167),
        ("hexagonal", 168, 194),
        ("cubic", 195, 230),
    ],
)
def test_crystal_system(name, first, last):
    assert crystal_system(first) == name
    assert crystal_system(last) == name


def test_rocksalt_becomes_primitive():
    crystal = refine(*ROCKSALT)
    assert crystal.space_group == 225
    assert sorted(crystal.numbers) == [11, 17]
    assert crystal.orbit.tolist() == [0, 1]
    assert np.linalg.det(crystal.lattice) == pytest.approx(5.64**3 / 4)
    np.testing.assert_allclose(nearest(crystal), 2.82)


def test_rutile_orbits():
    crystal = refine(*RUTILE)
    assert crystal.space_group == 136
    assert crystal.numbers.tolist() == [22, 22, 8, 8, 8, 8]
    assert crystal.orbit.tolist() == [0, 0, 1, 1, 1, 1]


def test_orbits_are_counted_in_order_of_occurrence():
    lattice, positions, numbers = RUTILE
    order = [3, 0, 5, 1, 2, 4]
    crystal = refine(lattice, positions[order], np.array(numbers)[order])
    firsts = [crystal.orbit.tolist().index(orbit) for orbit in range(2)]
    assert set(crystal.orbit) == {0, 1}
    assert firsts == sorted(firsts)
    for orbit in range(2):
        assert len(set(crystal.numbers[crystal.orbit == orbit])) == 1


@pytest.mark.parametrize("repeat", [(2, 1, 1), (2, 2, 2), (1, 2, 3)])
def test_supercell_gives_the_same_primitive_cell(repeat):
    crystal, again = refine(*RUTILE), refine(*supercell(*RUTILE, repeat))
    assert len(again) == len(crystal)
    assert again.space_group == crystal.space_group
    np.testing.assert_allclose(np.sort(nearest(again)), np.sort(nearest(crystal)), atol=1e-8)


def test_rotated_and_left_handed_cells_give_the_same_crystal():
    lattice, positions, numbers = RUTILE
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    for other in (lattice @ rotation, lattice @ -rotation):
        crystal = refine(other, positions, numbers)
        assert crystal.space_group == 136
        assert len(crystal) == 6
        np.testing.assert_allclose(nearest(crystal), nearest(refine(*RUTILE)), atol=1e-8)


def test_noise_below_the_tolerance_is_refined_away():
    lattice, positions, numbers = supercell(*ROCKSALT, (2, 1, 1))
    noise = np.random.default_rng(1).uniform(-1e-4, 1e-4, positions.shape)
    crystal = refine(lattice, positions + noise @ np.linalg.inv(lattice), numbers)
    assert crystal.space_group == 225
    assert len(crystal) == 2
    assert np.ptp(nearest(crystal)) < 1e-12


def test_an_atom_displaced_as_by_phonopy_stays_displaced():
    quarter = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    lattice, positions, numbers = supercell(5.43 * CUBE, np.concatenate([quarter, quarter + 0.25]), 8 * [14], (2, 2, 2))
    assert len(refine(lattice, positions, numbers)) == 2
    directions = {160: [1, 1, 1], 35: [1, 0, 0], 8: [1, 1, 0], 1: [0.8, -0.6, 0.1]}
    for atom in range(64):
        for space_group, direction in directions.items():
            displaced = np.array(positions)
            displaced[atom] += 0.01 * np.array(direction) / np.linalg.norm(direction) @ np.linalg.inv(lattice)
            crystal = refine(lattice, displaced, numbers)
            assert (len(crystal), crystal.space_group) == (64, space_group)


def test_displaced_atoms_lose_their_symmetry():
    lattice, positions, numbers = ROCKSALT
    noise = np.random.default_rng(2).uniform(-0.05, 0.05, positions.shape)
    crystal = refine(lattice, positions + noise / 5.64, numbers)
    assert crystal.space_group == 1
    assert crystal.orbit.tolist() == list(range(8))


@pytest.fixture
def _wide_search(monkeypatch):
    """moyopy sometimes widens its tolerance."""
    monkeypatch.setattr("sen.crystal.find_symmetry", lambda *cell: find_symmetry(*cell[:3], symprec=0.3))


@pytest.mark.usefixtures("_wide_search")
def test_a_refinement_that_moves_atoms_far_is_not_taken():
    lattice, positions, numbers = ROCKSALT
    positions = positions + np.random.default_rng(2).uniform(-0.05, 0.05, positions.shape) / 5.64
    crystal = refine(lattice, positions, numbers)
    assert crystal.space_group == 225
    assert crystal.orbit.tolist() == list(range(8))
    np.testing.assert_array_equal(crystal.positions, positions)
    np.testing.assert_array_equal(crystal.lattice, lattice)


@pytest.mark.usefixtures("_wide_search")
@pytest.mark.parametrize(("strain", "n_atoms"), [(1e-4, 2), (1e-3, 8), (1e-2, 8)])
def test_a_refinement_that_strains_the_cell_is_not_taken(strain, n_atoms):
    lattice, positions, numbers = ROCKSALT
    crystal = refine(lattice @ np.diag([1 + strain, 1, 1]), positions, numbers)
    assert crystal.space_group == 225
    assert len(crystal) == n_atoms


def test_failed_search_keeps_the_cell():
    crystal = refine(4 * CUBE, [[0, 0, 0], [0, 0, 0]], [1, 1])
    assert crystal.space_group == 0
    assert crystal.orbit.tolist() == [0, 1]
    np.testing.assert_array_equal(crystal.lattice, 4 * CUBE)


def test_symmetry_search_is_silent(capfd, caplog):
    # The doubled cell lacks operations of the cubic primitive cell, about which moyopy warns.
    assert refine(*supercell(*ROCKSALT, (1, 1, 2))).space_group == 225
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
