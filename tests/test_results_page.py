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
           "paper_mae_scaled": 0.58, "paper_mae_ev": 0.6492}  # fmt: skip
    comparison = {"variant": "mlp", "against": "capsule", "difference": -0.5, "low": -1.0, "high": 0.25, "p_holm": None,
                  "folds": [0], "verdict": "not distinguishable"}  # fmt: skip
    facts = {"task": {"unit": "eV"}, "metric": "mae", "table": [row], "comparisons": [comparison]}
    (folder / "ablation.json").write_text(json.dumps(facts))
    place = "<!-- task/ablation-0/{}.csv -->\nstale\n<!-- end -->\n"
    (tmp_path / "results.md").write_text(f"Before.\n\n{place.format('table')}\n{place.format('comparisons')}\nAfter.\n")
    return copy


def test_tables_are_made_from_the_files_and_checked(script: Path) -> None:
    page = script.parents[1] / "results.md"
    check = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert check.returncode == 1
    assert "run it and commit" in check.stderr
    subprocess.run([sys.executable, script], check=True)
    text = page.read_text()
    assert (
        "| `mlp`, sen.rounds=2 | 0.1235 | – | 0.01000 | 0 | 0, 1 | 1,265 | 3,813,441 | 1 min 04 s | 0.58 | 0.65 |"
        in text
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
        assert re.search(f"<!-- {folder.relative_to(archive)}/", page), folder
