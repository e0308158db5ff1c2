from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from baselines.models.layers import (
    BatchNorm,
    JoinedLinear,
    ShiftedSoftplus,
    element_categories,
    expand_as_kgcnn,
    initialise_as_keras,
    perceptron,
)
from sen.crystal import SYMBOLS


def test_shifted_softplus_is_that_of_torch_geometric() -> None:
    from torch_geometric.nn.models.schnet import ShiftedSoftplus as Reference

    x = torch.linspace(-40, 40, 101, dtype=torch.float64)
    torch.testing.assert_close(ShiftedSoftplus()(x), Reference()(x), rtol=0, atol=1e-8)  # its log 2 is single
    assert ShiftedSoftplus()(torch.zeros(1)).item() == 0


def test_mapped_parts_add_up_to_the_map_of_the_joined() -> None:
    linear = JoinedLinear(3, 5, 2, out=4).double()
    parts = [torch.randn(6, width, dtype=torch.float64) for width in (3, 5, 2)]
    torch.testing.assert_close(sum(linear.map_parts(*parts)), linear(torch.cat(parts, dim=1)))


def test_norm_of_counted_rows_is_batch_norm_of_repeated_ones() -> None:
    counted, plain = BatchNorm(3).double(), nn.BatchNorm1d(3).double()
    nn.init.normal_(counted.weight)
    plain.load_state_dict(counted.state_dict())
    counts = torch.tensor([1, 4, 2, 1])
    for _ in range(2):
        rows = torch.randn(4, 3, dtype=torch.float64)
        expected = plain(rows.repeat_interleave(counts, 0))
        torch.testing.assert_close(counted(rows, counts.double()).repeat_interleave(counts, 0), expected)
        plain(rows)
        counted(rows)
    torch.testing.assert_close(counted.running_var, plain.running_var)
    counted.eval()
    plain.eval()
    torch.testing.assert_close(counted(rows, counts.double()), plain(rows))


def test_norm_of_a_single_row_or_none_takes_the_running_statistics() -> None:
    norm = BatchNorm(3)
    for n in (0, 1):
        rows = torch.randn(n, 3)
        trained = norm(rows, torch.ones(n))
        torch.testing.assert_close(trained, rows / (1 + norm.eps) ** 0.5)
    assert not norm.running_mean.any()


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


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        # The authors' atom_init.json: group, period, electronegativity, radius, valence electrons, ionisation energy,
        # electron affinity, block, volume.
        ("Li", [1, 20, 27, 40, 46, 59, 73, 78, 85]),
        ("Fe", [8, 22, 29, 40, 53, 61, 72, 80, 83]),
        ("C", [14, 20, 31, 38, 49, 63, 74, 79, 82]),
        ("Cs", [1, 24, 26, 45, 46, 58, 73, 78, 91]),
        ("Au", [11, 24, 31, 40, 56, 62, 75, 80, 84]),
    ],
)
def test_categories_of_an_element_are_those_of_its_reference(symbol: str, expected: list[int]) -> None:
    assert np.flatnonzero(element_categories()[SYMBOLS.index(symbol) + 1]).tolist() == expected


def test_every_element_has_categories_and_what_is_unknown_is_in_no_bin() -> None:
    categories = element_categories()
    assert categories.shape == (119, 92)
    assert not categories[0].any()
    helium = categories[2]
    assert not helium[26:36].any(), "helium has no electronegativity"
    # Group, period, valence electrons and block are known of every element.
    for first, last in ((0, 19), (19, 26), (46, 58), (78, 82)):
        assert (categories[1:, first:last].sum(axis=1) == 1).all()
