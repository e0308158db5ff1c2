from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.data.folds import make_folds
from benchmarks.data.tasks import TASKS
from reports.environments.two_ks import MEASURES
from reports.page.section import Text
from reports.sections.separation import Separation
from tests.reports.made_models import made_dataset, perovskite, rocksalt, store_models
from tests.reports.sections.conftest import quiet, study_of, words_of


def test_what_the_separation_section_finds(facts: dict[str, dict[str, Any]]) -> None:
    blocks = {block["label"]: block for block in facts["separation"]["runs"]}
    assert set(blocks) == {"mlp", "capsule", "egnn"}
    for block in blocks.values():
        assert set(block["scores"]) == set(MEASURES)
        for states in block["scores"].values():
            for stages in states.values():
                low, high = stages["after"]["interval"]
                assert low <= stages["after"]["value"] <= high
    # The narrowest of all is the width before the block.
    assert facts["separation"]["width"] == 3 * min(w for b in blocks.values() for w in b["width"].values()) // 4
    texts = [block.text for block in Separation().show(facts["separation"]) if isinstance(block, Text)]
    assert any(f"1/{facts['separation']['width']}" in text for text in texts)
    assert not any("differ at all" in text for text in texts)


def test_a_run_whose_test_rows_have_no_inequivalent_atoms_is_said(tmp_path: Path) -> None:
    rows = [[rocksalt(5 + 0.01 * i), 1.0 + i] for i in range(60)]
    table = made_dataset(tmp_path / "data", rows).table
    fold = make_folds("regression", table.row, TASKS["matbench_jdft2d"].n_rows, table.target, 0)[1]
    for i in fold.test.tolist():
        rows[i][0] = perovskite(4 + 0.01 * i, 4.3 + 0.01 * i)
    data = made_dataset(tmp_path / "data", rows)
    store_models(tmp_path / "runs", data, variant="mlp", folds=(0,))
    store_models(tmp_path / "runs", data, variant="capsule", folds=(1,))
    facts = Separation().analyse(study_of(tmp_path / "runs", tmp_path / "data"), quiet)
    assert [block["label"] for block in facts["runs"]] == ["capsule"]
    (left_out,) = facts["without_inequivalent"]
    assert left_out["label"] == "mlp"
    assert f"mlp is left out: none of the {left_out['drawn']} crystals drawn" in words_of(Separation, facts)
