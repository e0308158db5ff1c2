"""`sen-bench tune`, from the command line to a run with the recipe that it finds."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.conftest import SMALL, Answer, Write, rocksalts

Command = Callable[..., Answer]
LABEL = "recipe tuned on this dataset"


def tune_arguments(data: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("tune", "matbench_jdft2d", "--data-dir", data, "--out", out, *SMALL[:-2], "--epochs", 1, *more)


def trials(out: Path) -> list[dict[str, Any]]:
    (file,) = out.rglob("trials.json")
    found: list[dict[str, Any]] = json.loads(file.read_text())["trials"]
    return [{**trial, "seconds": 0} for trial in found]


@pytest.mark.usefixtures("unlearnt")
def test_a_recipe_is_found_and_labelled_on_other_folds(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    answer = sen_bench(*tune_arguments(data, out, "--trials", 2))
    assert answer.code == 0, answer.err
    assert "2 of 2 trials to do" in answer.out
    assert "42 rows to train on, 10 that judge, all of them training rows" in answer.out
    assert "Searched: graph.max_neighbors, training.weight_decay." in answer.out
    assert len(trials(out)) == 2
    (recipe,) = out.rglob("recipe.toml")
    assert f"To train with it: --config {recipe}" in answer.out
    assert sen_bench("status", out).out.strip() == f"There are no runs in {out}."
    again = sen_bench(*tune_arguments(data, out, "--trials", 3))
    assert "1 of 3 trials to do" in again.out
    assert "trial 3 of 3: MAE" in again.out
    assert "trial 2 of 3: MAE" not in again.out

    run = ("run", "matbench_jdft2d", "--data-dir", data, "--out", out, "--block", "mlp", "--config", recipe)
    honest = sen_bench(*run, "--folds", 0)
    assert honest.code == 0, honest.err
    assert LABEL not in honest.out + sen_bench("status", out).out
    labelled = sen_bench(*run, "--folds", "0,1")
    assert "1 of 2 trainings to do" in labelled.out
    assert f"Label: {LABEL}." in labelled.out
    assert f"this run ({LABEL})" in labelled.out
    assert LABEL in sen_bench("status", out).out
    report = sen_bench("report", out, "--data-dir", data, "-o", tmp_path / "report.html")
    assert report.code == 0, report.err
    assert f"mlp ({LABEL})" in (tmp_path / "report.html").read_text()
    assert "tuned.folds=[0]" in (tmp_path / "report.html").read_text()  # the command that repeats it

    other = sen_bench("run", "matbench_jdft2d", "--data-dir", data, "--out", out, "--config", recipe)
    assert (other.code, "is a recipe that was tuned for mlp, not for capsule." in other.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trials", 0), "--trials takes a number of trials from 1 on, not 0."),
        (("--trials", 1001), "--trials takes at most 1,000, not 1,001: each"),
        (("--trials", 1, "--seeds", 1001), "--seeds takes at most 1,000, not 1,001: each"),
        (("--trials", 1, "--jobs", 0), "--jobs takes a number of processes"),
        (("--trials", 1, "--model", "sen", "--block", "mlp"), "leave out --block or --model"),
        (("--trials", 1, "--folds", "7"), "--folds takes numbers from 0 to 4"),
        (("--trials", 1, "--set", "sen.round=1"), "There is no configuration field 'sen.round'"),
    ],
)
def test_wrong_use_is_reported_before_anything_is_read(
    sen_bench: Command, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    answer = sen_bench("tune", "matbench_phonons", "--out", tmp_path / "runs", *options)
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("unlearnt")
def test_folds_that_leave_no_rows_are_reported(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    options = ("--trials", 1, "--folds", "0,1,2,3,4")
    answer = sen_bench(*tune_arguments(write_data(rocksalts(60)), tmp_path / "runs", *options))
    assert answer.code == 2
    assert "0 rows train in all of the folds 0,1,2,3,4, too few to tune on: name fewer folds." in answer.err


@pytest.mark.usefixtures("unlearnt")
def test_a_fault_of_the_machine_ends_the_command_and_the_next_one_goes_on(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr("benchmarks.results.store.Run.write_training", fail)
        answer = sen_bench(*tune_arguments(data, out, "--trials", 1))
    assert answer.code == 1
    assert "1 trial ended without a score, and not because of the recipe; the same command tries again:" in answer.err
    assert "mlp, trial 1 of 1: A file that the training needs cannot be used" in answer.err
    assert not list(out.rglob("trials.json"))
    again = sen_bench(*tune_arguments(data, out, "--trials", 1))
    assert again.code == 0, again.err
    assert [trial["failure"] for trial in trials(out)] == [None]


@pytest.mark.deep
def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(write_data: Write, tmp_path: Path) -> None:
    data = write_data(rocksalts(60))
    arguments = {
        name: list(map(str, tune_arguments(data, tmp_path / name, "--trials", 4, "--epochs", 60)))
        for name in ("whole", "killed")
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from benchmarks.cli.main import main; main()"]
    subprocess.run([*command, *arguments["whole"]], check=True, env=environment)
    for n in (1, 2):
        with subprocess.Popen([*command, *arguments["killed"]], env=environment) as process:
            while not (
                (files := list((tmp_path / "killed").rglob("trials.json"))) and len(trials(files[0].parent)) >= n
            ):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
    assert 2 <= len(trials(tmp_path / "killed")) < 4
    subprocess.run([*command, *arguments["killed"]], check=True, env=environment)
    assert trials(tmp_path / "killed") == trials(tmp_path / "whole")
    recipes = [path.read_text() for path in tmp_path.rglob("recipe.toml")]
    assert len(recipes) == 2
    assert recipes[0] == recipes[1]
