"""The `megnet` model: atoms, bonds and a state of the crystal that update one another, read by Set2Set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.models.layers import JoinedLinear, ShiftedSoftplus, expand_as_kgcnn, initialise_as_keras, perceptron
from sen.batch import CrystalBatch
from sen.config import Config, Space
from sen.elements import N_ELEMENTS
from sen.models import CrystalModel, ModelOutput
from sen.ops import Set2Set, segment_sum

__all__ = ["MEGNet", "MEGNetConfig"]


class MEGNetConfig(Config):
    """Defaults are those of the MatBench leaderboard's MEGNet (matbench_v0.1_MegNet_kgcnn_v2.1.0/run.py)."""

    embedding: int = Field(64, ge=1, description="Width of the embedding of an element.")
    gaussians: int = Field(25, ge=2, description="Gaussians that expand a bond length, with evenly spaced centres.")
    gaussian_range: float = Field(5.0, gt=0, description="Bond length in Å at which the next Gaussian would follow.")
    gaussian_width: float = Field(0.4, gt=0, description="Standard deviation of the Gaussians in Å.")
    hidden: int = Field(64, ge=1, description="Width of the first layer of every perceptron.")
    width: int = Field(32, ge=1, description="Width of atoms, bonds and state, and of the other layers of updates.")
    blocks: int = Field(3, ge=1, description="Rounds of update.")
    set2set_width: int = Field(16, ge=1, description="Width of the atoms and bonds that Set2Set reads.")
    set2set_rounds: int = Field(3, ge=1, description="Times that Set2Set reads them.")


@dataclass(frozen=True)
class EdgeCounts:
    """How many directed edges of the full cells an edge, and the edges of a node, stand for.

    Attributes:
        multiplicity: Of each edge, counting the atoms that its centre stands for, [K].
        degree: Neighbours of each node, [N]; 1 where there are none, to divide by.
        total: Edges of each crystal, [B]; 1 where there are none.
        crystal: Crystal of each edge, int64 [K].
    """

    multiplicity: Tensor
    degree: Tensor
    total: Tensor
    crystal: Tensor

    @classmethod
    def of(cls, batch: CrystalBatch) -> EdgeCounts:
        """Count the edges of a batch."""
        degree = segment_sum(batch.edge_multiplicity, batch.center, len(batch.numbers))
        total = segment_sum(batch.multiplicity * degree, batch.crystal, batch.n_crystals)
        return cls(
            multiplicity=batch.edge_multiplicity * batch.multiplicity.index_select(0, batch.center),
            degree=degree.clamp(min=1),
            total=total.clamp(min=1),
            crystal=batch.crystal.index_select(0, batch.center),
        )


class MEGNetBlock(nn.Module):
    """One round: bonds from their atoms and the state, atoms from their bonds, the state from all of them (Eq. 1-6).

    Each update is added to what it updates. Before, a perceptron of its own reads each of the three, except in the
    first round.
    """

    def __init__(self, config: MEGNetConfig, is_first: bool) -> None:
        super().__init__()
        width, hidden = config.width, config.hidden

        def dense() -> nn.Module:
            return nn.Identity() if is_first else perceptron(width, hidden, width, is_last_activated=True)

        def update() -> nn.Sequential:
            return nn.Sequential(ShiftedSoftplus(), perceptron(hidden, width, width))

        self.dense_atoms, self.dense_bonds, self.dense_state = dense(), dense(), dense()
        self.bond_inputs = JoinedLinear(width, width, width, width, out=hidden)
        self.bond_update = update()
        self.atom_inputs = JoinedLinear(width, width, width, out=hidden)
        self.atom_update = update()
        self.state_inputs = nn.Linear(3 * width, hidden)
        self.state_update = update()

    def forward(
        self, atoms: Tensor, bonds: Tensor, state: Tensor, batch: CrystalBatch, counts: EdgeCounts
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Update atoms [N, width], bonds [K, width] and state [B, width], and return them."""
        from_atoms, from_bonds, from_state = self.dense_atoms(atoms), self.dense_bonds(bonds), self.dense_state(state)

        center, neighbor, bond, crystal = self.bond_inputs.map_parts(from_atoms, from_atoms, from_bonds, from_state)
        center = center + crystal.index_select(0, batch.crystal)
        new_bonds = self.bond_update(
            center.index_select(0, batch.center) + neighbor.index_select(0, batch.neighbor) + bond
        )
        bond_sums = segment_sum(batch.edge_multiplicity.unsqueeze(1) * new_bonds, batch.center, len(atoms))

        bond, atom, crystal = self.atom_inputs.map_parts(bond_sums / counts.degree.unsqueeze(1), from_atoms, from_state)
        new_atoms = self.atom_update(bond + atom + crystal.index_select(0, batch.crystal))

        all_bonds = segment_sum(batch.multiplicity.unsqueeze(1) * bond_sums, batch.crystal, len(state))
        inputs = torch.cat([all_bonds / counts.total.unsqueeze(1), batch.mean(new_atoms), from_state], dim=1)
        new_state = self.state_update(self.state_inputs(inputs))
        return atoms + new_atoms, bonds + new_bonds, state + new_state


class MEGNet(CrystalModel):
    """MEGNet as on the MatBench leaderboard, which differs from its authors' in sizes and in Set2Set.

    It computes what kgcnn 2.1.0 computes, with the weights that matter there: recurrent weights and forget gates of
    Set2Set are left out, and so are the weights of a crystal's charge, which is 0 on all of MatBench; the state of a
    crystal begins as a learned vector. Elements beyond plutonium have embeddings, too.
    """

    Config = MEGNetConfig
    source = "Chen et al., Chem. Mater. 31, 3564 (2019); github.com/aimat-lab/gcnn_keras 2.1.0"
    space: ClassVar[Space] = {"width": (16, 32, 64)}
    # matbench_v0.1_MegNet_kgcnn_v2.1.0/run.py of github.com/materialsproject/matbench, as is the recipe.
    graph: ClassVar[Mapping[str, Any]] = {"cutoff": 5.0, "max_neighbors": None}
    recipe: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adam",
        "epochs": 1000,
        "batch_size": 32,
        "learning_rate": 5e-4,
        "schedule": "linear",
        "warmup": 0.0,
        "hold": 0.1,
        "final_learning_rate": 5e-6,
        "weight_decay": 0.0,
        "loss": "mae",
        "clip_norm": None,
        "ema_decay": 0.0,
        "validation": 0.0,
    }

    def __init__(self, config: MEGNetConfig) -> None:
        super().__init__(config)
        width, hidden, read = config.width, config.hidden, config.set2set_width
        self.embedding = nn.Embedding(N_ELEMENTS + 1, config.embedding)
        self.expansion = expand_as_kgcnn(config.gaussians, config.gaussian_range, config.gaussian_width)
        self.atoms = perceptron(config.embedding, hidden, width, is_last_activated=True)
        self.bonds = perceptron(config.gaussians, hidden, width, is_last_activated=True)
        # Not zero as in the reference, where the first step of training could not change the weights that read it.
        self.initial_state = nn.Parameter(torch.empty(hidden).uniform_(-0.05, 0.05))
        self.state = nn.Sequential(ShiftedSoftplus(), perceptron(hidden, width, is_last_activated=True))
        self.blocks = nn.ModuleList(MEGNetBlock(config, is_first=i == 0) for i in range(config.blocks))
        self.atoms_to_read, self.bonds_to_read = nn.Linear(width, read), nn.Linear(width, read)
        self.read_atoms = Set2Set(read, config.set2set_rounds)
        self.read_bonds = Set2Set(read, config.set2set_rounds)
        self.head = perceptron(4 * read + width, width, width // 2, 1)
        initialise_as_keras(self)
        # Keras counts the forget gate among the outputs of the LSTM of Set2Set.
        bound = (6 / (2 * read + 4 * read)) ** 0.5
        for reader in (self.read_atoms, self.read_bonds):
            nn.init.uniform_(reader.gates.weight, -bound, bound)

    def forward(self, batch: CrystalBatch) -> ModelOutput:
        """Predict the crystals of a batch; `material` is the state and what Set2Set reads."""
        counts = EdgeCounts.of(batch)
        atoms = self.atoms(self.embedding(batch.numbers))
        bonds = self.bonds(self.expansion(batch.distance))
        state = self.state(self.initial_state).expand(batch.n_crystals, -1)
        for block in self.blocks:
            atoms, bonds, state = block(atoms, bonds, state, batch, counts)
        n = batch.n_crystals
        material = torch.cat(
            [
                self.read_atoms(self.atoms_to_read(atoms), batch.crystal, n, batch.multiplicity),
                self.read_bonds(self.bonds_to_read(bonds), counts.crystal, n, counts.multiplicity),
                state,
            ],
            dim=1,
        )
        return ModelOutput(prediction=self.head(material).squeeze(1), atoms=atoms, material=material)
