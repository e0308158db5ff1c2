"""Tables of false positives and power, each a function of the folder of archives that the noise is fitted to.

A cell with three numbers is for noise of training that is normal, resampled, and different by fold (`simulate.Tails`),
unless its heading says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.results.statistics import CONFIDENCE
from tools.power.components import Component, Components, fit
from tools.power.simulate import (
    Estimates,
    Found,
    Tails,
    find,
    find_meaningful,
    holm,
    in_two_stages,
    on_random_splits,
    over_splits,
    simulate,
)
from tools.results_page.formats import markdown, number, percent

__all__ = ["ALL_TAILS", "TABLES", "Studies", "differences_on_splits", "rate", "studies"]

ALL_TAILS: tuple[Tails, ...] = get_args(Tails)

_N_STUDIES = 2000
_SEEDS = (2, 3, 5, 8)
_VARIANTS = (2, 6)
_DIFFERENCES = (0.0, 0.05, 0.1, 0.2)
_TARGETS = (0.05, 0.1)
_MARGINS = (0.02, 0.05, 0.1)
_SPLITS = (10, 20, 50)
_FIRST_STAGES, _MOST_SEEDS = (3, 4), 10


@dataclass(frozen=True, eq=False)
class Studies:
    """The components, and what studies drawn from them find, by the noise of training and the number of seeds."""

    components: Components
    found: Mapping[Tails, Mapping[int, Found]]

    def with_seeds(self, tails: Tails, seeds: int, variants: int) -> Found:
        """Return what studies with these seeds find of the first variants."""
        return self.found[tails][seeds].of_variants(variants)

    def in_two_stages(self, tails: Tails, target: float, variants: int, first: int) -> Found:
        """Return what studies find that choose their seeds, after the first ones, to find a share of the score."""
        by_seeds = {n: self.with_seeds(tails, n, variants) for n in range(first, _MOST_SEEDS + 1)}
        return in_two_stages(by_seeds, target * self.components.score, (1 - CONFIDENCE) / (variants - 1))


@cache
def studies(results: Path) -> Studies:
    """Return the studies behind the tables, which are the same for the same archives."""
    components, seeds = fit(results), range(2, _MOST_SEEDS + 1)
    return Studies(
        components,
        {tails: simulate(components, seeds, tails, variants=max(_VARIANTS), n=_N_STUDIES) for tails in ALL_TAILS},
    )


def rate(found: NDArray[np.float64], difference: float) -> float:
    """Return the share of studies that find the difference of the first contrast, or any where there is none."""
    return float((found[:, 0] > 0 if difference else found.any(1)).mean())


def components(results: Path) -> str:
    """Return the table of the components."""
    found = studies(results).components
    of_rows = Component(*(max(0.0, end) / found.n_rows for end in found.rows))
    lines = {
        "training with another seed": found.training,
        "the same seed once more": found.same_seed,
        "block in one fold against its mean": found.block_fold,
        "test rows, in a difference of two blocks": of_rows,
    }
    heading = ["of the error of a block on one fold", "standard deviation (1/cm)", "95 % interval", "of the error"]
    return markdown(
        heading,
        [
            [name, number(sd), f"{number(low)} to {number(high)}", percent(sd / found.score)]
            for name, component in lines.items()
            for sd, low, high in [np.sqrt(component)]
        ],
    )


def on_these_folds(results: Path) -> str:
    """Return the table of false positives and power on these folds.

    In the last columns the noise of training, drawn as normal, is at the lower and the upper end of its interval.
    """
    found = studies(results)
    fitted = found.components
    ends = [
        simulate(
            replace(fitted, training=fitted.training._replace(variance=variance)),
            _SEEDS,
            "normal",
            variants=max(_VARIANTS),
            n=_N_STUDIES,
        )
        for variance in fitted.training[1:]
    ]

    def cells(variants: int, seeds: int) -> list[str]:
        estimates = [found.with_seeds(tails, seeds, variants).on_these_folds() for tails in ALL_TAILS]
        of_ends = [each[seeds].of_variants(variants).on_these_folds() for each in ends]
        return [
            *(_rates(estimates, share, fitted.score) for share in _DIFFERENCES),
            *(" / ".join(_rates([each], share, fitted.score) for share in _DIFFERENCES) for each in of_ends),
        ]

    return _table(cells, "least noise: none / 5 / 10 / 20 %", "most noise: none / 5 / 10 / 20 %")


def on_new_data(results: Path) -> str:
    """Return the table of false positives and power on new data.

    Beside it stands the rule of version 0.1 for normal noise: the t-test over folds and an interval of the difference
    over test rows, which was not adjusted for several comparisons, both had to speak.
    """
    found = studies(results)
    score = found.components.score

    def cells(variants: int, seeds: int) -> list[str]:
        estimates = [found.with_seeds(tails, seeds, variants).on_new_data() for tails in ALL_TAILS]
        earlier = []
        for share in (0.0, 0.1):
            folds = estimates[0].shifted(share * score)
            rows = found.with_seeds("normal", seeds, variants).over_test_rows().shifted(share * score)
            both = find(folds) * (rows.p_value() < 1 - CONFIDENCE)
            earlier.append(_per_cent([rate(both, share)], share))
        return [*(_rates(estimates, share, score) for share in _DIFFERENCES), *earlier]

    return _table(cells, "0.1: no difference", "0.1: 10 %")


@cache
def differences_on_splits(results: Path) -> dict[Tails, NDArray[np.float64]]:
    """Return the differences of studies on the most random splits, [studies, contrasts, splits], by the noise."""
    components = studies(results).components
    return {
        tails: on_random_splits(components, max(_SPLITS), tails, variants=max(_VARIANTS), n=_N_STUDIES)
        for tails in ALL_TAILS
    }


def resample(results: Path) -> str:
    """Return the table of studies on random splits, each trained once: power, and what is called meaningful."""
    fitted, drawn = studies(results).components, differences_on_splits(results)
    heading = ["variants", "splits", "no difference", *map(_share, _DIFFERENCES[1:])]
    heading += [f"meaningful: {name}" for name in ("no difference", *map(_share, _DIFFERENCES[1:]))]
    lines = []
    for variants, splits in product(_VARIANTS, _SPLITS):
        each = [drawn[tails][:, : variants - 1, :splits] for tails in ALL_TAILS]
        estimates = [over_splits(one, fitted.test_to_train) for one in each]
        line = [str(variants), str(splits), *(_rates(estimates, share, fitted.score) for share in _DIFFERENCES)]
        for share in _DIFFERENCES:
            shift = np.zeros((variants - 1, 1))
            shift[0] = share * fitted.score
            line.append(_per_cent([rate(find_meaningful(one + shift), share) for one in each], share))
        lines.append(line)
    return markdown(heading, lines)


def detect(results: Path) -> str:
    """Return the table of studies in two stages."""
    found = studies(results)
    heading = ["`--detect`", "variants"]
    for first in _FIRST_STAGES:
        heading += [f"{first} seeds first: mean of all", "no difference", "a difference of this size"]
    lines = []
    for target, variants in product(_TARGETS, _VARIANTS):
        line = [_share(target), str(variants)]
        for first in _FIRST_STAGES:
            each = [found.in_two_stages(tails, target, variants, first) for tails in ALL_TAILS]
            estimates = [one.on_these_folds() for one in each]
            line.append(" / ".join(f"{one.seeds.mean():.1f}" for one in each))
            line += [_rates(estimates, share, found.components.score) for share in (0.0, target)]
        lines.append(line)
    return markdown(heading, lines)


def equivalence(results: Path) -> str:
    """Return the table of how often two variants are called equivalent."""
    found = studies(results)
    heading = ["seeds"]
    for margin in _MARGINS:
        heading += [f"margin {_share(margin)}: differ by it", "do not differ"]
    lines = []
    for seeds in (3, 5, _MOST_SEEDS):
        line = [str(seeds)]
        for margin, differ in product(_MARGINS, (True, False)):
            each = [found.with_seeds(tails, seeds, 2) for tails in ALL_TAILS]
            line.append(" / ".join(f"{100 * equivalent(one, margin, differ=differ).mean():.1f}" for one in each))
        lines.append(line)
    return markdown(heading, lines)


def equivalent(found: Found, margin: float, *, differ: bool) -> NDArray[np.bool_]:
    """Return which contrasts are equivalent within a share of the score, by which the true ones differ or do not."""
    width = margin * found.score
    return holm(found.on_these_folds().shifted(width[:, 0] * differ).p_equivalent(width)) < 1 - CONFIDENCE


TABLES: dict[str, Callable[[Path], str]] = {
    table.__name__: cache(table) for table in (components, on_these_folds, on_new_data, resample, detect, equivalence)
}


def _table(cells: Callable[[int, int], Sequence[str]], *more: str) -> str:
    """Return a table with a line for each number of variants and of seeds."""
    heading = ["variants", "seeds", "no difference", *map(_share, _DIFFERENCES[1:]), *more]
    return markdown(heading, [[str(v), str(n), *cells(v, n)] for v, n in product(_VARIANTS, _SEEDS)])


def _rates(all_estimates: Sequence[Estimates], share: float, score: float) -> str:
    """Format how many studies find a difference of a share of the score."""
    return _per_cent([rate(find(each.shifted(share * score)), share) for each in all_estimates], share)


def _per_cent(rates: Sequence[float], difference: float) -> str:
    """Format rates in per cent, those of false positives with a decimal."""
    return " / ".join(f"{100 * each:.{0 if difference else 1}f}" for each in rates)


def _share(share: float) -> str:
    return f"{100 * share:.0f} %"
