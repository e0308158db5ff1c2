"""The results of runs: configurations, the run store, archives, metrics, statistics, the leaderboard and submissions.

This package imports `benchmarks.base`, `benchmarks.data` and `sen`, and never torch.
"""

from benchmarks.results.export import make_submission, write_submission
from benchmarks.results.leaderboard import published
from benchmarks.results.metrics import primary_metric, score
from benchmarks.results.run_config import RunConfig, build_config
from benchmarks.results.store import Run, Training, find_run, find_runs
from benchmarks.results.submission import read_submission

__all__ = [
    "Run",
    "RunConfig",
    "Training",
    "build_config",
    "find_run",
    "find_runs",
    "make_submission",
    "primary_metric",
    "published",
    "read_submission",
    "score",
    "write_submission",
]
