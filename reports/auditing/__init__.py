"""The audit of published predictions: which official rows they are of, how good they are, what they leave open.

`audit` compares a file of predictions with the rows of its task and returns facts, which the module `verdict` puts into
words. `break_down` and `compare` give errors by crystal system and space group, of one model or of two; the report uses
them as well. It imports `reports.study`, `sen`, and all of `benchmarks` but `benchmarks.cli`.
"""

from reports.auditing.breakdown import break_down, compare
from reports.auditing.facts import audit

__all__ = ["audit", "break_down", "compare"]
