"""The results of runs: configurations, the run store, archives, metrics, statistics, the leaderboard and submissions.

It imports `benchmarks.base`, `benchmarks.data` and `sen`, and never torch.
"""
