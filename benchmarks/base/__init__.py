"""What the other packages stand on: errors, files, the cache, worker processes, signals, the machine and the terminal.

Nothing here knows about crystals or models. This package imports no other package of sen-bench.
"""

from benchmarks.base.errors import DataError, RunError, SenBenchError, UsageError
from benchmarks.base.interrupts import Interrupted
from benchmarks.base.workers import Progress

__all__ = ["DataError", "Interrupted", "Progress", "RunError", "SenBenchError", "UsageError"]
