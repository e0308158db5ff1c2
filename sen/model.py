"""SEN: feature extraction, a symmetry block, a property head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock, SymmetryOutput
from sen.config import SENConfig
from sen.features import FeatureExtraction

__all__ = ["SEN", "SENOutput", "property_head"]


@dataclass(frozen=True)
class SENOutput:
    """Predictions for B crystals and the intermediate results that led to them.

    Attributes:
        prediction: Standardised target, or the logit of the positive class, [B].
        environment: Chemical environments before the block, [N, environment_width].
        symmetry: What the block returned.
    """

    prediction: Tensor
    environment: Tensor
    symmetry: SymmetryOutput


def property_head(material_width: int, config: SENConfig) -> nn.Sequential:
    """Return the property head of SEN, with new weights: from material vectors [B, material_width] to [B, 1]."""
    return nn.Sequential(
        nn.LayerNorm(material_width),
        nn.Linear(material_width, config.head_width),
        nn.SiLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.head_width, 1),
    )


class SEN(nn.Module):
    """Symmetry-enhanced equivariance network with a pluggable symmetry stage.

    The network predicts (y - shift) / scale; both constants come from training rows and are saved with the weights.

    Args:
        config: Hyper-parameters of feature extraction and head.
        block: The symmetry block, built for `config.environment_width` channels.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, config: SENConfig, block: SymmetryBlock) -> None:
        super().__init__()
        self.features = FeatureExtraction(config)
        self.block = block
        self.head = property_head(block.material_width, config)
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, graph: CrystalBatch) -> SENOutput:
        """Run the three stages on a batch of crystals."""
        environment = self.features(graph)
        symmetry = self.block(environment, graph)
        return SENOutput(self.head(symmetry.material).squeeze(-1), environment, symmetry)

    def predict(self, graph: CrystalBatch) -> Tensor:
        """Predict [B] in the unit of the target; for classification, where shift is 0 and scale 1, the logit."""
        output: SENOutput = self(graph)
        return self.shift + self.scale * output.prediction
