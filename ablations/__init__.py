"""Grids of runs: their execution, on one machine or a cluster, and what they say of blocks beside each other."""
