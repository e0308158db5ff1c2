"""The section of predictions against true values."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.base.files import plain
from reports.page.section import Figure, Table
from reports.sections.overview import Overview
from reports.sections.parity import Parity
from reports.study.reading import read_studies
from tests.reports.made_runs import make_run, no_progress, official, own, study_of


def test_parity_shows_every_row(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), seeds=[0, 1])
    study = study_of(tmp_path)
    (facts,) = plain(Parity().analyse(study, no_progress))["results"]
    rows = study.results[0].rows
    assert np.allclose(facts["points"], [rows.target, rows.prediction], rtol=1e-4)
    assert facts["seeds"] == [2, 2]


def test_parity_tells_where_not_all_folds_have_as_many_seeds(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, seeds=[0])
    make_run(tmp_path / "runs", dataset, folds=[1], seeds=[1])
    facts = plain(Parity().analyse(study_of(tmp_path), no_progress))
    assert facts["results"][0]["seeds"] == [1, 2]
    (table,) = (block for block in Parity().show(facts) if isinstance(block, Table))
    assert table.rows[0][-1] == "1 to 2"


def test_parity_and_scores_say_what_a_file_does_not_tell_of_its_folds(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    known = study_of(tmp_path).results[0].rows
    file = tmp_path / "theirs.csv"
    file.write_text("\n".join(["id,prediction", *(f"{name},5" for name in known.ids)]) + "\n")
    (study,) = read_studies([tmp_path / "runs"], against=[file])
    shown = list(Parity().show(plain(Parity().analyse(study, no_progress))))
    figure = next(block for block in shown if isinstance(block, Figure))
    assert "by the models that did not see it; no file says whether that holds for theirs." in figure.method
    table = next(block for block in shown if isinstance(block, Table))
    assert [row[table.columns.index("folds")] for row in table.rows] == [5, None]
    scores = [
        block for block in Overview().show(plain(Overview().analyse(study, no_progress))) if isinstance(block, Figure)
    ]
    axes = next(block for block in scores if block.name == "scores").draw().axes[0]
    # Five folds and their mean for the run, a mean alone for the file.
    assert sorted(len(points.get_offsets()) for points in axes.collections) == [1, 1, 5]


def test_labels_are_counted(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", own(tmp_path / "data", kind="classification"))
    facts = plain(Parity().analyse(study_of(tmp_path), no_progress))
    assert sum(facts["results"][0]["confusion"].values()) == facts["results"][0]["rows"] == 60
    assert [item.name for item in Parity().show(facts) if isinstance(item, Table)] == ["confusion"]
