"""Work on speed changes no result: matbench_phonons, fold 0, seed 0, against numbers of an earlier commit.

Trainings amplify rounding, those with convolutions within some thirty steps. So every block is held to the predictions
and gradients of its first weights, and `mlp` to what an epoch makes of it. Where a result is meant to change::

    python -m tests.benchmarks.training.test_trainer_same_results DATA > tests/benchmarks/training/phonons_fold_0.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.data.dataset import Dataset, load_dataset
from benchmarks.data.folds import Fold
from benchmarks.data.graph_table import build_graphs
from benchmarks.data.tasks import get_task
from benchmarks.results.run_config import RunConfig, build_config
from benchmarks.training.loader import GraphTensors
from benchmarks.training.trainer import Predictor, build_model, predict, train_fold
from sen.registry import block_names

REFERENCE = json.loads(Path(__file__).with_name("phonons_fold_0.json").read_text())
ROWS = 32
OTHERWISE = {"egnn": {"block.aggregation": "mean", "block.distances": "squared"}}
"""Fields of blocks whose defaults are others since."""


def prepare(block: str, data_dir: Path) -> tuple[RunConfig, Dataset, GraphTensors, Fold]:
    task = get_task("matbench_phonons")
    # To 0.01 Å, as in version 0.1, from which the numbers are.
    dataset = load_dataset(task, data_dir, symprec=0.01)
    flags = {"training.epochs": 1, "graph.symprec": 0.01, **OTHERWISE.get(block, {})}
    config = build_config(task.name, block, flags=flags)
    table = dataset.table
    fold = dataset.folds(0)[0]
    return config, dataset, GraphTensors(build_graphs(table, config.graph, jobs=1)), fold


def first_weights(block: str, data_dir: Path) -> dict[str, Any]:
    """Predictions of some test rows and the size of the gradients of some training rows, before any training.

    Both without dropout: they do not depend on whether masks are drawn for each atom or, as now, for each orbit.
    """
    config, _, graphs, fold = prepare(block, data_dir)
    torch.manual_seed(0)
    model = build_model(config).eval()
    predicted = predict(Predictor(model), graphs, fold.test[:ROWS], edge_budget=config.training.edge_budget)
    model(graphs.batch(fold.train[:ROWS])).prediction.square().sum().backward()
    gradients = {
        name: float(torch.cat([p.grad.flatten() for p in part.parameters() if p.grad is not None]).norm())
        for name, part in model.named_children()
        if list(part.parameters())
    }
    return {"prediction": predicted.tolist(), "gradient": gradients}


def an_epoch(block: str, data_dir: Path) -> dict[str, Any]:
    """What one epoch leads to, in 1/cm."""
    config, dataset, graphs, fold = prepare(block, data_dir)
    trained = train_fold(config, graphs, dataset.table.target, fold, kind="regression", seed=0, on_epoch=lambda _: None)
    predicted = predict(trained.predictor, graphs, fold.test[:ROWS], edge_budget=config.training.edge_budget)
    return {"validation": trained.history[-1].validation, "prediction": predicted.tolist()}


@pytest.mark.parametrize("block", REFERENCE["first weights"])
def test_first_weights_predict_and_learn_as_they_did(block: str, data_dir: Path) -> None:
    expected, found = REFERENCE["first weights"][block], first_weights(block, data_dir)
    spread = float(np.std(expected["prediction"]))
    np.testing.assert_allclose(found["prediction"], expected["prediction"], rtol=0, atol=2e-5 * spread)
    assert found["gradient"] == pytest.approx(expected["gradient"], rel=1e-3)


def test_an_epoch_leads_where_it_did(data_dir: Path) -> None:
    expected, found = REFERENCE["an epoch of mlp"], an_epoch("mlp", data_dir)
    assert found["validation"] == pytest.approx(expected["validation"], rel=1e-4)
    np.testing.assert_allclose(found["prediction"], expected["prediction"], rtol=0, atol=0.1)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    numbers = {
        "first weights": {block: first_weights(block, folder) for block in block_names()},
        "an epoch of mlp": an_epoch("mlp", folder),
    }
    sys.stdout.write(json.dumps(numbers, indent=1) + "\n")
