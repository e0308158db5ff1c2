from __future__ import annotations

import gemmi
import numpy as np
import pytest

from benchmarks.data.raw_crystal import BadRow
from benchmarks.data.space_groups import (
    IDENTITY,
    fits_cell,
    group_of_hall,
    matrices,
    parse_operations,
    settings_of_number,
    settings_of_symbol,
    type_number,
)

CUBIC, TETRAGONAL = 4.0 * np.eye(3), np.diag([4.0, 4.0, 4.5])


def test_every_setting_of_every_number_is_of_its_type() -> None:
    for number in range(1, 231):
        settings = settings_of_number(number)
        assert {type_number(setting) for setting in settings} == {number}
    assert settings_of_number(231) == []


def test_symbols_numbers_and_hall_symbols_mean_the_same_groups() -> None:
    for entry in gemmi.spacegroup_table():
        group = group_of_hall(entry.hall)
        assert group in settings_of_number(entry.number)
        assert group in settings_of_symbol(entry.xhm(), None)
    assert group_of_hall("P nonsense") is None
    assert settings_of_symbol("P nonsense", None) == []


@pytest.mark.parametrize(
    ("symbol", "code", "n_settings"),
    [
        ("P 21/c", None, 2),  # the cell says whether a or b is the unique axis
        ("P2_1/c", None, 2),
        ("P 1 21/c 1", None, 1),
        ("F d -3 m", None, 2),
        ("F d -3 m", "2", 1),
        ("F d -3 m S", None, 1),
        ("F d -3 m S", "2", 0),  # the symbol and the code contradict each other
    ],
)
def test_what_a_symbol_leaves_open(symbol: str, code: str | None, n_settings: int) -> None:
    assert len(settings_of_symbol(symbol, code)) == n_settings


def test_operations_are_a_whole_group_or_a_bad_row() -> None:
    assert parse_operations(["x,y,z"]) == IDENTITY
    centred = parse_operations(["x,y,z", "-x,-y,-z"], ["x,y,z", "x+1/2,y+1/2,z+1/2"])
    assert len(centred) == 4
    with pytest.raises(BadRow, match="lists 2 symmetry operations, which are not all: 4 follow from them"):
        parse_operations(["x,y,z", "-y,x,z"])
    with pytest.raises(BadRow, match="symmetry operations that cannot be read"):
        parse_operations(["x,y,w"])


def test_a_shifted_group_is_of_the_same_type_and_matrices_begin_with_the_identity() -> None:
    # P 21/c with its origin moved by a twelfth of each axis, which no table lists.
    shifted = parse_operations(["x,y,z", "-x+1/6,-y+1/6,-z+1/6", "-x+1/6,y+1/2,-z+2/3", "x,-y+2/3,z+1/2"])
    assert shifted not in settings_of_number(14)
    assert type_number(shifted) == 14
    rotations, translations = matrices(shifted)
    assert (rotations[0] == np.eye(3)).all()
    assert (translations[0] == 0).all()


def test_a_cell_has_the_lengths_that_its_operations_keep() -> None:
    (rocksalt,) = settings_of_number(225)
    assert fits_cell(CUBIC, rocksalt)
    assert not fits_cell(TETRAGONAL, rocksalt)
    assert all(fits_cell(TETRAGONAL, group) for group in settings_of_symbol("P 4/m m m", None))
