"""Ablations: grids of runs that differ in their block or in other fields, and the comparison of their results.

`grid` makes the variants of a grid, `tuning` finds their recipes, `cost` estimates what they take, `judge` and `scores`
say how good each of them is, `comparison` compares them by the contrasts that were declared, and `detection` finds how
many seeds that takes. `display` shows progress and results, `answers` words the comparisons, `results` writes the
results into files, and `paper` holds the numbers that the paper of SEN gives. `ablation` has the steps from what is
asked to the result. It imports `benchmarks` and `sen`.
"""

__all__ = [
    "ablation",
    "answers",
    "comparison",
    "cost",
    "detection",
    "display",
    "grid",
    "judge",
    "paper",
    "results",
    "scores",
    "tuning",
]
