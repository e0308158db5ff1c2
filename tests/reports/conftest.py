"""Fixtures of the tests of reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.conftest import install, runs_of_0_1, sen_bench, write_data

__all__ = ["install", "leaderboard", "runs_of_0_1", "sen_bench", "write_data"]


@pytest.fixture(scope="session")
def leaderboard(data_dir: Path) -> Path:
    """Folder with published predictions and rows files, next to that of the data; without it tests are skipped."""
    folder = data_dir.parent / "leaderboard"
    if not (folder / "matbench_mp_gap.rows.json.bz2").is_file():
        pytest.skip(f"needs the published predictions: not in {folder}")
    return folder
