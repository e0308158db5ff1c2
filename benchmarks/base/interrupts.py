"""Ctrl-C and requests to terminate: noted when they come, obeyed where nothing is left half done."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "StopRequest", "ignore_signals", "note_signals", "raise_at_signals"]

# Ctrl-C, the signal of a cluster before it kills, and that of a lost connection.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_SAME_SIGNAL_SECONDS = 1.0


class Interrupted(Exception):  # noqa: N818 - not an error: somebody asked for it
    """Work was stopped on request, in a state from which it can continue; the message names the state."""


class StopRequest:
    """Whether somebody has asked to stop.

    Attributes:
        signal: Number of the first signal; None as long as none has come.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = 0.0
        self._listeners: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @contextmanager
    def calling(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` when a signal comes during the block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            # A wrapper that passes a signal on makes two of one.
            if time.monotonic() - self._since > _SAME_SIGNAL_SECONDS:
                raise KeyboardInterrupt
            return
        self.signal, self._since = number, time.monotonic()
        for listener in self._listeners:
            listener()


def _heeded() -> list[signal.Signals]:
    """Return the signals that this process was not started to ignore, as `nohup` and `&` do."""
    return [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def raise_at_signals() -> None:
    """Let all requests to stop raise KeyboardInterrupt, as Ctrl-C does."""
    for number in _heeded():
        signal.signal(number, signal.default_int_handler)


def ignore_signals() -> None:
    """Leave requests to stop to the parent process; a terminal or a job sends them to all processes."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def note_signals() -> Iterator[StopRequest]:
    """Note requests to stop instead of ending at once; a repeated request after a second interrupts immediately.

    Outside the main thread, where Python handles none, nothing is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request._note) for number in _heeded()}  # noqa: SLF001
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
