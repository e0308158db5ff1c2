"""Fixtures of the tests of submissions to MatBench."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.results.export import make_submission
from benchmarks.results.store import Run
from tests.benchmarks.results.made_submissions import JDFT2D, MOMENT, make_run, regression


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "runs", JDFT2D, *regression())


@pytest.fixture
def content(run: Run) -> dict[str, Any]:
    return make_submission([run], moment=MOMENT)
