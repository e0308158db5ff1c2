"""What is declared before a grid is trained, and the comparison of what is finished by these contrasts."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ablations.detection import Detection
from ablations.grid import Setting
from ablations.judge import Judge
from ablations.scores import FinishedVariant
from benchmarks.base.errors import DataError
from benchmarks.base.zip_path import AnyPath
from benchmarks.results.contrasts import MARGIN, TARGET, Compared, Comparison, compare, declare
from benchmarks.results.recorded import recorded_variant
from benchmarks.results.run_config import is_fitted
from benchmarks.results.statistics import share_tested
from benchmarks.results.store import Training, find_runs

__all__ = ["Declaration", "compare_finished", "declare_contrasts", "scores_in_store"]


@dataclass(frozen=True)
class Declaration:
    """What is declared before anything is trained.

    Attributes:
        contrasts: Names of the first and second variant of each, see `contrasts.declare`.
        margin: Share of the second variant's score within which differences do not matter.
        detection: The difference to find; None where the number of seeds is given.
        resampled: Whether each fold is a random split of its own.
        not_assessable: Why a question has no answer on the split of the task, see `Task.not_assessable`.
    """

    contrasts: Sequence[tuple[str, str]]
    margin: float = MARGIN
    detection: Detection | None = None
    resampled: bool = False
    not_assessable: Mapping[str, str] = field(default_factory=dict)

    @property
    def target(self) -> float:
        """The difference of which the result says how many seeds find it, as a share of the second variant's score."""
        return self.detection.share if self.detection else TARGET


def declare_contrasts(settings: Sequence[Setting], given: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return the contrasts of a grid, see `contrasts.declare`.

    Raises:
        UsageError: A contrast that is given is no contrast of the grid.
    """
    return declare({str(each): (each.name, frozenset(each.values.items())) for each in settings}, given)


def compare_finished(all_finished: Sequence[FinishedVariant], declaration: Declaration) -> list[Comparison]:
    """Compare the variants of each contrast, if they have finished trainings in common."""
    compared = {
        str(one.setting): Compared(str(one.setting), one.score, one.predictions, share_tested(one.records.values()))
        for one in all_finished
        if one.records
    }
    pairs = [
        (compared[first], compared[second])
        for first, second in declaration.contrasts
        if first in compared and second in compared
    ]
    judge = all_finished[0].judge
    return compare(
        pairs,
        judge.kind,
        higher_is_better=judge.metric.higher_is_better,
        margin=declaration.margin,
        resampled=declaration.resampled,
        not_assessable=declaration.not_assessable,
    )


def scores_in_store(
    folder: AnyPath, judge: Judge, split: str, limits: Collection[int | None]
) -> Iterator[dict[Training, float]]:
    """Yield the scores of the finished trainings of each run in a folder whose noise may be that of a grid.

    Such a run predicts something of the same kind on the same split, has one of these limits, and is not fitted at
    once. A run with a result that cannot be read is skipped with a warning.
    """
    for run in find_runs(folder):
        try:
            facts = run.read_config()
            config, task = facts["config"], facts["task"]
            alike = task["kind"] == judge.kind and task["split"] == split and config.get("limit") in limits
            if alike and not is_fitted(recorded_variant(config)):
                yield {each: judge.score(run, each, run.read_metrics(each)) for each in run.trainings()}
        except DataError as error:
            logging.getLogger("sen_bench").warning("Skipped: %s", error)
