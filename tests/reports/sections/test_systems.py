"""The section of crystal systems: violins, errors and correlations."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.base.files import plain
from reports.page.section import Figure, Table, Text
from reports.sections.systems import Systems
from reports.study.differences import compare_results
from reports.study.reading import choose_pair, read_studies
from tests.reports.made_runs import make_run, no_progress, official, study_of


def test_violins_compare_means_of_the_seeds_errors(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, seeds=[0, 1])
    make_run(tmp_path / "runs", dataset, block="capsule", noise=0.3)
    study = study_of(tmp_path)
    (pair,) = plain(Systems().analyse(study, no_progress))["violins"]
    found = {result.label: float(result.rows.error.mean()) for result in study.results}
    for side in ("one", "other"):
        assert pair["comparison"]["overall"][side] == pytest.approx(found[pair[side]["label"]])


@pytest.mark.parametrize(
    ("noise", "pair"),
    [
        ({"mlp": 0.1, "capsule": 0.2, "egnn": 0.3}, ("capsule", "mlp")),
        ({"mlp": 0.2, "capsule": 0.1, "egnn": 0.3}, ("capsule", "mlp")),
        ({"mlp": 0.2, "capsule": 0.3, "egnn": 0.1}, ("egnn", "mlp")),
        ({"mlp": 0.1, "tfn": 0.2, "egnn": 0.3}, ("mlp", "egnn")),
        ({"tfn": 0.2, "egnn": 0.3}, ("tfn", "egnn")),
    ],
)
def test_violins_show_the_best_against_what_perceives_no_symmetry(
    tmp_path: Path, noise: dict[str, float], pair: tuple[str, str]
) -> None:
    dataset = official(tmp_path / "data")
    for block, width in noise.items():
        make_run(tmp_path / "runs", dataset, block=block, noise=width)
    (found,) = plain(Systems().analyse(study_of(tmp_path), no_progress))["violins"]
    assert (found["one"]["label"], found["other"]["label"]) == pair


def test_violins_show_the_pair_that_the_user_names(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    for block, width in {"mlp": 0.1, "capsule": 0.2, "egnn": 0.3}.items():
        make_run(tmp_path / "runs", dataset, block=block, noise=width)
    study = study_of(tmp_path)
    choose_pair([study], "egnn, mlp")
    (found,) = plain(Systems().analyse(study, no_progress))["violins"]
    assert (found["one"]["label"], found["other"]["label"]) == ("egnn", "mlp")
    assert found["comparison"]["overall"]["one"] > found["comparison"]["overall"]["other"]


def test_correlations_without_the_most_common_target_stand_beside_the_others(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset)
    make_run(tmp_path / "runs", dataset, block="capsule", folds=[0])
    facts = plain(Systems().analyse(study_of(tmp_path), no_progress))

    def table() -> Table:
        return next(block for block in Systems().show(facts) if isinstance(block, Table) and block.name == "symmetry")

    one = {"value": 0.2, "interval": [0.1, 0.3], "n": 60}
    assert [row[1:] for row in table().rows] == [[None] * 4] * 2  # all rows are of one space group
    common = {"value": 0.0, "share": 0.5, "rest": {"value": -0.1, "interval": [-0.4, 0.2], "n": 30}}
    facts["results"][0]["symmetry"] = {"n": 60, "loss": one, "without_most_common": common}
    first, second = table().rows
    assert first[1:] == [0.2, 0.1, 0.3, 60, -0.1, -0.4, 0.2, 30]
    assert second[1:] == [None] * 8
    assert len(table().columns) == len(first)
    assert "without the rows whose target is 0, the most common" in table().method


def test_violins_compare_with_what_is_published(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    file = tmp_path / "theirs.csv"
    file.write_text("id,prediction\n" + "".join(f"mb-jdft2d-{i:03d},5.5\n" for i in range(1, 61)))
    (study,) = read_studies([tmp_path / "runs"], against=[file], data_dir=tmp_path / "data")
    facts = plain(Systems().analyse(study, no_progress))
    (pair,) = facts["violins"]
    assert (pair["one"]["label"], pair["other"]["label"], pair["rows"]) == ("mlp", "theirs", 60)
    assert pair["comparison"]["overall"]["difference"] < 0
    blocks = list(Systems().show(facts))
    assert [block.name for block in blocks if isinstance(block, Figure)] == ["systems", "violins-1"]
    table = next(block for block in blocks if isinstance(block, Table) and block.name == "systems")
    assert [row[:3] for row in table.rows][:2] == [["cubic", "mlp", 60], ["cubic", "theirs", 60]]


def test_a_system_of_few_rows_does_not_crush_the_others(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    facts = plain(Systems().analyse(study_of(tmp_path), no_progress))
    (system,) = facts["results"][0]["systems"]
    small = {**system, "group": "triclinic", "n": 7, "is_small": True, "mae": 1e3, "mae_interval": [1.0, 1e4]}
    facts["results"][0]["systems"] = [small, system]
    figure = next(item for item in Systems().show(facts) if isinstance(item, Figure) and item.name == "systems")
    axes = figure.draw().axes[0]
    top = axes.get_ylim()[1]
    assert top == pytest.approx(1.08 * system["mae_interval"][1])
    assert max(float(dots.get_offsets()[:, 1].max()) for dots in axes.collections[-1:]) == pytest.approx(top)


def test_a_pair_says_what_folds_say(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    for block, width in {"mlp": 0.1, "capsule": 0.5}.items():
        make_run(tmp_path / "runs", dataset, block=block, noise=width)
    study = study_of(tmp_path)
    facts = plain(Systems().analyse(study, no_progress))
    (contrast,) = compare_results(study)
    assert facts["violins"][0]["comparison"]["p_over_folds"] == pytest.approx(contrast.on_new_data.p)
    said = " ".join(item.text for item in Systems().show(facts) if isinstance(item, Text))
    assert "mlp is better on these rows; " in said
    assert "significant over folds (p = " in said
