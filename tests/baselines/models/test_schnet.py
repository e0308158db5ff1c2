from __future__ import annotations

import math

import torch

from baselines.models.schnet import Interaction, SchNet, SchNetConfig
from sen.elements import N_ELEMENTS
from sen.testing import ModelContracts
from tests.contracts import OnRealCrystals


class TestSchNetContracts(ModelContracts):
    model = SchNet


class TestSchNetOnRealCrystals(OnRealCrystals):
    model = SchNet


def test_parameters_are_those_of_the_reference() -> None:
    # kgcnn 4.0.2 counts 316,225 (`model.count_params()`); it has embeddings of the numbers 0 to 94.
    further_elements = (N_ELEMENTS - 94) * 64
    assert sum(p.numel() for p in SchNet(SchNetConfig()).parameters()) == 316_225 + further_elements


def test_interaction_is_that_of_torch_geometric_without_cutoff() -> None:
    from torch_geometric.nn.models.schnet import InteractionBlock

    contracts = TestSchNetContracts()
    batch = contracts.batch(contracts.crystals(), "full")
    # No distance is damped where the cut-off is infinitely far away.
    reference, ours = InteractionBlock(6, 4, 6, cutoff=math.inf).double(), Interaction(6, 4).double()
    atoms = torch.randn(len(batch.numbers), 6, dtype=torch.float64)
    bonds = torch.rand(len(batch.distance), 4, dtype=torch.float64)
    pairs = [
        (ours.filter[0], reference.mlp[0]),
        (ours.filter[2], reference.mlp[2]),
        (ours.neighbor, reference.conv.lin1),
        (ours.update[0], reference.conv.lin2),
        (ours.update[2], reference.lin),
    ]
    for layer, given in pairs:
        layer.load_state_dict(given.state_dict())
    with torch.no_grad():
        edges = torch.stack([batch.neighbor, batch.center])
        expected = atoms + reference(atoms, edges, batch.distance, bonds)
        # Its log 2 is in single precision.
        torch.testing.assert_close(ours(atoms, bonds, batch), expected, rtol=1e-7, atol=1e-7)


def test_prediction_is_the_mean_of_the_heads_of_atoms() -> None:
    contracts = TestSchNetContracts()
    model = contracts.build()
    batch = contracts.batch(contracts.crystals(), "full")
    with torch.no_grad():
        output = model(batch)
        of_atoms = model.head(model.atoms_to_material(output.atoms)).squeeze(1)
        expected = [of_atoms[batch.crystal == crystal].mean() for crystal in range(batch.n_crystals)]
    torch.testing.assert_close(output.prediction, torch.stack(expected))
