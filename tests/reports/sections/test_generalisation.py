"""The section of groups that were never trained on, and of test rows that training rows resemble."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.base.files import plain
from reports.page.section import Figure, Heading, Table, Text
from reports.page.svg import draw_svg
from reports.sections.generalisation import Generalisation, _mean_gap
from reports.study.reading import read_studies
from reports.study.study import Absent, Study
from tests.reports.made_runs import N_ROWS, make_run, no_progress, own


def studies_of(folder: Path) -> dict[str, Study]:
    """Studies by their split."""
    found = read_studies([folder / "runs"], data_dir=folder / "data")
    return {study.task.split: study for study in found}


def facts_of(study: Study) -> dict[str, Any]:
    facts: dict[str, Any] = plain(Generalisation().analyse(study, no_progress))
    return facts


def make_runs(
    folder: Path,
    split: str,
    noise: dict[str, float],
    *,
    kind: str = "regression",
    seeds: Sequence[int] = (0, 1),
    n: int = N_ROWS,
) -> None:
    dataset = own(folder / "data", split=split, kind=kind, n=n)
    for block, width in noise.items():
        folds = range(dataset.n_folds or 0)
        make_run(folder / "runs", dataset, block=block, noise=width, seeds=seeds, folds=folds)


def words_of(facts: dict[str, Any]) -> str:
    """All that the section says, after its figures were drawn."""
    words = []
    for item in Generalisation().show(json.loads(json.dumps(facts))):
        if isinstance(item, Figure):
            assert "<svg" in draw_svg(item.draw, "x")
            words += [item.caption, item.method, item.alt]
        elif isinstance(item, Table):
            words += [item.caption, item.method]
        elif isinstance(item, Text | Heading):
            words.append(item.text)
    return " ".join(words)


def test_test_rows_are_divided_by_what_is_in_training(tmp_path: Path) -> None:
    make_runs(tmp_path, "folds", {"mlp": 0.1})
    study = studies_of(tmp_path)["folds"]
    facts = facts_of(study)
    overlap = facts["overlap"]
    (result,) = overlap["results"]
    assert overlap["rows"] == 60
    rows = study.results[0].rows
    for name in ("formula", "crystal"):
        with_it, without = result[name]
        assert (with_it["n"], without["n"]) == (
            pytest.approx(60 * overlap[name]), pytest.approx(60 * (1 - overlap[name]))
        )  # fmt: skip
        total = sum(part["n"] * part["loss"] for part in (with_it, without) if part["n"])
        assert total / 60 == pytest.approx(rows.error.mean())
    # 60 crystals of 16 formulas, and of volumes that differ by chance.
    assert overlap["formula"] > 0.9
    assert overlap["crystal"] < 0.1
    assert facts["groups"] is None
    assert "nearly identical crystal" in words_of(facts)


def test_runs_with_a_limit_have_other_training_rows_and_are_left_out(tmp_path: Path) -> None:
    make_runs(tmp_path, "folds", {"mlp": 0.1})
    make_run(tmp_path / "runs", own(tmp_path / "data"), block="egnn", flags={"limit": 20})
    facts = facts_of(studies_of(tmp_path)["folds"])
    assert [result["label"] for result in facts["overlap"]["results"]] == ["mlp"]
    assert "formulas of another task): egnn (limit 20)." in words_of(facts)


def test_no_table_is_shown_without_results_in_it(tmp_path: Path) -> None:
    make_runs(tmp_path, "folds", {"mlp": 0.1})
    facts = facts_of(studies_of(tmp_path)["folds"])
    assert "overlap" in [getattr(item, "name", "") for item in Generalisation().show(facts)]
    facts["overlap"]["results"] = []
    assert "overlap" not in [getattr(item, "name", "") for item in Generalisation().show(facts)]


def test_without_crystals_nothing_is_known_of_the_official_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs(tmp_path, "folds", {"mlp": 0.1})
    (tmp_path / "data" / "mine.json").unlink()
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(Absent, match=r"mine\.json"):
        facts_of(studies_of(tmp_path)["folds"])


def test_the_gap_is_of_the_same_rows_outside_and_inside(tmp_path: Path) -> None:
    make_runs(tmp_path, "folds", {"mlp": 0.1, "capsule": 0.1})
    make_runs(tmp_path, "formula", {"mlp": 0.4, "capsule": 0.2})
    studies = studies_of(tmp_path)
    facts = facts_of(studies["formula"])
    assert facts["overlap"]["formula"] == 0
    models = {model["label"]: model for model in facts["groups"]["models"]}
    outside, inside = (
        next(run for run in studies[split].runs if run.variant == "mlp").rows for split in ("formula", "folds")
    )
    for group in models["mlp"]["groups"]:
        ids = outside.ids[outside.fold == group["fold"]]
        assert group["outside"]["loss"] == pytest.approx(outside.error[np.isin(outside.ids, ids)].mean())
        assert group["inside"]["loss"] == pytest.approx(inside.error[np.isin(inside.ids, ids)].mean())
        assert group["gap"]["loss"] == pytest.approx(group["outside"]["loss"] - group["inside"]["loss"])
    assert models["mlp"]["gap"] == pytest.approx(np.mean([group["gap"]["loss"] for group in models["mlp"]["groups"]]))
    low, high = models["mlp"]["gap_interval"]
    assert 0 < low < models["mlp"]["gap"] < high
    (contrast,) = facts["groups"]["contrasts"]
    assert (contrast["first"], contrast["second"]) == ("mlp", "capsule")
    assert contrast["difference"] == pytest.approx(models["mlp"]["gap"] - models["capsule"]["gap"])
    assert contrast["p"] < 0.05
    assert all(fold["distance"] > 0 == fold["known_formula"] for fold in facts["groups"]["folds"])
    assert any(fold["official_distance"] == 0 for fold in facts["groups"]["folds"])
    words = words_of(facts)
    assert "mlp loses more outside than capsule" in words
    assert "The floor is missing" in words
    assert "in the part on mine: a (formula) of this report" in words_of(facts_of(studies["folds"]))


def test_nine_rows_have_no_interval_and_are_drawn(tmp_path: Path) -> None:
    make_runs(tmp_path, "formula", {"mlp": 0.4}, n=45)
    facts = facts_of(studies_of(tmp_path)["formula"])
    (model,) = facts["groups"]["models"]
    assert {group["outside"]["n"] for group in model["groups"]} == {9}
    assert all(group["outside"]["interval"] == [None, None] for group in model["groups"])
    figure = next(item for item in Generalisation().show(facts) if isinstance(item, Figure))
    assert "<svg" in draw_svg(figure.draw, "x")


def test_a_group_of_few_rows_leaves_few_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    sizes = [3, 100, 200, 250]
    held = 0
    for _ in range(1000):
        estimate = _mean_gap([rng.normal(size=n) for n in sizes], share_rows=False)
        held += estimate.interval()[0] < 0 < estimate.interval()[1]
    assert 0.9 < held / 1000 < 0.97  # 0.85 with the degrees of freedom of all rows
    many = [rng.normal(size=200) for _ in range(5)]
    assert _mean_gap(many, share_rows=False).df > 900
    assert math.isnan(_mean_gap(many, share_rows=True).interval()[0])
    assert math.isnan(_mean_gap([*many, np.zeros(1)], share_rows=False).interval()[0])
    assert _mean_gap([np.zeros(2), np.zeros(3)], share_rows=False).interval() == (0, 0)


def test_trees_are_the_floor(tmp_path: Path) -> None:
    make_runs(tmp_path, "formula", {"mlp": 0.4, "capsule": 0.01, "trees": 0.1})
    words = words_of(facts_of(studies_of(tmp_path)["formula"]))
    assert "capsule has a smaller error outside than trees, the floor, in every group." in words
    assert "mlp has a larger error outside than trees, the floor, in fold 0, fold 1, fold 2, fold 3" in words
    assert "There are no runs on the official folds of these data, so" in words


def test_one_seed_says_nothing_of_the_noise_and_elements_share_rows(tmp_path: Path) -> None:
    for split in ("folds", "formula", "element"):
        make_runs(tmp_path, split, {"mlp": 0.1, "capsule": 0.1}, seeds=[0], n=160)
    studies = studies_of(tmp_path)
    reasons = {
        split: [each["reason"] for each in facts_of(studies[split])["groups"]["not_compared"]]
        for split in ("formula", "element")
    }
    assert reasons == {
        "formula": ["each was trained once"],
        "element": ["rows are tested in several folds"],
    }


def test_groups_need_no_crystals_but_for_distances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_runs(tmp_path, "element", {"mlp": 0.1, "trees": 0.1}, n=160)
    (tmp_path / "data" / "mine.json").unlink()
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    facts = facts_of(studies_of(tmp_path)["element"])
    names = [group["name"] for group in facts["groups"]["models"][0]["groups"]]
    assert set(names) <= {"Li", "Na", "K", "Rb", "F", "Cl", "Br", "I"}
    assert len(names) > 4
    assert "The distance to training rows is not known. The crystals of mine are not available" in words_of(facts)


def test_a_classification_has_shares_of_wrong_labels(tmp_path: Path) -> None:
    for split in ("folds", "formula"):
        make_runs(tmp_path, split, {"mlp": 0.5, "trees": 0.4}, kind="classification", n=2 * N_ROWS)
    facts = facts_of(studies_of(tmp_path)["formula"])
    assert all(0 <= group["outside"]["loss"] <= 1 for group in facts["groups"]["models"][0]["groups"])
    assert "share of wrong labels" in words_of(facts)
