"""Analyses of finished runs and published predictions, and the HTML report that shows them.

The module `commands` has the commands `audit`, `report` and `explain`. The functions for notebooks and scripts are
`make_report` and `audit`; each is loaded when it is first used. What else is public is exported by the packages in this
one. It may import `sen` and every part of `benchmarks`; neither of them imports it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.front_door import audit, make_report

__all__ = ["audit", "make_report"]


def __getattr__(name: str) -> object:
    """Load a function when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("reports.front_door"), name)
