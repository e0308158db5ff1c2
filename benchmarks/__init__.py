"""Tasks, data, folds, training, the run store and the `sen-bench` command.

`base` is what the others stand on; `data`, `results`, `training` and `cli` each import those before them and `sen`.
"""

__all__ = ["base", "cli", "data", "results", "training"]
