"""Helpers of the tests of studies."""

from __future__ import annotations

from reports.study.study import Study


def only(studies: list[Study]) -> Study:
    assert len(studies) == 1
    return studies[0]
