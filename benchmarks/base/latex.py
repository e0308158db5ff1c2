"""Text for LaTeX."""

from __future__ import annotations

__all__ = ["escape"]

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
