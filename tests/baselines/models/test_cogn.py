from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from baselines.models.cogn import CoGN, CoGNConfig, GraphNetworkBlock, atom_features
from sen.batch import CrystalBatch
from sen.crystal import refine
from sen.graph import build_graph
from sen.testing import ModelContracts, collate, sample_crystals
from tests.contracts import OnRealCrystals


class TestCoGNContracts(ModelContracts):
    model = CoGN


class TestCoGNOnRealCrystals(OnRealCrystals):
    model = CoGN


@pytest.fixture
def graphs() -> CrystalBatch:
    """A batch of asymmetric units, in which edges and nodes have multiplicities."""
    return collate([build_graph(crystal, cells="asymmetric", **CoGN.graph) for crystal in sample_crystals()])


def test_size_is_that_of_the_reference() -> None:
    # Embedding of 119 elements, map of it and 18 numbers, map of 32 Gaussians; in each of five blocks a message network
    # from bond, centre and neighbour through five layers, and an update; the head.
    block = (3 * 128 + 1) * 128 + 4 * (128 + 1) * 128 + (128 + 1) * 128
    expected = 119 * 128 + (128 + 18 + 1) * 128 + (32 + 1) * 128 + 5 * block + 128 + 1
    assert expected == 697_601
    assert sum(parameter.numel() for parameter in CoGN(CoGNConfig()).parameters()) == expected


def test_block_is_the_sum_of_messages_over_all_neighbours(graphs: CrystalBatch) -> None:
    torch.manual_seed(0)
    block, bond = GraphNetworkBlock(6, message_layers=3).double(), nn.Linear(4, 6).double()
    atoms, expanded = torch.randn(len(graphs.numbers), 6).double(), torch.randn(len(graphs.center), 4).double()
    expected = []
    for node, own in enumerate(atoms):
        total = torch.zeros(6).double()
        for edge in torch.nonzero(graphs.center == node).flatten():
            message = F.silu(block.joined(torch.cat([bond(expanded[edge]), own, atoms[graphs.neighbor[edge]]])))
            for layer in block.message:
                message = F.silu(layer(message))
            total += graphs.edge_multiplicity[edge] * message
        expected.append(own + F.silu(block.update(total)))
    torch.testing.assert_close(block(atoms, expanded, bond, graphs), torch.stack(expected), rtol=1e-9, atol=1e-9)


def test_gaussians_are_those_of_the_reference() -> None:
    found = CoGN(CoGNConfig()).expansion(torch.tensor([1.1]))[0, 1:]
    expected = [np.exp(-((1.1 - 0.25 * n) ** 2) / (2 * 0.25)) for n in range(1, 33)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


def test_graph_has_the_24_nearest_neighbours_and_all_as_near_as_the_last() -> None:
    # Simple cubic: 6, 12 and 8 neighbours in the first three shells; the last is beyond 10 Å.
    crystal = refine(6.0 * np.eye(3), [[0, 0, 0]], [2])
    graph = build_graph(crystal, cells="asymmetric", **CoGN.graph)
    assert graph.edge_multiplicity is not None
    assert graph.edge_multiplicity.tolist() == [6, 12, 8]
    np.testing.assert_allclose(graph.distance, 6 * np.sqrt([1, 2, 3]))


def test_atoms_are_described_by_properties_and_oxidation_states() -> None:
    features = atom_features()
    mass, radius, electronegativity, ionisation = features[:, :4].T
    states = {number: [state for state in range(-5, 9) if features[number, 9 + state]] for number in (1, 2, 8, 26)}
    assert features.shape == (119, 18)
    assert np.isfinite(features).all()
    assert not features[0].any()
    assert (np.argmax(mass), np.argmax(radius), np.argmax(electronegativity), np.argmax(ionisation)) == (103, 87, 9, 2)
    assert states == {1: [-1, 1], 2: [], 8: [-2], 26: [2, 3]}


def test_prediction_is_linear_in_the_mean_over_the_atoms_of_the_cell() -> None:
    contracts = TestCoGNContracts()
    crystals = sample_crystals()[:1]  # rutile: two titanium and four oxygen atoms in one orbit each
    output = contracts.output(crystals)
    assert output.atoms is not None
    assert output.material is not None
    titanium, oxygen = output.atoms
    torch.testing.assert_close(output.material[0], (2 * titanium + 4 * oxygen) / 6)
    torch.testing.assert_close(output.prediction, contracts.build().head(output.material)[:, 0])
