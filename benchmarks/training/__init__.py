"""From a plan to its results: models are trained, stopped, continued, spread over workers, and predict.

It imports `benchmarks.base`, `benchmarks.data`, `benchmarks.results` and `sen`.
"""
