"""Which tests a marker expression selects."""

from __future__ import annotations

import pytest

from tests.conftest import chooses_deep


@pytest.mark.parametrize(
    ("markexpr", "expected"),
    [
        ("deep", True),
        ("deep and not gpu", True),
        ("deep and gpu", True),
        ("deep or gpu", True),
        ("not deep", False),
        ("gpu", False),
        ("not gpu", False),
        ("", False),
        ("deep and", False),
    ],
)
def test_deep_tests_are_chosen_by_any_expression_that_asks_for_them(markexpr: str, expected: bool) -> None:
    assert chooses_deep(markexpr) is expected
