"""Text and tables for LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["escape", "table"]

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{MINUS SIGN}": r"$-$",
    "–": "--",
    "Å": r"\AA{}",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "²": r"$^2$",
    "³": r"$^3$",
    "Δ": r"$\Delta$",
    "\N{GREEK SMALL LETTER SIGMA}": r"$\sigma$",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **{chr(0x2080 + digit): f"$_{digit}$" for digit in range(10)},
}


def escape(text: str) -> str:
    """Return text in which characters that LaTeX reads as commands, or has no letter for, are escaped."""
    return "".join(_SPECIAL.get(char, char) for char in text)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    alignment: str,
    caption: str,
    label: str,
    begin: Sequence[str],
) -> str:
    r"""Return a table as a LaTeX float; it needs the package booktabs.

    Args:
        columns: Headings, as plain text like the cells and the caption.
        rows: Cells of each line.
        alignment: "l" or "r" for each column.
        caption: Text above the table.
        label: What `\ref` calls it, written as it is.
        begin: Lines that begin the float, such as `\begin{table}[htbp]`.
    """
    lines = [
        *begin,
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        _line(columns),
        r"\midrule",
        *map(_line, rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(escape, cells)) + r" \\"
