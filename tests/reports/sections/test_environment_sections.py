"""The sections on environments, on runs with small models, and the states in which there is nothing to show."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from benchmarks.base.files import plain
from benchmarks.data.dataset import Dataset
from benchmarks.data.folds import make_folds
from benchmarks.data.tasks import TASKS
from benchmarks.results.store import Training
from reports.environments.operations import KINDS
from reports.page.section import Figure, Section, Table, Text, load_section
from reports.page.svg import draw_svg
from reports.sections.elements import Elements
from reports.sections.equivalence import Equivalence
from reports.sections.maps import Maps
from reports.sections.separation import Separation
from reports.study.reading import read_studies
from reports.study.study import Absent, Study
from reports.study.wording import typeset_formula, typeset_group
from tests.reports.made_models import copper, made_dataset, mixed_rows, perovskite, rocksalt, store_models
from tests.reports.made_runs import make_run

SECTIONS: list[type[Section]] = [Equivalence, Separation, Maps, Elements]


def quiet(_done: int, _total: int | None) -> None:
    pass


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return made_dataset(tmp_path_factory.mktemp("data"), mixed_rows(130))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    root = tmp_path_factory.mktemp("runs")
    store_models(root, dataset, block="mlp", folds=(0, 1))
    store_models(root, dataset, block="capsule", folds=(0, 1))
    store_models(root, dataset, block="egnn", folds=(0,))
    return root


def study_of(root: Path, folder: Path) -> Study:
    return read_studies([root], data_dir=folder)[0]


@pytest.fixture(scope="module")
def study(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("again")
    made_dataset(folder, mixed_rows(130))
    return study_of(runs, folder)


@pytest.fixture(scope="module")
def facts(study: Study) -> dict[str, dict[str, Any]]:
    return {kind.name: plain(kind().analyse(study, quiet)) for kind in SECTIONS}


@pytest.mark.parametrize("kind", SECTIONS)
def test_a_section_is_shown_from_its_json_alone(kind: type[Section], facts: dict[str, dict[str, Any]]) -> None:
    again = json.loads(json.dumps(facts[kind.name], allow_nan=False))
    blocks = list(kind().show(again))
    figures = [block for block in blocks if isinstance(block, Figure)]
    assert figures
    names = [block.name for block in blocks if isinstance(block, Figure | Table)]
    for kinds in (Figure, Table):
        own = [block.name for block in blocks if isinstance(block, kinds)]
        assert len(set(own)) == len(own)
    assert all(name == name.lower() for name in names)
    for figure in figures:
        assert figure.caption
        assert figure.method
        assert figure.alt
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "<svg" in draw_svg(figure.draw, "x")
    for table in blocks:
        if isinstance(table, Table):
            assert table.rows
            assert all(len(row) == len(table.columns) for row in table.rows)
    words = " ".join(b.text for b in blocks if isinstance(b, Text)) + " ".join(f.caption + f.method for f in figures)
    assert "nan" not in words.lower().split()
    assert "None" not in words


@pytest.mark.parametrize("kind", SECTIONS)
def test_names_that_look_like_mathematics_are_drawn_as_they_are(
    kind: type[Section], facts: dict[str, dict[str, Any]]
) -> None:
    hostile = r"$\bad{$<script>"
    again = json.loads(json.dumps(facts[kind.name]).replace('"mlp"', json.dumps(hostile)))
    if "target_name" in again:
        again["target_name"] = hostile
    for block in kind().show(again):
        if isinstance(block, Figure):
            assert "<script>" not in draw_svg(block.draw, "x")


@pytest.mark.parametrize("kind", SECTIONS)
def test_the_same_study_gives_the_same_facts(
    kind: type[Section], study: Study, facts: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.environments.description._kept", {})
    assert plain(kind().analyse(study, quiet)) == facts[kind.name]


@pytest.mark.parametrize("kind", SECTIONS)
def test_it_is_registered(kind: type[Section]) -> None:
    assert type(load_section(kind.name)) is kind


def test_what_the_equivalence_section_finds(facts: dict[str, dict[str, Any]], study: Study) -> None:
    found = facts["equivalence"]
    assert found["run"]["label"] == "capsule"
    shown = {kind for crystal in found["crystals"] for kind in crystal["shows"]}
    assert shown | set(found["absent"]) == set(KINDS)
    assert shown >= {"mirror", "screw"}
    tested = {name for result in study.runs for name in result.rows.ids.tolist()}
    for crystal in found["crystals"]:
        assert crystal["id"] in tested
        # Equivalent atoms agree exactly in the asymmetric unit.
        assert max(crystal["ks"]["within_after"]) == 0
        for group in crystal["groups"]:
            bars = crystal["ks"]["after"][group["start"] : group["start"] + group["n"]]
            assert len(set(bars)) == 1
    caption = next(b for b in Equivalence().show(found) if isinstance(b, Figure)).caption
    assert "Absent" in caption
    assert "inversion" in caption
    blocks = {block["label"]: block for block in found["example"]["blocks"]}
    assert set(blocks) == {"mlp", "capsule", "egnn"}


def test_what_the_separation_section_finds(facts: dict[str, dict[str, Any]]) -> None:
    blocks = {block["label"]: block for block in facts["separation"]["blocks"]}
    assert set(blocks) == {"mlp", "capsule", "egnn"}
    for block in blocks.values():
        for stages in block["scores"].values():
            low, high = stages["after"]["interval"]
            assert low <= stages["after"]["value"] <= high
        assert 0.02 in [step["size"] for step in block["fading"]["steps"]]
        assert block["fading"]["n"] > 0
    # The narrowest of all is the width before the block.
    assert facts["separation"]["width"] == 3 * min(w for b in blocks.values() for w in b["width"].values()) // 4
    told = [block.text for block in Separation().show(facts["separation"]) if isinstance(block, Text)]
    assert any(f"1/{facts['separation']['width']}" in text for text in told)
    assert not any("differ at all" in text for text in told)


def test_one_map_shows_one_fold(facts: dict[str, dict[str, Any]], study: Study) -> None:
    found = facts["maps"]
    fold_rows = study.runs[0].run.read_predictions(Training(0, 0)).ids
    assert found["fold"] == 0
    assert found["n"] == found["n_test"] == len(fold_rows)
    assert [m["label"] for m in found["maps"]] == ["capsule", "egnn", "mlp"]
    assert len(found["system"]) == len(found["target"]) == len(found["maps"][0]["points"][0]) == found["n"]
    assert found["compounds"]["ca_o_x"]["points"] is None
    told = [block.text for block in Maps().show(found) if isinstance(block, Text)]
    assert any("Ca-O-X" in text for text in told)


def test_published_predictions_alone_are_said_to_have_no_model(study: Study) -> None:
    published = Study(study.task, [result for result in study.results if result.run is None] or study.results)
    published.results = ()
    for kind in SECTIONS:
        with pytest.raises(Absent, match="without a model"):
            kind().analyse(published, quiet)


def test_weights_that_do_not_fit_are_said(tmp_path: Path, dataset: Dataset) -> None:
    made_dataset(tmp_path / "data", mixed_rows(130))
    make_run(tmp_path / "runs", dataset, folds=(0,))
    for kind in SECTIONS:
        with pytest.raises(Absent, match=r"No model can be loaded: The weights in .* do not fit"):
            kind().analyse(study_of(tmp_path / "runs", tmp_path / "data"), quiet)


def words_of(kind: type[Section], facts: dict[str, Any]) -> str:
    """All that a section says, after its figures were drawn."""
    words = []
    for block in kind().show(json.loads(json.dumps(plain(facts), allow_nan=False))):
        if isinstance(block, Figure):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert "<svg" in draw_svg(block.draw, "x")
            words += [block.caption, block.method, block.alt]
        elif isinstance(block, Table):
            words += [block.caption, block.method]
        elif isinstance(block, Text):
            words.append(block.text)
    return " ".join(words)


@pytest.fixture
def own_runs(tmp_path: Path, dataset: Dataset) -> Path:
    """Runs of two blocks that a test may damage, beside their data."""
    made_dataset(tmp_path / "data", mixed_rows(130))
    for block in ("capsule", "mlp"):
        store_models(tmp_path / "runs", dataset, block=block, folds=(0, 1))
    return tmp_path / "runs"


@pytest.mark.parametrize("kind", SECTIONS)
def test_removed_weights_of_one_fold_are_said(kind: type[Section], own_runs: Path) -> None:
    for path in own_runs.rglob("mlp-*/seed_0/fold_1/model.safetensors"):
        path.unlink()
    facts = kind().analyse(study_of(own_runs, own_runs.parent / "data"), quiet)
    assert len(facts["problems"]) == 1
    words = words_of(kind, facts)
    assert "The weights of fold 1, seed 0 of" in words
    if kind is Separation:
        assert {b["label"]: b["folds"] for b in facts["blocks"]} == {"capsule": [0, 1], "mlp": [0]}


@pytest.mark.parametrize("kind", SECTIONS)
def test_a_block_without_weights_is_said(kind: type[Section], own_runs: Path) -> None:
    for path in own_runs.rglob("capsule-*/seed_0/fold_*/model.safetensors"):
        path.unlink()
    facts = kind().analyse(study_of(own_runs, own_runs.parent / "data"), quiet)
    assert "The weights of all finished folds of" in words_of(kind, facts)
    assert "capsule-" in facts["problems"][0]
    if kind is Separation:
        assert [b["label"] for b in facts["blocks"]] == ["mlp"]


def test_no_weights_at_all_are_said(own_runs: Path) -> None:
    for path in own_runs.rglob("model.safetensors"):
        path.unlink()
    study = study_of(own_runs, own_runs.parent / "data")
    for kind in SECTIONS:
        with pytest.raises(Absent, match=r"No model can be loaded: .*capsule-.* were removed.*mlp-.* were removed"):
            kind().analyse(study, quiet)


@pytest.mark.parametrize("kind", SECTIONS)
def test_a_collapsed_block_is_shown_as_not_defined(kind: type[Section], own_runs: Path) -> None:
    from safetensors.torch import load_file, save

    from tests.benchmarks.conftest import replace_file

    # All weights of the block and the encoder are zero: every atom has the same environment.
    for path in own_runs.rglob("mlp-*/seed_0/fold_*/model.safetensors"):
        weights = load_file(path)
        for name, tensor in weights.items():
            if name not in {"shift", "scale"}:
                tensor.zero_()
        replace_file(path.parent, path.name, save(weights))
    facts = kind().analyse(study_of(own_runs, own_runs.parent / "data"), quiet)
    words = words_of(kind, facts)
    assert "None" not in words
    if kind is Separation:
        collapsed = {b["label"]: b for b in plain(facts)["blocks"]}["mlp"]
        assert collapsed["scores"]["trained"]["after"]["value"] is None
        assert collapsed["fading"]["steps"][1]["relative"] is None
        assert "mlp: not defined trained" in words
        table = next(b for b in Separation().show(plain(facts)) if isinstance(b, Table))
        assert ["mlp", "trained, after the block", None] in [list(row[:3]) for row in table.rows]


def test_only_scores_above_the_resolution_are_compared_with_noise(facts: dict[str, dict[str, Any]]) -> None:
    again = json.loads(json.dumps(facts["separation"]))
    low, high = again["blocks"][:2]
    for block, resolution in ((low, 0.4), (high, 0.1)):
        whole = block["scores"]["trained"]["after"]
        block["fading"] |= {"score": 0.5, "resolution": resolution}
        # The interval of the first begins below the resolution.
        whole |= {"value": 0.5, "interval": [0.3, 0.7], "resolution": resolution}
    again["blocks"] = [low, high]
    caption = next(b for b in Separation().show(again) if isinstance(b, Figure) and b.name == "fading").caption
    assert f"of these crystals ({high['label']}); where a curve reaches its line" in caption
    assert f"not clearly above the resolution: {low['label']}." in caption
    again["blocks"] = [low]
    caption = next(b for b in Separation().show(again) if isinstance(b, Figure) and b.name == "fading").caption
    assert "looks like inequivalence" not in caption


def test_data_that_lack_rows_are_said(own_runs: Path) -> None:
    made_dataset(own_runs.parent / "few", mixed_rows(130)[:9])
    study = study_of(own_runs, own_runs.parent / "few")
    for kind in SECTIONS:
        with pytest.raises(Absent, match=r"The crystals at hand lack \d+ of the \d+ rows"):
            kind().analyse(study, quiet)


def test_crystals_that_are_not_at_hand_are_said(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    for kind in SECTIONS:
        with pytest.raises(Absent, match="not available"):
            kind().analyse(study_of(runs, tmp_path), quiet)


def test_crystals_of_one_atom_leave_nothing_to_compare(tmp_path: Path) -> None:
    data = made_dataset(tmp_path / "data", [[copper(3 + 0.01 * i), 1.0 + i] for i in range(60)])
    store_models(tmp_path / "runs", data, folds=(0,))
    study = study_of(tmp_path / "runs", tmp_path / "data")
    with pytest.raises(Absent, match="crystal of one atom"):
        Equivalence().analyse(study, quiet)
    with pytest.raises(Absent, match="nothing to separate"):
        Separation().analyse(study, quiet)
    with pytest.raises(Absent, match="Fewer than two elements"):
        Elements().analyse(study, quiet)
    with pytest.raises(Absent, match="a map takes at least"):
        Maps().analyse(study, quiet)


def test_a_run_whose_test_rows_have_no_inequivalent_atoms_is_said(tmp_path: Path) -> None:
    rows = [[rocksalt(5 + 0.01 * i), 1.0 + i] for i in range(60)]
    table = made_dataset(tmp_path / "data", rows).table
    fold = make_folds("regression", table.row, TASKS["matbench_jdft2d"].n_rows, table.target, 0)[1]
    for i in fold.test.tolist():
        rows[i][0] = perovskite(4 + 0.01 * i, 4.3 + 0.01 * i)
    data = made_dataset(tmp_path / "data", rows)
    store_models(tmp_path / "runs", data, block="mlp", folds=(0,))
    store_models(tmp_path / "runs", data, block="capsule", folds=(1,))
    facts = Separation().analyse(study_of(tmp_path / "runs", tmp_path / "data"), quiet)
    assert [block["label"] for block in facts["blocks"]] == ["capsule"]
    (told,) = facts["problems"]
    assert told.startswith("mlp is left out: none of the ")
    assert told in words_of(Separation, facts)


def test_runs_without_a_common_test_row_do_not_share_an_example(tmp_path: Path) -> None:
    rows = [[perovskite(4 + 0.01 * i, 4.3 + 0.01 * i), 1.0 + i] for i in range(60)]
    data = made_dataset(tmp_path / "data", rows)
    store_models(tmp_path / "runs", data, block="capsule", folds=(0,))
    store_models(tmp_path / "runs", data, block="mlp", folds=(1,))
    facts = Equivalence().analyse(study_of(tmp_path / "runs", tmp_path / "data"), quiet)
    assert [block["label"] for block in facts["example"]["blocks"]] == ["capsule"]
    assert facts["n_runs"] == 1
    (told,) = facts["problems"]
    assert told == f"mlp is left out of the densities: {facts['example']['id']} is no test row of it."
    assert told in words_of(Equivalence, facts)


def test_crystals_without_an_example(tmp_path: Path) -> None:
    data = made_dataset(tmp_path / "data", [[rocksalt(5 + 0.01 * i), 1.0 + i] for i in range(60)])
    store_models(tmp_path / "runs", data, folds=(0,))
    found = plain(Equivalence().analyse(study_of(tmp_path / "runs", tmp_path / "data"), quiet))
    assert found["example"] is None
    assert found["crystals"][0]["shows"] == ["translation"]
    assert any(
        "no example" in b.text.replace("there is no ", "no ") for b in Equivalence().show(found) if isinstance(b, Text)
    )


def test_a_classification(tmp_path: Path) -> None:
    from benchmarks.data.own_data import OwnData

    rows = [[made, float(target) > 68] for made, target in mixed_rows(60)]
    content = {"index": list(range(60)), "columns": ["structure", "big"], "data": rows}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    own = OwnData(path=tmp_path / "mine.json", target="big", kind="classification").load(jobs=1)
    store_models(tmp_path / "runs", own, folds=(0, 1))
    study = study_of(tmp_path / "runs", tmp_path)
    for kind in (Equivalence, Separation, Elements):
        assert list(kind().show(plain(kind().analyse(study, quiet))))


@pytest.mark.parametrize(
    ("text", "expected"), [("MoSe2", "MoSe$_{2}$"), ("Ba(GaTe2)2", "Ba(GaTe$_{2}$)$_{2}$"), ("KS", "KS"), ("K$", "K")]
)
def test_formulas_are_typeset(text: str, expected: str) -> None:
    assert typeset_formula(text) == expected


def test_groups_are_typeset() -> None:
    assert typeset_group("P-42₁m") == r"P$\bar{4}$2$_{1}$m"
