from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.base.files import plain
from reports.environments.operations import KINDS
from reports.page.section import Figure, Heading, Table, Text
from reports.sections.equivalence import Equivalence, draw_densities
from reports.study.study import Study
from tests.reports.made_models import made_dataset, perovskite, rocksalt, store_models
from tests.reports.sections.conftest import quiet, study_of, words_of


def test_what_the_equivalence_section_finds(facts: dict[str, dict[str, Any]], study: Study) -> None:
    found = facts["equivalence"]
    assert found["run"]["label"] == "capsule"
    shown = {kind for crystal in found["crystals"] for kind in crystal["shows"]}
    assert shown | set(found["absent"]) == set(KINDS)
    assert shown == {"screw", "rotation"}
    tested = {name for result in study.runs for name in result.rows.ids.tolist()}
    for crystal in found["crystals"]:
        assert crystal["id"] in tested
        # Equivalent atoms agree exactly in the asymmetric unit.
        assert max(crystal["ks"]["within_after"]) == max(crystal["angle"]["within_after"]) == 0
        for group in crystal["groups"]:
            bars = crystal["ks"]["after"][group["start"] : group["start"] + group["n"]]
            assert len(set(bars)) == 1
    (caption,) = (
        item.caption
        for item in Equivalence().show(found)
        if isinstance(item, Figure) and item.name == "atoms-against-a-reference"
    )
    assert "Absent" in caption
    assert "inversion" in caption
    blocks = {block["label"]: block for block in found["example"]["runs"]}
    assert set(blocks) == {"mlp", "capsule", "egnn"}


def test_displaced_atoms_come_first(facts: dict[str, dict[str, Any]]) -> None:
    found = facts["equivalence"]
    assert found["full_cells"] == ["egnn"]
    assert [run["label"] for run in found["displaced"]["runs"]] == ["capsule", "egnn", "mlp"]
    for run in found["displaced"]["runs"]:
        assert run["n"] > 0
        assert 0.02 in [step["size"] for step in run["curves"]["angle"]["steps"]]
    text, figure, heading, *_ = Equivalence().show(found)
    assert isinstance(text, Text)
    assert isinstance(figure, Figure)
    assert isinstance(heading, Heading)
    assert (figure.name, heading.text) == ("fading", "Atoms as they are read")
    assert "an input of these models and not a finding" in text.text
    assert "On full cells (egnn)" in text.text
    assert "between a vector and its own permutation it is 0" in text.text


def test_only_scores_above_the_resolution_are_compared_with_noise(facts: dict[str, dict[str, Any]]) -> None:
    again = json.loads(json.dumps(facts["equivalence"]))
    low, high = again["displaced"]["runs"][:2]
    for run, resolution in ((low, 0.4), (high, 0.1)):
        # The interval of the first begins below the resolution.
        run["curves"]["ks"] |= {"score": {"value": 0.5, "interval": [0.3, 0.7]}, "resolution": resolution}
    again["displaced"]["runs"] = [low, high]
    caption = next(b for b in Equivalence().show(again) if isinstance(b, Figure)).caption
    assert f"of these crystals (2-KS: {high['label']}); where a curve reaches its line" in caption
    assert f"not clearly above the resolution: {low['label']}." in caption
    assert (
        "How to read it: at 0 they are still equal, at 1 they differ as much as atoms of different elements" in caption
    )
    again["displaced"]["runs"] = [low]
    caption = next(b for b in Equivalence().show(again) if isinstance(b, Figure)).caption
    assert "looks like inequivalence" not in caption


def test_runs_without_a_common_test_row_do_not_share_an_example(tmp_path: Path) -> None:
    rows = [[perovskite(4 + 0.01 * i, 4.3 + 0.01 * i), 1.0 + i] for i in range(60)]
    data = made_dataset(tmp_path / "data", rows)
    store_models(tmp_path / "runs", data, variant="capsule", folds=(0,))
    store_models(tmp_path / "runs", data, variant="mlp", folds=(1,))
    facts = Equivalence().analyse(study_of(tmp_path / "runs", tmp_path / "data"), quiet)
    assert [block["label"] for block in facts["example"]["runs"]] == ["capsule"]
    assert facts["n_runs"] == 1
    assert facts["not_tested_on_example"] == ["mlp"]
    crystal = facts["example"]["id"]
    assert f"mlp is left out of the densities: {crystal} is not one of its test rows." in words_of(Equivalence, facts)


def test_crystals_without_an_example(tmp_path: Path) -> None:
    data = made_dataset(tmp_path / "data", [[rocksalt(5 + 0.01 * i), 1.0 + i] for i in range(60)])
    store_models(tmp_path / "runs", data, folds=(0,))
    found = plain(Equivalence().analyse(study_of(tmp_path / "runs", tmp_path / "data"), quiet))
    assert found["example"] is None
    assert found["crystals"][0]["shows"] == ["screw"]
    table = next(item for item in Equivalence().show(found) if isinstance(item, Table))
    # Not the translation, which relates them as well.
    assert {row[2] for row in table.rows} == {"4₂ screw"}
    assert all("translation" in row[4] for row in table.rows)
    assert any("there is no example" in b.text for b in Equivalence().show(found) if isinstance(b, Text))


def test_densities_integrate_to_one_and_flat_environments_have_none() -> None:
    components = np.random.default_rng(0).normal(size=(4, 192))
    components[0] = 1.0
    block = {"label": "mlp", "labels": ["Ba", "Ti", "O1", "O2"], "components": components.tolist()}
    (axis,) = draw_densities([block]).axes
    curves = [line.get_xydata() for line in axis.lines]
    assert len(curves) == 3
    for x, density in (np.asarray(curve).T for curve in curves):
        assert np.trapezoid(density, x) == pytest.approx(1, abs=0.08)
    # The two oxygens have the colour of their element.
    assert len({line.get_color() for line in axis.lines}) == 2
