from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from benchmarks.results.store import Training
from reports.page.section import Text
from reports.sections.maps import (
    Maps,
    compound_group,
    crystal_vectors,
    first_component,
    make_map,
    neighbour_correlation,
    same_group_share,
)
from reports.study.study import Study


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=(40, 60)) + 8 * i for i in (0, 1)]).astype(np.float32)


def test_a_map_keeps_neighbourhoods_and_repeats(blobs: np.ndarray) -> None:
    reports: list[tuple[int, int | None]] = []
    made = make_map(blobs, progress=lambda done, total: reports.append((done, total)))
    assert made.points.shape == (80, 2)
    assert reports[-1] == (750, 750)
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert np.array_equal(make_map(blobs).points, made.points)
    assert not np.array_equal(make_map(blobs, seed=1).points, made.points)
    share, chance = same_group_share(made.points, ["a"] * 40 + ["b"] * 40)
    assert (share, chance) == (1.0, pytest.approx(39 / 79))
    assert made.trustworthiness == pytest.approx(trustworthiness(blobs, made.points, n_neighbors=10), abs=1e-9)
    assert made.judged == 80


def test_of_many_points_a_part_is_judged(blobs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.sections.maps._JUDGED", 50)
    made = make_map(blobs)
    assert made.judged == 50
    assert 0.5 < made.trustworthiness <= 1


def test_a_small_map_has_a_small_perplexity() -> None:
    made = make_map(np.random.default_rng(0).normal(size=(22, 5)))
    assert made.perplexity == 7
    assert np.isfinite(made.points).all()


def test_a_target_that_follows_the_map() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(300, 2))
    assert neighbour_correlation(points, points[:, 0]) > 0.97
    assert abs(neighbour_correlation(points, rng.normal(size=300))) < 0.2
    assert np.isnan(neighbour_correlation(points, np.ones(300)))


def test_the_share_of_the_first_component() -> None:
    line = np.outer(np.linspace(-1, 1, 50), [1.0, 2, 3])
    assert first_component(line) == pytest.approx(1)
    square = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert first_component(square) == pytest.approx(0.5)
    assert np.isnan(first_component(np.ones((4, 3))))


@pytest.mark.parametrize(
    ("numbers", "group"),
    [
        ([20, 8], "Ca"),
        ([20, 22, 8, 8, 8], "Ca"),
        # The more electropositive of two.
        ([20, 13, 13, 8, 8, 8, 8], "Ca"),
        ([13, 3, 8, 8], "Li"),
        ([20, 17], None),
        ([12, 8], None),
        ([20, 22, 40, 8], None),
        ([8], None),
    ],
)
def test_compounds(numbers: list[int], group: str | None) -> None:
    assert compound_group(np.array(numbers, np.uint8)) == group


def test_vectors_are_those_of_a_description(tmp_path_factory: pytest.TempPathFactory) -> None:
    from reports.environments.description import Models
    from tests.reports.made_models import made_dataset, mixed_rows, store_models

    folder = tmp_path_factory.mktemp("maps")
    dataset = made_dataset(folder / "data", mixed_rows(30))
    models = Models(store_models(folder / "runs", dataset, folds=(2,)))
    rows = np.arange(7)
    material, chemistry = crystal_vectors(models, 2, dataset.table, rows)
    crystals = [dataset.table.crystal(i) for i in range(7)]
    described = models.describe(crystals, models.load(models.trainings[0]))
    assert np.array_equal(material, described.material)
    for i, own in enumerate(crystals):
        mean = described.before[described.atom_nodes(i, own)].mean(axis=0)
        assert np.allclose(chemistry[i], mean, atol=1e-5)


def test_one_map_shows_one_fold(facts: dict[str, dict[str, Any]], study: Study) -> None:
    found = facts["maps"]
    fold_rows = study.runs[0].run.read_predictions(Training(0, 0)).ids
    assert found["fold"] == 0
    assert found["n"] == found["n_test"] == len(fold_rows)
    assert [m["label"] for m in found["maps"]] == ["capsule", "egnn", "mlp"]
    assert len(found["system"]) == len(found["target"]) == len(found["maps"][0]["points"][0]) == found["n"]
    assert found["compounds"]["ca_o_x"]["points"] is None
    texts = [block.text for block in Maps().show(found) if isinstance(block, Text)]
    assert any("Ca-O-X" in text for text in texts)
