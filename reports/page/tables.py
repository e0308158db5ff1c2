"""Tables as they are shown, as CSV and as LaTeX."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from benchmarks.base import latex
from benchmarks.base.text import csv_text
from reports.page.section import Table, Value

__all__ = ["as_csv", "as_latex", "is_numeric", "shown"]

# However small the numbers of a column are.
_MOST_DECIMALS = 6
# Of p-values, under headings such as "p (Holm)".
_P_DECIMALS = 3
# Columns with these headings give the uncertainty of the column before and get as many decimals.
_FOLLOWERS = ("std", " low", " high")
_NOTHING = "–"


def is_numeric(table: Table, column: int) -> bool:
    """Whether all cells of a column are numbers or empty, and at least one is a number."""
    cells = [row[column] for row in table.rows]
    return any(cell is not None for cell in cells) and not any(isinstance(cell, str) for cell in cells)


def shown(table: Table) -> list[list[str]]:
    """Return the rows as text; numbers of a column have the same decimals, so that they line up."""
    columns, decimals = [], 0
    for i, heading in enumerate(table.columns):
        cells = [row[i] for row in table.rows]
        if heading.partition(" ")[0] == "p":
            decimals = _P_DECIMALS
        elif not heading.endswith(_FOLLOWERS):
            decimals = _decimals(cells, table.digits)
        columns.append([_text(cell, decimals) for cell in cells])
    return [list(row) for row in zip(*columns, strict=True)]


def as_csv(table: Table) -> str:
    """Return a table as CSV, numbers in full."""
    return csv_text([table.columns, *table.rows])


def as_latex(table: Table, label: str) -> str:
    """Return a table as a LaTeX float; it needs the package booktabs."""
    return latex.table(
        table.columns,
        shown(table),
        alignment="".join("r" if is_numeric(table, i) else "l" for i in range(len(table.columns))),
        caption=table.caption,
        label=f"tab:{label}",
        begin=(r"\begin{table}", r"\centering"),
    )


def _decimals(cells: Sequence[Value], digits: int) -> int:
    """Decimals that give the typical number of a column this many significant digits."""
    numbers = [abs(cell) for cell in cells if isinstance(cell, float) and math.isfinite(cell) and cell]
    if not numbers:
        return 0
    return min(max(0, digits - 1 - math.floor(math.log10(statistics.median_high(numbers)))), _MOST_DECIMALS)


def _text(cell: Value, decimals: int) -> str:
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return _NOTHING
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return _number(cell, decimals).replace("-", "\N{MINUS SIGN}")
    return cell


def _number(value: float, decimals: int) -> str:
    """Write a number with this many decimals, or with one digit where they would make it zero."""
    text = f"{value:,.{decimals}f}"
    if value == 0 or float(text.replace(",", "")) != 0:
        return text
    needed = -math.floor(math.log10(abs(value)))
    return f"{value:.{needed}f}" if needed <= _MOST_DECIMALS - 2 else f"{value:.0e}"
