"""From a plan to its results: models are trained, stopped, continued and spread over workers, and predict.

`plans` says what is to be trained, `execution` and `cluster` where. `train_one` trains one fold with one seed and
stores the result, with `trainer`, `loader` and `checkpoints`. `summary` and `reference` put results together, and
`prediction` uses the models. It imports `benchmarks.base`, `benchmarks.data`, `benchmarks.results` and `sen`.
"""
