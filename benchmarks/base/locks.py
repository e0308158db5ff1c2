"""Locks of files between processes and threads; the system frees them however their holder ends."""

from __future__ import annotations

import errno
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.base.errors import printable
from benchmarks.base.workers import in_worker

__all__ = ["Taken", "lock"]

# What systems answer where a file system has no locks.
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}

# Nobody needs to hear of a shorter wait.
_SILENT_SECONDS = 1.0

_log = logging.getLogger("sen_bench")
_warned: list[Path] = []


class Taken(Exception):  # noqa: N818 - a state of the lock that its callers handle, never seen by a user
    """Another process, or another thread, holds the lock."""


@contextmanager
def lock(path: Path, doing: str | None = None) -> Iterator[bool]:
    """Hold the lock of a file during the block. The file stays: without it, two could hold locks of the same name.

    Only the holder may delete the file, as the last thing it does: whoever waits then takes the lock of a new file.

    Where the file system has no locks, the block is entered all the same, and a warning says so once in a command.

    Args:
        path: The file, which is created together with its folder; a link is not followed.
        doing: What the holder of this lock does, such as "downloading x", for a message that says why this process
            waits; None if it shall not wait.

    Yields:
        Whether the lock is held; False where the file system has no locks.

    Raises:
        Taken: Another process or thread holds the lock, and this one shall not wait.
        OSError: The file cannot be used.
    """
    from filelock import FileLock, Timeout

    held = FileLock(path, fallback_to_soft=False, on_acquired=_sign)
    try:
        try:
            held.acquire(timeout=0 if doing is None else _SILENT_SECONDS)
        except Timeout:
            if doing is None:
                raise Taken from None
            _log.warning("Another process%s is %s: waiting for it.", _signature(path), doing)
            held.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _warn(path, error)
    try:
        yield held.is_locked
    finally:
        held.release()


def _sign(descriptor: int) -> None:
    """Write into a lock file which process holds it."""
    with suppress(OSError):  # a full disk does not matter here
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} on {platform.node()}".encode(), 0)


def _signature(path: Path) -> str:
    """Return which process holds a lock, " (1234 on node7)"; empty if its holder did not write that."""
    with suppress(OSError):
        if name := printable(path.read_text(errors="replace")):
            return f" ({name})"
    return ""


def _warn(path: Path, error: OSError) -> None:
    """Warn, once and not in worker processes, that a file system has no locks."""
    if not _warned and not in_worker():
        _warned.append(path)
        _log.warning(
            "The file system of %s has no locks (%s): give a run store and a cache there to one command at a time.",
            path.parent,
            error.strerror,
        )
