"""What a run is and what it found: its configuration, the run store, metrics, statistics, the leaderboard, submissions.

It imports `benchmarks.base`, `benchmarks.data` and `sen`, and never torch.
"""
