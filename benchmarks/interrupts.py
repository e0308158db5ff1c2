"""Ctrl-C and requests to terminate, noted when they come and met where nothing is left half done."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "StopRequest", "note_signals"]


class Interrupted(Exception):  # noqa: N818 - no error: somebody asked for it
    """Work was stopped on request, in a state from which it can go on; the message says in which."""


class StopRequest:
    """Whether somebody asked to stop.

    Attributes:
        signal: Number of the signal that asked; None as long as none did.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._listeners: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None

    def call(self, listener: Callable[[], None]) -> None:
        """Have `listener` called when a signal comes."""
        self._listeners.append(listener)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        for listener in self._listeners:
            listener()


@contextmanager
def note_signals() -> Iterator[StopRequest]:
    """Note SIGINT (Ctrl-C) and SIGTERM instead of dying from them; a second one interrupts at once.

    To be entered in the main thread, as Python handles signals there.
    """
    request = StopRequest()
    before = {number: signal.signal(number, request._note) for number in (signal.SIGINT, signal.SIGTERM)}  # noqa: SLF001
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
