from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.data.dataset import Dataset
from benchmarks.results.store import Run
from reports.environments.description import Environments, Models, inequivalent_rows
from reports.environments.pairs import (
    common_width,
    find_pairs,
    resolution,
    run_separation,
    separation,
    separation_score,
)
from reports.environments.two_ks import MEASURES
from sen.crystal import Crystal, refine
from tests.reports.made_models import crystal, perovskite, rocksalt


def test_the_score_by_hand() -> None:
    score = separation_score(np.array([0.1, 0.2, 0.6]), np.array([0.4, 0.5, 0.9]))
    assert (score.value, score.inequivalent, score.elements, score.n) == (0.4, 0.2, 0.5, 3)
    assert score.interval.low <= score.value <= score.interval.high
    assert np.isnan(separation_score(np.empty(0), np.empty(0)).value)
    assert np.isnan(separation_score(np.array([0.1]), np.array([0.4])).interval.low)


def test_pairs_by_hand() -> None:
    rng = np.random.default_rng(0)
    pairs = find_pairs(np.arange(10, 14), np.array([8, 8, 8, 22], np.uint8), np.array([0, 0, 1, 2], np.int32), rng)
    assert pairs.equivalent.tolist() == [[10, 11]]
    assert pairs.inequivalent.tolist() == [[10, 12], [11, 12]]
    assert pairs.elements.tolist() == [[10, 13], [11, 13], [12, 13]]
    many = find_pairs(np.arange(60), np.full(60, 8, np.uint8), np.arange(60, dtype=np.int32), rng)
    assert len(many.inequivalent) == 200


def supercell(own: Crystal, times: int) -> Crystal:
    shifts = np.arange(times)[:, None] * np.array([0, 0, 1.0])
    positions = (own.positions[None] + shifts[:, None]).reshape(-1, 3) / np.array([1, 1, times])
    lattice = own.lattice * np.array([[1.0], [1.0], [times]])
    return refine(lattice, positions, np.tile(own.numbers, times))


def permuted(own: Crystal, order: np.ndarray) -> Crystal:
    return refine(own.lattice, own.positions[order], own.numbers[order])


@pytest.mark.parametrize("change", [lambda c: supercell(c, 3), lambda c: permuted(c, np.arange(len(c))[::-1])])
@pytest.mark.parametrize("block", ["mlp", "egnn"])
def test_the_score_knows_neither_cells_nor_orders(
    small_runs: dict[str, Run], block: str, change: Callable[[Crystal], Crystal]
) -> None:
    models = Models(small_runs[block])
    model = models.load(models.trainings[0])
    crystals = [crystal(perovskite(a, 1.07 * a)) for a in (3.9, 4.0, 4.2)]
    before = separation(models.describe(crystals, model, exact=True))
    after = separation(models.describe([change(own) for own in crystals], model, exact=True))
    for measure in MEASURES:
        for stage in ("before", "after"):
            assert before[measure][stage].n == 3
            assert after[measure][stage].value == pytest.approx(before[measure][stage].value, rel=0.05)


def test_crystals_without_inequivalent_atoms_do_not_count(small_runs: dict[str, Run], small_dataset: Dataset) -> None:
    models = Models(small_runs["mlp"])
    own = [crystal(rocksalt(5.6)), crystal(perovskite(4.0, 4.3))]
    assert separation(models.describe(own, models.load(models.trainings[0])))["angle"]["after"].n == 1
    rows = np.arange(len(small_dataset.table))
    # Every third row is a perovskite.
    assert np.array_equal(inequivalent_rows(small_dataset.table, rows), rows[::3])


def test_scores_of_a_run_repeat(
    small_runs: dict[str, Run], small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_separation(Models(small_runs["mlp"]), small_dataset.table)
    monkeypatch.setattr("reports.environments.description._kept", {})
    assert run_separation(Models(small_runs["mlp"]), small_dataset.table) == first
    for scores in first.values():
        assert scores["trained"]["after"].n == scores["untrained"]["after"].n > 0
        assert scores["trained"]["after"].value != scores["untrained"]["after"].value


def environments_of(after: np.ndarray, orbits: int) -> Environments:
    """Crystals of this many orbits each: two of oxygen, the others of titanium."""
    n = len(after) // orbits
    pointers = np.arange(n + 1) * orbits
    return Environments(
        stages={"before": after, "after": after},
        prediction=np.zeros(n),
        node_ptr=pointers,
        orbit_ptr=pointers,
        orbit_node=np.arange(len(after)),
        numbers=np.tile(np.array([8, 8] + [22] * (orbits - 2), dtype=np.uint8), n),
        multiplicity=np.ones(len(after), dtype=np.int32),
        cells="asymmetric",
        extras={},
    )


def test_the_score_does_not_depend_on_the_width_of_the_environments() -> None:
    rng = np.random.default_rng(0)
    n = 150
    # The same distributions of components: oxygens a little apart, titanium further away.
    shift = np.tile([0.0, 0.1, 0.5], n)[:, None]
    scores = {}
    for own in (128, 512):
        common = rng.normal(size=(n, 1, own)).repeat(3, axis=1).reshape(3 * n, own)
        after = common + shift + 0.1 * rng.normal(size=(3 * n, own))
        scores[own] = separation(environments_of(after, 3), common_width([128, 512]))
    for measure in MEASURES:
        narrow, wide = scores[128][measure]["after"], scores[512][measure]["after"]
        assert narrow.n == wide.n == n
        assert narrow.value == pytest.approx(wide.value, rel=0.04)
    # Each 2-KS is a mean over subsets, and sits on no step of 1/96 or 1/128.
    for score in (by_measure["ks"]["after"] for by_measure in scores.values()):
        assert len({round(score.inequivalent * own, 6) % 1 for own in (96, 128)} - {0.0}) == 2


def test_the_width_of_comparison() -> None:
    assert common_width([192, 128, 512]) == 96
    assert common_width([512, 256]) == 96
    assert common_width([48, 512]) == 36
    assert common_width([1]) == 1


def test_a_collapsed_block_has_no_score() -> None:
    for scores in separation(environments_of(np.ones((30, 16)), 3)).values():
        score = scores["after"]
        assert np.isnan(score.value)
        assert (score.inequivalent, score.elements, score.n) == (0, 0, 10)
        assert np.isnan(score.interval.low)


def test_atoms_that_differ_by_the_order_of_their_components_alone_are_separated_by_the_angle() -> None:
    oxygen, titanium = np.random.default_rng(0).normal(size=(2, 12, 64))
    after = np.stack([oxygen, oxygen[:, ::-1], titanium + 1], axis=1).reshape(36, 64)
    # From all components, because a part of them is not that of the other atom.
    by_measure = separation(environments_of(after, 3), 64)
    assert by_measure["ks"]["after"].value == 0
    assert by_measure["angle"]["after"].value > 0.5


def test_the_resolution_is_that_of_2_ks() -> None:
    assert resolution("ks", 0.25, 96) == pytest.approx(1 / 24)
    assert resolution("ks", 0.0, 96) is None
    assert resolution("angle", 30.0, 96) is None
