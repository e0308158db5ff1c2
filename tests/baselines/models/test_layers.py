from __future__ import annotations

import torch
from torch import nn

from baselines.models.layers import JoinedLinear, ShiftedSoftplus, expand_as_kgcnn, initialise_as_keras, perceptron


def test_shifted_softplus_is_that_of_torch_geometric() -> None:
    from torch_geometric.nn.models.schnet import ShiftedSoftplus as Reference

    x = torch.linspace(-40, 40, 101, dtype=torch.float64)
    torch.testing.assert_close(ShiftedSoftplus()(x), Reference()(x), rtol=0, atol=1e-8)  # its log 2 is single
    assert ShiftedSoftplus()(torch.zeros(1)).item() == 0


def test_mapped_parts_add_up_to_the_map_of_the_joined() -> None:
    linear = JoinedLinear(3, 5, 2, out=4).double()
    parts = [torch.randn(6, width, dtype=torch.float64) for width in (3, 5, 2)]
    torch.testing.assert_close(sum(linear.map_parts(*parts)), linear(torch.cat(parts, dim=1)))


def test_perceptron_activates_its_last_layer_where_asked() -> None:
    kinds = [type(layer) for layer in perceptron(2, 3, 1)]
    assert kinds == [nn.Linear, ShiftedSoftplus, nn.Linear]
    assert [type(layer) for layer in perceptron(2, 3, 1, is_last_activated=True)] == [*kinds, ShiftedSoftplus]


def test_bond_lengths_are_expanded_as_by_kgcnn() -> None:
    # GaussBasisLayer: centres i / bins * distance, exponents -(d - c)^2 / (2 sigma^2).
    distance = torch.tensor([0.7, 2.31, 4.99])
    expected = torch.exp(-((distance[:, None] - torch.arange(25) / 25 * 5) ** 2) / (2 * 0.4**2))
    torch.testing.assert_close(expand_as_kgcnn(25, 5.0, 0.4)(distance), expected, rtol=0, atol=1e-5)


def test_weights_are_drawn_as_keras_draws_them() -> None:
    module = nn.ModuleList([nn.Linear(30, 60), nn.Linear(30, 60, bias=False), nn.Embedding(20, 30)])
    initialise_as_keras(module)
    *linear, embedding = (layer.weight.detach().abs().max().item() for layer in module)
    bound = (6 / 90) ** 0.5
    assert all(0.95 * bound < largest <= bound for largest in linear)
    assert 0.045 < embedding <= 0.05
    assert not module[0].bias.any()
