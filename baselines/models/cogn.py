"""coGN: a graph network on asymmetric units, whose graph was optimised together with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.models.layers import initialise_as_keras
from sen.batch import CrystalBatch
from sen.config import Config, Space
from sen.elements import N_ELEMENTS, element_properties
from sen.features import GaussianExpansion
from sen.models import CrystalModel, ModelOutput
from sen.ops import segment_sum

__all__ = ["CoGN", "CoGNConfig", "atom_features"]

_PROPERTIES = ("atomic_mass", "van_der_waals_radius", "X", "ionization_energy")
_LAWRENCIUM = 103
_OXIDATION_STATES = range(-5, 9)


class CoGNConfig(Config):
    """Sizes of coGN."""

    width: int = Field(128, ge=1, description="Width of atoms, bonds and messages.")
    blocks: int = Field(5, ge=1, description="Rounds of message passing.")
    message_layers: int = Field(5, ge=1, description="Layers of the network that makes the messages.")
    gaussians: int = Field(32, ge=1, description="Gaussians that expand a distance, with evenly spaced centres.")
    gaussian_range: float = Field(8.0, gt=0, description="Centre of the last Gaussian in Å; there is none at 0.")


def atom_features() -> NDArray[np.float32]:
    """Return what coGN knows of the elements by atomic number, [119, 18]; row 0 belongs to no element.

    Mass, van der Waals radius, electronegativity and first ionisation energy, standardised over the elements up to
    lawrencium and 0 where unknown; then for each oxidation state from -5 to 8 whether it is common. From pymatgen.
    """
    from pymatgen.core.periodic_table import Element

    measured = element_properties(*_PROPERTIES)
    measured[_LAWRENCIUM + 1 :] = np.nan  # only predicted
    properties = np.nan_to_num((measured - np.nanmean(measured, axis=0)) / np.nanstd(measured, axis=0, ddof=1))
    states = np.zeros((N_ELEMENTS + 1, len(_OXIDATION_STATES)))
    for number in range(1, N_ELEMENTS + 1):
        states[number] = np.isin(_OXIDATION_STATES, Element.from_Z(number).common_oxidation_states)
    return np.concatenate([properties, states], axis=1).astype(np.float32)


class AtomEmbedding(nn.Module):
    """A linear map of an embedding of the element and of what is known of it; the table is saved with the weights."""

    features: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        features = torch.tensor(atom_features())
        self.register_buffer("features", features)
        self.of_number = nn.Embedding(len(features), width)
        self.output = nn.Linear(width + features.shape[1], width)

    def forward(self, numbers: Tensor) -> Tensor:
        """Embed atomic numbers [N] as [N, width]."""
        atoms: Tensor = self.output(torch.cat([self.of_number(numbers), self.features[numbers]], dim=1))
        return atoms


class GraphNetworkBlock(nn.Module):
    """One round of message passing: h_i + update(sum over bonds of message([bond, h_i, h_j])), every layer with SiLU.

    The first layer of the messages is linear in bond, centre and neighbour, so each is mapped before it is gathered.
    """

    def __init__(self, width: int, message_layers: int) -> None:
        super().__init__()
        self.joined = nn.Linear(3 * width, width)
        self.message = nn.ModuleList(nn.Linear(width, width) for _ in range(message_layers - 1))
        self.update = nn.Linear(width, width)

    def forward(self, atoms: Tensor, expanded: Tensor, bond: nn.Linear, batch: CrystalBatch) -> Tensor:
        """Return updated atoms.

        Args:
            atoms: Features of the nodes, [N, width].
            expanded: Expanded distances, [K, gaussians].
            bond: The map from expanded distances to the width of bonds. It is multiplied with the first layer, a
                matrix much smaller than the bonds.
            batch: The graphs.
        """
        of_bond, of_center, of_neighbor = self.joined.weight.split(atoms.shape[1], dim=1)
        messages = F.silu(
            F.linear(atoms, of_center, self.joined.bias + of_bond @ bond.bias).index_select(0, batch.center)
            + F.linear(atoms, of_neighbor).index_select(0, batch.neighbor)
            + F.linear(expanded, of_bond @ bond.weight)
        )
        for layer in self.message:
            messages = F.silu(layer(messages))
        weighted = batch.edge_multiplicity.unsqueeze(-1) * messages
        return atoms + F.silu(self.update(segment_sum(weighted, batch.center, len(atoms))))


class CoGN(CrystalModel):
    """Connectivity optimised graph network (Ruff et al. 2024).

    The numbers of an element come from pymatgen, where the reference has PubChem's: some van der Waals radii and
    oxidation states differ, and unknown values are means. Neighbours within 0.01 Å of the 24th are kept with it, where
    the reference's tolerance is 1e-9 Å, so rounding of the positions cannot cut a shell. The reference searches for
    neighbours ever farther until each atom has 24; here the search ends at 12 Å, and fewer are enough.
    """

    Config = CoGNConfig
    source = (
        "Ruff et al., Digital Discovery 3, 594 (2024); github.com/aimat-lab/gcnn_keras 3.0.0, kgcnn/literature/coGN"
    )
    space: ClassVar[Space] = {"width": (64, 128, 192)}
    # benchmarks/matbench_v0.1_coGN/run.py in github.com/materialsproject/matbench
    graph: ClassVar[Mapping[str, Any]] = {"cutoff": 12.0, "max_neighbors": 24}
    recipe: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adam",
        "epochs": 800,
        "batch_size": 64,
        "learning_rate": 5e-4,
        "schedule": "linear",
        "warmup": 0.0,
        "hold": 0.0,
        "final_learning_rate": 1e-5,
        "weight_decay": 0.0,
        "loss": "mae",
        "clip_norm": None,
        "ema_decay": 0.0,
        "validation": 0.0,
    }

    def __init__(self, config: CoGNConfig) -> None:
        super().__init__(config)
        width = config.width
        self.embedding = AtomEmbedding(width)
        # Centres from one step on, with a standard deviation of the square root of the step, in Å.
        step = config.gaussian_range / config.gaussians
        self.expansion = GaussianExpansion(config.gaussians + 1, config.gaussian_range, math.sqrt(2 * step))
        self.bond = nn.Linear(config.gaussians, width)
        self.blocks = nn.ModuleList(GraphNetworkBlock(width, config.message_layers) for _ in range(config.blocks))
        self.head = nn.Linear(width, 1)
        initialise_as_keras(self)

    def forward(self, batch: CrystalBatch) -> ModelOutput:
        """Predict from the mean over the atoms of each crystal."""
        atoms = self.embedding(batch.numbers)
        expanded = self.expansion(batch.distance)[:, 1:]
        for block in self.blocks:
            atoms = block(atoms, expanded, self.bond, batch)
        material = batch.mean(atoms)
        return ModelOutput(prediction=self.head(material).squeeze(-1), atoms=atoms, material=material)
