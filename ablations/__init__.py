"""Ablations: grids of runs that differ in their block or in other fields, and the comparison of their results.

`grid` makes the variants of a grid, `tuning` finds their recipes, `cost` estimates what they take, `judge` and `scores`
say how good each of them is, `comparison` compares them by the contrasts that were declared, and `detection` finds how
many seeds that takes. `display` shows progress and results, `answers` words the comparisons, `results` writes the
results into files, and `paper` holds the numbers that the paper of SEN gives. `ablation` has the steps from what is
asked to the result, which `commands` and `front_door` take. It imports `benchmarks`, `sen` and `reports.study`.
The functions for notebooks and scripts are `ablate` and `compare`; each is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablations.front_door import ablate, compare

__all__ = [
    "ablate",
    "ablation",
    "answers",
    "compare",
    "comparison",
    "cost",
    "detection",
    "display",
    "front_door",
    "grid",
    "judge",
    "paper",
    "results",
    "scores",
    "tuning",
]

_FUNCTIONS = ("ablate", "compare")


def __getattr__(name: str) -> object:
    """Load a function when it is first used (PEP 562)."""
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("ablations.front_door"), name)
