"""Training of one fold: MAE (or binary cross-entropy) with AdamW, warm-up and decay, clipping, averaged weights."""

from __future__ import annotations

import copy
import math
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from benchmarks.batches import GraphTensors, epoch_batches, evaluation_batches
from benchmarks.config import RunConfig, TrainingConfig, get_block
from benchmarks.errors import RunError, UsageError
from benchmarks.folds import Fold
from sen.model import SEN

# The best of many epochs beats a constant by chance, but not by this factor.
_LEARNT = 0.98

__all__ = ["Epoch", "TrainedFold", "build_model", "predict", "train_fold"]


@dataclass(frozen=True)
class Epoch:
    """One line of history.csv.

    Attributes:
        epoch: Counted from 1.
        train_loss: Mean loss over the training rows in standardised units.
        validation: MAE in the target's unit, or binary cross-entropy, of the averaged weights on validation rows.
        learning_rate: At the end of the epoch.
        seconds: Wall time since training began.
    """

    epoch: int
    train_loss: float
    validation: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class TrainedFold:
    """The averaged weights of the best epoch, the history, and the number of that epoch."""

    model: SEN
    history: list[Epoch]
    best_epoch: int


def build_model(config: RunConfig) -> SEN:
    """Build SEN with the configured block, its weights drawn from torch's current random state.

    Raises:
        UsageError: The block refuses its configuration.
    """
    block = get_block(config.block_name)
    try:
        return SEN(config.sen, block(config.sen.environment_width, config.block))
    except ValueError as error:
        raise UsageError(f"The block {config.block_name!r} cannot be built: {error}") from None


@torch.no_grad()
def predict(model: SEN, graphs: GraphTensors, crystals: NDArray[np.int64], *, edge_budget: int) -> NDArray[np.float64]:
    """Predict the crystals [M] at these positions, in their order: target units, or logits for classification."""
    model.eval()
    result = np.empty(len(crystals))
    position = np.empty(len(graphs.n_edges), dtype=np.int64)
    position[crystals] = np.arange(len(crystals))
    for chosen in evaluation_batches(crystals, graphs.n_edges, edge_budget=edge_budget):
        result[position[chosen]] = model.predict(graphs.batch(chosen)).to("cpu", torch.float64).numpy()
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
) -> TrainedFold:
    """Train on the fold's training rows, choose the epoch on its validation rows, never look at its test rows.

    Args:
        config: The run's configuration.
        graphs: All graphs of the task, on the device to train on.
        target: Target of every row [M]; 0 or 1 for classification. Only training and validation rows are read.
        fold: Positions of the rows.
        kind: "regression" or "classification".
        seed: Decides initial weights, order of batches and dropout, together with the fold.
        on_epoch: Called after every epoch.

    Raises:
        RunError: Training diverged: a loss that is not finite, or no better in the end than a constant prediction.
    """
    recipe = config.training
    rng = np.random.default_rng([seed, fold.index])
    torch.manual_seed(int(rng.integers(2**63)))
    model = build_model(config).to(graphs.device)
    if kind == "regression":
        model.shift.fill_(float(target[fold.train].mean()))
        model.scale.fill_(float(target[fold.train].std()) or 1.0)
    averaged = AveragedModel(model, multi_avg_fn=_moving_average(recipe.ema_decay))
    optimizer = torch.optim.AdamW(_parameter_groups(model, recipe.weight_decay), lr=recipe.learning_rate, fused=True)

    def advance(progress: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _learning_rate(progress, recipe.warmup)
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        averaged.update_parameters(model)

    loss_function = F.l1_loss if kind == "regression" else F.binary_cross_entropy_with_logits
    standardised = (torch.tensor(target, dtype=torch.float32, device=graphs.device) - model.shift) / model.scale
    validation_target = torch.from_numpy(target[fold.validation])
    history: list[Epoch] = []
    best, best_epoch, best_weights = math.inf, 0, model.state_dict()
    start = time.perf_counter()
    for epoch in range(1, recipe.epochs + 1):
        batches = epoch_batches(
            fold.train, graphs.n_edges, size=recipe.batch_size, edge_budget=recipe.edge_budget, rng=rng
        )
        total = torch.zeros((), device=graphs.device)
        model.train()
        for i, chosen in enumerate(batches):
            total += _backward(model, graphs, chosen, standardised, loss_function, recipe) * len(chosen)
            advance((epoch - 1 + i / len(batches)) / recipe.epochs)
        train_loss = float(total) / len(fold.train)
        if not math.isfinite(train_loss):
            raise RunError(
                f"Training diverged: the loss of epoch {epoch} is {train_loss}. Lower training.learning_rate "
                f"(now {recipe.learning_rate:g})."
            )
        predicted = predict(cast("SEN", averaged.module), graphs, fold.validation, edge_budget=recipe.edge_budget)
        validation = float(loss_function(torch.from_numpy(predicted), validation_target))
        rate = float(optimizer.param_groups[0]["lr"])
        history.append(Epoch(epoch, train_loss, validation, rate, time.perf_counter() - start))
        on_epoch(history[-1])
        if validation < best:
            best, best_epoch, best_weights = validation, epoch, copy.deepcopy(averaged.module.state_dict())
        elif epoch - best_epoch >= recipe.patience:
            break
    constant = _constant_error(target[fold.train], target[fold.validation], kind)
    if not best < _LEARNT * constant:
        raise RunError(
            f"Training collapsed: the best validation error is {best:.4g}, and a constant's {constant:.4g}. "
            f"Train longer or on more rows, or lower training.learning_rate (now {recipe.learning_rate:g})."
        )
    model.load_state_dict(best_weights)
    return TrainedFold(model, history, best_epoch)


def _backward(
    model: SEN,
    graphs: GraphTensors,
    chosen: NDArray[np.int64],
    target: Tensor,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    recipe: TrainingConfig,
) -> Tensor:
    """Add the gradients of a batch; return its mean loss, still on the device."""
    with _autocast(recipe, graphs.device):
        predicted = model(graphs.batch(chosen)).prediction.float()
    loss = loss_function(predicted, target[torch.as_tensor(chosen, device=graphs.device)])
    loss.backward()
    return loss.detach()


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    # Biases, norms and embeddings of elements that a batch does not contain must not be pulled to zero.
    decayed = [p for name, p in model.named_parameters() if p.ndim > 1 and not re.search("bias|embedding", name)]
    ids = {id(p) for p in decayed}
    rest = [p for p in model.parameters() if id(p) not in ids]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


Tensors = list[Tensor] | tuple[Tensor, ...]


def _moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Exponential moving average whose decay grows from 0.1 to `decay`, so that it soon forgets the first weights."""

    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, n_averaged: Tensor | int) -> None:
        n = int(n_averaged)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update


def _learning_rate(progress: float, warmup: float) -> float:
    """Factor on the peak rate after this share of the training: linear warm-up, then half a cosine to zero."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _autocast(recipe: TrainingConfig, device: torch.device) -> AbstractContextManager[object]:
    if recipe.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _constant_error(train: NDArray[np.float64], validation: NDArray[np.float64], kind: str) -> float:
    """Validation error of the best constant that the training rows give: their median, or their share of ones."""
    if kind == "regression":
        return float(np.abs(validation - np.median(train)).mean())
    p = min(max(float(train.mean()), 1e-6), 1 - 1e-6)
    return float(-(validation * math.log(p) + (1 - validation) * math.log1p(-p)).mean())
