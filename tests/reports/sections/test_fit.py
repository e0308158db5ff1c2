from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.results.metrics import regression_metrics
from benchmarks.results.store import Training
from benchmarks.training.loader import GraphTensors
from benchmarks.training.trainer import predict
from reports.environments.description import Models
from reports.sections.fit import Fit
from reports.study.study import Absent, Result, Study
from tests.reports.sections.conftest import quiet, words_of


def test_training_rows_are_those_of_the_fold_and_are_predicted_by_its_weights(
    facts: dict[str, dict[str, Any]], study: Study
) -> None:
    from benchmarks.data.graph_table import build_graphs

    (found,) = (result for result in facts["fit"]["results"] if result["label"] == "mlp")
    (run,) = (result.run for result in study.runs if result.label == "mlp")
    models, table = Models(run), study.crystals()
    assert (found["variant"], found["fold"], found["seed"]) == ("mlp", 0, 0)
    recipe = models.config.training
    fold = study.dataset().folds(0, None, recipe.validation, recipe.calibration)[0]
    assert found["n_train"] == found["train"]["rows"] == len(fold.train)
    assert found["test"]["rows"] == len(fold.test)
    assert np.allclose(np.sort(found["train"]["points"][0]), np.sort(table.target[fold.train]), rtol=1e-4)
    graphs = GraphTensors(build_graphs(table, models.config.graph, jobs=1))
    expected = predict(models.load(Training(0, 0)), graphs, np.sort(fold.train), edge_budget=10_000)
    mae = regression_metrics(np.asarray(table.target[np.sort(fold.train)]), expected)["mae"]
    assert found["train"]["metrics"]["mae"] == pytest.approx(mae, rel=1e-4)


def test_of_many_training_rows_a_part_is_predicted(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.sections.fit._MOST_ROWS", 12)
    found = Fit().analyse(study, quiet)
    assert all(result["train"]["rows"] == 12 for result in found["results"])
    assert "12 of them drawn at random" in words_of(Fit, found)


def test_rows_of_other_data_are_not_taken_for_training_rows(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in study.runs:
        monkeypatch.setitem(run.facts["data"], "digest", "0" * 64)
    with pytest.raises(Absent, match="which rows these were is unknown: give the data of the runs with --data-dir"):
        Fit().analyse(study, quiet)


def test_results_that_the_figure_lacks_are_named_with_the_reason(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = study.runs
    published = replace(first, label="ALIGNN", run=None)
    monkeypatch.setattr(study, "results", (*study.results, published))
    monkeypatch.setitem(second.facts["data"], "digest", "0" * 64)
    found = Fit().analyse(study, quiet)
    assert second.label not in [result["label"] for result in found["results"]]
    words = words_of(Fit, found)
    assert f"so which rows it had is unknown: {second.label}. Give the data" in words
    assert "published predictions come without a model: ALIGNN." in words


def test_rows_that_a_run_left_out_are_not_taken_for_training_rows(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run, *_) = study.runs
    dataset = study.dataset()
    fold = dataset.folds(0, None, *_shares(run))[0]
    known = [str(each) for each in dataset.table.ids[[*fold.train, *fold.validation]].tolist()]
    left_out = {"task": "other", "digest": "0" * 64, "ids": known[:5]}
    monkeypatch.setitem(run.facts["data"], "left_out", left_out)
    found = {result["label"]: result["n_train"] for result in Fit().analyse(study, quiet)["results"]}
    n_other = next(n for label, n in found.items() if label != run.label)
    assert n_other == len(fold.train)
    assert n_other - 5 <= found[run.label] < n_other


def _shares(run: Result) -> tuple[float | None, float]:
    recipe = Models(run.run).config.training
    return recipe.validation, recipe.calibration
