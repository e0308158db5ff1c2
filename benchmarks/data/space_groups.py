"""Groups of symmetry operations: what operations, symbols and numbers in a file mean. gemmi has the tables."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from benchmarks.data.raw_crystal import BadRow

__all__ = [
    "IDENTITY",
    "Group",
    "fits_cell",
    "group_of_hall",
    "matrices",
    "parse_operations",
    "settings_of_number",
    "settings_of_symbol",
    "type_number",
]

#: Rotation and translation of each operation on fractional coordinates, row by row in units of 1/24.
Group = frozenset[tuple[tuple[int, ...], tuple[int, ...]]]

# Symmetry operations may change lengths in the cell by this share.
_METRIC_TOLERANCE = 0.01
# What names the origin or the axes stands behind a symbol; in ICSD "S" and "Z" are the origins 1 and 2.
_EXTENDED_SYMBOL = re.compile(r"(.+?)\s*(?:(?::\s*)([12HRhr])|([HRSZ]))?")
_ICSD_ORIGIN = {"S": "1", "Z": "2"}


def _group(operations: Iterable[Any]) -> Group:
    """Return operations of gemmi's as a set, with translations within the cell."""
    return frozenset((tuple(itertools.chain(*op.rot)), tuple(op.wrap().tran)) for op in operations)


#: The group of a crystal without symmetry.
IDENTITY = _group([gemmi.Op()])


def parse_operations(texts: Sequence[str], centring: Sequence[str] = ("x,y,z",)) -> Group:
    """Return the group of operations, each combined with the centring translations.

    Raises:
        BadRow: An operation cannot be read, or they are not all of a group.
    """
    try:
        operations, shifts = ([gemmi.parse_triplet(text, "x") for text in each] for each in (texts, centring))
        group = _group(shift.combine(operation) for shift, operation in itertools.product(shifts, operations))
        whole = _gemmi_group(group)
        whole.add_missing_elements()
    except RuntimeError as error:
        raise BadRow(f"has a CIF with symmetry operations that cannot be read ({error})") from error
    if _group(whole) != group:
        raise BadRow(
            f"has a CIF that lists {len(group)} symmetry operations, which are not all: {len(whole)} follow from them"
        )
    return group


def _gemmi_group(group: Group) -> Any:
    operations = []
    for rotation, translation in sorted(group):
        operation = gemmi.Op()
        operation.rot = [list(rotation[i : i + 3]) for i in (0, 3, 6)]
        operation.tran = list(translation)
        operations.append(operation)
    return gemmi.GroupOps(operations)


def group_of_hall(symbol: str) -> Group | None:
    """Return the group of a Hall symbol, with or without a shift of the origin; None where it is unknown."""
    try:
        return _group(gemmi.symops_from_hall(symbol))
    except RuntimeError:
        return None


@functools.lru_cache(maxsize=1024)
def settings_of_symbol(symbol: str, code: str | None) -> list[Group]:
    """Return the settings that a Hermann-Mauguin symbol may mean, none where it is unknown.

    Args:
        symbol: The symbol in any spacing, with or without its origin (":1", ":2", in ICSD "S", "Z") or its axes (":H",
            ":R").
        code: Code of the coordinate system, of which "1", "2", "h" and "r" name the same.
    """
    match = _EXTENDED_SYMBOL.fullmatch(symbol)
    if match is None:
        return []
    # gemmi takes an underscore for a blank, which it is not in "P2_1/c".
    names = (match[1], re.sub(r"([2346])_([1-5])", r"\1\2", match[1]))
    named = next(filter(None, map(gemmi.find_spacegroup_by_name, names)), None)
    if named is None:
        return []
    extensions = {(code or "").upper()} & {"1", "2", "H", "R"}
    if extension := match[2] or match[3]:
        extensions.add(_ICSD_ORIGIN.get(extension, extension.upper()))
    # "P 21" leaves the unique axis to the cell, "P 1 21 1" does not.
    is_short = _short(named) == re.sub(r"[ _]", "", match[1]).lower()
    return [
        _group(entry.operations())
        for entry in gemmi.spacegroup_table()
        if entry.number == named.number
        and (entry.hm == named.hm or (is_short and _short(entry) == _short(named)))
        and extensions <= {entry.ext}
    ]


def _short(entry: Any) -> str:
    """Return the symbol of a setting without the axes along which there is no symmetry: "p21/c"."""
    return "".join(part for part in entry.hm.split() if part != "1").lower()


@functools.lru_cache(maxsize=1024)
def settings_of_number(number: float) -> list[Group]:
    """Return the settings of a space group number, none where it is unknown."""
    groups = (_group(entry.operations()) for entry in gemmi.spacegroup_table() if entry.number == number)
    return list(dict.fromkeys(groups))


@functools.lru_cache(maxsize=1024)
def type_number(group: Group) -> int:
    """Return the number of the space group type of operations, whatever their setting; 0 where it is not found."""
    entry: Any = gemmi.find_spacegroup_by_ops(_gemmi_group(group))
    if entry is not None:
        return int(entry.number)
    import moyopy

    rotations, translations = matrices(group)
    centring = translations[(rotations == np.eye(3)).all(axis=(1, 2))]
    triples = itertools.combinations([*centring, *np.eye(3)], 3)
    basis = next(
        basis for basis in map(np.transpose, triples) if math.isclose(abs(np.linalg.det(basis)), 1 / len(centring))
    )
    inverse = np.linalg.inv(basis)
    # One operation for each rotation: the others differ by a translation of the primitive cell.
    primitive = {
        tuple(np.rint(inverse @ rotation @ basis).astype(int).ravel().tolist()): (inverse @ translation).tolist()
        for rotation, translation in zip(rotations, translations, strict=True)
    }
    try:
        found = moyopy.SpaceGroup(
            [np.reshape(rotation, (3, 3)).tolist() for rotation in primitive], list(primitive.values())
        )
    except ValueError:
        return 0
    return int(found.number)


def matrices(group: Group) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rotations [n, 3, 3] and translations [n, 3] of operations on fractional coordinates.

    The identity is the first.
    """
    ordered = sorted(group, key=lambda operation: (operation not in IDENTITY, operation))
    rotations = np.array([rotation for rotation, _ in ordered], dtype=np.float64).reshape(-1, 3, 3)
    return rotations / gemmi.Op.DEN, np.array([shift for _, shift in ordered]) / gemmi.Op.DEN


def fits_cell(lattice: NDArray[np.float64], group: Group) -> bool:
    """Return whether operations keep the lengths and angles of a cell."""
    rotations, _ = matrices(group)
    metric = lattice @ lattice.T
    lengths = np.sqrt(np.diag(metric))
    change = rotations.transpose(0, 2, 1) @ metric @ rotations - metric
    return bool((np.abs(change) <= 2 * _METRIC_TOLERANCE * np.outer(lengths, lengths)).all())
