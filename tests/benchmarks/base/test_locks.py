"""Locks: held once, waited for, freed by kill, and where file systems have none."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.base import locks
from benchmarks.base.locks import Taken, lock

HOLD = """
import sys, time
from pathlib import Path
from benchmarks.base.locks import lock

with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock "x"."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "x")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the file system answer every request for a lock with this error."""

    def refuse_with(number: int) -> None:
        def flock(_descriptor: int, _operation: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)
        monkeypatch.setattr(locks, "_warned", [])

    return refuse_with


def test_a_lock_is_held_once_and_free_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with lock(tmp_path / "new folder" / "x") as is_held:
            assert is_held
            with pytest.raises(Taken), lock(tmp_path / "new folder" / "x"):
                pytest.fail("held twice")


def test_a_holder_is_named_and_followed_when_it_is_killed(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_SILENT_SECONDS", 0.01)
    with pytest.raises(Taken), lock(tmp_path / "x"):
        pytest.fail("held twice")
    monkeypatch.setattr(locks._log, "warning", killing(holder, locks._log.warning))
    with lock(tmp_path / "x", "making x") as is_held:
        assert is_held
    (message,) = caplog.messages
    assert message == f"Another process ({holder.pid} on {os.uname().nodename}) is making x: waiting for it."


def killing(process: subprocess.Popen[str], warning: Callable[..., None]) -> Callable[..., None]:
    """Kill a process with the warning about it."""

    def warn(*arguments: object) -> None:
        warning(*arguments)
        process.send_signal(signal.SIGKILL)
        process.wait()

    return warn


def test_a_short_wait_is_silent(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: (holder.kill(), holder.wait()))
    with lock(tmp_path / "x", "making x") as is_held:
        assert is_held
    assert not caplog.messages


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("content")
    (tmp_path / "x").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic links"), lock(tmp_path / "x"):
        pytest.fail("held a link")
    assert (tmp_path / "precious").read_text() == "content"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS])
def test_without_locks_work_goes_on_with_one_warning(
    tmp_path: Path, number: int, without_locks: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    without_locks(number)
    for name in ("x", "y"):
        with lock(tmp_path / name) as is_held:
            assert not is_held
    (message,) = caplog.messages
    assert f"file system of {tmp_path} has no locks ({os.strerror(number)})" in message
    assert "to one command at a time" in message


def test_workers_leave_the_warning_to_their_command(
    tmp_path: Path,
    without_locks: Callable[[int], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_locks(errno.ENOLCK)
    monkeypatch.setattr(locks, "in_worker", lambda: True)
    with lock(tmp_path / "x"):
        pass
    assert not caplog.messages


def test_another_error_is_one(tmp_path: Path, without_locks: Callable[[int], None]) -> None:
    without_locks(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"), lock(tmp_path / "x"):
        pytest.fail("held without a lock")
