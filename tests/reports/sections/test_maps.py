from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from benchmarks.base.files import plain
from benchmarks.results.store import Training
from reports.environments.description import open_models
from reports.page.section import Text
from reports.sections.maps import (
    Maps,
    chance_of_group,
    compound_group,
    crystal_vectors,
    find_clusters,
    first_component,
    make_map,
    nearest_shares_group,
    neighbour_correlation,
)
from reports.study.study import Study
from tests.reports.sections.conftest import quiet, words_of


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
    labels = ["a"] * 40 + ["b"] * 40
    assert nearest_shares_group(made.points, labels).all()
    assert chance_of_group(labels) == pytest.approx(39 / 79)
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
    # Only some points count, though all are neighbours.
    target = np.where(np.arange(300) < 150, points[:, 0], rng.normal(size=300))
    first = np.arange(300) < 150
    assert neighbour_correlation(points, target, first) > neighbour_correlation(points, target, ~first) + 0.2


def test_clusters_are_numbered_by_their_targets() -> None:
    rng = np.random.default_rng(0)
    place = np.repeat([2, 0, 3, 1], 12)
    vectors = 20.0 * np.eye(4)[place] + rng.normal(size=(48, 4))
    cluster, silhouettes = find_clusters(vectors, place.astype(float))
    assert np.array_equal(cluster, 4 - place)
    assert max(silhouettes, key=silhouettes.__getitem__) == 4
    assert list(silhouettes) == [2, 3, 4, 5, 6, 7, 8]


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
    material, chemistry = crystal_vectors(models, models.trainings[0], dataset.table, rows)
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


def test_all_rows_are_mapped_by_one_model_which_did_not_see_the_marked_ones(
    facts: dict[str, dict[str, Any]], study: Study
) -> None:
    found, run = facts["maps"], study.runs[0].run
    ids = study.crystals().ids
    tested = {str(name) for name in run.read_predictions(Training(0, 0)).ids}
    everything = found["all_rows"]
    assert everything["n"] == everything["n_rows"] == len(ids)
    assert everything["tested"] == [str(name) in tested for name in ids]
    n_trained = len(study.dataset().folds(0)[0].train)
    assert everything["n_trained"] == n_trained < len(ids) - len(tested)
    assert f"trained on {n_trained} rows of the data; it was tested on {len(tested)}" in words_of(Maps, found)
    oxides = found["compounds"]["a_o_x"]
    of_table = [compound_group(z) for z in np.split(study.crystals().numbers, study.crystals().ptr[1:-1])]
    assert oxides["group"] == [group for group in of_table if group]
    # Each oxide of the two finished folds was asked of the model that did not see it.
    both = tested | {str(name) for name in run.read_predictions(Training(0, 1)).ids}
    assert oxides["n_pooled"] == sum(
        bool(group) and str(name) in both for group, name in zip(of_table, ids, strict=True)
    )
    assert oxides["folds"] == [0, 1]
    assert 0 <= oxides["same_group"] <= 1


def test_calcium_oxides_are_told_by_cluster(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.sections.maps._MIN_POINTS", 10)
    monkeypatch.setattr("reports.sections.maps._TRIED", range(2, 6))
    found = plain(Maps().analyse(study, quiet))
    calcium = found["compounds"]["ca_o_x"]
    assert sum(cluster["n"] for cluster in calcium["clusters"]) == calcium["n"] == len(calcium["cluster"])
    means = [cluster["mean"] for cluster in calcium["clusters"]]
    assert means == sorted(means, reverse=True)
    assert sum(cluster["n_tested"] for cluster in calcium["clusters"]) == sum(calcium["tested"])
    named = {element.split()[0] for cluster in calcium["clusters"] for element in cluster["elements"]}
    assert named <= {"Ti", "Zr"}
    words = words_of(Maps, found)
    assert "marker for each of four clusters" in words
    assert f"it was tested on {sum(calcium['tested'])} of the {calcium['n']} rows" in words


def test_all_rows_that_a_training_was_tested_on_are_marked_where_others_were_tested_on_them_too(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a split by elements, where a row is in several folds."""
    _, models = open_models(study, "material", quiet).runs[0]
    first, *others = models.trainings
    of_both = models.run.read_predictions(first).ids[:2]
    monkeypatch.setitem(vars(models), "tested_by", models.tested_by | dict.fromkeys(of_both, others[0]))
    found = Maps().analyse(study, quiet)["all_rows"]
    assert found["run"]["label"] == open_models(study, "material", quiet).runs[0][0].label
    assert sum(found["tested"]) == len(models.run.read_predictions(first).ids)
