from __future__ import annotations

import datetime as dt
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data.tasks import TASKS
from benchmarks.results.leaderboard import TAGS, LeaderboardEntry, published, rank, source

OFFICIAL = [task.name for task in TASKS.values() if task.is_official]


def official(name: str) -> list[LeaderboardEntry]:
    return [entry for entry in published(name) if entry.is_official]


def test_known_results():
    scores = {entry.model: entry.mean for entry in published("matbench_phonons")}
    assert scores["MegNet (kgcnn v2.1.0)"] == 28.7606
    assert scores["coNGN"] == 28.8874
    assert scores["Dummy"] == 323.9822


@pytest.mark.parametrize("name", OFFICIAL)
def test_mean_and_deviation_are_those_of_the_folds(name: str):
    entries = official(name)
    assert len(entries) == {"matbench_mp_is_metal": 13, "matbench_mp_e_form": 18}.get(name, 16)
    for entry in entries:
        assert len(entry.folds) == 5
        folds = [score for score in entry.folds if score is not None]
        assert entry.mean == pytest.approx(np.mean(folds), abs=1e-4)
        assert entry.std == pytest.approx(np.std(folds), abs=1e-4)


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_entry_has_known_tags_a_source_and_a_date(name: str):
    entries = published(name)
    assert len({entry.model for entry in entries}) == len(entries)
    for entry in entries:
        assert set(entry.tags) <= set(TAGS)
        assert ("official" in entry.tags) != ("unmerged" in entry.tags)
        assert re.search(r"doi:|arXiv:|github\.com/|materialsproject/matbench", entry.source)
        dt.date.fromisoformat(entry.date)
        assert entry.label.startswith(entry.model)
        assert (entry.label == entry.model) == entry.is_official


def test_newer_results_are_those_of_their_sources():
    scores = {entry.model: entry for entry in published("matbench_phonons")}
    assert (scores["DenseNGN"].mean, scores["DenseNGN"].std) == (23.523, 1.3923)
    assert scores["DenseNGN"].label == "DenseNGN (unmerged)"
    assert (scores["JMP-S"].mean, scores["JMP-S"].folds[0]) == (22.77, 26.6)
    (leaky,) = (entry for entry in published("matbench_mp_e_form") if entry.model == "MatterTune ORB")
    assert leaky.tags == ("unmerged", "pretrained", "one fold", "leak suspected")


def test_only_published_folds_are_compared():
    scores = {entry.model: entry for entry in published("matbench_phonons")}
    cogn = scores["coGN"]
    assert cogn.on_folds([0, 1, 2, 3, 4]) == (cogn.mean, cogn.std)
    assert cogn.on_folds([1, 3]) == pytest.approx((29.9932, 0.8021))
    assert scores["JMP-S"].on_folds([0]) == (26.6, 0)
    assert scores["JMP-S"].on_folds([0, 1]) is None
    assert scores["DenseNGN"].on_folds([0]) is None
    assert scores["DenseNGN"].on_folds(range(5)) == (23.523, 1.3923)


def test_best_comes_first_in_either_direction():
    errors = [entry.mean for entry in published("matbench_mp_gap")]
    accuracies = [entry.mean for entry in published("matbench_mp_is_metal")]
    assert errors == sorted(errors)
    assert accuracies == sorted(accuracies, reverse=True)


@pytest.mark.parametrize(("name", "best", "worst"), [("matbench_mp_gap", 0.0, 9.0), ("matbench_mp_is_metal", 1.0, 0.0)])
def test_rank(name: str, best: float, worst: float):
    entries = official(name)
    assert rank(name, best) == 1
    assert rank(name, worst) == len(entries) + 1
    assert rank(name, entries[2].mean) == 3
    assert rank(name, (entries[2].mean + entries[3].mean) / 2) == 4


def test_nothing_is_published_for_a_demonstration():
    assert published("prototypes") == []
    assert rank("prototypes", 0.1) is None


def test_not_a_number_has_no_rank():
    with pytest.raises(ValueError, match="no rank"):
        rank("matbench_mp_gap", math.nan)


def test_source_names_the_state_and_what_rocauc_is():
    assert "2024-01-20" in source()
    assert "balanced accuracy" in source()


def test_every_published_row_is_there(data_dir: Path):
    path = data_dir.parent / "leaderboard" / "matbench_v0.1_leaderboard.json"
    if not path.is_file():
        pytest.skip(f"needs the whole leaderboard: {path} is absent")
    tasks = json.loads(path.read_bytes())["tasks"]
    for name in OFFICIAL:
        rows = {model: (float(mean), float(std)) for model, mean, std, *_ in tasks[name]["rows"]}
        assert {entry.model: (entry.mean, entry.std) for entry in official(name)} == rows
