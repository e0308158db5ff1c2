"""What holds for every section on environments, on runs with small models and where there is nothing to show."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from benchmarks.base.files import plain
from benchmarks.data.dataset import Dataset
from reports.page.section import Figure, Section, Table, Text, load_section
from reports.page.svg import draw_svg
from reports.sections.elements import Elements
from reports.sections.equivalence import Equivalence
from reports.sections.fit import Fit
from reports.sections.maps import Maps
from reports.sections.separation import Separation
from reports.study.study import Absent, Study
from tests.benchmarks.conftest import MODEL, Install
from tests.reports.made_models import copper, made_dataset, mixed_rows, store_models
from tests.reports.made_runs import make_run
from tests.reports.sections.conftest import SECTIONS, quiet, study_of, words_of


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


@pytest.mark.parametrize("kind", SECTIONS)
def test_removed_weights_of_one_fold_are_said(kind: type[Section], own_runs: Path) -> None:
    for path in own_runs.rglob("mlp-*/seed_0/fold_1/model.safetensors"):
        path.unlink()
    facts = kind().analyse(study_of(own_runs, own_runs.parent / "data"), quiet)
    assert len(facts["problems"]) == 1
    words = words_of(kind, facts)
    assert "The weights of fold 1, seed 0 of" in words
    if kind is Separation:
        assert {b["label"]: b["folds"] for b in facts["runs"]} == {"capsule": [0, 1], "mlp": [0]}


@pytest.mark.parametrize("kind", SECTIONS)
def test_a_block_without_weights_is_said(kind: type[Section], own_runs: Path) -> None:
    for path in own_runs.rglob("capsule-*/seed_0/fold_*/model.safetensors"):
        path.unlink()
    facts = kind().analyse(study_of(own_runs, own_runs.parent / "data"), quiet)
    assert "holds no weights (they were removed" in words_of(kind, facts)
    assert "capsule-" in facts["problems"][0]
    if kind is Separation:
        assert [b["label"] for b in facts["runs"]] == ["mlp"]


def test_no_weights_at_all_are_said(own_runs: Path) -> None:
    for path in own_runs.rglob("model.safetensors"):
        path.unlink()
    study = study_of(own_runs, own_runs.parent / "data")
    for kind in SECTIONS:
        with pytest.raises(
            Absent, match=r"No model can be loaded: .*capsule-\S+ holds no weights .* The same is true of mlp-\w+\.$"
        ) as caught:
            kind().analyse(study, quiet)
        assert str(caught.value).count("were removed") == 1


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
    if kind is Equivalence:
        curves = {run["label"]: run["curves"] for run in plain(facts)["displaced"]["runs"]}["mlp"]
        assert [curve["steps"][1]["relative"] for curve in curves.values()] == [None, None]
    if kind is Separation:
        collapsed = {b["label"]: b for b in plain(facts)["runs"]}["mlp"]
        assert all(scores["trained"]["after"]["value"] is None for scores in collapsed["scores"].values())
        assert "mlp: not defined trained" in words
        table = next(b for b in Separation().show(plain(facts)) if isinstance(b, Table))
        assert ["mlp", "trained, final", None] in [list(row[:3]) for row in table.rows]


def test_data_that_lack_rows_are_said(own_runs: Path) -> None:
    made_dataset(own_runs.parent / "few", mixed_rows(130)[:9])
    study = study_of(own_runs, own_runs.parent / "few")
    for kind in SECTIONS:
        said = "are not those" if kind is Fit else r"lack \d+ of the \d+ rows"
        with pytest.raises(Absent, match=f"The available crystals {said}"):
            kind().analyse(study, quiet)


def test_crystals_that_are_not_at_hand_are_said(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
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


def test_a_classification(tmp_path: Path) -> None:
    from benchmarks.data.dataset import load_dataset
    from benchmarks.data.own_data import own_task

    rows = [[made, float(target) > 68] for made, target in mixed_rows(60)]
    content = {"index": list(range(60)), "columns": ["structure", "big"], "data": rows}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    own = load_dataset(own_task(tmp_path / "mine.json", target="big", kind="classification"), jobs=1)
    store_models(tmp_path / "runs", own, folds=(0, 1))
    study = study_of(tmp_path / "runs", tmp_path)
    for kind in (Equivalence, Separation, Elements):
        assert list(kind().show(plain(kind().analyse(study, quiet))))


def figures_of(kind: type[Section], facts: dict[str, Any]) -> list[str]:
    return [item.name for item in kind().show(plain(facts)) if isinstance(item, Figure)]


@pytest.mark.parametrize(
    ("kind", "of_sen"), [(Equivalence, ["element-pairs", "pearson"]), (Maps, []), (Elements, ["element-correlation"])]
)
def test_models_that_give_atoms_stand_beside_sen(
    kind: type[Section], of_sen: list[str], own_runs: Path, dataset: Dataset, tmp_path: Path
) -> None:
    shutil.rmtree(next(own_runs.rglob("capsule-*")))
    store_models(tmp_path / "runs", dataset, variant="schnet", folds=(0, 1))
    store_models(tmp_path / "alone", dataset, variant="schnet", folds=(0, 1))
    study = study_of(own_runs, tmp_path / "data")
    # What figures of one run show is not the one with environments before a block.
    study.results = tuple(sorted(study.results, key=lambda result: result.label != "schnet"))
    both = kind().analyse(study, quiet)
    alone = kind().analyse(study_of(tmp_path / "alone", tmp_path / "data"), quiet)
    for facts in (both, alone):
        words = words_of(kind, facts)
        assert "Only SEN has environments before a block, so figures of these leave out schnet." in words
        assert "None" not in words
    assert set(of_sen) <= set(figures_of(kind, both))
    assert not set(of_sen) & set(figures_of(kind, alone))
    labels = {
        Equivalence: lambda: [run["label"] for run in both["example"]["runs"]],
        Maps: lambda: [run["label"] for run in both["maps"]],
        Elements: lambda: [run["label"] for run in both["spreads"]],
    }
    assert labels[kind]() == ["schnet", "mlp"]
    if kind is Equivalence:
        assert (both["run"]["label"], both["run_before"]["label"]) == ("schnet", "mlp")
    if kind is Elements:
        assert both["heatmap"]["run"]["label"] == "mlp"
    if kind is Maps:
        assert both["compounds"]["a_o_x"]["run"]["label"] == "mlp"
        assert "before the block, which only SEN has" in words_of(kind, alone)


def test_models_are_separated_by_their_final_environments(own_runs: Path, dataset: Dataset, tmp_path: Path) -> None:
    store_models(tmp_path / "runs", dataset, variant="schnet", folds=(0,))
    facts = plain(Separation().analyse(study_of(own_runs, tmp_path / "data"), quiet))
    (run,) = (run for run in facts["runs"] if run["label"] == "schnet")
    for scores in run["scores"].values():
        assert list(scores["trained"]) == ["after"]
        assert scores["trained"]["after"]["value"] > 0
    table = next(item for item in Separation().show(facts) if isinstance(item, Table))
    assert [row[1] for row in table.rows if row[0] == "schnet"] == ["trained, final", "untrained, final"]
    assert "leave out schnet." in words_of(Separation, facts)


@pytest.mark.parametrize("kind", SECTIONS)
def test_models_without_atoms_or_vectors_of_crystals_are_named(
    kind: type[Section], install: Install, own_runs: Path, dataset: Dataset, tmp_path: Path
) -> None:
    forward = "def forward(self, batch): return replace(super().forward(batch), atoms=None, material=None)"
    install("opaque", f"{MODEL}\n    {forward}\n", "model")
    store_models(tmp_path / "runs", dataset, variant="opaque", folds=(0,))
    store_models(tmp_path / "alone", dataset, variant="opaque", folds=(0,))
    gives = "no vector of a crystal from which it predicts" if kind in {Fit, Maps} else "no environments of atoms"
    sentence = f"Left out, because the model gives {gives}: opaque."
    assert sentence in words_of(kind, kind().analyse(study_of(own_runs, tmp_path / "data"), quiet))
    with pytest.raises(Absent, match=re.escape(sentence)):
        kind().analyse(study_of(tmp_path / "alone", tmp_path / "data"), quiet)


def test_a_model_of_a_plug_in_that_raises_is_left_out(
    install: Install, own_runs: Path, dataset: Dataset, tmp_path: Path
) -> None:
    install("edited", MODEL, "model")
    store_models(tmp_path / "runs", dataset, variant="edited", folds=(0,))
    install("edited", f"{MODEL}\n    def forward(self, batch): return super().forward(batch).prediction\n", "model")
    facts = Equivalence().analyse(study_of(own_runs, tmp_path / "data"), quiet)
    assert "'edited' raised ValueError: forward returns Tensor, not a ModelOutput" in words_of(Equivalence, facts)
