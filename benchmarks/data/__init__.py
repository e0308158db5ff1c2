"""Data sets: tasks and their files, crystals as they are read and refined, their graphs, and the folds of MatBench.

`find_task` returns the task of a name or of a file of your own, `load_dataset` its crystals, and `Dataset.folds` its
folds. This package imports `benchmarks.base` and `sen`, and loads torch for the statistics of crystals alone.
"""

from benchmarks.data.crystal_table import CrystalTable
from benchmarks.data.dataset import Dataset, load_dataset
from benchmarks.data.folds import Fold
from benchmarks.data.graph_table import GraphSettings, GraphTable, build_graphs
from benchmarks.data.own_data import find_task
from benchmarks.data.tasks import TASKS, Task, get_task

__all__ = [
    "TASKS",
    "CrystalTable",
    "Dataset",
    "Fold",
    "GraphSettings",
    "GraphTable",
    "Task",
    "build_graphs",
    "find_task",
    "get_task",
    "load_dataset",
]
