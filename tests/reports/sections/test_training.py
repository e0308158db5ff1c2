"""The section of training curves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.base.files import plain
from reports.page import Figure, Table
from reports.sections.training import Training
from reports.study.study import Absent
from tests.reports.made_runs import make_run, no_progress, official, study_of

HELD_OUT = {"training.validation": 0.1}


def test_training_curves_are_read(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0, 1], flags=HELD_OUT)
    (facts,) = plain(Training().analyse(study_of(tmp_path), no_progress))["results"]
    assert [(curve["fold"], curve["validation"]) for curve in facts["curves"]] == [
        (fold, [0.5, 0.25, 0.16667]) for fold in (0, 1)
    ]
    study = study_of(tmp_path)
    for path in run.path.rglob("history.csv"):
        path.write_text("nothing\n")
    with pytest.raises(Absent, match=r"history\.csv"):
        Training().analyse(study, no_progress)


def test_a_fold_has_the_name_of_its_group(tmp_path: Path) -> None:
    dataset, section = official(tmp_path / "data"), Training()
    make_run(tmp_path / "runs", replace(dataset, task=replace(dataset.task, split="cluster:3")), folds=[0, 2])
    *_, table = section.show(plain(section.analyse(study_of(tmp_path), no_progress)))
    assert isinstance(table, Table)
    assert [row[1] for row in table.rows] == ["0 (cluster 1)", "2 (cluster 3)"]


def test_runs_without_validation_rows_are_named_and_have_no_curve(tmp_path: Path) -> None:
    dataset, section = official(tmp_path / "data"), Training()
    make_run(tmp_path / "runs", dataset, folds=[0])
    facts = plain(section.analyse(study_of(tmp_path), no_progress))
    (table,) = section.show(facts)
    assert isinstance(table, Table)
    assert table.rows[0][5] is None
    make_run(tmp_path / "runs", dataset, block="capsule", folds=[0], flags=HELD_OUT)
    facts = plain(section.analyse(study_of(tmp_path), no_progress))
    figure, table = section.show(facts)
    assert isinstance(figure, Figure)
    assert isinstance(table, Table)
    assert "No validation rows, so the last epoch counts: mlp." in figure.method
    assert len(figure.draw().axes) == 1
    assert sorted(row[5] or 0.0 for row in table.rows) == [0.0, 0.16667]
