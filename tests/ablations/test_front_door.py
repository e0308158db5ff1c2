"""Compare from Python, as notebooks do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations import ablate, compare
from benchmarks import load_dataset, load_runs, load_task
from benchmarks.base.errors import RunError, UsageError
from tests.benchmarks.cli.test_front_door import SMALL, Small, no_class
from tests.benchmarks.conftest import Answer, Write, rocksalts
from tests.reports.made_runs import make_run, official

__all__ = ["no_class"]

Command = Callable[..., Answer]
TINY = {name: value for name, value in SMALL.items() if name.startswith(("sen.", "training."))}


@pytest.mark.usefixtures("unlearnt", "no_class")
def test_an_ablation_from_python_is_that_of_the_command(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    dataset = load_dataset(load_task("matbench_jdft2d"), data, jobs=1)
    settings = {**TINY, "sen.rounds": [1, 2], "block.width": 16}
    contrast = "mlp, sen.rounds=2:mlp, sen.rounds=1"
    found = ablate(dataset, blocks=["mlp"], folds="0,1", settings=settings, contrasts=contrast, out=out)
    assert sorted(found.table["sen.rounds"]) == ["1", "2"]
    assert found.scores[["sen.rounds", "seed", "fold"]].to_numpy().tolist() == [
        [rounds, 0, fold] for rounds in ("1", "2") for fold in (0, 1)
    ]
    assert sorted(found.scores["mae"]) == sorted(load_runs(out)["mae"])
    assert found.comparisons["question"].tolist() == ["on these folds", "on new data"]
    assert found.comparisons["first"].unique().tolist() == ["mlp, sen.rounds=2"]
    mean = found.table.set_index("sen.rounds")["mean"]
    assert found.comparisons["difference"].tolist() == pytest.approx([mean["2"] - mean["1"]] * 2)
    assert "<table" in found._repr_html_()
    before = {name: run.fingerprint() for name, run in found.runs.items()}
    given = ("--blocks", "mlp", "--set", "sen.rounds=1,2", "--set", "block.width=16", "--folds", "0,1")
    fields = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
    answer = sen_bench("ablate", "matbench_jdft2d", *given, *fields, "--data-dir", data, "--out", out, "--dry-run")
    assert "Everything is finished" in answer.out
    assert {name: run.fingerprint() for name, run in found.runs.items()} == before
    stored = json.loads((Path(str(found.folder)) / "ablation.json").read_text())
    assert [row["mean"] for row in stored["table"]] == found.table["mean"].tolist()
    own = ablate(dataset, models=[Small], folds=0, settings={"training.epochs": 1}, out=out)
    assert own.table["variant"].tolist() == ["Small"]
    assert own.comparisons.empty


def test_a_failed_training_and_wrong_use_are_exceptions(write_data: Write, tmp_path: Path) -> None:
    dataset = load_dataset(load_task("matbench_jdft2d"), write_data(rocksalts(60)), jobs=1)
    with pytest.raises(RunError, match=r"^1 training failed.*\n  mlp \(fold 0, seed 0\): Training collapsed"):
        ablate(dataset, blocks="mlp", folds=[0], settings={**TINY, "training.learning_rate": 1e-9}, out=tmp_path)
    with pytest.raises(UsageError, match="Did you mean mlp"):
        ablate(dataset, blocks=["mpl"])
    with pytest.raises(UsageError, match="margin takes a share"):
        ablate(dataset, blocks=["mlp"], margin=2.0)
    with pytest.raises(UsageError, match="margin takes a share"):
        ablate(dataset, blocks=["mlp"], margin="2%")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="jobs takes a number"):
        ablate(dataset, blocks=["mlp"], jobs=0)


def test_runs_that_exist_are_compared(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    runs = [
        make_run(tmp_path / "runs", dataset, block=block, seeds=[0, 1], noise=noise)
        for block, noise in (("mlp", 0.1), ("capsule", 0.4))
    ]
    found = compare(tmp_path / "runs")
    assert found[["task", "first", "second", "question"]].to_numpy().tolist() == [
        ["matbench_jdft2d", "mlp", "capsule", question] for question in ("on these folds", "on new data")
    ]
    assert found["verdict"][0] == "better"
    assert found["low"][0] < found["difference"][0] < found["high"][0] < 0
    assert compare(runs).equals(found)
    turned = compare(runs, contrasts="capsule:mlp")
    assert turned["difference"].tolist() == pytest.approx((-found["difference"]).tolist())
    assert compare(runs[0]).empty
    assert "verdict" in compare(runs[0])
    with pytest.raises(UsageError, match=r"Available: capsule, mlp"):
        compare(runs, contrasts=["capsule:egnn"])
    with pytest.raises(UsageError, match=r"There is no folder or archive|no folder"):
        compare(tmp_path / "nowhere")
