"""Names and texts of other people on terminals and in spreadsheets."""

from __future__ import annotations

import csv
import io

import pytest

from benchmarks.base.errors import printable
from benchmarks.base.text import csv_text, visible, whole_number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[2J\x07\x7f\x9b1m", r"\x1b[2J\x07\x7f\x9b1m"),
        ("\u202egnp.\u202c \u2066a\u2069", r"\u202egnp.\u202c \u2066a\u2069"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("mp\u200b-\ufeff1\u00ad", r"mp\u200b-\ufeff1\xad"),
        ("caf\udce9.cif", r"caf\udce9.cif"),
        ("a\r\nb\tc", "a\\r\nb\tc"),
    ],
)
def test_what_cannot_be_seen_is_shown_by_its_number(text: str, expected: str) -> None:
    assert visible(text) == expected


def test_what_can_be_seen_is_not_changed() -> None:
    text = "Fe₂O₃ Δ 電気 Ω·m\N{NO-BREAK SPACE}= 3 😀 [red] \\x1b"
    assert visible(text) == text
    assert printable("a\n \x1bb") == r"a \x1bb"


def test_csv_holds_no_formula_but_all_numbers() -> None:
    row = ["=1+1", "+a", "-a", "@a", "\ta", "\n=a", "\r=a", "a=b", "–", "-0.5", -0.5, 1e-9, 3, True, None, "x\x1b"]
    (read,) = csv.reader(io.StringIO(csv_text([row])))
    assert read[:7] == ["'=1+1", "'+a", "'-a", "'@a", "'\ta", "'\n=a", r"\r=a"]
    assert read[7:] == ["a=b", "–", "-0.5", "-0.5", "1e-09", "3", "True", "", r"x\x1b"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        ("9" * 18, 10**18 - 1),
        *((text, None) for text in ("", "-1", " 1", "1_0", "²", "\u0661", "1" * 5000)),
    ],
)
def test_only_digits_are_a_whole_number(text: str, number: int | None) -> None:
    assert whole_number(text) == number
