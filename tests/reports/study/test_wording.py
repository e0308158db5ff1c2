from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks.base.console import count
from reports.study.wording import (
    after_number,
    choice_of_recipe,
    dashed,
    drawable,
    in_brackets,
    join,
    rounded,
    signed,
    space_group_symbol,
    spanned,
    typeset_formula,
    typeset_symbol,
)


def test_units() -> None:
    assert [after_number(unit) for unit in ("eV", "")] == [" eV", ""]
    assert [in_brackets(unit) for unit in ("eV", "")] == [" (eV)", ""]


@pytest.mark.parametrize(
    ("trials", "folds", "text"),
    [(1, [0], "1 trial judged by * fold 0 of t"), (3, [0, 2], "3 trials judged by * folds 0 and 2 of t")],
)
def test_what_chose_a_recipe(trials: int, folds: list[int], text: str) -> None:
    told = choice_of_recipe({"trials": trials, "folds": folds, "task": "t"})
    assert told == text.replace("*", "rows held out of the training rows of")


@pytest.mark.parametrize(("words", "text"), [(["a"], "a"), (["a", "b"], "a and b"), ("abc", "a, b and c")])
def test_words_are_joined(words: list[str], text: str) -> None:
    assert join(iter(words)) == text


def test_numbers() -> None:
    assert [count(0), count(1), count(1265), count(1, "id")] == ["0 rows", "1 row", "1,265 rows", "1 id"]
    assert [rounded(0.12345, 2), rounded(None, 2)] == ["0.12", "not defined"]
    assert [dashed(0.12345), dashed(None)] == ["0.1235", "–"]
    assert [spanned([1012, 800, 900]), spanned([1000, 1000])] == ["800 to 1,012", "1,000"]
    assert [signed(value) for value in (0.012345, -1234.56, 0.0, None)] == ["+0.01235", "-1,235", "+0", "–"]


def test_symbols_of_space_groups() -> None:
    known = {0: "unknown", 2: "P1̄", 14: "P2₁/c", 31: "Pmn2₁", 169: "P6₁", 189: "P6̄2m", 225: "Fm3̄m"}
    assert {number: space_group_symbol(number) for number in known} == known
    every = [space_group_symbol(number) for number in range(1, 231)]
    assert len(set(every)) == 230
    assert not [symbol for symbol in every if re.search(r"[ _-]", symbol)]


def test_points_keep_their_digits_however_small_they_are() -> None:
    assert drawable(np.array([1.234567e-6, -2.0, 123456.0])) == [1.2346e-6, -2.0, 123460.0]


@pytest.mark.parametrize(
    ("text", "expected"), [("MoSe2", "MoSe₂"), ("Ba(GaTe2)2", "Ba(GaTe₂)₂"), ("KS", "KS"), ("Li0.5S", "Li₀.₅S")]
)
def test_formulas_are_typeset(text: str, expected: str) -> None:
    assert typeset_formula(text) == expected


def test_the_bar_of_a_symbol_stands_over_its_number() -> None:
    assert typeset_symbol("P-42_1m") == "P4\N{COMBINING MACRON}2₁m"
    assert typeset_symbol("-3 rotoinversion") == "3\N{COMBINING MACRON} rotoinversion"
