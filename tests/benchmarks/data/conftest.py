"""Fixtures of the tests of own data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.data.made_own_data import LAYOUTS, Write


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS)
def write(request: pytest.FixtureRequest) -> Write:
    return request.param
