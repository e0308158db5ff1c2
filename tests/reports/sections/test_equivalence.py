from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.base.files import plain
from reports.environments.operations import KINDS
from reports.page.section import Figure, Text
from reports.sections.equivalence import Equivalence, draw_densities
from reports.study.study import Study
from tests.reports.made_models import made_dataset, perovskite, rocksalt, store_models
from tests.reports.sections.conftest import quiet, study_of, words_of


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
    blocks = {block["label"]: block for block in found["example"]["runs"]}
    assert set(blocks) == {"mlp", "capsule", "egnn"}


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
    assert found["crystals"][0]["shows"] == ["translation"]
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
