"""A program for a Python that has matbench 0.6, which may lack sen-bench: matbench loads, validates and scores a file.

    python -P matbench_script.py results.json targets.json

`targets.json` holds the targets of tasks in the official order; they replace the official data, which matbench would
download. It prints a JSON object: the scores of each fold of each of these tasks, as matbench computes them, or
{"refused": why} for a file that matbench refuses. With -P the modules beside this one do not hide those of Python.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import matbench.data_ops
import pandas as pd
from matbench.bench import MatbenchBenchmark
from matbench.task import MatbenchTask

__all__ = ["load", "record"]


def load(content: dict[str, Any]) -> MatbenchBenchmark:
    """Let matbench load and validate the content of a submission, which it raises an error to refuse."""
    with tempfile.TemporaryDirectory() as folder:
        # from_file opens the file as plain text.
        unpacked = Path(folder) / "results.json"
        unpacked.write_text(json.dumps(content))
        benchmark = MatbenchBenchmark.from_file(unpacked)
    if not (benchmark.is_recorded and benchmark.is_valid):
        raise ValueError("not every fold of every task is recorded and valid")
    return benchmark


def record(name: str, results: dict[str, Any], targets: list[Any]) -> dict[str, Any]:
    """Let matbench record and score the predictions in a submission as those of a model, and return what it stores.

    Args:
        name: The task.
        results: Its folds in the file.
        targets: The targets of all its rows in the official order.
    """
    metadata = matbench.data_ops.mbv01_metadata[name]
    # What matminer would download, without the structures.
    frame = pd.DataFrame({metadata.input_type: None, metadata.target: targets})
    matbench.data_ops.load_dataset = lambda _: frame
    task = MatbenchTask(name, autoload=False)
    task.load()
    for number, fold in task.folds_map.items():
        ids = task.validation[fold].test
        predictions = [results[fold]["data"][row] for row in ids]
        uncertainty = results[fold]["uncertainty"]
        std = None if uncertainty is None else [uncertainty[row]["std"] for row in ids]
        task.record(number, predictions, std=std, params=results[fold]["parameters"])
    recorded: dict[str, Any] = json.loads(json.dumps(task.as_dict()["results"]))
    task.validate()  # which leaves empty entries in an uncertainty
    return recorded


def _main(file: Path, targets: Path) -> None:
    truth = json.loads(targets.read_text())
    try:
        content = json.loads(file.read_bytes())
        load(content)
        scores: dict[str, Any] = {
            name: {
                fold: result["scores"]
                for fold, result in record(name, content["tasks"][name]["results"], truth[name]).items()
            }
            for name in truth
        }
    except Exception as error:  # noqa: BLE001 - whatever matbench raises, it refuses the file
        scores = {"refused": f"{type(error).__name__}: {error}"}
    print(json.dumps(scores))  # noqa: T201 - the answer


if __name__ == "__main__":
    _main(*map(Path, sys.argv[1:]))
