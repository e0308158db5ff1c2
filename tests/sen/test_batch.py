from __future__ import annotations

import numpy as np
import pytest
import torch

from sen.batch import CrystalBatch, Formulas, to_tensors
from sen.graph import Cells, Graph, build_graph, join_graphs
from sen.testing import collate, sample_crystals


def graphs_of(cells: Cells) -> list[Graph]:
    return [build_graph(crystal, cells=cells) for crystal in sample_crystals()]


def assert_holds(batch: CrystalBatch, graphs: list[Graph]) -> None:
    """Fail unless a batch has the nodes and edges of the graphs, in their order."""
    assert batch.n_crystals == len(graphs)
    node = edge = 0
    for i, graph in enumerate(graphs):
        n_nodes, n_edges = len(graph.numbers), len(graph.neighbor)
        nodes, edges = slice(node, node + n_nodes), slice(edge, edge + n_edges)
        assert batch.node_ptr[i : i + 2].tolist() == [node, node + n_nodes]
        assert (batch.edge_ptr[node : node + n_nodes + 1] - edge).tolist() == graph.edge_ptr.tolist()
        assert batch.crystal[nodes].tolist() == [i] * n_nodes
        assert batch.numbers[nodes].tolist() == graph.numbers.tolist()
        assert batch.multiplicity[nodes].tolist() == graph.multiplicity.tolist()
        center = np.repeat(np.arange(n_nodes), np.diff(graph.edge_ptr))
        assert (batch.center[edges] - node).tolist() == center.tolist()
        assert (batch.neighbor[edges] - node).tolist() == graph.neighbor.tolist()
        assert batch.distance[edges].tolist() == graph.distance.tolist()
        multiplicity = [1] * n_edges if graph.edge_multiplicity is None else graph.edge_multiplicity.tolist()
        assert batch.edge_multiplicity[edges].tolist() == multiplicity
        if graph.vector is None:
            assert batch.vector is None
        else:
            assert batch.vector is not None
            assert batch.vector[edges].tolist() == graph.vector.tolist()
        node, edge = node + n_nodes, edge + n_edges
    assert len(batch.numbers) == node
    assert len(batch.neighbor) == edge


@pytest.mark.parametrize("cells", ["asymmetric", "full"])
def test_batch_has_the_nodes_and_edges_of_its_graphs(cells: Cells) -> None:
    graphs = graphs_of(cells)
    batch = collate(graphs)
    assert_holds(batch, graphs)
    if cells == "asymmetric":
        assert batch.asymmetric is batch.orbit is None
        return
    assert batch.asymmetric is not None
    assert batch.orbit is not None
    asymmetric = [graph.asymmetric for graph in graphs if graph.asymmetric is not None]
    assert_holds(batch.asymmetric, asymmetric)
    first = np.cumsum([0, *(len(graph.numbers) for graph in asymmetric)])
    expected = [graph.orbit + start for graph, start in zip(graphs, first, strict=False) if graph.orbit is not None]
    assert batch.orbit.tolist() == np.concatenate(expected).tolist()


@pytest.mark.parametrize("cells", ["asymmetric", "full"])
def test_formulas_count_the_atoms_of_each_crystal(cells: Cells) -> None:
    crystals = sample_crystals()
    batch = collate(graphs_of(cells))
    pairs = 0
    for i, crystal in enumerate(crystals):
        entries = batch.element_crystal == i
        elements, counts = np.unique(crystal.numbers, return_counts=True)
        assert batch.elements[entries].tolist() == elements.tolist()
        assert batch.fraction[entries].tolist() == pytest.approx((counts / len(crystal)).tolist())
        of_pairs = batch.element_crystal[batch.element_pairs] == i
        assert torch.equal(of_pairs[0], of_pairs[1])
        assert len(batch.element_pairs[:, of_pairs[0]].unique(dim=1).T) == len(elements) ** 2
        pairs += len(elements) ** 2
    assert batch.element_pairs.shape == (2, pairs)
    assert torch.equal(batch.elements[batch.element], batch.numbers)
    assert torch.equal(batch.element_crystal[batch.element], batch.crystal)


def test_mean_counts_every_atom_of_the_cell() -> None:
    batch = collate(graphs_of("asymmetric"))
    expected = [crystal.numbers.mean() for crystal in sample_crystals()]
    assert batch.mean(batch.numbers[:, None].double()).squeeze(1).tolist() == pytest.approx(expected)


def test_tensors_are_copies_in_the_precision_asked_for() -> None:
    graph = join_graphs(graphs_of("full"))
    graph.distance.flags.writeable = False
    tensors, formulas = to_tensors(graph, dtype=torch.float32)
    assert isinstance(formulas, Formulas)
    assert tensors.distance.dtype == formulas.fraction.dtype == torch.float32
    assert (tensors.numbers.dtype, tensors.neighbor.dtype) == (torch.uint8, torch.int32)
    tensors.distance.zero_()
    assert graph.distance.all()
