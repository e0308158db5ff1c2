"""Fixtures of all tests, and which tests run: long ones wait for `pytest -m deep`, those of a GPU for a GPU."""

from __future__ import annotations

import os
import signal
import sys
import tomllib
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import pytest
from _pytest.mark.expression import Expression
from hypothesis import HealthCheck, is_hypothesis_test, settings

if TYPE_CHECKING:
    from sen.crystal import Crystal

# The same examples everywhere: a test that passed once fails only when the code has changed. A busy machine may draw
# them slowly.
for profile, n in (("quick", 15), ("deep", 100)):
    settings.register_profile(
        profile,
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=n,
        suppress_health_check=[HealthCheck.too_slow],
    )

#: Number of tests that were deselected, by marker; workers of pytest-xdist send theirs to the main process.
NOT_RUN = pytest.StashKey[Counter[str]]()

# Processes of pytest-xdist share the cores: one thread each, also in the commands that they start, and no worker
# processes where a command takes one for each core.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")

# The command line sets this before it loads torch; here torch is loaded before any command runs.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# A process in the background ignores these signals, and so would the commands that tests start and stop.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

REPOSITORY = Path(__file__).parent.parent


def own_names(group: str) -> list[str]:
    """Names of the blocks, commands or report sections of sen-bench itself, whatever plug-ins are installed."""
    project: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return sorted(project["entry-points"][f"sen_bench.{group}"])


def chooses_deep(markexpr: str) -> bool:
    """Whether a marker expression, such as "deep and not gpu", selects tests because they are deep."""

    def selects(*markers: str) -> bool:
        return Expression.compile(markexpr).evaluate(lambda name, /, **_: name in markers)

    try:
        return any(selects("deep", *others) and not selects(*others) for others in ((), ("gpu",)))
    except SyntaxError:  # which pytest reports
        return False


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("deep" if chooses_deep(config.option.markexpr) else "quick")
    config.stash[NOT_RUN] = Counter()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Count property tests among the deep ones where these run, and deselect tests of a GPU where torch finds none."""
    if chooses_deep(config.option.markexpr):
        for item in items:
            if is_hypothesis_test(getattr(item, "obj", None)):
                item.add_marker("deep")
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not sys.modules["torch"].cuda.is_available():
        items[:] = [item for item in items if item not in on_gpu]
        config.hook.pytest_deselected(items=on_gpu)
        config.stash[NOT_RUN]["gpu"] = len(on_gpu)


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        item.config.stash[NOT_RUN]["deep"] += item.get_closest_marker("deep") is not None


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # in a worker of pytest-xdist, which collects all tests
        session.config.workeroutput["not run"] = dict(session.config.stash[NOT_RUN])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    if worker := getattr(node, "workeroutput", None):
        node.config.stash[NOT_RUN] = Counter(worker["not run"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    not_run = config.stash[NOT_RUN]
    if n := not_run["deep"]:
        terminalreporter.write_line(f"{n} deep tests were not run: pytest -m deep -n 2")
    if n := not_run["gpu"]:
        terminalreporter.write_line(f"{n} tests need a GPU, and torch finds none")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Distinguish contracts that do not apply to a block, which raise `SkipTest`, from tests that lack something."""
    inapplicable = call.excinfo is not None and call.excinfo.errisinstance(SkipTest)
    report = yield
    report.inapplicable = inapplicable
    if call.when == "setup" and isinstance(report.longrepr, tuple):  # one line for all that lack the same, not for each
        report.longrepr = (str(Path(__file__).parent), None, report.longrepr[-1])  # type: ignore[assignment]
    return report


def pytest_report_teststatus(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, str] | None:
    return ("not applicable", "-", "NOT APPLICABLE") if getattr(report, "inapplicable", False) else None


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder with the MatBench files; tests that need it are skipped without it."""
    folder = Path(os.environ.get("SEN_BENCH_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "matbench_phonons.json.gz").is_file():
        pytest.skip(f"needs matbench_phonons.json.gz: not in {folder} (set SEN_BENCH_DATA)")
    return folder


@pytest.fixture
def real_crystals() -> list[Crystal]:
    """Published structures of all crystal systems."""
    from tests.contracts import known_crystals

    return known_crystals()


@pytest.fixture
def no_graph_of_polonium(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no graph be built of crystals with polonium in this process."""
    from sen.graph import connect

    def fail_on_polonium(crystal: Crystal, **settings: Any) -> Any:
        if 84 in crystal.numbers:
            raise IndexError("cell list is full")
        return connect(crystal, **settings)

    for module in ("sen.graph", "benchmarks.data.graph_table"):
        monkeypatch.setattr(f"{module}.connect", fail_on_polonium)


@pytest.fixture(autouse=True)
def _ordinary_arithmetic() -> None:
    """Undo that training flushes denormal numbers, which hypothesis needs."""
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests share a cache, which is not the user's."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each has a folder in the one that they share
        folder = folder.parent
    monkeypatch.setenv("SEN_BENCH_CACHE", str(folder / "cache"))
