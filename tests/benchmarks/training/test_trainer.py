from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.base.errors import RunError, UsageError
from benchmarks.base.interrupts import Interrupted
from benchmarks.data.folds import Fold
from benchmarks.results.run_config import RunConfig, TrainingConfig, build_config
from benchmarks.training.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from benchmarks.training.loader import GraphTensors
from benchmarks.training.trainer import (
    Epoch,
    Predictor,
    TrainedFold,
    Update,
    _momentum,
    build_model,
    learning_rate,
    predict,
    train_fold,
)
from sen.crystal import refine
from sen.graph import Cells, build_graph, join_graphs
from tests.benchmarks.conftest import SMALL
from tests.conftest import own_names

FOLD = Fold(0, train=np.arange(40), validation=np.arange(40, 48), test=np.arange(48, 60))


@pytest.fixture(scope="module")
def task() -> tuple[GraphTensors, np.ndarray]:
    return rocksalt("asymmetric")


def rocksalt(cells: Cells) -> tuple[GraphTensors, np.ndarray]:
    """Crystals whose target is their lattice constant."""
    a = np.random.default_rng(0).uniform(4.5, 6.5, 60)
    fcc = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    crystals = [refine(x * fcc, [[0, 0, 0], [0.5, 0.5, 0.5]], [11, 17]) for x in a]
    return GraphTensors(join_graphs([build_graph(crystal, cells=cells) for crystal in crystals])), a


def config(*more: str, block: str = "mlp") -> RunConfig:
    of_mlp = block == "mlp"
    assignments = [option for option in SMALL if "=" in option and (of_mlp or not option.startswith("block."))]
    return build_config("prototypes", block, assignments=[*assignments, *more])


def test_training_learns_and_predicts_in_the_unit_of_the_target(task: tuple[GraphTensors, np.ndarray]) -> None:
    graphs, target = task
    trained = train_fold(config("training.epochs=25"), graphs, target, FOLD, kind="regression", seed=0)
    predicted = predict(trained.predictor, graphs, FOLD.test, edge_budget=1000)
    assert np.abs(predicted - target[FOLD.test]).mean() < 0.2 * np.abs(target - target.mean()).mean()
    assert trained.history[trained.best_epoch - 1].validation == min(epoch.validation for epoch in trained.history)


def test_test_targets_are_never_looked_at(task: tuple[GraphTensors, np.ndarray]) -> None:
    graphs, target = task
    hidden = target.copy()
    hidden[FOLD.test] = np.nan
    first, second = (
        train_fold(config("training.epochs=3"), graphs, values, FOLD, kind="regression", seed=0).predictor.state_dict()
        for values in (target, hidden)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_seed_decides(task: tuple[GraphTensors, np.ndarray]) -> None:
    graphs, target = task
    first, again, other = (
        train_fold(config("training.epochs=2"), graphs, target, FOLD, kind="regression", seed=seed).history[-1]
        for seed in (1, 1, 2)
    )
    assert first.train_loss == again.train_loss
    assert first.train_loss != other.train_loss


def test_classification_learns(task: tuple[GraphTensors, np.ndarray]) -> None:
    graphs, lattice_constant = task
    target = (lattice_constant > 5.5).astype(float)
    trained = train_fold(config("training.epochs=25"), graphs, target, FOLD, kind="classification", seed=0)
    predicted = predict(trained.predictor, graphs, FOLD.test, edge_budget=1000)
    assert ((predicted > 0) == (target[FOLD.test] == 1)).mean() > 0.8


def test_patience_ends_training(task: tuple[GraphTensors, np.ndarray]) -> None:
    graphs, target = task
    misled = target.copy()
    misled[FOLD.validation] = 11 - target[FOLD.validation]  # what is learnt from training rows is wrong here
    epochs: list[Epoch] = []
    run = config("training.epochs=60", "training.patience=3")
    with pytest.raises(RunError, match="collapsed"):
        train_fold(run, graphs, misled, FOLD, kind="regression", seed=0, on_epoch=epochs.append)
    best = int(np.argmin([epoch.validation for epoch in epochs]))
    assert len(epochs) == best + 1 + 3 < 60


def test_loss_that_is_not_finite_ends_the_fold(task: tuple[GraphTensors, np.ndarray]) -> None:
    graphs, target = task
    run = config("training.learning_rate=1e30", "training.warmup=0")
    with pytest.raises(RunError, match="learning_rate"):
        train_fold(run, graphs, target, FOLD, kind="regression", seed=0)


def test_prediction_does_not_depend_on_how_crystals_are_batched(task: tuple[GraphTensors, np.ndarray]) -> None:
    graphs, _ = task
    torch.manual_seed(0)
    predictor = Predictor(build_model(config()))
    crystals = np.array([7, 3, 50, 0, 21])
    together, alone = (predict(predictor, graphs, crystals, edge_budget=budget) for budget in (10_000, 1))
    np.testing.assert_allclose(together, alone, atol=1e-5)
    reverse = predict(predictor, graphs, crystals[::-1].copy(), edge_budget=1)
    np.testing.assert_allclose(together[::-1], reverse, atol=1e-5)


def test_weights_of_the_first_version_are_loaded(task: tuple[GraphTensors, np.ndarray]) -> None:
    graphs, target = task
    torch.manual_seed(0)
    stored, loaded = Predictor(build_model(config())), Predictor(build_model(config()))
    stored.standardise(target)
    weights = {name.removeprefix("model."): tensor for name, tensor in stored.state_dict().items()}
    assert {"shift", "scale", "head.1.weight"} < set(weights)
    loaded.load_weights(weights)
    crystals = np.arange(5)
    first, second = (predict(each, graphs, crystals, edge_budget=1000) for each in (stored, loaded))
    np.testing.assert_array_equal(first, second)
    with pytest.raises(RuntimeError, match="head"):
        loaded.load_weights({name: tensor for name, tensor in weights.items() if not name.startswith("head")})


def rates_of(**recipe: Any) -> list[float]:
    """Learning rates of the 1,000 steps of a training."""
    return [learning_rate(step / 1000, TrainingConfig(**recipe)) for step in range(1000)]


def test_learning_rate_rises_then_falls_to_zero() -> None:
    rates = rates_of(learning_rate=1.0)
    assert np.argmax(rates) == 100
    assert rates[100] == 1
    assert rates[0] == 0
    assert 0 < rates[-1] < 1e-5
    assert all(np.diff(rates[:101]) > 0)
    assert all(np.diff(rates[100:]) < 0)


def test_learning_rate_holds_and_falls_along_a_line() -> None:
    # MEGNet's of kgcnn: 100 of 1,000 epochs at the peak, then a line.
    rates = rates_of(learning_rate=5e-4, schedule="linear", warmup=0.0, hold=0.1, final_learning_rate=5e-6)
    assert set(rates[:101]) == {5e-4}
    np.testing.assert_allclose(np.diff(rates[100:]), (5e-6 - 5e-4) / 900, rtol=1e-6)
    assert rates[-1] == pytest.approx(5e-6, rel=0.12)


def test_one_cycle_is_that_of_torch() -> None:
    recipe = TrainingConfig(learning_rate=1e-3, schedule="one-cycle", warmup=0.3, final_learning_rate=1e-3 / 25e4)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=1001)
    for step in range(0, 1001, 50):
        while scheduler.last_epoch < step:
            optimizer.step()
            scheduler.step()
        group = optimizer.param_groups[0]
        # torch counts the share of the warm-up from the step before its end.
        assert learning_rate(step / 1000, recipe) == pytest.approx(group["lr"], rel=0.02, abs=1e-8)
        assert _momentum(step / 1000, recipe) == pytest.approx(group["betas"][0], abs=1e-3)


def test_recipe_must_leave_steps_in_which_the_learning_rate_falls() -> None:
    with pytest.raises(UsageError, match="leave no step in which it falls"):
        config("training.warmup=0.5", "training.hold=0.5")


ALL_ROWS = Fold(0, train=np.arange(48), validation=np.arange(0), test=np.arange(48, 60))


def test_without_validation_rows_the_last_epoch_counts(task: tuple[GraphTensors, np.ndarray]) -> None:
    graphs, target = task
    run = config("training.epochs=25", "training.validation=0", "training.patience=1")
    trained = train_fold(run, graphs, target, ALL_ROWS, kind="regression", seed=0)
    assert trained.best_epoch == len(trained.history) == 25
    assert all(np.isnan(epoch.validation) for epoch in trained.history)
    predicted = predict(trained.predictor, graphs, ALL_ROWS.test, edge_budget=1000)
    assert np.abs(predicted - target[ALL_ROWS.test]).mean() < 0.2 * np.abs(target - target.mean()).mean()


@pytest.mark.parametrize("loss", ["mae", "mse"])
def test_collapse_is_noticed_without_validation_rows(loss: str) -> None:
    crystal = refine(5.6 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], [55, 17])
    graphs = GraphTensors(join_graphs([build_graph(crystal, cells="asymmetric")] * 60))
    target = np.exp(np.linspace(0, 3, 60))
    run = config("training.epochs=20", "training.validation=0", f"training.loss={loss}")
    with pytest.raises(RunError, match="collapsed: the last loss"):
        train_fold(run, graphs, target, ALL_ROWS, kind="regression", seed=0)


@pytest.mark.parametrize(
    "recipe",
    [
        ["training.optimizer=adam", "training.weight_decay=0", "training.schedule=linear", "training.warmup=0"],
        ["training.schedule=one-cycle", "training.warmup=0.3", "training.loss=mse"],
        ["training.clip_norm=null", "training.ema_decay=0"],
    ],
)
def test_other_recipes_learn(task: tuple[GraphTensors, np.ndarray], recipe: list[str]) -> None:
    graphs, target = task
    trained = train_fold(config("training.epochs=25", *recipe), graphs, target, FOLD, kind="regression", seed=0)
    predicted = predict(trained.predictor, graphs, FOLD.test, edge_budget=1000)
    assert np.abs(predicted - target[FOLD.test]).mean() < 0.5 * np.abs(target - target.mean()).mean()


def test_without_averaging_the_last_weights_predict() -> None:
    model = build_model(config())
    update = Update(model, TrainingConfig(ema_decay=0.0, clip_norm=None), model.undecayed())
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        update(0.5)
    pairs = zip(update.averaged.parameters(), model.parameters(), strict=True)
    assert all(torch.equal(averaged, current) for averaged, current in pairs)


def test_running_statistics_are_averaged_with_the_weights() -> None:
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    module.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    update = Update(module, TrainingConfig(clip_norm=None))
    expected: list[torch.Tensor] = []
    for step in range(5):
        module(torch.tensor([[1.0], [3.0 + step]])).square().sum().backward()
        update(0.5)
        current = [module[0].weight.detach(), module[1].running_mean, module[1].running_var]
        decay = (1 + step) / (10 + step) if step else 0.0
        expected = [decay * mean + (1 - decay) * now for mean, now in zip(expected or current, current, strict=True)]
    weight, norm, mask = update.averaged[0].weight, update.averaged[1], update.averaged.mask
    assert not torch.allclose(norm.running_mean, module[1].running_mean, rtol=1e-2)
    torch.testing.assert_close([weight.detach(), norm.running_mean, norm.running_var], expected)
    assert norm.num_batches_tracked == 5
    assert mask.tolist() == [0.0, -math.inf]


@pytest.mark.parametrize("block", own_names("blocks"))
def test_every_matrix_of_every_block_decays(block: str) -> None:
    model = build_model(build_config("matbench_jdft2d", block))
    decayed, rest = Update(model, TrainingConfig(), model.undecayed()).optimizer.param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (3.0, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    assert len(decayed["params"]) + len(rest["params"]) == len(names)
    spared = {names[id(p)] for p in rest["params"] if p.ndim > 1}
    elements = {f"features.embedding.of_{what}.weight" for what in ("number", "group", "period", "properties")}
    assert spared - {"block.parts_bias"} == elements


def test_schedule_lasts_to_the_end_where_the_edge_budget_makes_more_steps(
    task: tuple[GraphTensors, np.ndarray],
) -> None:
    graphs, target = task
    rates = []
    for budget in (10_000, 40):  # 40 edges: one crystal a batch
        run = config("training.epochs=4", f"training.edge_budget={budget}", "training.batch_size=40")
        epochs: list[Epoch] = []
        with suppress(RunError):  # four steps are too few to learn anything
            train_fold(run, graphs, target, FOLD, kind="regression", seed=0, on_epoch=epochs.append)
        rates.append([epoch.learning_rate for epoch in epochs])
    assert rates[0][-2] > 0
    assert rates[1][-2] > 0.1 * max(rates[1])


def test_model_stuck_at_the_median_has_collapsed() -> None:
    # Equal crystals with skewed targets: a model can only learn a constant. On these validation rows the training rows'
    # median is the best one, and better than their mean, so it is the median that a model has to beat.
    crystal = refine(5.6 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], [55, 17])
    graphs = GraphTensors(join_graphs([build_graph(crystal, cells="asymmetric")] * 60))
    target = np.exp(np.linspace(0, 3, 60))
    target[FOLD.train] = np.exp(np.linspace(0, 3, 40))
    target[FOLD.validation] = np.median(target[FOLD.train]) + np.array([-3, -2, -1, -0.5, 0.5, 1, 2, 3])
    assert abs(np.median(target[FOLD.train]) - target[FOLD.train].mean()) > 1
    with pytest.raises(RunError, match="collapsed"):
        train_fold(config("training.epochs=20"), graphs, target, FOLD, kind="regression", seed=0)


def test_classifier_stuck_at_the_share_of_ones_has_collapsed() -> None:
    crystal = refine(5.6 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], [55, 17])
    graphs = GraphTensors(join_graphs([build_graph(crystal, cells="asymmetric")] * 60))
    target = np.tile([1.0, 1.0, 1.0, 0.0], 15)
    with pytest.raises(RunError, match="collapsed"):
        train_fold(config("training.epochs=20"), graphs, target, FOLD, kind="classification", seed=0)


def test_validation_rows_that_are_all_the_median_are_no_collapse(task: tuple[GraphTensors, np.ndarray]) -> None:
    graphs, target = task
    target = np.where(target > 6, target, 0.0)
    target[FOLD.validation] = np.median(target[FOLD.train])
    assert target[FOLD.train].any()
    trained = train_fold(config("training.epochs=2"), graphs, target, FOLD, kind="regression", seed=0)
    assert np.isfinite(predict(trained.predictor, graphs, FOLD.test, edge_budget=1000)).all()


def test_small_precision_trains(task: tuple[GraphTensors, np.ndarray]) -> None:
    graphs, target = task
    run = config("training.precision=bfloat16", "training.epochs=25")
    trained = train_fold(run, graphs, target, FOLD, kind="regression", seed=0)
    error = np.abs(predict(trained.predictor, graphs, FOLD.test, edge_budget=1000) - target[FOLD.test]).mean()
    assert error < 0.5 * np.abs(target - target.mean()).mean()


def stopped_after(steps: int) -> Callable[[], bool]:
    """Say no so many times, then yes."""
    answers = itertools.chain(itertools.repeat(False, steps), itertools.repeat(True))
    return lambda: next(answers)


NOT_DEEP = {"mlp", "capsule", "cgcnn", "schnet", "sen", "trees"}


# Five batches and one of validation rows make six questions in an epoch: stops in the middle, while the validation rows
# are predicted, at an epoch's last step, and soon after the start.
# Weights of capsule do not lie in memory in the order of their axes.
# cgcnn normalises over batches; trees are fitted at once, without a state.
@pytest.mark.usefixtures("unlearnt")
@pytest.mark.parametrize(
    ("variant", "steps"),
    [("mlp", 0), ("mlp", 4), ("mlp", 5), ("mlp", 8), ("mlp", 17), ("capsule", 8), ("cgcnn", 8), ("schnet", 8)]
    + [
        pytest.param(name, 8, marks=pytest.mark.deep)
        for name in sorted({*own_names("blocks"), *own_names("models")} - NOT_DEEP)
    ],
)
def test_stopped_training_goes_on_to_the_same_result(tmp_path: Path, variant: str, steps: int) -> None:
    if variant in own_names("blocks"):
        settings = config("training.epochs=3", "sen.dropout=0.2", block=variant)
    else:
        assignments = ["training.epochs=3", "training.batch_size=8", "training.validation=0.1"]
        settings = build_config("prototypes", variant, assignments=assignments)
    graphs, target = rocksalt(settings.graph.cells)

    def train(**options: Any) -> TrainedFold:
        return train_fold(settings, graphs, target, FOLD, kind="regression", seed=0, **options)

    undisturbed = train()
    file = tmp_path / "state.safetensors"
    with pytest.raises(Interrupted, match="of 3, its state is saved"):
        train(checkpoint=file, stop=stopped_after(steps))
    continued = train(checkpoint=file)
    assert_same(continued, undisturbed)
    assert len(continued.sessions) == 2
    seconds = [0, continued.seconds_before, *(epoch.seconds for epoch in continued.history)]
    assert seconds[0] < seconds[1] < seconds[-1]
    assert seconds[2:] == sorted(seconds[2:])
    # A finished training is not repeated: its state leads straight to its result.
    assert_same(train(checkpoint=file, stop=stopped_after(0)), undisturbed)


def assert_same(first: TrainedFold, second: TrainedFold) -> None:
    expected = second.predictor.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in first.predictor.state_dict().items())
    assert first.best_epoch == second.best_epoch
    assert [replace(epoch, seconds=0) for epoch in first.history] == [
        replace(epoch, seconds=0) for epoch in second.history
    ]


@pytest.mark.parametrize("damage", ["cut", "flipped", "another fold", "another version"])
def test_damaged_state_is_said_to_be_and_training_begins_anew(
    task: tuple[GraphTensors, np.ndarray], tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    graphs, target = task
    settings = config("training.epochs=2", "sen.dropout=0.2")
    file = tmp_path / "state.safetensors"
    fold = Fold(1, FOLD.train, FOLD.validation, FOLD.test) if damage == "another fold" else FOLD
    with pytest.raises(Interrupted):
        train_fold(settings, graphs, target, fold, kind="regression", seed=0, checkpoint=file, stop=stopped_after(7))
    content = bytearray(file.read_bytes())
    if damage == "cut":
        del content[-100:]
    if damage == "flipped":
        content[-100] ^= 1
    file.write_bytes(content)
    if damage == "another version":
        tensors, facts = read_checkpoint(file)
        write_checkpoint(file, Checkpoint({name: t for name, t in tensors.items() if "bias" not in name}, facts))
    trained = train_fold(settings, graphs, target, FOLD, kind="regression", seed=0, checkpoint=file)
    reasons = {"another fold": "belongs to another training", "another version": "does not fit this version"}
    reasons |= {"cut": "is cut short", "flipped": "is altered"}
    assert f"{file} {reasons[damage]}" in caplog.text
    assert len(trained.sessions) == 1
    assert_same(trained, train_fold(settings, graphs, target, FOLD, kind="regression", seed=0))


def test_training_that_failed_leaves_no_state(task: tuple[GraphTensors, np.ndarray], tmp_path: Path) -> None:
    graphs, target = task
    noise = np.random.default_rng(1).normal(size=len(target))
    file = tmp_path / "state.safetensors"
    settings = config("training.epochs=1", "training.learning_rate=1e-9")
    with pytest.raises(RunError, match="collapsed"):
        train_fold(settings, graphs, noise, FOLD, kind="regression", seed=0, checkpoint=file)
    assert not file.exists()


def test_a_model_that_is_fitted_reads_the_training_rows_alone_and_at_once(
    task: tuple[GraphTensors, np.ndarray],
) -> None:
    graphs, target = task
    hidden = target.copy()
    hidden[FOLD.validation] = hidden[FOLD.test] = np.nan
    fit = partial(train_fold, build_config("prototypes", "trees"), graphs, fold=FOLD, kind="regression")
    (trained, again, other), epochs = (fit(values, seed=s) for values, s in ((target, 0), (hidden, 0), (target, 1))), []
    states = [training.predictor.state_dict() for training in (trained, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["model.threshold"][:9], states[2]["model.threshold"][:9])
    predicted = predict(trained.predictor, graphs, FOLD.test, edge_budget=1000)
    assert np.abs(predicted - target[FOLD.test]).mean() < 0.2 * np.abs(target - target.mean()).mean()
    (epoch,) = trained.history
    assert (epoch.epoch, trained.best_epoch) == (1, 1)
    assert epoch.train_loss < 1e-5
    with pytest.raises(Interrupted, match="fitted, and not yet tested"):
        fit(target, seed=0, on_epoch=epochs.append, stop=lambda: True)
    assert len(epochs) == 1


def test_a_classifier_that_is_fitted_learns(task: tuple[GraphTensors, np.ndarray]) -> None:
    graphs, lattice_constant = task
    target = (lattice_constant > 5.5).astype(float)
    run = build_config("prototypes", "trees")
    trained = train_fold(run, graphs, target, FOLD, kind="classification", seed=0)
    predicted = predict(trained.predictor, graphs, FOLD.test, edge_budget=1000)
    assert ((predicted > 0) == (target[FOLD.test] == 1)).mean() > 0.8


@pytest.mark.usefixtures("unlearnt")
def test_frozen_weights_do_not_change_in_the_first_epochs_and_a_continued_training_keeps_that(
    task: tuple[GraphTensors, np.ndarray], tmp_path: Path
) -> None:
    graphs, target = task
    fold = Fold(0, np.arange(48), np.arange(0), FOLD.test)  # the last epoch counts
    initial = train_fold(config("training.epochs=3"), graphs, target, FOLD, kind="regression", seed=0)
    weights = initial.predictor.state_dict()

    def train(epochs: int, **options: Any) -> TrainedFold:
        settings = config(f"training.epochs={epochs}", "training.frozen_epochs=1", "training.learning_rate=1e-3")
        return train_fold(settings, graphs, target, fold, kind="regression", seed=1, initial=weights, **options)

    for epochs in (1, 2):
        after = train(epochs).predictor.state_dict()
        changed = {name for name in weights if "." in name and not torch.equal(weights[name], after[name])}
        only_head = all(name.startswith("model.head.") for name in changed)
        assert changed
        assert only_head is (epochs == 1)
    file = tmp_path / "state.safetensors"
    with pytest.raises(Interrupted):
        train(2, checkpoint=file, stop=stopped_after(2))
    assert_same(train(2, checkpoint=file), train(2))
