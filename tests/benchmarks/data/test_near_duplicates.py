"""Rows with the same or nearly the same crystal."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.data.crystal_table import CrystalTable
from benchmarks.data.near_duplicates import NearDuplicates, find_known, find_near_duplicates
from tests.benchmarks.conftest import rocksalts, structure
from tests.benchmarks.data.made_own_data import load, write_json

A, B = 5.64, 5.65


def rock_salt(a: float = A, move: float = 0.0, symbols: str = "Na Cl", repeat: int = 1) -> dict:
    """A conventional cell, or several along z, with an atom moved by so many Å along z."""
    fcc = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    first, second = symbols.split()
    sites = np.concatenate([(fcc + shift + [0, 0, n]) / [1, 1, repeat] for n in range(repeat) for shift in (0, 0.5)])
    sites[0, 2] += move / (a * repeat)
    return structure(a * np.diag([1.0, 1.0, repeat]), repeat * (4 * [first] + 4 * [second]), sites)


def find(folder: Path, rows: list[tuple[dict, float]]) -> NearDuplicates:
    table = load(write_json(folder / "mine", [(f"r{i}", *row) for i, row in enumerate(rows)]), jobs=1).table
    return find_near_duplicates(table, jobs=1)


def test_the_same_and_nearly_the_same_crystals_are_found(tmp_path):
    rows = [
        (rock_salt(), 1.0),
        (rock_salt(6.0), 1.5),
        (rock_salt(repeat=2), 1.0),  # the same with the same target
        (rock_salt(move=0.01, repeat=2), 2.0),
        (rock_salt(move=0.012, repeat=2), 7.0),  # near the one before
        (rock_salt(symbols="Cl Na", move=0.01, repeat=2), 3.0),  # another atom is moved
        (rock_salt(symbols="K Cl"), 1.0),
    ]
    found = find(tmp_path, rows)
    assert found.same.tolist() == [0, 2]
    assert found.near.tolist() == [3, 4, 5]
    assert (found.farthest, found.difference) == ((3, 4), 5.0)


def test_the_same_crystal_with_another_target_is_both(tmp_path):
    found = find(tmp_path, [(rock_salt(), 1.0), (rock_salt(move=1e-4), 2.0), (rock_salt(5.7), 0.0)])
    assert found.same.tolist() == found.near.tolist() == [0, 1]


def test_other_crystals_are_not_taken_for_near_ones(tmp_path):
    exchanged = structure(A * np.eye(3), ["Na", "Na", "Cl"], np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]]))
    other = structure(A * np.eye(3), ["Na", "Cl", "Na"], np.array([[0, 0, 0], [0.5, 0.5, 0], [0.4, 0, 0.5]]))
    alone = structure(20 * np.eye(3), ["Ne"], np.zeros((1, 3)))
    also_alone = structure(21 * np.eye(3), ["Ne"], np.zeros((1, 3)))
    rows = [exchanged, other, alone, also_alone, *(crystal for crystal, _ in rocksalts(20))]
    found = find(tmp_path, [(crystal, float(i)) for i, crystal in enumerate(rows)])
    assert not len(found.same)
    assert not len(found.near)
    assert found.farthest == ()


def test_many_alike_take_no_time_that_grows_with_their_square(tmp_path):
    found = find(tmp_path, [(rock_salt(A + 1e-5 * i), float(i)) for i in range(300)])
    assert found.near.tolist() == list(range(300))


def test_crystals_of_other_data_are_found_by_formula_and_cell(tmp_path):
    def table(name: str, *crystals: dict) -> CrystalTable:
        rows = [(f"r{i}", crystal, float(i)) for i, crystal in enumerate(crystals)]
        return load(write_json(tmp_path / name, rows), jobs=1).table

    known = table("known", rock_salt(6.0), rock_salt(), rock_salt(symbols="K Cl"))
    asked = table("asked", rock_salt(A + 0.005, repeat=2), rock_salt(symbols="K Br"), rock_salt(5.9), rock_salt(6.0))
    assert find_known(asked, known, np.arange(3), jobs=1).tolist() == [0, 3]
    assert find_known(asked, known, np.array([1, 2]), jobs=1).tolist() == [0]
