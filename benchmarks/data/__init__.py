"""Data sets: tasks, their files, crystals read and refined, graphs, and the folds of the protocol.

It imports `benchmarks.base` and `sen`.
"""
