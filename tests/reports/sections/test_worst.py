"""The section of the worst rows: its order, and what its rules for causes say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.base.files import plain
from benchmarks.data.dataset import load_dataset
from benchmarks.data.tasks import TASKS
from reports.sections.worst import MAGNETIC, Worst, find_causes
from reports.study.study import Result, Study
from tests.reports.made_runs import make_run, no_progress, official, study_of


def test_worst_rows_come_first_with_formula_and_space_group(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset)
    make_run(tmp_path / "runs", dataset, block="capsule")
    study = study_of(tmp_path)
    facts = plain(Worst().analyse(study, no_progress))
    errors = [row["error"] for row in facts["worst"]]
    assert errors == sorted(errors, reverse=True)
    means = np.mean([result.rows.error for result in study.results], axis=0)
    assert errors[0] == pytest.approx(means.max())
    assert {row["symbol"] for row in facts["worst"]} == {"Fm3̄m"}
    assert {row["atoms"] for row in facts["worst"]} == {2}
    assert all(min(row["errors"]) <= row["error"] for row in facts["worst"])
    worst = facts["worst"][0]
    at = dataset.table.ids.tolist().index(worst["id"])
    assert worst["target"] == pytest.approx(float(dataset.table.target[at]))


def test_causes_are_what_their_rules_say(data_dir: Path) -> None:
    table = load_dataset(TASKS["matbench_phonons"], data_dir, jobs=1).table
    where = np.arange(len(table))
    causes = find_causes(table, where, [frozenset({"H", "O"})] * len(table))
    formulas = [set(table.elements(np.array([i]))) for i in where]
    assert causes["magnetic"].tolist() == [bool(elements & MAGNETIC) for elements in formulas]
    assert {"Fe", "Ce", "Yb", "U"} <= MAGNETIC
    assert not {"Cu", "Zn", "La", "Lu", "Th", "O"} & MAGNETIC
    assert causes["unseen element"].tolist() == [not elements <= {"H", "O"} for elements in formulas]
    assert causes["extreme target"].sum() == pytest.approx(0.02 * len(table), abs=2)
    assert causes["dense"].sum() == pytest.approx(0.01 * len(table), abs=1)
    assert "no symmetry found" not in causes


def test_an_element_is_unseen_only_where_no_run_had_it(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    study = study_of(tmp_path)
    (whole,) = study.results
    few = replace(
        whole, label="few", records={u: {**record, "elements": ["Na"]} for u, record in whole.records.items()}
    )

    def causes(*results: Result) -> set[str]:
        facts = Worst().analyse(Study(study.task, results, tmp_path / "data"), no_progress)
        return {cause["cause"] for cause in facts["causes"]}

    assert "unseen element" in causes(few)
    assert "unseen element" not in causes(few, whole)
