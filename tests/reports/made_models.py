"""Runs with small models that nobody trained, on crystals that have equivalent and inequivalent atoms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.base.machine import provenance
from benchmarks.data.dataset import Dataset, load_dataset
from benchmarks.data.graph_table import build_graphs
from benchmarks.data.tasks import TASKS
from benchmarks.results.metrics import regression_metrics
from benchmarks.results.recorded import variant_kind_of
from benchmarks.results.run_config import build_config
from benchmarks.results.store import Run, Training, facts_digest
from benchmarks.training.loader import GraphTensors
from benchmarks.training.plans import run_facts
from benchmarks.training.trainer import Predictor, build_model, predict
from sen.crystal import Crystal, refine
from tests.benchmarks.conftest import structure, write_packed
from tests.reports.made_runs import Epoch

SMALL: dict[str, Any] = {
    "sen.encoder_width": 16,
    "sen.head_width": 16,
    "sen.atom_embedding": 16,
    "training.epochs": 1,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "mlp": {**SMALL, "block.hidden": 32, "block.width": 48},
    "capsule": {**SMALL, "block.filters": 16, "block.capsule_width": 64},
    "egnn": SMALL,
    "schnet": {"schnet.width": 16, "schnet.interactions": 1, "training.epochs": 1},
}

FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def perovskite(a: float, c: float, elements: Sequence[str] = ("Ba", "Ti", "O")) -> dict[str, Any]:
    """A tetragonal perovskite: O1 on the axis, two equivalent O2 off it."""
    x, y, z = elements
    sites = np.array([[0, 0, 0], [0.5, 0.5, 0.48], [0.5, 0.5, 0.03], [0.5, 0, 0.53], [0, 0.5, 0.53]])
    return structure(np.diag([a, a, c]), [x, y, z, z, z], sites)


def wurtzite(a: float, elements: Sequence[str] = ("Zn", "S")) -> dict[str, Any]:
    """Wurtzite: each element has two atoms, which a screw relates."""
    lattice = a * np.array([[1, 0, 0], [-0.5, 3**0.5 / 2, 0], [0, 0, 1.633]])
    sites = np.array([[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.375], [2 / 3, 1 / 3, 0.875]])
    return structure(lattice, [elements[0]] * 2 + [elements[1]] * 2, sites)


def rocksalt(a: float, elements: Sequence[str] = ("Na", "Cl")) -> dict[str, Any]:
    return structure(a * FCC, list(elements), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))


def copper(a: float) -> dict[str, Any]:
    """One atom in the primitive cell."""
    return structure(a * FCC, ["Cu"], np.zeros((1, 3)))


def mixed_rows(n: int) -> list[list[Any]]:
    """Rows [structure, target]: perovskites, wurtzites and rocksalts in turn, whose target is their volume."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        a = float(rng.uniform(3.8, 4.4))
        match i % 3:
            case 0:
                made = perovskite(a, 1.07 * a, (["Ba", "Sr", "Ca", "K"][i % 4], ["Ti", "Zr"][i % 2], "O"))
            case 1:
                made = wurtzite(a, (["Zn", "Be"][i % 2], ["S", "O", "Se"][i // 3 % 3]))
            case _:
                made = rocksalt(1.3 * a, (["Na", "Ca", "K"][i // 3 % 3], ["Cl", "O"][i % 2]))
        rows.append([made, a**3])
    return rows


def made_dataset(folder: Path, rows: Sequence[Any], task: str = "matbench_jdft2d") -> Dataset:
    """These rows as the first ones of a task, in a partial file in this folder."""
    folder.mkdir(exist_ok=True, parents=True)
    content = {"index": list(range(len(rows))), "columns": ["structure", TASKS[task].target], "data": list(rows)}
    # Without the time: the same rows are the same file.
    write_packed(folder / f"{task}.partial.json.gz", content)
    return load_dataset(TASKS[task], folder, jobs=1)


def store_models(
    root: Path,
    dataset: Dataset,
    *,
    variant: str = "mlp",
    folds: Sequence[int] = (0, 1, 2, 3, 4),
    seeds: Sequence[int] = (0,),
) -> Run:
    """Store a run whose models have random weights and whose predictions are those of these models."""
    task, table = dataset.task, dataset.table
    config = build_config(task.name, variant, flags=VARIANTS.get(variant, {}))
    run = Run(root / task.name / f"{variant}-{config.digest(dataset.digest)}")
    facts = run_facts(config, dataset)
    run.write_config(facts)
    graphs = GraphTensors(build_graphs(table, config.graph, jobs=1))
    origin = provenance()
    for seed in seeds:
        for number in folds:
            fold = dataset.folds(seed)[number]
            torch.manual_seed(1000 * seed + number + 1)
            model = Predictor(build_model(config))
            model.shift.fill_(float(table.target.mean()))
            model.scale.fill_(float(table.target.std()) or 1.0)
            prediction = predict(model, graphs, fold.test, edge_budget=10_000)
            target = np.asarray(table.target[fold.test])
            ids = table.ids[fold.test].tolist()
            run.write_training(
                Training(seed, number),
                predictions=list(zip(ids, target.tolist(), prediction.tolist(), strict=True)),
                record={
                    "task": task.name,
                    "kind": task.kind,
                    variant_kind_of(facts["config"]): variant,
                    "seed": seed,
                    "fold": number,
                    "metrics": regression_metrics(target, prediction),
                    "mean_absolute_deviation": 1.0,
                    "rows": {part: len(rows) for part, rows in vars(fold).items() if part != "index"},
                    "coverage": dataset.coverage,
                    "elements": table.elements(fold.train),
                    "parameters": 1000,
                    "best_epoch": 1,
                    "epochs": 1,
                    "sessions": [{"device": "cpu", "threads": 1, **origin}],
                    "wall_seconds": 1.0,
                    "peak_memory_bytes": 2**30,
                    "peak_device_memory_bytes": None,
                    "device": "cpu",
                    "threads": 1,
                    "data_digest": table.digest,
                    "run": facts_digest(facts),
                    "provenance": origin,
                },
                history=[Epoch(1, 1.0, 1.0, 1e-3, 1.0)],
                weights=model.state_dict(),
            )
    return run


def crystal(made: dict[str, Any]) -> Crystal:
    """Refine a structure as a task's rows are."""
    sites = made["sites"]
    from sen.crystal import SYMBOLS

    numbers = [SYMBOLS.index(site["species"][0]["element"]) + 1 for site in sites]
    return refine(made["lattice"]["matrix"], [site["abc"] for site in sites], numbers)
