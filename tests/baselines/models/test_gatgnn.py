from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from baselines.models.gatgnn import GATGNN, AttentionLayer, GATGNNConfig, GlobalAttention
from sen.batch import CrystalBatch
from sen.graph import Cells, build_graph
from sen.testing import ModelContracts, collate, sample_crystals
from tests.contracts import OnRealCrystals


class TestGATGNNContracts(ModelContracts):
    model = GATGNN


class TestGATGNNOnRealCrystals(OnRealCrystals):
    model = GATGNN


def batch(cells: Cells) -> CrystalBatch:
    return collate([build_graph(crystal, cells=cells, **GATGNN.graph) for crystal in sample_crystals()])


def test_size_is_that_of_what_the_reference_uses() -> None:
    # Maps of 92 categories and 41 Gaussians; in each of three layers the matrix of four heads, their attention and
    # bias, and two batch norms; attention over atoms and 103 fractions; the head. The reference reports 134,154
    # parameters: of these 11,280 serve other kinds of global attention, and one is a bias that the softmax cancels.
    layer = 128 * 256 + 4 * 128 + 64 + 2 * 4 + 2 * 64
    expected = 93 * 64 + 42 * 64 + 3 * layer + (64 + 103 + 1) * 32 + 32 + 2 * 65 * 64 + 65
    assert expected == 134_154 - 11_280 - 1
    assert sum(parameter.numel() for parameter in GATGNN(GATGNNConfig()).parameters()) == expected


def test_attention_layer_attends_to_each_neighbour_of_an_atom() -> None:
    graphs, heads, width = batch("full"), 2, 3
    torch.manual_seed(0)
    layer = AttentionLayer(width, heads).double().eval()
    nn.init.normal_(layer.bias)
    layer.norm.running_mean.normal_()
    atoms, bonds = torch.randn(len(graphs.numbers), width).double(), torch.randn(len(graphs.center), width).double()
    expected = []
    for node in range(len(atoms)):
        edges = torch.nonzero(graphs.center == node).flatten().tolist()
        values, scores = [], []
        for edge in edges:
            joined = torch.stack([atoms[node], atoms[graphs.neighbor[edge]]])
            joined = torch.cat([joined, bonds[edge].expand(2, -1)], dim=1)
            center, neighbor = F.softplus(layer.joined(joined)).view(2, heads, width)
            scores.append(F.softplus((torch.cat([center, neighbor], dim=1) * layer.attention).sum(1)))
            values.append(neighbor)
        total = torch.zeros(width).double()
        if edges:
            normed = nn.BatchNorm1d.forward(layer.norm, torch.stack(scores))
            weights = F.softplus(normed).softmax(dim=0)
            total = (weights.unsqueeze(2) * torch.stack(values)).sum(0).mean(0)
        expected.append(total + layer.bias)
    found = layer(atoms, bonds, graphs, graphs.edge_multiplicity)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-9, atol=1e-9)


def test_global_attention_reads_atoms_and_the_fractions_of_elements() -> None:
    graphs = batch("full")
    torch.manual_seed(0)
    pooling = GlobalAttention(4, 5).double()
    atoms = torch.randn(len(graphs.numbers), 4).double()
    expected = []
    for crystal in range(graphs.n_crystals):
        own = graphs.crystal == crystal
        composition = torch.bincount(graphs.numbers[own] - 1, minlength=103) / own.sum()
        joined = torch.cat([atoms[own], composition.double().expand(int(own.sum()), -1)], dim=1)
        weights = pooling.score(F.softplus(pooling.joined(joined))).softmax(dim=0)
        expected.append((weights * atoms[own]).sum(0))
    torch.testing.assert_close(pooling(atoms, graphs), torch.stack(expected), rtol=1e-6, atol=1e-6)


def test_training_on_asymmetric_units_is_training_on_full_cells() -> None:
    predictions, gradients = [], []
    for cells in ("asymmetric", "full"):
        torch.manual_seed(0)
        model = GATGNN(GATGNNConfig()).double()
        prediction = model(batch(cells)).prediction
        prediction.square().sum().backward()
        predictions.append(prediction)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*predictions, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_a_batch_without_edges_can_be_trained_on() -> None:
    helium = [build_graph(sample_crystals()[5], cells="asymmetric", **GATGNN.graph)]
    assert helium[0].n_edges.tolist() == [0]
    model = GATGNN(GATGNNConfig()).double()
    model(collate(helium)).prediction.sum().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(tensor.isfinite().all() for tensor in (*gradients, *model.buffers()))
