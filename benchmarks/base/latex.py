"""Text and tables for LaTeX, which compile with any text in them."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence

from benchmarks.base.text import visible

__all__ = ["escape", "table"]

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # After the end of a line of a table, a bracket begins an option and a star is one.
    **{char: f"{{{char}}}" for char in "[*"},
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **dict.fromkeys("\n\t", " "),
    "\N{NO-BREAK SPACE}": "~",
    "–": "--",
    "Å": r"\AA{}",
    "ß": r"\ss{}",
    **{char: char for char in "ÆæŒœØøŁł‘’“”—…§¶©£"},  # noqa: RUF001 - pdfLaTeX knows them as they are
}
_MATHS = {
    "±": r"\pm",
    "\N{MULTIPLICATION SIGN}": r"\times",
    "\N{MINUS SIGN}": "-",
    "÷": r"\div",
    "·": r"\cdot",
    "°": r"^\circ",
    "≤": r"\leq",
    "≥": r"\geq",
    "≈": r"\approx",
    "≠": r"\neq",
    "→": r"\rightarrow",
    "∞": r"\infty",
    "\N{MICRO SIGN}": r"\mu",
}
_MATHS |= {greek: rf"\{unicodedata.name(greek).rpartition(' ')[2].lower()}" for greek in "αβγδζηθικμνξπρστυχψω"}
_MATHS |= {greek: rf"\{unicodedata.name(greek).rpartition(' ')[2].capitalize()}" for greek in "ΓΔΘΞΠΣΥΦΨΩ"}
_MATHS |= {"ε": r"\varepsilon", "λ": r"\lambda", "φ": r"\varphi", "ϕ": r"\phi", "ς": r"\varsigma", "Λ": r"\Lambda"}
# LaTeX has no Greek letters that look like Latin ones.
_MATHS |= {greek: rf"\mathrm{{{latin}}}" for greek, latin in zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True)}  # noqa: RUF001
# Marks above and below Latin letters that every encoding of LaTeX's fonts can set.
_ACCENTS = set(map(chr, (*range(0x300, 0x305), 0x306, 0x307, 0x308, 0x30A, 0x30B, 0x30C, 0x327)))
_UNKNOWN = r"\unicodechar"
# pdfLaTeX skips the character itself, for which it has no font.
_HEAD = rf"""% Some characters are not in the fonts of pdfLaTeX, which prints their numbers: to see the characters,
% compile with XeLaTeX or LuaLaTeX and a font that has them.
\providecommand{{{_UNKNOWN}}}[2]{{\ifdefined\Umathcode#1\else{{[}}U+#2]\fi}}
"""


def escape(text: str) -> str:
    r"""Return text in a form that LaTeX prints as it is.

    Characters that LaTeX reads as commands are escaped. Greek letters, signs, superscripts and subscripts are set as
    mathematics. Any other character that is not in LaTeX's own fonts, such as a Chinese one, becomes an argument of
    `\unicodechar`, which `table` defines.
    """
    return "".join(map(_escape_char, visible(unicodedata.normalize("NFC", text))))


@functools.cache
def _escape_char(char: str) -> str:
    if char in _SPECIAL:
        return _SPECIAL[char]
    if char.isascii():
        return char
    if (maths := _in_maths(char)) is not None:
        return f"${maths}$"
    if unicodedata.category(char) == "Zs":
        return " "
    base, *marks = list(unicodedata.normalize("NFD", char))
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks[0] in _ACCENTS and ord(char) < 0x180:
        return char
    return rf"{_UNKNOWN}{{{char}}}{{{ord(char):04X}}}"


def _in_maths(char: str) -> str | None:
    """Return a character in LaTeX's mathematics; None where it is no mathematics."""
    if char in _MATHS:
        return _MATHS[char]
    base, *marks = list(unicodedata.normalize("NFD", char))
    if base in _MATHS and marks == ["\N{COMBINING ACUTE ACCENT}"]:
        return rf"\acute{{{_MATHS[base]}}}"
    mark = {"<super>": "^", "<sub>": "_"}.get(unicodedata.decomposition(char).partition(" ")[0])
    raised = "".join(_MATHS.get(part, part) for part in unicodedata.normalize("NFKD", char))
    if mark is None or not raised.isascii():
        return None
    return f"{mark}{raised}" if len(raised) == 1 and not raised.isalpha() else rf"{mark}{{\mathrm{{{raised}}}}}"


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
        label: What `\ref` calls it; characters other than ASCII letters, digits and `_:.+-` become hyphens.
        begin: Lines that begin the float, such as `\begin{table}[htbp]`.
    """
    label = re.sub(r"[^\w:.+-]", "-", label, flags=re.ASCII)
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
    text = "\n".join(lines) + "\n"
    return f"{_HEAD}{text}" if _UNKNOWN in text else text


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(escape, cells)) + r" \\"
