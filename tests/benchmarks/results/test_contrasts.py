"""Contrasts: what is estimated, its error, and the verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from numpy.typing import ArrayLike

from benchmarks.base.errors import UsageError
from benchmarks.results.contrasts import (
    Compared,
    Comparison,
    KnownNoise,
    Noise,
    compare,
    declare,
    estimate_difference,
    known_noise,
)
from benchmarks.results.metrics import primary_metric, score
from benchmarks.results.statistics import Estimate
from benchmarks.results.store import Predictions, Training


def judged_by_rows(label: str, errors: Mapping[tuple[int, int], ArrayLike], *, test_to_train: float = 0.25) -> Compared:
    """A variant with these absolute errors of the test rows of each (seed, fold)."""
    predictions = {
        Training(*key): Predictions(
            [f"row-{key[1]}-{i}" for i in range(len(np.atleast_1d(values)))],
            np.zeros(len(np.atleast_1d(values))),
            np.atleast_1d(np.asarray(values, dtype=np.float64)),
        )
        for key, values in errors.items()
    }
    scores = {training: float(np.abs(part.prediction).mean()) for training, part in predictions.items()}
    return Compared(label, scores, predictions, test_to_train)


def judged_by_scores(label: str, scores: Mapping[tuple[int, int], float]) -> Compared:
    """A variant with these scores on validation rows of each (seed, fold)."""
    return Compared(label, {Training(*key): value for key, value in scores.items()}, {}, math.nan)


def drawn(label: str, rng: np.random.Generator, *, worse: float = 0.0, seeds: int = 3, noise: float = 0.05) -> Compared:
    """A variant with errors around 1: three folds of 40 rows; noise of training and of the rows of a variant."""
    rows = 1 + rng.normal(0, 0.3, (3, 40))
    return judged_by_rows(
        label,
        {
            (seed, fold): np.abs(rows[fold] + worse + rng.normal(0, noise) + rng.normal(0, 0.1, 40))
            for seed, fold in product(range(seeds), range(3))
        },
    )


def one(first: Compared, second: Compared, *, margin: float = 0.02, kind: str = "regression") -> Comparison:
    higher = kind == "classification"
    (found,) = compare([(first, second)], kind, higher_is_better=higher, margin=margin)  # type: ignore[arg-type]
    return found


def test_two_seeds_and_two_folds_by_hand() -> None:
    first = judged_by_rows("mlp", {(0, 0): [1, 3], (1, 0): [3, 5], (0, 1): [4, 4, 4], (1, 1): [4, 4, 4]})
    second = judged_by_rows("capsule", {(0, 0): [1, 1], (1, 0): [1, 1], (0, 1): [2, 3, 4], (1, 1): [4, 5, 6]})
    found = one(first, second)
    # Scores of mlp: 2 and 4, 4 and 4. Of capsule: 1 and 1, 3 and 5. Differences of the folds: 2 and 0.
    assert (found.score, found.difference, found.margin) == (2.5, 1.0, 0.05)
    assert (found.first, found.second, found.folds, found.seeds, found.rows) == ("mlp", "capsule", [0, 1], [0, 1], 5)
    assert found.noise is not None
    # Each variant varies by 2 in one of two folds: (2 + 0) / 2 with two degrees of freedom, and both by twice that. The
    # mean of two folds varies by half as much.
    assert (found.noise.one_seed, found.noise.seeds, found.noise.df) == (1.0, 2.0, 4)
    # Rows of fold 0 differ by (0, 2) and (2, 4), the mean by (1, 3): variance 2 over 2 rows. In fold 1 by (2, 1, 0) and
    # (0, -1, -2), the mean by (1, 0, -1): variance 1 over 3 rows. No noise of single rows. Two folds: a quarter of it.
    assert found.noise.rows == pytest.approx((1 + 1 / 3) / 4)
    assert found.noise.rows_df == 3
    training, rows = 1 / 2, 1 / 3
    df = (training + rows) ** 2 / (training**2 / 4 + rows**2 / 3)
    expected = Estimate(1.0, math.sqrt(training + rows), df)
    here, anew = found.on_these_folds, found.on_new_data
    assert (here.low, here.high) == pytest.approx(expected.interval())
    assert here.p == pytest.approx(expected.p_value())
    assert here.p_equivalent == pytest.approx(expected.p_equivalent(0.05))
    assert here.detectable == pytest.approx(expected.detectable(0.05))
    assert here.verdict == "no significant difference"
    # Folds differ by 2 and 0: variance 2, times 1/2 + 1/4, with one degree of freedom.
    expected = Estimate(1.0, math.sqrt(1.5), 1)
    assert (anew.low, anew.high) == pytest.approx(expected.interval())
    assert anew.p == pytest.approx(expected.p_value())


def test_noise_of_single_rows_is_no_noise_of_rows() -> None:
    # Rows that differ by (1, -1) with one seed and by (-1, 1) with the other have no difference of their own.
    first = judged_by_rows("mlp", {(0, 0): [2, 1], (1, 0): [1, 2]})
    second = judged_by_rows("capsule", {(0, 0): [1, 2], (1, 0): [2, 1]})
    noise = one(first, second).noise
    assert noise is not None
    assert (noise.one_seed, noise.rows) == (0.0, 0.0)


def test_folds_may_have_different_seeds_and_only_common_trainings_count() -> None:
    rng = np.random.default_rng(0)
    keys = [(0, 0), (1, 0), (2, 0), (5, 0), (0, 1), (1, 1)]
    first, second = (judged_by_rows(name, {key: rng.exponential(1, 20) for key in keys}) for name in ("mlp", "tfn"))
    less = {training: value for training, value in second.score.items() if training != Training(5, 0)}
    found = one(first, replace(second, score=less))
    assert (found.folds, found.seeds, found.rows) == ([0, 1], [0, 1, 2], 40)
    assert found.noise is not None
    of_fold = np.array(
        [
            [np.var([each.score[Training(seed, fold)] for seed in range(n)], ddof=1) for fold, n in ((0, 3), (1, 2))]
            for each in (first, second)
        ]
    )
    assert found.noise.one_seed == pytest.approx(of_fold.sum() / 4)
    of_mean = of_fold / [3, 2]
    assert found.noise.one_seed / found.noise.seeds == pytest.approx(of_mean.sum() / 4)
    assert found.noise.df == pytest.approx(min(6, of_mean.sum() ** 2 / (of_mean**2 / [4, 3]).sum() - 2))


def test_chance_is_found_in_one_of_twenty_studies_of_unequal_seeds_and_unequal_noise() -> None:
    rng = np.random.default_rng(11)
    design = [(fold, seed) for fold, n in enumerate((4, 2, 3, 2, 2)) for seed in range(n)]
    noise = (0.02, 0.1, 0.05, 0.2, 0.1)  # most noise where there are few seeds

    def variant(label: str, rows: ArrayLike) -> Compared:
        return judged_by_rows(
            label, {(seed, fold): rows + rng.normal(0, noise[fold]) + rng.normal(0, 0.02, 20) for fold, seed in design}
        )

    rows = 2 + rng.normal(0, 0.1, 20)
    verdicts = [one(variant("mlp", rows), variant("tfn", rows)).on_these_folds.verdict for _ in range(2000)]
    assert np.mean([each in {"better", "worse"} for each in verdicts]) < 0.065


@pytest.mark.parametrize(
    ("n_seeds", "reason"),
    [
        ((2, 2, 1), "fold 2 has one seed of both"),
        ((1, 2, 1), "folds 0 and 2 have one seed of both"),
        ((1, 1, 2, 1), "folds 0, 1 and 3 have one seed of both"),
    ],
)
def test_the_noise_of_a_fold_with_one_seed_is_not_that_of_the_others(n_seeds: tuple[int, ...], reason: str) -> None:
    rng = np.random.default_rng(12)
    keys = [(seed, fold) for fold, n in enumerate(n_seeds) for seed in range(n)]
    by_rows = [judged_by_rows(name, {key: rng.exponential(1, 20) for key in keys}) for name in ("mlp", "tfn")]
    by_scores = [judged_by_scores(name, {key: rng.exponential(1) for key in keys}) for name in ("mlp", "tfn")]
    for first, second in (by_rows, by_scores):
        found = one(first, second)
        assert (found.noise, found.on_these_folds.verdict) == (None, "not assessable")
        assert found.on_these_folds.reason == reason


def test_a_fold_with_one_row_does_not_show_the_noise_of_rows() -> None:
    rng = np.random.default_rng(13)
    sizes = (1, 30)
    first, second = (
        judged_by_rows(
            name, {(seed, fold): rng.exponential(1, sizes[fold]) for seed, fold in product(range(3), (0, 1))}
        )
        for name in ("mlp", "tfn")
    )
    found = one(first, second)
    assert (found.noise, found.on_these_folds.reason) == (None, "fold 0 has fewer than two test rows")
    assert found.on_new_data.verdict != "not assessable"


def test_only_the_same_predictions_are_equivalent_without_noise() -> None:
    keys = list(product(range(2), range(2)))
    first, twin = (judged_by_rows(name, dict.fromkeys(keys, np.ones(3))) for name in ("mlp", "twin"))
    for value in (1.001, -1.0):  # other scores, and the same scores of other predictions
        found = one(first, judged_by_rows("tfn", dict.fromkeys(keys, np.full(3, value))), margin=0.5)
        for answer in (found.on_these_folds, found.on_new_data):
            assert (answer.verdict, answer.reason) == ("not assessable", "no noise was seen")
    found = one(first, twin)
    assert found.on_these_folds.verdict == found.on_new_data.verdict == "equivalent"
    scores = [judged_by_scores(name, dict.fromkeys(keys, value)) for name, value in (("mlp", 1.0), ("tfn", 1.1))]
    assert one(scores[0], scores[1], margin=0.5).on_these_folds.reason == "no noise was seen"
    assert one(scores[0], replace(scores[0], label="twin")).on_these_folds.verdict == "equivalent"


def test_one_training_each_is_not_assessable_on_these_folds() -> None:
    rng = np.random.default_rng(1)
    found = one(drawn("mlp", rng, seeds=1, worse=5), drawn("capsule", rng, seeds=1))
    assert found.noise is None
    assert found.seeds_for(1.0) is None
    here = found.on_these_folds
    assert (here.verdict, here.reason) == ("not assessable", "each was trained once")
    assert all(map(math.isnan, (here.low, here.high, here.p, here.p_equivalent, here.detectable)))
    assert found.on_new_data.verdict == "worse"
    more = one(drawn("mlp", rng, seeds=1), drawn("capsule", rng, seeds=3))
    assert (more.noise, more.on_these_folds.reason) == (None, "no fold has two seeds of both")


def test_one_fold_says_nothing_of_new_data() -> None:
    errors = {(seed, 0): np.full(50, 1.0) + 0.01 * seed + 0.001 * np.arange(50) for seed in range(3)}
    first = judged_by_rows("mlp", errors)
    second = judged_by_rows("capsule", {key: values / 2 for key, values in errors.items()})
    found = one(first, second)
    assert found.on_these_folds.verdict == "worse"
    assert found.on_new_data.verdict == "not assessable"
    assert found.on_new_data.reason == "one fold says nothing of other training rows"


def test_a_variant_beside_itself_does_not_differ() -> None:
    one_variant = drawn("mlp", np.random.default_rng(2))
    found = one(one_variant, replace(one_variant, label="twin"), margin=0.2)
    assert found.difference == 0
    assert (found.on_these_folds.p, found.on_new_data.p) == (1, 1)
    assert found.on_these_folds.verdict == found.on_new_data.verdict == "equivalent"


def test_first_and_second_exchanged_give_the_opposite() -> None:
    rng = np.random.default_rng(3)
    first, second = drawn("mlp", rng, worse=0.5), drawn("capsule", rng)
    forth, back = one(first, second), one(second, first)
    assert (forth.on_these_folds.verdict, back.on_these_folds.verdict) == ("worse", "better")
    assert back.difference == pytest.approx(-forth.difference)
    assert back.on_these_folds.p == pytest.approx(forth.on_these_folds.p)
    assert (back.on_new_data.low, back.on_new_data.high) == pytest.approx(
        (-forth.on_new_data.high, -forth.on_new_data.low)
    )


def test_significant_within_the_margin_is_equivalent() -> None:
    rng = np.random.default_rng(4)
    first, second = drawn("mlp", rng, worse=0.1, noise=0.005, seeds=8), drawn("capsule", rng, noise=0.005, seeds=8)
    assert one(first, second).on_these_folds.verdict == "worse"
    found = one(first, second, margin=0.5)
    assert found.on_these_folds.p < 0.05
    assert found.on_these_folds.verdict == "equivalent"


def test_chance_is_found_in_one_of_twenty_studies() -> None:
    rng = np.random.default_rng(5)
    n = 400

    def found(worse: float, seeds: int) -> float:
        studies = [one(drawn("mlp", rng, worse=worse, seeds=seeds), drawn("tfn", rng, seeds=seeds)) for _ in range(n)]
        return float(np.mean([each.on_these_folds.verdict in {"better", "worse"} for each in studies]))

    assert found(0.0, 2) == pytest.approx(0.05, abs=0.025)
    assert found(0.0, 5) == pytest.approx(0.05, abs=0.025)
    assert found(0.15, 3) > 0.6


def test_p_values_are_adjusted_for_the_declared_contrasts_alone() -> None:
    rng = np.random.default_rng(6)
    capsule, others = drawn("capsule", rng), [drawn(name, rng, worse=0.1) for name in ("mlp", "tfn", "egnn")]
    alone = [one(other, capsule) for other in others]
    together = compare([(other, capsule) for other in others], "regression", higher_is_better=False)
    p = sorted(each.on_these_folds.p for each in alone)
    expected = [3 * p[0], max(3 * p[0], 2 * p[1]), max(3 * p[0], 2 * p[1], p[2])]
    assert sorted(each.on_these_folds.p for each in together) == pytest.approx([min(1, each) for each in expected])
    assert alone[0].level == pytest.approx(0.05)
    assert together[0].level == pytest.approx(0.05 / 3)
    assert together[0].on_these_folds.detectable > alone[0].on_these_folds.detectable
    assert together[0].on_these_folds.low == alone[0].on_these_folds.low


def test_what_is_not_assessable_does_not_adjust_the_others() -> None:
    rng = np.random.default_rng(7)
    capsule, other, once = drawn("capsule", rng), drawn("mlp", rng), drawn("tfn", rng, seeds=1)
    found = compare([(other, capsule), (once, capsule)], "regression", higher_is_better=False)
    assert found[0].on_these_folds == one(other, capsule).on_these_folds
    assert found[0].level == pytest.approx(0.05)


def test_rows_that_both_have_are_compared() -> None:
    rng = np.random.default_rng(8)
    first, second = drawn("mlp", rng), drawn("capsule", rng)

    def part(whole: Compared, rows: slice | list[int]) -> Compared:
        return replace(
            whole,
            predictions={
                training: Predictions(list(np.array(each.ids)[rows]), each.target[rows], each.prediction[rows])
                for training, each in whole.predictions.items()
            },
        )

    found = one(part(first, slice(0, 30)), part(second, list(range(39, 9, -1))))
    assert found.rows == 3 * 20
    assert found == one(part(first, slice(10, 30)), part(second, slice(10, 30)))
    assert compare([(part(first, slice(0, 9)), part(second, slice(9, 40)))], "regression", higher_is_better=False) == []


def test_variants_without_a_common_training_are_left_out() -> None:
    first, second = judged_by_rows("mlp", {(0, 0): [1, 2]}), judged_by_rows("capsule", {(1, 0): [1, 2]})
    assert compare([(first, second)], "regression", higher_is_better=False) == []


def test_other_rows_are_compared_seed_by_seed() -> None:
    # Both vary by the rows of the seed, 0, 2 and 4, and mlp by 0, 0.1 and -0.1 beside them.
    rows = {(0, 0): 5.0, (1, 0): 7.0, (2, 0): 9.0}
    first = judged_by_scores("mlp", {(0, 0): 6.0, (1, 0): 8.1, (2, 0): 9.9})
    found = one(first, judged_by_scores("capsule", rows))
    assert (found.rows, found.score, found.difference) == (0, 7.0, pytest.approx(1.0))
    assert found.noise == Noise(pytest.approx(0.01), 3.0, 2)
    assert found.on_these_folds.verdict == "worse"
    assert (found.on_new_data.verdict, found.on_new_data.reason) == ("not assessable", "validation rows judge")


def test_a_score_that_is_no_number_decides_nothing() -> None:
    first = judged_by_scores("mlp", {(0, 0): 6.0, (1, 0): math.nan})
    found = one(first, judged_by_scores("capsule", {(0, 0): 5.0, (1, 0): 7.0}))
    assert (found.on_these_folds.verdict, found.on_these_folds.reason) == ("not assessable", "a score is no number")


def labelled(label: str, rng: np.random.Generator, right: float, *, rare: int = 40) -> Compared:
    """A classification: two folds of 100 rows with `rare` of one class, two seeds."""
    scores, predictions = {}, {}
    for seed, fold in product(range(2), range(2)):
        target = (np.arange(100) < rare).astype(float)
        prediction = np.where(rng.random(100) < right, target, 1 - target)
        training = Training(seed, fold)
        predictions[training] = Predictions([f"{fold}-{i}" for i in range(100)], target, prediction)
        name = primary_metric("classification").name
        scores[training] = score("classification", target, prediction)[name]
    return Compared(label, scores, predictions, 0.25)


def test_classification_is_compared_by_balanced_accuracy() -> None:
    rng = np.random.default_rng(9)
    good, bad = labelled("mlp", rng, 0.95), labelled("capsule", rng, 0.6)
    found = one(good, bad, kind="classification")
    assert found.difference == pytest.approx(np.mean([*good.score.values()]) - np.mean([*bad.score.values()]))
    assert found.on_these_folds.verdict == "better"
    assert found.noise is not None
    # 40 and 60 rows: the variance of each class's mean, a quarter of their sum; over two folds.
    assert found.noise.rows_df == 2 * (39 + 59)
    by_hand = 0.0
    for fold, rows in product(range(2), (slice(0, 40), slice(40, 100))):
        values = np.array(
            [[each.predictions[Training(seed, fold)].prediction[rows] for seed in range(2)] for each in (good, bad)]
        )
        target = good.predictions[Training(0, fold)].target[rows]
        right = (values == target).astype(float)
        difference = right[0] - right[1]
        n = difference.shape[1]
        # Rows by seeds with one value each: the mean squares of the two-way table give the variance of rows.
        seeds_by_rows = difference - difference.mean(0) - difference.mean(1, keepdims=True) + difference.mean()
        by_hand += (difference.mean(0).var(ddof=1) - (seeds_by_rows**2).sum() / (n - 1) / 2) / n / 4 / 4
    assert found.noise.rows == pytest.approx(by_hand)


def test_a_few_rows_of_a_class_decide_nothing() -> None:
    rng = np.random.default_rng(10)
    found = one(labelled("mlp", rng, 1.0, rare=4), labelled("capsule", rng, 0.1, rare=4), kind="classification")
    for answer in (found.on_these_folds, found.on_new_data):
        assert (answer.verdict, answer.reason) == ("not assessable", "a class has fewer than 10 test rows")


def test_seeds_needed_are_the_fewest_that_find_the_difference() -> None:
    noise = Noise(one_seed=1.0, seeds=3.0, df=20, rows=0.01, rows_df=500)
    detectable: Callable[[float], float] = lambda seeds: replace(noise, seeds=seeds).estimate(0).detectable(0.05)  # noqa: E731
    for difference in (2.0, 1.0, 0.5, 0.3):
        needed = noise.seeds_for(difference, 0.05)
        assert needed is not None
        assert detectable(needed) <= difference
        assert needed == 2 or detectable(needed - 1) > difference
    assert noise.seeds_for(100.0, 0.05) == 2
    # Rows alone have an error of 0.1, which finds 0.1 * (1.96 + 0.84).
    assert noise.seeds_for(0.28, 0.05) is None
    assert noise.seeds_for(0.2815, 0.05) is not None
    assert noise.seeds_for(1.0, 0.01) > noise.seeds_for(1.0, 0.05)  # type: ignore[operator]


def at(name: str, *values: str) -> tuple[str, frozenset[tuple[str, ...]]]:
    return name, frozenset(tuple(value.split("=", 1)) for value in values)


GRID = {name: at(name) for name in ("mlp", "capsule", "egnn")}
AXIS = {f"{block}, sen.rounds={n}": at(block, f"rounds={n}") for block in ("mlp", "capsule") for n in (1, 2)}


def test_declared_are_the_others_against_capsule_or_the_first() -> None:
    assert declare(GRID) == [("mlp", "capsule"), ("egnn", "capsule")]
    assert declare(AXIS) == [
        ("mlp, sen.rounds=1", "capsule, sen.rounds=1"), ("mlp, sen.rounds=2", "capsule, sen.rounds=2")
    ]  # fmt: skip
    rounds = {f"capsule, sen.rounds={n}": at("capsule", f"rounds={n}") for n in (1, 2, 3)}
    assert declare(rounds) == [(f"capsule, sen.rounds={n}", "capsule, sen.rounds=1") for n in (2, 3)]
    assert declare({"mlp": at("mlp")}) == declare({}) == []


@pytest.mark.parametrize("names", [*permutations(("tfn", "mlp", "megnet"))])
def test_without_a_capsule_the_smallest_label_is_the_reference_in_any_order(names: tuple[str, ...]) -> None:
    declared = declare({name: at(name) for name in names})
    assert sorted(declared) == [("mlp", "megnet"), ("tfn", "megnet")]


def test_without_a_capsule_of_the_same_values_the_most_alike_is_the_reference() -> None:
    assert declare({**AXIS, "cogn": at("cogn")})[-1] == ("cogn", "capsule, sen.rounds=1")
    capsules = {"a": at("capsule", "rounds=1", "epochs=9"), "b": at("capsule", "rounds=1"), "c": at("capsule")}
    others = {"d": at("mlp"), "e": at("mlp", "rounds=1", "width=8"), "f": at("mlp", "epochs=9")}
    assert declare(capsules | others) == [("d", "c"), ("e", "b"), ("f", "a")]
    alike = {f"capsule, sen.rounds={n}": at("capsule", f"rounds={n}") for n in (2, 1)}
    assert declare({**alike, "cogn": at("cogn")}) == [("cogn", "capsule, sen.rounds=1")]


def test_variants_of_different_limits_are_never_compared() -> None:
    names = {f"{name}, limit={n}": at(name, f"limit={n}") for name in ("mlp", "megnet") for n in (250, 500)}
    alone = {"capsule, limit=500": at("capsule", "limit=500"), "egnn": at("egnn")}
    assert declare({**names, **alone}) == [
        ("mlp, limit=250", "megnet, limit=250"),
        ("mlp, limit=500", "capsule, limit=500"),
        ("megnet, limit=500", "capsule, limit=500"),
    ]
    assert declare(names, ["mlp, limit=250:megnet, limit=250"]) == [("mlp, limit=250", "megnet, limit=250")]
    with pytest.raises(UsageError, match="the two have different limits of training rows"):
        declare(names, ["mlp, limit=250:mlp, limit=500"])


def test_declared_by_name() -> None:
    assert declare(GRID, ["egnn : mlp", "mlp:capsule"]) == [("egnn", "mlp"), ("mlp", "capsule")]
    given = ["mlp,sen.rounds=2:capsule,  sen.rounds=1"]
    assert declare(AXIS, given) == [("mlp, sen.rounds=2", "capsule, sen.rounds=1")]
    labelled = {f"{name} ({words})": at(name) for name, words in (("mlp", "epochs 7"), ("capsule", "limit 20"))}
    labelled |= {f"tfn ({words})": at("tfn") for words in "ab"}
    assert declare(labelled, ["mlp:capsule", "tfn (a):mlp"]) == [
        ("mlp (epochs 7)", "capsule (limit 20)"),
        ("tfn (a)", "mlp (epochs 7)"),
    ]
    with pytest.raises(UsageError, match=r"--contrast tfn:mlp: tfn may be any of tfn \(a\); tfn \(b\): name one\."):
        declare(labelled, ["tfn:mlp"])
    mapped = {f'mlp, block.map={{"a":{n}}}': at("mlp", f"map={n}") for n in (1, 2)}
    assert declare(mapped, ['mlp, block.map={"a":1} : mlp, block.map={"a":2}']) == [tuple(mapped)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["mlp"], "--contrast mlp has no colon: name two variants, first and second, such as mlp:capsule."),
        (["mlp:capsul"], "--contrast mlp:capsul: there is no variant 'capsul'. Did you mean capsule?"),
        (["mlp:"], "--contrast mlp:: there is no variant ''."),
        (["mlp: mlp"], "--contrast mlp: mlp has mlp on both sides: name two variants."),
        (["mlp:egnn", "mlp:egnn"], "--contrast mlp:egnn is given twice: declare each contrast once."),
        (["mlp:egnn", "egnn:mlp"], "--contrast: mlp:egnn and egnn:mlp are the same contrast: declare it once."),
    ],
)
def test_bad_contrasts_are_reported(given: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        declare(GRID, given)
    assert str(caught.value).startswith(message)


def test_what_a_variant_does_not_allow_is_not_assessable() -> None:
    rng = np.random.default_rng(0)
    first, second, third = (drawn(name, rng) for name in ("mlp", "theirs", "capsule"))
    file = replace(second, not_assessable={"on_these_folds": "it is of one training"})
    alone, beside, found = compare(
        [(first, second), (first, file), (first, third)], "regression", higher_is_better=False
    )
    assert alone.on_these_folds.verdict != "not assessable"
    assert (beside.on_these_folds.verdict, beside.on_these_folds.reason) == ("not assessable", "it is of one training")
    assert beside.noise is None
    assert beside.on_new_data == alone.on_new_data
    assert found.level == pytest.approx(0.05 / 2)
    (turned,) = compare([(file, first)], "regression", higher_is_better=False)
    assert turned.on_these_folds.reason == "it is of one training"


def test_the_difference_of_any_values_is_that_of_errors() -> None:
    rng = np.random.default_rng(1)
    first, second = drawn("mlp", rng, worse=0.2), drawn("capsule", rng)
    values = [
        [np.array([each.predictions[Training(seed, fold)].prediction for seed in range(3)]) for fold in range(3)]
        for each in (first, second)
    ]
    found = estimate_difference(*values)
    assert isinstance(found, Estimate)
    answer = one(first, second).on_these_folds
    assert found.interval() == pytest.approx((answer.low, answer.high))
    # Values may be negative, as gaps are.
    moved = estimate_difference(*[[fold - 5 for fold in each] for each in values])
    assert isinstance(moved, Estimate)
    assert moved.mean == pytest.approx(found.mean)
    once, alone = (
        [[fold[:1] for fold in each] for each in values],
        [[fold[:, :1] for fold in each] for each in values],
    )
    assert estimate_difference(*once) == "each was trained once"
    assert estimate_difference(*alone) == "a fold has fewer than two test rows"
    assert estimate_difference([values[0][0], values[0][1][:1]], values[1][:2]) == "a fold has one seed of both"


def test_known_noise_is_pooled_over_the_folds_of_all_runs() -> None:
    def run(*folds: list[float]) -> dict[Training, float]:
        return {Training(seed, fold): value for fold, values in enumerate(folds) for seed, value in enumerate(values)}

    # Of the mean the seeds are off by 0.1 each with one degree of freedom, by nothing with two, and 5.0 has no other.
    found = known_noise([run([9.0, 11.0], [5.0]), run([4.0, 4.0, 4.0]), run([7.0]), run([math.nan, 1.0])])
    assert found == KnownNoise(pytest.approx(math.sqrt(2 * 0.1**2 / 3)), 3, 2)
    assert known_noise([run([7.0])]) is None


def test_rows_that_several_folds_test_are_not_assessable_on_these_folds() -> None:
    values = np.random.default_rng(0).normal(size=(2, 2, 2, 10))
    first, second = (
        judged_by_rows(label, {(seed, fold): each[seed, fold] for seed in (0, 1) for fold in (0, 1)})
        for label, each in zip(("mlp", "capsule"), values, strict=True)
    )
    overlapping = [
        replace(
            one,
            predictions={
                training: part._replace(ids=[f"r{i + 5 * training.fold}" for i in range(10)])
                for training, part in one.predictions.items()
            },
        )
        for one in (first, second)
    ]
    apart = {"on_new_data": "groups are no sample"}
    (disjoint,) = compare([(first, second)], "regression", higher_is_better=False)
    (found,) = compare([tuple(overlapping)], "regression", higher_is_better=False, not_assessable=apart)
    assert disjoint.noise is not None
    assert (found.on_these_folds.verdict, found.on_these_folds.reason) == (
        "not assessable",
        "rows are tested in several folds",
    )
    assert found.noise is None
    assert found.on_new_data.reason == "groups are no sample"
    assert found.difference == pytest.approx(disjoint.difference)


def on_splits(label: str, errors: ArrayLike) -> Compared:
    """A variant with this error of the only test row of split i, trained with seed i."""
    return judged_by_rows(label, {(i, i): [error] for i, error in enumerate(np.asarray(errors, dtype=np.float64))})


def test_random_splits_say_how_often_the_first_is_better() -> None:
    errors = np.array([3.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    first, second = on_splits("mlp", errors), on_splits("capsule", np.full(10, 2.0))
    (found,) = compare([(first, second)], "regression", higher_is_better=False, resampled=True)
    # Nine lower, of which one is equal: eight and a half of ten.
    assert found.superiority is not None
    assert (found.superiority.share, found.superiority.splits) == (0.85, 10)
    assert (found.superiority.low, found.superiority.high) == pytest.approx((0.4972, 0.9890), abs=1e-4)
    assert found.superiority.finding == "not significant"
    assert found.on_these_folds.reason == "each fold is a random split"
    assert found.noise is None
    # The verdict is that of the t-test over splits: variance times (1 / 10 + 1 / 4), nine degrees of freedom.
    difference = errors - 2.0
    expected = Estimate(difference.mean(), math.sqrt((0.1 + 0.25) * difference.var(ddof=1)), 9)
    anew = found.on_new_data
    assert (anew.low, anew.high, anew.p) == pytest.approx((*expected.interval(), expected.p_value()))
    assert anew.verdict == "no significant difference"
    (turned,) = compare([(second, first)], "regression", higher_is_better=False, resampled=True)
    assert turned.superiority is not None
    assert turned.superiority.share == pytest.approx(0.15)
    (on_folds,) = compare([(first, second)], "regression", higher_is_better=False)
    assert on_folds.superiority is None
    assert on_folds.on_new_data == anew


@pytest.mark.parametrize(
    ("won", "n", "finding"), [
        (5, 5, "not significant"), (10, 20, "not significant"), (15, 20, "significant"), (35, 50, "significant"),
        (6, 6, "meaningful"), (0, 6, "meaningful"), (9, 10, "meaningful"),
    ],
)  # fmt: skip
def test_a_finding_on_random_splits_needs_significance_and_three_of_four(won: int, n: int, finding: str) -> None:
    errors = np.where(np.arange(n) < won, 1.0, 2.0) + 0.01 * np.arange(n)
    pair = on_splits("mlp", errors), on_splits("capsule", 1.5 + 0.01 * np.arange(n))
    (found,) = compare([pair], "regression", higher_is_better=False, resampled=True)
    assert found.superiority is not None
    assert (found.superiority.share, found.superiority.finding) == (won / n, finding)


def test_sign_tests_are_adjusted_for_the_contrasts_and_one_split_says_nothing() -> None:
    second = on_splits("capsule", np.full(6, 2.0))
    pairs = [(on_splits(name, np.linspace(1, 1.5, 6)), second) for name in ("a", "b")]
    for found in compare(pairs, "regression", higher_is_better=False, resampled=True):
        assert found.superiority is not None
        assert found.superiority.p == pytest.approx(2 * 2 * 0.5**6)
        assert found.superiority.finding == "not significant"
    (alone,) = compare([(on_splits("a", [1.0]), second)], "regression", higher_is_better=False, resampled=True)
    assert (alone.superiority, alone.on_new_data.reason) == (None, "one fold says nothing of other training rows")
