"""Train and predict from Python, as notebooks do."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from cloudpickle import register_pickle_by_value, unregister_pickle_by_value
from pymatgen.core import Lattice, Structure
from torch import nn

from ablations import ablate
from baselines.blocks.mlp import MLPBlock, MLPConfig
from baselines.models.schnet import SchNet, SchNetConfig
from benchmarks import load_dataset, load_runs, load_task, predict, train
from benchmarks.base.errors import DataError, RunError, UsageError
from benchmarks.data.dataset import Dataset
from benchmarks.results.store import Run
from tests.benchmarks.conftest import Answer, Write, rocksalts

Command = Callable[..., Answer]
SMALL = {"block.hidden": 32, "block.width": 16, "sen.encoder_width": 16, "sen.head_width": 16, "training.epochs": 1}
SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture
def dataset(write_data: Write) -> Dataset:
    return load_dataset(load_task("matbench_jdft2d"), write_data(rocksalts(60)), jobs=1)


@pytest.fixture
def run(dataset: Dataset, tmp_path: Path, unlearnt: None) -> Run:  # noqa: ARG001
    return train(dataset, block="mlp", folds=[0, 1], settings=SMALL, out=tmp_path / "runs")


def test_what_is_trained_in_python_is_what_the_command_trains_shows_and_predicts(
    run: Run, dataset: Dataset, sen_bench: Command, tmp_path: Path
) -> None:
    scores = load_runs(tmp_path / "runs")
    assert scores["fold"].tolist() == [0, 1]
    assert scores["run"].unique().tolist() == [str(run.path)]
    assert scores["variant"].unique().tolist() == ["mlp"]
    assert scores["mae"].tolist() == [run.read_metrics(training)["metrics"]["mae"] for training in run.trainings()]
    before = run.fingerprint()
    assert train(dataset, block="mlp", folds=[0, 1], settings=SMALL, out=tmp_path / "runs").path == run.path
    assert run.fingerprint() == before
    file = tmp_path / "salt.cif"
    SALT.to(str(file), fmt="cif")
    frame = pd.DataFrame({"structure": [SALT, SALT.get_primitive_structure()]}, index=["cell", "primitive"])
    found = predict(run, frame["structure"])
    assert found.index.tolist() == ["cell", "primitive"]
    assert found["formula"].tolist() == ["NaCl", "NaCl"]
    others = [
        predict(run, SALT),
        predict(run, SALT.as_dict()),
        predict(str(run.path), file),
        predict(run.path, [file.read_text()]),
    ]
    values = np.concatenate([each["prediction"] for each in (found, *others)])
    np.testing.assert_allclose(values, values[0], rtol=1e-4)
    assert (found["interval_low"].isna() | (found["interval_low"] < found["prediction"])).all()
    answer = sen_bench("predict", run.path, file, "--format", "csv")
    assert f"{others[2]['prediction'].iloc[0]}" in answer.out


def test_errors_are_exceptions_with_the_sentence_of_the_command(run: Run, dataset: Dataset) -> None:
    disordered = Structure(Lattice.cubic(3), [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]])
    with pytest.raises(DataError, match=r"^structure b has no structure\. structure c .*$"):
        predict(run, pd.Series({"a": SALT, "b": None, "c": disordered}))
    with pytest.raises(UsageError, match=r"takes a column of the data frame.*It has: a\.$"):
        predict(run, pd.DataFrame({"a": [SALT]}))
    with pytest.raises(UsageError, match=r"There is no structure to predict"):
        predict(run, [])
    with pytest.raises(UsageError, match="level takes a share"):
        predict(run, SALT, level=90)
    with pytest.raises(UsageError, match=r"no configuration field 'training\.epoch'.*Did you mean training\.epochs"):
        train(dataset, settings={"training.epoch": 1})
    with pytest.raises(UsageError, match="Did you mean mlp"):
        train(dataset, block="mpl")
    with pytest.raises(UsageError, match=r"refined to 0\.001 Å and the model is to have them refined to 0\.1 Å"):
        train(dataset, settings={"graph.symprec": 0.1})
    with pytest.raises(UsageError, match="There is no folder or archive"):
        load_runs("nowhere")
    with pytest.raises(UsageError, match="A run, or the path of one, is given, and not an object of the type int"):
        predict(3, SALT)  # type: ignore[arg-type]
    for function in (train, ablate):
        with pytest.raises(UsageError, match="and not an object of the type DataFrame"):
            function(pd.DataFrame({"a": [SALT]}))


@pytest.mark.usefixtures("unlearnt")
def test_ctrl_c_leaves_a_state_from_which_the_same_call_continues(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SMALL, "training.epochs": 3}

    def interrupt(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("benchmarks.cli.progress.RunDisplay.epoch", interrupt)
        with pytest.raises(KeyboardInterrupt, match=r"Stopped \(.*the same call continues"):
            train(dataset, block="mlp", folds=[0], settings=settings, out=tmp_path / "runs")
    assert load_runs(tmp_path / "runs").empty
    ended: list[Run] = []
    thread = threading.Thread(
        target=lambda: ended.append(train(dataset, block="mlp", folds=[0], settings=settings, out=tmp_path / "runs"))
    )
    thread.start()
    thread.join()
    assert len(ended[0].trainings()) == 1
    assert [line["epoch"] for line in ended[0].read_history(ended[0].trainings()[0])] == [1, 2, 3]


class Small(SchNet):
    """A model of a script."""

    recipe: ClassVar[dict[str, Any]] = {}

    def __init__(self, config: Any) -> None:
        del config
        super().__init__(SchNetConfig(width=8, interactions=1, head_width=8))


def redefined() -> type[SchNet]:
    """The class as it is after a change in its cell."""

    class Small(SchNet):
        recipe: ClassVar[dict[str, Any]] = {}

        def __init__(self, config: Any) -> None:
            del config
            super().__init__(SchNetConfig(width=4, interactions=1, head_width=8))

    return Small


class Narrow(MLPBlock):
    """A block of a script."""

    def __init__(self, width: int, config: Any) -> None:
        del config
        super().__init__(width, MLPConfig(hidden=8, width=4))


class Unsendable(Small):
    """A model that no other process can have, because a lock cannot be copied."""

    lock = threading.Lock()

    def __init__(self, config: Any) -> None:
        super().__init__(config)


@pytest.fixture
def no_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be given no class but those of the test."""
    monkeypatch.setattr("sen.registry._given", {})


class Wide(Small):
    """A model whose width is a value beside it."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.more = nn.Linear(WIDTH, 1)


WIDTH = 8


@pytest.mark.usefixtures("unlearnt", "no_class")
def test_a_run_has_one_model_though_what_the_class_uses_changes(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"model": Wide, "settings": {"training.epochs": 1}, "out": tmp_path / "runs"}
    first = train(dataset, folds=[0], **given)
    monkeypatch.setattr(sys.modules[__name__], "WIDTH", 32)
    second = train(dataset, folds=[0, 1], **given)
    assert second.path != first.path
    assert len(first.trainings()) == 1
    assert len({second.read_metrics(training)["parameters"] for training in second.trainings()}) == 1
    monkeypatch.undo()
    assert train(dataset, folds=[0], **given).path == first.path


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipe": "mine"}, r'^recipe takes "own" or "common", not \'mine\'\.$'),
        ({"seeds": 0}, "^seeds takes a whole number, 1 or more, not 0"),
        ({"seeds": "3"}, "^seeds takes a whole number, 1 or more, not '3'"),
        ({"seed": -1}, "^seed takes a whole number, 0 or more, not -1"),
        ({"jobs": None}, "^jobs takes a whole number, -1 or more, not None"),
        ({"settings": [1]}, r'^settings takes a dict, such as {"training\.epochs": 5}, not \[1\]'),
        ({"settings": {1: 2}}, "^settings takes a dict"),
        ({"device": 0}, '^device takes a name, such as "cpu", not 0'),
        ({"folds": 77}, "77"),
    ],
)
def test_what_the_command_refuses_is_refused(given: dict[str, Any], message: str, dataset: Dataset) -> None:
    with pytest.raises(UsageError, match=message):
        train(dataset, block="mlp", **given)
    with pytest.raises(UsageError, match=message):
        ablate(dataset, blocks="mlp", **given)


@pytest.mark.usefixtures("unlearnt", "no_class")
def test_a_class_is_trained_and_predicts_in_place_of_a_name(
    dataset: Dataset, tmp_path: Path, sen_bench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_epoch = {"training.epochs": 1}
    runs = [
        train(dataset, model=Small, folds=[0], settings=one_epoch, out=tmp_path / "runs"),
        train(dataset, block=Narrow, folds=[0], settings=one_epoch, out=tmp_path / "runs"),
    ]
    assert load_runs(tmp_path / "runs")["variant"].tolist() == ["Narrow", "Small"]
    for run in runs:
        assert np.isfinite(predict(run, SALT)["prediction"]).all()
        assert run.read_config()["config"]["code"]
    # Another process has no class: results are shown, weights cannot be used.
    monkeypatch.setattr("sen.registry._given", {})
    assert "Small" in sen_bench("status", tmp_path / "runs").out
    assert len(load_runs(runs[0])) == 1
    page = tmp_path / "report.html"
    assert sen_bench("report", tmp_path / "runs", "-o", page, "--sections", "overview,provenance").code == 0
    assert "Narrow" in page.read_text()
    with pytest.raises(UsageError, match=r"needs the class Small, which .* does not define: define it as it was"):
        predict(runs[0], SALT)
    other = train(dataset, model=redefined(), folds=[0], settings=one_epoch, out=tmp_path / "runs")
    assert other.path != runs[0].path
    with pytest.raises(UsageError, match="defines in another way"):
        predict(runs[0], SALT)


@pytest.mark.usefixtures("no_class")
def test_a_class_of_a_notebook_goes_to_worker_processes_if_it_can(dataset: Dataset, tmp_path: Path) -> None:
    module = sys.modules[__name__]
    register_pickle_by_value(module)  # as the classes of a notebook, which no other process can import
    try:
        settings = {"training.epochs": 40, "training.learning_rate": 0.01}
        given = {"folds": [0, 1], "settings": settings, "out": tmp_path / "runs", "jobs": 2}
        assert len(train(dataset, model=Small, **given).trainings()) == 2
        with pytest.raises(RunError, match=r"cannot be sent to a worker process \(.*lock.*\): train with jobs=1"):
            train(dataset, model=Unsendable, **given)
        assert len(train(dataset, block="mlp", **{**given, "settings": {**SMALL, **settings}}).trainings()) == 2
    finally:
        unregister_pickle_by_value(module)


@pytest.mark.usefixtures("no_class")
def test_what_is_no_block_and_no_model_is_refused_in_a_sentence(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match=r"^A model is given by its name, or as a class .*; Narrow is no such"):
        train(dataset, model=Narrow)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"; an object of the type Linear is no such class\.$"):
        train(dataset, model=nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"derived from sen\.blocks\.SymmetryBlock; Run is no such class\.$"):
        train(dataset, block=Run)  # type: ignore[type-var]
    with pytest.raises(UsageError, match=r"'mlp' is that of an installed block: rename the class"):
        train(dataset, model=type("mlp", (Small,), {}))
    with pytest.raises(
        UsageError, match=r"^The class Unknown uses Unknown\.lines \(generator\), whose content is unknown"
    ):
        train(dataset, model=type("Unknown", (Small,), {"lines": (line for line in "ab")}))
    with pytest.raises(UsageError, match="leave out --block or --model"):
        train(dataset, model=Small, block=Narrow)
