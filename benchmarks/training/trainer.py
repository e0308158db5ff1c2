"""Training on one fold: MAE (or binary cross-entropy), AdamW, warm-up and decay, clipping, averaged weights."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
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

from benchmarks.base.errors import RunError, UsageError, printable
from benchmarks.base.interrupts import Interrupted
from benchmarks.base.stopwatch import Stopwatch
from benchmarks.data.folds import Fold
from benchmarks.results.run_config import RunConfig, TrainingConfig, get_block
from benchmarks.training.checkpoints import Checkpoint, DamagedCheckpoint, read_checkpoint, write_checkpoint
from benchmarks.training.loader import GraphTensors, epoch_batches, evaluation_batches
from sen.elements import ElementEmbedding
from sen.model import SEN, property_head
from sen.registry import block_code, guard

# A state has some 90 MB at the default sizes: writing it takes less than one per cent of a minute's training.
CHECKPOINT_SECONDS = 60.0

Model = TypeVar("Model", bound=nn.Module)

# The best of many epochs may beat a constant by chance, but not by this factor.
_LEARNT = 0.98

__all__ = [
    "Epoch",
    "TrainedFold",
    "Update",
    "build_model",
    "check_block",
    "guard_model",
    "n_parameters",
    "predict",
    "probabilities",
    "train_fold",
    "untrained_model",
]


@dataclass(frozen=True)
class Epoch:
    """One line of history.csv.

    Attributes:
        epoch: Counted from 1.
        train_loss: Mean loss over the training rows in standardised units.
        validation: MAE in the target's unit, or binary cross-entropy, of the averaged weights on validation rows.
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
        model: SEN with the averaged weights of the best epoch.
        history: One entry per epoch.
        best_epoch: Number of the epoch with the lowest validation error.
        sessions: Facts about the processes that trained, several where the training was continued.
        seconds_before: Time that all of them but the last took, see `Stopwatch`.
    """

    model: SEN
    history: list[Epoch]
    best_epoch: int
    sessions: list[dict[str, Any]]
    seconds_before: float


def check_block(config: RunConfig) -> None:
    """Check that the configured block can be built, at a lower cost than that of a whole model.

    Raises:
        UsageError: See `build_model`.
    """
    block = get_block(config.block_name)
    with _guard_construction(config.block_name):
        property_head(block(config.sen.environment_width, config.block).material_width, config.sen)


def build_model(config: RunConfig) -> SEN:
    """Build SEN with the configured block, its weights drawn from torch's current random state.

    Raises:
        UsageError: The block refuses its configuration, or cannot be built at all.
    """
    block = get_block(config.block_name)
    with _guard_construction(config.block_name):
        return SEN(config.sen, block(config.sen.environment_width, config.block))


def _guard_construction(block_name: str) -> AbstractContextManager[None]:
    def explain(error: Exception) -> UsageError:
        raised = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return UsageError(f"The block {block_name!r} cannot be built: {raised}{error}")

    return guard(f"The block {block_name!r} cannot be built.", explain)


def guard_model(
    block_name: str,
    device: torch.device | str,
    *,
    action: str | None = None,
    passing: tuple[type[Exception], ...] = (),
) -> AbstractContextManager[None]:
    """Guard code that runs a model on a device, see `sen.registry.guard`.

    Args:
        block_name: Block of the model.
        device: Where the model runs.
        action: What the debug log says has failed, such as "The training of fold 0, seed 0"; default: SEN with the
            block.
        passing: Exceptions that are raised as they are.

    Raises:
        RunError: Memory ran out, or the block of the model raised an exception.
    """

    def explain(error: Exception) -> RunError:
        # torch's allocator on the CPU raises a bare RuntimeError.
        on_cpu = isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)
        if on_cpu or isinstance(error, torch.OutOfMemoryError):
            where = "cpu" if on_cpu else device
            return RunError(f"{where} ran out of memory: lower training.batch_size or training.edge_budget.")
        return RunError(
            f"SEN with the block {block_name!r} raised {type(error).__name__}: {printable(error, 200)}. "
            f"`sen-bench check-block {block_name}` says which contracts the block breaks."
        )

    return guard(f"{action or f'SEN with the block {block_name!r}'} failed.", explain, passing=passing)


def untrained_model(config: RunConfig, seed: int, fold: int) -> tuple[SEN, np.random.Generator]:
    """Return the model from which the training on a fold begins, and the random generator of that training.

    The random state of torch is set as well: it draws the weights here, and the dropout of the training next.

    Raises:
        UsageError: The block refuses its configuration, or cannot be built at all.
    """
    rng = np.random.default_rng([seed, fold])
    torch.manual_seed(int(rng.integers(2**63)))
    return build_model(config), rng


def n_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def predict(
    model: SEN,
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
    model.eval()
    batches = evaluation_batches(crystals, graphs.n_neighbors, edge_budget=edge_budget)
    predicted = []
    for chosen in batches:
        if stop():
            raise Interrupted
        predicted.append(model.predict(graphs.batch(chosen)))
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
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    checkpoint: Path | None = None,
    session: Mapping[str, Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
    stopwatch: Stopwatch | None = None,
) -> TrainedFold:
    """Train on the fold's training rows and choose the epoch by its validation rows; its test rows are never read.

    Args:
        config: The run's configuration.
        graphs: All graphs of the task, on the device to train on.
        target: Target of every row [M]; 0 or 1 for classification. Only training and validation rows are read.
        fold: Positions of the rows.
        kind: "regression" or "classification".
        seed: Determines initial weights, order of batches and dropout, together with the fold.
        on_epoch: Called after every epoch.
        checkpoint: File for the state of the training, which is saved every minute, when it is stopped, and at the end.
            If the file exists, the training continues from it; on the same kind of CPU with the same number of threads
            the result is the same as without the interruption. A training that fails removes it.
        session: Facts about this process to add to `TrainedFold.sessions`.
        stop: Called after every step; whether to stop.
        stopwatch: Measures the training, in laps that `stop` may end. Default: a new one.

    Raises:
        UsageError: The block refuses its configuration.
        RunError: The loss is not finite, or the best epoch is not 2 % better than a constant.
        Interrupted: `stop` returned true; the message says where the training is and whether its state is saved.
    """
    stopwatch = stopwatch or Stopwatch()
    begin = partial(
        _FoldTrainer, config, graphs, target, fold, kind=kind, seed=seed, session=session or {}, stopwatch=stopwatch
    )
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
        place = f"in epoch {trainer.epoch} of {config.training.epochs}"
        if checkpoint is None:
            raise Interrupted(place) from None
        saved = "its state is saved" if trainer.save(checkpoint) else "its state could not be saved"
        raise Interrupted(f"{place}, {saved}") from None


class _FoldTrainer:
    """A training under way, with everything that its next step depends on, so that it can be saved and continued.

    Attributes:
        epoch: The current epoch, counted from 1.
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
        session: Mapping[str, Any],
        stopwatch: Stopwatch,
    ) -> None:
        self._graphs, self._fold = graphs, fold
        self._recipe = recipe = config.training
        model, self._rng = untrained_model(config, seed, fold.index)
        self._model = model = model.to(graphs.device)
        if kind == "regression":
            model.shift.fill_(float(target[fold.train].mean()))
            model.scale.fill_(float(target[fold.train].std()) or 1.0)
        self._update = Update(model, recipe)
        self._loss = F.l1_loss if kind == "regression" else F.binary_cross_entropy_with_logits
        self._target = (torch.tensor(target, dtype=torch.float32, device=graphs.device) - model.shift) / model.scale
        self._validation_target = torch.from_numpy(target[fold.validation])
        self._constant_error = _constant_error(target[fold.train], target[fold.validation], kind)

        self.epoch = 1
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
        return self.epoch > self._recipe.epochs or self.epoch - 1 - self._best_epoch >= self._recipe.patience

    def run_epoch(self, checkpoint: Path | None, stop: Callable[[], bool]) -> Epoch:
        """Run the rest of the current epoch, and return its line of the history."""
        recipe, fold = self._recipe, self._fold
        batches = epoch_batches(
            fold.train, self._graphs.n_neighbors, size=recipe.batch_size, edge_budget=recipe.edge_budget, rng=self._rng
        )
        self._model.train()
        for i in range(self._step, len(batches)):
            chosen = batches[i]
            self._total += _backward(self._model, self._graphs, chosen, self._target, self._loss, recipe) * len(chosen)
            self._update(self._rate(i, len(batches)))
            self._step = i + 1
            if stop():
                raise Interrupted
            if checkpoint is not None and time.perf_counter() - self._saved >= CHECKPOINT_SECONDS:
                self.save(checkpoint)
        train_loss = float(self._total) / len(fold.train)
        if not math.isfinite(train_loss):
            raise RunError(
                f"Training diverged: the loss of epoch {self.epoch} is {train_loss}. Lower training.learning_rate "
                f"(now {recipe.learning_rate:g})."
            )
        averaged = self._update.averaged
        predicted = predict(averaged, self._graphs, fold.validation, edge_budget=recipe.edge_budget, stop=stop)
        validation = float(self._loss(torch.from_numpy(predicted), self._validation_target))
        rate = self._rate(len(batches) - 1, len(batches))
        self.history.append(Epoch(self.epoch, train_loss, validation, rate, self._seconds()))
        if validation < self._best:
            self._best, self._best_epoch = validation, self.epoch
            self._best_weights = copy.deepcopy(averaged.state_dict())
        self.epoch, self._step = self.epoch + 1, 0
        self._total.zero_()
        self._epoch_rng = self._rng.bit_generator.state
        return self.history[-1]

    def result(self) -> TrainedFold:
        """Return the model of the best epoch.

        Raises:
            RunError: It is not 2 % better than a constant on the validation rows.
        """
        # If all validation rows have the same target, a constant may be exact, and nothing can be better.
        if not self._best < (_LEARNT * self._constant_error or math.inf):
            raise RunError(
                f"Training collapsed: the best validation error is {self._best:.4g}, less than {1 - _LEARNT:.0%} below "
                f"the {self._constant_error:.4g} of a constant. Train longer or on more rows, or lower "
                f"training.learning_rate (now {self._recipe.learning_rate:g})."
            )
        self._model.load_state_dict(self._best_weights)
        return TrainedFold(self._model, self.history, self._best_epoch, self._sessions, self._seconds_before)

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
            self._model.load_state_dict(tensors("model"))
            self._update.averaged.load_state_dict(tensors("averaged"))
            self._update.count = facts["updates"]
            self._best_weights = tensors("best")
            self._load_optimizer(tensors("optimizer"))
            self.history = [Epoch(*line) for line in facts["history"]]
            self.epoch, self._step = facts["epoch"], facts["step"]
            self._best_epoch = facts["best_epoch"]
            self._best = self.history[self._best_epoch - 1].validation if self._best_epoch else math.inf
            self._rng.bit_generator.state = self._epoch_rng = facts["rng"]
            self._sessions = [*facts["sessions"], *self._sessions]
            self._seconds_before = facts["seconds"]
            self._total = state.tensors["loss"].to(self._graphs.device)
            torch.set_rng_state(state.tensors["rng.cpu"])
            if self._graphs.device.type == "cuda" and "rng.cuda" in state.tensors:
                torch.cuda.set_rng_state(state.tensors["rng.cuda"], self._graphs.device)
        except (RuntimeError, LookupError, ValueError, TypeError) as error:
            raise DamagedCheckpoint(f"does not fit this version of the code ({type(error).__name__})") from error

    def _rate(self, batch: int, n_batches: int) -> float:
        """Learning rate of a batch of the epoch."""
        progress = (self.epoch - 1 + batch / n_batches) / self._recipe.epochs
        return self._recipe.learning_rate * _learning_rate(progress, self._recipe.warmup)

    def _seconds(self) -> float:
        return self._seconds_before + self._stopwatch.lap()

    def _state(self) -> Checkpoint:
        optimizer = {
            f"{index}.{name}": value
            for index, values in self._update.optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }
        parts = {
            "model": self._model.state_dict(),
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
    if of_plug_in := block_code(config.block_name):
        code += f" {of_plug_in}"
    content = hashlib.sha256(f"{code} {config.model_dump_json()} {kind} {seed} {fold.index}".encode())
    for rows in (fold.train, fold.validation):
        content.update(rows.tobytes() + target[rows].tobytes())
    return content.hexdigest()


def _below(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `part`, without that prefix."""
    return {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}


def _backward(
    model: SEN,
    graphs: GraphTensors,
    chosen: NDArray[np.int64],
    target: Tensor,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    recipe: TrainingConfig,
) -> Tensor:
    """Add the gradients of a batch; return its mean loss, still on the device."""
    with _multiplied_in(recipe.precision, graphs.device):
        with torch.autocast(graphs.device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            predicted = model(graphs.batch(chosen)).prediction.float()
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


class Update(Generic[Model]):
    """The update of the weights in a step: gradients are clipped, AdamW moves the weights, and these are averaged.

    The average is an exponential moving average. Its decay grows from 0 to `ema_decay`, as (1 + n) / (10 + n) after n
    steps, so that it forgets the first weights. Nothing here waits for the device.

    Attributes:
        averaged: The model with the averaged weights.
        optimizer: AdamW; biases, norms and embeddings do not decay.
        count: Steps made.
    """

    def __init__(self, model: Model, recipe: TrainingConfig) -> None:
        self._model, self._recipe = model, recipe
        self.averaged = copy.deepcopy(model)
        self.optimizer = torch.optim.AdamW(_parameter_groups(model, recipe.weight_decay), fused=True)
        self.count = 0

    @torch.no_grad()
    def __call__(self, rate: float) -> None:
        """Update the weights with a learning rate, and clear the gradients."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        nn.utils.clip_grad_norm_(self._model.parameters(), self._recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        decay = min(self._recipe.ema_decay, (1 + self.count) / (10 + self.count)) if self.count else 0
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self._model.parameters()), 1 - decay)
        for averaged, current in zip(self.averaged.buffers(), self._model.buffers(), strict=True):
            averaged.copy_(current)
        self.count += 1


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    # Decay must not pull biases, norms and embeddings of elements that a batch does not contain to zero.
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding | ElementEmbedding)]
    embedded = {id(p) for module in embeddings for p in module.parameters()}
    decayed = [
        p for name, p in model.named_parameters() if p.ndim > 1 and not name.endswith("bias") and id(p) not in embedded
    ]
    ids = {id(p) for p in decayed}
    rest = [p for p in model.parameters() if id(p) not in ids]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _learning_rate(progress: float, warmup: float) -> float:
    """Return the factor on the peak rate after this share of the training: linear warm-up, then half a cosine to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _constant_error(train: NDArray[np.float64], validation: NDArray[np.float64], kind: str) -> float:
    """Return the validation error of the best constant for the training rows: their median, or their share of ones."""
    if kind == "regression":
        return float(np.abs(validation - np.median(train)).mean())
    p = min(max(float(train.mean()), 1e-6), 1 - 1e-6)
    return float(-(validation * math.log(p) + (1 - validation) * math.log1p(-p)).mean())
