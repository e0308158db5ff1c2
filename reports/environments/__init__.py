"""Environments of atoms by the models of a run: computed, told apart by symmetry, and compared.

It imports `reports.study`, `benchmarks` and `sen`.
"""
