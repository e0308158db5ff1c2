"""Ablations: grids of runs that differ in their block or in other fields, and the comparison of their results.

`grid` makes the variants of a grid, `tuning` finds their recipes, `cost` estimates what they take, `judge` and `scores`
say how good each of them is, and `comparison` which differences are significant. `display` shows progress and results,
`results` writes the results into files, and `paper` holds the numbers that the paper of SEN gives. It imports
`benchmarks` and `sen`.
"""

__all__ = ["comparison", "cost", "display", "grid", "judge", "paper", "results", "scores", "tuning"]
