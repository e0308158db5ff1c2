"""What each training of a result lost on each row that it tested."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.tasks import Kind
from benchmarks.results.metrics import row_loss
from reports.study.study import Result

__all__ = ["FoldLoss", "fold_losses"]


@dataclass(frozen=True, eq=False)
class FoldLoss:
    """The losses of a result in a fold.

    Attributes:
        ids: Ids of its n test rows.
        seeds: Its S seeds, ascending; 0 of a published result.
        loss: Absolute errors, or 1 for a wrong label and 0 for a right one, [S, n].
    """

    ids: list[str]
    seeds: list[int]
    loss: NDArray[np.float64]

    def of(self, seeds: list[int], ids: list[str]) -> NDArray[np.float64]:
        """Return the losses of these seeds and rows, in this order."""
        place = {name: i for i, name in enumerate(self.ids)}
        return self.loss[np.ix_([self.seeds.index(seed) for seed in seeds], [place[name] for name in ids])]


def fold_losses(result: Result, kind: Kind) -> dict[int, FoldLoss]:
    """Return the losses in each fold of a result. A row that several folds test is in each of them.

    Raises:
        DataError: Predictions of a run cannot be read.
    """
    if result.run is None:
        found = {}
        for fold in result.folds:
            rows = result.rows.take(result.rows.fold == fold)
            found[fold] = FoldLoss(rows.ids.tolist(), [0], rows.loss[None])
        return found
    found = {}
    for fold in result.folds:
        trainings = sorted(training for training in result.trainings if training.fold == fold)
        parts = [result.run.read_predictions(training) for training in trainings]
        losses = [
            FoldLoss(part.ids, [training.seed], row_loss(kind, part.target, part.prediction)[None])
            for training, part in zip(trainings, parts, strict=True)
        ]
        ids = losses[0].ids
        found[fold] = FoldLoss(
            ids,
            [training.seed for training in trainings],
            np.concatenate([loss.of([training.seed], ids) for training, loss in zip(trainings, losses, strict=True)]),
        )
    return found
