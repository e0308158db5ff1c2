"""The section of learning curves."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.base.files import plain
from reports.sections.learning import Learning
from reports.study.study import Absent
from tests.reports.made_runs import make_run, no_progress, official, study_of


def test_learning_curves_are_read(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0, 1])
    (facts,) = plain(Learning().analyse(study_of(tmp_path), no_progress))["results"]
    assert [(curve["fold"], curve["validation"]) for curve in facts["curves"]] == [
        (fold, [0.5, 0.25, 0.16667]) for fold in (0, 1)
    ]
    study = study_of(tmp_path)
    for path in run.path.rglob("history.csv"):
        path.write_text("nothing\n")
    with pytest.raises(Absent, match=r"history\.csv"):
        Learning().analyse(study, no_progress)


def test_a_run_without_validation_rows_has_no_learning_curve(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, folds=[0])
    without = make_run(tmp_path / "runs", dataset, folds=[0], block="egnn")
    study = study_of(tmp_path)
    for path in without.path.rglob("history.csv"):
        path.write_text("epoch,train_loss,validation\n1,0.5,nan\n")
    (facts,) = plain(Learning().analyse(study, no_progress))["results"]
    assert "egnn" not in facts["label"]
