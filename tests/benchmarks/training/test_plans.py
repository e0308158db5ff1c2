"""What a plan settles before anything is trained."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from benchmarks.base.errors import DataError, UsageError
from benchmarks.data.dataset import load_dataset
from benchmarks.data.own_data import find_task
from benchmarks.data.tasks import get_task
from benchmarks.results.recorded import assignment, by_field
from benchmarks.results.run_config import Recipe, build_config, get_variant
from benchmarks.results.store import Run, Training
from benchmarks.training.plans import Overwrite, Plan, make_plan
from benchmarks.training.trainer import Epoch, check_model
from tests.benchmarks.conftest import made_record


def finish(run: Run, training: Training, release: str) -> None:
    """Write an empty result of a release of sen-bench."""
    record = made_record(run, training, 0, provenance={"sen-bench": release})
    run.write_training(training, predictions=[], record=record, history=[Epoch(1, 0, 0, 0, 0)], weights={})


@pytest.mark.parametrize(("limit", "weight_decay"), [(None, 2.3), (1200, 2.7), (100, 3.0)])
def test_the_regularisation_of_a_run_is_that_of_its_training_rows(
    tmp_path: Path, limit: int | None, weight_decay: float
) -> None:
    # 2,020 prototypes, of which four fifths train; without the task's own recipe.
    dataset = load_dataset(get_task("prototypes"))
    config = build_config("prototypes", "mlp", flags={"limit": limit})
    plans = [make_plan(config, dataset, folds=[0], seeds=[seed], out=tmp_path) for seed in (0, 1)]
    assert plans[0].config.training.weight_decay == weight_decay
    recorded = json.loads((plans[0].run.path / "config.json").read_text())["config"]
    assert recorded["training"]["weight_decay"] == weight_decay
    assert plans[0].run.path == plans[1].run.path


def test_crystals_refined_to_another_tolerance_are_refused(tmp_path: Path) -> None:
    config = build_config("prototypes", "mlp", flags={"graph.symprec": 0.01})
    with pytest.raises(UsageError, match=r"prototypes were refined to 0\.001 Å, but graph\.symprec is 0\.01:"):
        make_plan(config, load_dataset("prototypes"), folds=[0], seeds=[0], out=tmp_path)
    plan = make_plan(config, load_dataset("prototypes", symprec=0.01), folds=[0], seeds=[0], out=tmp_path)
    assert plan.missing == [Training(0, 0)]


@pytest.mark.parametrize(
    ("variant", "recipe", "flags", "validation", "n_validation"),
    [
        ("gatgnn", "own", {}, None, 202),  # a ninth of the training rows in its publication
        ("gatgnn", "common", {}, None, 202),
        ("megnet", "own", {}, 0.0, 0),
        ("mlp", "own", {}, 0.0, 0),
        ("gatgnn", "own", {"training.validation": 0.0}, 0.0, 0),
    ],
)
def test_a_holdout_split_names_its_share_of_validation_rows(
    tmp_path: Path, variant: str, recipe: Recipe, flags: dict[str, float], validation: float | None, n_validation: int
) -> None:
    dataset = load_dataset(get_task("prototypes"))
    dataset = replace(dataset, task=replace(dataset.task, split="holdout:0.8/0.1/0.1"))
    config = build_config("prototypes", variant, recipe=recipe, flags=flags)
    plan = make_plan(config, dataset, folds=[0], seeds=[0], out=tmp_path, is_trial=True)
    assert plan.config.training.validation == validation
    fold = plan.fold(Training(0, 0))
    assert len(fold.validation) + len(fold.calibration) == n_validation
    published = get_variant(variant)[0].recipe["validation"]
    for share in {0.2, published} - {0.0}:  # given by the user, the published share is refused like any other
        config = build_config("prototypes", variant, recipe=recipe, flags={"training.validation": share})
        with pytest.raises(
            UsageError,
            match=rf"names its share of validation rows: in place of training\.validation={share:g} give null",
        ):
            make_plan(config, dataset, folds=[0], seeds=[0], out=tmp_path, is_trial=True)


@pytest.mark.parametrize(
    ("variant", "recipe", "file", "loss"),
    [
        ("mlp", "own", None, "mae"),
        ("cgcnn", "own", None, "mse"),
        ("cgcnn", "common", None, "mae"),
        ("cgcnn", "own", Path("common"), "mae"),
    ],
)
def test_a_recipe_for_regressions_is_no_mistake_of_a_classification(
    tmp_path: Path, variant: str, recipe: Recipe, file: Path | None, loss: str
) -> None:
    dataset = load_dataset(get_task("prototypes"))
    dataset = replace(
        dataset,
        task=replace(dataset.task, kind="classification"),
        table=replace(dataset.table, target=(dataset.table.target > np.median(dataset.table.target)).astype(float)),
    )
    config = build_config("prototypes", variant, recipe=recipe, file=file)
    plan = make_plan(config, dataset, folds=[0], seeds=[0], out=tmp_path, is_trial=True)
    assert plan.config.training.loss == loss


def test_results_of_another_release_are_kept_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = load_dataset(get_task("prototypes"))
    config = build_config("prototypes", "mlp", flags={"limit": 100})
    run = make_plan(config, dataset, folds=[0], seeds=[0], out=tmp_path).run
    for fold, release in enumerate((version("sen-bench"), "0.0.1", "0.0.1")):
        finish(run, Training(0, fold), release)
    plan = make_plan(config, dataset, folds=[0, 1, 2, 3], seeds=[0], out=tmp_path)
    assert plan.missing == [Training(0, 3)]
    (message,) = caplog.messages
    assert message == (
        f"{run.path}: fold 1, seed 0; fold 2, seed 0 was trained with sen-bench 0.0.1 (this is {version('sen-bench')}) "
        "and is kept as it is; --overwrite always repeats it."
    )


@pytest.mark.parametrize(
    ("variant", "name", "of_block"),
    [
        ("mlp", "mlp-c82ce5750e", {}),
        ("egnn", "egnn-e9cf1f2b1b", {"block.aggregation": "mean", "block.distances": "squared"}),
    ],
)
def test_a_run_of_0_1_is_named_and_continued(
    runs_of_0_1: Path, caplog: pytest.LogCaptureFixture, variant: str, name: str, of_block: dict[str, str]
) -> None:
    recorded = Run(runs_of_0_1 / "prototypes" / name).read_config()["config"]
    earlier = {**of_block, "graph.symprec": 0.01, "training.calibration": 0.0, "training.validation": None}

    def plan(**changed: object) -> Plan:
        given = [assignment(field, value) for field, value in {**by_field(recorded), **changed}.items()]
        config = build_config("prototypes", variant, assignments=given)
        dataset = load_dataset("prototypes", symprec=config.graph.symprec)
        return make_plan(config, dataset, folds=[0], seeds=[1], out=runs_of_0_1, is_trial=True)

    new = plan()
    assert (new.missing, new.run.path.name != name) == ([Training(1, 0)], True)
    (message,) = caplog.messages
    settings = " ".join(f"--set {assignment(field, value)}" for field, value in earlier.items())
    assert message == (
        f"{runs_of_0_1 / 'prototypes' / name} was begun with these settings and the defaults of an earlier version; "
        f"{new.run.path.name} is a new run. To continue the earlier one, give {settings}."
    )
    caplog.clear()
    continued = plan(**earlier)
    assert (continued.missing, continued.run.path.name) == ([], name)
    plan(**{"training.epochs": 7})
    assert not caplog.messages


def test_another_unit_of_the_same_results_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = load_dataset(get_task("prototypes"))
    config = build_config("prototypes", "mlp", flags={"limit": 100})

    def plan_in(unit: str, overwrite: Overwrite = "only-missing") -> Run:
        given = replace(dataset, task=replace(dataset.task, unit=unit))
        return make_plan(config, given, folds=[0], seeds=[0], out=tmp_path, overwrite=overwrite).run

    plan_in("eV")
    run = plan_in("")
    assert not caplog.messages  # nothing is trained yet
    finish(run, Training(0, 0), version("sen-bench"))
    with pytest.raises(UsageError, match="already holds results"):
        plan_in("meV", overwrite="never")
    assert run.read_config()["task"]["unit"] == ""
    plan_in("meV")
    plan_in("meV")
    assert caplog.messages == [f"{run.path}: its unit was not given and is meV from now on (--unit)."]
    assert run.trainings() == [Training(0, 0)]
    plan_in("eV")
    assert run.trainings() == [Training(0, 0)]


def test_an_altered_configuration_is_written_again_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = load_dataset(get_task("prototypes"))
    config = build_config("prototypes", "mlp", flags={"limit": 100})
    run = make_plan(config, dataset, folds=[0], seeds=[0], out=tmp_path).run
    finish(run, Training(0, 0), version("sen-bench"))
    file = run.folder / "config.json"
    before = file.read_bytes()
    file.write_bytes(before.replace(b'"cutoff": 5.0', b'"cutoff": 4.0'))
    plan = make_plan(config, dataset, folds=[0], seeds=[0], out=tmp_path)
    assert file.read_bytes() == before
    assert plan.missing == []
    (message,) = caplog.messages
    assert message.startswith(f"This command writes a config.json again. {file} is that of a run called mlp-")


def test_rows_that_a_task_does_not_have_are_reported_with_their_file(tmp_path: Path) -> None:
    dataset = load_dataset(get_task("prototypes"))
    few = replace(dataset, task=replace(dataset.task, n_rows=1000))
    with pytest.raises(DataError, match=f"^{re.escape(dataset.source)}: .* has the rows 0 to 999"):
        make_plan(build_config("prototypes", "mlp"), few, folds=[0], seeds=[0], out=tmp_path)


def test_a_configuration_that_its_block_refuses_is_found_without_building_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.training.trainer.SEN", None)
    dataset = load_dataset(get_task("prototypes"))
    refused = build_config("prototypes", "capsule", assignments=["block.map_height=7"])
    with pytest.raises(UsageError, match=r"'capsule' cannot be built: map_height \(7\) must divide the environment"):
        make_plan(refused, dataset, folds=[0], seeds=[0], out=tmp_path)
    assert not list(tmp_path.iterdir())
    make_plan(build_config("prototypes", "capsule"), dataset, folds=[0], seeds=[0], out=tmp_path)


@pytest.mark.parametrize("width", [10**12, 10**18, 10**30])
def test_a_model_that_fits_into_no_memory_is_refused_in_one_sentence(width: int) -> None:
    config = build_config("prototypes", "mlp", assignments=[f"sen.head_input={width}"])
    with pytest.raises(
        UsageError, match=r"^The block 'mlp' cannot be built: its weights fit into no memory[.] [^.]+[.]$"
    ):
        check_model(config)


def test_paired_seeds_train_one_fold_each(tmp_path: Path) -> None:
    dataset = load_dataset(find_task("prototypes", split="resample"))
    config = build_config("prototypes", "mlp")
    plan = make_plan(config, dataset, folds=[4, 7], seeds=[4, 7], out=tmp_path, is_trial=True, paired=True)
    assert plan.trainings == plan.missing == [Training(4, 4), Training(7, 7)]
    assert [plan.fold(training).index for training in plan.trainings] == [4, 7]
    official = make_plan(config, load_dataset("prototypes"), folds=[0], seeds=[0], out=tmp_path, is_trial=True)
    assert official.run.path != plan.run.path
