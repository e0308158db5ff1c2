"""Curves of trainings for TensorBoard."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.base.errors import UsageError
from benchmarks.data.dataset import load_dataset
from benchmarks.results.run_config import build_config
from benchmarks.results.store import Run, Training
from benchmarks.training.plans import PlannedTraining, make_plan
from benchmarks.training.tracking import check_log, tracked
from benchmarks.training.trainer import Epoch
from tests.benchmarks.conftest import SMALL, Answer, Write, rocksalts

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

Command = Callable[..., Answer]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The points of every curve in a folder, as TensorBoard shows them."""
    events = event_accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture
def planned(tmp_path: Path) -> PlannedTraining:
    config = build_config("prototypes", "mlp", flags={"limit": 100})
    plan = make_plan(config, load_dataset("prototypes", jobs=1), folds=[0], seeds=[0], out=tmp_path)
    return PlannedTraining(plan, Training(0, 0))


def write(planned: PlannedTraining, *epochs: int) -> None:
    with tracked("tensorboard", on_epoch=lambda *_: None, on_end=lambda *_: None) as callbacks:
        for epoch in epochs:
            callbacks["on_epoch"](
                planned, Epoch(epoch, 1 / epoch, 2 / epoch if epoch != 3 else float("nan"), 1e-3, 1.0)
            )


def test_a_continued_training_continues_its_curves_from_the_saved_state(planned: PlannedTraining) -> None:
    write(planned, 1, 2, 3, 4)
    write(planned, 3, 4, 5)  # the state that was saved is that after epoch 3
    folder = planned.plan.run.log_path(planned.training)
    found = curves(folder)
    assert set(found) == {"train_loss", "validation", "learning_rate"}
    assert [step for step, _ in found["train_loss"]] == [1, 2, 3, 4, 5]
    assert [step for step, _ in found["validation"]] == [1, 2, 4, 5]
    assert found["train_loss"][1] == (2, 0.5)
    written = b"".join(path.read_bytes() for path in folder.iterdir())
    assert all(name in written for name in (b"training.weight_decay", b"block_name", b"seed"))
    planned.plan.run.discard([planned.training])
    assert not folder.exists()


def test_callbacks_are_called_and_an_epoch_after_the_end_is_not_written(planned: PlannedTraining) -> None:
    called: list[object] = []
    with tracked(
        "tensorboard", on_epoch=lambda *_: called.append("epoch"), on_end=lambda *_: called.append("end")
    ) as to:
        to["on_epoch"](planned, Epoch(1, 1.0, 1.0, 1e-3, 1.0))
        to["on_end"](planned, {})
        to["on_epoch"](planned, Epoch(2, 1.0, 1.0, 1e-3, 1.0))  # a message that a worker sent before its result
    assert called == ["epoch", "end", "epoch"]
    assert curves(planned.plan.run.log_path(planned.training))["train_loss"] == [(1, 1.0)]


def test_files_that_cannot_be_written_end_no_training(
    planned: PlannedTraining, caplog: pytest.LogCaptureFixture
) -> None:
    folder = planned.plan.run.log_path(planned.training)
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    write(planned, 1)
    assert f"{folder} is not written, and its training continues: " in caplog.text


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    check_log(None)
    with pytest.raises(UsageError, match=r'^--log tensorboard needs .*: pip install "sen-bench\[tensorboard\]"\.$'):
        check_log("tensorboard")


@pytest.mark.usefixtures("unlearnt")
def test_run_writes_curves_beside_the_results(write_data: Write, sen_bench: Command, tmp_path: Path) -> None:
    data, out = write_data(rocksalts(40)), tmp_path / "runs"
    answer = sen_bench(
        *(
            "run",
            "matbench_jdft2d",
            "--data-dir",
            data,
            "--out",
            out,
            "--epochs",
            2,
            *SMALL,
            "--set",
            "training.validation=0.1",
        ),
        *("--folds", 0, "--log", "tensorboard"),
    )
    assert answer.code == 0, answer.err
    (config,) = out.rglob("config.json")
    run = Run(config.parent)
    history = run.read_history(Training(0, 0))
    found = curves(run.log_path(Training(0, 0)))
    for name in ("train_loss", "validation", "learning_rate"):
        assert [value for _, value in found[name]] == pytest.approx([epoch[name] for epoch in history])
    assert sen_bench("archive", out, "-o", tmp_path / "results.zip").code == 0
    assert b"tensorboard" not in (tmp_path / "results.zip").read_bytes()
