"""How the answers of a comparison read, in the terminal, in LaTeX and on the page of results."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ablations.comparison import Declaration
from ablations.judge import Judge
from benchmarks.base.console import count, figures
from benchmarks.data.folds import n_folds
from benchmarks.results.contrasts import MEANINGFUL, Answer, Comparison, KnownNoise

__all__ = [
    "answers",
    "as_share",
    "explanations",
    "how_often_better",
    "n_wanted",
    "seeds_wanted",
    "verdict",
    "with_share",
]

_MOST_SHOWN = 1000


def answers(comparison: Comparison) -> list[tuple[str, Answer]]:
    """Return the two questions with their answers."""
    return [("on these folds", comparison.on_these_folds), ("on new data", comparison.on_new_data)]


def as_share(value: float, comparison: Comparison) -> str:
    """Format a difference as a share of the second variant's score: "4.4 %"."""
    return f"{figures(100 * value / abs(comparison.score), 2)} %" if comparison.score and math.isfinite(value) else "–"


def with_share(value: float, comparison: Comparison, digits: int = 3) -> str:
    """Format a difference with its share of the second variant's score: "1.53 (4.4 %)"."""
    return f"{figures(value, digits)} ({as_share(value, comparison)})" if math.isfinite(value) else "–"


def verdict(answer: Answer) -> str:
    """Return the verdict of an answer, and why there is none."""
    return f"{answer.verdict}: {answer.reason}" if answer.reason else answer.verdict


def how_often_better(comparison: Comparison) -> str:
    """Return on how many random splits the first variant is better, "85 % (62 to 97): meaningful"; empty on folds."""
    if (found := comparison.superiority) is None:
        return ""
    share, low, high = (f"{100 * value:.0f}" for value in (found.share, found.low, found.high))
    return f"{share} % ({low} to {high}): {found.finding}"


def seeds_wanted(comparison: Comparison, target: float) -> str:
    """Return how many seeds find this share of the second variant's score, where no difference is significant."""
    if comparison.noise is None or comparison.on_these_folds.verdict != "no significant difference":
        return ""
    return n_wanted(comparison.seeds_for(target * abs(comparison.score)))


def n_wanted(seeds: int | None) -> str:
    """Return a number of seeds, "> 1,000" where nobody would train them, or why there is none."""
    if seeds is None:
        return "not attainable on these rows"
    return f"> {_MOST_SHOWN:,}" if seeds > _MOST_SHOWN else str(seeds)


def explanations(
    judge: Judge,
    split: str,
    declaration: Declaration,
    comparisons: Sequence[Comparison],
    known: KnownNoise | None,
    *,
    lacks_trainings: bool = False,
) -> list[str]:
    """Return what a reader of the comparisons must know, sentence by sentence.

    Args:
        judge: How the variants are scored.
        split: Split of the task.
        declaration: What was declared.
        comparisons: The comparisons.
        known: Noise of training that is known from elsewhere in the store.
        lacks_trainings: Whether trainings that were asked for are not finished.
    """
    better = "above" if judge.metric.higher_is_better else "below"
    if declaration.resampled:
        return [
            (
                "On new data: would the first be better than the second after training and testing on other rows? The "
                "verdict is that of the corrected resampled t-test over the splits (Nadeau and Bengio 2003)."
            ),
            (
                f"First better: on what share of random splits of these rows, with its exact 95 % interval. It is "
                "significant if a sign test, adjusted after Holm, excludes one half, meaningful if it is also above "
                f"{100 * MEANINGFUL:g} % or below {100 - 100 * MEANINGFUL:g} % (Bouthillier et al. 2021). More splits "
                "say more of these rows, not of others."
            ),
            _scale(better, comparisons),
            (
                f"Equivalent: within {100 * declaration.margin:g} % of the second. Finds: the smallest difference that "
                "four of five such studies find."
            ),
        ]
    # A holdout split has the same validation rows for all seeds, which do not show what other rows would change.
    are_other_rows = judge.rows == "test" or n_folds(split) != 1
    others = f"other seeds and other {judge.rows} rows" if are_other_rows else "other seeds"
    sentences = [
        f"On these folds: is the first better than the second here, beyond what {others} would change?",
        (
            "On new data: would it be better after training and testing on other rows (corrected resampled t-test over "
            "folds, Nadeau and Bengio 2003)?"
        ),
        _scale(better, comparisons),
        (
            f"Equivalent: within {100 * declaration.margin:g} % of the second. Finds: the smallest difference that "
            f"four of five such studies find. Seeds: how many find {100 * declaration.target:g} % on these folds, "
            "where none is significant."
        ),
    ]
    if not are_other_rows:
        sentences.append(
            "A holdout split has the same validation rows for all seeds: what other rows would change is not counted."
        )
    if any(comparison.noise is not None and comparison.noise.seeds <= 2 for comparison in comparisons):
        sentences.append(
            "With two seeds of a fold, 7 to 8 % of studies find a difference where there is none, if folds are "
            "unequally noisy; with three or more it is about 5 %."
        )
    if any(len(comparison.folds) == 2 and not comparison.on_new_data.reason for comparison in comparisons):
        sentences.append("Two folds leave one degree of freedom on new data, which finds only very large differences.")
    if any(comparison.noise is None for comparison in comparisons):
        sentences.append(_known(judge, known, lacks_trainings=lacks_trainings))
    return sentences


def _scale(better: str, comparisons: Sequence[Comparison]) -> str:
    assessable = [
        (question, sum(not answer.reason for answer in of_question))
        for question, of_question in (
            ("on these folds", [one.on_these_folds for one in comparisons]),
            ("on new data", [one.on_new_data for one in comparisons]),
        )
    ]
    adjusted = [f"{count(n, 'assessable contrast')} {question}" for question, n in assessable if n]
    return f"Difference: first less second; {better} zero the first is better. Interval: 95 %, each for itself" + (
        f"; p and verdict: adjusted after Holm for {' and '.join(adjusted)}." if adjusted else "."
    )


def _known(judge: Judge, known: KnownNoise | None, *, lacks_trainings: bool) -> str:
    how = "--seeds 3 assesses the difference on these folds, --detect 5% trains as many seeds as it takes to find 5 %"
    if lacks_trainings:
        how = f"first train what is missing; then {how}"
    if known is None:
        return (
            "No run of this task in the store has two seeds with a score on these rows, from which the noise of "
            f"training would be known: {how}."
        )
    return (
        f"Between seeds the {judge.metric.label} of a fold varies by {100 * known.relative:.2g} % (standard deviation, "
        f"{count(known.df, 'degree')} of freedom, from {count(known.runs, 'run')} of this task in the store): {how}."
    )
