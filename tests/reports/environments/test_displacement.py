from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.data.dataset import Dataset
from benchmarks.results.store import Run
from reports.environments.description import Models
from reports.environments.displacement import displaced, fading
from reports.environments.pairs import run_separation
from tests.reports.made_models import crystal, made_dataset, perovskite, rocksalt, store_models


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
    assert [step.size for step in found.curves["ks"].steps] == [0.0, 0.02, 0.2]
    # Rocksalt has no equivalent atoms in its primitive cell; there are fewer than 20 perovskites, so wurtzite counts.
    assert 0 < found.n < len(models.tested_by)
    for curve in found.curves.values():
        assert curve.score is None
        zero, small, large = curve.steps
        assert (zero.equivalent, zero.relative) == (0, 0)
        assert large.equivalent > small.equivalent > 0
        assert small.relative == small.equivalent / curve.elements
        assert small.interval.low <= small.relative <= small.interval.high
    assert fading(models, small_dataset.table, sizes=(0.0, 0.02, 0.2)) == found


def test_equivalence_fades_in_crystals_of_the_score(
    small_runs: dict[str, Run], small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.environments.displacement.ENOUGH", 2)
    for block in ("mlp", "egnn"):
        models = Models(small_runs[block])
        found = fading(models, small_dataset.table, sizes=(0.0, 0.1))
        assert found is not None
        # All perovskites have both kinds of atoms: the crystals are the same ones.
        for measure, scores in run_separation(models, small_dataset.table).items():
            score, curve = scores["trained"]["after"], found.curves[measure]
            assert (found.n, curve.score, curve.elements) == (score.n, score, score.elements)
        few = fading(models, small_dataset.table, at_most=3, sizes=(0.0,))
        assert few is not None
        assert few.n == 3


def test_there_is_nothing_to_fade_without_equivalent_atoms(tmp_path: Path) -> None:
    rows: list[Any] = [[rocksalt(5 + 0.02 * i), 1.0 + i] for i in range(20)]
    data = made_dataset(tmp_path / "data", rows)
    assert fading(Models(store_models(tmp_path / "runs", data, folds=(0,))), data.table) is None
