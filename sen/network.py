"""SEN: feature extraction, a symmetry block, a readout, a property head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock, SymmetryOutput
from sen.config import Range, SENConfig, Space
from sen.features import FeatureExtraction
from sen.models import CrystalModel, ModelOutput
from sen.ops import segment_softmax, segment_sum

__all__ = ["SEN", "Readout", "property_head"]


class Readout(nn.Module):
    """From what a block returns to one vector for each crystal, as `sen.readout` and `sen.head_input` say.

    Args:
        block: The block.
        config: Hyper-parameters of SEN.

    Attributes:
        width: Width of the vectors.

    Raises:
        ValueError: Atoms are to be read, and the block declares no `atom_width`.
    """

    def __init__(self, block: SymmetryBlock, config: SENConfig) -> None:
        super().__init__()
        self.kind = config.readout
        width = block.material_width if self.kind == "block" else block.atom_width
        if width is None:
            raise ValueError(
                f"it returns no environments of atoms that sen.readout = {self.kind} could read (its atom_width is "
                "None): use sen.readout = block."
            )
        self.score = nn.Linear(width, 1, bias=False) if self.kind == "attention" else None
        # The map comes before the norm of the head. After the norm it would multiply into the head's first map, and the
        # norm would still have as many weights as the vector of the block is wide.
        self.map = None if config.head_input is None else nn.Linear(width, config.head_input)
        self.width = config.head_input or width

    def forward(self, symmetry: SymmetryOutput, batch: CrystalBatch) -> Tensor:
        """Return the vectors, [B, width]."""
        material = symmetry.material
        if self.score is not None:
            # The norm keeps the scores near 1, however large a block makes its environments; its own weights and bias
            # would multiply into the score or cancel in the softmax.
            scores = self.score(F.layer_norm(symmetry.atoms, symmetry.atoms.shape[1:]))
            weights = segment_softmax(scores, batch.crystal, batch.n_crystals, batch.multiplicity)
            material = segment_sum(weights * symmetry.atoms, batch.crystal, batch.n_crystals)
        elif self.kind == "mean":
            material = batch.mean(symmetry.atoms)
        return material if self.map is None else self.map(material)


def property_head(width: int, config: SENConfig) -> nn.Sequential:
    """Return the property head of SEN, with new weights: from vectors of crystals [B, width] to [B, 1]."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, config.head_width),
        nn.SiLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.head_width, 1),
    )


class SEN(CrystalModel):
    """Symmetry-enhanced equivariance network with a pluggable symmetry stage.

    Args:
        config: Hyper-parameters of feature extraction, readout and head.
        block: The symmetry block, built for `config.environment_width` channels.

    Raises:
        ValueError: The block does not have what the readout reads.
    """

    Config = SENConfig
    source = "Liang et al., Nat. Commun. 14, 5198 (2023)"
    # The paper does not state one. All rows train and the last epoch predicts, see docs/recipe.md.
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 200, "validation": 0.0}
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
        self.readout = Readout(block, config)
        self.head = property_head(self.readout.width, config)

    def forward(self, batch: CrystalBatch) -> ModelOutput:
        """Run the four stages; `atoms` is what the block makes of `extras["environment"]` [N, environment_width]."""
        environment = self.features(batch)
        symmetry = self.block(environment, batch)
        material = self.readout(symmetry, batch)
        return ModelOutput(
            prediction=self.head(material).squeeze(-1),
            atoms=symmetry.atoms,
            material=material,
            extras={**symmetry.extras, "environment": environment},
        )
