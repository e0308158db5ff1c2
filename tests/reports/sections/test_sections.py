"""What the sections of this room find, on made-up runs and real crystals."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.base.files import plain
from benchmarks.data.dataset import load_dataset
from benchmarks.data.tasks import TASKS
from reports.page.section import Figure, Table, Text
from reports.page.style import INK, subplots
from reports.page.svg import VARIABLES, draw_svg
from reports.page.tables import shown
from reports.sections.learning import Learning
from reports.sections.overview import Overview
from reports.sections.parity import Parity
from reports.sections.provenance import Provenance
from reports.sections.systems import Systems
from reports.sections.worst import MAGNETIC, Worst, find_causes
from reports.study.reading import read_studies
from reports.study.study import Absent, Result, Study
from tests.reports.made_runs import make_run, official, own


def no_progress(_done: int, _total: int | None) -> None:
    pass


def study_of(tmp_path: Path) -> Study:
    (study,) = read_studies([tmp_path / "runs"], data_dir=tmp_path / "data")
    return study


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
    assert {row["symbol"] for row in facts["worst"]} == {"Fm-3m"}
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
    assert "by the models that did not see it; whether that holds for theirs its file does not say." in figure.method
    table = next(block for block in shown if isinstance(block, Table))
    assert [row[table.columns.index("folds")] for row in table.rows] == [5, None]
    scores = [
        block for block in Overview().show(plain(Overview().analyse(study, no_progress))) if isinstance(block, Figure)
    ]
    axes = next(block for block in scores if block.name == "scores").draw().axes[0]
    # Five folds and their mean for the run, a mean alone for the file.
    assert sorted(len(points.get_offsets()) for points in axes.collections) == [1, 1, 5]


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
    assert [name for name in names if name != "mlp"] == [entry["model"] for entry in published[: place + 1]]


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


def test_provenance_tells_where_one_run_has_trainings_of_different_code(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0, 1], name="sphere")
    study = study_of(tmp_path)
    records = study.results[0].records
    assert isinstance(records, dict)
    for mixed, of_fold in ((False, ("sphere 1.0",) * 2), (True, ("sphere 1.0", "sphere 1.1"))):
        for (training, record), code in zip(records.items(), of_fold, strict=True):
            records[training] = {**record, "block_code": code}
        facts = plain(Provenance().analyse(study, no_progress))
        words, *_ = (block.text for block in Provenance().show(facts) if isinstance(block, Text))
        assert ("sphere: not all trainings ran the same code of the block" in words) is mixed


@pytest.mark.parametrize("other", ["AVX2", "AVX512"])
def test_provenance_tells_the_instructions_of_every_session(tmp_path: Path, other: str) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0, 1])
    study = study_of(tmp_path)
    records = study.results[0].records
    assert isinstance(records, dict)
    older = {"device": "cpu", "threads": 1, "python": "3.11.7"}
    sessions = ([older], [older | {"cpu_capability": "AVX512"}, older | {"cpu_capability": other}])
    for (training, record), of_fold in zip(records.items(), sessions, strict=True):
        records[training] = {**record, "sessions": of_fold}
    blocks = list(Provenance().show(plain(Provenance().analyse(study, no_progress))))
    (versions,) = (block for block in blocks if isinstance(block, Table) and block.name == "versions")
    told = ", ".join(sorted({"AVX512", other}))
    assert versions.rows == [["python", "all", "3.11.7"], ["cpu_capability", "all", told]]
    words, *_ = (block.text for block in blocks if isinstance(block, Text))
    assert ("CPUs with different instructions (AVX2, AVX512)" in words) is (other == "AVX2")


HOSTILE = r"money $\frac x$"


def test_dollars_in_names_are_drawn_as_they_are(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), name=HOSTILE)
    file = tmp_path / f"{HOSTILE}.csv"
    file.write_text("id,prediction\n" + "".join(f"mb-jdft2d-{i:03d},{5 + i / 60}\n" for i in range(1, 61)))
    (study,) = read_studies([tmp_path / "runs"], against=[file], data_dir=tmp_path / "data")
    for section in (Overview(), Parity(), Systems(), Learning()):
        for block in section.show(plain(section.analyse(study, no_progress))):
            if isinstance(block, Figure):
                assert HOSTILE in draw_svg(block.draw, block.name), block.name


def test_mathematics_is_drawn_where_it_is_meant() -> None:
    def draw() -> Any:
        figure, axes = subplots()
        axes.set_title(r"MoSe$_{2}$ $\bar{4}$ cost \$5 \$6", parse_math=True)
        axes.set_xlabel(r"$_{2}$ $\frac x$")
        axes.set_ylabel(f"{INK} x='1.23456' <b>")
        axes.set_yscale("log")
        axes.set_ylim(1e-4, 10)
        return figure

    svg = draw_svg(draw, "maths")
    text = " ".join(re.findall(r">([^<]*)<", svg))
    assert svg.count("$_{2}$") == text.count(r"$_{2}$ $\frac x$") == 1  # of the label, which asks for none
    assert "MoSecost$5$6" in "".join(text.split())
    assert "10⁻³" in text
    assert "mathdefault" not in svg
    # What is written is not changed as an attribute would be.
    assert f"{INK} x='1.23456' &lt;b&gt;" in text


def test_reliability_of_probabilities(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", own(tmp_path / "data", kind="classification"))
    (facts,) = plain(Parity().analyse(study_of(tmp_path), no_progress))["results"]
    assert sum(part["rows"] for part in facts["reliability"]) == facts["rows"] == sum(facts["confusion"].values())
    assert all(0 <= part["true"] <= 1 for part in facts["reliability"])


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


def test_figures_share_no_ids_and_follow_the_page(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"))
    facts = plain(Parity().analyse(study_of(tmp_path), no_progress))
    (figure,) = (block for block in Parity().show(facts) if isinstance(block, Figure))
    one, other = draw_svg(figure.draw, "one"), draw_svg(figure.draw, "other")
    assert one == draw_svg(figure.draw, "one")
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert " id=" not in one.replace(' id="one-', "")
    assert one.startswith("<svg ")
    assert "<image" in one  # the points
    for colour in VARIABLES:
        bare = one.replace(f", {colour})", "")
        assert colour not in bare
