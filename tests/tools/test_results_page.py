"""The page of results is what `tools.results_page` makes of the archived results."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.base.console import figures
from benchmarks.base.zip_path import open_path
from benchmarks.results.archive import collect, write_archive
from benchmarks.results.leaderboard import LeaderboardEntry
from benchmarks.results.recorded import config_digest, variant_kind_of
from benchmarks.results.store import Run, Training, find_runs
from tests.conftest import REPOSITORY
from tools.results_page import ablations, audits, models, proxies, reports, trainings
from tools.results_page.__main__ import PAGES
from tools.results_page.page import render

DOCS = REPOSITORY / "docs"


def run_tool(docs: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.results_page", "--docs", str(docs), *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A page of results and a small archive."""
    (tmp_path / "docs" / "results").mkdir(parents=True)
    folder = tmp_path / "runs" / "task" / "ablation-0"
    folder.mkdir(parents=True)
    row = {"block": "mlp", "values": {"sen.rounds": "2"}, "mean": 0.123456, "std_folds": None, "std_seeds": 0.01,
           "folds": [0], "seeds": [0, 1], "rows": 1265, "missing": 0, "parameters": 3813441, "epoch_seconds": 64.0,
           "parameters_by_part": {"block": 1772032, "readout": 0},
           "ensemble": 0.1, "paper_mae_scaled": 0.58, "paper_mae_ev": 0.6492}  # fmt: skip
    facts = {
        "task": {"name": "task", "unit": "eV"},
        "metric": "mae",
        "judge": "test",
        "table": [row],
    }
    (folder / "ablation.json").write_text(json.dumps(facts))
    (folder / "cells.csv").write_text(
        "block,sen.rounds,seed,wall_seconds,commit\nmlp,2,0,60.2,0123456789\nmlp,2,1,3.9,0123456789\nmlp,3,0,9.0,abcdef0123\n"
    )
    write_archive(tmp_path / "docs" / "results" / "study.zip", collect([tmp_path / "runs"]).files)
    place = "<!-- {} results/study.zip/task/ablation-0 -->\nstale\n<!-- end -->\n"
    (tmp_path / "docs" / "results.md").write_text(f"Before.\n\n{place.format('results')}\nAfter.\n")
    return tmp_path / "docs"


def test_tables_are_made_from_the_files_and_checked(docs: Path) -> None:
    page = docs / "results.md"
    check = run_tool(docs, "--check")
    assert check.returncode == 1
    assert "run `python -m tools.results_page` and commit" in check.stderr
    run_tool(docs).check_returncode()
    text = page.read_text()
    assert (
        "| `mlp`, sen.rounds=2 | 0.1235 | – | 0.01000 | 0.1000 | 0 | 0, 1 | 1,265 | 3,813,441 | 1,772,032 | 0 | "
        "1 min 04 s | 0123456 | 0.58 | 0.65 |" in text
    )
    assert text.startswith("Before.")
    assert text.endswith("After.\n")
    assert "stale" not in text
    run_tool(docs, "--check").check_returncode()
    run_tool(docs).check_returncode()
    assert page.read_text() == text
    page.write_text(text.replace("0.1235", "0.1135"))
    assert run_tool(docs, "--check").returncode == 1


def test_a_report_gives_errors_by_crystal_system_and_separation_scores(tmp_path: Path) -> None:
    def error(group: str, n: int, mae: float) -> dict[str, object]:
        return {"group": group, "n": n, "mae": mae, "relative": mae / 100}

    results = [
        {
            "label": label,
            "overall": error("all", 1265, mae),
            "systems": [error("cubic", 265, mae / 2)],
            "symmetry": {"loss": {"value": -0.1, "interval": [-0.2, 0.0]}},
        }
        for label, mae in (("mlp", 30.0), ("ALIGNN", 29.5))
    ]
    scores = {
        state: {
            "before": {"value": value, "interval": [value - 0.01, value + 0.02]},
            "after": {"value": value / 2, "interval": [0.0, value], "n": 7, "resolution": 0.15},
        }
        for state, value in (("trained", 0.3), ("untrained", 0.4))
    }
    steps = [{"size": size, "relative": size * 6, "interval": [0.0, size * 10]} for size in (0.0, 0.02, 0.05)]
    fading = {"steps": steps, "n": 5, "resolution": 0.1}
    sections = {
        "systems": {"facts": {"unit": "1/cm", "results": results}},
        "separation": {"facts": {"blocks": [{"label": "mlp", "scores": scores, "fading": fading}]}},
    }
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"tasks": [{"sections": sections}]}))
    assert reports.systems(report).splitlines() == [
        "| MAE (1/cm; MAE/MAD) | test rows | mlp | ALIGNN |",
        "| --- | --- | --- | --- |",
        "| cubic | 265 | 15.00 (0.15) | 14.75 (0.15) |",
        "| all | 1,265 | 30.00 (0.30) | 29.50 (0.29) |",
        "| rank correlation |  | -0.10 (-0.20 to +0.00) | -0.10 (-0.20 to +0.00) |",
    ]
    line = (
        "| `mlp` | 0.30 (0.29 to 0.32) | 0.40 (0.39 to 0.42) | 0.15 (0.00 to 0.30) | 0.20 (0.00 to 0.40) | 7 | "
        "0.15 | 0.12 (0.00 to 0.20) | 5 | 0.10 |"
    )
    assert reports.separation(report).splitlines()[2] == line
    # As reports of format 4 have it.
    displaced = {"runs": [{"label": "mlp", "n": fading.pop("n"), "curves": {"ks": fading}}]}
    now = {"separation": {"facts": {"runs": [{"label": "mlp", "scores": {"ks": scores}}]}}}
    now["equivalence"] = {"facts": {"displaced": displaced}}
    report.write_text(json.dumps({"tasks": [{"sections": now}]}))
    assert reports.separation(report).splitlines()[2] == line
    results[1]["systems"] = [error("cubic", 264, 14.0)]
    report.write_text(json.dumps({"tasks": [{"sections": sections}]}))
    with pytest.raises(ValueError, match="not on the same rows"):
        reports.systems(report)


def test_a_place_that_does_not_end_is_an_error() -> None:
    whole = "<!-- claims results/audits -->\nstale\n<!-- end -->\n"
    assert "stale" not in render(whole, DOCS)
    for page in (f"<!-- claims results/audits -->\nprose\n{whole}", f"{whole}<!-- end -->\n", whole * 2 + "<!-- end"):
        with pytest.raises(ValueError, match="an <!-- end --> of its own"):
            render(page, DOCS)


def write_ablation(folder: Path, commit: str = "a" * 40, **facts: object) -> Path:
    folder.mkdir(parents=True)
    row = {"block": "mlp", "values": {}, "mean": 30.0, "std_folds": 2.0, "std_seeds": None, "ensemble": 28.8,
           "folds": [0, 1, 2, 3, 4], "seeds": [0], "rows": 1000, "missing": 0}  # fmt: skip
    official = {
        "task": {
            "name": "matbench_phonons",
            "unit": "1/cm",
            "kind": "regression",
            "is_official": True,
            "split": "folds",
        },
        "command": "sen-bench ablate --task matbench_phonons",
        "coverage": 1.0,
        "limit": [],
        "judge": "test",
    }
    table = [row | changed for changed in facts.pop("table", [{}])]  # type: ignore[attr-defined]
    trained = [{"block": line["block"], **line["values"], "commit": commit} for line in table]  # type: ignore[dict-item]
    pd.DataFrame(trained).to_csv(folder / "cells.csv", index=False)
    (folder / "ablation.json").write_text(json.dumps(official | facts | {"table": table}))
    return folder


def test_blocks_stand_among_the_published_models_only_by_the_official_protocol(tmp_path: Path) -> None:
    lines = ablations.leaderboard(write_ablation(tmp_path / "whole")).splitlines()
    first = lines.index("| MegNet (kgcnn v2.1.0) | 28.76 | 2.577 |")
    assert lines.index("| DenseNGN (unmerged) | 23.52 | 1.392 |") < first
    assert lines[first : first + 4] == [
        "| MegNet (kgcnn v2.1.0) | 28.76 | 2.577 |",
        "| **SEN, `mlp`, seeds averaged** | 28.80 | – |",
        "| coNGN | 28.89 | 3.284 |",
        "| ALIGNN | 29.54 | 2.115 |",
    ]
    assert lines.index("| **SEN, `mlp`** | 30.00 | 2.000 |") == lines.index("| coGN | 29.71 | 1.997 |") + 1
    for i, changed in enumerate(
        (
            {"coverage": 0.4},
            {"limit": [8000]},
            {"judge": "validation"},
            {"task": {"name": "matbench_phonons", "kind": "regression", "is_official": True, "split": "resample"}},
            {"table": [{"folds": [0]}]},
            {"table": [{"missing": 1}]},
        )
    ):
        with pytest.raises(ValueError, match="complete official data"):
            ablations.leaderboard(write_ablation(tmp_path / f"{i}", **changed))


def test_each_recipe_is_a_line_of_its_own(tmp_path: Path) -> None:
    command = "sen-bench ablate --blocks mlp"
    tried = {"judge": "validation"}
    axis = [{"values": {"sen.rounds": rounds}, "mean": mean} for rounds, mean in (("3", 0.3), ("10", 0.4), ("2", 0.2))]
    runs = {"mlp, sen.rounds=3": "runs/t/mlp-default", "mlp, sen.rounds=10": "runs/t/mlp-10"}
    runs["mlp, sen.rounds=2"] = "runs/t/mlp-2"
    write_ablation(
        tmp_path / "ablation-0", **tried, table=axis, runs=runs, command=f"{command} --set sen.rounds=3,10,2"
    )
    both = [{"seeds": [0, 1], "mean": 0.35}]
    write_ablation(tmp_path / "ablation-1", **tried, table=both, runs={"mlp": "runs/t/mlp-default"}, command=command)
    # Another processor, another commit.
    again = {"table": [{"mean": 0.45}], "runs": {"mlp": "elsewhere/t/mlp-default"}, "command": command}
    write_ablation(tmp_path / "ablation-1b", commit="b" * 40, **tried, **again)
    paper = {"table": [{"mean": 0.5}], "runs": {"mlp": "runs/t/mlp-paper"}, "command": f"{command} --config paper"}
    write_ablation(tmp_path / "ablation-2", **tried, **paper)
    assert [line.split(" | ")[1:3] for line in ablations.recipes(tmp_path).splitlines()[2:]] == [
        ["default", "0.3500 1/cm"],
        ["default", "0.4500 1/cm"],
        ["--config paper", "0.5000 1/cm"],
        ["sen.rounds = 2", "0.2000 1/cm"],
        ["sen.rounds = 10", "0.4000 1/cm"],
    ]
    write_ablation(tmp_path / "ablation-3", **tried, runs={"mlp": "runs/t/mlp-9"}, command=f"{command} --epochs 9")
    with pytest.raises(ValueError, match="--epochs may change the recipe"):
        ablations.recipes(tmp_path)
    write_ablation(tmp_path / "u" / "ablation-4", runs={})
    with pytest.raises(ValueError, match="chosen by validation rows"):
        ablations.recipes(tmp_path / "u")


def test_audits_of_published_predictions_become_tables(tmp_path: Path) -> None:
    def error(group: str, mae: float, **facts: float) -> dict[str, object]:
        return {"group": group, "mae": mae, "relative": mae / 2, **facts}

    def trend(value: float) -> dict[str, object]:
        return {"value": value, "interval": [value - 0.01, value + 0.01], "n": 60}

    affine = {"mae": 0.1, "shifted": 0.15}
    for name, mae in (("A", 0.4), ("B", 0.2)):
        rest = {"value": 0.0, "rest": trend(0.1), "systems": [error("cubic", mae * 1.5, share=0.4)]}
        symmetry = {"loss": trend(-0.3), "without_most_common": rest}
        breakdown = {"systems": [error("cubic", mae)], "overall": error("all", mae), "symmetry": symmetry}
        against = [{"model": "C", "n": 100, "comparison": {"overall": {"other": 0.25, "difference": mae - 0.25}}}]
        audit = {"task": "t", "model": name, "n": 100, "unit": "eV", "score": {"mae": mae}, "affine": affine}
        (tmp_path / f"{name}.json").write_text(json.dumps(audit | {"breakdown": breakdown, "against": against}))
    pattern = tmp_path / "*.json"
    assert audits.published_systems(pattern).splitlines()[2:] == [
        "| B | 100 | 0.2000 (0.10) | 0.2000 (0.10) | -0.30 (-0.31 to -0.29) |",
        "| A | 100 | 0.4000 (0.20) | 0.4000 (0.20) | -0.30 (-0.31 to -0.29) |",
    ]
    assert audits.unlike(pattern).splitlines()[2:4] == [
        "| rows of 0 eV left out |  | 40% |  |",
        "| B | 60 | 0.3000 (0.15) | +0.10 (+0.09 to +0.11) |",
    ]
    assert audits.same_rows(pattern).splitlines()[2:] == [
        "| t | B | 100 | 0.2000 eV | 0.1500 without its mean offset, 0.1000 after a refit to the test targets |",
        "| t | C | 100 | 0.2500 eV | B is 20.0 % below |",
        "| t | A | 100 | 0.4000 eV | 0.1500 without its mean offset, 0.1000 after a refit to the test targets |",
        "| t | C | 100 | 0.2500 eV | A is 60.0 % above |",
    ]
    with pytest.raises(ValueError, match="no such audit"):
        audits.unlike(tmp_path / "*.txt")


def test_a_file_of_predictions_is_parted_where_its_errors_change(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    target = np.where(rng.random(90) < 0.4, 0.0, rng.uniform(0, 8, 90))
    error = np.repeat([0.05, 0.5, 0.04], [40, 30, 20]) * rng.uniform(0.8, 1.2, 90) * rng.choice([-1, 1], 90)
    rows = {"file": ["validation"] * 70 + ["training"] * 20, "target": target, "prediction": target + error}
    path = tmp_path / "predictions.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    lines = audits.parted(path).splitlines()
    parts = [line.strip("| ").split(" | ") for line in lines[2:6]]
    assert [part[:2] for part in parts] == [
        ["validation, rows 1 to 40", "40"],
        ["validation, rows 41 to 70", "30"],
        ["validation, all rows", "70"],
        ["training, the first 20 rows", "20"],
    ]
    for part, chosen in zip(parts, (slice(40), slice(40, 70), slice(70), slice(70, 90)), strict=True):
        scaled = np.abs(error[chosen])
        assert part[2:5] == [
            figures(scaled.mean()),
            figures(scaled.mean() * 1.1193),
            figures(np.median(scaled) * 1.1193),
        ]
        assert part[5] == f"{100 * np.mean(scaled * 1.1193 > 0.5):.1f} %"
    (gain,), (by_chance,) = (re.findall(text, lines[-1]) for text in (r"by ([\d.]+)\. In", r"gains ([\d.]+) at most"))
    assert float(gain) > 2 * float(by_chance) > 0


def test_errors_of_one_width_change_no_more_than_their_orders_do() -> None:
    rng = np.random.default_rng(6)
    errors = np.abs(rng.laplace(size=200))
    by_chance = [audits.change(rng.permutation(errors))[1] for _ in range(200)]
    assert audits.change(errors)[1] <= max(by_chance)
    where, gain = audits.change(np.repeat([1.0, 3.0], [60, 140]))
    # 200 ln 2.4 - 60 ln 1 - 140 ln 3
    assert (where, gain) == (60, pytest.approx(200 * np.log(2.4) - 140 * np.log(3)))


def store_fold(
    folder: Path, block: str, seed: int, fold: int, predictions: Mapping[str, float], **facts: object
) -> str:
    """Store a fold of a run whose targets are all 1, and the run; returns the name of the run."""
    from benchmarks.training.trainer import Epoch

    config = {
        "task": "task",
        **({"model_name": block, block: {}} if block == "cogn" else {"block_name": block}),
        "limit": None,
        "training": {"precision": "float32"},
        **facts,
    }
    run = Run(folder / f"{block}-{config_digest(config, '')}")
    task = {"name": config["task"], "kind": "regression", "split": "folds"}
    run.write_config({"config": config, "task": task, "data": {"digest": "", "coverage": 1.0}})
    record = {
        "metrics": {"mae": float(np.mean([abs(value - 1) for value in predictions.values()])), "rmse": 0.5},
        "rows": {"train": 8, "validation": 1, "test": len(predictions)},
        "task": config["task"],
        "kind": "regression",
        variant_kind_of(config): block,
        "seed": seed,
        "fold": fold,
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
        "provenance": {"git_commit": "0123456789" * 4 + "-dirty"},
    }
    rows = [(row_id, 1.0, value) for row_id, value in predictions.items()]
    history = [Epoch(1, 0.0, 0.0, 0.0, 0.0)]
    run.write_training(Training(seed, fold), predictions=rows, record=record, history=history, weights={})
    return run.path.name


def test_ablations_are_compared_by_their_predictions(tmp_path: Path) -> None:
    errors = {("mlp", 0): (0.3, 0.5), ("mlp", 1): (0.4, 0.6), ("capsule", 0): (0.1, 0.1), ("capsule", 1): (0.2, 0.2)}
    for (block, seed), (a, b) in errors.items():
        store_fold(tmp_path, block, seed, 0, {"a": 1 + a, "b": 1 + b})
        store_fold(tmp_path, block, seed, 1, {"c": 1 + 2 * a, "d": 1 + b})
        store_fold(tmp_path, block, 2, 0, {"a": 9.0, "b": 9.0})  # not of the ablation
    runs = {path.name.partition("-")[0]: f"elsewhere/{path.name}" for path in sorted(tmp_path.iterdir())}
    table = [{"block": block, "values": {}, "seeds": [0, 1], "folds": [0, 1]} for block in ("capsule", "mlp")]
    folder = tmp_path / "ablation-0"
    folder.mkdir()
    facts = {"task": {"unit": "eV", "kind": "regression"}, "runs": runs, "table": table}
    (folder / "ablation.json").write_text(json.dumps(facts))
    heading, _, line = ablations.comparisons(folder).splitlines()
    assert heading == "| first | second | difference (eV) | folds | seeds | on these folds | on new data |"
    assert line.startswith("| mlp | capsule | 0.350 (187 %) | 0, 1 | 0, 1 | ")
    here, anew = line.split(" | ")[-2:]
    assert re.fullmatch(r"worse \(0\.\d+ to 0\.\d+; p = 0\.0\d+; finds \d+ %\)", here)
    # Folds differ by 0.3 and 0.4, of two test rows and nine others each: 12.7 times sqrt(0.005 * (1/2 + 2/9)).
    assert re.fullmatch(r"no significant difference \(-0\.41\d to 1\.1\d; p = 0\.11; finds \d+ %\) \|", anew)


def test_second_trainings_are_compared_by_their_predictions(tmp_path: Path) -> None:
    first, again, both = tmp_path / "runs", tmp_path / "runs_again", tmp_path / "runs*"
    # Row "b" of the second run of mlp comes first: rows are matched by id.
    for fold in range(5):
        a, b = f"{fold}a", f"{fold}b"
        store_fold(first, "mlp", 0, fold, {a: 1.5, b: 1.0})
        store_fold(again, "mlp", 0, fold, {b: 2.0, a: 1.0 + fold})
        store_fold(first, "egnn", 0, fold, {a: 1.0, b: 1.0})
    store_fold(first, "tfn", 0, 0, {"0a": 1.0, "0b": 1.0})  # not finished
    assert trainings.repeated(both).splitlines()[2:] == [
        "| `mlp` | 0123456-dirty | 0.2500 | 0.2500 | 0.2500 | 0.2500 | 0.2500 | 0.2500 | – |",
        "| `mlp` | 0123456-dirty | 0.5000 | 1.000 | 1.500 | 2.000 | 2.500 | 1.500 | 1.250 (0.6500 to 1.950) |",
    ]
    # egnn against mlp: 0.25 and 1.5; mlp against mlp: rows b 1, rows a 0.5, 0.5, 1.5, 2.5, 3.5
    assert trainings.apart(both).splitlines() == [
        "|  | `egnn` | `mlp` |",
        "| --- | --- | --- |",
        "| `egnn` | – | 0.8750 |",
        "| `mlp` | 0.8750 | 1.350 |",
    ]
    with pytest.raises(ValueError, match="no block was trained more than once"):
        trainings.repeated(first)
    with pytest.raises(ValueError, match="no run with all five folds"):
        trainings.apart(tmp_path / "rums*")
    for fold in range(5):
        store_fold(first, "se3", 0, fold, {f"{fold}a": 1.0})
    with pytest.raises(ValueError, match="have different test rows"):
        trainings.apart(both)
    for fold in range(5):
        store_fold(again, "se3", 0, fold, {f"{fold}b": 1.0})
    with pytest.raises(ValueError, match=r"runs_again/se3-\w+ has other test rows than"):
        trainings.repeated(both)
    for fold in range(5):
        store_fold(first, "mlp", 0, fold, {f"{fold}a": 1.0}, limit=9)
    with pytest.raises(ValueError, match="another configuration"):
        trainings.apart(both)


def test_archived_trainings_are_lines_of_a_file(docs: Path, tmp_path: Path) -> None:
    results = docs / "results"
    for name, value in (("first", 1.25), ("first-again", 1.5)):
        run = store_fold(tmp_path / name / "task", "mlp", 1, 4, {"a": value})
        write_archive(results / f"{name}.zip", collect([tmp_path / name]).files)
    run_tool(docs).check_returncode()
    text = (results / "task.csv").read_text().splitlines()
    assert text[0].startswith(
        "variant,run,split,limit,seed,fold,mae,rmse,train_rows,validation_rows,test_rows,best_epoch,"
    )
    assert text[1:] == [f"mlp,{run},folds,,1,4,0.25,0.5,8,1,1,2,3,float32,cpu,12.3,0123456-dirty"]
    run_tool(docs, "--check").check_returncode()
    (results / "task.csv").write_text("\n".join(text).replace("0.25", "0.15"))
    check = run_tool(docs, "--check")
    assert (check.returncode, "task.csv is not what" in check.stderr) == (1, True)
    (results / "other.csv").touch()
    check = run_tool(docs, "--check")
    assert (check.returncode, "the task of other.csv: remove it" in check.stderr) == (1, True)


def test_archived_results_are_whole_and_the_page_shows_them() -> None:
    archives = sorted((DOCS / "results").glob("*.zip"))
    assert archives
    pages = [(DOCS / name).read_text() for name in PAGES]
    assert all(render(page, DOCS) == page for page in pages)
    page = "".join(pages)
    recipes = [DOCS / pattern for pattern in re.findall(r"<!-- tried (\S+) -->", page)]
    n_trainings = 0
    for archive in archives:
        assert archive.stat().st_size <= 2e6
        place, runs = open_path(archive), list(find_runs(archive))
        for run in runs:
            assert run.trainings()
            assert len(run.trainings()) == len(list(run.path.glob("seed_*/fold_*/manifest.json")))
        is_again = archive.stem.endswith("-again")
        n_trainings += 0 if is_again else sum(len(run.trainings()) for run in runs)
        for folder in place.glob("*/ablation-*") if not any(archive.match(str(each)) for each in recipes) else ():
            facts = json.loads((folder / "ablation.json").read_bytes())
            if facts["judge"] == "validation":  # a recipe, of which no run is kept
                continue
            cells = len((folder / "cells.csv").read_bytes().splitlines()) - 1
            named = {Path(path).name for path in facts["runs"].values()}
            assert cells <= sum(len(run.trainings()) for run in runs if run.path.name in named)
            what = "comparisons" if is_again else "results"
            assert f"<!-- {what} {archive.relative_to(DOCS)}/{folder.at} " in page
    assert n_trainings == sum(len(file.read_text().splitlines()) - 1 for file in (DOCS / "results").glob("*.csv"))


def test_numbers_of_the_readme_stand_on_the_page() -> None:
    findings = (REPOSITORY / "README.md").read_text().split("## What we found")[1].split("\n## ")[0]
    page = (REPOSITORY / "docs" / "results.md").read_text()
    numbers = re.findall(r"\d+\.\d+", findings)
    assert numbers
    assert [number for number in numbers if not re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", page)] == []


def test_models_stand_above_what_was_published_of_them_on_the_same_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = LeaderboardEntry("coGN", 0.4, 0.2, (0.25, 0.5, 0.75, 0.2, 0.3), ("official",), "MatBench", "2024-01-20")
    monkeypatch.setattr(models, "published", lambda task: [theirs] if task == "task" else [])
    for fold, error in ((0, 0.3), (1, 0.6)):
        store_fold(tmp_path, "cogn", 0, fold, {f"{fold}a": 1 + error})
        store_fold(tmp_path, "mlp", 0, fold, {f"{fold}a": 1.5})
    store_fold(tmp_path, "cogn", 1, 0, {"0a": 9.0})  # another seed
    assert models.reproduced(tmp_path).splitlines()[2:] == [
        "| `cogn` | 0.3000 | 0.6000 | – | – | – | 0.4500 | 0.1500 | +20.0% | 3 | 25 s | 0123456-dirty |",
        "| coGN | 0.2500 | 0.5000 | 0.7500 | 0.2000 | 0.3000 | 0.4000 | 0.2025 |  |  |  | published |",
        "| `mlp` | 0.5000 | 0.5000 | – | – | – | 0.5000 | 0 | – | 3 | 25 s | 0123456-dirty |",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there is no run"):
        models.reproduced(tmp_path / "empty")


def test_recipes_are_shares_of_the_default_on_the_same_rows(tmp_path: Path) -> None:
    def store(proxy: str, limit: int | None, error: float, seed: int = 0, **changed: object) -> None:
        fields = {"epochs": 60, "weight_decay": 3.0, "validation": None, "learning_rate": 7e-4, **changed}
        store_fold(
            tmp_path, "mlp", seed, 0, {"a": 1 + error},
            task=f"proxy_{proxy}", limit=limit, training=fields, sen={"dropout": 0.3},
        )  # fmt: skip

    store("gap", 1000, 0.5)
    store("formation_energy", 1000, 0.2)
    store("gap", 1000, 0.25, epochs=200, validation=0)
    store("formation_energy", 1000, 0.2, epochs=200, validation=0)
    store("gap", 1000, 0.75, epochs=500)
    store("gap", None, 0.4)
    lines = proxies.tried(tmp_path).splitlines()[2:]
    assert lines == [
        "| 1,000 | `mlp` | training.epochs=200, training.validation=0 | 1.000 | 0.5000 | 0.7071 | 1 | 25 s |",
        "| 1,000 | `mlp` | default of 0.1 | 1.000 | 1.000 | 1.000 | 1 | 25 s |",
        "| 1,000 | `mlp` | training.epochs=500 | – | 1.500 | 1.500 | 1 | 12 s |",
        "| 8,000 | `mlp` | default of 0.1 | – | 1.000 | 1.000 | 1 | 12 s |",
    ]
    store("gap", 1000, 0.1, seed=1, epochs=500)
    with pytest.raises(ValueError, match="the default recipe was not trained on the same rows with the same seeds"):
        proxies.tried(tmp_path)
