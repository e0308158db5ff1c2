from __future__ import annotations

import numpy as np
import pytest

from benchmarks.data.poscar import parse_poscar
from benchmarks.data.raw_crystal import BadRow

HEAD = "tin oxide"
VECTORS = "4.74 0 0\n0 4.74 0\n0 0 3.19"
NAMES = "Sn O\n2 4"
ATOMS = ["0 0 0", "0.5 0.5 0.5", "0.307 0.307 0", "0.693 0.693 0", "0.807 0.193 0.5", "0.193 0.807 0.5"]
POSITIONS = np.array([line.split() for line in ATOMS], dtype=float)
LATTICE = np.diag([4.74, 4.74, 3.19])
CARTESIAN = [" ".join(f"{value:.5f}" for value in row) for row in POSITIONS @ LATTICE]


def poscar(
    *, scale: str = "1.0", vectors: str = VECTORS, names: str = NAMES, mode: str = "Direct", atoms: list[str] = ATOMS
) -> str:
    return "\n".join([HEAD, scale, vectors, names, mode, *atoms, ""])


def check(text: str) -> None:
    """Assert that a text is tin oxide in its cell of 4.74 x 4.74 x 3.19 Å."""
    crystal = parse_poscar(text)
    assert crystal.numbers == [50, 50, 8, 8, 8, 8]
    np.testing.assert_allclose(crystal.lattice, LATTICE, atol=1e-4)
    np.testing.assert_allclose(crystal.positions, POSITIONS, atol=1e-4)


HALF = "2.37 0 0\n0 2.37 0\n0 0 1.595"
UNIT = "1 0 0\n0 1 0\n0 0 1"


@pytest.mark.parametrize("mode", ["direct", "D", "Cartesian", "k", "c", "Selective dynamics\nDirect", "s\nKartesian"])
@pytest.mark.parametrize(
    ("scale", "vectors", "factors"),
    [
        ("1.0", VECTORS, [1, 1, 1]),
        ("2", HALF, [2, 2, 2]),
        ("0.2d1", HALF, [2, 2, 2]),
        (f"-{4.74 * 4.74 * 3.19:.8f}", VECTORS, [1, 1, 1]),
        (f"-{4.74 * 4.74 * 3.19:.8f}", HALF, [2, 2, 2]),
        ("4.74 4.74 3.19", UNIT, [4.74, 4.74, 3.19]),
    ],
)
def test_scale_holds_for_vectors_and_cartesian_positions(scale, vectors, factors, mode):
    is_cartesian = mode[-1] == "n" or mode in {"k", "c"}
    atoms = POSITIONS @ LATTICE / factors if is_cartesian else POSITIONS
    lines = [" ".join(f"{value:.6f}" for value in row) for row in atoms]
    if mode[0] in "Ss":
        lines = [f"{line} T F T" for line in lines]
    check(poscar(scale=scale, vectors=vectors, mode=mode, atoms=lines))


@pytest.mark.parametrize(
    "names",
    [
        "Sn O\n2 4",
        "Sn_d O_s\n2 4",
        "Sn_d/0a1b2c3d O/9f8e7d6c\n2 4",
        "Sn\nO\n2\n4",
        "Sn Sn O O\n1 1\n1 3",
        "Sn O ! elements\n2 4 # counts",
        "Sn O H\n2 4 0",
    ],
)
def test_ways_to_name_the_elements(names):
    check(poscar(names=names))


def test_elements_behind_the_positions():
    symbols = ["Sn", "Sn", "O", "O", "O", "O"]
    check(poscar(names="2 4", atoms=[f"{line} {name}" for line, name in zip(ATOMS, symbols, strict=True)]))
    check(poscar(names="2 4", atoms=[f"{line} T T F {name}" for line, name in zip(ATOMS, symbols, strict=True)]))
    check(poscar(atoms=[f"{line} {name}" for line, name in zip(ATOMS, symbols, strict=True)]))
    fluorine = parse_poscar(poscar(names="1", atoms=["0 0 0 F"]))
    assert fluorine.numbers == [9]


def test_what_follows_the_positions_is_passed_over():
    velocities = ["", "0.1 0 0", "0 0.1 0"]
    check(poscar(atoms=[*ATOMS, *velocities]))
    check(poscar(atoms=[*ATOMS, "Lattice velocities and vectors", "1", "0 0 0"]))
    check(poscar(atoms=[f"{line} Sn1 0.5" for line in ATOMS]))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (poscar(names="2 4"), "names no elements: add them in line 6"),
        (poscar(names="2 4", atoms=[f"{line} F F F" for line in ATOMS]), "names no elements"),
        (poscar(names="Sn O H\n2 4"), "names 3 elements and counts 2"),
        (poscar(names="Sn\n2 4"), "names 1 elements and counts 2"),
        (poscar(names="Sn O"), "without atoms"),
        (poscar(names="Sn Ox\n2 4"), "unknown element 'Ox'"),
        (poscar(names="Sn O\n0 0", atoms=[]), "without atoms"),
        (poscar(atoms=ATOMS[:-1]), "it ends after line"),
        (poscar(atoms=[*ATOMS, "0.2 0.2 0.2"]), "more positions than its counts say .6."),
        (poscar(atoms=[*ATOMS[:-1], "0.2 x 0.2"]), "line 14 does not begin with 3 numbers: '0.2 x 0.2'"),
        (poscar(atoms=[f"{line} S" for line in ATOMS]), "calls atom 0 Sn .* but S behind its position"),
        (poscar(mode="0 0 0"), "names 2 elements and counts 8"),
        (poscar(mode="Somehow\nElse"), "neither Direct nor Cartesian: 'Else'"),
        (poscar(scale="1 2"), "line 2 must have"),
        (poscar(scale="1 1 -1"), "line 2 must have"),
        (poscar(scale="0"), "line 2 must have"),
        (poscar(scale="one"), "line 2 does not begin with 1 numbers"),
        (poscar(scale="-60", vectors="1 0 0\n1 0 0\n0 0 1"), "without volume"),
        (poscar(atoms=[*ATOMS[:-1], "0.5 0.5 0.58"]), "too close to be right .sites 1 and 5.: Sn and O are 0.26 Å"),
        (HEAD, "cannot be read"),
    ],
)
def test_what_is_open_or_broken_is_refused(text, problem):
    with pytest.raises(BadRow, match=problem):
        parse_poscar(text)
