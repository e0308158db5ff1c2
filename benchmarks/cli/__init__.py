"""The `sen-bench` command: its entry point, the commands of this package, their options and what they show.

This package imports every other part of `benchmarks` and `sen`. Only the commands of `ablations` and `reports` import
it.
"""

from benchmarks.cli.main import main

__all__ = ["main"]
