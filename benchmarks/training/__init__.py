"""From a plan to its results: models are trained, stopped, continued and spread over workers, and predict.

`plans` says what is to be trained, `execution` and `cluster` where. `train_one` trains one fold with one seed and
stores the result, with `trainer`, `loader` and `checkpoints`. `summary` and `reference` put results together, and
`prediction` uses the models. `tuning` finds recipes in the spaces of `search`. It imports `benchmarks.base`,
`benchmarks.data`, `benchmarks.results` and `sen`.
"""

from benchmarks.training.execution import execute
from benchmarks.training.plans import Plan, PlannedTraining, make_plan
from benchmarks.training.prediction import Ensemble, read_samples
from benchmarks.training.summary import summarise

__all__ = ["Ensemble", "Plan", "PlannedTraining", "execute", "make_plan", "read_samples", "summarise"]
