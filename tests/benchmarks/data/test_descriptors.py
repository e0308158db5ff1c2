from __future__ import annotations

import numpy as np
import pytest

from baselines.models.trees import FEATURES, Trees, TreesConfig
from benchmarks.data.dataset import load_dataset
from benchmarks.data.descriptors import composition_statistics, crystal_statistics, elements_of
from benchmarks.data.graph_table import GraphSettings, build_graphs
from benchmarks.data.near_duplicates import structure_fingerprints
from benchmarks.training.loader import GraphTensors
from tests.benchmarks.data.made_own_data import load, rows_of, write_csv


def test_statistics_of_the_composition_are_those_that_trees_read() -> None:
    table = load_dataset("prototypes", jobs=1).table.slice(0, 64)
    graphs = GraphTensors(build_graphs(table, GraphSettings(), jobs=1), "cpu")
    read = Trees(TreesConfig()).features(graphs.batch(np.arange(len(table)))).numpy()
    n = next(i for i, name in enumerate(FEATURES) if "bond" in name)
    assert composition_statistics(table).shape == (len(table), n)
    np.testing.assert_allclose(composition_statistics(table), read[:, :n], atol=1e-5)


def test_elements_of_crystals_are_counted_once(tmp_path) -> None:
    table = load(write_csv(tmp_path / "mine", rows_of(5))).table
    crystal, number, n_atoms = elements_of(table)
    assert crystal.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert n_atoms.tolist() == [1] * 10
    assert [sorted(pair) for pair in number.reshape(5, 2).tolist()] == np.sort(table.numbers.reshape(5, 2)).tolist()


def test_statistics_are_standardised_and_see_the_structure(tmp_path) -> None:
    table = load(write_csv(tmp_path / "mine", rows_of(40))).table
    statistics = crystal_statistics(table)
    assert statistics.shape == (40, 54)
    assert np.allclose(statistics.mean(axis=0), 0)
    assert set(statistics.std(axis=0).round(6).tolist()) == {0.0, 1.0}  # every crystal has two elements
    # The lattice constant is the target; six neighbours are at half of it.
    fingerprints = structure_fingerprints(table)
    assert fingerprints[:, 0] ** 3 * 8 == pytest.approx(table.target**3)
    assert fingerprints[:, 1:7] * 2 == pytest.approx(np.tile(table.target[:, None], 6), rel=1e-4)
