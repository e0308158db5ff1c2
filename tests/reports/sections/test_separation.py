from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.data.dataset import Dataset
from benchmarks.data.folds import make_folds
from benchmarks.data.tasks import TASKS
from benchmarks.results.store import Run
from reports.environments.description import Environments, Models, inequivalent_rows
from reports.page.section import Figure, Text
from reports.sections.separation import (
    Score,
    Separation,
    common_width,
    displaced,
    fading,
    find_pairs,
    run_separation,
    separation,
    separation_score,
)
from sen.crystal import Crystal, refine
from tests.reports.made_models import crystal, made_dataset, mixed_rows, perovskite, rocksalt, store_models
from tests.reports.sections.conftest import quiet, study_of, words_of


@pytest.fixture(scope="module")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return made_dataset(tmp_path_factory.mktemp("data"), mixed_rows(36))


@pytest.fixture(scope="module")
def small_runs(tmp_path_factory: pytest.TempPathFactory, small_dataset: Dataset) -> dict[str, Run]:
    root = tmp_path_factory.mktemp("runs")
    return {block: store_models(root, small_dataset, variant=block, folds=(0, 1)) for block in ("mlp", "egnn")}


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
    before: dict[str, Score] = separation(models.describe(crystals, model, exact=True))
    after = separation(models.describe([change(own) for own in crystals], model, exact=True))
    for stage in ("before", "after"):
        assert before[stage].n == 3
        assert after[stage].value == pytest.approx(before[stage].value, rel=0.05)


def test_crystals_without_inequivalent_atoms_do_not_count(small_runs: dict[str, Run], small_dataset: Dataset) -> None:
    models = Models(small_runs["mlp"])
    own = [crystal(rocksalt(5.6)), crystal(perovskite(4.0, 4.3))]
    assert separation(models.describe(own, models.load(models.trainings[0])))["after"].n == 1
    rows = np.arange(len(small_dataset.table))
    # Every third row is a perovskite.
    assert np.array_equal(inequivalent_rows(small_dataset.table, rows), rows[::3])


def test_scores_of_a_run_repeat(
    small_runs: dict[str, Run], small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_separation(Models(small_runs["mlp"]), small_dataset.table)
    monkeypatch.setattr("reports.environments.description._kept", {})
    assert run_separation(Models(small_runs["mlp"]), small_dataset.table) == first
    assert first["trained"]["after"].n == first["untrained"]["after"].n > 0
    assert first["trained"]["after"].value != first["untrained"]["after"].value


def test_displacements_have_the_size_they_should() -> None:
    own = crystal(perovskite(4.0, 4.3))
    moved = displaced(own, 0.02, np.random.default_rng(0))
    steps = (moved.positions - own.positions) @ own.lattice
    assert np.allclose(np.linalg.norm(steps, axis=1), 0.02)
    assert moved.orbit.tolist() == list(range(5))  # atoms that were equivalent are so no longer
    assert np.allclose(displaced(own, 0.0, np.random.default_rng(0)).positions, own.positions)
    twice = displaced(own, 0.04, np.random.default_rng(0))
    assert np.allclose((twice.positions - own.positions), 2 * (moved.positions - own.positions))


@pytest.mark.parametrize("block", ["mlp", "egnn"])
def test_displaced_atoms_have_environments_of_their_own(small_runs: dict[str, Run], block: str) -> None:
    """Atoms of what was one orbit differ before the block already, although features are computed orbit by orbit."""
    models = Models(small_runs[block])
    own = crystal(perovskite(4.0, 4.3))
    moved = displaced(own, 0.05, np.random.default_rng(0))
    environments = models.describe([moved], models.load(models.trainings[0]), cells="full", exact=True)
    before = environments.before[environments.atom_nodes(0, moved)]
    i, j = np.triu_indices(len(own), k=1)
    were_equivalent = own.orbit[i] == own.orbit[j]
    assert were_equivalent.any()
    assert (np.abs(before[i] - before[j]).max(axis=1) > 1e-6).all()


def test_equivalence_fades(small_runs: dict[str, Run], small_dataset: Dataset) -> None:
    models = Models(small_runs["mlp"])
    found = fading(models, small_dataset.table, sizes=(0.0, 0.02, 0.2))
    assert found is not None
    assert [step.size for step in found.steps] == [0.0, 0.02, 0.2]
    # Rocksalt has no equivalent atoms in its primitive cell; there are fewer than 20 perovskites, so wurtzite counts.
    assert 0 < found.n < len(models.tested_by)
    assert np.isnan(found.score)
    zero, small, large = found.steps
    assert (zero.equivalent, zero.relative) == (0, 0)
    assert large.equivalent > small.equivalent > 0
    assert small.relative == small.equivalent / found.elements
    assert small.interval.low <= small.relative <= small.interval.high
    assert fading(models, small_dataset.table, sizes=(0.0, 0.02, 0.2)) == found


def test_equivalence_fades_in_crystals_of_the_score(
    small_runs: dict[str, Run], small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.sections.separation._ENOUGH", 2)
    for block in ("mlp", "egnn"):
        models = Models(small_runs[block])
        found = fading(models, small_dataset.table, sizes=(0.0, 0.1))
        score = run_separation(models, small_dataset.table)["trained"]["after"]
        assert found is not None
        # All perovskites have both kinds of atoms: the crystals are the same ones.
        assert (found.n, found.score, found.elements) == (score.n, score.value, score.elements)
        few = fading(models, small_dataset.table, at_most=3, sizes=(0.0,))
        assert few is not None
        assert few.n == 3


def test_there_is_nothing_to_fade_without_equivalent_atoms(tmp_path: Path) -> None:
    rows: list[Any] = [[rocksalt(5 + 0.02 * i), 1.0 + i] for i in range(20)]
    data = made_dataset(tmp_path / "data", rows)
    assert fading(Models(store_models(tmp_path / "runs", data, folds=(0,))), data.table) is None


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
        scores[own] = separation(environments_of(after, 3), common_width([128, 512]))["after"]
    assert scores[128].n == scores[512].n == n
    assert scores[128].value == pytest.approx(scores[512].value, rel=0.04)
    # Each 2-KS is a mean over subsets, and sits on no step of 1/96 or 1/128.
    for score in scores.values():
        assert len({round(score.inequivalent * own, 6) % 1 for own in (96, 128)} - {0.0}) == 2


def test_the_width_of_comparison() -> None:
    assert common_width([192, 128, 512]) == 96
    assert common_width([512, 256]) == 96
    assert common_width([48, 512]) == 36
    assert common_width([1]) == 1


def test_a_collapsed_block_has_no_score() -> None:
    score = separation(environments_of(np.ones((30, 16)), 3))["after"]
    assert np.isnan(score.value)
    assert (score.inequivalent, score.elements, score.n) == (0, 0, 10)
    assert np.isnan(score.interval.low)


# What the section finds and shows.


def test_what_the_separation_section_finds(facts: dict[str, dict[str, Any]]) -> None:
    blocks = {block["label"]: block for block in facts["separation"]["runs"]}
    assert set(blocks) == {"mlp", "capsule", "egnn"}
    for block in blocks.values():
        for stages in block["scores"].values():
            low, high = stages["after"]["interval"]
            assert low <= stages["after"]["value"] <= high
        assert 0.02 in [step["size"] for step in block["fading"]["steps"]]
        assert block["fading"]["n"] > 0
    # The narrowest of all is the width before the block.
    assert facts["separation"]["width"] == 3 * min(w for b in blocks.values() for w in b["width"].values()) // 4
    texts = [block.text for block in Separation().show(facts["separation"]) if isinstance(block, Text)]
    assert any(f"1/{facts['separation']['width']}" in text for text in texts)
    assert not any("differ at all" in text for text in texts)


def test_only_scores_above_the_resolution_are_compared_with_noise(facts: dict[str, dict[str, Any]]) -> None:
    again = json.loads(json.dumps(facts["separation"]))
    low, high = again["runs"][:2]
    for block, resolution in ((low, 0.4), (high, 0.1)):
        whole = block["scores"]["trained"]["after"]
        block["fading"] |= {"score": 0.5, "resolution": resolution}
        # The interval of the first begins below the resolution.
        whole |= {"value": 0.5, "interval": [0.3, 0.7], "resolution": resolution}
    again["runs"] = [low, high]
    caption = next(b for b in Separation().show(again) if isinstance(b, Figure) and b.name == "fading").caption
    assert f"of these crystals ({high['label']}); where a curve reaches its line" in caption
    assert f"not clearly above the resolution: {low['label']}." in caption
    again["runs"] = [low]
    caption = next(b for b in Separation().show(again) if isinstance(b, Figure) and b.name == "fading").caption
    assert "looks like inequivalence" not in caption


def test_a_run_whose_test_rows_have_no_inequivalent_atoms_is_said(tmp_path: Path) -> None:
    rows = [[rocksalt(5 + 0.01 * i), 1.0 + i] for i in range(60)]
    table = made_dataset(tmp_path / "data", rows).table
    fold = make_folds("regression", table.row, TASKS["matbench_jdft2d"].n_rows, table.target, 0)[1]
    for i in fold.test.tolist():
        rows[i][0] = perovskite(4 + 0.01 * i, 4.3 + 0.01 * i)
    data = made_dataset(tmp_path / "data", rows)
    store_models(tmp_path / "runs", data, variant="mlp", folds=(0,))
    store_models(tmp_path / "runs", data, variant="capsule", folds=(1,))
    facts = Separation().analyse(study_of(tmp_path / "runs", tmp_path / "data"), quiet)
    assert [block["label"] for block in facts["runs"]] == ["capsule"]
    (left_out,) = facts["without_inequivalent"]
    assert left_out["label"] == "mlp"
    assert f"mlp is left out: none of the {left_out['drawn']} crystals drawn" in words_of(Separation, facts)
