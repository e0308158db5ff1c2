"""Tasks, data, folds, training, the run store and the `sen-bench` command.

`base` is what the others stand on; `data`, `results`, `training` and `cli` each import those before them and `sen`.
The functions for notebooks and scripts are those that the command calls; each is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.cli.front_door import load_runs, predict, train
    from benchmarks.data.dataset import load_dataset
    from benchmarks.data.own_data import find_task as load_task

__all__ = [
    "base",
    "cli",
    "data",
    "load_dataset",
    "load_runs",
    "load_task",
    "predict",
    "results",
    "train",
    "training",
]

_FUNCTIONS = {
    "load_dataset": ("benchmarks.data.dataset", "load_dataset"),
    "load_runs": ("benchmarks.cli.front_door", "load_runs"),
    "load_task": ("benchmarks.data.own_data", "find_task"),
    "predict": ("benchmarks.cli.front_door", "predict"),
    "train": ("benchmarks.cli.front_door", "train"),
}


def __getattr__(name: str) -> object:
    """Load a function when it is first used (PEP 562)."""
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, function = _FUNCTIONS[name]
    return getattr(import_module(module), function)
