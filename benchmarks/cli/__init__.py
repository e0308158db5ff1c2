"""The `sen-bench` command: its entry point, the commands of this package, their options and what they show.

`front_door` has what `from benchmarks import train` and the like give. This package imports every other part of
`benchmarks` and `sen`. Only `ablations` and the commands of `reports` import it, and `benchmarks` where it is asked for
these functions.
"""

__all__ = ["commands", "display", "front_door", "main", "options", "progress"]
