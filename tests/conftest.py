"""What several tests share."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from sen.crystal import Crystal

# The same examples everywhere, so that a test which passed once fails only when the code has changed.
# How fast a busy machine draws them says nothing about the code.
settings.register_profile(
    "sen-bench",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("sen-bench")

# Processes of pytest-xdist share the cores: one thread each, also in the commands that they start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# As the command line sets it; here torch is loaded before any command runs.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# What is started in the background ignores these, and so would all commands that tests start and stop.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the MatBench files; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("SEN_BENCH_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "matbench_phonons.json.gz").is_file():
        pytest.skip(f"needs matbench_phonons.json.gz: not in {folder} (set SEN_BENCH_DATA)")
    return folder


@pytest.fixture
def real_crystals() -> list[Crystal]:
    """Published structures of all crystal systems."""
    from tests.contracts import known_crystals

    return known_crystals()


@pytest.fixture(autouse=True)
def _ordinary_arithmetic() -> None:
    """Training sets the process to flush denormal numbers, which hypothesis needs."""
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests share one cache of their own, never the user's."""
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
