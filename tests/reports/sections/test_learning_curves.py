"""The section of errors against training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.base.files import plain
from reports.page.section import Figure, Table, Text
from reports.page.svg import draw_svg
from reports.sections.learning_curves import LearningCurves
from reports.study.study import Absent
from sen.network import SEN
from tests.reports.made_runs import make_run, no_progress, official, own, study_of, tuned_by


def make_curve(
    folder: Path,
    exponent: float,
    *,
    factor: float = 1.0,
    block: str = "mlp",
    limits: tuple[int | None, ...] = (10, 20, 40),
    **options: Any,
) -> None:
    """Store runs of a block with several limits whose errors follow a power law exactly, on own data."""
    dataset = own(folder / "data")  # 48 rows to train on
    for limit in limits:
        noise = factor * (limit or 48) ** -exponent
        make_run(folder / "runs", dataset, block=block, noise=noise, flags={"limit": limit}, **options)


def facts_of(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = plain(LearningCurves().analyse(study_of(folder), no_progress))
    return facts


def test_a_power_law_is_found_again(tmp_path: Path) -> None:
    make_curve(tmp_path, 0.5, limits=(10, 20, None), seeds=[0, 1])
    (curve,) = facts_of(tmp_path)["curves"]
    assert curve["label"] == "mlp"
    assert [(point["limit"], point["rows"]) for point in curve["points"]] == [(10, 10), (20, 20), (None, 48)]
    errors = [point["error"] for point in curve["points"]]
    assert errors[0] / errors[1] == pytest.approx(2**0.5)
    law = curve["power_law"]
    assert law["exponent"] == pytest.approx(0.5)
    assert law["interval"] == pytest.approx([0.5, 0.5])
    assert law["deviation"] == pytest.approx(0, abs=1e-9)
    assert all(point["interval"][0] < point["error"] < point["interval"][1] for point in curve["points"])
    assert (curve["folds"], curve["n_seeds"]) == ([0, 1, 2, 3, 4], 2)


def test_rows_needed_are_interpolated_and_never_extrapolated(tmp_path: Path) -> None:
    make_curve(tmp_path, 0.5)
    make_curve(tmp_path, 0.25, factor=0.5, block="egnn")
    facts = facts_of(tmp_path)
    curves = {curve["label"]: [point["error"] for point in curve["points"]] for curve in facts["curves"]}
    of_egnn = next(target for target in facts["needed"] if target["label"] == "egnn")
    assert of_egnn["error"] == curves["egnn"][-1]
    mine, theirs = sorted(of_egnn["needed"], key=lambda each: each["label"] == "mlp")
    assert (mine["label"], mine["bound"], mine["rows"]) == ("egnn", "", 40)
    assert curves["mlp"][0] > of_egnn["error"] > curves["mlp"][-1]
    expected = 10 * (curves["mlp"][0] / of_egnn["error"]) ** 2
    assert (theirs["bound"], theirs["rows"]) == ("", pytest.approx(expected))
    of_mlp = next(target for target in facts["needed"] if target["label"] == "mlp")
    assert {each["label"]: (each["bound"], each["rows"]) for each in of_mlp["needed"]} == {
        "mlp": ("", 40), "egnn": ("more than", 40)
    }  # fmt: skip
    (compared,) = facts["exponents"]
    assert (compared["first"], compared["second"]) == ("mlp", "egnn")
    assert compared["difference"] == pytest.approx(0.25)


def test_the_interval_of_one_fold_is_over_its_seeds(tmp_path: Path) -> None:
    make_curve(tmp_path, 0.5, folds=[0], seeds=[0, 1, 2])
    (curve,) = facts_of(tmp_path)["curves"]
    assert (curve["folds"], curve["n_seeds"]) == ([0], 3)
    assert None not in curve["points"][0]["interval"]


def test_without_two_folds_or_seeds_there_is_no_interval(tmp_path: Path) -> None:
    make_curve(tmp_path, 0.5, folds=[0])
    (curve,) = facts_of(tmp_path)["curves"]
    assert curve["power_law"]["interval"] == curve["points"][0]["interval"] == [None, None]


def test_only_what_every_number_of_rows_has_counts(tmp_path: Path) -> None:
    make_curve(tmp_path, 0.5, limits=(10,), folds=[0, 1, 2])
    make_curve(tmp_path, 0.5, limits=(40,), folds=[1, 2, 3])
    make_curve(tmp_path, 0.5, block="egnn", limits=(10,), folds=[0])
    make_curve(tmp_path, 0.5, block="egnn", limits=(40,), folds=[1])
    facts = facts_of(tmp_path)
    (curve,) = facts["curves"]
    assert (curve["label"], curve["folds"]) == ("mlp", [1, 2])
    assert facts["left_out"] == [["egnn (limit 10)", "egnn (limit 40)"]]


def test_one_number_of_rows_is_no_curve(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    with pytest.raises(Absent, match=r"sen-bench ablate --limit 250,500,1000,all"):
        facts_of(tmp_path)


def test_models_that_differ_otherwise_have_curves_of_their_own(tmp_path: Path) -> None:
    make_curve(tmp_path, 0.5, limits=(10, 20))
    dataset = own(tmp_path / "data")
    for limit in (10, 20):
        make_run(tmp_path / "runs", dataset, flags={"limit": limit, "sen.rounds": 1})
    labels = {curve["label"] for curve in facts_of(tmp_path)["curves"]}
    assert labels == {"mlp (limit 20, rounds 3)", "mlp (limit 20, rounds 1)"}


def test_what_the_recipe_sets_by_the_rows_is_a_part_of_the_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SEN, "shrink", lambda rows: {"training.weight_decay": 1 / rows})
    dataset = own(tmp_path / "data")
    for limit, decay in ((10, 0.3), (20, 0.15)):
        make_run(tmp_path / "runs", dataset, flags={"limit": limit, "training.weight_decay": decay})
    (curve,) = facts_of(tmp_path)["curves"]
    assert curve["changing"] == [{"field": "training.weight_decay", "values": ["0.3", "0.15"]}]


def test_recipes_that_were_tuned_for_each_number_of_rows_make_one_curve(tmp_path: Path) -> None:
    dataset = own(tmp_path / "data")
    for limit, trials in ((10, 3), (20, 3), (20, 5)):
        fields = {"limit": limit, "training.weight_decay": limit / 10, **tuned_by(trials)}
        make_run(tmp_path / "runs", dataset, flags=fields)
    (curve,) = facts_of(tmp_path)["curves"]
    assert [point["rows"] for point in curve["points"]] == [10, 20]


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_all_is_shown(tmp_path: Path, kind: str) -> None:
    dataset = own(tmp_path / "data", kind=kind)
    for block in ("mlp", "capsule"):
        for limit in (20, 40):
            noise = 2 / limit if kind == "regression" else 20 / limit
            make_run(tmp_path / "runs", dataset, block=block, noise=noise, flags={"limit": limit}, seeds=[0, 1])
    section, words = LearningCurves(), []
    for item in section.show(facts_of(tmp_path)):
        if isinstance(item, Figure):
            assert "<svg" in draw_svg(item.draw, "x")
            words += [item.caption, item.method, item.alt]
        elif isinstance(item, Table):
            words += [item.caption, item.method]
        elif isinstance(item, Text):
            words.append(item.text)
    text = " ".join(words)
    assert "Which model needs less data?" in text
