"""What counts as time of work."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from benchmarks.base.stopwatch import Stopwatch


@pytest.mark.parametrize(
    ("wall", "processor", "counted"),
    [
        (30.0, 0.01, 0.02),  # stopped: no processor time, and a lap takes twice its own
        (30.0, 10.0, 30.0),  # a busy machine
        (0.9, 0.0, 0.9),  # too short to tell
    ],
)
def test_a_lap_in_which_the_process_was_stopped_counts_as_its_work(
    monkeypatch: pytest.MonkeyPatch, wall: float, processor: float, counted: float
) -> None:
    now = SimpleNamespace(wall=100.0, processor=5.0)
    monkeypatch.setattr(time, "perf_counter", lambda: now.wall)
    monkeypatch.setattr(time, "process_time", lambda: now.processor)
    stopwatch = Stopwatch()
    now.wall, now.processor = 104.0, 7.0
    assert stopwatch.lap() == 4.0
    now.wall, now.processor = 104.0 + wall, 7.0 + processor
    assert stopwatch.lap() == pytest.approx(4.0 + counted)
