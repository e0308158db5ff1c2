from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.base.errors import UsageError
from benchmarks.base.machine import provenance
from reports.page.html import render
from reports.page.report import Report
from reports.page.section import Figure, Table, Text
from reports.paper import figure_names, make_paper
from reports.study.reading import read_studies
from reports.study.study import Study
from tests.reports.made_models import made_dataset, mixed_rows, store_models

GAPS, ENERGIES = "matbench_mp_gap", "matbench_mp_e_form"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, runs on band gaps of three variants, and one on formation energies."""
    folder = tmp_path_factory.mktemp("paper")
    gaps = made_dataset(folder / "data", mixed_rows(120), GAPS)
    for variant in ("capsule", "egnn", "megnet"):
        store_models(folder / "runs", gaps, variant=variant, folds=(0, 1))
    store_models(
        folder / "runs", made_dataset(folder / "data", mixed_rows(40), ENERGIES), variant="capsule", folds=(0,)
    )
    return folder


def studies_of(folder: Path, *tasks: str) -> list[Study]:
    return read_studies([folder / "runs" / task for task in tasks], data_dir=folder / "data")


def paper(studies: Sequence[Study], *names: str, **options: Any) -> Report:
    made = {"made": datetime.now(UTC), "command": ["sen-bench", "report"], "origin": provenance()}
    return make_paper(studies, names or figure_names(), **made, **options)


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return paper(studies_of(folder, GAPS, ENERGIES))


def shown(report: Report) -> dict[str, list[str]]:
    """The names of the figures and tables under each heading."""
    return {
        outcome.name: [item.name for item in outcome.items if isinstance(item, Figure | Table)]
        for part in report.parts
        for outcome in part.outcomes
    }


def test_headings_are_the_figures_of_the_paper_in_its_order(report: Report) -> None:
    assert not report.failures
    gaps, energies = ([outcome.name for outcome in part.outcomes] for part in report.parts)
    assert gaps == [name for name in figure_names() if name != "fig-4c"]
    assert energies == ["fig-4c"]
    found = shown(report)
    assert found["fig-2a"] == ["pearson"]
    assert found["fig-2e"] == ["a-o-x"]
    assert found["fig-3b"] == ["all-rows", "by-target", "maps"]
    assert found["fig-3d-g"] == ["densities"]
    assert found["fig-4a"] == found["fig-4b"] == found["fig-4c"] == ["fit", "fit"]
    assert found["fig-4d"] == ["violins-1", "comparison-1"]
    assert found["fig-s5-s6"] == ["element-correlation"]
    assert found["table-s5"] == ["claims"]


def test_a_figure_says_what_the_paper_shows_and_what_cannot_be_had(report: Report) -> None:
    outcomes = {outcome.name: outcome for part in report.parts for outcome in part.outcomes}
    assert outcomes["fig-2c"].reason.startswith("Densities of states take a calculation of the electrons")
    assert "The paper shows: Projected densities of states of Y4Cu2O7." in outcomes["fig-2c"].reason
    assert outcomes["fig-s3"].reason
    said = next(item.text for item in outcomes["fig-3d-g"].items if isinstance(item, Text))
    assert "There is no run of densenet and tfn: `sen-bench study paper --data-dir DATA`" in said
    table = next(item for item in outcomes["figures"].items if isinstance(item, Table))
    assert len(table.rows) == len(outcomes) - 1
    state = {row[0]: row[2] for row in table.rows}
    assert (state["Fig. 2a"], state["Fig. 2c"], state["Fig. 4c"]) == ("shown", "not shown", "shown")


def test_figures_of_one_model_show_it_alone_and_the_pair_is_that_of_the_paper(report: Report) -> None:
    facts = {outcome.name: outcome.facts for part in report.parts for outcome in part.outcomes}
    assert [result["label"] for result in facts["fig-4a"]["of_section"]["results"]] == ["capsule"]
    assert [result["label"] for result in facts["fig-4b"]["of_section"]["results"]] == ["egnn"]
    (pair,) = facts["fig-4d"]["of_section"]["violins"]
    assert (pair["one"]["label"], pair["other"]["label"]) == ("capsule", "megnet")


def test_every_figure_has_a_command_of_its_own(report: Report) -> None:
    html = render(report, "report.json")
    assert not report.failures
    assert "--sections fig-4d" in html


def test_what_is_missing_is_named_with_the_command_that_makes_it(folder: Path) -> None:
    found = paper(studies_of(folder, ENERGIES), "fig-2a", "fig-4c", "fig-4d")
    (part,) = found.parts
    reasons = {outcome.name: outcome.reason for outcome in part.outcomes}
    assert reasons["fig-2a"].startswith("It needs runs on band gaps (eV): `sen-bench study paper")
    assert reasons["fig-4c"] == ""
    study = studies_of(folder, GAPS)[0]
    study.results = tuple(result for result in study.results if result.label != "megnet")
    (outcome,) = paper([study], "fig-4d").parts[0].outcomes
    assert outcome.reason.startswith("It needs runs of megnet on the same rows: `sen-bench study paper")


def test_claims_stand_beside_the_leaderboard_and_an_audit(folder: Path, tmp_path: Path) -> None:
    study = studies_of(folder, GAPS)[0]
    (outcome,) = paper([study], "table-s5").parts[0].outcomes
    assert any("In a study file, the line `against =" in item.text for item in outcome.items if isinstance(item, Text))
    table = next(item for item in outcome.items if isinstance(item, Table))
    cgcnn = dict(zip(table.columns, table.rows[0], strict=True))
    assert cgcnn["% below it, claimed"] == 39.1
    assert cgcnn["% below it, from the two MAE"] == pytest.approx(39.1, abs=0.4)
    rows = study.results[0].rows
    file = tmp_path / "authors.csv"
    file.write_text(
        "id,prediction\n" + "".join(f"{name},{value + 1}\n" for name, value in zip(rows.ids, rows.target, strict=True))
    )
    (outcome,) = paper([study], "table-s5", against=[file]).parts[0].outcomes
    assert outcome.facts is not None
    assert outcome.facts["audits"][GAPS]["mae"] == pytest.approx(1)
    assert any("authors.csv" in item.text for item in outcome.items if isinstance(item, Text))


def test_other_properties_have_no_figures_in_the_paper(tmp_path: Path) -> None:
    store_models(tmp_path / "runs", made_dataset(tmp_path / "data", mixed_rows(20)), folds=(0,))
    with pytest.raises(UsageError, match="no run has such a target with this unit"):
        paper(read_studies([tmp_path / "runs"], data_dir=tmp_path / "data"))


@pytest.mark.parametrize(
    ("task", "target", "unit", "accepted"),
    [
        ("prototypes", "energy", "eV/atom", False),
        ("mine", "fermi level", "eV", False),
        ("mine", "performance", "eV/atom", False),
        ("mine", "Ewald energy", "eV/atom", False),
        ("mine", "gap hse (eV)", "eV", True),
        ("mine", "gap hse (eV)", "", True),
        ("mine", "bandgap_direct", "eV", True),
        ("mine", "gap", "meV", False),
        ("mine", "Formation energy", "eV/atom", True),
        ("mine", "e_form (eV/atom)", "eV/atom", True),
    ],
)
def test_a_unit_alone_is_no_property_of_the_paper(
    folder: Path, task: str, target: str, unit: str, accepted: bool
) -> None:
    known = studies_of(folder, ENERGIES)[0]
    study = Study(replace(known.task, name=task, target=target, unit=unit), known.results)
    if accepted:
        assert paper([study], "fig-2c").parts
        return
    with pytest.raises(UsageError, match="no run has such a target with this unit"):
        paper([study], "fig-2c")
    gaps = studies_of(folder, GAPS)[0]
    paper([gaps, study], "fig-2c")
    assert gaps.notes[-1].startswith("Left out, because their targets are neither band gaps (eV) nor")
    assert gaps.notes[-1].endswith(f": {task}.")


def test_a_figure_says_which_data_it_shows(report: Report) -> None:
    texts = {
        outcome.name: " ".join(item.text for item in outcome.items if isinstance(item, Text))
        for part in report.parts
        for outcome in part.outcomes
    }
    assert f"Here: gap pbe of {GAPS}, " in texts["fig-4a"]
    assert f"Here: e_form of {ENERGIES}, " in texts["fig-4c"]


def test_no_other_block_stands_for_one_whose_weights_are_lost(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "runs" / GAPS, tmp_path / "runs")
    for weights in tmp_path.glob("runs/capsule-*/**/model.safetensors"):
        weights.unlink()
    (study,) = read_studies([tmp_path / "runs"], data_dir=folder / "data")
    of_capsule = ("fig-2a", "fig-2b", "fig-2d", "fig-2e", "fig-3a", "fig-3b", "fig-3c", "fig-4a", "fig-s4", "fig-s5-s6")
    (part,) = paper([study], *of_capsule, "fig-3d-g", "fig-4b", "fig-4d").parts
    assert not any(outcome.failed for outcome in part.outcomes)
    for outcome in part.outcomes:
        if outcome.name in of_capsule:
            assert "has no weights that can be used: copy model.safetensors back" in outcome.reason, outcome.name
            assert "`sen-bench run --overwrite always`" in outcome.reason
        else:
            assert not outcome.reason, outcome.name
    said = {o.name: o.items[0].text for o in part.outcomes if o.items and isinstance(o.items[0], Text)}
    assert "capsule-" in said["fig-3d-g"]
    assert "has no weights that can be used" in said["fig-3d-g"]
    assert "no weights" not in said["fig-4d"]


def test_a_map_of_another_model_is_not_taken_for_that_of_the_paper(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (study,) = studies_of(folder, GAPS)
    facts = {"all_rows": {"run": {"label": "egnn"}}}
    monkeypatch.setattr("reports.paper._analyse", lambda *_: facts)
    (outcome,) = paper([study], "fig-3b").parts[0].outcomes
    assert outcome.reason.startswith("These runs would show egnn, which is not the paper's model.")


def test_figures_of_training_rows_say_which_runs_had_other_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (study,) = studies_of(folder, GAPS)
    (capsule,) = (run for run in study.runs if run.variant == "capsule")
    monkeypatch.setitem(capsule.facts["data"], "digest", "0" * 64)
    (part,) = paper([study], "fig-4a", "fig-4b").parts
    reasons = {outcome.name: outcome.reason for outcome in part.outcomes}
    assert "unknown: capsule. Give the data of these runs with --data-dir" in reasons["fig-4a"]
    assert not reasons["fig-4b"]


def test_a_figure_is_made_alone(folder: Path, sen_bench: Any, tmp_path: Path) -> None:
    words = ["report", str(folder / "runs"), "--data-dir", str(folder / "data"), "--kind", "paper"]
    out = tmp_path / "paper.html"
    result = sen_bench(*words, "-o", str(out), "--sections", "fig-2c,table-s5")
    assert "fig-2c: nothing to show" in result.out
    assert "--kind paper --sections table-s5" in out.read_text()
    result = sen_bench(*words, "-o", str(tmp_path / "x.html"), "--sections", "fig-2x")
    assert result.code == 2
    assert "There is no section called 'fig-2x'." in result.err
