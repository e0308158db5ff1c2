from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from benchmarks.base.errors import RunError, UsageError
from benchmarks.base.interrupts import Interrupted
from benchmarks.data.dataset import load_dataset
from benchmarks.data.tasks import get_task
from benchmarks.results.run_config import build_config
from benchmarks.results.store import Training
from benchmarks.training.loader import GraphTensors
from benchmarks.training.plans import PlannedTraining, make_plan
from benchmarks.training.train_one import train_one


def test_what_a_failed_training_returns_holds_no_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[weakref.ref[GraphTensors]] = []

    def fail(_config: object, tensors: GraphTensors, *_: object, **__: object) -> None:
        graphs.append(weakref.ref(tensors))
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("benchmarks.training.train_one.train_fold", fail)
    config = build_config("prototypes", "mlp", flags={"limit": 100})
    plan = make_plan(config, load_dataset(get_task("prototypes")), folds=[0], seeds=[0], out=tmp_path)
    outcome = train_one(PlannedTraining(plan, Training(0, 0)), "cpu", 1, lambda _: None, lambda: False)
    assert isinstance(outcome, RunError)
    assert str(outcome).startswith("SEN with the block 'mlp' raised ZeroDivisionError: boom.")
    gc.collect()
    assert [reference() for reference in graphs] == [None]


def test_the_log_names_the_training_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("benchmarks.training.train_one.train_fold", lambda *_, **__: 1 / 0)
    config = build_config("prototypes", "mlp", flags={"limit": 100})
    plan = make_plan(config, load_dataset(get_task("prototypes")), folds=[1], seeds=[2], out=tmp_path)
    with caplog.at_level("DEBUG", "sen_bench"):
        train_one(PlannedTraining(plan, Training(2, 1)), "cpu", 1, lambda _: None, lambda: False)
    assert f"The training of {Training(2, 1)} failed." in caplog.text


def test_a_crystal_for_which_memory_does_not_suffice_is_named_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.training.memory.memory", lambda _: 1 << 10)
    monkeypatch.setattr("benchmarks.training.train_one.train_fold", lambda *_, **__: 1 / 0)
    plan = make_plan(
        build_config("prototypes", "mlp"), load_dataset(get_task("prototypes")), folds=[0], seeds=[0], out=tmp_path
    )
    outcome = train_one(PlannedTraining(plan, Training(0, 0)), "cpu", 1, lambda _: None, lambda: False)
    assert isinstance(outcome, UsageError)
    assert str(outcome).startswith("To train 'mlp' on the crystal ")


def test_a_run_that_was_deleted_after_it_was_planned_is_a_run_again(tmp_path: Path) -> None:
    config = build_config("prototypes", "none", flags={"limit": 100, "training.epochs": 1})
    plan = make_plan(config, load_dataset(get_task("prototypes")), folds=[0], seeds=[0], out=tmp_path)
    facts = plan.run.read_config()
    with plan.run.deletable() as files:
        plan.run.delete(files)
    assert not plan.run.folder.exists()
    train_one(PlannedTraining(plan, Training(0, 0)), "cpu", 1, lambda _: None, lambda: True)
    assert plan.run.read_config() == facts


@pytest.mark.parametrize("has_state", [True, False])
def test_a_training_that_is_stopped_at_once_says_whether_it_has_a_state(tmp_path: Path, has_state: bool) -> None:
    config = build_config("prototypes", "mlp", flags={"limit": 100})
    plan = make_plan(config, load_dataset(get_task("prototypes")), folds=[0], seeds=[0], out=tmp_path)
    if has_state:
        (state := plan.run.state_path(Training(0, 0))).parent.mkdir()
        state.write_bytes(b"state")
    outcome = train_one(PlannedTraining(plan, Training(0, 0)), "cpu", 1, lambda _: None, lambda: True)
    assert isinstance(outcome, Interrupted)
    assert str(outcome) == ("its last state is saved" if has_state else "not begun")


@pytest.mark.parametrize(
    ("error", "left"),
    [(RunError("Training collapsed."), "Training collapsed."), (ZeroDivisionError("boom"), None)],
)
def test_a_training_that_does_not_learn_leaves_the_reason_to_who_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, left: str | None
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("benchmarks.training.train_one.train_fold", fail)
    config = build_config("prototypes", "mlp", flags={"limit": 100})
    plan = make_plan(config, load_dataset(get_task("prototypes")), folds=[0], seeds=[0], out=tmp_path)
    train_one(PlannedTraining(plan, Training(0, 0)), "cpu", 1, lambda _: None, lambda: False)
    assert plan.run.read_failure(Training(0, 0)) == left
