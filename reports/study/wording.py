"""Words, numbers and units as every section and command writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.base.console import count, figures

__all__ = [
    "after_number",
    "choice_of_recipe",
    "dashed",
    "drawable",
    "in_brackets",
    "interval",
    "join",
    "origin_of_weights",
    "rounded",
    "signed",
    "space_group_symbol",
    "spanned",
    "typeset_formula",
    "typeset_symbol",
]

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def after_number(unit: str) -> str:
    """Return a unit as it stands after a number: " eV"; nothing where there is none."""
    return f" {unit}" if unit else ""


def choice_of_recipe(tuned: Mapping[str, Any]) -> str:
    """Return what chose a recipe, from the table `tuned` of a configuration: "3 trials judged by rows held out ..."."""
    trials, folds = count(tuned["trials"], "trial"), [str(fold) for fold in tuned["folds"]]
    of_folds = f"fold{'s' if len(folds) > 1 else ''} {join(folds)}"
    return f"{trials} judged by rows held out of the training rows of {of_folds} of {tuned['task']}"


def origin_of_weights(pretrained: Mapping[str, Any]) -> str:
    """Return where a run took its weights from, from the table `pretrained` of a configuration."""
    known = "may know test rows" if pretrained["allow_overlap"] else "know no test row"
    return (
        f"fold {pretrained['fold']}, seed {pretrained['seed']} of {pretrained['run']} on {pretrained['task']}, which "
        f"{known}"
    )


def dashed(value: float | None, digits: int = 4) -> str:
    """Return a number to this many significant digits; without a value a dash."""
    return "–" if value is None else figures(value, digits)


def drawable(values: ArrayLike) -> list[float]:
    """Return values [n] to five significant digits, which is finer than a point of a figure: it keeps files small."""
    return [float(f"{value:.5g}") for value in np.asarray(values, dtype=np.float64).tolist()]


def in_brackets(unit: str) -> str:
    """Return a unit as it stands after the name of a quantity: " (eV)"; nothing where there is none."""
    return f" ({unit})" if unit else ""


def interval(ends: Sequence[float | None]) -> str:
    """Return an interval as it stands after a number: "[1.200, 3.400]"; without any end "[no interval]"."""
    low, high = ("no end" if end is None else figures(end) for end in ends)
    return "[no interval]" if low == high == "no end" else f"[{low}, {high}]"


def join(words: Iterable[str]) -> str:
    """Return words in a sentence: "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def rounded(value: float | None, decimals: int) -> str:
    """Return a number with this many decimals; of a statistic without a value "not defined"."""
    return "not defined" if value is None else f"{value:.{decimals}f}"


def signed(value: float | None) -> str:
    """Return a number to four digits with its sign: "+0.1234"; without a value a dash."""
    return "–" if value is None else f"{'-' if value < 0 else '+'}{figures(abs(value))}"


def space_group_symbol(number: int) -> str:
    """Return the short Hermann-Mauguin symbol of a space group as it is printed, with bars; of 0 "unknown"."""
    import moyopy

    if not number:
        return "unknown"
    return typeset_symbol(moyopy.SpaceGroupType(number).hm_short.replace(" ", ""))


def spanned(numbers: Iterable[int]) -> str:
    """Return the smallest and the largest of some numbers: "800 to 1,012"; the number where all are the same."""
    in_order = sorted(numbers)
    low, high = in_order[0], in_order[-1]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def typeset_formula(text: str) -> str:
    """Return a formula with its numbers as subscripts: "MoSe₂" for "MoSe2"."""
    return re.sub(r"(?<=[A-Za-z)\]])\d+\.?\d*", lambda number: number[0].translate(_SUBSCRIPTS), text)


def typeset_symbol(symbol: str) -> str:
    """Return the symbol of a group or an operation with its bar over, and its screw under, the number: "P4̄2₁m"."""
    barred = re.sub(r"-(\d)", "\\1\N{COMBINING MACRON}", symbol)
    return re.sub(r"_(\d)", lambda screw: screw[1].translate(_SUBSCRIPTS), barred)
