"""Ctrl-C and requests to terminate, noted when they come and met where nothing is left half done."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "StopRequest", "ignore_signals", "note_signals", "raise_at_signals"]

# Ctrl-C, what a cluster sends before it kills, and what a lost connection sends.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_SAME_SIGNAL_SECONDS = 1.0


class Interrupted(Exception):  # noqa: N818 - no error: somebody asked for it
    """Work was stopped on request, in a state from which it can go on; the message says in which."""


class StopRequest:
    """Whether somebody asked to stop.

    Attributes:
        signal: Number of the signal that asked; None as long as none did.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = 0.0
        self._listeners: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None

    @contextmanager
    def calling(self, listener: Callable[[], None]) -> Iterator[None]:
        """Have `listener` called when a signal comes before the end of the block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            # A wrapper that hands a signal on makes two of one.
            if time.monotonic() - self._since > _SAME_SIGNAL_SECONDS:
                raise KeyboardInterrupt
            return
        self.signal, self._since = number, time.monotonic()
        for listener in self._listeners:
            listener()


def _heeded() -> list[signal.Signals]:
    """Return the signals that whoever started this process did not have it ignore, as `nohup` and `&` do."""
    return [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def raise_at_signals() -> None:
    """Have all requests to stop raise KeyboardInterrupt, as Ctrl-C does."""
    for number in _heeded():
        signal.signal(number, signal.default_int_handler)


def ignore_signals() -> None:
    """Leave requests to stop to the process that started this one; a terminal or a job sends them to all."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def note_signals() -> Iterator[StopRequest]:
    """Note requests to stop instead of dying from them; one that comes again after a second interrupts at once.

    To be entered in the main thread, as Python handles signals there.
    """
    request = StopRequest()
    before = {number: signal.signal(number, request._note) for number in _heeded()}  # noqa: SLF001
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
