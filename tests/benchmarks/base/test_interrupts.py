from __future__ import annotations

import subprocess
import sys

import pytest

# What `nohup` and `&` do, in a process of its own: signals are the whole process's.
IGNORED = """
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
from benchmarks.base.interrupts import note_signals, raise_at_signals
raise_at_signals()
os.kill(os.getpid(), signal.SIGHUP)
with note_signals() as stop:
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGINT)
    print(bool(stop))
    os.kill(os.getpid(), signal.SIGTERM)
    print(bool(stop))
os.kill(os.getpid(), signal.SIGINT)
print("still there")
"""

HEEDED = """
import os, signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from benchmarks.base.interrupts import note_signals, raise_at_signals
raise_at_signals()
with note_signals() as stop:
    os.kill(os.getpid(), signal.SIGHUP)
    print(bool(stop))
try:
    os.kill(os.getpid(), signal.SIGHUP)
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize(
    ("code", "expected"), [(IGNORED, ["False", "True", "still", "there"]), (HEEDED, ["True", "stopped"])]
)
def test_a_signal_that_is_ignored_from_the_start_stays_ignored(code: str, expected: list[str]) -> None:
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ended.stdout.split() == expected
