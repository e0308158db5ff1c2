"""The audit of published predictions: what a file holds, how good it is, what it leaves open.

It imports `reports.study` and `benchmarks`.
"""
