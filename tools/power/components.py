"""Variance components of a comparison of blocks, fitted to the archived trainings on matbench_phonons."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.results.metrics import row_loss
from benchmarks.results.recorded import recorded_variant
from benchmarks.results.statistics import CONFIDENCE, bootstrap_mean, share_tested
from benchmarks.results.store import Training, find_runs

__all__ = ["Component", "Components", "fit", "satterthwaite"]

_REPEATED = ("capsule", "mlp")
_SEEDS = range(3)
_FOLDS = range(5)


class Component(NamedTuple):
    """A variance with its 95 % interval, in squared units of the score."""

    variance: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Components:
    """What makes scores of blocks vary.

    Attributes:
        score: Mean absolute error of the blocks that were trained with several seeds.
        training: Variance of the score of a fold between seeds.
        cells: The same for each fold of each block, [c].
        residuals: Deviations of scores from their mean over seeds, [r]; their variance is 1.
        same_seed: Variance of the score of a fold between two runs with the same seed.
        block_fold: Variance of the true score of a block between folds, beyond what all blocks share.
        rows: Variance of a row's true difference of two blocks.
        row_difference: Differences of two blocks on a row, [n]; their mean is 0 and their variance that of `rows`.
        row_noise: Standard deviation between seeds of a row's absolute error, beyond that of the score, [n].
        test_to_train: Ratio of test to training rows of a fold.
        n_rows: Test rows of a fold.
    """

    score: float
    training: Component
    cells: NDArray[np.float64]
    residuals: NDArray[np.float64]
    same_seed: Component
    block_fold: Component
    rows: Component
    row_difference: NDArray[np.float64]
    row_noise: NDArray[np.float64]
    test_to_train: float
    n_rows: int


def fit(results: Path) -> Components:
    """Fit the components to phonons-blocks.zip and phonons-blocks-again.zip in a folder of archives.

    The sums of squares are those of an analysis of variance, and intervals of variances are those of chi-square, with
    the degrees of freedom of `satterthwaite` for the noise of training: it is far from equal in all folds.
    """
    first, test_to_train = _losses(results / "phonons-blocks.zip")
    again, _ = _losses(results / "phonons-blocks-again.zip")
    blocks = sorted({block for block, _ in first})
    # Of blocks, seeds, folds and rows.
    loss = np.array([[first[block, seed] for seed in _SEEDS] for block in _REPEATED])
    _, n_seeds, n_folds, n_rows = loss.shape

    score = loss.mean(-1)
    residual = score - score.mean(1, keepdims=True)
    cells = (residual**2).sum(1).ravel() / (n_seeds - 1)
    training = _interval(cells.mean(), satterthwaite(cells, n_seeds - 1))

    pairs = [(first[each].mean(-1), again[each].mean(-1)) for each in again]
    same_seed = np.array([(one - other) ** 2 / 2 for one, other in pairs]).ravel()

    # Blocks by folds: means over the seeds of a block carry less noise the more seeds it has.
    counts = [n_seeds if block in _REPEATED else 1 for block in blocks]
    table = np.array(
        [
            np.mean([first[block, seed].mean(-1) for seed in range(n)], axis=0)
            for block, n in zip(blocks, counts, strict=True)
        ]
    )
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    df = (len(blocks) - 1) * (n_folds - 1)
    total = _interval((rest**2).sum() / df, df)

    # Rows by seeds within a fold, of the difference and of each block; a fold's own mean takes one of its rows.
    spread = n_rows / (n_rows - 1)
    difference = loss[0] - loss[1]
    of_row = difference.mean(0) - difference.mean((0, 2))[:, None]
    error = spread * (difference - difference.mean(2, keepdims=True) - of_row).var(0, ddof=1)
    true = spread * of_row**2 - error / n_seeds
    rows = Component(float(true.mean()), *bootstrap_mean(true.ravel()))
    row_noise = spread * (loss - score[..., None]).var(1, ddof=1).mean(0)

    noise_of_table = training.variance * float(np.mean(1 / np.array(counts))) + rows.variance / 2 / n_rows
    return Components(
        score=float(score.mean()),
        training=training,
        cells=cells,
        residuals=(residual / math.sqrt((1 - 1 / n_seeds) * training.variance)).ravel(),
        same_seed=_interval(same_seed.mean(), satterthwaite(same_seed, 1)),
        block_fold=Component(*(max(0.0, end - noise_of_table) for end in (total.variance, total.low, total.high))),
        rows=rows,
        row_difference=(of_row * math.sqrt(max(0.0, rows.variance) / np.mean(of_row**2))).ravel(),
        row_noise=np.sqrt(row_noise).ravel(),
        test_to_train=test_to_train,
        n_rows=n_rows,
    )


def satterthwaite(variances: NDArray[np.float64], df: int) -> float:
    """Return the degrees of freedom of the sum of estimated variances [c] with `df` each, see `contrasts.Noise`."""
    return float(variances.sum() ** 2 / (variances**2 / (df + 2)).sum() - 2)


def _interval(variance: float, df: float) -> Component:
    """Return a variance with its interval, from its degrees of freedom."""
    from scipy.stats import chi2

    tail = (1 - CONFIDENCE) / 2
    return Component(variance, *(float(variance * df / chi2.isf(p, df)) for p in (tail, 1 - tail)))


def _losses(archive: Path) -> tuple[dict[tuple[str, int], NDArray[np.float64]], float]:
    """Return the absolute errors of each block and seed, [folds, rows], and the ratio of test to training rows."""
    found, ratios = {}, []
    for run in find_runs(archive, strict=True):
        block = recorded_variant(run.read_config()["config"])
        for seed in run.seeds():
            parts = [run.read_predictions(Training(seed, fold)) for fold in _FOLDS]
            found[block, seed] = np.array([row_loss("regression", part.target, part.prediction) for part in parts])
            ratios.append(share_tested(run.read_metrics(Training(seed, fold)) for fold in _FOLDS))
    return found, max(ratios)
