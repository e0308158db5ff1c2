"""The structure in a POSCAR or CONTCAR, whose elements have to be named.

The format is VASP's: a comment; one scaling factor or three, or the negative volume of the cell; three lattice vectors;
symbols of the elements and their counts, each in one line or several; "Selective dynamics" or nothing; "Direct" or
"Cartesian"; the positions. What follows, such as velocities, is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.text import whole_number
from benchmarks.data.raw_crystal import NUMBERS, BadRow, RawCrystal, check, refuse_short_bonds

__all__ = ["parse_poscar"]

_COMMENT = re.compile(r"[!#].*")
_FLAGS = frozenset({"T", "F", ".TRUE.", ".FALSE."})
_POSITIONS = frozenset("DFCK")
# "Fe_pv" is a potential of iron, and VASP 6.4 writes a hash behind it: "Fe_pv/1a2b3c".
_POTENTIAL = re.compile(r"[_/]")


class _Lines:
    """Lines of a POSCAR as words, one after the other, without comments."""

    def __init__(self, text: str) -> None:
        self._lines = [_COMMENT.sub("", line).split() for line in text.splitlines()]
        self.at = 1  # The first line is a comment.

    def __bool__(self) -> bool:
        return self.at < len(self._lines)

    def peek(self) -> list[str]:
        return self._lines[self.at] if self else []

    def take(self) -> list[str]:
        words = self.peek()
        if not self:
            raise _unreadable(f"it ends after line {len(self._lines)}")
        self.at += 1
        return words

    def numbers(self, least: int = 3) -> list[float]:
        """Take a line that begins with at least this many numbers, and return all of them, up to three."""
        words = self.take()
        numbers = [number for number in map(_number, words[:3]) if number is not None]
        if len(numbers) < least:
            raise _unreadable(f"line {self.at} does not begin with {least} numbers: {' '.join(words)!r}")
        return numbers


def parse_poscar(text: str) -> RawCrystal:
    """Parse a POSCAR.

    Raises:
        BadRow: It cannot be parsed, names no elements or not as many as it counts, or has a structure that cannot be
            used.
    """
    lines = _Lines(text)
    factors = np.array(lines.numbers(1))
    vectors = np.array([lines.numbers() for _ in range(3)])
    scale = _scale(factors, vectors)
    names, counts = _names_and_counts(lines)
    if not any(counts):
        raise BadRow("has a structure without atoms")
    mode = lines.take()
    is_selective = mode[:1] != [] and mode[0][0].upper() == "S"
    if is_selective:
        mode = lines.take()
    if not mode or mode[0][0].upper() not in _POSITIONS:
        raise _unreadable(f"line {lines.at} says neither Direct nor Cartesian: {' '.join(mode)!r}")
    coordinates, behind = [], []
    for _ in range(sum(counts)):
        behind.append(lines.peek()[3:])
        coordinates.append(lines.numbers())
    if len(lines.peek()) >= 3 and None not in map(_number, lines.peek()[:3]):
        raise BadRow(f"has a POSCAR with more positions than its counts say ({sum(counts)})")
    symbols = _symbols(names, counts, [_written(words, is_selective=is_selective) for words in behind])
    lattice = vectors * scale
    positions = np.array(coordinates).reshape(-1, 3)
    if mode[0][0].upper() in {"C", "K"} and np.isfinite(lattice).all() and np.linalg.det(lattice):
        positions = positions * scale @ np.linalg.inv(lattice)
    return refuse_short_bonds(check(lattice, positions, symbols))


def _scale(factors: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the factors of the Cartesian components, [1] or [3]."""
    if len(factors) == 1 and factors[0] < 0:
        volume = abs(np.linalg.det(vectors))
        if not volume > 0:
            raise BadRow("has a cell without volume")
        return np.array([np.cbrt(-factors[0] / volume)])
    if len(factors) == 2 or not (factors > 0).all():
        raise _unreadable("line 2 must have one scaling factor, three positive ones, or a negative volume")
    return factors


def _names_and_counts(lines: _Lines) -> tuple[list[str], list[int]]:
    """Take the symbols of the elements, none in the format of VASP 4, and the number of atoms of each."""
    names: list[str] = []
    while lines and not _are_counts(lines.peek()):
        names += lines.take()
    counts: list[int] = []
    while lines and _are_counts(lines.peek()):
        counts += map(int, lines.take())
    if not counts:
        raise _unreadable("it has no line with the numbers of atoms")
    if names and len(names) != len(counts):
        raise BadRow(f"has a POSCAR that names {len(names)} elements and counts {len(counts)}")
    return [_POTENTIAL.split(name)[0] for name in names], counts


def _are_counts(words: Sequence[str]) -> bool:
    return bool(words) and all(whole_number(word) is not None for word in words)


def _written(words: Sequence[str], *, is_selective: bool) -> str | None:
    """Return the element that stands behind a position; None without one."""
    if is_selective or (len(words) >= 3 and _FLAGS.issuperset(map(str.upper, words[:3]))):
        words = words[3:]
    return words[0] if words and words[0] in NUMBERS else None


def _symbols(names: Sequence[str], counts: Sequence[int], written: Sequence[str | None]) -> list[str]:
    """Return the element of each atom, from the line that names them or else from behind the positions."""
    if not names:
        if None in written:
            raise BadRow("has a POSCAR that names no elements: add them in line 6")
        return [symbol for symbol in written if symbol is not None]
    symbols = list(np.repeat(names, counts))
    for i, (symbol, other) in enumerate(zip(symbols, written, strict=True)):
        if other not in {None, symbol}:
            raise BadRow(
                f"has a POSCAR that calls atom {i} {symbol} by its names and counts, but {other} behind its position"
            )
    return [str(symbol) for symbol in symbols]


def _number(word: str) -> float | None:
    """Return a number as Fortran reads it; None if it is none."""
    try:
        return float(re.sub("[dD]", "e", word)) if "_" not in word else None
    except ValueError:
        return None


def _unreadable(problem: str) -> BadRow:
    return BadRow(f"has a POSCAR that cannot be read ({problem})")
