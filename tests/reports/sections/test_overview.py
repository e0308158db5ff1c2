"""The section of results: scores, published models for comparison, and differences."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.base.files import plain
from reports.page.section import Figure, Table, Text
from reports.page.svg import draw_svg
from reports.page.tables import shown
from reports.sections.overview import Overview
from reports.sections.parity import Parity
from reports.sections.systems import Systems
from tests.reports.made_runs import make_resampled, make_run, no_progress, official, own, study_of


@pytest.mark.parametrize("place", [0, 3, 100])
def test_scores_stand_beside_the_published_models_down_to_the_first_that_is_worse(tmp_path: Path, place: int) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    facts = plain(Overview().analyse(study_of(tmp_path), no_progress))
    published = facts["leaderboard"]
    (result,) = facts["results"]
    mae = published[place]["mean"] - 1e-6 if place < len(published) else published[-1]["mean"] + 1
    result |= {"coverage": 1, "mean": {"mae": mae}, "scores": {fold: {"mae": mae} for fold in range(5)}}
    figure = next(block for block in Overview().show(facts) if isinstance(block, Figure) and block.name == "scores")
    names = [label.get_text() for label in figure.draw().axes[0].get_yticklabels()][::-1]
    assert names.index("mlp") == min(place, len(published))
    assert [name for name in names if name != "mlp"] == [entry["label"] for entry in published[: place + 1]]


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_a_run_of_two_seeds_has_one_score_on_the_page(tmp_path: Path, kind: str) -> None:
    make_run(tmp_path / "runs", own(tmp_path / "data", kind=kind), seeds=[0, 1], noise=0.5)
    study = study_of(tmp_path)
    (result,) = study.results
    (overview,) = plain(Overview().analyse(study, no_progress))["results"]
    (parity,) = plain(Parity().analyse(study, no_progress))["results"]
    (systems,) = plain(Systems().analyse(study, no_progress))["results"]
    assert len({(result.rows.fold == fold).sum() for fold in result.folds}) == 1  # else a pooled mean is another
    metric = "mae" if kind == "regression" else "accuracy"
    assert systems["overall"][metric] == pytest.approx(overview["mean"][metric])
    assert parity["metrics"] == pytest.approx(overview["mean"])
    low, high = systems["overall"][f"{metric}_interval"]
    assert low < systems["overall"][metric] < high
    # An ensemble of the two would have another one.
    rows = result.rows
    ensemble = np.abs(rows.prediction - rows.target) if kind == "regression" else (rows.prediction > 0.5) == rows.target
    assert abs(ensemble.mean() - overview["mean"][metric]) > 1e-3


def test_a_fold_without_a_score_gives_a_dash(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", own(tmp_path / "data", kind="classification"))
    study = study_of(tmp_path)
    records = study.results[0].records
    metrics = records[run.trainings()[2]]["metrics"]
    assert isinstance(metrics, dict)
    metrics |= {"matbench_rocauc": None, "rocauc": None}
    facts = plain(Overview().analyse(study, no_progress))
    assert facts["results"][0]["mean"]["matbench_rocauc"] is None
    assert facts["results"][0]["std"]["matbench_rocauc"] is None
    assert facts["results"][0]["std"]["accuracy"] is not None
    blocks = list(Overview().show(facts))
    table = next(block for block in blocks if isinstance(block, Table) and block.name == "results")
    assert shown(table)[0][1:3] == ["–", "–"]
    for name in ("parity", "overview"):
        section = {"parity": Parity, "overview": Overview}[name]()
        for block in section.show(plain(section.analyse(study, no_progress))):
            if isinstance(block, Figure):
                draw_svg(block.draw, name)


def test_parameters_are_listed_by_part_where_they_were_recorded(tmp_path: Path) -> None:
    data = own(tmp_path / "data")
    for block in ("capsule", "mlp"):
        make_run(tmp_path / "runs", data, block=block)
    study = study_of(tmp_path)

    def cost() -> Table:
        shown = Overview().show(plain(Overview().analyse(study, no_progress)))
        return next(block for block in shown if isinstance(block, Table) and block.name == "cost")

    assert "of the head" not in cost().columns
    for record in study.results[1].records.values():
        record["parameters_by_part"] = {"features": 700, "block": 200, "readout": 0, "head": 100}
    table = cost()
    assert table.columns[1:6] == ["parameters", "of the features", "of the block", "of the readout", "of the head"]
    assert [row[1:6] for row in table.rows] == [[1000, *[None] * 4], [1000, 700, 200, 0, 100]]


def words_of(facts: dict[str, Any]) -> str:
    """What the section says, after its figures were drawn."""
    words = []
    for item in Overview().show(facts):
        if isinstance(item, Figure):
            draw_svg(item.draw, "x")
        words.append(item.text if isinstance(item, Text) else "")
    return " ".join(words)


def test_both_questions_are_answered_for_every_contrast(tmp_path: Path) -> None:
    dataset = own(tmp_path / "data", n=200)
    for block, noise in {"capsule": 0.1, "mlp": 0.3, "egnn": 0.1}.items():
        make_run(tmp_path / "runs", dataset, block=block, seeds=range(3), noise=noise)
    make_run(tmp_path / "runs", dataset, block="tfn", noise=0.1)
    study = study_of(tmp_path)
    facts = plain(Overview().analyse(study, no_progress))
    said = words_of(facts)
    # The tables and the figure say which is better.
    assert not re.search("is (better|worse) than|equivalent|no significant difference", said)
    assert "Not assessable: tfn against capsule (no fold has two seeds of both)." in said
    assert "Four of five such studies would find a difference of 0.0" in said
    (found,) = (each for each in facts["differences"]["contrasts"] if each["first"] == "egnn")
    assert f"A difference of 5 % would be found with {found['seeds_for_target']} seeds." in said
    items = {getattr(item, "name", ""): item for item in Overview().show(facts)}
    left, right = items["differences"].draw().axes
    assert [name.get_text() for name in left.get_yticklabels()] == [
        f"{name} – capsule" for name in ("tfn", "mlp", "egnn")
    ]
    for panel, verdicts in (
        (left, ["no significant difference", "worse", "not assessable"]),
        (right, ["no significant difference", "worse", "no significant difference"]),
    ):
        assert [text.get_text() for text in panel.texts] == verdicts[::-1]
        assert [2 * found["margin"]] * 3 == pytest.approx([bar.get_width() for bar in panel.patches], rel=0.1)
    verdicts = [row[1] for row in shown(items["on-new-data"])]
    assert verdicts == ["no significant difference", "worse", "no significant difference"]
    study.margin = 0.9
    facts = plain(Overview().analyse(study, no_progress))
    table = next(item for item in Overview().show(facts) if getattr(item, "name", "") == "on-new-data")
    assert shown(table)[0][:2] == ["egnn – capsule", "equivalent"]


def test_a_result_without_any_error_is_compared(tmp_path: Path) -> None:
    dataset = own(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, block="capsule", seeds=[0, 1], noise=0)
    make_run(tmp_path / "runs", dataset, seeds=[0, 1])
    facts = plain(Overview().analyse(study_of(tmp_path), no_progress))
    (found,) = facts["differences"]["contrasts"]
    assert (found["score"], found["relative"], found["seeds_for_target"]) == (0, None, None)
    assert found["on_new_data"]["verdict"] == "worse"


def test_published_models_bear_their_tags_and_only_official_ones_have_places(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    facts = plain(Overview().analyse(study_of(tmp_path), no_progress))
    table = next(b for b in Overview().show(facts) if isinstance(b, Table) and b.name == "leaderboard")
    rows = {model: (place, tags) for place, model, _, _, tags in shown(table)}
    assert rows["DenseNGN"] == ("–", "unmerged")
    assert rows["MODNet (v0.1.12)"] == ("1", "official")
    assert rows["Dummy"] == ("16", "official")
    assert "DenseNGN, DenseGNN-Voronoi, DenseGNN: Du et al." in table.method
    assert "one fold: the score of one fold" in table.method


def test_groups_are_not_ranked_and_say_what_folds_test(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data", n=130)
    dataset = replace(dataset, task=replace(dataset.task, split="element"))
    for block in ("capsule", "mlp"):
        make_run(tmp_path / "runs", dataset, block=block, folds=range(len(dataset.fold_names)), seeds=[0, 1])
    facts = plain(Overview().analyse(study_of(tmp_path), no_progress))
    assert (facts["leaderboard"], facts["source"], facts["split"]) == ([], None, "element")
    assert facts["fold_names"] == dataset.fold_names
    assert not any(result["is_official"] for result in facts["results"])
    (contrast,) = facts["differences"]["contrasts"]
    assert contrast["on_these_folds"]["reason"] == "rows are tested in several folds"
    assert "no random sample" in contrast["on_new_data"]["reason"]
    words = " ".join(words_of(facts).split())
    assert "A fold tests groups (element) of which no row was trained on." in words
    assert "A row is tested in several folds" in words
    assert "Such scores have no place on a leaderboard." in words
    assert "split once" not in words


def test_random_splits_are_not_ranked_and_say_how_often_one_is_better(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    for block, noise in {"capsule": 0.5, "mlp": 0.1}.items():
        make_resampled(tmp_path / "runs", dataset, block=block, noise=noise)
    facts = plain(Overview().analyse(study_of(tmp_path), no_progress))
    assert (facts["leaderboard"], facts["source"], facts["split"]) == ([], None, "resample")
    assert not any(result["is_official"] for result in facts["results"])
    (contrast,) = facts["differences"]["contrasts"]
    assert contrast["superiority"] == {
        "share": 1.0, "low": pytest.approx(0.6306, abs=1e-4), "high": 1.0, "splits": 8,
        "p": pytest.approx(2 * 0.5**8), "finding": "meaningful",
    }  # fmt: skip
    words = " ".join(words_of(facts).split())
    assert "have no place on a leaderboard" in words
    assert "split once" not in words
    assert "--seeds 2" not in words
    table = next(item for item in Overview().show(facts) if isinstance(item, Table) and item.name == "on-new-data")
    assert table.columns[-4:] == ["first better (%)", "low (%)", "high (%)", "finding"]
    assert table.rows[0][-4:] == [100.0, pytest.approx(63.06, abs=0.01), 100.0, "meaningful"]


def test_one_poor_result_does_not_crush_the_figure_of_scores(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    for block, noise in {"capsule": 0.1, "mlp": 0.11, "egnn": 5.0}.items():
        make_run(tmp_path / "runs", dataset, block=block, noise=noise)
    facts = plain(Overview().analyse(study_of(tmp_path), no_progress))
    figure = next(item for item in Overview().show(facts) if isinstance(item, Figure) and item.name == "scores")
    axes = figure.draw().axes[0]
    by_label = {result["label"]: result for result in facts["results"]}
    assert by_label["egnn"]["mean"]["mae"] > 10 * axes.get_xlim()[1]
    (beyond,) = axes.texts
    assert beyond.get_text() == f"{by_label['egnn']['mean']['mae']:.3f} →"
    assert "An arrow: the mean lies beyond the axis." in figure.caption
    # Intervals are those of the table.
    drawn = [lines.get_segments()[0][:, 0].tolist() for lines in axes.collections if hasattr(lines, "get_segments")]
    ends = [[by_label[label]["row_error"][end] for end in ("low", "high")] for label in ("mlp", "capsule")]
    assert np.array(drawn) == pytest.approx(np.array(ends))


def test_equal_places_are_said_once(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    study = study_of(tmp_path)
    facts = plain(Overview().analyse(study, no_progress))
    (result,) = facts["results"]
    facts["results"] = [
        {**result, "label": label, "is_official": True, "coverage": 1, "mean": {**result["mean"], "mae": mae}}
        for label, mae in {"a": 1e-3, "b": 2e-3, "c": 1e9}.items()
    ]
    facts["differences"] = None
    said = " ".join(words_of(facts).split())
    n = sum(entry["is_official"] for entry in facts["leaderboard"])
    assert f"official published models: 1 (a and b), {n + 1} (c)." in said
