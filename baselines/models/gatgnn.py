"""GATGNN: attention over the neighbours of each atom, and over the atoms of each crystal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.models.layers import BatchNorm, element_categories
from sen.batch import CrystalBatch
from sen.config import Config, Space
from sen.features import GaussianExpansion
from sen.models import CrystalModel, ModelOutput
from sen.ops import attend, segment_softmax

__all__ = ["GATGNN", "GATGNNConfig"]

# Elements with a column of the composition; the few beyond share the last one.
_N_COLUMNS = 103


class GATGNNConfig(Config):
    """Sizes of GATGNN; the defaults are those of its train.py."""

    width: int = Field(64, ge=1, description="Width of atoms and bonds.")
    layers: int = Field(3, ge=1, description="Layers of attention over neighbours.")
    heads: int = Field(4, ge=1, description="Attention heads, each over the whole width.")
    attention_width: int = Field(32, ge=1, description="Hidden width of the attention over the atoms of a crystal.")
    gaussians: int = Field(41, ge=2, description="Gaussians that expand a distance, with evenly spaced centres.")
    gaussian_range: float = Field(8.0, gt=0, description="Centre of the last Gaussian in Å; the first is at 0.")


class AttentionLayer(nn.Module):
    """Augmented graph attention over the neighbours of an atom (Eq. 5 to 7 of the paper), averaged over the heads.

    Centre and neighbour, each joined with the bond, are mapped by the same matrix. The map of atoms is taken before
    they are gathered.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.joined = nn.Linear(2 * width, heads * width, bias=False)
        self.attention = nn.Parameter(torch.empty(heads, 2 * width))
        self.norm = BatchNorm(heads)
        self.bias = nn.Parameter(torch.zeros(width))
        nn.init.xavier_uniform_(self.joined.weight)
        nn.init.xavier_uniform_(self.attention)

    def forward(self, atoms: Tensor, bonds: Tensor, batch: CrystalBatch, edge_weight: Tensor) -> Tensor:
        """Return the attended neighbours of each atom [N, width]; the bias where it has none.

        Args:
            atoms: Features of the nodes, [N, width].
            bonds: Features of the edges, [K, width].
            batch: The graphs.
            edge_weight: Directed edges of the full cell that each edge stands for, [K].
        """
        width = atoms.shape[1]
        of_atom, of_bond = self.joined.weight.split(width, dim=1)
        mapped, bond = F.linear(atoms, of_atom), F.linear(bonds, of_bond)
        center = F.softplus(mapped.index_select(0, batch.center) + bond).unflatten(1, (self.heads, width))
        neighbor = F.softplus(mapped.index_select(0, batch.neighbor) + bond)
        by_center, by_neighbor = self.attention.split(width, dim=1)
        scores = (center * by_center).sum(2) + (neighbor.unflatten(1, (self.heads, width)) * by_neighbor).sum(2)
        logits = F.softplus(self.norm(F.softplus(scores), edge_weight))
        weights = segment_softmax(logits, batch.center, len(atoms), batch.edge_multiplicity)
        attended = attend(weights, neighbor, batch.center, len(atoms))
        mean: Tensor = attended.unflatten(1, (self.heads, width)).mean(1)
        return mean + self.bias


class GlobalAttention(nn.Module):
    """Attention over the atoms of a crystal that reads each atom and the composition (GI-M1 of the paper).

    The reference's score has a bias, which a softmax cancels.
    """

    def __init__(self, width: int, attention_width: int) -> None:
        super().__init__()
        self.joined = nn.Linear(width + _N_COLUMNS, attention_width)
        self.score = nn.Linear(attention_width, 1, bias=False)

    def forward(self, atoms: Tensor, batch: CrystalBatch) -> Tensor:
        """Return the attended atoms [N, width] of each crystal, [B, width]."""
        of_atom, of_composition = self.joined.weight.split((atoms.shape[1], _N_COLUMNS), dim=1)
        column = batch.element_crystal * _N_COLUMNS + batch.elements.clamp(max=_N_COLUMNS) - 1
        composition = batch.fraction.new_zeros(batch.n_crystals * _N_COLUMNS).index_add(0, column, batch.fraction)
        crystals = F.linear(composition.view(-1, _N_COLUMNS), of_composition, self.joined.bias)
        hidden = F.softplus(F.linear(atoms, of_atom) + crystals.index_select(0, batch.crystal))
        weights = segment_softmax(self.score(hidden), batch.crystal, batch.n_crystals, batch.multiplicity)
        return attend(weights, atoms, batch.crystal, batch.n_crystals)


class GATGNN(CrystalModel):
    """Graph attention network with global attention (Louis et al. 2020), by composition as its train.py has it.

    Its batch norms count multiplicities, so it runs on asymmetric units. Whole shells of neighbours are kept, where the
    reference cuts after the twelfth. The reference pads atoms with fewer neighbours by distant bonds to the first atom
    of the cell, which would depend on the description of the crystal; here they have fewer. Where train.py multiplies
    the learning rate by 0.3 after three quarters of the epochs, here it falls to that linearly in the last quarter; its
    loss is smooth L1, here L1.
    """

    Config = GATGNNConfig
    source = "Louis et al., Phys. Chem. Chem. Phys. 22, 18141 (2020); github.com/superlouis/GATGNN"
    space: ClassVar[Space] = {"width": (32, 64, 128)}
    graph: ClassVar[Mapping[str, Any]] = {"cutoff": 8.0, "max_neighbors": 12}  # gatgnn/file_setter.py
    recipe: ClassVar[Mapping[str, Any]] = {  # train.py, which trains on 80 % of the rows and validates on 10 %
        "optimizer": "adamw",
        "epochs": 200,
        "batch_size": 256,
        "learning_rate": 5e-3,
        "schedule": "linear",
        "warmup": 0.0,
        "hold": 0.75,
        "final_learning_rate": 1.5e-3,
        "weight_decay": 0.1,
        "loss": "mae",
        "clip_norm": None,
        "ema_decay": 0.0,
        "validation": 1 / 9,
    }

    categories: Tensor

    def __init__(self, config: GATGNNConfig) -> None:
        super().__init__(config)
        width, step = config.width, config.gaussian_range / (config.gaussians - 1)
        categories = torch.tensor(element_categories())
        self.register_buffer("categories", categories)
        self.expansion = GaussianExpansion(config.gaussians, config.gaussian_range, step)
        self.embed_atoms = nn.Linear(categories.shape[1], width)
        self.embed_bonds = nn.Linear(config.gaussians, width)
        self.attentions = nn.ModuleList(AttentionLayer(width, config.heads) for _ in range(config.layers))
        self.norms = nn.ModuleList(BatchNorm(width) for _ in range(config.layers))
        self.pooling = GlobalAttention(width, config.attention_width)
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.Softplus(), nn.Linear(width, width), nn.Softplus(), nn.Linear(width, 1)
        )

    def undecayed(self) -> list[nn.Parameter]:
        """Return no parameter: the reference decays all."""
        return []

    def forward(self, batch: CrystalBatch) -> ModelOutput:
        """Predict from the attended atoms of each crystal."""
        atoms = self.embed_atoms(self.categories.index_select(0, batch.numbers))
        bonds = F.leaky_relu(self.embed_bonds(self.expansion(batch.distance)), 0.2)
        edge_weight = batch.edge_multiplicity * batch.multiplicity.index_select(0, batch.center)
        for attention, norm in zip(self.attentions, self.norms, strict=True):
            atoms = F.softplus(norm(attention(atoms, bonds, batch, edge_weight), batch.multiplicity))
        material = self.pooling(atoms, batch)
        return ModelOutput(prediction=self.head(material).squeeze(-1), atoms=atoms, material=material)
