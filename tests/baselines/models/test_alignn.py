from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from baselines.models.alignn import ALIGNN, ALIGNNConfig, EdgeGatedConvolution, bond_pairs
from sen.batch import CrystalBatch
from sen.graph import build_graph, join_graphs
from sen.testing import ModelContracts, collate, sample_crystals


class TestALIGNNContracts(ModelContracts):
    model = ALIGNN


GRAPHS = [build_graph(crystal, cells="full", **ALIGNN.graph) for crystal in sample_crystals()]


def pairs_by_loop(batch: CrystalBatch) -> list[tuple[int, int, float]]:
    """Bond (j, k), bond (i, j) and the cosine of the angle at j, by looking at every pair of bonds."""
    assert batch.vector is not None
    return [
        (second, first, float(F.cosine_similarity(-batch.vector[first], batch.vector[second], dim=0)))
        for first, j in enumerate(batch.neighbor.tolist())
        for second, center in enumerate(batch.center.tolist())
        if center == j
    ]


def test_parameters_are_those_of_the_reference_without_the_idle_ones() -> None:
    # alignn/models/alignn.py of usnistgov/alignn with its defaults. Idle are the weights of the norms of links in the
    # last ALIGNN layer and in the last GCN layer, whose results it drops.
    def embedding(width: int, out: int) -> int:
        return width * out + out + 2 * out

    convolution = 5 * (256 * 256 + 256) + 2 * 2 * 256
    embeddings = embedding(92, 256) + embedding(80, 64) + embedding(40, 64) + 2 * embedding(64, 256)
    assert embeddings + (2 * 4 + 4) * convolution + 256 + 1 == 4_026_753
    assert sum(p.numel() for p in ALIGNN(ALIGNNConfig()).parameters()) == 4_026_753 - 2 * 2 * 256


def test_pairs_of_bonds_meet_in_an_atom() -> None:
    batch = collate(GRAPHS)
    source, target, cosine = bond_pairs(batch)
    expected_source, expected_target, expected_cosine = zip(*pairs_by_loop(batch), strict=True)
    assert source.tolist() == list(expected_source)
    assert target.tolist() == list(expected_target)
    torch.testing.assert_close(cosine, torch.tensor(expected_cosine, dtype=torch.float64), rtol=0, atol=1e-12)


def test_cost_counts_the_pairs_of_bonds_of_each_crystal() -> None:
    cost = ALIGNN.cost(join_graphs(GRAPHS))
    assert cost.tolist() == [len(bond_pairs(collate([graph]))[0]) for graph in GRAPHS]
    assert cost[5] == 0  # one atom without neighbours


def test_convolution_is_a_gated_mean_over_the_links_of_a_node() -> None:
    torch.manual_seed(0)
    source, target = torch.tensor([1, 2, 2, 0]), torch.tensor([0, 0, 1, 1])
    layer = EdgeGatedConvolution(4, updates_links=True).double().eval()
    assert layer.link_norm is not None
    for norm in (layer.node_norm, layer.link_norm):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    nodes, links = torch.randn(3, 4).double(), torch.randn(4, 4).double()
    gates = [
        layer.source_gate(nodes[s]) + layer.target_gate(nodes[t]) + layer.link_gate(link)
        for s, t, link in zip(source, target, links, strict=True)
    ]
    means = []
    for node in range(3):
        own = [(gates[i].sigmoid(), layer.source_update(nodes[source[i]])) for i in range(4) if target[i] == node]
        total = sum((weight for weight, _ in own), torch.zeros(4).double())
        means.append(sum((weight * value for weight, value in own), torch.zeros(4).double()) / (total + 1e-6))
    update = layer.target_update(nodes) + torch.stack(means)
    found = layer(nodes, links, source, target)
    for rows, norm, before, after in (
        (update, layer.node_norm, nodes, found[0]),
        (torch.stack(gates), layer.link_norm, links, found[1]),
    ):
        normed = nn.BatchNorm1d.forward(norm, rows)
        torch.testing.assert_close(after, before + F.silu(normed), rtol=1e-9, atol=1e-9)


def test_gaussians_are_those_of_the_reference() -> None:
    # RBFExpansion: exp(-(x - c)^2 / s), with the distance s between centres.
    model = ALIGNN(ALIGNNConfig())
    for embedding, centers, x in (
        (model.bonds, torch.linspace(0, 8, 80), torch.tensor([1.7, 2.31, 7.9])),
        (model.angles, torch.linspace(-1, 1, 40), torch.tensor([-1, 0.123, 1])),
    ):
        expected = torch.exp(-((x[:, None] - centers) ** 2) / centers.diff().mean())
        torch.testing.assert_close(embedding[0](x - centers[0]), expected, rtol=0, atol=1e-5)


def test_a_batch_without_bonds_can_be_trained_on() -> None:
    model = ALIGNN(ALIGNNConfig(width=8, embedding_width=4)).double()
    model(collate([GRAPHS[5]])).prediction.sum().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(tensor.isfinite().all() for tensor in (*gradients, *model.buffers()))
