"""The `cgcnn` model: atoms that add gated messages of their neighbours, batch-normalised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.models.layers import BatchNorm, JoinedLinear, element_categories
from sen.batch import CrystalBatch
from sen.config import Config, Space
from sen.features import GaussianExpansion
from sen.models import CrystalModel, ModelOutput
from sen.ops import segment_sum

__all__ = ["CGCNN", "CGCNNConfig"]


class CGCNNConfig(Config):
    """Defaults are those of its authors' main.py and cgcnn/data.py."""

    gaussians: int = Field(41, ge=2, description="Gaussians that expand a bond length, with evenly spaced centres.")
    gaussian_range: float = Field(8.0, gt=0, description="Centre of the last Gaussian in Å; the first is at 0.")
    gaussian_width: float = Field(0.2, gt=0, description="Width w of the Gaussians exp(-(d - c)^2 / w^2) in Å.")
    width: int = Field(64, ge=1, description="Width of atoms.")
    convolutions: int = Field(3, ge=1, description="Number of convolutions.")
    head_width: int = Field(128, ge=1, description="Hidden width of the head.")


class Convolution(nn.Module):
    """Atoms add the sum of gated messages from their neighbours (Eq. 5), with the norms of the authors' code."""

    def __init__(self, width: int, gaussians: int) -> None:
        super().__init__()
        self.messages = JoinedLinear(width, width, gaussians, out=2 * width)
        self.message_norm = BatchNorm(2 * width)
        self.sum_norm = BatchNorm(width)

    def forward(self, atoms: Tensor, bonds: Tensor, batch: CrystalBatch) -> Tensor:
        """Update atoms [N, width] by the expanded lengths of bonds [K, gaussians], and return them."""
        center, neighbor, bond = self.messages.map_parts(atoms, atoms, bonds)
        messages = center.index_select(0, batch.center) + neighbor.index_select(0, batch.neighbor) + bond
        counts = batch.edge_multiplicity * batch.multiplicity.index_select(0, batch.center)
        gate, core = self.message_norm(messages, counts).chunk(2, dim=1)
        gated = batch.edge_multiplicity.unsqueeze(1) * gate.sigmoid() * F.softplus(core)
        total = segment_sum(gated, batch.center, len(atoms))
        return F.softplus(atoms + self.sum_norm(total, batch.multiplicity))


class CGCNN(CrystalModel):
    """CGCNN as in its authors' code.

    It differs in the neighbours: whole shells until there are 12, instead of any 12 of those equally far away; and an
    atom with fewer has no made-up ones. The properties of elements come from other tables than the authors'. For a
    classification it has one logit, and no dropout.
    """

    Config = CGCNNConfig
    source = "Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018); github.com/txie-93/cgcnn"
    space: ClassVar[Space] = {"width": (32, 64, 128)}
    # cgcnn/data.py of the repository.
    graph: ClassVar[Mapping[str, Any]] = {"cutoff": 8.0, "max_neighbors": 12}
    # The defaults of main.py, with Adam, which it offers beside stochastic gradient descent. The learning rate is
    # constant: it would fall after 100 epochs, which the default number of epochs does not reach.
    recipe: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adam",
        "epochs": 30,
        "batch_size": 256,
        "learning_rate": 0.01,
        "schedule": "linear",
        "warmup": 0.0,
        "hold": 0.0,
        "final_learning_rate": 0.01,
        "weight_decay": 0.0,
        "loss": "mse",
        "clip_norm": None,
        "ema_decay": 0.0,
        "validation": 0.1,
    }

    elements: Tensor

    def __init__(self, config: CGCNNConfig) -> None:
        super().__init__(config)
        self.register_buffer("elements", torch.from_numpy(element_categories()))
        self.embedding = nn.Linear(self.elements.shape[1], config.width)
        self.expansion = GaussianExpansion(config.gaussians, config.gaussian_range, config.gaussian_width)
        self.convolutions = nn.ModuleList(
            Convolution(config.width, config.gaussians) for _ in range(config.convolutions)
        )
        self.atoms_to_material = nn.Linear(config.width, config.head_width)
        self.head = nn.Linear(config.head_width, 1)

    def forward(self, batch: CrystalBatch) -> ModelOutput:
        """Predict the crystals of a batch."""
        atoms = self.embedding(self.elements.index_select(0, batch.numbers))
        bonds = self.expansion(batch.distance)
        for convolution in self.convolutions:
            atoms = convolution(atoms, bonds, batch)
        material = F.softplus(self.atoms_to_material(F.softplus(batch.mean(atoms))))
        return ModelOutput(prediction=self.head(material).squeeze(1), atoms=atoms, material=material)
