"""The `sen-bench` command: its entry point, the commands of this package, their options and what they show.

This package imports every other part of `benchmarks` and `sen`. Only `ablations` and the commands of `reports` import
it.
"""

__all__ = ["commands", "display", "front_door", "main", "options", "progress"]
