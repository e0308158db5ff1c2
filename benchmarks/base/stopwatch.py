"""Seconds of work: wall time without the spans in which the process was stopped."""

from __future__ import annotations

import time

__all__ = ["Stopwatch"]

# No process learns that it was stopped, by SIGSTOP, Ctrl-Z or the freezer of a container. But then it takes no
# processor time, whereas one that computes, or waits for a GPU, takes some even on a busy machine.
_LONG_SECONDS = 1.0
_TIMES_AS_LONG = 10


class Stopwatch:
    """Adds up the time since it was made, lap by lap.

    A lap that took more than a second, and ten times as long as its processor time takes in the other laps, counts as
    what that takes there. The shorter the laps, the less work can hide that the process was stopped: end one after
    every step.
    """

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()
        self._seconds = self._worked = 0.0

    def lap(self) -> float:
        """End a lap and return all seconds so far."""
        wall, processor = time.perf_counter(), time.process_time()
        span, worked = wall - self._wall, processor - self._processor
        usual = worked * self._seconds / self._worked if self._worked else worked
        self._seconds += usual if span > max(_LONG_SECONDS, _TIMES_AS_LONG * usual) else span
        self._worked += worked
        self._wall, self._processor = wall, processor
        return self._seconds
