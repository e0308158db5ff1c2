"""Analyses of finished runs and published predictions, and the HTML report that shows them.

The module `commands` has the commands `audit`, `report` and `explain`. Functions are exported by the packages in this
one, which exports none itself. It may import `sen` and every part of `benchmarks`; neither of them imports it.
"""

__all__: list[str] = []
