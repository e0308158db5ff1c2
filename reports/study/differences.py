"""Which of two results is better: the contrasts of a study, compared as `sen-bench ablate` compares the same runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.base.errors import UsageError
from benchmarks.results.contrasts import Compared, Comparison, compare, declare
from benchmarks.results.metrics import primary_metric
from benchmarks.results.statistics import share_tested
from benchmarks.results.store import Predictions, Training
from reports.study.study import Result, Study

__all__ = ["choose_contrasts", "compare_results", "contrasts_of"]


def choose_contrasts(studies: Sequence[Study], given: Sequence[str], margin: float) -> None:
    """Choose what is compared in studies, and what does not matter: their `contrasts` and their `margin`.

    Args:
        studies: The studies; each leaves out the contrasts whose results are not both in it.
        given: Two labels each with a colon between them, such as "mlp:capsule". Without any the default remains.
        margin: Share of the second result's score within which a difference does not matter.

    Raises:
        UsageError: A contrast is not of two results, is given twice, or no study has both results.
    """
    for study in studies:
        study.margin = margin
    if not given:
        return
    declared = declare({label: each for study in studies for label, each in _variants(study).items()}, given)
    for study in studies:
        results = {result.label: result for result in study.results}
        study.contrasts = [
            (results[first], results[second]) for first, second in declared if {first, second} <= results.keys()
        ]
    found = {(first.label, second.label) for study in studies for first, second in study.contrasts or ()}
    for first, second in declared:
        if (first, second) not in found:
            raise UsageError(f"--contrast: no task has results of both {first} and {second}: nothing to compare.")


def contrasts_of(study: Study) -> list[tuple[Result, Result]]:
    """Return the contrasts of a study: those that the user names, or the default of `benchmarks.results.contrasts`."""
    if study.contrasts is not None or len(study.results) < 2:
        return study.contrasts or []
    results = {result.label: result for result in study.results}
    return [(results[first], results[second]) for first, second in declare(_variants(study))]


def compare_results(study: Study, contrasts: Sequence[tuple[Result, Result]] | None = None) -> list[Comparison]:
    """Compare the results of each contrast; those without a common training or row are left out.

    Args:
        study: The study.
        contrasts: By default its own.

    Raises:
        DataError: Predictions of a run cannot be read.
    """
    contrasts = contrasts_of(study) if contrasts is None else contrasts
    metric = primary_metric(study.task.kind)
    runs = {run.label: _of_run(run, metric.name) for pair in contrasts for run in pair if run.run}

    def compared(result: Result, other: Result) -> Compared:
        return runs[result.label] if result.run else _of_file(result, other.seeds or [0], study.n_folds)

    return compare(
        [(compared(first, second), compared(second, first)) for first, second in contrasts],
        study.task.kind,
        higher_is_better=metric.higher_is_better,
        margin=study.margin,
        resampled=study.task.is_resampled,
        not_assessable=study.task.not_assessable,
    )


def _variants(study: Study) -> dict[str, tuple[str, frozenset[Any]]]:
    """Return the name of the block or model of each result, and the values that it was given, as `declare` takes it."""
    return {
        result.label: (
            result.variant or result.label,
            frozenset((field, json.dumps(value)) for field, value in result.chosen().items())
            if result.run
            else frozenset(),
        )
        for result in study.results
    }


def _of_run(result: Result, metric: str) -> Compared:
    assert result.run is not None
    return Compared(
        label=result.label,
        score={training: record["metrics"][metric] for training, record in result.records.items()},
        predictions={training: result.run.read_predictions(training) for training in result.trainings},
        test_to_train=share_tested(result.records.values()),
    )


def _of_file(result: Result, seeds: Sequence[int], n_folds: int) -> Compared:
    """Return a published result, which is of one training for each fold, beside each of these seeds."""
    not_assessable = {"on_these_folds": "a published file is of one training"}
    if not result.has_folds:
        not_assessable["on_new_data"] = "its folds are not known"
    predictions: dict[Training, Predictions] = {}
    for fold in result.folds:
        rows = result.rows.take(result.rows.fold == fold)
        part = Predictions(rows.ids.tolist(), rows.target, rows.prediction)
        predictions |= {Training(seed, fold): part for seed in seeds}
    # All rows of the other folds may have been trained on.
    return Compared(
        result.label,
        dict.fromkeys(predictions, np.nan),
        predictions,
        1 / (n_folds - 1) if n_folds > 1 else 0.0,
        not_assessable,
    )
