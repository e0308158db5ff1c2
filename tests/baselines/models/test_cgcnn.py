from __future__ import annotations

import torch
from torch.nn import functional as F

from baselines.models.cgcnn import CGCNN, CGCNNConfig, Convolution
from sen.testing import ModelContracts
from tests.contracts import OnRealCrystals


class TestCGCNNContracts(ModelContracts):
    model = CGCNN


class TestCGCNNOnRealCrystals(OnRealCrystals):
    model = CGCNN


def test_parameters_are_those_of_the_reference() -> None:
    # CrystalGraphConvNet(orig_atom_fea_len=92, nbr_fea_len=41) of cgcnn/model.py; statistics of batches not counted.
    embedding = 92 * 64 + 64
    convolution = (2 * 64 + 41) * 128 + 128 + 2 * 128 + 2 * 64
    head = 64 * 128 + 128 + 128 + 1
    assert embedding + 3 * convolution + head == 80_833
    assert sum(p.numel() for p in CGCNN(CGCNNConfig()).parameters()) == 80_833


def test_convolution_without_norms_is_that_of_torch_geometric() -> None:
    from torch_geometric.nn import CGConv

    contracts = TestCGCNNContracts()
    batch = contracts.batch(contracts.crystals(), "full")
    reference, ours = CGConv(6, dim=4).double(), Convolution(6, 4).double().eval()
    for norm in (ours.message_norm, ours.sum_norm):
        norm.running_var.fill_(1 - norm.eps)
    atoms = torch.randn(len(batch.numbers), 6, dtype=torch.float64)
    bonds = torch.rand(len(batch.distance), 4, dtype=torch.float64)
    with torch.no_grad():
        for name in ("weight", "bias"):
            gate, core = (getattr(layer, name) for layer in (reference.lin_f, reference.lin_s))
            getattr(ours.messages, name).copy_(torch.cat([gate, core]))
        # The authors' code has a softplus around what torch-geometric's layer returns.
        expected = F.softplus(reference(atoms, torch.stack([batch.neighbor, batch.center]), bonds))
        torch.testing.assert_close(ours(atoms, bonds, batch), expected, rtol=1e-9, atol=1e-9)


def test_convolution_normalises_messages_and_their_sums_as_the_reference() -> None:
    # ConvLayer of cgcnn/model.py on copper, whose atom has twelve neighbours that are all itself.
    contracts = TestCGCNNContracts()
    batch = contracts.batch([contracts.crystals()[3]], "full")
    layer = Convolution(5, 3).double().eval()
    for norm in (layer.message_norm, layer.sum_norm):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    atom, bond = torch.randn(1, 5, dtype=torch.float64), torch.rand(1, 3, dtype=torch.float64)
    with torch.no_grad():
        found = layer(atom, bond.expand(len(batch.distance), -1), batch)
        gated = layer.messages(torch.cat([atom, atom, bond], dim=1))
        norm = layer.message_norm
        gated = (gated - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
        total = len(batch.distance) * gated[:, :5].sigmoid() * F.softplus(gated[:, 5:])
        norm = layer.sum_norm
        expected = F.softplus(atom + (total - norm.running_mean) / (norm.running_var + 1e-5).sqrt())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_asymmetric_units_and_full_cells_agree_in_training_too() -> None:
    contracts = TestCGCNNContracts()
    answers = []
    for cells in ("asymmetric", "full"):
        model = contracts.build().train()
        answers.append((model(contracts.batch(contracts.crystals(), cells)).prediction, model.state_dict()))
    (asymmetric, one), (full, other) = answers
    torch.testing.assert_close(asymmetric, full, rtol=1e-9, atol=1e-9)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-9, atol=1e-9)
