from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints, entry_points, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks.base.cache import write_arrays
from benchmarks.base.console import figures
from benchmarks.base.errors import RunError, UnreadableError
from benchmarks.base.files import file_digest
from benchmarks.base.locks import lock
from benchmarks.cli.front_door import _with_references
from benchmarks.cli.progress import RunDisplay
from benchmarks.data.tasks import TASKS
from benchmarks.results.store import Run, Training
from benchmarks.training.plans import Plan
from tests.benchmarks.conftest import SMALL, Answer, Write, replace_file, rocksalts, write_packed

Command = Callable[..., Answer]


def run_arguments(data: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("run", "matbench_jdft2d", "--data-dir", data, "--out", out, "--epochs", 1, *SMALL, *more)


def only_run(out: Path) -> Path:
    (config,) = out.rglob("config.json")
    return config.parent


@pytest.mark.usefixtures("unlearnt")
def test_run_stores_every_test_row_once_and_shows_folds_and_leaderboard(
    write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    answer = sen_bench(*run_arguments(data, out, "--seed", 3))
    assert answer.code == 0, answer.err
    run = only_run(out)
    ids = []
    for fold in range(5):
        folder = run / "seed_3" / f"fold_{fold}"
        assert {path.name for path in folder.iterdir()} == {
            "predictions.csv", "history.csv", "metrics.json", "model.safetensors", "manifest.json",
        }  # fmt: skip
        with (folder / "predictions.csv").open() as file:
            rows = list(csv.DictReader(file))
        ids += [row["id"] for row in rows]
        errors = [abs(float(row["target"]) - float(row["prediction"])) for row in rows]
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["metrics"]["mae"] == pytest.approx(np.mean(errors), rel=1e-12)
        assert metrics["provenance"]["torch"] == torch.__version__
    assert sorted(ids) == [f"mb-jdft2d-{row:03d}" for row in range(1, 61)]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["mean"]["mae"] == pytest.approx(np.mean([training["mae"] for training in summary["trainings"]]))
    assert "partial data" in answer.out
    assert "9.4%" in answer.out
    assert re.search(r"\d │ coGN +│.* official", answer.out)
    assert re.search(r"– │ DenseNGN +│.* unmerged ", answer.out)
    assert "Without published scores" not in answer.out
    assert "Rank" not in answer.out, "a partial run has no rank"


@pytest.mark.usefixtures("unlearnt")
def test_finished_folds_are_kept_and_missing_ones_made(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data, out = write_data(rocksalts(40)), tmp_path / "runs"
    assert sen_bench(*run_arguments(data, out, "--folds", "1")).code == 0
    predictions = only_run(out) / "seed_0/fold_1/predictions.csv"
    before = (predictions.stat().st_mtime_ns, predictions.read_bytes())
    answer = sen_bench(*run_arguments(data, out, "--folds", "0,1"))
    assert answer.code == 0
    assert "1 of 2 trainings to do" in answer.out
    (left_out,) = re.findall(r"Without published scores of these folds: ([^.]*)\.", answer.out)
    assert "DenseNGN" in left_out
    assert "coGN" not in left_out
    assert (predictions.stat().st_mtime_ns, predictions.read_bytes()) == before
    # The same seed trained again gives the same predictions, to the last digit.
    again = sen_bench(*run_arguments(data, out, "--folds", "1", "--overwrite", "always"))
    assert again.code == 0
    assert predictions.stat().st_mtime_ns != before[0]
    assert predictions.read_bytes() == before[1]
    refused = sen_bench(*run_arguments(data, out, "--folds", "1", "--overwrite", "never"))
    assert refused.code == 2
    assert "already holds results" in refused.err


@pytest.mark.usefixtures("unlearnt")
def test_overwriting_discards_all_that_was_asked_for_before_it_begins(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = write_data(rocksalts(40)), tmp_path / "runs"
    arguments = run_arguments(data, out, "--folds", "0,1")
    assert sen_bench(*arguments).code == 0
    run = Run(only_run(out))
    with run.lock(Training(0, 1)):
        refused = sen_bench(*arguments, "--seeds", 2, "--overwrite", "always")
    assert not (run.path / "seed_1").exists()
    assert refused.code == 2
    assert "Another process is training fold 1, seed 0" in refused.err
    assert len(run.trainings()) == 2
    monkeypatch.setattr("benchmarks.training.execution.train_one", lambda *_: RunError("No [memory] left."))
    failed = sen_bench(*arguments, "--overwrite=always")
    assert failed.code == 1
    assert "fold 0, seed 0 failed: No [memory] left." in failed.out
    assert failed.err.splitlines()[-1].endswith("--overwrite=only-missing")
    assert run.trainings() == []  # old and new results never stand side by side
    assert json.loads((run.path / "summary.json").read_text())["trainings"] == []
    never = sen_bench(*arguments, "--seeds", 2, "--overwrite", "never")
    assert never.err.splitlines()[-1].endswith("--seeds 2 --overwrite only-missing")


@pytest.mark.usefixtures("unlearnt")
def test_with_nothing_left_to_train_and_to_predict_only_what_is_needed_is_loaded(
    write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    arguments = run_arguments(write_data(rocksalts(40)), tmp_path / "runs", "--folds", 0)
    assert sen_bench(*arguments).code == 0
    crystal = tmp_path / "crystal.vasp"
    crystal.write_text("NeO\n5.0\n0 .5 .5\n.5 0 .5\n.5 .5 0\nNe O\n1 1\nDirect\n0 0 0\n.5 .5 .5\n")
    code = (
        "import atexit, sys; from benchmarks.cli.main import main; "
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    # They take a third of a second to three seconds to load. No command reads a configuration without torch.
    heavy = {"dask", "distributed", "e3nn", "joblib", "matplotlib", "optuna", "openTSNE", "pandas", "pyarrow"}
    heavy |= {"scipy.stats", "seaborn", "sklearn", "torch._dynamo", "torch_geometric"}
    for words in (arguments, ("predict", only_run(tmp_path / "runs"), crystal)):
        command = [sys.executable, "-c", code, *map(str, words)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        loaded = set(answer.stderr.split())
        assert "benchmarks.training.plans" in loaded
        assert not heavy & loaded
        assert words[0] != "run" or "pymatgen" not in loaded


@pytest.mark.usefixtures("unlearnt")
def test_a_training_whose_predictions_are_no_numbers_leaves_no_state(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "benchmarks.training.train_one.predict", lambda *arguments, **_: np.full(len(arguments[2]), np.nan)
    )
    out = tmp_path / "runs"
    failed = sen_bench(*run_arguments(write_data(rocksalts(40)), out, "--folds", "0"))
    assert failed.code == 1
    assert "not finite" in failed.out
    assert list(out.rglob("seed_0"))
    assert not list(out.rglob("*.state.safetensors"))


@pytest.mark.usefixtures("unlearnt")
def test_damaged_fold_counts_as_missing(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data, out = write_data(rocksalts(40)), tmp_path / "runs"
    assert sen_bench(*run_arguments(data, out, "--folds", "0,2")).code == 0
    weights = only_run(out) / "seed_0/fold_2/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    answer = sen_bench(*run_arguments(data, out, "--folds", "0,2"))
    assert answer.code == 0
    assert "1 of 2 trainings to do" in answer.out


@pytest.mark.deep
def test_parallel_folds_give_the_results_of_serial_ones(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(rocksalts(40))
    # One thread for each training in both cases: the number of threads changes the order of sums.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name, jobs in (("serial", 1), ("parallel", 2)):
        answer = sen_bench(
            *run_arguments(data, tmp_path / name, "--epochs", 20, "--folds", "0,1", "--jobs", jobs, "--seeds", 1)
        )
        assert answer.code == 0, answer.err
    for fold in (0, 1):
        files = [only_run(tmp_path / name) / f"seed_0/fold_{fold}/predictions.csv" for name in ("serial", "parallel")]
        serial, parallel = (np.loadtxt(file, delimiter=",", skiprows=1, usecols=2) for file in files)
        np.testing.assert_allclose(parallel, serial, rtol=1e-6)


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write rows as the complete file of a task, which takes them for the official ones; returns the folder."""

    def write(rows: list[list[Any]], name: str, target: str) -> Path:
        content = {"index": list(range(len(rows))), "columns": ["structure", target], "data": rows}
        file = tmp_path / f"{name}.json.gz"
        write_packed(file, content)
        task = replace(TASKS[name], n_rows=len(rows), sha256=file_digest(file))
        monkeypatch.setattr("benchmarks.data.tasks.TASKS", {**TASKS, name: task})
        return tmp_path

    return write


@pytest.mark.usefixtures("unlearnt")
def test_complete_data_get_a_rank_and_a_single_fold_does_not(
    official: Callable[..., Path], sen_bench: Command, tmp_path: Path
) -> None:
    data, out = official(rocksalts(60), "matbench_jdft2d", "exfoliation_en"), tmp_path / "runs"
    one = sen_bench(*run_arguments(data, out, "--folds", "0"))
    assert one.code == 0, one.err
    assert "Rank" not in one.out
    five = sen_bench(*run_arguments(data, out))
    assert five.code == 0, five.err
    assert "Rank 1 beside" in five.out
    assert "artial" not in five.out
    assert json.loads((only_run(out) / "summary.json").read_text())["is_official"]
    exported = sen_bench("export", only_run(out), "-o", tmp_path / "results.json.gz")
    assert exported.code == 0, exported.err


def test_classification_reports_both_areas(official: Callable[..., Path], sen_bench: Command, tmp_path: Path) -> None:
    rows = [[crystal, a > 5.5] for crystal, a in rocksalts(60)]
    data, out = official(rows, "matbench_mp_is_metal", "is_metal"), tmp_path / "runs"
    answer = sen_bench(
        "run", "matbench_mp_is_metal", "--data-dir", data, "--out", out, "--folds", "0", "--epochs", 25, *SMALL
    )
    assert answer.code == 0, answer.err
    assert "ROC-AUC" in answer.out
    assert "MatBench 'rocauc'" in answer.out
    predictions = np.loadtxt(only_run(out) / "seed_0/fold_0/predictions.csv", delimiter=",", skiprows=1, usecols=(1, 2))
    assert set(predictions[:, 0]) == {0, 1}
    assert ((predictions[:, 1] > 0) & (predictions[:, 1] < 1)).all()
    assert ((predictions[:, 1] > 0.5) == predictions[:, 0]).mean() > 0.7


def test_classification_on_a_part_of_the_rows_is_refused(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data = write_data([[crystal, a > 5.5] for crystal, a in rocksalts(80)], "matbench_mp_is_metal", "is_metal")
    answer = sen_bench("run", "matbench_mp_is_metal", "--data-dir", data, "--out", tmp_path / "runs", *SMALL)
    assert answer.code == 2
    assert "stratified" in answer.err


def test_interrupted_run_says_how_to_go_on(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = RunDisplay.start

    def interrupt(display: RunDisplay, plan: Plan, device: str) -> None:
        start(display, plan, device)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RunDisplay, "start", interrupt)
    answer = sen_bench(*run_arguments(write_data(rocksalts(40)), tmp_path / "runs"))
    assert answer.code == 130
    assert "Finished folds are kept. To continue:\n  sen-bench run" in answer.err
    assert not [path for path in (tmp_path / "runs").rglob("*fold_*") if path.is_dir()]


@pytest.mark.parametrize(("folds", "code"), [("0", 0), ("0,1", 130)])
@pytest.mark.usefixtures("unlearnt")
def test_ctrl_c_while_a_result_is_stored_matters_only_where_something_is_left(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folds: str, code: int
) -> None:
    write_training = Run.write_training

    def interrupted(self: Run, *arguments: Any, **options: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return write_training(self, *arguments, **options)

    monkeypatch.setattr(Run, "write_training", interrupted)
    answer = sen_bench(*run_arguments(write_data(rocksalts(60)), tmp_path / "runs", "--folds", folds))
    assert answer.code == code, answer.err
    assert "fold 0, seed 0: MAE" in answer.out
    assert ("test rows in" in answer.out) == (code == 0)
    assert ("To continue:" in answer.err) == (code == 130)


@pytest.mark.usefixtures("unlearnt")
def test_config_file_flags_and_assignments_in_order_of_precedence(
    write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    file = tmp_path / "recipe.toml"
    file.write_text("[training]\nepochs = 1\nbatch_size = 9\nlearning_rate = 0.004\n[graph]\nmax_neighbors = 6\n")
    answer = sen_bench(
        *("run", "matbench_jdft2d", "--data-dir", data, "--out", out, "--folds", "0", *SMALL),
        *("--config", file, "--epochs", 2, "--batch-size", 5, "--set", "training.learning_rate=0.003"),
    )
    assert answer.code == 0, answer.err
    config = json.loads((only_run(out) / "config.json").read_text())["config"]
    assert config["training"]["epochs"] == 2  # the flag, not the file
    assert config["training"]["batch_size"] == 8  # --set (among the SMALL options), not the flag
    assert config["training"]["learning_rate"] == 0.003  # the last --set
    assert config["graph"]["max_neighbors"] == 6  # the file


@pytest.mark.usefixtures("unlearnt")
def test_limit_drops_training_rows_only(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    answer = sen_bench(*run_arguments(data, out, "--folds", "0", "--limit", 20))
    assert answer.code == 0, answer.err
    assert f"Next: sen-bench report {only_run(out)} " in answer.out
    rows = json.loads((only_run(out) / "seed_0/fold_0/metrics.json").read_text())["rows"]
    assert rows["train"] + rows["validation"] + rows["calibration"] == 20
    assert rows["test"] == len((only_run(out) / "seed_0/fold_0/predictions.csv").read_text().splitlines()) - 1 > 5


def test_divergence_is_reported_and_leaves_no_result(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data, out = write_data(rocksalts(40)), tmp_path / "runs"
    hopeless = ("--folds", "0", "--set", "training.learning_rate=1e30", "--set", "training.warmup=0")
    answer = sen_bench(*run_arguments(data, out, *hopeless))
    assert answer.code == 1
    assert "learning_rate" in answer.out
    assert "1 of 1 trainings failed" in answer.err
    assert "Those that did not learn would fail again: change" in answer.err
    assert re.search(
        r"Failed: matbench_jdft2d, mlp-\w+, fold 0, seed 0: Training diverged: .*", sen_bench("status", out).out
    )
    assert not list(out.rglob("fold_*"))


def test_plug_in_that_cannot_be_imported_is_named(sen_bench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("broken", "a_package_that_is_not_there:Block", "sen_bench.blocks")
    monkeypatch.setattr(
        "sen.registry._registered",
        lambda group, _: EntryPoints([broken]) if group == "sen_bench.blocks" else entry_points(group=group),
    )
    answer = sen_bench("run", "prototypes", "--block", "broken")
    assert answer.code == 2
    assert "a_package_that_is_not_there" in answer.err


def test_the_home_folder_may_hold_the_data(sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sen_bench("tasks", "--data-dir", "~").code == 0  # as the shell leaves it in --data-dir=~
    assert f"no folder {tmp_path / 'data'}" in sen_bench("tasks", "--data-dir", "~/data").err


@pytest.mark.usefixtures("unlearnt")
def test_status_passes_over_what_it_cannot_read(
    write_data: Write, sen_bench: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, out = write_data(rocksalts(40)), tmp_path / "runs"
    sen_bench(*run_arguments(data, out, "--folds", "0"))
    for name, content in (
        ("half", "{half"),
        ("foreign", '{"format": 1, "config": {"limit": null}, "task": {"name": "t"}, "data": {}}'),
    ):
        (out / name).mkdir()
        (out / name / "config.json").write_text(content)
    answer = sen_bench("status", out)
    assert answer.code == 0
    assert "mlp" in answer.out
    assert f"Skipped: {out / 'half' / 'config.json'} is not valid JSON" in caplog.text
    assert f"Skipped: {out / 'foreign' / 'config.json'} lacks what a run records (KeyError('" in caplog.text


def test_folds_by_groups_have_names_wherever_they_are_shown(
    write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    command = ("matbench_jdft2d", "--data-dir", data, "--split", "cluster:3")
    split = sen_bench("split", *command, "--folds", "cluster 2,0", "-o", tmp_path / "splits.json")
    assert split.code == 0, split.err
    assert re.search(
        r"matbench_jdft2d \(cluster:3\): rows of each fold.*│ 1 \(cluster 2\) *│.*│ 0 \(cluster 1\) *│",
        split.out,
        re.DOTALL,
    )
    assert re.search(r"Of 60 rows \d+ are tested in no fold, and 0 in several\.", split.out)
    assert f"Files: {tmp_path / 'splits.json'}, and 8 CSV files beside it." in split.out

    run = sen_bench("run", *command, "--model", "trees", "--folds", "cluster 2,0", "--out", out)
    assert run.code == 0, run.err
    assert "fold 1 (cluster 2), seed 0: MAE" in run.out
    assert re.search(
        r"matbench_jdft2d \(cluster:3\), trees.*│ 0 \(cluster 1\) *│.*│ 1 \(cluster 2\) *│", run.out, re.DOTALL
    )
    assert "Rank" not in run.out
    facts = Run(only_run(out)).read_config()
    assert (facts["task"]["split"], facts["data"]["fold_names"]) == ("cluster:3", [f"cluster {i}" for i in (1, 2, 3)])
    assert json.loads((only_run(out) / "summary.json").read_text())["is_official"] is False
    assert re.search(r"matbench_jdft2d \(cluster:3\) .* trees .* 2 of 3: 0 \(cluster 1\)", sen_bench("status", out).out)
    refused = sen_bench("export", only_run(out), "-o", tmp_path / "x")
    assert refused.code == 2
    assert "is a run on the split cluster:3: a submission needs a run on the official folds" in refused.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--split", "crystal-system"], "all rows are of one (cubic): choose another split."),
        (["--split", "element", "--folds", "F,Xe"], "There is no fold for the element Xe: no row contains it"),
        (["--split", "element", "--folds", "0,0"], "--folds takes numbers from 0 to 7, none of them twice, not 0,0."),
        (["--split", "element", "--folds", "9"], "--folds takes numbers from 0 to 7, none of them twice, not 9."),
        (["--split", "cluster:200"], "200 clusters of 200 rows are too many"),
        (["--split", "group:source"], "--split group:source is only for your own data; matbench_jdft2d is a built-in"),
        (["--split", "file:nowhere.json"], "nowhere.json cannot be read"),
        (["--split", "clusters:3"], "There is no split 'clusters:3'. Did you mean cluster:K"),
    ],
)
def test_impossible_groups_are_refused_in_one_sentence(
    write_data: Write, sen_bench: Command, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    data = write_data(rocksalts(200))
    answer = sen_bench("run", "matbench_jdft2d", "--data-dir", data, "--out", tmp_path / "runs", *arguments)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert expected in answer.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("unlearnt")
def test_status_lists_runs(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data, out = write_data(rocksalts(40)), tmp_path / "runs"
    sen_bench(*run_arguments(data, out, "--folds", "0,3"))
    answer = sen_bench("status", out)
    assert answer.code == 0
    assert re.search(r"matbench_jdft2d .* 6.3% .* mlp .* 2 of 5: 0,3", answer.out)
    assert "older format" not in answer.out
    run = Run(only_run(out))
    record = run.read_metrics(Training(0, 3))
    del record["run"]
    replace_file(run.training_path(Training(0, 3)), "metrics.json", json.dumps(record).encode())
    assert f"In the older format of sen-bench 0.1: {run.path.name}." in sen_bench("status", out).out


def test_results_of_0_1_are_listed_archived_and_listed_again(
    runs_of_0_1: Path, sen_bench: Command, tmp_path: Path
) -> None:
    archive = tmp_path / "of-0.1.zip"
    assert "with 2 trainings, 2 runs" in sen_bench("archive", runs_of_0_1, "-o", archive).out
    for store in (runs_of_0_1, archive):
        listed = sen_bench("status", store).out
        assert re.search(r"mlp-c82ce5750e +. 1 +. 1 of 5: 0", listed)
        assert "In the older format of sen-bench 0.1: egnn-e9cf1f2b1b, mlp-c82ce5750e." in listed
    answer = sen_bench("export", runs_of_0_1 / "prototypes" / "mlp-c82ce5750e", "-o", tmp_path / "results.json.gz")
    assert (answer.code, "is not a task of MatBench" in answer.err) == (2, True)


@pytest.mark.usefixtures("unlearnt")
def test_a_random_split_of_a_task_stands_beside_references_and_not_on_the_leaderboard(
    write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    data, out = write_data(rocksalts(40)), tmp_path / "runs"
    answer = sen_bench(*run_arguments(data, out, "--split", "resample", "--folds", "0,9"))
    assert answer.code == 0, answer.err
    assert "matbench_jdft2d (resample), mlp: test rows" in answer.out
    assert "ExtraTrees on composition" in answer.out
    assert "Published models" not in answer.out
    summary = json.loads((only_run(out) / "summary.json").read_text())
    assert (summary["split"], summary["is_official"], summary["folds"]) == ("resample", False, [0, 9])
    status = sen_bench("status", out).out
    assert "(resample)" in status
    assert "2: 0,9" in status
    assert sen_bench("export", only_run(out), "-o", tmp_path / "results.json.gz").code == 2


@pytest.mark.usefixtures("unlearnt")
def test_status_names_what_the_system_refuses_to_read(
    write_data: Write,
    sen_bench: Command,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, out = write_data(rocksalts(40)), tmp_path / "runs"
    sen_bench(*run_arguments(data, out, "--folds", "0"))

    def refuse(self: Run) -> None:
        raise UnreadableError(f"{self.path} cannot be read")

    monkeypatch.setattr(Run, "trainings", refuse)
    answer = sen_bench("status", out)
    assert (answer.code, "There are no runs" in answer.out) == (0, True)
    assert f"Skipped: {only_run(out)} cannot be read" in caplog.text


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own; tests at the same time fill the common one."""
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_prepare_fills_the_cache_once(write_data: Write, sen_bench: Command, own_cache: Path) -> None:
    data = write_data(rocksalts(30, seed=5))
    answer = sen_bench("prepare", "matbench_jdft2d", "--data-dir", data)
    assert answer.code == 0
    assert "30 crystals (4.7% of the task), 60 atoms, 60 graph nodes" in answer.out
    assert answer.out.endswith(
        f"Cached: the crystals and these graphs, in {own_cache}.\n"
        f"Next: sen-bench run matbench_jdft2d --data-dir {data}\n"
    )
    before = {path: path.stat().st_mtime_ns for path in own_cache.rglob("*.npy")}
    assert before
    assert sen_bench("prepare", "matbench_jdft2d", "--data-dir", data).code == 0
    assert {path: path.stat().st_mtime_ns for path in own_cache.rglob("*.npy")} == before


def test_deuterium_in_official_data_is_reported(write_data: Write, sen_bench: Command) -> None:
    rows = rocksalts(12, seed=7)
    for crystal, _ in rows[2:9]:
        crystal["sites"][0]["species"][0]["element"] = "D"
    answer = sen_bench("prepare", "matbench_jdft2d", "--data-dir", write_data(rows))
    assert answer.code == 0, answer.err
    assert "7 rows hold deuterium or tritium, read as hydrogen (mb-jdft2d-003, mb-jdft2d-004" in answer.out
    assert "mb-jdft2d-009" not in answer.out


def test_prepare_names_rows_with_like_crystals(write_data: Write, sen_bench: Command) -> None:
    rows = rocksalts(20, seed=8)
    rows += [[rows[3][0], 9.5], [rows[4][0], rows[4][1]]]
    answer = sen_bench("prepare", "matbench_jdft2d", "--data-dir", write_data(rows))
    assert answer.code == 0, answer.err
    assert "4 rows have the crystal of another row once refined to 0.001 Å (mb-jdft2d-004, mb-jdft2d-005," in answer.out
    assert "2 rows have nearly the crystal of another row" in answer.out
    apart = f"those of mb-jdft2d-004 and mb-jdft2d-021 differ most, by {figures(9.5 - rows[3][1])} meV/atom."
    assert f"and another target (mb-jdft2d-004, mb-jdft2d-021); {apart}" in answer.out


def test_damaged_cache_is_rebuilt(
    write_data: Write, sen_bench: Command, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_data(rocksalts(30, seed=6))
    first = sen_bench("prepare", "matbench_jdft2d", "--data-dir", data)
    newest = max(own_cache.rglob("*.npy"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:-1])
    second = sen_bench("prepare", "matbench_jdft2d", "--data-dir", data)
    assert second.code == 0
    assert second.out == first.out
    assert "is rebuilt" in caplog.text


def test_tasks_and_blocks_are_listed(sen_bench: Command, data_dir: Path) -> None:
    tasks = sen_bench("tasks", "--data-dir", data_dir)
    assert tasks.code == 0
    assert re.search(r"matbench_phonons .* 1,265 .* last phdos peak .* 1/cm .* complete", tasks.out)
    assert re.search(r"matbench_mp_gap .* 106,113 .* partial", tasks.out)
    blocks = sen_bench("blocks")
    assert blocks.code == 0
    assert "capsule" in blocks.out
    assert re.search(r"mlp .* 1,772,032 .* 132,609 ", blocks.out)
    assert re.search(r"none .* 0 .* 50,049 ", blocks.out)


def test_every_field_is_listed_with_its_default_and_meaning(sen_bench: Command) -> None:
    answer = sen_bench("fields")
    assert answer.code == 0, answer.err
    for line in (
        "training.learning_rate = 0.0007  Peak learning rate.",
        "sen.gaussian_range = 6.0  Centre of the last Gaussian in Å; the first is at 0 (authors' code).",
        "training.optimizer = adamw  adamw decouples",
        "limit = null  Training rows",
    ):
        assert f"\n  {line}" in answer.out
    assert "Of block egnn:\n  block." in answer.out
    assert not re.search(r" = .*  $", answer.out, re.MULTILINE)


def test_version_is_that_of_the_package(sen_bench: Command) -> None:
    answer = sen_bench("--version")
    assert (answer.code, answer.out) == (0, f"sen-bench {version('sen-bench')}\n")


def test_every_command_answers_to_h(sen_bench: Command) -> None:
    for arguments in (["-h"], ["ablate", "-h"]):
        answer = sen_bench(*arguments)
        assert (answer.code, "Usage: sen-bench" in answer.out) == (0, True)


def test_help_loads_nothing_heavy() -> None:
    code = "import sys, benchmarks.cli.main, benchmarks.cli.commands; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "pymatgen", "pandas", "sklearn", "numpy", "matplotlib"} & set(loaded)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "matbench_phonon"], "Did you mean matbench_phonons"),
        (["run", "matbench_steels"], "composition-only"),
        (["run", "prototypes", "--block", "capsul"], "Did you mean capsule"),
        (["run", "prototypes", "--set", "training.epoch=3"], "Did you mean training.epochs"),
        (["run", "prototypes", "--set", "training.lr=1"], "Did you mean training.learning_rate? Available"),
        (["run", "prototypes", "--set", "training.epochs"], "FIELD=VALUE"),
        (["run", "prototypes", "--block", "mlp,egnn"], "one block. To compare several: sen-bench ablate TASK --blocks"),
        (
            ["tune", "prototypes", "--trials", "2", "--model", "megnet,cogn"],
            "ablate TASK --models megnet,cogn",
        ),
        (["run", "--task", "matbench_phonon"], "Did you mean matbench_phonons"),
        (["run", "--task=matbench_phonon", "--seeds", "2"], "Did you mean matbench_phonons"),
        (["ablate", "matbench_phonon"], "Did you mean matbench_phonons"),
        (["ablate", "--blocks", "mlp", "--task", "matbench_phonon"], "Did you mean matbench_phonons"),
        (["ablate", "prototypes", "--task", "prototypes"], "unexpected extra argument"),
        (["run", "prototypes", "--seeds", "0,1,2"], "--seeds takes a count, such as 3"),
        (["run", "prototypes", "--set", "training.epochs=many"], "training.epochs"),
        (["run", "prototypes", "--set", "sen.heads=7"], "must divide"),
        (["run", "prototypes", "--epochs", "0"], "training.epochs"),
        (["run", "prototypes", "--precision", "float8"], "training.precision"),
        (["run", "prototypes", "--folds", "5"], "from 0 to 4"),
        (["run", "prototypes", "--folds", "0,²"], "--folds takes numbers separated by commas"),
        (["run", "prototypes", "--folds", "1" * 5000], "--folds takes numbers separated by commas"),
        (["run", "prototypes", "--folds", "0,0"], "none of them twice"),
        (["run", "prototypes", "--folds", "first"], "separated by commas"),
        (["run", "prototypes", "--limit", "1"], "limit"),
        (["run", "prototypes", "--jobs", "0"], "--jobs"),
        (["run", "prototypes", "--seed", "-1"], "seed"),
        (["run", "prototypes", "--seed", "99999999999"], "seed"),
        (["run", "prototypes", "--seeds", "0"], "seeds"),
        (["run", "prototypes", "--overwrite", "maybe"], "only-missing"),
        (["run", "prototypes", "--config", "nowhere.toml"], "cannot be read"),
        (["run", "prototypes", "--device", "tpu"], "no device 'tpu'"),
        (["run", "matbench_phonons", "--data-dir", "nowhere"], "matbench_phonons.json.gz"),
        (["run", "matbench_phonons", "--data-dir", __file__], "is a file and no folder (--data-dir or SEN_BENCH_DATA)"),
        (["tasks", "--data-dir", "nowhere"], "no folder nowhere"),
        (["tasks", "--data-dir", __file__], "is a file and no folder (--data-dir)"),
        (["report", "runs", "--data-dir", __file__], "is a file and no folder (--data-dir)"),
        (["prepare", "matbench_glass"], "composition-only"),
        (["status", "nowhere"], "no folder or archive nowhere"),
        (["trian"], "No such command"),
        (["run"], "TASK"),
    ],
)
def test_wrong_use_is_answered_in_one_sentence(
    sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = sen_bench(*arguments)
    assert answer.code == 2
    assert expected.lower() in answer.err.lower()
    assert not list(tmp_path.rglob("fold_*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_where_there_is_none_is_refused(sen_bench: Command, tmp_path: Path) -> None:
    answer = sen_bench("run", "prototypes", "--device", "cuda", "--out", tmp_path)
    assert answer.code == 2
    assert "--device cpu" in answer.err


def test_broken_toml_is_named(sen_bench: Command, tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("[training\nepochs = 3")
    answer = sen_bench("run", "prototypes", "--config", file)
    assert answer.code == 2
    assert "not valid TOML" in answer.err


def test_fewer_rows_than_folds_are_refused(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    answer = sen_bench(*run_arguments(write_data(rocksalts(3)), tmp_path / "runs"))
    assert answer.code == 2
    assert "give more rows" in answer.err


def test_truncated_file_is_named(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data = write_data(rocksalts(30))
    file = data / "matbench_jdft2d.partial.json.gz"
    file.write_bytes(file.read_bytes()[:-200])
    answer = sen_bench(*run_arguments(data, tmp_path / "runs"))
    assert answer.code == 1
    assert file.name in answer.err


@pytest.mark.parametrize("column", ["structure", "exfoliation_en"])
def test_file_without_structure_or_target_is_named(
    write_data: Write, sen_bench: Command, tmp_path: Path, column: str
) -> None:
    data = write_data(rocksalts(10))
    file = data / "matbench_jdft2d.partial.json.gz"
    content = gzip.decompress(file.read_bytes()).replace(f'"{column}"'.encode(), b'"other"', 1)
    file.write_bytes(gzip.compress(content))
    answer = sen_bench(*run_arguments(data, tmp_path / "runs"))
    assert answer.code == 1
    assert file.name in answer.err
    assert column in answer.err


def test_unwritable_output_is_named(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    answer = sen_bench(*run_arguments(write_data(rocksalts(20)), blocked / "runs"))
    assert answer.code == 2
    assert str(blocked) in answer.err


def test_unwritable_cache_is_named(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("SEN_BENCH_CACHE", str(blocked / "cache"))
    answer = sen_bench("prepare", "matbench_jdft2d", "--data-dir", write_data(rocksalts(20)))
    assert answer.code == 2
    assert "SEN_BENCH_CACHE" in answer.err


def test_prepare_takes_the_graph_table_and_loads_no_torch(
    write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    data = write_data(rocksalts(20, seed=8))
    file = tmp_path / "recipe.toml"
    file.write_text("[block]\nhidden = 7\n[graph]\nmax_neighbors = 6\n")
    answer = sen_bench("prepare", "matbench_jdft2d", "--data-dir", data, "--config", file)
    assert answer.code == 0, answer.err
    # The first shell of 6 around each of 2 ions, which is one edge of each.
    assert "40 graph nodes with 240 neighbours, 40 edges" in answer.out
    assert sen_bench("prepare", "matbench_jdft2d", "--data-dir", data, "--set", "sen.rounds=2").code == 2
    modules = (
        "benchmarks.cli.display, benchmarks.data.dataset, benchmarks.results.run_config, benchmarks.data.graph_table"
    )
    code = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "torch" not in loaded


def test_warnings_are_written_above_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr("benchmarks.cli.progress.make_console", lambda: Console(file=terminal, force_terminal=True))
    handler = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    with RunDisplay() as display:
        display.progress("Downloading [MB]")(1, 3)
        logging.getLogger("sen_bench").warning("It stalls.")
    assert "It stalls.\n" in terminal.getvalue()
    assert "Downloading [MB]" in terminal.getvalue()
    assert handler.stream is sys.stderr


def test_references_belong_to_the_folds_that_they_are_of() -> None:
    known = {"folds": [0], "references": {"trees": 1.5}}
    assert _with_references({"folds": [0], "mean": 2}, known) == {"folds": [0], "mean": 2, "references": {"trees": 1.5}}
    assert _with_references({"folds": [0, 1]}, known) == {"folds": [0, 1]}


@pytest.mark.usefixtures("unlearnt")
def test_clean_deletes_what_sen_bench_wrote_of_a_run_after_asking(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sen_bench(*run_arguments(write_data(rocksalts(40)), tmp_path / "runs", "--folds", "1,2"))
    folder = only_run(tmp_path / "runs")
    run = Run(folder)
    note = folder / "seed_0" / "fold_1" / "note.txt"
    note.write_text("mine")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    answer = sen_bench("clean", folder)
    assert answer.code == 1
    assert re.search(rf"{folder}: 2 results, \d\.\d MB", answer.out)
    with run.lock(Training(0, 2)):
        answer = sen_bench("clean", folder, "--yes")
    assert answer.code == 2
    assert "Another process is training fold 2, seed 0" in answer.err
    assert len(run.trainings()) == 2
    answer = sen_bench("clean", f"{folder.parent}/../{folder.parent.name}/{folder.name}", folder, "--yes")
    assert answer.code == 0
    assert answer.out.count("2 results") == 1
    assert [path for path in folder.rglob("*") if path.is_file()] == [note]
    assert f"{folder} stays, because it holds files that sen-bench did not write" in answer.out


def test_clean_deletes_tables_of_the_cache_and_nothing_else(
    sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path))
    tables = [tmp_path / f"graphs-{digit * 32}" for digit in "ab"]
    for table in tables:
        write_arrays(table, [{"x": np.zeros(500_000)}], {})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "matbench_phonons.json.gz").write_text("kept")
    with lock(tmp_path / f".{tables[0].name}.lock"):
        answer = sen_bench("clean", "--cache", "--yes")
    assert answer.code == 0
    assert f"{tmp_path}: 2 tables of crystals or graphs, 8.0 MB" in answer.out
    assert f"{tables[0]} stays, because another process is building it" in answer.out
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["data", tables[0].name]
    assert (tmp_path / "data" / "matbench_phonons.json.gz").exists()


def test_clean_says_what_it_needs(sen_bench: Command, tmp_path: Path) -> None:
    assert sen_bench("clean").code == 2
    assert "name runs" in sen_bench("clean").err
    assert "is not a run" in sen_bench("clean", tmp_path, "--yes").err
    assert tmp_path.is_dir()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("run matbench_ph", "matbench_phonons"),
        ("run prototypes --block ml", "mlp"),
        ("ablate --blocks mlp,eg", "mlp,egnn"),
        ("run prototypes --model meg", "megnet"),
        ("run prototypes --set training.learning_r", "training.learning_rate="),
        ("run prototypes --recipe com", "common"),
        ("clea", "clean"),
    ],
)
def test_shells_complete_names(words: str, expected: str, sen_bench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SEN_BENCH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"sen-bench {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    assert sen_bench().out.split() == [expected]
