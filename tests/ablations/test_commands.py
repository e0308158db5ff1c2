"""`sen-bench ablate` on one machine, from the command line to the files."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from joblib.externals.loky import get_reusable_executor
from rich.console import Console

from ablations.display import GridDisplay
from benchmarks.base.console import figures
from benchmarks.results.contrasts import Noise
from benchmarks.training.plans import PlannedTraining
from benchmarks.training.trainer import Epoch
from tests.benchmarks.conftest import (
    BLOCK,
    DEFAULTS_OF_0_1,
    OPTIONS_OF_0_1,
    SMALL,
    Answer,
    Install,
    Write,
    replace_file,
    rocksalts,
)

Command = Callable[..., Answer]

#: What makes a training with any block take seconds.
QUICK = (
    *("--epochs", 20, "--set", "sen.encoder_width=16", "--set", "sen.head_width=16", "--set", "sen.dropout=0"),
    *("--set", "training.learning_rate=0.002", "--set", "training.batch_size=8", "--set", "training.weight_decay=0.01"),
)
TASK = ("--task", "matbench_jdft2d")
BRIEF = ("--epochs", 1)
VALIDATED = ("--judge", "validation", "--set", "training.validation=0.1")
TWIN = BLOCK.replace("hidden=8", "hidden=32")


@pytest.fixture
def plugins_in_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let worker processes find the blocks that `install` writes; those of an earlier test would not."""
    get_reusable_executor().shutdown()
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
    )


def grid(data: Path, out: Path, *more: object) -> tuple[object, ...]:
    """Two small runs of the mlp block, two folds each."""
    small = SMALL[2:]  # less --block
    axis = ("--blocks", "mlp", "--set", "sen.rounds=1,2", "--folds", "0,1", "--epochs", 20)
    return ("ablate", *TASK, *axis, *small, "--data-dir", data, "--out", out, *more)


def result(out: Path) -> dict[str, Any]:
    (file,) = out.rglob("ablation.json")
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def lines(out: Path, name: str) -> list[dict[str, str]]:
    (file,) = out.rglob(name)
    return list(csv.DictReader(file.open()))


@pytest.mark.usefixtures("unlearnt")
def test_grid_is_trained_compared_and_never_repeated(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    first = sen_bench(*grid(data, out, *BRIEF))
    assert first.code == 0, first.err
    assert first.out.count(" trainings ended") == 4
    assert "4 of 4 trainings ended" in first.out
    content = result(out)
    assert [row["values"] for row in content["table"]] in ([{"sen.rounds": "1"}, {"sen.rounds": "2"}],
                                                           [{"sen.rounds": "2"}, {"sen.rounds": "1"}])  # fmt: skip
    assert [row["mean"] for row in content["table"]] == sorted(row["mean"] for row in content["table"])
    (comparison,) = content["comparisons"]
    assert (comparison["first"], comparison["second"]) == ("mlp, sen.rounds=2", "mlp, sen.rounds=1")
    assert comparison["folds"] == [0, 1]
    assert comparison["on_these_folds"]["reason"] == "each was trained once"
    assert comparison["on_new_data"]["verdict"] in {"no significant difference", "worse", "better", "equivalent"}
    assert (content["margin"], content["known_noise"], content["detection"]) == (0.02, None, None)
    assert "not assessable: each was trained once" in first.out
    assert "No run of this task in the store has two seeds" in first.out
    (flat,) = lines(out, "comparisons.csv")
    assert float(flat["on_new_data_p"]) == comparison["on_new_data"]["p"]
    assert (flat["folds"], flat["noise_one_seed"]) == ("0 1", "")
    cells = lines(out, "cells.csv")
    assert sorted((cell["sen.rounds"], cell["fold"]) for cell in cells) == [
        ("1", "0"),
        ("1", "1"),
        ("2", "0"),
        ("2", "1"),
    ]
    for row in content["table"]:
        mine = [float(cell["mae"]) for cell in cells if cell["sen.rounds"] == row["values"]["sen.rounds"]]
        assert sum(mine) / 2 == pytest.approx(row["mean"])
    table, latex = lines(out, "table.csv"), next(out.rglob("table.tex")).read_text()
    assert len(table) == 2
    assert r"\toprule" in latex
    for row, line in zip(content["table"], table, strict=True):
        parts = row["parameters_by_part"]
        assert list(parts) == ["features", "block", "readout", "head"]
        assert sum(parts.values()) == row["parameters"] > parts["head"] > parts["readout"] == 0
        for part, n in parts.items():
            assert line[f"parameters_{part}"] == str(n)
            assert f"{n:,}" in first.out
            assert f"{n:,}" in latex
    assert "sen.rounds=1" in first.out

    second = sen_bench(*grid(data, out, *BRIEF))
    assert second.code == 0
    assert " trainings ended" not in second.out
    assert result(out)["table"] == content["table"]

    # The variants are ordinary runs: `run` finds them, and the grid finds what `run` has done.
    run = sen_bench("run", *grid(data, out)[2:3], *SMALL, "--set", "sen.rounds=2", "--folds", "0,1,2", *BRIEF,
                    "--data-dir", data, "--out", out)  # fmt: skip
    assert "1 of 3 trainings to do" in run.out
    third = sen_bench(*grid(data, out, "--folds", "0,1,2", *BRIEF))
    assert "1 of 1 training ended" in third.out
    assert len(list(out.rglob("ablation.json"))) == 2


@pytest.mark.usefixtures("unlearnt")
def test_an_archive_is_compared_without_training(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data, out, archive = write_data(rocksalts(60)), tmp_path / "runs", tmp_path / "results.zip"
    trained = sen_bench(*grid(data, out, *BRIEF))
    assert trained.code == 0, trained.err
    assert sen_bench("archive", out, "-o", archive).code == 0
    before = archive.read_bytes()
    answer = sen_bench(*grid(data, archive, *BRIEF))
    assert answer.code == 0, answer.err
    start, end = "matbench_jdft2d: test rows", "Files: "
    shown, before_it = (said.partition(start)[2].partition(end)[0] for said in (answer.out, trained.out))
    assert shown == before_it
    assert "Files: none, because an archive is never changed" in answer.out
    more = grid(data, archive, "--folds", "0,1,2", *BRIEF)
    assert "of those begun" in sen_bench(*more, "--dry-run").out
    refused = sen_bench(*more)
    assert (refused.code, refused.out) == (2, "")
    assert "is in an archive, which is never changed, and lacks fold 2, seed 0: name a folder" in refused.err
    assert (archive.read_bytes(), list(archive.parent.glob(".results*"))) == (before, [])
    mistyped = sen_bench(*grid(data, tmp_path / "result.zip", *BRIEF))
    assert (mistyped.code, f"There is no archive {tmp_path / 'result.zip'}" in mistyped.err) == (2, True)
    assert not (tmp_path / "result.zip").exists()


@pytest.mark.usefixtures("unlearnt")
def test_judged_by_validation_rows_nothing_of_the_test_rows_is_shown(
    write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    answer = sen_bench(*grid(data, out, *VALIDATED, "--seeds", 2, "--epochs", 3))
    assert answer.code == 0, answer.err
    content, cells = result(out), lines(out, "cells.csv")
    (comparison,) = content["comparisons"]
    assert (content["judge"], comparison["rows"], comparison["noise"]["df"]) == ("validation", 0, 2)
    assert comparison["on_new_data"]["reason"] == "validation rows judge"
    assert f"{figures(comparison['difference'], 3)} (" in answer.out
    assert "validation MAE (meV/atom)" in answer.out
    assert "jdft2d: validation rows" in answer.out
    tested = {}
    for row in content["table"]:
        mine = [cell for cell in cells if cell["sen.rounds"] == row["values"]["sen.rounds"]]
        assert len(mine) == 4
        for cell in mine:
            path = Path(content["runs"][f"mlp, sen.rounds={cell['sen.rounds']}"])
            path = path / f"seed_{cell['seed']}" / f"fold_{cell['fold']}"
            errors = [float(line["validation"]) for line in csv.DictReader((path / "history.csv").open())]
            assert float(cell["mae"]) == min(errors)
            assert f"seed {cell['seed']}: validation {figures(min(errors))} meV/atom in" in answer.out
            tested[path] = json.loads((path / "metrics.json").read_text())["metrics"]
        assert row["mean"] == pytest.approx(sum(float(cell["mae"]) for cell in mine) / 4)
        assert row["rows"] == 2 * 3  # a tenth of 48 training rows in each of two folds, less two that calibrate
        assert row["ensemble"] is None
    written = "".join(path.read_text() for path in out.glob("*/ablation-*/*"))
    assert len(tested) == 8
    for metrics in tested.values():
        for value in metrics.values():
            assert str(value) not in answer.out + written

    # The same trainings judged by their test rows are another result, next to this one.
    again = sen_bench(*grid(data, out, *VALIDATED[2:], "--seeds", 2, "--epochs", 3))
    assert " trainings ended" not in again.out
    assert len(list(out.rglob("ablation.json"))) == 2


@pytest.mark.deep
@pytest.mark.usefixtures("plugins_in_workers")
def test_blocks_side_by_side_in_parallel(
    install: Install, write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    install("twin", TWIN)
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    arguments = ("--data-dir", data, "--out", out, "--folds", "0", "--seeds", 2, "--jobs", 2, *QUICK)
    answer = sen_bench("ablate", *TASK, "--blocks", "twin,mlp", *arguments, "--log", "tensorboard")
    assert answer.code == 0, answer.err + answer.out
    content = result(out)
    assert {row["variant"] for row in content["table"]} == {"twin", "mlp"}
    assert all(row["seeds"] == [0, 1] and row["std_seeds"] is not None for row in content["table"])
    (comparison,) = content["comparisons"]
    assert comparison["on_these_folds"]["verdict"] != "not assessable"
    assert len(list(out.rglob("seed_*/fold_0.tensorboard/events.*"))) == 4
    assert "not assessable: one fold says nothing of other training rows" in answer.out


@pytest.mark.usefixtures("unlearnt")
def test_failed_training_stops_no_other_and_is_reported(
    install: Install, write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    # Sound to the contracts of the interface, which evaluate; it raises when it is trained.
    forward = 'if self.training: raise ValueError("the matrix is singular")\n        return super().forward(env, graph)'
    install("raises", f"{TWIN}\n    def forward(self, env, graph):\n        {forward}\n")
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    arguments = ("--data-dir", data, "--out", out, "--folds", "0,1", *QUICK, *BRIEF)
    answer = sen_bench("ablate", *TASK, "--blocks", "raises,mlp", *arguments)
    assert answer.code == 1
    assert "2 trainings failed, and the same command tries again:" in answer.err
    assert (
        "raises (fold 0, seed 0; fold 1, seed 0): SEN with the block 'raises' raised ValueError: the matrix is"
        in answer.err
    )
    content = result(out)
    assert [row["variant"] for row in content["table"]] == ["mlp"]
    assert [failure["training"] for failure in content["failures"]] == ["fold 0, seed 0", "fold 1, seed 0"]
    assert content["comparisons"] == []
    assert content["absent"] == ["raises"]
    assert "No training is finished of raises." in answer.out
    assert "Not finished: raises." in next(out.rglob("table.tex")).read_text()


@pytest.mark.deep
@pytest.mark.usefixtures("plugins_in_workers")
def test_dying_worker_takes_no_other_training_along(
    install: Install, write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    dies = "\n        import os\n        if self.training: os._exit(3)\n        return super().forward(env, graph)"
    install("dies", f"{TWIN}\n    def forward(self, env, graph):{dies}\n")
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    arguments = ("--data-dir", data, "--out", out, "--folds", "0,1", "--jobs", 2, *QUICK)
    answer = sen_bench("ablate", *TASK, "--blocks", "dies,mlp", *arguments)
    assert answer.code == 1
    assert "2 trainings failed" in answer.err
    assert "dies (fold 0, seed 0; fold 1, seed 0): its worker process died" in answer.err
    assert [(row["variant"], row["trainings"]) for row in result(out)["table"]] == [("mlp", 2)]


@pytest.mark.deep
def test_workers_that_cannot_begin_are_reported(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.training import execution

    def purged(*arguments: Any, **options: Any) -> Any:
        shutil.rmtree(tmp_path / "cache")
        return in_pool(*arguments, **options)

    in_pool = execution._in_pool
    monkeypatch.setattr(execution, "_in_pool", purged)
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    answer = sen_bench(*grid(write_data(rocksalts(60)), tmp_path / "runs", "--jobs", 2))
    assert answer.code == 1
    assert "4 trainings failed" in answer.err
    assert "its worker process died" in answer.err


@pytest.mark.usefixtures("unlearnt")
def test_one_training_at_a_time_takes_place_in_this_process(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.training.execution.n_cores", lambda: 1)
    monkeypatch.setattr("benchmarks.training.execution._in_pool", None)
    answer = sen_bench(*grid(write_data(rocksalts(60)), tmp_path / "runs", "--jobs", -1, "--folds", 0, *BRIEF))
    assert answer.code == 0, answer.err


def test_an_ablation_of_0_1_keeps_its_trainings(runs_of_0_1: Path, sen_bench: Command) -> None:
    answer = sen_bench("ablate", "--blocks", "mlp", *OPTIONS_OF_0_1, *DEFAULTS_OF_0_1, "--out", runs_of_0_1)
    assert answer.code == 0, answer.err
    assert (len(list((runs_of_0_1 / "prototypes").glob("mlp-*"))), "new run" in answer.err) == (1, False)
    (row,) = result(runs_of_0_1)["table"]
    assert (row["trainings"], row["missing"]) == (1, 0)


@pytest.mark.usefixtures("unlearnt")
def test_numbers_are_whole_on_a_narrow_terminal(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    assert sen_bench(*grid(data, out, *BRIEF)).code == 0
    terminal = partial(Console, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr("ablations.display.make_console", terminal)
    answer = sen_bench(*grid(data, out, *BRIEF))
    assert max(len(line) for line in answer.out.splitlines() if "\N{BOX DRAWINGS LIGHT VERTICAL}" in line) <= 80
    assert "Too narrow for: " in answer.out
    assert "\N{HORIZONTAL ELLIPSIS}" not in answer.out
    told = " ".join(answer.out.split())
    assert re.search(r"rounds=2 less mlp, sen.rounds=1: \S+ meV/atom on these folds: not assessable: each was", told)
    assert re.search(r"on new data: no significant difference \(95 % interval \S+ to \S+, p \S+\) On these folds", told)
    for row in result(out)["table"]:
        assert figures(row["mean"]) in answer.out
        assert f"{row['parameters']:,}" in answer.out


def test_limits_of_training_rows_are_trained_and_compared_each_with_its_own(
    write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    command = ("ablate", *TASK, "--models", "trees", "--folds", "0,1", "--data-dir", data, "--out", out)
    limits = ("--limit", "20,30,all", "--set", "trees.trees=3,5")
    answer = sen_bench(*command, *limits)
    assert answer.code == 0, answer.err
    content = result(out)
    assert {(row["values"]["limit"], row["rows"]) for row in content["table"]} == {("20", 20), ("30", 20), ("all", 20)}
    at = [f"trees, trees.trees={{}}, limit={limit}" for limit in (20, 30, "all")]
    assert content["contrasts"] == [[label.format(5), label.format(3)] for label in at]
    assert "Variants are compared at equal limits alone." in " ".join(answer.out.split())
    records = [json.loads(file.read_text())["rows"] for file in out.rglob("metrics.json")]
    assert sorted({rows["train"] for rows in records}) == [20, 30, 48, 52]
    too_many = sen_bench(*command, "--limit", "20,48,all")
    assert too_many.code == 2
    assert "limit=48 and limit=all leave the same 48 rows of fold 1 to train on" in " ".join(too_many.err.split())


def test_workers_that_the_system_refuses_are_reported(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.training import execution

    def refuse(*_: Any) -> Any:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def refused(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr("joblib.Parallel.__call__", refuse)
        return in_pool(*arguments, **options)

    in_pool = execution._in_pool
    monkeypatch.setattr(execution, "_in_pool", refused)
    answer = sen_bench(*grid(write_data(rocksalts(60)), tmp_path / "runs", "--jobs", 2))
    assert answer.code == 1
    assert "Worker processes cannot be started (Resource temporarily unavailable): try fewer --jobs." in answer.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--blocks", "mlp,nonsense"), "There is no block called 'nonsense'"),
        (("--blocks", ""), "names no block"),
        (("--blocks", "mlp,mlp"), "names mlp 2 times"),
        (("--blocks", "mlp", "--set", "sen.round=1,2"), "There is no configuration field 'sen.round'"),
        (("--blocks", "mlp", "--set", "sen.rounds=1,two"), "sen.rounds"),
        (("--blocks", "mlp", "--folds", "7"), "7"),
        (("--blocks", "mlp", "--limit", "50,50"), "limit=50,50: the values of an axis must all be different"),
        (("--blocks", "mlp", "--limit", "half"), "limit: the least is 2 rows"),
        (("--blocks", "mlp", "--limit", "50", "--set", "limit=60"), "limit is given twice"),
        (("--blocks", "mlp", "--jobs", "0"), "--jobs takes a number of processes"),
        (("--blocks", "mlp", "--tune", "0"), "--tune takes a number of trials from 1 on, not 0."),
        (("--blocks", "mlp", "--tune", "1001"), "--tune takes at most 1,000, not 1,001: each"),
        (("--blocks", "mlp", "--config", "egnn=x.toml"), "--config egnn=x.toml: egnn is not compared."),
        (
            ("--detect", "5"),
            "--detect takes a share above 0 and below 100 per cent, such as 5%, not '5'. Did you mean 5%?",
        ),
        (("--detect", "-5%"), "--detect takes a share above 0 and below 100 per cent, such as 5%, not '-5%'."),
        (("--detect", "100%"), "--detect takes a share above 0 and below 100 per cent, such as 5%, not '100%'."),
        (("--detect", "5%", "--seeds", "1"), "--seeds 2 or more, not 1."),
        (("--detect", "5%", "--max-seeds", "2"), "--max-seeds 2 is below the 4 seeds that --detect begins with."),
        (("--blocks", "mlp", "--detect", "5%"), "--detect compares variants, and there is only one"),
        (("--max-seeds", "5"), "--max-seeds is for --detect"),
        (("--resample", "1"), "--resample takes a number of random splits, 2 or more, not 1."),
        (("--resample", "0"), "--resample takes a number of random splits, 2 or more, not 0."),
        (("--resample", "1001"), "--resample takes at most 1,000, not 1,001: each is a training of every fold or more"),
        (("--detect", "5%", "--max-seeds", "99999999999"), "--max-seeds takes at most 1,000, not 99,999,999,999: each"),
        (("--seeds", "99999999999", "--dry-run"), "--seeds takes at most 1,000, not 99,999,999,999: each"),
        (("--resample", "ten"), "Invalid value for '--resample'"),
        (("--resample", "5", "--split", "holdout:0.8/0.1/0.1"), "--resample and --split holdout:0.8/0.1/0.1 are two"),
        (("--resample", "5", "--folds", "0,1"), "--resample 5 makes the folds 0 to 4, each a random split"),
        (("--resample", "5", "--seeds", "3"), "the i-th random split, with seed i: leave out --seed and --seeds."),
        (("--resample", "5", "--seed", "3"), "the i-th random split, with seed i: leave out --seed and --seeds."),
        (("--resample", "5", "--detect", "5%"), "--detect finds how many seeds fixed folds need"),
        (("--split", "resample", "--detect", "5%"), "--detect finds how many seeds fixed folds need"),
        (("--resample", "5", "--judge", "validation"), "--resample asks what other test rows would say"),
        (("--margin", "0.02"), "--margin takes a share above 0 and below 100 per cent"),
        (("--blocks", "mlp,tfn", "--contrast", "mlp"), "--contrast mlp has no colon"),
        (("--blocks", "mlp,tfn", "--contrast", "mlp:capsule"), "there is no variant 'capsule'. Available: mlp, tfn."),
        (("--blocks", "mlp,tfn", "--contrast", "mlp:mlp"), "has mlp on both sides"),
        (("--blocks", "mlp", "--backend", "dask"), "--backend dask and --scheduler ADDRESS go together"),
        (("--blocks", "mlp", "--scheduler", "tcp://x:1"), "--backend dask and --scheduler ADDRESS go together"),
        (
            ("--blocks", "mlp", "--backend", "dask", "--scheduler", "tcp://x:1", "--jobs", "2"),
            "--jobs is for this machine",
        ),
        (
            ("--blocks", "mlp", "--backend", "dask", "--scheduler", "tcp://x:1", "--on-bad-row", "skip"),
            "--on-bad-row is only for your own data; prototypes is a built-in task",
        ),
    ],
)
def test_wrong_use_is_reported_before_anything_is_read(
    sen_bench: Command, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    answer = sen_bench("ablate", "--out", tmp_path / "runs", *options)
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "runs").exists()


def test_no_seed_and_unknown_backend_are_wrong_use(sen_bench: Command) -> None:
    assert sen_bench("ablate", "--blocks", "mlp", "--seeds", 0).code == 2
    assert sen_bench("ablate", "--blocks", "mlp", "--backend", "ray").code == 2


def test_block_that_breaks_the_interface_is_refused_with_its_contract(
    install: Install, write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    install("tensor", f"{BLOCK}\n    def forward(self, env, graph): return super().forward(env, graph).material\n")
    arguments = ("--data-dir", write_data(rocksalts(60)), "--out", tmp_path / "runs")
    answer = sen_bench("ablate", *TASK, "--blocks", "mlp,tensor", *arguments)
    assert answer.code == 2
    assert "The block 'tensor' breaks the contract 'interface: output has the declared shapes'" in answer.err
    assert "leave it out" in answer.err


@pytest.mark.usefixtures("unlearnt")
def test_dry_run_shows_the_plan_and_trains_nothing(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    answer = sen_bench(*grid(data, out, *BRIEF, "--dry-run"))
    assert answer.code == 0, answer.err
    assert "4 trainings to do, 1 at a time: about" in answer.out
    assert answer.out.count("mlp, sen.rounds=") == 2
    assert "Epochs: 1, weight decay: 0.01, dropout: 0.\n" in answer.out
    assert not out.exists()
    assert sen_bench(*grid(data, out, *BRIEF, "--folds", "0")).code == 0
    again = sen_bench(*grid(data, out, *BRIEF, "--dry-run", "--jobs", 2))
    assert "2 trainings to do, 2 at a time: about" in again.out
    assert sen_bench(*grid(data, out, *BRIEF)).code == 0
    assert "Everything is finished" in sen_bench(*grid(data, out, *BRIEF, "--dry-run")).out


@pytest.mark.usefixtures("unlearnt")
def test_random_splits_are_trained_in_pairs_and_go_on(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    axis = ("--blocks", "mlp", "--set", "sen.rounds=1,2", *SMALL[2:], "--data-dir", data, "--out", out, *BRIEF)
    command = ("ablate", *TASK, *axis)
    assert sen_bench(*command, "--folds", 0).code == 0
    on_folds = set(out.rglob("config.json"))
    shutil.rmtree(next(out.rglob("ablation.json")).parent)
    dry = sen_bench(*command, "--resample", 3, "--dry-run")
    assert "6 trainings to do, 1 at a time: about" in dry.out
    first = sen_bench(*command, "--resample", 3)
    assert first.code == 0, first.err
    assert "6 of 6 trainings ended" in first.out
    assert "matbench_jdft2d (resample): test rows" in first.out
    assert "not assessable:" in first.out
    content = result(out)
    runs = set(out.rglob("config.json")) - on_folds
    assert len(runs) == len(on_folds) == 2
    assert {json.loads(path.read_text())["task"]["split"] for path in runs} == {"resample"}
    for run in runs:
        trained = {str(path.relative_to(run.parent)) for path in run.parent.glob("seed_*/fold_*")}
        assert trained == {"seed_0/fold_0", "seed_1/fold_1", "seed_2/fold_2"}
    (comparison,) = content["comparisons"]
    assert (comparison["folds"], comparison["seeds"], content["known_noise"]) == ([0, 1, 2], [0, 1, 2], None)
    assert comparison["superiority"]["splits"] == 3
    assert comparison["on_these_folds"]["reason"] == "each fold is a random split"
    assert comparison["on_new_data"]["verdict"] != "not assessable"
    (flat,) = lines(out, "comparisons.csv")
    assert (flat["split"], float(flat["superiority_share"])) == ("resample", comparison["superiority"]["share"])
    assert {line["split"] for name in ("table.csv", "cells.csv") for line in lines(out, name)} == {"resample"}
    latex = next(out.rglob("table.tex")).read_text()
    assert "first better" in latex
    assert latex.count("(resample)") == 3
    assert "-- to --" not in latex  # no interval on these folds, as each split has one seed
    assert "– to –" not in latex

    shutil.rmtree(next(out.rglob("ablation.json")).parent)
    more = sen_bench(*command, "--resample", 4)
    assert "2 of 2 trainings ended" in more.out
    assert result(out)["comparisons"][0]["folds"] == [0, 1, 2, 3]


def seeds_trained(out: Path) -> dict[str, list[int]]:
    return {row["values"]["sen.rounds"]: row["seeds"] for row in result(out)["table"]}


@pytest.mark.usefixtures("unlearnt")
def test_a_detection_trains_the_seeds_that_its_first_stage_finds(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    command = grid(data, out, "--folds", 0, *BRIEF, "--detect", "20%", "--seeds", 2, "--max-seeds", 4)
    before = sen_bench(*command, "--dry-run")
    assert before.code == 0, before.err
    assert "4 trainings to do" in before.out
    assert "These are the first 2 seeds. Their noise says how many find 20 %: up to 2 more seeds" in before.out
    most = sen_bench(*command[:-1], 2, "--dry-run")
    assert (most.code, "more seed" in most.out) == (0, False), most.err

    asked = []

    def seeds_for(noise: Noise, difference: float, level: float) -> int:
        asked.append((noise, difference, level))
        return 3

    monkeypatch.setattr(Noise, "seeds_for", seeds_for)
    display_end = GridDisplay.end

    def interrupt(display: GridDisplay, planned: PlannedTraining, outcome: Any) -> None:
        display_end(display, planned, outcome)
        if planned.training.seed == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(GridDisplay, "end", interrupt)
        stopped = sen_bench(*command)
    assert stopped.code == 130
    assert "4 of 4 trainings ended" in stopped.out
    assert "1 of 2 trainings ended" in stopped.out
    shown = stopped.out.partition("Seeds that find 20 %, by the noise of the first 2")[2].partition("ended")[0]
    assert "found then" in shown

    # The plan is that of the first seeds, whatever else is finished.
    planned = sen_bench(*command, "--dry-run")
    assert "1 training to do, 1 at a time" in planned.out
    assert "estimated from the finished trainings" in planned.out
    again = sen_bench(*command)
    assert again.code == 0, again.err
    assert "1 of 1 training ended" in again.out
    assert seeds_trained(out) == {"1": [0, 1, 2], "2": [0, 1, 2]}
    stage_one = {(noise.one_seed, difference, level) for noise, difference, level in asked if noise.seeds == 2}
    assert len(stage_one) == 1
    (need,) = result(out)["detection"]["needs"]
    assert need == {"first": "mlp, sen.rounds=2", "second": "mlp, sen.rounds=1", "seeds": 3, "trained": 3}
    assert "Everything is finished" in sen_bench(*command, "--dry-run").out


@pytest.mark.usefixtures("unlearnt")
def test_a_detection_by_validation_rows_stops_where_rows_are_too_few(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Noise, "seeds_for", lambda *_: None)
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    more = ("--folds", 0, *BRIEF, "--detect", "20%", "--seeds", 2, *VALIDATED)
    answer = sen_bench(*grid(data, out, *more))
    assert answer.code == 0, answer.err
    assert "not attainable on these rows" in answer.out
    assert answer.out.count(" trainings ended") == 4
    assert seeds_trained(out) == {"1": [0, 1], "2": [0, 1]}


@pytest.mark.usefixtures("unlearnt")
def test_a_detection_goes_on_without_a_variant_that_fails(
    install: Install, write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = 'if self.training: raise ValueError("singular")\n        return super().forward(env, graph)'
    install("raises", f"{TWIN}\n    def forward(self, env, graph):\n        {forward}\n")
    install("twin", TWIN)
    monkeypatch.setattr(Noise, "seeds_for", lambda *_: 3)
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    arguments = ("--data-dir", data, "--out", out, "--folds", 0, *QUICK, *BRIEF, "--detect", "20%", "--seeds", 2)
    answer = sen_bench("ablate", *TASK, "--blocks", "mlp,raises,twin", *arguments)
    assert answer.code == 1
    assert "2 of 2 trainings ended" in answer.out  # of the second stage
    assert "2 trainings failed" in answer.err
    assert {row["variant"]: row["seeds"] for row in result(out)["table"]} == {"mlp": [0, 1, 2], "twin": [0, 1, 2]}


#: What makes a training on `prototypes` take ten seconds of a core, and two of them differ by 5 %.
SLIM = (
    *("--set", "block.hidden=64", "--set", "block.width=32", "--set", "sen.encoder_width=32"),
    *("--set", "sen.head_width=32", "--set", "sen.rounds=1", "--set", "training.learning_rate=0.002"),
)


@pytest.mark.deep
def test_a_handicap_of_the_size_to_detect_is_found(sen_bench: Command, tmp_path: Path) -> None:
    """Eleven epochs in place of fifteen make the error of mlp about a sixth larger."""
    grid = ("ablate", "--blocks", "mlp", "--set", "training.epochs=15,11", *SLIM, "--out", tmp_path)
    answer = sen_bench(*grid, "--detect", "10%", "--jobs", 2)
    assert answer.code == 0, answer.out + answer.err
    (comparison,) = result(tmp_path)["comparisons"]
    assert (comparison["first"], comparison["second"]) == ("mlp, training.epochs=15", "mlp, training.epochs=11")
    assert comparison["on_these_folds"]["verdict"] == "better"
    assert -0.22 < comparison["difference"] / comparison["score"] < -0.07


@pytest.mark.usefixtures("unlearnt")
def test_declared_contrasts_and_margin_are_shown_beside_the_default(
    write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    command = grid(data, out, "--folds", 0, *BRIEF)
    assert sen_bench(*command).code == 0
    declared = sen_bench(*command, "--contrast", "mlp,sen.rounds=1 : mlp,sen.rounds=2", "--margin", "99%")
    assert declared.code == 0, declared.err
    assert "within 99 % of the second" in declared.out
    contents = [json.loads(path.read_text()) for path in out.rglob("ablation.json")]
    pairs = {content["margin"]: content["contrasts"] for content in contents}
    one, two = "mlp, sen.rounds=1", "mlp, sen.rounds=2"
    assert pairs == {0.02: [[two, one]], 0.99: [[one, two]]}


@pytest.mark.usefixtures("unlearnt")
def test_each_setting_has_crystals_refined_to_its_tolerance(
    write_data: Write,
    sen_bench: Command,
    tmp_path: Path,
    unlearnt: None,  # noqa: ARG001
) -> None:
    axis = ("--blocks", "mlp", "--set", "graph.symprec=0.001,0.01", "--folds", "0", *BRIEF)
    places = ("--data-dir", write_data(rocksalts(60)), "--out", tmp_path / "runs")
    answer = sen_bench("ablate", *TASK, *axis, *SMALL[2:], *places)
    assert answer.code == 0, answer.err
    digests = [json.loads(path.read_text())["data"]["digest"] for path in (tmp_path / "runs").rglob("config.json")]
    assert len(set(digests)) == len(digests) == 2


@pytest.mark.usefixtures("unlearnt")
def test_results_show_the_recipe_of_each_setting(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    axis = ("--blocks", "mlp", "--set", "sen.dropout=0,0.1", "--folds", "0", *QUICK[:6], *QUICK[8:], *BRIEF)
    answer = sen_bench("ablate", *TASK, *axis, "--data-dir", data, "--out", out)
    assert answer.code == 0, answer.err
    assert "mlp, sen.dropout=0: Epochs: 1, weight decay: 0.01, dropout: 0." in answer.out
    assert "mlp, sen.dropout=0.1: Epochs: 1, weight decay: 0.01, dropout: 0.1." in answer.out


def test_dry_run_says_what_cannot_be_trained(
    install: Install, write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    forward = 'if self.training: raise ValueError("singular")\n        return super().forward(env, graph)'
    install("raises", f"{TWIN}\n    def forward(self, env, graph):\n        {forward}\n")
    arguments = ("--data-dir", write_data(rocksalts(60)), "--out", tmp_path / "runs", "--dry-run", *QUICK)
    axis = ("--blocks", "raises,mlp", "--set", "sen.rounds=1,2", "--folds", "0")
    answer = sen_bench("ablate", *TASK, *axis, *arguments, "--batch-size", 500, "--epochs", 1)
    assert answer.code == 1
    assert "raises, sen.rounds=2 cannot be trained: ValueError: singular.\n" in answer.err
    assert "2 trainings to do" in answer.out  # those of mlp


@pytest.mark.usefixtures("unlearnt")
def test_results_of_another_version_are_not_taken(
    write_data: Write, sen_bench: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    sen_bench(*grid(data, out, *BRIEF))
    older, lacking = sorted(out.rglob("fold_0"))
    manifest = json.loads((older / "manifest.json").read_text())
    (older / "manifest.json").write_text(json.dumps({**manifest, "format": 0}))
    answer = sen_bench(*grid(data, out, *BRIEF))
    assert "was written by another version (format 0, this is 1)" in caplog.text
    assert "1 of 1 training ended" in answer.out

    record = json.loads((lacking / "metrics.json").read_text())
    del record["peak_memory_bytes"]
    replace_file(lacking, "metrics.json", json.dumps(record).encode())
    answer = sen_bench(*grid(data, out, *BRIEF))
    assert answer.code == 0
    assert "was written by another version (metrics.json lacks peak_memory_bytes)" in caplog.text
    assert "1 of 1 training ended" in answer.out


@pytest.mark.usefixtures("unlearnt")
def test_rows_left_out_are_reported_with_the_results(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    rows = rocksalts(60)
    rows[7][1] = float("nan")
    data = (write_data(rows, "gaps", "gap") / "gaps.partial.json.gz").rename(tmp_path / "gaps.json.gz")
    answer = sen_bench(
        *("ablate", "--task", data, "--blocks", "mlp", "--folds", 0, "--on-bad-row", "skip"),
        *(*BRIEF, *SMALL[2:], "--out", tmp_path / "runs"),
    )
    assert answer.code == 0, answer.err
    assert "1 row left out because they cannot be used:\n  row 7 has no number" in answer.out


@pytest.mark.usefixtures("unlearnt")
def test_paper_stands_beside_its_own_data(sen_bench: Command, write_data: Write, tmp_path: Path) -> None:
    folder = write_data(rocksalts(60), "paper_band_gap", "gap")
    data = (folder / "paper_band_gap.partial.json.gz").rename(folder / "paper_band_gap.json.gz")
    answer = sen_bench("ablate", "--task", data, "--blocks", "mlp", *SMALL[2:], *BRIEF, "--unit", "eV",
                       "--split", "holdout:0.8/0.1/0.1", "--out", tmp_path / "runs")  # fmt: skip
    assert answer.code == 0, answer.err
    (row,) = result(tmp_path / "runs")["table"]
    assert (row["paper_mae_scaled"], row["paper_mae_ev"]) == (0.58, pytest.approx(0.649194))
    assert "paper, scaled units" in answer.out


@pytest.mark.usefixtures("unlearnt")
def test_interrupted_grid_goes_on_by_the_same_command(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out, undisturbed = write_data(rocksalts(60)), tmp_path / "runs", tmp_path / "undisturbed"
    assert sen_bench(*grid(data, undisturbed, "--epochs", 3)).code == 0
    note = GridDisplay.epoch

    def interrupt(display: GridDisplay, planned: PlannedTraining, epoch: Epoch) -> None:
        note(display, planned, epoch)
        if planned.training.fold == 1 and epoch.epoch == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(GridDisplay, "epoch", interrupt)
        stopped = sen_bench(*grid(data, out, "--epochs", 3))
    assert stopped.code == 130
    assert re.search(r"mlp-[0-9a-f]{10}, fold 1, seed 0: in epoch 3 of 3, its state is saved", stopped.err)
    assert "To continue:\n  sen-bench ablate --task matbench_jdft2d" in stopped.err
    assert len(list(out.rglob("*.state.safetensors"))) == 1
    again = sen_bench(*grid(data, out, "--epochs", 3))
    assert again.code == 0, again.err
    assert "2 of 2 trainings ended" in again.out
    once, stopped_once = (
        [(row["values"], row["mean"]) for row in result(folder)["table"]] for folder in (undisturbed, out)
    )
    assert stopped_once == once


@pytest.mark.usefixtures("unlearnt")
def test_a_recipe_of_a_classification_is_judged_by_its_cross_entropy(
    write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    rows = [[crystal, value > 5.5] for crystal, value in rocksalts(60)]
    data = (write_data(rows, "large", "is_large") / "large.partial.json.gz").rename(tmp_path / "large.json.gz")
    answer = sen_bench(
        *("ablate", "--task", data, "--kind", "classification", "--blocks", "mlp", "--folds", 0),
        *(*BRIEF, *SMALL[2:], *VALIDATED, "--out", tmp_path / "runs"),
    )
    assert answer.code == 0, answer.err
    assert "validation cross-entropy" in answer.out
    assert "ROC-AUC" not in answer.out
    (row,) = result(tmp_path / "runs")["table"]
    (history,) = tmp_path.rglob("history.csv")
    (epoch,) = csv.DictReader(history.open())
    assert row["mean"] == float(epoch["validation"])


def test_dry_run_fits_a_model_that_is_fitted_once(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    answer = sen_bench("ablate", *TASK, "--models", "trees,cgcnn", "--data-dir", data, "--out", out, "--dry-run")
    assert answer.code == 0, answer.err
    (line,) = (line for line in answer.out.splitlines() if "trees-" in line)
    *_, epoch, training, _all, _ = map(str.strip, line.split("│"))
    assert float(epoch.split()[0]) == pytest.approx(float(training.split()[0]), abs=0.6)


@pytest.mark.usefixtures("unlearnt")
def test_every_variant_is_tuned_alike_before_the_grid_is_trained(
    write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    arguments = [*grid(data, out, *BRIEF), "--tune", 2]
    planned = sen_bench(*arguments, "--dry-run")
    assert planned.code == 0, planned.err
    assert "Before that 4 trials of recipes: about" in planned.out
    assert "both times are for the recipes as given." in " ".join(planned.out.split())  # the epochs are not searched
    assert not out.exists()
    assert sen_bench(*grid(data, out, *BRIEF)).code == 0  # without a recipe, which is nothing of what --tune trains
    assert "4 trainings to do, 3 at a time: about" in sen_bench(*arguments, "--dry-run", "--jobs", 3).out
    for path in out.iterdir():
        shutil.rmtree(path)
    answer = sen_bench(*arguments)
    assert answer.code == 0, answer.err
    for rounds in (1, 2):
        assert f"mlp, sen.rounds={rounds}, trial 2 of 2: MAE" in answer.out
    assert "4 of 4 trainings ended" in answer.out
    assert "ecipe tuned on this dataset" not in answer.out  # no test row of folds 0 and 1 was used
    tuned = [json.loads((Path(run) / "config.json").read_text())["config"] for run in result(out)["runs"].values()]
    assert [config["sen"]["rounds"] for config in tuned] == [1, 2]
    assert all(config["tuned"]["folds"] == [0, 1] and config["tuned"]["trials"] == 2 for config in tuned)
    again = sen_bench(*arguments)
    assert " trainings ended" not in again.out
    assert "0 of 2 trials to do" in again.out
    planned = sen_bench(*arguments, "--dry-run").out
    assert "Everything is finished" in planned
    assert all(Path(run).name in planned for run in result(out)["runs"].values())

    # An archive shows how the recipes were chosen, too.
    archive = tmp_path / "results.zip"
    assert sen_bench("archive", out, "-o", archive).code == 0
    archived = [archive if argument == out else argument for argument in arguments]
    shown = sen_bench(*archived)
    assert (shown.code, "Files: none, because an archive is never changed" in shown.out) == (0, True), shown.err
    lacking = sen_bench(*archived[:-1], 3)
    assert lacking.code == 2
    assert "is in an archive, which is never changed, and lacks 1 trial of 3: name a folder of runs" in lacking.err

    # The same as with the recipe file; it is for its own variant alone.
    first, second = sorted(out.rglob("recipe.toml"), key=lambda path: "rounds = 2" in path.read_text())
    options = (*TASK, "--data-dir", data, "--out", out, "--folds", "0,1")
    by_file = sen_bench("ablate", "--blocks", "mlp", *options, "--config", f"mlp={first}")
    assert by_file.code == 0, by_file.err
    assert " trainings ended" not in by_file.out
    assert "Tuned:" not in by_file.out
    sizes = ("--epochs", 1, *SMALL[6:])  # those of every block
    unequal = sen_bench("ablate", "--blocks", "mlp,none", *options[:-1], "0", *sizes, "--config", f"mlp={first}")
    assert unequal.code == 0, unequal.err
    assert "Tuned: mlp (2 trials); not tuned: none." in unequal.out
    folder = Path(unequal.out.rpartition("Files: ")[2].strip())
    assert json.loads((folder / "ablation.json").read_text())["trials"] == {"mlp": 2, "none": None}
    assert "Tuned: mlp (2 trials); not tuned: none." in (folder / "table.tex").read_text()
    refused = sen_bench("ablate", "--blocks", "mlp,egnn", *options, "--config", f"egnn={second}")
    assert (refused.code, "is a recipe that was tuned for mlp, not for egnn." in refused.err) == (2, True)
    labelled = sen_bench("ablate", "--blocks", "mlp", *options[:-1], "0,1,2", "--config", f"mlp={first}")
    assert "Recipe tuned on this dataset: mlp." in labelled.out
    folder = Path(labelled.out.rpartition("Files: ")[2].strip())
    assert json.loads((folder / "ablation.json").read_text())["tuned_here"] == ["mlp"]
    assert "Recipe tuned on this dataset: mlp." in (folder / "table.tex").read_text()
