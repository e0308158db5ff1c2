"""The audit of published predictions: which official rows they are of, how good they are, what the file leaves open.

Facts are what JSON can hold, with None for a number that does not exist; `reports.auditing.verdict` puts them into
words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import DataError, UsageError, printable
from benchmarks.base.files import plain
from benchmarks.data.folds import N_FOLDS, official_folds
from benchmarks.data.tasks import TASKS, Task
from benchmarks.results.leaderboard import published, rank, source
from benchmarks.results.metrics import primary_metric, score
from benchmarks.results.statistics import bootstrap_mean
from reports.auditing.breakdown import break_down, compare
from reports.auditing.overlap import TrainingData, overlap_facts
from reports.study.published import PredictionFile, PredictionSet, task_of_ids
from reports.study.row_facts import RowFacts

__all__ = ["audit", "check_claim", "check_other_sets", "official_fold"]

# At most this many ids are named.
_NAMED = 5
# A fold with this share of its test rows is whole; one with more than the rest of it is touched.
_WHOLE = 0.95
# A claim is met within half a unit of its third digit.
_ROUNDING = 5e-3
# Targets of a file agree with the official ones to this share of their value, or to the fourth decimal.
_TARGET_SHARE, _TARGET_FLOOR = 1e-4, 5e-5
# Predictions that differ by less than this share of their size differ by rounding only.
_SAME = 1e-9


# Squares of absurd predictions are infinite, and None in the facts.
@np.errstate(over="ignore", invalid="ignore")
def audit(
    file: PredictionFile,
    rows: RowFacts,
    *,
    claimed: float | None = None,
    against: Sequence[PredictionFile] = (),
    trained_on: tuple[TrainingData, Mapping[str, NDArray[np.bool_]]] | None = None,
) -> dict[str, Any]:
    """Return what can be said about the predictions of a file for the task of these rows.

    Args:
        file: The file.
        rows: Official rows with their targets: all, or those that are available.
        claimed: The score that is claimed elsewhere, for a file that claims none.
        against: Files with predictions for the same task, to compare with on the same rows.
        trained_on: What the model was trained on before, and which of the rows are in it (`find_overlap`).

    Returns:
        file, form, model, set, task, unit, kind, n; ids: what is wrong with them; folds: which official folds they are;
        rows: what they were scored on; score, folds with scores, bias, affine, breakdown; claim; leaderboard; against;
        trained_on: see `overlap_facts`; also: what else is in the file.

    Raises:
        UsageError: The task is not one of MatBench, the file has no predictions for it, or the claim is not a score.
        DataError: None of its rows can be scored.
    """
    check_claim(claimed)
    task = rows.task
    if not task.is_official or task.n_rows is None:
        raise UsageError(f"{task.name} is not a task of MatBench: it has no official rows and folds to audit against.")
    _, entry = file.find(task)
    given = _Given.make(rows, entry)
    scored = given.is_scored
    if not scored.any():
        raise DataError(
            f"None of the {len(entry):,} predictions in {file.path} for {task.name} can be scored: "
            f"{_why_nothing(given, rows)}."
        )
    folds = official_fold(task, rows)
    fold = None if folds is None else folds[given.row]
    position = given.position[scored]
    target, prediction = rows.target[position], entry.prediction[given.at[scored]]
    scores = _by_fold(task, target, prediction, None if fold is None else fold[scored])
    facts: dict[str, Any] = {
        "file": file.path.name,
        "form": file.form,
        "model": file.model,
        "set": entry.name,
        "task": task.name,
        "kind": task.kind,
        "unit": task.unit,
        "n": len(entry),
        "n_rows": task.n_rows,
        "ids": _id_facts(task, entry, given),
        "folds": _fold_facts(task, entry, given, folds),
        "rows": {
            "source": rows.source,
            "is_verified": rows.is_verified,
            "n": len(rows),
            "is_complete": rows.is_complete,
            "n_scored": int(np.count_nonzero(scored)),
            "n_not_at_hand": int(np.count_nonzero(given.position < 0)),
        },
        "score": score(task.kind, target, prediction),
        "by_fold": scores,
        "targets": _target_facts(entry, given, rows),
        "affine": _affine(target, prediction) if task.kind == "regression" else None,
        "breakdown": break_down(task.kind, target, prediction, rows.space_group[position]),
    }
    facts["bias"] = _bias(facts["breakdown"]["overall"], target, prediction)
    facts["claim"] = _claim(task, facts, entry, claimed)
    facts["leaderboard"] = _leaderboard(task, facts)
    facts["against"] = [_compare(rows, position, prediction, other) for other in against]
    facts["trained_on"] = None
    if trained_on is not None:
        known, overlap = trained_on
        facts["trained_on"] = overlap_facts(known, rows, overlap, folds, (position, prediction))
    facts["also"] = check_other_sets(file, entry)
    found: dict[str, Any] = plain(facts)
    return found


def check_claim(claimed: object) -> None:
    """Check that a claimed score can be a score.

    Raises:
        UsageError: It is not finite, or not above zero.
    """
    if claimed is not None and not (isinstance(claimed, Real) and 0 < float(claimed) < math.inf):
        raise UsageError(f"--claimed takes a score, a finite number above 0, not {printable(repr(claimed))}.")


@dataclass(frozen=True, eq=False)
class _Given:
    """The official rows that a set has predictions for.

    Attributes:
        at: Position in the set of the first prediction of each official row that it names, [m].
        row: Those rows, ascending, [m].
        position: Their positions among the available rows, [m]; -1 for one that is not available.
        usable: Whether that prediction is a finite number, or a probability, [m].
        foreign: Ids that are not rows of the task, each once.
        repeated: Ids that occur more than once.
        n_conflicting: Number of those whose predictions differ.
    """

    at: NDArray[np.int64]
    row: NDArray[np.int64]
    position: NDArray[np.int64]
    usable: NDArray[np.bool_]
    foreign: list[str]
    repeated: list[str]
    n_conflicting: int

    @property
    def is_scored(self) -> NDArray[np.bool_]:
        """Whether there is a usable prediction and a target, [m]."""
        return (self.position >= 0) & self.usable

    @classmethod
    def make(cls, rows: RowFacts, entry: PredictionSet) -> _Given:
        number, first = _row_numbers(rows.task.name), entry.first
        # In the official order: the same predictions give the same intervals in any order of the file.
        known = sorted((number[name], i) for name, i in first.items() if name in number)
        row, at = np.array(known, dtype=np.int64).reshape(-1, 2).T
        place = np.full(len(number), -1, dtype=np.int64)
        place[rows.row] = np.arange(len(rows))
        prediction = entry.prediction[at]
        usable = np.isfinite(prediction)
        if rows.task.kind == "classification":
            usable &= (prediction >= 0) & (prediction <= 1)
        counting = entry.prediction[[first[name] for name in entry.ids]]
        differs = (entry.prediction != counting) & ~(np.isnan(entry.prediction) & np.isnan(counting))
        return cls(
            at=at,
            row=row,
            position=place[row],
            usable=usable,
            foreign=[name for name in first if name not in number],
            repeated=[name for name, count in Counter(entry.ids).items() if count > 1],
            n_conflicting=len({entry.ids[i] for i in np.flatnonzero(differs)}),
        )


@cache
def _row_numbers(task_name: str) -> dict[str, int]:
    """Return the row of every id of an official task."""
    task = TASKS[task_name]
    return {task.row_id(row): row for row in range(task.n_rows or 0)}


def _why_nothing(given: _Given, rows: RowFacts) -> str:
    if not len(given.at):
        return f"its ids, such as {printable(given.foreign[0])}, are not rows of the task"
    if not given.usable.any():
        return "not one is a finite number" if rows.task.kind == "regression" else "not one is a probability"
    if not (given.position >= 0).any():
        return f"{rows.source} has none of their rows"
    return f"those that are numbers are of rows that {rows.source} does not have"


def _some(names: Sequence[str]) -> dict[str, Any]:
    return {"n": len(names), "first": [printable(name) for name in names[:_NAMED]]}


def _id_facts(task: Task, entry: PredictionSet, given: _Given) -> dict[str, Any]:
    broken = [entry.ids[i] for i in given.at[~given.usable].tolist()]
    other = task_of_ids(given.foreign) if given.foreign else None
    return {
        "n_rows": len(given.at),
        "coverage": len(given.at) / (task.n_rows or 1),
        "foreign": _some(given.foreign) | {"task": None if other is None else other.name},
        "repeated": _some(given.repeated) | {"conflicting": given.n_conflicting},
        "not_usable": _some(broken),
    }


def official_fold(task: Task, rows: RowFacts) -> NDArray[np.int64] | None:
    """Return the fold of every official row, [n_rows]; None if the labels that it depends on are not all available."""
    n_rows, labels = task.n_rows or 0, None
    if task.kind == "classification":
        if not rows.is_complete:
            return None
        labels = np.empty(n_rows)
        labels[rows.row] = rows.target
    fold = np.empty(n_rows, dtype=np.int64)
    for index, (_, test) in enumerate(official_folds(task.kind, n_rows, labels)):
        fold[test] = index
    return fold


def _fold_facts(task: Task, entry: PredictionSet, given: _Given, folds: NDArray[np.int64] | None) -> dict[str, Any]:
    """Return which official folds the rows are.

    The kind is "whole" (one or more folds, at least 95 % of their rows), "part" (fewer rows of one fold), "spread"
    (rows of several folds), or "unknown". Missing rows are those that whole folds lack, extra rows are of other folds.
    """
    stated = entry.fold
    facts: dict[str, Any] = {"states_folds": stated is not None, "n_misplaced": None}
    if folds is None:
        return facts | {"kind": "unknown", "which": [], "folds": [], "missing": None, "extra": None}
    own = folds[given.row]
    n_test, n_given = (np.bincount(numbers, minlength=N_FOLDS) for numbers in (folds, own))
    share = n_given / n_test
    whole = share >= _WHOLE
    touched = share > 1 - _WHOLE
    if whole.any() and (whole == touched).all():
        kind, which = "whole", whole
    else:
        of_one = n_given >= _WHOLE * n_given.sum()
        kind, which = ("part", of_one) if of_one.any() else ("spread", n_given > 0)
    numbers = np.flatnonzero(which)
    missing = extra = None
    if kind != "spread":
        extra = _some([task.row_id(row) for row in given.row[~np.isin(own, numbers)].tolist()])
    if kind == "whole":
        lacking = np.setdiff1d(np.flatnonzero(np.isin(folds, numbers)), given.row)
        missing = _some([task.row_id(row) for row in lacking.tolist()])
    if stated is not None:
        facts["n_misplaced"] = int(np.count_nonzero(stated[given.at] != own))
    return facts | {
        "kind": kind,
        "which": numbers.tolist(),
        "folds": [
            {"fold": fold, "n_test": int(n_test[fold]), "n": int(n_given[fold]), "share": float(share[fold])}
            for fold in range(N_FOLDS)
        ],
        "missing": missing,
        "extra": extra,
    }


def _by_fold(
    task: Task, target: NDArray[np.float64], prediction: NDArray[np.float64], fold: NDArray[np.int64] | None
) -> list[dict[str, Any]]:
    """Return the primary score on the scored rows of each official fold that has any, with its number and n."""
    if fold is None:
        return []
    name = primary_metric(task.kind).name
    parts = {number: np.flatnonzero(fold == number) for number in np.unique(fold).tolist()}
    return [
        {"fold": number, "n": len(at), "score": score(task.kind, target[at], prediction[at])[name]}
        for number, at in parts.items()
    ]


def _target_facts(entry: PredictionSet, given: _Given, rows: RowFacts) -> dict[str, Any] | None:
    """Return how the targets in the file agree with the official ones; None if it has none."""
    if entry.target is None:
        return None
    stated = entry.target[given.at]
    at = np.flatnonzero((given.position >= 0) & np.isfinite(stated))
    official = rows.target[given.position[at]]
    off = np.abs(stated[at] - official)
    odd = at[off > np.maximum(_TARGET_SHARE * np.abs(official), _TARGET_FLOOR)]
    return {
        "n": len(at),
        "differ": _some([entry.ids[i] for i in given.at[odd].tolist()]),
        "largest": float(off.max(initial=0)),
    }


def _bias(overall: Mapping[str, Any], target: NDArray[np.float64], prediction: NDArray[np.float64]) -> dict[str, Any]:
    """Return the mean of prediction - target with its interval, for probabilities as well."""
    if "bias" in overall:
        return {"mean": overall["bias"], "interval": overall["bias_interval"]}
    error = prediction - target
    return {"mean": float(error.mean()), "interval": list(bootstrap_mean(error))}


def _affine(target: NDArray[np.float64], prediction: NDArray[np.float64]) -> dict[str, Any] | None:
    """Fit target = intercept + slope * prediction by least squares, on the test targets themselves.

    Returns its MAE with an interval, and the MAE of the predictions after only their mean bias is removed ("shifted");
    None if the predictions differ by rounding only, or are too large to compute with.
    """
    centre = prediction.mean()
    off = prediction - centre
    spread = np.abs(off).max()
    if len(target) < 3 or not spread > _SAME * np.abs(prediction).max():
        return None
    x = off / spread
    slope = (x * (target - target.mean())).sum() / (x**2).sum()
    residual = np.abs(target.mean() + slope * x - target)
    error = prediction - target
    numbers = {
        "intercept": float(target.mean() - slope / spread * centre),
        "slope": float(slope / spread),
        "mae": float(residual.mean()),
        "shifted": float(np.abs(error - error.mean()).mean()),
    }
    if not all(map(math.isfinite, numbers.values())):
        return None
    return numbers | {"mae_interval": list(bootstrap_mean(residual))}


def _claim(task: Task, facts: Mapping[str, Any], entry: PredictionSet, claimed: float | None) -> dict[str, Any] | None:
    """Return the claim and the score that was found; None if nothing is claimed.

    A claim is met if it agrees with the score to half a percent; one that is not met may still lie in the interval of
    the score, as the score of other rows would. The score of a complete file is the mean over the folds, as on the
    leaderboard.
    """
    value = entry.claimed if claimed is None else claimed
    if value is None:
        return None
    name = primary_metric(task.kind).name
    found = facts["score"][name] if _why_no_rank(facts) else _fold_mean(facts["by_fold"])
    key = "mae" if task.kind == "regression" else "balanced_accuracy"
    low, high = facts["breakdown"]["overall"][f"{key}_interval"]
    inside = low is not None and high is not None and low <= value <= high
    return {
        "value": value,
        "text": entry.claim if claimed is None else None,
        "source": "file" if claimed is None else "--claimed",
        "found": found,
        "is_met": bool(abs(found - value) <= _ROUNDING * abs(value)),
        "is_inside": bool(inside),
    }


def _fold_mean(scores: Sequence[Mapping[str, Any]]) -> float:
    return float(np.mean([fold["score"] for fold in scores]))


def _leaderboard(task: Task, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rank among the official published models, or the reason for having none."""
    models = [model for model in published(task.name) if model.is_official]
    board: dict[str, Any] = {"n_models": len(models), "source": source(), "rank": None, "reason": None}
    if not models:
        return board | {"reason": "nothing is published for the task"}
    if reason := _why_no_rank(facts):
        return board | {"reason": reason}
    scores = [fold["score"] for fold in facts["by_fold"]]
    mean = float(np.mean(scores))
    place = rank(task.name, mean) or 1
    near = [{"rank": i + 1, "model": model.model, "mean": model.mean} for i, model in enumerate(models)]
    return board | {
        "rank": place,
        "mean": mean,
        "std": float(np.std(scores)),
        "beside": near[max(0, place - 3) : place + 2],
    }


def _why_no_rank(facts: Mapping[str, Any]) -> str | None:
    """Return why the file is not a result on all rows in their official folds; None if it is."""
    if facts["ids"]["coverage"] < 1:
        return f"only {facts['ids']['coverage']:.1%} of the task's rows are predicted"
    if facts["rows"]["n_not_at_hand"]:
        return "not all of its rows are available for scoring"
    if facts["rows"]["n_scored"] < facts["n"]:
        return "some predictions are of other rows, of rows predicted before, or not numbers"
    if facts["folds"]["kind"] == "unknown" or not facts["folds"]["states_folds"]:
        return "the file does not say by which fold's model a row was predicted"
    return "its folds are not the official ones" if facts["folds"]["n_misplaced"] else None


def _compare(
    rows: RowFacts, position: NDArray[np.int64], prediction: NDArray[np.float64], other: PredictionFile
) -> dict[str, Any]:
    """Compare predictions for the rows at these positions, [n], with those of another model for the same rows."""
    _, entry = other.find(rows.task)
    given = _Given.make(rows, entry)
    theirs = np.full(len(rows), np.nan)
    theirs[given.position[given.is_scored]] = entry.prediction[given.at[given.is_scored]]
    shared = np.isfinite(theirs[position])
    label = {"model": other.model, "file": other.path.name, "set": entry.name, "n": int(np.count_nonzero(shared))}
    if not shared.any():
        return label | {"comparison": None}
    at = position[shared]
    found = compare(rows.task.kind, rows.target[at], prediction[shared], theirs[at], rows.space_group[at])
    return label | {"comparison": found}


def check_other_sets(file: PredictionFile, chosen: PredictionSet | None = None) -> list[dict[str, Any]]:
    """Return, for every other set in a file, what can be checked without targets.

    Sets of the same property whose ids belong to no known task are compared with each other: on rows that two of them
    share, predictions with mean absolute errors a and b differ by at most a + b on average.
    """
    others = [entry for entry in file.sets if entry is not chosen]
    found = []
    for entry in others:
        finite = entry.prediction[np.isfinite(entry.prediction)]
        facts = {
            "set": entry.name,
            "n": len(entry),
            "task": entry.task.name if entry.task is not None else None,
            "example": printable(entry.ids[0]) if entry.ids else None,
            "claim": entry.claim,
            "n_repeated": sum(count > 1 for count in Counter(entry.ids).values()),
            "n_not_finite": len(entry) - len(finite),
            "range": [float(finite.min()), float(finite.max())] if len(finite) else None,
            "shared": [_shared(entry, other) for other in others if _may_share(entry, other)],
        }
        found.append(facts)
    facts_of_sets: list[dict[str, Any]] = plain(found)
    return facts_of_sets


def _may_share(one: PredictionSet, other: PredictionSet) -> bool:
    # Each pair counts once, with the first of the two.
    return (
        one.task is None
        and other.task is None
        and one.name < other.name
        and one.name.rpartition("/")[2] == other.name.rpartition("/")[2]
    )


def _shared(one: PredictionSet, other: PredictionSet) -> dict[str, Any]:
    theirs = other.first
    pairs = [(one.prediction[i], other.prediction[theirs[name]]) for name, i in one.first.items() if name in theirs]
    difference = np.array([abs(a - b) for a, b in pairs if math.isfinite(a) and math.isfinite(b)])
    bound = one.claimed + other.claimed if one.claimed is not None and other.claimed is not None else None
    facts = {"set": other.name, "n": len(difference), "bound": bound}
    if not len(difference):
        return facts | {"difference": None, "interval": None}
    return facts | {"difference": float(difference.mean()), "interval": list(bootstrap_mean(difference))}
