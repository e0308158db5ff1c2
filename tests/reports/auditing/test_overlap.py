"""Rows of a task in the data that another model was trained on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.base.errors import DataError
from benchmarks.data.dataset import load_dataset
from benchmarks.data.tasks import get_task
from reports.auditing.overlap import find_overlap, overlap_facts, read_training_data
from reports.study.row_facts import rows_of
from tests.benchmarks.conftest import Answer, Write, rocksalts

Command = Callable[..., Answer]


def without_target(path: Path, rows: list[list[Any]]) -> Path:
    """Crystals alone, in the layout of MatBench; one of them cannot be read."""
    data = [[structure] for structure, _ in rows] + [[None]]
    path.write_text(json.dumps({"index": list(range(len(data))), "columns": ["structure"], "data": data}))
    return path


def test_crystals_without_a_target_are_compared_by_formula_and_by_cell(write_data: Write, tmp_path: Path) -> None:
    rows = rocksalts(20)
    dataset = load_dataset(get_task("matbench_jdft2d"), write_data(rows), jobs=1)
    known = read_training_data(without_target(tmp_path / "seen.json", [*rows[3:5], *rocksalts(1, seed=9)]))
    assert (len(known.formulas), [row.id for row in known.skipped]) == (3, ["3"])
    overlap = find_overlap(known, rows_of(dataset), dataset.table)
    assert {3, 4} <= set(np.flatnonzero(overlap["crystal"]).tolist())
    assert not np.any(overlap["crystal"] & ~overlap["formula"])
    prediction = np.array([row[1] for row in rows]) + np.where(overlap["crystal"], 0.1, 0.5)
    facts = overlap_facts(known, rows_of(dataset), overlap, np.arange(636) % 5, (np.arange(20), prediction))
    (of_crystals,) = (found for found in facts["found"] if found["by"] == "crystal")
    assert of_crystals["n"] == overlap["crystal"].sum() == sum(of_crystals["folds"])
    scores = {part: found["score"] for part, found in of_crystals["score"].items()}
    assert scores == pytest.approx({"known": 0.1, "others": 0.5, "all": 0.5 - 0.4 * of_crystals["share"]})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "id,formula\n1,Na2Cl2\n2,D2O\n"),
        ("t.json", '["NaCl", "H4O2"]'),
        ("t.json", '[{"formula_pretty": "NaCl"}, {"formula_pretty": "H2O"}]'),
        ("t.json", '{"composition": {"0": "Na1 Cl1", "1": "H2 O1"}}'),
    ],
)
def test_formulas_are_reduced_wherever_they_stand(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    known = read_training_data(tmp_path / name)
    assert (known.formulas, known.table) == (["NaCl", "H2O"], None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "id,formula\n1,NaCl\n2,XyzQ\n", r"row 1 \(counted from 0\) has no formula but 'XyzQ'\."),
        ("t.csv", "id,gap\n1,2\n", r"has no column 'formula' or .* has no column of structures"),
        ("t.csv", "", r"t\.csv is empty\.$"),
        ("t.csv", "formula\n", "has no formulas"),
        ("t.json", "[1, 2]", "has no table of rows"),
    ],
)
def test_a_table_without_crystals_or_formulas_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_training_data(tmp_path / name)


def test_the_command_answers_without_predictions_and_scores_with_them(
    write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    rows = rocksalts(30)
    data, seen = write_data(rows), without_target(tmp_path / "seen.json", rows[:6])
    asked = ("--task", "matbench_jdft2d", "--data-dir", data, "--trained-on", seen)
    answer = sen_bench("audit", *asked)
    assert answer.code == 0, answer.err
    assert "have the formula and nearly the cell of one (mb-jdft2d-001, " in answer.out
    assert "without 1 row that cannot be read (6)" in answer.out
    predictions = tmp_path / "mine.csv"
    lines = [f"mb-jdft2d-{i + 1:03d},{target + 0.5}" for i, (_, target) in enumerate(rows)]
    predictions.write_text("\n".join(["id,prediction", *lines]))
    answer = sen_bench("audit", predictions, *asked, "--format", "json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)["trained_on"]["found"]
    assert all(each["score"]["others"]["score"] == pytest.approx(0.5) for each in found if each["score"]["others"]["n"])
    assert "of the others" in sen_bench("audit", predictions, *asked).out
    for wrong, message in (
        ((), "Name a file of predictions, or with --trained-on"),
        (("--trained-on", seen), "needs a --task, and takes neither"),
        ((*asked, "--claimed", 3), "needs a --task, and takes neither"),
    ):
        refused = sen_bench("audit", *wrong)
        assert (refused.code, message in refused.err) == (2, True)
