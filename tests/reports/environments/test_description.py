from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.base.errors import DataError, UsageError
from benchmarks.base.stopwatch import Stopwatch
from benchmarks.data.dataset import Dataset
from benchmarks.data.folds import make_folds
from benchmarks.data.graph_table import build_graphs
from benchmarks.results.store import Run, Training
from benchmarks.training.loader import GraphTensors
from benchmarks.training.trainer import _FoldTrainer
from reports.environments.description import (
    Environments,
    Models,
    describe_test_rows,
    draw_test_rows,
    inequivalent_rows,
    open_models,
    rows_of_trainings,
)
from reports.study.reading import read_studies
from reports.study.study import Absent
from tests.benchmarks.conftest import replace_file
from tests.reports.made_models import crystal, made_dataset, mixed_rows, perovskite, rocksalt, store_models, wurtzite

RUNS = ("mlp", "capsule", "egnn", "schnet")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return made_dataset(tmp_path_factory.mktemp("data"), mixed_rows(36))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> dict[str, Run]:
    root = tmp_path_factory.mktemp("runs")
    return {block: store_models(root, dataset, variant=block, folds=(0, 1)) for block in RUNS}


@pytest.mark.parametrize("block", RUNS)
def test_test_rows_are_described_by_the_model_that_predicted_them(
    runs: dict[str, Run], dataset: Dataset, block: str
) -> None:
    models, table = Models(runs[block]), dataset.table
    found = describe_test_rows(models, table)
    environments = found.environments
    assert len(found.rows) == len(environments) == found.n_rows
    predicted = {}
    for training in models.trainings:
        predictions = models.run.read_predictions(training)
        predicted |= dict(zip(predictions.ids, predictions.prediction.tolist(), strict=True))
    for fold in (0, 1):
        chosen = np.flatnonzero(found.fold == fold)
        model = models.load(Training(0, fold))
        with torch.no_grad():
            value = model.in_unit(torch.tensor(environments.prediction[chosen]))
        expected = [predicted[str(table.ids[row])] for row in found.rows[chosen]]
        assert np.allclose(value.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("block", ["mlp", "capsule", "egnn"])
def test_crystals_are_the_same_alone_and_in_any_company(runs: dict[str, Run], block: str) -> None:
    models = Models(runs[block])
    crystals = [crystal(made) for made in (perovskite(4.0, 4.3), rocksalt(5.6), wurtzite(3.8))]
    model = models.load(models.trainings[0])
    together = models.describe(crystals, model, exact=True)
    for i, own in enumerate(crystals):
        alone = models.describe([own], model, exact=True)
        nodes = slice(together.node_ptr[i], together.node_ptr[i + 1])
        assert np.allclose(alone.before, together.before[nodes], atol=1e-9)
        assert np.allclose(alone.after, together.after[nodes], atol=1e-9)
        assert np.allclose(alone.material[0], together.material[i], atol=1e-9)
        assert np.array_equal(together.numbers[together.atom_nodes(i, own)], own.numbers)
        # Equivalent atoms agree.
        after = together.after[together.atom_nodes(i, own)]
        representatives = together.after[together.orbit_nodes(i)]
        assert np.allclose(after, representatives[own.orbit], atol=1e-9)
        assert len(representatives) == own.orbit.max() + 1
    if block == "capsule":
        assert together.extras["presence"].shape == (3, 16)
        assert len(together.extras["share"]) == together.node_ptr[-1]


def test_asymmetric_units_and_full_cells_agree(runs: dict[str, Run]) -> None:
    models = Models(runs["capsule"])
    model = models.load(models.trainings[0])
    own = crystal(perovskite(4.0, 4.3))
    few, full = (models.describe([own], model, cells=cells, exact=True) for cells in ("asymmetric", "full"))
    assert (len(few.before), len(full.before)) == (4, 5)
    for name in ("before", "after"):
        of_atoms = getattr(few, name)[few.atom_nodes(0, own)]
        assert np.allclose(of_atoms, getattr(full, name)[full.atom_nodes(0, own)], atol=1e-9)


def test_untrained_models_are_those_from_which_training_began(runs: dict[str, Run], dataset: Dataset) -> None:
    models = Models(runs["mlp"])
    table, task = dataset.table, dataset.task
    fold = make_folds(task.kind, table.row, task.n_rows, table.target, 0)[1]
    graphs = GraphTensors(build_graphs(table, models.config.graph, jobs=1))
    options: dict[str, Any] = {"kind": task.kind, "seed": 0, "session": {}, "stopwatch": Stopwatch(), "initial": {}}
    begun = _FoldTrainer(models.config, graphs, table.target, fold, **options)
    mine = models.load(Training(0, 1), trained=False)
    state = begun._predictor.model.state_dict()
    for name, value in mine.state_dict().items():
        if name not in {"shift", "scale"}:
            assert torch.equal(value, state[name.removeprefix("model.")]), name
    trained = models.load(Training(0, 1))
    assert any(not torch.equal(value, state[name]) for name, value in trained.model.state_dict().items())


def test_loading_leaves_the_random_state_alone(runs: dict[str, Run]) -> None:
    models = Models(runs["mlp"])
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    models.load(models.trainings[0], trained=False)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_seed_with_most_folds_is_taken(tmp_path: Path, dataset: Dataset) -> None:
    run = store_models(tmp_path, dataset, folds=(0,), seeds=(0, 1))
    store_models(tmp_path, dataset, folds=(2,), seeds=(1,))
    assert Models(run).trainings == [Training(1, 0), Training(1, 2)]
    assert set(Models(run).tested_by.values()) == {Training(1, 0), Training(1, 2)}


def test_a_part_is_drawn_evenly_and_always_the_same(runs: dict[str, Run], dataset: Dataset) -> None:
    models = Models(runs["mlp"])
    every = rows_of_trainings(models, dataset.table)
    drawn = draw_test_rows(models, dataset.table, at_most=8)
    again = draw_test_rows(models, dataset.table, at_most=8)
    assert 4 <= sum(map(len, drawn.values())) <= 8
    for training, rows in drawn.items():
        assert set(rows) <= set(every[training])
        assert np.array_equal(rows, again[training])
    described = describe_test_rows(models, dataset.table)
    assert np.array_equal(described.rows[described.fold == 0], every[Training(0, 0)])
    assert described.n_rows == sum(map(len, every.values()))
    inequivalent = inequivalent_rows(dataset.table, every[Training(0, 0)])
    assert 0 < len(inequivalent) < len(every[Training(0, 0)])


@pytest.mark.parametrize("block", ["capsule", "egnn"])
def test_what_is_described_once_is_the_same_for_all(
    runs: dict[str, Run], dataset: Dataset, block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.environments.description._kept", {})
    models, table = Models(runs[block]), dataset.table
    calls: list[int] = []
    describe = Models.describe

    def counted(self: Models, crystals: Any, model: Any, **options: Any) -> Environments:
        calls.append(len(crystals))
        return describe(self, crystals, model, **options)

    monkeypatch.setattr(Models, "describe", counted)
    every = describe_test_rows(models, table)
    assert sum(calls) == len(every.rows) == every.n_rows
    assert np.array_equal(every.rows, np.concatenate([every.rows[every.fold == fold] for fold in (0, 1)]))
    assert all((np.diff(every.rows[every.fold == fold]) > 0).all() for fold in (0, 1))
    # In the order of the rows, each crystal with all that belongs to it.
    for i, row in enumerate(every.rows.tolist()):
        own = table.crystal(row)
        model = models.load(Training(0, int(every.fold[i])))
        alone, found = describe(models, [own], model), every.environments
        nodes = slice(found.node_ptr[i], found.node_ptr[i + 1])
        assert _agree(found.before[nodes], alone.before)
        assert _agree(found.after[nodes], alone.after)
        assert _agree(found.material[i], alone.material[0])
        assert np.array_equal(found.numbers[nodes], alone.numbers)
        assert np.array_equal(found.orbit_nodes(i) - found.node_ptr[i], alone.orbit_nodes(0))
        for name, values in alone.extras.items():
            at = nodes if len(values) == len(alone.numbers) else slice(i, i + 1)
            assert _agree(found.extras[name][at], values)
    describe_test_rows(models, table)
    assert sum(calls) == len(every.rows)


def test_environments_are_kept_by_rows_and_device(
    runs: dict[str, Run], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.environments.description._kept", {})
    models, table = Models(runs["mlp"]), dataset.table
    every = describe_test_rows(models, table)
    monkeypatch.setattr("reports.environments.description.draw_test_rows", partial(draw_test_rows, at_most=8))
    few = describe_test_rows(models, table)
    assert len(few.rows) == len(few.environments) <= 8 < len(every.rows)
    at = [every.rows.tolist().index(row) for row in few.rows.tolist()]
    assert _agree(few.environments.material, every.environments.material[at])
    devices: list[str] = []
    describe = Models.describe

    def noted(self: Models, crystals: Any, model: Any, **options: Any) -> Environments:
        devices.append(self.device)
        return describe(self, crystals, model, **options)

    monkeypatch.setattr(Models, "describe", noted)
    describe_test_rows(models, table)
    assert devices == []
    models.device = "cpu:0"
    describe_test_rows(models, table)
    assert devices == ["cpu:0"] * 2


def test_progress_counts_rows(runs: dict[str, Run], dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.environments.description._kept", {})
    monkeypatch.setattr("reports.environments.description._CHUNK", 3)
    models = Models(runs["mlp"])
    shown: list[tuple[int, int | None]] = []

    def steps() -> list[tuple[int, int | None]]:
        shown.clear()
        describe_test_rows(models, dataset.table, progress=lambda done, total: shown.append((done, total)))
        return [*shown]

    n, first, again = len(models.tested_by), steps(), steps()
    for found in (first, again):
        assert found == sorted(found)
        assert found[-1] == (n, n)
        assert {total for _, total in found} == {n}
    # The second time the environments are known, and each fold is one step.
    assert len(first) > len(again) == 2


def _agree(values: NDArray[np.float32], others: NDArray[np.float32]) -> bool:
    """Whether arrays agree to float32, whose rounding is that of the largest terms of the sums behind them."""
    return np.allclose(values, others, rtol=0, atol=1e-5 * max(1, np.abs(others).max()))


def test_what_cannot_be_described(runs: dict[str, Run], dataset: Dataset, tmp_path: Path) -> None:
    empty = Run(tmp_path / "empty" / runs["mlp"].path.name)
    empty.write_config(runs["mlp"].read_config())
    with pytest.raises(UsageError, match="no finished fold"):
        Models(empty)
    n = len(Models(runs["mlp"]).tested_by)
    with pytest.raises(Absent, match=rf"lack \d+ of the {n} rows that .* was tested on, such as mb-jdft2d-\d+"):
        rows_of_trainings(Models(runs["mlp"]), dataset.table.slice(0, 5))
    run = store_models(tmp_path, dataset, folds=(0,))
    from safetensors.torch import save

    replace_file(run.training_path(Training(0, 0)), "model.safetensors", save({"weight": torch.zeros(1)}))
    with pytest.raises(DataError, match="do not fit this version"):
        Models(run).load(Training(0, 0))


def test_a_fold_whose_weights_were_removed_is_left_out_and_named(tmp_path: Path, dataset: Dataset) -> None:
    run = store_models(tmp_path, dataset, folds=(0, 1, 2), seeds=(0, 1))
    (run.training_path(Training(0, 1)) / "model.safetensors").unlink()
    # The other seed has more folds with weights now.
    assert [training.seed for training in Models(run).trainings] == [1, 1, 1]
    assert Models(run).problems == []
    (run.training_path(Training(1, 2)) / "model.safetensors").unlink()
    models = Models(run)
    assert models.trainings == [Training(0, 0), Training(0, 2)]
    assert len(models.problems) == 1
    assert "The weights of fold 1, seed 0 of" in models.problems[0]
    assert set(models.tested_by.values()) == {Training(0, 0), Training(0, 2)}
    for path in tmp_path.rglob("model.safetensors"):
        path.unlink()
    with pytest.raises(DataError, match=r"holds no weights \(they were removed"):
        Models(run)


def test_a_fold_whose_weights_do_not_fit_is_left_out_and_named(tmp_path: Path, dataset: Dataset) -> None:
    from safetensors.torch import save

    run = store_models(tmp_path, dataset, folds=(0, 1))
    replace_file(run.training_path(Training(0, 0)), "model.safetensors", save({"weight": torch.zeros(1)}))
    models = Models(run)
    models.keep_loadable()
    assert models.trainings == [Training(0, 1)]
    assert "fold_0 do not fit this version" in models.problems[0]


def test_the_models_of_a_study_are_opened_once_and_those_of_the_capsule_block_come_first(tmp_path: Path) -> None:
    data = made_dataset(tmp_path / "data", mixed_rows(36))
    for block in ("egnn", "mlp", "capsule"):
        store_models(tmp_path / "runs", data, variant=block, folds=(0,))
    next((tmp_path / "runs").rglob("egnn-*/**/model.safetensors")).unlink()
    (study,) = read_studies([tmp_path / "runs"], data_dir=tmp_path / "data")
    opened = open_models(study, "before")
    assert [result.label for result, _ in opened.runs] == ["capsule", "mlp"]
    assert [models.run for _, models in opened.runs] == [result.run for result, _ in opened.runs]
    (problem,) = opened.problems
    assert "egnn-" in problem
    assert open_models(study, "after").runs[0][1] is opened.runs[0][1]
