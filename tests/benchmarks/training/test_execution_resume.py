"""Runs that are killed, stopped, begun twice or left without space.

What is killed, signalled or limited is a process of its own; what it is compared with runs in this one.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest

from benchmarks.results.store import Run, Training
from benchmarks.training import execution
from tests.benchmarks.conftest import SMALL, Answer, Write, rocksalts

# A process in which every step is followed by a checkpoint, however quick training is.
DRIVER = """
import resource, sys
import benchmarks.training.trainer
from benchmarks.cli.main import main
benchmarks.training.trainer.CHECKPOINT_SECONDS = 0.0
if limit := int(sys.argv.pop(1)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
main()
"""
TASK = "matbench_jdft2d"
# Smaller than what learns best, because every step's state is written.
OPTIONS = (
    *SMALL,
    *("--set", "sen.atom_embedding=16", "--set", "sen.environment_width=16", "--set", "sen.dropout=0.1"),
)


@dataclass
class Started:
    """A run under way, and its output so far."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def out(self) -> str:
        return self.log.with_suffix(".out").read_text()

    @property
    def err(self) -> str:
        return self.log.with_suffix(".err").read_text()

    def end(self, code: int = 0) -> Self:
        """Wait for the end of the run, which must have this exit code."""
        assert self.process.wait(300) == code, (self.process.returncode, self.out, self.err)
        assert "Traceback" not in self.err
        return self


Line = Callable[..., list[str]]
Start = Callable[..., Started]
Here = Callable[..., Answer]


@pytest.fixture
def line(write_data: Write, monkeypatch: pytest.MonkeyPatch) -> Line:
    """Give the arguments of a two-fold run, which computes with one thread in whatever process."""
    data = write_data(rocksalts(60))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def call(out: Path, *options: object, epochs: int = 6) -> list[str]:
        arguments = ("run", TASK, *OPTIONS, "--epochs", epochs, "--folds", "0,1", "--data-dir", data, "--out", out)
        return [*map(str, (*arguments, *options))]

    return call


@pytest.fixture
def start(line: Line, tmp_path: Path) -> Iterator[Start]:
    """Start a run in a process group of its own; whatever is left of it in the end is killed."""
    processes: list[subprocess.Popen[bytes]] = []

    def call(out: Path, *options: object, epochs: int = 6, file_limit: int = 0) -> Started:
        command = [sys.executable, "-c", DRIVER, str(file_limit), *line(out, *options, epochs=epochs)]
        log = tmp_path / f"log-{len(processes)}"
        with log.with_suffix(".out").open("wb") as stdout, log.with_suffix(".err").open("wb") as stderr:
            processes.append(subprocess.Popen(command, stdout=stdout, stderr=stderr, start_new_session=True))
        return Started(processes[-1], log)

    yield call
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def run_here(line: Line, sen_bench: Callable[..., Answer]) -> Here:
    """Make a run in this process, which writes no states in between; it must have this exit code."""

    def call(out: Path, *options: object, epochs: int = 6, code: int = 0) -> Answer:
        answer = sen_bench(*line(out, *options, epochs=epochs))
        assert answer.code == code, (answer.out, answer.err)
        return answer

    return call


def predictions(out: Path) -> dict[str, list[list[str]]]:
    """What finished folds predicted; what was still being written when it was killed is in a folder `.fold_...`."""
    files = sorted(out.rglob("fold_*/predictions.csv"))
    return {file.parent.name: list(csv.reader(file.open())) for file in files}


def sessions(out: Path) -> list[int]:
    """In how many processes each finished fold was trained."""
    return [len(json.loads(file.read_text())["sessions"]) for file in out.rglob("metrics.json")]


def states(out: Path) -> list[Path]:
    return sorted(out.rglob("*.state.safetensors"))


def wait_for(condition: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""


def last_saved(out: Path) -> float:
    with suppress(FileNotFoundError):
        return max((path.stat().st_mtime for path in states(out)), default=0.0)
    return 0.0


def wait_for_saves(run: Started, out: Path, n: int) -> None:
    """Wait until states were saved n times, or the run has ended."""
    seen = {last_saved(out)}

    def enough() -> bool:
        seen.add(last_saved(out))
        return len(seen) > n or run.process.poll() is not None

    wait_for(enough)


def nothing_half_written(out: Path) -> bool:
    hidden = [path for path in out.rglob(".*") if not path.name.endswith(".lock")]
    return hidden == []


def pause_until_waited_for(run: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold a run in the middle of its training, until one in this process waits for it."""
    wait = execution._wait

    def let_go_on(*arguments: Any) -> None:
        run.process.send_signal(signal.SIGCONT)
        wait(*arguments)

    monkeypatch.setattr("benchmarks.training.execution._wait", let_go_on)
    run.process.send_signal(signal.SIGSTOP)


@pytest.mark.deep
def test_run_killed_ten_times_gives_what_an_undisturbed_one_gives(start: Start, run_here: Here, tmp_path: Path) -> None:
    run_here(tmp_path / "undisturbed", epochs=12)
    expected = predictions(tmp_path / "undisturbed")
    assert sorted(expected) == ["fold_0", "fold_1"]

    rng = np.random.default_rng(0)
    out = tmp_path / "killed"
    kept: dict[str, list[list[str]]] = {}
    # In saves, of which there are 144 on two folds, so that slow machines come as far.
    for n_saves in rng.integers(1, 25, 10):
        run = start(out, epochs=12)
        wait_for_saves(run, out, n_saves)
        run.process.kill()
        run.process.wait()
        found = predictions(out)
        assert {fold: found.get(fold) for fold in kept} == kept
        kept = found
    assert kept, "no fold was finished between the kills"
    run_here(out, epochs=12)
    assert predictions(out) == expected
    assert states(out) == []
    assert nothing_half_written(out)
    assert sum(sessions(out)) > 6, "too few kills fell into a training"


@pytest.mark.deep
def test_ctrl_c_saves_the_state_and_the_same_command_goes_on(start: Start, run_here: Here, tmp_path: Path) -> None:
    run_here(tmp_path / "undisturbed", epochs=12)
    out = tmp_path / "stopped"
    run = start(out, epochs=12)
    wait_for(lambda: states(out))
    begin = time.time()
    os.killpg(run.process.pid, signal.SIGINT)
    run.end(130)
    (state,) = states(out)
    saved = state.stat().st_mtime
    assert saved - begin < 5
    going_on = "of 12, its state is saved). Finished folds are kept. To continue:\n  sen-bench run matbench_jdft2d"
    assert going_on in run.err
    assert nothing_half_written(out)

    run = start(out, epochs=12)
    wait_for(lambda: last_saved(out) > saved)
    run.process.terminate()
    run.end(130)
    answer = run_here(out, epochs=12)
    for message in (run.out, answer.out):
        assert "Continuing where they were stopped: fold 0, seed 0." in message
    assert predictions(out) == predictions(tmp_path / "undisturbed")
    assert sorted(sessions(out)) == [1, 3]


@pytest.mark.deep
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_parallel_run_saves_the_state_of_every_worker(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    run = start(tmp_path / "runs", "--jobs", 2, epochs=400)
    wait_for(lambda: "fold 0, seed 0: training loss" in run.out and "fold 1, seed 0: training loss" in run.out)
    os.killpg(run.process.pid, number)
    assert run.end(130).err.count("its state is saved") == 2
    assert len(states(tmp_path / "runs")) == 2


@pytest.mark.deep
def test_workers_save_their_state_and_end_when_the_process_that_started_them_is_killed(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    run = start(tmp_path / "runs", "--jobs", 2, epochs=400)
    wait_for(lambda: "fold 0, seed 0: training loss" in run.out and "fold 1, seed 0: training loss" in run.out)
    workers = [path for path in Path("/proc").glob("[0-9]*/status") if f"PPid:\t{run.process.pid}\n" in read(path)]
    assert len(workers) >= 2
    run.process.kill()
    run.process.wait()
    wait_for(lambda: len(states(tmp_path / "runs")) == 2)
    assert nothing_half_written(tmp_path / "runs")
    wait_for(lambda: not any(path.exists() for path in workers))
    # Where torch keeps what it compiles is the user's, and not the run's.
    assert not [path for path in temporary.iterdir() if not path.name.startswith("torchinductor_")]


@pytest.mark.deep
@pytest.mark.parametrize(("stopping", "code"), [(False, 0), (True, 130)])
def test_a_run_outlives_its_terminal_or_saves_its_state(
    line: Line, tmp_path: Path, *, stopping: bool, code: int
) -> None:
    out = tmp_path / "runs"
    master, terminal = os.openpty()
    command = [sys.executable, "-c", DRIVER, "0", *line(out, "--folds", "0")]
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, start_new_session=True) as run:
        wait_for(lambda: states(out))
        os.close(terminal)
        os.close(master)
        if stopping:
            run.send_signal(signal.SIGHUP)
    assert run.returncode == code
    assert [*predictions(out)] == ([] if stopping else ["fold_0"])
    assert len(states(out)) == stopping


@pytest.mark.deep
def test_time_in_which_a_run_was_stopped_is_not_its_training_time(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    begin = time.monotonic()
    run = start(out, "--folds", "0", epochs=12)
    wait_for(lambda: states(out))
    run.process.send_signal(signal.SIGSTOP)
    waited = 4 + time.monotonic() - begin  # longer than all that came before, on a machine however slow
    time.sleep(waited)
    run.process.send_signal(signal.SIGCONT)
    run.end()
    (record,) = (json.loads(file.read_text()) for file in out.rglob("metrics.json"))
    assert record["wall_seconds"] < time.monotonic() - begin - waited
    with next(out.rglob("history.csv")).open() as file:
        assert float([*csv.DictReader(file)][-1]["seconds"]) < record["wall_seconds"]


@pytest.mark.deep
def test_two_runs_of_one_line_share_the_work(
    start: Start, run_here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_here(tmp_path / "alone", epochs=12)
    out = tmp_path / "together"
    first = start(out, epochs=12)
    wait_for(lambda: states(out))
    pause_until_waited_for(first, monkeypatch)
    second = run_here(out, epochs=12)
    first.end()
    for fold, at_work, other in ((0, first, second), (1, second, first)):
        assert at_work.out.count(f"fold {fold}, seed 0: training loss") == 12
        assert f"fold {fold}, seed 0: training loss" not in other.out
    assert sessions(out) == [1, 1]
    assert predictions(out) == predictions(tmp_path / "alone")
    assert states(out) == []
    (summary,) = out.rglob("summary.json")
    assert json.loads(summary.read_text())["folds"] == [0, 1]


@pytest.mark.deep
def test_second_run_of_the_last_fold_waits_and_takes_its_result(
    start: Start, run_here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs"
    first = start(out, "--folds", "0", epochs=12)
    wait_for(lambda: states(out))
    pause_until_waited_for(first, monkeypatch)
    second = run_here(out, "--folds", "0", epochs=12)
    first.end()
    assert "Another process is training fold 0, seed 0: waiting for it." in second.out
    assert "fold 0, seed 0: training loss" not in second.out
    assert next(line for line in first.out.splitlines() if line.startswith("fold 0, seed 0: MAE")) in second.out


def test_fold_whose_holder_dies_is_trained_by_the_run_that_waited_for_it(
    run_here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs"
    run_here(out, "--folds", "0")
    (run_folder,) = (out / TASK).iterdir()
    with ExitStack() as stack:
        stack.enter_context(Run(run_folder).lock(Training(0, 1)))
        # The holder dies while the run sleeps between two looks at its lock.
        monkeypatch.setattr("benchmarks.training.execution.time", SimpleNamespace(sleep=lambda _: stack.close()))
        answer = run_here(out)
    assert "Another process is training fold 1, seed 0: waiting for it." in answer.out
    assert "fold 1, seed 0: training loss" in answer.out
    assert sorted(predictions(out)) == ["fold_0", "fold_1"]


def test_fold_whose_holder_fails_has_failed_for_the_run_that_waited_for_it(
    run_here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs"
    run_here(out, "--folds", "0")
    run = Run(next((out / TASK).iterdir()))
    with ExitStack() as stack, monkeypatch.context() as patch:
        stack.enter_context(run.lock(Training(0, 1)))

        def fail(_: float) -> None:
            run.note_failure(Training(0, 1), "Training collapsed: train longer.")
            stack.close()

        patch.setattr("benchmarks.training.execution.time", SimpleNamespace(sleep=fail))
        answer = run_here(out, code=1)
    assert "The process that this one waited for has failed: Training collapsed: train longer." in answer.out
    assert "fold 1, seed 0: training loss" not in answer.out
    # A command that does not wait tries it.
    assert "fold 1, seed 0: training loss" in run_here(out).out
    assert sorted(predictions(out)) == ["fold_0", "fold_1"]
    assert nothing_half_written(out)


@pytest.mark.parametrize("jobs", [1, 2])
def test_file_system_without_locks_is_reported_once_before_anything_is_trained(
    run_here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, jobs: int
) -> None:
    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    def train(*arguments: Any, **options: Any) -> Any:
        assert len(caplog.messages) == 1
        return begin(*arguments, **options)

    run_here(tmp_path / "elsewhere", "--folds", "0")  # fills the cache
    begin = execution._in_turn if jobs == 1 else execution._in_parallel
    monkeypatch.setattr(execution, begin.__name__, train)
    monkeypatch.setattr("benchmarks.base.locks._warned", [])
    monkeypatch.setattr("fcntl.flock", flock)
    run_here(tmp_path / "runs", "--jobs", jobs)
    (message,) = caplog.messages
    assert f"The file system of {tmp_path / 'runs'}" in message
    assert sorted(predictions(tmp_path / "runs")) == ["fold_0", "fold_1"]


@pytest.mark.deep
def test_full_disk_leaves_nothing_half_written(start: Start, run_here: Here, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    run_here(tmp_path / "elsewhere", "--folds", "0")  # fills the cache, whose files are larger than the limit
    run = start(out, "--folds", "0", file_limit=40_000).end(1)
    assert "cannot be written (File too large): free disk space" in " ".join(run.out.split())
    assert "The state of the training cannot be saved" in run.err
    assert predictions(out) == {}
    assert nothing_half_written(out)
    run_here(out, "--folds", "0")
    assert predictions(out) == predictions(tmp_path / "elsewhere")


@pytest.mark.deep
def test_overwriting_begins_anew_whatever_lies_there(start: Start, run_here: Here, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    run_here(out, "--folds", "0", epochs=12)
    expected = predictions(out)
    run = start(out, "--folds", "0", "--overwrite", "always", epochs=12)
    wait_for(lambda: states(out))
    run.process.terminate()
    assert "--overwrite only-missing" in run.end(130).err
    assert predictions(out) == {}
    assert len(states(out)) == 1
    answer = run_here(out, "--folds", "0", "--overwrite", "always", epochs=12)
    assert "Continuing" not in answer.out
    assert predictions(out) == expected
    assert sessions(out) == [1]


def test_file_that_cannot_be_used_fails_its_fold_alone(run_here: Here, tmp_path: Path) -> None:
    run_here(tmp_path, "--folds", "0")
    (run_folder,) = (tmp_path / TASK).iterdir()
    for jobs in (1, 2):
        out = tmp_path / f"jobs-{jobs}"
        (out / TASK / run_folder.name / "seed_0" / ".fold_1.lock").mkdir(parents=True)
        answer = run_here(out, "--jobs", jobs, "--folds", "1,2", code=1)
        assert "fold 1, seed 0 failed: A file that the training needs cannot be used" in answer.out
        assert "have no result: fold 1, seed 0" in answer.err
        assert sorted(predictions(out)) == ["fold_2"]
