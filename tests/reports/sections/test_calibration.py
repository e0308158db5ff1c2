"""The section on intervals and probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from benchmarks.base.files import plain
from benchmarks.results.conformal import coverage_range
from reports.page.section import Table
from reports.sections.calibration import Calibration
from reports.study.reading import read_studies
from reports.study.study import Absent
from tests.reports.made_runs import make_run, no_progress, official, own, study_of
from tests.reports.sections.conftest import words_of

#: Of some 48 training rows of a fold half calibrate.
HALF = {"training.validation": 0.5, "training.calibration": 1.0}


def facts_of(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = plain(Calibration().analyse(study_of(folder), no_progress))
    return facts


def tables(facts: dict[str, Any]) -> dict[str, Table]:
    return {item.name: item for item in Calibration().show(facts) if isinstance(item, Table)}


def test_each_fold_is_calibrated_by_its_own_rows(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", official(tmp_path / "data"), flags=HALF)
    facts = facts_of(tmp_path)
    way = facts["results"][0]["ways"]["absolute"]
    covered, widths, sizes = [], [], []
    for training in run.trainings():
        known, test = run.read_calibration(training), run.read_predictions(training)
        assert known is not None
        half = np.sort(np.abs(known.target - known.prediction))[int(np.ceil((len(known.ids) + 1) * 0.9)) - 1]
        covered += (np.abs(test.target - test.prediction) <= half).tolist()
        widths += len(test.ids) * [2 * half]
        sizes.append((len(known.ids), len(test.ids)))
    assert len(covered) == way["at"]["n"] == 60
    assert way["at"]["coverage"] == pytest.approx(np.mean(covered))
    assert way["at"]["width"] == pytest.approx(np.mean(widths))
    assert way["at"]["range"] == pytest.approx(coverage_range(*zip(*sizes, strict=True), 0.9))
    assert way["at"]["range"][0] <= way["at"]["coverage"] <= way["at"]["range"][1]
    assert way["levels"][-1] == 0.95
    assert 0 < way["area"] < 0.2
    assert "by_spread" not in facts["results"][0]["ways"]
    assert [system["group"] for system in way["systems"]] == ["cubic"]
    assert way["systems"][0]["coverage"] == way["at"]["coverage"]
    assert "miscalibration area" in words_of(Calibration, facts)
    shown = tables(facts)["coverage"]
    assert shown.rows[0][:4] == ["mlp", "absolute", 60, way["at"]["coverage"]]


def test_several_seeds_have_both_ways_and_say_whether_spread_tells_of_errors(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), flags=HALF, seeds=[0, 1, 2])
    (result,) = facts_of(tmp_path)["results"]
    assert list(result["ways"]) == ["absolute", "by_spread"]
    assert result["correlation"]["n"] == 60
    shown = tables(facts_of(tmp_path))
    assert [row[1] for row in shown["coverage"].rows] == ["absolute", "by spread"]
    assert len(shown["systems"].rows) == 2
    assert shown["correlation"].rows[0][0] == "mlp"
    assert "dashed: by spread" in words_of(Calibration, facts_of(tmp_path))


def test_levels_that_need_more_rows_and_runs_without_any_are_named(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, flags={"training.validation": 0.1, "training.calibration": 0.0})
    make_run(tmp_path / "runs", dataset, block="megnet")
    with pytest.raises(Absent, match=r"^No run has an interval\. \w+: .*train with --set"):
        facts_of(tmp_path)
    # Two rows calibrate a fold.
    make_run(tmp_path / "runs", dataset, block="capsule", flags={"training.validation": 0.1})
    facts = facts_of(tmp_path)
    (capsule,) = (result for result in facts["results"] if result["label"] == "capsule")
    assert capsule["ways"]["absolute"]["levels"][-1] == 0.65
    assert tables(facts) == {}
    words = words_of(Calibration, facts)
    assert "capsule has no interval of 90 %: the rows that calibrate of a fold are 2, and 90 % needs 9" in words
    assert "mlp has no interval of 90 %: no row calibrates (training.calibration=0" in words
    assert "megnet has no interval of 90 %: all rows of its recipe train" in words
    make_run(tmp_path / "runs", dataset, block="none", flags={"training.validation": 0.01})
    words = words_of(Calibration, facts_of(tmp_path))
    assert "none has no interval of 90 %: a fold has too few validation rows for one of them to calibrate" in words


def test_without_crystals_and_of_published_predictions_it_says_what_is_lacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), flags=HALF)
    file = tmp_path / "theirs.csv"
    rows = study_of(tmp_path).results[0].rows
    file.write_text("\n".join(["id,prediction", *(f"{name},5" for name in rows.ids)]) + "\n")
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").rename(tmp_path / "away")
    (study,) = read_studies([tmp_path / "runs"], against=[file], data_dir=tmp_path)
    facts = plain(Calibration().analyse(study, no_progress))
    assert set(tables(facts)) == {"coverage"}
    words = words_of(Calibration, facts)
    assert "Published predictions come without rows that calibrate: theirs." in words
    assert "not broken down by crystal system: The crystals of matbench_jdft2d are not available" in words


def test_probabilities_have_a_reliability_diagram_scores_and_sets(tmp_path: Path) -> None:
    dataset = own(tmp_path / "data", kind="classification")
    make_run(tmp_path / "runs", dataset, flags=HALF, noise=0.3)
    facts = facts_of(tmp_path)
    (result,) = facts["results"]
    assert sum(part["rows"] for part in result["reliability"]) == result["rows"] == 60
    assert all(0 <= part["true"] <= 1 for part in result["reliability"])
    rows = study_of(tmp_path).results[0].rows
    assert result["brier"] == pytest.approx(brier_score_loss(rows.target, rows.prediction))
    assert 0 < result["ece"] < 0.5
    at = result["ways"]["absolute"]["at"]
    assert at["range"][0] <= at["coverage"] <= at["range"][1]
    assert 0 <= at["both"] + at["neither"] <= 1
    assert {"probabilities", "coverage", "systems"} == set(tables(facts))
    words = words_of(Calibration, facts)
    assert "expected calibration error" in words
    assert "Sets of labels that should hold the true one for 90 %" in words


def test_probabilities_of_runs_without_sets_are_shown(tmp_path: Path) -> None:
    dataset = own(tmp_path / "data", kind="classification")
    make_run(tmp_path / "runs", dataset, flags={"training.validation": 0.1, "training.calibration": 0.0})
    facts = facts_of(tmp_path)
    assert set(tables(facts)) == {"probabilities"}
    assert "mlp has no set of 90 %: no row calibrates" in words_of(Calibration, facts)
