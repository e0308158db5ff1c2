"""The page of results is what its script makes of the archived runs."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import REPOSITORY

SCRIPT = REPOSITORY / "docs" / "results" / "render.py"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A copy of the script beside a small archive."""
    (tmp_path / "results").mkdir()
    copy = Path(shutil.copy(SCRIPT, tmp_path / "results"))
    folder = tmp_path / "results" / "runs" / "task" / "ablation-0"
    folder.mkdir(parents=True)
    row = {"block": "mlp", "values": {"sen.rounds": "2"}, "mean": 0.123456, "std_folds": None, "std_seeds": 0.01,
           "folds": [0], "seeds": [0, 1], "rows": 1265, "parameters": 3813441, "epoch_seconds": 64.0,
           "ensemble": 0.1, "paper_mae_scaled": 0.58, "paper_mae_ev": 0.6492}  # fmt: skip
    comparison = {"variant": "mlp", "against": "capsule", "difference": -0.5, "low": -1.0, "high": 0.25, "p_holm": None,
                  "folds": [0], "verdict": "not distinguishable"}  # fmt: skip
    facts = {"task": {"unit": "eV"}, "metric": "mae", "judge": "test", "table": [row], "comparisons": [comparison]}
    (folder / "ablation.json").write_text(json.dumps(facts))
    (folder / "cells.csv").write_text(
        "block,sen.rounds,seed,wall_seconds,commit\nmlp,2,0,60.2,0123456789\nmlp,2,1,3.9,0123456789\nmlp,3,0,9.0,abcdef0123\n"
    )
    place = "<!-- {} results/runs/task/ablation-0 -->\nstale\n<!-- end -->\n"
    (tmp_path / "results.md").write_text(
        f"Before.\n\n{place.format('results')}\n{place.format('comparisons')}\nAfter.\n"
    )
    return copy


def test_tables_are_made_from_the_files_and_checked(script: Path) -> None:
    page = script.parents[1] / "results.md"
    check = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert check.returncode == 1
    assert "run it and commit" in check.stderr
    subprocess.run([sys.executable, script], check=True)
    text = page.read_text()
    assert (
        "| `mlp`, sen.rounds=2 | 0.1235 | – | 0.01000 | 0.1000 | 0 | 0, 1 | 1,265 | 3,813,441 | 1 min 04 s | 0123456 | "
        "0.58 | 0.65 |" in text
    )
    assert "| mlp | capsule | -0.5000 | -1.000 to 0.2500 | – | 1 | not distinguishable |" in text
    assert text.startswith("Before.")
    assert text.endswith("After.\n")
    assert "stale" not in text
    subprocess.run([sys.executable, script, "--check"], check=True)
    subprocess.run([sys.executable, script], check=True)
    assert page.read_text() == text
    page.write_text(text.replace("0.1235", "0.1135"))
    assert subprocess.run([sys.executable, script, "--check"], capture_output=True, check=False).returncode == 1


def test_a_report_gives_errors_by_crystal_system_and_separation_scores(tmp_path: Path) -> None:
    def error(group: str, n: int, mae: float) -> dict[str, object]:
        return {"group": group, "n": n, "mae": mae, "relative": mae / 100}

    results = [
        {"label": label, "overall": error("all", 1265, mae), "systems": [error("cubic", 265, mae / 2)]}
        for label, mae in (("mlp", 30.0), ("ALIGNN", 29.5))
    ]
    scores = {
        state: {
            "before": {"value": value, "interval": [value - 0.01, value + 0.02], "n": 7},
            "after": {"value": value / 2, "interval": [0.0, value], "n": 7},
        }
        for state, value in (("trained", 0.3), ("untrained", 0.4))
    }
    fading = {"steps": [{"size": 0.0, "relative": 0.0}, {"size": 0.02, "relative": 0.127}]}
    sections = {
        "systems": {"facts": {"unit": "1/cm", "results": results}},
        "separation": {"facts": {"blocks": [{"label": "mlp", "scores": scores, "fading": fading}]}},
    }
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"tasks": [{"sections": sections}]}))
    script = load()
    assert script.systems(report).splitlines() == [
        "| MAE (1/cm; MAE/MAD) | test rows | mlp | ALIGNN |",
        "| --- | --- | --- | --- |",
        "| cubic | 265 | 15.00 (0.15) | 14.75 (0.15) |",
        "| all | 1,265 | 30.00 (0.30) | 29.50 (0.29) |",
    ]
    assert script.separation(report).splitlines()[2] == (
        "| `mlp` | 0.30 (0.29 to 0.32) | 0.40 (0.39 to 0.42) | 0.15 (0.00 to 0.30) | 0.20 (0.00 to 0.40) | 7 | 0.13 |"
    )
    results[1]["systems"] = [error("trigonal", 265, 14.0)]
    report.write_text(json.dumps({"tasks": [{"sections": sections}]}))
    with pytest.raises(ValueError, match="same crystal systems"):
        script.systems(report)


def test_trainings_of_the_store_are_lines_of_a_file(script: Path) -> None:
    from benchmarks.store import Run, Unit
    from benchmarks.training import Epoch

    config = {"block_name": "mlp", "limit": None, "training": {"precision": "float32"}}
    run = Run.create(
        script.parent / "runs", "task", "mlp-0123456789", {"config": config, "task": {"split": "folds"}, "data": {}}
    )
    record = {
        "metrics": {"mae": 0.25, "rmse": 0.5},
        "rows": {"train": 8, "validation": 1, "test": 3},
        "task": "task",
        "kind": "regression",
        "block": "mlp",
        "seed": 1,
        "fold": 4,
        "coverage": 1.0,
        "elements": [],
        "best_epoch": 2,
        "epochs": 3,
        "device": "cpu",
        "wall_seconds": 12.345,
        "parameters": 7,
        "threads": 1,
        "peak_memory_bytes": 1,
        "mean_absolute_deviation": 1.0,
        "data_digest": "",
        "sessions": [],
        "provenance": {"git_commit": "0123456789abcdef"},
    }
    run.write_unit(
        Unit(1, 4), predictions=[("a", 1.0, 1.25)], record=record, history=[Epoch(1, 0.0, 0.0, 0.0, 0.0)], weights={}
    )
    subprocess.run([sys.executable, script], check=True)
    text = (script.parent / "task.csv").read_text().splitlines()
    assert text[0].startswith(
        "block,run,split,limit,seed,fold,mae,rmse,train_rows,validation_rows,test_rows,best_epoch,"
    )
    assert text[1:] == ["mlp,mlp-0123456789,folds,,1,4,0.25,0.5,8,1,3,2,3,float32,cpu,12.3,0123456"]
    subprocess.run([sys.executable, script, "--check"], check=True)
    (script.parent / "task.csv").write_text("\n".join(text).replace("0.25", "0.15"))
    check = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (check.returncode, "task.csv is not what" in check.stderr) == (1, True)


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_archived_results_are_whole_and_the_page_shows_them() -> None:
    from benchmarks.store import find_runs

    archive = REPOSITORY / "docs" / "results" / "runs"
    if not archive.is_dir():
        pytest.skip("no results are archived")
    runs = list(find_runs(archive))
    assert runs
    for run in runs:
        assert len(run.units()) == len(list(run.path.glob("seed_*/fold_*/manifest.json")))
    page = (REPOSITORY / "docs" / "results.md").read_text()
    assert load().render(page) == page
    for folder in archive.glob("*/ablation-*"):
        assert re.search(f"<!-- results results/runs/{folder.relative_to(archive)} ", page), folder


def test_numbers_of_the_readme_stand_on_the_page() -> None:
    findings = (REPOSITORY / "README.md").read_text().split("## What we found")[1].split("\n## ")[0]
    page = (REPOSITORY / "docs" / "results.md").read_text()
    numbers = re.findall(r"\d+\.\d+", findings)
    assert numbers
    assert [number for number in numbers if not re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", page)] == []
