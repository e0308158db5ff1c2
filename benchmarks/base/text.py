"""Text of other people, such as ids, file names and names of plug-ins, fit for terminals, pages and spreadsheets."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence

__all__ = ["csv_text", "visible", "whole_number"]

# Spreadsheets take a cell that begins so for a formula, the full-width signs included (OWASP, "CSV Injection").
_FORMULA = re.compile(r"[=+\-@\t\n＝＋－＠]")  # noqa: RUF001 - the full-width signs are meant
_BREAKS = "\n\t"
# Python has digits of other scripts, too, and refuses to read numbers of thousands of digits.
_WHOLE = re.compile("[0-9]{1,18}")


class _Visible(dict[int, str]):
    """Table for `str.translate`, filled as characters come."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        is_shown = char.isprintable() or char in _BREAKS or unicodedata.category(char) == "Zs"
        self[code] = char if is_shown else char.encode("unicode_escape").decode()
        return self[code]


_VISIBLE = _Visible()


def visible(text: str) -> str:
    r"""Return text with each character that a reader cannot see replaced by its escape, such as `\x1b` or `\u202e`.

    These are controls of a terminal, marks that turn or hide what follows, line and paragraph separators, halves of
    surrogate pairs (bytes of a file name that are not UTF-8) and characters without a meaning. Blanks, line breaks and
    tabs stay.
    """
    return text.translate(_VISIBLE)


def whole_number(text: str) -> int | None:
    """Return the number that up to 18 ASCII digits write; None for any other text."""
    return int(text) if _WHOLE.fullmatch(text) else None


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV for people, who open it in a spreadsheet: numbers in full, None as an empty cell.

    An apostrophe comes before text that a spreadsheet would compute as a formula. Files that sen-bench reads back, such
    as predictions.csv, hold ids as they are and are not written by this function.
    """
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return buffer.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
