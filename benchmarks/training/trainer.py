"""Training of a model on one fold, by the recipe of its configuration."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.base.errors import RunError, UnlearntError, UsageError, printable
from benchmarks.base.interrupts import Interrupted
from benchmarks.base.stopwatch import Stopwatch
from benchmarks.data.folds import Fold
from benchmarks.results.run_config import RunConfig, TrainingConfig, get_variant, is_fitted
from benchmarks.training.checkpoints import Checkpoint, DamagedCheckpoint, read_checkpoint, write_checkpoint
from benchmarks.training.loader import GraphTensors, epoch_batches, evaluation_batches
from benchmarks.training.pretrained import freeze, take, with_current_names
from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock
from sen.config import SENConfig
from sen.models import CrystalModel, FittedModel, run_model
from sen.network import SEN, Readout, property_head
from sen.registry import guard, how_to_check, variant_code, variant_kind

# A state has some 90 MB at the default sizes: writing it takes less than one per cent of a minute's training.
CHECKPOINT_SECONDS = 60.0

Module = TypeVar("Module", bound=nn.Module)

# The best of many epochs may beat a constant by chance, but not by this factor.
_LEARNT = 0.98

__all__ = [
    "Epoch",
    "Predictor",
    "TrainedFold",
    "Update",
    "build_model",
    "check_model",
    "guard_model",
    "learning_rate",
    "n_parameters",
    "parameters_by_part",
    "predict",
    "probabilities",
    "train_fold",
    "untrained_model",
]


class Predictor(nn.Module):
    """A model with the standardisation of its target, which comes from training rows and is saved with the weights.

    Args:
        model: The model, which predicts (y - shift) / scale; for classification shift is 0 and scale 1.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, model: CrystalModel) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def standardise(self, target: NDArray[np.float64]) -> None:
        """Take shift and scale from the targets of the training rows [n]."""
        self.shift.fill_(float(target.mean()))
        self.scale.fill_(float(target.std()) or 1.0)

    def in_unit(self, standardised: Tensor) -> Tensor:
        """Return standardised predictions of any shape in the unit of the target; logits as they are."""
        return self.shift + self.scale * standardised

    def forward(self, batch: CrystalBatch) -> Tensor:
        """Predict [B] in the unit of the target, or logits for classification."""
        return self.in_unit(run_model(self.model, batch).prediction)

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load weights by their names, also those that sen-bench 0.1 stored.

        Raises:
            RuntimeError: They do not fit the model.
        """
        self.load_state_dict(with_current_names(weights))


@dataclass(frozen=True)
class Epoch:
    """One line of history.csv.

    Attributes:
        epoch: Counted from 1.
        train_loss: Mean loss over the training rows in standardised units.
        validation: MAE in the target's unit, or binary cross-entropy, of the averaged weights on validation rows; NaN
            where there are none.
        learning_rate: At the end of the epoch.
        seconds: Time since training began, see `Stopwatch`.
    """

    epoch: int
    train_loss: float
    validation: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class TrainedFold:
    """The model of a finished training, and how it was trained.

    Attributes:
        predictor: The model with the averaged weights of the best epoch.
        history: One entry per epoch.
        best_epoch: Number of the epoch with the lowest validation error; the last one where all rows train.
        sessions: Facts about the processes that trained, several where the training was continued.
        seconds_before: Time that all of them but the last took, see `Stopwatch`.
    """

    predictor: Predictor
    history: list[Epoch]
    best_epoch: int
    sessions: list[dict[str, Any]]
    seconds_before: float


def check_model(config: RunConfig) -> None:
    """Check that the configured model can be built; of SEN only what follows the features, at a lower cost.

    Raises:
        UsageError: See `build_model`.
    """
    model, block = get_variant(config.variant)
    with _guard_construction(config.variant):
        if block is None:
            model(config.model)
        else:
            assert isinstance(config.model, SENConfig)
            property_head(Readout(_build_block(block, config), config.model).width, config.model)


def build_model(config: RunConfig) -> CrystalModel:
    """Build the configured model, its weights drawn from torch's current random state.

    Raises:
        UsageError: The model or the block refuses its configuration, or cannot be built at all.
    """
    model, block = get_variant(config.variant)
    with _guard_construction(config.variant):
        if block is None:
            return model(config.model)
        assert isinstance(config.model, SENConfig)
        return SEN(config.model, _build_block(block, config))


def _build_block(block: type[SymmetryBlock], config: RunConfig) -> SymmetryBlock:
    assert isinstance(config.model, SENConfig)
    assert config.block is not None
    return block(config.model.environment_width, config.block)


# What torch says of tensors that cannot exist.
_TOO_LARGE = ("can't allocate memory", "out of memory", "size calculation overflowed", "Overflow when unpacking")


def _guard_construction(variant: str) -> AbstractContextManager[None]:
    named = f"{variant_kind(variant)} {variant!r}"

    def explain(error: Exception) -> UsageError:
        if any(sign in str(error) for sign in _TOO_LARGE):
            return UsageError(f"The {named} cannot be built: its weights fit into no memory. Choose smaller sizes.")
        raised = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return UsageError(f"The {named} cannot be built: {raised}{error}")

    return guard(f"The {named} cannot be built.", explain)


def guard_model(
    variant: str,
    device: torch.device | str,
    *,
    action: str | None = None,
    passing: tuple[type[Exception], ...] = (),
) -> AbstractContextManager[None]:
    """Guard code that runs a model on a device, see `sen.registry.guard`.

    Args:
        variant: Name of the model, or of the block of SEN.
        device: Where the model runs.
        action: What the debug log says has failed, such as "The training of fold 0, seed 0"; default: the model.
        passing: Exceptions that are raised as they are.

    Raises:
        RunError: Memory ran out, or the model raised an exception.
    """
    kind = variant_kind(variant)
    subject = f"SEN with the block {variant!r}" if kind == "block" else f"The model {variant!r}"

    def explain(error: Exception) -> RunError:
        # torch's allocator on the CPU raises a bare RuntimeError.
        on_cpu = isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)
        if on_cpu or isinstance(error, torch.OutOfMemoryError):
            where = "cpu" if on_cpu else device
            return RunError(f"{where} ran out of memory: lower training.batch_size or training.edge_budget.")
        return RunError(
            f"{subject} raised {type(error).__name__}: {printable(error, 200)}. "
            f"{how_to_check(variant)} says which contracts the {kind} breaks."
        )

    return guard(f"{action or subject} failed.", explain, passing=passing)


def untrained_model(config: RunConfig, seed: int, fold: int) -> tuple[CrystalModel, np.random.Generator]:
    """Return the model from which the training on a fold begins, and the random generator of that training.

    The random state of torch is set as well: it draws the weights here, and the dropout of the training next.

    Raises:
        UsageError: See `build_model`.
    """
    rng = np.random.default_rng([seed, fold])
    torch.manual_seed(int(rng.integers(2**63)))
    return build_model(config), rng


def n_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def parameters_by_part(model: CrystalModel) -> dict[str, int]:
    """Return the number of trainable parameters of the features, block, readout and head of SEN; {} of other models."""
    return {name: n_parameters(part) for name, part in model.named_children()} if isinstance(model, SEN) else {}


@torch.no_grad()
def predict(
    predictor: Predictor,
    graphs: GraphTensors,
    crystals: NDArray[np.int64],
    *,
    edge_budget: int,
    stop: Callable[[], bool] = lambda: False,
) -> NDArray[np.float64]:
    """Predict the crystals at these positions [M], in this order: in units of the target, or logits for classification.

    Raises:
        Interrupted: `stop`, which is called before every batch, returned true.
    """
    predictor.eval()
    batches = evaluation_batches(crystals, predictor.model.cost(graphs.graph), edge_budget=edge_budget)
    predicted = []
    for chosen in batches:
        if stop():
            raise Interrupted
        predicted.append(predictor(graphs.batch(chosen)))
    result = np.empty(len(graphs))
    if batches:
        result[np.concatenate(batches)] = torch.cat(predicted).to("cpu", torch.float64).numpy()
    return result[crystals]


def probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of a true label for logits of any shape."""
    from scipy.special import expit

    result: NDArray[np.float64] = expit(logits)
    return result


def train_fold(
    config: RunConfig,
    graphs: GraphTensors,
    target: NDArray[np.float64],
    fold: Fold,
    *,
    kind: str,
    seed: int,
    initial: Mapping[str, Tensor] | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    checkpoint: Path | None = None,
    session: Mapping[str, Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
    stopwatch: Stopwatch | None = None,
) -> TrainedFold:
    """Train on the fold's training rows and choose the epoch by its validation rows; its test rows are never read.

    Without validation rows the last epoch counts.

    Args:
        config: The run's configuration.
        graphs: All graphs of the task, on the device to train on.
        target: Target of every row [M]; 0 or 1 for classification. Only training and validation rows are read.
        fold: Positions of the rows.
        kind: "regression" or "classification".
        seed: Determines initial weights, order of batches and dropout, together with the fold.
        initial: Weights from which the training starts where their names and shapes are those of the model's; see
            `TrainingConfig.frozen_epochs`.
        on_epoch: Called after every epoch.
        checkpoint: File for the state of the training, which is saved every minute, when it is stopped, and at the end.
            If the file exists, the training continues from it; on the same kind of CPU with the same number of threads
            the result is the same as without the interruption. A training that fails removes it.
        session: Facts about this process to add to `TrainedFold.sessions`.
        stop: Called after every step; whether to stop.
        stopwatch: Measures the training, in laps that `stop` may end. Default: a new one.

    Raises:
        UsageError: The model refuses its configuration.
        UnlearntError: The loss is not finite, or the best epoch is not 2 % better than a constant.
        Interrupted: `stop` returned true; the message says where the training is and whether its state is saved.
    """
    stopwatch = stopwatch or Stopwatch()
    given: dict[str, Any] = {"kind": kind, "seed": seed, "session": session or {}, "stopwatch": stopwatch}
    if is_fitted(config.variant):
        trained = _fit(config, graphs, target, fold, **given)
        on_epoch(trained.history[-1])
        if stop():
            raise Interrupted("fitted, and not yet tested")
        return trained
    begin = partial(_FoldTrainer, config, graphs, target, fold, initial=initial or {}, **given)
    return _train(begin, on_epoch, checkpoint, stop)


def _train(
    begin: Callable[[], _FoldTrainer],
    on_epoch: Callable[[Epoch], None],
    checkpoint: Path | None,
    stop: Callable[[], bool],
) -> TrainedFold:
    """Train epoch by epoch, from the checkpoint if there is one; see `train_fold`."""
    trainer = begin()
    if checkpoint is not None and checkpoint.exists():
        try:
            trainer.restore(read_checkpoint(checkpoint))
        except DamagedCheckpoint as damage:
            logging.getLogger("sen_bench").warning(
                "The checkpoint %s %s: it is not used, and the training starts over.", checkpoint, damage
            )
            trainer = begin()
    if trainer.history:
        on_epoch(trainer.history[-1])
    try:
        while not trainer.is_finished:
            on_epoch(trainer.run_epoch(checkpoint, stop))
        if checkpoint is not None:
            trainer.save(checkpoint)
        return trainer.result()
    except RunError:
        if checkpoint is not None:
            checkpoint.unlink(missing_ok=True)
        raise
    except Interrupted:
        place = f"in epoch {trainer.epoch} of {trainer.epochs}"
        if checkpoint is None:
            raise Interrupted(place) from None
        saved = "its state is saved" if trainer.save(checkpoint) else "its state could not be saved"
        raise Interrupted(f"{place}, {saved}") from None


def _fit(
    config: RunConfig,
    graphs: GraphTensors,
    target: NDArray[np.float64],
    fold: Fold,
    *,
    kind: str,
    seed: int,
    session: Mapping[str, Any],
    stopwatch: Stopwatch,
) -> TrainedFold:
    """Fit a model that is fitted at once; its history is one epoch."""
    model, rng = untrained_model(config, seed, fold.index)
    assert isinstance(model, FittedModel)
    predictor = Predictor(model).to(graphs.device)
    is_classification = kind == "classification"
    if not is_classification:
        predictor.standardise(target[fold.train])
    batches = evaluation_batches(fold.train, model.cost(graphs.graph), edge_budget=config.training.edge_budget)
    rows = np.concatenate(batches)
    standardised = (target[rows] - float(predictor.shift)) / float(predictor.scale)
    model.fit(
        map(graphs.batch, batches), standardised, is_classification=is_classification, seed=int(rng.integers(2**32))
    )
    predicted = predict(predictor, graphs, rows, edge_budget=config.training.edge_budget)
    error = F.binary_cross_entropy_with_logits if is_classification else F.l1_loss
    loss = float(error(torch.from_numpy(predicted), torch.from_numpy(target[rows]))) / float(predictor.scale)
    epoch = Epoch(1, loss, math.nan, 0.0, stopwatch.lap())
    return TrainedFold(predictor, [epoch], 1, [dict(session)], 0.0)


class _FoldTrainer:
    """A training under way, with everything that its next step depends on, so that it can be saved and continued.

    Attributes:
        epoch: The current epoch, counted from 1.
        epochs: Number of epochs of the recipe.
        history: One entry per finished epoch.
    """

    def __init__(
        self,
        config: RunConfig,
        graphs: GraphTensors,
        target: NDArray[np.float64],
        fold: Fold,
        *,
        kind: str,
        seed: int,
        initial: Mapping[str, Tensor],
        session: Mapping[str, Any],
        stopwatch: Stopwatch,
    ) -> None:
        self._graphs, self._fold = graphs, fold
        self._recipe = recipe = config.training
        model, self._rng = untrained_model(config, seed, fold.index)
        self._predictor = predictor = Predictor(model).to(graphs.device)
        self._taken = frozenset(take(predictor, initial))
        self._cost = model.cost(graphs.graph)
        is_regression = kind == "regression"
        if is_regression:
            predictor.standardise(target[fold.train])
        self._update = Update(predictor, recipe, model.undecayed())
        self._error = F.l1_loss if is_regression else F.binary_cross_entropy_with_logits
        self._loss = F.mse_loss if is_regression and recipe.loss == "mse" else self._error
        self._target = (
            torch.tensor(target, dtype=torch.float32, device=graphs.device) - predictor.shift
        ) / predictor.scale
        self._validation_target = torch.from_numpy(target[fold.validation])
        self._chooses_epoch = len(fold.validation) > 0
        self._constant_error = _constant_error(target[fold.train], target[fold.validation], kind, recipe.loss)

        self.epoch, self.epochs = 1, recipe.epochs
        self.history: list[Epoch] = []
        self._step = 0
        self._total = torch.zeros((), device=graphs.device)
        self._best, self._best_epoch = math.inf, 0
        self._best_weights: dict[str, Tensor] = {}
        self._epoch_rng = self._rng.bit_generator.state
        self._sessions = [dict(session)]
        self._identity = _identity(config, target, fold, kind, seed)
        self._stopwatch, self._seconds_before = stopwatch, 0.0
        self._saved = time.perf_counter()

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, or the validation error has not improved for `patience` epochs."""
        is_stuck = self._chooses_epoch and self.epoch - 1 - self._best_epoch >= self._recipe.patience
        return is_stuck or self.epoch > self._recipe.epochs

    def run_epoch(self, checkpoint: Path | None, stop: Callable[[], bool]) -> Epoch:
        """Run the rest of the current epoch, and return its line of the history."""
        recipe, fold = self._recipe, self._fold
        batches = epoch_batches(
            fold.train, self._cost, size=recipe.batch_size, edge_budget=recipe.edge_budget, rng=self._rng
        )
        self._predictor.train()
        freeze(self._predictor, self._taken, frozen=self.epoch <= recipe.frozen_epochs)
        for i in range(self._step, len(batches)):
            chosen = batches[i]
            loss = _backward(self._predictor.model, self._graphs, chosen, self._target, self._loss, recipe)
            self._total += loss * len(chosen)
            self._update(self._progress(i, len(batches)))
            self._step = i + 1
            if stop():
                raise Interrupted
            if checkpoint is not None and time.perf_counter() - self._saved >= CHECKPOINT_SECONDS:
                self.save(checkpoint)
        train_loss = float(self._total) / len(fold.train)
        if not math.isfinite(train_loss):
            raise UnlearntError(
                f"Training diverged: the loss of epoch {self.epoch} is {train_loss}. Lower training.learning_rate "
                f"(now {recipe.learning_rate:g})."
            )
        rate = learning_rate(self._progress(len(batches) - 1, len(batches)), recipe)
        self.history.append(Epoch(self.epoch, train_loss, self._validate(stop), rate, self._seconds()))
        if not self._chooses_epoch:
            self._best_epoch = self.epoch
        elif (validation := self.history[-1].validation) < self._best:
            self._best, self._best_epoch = validation, self.epoch
            self._best_weights = copy.deepcopy(self._update.averaged.state_dict())
        self.epoch, self._step = self.epoch + 1, 0
        self._total.zero_()
        self._epoch_rng = self._rng.bit_generator.state
        return self.history[-1]

    def _validate(self, stop: Callable[[], bool]) -> float:
        """Return the error of the averaged weights on the validation rows; NaN where there are none."""
        if not self._chooses_epoch:
            return math.nan
        rows, budget = self._fold.validation, self._recipe.edge_budget
        predicted = predict(self._update.averaged, self._graphs, rows, edge_budget=budget, stop=stop)
        return float(self._error(torch.from_numpy(predicted), self._validation_target))

    def result(self) -> TrainedFold:
        """Return the model of the best epoch.

        Raises:
            UnlearntError: It is not 2 % better than a constant on the validation rows; without them, on the training
                rows.
        """
        judged, what = (
            (self._best, "best validation error") if self._chooses_epoch else (self.history[-1].train_loss, "last loss")
        )
        # If all rows have the same target, a constant may be exact, and nothing can be better.
        if not judged < (_LEARNT * self._constant_error or math.inf):
            raise UnlearntError(
                f"Training collapsed: the {what}, {judged:.4g}, is not {1 - _LEARNT:.0%} below the "
                f"{self._constant_error:.4g} of a constant. Train longer or on more rows, or lower "
                f"training.learning_rate (now {self._recipe.learning_rate:g})."
            )
        self._predictor.load_state_dict(self._best_weights or self._update.averaged.state_dict())
        return TrainedFold(self._predictor, self.history, self._best_epoch, self._sessions, self._seconds_before)

    def save(self, path: Path) -> bool:
        """Save the state, and return whether that succeeded. A failure is only logged: the training continues."""
        self._saved = time.perf_counter()
        try:
            write_checkpoint(path, self._state())
        except OSError as error:
            logging.getLogger("sen_bench").warning("The state of the training cannot be saved in %s (%s).", path, error)
            return False
        return True

    def restore(self, state: Checkpoint) -> None:
        """Continue from a saved state.

        Raises:
            DamagedCheckpoint: It is not a state of this training, which must not be used after the error.
        """
        tensors, facts = partial(_below, state.tensors), state.facts
        if facts.get("identity") != self._identity:
            raise DamagedCheckpoint("belongs to another training (other rows, seed, configuration, version or code)")
        try:
            self._predictor.load_state_dict(tensors("predictor"))
            self._update.averaged.load_state_dict(tensors("averaged"))
            self._update.count = facts["updates"]
            self._best_weights = tensors("best")
            self._load_optimizer(tensors("optimizer"))
            self.history = [Epoch(*line) for line in facts["history"]]
            self.epoch, self._step = facts["epoch"], facts["step"]
            self._best_epoch = facts["best_epoch"]
            if self._chooses_epoch and self._best_epoch:
                self._best = self.history[self._best_epoch - 1].validation
            self._rng.bit_generator.state = self._epoch_rng = facts["rng"]
            self._sessions = [*facts["sessions"], *self._sessions]
            self._seconds_before = facts["seconds"]
            self._total = state.tensors["loss"].to(self._graphs.device)
            torch.set_rng_state(state.tensors["rng.cpu"])
            if self._graphs.device.type == "cuda" and "rng.cuda" in state.tensors:
                torch.cuda.set_rng_state(state.tensors["rng.cuda"], self._graphs.device)
        except (RuntimeError, LookupError, ValueError, TypeError) as error:
            raise DamagedCheckpoint(f"does not fit this version of the code ({type(error).__name__})") from error

    def _progress(self, batch: int, n_batches: int) -> float:
        """Share of the training that is done before a batch of the epoch."""
        return (self.epoch - 1 + batch / n_batches) / self._recipe.epochs

    def _seconds(self) -> float:
        return self._seconds_before + self._stopwatch.lap()

    def _state(self) -> Checkpoint:
        optimizer = {
            f"{index}.{name}": value
            for index, values in self._update.optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }
        parts = {
            "predictor": self._predictor.state_dict(),
            "averaged": self._update.averaged.state_dict(),
            "best": self._best_weights,
            "optimizer": optimizer,
        }
        tensors = {f"{part}.{name}": tensor for part, content in parts.items() for name, tensor in content.items()}
        tensors |= {"loss": self._total, "rng.cpu": torch.get_rng_state()}
        if self._graphs.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self._graphs.device)
        facts = {
            "identity": self._identity,
            "epoch": self.epoch,
            "step": self._step,
            "updates": self._update.count,
            "history": [astuple(epoch) for epoch in self.history],
            "best_epoch": self._best_epoch,
            "rng": self._epoch_rng,
            "sessions": self._sessions,
            "seconds": self._seconds(),
        }
        return Checkpoint(tensors, facts)

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            index, _, moment = name.partition(".")
            state.setdefault(int(index), {})[moment] = tensor
        optimizer = self._update.optimizer
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        # The fused AdamW goes through weights and moments in the order of memory, and a file keeps no layout.
        for parameter, values in optimizer.state.items():
            for moment in ("exp_avg", "exp_avg_sq"):
                values[moment] = torch.empty_like(parameter).copy_(values[moment])


def _identity(config: RunConfig, target: NDArray[np.float64], fold: Fold, kind: str, seed: int) -> str:
    """Return a hash of everything that determines a training, except the crystals and the device.

    The folder of the run stands for the crystals. The versions of the code are included, because a training that was
    continued by another version would belong to neither of them.
    """
    code = f"sen-bench {version('sen-bench')} torch {torch.__version__.partition('+')[0]}"
    if of_plug_in := variant_code(config.variant):
        code += f" {of_plug_in}"
    content = hashlib.sha256(f"{code} {config.model_dump_json()} {kind} {seed} {fold.index}".encode())
    for rows in (fold.train, fold.validation):
        content.update(rows.tobytes() + target[rows].tobytes())
    return content.hexdigest()


def _below(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `part`, without that prefix."""
    return {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}


def _backward(
    model: CrystalModel,
    graphs: GraphTensors,
    chosen: NDArray[np.int64],
    target: Tensor,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    recipe: TrainingConfig,
) -> Tensor:
    """Add the gradients of a batch; return its mean loss, still on the device."""
    with _multiplied_in(recipe.precision, graphs.device):
        with torch.autocast(graphs.device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            predicted = run_model(model, graphs.batch(chosen)).prediction.float()
        loss = loss_function(predicted, target[torch.from_numpy(chosen).to(graphs.device, non_blocking=True)])
        loss.backward()
    return loss.detach()


@contextmanager
def _multiplied_in(precision: str, device: torch.device) -> Iterator[None]:
    """Let a GPU multiply float32 matrices with the 10 bits of TF32, if that is the precision."""
    if precision != "tf32" or device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


class Update(Generic[Module]):
    """The update of the weights in a step: gradients are clipped, the optimiser moves the weights, which are averaged.

    The average is an exponential moving average. Its decay grows from 0 to `ema_decay`, as (1 + n) / (10 + n) after n
    steps, so that it forgets the first weights. Running statistics, as all buffers of floating-point numbers, are
    averaged with the weights that they belong to. Nothing here waits for the device.

    Args:
        module: What is trained.
        recipe: How.
        undecayed: Its parameters without weight decay.

    Attributes:
        averaged: The module with the averaged weights.
        optimizer: AdamW or Adam.
        count: Steps made.
    """

    def __init__(self, module: Module, recipe: TrainingConfig, undecayed: Iterable[nn.Parameter] = ()) -> None:
        self._module, self._recipe = module, recipe
        self.averaged = copy.deepcopy(module)
        without = {id(parameter) for parameter in undecayed}
        groups = [
            {"params": [p for p in module.parameters() if id(p) not in without], "weight_decay": recipe.weight_decay},
            {"params": [p for p in module.parameters() if id(p) in without], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
        self.optimizer = optimizer(groups, fused=True)
        self.count = 0

    @torch.no_grad()
    def __call__(self, progress: float) -> None:
        """Update the weights after this share of the training, and clear the gradients."""
        recipe = self._recipe
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(progress, recipe)
            if recipe.schedule == "one-cycle":
                group["betas"] = (_momentum(progress, recipe), group["betas"][1])
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._module.parameters(), recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        decay = min(recipe.ema_decay, (1 + self.count) / (10 + self.count)) if self.count else 0
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self._module.parameters()), 1 - decay)
        for averaged, current in zip(self.averaged.buffers(), self._module.buffers(), strict=True):
            if current.is_floating_point():
                # The average of equal infinities, as in a mask, is no number.
                averaged.copy_(torch.where(averaged == current, current, averaged.lerp(current, 1 - decay)))
            else:
                averaged.copy_(current)
        self.count += 1


def learning_rate(progress: float, recipe: TrainingConfig) -> float:
    """Return the learning rate after this share of the training.

    It rises to its peak in the warm-up, stays there for the hold, and falls to its end along half a cosine or a line.
    It rises along a line from 0; in one cycle along half a cosine from 1/25 of the peak (Smith and Topin,
    arXiv:1708.07120, with PyTorch's defaults).
    """
    peak, end, rising, hold = recipe.learning_rate, recipe.final_learning_rate, recipe.warmup, recipe.hold
    if progress < rising:
        share = progress / rising
        return (
            peak / 25 + peak * (1 - 1 / 25) * (1 - _cosine(share)) if recipe.schedule == "one-cycle" else peak * share
        )
    falling = max(0.0, (progress - rising - hold) / (1 - rising - hold))
    return end + (peak - end) * (1 - falling if recipe.schedule == "linear" else _cosine(falling))


def _momentum(progress: float, recipe: TrainingConfig) -> float:
    """Return the first beta of Adam in one cycle: 0.95 at both ends, 0.85 where the learning rate is at its peak."""
    rising, hold = recipe.warmup, recipe.hold
    falling = max(0.0, (progress - rising - hold) / (1 - rising - hold))
    distance = _cosine(progress / rising) if progress < rising else 1 - _cosine(falling)
    return 0.85 + 0.1 * distance


def _cosine(share: float) -> float:
    """Return half a cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * share))


def _constant_error(train: NDArray[np.float64], validation: NDArray[np.float64], kind: str, loss: str) -> float:
    """Return the error of the best constant for the training rows: their median, mean, or share of ones.

    It is that on the validation rows or, where there are none, the loss on the training rows in standardised units.
    """
    judged = validation if len(validation) else train
    if kind == "classification":
        p = min(max(float(train.mean()), 1e-6), 1 - 1e-6)
        return float(-(judged * math.log(p) + (1 - judged) * math.log1p(-p)).mean())
    error = float(np.abs(judged - np.median(train)).mean())
    if len(validation):
        return error
    spread = float(train.std())
    return float(spread > 0) if loss == "mse" else error / (spread or 1.0)
