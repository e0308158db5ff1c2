"""Contrasts: which of two variants is better, on these folds beyond the noise of training, and on new data.

docs/statistics.md has the formulas with their assumptions, sources and power.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import UsageError, printable, suggest
from benchmarks.data.tasks import Kind
from benchmarks.results.metrics import THRESHOLD, row_loss
from benchmarks.results.statistics import (
    CONFIDENCE,
    FEWEST_OF_A_CLASS,
    Estimate,
    corrected_variance,
    holm,
    interval_of_share,
    p_of_share,
)
from benchmarks.results.store import Predictions, Training

__all__ = [
    "MARGIN",
    "MEANINGFUL",
    "REFERENCE",
    "TARGET",
    "Answer",
    "Compared",
    "Comparison",
    "KnownNoise",
    "Noise",
    "Superiority",
    "Verdict",
    "compare",
    "declare",
    "estimate_difference",
    "known_noise",
]

MARGIN = 0.02
"""Differences within this share of the second variant's score do not matter, unless the user names another margin."""

MEANINGFUL = 0.75
"""Share of random splits above which being better on them is meaningful (Bouthillier et al. 2021, arXiv:2103.03098)."""

REFERENCE = "capsule"
"""The block that the others are compared with, unless the user declares other contrasts."""

TARGET = 0.05
"""Contrasts without a significant difference name the seeds that find this share of the second variant's score."""

# Noise below this share of the scores is of the rounding.
_ROUNDING = 1e-12
_NO_NOISE = "no noise was seen"

Verdict = Literal["better", "worse", "equivalent", "no significant difference", "not assessable"]
Finding = Literal["not significant", "significant", "meaningful"]


@dataclass(frozen=True, eq=False)
class Compared:
    """The trainings of a variant, as they enter a comparison.

    Attributes:
        label: Its name in tables.
        score: Score of each training.
        predictions: Predictions of each training for its test rows; empty where other rows judge, which differ from
            seed to seed.
        test_to_train: Ratio of test to training rows of a fold, see `statistics.share_tested`.
        not_assessable: Why a question cannot be answered of this variant, by the name of the answer in `Comparison`.
    """

    label: str
    score: Mapping[Training, float]
    predictions: Mapping[Training, Predictions]
    test_to_train: float
    not_assessable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Noise:
    """What makes the mean difference of two variants over these folds uncertain, in squared units of the score.

    Attributes:
        one_seed: Variance that other seeds would cause, if each fold were trained with one seed.
        seeds: Seeds of a fold, by which `one_seed` is divided. Where folds have different numbers it is their harmonic
            mean weighted by the noise of each fold: as many seeds of every fold would leave the same variance.
        df: Degrees of freedom of `one_seed / seeds`; fewer than the design has where some folds or a variant are
            noisier.
        rows: Variance that other test rows would cause, which no seed reduces. 0 where validation rows judge: those of
            folds differ from seed to seed, which is then a part of `one_seed`.
        rows_df: Degrees of freedom of `rows`.
    """

    one_seed: float
    seeds: float
    df: float
    rows: float = 0.0
    rows_df: int = 0

    def estimate(self, difference: float) -> Estimate:
        """Return a difference with its error; the degrees of freedom are Satterthwaite's (1946, 10.2307/3002019)."""
        training = self.one_seed / self.seeds
        spread = training**2 / self.df + (self.rows**2 / self.rows_df if self.rows else 0.0)
        variance = training + self.rows
        return Estimate(difference, math.sqrt(variance), variance**2 / spread if spread else math.inf)

    def seeds_for(self, difference: float, level: float) -> int | None:
        """Return the fewest seeds that would find a difference of this size, see `Estimate.detectable`.

        It is the second stage of Stein (1945, 10.1214/aoms/1177731088): the quantiles are those of the seeds that the
        noise was estimated from, because more of them do not make the number that is chosen now any better.

        Args:
            difference: The difference, in the unit of the score.
            level: Level of the test.

        Returns:
            At least 2; None where the test rows alone are too few.
        """
        if replace(self, seeds=math.inf).estimate(0.0).detectable(level) >= difference:
            return None
        few, enough = 1, 2
        while replace(self, seeds=enough).estimate(0.0).detectable(level) > difference:
            few, enough = enough, 2 * enough
        while enough - few > 1:
            middle = (few + enough) // 2
            found = replace(self, seeds=middle).estimate(0.0).detectable(level) <= difference
            few, enough = (few, middle) if found else (middle, enough)
        return enough


@dataclass(frozen=True)
class Answer:
    """The answer of a comparison to one question; numbers are NaN where it is not assessable.

    Attributes:
        low: Lower end of the 95 % interval of the difference.
        high: Upper end of it.
        p: Two-sided p-value of no difference, adjusted after Holm.
        p_equivalent: p-value of two one-sided tests against the margin (Schuirmann 1987, 10.1007/BF01068419), adjusted
            after Holm.
        detectable: The smallest difference that this design finds in four of five studies.
        verdict: Of the first variant. A difference that is significant but within the margin is "equivalent".
        reason: Why the question is not assessable, a part of a sentence; empty if it is.
    """

    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    p_equivalent: float = math.nan
    detectable: float = math.nan
    verdict: Verdict = "not assessable"
    reason: str = ""


@dataclass(frozen=True)
class Superiority:
    """How often the first variant is better on random splits of these rows, where both are trained anew for each.

    It says nothing of other data: all splits are of the same rows, however many there are.

    Attributes:
        share: Share of the splits on which it is better; ties count half.
        low: Lower end of the exact 95 % interval of the probability that it is better on such a split.
        high: Upper end of it.
        splits: Number of splits.
        p: Two-sided p-value of a probability of one half, the sign test, adjusted after Holm.
        finding: "meaningful" if it is significant and one of the two is better on more than the share MEANINGFUL.
    """

    share: float
    low: float
    high: float
    splits: int
    p: float
    finding: Finding


@dataclass(frozen=True)
class Comparison:
    """Two variants compared on the trainings and rows that both have.

    Attributes:
        first: Name of the first variant.
        second: Name of the second.
        folds: Folds compared.
        seeds: Seeds compared.
        rows: Number of test rows compared; 0 where other rows judge.
        score: Score of the second variant: mean over folds of the mean over seeds.
        difference: Score of the first less that of the second.
        margin: The difference that does not matter, in the unit of the score.
        level: Level of the test on these folds that is the strictest after Holm, for which `detectable` holds.
        noise: Noise of the difference on these folds; None where a fold lacks two seeds, or two rows of a class.
        on_these_folds: Whether one is better on these folds, beyond the noise of training and of test rows.
        on_new_data: Whether it would be better after training and testing on other rows.
        superiority: How often it is better on random splits; None where the folds are no random splits.
    """

    first: str
    second: str
    folds: list[int]
    seeds: list[int]
    rows: int
    score: float
    difference: float
    margin: float
    level: float
    noise: Noise | None
    on_these_folds: Answer
    on_new_data: Answer
    superiority: Superiority | None = None

    def seeds_for(self, difference: float) -> int | None:
        """Return the seeds that would find a difference of this size on these folds, see `Noise.seeds_for`.

        None also where the question is not assessable.
        """
        if self.noise is None or self.on_these_folds.reason:
            return None
        return self.noise.seeds_for(difference, self.level)


def declare(variants: Mapping[str, tuple[str, frozenset[Any]]], given: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return the contrasts to make, each as the labels of its first and second variant.

    Where there are capsule and something else, the default is every other variant against capsule at the same values
    of the other fields; otherwise every other variant against the one whose label is the smallest. A variant without
    such a capsule is compared with that of the most alike values. The order of the variants does not matter. Variants
    with different limits of training rows are never compared: their difference would be that of the rows.

    Args:
        variants: By the label of each variant, the name of its block or model, and the values that it has of other
            fields, as pairs of a field and its value.
        given: What replaces the default: two labels each with a colon between them, such as "mlp:egnn"; the name of
            its block or model may stand for the label of a variant, where that is the only one.

    Raises:
        UsageError: A contrast has no colon, names no variant or the same one on both sides, is given twice, or is of
            variants with different limits.
    """
    values = {label: of_variant for label, (_, of_variant) in variants.items()}
    limits = {label: dict(of_variant).get("limit") for label, of_variant in values.items()}
    if given:
        declared = [_parse(text, {label: name for label, (name, _) in variants.items()}) for text in given]
        for text, pair in zip(given, declared, strict=True):
            same = [other for other in declared if {*other} == {*pair}]
            if same.count(pair) > 1:
                raise UsageError(f"--contrast {printable(text)} is given twice: declare each contrast once.")
            if len(same) > 1:
                one, other = (":".join(names) for names in same[:2])
                raise UsageError(f"--contrast: {one} and {other} are the same contrast: declare it once.")
            if limits[pair[0]] != limits[pair[1]]:
                raise UsageError(
                    f"--contrast {printable(text)}: the two have different limits of training rows, whose effect would "
                    "count as theirs. Compare variants of equal limits; the section learning-curves of a report shows "
                    "what rows do."
                )
        return declared
    declared = []
    for limit in dict.fromkeys(limits.values()):
        names = {label: name for label, (name, _) in variants.items() if limits[label] == limit}
        references = [label for label, name in names.items() if name == REFERENCE]
        if len(references) in {0, len(names)}:
            references = sorted(names)[:1]
        declared += [
            (label, min(references, key=lambda one: (len(values[one] ^ values[label]), one)))
            for label in names
            if label not in references
        ]
    return declared


def _parse(text: str, names: Mapping[str, str]) -> tuple[str, str]:
    """Return the two labels of a contrast; blanks do not matter.

    Args:
        text: The contrast.
        names: The block or model of each label.
    """
    labels = {name: [label for label, of_label in names.items() if of_label == name] for name in names.values()}
    several = {_without_blanks(name): found for name, found in labels.items() if name not in names and len(found) > 1}
    known = {_without_blanks(name): found[0] for name, found in labels.items() if len(found) == 1}
    known |= {_without_blanks(label): label for label in names}
    # Values of fields may hold colons.
    pairs = [(text[:i], text[i + 1 :]) for i, char in enumerate(text) if char == ":"]
    if not pairs:
        raise UsageError(
            f"--contrast {printable(text)} has no colon: name two variants, first and second, such as mlp:{REFERENCE}."
        )
    pair = max(pairs, key=lambda pair: sum(_without_blanks(name) in known for name in pair))
    for name in map(str.strip, pair):
        if found := several.get(_without_blanks(name)):
            raise UsageError(f"--contrast {printable(text)}: {name} may be any of {'; '.join(found)}: name one.")
        if _without_blanks(name) not in known:
            raise UsageError(
                f"--contrast {printable(text)}: there is no variant {printable(name)!r}. {suggest(name, names)}"
            )
    first, second = (known[_without_blanks(name)] for name in pair)
    if first == second:
        raise UsageError(f"--contrast {printable(text)} has {first} on both sides: name two variants.")
    return first, second


def _without_blanks(label: str) -> str:
    return "".join(label.split())


def compare(
    contrasts: Sequence[tuple[Compared, Compared]],
    kind: Kind,
    *,
    higher_is_better: bool,
    margin: float = MARGIN,
    resampled: bool = False,
    not_assessable: Mapping[str, str] | None = None,
) -> list[Comparison]:
    """Compare the variants of each contrast; those that have no training or no row in common are left out.

    Args:
        contrasts: First and second variant. p-values are adjusted for these contrasts alone, so they must have been
            declared before the results were seen.
        kind: Kind of the task.
        higher_is_better: Whether a higher score is better.
        margin: Share of the second variant's score within which differences do not matter.
        resampled: Whether each fold is a random split of its own.
        not_assessable: Why a question cannot be answered of any contrast, by the name of the answer in `Comparison`.
    """
    apart = {"on_these_folds": "each fold is a random split"} if resampled else {}
    apart |= not_assessable or {}
    found = [facts for first, second in contrasts if (facts := _contrast(first, second, kind, apart)) is not None]
    margins = [margin * abs(facts["score"]) for facts in found]
    by_fold = [facts.pop("by_fold") if higher_is_better else -facts.pop("by_fold") for facts in found]
    # A sign test needs no estimate of the noise.
    gains = [
        each if resampled and (isinstance(anew := facts["on_new_data"], Estimate) or anew == _NO_NOISE) else None
        for each, facts in zip(by_fold, found, strict=True)
    ]
    estimates = {question: [facts.pop(question) for facts in found] for question in ("on_these_folds", "on_new_data")}
    answers = [_answer(each, margins, higher_is_better=higher_is_better) for each in estimates.values()]
    level = _strictest(estimates["on_these_folds"])
    return [
        Comparison(**facts, margin=width, level=level, on_these_folds=here, on_new_data=anew, superiority=superiority)
        for facts, width, here, anew, superiority in zip(found, margins, *answers, _superiority(gains), strict=True)
    ]


def _superiority(all_gains: Sequence[NDArray[np.float64] | None]) -> list[Superiority | None]:
    """Return how often the first variant of each contrast is better.

    Args:
        all_gains: By how much it is better on each split, [n]; None where that is not assessable.
    """
    won = [None if gains is None else float((np.sign(gains) + 1).sum() / 2) for gains in all_gains]
    n_splits = [0 if gains is None else len(gains) for gains in all_gains]
    all_p = holm([math.nan if k is None else p_of_share(k, n) for k, n in zip(won, n_splits, strict=True)])
    found: list[Superiority | None] = []
    for k, n, p in zip(won, n_splits, all_p, strict=True):
        if k is None:
            found.append(None)
            continue
        is_meaningful = max(k, n - k) / n > MEANINGFUL
        finding: Finding = "not significant"
        if p < 1 - CONFIDENCE:
            finding = "meaningful" if is_meaningful else "significant"
        found.append(Superiority(k / n, *interval_of_share(k, n), n, p, finding))
    return found


def _strictest(estimates: Sequence[Estimate | str]) -> float:
    """Return the level at which Holm tests the smallest p-value of these estimates."""
    return (1 - CONFIDENCE) / max(1, sum(isinstance(estimate, Estimate) for estimate in estimates))


def _answer(estimates: Sequence[Estimate | str], margins: Sequence[float], *, higher_is_better: bool) -> list[Answer]:
    """Return the answers of all contrasts to one question, from their estimates or the reasons why there are none."""
    unknown, level = Estimate(math.nan, math.nan, math.nan), _strictest(estimates)
    known = [unknown if isinstance(estimate, str) else estimate for estimate in estimates]
    all_p = holm([estimate.p_value() for estimate in known])
    all_equivalent = holm([one.p_equivalent(margin) for one, margin in zip(known, margins, strict=True)])
    answers = []
    for estimate, p, p_equivalent in zip(estimates, all_p, all_equivalent, strict=True):
        if isinstance(estimate, str):
            answers.append(Answer(reason=estimate))
            continue
        verdict: Verdict = "no significant difference"
        if p_equivalent < 1 - CONFIDENCE:
            verdict = "equivalent"
        elif p < 1 - CONFIDENCE:
            verdict = "better" if (estimate.mean > 0) == higher_is_better else "worse"
        answers.append(Answer(*estimate.interval(), p, p_equivalent, estimate.detectable(level), verdict))
    return answers


def _contrast(first: Compared, second: Compared, kind: Kind, apart: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the facts of a comparison that do not depend on others; None if the two have nothing in common.

    Args:
        first: First variant.
        second: Second variant.
        kind: Kind of the task.
        apart: Why a question cannot be answered of any contrast, by the name of the answer.
    """
    common = sorted(first.score.keys() & second.score.keys())
    trainings = {fold: [each for each in common if each.fold == fold] for fold in sorted({t.fold for t in common})}
    parts = {fold: part for fold in trainings if (part := _part(first, second, trainings[fold], kind)) is not None}
    if not parts:
        return None
    all_parts = list(parts.values())
    by_fold = np.array([(part.first - part.second).mean() for part in all_parts])
    difference = float(by_fold.mean())
    not_assessable = {**second.not_assessable, **first.not_assessable, **apart}
    noise = None
    on_these_folds: Estimate | str = _why_no_noise(first, second, parts, kind)
    tested = [name for fold in parts if first.predictions for name in first.predictions[trainings[fold][0]].ids]
    if len(set(tested)) < len(tested):  # the noise of rows would be counted as if each fold had others
        on_these_folds = "rows are tested in several folds"
    if not on_these_folds and "on_these_folds" not in not_assessable:
        noise = _noise(all_parts, has_rows=bool(first.predictions))
        on_these_folds = noise.estimate(difference)
    on_new_data: Estimate | str
    if not first.predictions:
        on_new_data = "validation rows judge"
    elif len(parts) < 2:
        on_new_data = "one fold says nothing of other training rows"
    else:
        variance = corrected_variance(by_fold, max(first.test_to_train, second.test_to_train))
        on_new_data = Estimate(difference, math.sqrt(variance), len(parts) - 1)
    score = float(np.mean([part.second.mean() for part in all_parts]))
    if not all(part.is_alike for part in all_parts):
        least = _ROUNDING * max(abs(score), abs(score + difference))
        on_these_folds, on_new_data = (
            _NO_NOISE if isinstance(estimate, Estimate) and estimate.error <= least else estimate
            for estimate in (on_these_folds, on_new_data)
        )
    if kind == "classification" and first.predictions:
        rarest = min(sum(np.count_nonzero(part.stratum == label) for part in all_parts) for label in (0, 1))
        if rarest < FEWEST_OF_A_CLASS:
            on_these_folds = on_new_data = f"a class has fewer than {FEWEST_OF_A_CLASS} test rows"
    if not math.isfinite(difference):
        on_these_folds = on_new_data = "a score is no number"
    return {
        "first": first.label,
        "second": second.label,
        "folds": list(parts),
        "seeds": sorted({training.seed for fold in parts for training in trainings[fold]}),
        "rows": sum(part.difference.shape[1] for part in all_parts),
        "score": score,
        "difference": difference,
        "by_fold": by_fold,
        "noise": noise,
        "on_these_folds": not_assessable.get("on_these_folds", on_these_folds),
        "on_new_data": not_assessable.get("on_new_data", on_new_data),
    }


def estimate_difference(first: Sequence[NDArray[np.float64]], second: Sequence[NDArray[np.float64]]) -> Estimate | str:
    """Return the difference of two variants in some value of a row, on these folds: see `Comparison.on_these_folds`.

    It is the mean over folds of the mean over rows and seeds.

    Args:
        first: Values of the first variant in each fold, [S, n].
        second: Those of the second, of as many seeds and of the same rows.

    Returns:
        The difference with its error, or a part of a sentence why that is not known.
    """
    if any(len(fold) < 2 for fold in first):
        return "each was trained once" if all(len(fold) < 2 for fold in first) else "a fold has one seed of both"
    if any(fold.shape[1] < 2 for fold in first):
        return "a fold has fewer than two test rows"
    parts = [
        _Part(
            one.mean(1), other.mean(1), one - other, np.zeros(one.shape[1], dtype=np.int64), np.array_equal(one, other)
        )
        for one, other in zip(first, second, strict=True)
    ]
    estimate = _noise(parts, has_rows=True).estimate(float(np.mean([part.difference.mean() for part in parts])))
    return _NO_NOISE if estimate.error == 0 and estimate.mean else estimate


class _Part(NamedTuple):
    """What two variants did in a fold: their scores [S], and the difference of their values on n common rows [S, n].

    A score is the mean of the values of its rows; a balanced accuracy is the mean over the classes, which `stratum` [n]
    holds, of the mean over a class. `is_alike` says whether the two predicted the same, or have the same scores where
    there are no rows.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    difference: NDArray[np.float64]
    stratum: NDArray[np.int64]
    is_alike: bool


def _part(first: Compared, second: Compared, trainings: Sequence[Training], kind: Kind) -> _Part | None:
    """Return what two variants did in a fold; None if they share no test row there."""
    if not first.predictions:
        mine, theirs = (np.array([one.score[training] for training in trainings]) for one in (first, second))
        nothing = np.empty((len(trainings), 0)), np.empty(0, dtype=np.int64)
        return _Part(mine, theirs, *nothing, np.array_equal(mine, theirs))
    ids = _common_ids([one.predictions[training].ids for one in (first, second) for training in trainings])
    if not ids:
        return None
    rows = [[_of_rows(one.predictions[training], ids) for training in trainings] for one in (first, second)]
    target = rows[0][0][0]
    values = np.array([[_values(kind, *each) for each in of_variant] for of_variant in rows])
    is_alike = all(np.array_equal(mine[1], theirs[1]) for mine, theirs in zip(*rows, strict=True))
    stratum = (target > THRESHOLD).astype(np.int64) if kind == "classification" else np.zeros(len(ids), dtype=np.int64)
    scores = np.mean([values[..., stratum == label].mean(-1) for label in np.unique(stratum)], axis=0)
    return _Part(scores[0], scores[1], values[0] - values[1], stratum, is_alike)


def _common_ids(lists: Sequence[Sequence[str]]) -> list[str]:
    """Return the ids that all lists have, in the order of the first."""
    if all(ids == lists[0] for ids in lists):
        return list(lists[0])
    common = set(lists[0]).intersection(*lists)
    return [name for name in lists[0] if name in common]


def _of_rows(part: Predictions, ids: list[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return targets and predictions of these rows."""
    if part.ids == ids:
        return part.target, part.prediction
    place = {name: i for i, name in enumerate(part.ids)}
    at = [place[name] for name in ids]
    return part.target[at], part.prediction[at]


def _values(kind: Kind, target: NDArray[np.float64], prediction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the absolute error of each row, or 1 for a right label and 0 for a wrong one."""
    loss = row_loss(kind, target, prediction)
    return loss if kind == "regression" else 1 - loss


def _why_no_noise(first: Compared, second: Compared, parts: Mapping[int, _Part], kind: Kind) -> str:
    """Return why the noise on these folds is not known; empty if it is.

    A fold whose noise is not known is not given that of the others, since folds may be far from equally noisy.
    """
    once = [fold for fold, part in parts.items() if len(part.first) < 2]
    if len(once) == len(parts):
        is_once = all(len(one.score) == len({training.fold for training in one.score}) for one in (first, second))
        return "each was trained once" if is_once else "no fold has two seeds of both"
    if once:
        return f"{_have(once)} one seed of both"
    if not first.predictions:
        return ""
    of_class, labels = (" of a class", (0, 1)) if kind == "classification" else ("", (0,))
    few = [fold for fold, part in parts.items() if min(np.count_nonzero(part.stratum == label) for label in labels) < 2]
    return f"{_have(few)} fewer than two test rows{of_class}" if few else ""


def _have(folds: Sequence[int]) -> str:
    """Return the beginning of a sentence: "fold 3 has" or "folds 1, 2 and 4 have"."""
    if len(folds) == 1:
        return f"fold {folds[0]} has"
    return f"folds {', '.join(map(str, folds[:-1]))} and {folds[-1]} have"


def _noise(parts: Sequence[_Part], *, has_rows: bool) -> Noise:
    """Return the noise of the mean difference over folds, of which each was trained with two seeds or more.

    Each fold of each variant has a variance of training of its own. They may be far from equal, so the degrees of
    freedom are Satterthwaite's for a sum of variances, in the unbiased form of Welch (1947, 10.1093/biomet/34.1-2.28),
    and at most those of equal variances. Test rows are the same for all seeds, which are then independent in the two
    variants. Validation rows differ from seed to seed but not between variants, whose differences are therefore taken
    seed by seed.
    """
    k, n_seeds = len(parts), np.array([len(part.first) for part in parts])
    samples = [[part.first for part in parts], [part.second for part in parts]]
    if not has_rows:
        samples = [[part.first - part.second for part in parts]]
    of_fold = np.array([[each.var(ddof=1) for each in sample] for sample in samples])
    of_mean = of_fold / n_seeds
    df, seeds = float(len(samples) * (n_seeds - 1).sum()), statistics.harmonic_mean(n_seeds.tolist())
    if of_mean.any():
        df = min(df, float(of_mean.sum() ** 2 / (of_mean**2 / (n_seeds + 1)).sum()) - 2)
        if len(set(n_seeds)) > 1:
            seeds = float(of_fold.sum() / of_mean.sum())
    one_seed = float(of_fold.sum()) / k**2
    if not has_rows:
        return Noise(one_seed, seeds, df)
    # An estimate of a variance that is zero may come out below zero.
    rows = max(0.0, sum(map(_row_variance, parts)) / k**2)
    return Noise(one_seed, seeds, df, rows, sum(len(part.stratum) - len(np.unique(part.stratum)) for part in parts))


def _row_variance(part: _Part) -> float:
    """Return the variance of the difference in a fold that other test rows would cause.

    The rows and the seeds are crossed, and the noise that a seed adds to a single row is counted as noise of training
    already: the variance of rows is that of their means over seeds less what this noise adds to it.
    """
    variance, labels = 0.0, np.unique(part.stratum)
    for label in labels:
        values = part.difference[:, part.stratum == label]
        seeds, n = values.shape
        rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
        of_error = (rest**2).sum() / ((seeds - 1) * (n - 1))
        variance += (values.mean(0).var(ddof=1) - of_error / seeds) / n
    return float(variance / len(labels) ** 2)


@dataclass(frozen=True)
class KnownNoise:
    """How much the score of a fold varies between the seeds of a run, whatever the run.

    Attributes:
        relative: Standard deviation between seeds over the mean of the fold, pooled over folds and runs.
        df: Its degrees of freedom.
        runs: Number of runs with two seeds or more.
    """

    relative: float
    df: int
    runs: int


def known_noise(runs: Iterable[Mapping[Training, float]]) -> KnownNoise | None:
    """Return the noise of training that the scores of other runs on a task show; None where none has two seeds."""
    squares, df, n_runs = 0.0, 0, 0
    for scores in runs:
        folds = [
            np.array([score for training, score in scores.items() if training.fold == fold], dtype=np.float64)
            for fold in sorted({training.fold for training in scores})
        ]
        repeated = [
            fold / abs(fold.mean()) for fold in folds if len(fold) > 1 and fold.mean() and np.isfinite(fold).all()
        ]
        squares += sum(float(((fold - fold.mean()) ** 2).sum()) for fold in repeated)
        df += sum(len(fold) - 1 for fold in repeated)
        n_runs += bool(repeated)
    return KnownNoise(math.sqrt(squares / df), df, n_runs) if df else None
