"""What each training lost on each row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.results.store import Training
from reports.study.losses import fold_losses
from reports.study.reading import read_studies
from tests.reports.made_runs import make_run, official, own
from tests.reports.study.conftest import only


def test_losses_are_of_each_seed_and_row(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[1, 3], seeds=[0, 2])
    (result,) = only(read_studies([tmp_path / "runs"])).results
    found = fold_losses(result, "regression")
    assert list(found) == [1, 3]
    for fold, losses in found.items():
        assert losses.seeds == [0, 2]
        for seed, loss in zip(losses.seeds, losses.loss, strict=True):
            part = run.read_predictions(Training(seed, fold))
            assert losses.ids == part.ids
            assert loss == pytest.approx(np.abs(part.prediction - part.target))
        assert np.array_equal(losses.of([2], losses.ids[::-1]), losses.loss[1:, ::-1])


def test_a_row_that_several_folds_test_is_in_each(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", own(tmp_path / "data", split="element", n=160), folds=[0, 5])
    (result,) = only(read_studies([tmp_path / "runs"])).results
    found = fold_losses(result, "regression")
    assert sum(len(each.ids) for each in found.values()) > len(result.rows)


def test_a_published_file_has_one_loss_of_a_row(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", own(tmp_path / "data"), folds=[0])
    study = only(read_studies([tmp_path / "runs"]))
    rows = study.results[0].rows
    file = tmp_path / "theirs.csv"
    lines = [f"{name},{target + 0.5}" for name, target in zip(rows.ids.tolist(), rows.target.tolist(), strict=True)]
    file.write_text("\n".join(["id,prediction", *lines]))
    theirs = only(read_studies([tmp_path / "runs"], against=[file])).published[0]
    (losses,) = fold_losses(theirs, "regression").values()
    assert losses.seeds == [0]
    assert losses.loss == pytest.approx(np.full((1, len(rows)), 0.5))
