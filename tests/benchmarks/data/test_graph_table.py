from __future__ import annotations

import dataclasses
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.base.errors import DataError
from benchmarks.data import graph_table
from benchmarks.data.crystal_table import CrystalTable, read_matbench_json
from benchmarks.data.dataset import load_dataset
from benchmarks.data.graph_table import GraphSettings, build_graphs
from benchmarks.data.tasks import get_task
from sen.crystal import refine
from sen.graph import build_graph, join_graphs


@pytest.fixture
def table(tmp_path, monkeypatch) -> CrystalTable:
    """Five crystals, among them one whose atoms have no neighbours."""
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    cube, body = np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]]
    found = [
        refine(4.12 * cube, body, [55, 17]),
        refine(2.87 * cube, body, [26, 26]),
        refine(20 * cube, [[0, 0, 0]], [2]),
        refine(np.diag([3, 4, 5]), [[0, 0, 0], [0.5, 0.5, 0.1]], [8, 12]),
        refine(3.35 * cube, [[0, 0, 0]], [84]),
    ]
    return CrystalTable(
        lattice=np.stack([crystal.lattice for crystal in found]),
        positions=np.concatenate([crystal.positions for crystal in found]),
        numbers=np.concatenate([crystal.numbers for crystal in found]),
        orbit=np.concatenate([crystal.orbit for crystal in found]),
        ptr=np.cumsum([0] + [len(crystal) for crystal in found]),
        space_group=np.array([crystal.space_group for crystal in found]),
        target=np.zeros(5),
        heavy_hydrogen=np.zeros(5, dtype=bool),
        row=np.arange(5),
        ids=np.array(list("abcde")),
        digest="test",
    )


@pytest.mark.usefixtures("no_graph_of_polonium")
def test_the_row_of_a_crystal_without_a_graph_is_named(table):
    with pytest.raises(
        DataError, match=r"^Row e cannot be used \(IndexError: cell list is full\), with graph\.cutoff=5\.0, "
    ):
        build_graphs(table, GraphSettings(), jobs=1)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("cells", ["asymmetric", "full"])
def test_table_holds_the_graph_of_each_crystal(table, cells, jobs, monkeypatch):
    monkeypatch.setattr(graph_table, "_CHUNK", 2)
    settings = GraphSettings(cutoff=4.5, max_neighbors=10, cells=cells)
    found = build_graphs(table, settings, jobs=jobs)
    assert found.n_crystals == 5
    assert found.n_edges[2] == 0
    assert found.distance.dtype == np.float32
    assert (found.vector is None) == (cells == "asymmetric")
    for i in range(5):
        graph = build_graph(table.crystal(i), cutoff=4.5, max_neighbors=10, cells=cells)
        nodes = slice(found.node_ptr[i], found.node_ptr[i + 1])
        edges = slice(found.edge_ptr[nodes.start], found.edge_ptr[nodes.stop])
        assert found.n_edges[i] == len(graph.distance)
        np.testing.assert_array_equal(found.numbers[nodes], graph.numbers)
        np.testing.assert_array_equal(found.multiplicity[nodes], graph.multiplicity)
        np.testing.assert_array_equal(found.edge_ptr[nodes.start : nodes.stop + 1] - edges.start, graph.edge_ptr)
        np.testing.assert_array_equal(found.neighbor[edges], graph.neighbor)
        np.testing.assert_allclose(found.distance[edges], graph.distance, rtol=1e-6)
        assert found.n_neighbors[i] == graph.n_neighbors.sum()
        if cells == "asymmetric":
            np.testing.assert_array_equal(found.edge_multiplicity[edges], graph.edge_multiplicity)
        else:
            assert found.edge_multiplicity is graph.edge_multiplicity is None
            np.testing.assert_allclose(found.vector[edges], graph.vector, rtol=1e-6, atol=1e-6)


def test_full_cells_have_their_asymmetric_units_from_the_cache_that_those_have_anyway(table, tmp_path):
    full = build_graphs(table, GraphSettings(cells="full"), jobs=1)
    folders = set((tmp_path / "cache").glob("graphs-*"))
    assert len(folders) == 2
    asymmetric = build_graphs(table, GraphSettings(), jobs=1)
    assert set((tmp_path / "cache").glob("graphs-*")) == folders
    assert full.asymmetric.digest == asymmetric.digest != full.digest
    assert asymmetric.asymmetric is asymmetric.orbit is full.asymmetric.asymmetric is full.asymmetric.orbit is None
    joined = join_graphs([build_graph(table.crystal(i), cells="full") for i in range(5)])
    for one, other in ((full, joined), (full.asymmetric, joined.asymmetric)):
        for field in dataclasses.fields(one):
            if field.name not in {"digest", "asymmetric"}:
                found, expected = getattr(one, field.name), getattr(other, field.name)
                if expected is not None and expected.dtype == np.float64:
                    expected = expected.astype(np.float32)  # as tables are stored
                np.testing.assert_array_equal(found, expected, field.name)


def test_damaged_asymmetric_units_are_rebuilt_alone(table, tmp_path, caplog):
    settings = GraphSettings(cells="full")
    expected = build_graphs(table, settings, jobs=1)
    (array,) = (tmp_path / "cache").glob("*/edge_multiplicity.npy")  # full cells have none
    array.unlink()
    calls = []
    with caplog.at_level(logging.WARNING):
        found = build_graphs(table, settings, jobs=1, progress=lambda *done: calls.append(done))
    assert caplog.text.count("is rebuilt") == len(calls) == 1
    np.testing.assert_array_equal(found.asymmetric.edge_multiplicity, expected.asymmetric.edge_multiplicity)


def test_graphs_are_cached_by_their_settings(table):
    calls = []

    def build(settings):
        return build_graphs(table, settings, jobs=1, progress=lambda *done: calls.append(done)).digest

    digests = {build(GraphSettings()), build(GraphSettings(max_neighbors=None)), build(GraphSettings(cells="full"))}
    assert len(digests) == len(calls) == 3
    assert calls[0] == (5, 5)
    assert build(GraphSettings()) in digests
    assert len(calls) == 3


def test_damaged_cache_is_rebuilt(table, tmp_path, caplog):
    expected = build_graphs(table, GraphSettings(), jobs=1).distance.tolist()
    (array,) = (tmp_path / "cache").glob("*/distance.npy")
    content = bytearray(array.read_bytes())
    content[-2] ^= 4
    array.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert build_graphs(table, GraphSettings(), jobs=1).distance.tolist() == expected
    assert "rebuilt" in caplog.text


@pytest.mark.parametrize("bad", [{"cutoff": 0}, {"max_neighbors": 0}, {"cells": "primitive"}, {"radius": 5}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValidationError):
        GraphSettings(**bad)


def test_phonons(data_dir):
    table = read_matbench_json(data_dir / "matbench_phonons.json.gz", "last phdos peak", row_id=str)
    asymmetric = build_graphs(table, GraphSettings())
    full = build_graphs(table, GraphSettings(cells="full"))
    np.testing.assert_array_equal(full.node_ptr, table.ptr)
    atoms = np.add.reduceat(asymmetric.multiplicity, asymmetric.node_ptr[:-1])
    np.testing.assert_array_equal(atoms, np.diff(table.ptr))
    # The asymmetric unit stands for all edges of the cell, in every crystal.
    multiplicity = np.repeat(asymmetric.multiplicity, np.diff(asymmetric.edge_ptr)) * asymmetric.edge_multiplicity
    crystal = np.repeat(np.arange(len(table)), asymmetric.n_edges)
    np.testing.assert_array_equal(np.bincount(crystal, multiplicity, len(table)), full.n_edges)


def test_worker_processes_import_little():
    code = (
        "import sys, numpy as np, benchmarks.data.graph_table, benchmarks.data.rows; from sen.crystal import refine; "
        "from sen.graph import build_graph; "
        "build_graph(refine(3 * np.eye(3), [[0, 0, 0]], [84]), cells='full'); "
        "print({'torch', 'pymatgen.core', 'pandas', 'scipy', 'sklearn'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_cached_table_is_sent_as_the_paths_of_its_files(data_dir: Path) -> None:
    task = get_task("matbench_phonons")
    table = load_dataset(task, data_dir).table
    full = build_graphs(table, GraphSettings(cells="full"))
    assert len(pickle.dumps(full)) < 10_000  # the orbits are an array of the crystals' cache
    assert np.array_equal(pickle.loads(pickle.dumps(full)).asymmetric.distance, full.asymmetric.distance)
    for whole in (table, full.asymmetric):
        sent = pickle.dumps(whole)
        assert len(sent) < 200_000  # the ids are not cached; the arrays take megabytes
        received = pickle.loads(sent)
        for field in dataclasses.fields(whole):
            assert np.array_equal(getattr(received, field.name), getattr(whole, field.name)), field.name
    part = table.slice(3, 5)
    assert np.array_equal(pickle.loads(pickle.dumps(part)).positions, part.positions)
    joined = join_graphs([build_graph(table.crystal(0), cells="full")])
    assert np.array_equal(pickle.loads(pickle.dumps(joined)).distance, joined.distance)
