"""Simulated studies find what `benchmarks.results.contrasts` would, and hold what docs/statistics.md says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks.results.contrasts import Compared, Comparison, compare
from benchmarks.results.store import Predictions, Training
from tools.power import components, tables
from tools.power.components import Component, Components, fit, satterthwaite
from tools.power.simulate import (
    draw,
    estimate,
    find,
    find_meaningful,
    holm,
    in_two_stages,
    on_random_splits,
    over_splits,
    simulate,
)
from tools.results_page.page import render

DOCS = Path(__file__).parents[2] / "docs"
TEST_TO_TRAIN = 0.25


def made(*, training: float = 1.0, block_fold: float = 1.0, rows: float = 1.0) -> Components:
    rng = np.random.default_rng(0)
    return Components(
        score=50.0,
        training=Component(training, training, training),
        cells=np.array([0.1, 1.0, 5.0]) * training,
        residuals=np.array([-1.0, 1.0]),
        same_seed=Component(training, training, training),
        block_fold=Component(block_fold, block_fold, block_fold),
        rows=Component(rows, rows, rows),
        row_difference=rng.standard_normal(500) * math.sqrt(rows),
        row_noise=rng.uniform(0.5, 2.0, 500),
        test_to_train=TEST_TO_TRAIN,
        n_rows=12,
    )


def compared(loss: np.ndarray, *, resampled: bool = False) -> list[Comparison]:
    """What `compare` finds in a study, [variants, folds, seeds, rows], of which the first variant is the second one."""
    variants = []
    for i, errors in enumerate(loss):
        each = {Training(seed, fold): errors[fold, seed] for fold, seed in np.ndindex(errors.shape[:2])}
        predictions = {
            training: Predictions(
                [f"row {row} of fold {training.fold}" for row in range(len(error))], np.zeros(len(error)), error
            )
            for training, error in each.items()
        }
        scores = {training: float(error.mean()) for training, error in each.items()}
        variants.append(Compared(str(i), scores, predictions, TEST_TO_TRAIN))
    pairs = [(one, variants[0]) for one in variants[1:]]
    return compare(pairs, "regression", higher_is_better=False, margin=0.05, resampled=resampled)


@pytest.fixture(scope="module", params=product((2, 4), tables.ALL_TAILS), ids=str)
def designs(request: pytest.FixtureRequest) -> tuple[np.ndarray, list[list[Comparison]]]:
    """Studies of four variants, and what `compare` finds in each."""
    seeds, tails = request.param
    loss, _ = draw(made(training=2.0), (12, 4, 5, seeds), tails, np.random.default_rng(seeds))
    return loss, [compared(study) for study in loss]


@pytest.mark.parametrize("question", ["on_these_folds", "on_new_data"])
def test_studies_find_what_compare_finds(designs: tuple[np.ndarray, list[list[Comparison]]], question: str) -> None:
    loss, expected = designs
    found = estimate(loss, TEST_TO_TRAIN, np.zeros((len(loss), 3)))
    estimates = getattr(found, question)()

    def numbers(name: str) -> np.ndarray:
        return np.array([[getattr(getattr(one, question), name) for one in study] for study in expected])

    assert found.score == pytest.approx(np.array([[one.score for one in study] for study in expected]))
    assert estimates.mean == pytest.approx(np.array([[one.difference for one in study] for study in expected]))
    assert holm(estimates.p_value()) == pytest.approx(numbers("p"))
    assert holm(estimates.p_equivalent(0.05 * found.score)) == pytest.approx(numbers("p_equivalent"))
    assert estimates.detectable(0.05 / 3) == pytest.approx(numbers("detectable"))
    signs = {"worse": 1, "better": -1}
    differ = np.array([[signs.get(verdict, 0) for verdict in study] for study in numbers("verdict")])
    assert ((find(estimates) == differ) | (numbers("verdict") == "equivalent")).all()


def test_studies_on_random_splits_find_what_compare_finds() -> None:
    components = made(training=2.0, block_fold=4.0)
    differences = on_random_splits(components, 12, "normal", variants=3, n=20)
    loss, _ = draw(components, (20, 3, 12, 1), "normal", np.random.default_rng(0))
    expected = [compared(study, resampled=True) for study in loss]
    estimates = over_splits(differences, TEST_TO_TRAIN)
    p = np.array([[one.on_new_data.p for one in study] for study in expected])
    assert holm(estimates.p_value()) == pytest.approx(p)
    shares = np.array([[one.superiority for one in study] for study in expected])
    signs = [[np.sign(0.5 - one.share) * (one.finding == "meaningful") for one in study] for study in shares]
    np.testing.assert_array_equal(find_meaningful(differences), signs)
    assert np.unique(signs).size > 1


def test_the_second_stage_has_the_seeds_that_compare_asks_for() -> None:
    found = simulate(made(training=3.0), range(3, 8), "normal", variants=3, n=30)
    loss, _ = draw(made(training=3.0), (20, 3, 5, 7), "normal", np.random.default_rng(0))  # as drawn first there
    asked = [[one.seeds_for(2.0) for one in compared(study)] for study in loss[..., :3, :]]
    expected = [[3 if seeds is None else min(7, max(3, seeds)) for seeds in study] for study in asked]
    stages = in_two_stages(found, 2.0, 0.025)
    assert len(np.unique(stages.seeds)) > 2
    np.testing.assert_array_equal(stages.seeds[:20], expected)
    for seeds, each in found.items():
        np.testing.assert_array_equal(stages.difference[stages.seeds == seeds], each.difference[stages.seeds == seeds])


def test_rows_that_are_too_few_end_the_study_after_the_first_stage() -> None:
    found = simulate(made(training=0.01, rows=400.0), range(3, 6), "normal", variants=2, n=20)
    assert set(in_two_stages(found, 0.5, 0.05).seeds.ravel()) == {3}


def test_a_true_difference_is_that_of_the_first_contrast() -> None:
    found = simulate(made(training=0.01, rows=0.0), (3,), "resampled", variants=3, n=20)[3]
    verdicts = find(found.on_these_folds().shifted(5.0))
    assert (verdicts[:, 0] == 1).all()
    assert abs(verdicts[:, 1]).mean() < 0.2
    assert find(found.on_these_folds().shifted(-5.0))[:, 0].tolist() == [-1] * 20
    assert tables.rate(verdicts, 5.0) == 1
    assert tables.rate(verdicts[:, 1:], 0.0) < 0.2


def test_components_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over fits to made-up archives is what they were made with."""
    truth = made(training=4.0, block_fold=9.0, rows=4.0)
    rng = np.random.default_rng(0)

    def archives() -> Iterator[tuple[dict[tuple[str, int], np.ndarray], float]]:
        while True:
            loss, _ = draw(truth, (1, 6, 5, 3), "normal", rng)
            seeds = {"mlp": 3, "capsule": 3, "a": 1, "b": 1, "c": 1, "d": 1}
            first = {(name, seed): loss[0, i, :, seed] for i, name in enumerate(seeds) for seed in range(seeds[name])}
            yield first, TEST_TO_TRAIN
            yield {(name, seed): errors + 2 for (name, seed), errors in first.items() if seed == 0}, TEST_TO_TRAIN

    found = archives()
    monkeypatch.setattr(components, "_losses", lambda _: next(found))
    fits = [fit(Path()) for _ in range(150)]
    assert np.mean([each.score for each in fits]) == pytest.approx(50, abs=0.5)
    assert np.mean([each.training.variance for each in fits]) == pytest.approx(4, rel=0.1)
    # Of the variance between folds a fifth is common to all folds of a block.
    assert np.mean([each.block_fold.variance for each in fits]) == pytest.approx(0.8 * 9, rel=0.1)
    assert np.mean([each.rows.variance for each in fits]) == pytest.approx(np.mean(truth.row_difference**2), rel=0.1)
    assert np.mean([np.mean(each.row_noise**2) for each in fits]) == pytest.approx(np.mean(truth.row_noise**2), rel=0.1)
    assert [each.same_seed.variance for each in fits] == pytest.approx([2.0] * len(fits))
    assert all(each.residuals.var() == pytest.approx(1) for each in fits)
    covered = np.mean([each.training.low < 4 < each.training.high for each in fits])
    assert 0.9 <= covered <= 1


def test_degrees_of_freedom_of_equal_and_of_unequal_variances() -> None:
    assert satterthwaite(np.array([0.0, 3.0, 0.0]), 2) == pytest.approx(2)
    assert satterthwaite(np.ones(10), 2) == pytest.approx(38)  # more than the 20 that all have together, by chance


@pytest.mark.deep
def test_false_positives_are_few_and_differences_are_found() -> None:
    studies = tables.studies(DOCS / "results")
    score = studies.components.score
    for variants, seeds, tails in product((2, 6), (2, 3, 5), tables.ALL_TAILS):
        found = studies.with_seeds(tails, seeds, variants)
        for estimates in (found.on_these_folds(), found.on_new_data()):
            # With two seeds, noise that differs as much between folds as capsule's is known too badly.
            limit = 0.08 if (tails, seeds) == ("by fold", 2) else 0.065
            assert tables.rate(find(estimates), 0.0) <= limit, (variants, seeds, tails)
        if (variants, seeds) == (2, 5):
            assert tables.rate(find(found.on_these_folds().shifted(0.1 * score)), 0.1) >= 0.85
    drawn = tables.differences_on_splits(DOCS / "results")
    for splits, variants, tails in product((10, 20, 50), (2, 6), tables.ALL_TAILS):
        estimates = over_splits(drawn[tails][:, : variants - 1, :splits], studies.components.test_to_train)
        assert tables.rate(find(estimates), 0.0) <= 0.065, (splits, variants, tails)
    for target, variants, tails in product((0.05, 0.1), (2, 6), tables.ALL_TAILS):
        estimates = studies.in_two_stages(tails, target, variants, 4).on_these_folds()
        assert tables.rate(find(estimates), 0.0) <= 0.065, (target, variants, tails)
    for seeds, margin, tails in product((2, 3, 5, 8), (0.02, 0.05, 0.1), tables.ALL_TAILS):
        assert tables.equivalent(studies.with_seeds(tails, seeds, 2), margin, differ=True).mean() <= 0.065


@pytest.mark.deep
def test_the_page_has_the_tables_of_the_archives() -> None:
    page = (DOCS / "statistics.md").read_text()
    assert render(page, DOCS, tables.TABLES) == page
    assert all(f"<!-- {name} results -->" in page for name in tables.TABLES)
