"""Trainings that start from the weights of another run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.base.errors import DataError, UsageError
from benchmarks.data.dataset import Dataset, LeftOut, load_dataset
from benchmarks.data.tasks import get_task
from benchmarks.results.archive import collect, write_archive
from benchmarks.results.run_config import Tuned, build_config
from benchmarks.results.store import Run, Training, find_runs
from benchmarks.training.plans import Plan, make_plan
from benchmarks.training.pretrained import find_initial_weights, freeze, take
from benchmarks.training.train_one import train_one
from tests.benchmarks.conftest import SMALL, Write, rocksalts, structure

ASSIGNMENTS = [option for option in SMALL if "=" in option]
OF_NONE = [option for option in ASSIGNMENTS if not option.startswith("block.")]

Train = Callable[..., Plan]


@pytest.fixture
def jdft2d(write_data: Write) -> Dataset:
    return load_dataset(get_task("matbench_jdft2d"), write_data(rocksalts(40)), jobs=1)


@pytest.fixture
def train(jdft2d: Dataset, tmp_path: Path, unlearnt: None) -> Train:
    """Train one epoch of a plan on this data set, by default SEN with a small mlp on fold 0 of jdft2d."""
    del unlearnt

    def call(
        dataset: Dataset = jdft2d, block: str = "mlp", *fields: str, folds: tuple[int, ...] = (0,), **options: Any
    ) -> Plan:
        given = ASSIGNMENTS if block == "mlp" else OF_NONE
        config = build_config(dataset.task.name, block, assignments=[*given, "training.epochs=1", *fields])
        if tuned := options.pop("tuned", None):
            config = config.model_copy(update={"tuned": tuned})
        plan = make_plan(config, dataset, folds=folds, seeds=[0], out=tmp_path / "runs", **options)
        for planned in plan.pending:
            outcome = train_one(planned, "cpu", 1, lambda _: None, lambda: False)
            assert isinstance(outcome, dict), outcome
        return plan

    return call


def weights(plan: Plan, *, allow_overlap: bool = False, folder: Path | None = None) -> Any:
    return find_initial_weights(plan.run.path, allow_overlap=allow_overlap, data_dir=folder)


def test_what_fits_is_taken_and_what_was_taken_is_recorded(train: Train, tmp_path: Path) -> None:
    source = train()
    plan = train(block="none", initial=weights(source, folder=tmp_path / "data"))
    record = plan.run.read_metrics(Training(0, 0))["pretrained"]
    assert record["source"] == f"{source.run.path}/seed_0/fold_0"
    assert (record["task"], record["seed"], record["fold"]) == ("matbench_jdft2d", 0, 0)
    assert record["known_test_rows"] == 0
    assert "model.features.atoms.elements.weight" not in record["drawn"]
    assert record["drawn"], "the head of another width"
    assert all(name.startswith("model.head.") for name in record["drawn"])
    own = set(plan.run.read_weights(Training(0, 0)))
    assert {*record["taken"], *record["drawn"]} <= own
    # Other weights, or none, make another run.
    assert plan.run.path.name not in {train(block="none").run.path.name, source.run.path.name}
    assert plan.config.pretrained is not None
    assert plan.config.pretrained.weights == source.run.weights_digest(Training(0, 0))


def test_a_crystal_of_the_other_run_among_the_test_rows_is_refused_unless_the_result_is_labelled(
    train: Train, tmp_path: Path
) -> None:
    source = train()
    initial = weights(source, folder=tmp_path / "data")
    with pytest.raises(UsageError, match=r"was trained on nearly the crystals of 9 of 15 test rows \(mb-jdft2d-\d+, "):
        train(folds=(0, 1), initial=initial)
    allowed = replace(initial, record=initial.record.model_copy(update={"allow_overlap": True}))
    plan = train(folds=(0, 1), initial=allowed)
    known = [plan.run.read_metrics(training)["pretrained"]["known_test_rows"] for training in plan.trainings]
    assert known == [0, 9]
    assert len(plan.fold(Training(0, 1)).test) == 9


def test_nearly_the_same_crystals_of_other_data_are_found(train: Train, tmp_path: Path) -> None:
    source = train()
    rows = rocksalts(40)
    trained = source.fold(Training(0, 0)).train[0]
    moved = np.array(rows[trained][0]["lattice"]["matrix"]) * 1.0005
    symbols = [site["species"][0]["element"] for site in rows[trained][0]["sites"]]
    others = [*rocksalts(39, seed=1), [structure(moved, symbols, np.array([[0, 0, 0], [0.5, 0.5, 0.5]])), 1.0]]
    table = load_dataset(get_task("matbench_jdft2d"), write_other(tmp_path, others), jobs=1)
    (last,) = [fold.index for fold in table.folds() if 39 in fold.test]
    initial = weights(source, folder=tmp_path / "data")
    with pytest.raises(UsageError, match=r"nearly the crystals of 1 of 6 test rows \(mb-jdft2d-040\)"):
        train(table, folds=(last,), initial=initial)
    assert train(table, folds=((last + 1) % 5,), initial=initial).start is not None


def write_other(folder: Path, rows: list[list[Any]]) -> Path:
    from tests.benchmarks.conftest import write_packed

    (folder / "other").mkdir()
    content = {"index": list(range(len(rows))), "columns": ["structure", "exfoliation_en"], "data": rows}
    write_packed(folder / "other/matbench_jdft2d.partial.json.gz", content)
    return folder / "other"


def test_what_cannot_be_compared_is_refused_with_the_reason(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    source = train()
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))  # without the crystals
    elsewhere = tmp_path / "empty"
    elsewhere.mkdir()
    reason = r"cannot be checked whether .*seed_0/fold_0 has test rows among its crystals: The crystals of .* not avail"
    with pytest.raises(UsageError, match=reason):
        train(block="none", initial=weights(source, folder=elsewhere))
    plan = train(block="none", initial=weights(source, folder=elsewhere, allow_overlap=True))
    assert plan.run.read_metrics(Training(0, 0))["pretrained"]["known_test_rows"] is None
    with pytest.raises(UsageError, match=r"it started itself from weights that matbench_jdft2d had trained\. --allow"):
        train(initial=weights(plan, folder=tmp_path / "data"))
    tuned = Tuned(variant="mlp", recipe="own", task="matbench_phonons", data="rows", folds=(0,), trials=2)
    with pytest.raises(UsageError, match=r"other rows, of matbench_phonons, chose its recipe\. "):
        train(block="none", initial=weights(train(tuned=tuned), folder=tmp_path / "data"))


def test_rows_that_chose_the_recipe_of_the_weights_are_known_to_them(
    train: Train, jdft2d: Dataset, tmp_path: Path
) -> None:
    tuned = Tuned(variant="mlp", recipe="own", task="matbench_jdft2d", data=jdft2d.digest, folds=(1, 2), trials=2)
    initial = weights(train(tuned=tuned), folder=tmp_path / "data")
    tested = {fold.index: set(fold.test.tolist()) for fold in jdft2d.folds()}
    assert set(initial.known_rows(jdft2d).tolist()) == set(range(40))
    one = tuned.model_copy(update={"folds": (0,)})
    initial = weights(train(tuned=one), folder=tmp_path / "data")
    assert set(initial.known_rows(jdft2d).tolist()) == set(range(40)) - tested[0]
    # The search had no limit.
    initial = weights(train(jdft2d, "mlp", "limit=8", tuned=one), folder=tmp_path / "data")
    assert set(initial.known_rows(jdft2d).tolist()) == set(range(40)) - tested[0]


def test_rows_that_the_run_left_out_are_known_unless_the_search_for_its_recipe_left_them_out_as_well(
    train: Train, jdft2d: Dataset, tmp_path: Path
) -> None:
    (fold, *_) = jdft2d.folds()
    rows = fold.train[:5]
    left_out = LeftOut("phonons", "digest", tuple(jdft2d.table.ids[np.sort(rows)].tolist()))
    dataset = replace(jdft2d, left_out=left_out)
    tuned = Tuned(variant="mlp", recipe="own", task="matbench_jdft2d", data=jdft2d.digest, folds=(0,), trials=2)
    all_train = set(fold.train.tolist()) | set(fold.validation.tolist())
    for without, known in (("digest", all_train - set(rows.tolist())), (None, all_train), ("other", all_train)):
        plan = train(dataset, tuned=tuned.model_copy(update={"without": without}))
        assert set(weights(plan, folder=tmp_path / "data").known_rows(jdft2d).tolist()) == known


def test_weights_that_cannot_be_had_are_refused(train: Train, tmp_path: Path) -> None:
    source = train()
    with pytest.raises(UsageError, match=r"fold 2, seed 0 of .* has no result: .* Finished: fold 0, seed 0\.$"):
        find_initial_weights(source.run.folder / "seed_0/fold_2", allow_overlap=False)
    write_archive(tmp_path / "results.zip", collect([source.run.path]).files)
    (archived,) = find_runs(tmp_path / "results.zip")
    with pytest.raises(DataError, match=r"is in an archive, which holds no weights"):
        find_initial_weights(archived.path, allow_overlap=False)
    initial = weights(source, folder=tmp_path / "data")
    (source.run.folder / "seed_0/fold_0/model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors was removed"):
        weights(source)
    with pytest.raises(DataError, match=r"model\.safetensors was removed"):
        initial.read()
    state = source.run.state_path(Training(0, 0))
    source.run.discard([Training(0, 0)])
    state.write_bytes(b"")
    with pytest.raises(UsageError, match=r"fold 0, seed 0 of .* is under way: let `sen-bench run` finish it"):
        find_initial_weights(Run(source.run.path).path, allow_overlap=False)


def test_weights_of_another_model_and_models_that_are_fitted_are_refused(
    train: Train, jdft2d: Dataset, tmp_path: Path
) -> None:
    initial = weights(train(), folder=tmp_path / "data")
    for model, message in (
        ("schnet", r"^No weights in .*seed_0/fold_0, of mlp, have the names and shapes of those of schnet: "),
        ("trees", r"^The model 'trees' is fitted at once and starts from no weights"),
    ):
        with pytest.raises(UsageError, match=message):
            make_plan(
                build_config("matbench_jdft2d", model), jdft2d, folds=[0], seeds=[0], out=tmp_path, initial=initial
            )
    with pytest.raises(UsageError, match=r"^training\.frozen_epochs is for weights of another run"):
        train(jdft2d, "none", "training.frozen_epochs=1")


def test_weights_are_taken_by_name_and_shape_and_statistics_with_them() -> None:
    def network(width: int) -> nn.Module:
        model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        model.add_module("head", nn.Linear(3, width))
        return nn.ModuleDict({"model": model})

    torch.manual_seed(0)
    first, second = network(1), network(2)
    statistics = first["model"][1].running_mean.fill_(7.0)
    taken = take(second, first.state_dict())
    assert "model.head.bias" not in taken
    assert torch.equal(second["model"][0].weight, first["model"][0].weight)
    assert torch.equal(second["model"][1].running_mean, statistics)
    second.train()
    freeze(second, taken, frozen=True)
    assert [name for name, p in second.named_parameters() if p.requires_grad] == [
        "model.head.weight",
        "model.head.bias",
    ]
    second["model"](torch.randn(4, 2))
    assert torch.equal(second["model"][1].running_mean, statistics)
    second.train()
    freeze(second, taken, frozen=False)
    second["model"](torch.randn(4, 2))
    assert not torch.equal(second["model"][1].running_mean, statistics)
    assert all(parameter.requires_grad for parameter in second.parameters())
