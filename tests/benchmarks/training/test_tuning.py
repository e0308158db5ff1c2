"""Recipes chosen by rows held out of the training rows; the trainings are made up where they do not matter."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.base.errors import DataError, RunError, UsageError
from benchmarks.base.interrupts import Interrupted, StopRequest
from benchmarks.data.crystal_table import read_matbench_json
from benchmarks.data.dataset import Dataset, LeftOut
from benchmarks.data.tasks import get_task
from benchmarks.results.run_config import build_config
from benchmarks.training import tuning as module
from benchmarks.training.loader import GraphTensors
from benchmarks.training.tuning import Tuning, check_trials, tune
from tests.benchmarks.conftest import Write, rocksalts

SIZES = {"block.hidden": 16, "block.width": 8, "sen.encoder_width": 8, "sen.head_width": 8, "training.batch_size": 8}


@pytest.fixture
def dataset(write_data: Write) -> Dataset:
    task = get_task("matbench_jdft2d")
    (file,) = write_data(rocksalts(60)).iterdir()
    table = read_matbench_json(file, task.target, row_id=task.row_id, kind=task.kind)
    return Dataset(task, table, file.name, is_complete=False)


def search(
    dataset: Dataset,
    out: Path,
    *,
    variant: str = "mlp",
    trials: int = 12,
    folds: tuple[int, ...] = (0,),
    given: Mapping[str, Any] | None = None,
    seeds: tuple[int, ...] = (0,),
) -> Tuning:
    given = {**(SIZES if variant == "mlp" else {}), "training.epochs": 1} if given is None else given

    assignments = [f"{field}={json.dumps(value)}" for field, value in given.items()]
    return Tuning(
        variant, variant, {"assignments": assignments}, dataset, folds=folds, seeds=seeds, trials=trials, out=out
    )


def run(tuning: Tuning, **options: Any) -> dict[str, Any]:
    """Run the trials that are missing; return what the file of the trials holds, without times."""
    tune([tuning], device="cpu", stop=StopRequest(), **options)
    content: dict[str, Any] = json.loads((tuning.folder / "trials.json").read_text())
    for trial in content["trials"]:
        del trial["seconds"]
    return content


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let trainings score by how near their learning rate is to 0.001; those above 0.0015 diverge.

    `fault_after` trainings, one ends without a word of its own, as if its process had died.
    """

    def put(*, stop_after: int | None = None, fault_after: int | None = None) -> None:
        n_ended = 0

        def execute(pending: Any, *, on_end: Any, **_: Any) -> None:
            nonlocal n_ended
            for planned in pending:
                if n_ended == stop_after:
                    raise Interrupted
                rate = planned.plan.config.training.learning_rate
                score = abs(np.log(rate / 0.001)) + 0.01 * planned.training.seed
                outcome: Any = {"metrics": {"mae": score}, "wall_seconds": 1.0}
                if n_ended == fault_after:
                    outcome = RunError("its worker process died.")
                elif rate > 0.0015:
                    outcome = RunError("Training diverged.")
                    with planned.plan.run.lock(planned.training):
                        planned.plan.run.note_failure(planned.training, str(outcome))
                on_end(planned, outcome)
                n_ended += 1

        monkeypatch.setattr(module, "execute", execute)

    put()
    return put


@pytest.mark.parametrize(("jobs", "n"), [(1, 5), (3, 4)])
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(
    dataset: Dataset, made_up: Callable[..., None], tmp_path: Path, jobs: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.training.execution.n_cores", lambda: 8)
    whole = run(search(dataset, tmp_path / "whole"), jobs=jobs)
    made_up(stop_after=n)
    with pytest.raises(Interrupted):
        run(search(dataset, tmp_path / "stopped"), jobs=jobs)
    assert len(search(dataset, tmp_path / "stopped").trials) == n
    made_up()
    assert run(search(dataset, tmp_path / "stopped"), jobs=jobs) == whole
    # More trials go on from those; fewer choose among the first ones.
    more = search(dataset, tmp_path / "whole", trials=14)
    assert len(more.left) == 2
    fewer = search(dataset, tmp_path / "whole", trials=1)
    assert (fewer.left, fewer.best) == ([], fewer.trials[1])


@pytest.mark.usefixtures("made_up")
def test_failed_trials_are_kept_and_cost_a_trial(dataset: Dataset, tmp_path: Path) -> None:
    tuning = search(dataset, tmp_path)
    trials = run(tuning)["trials"]
    assert [trial["number"] for trial in trials] == list(range(1, 13))
    failed = [trial for trial in trials if trial["score"] is None]
    assert failed
    assert {trial["failure"] for trial in failed} == {"Training diverged."}
    assert tuning.best is not None
    assert tuning.best.score == min(trial["score"] for trial in trials if trial["score"] is not None)
    assert trials[0]["fields"]["training.learning_rate"] == build_config("t", "mlp").training.learning_rate
    assert "the recipe as given, trial 1, has 0.3567 meV" in tuning.verdict()


def test_a_fault_of_the_machine_ends_the_search_and_its_trial_is_tried_again(
    dataset: Dataset, made_up: Callable[..., None], tmp_path: Path
) -> None:
    whole = run(search(dataset, tmp_path / "whole", trials=4))
    made_up(fault_after=2)
    message = r"^1 trial ended without a score, and not because .*\n  mlp, trial 3 of 4: its worker process died\.$"
    with pytest.raises(RunError, match=message):
        run(search(dataset, tmp_path / "broken", trials=4))
    assert search(dataset, tmp_path / "broken", trials=4).left == [3, 4]
    made_up()
    assert run(search(dataset, tmp_path / "broken", trials=4)) == whole


@pytest.mark.usefixtures("made_up")
def test_a_store_that_cannot_be_written_is_no_failed_trial(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = search(dataset, tmp_path, trials=2)

    def refuse(*_: object) -> None:
        raise UsageError("The run folder cannot be written.")

    monkeypatch.setattr("benchmarks.results.store.Run.write_config", refuse)
    with pytest.raises(UsageError, match="cannot be written"):
        run(tuning)
    assert not tuning.trials


@pytest.mark.usefixtures("made_up")
def test_a_search_without_a_trial_that_succeeds_has_no_recipe(dataset: Dataset, tmp_path: Path) -> None:
    tuning = search(dataset, tmp_path, given={"training.learning_rate": 0.1}, trials=3)
    with pytest.raises(RunError, match=r"^All 3 trials of mlp failed, the first one because: Training diverged\.$"):
        run(tuning)
    assert not tuning.recipe_path.exists()


@pytest.mark.usefixtures("made_up")
def test_fields_that_do_not_fit_each_other_are_a_failed_trial(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sen.network.SEN.space", {"heads": (3, 5)})  # which do not divide the widths
    trials = run(search(dataset, tmp_path))["trials"]
    refused = [trial for trial in trials if trial["fields"]["sen.heads"] != 4]
    assert refused
    assert all("must divide encoder_width" in trial["failure"] for trial in refused)


@pytest.mark.usefixtures("made_up")
def test_the_recipe_file_holds_what_was_given_and_what_was_found(dataset: Dataset, tmp_path: Path) -> None:
    tuning = search(dataset, tmp_path, folds=(2, 0), seeds=(0, 1), trials=4)
    assert run(tuning)["trials"][0]["score"] == pytest.approx(np.log(1 / 0.7) + 0.005)
    content = tomllib.loads(tuning.recipe_path.read_text())
    assert content["tuned"] == {
        "variant": "mlp",
        "recipe": "own",
        "task": "matbench_jdft2d",
        "data": dataset.digest,
        "folds": [0, 2],
        "trials": 4,
    }
    config = build_config("matbench_jdft2d", "mlp", file=tuning.recipe_path)
    assert tuning.best is not None
    expected = build_config("matbench_jdft2d", "mlp", flags={**SIZES, "training.epochs": 1, **tuning.best.fields})
    assert config.model_copy(update={"tuned": None}) == expected
    left_out = replace(dataset, left_out=LeftOut("phonons", "theirs", ()))
    tuning = search(left_out, tmp_path, trials=1)
    run(tuning)
    assert tomllib.loads(tuning.recipe_path.read_text())["tuned"]["without"] == "theirs"
    with pytest.raises(UsageError, match=r"^The configuration, given for mlp, is a recipe that was tuned already"):
        search(dataset, tmp_path, given={"tuned.variant": "mlp"})
    with pytest.raises(UsageError, match=r"recipe\.toml, given for mlp, is a recipe that was tuned already"):
        Tuning("mlp", "mlp", {"file": tuning.recipe_path}, dataset, folds=[0], seeds=[0], trials=1, out=tmp_path)
    with pytest.raises(UsageError, match=r"^training\.clip_norm cannot be null where a recipe is tuned"):
        search(dataset, tmp_path, given={"training.clip_norm": None})


@pytest.mark.usefixtures("made_up")
def test_damaged_trials_are_reported(dataset: Dataset, tmp_path: Path) -> None:
    tuning = search(dataset, tmp_path, trials=2)
    run(tuning)
    content = json.loads((tuning.folder / "trials.json").read_text())
    content["trials"][1]["score"] = 0.01
    (tuning.folder / "trials.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"trials\.json was altered after sen-bench wrote it: put back what it was, or"):
        search(dataset, tmp_path)
    (tuning.folder / "trials.json").write_text('{"trials": [{"number": 1}]}')
    with pytest.raises(DataError, match=r"trials\.json does not hold the trials of this search: remove it to begin"):
        search(dataset, tmp_path)
    (tuning.folder / "trials.json").write_text('{"format": 2, "rows": []}')
    with pytest.raises(
        DataError, match=r"trials\.json has format 2, and this version of sen-bench reads 1: go on with"
    ):
        search(dataset, tmp_path)


@pytest.mark.usefixtures("made_up")
def test_searches_go_on_side_by_side(dataset: Dataset, tmp_path: Path) -> None:
    together = [search(dataset, tmp_path / "two", variant=variant, trials=3) for variant in ("mlp", "schnet")]
    paths = tune(together, device="cpu", stop=StopRequest())
    for tuning, path in zip(together, paths, strict=True):
        alone = search(dataset, tmp_path / "one", variant=tuning.name, trials=3)
        assert tune([alone], device="cpu", stop=StopRequest())[0].read_text() == path.read_text()


@pytest.mark.usefixtures("unlearnt")
@pytest.mark.parametrize("variant", ["mlp", "megnet", "trees"])  # two of which train on all rows
def test_nothing_of_the_test_rows_is_read_or_predicted(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    seen: set[int] = set()
    batch = GraphTensors.batch

    def watched(self: GraphTensors, crystals: np.ndarray) -> Any:
        seen.update(crystals.tolist())
        return batch(self, crystals)

    monkeypatch.setattr(GraphTensors, "batch", watched)
    test = dataset.folds()[0].test
    given = SIZES if variant == "mlp" else {}
    options: dict[str, Any] = {"variant": variant, "trials": 2, "given": {**given, "training.epochs": 1}}
    trials = run(search(dataset, tmp_path / "true", **options))["trials"]
    assert all(trial["failure"] is None for trial in trials)
    assert len(seen) == len(dataset.table) - len(test)
    assert not seen & set(test.tolist())

    target = np.array(dataset.table.target)
    target[test] = np.nan
    poisoned = replace(dataset, table=replace(dataset.table, target=target, digest="poisoned"))
    assert run(search(poisoned, tmp_path / "poisoned", **options))["trials"] == trials
    assert not list((tmp_path).rglob("predictions.csv"))  # what the trainings left behind is removed


@pytest.mark.parametrize("package", ["optuna", "tomli_w"])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    check_trials(1, "--trials")
    with pytest.raises(UsageError, match=r"^--trials takes a number of trials from 1 on, not 0\.$"):
        check_trials(0, "--trials")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf'^Tuning needs the package {package}: pip install "sen-bench\[tune\]"\.$'):
        check_trials(1, "--trials")
