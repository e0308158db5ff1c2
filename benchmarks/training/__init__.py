"""From a plan to its results: models are trained, stopped, continued, spread over workers, and predict.

`make_plan` settles what is trained, `execute` trains it, `summarise` sums up the results, and an `Ensemble` predicts
new structures. This package imports `benchmarks.base`, `benchmarks.data`, `benchmarks.results` and `sen`.
"""

from benchmarks.training.execution import execute
from benchmarks.training.plans import Plan, PlannedTraining, make_plan
from benchmarks.training.prediction import Ensemble, read_samples
from benchmarks.training.summary import summarise

__all__ = ["Ensemble", "Plan", "PlannedTraining", "execute", "make_plan", "read_samples", "summarise"]
