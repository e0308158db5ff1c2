"""Rows of a MatBench file as refined crystals: what the worker processes make of the bytes they are handed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmarks.errors import printable
from benchmarks.splitter import RowSplitter
from sen.crystal import SYMBOLS, Crystal, refine

__all__ = ["Fault", "flatten", "read_rows"]

_MIN_DISTANCE = 0.1
_MIN_VOLUME = 1e-3
# In MatBench a cell is at least 1.7 Å high and at most 211 Å long. Beyond these limits moyopy may never come back, and
# the neighbour search wants more memory than there is.
_MIN_HEIGHT = 0.5
_MAX_LENGTH = 500
_MAX_ATOMS = 2000
_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)} | {"D": 1, "T": 1}
_SPECIES = re.compile(r"([A-Z][a-z]?)(?:\d*(?:\.\d*)?[+-])?")
_COMMA = re.compile(r"\s*,\s*")


class Fault(NamedTuple):
    """What is wrong with a row: `problem` completes the sentence "row ..."; rows count from the first of the batch."""

    row: int
    problem: str


class _BadRow(Exception):  # noqa: N818 - its message completes the sentence "row ..."
    pass


def read_rows(rows: bytes, columns: list[str], target: str) -> dict[str, NDArray[Any]] | Fault:
    """Parse, check and refine rows, given as comma-separated JSON, up to the first one that cannot be used.

    Returns:
        The flat arrays of the crystals, as in `CrystalTable`, with "count" (atoms of each) in place of "ptr".
    """
    import orjson

    text = b"[" + rows.strip().removeprefix(b",") + b"]"
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            # NaN is no JSON, but Python writes it: its own parser reads it, so that the row can be named.
            parsed = json.loads(text.decode())
        except UnicodeDecodeError as error:
            before = RowSplitter()
            before.feed(b'{"data":' + text[: error.start])
            return Fault(before.n_rows, f"is not valid JSON ({error})")
        except (ValueError, RecursionError) as error:
            return Fault(_unreadable_row(text.decode()), f"is not valid JSON ({getattr(error, 'msg', error)})")

    crystals, targets = [], []
    structure_at, target_at = columns.index("structure"), columns.index(target)
    for i, row in enumerate(parsed):
        if not isinstance(row, list) or len(row) != len(columns):
            return Fault(i, f"is not a list of {len(columns)} values, one for each column")
        try:
            targets.append(_read_target(row[target_at], target))
            crystals.append(refine(*_read_structure(row[structure_at])))
        except _BadRow as error:
            return Fault(i, printable(error, 300))
        except RecursionError:
            return Fault(i, "is nested too deeply")
    return flatten(crystals, targets)


def _unreadable_row(rows: str) -> int:
    """Return which row of a JSON list is the first that Python's parser cannot read, or has no comma behind it."""
    decoder = json.JSONDecoder()
    row, at = 0, len(rows) - len(rows[1:].lstrip())
    while True:
        try:
            _, at = decoder.raw_decode(rows, at)
        except (ValueError, RecursionError):
            return row
        comma = _COMMA.match(rows, at)
        if comma is None:
            return row
        row, at = row + 1, comma.end()


def flatten(crystals: Sequence[Crystal], targets: ArrayLike) -> dict[str, NDArray[Any]]:
    """Return crystals as flat arrays as in `CrystalTable`, with "count" (atoms of each) in place of "ptr"."""
    return {
        "lattice": np.stack([crystal.lattice for crystal in crystals]),
        "positions": np.concatenate([crystal.positions for crystal in crystals]),
        "numbers": np.concatenate([crystal.numbers for crystal in crystals]),
        "orbit": np.concatenate([crystal.orbit for crystal in crystals]),
        "space_group": np.array([crystal.space_group for crystal in crystals], dtype=np.int16),
        "target": np.array(targets, dtype=np.float64),
        "count": np.array([len(crystal) for crystal in crystals]),
    }


def _read_target(value: object, name: str) -> float:
    # Compared, not converted: JSON has integers that no float holds.
    if not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise _BadRow(f"has no number as its {name!r} but {json.dumps(value)[:40]}")
    return float(value)


def _read_structure(structure: object) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int]]:
    """Return lattice, fractional coordinates and atomic numbers of a pymatgen dictionary."""
    if not isinstance(structure, dict):
        raise _BadRow("has no structure")
    try:
        lattice = np.array(structure["lattice"]["matrix"], dtype=np.float64)
        sites = structure["sites"]
        positions = np.array([site["abc"] for site in sites], dtype=np.float64)
        numbers = [_atomic_number(site["species"], i) for i, site in enumerate(sites)]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise _BadRow(f"has a structure that is no pymatgen dictionary ({type(error).__name__}: {error})") from error
    if not sites:
        raise _BadRow("has a structure without atoms")
    if len(sites) > _MAX_ATOMS:
        raise _BadRow(f"has {len(sites)} atoms, and cells of more than {_MAX_ATOMS} are not supported")
    if lattice.shape != (3, 3) or not np.isfinite(lattice).all():
        raise _BadRow("has a lattice that is not 3 x 3 finite numbers")
    if positions.shape != (len(sites), 3) or not np.isfinite(positions).all():
        raise _BadRow("has coordinates that are not 3 finite numbers for each atom")
    if np.abs(lattice).max() > _MAX_LENGTH:
        raise _BadRow(f"has a lattice vector longer than {_MAX_LENGTH} Å")
    if abs(np.linalg.det(lattice)) < _MIN_VOLUME:
        raise _BadRow("has a cell without volume")
    _refuse_close_atoms(lattice, positions)
    return lattice, positions, numbers


def _atomic_number(species: list[dict[str, Any]], site: int) -> int:
    if len(species) != 1 or not abs(species[0].get("occu", 1) - 1) <= 1e-6:  # so that NaN is refused
        found = ", ".join(f"{entry.get('element')} {entry.get('occu')}" for entry in species)
        raise _BadRow(f"is disordered (site {site}: {found or 'vacant'}), and only ordered crystals have a graph")
    symbol = str(species[0].get("element"))
    charged = _SPECIES.fullmatch(symbol)
    number = _NUMBERS.get(charged[1]) if charged else None
    if number is None:
        raise _BadRow(f"has an unknown element {symbol!r} (site {site})")
    return number


def _refuse_close_atoms(lattice: NDArray[np.float64], positions: NDArray[np.float64]) -> None:
    """Refuse atoms closer than 0.1 Å: no symmetry search survives them, and no crystal has them."""
    if np.linalg.norm(lattice, axis=1).min() < _MIN_DISTANCE:
        raise _BadRow(f"has a lattice vector shorter than {_MIN_DISTANCE} Å")
    height = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0).max()
    if height < _MIN_HEIGHT:
        raise _BadRow(f"has a cell only {height:.2g} Å high: if it is a skewed cell of a crystal, reduce it")
    # Wrapping each coordinate finds the nearest image wherever the distance is far below the height of the cell.
    apart = positions[:, None] - positions
    apart = (apart - np.rint(apart)) @ lattice
    square = np.einsum("ijk,ijk->ij", apart, apart)
    np.fill_diagonal(square, np.inf)
    if square.min() < _MIN_DISTANCE**2:
        first, second = np.unravel_index(square.argmin(), square.shape)
        raise _BadRow(f"has atoms closer than {_MIN_DISTANCE} Å (sites {first} and {second})")
