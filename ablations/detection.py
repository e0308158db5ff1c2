"""How many seeds find a difference of a given size: the first stage measures the noise, the second trains the rest.

The two stages are those of Stein (1945, 10.1214/aoms/1177731088). Only the noise of the first seeds decides, never
their difference, because to train on until a difference shows would find one where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ablations.grid import Variant
from benchmarks.base.errors import UsageError
from benchmarks.base.workers import Progress
from benchmarks.results.contrasts import Comparison
from benchmarks.training.plans import make_plan

__all__ = ["Detection", "Need", "with_seeds"]

# In studies simulated with the noise of the archives, two stages that begin with three seeds find a difference where
# there is none in up to 7 %, those that begin with four in at most 6 % (docs/statistics.md).
_FIRST_SEEDS = 4
_MOST_SEEDS = 10


@dataclass(frozen=True)
class Detection:
    """The difference that a grid is to find.

    Attributes:
        share: The difference, as a share of the second variant's score.
        first: Seeds of the first stage.
        most: Largest number of seeds in all.
    """

    share: float
    first: int
    most: int

    @classmethod
    def of(cls, share: float, seeds: int | None, most: int | None) -> Detection:
        """Return what the options --detect, --seeds and --max-seeds ask for.

        Raises:
            UsageError: The seeds are too few to measure noise, or the most is below them.
        """
        first = _FIRST_SEEDS if seeds is None else seeds
        if first < 2:
            raise UsageError(
                f"--detect measures the noise of training from the first seeds: give --seeds 2 or more, not {first}."
            )
        most = max(_MOST_SEEDS, first) if most is None else most
        if most < first:
            raise UsageError(f"--max-seeds {most} is below the {first} seeds that --detect begins with.")
        return cls(share, first, most)

    def needs(self, comparisons: Sequence[Comparison], complete: Mapping[str, bool]) -> list[Need]:
        """Return what each contrast needs that is assessable and whose two variants have finished the first stage.

        Args:
            comparisons: The contrasts on the first seeds.
            complete: Whether all trainings of the first stage are finished, for each name of a variant.
        """
        return [
            Need(each, self)
            for each in comparisons
            if not each.on_these_folds.reason and complete[each.first] and complete[each.second]
        ]


@dataclass(frozen=True)
class Need:
    """How many seeds a contrast needs.

    Attributes:
        comparison: The contrast on the first seeds.
        detection: What is to be found.
    """

    comparison: Comparison
    detection: Detection

    @property
    def difference(self) -> float:
        """The difference to find, in the unit of the score."""
        return self.detection.share * abs(self.comparison.score)

    @property
    def seeds(self) -> int | None:
        """The fewest seeds that find it in four of five studies; None where the test rows are too few."""
        return self.comparison.seeds_for(self.difference)

    @property
    def trained(self) -> int:
        """The seeds to train: those needed, at most as many as allowed, and no more where no number would do."""
        return max(self.detection.first, min(self.seeds or 0, self.detection.most))

    @property
    def found(self) -> float:
        """The smallest difference that the seeds to train find in four of five studies."""
        noise = self.comparison.noise
        assert noise is not None  # two seeds are finished
        return replace(noise, seeds=self.trained).estimate(0.0).detectable(self.comparison.level)


def with_seeds(
    variants: Sequence[Variant], needs: Sequence[Need], out: Path, *, progress: Progress, is_trial: bool = False
) -> list[Variant]:
    """Plan the second stage: each variant gets as many seeds as the contrast of it that needs the most.

    Variants that need no more seeds are returned as they are.

    Args:
        variants: The variants with the plans of the first stage.
        needs: What each contrast needs.
        out: Folder of the run store.
        progress: Called with the number of graphs that are built.
        is_trial: Whether to write nothing into the store.

    Raises:
        UsageError: See `make_plan`.
    """
    wanted = dict.fromkeys(map(str, variants), 0)
    for need in needs:
        for name in (need.comparison.first, need.comparison.second):
            wanted[name] = max(wanted[name], need.trained)
    extended = []
    for variant in variants:
        plan, setting = variant.plan, variant.setting
        seeds = sorted({training.seed for training in plan.trainings})
        if wanted[str(variant)] > len(seeds):
            plan = make_plan(
                setting.config,
                plan.dataset,
                folds=sorted({training.fold for training in plan.trainings}),
                seeds=range(seeds[0], seeds[0] + wanted[str(variant)]),
                out=out,
                progress=progress,
                is_trial=is_trial,
                initial=None if plan.start is None else plan.start.weights,
            )
            extended.append(Variant(setting, plan))
        else:
            extended.append(variant)
    return extended
