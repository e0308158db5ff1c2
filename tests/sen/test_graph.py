from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest

from sen.crystal import Crystal, refine
from sen.graph import Graph, build_graph
from tests.sen.structures import CUBE, FCC, ROCKSALT, RUTILE


def raw(lattice, positions, numbers) -> Crystal:
    n = len(numbers)
    return Crystal(np.array(lattice, float), np.array(positions, float), np.array(numbers, np.uint8), np.arange(n), 1)


def rows(graph: Graph, values: np.ndarray) -> list[np.ndarray]:
    """The values of each node's edges, repeated by their multiplicity."""
    edges = [slice(start, stop) for start, stop in pairwise(graph.edge_ptr)]
    multiplicity = graph.edge_multiplicity
    return [np.repeat(values[edge], 1 if multiplicity is None else multiplicity[edge]) for edge in edges]


def shells(distances: np.ndarray) -> list[tuple[float, int]]:
    """Rounded distances with their counts."""
    values, counts = np.unique(distances.round(3), return_counts=True)
    return list(zip(values.tolist(), counts.tolist(), strict=True))


@pytest.fixture
def random_crystal() -> Crystal:
    rng = np.random.default_rng(3)
    return raw(rng.normal(size=(3, 3)) + 5 * CUBE, rng.uniform(-2, 2, (12, 3)), rng.integers(1, 90, 12))


def test_fcc():
    graph = build_graph(raw(4 * CUBE, FCC, [29] * 4), max_neighbors=None, cells="full")
    for distances in rows(graph, graph.distance):
        assert shells(distances) == [(2.828, 12), (4.0, 6), (4.899, 24)]


def test_bcc():
    graph = build_graph(raw(3 * CUBE, [[0, 0, 0], [0.5] * 3], [26, 26]), max_neighbors=None, cells="full")
    for distances in rows(graph, graph.distance):
        assert shells(distances) == [(2.598, 8), (3.0, 6), (4.243, 12), (4.975, 24)]


def test_rocksalt_asymmetric():
    crystal = refine(*ROCKSALT)
    graph = build_graph(crystal, max_neighbors=12, cells="asymmetric")
    assert graph.vector is None
    assert graph.multiplicity.tolist() == [1, 1]
    for node, (neighbors, distances) in enumerate(
        zip(rows(graph, graph.neighbor), rows(graph, graph.distance), strict=True)
    ):
        assert shells(distances) == [(2.82, 6), (3.988, 12)]
        assert neighbors.tolist() == [1 - node] * 6 + [node] * 12
    # Each node has two edges: one to the other orbit and one to its own.
    assert graph.edge_ptr.tolist() == [0, 2, 4]
    assert graph.edge_multiplicity.tolist() == [6, 12, 6, 12]


def test_only_equal_lengths_to_one_orbit_are_merged():
    # A chain with neighbours at 2 Å: one orbit has twice the atoms of the other two, which differ only by their orbit.
    chain = np.diag([8.0, 20.0, 20.0])
    positions = [[0, 0, 0], [0.25, 0, 0], [0.5, 0, 0], [0.75, 0, 0]]
    crystal = Crystal(chain, np.array(positions), np.array([3, 9, 3, 9], np.uint8), np.array([0, 1, 0, 2]), 1)
    graph = build_graph(crystal, cutoff=2.5, cells="asymmetric")
    assert graph.multiplicity.tolist() == [2, 1, 1]
    assert sorted(graph.neighbor[:2].tolist()) == [1, 2]
    assert graph.neighbor[2:].tolist() == [0, 0]
    assert graph.edge_multiplicity.tolist() == [1, 1, 2, 2]
    moved = replace(crystal, positions=crystal.positions + np.array([[0, 0, 0], [1e-6, 0, 0], [0, 0, 0], [0, 0, 0]]))
    graph = build_graph(moved, cutoff=2.5, cells="asymmetric")
    assert graph.edge_multiplicity.tolist() == [1, 1, 1, 1, 2]


@pytest.mark.parametrize(("cap", "kept"), [(1, 12), (12, 12), (13, 18), (18, 18), (19, 42), (99, 42), (None, 42)])
def test_cap_keeps_whole_shells(cap, kept):
    graph = build_graph(raw(4 * CUBE, FCC, [29] * 4), max_neighbors=cap, cells="full")
    assert np.diff(graph.edge_ptr).tolist() == [kept] * 4


@pytest.mark.parametrize("cap", [1, 5, 12, 16, 40])
def test_cap_on_a_crystal_without_symmetry(random_crystal, cap):
    everything = build_graph(random_crystal, max_neighbors=None, cells="full")
    capped = build_graph(random_crystal, max_neighbors=cap, cells="full")
    for all_of_them, kept in zip(rows(everything, everything.distance), rows(capped, capped.distance), strict=True):
        np.testing.assert_array_equal(kept, all_of_them[: len(kept)])
        assert len(kept) >= min(cap, len(all_of_them))
        gaps = np.diff(all_of_them)
        if len(kept) < len(all_of_them):
            assert gaps[len(kept) - 1] > 0.01
        assert (gaps[cap - 1 : len(kept) - 1] <= 0.01).all()


def test_edges_are_sorted_and_point_at_neighbors(random_crystal):
    graph = build_graph(random_crystal, max_neighbors=None, cells="full")
    assert graph.edge_ptr[0] == 0
    assert graph.edge_ptr[-1] == len(graph.distance) == len(graph.neighbor)
    assert all((np.diff(distances) >= 0).all() for distances in rows(graph, graph.distance))
    np.testing.assert_allclose(np.linalg.norm(graph.vector, axis=1), graph.distance)
    center = np.repeat(np.arange(12), np.diff(graph.edge_ptr))
    images = np.linalg.solve(random_crystal.lattice.T, graph.vector.T).T
    images -= random_crystal.positions[graph.neighbor] - random_crystal.positions[center]
    np.testing.assert_allclose(images, images.round(), atol=1e-9)


def test_every_neighbor_is_found(random_crystal):
    images = np.stack(np.meshgrid(*[range(-8, 9)] * 3), -1).reshape(-1, 1, 1, 3)
    positions = random_crystal.positions
    apart = (positions[None] - positions[:, None] + images) @ random_crystal.lattice
    distance = np.linalg.norm(apart, axis=-1)
    graph = build_graph(random_crystal, max_neighbors=None, cells="full")
    for node, found in enumerate(rows(graph, graph.distance)):
        expected = np.sort(distance[:, node].ravel())[1:]
        np.testing.assert_allclose(found, expected[expected <= 5.0], atol=1e-9)


def test_asymmetric_agrees_with_full():
    crystal = refine(*RUTILE)
    for cap in (12, None):
        full = build_graph(crystal, max_neighbors=cap, cells="full")
        asymmetric = build_graph(crystal, max_neighbors=cap, cells="asymmetric")
        assert asymmetric.numbers.tolist() == [22, 8]
        assert asymmetric.multiplicity.tolist() == [2, 4]
        center = np.repeat([0, 1], np.diff(asymmetric.edge_ptr))
        assert asymmetric.multiplicity[center] @ asymmetric.edge_multiplicity == len(full.distance)
        assert full.edge_multiplicity is None
        nodes = list(zip(rows(asymmetric, asymmetric.distance), rows(asymmetric, asymmetric.neighbor), strict=True))
        # Every atom of an orbit, not only the one its edges were taken from, sees what the orbit's node sees.
        for atom, (distances, neighbors) in enumerate(
            zip(rows(full, full.distance), rows(full, full.neighbor), strict=True)
        ):
            node_distances, node_neighbors = nodes[crystal.orbit[atom]]
            np.testing.assert_allclose(node_distances, distances, atol=1e-9)
            seen = sorted(zip(distances.round(6), crystal.orbit[neighbors], strict=True))
            assert sorted(zip(node_distances.round(6), node_neighbors, strict=True)) == seen


def test_full_cell_includes_its_asymmetric_unit():
    crystal = refine(*RUTILE)
    # Labels of orbits may have gaps and any order.
    crystal = replace(crystal, orbit=np.array([7, 3], np.int32)[crystal.orbit])
    graph = build_graph(crystal, max_neighbors=16, cells="full")
    alone = build_graph(crystal, max_neighbors=16, cells="asymmetric")
    for field in fields(Graph):
        np.testing.assert_array_equal(getattr(graph.asymmetric, field.name), getattr(alone, field.name), field.name)
    assert alone.asymmetric is alone.orbit is None
    np.testing.assert_array_equal(graph.asymmetric.numbers[graph.orbit], crystal.numbers)
    np.testing.assert_array_equal(np.bincount(graph.orbit), graph.asymmetric.multiplicity)


def test_asymmetric_unit_of_a_cell_without_symmetry_is_the_cell(random_crystal):
    graph = build_graph(random_crystal, cells="full")
    assert graph.orbit.tolist() == list(range(12))
    np.testing.assert_array_equal(graph.asymmetric.numbers, graph.numbers)
    np.testing.assert_array_equal(graph.asymmetric.edge_ptr, graph.edge_ptr)
    np.testing.assert_allclose(graph.asymmetric.distance, graph.distance, atol=1e-12)


def test_rotation_keeps_distances_and_turns_vectors(random_crystal):
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned = raw(random_crystal.lattice @ rotation, random_crystal.positions, random_crystal.numbers)
    graph, other = build_graph(random_crystal, cells="full"), build_graph(turned, cells="full")
    np.testing.assert_allclose(other.distance, graph.distance, atol=1e-9)
    np.testing.assert_array_equal(other.neighbor, graph.neighbor)
    np.testing.assert_allclose(other.vector, graph.vector @ rotation, atol=1e-9)


def test_cutoff_on_a_shell_keeps_the_shell():
    for seed in range(5):
        rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
        graph = build_graph(raw(5 * rotation, [[0.1, 0.7, 0.3]], [84]), cutoff=5.0, cells="full")
        assert len(graph.distance) == 6


@pytest.mark.parametrize("cells", ["asymmetric", "full"])
def test_atom_without_neighbors_stays(cells):
    graph = build_graph(raw(8 * CUBE, [[0, 0, 0], [0.5, 0.5, 0.1]], [2, 10]), cells=cells)
    assert graph.numbers.tolist() == [2, 10]
    assert graph.edge_ptr.tolist() == [0, 0, 0]
    assert graph.distance.shape == graph.neighbor.shape == (0,)
