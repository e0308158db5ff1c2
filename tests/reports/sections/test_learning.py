"""The section of learning curves."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.base.files import plain
from reports.page.section import Figure, Table, Text
from reports.page.svg import draw_svg
from reports.sections.learning import Learning
from reports.study.study import Absent
from tests.benchmarks.conftest import replace_file
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


def test_runs_without_validation_rows_have_no_curve(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, folds=[0])
    path = make_run(tmp_path / "runs", dataset, block="egnn", folds=[0]).path / "seed_0" / "fold_0"
    lines = [line.split(",") for line in (path / "history.csv").read_text().splitlines()]
    at = lines[0].index("validation")
    history = "\n".join(
        ",".join([*line[:at], "nan" if i else line[at], *line[at + 1 :]]) for i, line in enumerate(lines)
    )
    replace_file(path, "history.csv", history.encode())
    facts = plain(Learning().analyse(study_of(tmp_path), no_progress))
    text, figure, table = Learning().show(facts)
    assert isinstance(text, Text)
    assert "no curve: egnn." in text.text
    assert isinstance(figure, Figure)
    assert "egnn" not in figure.alt
    assert "<svg" in draw_svg(figure.draw, "x")
    assert isinstance(table, Table)
    assert {row[0]: row[5] for row in table.rows} == {"egnn": None, "mlp": 0.16667}
    facts["results"] = [result for result in facts["results"] if result["label"] == "egnn"]
    assert [type(item) for item in Learning().show(facts)] == [Text, Table]
