from __future__ import annotations

import torch
from torch import Tensor

from baselines.models.megnet import EdgeCounts, MEGNet, MEGNetBlock, MEGNetConfig
from sen.batch import CrystalBatch
from sen.elements import N_ELEMENTS
from sen.testing import ModelContracts
from tests.contracts import OnRealCrystals


class TestMEGNetContracts(ModelContracts):
    model = MEGNet


class TestMEGNetOnRealCrystals(OnRealCrystals):
    model = MEGNet


def test_parameters_are_those_of_the_reference_without_the_idle_ones() -> None:
    # kgcnn 4.0.2 counts 144,641 (`model.count_params()`). Idle among them are the weights of the charge (64) and, of
    # each LSTM from 32 to 16, the recurrent weights of four gates and all other weights of the forget gate. It has
    # embeddings of the numbers 0 to 94.
    idle = 64 + 2 * (4 * 16 * 16 + 32 * 16 + 16)
    further_elements = (N_ELEMENTS - 94) * 64
    assert sum(p.numel() for p in MEGNet(MEGNetConfig()).parameters()) == 144_641 - idle + further_elements


def block_by_hand(
    block: MEGNetBlock, atoms: Tensor, bonds: Tensor, state: Tensor, batch: CrystalBatch
) -> tuple[Tensor, Tensor, Tensor]:
    """The update of a full cell, edge by edge and atom by atom."""
    v = [block.dense_atoms(atom) for atom in atoms]
    e = [block.dense_bonds(bond) for bond in bonds]
    u = [block.dense_state(vector) for vector in state]
    new_e, new_v, new_u = [], [], []
    for k, (i, j) in enumerate(zip(batch.center.tolist(), batch.neighbor.tolist(), strict=True)):
        new_e.append(block.bond_update(block.bond_inputs(torch.cat([v[i], v[j], e[k], u[batch.crystal[i]]]))))
    for i, crystal in enumerate(batch.crystal.tolist()):
        own = [new_e[k] for k in range(len(new_e)) if batch.center[k] == i]
        mean = torch.stack(own).mean(0) if own else torch.zeros_like(v[i])
        new_v.append(block.atom_update(block.atom_inputs(torch.cat([mean, v[i], u[crystal]]))))
    for crystal in range(batch.n_crystals):
        own_v = [new_v[i] for i in range(len(v)) if batch.crystal[i] == crystal]
        own_e = [new_e[k] for k in range(len(e)) if batch.crystal[batch.center[k]] == crystal]
        mean_v = torch.stack(own_v).mean(0)
        mean_e = torch.stack(own_e).mean(0) if own_e else torch.zeros_like(mean_v)
        new_u.append(block.state_update(block.state_inputs(torch.cat([mean_e, mean_v, u[crystal]]))))
    return atoms + torch.stack(new_v), bonds + torch.stack(new_e), state + torch.stack(new_u)


def test_block_computes_what_a_loop_over_edges_and_atoms_computes() -> None:
    contracts = TestMEGNetContracts()
    crystals = [crystal for crystal in contracts.crystals() if len(crystal) < 4]
    batch = contracts.batch(crystals, "full")
    block = MEGNetBlock(MEGNetConfig(width=5, hidden=7), is_first=False).double()
    features = [torch.randn(n, 5, dtype=torch.float64) for n in (len(batch.numbers), len(batch.center), len(crystals))]
    with torch.no_grad():
        found = block(*features, batch, EdgeCounts.of(batch))
        expected = block_by_hand(block, *features, batch)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_weights_begin_as_those_of_keras() -> None:
    model = MEGNet(MEGNetConfig())
    assert 0.045 < float(model.embedding.weight.detach().abs().max()) <= 0.05
    # Glorot's bound for all four inputs of a bond together, and for an LSTM from 32 to 4 x 16.
    for weight, bound in (
        (model.blocks[0].bond_inputs.weight, (6 / (4 * 32 + 64)) ** 0.5),
        (model.read_atoms.gates.weight, (6 / (32 + 64)) ** 0.5),
    ):
        assert 0.95 * bound < float(weight.detach().abs().max()) <= bound
    biases = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    assert not any(bool(bias.any()) for bias in biases)
