"""The `schnet` model: atoms that add what continuous filters make of their neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from baselines.models.layers import expand_as_kgcnn, initialise_as_keras, perceptron
from sen.batch import CrystalBatch
from sen.config import Config, Space
from sen.elements import N_ELEMENTS
from sen.models import CrystalModel, ModelOutput
from sen.ops import segment_sum

__all__ = ["SchNet", "SchNetConfig"]


class SchNetConfig(Config):
    """Defaults are those of the MatBench leaderboard's SchNet (matbench_v0.1_SchNet_kgcnn_v2.1.0/run.py)."""

    embedding: int = Field(64, ge=1, description="Width of the embedding of an element.")
    gaussians: int = Field(25, ge=2, description="Gaussians that expand a bond length, with evenly spaced centres.")
    gaussian_range: float = Field(5.0, gt=0, description="Bond length in Å at which the next Gaussian would follow.")
    gaussian_width: float = Field(0.4, gt=0, description="Standard deviation of the Gaussians in Å.")
    width: int = Field(128, ge=1, description="Width of atoms and filters.")
    interactions: int = Field(4, ge=1, description="Number of interactions.")
    head_width: int = Field(128, ge=2, description="Width of the head's first layer; the second has half of it.")


class Interaction(nn.Module):
    """Atoms add a map of the sum of their neighbours, each multiplied by a filter made from its distance."""

    def __init__(self, width: int, gaussians: int) -> None:
        super().__init__()
        self.filter = perceptron(gaussians, width, width)
        self.neighbor = nn.Linear(width, width, bias=False)
        self.update = perceptron(width, width, width)

    def forward(self, atoms: Tensor, bonds: Tensor, batch: CrystalBatch) -> Tensor:
        """Update atoms [N, width] by the expanded lengths of bonds [K, gaussians], and return them."""
        filters = batch.edge_multiplicity.unsqueeze(1) * self.filter(bonds)
        messages = filters * self.neighbor(atoms).index_select(0, batch.neighbor)
        update: Tensor = self.update(segment_sum(messages, batch.center, len(atoms)))
        return atoms + update


class SchNet(CrystalModel):
    """SchNet as on the MatBench leaderboard: no cosine cut-off, and the mean over atoms for the sum.

    It computes what kgcnn 2.1.0 computes, with its weights. Elements beyond plutonium have embeddings, too.
    """

    Config = SchNetConfig
    source = "Schütt et al., J. Chem. Phys. 148, 241722 (2018); github.com/aimat-lab/gcnn_keras 2.1.0"
    space: ClassVar[Space] = {"width": (64, 128, 256)}
    # matbench_v0.1_SchNet_kgcnn_v2.1.0/run.py of github.com/materialsproject/matbench, as is the recipe. For mp_gap and
    # mp_is_metal it has 600 epochs, batches of 64 and a learning rate of 1e-4.
    graph: ClassVar[Mapping[str, Any]] = {"cutoff": 5.0, "max_neighbors": None}
    recipe: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adam",
        "epochs": 800,
        "batch_size": 32,
        "learning_rate": 5e-4,
        "schedule": "linear",
        "warmup": 0.0,
        "hold": 0.125,
        "final_learning_rate": 1e-5,
        "weight_decay": 0.0,
        "loss": "mae",
        "clip_norm": None,
        "ema_decay": 0.0,
        "validation": 0.0,
    }

    def __init__(self, config: SchNetConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(N_ELEMENTS + 1, config.embedding)
        self.expansion = expand_as_kgcnn(config.gaussians, config.gaussian_range, config.gaussian_width)
        self.atoms = nn.Linear(config.embedding, config.width)
        self.interactions = nn.ModuleList(
            Interaction(config.width, config.gaussians) for _ in range(config.interactions)
        )
        self.atoms_to_material = perceptron(
            config.width, config.head_width, config.head_width // 2, is_last_activated=True
        )
        self.head = nn.Linear(config.head_width // 2, 1)
        initialise_as_keras(self)

    def forward(self, batch: CrystalBatch) -> ModelOutput:
        """Predict the crystals of a batch.

        kgcnn applies `head` to each atom and then takes the mean, which is the same in another order.
        """
        atoms = self.atoms(self.embedding(batch.numbers))
        bonds = self.expansion(batch.distance)
        for interaction in self.interactions:
            atoms = interaction(atoms, bonds, batch)
        material = batch.mean(self.atoms_to_material(atoms))
        return ModelOutput(prediction=self.head(material).squeeze(1), atoms=atoms, material=material)
