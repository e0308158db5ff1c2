"""SEN: feature extraction, a symmetry block, a property head."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock
from sen.config import Range, SENConfig, Space
from sen.features import FeatureExtraction
from sen.models import CrystalModel, ModelOutput

__all__ = ["SEN", "property_head"]


def property_head(material_width: int, config: SENConfig) -> nn.Sequential:
    """Return the property head of SEN, with new weights: from material vectors [B, material_width] to [B, 1]."""
    return nn.Sequential(
        nn.LayerNorm(material_width),
        nn.Linear(material_width, config.head_width),
        nn.SiLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.head_width, 1),
    )


class SEN(CrystalModel):
    """Symmetry-enhanced equivariance network with a pluggable symmetry stage.

    Args:
        config: Hyper-parameters of feature extraction and head.
        block: The symmetry block, built for `config.environment_width` channels.
    """

    Config = SENConfig
    source = "Liang et al., Nat. Commun. 14, 5198 (2023)"
    space: ClassVar[Space] = {"dropout": Range(0.0, 0.5), "encoder_width": (128, 256, 384)}

    @classmethod
    def shrink(cls, training_rows: int) -> dict[str, float]:
        """Let weight decay and dropout fall with a power of the number of rows above 1,000, see docs/decisions.md.

        They are 3.0 and 0.3 up to 1,000 rows, and 1.0 and 0.1 at 7,355 rows.
        """
        share = min(1, (1000 / training_rows) ** 0.55)
        return {"training.weight_decay": share, "sen.dropout": share}

    def __init__(self, config: SENConfig, block: SymmetryBlock) -> None:
        super().__init__(config)
        self.features = FeatureExtraction(config)
        self.block = block
        self.head = property_head(block.material_width, config)

    def forward(self, batch: CrystalBatch) -> ModelOutput:
        """Run the three stages; `atoms` is what the block makes of `extras["environment"]` [N, environment_width]."""
        environment = self.features(batch)
        symmetry = self.block(environment, batch)
        return ModelOutput(
            prediction=self.head(symmetry.material).squeeze(-1),
            atoms=symmetry.atoms,
            material=symmetry.material,
            extras={**symmetry.extras, "environment": environment},
        )
