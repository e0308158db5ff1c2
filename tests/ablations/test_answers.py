"""How comparisons are worded."""

from __future__ import annotations

import math
from dataclasses import replace

from ablations.answers import (
    answers,
    as_share,
    explanations,
    how_often_better,
    n_wanted,
    seeds_wanted,
    verdict,
    with_share,
)
from ablations.comparison import Declaration
from ablations.detection import Detection
from ablations.judge import Judge
from benchmarks.results.contrasts import Answer, Comparison, KnownNoise, Noise, Superiority


def comparison(noise: Noise | None, verdict: str = "no significant difference", score: float = 10.0) -> Comparison:
    here = Answer(-1.0, 0.5, 0.2, 0.9, 1.5, verdict) if noise else Answer(reason="each was trained once")  # type: ignore[arg-type]
    return Comparison("mlp", "capsule", [0], [0, 1], 9, score, -0.25, 0.2, 0.05, noise, here, Answer())


def test_a_difference_stands_with_its_share_of_the_second() -> None:
    one = comparison(None)
    assert (with_share(-0.25, one), as_share(1.5, one)) == ("-0.250 (-2.5 %)", "15 %")
    assert (with_share(math.nan, one), as_share(math.nan, one)) == ("–", "–")
    assert with_share(1.0, comparison(None, score=0.0)) == "1.00 (–)"


def test_what_is_not_assessable_has_its_reason() -> None:
    (_, here), (_, anew) = answers(comparison(None))
    assert (verdict(here), verdict(anew)) == ("not assessable: each was trained once", "not assessable")


def test_seeds_are_named_where_more_would_help() -> None:
    noise = Noise(one_seed=1.0, seeds=2.0, df=20, rows=0.04, rows_df=500)
    wanted = noise.seeds_for(1.0, 0.05)
    assert wanted is not None
    assert seeds_wanted(comparison(noise), 0.1) == str(wanted)
    assert seeds_wanted(comparison(noise), 0.05) == "not attainable on these rows"
    assert seeds_wanted(comparison(noise, "better"), 0.1) == seeds_wanted(comparison(None), 0.1) == ""


def test_seeds_that_nobody_trains_are_not_counted() -> None:
    assert [n_wanted(n) for n in (3, 1000, 1001, 1020734545379557)] == ["3", "1000", "> 1,000", "> 1,000"]


def test_sentences_say_what_each_question_asks() -> None:
    noise = Noise(one_seed=1.0, seeds=2.0, df=20)
    found = Declaration([("mlp", "capsule"), ("tfn", "capsule")], 0.03, Detection(0.07, 3, 10))
    assessed = replace(comparison(noise), on_new_data=Answer(verdict="no significant difference"))
    once = replace(comparison(None), on_new_data=Answer(reason="one fold says nothing of other training rows"))
    text = " ".join(explanations(Judge("classification"), "folds", found, [assessed, assessed, once], None))
    assert "other seeds and other test rows would change?" in text
    assert "after training and testing on other rows" in text
    assert "above zero the first is better" in text
    assert "Holm for 2 assessable contrasts on these folds and 2 assessable contrasts on new data." in text
    assert "With two seeds of a fold, 7 to 8 % of studies" in text
    assert "within 3 % of the second" in text
    assert "how many find 7 % on these folds, where none is significant." in text
    only = explanations(Judge("classification"), "folds", found, [once], None)
    assert not any("Holm" in sentence or "two seeds of a fold" in sentence for sentence in only)
    three = explanations(Judge("classification"), "folds", found, [comparison(replace(noise, seeds=3.0))], None)
    assert not any("two seeds" in sentence for sentence in three)


def test_two_folds_are_said_to_tell_little_of_new_data() -> None:
    declared = Declaration([("mlp", "capsule")], 0.02, None)
    answered = replace(comparison(None), on_new_data=Answer(verdict="no significant difference"))
    said = [
        "one degree of freedom" in " ".join(explanations(Judge("regression"), "folds", declared, [one], None))
        for one in (replace(answered, folds=[0, 1]), replace(answered, folds=[0, 1, 2]), comparison(None))
    ]
    assert said == [True, False, False]


def test_one_training_each_says_what_is_known_of_the_noise() -> None:
    judge, declared = Judge("regression", "validation"), Declaration([("mlp", "capsule")])
    first, *_, holdout, nothing = explanations(judge, "holdout:0.8/0.1/0.1", declared, [comparison(None)], None)
    assert "the same validation rows for all seeds" in holdout
    assert "beyond what other seeds would change?" in first
    assert nothing.startswith("No run of this task in the store has two seeds with a score on these rows")
    assert nothing.partition(": ")[2].startswith("--seeds 3 assesses")
    *_, lacking = explanations(judge, "folds", declared, [comparison(None)], None, lacks_trainings=True)
    assert "first train what is missing; then --seeds 3 assesses" in lacking
    first, *_, known = explanations(judge, "folds", declared, [comparison(None)], KnownNoise(0.0763, 20, 2))
    assert "other seeds and other validation rows would change?" in first
    assert "the MAE of a fold varies by 7.6 % (standard deviation, 20 degrees of freedom, from 2 runs" in known
    *_, known = explanations(judge, "folds", declared, [comparison(None)], KnownNoise(0.0763, 1, 1))
    assert "1 degree of freedom, from 1 run of" in known


def test_random_splits_are_worded_with_what_they_say() -> None:
    one = replace(comparison(None), superiority=Superiority(0.85, 0.62, 0.968, 20, 0.003, "meaningful"))
    assert how_often_better(one) == "85 % (62 to 97): meaningful"
    assert how_often_better(comparison(None)) == ""
    declared = Declaration([("mlp", "capsule")], resampled=True)
    text = " ".join(explanations(Judge("regression"), "resample", declared, [one], None))
    assert "corrected resampled t-test over the splits" in text
    assert "meaningful if it is also above 75 % or below 25 %" in text
    assert "On these folds" not in text
    assert "--seeds" not in text
